"""All processes of one machine, on Linux: find, freeze, thaw and end them.

A machine's first process is a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER): whatever loses its
parent, by a double fork, ``nohup`` or a daemon such as tmux's server, becomes its child. So all
processes of a machine are below the first one, whatever sessions and groups they make. Each also
starts with a mark in its environment, ``LOCALCLOUD_MACHINE``, by which it is found if somebody has
killed the first one. Nothing here trusts a process id for longer than it takes to open a file
descriptor of it (pidfd_open(2)), so a number that is used again hits nobody else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "LOCALCLOUD_MACHINE"

_PROC = Path("/proc")
_ENDED = frozenset("ZX")
_STILL = frozenset("ZXTt")
_POLL_SECONDS = 0.005
_STOP_SECONDS = 0.5  # for a process that cannot stop yet; it does nothing else either
_FREEZE_SECONDS = 5.0  # so that nothing waits for ever for what cannot be stopped
_KILL_SECONDS = 10.0  # after which the first process is killed, whatever is below it
_KILLED_SECONDS = 1.0
_CLEAN_SCANS = 2  # a scan is not one moment: a second one sees what the first one missed


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process, as ``/proc/PID/stat`` shows it.

    Attributes:
        pid: its number.
        parent: its parent's number.
        group: its process group.
        session: its session.
        state: one letter, for example ``T`` if it is stopped (source: proc(5)).
        started: when it started, in ticks since the boot; with its number it is unique.
        depth: how many of its ancestors belong to the machine, too.
    """

    pid: int
    parent: int
    group: int
    session: int
    state: str
    started: int
    depth: int = 0

    @property
    def key(self) -> tuple[int, int]:
        """What no other process has, not even a later one with the same number."""
        return self.pid, self.started


def can_hold_machines() -> bool:
    """Return whether this system has what machines need: Linux with procfs and pidfds."""
    if sys.platform != "linux" or not (_PROC / "self" / "stat").exists():
        return False
    try:
        with _opened(os.getpid()):
            return True
    except OSError:
        return False


def all_processes() -> dict[int, Process]:
    """Return every process of this system, by its number."""
    found: dict[int, Process] = {}
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal() and (process := _read(int(entry.name))):
            found[process.pid] = process
    return found


def members(mark: str) -> list[Process]:
    """Return the processes of this mark and of marks below it, and all below them; parents first.

    This process is not among them, and neither are those that have ended.
    """
    return [each for each in _members_and_ended(mark) if each.state not in _ENDED]


def _members_and_ended(mark: str) -> list[Process]:
    everything = all_processes()
    children: dict[int, list[Process]] = {}
    for process in everything.values():
        children.setdefault(process.parent, []).append(process)
    level = [each for each in everything.values() if _is_marked(each.pid, mark)]
    known = {each.pid for each in level}
    level = [each for each in level if each.parent not in known]
    found: dict[int, Process] = {}
    depth = 0
    while level:
        for each in level:
            found[each.pid] = Process(**{**vars(each), "depth": depth})
        level = [child for each in level for child in children.get(each.pid, ())]
        depth += 1
    others = (each for each in found.values() if each.pid != os.getpid())
    return sorted(others, key=lambda each: each.depth)


def freeze(mark: str) -> list[Process]:
    """Stop all processes of a machine, until none is new.

    A parent stands still before its child is stopped: a shell would take that for Ctrl-Z. A whole
    process group is stopped by one call, which no member escapes by a fork (source: the kernel's
    copy_process, which gives up if a signal is pending). So a loop of forks ends here, too, even if
    each of its processes is gone before it can be looked at: as its foster parent, the first
    process, stands still, it remains as a zombie, which tells the group.

    Returns:
        What has to go on again, parents first. What stood still before is not among it.
    """
    frozen: dict[tuple[int, int], Process] = {}
    seen: set[tuple[int, int]] = set()
    stopped_groups: set[int] = set()
    clean = 0
    deadline = time.monotonic() + _FREEZE_SECONDS
    while clean < _CLEAN_SCANS and time.monotonic() < deadline:
        new = [each for each in _members_and_ended(mark) if each.key not in seen]
        clean = 0 if new else clean + 1
        seen |= {each.key for each in new}
        # Whoever is found stopped, in a group that was stopped here, was born into that.
        ours = [each for each in new if each.state not in "Tt" or each.group in stopped_groups]
        frozen |= {each.key: each for each in ours if each.state not in _ENDED}
        for depth in sorted({each.depth for each in ours}):
            level = [each for each in ours if each.depth == depth]
            groups = {each.group for each in level}
            _stop_groups(groups)
            stopped_groups |= groups
            _wait_until_still(level)
    return sorted(frozen.values(), key=lambda each: each.depth)


