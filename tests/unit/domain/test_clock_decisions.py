"""What the clean-up, the reconciler and a dead letter do to a workspace."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain import lifecycle
from shared.domain.access import Actor
from shared.domain.changes import Updated, job_of
from shared.domain.jobs import Job
from shared.domain.policy import Policy
from shared.domain.workspace import OperationKind, Phase, Status, Workspace
from tests.fakes.records import A_PROBLEM, NOW, a_workspace, an_operation

HOUR = timedelta(hours=1)
MONTH = timedelta(days=30)
POLICY = Policy(idle_after=HOUR, retention=MONTH)
SWEEPER = Actor(lifecycle.CLEANUP, "sweep-request")
SWEEPS_OFF = Policy(idle_after=None, retention=None)


def expire(workspace: Workspace, policy: Policy = POLICY) -> Updated | None:
    """Decide on a workspace as the clean-up does."""
    return lifecycle.expire(
        workspace, lifecycle.NewOperation("new-operation", SWEEPER, NOW), policy
    )


def test_a_workspace_due_for_a_look_is_not_deleted() -> None:
    """A heartbeat from a machine that should be off asks for a look: it may be in use."""
    forgotten = a_workspace(Status.SUSPENDED, suspended_at=NOW - 2 * MONTH)
    assert expire(forgotten) is not None
    assert expire(replace(forgotten, attend_at=NOW)) is None


@pytest.mark.parametrize(
    ("seconds", "allowed"),
    [(None, HOUR), (1000, HOUR), (1800, timedelta(minutes=90)), (10**9, timedelta(days=3))],
)
def test_the_idle_time_is_at_least_three_heartbeat_intervals(
    seconds: int | None, allowed: timedelta
) -> None:
    """Three heartbeats must be missing; an interval of more than a day counts as one day."""
    workspace = a_workspace(
        Status.READY, heartbeat_seconds=seconds, last_connected_at=NOW - allowed
    )
    assert expire(workspace) is not None
    assert (
        expire(replace(workspace, last_connected_at=NOW - allowed + timedelta(seconds=1))) is None
    )


# status, machine_running, idle for, suspended for: the kind of operation that begins
EXPIRY = [
    (Status.READY, True, HOUR, None, OperationKind.STOP),
    (Status.READY, True, HOUR - timedelta(seconds=1), None, None),
    (Status.READY, False, 5 * HOUR, None, None),
    (Status.ERROR, True, HOUR, None, OperationKind.STOP),
    (Status.ERROR, False, 99 * HOUR, None, None),
    (Status.SUSPENDED, False, 99 * HOUR, MONTH, OperationKind.DELETE),
    (Status.SUSPENDED, False, 99 * HOUR, MONTH - timedelta(seconds=1), None),
    (Status.SUSPENDED, False, 99 * HOUR, None, None),
    (Status.ERROR, False, 99 * HOUR, MONTH, None),
    (Status.PROVISIONING, False, 99 * HOUR, None, None),
]


@pytest.mark.parametrize(("status", "running", "idle", "suspended", "expected"), EXPIRY)
def test_idle_machines_are_stopped_and_long_suspended_workspaces_are_deleted(
    status: Status,
    running: bool,
    idle: timedelta,
    suspended: timedelta | None,
    expected: OperationKind | None,
) -> None:
    """Idle time counts from the last connection, retention from the suspension, to the second."""
    workspace = a_workspace(
        status,
        machine_running=running,
        last_connected_at=NOW - idle,
        suspended_at=NOW - suspended if suspended else None,
    )

    change = expire(workspace)

    if expected is None:
        assert change is None
        return
    assert change is not None
    assert change.workspace is not None
    operation = change.workspace.operation
    assert operation is not None
    assert (operation.kind, operation.automatic, operation.requested_by) == (
        expected,
        True,
        lifecycle.CLEANUP,
    )
    assert operation.request_id == "sweep-request"
    assert change.job == job_of(change.workspace, operation)


@pytest.mark.parametrize("kind", OperationKind)
def test_nothing_expires_during_an_operation(kind: OperationKind) -> None:
    """The clean-up respects that a workspace has one operation at a time."""
    workspace = a_workspace(
        Status.READY, an_operation(kind), machine_running=True, last_connected_at=NOW - 99 * HOUR
    )

    assert expire(workspace) is None


def test_stopping_and_deleting_can_be_off() -> None:
    """Without an idle time and a retention nothing expires, and no expiry time is shown."""
    idle = a_workspace(Status.READY, last_connected_at=NOW - 99 * HOUR)
    forgotten = a_workspace(Status.SUSPENDED, suspended_at=NOW - 99 * MONTH)

    assert expire(idle, SWEEPS_OFF) is None
    assert expire(forgotten, SWEEPS_OFF) is None
    assert lifecycle.stops_at(idle, SWEEPS_OFF) is None
    assert lifecycle.deletes_at(forgotten, SWEEPS_OFF) is None


def test_a_person_sees_when_a_workspace_stops_or_is_deleted() -> None:
    """``stops_at`` counts from the last connection, ``deletes_at`` from the suspension."""
    running = a_workspace(Status.READY, last_connected_at=NOW)
    suspended = a_workspace(Status.SUSPENDED, suspended_at=NOW)

    assert (lifecycle.stops_at(running, POLICY), lifecycle.deletes_at(running, POLICY)) == (
        NOW + HOUR,
        None,
    )
    assert (lifecycle.stops_at(suspended, POLICY), lifecycle.deletes_at(suspended, POLICY)) == (
        None,
        NOW + MONTH,
    )


@pytest.mark.parametrize("due", [None, NOW + timedelta(seconds=1)])
def test_a_workspace_that_is_not_due_is_left_alone(due: object) -> None:
    """Nothing happens if no time is set or if the time is still to come."""
    workspace = a_workspace(Status.READY, an_operation(OperationKind.STOP), attend_at=due)

    assert lifecycle.attend(workspace, "reconcile-request", NOW, POLICY) is None


def test_an_overdue_operation_gets_its_job_again_under_a_new_name() -> None:
    """Step and phase stay, the count of resends rises, and the next resend is scheduled."""
    operation = an_operation(OperationKind.STOP)
    workspace = a_workspace(Status.READY, operation, attend_at=NOW)

    change = lifecycle.attend(workspace, "reconcile-request", NOW, POLICY)

    assert change is not None
    assert change.workspace is not None
    assert change.job is not None
    assert change.workspace.attend_at == NOW + POLICY.attend_after
    resent = change.workspace.operation
    assert resent is not None
    assert (resent.id, resent.step, resent.phase, resent.resends) == (
        operation.id,
        operation.step,
        operation.phase,
        1,
    )
    assert (change.job.operation_id, change.job.step, change.job.resend) == (
        operation.id,
        operation.step,
        1,
    )
    assert change.job.name != job_of(workspace, operation).name
    assert change.job.request_id == operation.request_id


@pytest.mark.parametrize(
    ("deadline", "pauses"),
    [
        (1000, [1, 2, 4, 8, 8, 8]),  # far in the future
        (5, [1, 2, 2, 8, 8, 8]),  # the third resend waits until the deadline only
        (3.5, [1, 2, 1, 8, 8, 8]),  # no pause is shorter than the first one
        (0, [1, 2, 4, 8, 8, 8]),  # already over
    ],
)
def test_a_job_is_resent_at_growing_intervals_and_at_its_deadline(
    deadline: float, pauses: list[float]
) -> None:
    """The pause between resends doubles up to eight times the first; one ends at the deadline."""
    operation = an_operation(OperationKind.STOP, deadline_at=NOW + deadline * POLICY.attend_after)
    workspace, seen = a_workspace(Status.READY, operation, attend_at=NOW), []
    for _ in pauses:
        at = workspace.attend_at
        assert at is not None
        change = lifecycle.attend(workspace, "reconcile-request", at, POLICY)
        assert change is not None
        assert change.workspace is not None
        assert change.workspace.attend_at is not None
        workspace = change.workspace
        seen.append((change.workspace.attend_at - at) / POLICY.attend_after)
    assert seen == pauses


def test_an_overdue_workspace_without_an_operation_is_looked_at() -> None:
    """If the machine was still changing at the last look, a worker looks again."""
    workspace = a_workspace(Status.READY, attend_at=NOW - timedelta(hours=3))

    change = lifecycle.attend(workspace, "reconcile-request", NOW, POLICY)

    assert change is not None
    assert change.job is not None
    assert (change.job.operation_id, change.job.request_id) == (None, "reconcile-request")


def test_an_undeliverable_create_fails_with_the_reason_and_cleans_up() -> None:
    """A dead letter ends the operation with a helpful message and deletes what was made."""
    operation = an_operation(OperationKind.CREATE)
    workspace = a_workspace(Status.PROVISIONING, operation)

    change = lifecycle.give_up(
        workspace, job_of(workspace, operation), "refused 10 times.", NOW, POLICY
    )

    assert change is not None
    assert change.workspace is not None
    after = change.workspace.operation
    assert after is not None
    assert after.phase is Phase.DELETE_INSTANCE
    assert after.failure is not None
    assert (after.failure.code, after.failure.retryable) == ("NOT_CARRIED_OUT", True)
    assert "refused 10 times." in after.failure.message


@pytest.mark.parametrize(
    "what", ["another operation", "a later step", "no operation", "failed already"]
)
def test_a_dead_letter_of_another_step_changes_nothing(what: str) -> None:
    """The operation has ended, has moved on without that job, or has already failed."""
    operation = an_operation(
        OperationKind.CREATE, failure=A_PROBLEM if what == "failed already" else None
    )
    workspace = a_workspace(Status.PROVISIONING, None if what == "no operation" else operation)
    job = Job(
        workspace.id,
        "another" if what == "another operation" else operation.id,
        operation.step - (what == "a later step"),
    )

    assert lifecycle.give_up(workspace, job, "refused.", NOW, POLICY) is None
