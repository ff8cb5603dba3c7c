"""The local token issuer and metadata server over HTTP, as verifiers, tools and machines use it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import jwt
import pytest

from localcloud.services.compute.active_faults import ActiveFaults
from localcloud.services.compute.fleet import Fleet
from localcloud.services.compute.times import Times
from localcloud.services.identity.server import IdentityServer
from localcloud.services.identity.tokens import UserToken, subject_of
from localcloud.services.project import Project

SECRET = "the-secret-of-a-local-cloud"
OWNER = {"Authorization": f"Bearer {SECRET}"}
ZONE = "us-west1-a"
PROJECT = Project(id="demo-project", number="123456789012", zones=(ZONE,))
AUDIENCE = "https://hub.example.com"
GOOGLE = "https://accounts.google.com"
SERVICE_ACCOUNT = "workspace-vm@demo-project.iam.gserviceaccount.com"
ATTRIBUTES = {"hub-generation": "3", "hub-audience": AUDIENCE, "user-data": "#cloud-config\n"}


class _Client:
    """A client of the service, such as a token verifier or a machine."""

    def __init__(
        self, identity: IdentityServer, fleet: Fleet, session: aiohttp.ClientSession
    ) -> None:
        self.identity = identity
        self.fleet = fleet
        self._session = session

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, Any, str]:
        """Return status, headers and text of the answer."""
        async with self._session.request(method, f"{self.identity.url}{path}", **options) as answer:
            return answer.status, answer.headers, await answer.text()

    async def request_json(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self._session.request(method, f"{self.identity.url}{path}", **options) as answer:
            return answer.status, await answer.json()

    async def metadata(
        self, path: str, *, flavor: str = "Google", instance_id: str = ""
    ) -> tuple[int, str]:
        """Read from the metadata server as the only machine, or as the one with this id."""
        machine = instance_id or self.fleet.instances.all()[0].id
        headers = {"Metadata-Flavor": flavor} if flavor else {}
        status, answered, text = await self.request(
            "GET", f"/machines/{machine}/computeMetadata/v1/{path}", headers=headers
        )
        assert answered["Metadata-Flavor"] == "Google"
        return status, text

    async def verify(self, token: str, *, audience: str = AUDIENCE) -> dict[str, Any]:
        """Return the claims of a token that one of the served keys has signed."""
        _, keys = await self.request_json("GET", "/keys")
        key = next(
            key for key in keys["keys"] if key["kid"] == jwt.get_unverified_header(token)["kid"]
        )
        claims: dict[str, Any] = jwt.decode(
            token, jwt.PyJWK(key).key, algorithms=["RS256"], audience=audience, issuer=GOOGLE
        )
        return claims


def _run_with_service(check: Callable[[_Client], Awaitable[None]], **instance: Any) -> None:
    """Run a test's steps with a service and with one machine in its fleet."""

    async def serve() -> None:
        fleet = Fleet(PROJECT, times=Times(), faults=ActiveFaults(PROJECT))
        items = [{"key": key, "value": value} for key, value in ATTRIBUTES.items()]
        fleet.instances.insert(
            ZONE,
            {
                "name": "machine",
                "machineType": f"zones/{ZONE}/machineTypes/e2-small",
                "disks": [{"boot": True, "initializeParams": {}}],
                "networkInterfaces": [{}],
                "serviceAccounts": [{"email": SERVICE_ACCOUNT}],
                "metadata": {"items": items},
            }
            | instance,
        )
        identity = IdentityServer(PROJECT, secret=SECRET, fleet=fleet)
        await identity.start()
        try:
            async with aiohttp.ClientSession() as session:
                await check(_Client(identity, fleet, session))
        finally:
            await identity.stop()
            fleet.reset()

    asyncio.run(serve())


# OS Login


