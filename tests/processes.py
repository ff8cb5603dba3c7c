"""Helpers that look at processes and wait for conditions."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from localcloud.catalogue import ROOT
from localcloud.processes.functions import console_script


def printed_by(program: str) -> str:
    """Return what a Python process of its own prints; it fails if the process does."""
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


@contextlib.contextmanager
def running_function(
    environment: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a function in a process group of its own, which is killed at the end.

    Args:
        environment: all of its variables, with its port.
        folder: its working folder; its output is in ``log`` there.
    """
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [console_script()],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait until a condition holds, and say whether it did so in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_gone(pid: int) -> bool:
    """Say whether a process has ended; a zombie has, too."""
    shown = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return not shown.strip() or shown.startswith("Z")


def descendants(pid: int) -> set[int]:
    """Return the ids of all descendants of a process."""
    rows = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    parents = [tuple(map(int, row.split())) for row in rows.splitlines()]
    found: set[int] = set()
    level = {pid}
    while level:
        level = {child for child, parent in parents if parent in level}
        found |= level
    return found
