"""Removes everything that a local cloud leaves behind when it ends, even by ``kill -9``.

The reaper is a small process in its own session, which no Ctrl-C reaches. It reads a pipe; the
cloud holds the other end, which closes when the cloud ends. Each line of the pipe says one thing:

    group N    a child was started; N is its process group
    ended N    that group has ended
    path P     a file or folder to remove when the cloud ends
    mark M     machines may run from now on, whose processes have marks that begin with M

When the pipe closes, the reaper ends the machines (``process_tree.py``: theirs are not one group)
and the groups, removes the paths and ends. A child writes its
``group`` line itself before it becomes its program (``command_of_child``), so there is no moment at
which a child runs and is not known.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from localcloud.processes import process_tree

_ROOT = Path(__file__).parents[2]
_MAIN = (
    f"import sys; sys.path.append({str(_ROOT)!r}); "
    "from localcloud.processes.reaper import main; main()"
)
_GRACE_SECONDS = 1.0
_KILLED_SECONDS = 2.0
_POLL_SECONDS = 0.02

# Standard input is the pipe: write the group, then become the program, without the pipe.
_BECOME = 'echo "group $$" >&0 && exec "$@" </dev/null'


class Reaper:
    """The cloud's end of the pipe. Not for several threads at once.

    Args:
        keeps: file descriptors that the reaper holds, too, until everything is removed.
    """

    def __init__(self, keeps: Collection[int] = ()) -> None:
        reader, self._writer = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _MAIN],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                pass_fds=tuple(keeps),
                start_new_session=True,
                cwd="/",
            )
        finally:
            os.close(reader)
        self._groups: set[int] = set()
        self._paths: list[Path] = []
        self._marks: list[str] = []

    @property
    def pid(self) -> int:
        """The reaper's process id."""
        return self._process.pid

    @property
    def pipe(self) -> int:
        """The file descriptor that a child gets as standard input, see ``command_of_child``."""
        return self._writer

    def remove(self, path: Path) -> None:
        """Have a file or folder removed at the end; it need not exist yet."""
        self._paths.append(path)
        self._tell(f"path {path}")

    def end_machines(self, mark: str) -> None:
        """Have every process ended at the end whose machine's mark is below this one."""
        self._marks.append(mark)
        self._tell(f"mark {mark}")

    def started(self, group: int) -> None:
        """Remember a child; it has written its own line to the pipe."""
        self._groups.add(group)

    def ended(self, group: int) -> None:
        """Say that a process group has ended, so its number may be used again."""
        self._groups.discard(group)
        self._tell(f"ended {group}")

    def close(self) -> None:
        """End and remove everything, and wait for it; without the reaper if that was killed."""
        os.close(self._writer)
        if self._process.wait() != 0:
            clean_up(self._groups, self._paths, self._marks)

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # it was killed: ``close`` does its work
            os.write(self._writer, f"{line}\n".encode())


def command_of_child(command: Sequence[str]) -> list[str]:
    """Return a command line that tells the reaper of a child, and then becomes ``command``.

    It has to be started in a new session, with ``Reaper.pipe`` as standard input. It fails if the
    reaper no longer runs.
    """
    return ["/bin/sh", "-c", _BECOME, "child", *command]


def clean_up(groups: Collection[int], paths: Collection[Path], marks: Collection[str]) -> None:
    """End machines and groups, by SIGTERM and then by SIGKILL, wait for it, and remove paths."""
    for mark in marks:
        process_tree.end(mark, grace_seconds=_GRACE_SECONDS)
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _KILLED_SECONDS)):
        groups = [group for group in groups if _signal(group, number)]
        deadline = time.monotonic() + seconds
        while groups and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            groups = [group for group in groups if _signal(group, 0)]
    for path in paths:
        remove(path)


def _signal(group: int, number: int) -> bool:
    """Send a signal to a group, and return whether a process is left in it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        # macOS raises PermissionError if only a zombie is left.
        return False
    return True


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if there is one.

    Some tools write-protect their folders, such as Go's module cache in a home: they are removed,
    too.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        for folder, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                Path(folder).chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    """Read the pipe to its end, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    paths: list[Path] = []
    marks: list[str] = []
    for line in sys.stdin:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "group":
            groups.add(int(rest))
        elif word == "ended":
            groups.discard(int(rest))
        elif word == "path":
            paths.append(Path(rest))
        elif word == "mark":
            marks.append(rest)
    clean_up(groups, paths, marks)
