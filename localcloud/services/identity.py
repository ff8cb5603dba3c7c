"""The local issuer of identity tokens, and the metadata server of the local machines, on one HTTP port.

Tokens are RS256, signed with a key that is made when the service is made; its public half is served
as a JWK set. Claims are those of Google's tokens: for people and service accounts as Google Sign-In
and OIDC pushes carry them, for machines as Compute's `format=full`, see
https://cloud.google.com/compute/docs/instances/verifying-instance-identity.
"""

from __future__ import annotations

import hashlib
import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from localcloud.services.proxy import LOOPBACK, guard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.services.compute.fleet import Fleet
    from localcloud.services.compute.resources import Instance

DEVELOPER_EMAIL: Final = "dev@localhost"
DEVELOPER_SUB: Final = "dev-user-id"

_HOUR = timedelta(hours=1)
_KEYS_CACHED_SECONDS = 3600
_METADATA_HEADERS = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}


def subject_of(email: str) -> str:
    """Return the `sub` of a made-up person or service account: 21 digits, always the same for one address.

    The developer of the local cloud, `dev@localhost`, is `dev-user-id`.
    """
    if email == DEVELOPER_EMAIL:
        return DEVELOPER_SUB
    return str(
        10**20 + int.from_bytes(hashlib.sha256(email.lower().encode()).digest()) % (9 * 10**20)
    )


