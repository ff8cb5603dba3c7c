"""``POST /workspaces/:id/snapshots``: takes a snapshot of the workspace's home.

People call it. Begins a SNAPSHOT and enqueues its first step; the workspace stays as it is
meanwhile. If the workspace has as many snapshots as it may, its oldest FAILED one is deleted for
the new one, or its oldest automatic one if none is FAILED. If the database does not answer: 503,
and nothing is begun.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_new_snapshot
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import workspace_json
from shared.usecases import manage_snapshots

HUB = hub("store", "identity", "operation_jobs")


@endpoint(HUB, "POST /workspaces/{workspace_id}/snapshots")
def create_snapshot(request: Request, workspace_id: str) -> Answer:
    """Answer 202 with the workspace; the id of its operation is the snapshot's."""
    who = actor_of(request, HUB)
    name = read_new_snapshot(request)
    workspace, _ = manage_snapshots.take_snapshot(HUB.records, HUB.policy, who, workspace_id, name)
    return Answer(202, workspace_json(workspace, HUB.policy))
