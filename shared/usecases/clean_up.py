"""The sweep that stops idle machines, and deletes and purges what nobody has used for long."""

import time
import uuid
from datetime import timedelta

from shared import logs
from shared.domain import lifecycle
from shared.domain.access import Actor
from shared.domain.changes import Updated
from shared.domain.policy import Policy
from shared.domain.workspace import Operation, OperationKind, Workspace
from shared.ports import Page
from shared.usecases.deleted_workspaces import purge_due
from shared.usecases.records import Records
from shared.usecases.sweeping import PAGE, Pause, Sweep, SweepReport

SHORT_BUDGET = timedelta(seconds=60)  # of the sweeps that have little to do


def clean_up(records: Records, policy: Policy, pause: Pause = time.sleep) -> SweepReport:
    """Stop machines that are idle; delete or archive workspaces that are suspended for too long.

    Reads only what is due (``sweep_at``). A heartbeat that comes between the query and the commit
    wins. One that is due by a policy that has changed since is put right. At most
    ``archives_per_run`` are archived: when that is new, all that are due come at once, and each
    costs a snapshot. Deleted workspaces that can be taken back no more are purged, last of all:
    whoever waits for that waits for days.
    """
    started = records.clock()
    report = SweepReport()
    sweeper = Actor(lifecycle.CLEANUP, logs.request_id.get())
    not_due: list[str] = []
    archiving: set[str] = set()

    def expire(workspace: Workspace) -> Updated | None:
        operation = lifecycle.NewOperation(str(uuid.uuid4()), sweeper, records.clock())
        change = lifecycle.expire(workspace, operation, policy)
        if change is None:
            not_due.append(workspace.id)
            return None
        if _archives(change.workspace.operation):
            if len(archiving | {workspace.id}) > policy.archives_per_run:
                return None
            archiving.add(workspace.id)
        return change

    Sweep(records, report, pause, sweeper).run(
        lambda token: records.store.list_to_sweep(started, PAGE, token), expire
    )
    # Nobody asks for this, so it is no event.
    put_right = SweepReport()
    Sweep(records, put_right, pause, budget=SHORT_BUDGET).run(
        lambda _: Page(not_due, None), lambda workspace: lifecycle.sweep_again(workspace, policy)
    )
    report.failed |= put_right.failed
    Sweep(records, report, pause, budget=SHORT_BUDGET).run_deleted(
        lambda token: records.store.list_deleted_until(started, PAGE, token),
        lambda workspace_id: purge_due(records, policy, workspace_id),
    )
    logs.info("CleanupDone", **report.counts())
    return report


def _archives(operation: Operation | None) -> bool:
    return operation is not None and operation.kind is OperationKind.ARCHIVE
