"""The sweep that stops idle machines and deletes workspaces that have been suspended for long."""

import time
import uuid

from shared import logs
from shared.domain import lifecycle
from shared.domain.access import Actor
from shared.domain.changes import Updated
from shared.domain.policy import Policy
from shared.domain.workspace import Workspace
from shared.usecases.records import Records
from shared.usecases.sweeping import PAGE, Pause, Sweep, SweepReport


def clean_up(records: Records, policy: Policy, pause: Pause = time.sleep) -> SweepReport:
    """Stop machines that are idle, and delete workspaces that are suspended past their retention.

    Reads only what is due. A heartbeat that comes between the query and the commit wins.
    """
    started = records.clock()
    report = SweepReport()
    sweeper = Actor(lifecycle.CLEANUP, logs.request_id.get())
    sweep = Sweep(records, report, pause, sweeper)

    def expire(workspace: Workspace) -> Updated | None:
        operation = lifecycle.NewOperation(str(uuid.uuid4()), sweeper, records.clock())
        return lifecycle.expire(workspace, operation, policy)

    if policy.idle_after is not None:
        idle_since = started - policy.idle_after
        sweep.run(lambda token: records.store.list_idle(idle_since, PAGE, token), expire)
    if policy.retention is not None:
        suspended_since = started - policy.retention
        sweep.run(lambda token: records.store.list_suspended(suspended_since, PAGE, token), expire)
    logs.info("CleanupDone", **report.counts())
    return report
