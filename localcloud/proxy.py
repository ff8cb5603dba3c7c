"""Hands HTTP requests on to another server, streamed and otherwise as they came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from multidict import CIMultiDictProxy

LOOPBACK: Final = "127.0.0.1"

# These belong to one connection, not to the message (RFC 9110, section 7.6.1). `Expect` has been answered here.
_OF_THE_CONNECTION: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)
_ADDED_BY_THE_CLIENT: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_KEEPALIVE_SECONDS: Final = 1.0  # less than any server's: none is met that is just being closed
_HEADERS_LIMIT: Final = 32 * 1024


class BodyTooLargeError(Exception):
    """A request's body is larger than allowed."""


class PortServer:
    """One port of the loopback address.

    Args:
        routes: what answers which requests.
        port: 0 picks a free one.
    """

    def __init__(self, routes: Sequence[web.RouteDef], port: int = 0) -> None:
        self.port = port
        app = web.Application()
        app.add_routes(routes)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            max_line_size=_HEADERS_LIMIT,
            max_field_size=_HEADERS_LIMIT,
            shutdown_timeout=0.5,
        )

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        """Serve; from now on `port` and `url` are the real ones.

        Raises:
            OSError: the port is taken.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop serving, half a second after which requests under way are cut off."""
        await self._runner.cleanup()


def everything(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> list[web.RouteDef]:
    """Return the routes of a server on which one handler gets every request."""
    return [web.route("*", r"/{path:[\s\S]*}", handler)]  # a path may have a line feed in it, too


def new_session(*, reuse_connections: bool = True) -> aiohttp.ClientSession:
    """Return a client that changes nothing about what it sends and gets."""
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
        max_line_size=_HEADERS_LIMIT,
        max_field_size=_HEADERS_LIMIT,
    )


def headers_to_hand_on(request: web.Request) -> CIMultiDict[str]:
    """Return the headers that the next server is to see; the caller may change them."""
    headers = _end_to_end(request.headers)
    forwarded_for = [*request.headers.getall("X-Forwarded-For", ()), request.remote or ""]
    headers["X-Forwarded-For"] = ", ".join(forwarded_for)
    headers["X-Forwarded-Proto"] = request.scheme
    return headers


async def send_on(
    session: aiohttp.ClientSession,
    request: web.Request,
    server: str,
    headers: CIMultiDict[str],
    *,
    body_limit: int | None = None,
    copy: bytearray | None = None,
) -> aiohttp.ClientResponse:
    """Send a request on to `server` (a URL without a path) and return the answer, for `hand_back`; its body is also added to `copy`.

    Raises:
        BodyTooLargeError: the body turned out to be larger than `body_limit` bytes.
        aiohttp.ClientError: there is no server, or it broke off.
    """
    body = _Body(request, body_limit, copy)
    try:
        return await session.request(
            request.method,
            URL(server + request.rel_url.raw_path_qs, encoded=True),
            headers=headers,
            data=body.chunks() if request.body_exists else None,
            allow_redirects=False,
        )
    except aiohttp.ClientError:
        if body.is_too_large:
            raise BodyTooLargeError from None
        raise


async def hand_back(
    request: web.Request, answer: aiohttp.ClientResponse, copy: bytearray | None = None
) -> web.StreamResponse:
    """Give a server's answer to the client; its body is also added to `copy`.

    Raises:
        ConnectionAbortedError: either side broke off in the middle of it; nothing else can be answered any more.
    """
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers))
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

    def __init__(self, request: web.Request, limit: int | None, copy: bytearray | None) -> None:
        self.is_too_large = False
        self._copy = copy
        self._request = request
        self._limit = limit

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
    """Return a message's headers without those that are meant for the next hop only."""
    named = {name.strip().lower() for value in headers.getall("Connection", ()) for name in value.split(",")}
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in _OF_THE_CONNECTION | named
    )
