"""How many calls to Firestore each request makes, counted at the functions' client."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any
from unittest import mock

from functions_framework import create_app

from localcloud.catalogue import ROOT, read_catalogue
from localcloud.client import RunningCloud
from localcloud.person import Person
from shared.bootstrap import hub

CALLS = {"batch_get_documents": "reads", "run_query": "queries", "commit": "commits"}


class _Counting:
    """Stands before the library's own Firestore API and counts."""

    def __init__(self, api: Any, counts: Counter[str]) -> None:
        self._api = api
        self._counts = counts

    def __getattr__(self, name: str) -> Any:
        if name in CALLS:
            self._counts[CALLS[name]] += 1
        return getattr(self._api, name)


def measure(cloud: RunningCloud) -> dict[str, dict[str, float]]:
    """Return the calls by function, made by one request each on a workspace that is there and ready."""
    token = cloud.token("counted@example.com")
    headers = {"Authorization": f"Bearer {token}"}
    person = Person(cloud.address, token)
    workspace_id = person.create("counted")["id"]
    person.settled(workspace_id, "READY")
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


class _counting:  # noqa: N801 -- used as a context manager only
    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __enter__(self) -> Counter[str]:
        client: Any = hub().store._client  # type: ignore[attr-defined]  # noqa: SLF001 -- counted where the library calls out
        self._client, self._api = client, client._firestore_api  # noqa: SLF001
        client._firestore_api_internal = _Counting(self._api, self._counts)  # noqa: SLF001
        return self._counts

    def __exit__(self, *_: object) -> None:
        self._client._firestore_api_internal = self._api  # noqa: SLF001
