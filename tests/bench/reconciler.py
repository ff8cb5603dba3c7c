"""Measures the hourly reconciler at 40,000 machines: its runs in virtual time, and its memory.

Virtual time has what calls cost elsewhere: 8 ms for a read of the store and 0.2 ms for each record,
0.1 s for a call of Compute and 1 s for a page of its lists. The memory is that of a process that
keeps what Compute listed, through the real adapter. A server beside it makes the pages.
"""

from __future__ import annotations

import itertools
import json
import re
import resource
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from localcloud.catalogue import ROOT, read_catalogue
from shared.domain.ownership import labels_of
from shared.domain.workspace import Owner
from tests.fakes.large_fleet import LIST_PAGE, LargeFleet, Run
from tests.fakes.settings import MACHINE_SETTINGS

SIZE = 40_000
_ZONE = "https://www.googleapis.com/compute/v1/projects/a-project/zones/us-west1-a"
_MADE_AT = "2026-03-02T09:00:00.000-08:00"


def measure() -> dict[str, dict[str, float]]:
    """Return the figures of each run, and the memory."""
    fleet = LargeFleet(SIZE)
    figures = {"in agreement": _figures(fleet.reconcile())}
    fleet.stop(fleet.ready[::20])
    fleet.lose_records(fleet.suspended[::400])
    fleet.lose_labels(fleet.suspended[1::400])
    for workspace in fleet.ready[1::400]:
        fleet.store.put_owner(Owner(workspace.owner_id))
    for number in itertools.count(1):
        run = fleet.reconcile()
        figures[f"1,000 drifted, run {number}"] = _figures(run)
        if not run.report.unfinished:
            break
    limit = read_catalogue()["reconcile_fleet"].memory_mib
    megabytes = _megabytes()
    figures["memory"] = {"megabytes": megabytes, "of_limit": round(megabytes / limit, 2)}
    return figures


def _figures(run: Run) -> dict[str, float]:
    batches = ("list_workspaces_by_id", "list_owners_by_id", "get_many")
    return {
        "seconds": round(run.seconds),
        "batches": sum(run.calls[each] for each in batches),
        "single_reads": run.calls["get"] + run.calls["get_owner"] + run.calls["list_owned"],
        "pages_of_lists": run.calls["list_instances"] + run.calls["list_disks"],
        "looked_at": run.report.looked_at,
        "done": sum(len(ids) for ids in run.report.done.values()),
    }


def _megabytes() -> float:
    """Return the most memory that a process takes which reads the lists."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Lists) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            child = subprocess.run(
                [sys.executable, "-m", __name__, f"127.0.0.1:{server.server_port}"],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            )
        finally:
            server.shutdown()
            thread.join()
    return float(child.stdout)


class _Lists(BaseHTTPRequestHandler):
    """Answers Compute's two aggregated lists, a page at a time, with the fields that are asked."""

    def do_GET(self) -> None:
        """Answer a page: 40,000 machines, or their 80,000 disks."""
        kind = "instances" if "aggregated/instances" in self.path else "disks"
        page = int(found[1]) if (found := re.search(r"pageToken=(\d+)", self.path)) else 0
        make = _instances if kind == "instances" else _disks
        items = list(make(range(page * LIST_PAGE, (page + 1) * LIST_PAGE)))
        last = (page + 1) * LIST_PAGE >= SIZE * (1 if kind == "instances" else 2)
        more = {} if last else {"nextPageToken": str(page + 1)}
        body = json.dumps({"items": {"zones/us-west1-a": {kind: items}}, **more}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""


def _id(number: int) -> str:
    return str(uuid.UUID(int=number * 2**80 + number))


def _labels(number: int) -> dict[str, str]:
    return {**labels_of(_id(number), f"owner-{number // 4}"), "hub": MACHINE_SETTINGS.installation}


def _instances(numbers: range) -> Iterator[dict[str, Any]]:
    for number in numbers:
        name = f"workspace-{_id(number)}"
        yield {
            "id": str(10**18 + number),
            "name": name,
            "zone": _ZONE,
            "status": "SUSPENDED",
            "machineType": f"{_ZONE}/machineTypes/e2-standard-4",
            "labels": _labels(number),
            "networkInterfaces": [{"networkIP": "10.64.0.2"}],
            "disks": [
                {"source": f"{_ZONE}/disks/{name}-1"},
                {"source": f"{_ZONE}/disks/home-{_id(number)}"},
            ],
            "creationTimestamp": _MADE_AT,
            "lastStartTimestamp": _MADE_AT,
            "lastSuspendedTimestamp": _MADE_AT,
        }


def _disks(numbers: range) -> Iterator[dict[str, Any]]:
    for number in numbers:
        its_id = _id(number // 2)
        machine = f"workspace-{its_id}"
        yield {
            "name": f"home-{its_id}" if number % 2 else f"{machine}-1",
            "zone": _ZONE,
            "labels": _labels(number // 2),
            "users": [f"{_ZONE}/instances/{machine}"],
            "creationTimestamp": _MADE_AT,
        }


def _read_lists(address: str) -> None:
    """Keep what the server lists, and print the most memory that this took, in MB."""
    from shared.adapters.compute_machines import ComputeMachines
    from shared.usecases.fleet import Fleet

    machines = ComputeMachines("a-project", MACHINE_SETTINGS, "https://reports.example", address)
    now = datetime.now(UTC)
    fleet = Fleet.listed_by(machines, lambda: now, now + timedelta(hours=1))
    if fleet.size != 3 * SIZE:
        raise RuntimeError(f"{fleet.size} machines and disks were listed")
    print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1))  # noqa: T201


if __name__ == "__main__":
    _read_lists(sys.argv[1])
