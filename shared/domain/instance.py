"""A machine as Compute Engine describes it, and the calls that change one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class InstanceState(StrEnum):
    """Every state of a Compute instance.

    Source: Compute Engine's "VM instance lifecycle", and ``Instance.status`` of its v1 API.
    """

    PROVISIONING = "PROVISIONING"
    STAGING = "STAGING"
    RUNNING = "RUNNING"
    PENDING_STOP = "PENDING_STOP"
    STOPPING = "STOPPING"
    TERMINATED = "TERMINATED"
    SUSPENDING = "SUSPENDING"
    SUSPENDED = "SUSPENDED"
    REPAIRING = "REPAIRING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What Compute says about one instance.

    ``id`` is its numeric id. ``labels`` are all its labels, not only the Hub's. ``disks`` are the
    names of the attached disks. ``heartbeat_interval`` is the interval at which its boot scripts
    report, from its metadata; an instance of a list does not have it. ``off_since`` is when it was
    last stopped or suspended.
    """

    id: str
    name: str
    zone: str
    state: InstanceState
    machine_type: str
    labels: Mapping[str, str] = field(default_factory=dict)
    internal_address: str | None = None
    last_started_at: datetime | None = None
    created_at: datetime | None = None
    off_since: datetime | None = None
    disks: tuple[str, ...] = ()
    heartbeat_interval: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What Compute says about one disk.

    ``labels`` are all its labels, not only the Hub's. ``users`` are the names of the instances that
    have it attached. ``detached_at`` is None if it was never detached. ``size_gb`` is in GB as
    Compute counts them.
    """

    name: str
    zone: str
    labels: Mapping[str, str]
    created_at: datetime
    size_gb: int
    users: tuple[str, ...] = ()
    detached_at: datetime | None = None

    @property
    def in_use(self) -> bool:
        """Whether an instance has it attached."""
        return bool(self.users)


class SnapshotStatus(StrEnum):
    """Every state of a Compute snapshot (source: ``Snapshot.status`` of its v1 API).

    The content is captured from ``UPLOADING`` on: what is written to the disk then is not in it.
    """

    CREATING = "CREATING"
    UPLOADING = "UPLOADING"
    READY = "READY"
    FAILED = "FAILED"
    DELETING = "DELETING"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSnapshot:
    """What Compute says about one snapshot of a disk. It belongs to no zone.

    ``labels`` are all its labels, not only the Hub's. ``source_disk`` is the name of its disk.
    ``disk_gb`` is the size of a disk that is made from it, at least. ``stored_bytes`` is what it
    takes besides the disk's earlier snapshots; None until Compute has counted it.
    """

    name: str
    status: SnapshotStatus
    labels: Mapping[str, str]
    source_disk: str
    disk_gb: int
    created_at: datetime
    stored_bytes: int | None = None


# What stands for the zone of resources that belong to none: snapshots, and their operations.
GLOBAL = "global"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance, a disk or a snapshot is: enough to address it in Compute.

    The zone of a snapshot is ``GLOBAL``.
    """

    zone: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertInstance:
    """Make the machine and boot it.

    ``attach_home``: the home disk exists and is attached. Otherwise it is made: of the content of
    the snapshot ``home_snapshot`` and at least ``home_gb`` GB large, or empty if there is none.
    """

    place: Place
    workspace_id: str
    workspace_name: str
    owner_id: str
    machine_type: str
    image_tag: str
    generation: int
    home_disk: str
    attach_home: bool
    repo: str | None
    branch: str | None
    home_snapshot: str | None = None
    home_gb: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshMetadata:
    """Write the Hub's metadata as a new machine of this generation gets it, boot files included.

    Items that are not the Hub's stay.
    """

    place: Place
    workspace_id: str
    workspace_name: str
    image_tag: str
    generation: int
    repo: str | None
    branch: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelInstance:
    """Put the Hub's labels back on an instance (``ownership.labels_of``). Other labels stay."""

    place: Place
    workspace_id: str
    owner_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelDisk:
    """Put the Hub's labels back on a disk. Other labels stay."""

    place: Place
    workspace_id: str
    owner_id: str


