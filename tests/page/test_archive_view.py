"""Workspaces without a machine and a disk: archiving one, how it is shown, and starting it."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.page.person import Person
from tests.page.test_snapshots_view import (
    becomes,
    has,
    item,
    lacks,
    made_up,
    restoring,
    section,
)

LOOK = 'document.dispatchEvent(new Event("visibilitychange"))'  # asks at once
NOW = datetime.now(UTC)
ASLEEP: dict[str, Any] = {
    "status": "SUSPENDED",
    "operation": None,
    "suspended_at": (NOW - timedelta(days=20)).isoformat(),
    "stops_at": None,
    "memory_kept": True,
    "outlook": [],
}
ARCHIVED: dict[str, Any] = {
    **ASLEEP,
    "archived_at": (NOW - timedelta(hours=20)).isoformat(),
    "memory_kept": False,
    "memory_lost_because": "The workspace is archived.",
}
# Renders the history of events that need not be there.
RENDER = """
async (events) => {
  const [{ render }, { historyView }] = await Promise.all(
    ["lit", "page/history.js"].map((each) => import(each)));
  const place = document.createElement("div");
  render(historyView(events, "me", null), place);
  return [...place.querySelectorAll("li")].map((line) => line.querySelector("span").textContent);
}
"""
ERROR = {
    "code": "SNAPSHOT_FAILED",
    "message": "Compute Engine could not store the snapshot.",
    "operation_kind": "ARCHIVE",
    "at": NOW.isoformat(),
    "retryable": True,
}


def archiving(*, automatic: bool = False) -> dict[str, Any]:
    """Return an operation as the API has it: an archive that stores its snapshot."""
    restore = restoring(str(uuid.uuid4()))
    return {**restore, "kind": "ARCHIVE", "snapshot_id": None, "automatic": automatic}


def test_a_workspace_is_archived_and_started_again(alice: Person) -> None:
    """Before each it is said what is lost, what is kept and what a start does."""
    alice.has_suspended("api")
    alice.open_workspace("api")
    panel = alice.panel("api")
    archive = alice.button("Archive …", within=panel)
    archive.click()
    for text in (
        "Its home is kept as a snapshot; machine and disk are deleted.",
        "in the first zone with capacity. That takes longer",
        "What is in memory",
        "What is installed outside the home",
        "storing the snapshot",
    ):
        expect(alice.dialog).to_contain_text(text)
    alice.button("Cancel", within=alice.dialog).click()
    expect(archive).to_be_focused()
    archive.click()
    alice.dialog.get_by_label("Type its name").fill("api")
    alice.page.keyboard.press("Enter")
    expect(panel).to_contain_text(re.compile(r"archived since \d\d:\d\d"))
    expect(alice.row("api")).to_contain_text(re.compile(r"since \d\d:\d\d, home kept"))
    expect(archive).to_have_count(0)
    expect(panel.get_by_role("region", name=re.compile("^Last archive, "))).to_be_visible()
    history = panel.get_by_role("region", name="History")
    for text in ("you archived it", "Its home is a snapshot now", "archived after"):
        expect(history).to_contain_text(text)
    alice.button("Start", within=panel).click()
    expect(alice.dialog).to_contain_text("Disk and machine are made again")
    expect(alice.dialog).to_contain_text("What was in memory is gone.")
    alice.button("Start", within=alice.dialog).click()
    expect(panel).to_contain_text("ready")
    alice.settled("api", lambda now: now["status"] == "READY" and now["archived_at"] is None)
    expect(panel).not_to_contain_text("archived since")


def test_the_list_says_what_is_archived_and_when_something_will_be(alice: Person) -> None:
    """It has a word and a filter of its own; what is to come is marked, with how to prevent it."""
    alice.has_workspace("api")
    becomes(alice, **ARCHIVED)
    page = alice.open_workspace("api")
    since = re.compile(r"since (\w{3} )?\d\d:\d\d, home kept")
    expect(alice.row("api")).to_contain_text(since)
    expect(alice.row("api")).to_contain_text("archived")
    expect(alice.row("api")).not_to_contain_text("memory")
    only = alice.button("Archived 1")
    only.click()
    expect(alice.row("api")).to_be_visible()
    only.click()
    page.unroute("**/workspaces")
    at = (NOW + timedelta(days=2)).isoformat()
    entry = {
        "kind": "archive",
        "at": at,
        "since": ASLEEP["suspended_at"],
        "what": "it is archived: its home is kept as a snapshot, its memory is lost",
        "why": "it has been suspended, and nobody has started it",
        "unless": "somebody starts it",
    }
    becomes(alice, **{**ASLEEP, "archives_at": at, "outlook": [entry]})
    page.evaluate(LOOK)
    soon = alice.row("api").get_by_text(re.compile(r"^archived\s+on \w{3} \d\d:\d\d$"))
    expect(soon).to_have_css("color", "rgb(138, 92, 0)")
    following = alice.panel("api").get_by_role("region", name="What happens next")
    expect(following).to_contain_text("it is archived: its home is kept as a snapshot")
    expect(following).to_contain_text("unless somebody starts it")


def test_while_it_is_archived_row_and_panel_say_what_is_done(alice: Person) -> None:
    """No machine can be kept awake that is about to be deleted; a start calls it off."""
    alice.has_workspace("api")
    becomes(alice, **{**ASLEEP, "operation": archiving()})
    alice.open_workspace("api")
    for text in ("archiving", "storing the snapshot"):
        expect(alice.row("api")).to_contain_text(text)
    panel = alice.panel("api")
    expect(panel).to_contain_text("This starts it, and it is not archived.")
    expect(panel.get_by_role("region", name=re.compile("^This archive, so far"))).to_be_visible()
    expect(section(alice)).to_contain_text("None can be taken or restored while it is archiving.")
    for name in ("Archive …", "Keep awake until …"):
        expect(alice.button(name, within=panel)).to_have_count(0)
    for start in (alice.button("Start", within=panel), alice.button("Start api")):
        expect(start).to_be_enabled()


def test_a_start_is_offered_as_long_as_it_calls_an_archive_off(alice: Person) -> None:
    """Not once the disk goes, nor while a machine shuts down that its person wants archived."""
    phases = ("stop", "await_stopped", "await_absent", "await_stored", "delete_disk")
    operations = [
        {**archiving(automatic=each), "phase": phase} for each in (True, False) for phase in phases
    ]
    ask = """
    async (operations) => {
      const { yieldsToStart } = await import("page/words.js");
      return operations.map(yieldsToStart);
    }
    """
    said = alice.open().evaluate(ask, [*operations, None, {"kind": "STOP", "phase": "suspend"}])
    assert said == [*(True,) * 4, False, False, False, True, True, False, False, False]


def test_an_archived_home_is_a_snapshot_that_cannot_be_taken_or_restored(alice: Person) -> None:
    """Each button that waits says for what; a new workspace can be made from it."""
    alice.has_workspace("api")
    has(alice, made_up("READY", name="first"))
    becomes(alice, **ARCHIVED)
    alice.open_workspace("api")
    why = "Its home is a snapshot. Start it to take another, or to restore one."
    restore = alice.button("Restore first", within=section(alice))
    expect(restore).to_be_disabled()
    expect(restore).to_have_accessible_description(re.compile(re.escape(why)))
    expect(alice.button("Take a snapshot", within=section(alice))).to_be_disabled()
    fork = alice.button("New workspace from it: first", within=section(alice))
    expect(fork).to_be_enabled()


def test_the_snapshot_that_has_an_archived_home_is_not_deleted(alice: Person) -> None:
    """The Hub's own words are told."""
    asleep = alice.has_suspended("api")
    path = f"/workspaces/{asleep['id']}/archive"
    alice.api.request("POST", path).raise_for_status()
    alice.api.wait(asleep["id"], lambda now: now["archived_at"] is not None)
    alice.watch.expect_answer(409)
    alice.open_workspace("api")
    expect(item(alice, "unnamed")).to_contain_text("ready")
    section(alice).get_by_role("button", name=re.compile("^Delete unnamed")).click()
    alice.button("Delete", within=alice.dialog).click()
    expect(alice.dialog.get_by_role("alert")).to_contain_text("is archived")


