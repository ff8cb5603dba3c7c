"""``POST /workspaces``: creates a workspace.

People call it. Writes the workspace and its owner in one commit, then publishes its first job. If
the database does not answer: 503, and nothing is made. If Pub/Sub does not: 201 all the same, and
``reconcile`` sends the job.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_idempotency_key, read_new_workspace
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import workspace_json
from shared.usecases import create_workspace as usecase

HUB = hub("store", "identity", "provision_jobs")


@endpoint(HUB, "POST /workspaces")
def create_workspace(request: Request) -> Answer:
    """Answer 201 with the workspace, PROVISIONING, and its path."""
    who = actor_of(request, HUB)
    new = read_new_workspace(request, HUB.policy)
    key = read_idempotency_key(request, HUB.policy)
    workspace = usecase.create_workspace(HUB.new_records, HUB.policy, who, new, key)
    return Answer(
        201, workspace_json(workspace, HUB.policy), {"Location": f"/workspaces/{workspace.id}"}
    )
