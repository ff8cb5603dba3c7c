"""Servers as adapters meet them: one that answers what it is told, one that refuses, one that says nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import pytest

from shared.domain.errors import UnavailableError

HURRIED_SECONDS = 0.5
PATIENCE_SECONDS = 10.0  # for what takes a part of a second


@dataclass(frozen=True)
class Request:
    """A request as it came in."""

    at: datetime
    method: str
    path: str
    headers: Message
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What is answered. ``headers`` replace those that follow from the rest."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def json_answer(body: object, status: int = 200, **headers: str) -> Answer:
    """Return an answer in JSON; an underscore in a header's name stands for a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json", **named})


def refusal(status: int, reason: str, message: str = "Compute says no.") -> Answer:
    """Return the error document of a Google API that says one thing."""
    error = {"message": message, "domain": "global", "reason": reason}
    return json_answer({"error": {"code": status, "message": message, "errors": [error]}}, status)


class Responder:
    """An HTTP server that remembers every request and answers each with ``answer``, which a test may replace at any time.

    ``answers`` has answers for one HTTP method only, which go before it. While ``answering`` is
    cleared, requests are taken and wait.
    """

    def __init__(self) -> None:
        self.answer = Answer()
        self.answers: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.answering = threading.Event()
        self.answering.set()
        responder = self

        class Handler(BaseHTTPRequestHandler):
            def respond(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                responder.requests.append(
                    Request(datetime.now(UTC), self.command, self.path, self.headers, body)
                )
                responder.answering.wait()
                answer = responder.answers.get(self.command, responder.answer)
                self.send_response(answer.status)
                for name, value in {
                    "Content-Length": str(len(answer.body)),
                    **answer.headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST = do_DELETE = respond  # noqa: N815 -- the base's names

            def log_message(self, *args: Any) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it listens, ``host:port``."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://{self.address}"

    def close(self) -> None:
        """Serve nothing any more; whoever connects is refused. Without effect the second time."""
        if self._thread.is_alive():
            self.answering.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@contextlib.contextmanager
def unanswering(how: str) -> Iterator[str]:
    """Yield a ``host:port`` that nobody answers at: ``closed`` refuses each connection, ``silent`` takes it and says nothing."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        if how == "silent":
            held.listen()
        yield f"127.0.0.1:{held.getsockname()[1]}"


@contextlib.contextmanager
def dripping() -> Iterator[str]:
    """Yield a ``host:port`` that answers the first who comes, a byte at a time and without an end: no pause is worth giving up for."""
    over = threading.Event()

    def drip(listening: socket.socket) -> None:
        answering, _ = listening.accept()
        with answering, contextlib.suppress(OSError):
            answering.sendall(b"HTTP/1.1 200 OK\r\nServer: ")
            while not over.wait(0.02):
                answering.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        over.set()
        thread.join()


def hurry(monkeypatch: pytest.MonkeyPatch, adapter: ModuleType) -> None:
    """Have an adapter give up after half a second, where it goes by its own deadlines; the library's take minutes."""
    monkeypatch.setattr(adapter, "TIMEOUT_SECONDS", HURRIED_SECONDS)
    monkeypatch.setattr(adapter, "_RETRY", vars(adapter)["_RETRY"].with_timeout(HURRIED_SECONDS))


def assert_told_in_time(calls: Mapping[str, Callable[[], object]]) -> None:
    """See that all calls, made at once, end in `UnavailableError` before anybody is tired of waiting.

    One that goes on longer is left behind in its thread: it fails the test, and keeps nobody else.
    """
    ends: dict[str, object] = {}

    def end(name: str, call: Callable[[], object]) -> None:
        try:
            ends[name] = call()
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is compared below
            ends[name] = error

    threads = [threading.Thread(target=end, args=named, daemon=True) for named in calls.items()]
    for thread in threads:
        thread.start()
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    for thread in threads:
        thread.join(max(0.0, give_up_at - time.monotonic()))
    wrong = {
        name: ends.get(name, "has not ended")
        for name in calls
        if not isinstance(ends.get(name), UnavailableError)
    }
    assert not wrong
