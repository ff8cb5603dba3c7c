"""The outcomes of unreliable deliveries."""

from __future__ import annotations

import pytest

from localcloud.services.delivery_faults import DeliveryOutcome, DeliveryOutcomes, Unreliability


def test_by_default_every_delivery_arrives_once_and_without_delay() -> None:
    """No delivery is lost, duplicated or late."""
    assert {DeliveryOutcomes().draw() for _ in range(100)} == {DeliveryOutcome()}


def test_the_outcomes_have_the_given_shares_and_delays() -> None:
    """A tenth is lost, a fifth is duplicated, and delays cover the given range."""
    outcomes = DeliveryOutcomes(Unreliability(lost=0.1, twice=0.2, seconds=3, seed=1))
    drawn = [outcomes.draw() for _ in range(10_000)]
    assert 900 < sum(each.lost for each in drawn) < 1100
    assert 1850 < sum(each.twice for each in drawn) < 2150
    late = sorted(each.late_seconds for each in drawn)
    assert 0 <= late[0] < 0.1
    assert 2.9 < late[-1] <= 3


def test_the_same_seed_draws_the_same_outcomes() -> None:
    """Another seed draws different ones."""
    first, again, other = (
        DeliveryOutcomes(Unreliability(lost=0.5, seconds=1, seed=seed)) for seed in (7, 7, 8)
    )
    drawn = [first.draw() for _ in range(20)]
    assert drawn == [again.draw() for _ in range(20)]
    assert drawn != [other.draw() for _ in range(20)]


@pytest.mark.parametrize("wrong", [{"lost": 1.1}, {"twice": -0.1}, {"seconds": -1.0}])
def test_an_impossible_share_or_delay_is_refused(wrong: dict[str, float]) -> None:
    """A share must be between 0 and 1, and a delay must not be negative."""
    with pytest.raises(ValueError, match="from 0 to 1, seconds 0 or more"):
        Unreliability(**wrong)  # type: ignore[arg-type]  # the seed is not a float
