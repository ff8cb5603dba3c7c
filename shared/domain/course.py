"""How an operation goes if all goes well: its phases, what is lost by it, and how it ends.

Nothing is asked of Compute. The machine is taken to be as the record says, each call to succeed,
and each boot to report ready; the steps are those of the workers, by the same table. So a machine
that was changed by hand, or a refusal of Compute, leads to other phases.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shared.domain.changes import Updated, finish
from shared.domain.drift import MACHINE_GONE
from shared.domain.instance import (
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    Disk,
    DiskSnapshot,
    Fault,
    FaultKind,
    InsertInstance,
    Instance,
    InstanceState,
    Place,
    ResizeDisk,
    ResumeInstance,
    SnapshotStatus,
    StartedCall,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from shared.domain.last_copies import undelete_until
from shared.domain.machine_types import parse_machine_type
from shared.domain.policy import Policy
from shared.domain.steps import (
    SNAPSHOT_PHASES,
    Call,
    Step,
    StepInput,
    plan,
    reads_disk,
    record_outcome,
)
from shared.domain.workspace import (
    HomeSource,
    Operation,
    OperationKind,
    Phase,
    Status,
    Workspace,
)

_TAKEN = {Phase.AWAIT_SNAPSHOT, Phase.AWAIT_STORED}
MOST_PHASES = 30  # more than any operation has that goes well and deletes no old homes
_IN_TIME = timedelta(days=1)
_NEW = "new"  # the id of a machine that is not made yet


class Lost(StrEnum):
    """What a person can lose by a request, the worst first."""

    HOME = "home"
    SNAPSHOTS = "snapshots"
    MEMORY = "memory"
    BOOT_DISK = "boot_disk"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Loss:
    """What is lost, and why, as a sentence for people."""

    what: Lost
    why: str


@dataclass(frozen=True, slots=True)
class Course:
    """The phases that an operation goes through, from its present one on.

    A phase that takes several steps is there once; one that comes again is there again. ``losses``
    are what is lost by it, the worst first. ``end`` is the workspace after it; None if it is
    deleted.
    """

    phases: tuple[Phase, ...]
    losses: tuple[Loss, ...]
    end: Workspace | None


def course_of(before: Workspace, after: Workspace, now: datetime, policy: Policy) -> Course:
    """Return the course of the operation that is under way in ``after``; empty if none is.

    ``before`` is the record on which the request was decided: ``after`` may not name a machine any
    more that still exists.
    """
    seen = _Seen(before, goes_on=_same(before.operation, after.operation))
    most = MOST_PHASES + 2 * len(seen.old)
    workspace: Workspace | None = _undisturbed(after, now)
    phases: list[Phase] = []
    losses: dict[Lost, Loss] = {}
    while workspace is not None and (operation := workspace.operation) is not None:
        if phases[-1:] != [operation.phase]:
            phases.append(operation.phase)
        if len(phases) > most:
            raise AssertionError(f"a {operation.kind} that goes well does not end: {phases}")
        step = Step(
            workspace=workspace,
            operation=operation,
            inputs=seen.inputs(workspace, operation),
            now=now,
            policy=policy,
        )
        workspace, lost = _next(step, seen)
        for loss in lost:
            losses.setdefault(loss.what, loss)
    worst_first = tuple(losses[what] for what in Lost if what in losses)
    return Course(tuple(phases), worst_first, workspace)


def _same(one: Operation | None, other: Operation | None) -> bool:
    return one is not None and other is not None and one.id == other.id


def _undisturbed(workspace: Workspace, now: datetime) -> Workspace:
    """Return the workspace with an operation that no deadline ends and no other one holds up."""
    if workspace.operation is None:
        return workspace
    operation = replace(workspace.operation, deadline_at=now + _IN_TIME, forget_after=None)
    return replace(workspace, operation=operation)


def _next(step: Step, seen: "_Seen") -> tuple[Workspace | None, list[Loss]]:
    """Return the workspace after a step, and what is lost in it."""
    workspace = step.record
    if step.operation.phase is Phase.AWAIT_READY and seen.runs:
        ready = replace(workspace, ready_generation=workspace.generation)
        return finish(ready, Status.READY, "WorkspaceReady", step.now).workspace, []
    decision = plan(step)
    lost: list[Loss] = []
    if isinstance(decision, Call):
        outcome = seen.make(decision.command, step)
        if isinstance(outcome, StartedCall):
            lost = _lost_by(decision.command, step)
        decision = record_outcome(step, decision, outcome)
    after = decision.workspace if isinstance(decision, Updated) else None
    if workspace.has_memory and (after is None or not after.has_memory):
        why = "what runs on the machine ends, and what it has not saved is lost."
        lost.append(Loss(Lost.MEMORY, f"{_reason(step)}: {why}"))
    return after, lost


def _lost_by(command: Command, step: Step) -> list[Loss]:
    """Return what a call deletes. Before a workspace's first boot there is nothing to lose.

    A move leaves the former machine to the hourly sweep.
    """
    former = step.operation.former_machine
    if isinstance(command, InsertInstance) and former and former.instance_id:
        why = "what was changed outside the home stays behind on the machine's boot disk."
        return [Loss(Lost.BOOT_DISK, f"{_reason(step)}: {why}")]
    if step.workspace.home_disk is None:
        return []
    match command:
        case DeleteInstance():
            why = "what was changed outside the home is deleted with the machine's boot disk."
            return [Loss(Lost.BOOT_DISK, f"{_reason(step)}: {why}")]
        case DeleteDisk() if step.operation.kind is OperationKind.ARCHIVE:
            return []
        case DeleteDisk():
            why = "the home disk is deleted, with everything on it."
            until = undelete_until(step.record, step.policy)
            if until is not None and step.operation.last_copy is not None:
                day = f"{until:%Y-%m-%d %H:%M} UTC"
                why = f"the home disk is deleted. Until {day}, it can be taken back with its home."
            return [Loss(Lost.HOME, f"{_reason(step)}: {why}")]
        case _:
            return []


def _reason(step: Step) -> str:
    """Say why something is lost in this step."""
    operation = step.operation
    if operation.kind is OperationKind.DELETE:
        return "The workspace is deleted"
    if operation.kind is OperationKind.STOP:
        why = _why_not_suspendable(step.workspace)
        because = f": {why}" if why else ""
        return f"Compute Engine cannot suspend the machine{because}, so it is shut down"
    if operation.kind is OperationKind.ARCHIVE:
        return "The workspace is archived"
    if operation.kind is OperationKind.RESTORE:
        return "A new machine is made on the restored home"
    if operation.moves:
        return "The workspace moves to another zone"
    if operation.renews:
        return "The machine is too old to be booted, so a new one is made on the same home"
    if operation.remade:
        return "A new machine is made on the same home"
    return "The machine is booted again"


def _why_not_suspendable(workspace: Workspace) -> str:
    parsed = parse_machine_type(workspace.machine_type)
    return parsed.why_not_suspendable if parsed else ""


class _Seen:
    """What workers would see of a workspace's machine and home disk, call after call."""

    def __init__(self, record: Workspace, *, goes_on: bool) -> None:
        """Take what the record says.

        ``goes_on``: its operation does, so what that waits for comes next. Otherwise another
        operation comes before it.
        """
        state = _state(record, goes_on=goes_on)
        self.instance = _instance(record, state, record.machine_made_at) if state else None
        made = self.instance is not None or _leaves_home(record.operation)
        self.home_gb = record.home_gb or 0
        self.home = made or record.home_disk is not None
        self.old = [
            _disk(record, each.name, each.zone) for each in record.old_homes if not each.absent
        ]
        former = record.operation.former_home if record.operation else None
        if former is not None and not goes_on:  # that is the home again, and what was made is not
            self.home = True
            self.old += [_disk(record, record.disk_name, record.zone)] if made else []
        waits = record.operation is not None and record.operation.phase in _TAKEN
        self.snapshot = _taken(record) if goes_on and waits else None

    @property
    def runs(self) -> bool:
        """Whether the machine runs."""
        return self.instance is not None and self.instance.state is InstanceState.RUNNING

    def inputs(self, workspace: Workspace, operation: Operation) -> StepInput:
        """Return what the next step of the operation reads now, in the workspace's zone."""
        source = workspace.home_source
        here = self.instance is not None and self.instance.zone == workspace.zone
        deletes_copied = operation.phase is Phase.DELETE_DISK and self.home
        searches = operation.kind is OperationKind.DELETE and operation.phase is Phase.DELETE_DISK
        return StepInput(
            instance=self.instance if here else None,
            disk_exists=reads_disk(operation) and self.home and not _makes_home(operation),
            disks=tuple(self.old) if searches and not self.home else (),
            source=_snapshot(workspace, source) if source else None,
            snapshot=self.snapshot,
            has_copy=(operation.last_copy or source) if deletes_copied else None,
            home_gb=self.home_gb if self.home else None,
        )

    def make(self, command: Command, step: Step) -> StartedCall | Fault:
        """Make a call, which has its effect at once. Only one that can never succeed is refused."""
        record = step.workspace
        match command:
            case SuspendInstance() if why := _why_not_suspendable(record):
                return Fault(FaultKind.UNSUPPORTED, "UNSUPPORTED_OPERATION", why)
            case InsertInstance():
                named = replace(record, instance_id=_NEW)
                self.instance = _instance(named, InstanceState.RUNNING, step.now)
                self.home = True
                return StartedCall("", _NEW)
            case DeleteInstance():
                self.instance = None
            case DeleteDisk() if self.home:
                self.home = False
            case DeleteDisk(place):
                self.old = [each for each in self.old if Place(each.zone, each.name) != place]
            case CreateSnapshot():
                self.snapshot = _taken(record)
            case ResizeDisk():
                self.home_gb = command.size_gb
            case StartInstance() | ResumeInstance():
                self._become(InstanceState.RUNNING)
            case SuspendInstance():
                self._become(InstanceState.SUSPENDED)
            case StopInstance():
                self._become(InstanceState.TERMINATED)
            case _:
                pass
        return StartedCall("")

    def _become(self, state: InstanceState) -> None:
        if self.instance is not None:
            self.instance = replace(self.instance, state=state)


