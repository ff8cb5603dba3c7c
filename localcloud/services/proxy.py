"""How HTTP requests are passed on to another server: streamed, and otherwise as they came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from localcloud.services.http_server import HEADER_LIMIT_BYTES

# These belong to one connection, not to the message (RFC 9110, section 7.6.1). ``Expect`` has been
# answered here.
_CONNECTION_HEADERS = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
    }
)
_ADDED_BY_THE_CLIENT = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
# Shorter than that of any server, so that no request meets a connection that is being closed.
_KEEPALIVE_SECONDS = 1.0


class BodyTooLargeError(Exception):
    """The body of a request is larger than allowed."""


@dataclass(frozen=True, kw_only=True)
class Forwarding:
    """What changes about a request that is forwarded.

    Attributes:
        headers: the headers of the new request.
        body_limit: the largest body, in bytes; None is no limit.
        copy: the body is added to it, if it is given.
    """

    headers: CIMultiDict[str]
    body_limit: int | None = None
    copy: bytearray | None = None


def catch_all_routes(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> list[web.RouteDef]:
    """Return the routes of a server on which one handler gets every request."""
    return [web.route("*", r"/{path:[\s\S]*}", handler)]  # a path may contain a line feed


def new_session(*, reuse_connections: bool = True) -> aiohttp.ClientSession:
    """Return a client that sends and receives everything unchanged."""
    if reuse_connections:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS)
    else:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(
        auto_decompress=False,
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(),
        skip_auto_headers=_ADDED_BY_THE_CLIENT,
        max_line_size=HEADER_LIMIT_BYTES,
        max_field_size=HEADER_LIMIT_BYTES,
    )


def headers_to_forward(request: web.Request) -> CIMultiDict[str]:
    """Return the headers that the next server gets; the caller may change them.

    A name with ``_`` in it is left out: for WSGI it equals the name with ``-``, and ``SCRIPT_NAME``
    changes the path. nginx and gunicorn leave such names out too. What Google's front ends do is
    not published.
    """
    headers = CIMultiDict(
        (name, value) for name, value in _end_to_end(request.headers).items() if "_" not in name
    )
    forwarded_for = [*request.headers.getall("X-Forwarded-For", ()), request.remote or ""]
    headers["X-Forwarded-For"] = ", ".join(forwarded_for)
    headers["X-Forwarded-Proto"] = request.scheme
    return headers


async def forward_request(
    session: aiohttp.ClientSession, request: web.Request, server: str, forwarding: Forwarding
) -> aiohttp.ClientResponse:
    """Send a request to another server and return the answer, for ``return_answer``.

    Args:
        session: the connections.
        request: the request.
        server: the other server, a URL without a path.
        forwarding: what changes.

    Raises:
        BodyTooLargeError: the body turned out to be larger than the limit.
        aiohttp.ClientError: there is no server, or it broke the connection.
    """
    body = _Body(request, forwarding)
    try:
        return await session.request(
            request.method,
            URL(server + request.rel_url.raw_path_qs, encoded=True),
            headers=forwarding.headers,
            data=body.chunks() if request.body_exists else None,
            allow_redirects=False,
        )
    except aiohttp.ClientError:
        if body.is_too_large:
            raise BodyTooLargeError from None
        raise


async def return_answer(
    request: web.Request, answer: aiohttp.ClientResponse, copy: bytearray | None = None
) -> web.StreamResponse:
    """Return a server's answer to the client; its body is also added to ``copy``.

    Raises:
        ConnectionAbortedError: either side broke the connection in the middle of the answer; no
            other answer is possible any more.
    """
    response = web.StreamResponse(
        status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers)
    )
    async with answer:
        try:
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
                if copy is not None:
                    copy += chunk
            await response.write_eof()
        except aiohttp.ClientError as error:
            raise ConnectionAbortedError(str(error)) from error
    return response


class _Body:
    """The body of a request, as it arrives."""

    def __init__(self, request: web.Request, forwarding: Forwarding) -> None:
        self.is_too_large = False
        self._request = request
        self._limit = forwarding.body_limit
        self._copy = forwarding.copy

    async def chunks(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._request.content.iter_any():
            size += len(chunk)
            if self._limit is not None and size > self._limit:
                self.is_too_large = True
                raise BodyTooLargeError
            if self._copy is not None:
                self._copy += chunk
            yield chunk


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return a message's headers without those that are for the next server only."""
    named = {
        name.strip().lower()
        for value in headers.getall("Connection", ())
        for name in value.split(",")
    }
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _CONNECTION_HEADERS | named
    )
