"""Measures the memory of each function with all threads busy, beside its limit in the catalogue.

The figure is what an instance would use alone on a machine: of a function's processes all memory of
the largest one, and of the others the memory that they do not share. Proportional sizes would be
too small, because the other functions on this machine share libraries with it.
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

WORKSPACES = 10  # their operations keep the workers busy
ROUNDS = 10  # in each of which every thread of an instance serves one request
_BODIES = {
    "create_workspace": {"name": "more"},
    "report_workspace": {"event": "ready", "generation": 1},
}


def measure(cloud: RunningCloud) -> dict[str, dict[str, float]]:
    """Return MB and the used part of the limit, by function; nothing on systems without /proc."""
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
        megabytes = _megabytes(cloud.function_pid(function.name))
        figures[function.name] = {
            "threads": function.concurrency,
            "megabytes": round(megabytes, 1),
            "of_limit": round(megabytes / function.memory_mib, 2),
        }
    return figures


def _load(cloud: RunningCloud, function: Function, token: str, workspaces: list[str]) -> None:
    """Call every route of a function, as often at once as it has threads; any answer will do."""
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
    """Return the MB that the processes of a group would use alone on a machine."""
    sizes = list(_sizes(group))
    whole, own = max(sizes)
    return (whole + sum(own for _, own in sizes) - own) / 1024


def _sizes(group: int) -> Iterator[tuple[int, int]]:
    """Yield the resident kB of each process of a group, and how many of them it does not share."""
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        try:
            if os.getpgid(pid) != group:
                continue
            sizes = dict(
                re.findall(
                    r"^(\w+):\s+(\d+) kB$", (folder / "smaps_rollup").read_text(), re.MULTILINE
                )
            )
        except (OSError, ProcessLookupError):
            continue  # it has ended
        yield int(sizes["Rss"]), int(sizes["Private_Clean"]) + int(sizes["Private_Dirty"])
