"""Moves that lead to a machine that runs: find it, resume it, boot it, or make a new one."""

from dataclasses import dataclass, replace

from shared.domain.changes import Note, Updated, without_memory
from shared.domain.drift import (
    MACHINE_GONE,
    ObservedState,
    as_it_is,
    moved_to,
    observed_state,
    with_interval_of,
)
from shared.domain.instance import InsertInstance, Instance, RefreshMetadata
from shared.domain.ownership import has_another_home
from shared.domain.renewal import why_too_old
from shared.domain.snapshots import SNAPSHOT_GONE
from shared.domain.steps.failing import NO_CAPACITY, end_failed, fail, problem_of, way_out
from shared.domain.steps.moves import STOP
from shared.domain.steps.step import Call, Decision, Move, Step
from shared.domain.workspace import (
    FormerMachine,
    HomeDisk,
    Operation,
    OperationKind,
    Phase,
    Status,
    Workspace,
)

HOME_DISK_GONE = "HOME_DISK_GONE"
WAS_OFF = "The machine was off."


# ---- making a machine ----------------------------------------------------------------------------


def insert(step: Step) -> Decision:
    """Make the machine on the existing home disk, or with a new one from the recorded snapshot.

    A recorded home disk or snapshot that is gone is replaced by an empty home only if the request
    says so.
    """
    ws = step.workspace
    notes: tuple[Note, ...] = ()
    in_use = step.operation.kind is OperationKind.START and not step.has_switched
    if step.inputs.home_is_foreign and not in_use:
        return _fail_beside_foreign_home(step)
    if step.lacks_source:
        return _go_on_without_source(step)
    source = None if step.inputs.disk_exists else ws.home_source
    if ws.home_source is not None and step.inputs.home_is_foreign:
        why = f"The disk {ws.disk_name}, which the Hub has not made, is the home now."
        notes = (Note("HomeReplaced", why),)
    if step.lacks_home:
        if (followed := follow_home(step, Phase.SURVEY)) is not None:
            return followed
        if not step.operation.empty_home:
            return fail_without_home(step)
        why = f"The home disk {ws.disk_name} is gone, and an empty home was asked for."
        notes = (Note("HomeReplaced", why),)
    command = InsertInstance(
        place=step.place,
        workspace_id=ws.id,
        workspace_name=ws.name,
        owner_id=ws.owner_id,
        machine_type=ws.machine_type,
        image_tag=ws.image_tag,
        generation=ws.generation,
        home_disk=ws.disk_name,
        attach_home=step.inputs.disk_exists,
        repo=ws.metadata.repo,
        branch=ws.metadata.branch,
        home_snapshot=source.resource_name if source else None,
        home_gb=max(source.disk_gb if source else 0, _least_gb(step)) or None,
    )
    return Call(command, Phase.INSERTING, notes)


def _least_gb(step: Step) -> int:
    """Return how large a new home is at least: as large as it was, and as its START wants it."""
    return max(step.workspace.home_gb or 0, step.operation.home_gb or 0)


def _fail_beside_foreign_home(step: Step) -> Updated:
    """Fail because somebody else has made a disk under the home's name. It stays as it is.

    So there is nothing to clean up: no machine of ours can be made while it is there.
    """
    if step.has_switched:
        message = (
            f"A disk that the Hub has not made has the name {step.workspace.disk_name}, which the "
            f"new home needs, in zone {step.workspace.zone}. Delete that disk. "
            f"{way_out(step.operation)}"
        )
        return fail(step, problem_of(step, "COMPUTE_NAME_TAKEN", message))
    message = (
        f"A disk that the Hub has not made has the name {step.workspace.disk_name}, which the "
        f"home needs, in zone {step.workspace.zone}. Delete that disk, then start the workspace; "
        "a START uses the disk as the home if it is still there."
    )
    return end_failed(step, problem_of(step, "COMPUTE_NAME_TAKEN", message))


