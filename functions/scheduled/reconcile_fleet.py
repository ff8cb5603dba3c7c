"""``POST /reconcile-fleet``: compares the records with Compute, and removes orphans.

Only the scheduler calls it, hourly. Reads every record and owner, and Compute's lists. A failure of
one workspace is reported and does not stop the rest. If a run is cut off, the next one continues.
If Compute or the database does not answer: 503, and nothing is decided.
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
