"""Proves who calls by tokens that Google signed.

People send an ID token or come with IAP's signed header. Machines send an instance identity token.
"""

import re
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from shared.adapters.signing_keys import SigningKeys
from shared.adapters.verified_tokens import Verified, VerifiedTokens
from shared.config import Identity as IdentitySettings
from shared.config import IdentitySource
from shared.domain.access import MachineIdentity, Person, normalized
from shared.domain.errors import NotAuthenticatedError
from shared.domain.plain_text import visible
from shared.ports import Headers, Identity

SKEW_SECONDS = 10  # by which the issuer's and the Hub's clock may differ
LONGEST_TOKEN = 8192
IAP_ISSUER = "https://cloud.google.com/iap"
IAP_HEADER = "X-Goog-IAP-JWT-Assertion"
# IAP's header has this prefix before the `sub` of a Google account. Other identities have other
# prefixes, such as `securetoken.google.com/…` (Identity Platform) and `sts.google.com:` (workforce
# pools). Google does not vouch for their addresses: whoever set up the identity provider does.
# Source: IAP's documentation of its signed header and of external identities.
IAP_SUBJECT_PREFIX = "accounts.google.com:"
LONGEST_EMAIL = 320  # source: RFC 3696, erratum 1690: 64 before the @, 255 after it
LONGEST_DOMAIN = 253  # source: RFC 1035
# At most 255 ASCII characters (source: Google's "OpenID Connect").
_SUBJECT = re.compile(r"[!-~]{1,255}")
# Source: Compute's "Naming resources" and Resource Manager's "Creating and managing projects". The
# id of a domain-scoped project starts with the domain. An instance's id is an unsigned 64-bit
# number.
_MACHINE_CLAIMS = {
    "project_id": re.compile(r"([a-z0-9.-]{1,253}:)?[a-z][a-z0-9-]{0,28}[a-z0-9]"),
    "zone": re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"),
    "instance_name": re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"),
    "instance_id": re.compile(r"[0-9]{1,20}"),
}
_NOT_A_MACHINE = (
    "This is not an instance identity token of format=full. Only a workspace's machine may report."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TrustedTokens:
    """The tokens that are accepted: by kind, signing key, algorithm, issuer and audience.

    Attributes:
        kind: what a token is called in messages, with its article.
        subject_prefix: the text before the account's own ``sub``.
        verified: those of them that were verified before.
    """

    kind: str
    keys: SigningKeys
    algorithm: str
    issuers: tuple[str, ...]
    audiences: tuple[str, ...]
    subject_prefix: str = ""
    verified: VerifiedTokens = field(default_factory=VerifiedTokens)


class GoogleIdentity(Identity):
    """``Identity`` by Google's tokens. People's tokens come from the configured source only."""

    def __init__(self, settings: IdentitySettings) -> None:
        google_keys = SigningKeys(settings.keys_url, "RS256")
        self._machine_tokens = _TrustedTokens(
            kind="an instance identity token",
            keys=google_keys,
            algorithm="RS256",
            issuers=settings.issuers,
            audiences=(settings.machine_audience,),
        )
        self._source = settings.source
        self._machine_service_account = normalized(settings.machine_service_account)
        if settings.source is IdentitySource.IAP:
            self._people_tokens = _TrustedTokens(
                kind="IAP's signed header",
                keys=SigningKeys(settings.iap_keys_url, "ES256"),
                algorithm="ES256",
                issuers=(IAP_ISSUER,),
                audiences=settings.user_audiences,
                subject_prefix=IAP_SUBJECT_PREFIX,
            )
        else:
            self._people_tokens = _TrustedTokens(
                kind="an ID token",
                keys=google_keys,
                algorithm="RS256",
                issuers=settings.issuers,
                audiences=settings.user_audiences,
            )

    def person(self, headers: Headers) -> Person:
        """See the port. The same person has the same ``owner_id`` from either source.

        IAP has verified every address and sends no ``email_verified``. An ID token with an address
        must say that the address is verified.
        """
        from_iap = self._source is IdentitySource.IAP
        token = _iap_assertion(headers) if from_iap else _bearer_token(headers)
        claims = _verified_claims(token, self._people_tokens)
        person = Person(claims["sub"], _email(claims), _hosted_domain(claims))
        self._refuse_machines(claims, person)
        verified_by_default = from_iap or person.email is None
        if claims.get("email_verified", verified_by_default) is not True:
            raise NotAuthenticatedError(
                "The token's e-mail address is not verified. Verify it with Google first."
            )
        return person

    def machine(self, headers: Headers) -> MachineIdentity:
        """See the port."""
        claims = _verified_claims(_bearer_token(headers), self._machine_tokens)
        compute = _google_claim(claims).get("compute_engine")
        if not isinstance(compute, dict):
            raise NotAuthenticatedError(_NOT_A_MACHINE)
        return MachineIdentity(
            **{name: _machine_claim(name, compute.get(name)) for name in _MACHINE_CLAIMS}
        )

    def _refuse_machines(self, claims: Mapping[str, Any], person: Person) -> None:
        """Refuse tokens that any program on a workspace's machine can get.

        A service account's token, whose ``azp`` is the account itself, may lack the address. Then
        it cannot be told from a token of the machines' service account, and is refused too.
        """
        address = normalized(person.email)
        if "compute_engine" in _google_claim(claims) or (
            address and address == self._machine_service_account
        ):
            raise NotAuthenticatedError("This is a machine's token. Use a person's.")
        if person.email is None and claims.get("azp") == person.owner_id:
            raise NotAuthenticatedError(
                "This service account's token does not say its address. Ask for one that does."
            )


def _machine_claim(name: str, value: object) -> str:
    if not isinstance(value, str) or not _MACHINE_CLAIMS[name].fullmatch(value):
        raise NotAuthenticatedError(f"{_NOT_A_MACHINE} Its {name} is not valid in Compute.")
    return value


def _email(claims: Mapping[str, Any]) -> str | None:
    """Return the address; None if the token has none.

    It may have letters of any language, but no invisible characters.
    """
    email = _line_of_text(claims.get("email"), LONGEST_EMAIL, "e-mail address")
    if email is not None and not re.fullmatch(r".+@.+", email):
        raise NotAuthenticatedError("The token's e-mail address is not valid. Get another token.")
    return email


def _hosted_domain(claims: Mapping[str, Any]) -> str | None:
    return _line_of_text(claims.get("hd"), LONGEST_DOMAIN, "hosted domain")


def _line_of_text(value: object, longest: int, what: str) -> str | None:
    if value is None or value == "":
        return None
    if (
        not isinstance(value, str)
        or len(value) > longest
        or visible(value) != value
        or any(unicodedata.category(character)[0] == "Z" for character in value)
    ):
        raise NotAuthenticatedError(f"The token's {what} is not valid. Get another token.")
    return value


def _verified_claims(token: str, trusted: _TrustedTokens) -> dict[str, Any]:
    """Return the claims of a valid token. ``sub`` is the account's own, without the prefix.

    Raises:
        NotAuthenticatedError: the token is not valid. The message says why, without any part of the
            token.
    """
    if len(token) > LONGEST_TOKEN:
        raise NotAuthenticatedError("The token is too long to be one of Google's.")
    if not token.isascii():
        raise NotAuthenticatedError(f"The token is not {trusted.kind}: it cannot be decoded.")
    if (claims := _remembered_claims(token, trusted)) is None:
        claims = _decoded_claims(token, trusted)
    return {**claims, "sub": _own_subject(claims["sub"], trusted.subject_prefix)}


def _remembered_claims(token: str, trusted: _TrustedTokens) -> Mapping[str, Any] | None:
    """Return the claims of a token that was verified before, if nothing speaks against them now.

    What may have changed since is checked each time: the key, the times, issuer and audience. If
    anything is not as it should be, the token is verified again from scratch, which says why.
    """
    verified = trusted.verified.find(token)
    if verified is None:
        return None
    claims, now = verified.claims, time.time()
    audience = [claims["aud"]] if isinstance(claims["aud"], str) else claims["aud"]
    if (
        trusted.keys.find(verified.key_id) is verified.key
        and claims["exp"] > now - SKEW_SECONDS
        and max(claims["iat"], claims.get("nbf", 0)) <= now + SKEW_SECONDS
        and claims["iss"] in trusted.issuers
        and not set(trusted.audiences).isdisjoint(audience)
    ):
        return claims
    trusted.verified.forget(token)
    return None


def _decoded_claims(token: str, trusted: _TrustedTokens) -> Mapping[str, Any]:
    """Return the claims of a token that the library verifies, and remember a valid one."""
    try:
        key_id, key = _signing_key(token, trusted)
        claims = _decode(token, key, trusted)
    except jwt.ExpiredSignatureError:
        raise NotAuthenticatedError("The token has expired. Get a new one.") from None
    except (jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError):
        raise NotAuthenticatedError(
            "The token is not valid yet. Check the clock of the machine that made it."
        ) from None
    except jwt.InvalidAudienceError:
        expected = " or ".join(trusted.audiences)
        raise NotAuthenticatedError(
            f"The token is for another audience. Get one for {expected}."
        ) from None
    except jwt.PyJWTError as error:
        raise NotAuthenticatedError(f"The token is not {trusted.kind}: {_reason(error)}.") from None
    if claims["iss"] not in trusted.issuers:
        raise NotAuthenticatedError(
            f"The token is from another issuer. Use {trusted.kind} that Google issued."
        )
    if not _is_unicode(claims):
        raise NotAuthenticatedError("The token has text that is not Unicode. Get another token.")
    if all(type(claims.get(name, 0)) is int for name in ("exp", "iat", "nbf")):
        trusted.verified.remember(token, Verified(key_id, key, claims))
    return claims


def _signing_key(token: str, trusted: _TrustedTokens) -> tuple[str, Any]:
    """Return the id of the key that a token says it is signed with, and the key."""
    header = jwt.get_unverified_header(token)
    if header.get("alg") != trusted.algorithm:
        raise NotAuthenticatedError(
            f"The token is not signed with {trusted.algorithm}."
            f" Use {trusted.kind} that Google issued."
        )
    key_id = header.get("kid")
    if not isinstance(key_id, str) or (key := trusted.keys.find(key_id)) is None:
        raise NotAuthenticatedError(
            f"The token was not signed by Google. Use {trusted.kind} that Google issued."
        )
    return key_id, key


def _decode(token: str, key: Any, trusted: _TrustedTokens) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=[trusted.algorithm],
        audience=trusted.audiences,
        leeway=SKEW_SECONDS,
        options={"require": ["exp", "iat", "aud", "iss", "sub"], "verify_iss": False},
    )
    return claims


