"""The sweep that resends jobs whose operation has not advanced in time."""

import time

from shared import logs
from shared.domain import lifecycle
from shared.domain.policy import Policy
from shared.domain.snapshots import resend
from shared.usecases.records import Records
from shared.usecases.sweeping import PAGE, Pause, Sweep, SweepReport


def resend_lost_jobs(records: Records, policy: Policy, pause: Pause = time.sleep) -> SweepReport:
    """Resend the jobs of workspaces and snapshots whose ``attend_at`` is due.

    The worker finds out what is wrong, and ends operations that are overdue.
    """
    started = records.clock()
    report = SweepReport()
    request_id = logs.request_id.get()
    sweep = Sweep(records, report, pause)
    sweep.run(
        lambda token: records.store.list_due(started, PAGE, token),
        lambda workspace: lifecycle.attend(workspace, request_id, records.clock(), policy),
    )
    sweep.run_snapshots(
        lambda token: records.store.list_due_snapshots(started, PAGE, token),
        lambda snapshot: resend(snapshot, records.clock(), policy),
    )
    logs.info("ReconcileDone", **report.counts())
    return report
