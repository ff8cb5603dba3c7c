"""An HTTP server that a test's tasks or messages are sent to, and waiting for what it gets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def eventually(condition: Callable[[], Any], timeout_seconds: float = 8) -> None:
    """Wait until the condition holds, and fail if it does not in time."""
    give_up_at = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < give_up_at, "the condition did not hold in time"
        time.sleep(0.002)


@dataclass
class Received:
    """A request that the target received."""

    at: datetime
    method: str
    path: str
    headers: Message
    body: bytes


class Target(ThreadingHTTPServer):
    """A server that keeps the requests for each path, and answers 200 by default."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int = 0) -> None:
        self._lock = threading.Lock()
        self._received: dict[str, list[Received]] = {}
        self._statuses: dict[str, tuple[int, ...]] = {}
        self._gates: dict[str, threading.Event] = {}
        self._open: dict[str, int] = {}
        self.most_open: dict[str, int] = {}
        super().__init__(("127.0.0.1", port), _TargetHandler)

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"http://127.0.0.1:{self.server_port}{path}"

    def received(self, path: str) -> list[Received]:
        """Return the requests for a path so far."""
        with self._lock:
            return list(self._received.get(path, []))

    def open(self, path: str) -> int:
        """Return how many requests for a path are not answered."""
        with self._lock:
            return self._open.get(path, 0)

    def wait_for(self, path: str) -> Received:
        """Wait for the first request for a path and return it."""
        eventually(lambda: self.received(path))
        return self.received(path)[0]

    def answer(self, path: str, *statuses: int) -> None:
        """Answer with these statuses one after the other, and with the last one from then on."""
        self._statuses[path] = statuses

    def hold(self, path: str) -> threading.Event:
        """Delay the answers on this path until the event is set."""
        return self._gates.setdefault(path, threading.Event())

    def take(self, request: Received) -> int:
        """Record a request and return the status for it, once its path is not held."""
        path = request.path
        with self._lock:
            earlier = self._received.setdefault(path, [])
            statuses = self._statuses.get(path, (200,))
            status = statuses[min(len(earlier), len(statuses) - 1)]
            earlier.append(request)
            self._open[path] = self._open.get(path, 0) + 1
            self.most_open[path] = max(self.most_open.get(path, 0), self._open[path])
        gate = self._gates.get(path)
        if gate is not None:
            gate.wait()
        with self._lock:
            self._open[path] -= 1
        return status

    def release_all(self) -> None:
        """Release every path that is held."""
        for gate in self._gates.values():
            gate.set()


class _TargetHandler(BaseHTTPRequestHandler):
    server: Target

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status = self.server.take(
            Received(datetime.now(UTC), self.command, self.path, self.headers, body)
        )
        try:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.send_header("Set-Cookie", "seen=yes; Path=/")
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
        except ConnectionError:
            pass  # the caller did not wait for the answer

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = answer  # noqa: N815 - the base's names

    def log_message(self, *args: object) -> None:
        """Print nothing."""


@contextmanager
def running_target(port: int = 0) -> Iterator[Target]:
    """Run a target; port 0 picks a free one."""
    target = Target(port)
    thread = threading.Thread(target=target.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield target
    finally:
        target.release_all()
        target.shutdown()
        thread.join()
        target.server_close()
