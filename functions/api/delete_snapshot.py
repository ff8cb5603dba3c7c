"""``DELETE /workspaces/:id/snapshots/:snapshot_id``: deletes a snapshot.

People call it. Marks the snapshot DELETING and enqueues the job that deletes it. If the database
does not answer: 503, and nothing is begun.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_nothing
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import snapshot_json
from shared.usecases import manage_snapshots

HUB = hub("store", "identity", "operation_jobs")


@endpoint(HUB, "DELETE /workspaces/{workspace_id}/snapshots/{snapshot_id}")
def delete_snapshot(request: Request, workspace_id: str, snapshot_id: str) -> Answer:
    """Answer 202 with the snapshot; it is not listed any more once it is gone."""
    who = actor_of(request, HUB)
    read_nothing(request)
    snapshot = manage_snapshots.delete_snapshot(
        HUB.records, HUB.policy, who, workspace_id, snapshot_id
    )
    return Answer(202, snapshot_json(snapshot))
