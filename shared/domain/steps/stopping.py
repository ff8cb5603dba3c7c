"""Moves that lead to a machine that is off: a STOP, and the clean-up after a START that failed."""

from dataclasses import replace

from shared.domain.changes import Updated, without_memory
from shared.domain.drift import ObservedState, observed_state, with_interval_of
from shared.domain.idleness import awake_until
from shared.domain.instance import SuspendInstance
from shared.domain.steps.booting import boot_off, turned_off
from shared.domain.steps.failing import begin_cleanup, end_failed, recording
from shared.domain.steps.moves import STOP, Go
from shared.domain.steps.step import ARCHIVED, Call, Decision, Step
from shared.domain.workspace import OperationKind, Phase, Problem, Status

# A machine that came back to running so often is stopped instead of suspended.
MOST_SUSPENDS_UNDONE = 2


def suspend(step: Step) -> Decision:
    """Suspend, unless the machine is in use after all, or its memory is not worth keeping."""
    if _in_use_after_all(step):
        return _call_off_stop(step)
    if step.workspace.memory_is_ready:
        return Call(SuspendInstance(step.place), Phase.AWAIT_SUSPENDED)
    if step.workspace.has_memory:
        return give_memory_up(step, "A new machine was asked for.")
    return Go(Phase.STOP)(step)


def suspend_once_more(step: Step) -> Updated:
    """Suspend a machine that came back to running once more: its guest may have been busy."""
    undone = step.operation.suspends_undone + 1
    if not step.workspace.memory_is_ready or undone >= MOST_SUSPENDS_UNDONE:
        why = (
            f"The machine came back to running {undone} times instead of being suspended, "
            "so it was shut down."
        )
        return give_memory_up(step, why)
    counted = replace(step, operation=replace(step.operation, suspends_undone=undone))
    return counted.enter(Phase.SUSPEND, "SuspendUndone", delay=step.policy.look_max)


def give_memory_up(step: Step, why: str) -> Updated:
    """Shut a machine down that cannot be suspended. The operation keeps the reason."""
    because = replace(step.operation, memory_lost_because=why)
    return replace(step, operation=because).enter(Phase.STOP, "SuspendGivenUp")


def stop_unless_used(step: Step) -> Decision:
    """Stop, unless the machine is in use after all.

    The clean-up after a START keeps a machine that can be used. Before its first call it commits
    that it begins.
    """
    if step.operation.failure is not None and can_be_used(step):
        return step.finish(Status.READY, "WorkspaceReady")
    if step.operation.failure is not None and step.operation.attempt == 0:
        return begin_cleanup(step)
    if step.operation.kind is OperationKind.STOP and _in_use_after_all(step):
        return _call_off_stop(step)
    if step.operation.kind is OperationKind.ARCHIVE and step.operation.automatic:
        return call_off(step)
    return STOP(step)


def call_off(step: Step) -> Updated:
    """Keep a workspace whose machine somebody has started, and have a worker look at it.

    The sweeps take away only what is off.
    """
    workspace = step.workspace
    event = f"Automatic{step.operation.kind.capitalize()}Abandoned"
    kept = step.finish(workspace.status, event, workspace.error)
    return recording(kept, attend_at=step.now)


def can_be_used(step: Step) -> bool:
    """Say whether the recorded machine runs with the memory of a boot that reported ready."""
    running = observed_state(step.inputs.instance) is ObservedState.RUNNING
    return running and step.sees_recorded_machine and step.workspace.memory_is_ready


def _in_use_after_all(step: Step) -> bool:
    """Say whether an automatic stop meets a machine that is in use.

    Somebody has connected or asked to keep it awake since, or the machine reports at a longer
    interval than was recorded.
    """
    if not step.operation.automatic:
        return False
    if step.workspace.last_connected_at > step.operation.requested_at:
        return True
    due = awake_until(with_interval_of(step.workspace, step.inputs.instance), step.policy)
    return due is not None and step.now < due


def _call_off_stop(step: Step) -> Updated:
    """Leave the machine running, and the workspace in the status that it had."""
    known = with_interval_of(step.workspace, step.inputs.instance)
    kept = replace(step, workspace=known).finish(
        known.status, "AutomaticStopAbandoned", known.error
    )
    return recording(kept, machine_running=True)


def end_suspended(step: Step) -> Updated:
    """End the operation with the machine suspended."""
    kept = step.workspace
    if kept.memory_is_ready:
        kept = replace(kept, memory_kept=True, memory_lost_because=None)
    suspended = replace(step, workspace=kept)
    return suspended.finish(Status.SUSPENDED, "WorkspaceSuspended", _reason_kept(step))


def _reason_kept(step: Step) -> Problem | None:
    """Return why the workspace was in ERROR. It stays when its machine is only turned off."""
    return step.workspace.error if step.workspace.status is Status.ERROR else None


def go_on_off(step: Step) -> Updated:
    """Go on with a machine that is off.

    A START that failed ends, a START that restarts the machine boots it, a RESTORE keeps what is in
    the home, an ARCHIVE deletes the machine, and a STOP ends with the machine's memory lost.
    """
    if step.operation.failure is not None:
        why = "The START failed, and its machine was shut down."
        without, notes = without_memory(step.workspace, why)
        ended = end_failed(replace(step, workspace=without), step.operation.failure)
        return replace(ended, notes=notes)
    if step.operation.kind is OperationKind.START:
        return _keep_home_to_move(step) if step.operation.moves else boot_off(step)
    if step.operation.kind is OperationKind.RESTORE:
        why = "The home is restored, so the machine was shut down."
        without, notes = without_memory(step.workspace, why)
        off = replace(step, workspace=turned_off(without))
        return replace(Go(Phase.SNAPSHOT)(off), notes=notes)
    if step.operation.kind is OperationKind.ARCHIVE:
        without, notes = without_memory(step.workspace, ARCHIVED)
        off = replace(step, workspace=turned_off(without))
        return replace(Go(Phase.DELETE_INSTANCE)(off), notes=notes)
    by_hand = "The machine was shut down outside the Hub while it was to be suspended."
    without, notes = without_memory(step.workspace, step.operation.memory_lost_because or by_hand)
    stopped = replace(step, workspace=without).finish(
        Status.SUSPENDED, "WorkspaceStopped", _reason_kept(step)
    )
    return replace(stopped, notes=notes)


def _keep_home_to_move(step: Step) -> Updated:
    """Go on with a machine that was shut down so that its workspace can move."""
    why = "The workspace moves to another zone, so the machine was shut down."
    without, notes = without_memory(step.workspace, why)
    return replace(Go(Phase.SNAPSHOT)(replace(step, workspace=turned_off(without))), notes=notes)


def go_on_suspended(step: Step) -> Updated:
    """Go on with a machine that was to be stopped and is suspended, which is as good."""
    if step.operation.failure is not None:
        return end_failed(step, step.operation.failure)
    if step.operation.moves:
        return Go(Phase.SNAPSHOT)(step)
    if step.operation.kind is OperationKind.START:
        return Go(Phase.SURVEY)(step)
    if step.operation.kind is OperationKind.RESTORE:
        return Go(Phase.SNAPSHOT)(replace(step, workspace=turned_off(step.workspace)))
    if step.operation.kind is OperationKind.ARCHIVE:
        return Go(Phase.DELETE_INSTANCE)(replace(step, workspace=turned_off(step.workspace)))
    return end_suspended(step)
