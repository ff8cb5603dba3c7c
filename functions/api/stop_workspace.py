"""``POST /workspaces/:id/stop``: suspends the machine, keeping its memory.

People call it. Begins a STOP and enqueues its first step. If the database does not answer: 503, and
nothing is begun. With ``dry_run`` it only says what it would do.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_dry_run, read_only_dry_run
from shared.entry.dry_run import dry_run_json
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import workspace_json
from shared.usecases import manage_workspaces

HUB = hub("store", "identity", "operation_jobs")


@endpoint(HUB, "POST /workspaces/{workspace_id}/stop", query=True)
def stop_workspace(request: Request, workspace_id: str) -> Answer:
    """Answer 202 with the workspace, or 200 if it is suspended already."""
    who = actor_of(request, HUB)
    read_only_dry_run(request)
    if read_dry_run(request):
        run = manage_workspaces.dry_run_stop(HUB.records, HUB.policy, who, workspace_id)
        return Answer(200, dry_run_json(run, HUB.policy, HUB.settings.prices))
    workspace, under_way = manage_workspaces.stop_workspace(
        HUB.records, HUB.policy, who, workspace_id
    )
    return Answer(202 if under_way else 200, workspace_json(workspace, HUB.policy))
