"""Who calls, proven by tokens that Google signed: ID tokens or IAP's header of people, identity tokens of machines."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from shared.adapters.signing_keys import SigningKeys
from shared.config import Identity as IdentitySettings
from shared.config import IdentitySource
from shared.domain.errors import NotAuthenticatedError
from shared.domain.people import Person, comparable
from shared.domain.plain_text import visible
from shared.ports import Headers, Identity, Machine

SKEW_SECONDS = 10  # clocks that differ by this much still agree on a token
LONGEST_TOKEN = 8192
IAP_ISSUER = "https://cloud.google.com/iap"
IAP_HEADER = "X-Goog-IAP-JWT-Assertion"
# Before the `sub` of a Google account in IAP's header. Other identities have others, like
# `securetoken.google.com/…` (Identity Platform) and `sts.google.com:` (workforce pools): their
# addresses are not Google's word, but that of whoever set these up. Source: IAP's documentation of
# its signed header and of external identities.
IAP_SUBJECT_PREFIX = "accounts.google.com:"
LONGEST_EMAIL = 320  # RFC 3696, erratum 1690: 64 before the @, 255 after it
LONGEST_DOMAIN = 253  # RFC 1035
_SUBJECT = re.compile(
    r"[!-~]{1,255}"
)  # source: Google's "OpenID Connect": at most 255 ASCII characters
# Source: Compute's "Naming resources" and Resource Manager's "Creating and managing projects"; a
# project's id has a domain before it where it was made in one, and an instance's is an unsigned
# 64-bit number.
_MACHINE = {
    "project_id": re.compile(r"([a-z0-9.-]{1,253}:)?[a-z][a-z0-9-]{0,28}[a-z0-9]"),
    "zone": re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"),
    "instance_name": re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"),
    "instance_id": re.compile(r"[0-9]{1,20}"),
}
_NOT_A_MACHINE = (
    "This is not an instance identity token of format=full. Only a workspace's machine may report."
)


@dataclass(frozen=True, slots=True)
class _Believed:
    """Which tokens are believed: signed by these keys with this algorithm, from these issuers, for these audiences.

    ``subject_prefix`` is what stands before an account's own ``sub``.
    """

    kind: str
    keys: SigningKeys
    algorithm: str
    issuers: tuple[str, ...]
    audiences: tuple[str, ...]
    subject_prefix: str = ""


class GoogleIdentity(Identity):
    """``Identity`` by Google's tokens. People prove themselves by one source only, the configured one."""

    def __init__(self, settings: IdentitySettings) -> None:
        google = SigningKeys(settings.keys_url, "RS256")
        self._machines = _Believed(
            "an instance identity token",
            google,
            "RS256",
            settings.issuers,
            (settings.machine_audience,),
        )
        self._source = settings.source
        self._machine_service_account = comparable(settings.machine_service_account)
        if settings.source is IdentitySource.IAP:
            iap = SigningKeys(settings.iap_keys_url, "ES256")
            self._people = _Believed(
                "IAP's signed header",
                iap,
                "ES256",
                (IAP_ISSUER,),
                settings.user_audiences,
                IAP_SUBJECT_PREFIX,
            )
        else:
            self._people = _Believed(
                "an ID token", google, "RS256", settings.issuers, settings.user_audiences
            )

    def person(self, headers: Headers) -> Person:
        """See the port. The same person has the same ``owner_id`` from either source.

        IAP vouches for addresses without ``email_verified``; an ID token that has an address must
        say that it is verified.
        """
        token = _assertion(headers) if self._source is IdentitySource.IAP else _bearer(headers)
        claims = _verify(token, self._people)
        person = Person(claims["sub"], _email(claims), _hosted_domain(claims))
        self._refuse_machines(claims, person)
        unsaid_will_do = self._source is IdentitySource.IAP or person.email is None
        if claims.get("email_verified", unsaid_will_do) is not True:
            raise NotAuthenticatedError(
                "The token's e-mail address is not verified. Verify it with Google first."
            )
        return person

    def machine(self, headers: Headers) -> Machine:
        """See the port."""
        claims = _verify(_bearer(headers), self._machines)
        compute = _google_claim(claims).get("compute_engine")
        if not isinstance(compute, dict):
            raise NotAuthenticatedError(_NOT_A_MACHINE)
        return Machine(**{name: _of_machine(name, compute.get(name)) for name in _MACHINE})

    def _refuse_machines(self, claims: Mapping[str, Any], person: Person) -> None:
        """Refuse what any program on a workspace's machine can get.

        A service account's token, of which ``azp`` is the account itself, may come without its
        address; then nobody can tell whether it is the machines'.
        """
        address = comparable(person.email)
        if "compute_engine" in _google_claim(claims) or (
            address and address == self._machine_service_account
        ):
            raise NotAuthenticatedError("This is a machine's token. Use a person's.")
        if person.email is None and claims.get("azp") == person.owner_id:
            raise NotAuthenticatedError(
                "This service account's token does not say its address. Ask for one that does."
            )


