"""Deleted workspaces: until when they can be taken back, where they are listed, and taking one."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.sync_api import Locator, Route, expect

from localcloud.api_client import Workspace
from tests.page.person import Person
from tests.page.test_snapshots_view import becomes, lacks, take

LIST = "**/deleted-workspaces"
LOOK = 'document.dispatchEvent(new Event("visibilitychange"))'  # asks at once
NOW = datetime.now(UTC)
UNTIL = (NOW + timedelta(days=7)).isoformat()
DELETE = {
    "id": str(uuid.uuid4()),
    "kind": "DELETE",
    "phase": "await_stored",
    "requested_at": NOW.isoformat(),
    "deadline_at": (NOW + timedelta(hours=1)).isoformat(),
}


def made_up(name: str, **fields: Any) -> dict[str, Any]:
    """Return a deleted workspace as the API has it, which need not be there."""
    return {
        "id": str(uuid.uuid4()),
        "name": name,
        "owner_id": "somebody",
        "owner_email": "somebody@example.com",
        "deleted_at": (NOW - timedelta(hours=2)).isoformat(),
        "deleted_by": "somebody",
        "automatic": False,
        "until": UNTIL,
        "machine_type": "e2-standard-4",
        "image_tag": "latest",
        "metadata": {},
        "snapshots": 1,
        "disk_gb": 50,
        **fields,
    }


def has(person: Person, *deleted: dict[str, Any]) -> None:
    """Have the Hub answer with these deleted workspaces."""
    answer = {"deleted_workspaces": list(deleted)}
    person.page.route(LIST, lambda route: route.fulfill(json=answer))


def view(person: Person) -> Locator:
    """Return what the page shows of deleted workspaces."""
    return person.page.get_by_role("region", name="Deleted workspaces")


def item(person: Person, name: str) -> Locator:
    """Return what it says of one of them."""
    return view(person).get_by_role("listitem").filter(has_text=name)


def delete(person: Person) -> None:
    """Delete ``api`` by its panel's dialog, which is open."""
    person.dialog.get_by_label("Type its name").fill("api")
    person.button("Delete", within=person.dialog).click()


def expect_archived(person: Person, was: Workspace) -> None:
    """Check that ``api`` is back, archived, in its panel."""
    expect(person.panel("api")).to_contain_text("archived since")
    now = person.settled("api", lambda now: now["status"] == "SUSPENDED")
    assert now["id"] == was["id"]


def test_a_workspace_is_deleted_and_taken_back_at_once(alice: Person) -> None:
    """The dialog says until when, and so does the panel, with the button that takes it back."""
    ready = alice.has_workspace("api")
    alice.watch.expect_answer(404)  # it is gone
    page = alice.open_workspace("api")
    alice.button("Delete …", within=alice.panel("api")).click()
    until = re.compile(r"You can take it back until \S+")
    expect(alice.dialog).to_contain_text(until)
    expect(alice.dialog).to_contain_text("What is in memory")
    expect(alice.dialog).not_to_contain_text("The home, with every file in it")
    delete(alice)
    alice.api.wait_until_gone(ready["id"])
    expect(page.get_by_text("It has been deleted.")).to_be_visible()
    expect(alice.panel("api")).to_contain_text(until)
    alice.button("Undelete …", within=alice.panel("api")).click()
    expect(alice.dialog).to_contain_text("It comes back archived, with its home")
    expect(alice.button("Undelete", within=alice.dialog)).to_be_focused()
    page.keyboard.press("Enter")
    expect_archived(alice, ready)
    history = alice.panel("api").get_by_role("region", name="History")
    expect(history).to_contain_text("you took it back")


