"""The OpenAPI document that the Hub serves."""

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def description() -> dict[str, Any]:
    """Return ``openapi.json`` as an object."""
    document: dict[str, Any] = json.loads(
        (Path(__file__).parent / "openapi.json").read_text(encoding="utf-8")
    )
    return document