def _go_on_without_source(step: Step) -> Updated:
    """Fail because the snapshot cannot be used that the home is to be made from, or give it up.

    A move is never given an empty home: the one that there was is where it was.
    """
    source = step.workspace.home_source
    name = source.resource_name if source else ""
    gone = f"The snapshot that the home was to be made from ({name}) is gone, or cannot be used"
    if step.operation.empty_home and not step.has_switched:
        given_up = replace(step, workspace=replace(step.workspace, home_source=None))
        note = Note("HomeReplaced", f"{gone}, and an empty home was asked for.")
        return replace(given_up.enter(Phase.INSERT, "HomeSourceGivenUp"), notes=(note,))
    way = "Delete the workspace, or start it with empty_home to go on with an empty home."
    if source is not None and source.is_of(step.workspace.id):  # archived, or taken back
        way += (
            " If it has other snapshots, make another workspace from one of them, or restore one "
            "after that."
        )
    if step.has_switched:
        way = way_out(step.operation)
    return fail(step, problem_of(step, SNAPSHOT_GONE, f"{gone}. {way}"))


def follow_home(step: Step, phase: Phase) -> Updated | None:
    """Follow a home disk that was moved to another zone, and go on there with a phase.

    None unless there is exactly one.
    """
    homes = [disk for disk in step.inputs.disks if disk.name == step.workspace.disk_name]
    if len(homes) != 1:
        return None
    [home] = homes
    followed = replace(
        step.workspace, zone=home.zone, home_disk=HomeDisk(home.name, home.zone), instance_id=None
    )
    moved = replace(step, workspace=followed).enter(phase, "HomeFollowed")
    note = Note("HomeFollowed", f"The home disk is in zone {home.zone} now.")
    return replace(moved, notes=(note,))


def fail_without_home(step: Step) -> Updated:
    """Fail because the home disk is gone, or is in several zones and only a person can choose."""
    name, recorded = step.workspace.disk_name, step.workspace.home_disk
    was = f"disk {name} in zone {recorded.zone if recorded else step.workspace.zone}"
    zones = sorted(disk.zone for disk in step.inputs.disks if disk.name == name)
    if zones:
        message = (
            f"The home ({was}) is in several zones now: {', '.join(zones)}. "
            "Keep one of them, then start the workspace."
        )
    else:
        message = (
            f"The home ({was}) was deleted outside the Hub. Restore it from a snapshot under that "
            "name and start the workspace, or start it with empty_home to go on with an empty one."
        )
    return fail(step, problem_of(step, HOME_DISK_GONE, message))


def take_inserted(step: Step) -> Updated:
    """Take a machine that an earlier delivery of this step has made, and wait for its report.

    Its home, which that may have made too, is as large as it is seen to be. A machine with another
    home is not it: an earlier RESTORE or move has left it.
    """
    instance = step.inputs.instance
    if instance is not None and step.has_switched and has_another_home(step.workspace, instance):
        return _make_way(step, instance)
    known = replace(
        with_interval_of(step.workspace, instance),
        instance_id=instance.id if instance else None,
        machine_made_at=instance.created_at if instance else None,
        home_gb=step.inputs.home_gb or step.workspace.home_gb,
    )
    found, state = replace(step, workspace=known), observed_state(instance)
    if state is ObservedState.RUNNING:
        return found.await_report("InstanceFound")
    # A machine that boots may yet turn out to have no capacity.
    booting = state is ObservedState.BOOTING
    return found.enter(Phase.INSERTING if booting else Phase.AWAIT_READY, "InstanceFound")


def _make_way(step: Step, instance: Instance) -> Updated:
    """Delete a machine that nobody ever used, so that the new one can have its name.

    If it is not known as one of those, it stays, and the operation ends.
    """
    unproven = {
        old.name
        for old in step.workspace.old_homes
        if old.zone == instance.zone and not old.outlived
    }
    if unproven & {*instance.disks}:
        return step.enter(Phase.DELETE_INSTANCE, "LeftMachineFound")
    message = (
        f"A machine with another home of the workspace has the name {instance.name} in zone "
        f"{instance.zone}. Delete that machine. {way_out(step.operation)}"
    )
    return end_failed(step, problem_of(step, "COMPUTE_NAME_TAKEN", message))


# ---- booting a machine ---------------------------------------------------------------------------


