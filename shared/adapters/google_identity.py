"""Who calls, proven by tokens that Google signed: ID tokens or IAP's header of people, identity tokens of machines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from shared.adapters.signing_keys import SigningKeys
from shared.config import Identity as IdentitySettings
from shared.config import IdentitySource
from shared.domain.errors import NotAuthenticatedError
from shared.domain.people import Person
from shared.ports import Headers, Identity, Machine

SKEW_SECONDS = 10  # clocks that differ by this much still agree on a token
LONGEST_TOKEN = 8192
IAP_ISSUER = "https://cloud.google.com/iap"
IAP_HEADER = "X-Goog-IAP-JWT-Assertion"
IAP_SUBJECT_PREFIX = "accounts.google.com:"  # source: IAP's documentation of its signed header


@dataclass(frozen=True, slots=True)
class _Believed:
    """Which tokens are believed: signed by these keys with this algorithm, from these issuers, for these audiences."""

    kind: str
    keys: SigningKeys
    algorithm: str
    issuers: tuple[str, ...]
    audiences: tuple[str, ...]


class GoogleIdentity(Identity):
    """``Identity`` by Google's tokens. People prove themselves by one source only, the configured one."""

    def __init__(self, settings: IdentitySettings) -> None:
        google = SigningKeys(settings.keys_url, "RS256")
        self._machines = _Believed(
            "an instance identity token", google, "RS256", settings.issuers, (settings.machine_audience,)
        )
        self._source = settings.source
        self._machine_service_account = settings.machine_service_account
        if settings.source is IdentitySource.IAP:
            iap = SigningKeys(settings.iap_keys_url, "ES256")
            self._people = _Believed("IAP's signed header", iap, "ES256", (IAP_ISSUER,), settings.user_audiences)
        else:
            self._people = _Believed("an ID token", google, "RS256", settings.issuers, settings.user_audiences)

    def person(self, headers: Headers) -> Person:
        """See the port. The same person has the same ``owner_id`` from either source."""
        if self._source is IdentitySource.IAP:
            return self._person_of_iap(headers)
        claims = _verify(_bearer(headers), self._people)
        email = claims.get("email")
        if "compute_engine" in _google_claim(claims) or (email and email == self._machine_service_account):
            raise NotAuthenticatedError("This is a machine's token. Use a person's ID token.")
        if email is not None and claims.get("email_verified") is not True:
            raise NotAuthenticatedError("The token's e-mail address is not verified. Verify it with Google first.")
        return _person(claims, claims["sub"])

    def machine(self, headers: Headers) -> Machine:
        """See the port."""
        claims = _verify(_bearer(headers), self._machines)
        try:
            compute = _google_claim(claims)["compute_engine"]
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

    def _person_of_iap(self, headers: Headers) -> Person:
        token = headers.get(IAP_HEADER)
        if not token:
            raise NotAuthenticatedError("The request did not come through Identity-Aware Proxy. Use the Hub's address.")
        claims = _verify(token, self._people)
        return _person(claims, claims["sub"].removeprefix(IAP_SUBJECT_PREFIX))


def _person(claims: Mapping[str, Any], subject: str) -> Person:
    if not subject:
        raise NotAuthenticatedError("The token names nobody.")
    email, hosted = claims.get("email"), claims.get("hd")
    return Person(subject, email if isinstance(email, str) else None, hosted if isinstance(hosted, str) else None)


def _verify(token: str, believed: _Believed) -> dict[str, Any]:
    """Return a token's claims, when everything about it is right.

    Raises:
        NotAuthenticatedError: something is not; it says what, and never a part of the token.
    """
    if len(token) > LONGEST_TOKEN:
        raise NotAuthenticatedError("The token is too long to be one of Google's.")
    try:
        header = jwt.get_unverified_header(token)
        if header.get("alg") != believed.algorithm:
            raise NotAuthenticatedError(
                f"The token is not signed with {believed.algorithm}. Use {believed.kind} that Google issued."
            )
        key_id = header.get("kid")
        key = believed.keys.find(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise NotAuthenticatedError(f"The token was not signed by Google. Use {believed.kind} that Google issued.")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[believed.algorithm],
            audience=believed.audiences,
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
        expected = " or ".join(believed.audiences)
        raise NotAuthenticatedError(f"The token is for another audience. Get one for {expected}.") from None
    except jwt.PyJWTError as error:
        raise NotAuthenticatedError(f"The token is not {believed.kind}: {_reason(error)}.") from None
    if claims["iss"] not in believed.issuers:
        raise NotAuthenticatedError(f"The token is from another issuer. Use {believed.kind} that Google issued.")
    if not isinstance(claims["sub"], str) or not claims["sub"]:
        raise NotAuthenticatedError("The token names nobody.")
    return claims


def _google_claim(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    claim = claims.get("google", {})
    if not isinstance(claim, dict):
        raise NotAuthenticatedError("The token is not Google's: its google claim is not an object.")
    return claim


def _bearer(headers: Headers) -> str:
    authorization = headers.get("Authorization")
    if not authorization:
        raise NotAuthenticatedError("There is no Authorization header. Send 'Authorization: Bearer <ID token>'.")
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticatedError("The Authorization header is not 'Bearer <ID token>'.")
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
