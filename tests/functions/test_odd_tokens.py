"""Tokens with texts that Google does not write are refused as tokens, without an internal error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from werkzeug.test import TestResponse

from shared.adapters.google_identity import (
    IAP_HEADER,
    IAP_ISSUER,
    IAP_SUBJECT_PREFIX,
    GoogleIdentity,
)
from shared.config import read_settings
from tests.contract.servers import Responder, json_answer
from tests.endpoints import PEOPLE, paths_for
from tests.fakes.machines import PROJECT
from tests.functions.conftest import CATALOGUE, ENVIRONMENT, Functions, client_of

KEY_ID = "key-1"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
HALF = "\ud800"  # half of a character: JSON can have it, UTF-8 cannot
ADDRESS = "\N{CYRILLIC SMALL LETTER A}da@example.com"
SOURCES = ("id_token", "iap")
Claims = dict[str, Any]


class Gate:
    """A Hub with fakes that accepts Google's tokens, with keys from a local server."""

    def __init__(self, hub: Functions, keys_url: str, source: str) -> None:
        settings = {
            "HUB_IDENTITY_SOURCE": source,
            "HUB_IDENTITY_KEYS_URL": keys_url,
            "HUB_IAP_KEYS_URL": keys_url,
            "HUB_ALLOWED_EMAILS": "*",
        }
        hub.configure(**settings)
        hub.replace_part("identity", GoogleIdentity(read_settings(ENVIRONMENT | settings).identity))
        self.hub = hub
        self.iap = source == "iap"

    def as_somebody(self, **claims: Any) -> dict[str, str]:
        """Return the headers of a person with these claims."""
        payload = self._payload(
            "https://hub.example.com", {"sub": "1", "email": "ada@example.com", **claims}
        )
        if self.iap:
            payload |= {"iss": IAP_ISSUER, "sub": f"{IAP_SUBJECT_PREFIX}{payload['sub']}"}
            return {IAP_HEADER: jwt.encode(payload, EC_KEY, "ES256", {"kid": KEY_ID})}
        return self._bearer(payload)

    def as_a_machine(self, **compute: Any) -> dict[str, str]:
        """Return the headers of a machine with these claims."""
        machine = {
            "project_id": PROJECT,
            "zone": "us-west1-a",
            "instance_name": "workspace-1",
            "instance_id": "1",
        }
        google = {"compute_engine": {**machine, **compute}}
        return self._bearer(
            self._payload("https://report.example.com", {"sub": "1", "google": google})
        )

    @staticmethod
    def _payload(audience: str, claims: Claims) -> Claims:
        now = int(time.time())
        times = {"iat": now, "exp": now + 3600}
        return {
            "iss": "https://accounts.google.com",
            "aud": audience,
            "email_verified": True,
            **times,
            **claims,
        }

    @staticmethod
    def _bearer(payload: Claims) -> dict[str, str]:
        return {"Authorization": f"Bearer {jwt.encode(payload, RSA_KEY, 'RS256', {'kid': KEY_ID})}"}


@pytest.fixture(scope="module")
def keys_url() -> Iterator[str]:
    """The URL of the keys for all signatures here."""
    responder = Responder()
    public = [
        jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True),
        jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True),
    ]
    responder.answer = json_answer({"keys": [{**key, "kid": KEY_ID} for key in public]})
    yield responder.url
    responder.close()


@pytest.fixture(params=SOURCES)
def gate(request: pytest.FixtureRequest, hub: Functions, keys_url: str) -> Gate:
    """A Hub that serves everybody, with either source of identity."""
    return Gate(hub, keys_url, request.param)


FOR_PEOPLE = paths_for(PEOPLE, "0b1d3a2e-0000-4000-8000-000000000000")
ODD: dict[str, Claims] = {
    "half of a character in sub": {"sub": HALF},
    "half of a character in email": {"email": f"{HALF}@example.com"},
    "half of a character in hd": {"hd": HALF},
    "half of a character in name": {"name": HALF},
    "half of a character below google": {"google": {HALF: 1}},
    "a sub of 256 characters": {"sub": "1" * 256},
    "a sub of other letters": {"sub": "\u0661"},
    "a sub with a zero character": {"sub": "1\0"},
    "an address of 321 characters": {"email": f"{'a' * 309}@example.com"},
    "an address with a line's end": {"email": 'ada@example.com\n{"severity":"CRITICAL"}'},
    "an address that is a number": {"email": 5},
    "a domain that is a list": {"hd": ["example.com"]},
}


def assert_refused(answer: TestResponse, hub: Functions) -> None:
    """Check that a token was refused as a problem, before anything was read or written."""
    assert (answer.status_code, answer.content_type) == (401, "application/problem+json"), (
        answer.data
    )
    problem = answer.get_json()
    assert problem["code"] == "NOT_AUTHENTICATED"
    assert "token" in problem["detail"]
    counts = hub.world.store.counts
    assert (counts.reads, counts.queries, counts.commits) == (0, 0, 0)


@pytest.mark.parametrize("name", FOR_PEOPLE)
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_token_of_a_person_is_401_at_every_function(gate: Gate, name: str, odd: str) -> None:
    """The detail has the reason, for either source of identity."""
    path = FOR_PEOPLE[name]
    method = CATALOGUE[name].routes[0].method
    answer = client_of(name).open(
        path, method=method, headers=gate.as_somebody(**ODD[odd]), json={"name": "one"}
    )
    assert_refused(answer, gate.hub)


@pytest.mark.parametrize("claim", ["project_id", "zone", "instance_name", "instance_id"])
@pytest.mark.parametrize(
    "make", [lambda: HALF, lambda: "1" * 300, lambda: "\u0661", lambda: None, lambda: "a/b\0"]
)
def test_an_odd_token_of_a_machine_is_401(
    gate: Gate, claim: str, make: Callable[[], object]
) -> None:
    """This holds for each claim about the machine."""
    headers = gate.as_a_machine(**{claim: make()})
    path = "/workspaces/0b1d3a2e-0000-4000-8000-000000000000/reports"
    answer = client_of("report_workspace").post(
        path, headers=headers, json={"event": "ready", "generation": 1}
    )
    assert_refused(answer, gate.hub)


def test_an_address_with_look_alike_letters_is_served_if_everybody_is(gate: Gate) -> None:
    """The address is stored as it is, and makes nobody an administrator."""
    headers = gate.as_somebody(email=ADDRESS, hd="example.com")
    made = client_of("create_workspace").post("/workspaces", headers=headers, json={"name": "one"})
    assert made.status_code == 201, made.data
    [workspace] = gate.hub.world.store.workspaces.values()
    assert (workspace.owner_id, workspace.owner_email) == ("1", ADDRESS)
    assert {event.who_email for event in gate.hub.world.store.events} == {ADDRESS}
    everybodys = client_of("list_workspaces").get("/workspaces?all=true", headers=headers)
    assert everybodys.status_code == 403
