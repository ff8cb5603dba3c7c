"""The contract of ``Identity``, on the fake and on Google's tokens; invalid tokens; signing keys.

The tests include known faults of other verifiers: an audience or an issuer that is not checked,
another algorithm, the unsigned headers beside IAP's signed one, an ID token instead of IAP's
header, identities behind IAP that are not Google's, and addresses that prove no organisation.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared.adapters import google_identity, signing_keys, verified_tokens
from shared.adapters.google_identity import (
    IAP_HEADER,
    IAP_ISSUER,
    IAP_SUBJECT_PREFIX,
    LONGEST_EMAIL,
    LONGEST_TOKEN,
    SKEW_SECONDS,
    GoogleIdentity,
)
from shared.adapters.verified_tokens import VerifiedTokens
from shared.config import GOOGLE_ISSUERS, IdentitySource
from shared.config import Identity as IdentitySettings
from shared.domain.access import MachineIdentity, Person
from shared.domain.errors import NotAuthenticatedError, UnavailableError
from shared.ports import Headers, Identity
from tests.contract.servers import (
    PATIENCE_SECONDS,
    Answer,
    Responder,
    assert_told_in_time,
    dripping,
    json_answer,
    unanswering,
)
from tests.fakes.identity import FakeIdentity

AUDIENCE = "https://hub.example.com"
MACHINE_ACCOUNT = "machines@example-project.iam.gserviceaccount.com"
CLIENT_AUDIENCE = "1234.apps.googleusercontent.com"
IAP_AUDIENCE = "/projects/123456789012/global/backendServices/42"
MACHINE_AUDIENCE = "https://report-workspace.example.com"
ALICE = Person("108234567890123456789", "alice@example.com")
MACHINE = MachineIdentity("a-project", "us-west1-a", "workspace-1", "1234567890123456789")
COMPUTE = {
    "project_id": MACHINE.project_id,
    "project_number": 123456789012,
    "zone": MACHINE.zone,
    "instance_id": MACHINE.instance_id,
    "instance_name": MACHINE.instance_name,
    "instance_creation_timestamp": 1772442000,
}
KEY_ID = "key-1"
Claims = dict[str, Any]


class Key:
    """A signing key for ID tokens, of Google or of an impostor."""

    algorithm = "RS256"

    def __init__(self) -> None:
        self.private: Any = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kind: Any = jwt.algorithms.RSAAlgorithm

    def public(self, key_id: str = KEY_ID) -> dict[str, Any]:
        """Return the public key as a key of a JWK set."""
        public: dict[str, Any] = self.kind.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "kid": key_id, "alg": self.algorithm, "use": "sig"}

    def sign(self, claims: object, key_id: str | None = KEY_ID, **header: Any) -> str:
        """Return a token with these claims.

        The claims may be ones that a library would refuse to write.
        """
        said = {
            "alg": self.algorithm,
            "typ": "JWT",
            **({"kid": key_id} if key_id else {}),
            **header,
        }
        signed = f"{part(said)}.{part(claims)}"
        return (
            f"{signed}.{base64url(self.kind(self.kind.SHA256).sign(signed.encode(), self.private))}"
        )


class IapKey(Key):
    """A signing key of Identity-Aware Proxy, or of an impostor."""

    algorithm = "ES256"

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.kind = jwt.algorithms.ECAlgorithm


def base64url(data: bytes) -> str:
    """Return data in the base64url encoding of tokens."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(content: object) -> str:
    """Return a header or a body in the encoding of tokens."""
    return base64url(json.dumps(content).encode())


GOOGLE, STRANGER = Key(), Key()
IAP, IAP_STRANGER = IapKey(), IapKey()


def person(**changes: Any) -> Claims:
    """Return the claims of a person's ID token; None removes a claim."""
    now = int(time.time())
    claims = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "azp": CLIENT_AUDIENCE,
        "sub": ALICE.owner_id,
        "email": ALICE.email,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
    }
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def machine(compute: object = COMPUTE, **changes: Any) -> Claims:
    """Return the claims of a machine's identity token."""
    about = {
        "aud": MACHINE_AUDIENCE,
        "sub": "209876543210987654321",
        "google": {"compute_engine": compute},
    }
    return person(**{**about, "email": "vm@a-project.iam.gserviceaccount.com", **changes})


def settings(keys_url: str, iap_keys_url: str | None = None) -> IdentitySettings:
    """Return the Hub's identity settings.

    With IAP's keys, people prove themselves by IAP's header.
    """
    source = IdentitySource.ID_TOKEN if iap_keys_url is None else IdentitySource.IAP
    audiences = (AUDIENCE, CLIENT_AUDIENCE) if iap_keys_url is None else (IAP_AUDIENCE,)
    return IdentitySettings(
        source,
        keys_url,
        GOOGLE_ISSUERS,
        iap_keys_url or "",
        audiences,
        MACHINE_AUDIENCE,
        MACHINE_ACCOUNT,
    )


def bearing(token: str) -> dict[str, str]:
    """Return the headers of a request with a token."""
    return {"Authorization": f"Bearer {token}"}


def through_iap(token: str) -> dict[str, str]:
    """Return the headers of a request that Identity-Aware Proxy has signed."""
    return {IAP_HEADER: token}


def published(
    *keys: dict[str, Any], cache_control: str = "public, max-age=3600, must-revalidate"
) -> Answer:
    """Return a JWK set as Google serves it."""
    return json_answer({"keys": list(keys)}, Cache_Control=cache_control)


@pytest.fixture(scope="module")
def keys_url() -> Iterator[str]:
    """The URL of Google's keys."""
    responder = Responder()
    responder.answer = published(GOOGLE.public())
    yield responder.url
    responder.close()


@pytest.fixture
def google(keys_url: str) -> GoogleIdentity:
    """The identity port with Google's tokens."""
    return GoogleIdentity(settings(keys_url))


@pytest.fixture(scope="module")
def iap_keys_url() -> Iterator[str]:
    """The URL of Identity-Aware Proxy's keys."""
    responder = Responder()
    responder.answer = published(IAP.public())
    yield responder.url
    responder.close()


@pytest.fixture
def iap(keys_url: str, iap_keys_url: str) -> GoogleIdentity:
    """The identity port with Identity-Aware Proxy's header."""
    return GoogleIdentity(settings(keys_url, iap_keys_url))


def iap_person(**changes: Any) -> Claims:
    """Return the claims of Identity-Aware Proxy for a person; None removes a claim."""
    about = {
        "iss": IAP_ISSUER,
        "aud": IAP_AUDIENCE,
        "azp": IAP_AUDIENCE,
        "sub": f"{IAP_SUBJECT_PREFIX}{ALICE.owner_id}",
        "email_verified": None,
        "google": {"access_levels": ["accessPolicies/1/accessLevels/2"]},
    }
    return person(**{**about, **changes})


