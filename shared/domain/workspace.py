"""The record of a workspace, and of what its owner holds.

Everything here is immutable: a decision returns a new record. Times are aware and in UTC. The
Firestore documents ``workspaces/{id}`` and ``owners/{owner_id}`` have the same field names
(``shared/adapters/firestore_records.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

SCHEMA_VERSION = 2


class Status(StrEnum):
    """What a workspace is, as people see it. What is under way is its operation, not a status."""

    PROVISIONING = "PROVISIONING"
    READY = "READY"
    SUSPENDED = "SUSPENDED"
    ERROR = "ERROR"


class OperationKind(StrEnum):
    """The changes that can be under way, one at a time."""

    CREATE = "CREATE"
    STOP = "STOP"
    START = "START"
    SNAPSHOT = "SNAPSHOT"
    RESTORE = "RESTORE"
    ARCHIVE = "ARCHIVE"
    DELETE = "DELETE"


# The operations that make a machine, or boot one.
MAKING = frozenset({OperationKind.CREATE, OperationKind.START, OperationKind.RESTORE})


class Phase(StrEnum):
    """What an operation's next step does, or what it waits for. ``steps`` has the table."""

    SURVEY = "survey"
    INSERT = "insert"
    INSERTING = "inserting"
    SET_METADATA = "set_metadata"
    AWAIT_METADATA = "await_metadata"
    START = "start"
    STARTING = "starting"
    AWAIT_READY = "await_ready"
    RESUME = "resume"
    AWAIT_RUNNING = "await_running"
    SUSPEND = "suspend"
    AWAIT_SUSPENDED = "await_suspended"
    STOP = "stop"
    AWAIT_STOPPED = "await_stopped"
    DELETE_INSTANCE = "delete_instance"
    AWAIT_ABSENT = "await_absent"
    DELETE_DISK = "delete_disk"
    AWAIT_DISK_ABSENT = "await_disk_absent"
    FORGET = "forget"
    SNAPSHOT = "snapshot"
    AWAIT_SNAPSHOT = "await_snapshot"
    AWAIT_STORED = "await_stored"
    RESIZE_DISK = "resize_disk"
    AWAIT_RESIZED = "await_resized"


_SNAPSHOT_PHASES = frozenset({Phase.SNAPSHOT, Phase.AWAIT_SNAPSHOT, Phase.AWAIT_STORED})
_SHUTTING_DOWN = frozenset({Phase.STOP, Phase.AWAIT_STOPPED})
_DELETING_DISK = frozenset({Phase.DELETE_DISK, Phase.AWAIT_DISK_ABSENT})
_GROWING_PHASES = frozenset({Phase.RESIZE_DISK, Phase.AWAIT_RESIZED})


class Activity(StrEnum):
    """What last moved ``last_connected_at``."""

    CREATED = "created"
    STARTED = "started"
    HEARTBEAT = "heartbeat"


