"""What is written of refusals and looks, and when: in virtual time, on the fake store."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from shared.domain.errors import NotAllowedError, UnavailableError
from shared.domain.events import Event
from shared.domain.people import AccessRules, Actor, Mode, Person
from shared.usecases.enter import enter
from shared.usecases.trail import (
    LOOK_NOTED_EVERY,
    MOST_CALLERS,
    MOST_IN_LAST_COMMIT,
    MOST_LOOKS,
    MOST_STRANGERS,
    STRANGERS_PER_MINUTE,
    Trail,
)
from tests.fakes.clock import SettableClock
from tests.fakes.store import MemoryWorkspaceStore

FIVE_MINUTES = timedelta(minutes=5)
RULES = AccessRules(Mode.PERSONAL, ("alice@example.com",))
ADMIN = Actor("grace", "request-1", "grace@example.com", admin=True)


class Store(MemoryWorkspaceStore):
    """Records that may be away, and whose commits may take their time."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.largest = 0
        self.asked = threading.Semaphore(0)  # counts the commits that have come this far
        self.go_on = threading.Event()
        self.go_on.set()

    def commit(self, *, events: Sequence[Event] = (), **_more: object) -> None:
        """See the port."""
        self.asked.release()
        assert self.go_on.wait(10)
        if self.away:
            raise UnavailableError("The Hub's database does not answer.")
        self.largest = max(self.largest, len(events))
        super().commit(events=events)


class Process:
    """A function's process: its trail, its records and its time."""

    def __init__(self) -> None:
        self.store = Store()
        self.clock = SettableClock()
        self.trail = Trail(self.store, self.clock)

    def pass_time(self, **by: float) -> None:
        """Let so much time pass."""
        self.clock.advance(timedelta(**by))

    def enter(self, who: str) -> None:
        """Let a stranger try to get in."""
        with pytest.raises(NotAllowedError):
            enter(self.trail, Person(who, f"{who}@example.net"), RULES, str(uuid.uuid4()))

    def refuse(self, who: str = "bob", workspace_id: str = "one") -> None:
        """Refuse somebody whom the Hub serves."""
        self.trail.record_refusal(
            Actor(who, "request-2", f"{who}@example.com"), workspace_id, "alice", "StopRequested"
        )

    @property
    def told(self) -> list[tuple[str, int]]:
        """Who was refused how often, as it is written."""
        return [(event.who, event.times) for event in self.store.events]

    @property
    def times(self) -> int:
        """How many refusals are written."""
        return sum(event.times for event in self.store.events)


@pytest.fixture
def process() -> Process:
    """A process that has just begun."""
    return Process()


# ---- strangers ------------------------------------------------------------------------------------------------------


def test_a_flood_by_one_stranger_is_one_write(process: Process) -> None:
    """The others are told with the first one after five minutes."""
    for _ in range(623):
        process.enter("mallory")
        process.pass_time(seconds=2 / 623)
    assert (process.store.counts.commits, process.told) == (1, [("mallory", 1)])

    process.pass_time(minutes=5)
    process.enter("mallory")

    assert (process.store.counts.commits, process.told) == (2, [("mallory", 1), ("mallory", 623)])
    [first, then] = process.store.events
    assert {event.what for event in (first, then)} == {"EntryRequested"}
    assert then.who_email == "mallory@example.net"


def test_ten_thousand_strangers_write_no_more_than_the_budget(process: Process) -> None:
    """However many Google accounts somebody has, in a minute and in an hour; how many they were is told."""
    for n in range(10_000):
        process.enter(f"stranger-{n}")
        process.pass_time(seconds=0.006)
    assert (
        process.store.counts.commits <= 2 * STRANGERS_PER_MINUTE
    )  # what there was, and what a minute gives

    for n in range(10_000):
        process.enter(f"stranger-{n}")
        process.pass_time(seconds=0.36)
    assert process.store.counts.commits <= 62 * STRANGERS_PER_MINUTE
    assert len(process.store.events) <= 62 * STRANGERS_PER_MINUTE

    process.trail.write_counted()
    assert process.times == 20_000


