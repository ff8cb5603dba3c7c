"""Calls functions when their time is up, from one thread.

A thread for each of them, as ``threading.Timer`` starts it, costs more than to read a short body.
"""

import threading
import time
from collections.abc import Callable


class Deadlines:
    """Functions with the time at which each is called, unless it is cancelled before.

    The functions return at once and raise nothing. The thread is started when it is first needed,
    after the server's fork. This is safe to use from many threads.
    """

    def __init__(self) -> None:
        self._pending: dict[object, tuple[float, Callable[[], None]]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        # When the thread looks again without being notified. Most functions are cancelled soon, and
        # the next one is due later than the last: the thread is rarely woken.
        self._looks_at = float("inf")

    def begin(self, seconds: float, do: Callable[[], None]) -> object:
        """Have ``do`` called after some seconds. Returns what cancels it."""
        ends_at, entry = time.monotonic() + seconds, object()
        with self._changed:
            self._pending[entry] = ends_at, do
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._call_due, name="deadlines", daemon=True
                )
                self._thread.start()
            elif ends_at < self._looks_at:
                self._changed.notify()
        return entry

    def cancel(self, entry: object) -> None:
        """Have a function not called, if it is not being called already."""
        with self._changed:
            self._pending.pop(entry, None)

    def _call_due(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                due = [entry for entry, (ends_at, _) in self._pending.items() if ends_at <= now]
                functions = [self._pending.pop(entry)[1] for entry in due]
                if not due:
                    ends = [ends_at for ends_at, _ in self._pending.values()]
                    self._looks_at = min(ends, default=float("inf"))
                    self._changed.wait(self._looks_at - now if ends else None)
            for function in functions:
                function()
