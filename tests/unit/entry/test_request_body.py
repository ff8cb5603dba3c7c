"""What becomes of a request's body, on a connection that is in the test's hands."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from shared.entry.wsgi import MOST_BODY_BYTES, RequestBody


class ServersBody(io.BytesIO):
    """As gunicorn has it: where ``failed`` is set, the connection is not used again."""

    failed = False


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a connection: the function's, and the sender's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def body_of(content: bytes, **environ: Any) -> tuple[RequestBody, ServersBody]:
    """Return a request's body, and the server's below it."""
    raw = ServersBody(content)
    return RequestBody({"wsgi.input": raw, **environ}), raw


def test_a_long_body_that_is_dropped_ends_the_connection(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    """The server's parser is not where the next request begins: with what it finds there, it would serve a hidden one."""
    ours, theirs = connection
    body, raw = body_of(b"", CONTENT_LENGTH=str(10 * MOST_BODY_BYTES), **{"gunicorn.socket": ours})
    theirs.sendall(b"x" * 1000)
    theirs.shutdown(socket.SHUT_WR)

    body.drop_rest()

    assert raw.failed
    assert theirs.recv(1) == b""


def test_a_chunked_body_that_is_too_long_ends_the_connection(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    """Whether anybody has asked for it or not."""
    ours, theirs = connection
    theirs.shutdown(socket.SHUT_WR)
    for asked_for in (True, False):
        body, raw = body_of(
            b"x" * (MOST_BODY_BYTES + 1),
            HTTP_TRANSFER_ENCODING="chunked",
            **{"gunicorn.socket": ours},
        )
        if asked_for:
            with pytest.raises(RequestEntityTooLarge):
                body.read()
        body.drop_rest()
        assert raw.failed


def test_a_short_body_that_nobody_asked_for_is_read_to_its_end(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    """The connection is as it should be for the next request."""
    body, raw = body_of(
        b'{"name": "one"}', CONTENT_LENGTH="15", **{"gunicorn.socket": connection[0]}
    )
    body.drop_rest()
    assert (raw.read(), raw.failed) == (b"", False)
    connection[1].sendall(b"next")
    assert connection[0].recv(4) == b"next"


def test_a_body_is_read_once_and_whole() -> None:
    """In pieces, too; and after an answer there is nothing more."""
    body, _ = body_of(b"0123456789", CONTENT_LENGTH="10")
    assert (body.read(4), body.read(), body.read()) == (b"0123", b"456789", b"")
    again, _ = body_of(b"0123456789", CONTENT_LENGTH="10")
    again.close_to_readers()
    assert again.read() == b""


def test_a_body_that_is_shorter_than_announced_is_refused() -> None:
    """It broke off: what is there is not believed."""
    body, _ = body_of(b"0123", CONTENT_LENGTH="10")
    with pytest.raises(BadRequest):
        body.read()
    assert body.read() == b""


def test_a_timer_that_comes_late_leaves_the_connection_alone(
    connection: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have begun when the body was there: the connection is the next request's by then."""
    begun: list[threading.Timer] = []
    monkeypatch.setattr(threading.Timer, "start", lambda timer: begun.append(timer))  # noqa: PLW0108 -- it becomes a method
    body, _ = body_of(b"0123456789", CONTENT_LENGTH="10", **{"gunicorn.socket": connection[0]})
    assert body.read() == b"0123456789"

    [timer] = begun
    timer.function()

    connection[1].sendall(b"next")
    assert connection[0].recv(4) == b"next"