def test_a_deletion_elsewhere_leads_to_what_can_be_taken_back(alice: Person) -> None:
    """A message has the link, and so has the list, also an empty one; Back leads there again."""
    ready = alice.has_workspace("api")
    page = alice.open()
    becomes(alice, operation=DELETE, undelete_until=UNTIL)
    page.evaluate(LOOK)
    expect(alice.row("api")).to_contain_text("deleting")
    alice.api.delete(ready["id"])
    alice.api.wait_until_gone(ready["id"])
    message = page.get_by_role("region", name="Notices").filter(has_text="api is deleted.")
    link = message.get_by_role("link", name="Undelete")
    expect(link).to_have_attribute("href", "#/deleted")
    page.unroute("**/workspaces")
    page.get_by_role("link", name="Deleted workspaces").click()
    expect(page).to_have_title("Deleted workspaces · Workspaces")
    expect(page.get_by_role("heading", name="Deleted workspaces")).to_be_focused()
    expect(item(alice, "api")).to_contain_text("ago")
    expect(item(alice, "api")).to_contain_text("snapshots: 1")
    page.keyboard.press("Escape")
    expect(view(alice)).to_have_count(0)
    expect(page.get_by_role("link", name="Deleted workspaces")).to_be_focused()
    page.go_back()
    alice.button("Undelete api").click()
    alice.button("Cancel", within=alice.dialog).click()
    expect(alice.button("Undelete api")).to_be_focused()
    alice.button("Undelete api").click()
    alice.button("Undelete", within=alice.dialog).click()
    expect_archived(alice, ready)
    page.go_back()
    expect(view(alice)).to_contain_text("None.")


def test_a_name_that_is_another_s_by_now_is_given_anew(alice: Person) -> None:
    """The dialog asks for one, checks it, and goes on from there."""
    first = alice.has_workspace("api")
    alice.api.delete(first["id"])
    alice.api.wait_until_gone(first["id"])
    alice.has_workspace("api")
    alice.watch.expect_answer(409)
    alice.open("#/deleted")
    alice.button("Undelete api").click()
    alice.button("Undelete", within=alice.dialog).click()
    name = alice.dialog.get_by_label("New name")
    expect(name).to_be_focused()
    name.fill("a b")
    expect(alice.dialog).to_contain_text("must be 1 to 48")
    name.fill("api-2")
    alice.page.keyboard.press("Enter")
    expect(alice.panel("api-2")).to_contain_text("archived")
    assert alice.id_of("api-2") == first["id"]


def test_each_says_who_deleted_it_and_until_when_it_stays(alice: Person) -> None:
    """A name is only text; a reload keeps the view, which is in the address."""
    has(
        alice,
        made_up("mine", snapshots=3),
        made_up("old", automatic=True, deleted_by="cleanup"),
        made_up("<b>theirs</b>", deleted_by="an-administrator"),
    )
    page = alice.open("#/deleted")
    page.reload()
    for name, words in (
        ("mine", ("Deleted 2 h ago", "snapshots: 3", "50 GB disk", "e2-standard-4", "until ")),
        ("old", ("since nobody started it",)),
        ("<b>theirs</b>", ("by an administrator",)),
    ):
        for word in words:
            expect(item(alice, name)).to_contain_text(word)
    expect(item(alice, "mine")).not_to_contain_text("by an administrator")


def test_a_list_that_cannot_be_read_is_told_and_read_again(alice: Person) -> None:
    """First it is being read; then why it cannot be, and for how long; then it is there."""
    held: list[Route] = []
    alice.page.route(LIST, lambda route: held.append(route))  # noqa: PLW0108 -- it sets attributes
    page = alice.open("#/deleted")
    expect(view(alice)).to_contain_text("Reading them …")
    alice.watch.expect_answer(503)
    has(alice, made_up("api"))
    problem = {"code": "UNAVAILABLE", "detail": "The database does not answer."}
    held[0].fulfill(status=503, json=problem, headers={"Retry-After": "2"})
    expect(view(alice).get_by_role("alert")).to_contain_text("The database does not answer.")
    expect(view(alice).get_by_role("alert")).to_contain_text("Try again in")
    page.wait_for_timeout(2_000)  # which the Hub has asked for
    page.evaluate(LOOK)
    expect(item(alice, "api")).to_be_visible()
    expect(view(alice).get_by_role("alert")).to_have_count(0)


