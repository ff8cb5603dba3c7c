"""``POST /workspaces/:id/reports``: a machine reports that it is ready, in use, or has failed.

The workspace's machine calls it at the function's own URL, and proves itself with its instance
identity token. Advances the workspace. If the report cannot be recorded: 503, and the machine
reports again. If it comes from an earlier boot or too late: 409, and the machine does not.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.bodies import read_report
from shared.entry.http import Answer, endpoint, machine_of
from shared.usecases.receive_report import receive_report

HUB = hub("store", "identity", "operation_jobs")


@endpoint(HUB, "POST /workspaces/{workspace_id}/reports")
def report_workspace(request: Request, workspace_id: str) -> Answer:
    """Answer 204: the report is recorded, or says nothing new."""
    report = read_report(request, machine_of(request, HUB))
    receive_report(HUB.records, HUB.policy, workspace_id, report)
    return Answer(204)
