"""A page that is open for long, on a bad day: it gives up in time, and nobody is misled."""

from __future__ import annotations

import re
import uuid

from playwright.sync_api import Page, Route, expect

from tests.page.person import Person

MINUTE_MS = 60_000
LOOK = 'document.dispatchEvent(new Event("visibilitychange"))'  # asks at once


def test_a_page_whose_module_stays_gone_gives_up_and_says_so(alice: Person) -> None:
    """It is loaded three times, not for ever, and what is seen is words."""
    alice.watch.expect("404|Failed to load resource|net::ERR")
    alice.page.route(re.compile(r"/assets/list\.[0-9a-f]{12}\.js$"), gone)
    alice.page.clock.install()
    alice.page.goto("/")
    with alice.page.expect_event("load"):
        alice.page.clock.run_for(MINUTE_MS)
    expect(alice.page.get_by_text("A part of this page cannot be loaded.")).to_be_visible()
    alice.page.clock.run_for(MINUTE_MS)
    assert alice.watch.requests.count("GET /") == 3


def test_a_page_that_lacks_only_looks_is_not_loaded_again_while_somebody_types(
    alice: Person,
) -> None:
    """A draft is there a minute later."""
    alice.watch.expect("404|Failed to load resource|net::ERR")
    alice.page.route(re.compile(r"/assets/panel\.[0-9a-f]{12}\.css$"), gone)
    alice.page.clock.install()
    alice.open("#/new")
    alice.form.get_by_label("Name").fill("api")
    alice.page.clock.run_for(MINUTE_MS)
    expect(alice.form.get_by_label("Name")).to_have_value("api")


def gone(route: Route) -> None:
    """Answer as a revision without this asset does."""
    route.fulfill(status=404, headers={"Cache-Control": "no-store"}, json={"status": 404})


def hold(page: Page, url: str | re.Pattern[str]) -> list[Route]:
    """Have the requests for an address wait; return those that do, for the test to answer."""
    held: list[Route] = []

    def keep(route: Route) -> None:
        held.append(route)

    page.route(url, keep)
    return held


def test_an_administrator_types_whose_workspace_is_deleted(admin: Person, alice: Person) -> None:
    """Its name alone, which another person's workspace may have, too, deletes nothing."""
    made = alice.has_workspace("api")
    admin.open(f"#/workspaces/{made['id']}")
    admin.button("Delete …", within=admin.panel("api")).click()
    expect(admin.dialog.get_by_role("heading").first).to_have_text(f"Delete api of {alice.email}?")
    typed = admin.dialog.get_by_label("Type its name")
    typed.fill("api")
    admin.button("Delete", within=admin.dialog).click()
    expect(admin.dialog).to_contain_text("That is something else.")
    typed.fill(f"{alice.email}/api")
    admin.button("Delete", within=admin.dialog).click()
    expect(admin.dialog).to_have_count(0)
    alice.api.wait_until_gone(made["id"])


def test_what_is_not_there_is_asked_for_once_whenever_somebody_goes_to_it(alice: Person) -> None:
    """Not at every look at the list; whoever goes away and comes back has it asked anew."""
    alice.watch.expect_answer(404)
    path = f"/workspaces/{uuid.uuid4()}"
    page = alice.open(f"#{path}")
    for times in (1, 2):
        expect(page.get_by_text("No such workspace")).to_be_visible()
        for _ in range(3):
            with page.expect_response("**/workspaces"):
                page.evaluate(LOOK)
        assert alice.watch.requests.count(f"GET {path}") == times
        alice.open("#/")
        expect(page.get_by_text("No such workspace")).to_have_count(0)
        alice.open(f"#{path}")


def test_try_now_asks_a_slow_hub_once(alice: Person) -> None:
    """However often it is pressed, one page begins: it reads the list once."""
    alice.watch.expect_answer(503)
    alice.page.route("**/sign-in", lambda route: route.fulfill(status=503, json={}))
    alice.page.goto("/")
    again = alice.button("Try now")
    expect(again).to_be_visible()
    held = hold(alice.page, "**/sign-in")
    while not held:  # the page asks again by itself, too
        alice.page.wait_for_timeout(50)
    for _ in range(3):
        again.click()
    alice.page.wait_for_timeout(100)
    assert len(held) == 1
    held.pop().continue_()
    expect(alice.page.get_by_role("heading", name="No workspace yet")).to_be_visible()


