"""Who calls, proven by tokens that Google signed: ID tokens of people, instance identity tokens of machines."""

import http.client
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import jwt

from shared import logs
from shared.config import Identity as IdentitySettings
from shared.domain.errors import NotAuthenticatedError, UnavailableError
from shared.ports import Identity, Machine, Person

SKEW_SECONDS = 10  # clocks that differ by this much still agree on a token
FETCH_TIMEOUT_SECONDS = 5
REFRESH_AT_MOST_EVERY_SECONDS = 10  # an unknown key id makes us fetch again, but strangers may not make us do it often
USUAL_MAX_AGE_SECONDS = 3600
LONGEST_TOKEN = 8192


class SigningKeys:
    """The issuers' public keys by key id, from a JWKS address.

    Fetched when first needed, kept as long as the answer's ``Cache-Control`` says, fetched again when an unknown key id
    appears (rate-limited), and kept beyond their time while their server is down. Safe to use from many threads.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Mapping[str, Any] = {}
        self._fresh_until = 0.0
        self._asked_at = float("-inf")
        self._lock = threading.Lock()

    def find(self, key_id: str) -> Any | None:
        """Return the key, or None when the issuers have none of this id.

        Raises:
            UnavailableError: there are no keys at all yet and their server does not answer.
        """
        if key_id in self._keys and time.monotonic() < self._fresh_until:
            return self._keys[key_id]
        with self._lock:
            now = time.monotonic()
            stale = now >= self._fresh_until
            if (stale or key_id not in self._keys) and now - self._asked_at >= REFRESH_AT_MOST_EVERY_SECONDS:
                self._asked_at = now
                self._fetch()
        if not self._keys:
            raise UnavailableError("The keys that tokens are checked with cannot be had now. Try again in a moment.")
        return self._keys.get(key_id)

    def _fetch(self) -> None:
        try:
            with urllib.request.urlopen(self._url, timeout=FETCH_TIMEOUT_SECONDS) as answer:  # noqa: S310 -- our own setting
                listed = json.load(answer)["keys"]
                age = re.search(r"max-age=(\d+)", answer.headers.get("Cache-Control", ""))
            self._keys = {
                key["kid"]: jwt.PyJWK(key, algorithm="RS256").key for key in listed if key.get("kty") == "RSA"
            }
        except (
            OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError,
        ) as error:  # fmt: skip
            logs.warning("SigningKeysNotFetched", url=self._url, reason=repr(error))
            return
        self._fresh_until = time.monotonic() + (int(age[1]) if age else USUAL_MAX_AGE_SECONDS)


class GoogleIdentity(Identity):
    """``Identity`` by Google's tokens: RS256 only, from the configured issuers, for the configured audiences."""

    def __init__(self, settings: IdentitySettings) -> None:
        self._settings = settings
        self._keys = SigningKeys(settings.keys_url)

    def person(self, authorization: str | None) -> Person:
        """See the port."""
        claims = self._verify(authorization, self._settings.user_audiences)
        if "compute_engine" in claims.get("google", {}):
            raise NotAuthenticatedError("This is a machine's token. Use a person's ID token.")
        email = claims.get("email")
        if email is not None and claims.get("email_verified") is not True:
            raise NotAuthenticatedError("The token's e-mail address is not verified. Verify it with Google first.")
        return Person(claims["sub"], email)

    def machine(self, authorization: str | None) -> Machine:
        """See the port."""
        claims = self._verify(authorization, (self._settings.machine_audience,))
        try:
            compute = claims["google"]["compute_engine"]
            return Machine(
                project_id=str(compute["project_id"]),
                zone=str(compute["zone"]),
                instance_name=str(compute["instance_name"]),
                instance_id=str(compute["instance_id"]),
            )
        except (KeyError, TypeError):
            raise NotAuthenticatedError(
                "This is not an instance identity token of format=full. Only a workspace's machine may report."
            ) from None

    def _verify(self, authorization: str | None, audiences: tuple[str, ...]) -> dict[str, Any]:
        token = _bearer(authorization)
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != "RS256":
                raise NotAuthenticatedError("The token is not signed with RS256. Use an ID token that Google issued.")
            key_id = header.get("kid")
            key = self._keys.find(key_id) if isinstance(key_id, str) else None
            if key is None:
                raise NotAuthenticatedError("The token was not signed by Google. Use an ID token that Google issued.")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=audiences,
                leeway=SKEW_SECONDS,
                options={"require": ["exp", "iat", "aud", "iss", "sub"], "verify_iss": False},
            )
        except jwt.ExpiredSignatureError:
            raise NotAuthenticatedError("The token has expired. Get a new one.") from None
        except (jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError):
            raise NotAuthenticatedError(
                "The token is not valid yet. Check the clock of the machine that made it."
            ) from None
        except jwt.InvalidAudienceError:
            expected = " or ".join(audiences)
            raise NotAuthenticatedError(f"The token is for another audience. Get one for {expected}.") from None
        except jwt.PyJWTError as error:
            raise NotAuthenticatedError(f"The token is not a valid ID token: {_reason(error)}.") from None
        if claims["iss"] not in self._settings.issuers:
            raise NotAuthenticatedError("The token is from another issuer. Use an ID token that Google issued.")
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            raise NotAuthenticatedError("The token names nobody.")
        if not isinstance(claims.get("google", {}), dict):
            raise NotAuthenticatedError("The token is not a valid ID token: its google claim is not an object.")
        return claims


def _bearer(authorization: str | None) -> str:
    if not authorization:
        raise NotAuthenticatedError("There is no Authorization header. Send 'Authorization: Bearer <ID token>'.")
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticatedError("The Authorization header is not 'Bearer <ID token>'.")
    if len(token) > LONGEST_TOKEN:
        raise NotAuthenticatedError("The token is too long to be an ID token.")
    return token


def _reason(error: jwt.PyJWTError) -> str:
    """Say what is wrong with a token in a few words, never with a part of it."""
    match error:
        case jwt.MissingRequiredClaimError():
            return f"the claim {error.claim} is missing"
        case jwt.InvalidSignatureError():
            return "its signature does not match"
        case jwt.DecodeError():
            return "it cannot be decoded"
        case _:
            return "a claim is not what it should be"