def test_a_refusal_is_told_where_it_was_asked(alice: Person) -> None:
    """It can be pressed again."""
    deleted = made_up("api")
    has(alice, deleted)
    alice.watch.expect_answer(403)
    problem = {"code": "QUOTA_EXCEEDED", "detail": "You have 5 of 5 workspaces."}
    alice.page.route("**/undelete", lambda route: route.fulfill(status=403, json=problem))
    alice.open("#/deleted")
    alice.button("Undelete api").click()
    alice.button("Undelete", within=alice.dialog).click()
    expect(alice.dialog.get_by_role("alert")).to_contain_text("You have 5 of 5 workspaces.")
    with alice.page.expect_request("**/undelete") as sent:
        alice.button("Undelete", within=alice.dialog).click()
    assert sent.value.url.endswith(f"/workspaces/{deleted['id']}/undelete")


def test_a_workspace_without_a_last_copy_can_be_deleted_for_good(alice: Person) -> None:
    """It is a way out of its error; the dialog says that nothing brings it back, or a snapshot."""
    ready = alice.has_workspace("api")
    take(alice, ready)
    error = {
        "code": "LAST_COPY_NOT_MADE",
        "message": "The home was not deleted.",
        "operation_kind": "DELETE",
        "at": NOW.isoformat(),
        "retryable": True,
    }
    becomes(alice, operation=None, status="ERROR", error=error)
    page = alice.open_workspace("api")
    told = alice.panel("api").get_by_role("region", name="Deleting failed: LAST_COPY_NOT_MADE")
    expect(told.get_by_role("button")).to_have_text(
        ["Delete again …", "Delete for good …", "Keep it: start"]
    )
    alice.button("Delete for good …", within=told).click()
    expect(alice.dialog).to_contain_text("Nothing brings it back.")
    for text in ("The home, with every file in it", "The snapshots of the home"):
        expect(alice.dialog).to_contain_text(text)
    alice.dialog.get_by_label("Type its name").fill("api")
    with page.expect_request(lambda request: request.method == "DELETE") as sent:
        alice.button("Delete for good", within=alice.dialog).click()
    assert sent.value.url.endswith(f"/workspaces/{ready['id']}?purge=true")
    page.unroute("**/workspaces")
    alice.watch.expect_answer(404)  # it is gone
    alice.api.wait_until_gone(ready["id"])
    alice.open("#/deleted")
    expect(view(alice)).to_contain_text("None.")


def test_an_administrator_takes_back_what_they_have_deleted(alice: Person, admin: Person) -> None:
    """Whose it is is said; the owner has it again."""
    ready = alice.has_workspace("api")
    admin.watch.expect_answer(404)  # it is gone
    admin.open(f"#/workspaces/{ready['id']}")
    admin.button("Delete …", within=admin.panel("api")).click()
    admin.dialog.get_by_label("Type its name").fill(f"{alice.email}/api")
    admin.button("Delete", within=admin.dialog).click()
    admin.api.wait_until_gone(ready["id"])
    admin.button("Undelete …", within=admin.panel("api")).click()
    expect(admin.dialog).to_contain_text(f"Undelete api of {alice.email}?")
    admin.button("Undelete", within=admin.dialog).click()
    expect(admin.panel("api")).to_contain_text("archived")
    assert alice.id_of("api") == ready["id"]


def test_a_hub_that_takes_nothing_back_has_no_such_view(alice: Person) -> None:
    """Its address is the list's, and nothing is asked for."""
    alice.has_workspace("api")
    lacks(alice, "undelete")
    page = alice.open("#/deleted")
    expect(alice.row("api")).to_be_visible()
    expect(view(alice)).to_have_count(0)
    expect(page.get_by_role("link", name="Deleted workspaces")).to_have_count(0)
    assert not any("deleted-workspaces" in each for each in alice.watch.requests)