def test_a_dialog_stays_when_the_mouse_is_let_go_outside_of_it(alice: Person) -> None:
    """Selecting text may end beside it, and its edge is no way out; a press beside it is."""
    alice.has_suspended("api")
    page = alice.open_workspace("api")
    alice.button("Delete …", within=alice.panel("api")).click()
    box = alice.dialog.bounding_box()
    heading = alice.dialog.get_by_role("heading").first.bounding_box()
    assert box is not None
    assert heading is not None
    page.mouse.click(box["x"] + 3, box["y"] + 3)
    page.mouse.move(heading["x"] + 5, heading["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] - 20, box["y"] - 20)
    page.mouse.up()
    expect(alice.dialog).to_be_visible()
    page.mouse.click(box["x"] - 20, box["y"] - 20)
    expect(alice.dialog).to_have_count(0)


def test_what_is_refused_after_the_dialog_was_closed_is_told_at_the_workspace(
    alice: Person,
) -> None:
    """Esc does not take a request back, so its answer is not lost."""
    alice.watch.expect_answer(503)
    alice.has_workspace("api")
    page = alice.open_workspace("api")
    alice.button("Stop", within=alice.panel("api")).click()
    stop = alice.button("Stop", within=alice.dialog)
    expect(stop).to_have_attribute("aria-disabled", "false")
    held = hold(page, re.compile("/stop$"))
    with page.expect_request(re.compile("/stop$")):
        stop.click()
    page.keyboard.press("Escape")
    expect(alice.dialog).to_have_count(0)
    held.pop().fulfill(status=503, json={"status": 503, "detail": "The database is away."})
    expect(alice.panel("api").get_by_role("alert")).to_contain_text("The database is away.")


READ_TWICE = """
async () => {
  const { Api } = await import("page/api.js");
  const api = new Api({ headers: async () => ({}), renew: async () => false });
  await api.all("/probe");
  await api.all("/probe");
  for (const page of ["/probe?page=1", "/probe?page=2"]) await api.get(page);
}
"""


def test_pages_that_a_list_has_no_more_are_forgotten(alice: Person) -> None:
    """Its second page has another address each time: the new one is read, the old one let go."""
    page = alice.open()
    etags: list[tuple[str, str | None]] = []

    def answer(route: Route) -> None:
        path = route.request.url.rpartition("/")[2]
        etags.append((path, route.request.headers.get("if-none-match")))
        count = sum(path == "probe" for path, _ in etags)
        link = {"Link": f'</probe?page={count}>; rel="next"'} if path == "probe" else {}
        route.fulfill(json=["same"], headers={"ETag": f'"{path}"', **link})

    page.route(re.compile("/probe"), answer)
    page.evaluate(READ_TWICE)
    paths = ["probe", "probe?page=1", "probe", "probe?page=2", "probe?page=1", "probe?page=2"]
    assert [path for path, _ in etags] == paths
    assert [etag for _, etag in etags[-2:]] == [None, '"probe?page=2"']


def test_a_panel_reads_no_sooner_than_the_hub_wants(alice: Person) -> None:
    """The list may be read meanwhile; the first look after that time reads the panel, too."""
    made = alice.has_suspended("api")
    status = f"GET /workspaces/{made['id']}/status"
    alice.watch.expect_answer(503)
    alice.page.clock.install()
    alice.page.route(
        "**/status",
        lambda route: route.fulfill(
            status=503, json={"detail": "It is busy."}, headers={"Retry-After": "300"}
        ),
    )
    page = alice.open_workspace("api")
    alert = alice.panel("api").get_by_role("alert").filter(has_text="It is busy.")
    expect(alert).to_be_visible()
    for _ in range(3):
        with page.expect_response("**/workspaces"):
            page.evaluate(LOOK)
    assert alice.watch.requests.count(status) == 1
    page.unroute("**/status")
    page.clock.run_for(6 * MINUTE_MS)
    page.evaluate(LOOK)
    expect(alert).to_have_count(0)
    assert alice.watch.requests.count(status) == 2


def test_nobody_hears_of_the_workspaces_of_the_one_before(alice: Person, bob: Person) -> None:
    """Another person signs in: the live region does not say that the first one's are gone."""
    alice.has_suspended("secret-plan")
    alice.page.route(
        "**/localcloud/people",
        lambda route: route.fulfill(
            json={"people": [{"email": each.email} for each in (alice, bob)]}
        ),
    )
    page = alice.open()
    expect(alice.row("secret-plan")).to_be_visible()
    alice.button(f"You: {alice.email}").click()
    page.get_by_text(bob.email).click()
    expect(page.get_by_role("heading", name="No workspace yet")).to_be_visible()
    expect(page.get_by_text("secret-plan")).to_have_count(0)


def test_show_more_that_is_pressed_twice_reads_once(alice: Person) -> None:
    """Each event is in the history once."""
    alice.has_suspended("api")

    def first(route: Route) -> None:
        path = f"{route.request.url}?page_token=next"
        events = route.fetch().json()
        route.fulfill(json=events[:2], headers={"Link": f'<{path}>; rel="next"'})

    page = alice.page
    page.route(re.compile("/events$"), first)
    held = hold(page, re.compile("/events.page_token"))
    alice.open_workspace("api")
    history = alice.panel("api").get_by_role("region", name="History")
    expect(history.get_by_role("listitem")).to_have_count(2)
    for _ in range(3):
        alice.button("Show more", within=history).click()
    page.wait_for_timeout(100)
    assert len(held) == 1
    held.pop().fulfill(json=[])
    expect(alice.button("Show more", within=history)).to_have_count(0)
    expect(history.get_by_role("listitem")).to_have_count(2)


def test_a_key_of_an_input_method_is_no_key_of_the_page(alice: Person) -> None:
    """Esc ends a composition of letters, and does not close the form around it."""
    alice.open("#/new")
    name = alice.form.get_by_label("Name")
    name.fill("api")
    name.dispatch_event("keydown", {"key": "Escape", "isComposing": True})
    expect(alice.page).to_have_url(re.compile("#/new$"))
    name.press("Escape")
    expect(alice.form).to_have_count(0)


def test_a_workspace_in_error_with_a_machine_can_be_kept_awake(alice: Person) -> None:
    """As the API has it: what runs is stopped when idle, and that can be put off."""
    alice.has_workspace("api")

    def failed(route: Route) -> None:
        found = [{**each, "status": "ERROR"} for each in route.fetch().json()]
        route.fulfill(json=found)

    alice.page.route("**/workspaces", failed)
    alice.open_workspace("api")
    expect(alice.button("Keep awake until …", within=alice.panel("api"))).to_be_visible()
