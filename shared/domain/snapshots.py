"""Snapshots of homes: what is recorded of each, and how that changes.

A snapshot has a record of its own from the moment in which its content is captured. Until then it
is the SNAPSHOT operation of its workspace. Each function takes the record and the time, and returns
what is to be written; every write has the time in ``updated_at``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shared.domain.instance import (
    GLOBAL,
    DeleteSnapshot,
    DiskSnapshot,
    Fault,
    FaultKind,
    Place,
    SnapshotStatus,
    StartedCall,
)
from shared.domain.jobs import MOST_DOUBLINGS, PROMPTLY, Job
from shared.domain.policy import Policy
from shared.domain.workspace import (
    HomeSource,
    Metadata,
    Operation,
    OperationKind,
    Problem,
    Workspace,
)

SNAPSHOT_SCHEMA_VERSION = 1
SNAPSHOT_FAILED = "SNAPSHOT_FAILED"
SNAPSHOT_GONE = "SNAPSHOT_GONE"  # also of a workspace that was to be made from it
SNAPSHOT_NOT_DELETED = "SNAPSHOT_NOT_DELETED"
LONGEST_PAUSE = timedelta(minutes=5)  # between two looks at an upload, or two tries to delete
LONGEST_PAUSE_IN_USE = timedelta(hours=1)  # between two tries while a workspace waits for its home
# The refusals of a deletion that are over soon: it is still being made, or a disk is made from it.
_SOON_OVER = {
    *(FaultKind.NOT_READY, FaultKind.IN_USE, FaultKind.TRANSIENT),
    *(FaultKind.NOT_FOUND, FaultKind.STOCK_OUT),
}


class SnapshotState(StrEnum):
    """What a snapshot is, as people see it.

    ``UPLOADING``: its content is captured, and it cannot be used yet. ``FAILED``: it can never be
    used. ``DELETING``: it is about to be gone, with its record.
    """

    UPLOADING = "UPLOADING"
    READY = "READY"
    FAILED = "FAILED"
    DELETING = "DELETING"


class Consistency(StrEnum):
    """What a snapshot's file system is like.

    ``CLEAN``: the workspace's machine was shut down, and no other had the disk attached, so
    everything was written. ``CRASH``: as after a power failure at that moment, since a machine ran,
    was suspended with its memory, or was gone: nobody knows whether it was shut down before. The
    file system's journal makes it whole; what programs had not written to the disk is not in it.
    """

    CLEAN = "clean"
    CRASH = "crash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One snapshot of a workspace's home.

    ``id`` is that of the operation that took it. ``name`` is what a person called it; None if they
    did not. ``automatic``: the Hub took it by itself, and may delete it by itself. ``asked_at`` is
    when it was asked for, ``captured_at`` when its content was captured, at the latest, and
    ``ready_at`` when it could first be used. ``disk_gb`` is the size of the disk, and
    ``stored_bytes`` what Compute stores; None until it has said so. ``machine_type``, ``image_tag``
    and ``metadata`` are the workspace's at that time, for a fork. ``error`` says why it failed.

    ``step`` goes up in every write that is followed by a job, and travels in the job.
    ``attend_at`` is when ``reconcile`` must see to it if nothing happens before; None if nothing is
    due. ``resends`` counts how often it has done so since the last step. ``gce_operation`` is the
    call of Compute that is under way. ``deleting_since`` is when it became DELETING. While it is
    DELETING, its record stays until ``kept_until`` though Compute has no such snapshot, since a
    worker may be about to make it; None if no worker can be.

    ``of_generation`` is the workspace's generation if no machine had the disk when the snapshot was
    taken: as long as none has had it since, the snapshot has all that is on the disk. None if one
    had it.
    """

    id: str
    workspace_id: str
    owner_id: str
    name: str | None
    automatic: bool
    state: SnapshotState
    consistency: Consistency
    requested_by: str
    request_id: str
    asked_at: datetime
    captured_at: datetime | None
    updated_at: datetime
    disk_name: str
    zone: str
    machine_type: str
    image_tag: str
    metadata: Metadata
    ready_at: datetime | None = None
    disk_gb: int | None = None
    stored_bytes: int | None = None
    error: Problem | None = None
    step: int = 0
    attend_at: datetime | None = None
    resends: int = 0
    gce_operation: str | None = None
    deleting_since: datetime | None = None
    kept_until: datetime | None = None
    of_generation: int | None = None
    schema_version: int = SNAPSHOT_SCHEMA_VERSION

    @property
    def place(self) -> Place:
        """Where it is in Compute."""
        return snapshot_place(self.workspace_id, self.id)


