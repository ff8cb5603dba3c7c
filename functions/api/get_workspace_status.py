"""``GET /workspaces/:id/status``: the record, the machine as Compute sees it, and how to connect.

People call it. Writes nothing; if record and machine differ, it enqueues a look. If Compute does
not answer, the answer says why; if the database does not, 503.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import status_json
from shared.usecases import manage_workspaces

HUB = hub("store", "identity", "machines")


@endpoint(HUB, "GET /workspaces/{workspace_id}/status")
def get_workspace_status(request: Request, workspace_id: str) -> Answer:
    """Answer 200 with the workspace, its instance and its connection."""
    who = actor_of(request, HUB)
    status = manage_workspaces.get_workspace_status(
        HUB.records, HUB.seen_machines, who, workspace_id
    )
    body = status_json(status, HUB.policy, HUB.settings.connect)
    return Answer(200, body, conditional=True)