def thaw(frozen: Iterable[Process]) -> None:
    """Let processes go on, children first: a parent never finds a child that is stopped."""
    for process in reversed(list(frozen)):
        _signal(process, signal.SIGCONT)


def end(mark: str, *, grace_seconds: float) -> None:
    """End all processes of a machine, and wait for it.

    First they are asked, by SIGTERM, and after half of the grace by SIGHUP, since shells heed only
    that. The first process lives on, so that nothing gets away from below it. What is left is
    frozen and killed, children first, then the first process. A machine that is frozen is not
    asked: pass 0.
    """
    if grace_seconds > 0:
        for number in (signal.SIGTERM, signal.SIGHUP):
            for process in _below_the_first(members(mark)):
                _signal(process, number)
            _wait_until(lambda: not _below_the_first(members(mark)), grace_seconds / 2)
    deadline = time.monotonic() + _KILL_SECONDS
    while left := members(mark):
        is_late = time.monotonic() > deadline
        if not is_late:
            freeze(mark)
            left = members(mark)
        below = _below_the_first(left)
        _kill(below if below and not is_late else left)
        if is_late:
            return


def _kill(processes: list[Process]) -> None:
    """Kill processes with their groups, children first, and wait for it for a moment."""
    for process in reversed(processes):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.group, signal.SIGKILL)
        _signal(process, signal.SIGKILL)
    _wait_until(lambda: not _running(processes), _KILLED_SECONDS)


def hang_up(session: int, *, grace_seconds: float) -> None:
    """End a session as a terminal does that is gone: SIGHUP, and after a while SIGKILL.

    What ignores the hang-up (nohup), or has left the session (setsid, tmux), runs on. It waits, so
    it belongs in a thread.
    """
    for number in (signal.SIGHUP, signal.SIGCONT):
        for process in _would_hang_up(session):
            _signal(process, number)
    _wait_until(lambda: not _would_hang_up(session), grace_seconds)
    for process in _would_hang_up(session):
        _signal(process, signal.SIGKILL)


def _would_hang_up(session: int) -> list[Process]:
    return [
        each
        for each in all_processes().values()
        if each.session == session and each.state not in _ENDED and not _ignores_hang_up(each.pid)
    ]


def _ignores_hang_up(pid: int) -> bool:
    try:
        status = (_PROC / str(pid) / "status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    ignored = next(line for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) & 1 << (signal.SIGHUP - 1))


def _below_the_first(processes: Iterable[Process]) -> list[Process]:
    return [each for each in processes if each.depth > 0]


def _read(pid: int) -> Process | None:
    """Return a process, or None if there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of the program, in brackets, may have spaces and brackets itself.
    state, parent, group, session, *more = text.rpartition(")")[2].split()
    return Process(
        pid=pid,
        parent=int(parent),
        group=int(group),
        session=int(session),
        state=state,
        started=int(more[15]),
    )


def _is_marked(pid: int, mark: str) -> bool:
    """Return whether a process began with this mark or one below it, as paths are below others.

    No if its environment cannot be read. The mark of the first machine is not that of the tenth.
    """
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    found = b"\0%s\0" % environment
    wanted = f"\0{MARK}={mark.rstrip('/')}".encode()
    return wanted + b"\0" in found or wanted + b"/" in found


def _stop_groups(groups: Collection[int]) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGSTOP)


def _signal(process: Process, number: signal.Signals) -> None:
    """Send a signal, unless the process has ended; one with the same number gets nothing."""
    with contextlib.suppress(OSError), _opened(process.pid) as descriptor:
        present = _read(process.pid)
        if present and present.key == process.key:
            signal.pidfd_send_signal(descriptor, number)


@contextlib.contextmanager
def _opened(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _running(processes: Iterable[Process]) -> list[Process]:
    return [
        each
        for each in processes
        if (present := _read(each.pid)) and present.key == each.key and present.state not in _ENDED
    ]


def _wait_until_still(processes: Collection[Process]) -> None:
    """Wait until processes stand still.

    On a busy machine one may wait for its turn to stop, and until then it is still in its last
    system call. For one that the system does not let stop now (``D``), it is not waited long.
    """

    def are_in(states: Collection[str]) -> bool:
        return all(
            present is None or present.key != each.key or present.state in states
            for each in processes
            for present in [_read(each.pid)]
        )

    _wait_until(lambda: are_in(_STILL), _STOP_SECONDS)
    _wait_until(lambda: are_in(_STILL | {"D"}), _FREEZE_SECONDS)


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