def snapshot_place(workspace_id: str, snapshot_id: str) -> Place:
    """Return where a snapshot is in Compute.

    Its name has the workspace's id and the end of its own: 63 characters, as many as Compute allows
    (source: its naming rules, RFC 1035). Other snapshots of the home disk, such as those of a
    schedule, are named after the disk, ``home-<id>-…``, so their names begin in another way.
    """
    return Place(GLOBAL, f"home-snapshot-{workspace_id}-{snapshot_id[-12:]}")


def source_of(snapshot: Snapshot) -> HomeSource:
    """Return what a home is made from."""
    return HomeSource(snapshot.id, snapshot.place.name, snapshot.disk_gb or 0, snapshot.disk_name)


@dataclass(frozen=True, slots=True)
class SnapshotUpdated:
    """A decision: commit ``snapshot``, then send ``job``. ``event`` names it in the log."""

    snapshot: Snapshot
    event: str
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class SnapshotForgotten:
    """A decision: delete the record of a snapshot that does not exist any more."""

    event: str


SnapshotChange = SnapshotUpdated | SnapshotForgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSnapshot:
    """What a worker has read of a snapshot in Compute; ``there`` is None if it does not exist.

    ``pending``: the recorded call of Compute is not done. ``fault``: it is done, and has failed.
    """

    there: DiskSnapshot | None = None
    pending: bool = False
    fault: Fault | None = None


def is_of_disk(seen: DiskSnapshot, disk_name: str) -> bool:
    """Say whether a snapshot of our name is ours. Another disk's is somebody else's."""
    return seen.source_disk == disk_name


def next_job(snapshot: Snapshot, policy: Policy) -> Job | None:
    """Return the job that follows the commit of a snapshot; None if nothing is due."""
    if snapshot.attend_at is None:
        return None
    due_in = snapshot.attend_at - policy.attend_after - snapshot.updated_at
    return _job_of(snapshot, max(due_in, PROMPTLY))


def current_job(snapshot: Snapshot) -> Job | None:
    """Return the job of the current step, to be done at once; None if nothing is due."""
    return _job_of(snapshot, PROMPTLY) if snapshot.attend_at is not None else None


def _job_of(snapshot: Snapshot, delay: timedelta) -> Job:
    return Job(
        snapshot.workspace_id,
        None,
        snapshot.step,
        resend=snapshot.resends,
        delay=delay,
        request_id=snapshot.request_id,
        automatic=snapshot.automatic,
        snapshot_id=snapshot.id,
    )


# ---- how it begins -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Taken:
    """How a snapshot was taken.

    ``detached``: no machine had the disk from before it was asked for until it was captured.
    """

    consistency: Consistency
    detached: bool


def captured(
    workspace: Workspace, seen: DiskSnapshot, taken: Taken, now: datetime, policy: Policy
) -> Snapshot:
    """Return the record of what the workspace's operation has taken."""
    assert workspace.operation is not None  # noqa: S101 -- what has taken it
    ready = seen.status is SnapshotStatus.READY
    return replace(
        _of_operation(workspace, workspace.operation, now),
        state=SnapshotState.READY if ready else SnapshotState.UPLOADING,
        consistency=taken.consistency,
        captured_at=now,
        ready_at=now if ready else None,
        disk_gb=seen.disk_gb,
        stored_bytes=seen.stored_bytes if ready else None,
        of_generation=workspace.generation if taken.detached else None,
        attend_at=None if ready else now + policy.look_max + policy.attend_after,
        gce_operation=None if ready else workspace.operation.gce_operation,
    )


def unwanted(
    workspace: Workspace, problem: Problem | None, now: datetime, policy: Policy
) -> Snapshot:
    """Return the record of a snapshot that the workspace's operation may have made for nothing.

    Its own jobs delete it. ``problem`` is why that failed; None if a DELETE supersedes it.
    """
    assert workspace.operation is not None  # noqa: S101 -- what may have made it
    return replace(
        _of_operation(workspace, workspace.operation, now),
        state=SnapshotState.DELETING,
        error=problem,
        attend_at=now + policy.attend_after,
        deleting_since=now,
        kept_until=now + policy.worker_timeout,
    )


