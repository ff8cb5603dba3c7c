"""How many documents the sweeps read: Firestore bills reads, and a full scan would grow."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from localcloud.running_cloud import RunningCloud
from shared.adapters.firestore_store import FirestoreWorkspaceStore
from shared.domain.policy import Policy
from shared.usecases.audit import AuditTrail
from shared.usecases.clean_up import clean_up
from shared.usecases.records import Records
from shared.usecases.resend_lost_jobs import resend_lost_jobs
from shared.usecases.sweeping import PAUSE_SECONDS, Pause, SweepReport
from tests.bench.billed import Bill, billed
from tests.bench.fleet import seed
from tests.fakes.clock import SettableClock
from tests.fakes.jobs import FakeJobs

DUE = 10
DELETED = 5  # of these, by ``clean_up``
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

Sweep = Callable[[Records, Policy, Pause], SweepReport]


@pytest.mark.parametrize("sweep", [clean_up, resend_lost_jobs])
def test_a_sweep_reads_only_what_is_due_in_a_fleet_of_any_size(
    cloud: RunningCloud, sweep: Sweep
) -> None:
    """Each workspace that is due is read by a query, and again before its change; no other is read.

    After each change the sweep pauses, so that the queue has room for people's jobs.
    """
    among_few, among_many = _bill(cloud, sweep, size=30), _bill(cloud, sweep, size=300)

    assert among_many == among_few
    # A DELETE also reads the owner, who gets its name back. A query that finds nothing costs one.
    assert among_many.reads <= 2 * DUE + DELETED + 1
    assert among_many.commits == DUE


def _bill(cloud: RunningCloud, sweep: Sweep, size: int) -> Bill:
    """Return the reads and commits of a sweep in a project of its own.

    The sweeps of the running Hub do not see that project.
    """
    project = f"sweep-{uuid.uuid4().hex[:16]}"
    store = FirestoreWorkspaceStore.of(project, "(default)", cloud.state["services"]["firestore"])
    seed(store, project, size, DUE, NOW)
    clock = SettableClock(NOW)
    jobs, pauses = FakeJobs(clock), list[float]()

    with billed() as bill:
        records = Records(store, lambda: jobs, clock, AuditTrail(store, clock), Policy())
        report = sweep(records, Policy(), pauses.append)

    assert pauses == [PAUSE_SECONDS] * DUE
    assert (report.looked_at, report.failed, len(jobs.sent)) == (DUE, {}, DUE)
    return bill
