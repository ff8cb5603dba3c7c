"""Which refusals become events at once, and which later event counts each of the others."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.access import Actor
from shared.domain.events import SEVERAL, STRANGERS, Event, merged, refusal_event
from shared.domain.refusals import MOST_WITH_ONE, TRIED_AGAIN_AFTER, WRITTEN_EVERY, Budget, Refusals

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def refusal(
    who: str = "mallory",
    now: datetime = NOW,
    workspace_id: str = "one",
    owner_id: str = "alice",
    what: str = "Asked",
) -> Event:
    """Return a refusal with a request id of its own."""
    return refusal_event(
        Actor(who, f"{who} at {now}", f"{who}@example.com"), workspace_id, owner_id, what, now
    )


def times_of_each(events: list[Event]) -> list[tuple[str, int]]:
    """Return each event's caller and how many refusals it counts."""
    return [(event.who, event.times) for event in events]


# ---- two refusals in one event ----


def test_the_event_of_two_refusals_is_the_later_one() -> None:
    """The event has the later refusal's time and request id, in either order of arguments."""
    early, late = refusal(), refusal(now=NOW + SECOND)
    both = Event(
        NOW + SECOND,
        "one",
        "alice",
        "mallory",
        "Asked",
        "REFUSED",
        late.request_id,
        "mallory@example.com",
        times=2,
    )
    assert merged(early, late, SEVERAL) == merged(late, early, SEVERAL) == both


def test_an_event_leaves_differing_fields_empty() -> None:
    """An event that named one workspace or one caller would be wrong about the other."""
    line = merged(refusal(), refusal("trudy", workspace_id="two", owner_id="bob"), STRANGERS)
    assert (line.workspace_id, line.owner_id, line.who, line.who_email) == (
        "",
        "",
        "strangers",
        None,
    )


def test_refusals_on_two_workspaces_of_one_owner_keep_the_owner() -> None:
    """The owner is the same, so the event names them."""
    line = merged(refusal(), refusal(workspace_id="two"), SEVERAL)
    assert (line.workspace_id, line.owner_id, line.who) == ("", "alice", "mallory")


# ---- one caller and kind ----


def test_the_first_refusal_is_an_event_and_the_next_five_minutes_are_counted() -> None:
    """The first refusal after five minutes is an event that counts those in between."""
    refusals = Refusals(10, SEVERAL)
    assert refusals.add(refusal(), NOW) == [refusal()]
    assert [
        refusals.add(refusal(now=NOW + n * SECOND), NOW + n * SECOND) for n in range(1, 300)
    ] == [[]] * 299
    [line] = refusals.add(refusal(now=NOW + WRITTEN_EVERY), NOW + WRITTEN_EVERY)
    assert (line.times, line.at) == (300, NOW + WRITTEN_EVERY)
    assert refusals.add(refusal(), NOW + WRITTEN_EVERY + SECOND) == []


def test_a_caller_who_returns_later_counts_as_new() -> None:
    """No refusal was counted in between."""
    refusals = Refusals(10, SEVERAL)
    later = NOW + timedelta(hours=1)
    refusals.add(refusal(), NOW)
    assert times_of_each(refusals.add(refusal(now=later), later)) == [("mallory", 1)]


def test_each_caller_and_kind_is_counted_separately() -> None:
    """A caller hides neither others' first refusals nor their own of another kind."""
    refusals = Refusals(10, SEVERAL)
    for event in (refusal(), refusal("trudy"), refusal(what="Deleted")):
        assert refusals.add(event, NOW) == [event]


def test_due_counts_are_written_with_any_callers_refusal() -> None:
    """The caller who was counted may never come back."""
    refusals = Refusals(10, SEVERAL)
    for n in range(4):
        refusals.add(refusal(now=NOW + n * SECOND), NOW + n * SECOND)
    written = refusals.add(refusal("trudy"), NOW + WRITTEN_EVERY)
    assert times_of_each(written) == [("mallory", 3), ("trudy", 1)]
    assert written[0].at == NOW + 3 * SECOND


def test_one_request_writes_a_bounded_number_of_counts() -> None:
    """The size of a commit is bounded; later commits write the rest."""
    refusals = Refusals(100, SEVERAL)
    for n in range(50):
        refusals.add(refusal(f"caller-{n}"), NOW)
        refusals.add(refusal(f"caller-{n}"), NOW)
    later = NOW + WRITTEN_EVERY
    assert [len(refusals.add(refusal(f"new-{n}"), later)) for n in range(3)] == [
        MOST_WITH_ONE + 1
    ] * 2 + [11]


# ---- many callers ----


