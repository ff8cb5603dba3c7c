"""Limits how much of a request's body is read and for how long, between server and framework.

functions-framework reads a whole body of any length into memory before it sends an answer. So the
sender would decide how much a refusal costs. With this module a body is read only when a function
asks for it, as a whole, and up to a limit. An unread body is dropped after the answer.
"""

import contextlib
import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flask
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, RequestTimeout
from werkzeug.wsgi import ClosingIterator, get_content_length

from shared.entry.deadlines import Deadlines

MOST_BODY_BYTES = 64 * 1024
# The time for a whole body, and the longest that a slow sender occupies one of the instance's
# threads.
BODY_SECONDS = 5.0
# How much is read on after an answer, so that a sender who still sends sees the answer before the
# end. It is more than Cloud Run accepts (32 MiB, source: its page on quotas). A proxy that meets a
# reset would answer 502 or 503 instead.
MOST_DROPPED_BYTES = 33 * 1024 * 1024
DROPPING_SECONDS = 1.0
_PIECE_BYTES = 16 * 1024
_deadlines = Deadlines()

_Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class RequestBody:
    """A request's body, instead of ``wsgi.input``.

    A body that is longer than 64 KiB, takes longer than 5 s or is not complete is refused. An
    object is for one request and one thread.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        self._raw: Any = environ["wsgi.input"]
        self._connection: socket.socket | None = environ.get("gunicorn.socket")
        self._length = get_content_length(environ)
        self._chunked = self._length is None and bool(environ.get("HTTP_TRANSFER_ENCODING"))
        self._is_unread = self._chunked or bool(self._length)  # a part of it may be unread
        # Whether a read failed. Then it is not known where the next request begins.
        self._failed = False
        self._content: io.BytesIO | None = None

    def read(self, size: int = -1) -> bytes:
        """Return the body, or its next ``size`` bytes. After ``close_to_readers`` it is empty.

        Raises:
            RequestEntityTooLarge, RequestTimeout, BadRequest: it is too long, too slow, or
                incomplete.
        """
        if self._content is None:
            self._content = io.BytesIO()
            self._content = io.BytesIO(self._read_whole(BODY_SECONDS))
        return self._content.read(size)

    def close_to_readers(self) -> None:
        """Make the body empty, since functions-framework reads each request before it answers."""
        self._content = io.BytesIO()

    def drop_rest(self) -> None:
        """Read an unread body for a moment after the answer. Close the connection if there is more.

        If the body is short and read to its end, the connection can take the next request. To close
        a connection with unread bytes resets it, and the reset may overtake the answer.
        """
        connection = self._connection
        if not self._is_unread or connection is None:
            return
        if (self._length or 0) <= MOST_BODY_BYTES and not self._failed:
            with contextlib.suppress(HTTPException):
                self._read_whole(DROPPING_SECONDS)
                return
        # This tells gunicorn to take no further request from this connection: the next one would
        # not begin where gunicorn's parser is.
        self._raw.failed = True
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            _drop_received(connection)
        with contextlib.suppress(OSError):
            # The connection ends by a reset. Otherwise a sender who still sends would wait for a
            # TCP window that never opens again.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RDWR)

    def _read_whole(self, seconds: float) -> bytes:
        if not self._is_unread:
            return b""
        if self._length is not None and self._length > MOST_BODY_BYTES:
            raise _too_large()
        self._failed, late = True, threading.Event()
        with self._time_limit(seconds, late):
            content = self._received()
        if late.is_set():
            raise RequestTimeout(
                f"The body did not come within {seconds:g} seconds. Send it at once."
            )
        if content is None or len(content) < (self._length or 0):
            raise BadRequest(
                "The body is incomplete, or its chunks are malformed. Send the request again."
            )
        if len(content) > MOST_BODY_BYTES:
            raise _too_large()
        self._failed = self._is_unread = False
        return content

    def _received(self) -> bytes | None:
        """Return the received bytes, one above the limit at most; None if they are malformed."""
        try:
            received: bytes = self._raw.read(MOST_BODY_BYTES + 1)
        except Exception:  # noqa: BLE001 -- servers differ in their errors
            return None
        return received

    @contextlib.contextmanager
    def _time_limit(self, seconds: float, late: threading.Event) -> Iterator[None]:
        """End a read from outside after its time, and set ``late``.

        The server waits for each byte as long as the connection is open.
        """
        connection = self._connection
        if connection is None:
            yield
            return
        if self._chunked:
            # The server receives as much of an announced chunk as has arrived, in one piece.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MOST_BODY_BYTES)

        ended = threading.Lock()  # whoever ends the read takes it: the reader, or its time

        def end() -> None:
            if ended.acquire(blocking=False):
                late.set()
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)

        limit = _deadlines.begin(seconds, end)
        try:
            yield
        finally:
            _deadlines.cancel(limit)
            if not ended.acquire(blocking=False):
                late.wait()  # the time was up first, and ``late`` is set in a moment


def guard(app: flask.Flask) -> None:
    """Give each request of an application a ``RequestBody``."""
    inner: _Wsgi = app.wsgi_app

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = RequestBody(environ)
        environ["wsgi.input"] = body
        environ["wsgi.input_terminated"] = True
        return ClosingIterator(inner(environ, start_response), body.drop_rest)

    app.wsgi_app = guarded  # type: ignore[method-assign]


def body_of(request: flask.Request) -> RequestBody:
    """Return the body of a request that came through ``guard``."""
    body = request.environ["wsgi.input"]
    assert isinstance(body, RequestBody)  # noqa: S101 -- every function's application is guarded
    return body


def _drop_received(connection: socket.socket) -> None:
    """Receive and drop bytes until the sender ends, for ``DROPPING_SECONDS`` at most."""
    ends_at, left = time.monotonic() + DROPPING_SECONDS, MOST_DROPPED_BYTES
    piece = bytearray(_PIECE_BYTES)
    while left > 0 and (seconds := ends_at - time.monotonic()) > 0:
        connection.settimeout(seconds)
        received = connection.recv_into(piece)
        if not received:
            break
        left -= received


def _too_large() -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"The body may have {MOST_BODY_BYTES} bytes.")
