"""``POST /cleanup``: stops idle machines, deletes forgotten workspaces.

Called by the scheduler only. Begins a STOP or a DELETE for what is due. One workspace that fails is
reported and does not stop the rest; a run that is cut off is finished by the next.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.http import Answer, endpoint
from shared.usecases.clean_up import clean_up

HUB = hub("store", "operation_jobs")


@endpoint(HUB, "POST /cleanup")
def cleanup(_request: Request) -> Answer:
    """Answer 200 with a report of what was done."""
    report = clean_up(HUB.records, HUB.policy)
    return Answer(200, report.as_dict())
