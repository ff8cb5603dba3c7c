"""What people do with a guest: they connect by SSH, run commands, and wait for what follows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from tests.guests.fleet import Guest

KEY = ("-i", "/root/key", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR")


def let_in(guest: Guest) -> None:
    """Create a user whom sshd accepts, as OS Login does."""
    guest.run("useradd", "--create-home", "--shell", "/bin/bash", "dev")
    guest.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/key")
    guest.run(
        "install",
        "-D",
        "-o",
        "dev",
        "-m",
        "0600",
        "/root/key.pub",
        "/home/dev/.ssh/authorized_keys",
    )


def ssh(guest: Guest, *command: str, said: str | None = None, terminal: bool = False) -> str:
    """Connect by SSH; return the output."""
    options = [
        "-i",
        "/root/key",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "LogLevel=ERROR",
        "-tt" if terminal else "-T",
    ]
    return guest.run("ssh", *options, "dev@127.0.0.1", *command, user_input=said)


def wait_for(seen: Callable[[], bool], what: str, *, seconds: float = 30) -> None:
    """Wait until a condition is true; a command that fails in the guest counts as not yet.

    When sshd reads its configuration again, it closes its port for a moment.
    """
    deadline = time.monotonic() + seconds
    failed = ""
    while True:
        try:
            if seen():
                return
        except RuntimeError as error:
            failed = f" ({error})"
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}{failed}"
        time.sleep(0.2)


@contextlib.contextmanager
def running(guest: Guest, name: str, *command: str) -> Iterator[None]:
    """Run a command in the guest during a ``with`` block."""
    guest.run("systemd-run", "--quiet", "--collect", f"--unit={name}", *command)
    try:
        yield
    finally:
        guest.run("systemctl", "stop", f"{name}.service", check=False)


def titles(guest: Guest, pattern: str) -> list[str]:
    """Return the titles of a guest's processes that match, also those in its container."""
    found = guest.run("pgrep", "--list-full", "--full", pattern, check=False)
    return [line.partition(" ")[2].strip() for line in found.splitlines()]
