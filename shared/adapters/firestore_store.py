"""The records in Firestore."""

import base64
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote

from google.api_core import exceptions, retry
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

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

TIMEOUT_SECONDS = 8.0
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DOCUMENT = re.compile(r"[A-Za-z0-9-]{1,64}")  # the names of our documents: UUIDs, and those that Firestore makes up
EVENTS_KEPT = timedelta(days=90)
_MOST_INDEXED_BYTES = 1500  # source: Firestore's quotas and limits; a query for a longer text is refused
_CONFLICTS = (exceptions.AlreadyExists, exceptions.FailedPrecondition, exceptions.NotFound, exceptions.Aborted)
_RETRY = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable),
    initial=0.1,
    maximum=1.0,
    timeout=TIMEOUT_SECONDS,
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
            raise UnavailableError("The Hub's database does not answer. Try again in a moment.") from error

    return translated


class FirestoreWorkspaceStore(WorkspaceStore):
    """``WorkspaceStore`` on Firestore: ``workspaces/{id}``, ``owners/{owner_id}``, ``events/{…}``.

    Versions are Firestore's update times: a commit carries them as preconditions and holds no lock (contended locking
    transactions were measured to stall for seconds).
    """

    @classmethod
    def of(cls, project_id: str, database: str) -> "FirestoreWorkspaceStore":
        """Return the store of a project's database; the library itself minds ``FIRESTORE_EMULATOR_HOST``."""
        return cls(firestore.Client(project=project_id, database=database))

    def __init__(self, client: firestore.Client) -> None:
        self._client = client
        self._workspaces = client.collection("workspaces")
        self._owners = client.collection("owners")
        self._events = client.collection("events")

    @_translated
    def get(self, workspace_id: str) -> Stored[Workspace] | None:
        """See the port. What is no UUID is not asked for: it cannot be there, and may not be a legal document name."""
        if not _UUID.fullmatch(workspace_id):
            return None
        snapshot = self._workspaces.document(workspace_id).get(retry=_RETRY, timeout=TIMEOUT_SECONDS)
        document = snapshot.to_dict()
        if document is None:
            return None
        return Stored(workspace_record(document), snapshot.update_time)

    @_translated
    def get_owner(self, owner_id: str) -> Stored[Owner]:
        """See the port."""
        snapshot = self._owner(owner_id).get(retry=_RETRY, timeout=TIMEOUT_SECONDS)
        document = snapshot.to_dict()
        if document is None:
            return Stored(Owner(owner_id), None)
        return Stored(owner_record(document), snapshot.update_time)

    @_translated
    def commit(
        self,
        *,
        workspaces: Sequence[tuple[Stored[Workspace] | None, Workspace | None]] = (),
        owners: Sequence[tuple[Stored[Owner], Owner]] = (),
        events: Sequence[Event] = (),
    ) -> None:
        """See the port."""
        batch = self._client.batch()
        for stored, workspace in workspaces:
            if stored is not None and workspace is None:
                reference = self._workspaces.document(stored.record.id)
                batch.delete(reference, option=self._unchanged(stored.version))
            elif workspace is not None:
                self._write(
                    batch,
                    self._workspaces.document(workspace.id),
                    stored.version if stored else None,
                    workspace_document(workspace),
                )
        for read, owner in owners:
            self._write(batch, self._owner(owner.id), read.version, owner_document(owner))
        for event in events:
            batch.create(self._events.document(), {**event_document(event), "expire_at": event.at + EVENTS_KEPT})
        try:
            batch.commit(retry=_RETRY, timeout=TIMEOUT_SECONDS)
        except _CONFLICTS as error:
            raise ConflictError(str(error)) from error

    def list_owned(self, owner_id: str, status: Status | None, limit: int, token: str | None) -> Page[Workspace]:
        """See the port."""
        mine = self._workspaces.where(filter=FieldFilter("owner_id", "==", owner_id))
        return self._newest(mine, status, limit, token)

    def list_all(self, status: Status | None, limit: int, token: str | None) -> Page[Workspace]:
        """See the port."""
        return self._newest(self._workspaces, status, limit, token)

    @_translated
    def list_events(self, workspace_id: str, limit: int, token: str | None) -> Page[Event]:
        """See the port."""
        if len(workspace_id.encode()) > _MOST_INDEXED_BYTES:
            return Page([], None)
        query = self._events.where(filter=FieldFilter("workspace_id", "==", workspace_id))
        found, next_token = self._page(query, "at", firestore.Query.DESCENDING, limit, token)
        return Page([event_record(snapshot.to_dict()) for snapshot in found], next_token)

    def list_idle(self, connected_before: datetime, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        query = self._workspaces.where(filter=FieldFilter("machine_running", "==", True))
        return self._ids_before(query, "last_connected_at", connected_before, limit, token)

    def list_suspended(self, suspended_before: datetime, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        query = self._workspaces.where(filter=FieldFilter("status", "==", Status.SUSPENDED.value))
        return self._ids_before(query, "suspended_at", suspended_before, limit, token)

    def list_due(self, now: datetime, limit: int, token: str | None) -> Page[str]:
        """See the port."""
        return self._ids_before(self._workspaces, "attend_at", now, limit, token)

    @_translated
    def _newest(self, query: Any, status: Status | None, limit: int, token: str | None) -> Page[Workspace]:
        if status is not None:
            query = query.where(filter=FieldFilter("status", "==", status.value))
        found, next_token = self._page(query, "created_at", firestore.Query.DESCENDING, limit, token)
        return Page([workspace_record(snapshot.to_dict()) for snapshot in found], next_token)

    @_translated
    def _ids_before(self, query: Any, by: str, moment: datetime, limit: int, token: str | None) -> Page[str]:
        """Return ids only: a sweep reads each workspace again, and one that cannot be read must not hide the rest."""
        before = query.where(filter=FieldFilter(by, "<=", moment)).select([by])
        found, next_token = self._page(before, by, firestore.Query.ASCENDING, limit, token)
        return Page([snapshot.id for snapshot in found], next_token)

    def _page(self, query: Any, by: str, direction: str, limit: int, token: str | None) -> tuple[list[Any], str | None]:
        """Run one query for a page, and one document more to know whether another page follows."""
        query = query.order_by(by, direction=direction).order_by("__name__", direction=direction)
        if token is not None:
            at, last_id = _read_token(token)
            query = query.start_after({by: at, "__name__": last_id})
        found = list(query.limit(limit + 1).stream(retry=_RETRY, timeout=TIMEOUT_SECONDS))
        if len(found) <= limit:
            return found, None
        last = found[limit - 1]
        return found[:limit], _write_token(last.get(by), last.id)

    def _write(self, batch: Any, reference: Any, version: Any, document: dict[str, Any]) -> None:
        if version is None:
            batch.create(reference, document)
        else:
            batch.update(reference, document, option=self._unchanged(version))

    def _unchanged(self, version: Any) -> Any:
        return self._client.write_option(last_update_time=version)

    def _owner(self, owner_id: str) -> Any:
        """Return an owner's reference. A ``sub`` is digits; anything else is made legal for a document's name."""
        return self._owners.document(f"o-{quote(owner_id, safe='')}")


def _write_token(at: datetime, last_id: str) -> str:
    text = json.dumps([at.isoformat(), last_id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[datetime, str]:
    problem = FieldProblem("page_token", "is not a token that this Hub gave; use the one in the Link header")
    try:
        at, last_id = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        moment = datetime.fromisoformat(at).astimezone(UTC)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise InvalidRequestError([problem]) from error
    if not isinstance(last_id, str) or not _DOCUMENT.fullmatch(last_id):
        raise InvalidRequestError([problem])
    return moment, last_id
