"""The HTTP server of the token issuer, OS Login and the metadata server.

GET  /keys     the issuer's JWK set
POST /tokens   an ID token of a made-up person; needs the local cloud's secret
GET  /machines/{numeric instance id}/computeMetadata/v1/…
               what the machine with this id gets at
               http://metadata.google.internal/computeMetadata/v1/…
/v1/users/…    see ``os_login.py``; needs the local cloud's secret
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from aiohttp import web

from localcloud.services.compute.fleet import Fleet
from localcloud.services.http_server import GuardRules, HttpServer, demand_secret
from localcloud.services.identity.metadata import answer_metadata
from localcloud.services.identity.os_login import OsLogin
from localcloud.services.identity.tokens import ONE_HOUR, TokenIssuer, UserToken
from localcloud.services.project import Project

_KEYS_CACHED_SECONDS = 3600

# The members of a request for a token, as JSON types.
_TOKEN_MEMBERS: Mapping[str, tuple[type, ...]] = {
    "email": (str,),
    "audience": (str,),
    "sub": (str,),
    "email_verified": (bool,),
    "hosted_domain": (str,),
    "lifetime_seconds": (int, float),
    "claims": (dict,),
}


class IdentityServer(HttpServer):
    """Signs tokens, serves the keys, and is OS Login and the metadata server of local machines.

    Args:
        project: the project of the machines.
        secret: the local cloud's.
        port: 0 picks a free one.
        fleet: the machines. It may be set later, since the machines need this server's address.

    Attributes:
        issuer: signs the tokens.
        os_login: people's SSH keys.
    """

    def __init__(
        self, project: Project, *, secret: str, port: int = 0, fleet: Fleet | None = None
    ) -> None:
        self.fleet = fleet
        self.os_login = OsLogin()
        self.issuer = TokenIssuer(project)
        self._project = project
        super().__init__(
            [
                web.get("/keys", self._serve_keys),
                web.post("/tokens", self._serve_token),
                web.get("/machines/{id}/computeMetadata/v1/{path:.*}", self._serve_metadata),
                *self.os_login.routes(),
            ],
            port=port,
            rules=GuardRules(refuse=_refuse),
            middlewares=[demand_secret(secret, _refuse, _needs_secret)],
        )

    @property
    def keys_url(self) -> str:
        """The URL of the JWK set, which takes the place of Google's ``/oauth2/v3/certs``."""
        return f"{self.url}/keys"

    async def _serve_keys(self, _: web.Request) -> web.Response:
        cached = {"Cache-Control": f"public, max-age={_KEYS_CACHED_SECONDS}"}
        return web.json_response(self.issuer.key_set(), headers=cached)

    async def _serve_token(self, request: web.Request) -> web.Response:
        """Sign for a made-up person.

        The body is JSON: ``email``, ``audience``, and optionally ``sub``, ``email_verified``,
        ``hosted_domain``, ``lifetime_seconds`` and ``claims`` (an object that adds or replaces
        claims). The answer is 200 ``{"token"}`` or 400 ``{"error"}``.
        """
        try:
            token = _read_token(await request.json())
        except (ValueError, OverflowError) as error:
            return _refuse(request, 400, str(error))
        return web.json_response({"token": self.issuer.user_token(token)})

    async def _serve_metadata(self, request: web.Request) -> web.Response:
        instances = self.fleet.instances if self.fleet else None
        instance = instances.by_id(request.match_info["id"]) if instances else None
        return answer_metadata(request, instance, self._project, self.issuer)


def _needs_secret(request: web.Request) -> bool:
    return request.path == "/tokens" or request.path.startswith("/v1/")


def _refuse(_: web.Request, status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _read_token(body: object) -> UserToken:
    """Return the token that a request's JSON asks for.

    Raises:
        ValueError: a member is unknown, missing or of the wrong type, in words for the caller.
        OverflowError: the lifetime is too large.
    """
    members: dict[str, Any] = dict(body) if isinstance(body, dict) else {}
    for name, value in members.items():
        if name not in _TOKEN_MEMBERS:
            raise ValueError(f"'{name}' is unknown. There are: {', '.join(_TOKEN_MEMBERS)}.")
        if not isinstance(value, _TOKEN_MEMBERS[name]):
            # One kind of error for everything that can be wrong with a body.
            raise ValueError(f"'{name}' has the wrong type.")  # noqa: TRY004
    for name in ("email", "audience"):
        if not members.get(name):
            raise ValueError(f"'{name}' is missing.")
    claims: dict[str, Any] = members.pop("claims", {})
    if clash := claims.keys() & _TOKEN_MEMBERS.keys():
        raise ValueError(f"'{min(clash)}' stands beside 'claims', not in it.")
    lifetime = timedelta(seconds=members.pop("lifetime_seconds", ONE_HOUR.total_seconds()))
    return UserToken(lifetime=lifetime, claims=claims, **members)
