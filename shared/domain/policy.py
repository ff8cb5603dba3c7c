"""The numbers and lists that decisions depend on.

Most are settings (``shared/config/declarations.py``), with the default that is here; the others are
fixed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase

from shared.domain.access import normalized
from shared.domain.workspace import OperationKind, Phase


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each kind of operation may take before it is ended with a reason."""

    create: timedelta = timedelta(minutes=15)
    start: timedelta = timedelta(minutes=10)
    stop: timedelta = timedelta(minutes=10)
    delete: timedelta = timedelta(minutes=30)
    snapshot: timedelta = timedelta(minutes=5)
    restore: timedelta = timedelta(minutes=60)
    archive: timedelta = timedelta(minutes=60)

    def of(self, kind: OperationKind) -> timedelta:
        """Return the time that an operation of this kind may take."""
        return {
            OperationKind.CREATE: self.create,
            OperationKind.START: self.start,
            OperationKind.STOP: self.stop,
            OperationKind.DELETE: self.delete,
            OperationKind.SNAPSHOT: self.snapshot,
            OperationKind.RESTORE: self.restore,
            OperationKind.ARCHIVE: self.archive,
        }[kind]


@dataclass(frozen=True, slots=True)
class UsualTimes:
    """How long after each call of Compute a worker first looks whether its work has ended.

    The machine's report ends a boot, without any look. So ``insert``, ``start`` and ``boot``, which
    counts from RUNNING, are times at which nearly all have ended: an insert takes 10 to 15 s and a
    boot 40 to 60 s, or longer if the image is large. A person waits for the end of the others, so
    these are times at which some have ended: a resume takes 8 to 10 s, a suspend 20 to 25 s (both:
    a public measurement on an n1-standard-1), a stop 15 to 30 s, a deletion 30 to 60 s.
    """

    insert: timedelta = timedelta(seconds=15)
    boot: timedelta = timedelta(seconds=60)
    set_metadata: timedelta = timedelta(seconds=3)
    start: timedelta = timedelta(seconds=15)
    resume: timedelta = timedelta(seconds=8)
    suspend: timedelta = timedelta(seconds=20)
    stop: timedelta = timedelta(seconds=20)
    delete: timedelta = timedelta(seconds=40)
    delete_disk: timedelta = timedelta(seconds=4)
    snapshot: timedelta = timedelta(seconds=5)
    resize_disk: timedelta = timedelta(seconds=4)

    def of(self, phase: Phase) -> timedelta:
        """Return how long a phase that waits for a call usually lasts; 0 for any other."""
        return {
            Phase.INSERTING: self.insert,
            Phase.AWAIT_METADATA: self.set_metadata,
            Phase.STARTING: self.start,
            Phase.AWAIT_RUNNING: self.resume,
            Phase.AWAIT_SUSPENDED: self.suspend,
            Phase.AWAIT_STOPPED: self.stop,
            Phase.AWAIT_ABSENT: self.delete,
            Phase.AWAIT_DISK_ABSENT: self.delete_disk,
            Phase.AWAIT_SNAPSHOT: self.snapshot,
            Phase.AWAIT_RESIZED: self.resize_disk,
        }.get(phase, timedelta(0))


@dataclass(frozen=True, slots=True)
class Limits:
    """How many workspaces an owner may have, and how many of them may have a running machine."""

    workspaces: int = 5
    running: int = 5


