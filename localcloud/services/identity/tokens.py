"""The local issuer of identity tokens.

Tokens are RS256, signed with a key that is made with the issuer. Claims are those of Google's
tokens: for people and service accounts as Google Sign-In and OIDC pushes have them, for machines as
Compute's ``format=full`` has them, see
https://cloud.google.com/compute/docs/instances/verifying-instance-identity.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from localcloud.services.compute.resources import Instance
from localcloud.services.project import Project

ISSUER = "https://accounts.google.com"
DEVELOPER_EMAIL = "dev@localhost"
DEVELOPER_SUB = "dev-user-id"
ONE_HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class UserToken:
    """What an ID token of a made-up person says.

    Attributes:
        email: their e-mail address.
        audience: whom the token is for.
        sub: their id; by default it follows from the e-mail address.
        email_verified: what Google says of the address.
        hosted_domain: the ``hd`` of a Workspace account; none by default.
        lifetime: from now to ``exp``; below zero for a token that has expired.
        claims: further claims, which replace others; None removes a claim. For tokens that are to
            be refused.
    """

    email: str
    audience: str
    sub: str | None = None
    email_verified: bool = True
    hosted_domain: str | None = None
    lifetime: timedelta = ONE_HOUR
    claims: Mapping[str, Any] = field(default_factory=dict)


def subject_of(email: str) -> str:
    """Return the ``sub`` of a made-up person or service account: 21 digits, fixed for an address.

    The developer of the local cloud, ``dev@localhost``, is ``dev-user-id``.
    """
    if email == DEVELOPER_EMAIL:
        return DEVELOPER_SUB
    digest = int.from_bytes(hashlib.sha256(email.lower().encode()).digest())
    return str(10**20 + digest % (9 * 10**20))


class TokenIssuer:
    """Signs identity tokens of people, service accounts and machines."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = self._key.public_key()
        self._jwk = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
        der = public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._key_id = hashlib.sha256(der).hexdigest()[:40]

    def key_set(self) -> dict[str, Any]:
        """Return the public key as a JWK set."""
        return {"keys": [{**self._jwk, "use": "sig", "alg": "RS256", "kid": self._key_id}]}

    def user_token(self, token: UserToken) -> str:
        """Return an ID token of a made-up person."""
        claims = {
            "azp": token.audience,
            "aud": token.audience,
            "sub": token.sub if token.sub is not None else subject_of(token.email),
            "email": token.email,
            "email_verified": token.email_verified,
            "hd": token.hosted_domain,
            **token.claims,
        }
        return self._sign(claims, token.lifetime)

    def service_account_token(self, email: str, audience: str) -> str:
        """Return the OIDC token that a service of Google's sends as a service account; one hour."""
        claims = {"azp": subject_of(email)}
        return self.user_token(UserToken(email=email, audience=audience, claims=claims))

    def instance_token(self, instance: Instance, audience: str, *, full: bool = True) -> str:
        """Return a machine's identity token, for one hour.

        Args:
            instance: the machine.
            audience: whom the token is for.
            full: whether it describes the machine, as with ``format=full``.

        Raises:
            LookupError: the machine has no service account, so it has no identity.
        """
        accounts = instance.resource.get("serviceAccounts") or []
        if not accounts:
            raise LookupError(f"Instance {instance.name} runs without a service account.")
        email = accounts[0]["email"]
        sub = subject_of(email)
        claims = {"aud": audience, "azp": sub, "sub": sub, "email": email, "email_verified": True}
        if full:
            claims["google"] = {"compute_engine": self._describe(instance)}
        return self._sign(claims, ONE_HOUR)

    def _describe(self, instance: Instance) -> dict[str, Any]:
        return {
            "project_id": self._project.id,
            "project_number": int(self._project.number),
            "zone": instance.zone,
            "instance_id": instance.id,
            "instance_name": instance.name,
            "instance_creation_timestamp": int(instance.created_at.timestamp()),
        }

    def _sign(self, claims: Mapping[str, Any], lifetime: timedelta) -> str:
        now = int(time.time())
        times = {"iat": now, "exp": now + int(lifetime.total_seconds())}
        payload = {"iss": ISSUER, **times, **claims}
        present = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(present, self._key, algorithm="RS256", headers={"kid": self._key_id})