def _own_subject(subject: str, prefix: str) -> str:
    if not subject.startswith(prefix):
        raise NotAuthenticatedError(
            "The token is not that of a Google account. Sign in with a Google account."
        )
    own = subject.removeprefix(prefix)
    if not own:
        raise NotAuthenticatedError("The token names nobody.")
    if not _SUBJECT.fullmatch(own):
        raise NotAuthenticatedError(
            "The token's sub is not one of Google's: up to 255 ASCII characters, no spaces."
        )
    return own


def _is_unicode(claims: Mapping[str, Any]) -> bool:
    """Return whether all text in the claims is valid Unicode.

    JSON can escape a lone surrogate, which is half of a character and cannot be encoded.
    """
    unchecked: list[object] = [claims]
    while unchecked:
        value = unchecked.pop()
        if isinstance(value, dict):
            unchecked += [*value, *value.values()]
        elif isinstance(value, list):
            unchecked += value
        elif (
            isinstance(value, str)
            and not value.isascii()
            and any("\ud800" <= each <= "\udfff" for each in value)
        ):
            return False
    return True


def _google_claim(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    claim = claims.get("google", {})
    if not isinstance(claim, dict):
        raise NotAuthenticatedError("The token is not Google's: its google claim is not an object.")
    return claim


def _iap_assertion(headers: Headers) -> str:
    token = headers.get(IAP_HEADER)
    if not token:
        raise NotAuthenticatedError(
            "The request did not come through Identity-Aware Proxy. Use the Hub's address."
        )
    return token


def _bearer_token(headers: Headers) -> str:
    authorization = headers.get("Authorization")
    if not authorization:
        raise NotAuthenticatedError(
            "There is no Authorization header. Send 'Authorization: Bearer <ID token>'."
        )
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticatedError("The Authorization header is not 'Bearer <ID token>'.")
    return token


def _reason(error: jwt.PyJWTError) -> str:
    """Return what is wrong with a token in a few words, without any part of the token."""
    match error:
        case jwt.MissingRequiredClaimError():
            return f"the claim {error.claim} is missing"
        case jwt.InvalidSignatureError():
            return "its signature does not match"
        case jwt.DecodeError():
            return "it cannot be decoded"
        case _:
            return "a claim is not what it should be"
