"""While a snapshot is taken, people and machines may do what they may do without an operation."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain import lifecycle, machine_access, reports
from shared.domain.access import Actor
from shared.domain.changes import Updated
from shared.domain.drift import MACHINE_NOT_READY, adopt_observed, has_drifted
from shared.domain.errors import (
    NoHomeError,
    NotAwakeError,
    OperationUnderWayError,
    QuotaExceededError,
)
from shared.domain.idleness import HeartbeatReason
from shared.domain.jobs import Job
from shared.domain.lifecycle import NewConnection, NewOperation
from shared.domain.outlook import outlook
from shared.domain.reports import ReportEvent
from shared.domain.snapshot_room import KnownSnapshots, making_room
from shared.domain.snapshots import SnapshotState
from shared.domain.steps import StepInput, plan
from shared.domain.workspace import OperationKind, Phase, Problem, Status, Workspace
from tests.fakes.records import (
    NOW,
    POLICY,
    a_disk_snapshot,
    a_report,
    a_snapshot,
    a_step,
    a_workspace,
    an_instance,
    an_operation,
)

NEW = NewOperation("new", Actor("alice", "request-1"), NOW)
SOON = NOW + timedelta(hours=1)


def taking(status: Status = Status.READY, **changes: object) -> Workspace:
    """Return a workspace of which a snapshot is being taken."""
    return a_workspace(status, an_operation(OperationKind.SNAPSHOT), **changes)


def ended(workspace: Workspace) -> Workspace:
    """Return the workspace after its snapshot has been captured."""
    seen = StepInput(instance=an_instance(workspace), snapshot=a_disk_snapshot(workspace))
    change = plan(a_step(workspace, seen))
    assert isinstance(change, Updated)
    return change.workspace


# ---- machines ----


def test_a_machine_that_fails_makes_the_workspace_error_and_the_snapshot_goes_on() -> None:
    """The report does not come again, so it counts now; the error outlives the snapshot."""
    workspace = taking()

    change = reports.receive(
        workspace, a_report(workspace, ReportEvent.FAILED, message="no disk"), NOW, POLICY
    )

    assert change is not None
    failed = change.workspace
    assert (failed.status, failed.memory_is_ready) == (Status.ERROR, False)
    assert failed.operation == workspace.operation
    assert failed.error is not None
    assert failed.error.operation_kind is None
    assert (ended(failed).status, ended(failed).error) == (Status.ERROR, failed.error)


def test_a_machine_that_is_not_recorded_as_running_reports_ready_again_later() -> None:
    """A worker cannot look before the snapshot is captured."""
    workspace = taking(Status.SUSPENDED, ready_generation=None)
    report = a_report(workspace, ReportEvent.READY)

    assert reports.receive(workspace, report, NOW, POLICY) is None
    assert reports.comes_too_early(workspace, report)


def test_a_machine_that_was_started_by_hand_is_believed_that_it_is_ready() -> None:
    """As without an operation: its memory counts, and a look follows."""
    unready = Problem(MACHINE_NOT_READY, "It was started.", retryable=False, at=NOW)
    workspace = taking(Status.ERROR, machine_running=True, error=unready)

    change = reports.receive(workspace, a_report(workspace, ReportEvent.READY), NOW, POLICY)

    assert change is not None
    assert change.workspace.memory_is_ready
    assert change.workspace.operation == workspace.operation


@pytest.mark.parametrize("reason", HeartbeatReason)
def test_heartbeats_are_taken(reason: HeartbeatReason) -> None:
    """The machine runs on, so the idle time goes by them."""
    workspace = taking()

    change = reports.receive(
        workspace, a_report(workspace, ReportEvent.HEARTBEAT, because=reason), NOW, POLICY
    )

    assert change is not None
    assert change.workspace.last_connected_at == NOW
    assert ended(change.workspace).last_connected_at == NOW


def test_another_host_key_is_taken() -> None:
    """A machine that has booted by itself has told its new one."""
    workspace = taking()

    change = reports.receive(
        workspace, a_report(workspace, ReportEvent.READY, host_key="ssh-ed25519 A"), NOW, POLICY
    )

    assert change is not None
    assert change.workspace.machine_key == "ssh-ed25519 A"


# ---- people ----


@pytest.mark.parametrize("start", [True, False, None])
def test_a_ready_workspace_can_be_connected_to(start: bool | None) -> None:
    """That is noted, and no START begins."""
    workspace = taking()

    change = lifecycle.connect(workspace, NEW, NewConnection("laptop", start), POLICY)

    assert change is not None
    assert change.job is None
    assert change.workspace.operation == workspace.operation
    assert change.workspace.last_device_id == "laptop"


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.ERROR])
def test_a_workspace_that_has_to_start_first_is_refused(status: Status) -> None:
    """The answer names the SNAPSHOT, which takes seconds."""
    with pytest.raises(OperationUnderWayError, match="SNAPSHOT"):
        lifecycle.connect(taking(status), NEW, NewConnection(start=True), POLICY)


def test_a_running_machine_can_be_kept_awake_and_a_suspended_one_cannot() -> None:
    """As without an operation."""
    change = lifecycle.keep_awake(taking(), SOON, NOW, POLICY)
    assert change is not None
    assert ended(change.workspace).kept_awake_until == SOON
    with pytest.raises(NotAwakeError):
        lifecycle.keep_awake(taking(Status.SUSPENDED), SOON, NOW, POLICY)


def test_a_ready_workspace_can_be_renamed() -> None:
    """A name is nothing that a snapshot depends on."""
    workspace = taking()

    change = lifecycle.start(workspace, NEW, lifecycle.NewMachine(name="other"), POLICY)

    assert change is not None
    assert (change.workspace.name, change.workspace.operation) == ("other", workspace.operation)


def test_the_outlook_is_the_deadline() -> None:
    """What follows depends on nothing else."""
    [expected] = outlook(taking(), POLICY)

    assert expected.why == "a snapshot may take this long at most"
    assert expected.what == "the snapshot is given up, and nothing else changes"


# ---- the clock ----


def test_nothing_expires_and_nothing_drifts() -> None:
    """Sweeps and looks leave it alone until the snapshot is captured."""
    workspace = taking(last_connected_at=NOW - timedelta(days=1))

    assert lifecycle.sweeps_at(workspace, POLICY) is None
    assert lifecycle.expire(workspace, NEW, POLICY) is None
    assert not has_drifted(workspace, None, NOW)
    assert adopt_observed(workspace, None, NOW, POLICY) is None
    assert not machine_access.is_due(workspace, NOW)


def test_access_that_is_pending_is_seen_to_afterwards() -> None:
    """The operation takes the place of what was due before, so it puts that back."""
    assert ended(taking(access=None)).attend_at == NOW


def test_a_job_that_cannot_be_delivered_ends_it() -> None:
    """What its worker may have made gets a record, by which it is deleted."""
    workspace = taking()
    operation = workspace.operation
    assert operation is not None
    job = Job(workspace.id, operation.id, operation.step)

    change = lifecycle.give_up(workspace, job, "it was refused", NOW, POLICY)

    assert change is not None
    assert change.workspace.status is Status.READY
    assert change.workspace.error is not None
    assert change.workspace.error.operation_kind is OperationKind.SNAPSHOT
    [left] = change.snapshots
    assert (left.id, left.state) == (operation.id, SnapshotState.DELETING)
    assert left.kept_until == NOW + POLICY.worker_timeout
    assert change.job is not None  # nobody has looked at the machine


def test_only_the_error_of_an_earlier_snapshot_goes_with_a_snapshot() -> None:
    """Whatever else is wrong is wrong still."""
    earlier = Problem(
        "COMPUTE_QUOTA_EXCEEDED",
        "No quota.",
        retryable=True,
        at=NOW,
        operation_kind=OperationKind.SNAPSHOT,
    )

    assert ended(taking(error=earlier)).error is None
    for kind in (None, OperationKind.STOP):
        another = replace(earlier, operation_kind=kind)
        assert ended(taking(error=another)).error == another


# ---- asking for one ----


def test_a_workspace_without_a_home_has_nothing_to_take_a_snapshot_of() -> None:
    """A CREATE that failed leaves none."""
    workspace = a_workspace(Status.ERROR, home_disk=None)

    with pytest.raises(NoHomeError):
        lifecycle.snapshot(workspace, NEW, None, KnownSnapshots(), POLICY)


def test_every_snapshot_counts_until_it_is_gone() -> None:
    """One that is being deleted, too, and what only a newer version can read: it costs money."""
    workspace = a_workspace()
    policy = replace(POLICY, snapshots_per_workspace=2)
    ready, leaving = (
        a_snapshot(workspace, state=state, name="one")
        for state in (SnapshotState.READY, SnapshotState.DELETING)
    )

    change = lifecycle.snapshot(workspace, NEW, "two", KnownSnapshots([leaving]), policy)

    assert change is not None
    assert change.workspace.operation is not None
    assert (change.workspace.operation.phase, change.workspace.operation.snapshot_name) == (
        Phase.SNAPSHOT,
        "two",
    )
    for known in (KnownSnapshots([ready, leaving]), KnownSnapshots([ready], 1)):
        with pytest.raises(QuotaExceededError, match="2 of at most 2"):
            lifecycle.snapshot(workspace, NEW, None, known, policy)


def test_failed_snapshots_go_first_and_then_the_oldest_automatic_ones() -> None:
    """As many as are too many, by when they were asked for."""
    workspace = a_workspace()
    policy = replace(POLICY, snapshots_per_workspace=3)
    automatic = [
        a_snapshot(workspace, automatic=True, asked_at=NOW - timedelta(days=day))
        for day in (1, 4, 2)
    ]
    failed = a_snapshot(workspace, state=SnapshotState.FAILED, asked_at=NOW)
    known = KnownSnapshots([*automatic, failed])

    change = lifecycle.snapshot(workspace, NEW, None, known, policy)

    assert change is not None
    assert change.snapshots == ()
    assert making_room(known, policy) == [failed, automatic[1]]


def test_nothing_more_goes_while_room_is_being_made() -> None:
    """If there are more than may be, what is being deleted is waited for."""
    workspace = a_workspace()
    policy = replace(POLICY, snapshots_per_workspace=1)
    automatic = a_snapshot(workspace, automatic=True)
    leaving = a_snapshot(workspace, state=SnapshotState.DELETING)

    with pytest.raises(QuotaExceededError, match="counts until it is gone"):
        lifecycle.snapshot(workspace, NEW, None, KnownSnapshots([automatic, leaving]), policy)
