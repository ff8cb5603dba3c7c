"""Does the next step of an operation, or looks at a workspace that has drifted.

Only Cloud Tasks calls it. Makes at most one call that changes something in Compute, then enqueues
the next step. After a 5xx Cloud Tasks sends the task again with backoff.
"""

from shared.bootstrap import hub
from shared.domain.jobs import Job
from shared.entry.tasks import job_task
from shared.usecases import advance_operation as usecase

HUB = hub("store", "operation_jobs", "machines")


@job_task(HUB, "POST /operations")
def advance_operation(job: Job) -> None:
    """Do the job's step."""
    usecase.advance_operation(HUB.records, HUB.machines, HUB.policy, job)
