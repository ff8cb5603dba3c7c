"""The contract of `Identity`, on the fake and on Google's tokens; then every token that must not get in, and the keys."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared.adapters import signing_keys
from shared.adapters.google_identity import IAP_HEADER, IAP_ISSUER, LONGEST_TOKEN, SKEW_SECONDS, GoogleIdentity
from shared.config import GOOGLE_ISSUERS, IdentitySource
from shared.config import Identity as IdentitySettings
from shared.domain.errors import NotAuthenticatedError, UnavailableError
from shared.domain.people import Person
from shared.ports import Headers, Identity, Machine
from tests.contract.servers import Answer, Responder, assert_told_in_time, json_answer, unanswering
from tests.fakes.identity import FakeIdentity

AUDIENCE = "https://hub.example.com"
MACHINE_ACCOUNT = "machines@example-project.iam.gserviceaccount.com"
CLIENT_AUDIENCE = "1234.apps.googleusercontent.com"
IAP_AUDIENCE = "/projects/123456789012/global/backendServices/42"
MACHINE_AUDIENCE = "https://report-workspace.example.com"
ALICE = Person("108234567890123456789", "alice@example.com")
MACHINE = Machine("a-project", "us-west1-a", "workspace-1", "1234567890123456789")
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
    """A signing key."""

    def __init__(self) -> None:
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def public(self, key_id: str = KEY_ID) -> dict[str, Any]:
        """Return the public half as a key of a JWK set."""
        public: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "kid": key_id, "alg": "RS256", "use": "sig"}

    def sign(self, claims: object, key_id: str | None = KEY_ID, **header: Any) -> str:
        """Return a token that says this, whatever it is: what a library would refuse to write is what is tested."""
        said = {"alg": "RS256", "typ": "JWT", **({"kid": key_id} if key_id else {}), **header}
        signed = f"{part(said)}.{part(claims)}"
        algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
        return f"{signed}.{base64url(algorithm.sign(signed.encode(), self.private))}"


def base64url(data: bytes) -> str:
    """Return data as tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(content: object) -> str:
    """Return a header or a body as tokens have it."""
    return base64url(json.dumps(content).encode())


class IapKey:
    """A signing key of Identity-Aware Proxy, or of somebody who would like to be it."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())

    def public(self, key_id: str = KEY_ID) -> dict[str, Any]:
        """Return the public half as a key of a JWK set."""
        public: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "kid": key_id, "alg": "ES256", "use": "sig"}

    def sign(self, claims: object, key_id: str = KEY_ID, **header: Any) -> str:
        """Return a token that says this."""
        signed = f"{part({'alg': 'ES256', 'typ': 'JWT', 'kid': key_id, **header})}.{part(claims)}"
        algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
        return f"{signed}.{base64url(algorithm.sign(signed.encode(), self.private))}"


GOOGLE, STRANGER = Key(), Key()
IAP, IAP_STRANGER = IapKey(), IapKey()


def person(**changes: Any) -> Claims:
    """Return what a person's ID token says; None takes a claim out."""
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
    """Return what a machine's identity token says."""
    about = {"aud": MACHINE_AUDIENCE, "sub": "209876543210987654321", "google": {"compute_engine": compute}}
    return person(**{**about, "email": "vm@a-project.iam.gserviceaccount.com", **changes})


def without(name: str) -> dict[str, Any]:
    """Return what a machine is without one of its properties."""
    return {key: value for key, value in COMPUTE.items() if key != name}


def settings(keys_url: str, iap_keys_url: str | None = None) -> IdentitySettings:
    """Return whom the Hub of these tests believes; with IAP's keys, people prove themselves by its header."""
    source = IdentitySource.ID_TOKEN if iap_keys_url is None else IdentitySource.IAP
    audiences = (AUDIENCE, CLIENT_AUDIENCE) if iap_keys_url is None else (IAP_AUDIENCE,)
    return IdentitySettings(
        source, keys_url, GOOGLE_ISSUERS, iap_keys_url or "", audiences, MACHINE_AUDIENCE, MACHINE_ACCOUNT
    )


