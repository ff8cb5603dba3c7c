"""The contract, as it is served."""

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def description() -> dict[str, Any]:
    """Return the OpenAPI document."""
    document: dict[str, Any] = json.loads(
        (Path(__file__).parent / "openapi.json").read_text(encoding="utf-8")
    )
    return document
