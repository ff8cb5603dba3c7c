"""Measures the check of a person's token after the issuer's keys were fetched."""

from __future__ import annotations

import statistics
import time

from localcloud.running_cloud import RunningCloud
from shared.adapters.google_identity import GoogleIdentity
from shared.config import read_settings

CHECKS = 2000


def measure(cloud: RunningCloud) -> dict[str, float]:
    """Return the median and the 99th percentile of some checks, in milliseconds."""
    identity = GoogleIdentity(read_settings(cloud.state["environment"]).identity)
    headers = {"Authorization": f"Bearer {cloud.token('checked@example.com')}"}
    identity.person(headers)  # fetches the keys
    spent = []
    for _ in range(CHECKS):
        began = time.perf_counter()
        identity.person(headers)
        spent.append((time.perf_counter() - began) * 1000)
    return {
        "median_ms": round(statistics.median(spent), 3),
        "99_percent_below_ms": round(statistics.quantiles(spent, n=100)[-1], 3),
    }
