"""The audit trail: what is noted beside the changes, which note themselves in their own commits; and who may read it."""

from shared import logs
from shared.domain.errors import NotAllowedError, UnavailableError, WorkspaceNotFoundError
from shared.domain.events import Event, looked, refused
from shared.domain.people import Asker
from shared.domain.workspace import Workspace
from shared.ports import Clock, Page, Stored, WorkspaceStore

LONGEST_RECORDED_ID = 64


def list_workspace_events(
    store: WorkspaceStore, clock: Clock, asker: Asker, workspace_id: str, limit: int, token: str | None
) -> Page[Event]:
    """Return what happened to a workspace, the latest first. An administrator reads the trail of one that is gone too.

    One read and one query; an administrator's costs the query, and the note that they read another's.

    Raises:
        WorkspaceNotFoundError, UnavailableError
    """
    if not asker.admin:
        stored = store.get(workspace_id)
        if stored is None or not asker.may_touch(stored.record):
            raise not_there(store, clock, asker, workspace_id, stored, "EventsRequested")
        return store.list_events(workspace_id, limit, token)
    page = store.list_events(workspace_id, limit, token)
    if not page.records and token is None and store.get(workspace_id) is None:
        raise WorkspaceNotFoundError(workspace_id)
    owner_id = next((event.owner_id for event in page.records if event.owner_id), "")
    record_look(store, clock, asker, workspace_id, owner_id, "EventsRequested")
    return page


def list_all_events(store: WorkspaceStore, clock: Clock, asker: Asker, limit: int, token: str | None) -> Page[Event]:
    """Return what happened at all, the latest first: also what concerns no workspace, such as who was turned away.

    Raises:
        NotAllowedError: only an administrator may.
        UnavailableError
    """
    if not asker.admin:
        record_refusal(store, refused(asker, "", "", "EventsRequested", clock()))
        raise NotAllowedError("Only an administrator may read everybody's events.")
    page = store.list_events(None, limit, token)
    record_look(store, clock, asker, "", "", "EventsRequested")
    return page


def record_look(store: WorkspaceStore, clock: Clock, asker: Asker, workspace_id: str, owner_id: str, what: str) -> None:
    """Note an administrator's look at what is not theirs, before they are answered; of anybody else's nothing is noted.

    Raises:
        UnavailableError: it cannot be noted, so there is no look.
    """
    if asker.acts_as_admin(owner_id):
        store.commit(events=[looked(asker, workspace_id, owner_id, what, clock())])


def record_refusal(store: WorkspaceStore, event: Event) -> None:
    """Note a refusal. It stands even when it cannot be noted."""
    try:
        store.commit(events=[event])
    except UnavailableError as error:
        logs.warning("EventNotRecorded", what=event.what, workspace_id=event.workspace_id, reason=str(error))


def not_there(
    store: WorkspaceStore, clock: Clock, asker: Asker, workspace_id: str, found: Stored[Workspace] | None, what: str
) -> WorkspaceNotFoundError:
    """Note that somebody asked for what is not theirs, or not there: the answer and the work are the same for both."""
    owner_id = found.record.owner_id if found else ""
    record_refusal(store, refused(asker, workspace_id[:LONGEST_RECORDED_ID], owner_id, what, clock()))
    return WorkspaceNotFoundError(workspace_id)
