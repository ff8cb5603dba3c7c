"""The ``Link`` header to a list's next page."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Request, Response
from werkzeug.test import EnvironBuilder

from shared.entry.http import next_link


def request_to(target: str) -> Request:
    """Return a request with this path and query, both as they are sent."""
    path, _, query = target.partition("?")
    return Request(EnvironBuilder(path=path, query_string=query).get_environ())


def target_of(link: str) -> str:
    """Return the URL in a response's link."""
    told = re.fullmatch(r'<([!-~]+)>; rel="next"', Response(headers={"Link": link}).headers["Link"])
    assert told
    return told[1]


def test_the_last_page_has_no_link() -> None:
    """Given no token for a further page, there is no header."""
    assert next_link(request_to("/workspaces?limit=2"), None) == {}


@pytest.mark.parametrize("spelling", ["page_token", "pageToken"])
def test_the_link_is_the_same_request_with_the_next_token(spelling: str) -> None:
    """The other parameters stay, and there is one token, however it was spelt."""
    link = next_link(request_to(f"/workspaces?status=READY&limit=2&{spelling}=first"), "se=cond&")[
        "Link"
    ]
    target = urlsplit(target_of(link))
    assert target.path == "/workspaces"
    assert parse_qs(target.query) == {
        "status": ["READY"],
        "limit": ["2"],
        "page_token": ["se=cond&"],
    }


@pytest.mark.parametrize("odd", ["%0D%0ASet-Cookie:%20a", "%3E;%20rel=%22next%22", "%E2%82%AC"])
def test_the_link_is_a_legal_header_for_any_path(odd: str) -> None:
    """A made-up path can break out of neither the link nor the header."""
    link = next_link(request_to(f"/workspaces/{odd}/events"), "second")["Link"]
    assert urlsplit(target_of(link)).path.count("/") == 3
