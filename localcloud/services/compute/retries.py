"""When a guest repeats a request, as the real machine's scripts do."""

from __future__ import annotations

import random
from collections.abc import Iterator

_FIRST_SECONDS = 0.25
_LONGEST_SECONDS = 15.0
_GIVE_UP_AFTER_SECONDS = 300.0


def may_try_again(status: int | None) -> bool:
    """Return whether the same request may succeed later: after no answer, 429 or 5xx."""
    return status is None or status == 429 or status >= 500


def retry_delays() -> Iterator[float]:
    """Yield the seconds to wait before each further attempt.

    They double up to a limit, have jitter, and last for five minutes in all.
    """
    delay, total = _FIRST_SECONDS, 0.0
    while total < _GIVE_UP_AFTER_SECONDS:
        # The jitter spreads the attempts; nothing secret depends on it.
        jittered = delay * random.uniform(0.5, 1.0)  # noqa: S311
        total += jittered
        yield jittered
        delay = min(delay * 2, _LONGEST_SECONDS)
