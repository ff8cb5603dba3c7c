"""Tells what has moved on a page that nobody has touched."""

from __future__ import annotations

from playwright.sync_api import Page

# Begins to note what moves. Chromium tells nothing while the test has installed its own clock.
WATCH_SHIFTS = """
() => {
  globalThis.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (!entry.hadRecentInput) {
        shifts.push(entry.sources.map(({ node }) => node?.outerHTML ?? node?.data).join());
      }
    }
  }).observe({ type: "layout-shift" });
}
"""


def shifts(page: Page) -> list[str]:
    """Return what has moved since ``WATCH_SHIFTS``: the markup of what was in each move."""
    found: list[str] = page.evaluate("() => shifts")
    return found