def test_strangers_keep_nobody_elses_refusal_out_of_the_trail(process: Process) -> None:
    """The budget is theirs alone."""
    for n in range(1000):
        process.enter(f"stranger-{n}")
    process.refuse()
    assert process.told[-1] == ("bob", 1)


def test_a_machine_that_is_not_the_workspaces_is_a_stranger(process: Process) -> None:
    """It has a token of Google's, and nothing else."""
    for n in range(1000):
        process.trail.record_stranger(
            Actor(f"machine-{n}", "request-3"), "one", "alice", "ReportSent"
        )
    assert process.store.counts.commits == STRANGERS_PER_MINUTE
    process.trail.write_counted()
    assert process.told[-1] == ("strangers", 990)
    assert process.store.events[-1].what == "ReportSent"
    assert process.store.events[-1].workspace_id == "one"  # all of them wanted the same


# ---- people whom the Hub serves -------------------------------------------------------------------------------------


def test_a_first_refusal_of_somebody_who_is_served_is_always_written(process: Process) -> None:
    """Whoever else was refused before."""
    for n in range(500):
        process.refuse(f"person-{n}")
    assert process.told == [(f"person-{n}", 1) for n in range(500)]


def test_somebody_who_tries_many_ids_is_two_lines(process: Process) -> None:
    """The first id, and how many there were."""
    for n in range(100):
        process.refuse(workspace_id=f"workspace-{n}")
    process.pass_time(minutes=5)
    process.refuse(workspace_id="workspace-0")
    assert [
        (event.workspace_id, event.owner_id, event.times) for event in process.store.events
    ] == [
        ("workspace-0", "alice", 1),
        ("", "alice", 100),
    ]


def test_memory_is_bounded_and_no_count_is_lost(process: Process) -> None:
    """More callers than are told apart."""
    for _ in range(2):
        for n in range(MOST_CALLERS + MOST_STRANGERS + 100):
            process.refuse(f"person-{n}")
            process.enter(f"stranger-{n}")
    process.trail.write_counted()
    assert process.times == 4 * (MOST_CALLERS + MOST_STRANGERS + 100)
    assert process.store.largest <= MOST_IN_LAST_COMMIT


# ---- many threads ---------------------------------------------------------------------------------------------------


@pytest.fixture
def _threads_take_turns_often() -> Iterator[None]:
    """Have a thread interrupted wherever it may be."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_threads_at_once_lose_no_count(process: Process) -> None:
    """Of one caller and of many, while time goes on, and while the database comes and goes."""

    def flood(thread: int) -> None:
        for n in range(500):
            process.refuse()
            process.refuse(f"person-{thread}-{n % 7}")
            process.trail.record_stranger(Actor(f"stranger-{n}", ""), "", "", "EntryRequested")
            process.clock.advance(timedelta(seconds=1))
            process.store.away = n % 50 < 20

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(flood, range(8)))
    process.store.away = False
    process.trail.write_counted()
    assert process.times == 8 * 500 * 3


def test_who_is_counted_does_not_wait_for_anybodys_write(process: Process) -> None:
    """Nor is what comes during a write lost with it, when that fails."""
    process.store.away = True
    process.store.go_on.clear()
    first = threading.Thread(target=process.refuse)
    first.start()
    assert process.store.asked.acquire(timeout=10)

    process.refuse()  # would hang if it had to wait

    process.store.go_on.set()
    first.join(10)
    process.store.away = False
    process.pass_time(seconds=10)
    process.refuse()
    assert process.told == [("bob", 3)]


# ---- a database that is away ----------------------------------------------------------------------------------------


def test_what_the_database_did_not_take_is_written_later(process: Process) -> None:
    """First refusals, counts and sums; each refusal stands at once, and few of them wait for the database."""
    process.refuse()
    process.store.away = True
    for second in range(600):
        process.refuse()
        process.refuse("carol")
        process.enter(f"stranger-{second}")
        process.pass_time(seconds=1)
    tried = 0
    while process.store.asked.acquire(blocking=False):
        tried += 1
    assert tried < 300

    process.store.away = False
    process.pass_time(seconds=10)
    process.refuse()
    process.enter("mallory")
    process.trail.write_counted()

    assert process.times == 1 + 3 * 600 + 2
    named = {
        who: sum(times for name, times in process.told if name == who) for who in ("bob", "carol")
    }
    assert named == {"bob": 602, "carol": 600}


def test_a_database_that_is_away_at_the_end_costs_one_try(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is told to end has ten seconds. The log keeps how many refusals are lost."""
    lost: list[object] = []
    monkeypatch.setattr(
        "shared.logs.warning", lambda event, **fields: lost.append((event, fields.get("times")))
    )
    for n in range(700):
        process.refuse(f"person-{n}")
        process.refuse(f"person-{n}")
    while process.store.asked.acquire(blocking=False):
        pass
    process.store.away = True

    process.trail.write_counted()

    assert process.store.asked.acquire(blocking=False)
    assert not process.store.asked.acquire(blocking=False)
    assert lost == [("RefusalsLost", 700)]


