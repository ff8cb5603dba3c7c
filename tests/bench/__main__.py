"""``nox -s bench``: measures everything, prints tables and writes ``bench.json``."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from localcloud.catalogue import ROOT
from localcloud.running_cloud import start_cloud
from localcloud.settings import LocalSettings
from tests.bench import (
    cloud_memory,
    cold_start,
    command,
    comparison,
    identity,
    imports,
    memory,
    open_tab,
    readiness,
    reconciler,
    request_cost,
    requests_made,
    secrecy,
    sweeps,
    tasks,
)
from tests.bench.instant_services import WORKSPACES
from tests.bench.processes import bench

TIMES = "fast"
LIMITS = (
    "HUB_WORKSPACES_PER_OWNER",
    "HUB_RUNNING_PER_OWNER",
    "HUB_CHANGES_PER_MINUTE",
    "HUB_REQUESTS_PER_MINUTE",
)


def main() -> None:
    """Measure everything, and print and write the figures."""
    figures: dict[str, Any] = {
        "imports": imports.measure(),
        "command": command.measure(),
        "tasks": tasks.measure(),
        "reconciler": reconciler.measure(),
        "cloud": cloud_memory.measure(),
    }
    settings = LocalSettings(
        times=TIMES, schedule_seconds=0, warm=True, overrides=dict.fromkeys(LIMITS, "1000000")
    )
    with bench() as beside:
        figures["request_cost"] = request_cost.measure(beside)
        figures["cold_start"] = cold_start.measure(beside)
        figures["open_tab"] = open_tab.measure(beside)
    with start_cloud(settings) as cloud:
        figures["identity"] = identity.measure(cloud)
        figures["requests"] = requests_made.measure(cloud)
        figures["secrecy"] = secrecy.measure(cloud)
        figures["readiness"] = readiness.measure(cloud, TIMES)
        figures["memory"] = memory.measure(cloud)
    with start_cloud(
        replace(settings, overrides={**settings.overrides, **sweeps.SETTINGS})
    ) as cloud:
        figures["sweeps"] = sweeps.measure(cloud)
    Path(ROOT, "bench.json").write_text(json.dumps(figures, indent=2) + "\n")
    _show(
        "Imports, beside Flask + functions-framework + the Firestore client (aim: 1.2)",
        figures["imports"],
    )
    _show(
        f"Processor time of the command (aim: under {command.AIM_SECONDS:g} s)", figures["command"]
    )
    _show(
        f"Processor time of a request, beside a bare function with the same calls, at"
        f" {request_cost.CLIENTS} clients (aim: list 0.7, create 0.9)",
        figures["request_cost"],
    )
    _show(
        "From a function's start to its first answer, beside a list's (aim: 2), and its memory",
        figures["cold_start"],
    )
    _show(
        f"A local cloud after the demo (aim: {cloud_memory.AIM_MIB:,} MiB in all; ready after "
        f"{figures['cloud']['ready_seconds']} s, aim: {cloud_memory.AIM_READY_SECONDS:g} s)",
        figures["cloud"]["memory"],
    )
    _show(
        f"From POST to READY, beyond Compute and boot, of {readiness.WORKSPACES}"
        " (aim: median under 0.1 s, worst under 0.5 s)",
        {"create": figures["readiness"]},
    )
    _show(
        "Tasks of an operation (aim: at most 6), and operations a minute that the queue's rate and"
        " Compute's quota of reads allow",
        figures["tasks"],
    )
    _show("A warm check (aim: well under a millisecond)", {"a person's token": figures["identity"]})
    _show("Somebody else's workspace, beside an unknown one", figures["secrecy"])
    _show("Memory with all threads busy (aim: 0.8 of the limit)", figures["memory"])
    _show("Firestore calls of a request", figures["requests"])
    _show("What an open page repeats, in full and as a 304", figures["open_tab"]["requests"])
    _show(
        f"An open page of {WORKSPACES} workspaces that nothing happens to",
        figures["open_tab"]["hours"],
    )
    _show(
        "Firestore documents of a sweep (aim: only those that are due, in a fleet of any size)",
        figures["sweeps"]["reads"],
    )
    _show(
        f"`reconcile_fleet` at {reconciler.SIZE:,} machines, in virtual time (aim: under 780 s a"
        " run), and its memory for Compute's lists",
        figures["reconciler"],
    )
    _show(
        f"{sweeps.CREATES} creates among {sweeps.SIZE:,} workspaces, beside both sweeps "
        f"with {sweeps.DUE} due each (aim: no worse than the floor)",
        figures["sweeps"]["creates"],
    )
    _print("\nBeside the last result of this machine")
    for line in comparison.compare_and_keep(figures, comparison.kept_file()):
        _print(f"  {line}")


def _show(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    _print(f"\n{title}\n  {'':24}" + "".join(f"{column:>26}" for column in columns))
    for name, row in rows.items():
        _print(f"  {name:24}" + "".join(f"{row.get(column, ''):>26}" for column in columns))


def _print(text: str) -> None:
    """Print past the functions that run in this process: they turn its output into log lines."""
    print(text, file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