def bearing(token: str) -> dict[str, str]:
    """Return the headers of a request with a token."""
    return {"Authorization": f"Bearer {token}"}


def through_iap(token: str) -> dict[str, str]:
    """Return the headers of a request that comes through Identity-Aware Proxy with its signed header."""
    return {IAP_HEADER: token}


def published(*keys: dict[str, Any], cache_control: str = "public, max-age=3600, must-revalidate") -> Answer:
    """Return a JWK set as Google serves it."""
    return json_answer({"keys": list(keys)}, Cache_Control=cache_control)


@pytest.fixture(scope="module")
def keys_url() -> Iterator[str]:
    """Where Google's keys are."""
    responder = Responder()
    responder.answer = published(GOOGLE.public())
    yield responder.url
    responder.close()


@pytest.fixture
def google(keys_url: str) -> GoogleIdentity:
    """Identity by Google's tokens."""
    return GoogleIdentity(settings(keys_url))


@pytest.fixture(scope="module")
def iap_keys_url() -> Iterator[str]:
    """Where Identity-Aware Proxy's keys are."""
    responder = Responder()
    responder.answer = published(IAP.public())
    yield responder.url
    responder.close()


@pytest.fixture
def iap(keys_url: str, iap_keys_url: str) -> GoogleIdentity:
    """Identity by Identity-Aware Proxy's header."""
    return GoogleIdentity(settings(keys_url, iap_keys_url))


def iap_person(**changes: Any) -> Claims:
    """Return what Identity-Aware Proxy says of a person; None takes a claim out."""
    about = {
        "iss": IAP_ISSUER,
        "aud": IAP_AUDIENCE,
        "azp": None,
        "sub": f"accounts.google.com:{ALICE.owner_id}",
        "email_verified": None,
    }
    return person(**{**about, **changes})


# All


@dataclass(frozen=True)
class Subject:
    """An identity port, and what proves to it that Alice and the machine call."""

    identity: Identity
    alice: dict[str, str]
    machine: dict[str, str]


@pytest.fixture(params=["fake", "google", "iap"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """An identity port that knows one person and one machine."""
    if request.param == "fake":
        return Subject(FakeIdentity({"a": ALICE}, {"m": MACHINE}), bearing("a"), bearing("m"))
    identity: GoogleIdentity = request.getfixturevalue(request.param)
    alice = bearing(GOOGLE.sign(person())) if request.param == "google" else through_iap(IAP.sign(iap_person()))
    return Subject(identity, alice, bearing(GOOGLE.sign(machine())))


def test_a_person_is_who_their_token_proves(subject: Subject) -> None:
    """Their id and their address."""
    assert subject.identity.person(subject.alice) == ALICE


def test_a_machine_is_which_its_token_proves(subject: Subject) -> None:
    """Project, zone, name and numeric id."""
    assert subject.identity.machine(subject.machine) == MACHINE


def test_the_scheme_is_read_in_any_case(subject: Subject) -> None:
    """RFC 9110: authentication schemes are case-insensitive."""
    headers = {"Authorization": subject.machine["Authorization"].replace("Bearer", "bearer")}
    assert subject.identity.machine(headers) == MACHINE


def test_a_person_is_no_machine_and_a_machine_no_person(subject: Subject) -> None:
    """Each proof is good for its own door only."""
    with pytest.raises(NotAuthenticatedError):
        subject.identity.machine(subject.alice)
    with pytest.raises(NotAuthenticatedError):
        subject.identity.person(subject.machine)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "a", " "])