def test_os_login_keeps_keys_for_whoever_knows_the_secret() -> None:
    """Its answers have the form of Google's API; without the secret there is only 401."""

    async def check(client: _Client) -> None:
        users = "/v1/users/alice@example.com"
        kind = b"ssh-ed25519"
        blob = len(kind).to_bytes(4, "big") + kind + (32).to_bytes(4, "big") + bytes(32)
        key = f"ssh-ed25519 {base64.b64encode(blob).decode()} laptop"
        until = str(int(time.time() + 60) * 1_000_000)
        post, get = ("POST", f"{users}:importSshPublicKey"), ("GET", f"{users}/loginProfile")
        body = {"key": key, "expirationTimeUsec": until}
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": SECRET}):
            for method, path in (post, get):
                status, answered, _ = await client.request(
                    method, path, json=body if method == "POST" else None, headers=headers
                )
                assert (status, answered["WWW-Authenticate"]) == (401, "Bearer")

        status, answer = await client.request_json(*post, json=body, headers=OWNER)
        assert status == 200
        assert (await client.request_json(*get, headers=OWNER))[1] == answer["loginProfile"]
        [(fingerprint, shown)] = answer["loginProfile"]["sshPublicKeys"].items()
        assert shown == {"key": key, "fingerprint": fingerprint, "expirationTimeUsec": until}
        assert fingerprint == hashlib.sha256(blob).hexdigest()

        for wrong in ({}, {"key": "none"}, {"key": key, "expirationTimeUsec": "soon"}, [key]):
            status, answer = await client.request_json(*post, json=wrong, headers=OWNER)
            assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")

    _run_with_service(check)


# Keys and tokens


def test_the_keys_are_a_cacheable_set_of_public_jwks() -> None:
    """It has one RSA key of 2,048 bits for RS256, and no private part."""

    async def check(client: _Client) -> None:
        status, headers, _ = await client.request("GET", "/keys")
        _, keys = await client.request_json("GET", "/keys")

        assert client.identity.keys_url == f"{client.identity.url}/keys"
        assert (status, headers["Cache-Control"]) == (200, "public, max-age=3600")
        (key,) = keys["keys"]
        assert (key["kty"], key["alg"], key["use"], key["e"]) == ("RSA", "RS256", "sig", "AQAB")
        assert key["kid"]
        assert not {"d", "p", "q"} & key.keys()
        assert len(key["n"]) == 342  # 2,048 bits in base64url

    _run_with_service(check)


def test_each_issuer_has_its_own_key() -> None:
    """A token of another local cloud cannot be verified with this one's keys."""

    async def check(client: _Client) -> None:
        other = IdentityServer(PROJECT, secret=SECRET)
        _, keys = await client.request_json("GET", "/keys")
        token = other.issuer.user_token(UserToken(email="a@example.com", audience=AUDIENCE))

        assert jwt.get_unverified_header(token)["kid"] not in {key["kid"] for key in keys["keys"]}
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(
                token, jwt.PyJWK(keys["keys"][0]).key, algorithms=["RS256"], audience=AUDIENCE
            )

    _run_with_service(check)


def test_a_persons_token_has_the_claims_of_googles() -> None:
    """It is valid for an hour, and also names the person's hosted domain."""

    async def check(client: _Client) -> None:
        token = client.identity.issuer.user_token(
            UserToken(email="alice@example.com", audience=AUDIENCE, hosted_domain="example.com")
        )

        claims = await client.verify(token)

        assert claims.pop("exp") - claims.pop("iat") == 3600
        assert claims == {
            "iss": GOOGLE,
            "aud": AUDIENCE,
            "azp": AUDIENCE,
            "sub": subject_of("alice@example.com"),
            "email": "alice@example.com",
            "email_verified": True,
            "hd": "example.com",
        }

    _run_with_service(check)


def test_the_subject_of_a_person_is_21_digits_derived_from_the_address() -> None:
    """Upper case makes no difference; the developer of the local cloud has a name as subject."""
    alice = subject_of("alice@example.com")

    assert (len(alice), alice.isdigit()) == (21, True)
    assert alice == subject_of("Alice@Example.com")
    assert alice != subject_of("bob@example.com")
    assert subject_of("dev@localhost") == "dev-user-id"


