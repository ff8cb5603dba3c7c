"""Bad credentials of many kinds, each sent to every function at its own URL: all are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jwt
import pytest
import requests
import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from localcloud.api_client import ApiClient
from localcloud.catalogue import Function
from localcloud.running_cloud import RunningCloud
from tests.endpoints import ANYBODY, CATALOGUE, CHECKED_FOR, MACHINES, PEOPLE, PLATFORM
from tests.system.records import in_compute

pytestmark = pytest.mark.xdist_group("credentials")  # one worker makes the workspace

EVERY_KIND = (PEOPLE, MACHINES, PLATFORM)

Headers = list[tuple[str, str]]


class Forger:
    """Makes a good credential for each function, and bad ones from it."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        self.email = f"{uuid.uuid4()}@example.com"
        owner = ApiClient(cloud.address, cloud.token(self.email))
        self.workspace_id: str = owner.create("api")["id"]
        owner.wait_until_settled(self.workspace_id, "READY")
        [machine] = in_compute(cloud, "instances", self.workspace_id)
        self.machine = {
            "project_id": cloud.state["project_id"],
            "project_number": int(cloud.state["project_number"]),
            "zone": machine["zone"].rpartition("/")[2],
            "instance_id": machine["id"],
            "instance_name": machine["name"],
            "instance_creation_timestamp": int(time.time()),
        }
        self.report_url: str = cloud.state["environment"]["HUB_REPORT_WORKSPACE_URL"]
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.curve_key = ec.generate_private_key(ec.SECP256R1())
        self._good: dict[str, str] = {}

    def audience(self, function: Function) -> str:
        """Return the audience that a function expects in a token."""
        kind = CHECKED_FOR[function.name]
        return {PEOPLE: self.cloud.address, MACHINES: self.report_url}.get(
            kind
        ) or self.cloud.function_url(function.name)

    def account(self, name: str) -> str:
        """Return the address of a service account."""
        return f"{name}@{self.cloud.state['project_id']}.iam.gserviceaccount.com"

    def issued(self, function: Function, **flaws: Any) -> str:
        """Return a token that the issuer signed, with flaws.

        A flaw is a claim, which None removes, or a member of the request for the token.
        """
        kind = CHECKED_FOR[function.name]
        members: dict[str, Any] = {
            "email": self.account(function.invoker) if kind is PLATFORM else self.email
        }
        if kind is MACHINES:
            members["email"] = self.account("workspace-machine")
            flaws = {"google": {"compute_engine": self.machine}} | flaws
        for name in ("email", "sub", "email_verified", "lifetime_seconds"):
            if name in flaws:
                members[name] = flaws.pop(name)
        return self.cloud.token(audience=self.audience(function), claims=flaws, **members)

    def good(self, function: Function) -> str:
        """Return a token that the function accepts."""
        return self._good.setdefault(function.name, self.issued(function))

    def machines(self, function: Function, **others: Any) -> str:
        """Return the token of the workspace's machine; with other members, of another machine."""
        google = {"compute_engine": self.machine | others}
        return self.issued(function, email=self.account("workspace-machine"), google=google)

    def header(self, function: Function) -> dict[str, Any]:
        """Return the header of a good token, which names the issuer's key."""
        return dict(jwt.get_unverified_header(self.good(function)))

    def claims(self, function: Function) -> dict[str, Any]:
        """Return the claims of a good token."""
        claims: dict[str, Any] = jwt.decode(
            self.good(function), options={"verify_signature": False}
        )
        return claims

    def forged(self, function: Function, *, algorithm: str = "RS256", **header: Any) -> str:
        """Return a good token's claims, signed by our own key.

        The members are added to its header; those that are None are removed.
        """
        members = {
            k: v
            for k, v in (self.header(function) | {"alg": algorithm} | header).items()
            if v is not None
        }
        signer: Any = self.curve_key if algorithm.startswith("ES") else self.key
        signing_input = f"{encoded(members)}.{encoded(self.claims(function))}"
        signature = jwt.get_algorithm_by_name(algorithm).sign(signing_input.encode(), signer)
        return f"{signing_input}.{encoded(signature)}"

    def unsigned(self, function: Function, algorithm: str) -> str:
        """Return a good token's claims without a signature."""
        header = encoded(self.header(function) | {"alg": algorithm})
        return f"{header}.{encoded(self.claims(function))}."

    def signed_with_public_key(self, function: Function) -> str:
        """Return a token whose HS256 secret is the issuer's public key, which anybody can get."""
        signing_input = (
            f"{encoded(self.header(function) | {'alg': 'HS256'})}.{encoded(self.claims(function))}"
        )
        mac = hmac.digest(self._public_key, signing_input.encode(), hashlib.sha256)
        return f"{signing_input}.{encoded(mac)}"

    @cached_property
    def _public_key(self) -> bytes:
        keys = requests.get(
            self.cloud.state["environment"]["HUB_IDENTITY_KEYS_URL"], timeout=10
        ).json()["keys"]
        public: Any = jwt.PyJWK(keys[0]).key
        pem: bytes = public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return pem

    def with_claims(self, function: Function, **claims: Any) -> str:
        """Return a good token with other claims under its old signature."""
        header, _, signature = self.good(function).split(".")
        return f"{header}.{encoded(self.claims(function) | claims)}.{signature}"

    def own_jwk(self) -> dict[str, Any]:
        """Return our own public key, as a token's header may contain it."""
        return dict(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True))


