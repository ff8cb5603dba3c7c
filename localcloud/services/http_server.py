"""HTTP servers of the local cloud, and how they keep web pages off.

The loopback address keeps other machines out, but not the web pages in this machine's browser. A
page can send a request to any port, and it can read the answer too if its own name resolves to
127.0.0.1 (DNS rebinding). ``guard`` keeps such pages off.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from localcloud.services.server import LOOPBACK, Server

# Answers a refused request in the form of a server's own errors. Its arguments are the request, the
# HTTP status, and a text that says what to do next.
Refuse = Callable[[web.Request, int, str], web.StreamResponse]

HEADER_LIMIT_BYTES = 32 * 1024

_BODY_LIMIT_BYTES = 1024 * 1024
_SHUTDOWN_SECONDS = 0.5
_NAMES = (LOOPBACK, "localhost", "[::1]")
_HTTP_PORT = 80  # a browser leaves it out of the address
_OWN_SITE = frozenset({"same-origin", "none"})


def refuse_in_text(_: web.Request, status: int, text: str) -> web.Response:
    """Refuse a request in plain text, for a server that has no form of its own for errors."""
    return web.Response(status=status, text=text)


@dataclass(frozen=True, kw_only=True)
class GuardRules:
    """Which requests a server accepts.

    Attributes:
        refuse: answers the other requests.
        other_sites: whether pages of other sites may send requests, with any body. That is safe for
            a server that does nothing without a token.
        empty_posts: whether a POST without a body need not say that it is JSON.
    """

    refuse: Refuse = refuse_in_text
    other_sites: bool = False
    empty_posts: bool = False


class HttpServer(Server):
    """A server of HTTP routes, guarded against web pages.

    Args:
        routes: what answers which requests.
        port: 0 picks a free one.
        rules: which requests it accepts.
        middlewares: further ones, which only see accepted requests.
        body_limit: the largest body that a handler can read, in bytes.
    """

    def __init__(
        self,
        routes: Sequence[web.RouteDef],
        *,
        port: int = 0,
        rules: GuardRules | None = None,
        middlewares: Sequence[Middleware] = (),
        body_limit: int = _BODY_LIMIT_BYTES,
    ) -> None:
        super().__init__(port)
        app = web.Application(
            middlewares=[guard(lambda: self.port, rules or GuardRules()), *middlewares],
            client_max_size=body_limit,
        )
        app.add_routes(routes)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            max_line_size=HEADER_LIMIT_BYTES,
            max_field_size=HEADER_LIMIT_BYTES,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )

    async def start(self) -> None:
        """Serve; see ``Server.start``."""
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop serving; requests under way are cut off after half a second."""
        await self._runner.cleanup()


def own_hosts(port: int) -> frozenset[str]:
    """Return every ``Host`` header, in lower case, of a request for this port of this machine.

    Headers are compared whole and never taken apart, so names such as ``localhost.evil.example``,
    ``evil.example@localhost`` or ``0x7f000001`` need no rule of their own.
    """
    hosts = [f"{name}:{port}" for name in _NAMES]
    return frozenset([*hosts, *_NAMES] if port == _HTTP_PORT else hosts)


def is_from_another_site(request: web.Request, port: int) -> bool:
    """Return whether a page of another site made a browser send this request.

    Browsers say so in ``Sec-Fetch-Site`` (https://www.w3.org/TR/fetch-metadata/). Older browsers
    say it in ``Origin``, for every request that can change something. No page can change these
    headers. Another port of this machine is another site. A request with neither header does not
    come from a page, but from curl, a machine or a test.

    Args:
        request: the request.
        port: the port at which it arrived.
    """
    if sites := request.headers.getall("Sec-Fetch-Site", ()):
        return not _OWN_SITE.issuperset(sites)
    own = {f"http://{host}" for host in own_hosts(port)}
    return not own.issuperset(request.headers.getall("Origin", ()))


def guard(port: Callable[[], int], rules: GuardRules) -> Middleware:
    """Return the middleware that keeps web pages off a server.

    It answers 421 to a request with another ``Host`` than the server's own, so no page can read an
    answer by DNS rebinding. It answers 403 to a request of a page of another site, and 415 to a
    POST that does not say that it is JSON: a form or a script can send any other body without
    asking first.

    Args:
        port: returns the server's port.
        rules: which requests the server accepts.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_meant_for(request, port()):
            text = (
                "The request is for another Host than this server. "
                f"Use http://{LOOPBACK}:{port()}; a tunnel has to keep the port's number."
            )
            return rules.refuse(request, 421, text)
        if rules.other_sites:
            return await handler(request)
        if is_from_another_site(request, port()):
            text = "A page of another site cannot use this server. Use the command line, or curl."
            return rules.refuse(request, 403, text)
        if request.method == "POST" and not _may_be_posted(request, rules):
            text = "The body has to be JSON. Send it with Content-Type: application/json."
            return rules.refuse(request, 415, text)
        return await handler(request)

    return check


def demand_secret(
    secret: str, refuse: Refuse, closed: Callable[[web.Request], bool] = lambda _: True
) -> Middleware:
    """Return the middleware that lets in only whoever knows the local cloud's secret.

    The secret is in the state file, which only its owner can read. Other people who use the same
    machine can reach its loopback address, too. A request without it is answered 401.

    Args:
        secret: what a request has in ``Authorization``, after ``Bearer``.
        refuse: answers the other requests.
        closed: whether a request needs the secret; by default all do.
    """
    expected = f"Bearer {secret}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if closed(request) and not hmac.compare_digest(given, expected):
            text = "Send the secret of the local cloud's state file: Authorization: Bearer SECRET."
            answer = refuse(request, 401, text)
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        return await handler(request)

    return check


def _may_be_posted(request: web.Request, rules: GuardRules) -> bool:
    is_empty = not request.can_read_body and "Content-Type" not in request.headers
    return request.content_type == "application/json" or (rules.empty_posts and is_empty)


def _is_meant_for(request: web.Request, port: int) -> bool:
    hosts = own_hosts(port)
    # For a target with a host of its own (`GET http://…`), `request.host` is that one, without its
    # port and brackets.
    named = hosts | {name.strip("[]") for name in _NAMES}
    return request.headers.get("Host", "").lower() in hosts and request.host.lower() in named
