"""How an operation fails: what is cleaned up, what deadlines do, and what people are told."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from shared.domain.changes import Updated, due_look_job, with_former_home
from shared.domain.drift import (
    MACHINE_GONE,
    ObservedState,
    has_drifted,
    observe,
    observed_state,
)
from shared.domain.instance import FaultKind
from shared.domain.machine_access import attended
from shared.domain.plain_text import quoted_lines
from shared.domain.snapshots import Snapshot, unwanted
from shared.domain.steps.step import (
    CALLING_PHASE,
    DISK_PHASES,
    GROWING_PHASES,
    SNAPSHOT_PHASES,
    TAKING_HOME,
    UNCAPTURED_PHASES,
    Step,
)
from shared.domain.workspace import OldHome, Operation, OperationKind, Phase, Problem, Status

CONSOLE_TAIL_BYTES = 2000
NO_CAPACITY = "NO_CAPACITY"
UPLOAD_PATIENCE = timedelta(days=1)  # for which a DELETE or an ARCHIVE waits for its copy

# What a person can do after an operation of each kind has failed.
WAY_OUT = {
    OperationKind.CREATE: "Start the workspace to try again, or delete it.",
    OperationKind.START: "Start the workspace again, or delete it.",
    OperationKind.STOP: "Stop the workspace again.",
    OperationKind.SNAPSHOT: "Take a snapshot again.",
    OperationKind.ARCHIVE: "Nothing of the home is lost. Start the workspace, or archive it again.",
    OperationKind.RESTORE: "The home is what it was. Start the workspace, or restore it again.",
    OperationKind.DELETE: "Delete the workspace again.",
}
WAY_OUT_OF_MOVE = "The workspace is where it was. Start it to go on there, or move it again."
_WAY_OUT_OF_GROWING = (
    "Start the workspace as it is, or ask for a larger home again: later, or for a smaller size."
)


def way_out(operation: Operation) -> str:
    """Return what a person can do after this operation has failed."""
    if operation.phase in GROWING_PHASES:
        return _WAY_OUT_OF_GROWING
    return WAY_OUT_OF_MOVE if operation.moves else WAY_OUT[operation.kind]


def problem_of(step: Step, code: str, message: str, *, retryable: bool = False) -> Problem:
    """Return why the step's operation fails."""
    return Problem(code, message, retryable, step.now, step.operation.kind)


def fail(step: Step, problem: Problem) -> Updated:
    """Give the operation up for good. What must not be left running is cleaned up first.

    A CREATE deletes its machine and its disk, and so does a RESTORE that has begun to make them. A
    START stops its machine and never deletes it; an insert that no worker has recorded may have
    made one. Any other operation ends at once.
    """
    operation = step.operation
    if operation.failure is not None:
        return end_failed(step, operation.failure)
    deadline_at = step.now + step.policy.deadlines.delete
    failed = replace(operation, failure=problem, deadline_at=deadline_at)
    cleaning = replace(step, operation=failed)
    if operation.kind is OperationKind.CREATE or step.has_switched:
        event = f"{operation.kind.capitalize()}Failed"
        return cleaning.enter(Phase.DELETE_INSTANCE, event)
    leaves = operation.moves or operation.phase in GROWING_PHASES
    starts = operation.kind is OperationKind.START and not leaves
    if starts and problem.code != MACHINE_GONE:
        return cleaning.enter(Phase.STOP, "StartFailed")
    return end_failed(step, problem)


def begin_cleanup(step: Step) -> Updated:
    """Commit that the clean-up begins. From then on a ``ready`` comes too late."""
    return step.enter(step.operation.phase, "CleanupBegun", attempt=1)


LAST_COPY_NOT_MADE = "LAST_COPY_NOT_MADE"


