"""Measures the processor time of the command `workspace` before it has asked a Hub anything."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from localcloud.catalogue import ROOT

AIM_SECONDS = 0.3
_ROUNDS = 7


def measure() -> dict[str, dict[str, float]]:
    """Return the processor time of `--help`, and of a bare Python: the best of some rounds.

    The first round, which also compiles, is not counted.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": f"{ROOT}/cli/src"}
        return {
            name: {"cpu_seconds": round(_best([sys.executable, *arguments], environment), 3)}
            for name, arguments in {
                "floor": ["-c", "pass"],
                "workspace --help": ["-m", "workspace_cli", "--help"],
            }.items()
        }


def _best(command: list[str], environment: dict[str, str]) -> float:
    return min([_once(command, environment) for _ in range(_ROUNDS + 1)][1:])


def _once(command: list[str], environment: dict[str, str]) -> float:
    """Return the processor time of one run, user's and system's, in seconds."""
    quiet: Any = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(command[0], command, environment, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"{command} ended with {status}")
    return usage.ru_utime + usage.ru_stime
