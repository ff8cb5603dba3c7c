"""``POST /workspaces/:id/restore``: puts the home back to what one of its snapshots holds.

People call it, for their own workspaces only. What is in the home by then is kept as another
snapshot, and a new machine is made on a new disk. Begins a RESTORE and enqueues its first step. If
the database does not answer: 503, and nothing is begun. With ``dry_run`` it only says what it would
do.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_dry_run, read_restore
from shared.entry.dry_run import dry_run_json
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import workspace_json
from shared.usecases import restore_workspace as restoring

HUB = hub("store", "identity", "operation_jobs")


@endpoint(HUB, "POST /workspaces/{workspace_id}/restore", query=True)
def restore_workspace(request: Request, workspace_id: str) -> Answer:
    """Answer 202 with the workspace, whose operation is the RESTORE."""
    who = actor_of(request, HUB)
    snapshot_id = read_restore(request)
    if read_dry_run(request):
        run = restoring.dry_run_restore(HUB.records, HUB.policy, who, workspace_id, snapshot_id)
        return Answer(200, dry_run_json(run, HUB.policy, HUB.settings.prices))
    workspace = restoring.restore_workspace(HUB.records, HUB.policy, who, workspace_id, snapshot_id)
    return Answer(202, workspace_json(workspace, HUB.policy))
