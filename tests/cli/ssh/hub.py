"""A Hub for tests of the command's SSH family: it says what a test wants it to, even nonsense.

It is its own local issuer and OS Login, as the local cloud is, behind the state file's secret.
"""

from __future__ import annotations

import json
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

SECRET = "the-secret-of-the-state-file"  # made up
TOKEN = "eyJhbGciOiJub25lIn0.eyJlbWFpbCI6ImFsaWNlQGV4YW1wbGUuY29tIn0."  # made up


class FakeHub:
    """Attributes are what it has; tests change them.

    Attributes:
        workspaces: by id, as the API answers them.
        connections: by id, what is in ``connection``.
        requests: method, path and body of each request, in order.
        looks: how many reads a START takes until the workspace is READY.
        keys: by e-mail address, the keys that OS Login has.
        older: whether it is a Hub before 0.2.
        user: the user name in everybody's profile.
        on_key: is called when a key was registered.
    """

    def __init__(self) -> None:
        self.workspaces: dict[str, dict[str, Any]] = {}
        self.connections: dict[str, Any] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.looks = 2
        self.keys: dict[str, list[str]] = {}
        self.older = False
        self.user = "alice_example_com"
        self.address = ""
        self.on_key: Callable[[], object] = lambda: None
        self._left: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, name: str, connection: Any, status: str = "READY") -> str:
        """Add a workspace, and return its id."""
        workspace_id = str(uuid.uuid4())
        self.workspaces[workspace_id] = {
            "id": workspace_id, "name": name, "owner_id": "1", "status": status,
            "operation": None, "error": None, "machine_type": "e2-small", "zone": "us-west1-a",
            "project_id": "a-project", "memory_kept": None, "stopped_because": None,
        }  # fmt: skip
        self.connections[workspace_id] = connection
        return workspace_id

    def asked(self, verb: str) -> list[Any]:
        """Return the bodies of the requests whose path ends so."""
        return [body for _, path, body in self.requests if path.endswith(f"/{verb}")]

    def answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        """Return status and JSON."""
        with self._lock:
            parts = urlsplit(target)
            self.requests.append((method, parts.path, body))
            if parts.path == "/tokens":
                return 200, {"token": TOKEN}
            if parts.path.startswith("/v1/users/"):
                return self._os_login(method, unquote(parts.path), body)
            if parts.path == "/workspaces":
                return self._list(parse_qs(parts.query))
            found = re.fullmatch(r"/workspaces/([^/]+)(?:/(\w+))?", parts.path)
            if not found or found[1] not in self.workspaces:
                code = "WORKSPACE_NOT_FOUND" if found else "NOT_FOUND"
                return 404, {"code": code, "detail": "There is none."}
            return self._verb(method, self.workspaces[found[1]], found[2], body)

    def _list(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        if "name" in query and self.older:
            problem = {
                "code": "INVALID",
                "errors": [{"field": "name", "message": "is not a field of it"}],
            }
            return 400, problem
        names = query.get("name")
        found = [one for one in self.workspaces.values() if not names or one["name"] in names]
        return 200, found

    def _verb(
        self, method: str, workspace: dict[str, Any], verb: str | None, body: Any
    ) -> tuple[int, Any]:
        self._advance(workspace)
        if self.older and (verb == "connect" or (method == "GET" and verb is None)):
            return 404, {"code": "NOT_FOUND", "detail": "No such path."}
        kind = workspace["operation"] and workspace["operation"]["kind"]
        wants_start = verb == "start" or (verb == "connect" and (body or {}).get("start") is True)
        is_ready = workspace["status"] == "READY" and kind == "SNAPSHOT"
        if wants_start and kind not in {None, "START"} and not is_ready:
            return 409, {"code": "OPERATION_UNDER_WAY", "detail": f"A {kind} is under way."}
        if wants_start and workspace["status"] in {"SUSPENDED", "ERROR"} and kind is None:
            self._begin(workspace, "START")
            workspace["status"] = "PROVISIONING"
        if verb == "stop" and workspace["status"] == "READY" and kind is None:
            self._begin(workspace, "STOP")
        answer = dict(workspace)
        if verb in {"connect", "status"}:
            answer["connection"] = self.connections[workspace["id"]]
        return 202 if workspace["operation"] else 200, answer

    def begin(self, workspace_id: str, kind: str) -> None:
        """Begin an operation, as somebody else would."""
        self._begin(self.workspaces[workspace_id], kind)

    def _begin(self, workspace: dict[str, Any], kind: str) -> None:
        workspace["operation"] = {"id": str(uuid.uuid4()), "kind": kind, "phase": "await_ready"}
        self._left[workspace["id"]] = self.looks

    def _advance(self, workspace: dict[str, Any]) -> None:
        if workspace["operation"] is None:
            return
        self._left[workspace["id"]] -= 1
        if self._left[workspace["id"]] <= 0:
            kind = workspace["operation"]["kind"]
            if kind != "SNAPSHOT":  # which changes nothing
                workspace["status"] = "SUSPENDED" if kind in {"STOP", "ARCHIVE"} else "READY"
            workspace["operation"] = None

    def _os_login(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        email = path.removeprefix("/v1/users/").partition(":")[0].partition("/")[0]
        if method == "POST":
            self.keys.setdefault(email, []).append(body["key"])
            self.on_key()
        accounts = [{"username": "other"}, {"username": self.user, "primary": True}]
        profile = {"name": "1", "posixAccounts": accounts, "sshPublicKeys": {}}
        return 200, {"loginProfile": profile} if method == "POST" else profile


@contextmanager
def running(state_file: Path) -> Iterator[FakeHub]:
    """Serve a Hub, with a state file as a local cloud has it."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            expected = SECRET if self.path.startswith(("/tokens", "/v1/")) else TOKEN
            if self.headers.get("Authorization") != f"Bearer {expected}":
                status, value = 401, {"code": "NOT_SIGNED_IN", "detail": "No valid token."}
            else:
                status, value = hub.answer(self.command, self.path, body)
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815  # the names that the base calls

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    state = {
        "address": hub.address, "pid": os.getpid(), "secret": SECRET,
        "services": {"identity": hub.address},
    }  # fmt: skip
    state_file.parent.mkdir(parents=True, exist_ok=True)
    state_file.write_text(json.dumps(state))
    state_file.chmod(0o600)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
