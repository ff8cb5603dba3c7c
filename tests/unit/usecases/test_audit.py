"""Which refusals and reads by administrators are recorded, and when."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.access import AccessRules, Actor, Mode, Person
from shared.domain.errors import NotAllowedError, UnavailableError
from shared.domain.events import Event
from shared.domain.looks import MOST_WITH_ONE, WRITTEN_EVERY
from shared.usecases.admit_person import admit_person
from shared.usecases.audit import (
    MOST_CALLERS,
    MOST_IN_LAST_COMMIT,
    MOST_READS,
    MOST_STRANGERS,
    STRANGERS_PER_MINUTE,
    AuditTrail,
)
from tests.fakes.clock import SettableClock
from tests.fakes.store import MemoryWorkspaceStore

FIVE_MINUTES = timedelta(minutes=5)
RULES = AccessRules(Mode.PERSONAL, ("alice@example.com",))
ADMIN = Actor("grace", "request-1", "grace@example.com", admin=True)


class Store(MemoryWorkspaceStore):
    """Records that may be unavailable, and whose commits may be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.largest = 0
        self.asked = threading.Semaphore(0)  # counts the commits that have started
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
        self.audit = AuditTrail(self.store, self.clock)

    def pass_time(self, **by: float) -> None:
        """Let an amount of time pass."""
        self.clock.advance(timedelta(**by))

    def admit_person(self, who: str) -> None:
        """Let a stranger try to enter."""
        with pytest.raises(NotAllowedError):
            admit_person(self.audit, Person(who, f"{who}@example.net"), RULES, str(uuid.uuid4()))

    def refuse(self, who: str = "bob", workspace_id: str = "one") -> None:
        """Refuse a person whom the Hub serves."""
        self.audit.record_refusal(
            Actor(who, "request-2", f"{who}@example.com"), workspace_id, "alice", "StopRequested"
        )

    @property
    def written(self) -> list[tuple[str, int]]:
        """The callers in the written events, and how many refusals each event counts."""
        return [(event.who, event.times) for event in self.store.events]

    @property
    def times(self) -> int:
        """The number of refusals that the written events count."""
        return sum(event.times for event in self.store.events)


@pytest.fixture
def process() -> Process:
    """A process that has just started."""
    return Process()


# ---- strangers ----


def test_a_flood_by_one_stranger_is_one_write(process: Process) -> None:
    """The others are counted by the first event after five minutes."""
    for _ in range(623):
        process.admit_person("mallory")
        process.pass_time(seconds=2 / 623)
    assert (process.store.counts.commits, process.written) == (1, [("mallory", 1)])

    process.pass_time(minutes=5)
    process.admit_person("mallory")

    assert (process.store.counts.commits, process.written) == (
        2,
        [("mallory", 1), ("mallory", 623)],
    )
    [first, then] = process.store.events
    assert {event.what for event in (first, then)} == {"EntryRequested"}
    assert then.who_email == "mallory@example.net"


def test_ten_thousand_strangers_write_no_more_than_the_budget(process: Process) -> None:
    """This holds for a minute and for an hour, and their number is recorded in the end."""
    for n in range(10_000):
        process.admit_person(f"stranger-{n}")
        process.pass_time(seconds=0.006)
    # The initial budget, and that of a minute.
    assert process.store.counts.commits <= 2 * STRANGERS_PER_MINUTE

    for n in range(10_000):
        process.admit_person(f"stranger-{n}")
        process.pass_time(seconds=0.36)
    assert process.store.counts.commits <= 62 * STRANGERS_PER_MINUTE
    assert len(process.store.events) <= 62 * STRANGERS_PER_MINUTE

    process.audit.write_counted()
    assert process.times == 20_000


def test_strangers_do_not_hide_other_peoples_refusals(process: Process) -> None:
    """The budget applies to strangers only."""
    for n in range(1000):
        process.admit_person(f"stranger-{n}")
    process.refuse()
    assert process.written[-1] == ("bob", 1)


def test_another_workspaces_machine_is_a_stranger(process: Process) -> None:
    """It has only a token of Google's."""
    for n in range(1000):
        process.audit.record_stranger(
            Actor(f"machine-{n}", "request-3"), "one", "alice", "ReportSent"
        )
    assert process.store.counts.commits == STRANGERS_PER_MINUTE
    process.audit.write_counted()
    assert process.written[-1] == ("strangers", 990)
    assert process.store.events[-1].what == "ReportSent"
    assert process.store.events[-1].workspace_id == "one"  # the same for all of them


