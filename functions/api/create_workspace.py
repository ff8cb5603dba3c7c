"""``POST /workspaces``: creates a workspace.

People call it. Writes the workspace and its owner in one commit, then publishes its first job. If
the database does not answer: 503, and nothing is made. If Pub/Sub does not: 201 all the same, and
``reconcile`` sends the job. With ``dry_run`` it only says what it would do.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_dry_run, read_idempotency_key, read_new_workspace
from shared.entry.dry_run import dry_run_json
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import workspace_json
from shared.usecases import create_workspace as usecase

HUB = hub("store", "identity", "provision_jobs")


@endpoint(HUB, "POST /workspaces", query=True)
def create_workspace(request: Request) -> Answer:
    """Answer 201 with the workspace, PROVISIONING, and its path."""
    who = actor_of(request, HUB)
    new = read_new_workspace(request, HUB.policy)
    key = read_idempotency_key(request, HUB.policy)
    if read_dry_run(request):
        run = usecase.dry_run_create(HUB.new_records, HUB.policy, who, new, key)
        return Answer(200, dry_run_json(run, HUB.policy, HUB.settings.prices))
    workspace = usecase.create_workspace(HUB.new_records, HUB.policy, who, new, key)
    return Answer(
        201, workspace_json(workspace, HUB.policy), {"Location": f"/workspaces/{workspace.id}"}
    )
