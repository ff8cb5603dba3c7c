"""How long a message that was not acknowledged waits, and when a failing endpoint gets a push."""

from dataclasses import dataclass
from datetime import datetime, timedelta

_NO_TIME = timedelta(0)
_ENOUGH_DOUBLINGS = 64  # beyond that every wait is over every limit, and a float would overflow


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a message waits after a nack or after its acknowledgement deadline.

    Attributes:
        minimum_backoff: the wait after the first failure.
        maximum_backoff: the longest wait.
    """

    minimum_backoff: timedelta = timedelta(seconds=10)
    maximum_backoff: timedelta = timedelta(seconds=600)

    def backoff(self, failures: int) -> timedelta:
        """Return the wait after failure number ``failures`` (1, 2, …); each is twice as long.

        The reference of ``RetryPolicy`` says "exponential"; that it doubles is ours.
        """
        doublings = min(failures - 1, _ENOUGH_DOUBLINGS)
        seconds = self.minimum_backoff.total_seconds() * 2.0**doublings
        return timedelta(seconds=min(seconds, self.maximum_backoff.total_seconds()))


AT_ONCE = RetryPolicy(_NO_TIME, _NO_TIME)

# "This time span can range between 100 milliseconds to 60 seconds" (docs/push, "Push backoff").
_PUSH_BACKOFF = RetryPolicy(timedelta(milliseconds=100), timedelta(seconds=60))


class PushPace:
    """When a push subscription may send: how many pushes at once, and the pause after failures.

    The pause is for the whole subscription. It is twice as long each time that a push still fails
    after it, and the first success ends it. Production has the same push backoff; its exact steps
    are not documented.

    Args:
        limit: how many pushes there may be at once.

    Attributes:
        running: pushes under way.
    """

    def __init__(self, limit: int) -> None:
        self.running = 0
        self._limit = limit
        self._failures = 0
        self._held_until: datetime | None = None

    def wait(self, now: datetime) -> timedelta | None:
        """Return how long until the next push may start, or None if first one has to end."""
        if self.running >= self._limit:
            return None
        return max(self._held_until - now, _NO_TIME) if self._held_until else _NO_TIME

    def succeeded(self) -> None:
        """End the pause."""
        self._failures = 0
        self._held_until = None

    def failed(self, now: datetime) -> None:
        """Make a pause, longer than the last one. During a pause nothing is added to it."""
        if self._held_until is None or now >= self._held_until:
            self._failures += 1
            self._held_until = now + _PUSH_BACKOFF.backoff(self._failures)
