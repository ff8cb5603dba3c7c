"""Read the audit trail: of one workspace, or of the whole Hub."""

from shared.domain.access import Actor, authorize, authorize_all_events
from shared.domain.errors import NotAllowedError, WorkspaceNotFoundError
from shared.domain.events import Event
from shared.ports import Page
from shared.usecases.records import Records


def list_workspace_events(
    records: Records, actor: Actor, workspace_id: str, limit: int, token: str | None
) -> Page[Event]:
    """Return what happened to a workspace, the latest first.

    One read and one query. An administrator may also read the events of a workspace that is
    deleted; that costs the query, and an audit event that they read another's.

    Raises:
        WorkspaceNotFoundError, UnavailableError
    """
    what = "EventsRequested"
    if not actor.admin:
        workspace = records.find(workspace_id)
        with records.audit.refusals(actor, workspace_id, workspace, what):
            authorize(actor, workspace_id, workspace)
        return records.store.list_events(workspace_id, limit, token)
    page = records.store.list_events(workspace_id, limit, token)
    if not page.records and token is None and records.find(workspace_id) is None:
        raise WorkspaceNotFoundError(workspace_id)
    owner_id = next((event.owner_id for event in page.records if event.owner_id), "")
    records.audit.record_read(actor, workspace_id, owner_id, what)
    return page


def list_all_events(records: Records, actor: Actor, limit: int, token: str | None) -> Page[Event]:
    """Return what happened to all workspaces and to none, such as refusals, the latest first.

    Raises:
        NotAllowedError: only administrators may.
        UnavailableError
    """
    what = "EventsRequested"
    try:
        authorize_all_events(actor)
    except NotAllowedError:
        records.audit.record_refusal(actor, "", "", what)
        raise
    page = records.store.list_events(None, limit, token)
    records.audit.record_read(actor, "", "", what)
    return page
