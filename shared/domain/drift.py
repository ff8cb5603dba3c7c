"""What an observed machine means for a workspace on which no operation is under way.

One table, shared by the worker's looks, by ``reconcile`` and by the status function. ``REPAIRING``
is a machine that Compute itself is about to bring back; the other states on the way say nothing
yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from shared.domain.changes import Note, Updated, without_memory
from shared.domain.instance import Instance, InstanceState
from shared.domain.policy import Policy
from shared.domain.workspace import Activity, HomeDisk, Problem, Status, StopReason, Workspace

MACHINE_GONE = "MACHINE_GONE"
MACHINE_NOT_READY = "MACHINE_NOT_READY"


class ObservedState(Enum):
    """The instance states, as far as decisions tell them apart."""

    ABSENT = "absent"
    BOOTING = "booting"
    RUNNING = "running"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    STOPPING = "stopping"
    TERMINATED = "terminated"


_SIGHTS = {
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
    """Return what is seen of a machine; None is one that does not exist."""
    return ObservedState.ABSENT if instance is None else _SIGHTS[instance.state]


@dataclass(frozen=True, slots=True)
class Observation:
    """What the record should say. ``settled`` is False while the machine is on its way: look again later."""

    status: Status
    machine_running: bool
    settled: bool
    problem: Problem | None = None


def observe(workspace: Workspace, instance: Instance | None, now: datetime) -> Observation:
    """Say what an instance, or its absence, means for the record.

    ========== ===================================== ==========================================
    seen       the machine's memory is a ready one   it is not (``Workspace.memory_is_ready``)
    ========== ===================================== ==========================================
    RUNNING    READY                                 ERROR, MACHINE_NOT_READY
    SUSPENDED  SUSPENDED                             SUSPENDED
    TERMINATED SUSPENDED, and why if it was READY    SUSPENDED
    absent     ERROR, MACHINE_GONE                   ERROR, MACHINE_GONE
    others     as recorded, look again               as recorded, look again
    ========== ===================================== ==========================================

    A SUSPENDED workspace of which no machine is recorded is as it should be when there is none: its
    home disk waits for capacity. A workspace in ERROR stays there whatever is seen, with its
    reason, until a person starts or deletes it; only whether its machine runs is learnt.
    ``MACHINE_NOT_READY`` is itself no more than what was seen, and goes when something else is.
    """
    seen = observed_state(instance)
    running = seen is ObservedState.RUNNING
    if seen in {ObservedState.BOOTING, ObservedState.SUSPENDING, ObservedState.STOPPING}:
        return Observation(
            workspace.status, workspace.machine_running, settled=False, problem=workspace.error
        )
    overcome = workspace.error is not None and workspace.error.code == MACHINE_NOT_READY
    if workspace.status is Status.ERROR and not overcome:
        return Observation(Status.ERROR, running, settled=True, problem=workspace.error)
    if (
        seen is ObservedState.ABSENT
        and workspace.status is Status.SUSPENDED
        and workspace.instance_id is None
    ):
        return Observation(
            Status.SUSPENDED, machine_running=False, settled=True, problem=workspace.error
        )
    if seen is ObservedState.ABSENT:
        gone = Problem(
            MACHINE_GONE,
            "The workspace's machine was deleted outside the Hub. Start the workspace to get a new machine on its home disk.",
            retryable=False,
            at=now,
        )
        return Observation(Status.ERROR, machine_running=False, settled=True, problem=gone)
    if running and not workspace.memory_is_ready:
        unready = Problem(
            MACHINE_NOT_READY,
            "The workspace's machine was started outside the Hub and has not reported ready. Start the workspace to boot it again.",
            retryable=False,
            at=now,
        )
        return Observation(Status.ERROR, machine_running=True, settled=True, problem=unready)
    if running:
        problem = workspace.error if workspace.status is Status.READY else None
        return Observation(Status.READY, machine_running=True, settled=True, problem=problem)
    problem = workspace.error if workspace.status is Status.SUSPENDED else None
    if workspace.status is Status.READY and seen is ObservedState.TERMINATED:
        problem = Problem(
            "MACHINE_STOPPED",
            "The workspace's machine was stopped outside the Hub, by hand or because Compute Engine took its capacity back. "
            "Start the workspace to boot it again.",
            retryable=True,
            at=now,
        )
    return Observation(Status.SUSPENDED, machine_running=False, settled=True, problem=problem)


def has_drifted(workspace: Workspace, instance: Instance | None, now: datetime) -> bool:
    """Say whether the record is not what the machine is, as far as anybody should act on it.

    False while an operation is under way: then it is the operation's own business.
    """
    if workspace.operation is not None:
        return False
    if instance is not None and as_it_is(workspace, instance)[0] != workspace:
        return True
    seen = observe(workspace, instance, now)
    if not seen.settled or (seen.status, seen.machine_running) != (
        workspace.status,
        workspace.machine_running,
    ):
        return True
    return (
        observed_state(instance) is ObservedState.TERMINATED
        and workspace.ready_generation is not None
    )  # its memory is gone


def seeks_elsewhere(workspace: Workspace, instance: Instance | None) -> bool:
    """Say whether a look goes by the workspace's machines in other zones: there is none where it should be."""
    return workspace.operation is None and instance is None


