"""Programs in a machine: they are started here, and whatever has ended is reaped here.

The process is a subreaper, so programs that it has not started become its children, too. asyncio's
own way to start programs waits for those only that it has started, and would leave the others as
zombies. Not for several threads at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36  # source: linux/prctl.h
_READ_BYTES = 64 * 1024


def become_subreaper() -> None:
    """Make this process the parent of all its descendants that lose theirs.

    Raises:
        OSError: the system refuses.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Programs:
    """The programs that this process has started, and its foster children."""

    def __init__(self) -> None:
        self._ends: dict[int, asyncio.Future[int]] = {}
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], files: Sequence[Any]
    ) -> tuple[int, asyncio.Future[int]]:
        """Start a program in a new session.

        Args:
            command: the path of the program, and its arguments.
            environment: all of its environment variables.
            files: what to do with its first file descriptors, as ``os.posix_spawn`` takes it. If a
                terminal is opened, it becomes the session's.

        Returns:
            Its process id, and its exit code when it ends: 128 and the signal's number if a signal
            has ended it, as a shell says it.

        Raises:
            OSError: it cannot be started.
        """
        pid = os.posix_spawn(
            command[0],
            list(command),
            environment,
            file_actions=files,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGTERM, signal.SIGHUP, signal.SIGINT),
        )
        self._ends[pid] = end = asyncio.get_running_loop().create_future()
        return pid, end

    def _reap(self) -> None:
        """Take notice of every child that has ended, known or not."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if end := self._ends.pop(pid, None):
                end.set_result(code if code >= 0 else 128 - code)


class Stream:
    """One end of a pipe or terminal, without blocking. The file descriptor is its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        self.is_waiting = False
        self._is_closed = False

    async def read(self) -> bytes:
        """Return what is there, at least one byte; nothing at the end."""
        while True:
            try:
                return os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                self.is_waiting = True
                await self._until_ready("add_reader", "remove_reader")
                self.is_waiting = False
            except OSError:  # a terminal that no process has open any more (EIO)
                return b""

    async def write(self, data: bytes) -> bool:
        """Write everything; return False if nobody can read it any more."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                await self._until_ready("add_writer", "remove_writer")
            except OSError:
                return False
        return True

    def close(self) -> None:
        """Close it, once. Nobody may be waiting for it."""
        if not self._is_closed:
            self._is_closed = True
            os.close(self._descriptor)

    async def _until_ready(self, add: str, remove: str) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        getattr(loop, add)(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            with contextlib.suppress(OSError, ValueError):
                getattr(loop, remove)(self._descriptor)