def _of_operation(workspace: Workspace, operation: Operation, now: datetime) -> Snapshot:
    home = workspace.home_disk
    return Snapshot(
        id=operation.id,
        workspace_id=workspace.id,
        owner_id=workspace.owner_id,
        name=operation.snapshot_name,
        automatic=operation.automatic or operation.kind is not OperationKind.SNAPSHOT,
        state=SnapshotState.UPLOADING,
        consistency=Consistency.CRASH,
        requested_by=operation.requested_by,
        request_id=operation.request_id,
        asked_at=operation.requested_at,
        captured_at=None,
        updated_at=now,
        disk_name=workspace.disk_name,
        zone=home.zone if home else workspace.zone,
        machine_type=workspace.machine_type,
        image_tag=workspace.image_tag,
        metadata=workspace.metadata,
    )


# ---- what workers do -----------------------------------------------------------------------------


def follow(
    snapshot: Snapshot, seen: SeenSnapshot, now: datetime, policy: Policy
) -> SnapshotChange | DeleteSnapshot:
    """Decide what is next for a snapshot that is being uploaded or deleted.

    An upload may last for hours, and has no deadline. A deletion is repeated until nothing of that
    name is there any more.
    """
    if snapshot.state is SnapshotState.DELETING:
        return _follow_deletion(snapshot, seen, now, policy)
    return _follow_upload(snapshot, seen, now, policy)


def _follow_upload(
    snapshot: Snapshot, seen: SeenSnapshot, now: datetime, policy: Policy
) -> SnapshotUpdated:
    there = seen.there
    if there is None or not is_of_disk(there, snapshot.disk_name):
        if seen.fault is None:
            return SnapshotUpdated(lost(snapshot, now), "SnapshotLost")
        return _fail(snapshot, seen.fault, now)
    if there.status is SnapshotStatus.FAILED:
        return _fail(snapshot, seen.fault, now)
    if there.status is SnapshotStatus.READY:
        ready = replace(
            _settled(snapshot, SnapshotState.READY, now),
            ready_at=now,
            disk_gb=there.disk_gb,
            stored_bytes=there.stored_bytes,
        )
        return SnapshotUpdated(ready, "SnapshotReady")
    uploading_for = now - (snapshot.captured_at or snapshot.asked_at)
    return _wait(snapshot, bounded(uploading_for / 4, policy), now, policy)


def _fail(snapshot: Snapshot, fault: Fault | None, now: datetime) -> SnapshotUpdated:
    said = f" Compute Engine said: {fault.message}" if fault else ""
    problem = Problem(
        SNAPSHOT_FAILED,
        f"Compute Engine could not store the snapshot. Delete it, and take another one.{said}",
        retryable=False,
        at=now,
    )
    failed = replace(_settled(snapshot, SnapshotState.FAILED, now), error=problem)
    return SnapshotUpdated(failed, "SnapshotFailed")


def lost(snapshot: Snapshot, now: datetime) -> Snapshot:
    """Return a snapshot that is gone in Compute, though nobody has asked the Hub to delete it."""
    problem = Problem(
        SNAPSHOT_GONE,
        "The snapshot was deleted outside the Hub. Delete it here, too.",
        retryable=False,
        at=now,
    )
    return replace(_settled(snapshot, SnapshotState.FAILED, now), error=problem)


def _follow_deletion(
    snapshot: Snapshot, seen: SeenSnapshot, now: datetime, policy: Policy
) -> SnapshotChange | DeleteSnapshot:
    there = seen.there
    if there is None or not is_of_disk(there, snapshot.disk_name):
        if snapshot.kept_until is not None and now < snapshot.kept_until:
            return _wait(snapshot, snapshot.kept_until - now, now, policy)
        return SnapshotForgotten("SnapshotDeleted")
    if seen.pending or there.status is SnapshotStatus.DELETING:
        return _wait(
            snapshot, _pause_of_deletion(snapshot, LONGEST_PAUSE, now, policy), now, policy
        )
    if seen.fault is not None:
        return _refused(snapshot, seen.fault, now, policy)
    return DeleteSnapshot(snapshot.place)


def deletion_asked(
    snapshot: Snapshot, outcome: StartedCall | Fault, now: datetime, policy: Policy
) -> SnapshotUpdated:
    """Record what became of the call to delete a snapshot."""
    if isinstance(outcome, Fault):
        return _refused(snapshot, outcome, now, policy)
    waiting = replace(snapshot, gce_operation=outcome.gce_operation)
    return _wait(waiting, policy.usual.delete_disk, now, policy, "DeleteSnapshot")


def postpone(snapshot: Snapshot, now: datetime, policy: Policy) -> SnapshotUpdated:
    """Delete a snapshot later: a workspace waits for a home from it.

    That may last for as long as nobody starts or deletes the workspace. The change that ends it
    also has the snapshot attended to at once (``hastened``).
    """
    pause = _pause_of_deletion(snapshot, LONGEST_PAUSE_IN_USE, now, policy)
    return _wait(snapshot, pause, now, policy, "SnapshotInUse")


