"""Moves that lead to a machine and disks that are gone."""

from dataclasses import replace

from shared.domain.changes import Change, Forgotten, Updated, with_home
from shared.domain.drift import ObservedState, observed_state
from shared.domain.instance import DeleteDisk, Place
from shared.domain.steps.booting import (
    boot_new,
    boot_restored,
    fail_without_home,
    follow_machine,
    has_run_since_copy,
    leave_started,
)
from shared.domain.steps.failing import (
    begin_cleanup,
    end_failed,
    fail,
    without_last_copy,
)
from shared.domain.steps.moves import DELETE, Go
from shared.domain.steps.step import TAKING_HOME, Call, Decision, Step
from shared.domain.steps.stopping import call_off, can_be_used
from shared.domain.workspace import HomeSource, OperationKind, Phase, Status

_OFF = {ObservedState.ABSENT, ObservedState.SUSPENDED, ObservedState.TERMINATED}


def delete_machine(step: Step) -> Decision:
    """Delete the machine, unless it is in use or its home is gone.

    Before the first deletion of a clean-up, commit that it begins. So do a RESTORE, an ARCHIVE, and
    what the sweeps have begun: until then no worker of theirs can be deleting the machine.
    """
    operation = step.operation
    first, starts = operation.attempt == 0, operation.kind is OperationKind.START
    if operation.failure is not None and first:
        return begin_cleanup(step)
    if starts and can_be_used(step):  # somebody resumed it by hand meanwhile
        return step.finish(Status.READY, "WorkspaceReady")
    if operation.automatic and _is_in_use(step):
        return call_off(step)
    if starts and step.lacks_home and not _can_be_remade(step):
        return fail_without_home(step)
    restores = operation.kind is OperationKind.RESTORE and not step.has_switched
    if restores and (has_run_since_copy(step) or _was_detached_used(step)):
        return leave_started(step)
    if first and (restores or operation.automatic or operation.kind is OperationKind.ARCHIVE):
        let_go_at = step.inputs.home_detached_at if restores and _lacks_home_disk(step) else None
        noted = replace(step, operation=replace(operation, former_detached_at=let_go_at))
        return noted.enter(operation.phase, "DeletionBegun", attempt=1)
    return DELETE(step)


def _lacks_home_disk(step: Step) -> bool:
    """Say whether somebody has detached the home from the machine."""
    home, instance = step.workspace.home_disk, step.inputs.instance
    return home is not None and instance is not None and home.name not in instance.disks


def _was_detached_used(step: Step) -> bool:
    """Say whether somebody has detached the home, and may have used it since its snapshot."""
    if not step.inputs.disk_exists or not _lacks_home_disk(step):
        return False
    copied_at, detached_at = step.operation.copied_at, step.inputs.home_detached_at
    later = copied_at is not None and detached_at is not None and detached_at > copied_at
    return later or bool(step.inputs.home_users)


def _is_in_use(step: Step) -> bool:
    """Say whether somebody has started a machine that is to be deleted because it was off.

    Once the deletion has begun, one that is STOPPING is going: a worker has died after its call.
    """
    state, attempt = observed_state(step.inputs.instance), step.operation.attempt
    going = attempt > 1 or (attempt == 1 and state is ObservedState.STOPPING)
    return state not in _OFF and not going


def _was_deleted_used(step: Step) -> bool:
    """Say whether somebody has deleted the machine who may have used it after the snapshot.

    If the machine is gone before the RESTORE deletes it, it was let go of since the snapshot.
    """
    operation, detached_at = step.operation, step.inputs.home_detached_at
    deletes = operation.phase is not Phase.DELETE_INSTANCE or operation.attempt > 0
    if step.has_switched or deletes or operation.copied_at is None or detached_at is None:
        return False
    return detached_at > operation.copied_at


def _can_be_remade(step: Step) -> bool:
    """Say whether a START can make a new machine although the home is not at its recorded place."""
    homes = sum(disk.name == step.workspace.disk_name for disk in step.inputs.disks)
    return step.operation.empty_home or homes == 1


def go_on_without_machine(step: Step) -> Updated:
    """Go on once the machine is gone.

    A START makes a new one on the same home and a RESTORE on the restored one. Anything else
    deletes the disks.
    """
    operation = step.operation
    if operation.kind is OperationKind.DELETE and step.inputs.elsewhere:
        return follow_machine(step, Phase.DELETE_INSTANCE)
    if step.needs_copy:
        return Go(Phase.SNAPSHOT)(step)
    unused = step.workspace.home_disk is None
    leaves_zone = unused and step.workspace.zone in operation.zones_tried
    makes = operation.failure is None and not leaves_zone
    if operation.kind is OperationKind.START and makes:
        return boot_new(step)
    if operation.kind is OperationKind.RESTORE and makes:
        return leave_started(step) if _was_deleted_used(step) else boot_restored(step)
    return Go(Phase.DELETE_DISK)(step)


