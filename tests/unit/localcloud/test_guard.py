"""The hosts that a server of the local cloud accepts, and requests from pages of other sites."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from localcloud.services.http_server import is_from_another_site, own_hosts

PORT = 8080


def test_a_server_accepts_three_host_names_with_its_port() -> None:
    """They are written as in a ``Host`` header."""
    assert own_hosts(PORT) == {"127.0.0.1:8080", "localhost:8080", "[::1]:8080"}


def test_only_port_80_may_be_left_out_of_the_host() -> None:
    """Browsers do not write that port."""
    assert own_hosts(80) >= {"127.0.0.1", "127.0.0.1:80", "localhost", "[::1]"}
    assert "localhost" not in own_hosts(8080)


@pytest.mark.parametrize(
    ("headers", "another"),
    [
        ([], False),
        ([("Sec-Fetch-Site", "same-origin")], False),
        ([("Sec-Fetch-Site", "none")], False),
        ([("Sec-Fetch-Site", "same-site")], True),
        ([("Sec-Fetch-Site", "cross-site")], True),
        ([("Sec-Fetch-Site", "")], True),
        ([("Sec-Fetch-Site", "whatever-comes-next")], True),
        ([("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "cross-site")], True),
        ([("Sec-Fetch-Site", "cross-site"), ("Origin", "http://localhost:8080")], True),
        ([("Sec-Fetch-Site", "same-origin"), ("Origin", "http://localhost:8080")], False),
        ([("Origin", "http://localhost:8080")], False),
        ([("Origin", "http://127.0.0.1:8080")], False),
        ([("Origin", "http://[::1]:8080")], False),
        ([("Origin", "null")], True),
        ([("Origin", "")], True),
        ([("Origin", "https://localhost:8080")], True),
        ([("Origin", "http://localhost:3000")], True),
        ([("Origin", "http://localhost")], True),
        ([("Origin", "http://localhost:8080.evil.example")], True),
        ([("Origin", "http://evil.example:8080")], True),
        ([("Origin", "http://localhost:8080"), ("Origin", "http://evil.example")], True),
    ],
)
def test_a_request_from_another_site_is_recognized_by_its_headers(
    headers: list[tuple[str, str]], another: bool
) -> None:
    """``Sec-Fetch-Site`` decides, or else ``Origin``; a client that sends neither is no browser."""
    request = make_mocked_request("POST", "/", headers=CIMultiDict(headers))
    assert is_from_another_site(request, PORT) is another
