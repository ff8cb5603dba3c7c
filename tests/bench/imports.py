"""What a new instance of each function costs before its first request: the time of its imports, and its memory."""

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
sys.modules["aiohttp"] = None  # Google's libraries import it where it is: here for the tests, where they are deployed not
began = time.perf_counter()
{what}
spent = time.perf_counter() - began
if sys.platform == "linux":  # where getrusage starts from the memory of the process that forked this one
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
print(json.dumps([spent, peak]))
"""


def measure() -> dict[str, dict[str, float]]:
    """Return seconds, MB and their ratios to the floor by function: the best of some rounds that take turns."""
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