@pytest.mark.parametrize(
    ("status", "ways"),
    [("SUSPENDED", ["Start", "Archive again …"]), ("READY", ["Archive again …"])],
)
def test_an_archive_that_failed_has_lost_nothing_and_says_so(
    alice: Person, status: str, ways: list[str]
) -> None:
    """Its ways out are a start, unless it runs, and another archive."""
    ready = alice.has_workspace("api")
    becomes(alice, **{**ASLEEP, "status": status, "error": ERROR})
    page = alice.open_workspace("api")
    told = alice.panel("api").get_by_role("region", name="Archiving failed: SNAPSHOT_FAILED")
    expect(told).to_contain_text("Nothing of its home is lost.")
    expect(told.get_by_role("button")).to_have_text(ways)
    expect(alice.row("api")).to_contain_text("archiving failed")
    with page.expect_request("**/archive?dry_run=true") as sent:
        alice.button("Archive again …", within=told).click()
    assert sent.value.url.endswith(f"/workspaces/{ready['id']}/archive?dry_run=true")


def test_an_administrator_archives_for_somebody_else(alice: Person, admin: Person) -> None:
    """Whose it is is said, and typed."""
    asleep = alice.has_suspended("api")
    admin.open(f"#/workspaces/{asleep['id']}")
    admin.button("Archive …", within=admin.panel("api")).click()
    expect(admin.dialog).to_contain_text(f"Archive api of {alice.email}?")
    admin.dialog.get_by_label("Type its name").fill(f"{alice.email}/api")
    admin.button("Archive", within=admin.dialog).click()
    expect(admin.panel("api")).to_contain_text("archived")
    alice.settled("api", lambda now: now["archived_at"] is not None)


