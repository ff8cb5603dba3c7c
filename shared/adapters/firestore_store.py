"""The records in Firestore."""

import base64
import json
import re
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote

from google.api_core import exceptions

from shared.adapters.firestore_documents import Direction, Documents, Filter, Found, Operator, Query
from shared.adapters.firestore_records import (
    event_document,
    event_record,
    owner_document,
    owner_record,
    workspace_document,
    workspace_record,
)
from shared.domain.errors import ConflictError, FieldProblem, InvalidRequestError, UnavailableError
from shared.domain.events import Event
from shared.domain.workspace import Owner, Status, Workspace
from shared.ports import Page, Stored, WorkspaceStore

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DOCUMENT = re.compile(
    r"[A-Za-z0-9-]{1,64}"
)  # the names of our documents: UUIDs, and those that Firestore makes up
EVENTS_KEPT = timedelta(days=90)
_MOST_INDEXED_BYTES = (
    1500  # source: Firestore's quotas and limits; a query for a longer text is refused
)
_CONFLICTS = (
    exceptions.AlreadyExists,
    exceptions.FailedPrecondition,
    exceptions.NotFound,
    exceptions.Aborted,
)

P = ParamSpec("P")
T = TypeVar("T")


def _translated(method: Callable[P, T]) -> Callable[P, T]:
    """Turn the client library's errors into ours."""

    @wraps(method)
    def translated(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
            raise UnavailableError(
                "The Hub's database does not answer. Try again in a moment."
            ) from error

    return translated


class FirestoreWorkspaceStore(WorkspaceStore):
    """``WorkspaceStore`` on Firestore: ``workspaces/{id}``, ``owners/{owner_id}``, ``events/{…}``.

    Versions are Firestore's update times: a commit carries them as preconditions and holds no lock
    (contended locking transactions were measured to stall for seconds).
    """

    @classmethod
    def of(cls, project_id: str, database: str, emulator: str | None) -> "FirestoreWorkspaceStore":
        """Return the store of a project's database, at Google or in the emulator at ``host:port``."""
        return cls(Documents.of(project_id, database, emulator))

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    @_translated
    def get(self, workspace_id: str) -> Stored[Workspace] | None:
        """See the port. What is no UUID is not asked for: it cannot be there, and may not be a legal document name."""
        if not _UUID.fullmatch(workspace_id):
            return None
        found = self._documents.get(_workspace_path(workspace_id))
        return Stored(workspace_record(found.fields), found.version) if found else None

    @_translated
    def get_owner(self, owner_id: str) -> Stored[Owner]:
        """See the port."""
        found = self._documents.get(_owner_path(owner_id))
        return (
            Stored(owner_record(found.fields), found.version)
            if found
            else Stored(Owner(owner_id), None)
        )

    @_translated
    def commit(
        self,
        *,
        workspaces: Sequence[tuple[Stored[Workspace] | None, Workspace | None]] = (),
        owners: Sequence[tuple[Stored[Owner], Owner]] = (),
        events: Sequence[Event] = (),
    ) -> None:
        """See the port."""
        writes = []
        for stored, workspace in workspaces:
            if workspace is not None:
                version = stored.version if stored else None
                writes.append(
                    self._write(
                        _workspace_path(workspace.id), workspace_document(workspace), version
                    )
                )
            elif stored is not None:
                writes.append(
                    self._documents.deleted(_workspace_path(stored.record.id), stored.version)
                )
        for read, owner in owners:
            writes.append(self._write(_owner_path(owner.id), owner_document(owner), read.version))
        for event in events:
            document = {**event_document(event), "expire_at": event.at + EVENTS_KEPT}
            writes.append(self._documents.created(f"events/{uuid.uuid4()}", document))
        try:
            self._documents.commit(writes)
        except _CONFLICTS as error:
            raise ConflictError(str(error)) from error

    def list_owned(
        self, owner_id: str, status: Status | None, limit: int, token: str | None
    ) -> Page[Workspace]:
        """See the port."""
        return self._newest([("owner_id", Operator.EQUAL, owner_id)], status, limit, token)

    def list_all(self, status: Status | None, limit: int, token: str | None) -> Page[Workspace]:
        """See the port."""
        return self._newest([], status, limit, token)

    @_translated
    def list_events(self, workspace_id: str | None, limit: int, token: str | None) -> Page[Event]:
        """See the port."""
        filters: list[Filter] = []
        if workspace_id is not None:
            if len(workspace_id.encode()) > _MOST_INDEXED_BYTES:
                return Page([], None)
            filters = [("workspace_id", Operator.EQUAL, workspace_id)]
        found, next_token = self._page("events", filters, "at", Direction.DESCENDING, limit, token)
        return Page([event_record(each.fields) for each in found], next_token)

    def list_idle(self, connected_before: datetime, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        running: Filter = ("machine_running", Operator.EQUAL, True)
        return self._ids_before([running], "last_connected_at", connected_before, limit, token)

    def list_suspended(
        self, suspended_before: datetime, limit: int, token: str | None
    ) -> Page[str]:
        """See the port."""
        suspended: Filter = ("status", Operator.EQUAL, Status.SUSPENDED.value)
        return self._ids_before([suspended], "suspended_at", suspended_before, limit, token)

    def list_ids(self, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        return self._ids([], "created_at", limit, token)

    @_translated
    def list_owner_ids(self, limit: int, token: str | None) -> Page[str]:
        """See the port. The token is the last id."""
        after: list[Filter] = [] if token is None else [("id", Operator.ABOVE, token)]
        query = Query("owners", after, "id", Direction.ASCENDING, limit + 1, only=("id",))
        found = [each.fields["id"] for each in self._documents.query(query)]
        return Page(found[:limit], found[limit - 1] if len(found) > limit else None)

    @_translated
    def get_checkpoint(self, name: str) -> str | None:
        """See the port."""
        found = self._documents.get(f"sweeps/{name}")
        return found.fields.get("mark") if found else None

    @_translated
    def set_checkpoint(self, name: str, mark: str | None) -> None:
        """See the port."""
        self._documents.commit([self._documents.put(f"sweeps/{name}", {"mark": mark})])

    def list_due(self, now: datetime, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        return self._ids_before([], "attend_at", now, limit, token)

    @_translated
    def _newest(
        self, filters: list[Filter], status: Status | None, limit: int, token: str | None
    ) -> Page[Workspace]:
        if status is not None:
            filters = [*filters, ("status", Operator.EQUAL, status.value)]
        found, next_token = self._page(
            "workspaces", filters, "created_at", Direction.DESCENDING, limit, token
        )
        return Page([workspace_record(each.fields) for each in found], next_token)

    def _ids_before(
        self, filters: list[Filter], by: str, moment: datetime, limit: int, token: str | None
    ) -> Page[str]:
        """Return ids only: a sweep reads each workspace again, and one that cannot be read must not hide the rest."""
        return self._ids([*filters, (by, Operator.AT_MOST, moment)], by, limit, token)

    @_translated
    def _ids(self, filters: list[Filter], by: str, limit: int, token: str | None) -> Page[str]:
        found, next_token = self._page(
            "workspaces", filters, by, Direction.ASCENDING, limit, token, only=(by,)
        )
        return Page([each.id for each in found], next_token)

    def _page(
        self,
        collection: str,
        filters: list[Filter],
        by: str,
        direction: Direction,
        limit: int,
        token: str | None,
        only: tuple[str, ...] = (),
    ) -> tuple[list[Found], str | None]:
        """Run one query for a page, and one document more to know whether another page follows."""
        after = None if token is None else _read_token(token)
        found = self._documents.query(
            Query(collection, filters, by, direction, limit + 1, after, only)
        )
        if len(found) <= limit:
            return found, None
        last = found[limit - 1]
        return found[:limit], _write_token(last.fields[by], last.id)

    def _write(self, path: str, document: dict[str, Any], version: Any) -> Any:
        if version is None:
            return self._documents.created(path, document)
        return self._documents.updated(path, document, version)


def _workspace_path(workspace_id: str) -> str:
    return f"workspaces/{workspace_id}"


def _owner_path(owner_id: str) -> str:
    """Return where an owner's record is. A ``sub`` is digits; anything else is made legal for a document's name."""
    return f"owners/o-{quote(owner_id, safe='')}"


def _write_token(at: datetime, last_id: str) -> str:
    text = json.dumps([at.isoformat(), last_id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[datetime, str]:
    problem = FieldProblem(
        "page_token", "is not a token that this Hub gave; use the one in the Link header"
    )
    try:
        at, last_id = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        moment = datetime.fromisoformat(at).astimezone(UTC)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise InvalidRequestError([problem]) from error
    if not isinstance(last_id, str) or not _DOCUMENT.fullmatch(last_id):
        raise InvalidRequestError([problem])
    return moment, last_id
