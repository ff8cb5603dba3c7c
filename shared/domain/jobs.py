"""The messages between the functions."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

PROMPTLY = timedelta(0)
MOST_DOUBLINGS = 3  # of the time after which the job of the same step is resent


@dataclass(frozen=True, slots=True)
class Job:
    """A job: one step of an operation, a look at a workspace without one, or one at a snapshot.

    A job about a snapshot has its ``snapshot_id`` and ``step``, and no ``operation_id``. A look has
    neither id, and has the time as its ``step``, so looks of the same moment are the same job.
    Otherwise ``step`` is the operation's step when the job was sent. ``resend``
    counts how often ``reconcile`` has resent it. ``request_id`` is that of the request that began
    the operation. ``automatic``: no person has asked for the operation.
    """

    workspace_id: str
    operation_id: str | None
    step: int
    resend: int = 0
    delay: timedelta = PROMPTLY
    request_id: str = ""
    automatic: bool = False
    snapshot_id: str | None = None

    @property
    def can_wait(self) -> bool:
        """Whether it must not hold up what people ask for: it goes to the sweeps' queue.

        These are the steps of a sweep's own operations, looks, and what ``reconcile`` resends. The
        last are people's too. But when a queue is full or an outside service is away, they are
        copies of what waits already. It depends on the job alone, so the same job always goes to
        the same queue, which knows its name.
        """
        look = self.operation_id is None and self.snapshot_id is None
        return self.automatic or self.resend > 0 or look

    @property
    def name(self) -> str:
        """Return the job's name. The same job has the same name, so it is queued once.

        It is a hash, since Cloud Tasks slows down on names that begin alike (source: its
        documentation of task names).
        """
        about = self.operation_id if self.snapshot_id is None else f"snapshot:{self.snapshot_id}"
        identity = f"{self.workspace_id}/{about}/{self.step}/{self.resend}"
        return hashlib.sha256(identity.encode()).hexdigest()[:40]
