"""Makes a new workspace's machine: the first step of a CREATE.

Triggered by Pub/Sub's push of ``workspace-provision``. Calls ``instances.insert``, records what
came back, enqueues the next step. Raising brings the message again; after the configured attempts
it goes to the dead letters.
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
