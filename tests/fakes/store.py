"""The records in memory, with the compare-and-set semantics of the real store."""

import base64
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.domain.errors import ConflictError, FieldProblem, InvalidRequestError
from shared.domain.workspace import Owner, Status, Workspace
from shared.ports import Event, Page, Stored, WorkspaceStore


@dataclass
class Counts:
    """How often the store was asked: documents read one by one, commits, queries."""

    reads: int = 0
    commits: int = 0
    queries: int = 0


class MemoryWorkspaceStore(WorkspaceStore):
    """``WorkspaceStore`` in memory; safe to use from many threads.

    ``watch`` is called with each workspace before and after, in the commit that changes it, once it is sure to succeed.
    """

    def __init__(
        self, watch: Callable[[Workspace | None, Workspace | None], None] = lambda _before, _after: None
    ) -> None:
        self.counts = Counts()
        self.events: list[Event] = []
        self._watch = watch
        self._lock = threading.RLock()
        self._versions = 0
        self._workspaces: dict[str, Stored[Workspace]] = {}
        self._owners: dict[str, Stored[Owner]] = {}

    # ---- for tests --------------------------------------------------------------------------------------------------

    def put(self, *workspaces: Workspace) -> None:
        """Have these workspaces, whatever was there before. Their owners are not touched."""
        with self._lock:
            for workspace in workspaces:
                self._workspaces[workspace.id] = Stored(workspace, self._next_version())

    def put_owner(self, owner: Owner) -> None:
        """Have this owner, whatever was there before."""
        with self._lock:
            self._owners[owner.id] = Stored(owner, self._next_version())

    @property
    def workspaces(self) -> Mapping[str, Workspace]:
        """All workspaces by id; looking does not count."""
        with self._lock:
            return {workspace_id: stored.record for workspace_id, stored in self._workspaces.items()}

    @property
    def owners(self) -> Mapping[str, Owner]:
        """All owners by id; looking does not count."""
        with self._lock:
            return {owner_id: stored.record for owner_id, stored in self._owners.items()}

    # ---- the port ---------------------------------------------------------------------------------------------------

    def get(self, workspace_id: str) -> Stored[Workspace] | None:
        """See the port."""
        with self._lock:
            self.counts.reads += 1
            return self._workspaces.get(workspace_id)

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
        events: Sequence[Event] = (),
    ) -> None:
        """See the port."""
        with self._lock:
            self.counts.commits += 1
            for stored, workspace in workspaces:
                workspace_id = _id_of(stored, workspace)
                self._check(self._workspaces.get(workspace_id), stored.version if stored else None, workspace_id)
            for read, owner in owners:
                self._check(self._owners.get(owner.id), read.version, owner.id)
            for stored, workspace in workspaces:
                self._watch(stored.record if stored else None, workspace)
            for stored, workspace in workspaces:
                if workspace is None:
                    del self._workspaces[_id_of(stored, workspace)]
                else:
                    self._workspaces[workspace.id] = Stored(workspace, self._next_version())
            for _, owner in owners:
                self._owners[owner.id] = Stored(owner, self._next_version())
            self.events.extend(events)

    def list_owned(self, owner_id: str, status: Status | None, limit: int, token: str | None) -> Page[Workspace]:
        """See the port."""
        found = [
            workspace
            for workspace in self.workspaces.values()
            if workspace.owner_id == owner_id and status in {None, workspace.status}
        ]
        return self._page(found, "created_at", limit, token, newest_first=True)

    def list_idle(self, connected_before: datetime, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        found = [
            workspace
            for workspace in self.workspaces.values()
            if workspace.machine_running and workspace.last_connected_at <= connected_before
        ]
        return _ids(self._page(found, "last_connected_at", limit, token))

    def list_suspended(self, suspended_before: datetime, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        found = [
            workspace
            for workspace in self.workspaces.values()
            if workspace.status is Status.SUSPENDED
            and workspace.suspended_at is not None
            and workspace.suspended_at <= suspended_before
        ]
        return _ids(self._page(found, "suspended_at", limit, token))

    def list_due(self, now: datetime, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        found = [
            workspace
            for workspace in self.workspaces.values()
            if workspace.attend_at is not None and workspace.attend_at <= now
        ]
        return _ids(self._page(found, "attend_at", limit, token))

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _next_version(self) -> int:
        self._versions += 1
        return self._versions

    @staticmethod
    def _check(there: Stored[Any] | None, version: int | None, document_id: str) -> None:
        if (there.version if there else None) != version:
            raise ConflictError(f"{document_id} is not what was read")

    def _page(
        self, found: Iterable[Workspace], by: str, limit: int, token: str | None, *, newest_first: bool = False
    ) -> Page[Workspace]:
        def position(workspace: Workspace) -> tuple[str, str]:
            return getattr(workspace, by).isoformat(timespec="microseconds"), workspace.id

        with self._lock:
            self.counts.queries += 1
        ordered = sorted(found, key=position, reverse=newest_first)
        if token is not None:
            after = _read_token(token)
            ordered = [
                workspace
                for workspace in ordered
                if (position(workspace) < after if newest_first else position(workspace) > after)
            ]
        page = ordered[:limit]
        return Page(page, _write_token(position(page[-1])) if len(ordered) > limit else None)


def _id_of(stored: Stored[Workspace] | None, workspace: Workspace | None) -> str:
    record = workspace or (stored.record if stored else None)
    if record is None:
        raise ValueError("a pair of nothing and nothing says nothing")
    return record.id


def _ids(page: Page[Workspace]) -> Page[str]:
    return Page([workspace.id for workspace in page.records], page.next_token)


def _write_token(position: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _read_token(token: str) -> tuple[str, str]:
    try:
        at, last_id = json.loads(base64.urlsafe_b64decode(token))
        return datetime.fromisoformat(at).isoformat(timespec="microseconds"), str(uuid.UUID(last_id))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRequestError([FieldProblem("page_token", "is not a token that this Hub gave")]) from error