def test_a_process_that_has_counted_nothing_writes_nothing_at_its_end(process: Process) -> None:
    """Most have not."""
    process.refuse()
    process.trail.write_counted()
    assert process.store.counts.commits == 1


# ---- an administrator's looks ---------------------------------------------------------------------------------------


def test_the_same_look_is_noted_once_in_ten_minutes(process: Process) -> None:
    """A page that is reloaded every few seconds is one look."""
    for _ in range(100):
        process.trail.record_look(ADMIN, "one", "alice", "StatusRequested")
        process.pass_time(seconds=5)
    assert process.store.counts.commits == 1
    process.clock.advance(LOOK_NOTED_EVERY)
    process.trail.record_look(ADMIN, "one", "alice", "StatusRequested")
    assert process.store.counts.commits == 2


def test_another_look_is_another_event(process: Process) -> None:
    """At another workspace, another owner's, everybody's, something else of the same, or by another administrator."""
    looks = [
        (ADMIN, "one", "alice", "StatusRequested"),
        (ADMIN, "two", "alice", "StatusRequested"),
        (ADMIN, "one", "alice", "EventsRequested"),
        (ADMIN, "", "alice", "ListRequested"),
        (ADMIN, "", "bob", "ListRequested"),
        (ADMIN, "", "", "ListRequested"),
        (
            Actor("heidi", "request-4", "heidi@example.com", admin=True),
            "one",
            "alice",
            "StatusRequested",
        ),
    ]
    for look in looks * 2:
        process.trail.record_look(*look)
    noted = [
        (event.who, event.workspace_id, event.owner_id, event.what)
        for event in process.store.events
    ]
    assert noted == [(actor.id, *rest) for actor, *rest in looks]


def test_a_look_that_cannot_be_noted_is_no_look_however_often_it_is_tried(process: Process) -> None:
    """It counts as noted only once it is."""
    process.store.away = True
    for _ in range(2):
        with pytest.raises(UnavailableError):
            process.trail.record_look(ADMIN, "one", "alice", "StatusRequested")
    process.store.away = False
    process.trail.record_look(ADMIN, "one", "alice", "StatusRequested")
    assert process.store.counts.commits == 1


def test_what_is_their_own_is_no_look(process: Process) -> None:
    """Neither an administrator's nor anybody else's."""
    process.trail.record_look(ADMIN, "one", "grace", "StatusRequested")
    process.trail.record_look(Actor("alice", "request-5"), "one", "alice", "StatusRequested")
    assert process.store.counts.commits == 0


def test_looks_are_remembered_up_to_a_bound(process: Process) -> None:
    """The one that was noted longest ago is forgotten, and is noted again."""
    for n in range(MOST_LOOKS + 1):
        process.trail.record_look(ADMIN, f"workspace-{n}", "alice", "StatusRequested")
    process.trail.record_look(ADMIN, f"workspace-{MOST_LOOKS}", "alice", "StatusRequested")
    assert process.store.counts.commits == MOST_LOOKS + 1
    process.trail.record_look(ADMIN, "workspace-0", "alice", "StatusRequested")
    assert process.store.counts.commits == MOST_LOOKS + 2
