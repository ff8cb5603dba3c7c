"""Requests by pages of another site, to which the browser adds a cookie that proves a person."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from werkzeug.test import TestResponse

from shared.domain.workspace import Status
from tests.functions.conftest import Functions

OWN = "http://localhost"  # the test client's origin
OTHER = "https://attacker.example"
LISTED = "https://page.example.com"

REFUSED = {
    "another site": {"Sec-Fetch-Site": "cross-site", "Origin": OTHER},
    "another site, without an origin": {"Sec-Fetch-Site": "cross-site"},
    "another host of the same site": {
        "Sec-Fetch-Site": "same-site",
        "Origin": "http://other.localhost",
    },
    "an unknown word": {"Sec-Fetch-Site": "SAME-ORIGIN"},
    "an old browser on another site": {"Origin": OTHER},
    "a sandboxed page": {"Origin": "null"},
    "another port": {"Origin": f"{OWN}:8443"},
    "a host that begins like the Hub's": {"Origin": f"{OWN}.attacker.example"},
}
ACCEPTED = {
    "no browser": {},
    "the Hub's own page": {"Sec-Fetch-Site": "same-origin", "Origin": OWN},
    "a person's own navigation": {"Sec-Fetch-Site": "none"},
    "an old browser on the Hub's own page": {"Origin": OWN},
    "a page that is listed": {"Sec-Fetch-Site": "cross-site", "Origin": LISTED},
}


@pytest.fixture(autouse=True)
def behind_iap(hub: Functions) -> None:
    """Identify people by IAP's header, which IAP derives from its cookie."""
    hub.configure(HUB_IDENTITY_SOURCE="iap", HUB_CORS_ORIGINS=LISTED)


@pytest.mark.parametrize("who", REFUSED)
def test_a_page_of_another_site_changes_nothing(hub: Functions, who: str) -> None:
    """Every verb is refused, before the Hub looks whether the workspace exists."""
    workspace = hub.world.ready("alice")
    calls: list[Callable[[], TestResponse]] = [
        lambda: hub.create({"name": "theirs"}, headers=REFUSED[who]),
        lambda: hub.stop(workspace.id, headers=REFUSED[who]),
        lambda: hub.start(workspace.id, headers=REFUSED[who]),
        lambda: hub.delete(workspace.id, headers=REFUSED[who]),
    ]
    for call in calls:
        answer = call()
        assert (answer.status_code, answer.get_json()["code"]) == (403, "CROSS_SITE_REQUEST")
    assert list(hub.world.store.workspaces.values()) == [workspace]


@pytest.mark.parametrize("who", ACCEPTED)
def test_requests_of_the_person_themselves_are_served(hub: Functions, who: str) -> None:
    """The Hub's own page, listed pages, and clients that are no browsers are served."""
    workspace = hub.world.ready("alice")
    assert hub.stop(workspace.id, headers=ACCEPTED[who]).status_code == 202
    assert hub.world.workspace(workspace.id).operation is not None


def test_a_page_of_another_site_reads_nothing(hub: Functions) -> None:
    """An image could make an administrator read, which writes to the trail in their name."""
    workspace = hub.world.ready("alice")
    before = len(hub.world.store.events)
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    for number in range(5):
        assert (
            hub.list_workspaces(f"?owner_id=x{number}", token="grace", headers=image).status_code
            == 403
        )
    assert hub.events(workspace.id, token="grace", headers=image).status_code == 403
    assert hub.status("no-such", token="alice", headers=image).status_code == 403
    assert len(hub.world.store.events) == before


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://a]b", "", "//", "null"])
def test_a_malformed_origin_is_refused(hub: Functions, origin: str) -> None:
    """It is refused as another site's, without an internal error."""
    workspace = hub.world.ready("alice")
    answer = hub.stop(workspace.id, headers={"Origin": origin})
    assert (answer.status_code, answer.get_json()["code"]) == (403, "CROSS_SITE_REQUEST")


def test_a_token_is_accepted_from_any_site(hub: Functions) -> None:
    """No browser sends a token by itself."""
    hub.configure()
    workspace = hub.world.ready("alice")
    assert hub.stop(workspace.id, headers=REFUSED["another site"]).status_code == 202
    assert hub.world.workspace(workspace.id).status is Status.READY
