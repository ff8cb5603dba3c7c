"""The messages between the functions."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

PROMPTLY = timedelta(0)


@dataclass(frozen=True, slots=True)
class Job:
    """Do one step of an operation, or (``operation_id`` is None) look at a workspace on which none is under way.

    ``step`` is the operation's when the job was sent; ``resend`` counts how often ``reconcile``
    sent it again. A look has the time as its ``step``, so that looks of the same moment are the
    same job. ``request_id`` is that of the request that began it all.
    """

    workspace_id: str
    operation_id: str | None
    step: int
    resend: int = 0
    delay: timedelta = PROMPTLY
    request_id: str = ""

    @property
    def name(self) -> str:
        """Return this job's name: the same job has the same name, so sending it twice is sending it once.

        A hash, since Cloud Tasks slows down on names that begin alike (source: its documentation of
        task names).
        """
        identity = f"{self.workspace_id}/{self.operation_id}/{self.step}/{self.resend}"
        return hashlib.sha256(identity.encode()).hexdigest()[:40]