def test_the_issuer_can_make_tokens_that_must_be_refused() -> None:
    """They are expired, for another audience, from another issuer, or have other claims."""

    async def check(client: _Client) -> None:
        make = client.identity.issuer.user_token
        alice = UserToken(email="alice@example.com", audience=AUDIENCE)

        with pytest.raises(jwt.ExpiredSignatureError):
            await client.verify(make(replace(alice, lifetime=timedelta(seconds=-5))))
        with pytest.raises(jwt.InvalidAudienceError):
            await client.verify(make(replace(alice, audience="https://other.example.com")))
        with pytest.raises(jwt.InvalidIssuerError):
            await client.verify(make(replace(alice, claims={"iss": "https://issuer.example.com"})))
        claims = await client.verify(
            make(replace(alice, sub="42", email_verified=False, claims={"azp": None, "nonce": "n"}))
        )
        assert (claims["sub"], claims["email_verified"], claims["nonce"]) == ("42", False, "n")
        assert "azp" not in claims
        assert "hd" not in claims

    _run_with_service(check)


def test_a_service_accounts_token_has_the_claims_of_an_oidc_push() -> None:
    """It names the verified address; ``azp`` and ``sub`` are the account's number."""

    async def check(client: _Client) -> None:
        email = "operations-queue@demo-project.iam.gserviceaccount.com"
        claims = await client.verify(client.identity.issuer.service_account_token(email, AUDIENCE))

        assert (claims["email"], claims["email_verified"]) == (email, True)
        assert claims["azp"] == claims["sub"] == subject_of(email)

    _run_with_service(check)


def test_the_token_endpoint_makes_a_token_for_any_person() -> None:
    """``POST /tokens`` accepts every field of a token, and claims to replace or remove."""

    async def check(client: _Client) -> None:
        wanted: dict[str, Any] = {
            "email": "alice@example.com",
            "audience": AUDIENCE,
            "sub": "7",
            "email_verified": False,
            "hosted_domain": "example.com",
            "lifetime_seconds": 60,
            "claims": {"nonce": "n", "azp": None},
        }
        status, answer = await client.request_json("POST", "/tokens", json=wanted, headers=OWNER)

        claims = await client.verify(answer["token"])
        assert status == 200
        assert claims.pop("exp") - claims.pop("iat") == 60
        assert claims == {
            "iss": GOOGLE,
            "aud": AUDIENCE,
            "sub": "7",
            "email": "alice@example.com",
            "email_verified": False,
            "hd": "example.com",
            "nonce": "n",
        }

    _run_with_service(check)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", ""),
        ("[]", "'email' is missing"),
        ('{"email": "a@example.com"}', "'audience' is missing"),
        ('{"email": "", "audience": "x"}', "'email' is missing"),
        ('{"email": 1, "audience": "x"}', "'email' has the wrong type"),
        ('{"email": "a@example.com", "audience": "x", "mail": "b"}', "'mail' is unknown"),
        ('{"email": "a@example.com", "audience": "x", "lifetime_seconds": 1e300}', ""),
        ('{"email": "a@example.com", "audience": "x", "lifetime_seconds": NaN}', ""),
        (
            '{"email": "a@example.com", "audience": "x", "claims": {"sub": "1"}}',
            "'sub' stands beside",
        ),
    ],
)
def test_an_invalid_request_for_a_token_is_answered_with_the_reason(body: str, words: str) -> None:
    """The answer is 400 with an ``error``."""

    async def check(client: _Client) -> None:
        headers = {"Content-Type": "application/json", **OWNER}
        status, answer = await client.request_json("POST", "/tokens", data=body, headers=headers)

        assert status == 400
        assert words in answer["error"]

    _run_with_service(check)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ],
    ids=str,
)
def test_the_token_endpoint_refuses_a_web_page(headers: dict[str, str], status: int) -> None:
    """The answer has the service's own form, an ``error``."""

    async def check(client: _Client) -> None:
        wanted = {"email": "alice@example.com", "audience": AUDIENCE}
        got, answer = await client.request_json("POST", "/tokens", json=wanted, headers=headers)
        assert (got, answer.keys()) == (status, {"error"})

    _run_with_service(check)


# The metadata server


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("instance/name", "machine"),
        ("instance/zone", f"projects/{PROJECT.number}/zones/{ZONE}"),
        ("instance/attributes/", "hub-audience\nhub-generation\nuser-data\n"),
        ("instance/attributes/hub-generation", "3"),
        ("instance/attributes/user-data", "#cloud-config\n"),
        ("project/project-id", PROJECT.id),
        ("project/numeric-project-id", PROJECT.number),
    ],
)
def test_a_machine_reads_its_metadata(path: str, value: str) -> None:
    """Each value is plain text at Compute Engine's path for it."""

    async def check(client: _Client) -> None:
        assert await client.metadata(path) == (200, value)

    _run_with_service(check)