# ---- people whom the Hub serves ----


def test_the_first_refusal_of_a_person_who_is_served_is_written(process: Process) -> None:
    """It does not matter how many others were refused before."""
    for n in range(500):
        process.refuse(f"person-{n}")
    assert process.written == [(f"person-{n}", 1) for n in range(500)]


def test_a_person_who_tries_many_ids_is_two_events(process: Process) -> None:
    """One event has the first id, the other the number of all."""
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
    """There are more callers than the table has places."""
    for _ in range(2):
        for n in range(MOST_CALLERS + MOST_STRANGERS + 100):
            process.refuse(f"person-{n}")
            process.admit_person(f"stranger-{n}")
    process.audit.write_counted()
    assert process.times == 4 * (MOST_CALLERS + MOST_STRANGERS + 100)
    assert process.store.largest <= MOST_IN_LAST_COMMIT


# ---- many threads ----


@pytest.fixture
def _frequent_thread_switches() -> Iterator[None]:
    """Let threads be interrupted at any place."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_frequent_thread_switches")
def test_simultaneous_threads_lose_no_count(process: Process) -> None:
    """One caller and many are counted while time passes and the database fails at times."""

    def flood(thread: int) -> None:
        for n in range(500):
            process.refuse()
            process.refuse(f"person-{thread}-{n % 7}")
            process.audit.record_stranger(Actor(f"stranger-{n}", ""), "", "", "EntryRequested")
            process.clock.advance(timedelta(seconds=1))
            process.store.away = n % 50 < 20

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(flood, range(8)))
    process.store.away = False
    process.audit.write_counted()
    assert process.times == 8 * 500 * 3


def test_counting_a_refusal_does_not_wait_for_a_write(process: Process) -> None:
    """A refusal that comes during a write is not lost if the write fails."""
    process.store.away = True
    process.store.go_on.clear()
    first = threading.Thread(target=process.refuse)
    first.start()
    assert process.store.asked.acquire(timeout=10)

    process.refuse()  # would hang if it waited for the write

    process.store.go_on.set()
    first.join(10)
    process.store.away = False
    process.pass_time(seconds=10)
    process.refuse()
    assert process.written == [("bob", 3)]


# ---- an unavailable database ----


def test_refusals_during_an_outage_of_the_database_are_written_later(process: Process) -> None:
    """Each refusal takes effect at once, and few of them wait for the database."""
    process.refuse()
    process.store.away = True
    for second in range(600):
        process.refuse()
        process.refuse("carol")
        process.admit_person(f"stranger-{second}")
        process.pass_time(seconds=1)
    tried = 0
    while process.store.asked.acquire(blocking=False):
        tried += 1
    assert tried < 300

    process.store.away = False
    process.pass_time(seconds=10)
    process.refuse()
    process.admit_person("mallory")
    process.audit.write_counted()

    assert process.times == 1 + 3 * 600 + 2
    named = {
        who: sum(times for name, times in process.written if name == who)
        for who in ("bob", "carol")
    }
    assert named == {"bob": 602, "carol": 600}


def test_at_the_end_an_unavailable_database_is_tried_once(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process has ten seconds to end; the log has the number of refusals that are lost."""
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

    process.audit.write_counted()

    assert process.store.asked.acquire(blocking=False)
    assert not process.store.asked.acquire(blocking=False)
    assert lost == [("RefusalsLost", 700)]


def test_a_process_that_has_counted_nothing_writes_nothing_at_its_end(process: Process) -> None:
    """Most processes have counted nothing."""
    process.refuse()
    process.audit.write_counted()
    assert process.store.counts.commits == 1


# ---- reads by administrators ----


def test_the_same_read_is_recorded_once_in_ten_minutes(process: Process) -> None:
    """A page that reloads every few seconds is one event at once, and then one with the number."""
    for _ in range(100):
        process.audit.record_read(ADMIN, "one", "alice", "StatusRequested")
        process.pass_time(seconds=5)
    assert process.written == [("grace", 1)]
    process.clock.advance(WRITTEN_EVERY)
    process.audit.record_read(replace(ADMIN, request_id="last"), "one", "alice", "StatusRequested")
    assert process.store.counts.commits == 2
    [_, then] = process.store.events
    assert (then.times, then.at, then.request_id) == (100, process.clock(), "last")
    assert (then.workspace_id, then.owner_id, then.as_admin) == ("one", "alice", True)


