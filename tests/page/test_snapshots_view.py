"""Snapshots in a workspace's panel: what there is, taking, deleting, and making a workspace."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Locator, Request, Route, expect

from localcloud.api_client import Workspace
from localcloud.running_cloud import RunningCloud
from tests.page.person import Person
from tests.page.shifts import WATCH_SHIFTS, shifts

LIST = re.compile(r"/workspaces/[^/]+/snapshots$")
NOW = datetime.now(UTC)
REPO = "https://github.com/example/api"
# What the dry run of a restore answers.
RESTORES: dict[str, Any] = {
    "dry_run": True,
    "decision": "begin",
    "kind": "RESTORE",
    "steps": ["stop", "snapshot", "await_snapshot", "await_stored", "await_absent", "await_ready"],
    "quota": {"workspaces": {"used": 1, "most": 5}, "running": {"used": 1, "most": 3}},
    "cost": None,
    "loses": [
        {"what": "memory", "why": "The home is restored: what runs on the machine ends."},
        {"what": "boot_disk", "why": "The home is restored: a new machine is made."},
    ],
}


def section(person: Person, name: str = "api") -> Locator:
    """Return the snapshots of a workspace in its panel."""
    return person.panel(name).get_by_role("region", name="Snapshots", exact=True)


def item(person: Person, text: str) -> Locator:
    """Return what the section says of one snapshot."""
    return section(person).get_by_role("listitem").filter(has_text=text)


def snapshots(person: Person, workspace_id: str) -> list[dict[str, Any]]:
    """Return a workspace's snapshots, by the API."""
    answer = person.api.request("GET", f"/workspaces/{workspace_id}/snapshots")
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()["snapshots"]
    return found


def take(person: Person, workspace: Workspace, name: str | None = None) -> str:
    """Have a snapshot taken, by the API, until it is READY; return its id."""
    path = f"/workspaces/{workspace['id']}/snapshots"
    answer = person.api.request("POST", path, json={"name": name} if name else {})
    answer.raise_for_status()
    snapshot_id = str(answer.json()["operation"]["id"])
    person.api.wait(workspace["id"], lambda _: is_ready(person, workspace["id"], snapshot_id))
    return snapshot_id


def is_ready(person: Person, workspace_id: str, snapshot_id: str) -> bool:
    """Say whether a snapshot can be used."""
    there = {each["id"]: each["state"] for each in snapshots(person, workspace_id)}
    return there.get(snapshot_id) == "READY"


def made_up(state: str, **fields: Any) -> dict[str, Any]:
    """Return a snapshot as the API has it, which need not be there."""
    at = (NOW - timedelta(hours=2)).isoformat()
    return {
        "id": str(uuid.uuid4()),
        "workspace_id": str(uuid.uuid4()),
        "name": None,
        "state": state,
        "automatic": False,
        "consistency": "crash",
        "asked_at": at,
        "captured_at": at,
        "ready_at": None,
        "disk_gb": 50,
        "stored_bytes": None,
        "zone": "us-west1-a",
        "machine_type": "e2-standard-4",
        "image_tag": "latest",
        "metadata": {"repo": None, "branch": None},
        "error": None,
        **fields,
    }