def _of_machine(name: str, value: object) -> str:
    if not isinstance(value, str) or not _MACHINE[name].fullmatch(value):
        raise NotAuthenticatedError(f"{_NOT_A_MACHINE} Its {name} is none that Compute gives.")
    return value


def _email(claims: Mapping[str, Any]) -> str | None:
    """Return the address, if the token has one. It may have letters of any language, but nothing that cannot be seen."""
    email = _line_of_text(claims.get("email"), LONGEST_EMAIL, "e-mail address")
    if email is not None and not re.fullmatch(r".+@.+", email):
        raise NotAuthenticatedError("The token's e-mail address is not one. Get another token.")
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
        raise NotAuthenticatedError(f"The token's {what} is not one. Get another token.")
    return value


def _verify(token: str, believed: _Believed) -> dict[str, Any]:
    """Return a token's claims, when everything about it is right. ``sub`` is the account's own, without a prefix.

    Raises:
        NotAuthenticatedError: something is not; it says what, and never a part of the token.
    """
    if len(token) > LONGEST_TOKEN:
        raise NotAuthenticatedError("The token is too long to be one of Google's.")
    if not token.isascii():
        raise NotAuthenticatedError(f"The token is not {believed.kind}: it cannot be decoded.")
    try:
        header = jwt.get_unverified_header(token)
        if header.get("alg") != believed.algorithm:
            raise NotAuthenticatedError(
                f"The token is not signed with {believed.algorithm}. Use {believed.kind} that Google issued."
            )
        key_id = header.get("kid")
        key = believed.keys.find(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise NotAuthenticatedError(
                f"The token was not signed by Google. Use {believed.kind} that Google issued."
            )
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
        raise NotAuthenticatedError(
            f"The token is for another audience. Get one for {expected}."
        ) from None
    except jwt.PyJWTError as error:
        raise NotAuthenticatedError(
            f"The token is not {believed.kind}: {_reason(error)}."
        ) from None
    if claims["iss"] not in believed.issuers:
        raise NotAuthenticatedError(
            f"The token is from another issuer. Use {believed.kind} that Google issued."
        )
    if not _is_unicode(claims):
        raise NotAuthenticatedError("The token has text that is not Unicode. Get another token.")
    return {**claims, "sub": _subject(claims["sub"], believed.subject_prefix)}


def _subject(subject: str, prefix: str) -> str:
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
    """Say whether all text in the claims can be written down: JSON can escape half of a character, a lone surrogate."""
    rest: list[object] = [claims]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest += [*value, *value.values()]
        elif isinstance(value, list):
            rest += value
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


def _assertion(headers: Headers) -> str:
    token = headers.get(IAP_HEADER)
    if not token:
        raise NotAuthenticatedError(
            "The request did not come through Identity-Aware Proxy. Use the Hub's address."
        )
    return token


def _bearer(headers: Headers) -> str:
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