def encoded(value: Any) -> str:
    """Return a part of a token: JSON, or bytes, in base64url."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass(frozen=True)
class Credential:
    """A bad credential, and the status of the answers to it.

    Attributes:
        name: what is wrong with it.
        headers: makes the headers that contain it for a function.
        people: the answer of the functions for people. In this and the next two None says that the
            credential is not bad for them.
        machines: the answer of the function for machines.
        platform: the answer of the functions whose callers the platform checks.
        anybody: the answer of the functions that anybody may call.
    """

    name: str
    headers: Callable[[Forger, Function], Headers]
    people: int | None = 401
    machines: int | None = 401
    platform: int | None = 401
    anybody: int = 200

    def expected(self, function: Function) -> int | None:
        """Return the status of a function's answer."""
        answers = {
            PEOPLE: self.people,
            MACHINES: self.machines,
            PLATFORM: self.platform,
            ANYBODY: self.anybody,
        }
        return answers[CHECKED_FOR[function.name]]


def plain(name: str, *headers: tuple[str, str], **answers: Any) -> Credential:
    """Return a credential that is the same for every function."""
    return Credential(name, lambda _forger, _function: list(headers), **answers)


def bearer(name: str, token: Callable[[Forger, Function], str], **answers: Any) -> Credential:
    """Return a credential that is a bearer token."""
    return Credential(
        name, lambda f, function: [("Authorization", f"Bearer {token(f, function)}")], **answers
    )


def flawed(
    name: str,
    *,
    claims: Mapping[str, Any] | None = None,
    kinds: tuple[str, ...] = EVERY_KIND,
    **flaws: Any,
) -> Credential:
    """Return a token that the issuer signed, with a flaw that these kinds of functions refuse."""
    answers = {
        key: 401 if kind in kinds else None
        for key, kind in (("people", PEOPLE), ("machines", MACHINES), ("platform", PLATFORM))
    }
    return bearer(
        name, lambda f, function: f.issued(function, **(claims or {}), **flaws), **answers
    )


def carried_by(name: str, header: str, form: str = "{}") -> Credential:
    """Return a good token in a header in which no function looks for one."""
    return Credential(
        name, lambda f, function: [(header, form.format(f.good(function)))], platform=403
    )


def tampered(token: str, part: int) -> str:
    """Return a token with one character in the middle of a part changed."""
    parts = token.split(".")
    at = len(parts[part]) // 2
    parts[part] = (
        parts[part][:at] + ("A" if parts[part][at] != "A" else "B") + parts[part][at + 1 :]
    )
    return ".".join(parts)


