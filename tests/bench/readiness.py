"""Measures the time from POST to READY that the Hub adds to Compute's and the machine's own."""

from __future__ import annotations

import statistics
import time
from datetime import datetime

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud
from localcloud.services.compute.times import TIMES

WORKSPACES = 50


def measure(cloud: RunningCloud, times: str) -> dict[str, float]:
    """Return the median and the worst of some creates, one after the other, in seconds.

    The time of READY is in the record, so the figures do not depend on how often this polls. One
    create before them starts the functions.
    """
    theirs = TIMES[times].insert + TIMES[times].boot
    added = []
    for number in range(1 + WORKSPACES):
        person = ApiClient(cloud.address, cloud.token(f"ready{number}@example.com"))
        began = time.time()
        workspace_id = person.create("api")["id"]
        ready = person.wait_until_settled(workspace_id, "READY")
        added.append(
            datetime.fromisoformat(ready["last_connected_at"]).timestamp() - began - theirs
        )
        person.delete(workspace_id)
    del added[0]
    return {
        "compute_and_boot_seconds": theirs,
        "added_median_seconds": round(statistics.median(added), 3),
        "added_worst_seconds": round(max(added), 3),
    }
