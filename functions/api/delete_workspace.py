"""``DELETE /workspaces/:id``: deletes the machine and its disks, then the record.

People call it. Begins a DELETE, which supersedes any other operation, and enqueues its first step.
If the database does not answer: 503, and nothing is begun. With ``dry_run`` it only says what it
would do, and so does ``POST /workspaces/:id/delete``. Unless ``purge`` is asked for, a last
snapshot of the home is kept for some time, by which ``undelete_workspace`` takes it back.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_delete
from shared.entry.dry_run import dry_run_json
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import workspace_json
from shared.usecases import manage_workspaces

HUB = hub("store", "identity", "operation_jobs")


@endpoint(
    HUB,
    "DELETE /workspaces/{workspace_id}",
    "POST /workspaces/{workspace_id}/delete",
    query=True,
)
def delete_workspace(request: Request, workspace_id: str) -> Answer:
    """Answer 202 with the workspace; its id answers 404 once it is gone."""
    who = actor_of(request, HUB)
    deletion = read_delete(request)
    asked = (HUB.records, HUB.policy, who, workspace_id)
    if deletion.dry_run:
        run = manage_workspaces.dry_run_delete(*asked, purge=deletion.purge)
        return Answer(200, dry_run_json(run, HUB.policy, HUB.settings.prices))
    workspace = manage_workspaces.delete_workspace(*asked, purge=deletion.purge)
    return Answer(202, workspace_json(workspace, HUB.policy))
