"""A step: what it is decided on, what it may decide, and what has to be read for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.domain.changes import Change, Note, Updated, finish, job_of
from shared.domain.durations import phases_until
from shared.domain.instance import (
    Command,
    Disk,
    DiskSnapshot,
    Fault,
    Instance,
    Place,
    SnapshotStatus,
)
from shared.domain.jobs import PROMPTLY
from shared.domain.policy import Policy
from shared.domain.snapshots import is_of_disk
from shared.domain.workspace import (
    HomeSource,
    Operation,
    OperationKind,
    Phase,
    Problem,
    Status,
    Workspace,
)

# The phases whose step depends on the workspace's disks instead of its machine.
DISK_PHASES = {Phase.DELETE_DISK, Phase.AWAIT_DISK_ABSENT}

# The phases whose step depends on a snapshot of the home.
SNAPSHOT_PHASES = {Phase.SNAPSHOT, Phase.AWAIT_SNAPSHOT, Phase.AWAIT_STORED}

# The phases in which the home grows.
GROWING_PHASES = {Phase.RESIZE_DISK, Phase.AWAIT_RESIZED}

# The phases in which an operation's own snapshot may be made in Compute and has no record yet.
UNCAPTURED_PHASES = {Phase.SNAPSHOT, Phase.AWAIT_SNAPSHOT}

# The operations that delete the home disk once there is a copy of it.
TAKING_HOME = {OperationKind.DELETE, OperationKind.ARCHIVE}

ARCHIVED = "The workspace is archived."  # why its memory is lost

# For each phase that waits for a call of Compute, the phase that makes the call. A new attempt
# goes back there.
CALLING_PHASE = {
    Phase.INSERTING: Phase.INSERT,
    Phase.AWAIT_METADATA: Phase.SET_METADATA,
    Phase.STARTING: Phase.START,
    Phase.AWAIT_RUNNING: Phase.RESUME,
    Phase.AWAIT_SUSPENDED: Phase.SUSPEND,
    Phase.AWAIT_STOPPED: Phase.STOP,
    Phase.AWAIT_ABSENT: Phase.DELETE_INSTANCE,
    Phase.AWAIT_DISK_ABSENT: Phase.DELETE_DISK,
    Phase.AWAIT_SNAPSHOT: Phase.SNAPSHOT,
    Phase.AWAIT_RESIZED: Phase.RESIZE_DISK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInput:
    """What a worker has read before it decides.

    ``pending``: the Compute operation of this phase is not done, and nothing else was read, except
    in a phase that depends on a snapshot. ``goes_on``: it is not done, and the deadline has passed.
    ``fault``: it is done, and ended in this error.
    ``disk_exists``: the home disk is at its recorded place; read only if ``reads_disk`` says so.
    ``console`` is the end of the serial console, read only if ``reads_console`` says so.
    ``elsewhere`` are the workspace's machines in other zones and ``disks`` all its disks, in any
    zone; read only if ``seeks_elsewhere`` says so. ``source`` is the snapshot that the home is made
    from, read only if ``source_to_read`` names it. ``snapshot`` is what the operation takes, or
    waits for; read only in the phases that depend on it. ``home_users`` are the names of the
    machines that have the home disk attached; read only if ``reads_users`` says so.
    ``home_is_foreign``: the disk at the home's place lacks the Hub's labels, so the Hub has not
    made it. ``has_copy`` is a READY snapshot that has all that is on the home disk, because no
    machine has had that since; read only if ``seeks_copy`` says so. If a DELETE finds no home
    anywhere, it is the newest READY snapshot. ``copy_made_at`` is when the snapshot of a home that
    is there was made, by Compute's time. ``home_detached_at`` is when a machine last let go of the
    home disk, if the disk was read. ``home_gb`` is the size of the home disk; None if it was not
    read.
    """

    pending: bool = False
    goes_on: bool = False
    fault: Fault | None = None
    instance: Instance | None = None
    disk_exists: bool = False
    console: str = ""
    elsewhere: tuple[Instance, ...] = ()
    disks: tuple[Disk, ...] = ()
    source: DiskSnapshot | None = None
    snapshot: DiskSnapshot | None = None
    home_users: tuple[str, ...] = ()
    home_is_foreign: bool = False
    has_copy: HomeSource | None = None
    copy_made_at: datetime | None = None
    home_detached_at: datetime | None = None
    home_gb: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """The decision to call Compute.

    ``leads_to`` is the phase that follows if Compute accepts the call; ``notes`` are committed
    then.
    """

    command: Command
    leads_to: Phase
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the operation that is under way on a workspace: all that a move depends on.

    ``operation`` is what counts; the one in ``workspace`` is not read.
    """

    workspace: Workspace
    operation: Operation
    inputs: StepInput = StepInput()
    now: datetime
    policy: Policy

    @property
    def place(self) -> Place:
        """The recorded place of the machine."""
        return Place(self.workspace.zone, self.workspace.instance_name)

    @property
    def record(self) -> Workspace:
        """The workspace, with the step's operation."""
        return replace(self.workspace, operation=self.operation)

    @property
    def lacks_home(self) -> bool:
        """Whether a home disk is recorded and, as far as this phase reads, is not at its place."""
        return self.workspace.home_disk is not None and not self.inputs.disk_exists

    @property
    def lacks_source(self) -> bool:
        """Whether the home is to be made from a snapshot now that can never be used."""
        recorded, source = self.workspace.home_source, self.inputs.source
        if recorded is None or self.inputs.disk_exists:
            return False
        if source is None or not is_of_disk(source, recorded.disk_name):
            return True
        return source.status in {SnapshotStatus.FAILED, SnapshotStatus.DELETING}

    @property
    def has_switched(self) -> bool:
        """Whether a RESTORE or a move has recorded a new home, and has yet to make or prove it."""
        return self.operation.former_home is not None

    @property
    def free_zones(self) -> tuple[str, ...]:
        """The zones in which a machine can be tried, the best first.

        Not those that have had no capacity, nor the one that a move leaves, nor one in which the
        former machine of an earlier move still has the name. If a person has asked for a zone, only
        that one, unless any will do.
        """
        operation, zones = self.operation, self.policy.zones
        held = {old.zone for old in self.workspace.old_homes if old.instance_id is not None}
        leaves = {operation.former_home.zone} if operation.moves and operation.former_home else ()
        taken = {*operation.zones_tried, *held, *leaves}
        if operation.to_zone is not None:
            others = [zone for zone in zones if zone != operation.to_zone]
            zones = (operation.to_zone, *(others if operation.may_move else ()))
        return tuple(zone for zone in zones if zone not in taken)

    @property
    def keeps_copy(self) -> bool:
        """Whether what is in the home must be in a READY snapshot before its disk goes."""
        operation = self.operation
        if operation.kind in {OperationKind.RESTORE, OperationKind.ARCHIVE} or operation.moves:
            return True
        deletes = operation.kind is OperationKind.DELETE and not operation.purge
        return deletes and self.policy.undelete_for is not None

    @property
    def needs_copy(self) -> bool:
        """Whether a DELETE or an ARCHIVE has yet to keep what is in the home."""
        unknown = self.operation.last_copy is None and self.workspace.home_disk is not None
        return self.operation.kind in TAKING_HOME and self.keeps_copy and unknown

    @property
    def may_leave_home(self) -> bool:
        """Whether the disk of the home's name may have more than the snapshot that is the home.

        An earlier operation has asked for the deletion of that disk, and may not have seen its end.
        """
        workspace, source = self.workspace, self.workspace.own_source
        takes = self.operation.kind in TAKING_HOME and self.keeps_copy
        if not takes or self.operation.last_copy is not None or source is None:
            return False
        is_its_own = self.inputs.disk_exists and not self.inputs.home_is_foreign
        return is_its_own and source.disk_name == workspace.disk_name

    @property
    def sees_recorded_machine(self) -> bool:
        """Whether the machine that was read is the one that is recorded."""
        instance = self.inputs.instance
        return instance is not None and instance.id == self.workspace.instance_id

    @property
    def lasted(self) -> timedelta:
        """How long the phase has lasted.

        Never negative: another instance's clock, which may be ahead, wrote when it began.
        """
        return max(self.now - self.operation.phase_since, timedelta(0))

    def left_of(self, usual: timedelta) -> timedelta:
        """Return how much longer the phase lasts if it lasts as long as usual.

        At least ``look_min``; 0 if it should have ended.
        """
        left = usual - self.lasted
        return max(left, self.policy.look_min) if left > timedelta(0) else timedelta(0)

    def wait(self, pause: timedelta, event: str = "StepAwaited") -> Updated:
        """Stay in the phase, and look again after the pause."""
        return self._proceed(self.operation, event, pause)

    def enter(
        self, phase: Phase, event: str, *, attempt: int = 0, delay: timedelta = PROMPTLY
    ) -> Updated:
        """Go to a phase."""
        return self._proceed(self._in_phase(phase, attempt), event, delay)

    def await_report(self, event: str) -> Updated:
        """Wait for the report of a machine that boots."""
        first_look = max(self.policy.usual.boot, self.policy.look_min)
        return self.enter(Phase.AWAIT_READY, event, delay=first_look)

    def await_call(self, phase: Phase, event: str, gce_operation: str | None) -> Updated:
        """Go to the phase that waits for a call that Compute has accepted."""
        waiting = self._in_phase(phase, self.operation.attempt)
        called = replace(waiting, gce_operation=gce_operation)
        first_look = max(self.policy.usual.of(phase), self.policy.look_min)
        return self._proceed(called, event, first_look)

    def boot(self, phase: Phase) -> Updated:
        """Go to a phase that boots a machine, under a new generation.

        The generation is committed before Compute is called, so a machine that boots before its
        worker commits finds a record that expects it. If a new machine is made, what is recorded of
        the old one is removed.
        """
        workspace, makes_new = self.workspace, phase is Phase.INSERT
        booting = replace(
            workspace,
            status=Status.PROVISIONING,
            generation=workspace.generation + 1,
            ready_generation=None,
            instance_id=None if makes_new else workspace.instance_id,
            machine_made_at=None if makes_new else workspace.machine_made_at,
            suspended_at=None,
            machine_running=False,
        )
        return replace(self, workspace=booting).enter(phase, "BootRequested")

    def _in_phase(self, phase: Phase, attempt: int) -> Operation:
        operation = replace(self.operation, attempt=attempt, gce_operation=None)
        if phase is operation.phase:
            return operation
        ended = phases_until(operation, self.now)
        return replace(operation, phase=phase, phase_since=self.now, phases=ended)

    def _proceed(self, operation: Operation, event: str, delay: timedelta) -> Updated:
        """Commit the operation's next step, with its job and the time to resend it if lost.

        No look is later than the deadline, which ends the operation.
        """
        left = operation.deadline_at - self.now
        if left > timedelta(0):
            delay = min(delay, max(left, self.policy.look_min))
        moved = replace(operation, step=operation.step + 1, resends=0)
        changed = replace(
            self.workspace,
            operation=moved,
            updated_at=self.now,
            attend_at=self.now + delay + self.policy.attend_after,
        )
        return Updated(changed, event, job_of(changed, moved, delay))

    def finish(self, status: Status, event: str, problem: Problem | None = None) -> Updated:
        """End the operation."""
        return finish(self.record, status, event, self.now, problem)


