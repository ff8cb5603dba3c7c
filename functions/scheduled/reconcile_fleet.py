"""``POST /reconcile-fleet``: compares what is recorded with what there is, and sees to machines and disks that nobody has.

Called by the scheduler only, hourly. Reads every record and owner, and Compute's lists. One that
fails is reported and does not stop the rest; a run that is cut off is finished by the next. When
Compute or the database does not answer: 503, nothing decided.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.http import Answer, endpoint
from shared.usecases import reconcile_fleet as usecase

HUB = hub("store", "operation_jobs", "machines")


@endpoint(HUB, "POST /reconcile-fleet")
def reconcile_fleet(_request: Request) -> Answer:
    """Answer 200 with a report of what was done."""
    report = usecase.reconcile_fleet(HUB.records, HUB.machines, HUB.policy)
    return Answer(200, report.as_dict())
