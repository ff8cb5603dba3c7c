"""Measures what a tab with the page costs: each request that it repeats, in full and as a 304.

A 304 saves bytes. The Hub has to read the same documents to know that nothing has changed.
"""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator, Mapping
from unittest import mock

from functions_framework import create_app

from localcloud.catalogue import ROOT, read_catalogue
from shared import bootstrap
from tests.bench.billed import billed
from tests.bench.processes import Bench, Process, first_answer

REQUESTS = 300  # in a round
ROUNDS = 3
# How often the page asks for what in an hour. It reads the list in every round
# (``shared/page/live.js``), and what an open workspace's panel has besides only after a change.
QUIET, BUSY = 3600 // 20, 3600 // 2
HOURS = {
    "an hour, list": {"list": QUIET},
    "an hour, one open": {"list": QUIET, "status": 1, "events": 1},
    "an hour, one busy": {"list": BUSY, "status": 1, "events": 1},
}

Figures = dict[str, dict[str, float]]


def measure(bench: Bench) -> dict[str, Figures]:
    """Return processor time, bytes and documents read, by request and of an hour of a tab.

    The person has five workspaces, and nothing changes in that hour, so that every answer is a 304;
    ``whole_kib`` is what whole answers would be.
    """
    one = bench.workspaces[0]
    paths = {
        "list": ("list_workspaces", "/workspaces"),
        "get": ("get_workspace", f"/workspaces/{one}"),
        "status": ("get_workspace_status", f"/workspaces/{one}/status"),
        "events": ("list_events", f"/workspaces/{one}/events"),
    }
    figures: Figures = {}
    for name, (function, path) in paths.items():
        figures |= _measure(bench, name, function, path)
    return {"requests": figures, "hours": dict(_hours(figures))}


def _measure(bench: Bench, name: str, function: str, path: str) -> Figures:
    headers = {"Authorization": f"Bearer {bench.token()}"}
    with bench.function(read_catalogue()[function]) as process:
        tag = first_answer(process, "GET", path, headers=headers).headers["ETag"]
        wanted = {name: headers, f"{name}, 304": {**headers, "If-None-Match": tag}}
        for sent in wanted.values():
            _cpu_ms(process, path, sent)  # first calls are not measured
        rounds = [
            {row: _cpu_ms(process, path, sent) for row, sent in wanted.items()}
            for _ in range(ROUNDS)
        ]
        return {
            row: {
                "cpu_ms": round(min(each[row] for each in rounds), 2),
                "bytes": _bytes(process, path, sent),
                "documents_read": _documents_read(bench, function, path, sent),
            }
            for row, sent in wanted.items()
        }


def _cpu_ms(process: Process, path: str, headers: Mapping[str, str]) -> float:
    used = process.cpu_seconds()
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=30)
    for _ in range(REQUESTS):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != (304 if "If-None-Match" in headers else 200):
            raise RuntimeError(f"GET {path} answered {answer.status}")
    connection.close()
    return (process.cpu_seconds() - used) * 1000 / REQUESTS


def _bytes(process: Process, path: str, headers: Mapping[str, str]) -> int:
    """Return the size of an answer as HTTP/1.1 writes it."""
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    size = sum(len(line) + 2 for line in lines) + 2 + len(answer.read())
    connection.close()
    return size


def _documents_read(bench: Bench, function: str, path: str, headers: Mapping[str, str]) -> int:
    """Count in this process, with a new Hub that has not read its settings yet."""
    environment = {**bench.environment, "HUB_LOG_LEVEL": "WARNING"}
    source = str(ROOT / read_catalogue()[function].source)
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(bootstrap, "_hub", bootstrap.Hub()),
    ):
        client = create_app(function, source).test_client()  # type: ignore[no-untyped-call]
        with billed() as bill:
            answer = client.get(path, headers=headers)
    if answer.status_code not in {200, 304}:
        raise RuntimeError(f"GET {path} answered {answer.status_code}: {answer.text}")
    return bill.reads


def _hours(figures: Figures) -> Iterator[tuple[str, dict[str, float]]]:
    for name, asked in HOURS.items():

        def in_all(figure: str, answer: str = ", 304", asked: dict[str, int] = asked) -> float:
            return sum(times * figures[f"{each}{answer}"][figure] for each, times in asked.items())

        yield (
            name,
            {
                "requests": sum(asked.values()),
                "cpu_seconds": round(in_all("cpu_ms") / 1000, 1),
                "kib": round(in_all("bytes") / 1024),
                "whole_kib": round(in_all("bytes", answer="") / 1024),
                "documents_read": in_all("documents_read"),
            },
        )
