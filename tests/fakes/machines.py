"""Compute Engine in virtual time: instances, disks, snapshots, operations, guests and faults.

Nothing here waits. An event is due at a moment of the given clock, and has happened when that
moment has passed and a test or the Hub looks.

The local cloud has a second simulator, ``localcloud.services.compute.fleet``, which speaks
Compute's JSON. It does not replace this one. One machine's life (insert, suspend, resume, delete)
takes it 0.69 ms of CPU time instead of 0.20 ms, before any command is translated for it. A copy of
it takes 0.17 ms instead of 0.04 ms. ``tests/faults/test_ways_out.py`` needs tens of thousands of
both. The fleet also has no hook before and after a call, and cannot lose the answer to one. The
tests in ``tests/contract`` hold both simulators to the same port.
"""

import heapq
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from shared.domain.errors import MachineFaultError, UnavailableError
from shared.domain.instance import (
    GLOBAL,
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    DeleteSnapshot,
    Disk,
    DiskSnapshot,
    Fault,
    FaultKind,
    InsertInstance,
    Instance,
    InstanceState,
    LabelDisk,
    LabelInstance,
    LabelSnapshot,
    OperationState,
    Place,
    RefreshMetadata,
    ResizeDisk,
    ResumeInstance,
    SnapshotStatus,
    StartedCall,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from shared.domain.ownership import labels_of
from shared.domain.reports import Report, ReportEvent
from shared.ports import Clock, Machines

PROJECT = "test-project"
INSTALLATION = "hub-test"  # the value of the label ``hub`` on the Hub's resources
HOME_GB = 50  # of a home disk of which nobody says how large it is to be
STORED_BYTES = 2_000_000_000  # what each snapshot takes
# Compute takes so many snapshots of a disk in an hour, and makes as many disks from a snapshot
# (source: "Best practices for disk snapshots").
MOST_AN_HOUR = 6


Call = tuple[type[Command], Place]  # what is called, and on which resource


@dataclass(frozen=True)
class Durations:
    """How long things take; ``boot`` is the time from RUNNING to the guest's READY report."""

    insert: timedelta = timedelta(seconds=20)
    start: timedelta = timedelta(seconds=12)
    resume: timedelta = timedelta(seconds=8)
    suspend: timedelta = timedelta(seconds=30)
    stop: timedelta = timedelta(seconds=16)
    delete: timedelta = timedelta(seconds=25)
    set_metadata: timedelta = timedelta(seconds=2)
    set_labels: timedelta = timedelta(seconds=2)
    delete_disk: timedelta = timedelta(seconds=4)
    capture: timedelta = timedelta(seconds=5)
    upload: timedelta = timedelta(minutes=3)
    delete_snapshot: timedelta = timedelta(seconds=6)
    boot: timedelta = timedelta(seconds=25)
    repair: timedelta = timedelta(seconds=60)
    suspended_limit: timedelta = timedelta(days=60)


class Mishap(Enum):
    """How a call goes wrong."""

    REFUSED = auto()
    """Compute refuses the call at once, and nothing happens."""
    FAILS_LATER = auto()
    """Compute accepts the call, its operation ends in an error, and everything is as before."""
    OPERATION_LOST = auto()
    """The call succeeds, but its operation cannot be found and its request id is forgotten."""
    UNANSWERED = auto()
    """Compute does not answer, and nothing happens."""
    ANSWER_LOST = auto()
    """The call succeeds, but the caller gets no answer."""
    SLOW = auto()
    """The call takes ten times as long."""
    CAPTURE_FAILS = auto()
    """A snapshot becomes FAILED instead of UPLOADING."""
    UPLOAD_FAILS = auto()
    """A snapshot's content is captured, and cannot be stored: the snapshot becomes FAILED."""


class GuestMishap(Enum):
    """How a boot goes wrong in the machine."""

    NEVER_READY = auto()
    FAILS_AT_BOOT = auto()


@dataclass(slots=True, eq=False)
class FakeInstance:
    """One machine; ``reported`` says whether its current boot has reported READY or FAILED.

    ``command`` describes how it was created, with later refreshes; ``generation`` and
    ``heartbeat_interval`` are in its metadata. ``logins`` are the members who may log in.
    """

    id: str
    place: Place
    command: InsertInstance
    generation: int
    labels: dict[str, str]
    heartbeat_interval: timedelta | None
    state: InstanceState = InstanceState.PROVISIONING
    reported: bool = False
    deleting: bool = False
    operation: "_Operation | None" = None
    change: int = 0
    last_started_at: datetime | None = None
    created_at: datetime | None = None
    off_since: datetime | None = None
    logins: list[str] = field(default_factory=list)

    @property
    def moving(self) -> bool:
        """Whether it will change by itself."""
        if self.state is InstanceState.RUNNING:
            return not self.reported
        return self.state not in {InstanceState.TERMINATED, InstanceState.SUSPENDED}

    def report(
        self, event: ReportEvent, code: str | None = None, message: str | None = None
    ) -> Report:
        """Return what this machine would report now, with what its token would prove."""
        return Report(
            event=event,
            generation=self.generation,
            instance_name=self.place.name,
            instance_id=self.id,
            zone=self.place.zone,
            project_id=PROJECT,
            code=code,
            message=message,
            host_key=f"ssh-ed25519 {self.id}" if event is ReportEvent.READY else None,
        )


@dataclass(slots=True, eq=False)
class _Operation:
    """One of Compute's operations; ``failure`` is the fault in which it is going to end.

    ``mishap`` is what goes wrong with it otherwise.
    """

    name: str
    failure: Fault | None = None
    mishap: Mishap | None = None
    done: bool = False
    fault: Fault | None = None


@dataclass(slots=True, eq=False)
class _Disk:
    """One disk, attached to ``user``, a machine of the Hub, or to ``holder``, another machine.

    ``content`` stands for everything that is on it. If it is being made from a snapshot, ``source``
    is the snapshot's name, and ``made_by`` the operation.
    """

    place: Place
    labels: dict[str, str]
    created_at: datetime
    content: str
    size_gb: int = HOME_GB
    source: str | None = None
    made_by: _Operation | None = None
    boot: bool = False
    user: FakeInstance | None = None
    holder: str | None = None
    deleting: bool = False
    detached_at: datetime | None = None

    @property
    def users(self) -> tuple[str, ...]:
        """The names of the machines to which it is attached."""
        ours = () if self.user is None else (self.user.place.name,)
        return ours if self.holder is None else (*ours, self.holder)


@dataclass(slots=True, eq=False)
class _Snapshot:
    """One snapshot of a disk; ``content`` is the disk's when it was captured, None until then."""

    name: str
    labels: dict[str, str]
    source: _Disk
    created_at: datetime
    disk_gb: int
    status: SnapshotStatus = SnapshotStatus.CREATING
    content: str | None = None
    operation: _Operation | None = None

    @property
    def moving(self) -> bool:
        """Whether it will change by itself."""
        return self.status not in {SnapshotStatus.READY, SnapshotStatus.FAILED}


@dataclass(frozen=True, slots=True)
class _Script:
    command: type[Command]
    mishap: Mishap
    fault: FaultKind
    zone: str | None


@dataclass(order=True, slots=True)
class _Due:
    at: datetime
    nth: int
    happens: Callable[[], None] = field(compare=False)


_CODES = {
    FaultKind.STOCK_OUT: "ZONE_RESOURCE_POOL_EXHAUSTED",
    FaultKind.QUOTA: "QUOTA_EXCEEDED",
    FaultKind.PERMISSION: "forbidden",
    FaultKind.POLICY: "conditionNotMet",
    FaultKind.INVALID: "invalid",
    FaultKind.NOT_READY: "resourceNotReady",
    FaultKind.IN_USE: "resourceInUseByAnotherResource",
    FaultKind.NOT_FOUND: "notFound",
    FaultKind.ALREADY_EXISTS: "alreadyExists",
    FaultKind.UNSUPPORTED: "UNSUPPORTED_OPERATION",
    FaultKind.TRANSIENT: "INTERNAL_ERROR",
}


# How an operation ends that a delete has overtaken.
_CANCELLED = Fault(FaultKind.TRANSIENT, "OPERATION_CANCELED_BY_USER", "A user canceled it.")


def fault(kind: FaultKind, resource: str = "") -> Fault:
    """Return a fault as Compute words it; ``resource`` is the one that Compute names."""
    return Fault(kind, _CODES[kind], f"Compute says {_CODES[kind]}.", resource)


def boot_disk_of(command: InsertInstance) -> Place:
    """Return the place of the boot disk that an insert creates."""
    return Place(command.place.zone, f"{command.place.name}-{command.generation}")


def _labels(
    command: InsertInstance | LabelInstance | LabelDisk | CreateSnapshot | LabelSnapshot,
) -> dict[str, str]:
    return {**labels_of(command.workspace_id, command.owner_id), "hub": INSTALLATION}


def _with_ours(
    there: Mapping[str, str], command: LabelInstance | LabelDisk | LabelSnapshot
) -> dict[str, str]:
    """Return the labels after relabelling; other values of ``owner`` and ``managed-by`` stay."""
    ours = _labels(command)
    return {**ours, **there, "workspace": ours["workspace"], "hub": ours["hub"]}


def _named(workspace_id: str, name: str, *prefixes: str) -> bool:
    return re.fullmatch(f"({'|'.join(prefixes)})-{re.escape(workspace_id)}(-.*)?", name) is not None


class FakeMachines(Machines):
    """A ``Machines`` that simulates a small Compute Engine, with the time of ``clock``.

    Attributes:
        instances, disks: what exists now, by place.
        reports: what guests have reported and no test has taken yet.
        calls: every call to change something, with its request id, including those that fail.
        reads: the number of reads, by method.
        before_call, after_call: called once, before and after the next call, for what happens
            elsewhere at that moment.
        consoles: the console output of machines, by name.
        login_errors: what the next changes of who may log in raise, one each.
        heartbeat_interval: the interval that machines get with their next insert or refreshed
            metadata.
    """

    def __init__(self, clock: Clock, durations: Durations | None = None) -> None:
        self._clock = clock
        self._durations = durations or Durations()
        self._instances: dict[Place, FakeInstance] = {}
        self._disks: dict[Place, _Disk] = {}
        self._snapshots: dict[str, _Snapshot] = {}
        self._used: dict[str, list[datetime]] = {}
        self._operations: dict[tuple[str, str], _Operation] = {}
        self._requests: dict[str, tuple[Call, StartedCall]] = {}
        self._scripts: list[_Script] = []
        self._guest_scripts: list[GuestMishap] = []
        self._due: list[_Due] = []
        self._numbers = itertools.count(1)
        self._now = clock()
        self.reports: list[Report] = []
        self.calls: list[tuple[Command, str]] = []
        self.reads: Counter[str] = Counter()
        self.unanswered_reads = 0
        self.before_call: Callable[[], object] | None = None
        self.after_call: Callable[[], object] | None = None
        self.consoles: dict[str, str] = {}
        self.login_errors: list[Exception] = []
        self.heartbeat_interval: timedelta | None = timedelta(minutes=2)

    # ---- faults ----

    def script(
        self,
        command: type[Command],
        mishap: Mishap,
        kind: FaultKind = FaultKind.INVALID,
        *,
        zone: str | None = None,
        times: int = 1,
    ) -> None:
        """Make the next calls of this command (in this zone) fail; ``kind`` is for faults only."""
        self._scripts += [_Script(command, mishap, kind, zone)] * times

    def script_boot(self, mishap: GuestMishap) -> None:
        """Make the next boot fail."""
        self._guest_scripts.append(mishap)

    def calm(self) -> None:
        """Cancel all faults."""
        self._scripts.clear()
        self._guest_scripts.clear()
        self.login_errors.clear()
        self.unanswered_reads = 0

    # ---- state, for tests ----

    @property
    def instances(self) -> dict[Place, FakeInstance]:
        """The machines that exist now."""
        self._catch_up()
        return dict(self._instances)

    @property
    def disks(self) -> set[Place]:
        """The disks that exist now, without boot disks that are deleted with their machines."""
        self._catch_up()
        return {place for place, disk in self._disks.items() if not disk.boot or disk.user is None}

    def find(self, instance_id: str) -> FakeInstance | None:
        """Return the machine of this id in any zone, or None."""
        return next((each for each in self.instances.values() if each.id == instance_id), None)

    def peek(self, place: Place) -> Instance | None:
        """Return what ``get`` returns; this read is not counted and always answered."""
        self._catch_up()
        instance = self._instances.get(place)
        return None if instance is None else self._described(instance)

    def peek_disk(self, place: Place) -> Disk | None:
        """Return what ``get_disk`` returns; this read is not counted and always answered."""
        self._catch_up()
        disk = self._disks.get(place)
        return None if disk is None else _described_disk(disk)

    @property
    def snapshots(self) -> dict[str, SnapshotStatus]:
        """The snapshots that exist now, with their status."""
        self._catch_up()
        return {name: snapshot.status for name, snapshot in self._snapshots.items()}

    def peek_snapshot(self, name: str) -> DiskSnapshot | None:
        """Return what ``get_snapshot`` returns; this read is not counted and always answered."""
        self._catch_up()
        snapshot = self._snapshots.get(name)
        return None if snapshot is None else _described_snapshot(snapshot)

    def content_of(self, place: Place) -> str | None:
        """Return what is on a disk, or in a snapshot; None if there is nothing.

        An empty disk has a content that no other has.
        """
        self._catch_up()
        there = self._snapshots.get(place.name) if place.zone == GLOBAL else self._disks.get(place)
        return None if there is None else there.content

    def disk_gb(self, place: Place) -> int:
        """Return how large a disk is, which must exist."""
        self._catch_up()
        return self._disks[place].size_gb

    @property
    def moving(self) -> bool:
        """Whether a machine or a snapshot will change by itself."""
        self._catch_up()
        return any(each.moving for each in self._instances.values()) or any(
            each.moving for each in self._snapshots.values()
        )

    def disk_labels(self, place: Place) -> dict[str, str]:
        """Return the labels of a disk, which must exist."""
        self._catch_up()
        return self._disks[place].labels

    @property
    def last_operation(self) -> "_Operation":
        """The operation that Compute began last."""
        self._catch_up()
        return next(reversed(self._operations.values()))

    def next_event_at(self) -> datetime | None:
        """Return the time of the next event, or None."""
        self._catch_up()
        return self._due[0].at if self._due else None

    # ---- changes outside the Hub ----

    def delete_by_hand(self, place: Place, *, keep_boot_disk: bool = False) -> None:
        """Delete the machine; its home disk stays, and on request its boot disk."""
        if instance := self._at(place):
            _end(instance.operation, _CANCELLED)
            self._remove(instance, keep_boot_disk=keep_boot_disk)

    def delete_disk_by_hand(self, place: Place) -> None:
        """Delete a disk that is not attached."""
        disk = self._disk_at(place)
        if disk and not disk.users:
            del self._disks[place]

    def make_disk_by_hand(self, place: Place, labels: Mapping[str, str]) -> None:
        """Create a disk, as from a snapshot; no disk of that name may exist."""
        assert self._disk_at(place) is None
        self._disks[place] = _Disk(place, dict(labels), self._now, self._new_content())

    def write(self, place: Place, content: str) -> None:
        """Have somebody replace what is on a disk."""
        if disk := self._disk_at(place):
            disk.content = content

    def make_snapshot_by_hand(self, name: str, disk: Place, labels: Mapping[str, str]) -> None:
        """Create a snapshot of a disk, which must exist. It is READY."""
        source = self._disk_at(disk)
        assert source is not None
        self._snapshots[name] = _Snapshot(
            *(name, dict(labels), source, self._now, source.size_gb, SnapshotStatus.READY),
            content=source.content,
        )

    def delete_snapshot_by_hand(self, name: str) -> None:
        """Delete a snapshot, in whatever state it is."""
        self._catch_up()
        if snapshot := self._snapshots.pop(name, None):
            _end(snapshot.operation, _CANCELLED)

    def fail_snapshot(self, name: str) -> None:
        """Have Compute lose the content of a snapshot, which must exist."""
        self._catch_up()
        self._snapshots[name].status = SnapshotStatus.FAILED

    def set_snapshot_labels_by_hand(self, name: str, labels: Mapping[str, str]) -> None:
        """Replace the labels of a snapshot."""
        self._catch_up()
        if snapshot := self._snapshots.get(name):
            snapshot.labels = dict(labels)

    def detach_disk_by_hand(self, place: Place) -> None:
        """Detach a disk from its machine."""
        if disk := self._disk_at(place):
            self._detach(disk)

    def attach_disk_by_hand(self, place: Place, to: Place) -> None:
        """Attach a detached disk to a machine of the Hub."""
        disk, instance = self._disk_at(place), self._at(to)
        if disk and instance and not disk.users:
            disk.user = instance

    def hold_disk_by_hand(self, place: Place, holder: str = "somebody-elses-machine") -> None:
        """Attach the disk to a machine outside the Hub, and to no other."""
        if disk := self._disk_at(place):
            self._detach(disk)
            disk.holder = holder

    def release_disk_by_hand(self, place: Place) -> None:
        """Detach the disk from the machine that holds it."""
        self.detach_disk_by_hand(place)

    def set_labels_by_hand(self, place: Place, labels: Mapping[str, str]) -> None:
        """Replace the labels of the machine."""
        if instance := self._at(place):
            instance.labels = dict(labels)

    def set_disk_labels_by_hand(self, place: Place, labels: Mapping[str, str]) -> None:
        """Replace the labels of the disk."""
        if disk := self._disk_at(place):
            disk.labels = dict(labels)

    def set_machine_type_by_hand(self, place: Place, machine_type: str) -> None:
        """Change the machine's type, if it is off as Compute requires."""
        instance = self._at(place)
        if instance and instance.state is InstanceState.TERMINATED:
            instance.command = replace(instance.command, machine_type=machine_type)

    def copy_by_hand(self, place: Place, zone: str) -> None:
        """Copy the machine and its disks to another zone, with a new id but names and labels kept.

        The copy is off if the original is, and boots otherwise.
        """
        instance = self._at(place)
        if instance is None:
            return
        command = replace(instance.command, place=Place(zone, place.name))
        copied = replace(
            instance,
            id=self._new_id(),
            place=command.place,
            command=command,
            labels=dict(instance.labels),
            logins=[],
        )
        copied.operation, copied.created_at, copied.deleting, copied.reported = (
            None,
            self._now,
            False,
            False,
        )
        self._instances[command.place] = copied
        for disk in [disk for disk in self._disks.values() if disk.user is instance]:
            at = Place(zone, disk.place.name)
            self._disks[at] = replace(
                disk, place=at, labels=dict(disk.labels), created_at=self._now, user=copied
            )
        if instance.state in {InstanceState.TERMINATED, InstanceState.SUSPENDED}:
            self._change(copied, InstanceState.TERMINATED)
        else:
            self._bring_up(copied, None, self._durations.start, boots=True)

    def move_by_hand(self, place: Place, zone: str) -> None:
        """Move the machine and its disks to another zone, where it gets a new id."""
        instance = self._at(place)
        if instance is None:
            return
        self.copy_by_hand(place, zone)
        disks = [disk.place for disk in self._disks.values() if disk.user is instance]
        self._remove(instance, keep_boot_disk=True)
        for at in disks:
            del self._disks[at]

    def make_old_by_hand(self, place: Place, age: timedelta) -> None:
        """Set the machine's creation time to ``age`` ago."""
        if instance := self._at(place):
            instance.created_at = self._now - age

    def stop_by_hand(self, place: Place) -> None:
        """Stop the machine if it runs, as a person or a preemption does."""
        instance = self._at(place)
        if instance and instance.state is InstanceState.RUNNING and not instance.deleting:
            self._shut_down(instance, None, self._durations.stop)

    def suspend_by_hand(self, place: Place) -> None:
        """Suspend the machine if it runs."""
        instance = self._at(place)
        if instance and instance.state is InstanceState.RUNNING and not instance.deleting:
            self._freeze(instance, None, self._durations.suspend)

    def start_by_hand(self, place: Place) -> None:
        """Start or resume the machine if it is off."""
        instance = self._at(place)
        if instance is None or instance.deleting:
            return
        if instance.state is InstanceState.TERMINATED:
            self._bring_up(instance, None, self._durations.start, boots=True)
        elif instance.state is InstanceState.SUSPENDED:
            self._bring_up(instance, None, self._durations.resume, boots=False)

    def fail_host(self, place: Place) -> None:
        """Fail the host of a running machine: Compute repairs it and boots it again."""
        instance = self._at(place)
        if instance and instance.state is InstanceState.RUNNING and not instance.deleting:
            self._change(instance, InstanceState.REPAIRING)
            self._later(
                instance,
                self._durations.repair,
                lambda: self._bring_up(instance, None, self._durations.start, boots=True),
            )

    # ---- the port ----

    def get(self, place: Place) -> Instance | None:
        """See the port."""
        self._read("get")
        return self.peek(place)

    def get_disk(self, place: Place) -> Disk | None:
        """See the port."""
        self._read("get_disk")
        return self.peek_disk(place)

    def get_snapshot(self, name: str) -> DiskSnapshot | None:
        """See the port."""
        self._read("get_snapshot")
        return self.peek_snapshot(name)

    def list_snapshots(self) -> Iterator[DiskSnapshot]:
        """See the port."""
        self._read("list_snapshots")
        found = [_described_snapshot(snapshot) for snapshot in self._snapshots.values()]
        return iter([each for each in found if each.labels.get("hub") == INSTALLATION])

    def list_instances(self) -> Iterator[Instance]:
        """See the port."""
        self._read("list_instances")
        found = [self._described(instance) for instance in self._instances.values()]
        return iter(
            [
                replace(instance, heartbeat_interval=None)
                for instance in found
                if instance.labels.get("hub") == INSTALLATION
            ]
        )

    def list_disks(self) -> Iterator[Disk]:
        """See the port."""
        self._read("list_disks")
        found = [_described_disk(disk) for disk in self._disks.values()]
        return iter([disk for disk in found if disk.labels.get("hub") == INSTALLATION])

    def find_instances(self, workspace_id: str) -> Sequence[Instance]:
        """See the port."""
        self._read("find_instances")
        return [
            self._described(instance)
            for instance in self._instances.values()
            if instance.labels.get("workspace") == workspace_id
            or _named(workspace_id, instance.place.name, "workspace")
        ]

    def find_disks(self, workspace_id: str) -> Sequence[Disk]:
        """See the port."""
        self._read("find_disks")
        return [
            _described_disk(disk)
            for disk in self._disks.values()
            if disk.labels.get("workspace") == workspace_id
            or _named(workspace_id, disk.place.name, "workspace", "home")
        ]

    def operation(self, zone: str, name: str) -> OperationState:
        """See the port."""
        self._read("operation")
        operation = self._operations.get((zone, name))
        return (
            OperationState(operation.done, operation.fault)
            if operation
            else OperationState(done=True)
        )

    def console_tail(self, place: Place, most_bytes: int) -> str:
        """See the port."""
        try:
            self._read("console_tail")
        except UnavailableError:
            return ""
        return self.consoles.get(place.name, "").encode()[-most_bytes:].decode(errors="ignore")

    def grant_login(self, place: Place, member: str) -> None:
        """See the port."""
        self._read("grant_login")
        if self.login_errors:
            raise self.login_errors.pop(0)
        instance = self._at(place)
        if instance is None:
            raise _refusal(FaultKind.NOT_FOUND)
        if member.lower() not in map(str.lower, instance.logins):
            instance.logins.append(member)

    def revoke_logins(self, place: Place) -> int:
        """See the port."""
        self._read("revoke_logins")
        if self.login_errors:
            raise self.login_errors.pop(0)
        instance = self._at(place)
        if instance is None:
            return 0
        could, instance.logins = len(instance.logins), []
        return could

    def perform(self, command: Command, request_id: str) -> StartedCall:
        """See the port."""
        self.calls.append((command, request_id))
        before, self.before_call = self.before_call, None
        if before:
            before()
        self._catch_up()
        started = self._perform(command, request_id)
        after, self.after_call = self.after_call, None
        if after:
            after()
        return started

    # ---- internals ----

    def _perform(self, command: Command, request_id: str) -> StartedCall:
        script = self._strike(command)
        mishap = script.mishap if script else None
        if mishap is Mishap.UNANSWERED:
            raise UnavailableError("Compute Engine does not answer now.")
        if script and mishap is Mishap.REFUSED:
            raise MachineFaultError(fault(script.fault))
        # Compute takes no request id when it labels a snapshot.
        call = (type(command), command.place)
        if request_id in self._requests and not isinstance(command, LabelSnapshot):
            earlier, begun = self._requests[request_id]
            if earlier != call:
                raise _refusal(FaultKind.INVALID)
            return begun
        failure = fault(script.fault) if script and mishap is Mishap.FAILS_LATER else None
        operation = _Operation(f"operation-{next(self._numbers)}", failure, mishap)
        target_id = self._begin(command, operation, 10 if mishap is Mishap.SLOW else 1)
        started = StartedCall(operation.name, target_id)
        if mishap is not Mishap.OPERATION_LOST:
            self._operations[command.place.zone, operation.name] = operation
            self._requests[request_id] = call, started
        if mishap is Mishap.ANSWER_LOST:
            raise UnavailableError("Compute Engine does not answer now.")
        return started

    def _begin(self, command: Command, operation: _Operation, slowness: int) -> str | None:
        takes = self._durations
        if isinstance(command, InsertInstance):
            return self._insert(command, operation, takes.insert * slowness)
        if isinstance(command, DeleteDisk):
            self._delete_disk(command.place, operation, takes.delete_disk * slowness)
            return None
        if isinstance(command, ResizeDisk):
            self._resize_disk(command, operation, takes.set_labels * slowness)
            return None
        if isinstance(command, LabelDisk):
            self._label_disk(command, operation, takes.set_labels * slowness)
            return None
        if isinstance(command, CreateSnapshot):
            self._create_snapshot(command, operation, slowness)
            return None
        if isinstance(command, LabelSnapshot):
            self._label_snapshot(command, operation, takes.set_labels * slowness)
            return None
        if isinstance(command, DeleteSnapshot):
            self._delete_snapshot(command.place.name, operation, takes.delete_snapshot * slowness)
            return None
        instance = self._instances.get(command.place)
        if instance is None:
            raise _refusal(FaultKind.NOT_FOUND)
        if instance.deleting:
            raise _refusal(FaultKind.NOT_READY)
        match command:
            case RefreshMetadata():
                takes_effect = takes.set_metadata * slowness
                self._set(
                    instance,
                    lambda: self._refresh(instance, command),
                    operation,
                    takes_effect,
                )
            case LabelInstance():
                labels = _with_ours(instance.labels, command)
                self._set(
                    instance,
                    lambda: instance.labels.update(labels),
                    operation,
                    takes.set_labels * slowness,
                )
            case StartInstance():
                if instance.state is InstanceState.RUNNING:
                    operation.done = True
                else:
                    _needs(instance, InstanceState.TERMINATED)
                    self._bring_up(instance, operation, takes.start * slowness, boots=True)
            case ResumeInstance():
                _needs(instance, InstanceState.SUSPENDED)
                self._bring_up(instance, operation, takes.resume * slowness, boots=False)
            case SuspendInstance():
                _needs(instance, InstanceState.RUNNING)
                self._freeze(instance, operation, takes.suspend * slowness)
            case StopInstance():
                if instance.state is InstanceState.TERMINATED:
                    operation.done = True
                else:
                    _needs(instance, InstanceState.RUNNING)
                    self._shut_down(instance, operation, takes.stop * slowness)
            case DeleteInstance():
                self._delete(instance, operation, takes.delete * slowness)
        return instance.id

    def _insert(
        self,
        command: InsertInstance,
        operation: _Operation,
        takes: timedelta,
    ) -> str | None:
        home_place, boot_place = Place(command.place.zone, command.home_disk), boot_disk_of(command)
        if command.place in self._instances:
            raise _refusal(FaultKind.ALREADY_EXISTS, f"instances/{command.place.name}")
        home = self._disks.get(home_place)
        if command.attach_home and home is None:
            raise _refusal(FaultKind.NOT_FOUND)
        if not command.attach_home and home is not None:
            raise _refusal(FaultKind.ALREADY_EXISTS, f"disks/{home_place.name}")
        if boot_place in self._disks:
            raise _refusal(FaultKind.ALREADY_EXISTS, f"disks/{boot_place.name}")
        if home is not None and home.deleting:
            raise _refusal(FaultKind.NOT_READY)
        if home is not None:
            _needs_no_user(home)
        snapshot = None if command.attach_home else self._source_of(command)
        if snapshot is not None:
            self._use(f"snapshots/{snapshot.name}", operation)
        labels = _labels(command)
        instance = FakeInstance(
            self._new_id(),
            command.place,
            command,
            command.generation,
            dict(labels),
            self.heartbeat_interval,
        )
        instance.created_at = self._now
        made = home is None
        if home is None:
            content = snapshot.content if snapshot else None
            home = _Disk(home_place, dict(labels), self._now, content or self._new_content())
            home.size_gb = max(HOME_GB, command.home_gb or 0)
            if snapshot is not None:
                home.source, home.made_by = snapshot.name, operation
        home.user = instance
        self._disks[home_place] = home
        self._disks[boot_place] = _Disk(
            *(boot_place, dict(labels), self._now, self._new_content()), boot=True, user=instance
        )
        self._instances[command.place] = instance

        def withdraw() -> None:
            self._remove(instance)
            if made:
                del self._disks[home_place]

        self._bring_up(instance, operation, takes, boots=True, undo=withdraw)
        return instance.id

    def _bring_up(
        self,
        instance: FakeInstance,
        operation: _Operation | None,
        takes: timedelta,
        *,
        boots: bool,
        undo: Callable[[], None] | None = None,
    ) -> None:
        was = instance.state
        self._change(instance, InstanceState.PROVISIONING, operation)

        def allocated() -> None:
            if not _fails(operation):
                self._change(instance, InstanceState.STAGING, operation)
                self._later(instance, takes / 2, prepared)
                return
            if undo:
                undo()
            else:
                self._change(instance, was)
            _end(operation)

        def prepared() -> None:
            self._change(instance, InstanceState.RUNNING)
            instance.last_started_at = self._now
            _end(operation)
            if boots:
                instance.reported = False
            if not instance.reported:
                self._boot(instance)

        self._later(instance, takes / 2, allocated)

    def _boot(self, instance: FakeInstance) -> None:
        """Boot the guest, which continues after a resume if it is suspended in between.

        A guest without its home disk reports that it failed.
        """
        mishap = self._guest_scripts.pop(0) if self._guest_scripts else None

        def up() -> None:
            instance.reported = True
            if mishap is None and not any(
                disk.user is instance and not disk.boot for disk in self._disks.values()
            ):
                self.reports.append(
                    instance.report(
                        ReportEvent.FAILED, "DISK_MISSING", "The home disk is not attached."
                    )
                )
            elif mishap is None:
                self.reports.append(instance.report(ReportEvent.READY))
            elif mishap is GuestMishap.FAILS_AT_BOOT:
                self.reports.append(
                    instance.report(ReportEvent.FAILED, "IMAGE_PULL_FAILED", "No such image.")
                )

        self._later(instance, self._durations.boot, up)

    def _freeze(
        self,
        instance: FakeInstance,
        operation: _Operation | None,
        takes: timedelta,
    ) -> None:
        self._change(instance, InstanceState.SUSPENDING, operation)

        def frozen() -> None:
            self._change(
                instance, InstanceState.RUNNING if _fails(operation) else InstanceState.SUSPENDED
            )
            _end(operation)
            if not _fails(operation):
                self._later(instance, self._durations.suspended_limit, forgotten)
            elif not instance.reported:
                self._boot(instance)

        def forgotten() -> None:
            self._change(instance, InstanceState.TERMINATED)

        self._later(instance, takes, frozen)

    def _shut_down(
        self,
        instance: FakeInstance,
        operation: _Operation | None,
        takes: timedelta,
    ) -> None:
        self._change(instance, InstanceState.PENDING_STOP, operation)

        def stopping() -> None:
            if _fails(operation):
                self._change(instance, InstanceState.RUNNING)
                _end(operation)
                return
            self._change(instance, InstanceState.STOPPING, operation)
            self._later(instance, takes / 2, terminated)

        def terminated() -> None:
            self._change(instance, InstanceState.TERMINATED)
            _end(operation)

        self._later(instance, takes / 2, stopping)

    def _delete(self, instance: FakeInstance, operation: _Operation, takes: timedelta) -> None:
        if _fails(operation):
            self._after(takes, lambda: _end(operation))
            return
        _end(instance.operation, _CANCELLED)
        self._change(instance, InstanceState.STOPPING, operation)
        instance.deleting = True

        def gone() -> None:
            self._remove(instance)
            _end(operation)

        self._later(instance, takes, gone)

    def _set(
        self,
        instance: FakeInstance,
        change: Callable[[], object],
        operation: _Operation,
        takes: timedelta,
    ) -> None:
        """Apply a change of an instance's metadata or labels when its operation ends."""

        def write() -> None:
            if not _fails(operation) and self._instances.get(instance.place) is instance:
                change()
            _end(operation)

        self._after(takes, write)

    def _refresh(self, instance: FakeInstance, command: RefreshMetadata) -> None:
        instance.generation = command.generation
        instance.heartbeat_interval = self.heartbeat_interval
        instance.command = replace(
            instance.command,
            workspace_name=command.workspace_name,
            image_tag=command.image_tag,
            repo=command.repo,
            branch=command.branch,
        )

    def _label_disk(self, command: LabelDisk, operation: _Operation, takes: timedelta) -> None:
        disk = self._disks.get(command.place)
        if disk is None:
            raise _refusal(FaultKind.NOT_FOUND)

        def write() -> None:
            if not _fails(operation):
                disk.labels.update(_with_ours(disk.labels, command))
            _end(operation)

        self._after(takes, write)

    def _resize_disk(self, command: ResizeDisk, operation: _Operation, takes: timedelta) -> None:
        disk = self._disks.get(command.place)
        if disk is None:
            raise _refusal(FaultKind.NOT_FOUND)
        if disk.deleting:
            raise _refusal(FaultKind.NOT_READY)
        if command.size_gb <= disk.size_gb:
            raise _refusal(FaultKind.INVALID)

        def write() -> None:
            if not _fails(operation):
                disk.size_gb = command.size_gb
            _end(operation)

        self._after(takes, write)

    def _delete_disk(self, place: Place, operation: _Operation, takes: timedelta) -> None:
        disk = self._disks.get(place)
        if disk is None:
            raise _refusal(FaultKind.NOT_FOUND)
        _needs_no_user(disk)
        for snapshot in self._snapshots.values():
            if snapshot.source is disk and snapshot.status is SnapshotStatus.CREATING:
                raise _refusal(FaultKind.IN_USE, f"snapshots/{snapshot.name}")
        if disk.deleting:
            raise _refusal(FaultKind.NOT_READY)
        disk.deleting = True

        def gone() -> None:
            if not _fails(operation):
                del self._disks[place]
            else:
                disk.deleting = False
            _end(operation)

        self._after(takes, gone)

    def _source_of(self, command: InsertInstance) -> _Snapshot | None:
        """Return the snapshot from which a home is to be made; None for an empty one."""
        if command.home_snapshot is None:
            return None
        snapshot = self._snapshots.get(command.home_snapshot)
        if snapshot is None:
            raise _refusal(FaultKind.NOT_FOUND, f"snapshots/{command.home_snapshot}")
        if snapshot.status is not SnapshotStatus.READY:
            raise _refusal(FaultKind.NOT_READY)
        if snapshot.disk_gb > max(HOME_GB, command.home_gb or 0):
            raise _refusal(FaultKind.INVALID)
        return snapshot

    def _use(self, source: str, operation: _Operation) -> None:
        """Have the operation fail if its source was used too often in the last hour."""
        uses = [at for at in self._used.get(source, ()) if self._now - at < timedelta(hours=1)]
        if len(uses) >= MOST_AN_HOUR:
            operation.failure = Fault(
                FaultKind.TRANSIENT,
                "RESOURCE_OPERATION_RATE_EXCEEDED",
                f"Operation rate exceeded for resource '{source}'."
                " Too frequent operations from the source resource.",
            )
        else:
            uses.append(self._now)
        self._used[source] = uses

    def _create_snapshot(
        self, command: CreateSnapshot, operation: _Operation, slowness: int
    ) -> None:
        name, disk = command.place.name, self._disks.get(command.disk)
        if name in self._snapshots:
            raise _refusal(FaultKind.ALREADY_EXISTS, f"snapshots/{name}")
        if disk is None:
            raise _refusal(FaultKind.NOT_FOUND, f"disks/{command.disk.name}")
        if disk.deleting:
            raise _refusal(FaultKind.NOT_READY)
        self._use(f"disks/{disk.place.name} in {disk.place.zone}", operation)
        snapshot = _Snapshot(name, _labels(command), disk, self._now, disk.size_gb)
        snapshot.operation = operation
        self._snapshots[name] = snapshot

        def captured() -> None:
            if self._snapshots.get(name) is not snapshot:
                return
            if _fails(operation):
                del self._snapshots[name]
                _end(operation)
            elif operation.mishap is Mishap.CAPTURE_FAILS:
                snapshot.status = SnapshotStatus.FAILED
                _end(operation, fault(FaultKind.TRANSIENT))
            elif self._disks.get(disk.place) is not disk:
                del self._snapshots[name]
                _end(operation, fault(FaultKind.NOT_FOUND, f"disks/{disk.place.name}"))
            else:
                snapshot.status, snapshot.content = SnapshotStatus.UPLOADING, disk.content
                self._after(self._durations.upload * slowness, uploaded)

        def uploaded() -> None:
            if snapshot.status is SnapshotStatus.UPLOADING:
                failed = operation.mishap is Mishap.UPLOAD_FAILS
                snapshot.status = SnapshotStatus.FAILED if failed else SnapshotStatus.READY
                _end(operation, fault(FaultKind.TRANSIENT) if failed else None)

        self._after(self._durations.capture * slowness, captured)

    def _label_snapshot(
        self, command: LabelSnapshot, operation: _Operation, takes: timedelta
    ) -> None:
        snapshot = self._snapshots.get(command.place.name)
        if snapshot is None:
            raise _refusal(FaultKind.NOT_FOUND, f"snapshots/{command.place.name}")

        def write() -> None:
            if not _fails(operation):
                snapshot.labels.update(_with_ours(snapshot.labels, command))
            _end(operation)

        self._after(takes, write)

    def _delete_snapshot(self, name: str, operation: _Operation, takes: timedelta) -> None:
        snapshot = self._snapshots.get(name)
        if snapshot is None:
            raise _refusal(FaultKind.NOT_FOUND, f"snapshots/{name}")
        if snapshot.moving:
            raise _refusal(FaultKind.NOT_READY)
        for disk in self._disks.values():
            if disk.source == name and disk.made_by and not disk.made_by.done:
                raise _refusal(FaultKind.IN_USE, f"disks/{disk.place.name}")
        if _fails(operation):
            self._after(takes, lambda: _end(operation))
            return
        snapshot.status = SnapshotStatus.DELETING

        def gone() -> None:
            if self._snapshots.get(name) is snapshot:
                del self._snapshots[name]
            _end(operation)

        self._after(takes, gone)

    def _strike(self, command: Command) -> _Script | None:
        for script in self._scripts:
            if isinstance(command, script.command) and script.zone in {None, command.place.zone}:
                self._scripts.remove(script)
                return script
        return None

    def _read(self, what: str) -> None:
        self._catch_up()
        self.reads[what] += 1
        if self.unanswered_reads > 0:
            self.unanswered_reads -= 1
            raise UnavailableError("Compute Engine does not answer now.")

    def _described(self, instance: FakeInstance) -> Instance:
        disks = [disk for disk in self._disks.values() if disk.user is instance]
        return Instance(
            id=instance.id,
            name=instance.place.name,
            zone=instance.place.zone,
            state=instance.state,
            machine_type=instance.command.machine_type,
            labels=dict(instance.labels),
            internal_address="10.128.0.2",
            last_started_at=instance.last_started_at,
            created_at=instance.created_at,
            off_since=instance.off_since,
            disks=tuple(disk.place.name for disk in sorted(disks, key=lambda disk: not disk.boot)),
            heartbeat_interval=instance.heartbeat_interval,
        )

    def _new_content(self) -> str:
        return f"content-{next(self._numbers)}"

    def _new_id(self) -> str:
        return str(10**18 + next(self._numbers))

    def _disk_at(self, place: Place) -> _Disk | None:
        self._catch_up()
        return self._disks.get(place)

    def _at(self, place: Place) -> FakeInstance | None:
        self._catch_up()
        return self._instances.get(place)

    def _change(
        self, instance: FakeInstance, state: InstanceState, operation: _Operation | None = None
    ) -> None:
        """Change an instance's state, and cancel what it was about to become."""
        instance.state = state
        instance.operation = operation
        instance.change += 1
        if state in {InstanceState.TERMINATED, InstanceState.SUSPENDED}:
            instance.off_since = self._now

    def _remove(self, instance: FakeInstance, *, keep_boot_disk: bool = False) -> None:
        instance.change += 1
        del self._instances[instance.place]
        for disk in [disk for disk in self._disks.values() if disk.user is instance]:
            self._detach(disk)
            if disk.boot and not keep_boot_disk:
                del self._disks[disk.place]

    def _detach(self, disk: _Disk) -> None:
        if disk.users:
            disk.user, disk.holder, disk.detached_at = None, None, self._now

    def _later(self, instance: FakeInstance, delay: timedelta, happens: Callable[[], None]) -> None:
        """Do something with an instance later, unless its state has changed by then."""
        change = instance.change

        def unless_changed() -> None:
            if instance.change == change:
                happens()

        self._after(delay, unless_changed)

    def _after(self, delay: timedelta, happens: Callable[[], None]) -> None:
        heapq.heappush(self._due, _Due(self._now + delay, next(self._numbers), happens))

    def _catch_up(self) -> None:
        """Do everything that is due by now."""
        now = self._clock()
        while self._due and self._due[0].at <= now:
            due = heapq.heappop(self._due)
            self._now = due.at
            due.happens()
        self._now = now


def _needs(instance: FakeInstance, state: InstanceState) -> None:
    if instance.state is not state:
        raise _refusal(FaultKind.NOT_READY)


def _needs_no_user(disk: _Disk) -> None:
    if disk.users:
        raise _refusal(FaultKind.IN_USE, f"instances/{disk.users[0]}")


def _described_disk(disk: _Disk) -> Disk:
    return Disk(
        name=disk.place.name,
        zone=disk.place.zone,
        labels=dict(disk.labels),
        created_at=disk.created_at,
        size_gb=disk.size_gb,
        users=disk.users,
        detached_at=disk.detached_at,
    )


def _described_snapshot(snapshot: _Snapshot) -> DiskSnapshot:
    stored = snapshot.status is SnapshotStatus.READY
    return DiskSnapshot(
        name=snapshot.name,
        status=snapshot.status,
        labels=dict(snapshot.labels),
        source_disk=snapshot.source.place.name,
        disk_gb=snapshot.disk_gb,
        created_at=snapshot.created_at,
        stored_bytes=STORED_BYTES if stored else None,
    )


def _refusal(kind: FaultKind, resource: str = "") -> MachineFaultError:
    return MachineFaultError(fault(kind, resource))


def _fails(operation: _Operation | None) -> bool:
    return operation is not None and operation.failure is not None


def _end(operation: _Operation | None, cancelled: Fault | None = None) -> None:
    if operation is not None and not operation.done:
        operation.done = True
        operation.fault = cancelled or operation.failure
