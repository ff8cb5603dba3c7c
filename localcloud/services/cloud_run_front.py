"""What Cloud Run does before each function: it checks the caller, sets limits, starts the function.

Every function has a front on its own port, and the front's URL is the function's URL. Source of
what it does and answers: Cloud Run's pages on authentication, quotas ("maximum HTTP/1 request size
32 MiB"), request timeouts and known issues (``/healthz``).
"""

from __future__ import annotations

import asyncio
import html
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
import jwt
from aiohttp import web
from multidict import CIMultiDict

from localcloud.catalogue import Function
from localcloud.processes.children import LocalCloudError
from localcloud.services.http_server import GuardRules, HttpServer
from localcloud.services.identity.tokens import ISSUER
from localcloud.services.proxy import (
    BodyTooLargeError,
    Forwarding,
    catch_all_routes,
    forward_request,
    headers_to_forward,
    return_answer,
)

_LOG = logging.getLogger(__name__)

BODY_LIMIT_BYTES = 32 * 1024 * 1024
REMOVED_SIGNATURE = "SIGNATURE_REMOVED_BY_GOOGLE"

_TOO_LARGE = "The request was larger than 32 MiB."
_FORBIDDEN = "Your client does not have permission to get URL {} from this server."
_BROKEN = "The HTTP response was malformed or the connection to the instance had an error."
_NOT_STARTED = "The service has no instance that could be started. The log says why."
_CONNECT_SECONDS = 10.0  # how long a request waits for an instance that is ending
_CONNECT_POLL_SECONDS = 0.1


class RefusedError(Exception):
    """The platform refuses a request without asking the function.

    Attributes:
        status: the HTTP status.
        text: what the page says.
        headers: further headers.
    """

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


class TokenVerifier:
    """Verifies ID tokens of the local issuer, whose keys it fetches once."""

    def __init__(self, keys_url: str, session: aiohttp.ClientSession) -> None:
        self._keys_url = keys_url
        self._session = session
        self._keys: dict[str | None, jwt.PyJWK] = {}

    async def claims(self, token: str) -> dict[str, object]:
        """Return the claims of a token.

        Raises:
            jwt.InvalidTokenError: its form, signature, issuer or time is wrong.
        """
        if not self._keys:
            async with self._session.get(self._keys_url) as answer:
                keys = jwt.PyJWKSet.from_dict(await answer.json()).keys
            self._keys = {key.key_id: key for key in keys}
        key = self._keys.get(jwt.get_unverified_header(token).get("kid"))
        if key is None:
            raise jwt.InvalidTokenError("The token is signed with an unknown key.")
        required = ["exp", "iat", "iss", "aud", "email"]
        return jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            issuer=ISSUER,
            options={"require": required, "verify_aud": False},
        )