def hastened(snapshot: Snapshot, now: datetime, policy: Policy) -> Snapshot | None:
    """Return a snapshot for which no workspace waits any more; None if it is not to be deleted."""
    if snapshot.state is not SnapshotState.DELETING:
        return None
    return _wait(snapshot, timedelta(), now, policy).snapshot


def _refused(snapshot: Snapshot, fault: Fault, now: datetime, policy: Policy) -> SnapshotUpdated:
    """Try a deletion again that Compute has refused: ever more seldom if that does not pass."""
    again = replace(snapshot, gce_operation=None)
    if fault.kind in _SOON_OVER:
        pause = _pause_of_deletion(snapshot, LONGEST_PAUSE, now, policy)
        return _wait(again, pause, now, policy, "SnapshotDeletionRefused")
    known = snapshot.error
    since = known.at if known is not None and known.code == SNAPSHOT_NOT_DELETED else now
    problem = Problem(
        SNAPSHOT_NOT_DELETED,
        "Compute Engine does not delete the snapshot. It is tried again. "
        f"Compute Engine said: {fault.message}",
        retryable=True,
        at=since,
    )
    again = replace(again, error=problem)
    pause = bounded((now - since) / 2, policy)
    return _wait(again, pause, now, policy, "SnapshotDeletionRefused")


def _pause_of_deletion(
    snapshot: Snapshot, longest: timedelta, now: datetime, policy: Policy
) -> timedelta:
    """Return for how long a deletion is left alone: ever longer, whatever it waits for."""
    lasting = now - (snapshot.deleting_since or now)
    return bounded(lasting / 4, policy, longest)


def bounded(pause: timedelta, policy: Policy, longest: timedelta = LONGEST_PAUSE) -> timedelta:
    """Return the pause before another look, at least the policy's longest for other looks."""
    return min(max(pause, policy.look_max), longest)


def _wait(
    snapshot: Snapshot,
    pause: timedelta,
    now: datetime,
    policy: Policy,
    event: str = "SnapshotAwaited",
) -> SnapshotUpdated:
    """Look again after the pause, as the next step."""
    waiting = replace(
        snapshot,
        step=snapshot.step + 1,
        resends=0,
        updated_at=now,
        attend_at=now + pause + policy.attend_after,
    )
    return SnapshotUpdated(waiting, event, next_job(waiting, policy))


def _settled(snapshot: Snapshot, state: SnapshotState, now: datetime) -> Snapshot:
    """Return the snapshot in a state in which nothing is due."""
    return replace(
        snapshot,
        state=state,
        step=snapshot.step + 1,
        resends=0,
        updated_at=now,
        attend_at=None,
        gce_operation=None,
    )


# ---- people and the clock ------------------------------------------------------------------------


def delete(
    snapshot: Snapshot, request_id: str, now: datetime, policy: Policy
) -> SnapshotUpdated | None:
    """Ask that a snapshot be deleted. None if it is being deleted."""
    if snapshot.state is SnapshotState.DELETING:
        return None
    deleting = replace(
        snapshot,
        state=SnapshotState.DELETING,
        request_id=request_id,
        step=snapshot.step + 1,
        resends=0,
        updated_at=now,
        attend_at=now + policy.attend_after,
        gce_operation=None,
        deleting_since=now,
    )
    return SnapshotUpdated(deleting, "SnapshotDeleteRequested", next_job(deleting, policy))


def delete_all(
    kept: Sequence[Snapshot], request_id: str, now: datetime, policy: Policy
) -> list[Snapshot]:
    """Return those of a workspace's snapshots that are to be written when it is forgotten."""
    asked = [delete(snapshot, request_id, now, policy) for snapshot in kept]
    return [change.snapshot for change in asked if change is not None]


def resend(snapshot: Snapshot, now: datetime, policy: Policy) -> SnapshotUpdated | None:
    """Resend the job of a snapshot that has not advanced by ``attend_at``. None if that is later.

    The same step waits twice as long each time, up to eight times: see ``lifecycle.attend``.
    """
    if snapshot.attend_at is None or snapshot.attend_at > now:
        return None
    patient = policy.attend_after * 2 ** min(snapshot.resends, MOST_DOUBLINGS)
    resent = replace(
        snapshot, resends=snapshot.resends + 1, updated_at=now, attend_at=now + patient
    )
    return SnapshotUpdated(resent, "SnapshotJobResent", current_job(resent))
