"""Moves that lead to a snapshot of the home whose content is captured.

The machine stays as it is. What becomes of the snapshot then is its own record's
(``shared/domain/snapshots.py``).
"""

from enum import Enum

from shared.domain.changes import Updated
from shared.domain.drift import ObservedState, observed_state
from shared.domain.instance import CreateSnapshot, Place, SnapshotStatus
from shared.domain.snapshots import (
    SNAPSHOT_FAILED,
    Consistency,
    captured,
    is_of_disk,
    snapshot_place,
)
from shared.domain.steps.booting import HOME_DISK_GONE
from shared.domain.steps.failing import (
    WAY_OUT,
    end_as_it_was,
    end_without_snapshot,
    problem_of,
)
from shared.domain.steps.faults import go_on_refused
from shared.domain.steps.moves import TakeAgain, Wait
from shared.domain.steps.step import Call, Decision, Step
from shared.domain.workspace import OperationKind, Phase, Problem, Workspace

_WAIT = Wait()
_TAKE_AGAIN = TakeAgain()


class ObservedSnapshot(Enum):
    """The states of a snapshot in Compute that decisions tell apart.

    ``FOREIGN``: something else has its name, a snapshot of another disk.
    """

    ABSENT = "absent"
    CREATING = "creating"
    CAPTURED = "captured"
    FAILED = "failed"
    DELETING = "deleting"
    FOREIGN = "foreign"


_OBSERVED = {
    SnapshotStatus.CREATING: ObservedSnapshot.CREATING,
    SnapshotStatus.UPLOADING: ObservedSnapshot.CAPTURED,
    SnapshotStatus.READY: ObservedSnapshot.CAPTURED,
    SnapshotStatus.FAILED: ObservedSnapshot.FAILED,
    SnapshotStatus.DELETING: ObservedSnapshot.DELETING,
}


def observed_snapshot(step: Step) -> ObservedSnapshot:
    """Return the observed state of the snapshot that a step has read."""
    seen = step.inputs.snapshot
    if seen is None:
        return ObservedSnapshot.ABSENT
    if not is_of_disk(seen, step.workspace.disk_name):
        return ObservedSnapshot.FOREIGN
    return _OBSERVED[seen.status]


def is_at_rest(step: Step) -> bool:
    """Say whether nothing writes to the home, and everything was written that was to be.

    Only the recorded machine can tell, shut down. One that is gone may have been deleted while it
    ran, and another one that has the disk attached may be writing.
    """
    off = observed_state(step.inputs.instance) is ObservedState.TERMINATED
    others = {*step.inputs.home_users} - {step.workspace.instance_name}
    return off and step.sees_recorded_machine and not others


def take(step: Step) -> Decision:
    """Take the snapshot, unless there is no home to take it of."""
    workspace, home = step.workspace, step.workspace.home_disk
    if home is None or not step.inputs.disk_exists:
        message = (
            f"The home (disk {workspace.disk_name}) is not where it was, so no snapshot of it can "
            "be taken. Start the workspace: that finds the disk if it is in another zone."
        )
        problem = problem_of(step, HOME_DISK_GONE, message)
        return end_without_snapshot(step, problem, may_exist=step.operation.attempt > 0)
    command = CreateSnapshot(
        place=snapshot_place(workspace.id, step.operation.id),
        disk=Place(home.zone, home.name),
        workspace_id=workspace.id,
        owner_id=workspace.owner_id,
    )
    return Call(command, Phase.AWAIT_SNAPSHOT)


def end_captured(step: Step) -> Updated:
    """End the operation: the content is captured. What is left is the upload."""
    seen = step.inputs.snapshot
    assert seen is not None  # noqa: S101 -- it is observed as captured
    at_rest = step.operation.home_at_rest and is_at_rest(step)
    consistency = Consistency.CLEAN if at_rest else Consistency.CRASH
    taken = captured(step.record, seen, consistency, step.now, step.policy)
    return end_as_it_was(
        step,
        "SnapshotTaken",
        _error_kept(step.workspace),
        snapshots=(taken,),
        result=taken.state.value,
    )


def _error_kept(workspace: Workspace) -> Problem | None:
    """Return the workspace's error, unless it says that an earlier SNAPSHOT failed."""
    error = workspace.error
    overcome = error is not None and error.operation_kind is OperationKind.SNAPSHOT
    return None if overcome else error


def end_failed_snapshot(step: Step) -> Updated:
    """End the operation because Compute could not take the snapshot. What there is goes."""
    fault = step.inputs.fault
    said = f" Compute Engine said: {fault.message}" if fault else ""
    way_out = WAY_OUT[step.operation.kind]
    message = f"Compute Engine could not take the snapshot. {way_out}{said}"
    problem = problem_of(step, SNAPSHOT_FAILED, message, retryable=True)
    return end_without_snapshot(step, problem, may_exist=True)


def leave_foreign(step: Step) -> Updated:
    """End the operation because another disk's snapshot has the name. That one stays."""
    name = step.inputs.snapshot.name if step.inputs.snapshot else ""
    message = (
        f"A snapshot of another disk has the name {name}, which the Hub needs. "
        f"{WAY_OUT[step.operation.kind]}"
    )
    problem = problem_of(step, "COMPUTE_NAME_TAKEN", message, retryable=True)
    return end_without_snapshot(step, problem, may_exist=False)


def await_or_take_again(step: Step) -> Updated:
    """Go on while there is nothing to see: Compute has not begun, or its call has come to nothing.

    Compute says why in the fault of its operation.
    """
    if step.inputs.pending:
        return _WAIT(step)
    if step.inputs.fault is not None:
        return go_on_refused(step, step.inputs.fault)
    return _TAKE_AGAIN(step)
