"""Servers for adapters: with scripted answers, refusing, silent, or answering without an end."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import grpc
import pytest

from shared.domain.errors import UnavailableError

HURRIED_SECONDS = 0.5
PATIENCE_SECONDS = 10.0  # for events that take less than a second


@dataclass(frozen=True)
class Request:
    """A request as the server received it."""

    at: datetime
    method: str
    path: str
    headers: Message
    body: bytes


@dataclass(frozen=True)
class Answer:
    """An answer of the server. ``headers`` replace the default ones."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def json_answer(body: object, status: int = 200, **headers: str) -> Answer:
    """Return an answer in JSON; an underscore in a header's name stands for a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json", **named})


def refusal(status: int, reason: str, message: str = "Compute says no.") -> Answer:
    """Return a Google API's error document with one reason."""
    error = {"message": message, "domain": "global", "reason": reason}
    return json_answer({"error": {"code": status, "message": message, "errors": [error]}}, status)


class Responder:
    """An HTTP server that records each request and answers it as the test says.

    A test may change the attributes at any time.

    Attributes:
        answer: the answer to each request.
        answers: answers by HTTP method, which are used first.
        answering: while it is cleared, requests are accepted and wait.
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
        """The server's address, ``host:port``."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """The server's URL, without a slash at the end."""
        return f"http://{self.address}"

    def close(self) -> None:
        """Stop the server: connections are refused. A second call has no effect."""
        if self._thread.is_alive():
            self.answering.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@contextlib.contextmanager
def unanswering(how: str) -> Iterator[str]:
    """Yield a ``host:port`` without answers.

    ``closed`` refuses each connection, and ``silent`` accepts it and sends nothing.
    """
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        if how == "silent":
            held.listen()
        yield f"127.0.0.1:{held.getsockname()[1]}"


@contextlib.contextmanager
def dripping() -> Iterator[str]:
    """Yield a ``host:port`` that answers the first connection without an end, a byte at a time.

    No pause between two bytes reaches a timeout.
    """
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


@contextlib.contextmanager
def losing_answers(address: str, code: grpc.StatusCode) -> Iterator[str]:
    """Yield the ``host:port`` of a proxy for a gRPC server's calls of one message.

    It passes each call on, but answers the first one with ``code``.
    """
    first = threading.Lock()
    channel = grpc.insecure_channel(address)

    class Proxy(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
            passed_on: Callable[..., bytes] = channel.unary_unary(details.method)

            def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
                try:
                    answer = passed_on(request, timeout=PATIENCE_SECONDS)
                except grpc.RpcError as error:
                    context.abort(error.code(), error.details() or "")
                if first.acquire(blocking=False):
                    context.abort(code, "the answer is lost")
                return answer

            return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((Proxy(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
        channel.close()


def hurry(monkeypatch: pytest.MonkeyPatch, adapter: ModuleType) -> None:
    """Have an adapter give up after half a second.

    This works for adapters with their own deadlines; the library's are minutes.
    """
    monkeypatch.setattr(adapter, "TIMEOUT_SECONDS", HURRIED_SECONDS)
    monkeypatch.setattr(adapter, "_RETRY", vars(adapter)["_RETRY"].with_timeout(HURRIED_SECONDS))


def assert_told_in_time(calls: Mapping[str, Callable[[], object]]) -> None:
    """Assert that all calls, made at the same time, end in time with an ``UnavailableError``.

    A call that takes longer fails the test, and stays behind in its thread.
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