class StopReason(StrEnum):
    """Why a workspace is suspended.

    A person asked for it, nobody was connected for the idle time, or it was done outside the Hub.
    """

    REQUESTED = "requested"
    IDLE = "idle"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a workspace is not what its owner asked for.

    ``code`` is stable and upper snake case. ``message`` says what happened and what to do next.
    ``retryable``: the same request may succeed later without any other change.
    """

    code: str
    message: str
    retryable: bool
    at: datetime
    operation_kind: OperationKind | None = None


class AccessState(StrEnum):
    """Whether a workspace's owner may log in to its machine.

    ``PENDING`` comes by itself. ``REFUSED`` needs somebody to change something.
    """

    GRANTED = "granted"
    PENDING = "pending"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Access:
    """What came of letting the owner in to the machine ``instance_id``.

    ``why`` is for people: plain text, at most 500 characters; None if it was granted. ``since`` is
    since when it is so, or since when it has been failing. ``retry_at`` is when it may be tried
    again; None if it was granted.
    """

    state: AccessState
    why: str | None
    instance_id: str
    since: datetime
    retry_at: datetime | None


@dataclass(frozen=True, slots=True)
class HomeDisk:
    """The persistent disk of a workspace's home, once a machine has used it.

    It is zonal, and binds the machine to its zone.
    """

    name: str
    zone: str


@dataclass(frozen=True, slots=True)
class HomeSource:
    """The snapshot that a workspace's home is made from, while it is not a disk yet.

    The next machine is made with a disk of its content, at least ``disk_gb`` GB large. A version
    that does not know this would make an empty home, so such a record has a newer schema
    (``Workspace.schema_version``). ``disk_name`` is the disk that it was taken of: a
    snapshot of another disk that has its name is not used. ``new_disk`` is the name of the disk to
    be made; None for the name that a workspace's first home has.
    """

    snapshot_id: str
    resource_name: str
    disk_gb: int
    disk_name: str
    new_disk: str | None = None

    def is_of(self, workspace_id: str) -> bool:
        """Say whether it is a snapshot of this workspace, as one from which it was taken back."""
        return self.resource_name.startswith(f"home-snapshot-{workspace_id}-")


@dataclass(frozen=True, slots=True)
class OldHome:
    """A disk of a workspace that is not its home any more, and is yet to be deleted.

    ``snapshot_id`` is the snapshot that has all that is on it; None if there is none.
    ``instance_id`` is the machine in that zone that goes with it; None if there is none.
    ``detached_at`` is when its machine let go of it, by Compute's time: if that is later by now,
    somebody has used it since. None if it is not known. ``outlived``: somebody may have used it
    since that snapshot was taken, as its machine stayed when the workspace moved. Without that,
    nobody ever had to do with its machine: a move has made both, and they were not proven.
    ``deleting_since`` is when the Hub itself last had that machine deleted; None if it has not.
    ``copied_at`` is when that snapshot was made, by Compute's time; None if it is not known.
    ``kept_until`` is until when it is known though Compute has no such disk, since a worker may be
    about to make it; None if no worker can be. ``absent``: it was seen that there is none.
    """

    name: str
    zone: str
    snapshot_id: str | None = None
    instance_id: str | None = None
    detached_at: datetime | None = None
    outlived: bool = False
    deleting_since: datetime | None = None
    copied_at: datetime | None = None
    kept_until: datetime | None = None
    absent: bool = False


@dataclass(frozen=True, slots=True)
class FormerMachine:
    """What is recorded of a machine that stays while a START moves its workspace to another zone.

    ``instance_id`` is None if there is none, or if it will not do, as after a START that was to
    make another one. ``ready_generation`` is None if it has no memory that is worth keeping.
    ``seen_id`` is the id of what was there when the workspace left the zone; None if nothing was.
    """

    instance_id: str | None
    generation: int
    ready_generation: int | None
    made_at: datetime | None
    image_tag: str
    machine_type: str
    seen_id: str | None = None


@dataclass(frozen=True, slots=True)
class HostKey:
    """The public key by which a machine proves to SSH clients who it is.

    The machine said so itself, when it reported ready. It counts for the machine of that
    ``instance_id`` only. ``text`` is ``<type> <base64>``, as OpenSSH writes it.
    """

    instance_id: str
    text: str
    reported_at: datetime


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the person said the workspace is for. It is free text, and no decision uses it."""

    repo: str | None = None
    branch: str | None = None
    device_id: str | None = None