def without_last_copy(step: Step, why: str, *, retryable: bool = True) -> Problem:
    """Return the problem of an operation that cannot keep what is in the home it is to take away.

    ``why`` is sentences.
    """
    if step.operation.kind is OperationKind.ARCHIVE:
        message = (
            "The workspace was not archived, because no snapshot of its home could be made. "
            f"{why} {way_out(step.operation)}"
        )
        return problem_of(step, LAST_COPY_NOT_MADE, message, retryable=retryable)
    why = why.replace(f" {WAY_OUT[OperationKind.DELETE]}", "")
    message = (
        f"The home was not deleted, because no last snapshot of it could be made. {why} "
        "Delete the workspace again, delete it with purge, which keeps no snapshot, or start it."
    )
    return problem_of(step, LAST_COPY_NOT_MADE, message, retryable=retryable)


def may_still_be_saved(operation: Operation) -> bool:
    """Say whether a machine that reports ready now still saves a failed operation.

    It does until the clean-up begins. The worker commits that before its first call, so no
    machine is deleted whose ``ready`` was accepted.
    """
    cleaning = {Phase.DELETE_INSTANCE, Phase.STOP}
    return operation.failure is not None and operation.phase in cleaning and operation.attempt == 0


def end_failed(step: Step, problem: Problem) -> Updated:
    """End the operation with a problem.

    A STOP, a RESTORE, an ARCHIVE, a move and a growth leave the status that the machine's state
    means, and a SNAPSHOT the one that there was. Every other operation ends in ERROR, except a
    START of an archived workspace that has found no capacity: that stays SUSPENDED. A worker looks
    again later: the machine may have been between two states. A snapshot that was taken, or may
    have been, and has no record yet gets one, by which it is deleted.
    """
    kind, workspace, instance = step.operation.kind, step.workspace, step.inputs.instance
    if kind is OperationKind.SNAPSHOT:
        return end_without_snapshot(step, problem, may_exist=True)
    leaves = step.operation.moves or step.operation.phase in GROWING_PHASES
    if kind in {OperationKind.RESTORE, OperationKind.ARCHIVE} or leaves:
        return _end_as_its_machine_is(step, problem)
    left = _uncaptured(step, problem)
    if kind is OperationKind.DELETE and step.operation.phase in SNAPSHOT_PHASES:
        problem = without_last_copy(step, problem.message, retryable=problem.retryable)
    status = Status.ERROR
    if problem.code == NO_CAPACITY and workspace.archived_at is not None:
        status = Status.SUSPENDED
        step = replace(step, workspace=replace(workspace, instance_id=None, machine_made_at=None))
    if kind is OperationKind.STOP and instance is not None:
        recorded = Status.READY if workspace.memory_is_ready else Status.ERROR
        before = replace(workspace, status=recorded, error=None)
        status = observe(before, instance, step.now).status
    ended = step.finish(status, f"{kind.capitalize()}Failed", problem)
    running = observed_state(instance) is ObservedState.RUNNING
    ended = recording(ended, machine_running=running, attend_at=step.now + step.policy.attend_after)
    return replace(ended, snapshots=left)


def _end_as_its_machine_is(step: Step, problem: Problem, *, seen: bool = True) -> Updated:
    """End a RESTORE, an ARCHIVE, a move or a growth with the status that the machine means.

    The home is what it was before a RESTORE or a move; after an ARCHIVE it may be its snapshot
    already. A move's former machine was off when the home was switched; a worker looks at it.
    ``seen``: this step has looked.
    """
    observed = observed_state(step.inputs.instance)
    was = step.workspace
    archives = step.operation.kind is OperationKind.ARCHIVE
    if archives and step.operation.phase in _WITHOUT_MACHINE and observed is ObservedState.ABSENT:
        status = Status.SUSPENDED
        step = replace(step, workspace=replace(was, instance_id=None, machine_made_at=None))
    elif step.operation.former_machine is not None:
        status, observed = Status.SUSPENDED, ObservedState.ABSENT
    elif step.has_switched:
        gone = step.operation.failure is not None and observed is ObservedState.ABSENT
        status = Status.SUSPENDED if gone else Status.ERROR
    elif observed in {ObservedState.SUSPENDED, ObservedState.TERMINATED}:
        status = Status.SUSPENDED
    elif observed is ObservedState.RUNNING and was.memory_is_ready:
        status = Status.READY
    else:
        asleep = was.status is Status.SUSPENDED and was.instance_id is None
        lacks_none = asleep and observed is ObservedState.ABSENT
        status = Status.SUSPENDED if lacks_none else Status.ERROR
    kept_until = step.now + step.policy.worker_timeout
    back = replace(step, workspace=with_former_home(step.record, kept_until))
    looked = seen and not step.inputs.pending and step.operation.phase in DISK_PHASES
    if looked and step.has_switched:
        homes = _seen_again(step, back.workspace.old_homes)
        back = replace(back, workspace=replace(back.workspace, old_homes=homes))
    ended = back.finish(status, f"{step.operation.kind.capitalize()}Failed", problem)
    ended = recording(
        ended,
        machine_running=observed is ObservedState.RUNNING,
        attend_at=step.now + step.policy.attend_after,
    )
    return replace(ended, snapshots=_uncaptured(step, problem))


