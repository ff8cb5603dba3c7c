"""Limits how often one caller may call one function instance: against loops, not as a quota."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta

from shared.domain.errors import TooManyRequestsError

# How many callers' allowances are kept. The caller who has not called for the longest time is
# dropped first.
MOST_CALLERS = 10_000


class CallerLimit:
    """An allowance of requests for each caller, which fills up evenly over a minute.

    This is safe to use from many threads.
    """

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._most = float(per_minute)
        self._per_second = per_minute / 60
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, caller: str) -> None:
        """Count one request of a caller.

        Raises:
            TooManyRequestsError: the caller's allowance is used up. The error says when to retry.
        """
        with self._lock:
            now = self._now()
            left, since = self._left.pop(caller, (self._most, now))
            left = min(self._most, left + (now - since) * self._per_second)
            refused = left < 1
            self._left[caller] = (left if refused else left - 1, now)
            if len(self._left) > MOST_CALLERS:
                self._left.popitem(last=False)
        if refused:
            wait = timedelta(seconds=(1 - left) / self._per_second)
            raise TooManyRequestsError("You ask too often. Wait a moment and try again.", wait)
