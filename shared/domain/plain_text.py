"""Text from outside, fit to be shown in a message of ours: what machines, their serial consoles and Compute Engine say.

Whoever has a workspace is root in its machine, so its words may be made to mislead a reader, a
terminal or a log: a line that seems to be the Hub's, text whose order is turned round, letters that
nobody sees. What is left here is bounded, and can be seen as it is.
"""

import re
import unicodedata

MOST_CHARACTERS = 300
_SHORTEST_CUT = 200  # a text is cut between two words if that leaves as much

# Escape sequences of terminals, of which nothing must be left (source: ECMA-48).
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\x9d\n]{0,200}(?:\x07|\x1b\\|\x9c)|\x1b[@-_]?"
)
# What is not seen although Unicode counts it as a letter, a mark or a symbol: joiners, fillers,
# variation selectors, an empty Braille cell (source: Unicode's property
# Default_Ignorable_Code_Point; the rest of it is in the categories Cf and Cn).
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_QUOTES = re.compile('["\u00ab\u00bb\u201c-\u201f\u2033\u2036\u275d\u275e\u301d-\u301f\uff02]')


def visible(text: str, keep: str = "") -> str:
    """Return a text without what cannot be seen: escape sequences, and characters that control, format or mean nothing.

    The other control characters, line and paragraph separators become spaces, but for those in
    ``keep``; bidirectional marks, zero-width characters, tags, surrogates, private and unassigned
    characters go.
    """
    shown = []
    for each in _UNSEEN.sub("", _ESCAPES.sub("", text)):
        category = unicodedata.category(each)
        if each in keep:
            shown.append(each)
        elif category in {"Cc", "Zl", "Zp"}:
            shown.append(" ")
        elif category[0] != "C":
            shown.append(each)
    return "".join(shown)


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text of at most so many characters. One that was longer is cut, between words if it can be, and ends with ``…``."""
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    return (
        cut[: cut.rfind(" ", _SHORTEST_CUT)].rstrip(" ,;:") + "…"
        if " " in cut[_SHORTEST_CUT:]
        else cut + "…"
    )


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text as one line that can be seen, of at most so many characters, with single spaces."""
    return shortened(" ".join(visible(text).split()), most)


def quoted(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text as one line in quotation marks that are its only ones: nothing in it seems to be said by us."""
    said = one_line(_QUOTES.sub("'", text), most)
    return f'"{said}"'


def quoted_lines(text: str, most: int) -> str:
    """Return the end of a text of many lines, each after ``> ``, of at most so many characters altogether; without empty lines."""
    lines = [
        " ".join(line.split()) for line in visible(text.replace("\r", "\n"), keep="\n").split("\n")
    ]
    whole = "\n".join(f"> {line}" for line in lines if line)
    return whole if len(whole) <= most else "> …" + whole[3 - most :].removeprefix("> ")
