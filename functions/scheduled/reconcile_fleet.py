"""``POST /reconcile-fleet``: compares the records with Compute, and removes orphans.

Only the scheduler calls it, hourly. Reads Compute's lists, and every record and owner. A failure of
one workspace is reported and does not stop the rest. If time runs out, the next run continues.
If Compute does not answer: 503; only owners' records are repaired. If the database does not: 503.
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
