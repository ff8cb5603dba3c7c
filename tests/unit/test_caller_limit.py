"""The limit of one caller's requests to one function instance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from shared import caller_limit
from shared.caller_limit import CallerLimit
from shared.domain.errors import TooManyRequestsError


class Time:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time now, in seconds."""
        return self.now


def let_in(limit: CallerLimit, caller: str, times: int) -> int:
    """Return how many of this many requests are accepted."""
    count = 0
    for _ in range(times):
        try:
            limit.count(caller)
        except TooManyRequestsError:
            continue
        count += 1
    return count


def test_a_minutes_allowance_may_be_used_at_once() -> None:
    """A client that sends many requests at a time is not a loop."""
    assert let_in(CallerLimit(6, Time()), "alice", 20) == 6


def test_a_refused_caller_is_told_when_to_retry() -> None:
    """At six a minute the next request is due after ten seconds, and one of them has passed."""
    time = Time()
    limit = CallerLimit(6, time)
    let_in(limit, "alice", 6)
    time.now += 1
    with pytest.raises(TooManyRequestsError) as refused:
        limit.count("alice")
    assert refused.value.retry_after / timedelta(seconds=1) == pytest.approx(9)


def test_a_caller_who_waits_as_told_is_accepted() -> None:
    """The wait is not too short, and refused requests do not make it longer."""
    time = Time()
    limit = CallerLimit(6, time)
    let_in(limit, "alice", 20)
    time.now += 9.99
    assert let_in(limit, "alice", 5) == 0
    time.now += 0.02
    assert let_in(limit, "alice", 5) == 1


def test_the_allowance_never_grows_beyond_a_minutes() -> None:
    """A day without requests does not save up more."""
    time = Time()
    limit = CallerLimit(6, time)
    let_in(limit, "alice", 3)
    time.now += 86_400
    assert let_in(limit, "alice", 20) == 6


def test_over_time_the_minutes_allowance_is_accepted() -> None:
    """At ten requests a second, one in ten seconds is accepted after the first burst."""
    time = Time()
    limit = CallerLimit(6, time)
    let_in(limit, "alice", 6)
    count = 0
    for _ in range(6000):
        time.now += 0.1
        count += let_in(limit, "alice", 1)
    assert count in {59, 60}  # a tenth of a second may be rounded away


def test_each_caller_has_an_allowance_of_their_own() -> None:
    """A caller in a loop does not affect the others."""
    limit = CallerLimit(6, Time())
    let_in(limit, "alice", 20)
    assert let_in(limit, "bob", 20) == 6


def test_the_caller_who_has_not_called_for_longest_is_dropped_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The number of callers is limited, and callers who are calling are kept."""
    monkeypatch.setattr(caller_limit, "MOST_CALLERS", 2)
    limit = CallerLimit(6, Time())
    let_in(limit, "alice", 6)
    let_in(limit, "bob", 6)
    let_in(limit, "alice", 1)
    let_in(limit, "carol", 6)
    assert let_in(limit, "alice", 1) == 0
    assert let_in(limit, "bob", 1) == 1


def test_many_threads_together_get_one_allowance() -> None:
    """With many requests at a time, each is counted once."""
    limit = CallerLimit(500, Time())
    with ThreadPoolExecutor(16) as threads:
        counts = list(threads.map(lambda _: let_in(limit, "alice", 100), range(16)))
    assert sum(counts) == 500
