"""``GET /workspaces/:id/events``: what happened to a workspace, the latest first.

Called by its owner, or by an administrator, who reads the trail of one that is gone too. Changes nothing. When the
database does not answer: 503 with ``Retry-After``.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_page_query
from shared.entry.http import Answer, asker, endpoint, next_link
from shared.entry.representation import event_json
from shared.usecases import ask_workspaces

HUB = hub("store", "identity")


@endpoint(HUB, "GET /workspaces/{workspace_id}/events")
def list_workspace_events(request: Request, workspace_id: str) -> Answer:
    """Answer with a bare array; a further page is announced in ``Link``."""
    who = asker(request, HUB)
    limit, token = read_page_query(request)
    page = ask_workspaces.list_workspace_events(HUB.store, HUB.clock, who, workspace_id, limit, token)
    return Answer(200, [event_json(event) for event in page.records], next_link(request, page.next_token))
