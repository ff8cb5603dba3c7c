"""Which looks of an administrator become events at once, and which are counted first.

A page that is open looks every few seconds. The first look at something is an event before it is
answered. Those of the next ten minutes are counted, and become one event together with the first
look after that time.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.events import SEVERAL, Event, merged

WRITTEN_EVERY = timedelta(minutes=10)
MOST_WITH_ONE = 20  # how many counts of other looks one commit writes at most


@dataclass(slots=True)
class _Noted:
    """A look that was written at ``written_at``; ``counted`` are the same ones since then."""

    written_at: datetime
    counted: Event | None = None


class Looks:
    """The looks of the last minutes. One thread at a time may use it.

    Looks are the same if administrator, request, and workspace (or owner of a list) are. At most
    ``most`` are remembered. The same look as a forgotten one is written at once. Every look that is
    counted is in exactly one event that is taken, then or later.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # Those that were written first come first.
        self._noted: OrderedDict[tuple[str, ...], _Noted] = OrderedDict()
        self._surplus: list[Event] = []  # the counts of what was forgotten

    def count(self, look: Event, now: datetime) -> bool:
        """Count a look if the same was written lately. If not, it must be written: False."""
        noted = self._noted.get(_key(look))
        if noted is None or not timedelta() <= now - noted.written_at < WRITTEN_EVERY:
            return False
        noted.counted = _sum(noted.counted, look)
        return True

    def take(self, look: Event, now: datetime) -> list[Event]:
        """Take the counts to write with a look: those of the same, and of others that are due.

        If they cannot be written, give them to ``put_back``, and otherwise tell ``written``.
        """
        same = self._noted.get(_key(look))
        counts = [] if same is None else _taken(same)
        counts += self._surplus[:MOST_WITH_ONE]
        del self._surplus[:MOST_WITH_ONE]
        for noted in self._noted.values():
            if len(counts) > MOST_WITH_ONE or now - noted.written_at < WRITTEN_EVERY:
                break
            counts += _taken(noted)
        return counts

    def written(self, look: Event, now: datetime) -> None:
        """Remember that a look is written, and forget those that are too many."""
        before = self._noted.pop(_key(look), None)
        self._noted[_key(look)] = _Noted(now, before.counted if before else None)
        while len(self._noted) > self._most:
            _, forgotten = self._noted.popitem(last=False)
            self._surplus += _taken(forgotten)

    def put_back(self, counts: Iterable[Event]) -> None:
        """Take back counts that could not be written."""
        for count in counts:
            noted = self._noted.get(_key(count))
            if noted is None:
                self._surplus.append(count)
            else:
                noted.counted = _sum(noted.counted, count)

    def take_all(self) -> list[Event]:
        """Take all counts."""
        counts = [count for noted in self._noted.values() for count in _taken(noted)]
        counts += self._surplus
        self._surplus = []
        return counts


def with_counts(look: Event, counts: Iterable[Event]) -> list[Event]:
    """Return the events to write: the look with the count of the same ones, then other counts."""
    others = []
    for count in counts:
        if _key(count) == _key(look):
            look = merged(count, look, SEVERAL)
        else:
            others.append(count)
    return [look, *others]


def _key(look: Event) -> tuple[str, ...]:
    return look.who, look.what, look.workspace_id, "" if look.workspace_id else look.owner_id


def _taken(noted: _Noted) -> list[Event]:
    counted, noted.counted = noted.counted, None
    return [] if counted is None else [counted]


def _sum(one: Event | None, other: Event) -> Event:
    return other if one is None else merged(one, other, SEVERAL)
