"""How text from outside the Hub is shown."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.plain_text import (
    MOST_CHARACTERS,
    one_line,
    quoted,
    quoted_lines,
    shortened,
    visible,
)

SHOWN = [
    ("plain words", "plain words"),
    ("  two\r\n\tlines  ", "two lines"),
    ("no\u00a0break, em\u2003space, \u3000wide", "no break, em space, wide"),
    ("line\u2028paragraph\u2029next\u0085c1", "line paragraph next c1"),
    (
        "a\u202eb\u202cc\u2066d\u2069e\u200ef\u061cg",
        "abcdefg",
    ),  # bidirectional marks, embeddings, isolates
    ("a\u200bb\u200cc\u200dd\ufeffe\u2060f\u00adg", "abcdefg"),  # zero-width, soft hyphen
    ("a\U000e0001\U000e0068\U000e0069\U000e007fb", "ab"),  # tags
    (
        "a\ufe0fb\U000e0100c\u034fd\u3164e\u115ff\u2800g",
        "abcdefg",
    ),  # variation selectors, fillers, an empty cell
    ("a\ud800b\udfffc\ue000d\U000f0000e\uffffe", "abcdee"),  # surrogates, private use, no character
    ("a\x00b\x07c\x7fd", "a b c d"),
    ("\x1b[31mred\x1b[0m \x1b[2J\x9b1mbold \x1b]0;title\x07done\x1bMup", "red bold doneup"),
    ("Größe 大小 حجم ₃ é", "Größe 大小 حجم ₃ é"),
]


@pytest.mark.parametrize(("text", "line"), SHOWN)
def test_a_text_becomes_one_line_of_visible_characters(text: str, line: str) -> None:
    """Words stay, in every script; terminal controls and misleading characters are removed."""
    assert one_line(text) == line


def test_only_visible_characters_are_shown() -> None:
    """In all of Unicode, only letters, marks, numbers, punctuation, symbols and spaces are left."""
    everything = "".join(map(chr, range(sys.maxunicode + 1)))

    left = {unicodedata.category(each) for each in visible(everything)}

    assert left <= {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Zs"} | {
        category for category in left if category[0] in "PS"
    }
    assert left >= {"Lu", "Mn", "Nd", "Po", "Sm", "Zs"}


@given(st.text(st.characters(codec=None), max_size=700), st.integers(210, 400))
def test_every_text_becomes_a_bounded_printable_line(text: str, most: int) -> None:
    """This holds for text that was cut, too; to apply it twice changes nothing."""
    line = one_line(text, most)

    assert len(line) <= most
    assert "\n" not in line
    assert line == " ".join(line.split())
    assert one_line(line, most) == line
    assert not {unicodedata.category(each) for each in line} & {
        "Cc",
        "Cf",
        "Cs",
        "Co",
        "Cn",
        "Zl",
        "Zp",
    }
    assert quoted(text, most).count('"') == 2


@given(st.text(st.characters(codec=None), max_size=700), st.integers(50, 400))
def test_every_line_of_output_is_quoted(text: str, most: int) -> None:
    """No line can be mistaken for the Hub's, and the length stays within the limit."""
    shown = quoted_lines(text, most)

    assert len(shown) <= most
    assert all(line.startswith("> ") for line in shown.splitlines())


def test_the_end_of_output_is_shown_without_empty_lines() -> None:
    """Line feeds stay, carriage returns become line feeds, and colours are removed."""
    printed = "[\x1b[0;32m  OK  \x1b[0m] Started ssh.\r\n\r\n\n\tkernel:\x00 panic\u202e\n"

    assert quoted_lines(printed, 100) == "> [ OK ] Started ssh.\n> kernel: panic"
    assert quoted_lines("x" * 100 + "\nkernel panic", 40) == "> …" + "x" * 22 + "\n> kernel panic"
    assert quoted_lines("\r\n \x1b[0m\n", 100) == ""


def test_a_long_text_is_cut_between_words() -> None:
    """The result ends with an ellipsis; a single word that is too long is cut."""
    words = shortened("word " * 100)

    assert words.endswith("word…")
    assert MOST_CHARACTERS - 6 < len(words) <= MOST_CHARACTERS
    assert shortened("x" * 1000) == "x" * (MOST_CHARACTERS - 1) + "…"
    assert shortened("x" * MOST_CHARACTERS) == "x" * MOST_CHARACTERS


def test_a_quoted_text_cannot_end_its_quotation() -> None:
    """Every character that looks like a quotation mark becomes an apostrophe."""
    assert (
        quoted('It is full." The Hub says: \u201cpay\u201d \u00abnow\u00bb \uff02')
        == "\"It is full.' The Hub says: 'pay' 'now' '\""
    )
