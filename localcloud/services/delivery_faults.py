"""What becomes of messages and tasks on their way when delivery is unreliable: some are lost, some come twice, all come late.

Nothing that comes late by a random time comes in its order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple


class Fate(NamedTuple):
    """What happens to one delivery: whether it is lost, whether it comes twice, and after how many seconds."""

    lost: bool = False
    twice: bool = False
    late_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Unreliability:
    """How much goes wrong. `lost` and `twice` are shares of all deliveries, `seconds` is the longest that one takes.

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


class Fates:
    """Draws what becomes of each delivery; the same seed draws the same, one after the other.

    Attributes:
        deliveries, lost, twice: how many there were so far, and how many of them were lost, or came
            twice.
    """

    def __init__(self, unreliability: Unreliability | None = None) -> None:
        self.deliveries = self.lost = self.twice = 0
        self._how = unreliability or Unreliability()
        self._random = random.Random(self._how.seed)  # noqa: S311  # a test's, and to be repeated

    def draw(self) -> Fate:
        """Return what becomes of the next delivery."""
        how, chance = self._how, self._random.random
        fate = Fate(chance() < how.lost, chance() < how.twice, chance() * how.seconds)
        self.deliveries += 1
        self.lost += fate.lost
        self.twice += fate.twice and not fate.lost
        return fate
