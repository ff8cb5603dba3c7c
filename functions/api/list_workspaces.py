"""``GET /workspaces``: the caller's workspaces, newest first.

People call it. Changes nothing; costs one query. An administrator's list of other people's
workspaces is an audit event. If the database does not answer: 503 with ``Retry-After``.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_list_query
from shared.entry.http import Answer, actor_of, endpoint, next_link
from shared.entry.representation import workspace_json
from shared.usecases import manage_workspaces

HUB = hub("store", "identity")


@endpoint(HUB, "GET /workspaces", query=True)
def list_workspaces(request: Request) -> Answer:
    """Answer with a bare array; ``Link`` has the next page."""
    who = actor_of(request, HUB)
    page = manage_workspaces.list_workspaces(HUB.records, who, read_list_query(request))
    listed = [workspace_json(workspace, HUB.policy) for workspace in page.records]
    return Answer(200, listed, next_link(request, page.next_token), conditional=True)
