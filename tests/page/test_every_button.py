"""Every button that no story of the other tests presses: ways out of errors, rows, notices."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Locator, Route, expect

from localcloud.api_client import Workspace
from localcloud.running_cloud import RunningCloud
from tests.page.person import Person
from tests.system.records import Records, delete_by_hand, delete_home_by_hand, in_compute

LOOK = 'document.dispatchEvent(new Event("visibilitychange"))'  # asks at once
NEVER_BY_ITSELF = "300"  # seconds until the page's next try


def error_of(person: Person, code: str) -> Locator:
    """Return what the panel of ``api`` says of its error."""
    return person.panel("api").get_by_role("region", name=re.compile(f" failed: {code}$"))


def fail_to_make(person: Person, faults: RunningCloud, fault: str) -> None:
    """Have the making of ``api`` fail."""
    faults.fault(fault)
    person.api.wait_until_settled(person.api.create("api")["id"], "ERROR")
    faults.clear_faults()


def fail_to_wake(person: Person, faults: RunningCloud, fault: str) -> None:
    """Have a start of ``api``, which sleeps, fail: it sleeps on."""
    asleep = person.has_suspended("api")
    faults.fault(fault)
    person.api.start(asleep["id"])
    person.settled("api", lambda now: now["error"] is not None)
    faults.clear_faults()


def fail_to_delete(person: Person, faults: RunningCloud) -> Workspace:
    """Have the deletion of ``api`` fail: another machine had its home."""
    ready = person.has_workspace("api")
    faults.fault("in_use")
    person.api.delete(ready["id"])
    person.api.wait(ready["id"], lambda now: now["operation"]["phase"] == "delete_disk")

    def has_failed(now: Workspace) -> bool:
        # Again and again: nothing is written if the Hub writes at the same moment.
        Records(faults).expire_deadline(ready["id"], lambda each: each["kind"] == "DELETE")
        return bool(now["status"] == "ERROR")

    failed = person.api.wait(ready["id"], has_failed)
    faults.clear_faults()
    return failed


@dataclass(frozen=True)
class WayOut:
    """The row's button at an error, the panel's, what one chooses there, and what comes of it."""

    fail: Callable[[Person, RunningCloud, str], None]
    fault: str
    code: str
    row: str
    button: str
    choose: Callable[[Person], None]
    press: str
    came_of_it: Callable[[Workspace], bool]


def choose_image(person: Person) -> None:
    """Choose another image."""
    person.dialog.get_by_label("Image").fill("v2")


def choose_machine(person: Person) -> None:
    """Choose another machine."""
    person.choose_machine(person.dialog, "e2-standard-8")


def choose_nothing(person: Person) -> None:
    """Only read what is said, and confirm it."""
    expect(person.dialog).to_contain_text("A new machine is made on the same home")
    person.dialog.get_by_label("Type its name").fill("api")


WAYS_OUT = (
    WayOut(
        fail=fail_to_wake,
        fault="stock_out",
        code="NO_CAPACITY",
        row="Start api",
        button="Make a new machine …",
        choose=choose_nothing,
        press="Rebuild",
        came_of_it=lambda now: now["generation"] > 1,
    ),
    WayOut(
        fail=fail_to_make,
        fault="fails_at_boot",
        code="IMAGE_PULL_FAILED",
        row="See why api",  # nothing would be otherwise the next time
        button="Other image …",
        choose=choose_image,
        press="Change and start",
        came_of_it=lambda now: now["image_tag"] == "v2",
    ),
    WayOut(
        fail=fail_to_make,
        fault="quota_exceeded",
        code="COMPUTE_QUOTA_EXCEEDED",
        row="Try again api",
        button="Other machine type …",
        choose=choose_machine,
        press="Change and start",
        came_of_it=lambda now: now["machine_type"] == "e2-standard-8",
    ),
)


@pytest.mark.parametrize("way", WAYS_OUT, ids=lambda way: way.code)
def test_each_way_out_of_an_error_leads_out_of_it(
    alice: Person, faults: RunningCloud, way: WayOut
) -> None:
    """The button beside the error opens its dialog, and what is asked for there is made."""
    way.fail(alice, faults, way.fault)
    alice.open()
    row = alice.button(way.row)
    expect(row).to_be_visible()
    if way.row.startswith("See why"):
        row.click()
    else:
        alice.open_workspace("api")
    error = error_of(alice, way.code)
    alice.button(way.button, within=error).click()
    way.choose(alice)
    alice.button(way.press, within=alice.dialog).click()
    expect(error).to_have_count(0)
    assert way.came_of_it(alice.settled("api", lambda now: now["status"] == "READY"))


def test_a_workspace_without_its_home_goes_on_with_an_empty_one(alice: Person) -> None:
    """Somebody has deleted the disk; the dialog says that an existing home is never emptied."""
    asleep = alice.has_suspended("api")
    delete_by_hand(alice.cloud, asleep)
    alice.api.wait(asleep["id"], lambda _: in_compute(alice.cloud, "instances", asleep["id"]) == [])
    delete_home_by_hand(alice.cloud, asleep)
    alice.api.start(asleep["id"])
    alice.api.wait_until_settled(asleep["id"], "ERROR")
    alice.open_workspace("api")
    error = error_of(alice, "HOME_DISK_GONE")
    alice.button("Go on with an empty home …", within=error).click()
    expect(alice.dialog).to_contain_text("An existing home is never emptied.")
    alice.button("Start with an empty home", within=alice.dialog).click()
    expect(error).to_have_count(0)
    alice.settled("api", lambda now: now["status"] == "READY")
    assert in_compute(alice.cloud, "disks", asleep["id"]) != []


def test_a_delete_that_failed_is_asked_for_again_from_row_and_panel(
    alice: Person, faults: RunningCloud
) -> None:
    """Both buttons ask for the name first; with it the workspace goes."""
    failed = fail_to_delete(alice, faults)
    alice.watch.expect_answer(404)  # it is gone
    alice.open()
    alice.button("Delete api").click()
    alice.button("Cancel", within=alice.dialog).click()
    alice.open_workspace("api")
    error = error_of(alice, "DISK_IN_USE")
    alice.button("Delete again …", within=error).click()
    alice.dialog.get_by_label("Type its name").fill("api")
    alice.button("Delete", within=alice.dialog).click()
    expect(error).to_have_count(0)
    alice.api.wait_until_gone(failed["id"])


def test_a_workspace_that_is_being_made_is_cancelled_from_its_row(
    alice: Person, faults: RunningCloud
) -> None:
    """It is the same question as of a delete, and the same act."""
    faults.fault("never_ready")
    made = alice.api.create("api")
    alice.api.wait(made["id"], lambda now: now["operation"]["phase"] == "await_ready")
    alice.open()
    alice.button("Cancel api").click()
    alice.dialog.get_by_label("Type its name").fill("api")
    alice.button("Delete", within=alice.dialog).click()
    expect(alice.row("api")).to_contain_text("deleting")
    assert alice.api.status(made["id"])["operation"]["kind"] == "DELETE"


def test_the_history_shows_more_until_there_is_no_more(alice: Person) -> None:
    """First what is there already, then the next page, each event once; then no button."""
    alice.api.create("api")
    begun = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def events(*numbers: int) -> list[dict[str, Any]]:
        at = [(begun - timedelta(minutes=each)).isoformat() for each in numbers]
        event = {"what": "StartRequested", "who": "somebody", "result": "ACCEPTED", "times": 1}
        return [{**event, "at": each, "who": f"p{each}"} for each in at]

    def answer(route: Route) -> None:
        if "page_token" in route.request.url:
            route.fulfill(json=events(10, 11, 12))
        else:
            path = f"{route.request.url}?page_token=next"
            route.fulfill(json=events(*range(10)), headers={"Link": f'<{path}>; rel="next"'})

    alice.page.route(re.compile("/events"), answer)
    alice.open_workspace("api")
    history = alice.panel("api").get_by_role("region", name="History")
    more = alice.button("Show more", within=history)
    for count in (8, 10, 13):
        expect(history.get_by_role("listitem")).to_have_count(count)
        if count < 13:
            more.click()
    expect(more).to_have_count(0)


def test_a_message_is_dismissed_before_it_goes_by_itself(alice: Person) -> None:
    """The page's clock stands still: only the press takes it away."""
    page = alice.page
    page.clock.install()
    alice.watch.expect_answer(403)
    alice.open()
    page.route("**/localcloud/token", lambda route: route.fulfill(status=403, json={}))
    page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))
    page.get_by_role("button", name="You: ").click()
    alice.button(alice.email, within=page.get_by_role("list")).click()
    message = page.get_by_text(f"The local cloud does not let you be {alice.email}.")
    shown = page.get_by_role("region", name="Notices").filter(has=message)
    alice.button("Dismiss", within=shown).click()
    expect(shown).to_have_count(0)


def test_try_now_in_the_notice_asks_the_hub_before_its_time(alice: Person) -> None:
    """The Hub has said to come back in minutes; a press asks at once, and the notice goes."""
    page = alice.open()
    expect(page.get_by_role("heading", name="No workspace yet")).to_be_visible()
    alice.watch.expect_answer(503)
    page.route(
        "**/workspaces",
        lambda route: route.fulfill(
            status=503, json={"detail": "It is away."}, headers={"Retry-After": NEVER_BY_ITSELF}
        ),
    )
    page.evaluate(LOOK)
    notices = page.get_by_role("region", name="Notices")
    expect(notices.get_by_role("alert")).to_contain_text("It is away.")
    page.unroute("**/workspaces")
    alice.button("Try now", within=notices).click()
    expect(notices).to_have_count(0)