def test_an_administrator_with_the_page_open_all_day_is_some_events(process: Process) -> None:
    """A day of polling every two seconds is one event in ten minutes, and each look is counted."""
    for _ in range(8 * 1800):
        process.audit.record_read(ADMIN, "", "", "ListRequested")
        process.pass_time(seconds=2)
    process.audit.write_counted()
    assert len(process.store.events) == 8 * 6 + 1
    assert process.times == 8 * 1800


def test_what_is_counted_is_written_with_another_look(process: Process) -> None:
    """Whoever has closed the page leaves a count behind, which the next look of anybody takes."""
    for n in range(MOST_WITH_ONE + 5):
        for _ in range(3):
            process.audit.record_read(ADMIN, f"workspace-{n}", "alice", "StatusRequested")
    process.pass_time(minutes=10)
    for _ in range(2):
        process.audit.record_read(ADMIN, "other", "alice", "StatusRequested")
        process.audit.record_read(ADMIN, "other", "alice", "EventsRequested")
    assert process.times == 3 * (MOST_WITH_ONE + 5) + 2
    assert process.store.largest <= MOST_WITH_ONE + 2


def test_a_count_is_kept_while_the_database_is_away(process: Process) -> None:
    """Looks that are refused are not counted, and none that was answered is lost."""
    for _ in range(4):
        process.audit.record_read(ADMIN, "one", "alice", "StatusRequested")
    process.pass_time(minutes=10)
    process.store.away = True
    for _ in range(2):
        with pytest.raises(UnavailableError):
            process.audit.record_read(ADMIN, "one", "alice", "StatusRequested")
    process.store.away = False
    process.audit.record_read(ADMIN, "one", "alice", "StatusRequested")
    assert process.written == [("grace", 1), ("grace", 4)]


def test_different_reads_are_different_events(process: Process) -> None:
    """A read differs by its workspace, owner, list or administrator, or by what is read."""
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
        process.audit.record_read(*look)
    noted = [
        (event.who, event.workspace_id, event.owner_id, event.what)
        for event in process.store.events
    ]
    assert noted == [(actor.id, *rest) for actor, *rest in looks]


def test_a_read_that_cannot_be_recorded_is_refused_each_time(process: Process) -> None:
    """A read counts as recorded only after its event is written."""
    process.store.away = True
    for _ in range(2):
        with pytest.raises(UnavailableError):
            process.audit.record_read(ADMIN, "one", "alice", "StatusRequested")
    process.store.away = False
    process.audit.record_read(ADMIN, "one", "alice", "StatusRequested")
    assert process.store.counts.commits == 1


def test_a_read_of_ones_own_workspace_is_not_recorded(process: Process) -> None:
    """This holds for administrators and for everybody else."""
    process.audit.record_read(ADMIN, "one", "grace", "StatusRequested")
    process.audit.record_read(Actor("alice", "request-5"), "one", "alice", "StatusRequested")
    assert process.store.counts.commits == 0


def test_the_number_of_remembered_reads_is_bounded(process: Process) -> None:
    """The oldest read is forgotten, and recorded again when it is repeated."""
    for n in range(MOST_READS + 1):
        process.audit.record_read(ADMIN, f"workspace-{n}", "alice", "StatusRequested")
    process.audit.record_read(ADMIN, f"workspace-{MOST_READS}", "alice", "StatusRequested")
    assert process.store.counts.commits == MOST_READS + 1
    process.audit.record_read(ADMIN, "workspace-0", "alice", "StatusRequested")
    assert process.store.counts.commits == MOST_READS + 2


def test_no_count_of_a_forgotten_read_is_lost(process: Process) -> None:
    """It is written with one of the next looks, or at the end."""
    for n in range(2 * MOST_READS):
        process.audit.record_read(ADMIN, f"workspace-{n}", "alice", "StatusRequested")
        process.audit.record_read(ADMIN, f"workspace-{n}", "alice", "StatusRequested")
    process.audit.write_counted()
    assert process.times == 4 * MOST_READS
