"""How people prove at the page who they are, by each way that a Hub may have."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Error, Page, Route, expect

from localcloud.services.page_sign_in import page_secret
from localcloud.settings import ADMIN_EMAIL
from tests.page.person import Person

GOOGLES_LIBRARY = "https://accounts.google.com/gsi/client"
# What Google's library does for the sign-in document, with a button that signs in at once.
LIBRARY = """window.google = {accounts: {id: {
  initialize(options) { this.options = options; },
  renderButton(place) {
    const button = document.createElement("button");
    button.textContent = "Continue";
    button.onclick = () => this.options.callback({credential: TOKEN});
    place.append(button);
  },
  prompt() {},
}}};"""
# Everything that outlives the tab's memory.
KEPT = """
async () => [
  Object.entries(localStorage), Object.entries(sessionStorage), document.cookie,
  (await indexedDB.databases()).map(({ name }) => name), await caches.keys(),
].flat().join()
"""


def keeps_nothing(page: Page) -> bool:
    """Say whether a page has put nothing, such as a token, where it stays."""
    return page.evaluate(KEPT) == "" and page.context.cookies() == []


def answer_sign_in(person: Person, *methods: dict[str, Any]) -> None:
    """Have the Hub answer that people sign in by these methods."""

    def answer(route: Route) -> None:
        described = route.fetch().json()
        route.fulfill(json={**described, "methods": list(methods)})

    person.watch.context.route(f"{person.cloud.address}/sign-in", answer)


def answer_401(person: Person, when: Callable[[], bool], token: Callable[[], str]) -> None:
    """Have the Hub's API refuse who has no session, and know who has one by a cookie."""

    def answer(route: Route) -> None:
        if when():
            route.fulfill(status=401, json={"detail": "Who you are is not proven.", "status": 401})
        else:
            headers = {**route.request.headers, "authorization": f"Bearer {token()}"}
            route.continue_(headers=headers)

    for path in ("/workspaces**", "/me"):
        person.watch.context.route(f"{person.cloud.address}{path}", answer)


def sign_in(person: Person, button: str = "Sign in") -> Page:
    """Press a button of the page that opens a window, and return the window."""
    with person.page.expect_popup() as opened:
        person.button(button).click()
    return opened.value


def press_continue(window: Page) -> None:
    """Press Google's button; the window may be gone before the browser says that it is pressed."""
    with window.expect_event("close"), suppress(Error):
        window.get_by_role("button", name="Continue").click()


def open_page(person: Person, fragment: str = "") -> None:
    """Open the page without any token of the browser's."""
    person.page.goto(f"/{fragment}")


def test_the_printed_address_lets_one_work_as_anybody(alice: Person) -> None:
    """The secret leaves the address at once, and the page shows whose turn it is."""
    made = alice.api.create("hers")
    secret = page_secret(alice.cloud.state["secret"])
    open_page(alice, f"#local={secret}&as={alice.email}")
    expect(alice.page.get_by_text(made["name"], exact=True).first).to_be_visible()
    assert secret not in alice.page.url
    assert keeps_nothing(alice.page)
    alice.button(f"You: {alice.email}").click()
    alice.button(ADMIN_EMAIL).click()
    expect(alice.page.get_by_text(made["name"], exact=True)).to_have_count(0)


def test_a_token_of_google_comes_from_a_window_that_closes(alice: Person) -> None:
    """Only that window loads Google's library; after an hour one signs in again and goes on."""
    made, refused = alice.api.create("by-google"), [False]
    alice.watch.expect(rf"^foreign: GET {GOOGLES_LIBRARY}$")
    alice.watch.expect_answer(401)
    answer_sign_in(alice, {"kind": "oauth_web", "client_id": "1-web.apps.googleusercontent.com"})
    token = alice.cloud.token(alice.email)
    library = LIBRARY.replace("TOKEN", json.dumps(token))
    alice.watch.context.route(
        GOOGLES_LIBRARY, lambda route: route.fulfill(body=library, content_type="text/javascript")
    )
    open_page(alice)
    window = sign_in(alice)
    press_continue(window)
    name = alice.page.get_by_text(made["name"], exact=True).first
    expect(name).to_be_visible()
    assert keeps_nothing(alice.page)

    answer_401(alice, lambda: refused[0], lambda: token)
    refused[0] = True
    expect(alice.button("Sign in again")).to_be_visible()
    refused[0] = False
    window = sign_in(alice, "Sign in again")
    press_continue(window)
    expect(alice.button("Sign in again")).to_have_count(0)
    expect(name).to_be_visible()


