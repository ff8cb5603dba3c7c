"""Serves on one port of the loopback address, and hands HTTP requests on to another server, streamed and otherwise as they came.

Loopback keeps other machines out, but not the web pages in this machine's browser. A page can send
a request to any port, and read the answer too, once its own name resolves to 127.0.0.1 (DNS
rebinding). `guard` keeps them off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from aiohttp.typedefs import Handler, Middleware
    from multidict import CIMultiDictProxy

    # Answers what is not to be served in the form of a server's own errors; its arguments are the
    # request, the HTTP status and a text that says what to do next.
    Refuse = Callable[[web.Request, int, str], web.StreamResponse]

LOOPBACK: Final = "127.0.0.1"

_NAMES: Final = (LOOPBACK, "localhost", "[::1]")
_HTTP_PORT: Final = 80  # a browser leaves it out
_OWN_SITE: Final = frozenset({"same-origin", "none"})

# These belong to one connection, not to the message (RFC 9110, section 7.6.1). `Expect` has been
# answered here.
_OF_THE_CONNECTION: Final = frozenset(
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
_ADDED_BY_THE_CLIENT: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_KEEPALIVE_SECONDS: Final = 1.0  # less than any server's: none is met that is just being closed
_HEADERS_LIMIT: Final = 32 * 1024


class BodyTooLargeError(Exception):
    """A request's body is larger than allowed."""


def own_hosts(port: int) -> frozenset[str]:
    """Return what the `Host` header of a request says, in lower case, that was meant for this port of this machine.

    It is compared whole and never taken apart: that `localhost.evil.example`,
    `evil.example@localhost` or 0x7f000001 is something else needs no rule of its own.
    """
    hosts = [f"{name}:{port}" for name in _NAMES]
    return frozenset([*hosts, *_NAMES] if port == _HTTP_PORT else hosts)


def is_from_another_site(request: web.Request, port: int) -> bool:
    """Return whether a page of another site made a browser send this request.

    Browsers say it in `Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/), older ones in
    `Origin` with all that can change something, and no page can change what they say. Another port
    of this machine is another site. What sends neither is no page: curl, a machine, a test.

    Args:
        request: what came.
        port: where it came to.
    """
    if sites := request.headers.getall("Sec-Fetch-Site", ()):
        return not _OWN_SITE.issuperset(sites)
    own = {f"http://{host}" for host in own_hosts(port)}
    return not own.issuperset(request.headers.getall("Origin", ()))


def guard(
    port: Callable[[], int], refuse: Refuse, *, other_sites: bool = False, empty_posts: bool = False
) -> Middleware:
    """Return the middleware that keeps web pages off a server of the local cloud.

    A request with another `Host` than the server's own is 421, so no page reads an answer by DNS
    rebinding. What a page of another site sends is 403, and a POST that does not say that it is
    JSON is 415, since a form or a script can send any other body without asking first.

    Args:
        port: returns the server's port.
        refuse: makes the answers.
        other_sites: whether pages of other sites may send requests with any body, since nothing
            here is done without a token.
        empty_posts: whether a POST without a body need not say that it is JSON.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_meant_for(request, port()):
            address = f"http://{LOOPBACK}:{port()}"
            text = f"The request is for another Host than this server. Use {address}; a tunnel has to keep the port's number."
            return refuse(request, 421, text)
        if other_sites:
            return await handler(request)
        if is_from_another_site(request, port()):
            return refuse(
                request,
                403,
                "A page of another site cannot use this server. Use the command line, or curl.",
            )
        is_json = request.content_type == "application/json"
        is_empty = not request.can_read_body and "Content-Type" not in request.headers
        if request.method == "POST" and not is_json and not (empty_posts and is_empty):
            return refuse(
                request,
                415,
                "The body has to be JSON. Send it with Content-Type: application/json.",
            )
        return await handler(request)

    return check


def _is_meant_for(request: web.Request, port: int) -> bool:
    hosts = own_hosts(port)
    # For a target with a host of its own (`GET http://…`) that one is `request.host`, without its
    # port and brackets.
    named = hosts | {name.strip("[]") for name in _NAMES}
    return request.headers.get("Host", "").lower() in hosts and request.host.lower() in named


def refuse_in_words(_: web.Request, status: int, text: str) -> web.Response:
    """Refuse a request in plain text, for a server that has no form of its own for errors."""
    return web.Response(status=status, text=text)


class PortServer:
    """One port of the loopback address.

    Args:
        routes: what answers which requests.
        port: 0 picks a free one.
        refuse: answers what `guard` refuses.
        other_sites: as `guard` has it.
    """

    def __init__(
        self,
        routes: Sequence[web.RouteDef],
        port: int = 0,
        *,
        refuse: Refuse = refuse_in_words,
        other_sites: bool = False,
    ) -> None:
        self.port = port
        app = web.Application(
            middlewares=[guard(lambda: self.port, refuse, other_sites=other_sites)]
        )
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


def everything(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> list[web.RouteDef]:
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
    """Return the headers that the next server is to see; the caller may change them.

    A name with `_` in it is left out: for WSGI it is the same as the one with `-`, and
    `SCRIPT_NAME` moves the path. nginx and gunicorn leave such names out too; what Google's front
    ends do is not published.
    """
    headers = CIMultiDict(
        (name, value) for name, value in _end_to_end(request.headers).items() if "_" not in name
    )
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
        ConnectionAbortedError: either side broke off in the middle of it; nothing else can be
            answered any more.
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
    named = {
        name.strip().lower()
        for value in headers.getall("Connection", ())
        for name in value.split(",")
    }
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _OF_THE_CONNECTION | named
    )
