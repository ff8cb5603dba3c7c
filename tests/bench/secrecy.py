"""Measures whether the time of a 404 tells another person's workspace from an unknown one."""

from __future__ import annotations

import statistics
import time
import uuid

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud

REQUESTS = 300


def measure(cloud: RunningCloud) -> dict[str, dict[str, float]]:
    """Return median and 95th percentile (ms) of a stranger's requests for each, in turns."""
    owner = ApiClient(cloud.address, cloud.token("secretive@example.com"))
    theirs = owner.create("secret")["id"]
    owner.wait_until_settled(theirs, "READY")
    direct = cloud.state["functions"]["get_workspace_status"]["direct_url"]
    stranger = ApiClient(direct, cloud.token("curious@example.com"))
    spent: dict[str, list[float]] = {"another person's": [], "unknown": []}
    for _ in range(REQUESTS):
        for kind, workspace_id in (("another person's", theirs), ("unknown", str(uuid.uuid4()))):
            began = time.perf_counter()
            answer = stranger.request("GET", f"/workspaces/{workspace_id}/status")
            spent[kind].append((time.perf_counter() - began) * 1000)
            if answer.status_code != 404:
                raise RuntimeError(f"answered {answer.status_code}: {answer.text}")
    return {
        kind: {
            "median_ms": round(statistics.median(times), 2),
            "p95_ms": round(statistics.quantiles(times, n=20)[-1], 2),
        }
        for kind, times in spent.items()
    }
