"""Moves that lead to a snapshot of the home.

A SNAPSHOT ends when the content is captured. What becomes of the snapshot then is its own record's
(``shared/domain/snapshots.py``). Another operation takes one to keep what is in the home now. It
goes on when the snapshot is stored, since what is to come may cost that home.
"""

from dataclasses import replace
from enum import Enum

from shared.domain.changes import Note, Updated
from shared.domain.drift import ObservedState, observed_state
from shared.domain.instance import CreateSnapshot, FaultKind, Place, SnapshotStatus
from shared.domain.snapshots import (
    SNAPSHOT_FAILED,
    Consistency,
    Snapshot,
    Taken,
    captured,
    is_of_disk,
    snapshot_place,
    source_of,
)
from shared.domain.steps.booting import HOME_DISK_GONE, boot_elsewhere
from shared.domain.steps.failing import (
    UPLOAD_PATIENCE,
    end_as_it_was,
    end_without_snapshot,
    fail,
    problem_of,
    way_out,
)
from shared.domain.steps.faults import go_on_refused
from shared.domain.steps.moves import TakeAgain, Wait
from shared.domain.steps.step import TAKING_HOME, Call, Decision, Step
from shared.domain.workspace import HomeDisk, HomeSource, OperationKind, Phase, Problem, Workspace

_WAIT = Wait()
_TAKE_AGAIN = TakeAgain()


class ObservedSnapshot(Enum):
    """The states of a snapshot in Compute that decisions tell apart.

    ``FOREIGN``: something else has its name, a snapshot of another disk.
    """

    ABSENT = "absent"
    CREATING = "creating"
    CAPTURED = "captured"
    STORED = "stored"
    FAILED = "failed"
    DELETING = "deleting"
    FOREIGN = "foreign"