def refresh_metadata(step: Step) -> Call:
    """Write the machine's metadata before it boots."""
    ws = step.workspace
    command = RefreshMetadata(
        place=step.place,
        workspace_id=ws.id,
        workspace_name=ws.name,
        image_tag=ws.image_tag,
        generation=ws.generation,
        repo=ws.metadata.repo,
        branch=ws.metadata.branch,
    )
    return Call(command, Phase.AWAIT_METADATA)


def boot_new(step: Step) -> Updated:
    """Boot a new machine, since there is none. A START makes at most one."""
    remade = replace(step, operation=replace(step.operation, remade=True))
    return _boot(remade, Phase.INSERT, "The machine is gone.")


def boot_restored(step: Step) -> Updated:
    """Boot a new machine on a new disk from the snapshot that is to be restored.

    The former home stays: the operation has it, to go back to. From now on it may take as long as a
    CREATE.
    """
    workspace, operation = step.workspace, step.operation
    if operation.restores is not None and not step.has_switched:
        source = replace(operation.restores, new_disk=_new_home(workspace))
        was_gb = max(workspace.home_gb or 0, step.inputs.home_gb or 0) or None
        operation = replace(
            operation,
            former_home=workspace.home_disk,
            former_detached_at=operation.former_detached_at or step.inputs.home_detached_at,
            deadline_at=step.now + step.policy.deadlines.create,
        )
        workspace = replace(workspace, home_disk=None, home_source=source, home_gb=was_gb)
    restoring = replace(step, workspace=workspace, operation=operation)
    return _boot(restoring, Phase.INSERT, "The home was restored.")


def boot_elsewhere(step: Step) -> Updated:
    """Boot a new machine in another zone, on a new disk of the snapshot of the home.

    The former machine and home stay: the operation has them, to go back to. If somebody has started
    the machine since the snapshot was taken, the START fails.
    """
    workspace, operation = step.workspace, step.operation
    if has_run_since_copy(step):
        return leave_started(step)
    copy = operation.last_copy
    tried = operation.zones_tried
    if operation.to_zone is None:  # else there may be capacity: it was not tried
        tried = tuple(sorted({workspace.zone, *tried}))
    operation = replace(operation, former_home=workspace.home_disk, zones_tried=tried)
    free = replace(step, operation=operation).free_zones
    if copy is None or not free:
        message = (
            f"There is no zone to move to. The workspace is in zone {workspace.zone}, as it was. "
            "Start it to go on there when that has capacity."
        )
        return fail(step, problem_of(step, NO_CAPACITY, message, retryable=True))
    there = step.inputs.instance
    machine = FormerMachine(
        workspace.instance_id if there is not None else None,
        workspace.generation,
        workspace.ready_generation,
        workspace.machine_made_at,
        workspace.image_tag,
        workspace.machine_type,
        there.id if there is not None else None,
    )
    switched = replace(
        operation,
        former_machine=machine,
        deadline_at=step.now + step.policy.deadlines.create,
        remade=True,
    )
    source = replace(copy, new_disk=_new_home(workspace))
    moved = replace(
        with_wanted(workspace, operation), zone=free[0], home_disk=None, home_source=source
    )
    return replace(step, workspace=moved, operation=switched).boot(Phase.INSERT)


def with_wanted(workspace: Workspace, operation: Operation) -> Workspace:
    """Return the workspace with image and machine type as its START wants them."""
    return replace(
        workspace,
        image_tag=operation.image_tag or workspace.image_tag,
        machine_type=operation.machine_type or workspace.machine_type,
    )


def _new_home(workspace: Workspace) -> str:
    """Return the name of a new disk that no earlier home of the workspace has, in any zone.

    After a move that has failed, the generation is what it was before.
    """
    homes = [workspace.disk_name, *(old.name for old in workspace.old_homes)]
    number = workspace.generation + 1
    while (name := f"home-{workspace.id}-{number}") in homes:
        number += 1
    return name


_WAS_ON = {ObservedState.BOOTING, ObservedState.RUNNING, ObservedState.SUSPENDING}


