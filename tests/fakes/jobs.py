"""Job queues in virtual time: a test decides order, repetition and loss of deliveries."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.errors import UnavailableError
from shared.domain.jobs import Job
from shared.ports import Clock, Jobs


@dataclass(frozen=True, slots=True)
class Delivery:
    """A job that waits in a queue, and the time at which it is due."""

    job: Job
    due_at: datetime


class FakeJobs(Jobs):
    """A ``Jobs`` that keeps its jobs until the test takes them.

    With ``named`` a job that was sent before is not sent again, and it waits for its delay, as in
    Cloud Tasks. Without it every job is due at once, as in Pub/Sub.

    Attributes:
        sent: every job that was sent, including repeated ones.
        waiting: the deliveries to come, in the order in which they were sent.
        delivered: the jobs that were taken; a test may deliver them again.
        refusals: the number of next sends that fail.
    """

    def __init__(self, clock: Clock, *, named: bool = True) -> None:
        self._clock = clock
        self._named = named
        self._names: set[str] = set()
        self.sent: list[Job] = []
        self.waiting: list[Delivery] = []
        self.delivered: list[Job] = []
        self.refusals = 0

    def send(self, job: Job) -> None:
        """See the port."""
        if self.refusals > 0:
            self.refusals -= 1
            raise UnavailableError("The queue does not answer.")
        self.sent.append(job)
        if self._named:
            if job.name in self._names:
                return
            self._names.add(job.name)
        self.waiting.append(
            Delivery(job, self._clock() + job.delay if self._named else self._clock())
        )

    def take(self, delivery: Delivery) -> Job:
        """Remove a waiting job from the queue and return it, due or not."""
        self.waiting.remove(delivery)
        self.delivered.append(delivery.job)
        return delivery.job

    def drop(self, delivery: Delivery) -> None:
        """Lose a waiting job."""
        self.waiting.remove(delivery)

    def bring_again(self, job: Job, after: timedelta) -> None:
        """Deliver a job again, after a failure or as the platform sometimes does."""
        self.waiting.append(Delivery(job, self._clock() + after))

    def next_due_at(self) -> datetime | None:
        """Return the time at which the next job is due, or None."""
        return min((delivery.due_at for delivery in self.waiting), default=None)

    def take_due(self) -> Job | None:
        """Take the job that has been due for the longest time, or return None."""
        due = [delivery for delivery in self.waiting if delivery.due_at <= self._clock()]
        return self.take(min(due, key=lambda delivery: delivery.due_at)) if due else None
