"""Kills functions' processes at their calls to other services.

The processes themselves report each call, see ``hook/sitecustomize.py``.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Listener
from pathlib import Path
from typing import NamedTuple

MOMENTS = ("before", "after")
FETCH_KEYS = "GET /keys"  # each process makes this call once; it changes nothing
_HOOK = Path(__file__).with_name("hook") / "sitecustomize.py"
_COMPUTE_PREFIX = re.compile(r"/compute/v1/projects/[^/]+/(zones/[^/]+/)?")
_RESOURCE_NAME = re.compile(r"(instances|disks|operations|snapshots)/[^/]+")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Call:
    """A call to another service, identified by the calls that came before it in its request.

    Attributes:
        function: the function that makes the call.
        what: what it calls, without the names of resources.
        before: what the function has called so far for the same request; None stands for anything.
    """

    function: str
    what: str
    before: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """Return a description."""
        before = ", ".join(self.before or ()) or "nothing"
        return f"{self.what} of {self.function}, which has called {before}"

    def includes(self, other: Call) -> bool:
        """Say whether this describes another call."""
        same = (self.function, self.what) == (other.function, other.what)
        return same and self.before in {None, other.before}


@dataclass(frozen=True)
class CrashPoint:
    """A moment at which a process can be killed: ``before`` or ``after`` a call."""

    call: Call
    moment: str

    def __str__(self) -> str:
        """Return a description."""
        return f"{self.moment} {self.call}"


@dataclass
class CrashPlan:
    """Kills a process at the first of some points that it reaches, and records all calls.

    Attributes:
        points: the points at which to kill.
        calls: the calls so far, in their order.
        crashed_at: where a process was killed; None: none was killed yet.
    """

    points: frozenset[CrashPoint] = frozenset()
    calls: list[Call] = field(default_factory=list)
    crashed_at: CrashPoint | None = None

    def must_crash(self, call: Call, moment: str) -> bool:
        """Record a call and say whether its process is to be killed."""
        if moment == "before":
            self.calls.append(call)
        if self.crashed_at is None:
            self.crashed_at = next(
                (
                    point
                    for point in self.points
                    if point.moment == moment and point.call.includes(call)
                ),
                None,
            )
            return self.crashed_at is not None
        return False


@dataclass
class CrashOnceAtEachCall(CrashPlan):
    """Kills a process once before and once after each kind of call.

    The calls before it in the request do not count. After a crash the plan waits until the test has
    set ``crashed_at`` to None.

    Attributes:
        done: the points at which a process was killed.
    """

    done: set[CrashPoint] = field(default_factory=set)

    def must_crash(self, call: Call, moment: str) -> bool:
        """Say whether the process of a call is to be killed: once at each point."""
        point = CrashPoint(Call(call.function, call.what), moment)
        if self.crashed_at is not None or point in self.done:
            return False
        self.crashed_at = point
        self.done.add(point)
        return True


class _Notice(NamedTuple):
    """What a process reports about a call, as ``hook/sitecustomize.py`` sends it.

    Attributes:
        number: the number that the call got before it was made; 0 before that.
        function: the function that makes the call.
        what: the method and the path, or the name of the method by gRPC.
        moment: one of ``MOMENTS``.
        request: the id of the request that the function serves.
        about: the path, id and body of that request.
    """

    number: int
    function: str
    what: str
    moment: str
    request: str
    about: str


class CrashInjector:
    """Decides which processes of one cloud are killed.

    The cloud must be started with ``python_path`` as its functions' first folder. A plan applies to
    the requests that have its key in their path, id or body. Ids that come in the same request as a
    key count as the key, too, until they have a plan of their own.
    """

    def __init__(self, folder: Path) -> None:
        self.python_path = folder
        shutil.copy(_HOOK, folder)
        self._listener = Listener(str(folder / "test"), backlog=128)
        self._plans_of_requests: dict[str, CrashPlan] = {}
        self._plans_of_functions: dict[str, CrashPlan] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._under_way: dict[int, Call] = {}
        self._calls_of_requests: dict[str, tuple[str, ...]] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def apply_to_requests(self, key: str, plan: CrashPlan) -> CrashPlan:
        """Apply a plan to the requests about this key from now on."""
        with self._lock:
            self._plans_of_requests[key] = plan
        return plan

    def apply_to_function(self, name: str, plan: CrashPlan) -> CrashPlan:
        """Apply a plan to all calls of one function from now on."""
        with self._lock:
            self._plans_of_functions[name] = plan
        return plan

    def close(self) -> None:
        """Stop listening; the processes go on without crashes."""
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                with self._listener.accept() as process:
                    process.send(self._decide(_Notice(*process.recv())))
            except (EOFError, ConnectionError):
                continue
            except OSError:
                return

    def _decide(self, notice: _Notice) -> tuple[int, bool]:
        """Return the call's number, and whether its process is to be killed."""
        with self._lock:
            if notice.moment == "before":
                number, call = next(self._numbers), self._new_call(notice)
                self._under_way[number] = call
            else:
                number = notice.number
                call = self._under_way.pop(number, Call(notice.function, notice.what))
            plans = self._plans_of_functions.get(notice.function), self._plan_of(notice.about)
            # All plans record the call.
            crashes = [plan.must_crash(call, notice.moment) for plan in plans if plan]
            return number, any(crashes)

    def _new_call(self, notice: _Notice) -> Call:
        what = _RESOURCE_NAME.sub(r"\1/…", _COMPUTE_PREFIX.sub("", notice.what)).rpartition(".")[2]
        request = f"{notice.function}/{notice.request}"
        before = self._calls_of_requests.get(request, ())
        if what != FETCH_KEYS:
            self._calls_of_requests[request] = (*before, what)
        return Call(notice.function, what, before)

    def _plan_of(self, about: str) -> CrashPlan | None:
        """Return the plan of a request, and apply it to all ids in the request that have none."""
        plans = self._plans_of_requests
        keys = [word for word in re.findall(r"[\w.:-]+", about) if word in plans]
        if not keys:
            return None
        plan = plans[keys[0]]
        plans.update({other: plan for other in _ID.findall(about) if other not in plans})
        return plan


@contextlib.contextmanager
def crash_injector() -> Iterator[CrashInjector]:
    """Yield an injector that listens for as long as the context lasts."""
    # A short prefix: the path of a socket has a maximum length.
    with tempfile.TemporaryDirectory(prefix="workspace-hub-") as folder:
        injector = CrashInjector(Path(folder))
        try:
            yield injector
        finally:
            injector.close()