@dataclass(frozen=True, slots=True)
class PhaseDuration:
    """How long a phase that has ended lasted, to a tenth of a second.

    ``phase`` is a ``Phase`` of the version that wrote it: events outlive versions.
    """

    phase: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The one change under way.

    ``step`` goes up in every commit that is followed by a job, and travels in the job: a job of
    another operation or step is obsolete. ``resends`` counts how often ``reconcile`` has resent the
    current step, ``attempt`` how often the current phase was begun again. ``automatic``: the
    clean-up asked for it. ``failure`` is set once the operation has failed for good and only cleans
    up. ``last_fault`` is what Compute said when it last refused a call, ``last_fault_kind`` what
    that meant (a ``FaultKind``). ``forget_after`` is when no worker of a superseded operation can
    be running any more. ``request_id`` is that of the request that began the operation.

    ``empty_home``: the person agrees to an empty home if the recorded one is gone. ``remade``: a
    START has decided to make a new machine, which it does once. ``cannot_go_on`` is why the present
    machine cannot be brought to READY. ``renamed``: a leftover boot disk had the name that an
    insert needs, so the insert got a new generation, which happens once. ``right_missing_since`` is
    when Compute first refused a call because a right was missing. ``suspends_undone`` counts how
    often the machine came back to running instead of being suspended. ``memory_lost_because`` is
    why the machine's memory will not be kept. ``renews``: the new machine is made only because the
    old one is too old. ``phases`` are the durations of the phases that have ended
    (``durations.phases_until``). ``snapshot_name`` is the name that a person gives to the snapshot
    that a SNAPSHOT takes; its id is the operation's. ``home_at_rest``: the machine was shut down,
    and no other had the disk, when Compute was asked for that snapshot. ``restores`` is what a
    RESTORE makes the home from, ``former_home`` the home that the workspace had before, from the
    moment in which the new one is recorded, and ``former_detached_at`` is when its machine let go
    of it, by Compute's time, as soon as that is known. A move has a former home, too. ``last_copy``
    is the snapshot that has what is in the home that the operation takes away or leaves, from the
    moment in which it is known, and ``copied_at`` is when it was made, by Compute's time.
    ``home_detached``: no machine had the home disk when Compute was asked for the snapshot.
    ``purge``: nothing of the workspace is kept when it is deleted. ``may_move``: the person agrees
    that a START without capacity moves the workspace to another zone, and ``to_zone`` is the zone
    in which they want it. ``moves``: the START moves it, and ``former_machine`` is the machine to
    go back to. ``home_gb`` is the size to which the home is to grow; None if it is not.
    ``image_tag`` and ``machine_type`` are what the new machine of a START that moves it or makes
    the home larger gets instead of what the workspace has, if that is to change: until then the
    present one stays. Version 0.1 does not know the fields of this paragraph and may drop them, so
    each has a default with which the operation also ends well.
    """

    id: str
    kind: OperationKind
    phase: Phase
    step: int
    requested_by: str
    requested_at: datetime
    deadline_at: datetime
    phase_since: datetime
    request_id: str
    attempt: int = 0
    resends: int = 0
    automatic: bool = False
    gce_operation: str | None = None
    zones_tried: tuple[str, ...] = ()
    failure: Problem | None = None
    last_fault: str | None = None
    forget_after: datetime | None = None
    last_fault_kind: str | None = None
    empty_home: bool = False
    remade: bool = False
    cannot_go_on: str | None = None
    renamed: bool = False
    right_missing_since: datetime | None = None
    suspends_undone: int = 0
    memory_lost_because: str | None = None
    renews: bool = False
    phases: tuple[PhaseDuration, ...] = ()
    snapshot_name: str | None = None
    home_at_rest: bool = False
    restores: HomeSource | None = None
    former_home: HomeDisk | None = None
    former_detached_at: datetime | None = None
    last_copy: HomeSource | None = None
    copied_at: datetime | None = None
    home_detached: bool = False
    purge: bool = False
    may_move: bool = False
    to_zone: str | None = None
    moves: bool = False
    former_machine: FormerMachine | None = None
    home_gb: int | None = None
    image_tag: str | None = None
    machine_type: str | None = None

    @property
    def yields_to_start(self) -> bool:
        """Whether a START calls it off: an ARCHIVE that does not delete the home disk yet.

        Nor does one whose person has asked for it while it shuts the machine down.
        """
        shuts_down = self.phase in _SHUTTING_DOWN and not self.automatic
        has_begun = self.last_copy is not None and self.phase not in _SNAPSHOT_PHASES
        deletes_disk = has_begun or self.phase in _DELETING_DISK
        return self.kind is OperationKind.ARCHIVE and not (shuts_down or deletes_disk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """One workspace.

    ``generation`` goes up at every boot that the Hub asks for. ``ready_generation`` is the one
    whose machine last reported ready and still has that memory. They are equal exactly when a
    running machine can be used without another boot. ``machine_running``: a machine runs that no
    operation is about to boot. It costs money, so the idle sweep looks at it. ``attend_at`` is when
    ``reconcile`` must see to the workspace if nothing happens before; None if nothing is due.
    ``sweep_at`` is when the clean-up must decide about it (``lifecycle.sweeps_at``), as of the last
    write; None if it need not, or if a version wrote it that does not know this.

    ``memory_kept`` says whether the memory was kept the last time that the machine was off; None if
    it never was off. ``memory_lost_because`` says why it was not. ``heartbeat_seconds`` is the
    interval at which the machine reports that it is in use; None if it is unknown.
    ``kept_awake_since`` is since when only ``~/.keep-awake`` holds the machine.
    ``kept_awake_until`` is until when a person wants it left alone though it is idle; None again
    when it is suspended. ``running_since`` is when the machine began to run at the earliest; None
    if that is not known, as after version 0.1, or if it does not run.
    ``machine_made_at`` is when the recorded machine was made, with its boot disk; None until a
    worker has looked, as after version 0.1. ``last_device_id`` is from where its owner last
    connected, as they said it; ``metadata.device_id`` stays what created it. ``host_key`` may be an
    earlier machine's: see ``machine_key``. ``access`` says whether the owner may log in to a
    machine, which may be an earlier one too; None until it was tried. ``home_source`` is what the
    home is made from; None once it is a disk, and for a home that begins empty.
    ``snapshot_asked_at`` is when the last SNAPSHOT that has ended was asked for, except one that
    Compute has certainly refused; None if there was none. ``old_homes`` are its earlier homes that
    are yet to be deleted (``old_homes.py``). ``archived_at`` is since when its home is a snapshot
    instead of a disk; None if it is not. ``archive_announced_at`` is when its owner was told that
    it will be archived; it counts if that is later than ``suspended_at``. ``home_gb`` is the size
    of the home, in GB as Compute counts them; None if it is not known, as after version 0.1.
    ``schema_version`` is the oldest version of the record's form with which nothing of it is lost.
    """

    id: str
    name: str
    owner_id: str
    owner_email: str | None
    project_id: str
    instance_name: str
    zone: str
    image_tag: str
    machine_type: str
    status: Status
    created_at: datetime
    updated_at: datetime
    last_connected_at: datetime
    last_activity: Activity
    metadata: Metadata = Metadata()
    home_disk: HomeDisk | None = None
    generation: int = 1
    ready_generation: int | None = None
    instance_id: str | None = None
    machine_running: bool = False
    suspended_at: datetime | None = None
    stopped_because: StopReason | None = None
    operation: Operation | None = None
    attend_at: datetime | None = None
    sweep_at: datetime | None = None
    error: Problem | None = None
    memory_kept: bool | None = None
    memory_lost_because: str | None = None
    heartbeat_seconds: int | None = None
    kept_awake_since: datetime | None = None
    kept_awake_until: datetime | None = None
    running_since: datetime | None = None
    machine_made_at: datetime | None = None
    last_device_id: str | None = None
    host_key: HostKey | None = None
    access: Access | None = None
    home_source: HomeSource | None = None
    snapshot_asked_at: datetime | None = None
    old_homes: tuple[OldHome, ...] = ()
    archived_at: datetime | None = None
    archive_announced_at: datetime | None = None
    home_gb: int | None = None

    @property
    def schema_version(self) -> int:
        """The oldest version of the record's form with which nothing of it is lost.

        Form 2 has snapshots: a home that is to be made from one, or that has replaced another
        which is still there; a SNAPSHOT, a RESTORE, an ARCHIVE or a move that is under way, or the
        error of one that failed; a DELETE that keeps a last copy; a home that grows. Version 0.1
        refuses to touch such a record, since it would delete the home without a copy, or does not
        know the phase, and can use all others.
        """
        operation = self.operation
        kinds = {operation and operation.kind, self.error and self.error.operation_kind}
        newer = {OperationKind.SNAPSHOT, OperationKind.RESTORE, OperationKind.ARCHIVE}
        takes_copy = operation is not None and (
            operation.phase in _SNAPSHOT_PHASES or operation.last_copy is not None
        )
        remakes = operation is not None and (operation.moves or operation.phase in _GROWING_PHASES)
        has_snapshots = self.home_source is not None or bool(self.old_homes)
        takes_copy = takes_copy or self._keeps_home
        return 2 if has_snapshots or takes_copy or remakes or kinds & newer else 1

    @property
    def _keeps_home(self) -> bool:
        """Whether a DELETE is under way that takes a last copy of the home, now or later."""
        operation = self.operation
        if operation is None or operation.kind is not OperationKind.DELETE:
            return False
        return not operation.purge and self.home_disk is not None

    @property
    def disk_name(self) -> str:
        """The name of the home disk in Compute, whether it exists yet or not."""
        if self.home_disk is not None:
            return self.home_disk.name
        made = self.home_source.new_disk if self.home_source else None
        return made or f"home-{self.id}"

    @property
    def has_archivable_home(self) -> bool:
        """Whether there is a home: a disk, or a snapshot of this workspace that it is made from.

        After an ARCHIVE that failed at its end, both the disk and the snapshot may be there.
        """
        return self.home_disk is not None or self.own_source is not None

    @property
    def own_source(self) -> HomeSource | None:
        """The snapshot of the workspace that is its home instead of a disk; None if none is."""
        source = self.home_source
        is_home = source is not None and self.home_disk is None and source.is_of(self.id)
        return source if is_home else None

    @property
    def machine_key(self) -> str | None:
        """The SSH host key of the present machine; None if there is none, or it is not known."""
        key = self.host_key
        return key.text if key is not None and key.instance_id == self.instance_id else None

    @property
    def is_being_deleted(self) -> bool:
        """Whether a DELETE is under way."""
        return self.operation is not None and self.operation.kind is OperationKind.DELETE

    @property
    def machine_operation(self) -> Operation | None:
        """The operation that may change the machine; None if none does.

        A SNAPSHOT leaves the machine as it is. So people and machines may do what they may do
        without an operation.
        """
        operation = self.operation
        leaves = operation is not None and operation.kind is OperationKind.SNAPSHOT
        return None if leaves else operation

    @property
    def counts_as_running(self) -> bool:
        """Whether the owner's quota of running machines counts it.

        It counts from the request that makes or starts the machine until the machine is off.
        """
        under_way = self.operation is not None and self.operation.kind in MAKING
        return (
            under_way or self.machine_running or self.status in {Status.PROVISIONING, Status.READY}
        )

    @property
    def sources(self) -> tuple[HomeSource, ...]:
        """The snapshots that a home is yet to be made from, so they must stay.

        So must the last copy of a home that a DELETE or an ARCHIVE takes away.
        """
        takes = {OperationKind.DELETE, OperationKind.ARCHIVE}
        restores = self.operation.restores if self.operation else None
        copy = self.operation.last_copy if self.operation and self.operation.kind in takes else None
        return tuple(each for each in (self.home_source, restores, copy) if each is not None)

    @property
    def memory_is_ready(self) -> bool:
        """Whether the recorded machine has the memory of a boot that reported ready.

        If it has, it can be used as soon as it runs.
        """
        return self.has_memory and self.instance_id is not None

    @property
    def has_memory(self) -> bool:
        """Whether there is memory of a boot that reported ready, though its machine may not do."""
        return self.ready_generation == self.generation


# No workspace is called so. Version 0.1 reads it as a name that nobody asks for.
NO_NAME = ""


@dataclass(frozen=True, slots=True)
class OwnedWorkspace:
    """One workspace in its owner's document.

    ``name`` is ``NO_NAME`` once somebody has asked to delete the workspace: others may have the
    name then. ``running`` is ``Workspace.counts_as_running`` as it was last committed.
    """

    name: str
    running: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedKey:
    """An idempotency key that an owner used: its workspace, and a hash of the request's body."""

    workspace_id: str
    body_hash: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Owner:
    """What one person has.

    Names, quota and idempotency keys are decided on this record, in one commit with the workspace.
    ``keys`` maps the SHA-256 of an idempotency key to its use. ``recent`` are the times of the
    owner's changes in the last minute, the oldest first. ``domain`` is that of the organisation
    that they had proven to belong to when they last changed something themselves. It is None if
    there was none, or if a version that does not know this field has written the record since.
    """

    id: str
    workspaces: Mapping[str, OwnedWorkspace] = field(default_factory=dict)
    keys: Mapping[str, UsedKey] = field(default_factory=dict)
    recent: tuple[datetime, ...] = ()
    domain: str | None = None
