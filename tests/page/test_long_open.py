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
    expect(admin.dialog.get_by_role("heading")).to_have_text(f"Delete api of {alice.email}?")
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
    alice.page.unroute("**/sign-in")
    held = hold(alice.page, "**/sign-in")
    with alice.page.expect_request("**/sign-in"):
        again.click()
    for _ in range(3):
        again.click()
    alice.page.wait_for_timeout(100)
    assert len(held) == 1
    held.pop().fallback()
    expect(alice.page.get_by_role("heading", name="No workspace yet")).to_be_visible()


def test_a_dialog_stays_when_the_mouse_is_let_go_outside_of_it(alice: Person) -> None:
    """Selecting text may end beside it, and its edge is no way out; a press beside it is."""
    alice.has_suspended("api")
    page = alice.open_workspace("api")
    alice.button("Delete …", within=alice.panel("api")).click()
    box = alice.dialog.bounding_box()
    heading = alice.dialog.get_by_role("heading").bounding_box()
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
