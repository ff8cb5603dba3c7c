"""A person at the page: what they can do, by what they see and read, never by the markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from playwright.sync_api import Locator, Page, Route, expect

from localcloud.api_client import ApiClient, Workspace
from localcloud.running_cloud import RunningCloud
from localcloud.services.page_sign_in import page_secret
from tests.page.watch import Watch

# An operation of the fast local cloud takes a second; the page sees it within two more.
SECONDS = 60
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
        """Open the page at a route, in a tab, and return the tab.

        They sign in by the address that the local cloud prints, unless the tab has the page
        already.
        """
        page = tab or self.page
        if page.url == "about:blank":
            page.goto(f"/#local={page_secret(self.cloud.state['secret'])}&as={self.email}")
            you = page.get_by_role("button", name=f"You: {self.email}")
            expect(you.or_(page.get_by_role("alert")).first).to_be_visible()
        page.goto(f"/{route}")
        return page

    def id_of(self, name: str) -> str:
        """Return the id of their workspace of this name."""
        [workspace] = self.api.workspaces(name=name)
        return str(workspace["id"])

    def has_workspace(self, name: str, **fields: Any) -> Workspace:
        """Have a workspace made, by the API, before the page is looked at; it is READY."""
        made = self.api.create(name, **fields)
        return self.api.wait_until_settled(made["id"], "READY")

    def has_suspended(self, name: str, **fields: Any) -> Workspace:
        """Have a workspace made and stopped, by the API, before the page is looked at."""
        made = self.has_workspace(name, **fields)
        self.api.stop(made["id"])
        return self.api.wait_until_settled(made["id"], "SUSPENDED")

    def row(self, name: str, of: str = "") -> Locator:
        """Return the row of a workspace in the list; ``of`` is who has it, if that is shown."""
        heading = self.page.get_by_role("heading", name=name, exact=True)
        return self.page.get_by_role("listitem").filter(has=heading, has_text=of)

    def panel(self, name: str) -> Locator:
        """Return what is shown of one workspace, beside the list or in its place."""
        return self.page.get_by_role("article", name=name, exact=True)

    @property
    def form(self) -> Locator:
        """The form of a new workspace."""
        return self.page.get_by_role("form", name="New workspace")

    def choose_machine(self, within: Locator, name: str) -> None:
        """Choose a machine type in a form."""
        within.get_by_role("radio", name=re.compile(rf"^{name}\b")).check()

    def open_workspace(self, name: str, tab: Page | None = None) -> Page:
        """Open the page at their workspace of this name, and wait until it is shown."""
        page = self.open(f"#/workspaces/{self.id_of(name)}", tab)
        expect(page.get_by_role("article", name=name, exact=True)).to_be_visible()
        return page

    def settled(self, name: str, until: Callable[[Workspace], bool]) -> Workspace:
        """Wait, by the API, until their workspace of this name rests and is as wanted."""
        return self.api.wait(self.id_of(name), lambda now: now["operation"] is None and until(now))

    def sees_everybody(self) -> None:
        """Have the list show everybody's workspaces; only an administrator can."""
        self.button("Everybody\N{RIGHT SINGLE QUOTATION MARK}s").click()

    def asks_too_often(self) -> None:
        """Ask, by the API, for so many changes in a minute that the Hub refuses more."""
        answer = self.api.request("POST", "/workspaces", json={"name": "often"})
        while answer.ok:
            path = f"/workspaces/{answer.json()['id']}"
            answer = self.api.request("DELETE", path)
            if answer.ok:
                answer = self.api.request("POST", "/workspaces", json={"name": "often"})
        assert answer.status_code == 429, answer.text

    def connects(self, name: str, device: str) -> None:
        """Say, by the API, that they connect from a device."""
        path = f"/workspaces/{self.id_of(name)}/connect"
        self.api.request("POST", path, json={"device_id": device}).raise_for_status()

    def button(self, name: str, within: Locator | Page | None = None) -> Locator:
        """Return the button of exactly this name."""
        return (within or self.page).get_by_role("button", name=name, exact=True)

    @property
    def dialog(self) -> Locator:
        """The open dialog."""
        return self.page.get_by_role("dialog")


def answer_html(route: Route) -> None:
    """Answer a request as something between the page and the Hub does, such as a café's network."""
    route.fulfill(body="<!doctype html><title>Welcome</title>", content_type="text/html")
