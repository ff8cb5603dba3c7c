"""Text that somebody else may have written, made safe for a terminal."""

from __future__ import annotations

import re
import unicodedata

# The code points of Unicode's Default_Ignorable_Code_Point that `str.isprintable` calls visible:
# fillers, joiners and variation selectors, which show nothing
# (https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt).
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


def escape(text: str) -> str:
    r"""Return a text for one line of a terminal: every character is visible, and none acts.

    Control characters (also line feeds), ANSI's escapes, line and paragraph separators, direction
    overrides, characters without width, private and unassigned ones and surrogates are written as
    Python writes them: ``\u202e``. Letters, marks, spaces and signs of every language stay, and so
    does the tab. A backslash stays too, so that JSON can be copied.
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
