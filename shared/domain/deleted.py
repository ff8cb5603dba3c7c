"""Deleted workspaces that can be taken back: what is kept of each, and what comes back of it.

An entry is made in the commit that deletes the workspace's record, and is gone in the commit that
makes the record again. So a workspace never has both. Its snapshots stay as long as the entry. One
of them is its last copy: it has all that was in the home. When the entry is purged, all of them are
deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.domain.errors import LastCopyGoneError
from shared.domain.forks import forked
from shared.domain.last_copies import undelete_until
from shared.domain.policy import Policy
from shared.domain.snapshots import Snapshot, SnapshotState, source_of
from shared.domain.workspace import HomeSource, Status, StopReason, Workspace

DELETED_SCHEMA_VERSION = 1
LEAST_TIME = timedelta(days=1)  # in which it can be taken back, however long its DELETE lasted
MOST_PURGED = 5  # entries that one commit purges, so that it stays small
_USABLE = {SnapshotState.READY, SnapshotState.UPLOADING}
_MEMORY_LOST = "The workspace was deleted. When it was taken back, only its home was kept."


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedWorkspace:
    """A workspace that was deleted and can be taken back.

    ``id`` and ``owner_id`` are the workspace's. ``workspace`` is its record as it was last, without
    the DELETE. ``snapshot_id`` is its last copy. ``deleted_at`` is when its record was deleted,
    ``deleted_by`` who asked for that, and ``automatic`` says that the retention sweep did.
    It can be taken back at least until ``until``, and then until the clean-up purges it.
    """

    id: str
    owner_id: str
    workspace: Workspace
    snapshot_id: str
    deleted_at: datetime
    deleted_by: str
    automatic: bool
    until: datetime
    schema_version: int = DELETED_SCHEMA_VERSION


def entry_of(
    workspace: Workspace, copy: HomeSource | None, now: datetime, policy: Policy
) -> DeletedWorkspace | None:
    """Return the entry of a workspace whose DELETE ends.

    ``copy`` is its last copy. Its time counts from the request for the DELETE; but from the end of
    that there is a day, or all of the time if that is less. None if there is no copy, or if the
    DELETE keeps nothing: then the workspace cannot be taken back.
    """
    operation, until = workspace.operation, undelete_until(workspace, policy)
    if operation is None or copy is None or until is None:
        return None
    return DeletedWorkspace(
        id=workspace.id,
        owner_id=workspace.owner_id,
        workspace=replace(workspace, operation=None, home_disk=None, home_source=copy),
        snapshot_id=copy.snapshot_id,
        deleted_at=now,
        deleted_by=operation.requested_by,
        automatic=operation.automatic,
        until=max(until, now + min(policy.undelete_for or LEAST_TIME, LEAST_TIME)),
    )


def kept_copy(snapshot: Snapshot, now: datetime) -> Snapshot | None:
    """Return the last copy's record as the commit writes it by which its entry is made.

    It changes only so that a deletion of it that was decided before is refused (``forks.forked``).
    If a person has asked for its deletion while the workspace was being deleted, it stays after
    all: Compute was not asked for that, since the workspace waited for it. None if it was lost.
    """
    if snapshot.state in _USABLE:
        return forked(snapshot, now)
    if snapshot.state is not SnapshotState.DELETING or snapshot.gce_operation is not None:
        return None
    return replace(
        snapshot,
        state=SnapshotState.READY,
        ready_at=snapshot.ready_at or now,
        error=None,
        step=snapshot.step + 1,
        resends=0,
        updated_at=now,
        attend_at=None,
        deleting_since=None,
        kept_until=None,
    )


def beyond_limit(
    known: Sequence[DeletedWorkspace], unreadable: int, policy: Policy
) -> list[DeletedWorkspace]:
    """Return those of an owner's entries that are purged because there is one more, oldest first.

    ``known`` are the entries that there were before, and ``unreadable`` how many more there are
    that only a newer version can read. At most ``MOST_PURGED`` are purged: if the limit has become
    much lower, the next ones are purged with the next entry, or when their time is over.
    """
    excess = len(known) + unreadable + 1 - policy.deleted_per_owner
    oldest_first = sorted(known, key=lambda each: (each.deleted_at, each.id))
    return oldest_first[: min(max(excess, 0), MOST_PURGED)]


def is_due(entry: DeletedWorkspace, now: datetime) -> bool:
    """Say whether an entry is to be purged: its time to be taken back is over."""
    return entry.until <= now


def usable_copy(entry: DeletedWorkspace, snapshot: Snapshot | None) -> Snapshot:
    """Return the last copy if a home can be made from it. ``snapshot`` is its record, if any.

    When the workspace was deleted, Compute had stored the snapshot. So it can be used even if its
    record does not say so yet.

    Raises:
        LastCopyGoneError: it was deleted outside the Hub, or Compute has lost it.
    """
    if snapshot is None or snapshot.state not in _USABLE:
        raise LastCopyGoneError(entry.id, entry.until)
    return snapshot


def undeleted(
    entry: DeletedWorkspace, copy: Snapshot, name: str | None, now: datetime
) -> Workspace:
    """Return the record of a workspace that is taken back: archived, since all it has is a copy.

    The next START makes its home from ``copy``, with a new name: the old disk may only just be
    gone. It begins in the zone in which the home was: the DELETE may have ended in another one, in
    which it has found an old home. ``name`` is its name from now on; None for the one that it had.
    """
    before = entry.workspace
    disk = f"home-{before.id}-{before.generation + 1}"
    return replace(
        before,
        name=name or before.name,
        zone=copy.zone,
        status=Status.SUSPENDED,
        updated_at=now,
        suspended_at=now,
        archived_at=now,
        stopped_because=before.stopped_because or StopReason.REQUESTED,
        home_disk=None,
        home_source=replace(source_of(copy), new_disk=disk),
        old_homes=(),
        ready_generation=None,
        instance_id=None,
        machine_running=False,
        machine_made_at=None,
        running_since=None,
        kept_awake_since=None,
        kept_awake_until=None,
        operation=None,
        attend_at=None,
        error=None,
        host_key=None,
        access=None,
        memory_kept=False,
        memory_lost_because=_MEMORY_LOST,
    )
