"""The page over HTTP: caching, compression, assets that are gone, and links from elsewhere."""

from __future__ import annotations

import gzip
import re

import brotli
import pytest
from werkzeug.test import TestResponse

from tests.functions.conftest import Functions

BEHIND_IAP = {
    "HUB_IDENTITY_SOURCE": "iap",
    "HUB_IAP_AUDIENCES": "/projects/1/global/backendServices/7",
}


def get(hub: Functions, path: str, **headers: str) -> TestResponse:
    """Get something of the page, without a token."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return hub.call("show_page", path, token=None, headers=named)


def an_asset(hub: Functions) -> str:
    """Return the path of an asset that the page names."""
    found = re.search(r'"(/assets/main\.[0-9a-f]{12}\.js)"', get(hub, "/").text)
    assert found
    return found[1]


def test_the_page_is_asked_for_each_time_and_an_asset_once(hub: Functions) -> None:
    """A deployment is seen at the next load, and what has not changed is not sent again."""
    page, asset = get(hub, "/"), get(hub, an_asset(hub))
    assert page.headers["Cache-Control"] == "no-cache"
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert asset.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert asset.headers["Content-Type"] == "text/javascript; charset=utf-8"
    again = get(hub, "/", If_None_Match=page.headers["ETag"])
    assert (again.status_code, again.data, again.headers["ETag"]) == (
        304,
        b"",
        page.headers["ETag"],
    )


@pytest.mark.parametrize("path", ["/", "/assets/google-sign-in"])
def test_it_is_compressed_for_whoever_takes_that(hub: Functions, path: str) -> None:
    """The tags differ, since the bytes do, and caches know what the answer depends on."""
    plain = get(hub, path)
    smaller = get(hub, path, Accept_Encoding="gzip, deflate")
    smallest = get(hub, path, Accept_Encoding="gzip, deflate, br, zstd")
    assert (smaller.headers["Content-Encoding"], smallest.headers["Content-Encoding"]) == (
        "gzip",
        "br",
    )
    assert gzip.decompress(smaller.data) == brotli.decompress(smallest.data) == plain.data
    for refused in ("gzip;q=0", "br;q=0, gzip;q=0, identity"):
        assert "Content-Encoding" not in get(hub, path, Accept_Encoding=refused).headers
    answers = (plain, smaller, smallest)
    assert {each.headers["Vary"] for each in answers} == {"Accept-Encoding"}
    assert len({each.headers["ETag"] for each in answers}) == 3


def test_an_asset_of_another_deployment_is_not_kept(hub: Functions) -> None:
    """A browser that asks the wrong revision may ask again."""
    for name in ("main.000000000000.js", "main.js", "index.html", "reload.js", "sign-in.html"):
        answer = get(hub, f"/assets/{name}")
        assert (answer.status_code, answer.get_json()["code"]) == (404, "NOT_FOUND")
        assert answer.headers["Cache-Control"] == "no-store"


def test_it_keeps_the_other_security_headers(hub: Functions) -> None:
    """It replaces those that it has values of its own for, and no other."""
    answer = get(hub, "/")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Strict-Transport-Security" in answer.headers
    assert len(answer.headers.getlist("Content-Security-Policy")) == 1


def test_links_of_other_sites_and_the_proxys_query_lead_to_it(hub: Functions) -> None:
    """Whoever signs in to the proxy, or follows a link in a chat, comes from another site."""
    hub.configure(**BEHIND_IAP)
    path = "/?gcp-iap-mode=DO_SESSION_REFRESH"
    answer = get(hub, path, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert answer.status_code == 200
    # The proxy's window must stay the page's own.
    assert "Cross-Origin-Opener-Policy" not in answer.headers


def test_the_sign_in_document_keeps_its_opener(hub: Functions) -> None:
    """Both have the same opener policy, as browsers demand."""
    page, document = get(hub, "/"), get(hub, "/assets/google-sign-in")
    for answer in (page, document):
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin-allow-popups"
    assert document.headers["Cache-Control"] == "no-cache"
