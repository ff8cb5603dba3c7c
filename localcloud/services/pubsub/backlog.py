"""A subscription's messages: which one may be delivered when, and what happens to it then.

Everything here is pure: nothing reads a clock, sends or waits. Every ``now`` is an aware UTC time.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from localcloud.services.pubsub.retries import RetryPolicy

_NO_TIME = timedelta(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryRules:
    """What a subscription's settings say about delivery.

    Attributes:
        retry: how long a message waits after a failure.
        max_attempts: after so many deliveries without an acknowledgement a message goes to the dead
            letters; None if there are none.
        retention: how long after its publication a message is kept.
        ordered: whether messages with the same ordering key are delivered one after the other.
    """

    retry: RetryPolicy
    max_attempts: int | None
    retention: timedelta
    ordered: bool


@dataclass(slots=True, eq=False)
class Delivery:
    """A message that is not acknowledged.

    Attributes:
        number: grows with each message of the backlog.
        message: the message; the backlog reads its ordering key only.
        published_at: when it was published.
        failures: how often it was nacked or its deadline passed.
        ticket: the number of its last delivery, None before the first.
        is_outstanding: whether it is delivered and neither acknowledged nor failed.
        ends_at: when an outstanding delivery fails by itself, None: it does not.
        due: when it may be delivered, or could be delivered last.
    """

    number: int
    message: Any
    published_at: datetime
    due: datetime
    failures: int = 0
    ticket: int | None = None
    is_outstanding: bool = False
    ends_at: datetime | None = None

    @property
    def attempt(self) -> int:
        """The number of this delivery: 1 + nacks + deadlines that passed."""
        return self.failures + 1


class Backlog:
    """The messages of one subscription that are not acknowledged.

    Messages come in the order in which they are due; equal ones in order of publication. Each call
    costs O(log n).

    Args:
        rules: may be replaced at any time; messages that wait keep their time.
        bury: publishes a message to the dead letters and returns whether it could be done. If it
            could not, the message is delivered again.
    """

    def __init__(self, rules: DeliveryRules, bury: Callable[[Delivery], bool]) -> None:
        self.rules = rules
        self._bury = bury
        self._numbers = count(1)
        self._tickets = count(1)
        self._messages: dict[int, Delivery] = {}  # by number
        self._delivered: dict[int, Delivery] = {}  # by the ticket of the last delivery
        # (due, number): an entry is void if its message has another time, or may not be delivered.
        self._schedule: list[tuple[datetime, int]] = []
        # (end, ticket): an entry is void if its delivery has another end or is over.
        self._ends: list[tuple[datetime, int]] = []
        # With ordering: the messages of each key, of which only the first is in the schedule.
        self._keys: dict[str, deque[Delivery]] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, message: Any, now: datetime) -> None:
        """Add a message that was just published."""
        added = Delivery(next(self._numbers), message, published_at=now, due=now)
        self._messages[added.number] = added
        if self.rules.ordered and message.ordering_key:
            waiting = self._keys.setdefault(message.ordering_key, deque())
            waiting.append(added)
            if len(waiting) > 1:
                return
        self._plan(added, now)

    def clear(self) -> None:
        """Forget all messages; the answers to their deliveries count for nothing."""
        for collection in (self._messages, self._delivered, self._schedule, self._ends, self._keys):
            collection.clear()

    def take(
        self, now: datetime, deadline: timedelta | None, lateness: timedelta = _NO_TIME
    ) -> Delivery | None:
        """Start the next delivery that is due.

        Args:
            now: the time.
            deadline: when it fails by itself; None: only ``nack`` ends it.
            lateness: is added to every due time.

        Returns:
            None if nothing may be delivered now.
        """
        first = self._first(now)
        if first is None or first.due + lateness > now:
            return None
        heapq.heappop(self._schedule)
        if first.ticket is not None:
            del self._delivered[first.ticket]
        first.ticket = next(self._tickets)
        first.is_outstanding = True
        self._delivered[first.ticket] = first
        self._end_at(first, now + deadline if deadline else None)
        return first

    def acknowledge(self, ticket: int, now: datetime) -> None:
        """Remove the message of a delivery, even after its deadline, unless it came again since."""
        delivery = self._delivered.get(ticket)
        if delivery is not None:
            self._remove(delivery, now)

    def extend(self, ticket: int, deadline: timedelta, now: datetime) -> None:
        """Have an outstanding delivery fail at another time; another one is left alone."""
        delivery = self._delivered.get(ticket)
        if delivery is not None and delivery.is_outstanding:
            self._end_at(delivery, now + deadline)

    def nack(self, ticket: int, now: datetime) -> None:
        """Let an outstanding delivery fail; another one is left alone."""
        delivery = self._delivered.get(ticket)
        if delivery is not None and delivery.is_outstanding:
            self._fail(delivery, now)

    def is_outstanding(self, ticket: int) -> bool:
        """Return whether a delivery is neither acknowledged nor failed."""
        delivery = self._delivered.get(ticket)
        return delivery is not None and delivery.is_outstanding

    def expire(self, now: datetime) -> None:
        """Let the deliveries fail whose deadline has passed."""
        while (delivery := self._first_to_end()) is not None and self._ends[0][0] <= now:
            heapq.heappop(self._ends)
            self._fail(delivery, now)

    def next_due(self, now: datetime) -> datetime | None:
        """Return when the next message is due, None if none waits."""
        first = self._first(now)
        return first.due if first else None

    def next_end(self) -> datetime | None:
        """Return when the next delivery fails by itself, None if none does."""
        return self._ends[0][0] if self._first_to_end() else None

    def _first(self, now: datetime) -> Delivery | None:
        """Return the next message to deliver, and drop what is older than its retention."""
        while self._schedule:
            due, number = self._schedule[0]
            found = self._messages.get(number)
            if found is None or found.is_outstanding or found.due != due:
                heapq.heappop(self._schedule)
            elif now - found.published_at >= self.rules.retention:
                heapq.heappop(self._schedule)
                self._remove(found, now)
            else:
                return found
        return None

    def _first_to_end(self) -> Delivery | None:
        while self._ends:
            end, ticket = self._ends[0]
            found = self._delivered.get(ticket)
            if found is not None and found.is_outstanding and found.ends_at == end:
                return found
            heapq.heappop(self._ends)
        return None

    def _plan(self, delivery: Delivery, due: datetime) -> None:
        delivery.due = due
        heapq.heappush(self._schedule, (due, delivery.number))

    def _end_at(self, delivery: Delivery, end: datetime | None) -> None:
        delivery.ends_at = end
        if end is not None and delivery.ticket is not None:
            heapq.heappush(self._ends, (end, delivery.ticket))

    def _fail(self, delivery: Delivery, now: datetime) -> None:
        delivery.is_outstanding = False
        most = self.rules.max_attempts
        if most is not None and delivery.attempt >= most and self._bury(delivery):
            self._remove(delivery, now)
            return
        delivery.failures += 1
        self._plan(delivery, now + self.rules.retry.backoff(delivery.failures))

    def _remove(self, delivery: Delivery, now: datetime) -> None:
        del self._messages[delivery.number]
        if delivery.ticket is not None:
            del self._delivered[delivery.ticket]
        waiting = self._keys.get(delivery.message.ordering_key) if self._keys else None
        if waiting is None or waiting[0] is not delivery:
            return
        waiting.popleft()
        if waiting:
            self._plan(waiting[0], now)
        else:
            del self._keys[delivery.message.ordering_key]
