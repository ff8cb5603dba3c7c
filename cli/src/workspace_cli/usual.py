"""How long things usually take, as this person has seen them take.

``usual.json`` in the state folder has the last durations of each phase. It is a convenience: if it
cannot be read or written, nothing is said of what is usual.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from workspace_cli.errors import CommandError
from workspace_cli.files import locked, read_object, replace_object

WHOLE = "whole"  # stands for a phase: all of the operation
_KEPT = 9  # durations of a phase
_MOST_PHASES = 200
_LONGEST_SECONDS = 3600.0
_LOCK_SECONDS = 2.0


class Usual:
    """The usual durations of one kind of operation.

    Args:
        hub: the Hub's name.
        kind: the kind of operation.
        machine_type: on which machine type.
    """

    def __init__(self, hub: str, kind: str, machine_type: str) -> None:
        self._path = platformdirs.user_state_path("workspace-hub") / "usual.json"
        self._prefix = f"{hub}/{kind}/{machine_type}"
        self._durations = _durations(self._path)

    def seconds(self, phase: str) -> float | None:
        """Return the median of what a phase took; None if it has not been seen."""
        known = self._durations.get(f"{self._prefix}/{phase}")
        return statistics.median(known) if known else None

    def keep(self, phases: Mapping[str, float]) -> None:
        """Store what phases took now, in seconds."""
        try:
            with locked(self._path, _LOCK_SECONDS):
                durations = _durations(self._path)
                for phase, seconds in phases.items():
                    key = f"{self._prefix}/{phase}"
                    before = durations.pop(key, [])  # to the end: what is old goes first
                    durations[key] = [*before, round(seconds, 1)][-_KEPT:]
                newest = list(durations.items())[-_MOST_PHASES:]
                # A list, since the order says what is old, and objects are written sorted.
                replace_object(self._path, {"phases": [[key, kept] for key, kept in newest]})
        except CommandError:
            return


def _durations(path: Path) -> dict[str, list[float]]:
    try:
        entries: Any = (read_object(path) or {}).get("phases", [])
        return {
            str(key): [min(max(0.0, float(each)), _LONGEST_SECONDS) for each in durations][-_KEPT:]
            for key, durations in entries
        }
    except (CommandError, TypeError, ValueError):
        return {}
