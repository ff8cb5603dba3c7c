"""``POST /cleanup``: stops idle machines, deletes workspaces suspended past their retention.

Only the scheduler calls it. Begins a STOP or a DELETE of each workspace that is due. Purges deleted
workspaces that can be taken back no more: their snapshots begin to be deleted. A failure of one
workspace is reported and does not stop the rest. If a run is cut off, the next one continues.
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