@dataclass(frozen=True)
class Way:
    """One of the two ways in which people prove who they are.

    It has a signing key and Alice's claims.
    """

    key: Key
    stranger: Key
    said: Callable[..., Claims]
    headers: Callable[[str], dict[str, str]]
    kind: str
    issuer: str
    audiences: tuple[str, ...]
    subject_prefix: str = ""

    def token(self, **changes: Any) -> str:
        """Return a token for Alice with these claims changed; None removes a claim."""
        return self.key.sign(self.said(**changes))

    def token_of(self, subject: str) -> str:
        """Return a token for a Google account."""
        return self.token(sub=f"{self.subject_prefix}{subject}")


WAYS = {
    "google": Way(
        GOOGLE,
        STRANGER,
        person,
        bearing,
        "an ID token",
        GOOGLE_ISSUERS[0],
        (AUDIENCE, CLIENT_AUDIENCE),
    ),
    "iap": Way(
        IAP,
        IAP_STRANGER,
        iap_person,
        through_iap,
        "IAP's signed header",
        IAP_ISSUER,
        (IAP_AUDIENCE,),
        IAP_SUBJECT_PREFIX,
    ),
}


@dataclass(frozen=True)
class Gate:
    """A way, and the identity port that accepts it."""

    way: Way
    identity: GoogleIdentity


@pytest.fixture(params=WAYS)
def gate(request: pytest.FixtureRequest) -> Gate:
    """Each of the two ways."""
    return Gate(WAYS[request.param], request.getfixturevalue(request.param))


# Both implementations


@dataclass(frozen=True)
class Subject:
    """An identity port, and the headers that prove Alice and the machine to it."""

    identity: Identity
    alice: dict[str, str]
    machine: dict[str, str]


@pytest.fixture(params=["fake", "google", "iap"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """An identity port that knows one person and one machine."""
    if request.param == "fake":
        return Subject(FakeIdentity({"a": ALICE}, {"m": MACHINE}), bearing("a"), bearing("m"))
    identity: GoogleIdentity = request.getfixturevalue(request.param)
    way = WAYS[request.param]
    return Subject(identity, way.headers(way.token()), bearing(GOOGLE.sign(machine())))


def test_a_person_is_who_their_token_proves(subject: Subject) -> None:
    """The person has the token's id and address."""
    assert subject.identity.person(subject.alice) == ALICE


def test_a_machine_is_the_one_that_its_token_proves(subject: Subject) -> None:
    """It has the token's project, zone, name and numeric id."""
    assert subject.identity.machine(subject.machine) == MACHINE


def test_the_scheme_is_read_in_any_case(subject: Subject) -> None:
    """RFC 9110: authentication schemes are case-insensitive."""
    headers = {"Authorization": subject.machine["Authorization"].replace("Bearer", "bearer")}
    assert subject.identity.machine(headers) == MACHINE


def test_tokens_of_people_and_machines_are_not_interchangeable(subject: Subject) -> None:
    """A person's token does not prove a machine, nor a machine's token a person."""
    with pytest.raises(NotAuthenticatedError):
        subject.identity.machine(subject.alice)
    with pytest.raises(NotAuthenticatedError):
        subject.identity.person(subject.machine)


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "a", " "]
)
def test_without_a_valid_token_nobody_is_authenticated(
    subject: Subject, authorization: str | None
) -> None:
    """This holds for people and machines."""
    headers = {} if authorization is None else {"Authorization": authorization}
    for enter in (subject.identity.person, subject.identity.machine):
        with pytest.raises(NotAuthenticatedError):
            enter(headers)


# Google's tokens


