"""The public address: one port that leads the paths of the API to the functions' own URLs.

It does what API Gateway does in production, and two things more. A request without an
``Authorization`` header gets the token of the local cloud's developer, so that a client that sends
no token works here unchanged. A web page of another site does not get it. And the page can work as
anybody (``page_sign_in.py``).
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from localcloud.catalogue import Function, public_routes
from localcloud.services.http_server import GuardRules, HttpServer, is_from_another_site
from localcloud.services.page_sign_in import PageSignIn
from localcloud.services.proxy import (
    Forwarding,
    catch_all_routes,
    forward_request,
    headers_to_forward,
    return_answer,
)
from localcloud.services.requests_file import Exchange, RequestsFile

_LOG = logging.getLogger(__name__)

_NOT_READY = "The local cloud is not ready: it is starting, or ending. Try again in a second."
_TOKEN_KEPT_SECONDS = 1800.0  # half of its lifetime
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Routes:
    """Which function serves which method and path.

    Args:
        functions: the catalogue's entries; only those for people count.
    """

    def __init__(self, functions: tuple[Function, ...]) -> None:
        self._paths: list[tuple[re.Pattern[str], dict[str, str]]] = []
        methods_of: dict[str, dict[str, str]] = {}
        for route, function in public_routes(functions):
            methods_of.setdefault(route.path, {})[route.method] = function.name
        for path, methods in methods_of.items():
            self._paths.append((re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path)), methods))

    def find(self, path: str) -> Mapping[str, str]:
        """Return the function's name for each method of a path; empty for an unknown path.

        If several match, that with a literal segment where the others have a parameter counts.
        """
        for pattern, methods in self._paths:
            if pattern.fullmatch(path):
                return methods
        return {}


@dataclass(frozen=True, kw_only=True)
class Backends:
    """The functions behind a gateway.

    Attributes:
        routes: which function serves what.
        urls: the URL of each function by its name; may be filled until the first request comes.
        session: the connections to the functions.
    """

    routes: Routes
    urls: Mapping[str, str]
    session: aiohttp.ClientSession


class ApiGateway(HttpServer):
    """The public port.

    Args:
        backends: where requests go.
        sign_in: signs the page in, and has the developer's tokens.
        port: 0 picks a free one.
        requests_file: where each request and its answer are written down; None: nowhere.
    """

    def __init__(
        self,
        backends: Backends,
        *,
        sign_in: PageSignIn,
        port: int = 0,
        requests_file: RequestsFile | None = None,
    ) -> None:
        self._backends = backends
        self._sign_in = sign_in
        self._token = ""
        self._minted_at = float("-inf")
        self._requests_file = requests_file
        self._is_open = False
        super().__init__(
            catch_all_routes(self._answer),
            port=port,
            rules=GuardRules(refuse=_refuse, other_sites=True),
        )

    def open(self) -> None:
        """Forward requests from now on."""
        self._is_open = True

    def close(self) -> None:
        """Answer 503 to all further requests; those under way are finished."""
        self._is_open = False

    async def stop(self) -> None:
        """Stop serving."""
        await super().stop()
        if self._requests_file:
            self._requests_file.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if not self._is_open:
            return _problem(request, 503, "UNAVAILABLE", _NOT_READY, {"Retry-After": "1"})
        if self._sign_in.serves(request):
            return await self._sign_in.answer(request, self.port, _refuse)
        methods = self._backends.routes.find(request.rel_url.raw_path)
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
        headers = headers_to_forward(request)
        headers.popall("Host", None)  # the front has its own
        headers["X-Forwarded-Host"] = request.headers["Host"]
        if "Authorization" not in headers and not is_from_another_site(request, self.port):
            headers["Authorization"] = f"Bearer {self._developer_token()}"
        if self._requests_file is None:
            return await self._forward(request, name, headers)
        exchange = Exchange(request, datetime.now(UTC))
        try:
            return await self._forward(request, name, headers, exchange)
        finally:
            self._requests_file.write(exchange)

    async def _forward(
        self,
        request: web.Request,
        name: str,
        headers: CIMultiDict[str],
        exchange: Exchange | None = None,
    ) -> web.StreamResponse:
        forwarding = Forwarding(headers=headers, copy=exchange.asked if exchange else None)
        backends = self._backends
        try:
            answer = await forward_request(
                backends.session, request, backends.urls[name], forwarding
            )
        except aiohttp.ClientError as error:
            _LOG.warning("%s: its front broke off: %r", name, error)
            return _problem(request, 502, "BAD_GATEWAY", "The function's front broke off.")
        response = await return_answer(
            request, answer, copy=exchange.answered if exchange else None
        )
        if exchange:
            exchange.status, exchange.headers = answer.status, answer.headers
        return response

    def _developer_token(self) -> str:
        now = time.monotonic()
        if now - self._minted_at > _TOKEN_KEPT_SECONDS:
            self._token, self._minted_at = self._sign_in.developer_token(), now
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
    """Answer an error in the form of the API."""
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