Decision = Change | Call
Move = Callable[[Step], Decision]


def reads_disk(operation: Operation) -> bool:
    """Say whether the next step depends on whether the home disk is at its recorded place."""
    remakes = operation.kind is OperationKind.START and operation.phase is Phase.DELETE_INSTANCE
    leaves = operation.kind is OperationKind.RESTORE and operation.phase in {
        Phase.DELETE_INSTANCE,
        Phase.AWAIT_ABSENT,
    }
    return (
        remakes
        or leaves
        or operation.phase
        in {
            Phase.INSERT,
            Phase.FORGET,
            Phase.SNAPSHOT,
            *DISK_PHASES,
            *GROWING_PHASES,
        }
    )


def reads_users(step: Step) -> bool:
    """Say whether a step depends on who has the home disk attached.

    It does when Compute is asked for a snapshot, and when the content is captured.
    """
    if step.operation.phase is Phase.AWAIT_STORED:
        return False
    if step.inputs.snapshot is None:
        return step.operation.phase is Phase.SNAPSHOT
    return step.operation.home_at_rest or step.operation.home_detached


def seeks_copy(step: Step) -> bool:
    """Say whether a step depends on which READY snapshots there are of the home disk.

    An operation that must keep what is on it takes no other one if there is one. And it looks again
    before it deletes the disk: somebody may have used that since. There can only be one if no
    machine has the disk.
    """
    inputs, phase = step.inputs, step.operation.phase
    begins = phase is Phase.SNAPSHOT and inputs.snapshot is None
    has_home = step.workspace.home_disk is not None or step.may_leave_home
    deletes = phase is Phase.DELETE_DISK and has_home
    detached = inputs.disk_exists and not inputs.home_users and inputs.instance is None
    return step.keeps_copy and detached and (begins or deletes)