def test_a_hub_that_cannot_archive_has_no_button_for_it(alice: Person, bob: Person) -> None:
    """Nor has a workspace that runs, of one that can."""
    alice.has_suspended("api")
    lacks(alice, "archive")
    bob.has_workspace("api")
    for person, other in ((alice, "Start"), (bob, "Stop")):
        person.open_workspace("api")
        expect(person.button(other, within=person.panel("api"))).to_be_visible()
        expect(person.button("Archive …")).to_have_count(0)


def test_the_history_tells_archives_and_moves_in_words(alice: Person) -> None:
    """Who asked for it, what came of it, and the Hub's notes with what they are about."""
    told = {
        ("me", "ArchiveRequested", "ACCEPTED"): "you archived it",
        ("me", "ArchiveConfirmed", "ACCEPTED"): "you archived it",
        ("cleanup", "ArchiveRequested", "ACCEPTED"): (
            "nobody started it for long enough: archived"
        ),
        ("hub", "ArchiveAnnounced", "It will be archived at 2026-03-03T08:00:00Z."): (
            "announced that it will be archived unless somebody starts it"
        ),
        ("hub", "WorkspaceArchived", "SUSPENDED"): "archived",
        ("hub", "AutomaticArchiveAbandoned", "SUSPENDED"): "in use again: not archived",
        ("hub", "ArchiveFailed", "SNAPSHOT_FAILED"): (
            "could not be archived, and its home is kept: SNAPSHOT_FAILED"
        ),
        ("hub", "MoveBegun", "Zone a has no capacity."): "move begun: Zone a has no capacity.",
        ("hub", "MemoryLost", "The workspace moved."): "memory lost: The workspace moved.",
    }
    events = [
        {"who": who, "what": what, "result": result, "times": 1, "at": NOW.isoformat()}
        for who, what, result in told
    ]
    assert alice.open().evaluate(RENDER, events) == list(told.values())
