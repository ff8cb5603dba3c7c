"""The story of a workspace, from the logs of all functions: every line about it, in the order of time."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from localcloud.state import log_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TOLD: Final = frozenset({"severity", "time", "message", "request_id", "workspace_id", "stack"})


def trace(state: dict[str, Any], workspace_id: str) -> list[str]:
    """Return a line for each thing that was logged about a workspace: time, seconds since the first, function, what, details.

    Args:
        state: of the running cloud.
        workspace_id: the workspace's id, whether it still is there or not.
    """
    found = sorted(_lines(state, workspace_id), key=lambda line: line[1]["time"])
    if not found:
        return []
    began = datetime.fromisoformat(found[0][1]["time"])
    return [_told(function, line, began) for function, line in found]


def _lines(state: dict[str, Any], workspace_id: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for function, path in log_files(state).items():
        if function not in state["functions"] or not path.exists():
            continue
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if workspace_id not in text:
                continue
            try:
                line = json.loads(text)
            except ValueError:
                continue  # not ours: a library's, or one that is just being written
            if isinstance(line, dict) and line.get("workspace_id") == workspace_id and "time" in line:
                yield function, line


def _told(function: str, line: Mapping[str, Any], began: datetime) -> str:
    at = datetime.fromisoformat(line["time"])
    details = " ".join(
        f"{name}={value}" for name, value in line.items() if name not in _TOLD and value not in (None, "", [])
    )
    since = (at - began).total_seconds()
    return f"{at:%H:%M:%S.%f}"[:-3] + f" {since:+9.3f} s  {function:20} {line['message']:22} {details}"
