"""What a commit writes when a workspace is forgotten, or when it cannot be taken back any more.

Everything is read after the record that the commit deletes, so whatever is written meanwhile makes
the commit conflict: the owner's record (a workspace more among the deleted), the entry (taken back
or purged), the last copy (somebody asks for its deletion).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared import logs
from shared.domain.changes import Transition
from shared.domain.deleted import (
    DeletedWorkspace,
    beyond_limit,
    entry_of,
    kept_copy,
)
from shared.domain.events import HUB, Event, purge_event, snapshot_event
from shared.domain.policy import Policy
from shared.domain.snapshots import Snapshot, SnapshotState, delete
from shared.ports import Stored, Unreadable, WorkspaceStore

SnapshotWrites = Sequence[tuple[Stored[Snapshot] | None, Snapshot]]
DeletedWrites = Sequence[tuple[Stored[DeletedWorkspace] | None, DeletedWorkspace | None]]
ONE_TOO_MANY = "Its owner has as many newer deleted workspaces as are kept."
COPY_KEPT = "It is the last copy of its workspace, which can be taken back."


@dataclass(frozen=True, slots=True)
class Left:
    """What is written of snapshots and deleted workspaces, with its events."""

    snapshots: SnapshotWrites = ()
    deleted: DeletedWrites = ()
    events: tuple[Event, ...] = ()

    def __add__(self, other: "Left") -> "Left":
        """Return what both write."""
        return Left(
            (*self.snapshots, *other.snapshots),
            (*self.deleted, *other.deleted),
            (*self.events, *other.events),
        )


@dataclass(frozen=True, slots=True)
class Purge:
    """Why an entry is purged, who does it, and in which request. ``who`` is as in ``Event``."""

    why: str
    who: str
    request_id: str


def left_of(store: WorkspaceStore, policy: Policy, transition: Transition, now: datetime) -> Left:
    """Return what is written with the deletion of a workspace's record.

    If it can be taken back: its entry, and the last copy. Its snapshots stay. If its owner has too
    many deleted workspaces with it, the oldest are purged. If it cannot be taken back, all its
    snapshots begin to be deleted. A query, and with an entry a read, and a query for each that is
    purged.
    """
    before, copy = transition.before, transition.last_copy
    request_id = before.operation.request_id if before.operation else ""
    entry = entry_of(before, copy, now, policy)
    if entry is None:
        return Left(all_deleted(store, policy, before.id, request_id, now))
    left = _kept(store, entry, now)
    found = store.list_deleted(entry.owner_id)
    known = {each.record.id: each for each in found if isinstance(each, Stored)}
    entries = [each.record for each in known.values()]
    for each in beyond_limit(entries, len(found) - len(known), policy):
        purge = Purge(ONE_TOO_MANY, HUB, request_id)
        left += purged(store, policy, known[each.id], purge, now)
    return left


def _kept(store: WorkspaceStore, entry: DeletedWorkspace, now: datetime) -> Left:
    """Return an entry and its last copy.

    If that was lost outside the Hub, its record stays as it is. The entry is made all the same:
    there may be older snapshots, and the owner is told when they ask for it.
    """
    stored = store.get_snapshot(entry.snapshot_id)
    copy = kept_copy(stored.record, now) if stored else None
    if stored is None or copy is None:
        logs.error("LastCopyLost", workspace_id=entry.id, snapshot_id=entry.snapshot_id)
        return Left(deleted=[(None, entry)])
    events: tuple[Event, ...] = ()
    if stored.record.state is SnapshotState.DELETING:
        events = (snapshot_event(copy, "SnapshotKept", COPY_KEPT, now),)
    return Left([(stored, copy)], [(None, entry)], events)


def purged(
    store: WorkspaceStore,
    policy: Policy,
    stored: Stored[DeletedWorkspace],
    purge: Purge,
    now: datetime,
) -> Left:
    """Return what is written when an entry is purged: all snapshots of its workspace go. A query.

    The audit trail says so.
    """
    entry = stored.record
    event = purge_event(entry, purge.who, purge.why, purge.request_id, now)
    snapshots = all_deleted(store, policy, entry.id, purge.request_id, now)
    return Left(snapshots, [(stored, None)], (event,))


def all_deleted(
    store: WorkspaceStore, policy: Policy, workspace_id: str, request_id: str, now: datetime
) -> SnapshotWrites:
    """Return a workspace's snapshots as their deletion begins, except those that it has begun for.

    A record that only a newer version can read stays. The hourly sweep of the snapshots sees to it
    once it can be read.
    """
    going: list[tuple[Stored[Snapshot] | None, Snapshot]] = []
    for each in store.list_snapshots(workspace_id):
        if isinstance(each, Unreadable):
            logs.warning("SnapshotNotRead", snapshot_id=each.id, reason=each.reason)
            continue
        change = delete(each.record, request_id, now, policy)
        if change is not None:
            going.append((each, change.snapshot))
    return going
