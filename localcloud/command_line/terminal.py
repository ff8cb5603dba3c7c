"""What a terminal is given to show, when somebody else may have written it."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Unicode's Default_Ignorable_Code_Point as far as `str.isprintable` takes them for visible:
# fillers, joiners and selectors of variants, which show nothing
# (https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt).
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def shown(text: str) -> str:
    r"""Return a text in which every character is seen and none does anything: for one line of a terminal.

    Control characters (line feeds too), ANSI's escapes, line and paragraph separators, overrides of
    the direction, characters of no width, private, unassigned and half ones are written as Python
    does: `\u202e`. Letters, marks, spaces and signs of every language stay, and so does the tab. A
    backslash stays as well, so that JSON can be copied.
    """
    return "".join(
        character if _is_harmless(character) else _escaped(character) for character in text
    )


def _is_harmless(character: str) -> bool:
    if character.isprintable():
        return not _INVISIBLE.match(character)
    return character == "\t" or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
