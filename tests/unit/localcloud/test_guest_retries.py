"""How a simulated machine retries its reports."""

from __future__ import annotations

from itertools import pairwise

import pytest

from localcloud.services.compute.retries import may_try_again, retry_delays


def test_a_machine_retries_for_five_minutes_with_growing_irregular_delays() -> None:
    """The first delay is at most 0.25 s, and none is above 15 s."""
    delays = list(retry_delays())

    assert delays[0] <= 0.25
    assert max(delays) <= 15
    assert 300 <= sum(delays) <= 315
    assert len({round(after / before, 6) for before, after in pairwise(delays)}) > 5


@pytest.mark.parametrize(
    ("status", "again"),
    [
        (None, True),
        (429, True),
        (500, True),
        (503, True),
        (200, False),
        (204, False),
        (302, False),
        (400, False),
        (409, False),
    ],
)
def test_only_temporary_failures_are_retried(status: int | None, again: bool) -> None:
    """These are no answer, 429 and 5xx; a report that was accepted or refused is not sent again."""
    assert may_try_again(status) is again
