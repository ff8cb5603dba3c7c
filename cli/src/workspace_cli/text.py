"""Text that comes from somewhere else, made safe to show, and times in words.

A terminal obeys what it is sent: escape sequences move the cursor, set the title or answer in the
person's place, bidirectional controls make a line read as another. So every character that is not
printed as itself is written as its number.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta

LONGEST = 300  # characters of a text from a server that are shown in one line
_MOST_NUMBER = 10**18  # of anything that is counted
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode's categories


def visible(text: str, *, keep: str = "") -> str:
    r"""Return a text in which what is not printed as itself stands as ``\x1b`` or ``\u202e``.

    Args:
        text: any text, also with lone surrogates.
        keep: characters that stay, as a newline in a text of our own.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        one if one in keep or unicodedata.category(one) not in _HIDDEN else _number(one)
        for one in text
    )


def one_line(text: object, longest: int = LONGEST) -> str:
    """Return something that a server sent as one safe, bounded line; it may be of any type."""
    given = text if isinstance(text, str) else str(text)
    cut = given if len(given) <= longest else given[: longest - 1] + "…"
    return visible(cut)


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def duration(seconds: float) -> str:
    """Return a time span as people say it: ``8 s``, ``22 min``, ``5 h``, ``12 days``."""
    seconds = max(0.0, seconds)
    if seconds < 119.5:
        return f"{round(seconds)} s"
    if seconds < 119.5 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / 86400)} days"


def size(many: int) -> str:
    """Return a number of bytes as people say it: ``812 MB``, ``3.4 GB``; a GB has 1024³."""
    amount, unit = float(many), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if amount < 1023.5:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}" if unit != "bytes" and amount < 9.95 else f"{amount:.0f} {unit}"


def count_of(value: object) -> int | None:
    """Return a number of things that a server sent; None if it is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value < _MOST_NUMBER else None


def day_or_time(moment: datetime, now: datetime) -> str:
    """Return a time in the person's own zone, as short as is unmistakable.

    Today's and this week's has its hour (``Mon 12:02``), what is further away its day (``Dec 9``),
    another year's the year. Month and day names are English whatever the locale: so is the rest.
    """
    try:
        local, today = moment.astimezone(), now.astimezone()
    except (OverflowError, OSError, ValueError):  # a year that this machine's clock does not have
        return moment.date().isoformat()
    if local.date() == today.date():
        return f"{local:%H:%M}"
    if abs(moment - now) < timedelta(days=6):
        return f"{_DAYS[local.weekday()]} {local:%H:%M}"
    day = f"{_MONTHS[local.month - 1]} {local.day}"
    return day if local.year == today.year else f"{day}, {local.year}"


def parse_time(value: object) -> datetime | None:
    """Return a server's RFC 3339 time, aware; None if it is not one."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _number(one: str) -> str:
    code = ord(one)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