class ActiveRequests:
    """Counts the requests that are under way at all fronts together."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextmanager
    def count_one(self) -> Iterator[None]:
        """Count one more for as long as the context lasts."""
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()

    async def wait_until_none(self) -> None:
        """Wait until no request is under way."""
        await self._none.wait()


@dataclass(frozen=True, kw_only=True)
class CloudRun:
    """What all fronts of a local cloud share.

    Attributes:
        verifier: verifies tokens.
        requests: counts the requests.
        session: the connections to the functions, each for one request. gunicorn may close a
            connection after an answer, without saying so, if it has not read the whole body, and
            the next request would be lost.
    """

    verifier: TokenVerifier
    requests: ActiveRequests
    session: aiohttp.ClientSession


class CloudRunFront(HttpServer):
    """The front of one function.

    Args:
        function: the catalogue's entry.
        find_instance: starts the function's process if it does not run, and returns its own
            address, a URL without a path; raises ``LocalCloudError`` if it does not start.
        invoker: the e-mail address of the only service account that may invoke it; None: everyone.
        cloud_run: what it shares with the other fronts.
    """

    def __init__(
        self,
        function: Function,
        *,
        find_instance: Callable[[], Awaitable[str]],
        invoker: str | None,
        cloud_run: CloudRun,
    ) -> None:
        self._function = function
        self._find_instance = find_instance
        self._invoker = invoker
        self._cloud_run = cloud_run
        super().__init__(
            catch_all_routes(self._answer),
            rules=GuardRules(refuse=_refuse, other_sites=True),
        )

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        with self._cloud_run.requests.count_one():
            try:
                return await self._forward(request)
            except RefusedError as refusal:
                return _page(refusal)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/healthz":
            raise RefusedError(404, "The requested URL /healthz was not found on this server.")
        if (request.content_length or 0) > BODY_LIMIT_BYTES:
            raise RefusedError(413, _TOO_LARGE)
        headers = headers_to_forward(request)
        if self._invoker is not None:
            await self._check_invoker(request, headers)
        try:
            async with asyncio.timeout(self._function.timeout_seconds):
                answer = await self._send(request, headers)
        except TimeoutError:
            _LOG.warning(
                "%s: no answer within %g s", self._function.name, self._function.timeout_seconds
            )
            raise RefusedError(
                504, "The request has been terminated because it has reached the maximum timeout."
            ) from None
        except BodyTooLargeError:
            raise RefusedError(413, _TOO_LARGE) from None
        except aiohttp.ClientError as error:
            _LOG.warning("%s broke off: %r", self._function.name, error)
            raise RefusedError(503, _BROKEN) from None
        except LocalCloudError:
            raise RefusedError(503, _NOT_STARTED) from None
        return await return_answer(request, answer)

    async def _send(
        self, request: web.Request, headers: CIMultiDict[str]
    ) -> aiohttp.ClientResponse:
        """Send a request to the function, and wait for a process that is starting or ending.

        A request that could not connect was not sent at all, so sending it again is safe.

        Raises:
            LocalCloudError: the function does not start.
            aiohttp.ClientError: its process broke the connection.
        """
        forwarding = Forwarding(headers=headers, body_limit=BODY_LIMIT_BYTES)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CONNECT_SECONDS
        while True:
            instance = await self._find_instance()
            try:
                return await forward_request(self._cloud_run.session, request, instance, forwarding)
            except aiohttp.ClientConnectorError:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(_CONNECT_POLL_SECONDS)

    async def _check_invoker(self, request: web.Request, headers: CIMultiDict[str]) -> None:
        """Let only the invoker pass, and remove the signature from the token that is forwarded."""
        path = html.escape(request.path)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise RefusedError(403, _FORBIDDEN.format(path))
        try:
            claims = await self._cloud_run.verifier.claims(token)
            audience = claims["aud"]
            if not isinstance(audience, str) or not f"{audience}/".startswith(f"{self.url}/"):
                raise jwt.InvalidAudienceError(f"The audience is {audience!r}, not {self.url}")
        except (jwt.InvalidTokenError, UnicodeEncodeError) as error:
            _LOG.warning("%s: a token is refused: %s", self._function.name, error)
            why = (
                'Bearer error="invalid_token" '
                'error_description="The access token could not be verified"'
            )
            text = f"Your client does not have permission to the requested URL {path}."
            raise RefusedError(401, text, {"WWW-Authenticate": why}) from None
        if claims["email"] != self._invoker:
            _LOG.warning("%s: %s may not invoke it", self._function.name, claims["email"])
            raise RefusedError(403, _FORBIDDEN.format(path))
        headers["Authorization"] = f"{scheme} {token.rpartition('.')[0]}.{REMOVED_SIGNATURE}"


def _refuse(_: web.Request, status: int, text: str) -> web.Response:
    return _page(RefusedError(status, text))


def _page(refusal: RefusedError) -> web.Response:
    title = f"{refusal.status} {web.Response(status=refusal.status).reason}"
    page = (
        f"<html><head><title>{title}</title></head>\n"
        f"<body><h1>Error: {title}</h1>\n<h2>{refusal.text}</h2></body></html>\n"
    )
    return web.Response(
        status=refusal.status, text=page, content_type="text/html", headers=refusal.headers
    )
