"""Which texts hold credentials, and which only look similar."""

from __future__ import annotations

import pytest

from shared.domain.credentials import holds_credentials, holds_credentials_without_scheme

TOKEN = f"ghp_{'a1B2' * 9}"
WITH = (
    "https://user:secret@host/r.git",
    "HTTPS://User:Secret@host/r.git",
    "https://token@host/r.git",
    "https://:x@h/r",
    "https://user:@host/r",
    "https://user%3Asecret@host/r",
    "https://us%40er:sec%2Fret@host:8443/r",
    "https://user:se@cret@host/r",
    "https://user:se/cret@host/r",
    "https://user:se#cret@host/r",
    "https:/user:secret@host/r",
    r"https:\\user:secret@host\r",
    "//user:secret@host/r",
    "https://x-oauth-basic@[::1]:8080/r",
    "http%3A%2F%2Fuser%3Asecret%40host%2Fr",
    "http%253A%252F%252Fuser%253Asecret%2540host",
    "git+https://user:secret@host/r",
    "git://name@host/r",
    "ftp://user:secret@host/r",
    "ssh://git:secret@host/r",
    "ssh://git%3Asecret@host/r",
    "SSH://git:secret@host:22/r",
    "see https://user:secret@host/r for it",
    "https://host/login?next=https://user:secret@host/",
    "https://host/r.git?access_token=x",
    "https://host/r.git?private_token=x",
    "https://host/r.git?token=x",
    "https://host/r.git?ref=main&Access-Token=x",
    "https://host/r.git?ref=main;job_token=x",
    "https://host/r.git?accessToken=x",
    "https://host/r.git?access%5Ftoken=x",
    "https://host/r.git#token=x",
    "https://host/r.git?X-Goog-Signature=x",
    "https://host/r.git?client_secret=x",
    "https://host/r.git?password=x",
    "https://host/r.git?api_key=x",
    "https://host/r.git?key=x",
    "host/r.git?token=x",
    f"https://host/{TOKEN}/r.git",
    f"ssh://{TOKEN}@host/r.git",
    f"{TOKEN}@host:r.git",
    f"github_pat_{'11AB' * 6}_xyz",
    f"glpat-{'a1-B' * 5}",
)
WITHOUT = (
    "https://host/r.git",
    "https://host:8443/r.git",
    "https://[::1]:8443/r@main",
    "https://@host/r",
    "https://host/@scope/package",
    "https://host/r@v1.2",
    "https://host/r?ref=main&path=src/token.py",
    "https://host/r?token=",
    "https://host/r?tokens=3&keys=2",
    "https://host/tokens/secret/password",
    "https://host/r?author=a@example.com",
    "ssh://git@host/r.git",
    "ssh://git@host:22/r.git",
    "ssh://git:@host/r.git",
    "git+ssh://git@host/r.git",
    "git@host:org/r.git",
    "git@host:org/r.git@v1",
    "github:org/r@v1.2",
    "org/r",
    "org/r@main",
    "/srv/git/r.git",
    r"C:\Users\ada\r",
    "feature/token=1",
    "feature/user@example.com",
    "release: see https://host/r",
    "größe",
    "",
)
WITHOUT_SCHEME = (
    "user:secret@host/r.git",
    "oauth2:token@gitlab/r",
    ":token@host/r",
    "user%3Asecret%40host/r",
    " user:secret@h",
)


@pytest.mark.parametrize("text", WITH)
def test_credentials_are_found(text: str) -> None:
    """Before the at sign, in parameters, encoded, in capitals, or as a well-known kind of token."""
    assert holds_credentials(text)


@pytest.mark.parametrize("text", WITHOUT)
def test_text_without_credentials_is_accepted(text: str) -> None:
    """A user name over SSH, an at sign elsewhere, and words such as "token" are no credentials."""
    assert not holds_credentials(text)
    assert not holds_credentials_without_scheme(text)


@pytest.mark.parametrize("text", WITHOUT_SCHEME)
def test_credentials_before_a_bare_host_are_found_in_a_url_field(text: str) -> None:
    """Without a scheme they count as credentials only in a field that takes a URL."""
    assert holds_credentials_without_scheme(text)
