"""One shell or command that a person runs in a machine, with or without a terminal.

It behaves as on a real machine, see ``shared/boot/shell.sh``: a command ends with its connection,
except for what has left its session or ignores the hang-up; and what a command leaves behind does
not keep its connection open.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import struct
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncssh

from localcloud.machines.programs import Programs, Stream
from localcloud.processes import process_tree

_HANG_UP_SECONDS = 10.0
_QUIET_SECONDS = 2.0  # that the output may stay open after the command has ended
_INPUT_BYTES = 64 * 1024
_ACCEPTED = ("LANG", "LANGUAGE", "COLORTERM")


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files of a program: what it gets, and the other ends.

    Attributes:
        actions: for ``os.posix_spawn``.
        inner: the program's own ends, to be closed here once it has them.
        stdin: takes its input.
        outputs: have its output, and its errors if they are apart.
        terminal: the file descriptor of its terminal's other end, None without one.
    """

    actions: list[Any]
    inner: list[int]
    stdin: Stream
    outputs: list[Stream]
    terminal: int | None = None

    @classmethod
    def of_pipes(cls) -> Files:
        """Make pipes for input, output and errors."""
        pipes = [os.pipe() for _ in range(3)]
        inner = [pipes[0][0], pipes[1][1], pipes[2][1]]
        return cls(
            actions=[(os.POSIX_SPAWN_DUP2, each, number) for number, each in enumerate(inner)],
            inner=inner,
            stdin=Stream(pipes[0][1]),
            outputs=[Stream(pipes[1][0]), Stream(pipes[2][0])],
        )

    @classmethod
    def of_terminal(cls, size: tuple[int, int, int, int]) -> Files:
        """Make a terminal of this size."""
        outer, inner = os.openpty()
        resize(outer, size)
        path = os.ttyname(inner)
        return cls(
            # Opened by the leader of a session that has none, it is the session's terminal.
            actions=[
                (os.POSIX_SPAWN_OPEN, 0, path, os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, 0, 2),
            ],
            inner=[inner],
            stdin=Stream(os.dup(outer)),
            outputs=[Stream(os.dup(outer))],
            terminal=outer,
        )

    def close_inner(self) -> None:
        """Close what only the program needs."""
        for descriptor in self.inner:
            os.close(descriptor)

    def close(self) -> None:
        """Close everything else."""
        for stream in (self.stdin, *self.outputs):
            stream.close()
        if self.terminal is not None:
            os.close(self.terminal)


class Session:
    """Runs what a person has asked for.

    Args:
        programs: starts and reaps it.
        environment: the variables that every program of the machine has.
    """

    def __init__(self, programs: Programs, environment: Mapping[str, str]) -> None:
        self._programs = programs
        self._environment = environment

    async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run a shell or a command until it has ended, or its connection has."""
        size = process.term_size
        files = Files.of_pipes() if process.term_type is None else Files.of_terminal(size)
        try:
            pid, ended = self._programs.start(
                _command(process.command), self._variables(process, files), files.actions
            )
        except OSError as error:
            process.stderr.write(f"{error.strerror}\n".encode())
            process.exit(127)
            files.close()
            return
        finally:
            files.close_inner()
        writers = [process.stdout, process.stderr][: len(files.outputs)]
        pumps = [
            asyncio.create_task(_pump(stream, writer))
            for stream, writer in zip(files.outputs, writers, strict=True)
        ]
        feeding = asyncio.create_task(_feed(process, files, pid))
        closing = asyncio.create_task(process.channel.wait_closed())
        try:
            either: list[asyncio.Future[Any]] = [ended, closing]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                await _finish_output(pumps, files.outputs, closing)
                process.exit(ended.result())
        finally:
            for task in (feeding, closing, *pumps):
                task.cancel()
            await asyncio.gather(feeding, closing, *pumps, return_exceptions=True)
            files.close()
            await asyncio.to_thread(process_tree.hang_up, pid, grace_seconds=_HANG_UP_SECONDS)

    def _variables(self, process: asyncssh.SSHServerProcess[bytes], files: Files) -> dict[str, str]:
        host, port = process.get_extra_info("peername")[:2]
        own_host, own_port = process.get_extra_info("sockname")[:2]
        variables = {
            **self._environment,
            **{
                name: value
                for name, value in process.env.items()
                if name in _ACCEPTED or name.startswith("LC_")
            },
            "SSH_CLIENT": f"{host} {port} {own_port}",
            "SSH_CONNECTION": f"{host} {port} {own_host} {own_port}",
        }
        if process.term_type is not None:
            variables["TERM"] = process.term_type
            variables["SSH_TTY"] = os.ttyname(files.inner[0])
        if agent := process.channel.get_agent_path():
            variables["SSH_AUTH_SOCK"] = agent
        return variables


def resize(terminal: int, size: tuple[int, int, int, int]) -> None:
    """Give a terminal a size: columns, rows, and the same in pixels."""
    columns, rows, width, height = size
    with contextlib.suppress(struct.error, OSError):
        packed = struct.pack("HHHH", rows, columns, width, height)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, packed)


def _command(command: str | None) -> list[str]:
    if command is not None:
        return ["/bin/sh", "-c", command]
    bash = shutil.which("bash")
    return [bash, "--login"] if bash else ["/bin/sh", "-l"]


async def _pump(stream: Stream, writer: asyncssh.SSHWriter[bytes]) -> None:
    """Send what a program prints to the person, as fast as they take it."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await stream.read():
            writer.write(data)
            await writer.drain()


async def _feed(process: asyncssh.SSHServerProcess[bytes], files: Files, pid: int) -> None:
    """Pass on what the person types and sends; go on taking it if nobody reads it any more."""
    is_read = True
    while True:
        try:
            data = await process.stdin.read(_INPUT_BYTES)
        except asyncssh.TerminalSizeChanged as change:
            if files.terminal is not None:
                resize(files.terminal, change.term_size)
            continue
        except asyncssh.SignalReceived as received:
            _pass_on(received.signal, pid)
            continue
        except asyncssh.BreakReceived:
            continue
        except (OSError, asyncssh.Error):
            return
        if not data:
            # With a terminal both directions are one, which stays open, as with OpenSSH's server.
            if files.terminal is None:
                files.stdin.close()
            return
        is_read = is_read and await files.stdin.write(data)


def _pass_on(name: str, pid: int) -> None:
    """Send a signal to the processes of a command, by its name without SIG (RFC 4254, 6.10)."""
    number = getattr(signal, f"SIG{name}", None)
    if isinstance(number, signal.Signals):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)


async def _finish_output(
    pumps: list[asyncio.Task[None]], outputs: list[Stream], closing: asyncio.Task[None]
) -> None:
    """Send what a command that has ended has printed.

    A process that it has left behind may hold its output open. So this ends, too, when nothing has
    come for a while, however long the person's side takes to read what there is.
    """
    while not closing.done() and not all(pump.done() for pump in pumps):
        unfinished = [pump for pump in pumps if not pump.done()]
        done, _ = await asyncio.wait([*unfinished, closing], timeout=_QUIET_SECONDS)
        is_quiet = all(
            stream.is_waiting
            for stream, pump in zip(outputs, pumps, strict=True)
            if not pump.done()
        )
        if not done and is_quiet:
            return
