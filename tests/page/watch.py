"""Sees everything that goes wrong in a browser window without being asked for.

That is: an error or a warning in the console, an exception that nobody caught, a violation of the
page's policy, a request to another origin, a request that got no answer, an asset that is not
there, and a dialog of the browser, which the page never opens.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request, Response

# A policy's violation is in the console too, but only if it is enforced and not by an extension.
_REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => console.error(
  `policy: ${event.violatedDirective} forbids ${event.blockedURI} ${event.sample}`))
"""
_OWN = ("data", "blob", "about")


class Watch:
    """Watches all pages of one person's browser.

    Args:
        context: the browser's profile.
        origin: the only origin that the page may ask.

    Attributes:
        context: the same.
        problems: what has gone wrong so far, in words, without what was expected.
        requests: method and path with its query of every request so far, oldest first.
    """

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.context = context
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._origin = origin
        self._expected: list[re.Pattern[str]] = []
        context.add_init_script(_REPORT_VIOLATIONS)
        context.on("page", self._watch)

    def expect(self, pattern: str) -> None:
        """Let what has this pattern in its words happen, from now on."""
        self._expected.append(re.compile(pattern))

    def expect_answer(self, status: int) -> None:
        """Let the browser say in the console that an answer had this status, from now on."""
        self.expect(rf"Failed to load resource: the server responded with a status of {status} ")

    def expect_no_network(self) -> None:
        """Let requests get no answer, from now on."""
        self.expect(r"net::ERR_(INTERNET_DISCONNECTED|FAILED|CONNECTION_\w+|EMPTY_RESPONSE)")

    def _watch(self, page: Page) -> None:
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._note(f"uncaught: {error}"))
        page.on("request", self._see)
        page.on("requestfailed", self._miss)
        page.on("response", self._read)
        page.on("dialog", self._dismiss)
        page.on("crash", lambda _: self._note("the page crashed"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            kind = "" if message.text.startswith("policy: ") else "console: "
            self._note(f"{kind}{message.text} ({message.location.get('url', '')})")

    def _see(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme in _OWN:
            return
        if f"{url.scheme}://{url.netloc}" != self._origin:
            self._note(f"foreign: {request.method} {request.url}")
        query = f"?{url.query}" if url.query else ""
        self.requests.append(f"{request.method} {url.path}{query}")

    def _miss(self, request: Request) -> None:
        # The page itself, or a navigation, has ended it.
        if request.failure != "net::ERR_ABORTED":
            self._note(f"no answer: {request.method} {request.url}: {request.failure}")

    def _read(self, response: Response) -> None:
        if response.status >= 400 and urlsplit(response.url).path.startswith("/assets/"):
            self._note(f"asset: {response.url}: {response.status}")

    def _dismiss(self, dialog: Dialog) -> None:
        self._note(f"dialog: {dialog.type}: {dialog.message}")
        dialog.dismiss()

    def _note(self, problem: str) -> None:
        if not any(pattern.search(problem) for pattern in self._expected):
            self.problems.append(problem)
