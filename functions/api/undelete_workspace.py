"""``POST /workspaces/:id/undelete``: takes a deleted workspace back.

People call it, and administrators for others. The workspace is SUSPENDED again, under its id, with
its snapshots. It has no machine: a start makes one, on a home of the last snapshot. One commit, and
no job. If the database does not answer: 503, and nothing has changed.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_undelete
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import workspace_json
from shared.usecases import deleted_workspaces

HUB = hub("store", "identity")


@endpoint(HUB, "POST /workspaces/{workspace_id}/undelete")
def undelete_workspace(request: Request, workspace_id: str) -> Answer:
    """Answer 200 with the workspace, also if it was taken back before."""
    who = actor_of(request, HUB)
    name = read_undelete(request)
    workspace = deleted_workspaces.undelete(HUB.records, HUB.policy, who, workspace_id, name)
    return Answer(200, workspace_json(workspace, HUB.policy))
