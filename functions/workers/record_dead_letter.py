"""Records a provisioning message that could not be delivered.

Pub/Sub's push of the dead-letter topic triggers it. The workspace goes to ERROR, and an event is
written. If it raises, the message is delivered again.
"""

from shared.bootstrap import hub
from shared.domain.jobs import Job
from shared.entry.events import dead_letter_event
from shared.usecases import record_dead_letter as usecase

HUB = hub("store", "operation_jobs")


@dead_letter_event
def record_dead_letter(job: Job | None, reason: str) -> None:
    """Record the dead letter; ``job`` is None when the message could not be read."""
    usecase.record_dead_letter(HUB.records, HUB.policy, job, reason)
