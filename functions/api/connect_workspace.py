"""``POST /workspaces/:id/connect``: notes that the owner connects, and says how.

The owner calls it, and nobody else: administrators get 404. Remembers the device, and begins a
START and enqueues its first step if the owner wants in. If the database does not answer: 503, and
nothing is begun. Compute is asked only where people connect to addresses; if it does not answer,
the address is null.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_new_connection
from shared.entry.http import Answer, actor_of, endpoint
from shared.entry.representation import reached_json
from shared.usecases import manage_workspaces
from shared.usecases.manage_workspaces import Connecting

HUB = hub("store", "identity", "operation_jobs")


@endpoint(HUB, "POST /workspaces/{workspace_id}/connect")
def connect_workspace(request: Request, workspace_id: str) -> Answer:
    """Answer with the workspace and its connection: 202 if a START is under way, or 200."""
    connecting = Connecting(actor_of(request, HUB), workspace_id, read_new_connection(request))
    reached = manage_workspaces.connect_workspace(
        HUB.records, HUB.policy, HUB.addressed_machines, connecting
    )
    status = 202 if reached.is_starting else 200
    return Answer(status, reached_json(reached, HUB.policy, HUB.settings.connect))
