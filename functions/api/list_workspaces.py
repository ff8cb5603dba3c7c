"""``GET /workspaces``: the caller's workspaces, newest first.

Called by people. Changes nothing: one query. When the database does not answer: 503 with ``Retry-After``.
"""

from urllib.parse import urlencode

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_list_query
from shared.entry.http import Answer, asker, endpoint
from shared.entry.representation import workspace_json
from shared.usecases import ask_workspaces

HUB = hub("store", "identity")


@endpoint("GET /workspaces")
def list_workspaces(request: Request) -> Answer:
    """Answer with a bare array; a further page is announced in ``Link``."""
    who = asker(request, HUB.identity)
    status, limit, token = read_list_query(request)
    page = ask_workspaces.list_workspaces(HUB.store, who, status, limit, token)
    headers = {}
    if page.next_token:
        query = urlencode({**request.args.to_dict(), "page_token": page.next_token})
        headers["Link"] = f'</workspaces?{query}>; rel="next"'
    return Answer(200, [workspace_json(workspace, HUB.policy) for workspace in page.records], headers)
