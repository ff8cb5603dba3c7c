"""``DELETE /workspaces/:id``: destroys the machine and its disks, then the record.

Called by people. Begins a DELETE, which supersedes whatever is under way, and enqueues its first
step. When the database does not answer: 503, nothing begun.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_nothing
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import workspace_json
from shared.usecases import manage_workspaces

HUB = hub("store", "identity", "operation_jobs")


@endpoint(HUB, "DELETE /workspaces/{workspace_id}")
def delete_workspace(request: Request, workspace_id: str) -> Answer:
    """Answer 202 with the workspace; its id answers 404 once it is gone."""
    who = actor_of(request, HUB)
    read_nothing(request)
    workspace = manage_workspaces.delete_workspace(HUB.records, HUB.policy, who, workspace_id)
    return Answer(202, workspace_json(workspace, HUB.policy))