_OBSERVED = {
    SnapshotStatus.CREATING: ObservedSnapshot.CREATING,
    SnapshotStatus.UPLOADING: ObservedSnapshot.CAPTURED,
    SnapshotStatus.READY: ObservedSnapshot.STORED,
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


def is_detached(step: Step) -> bool:
    """Say whether no machine has the home, as far as this step has looked."""
    return step.inputs.instance is None and not step.inputs.home_users


def take(step: Step) -> Decision:
    """Take the snapshot, unless there is no home to take it of, or one that is as good."""
    workspace, home = step.workspace, step.workspace.home_disk
    takes = step.operation.kind is OperationKind.SNAPSHOT
    if step.operation.kind in TAKING_HOME and step.inputs.instance is not None:
        return step.enter(Phase.DELETE_INSTANCE, "PhaseEntered")  # somebody has made it anew
    if not takes and step.inputs.has_copy is not None:
        return _go_on_with_copy(step, step.inputs.has_copy)
    others = {*step.inputs.home_users} - {workspace.instance_name}
    if not takes and not step.inputs.disk_exists:
        return _go_on_without_home(step)
    deletes = step.operation.kind is OperationKind.DELETE
    if not takes and (others or (deletes and step.inputs.home_users)):
        return _await_detached(step)
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


def _await_detached(step: Step) -> Updated:
    """Wait until no other machine has the home: what it writes would be in no snapshot."""
    users = ", ".join(f"instances/{user}" for user in step.inputs.home_users)
    used = f"The disk {step.workspace.disk_name} is used by {users}."
    operation = replace(step.operation, last_fault=used, last_fault_kind=FaultKind.IN_USE.value)
    return _WAIT(replace(step, operation=operation))


def end_captured(step: Step) -> Updated:
    """End a SNAPSHOT: the content is captured. What is left is the upload.

    Another operation waits for that.
    """
    seen = step.inputs.snapshot
    assert seen is not None  # noqa: S101 -- it is observed as captured
    at_rest = step.operation.home_at_rest and is_at_rest(step)
    how = Taken(
        Consistency.CLEAN if at_rest else Consistency.CRASH,
        detached=step.operation.home_detached and is_detached(step),
    )
    taken = captured(step.record, seen, how, step.now, step.policy)
    if step.operation.kind is not OperationKind.SNAPSHOT:
        return _await_storage(step, taken)
    return end_as_it_was(
        step,
        "SnapshotTaken",
        _error_kept(step.workspace),
        snapshots=(taken,),
        result=taken.state.value,
    )


def _await_storage(step: Step, taken: Snapshot) -> Updated:
    """Record the snapshot, and wait until it is stored.

    After a RESTORE's deadline, its owner can go on with what there was. Nobody waits for a DELETE
    or an ARCHIVE, and a large home's first upload may take hours.
    """
    seen = step.inputs.snapshot
    made_at = seen.created_at if seen else None
    operation = replace(step.operation, last_copy=source_of(taken), copied_at=made_at)
    if operation.kind in TAKING_HOME:
        operation = replace(operation, deadline_at=step.now + UPLOAD_PATIENCE)
    noted = replace(step.workspace, snapshot_asked_at=step.operation.requested_at)
    waiting = replace(step, workspace=noted, operation=operation)
    return replace(waiting.enter(Phase.AWAIT_STORED, "SnapshotTaken"), snapshots=(taken,))


def _go_on_with_copy(step: Step, copy: HomeSource) -> Updated:
    """Go on: this READY snapshot has all that is in the home, or all that is left of it."""
    made_at = step.inputs.copy_made_at
    operation = replace(step.operation, last_copy=copy, copied_at=made_at)
    change = go_on_stored(replace(step, operation=operation))
    if step.inputs.disk_exists:
        return change
    why = (
        f"The home (disk {step.workspace.disk_name}) was deleted outside the Hub. "
        "Its newest snapshot is kept as the last copy."
    )
    return replace(change, notes=(Note("HomeNotKept", why),))


def go_on_stored(step: Step) -> Updated:
    """Go on: what was in the home is in a READY snapshot.

    A move leaves the machine. A RESTORE deletes it. A DELETE and an ARCHIVE have done that, and
    delete the disk.
    """
    operation = step.operation
    if operation.moves:
        return boot_elsewhere(step)
    if operation.kind not in TAKING_HOME:
        return step.enter(Phase.DELETE_INSTANCE, "LastCopyStored")
    anew = step.now + step.policy.deadlines.of(operation.kind)
    home = step.workspace.home_disk  # somebody may have moved the machine without it
    there = replace(step.workspace, zone=home.zone) if home else step.workspace
    deleting = replace(step, workspace=there, operation=replace(operation, deadline_at=anew))
    return deleting.enter(Phase.DELETE_DISK, "LastCopyStored")


def _go_on_without_home(step: Step) -> Updated:
    """Go on although there is no home to keep. It was deleted outside the Hub.

    If it was moved to another zone, a DELETE and an ARCHIVE follow it. A RESTORE fails: a START
    finds it there.
    """
    home = step.workspace.home_disk
    if step.operation.kind in TAKING_HOME:
        return _follow_home(step)
    if step.operation.moves:  # a START finds it in another zone, or says that it is gone
        stays = replace(step.operation, moves=False, may_move=False)
        return replace(step, operation=stays).enter(Phase.SURVEY, "MoveGivenUp")
    if any(disk.name == step.workspace.disk_name for disk in step.inputs.disks):
        message = (
            f"The home (disk {step.workspace.disk_name}) is in another zone than it was. Start the "
            "workspace, which finds it there, and then restore it again."
        )
        return fail(step, problem_of(step, HOME_DISK_GONE, message))
    where = f"disk {step.workspace.disk_name} in zone {home.zone if home else step.workspace.zone}"
    why = f"The home ({where}) is gone, so no snapshot of it could be taken before the restore."
    change = step.enter(Phase.DELETE_INSTANCE, "HomeNotKept")
    return replace(change, notes=(Note("HomeNotKept", why),))


def _follow_home(step: Step) -> Updated:
    """Keep what is in a home that was moved to another zone. Of several, a person chooses one."""
    name = step.workspace.disk_name
    zones = sorted(disk.zone for disk in step.inputs.disks if disk.name == name)
    if len(zones) > 1:
        why = f"The home (disk {name}) is in several zones: {', '.join(zones)}. Keep one of them."
        message = f"{why} {way_out(step.operation)}"
        return fail(step, problem_of(step, HOME_DISK_GONE, message))
    if zones:
        [zone] = zones
        followed = replace(step.workspace, zone=zone, home_disk=HomeDisk(name, zone))
        change = replace(step, workspace=followed).enter(Phase.SNAPSHOT, "HomeFollowed")
        return replace(change, notes=(Note("HomeFollowed", f"The home disk is in zone {zone}."),))
    if step.operation.kind is OperationKind.ARCHIVE:
        why = f"The home (disk {name}) was deleted outside the Hub, so it cannot be archived."
        way = (
            "Restore one of its snapshots, or start it with empty_home to go on with an empty home."
        )
        return fail(step, problem_of(step, HOME_DISK_GONE, f"{why} {way}"))
    lost = replace(step, workspace=replace(step.workspace, home_disk=None))
    change = lost.enter(Phase.DELETE_DISK, "HomeNotKept")
    why = f"The home (disk {name}) was deleted outside the Hub, so no last copy of it is kept."
    return replace(change, notes=(Note("HomeNotKept", why),))


def fail_unstored(step: Step) -> Updated:
    """Fail because the snapshot of what is in the home is gone, or could not be stored."""
    message = (
        "Compute Engine could not store the snapshot of what is in the home now, or it was deleted "
        f"outside the Hub. {way_out(step.operation)} If the snapshot is still listed, it says "
        "why."
    )
    return fail(step, problem_of(step, SNAPSHOT_FAILED, message, retryable=True))


def _error_kept(workspace: Workspace) -> Problem | None:
    """Return the workspace's error, unless it says that an earlier SNAPSHOT failed."""
    error = workspace.error
    overcome = error is not None and error.operation_kind is OperationKind.SNAPSHOT
    return None if overcome else error


def end_failed_snapshot(step: Step) -> Updated:
    """End the operation because Compute could not take the snapshot. What there is goes."""
    fault = step.inputs.fault
    said = f" Compute Engine said: {fault.message}" if fault else ""
    message = f"Compute Engine could not take the snapshot. {way_out(step.operation)}{said}"
    problem = problem_of(step, SNAPSHOT_FAILED, message, retryable=True)
    if step.operation.kind is not OperationKind.SNAPSHOT:
        return fail(step, problem)
    return end_without_snapshot(step, problem, may_exist=True)


def leave_foreign(step: Step) -> Updated:
    """End the operation because another disk's snapshot has the name. That one stays."""
    name = step.inputs.snapshot.name if step.inputs.snapshot else ""
    message = (
        f"A snapshot of another disk has the name {name}, which the Hub needs. "
        f"{way_out(step.operation)}"
    )
    problem = problem_of(step, "COMPUTE_NAME_TAKEN", message, retryable=True)
    if step.operation.kind is not OperationKind.SNAPSHOT:
        return fail(step, problem)
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