def _seen_again(step: Step, homes: tuple[OldHome, ...]) -> tuple[OldHome, ...]:
    """Return a workspace's old homes, the last of which a RESTORE or a move has made.

    It is none if the disk is seen to be somebody else's. If its machine is gone, the name is free.
    The disk is known even if it is gone: a worker may be about to make it.
    """
    *others, made = homes
    if step.inputs.home_is_foreign:
        return tuple(others)
    machine_id = None if step.inputs.instance is None else made.instance_id
    return (*others, replace(made, instance_id=machine_id, absent=not step.inputs.disk_exists))


# The phases of an ARCHIVE that come after its machine is gone.
_WITHOUT_MACHINE = {
    *(Phase.SNAPSHOT, Phase.AWAIT_SNAPSHOT, Phase.AWAIT_STORED),
    *(Phase.DELETE_DISK, Phase.AWAIT_DISK_ABSENT),
}


def _uncaptured(step: Step, problem: Problem) -> tuple[Snapshot, ...]:
    """Return the record of a snapshot that has none yet, by which it is deleted if it is there."""
    if step.operation.phase not in UNCAPTURED_PHASES:
        return ()
    return (unwanted(step.record, problem, step.now, step.policy),)


def end_without_snapshot(step: Step, problem: Problem, *, may_exist: bool) -> Updated:
    """End a SNAPSHOT that failed.

    A workspace in ERROR keeps its own error. ``may_exist``: the snapshot may exist in Compute, or
    a worker may be about to make it. Then a record of it is made, whose jobs delete it. Otherwise
    the pause before the next one does not count from this one, which Compute has not begun.
    """
    in_error = step.workspace.status is Status.ERROR
    left = (unwanted(step.record, problem, step.now, step.policy),) if may_exist else ()
    ended = end_as_it_was(
        step,
        "SnapshotFailed",
        step.workspace.error if in_error else problem,
        snapshots=left,
        result=problem.code,
    )
    if may_exist:
        return ended
    return recording(ended, snapshot_asked_at=step.workspace.snapshot_asked_at)


def end_as_it_was(
    step: Step, event: str, error: Problem | None, *, snapshots: tuple[Snapshot, ...], result: str
) -> Updated:
    """End a SNAPSHOT with the workspace as it was before.

    Nobody has looked at the machine meanwhile except this step. If it is not as recorded, or was
    not seen, a worker looks.
    """
    unchanged = replace(
        step.workspace,
        operation=None,
        attend_at=None,
        error=error,
        updated_at=step.now,
        snapshot_asked_at=step.operation.requested_at,
    )
    ended = attended(unchanged, step.now)
    job = None
    if has_drifted(ended, step.inputs.instance, step.now):
        ended = replace(ended, attend_at=step.now + step.policy.attend_after)
        job = due_look_job(ended, step.now, step.operation.request_id)
    return Updated(ended, event, job, snapshots=snapshots, result=result)


def recording(ended: Updated, **fields: Any) -> Updated:
    """Return the end of an operation with more fields in its record."""
    return replace(ended, workspace=replace(ended.workspace, **fields))


