"""``GET /workspaces/:id/snapshots``: the snapshots of a workspace's home, newest first.

People call it. Changes nothing; costs one read and one query. An administrator's read of another's
workspace is an audit event. If the database does not answer: 503 with ``Retry-After``.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import snapshots_json
from shared.usecases import manage_snapshots

HUB = hub("store", "identity")


@endpoint(HUB, "GET /workspaces/{workspace_id}/snapshots")
def list_snapshots(request: Request, workspace_id: str) -> Answer:
    """Answer 200 with all snapshots, how many there may be, and when the next one may be taken."""
    who = actor_of(request, HUB)
    listed = manage_snapshots.list_snapshots(HUB.records, HUB.policy, who, workspace_id)
    return Answer(200, snapshots_json(listed), conditional=True)