@pytest.mark.parametrize(
    ("claims", "who"),
    [
        (lambda: person(iss="accounts.google.com"), ALICE),
        (lambda: person(aud=CLIENT_AUDIENCE), ALICE),
        (lambda: person(aud=["https://elsewhere.example.com", AUDIENCE]), ALICE),
        (lambda: person(exp=int(time.time()) - SKEW_SECONDS // 2), ALICE),
        (lambda: person(iat=int(time.time()) + SKEW_SECONDS // 2), ALICE),
        (lambda: person(nbf=int(time.time()) + SKEW_SECONDS // 2), ALICE),
    ],
    ids=[
        "short issuer",
        "second audience",
        "of several",
        "just over",
        "early",
        "early nbf",
    ],
)
def test_what_google_may_say_is_believed(
    google: GoogleIdentity, claims: Callable[[], Claims], who: Person
) -> None:
    """Both spellings of the issuer, each audience of ours, and clocks that differ by seconds."""
    assert google.person(bearing(GOOGLE.sign(claims()))) == who


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        ({"hd": "example.com"}, Person(ALICE.owner_id, ALICE.email, "example.com")),
        ({"hd": "", "email": "", "email_verified": None}, Person(ALICE.owner_id)),
        ({"email": None, "email_verified": None}, Person(ALICE.owner_id)),
        ({"email_verified": True}, ALICE),
        ({"google": None}, ALICE),
        ({"google": {}}, ALICE),
        ({"name": "Ada \N{GRINNING FACE} of \N{CYRILLIC SMALL LETTER A}"}, ALICE),
        (
            {"email": "ad\N{CYRILLIC SMALL LETTER A}@ex\u00e4mple.com"},
            Person(ALICE.owner_id, "ad\u0430@ex\u00e4mple.com"),
        ),
        ({"email": f"{'a' * (LONGEST_EMAIL - 12)}@example.com"}, None),
    ],
    ids=[
        "organisation",
        "empty claims",
        "no address",
        "verified",
        "no google",
        "empty google",
        "a name of any letters",
        "an address of any letters",
        "the longest address",
    ],
)
def test_valid_claims_of_a_person_are_accepted_in_either_way(
    gate: Gate, changes: dict[str, Any], who: Person | None
) -> None:
    """Google may leave claims out, and an address may have other letters than ASCII."""
    proven = gate.identity.person(gate.way.headers(gate.way.token(**changes)))
    assert proven == (who or Person(ALICE.owner_id, changes["email"]))


@pytest.mark.parametrize("subject", ["1", "a" * 255, "dev-user-id"])
def test_a_persons_id_may_be_any_that_google_allows(gate: Gate, subject: str) -> None:
    """It has up to 255 ASCII characters."""
    assert gate.identity.person(gate.way.headers(gate.way.token_of(subject))).owner_id == subject


def hmac_with_the_public_key(way: Way) -> str:
    """Return a token with an HMAC made with the public key.

    A verifier that lets the token choose its algorithm would accept it.
    """
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': KEY_ID})}.{part(way.said())}"
    public = way.key.kind.to_jwk(way.key.private.public_key()).encode()
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    return f"{signed}.{base64url(hmac.sign(signed.encode(), public))}"


def altered(way: Way) -> str:
    """Return a valid token whose claims were changed to another person."""
    header, _, signature = way.token().split(".")
    return f"{header}.{part(way.said(sub=f'{way.subject_prefix}1'))}.{signature}"


def soon() -> int:
    """Return a time in the future."""
    return int(time.time()) + 600


def past() -> int:
    """Return a past time, past the accepted difference of clocks, too."""
    return int(time.time()) - SKEW_SECONDS - 5


def other(way: Way) -> Way:
    """Return the other way."""
    return next(each for each in WAYS.values() if each is not way)


Attempt = Callable[[Way], str]
NOT_DECODED = "it cannot be decoded"
FORGED = "its signature does not match"
NOT_GOOGLE = "was not signed by Google"
ANOTHER_ALGORITHM = "not signed with {algorithm}"
ANOTHER_AUDIENCE = "is for another audience. Get one for {audiences}."
ANOTHER_ISSUER = "from another issuer"
NOT_A_MACHINE = "not an instance identity token of format=full"
NOT_UNICODE = "has text that is not Unicode"
NO_SUBJECT = "sub is not one of Google's"
NO_ADDRESS = "e-mail address is not valid"
NOT_VERIFIED = "is not verified"
A_MACHINE = "a machine's token"
HALF = "\ud800"  # half of a character, a lone surrogate: JSON can have it, UTF-8 cannot
# Tokens that are refused in either way.
REFUSED: dict[str, tuple[Attempt, str]] = {
    # Not a token.
    "one word": (lambda _: "hunter2-is-my-password", NOT_DECODED),
    "two parts": (lambda way: way.token().rpartition(".")[0], NOT_DECODED),
    "not base64": (lambda _: "ééééééééé.ééééééééé.ééééééééé", NOT_DECODED),
    "half of a character": (lambda _: f"{HALF}.{HALF}.{HALF}", NOT_DECODED),
    "too long": (lambda _: "a" * (LONGEST_TOKEN + 1), "too long"),
    "a header that is no JSON": (
        lambda way: f"{base64url(b'{alg: 1}')}.{part(way.said())}.c2lnbmF0dXJl",
        NOT_DECODED,
    ),
    "a header that is a list": (
        lambda way: f"{part(['RS256'])}.{part(way.said())}.c2lnbmF0dXJl",
        NOT_DECODED,
    ),
    "a header without a bottom": (
        lambda way: f"{base64url(b'[' * 5000)}.{part(way.said())}.c2lnbmF0dXJl",
        NOT_DECODED,
    ),
    "a body that is a list": (lambda way: way.key.sign([way.said()]), NOT_DECODED),
    # Not signed by Google.
    "no algorithm": (
        lambda way: f"{part({'alg': 'none', 'kid': KEY_ID})}.{part(way.said())}.",
        ANOTHER_ALGORITHM,
    ),
    "no algorithm in capitals": (
        lambda way: way.key.sign(way.said(), alg="NONE"),
        ANOTHER_ALGORITHM,
    ),
    "the public key as a secret": (hmac_with_the_public_key, ANOTHER_ALGORITHM),
    "another hash": (
        lambda way: way.key.sign(way.said(), alg=f"{way.key.algorithm[:2]}512"),
        ANOTHER_ALGORITHM,
    ),
    "a stranger's key under Google's id": (lambda way: way.stranger.sign(way.said()), FORGED),
    "a stranger's key that it brings along": (
        lambda way: way.stranger.sign(way.said(), jwk=way.stranger.public()),
        FORGED,
    ),
    "a stranger's key under its own id": (
        lambda way: way.stranger.sign(way.said(), "key-2"),
        NOT_GOOGLE,
    ),
    "no key id": (lambda way: way.key.sign(way.said(), None), NOT_GOOGLE),
    "a key id that is a number": (
        lambda way: way.key.sign(way.said(), None, kid=1),
        "is not {kind}",
    ),
    "a key id that is half of a character": (
        lambda way: way.key.sign(way.said(), HALF),
        NOT_GOOGLE,
    ),
    "altered": (altered, FORGED),
    "cut off": (lambda way: way.token()[:-6], FORGED),
    "without a signature": (lambda way: f"{way.token().rpartition('.')[0]}.", FORGED),
    # Signed by Google, for another time.
    "over": (lambda way: way.token(exp=past()), "The token has expired"),
    "from the future": (lambda way: way.token(iat=soon()), "not valid yet"),
    "for later": (lambda way: way.token(nbf=soon()), "not valid yet"),
    "for ever": (lambda way: way.token(exp=None), "the claim exp is missing"),
    "an end that is no time": (lambda way: way.token(exp="tomorrow"), NOT_DECODED),
    "an end beyond numbers": (lambda way: way.token(exp=float("inf")), NOT_DECODED),
    "from no time": (lambda way: way.token(iat=None), "the claim iat is missing"),
    # Signed by Google, for somebody else.
    "for another": (lambda way: way.token(aud="https://elsewhere.example.com"), ANOTHER_AUDIENCE),
    "for others": (
        lambda way: way.token(aud=["https://elsewhere.example.com", "x"]),
        ANOTHER_AUDIENCE,
    ),
    "for our machines": (lambda way: way.token(aud=MACHINE_AUDIENCE), ANOTHER_AUDIENCE),
    "for one with our name in theirs": (
        lambda way: way.token(aud=f"{way.audiences[0]}.evil.example.com"),
        ANOTHER_AUDIENCE,
    ),
    "for nobody": (lambda way: way.token(aud=None), "the claim aud is missing"),
    "for a number": (lambda way: way.token(aud=5), ANOTHER_AUDIENCE),
    # Valid for the other way.
    "proof for the other way": (lambda way: other(way).token(), ANOTHER_ALGORITHM),
    "proof for the other way that says ours": (
        lambda way: other(way).key.sign(way.said()),
        ANOTHER_ALGORITHM,
    ),
    "the other way's issuer": (lambda way: way.token(iss=other(way).issuer), ANOTHER_ISSUER),
    "the other way's audience": (
        lambda way: way.token(aud=other(way).audiences[0]),
        ANOTHER_AUDIENCE,
    ),
    # Signed by the right key, but not a person's token.
    "another issuer": (lambda way: way.token(iss="https://evil.example.com"), ANOTHER_ISSUER),
    "an issuer almost like it": (lambda way: way.token(iss=f"{way.issuer}/"), ANOTHER_ISSUER),
    "several issuers": (lambda way: way.token(iss=[way.issuer, *GOOGLE_ISSUERS]), ANOTHER_ISSUER),
    "no issuer": (lambda way: way.token(iss=None), "the claim iss is missing"),
    "no person": (lambda way: way.token(sub=None), "the claim sub is missing"),
    "an empty person": (lambda way: way.token_of(""), "names nobody"),
    "a person that is a number": (
        lambda way: way.token(sub=1082345678901),
        "a claim is not what it should be",
    ),
    "an address that is not verified": (lambda way: way.token(email_verified=False), NOT_VERIFIED),
    "an address verified in words": (lambda way: way.token(email_verified="true"), NOT_VERIFIED),
    "an address verified by nothing": (
        lambda way: way.key.sign({**way.said(), "email_verified": None}),
        NOT_VERIFIED,
    ),
    "not verified, and no address": (
        lambda way: way.token(email=None, email_verified=False),
        NOT_VERIFIED,
    ),
    "a machine": (lambda way: way.token(google={"compute_engine": COMPUTE}), A_MACHINE),
    "a machine that says nothing of itself": (
        lambda way: way.token(google={"compute_engine": None}),
        A_MACHINE,
    ),
    "a program on a machine": (
        lambda way: way.token(email=MACHINE_ACCOUNT, email_verified=True),
        A_MACHINE,
    ),
    "a program on a machine, in capitals": (
        lambda way: way.token(email=MACHINE_ACCOUNT.upper(), email_verified=True),
        A_MACHINE,
    ),
    "a program that does not say on which machine": (
        lambda way: way.token(email=None, email_verified=None, azp=ALICE.owner_id),
        "does not say its address",
    ),
    "a google claim that is a list": (
        lambda way: way.token(google=["compute_engine"]),
        "google claim is not an object",
    ),
    # Texts that Google does not send.
    "half of a character in sub": (lambda way: way.token_of(f"1{HALF}"), NOT_UNICODE),
    "half of a character in email": (
        lambda way: way.token(email=f"a{HALF}@example.com"),
        NOT_UNICODE,
    ),
    "half of a character in hd": (lambda way: way.token(hd=f"{HALF}.com"), NOT_UNICODE),
    "half of a character in name": (lambda way: way.token(name=HALF), NOT_UNICODE),
    "half of a character below google": (
        lambda way: way.token(google={"access_levels": [[HALF]]}),
        NOT_UNICODE,
    ),
    "half of a character as a claim's name": (
        lambda way: way.key.sign({**way.said(), HALF: 1}),
        NOT_UNICODE,
    ),
    "two halves the wrong way round": (lambda way: way.token(name="\udc00\ud800"), NOT_UNICODE),
    "a sub of 256 characters": (lambda way: way.token_of("1" * 256), NO_SUBJECT),
    "a sub of 6000 characters": (lambda way: way.token_of("1" * 6000), "too long"),
    "a sub of other digits": (lambda way: way.token_of("\N{FULLWIDTH DIGIT ONE}"), NO_SUBJECT),
    "a sub with a space": (lambda way: way.token_of("1 2"), NO_SUBJECT),
    "a sub with a line's end": (lambda way: way.token_of("1\n"), NO_SUBJECT),
    "a sub with a zero character": (lambda way: way.token_of("1\0"), NO_SUBJECT),
    "an address of 321 characters": (
        lambda way: way.token(email=f"{'a' * 309}@example.com"),
        NO_ADDRESS,
    ),
    "an address of 3000 characters": (
        lambda way: way.token(email=f"{'a' * 3000}@example.com"),
        NO_ADDRESS,
    ),
    "an address of other letters of 321 characters": (
        lambda way: way.token(email=f"{chr(0xE4) * 309}@example.com"),
        NO_ADDRESS,
    ),
    "an address with a line's end": (lambda way: way.token(email="ada@example.com\n"), NO_ADDRESS),
    "an address with a space": (lambda way: way.token(email="ada @example.com"), NO_ADDRESS),
    "an address with a zero character": (
        lambda way: way.token(email="ada\0@example.com"),
        NO_ADDRESS,
    ),
    "an address written from right to left": (
        lambda way: way.token(email="ada\u202e@example.com"),
        NO_ADDRESS,
    ),
    "an address with what cannot be seen": (
        lambda way: way.token(email="ada\u200b@example.com"),
        NO_ADDRESS,
    ),
    "an address without a domain": (lambda way: way.token(email="example.com"), NO_ADDRESS),
    "an address that is a number": (lambda way: way.token(email=5), NO_ADDRESS),
    "an address that is a list": (lambda way: way.token(email=[MACHINE_ACCOUNT]), NO_ADDRESS),
    "a domain that is a list": (
        lambda way: way.token(hd=["example.com"]),
        "hosted domain is not valid",
    ),
    "a domain of 254 characters": (
        lambda way: way.token(hd="a" * 254),
        "hosted domain is not valid",
    ),
    "a domain with a line's end": (
        lambda way: way.token(hd="example.com\n"),
        "hosted domain is not valid",
    ),
}
TOKENS_REFUSED: dict[str, tuple[Attempt, str]] = {
    "an address that nobody looked at": (lambda way: way.token(email_verified=None), NOT_VERIFIED),
}
IAP_REFUSED: dict[str, tuple[Attempt, str]] = {
    name: (
        lambda way, subject=subject: way.token(sub=subject),  # type: ignore[misc]
        "not that of a Google account",
    )
    for name, subject in {
        "the bare sub of an ID token": ALICE.owner_id,
        "a person of Identity Platform": "securetoken.google.com/a-project:ZXCVBNM",
        "a person of a tenant of Identity Platform": (
            f"securetoken.google.com/a-project/a-tenant:{ALICE.owner_id}"
        ),
        "a person of a workforce pool": "sts.google.com:AbCdEf",
        "a prefix almost like it": f"accounts.google.com.evil.example.com:{ALICE.owner_id}",
        "a prefix in other letters": f"Accounts.Google.com:{ALICE.owner_id}",
        "the prefix behind something": f"x{IAP_SUBJECT_PREFIX}{ALICE.owner_id}",
        "an empty sub": "",
    }.items()
}
MACHINES_REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "a person": (lambda: GOOGLE.sign(person(aud=MACHINE_AUDIENCE)), NOT_A_MACHINE),
    "in the standard format": (lambda: GOOGLE.sign(machine(google=None)), NOT_A_MACHINE),
    "of something else of Google's": (
        lambda: GOOGLE.sign(machine(google={"cloud_run": {}})),
        NOT_A_MACHINE,
    ),
    "a google claim that is a text": (
        lambda: GOOGLE.sign(machine(google="compute_engine")),
        "is not an object",
    ),
    "a list": (lambda: GOOGLE.sign(machine(list(COMPUTE))), NOT_A_MACHINE),
    "a text": (lambda: GOOGLE.sign(machine("instance_id")), NOT_A_MACHINE),
    "for people's door": (
        lambda: GOOGLE.sign(machine(aud=AUDIENCE)),
        f"another audience. Get one for {MACHINE_AUDIENCE}.",
    ),
    "over": (lambda: GOOGLE.sign(machine(exp=past())), "has expired"),
    "forged": (lambda: STRANGER.sign(machine()), FORGED),
    "half of a character beside it": (lambda: GOOGLE.sign(machine(name=HALF)), NOT_UNICODE),
    "a sub of 256 characters": (lambda: GOOGLE.sign(machine(sub="1" * 256)), NO_SUBJECT),
}
ODD: dict[str, tuple[str, object]] = {
    "no project": ("project_id", None),
    "no zone": ("zone", None),
    "no name": ("instance_name", None),
    "no id": ("instance_id", None),
    "an empty project": ("project_id", ""),
    "an empty id": ("instance_id", ""),
    "a project that is too long": ("project_id", "a" * 31),
    "a zone that is too long": ("zone", "a" * 64),
    "a name that is too long": ("instance_name", "a" * 64),
    "an id that is too long": ("instance_id", "1" * 21),
    "a project of other letters": ("project_id", "a-pr\u043eject"),
    "a project that is a path": ("project_id", "a-project/zones"),
    "a zone that is a path": ("zone", "us-west1-a/../us-west1-b"),
    "a zone in capitals": ("zone", "US-WEST1-A"),
    "a name with a line's end": ("instance_name", f"{MACHINE.instance_name}\n"),
    "a name with a zero character": ("instance_name", "workspace-1\0"),
    "a name in capitals": ("instance_name", "WORKSPACE-1"),
    "an id of other digits": ("instance_id", "\N{ARABIC-INDIC DIGIT ONE}"),
    "a negative id": ("instance_id", "-1"),
    "an id that is a number": ("instance_id", 5),
    "a name that is a list": ("instance_name", [MACHINE.instance_name]),
}


def assert_refused(
    enter: Callable[[Headers], object],
    token: str,
    reason: str,
    headers: Callable[[str], dict[str, str]] = bearing,
) -> None:
    """Assert that a token is refused, with a reason that has no part of the token."""
    with pytest.raises(NotAuthenticatedError) as refused:
        enter(headers(token))
    said = str(refused.value)
    assert reason in said
    assert not [
        token[start : start + 8]
        for start in range(len(token) - 7)
        if token[start : start + 8] in said
    ]
    assert said.endswith(".")


@pytest.mark.parametrize("name", REFUSED)
def test_an_invalid_token_of_a_person_is_refused_with_the_reason(gate: Gate, name: str) -> None:
    """In either way the message says what is wrong, without any part of the token."""
    assert_way_refused(gate, *REFUSED[name])


@pytest.mark.parametrize("name", TOKENS_REFUSED)
def test_an_id_token_must_have_the_claims_that_google_always_sends(
    google: GoogleIdentity, name: str
) -> None:
    """IAP's header has fewer claims, so this is only for ID tokens."""
    assert_way_refused(Gate(WAYS["google"], google), *TOKENS_REFUSED[name])


@pytest.mark.parametrize("name", IAP_REFUSED)
def test_behind_iap_only_google_accounts_are_accepted(iap: GoogleIdentity, name: str) -> None:
    """Another identity provider could give its users any address."""
    assert_way_refused(Gate(WAYS["iap"], iap), *IAP_REFUSED[name])


def assert_way_refused(gate: Gate, attempt: Attempt, reason: str) -> None:
    """Assert that a person is refused in this way, with this reason."""
    way = gate.way
    expected = reason.format(
        algorithm=way.key.algorithm, audiences=" or ".join(way.audiences), kind=way.kind
    )
    assert_refused(gate.identity.person, attempt(way), expected, way.headers)


@pytest.mark.parametrize("name", MACHINES_REFUSED)
def test_an_invalid_token_of_a_machine_is_refused_with_the_reason(gate: Gate, name: str) -> None:
    """A machine needs all of Google's claims about it, however people prove themselves."""
    token, reason = MACHINES_REFUSED[name]
    assert_refused(gate.identity.machine, token(), reason)


@pytest.mark.parametrize("name", ODD)
def test_a_machine_with_names_that_compute_cannot_give_is_refused(
    google: GoogleIdentity, name: str
) -> None:
    """A claim that is missing, too long or of other characters is named, and not repeated."""
    claim, value = ODD[name]
    assert_refused(
        google.machine, GOOGLE.sign(machine({**COMPUTE, claim: value})), f"Its {claim} is not valid"
    )


@pytest.mark.parametrize("claim", ["project_id", "zone", "instance_name", "instance_id"])
def test_a_machine_with_a_lone_surrogate_is_refused(google: GoogleIdentity, claim: str) -> None:
    """Such text cannot be encoded, so it is never compared or stored."""
    assert_refused(google.machine, GOOGLE.sign(machine({**COMPUTE, claim: HALF})), NOT_UNICODE)


def test_a_machine_of_a_domain_scoped_project_is_accepted(google: GoogleIdentity) -> None:
    """Such a project's id has a colon."""
    token = GOOGLE.sign(machine({**COMPUTE, "project_id": "example.com:a-project"}))
    assert google.machine(bearing(token)).project_id == "example.com:a-project"


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "There is no Authorization header. Send 'Authorization: Bearer <ID token>'."),
        ("", "There is no Authorization header. Send 'Authorization: Bearer <ID token>'."),
        ("Basic YWxpY2U6c2VjcmV0", "The Authorization header is not 'Bearer <ID token>'."),
        ("Bearer", "The Authorization header is not 'Bearer <ID token>'."),
        ("Bearer    ", "The Authorization header is not 'Bearer <ID token>'."),
        ("eyJhbGciOiJSUzI1NiJ9.e30.e30", "The Authorization header is not 'Bearer <ID token>'."),
    ],
)
def test_a_header_without_a_token_is_refused_with_what_to_send(
    google: GoogleIdentity, authorization: str | None, reason: str
) -> None:
    """The message does not repeat the header."""
    with pytest.raises(NotAuthenticatedError) as refused:
        google.person({} if authorization is None else {"Authorization": authorization})
    assert str(refused.value) == reason