def test_a_full_table_adds_several_callers_into_one_event() -> None:
    """Memory is bounded, and no count is lost."""
    refusals = Refusals(3, SEVERAL)
    written = []
    for n in [*range(100), *range(100)]:
        written += refusals.add(refusal(f"caller-{n}", workspace_id=f"{n}"), NOW)
    assert times_of_each(written) == [("caller-0", 1), ("caller-1", 1), ("caller-2", 1)], (
        "a caller without a place in the table is only counted"
    )
    waiting = refusals.take_all()
    assert len(waiting) <= 3
    assert sum(event.times for event in waiting) == 197
    [line] = [event for event in waiting if event.who == "several"]
    assert (line.workspace_id, line.who_email) == ("", None)


def test_all_callers_share_the_budget() -> None:
    """Ten are written at once, then one in six seconds; the others are written as a sum."""
    refusals = Refusals(100, STRANGERS, Budget(10))
    written: list[Event] = []
    for n in range(10_000):
        now = NOW + n * timedelta(milliseconds=1)
        written += refusals.add(refusal(f"stranger-{n}", now), now)
    assert times_of_each(written[:-1]) == [(f"stranger-{n}", 1) for n in range(10)]
    assert timedelta(seconds=6) <= written[-1].at - NOW <= timedelta(seconds=6.1)
    assert len(written) == 11
    later = NOW + 2 * WRITTEN_EVERY
    assert times_of_each(refusals.add(refusal("mallory", later), later)) == [
        ("strangers", 9989),
        ("mallory", 1),
    ]


def test_new_strangers_do_not_delay_the_sum() -> None:
    """New callers who use up the budget cannot keep the sum from being written."""
    refusals = Refusals(100, STRANGERS, Budget(10))
    written: list[Event] = []
    for n in range(700):
        now = NOW + n * SECOND
        written += refusals.add(refusal(f"stranger-{n}", now), now)
    sums = [event for event in written if event.who == "strangers"]
    assert len(sums) == 2
    assert len(written) <= 10 + 700 / 6 + 1


def test_a_single_stranger_over_the_budget_is_named() -> None:
    """A sum of one caller's refusals names that caller."""
    refusals = Refusals(100, STRANGERS, Budget(1))
    refusals.add(refusal("first"), NOW)
    for _ in range(3):
        assert refusals.add(refusal(), NOW) == []
    assert times_of_each(refusals.take_all()) == [("mallory", 3)]


def test_at_the_end_strangers_get_one_event_of_each_kind() -> None:
    """So the end of a process writes little; callers whom the Hub serves get an event each."""
    strangers, served = Refusals(100, STRANGERS, Budget(10)), Refusals(100, SEVERAL)
    for who in ("mallory", "trudy"):
        for what in ("Asked", "Reported", "Asked", "Reported"):
            strangers.add(refusal(who, what=what), NOW)
            served.add(refusal(who, what=what), NOW)
    assert [(event.who, event.what, event.times) for event in strangers.take_all()] == [
        ("strangers", "Asked", 2),
        ("strangers", "Reported", 2),
    ]
    assert times_of_each(served.take_all()) == [("mallory", 1)] * 2 + [("trudy", 1)] * 2
    assert strangers.take_all() == served.take_all() == []


# ---- events that could not be written ----


def test_events_that_could_not_be_written_are_due_in_ten_seconds() -> None:
    """Each request would wait for the database if they were tried again sooner."""
    refusals = Refusals(10, SEVERAL)
    refusals.put_back(refusals.add(refusal(), NOW), NOW)
    assert refusals.add(refusal(now=NOW + SECOND), NOW + SECOND) == []
    again = NOW + TRIED_AGAIN_AFTER
    assert times_of_each(refusals.add(refusal(now=again), again)) == [("mallory", 3)]


def test_a_clock_that_is_set_back_does_not_change_the_budget() -> None:
    """The budget continues from the earlier time."""
    budget = Budget(2)
    assert [budget.spend(NOW - n * timedelta(hours=1)) for n in range(3)] == [True, True, False]
    assert budget.spend(NOW - timedelta(hours=2) + 30 * SECOND)


WHO = st.sampled_from(["mallory", "trudy", "oscar", "eve"])
STEPS = st.lists(
    st.tuples(WHO, st.sampled_from(["Asked", "Deleted"]), st.integers(0, 400), st.booleans()),
    max_size=60,
)


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(steps=STEPS, most=st.integers(2, 5), budget=st.sampled_from([None, 1, 10]))
def test_every_refusal_is_counted_exactly_once(
    steps: list[tuple[str, str, int, bool]], most: int, budget: int | None
) -> None:
    """This holds for any order and times, failed writes, and any size of table and budget."""
    refusals = Refusals(most, STRANGERS, Budget(budget) if budget else None)
    now, written = NOW, Counter[str]()
    for who, what, seconds, succeeds in steps:
        now += seconds * SECOND
        events = refusals.add(refusal(who, now, what=what), now)
        if succeeds:
            written.update({what: 0})
            for event in events:
                written[event.what] += event.times
        else:
            refusals.put_back(events, now)
    for event in refusals.take_all():
        written[event.what] += event.times
    assert +written == Counter(what for _, what, _, _ in steps)
