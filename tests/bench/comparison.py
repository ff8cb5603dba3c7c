"""Compares the bench with its last result on this machine, and says what has got worse.

Results are kept outside of the repository, one for each kind of machine and Python.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from localcloud.catalogue import ROOT

FOLDER = ROOT / ".cache" / "bench"
WORSE_BY = 0.2
# Columns of which more is better. Of all others, less is.
_MORE_IS_BETTER = re.compile(r"per_second|per_minute")
_NEITHER = re.compile(r"threads|processes|size|due$|compute_and_boot")
_RATIO = re.compile(r"ratio|of_limit")
# What depends on what else the machine does. A ratio of one run does not.
_TIME = re.compile(r"(_ms|seconds|per_second)$")

Figures = Mapping[str, Any]


def kept_file(machine: str | None = None) -> Path:
    """Return the file with the last result of a kind of machine, by default of this one."""
    name = hashlib.sha256((machine or _machine()).encode()).hexdigest()[:16]
    return FOLDER / f"{name}.json"


def compare_and_keep(now: Figures, path: Path) -> list[str]:
    """Return a line for each figure that is worse than the kept one, and keep the new result."""
    try:
        before = json.loads(path.read_text())
    except FileNotFoundError:
        lines = ["There is no earlier result of this machine to compare with."]
    else:
        lines = list(worse(before, now)) or ["Nothing is worse by more than a fifth."]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(now, indent=2) + "\n")
    return lines


def worse(before: Figures, now: Figures) -> Iterator[str]:
    """Yield a line for each figure that is worse than before by more than a fifth.

    Figures of floors are not compared, and times only in rows without a ratio. What there is only
    once is not compared either.
    """
    known = dict(_comparable(before))
    for path, figure in _comparable(now):
        if path in known and _is_worse(path[-1], known[path], figure):
            yield f"{' / '.join(path)}: {known[path]:g} before, {figure:g} now"


def _is_worse(column: str, before: float, now: float) -> bool:
    if _MORE_IS_BETTER.search(column):
        return now * (1 + WORSE_BY) < before
    return now > before * (1 + WORSE_BY)


def _comparable(figures: Figures, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, float]]:
    has_ratio = any(_RATIO.search(name) for name in figures)
    for name, value in figures.items():
        if isinstance(value, Mapping):
            if "floor" not in name:
                yield from _comparable(value, (*path, name))
        elif not _NEITHER.search(name) and not (has_ratio and _TIME.search(name)):
            yield (*path, name), float(value)


def _machine() -> str:
    """Return what decides how fast the bench is: processors, their number, and Python."""
    model = platform.processor() or platform.machine()
    if (described := Path("/proc/cpuinfo")).exists():
        found = re.search(r"^model name\s*: (.*)$", described.read_text(), re.MULTILINE)
        model = found[1] if found else model
    return f"{model}, {os.cpu_count()}, {platform.python_version()}"
