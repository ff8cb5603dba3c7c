"""A workspace that moves to another zone, and a home that grows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Request, expect

from localcloud.running_cloud import RunningCloud
from tests.page.person import Person
from tests.page.test_every_button import error_of
from tests.page.test_snapshots_view import becomes

WAYS = """
async (workspaces) => {
  const { waysOut } = await import("page/ways.js");
  const said = workspaces.map(waysOut);
  return said.map(({ advice, ways }) => [advice, ways.map((way) => way.act)]);
}
"""


def is_start(body: dict[str, Any]) -> Callable[[Request], bool]:
    """Return what says whether a request is a start that asks for this."""
    return lambda request: request.url.endswith("/start") and request.post_data_json == body


def test_a_workspace_whose_zone_has_no_capacity_moves_if_its_owner_wants(
    alice: Person, faults: RunningCloud
) -> None:
    """The dialog says that memory is lost, which no dry run knows; then it runs elsewhere."""
    asleep = alice.has_suspended("api")
    faults.fault("stock_out", zone=asleep["zone"])
    alice.api.start(asleep["id"])
    alice.settled("api", lambda now: now["error"] is not None)
    page = alice.open_workspace("api")
    error = error_of(alice, "NO_CAPACITY")
    expect(error).to_contain_text("its home goes along, its memory does not")
    alice.button("Move to another zone …", within=error).click()
    expect(alice.dialog).to_contain_text("Move api to another zone?")
    for text in (
        "If its zone has capacity again, it starts there.",
        "What is in memory. Unless it starts where it is.",
        "What is installed outside the home",
        "storing the snapshot",
    ):
        expect(alice.dialog).to_contain_text(text)
    alice.dialog.get_by_label("Type its name").fill("api")
    with page.expect_request(is_start({"may_move": True})):
        alice.button("Move", within=alice.dialog).click()
    panel = alice.panel("api")
    expect(panel).to_contain_text("ready")
    moved = alice.settled("api", lambda now: now["status"] == "READY")
    assert moved["zone"] != asleep["zone"]
    expect(panel.get_by_role("region", name="Details")).to_contain_text(moved["zone"])
    expect(panel.get_by_role("region", name="History")).to_contain_text("move begun: Zone")


def test_a_move_loses_no_memory_where_there_is_none(alice: Person) -> None:
    """Of a machine that is off only what is outside the home is lost, so nothing is typed."""
    error = {"code": "NO_CAPACITY", "message": "None.", "operation_kind": "START", "at": None}
    alice.has_suspended("api")
    becomes(alice, memory_kept=False, error=error)
    alice.open_workspace("api")
    alice.button("Move to another zone …", within=error_of(alice, "NO_CAPACITY")).click()
    expect(alice.dialog).to_contain_text("What is installed outside the home")
    expect(alice.dialog).not_to_contain_text("What is in memory")
    expect(alice.dialog.get_by_role("textbox")).to_have_count(0)
    expect(alice.button("Move", within=alice.dialog)).to_be_enabled()


def test_only_what_has_a_home_in_a_zone_is_offered_to_move(alice: Person) -> None:
    """A new workspace, and a start of one that is archived, try all zones anyway."""
    error = {"code": "NO_CAPACITY", "operation_kind": "START"}
    asleep = {"status": "SUSPENDED", "error": error}
    archived = {**asleep, "archived_at": "2026-03-03T08:00:00Z"}
    said = alice.open().evaluate(WAYS, [asleep, archived, {"status": "ERROR", "error": error}])
    everywhere = ["start", "change"]
    assert [ways for _, ways in said] == [["start", "move", "rebuild"], everywhere, everywhere]


def size(person: Person) -> Locator:
    """Return the dialog's field of how large the home is to be."""
    return person.dialog.get_by_role("textbox", name="Size in GB")


def test_a_home_grows_and_only_grows(alice: Person) -> None:
    """What the Hub says of a size is told at its field; the machine is a new one, and says so."""
    ready = alice.has_workspace("api")
    before = ready["home_disk_gb"]
    most = alice.api.request("GET", "/me").json()["limits"]["home_disk_most_gb"]
    page = alice.open_workspace("api")
    details = alice.panel("api").get_by_role("region", name="Details")
    expect(details).to_contain_text(f"{before} GB")
    alice.button("Make the home larger", within=details).click()
    expect(size(alice)).to_be_focused()
    expect(size(alice)).to_have_value(str(before))
    expect(size(alice)).to_have_accessible_description(f"It can only grow, to {most} GB at most.")
    expect(alice.dialog).to_contain_text("Choose a larger size.")
    grow = alice.button("Make larger", within=alice.dialog)
    expect(grow).to_be_disabled()
    alice.watch.expect_answer(400)
    for text, problem in (
        (str(before - 1), f"is too small; the home has {before} GB, and can only grow."),
        (str(most + 1), f"is too large; a home may have {most} GB at most."),
        ("1e2", "must be a whole number"),
        ("", "must be a whole number"),
    ):
        size(alice).fill(text)
        expect(alice.dialog).to_contain_text(f"Size in GB {problem}")
        expect(size(alice)).to_have_attribute("aria-invalid", "true")
        expect(alice.dialog.get_by_role("alert")).to_have_count(0)
    size(alice).fill(str(before + 10))
    for text in ("What is in memory", "which cannot be made smaller again.", "enlarging the disk"):
        expect(alice.dialog).to_contain_text(text)
    expect(size(alice)).to_be_focused()
    alice.dialog.get_by_label("Type its name").fill("api")
    with page.expect_request(is_start({"home_disk_gb": before + 10})):
        grow.click()
    expect(alice.dialog).to_have_count(0)
    alice.settled("api", lambda now: now["home_disk_gb"] == before + 10)
    expect(details).to_contain_text(f"{before + 10} GB")
    expect(alice.panel("api")).to_contain_text("ready")


@pytest.mark.parametrize("size", [None, 50])
def test_a_home_whose_size_is_not_known_can_be_made_larger_too(
    alice: Person, size: int | None
) -> None:
    """What is shown is not asked for before the person has chosen."""
    alice.has_workspace("api")
    becomes(alice, home_disk_gb=size)
    alice.open_workspace("api")
    details = alice.panel("api").get_by_role("region", name="Details")
    alice.button("Make the home larger", within=details).click()
    expect(alice.dialog.get_by_role("textbox")).to_have_value("" if size is None else "50")
    expect(alice.dialog).to_contain_text("Choose a larger size.")


def test_a_full_home_is_offered_to_be_made_larger(alice: Person) -> None:
    """That comes first: nothing would be otherwise the next time."""
    error = {"code": "DISK_FULL", "operation_kind": "START"}
    said = alice.open().evaluate(WAYS, [{"status": "ERROR", "error": error}])
    assert said == [["Make its home larger: its file system grows at boot.", ["grow", "start"]]]
    assert re.search("grow", str(said))
