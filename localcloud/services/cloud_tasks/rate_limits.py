"""How fast a queue sends."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

_NO_TIME = timedelta(0)
_LONGEST_WAIT_SECONDS = 3600.0
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How fast a queue sends; the defaults are those of Cloud Tasks."""

    max_dispatches_per_second: float = 500.0
    max_concurrent_dispatches: int = 1000

    @property
    def max_burst_size(self) -> int:
        """The size of the token bucket.

        Cloud Tasks derives it from the rate: 100 at 500/s, and 10 at 1/s and at 0.25/s were seen.
        """
        return max(10, math.ceil(self.max_dispatches_per_second / 5))


class TokenBucket:
    """Tokens that arrive at a steady rate, up to a limit. It is full at first."""

    def __init__(self, limits: RateLimits, now: datetime) -> None:
        self._limits = limits
        self._tokens = float(limits.max_burst_size)
        self._filled_at = now

    def resize(self, limits: RateLimits, now: datetime) -> None:
        """Change the rate and the size; the tokens that fit are kept."""
        self._fill(now)
        self._limits = limits
        self._tokens = min(self._tokens, float(limits.max_burst_size))

    def take(self, now: datetime) -> bool:
        """Take one token if there is one, and return whether there was one."""
        if self.wait(now) > _NO_TIME:
            return False
        self._tokens -= 1
        return True

    def wait(self, now: datetime) -> timedelta:
        """Return how long until there is a token: zero if there is one; at most an hour."""
        self._fill(now)
        missing = 1 - self._tokens
        if missing <= _ROUNDING:
            return _NO_TIME
        seconds = min(missing / self._limits.max_dispatches_per_second, _LONGEST_WAIT_SECONDS)
        return timedelta(microseconds=math.ceil(seconds * 1e6))

    def _fill(self, now: datetime) -> None:
        arrived = (
            max(0.0, (now - self._filled_at).total_seconds())
            * self._limits.max_dispatches_per_second
        )
        self._tokens = min(self._tokens + arrived, float(self._limits.max_burst_size))
        self._filled_at = now