def has_run_since_copy(step: Step) -> bool:
    """Say whether the machine was started after the snapshot of its home was taken.

    If it is off again, Compute's two times tell.
    """
    instance, copied_at = step.inputs.instance, step.operation.copied_at
    if observed_state(instance) in _WAS_ON:
        return True
    if instance is None or instance.off_since is None or copied_at is None:
        return False
    return instance.off_since > copied_at


def leave_started(step: Step) -> Updated:
    """Fail because somebody has used machine or home since the snapshot of the home was taken."""
    done, again = "moved", "Start it again"
    if step.operation.kind is OperationKind.RESTORE:
        done, again = "restored", "Restore the home again"
    used, way = "The machine was started", f"{again}; that shuts the machine down."
    if not has_run_since_copy(step):
        used, way = (
            "The home was detached from its machine",
            f"{again}, once no other machine has it.",
        )
    message = (
        f"{used} outside the Hub while the home was to be {done}, so what is written now is in no "
        f"snapshot. Nothing was {done}. {way}"
    )
    return fail(step, problem_of(step, "MACHINE_STARTED", message, retryable=True))


def boot_off(step: Step) -> Updated:
    """Boot a machine that is off. One that is too old is made anew, once in a START."""
    instance = step.inputs.instance
    created_at = instance.created_at if instance else None
    why = why_too_old(created_at or step.workspace.machine_made_at, step.now, step.policy)
    if why is not None and not step.operation.remade:
        return _renew(step, why)
    return _boot(step, Phase.SET_METADATA, WAS_OFF)


def _renew(step: Step, why: str) -> Updated:
    """Make a new machine although this one could be booted, because it is too old.

    The new one has the type that the old one has now: somebody may have changed it while it was
    off.
    """
    known, instance = step.workspace, step.inputs.instance
    known, notes = as_it_is(known, instance) if instance else (known, ())
    without, lost = without_memory(known, WAS_OFF)
    renewing = replace(step, workspace=without, operation=replace(step.operation, renews=True))
    change = remake(renewing, why)
    return replace(change, notes=(*notes, *lost, *change.notes))


def boot_although_old(step: Step, said: str) -> Updated:
    """Boot a machine that is only too old, since Compute does not let it be deleted."""
    kept = replace(
        step.operation,
        renews=False,
        cannot_go_on=None,
        last_fault=None,
        last_fault_kind=None,
        right_missing_since=None,
    )
    change = replace(step, operation=kept).enter(Phase.SURVEY, "RenewalGivenUp")
    why = (
        "The machine is too old, but it could not be deleted, so it is booted as it is. "
        f"Compute Engine said: {said}"
    )
    return replace(change, notes=(Note("MachineNotRemade", why),))


def _boot(step: Step, phase: Phase, why: str) -> Updated:
    without, notes = without_memory(step.workspace, why)
    return replace(replace(step, workspace=without).boot(phase), notes=notes)


def remake(step: Step, why: str) -> Updated:
    """Make a new machine on the same home, since the present one cannot be brought to READY."""
    remade = replace(
        step.operation, remade=True, cannot_go_on=why, last_fault=None, last_fault_kind=None
    )
    change = replace(step, operation=remade).enter(Phase.DELETE_INSTANCE, "MachineRemade")
    return replace(change, notes=(Note("MachineRemade", why),))


def fail_stopped(step: Step) -> Updated:
    """Fail because the machine was stopped while it booted."""
    message = (
        "The machine was stopped while it booted, by hand or because its capacity was taken back. "
        f"{way_out(step.operation)}"
    )
    return fail(step, problem_of(step, "MACHINE_STOPPED", message, retryable=True))


# ---- finding a machine ---------------------------------------------------------------------------


def follow_machine(step: Step, phase: Phase) -> Updated:
    """Follow a machine that was moved to another zone. Of several, only a person can choose one."""
    machine, *others = step.inputs.elsewhere
    if others and step.operation.kind is not OperationKind.DELETE:
        zones = ", ".join(sorted(instance.zone for instance in step.inputs.elsewhere))
        message = (
            f"There are machines of this workspace in several zones ({zones}). "
            "Delete all but one, then start the workspace."
        )
        return fail(step, problem_of(step, "MACHINE_AMBIGUOUS", message))
    moved, notes = moved_to(step.workspace, machine)
    return replace(replace(step, workspace=moved).enter(phase, "MachineFollowed"), notes=notes)