def source_to_read(step: Step) -> str | None:
    """Return the name of the snapshot that the next step makes the home from, if it makes one."""
    source, inputs = step.workspace.home_source, step.inputs
    makes_home = step.operation.phase is Phase.INSERT and inputs.instance is None
    return source.resource_name if source and makes_home and not inputs.disk_exists else None


def reads_console(operation: Operation, now: datetime) -> bool:
    """Say whether the next step quotes the serial console: a boot is overdue."""
    return operation.phase is Phase.AWAIT_READY and now >= operation.deadline_at


def seeks_elsewhere(step: Step) -> tuple[bool, bool]:
    """Say whether a step needs the machines in other zones, and whether the disks in any zone.

    Each costs a list of the whole project. So they are read only if something is missing that
    should be there, or if everything is to be deleted.
    """
    inputs, phase = step.inputs, step.operation.phase
    if phase in SNAPSHOT_PHASES:
        keeps = step.keeps_copy and phase is Phase.SNAPSHOT
        return False, keeps and inputs.snapshot is None and not inputs.disk_exists
    if inputs.pending or inputs.fault is not None:
        return False, False
    homeless = reads_disk(step.operation) and step.lacks_home
    if inputs.instance is not None:
        return False, homeless
    machine_recorded = step.workspace.instance_id is not None
    missing = phase in {Phase.SURVEY, Phase.SUSPEND, Phase.STOP} and machine_recorded
    deletes = step.operation.kind is OperationKind.DELETE
    last_look = deletes and phase is Phase.DELETE_DISK and not inputs.disk_exists
    return missing or last_look, homeless or last_look
