"""Every view in every window: for everybody, within the window, and kept as a picture."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from localcloud.catalogue import ROOT
from localcloud.running_cloud import RunningCloud
from localcloud.settings import ADMIN_EMAIL
from tests.page import test_archive_view as archive
from tests.page import test_deleted_view as deleted
from tests.page.axe import violations
from tests.page.conftest import OpenPage, client
from tests.page.looks import LOOKS, Look
from tests.page.person import Person, answer_html
from tests.page.shifts import WATCH_SHIFTS, shifts
from tests.page.test_signing_in import GOOGLES_LIBRARY, LIBRARY, answer_sign_in, open_page, sign_in
from tests.page.test_snapshots_view import (
    LIST,
    RESTORES,
    becomes,
    has,
    made_up,
    restoring,
    section,
)
from tests.page.test_trouble import unavailable

PICTURES = ROOT / ".cache" / "page-screenshots"
README_PICTURE = ROOT / "docs" / "page.webp"
EMAIL = "ada@example.com"
NEWCOMER = "newcomer@example.com"

# A third of the size of a PNG.
TO_WEBP = """
async (png) => {
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  const picture = await createImageBitmap(new Blob([bytes]));
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  canvas.getContext("2d").drawImage(picture, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/webp", quality: 0.9 });
  return btoa(Array.from(new Uint8Array(await blob.arrayBuffer()),
    (byte) => String.fromCharCode(byte)).join(""));
}
"""


# Whether what has the focus is behind something else, such as a bar of buttons.
FOCUS_IS_HIDDEN = """
() => {
  const focused = document.activeElement;
  const { left, top, width, height } = focused.getBoundingClientRect();
  const seen = document.elementFromPoint(left + width / 2, top + height / 2);
  return seen !== null && !focused.contains(seen) && !seen.contains(focused);
}
"""


@pytest.fixture(scope="module")
def household(page_cloud: RunningCloud) -> dict[str, str]:
    """Return the ids of a person's workspaces, by name: one in each state that there is."""
    api = client(page_cloud, EMAIL)
    ids: dict[str, str] = {}

    def make(name: str, **metadata: str) -> str:
        ids[name] = str(api.create(name, metadata=metadata)["id"])
        return ids[name]

    page_cloud.fault("stock_out")
    api.wait_until_settled(make("spike"), "ERROR")
    page_cloud.clear_faults()
    asleep = make("train", repo="https://github.com/example/train", device_id="laptop")
    api.wait_until_settled(asleep, "READY")
    for act, status in ((api.stop, "SUSPENDED"), (api.start, "READY"), (api.stop, "SUSPENDED")):
        act(asleep)
        api.wait_until_settled(asleep, status)
    page_cloud.fault("never_ready")
    long_name = "git@github.com:example/a-repository-with-a-rather-long-name.git"
    api.wait(
        make("docs", repo=long_name, branch="redesign"),
        lambda now: now["operation"]["phase"] == "await_ready",
    )
    page_cloud.clear_faults()
    ready = make("api", repo="https://github.com/example/api", branch="main")
    api.wait_until_settled(ready, "READY")
    for act, status in ((api.stop, "SUSPENDED"), (api.start, "READY")):
        act(ready)
        api.wait_until_settled(ready, status)
    api.request("POST", f"/workspaces/{ready}/connect", json={"device_id": "laptop"})
    return ids


def the_list(person: Person, _: dict[str, str]) -> None:
    """Show the list."""
    person.open()
    expect(person.row("api")).to_be_visible()


def a_ready_one(person: Person, ids: dict[str, str]) -> None:
    """Show a workspace that is ready, with the form that keeps it awake."""
    person.open(f"#/workspaces/{ids['api']}")
    person.button("Keep awake until …").click()
    expect(person.panel("api")).to_contain_text("connected")


def one_under_way(person: Person, ids: dict[str, str]) -> None:
    """Show a workspace that is being made."""
    person.open(f"#/workspaces/{ids['docs']}")
    expect(person.panel("docs")).to_contain_text("asked for it")


def one_asleep(person: Person, ids: dict[str, str]) -> None:
    """Show a workspace that sleeps, with its timeline."""
    person.open(f"#/workspaces/{ids['train']}")
    expect(person.panel("train")).to_contain_text("stopped it")


def a_failed_one(person: Person, ids: dict[str, str]) -> None:
    """Show a workspace in error."""
    person.open(f"#/workspaces/{ids['spike']}")
    expect(person.panel("spike")).to_contain_text("could not be made")


def the_form(person: Person, _: dict[str, str]) -> None:
    """Show the form of a new workspace, with what would be made and something wrong."""
    person.open("#/new")
    person.form.get_by_label("Name").fill("web")
    expect(person.form).to_contain_text("What you get")
    person.form.get_by_label("Repository").fill("https://me:secret@example.com/web")
    expect(person.form).to_contain_text("must not hold credentials")


def nothing_found(person: Person, _: dict[str, str]) -> None:
    """Show a list that a search has left nothing of."""
    person.open("#/")
    person.page.get_by_label("Search workspaces").fill("nonsense")
    expect(person.page.get_by_role("heading", name="Nothing matches")).to_be_visible()


def no_such_one(person: Person, _: dict[str, str]) -> None:
    """Show the address of a workspace that is not there."""
    person.button("Show all").click()
    person.watch.expect_answer(404)
    person.open("#/workspaces/00000000-0000-4000-8000-000000000000")
    expect(person.page.get_by_role("heading", name="No such workspace")).to_be_visible()


def another_machine(person: Person, ids: dict[str, str]) -> None:
    """Show the dialog in which one chooses another machine."""
    person.open(f"#/workspaces/{ids['api']}")
    person.button("Change machine …", within=person.panel("api")).click()
    person.choose_machine(person.dialog, "e2-standard-8")
    expect(person.dialog).to_contain_text("Type its name")


def the_question(person: Person, ids: dict[str, str]) -> None:
    """Show the dialog that asks whether to delete."""
    person.page.keyboard.press("Escape")  # closes the dialog before
    expect(person.dialog).to_have_count(0)
    person.open(f"#/workspaces/{ids['api']}")
    person.button("Delete …", within=person.panel("api")).click()
    expect(person.dialog).to_contain_text("Type its name")
    expect(person.dialog).not_to_contain_text("Asking the Hub")


def a_new_machine(person: Person, _: dict[str, str]) -> None:
    """Show the dialog that asks whether to make a new machine."""
    person.page.keyboard.press("Escape")  # closes the question
    expect(person.dialog).to_have_count(0)
    person.button("Rebuild …", within=person.panel("api")).click()
    expect(person.dialog).to_contain_text("Type its name")
    expect(person.dialog).not_to_contain_text("Asking the Hub")


def another_name(person: Person, ids: dict[str, str]) -> None:
    """Show the dialog that asks for a new name, since the old one is taken."""
    person.page.keyboard.press("Escape")  # closes the dialog before
    expect(person.dialog).to_have_count(0)
    person.watch.expect_answer(409)
    person.open(f"#/workspaces/{ids['train']}")
    person.page.route("**/start?dry_run=true", name_taken, times=1)
    person.button("Start", within=person.panel("train")).click()
    person.dialog.get_by_label("New name").fill("train-2")
    expect(person.dialog).to_contain_text("Then in use")


def name_taken(route: Route) -> None:
    """Refuse, as the Hub does if a name is another workspace's by now."""
    problem = {"status": 409, "code": "NAME_TAKEN", "title": "You have a workspace of this name"}
    route.fulfill(status=409, json=problem)


def the_snapshots(person: Person, ids: dict[str, str]) -> None:
    """Show snapshots in each state, and the form that takes one."""
    person.page.keyboard.press("Escape")  # closes the dialog before
    expect(person.dialog).to_have_count(0)
    person.open(f"#/workspaces/{ids['docs']}")
    failed = {"code": "SNAPSHOT_FAILED", "message": "Compute Engine could not store the snapshot."}
    has(
        person,
        made_up("UPLOADING"),
        made_up("READY", name="before-the-upgrade", stored_bytes=10**10),
        made_up("READY", automatic=True, consistency="clean", stored_bytes=10**8),
        made_up("FAILED", name=48 * "x", error=failed),
        made_up("DELETING", name="old"),
    )
    person.open(f"#/workspaces/{ids['api']}")
    person.button("Take a snapshot", within=section(person)).click()
    section(person).get_by_role("textbox", name="Name").fill("before the upgrade")
    expect(section(person)).to_contain_text("must be 1 to 48 letters")
    section(person).get_by_role("listitem").first.scroll_into_view_if_needed()


def a_snapshot_s_end(person: Person, _: dict[str, str]) -> None:
    """Show the dialog that asks whether to delete a snapshot."""
    person.button("Delete before-the-upgrade", within=section(person)).click()
    expect(person.dialog).to_contain_text("What is lost")


def a_restore(person: Person, _: dict[str, str]) -> None:
    """Show the dialog that asks whether to restore a snapshot."""
    person.page.keyboard.press("Escape")  # closes the question
    expect(person.dialog).to_have_count(0)
    person.page.route("**/restore?dry_run=true", lambda route: route.fulfill(json=RESTORES))
    person.button("Restore before-the-upgrade", within=section(person)).click()
    expect(person.dialog).to_contain_text("storing the snapshot")


def one_being_restored(person: Person, ids: dict[str, str]) -> None:
    """Show a workspace whose home is being restored, which all of the person's are."""
    person.page.keyboard.press("Escape")  # closes the dialog before
    expect(person.dialog).to_have_count(0)
    source = made_up("READY", name="before-the-upgrade", stored_bytes=10**10)
    person.open(f"#/workspaces/{ids['docs']}")
    has(person, made_up("UPLOADING", automatic=True, consistency="clean"), source)
    becomes(person, operation=restoring(source["id"]), status="READY", error=None)
    person.open(f"#/workspaces/{ids['api']}")
    expect(section(person)).to_contain_text("being restored")
    section(person).get_by_role("listitem").first.scroll_into_view_if_needed()


def one_archived(person: Person, ids: dict[str, str]) -> None:
    """Show an archived workspace, which all of the person's are."""
    person.page.unroute("**/workspaces")
    person.page.unroute(LIST)
    person.open(f"#/workspaces/{ids['docs']}")
    becomes(person, **archive.ARCHIVED, error=None)
    has(person, made_up("READY", automatic=True, consistency="clean", stored_bytes=10**8))
    person.open(f"#/workspaces/{ids['train']}")
    expect(person.panel("train")).to_contain_text("archived since")
    expect(section(person, "train")).to_contain_text("Its home is a snapshot")


def one_being_archived(person: Person, _: dict[str, str]) -> None:
    """Show a workspace that is being archived."""
    person.page.unroute("**/workspaces")
    becomes(person, **{**archive.ASLEEP, "operation": archive.archiving()}, error=None)
    person.page.evaluate(deleted.LOOK)
    expect(person.panel("train")).to_contain_text("archiving")


def an_archive(person: Person, _: dict[str, str]) -> None:
    """Show the dialog that asks whether to archive."""
    person.page.unroute("**/workspaces")
    person.page.evaluate(deleted.LOOK)
    person.button("Archive …", within=person.panel("train")).click()
    expect(person.dialog).to_contain_text("Type its name")


def no_capacity(person: Person, _: dict[str, str]) -> None:
    """Show a workspace whose start has found no capacity."""
    person.page.keyboard.press("Escape")  # closes the question
    expect(person.dialog).to_have_count(0)
    error = {"code": "NO_CAPACITY", "message": "Zone us-west1-a has no capacity for it."}
    error |= {"operation_kind": "START", "at": archive.NOW.isoformat()}
    becomes(person, **archive.ASLEEP, error=error)
    person.page.evaluate(deleted.LOOK)
    expect(person.button("Move to another zone …")).to_be_visible()


def a_move(person: Person, _: dict[str, str]) -> None:
    """Show the dialog that asks whether to move."""
    person.button("Move to another zone …").click()
    expect(person.dialog).to_contain_text("Type its name")


def a_larger_home(person: Person, _: dict[str, str]) -> None:
    """Show the dialog in which one makes the home larger, with a size that is too small."""
    person.page.keyboard.press("Escape")  # closes the question
    expect(person.dialog).to_have_count(0)
    person.page.unroute("**/workspaces")
    person.page.unroute(LIST)
    person.watch.expect_answer(400)
    person.button("Make the home larger").click()
    person.dialog.get_by_label("Size in GB").fill("20")
    expect(person.dialog).to_contain_text("is too small")


def the_home(person: Person, _: dict[str, str]) -> None:
    """Show how large the home is, and the last lines of the panel."""
    person.page.keyboard.press("Escape")  # closes the dialog
    expect(person.dialog).to_have_count(0)
    person.button("Make the home larger").scroll_into_view_if_needed()


def from_a_snapshot(person: Person, _: dict[str, str]) -> None:
    """Show the form of a new workspace whose home begins as a snapshot."""
    person.page.keyboard.press("Escape")  # closes the question
    expect(person.dialog).to_have_count(0)
    person.button("New workspace from it: before-the-upgrade", within=section(person)).click()
    expect(person.form).to_contain_text("Its home begins as")
    person.page.unroute(LIST)


def what_was_deleted(person: Person, _: dict[str, str]) -> None:
    """Show deleted workspaces."""
    person.page.unroute("**/workspaces")
    person.page.unroute(LIST)
    old = deleted.made_up(48 * "x", automatic=True, until=deleted.NOW.isoformat())
    deleted.has(person, deleted.made_up("web", snapshots=3), old)
    person.open("#/deleted")
    expect(deleted.item(person, "xxx")).to_be_visible()


def one_taken_back(person: Person, _: dict[str, str]) -> None:
    """Show the dialog that takes a workspace back, of which the name is another's by now."""
    person.page.route("**/undelete", name_taken, times=1)
    person.watch.expect_answer(409)
    person.button("Undelete web").click()
    person.button("Undelete", within=person.dialog).click()
    person.dialog.get_by_label("New name").fill("web 2")
    expect(person.dialog).to_contain_text("must be 1 to 48")


def none_deleted(person: Person, _: dict[str, str]) -> None:
    """Show that nothing can be taken back."""
    person.page.keyboard.press("Escape")  # closes the dialog
    expect(person.dialog).to_have_count(0)
    deleted.has(person)
    person.page.evaluate(deleted.LOOK)
    expect(deleted.view(person)).to_contain_text("None.")


def the_menu(person: Person, ids: dict[str, str]) -> None:
    """Show who one is."""
    the_list(person, ids)
    person.page.keyboard.press("Escape")  # closes the dialog before
    expect(person.dialog).to_have_count(0)
    person.page.get_by_role("button", name="You: ").click()
    expect(person.page.get_by_role("group", name="Colours")).to_be_visible()


def no_hub(person: Person, _: dict[str, str]) -> None:
    """Show the list while the Hub does not answer; it stays so."""
    person.page.keyboard.press("Escape")  # closes the menu
    person.watch.expect_no_network()
    person.watch.context.set_offline(True)
    person.page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    expect(person.page.get_by_role("alert")).to_contain_text("The Hub does not answer.")


VIEWS: dict[str, Callable[[Person, dict[str, str]], Any]] = {
    "list": the_list,
    "ready": a_ready_one,
    "under-way": one_under_way,
    "asleep": one_asleep,
    "error": a_failed_one,
    "new": the_form,
    "nothing-matches": nothing_found,
    "no-such": no_such_one,
    "change": another_machine,
    "delete": the_question,
    "rebuild": a_new_machine,
    "rename": another_name,
    "snapshots": the_snapshots,
    "delete-snapshot": a_snapshot_s_end,
    "restore": a_restore,
    "from-snapshot": from_a_snapshot,
    "restoring": one_being_restored,
    "archived": one_archived,
    "archiving": one_being_archived,
    "archive": an_archive,
    "no-capacity": no_capacity,
    "move": a_move,
    "grow": a_larger_home,
    "home": the_home,
    "deleted": what_was_deleted,
    "undelete": one_taken_back,
    "none-deleted": none_deleted,
    "menu": the_menu,
    "away": no_hub,  # the last: it is not ended
}


def no_sign_in(person: Person) -> Page:
    """Show the page of a Hub at which browsers cannot sign in."""
    answer_sign_in(person, {"kind": "gcloud", "audience": None})
    open_page(person)
    expect(person.page.get_by_role("heading")).to_contain_text(["Workspaces", "is not set up"])
    return person.page


def signed_out(person: Person) -> Page:
    """Show the page of a Hub at which one signs in with Google."""
    answer_sign_in(person, {"kind": "oauth_web", "client_id": "1-web.apps.googleusercontent.com"})
    person.page.reload()
    expect(person.button("Sign in")).to_be_visible()
    return person.page


def googles_window(person: Person) -> Page:
    """Show the window in which one does, with a stand-in for Google's button."""
    person.watch.expect(rf"^foreign: GET {GOOGLES_LIBRARY}$")
    library = LIBRARY.replace("TOKEN", '""')
    person.watch.context.route(
        GOOGLES_LIBRARY, lambda route: route.fulfill(body=library, content_type="text/javascript")
    )
    window = sign_in(person)
    expect(window.get_by_role("button", name="Continue")).to_be_visible()
    return window


def no_list(person: Person) -> Page:
    """Show the page while the Hub cannot read its database."""
    person.watch.expect_answer(503)
    person.watch.context.unroute_all()
    person.page.route("**/workspaces", unavailable)
    person.page.reload()
    expect(person.page.get_by_text("Your workspaces cannot be read")).to_be_visible()
    return person.page


def no_hub_answers(person: Person) -> Page:
    """Show the page while something answers in the Hub's place, with what is no list."""
    person.page.unroute("**/workspaces")
    person.page.route("**/workspaces", answer_html)
    person.page.reload()
    expect(person.page.get_by_text("answer cannot be read.")).to_be_visible()
    return person.page


def not_there_yet(person: Person) -> Page:
    """Show the page before its first list is there."""
    person.page.unroute("**/workspaces")
    person.page.route("**/workspaces", lambda _: None)
    person.page.reload()
    expect(person.button("You: menu")).to_be_visible()
    expect(person.page.get_by_text("Reading your workspaces")).to_be_attached()
    return person.page


# What is seen before there is a list, by somebody who has the page already; each after the other.
BEFORE: dict[str, Callable[[Person], Page]] = {
    "no-sign-in": no_sign_in,
    "signed-out": signed_out,
    "google": googles_window,
    "unavailable": no_list,
    "unreadable": no_hub_answers,
    "loading": not_there_yet,
}


def check_and_photograph(page: Page, view: str, look: Look) -> list[str]:
    """Keep a picture of what a person sees; return what axe finds, and what is too wide."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{view}-{look.name}.png")
    wide: bool = page.evaluate("() => document.documentElement.scrollWidth > innerWidth")
    found = ["wider than the window"] if wide else []
    if page.evaluate("() => document.getAnimations().length > 0"):
        found.append("moves, for somebody who wants no motion")
    if page.evaluate(FOCUS_IS_HIDDEN):
        found.append("the focus is behind something")
    if look.is_between:
        return found
    return [f"{view}: {each}" for each in [*found, *violations(page)]]


@pytest.mark.timeout(300)  # some thirty views, and a machine may be busy
@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
def test_every_view_is_for_everybody_and_fits_its_window(
    open_page: OpenPage, household: dict[str, str], look: Look
) -> None:
    """Nothing is wider than any window or hides the focus, and axe finds no violation.

    Axe looks at small and large windows.
    """
    found = []
    person = open_page(EMAIL, look)
    for view, show in VIEWS.items():
        show(person, household)
        found += check_and_photograph(person.page, view, look)
    newcomer, admin = open_page(NEWCOMER, look), open_page(ADMIN_EMAIL, look)
    newcomer.open()
    expect(newcomer.page.get_by_role("heading", name="No workspace yet")).to_be_visible()
    found += check_and_photograph(newcomer.page, "empty", look)
    for view, show_before in BEFORE.items():
        found += check_and_photograph(show_before(newcomer), view, look)
    admin.open()
    admin.sees_everybody()
    expect(admin.row("api", of=EMAIL)).to_be_visible()
    found += check_and_photograph(admin.page, "everybody", look)
    assert found == []


def test_nothing_moves_while_the_page_polls(alice: Person, faults: RunningCloud) -> None:
    """While an operation's seconds get a second digit, with every count and poll, nothing shifts.

    In real time: with a clock of the test's Chromium tells no shifts.
    """
    faults.fault("never_ready")
    made = alice.api.create("api")
    alice.api.wait(made["id"], lambda now: now["operation"]["phase"] == "await_ready")
    page = alice.open_workspace("api")
    panel = alice.panel("api")
    expect(panel).to_contain_text("asked for it")
    expect(panel.get_by_role("region", name="Details")).to_contain_text("Compute says")
    page.evaluate(WATCH_SHIFTS)
    before = len(alice.watch.requests)
    page.wait_for_timeout(12_000)
    assert len(alice.watch.requests) > before
    assert shifts(page) == []


def test_the_picture_in_the_readme_can_be_made_and_is_small(
    open_page: OpenPage, household: dict[str, str]
) -> None:
    """`UPDATE_PICTURE=1` makes it again: what is under 100 KB is no burden for a clone."""
    person = open_page(EMAIL, Look(name="readme", width=1280, height=960))
    page = person.open(f"#/workspaces/{household['api']}")
    expect(person.panel("api")).to_contain_text("Last start")
    expect(section(person)).to_contain_text("0 of 5")
    png = base64.b64encode(page.screenshot()).decode()
    made = base64.b64decode(person.new_tab().evaluate(TO_WEBP, png))
    if os.environ.get("UPDATE_PICTURE"):
        README_PICTURE.write_bytes(made)
    kept = README_PICTURE.read_bytes()
    assert (kept[:4], kept[8:12]) == (b"RIFF", b"WEBP")
    assert len(kept) < 100_000
