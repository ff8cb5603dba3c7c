"""Makes text of machines, serial consoles and Compute Engine fit for the Hub's own messages.

Whoever has a workspace is root in its machine, so the machine's text may try to mislead a reader, a
terminal or a log: a line that seems to be the Hub's, text in reversed order, invisible letters. The
functions here return text of bounded length in which everything is visible.
"""

import re
import unicodedata

MOST_CHARACTERS = 300
_SHORTEST_CUT = 200  # a text is cut between two words if at least this many characters are left

# Escape sequences of terminals, which are removed whole (source: ECMA-48).
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\x9d\n]{0,200}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[@-_]?"
)
# Invisible characters that Unicode counts as letters, marks or symbols: joiners, fillers, variation
# selectors, an empty Braille cell (source: Unicode's property Default_Ignorable_Code_Point; its
# other characters are in the categories Cf and Cn).
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164"
    "\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_QUOTES = re.compile('["\u00ab\u00bb\u201c-\u201f\u2033\u2036\u275d\u275e\u301d-\u301f\uff02]')


def visible(text: str, keep: str = "") -> str:
    """Return a text without escape sequences and invisible characters.

    Control characters, line separators and paragraph separators become spaces, except for those in
    ``keep``. Bidirectional marks, zero-width characters, tags, surrogates, private and unassigned
    characters are removed.
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
    """Return a text of at most ``most`` characters. A longer one is cut and ends with ``…``.

    It is cut between two words if possible.
    """
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    if " " in cut[_SHORTEST_CUT:]:
        cut = cut[: cut.rfind(" ", _SHORTEST_CUT)].rstrip(" ,;:")
    return cut + "…"


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text as one visible line of at most ``most`` characters, with single spaces."""
    return shortened(" ".join(visible(text).split()), most)


def quoted(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text as one line in quotation marks.

    It has no others, so nothing in it seems to be the Hub's own words.
    """
    said = one_line(_QUOTES.sub("'", text), most)
    return f'"{said}"'


def quoted_lines(text: str, most: int) -> str:
    """Return the end of a text, each line after ``> ``, without empty lines.

    It has at most ``most`` characters altogether.
    """
    lines = [
        " ".join(line.split()) for line in visible(text.replace("\r", "\n"), keep="\n").split("\n")
    ]
    whole = "\n".join(f"> {line}" for line in lines if line)
    return whole if len(whole) <= most else "> …" + whole[3 - most :].removeprefix("> ")
