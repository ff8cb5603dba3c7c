"""``POST /workspaces/:id/keep-awake``: the idle sweep leaves the machine alone until a time.

People call it. Changes the record, and nothing in Compute Engine; needs no help of the machine. If
the database does not answer: 503, and nothing is changed.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_kept_awake
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import workspace_json
from shared.usecases import manage_workspaces

HUB = hub("store", "identity")


@endpoint(HUB, "POST /workspaces/{workspace_id}/keep-awake")
def keep_workspace_awake(request: Request, workspace_id: str) -> Answer:
    """Answer 200 with the workspace."""
    who = actor_of(request, HUB)
    asked = manage_workspaces.KeepAwake(who, workspace_id, read_kept_awake(request))
    workspace = manage_workspaces.keep_workspace_awake(HUB.records, HUB.policy, asked)
    return Answer(200, workspace_json(workspace, HUB.policy))
