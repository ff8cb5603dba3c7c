"""Functions are called when their time is up, unless they are cancelled."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from shared.entry.deadlines import Deadlines

LONG_SECONDS = 600.0
PATIENCE_SECONDS = 60.0


def test_a_function_is_called_once_its_time_is_up() -> None:
    """It is not called before."""
    called, began = threading.Event(), time.monotonic()
    Deadlines().begin(0.1, called.set)
    assert called.wait(PATIENCE_SECONDS)
    assert time.monotonic() - began >= 0.1


def test_a_function_that_is_due_earlier_does_not_wait_for_those_before_it() -> None:
    """Each is called at its own time, whatever else is pending."""
    deadlines, called = Deadlines(), list[str]()
    first, second = threading.Event(), threading.Event()
    deadlines.begin(LONG_SECONDS, lambda: called.append("late"))
    deadlines.begin(0.01, first.set)
    assert first.wait(PATIENCE_SECONDS)
    deadlines.begin(0.01, second.set)
    assert second.wait(PATIENCE_SECONDS)
    assert called == []


def test_a_cancelled_function_is_not_called() -> None:
    """Those after it are. To cancel one that was called does nothing."""
    deadlines, called, last = Deadlines(), list[str](), threading.Event()
    cancelled = deadlines.begin(0.05, lambda: called.append("cancelled"))
    deadlines.cancel(cancelled)
    entry = deadlines.begin(0.1, last.set)
    assert last.wait(PATIENCE_SECONDS)
    deadlines.cancel(entry)
    assert called == []


def test_it_goes_on_after_a_time_with_nothing_to_do() -> None:
    """The thread waits until there is something, and there is only one."""
    deadlines = Deadlines()
    before = threading.active_count()
    for _ in range(3):
        called = threading.Event()
        deadlines.begin(0.01, called.set)
        assert called.wait(PATIENCE_SECONDS)
    assert threading.active_count() == before + 1


def test_many_threads_may_use_it_at_once() -> None:
    """Each function is called once, or cancelled in time."""
    deadlines, called = Deadlines(), list[int]()
    done = threading.Semaphore(0)

    def note(number: int) -> None:
        called.append(number)
        done.release()

    def use(number: int) -> None:
        if number % 2:
            deadlines.cancel(deadlines.begin(LONG_SECONDS, lambda: called.append(number)))
        else:
            deadlines.begin(0.01, lambda: note(number))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(use, range(200)))
    assert all(done.acquire(timeout=PATIENCE_SECONDS) for _ in range(100))
    assert sorted(called) == list(range(0, 200, 2))