def adopt_observed(
    workspace: Workspace,
    instance: Instance | None,
    now: datetime,
    policy: Policy,
    elsewhere: Sequence[Instance] = (),
) -> Updated | None:
    """Make the record follow what is seen, where no operation is under way. None when it is so already.

    A machine on its way is looked at again later. One that somebody resumed by hand counts as
    connected to now: the idle sweep gives it the full idle time. One that is off has lost its
    memory: it is booted, not thawed, next time. One that somebody moved to another zone is
    followed, if it is the only one (``elsewhere``); its home too, if it has it. Its machine type,
    its id, when it was made and the interval that it reports with are recorded as they are.
    """
    if workspace.operation is not None:
        return None
    notes: tuple[Note, ...] = ()
    recorded = workspace
    if instance is None and len(elsewhere) == 1:
        instance = elsewhere[0]
        workspace, notes = moved_to(workspace, instance)
    if instance is not None:
        workspace, more = as_it_is(workspace, instance)
        notes += more
    seen = observe(workspace, instance, now)
    if not seen.settled:
        if workspace.attend_at is not None and workspace.attend_at > now:
            return None
        return Updated(
            replace(workspace, attend_at=now + policy.attend_after, updated_at=now),
            "DriftAwaited",
            notes=notes,
        )
    if observed_state(instance) in {ObservedState.TERMINATED, ObservedState.ABSENT}:
        done = "deleted" if instance is None else "shut down"
        workspace, lost = without_memory(workspace, f"The machine was {done} outside the Hub.")
        notes += lost
    asleep = seen.status is Status.SUSPENDED
    home = workspace.home_disk
    if seen.status is Status.READY and home is None:  # somebody can work in it from here on
        home = HomeDisk(workspace.disk_name, workspace.zone)
    followed = replace(
        workspace,
        status=seen.status,
        machine_running=seen.machine_running,
        home_disk=home,
        error=seen.problem,
        attend_at=None,
        suspended_at=(workspace.suspended_at or now) if asleep else None,
        stopped_because=(
            workspace.stopped_because if workspace.suspended_at else StopReason.OUTSIDE
        )
        if asleep
        else None,
        machine_made_at=None if instance is None else workspace.machine_made_at,
        ready_generation=None
        if observed_state(instance) in {ObservedState.TERMINATED, ObservedState.ABSENT}
        else workspace.ready_generation,
    )
    if followed == recorded:
        return None
    if seen.machine_running and not workspace.machine_running:
        followed = replace(followed, last_connected_at=now, last_activity=Activity.STARTED)
    return Updated(replace(followed, updated_at=now), "DriftFollowed", notes=notes)


def moved_to(workspace: Workspace, machine: Instance) -> tuple[Workspace, tuple[Note, ...]]:
    """Return the workspace at the place of a machine in another zone, and what to note; with its home, if that machine has it.

    It booted anew there, so its memory is another one.
    """
    home = workspace.home_disk
    if home is not None and home.name in machine.disks:
        home = HomeDisk(home.name, machine.zone)
    forgetful, lost = without_memory(
        workspace, f"The machine was moved to zone {machine.zone} outside the Hub."
    )
    # Where no machine is recorded, a new one is wanted: the one that was moved will not do any more
    # than it did before.
    unwanted = workspace.instance_id is None
    moved = replace(
        forgetful,
        zone=machine.zone,
        instance_id=None if unwanted else machine.id,
        machine_made_at=None if unwanted else machine.created_at,
        home_disk=home,
        ready_generation=None,
    )
    return moved, (Note("MachineFollowed", f"The machine is in zone {machine.zone} now."), *lost)


def as_it_is(workspace: Workspace, instance: Instance) -> tuple[Workspace, tuple[Note, ...]]:
    """Return the workspace with what its machine is, and what to note: made anew by hand, of another type, reporting at another interval.

    A workspace of which no machine is recorded wants a new one: what there is says nothing about
    it.
    """
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


def with_interval_of(workspace: Workspace, instance: Instance | None) -> Workspace:
    """Return the workspace with the heartbeat interval that its machine has in its metadata."""
    every = instance.heartbeat_interval if instance else None
    if every is None:
        return workspace
    return replace(workspace, heartbeat_seconds=round(every.total_seconds()))
