"""The public address: one port, from which the paths of `wire.md` lead to the functions' own URLs.

It does what API Gateway does in production, and one thing more: a request without an
`Authorization` header gets the token of the local cloud's developer, so that a client that sends
none yet works here as it is. A web page of another site does not get it.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web

from localcloud.services.proxy import (
    PortServer,
    everything,
    hand_back,
    headers_to_hand_on,
    is_from_another_site,
    send_on,
)
from localcloud.services.requests_file import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from multidict import CIMultiDict

    from localcloud.catalogue import Function
    from localcloud.services.requests_file import RequestsFile

_LOG = logging.getLogger(__name__)

_TOKEN_KEPT_SECONDS: Final = 1800.0  # half its life
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Routes:
    """Which function serves which method and path.

    Args:
        functions: the catalogue's entries; only those for people count.
    """

    def __init__(self, functions: tuple[Function, ...]) -> None:
        self._paths: list[tuple[re.Pattern[str], dict[str, str]]] = []
        methods_of: dict[str, dict[str, str]] = {}
        for function in functions:
            if function.is_public:
                for route in function.routes:
                    methods_of.setdefault(route.path, {})[route.method] = function.name
        for path, methods in methods_of.items():
            self._paths.append((re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path)), methods))

    def find(self, path: str) -> Mapping[str, str]:
        """Return the name of the function for each method of a path; nothing for an unknown path."""
        for pattern, methods in self._paths:
            if pattern.fullmatch(path):
                return methods
        return {}


class Gateway:
    """The public port.

    Args:
        routes: where requests go.
        urls: the URL of each function by its name; may be filled until the first request comes.
        session: the connections to the functions.
        developer_token: makes a fresh token for the developer.
        port: 0 picks a free one.
        requests_file: where each request and its answer is written down; None: nowhere.
    """

    def __init__(
        self,
        *,
        routes: Routes,
        urls: Mapping[str, str],
        session: aiohttp.ClientSession,
        developer_token: Callable[[], str],
        port: int = 0,
        requests_file: RequestsFile | None = None,
    ) -> None:
        self._requests_file = requests_file
        self._routes = routes
        self._urls = urls
        self._session = session
        self._mint = developer_token
        self._token = ""
        self._minted_at = float("-inf")
        self._server = PortServer(everything(self._answer), port, refuse=_refuse, other_sites=True)

    @property
    def url(self) -> str:
        """The public address, without a slash at its end."""
        return self._server.url

    async def start(self) -> None:
        """Serve; from now on `url` is known.

        Raises:
            OSError: the port is taken.
        """
        await self._server.start()

    async def stop(self) -> None:
        """Stop serving."""
        await self._server.stop()
        if self._requests_file:
            self._requests_file.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        methods = self._routes.find(request.rel_url.raw_path)
        if not methods:
            return _problem(request, 404, "NOT_FOUND", f"There is no {request.path}.")
        # A browser's preflight goes to the function that the request itself would go to.
        preflight = (
            request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        )
        method = request.headers["Access-Control-Request-Method"] if preflight else request.method
        name = methods.get(method)
        if name is None:
            allowed = ", ".join(sorted(methods))
            detail = f"{request.path} takes {allowed}, not {request.method}."
            return _problem(request, 405, "METHOD_NOT_ALLOWED", detail, {"Allow": allowed})
        headers = headers_to_hand_on(request)
        headers.popall("Host", None)  # the front has one of its own
        headers["X-Forwarded-Host"] = request.headers["Host"]
        if "Authorization" not in headers and not is_from_another_site(request, self._server.port):
            headers["Authorization"] = f"Bearer {self._developer_token()}"
        if self._requests_file is None:
            return await self._hand_on(request, name, headers)
        exchange = Exchange(request, datetime.now(UTC))
        try:
            return await self._hand_on(request, name, headers, exchange)
        finally:
            self._requests_file.write(exchange)

    async def _hand_on(
        self,
        request: web.Request,
        name: str,
        headers: CIMultiDict[str],
        exchange: Exchange | None = None,
    ) -> web.StreamResponse:
        asked = exchange.asked if exchange else None
        try:
            answer = await send_on(self._session, request, self._urls[name], headers, copy=asked)
        except aiohttp.ClientError as error:
            _LOG.warning("%s: its front broke off: %r", name, error)
            return _problem(request, 502, "BAD_GATEWAY", "The function's front broke off.")
        response = await hand_back(request, answer, copy=exchange.answered if exchange else None)
        if exchange:
            exchange.status, exchange.headers = answer.status, answer.headers
        return response

    def _developer_token(self) -> str:
        now = time.monotonic()
        if now - self._minted_at > _TOKEN_KEPT_SECONDS:
            self._token, self._minted_at = self._mint(), now
        return self._token


def _refuse(request: web.Request, status: int, text: str) -> web.Response:
    return _problem(request, status, HTTPStatus(status).name, text)


def _problem(
    request: web.Request,
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Answer an error in the form of `wire.md`."""
    asked = request.headers.get("X-Request-Id", "")
    request_id = asked if _REQUEST_ID.fullmatch(asked) else str(uuid.uuid4())
    kind = f"urn:workspace-hub:problem:{code.lower().replace('_', '-')}"
    title = web.Response(status=status).reason
    body = {"type": kind, "title": title, "status": status, "detail": detail, "code": code}
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/problem+json",
        headers={"X-Request-Id": request_id, **(headers or {})},
    )
