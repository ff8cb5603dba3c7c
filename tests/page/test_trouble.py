"""What people see when something is in the way: Hub, network, sign-in, another tab."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlsplit

from playwright.sync_api import Route, expect

from localcloud.running_cloud import RunningCloud
from tests.page.conftest import BUSY, OpenPage
from tests.page.person import Person, answer_html

HIDE = """
(hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  Object.defineProperty(document, "visibilityState",
    { configurable: true, get: () => hidden ? "hidden" : "visible" });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""
MINUTE_MS = 60_000


@contextmanager
def away(person: Person) -> Iterator[None]:
    """Have no network while the context lasts."""
    person.watch.expect_no_network()
    person.watch.context.set_offline(True)
    yield
    person.watch.context.set_offline(False)


def asked(person: Person) -> int:
    """Return how often the list has been read so far."""
    return person.watch.requests.count("GET /workspaces")


def test_the_hub_goes_away_and_comes_back(alice: Person) -> None:
    """The list stays, with since when it is old; when the network is back, the page goes on."""
    alice.has_workspace("api")
    page = alice.open()
    expect(alice.row("api")).to_contain_text("ready")
    alert = page.get_by_role("alert").filter(has_text="The Hub does not answer.")
    with away(alice):
        alice.button("Connect api").click()
        expect(alert.first).to_be_visible()
        expect(alice.row("api")).to_contain_text("ready")
    expect(alert).to_have_count(0)


def test_a_page_that_is_opened_while_the_hub_fails_says_so_and_tries_again(alice: Person) -> None:
    """Instead of the list stands what the Hub said; Try now reads it once it works."""
    alice.has_workspace("api")
    alice.watch.expect_answer(503)
    alice.page.route("**/workspaces", unavailable)
    page = alice.open()
    expect(page.get_by_text("Your workspaces cannot be read")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("The database does not answer.")
    page.unroute("**/workspaces")
    alice.button("Try now").click()
    expect(alice.row("api")).to_be_visible()


def unavailable(route: Route) -> None:
    """Answer as the Hub does when its database is away."""
    problem = {"status": 503, "code": "UNAVAILABLE", "detail": "The database does not answer."}
    route.fulfill(
        status=503,
        json=problem,
        headers={"Retry-After": "30", "Content-Type": "application/problem+json"},
    )


def test_somebody_who_asks_too_often_is_told_when_to_try_again(open_page: OpenPage) -> None:
    """The Hub answers 429: the dialog has a countdown, and the button waits for it."""
    alice = open_page(BUSY)
    alice.has_workspace("api")
    alice.watch.expect_answer(429)
    alice.open_workspace("api")
    alice.button("Stop", within=alice.panel("api")).click()
    expect(alice.button("Stop", within=alice.dialog)).to_have_attribute("aria-disabled", "false")
    alice.asks_too_often()
    alice.button("Stop", within=alice.dialog).click()
    expect(alice.dialog.get_by_role("alert")).to_contain_text(re.compile(r"Try again in \d+ s"))
    waits = alice.dialog.get_by_role("button", name=re.compile(r"^Stop in \d+ s$"))
    expect(waits).to_have_attribute("aria-disabled", "true")


def test_a_change_whose_answer_cannot_be_read_is_told_where_it_was_asked_for(alice: Person) -> None:
    """Something in between answers with HTML: what the Hub has done is seen all the same."""
    ready = alice.has_workspace("api")
    page = alice.open_workspace("api")
    panel, row, unreadable = alice.panel("api"), alice.row("api"), page.get_by_role("alert")
    unreadable = unreadable.filter(has_text="answer cannot be read.")
    page.route(re.compile(r"/workspaces/[^?]*$"), do_and_answer_html)
    alice.button("Keep awake until …", within=panel).click()
    alice.button("1 h", within=panel).click()
    expect(panel.locator(unreadable)).to_be_visible()
    expect(panel).to_contain_text("You keep it awake until")
    alice.button("Stop", within=panel).click()
    alice.button("Stop", within=alice.dialog).click()
    expect(alice.dialog.locator(unreadable)).to_be_visible()
    expect(row).to_contain_text("asleep")
    alice.button("Cancel", within=alice.dialog).or_(alice.button("Close", alice.dialog)).click()
    alice.button("Start api").click()
    expect(row.locator(unreadable)).to_be_visible()
    expect(row).to_contain_text("ready")
    alice.watch.expect_answer(404)  # it is gone
    alice.button("Delete …", within=panel).click()
    alice.dialog.get_by_label("Type its name").fill("api")
    alice.button("Delete", within=alice.dialog).click()
    expect(alice.dialog.locator(unreadable)).to_be_visible()
    alice.api.wait_until_gone(ready["id"])


def do_and_answer_html(route: Route) -> None:
    """Let a change be made, and answer it as what is no Hub does."""
    if route.request.method == "GET":
        route.fallback()
    else:
        route.fetch()
        answer_html(route)


def test_an_operation_that_somebody_else_has_begun_is_told_not_replaced(
    faults: RunningCloud, alice: Person
) -> None:
    """A stale tab asks for a start while a delete is under way: 409 in words, and then the news."""
    asleep = alice.has_suspended("api")
    faults.fault("in_use")  # the delete stays under way
    page = alice.open()
    expect(alice.row("api")).to_contain_text("asleep")
    page.evaluate(HIDE, True)
    alice.api.delete(asleep["id"])
    alice.watch.expect_answer(409)
    alice.button("Start api").click()
    expect(page.get_by_role("alert")).to_contain_text("A DELETE is under way on this workspace.")
    alice.button("Dismiss").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.evaluate(HIDE, False)
    expect(alice.row("api")).to_contain_text("deleting")
    alice.button("Watch api").click()
    expect(alice.panel("api")).to_be_visible()


def test_a_tab_whose_workspace_was_deleted_in_another_says_so(alice: Person) -> None:
    """The panel of what is gone says that it was deleted, and offers nothing to press."""
    ready = alice.has_workspace("api")
    alice.watch.expect_answer(404)
    page = alice.open_workspace("api")
    other = alice.open(tab=alice.new_tab())
    alice.api.delete(ready["id"])
    alice.api.wait_until_gone(ready["id"])
    page.evaluate(HIDE, False)  # the tab is looked at again
    other.evaluate(HIDE, False)
    expect(page.get_by_text("It has been deleted.")).to_be_visible()
    expect(page.get_by_role("group", name="Actions")).to_have_count(0)
    expect(other.get_by_role("heading", name="No workspace yet")).to_be_visible()


def test_a_hidden_tab_asks_nothing_and_a_tab_at_rest_asks_seldom(alice: Person) -> None:
    """In an hour, none while it is hidden; then at once; then three times in a minute."""
    alice.page.clock.install()
    page = alice.open()
    expect(page.get_by_role("heading", name="No workspace yet")).to_be_visible()
    page.evaluate(HIDE, True)
    before = asked(alice)
    page.clock.run_for(60 * MINUTE_MS)
    assert asked(alice) == before
    with page.expect_response("**/workspaces"):
        page.evaluate(HIDE, False)
    for _ in range(3):
        with page.expect_response("**/workspaces"):
            page.clock.run_for(20_500)
    assert asked(alice) == before + 4


def test_a_tab_that_is_seen_again_notices_that_somebody_else_has_signed_in(alice: Person) -> None:
    """By another tab, as behind a proxy: their lists may be equal, such as both empty."""
    page = alice.open()
    expect(page.get_by_role("button", name=f"You: {alice.email}")).to_be_visible()
    page.evaluate(HIDE, True)
    me = alice.api.request("GET", "/me").json()
    eve = {**me, "owner_id": "7", "email": "eve@example.com"}
    page.route("**/me", lambda route: route.fulfill(json=eve))
    page.evaluate(HIDE, False)
    expect(page.get_by_role("button", name="You: eve@example.com")).to_be_visible()


def test_a_fault_of_the_page_does_not_end_its_polling(alice: Person) -> None:
    """What fails after a round is told in the console, and the page asks again when looked at."""
    alice.watch.expect("uncaught: broken")
    page = alice.open()
    expect(page.get_by_role("heading", name="No workspace yet")).to_be_visible()
    page.evaluate("""async () => {
      const { app } = await import("page/app.js");
      app.live.onRound(() => { throw new Error("broken"); });
    }""")
    for _ in range(2):
        with page.expect_response("**/workspaces"):
            page.evaluate(HIDE, False)


def test_what_has_not_changed_is_not_sent_again(alice: Person) -> None:
    """The second look at the same list is answered 304, and the list is shown all the same."""
    alice.has_suspended("api")
    page = alice.open()
    expect(alice.row("api")).to_be_visible()
    with page.expect_response(lambda answer: answer.url.endswith("/workspaces")) as looked:
        page.evaluate(HIDE, False)
    assert looked.value.status == 304
    expect(alice.row("api")).to_contain_text("asleep")


def test_a_token_that_the_hub_no_longer_takes_is_renewed_without_a_question(alice: Person) -> None:
    """A 401 in mid-use: the page gets another token, and the request is made once more."""
    alice.watch.expect_answer(401)
    tokens = [alice.cloud.token(alice.email, audience="https://another.example")]
    alice.page.route(
        "**/localcloud/token",
        lambda route: route.fulfill(json={"token": tokens.pop()}) if tokens else route.fallback(),
    )
    page = alice.open()
    expect(page.get_by_role("heading", name="No workspace yet")).to_be_visible()
    assert alice.watch.requests.count("POST /localcloud/token") == 2


def test_a_sign_in_that_ends_in_mid_use_asks_again_and_keeps_what_was_typed(alice: Person) -> None:
    """The draft is there after the new sign-in, and can be sent."""
    page = alice.open("#/new")
    alice.form.get_by_label("Name").fill("api")
    expect(alice.form).to_contain_text("What you get")
    alice.watch.expect_answer(401)
    page.route("**/workspaces", lambda route: route.fulfill(status=401, json={"status": 401}))
    page.route("**/localcloud/token", lambda route: route.fulfill(status=401, json={}))
    alice.button("Create", within=alice.form).click()
    expect(page.get_by_text("Your sign-in has ended.")).to_be_visible()
    assert alice.api.workspaces() == []
    page.unroute("**/workspaces")
    page.unroute("**/localcloud/token")
    alice.button("Sign in again").click()
    expect(page.get_by_text("Your sign-in has ended.")).to_have_count(0)
    expect(alice.form.get_by_label("Name")).to_have_value("api")
    alice.button("Create", within=alice.form).click()
    expect(page).to_have_url(re.compile("#/workspaces/"))


def test_a_page_whose_sign_in_has_ended_asks_no_more(alice: Person) -> None:
    """It says so, and waits for the person, for an hour too: others' pages asked all night."""
    alice.page.clock.install()
    page = alice.open()
    expect(page.get_by_role("heading", name="No workspace yet")).to_be_visible()
    alice.watch.expect_answer(401)
    page.route("**/workspaces", lambda route: route.fulfill(status=401, json={"status": 401}))
    page.route("**/localcloud/token", lambda route: route.fulfill(status=401, json={}))
    page.clock.run_for(MINUTE_MS)
    expect(page.get_by_text("Your sign-in has ended.")).to_be_visible()
    asked = len(alice.watch.requests)
    page.clock.run_for(60 * MINUTE_MS)
    assert alice.watch.requests[asked:] == []


def test_a_sign_in_that_ends_in_a_dialog_begins_again_in_it(alice: Person) -> None:
    """Nothing beside a dialog can be pressed, so it has the button; the typed name is kept."""
    ready = alice.has_workspace("api")
    page = alice.open_workspace("api")
    alice.button("Delete …", within=alice.panel("api")).click()
    alice.dialog.get_by_label("Type its name").fill("api")
    expect(alice.dialog).to_contain_text("What is lost")
    alice.watch.expect_answer(401)
    alice.watch.expect_answer(404)  # it is gone
    page.route("**/workspaces**", lambda route: route.fulfill(status=401, json={"status": 401}))
    page.route("**/workspaces/**", lambda route: route.fulfill(status=401, json={"status": 401}))
    page.route("**/localcloud/token", lambda route: route.fulfill(status=401, json={}))
    with page.expect_response("**/workspaces"):  # after it the page asks no more
        alice.button("Delete", within=alice.dialog).click()
    expect(alice.dialog.get_by_role("alert")).to_contain_text("Your sign-in has ended.")
    page.unroute_all()
    alice.button("Sign in again", within=alice.dialog).click()
    expect(alice.dialog).to_contain_text("What is lost")
    expect(alice.dialog.get_by_label("Type its name")).to_have_value("api")
    alice.button("Delete", within=alice.dialog).click()
    expect(alice.dialog).to_have_count(0)
    alice.api.wait_until_gone(ready["id"])


def test_a_hub_without_dry_runs_is_not_asked_for_one(alice: Person) -> None:
    """An older one would not know the parameter: it would make the workspace, and delete it."""

    def answer(route: Route) -> None:
        route.fulfill(json={**route.fetch().json(), "features": ["connect", "me"]})

    alice.watch.context.route(f"{alice.cloud.address}/sign-in", answer)
    page = alice.open("#/new")
    alice.form.get_by_label("Name").fill("api")
    alice.button("Create", within=alice.form).click()
    expect(page).to_have_url(re.compile("#/workspaces/"))
    [made] = alice.api.workspaces()
    alice.api.wait_until_settled(made["id"], "READY")
    alice.button("Delete …", within=alice.panel("api")).click()
    alice.dialog.get_by_label("Type its name").fill("api")
    expect(alice.button("Delete", within=alice.dialog)).to_have_attribute("aria-disabled", "false")
    expect(alice.dialog).to_contain_text(re.compile("home", re.IGNORECASE))
    alice.button("Cancel", within=alice.dialog).click()
    expect(alice.dialog).to_have_count(0)
    assert not any("dry_run" in request for request in alice.watch.requests)
    [kept] = alice.api.workspaces()
    assert kept["operation"] is None


def test_a_hub_that_was_rolled_back_since_the_page_was_loaded_is_asked_nothing_it_does(
    alice: Person,
) -> None:
    """Version 0.1 ignores queries and refuses unknown fields: to look at a dialog changes nothing.

    The dialog says what is lost as it does of a Hub without dry runs.
    """
    alice.has_workspace("api")
    page = alice.open_workspace("api")
    for status in (400, 404):
        alice.watch.expect_answer(status)
    done: list[str] = []
    page.route("**/workspaces**", partial(answer_as_version_0_1, done))
    page.route("**/workspaces/**", partial(answer_as_version_0_1, done))
    alice.button("Delete …", within=alice.panel("api")).click()
    expect(alice.dialog).to_contain_text("The home, with every file in it")
    expect(alice.button("Delete", within=alice.dialog)).to_have_attribute("aria-disabled", "false")
    alice.button("Cancel", within=alice.dialog).click()
    alice.button("Stop", within=alice.panel("api")).click()
    expect(alice.button("Stop", within=alice.dialog)).to_have_attribute("aria-disabled", "false")
    assert done == []
    alice.button("Stop", within=alice.dialog).click()
    expect(alice.dialog).to_have_count(0)
    with page.expect_response(lambda answer: "dry_run" in answer.url):
        alice.open("#/new")
        alice.form.get_by_label("Name").fill("web")
    assert done == [f"/workspaces/{alice.id_of('api')}/stop"]


def answer_as_version_0_1(done: list[str], route: Route) -> None:
    """Answer changes as that version does, without doing them, and let the rest through."""
    request = route.request
    if request.method == "GET":
        route.fallback()
        return
    path = urlsplit(request.url).path
    unknown = set(request.post_data_json or ()) - {"name", "metadata", "machine_type", "image_tag"}
    if path.endswith("/delete"):
        route.fulfill(status=404, json={"code": "NOT_FOUND", "detail": "There is no such path."})
    elif unknown:
        errors = [{"field": each, "message": "is not a field"} for each in sorted(unknown)]
        route.fulfill(status=400, json={"code": "INVALID_REQUEST", "errors": errors})
    else:
        done.append(path)
        route.fulfill(status=202, json={})