def delete_disk(step: Step) -> Decision:
    """Delete one of the workspace's disks: first its home, then others, its own zone first.

    Only a DELETE looks for others: a boot disk that outlived its machine, a copy in another zone.
    It keeps the home if that is in no snapshot: somebody has used it since the last one was taken,
    perhaps while an earlier operation was to delete it.
    """
    zone = step.workspace.zone
    at_place = step.workspace.home_disk is not None and step.inputs.disk_exists
    deletes = step.operation.kind in TAKING_HOME
    copied = step.inputs.has_copy is not None and step.operation.last_copy is not None
    if at_place and deletes and step.keeps_copy and not copied:
        return _keep_uncopied(step)
    if step.may_leave_home and step.inputs.has_copy is None:
        return _keep_uncopied(replace(step, workspace=with_home(step.workspace)))
    if step.inputs.disk_exists:
        home = Place(zone, step.workspace.disk_name)
        return Call(DeleteDisk(home), Phase.AWAIT_DISK_ABSENT)
    disk = min(
        step.inputs.disks,
        key=lambda disk: (disk.zone != zone, disk.in_use, disk.zone, disk.name),
    )
    if disk.zone == zone:
        return Call(DeleteDisk(Place(zone, disk.name)), Phase.AWAIT_DISK_ABSENT)
    there = replace(without_home_here(step), workspace=replace(step.workspace, zone=disk.zone))
    return there.enter(Phase.DELETE_DISK, "DiskFoundElsewhere")


def without_home_here(step: Step) -> Step:
    """Return a step that leaves the home's zone: what has the home's name elsewhere is not it.

    If the home is a snapshot, that is the last copy.
    """
    copy = step.operation.last_copy or (step.workspace.own_source if step.keeps_copy else None)
    return replace(step, operation=replace(step.operation, last_copy=copy))


def _keep_uncopied(step: Step) -> Updated:
    """Keep a home of which there is no copy: take one, or fail if this DELETE has taken one."""
    if step.operation.last_copy is None:
        return Go(Phase.SNAPSHOT)(step)
    message = "Something has used the home disk since its last snapshot was taken."
    if step.inputs.home_users:
        users = ", ".join(f"instances/{user}" for user in step.inputs.home_users)
        message = f"{message} It is used by {users}. Detach it there."
    return fail(step, without_last_copy(step, message))


def go_on_without_disk(step: Step) -> Updated:
    """Go on once nothing is left in this zone.

    A DELETE forgets the record, an ARCHIVE and a CREATE that failed end, and any other goes to its
    next zone.
    """
    if step.operation.kind is OperationKind.DELETE:
        return Go(Phase.FORGET)(step)
    if step.operation.failure is not None:
        return end_failed(step, step.operation.failure)
    if step.operation.kind is OperationKind.ARCHIVE:
        return _end_archived(step)
    zone = next(iter(step.free_zones), step.workspace.zone)
    return replace(step, workspace=replace(step.workspace, zone=zone)).boot(Phase.INSERT)


def _end_archived(step: Step) -> Updated:
    """End an ARCHIVE: the home is a snapshot, and there is no machine."""
    archived = replace(step.workspace, archived_at=step.now, instance_id=None, machine_made_at=None)
    return replace(step, workspace=archived).finish(Status.SUSPENDED, "WorkspaceArchived")


def forget(step: Step) -> Change:
    """Forget the record, once no worker of a superseded operation can make a machine or a disk."""
    after = step.operation.forget_after
    if after is not None and step.now < after:
        return step.wait(after - step.now)
    if step.inputs.disk_exists:
        return Go(Phase.DELETE_DISK)(step)
    return Forgotten("WorkspaceDeleted", _copy_kept(step))


def _copy_kept(step: Step) -> HomeSource | None:
    """Return the snapshot by which the workspace can be taken back.

    The home of one that was taken back before may still be that snapshot.
    """
    source = step.workspace.home_source
    if not step.keeps_copy:
        return None
    if step.operation.last_copy is not None:
        return step.operation.last_copy
    return source if source is not None and source.is_of(step.workspace.id) else None