def _makes_home(operation: Operation) -> bool:
    """Say whether the home is not made yet: it is another one than before."""
    return operation.former_home is not None and operation.phase is Phase.INSERT


def _taken(record: Workspace) -> DiskSnapshot:
    """Return the snapshot that an operation takes, stored."""
    return DiskSnapshot(
        name="",
        status=SnapshotStatus.READY,
        labels={},
        source_disk=record.disk_name,
        disk_gb=0,
        created_at=record.updated_at,
    )


def _leaves_home(operation: Operation | None) -> bool:
    """Say whether a CREATE, a START or a RESTORE has left a home disk that is not recorded.

    It is recorded once somebody can have used it.
    """
    if operation is None or operation.phase not in {Phase.AWAIT_ABSENT, Phase.DELETE_DISK}:
        return False
    makes = operation.kind in {OperationKind.CREATE, OperationKind.START}
    return makes or operation.former_home is not None


def _disk(record: Workspace, name: str, zone: str) -> Disk:
    return Disk(name=name, zone=zone, labels={}, created_at=record.created_at, size_gb=0)


def _snapshot(record: Workspace, source: HomeSource) -> DiskSnapshot:
    return DiskSnapshot(
        name=source.resource_name,
        status=SnapshotStatus.READY,
        labels={},
        source_disk=source.disk_name,
        disk_gb=source.disk_gb,
        created_at=record.created_at,
    )


