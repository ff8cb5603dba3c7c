"""The tests of the page see what they look for, at a page that does everything wrong."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from playwright.sync_api import Browser, expect

from tests.page.axe import violations
from tests.page.shifts import WATCH_SHIFTS, shifts
from tests.page.watch import Watch

POLICY = (
    "default-src 'none'; script-src 'self'; connect-src http:; img-src 'self' data:;"
    " require-trusted-types-for 'script'"
)
GOOD = (
    '<!doctype html><html lang="en"><title>Good</title><link rel="icon" href="data:,">'
    '<main><h1>Good</h1><p>Nothing is wrong.</p><img alt="a dot" src="data:image/gif;base64,'
    'R0lGODlhAQABAAAAACwAAAAAAQABAAA="></main></html>'
)

# In a frame of its own, so that there was a layout before.
PUSH_DOWN = """
() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
  const taller = document.createElement("p");
  taller.textContent = "news ".repeat(2000);
  document.querySelector("p").before(taller);
  done();
})))
"""


class _Server(http.server.ThreadingHTTPServer):
    """Answers every path with what ``pages`` has for it, and else 404."""

    pages: ClassVar[dict[str, str]] = {"/": GOOD}

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        self.send_response(200 if page is not None else 404)
        self.send_header("Content-Type", "text/javascript" if ".js" in self.path else "text/html")
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write((page or "").encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(pages: dict[str, str]) -> Iterator[str]:
    """Serve pages on this machine while the context lasts; give their origin."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.pages = pages  # type: ignore[misc]  # each server has its own
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.origin
        server.shutdown()
        thread.join()


def seen(browser: Browser, pages: dict[str, str], expected: Callable[[Watch], None]) -> list[str]:
    """Return what is noticed at the page ``/`` of these until its last request is over."""
    with served(pages) as origin:
        context = browser.new_context()
        watch = Watch(context, origin)
        expected(watch)
        context.new_page().goto(f"{origin}/", wait_until="networkidle")
        context.close()
        return watch.problems


# What a script does, and how the problem that it is begins.
BAD = {
    "console.error('oops')": "console: oops",
    "console.warn('hm')": "console: hm",
    "throw Error('gone')": "uncaught: gone",
    "Promise.reject(Error('lost'))": "uncaught: lost",
    "document.body.setAttribute('style', 'color: red')": "policy: style-src-attr",
    "document.body.innerHTML = '<b>'": "policy: require-trusted-types-for",
    "fetch('http://localhost:9/')": "foreign: GET http://localhost:9/",
    "new Image().src = '/assets/gone.png'": "asset: ",
    "alert(1)": "dialog: alert: 1",
}


def test_what_goes_wrong_in_the_browser_is_noticed(browser: Browser) -> None:
    """Each of these is a problem, whatever else it leads to."""
    scripts = {f"/{number}.js": script for number, script in enumerate(BAD)}
    tags = "".join(f'<script src="{path}"></script>' for path in scripts)
    problems = seen(
        browser, {"/": GOOD.replace("</main>", f"</main>{tags}"), **scripts}, lambda _: None
    )
    missed = [
        script
        for script, found in BAD.items()
        if not any(problem.startswith(found) for problem in problems)
    ]
    assert missed == [], problems


def test_only_what_was_expected_may_go_wrong(browser: Browser) -> None:
    """A good page has no problem; a refusal that the test expects is none, and another is."""
    assert seen(browser, {"/": GOOD}, lambda _: None) == []
    asking = GOOD.replace("</main>", '</main><script src="/it.js"></script>')
    pages = {"/": asking, "/it.js": "fetch('/gone')"}
    assert seen(browser, pages, lambda watch: watch.expect_answer(404)) == []
    [problem] = seen(browser, pages, lambda watch: watch.expect_answer(409))
    assert "status of 404" in problem


def test_axe_is_not_kept_off_by_the_policy_and_finds_what_is_wrong(browser: Browser) -> None:
    """It finds nothing on a good page, and a picture without words on a bad one."""
    with served({"/": GOOD, "/bad": GOOD.replace('alt="a dot" ', "")}) as origin:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{origin}/")
        assert violations(page) == []
        page.goto(f"{origin}/bad")
        [found] = violations(page)
        assert found.startswith("image-alt:")
        context.close()


def test_what_moves_by_itself_is_noticed(browser: Browser) -> None:
    """Nothing on a good page; then a paragraph, when a taller one comes before it."""
    with served({"/": GOOD}) as origin:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{origin}/")
        expect(page.get_by_text("Nothing is wrong.")).to_be_visible()
        page.evaluate(WATCH_SHIFTS)
        assert shifts(page) == []
        page.evaluate(PUSH_DOWN)
        page.wait_for_function("() => shifts.length > 0")
        assert "Nothing is wrong." in shifts(page)[0]
        context.close()
