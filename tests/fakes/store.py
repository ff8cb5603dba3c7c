"""The records in memory, with the compare-and-set semantics of the real store."""

import base64
import heapq
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from shared.domain.deleted import DeletedWorkspace
from shared.domain.errors import (
    ConflictError,
    FieldProblem,
    InvalidRequestError,
    UnavailableError,
)
from shared.domain.events import Event
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import Owner, Workspace
from shared.ports import Page, Stored, Unreadable, WorkspaceFilter, WorkspaceStore

R = TypeVar("R")
Record = TypeVar("Record", Workspace, Snapshot, DeletedWorkspace)
NEWER = "A newer version of the Hub wrote this workspace."
NEWER_SNAPSHOT = "A newer version of the Hub wrote this snapshot."
NEWER_DELETED = "A newer version of the Hub deleted this workspace."
_DOCUMENT = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass
class Counts:
    """The number of calls to the store: documents read one by one, batches, commits, queries."""

    reads: int = 0
    batches: int = 0
    commits: int = 0
    queries: int = 0


class MemoryWorkspaceStore(WorkspaceStore):
    """A ``WorkspaceStore`` in memory; safe to use from many threads.

    A commit that is sure to succeed calls ``watch`` with each workspace as it was and will be.

    Attributes:
        unreadable: the ids of workspaces, deleted or not, and of snapshots that a newer version of
            the Hub seems to have written.
    """

    def __init__(
        self,
        watch: Callable[[Workspace | None, Workspace | None], None] = lambda _before, _after: None,
    ) -> None:
        self.counts = Counts()
        self.events: list[Event] = []
        self.unreadable: set[str] = set()
        self._watch = watch
        self._lock = threading.RLock()
        self._versions = 0
        self._workspaces: dict[str, Stored[Workspace]] = {}
        self._owned: dict[str, set[str]] = {}  # the ids of workspaces, by owner
        self._owners: dict[str, Stored[Owner]] = {}
        self._snapshots: dict[str, Stored[Snapshot]] = {}
        self._deleted: dict[str, Stored[DeletedWorkspace]] = {}
        self._checkpoints: dict[str, str | None] = {}

    # ---- for tests ----

    def put(self, *workspaces: Workspace) -> None:
        """Set these workspaces, whether they existed before or not; their owners do not change."""
        with self._lock:
            for workspace in workspaces:
                self._write(workspace)

    def put_owner(self, owner: Owner) -> None:
        """Set this owner, whether they existed before or not."""
        with self._lock:
            self._owners[owner.id] = Stored(owner, self._next_version())

    def put_snapshots(self, *snapshots: Snapshot) -> None:
        """Set these snapshots, whether they existed before or not."""
        with self._lock:
            for snapshot in snapshots:
                self._snapshots[snapshot.id] = Stored(snapshot, self._next_version())

    def put_deleted(self, *entries: DeletedWorkspace) -> None:
        """Set these entries of deleted workspaces, whether they existed before or not."""
        with self._lock:
            for entry in entries:
                self._deleted[entry.id] = Stored(entry, self._next_version())

    @property
    def workspaces(self) -> Mapping[str, Workspace]:
        """All workspaces by id; this read is not counted."""
        with self._lock:
            return {
                workspace_id: stored.record for workspace_id, stored in self._workspaces.items()
            }

    @property
    def owners(self) -> Mapping[str, Owner]:
        """All owners by id; this read is not counted."""
        with self._lock:
            return {owner_id: stored.record for owner_id, stored in self._owners.items()}

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """All snapshots by id; this read is not counted."""
        with self._lock:
            return {snapshot_id: stored.record for snapshot_id, stored in self._snapshots.items()}

    @property
    def deleted(self) -> Mapping[str, DeletedWorkspace]:
        """All deleted workspaces by id; this read is not counted."""
        with self._lock:
            return {workspace_id: stored.record for workspace_id, stored in self._deleted.items()}

    # ---- the port ----

    def get(self, workspace_id: str) -> Stored[Workspace] | None:
        """See the port."""
        with self._lock:
            self.counts.reads += 1
            if workspace_id in self.unreadable:
                raise UnavailableError(NEWER)
            return self._workspaces.get(workspace_id)

    def get_many(self, workspace_ids: Sequence[str]) -> Sequence[Stored[Workspace] | Unreadable]:
        """See the port."""
        with self._lock:
            self.counts.batches += 1
            ids = dict.fromkeys(workspace_ids)
            return [
                self._entry(self._workspaces, each, NEWER)
                for each in ids
                if each in self._workspaces
            ]

    def get_owner(self, owner_id: str) -> Stored[Owner]:
        """See the port."""
        with self._lock:
            self.counts.reads += 1
            return self._owners.get(owner_id, Stored(Owner(owner_id), None))

    def commit(
        self,
        *,
        workspaces: Sequence[tuple[Stored[Workspace] | None, Workspace | None]] = (),
        owners: Sequence[tuple[Stored[Owner], Owner]] = (),
        snapshots: Sequence[tuple[Stored[Snapshot] | None, Snapshot | None]] = (),
        deleted: Sequence[tuple[Stored[DeletedWorkspace] | None, DeletedWorkspace | None]] = (),
        events: Sequence[Event] = (),
    ) -> None:
        """See the port."""
        with self._lock:
            self.counts.commits += 1
            for stored, workspace in workspaces:
                self._check_change(self._workspaces, stored, _id_of(stored, workspace))
            for stored_snapshot, snapshot in snapshots:
                snapshot_id = _id_of(stored_snapshot, snapshot)
                self._check_change(self._snapshots, stored_snapshot, snapshot_id)
            for stored_entry, entry in deleted:
                self._check_change(self._deleted, stored_entry, _id_of(stored_entry, entry))
            for read, owner in owners:
                self._check(self._owners.get(owner.id), read.version, owner.id)
            for stored, workspace in workspaces:
                self._watch(stored.record if stored else None, workspace)
            for stored, workspace in workspaces:
                if workspace is None:
                    gone = self._workspaces.pop(_id_of(stored, workspace)).record
                    self._owned[gone.owner_id].discard(gone.id)
                else:
                    self._write(workspace)
            for _, owner in owners:
                self._owners[owner.id] = Stored(owner, self._next_version())
            for stored_snapshot, snapshot in snapshots:
                if snapshot is None:
                    del self._snapshots[_id_of(stored_snapshot, snapshot)]
                else:
                    self._snapshots[snapshot.id] = Stored(snapshot, self._next_version())
            for stored_entry, entry in deleted:
                if entry is None:
                    del self._deleted[_id_of(stored_entry, entry)]
                else:
                    self._deleted[entry.id] = Stored(entry, self._next_version())
            self.events.extend(events)

    def list_owned(
        self, owner_id: str, wanted: WorkspaceFilter, limit: int, token: str | None
    ) -> Page[Workspace]:
        """See the port."""
        with self._lock:
            owned = [self._workspaces[each].record for each in self._owned.get(owner_id, ())]
        found = [each for each in owned if _is_wanted(each, wanted)]
        return self._page(_by(found, "created_at"), limit, token, newest_first=True)

    def list_all(self, wanted: WorkspaceFilter, limit: int, token: str | None) -> Page[Workspace]:
        """See the port."""
        found = [each for each in self.workspaces.values() if _is_wanted(each, wanted)]
        return self._page(_by(found, "created_at"), limit, token, newest_first=True)

    def list_events(self, workspace_id: str | None, limit: int, token: str | None) -> Page[Event]:
        """See the port."""
        with self._lock:
            numbered = list(enumerate(self.events))
        found = [
            (event.at, f"{nth:012}", event)
            for nth, event in numbered
            if workspace_id in {None, event.workspace_id}
        ]
        return self._page(found, limit, token, newest_first=True)

    def list_workspaces_by_id(
        self, limit: int, token: str | None
    ) -> Page[Stored[Workspace] | Unreadable]:
        """See the port."""
        return self._by_id(self._workspaces, limit, token, NEWER)

    def list_owners_by_id(self, limit: int, token: str | None) -> Page[Stored[Owner] | Unreadable]:
        """See the port."""
        return self._by_id(self._owners, limit, token, NEWER)

    def get_checkpoint(self, name: str) -> str | None:
        """See the port."""
        self.counts.reads += 1
        return self._checkpoints.get(name)

    def set_checkpoint(self, name: str, checkpoint: str | None) -> None:
        """See the port."""
        self.counts.commits += 1
        self._checkpoints[name] = checkpoint

    def list_to_sweep(self, now: datetime, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        return self._ids_until(self.workspaces, "sweep_at", now, limit, token)

    def list_due(self, now: datetime, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        return self._ids_until(self.workspaces, "attend_at", now, limit, token)

    def get_snapshot(self, snapshot_id: str) -> Stored[Snapshot] | None:
        """See the port."""
        with self._lock:
            self.counts.reads += 1
            if snapshot_id in self.unreadable and snapshot_id in self._snapshots:
                raise UnavailableError(NEWER_SNAPSHOT)
            return self._snapshots.get(snapshot_id)

    def list_snapshots(self, workspace_id: str) -> Sequence[Stored[Snapshot] | Unreadable]:
        """See the port."""
        with self._lock:
            self.counts.queries += 1
            found = [
                each.record
                for each in self._snapshots.values()
                if each.record.workspace_id == workspace_id
            ]
            found.sort(key=lambda each: (each.asked_at, each.id), reverse=True)
            return [self._entry(self._snapshots, each.id, NEWER_SNAPSHOT) for each in found]

    def list_due_snapshots(self, now: datetime, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        return self._ids_until(self.snapshots, "attend_at", now, limit, token)

    def list_snapshots_by_id(
        self, limit: int, token: str | None
    ) -> Page[Stored[Snapshot] | Unreadable]:
        """See the port."""
        return self._by_id(self._snapshots, limit, token, NEWER_SNAPSHOT)

    def get_deleted(self, workspace_id: str) -> Stored[DeletedWorkspace] | None:
        """See the port."""
        with self._lock:
            self.counts.reads += 1
            if workspace_id in self.unreadable and workspace_id in self._deleted:
                raise UnavailableError(NEWER_DELETED)
            return self._deleted.get(workspace_id)

    def get_many_deleted(
        self, workspace_ids: Sequence[str]
    ) -> Sequence[Stored[DeletedWorkspace] | Unreadable]:
        """See the port."""
        with self._lock:
            self.counts.batches += 1
            ids = [each for each in dict.fromkeys(workspace_ids) if each in self._deleted]
            return [self._entry(self._deleted, each, NEWER_DELETED) for each in ids]

    def list_deleted(self, owner_id: str) -> Sequence[Stored[DeletedWorkspace] | Unreadable]:
        """See the port."""
        with self._lock:
            self.counts.queries += 1
            found = [each for each in self.deleted.values() if each.owner_id == owner_id]
            found.sort(key=lambda each: (each.deleted_at, each.id), reverse=True)
            return [self._entry(self._deleted, each.id, NEWER_DELETED) for each in found]

    def list_deleted_until(self, now: datetime, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        return self._ids_until(self.deleted, "until", now, limit, token)

    # ---- internals ----

    def _write(self, workspace: Workspace) -> None:
        self._workspaces[workspace.id] = Stored(workspace, self._next_version())
        self._owned.setdefault(workspace.owner_id, set()).add(workspace.id)

    def _next_version(self) -> int:
        self._versions += 1
        return self._versions

    def _check_change(
        self, records: Mapping[str, Stored[R]], stored: Stored[R] | None, record_id: str
    ) -> None:
        self._check(records.get(record_id), stored.version if stored else None, record_id)

    @staticmethod
    def _check(there: Stored[Any] | None, version: int | None, document_id: str) -> None:
        if (there.version if there else None) != version:
            raise ConflictError(f"{document_id} is not what was read")

    def _by_id(
        self, records: Mapping[str, Stored[R]], limit: int, token: str | None, newer: str
    ) -> Page[Stored[R] | Unreadable]:
        with self._lock:
            self.counts.queries += 1
            further = (each for each in records if token is None or each > token)
            ids = heapq.nsmallest(limit + 1, further)
            page = [self._entry(records, each, newer) for each in ids[:limit]]
            return Page(page, ids[limit - 1] if len(ids) > limit else None)

    def _entry(
        self, records: Mapping[str, Stored[R]], record_id: str, newer: str
    ) -> Stored[R] | Unreadable:
        if record_id in self.unreadable:
            return Unreadable(record_id, newer)
        return records[record_id]

    def _ids_until(
        self,
        records: Mapping[str, Record],
        moment: str,
        at: datetime,
        limit: int,
        token: str | None,
    ) -> Page[str]:
        found = [
            record
            for record in records.values()
            if (due := getattr(record, moment)) is not None and due <= at
        ]
        page = self._page(_by(found, moment), limit, token)
        return Page([record.id for record in page.records], page.next_token)

    def _page(
        self,
        found: Iterable[tuple[datetime, str, R]],
        limit: int,
        token: str | None,
        *,
        newest_first: bool = False,
    ) -> Page[R]:
        """Return a page of the records, each with the moment and the id by which it is sorted."""
        with self._lock:
            self.counts.queries += 1
        placed = [
            ((at.isoformat(timespec="microseconds"), its_id), record)
            for at, its_id, record in found
        ]
        placed.sort(key=lambda place: place[0], reverse=newest_first)
        if token is not None:
            after = _read_token(token)
            placed = [
                place
                for place in placed
                if (place[0] < after if newest_first else place[0] > after)
            ]
        page = placed[:limit]
        return Page(
            [record for _, record in page],
            _write_token(page[-1][0]) if len(placed) > limit else None,
        )


def _is_wanted(workspace: Workspace, wanted: WorkspaceFilter) -> bool:
    return wanted.status in {None, workspace.status} and wanted.name in {None, workspace.name}


def _by(found: Iterable[Record], moment: str) -> list[tuple[datetime, str, Record]]:
    return [(getattr(record, moment), record.id, record) for record in found]


def _id_of(stored: Stored[Record] | None, record: Record | None) -> str:
    there = record or (stored.record if stored else None)
    if there is None:
        raise ValueError("a change has neither a stored nor a new record")
    return there.id


def _write_token(position: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _read_token(token: str) -> tuple[str, str]:
    problem = FieldProblem("page_token", "is not a token that this Hub gave")
    try:
        at, last_id = json.loads(base64.urlsafe_b64decode(token))
        moment = datetime.fromisoformat(at).isoformat(timespec="microseconds")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRequestError([problem]) from error
    if not isinstance(last_id, str) or not _DOCUMENT.fullmatch(last_id):
        raise InvalidRequestError([problem])
    return moment, last_id
