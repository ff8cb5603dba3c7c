"""``GET /workspaces/:id``: a workspace as it is recorded, as lists have it.

People call it. Changes nothing; costs one read, and no call to Compute. An administrator's read of
another's workspace is an audit event. If the database does not answer: 503 with ``Retry-After``.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import workspace_json
from shared.usecases import manage_workspaces

HUB = hub("store", "identity")


@endpoint(HUB, "GET /workspaces/{workspace_id}")
def get_workspace(request: Request, workspace_id: str) -> Answer:
    """Answer 200 with the workspace."""
    who = actor_of(request, HUB)
    workspace = manage_workspaces.get_workspace(HUB.records, who, workspace_id)
    return Answer(200, workspace_json(workspace, HUB.policy), conditional=True)
