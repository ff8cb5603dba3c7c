"""Measures each function from the start of its process to its first answer, and its memory then.

The answer is to a request that uses what the function is for: the status asks Compute Engine, a
worker reads the record of its job. All services answer at once.
"""

from __future__ import annotations

import base64
import json
import re
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

    Of some rounds, the quickest counts: on a busy machine it is the one that was disturbed least.
    """
    functions = read_catalogue().functions
    rounds = [
        {each.name: _start(bench, each, _request(bench, each)) for each in functions}
        for _ in range(ROUNDS)
    ]
    best = {
        each.name: [min(run[each.name][part] for run in rounds) for part in range(3)]
        for each in functions
    }
    seconds_of_list, cpu_of_list, _ = best[BESIDE]
    return {
        name: {
            "seconds": round(seconds, 3),
            "ratio": round(seconds / seconds_of_list, 2),
            "cpu_seconds": round(cpu, 2),
            "cpu_ratio": round(cpu / cpu_of_list, 2),
            "megabytes": round(megabytes, 1),
        }
        for name, (seconds, cpu, megabytes) in best.items()
    }


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