def test_without_a_good_token_nobody_gets_in(subject: Subject, authorization: str | None) -> None:
    """Neither as a person nor as a machine."""
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
        (lambda: person(email=None, email_verified=None), Person(ALICE.owner_id, None)),
        (lambda: person(google={}), ALICE),
        (lambda: person(exp=int(time.time()) - SKEW_SECONDS // 2), ALICE),
        (lambda: person(iat=int(time.time()) + SKEW_SECONDS // 2), ALICE),
        (lambda: person(nbf=int(time.time()) + SKEW_SECONDS // 2), ALICE),
    ],
    ids=[
        "short issuer",
        "second audience",
        "of several",
        "no address",
        "empty google",
        "just over",
        "early",
        "early nbf",
    ],
)
def test_what_google_may_say_is_believed(google: GoogleIdentity, claims: Callable[[], Claims], who: Person) -> None:
    """Both spellings of the issuer, each audience of ours, and clocks that differ by seconds."""
    assert google.person(bearing(GOOGLE.sign(claims()))) == who


def hmac_with_the_public_key() -> str:
    """Return a token whose HMAC is made with what everybody knows, for verifiers that let the token choose."""
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': KEY_ID})}.{part(person())}"
    public = jwt.algorithms.RSAAlgorithm.to_jwk(GOOGLE.private.public_key()).encode()
    return f"{signed}.{base64url(jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signed.encode(), public))}"


def altered() -> str:
    """Return a good token whose bearer made themselves somebody else."""
    header, _, signature = GOOGLE.sign(person()).split(".")
    return f"{header}.{part(person(sub='1'))}.{signature}"


def soon() -> int:
    """Return a time that has not come."""
    return int(time.time()) + 600


def past() -> int:
    """Return a time that is over, also for clocks that differ."""
    return int(time.time()) - SKEW_SECONDS - 5


NOT_DECODED = "it cannot be decoded"
FORGED = "its signature does not match"
NOT_GOOGLE = "was not signed by Google"
NOT_RS256 = "not signed with RS256"
ANOTHER_AUDIENCE = f"is for another audience. Get one for {AUDIENCE} or {CLIENT_AUDIENCE}."
NOT_A_MACHINE = "not an instance identity token of format=full"
REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    # What is no token.
    "one word": (lambda: "hunter2-is-my-password", NOT_DECODED),
    "two parts": (lambda: GOOGLE.sign(person()).rpartition(".")[0], NOT_DECODED),
    "not base64": (lambda: "ééééééééé.ééééééééé.ééééééééé", NOT_DECODED),
    "too long": (lambda: "a" * (LONGEST_TOKEN + 1), "too long"),
    "a header that is no JSON": (lambda: f"{base64url(b'{alg: RS256}')}.{part(person())}.c2lnbmF0dXJl", NOT_DECODED),
    "a header that is a list": (lambda: f"{part(['RS256'])}.{part(person())}.c2lnbmF0dXJl", NOT_DECODED),
    "a header without a bottom": (lambda: f"{base64url(b'[' * 5000)}.{part(person())}.c2lnbmF0dXJl", NOT_DECODED),
    "a body that is a list": (lambda: GOOGLE.sign([person()]), NOT_DECODED),
    # Whoever signed it, it was not Google.
    "no algorithm": (lambda: f"{part({'alg': 'none', 'kid': KEY_ID})}.{part(person())}.", NOT_RS256),
    "no algorithm in capitals": (lambda: GOOGLE.sign(person(), alg="NONE"), NOT_RS256),
    "the public key as a secret": (hmac_with_the_public_key, NOT_RS256),
    "another hash": (lambda: GOOGLE.sign(person(), alg="RS512"), NOT_RS256),
    "a stranger's key under Google's id": (lambda: STRANGER.sign(person()), FORGED),
    "a stranger's key that it brings along": (lambda: STRANGER.sign(person(), jwk=STRANGER.public()), FORGED),
    "a stranger's key under its own id": (lambda: STRANGER.sign(person(), "key-2"), NOT_GOOGLE),
    "no key id": (lambda: GOOGLE.sign(person(), None), NOT_GOOGLE),
    "a key id that is a number": (lambda: GOOGLE.sign(person(), None, kid=1), "is not an ID token"),
    "altered": (altered, FORGED),
    "cut off": (lambda: GOOGLE.sign(person())[:-6], FORGED),
    "without a signature": (lambda: f"{GOOGLE.sign(person()).rpartition('.')[0]}.", FORGED),
    # Google signed it, but not for now.
    "over": (lambda: GOOGLE.sign(person(exp=past())), "The token has expired"),
    "from the future": (lambda: GOOGLE.sign(person(iat=soon())), "not valid yet"),
    "for later": (lambda: GOOGLE.sign(person(nbf=soon())), "not valid yet"),
    "for ever": (lambda: GOOGLE.sign(person(exp=None)), "the claim exp is missing"),
    "an end that is no time": (lambda: GOOGLE.sign(person(exp="tomorrow")), NOT_DECODED),
    "an end beyond numbers": (lambda: GOOGLE.sign(person(exp=float("inf"))), NOT_DECODED),
    "from no time": (lambda: GOOGLE.sign(person(iat=None)), "the claim iat is missing"),
    # Google signed it, but not for us.
    "for another": (lambda: GOOGLE.sign(person(aud="https://elsewhere.example.com")), ANOTHER_AUDIENCE),
    "for others": (lambda: GOOGLE.sign(person(aud=["https://elsewhere.example.com", "x"])), ANOTHER_AUDIENCE),
    "for our machines": (lambda: GOOGLE.sign(person(aud=MACHINE_AUDIENCE)), ANOTHER_AUDIENCE),
    "for one with our name in theirs": (
        lambda: GOOGLE.sign(person(aud=f"{AUDIENCE}.evil.example.com")),
        ANOTHER_AUDIENCE,
    ),
    "for nobody": (lambda: GOOGLE.sign(person(aud=None)), "the claim aud is missing"),
    "for a number": (lambda: GOOGLE.sign(person(aud=5)), ANOTHER_AUDIENCE),
    # The right key, but not Google's word about a person.
    "another issuer": (lambda: GOOGLE.sign(person(iss="https://evil.example.com")), "from another issuer"),
    "an issuer almost like it": (
        lambda: GOOGLE.sign(person(iss="https://accounts.google.com/")),
        "from another issuer",
    ),
    "several issuers": (lambda: GOOGLE.sign(person(iss=list(GOOGLE_ISSUERS))), "from another issuer"),
    "no issuer": (lambda: GOOGLE.sign(person(iss=None)), "the claim iss is missing"),
    "no person": (lambda: GOOGLE.sign(person(sub=None)), "the claim sub is missing"),
    "an empty person": (lambda: GOOGLE.sign(person(sub="")), "names nobody"),
    "a person that is a number": (
        lambda: GOOGLE.sign(person(sub=108234567890123456789)),
        "a claim is not what it should be",
    ),
    "an address that is not verified": (lambda: GOOGLE.sign(person(email_verified=False)), "is not verified"),
    "an address that nobody looked at": (lambda: GOOGLE.sign(person(email_verified=None)), "is not verified"),
    "an address verified in words": (lambda: GOOGLE.sign(person(email_verified="true")), "is not verified"),
    "a machine": (lambda: GOOGLE.sign(machine(aud=AUDIENCE)), "a machine's token"),
    "a program on a machine": (lambda: GOOGLE.sign(person(email=MACHINE_ACCOUNT)), "a machine's token"),
    "a google claim that is a list": (
        lambda: GOOGLE.sign(person(google=["compute_engine"])),
        "google claim is not an object",
    ),
}
MACHINES_REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "a person": (lambda: GOOGLE.sign(person(aud=MACHINE_AUDIENCE)), NOT_A_MACHINE),
    "in the standard format": (lambda: GOOGLE.sign(machine(google=None)), NOT_A_MACHINE),
    "of something else of Google's": (lambda: GOOGLE.sign(machine(google={"cloud_run": {}})), NOT_A_MACHINE),
    "without a project": (lambda: GOOGLE.sign(machine(without("project_id"))), NOT_A_MACHINE),
    "without a zone": (lambda: GOOGLE.sign(machine(without("zone"))), NOT_A_MACHINE),
    "without a name": (lambda: GOOGLE.sign(machine(without("instance_name"))), NOT_A_MACHINE),
    "without an id": (lambda: GOOGLE.sign(machine(without("instance_id"))), NOT_A_MACHINE),
    "a list": (lambda: GOOGLE.sign(machine(list(COMPUTE))), NOT_A_MACHINE),
    "a text": (lambda: GOOGLE.sign(machine("instance_id")), NOT_A_MACHINE),
    "for people's door": (
        lambda: GOOGLE.sign(machine(aud=AUDIENCE)),
        f"another audience. Get one for {MACHINE_AUDIENCE}.",
    ),
    "over": (lambda: GOOGLE.sign(machine(exp=past())), "has expired"),
    "forged": (lambda: STRANGER.sign(machine()), FORGED),
}


def assert_refused(
    enter: Callable[[Headers], object],
    token: str,
    reason: str,
    headers: Callable[[str], dict[str, str]] = bearing,
) -> None:
    """See that the door stays shut, and that the words on it are a reason and no part of the token."""
    with pytest.raises(NotAuthenticatedError) as refused:
        enter(headers(token))
    said = str(refused.value)
    assert reason in said
    assert not [token[start : start + 8] for start in range(len(token) - 7) if token[start : start + 8] in said]
    assert said.endswith(".")


@pytest.mark.parametrize("name", REFUSED)
def test_a_token_that_proves_no_person_is_refused_with_the_reason(google: GoogleIdentity, name: str) -> None:
    """The person reads what is wrong, and nothing of the token."""
    token, reason = REFUSED[name]
    assert_refused(google.person, token(), reason)


@pytest.mark.parametrize("name", MACHINES_REFUSED)
def test_a_token_that_proves_no_machine_is_refused_with_the_reason(google: GoogleIdentity, name: str) -> None:
    """A machine needs Google's whole word about it."""
    token, reason = MACHINES_REFUSED[name]
    assert_refused(google.machine, token(), reason)


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
    """Nothing of what was sent is said back."""
    with pytest.raises(NotAuthenticatedError) as refused:
        google.person({} if authorization is None else {"Authorization": authorization})
    assert str(refused.value) == reason


def test_a_person_of_an_organisation_brings_its_domain(google: GoogleIdentity, iap: GoogleIdentity) -> None:
    """From either source: allowed domains go by it."""
    expected = Person(ALICE.owner_id, ALICE.email, "example.com")
    assert google.person(bearing(GOOGLE.sign(person(hd="example.com")))) == expected
    assert iap.person(through_iap(IAP.sign(iap_person(hd="example.com")))) == expected


# Identity-Aware Proxy's header


def test_the_same_person_is_the_same_owner_by_token_and_through_iap(
    google: GoogleIdentity, iap: GoogleIdentity
) -> None:
    """A Hub that changes over to IAP keeps everybody's workspaces."""
    by_token = google.person(bearing(GOOGLE.sign(person())))
    assert iap.person(through_iap(IAP.sign(iap_person()))) == by_token


IAP_REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "an ID token": (lambda: GOOGLE.sign(person()), "not signed with ES256"),
    "an ID token for IAP's audience": (lambda: GOOGLE.sign(iap_person()), "not signed with ES256"),
    "unsigned": (lambda: f"{part({'alg': 'none', 'kid': KEY_ID})}.{part(iap_person())}.", "not signed with ES256"),
    "a stranger's key under IAP's id": (lambda: IAP_STRANGER.sign(iap_person()), FORGED),
    "a stranger's key under its own id": (lambda: IAP_STRANGER.sign(iap_person(), "key-2"), NOT_GOOGLE),
    "Google's issuer": (lambda: IAP.sign(iap_person(iss="https://accounts.google.com")), "from another issuer"),
    "an ID token's audience": (
        lambda: IAP.sign(iap_person(aud=AUDIENCE)),
        f"is for another audience. Get one for {IAP_AUDIENCE}.",
    ),
    "over": (lambda: IAP.sign(iap_person(exp=past())), "has expired"),
    "from the future": (lambda: IAP.sign(iap_person(iat=soon())), "not valid yet"),
    "no person": (lambda: IAP.sign(iap_person(sub=None)), "the claim sub is missing"),
    "an empty person": (lambda: IAP.sign(iap_person(sub="")), "names nobody"),
    "a person of no number": (lambda: IAP.sign(iap_person(sub="accounts.google.com:")), "names nobody"),
    "too long": (lambda: "a" * (LONGEST_TOKEN + 1), "too long"),
    "one word": (lambda: "hunter2-is-my-password", NOT_DECODED),
}


@pytest.mark.parametrize("name", IAP_REFUSED)
def test_a_header_that_iap_did_not_write_for_us_is_refused_with_the_reason(iap: GoogleIdentity, name: str) -> None:
    """Its own algorithm, keys, issuer and audience; nothing that is good elsewhere is good here."""
    token, reason = IAP_REFUSED[name]
    assert_refused(iap.person, token(), reason, through_iap)


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
    ids=["nothing", "unsigned address", "unsigned id", "another proxy's", "ID token", "in the other header"],
)
def test_behind_iap_nothing_but_its_signed_header_is_believed(iap: GoogleIdentity, headers: dict[str, str]) -> None:
    """Whoever reaches the Hub past the proxy can write every header but that one."""
    with pytest.raises(NotAuthenticatedError, match="did not come through Identity-Aware Proxy"):
        iap.person(headers)