def has(person: Person, *listed: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Have the Hub answer with these snapshots; what is changed in the answer is answered then."""
    answer = {"snapshots": list(listed), "most": 5, "next_at": None, **fields}

    def fulfill(route: Route) -> None:
        if route.request.method == "GET":
            route.fulfill(json=answer)
        else:
            route.fallback()

    person.page.route(LIST, fulfill)
    return answer


def becomes(person: Person, **fields: Any) -> None:
    """Have the list of workspaces say this of each of them, from the next look on."""

    def fulfill(route: Route) -> None:
        headers = {**route.request.headers, "if-none-match": ""}
        listed = [{**each, **fields} for each in route.fetch(headers=headers).json()]
        route.fulfill(json=listed)

    person.page.route("**/workspaces", fulfill)


def restoring(snapshot_id: str, phase: str = "await_stored") -> dict[str, Any]:
    """Return an operation as the API has it: a restore of this snapshot."""
    at = NOW.isoformat()
    return {
        "id": str(uuid.uuid4()),
        "kind": "RESTORE",
        "phase": phase,
        "phase_since": at,
        "phases": [{"phase": "await_snapshot", "seconds": 4.0}],
        "requested_by": "somebody",
        "requested_at": at,
        "deadline_at": (NOW + timedelta(hours=1)).isoformat(),
        "automatic": False,
        "zones_tried": [],
        "snapshot_name": None,
        "snapshot_id": snapshot_id,
    }


def changes(request: Request) -> bool:
    """Say whether a request asks for a change of snapshots."""
    return "/snapshots" in request.url and request.method != "GET"


def test_a_snapshot_is_taken_with_a_name_and_can_be_used(alice: Person) -> None:
    """The form says what is not in it; the row goes on until it is ready, and the trail has it."""
    ready = alice.has_workspace("api")
    alice.open_workspace("api")
    expect(section(alice)).to_contain_text("None yet.")
    expect(section(alice)).to_contain_text("0 of 5")
    alice.button("Take a snapshot", within=section(alice)).click()
    expect(section(alice)).to_contain_text("Memory is never in it.")
    expect(section(alice)).to_contain_text("Its machine runs, so the snapshot is crash-consistent")
    section(alice).get_by_role("textbox", name="Name").fill("before-upgrade")
    alice.button("Take it", within=section(alice)).click()
    expect(item(alice, "before-upgrade")).to_contain_text("ready")
    expect(item(alice, "before-upgrade")).to_contain_text("crash-consistent")
    expect(section(alice)).to_contain_text("1 of 5")
    expect(alice.page.get_by_role("heading", name="Snapshots")).to_be_focused()
    [taken] = snapshots(alice, ready["id"])
    assert (taken["name"], taken["state"]) == ("before-upgrade", "READY")
    panel = alice.panel("api")
    expect(panel.get_by_role("region", name=re.compile("^Last snapshot, "))).to_be_visible()
    history = panel.get_by_role("region", name="History")
    for text in ("you asked for a snapshot of it", "its home is captured", "a snapshot is ready"):
        expect(history).to_contain_text(text)


def test_a_name_is_checked_while_one_types_and_nothing_is_sent(alice: Person) -> None:
    """Odd letters and another snapshot's name are told at the field; Cancel sends nothing."""
    take(alice, alice.has_workspace("api"), "first")
    alice.open_workspace("api")
    sent = []
    alice.page.on("request", lambda request: sent.append(request) if changes(request) else None)
    alice.button("Take a snapshot", within=section(alice)).click()
    name = section(alice).get_by_role("textbox", name="Name")
    for text, problem in (("a b", "must be 1 to 48"), ("first", "is that of another snapshot")):
        name.fill(text)
        expect(section(alice)).to_contain_text(problem)
        expect(name).to_have_attribute("aria-invalid", "true")
        alice.page.keyboard.press("Enter")
        expect(name).to_be_focused()
    alice.button("Cancel", within=section(alice)).click()
    expect(name).to_have_count(0)
    assert sent == []


def test_a_workspace_is_made_from_a_snapshot(alice: Person) -> None:
    """The form says from which; its machine and repository are the snapshot's, if nothing is said.

    Only the home's source is sent with the name.
    """
    fields = {"machine_type": "e2-standard-8", "metadata": {"repo": REPO, "branch": "v2"}}
    snapshot_id = take(alice, alice.has_workspace("api", **fields), "first")
    page = alice.open_workspace("api")
    alice.button("New workspace from it: first", within=section(alice)).click()
    source = alice.form.get_by_role("group", name="Where its home comes from")
    expect(source).to_contain_text("the snapshot first of api")
    expect(source).to_be_in_viewport()
    expect(alice.form.get_by_role("radio", name=re.compile("^e2-standard-8"))).to_be_checked()
    expect(alice.form).to_contain_text(f"the snapshot\N{RIGHT SINGLE QUOTATION MARK}s: {REPO}")
    expect(alice.form).to_contain_text(f"workspace fork api NAME --snapshot {snapshot_id}")
    expect(alice.form.get_by_label("Name")).to_be_focused()
    alice.form.get_by_label("Name").fill("api-2")
    expect(alice.form).to_contain_text("What you get")
    with page.expect_request(lambda request: is_create(request, dry_run=False)) as sent:
        alice.button("Create", within=alice.form).click()
    assert sent.value.post_data_json == {"name": "api-2", "from": {"snapshot_id": snapshot_id}}
    expect(alice.panel("api-2")).to_contain_text("ready")
    made = alice.settled("api-2", lambda now: now["status"] == "READY")
    assert made["machine_type"] == "e2-standard-8"
    assert (made["metadata"]["repo"], made["metadata"]["branch"]) == (REPO, "v2")


def test_the_command_that_makes_the_same_has_all_that_was_typed(alice: Person) -> None:
    """Also a repository and a branch that are not the snapshot's."""
    snapshot_id = take(alice, alice.has_workspace("api"), "first")
    alice.open_workspace("api")
    alice.button("New workspace from it: first", within=section(alice)).click()
    alice.form.get_by_label("Name").fill("api-2")
    alice.form.get_by_label("Repository").fill(REPO)
    alice.form.get_by_label("Branch").fill("v2")
    command = f"workspace fork api api-2 --snapshot {snapshot_id} --repo {REPO} --branch v2"
    expect(alice.form).to_contain_text(command)


def is_create(request: Request, *, dry_run: bool) -> bool:
    """Say whether a request makes a workspace, or asks what it would make."""
    path = "/workspaces?dry_run=true" if dry_run else "/workspaces"
    return request.method == "POST" and request.url.endswith(path)


def test_a_draft_survives_and_can_begin_with_an_empty_home_again(alice: Person) -> None:
    """What was typed before stays; the dry run asks for what is shown."""
    take(alice, alice.has_workspace("api"), "first")
    page = alice.open("#/new")
    alice.form.get_by_label("Name").fill("half-done")
    expect(alice.form).to_contain_text("What you get")
    alice.open_workspace("api")
    with page.expect_request(lambda request: is_create(request, dry_run=True)) as asked:
        alice.button("New workspace from it: first", within=section(alice)).click()
    assert "from" in (asked.value.post_data_json or {})
    expect(alice.form.get_by_label("Name")).to_have_value("half-done")
    with page.expect_request(lambda request: is_create(request, dry_run=True)) as asked:
        alice.button("Begin with an empty home", within=alice.form).click()
    assert "from" not in (asked.value.post_data_json or {})
    expect(alice.form.get_by_label("Name")).to_be_focused()
    expect(alice.form).not_to_contain_text("Its home begins as")
    expect(alice.form).to_contain_text("workspace create half-done")


def test_a_machine_that_is_not_offered_any_more_is_the_hub_s_default(alice: Person) -> None:
    """The form shows what the Hub would take: the snapshot's type and image may be gone by now."""
    alice.has_workspace("api")
    has(alice, made_up("READY", name="old", machine_type="n1-ultra", image_tag="<gone>"))
    alice.open_workspace("api")
    alice.button("New workspace from it: old", within=section(alice)).click()
    default = alice.api.request("GET", "/me").json()["choices"]["default_machine_type"]
    expect(alice.form.get_by_role("radio", name=re.compile(f"^{default}"))).to_be_checked()
    alice.form.get_by_text("Zone and image").click()
    expect(alice.form.get_by_label("Image")).not_to_have_value("<gone>")


def test_a_snapshot_is_deleted_after_a_question(alice: Person) -> None:
    """It says what is lost and what stays; nothing is typed, since home and memory stay."""
    ready = alice.has_workspace("api")
    take(alice, ready, "first")
    alice.open_workspace("api")
    delete = alice.button("Delete first", within=section(alice))
    delete.click()
    expect(alice.dialog).to_contain_text("The workspace api and its home stay.")
    expect(alice.dialog).to_contain_text("The home as of")
    expect(alice.button("Delete", within=alice.dialog)).to_be_focused()
    alice.button("Cancel", within=alice.dialog).click()
    expect(delete).to_be_focused()
    assert [each["state"] for each in snapshots(alice, ready["id"])] == ["READY"]
    delete.click()
    alice.page.keyboard.press("Enter")
    expect(alice.dialog).to_have_count(0)
    expect(alice.page.get_by_role("heading", name="Snapshots")).to_be_focused()
    expect(item(alice, "first")).to_have_count(0)
    expect(section(alice)).to_contain_text("None yet.")
    expect(section(alice).get_by_role("status")).to_contain_text("The snapshot first is gone.")
    assert snapshots(alice, ready["id"]) == []


def test_a_refused_deletion_is_told_and_can_be_pressed_again(alice: Person) -> None:
    """A workspace is being made from it: the dialog stays with the Hub's words."""
    ready = alice.has_workspace("api")
    take(alice, ready, "first")
    alice.watch.expect_answer(409)
    problem = {"code": "SNAPSHOT_IN_USE", "detail": "A workspace is being made from it."}
    alice.page.route(
        re.compile("/snapshots/"), lambda route: route.fulfill(status=409, json=problem), times=1
    )
    alice.open_workspace("api")
    alice.button("Delete first", within=section(alice)).click()
    alice.button("Delete", within=alice.dialog).click()
    expect(alice.dialog.get_by_role("alert")).to_contain_text("A workspace is being made from it.")
    alice.button("Delete", within=alice.dialog).click()
    expect(alice.dialog).to_have_count(0)
    expect(section(alice)).to_contain_text("None yet.")


def test_a_home_is_restored_and_what_was_in_it_is_kept(alice: Person) -> None:
    """The person types the name, since memory is lost; in the end there is another snapshot."""
    ready = alice.has_workspace("api")
    take(alice, ready, "first")
    alice.open_workspace("api")
    alice.button("Restore first", within=section(alice)).click()
    expect(alice.dialog).to_contain_text("What is in memory")
    restore = alice.button("Restore", within=alice.dialog)
    restore.click()
    expect(alice.dialog.get_by_label("Type its name")).to_be_focused()
    alice.page.keyboard.type("api")
    alice.page.keyboard.press("Enter")
    expect(alice.dialog).to_have_count(0)
    expect(alice.page.get_by_role("heading", name="api", level=2)).to_be_focused()
    expect(item(alice, "unnamed")).to_contain_text("automatic")
    panel = alice.panel("api")
    expect(panel.get_by_role("region", name=re.compile("^Last restore, "))).to_be_visible()
    expect(panel.get_by_role("region", name="History")).to_contain_text("you had its home restored")
    expect(alice.button("Restore first", within=section(alice))).to_be_enabled()
    assert alice.settled("api", lambda now: now["status"] == "READY")["generation"] > 1


def test_before_a_restore_it_is_said_what_is_lost_and_what_is_kept(alice: Person) -> None:
    """Also which snapshot goes for that of what is there now: never the one that is restored."""
    alice.has_workspace("api")
    older, newer = (made_up("READY", automatic=True, stored_bytes=each) for each in (2, 1))
    older["captured_at"] = (NOW - timedelta(days=30)).isoformat()
    listed = has(alice, *(made_up("READY", name=f"own-{each}") for each in "abc"), newer, older)
    asked: list[dict[str, Any]] = []

    def answer(route: Route) -> None:
        asked.append(route.request.post_data_json or {})
        route.fulfill(json=RESTORES)

    alice.page.route("**/restore?dry_run=true", answer)
    alice.open_workspace("api")
    alice.button("Restore own-a", within=section(alice)).click()
    expect(alice.dialog).to_contain_text("It becomes what the snapshot own-a, of ")
    expect(alice.dialog).to_contain_text("What is in it now is kept as a snapshot.")
    goes = re.compile(r"The oldest automatic one, of\s.*, is deleted for it", re.DOTALL)
    expect(alice.dialog).to_contain_text(goes)
    for text in ("What is in memory", "What is installed outside the home", "storing the snapshot"):
        expect(alice.dialog).to_contain_text(text)
    assert asked == [{"snapshot_id": listed["snapshots"][0]["id"], "dry_run": True}]
    alice.button("Cancel", within=alice.dialog).click()
    expect(alice.button("Restore own-a", within=section(alice))).to_be_focused()
    listed["snapshots"].pop(3)
    listed["most"] = 4
    tab = alice.new_tab()
    tab.route(LIST, lambda route: route.fulfill(json=listed))
    tab.route("**/restore?dry_run=true", answer)
    alice.open_workspace("api", tab)
    tab.get_by_role("button", name=re.compile("^Restore unnamed")).click()
    dialog = tab.get_by_role("dialog")
    expect(dialog).to_contain_text("What is in memory")
    expect(dialog).not_to_contain_text("The oldest automatic one")


def test_a_restore_that_is_refused_stays_the_question_of_a_restore(alice: Person) -> None:
    """Also if its name is another's by now: to give it another one is a start's."""
    alice.has_workspace("api")
    has(alice, made_up("READY", name="first"))
    alice.watch.expect_answer(409)
    problem = {"code": "NAME_TAKEN", "detail": "Start it under another name first."}
    refused = "**/restore?dry_run=true"
    alice.page.route(refused, lambda route: route.fulfill(status=409, json=problem))
    alice.open_workspace("api")
    alice.button("Restore first", within=section(alice)).click()
    expect(alice.dialog.get_by_role("alert")).to_contain_text("Start it under another name first.")
    expect(alice.dialog.get_by_role("textbox")).to_have_count(0)
    alice.page.unroute(refused)
    alice.page.route(refused, lambda route: route.fulfill(json=RESTORES))
    alice.button("Ask again", within=alice.dialog).click()
    expect(alice.dialog).to_contain_text("What is in memory")


def test_while_a_home_is_restored_nothing_else_of_it_can_be_asked_for(alice: Person) -> None:
    """Row and panel say what is done; each button that waits says why."""
    alice.has_workspace("api")
    source, other = made_up("READY", name="source"), made_up("READY", name="other")
    has(alice, source, other)
    becomes(alice, operation=restoring(source["id"]))
    alice.open_workspace("api")
    expect(alice.row("api")).to_contain_text("restoring")
    expect(alice.row("api")).to_contain_text("storing the snapshot")
    panel = alice.panel("api")
    expect(panel.get_by_role("region", name=re.compile("^This restore, so far"))).to_contain_text(
        "home captured"
    )
    expect(item(alice, "source")).to_contain_text("being restored")
    expect(item(alice, "other")).not_to_contain_text("being restored")
    for name in ("source", "other"):
        restore = alice.button(f"Restore {name}", within=section(alice))
        expect(restore).to_be_disabled()
        why = "None can be taken or restored while it is restoring."
        expect(restore).to_have_accessible_description(re.compile(re.escape(why)))
    expect(alice.button("Delete source", within=section(alice))).to_be_disabled()
    expect(alice.button("Delete other", within=section(alice))).to_be_enabled()


def test_while_a_snapshot_is_taken_none_can_be_restored(alice: Person) -> None:
    """The section says why."""
    alice.has_workspace("api")
    has(alice, made_up("READY", name="first"))
    becomes(alice, operation={**restoring("", "await_snapshot"), "kind": "SNAPSHOT"})
    alice.open_workspace("api")
    expect(alice.button("Restore first", within=section(alice))).to_be_disabled()
    expect(section(alice)).to_contain_text("None can be restored while one is being taken.")


def test_a_restore_that_failed_has_lost_nothing_and_says_so(alice: Person) -> None:
    """Its ways out are a start, and the snapshots; which other errors it can have is not asked."""
    alice.has_workspace("api")
    has(alice, made_up("READY", name="first"))
    error = {
        "code": "NO_CAPACITY",
        "message": "No zone has capacity.",
        "operation_kind": "RESTORE",
        "at": NOW.isoformat(),
        "retryable": True,
    }
    becomes(alice, operation=None, status="SUSPENDED", error=error)
    alice.open_workspace("api")
    told = alice.panel("api").get_by_role("region", name="Restoring failed: NO_CAPACITY")
    expect(told).to_contain_text("No zone has capacity.")
    expect(told).to_contain_text("Its home is what it was.")
    expect(alice.row("api")).to_contain_text("restoring failed")
    alice.button("To its snapshots", within=told).click()
    expect(alice.page.get_by_role("heading", name="Snapshots")).to_be_focused()
    with alice.page.expect_request("**/start?dry_run=true"):
        alice.button("Start", within=told).click()


def test_each_state_has_its_word_and_what_can_be_done(alice: Person) -> None:
    """Only one that is ready can be used; one that failed says why; a Hub's time is local."""
    alice.has_workspace("api")
    why = {"code": "SNAPSHOT_FAILED", "message": "Compute could not store it.", "retryable": False}
    has(
        alice,
        made_up("UPLOADING", name="fresh"),
        made_up("READY", automatic=True, consistency="clean", stored_bytes=5 * 1024**3),
        made_up("FAILED", name="bad", error=why),
        made_up("DELETING", name="old"),
        made_up("NEWER", name="odd"),
    )
    alice.open_workspace("api")
    for name, words in (
        ("fresh", ("uploading", "50 GB disk", "crash-consistent")),
        ("unnamed", ("ready", "automatic", "5.0 GB stored", "clean")),
        ("bad", ("failed", "Compute could not store it.")),
        ("old", ("being deleted",)),
        ("odd", ("newer",)),
    ):
        for word in words:
            expect(item(alice, name)).to_contain_text(word)
    expect(section(alice)).to_contain_text("Crash-consistent: as after a power failure")
    expect(section(alice)).to_contain_text("5 of 5")
    for button in ("New workspace from it", "Restore"):
        used = section(alice).get_by_role("button", name=re.compile(f"^{button}"))
        expect(used).to_have_count(1)
    expect(item(alice, "old").get_by_role("button")).to_have_count(0)
    expect(item(alice, "fresh").locator("time")).to_have_attribute("title", re.compile(" UTC$"))
    alice.button("Delete bad", within=section(alice)).click()
    expect(alice.dialog).to_contain_text("It can never be used")


def test_from_when_on_the_next_can_be_taken_counts_down(alice: Person) -> None:
    """Until then the button cannot be pressed; when it is over, nothing has to be asked again."""
    alice.has_workspace("api")
    asked_at: list[datetime] = []

    def answer(route: Route) -> None:
        asked_at.append(datetime.now(UTC))
        next_at = asked_at[0] + timedelta(seconds=9)
        route.fulfill(json={"snapshots": [], "most": 5, "next_at": next_at.isoformat()})

    alice.page.route(LIST, answer)
    alice.open_workspace("api")
    expect(section(alice)).to_contain_text(re.compile(r"The next one can be taken in \d s\."))
    expect(alice.button("Take a snapshot", within=section(alice))).to_be_disabled()
    expect(section(alice)).not_to_contain_text("The next one")
    expect(alice.button("Take a snapshot", within=section(alice))).to_be_enabled()
    assert len(asked_at) == 1


def test_when_there_are_as_many_as_may_be_the_oldest_automatic_one_goes(alice: Person) -> None:
    """The form says which; if people asked for all of them, one has to be deleted first."""
    alice.has_workspace("api")
    own = [made_up("READY", name=f"own-{number}") for number in range(4)]
    automatic = made_up("READY", automatic=True)
    listed = has(alice, *own, automatic)
    alice.open_workspace("api")
    expect(section(alice)).to_contain_text("5 of 5")
    alice.button("Take a snapshot", within=section(alice)).click()
    expect(section(alice)).to_contain_text("The oldest automatic one")
    alice.button("Cancel", within=section(alice)).click()
    listed["snapshots"] = [*own, {**automatic, "automatic": False}]
    tab = alice.new_tab()
    tab.route(LIST, lambda route: route.fulfill(json=listed))
    alice.open_workspace("api", tab)
    told = tab.get_by_role("region", name="Snapshots", exact=True)
    expect(told).to_contain_text("Delete one before you take another.")
    expect(alice.button("Take a snapshot", within=told)).to_be_disabled()


@pytest.mark.parametrize(
    ("status", "code"), [(429, "TOO_MANY_REQUESTS"), (403, "QUOTA_EXCEEDED"), (409, "NO_HOME")]
)
def test_a_refusal_is_told_in_the_form_and_what_was_typed_stays(
    alice: Person, status: int, code: str
) -> None:
    """The Hub's own words; a wait is counted down."""
    alice.has_workspace("api")
    alice.watch.expect_answer(status)
    problem = {"code": code, "detail": "It cannot be taken now."}

    def refuse(route: Route) -> None:
        if route.request.method != "POST":
            return route.fallback()
        return route.fulfill(status=status, json=problem, headers={"Retry-After": "300"})

    alice.page.route(LIST, refuse)
    alice.open_workspace("api")
    alice.button("Take a snapshot", within=section(alice)).click()
    section(alice).get_by_role("textbox", name="Name").fill("first")
    alice.button("Take it", within=section(alice)).click()
    expect(section(alice).get_by_role("alert")).to_contain_text("It cannot be taken now.")
    expect(section(alice).get_by_role("textbox", name="Name")).to_have_value("first")
    expect(section(alice)).to_contain_text(re.compile(r"Take it in \d+ min|Take it in \d+ s"))
    expect(alice.panel("api")).to_contain_text("ready")


def test_a_name_that_is_taken_elsewhere_meanwhile_is_told_at_its_field(alice: Person) -> None:
    """The page's list is older than the Hub's: its refusal is said where the name is."""
    ready = alice.has_workspace("api")
    take(alice, ready, "first")
    has(alice)
    alice.watch.expect_answer(409)
    alice.open_workspace("api")
    alice.button("Take a snapshot", within=section(alice)).click()
    name = section(alice).get_by_role("textbox", name="Name")
    name.fill("first")
    alice.button("Take it", within=section(alice)).click()
    expect(section(alice)).to_contain_text("is that of another snapshot of this workspace")
    expect(name).to_be_focused()


def test_a_list_that_cannot_be_read_is_told_and_read_again(alice: Person) -> None:
    """First it is being read; then why it cannot be, and a button; the rest of the panel stays."""
    alice.has_workspace("api")
    held: list[Route] = []
    alice.page.route(LIST, lambda route: held.append(route))  # noqa: PLW0108 -- it sets attributes
    alice.open_workspace("api")
    expect(section(alice)).to_contain_text("Reading them …")
    more(alice.page.wait_for_timeout, lambda: bool(held))
    alice.watch.expect_answer(503)
    problem = {"code": "UNAVAILABLE", "detail": "The database does not answer."}
    held[0].fulfill(status=503, json=problem, headers={"Retry-After": "300"})
    expect(section(alice).get_by_role("alert")).to_contain_text("The database does not answer.")
    expect(alice.panel("api").get_by_role("region", name="Connect")).to_be_visible()
    alice.page.unroute(LIST)
    alice.button("Read them again", within=section(alice)).click()
    expect(section(alice)).to_contain_text("None yet.")


def test_a_snapshot_that_fails_leaves_the_workspace_as_it_was(
    alice: Person, faults: RunningCloud
) -> None:
    """The panel says what is missing; the way out opens the form, and works."""
    alice.has_workspace("api")
    faults.fault("snapshot_quota_exceeded")
    alice.open_workspace("api")
    alice.button("Take a snapshot", within=section(alice)).click()
    alice.button("Take it", within=section(alice)).click()
    error = alice.panel("api").get_by_role("region", name=re.compile("^Taking a snapshot failed: "))
    expect(error).to_contain_text("The workspace is as it was")
    expect(alice.panel("api")).to_contain_text("ready")
    expect(alice.row("api")).to_contain_text("taking a snapshot failed")
    faults.clear_faults()
    alice.button("Take a snapshot again …", within=error).click()
    name = section(alice).get_by_role("textbox", name="Name")
    expect(name).to_be_focused()
    name.fill("second")
    alice.page.keyboard.press("Enter")
    expect(item(alice, "second")).to_contain_text("ready")
    expect(error).to_have_count(0)


def test_a_home_that_a_snapshot_has_not_found_has_its_own_ways_out(alice: Person) -> None:
    """Taking another one does not help: a start finds the home, or a snapshot has it."""
    error = {"code": "HOME_DISK_GONE", "operation_kind": "SNAPSHOT"}
    ask = """
    async (workspaces) => {
      const { waysOut } = await import("page/ways.js");
      const said = workspaces.map(waysOut);
      return said.map(({ advice, ways }) => [advice, ways.map((way) => way.act)]);
    }
    """
    statuses = ("SUSPENDED", "ERROR", "READY")
    said = alice.open().evaluate(ask, [{"status": each, "error": error} for each in statuses])
    assert all("from one of its snapshots" in advice for advice, _ in said)
    found = ["start", "snapshots", "empty_home"]
    assert [ways for _, ways in said] == [found, found, []]


def test_a_snapshot_that_is_being_taken_changes_nothing_else(
    alice: Person, faults: RunningCloud
) -> None:
    """Row and panel say what is done now; the workspace stays ready, and nothing can be pressed."""
    alice.has_workspace("api")
    faults.fault("slow_operation")
    alice.open_workspace("api")
    following = alice.panel("api").get_by_role("region", name="What happens next")
    expect(following).to_contain_text("suspended")
    alice.button("Take a snapshot", within=section(alice)).click()
    alice.button("Take it", within=section(alice)).click()
    expect(item(alice, "unnamed")).to_contain_text("being taken")
    expect(item(alice, "unnamed")).to_contain_text("given up at")
    expect(alice.row("api")).to_contain_text("capturing the home")
    expect(alice.row("api")).to_contain_text("ready")
    expect(alice.button("Connect api")).to_be_enabled()
    expect(following).to_contain_text("suspended")
    panel = alice.panel("api")
    expect(panel.get_by_role("region", name=re.compile("^This snapshot, so far"))).to_be_visible()
    expect(alice.button("Stop", within=panel)).to_be_disabled()
    expect(alice.button("Stop", within=panel)).to_be_enabled()
    expect(item(alice, "unnamed")).to_have_count(1)


def test_an_administrator_takes_and_deletes_but_uses_none(alice: Person, admin: Person) -> None:
    """Content is its owner's: no button is there; whose it is is said before a deletion."""
    ready = alice.has_workspace("api")
    take(alice, ready, "first")
    admin.open(f"#/workspaces/{ready['id']}")
    expect(item(admin, "first")).to_contain_text("ready")
    used = section(admin).get_by_role("button", name=re.compile("^(New workspace|Restore)"))
    expect(used).to_have_count(0)
    admin.button("Take a snapshot", within=section(admin)).click()
    admin.button("Take it", within=section(admin)).click()
    expect(item(admin, "unnamed")).to_contain_text("ready")
    admin.button("Delete first", within=section(admin)).click()
    expect(admin.dialog).to_contain_text(f"api of {alice.email}")
    admin.button("Delete", within=admin.dialog).click()
    expect(item(admin, "first")).to_have_count(0)
    assert [each["name"] for each in snapshots(alice, ready["id"])] == [None]


def test_a_stranger_sees_and_asks_nothing(alice: Person, bob: Person) -> None:
    """At the address of somebody else's workspace there is none, and no snapshots are asked for."""
    ready = alice.has_workspace("api")
    bob.watch.expect_answer(404)
    bob.open(f"#/workspaces/{ready['id']}")
    expect(bob.page.get_by_role("heading", name="No such workspace")).to_be_visible()
    assert reads_of(bob) == 0


def lacks(person: Person, feature: str) -> None:
    """Have the Hub be one without this feature."""

    def older(route: Route) -> None:
        answer = route.fetch()
        described = answer.json()
        described["features"].remove(feature)
        route.fulfill(response=answer, json=described)

    person.watch.context.route("**/sign-in", older)


def test_a_hub_that_cannot_restore_has_no_button_for_it(alice: Person) -> None:
    """All else of snapshots is there."""
    alice.has_workspace("api")
    has(alice, made_up("READY", name="first"))
    lacks(alice, "restore")
    alice.open_workspace("api")
    expect(alice.button("New workspace from it: first", within=section(alice))).to_be_visible()
    expect(alice.button("Restore first", within=section(alice))).to_have_count(0)


def test_a_hub_without_snapshots_is_not_asked_for_any(alice: Person) -> None:
    """Nothing of them is shown."""
    alice.has_workspace("api")
    lacks(alice, "snapshots")
    alice.open_workspace("api")
    expect(alice.panel("api").get_by_role("region", name="Details")).to_contain_text("Compute says")
    expect(section(alice)).to_have_count(0)
    assert reads_of(alice) == 0


def test_it_is_read_often_only_while_something_goes_on(alice: Person) -> None:
    """An upload is looked at again and again; ready snapshots and a closed panel are not."""
    alice.has_workspace("api")
    uploading = made_up("UPLOADING", name="first")
    listed = has(alice, uploading)
    page = alice.open_workspace("api")
    expect(item(alice, "first")).to_contain_text("uploading")
    expect(alice.panel("api").get_by_role("region", name="Details")).to_contain_text("Compute says")
    expect(alice.panel("api").get_by_role("region", name="History")).to_contain_text("you asked")
    page.evaluate(WATCH_SHIFTS)
    reads = reads_of(alice)
    more(page.wait_for_timeout, lambda: reads_of(alice) >= reads + 2)
    assert shifts(page) == []
    listed["snapshots"] = [{**uploading, "state": "READY"}]
    expect(item(alice, "first")).to_contain_text("ready")
    expect(section(alice).get_by_role("status")).to_have_text("The snapshot first is ready.")
    reads = reads_of(alice)
    page.wait_for_timeout(5_000)
    assert reads_of(alice) == reads
    listed["snapshots"] = [uploading]
    page.get_by_role("link", name="Close").click()
    page.wait_for_timeout(5_000)
    assert reads_of(alice) == reads


def test_a_panel_that_is_opened_reads_its_snapshots_at_once(alice: Person) -> None:
    """The page's clock stands still, so it does not wait for the next round."""
    alice.has_workspace("api")
    page = alice.page
    page.clock.install()
    alice.open()
    expect(alice.row("api")).to_be_visible()
    page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))
    alice.row("api").get_by_role("link", name="api").click()
    expect(section(alice)).to_contain_text("None yet.")


def reads_of(person: Person) -> int:
    """Return how often the page has read snapshots."""
    return sum(each.endswith("/snapshots") for each in person.watch.requests)


def more(wait: Callable[[float], None], until: Callable[[], bool]) -> None:
    """Wait until something is so."""
    for _ in range(600):
        if until():
            return
        wait(100)
    raise AssertionError


def test_what_has_not_changed_is_not_sent_again(alice: Person) -> None:
    """The second read has the first one's ETag, and is answered 304."""
    take(alice, alice.has_workspace("api"), "first")
    page = alice.open_workspace("api")
    expect(item(alice, "first")).to_contain_text("ready")
    with page.expect_response(lambda answer: answer.url.endswith("/snapshots")) as again:
        page.clock.install()
        page.clock.fast_forward(25_000)
    assert again.value.status == 304
