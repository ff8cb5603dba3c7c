"""A person at the page: what they can do, by what they see and read, never by the markup."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from playwright.sync_api import Locator, Page, expect

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud
from tests.page.watch import Watch

# An operation of the fast local cloud takes a second; the page sees it within two more.
SECONDS = 30
expect.set_options(timeout=SECONDS * 1000)


@dataclass(frozen=True)
class Person:
    """Somebody with a browser.

    Attributes:
        cloud: where the page is.
        email: who they are.
        api: their own client of the API, for what they did before, or do elsewhere meanwhile.
        watch: sees what goes wrong in their browser.
    """

    cloud: RunningCloud
    email: str
    api: ApiClient
    watch: Watch
    _tabs: list[Page] = field(default_factory=list)

    @cached_property
    def page(self) -> Page:
        """Their first tab."""
        return self.new_tab()

    def new_tab(self) -> Page:
        """Open a tab, which shows nothing yet."""
        page = self.watch.context.new_page()
        page.set_default_timeout(SECONDS * 1000)
        self._tabs.append(page)
        return page

    def open(self, route: str = "#/", tab: Page | None = None) -> Page:
        """Open the page at a route, signed in, in a tab; return the tab."""
        page = tab or self.page
        self.watch.context.set_extra_http_headers(
            {"Authorization": f"Bearer {self.cloud.token(self.email)}"}
        )
        page.goto(f"/{route}")
        return page

    def button(self, name: str, within: Locator | Page | None = None) -> Locator:
        """Return the button of exactly this name."""
        return (within or self.page).get_by_role("button", name=name, exact=True)

    def field(self, label: str, within: Locator | Page | None = None) -> Locator:
        """Return the field whose label begins so."""
        return (within or self.page).get_by_label(
            re.compile(rf"^{re.escape(label)}", re.IGNORECASE)
        )

    @property
    def dialog(self) -> Locator:
        """The open dialog."""
        return self.page.get_by_role("dialog")