# Identity-Aware Proxy's header


def test_the_same_person_is_the_same_owner_by_token_and_through_iap(
    google: GoogleIdentity, iap: GoogleIdentity
) -> None:
    """A Hub that changes to IAP keeps everybody's workspaces."""
    by_token = google.person(bearing(GOOGLE.sign(person())))
    assert iap.person(through_iap(IAP.sign(iap_person()))) == by_token


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Goog-Authenticated-User-Email": "accounts.google.com:alice@example.com"},
        {"X-Goog-Authenticated-User-Id": f"accounts.google.com:{ALICE.owner_id}"},
        {"X-Forwarded-User": "alice@example.com"},
        bearing(GOOGLE.sign(person())),
        bearing(IAP.sign(iap_person())),
    ],
    ids=[
        "nothing",
        "unsigned address",
        "unsigned id",
        "another proxy's",
        "ID token",
        "in the other header",
    ],
)
def test_behind_iap_only_its_signed_header_is_trusted(
    iap: GoogleIdentity, headers: dict[str, str]
) -> None:
    """A client that reaches the Hub past the proxy can send every other header."""
    with pytest.raises(NotAuthenticatedError, match="did not come through Identity-Aware Proxy"):
        iap.person(headers)


def test_without_iap_its_header_proves_nothing(google: GoogleIdentity) -> None:
    """There is one source only: IAP's valid header is not an ID token."""
    with pytest.raises(NotAuthenticatedError):
        google.person(through_iap(IAP.sign(iap_person())))
    assert_refused(google.person, IAP.sign(iap_person()), "not signed with RS256")