def test_without_iap_its_header_proves_nothing(google: GoogleIdentity) -> None:
    """One source only: a good header of IAP is no ID token."""
    with pytest.raises(NotAuthenticatedError):
        google.person(through_iap(IAP.sign(iap_person())))
    assert_refused(google.person, IAP.sign(iap_person()), NOT_RS256)


def test_behind_iap_machines_still_prove_themselves_by_their_own_tokens(iap: GoogleIdentity) -> None:
    """A report does not come through the proxy, and the proxy's word does not make a machine."""
    assert iap.machine(bearing(GOOGLE.sign(machine()))) == MACHINE
    with pytest.raises(NotAuthenticatedError):
        iap.machine(through_iap(IAP.sign(iap_person(google={"compute_engine": COMPUTE}))))


# The keys


class Time:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        """Return it."""
        return self.seconds


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The time that the keys age by."""
    passing = Time()
    monkeypatch.setattr(signing_keys, "time", SimpleNamespace(monotonic=passing.monotonic))
    return passing


class Door:
    """A Hub at which Alice knocks, with a token of whichever key."""

    def __init__(self, responder: Responder) -> None:
        self.google = GoogleIdentity(settings(responder.url))
        self._responder = responder

    def lets_in(self, key: Key = GOOGLE, key_id: str = KEY_ID) -> bool:
        """Return whether a token of this key is believed."""
        try:
            return self.google.person(bearing(key.sign(person(), key_id))) == ALICE
        except NotAuthenticatedError:
            return False

    @property
    def fetches(self) -> int:
        """How often the keys were asked for."""
        return len(self._responder.requests)


@pytest.fixture
def responder() -> Iterator[Responder]:
    """The server of the keys."""
    responder = Responder()
    yield responder
    responder.close()


@pytest.fixture
def door(responder: Responder, passing: Time) -> Door:
    """A Hub that has not asked for keys yet; Google publishes one."""
    assert passing.seconds
    responder.answer = published(GOOGLE.public())
    return Door(responder)


def test_keys_are_fetched_when_the_first_token_comes_and_then_kept(door: Door) -> None:
    """Not when the process starts, and not for each request."""
    assert door.fetches == 0
    assert [door.lets_in() for _ in range(3)] == [True, True, True]
    assert door.fetches == 1


@pytest.mark.parametrize(
    ("cache_control", "seconds"), [("public, max-age=60", 60), ("max-age=25", 25), ("", 3600), ("no-cache", 3600)]
)
def test_keys_are_kept_as_long_as_their_server_says(
    door: Door, responder: Responder, passing: Time, cache_control: str, seconds: int
) -> None:
    """By `Cache-Control`, an hour where it says nothing; then the next token fetches them anew."""
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
    """A `max-age` of 0 does not make each request wait for a fetch."""
    responder.answer = published(GOOGLE.public(), cache_control="max-age=0")
    for _ in range(20):
        assert door.lets_in()
        passing.seconds += 1
    assert door.fetches == 2


def test_a_key_that_was_withdrawn_is_believed_no_more(door: Door, responder: Responder, passing: Time) -> None:
    """Once the keys have been fetched anew."""
    assert door.lets_in()
    responder.answer = published(STRANGER.public("key-2"))
    passing.seconds += 3601
    assert not door.lets_in()
    assert door.lets_in(STRANGER, "key-2")


def test_a_new_key_is_fetched_when_a_token_names_it(door: Door, responder: Responder, passing: Time) -> None:
    """Google may sign with it long before the old keys' time is over."""
    assert door.lets_in()
    responder.answer = published(GOOGLE.public(), STRANGER.public("key-2"))
    passing.seconds += 11
    assert door.lets_in(STRANGER, "key-2")
    assert door.lets_in()
    assert door.fetches == 2


