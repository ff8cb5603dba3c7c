"""The story of a workspace, from the logs of all functions: every line about it, in the order of time."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from localcloud.command_line.terminal import shown
from localcloud.processes.state_file import log_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TOLD: Final = frozenset({"severity", "time", "message", "request_id", "workspace_id", "stack"})
_AMBIGUOUS: Final = re.compile(
    r"[\s\"]"
)  # what could look like the end of a detail and another one


def trace(state: dict[str, Any], workspace_id: str) -> list[str]:
    """Return a line for each thing that was logged about a workspace: time, seconds since the first, function, what, details.

    Whatever was logged, each is one line in which nothing is hidden, see `localcloud.command_line.terminal`.
    What has no time is left out.

    Args:
        state: of the running cloud.
        workspace_id: the workspace's id, whether it still is there or not.
    """
    found = sorted(_lines(state, workspace_id), key=lambda line: line[0])
    return [_told(at, function, line, found[0][0]) for at, function, line in found]


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
                continue  # not ours: a library's, or one that is just being written
            if (
                isinstance(line, dict)
                and line.get("workspace_id") == workspace_id
                and (at := _time(line))
            ):
                yield at, function, line


def _time(line: Mapping[str, Any]) -> datetime | None:
    """Return when a line was logged; None when it does not say so as ours do."""
    try:
        at = datetime.fromisoformat(line["time"])
    except (KeyError, TypeError, ValueError):
        return None
    return at if at.tzinfo else None


def _told(at: datetime, function: str, line: Mapping[str, Any], began: datetime) -> str:
    details = " ".join(
        f"{name}={_value(value)}"
        for name, value in line.items()
        if name not in _TOLD and value not in (None, "", [])
    )
    since = (at - began).total_seconds()
    message = str(line.get("message", ""))
    return shown(
        f"{at:%H:%M:%S.%f}"[:-3] + f" {since:+9.3f} s  {function:20} {message:22} {details}"
    )


def _value(value: object) -> str:
    """Return a detail's value; a text that has spaces in it is quoted, or it could look like several details."""
    if isinstance(value, str) and _AMBIGUOUS.search(value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
