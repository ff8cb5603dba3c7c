"""What the functions of a local cloud have logged, as whoever reads logs must be able to read it."""

from __future__ import annotations

import json

from localcloud.running_cloud import RunningCloud


def not_json(cloud: RunningCloud) -> list[str]:
    """Return every line that a function has written and that is not one JSON object, or wraps another."""
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
