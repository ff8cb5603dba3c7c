"""A small HTTP server that answers as a test says: a Hub of any version, a hostile one, or none."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

API = {"name": "Workspace Hub", "version": "0.2.0", "api": 1}
TUNNEL = {"kind": "iap", "port": 22, "jump": None, "user": None}
SIGN_IN = {
    "hub": API,
    "address": None,
    "methods": [{"kind": "gcloud", "audience": None}],
    "connect": TUNNEL,
    "features": ["connect", "name_filter", "host_key", "access"],
}


@dataclass
class Reply:
    """An answer. ``body`` is sent as JSON; bytes are sent as they are. Status 0 is no answer."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass
class Seen:
    """A request that came."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Message
    body: Any


def workspace(name: str = "api", **fields: Any) -> dict[str, Any]:
    """Return a workspace as the API has it."""
    workspace_id = fields.pop("id", None) or str(uuid.uuid4())
    return {
        "id": workspace_id,
        "name": name,
        "owner_id": "470597583915671017846",
        "owner_email": "alice@example.com",
        "project_id": "project",
        "instance_name": f"workspace-{workspace_id}",
        "zone": "us-west1-a",
        "machine_type": "e2-standard-8",
        "image_tag": "latest",
        "status": "READY",
        "operation": None,
        "error": None,
        "created_at": "2026-11-23T17:47:12.744823Z",
        "updated_at": "2026-11-23T17:47:12.744823Z",
        "last_connected_at": "2026-11-23T17:47:12.744823Z",
        "last_activity": "created",
        "last_device_id": "laptop",
        "suspended_at": None,
        "stopped_because": None,
        "memory_kept": True,
        "memory_lost_because": None,
        "stops_at": "2026-11-23T18:47:12.744823Z",
        "deletes_at": None,
        "renewal": None,
        "generation": 1,
        "metadata": {"repo": "https://github.com/example/api", "branch": "main", "device_id": "x"},
        **fields,
    }


def operation(kind: str = "START", phase: str = "await_ready") -> dict[str, Any]:
    """Return an operation as the API has it."""
    return {
        "id": str(uuid.uuid4()),
        "kind": kind,
        "phase": phase,
        "requested_by": "470597583915671017846",
        "requested_at": "2026-11-23T17:47:12.744823Z",
        "deadline_at": "2026-11-23T18:02:12.744823Z",
        "automatic": False,
        "zones_tried": ["us-west1-b"],
    }


def snapshot(name: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a snapshot as the API has it."""
    return {
        "id": str(uuid.uuid4()),
        "workspace_id": str(uuid.uuid4()),
        "name": name,
        "state": "READY",
        "automatic": False,
        "consistency": "crash",
        "asked_at": "2026-11-23T17:47:12.744823Z",
        "captured_at": "2026-11-23T17:47:16.744823Z",
        "ready_at": "2026-11-23T17:49:12.744823Z",
        "disk_gb": 50,
        "stored_bytes": 3650722201,
        "zone": "us-west1-a",
        "machine_type": "e2-standard-8",
        "image_tag": "latest",
        "metadata": {"repo": "https://github.com/example/api", "branch": "main"},
        "error": None,
        **fields,
    }


def snapshots(*listed: Any, next_at: str | None = None) -> dict[str, Any]:
    """Return a list of snapshots as the API has it."""
    return {"snapshots": list(listed), "most": 5, "next_at": next_at}


def deleted(name: str = "api", **fields: Any) -> dict[str, Any]:
    """Return a deleted workspace as the API has it."""
    return {
        "id": str(uuid.uuid4()),
        "name": name,
        "owner_id": "470597583915671017846",
        "owner_email": "alice@example.com",
        "deleted_at": "2026-11-23T17:47:12.744823Z",
        "deleted_by": "470597583915671017846",
        "automatic": False,
        "until": "2026-11-30T17:46:12.744823Z",
        "machine_type": "e2-standard-8",
        "image_tag": "latest",
        "metadata": {"repo": "https://github.com/example/api", "branch": "main"},
        "snapshots": 3,
        "disk_gb": 50,
        **fields,
    }


def problem(status: int, code: str, detail: str, **more: Any) -> Reply:
    """Return a problem+json."""
    body = {"status": status, "title": "No", "detail": detail, "code": code, **more}
    return Reply(status, body, content_type="application/problem+json")


class ScriptedHub(ThreadingHTTPServer):
    """A server on a free port of this machine; a context.

    By default it has the workspaces in ``workspaces``, and ``answers`` goes before that.

    Attributes:
        answers: returns an answer, or None for the default.
        seen: all requests, oldest first.
        sign_in: what ``GET /sign-in`` answers; None: 404, as an older Hub does.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: Callable[[Seen], Reply | None] = lambda _: None
        self.workspaces: list[Any] = []
        self.sign_in: Any = SIGN_IN
        self.seen: list[Seen] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has gone."""

    @property
    def address(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def always(self, reply: Reply) -> None:
        """Answer so to everything from now on."""
        self.answers = lambda _: reply

    def paths(self) -> list[str]:
        """Return method and path of all requests."""
        return [f"{each.method} {each.path}" for each in self.seen]

    def answer(self, seen: Seen) -> Reply:
        """Return what is answered."""
        given = self.answers(seen)
        if given is not None:
            return given
        parts = seen.path.strip("/").split("/")
        if seen.path == "/sign-in":
            unknown = problem(404, "NOT_FOUND", "The Hub has no such path.")
            return unknown if self.sign_in is None else Reply(body=self.sign_in)
        if seen.path == "/workspaces" and seen.method == "POST":
            made = workspace(seen.body["name"])
            self.workspaces.append(made)
            return Reply(201, made)
        if seen.path == "/workspaces":
            names = seen.query.get("name")
            return Reply(
                body=[each for each in self.workspaces if not names or each["name"] in names]
            )
        found = [each for each in self.workspaces if len(parts) > 1 and each["id"] == parts[1]]
        if not found or parts[0] != "workspaces":
            return problem(404, "WORKSPACE_NOT_FOUND", "There is no such workspace.")
        if parts[2:] == ["events"]:
            return Reply(body=[])
        return Reply(body=found[0])


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedHub
    protocol_version = "HTTP/1.1"
    timeout = 30

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(content) if content else None
        seen = Seen(self.command, parts.path, parse_qs(parts.query), self.headers, body)
        self.server.seen.append(seen)
        reply = self.server.answer(seen)
        if not reply.status:
            self.close_connection = True
            return
        is_raw = isinstance(reply.body, bytes)
        content = reply.body if is_raw else json.dumps(reply.body).encode()
        if reply.body is None:
            content = b""
        self.send_response_only(reply.status)
        told = {"Content-Type": reply.content_type, "Content-Length": str(len(content))}
        for name, value in {**told, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815  # the base's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Write nothing."""
