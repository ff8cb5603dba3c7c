"""The story of a workspace: every line about it from the logs of all functions, by time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from localcloud.command_line.terminal import escape
from localcloud.processes.state_file import log_files

_NO_DETAILS = frozenset({"severity", "time", "message", "request_id", "workspace_id", "stack"})
# What could look like the end of a detail.
_AMBIGUOUS = re.compile(r"[\s\"]")


def trace(state: dict[str, Any], workspace_id: str) -> list[str]:
    """Return what was logged about a workspace: time, seconds since the first, function, details.

    Each entry is one line without hidden characters, see ``terminal.py``. Entries without a time
    are left out.

    Args:
        state: the state of the running cloud.
        workspace_id: the workspace's id; it need not exist any more.
    """
    found = sorted(_lines(state, workspace_id), key=lambda line: line[0])
    return [_line(at, function, line, found[0][0]) for at, function, line in found]


def _lines(
    state: dict[str, Any], workspace_id: str
) -> Iterator[tuple[datetime, str, Mapping[str, Any]]]:
    for function, path in log_files(state).items():
        if function not in state["functions"] or not path.exists():
            continue
        for text in path.read_bytes().decode("utf-8", errors="replace").split("\n"):
            if workspace_id not in text:
                continue
            try:
                line = json.loads(text)
            except ValueError:
                continue  # the line of a library, or one that is being written
            if (
                isinstance(line, dict)
                and line.get("workspace_id") == workspace_id
                and (at := _time(line))
            ):
                yield at, function, line


def _time(line: Mapping[str, Any]) -> datetime | None:
    """Return when a line was logged; None if it has no time, or one of another form."""
    try:
        at = datetime.fromisoformat(line["time"])
    except (KeyError, TypeError, ValueError):
        return None
    return at if at.tzinfo else None


def _line(at: datetime, function: str, line: Mapping[str, Any], began: datetime) -> str:
    details = " ".join(
        f"{name}={_value(value)}"
        for name, value in line.items()
        if name not in _NO_DETAILS and value not in (None, "", [])
    )
    since = (at - began).total_seconds()
    message = str(line.get("message", ""))
    return escape(
        f"{at:%H:%M:%S.%f}"[:-3] + f" {since:+9.3f} s  {function:20} {message:22} {details}"
    )


def _value(value: object) -> str:
    """Return the value of a detail; a text with spaces is quoted, so that it is one detail."""
    if isinstance(value, str) and _AMBIGUOUS.search(value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
