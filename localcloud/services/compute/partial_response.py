"""The parameter ``fields`` of every method: which parts of an answer the caller wants.

``items/*/instances(id,disks/source),nextPageToken`` names members, members of members, and all
members (``*``). A selection goes through arrays: it is made in each of their elements. Source:
"Partial response" in the performance tips of Google's APIs. Compute also refuses names that its
answers cannot have; this server does not know them all, so a test compares the Hub's with the
library's messages.
"""

from __future__ import annotations

import re
from typing import Any

from localcloud.services.compute import errors

# What is wanted of a value: its members, each with what is wanted of it. Empty: all of it.
Selection = dict[str, "Selection"]

ALL = "*"
_TOKEN = re.compile(r"[A-Za-z0-9_$-]+|\*|[/(),]")


def read_fields(text: str) -> Selection:
    """Return the selection that a parameter ``fields`` means.

    Raises:
        ComputeError: 400 if it is malformed.
    """
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != text:
        raise _malformed(text)
    selection = _read_list(tokens, text)
    if tokens:
        raise _malformed(text)
    return selection


def select(value: Any, selection: Selection) -> Any:
    """Return the selected part of a JSON value."""
    if not selection:
        return value
    if isinstance(value, list):
        return [select(each, selection) for each in value]
    if not isinstance(value, dict):
        return value
    wanted = {name: selection.get(name, selection.get(ALL)) for name in value}
    return {name: select(value[name], part) for name, part in wanted.items() if part is not None}


def _read_list(tokens: list[str], text: str) -> Selection:
    """Read names with commas between them, and remove them from ``tokens``."""
    selection: Selection = {}
    while True:
        _read_path(tokens, text, selection)
        if not tokens or tokens[0] != ",":
            return selection
        tokens.pop(0)


def _read_path(tokens: list[str], text: str, selection: Selection) -> None:
    while True:
        if not tokens or tokens[0] in {"/", "(", ")", ","}:
            raise _malformed(text)
        selection = selection.setdefault(tokens.pop(0), {})
        following = tokens[0] if tokens else ""
        if following == "/":
            tokens.pop(0)
            continue
        if following == "(":
            tokens.pop(0)
            selection.update(_read_list(tokens, text))
            if not tokens or tokens.pop(0) != ")":
                raise _malformed(text)
        return


def _malformed(text: str) -> errors.ComputeError:
    return errors.ComputeError(400, "invalidParameter", f"Invalid field selection {text}")
