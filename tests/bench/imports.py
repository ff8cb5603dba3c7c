"""Measures a new instance of each function before its first request: time of imports, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from localcloud.catalogue import ROOT, read_catalogue

ROUNDS = 5
_FLOOR = "import flask, functions_framework\nfrom google.cloud import firestore"
_LOAD = (
    "from functions_framework import create_app\ncreate_app({name!r}, {source!r}, {signature!r})"
)
_MEASURE = """
import json, re, resource, sys, time
# Google's libraries import it if it is installed: for the tests it is, in the deployment it is not.
sys.modules["aiohttp"] = None
began = time.perf_counter()
{what}
spent = time.perf_counter() - began
if sys.platform == "linux":  # where getrusage includes the memory of the parent at the fork
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
# The Hub turns what is printed into lines of its log.
print(json.dumps([spent, peak]), file=sys.__stdout__, flush=True)
"""


def measure() -> dict[str, dict[str, float]]:
    """Return seconds, MB and their ratios to the floor by function: the best of some rounds."""
    programs = {"floor": _FLOOR}
    for function in read_catalogue().functions:
        programs[function.name] = _LOAD.format(
            name=function.name,
            source=str(ROOT / function.source),
            signature=function.signature_type,
        )
    rounds = [{name: _once(what) for name, what in programs.items()} for _ in range(ROUNDS)]
    best = {name: [min(run[name][part] for run in rounds) for part in (0, 1)] for name in programs}
    floor_seconds, floor_megabytes = best["floor"]
    return {
        name: {
            "seconds": round(seconds, 3),
            "megabytes": round(megabytes, 1),
            "seconds_ratio": round(seconds / floor_seconds, 2),
            "megabytes_ratio": round(megabytes / floor_megabytes, 2),
        }
        for name, (seconds, megabytes) in best.items()
    }


def _once(what: str) -> Any:
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _MEASURE.format(what=what)]
    answer = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return json.loads(answer.stdout)
