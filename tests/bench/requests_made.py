"""Counts the calls to Firestore of each request."""

from __future__ import annotations

import os
from unittest import mock

from functions_framework import create_app

from localcloud.api_client import ApiClient
from localcloud.catalogue import ROOT, read_catalogue
from localcloud.running_cloud import RunningCloud
from tests.bench.billed import billed


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
    figures: dict[str, dict[str, float]] = {}
    sources = {function.name: function.source for function in read_catalogue().functions}
    with mock.patch.dict(os.environ, {**cloud.state["environment"], "HUB_LOG_LEVEL": "WARNING"}):
        for name, (method, path) in requests.items():
            client = create_app(name, str(ROOT / sources[name])).test_client()  # type: ignore[no-untyped-call]
            with billed() as bill:
                body = {"name": "another"} if name == "create_workspace" else None
                answer = client.open(path, method=method, headers=headers, json=body)
            if answer.status_code >= 300:
                raise RuntimeError(f"{method} {path} answered {answer.status_code}: {answer.text}")
            figures[name] = {
                "reads": bill.gets,
                "queries": bill.queries,
                "commits": bill.commits,
            }
    return figures
