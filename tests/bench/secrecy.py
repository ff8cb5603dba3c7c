"""Whether the time of an answer tells somebody else's workspace from one that never was."""

from __future__ import annotations

import statistics
import time
import uuid

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud

ASKED = 300


def measure(cloud: RunningCloud) -> dict[str, dict[str, float]]:
    """Return median and 95th percentile (ms) of a stranger's status request, for both, asked in turns."""
    owner = ApiClient(cloud.address, cloud.token("secretive@example.com"))
    theirs = owner.create("secret")["id"]
    owner.wait_until_settled(theirs, "READY")
    direct = cloud.state["functions"]["get_workspace_status"]["direct_url"]
    stranger = ApiClient(direct, cloud.token("curious@example.com"))
    spent: dict[str, list[float]] = {"somebody else's": [], "nobody's": []}
    for _ in range(ASKED):
        for whose, workspace_id in (("somebody else's", theirs), ("nobody's", str(uuid.uuid4()))):
            began = time.perf_counter()
            answer = stranger.request("GET", f"/workspaces/{workspace_id}/status")
            spent[whose].append((time.perf_counter() - began) * 1000)
            if answer.status_code != 404:
                raise RuntimeError(f"answered {answer.status_code}: {answer.text}")
    return {
        whose: {
            "median_ms": round(statistics.median(times), 2),
            "p95_ms": round(statistics.quantiles(times, n=20)[-1], 2),
        }
        for whose, times in spent.items()
    }
