"""``POST /reconcile``: sends the jobs again that nothing has come of in time.

Called by the scheduler only. Reads what is due by ``attend_at``. One workspace that fails is
reported and does not stop the rest; a run that is cut off is finished by the next.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.http import Answer, endpoint
from shared.usecases.resend_lost_jobs import resend_lost_jobs

HUB = hub("store", "operation_jobs")


@endpoint(HUB, "POST /reconcile")
def reconcile(_request: Request) -> Answer:
    """Answer 200 with a report of what was done."""
    report = resend_lost_jobs(HUB.records, HUB.policy)
    return Answer(200, report.as_dict())
