"""Changes that a page of another site asks for, where the browser sends a cookie along that proves who somebody is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.domain.workspace import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.test import TestResponse

    from tests.functions.conftest import Functions

OWN = "http://localhost"  # the client's
OTHER = "https://attacker.example"
LISTED = "https://page.example.com"

REFUSED = {
    "another site": {"Sec-Fetch-Site": "cross-site", "Origin": OTHER},
    "another site, without an origin": {"Sec-Fetch-Site": "cross-site"},
    "another host of the same site": {
        "Sec-Fetch-Site": "same-site",
        "Origin": "http://other.localhost",
    },
    "a word that is none": {"Sec-Fetch-Site": "SAME-ORIGIN"},
    "an old browser on another site": {"Origin": OTHER},
    "a sandboxed page": {"Origin": "null"},
    "another port": {"Origin": f"{OWN}:8443"},
    "a host that begins like ours": {"Origin": f"{OWN}.attacker.example"},
}
TAKEN = {
    "no browser": {},
    "our own page": {"Sec-Fetch-Site": "same-origin", "Origin": OWN},
    "a person's own doing": {"Sec-Fetch-Site": "none"},
    "an old browser on our own page": {"Origin": OWN},
    "a page that is listed": {"Sec-Fetch-Site": "cross-site", "Origin": LISTED},
}


@pytest.fixture(autouse=True)
def behind_iap(hub: Functions) -> None:
    """Have people prove themselves by IAP's header, which IAP makes of its cookie."""
    hub.configure(HUB_IDENTITY_SOURCE="iap", HUB_CORS_ORIGINS=LISTED)


@pytest.mark.parametrize("who", REFUSED)
def test_a_page_of_another_site_changes_nothing(hub: Functions, who: str) -> None:
    """With the person's cookie, in every verb; it may not even look whether the workspace is there."""
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


@pytest.mark.parametrize("who", TAKEN)
def test_whoever_asks_for_themselves_is_served(hub: Functions, who: str) -> None:
    """Browsers on the Hub's own page, and what is no browser."""
    workspace = hub.world.ready("alice")
    assert hub.stop(workspace.id, headers=TAKEN[who]).status_code == 202
    assert hub.world.workspace(workspace.id).operation is not None


def test_a_page_of_another_site_has_nobody_look_either(hub: Functions) -> None:
    """An administrator's look is written into the trail in their name, and so is a refusal; an image is enough to ask for one."""
    workspace = hub.world.ready("alice")
    before = len(hub.world.store.events)
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    for number in range(5):
        assert hub.listed(f"?owner_id=x{number}", token="grace", headers=image).status_code == 403
    assert hub.events(workspace.id, token="grace", headers=image).status_code == 403
    assert hub.status("no-such", token="alice", headers=image).status_code == 403
    assert len(hub.world.store.events) == before


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://a]b", "", "//", "null"])
def test_an_origin_that_is_none_is_not_ours(hub: Functions, origin: str) -> None:
    """It is refused like another's, and not a fault."""
    workspace = hub.world.ready("alice")
    answer = hub.stop(workspace.id, headers={"Origin": origin})
    assert (answer.status_code, answer.get_json()["code"]) == (403, "CROSS_SITE_REQUEST")


def test_with_tokens_it_is_the_token_that_counts(hub: Functions) -> None:
    """No browser sends one by itself."""
    hub.configure()
    workspace = hub.world.ready("alice")
    assert hub.stop(workspace.id, headers=REFUSED["another site"]).status_code == 202
    assert hub.world.workspace(workspace.id).status is Status.READY
