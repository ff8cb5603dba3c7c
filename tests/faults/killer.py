"""Kills functions' processes at their calls to the outside, which the processes themselves tell of (`probe/sitecustomize.py`)."""

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
from typing import Any

MOMENTS = ("before", "after")
_PROBE = Path(__file__).with_name("probe") / "sitecustomize.py"
_PLACE = re.compile(r"/compute/v1/projects/[^/]+/(zones/[^/]+/)?")
_NAME = re.compile(r"(instances|disks|operations)/[^/]+")
KEYS = "GET /keys"  # fetched once by each process; changes nothing anywhere
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Call:
    """A place in the program where it talks to the outside, known by all that it has said before.

    Attributes:
        function: which function it is.
        what: what it calls, without the names that are one workspace's own.
        before: what the function has called so far for the same request; None: whatever it was.
    """

    function: str
    what: str
    before: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.what} of {self.function}, which has called {', '.join(self.before or ()) or 'nothing'}"

    def includes(self, other: Call) -> bool:
        """Say whether this is another call, or says less about it."""
        same = (self.function, self.what) == (other.function, other.what)
        return same and self.before in {None, other.before}


@dataclass(frozen=True)
class Point:
    """Where a process can be killed: `before` or `after` a call."""

    call: Call
    moment: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.moment} {self.call}"


@dataclass
class Watched:
    """What is watched for: the calls about one thing, or of one function.

    Attributes:
        at: the process is killed at the first of these that it comes to.
        calls: those seen so far, in their order.
        killed: where the process was killed; None: it was not.
    """

    at: frozenset[Point] = frozenset()
    calls: list[Call] = field(default_factory=list)
    killed: Point | None = None

    def dies(self, call: Call, moment: str) -> bool:
        """Take note of a call and say whether its process is to be killed."""
        if moment == "before":
            self.calls.append(call)
        if self.killed is None:
            self.killed = next(
                (
                    point
                    for point in self.at
                    if point.moment == moment and point.call.includes(call)
                ),
                None,
            )
            return self.killed is not None
        return False


@dataclass
class OnceAtEachCall(Watched):
    """Watches for every call, whatever came before it in the request: the process is killed once before and once after each.

    Attributes:
        done: where it was; `killed` may be set to None for it to go on.
    """

    done: set[Point] = field(default_factory=set)

    def dies(self, call: Call, moment: str) -> bool:
        """Take note of a call and say whether its process is to be killed."""
        point = Point(Call(call.function, call.what), moment)
        if self.killed is not None or point in self.done:
            return False
        self.killed = point
        self.done.add(point)
        return True


class Killer:
    """Decides who dies. One for a cloud, which is started with `python_path` as its functions' first folder.

    What a call is about is told by what its function was asked: a word in the request's path, id or
    body. Ids that are met together with a word are as good as the word, until they are watched
    themselves.
    """

    def __init__(self, folder: Path) -> None:
        self.python_path = folder
        shutil.copy(_PROBE, folder)
        self._listener = Listener(str(folder / "test"), backlog=128)
        self._words: dict[str, Watched] = {}
        self._functions: dict[str, Watched] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._under_way: dict[int, Call] = {}
        self._said: dict[str, tuple[str, ...]] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def watch(self, word: str, watched: Watched) -> Watched:
        """Watch the calls that are about this word from now on."""
        with self._lock:
            self._words[word] = watched
        return watched

    def watch_function(self, name: str, watched: Watched) -> Watched:
        """Watch all calls of one function from now on."""
        with self._lock:
            self._functions[name] = watched
        return watched

    def close(self) -> None:
        """Listen no more; the processes go on undisturbed."""
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                with self._listener.accept() as process:
                    process.send(self._decide(*process.recv()))
            except (EOFError, ConnectionError):
                continue
            except OSError:
                return

    def _decide(
        self, number: int, function: str, what: str, moment: str, request: str, about: str
    ) -> tuple[int, bool]:
        with self._lock:
            if moment == "before":
                number, call = (
                    next(self._numbers),
                    self._new_call(function, what, f"{function}/{request}"),
                )
                self._under_way[number] = call
            else:
                call = self._under_way.pop(number, Call(function, what))
            concerned = [
                watched for watched in (self._functions.get(function), self._of(about)) if watched
            ]
            dies = [watched.dies(call, moment) for watched in concerned]  # all of them take note
            return number, any(dies)

    def _new_call(self, function: str, what: str, request: str) -> Call:
        what = _NAME.sub(r"\1/…", _PLACE.sub("", what)).rpartition(".")[2]
        said = self._said.get(request, ())
        if what != KEYS:
            self._said[request] = (*said, what)
        return Call(function, what, said)

    def _of(self, about: str) -> Watched | None:
        words: Any = [word for word in re.findall(r"[\w.:-]+", about) if word in self._words]
        if not words:
            return None
        watched = self._words[words[0]]
        self._words |= {other: watched for other in _ID.findall(about) if other not in self._words}
        return watched


@contextlib.contextmanager
def listening() -> Iterator[Killer]:
    """Have a killer for as long as the context lasts."""
    with tempfile.TemporaryDirectory(
        prefix="workspace-hub-"
    ) as folder:  # short: a socket's path has its limit
        killer = Killer(Path(folder))
        try:
            yield killer
        finally:
            killer.close()
