"""Measures what a list and a create cost their process, beside bare functions with the same calls.

The floors (``tests/bench/floor``) are functions as a quickstart shows them: functions-framework and
the hand-written clients. Requests go to each function's own process, and every service answers at
once, so only the code is compared. They do not check who calls, and write no log.
"""

from __future__ import annotations

import http.client
import itertools
import json
import statistics
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

from localcloud.catalogue import read_catalogue
from localcloud.services.identity.tokens import subject_of
from tests.bench.instant_services import PERSON
from tests.bench.processes import Bench, Process, first_answer

CLIENTS = 4
REQUESTS = 600  # in a round
ROUNDS = 5

Request = tuple[str, str, dict[str, str], str | None]  # method, path, headers, body
Round = tuple[float, float, list[float]]  # CPU ms per request, requests/s, seconds of each request


def measure(bench: Bench) -> dict[str, dict[str, float]]:
    """Return CPU ms per request, requests/s, p50 and p95 in ms; ratios to the floors' CPU."""
    return {**_list(bench), **_create(bench)}


def _list(bench: Bench) -> dict[str, dict[str, float]]:
    headers = {"Authorization": f"Bearer {bench.token()}"}
    floor_path = "/?" + urlencode({"owner_id": subject_of(PERSON)})
    with (
        bench.function(read_catalogue()["list_workspaces"]) as ours,
        bench.floor("list_floor", like="list_workspaces") as floor,
    ):
        return _compare(
            "list",
            (ours, lambda: ("GET", "/workspaces", headers, None)),
            (floor, lambda: ("GET", floor_path, {}, None)),
        )


def _create(bench: Bench) -> dict[str, dict[str, float]]:
    """Compare creates, each by another person."""
    people = [bench.token(f"{uuid.uuid4()}@example.com") for _ in range(REQUESTS)]
    tokens = itertools.cycle(people)
    body = json.dumps({"name": "api", "metadata": {"repo": "example/api"}})
    content = {"Content-Type": "application/json"}
    with (
        bench.function(read_catalogue()["create_workspace"]) as ours,
        bench.floor("create_floor", like="create_workspace") as floor,
    ):
        return _compare(
            "create",
            (
                ours,
                lambda: (
                    "POST",
                    "/workspaces",
                    {**content, "Authorization": f"Bearer {next(tokens)}"},
                    body,
                ),
            ),
            (floor, lambda: ("POST", f"/?like={bench.workspaces[0]}", content, body)),
        )


Side = tuple[Process, Callable[[], Request]]


def _compare(name: str, ours: Side, floor: Side) -> dict[str, dict[str, float]]:
    """Measure both in turns; return the medians of their rounds, and the least processor time."""
    sides = {name: ours, f"{name} floor": floor}
    runs: dict[str, list[Round]] = {side: [] for side in sides}
    for process, request in sides.values():
        first_answer(process, "GET", "/robots.txt")
        _round(process, request, requests=REQUESTS // 4)  # first calls are not measured
    for _ in range(ROUNDS):
        for side, (process, request) in sides.items():
            runs[side].append(_round(process, request, requests=REQUESTS))
    figures = {
        side: {
            "cpu_ms": round(min(cpu for cpu, _, _ in rounds), 2),
            "per_second": round(statistics.median(rate for _, rate, _ in rounds), 1),
            "p50_ms": round(_median_of([statistics.median(each) for *_, each in rounds]), 1),
            "p95_ms": round(_median_of([_p95(each) for *_, each in rounds]), 1),
        }
        for side, rounds in runs.items()
    }
    ratio = figures[name]["cpu_ms"] / figures[f"{name} floor"]["cpu_ms"]
    figures[name]["cpu_ratio"] = round(ratio, 2)
    return figures


def _round(process: Process, request: Callable[[], Request], *, requests: int) -> Round:
    wanted = [request() for _ in range(requests)]
    began, used = time.perf_counter(), process.cpu_seconds()
    with ThreadPoolExecutor(CLIENTS) as pool:
        parts = pool.map(
            lambda first: _client(process.port, wanted[first::CLIENTS]), range(CLIENTS)
        )
        times = [seconds for part in parts for seconds in part]
    took = time.perf_counter() - began
    return (process.cpu_seconds() - used) * 1000 / requests, requests / took, times


def _client(port: int, requests: list[Request]) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
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


def _median_of(values: list[float]) -> float:
    return statistics.median(values) * 1000


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]
