"""Memory of each function under as many requests at once as its instances get, beside the limit that the catalogue gives it.

What counts is what an instance alone would use: of the processes of a function the largest whole,
of the others what they do not share. The other functions on this machine share libraries with it,
so proportional sizes would be too small.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from localcloud.api_client import ApiClient
from localcloud.catalogue import Function, read_catalogue
from localcloud.running_cloud import RunningCloud

WORKSPACES = 10  # each takes the workers through whole operations, all at once
ROUNDS = 10  # of as many requests at once as an instance gets
_BODIES = {
    "create_workspace": {"name": "more"},
    "report_workspace": {"event": "ready", "generation": 1},
}


def measure(cloud: RunningCloud) -> dict[str, dict[str, float]]:
    """Return MB and the part of the limit that is used, by function; nothing where processes cannot be looked into."""
    if sys.platform != "linux":
        return {}
    token = cloud.token("memory@example.com")
    person = ApiClient(cloud.address, token)
    made = [person.create(f"w{number}")["id"] for number in range(WORKSPACES)]
    for workspace_id in made:
        person.wait_until_settled(workspace_id, "READY")
    figures: dict[str, dict[str, float]] = {}
    for function in read_catalogue().functions:
        _load(cloud, function, token, made)
        megabytes = _megabytes(cloud.state["functions"][function.name]["pid"])
        figures[function.name] = {
            "threads": function.concurrency,
            "megabytes": round(megabytes, 1),
            "of_limit": round(megabytes / function.memory_mib, 2),
        }
    return figures


def _load(cloud: RunningCloud, function: Function, token: str, workspaces: list[str]) -> None:
    """Call every route of a function, as often at once as one instance is called; what it answers does not matter."""
    url, ids = cloud.state["functions"][function.name]["direct_url"], itertools.cycle(workspaces)
    body = _BODIES.get(function.name) or {
        "workspace_id": str(uuid.uuid4()),
        "operation_id": str(uuid.uuid4()),
        "step": 1,
    }

    def call(route: tuple[str, str]) -> None:
        method, path = route
        headers = {"Authorization": f"Bearer {token}"}
        requests.request(method, f"{url}{path}", headers=headers, json=body, timeout=120)

    routes = [(route.method, route.path) for route in function.routes]
    wanted = [
        (method, re.sub(r"\{.*?\}", lambda _: next(ids), path))
        for method, path in routes
        * (ROUNDS * function.concurrency if function.concurrency > 1 else 1)
    ]
    with ThreadPoolExecutor(function.concurrency) as pool:
        list(pool.map(call, wanted))


def _megabytes(group: int) -> float:
    """Return what the processes of a group would use if they were alone on a machine."""
    sizes = list(_sizes(group))
    whole, own = max(sizes)
    return (whole + sum(own for _, own in sizes) - own) / 1024


def _sizes(group: int) -> Iterator[tuple[int, int]]:
    """Yield the kB of each process of a group that are in memory, and of these the ones that no other process has."""
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        try:
            if os.getpgid(pid) != group:
                continue
            said = dict(
                re.findall(
                    r"^(\w+):\s+(\d+) kB$", (folder / "smaps_rollup").read_text(), re.MULTILINE
                )
            )
        except (OSError, ProcessLookupError):
            continue  # it has ended
        yield int(said["Rss"]), int(said["Private_Clean"]) + int(said["Private_Dirty"])
