"""``GET /workspaces/:id/events``: what happened to a workspace, the latest first; ``GET /events``: what happened at all.

The first is called by its owner, or by an administrator, who reads the trail of one that is gone
too; the second by administrators only. Changes nothing, but an administrator's look at another's is
noted. When the database does not answer: 503 with ``Retry-After``.
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
    """Answer with a bare array; a further page is announced in ``Link``."""
    who = actor_of(request, HUB)
    limit, page_token = read_page_query(request)
    if workspace_id is None:
        page = usecase.list_all_events(HUB.records, who, limit, page_token)
    else:
        page = usecase.list_workspace_events(HUB.records, who, workspace_id, limit, page_token)
    return Answer(
        200, [event_json(event) for event in page.records], next_link(request, page.next_token)
    )