CREDENTIALS = (
    # no token
    plain("no header", platform=403),
    plain("an empty header", ("Authorization", ""), platform=403),
    plain("a scheme and nothing else", ("Authorization", "Bearer"), platform=403),
    plain("a scheme and blanks", ("Authorization", "Bearer    "), platform=403),
    plain("a name and a password", ("Authorization", "Basic YWxpY2U6c2VjcmV0"), platform=403),
    carried_by("another scheme with a good token", "Authorization", "Token {}"),
    carried_by("a good token without a scheme", "Authorization"),
    carried_by("a good token for a proxy", "Proxy-Authorization", "Bearer {}"),
    carried_by("a good token in a cookie", "Cookie", "token={}"),
    carried_by("a good token in IAP's header, which is not the source", "X-Goog-IAP-JWT-Assertion"),
    plain(
        "IAP's unsigned headers",
        ("X-Goog-Authenticated-User-Email", "accounts.google.com:admin@localhost"),
        ("X-Goog-Authenticated-User-Id", "accounts.google.com:1"),
        platform=403,
    ),
    plain(
        "a gateway's unsigned header",
        ("X-Apigateway-Api-Userinfo", encoded({"sub": "1", "email": "admin@localhost"})),
        platform=403,
    ),
    # no JWT
    plain("garbage", ("Authorization", "Bearer nonsense")),
    plain("three parts of garbage", ("Authorization", "Bearer a.b.c")),
    plain("dots", ("Authorization", "Bearer ..")),
    plain(
        "a header that is no object", ("Authorization", f"Bearer {encoded([1])}.{encoded({})}.AAAA")
    ),
    plain(
        "a header that is no JSON", ("Authorization", f"Bearer {encoded(b'{')}.{encoded({})}.AAAA")
    ),
    plain(
        "a control character",
        ("Authorization", "Bearer a.b\x01.c"),
        people=400,
        machines=400,
        platform=400,
        anybody=400,
    ),
    plain("other than ASCII", ("Authorization", "Bearer é.ü.ß")),
    plain(
        "an encrypted token",
        ("Authorization", f"Bearer {encoded({'alg': 'dir', 'enc': 'A256GCM'})}..AAAA.AAAA.AAAA"),
    ),
    # a JWT that is not signed, or not by Google
    bearer("no signature", lambda f, function: f.good(function).rpartition(".")[0] + "."),
    bearer("a signature that was cut off", lambda f, function: f.good(function).rpartition(".")[0]),
    bearer(
        "the platform's mark in place of a signature",
        lambda f, function: f.good(function).rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE",
    ),
    bearer("alg none", lambda f, function: f.unsigned(function, "none")),
    bearer("alg nOnE", lambda f, function: f.unsigned(function, "nOnE")),
    bearer(
        "HS256 with the public key as the secret",
        lambda f, function: f.signed_with_public_key(function),
    ),
    bearer("another key under the same id", lambda f, function: f.forged(function)),
    bearer("an unknown key", lambda f, function: f.forged(function, kid="unknown")),
    bearer("no key id", lambda f, function: f.forged(function, kid=None)),
    bearer("a key id that is no string", lambda f, function: f.forged(function, kid=7)),
    bearer("a key id that is a path", lambda f, function: f.forged(function, kid="../../dev/null")),
    bearer("a key that is carried along", lambda f, function: f.forged(function, jwk=f.own_jwk())),
    bearer(
        "a key that is to be fetched",
        lambda f, function: f.forged(function, jku="http://127.0.0.1:9/keys"),
    ),
    bearer("RS512", lambda f, function: f.forged(function, algorithm="RS512")),
    bearer("ES256 in place of RS256", lambda f, function: f.forged(function, algorithm="ES256")),
    bearer(
        "an extension that has to be understood",
        lambda f, function: f.forged(function, crit=["b64"], b64=False),
    ),
    # a JWT that was changed
    bearer("a changed header", lambda f, function: tampered(f.good(function), 0)),
    bearer("changed claims", lambda f, function: tampered(f.good(function), 1)),
    bearer("a changed signature", lambda f, function: tampered(f.good(function), 2)),
    bearer(
        "an administrator's address under the old signature",
        lambda f, function: f.with_claims(function, email="admin@localhost"),
    ),
    bearer(
        "a later end under the old signature",
        lambda f, function: f.with_claims(function, exp=2**31),
    ),
    bearer("a token that was cut short", lambda f, function: f.good(function)[:-20]),
    bearer("a token with one part more", lambda f, function: f.good(function) + ".AAAA"),
    bearer("a blank in the token", lambda f, function: f.good(function).replace(".", ". ", 1)),
    bearer("a token with a tab in it", lambda f, function: f.good(function).replace(".", ".\t", 1)),
    bearer(
        "two tokens in one header",
        lambda f, function: f"{f.good(function)}, Bearer {f.good(function)}",
    ),
    Credential(
        "two headers, the good one last",
        lambda f, function: [
            ("Authorization", "Bearer nonsense"),
            ("Authorization", f"Bearer {f.good(function)}"),
        ],
    ),
    # signed, but expired, for another audience, or about somebody else
    flawed("expired an hour ago", lifetime_seconds=-3600),
    flawed("expired a minute ago", lifetime_seconds=-60),
    flawed("not valid before the next hour", claims={"nbf": int(time.time()) + 3600}),
    flawed("issued in an hour", claims={"iat": int(time.time()) + 3600}),
    flawed("without an end", claims={"exp": None}),
    flawed("with an end that is no number", claims={"exp": "soon"}),
    flawed("without a beginning", claims={"iat": None}),
    flawed("without an audience", claims={"aud": None}),
    flawed("for an audience of nobody", claims={"aud": []}),
    flawed("for another audience", claims={"aud": "https://hub.example.org"}),
    flawed(
        "for other audiences", claims={"aud": ["https://a.example.org", "https://b.example.org"]}
    ),
    flawed("for an audience that is no text", claims={"aud": 7}),
    bearer(
        "for an address that begins like ours",
        lambda f, function: f.issued(function, aud=f"{f.audience(function)}.example.org"),
    ),
    flawed("without an issuer", claims={"iss": None}),
    flawed("from another issuer", claims={"iss": "https://accounts.example.org"}),
    flawed("from an issuer that is almost Google", claims={"iss": "https://accounts.google.com/"}),
    flawed("from IAP's issuer", claims={"iss": "https://cloud.google.com/iap"}),
    flawed("about nobody", sub="", kinds=(PEOPLE, MACHINES)),
    flawed("with an address that is not verified", email_verified=False, kinds=(PEOPLE,)),
    flawed(
        "with a google claim that is no object",
        claims={"google": "compute_engine"},
        kinds=(PEOPLE, MACHINES),
    ),
    flawed(
        "with a machine that is no object",
        claims={"google": {"compute_engine": "all"}},
        kinds=(PEOPLE, MACHINES),
    ),
    flawed(
        "with nothing about the machine",
        claims={"google": {"compute_engine": {}}},
        kinds=(PEOPLE, MACHINES),
    ),
    bearer(
        "of a machine, for people",
        lambda f, function: f.machines(function),
        machines=None,
        platform=403,
    ),
    bearer(
        "of a person, for machines",
        lambda f, function: f.issued(function, email=f.email, google=None),
        people=None,
        platform=403,
    ),
    bearer(
        "of another machine",
        lambda f, function: f.machines(function, instance_name="other"),
        machines=403,
        platform=403,
    ),
    bearer(
        "of an older machine of the same name",
        lambda f, function: f.machines(function, instance_id="42"),
        machines=403,
        platform=403,
    ),
    bearer(
        "of a machine of the same name in another zone",
        lambda f, function: f.machines(function, zone="us-west1-c"),
        machines=403,
        platform=403,
    ),
    bearer(
        "of a machine in another project",
        lambda f, function: f.machines(function, project_id="other"),
        machines=403,
        platform=403,
    ),
    *(
        bearer(
            f"of {name}, which invokes others",
            lambda f, function, name=name: f.issued(  # type: ignore[misc]
                function,
                email=f.account(name if name != function.invoker else "workspace-machine"),
                google=None,
                **(
                    {}
                    if CHECKED_FOR[function.name] is PLATFORM
                    else {"aud": f.cloud.function_url(function.name) + "/"}
                ),
            ),
            platform=403,
        )
        for name in CATALOGUE.invokers
    ),
)
TOO_LONG = {
    "of 7,900 characters": 7_900,
    "of 10,000 characters": 10_000,
    "of 30,000 characters": 30_000,
}


