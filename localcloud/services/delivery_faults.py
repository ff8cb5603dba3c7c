"""The faults of delivery: messages and tasks are lost, come twice, or come late and in any order.

Cloud Tasks and Pub/Sub (with Google's emulator, its push relay) each have ``DeliveryFaults``, which
the control API switches. A new fault is one more entry of ``DELIVERY_FAULTS``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, NamedTuple


class DeliveryOutcome(NamedTuple):
    """What happens to one delivery: it is lost, comes twice, or comes this much later."""

    lost: bool = False
    twice: bool = False
    late_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Unreliability:
    """How unreliable delivery is.

    Attributes:
        lost: the share of deliveries that are lost.
        twice: the share of deliveries that come twice.
        seconds: the longest delay of a delivery.
        seed: the same seed gives the same outcomes.

    Raises:
        ValueError: a share is not from 0 to 1, or the seconds are below 0.
    """

    lost: float = 0.0
    twice: float = 0.0
    seconds: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0 <= self.lost <= 1 and 0 <= self.twice <= 1 and self.seconds >= 0):
            raise ValueError("lost and twice are from 0 to 1, seconds 0 or more.")


class DeliveryOutcomes:
    """Draws the outcome of each delivery; the same seed draws the same sequence.

    Attributes:
        unreliability: the probabilities.
        deliveries: how many there were so far.
        lost: how many of them were lost.
        twice: how many of them came twice.
    """

    def __init__(self, unreliability: Unreliability | None = None) -> None:
        self.unreliability = unreliability or Unreliability()
        self.deliveries = self.lost = self.twice = 0
        # For tests, which repeat it; nothing secret depends on it.
        self._random = random.Random(self.unreliability.seed)  # noqa: S311

    def draw(self) -> DeliveryOutcome:
        """Return the outcome of the next delivery."""
        how, chance = self.unreliability, self._random.random
        outcome = DeliveryOutcome(chance() < how.lost, chance() < how.twice, chance() * how.seconds)
        self.deliveries += 1
        self.lost += outcome.lost
        self.twice += outcome.twice and not outcome.lost
        return outcome


class DeliveryFaults:
    """The faults of one deliverer. They may be changed from any thread, and during deliveries.

    Args:
        changed: is called when waiting deliveries have to be planned anew.

    Attributes:
        duplicate: whether everything is delivered twice at the same moment. The answer to the
            second delivery counts for nothing.
        outcomes: what else happens to each delivery. A lost one counts as accepted, and nobody gets
            it.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self.duplicate = False
        self.outcomes = DeliveryOutcomes()
        self._delay_seconds = 0.0
        self._changed = changed

    @property
    def delay_seconds(self) -> float:
        """How much later everything is delivered; this applies to what is waiting, too."""
        return self._delay_seconds

    @delay_seconds.setter
    def delay_seconds(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"a delivery cannot be {-seconds} s early")
        self._delay_seconds = seconds
        self._changed()


@dataclass(frozen=True, kw_only=True)
class DeliveryFault:
    """One fault of delivery.

    Attributes:
        name: by which it is switched on.
        does: what it does, for people.
        switch: switches it on with these numbers, or off with None.
        describe: returns its members in the list of faults, None if it is off.
    """

    name: str
    does: str
    switch: Callable[[DeliveryFaults, Unreliability | None], None]
    describe: Callable[[Sequence[DeliveryFaults]], dict[str, Any] | None]


def _switch_duplicate(faults: DeliveryFaults, numbers: Unreliability | None) -> None:
    faults.duplicate = numbers is not None


def _switch_late(faults: DeliveryFaults, numbers: Unreliability | None) -> None:
    faults.delay_seconds = numbers.seconds if numbers else 0.0


def _switch_unreliable(faults: DeliveryFaults, numbers: Unreliability | None) -> None:
    faults.outcomes = DeliveryOutcomes(numbers)


def _describe_unreliable(deliverers: Sequence[DeliveryFaults]) -> dict[str, Any] | None:
    numbers = deliverers[0].outcomes.unreliability
    if numbers == Unreliability():
        return None
    so_far = {
        name: sum(getattr(each.outcomes, name) for each in deliverers)
        for name in ("deliveries", "lost", "twice")
    }
    return {**asdict(numbers), "so_far": so_far}


_ALL = (
    DeliveryFault(
        name="duplicate_delivery",
        does="every message and every task is delivered twice at the same moment",
        switch=_switch_duplicate,
        describe=lambda deliverers: {} if deliverers[0].duplicate else None,
    ),
    DeliveryFault(
        name="late_delivery",
        does="every message and every task comes later than it is due",
        switch=_switch_late,
        describe=lambda deliverers: (
            {"seconds": deliverers[0].delay_seconds} if deliverers[0].delay_seconds else None
        ),
    ),
    DeliveryFault(
        name="unreliable_delivery",
        does="messages and tasks are lost, come twice, and come in any order",
        switch=_switch_unreliable,
        describe=_describe_unreliable,
    ),
)

DELIVERY_FAULTS: Mapping[str, DeliveryFault] = MappingProxyType({each.name: each for each in _ALL})