def follow_or_make(step: Step) -> Updated:
    """Follow a machine that was moved to another zone; if there is none, make a new one."""
    return follow_machine(step, Phase.SURVEY) if step.inputs.elsewhere else boot_new(step)


def follow_or_fail(step: Step) -> Updated:
    """Fail because there is no machine, unless it was moved to another zone.

    A STOP of a workspace in ERROR keeps the reason for that: it may never have had a machine.
    """
    if step.inputs.elsewhere:
        return follow_machine(step, step.operation.phase)
    if step.operation.kind is OperationKind.STOP and step.workspace.error is not None:
        return fail(step, step.workspace.error)
    off = replace(step, workspace=turned_off(step.workspace))
    keeps = step.operation.kind is OperationKind.RESTORE or step.operation.moves
    if keeps and not step.has_switched:
        return off.enter(Phase.SNAPSHOT, "PhaseEntered")  # it needs no machine
    if step.operation.kind is OperationKind.ARCHIVE:
        return off.enter(Phase.DELETE_INSTANCE, "PhaseEntered")  # what it would do is done
    message = (
        "The machine was deleted outside the Hub. "
        "Start the workspace to get a new machine on its home disk."
    )
    return fail(step, problem_of(step, MACHINE_GONE, message))


def turned_off(workspace: Workspace) -> Workspace:
    """Return a workspace whose machine is off in the middle of an operation: it is not READY."""
    off = replace(workspace, machine_running=False, running_since=None)
    return replace(off, status=Status.SUSPENDED) if off.status is Status.READY else off


def use_or_stop(step: Step) -> Decision:
    """Use a running machine whose boot has reported ready. Stop any other, to boot it again."""
    if step.workspace.memory_is_ready:
        return step.finish(Status.READY, "WorkspaceReady")
    return STOP(step)


# ---- what has to hold before a machine is used ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class IfRecorded:
    """Make the move if the machine is the recorded one.

    If none is recorded, the machine will not do, and a new one is made: a START that was to change
    image or machine type has failed before it deleted the old machine. A machine with another id
    was made anew by hand at the same place. It is taken as the workspace's, and booted again, since
    its own boot is not one that the Hub asked for.
    """

    move: Move

    def __call__(self, step: Step) -> Decision:
        """Make the move."""
        instance = step.inputs.instance
        if step.sees_recorded_machine:
            return self.move(step)
        if instance is None or step.workspace.instance_id is None:
            remade = replace(step, operation=replace(step.operation, remade=True))
            return remade.enter(Phase.DELETE_INSTANCE, "PhaseEntered")
        without, notes = without_memory(
            step.workspace, "The machine was made anew outside the Hub."
        )
        known = replace(without, instance_id=instance.id, machine_made_at=instance.created_at)
        found = replace(step, workspace=known).enter(Phase.SURVEY, "InstanceFound")
        return replace(found, notes=notes)


@dataclass(frozen=True, slots=True)
class UnlessStuck:
    """Make the move, unless it was tried and cannot work: then make a new machine, once."""

    move: Move

    def __call__(self, step: Step) -> Decision:
        """Make the move."""
        why = step.operation.cannot_go_on
        return self.move(step) if why is None or step.operation.remade else remake(step, why)


@dataclass(frozen=True, slots=True)
class UnlessHomeless:
    """Make the move, unless the home disk was detached: only a new machine can attach it again.

    Nor is it made on a machine that has another home of the workspace's.
    """

    move: Move

    def __call__(self, step: Step) -> Decision:
        """Make the move."""
        home, instance = step.workspace.home_disk, step.inputs.instance
        attached = instance.disks if instance else ()
        if instance is not None and has_another_home(step.workspace, instance):
            why = "The machine has an earlier home disk, so a new one was made without it."
        elif home is not None and home.name not in attached:
            why = "The home disk was detached from the machine, so a new machine was made with it."
        else:
            return self.move(step)
        return self.move(step) if step.operation.remade else remake(step, why)