@pytest.fixture(scope="module")
def forger(cloud: RunningCloud) -> Forger:
    """The forger of all credentials, about one workspace and its owner and machine."""
    return Forger(cloud)


@pytest.fixture(scope="module")
def pool() -> urllib3.PoolManager:
    """Connections that all tests of a worker share."""
    return urllib3.PoolManager(num_pools=50, retries=False)


def send(
    pool: urllib3.PoolManager, forger: Forger, function: Function, headers: Headers
) -> urllib3.BaseHTTPResponse:
    """Send a function a request that it serves, with these headers."""
    route = function.routes[0] if function.routes else None
    path = route.path if route else "/"
    path = path.replace("{workspace_id}", forger.workspace_id)
    path = path.replace("{snapshot_id}", forger.workspace_id)  # there is none of that id
    method = route.method if route else "POST"
    body = json.dumps(
        {"event": "heartbeat", "generation": 1} if CHECKED_FOR[function.name] is MACHINES else {}
    )
    sent = urllib3.HTTPHeaderDict([("Content-Type", "application/json"), *headers])
    return pool.request(
        method,
        forger.cloud.function_url(function.name) + path,
        headers=sent,
        body=None if method == "GET" else body,
        timeout=30,
    )


def test_there_are_at_least_40_bad_credentials() -> None:
    """Each has a name of its own."""
    assert len({credential.name for credential in CREDENTIALS}) == len(CREDENTIALS) >= 40


