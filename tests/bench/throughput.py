"""Measures requests per second and latencies of list and create at 16 clients, beside floors.

A floor is a bare function with the same Firestore calls. Requests go to each function's own
process, without front or gateway, so that only the code is compared.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from localcloud.api_client import ApiClient
from localcloud.catalogue import ROOT, read_catalogue
from localcloud.processes.children import free_ports
from localcloud.processes.functions import console_script
from localcloud.running_cloud import RunningCloud

CLIENTS = 16
REQUESTS = 480  # in a round
ROUNDS = 5

Request = tuple[str, str, dict[str, str], str | None]  # method, path, headers, body


def measure(cloud: RunningCloud) -> dict[str, dict[str, float]]:
    """Return requests/s, p50, p95 (ms) and ratios of ``list`` and ``create`` and their floors."""
    return {**_measure_list(cloud), **_measure_create(cloud)}


def _measure_list(cloud: RunningCloud) -> dict[str, dict[str, float]]:
    token = cloud.token("bench@example.com")
    person = ApiClient(cloud.address, token)
    made = [person.create(f"w{number}") for number in range(5)]
    for workspace in made:
        person.wait_until_settled(workspace["id"], "READY")
    headers = {"Authorization": f"Bearer {token}"}
    floor_path = "/?" + urlencode({"owner_id": made[0]["owner_id"]})
    with _floor(cloud, "list_floor", like="list_workspaces") as floor:
        return _compare(
            "list",
            (
                cloud.state["functions"]["list_workspaces"]["direct_url"],
                lambda: ("GET", "/workspaces", headers, None),
            ),
            (floor, lambda: ("GET", floor_path, {}, None)),
        )


def _measure_create(cloud: RunningCloud) -> dict[str, dict[str, float]]:
    """Compare creates, each by another person, while no worker competes for the processors."""
    people = [
        cloud.token(f"{uuid.uuid4()}@example.com") for _ in range(REQUESTS * ROUNDS + CLIENTS)
    ]
    tokens = itertools.cycle(people)
    body = json.dumps({"name": "api", "metadata": {"repo": "example/api"}})
    content = {"Content-Type": "application/json"}
    cloud.kill_function("provision_workspace", signal.SIGSTOP)
    try:
        like = ApiClient(cloud.address, cloud.token("like@example.com")).create("api")["id"]
        with _floor(cloud, "create_floor", like="create_workspace") as floor:
            return _compare(
                "create",
                (
                    cloud.state["functions"]["create_workspace"]["direct_url"],
                    lambda: (
                        "POST",
                        "/workspaces",
                        {**content, "Authorization": f"Bearer {next(tokens)}"},
                        body,
                    ),
                ),
                (floor, lambda: ("POST", f"/?like={like}", content, body)),
            )
    finally:
        cloud.kill_function("provision_workspace", signal.SIGKILL)


@contextlib.contextmanager
def _floor(cloud: RunningCloud, name: str, *, like: str) -> Iterator[str]:
    """Run a floor function as the local cloud runs the Hub's, with as many threads as ``like``."""
    [port] = free_ports(1)
    environment = {
        "PATH": os.environ["PATH"],
        "FUNCTION_TARGET": name,
        "FUNCTION_SOURCE": str(Path(__file__).parent / "floor" / f"{name}.py"),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "THREADS": read_catalogue()[like].environment(str(ROOT))["THREADS"],
        "GOOGLE_CLOUD_PROJECT": cloud.state["project_id"],
        "FIRESTORE_EMULATOR_HOST": cloud.state["services"]["firestore"],
    }
    with subprocess.Popen(
        [console_script()], env=environment, cwd=ROOT, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/robots.txt")
            connection.getresponse().read()
            return
        time.sleep(0.05)
    raise TimeoutError("the floor does not start")


Side = tuple[str, Callable[[], Request]]


def _compare(name: str, ours: Side, floor: Side) -> dict[str, dict[str, float]]:
    """Measure both in turns, and return the medians of their rounds."""
    sides = {name: ours, f"{name} floor": floor}
    runs: dict[str, list[tuple[float, list[float]]]] = {side: [] for side in sides}
    for each in sides.values():
        _round(*each, requests=CLIENTS)  # first connections and first calls are not measured
    for _ in range(ROUNDS):
        for side, each in sides.items():
            runs[side].append(_round(*each, requests=REQUESTS))
    figures = {
        side: {
            "per_second": round(statistics.median(rate for rate, _ in runs[side]), 1),
            "p50_ms": round(
                statistics.median(statistics.median(times) for _, times in runs[side]) * 1000, 1
            ),
            "p95_ms": round(statistics.median(_p95(times) for _, times in runs[side]) * 1000, 1),
        }
        for side in sides
    }
    ratio = figures[f"{name} floor"]["per_second"] / figures[name]["per_second"]
    figures[name]["ratio"] = round(ratio, 2)
    return figures


def _round(url: str, request: Callable[[], Request], *, requests: int) -> tuple[float, list[float]]:
    """Return requests/s and the seconds of each request."""
    wanted = [request() for _ in range(requests)]
    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        parts = pool.map(lambda first: _client(url, wanted[first::CLIENTS]), range(CLIENTS))
        times = [seconds for part in parts for seconds in part]
    return requests / (time.perf_counter() - began), times


def _client(url: str, requests: list[Request]) -> list[float]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    times = []
    for method, path, headers, body in requests:
        began = time.perf_counter()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        times.append(time.perf_counter() - began)
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path} answered {answer.status}: {content!r}")
    connection.close()
    return times


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]
