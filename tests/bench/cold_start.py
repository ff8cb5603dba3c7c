"""Measures each function from the start of its process to its first answer, and its memory then.

The answer is to a request that uses what the function is for: the status asks Compute Engine, a
worker reads the record of its job. All services answer at once.
"""

from __future__ import annotations

import base64
import json
import re
import statistics
import time
import uuid
from typing import Any

from localcloud.catalogue import Function, read_catalogue
from tests.bench.processes import Bench, first_answer

ROUNDS = 5
BESIDE = "list_workspaces"
_BODIES = {
    "create_workspace": {"name": "more"},
    "report_workspace": {"event": "ready", "generation": 1},
}

Request = tuple[str, str, dict[str, str], str | None]  # method, path, headers, body


def measure(bench: Bench) -> dict[str, dict[str, float]]:
    """Return seconds, processor time, their ratios to a list's, and MiB, by function.

    The times are those of the quickest round: on a busy machine it is the one that was disturbed
    least. A ratio is the median of the rounds, each beside a list that starts right before.
    """
    catalogue = read_catalogue()
    list_ = catalogue[BESIDE]
    figures = {}
    for function in catalogue.functions:
        rounds = [
            (
                _start(bench, list_, _request(bench, list_)),
                _start(bench, function, _request(bench, function)),
            )
            for _ in range(ROUNDS)
        ]
        seconds, cpu, megabytes = (min(ours[part] for _, ours in rounds) for part in range(3))
        ratio, cpu_ratio = (
            statistics.median(ours[part] / lists[part] for lists, ours in rounds)
            for part in range(2)
        )
        figures[function.name] = {
            "seconds": round(seconds, 3),
            "ratio": round(ratio, 2),
            "cpu_seconds": round(cpu, 2),
            "cpu_ratio": round(cpu_ratio, 2),
            "megabytes": round(megabytes, 1),
        }
    return figures


def _start(bench: Bench, function: Function, request: Request) -> tuple[float, float, float]:
    """Return seconds and processor time to the first answer, and the MiB of all its processes."""
    method, path, headers, body = request
    with bench.function(function) as process:
        answer = first_answer(process, method, path, headers=headers, body=body)
        seconds = time.perf_counter() - process.started_at
        if answer.status >= 500:
            raise RuntimeError(f"{function.name} answered {answer.status}")
        return seconds, process.cpu_seconds(), process.proportional_mib()


def _request(bench: Bench, function: Function) -> Request:
    """Return a request of the function's first route, or the push of a message."""
    headers = {"Authorization": f"Bearer {bench.token()}", "Content-Type": "application/json"}
    job = {"workspace_id": bench.workspaces[0], "operation_id": str(uuid.uuid4()), "step": 1}
    if not function.routes:
        data = base64.b64encode(json.dumps(job).encode()).decode()
        push: dict[str, Any] = {"message": {"data": data, "messageId": "1"}, "subscription": "s"}
        return "POST", "/", headers, json.dumps(push)
    method, path = function.routes[0].method, function.routes[0].path
    filled = re.sub(r"\{.*?\}", bench.workspaces[0], path)
    body = None if method == "GET" else json.dumps(_BODIES.get(function.name, job))
    if function.runs_as == "api" and function.name != "create_workspace":
        body = None
    return method, filled, headers, body