@dataclass(frozen=True, slots=True)
class Policy:
    """What is allowed, what is the default, and how long things may take.

    Machines are made in the project ``project_id``. The first zone is the default; the others are
    tried in order when one is out of capacity. ``image_tags`` are patterns (``v1.*``).
    ``limits_of`` overrides ``limits`` by e-mail address or by domain, as ``normalized`` returns
    them. ``idle_after`` and ``retention`` are None when that sweep is off. A phase is looked at
    when it has usually ended (``usual``). If it has not, and has lasted ``t``, it is looked at
    again after a quarter of ``t``, at least ``look_min`` and at most ``look_max``, so waiting adds
    at most a quarter. ``attend_after`` is how long after a due job
    ``reconcile`` resends it for the first time. ``worker_timeout`` is the longest time a worker may
    run. ``orphan_grace`` is how long a machine or a disk without a workspace is kept.
    ``rights_patience`` is how long a missing right is waited for: Google says that a change of
    rights usually takes 2 minutes, sometimes 7 (source: IAM's documentation of access change
    propagation). ``machine_heartbeat_interval`` is the interval at which a machine that boots now
    reports that it is in use; ``heartbeat_write_interval`` is the shortest time between two reports
    that are stored. ``keep_awake_most`` is how long ``~/.keep-awake`` alone holds a machine,
    whatever the machine says, and how far ahead a person may ask that it be kept awake.
    ``max_machine_age`` is the age up to which a START still boots a machine; None if any age will
    do. Compute itself stops a machine that has run for ``most_run`` at a stretch (None: it does
    not), and one that is a Spot VM (``spot``) whenever it needs the capacity.
    ``snapshots_per_workspace`` is how many snapshots a workspace may have, and ``snapshot_pause``
    the time between two of them: Compute takes at most one of a disk in ten minutes (source: its
    "Best practices for disk snapshots"). ``undelete_for`` is how long a deleted workspace can be
    taken back, from the request on; None if it cannot be. An owner has at most
    ``deleted_per_owner`` such workspaces: with one more, the oldest is purged. A workspace that has
    been suspended for ``archive_after`` is archived (None: none is), at most ``archives_per_run``
    in a run of the clean-up, and not before that was announced for ``archive_notice``. A new home
    has ``home_disk_gb`` GB, and can grow to ``home_disk_max_gb``.
    """

    project_id: str = ""
    zones: tuple[str, ...] = ("us-west1-a", "us-west1-b", "us-west1-c")
    machine_types: tuple[str, ...] = (
        "e2-standard-2",
        "e2-standard-4",
        "e2-standard-8",
        "e2-standard-16",
    )
    default_machine_type: str = "e2-standard-4"
    default_image_tag: str = "latest"
    image_tags: tuple[str, ...] = ("*",)
    limits: Limits = Limits()
    limits_of: Mapping[str, Limits] = field(default_factory=dict)
    changes_per_minute: int = 30
    idle_after: timedelta | None = timedelta(minutes=60)
    retention: timedelta | None = timedelta(days=30)
    deadlines: Deadlines = Deadlines()
    usual: UsualTimes = UsualTimes()
    look_min: timedelta = timedelta(seconds=1)
    look_max: timedelta = timedelta(seconds=15)
    attend_after: timedelta = timedelta(minutes=2)
    worker_timeout: timedelta = timedelta(seconds=60)
    heartbeat_write_interval: timedelta = timedelta(minutes=1)
    key_lifetime: timedelta = timedelta(days=1)
    keys_per_owner: int = 100
    orphan_grace: timedelta = timedelta(days=7)
    rights_patience: timedelta = timedelta(minutes=7)
    machine_heartbeat_interval: timedelta = timedelta(minutes=2)
    keep_awake_most: timedelta = timedelta(hours=12)
    max_machine_age: timedelta | None = timedelta(days=30)
    most_run: timedelta | None = None
    spot: bool = False
    snapshots_per_workspace: int = 5
    snapshot_pause: timedelta = timedelta(minutes=10)
    undelete_for: timedelta | None = timedelta(days=7)
    deleted_per_owner: int = 10
    archive_after: timedelta | None = None
    archive_notice: timedelta = timedelta(days=3)
    archives_per_run: int = 20
    home_disk_gb: int = 50
    home_disk_max_gb: int = 500

    def allows_image_tag(self, tag: str) -> bool:
        """Say whether a container image's tag matches one of the patterns."""
        return any(fnmatchcase(tag, pattern) for pattern in self.image_tags)

    def limits_for(self, email: str | None, domain: str | None) -> Limits:
        """Return an owner's limits: their own, else their organisation's, else everybody's.

        ``domain`` is the one that they have proven (``proven_domain``): an address alone does not
        get an organisation's limits.
        """
        address = normalized(email) or ""
        # An entry without "@" is a domain's: it must not match an address.
        own = self.limits_of.get(address) if "@" in address else None
        return own or self.limits_of.get(domain or "") or self.limits