@dataclass(frozen=True, slots=True)
class StartInstance:
    """Boot a stopped machine."""

    place: Place


@dataclass(frozen=True, slots=True)
class ResumeInstance:
    """Resume a suspended machine. It goes on where it was; it does not boot."""

    place: Place


@dataclass(frozen=True, slots=True)
class SuspendInstance:
    """Suspend a running machine. Its memory is kept."""

    place: Place


@dataclass(frozen=True, slots=True)
class StopInstance:
    """Shut a machine down. Its memory is lost."""

    place: Place


@dataclass(frozen=True, slots=True)
class DeleteInstance:
    """Delete a machine and its boot disk. The home disk stays."""

    place: Place


@dataclass(frozen=True, slots=True)
class DeleteDisk:
    """Delete a disk of a workspace: its home, or a boot disk that outlived its machine."""

    place: Place


@dataclass(frozen=True, slots=True)
class ResizeDisk:
    """Make a disk larger, attached or not. Its file system follows at the machine's next boot."""

    place: Place
    size_gb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSnapshot:
    """Make a standard snapshot of a disk, attached or not. It outlives the disk.

    ``place`` is the snapshot's, ``disk`` the disk's. It gets the Hub's labels.
    """

    place: Place
    disk: Place
    workspace_id: str
    owner_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSnapshot:
    """Put the Hub's labels back on a snapshot. Other labels stay."""

    place: Place
    workspace_id: str
    owner_id: str


@dataclass(frozen=True, slots=True)
class DeleteSnapshot:
    """Delete a snapshot. Disks that were made from it stay."""

    place: Place


Command = (
    InsertInstance
    | RefreshMetadata
    | LabelInstance
    | LabelDisk
    | StartInstance
    | ResumeInstance
    | SuspendInstance
    | StopInstance
    | DeleteInstance
    | DeleteDisk
    | ResizeDisk
    | CreateSnapshot
    | LabelSnapshot
    | DeleteSnapshot
)


@dataclass(frozen=True, slots=True)
class StartedCall:
    """A call that Compute has accepted.

    ``target_id`` is the numeric id of the resource that it changes. A new instance has its id at
    once.
    """

    gce_operation: str
    target_id: str | None = None


class FaultKind(StrEnum):
    """What Compute's refusal means for an operation.

    ``NOT_READY`` passes by itself within minutes: a resource that is being changed or repaired, a
    service account that is not known everywhere yet, a subnetwork without a free address.
    ``IN_USE``: another resource uses this one. ``POLICY``: an organisation policy forbids it.
    ``UNSUPPORTED``: this machine can never do that. ``TRANSIENT``: Compute itself has trouble, or
    is called too often.
    """

    STOCK_OUT = "stock_out"
    QUOTA = "quota"
    PERMISSION = "permission"
    POLICY = "policy"
    INVALID = "invalid"
    NOT_READY = "not_ready"
    IN_USE = "in_use"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    UNSUPPORTED = "unsupported"
    TRANSIENT = "transient"


@dataclass(frozen=True, slots=True)
class Fault:
    """A call that Compute refused, or a long operation of Compute that ended in an error.

    ``code`` is Compute's own. ``message`` is Compute's, made readable: at most 300 characters of
    plain text, no URL, no HTML, no request id. ``resource`` is the resource in the way
    (``disks/home-…``), the one that uses the resource (``instances/…``), or the one that is
    missing; empty if Compute does not name one.
    """

    kind: FaultKind
    code: str
    message: str
    resource: str = ""


@dataclass(frozen=True, slots=True)
class OperationState:
    """The state of a long operation of Compute.

    One that Compute no longer knows is done without a fault: the instance shows what it did.
    """

    done: bool
    fault: Fault | None = None
