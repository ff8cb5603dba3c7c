"""What a terminal is given to show."""

import unicodedata

import pytest

from localcloud.command_line.terminal import escape


@pytest.mark.parametrize(
    ("hostile", "seen"),
    [
        ("\x1b[2J\x1b[31m", r"\u001b[2J\u001b[31m"),
        ("\x1b]0;title\x07", r"\u001b]0;title\u0007"),
        ("\x9b2J", r"\u009b2J"),
        ("one\ntwo", r"one\u000atwo"),
        ("covered\rup", r"covered\u000dup"),
        ("a\x0bb\x0cc\x85d", r"a\u000bb\u000cc\u0085d"),
        ("one\u2028two\u2029three", r"one\u2028two\u2029three"),
        ("rub\x08\x7f", r"rub\u0008\u007f"),
        ("nul\x00", r"nul\u0000"),
        (
            "\u202eevil\u202c \u2066\u2069 \u200f\u061c",
            r"\u202eevil\u202c \u2066\u2069 \u200f\u061c",
        ),
        (
            "a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg",
            r"a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg",
        ),
        ("\U000e0041\U000e0001", r"\U000e0041\U000e0001"),
        (
            "\u115f\u1160\u3164\uffa0\u034f\ufe0f\U000e0100",
            r"\u115f\u1160\u3164\uffa0\u034f\ufe0f\U000e0100",
        ),
        ("\ud83d", r"\ud83d"),
        ("\ue000\uffff", r"\ue000\uffff"),
    ],
)
def test_what_acts_on_a_terminal_or_hides_is_shown_escaped(hostile: str, seen: str) -> None:
    """Escapes, line ends, directions, characters without width and non-characters: as codes."""
    assert escape(hostile) == seen
    assert escape(hostile).isprintable()


@pytest.mark.parametrize(
    "ordinary",
    [
        '{"severity": "INFO", "path": "C:\\\\x\\u202e"}',
        "\tat com.google.Class.method(Class.java:7)",
        "Zoë, Łukasz, Ιωάννα, Наташа, 東京　大阪, يوسف, דוד, अनीता, สมชาย, e\u0301",
        "✓ → … « 1\u00a0000\u202f€ » 🚀 ½",
        "",
    ],
)
def test_ordinary_text_stays_as_it_is(ordinary: str) -> None:
    """Whatever its language, with its spaces, tabs and backslashes: JSON can be copied from it."""
    assert escape(ordinary) == ordinary


def test_no_control_format_or_separating_character_is_left() -> None:
    """Of all that Unicode has, by its own categories."""
    every = "".join(map(chr, range(0x110000)))
    kinds = {unicodedata.category(character) for character in escape(every).replace("\t", "")}
    assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
