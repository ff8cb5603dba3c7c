"""Makes a new workspace's machine: the first step of a CREATE.

Pub/Sub's push of ``workspace-provision`` triggers it. Calls ``instances.insert``, records the
result, and enqueues the next step. If it raises, the message is delivered again, and goes to the
dead letters after the configured attempts.
"""

from shared.bootstrap import hub
from shared.domain.jobs import Job
from shared.entry.events import job_event
from shared.usecases.advance_operation import advance_operation

HUB = hub("store", "operation_jobs", "machines")


@job_event
def provision_workspace(job: Job) -> None:
    """Do the job's step."""
    advance_operation(HUB.records, HUB.machines, HUB.policy, job)
