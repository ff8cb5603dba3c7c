"""A clock that a test sets."""

from datetime import UTC, datetime, timedelta

from shared.ports import Clock

BEGINNING = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class SettableClock(Clock):
    """A ``Clock`` that stands still until it is moved, and never goes back."""

    def __init__(self, now: datetime = BEGINNING) -> None:
        self._now = now

    def __call__(self) -> datetime:
        """See the port."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Let an amount of time pass."""
        self.advance_to(self._now + by)

    def advance_to(self, moment: datetime) -> None:
        """Let time pass until ``moment``; a moment in the past changes nothing."""
        self._now = max(self._now, moment)
