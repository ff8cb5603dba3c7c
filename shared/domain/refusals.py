"""Which refusals become events at once, and which are counted first.

Anybody with a Google account can be refused any number of times, and what the Hub writes must not
grow with that. The first refusal of a caller and kind is an event at once. Those of the next five
minutes are one event after that time.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.events import Event, merged

WRITTEN_EVERY = timedelta(minutes=5)
TRIED_AGAIN_AFTER = timedelta(seconds=10)
MOST_WITH_ONE = 20  # how many due counts one commit writes at most


class Budget:
    """How many events may be written: ``per_minute`` at once, then as many over each minute."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._left = self._most
        self._since: datetime | None = None

    def spend(self, now: datetime) -> bool:
        """Take one event out of the budget. Returns False if nothing is left."""
        passed = max(timedelta(), now - (self._since or now))
        self._left = min(self._most, self._left + passed / timedelta(minutes=1) * self._most)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class _Noted:
    """A caller and kind that was written lately.

    ``waiting`` is what was refused since then, and may be written at ``due_at``.
    """

    due_at: datetime
    waiting: Event | None = None


class Refusals:
    """The refusals of the last minutes, by caller and kind. One thread at a time may use it.

    It remembers at most ``most`` callers and kinds. Beyond that, the one that is due first is
    merged with others. A ``budget`` limits what is written for all callers together, and the rest
    becomes one event of ``several``. Every refusal that is added is in exactly one event that is
    returned, then or later.
    """

    def __init__(self, most: int, several: str, budget: Budget | None = None) -> None:
        self._most = most
        self._several = several
        self._budget = budget
        # Those that are due first come first.
        self._noted: OrderedDict[tuple[str, str], _Noted] = OrderedDict()

    def add(self, refused: Event, now: datetime) -> list[Event]:
        """Take a refusal, and return the events to write now: its own, and others that are due.

        They count as written. A caller that cannot write them gives them to ``put_back``.
        """
        caller = (refused.who, refused.what)
        if caller in self._noted:
            self._wait(caller, refused, now)
            return self._due(now)
        events = self._due(now)
        if len(self._noted) < self._most and self._may_write(now):
            self._noted[caller] = _Noted(now + WRITTEN_EVERY)
            self._forget_surplus()
            return [*events, refused]
        self._wait((self._several, refused.what), refused, now + WRITTEN_EVERY)
        return events

    def put_back(self, events: Iterable[Event], now: datetime) -> None:
        """Take back events that could not be written. They are due again in ten seconds."""
        for event in events:
            caller = (event.who, event.what)
            self._wait(caller, event, now)
            if caller in self._noted:
                self._noted[caller].due_at = now + TRIED_AGAIN_AFTER
                self._noted.move_to_end(caller, last=False)

    def take_all(self) -> list[Event]:
        """Return all that waits, due or not. With a budget, that is one event of each kind."""
        waiting = [noted.waiting for noted in self._noted.values() if noted.waiting]
        self._noted.clear()
        if self._budget is None:
            return waiting
        kinds: dict[str, Event] = {}
        for event in waiting:
            known = kinds.get(event.what)
            kinds[event.what] = merged(known, event, self._several) if known else event
        return list(kinds.values())

    def _due(self, now: datetime) -> list[Event]:
        """Take what waits and may be written now, and forget callers without a refusal since."""
        events: list[Event] = []
        while self._noted and len(events) < MOST_WITH_ONE:
            caller, noted = next(iter(self._noted.items()))
            if noted.due_at > now:
                break
            if noted.waiting is None:
                del self._noted[caller]
                continue
            if not self._may_write(now):
                break
            events.append(noted.waiting)
            self._noted[caller] = _Noted(now + WRITTEN_EVERY)
            self._noted.move_to_end(caller)
        return events

    def _may_write(self, now: datetime) -> bool:
        return self._budget is None or self._budget.spend(now)

    def _wait(self, caller: tuple[str, str], event: Event, due_at: datetime) -> None:
        """Add an event to what waits for a caller. ``due_at`` counts for an unknown caller."""
        noted = self._noted.get(caller)
        if noted is None:
            self._noted[caller] = _Noted(due_at, event)
            self._forget_surplus()
        else:
            noted.waiting = merged(noted.waiting, event, self._several) if noted.waiting else event

    def _forget_surplus(self) -> None:
        while len(self._noted) > self._most:
            _, noted = self._noted.popitem(last=False)
            if noted.waiting is not None:
                self._wait((self._several, noted.waiting.what), noted.waiting, noted.due_at)
