"""Whether a person waits behind a connection, or an editor that reconnects by itself.

An editor's reconnect must not wake what was just put to sleep. A ProxyCommand's input and output
are OpenSSH's, so what is left to look at is the terminal around it and OpenSSH's own arguments.
"""

from __future__ import annotations

import getopt
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "WORKSPACE_START"
# https://github.com/openssh/openssh-portable/blob/master/ssh.c, the call of getopt
_SSH_OPTIONS = "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"


def is_behind(parent_arguments: Sequence[str] | None = None) -> bool:
    """Return whether a person waits for this connection.

    ``WORKSPACE_START=1`` says that one does, ``0`` that none does. Otherwise one does if messages
    go to a terminal, this process is in its foreground, and OpenSSH was not told to do without a
    terminal (``-T``). An editor that runs OpenSSH in a terminal of its own tells it that.

    Args:
        parent_arguments: the arguments of the parent; None: those of the real one.
    """
    said = os.environ.get(VARIABLE)
    if said in {"0", "1"}:
        return said == "1"
    if not _is_in_foreground():
        return False
    return not _does_without_terminal(
        parent_of_this_process() if parent_arguments is None else parent_arguments
    )


def _is_in_foreground() -> bool:
    try:
        if sys.stderr is None or not sys.stderr.isatty():
            return False
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _does_without_terminal(arguments: Sequence[str]) -> bool:
    if not arguments or Path(arguments[0]).name != "ssh":
        return False
    left = list(arguments[1:])
    while left:
        try:
            options, left = getopt.getopt(left, _SSH_OPTIONS)
        except getopt.GetoptError:  # an option of a newer OpenSSH
            return "-T" in arguments
        if any(name == "-T" for name, _ in options):
            return True
        # Options may stand behind the host too, but not behind the command.
        left = left[1:] if len(left) > 1 and left[1].startswith("-") else []
    return False


def parent_of_this_process() -> list[str]:
    """Return the arguments of the parent process; none if they cannot be had."""
    parent = os.getppid()
    try:
        content = Path(f"/proc/{parent}/cmdline").read_bytes()
        return [os.fsdecode(one) for one in content.split(b"\0")[:-1]]
    except OSError:
        pass
    try:  # macOS has no /proc
        done = subprocess.run(  # noqa: S603  # a number of ours
            ["/bin/ps", "-o", "args=", "-p", str(parent)],
            check=True,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()