def _instance(record: Workspace, state: InstanceState, made_at: datetime | None) -> Instance:
    return Instance(
        id=record.instance_id or _NEW,
        name=record.instance_name,
        zone=record.zone,
        state=state,
        machine_type=record.machine_type,
        created_at=made_at,
        disks=(record.disk_name,),
    )


# The state of the machine when a phase is over that waits for it, and before.
_WAITED: dict[Phase, InstanceState | None] = {
    Phase.INSERTING: InstanceState.RUNNING,
    Phase.AWAIT_METADATA: InstanceState.TERMINATED,
    Phase.STARTING: InstanceState.RUNNING,
    Phase.AWAIT_READY: InstanceState.RUNNING,
    Phase.AWAIT_RUNNING: InstanceState.RUNNING,
    Phase.AWAIT_SUSPENDED: InstanceState.SUSPENDED,
    Phase.AWAIT_STOPPED: InstanceState.TERMINATED,
    Phase.AWAIT_ABSENT: None,
}
_BEFORE: dict[Phase, InstanceState | None] = {
    Phase.SET_METADATA: InstanceState.TERMINATED,
    Phase.START: InstanceState.TERMINATED,
    Phase.RESUME: InstanceState.SUSPENDED,
    Phase.SUSPEND: InstanceState.RUNNING,
    Phase.STOP: InstanceState.RUNNING,
    **dict.fromkeys((Phase.INSERT, Phase.DELETE_DISK, Phase.AWAIT_DISK_ABSENT, Phase.FORGET)),
}


