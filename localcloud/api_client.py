"""A person at the Hub's public address: what the demo, the tests and the bench do over HTTP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import requests

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_SECONDS: Final = 0.05
_TIMEOUT_SECONDS: Final = 30.0

Workspace = dict[str, Any]


class RefusedError(Exception):
    """The Hub did not do what the person asked. `answer` is what it said."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__(
            f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        )
        self.answer = answer


class ApiClient:
    """One person. `token` is their ID token; None is a client that sends none."""

    def __init__(self, address: str, token: str | None) -> None:
        self._address = address
        self._session = requests.Session()
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send a request and return whatever comes back; `kwargs` are those of `requests`."""
        return self._session.request(
            method, f"{self._address}{path}", timeout=_TIMEOUT_SECONDS, **kwargs
        )

    def create(self, name: str, *, key: str | None = None, **fields: Any) -> Workspace:
        """Ask for a workspace.

        Raises:
            RefusedError: the answer is not 2xx.
        """
        headers = {"Idempotency-Key": key} if key else {}
        return self._must("POST", "/workspaces", json={"name": name, **fields}, headers=headers)

    def workspaces(self, **query: Any) -> list[Workspace]:
        """Return this person's workspaces, following all pages."""
        return self._pages("/workspaces", query)

    def events(self, workspace_id: str, **query: Any) -> list[dict[str, Any]]:
        """Return what happened to a workspace, the latest first, following all pages."""
        return self._pages(f"/workspaces/{workspace_id}/events", query)

    def every_event(self) -> list[dict[str, Any]]:
        """Return what happened at all, the latest first, following all pages; administrators only."""
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
        """Return a workspace in real time."""
        return self._must("GET", f"/workspaces/{workspace_id}/status")

    def stop(self, workspace_id: str) -> Workspace:
        """Ask that a workspace be suspended."""
        return self._must("POST", f"/workspaces/{workspace_id}/stop")

    def start(self, workspace_id: str, **fields: Any) -> Workspace:
        """Ask that a workspace be usable."""
        return self._must("POST", f"/workspaces/{workspace_id}/start", json=fields)

    def delete(self, workspace_id: str) -> Workspace:
        """Ask that a workspace be deleted."""
        return self._must("DELETE", f"/workspaces/{workspace_id}")

    def wait(
        self,
        workspace_id: str,
        until: Callable[[Workspace], bool],
        *,
        seconds: float = 30,
        watch: Callable[[Workspace], None] | None = None,
    ) -> Workspace:
        """Return the workspace's real-time status as soon as it is as wanted; `watch` is shown each one before.

        Raises:
            TimeoutError: it has not become so in time; the message says what it was last.
            RefusedError: there is no such workspace (any more).
        """
        deadline = time.monotonic() + seconds
        while True:
            seen = self.status(workspace_id)
            if watch is not None:
                watch(seen)
            if until(seen):
                return seen
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:g} s; it is {seen}")
            time.sleep(_POLL_SECONDS)

    def wait_until_settled(
        self, workspace_id: str, status: str, *, seconds: float = 30
    ) -> Workspace:
        """Wait until nothing is under way on a workspace and it has this status.

        Raises:
            TimeoutError: it has not within that time.
        """
        return self.wait(
            workspace_id,
            lambda ws: ws["operation"] is None and ws["status"] == status,
            seconds=seconds,
        )

    def wait_until_gone(self, workspace_id: str, *, seconds: float = 30) -> None:
        """Wait until a workspace's id answers 404.

        Raises:
            TimeoutError: it has not within that time.
        """
        deadline = time.monotonic() + seconds
        while (
            answer := self.request("GET", f"/workspaces/{workspace_id}/status")
        ).status_code != 404:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not gone within {seconds:g} s; the answer is {answer.text}")
            time.sleep(_POLL_SECONDS)

    def _must(self, method: str, path: str, **kwargs: Any) -> Workspace:
        answer = self.request(method, path, **kwargs)
        if not answer.ok:
            raise RefusedError(answer)
        said: Workspace = answer.json()
        return said
