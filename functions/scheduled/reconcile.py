"""``POST /reconcile``: resends jobs whose operation has not advanced by ``attend_at``.

Only the scheduler calls it. A failure of one workspace is reported and does not stop the rest. If a
run is cut off, the next one continues.
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
