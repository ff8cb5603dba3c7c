"""Counts the calls to Firestore of each request, at the methods of Google's client library."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from functions_framework import create_app
from google.cloud.firestore_v1.services.firestore import FirestoreClient

from localcloud.api_client import ApiClient
from localcloud.catalogue import ROOT, read_catalogue
from localcloud.running_cloud import RunningCloud

CALLS = {"get_document": "reads", "run_query": "queries", "commit": "commits"}


def measure(cloud: RunningCloud) -> dict[str, dict[str, float]]:
    """Return the calls by function, each for one request about a READY workspace."""
    token = cloud.token("counted@example.com")
    headers = {"Authorization": f"Bearer {token}"}
    person = ApiClient(cloud.address, token)
    workspace_id = person.create("counted")["id"]
    person.wait_until_settled(workspace_id, "READY")
    requests = {
        "list_workspaces": ("GET", "/workspaces"),
        "create_workspace": ("POST", "/workspaces"),
        "get_workspace_status": ("GET", f"/workspaces/{workspace_id}/status"),
        "stop_workspace": ("POST", f"/workspaces/{workspace_id}/stop"),
        "delete_workspace": ("DELETE", f"/workspaces/{workspace_id}"),
    }
    figures = {}
    sources = {function.name: function.source for function in read_catalogue().functions}
    with mock.patch.dict(os.environ, {**cloud.state["environment"], "HUB_LOG_LEVEL": "WARNING"}):
        for name, (method, path) in requests.items():
            client = create_app(name, str(ROOT / sources[name])).test_client()  # type: ignore[no-untyped-call]
            with _counting() as counts:
                body = {"name": "another"} if name == "create_workspace" else None
                answer = client.open(path, method=method, headers=headers, json=body)
            if answer.status_code >= 300:
                raise RuntimeError(f"{method} {path} answered {answer.status_code}: {answer.text}")
            figures[name] = {call: float(counts[call]) for call in CALLS.values()}
    return figures


@contextlib.contextmanager
def _counting() -> Iterator[Counter[str]]:
    """Count the calls of the library's methods."""
    counts: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        for name, call in CALLS.items():
            counted = _counted(counts, call, getattr(FirestoreClient, name))
            stack.enter_context(mock.patch.object(FirestoreClient, name, counted))
        yield counts


def _counted(counts: Counter[str], call: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        counts[call] += 1
        return method(*args, **kwargs)

    return counted
