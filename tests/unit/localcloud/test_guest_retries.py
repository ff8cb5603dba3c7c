"""How a simulated machine tries again."""

from __future__ import annotations

from itertools import pairwise

import pytest

from localcloud.services.compute.retries import may_try_again, retry_delays


def test_a_machine_tries_for_five_minutes_in_growing_bounded_uneven_steps() -> None:
    """The first delays are short, none is above 15 s, together they make five minutes."""
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
def test_only_what_may_get_better_is_tried_again(status: int | None, again: bool) -> None:
    """No answer, too many, and the server's own errors; never what the Hub has refused or taken."""
    assert may_try_again(status) is again
