"""How a request's body is read and dropped, on a connection that the test controls."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from shared.entry.deadlines import Deadlines
from shared.entry.wsgi import MOST_BODY_BYTES, RequestBody


class ServersBody(io.BytesIO):
    """The body as gunicorn has it. If ``failed`` is set, the connection is not used again."""

    failed = False


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a connection: the function's and the sender's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def body_of(content: bytes, **environ: Any) -> tuple[RequestBody, ServersBody]:
    """Return a request's body, and the server's body that it reads."""
    raw = ServersBody(content)
    return RequestBody({"wsgi.input": raw, **environ}), raw


def test_a_long_body_that_is_dropped_ends_the_connection(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    """The server's parser is in the middle of the body.

    It could serve a request that is hidden there.
    """
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
    """This holds if the body was read and if it was not."""
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


def test_a_short_unread_body_is_read_to_its_end(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    """Then the connection can be used for the next request."""
    body, raw = body_of(
        b'{"name": "one"}', CONTENT_LENGTH="15", **{"gunicorn.socket": connection[0]}
    )
    body.drop_rest()
    assert (raw.read(), raw.failed) == (b"", False)
    connection[1].sendall(b"next")
    assert connection[0].recv(4) == b"next"


def test_a_body_is_read_once_and_whole() -> None:
    """It can be read in pieces, too. After the answer it is empty."""
    body, _ = body_of(b"0123456789", CONTENT_LENGTH="10")
    assert (body.read(4), body.read(), body.read()) == (b"0123", b"456789", b"")
    again, _ = body_of(b"0123456789", CONTENT_LENGTH="10")
    again.close_to_readers()
    assert again.read() == b""


def test_a_body_that_is_shorter_than_announced_is_refused() -> None:
    """The part that was received is not used."""
    body, _ = body_of(b"0123", CONTENT_LENGTH="10")
    with pytest.raises(BadRequest):
        body.read()
    assert body.read() == b""


def test_a_limit_that_comes_late_leaves_the_connection_alone(
    connection: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time may be up after the body was read.

    Then the connection belongs to the next request.
    """
    begun: list[Callable[[], None]] = []

    def note_beginning(_: Deadlines, _seconds: float, do: Callable[[], None]) -> object:
        begun.append(do)
        return do

    monkeypatch.setattr(Deadlines, "begin", note_beginning)
    body, _ = body_of(b"0123456789", CONTENT_LENGTH="10", **{"gunicorn.socket": connection[0]})
    assert body.read() == b"0123456789"

    [end] = begun
    end()

    connection[1].sendall(b"next")
    assert connection[0].recv(4) == b"next"