def test_behind_iap_machines_still_prove_themselves_by_their_own_tokens(
    iap: GoogleIdentity,
) -> None:
    """Reports do not come through the proxy, and the proxy's header does not prove a machine."""
    assert iap.machine(bearing(GOOGLE.sign(machine()))) == MACHINE
    with pytest.raises(NotAuthenticatedError):
        iap.machine(through_iap(IAP.sign(iap_person(google={"compute_engine": COMPUTE}))))


# Remembered tokens


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that the library was asked to verify."""
    decoded: list[str] = []
    decode = jwt.decode

    def recorded(token: str, *args: Any, **kwargs: Any) -> Any:
        decoded.append(token)
        return decode(token, *args, **kwargs)

    monkeypatch.setattr(jwt, "decode", recorded)
    return decoded


def remembered_by(gate: Gate) -> VerifiedTokens:
    """Return the tokens of people that are remembered; only a test may ask."""
    return gate.identity._people_tokens.verified  # noqa: SLF001


def refusal(gate: Gate, token: str) -> str:
    """Return why a token of a person is refused."""
    with pytest.raises(NotAuthenticatedError) as refused:
        gate.identity.person(gate.way.headers(token))
    return str(refused.value)


def test_the_signature_of_a_token_is_verified_once(gate: Gate, decodes: list[str]) -> None:
    """The same token proves the same person again without the cost."""
    token = gate.way.token()
    for _ in range(3):
        assert gate.identity.person(gate.way.headers(token)) == ALICE
    assert decodes == [token]


def test_the_signature_of_a_machines_token_is_verified_once(
    google: GoogleIdentity, decodes: list[str]
) -> None:
    """Machines repeat a report with the same token until it is taken."""
    token = GOOGLE.sign(machine())
    for _ in range(3):
        assert google.machine(bearing(token)) == MACHINE
    assert decodes == [token]


def test_a_remembered_token_is_refused_once_it_has_expired(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is asked each time, and the message is that of any expired token."""
    token = gate.way.token()
    assert gate.identity.person(gate.way.headers(token)) == ALICE
    in_two_hours = datetime.now(UTC) + timedelta(hours=2)
    monkeypatch.setattr(google_identity, "time", SimpleNamespace(time=in_two_hours.timestamp))
    monkeypatch.setattr(jwt.api_jwt, "datetime", SimpleNamespace(now=lambda **_: in_two_hours))
    assert "has expired" in refusal(gate, token)
    assert not remembered_by(gate)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_remembered_token_is_refused_before_its_time(
    gate: Gate, claim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock was set back, so it is not valid yet."""
    token = gate.way.token(**{claim: int(time.time())})
    assert gate.identity.person(gate.way.headers(token)) == ALICE
    before = datetime.now(UTC) - timedelta(hours=1)
    monkeypatch.setattr(google_identity, "time", SimpleNamespace(time=before.timestamp))
    monkeypatch.setattr(jwt.api_jwt, "datetime", SimpleNamespace(now=lambda **_: before))
    assert "not valid yet" in refusal(gate, token)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"audiences": ("https://another.example.com",)}, "another audience"),
        ({"issuers": ("https://another.example.com",)}, "another issuer"),
    ],
    ids=["audience", "issuer"],
)
def test_issuer_and_audience_of_a_remembered_token_are_asked_each_time(
    gate: Gate, changed: dict[str, Any], words: str
) -> None:
    """Not that they can change in a process: what is remembered says nothing about them."""
    token = gate.way.token()
    assert gate.identity.person(gate.way.headers(token)) == ALICE
    trusted = replace(gate.identity._people_tokens, **changed)  # noqa: SLF001
    gate.identity._people_tokens = trusted  # noqa: SLF001
    assert len(trusted.verified) == 1
    assert words in refusal(gate, token)


def test_whom_a_remembered_token_proves_is_asked_each_time(gate: Gate, decodes: list[str]) -> None:
    """A machine's token with the audience of people has a good signature, and stays refused."""
    token = gate.way.token(google={"compute_engine": COMPUTE})
    assert [A_MACHINE in refusal(gate, token) for _ in range(2)] == [True, True]
    assert decodes == [token]


def test_a_remembered_token_is_good_for_one_purpose_only(
    google: GoogleIdentity, iap: GoogleIdentity
) -> None:
    """What proves a person proves no machine, and what proves a machine no person."""
    of_alice, of_machine = bearing(GOOGLE.sign(person())), bearing(GOOGLE.sign(machine()))
    for _ in range(2):
        assert google.person(of_alice) == ALICE
        assert google.machine(of_machine) == iap.machine(of_machine) == MACHINE
        for call in (
            lambda: google.machine(of_alice),
            lambda: google.person(of_machine),
            lambda: iap.person(through_iap(of_alice["Authorization"].partition(" ")[2])),
        ):
            with pytest.raises(NotAuthenticatedError):
                call()


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_token_is_refused_again_with_the_same_words(gate: Gate, name: str) -> None:
    """Nothing about the first time helps at the second."""
    token = REFUSED[name][0](gate.way)
    assert refusal(gate, token) == refusal(gate, token)


@pytest.mark.parametrize("name", [name for name in REFUSED if REFUSED[name][1] == FORGED])
def test_a_forged_token_is_not_remembered(gate: Gate, name: str) -> None:
    """Only a good signature is."""
    refusal(gate, REFUSED[name][0](gate.way))
    assert not remembered_by(gate)


def test_parts_of_a_remembered_token_prove_nothing(gate: Gate) -> None:
    """Another body with its header and signature, or another signature, is another token."""
    token = gate.way.token()
    assert gate.identity.person(gate.way.headers(token)) == ALICE
    header, body, signature = token.split(".")
    elsewhere = part(gate.way.said(sub=f"{gate.way.subject_prefix}1"))
    assert FORGED in refusal(gate, f"{header}.{elsewhere}.{signature}")
    assert FORGED in refusal(gate, f"{header}.{body}.{base64url(bytes(64))}")
    assert NOT_DECODED in refusal(gate, f"{token}.")
    assert NOT_DECODED in refusal(gate, token.rpartition(".")[0])


def test_few_tokens_are_remembered(
    gate: Gate, decodes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was not used for the longest time is dropped, and is then verified again."""
    monkeypatch.setattr(verified_tokens, "MOST_TOKENS", 3)
    tokens = [gate.way.token_of(str(number)) for number in range(1, 6)]
    for token in (*tokens, tokens[0]):
        gate.identity.person(gate.way.headers(token))
        gate.identity.person(gate.way.headers(tokens[4]))
    assert [decodes.count(token) for token in tokens] == [2, 1, 1, 1, 1]
    remembered = remembered_by(gate)
    assert len(remembered) == 3
    assert [bool(remembered.find(token)) for token in tokens] == [True, False, False, True, True]


def test_no_token_is_kept(gate: Gate) -> None:
    """Whoever reads the memory of a process does not find what lets them in."""
    token = gate.way.token()
    gate.identity.person(gate.way.headers(token))
    kept = repr(vars(remembered_by(gate)))
    assert ALICE.owner_id in kept
    assert not [each for each in token.split(".") if each in kept]


def test_many_threads_may_ask_at_once(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody stays who they are while tokens are remembered and dropped."""
    monkeypatch.setattr(verified_tokens, "MOST_TOKENS", 3)
    tokens = {str(number): gate.way.token_of(str(number)) for number in range(1, 9)}

    def asked(number: int) -> bool:
        subject = str(number % len(tokens) + 1)
        return gate.identity.person(gate.way.headers(tokens[subject])).owner_id == subject

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(asked, range(400)))
    assert len(remembered_by(gate)) == 3


# The keys


class Time:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.seconds


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock by which keys age."""
    passing = Time()
    monkeypatch.setattr(signing_keys, "time", SimpleNamespace(monotonic=passing.monotonic))
    return passing


class Door:
    """A Hub that Alice calls with tokens of different keys."""

    def __init__(self, responder: Responder) -> None:
        self.google = GoogleIdentity(settings(responder.url))
        self._responder = responder

    def lets_in(self, key: Key = GOOGLE, key_id: str = KEY_ID) -> bool:
        """Return whether a token of this key is accepted."""
        try:
            return self.google.person(bearing(key.sign(person(), key_id))) == ALICE
        except NotAuthenticatedError:
            return False

    @property
    def fetches(self) -> int:
        """How often the keys were fetched."""
        return len(self._responder.requests)


@pytest.fixture
def responder() -> Iterator[Responder]:
    """The server of the keys."""
    responder = Responder()
    yield responder
    responder.close()


@pytest.fixture
def door(responder: Responder, passing: Time) -> Door:
    """A Hub that has not fetched keys yet; Google publishes one key."""
    assert passing.seconds
    responder.answer = published(GOOGLE.public())
    return Door(responder)


def test_keys_are_fetched_when_the_first_token_comes_and_then_kept(door: Door) -> None:
    """They are not fetched when the process starts, nor for each request."""
    assert door.fetches == 0
    assert [door.lets_in() for _ in range(3)] == [True, True, True]
    assert door.fetches == 1


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [("public, max-age=60", 60), ("max-age=25", 25), ("", 3600), ("no-cache", 3600)],
)
def test_keys_are_kept_as_long_as_their_server_says(
    door: Door, responder: Responder, passing: Time, cache_control: str, seconds: int
) -> None:
    """``Cache-Control`` says how long, by default an hour.

    After that the next token fetches them.
    """
    responder.answer = published(GOOGLE.public(), cache_control=cache_control)
    assert door.lets_in()
    passing.seconds += seconds - 1
    assert door.lets_in()
    assert door.fetches == 1
    passing.seconds += 2
    assert door.lets_in()
    assert door.fetches == 2


def test_keys_that_may_not_be_kept_are_fetched_at_most_every_ten_seconds(
    door: Door, responder: Responder, passing: Time
) -> None:
    """A ``max-age`` of 0 does not make each request wait for a fetch."""
    responder.answer = published(GOOGLE.public(), cache_control="max-age=0")
    for _ in range(20):
        assert door.lets_in()
        passing.seconds += 1
    assert door.fetches == 2


def test_a_withdrawn_key_is_refused_after_the_next_fetch(
    door: Door, responder: Responder, passing: Time
) -> None:
    """Given keys that are fetched again, tokens of the missing key are refused."""
    assert door.lets_in()
    responder.answer = published(STRANGER.public("key-2"))
    passing.seconds += 3601
    assert not door.lets_in()
    assert door.lets_in(STRANGER, "key-2")


@pytest.mark.parametrize(
    "keys", [(STRANGER.public("key-2"),), (STRANGER.public(),)], ids=["withdrawn", "replaced"]
)
def test_a_remembered_token_goes_with_its_key(
    door: Door, responder: Responder, passing: Time, keys: tuple[dict[str, Any], ...]
) -> None:
    """Given keys that are fetched again, a token that another key verified is verified anew."""
    token = bearing(GOOGLE.sign(person()))
    assert [door.google.person(token) for _ in range(2)] == [ALICE, ALICE]
    responder.answer = published(*keys)
    passing.seconds += 3601
    with pytest.raises(NotAuthenticatedError):
        door.google.person(token)
    responder.answer = published(GOOGLE.public())
    passing.seconds += 3601
    assert door.google.person(token) == ALICE


def test_a_new_key_is_fetched_when_a_token_names_it(
    door: Door, responder: Responder, passing: Time
) -> None:
    """Google may sign with it long before the old keys expire."""
    assert door.lets_in()
    responder.answer = published(GOOGLE.public(), STRANGER.public("key-2"))
    passing.seconds += 11
    assert door.lets_in(STRANGER, "key-2")
    assert door.lets_in()
    assert door.fetches == 2


def test_unknown_key_ids_cause_at_most_one_fetch_in_ten_seconds(door: Door, passing: Time) -> None:
    """Strangers cannot cause many requests to Google, and valid tokens are accepted meanwhile."""
    for number in range(30):
        assert not door.lets_in(STRANGER, f"made-up-{number}")
        assert door.lets_in()
        passing.seconds += 1
    assert door.fetches == 3


AWAY: dict[str, Answer] = {
    "an error": Answer(500),
    "a page": Answer(200, b"<html>Sign in to this network</html>"),
    "another document": json_answer(["keys"]),
    "keys that are none": json_answer({"keys": ["x", 5]}),
    "no list of keys": json_answer({"keys": None}),
    "no keys": json_answer({"keys": []}),
    "a key without an id": json_answer({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}),
    "a key that is broken": json_answer(
        {"keys": [{"kty": "RSA", "kid": KEY_ID, "n": "!", "e": 5}]}
    ),
    "half of an answer": Answer(200, b'{"keys": [', {"Content-Length": "1000"}),
    "an answer without a bottom": Answer(200, b"[" * 100_000),
    "an answer without an end": Answer(
        200, b'{"keys": [' + b" " * signing_keys.LONGEST_ANSWER + b"]}"
    ),
}


@pytest.mark.parametrize("name", AWAY)
def test_keys_are_kept_when_their_servers_answer_is_useless(
    door: Door, responder: Responder, passing: Time, name: str
) -> None:
    """They are kept beyond their time, until there are new ones.

    They are fetched at most every ten seconds.
    """
    assert door.lets_in()
    good, responder.answer = responder.answer, AWAY[name]
    passing.seconds += 7200
    for _ in range(5):
        assert door.lets_in()
        passing.seconds += 1
    assert door.fetches == 2
    responder.answer = good
    passing.seconds += 10
    assert door.lets_in()
    assert door.fetches == 3


def test_keys_are_kept_when_their_server_is_gone(
    door: Door, responder: Responder, passing: Time
) -> None:
    """Its address refuses connections."""
    assert door.lets_in()
    responder.close()
    passing.seconds += 7200
    assert door.lets_in()
    assert not door.lets_in(STRANGER, "key-2")


@pytest.mark.parametrize("name", AWAY)
def test_without_any_keys_the_hub_is_unavailable(
    door: Door, responder: Responder, passing: Time, name: str
) -> None:
    """The person is not at fault: the error is ``UnavailableError`` until keys can be fetched."""
    good, responder.answer = responder.answer, AWAY[name]
    for _ in range(2):
        with pytest.raises(UnavailableError) as away:
            door.lets_in()
    assert door.fetches == 1
    responder.answer = good
    passing.seconds += away.value.retry_after.total_seconds()
    assert door.lets_in()


@pytest.mark.parametrize("how", ["closed", "silent"])
def test_a_key_server_that_does_not_answer_is_given_up_in_time(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request ends after the adapter's own timeout."""
    monkeypatch.setattr(signing_keys, "FETCH_TIMEOUT_SECONDS", 0.3)
    with unanswering(how) as address:
        google = GoogleIdentity(settings(f"http://{address}/keys"))
        assert_told_in_time({"person": lambda: google.person(bearing(GOOGLE.sign(person())))})


def test_a_key_server_whose_answer_never_ends_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bytes that keep coming do not extend the timeout."""
    monkeypatch.setattr(signing_keys, "FETCH_TIMEOUT_SECONDS", 0.3)
    with dripping() as address:
        google = GoogleIdentity(settings(f"http://{address}/keys"))
        assert_told_in_time({"person": lambda: google.person(bearing(GOOGLE.sign(person())))})


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make waits for keys longer than any test, so that a request that ends did not wait."""
    for name in ("FETCH_TIMEOUT_SECONDS", "UNKNOWN_KEY_WAIT_SECONDS"):
        monkeypatch.setattr(signing_keys, name, 20 * PATIENCE_SECONDS)


@pytest.fixture
def pool(responder: Responder) -> Iterator[ThreadPoolExecutor]:
    """Threads for many requests at once. At the end the key server answers, so that all can end."""
    with ThreadPoolExecutor(32) as pool:
        yield pool
        responder.answering.set()


def fetch_under_way(
    door: Door, responder: Responder, passing: Time, pool: ThreadPoolExecutor
) -> Future[bool]:
    """Return Alice's request that fetches expired keys from a server that does not answer."""
    assert door.lets_in()
    passing.seconds += 7200
    responder.answering.clear()
    first = pool.submit(door.lets_in)
    wait_until(lambda: door.fetches == 2)
    return first


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


@pytest.mark.usefixtures("patient")
def test_while_the_key_server_hangs_only_one_request_waits(
    door: Door, responder: Responder, passing: Time, pool: ThreadPoolExecutor
) -> None:
    """The others are accepted by the expired keys. The one continues when the server answers."""
    assert door.lets_in()
    passing.seconds += 7200
    responder.answering.clear()
    attempts = [pool.submit(door.lets_in) for _ in range(16)]
    ended = list(islice(as_completed(attempts, PATIENCE_SECONDS), 15))
    assert all(attempt.result() for attempt in ended)
    [waiting] = set(attempts) - set(ended)
    wait_until(lambda: door.fetches == 2)
    assert all(pool.map(lambda _: door.lets_in(), range(50), timeout=PATIENCE_SECONDS))
    assert not waiting.done()
    responder.answering.set()
    assert waiting.result(PATIENCE_SECONDS)
    assert door.fetches == 2


def test_the_request_that_waited_for_a_hanging_key_server_is_accepted(
    door: Door, responder: Responder, passing: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the adapter's timeout. In the next ten seconds no other request waits."""
    assert door.lets_in()
    monkeypatch.setattr(signing_keys, "FETCH_TIMEOUT_SECONDS", 0.2)
    passing.seconds += 7200
    responder.answering.clear()
    for _ in range(20):
        assert door.lets_in()
        passing.seconds += 1
    wait_until(lambda: door.fetches == 3)


def test_an_answer_after_the_timeout_is_used_for_later_requests(
    door: Door, responder: Responder, passing: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No further fetch is needed."""
    assert door.lets_in()
    monkeypatch.setattr(signing_keys, "FETCH_TIMEOUT_SECONDS", 0.2)
    passing.seconds += 7200
    responder.answering.clear()
    assert door.lets_in()
    responder.answer = published(STRANGER.public("key-2"))
    responder.answering.set()
    wait_until(lambda: door.lets_in(STRANGER, "key-2"))
    assert not door.lets_in()
    assert door.fetches == 2


def test_an_answer_that_comes_after_a_later_fetchs_answer_is_dropped(
    door: Door, responder: Responder, passing: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that were withdrawn between the two fetches do not come back."""
    assert door.lets_in()
    slow = Responder()
    slow.answer = responder.answer
    slow.answering.clear()
    responder.answer = published(STRANGER.public("key-2"))
    # The two fetches must be answered by two servers.
    keys = door.google._people_tokens.keys  # noqa: SLF001
    monkeypatch.setattr(signing_keys, "FETCH_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(keys, "_url", slow.url)
    passing.seconds += 7200
    assert door.lets_in()
    wait_until(lambda: bool(slow.requests))
    monkeypatch.setattr(signing_keys, "FETCH_TIMEOUT_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(keys, "_url", responder.url)
    passing.seconds += 10
    assert door.lets_in(STRANGER, "key-2")
    late = [thread for thread in threading.enumerate() if thread.name == signing_keys.THREAD_NAME]
    slow.close()
    for thread in late:
        thread.join(PATIENCE_SECONDS)
    assert not door.lets_in()
    assert door.lets_in(STRANGER, "key-2")


@pytest.mark.usefixtures("patient")
def test_a_token_of_a_new_key_waits_for_the_fetch_under_way(
    door: Door, responder: Responder, passing: Time, pool: ThreadPoolExecutor
) -> None:
    """Another fetch would be too late."""
    first = fetch_under_way(door, responder, passing, pool)
    with_new_key = pool.submit(door.lets_in, STRANGER, "key-2")
    responder.answer = published(GOOGLE.public(), STRANGER.public("key-2"))
    responder.answering.set()
    assert with_new_key.result(PATIENCE_SECONDS)
    assert first.result(PATIENCE_SECONDS)
    assert door.fetches == 2


@pytest.mark.usefixtures("patient")
def test_unknown_key_ids_do_not_wait_long_for_a_hanging_key_server(
    door: Door,
    responder: Responder,
    passing: Time,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are refused by the present keys, while another request waits for new ones."""
    first = fetch_under_way(door, responder, passing, pool)
    monkeypatch.setattr(signing_keys, "UNKNOWN_KEY_WAIT_SECONDS", 0.1)
    made_up = [f"made-up-{number}" for number in range(16)]
    assert not any(
        pool.map(lambda key_id: door.lets_in(STRANGER, key_id), made_up, timeout=PATIENCE_SECONDS)
    )
    assert not first.done()


def test_without_any_keys_all_requests_wait_for_one_fetch_at_most(
    door: Door, responder: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All requests of a cold process wait for the same fetch, and get ``UnavailableError``."""
    monkeypatch.setattr(signing_keys, "FETCH_TIMEOUT_SECONDS", 0.3)
    responder.answering.clear()
    assert_told_in_time({str(number): door.lets_in for number in range(16)})
    wait_until(lambda: door.fetches > 0)
    assert door.fetches == 1


def test_a_huge_max_age_means_that_keys_never_expire(door: Door, responder: Responder) -> None:
    """It causes no error."""
    responder.answer = published(GOOGLE.public(), cache_control=f"max-age={'9' * 5000}")
    assert [door.lets_in() for _ in range(2)] == [True, True]
    assert door.fetches == 1


def test_many_at_once_wait_for_one_fetch(door: Door) -> None:
    """A cold process with many requests fetches the keys once."""
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda _: door.lets_in(), range(32)))
    assert door.fetches == 1


def test_keys_of_other_types_are_ignored(door: Door, responder: Responder) -> None:
    """A JWK set may have keys that the Hub does not use."""
    other = {"kty": "EC", "kid": "ec-1", "crv": "P-256", "x": "AQAB", "y": "AQAB"}
    responder.answer = published(other, GOOGLE.public())
    assert door.lets_in()