def test_an_ended_session_of_the_proxy_begins_again_in_a_window(alice: Person) -> None:
    """Requests say that a script sends them, and the window is closed once there is a session."""
    made, session = alice.api.create("by-proxy"), Session()
    alice.watch.expect_answer(401)
    answer_sign_in(alice, {"kind": "iap", "audience": None})
    token = alice.cloud.token(alice.email)
    answer_401(alice, lambda: not session.there, lambda: token)
    context, address = alice.watch.context, alice.cloud.address
    context.route(f"{address}/", session.answer)
    context.route(f"{address}/?gcp-iap-mode=*", session.begin)
    open_page(alice)
    name = alice.page.get_by_text(made["name"], exact=True).first
    with alice.page.expect_request("**/workspaces**") as asked:
        expect(name).to_be_visible()
    assert asked.value.headers["x-requested-with"] == "XMLHttpRequest"

    session.there = False
    expect(alice.button("Sign in again")).to_be_visible()
    window = sign_in(alice, "Sign in again")
    if not window.is_closed():
        window.wait_for_event("close")
    expect(alice.button("Sign in again")).to_have_count(0)
    expect(name).to_be_visible()


def test_a_double_click_opens_one_window_of_the_proxy(alice: Person) -> None:
    """And a press while it is open none, nor after it was closed a message for each of them."""
    session = proxied(alice, begins=False)
    alice.button("Sign in again").dblclick()
    alice.button("Sign in again").click()
    await_looks(alice, 2)
    window, *others = set(alice.watch.context.pages) - {alice.page}
    assert others == []
    window.close()
    expect(alice.page.get_by_text("The sign-in was not finished.")).to_have_count(1)
    session.begins = True
    sign_in(alice, "Sign in again")
    expect(alice.button("Sign in again")).to_have_count(0)


def test_a_window_that_is_cut_off_from_the_page_signs_in_all_the_same(alice: Person) -> None:
    """By a policy of what it shows: to the page it looks closed, but the person is still there."""
    session = proxied(alice, begins=False, policy="same-origin")
    alice.page.evaluate("document.hasFocus = () => false")
    window = sign_in(alice, "Sign in again")
    expect(window.get_by_text("You are signed in.")).to_be_visible()
    await_looks(alice, 2)
    session.there = True
    expect(alice.button("Sign in again")).to_have_count(0)


def proxied(person: Person, *, begins: bool, policy: str = "unsafe-none") -> Session:
    """Open the page behind a proxy, and have its session end."""
    session, token = Session(begins=begins, policy=policy), person.cloud.token(person.email)
    person.watch.expect_answer(401)
    answer_sign_in(person, {"kind": "iap", "audience": None})
    answer_401(person, lambda: not session.there, lambda: token)
    open_page(person)
    expect(person.page.get_by_role("heading", name="No workspace yet")).to_be_visible()
    session.there = False
    context, address = person.watch.context, person.cloud.address
    context.route(f"{address}/", session.answer)
    context.route(f"{address}/?gcp-iap-mode=*", session.begin)
    person.page.evaluate('document.dispatchEvent(new Event("visibilitychange"))')
    return session


def await_looks(person: Person, times: int) -> None:
    """Wait until the page has looked so often whether there is a session."""
    before = person.watch.requests.count("GET /")
    while person.watch.requests.count("GET /") < before + times:
        person.page.wait_for_timeout(50)


@dataclass
class Session:
    """The session at the proxy; whether its window begins one, and the policy of that."""

    there: bool = True
    begins: bool = True
    policy: str = "unsafe-none"

    def answer(self, route: Route) -> None:
        """Let the page's files through, or refuse a script."""
        if self.there:
            route.continue_()
        else:
            route.fulfill(status=401, body="")

    def begin(self, route: Route) -> None:
        """Begin a session, in the proxy's own window."""
        self.there = self.there or self.begins
        headers = {"Cross-Origin-Opener-Policy": self.policy}
        route.fulfill(body="You are signed in.", content_type="text/html", headers=headers)


def test_a_hub_without_sign_in_for_browsers_names_the_command(alice: Person) -> None:
    """The page says what is missing, and asks nothing that would be refused."""
    answer_sign_in(alice, {"kind": "gcloud", "audience": None})
    open_page(alice)
    expect(alice.page.get_by_text(f"workspace login {alice.cloud.address}")).to_be_visible()
    assert [each for each in alice.watch.requests if each.startswith("GET /workspaces")] == []


def test_a_page_whose_asset_is_gone_loads_itself_again(alice: Person) -> None:
    """A deployment came in between: one asset is 404 at the first load, and there at the next."""
    alice.watch.expect_answer(404)
    alice.watch.expect("^asset: ")

    def loads() -> int:
        return alice.watch.requests.count("GET /")

    def answer(route: Route) -> None:
        if loads() == 1:
            route.fulfill(status=404, json={})
        else:
            route.continue_()

    alice.watch.context.route("**/assets/words.*.js", answer)
    open_page(alice)
    expect(alice.page.get_by_role("heading", name="Your workspaces")).to_be_visible()
    assert loads() == 2
