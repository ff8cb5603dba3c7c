"""What stands before each function on Cloud Run: the check of who may invoke it, limits, and patience while it starts.

Every function has a front on a port of its own; the front's URL is the function's URL. Source of
what it does and answers: Cloud Run's pages on authentication, quotas ("maximum HTTP/1 request size
32 MiB"), request timeouts and known issues (`/healthz`).
"""

from __future__ import annotations

import asyncio
import html
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
import jwt
from aiohttp import web

from localcloud.services.proxy import (
    BodyTooLargeError,
    PortServer,
    everything,
    hand_back,
    headers_to_hand_on,
    send_on,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multidict import CIMultiDict

    from localcloud.catalogue import Function

_LOG = logging.getLogger(__name__)

BODY_LIMIT: Final = 32 * 1024 * 1024
REMOVED_SIGNATURE: Final = "SIGNATURE_REMOVED_BY_GOOGLE"

_TOO_LARGE: Final = "The request was larger than 32 MiB."
_ISSUER: Final = "https://accounts.google.com"
_START_SECONDS: Final = 10.0  # how long a request is held for an instance that is being started
_START_POLL_SECONDS: Final = 0.1


class RefusedError(Exception):
    """The platform answers by itself.

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
    """Believes ID tokens that the local issuer signed. Its keys are fetched once."""

    def __init__(self, keys_url: str, session: aiohttp.ClientSession) -> None:
        self._keys_url = keys_url
        self._session = session
        self._keys: dict[str | None, jwt.PyJWK] = {}

    async def claims(self, token: str) -> dict[str, object]:
        """Return what a token says.

        Raises:
            jwt.InvalidTokenError: its form, signature, issuer or time is wrong.
        """
        if not self._keys:
            async with self._session.get(self._keys_url) as answer:
                self._keys = {
                    key.key_id: key for key in jwt.PyJWKSet.from_dict(await answer.json()).keys
                }
        key = self._keys.get(jwt.get_unverified_header(token).get("kid"))
        if key is None:
            raise jwt.InvalidTokenError("The token is signed with an unknown key.")
        required = ["exp", "iat", "iss", "aud", "email"]
        return jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            issuer=_ISSUER,
            options={"require": required, "verify_aud": False},
        )


class Traffic:
    """The requests that are under way at all fronts together."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one more for as long as the context lasts."""
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()

    async def rest(self) -> None:
        """Wait until none is."""
        await self._none.wait()


class CloudRunFront:
    """The front of one function.

    Args:
        function: the catalogue's entry.
        target: the function's own address, a URL without a path.
        invoker: the email of the one service account that is let in; None for everyone.
        verifier: believes tokens.
        traffic: counts the requests.
        session: the connections to the functions, each for one request: gunicorn may close one
            after an answer, without having said so, if it has not read all of a body, and the next
            request would be lost.
    """

    def __init__(
        self,
        function: Function,
        *,
        target: str,
        invoker: str | None,
        verifier: TokenVerifier,
        traffic: Traffic,
        session: aiohttp.ClientSession,
    ) -> None:
        self._function = function
        self._target = target
        self._invoker = invoker
        self._verifier = verifier
        self._traffic = traffic
        self._session = session
        self._server = PortServer(everything(self._answer), refuse=_refuse, other_sites=True)

    @property
    def url(self) -> str:
        """The function's URL."""
        return self._server.url

    async def start(self) -> None:
        """Serve; from now on `url` is known."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop serving."""
        await self._server.stop()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        with self._traffic.request():
            try:
                return await self._hand_on(request)
            except RefusedError as refusal:
                return _page(refusal)

    async def _hand_on(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/healthz":
            raise RefusedError(404, "The requested URL /healthz was not found on this server.")
        if (request.content_length or 0) > BODY_LIMIT:
            raise RefusedError(413, _TOO_LARGE)
        headers = headers_to_hand_on(request)
        if self._invoker is not None:
            await self._check_invoker(request, headers)
        try:
            async with asyncio.timeout(self._function.timeout_seconds):
                answer = await self._reach(request, headers)
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
            text = "The HTTP response was malformed or the connection to the instance had an error."
            raise RefusedError(503, text) from None
        return await hand_back(request, answer)

    async def _reach(
        self, request: web.Request, headers: CIMultiDict[str]
    ) -> aiohttp.ClientResponse:
        """Send a request to the function, waiting for one that is being started.

        A request that found nobody was not sent at all, so sending it again is safe.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_SECONDS
        while True:
            try:
                return await send_on(
                    self._session, request, self._target, headers, body_limit=BODY_LIMIT
                )
            except aiohttp.ClientConnectorError:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(_START_POLL_SECONDS)

    async def _check_invoker(self, request: web.Request, headers: CIMultiDict[str]) -> None:
        """Let only the invoker through, and take the signature out of the token that is handed on."""
        path = html.escape(request.path)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise RefusedError(
                403, f"Your client does not have permission to get URL {path} from this server."
            )
        try:
            claims = await self._verifier.claims(token)
            audience = claims["aud"]
            if not isinstance(audience, str) or not f"{audience}/".startswith(f"{self.url}/"):
                raise jwt.InvalidAudienceError(f"The audience is {audience!r}, not {self.url}")
        except (jwt.InvalidTokenError, UnicodeEncodeError) as error:
            _LOG.warning("%s: a token is refused: %s", self._function.name, error)
            why = 'Bearer error="invalid_token" error_description="The access token could not be verified"'
            text = f"Your client does not have permission to the requested URL {path}."
            raise RefusedError(401, text, {"WWW-Authenticate": why}) from None
        if claims["email"] != self._invoker:
            _LOG.warning("%s: %s may not invoke it", self._function.name, claims["email"])
            raise RefusedError(
                403, f"Your client does not have permission to get URL {path} from this server."
            )
        headers["Authorization"] = f"{scheme} {token.rpartition('.')[0]}.{REMOVED_SIGNATURE}"


def _refuse(_: web.Request, status: int, text: str) -> web.Response:
    return _page(RefusedError(status, text))


def _page(refusal: RefusedError) -> web.Response:
    title = f"{refusal.status} {web.Response(status=refusal.status).reason}"
    page = f"<html><head><title>{title}</title></head>\n<body><h1>Error: {title}</h1>\n<h2>{refusal.text}</h2></body></html>\n"
    return web.Response(
        status=refusal.status, text=page, content_type="text/html", headers=refusal.headers
    )
