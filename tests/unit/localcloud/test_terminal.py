"""How text is escaped before a terminal shows it."""

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
def test_control_and_invisible_characters_are_escaped(hostile: str, seen: str) -> None:
    """So are escapes, line ends, text directions and non-characters."""
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
def test_ordinary_text_is_not_escaped(ordinary: str) -> None:
    """It may be in any language and have spaces, tabs and backslashes, so JSON can be copied."""
    assert escape(ordinary) == ordinary


def test_no_control_format_or_separator_character_remains() -> None:
    """The test escapes every character of Unicode."""
    every = "".join(map(chr, range(0x110000)))
    kinds = {unicodedata.category(character) for character in escape(every).replace("\t", "")}
    assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