class IdentityService:
    """Signs tokens, serves the keys, and is the metadata server of every local machine.

    `GET /keys` is the JWK set; `POST /tokens` signs for a made-up person, see `user_token`; `GET
    /machines/{numeric instance id}/computeMetadata/v1/…` is what the machine with this id sees at
    `http://metadata.google.internal/computeMetadata/v1/…`.

    Args:
        project_id: of the machines.
        project_number: of the machines.
        port: 0 picks a free one.
        fleet: where the machines are; it may be set later as `fleet`, for the machines need this
            service's address.
        issuer: the `iss` of every token.
    """

    def __init__(
        self,
        *,
        project_id: str,
        project_number: str,
        port: int = 0,
        fleet: Fleet | None = None,
        issuer: str = "https://accounts.google.com",
    ) -> None:
        self.fleet = fleet
        self._project_id = project_id
        self._project_number = project_number
        self._port = port
        self._issuer = issuer
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = self._key.public_key()
        self._jwk = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
        der = public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._key_id = hashlib.sha256(der).hexdigest()[:40]
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Serve; from now on `url` is known."""
        app = web.Application(middlewares=[guard(lambda: self._port, _refuse)])
        app.add_routes(
            [
                web.get("/keys", self._serve_keys),
                web.post("/tokens", self._serve_token),
                web.get(
                    "/machines/{instance_id}/computeMetadata/v1/{path:.*}", self._serve_metadata
                ),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def keys_url(self) -> str:
        """Where the public keys are: a JWK set, as `https://www.googleapis.com/oauth2/v3/certs`."""
        return f"{self.url}/keys"

    def user_token(
        self,
        *,
        email: str,
        audience: str,
        sub: str | None = None,
        email_verified: bool = True,
        hosted_domain: str | None = None,
        lifetime: timedelta = _HOUR,
        **overrides: Any,
    ) -> str:
        """Return an ID token of a made-up person.

        Args:
            email: who it is.
            audience: whom the token is for.
            sub: who it is to a computer; by default it follows from the email.
            email_verified: as Google says of the address.
            hosted_domain: the `hd` of a Workspace account; none by default.
            lifetime: from now to `exp`; below zero for a token that is over.
            overrides: claims to replace or add, for tokens that are to be refused; None takes one
                out.
        """
        claims = {
            "azp": audience,
            "aud": audience,
            "sub": sub if sub is not None else subject_of(email),
            "email": email,
            "email_verified": email_verified,
            "hd": hosted_domain,
        }
        return self._sign(claims | overrides, lifetime=lifetime)

    def service_account_token(self, *, email: str, audience: str) -> str:
        """Return the OIDC token that Cloud Tasks, a Pub/Sub push or the Scheduler sends as this service account; one hour."""
        return self.user_token(email=email, audience=audience, azp=subject_of(email))

    def instance_token(self, instance: Instance, *, audience: str) -> str:
        """Return a machine's identity token, with everything that `format=full` says; one hour.

        Raises:
            LookupError: the machine runs without a service account, so it has no identity.
        """
        claims = self._instance_claims(instance, audience)
        compute_engine = {
            "project_id": self._project_id,
            "project_number": int(self._project_number),
            "zone": instance.zone,
            "instance_id": instance.id,
            "instance_name": instance.name,
            "instance_creation_timestamp": int(instance.created_at.timestamp()),
        }
        return self._sign(claims | {"google": {"compute_engine": compute_engine}})

    def _instance_claims(self, instance: Instance, audience: str) -> dict[str, Any]:
        accounts = instance.resource.get("serviceAccounts") or []
        if not accounts:
            raise LookupError(f"Instance {instance.name} runs without a service account.")
        email = accounts[0]["email"]
        sub = subject_of(email)
        return {"aud": audience, "azp": sub, "sub": sub, "email": email, "email_verified": True}

    def _sign(self, claims: Mapping[str, Any], *, lifetime: timedelta = _HOUR) -> str:
        now = int(time.time())
        times = {"iat": now, "exp": now + int(lifetime.total_seconds())}
        payload = {"iss": self._issuer, **times, **claims}
        said = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(said, self._key, algorithm="RS256", headers={"kid": self._key_id})

    async def _serve_keys(self, _: web.Request) -> web.Response:
        keys = [{**self._jwk, "use": "sig", "alg": "RS256", "kid": self._key_id}]
        cached = {"Cache-Control": f"public, max-age={_KEYS_CACHED_SECONDS}"}
        return web.json_response({"keys": keys}, headers=cached)

    async def _serve_token(self, request: web.Request) -> web.Response:
        """Sign for a made-up person.

        The body is JSON: `email`, `audience`, and optionally `sub`, `email_verified`,
        `hosted_domain`, `lifetime_seconds` and `claims` (an object that replaces or adds claims).
        200 `{"token"}`, or 400 `{"error"}`; what `guard` refuses is told so too.
        """
        try:
            arguments = _token_arguments(await request.json())
        except (ValueError, OverflowError) as error:
            return _refuse(request, 400, str(error))
        return web.json_response({"token": self.user_token(**arguments)})

    async def _serve_metadata(self, request: web.Request) -> web.Response:
        if request.headers.get("Metadata-Flavor") != "Google":
            return _metadata(
                'Missing required header "Metadata-Flavor": "Google"',
                status=403,
                content_type="text/html",
            )
        instance = (
            self.fleet.instance_by_id(request.match_info["instance_id"]) if self.fleet else None
        )
        if not instance:
            return _metadata("Not Found", status=404, content_type="text/html")
        path = request.match_info["path"]
        if path == "instance/service-accounts/default/identity":
            return self._serve_identity(instance, request.query)
        found: Any = {
            "instance": {
                "id": instance.id,
                "name": instance.name,
                "hostname": f"{instance.name}.{instance.zone}.c.{self._project_id}.internal",
                "zone": f"projects/{self._project_number}/zones/{instance.zone}",
                "attributes": instance.attributes(),
            },
            "project": {
                "project-id": self._project_id,
                "numeric-project-id": self._project_number,
                "attributes": {},
            },
        }
        for part in filter(None, path.split("/")):
            found = found.get(part) if isinstance(found, dict) else None
        if found is None:
            return _metadata("Not Found", status=404, content_type="text/html")
        if isinstance(found, str):
            return _metadata(found)
        if request.query.get("recursive", "").lower() == "true":
            return _metadata(json.dumps(found), content_type="application/json")
        names = (
            f"{name}/" if isinstance(below, dict) else name for name, below in sorted(found.items())
        )
        return _metadata("".join(f"{name}\n" for name in names))

    def _serve_identity(self, instance: Instance, query: Mapping[str, str]) -> web.Response:
        audience = query.get("audience", "")
        if not audience:
            return _metadata(
                "non-empty audience parameter required", status=400, content_type="text/html"
            )
        try:
            if query.get("format", "standard") == "full":
                token = self.instance_token(instance, audience=audience)
            else:
                token = self._sign(self._instance_claims(instance, audience))
        except LookupError:
            return _metadata("Not Found", status=404, content_type="text/html")
        return _metadata(token, content_type="text/html")


def _refuse(_: web.Request, status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _metadata(
    text: str, *, status: int = 200, content_type: str = "application/text"
) -> web.Response:
    return web.Response(
        text=text, status=status, content_type=content_type, headers=_METADATA_HEADERS
    )


# What a request for a token may say, as JSON types, and the arguments of `user_token` that it must
# not name as claims.
_TOKEN_MEMBERS: Mapping[str, tuple[type, ...]] = {
    "email": (str,),
    "audience": (str,),
    "sub": (str,),
    "email_verified": (bool,),
    "hosted_domain": (str,),
    "lifetime_seconds": (int, float),
    "claims": (dict,),
}
_NOT_CLAIMS = frozenset({"self", "audience", "hosted_domain", "lifetime"}) | _TOKEN_MEMBERS.keys()


def _token_arguments(body: object) -> dict[str, Any]:
    """Return the arguments of `user_token` that a request's JSON asks for.

    Raises:
        ValueError: it says something else than it may, in words for the caller.
        OverflowError: the lifetime is beyond all reason.
    """
    arguments: dict[str, Any] = dict(body) if isinstance(body, dict) else {}
    for name, value in arguments.items():
        if name not in _TOKEN_MEMBERS:
            raise ValueError(f"'{name}' is unknown. There are: {', '.join(_TOKEN_MEMBERS)}.")
        if not isinstance(value, _TOKEN_MEMBERS[name]):
            raise ValueError(f"'{name}' has the wrong type.")  # noqa: TRY004  # one error for all that a body may have wrong
    for name in ("email", "audience"):
        if not arguments.get(name):
            raise ValueError(f"'{name}' is missing.")
    claims: dict[str, Any] = arguments.pop("claims", {})
    if clash := claims.keys() & _NOT_CLAIMS:
        raise ValueError(f"'{min(clash)}' stands beside 'claims', not in it.")
    arguments["lifetime"] = timedelta(
        seconds=arguments.pop("lifetime_seconds", _HOUR.total_seconds())
    )
    return arguments | claims
