"""Does the next step of an operation, or looks at a workspace that has drifted.

Called by Cloud Tasks only. At most one call that changes something in Compute; then the next look is enqueued. 5xx brings
the task again with backoff; a task that is no job of ours is dropped with an error in the log, since it never will be one.
"""

from flask import Request

from shared import logs
from shared.adapters.job_messages import MalformedJobError, read_job
from shared.bootstrap import hub
from shared.entry.http import Answer, endpoint
from shared.usecases import advance_operation as usecase

HUB = hub("store", "operation_jobs", "machines")


@endpoint("POST /operations")
def advance_operation(request: Request) -> Answer:
    """Answer 204 when the step is done or no longer wanted."""
    try:
        job = read_job(request.get_data())
    except MalformedJobError as error:
        logs.error("MalformedJobDropped", error)
        return Answer(204)
    logs.request_id.set(job.request_id)
    usecase.advance_operation(HUB.store, HUB.machines, HUB.operation_jobs, HUB.clock, HUB.policy, job)
    return Answer(204)
