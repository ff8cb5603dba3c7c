"""Measures what a local cloud costs: its start, and its memory after all that the demo does.

The memory is the sum of the proportional sizes of all its processes, so that what they share counts
once.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from localcloud.command_line import demo
from localcloud.running_cloud import RunningCloud, start_cloud

# 60 % of what it was when Java served Firestore and Pub/Sub, and every function was started.
AIM_MIB = 1227
AIM_READY_SECONDS = 5.0
_PSS = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)


def measure() -> dict[str, Any]:
    """Run the demo's steps on a cloud of its own.

    Returns:
        ``ready_seconds``; and ``memory``: processes and MiB by kind of process and in all, nothing
        on systems without /proc.
    """
    with start_cloud(demo.SETTINGS) as cloud:
        with contextlib.redirect_stdout(io.StringIO()):
            demo.use(cloud, demo.Steps())
        return {"ready_seconds": cloud.state["ready_seconds"], "memory": _memory(cloud)}


def _memory(cloud: RunningCloud) -> dict[str, dict[str, float]]:
    if sys.platform != "linux":
        return {}
    state = cloud.state
    named = {**state["functions"], **state["processes"]}
    kind_of = {entry["pid"]: name for name, entry in named.items()}
    kind_of |= {state["pid"]: "the cloud itself", state["reaper_pid"]: "the reaper"}
    sizes: dict[str, list[float]] = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        # Each of them leads a group of its own.
        with contextlib.suppress(OSError):
            if kind := kind_of.get(os.getpgid(int(folder.name))):
                [kib] = _PSS.findall((folder / "smaps_rollup").read_text())
                sizes[kind].append(int(kib) / 1024)
    rows = {kind: _row(of_kind) for kind, of_kind in sorted(sizes.items(), key=_total)}
    return {**rows, "in all": _row([size for of_kind in sizes.values() for size in of_kind])}


def _total(item: tuple[str, list[float]]) -> float:
    return -sum(item[1])


def _row(sizes: list[float]) -> dict[str, float]:
    return {"processes": len(sizes), "MiB": round(sum(sizes), 1)}