def test_the_credential_from_which_the_bad_ones_are_made_is_accepted(
    forger: Forger, pool: urllib3.PoolManager
) -> None:
    """Each function accepts the credential without a flaw, so the others are refused for theirs."""
    for function in CATALOGUE.functions:
        headers = [("Authorization", f"bearer {forger.good(function)}")]  # schemes have no case
        if CHECKED_FOR[function.name] is PLATFORM:
            # The framework answers this path before it calls the function.
            url = f"{forger.cloud.function_url(function.name)}/favicon.ico"
            assert pool.request("GET", url, headers=dict(headers)).status in {404, 405}, (
                function.name
            )
        # These would take the machine away, which the other functions need.
        elif function.name not in {"archive_workspace", "delete_workspace", "stop_workspace"}:
            answer = send(pool, forger, function, headers)
            no_snapshot = b"SNAPSHOT_NOT_FOUND" in answer.data
            assert answer.status in {200, 202, 204, 400} or no_snapshot, function.name


@pytest.mark.parametrize("credential", CREDENTIALS, ids=lambda credential: credential.name)
def test_a_bad_credential_is_refused_by_every_function(
    credential: Credential, forger: Forger, pool: urllib3.PoolManager
) -> None:
    """The answer is 401 with ``WWW-Authenticate``, or 403, and never repeats the token."""
    wrong = {}
    for function in CATALOGUE.functions:
        expected = credential.expected(function)
        if expected is None:
            continue
        headers = credential.headers(forger, function)
        answer = send(pool, forger, function, headers)
        text = answer.data.decode()
        if answer.status != expected:
            wrong[function.name] = f"{answer.status} {text}"
            continue
        if answer.status == 401 and not answer.headers.get("WWW-Authenticate", "").startswith(
            "Bearer"
        ):
            wrong[function.name] = "no WWW-Authenticate"
        if any(
            part in text
            for _, value in headers
            for part in value.split(".")
            if len(part) > 20 and expected > 400
        ):
            wrong[function.name] = f"the answer repeats the token: {text}"
    assert wrong == {}


@pytest.mark.parametrize("size", TOO_LONG.values(), ids=TOO_LONG)
def test_a_token_that_is_too_long_is_refused_by_every_function(
    size: int, forger: Forger, pool: urllib3.PoolManager
) -> None:
    """Either the server's limit of a header refuses it, or the function's check."""
    for function in CATALOGUE.functions:
        header, _, signature = forger.good(function).split(".")
        padded = encoded(b" " * ((size - len(header) - len(signature)) * 3 // 4))
        answer = send(
            pool, forger, function, [("Authorization", f"Bearer {header}.{padded}.{signature}")]
        )
        allowed = {200, 400, 431} if CHECKED_FOR[function.name] is ANYBODY else {400, 401, 431}
        assert answer.status in allowed, (function.name, answer.data)


def test_the_reason_of_a_refusal_says_what_is_wrong_with_the_token(
    forger: Forger, pool: urllib3.PoolManager
) -> None:
    """An expired token is called so; for another audience the answer names the right one."""
    function = CATALOGUE["list_workspaces"]
    reasons = {}
    for name, token in {
        "expired": forger.issued(function, lifetime_seconds=-60),
        "audience": forger.issued(function, aud="https://hub.example.org"),
    }.items():
        reasons[name] = send(pool, forger, function, [("Authorization", f"Bearer {token}")]).json()[
            "detail"
        ]
    assert reasons["expired"] == "The token has expired. Get a new one."
    assert (
        reasons["audience"]
        == f"The token is for another audience. Get one for {forger.cloud.address}."
    )
