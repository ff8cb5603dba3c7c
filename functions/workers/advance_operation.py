"""Does the next steps of an operation, or looks at a snapshot or at a workspace that has drifted.

Only Cloud Tasks calls it. Goes on until a call that changes something in Compute is accepted, or
until there is something else to wait for, then enqueues the next step. After a 5xx Cloud Tasks
sends the task again with backoff.
"""

from shared.bootstrap import hub
from shared.domain.jobs import Job
from shared.entry.tasks import job_task
from shared.usecases import advance_operation as usecase

HUB = hub("store", "operation_jobs", "machines")


@job_task(HUB, "POST /operations")
def advance_operation(job: Job) -> None:
    """Do the job's step, and those that follow at once."""
    usecase.advance_operation(HUB.records, HUB.machines, HUB.policy, job)
