"""Runs OpenSSH in the foreground, and says what a lost connection was."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from workspace_cli.errors import CommandError
from workspace_cli.ssh.keys import find_program
from workspace_cli.ssh.os_login import forget_registration
from workspace_cli.ssh.way import Way

if TYPE_CHECKING:
    from workspace_cli.app import App

__all__ = ("exit_code", "explain", "find_editor", "find_program", "handled", "run")

CONNECTION_FAILED = 255  # OpenSSH's own, https://man.openbsd.org/ssh#EXIT_STATUS


def run(arguments: Sequence[str], *, reads: bool = True) -> int:
    """Run a program on this terminal, and return its exit code, or 128 and its signal's number.

    Ctrl-C reaches the program by itself; this process waits for what it makes of it. SIGTERM and
    SIGHUP are passed on.

    Args:
        arguments: the program and its arguments.
        reads: whether it gets this process's standard input.
    """
    running: list[subprocess.Popen[bytes]] = []
    heard: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        heard.append(number)
        if number != signal.SIGINT:
            for each in running:
                each.send_signal(number)

    with handled(pass_on, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        stdin = None if reads else subprocess.DEVNULL
        process = subprocess.Popen(arguments, stdin=stdin)  # noqa: S603  # no shell; built by us
        running.append(process)
        code = exit_code(process.wait())
    # OpenSSH's exit code is the same for a signal and for a connection that has failed.
    return 128 + heard[0] if heard and code == CONNECTION_FAILED else code


def find_editor(name: str, called: str) -> str:
    """Return the path of an editor's program.

    Raises:
        CommandError: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise CommandError(
            f"{called}'s program {name} is not on this machine",
            hint=f"in {called}, \"Shell Command: Install '{name}' command in PATH\" installs it",
        )
    return found


def exit_code(code: int) -> int:
    """Return the exit code of a process as a shell has it: 128 and the signal that ended it."""
    return 128 - code if code < 0 else code


def explain(app: App, way: Way, code: int) -> None:
    """If a connection failed, say what has become of the workspace, and forget what may be wrong.

    The key may have been removed from the person's profile: the next connection registers it again.
    """
    if code != CONNECTION_FAILED:
        return
    forget_registration(way.files.folder)
    with contextlib.suppress(CommandError):
        workspace = app.find(way.workspace.id)
        if workspace.status == "READY" and workspace.is_settled:
            return
        from workspace_cli import words  # noqa: PLC0415  # only here

        because = f", because of {workspace.stopped_because}" if workspace.stopped_because else ""
        app.console.note(f"workspace: {workspace.name} is now {words.status(workspace)}{because}")


@contextlib.contextmanager
def handled(handler: object, *numbers: signal.Signals) -> Iterator[None]:
    """Handle signals so as long as the context lasts; a program that is started has the default.

    What is ignored already, as ``nohup`` has it, stays so.
    """
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
