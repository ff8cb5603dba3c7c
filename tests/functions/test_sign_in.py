"""``GET /sign-in``: what each kind of Hub tells about signing in."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from localcloud.catalogue import ROOT
from shared.entry.sign_in import GCLOUD_AUDIENCE
from tests.functions.conftest import Functions

DESKTOP, WEB = "1-desktop.apps.googleusercontent.com", "1-web.apps.googleusercontent.com"
PROXY = "1-proxy.apps.googleusercontent.com"
HUB = "https://hub.example.com"
IAP = {"HUB_IDENTITY_SOURCE": "iap", "HUB_USER_AUDIENCES": "/projects/1/global/backendServices/2"}


def sign_in(hub: Functions, **settings: str) -> dict[str, Any]:
    """Return what a Hub with these settings answers to somebody without a token."""
    hub.configure(**settings)
    answer = hub.call("describe_sign_in", "/sign-in", token=None)
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = answer.get_json()
    return body


def test_it_says_which_hub_this_is(hub: Functions) -> None:
    """Name, version and contract are the project's; the address is the deployment's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    answer = sign_in(hub, HUB_ADDRESS=HUB)

    assert answer["hub"] == {"name": "Workspace Hub", "version": project["version"], "api": 1}
    assert answer["address"] == HUB
    assert sign_in(hub)["address"] is None
    assert answer["connect"] == {"kind": "iap", "port": 22, "jump": None, "user": None}
    assert set(answer["features"]) == {
        "connect",
        "name_filter",
        "host_key",
        "access",
        "dry_run",
        "etag",
        "me",
        "outlook",
        "keep_awake",
        "snapshots",
        "restore",
        "undelete",
        "archive",
    }


@pytest.mark.parametrize(
    ("settings", "methods"),
    [
        ({"HUB_USER_AUDIENCES": GCLOUD_AUDIENCE}, [{"kind": "gcloud", "audience": None}]),
        ({"HUB_USER_AUDIENCES": HUB}, []),
        (
            {"HUB_USER_AUDIENCES": HUB, "HUB_ADDRESS": HUB},
            [{"kind": "service_account", "audience": HUB}],
        ),
        (
            {
                "HUB_USER_AUDIENCES": f"{GCLOUD_AUDIENCE},{HUB},{DESKTOP},{WEB}",
                "HUB_ADDRESS": HUB,
                "HUB_OAUTH_CLIENT_ID": DESKTOP,
                "HUB_OAUTH_CLIENT_SECRET": "GOCSPX-none",
                "HUB_OAUTH_WEB_CLIENT_ID": WEB,
            },
            [
                {
                    "kind": "oauth",
                    "client_id": DESKTOP,
                    "client_secret": "GOCSPX-none",
                    "audience": DESKTOP,
                },
                {"kind": "oauth_web", "client_id": WEB},
                {"kind": "gcloud", "audience": None},
                {"kind": "service_account", "audience": HUB},
            ],
        ),
        (
            {"HUB_IDENTITY_KEYS_URL": "http://127.0.0.1:1/keys", "HUB_ADDRESS": HUB},
            [{"kind": "local"}],
        ),
        (IAP, [{"kind": "iap", "audience": None, "client_id": None, "client_secret": None}]),
        (
            {**IAP, "HUB_OAUTH_CLIENT_ID": DESKTOP},
            [
                {"kind": "iap", "audience": DESKTOP, "client_id": DESKTOP, "client_secret": None},
                {"kind": "service_account", "audience": DESKTOP},
            ],
        ),
        (
            {
                **IAP,
                "HUB_OAUTH_CLIENT_ID": DESKTOP,
                "HUB_OAUTH_CLIENT_SECRET": "GOCSPX-none",
                "HUB_IAP_AUDIENCE": PROXY,
            },
            [
                {
                    "kind": "iap",
                    "audience": PROXY,
                    "client_id": DESKTOP,
                    "client_secret": "GOCSPX-none",
                },
                {"kind": "service_account", "audience": PROXY},
            ],
        ),
    ],
    ids=[
        "gcloud",
        "none",
        "programs",
        "all",
        "local",
        "iap",
        "iap for commands",
        "iap, own client",
    ],
)
def test_the_methods_are_those_whose_tokens_this_hub_takes(
    hub: Functions, settings: dict[str, str], methods: list[dict[str, str]]
) -> None:
    """The best one for a command comes first; what the Hub would refuse is not offered."""
    assert sign_in(hub, **settings)["methods"] == methods


def test_it_says_how_people_connect(hub: Functions) -> None:
    """So a bastion is shown when somebody signs in, before anything goes through it."""
    answer = sign_in(hub, HUB_CONNECT="direct", HUB_CONNECT_JUMP="bastion", HUB_CONNECT_USER="dev")

    assert answer["connect"] == {"kind": "direct", "port": 22, "jump": "bastion", "user": "dev"}


def test_it_costs_nothing_and_is_noted_nowhere(hub: Functions) -> None:
    """Anybody may ask it at any rate: store, Compute, tokens and audit trail are not touched."""
    for part in ("store", "identity", "machines", "audit", "caller_limit"):
        hub.replace_part(part, None)

    answers = {hub.call("describe_sign_in", "/sign-in", token=who).data for who in (None, "x")}

    assert len(answers) == 1


def test_pages_that_are_allowed_may_read_it(hub: Functions) -> None:
    """A page of another origin learns its OAuth client from it, after a preflight or without."""
    page = "https://page.example.com"
    hub.configure(HUB_CORS_ORIGINS=page)
    headers = {"Origin": page, "Access-Control-Request-Method": "GET"}

    asked = hub.call("describe_sign_in", "/sign-in", token=None, method="OPTIONS", headers=headers)
    read = hub.call("describe_sign_in", "/sign-in", token=None, headers={"Origin": page})

    assert (asked.status_code, read.status_code) == (204, 200)
    assert asked.headers["Access-Control-Allow-Methods"] == "GET"
    for answer in (asked, read):
        assert answer.headers["Access-Control-Allow-Origin"] == page
