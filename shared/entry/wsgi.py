"""What stands between the server and the framework: how much of a body is read, for how long, and what becomes of the rest.

functions-framework reads all of a body into memory before each answer goes out, however long it is,
so a refusal would cost what the sender likes. Here a body is read only when a function asks for it,
whole, and up to a bound; what nobody asked for is dropped after the answer.
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

MOST_BODY_BYTES = 64 * 1024
BODY_SECONDS = (
    5.0  # to send a whole body; a slow sender holds one of the instance's threads for no longer
)
# Read on after an answer, so that whoever still sends sees the answer before the end: as much as
# Cloud Run takes (32 MiB, its page on quotas), since a proxy that meets a reset says 502 or 503
# instead.
MOST_DROPPED_BYTES = 33 * 1024 * 1024
DROPPING_SECONDS = 1.0
_PIECE = 16 * 1024

_Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class RequestBody:
    """A request's body, in the place of ``wsgi.input``: at most 64 KiB, sent within 5 s, and whole, or refused.

    Made for one request and one thread.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        self._raw: Any = environ["wsgi.input"]
        self._connection: socket.socket | None = environ.get("gunicorn.socket")
        self._length = get_content_length(environ)
        self._chunked = self._length is None and bool(environ.get("HTTP_TRANSFER_ENCODING"))
        self._left = self._chunked or bool(self._length)  # something of it may not have been read
        self._failed = False  # where the next request begins is not known any more
        self._content: io.BytesIO | None = None

    def read(self, size: int = -1) -> bytes:
        """Return the body, or its next ``size`` bytes. Nothing after ``close_to_readers``.

        Raises:
            RequestEntityTooLarge, RequestTimeout, BadRequest: it is too long, too slow, or broke
                off.
        """
        if self._content is None:
            self._content = io.BytesIO()
            self._content = io.BytesIO(self._read_whole(BODY_SECONDS))
        return self._content.read(size)

    def close_to_readers(self) -> None:
        """Be empty from now on: functions-framework reads every request to its end before it answers."""
        self._content = io.BytesIO()

    def drop_rest(self) -> None:
        """Read on for a moment what nobody has asked for, after the answer was sent, and end the connection if there is more.

        A short body leaves the connection as it should be for the next request. An end with unread
        bytes is a reset, which may overtake the answer.
        """
        connection = self._connection
        if not self._left or connection is None:
            return
        if (self._length or 0) <= MOST_BODY_BYTES and not self._failed:
            with contextlib.suppress(HTTPException):
                self._read_whole(DROPPING_SECONDS)
                return
        # gunicorn's: the next request does not begin where its parser is, so there must be none
        self._raw.failed = True
        ends_at, left, piece = (
            time.monotonic() + DROPPING_SECONDS,
            MOST_DROPPED_BYTES,
            bytearray(_PIECE),
        )
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            while left > 0 and (seconds := ends_at - time.monotonic()) > 0:
                connection.settimeout(seconds)
                received = connection.recv_into(piece)
                if not received:
                    break
                left -= received
        with contextlib.suppress(OSError):
            # An end by reset: without it, whoever still sends waits for a window that nobody opens
            # any more.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RDWR)

    def _read_whole(self, seconds: float) -> bytes:
        if not self._left:
            return b""
        if self._length is not None and self._length > MOST_BODY_BYTES:
            raise _too_large()
        self._failed, late = True, threading.Event()
        with self._no_longer_than(seconds, late):
            content = self._received()
        if late.is_set():
            raise RequestTimeout(
                f"The body did not come within {seconds:g} seconds. Send it at once."
            )
        if content is None or len(content) < (self._length or 0):
            raise BadRequest(
                "The body broke off, or its chunks are malformed. Send the request again."
            )
        if len(content) > MOST_BODY_BYTES:
            raise _too_large()
        self._failed = self._left = False
        return content

    def _received(self) -> bytes | None:
        """Return what came, one byte more than may come at most; None if the server could not make sense of it."""
        try:
            received: bytes = self._raw.read(MOST_BODY_BYTES + 1)
        except Exception:  # noqa: BLE001 -- each server has its own for chunks that are none, and for an early end
            return None
        return received

    @contextlib.contextmanager
    def _no_longer_than(self, seconds: float, late: threading.Event) -> Iterator[None]:
        """End the reading from outside when its time is over: the server waits for each byte as long as the connection is open."""
        connection = self._connection
        if connection is None:
            yield
            return
        if (
            self._chunked
        ):  # what a chunk announces, the server receives in one piece, as far as it is there
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MOST_BODY_BYTES)

        first = threading.Lock()  # held by whoever ends the reading: the reader, or the timer

        def end() -> None:
            if first.acquire(blocking=False):
                late.set()
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if not first.acquire(blocking=False):
                late.wait()  # the timer has won, and says so in a moment


def guard(app: flask.Flask) -> None:
    """Have an application's requests come with a ``RequestBody``."""
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


def _too_large() -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"The body may have {MOST_BODY_BYTES} bytes.")
