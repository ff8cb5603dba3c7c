"""``GET /workspaces/:id/events`` and ``GET /events``: the audit trail, the latest event first.

The owner and administrators call the first; administrators may read the events of a deleted
workspace too. Only administrators call the second. Changes nothing, but an administrator's read of
another's workspace is an audit event. If the database does not answer: 503 with ``Retry-After``.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_page_query
from shared.entry.http import Answer, actor_of, endpoint, next_link
from shared.entry.representation import event_json
from shared.usecases import list_events as usecase

HUB = hub("store", "identity")


@endpoint(HUB, "GET /workspaces/{workspace_id}/events", "GET /events", query=True)
def list_events(request: Request, workspace_id: str | None = None) -> Answer:
    """Answer with a bare array; ``Link`` has the next page."""
    who = actor_of(request, HUB)
    limit, page_token = read_page_query(request)
    if workspace_id is None:
        page = usecase.list_all_events(HUB.records, who, limit, page_token)
    else:
        page = usecase.list_workspace_events(HUB.records, who, workspace_id, limit, page_token)
    listed = [event_json(event) for event in page.records]
    return Answer(200, listed, next_link(request, page.next_token), conditional=True)
