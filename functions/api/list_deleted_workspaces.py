"""``GET /deleted-workspaces``: the caller's deleted workspaces that can be taken back.

People call it. Changes nothing; costs a query, and one for the snapshots of each. An
administrator's list of another person's is an audit event. If the database does not answer: 503
with ``Retry-After``.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_deleted_query
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import deleted_json
from shared.usecases import deleted_workspaces

HUB = hub("store", "identity")


@endpoint(HUB, "GET /deleted-workspaces", query=True)
def list_deleted_workspaces(request: Request) -> Answer:
    """Answer 200 with all of them, the one that was deleted last first."""
    who = actor_of(request, HUB)
    owner_id = read_deleted_query(request)
    listed = deleted_workspaces.list_deleted(HUB.records, who, owner_id)
    return Answer(200, {"deleted_workspaces": [*map(deleted_json, listed)]}, conditional=True)
