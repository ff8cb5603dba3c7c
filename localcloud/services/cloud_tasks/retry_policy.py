"""When a failed task is sent again."""

from dataclasses import dataclass
from datetime import datetime, timedelta

_NO_TIME = timedelta(0)
_ENOUGH_DOUBLINGS = 64


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed task is sent again; the defaults are those of Cloud Tasks.

    Attributes:
        max_attempts: attempts in all, the first one included; -1 is no limit.
        max_retry_duration: how long after its first attempt a task may still be sent again; zero is
            no limit.
        min_backoff: the wait before the second attempt.
        max_backoff: the longest wait between two attempts.
        max_doublings: how often the wait doubles before it grows linearly.
    """

    max_attempts: int = 100
    max_retry_duration: timedelta = _NO_TIME
    min_backoff: timedelta = timedelta(seconds=0.1)
    max_backoff: timedelta = timedelta(hours=1)
    max_doublings: int = 16

    def backoff(self, attempts: int) -> timedelta:
        """Return how long to wait after the failure of attempt number ``attempts`` (1, 2, …).

        The wait doubles ``max_doublings`` times, and then grows each time by the last doubled
        value, up to ``max_backoff``: with 10 s, 300 s and 3 doublings it is 10, 20, 40, 80, 160,
        240, 300, 300, … (the example in the reference of ``RetryConfig``).
        """
        doublings = min(attempts - 1, self.max_doublings)
        steps = attempts - doublings
        # Beyond 2^64 every wait is over every limit, and a float would overflow.
        seconds = (
            self.min_backoff.total_seconds() * 2.0 ** min(doublings, _ENOUGH_DOUBLINGS) * steps
        )
        return timedelta(seconds=min(seconds, self.max_backoff.total_seconds()))

    def gives_up(self, *, attempts: int, first_dispatch_time: datetime, now: datetime) -> bool:
        """Return whether a task that has failed ``attempts`` times is not sent again.

        If both limits are set, both must be reached (reference of ``RetryConfig.max_attempts``).
        """
        reached = []
        if self.max_attempts > 0:
            reached.append(attempts >= self.max_attempts)
        if self.max_retry_duration > _NO_TIME:
            reached.append(now - first_dispatch_time >= self.max_retry_duration)
        return bool(reached) and all(reached)
