"""What an observed machine means for a workspace without an operation under way.

The worker's looks, ``reconcile`` and the status function share one table. ``REPAIRING`` is a
machine that Compute itself is about to bring back; so it counts as booting. The states between two
others mean nothing yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from shared.domain.changes import Note, Updated, with_home, without_memory
from shared.domain.instance import Instance, InstanceState
from shared.domain.machine_access import attends_at
from shared.domain.policy import Policy
from shared.domain.workspace import Activity, HomeDisk, Problem, Status, StopReason, Workspace

MACHINE_GONE = "MACHINE_GONE"
MACHINE_NOT_READY = "MACHINE_NOT_READY"


class ObservedState(Enum):
    """The instance states that decisions tell apart."""

    ABSENT = "absent"
    BOOTING = "booting"
    RUNNING = "running"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    STOPPING = "stopping"
    TERMINATED = "terminated"


_OBSERVED = {
    InstanceState.PROVISIONING: ObservedState.BOOTING,
    InstanceState.STAGING: ObservedState.BOOTING,
    InstanceState.REPAIRING: ObservedState.BOOTING,
    InstanceState.RUNNING: ObservedState.RUNNING,
    InstanceState.SUSPENDING: ObservedState.SUSPENDING,
    InstanceState.SUSPENDED: ObservedState.SUSPENDED,
    InstanceState.PENDING_STOP: ObservedState.STOPPING,
    InstanceState.STOPPING: ObservedState.STOPPING,
    InstanceState.TERMINATED: ObservedState.TERMINATED,
}


def observed_state(instance: Instance | None) -> ObservedState:
    """Return the observed state of a machine. None stands for one that does not exist."""
    return ObservedState.ABSENT if instance is None else _OBSERVED[instance.state]


_BETWEEN = {ObservedState.BOOTING, ObservedState.SUSPENDING, ObservedState.STOPPING}
_GONE = (
    "The workspace's machine was deleted outside the Hub. "
    "Start the workspace to get a new machine on its home disk."
)
_NOT_READY = (
    "The workspace's machine was started outside the Hub and has not reported ready. "
    "Start the workspace to boot it again."
)
_STOPPED = (
    "The workspace's machine was stopped outside the Hub, by hand or because Compute Engine took "
    "its capacity back. Start the workspace to boot it again."
)


@dataclass(frozen=True, slots=True)
class Observation:
    """What the record should say.

    ``settled`` is False while the machine is between two states: look again later.
    """

    status: Status
    machine_running: bool
    settled: bool
    problem: Problem | None = None


def observe(workspace: Workspace, instance: Instance | None, now: datetime) -> Observation:
    """Say what an instance, or its absence, means for the record.

    ========== ===================================== ==========================================
    state      ``Workspace.memory_is_ready``         otherwise
    ========== ===================================== ==========================================
    RUNNING    READY                                 ERROR, MACHINE_NOT_READY
    SUSPENDED  SUSPENDED                             SUSPENDED
    TERMINATED SUSPENDED, and why if it was READY    SUSPENDED
    absent     ERROR, MACHINE_GONE                   ERROR, MACHINE_GONE
    others     as recorded, look again               as recorded, look again
    ========== ===================================== ==========================================

    If a SUSPENDED workspace has no machine recorded, none is missing: its home disk waits for
    capacity. A workspace in ERROR stays there with its reason, whatever is observed, until a person
    starts or deletes it; the record only learns whether its machine runs. An exception is
    ``MACHINE_NOT_READY``: it is itself an observation, and another one replaces it.
    """
    state, error = observed_state(instance), workspace.error
    running = state is ObservedState.RUNNING
    if state in _BETWEEN:
        return Observation(
            workspace.status, workspace.machine_running, settled=False, problem=error
        )
    overcome = error is not None and error.code == MACHINE_NOT_READY
    if workspace.status is Status.ERROR and not overcome:
        return Observation(Status.ERROR, running, settled=True, problem=error)
    suspended = workspace.status is Status.SUSPENDED
    if state is ObservedState.ABSENT and not (suspended and workspace.instance_id is None):
        gone = Problem(MACHINE_GONE, _GONE, retryable=False, at=now)
        return Observation(Status.ERROR, machine_running=False, settled=True, problem=gone)
    if running and not workspace.memory_is_ready:
        unready = Problem(MACHINE_NOT_READY, _NOT_READY, retryable=False, at=now)
        return Observation(Status.ERROR, machine_running=True, settled=True, problem=unready)
    ready = workspace.status is Status.READY
    if running:
        problem = error if ready else None
        return Observation(Status.READY, machine_running=True, settled=True, problem=problem)
    problem = error if suspended else None
    if ready and state is ObservedState.TERMINATED:
        problem = Problem("MACHINE_STOPPED", _STOPPED, retryable=True, at=now)
    return Observation(Status.SUSPENDED, machine_running=False, settled=True, problem=problem)


def has_drifted(workspace: Workspace, instance: Instance | None, now: datetime) -> bool:
    """Say whether the record differs from the machine in a way that should be acted on.

    False while an operation is under way: its steps look at the machine themselves.
    """
    if workspace.operation is not None:
        return False
    if instance is not None and as_it_is(workspace, instance)[0] != workspace:
        return True
    observation = observe(workspace, instance, now)
    observed = (observation.status, observation.machine_running)
    if not observation.settled or observed != (workspace.status, workspace.machine_running):
        return True
    off = observed_state(instance) is ObservedState.TERMINATED
    return off and workspace.ready_generation is not None  # its memory is gone


def seeks_elsewhere(workspace: Workspace, instance: Instance | None) -> bool:
    """Say whether a look needs the machines in other zones: none is at the recorded place."""
    return workspace.operation is None and instance is None


def adopt_observed(
    workspace: Workspace,
    instance: Instance | None,
    now: datetime,
    policy: Policy,
    elsewhere: Sequence[Instance] = (),
) -> Updated | None:
    """Make the record follow what is observed. None if it does, or if an operation is under way.

    A machine between two states is looked at again later. One that was resumed by hand counts as
    connected to now, so the idle sweep gives it the full idle time. One that is off has lost its
    memory, so the next START boots it. One that was moved to another zone is followed if it is the
    only one (``elsewhere``), with its home disk if that is attached. Its machine type, its id, its
    creation time and its heartbeat interval are recorded as they are.
    """
    if workspace.operation is not None:
        return None
    recorded = workspace
    workspace, instance, notes = _found(workspace, instance, elsewhere)
    observation = observe(workspace, instance, now)
    if not observation.settled:
        if workspace.attend_at is not None and workspace.attend_at > now:
            return None
        awaited = replace(workspace, attend_at=now + policy.attend_after, updated_at=now)
        return Updated(awaited, "DriftAwaited", notes=notes)
    if observed_state(instance) in {ObservedState.TERMINATED, ObservedState.ABSENT}:
        done = "deleted" if instance is None else "shut down"
        workspace, lost = without_memory(workspace, f"The machine was {done} outside the Hub.")
        workspace = replace(workspace, ready_generation=None)
        notes += lost
    if instance is None:
        workspace = replace(workspace, machine_made_at=None)
    followed = _followed(workspace, observation, now)
    if followed == recorded:
        return None
    if observation.machine_running and not workspace.machine_running:
        followed = replace(
            followed,
            last_connected_at=now,
            last_activity=Activity.STARTED,
            running_since=instance.last_started_at if instance else None,
        )
    return Updated(replace(followed, updated_at=now), "DriftFollowed", notes=notes)


def _found(
    workspace: Workspace, instance: Instance | None, elsewhere: Sequence[Instance]
) -> tuple[Workspace, Instance | None, tuple[Note, ...]]:
    """Return the workspace with what its machine is, the machine, and what to note."""
    notes: tuple[Note, ...] = ()
    if instance is None and len(elsewhere) == 1:
        [instance] = elsewhere
        workspace, notes = moved_to(workspace, instance)
    if instance is None:
        return workspace, None, notes
    workspace, more = as_it_is(workspace, instance)
    return workspace, instance, (*notes, *more)


def _followed(workspace: Workspace, observation: Observation, now: datetime) -> Workspace:
    """Return the record with a settled observation in it."""
    asleep = observation.status is Status.SUSPENDED
    if observation.status is Status.READY:
        workspace = with_home(workspace)  # from here on people can work in it
    because = workspace.stopped_because if workspace.suspended_at else StopReason.OUTSIDE
    followed = replace(
        workspace,
        status=observation.status,
        machine_running=observation.machine_running,
        error=observation.problem,
        attend_at=None,
        suspended_at=(workspace.suspended_at or now) if asleep else None,
        stopped_because=because if asleep else None,
        kept_awake_until=None if asleep else workspace.kept_awake_until,
        running_since=workspace.running_since if observation.machine_running else None,
    )
    return replace(followed, attend_at=attends_at(followed))


def moved_to(workspace: Workspace, machine: Instance) -> tuple[Workspace, tuple[Note, ...]]:
    """Return the workspace moved to a machine in another zone, and what to note.

    Its home moves if it is attached to that machine. Its memory is lost: the machine booted anew
    there.
    """
    home = workspace.home_disk
    if home is not None and home.name in machine.disks:
        home = HomeDisk(home.name, machine.zone)
    without, lost = without_memory(
        workspace, f"The machine was moved to zone {machine.zone} outside the Hub."
    )
    # If no machine is recorded, a new one is wanted, and the moved one will not do either.
    unwanted = workspace.instance_id is None
    moved = replace(
        without,
        zone=machine.zone,
        instance_id=None if unwanted else machine.id,
        machine_made_at=None if unwanted else machine.created_at,
        home_disk=home,
        ready_generation=None,
    )
    return moved, (Note("MachineFollowed", f"The machine is in zone {machine.zone} now."), *lost)


def as_it_is(workspace: Workspace, instance: Instance) -> tuple[Workspace, tuple[Note, ...]]:
    """Return the workspace with its machine's id, type and interval, and notes of what changed.

    A home on which the machine has booted is recorded, whatever has failed since. If no machine is
    recorded, the workspace wants a new one, and the present one says nothing more about it.
    """
    workspace = with_used_home(workspace, instance)
    if workspace.instance_id is None:
        return workspace, ()
    notes: tuple[Note, ...] = ()
    if instance.id != workspace.instance_id:
        why = "The machine was made anew outside the Hub."
        workspace, lost = without_memory(workspace, why)
        workspace = replace(
            workspace, instance_id=instance.id, ready_generation=None, machine_made_at=None
        )
        notes = (Note("MachineFollowed", why), *lost)
    if instance.machine_type != workspace.machine_type:
        was = f"from {workspace.machine_type} to {instance.machine_type}"
        notes += (
            Note("MachineTypeFollowed", f"The machine type was changed outside the Hub, {was}."),
        )
    known = replace(
        with_interval_of(workspace, instance),
        machine_type=instance.machine_type,
        machine_made_at=workspace.machine_made_at or instance.created_at,
    )
    return known, notes


def with_used_home(workspace: Workspace, instance: Instance | None) -> Workspace:
    """Return the workspace with its home disk recorded if a machine has booted on it."""
    booted = observed_state(instance) not in {ObservedState.ABSENT, ObservedState.BOOTING}
    used = instance is not None and booted and workspace.disk_name in instance.disks
    return with_home(workspace) if used else workspace


def with_interval_of(workspace: Workspace, instance: Instance | None) -> Workspace:
    """Return the workspace with the heartbeat interval that its machine has in its metadata."""
    every = instance.heartbeat_interval if instance else None
    if every is None:
        return workspace
    return replace(workspace, heartbeat_seconds=round(every.total_seconds()))
