"""How often one caller may ask one function instance: a guard against loops, not a quota."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta

from shared.domain.errors import TooManyRequestsError

MOST_CALLERS = 10_000  # whose allowance is remembered; the one who has not called for longest is forgotten first


class CallerLimit:
    """An allowance for each caller that fills up evenly over a minute. Safe to use from many threads."""

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._most = float(per_minute)
        self._per_second = per_minute / 60
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, caller: str) -> None:
        """Count one request of a caller.

        Raises:
            TooManyRequestsError: their allowance is used up; it says when there is some again.
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