_BEFORE_THE_SWITCH = {
    *(Phase.STOP, Phase.AWAIT_STOPPED, Phase.SNAPSHOT, Phase.AWAIT_SNAPSHOT),
    *(Phase.AWAIT_STORED, Phase.DELETE_INSTANCE),
}


def _turned_off(record: Workspace, phase: Phase) -> InstanceState | None:
    """Return the state of the machine of a RESTORE or an ARCHIVE that has yet to delete it."""
    if record.instance_id is None:
        return None
    if phase is Phase.STOP and record.machine_running:
        return InstanceState.RUNNING
    return InstanceState.SUSPENDED if record.memory_is_ready else InstanceState.TERMINATED


def _state(record: Workspace, *, goes_on: bool) -> InstanceState | None:
    """Return the state that the machine has by the record; None if there is no machine."""
    operation = record.operation
    if operation is not None:
        starts = operation.kind is OperationKind.START
        if starts and operation.phase is Phase.DELETE_INSTANCE:  # the record does not name it
            return InstanceState.RUNNING
        if operation.kind is OperationKind.RESTORE and operation.phase in _BEFORE_THE_SWITCH:
            return _turned_off(record, operation.phase)
        if operation.kind is OperationKind.ARCHIVE:
            with_machine = operation.phase in _BEFORE_THE_SWITCH - SNAPSHOT_PHASES
            return _turned_off(record, operation.phase) if with_machine else None
        if operation.kind is OperationKind.DELETE and operation.phase in SNAPSHOT_PHASES:
            return None  # it has deleted the machine before
        known = {**_BEFORE, **_WAITED} if goes_on else {**_WAITED, **_BEFORE}
        if operation.phase in known:
            return known[operation.phase]
    error, in_error = record.error, record.status is Status.ERROR
    # After a move that failed so, the former machine is there again.
    failed_to_make = error is not None and (
        error.operation_kind is OperationKind.CREATE or (in_error and error.code == MACHINE_GONE)
    )
    if failed_to_make or record.instance_id is None:
        return None
    if record.machine_running:
        return InstanceState.RUNNING
    return InstanceState.SUSPENDED if record.memory_is_ready else InstanceState.TERMINATED
