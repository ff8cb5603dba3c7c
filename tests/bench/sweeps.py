"""Measures what the sweeps read of a large fleet, and how long a create takes meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest import mock

from functions_framework import create_app

from localcloud.api_client import ApiClient
from localcloud.catalogue import ROOT, read_catalogue
from localcloud.running_cloud import RunningCloud
from shared import bootstrap
from shared.adapters.firestore_documents import Direction, Documents, Operator, Query
from shared.adapters.firestore_store import FirestoreWorkspaceStore
from tests.bench.billed import billed
from tests.bench.fleet import seed
from tests.system.records import call_scheduled

SWEEPS = ("cleanup", "reconcile")
WORKERS = ("provision_workspace", "advance_operation")
FLEETS = (
    (1_000, 100),
    (10_000, 100),
    (10_000, 10),
)  # workspaces, and how many of them are due for each sweep
SIZE, DUE = 10_000, 100  # while creates are measured
CREATES = 20
ROUNDS = 2
# So that no more workspaces become due during the measurement.
SETTINGS = {"HUB_ATTEND_SECONDS": "600"}
_SETTLE_SECONDS = 120.0

Figures = dict[str, dict[str, float]]
WorkersState = Callable[[RunningCloud], AbstractContextManager[None]]


def measure(cloud: RunningCloud) -> dict[str, Figures]:
    """Return the reads and writes of each sweep by fleet, and the times of creates in ms.

    The times are those of creates alone, and of creates while sweeps run. The cloud must have
    ``SETTINGS`` and no scheduler; what is made in it stays there.
    """
    return {"creates": _measure_creates(cloud), "reads": _measure_reads(cloud)}


def _measure_reads(cloud: RunningCloud) -> Figures:
    """Run the functions in this process, with a database for each fleet.

    The workers use another database, so the jobs have no effect.
    """
    figures = {}
    for size, due in FLEETS:
        database = f"fleet-{size}-{due}"
        _seed(cloud, size, due, database)
        environment = {
            **cloud.state["environment"],
            "HUB_FIRESTORE_DATABASE": database,
            "HUB_LOG_LEVEL": "WARNING",
        }
        with mock.patch.dict(os.environ, environment):
            for name in SWEEPS:
                figures[f"{name}, {due} of {size:,}"] = _count(name, due)
    return figures


def _count(name: str, due: int) -> dict[str, float]:
    source = next(
        function.source for function in read_catalogue().functions if function.name == name
    )
    # A new Hub, which has not read its settings yet.
    with mock.patch.object(bootstrap, "_hub", bootstrap.Hub()):
        client = create_app(name, str(ROOT / source)).test_client()  # type: ignore[no-untyped-call]
        with billed() as bill:
            answer = client.post(f"/{name}")
    _check(answer.json, due)
    return {
        "documents_read": bill.reads,
        "read_per_due": round(bill.reads / due, 2),
        "queries": bill.queries,
        "commits": bill.commits,
        "documents_written": bill.writes,
    }


def _measure_creates(cloud: RunningCloud) -> Figures:
    """Compare creates at the public address, one after the other: alone, and while both sweeps run.

    While the workers are paused, only the sweeps run beside the creates. The floor is that of
    programs that only compute: it shows what any work on the same processors costs a create. While
    the workers run, this machine also does all that the sweeps cause, by the workers, the queue and
    Compute, which run elsewhere in production. The worst times include that the emulator has no
    indexes, so that each query reads all documents.
    """
    for name in SWEEPS:
        call_scheduled(cloud, name)  # first connections and first calls are not measured
    _creates(_people(cloud))
    _seed(cloud, SIZE - 2 * DUE, 0)
    paused = [_round(cloud, _paused_workers) for _ in range(ROUNDS)]
    working = [_round(cloud, _running_workers) for _ in range(ROUNDS)]
    return {**_compare(paused, ""), **_compare(working, "workers, ")}


@dataclass(frozen=True, slots=True)
class Round:
    """The seconds of some creates in each situation; the situations take turns."""

    alone: list[float]
    beside_busy: list[float]
    beside_sweeps: list[float]


def _round(cloud: RunningCloud, workers: WorkersState) -> Round:
    """Measure a fleet with exactly ``DUE`` workspaces for each sweep; both sweeps run at once."""
    _seed(cloud, 2 * DUE, DUE)
    groups = [_people(cloud) for _ in range(3)]
    with workers(cloud), ThreadPoolExecutor(len(SWEEPS)) as pool:
        alone = _creates(groups[0])
        with _busy():
            beside_busy = _creates(groups[1])
        sweeps = [pool.submit(call_scheduled, cloud, name) for name in SWEEPS]
        beside_sweeps = _creates(groups[2])
        ended_early = any(sweep.done() for sweep in sweeps)
        for sweep in sweeps:
            _check(sweep.result(), DUE)
    if ended_early:
        raise RuntimeError("a sweep ended before the creates, so the figures would say nothing")
    _settle(cloud)
    return Round(alone, beside_busy, beside_sweeps)


def _compare(rounds: list[Round], prefix: str) -> Figures:
    """Return median, worst, and their ratios to the creates alone, by situation."""
    figures: Figures = {}
    first = [seconds for each in rounds for seconds in each.alone]
    for title, situation in (
        ("alone", "alone"),
        ("busy floor", "beside_busy"),
        ("sweeps", "beside_sweeps"),
    ):
        spent = [seconds for each in rounds for seconds in getattr(each, situation)]
        figures[f"{prefix}{title}"] = {
            "median_ms": round(statistics.median(spent) * 1000, 1),
            "worst_ms": round(max(spent) * 1000, 1),
            "median_ratio": round(statistics.median(spent) / statistics.median(first), 2),
            "worst_ratio": round(max(spent) / max(first), 2),
        }
    return figures


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """Run as many programs that compute as there are sweeps."""
    with contextlib.ExitStack() as stack:
        for _ in SWEEPS:
            program = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", "while True: pass"])
            )
            stack.callback(program.kill)
        yield


def _people(cloud: RunningCloud) -> list[ApiClient]:
    addresses = [f"{uuid.uuid4()}@example.com" for _ in range(CREATES // ROUNDS)]
    return [ApiClient(cloud.address, cloud.token(address)) for address in addresses]


def _creates(people: list[ApiClient]) -> list[float]:
    """Return the seconds of one create of each person."""
    spent = []
    for person in people:
        began = time.perf_counter()
        person.create("api")
        spent.append(time.perf_counter() - began)
    return spent


@contextlib.contextmanager
def _paused_workers(cloud: RunningCloud) -> Iterator[None]:
    """Pause the workers; afterwards they do the jobs that have come meanwhile."""
    for name in WORKERS:
        cloud.kill_function(name, signal.SIGSTOP)
    try:
        yield
    finally:
        for name in WORKERS:
            cloud.kill_function(name, signal.SIGCONT)


def _running_workers(_cloud: RunningCloud) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


def _settle(cloud: RunningCloud) -> None:
    """Wait until no operation is under way."""
    project_id, emulator = cloud.state["project_id"], cloud.state["services"]["firestore"]
    documents = Documents.of(project_id, "(default)", emulator)
    under_way = [("operation.step", Operator.ABOVE, -1)]
    deadline = time.monotonic() + _SETTLE_SECONDS
    while documents.query(Query("workspaces", under_way, "operation.step", Direction.ASCENDING, 1)):
        if time.monotonic() > deadline:
            raise TimeoutError("operations are still under way")
        time.sleep(0.5)


def _check(report: Any, due: int) -> None:
    """Check that a sweep has done exactly the work that it is measured at."""
    done = sum(len(ids) for ids in report["done"].values())
    if (report["looked_at"], done, report["failed"]) != (due, due, {}):
        raise RuntimeError(
            f"{due} were due, {report['looked_at']} looked at, {done} done, "
            f"failed: {report['failed']}"
        )


def _seed(cloud: RunningCloud, size: int, due: int, database: str = "(default)") -> None:
    project_id, emulator = cloud.state["project_id"], cloud.state["services"]["firestore"]
    store = FirestoreWorkspaceStore.of(project_id, database, emulator)
    seed(store, project_id, size, due, datetime.now(UTC))
