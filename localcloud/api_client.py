"""A client of the Hub's API, for the demo, the tests and the bench."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import requests

_SHORTEST_PAUSE_SECONDS = 0.05
_PAUSE_SHARE = 0.05  # of the time waited so far, so that a long wait meets no limit of requests
_TIMEOUT_SECONDS = 30.0

Workspace = dict[str, Any]


class RefusedError(Exception):
    """The Hub refused a request. ``answer`` is its answer."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__(
            f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        )
        self.answer = answer


class ApiClient:
    """The client of one person. ``token`` is their ID token; with None it sends none."""

    def __init__(self, address: str, token: str | None) -> None:
        self._address = address
        self._session = requests.Session()
        # Neither a proxy nor a .netrc of this machine's is meant for the local cloud.
        self._session.trust_env = False
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send a request and return any answer; ``kwargs`` are those of ``requests``."""
        return self._session.request(
            method, f"{self._address}{path}", timeout=_TIMEOUT_SECONDS, **kwargs
        )

    def create(self, name: str, *, key: str | None = None, **fields: Any) -> Workspace:
        """Create a workspace.

        Raises:
            RefusedError: the answer is not 2xx.
        """
        headers = {"Idempotency-Key": key} if key else {}
        return self._request_or_raise(
            "POST", "/workspaces", json={"name": name, **fields}, headers=headers
        )

    def workspaces(self, **query: Any) -> list[Workspace]:
        """Return this person's workspaces, from all pages."""
        return self._pages("/workspaces", query)

    def events(self, workspace_id: str, **query: Any) -> list[dict[str, Any]]:
        """Return the events of a workspace, the latest first, from all pages."""
        return self._pages(f"/workspaces/{workspace_id}/events", query)

    def every_event(self) -> list[dict[str, Any]]:
        """Return all events, the latest first, from all pages; for administrators only."""
        return self._pages("/events", {})

    def _pages(self, path: str | None, query: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while path is not None:
            answer = self.request("GET", path, params=query)
            if not answer.ok:
                raise RefusedError(answer)
            found += answer.json()
            path = answer.links.get("next", {}).get("url")
            query = {}
        return found

    def status(self, workspace_id: str) -> Workspace:
        """Return a workspace as it is now, with its machine."""
        return self._request_or_raise("GET", f"/workspaces/{workspace_id}/status")

    def stop(self, workspace_id: str) -> Workspace:
        """Stop a workspace."""
        return self._request_or_raise("POST", f"/workspaces/{workspace_id}/stop")

    def start(self, workspace_id: str, **fields: Any) -> Workspace:
        """Start a workspace."""
        return self._request_or_raise("POST", f"/workspaces/{workspace_id}/start", json=fields)

    def archive(self, workspace_id: str) -> Workspace:
        """Archive a workspace."""
        return self._request_or_raise("POST", f"/workspaces/{workspace_id}/archive")

    def delete(self, workspace_id: str, *, purge: bool = False) -> Workspace:
        """Delete a workspace, perhaps so that it cannot be taken back."""
        query = "?purge=true" if purge else ""
        return self._request_or_raise("DELETE", f"/workspaces/{workspace_id}{query}")

    def take_snapshot(self, workspace_id: str, **fields: Any) -> Workspace:
        """Take a snapshot of a workspace; the operation in the answer has its id."""
        return self._request_or_raise("POST", f"/workspaces/{workspace_id}/snapshots", json=fields)

    def snapshots(self, workspace_id: str) -> list[dict[str, Any]]:
        """Return the snapshots of a workspace, the latest first."""
        answer = self._request_or_raise("GET", f"/workspaces/{workspace_id}/snapshots")
        found: list[dict[str, Any]] = answer["snapshots"]
        return found

    def delete_snapshot(self, workspace_id: str, snapshot_id: str) -> dict[str, Any]:
        """Delete a snapshot of a workspace."""
        path = f"/workspaces/{workspace_id}/snapshots/{snapshot_id}"
        return self._request_or_raise("DELETE", path)

    def deleted(self) -> list[dict[str, Any]]:
        """Return the deleted workspaces that can be taken back, the last deleted first."""
        answer = self._request_or_raise("GET", "/deleted-workspaces")
        found: list[dict[str, Any]] = answer["deleted_workspaces"]
        return found

    def undelete(self, workspace_id: str, **fields: Any) -> Workspace:
        """Take a deleted workspace back, perhaps with another name."""
        path = f"/workspaces/{workspace_id}/undelete"
        return self._request_or_raise("POST", path, json=fields)

    def restore(self, workspace_id: str, snapshot_id: str) -> Workspace:
        """Put the home of a workspace back to what a snapshot of it has."""
        path = f"/workspaces/{workspace_id}/restore"
        return self._request_or_raise("POST", path, json={"snapshot_id": snapshot_id})

    def wait(
        self,
        workspace_id: str,
        until: Callable[[Workspace], bool],
        *,
        seconds: float = 30,
        watch: Callable[[Workspace], None] | None = None,
    ) -> Workspace:
        """Wait until the status of a workspace satisfies a condition, and return it.

        Args:
            workspace_id: the workspace.
            until: the condition.
            seconds: how long to wait at most.
            watch: is called with every status that was read.

        Raises:
            TimeoutError: it takes too long; the message has the last status.
            RefusedError: the workspace does not exist, or no longer exists.
        """
        since = time.monotonic()
        while True:
            seen = self.status(workspace_id)
            if watch is not None:
                watch(seen)
            if until(seen):
                return seen
            if time.monotonic() - since > seconds:
                raise TimeoutError(f"not within {seconds:g} s; it is {seen}")
            _pause(since)

    def wait_until_settled(
        self, workspace_id: str, status: str, *, seconds: float = 30
    ) -> Workspace:
        """Wait until a workspace has this status and no operation.

        Raises:
            TimeoutError: it takes too long.
        """
        return self.wait(
            workspace_id,
            lambda ws: ws["operation"] is None and ws["status"] == status,
            seconds=seconds,
        )

    def wait_until_gone(self, workspace_id: str, *, seconds: float = 30) -> None:
        """Wait until a workspace's id is answered with 404.

        Raises:
            TimeoutError: it takes too long.
        """
        since = time.monotonic()
        while (
            answer := self.request("GET", f"/workspaces/{workspace_id}/status")
        ).status_code != 404:
            if time.monotonic() - since > seconds:
                raise TimeoutError(f"not gone within {seconds:g} s; the answer is {answer.text}")
            _pause(since)

    def _request_or_raise(self, method: str, path: str, **kwargs: Any) -> Workspace:
        answer = self.request(method, path, **kwargs)
        if not answer.ok:
            raise RefusedError(answer)
        workspace: Workspace = answer.json()
        return workspace


def _pause(since: float) -> None:
    """Wait until the Hub is asked again. ``since``: when the wait began, by the monotonic clock."""
    time.sleep(max(_SHORTEST_PAUSE_SECONDS, _PAUSE_SHARE * (time.monotonic() - since)))