def test_made_up_key_ids_fetch_at_most_every_ten_seconds(door: Door, passing: Time) -> None:
    """Strangers cannot have the Hub ask Google as often as they like; people get in meanwhile."""
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
    "a key that is broken": json_answer({"keys": [{"kty": "RSA", "kid": KEY_ID, "n": "!", "e": 5}]}),
    "half of an answer": Answer(200, b'{"keys": [', {"Content-Length": "1000"}),
}


@pytest.mark.parametrize("name", AWAY)
def test_keys_are_kept_when_their_server_answers_nothing_useful(
    door: Door, responder: Responder, passing: Time, name: str
) -> None:
    """Beyond their time, until there are new ones; asked for at most every ten seconds."""
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


def test_keys_are_kept_when_their_server_is_gone(door: Door, responder: Responder, passing: Time) -> None:
    """Nobody listens there any more."""
    assert door.lets_in()
    responder.close()
    passing.seconds += 7200
    assert door.lets_in()
    assert not door.lets_in(STRANGER, "key-2")


@pytest.mark.parametrize("name", AWAY)
def test_without_any_keys_nobody_can_be_told_apart(door: Door, responder: Responder, passing: Time, name: str) -> None:
    """That is the Hub's trouble, not the person's: `UnavailableError`, until the keys can be had."""
    good, responder.answer = responder.answer, AWAY[name]
    for _ in range(2):
        with pytest.raises(UnavailableError) as away:
            door.lets_in()
    assert door.fetches == 1
    responder.answer = good
    passing.seconds += away.value.retry_after.total_seconds()
    assert door.lets_in()


@pytest.mark.parametrize("how", ["closed", "silent"])
def test_a_key_server_that_does_not_answer_is_given_up_in_time(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the adapter's own time."""
    monkeypatch.setattr(signing_keys, "FETCH_TIMEOUT_SECONDS", 0.3)
    with unanswering(how) as address:
        google = GoogleIdentity(settings(f"http://{address}/keys"))
        assert_told_in_time({"person": lambda: google.person(bearing(GOOGLE.sign(person())))})


def test_many_at_once_wait_for_one_fetch(door: Door) -> None:
    """A cold process that is asked by many asks Google once."""
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda _: door.lets_in(), range(32)))
    assert door.fetches == 1


def test_keys_of_other_kinds_are_passed_over(door: Door, responder: Responder) -> None:
    """A JWK set may hold what we do not use."""
    other = {"kty": "EC", "kid": "ec-1", "crv": "P-256", "x": "AQAB", "y": "AQAB"}
    responder.answer = published(other, GOOGLE.public())
    assert door.lets_in()