def overdue(step: Step) -> Updated:
    """Fail an operation whose deadline has passed, and say what is known of the cause."""
    operation, kind = step.operation, step.operation.kind
    said = f" Compute Engine said last: {operation.last_fault}" if operation.last_fault else ""
    in_use = operation.last_fault_kind == FaultKind.IN_USE
    # In any other phase Compute has accepted the call since.
    refused_last = operation.phase in CALLING_PHASE.values()
    names_holder = kind not in {OperationKind.STOP, OperationKind.SNAPSHOT}
    if in_use and refused_last and names_holder:
        message = (
            f"The {kind} did not end {_within(step)}, because something else uses a disk that it "
            f"needs.{said} Detach it there. {way_out(operation)}"
        )
        return fail(step, problem_of(step, "DISK_IN_USE", message, retryable=True))
    if kind is OperationKind.RESTORE and operation.phase is Phase.AWAIT_STORED:
        message = (
            f"What is in the home now was not stored {_within(step)}, so nothing was restored. "
            "Start the workspace. When the snapshot that the Hub has taken is READY, restore it "
            "again: then only what is new has to be stored."
        )
        return fail(step, problem_of(step, f"{kind}_TIMED_OUT", message, retryable=True))
    if operation.moves and operation.phase is Phase.AWAIT_STORED:
        message = (
            f"What is in the home was not stored {_within(step)}, so the workspace did not move. "
            "Start it to go on where it is. When the snapshot that the Hub has taken is READY, "
            "move it again: then only what is new has to be stored."
        )
        return fail(step, problem_of(step, f"{kind}_TIMED_OUT", message, retryable=True))
    if operation.phase is not Phase.AWAIT_READY:
        message = f"The {kind} did not end {_within(step)}. {way_out(operation)}{said}"
        return fail(step, problem_of(step, f"{kind}_TIMED_OUT", message, retryable=True))
    console = quoted_lines(step.inputs.console, CONSOLE_TAIL_BYTES)
    printed = f" The machine printed last:\n{console}" if console else ""
    message = f"The machine did not report ready {_within(step)}. {way_out(operation)}{printed}"
    return fail(step, problem_of(step, "NOT_READY_IN_TIME", message, retryable=True))


def overdue_unseen(step: Step) -> Updated:
    """End an operation whose deadline has passed while Compute does not answer.

    So a person can ask for something else. Machine and disks stay as they are, in a state that is
    not known. The record says what is more likely, and a worker looks again soon.
    """
    kind, workspace = step.operation.kind, step.workspace
    message = (
        f"The {kind} did not end {_within(step)}, because Compute Engine does not answer. "
        f"{way_out(step.operation)}"
    )
    unavailable = problem_of(step, "COMPUTE_UNAVAILABLE", message, retryable=True)
    if kind is OperationKind.SNAPSHOT:
        return end_without_snapshot(step, unavailable, may_exist=True)
    leaves = step.operation.moves or step.operation.phase in GROWING_PHASES
    if kind in {OperationKind.RESTORE, OperationKind.ARCHIVE} or leaves:
        problem = step.operation.failure or unavailable
        failed = _end_as_its_machine_is(step, problem, seen=False)
        boots = step.has_switched and step.operation.former_machine is None
        return recording(failed, machine_running=workspace.machine_running or boots)
    stays_ready = kind is OperationKind.STOP and workspace.memory_is_ready
    ended = step.finish(
        Status.READY if stays_ready else Status.ERROR,
        f"{kind.capitalize()}Failed",
        step.operation.failure or unavailable,
    )
    boots = kind in {OperationKind.CREATE, OperationKind.START}
    ended = recording(
        ended,
        machine_running=boots or workspace.machine_running,
        attend_at=step.now + step.policy.attend_after,
    )
    return replace(ended, snapshots=_uncaptured(step, unavailable))


def _within(step: Step) -> str:
    """Say how long the operation had."""
    deadlines, operation = step.policy.deadlines, step.operation
    deadline = deadlines.restore if operation.moves else deadlines.of(operation.kind)
    deadline = deadlines.create if step.has_switched else deadline
    if operation.kind in TAKING_HOME and operation.phase is Phase.AWAIT_STORED:
        return "within a day"
    seconds = deadline.total_seconds()
    in_minutes = seconds % 60 == 0
    return f"within {seconds / 60:g} minutes" if in_minutes else f"within {seconds:g} seconds"
