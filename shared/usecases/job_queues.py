"""Which queue a job goes to."""

from collections.abc import Callable

from shared.domain.jobs import Job
from shared.ports import Jobs


class JobQueues(Jobs):
    """``Jobs`` in two queues: one for what people wait for, one for what can wait.

    Each queue is built when the first job goes to it.
    """

    def __init__(self, operations: Callable[[], Jobs], sweeps: Callable[[], Jobs]) -> None:
        self._operations = operations
        self._sweeps = sweeps

    def send(self, job: Job) -> None:
        """See the port. The same job always goes to the same queue."""
        queue = self._sweeps if job.can_wait else self._operations
        queue().send(job)
