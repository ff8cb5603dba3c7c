"""Looks for what people with a screen reader or without a mouse would stumble over.

axe is read from its package and evaluated through the debugger, so that the page's policy does not
have to allow it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import axe_playwright_python
from playwright.sync_api import Page

_RUN = "() => axe.run({resultTypes: ['violations']})"


def violations(page: Page) -> list[str]:
    """Return each violation of axe's rules, all of them, on a page as it is now."""
    if not page.evaluate("() => 'axe' in globalThis"):
        page.evaluate(_source())
    found: list[dict[str, Any]] = page.evaluate(_RUN)["violations"]
    return [
        f"{each['id']}: {each['help']}: {node['html']}: {node['failureSummary']}"
        for each in found
        for node in each["nodes"]
    ]


@cache
def _source() -> str:
    return Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
