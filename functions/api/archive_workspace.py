"""``POST /workspaces/:id/archive``: keeps the home as a snapshot, without a machine and a disk.

People call it. Memory and boot disk are lost. Begins an ARCHIVE and enqueues its first step. If the
database does not answer: 503, and nothing is begun. With ``dry_run`` it only says what it would do.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_dry_run, read_only_dry_run
from shared.entry.dry_run import dry_run_json
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import workspace_json
from shared.usecases import manage_workspaces

HUB = hub("store", "identity", "operation_jobs")


@endpoint(HUB, "POST /workspaces/{workspace_id}/archive", query=True)
def archive_workspace(request: Request, workspace_id: str) -> Answer:
    """Answer 202 with the workspace, or 200 if it is archived already."""
    who = actor_of(request, HUB)
    read_only_dry_run(request)
    if read_dry_run(request):
        run = manage_workspaces.dry_run_archive(HUB.records, HUB.policy, who, workspace_id)
        return Answer(200, dry_run_json(run, HUB.policy, HUB.settings.prices))
    workspace, under_way = manage_workspaces.archive_workspace(
        HUB.records, HUB.policy, who, workspace_id
    )
    return Answer(202 if under_way else 200, workspace_json(workspace, HUB.policy))