def test_a_machine_reads_its_numeric_id() -> None:
    """It is the ``id`` of the instance."""

    async def check(client: _Client) -> None:
        assert await client.metadata("instance/id") == (200, client.fleet.instances.all()[0].id)

    _run_with_service(check)


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "instance/nothing",
        "instance/attributes/nothing",
        "instance/service-accounts/other/identity?audience=x",
        "instance/name/further",
    ],
)
def test_an_unknown_metadata_path_is_answered_with_404(path: str) -> None:
    """The answer has the metadata server's header all the same."""

    async def check(client: _Client) -> None:
        assert (await client.metadata(path))[0] == 404

    _run_with_service(check)


@pytest.mark.parametrize("flavor", ["", "google", "Amazon"])
def test_a_request_without_the_metadata_flavor_is_forbidden(flavor: str) -> None:
    """A web page that is tricked into the request cannot send the header."""

    async def check(client: _Client) -> None:
        status, text = await client.metadata("instance/id", flavor=flavor)

        assert (status, text) == (403, 'Missing required header "Metadata-Flavor": "Google"')

    _run_with_service(check)


def test_a_machine_without_an_instance_has_no_metadata() -> None:
    """The answer is 404 for an unknown id, and for an instance that has been deleted."""

    async def check(client: _Client) -> None:
        instance_id = client.fleet.instances.all()[0].id
        assert (await client.metadata("instance/id", instance_id="42"))[0] == 404
        client.fleet.reset()
        assert (await client.metadata("instance/id", instance_id=instance_id))[0] == 404

    _run_with_service(check)


def test_a_service_without_a_fleet_has_no_metadata() -> None:
    """Machines need the service's address, so the fleet may be added later."""

    async def check(client: _Client) -> None:
        instance_id = client.fleet.instances.all()[0].id
        client.identity.fleet = None
        assert (await client.metadata("instance/id", instance_id=instance_id))[0] == 404
        client.identity.fleet = client.fleet
        assert (await client.metadata("instance/id", instance_id=instance_id))[0] == 200

    _run_with_service(check)


def test_a_full_identity_token_describes_the_machine() -> None:
    """It has project, zone, name and ids in Compute Engine's form, and is valid for an hour."""

    async def check(client: _Client) -> None:
        status, token = await client.metadata(
            f"instance/service-accounts/default/identity?audience={AUDIENCE}&format=full"
        )

        instance = client.fleet.instances.all()[0]
        claims = await client.verify(token)
        assert status == 200
        assert claims.pop("exp") - claims.pop("iat") == 3600
        assert claims == {
            "iss": GOOGLE,
            "aud": AUDIENCE,
            "azp": subject_of(SERVICE_ACCOUNT),
            "sub": subject_of(SERVICE_ACCOUNT),
            "email": SERVICE_ACCOUNT,
            "email_verified": True,
            "google": {
                "compute_engine": {
                    "project_id": PROJECT.id,
                    "project_number": int(PROJECT.number),
                    "zone": ZONE,
                    "instance_id": instance.id,
                    "instance_name": "machine",
                    "instance_creation_timestamp": int(instance.created_at.timestamp()),
                }
            },
        }

    _run_with_service(check)


def test_a_standard_identity_token_does_not_describe_the_machine() -> None:
    """Only ``format=full`` does; a request without an audience is answered with 400."""

    async def check(client: _Client) -> None:
        path = "instance/service-accounts/default/identity"
        _, token = await client.metadata(f"{path}?audience={AUDIENCE}")

        assert "google" not in await client.verify(token)
        assert await client.metadata(path) == (400, "non-empty audience parameter required")

    _run_with_service(check)


def test_a_machine_without_a_service_account_has_no_identity_token() -> None:
    """The answer is 404, as from the real metadata server."""

    async def check(client: _Client) -> None:
        path = f"instance/service-accounts/default/identity?audience={AUDIENCE}&format=full"
        assert (await client.metadata(path))[0] == 404

    _run_with_service(check, serviceAccounts=[])
