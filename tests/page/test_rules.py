"""What the page says of a field while one types is what the API says of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from shared.domain import credentials
from shared.domain.errors import InvalidRequestError
from shared.domain.policy import Policy
from shared.entry.bodies import read_new_workspace
from tests.page.person import Person

PATTERNS = ("v[0-9]*", "latest", "[!a]?-*", "sha256:*")
# What the rules look at, so that random texts of it meet their edges.
PIECES = (
    *"aZ0-_.:/@?#&;=%+\\ \t\x00\x7f\x85\n[]*!~\u05d0\u212a\U0001f600",
    *(
        "https://",
        "ssh://",
        "git+ssh:",
        "//",
        "git@host:",
        "user:pw@",
        "%40",
        "%3A",
        "%2540",
        "%ff",
    ),
    *("token", "?Private-Token=x", "&key=", "ghp_0123456789abcdef", "glpat-0123456789abcdef"),
    *("sha256:" + "0" * 64, "sha256:", "v1", "latest", "x" * 48, "y" * 1000, ":8443/"),
)
# Every name and scheme that the Hub knows, and what is almost one.
NAMES = sorted({*credentials._PARAMETER_ENDS, *credentials._PARAMETER_NAMES})  # noqa: SLF001
SCHEMES = sorted({*credentials._SSH, "https", "git"})  # noqa: SLF001
KNOWN = [
    *(f"https://host/path?{name}=x" for name in NAMES),
    *(f"https://host/path?a=b&My-{name.upper()}=x" for name in NAMES),
    *(f"https://host/path#{name}s=x" for name in NAMES),
    *(f"{scheme}://{user}host/path" for scheme in SCHEMES for user in ("", "me@", "me:pw@")),
    *(f"x{scheme}://me@host/path" for scheme in SCHEMES),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
# The function of `rules.js` for each field, and the body that has the field.
FIELDS: dict[str, tuple[str, Callable[[str], dict[str, object]]]] = {
    "name": ("nameProblem", lambda text: {"name": text}),
    "metadata.repo": ("repositoryProblem", lambda text: {"metadata": {"repo": text}}),
    "metadata.branch": ("branchProblem", lambda text: {"metadata": {"branch": text}}),
    "image_tag": ("imageProblem", lambda text: {"image_tag": text}),
}
ASK = """
async ([name, texts, patterns]) => {
  const rules = await import("page/rules.js");
  return texts.map((text) => rules[name](text, patterns));
}
"""


def said_by_the_api(field: str, text: str) -> str:
    """Return what the API says is wrong with a field that has this text; empty if nothing is."""
    body = {"name": "api"} | FIELDS[field][1](text)
    request = Request(EnvironBuilder(method="POST", json=body).get_environ())
    try:
        read_new_workspace(request, Policy(image_tags=PATTERNS))
    except InvalidRequestError as error:
        return "; ".join(each.message for each in error.problems)
    return ""


@pytest.mark.parametrize("field", FIELDS)
def test_the_page_says_of_any_text_what_the_api_says(alice: Person, field: str) -> None:
    """Two thousand texts, and every name and scheme that the Hub knows, get the same words."""
    page = alice.open()

    def compare(texts: list[str]) -> None:
        said = page.evaluate(ASK, [FIELDS[field][0], texts, list(PATTERNS)])
        assert dict(zip(texts, said, strict=True)) == {
            text: said_by_the_api(field, text) for text in texts
        }

    @settings(
        max_examples=100,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(TEXTS, min_size=20, max_size=20))
    def same(texts: list[str]) -> None:
        compare(texts)

    compare(KNOWN)
    same()
