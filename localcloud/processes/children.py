"""Child processes of the local cloud: each in its own session, known to the reaper, with a log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from localcloud.processes.reaper import Reaper, command_of_child

_LOG_TAIL_BYTES = 2000
_POLL_SECONDS = 0.05
_PORTS = range(20000, 32000)


class LocalCloudError(Exception):
    """A part of the local cloud does not start, or has failed; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run.

    Attributes:
        name: what people call it.
        command: the command line.
        environment: all of its environment variables.
        folder: its working folder.
        log: the file to which its output is appended.
        descriptors: the file descriptors that it gets under the same numbers, besides the first
            three.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    descriptors: Sequence[int] = ()


class Child:
    """A running program. It ends with the cloud, if not before."""

    def __init__(
        self, program: Program, process: asyncio.subprocess.Process, reaper: Reaper
    ) -> None:
        self.program = program
        self.pid = process.pid
        self._process = process
        self._reaper = reaper

    @classmethod
    async def start(cls, program: Program, reaper: Reaper) -> Self:
        """Run a program.

        Raises:
            OSError: it cannot be run.
        """
        with program.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command_of_child(program.command),
                stdin=reaper.pipe,
                stdout=log,
                stderr=log,
                env=program.environment,
                cwd=program.folder,
                pass_fds=program.descriptors,
                start_new_session=True,
            )
        reaper.started(process.pid)
        return cls(program, process, reaper)

    async def wait(self) -> int:
        """Wait until the program has ended, and kill the rest of its process group.

        Returns:
            Its exit code, below zero for a signal.
        """
        code = await self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._reaper.ended(self.pid)
        return code

    async def wait_until_ready(
        self, is_ready: Callable[[], Awaitable[bool]], seconds: float
    ) -> None:
        """Wait until the program answers.

        Raises:
            LocalCloudError: it has ended, or does not answer in time; with the end of its log.
        """
        ended = asyncio.ensure_future(self._process.wait())
        try:
            async with asyncio.timeout(seconds):
                while not await is_ready():
                    await asyncio.wait([ended], timeout=_POLL_SECONDS)
                    if ended.done():
                        raise LocalCloudError(
                            f"{self.program.name} ended with {ended.result()}:\n{self._log_tail()}"
                        )
        except TimeoutError:
            raise LocalCloudError(
                f"{self.program.name} does not answer:\n{self._log_tail()}"
            ) from None
        finally:
            ended.cancel()

    def _log_tail(self) -> str:
        return self.program.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()


def free_ports(count: int) -> list[int]:
    """Return free TCP ports of the loopback address that no other caller on this machine gets.

    They are below the ports that a system gives to connections, so they stay free until they are
    used, and while a child is started again. To mark a port as taken, this process holds the UDP
    port of the same number, which nobody else needs, until it ends.

    Raises:
        LocalCloudError: there are not enough.
    """
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, socket.socket(type=socket.SOCK_DGRAM) as hold:
            try:
                hold.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            hold.detach()
        found.append(port)
        if len(found) == count:
            return found
    raise LocalCloudError("There are no free ports.")
