"""The time, and calls that are due at a later time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """A call that has not been made yet."""

    def cancel(self) -> object:
        """Never make the call."""


class Clock(Protocol):
    """A source of time and of timers."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` after this many seconds, on the same event loop."""


class LoopClock:
    """The real time, and the timers of the running event loop."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` after this many seconds."""
        return asyncio.get_running_loop().call_later(seconds, callback)


class Timers:
    """The pending calls of a clock, so that all of them can be cancelled at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pending: set[Timer] = set()

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return self._clock.now()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` after this many seconds."""

        def fire() -> None:
            self._pending.discard(timer)
            callback()

        timer = self._clock.call_later(seconds, fire)
        self._pending.add(timer)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Cancel one call."""
        timer.cancel()
        self._pending.discard(timer)

    def cancel_all(self) -> None:
        """Cancel every pending call."""
        for timer in self._pending:
            timer.cancel()
        self._pending.clear()
