"""Checks that the functions of a local cloud log one JSON object per line."""

from __future__ import annotations

import json

from localcloud.running_cloud import RunningCloud


def not_json(cloud: RunningCloud) -> list[str]:
    """Return every line of a function's log that is not one JSON object, or wraps another one."""
    return [
        f"{name}: {line}"
        for name in cloud.state["functions"]
        for line in cloud.log(name).split("\n")
        if not _is_object(line)
    ]


def _is_object(line: str) -> bool:
    try:
        return not line or _is_plain(json.loads(line))
    except ValueError:
        return False


def _is_plain(fields: object) -> bool:
    return isinstance(fields, dict) and not str(fields.get("message", "")).startswith("{")
