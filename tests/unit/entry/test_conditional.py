"""Which answers a client has already, by its ``If-None-Match``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.entry.conditional import entity_tag, is_known

WEAK = entity_tag(b"[]")
TAG = WEAK.removeprefix("W/")
OTHER = entity_tag(b"[1]").removeprefix("W/")


@pytest.mark.parametrize(
    "given_tags",
    [
        TAG,
        f"W/{TAG}",
        f"{OTHER}, {TAG}",
        f'"a,b",W/"", {TAG}\t,{OTHER}',
        f",, {TAG} ,",
        f'"\xfc", {TAG}',
        "*",
        " * ",
    ],
)
def test_a_client_has_an_answer_whose_tag_it_names(given_tags: str) -> None:
    """In any place of a list, weak or strong, or by a star."""
    assert is_known(given_tags, WEAK)


@pytest.mark.parametrize(
    "given_tags",
    [
        *(None, "", " ", ",", OTHER, f"W/{OTHER}", f"w/{TAG}", f"W/ {TAG}"),
        *(TAG.strip('"'), TAG[:-1], TAG[1:], f"'{TAG}'", f"{TAG} {OTHER}", f"{TAG};q=1"),
        *(f"{TAG}, *", f"*, {TAG}", f"{TAG}, rubbish", f'"a b", {TAG}', f'"{TAG}"', "**"),
    ],
)
def test_a_malformed_header_or_another_tag_gets_the_whole_answer(given_tags: str | None) -> None:
    """Nothing is guessed: whoever asks badly is never told that they have it."""
    assert not is_known(given_tags, WEAK)


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_no_header_breaks_the_comparison(text: str) -> None:
    """Any text is an answer of yes or no; only a star, or the tag in it, is a yes."""
    assert is_known(text, WEAK) in {False, text.strip(" \t") == "*" or TAG in text}


def test_a_tag_outlives_a_proxy_that_compresses_the_answer() -> None:
    """Envoy and others take a strong tag away then, or make it weak: clients got 200 for ever."""
    assert WEAK.startswith('W/"')


def test_a_tag_is_of_the_body_and_of_the_headers() -> None:
    """What moves from the body to a header, or between headers, is another answer."""
    answers: list[tuple[bytes, ...]] = [(b"ab",), (b"a", b"b"), (b"", b"ab"), (b"a", b"", b"b")]
    tags = {entity_tag(body, *(each.decode() for each in headers)) for body, *headers in answers}
    assert len(tags) == len(answers)
