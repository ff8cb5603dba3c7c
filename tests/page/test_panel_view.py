"""One workspace: how to connect, what happens next, what took how long, and every button."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.sync_api import expect

from localcloud.running_cloud import RunningCloud
from tests.page.person import Person
from tests.page.test_every_button import fail_to_delete

# Renders what happens next, and how to connect, for workspaces that need not be there.
RENDER = """
async (workspaces) => {
  const [{ render }, { app }, { outlookView }, { connectView }] = await Promise.all(
    ["lit", "page/app.js", "page/outlook.js", "page/connect.js"].map((each) => import(each)));
  const shown = (view) => {
    const place = document.createElement("div");
    render(view, place);
    return place;
  };
  const text = (element) => element.textContent.replace(/\\s+/g, " ").trim();
  return workspaces.map((workspace) => ({
    next: [...shown(outlookView(app, workspace, {})).querySelectorAll("li")].map((entry) => ({
      isMarked: entry.matches(".is-near"), text: text(entry) })),
    connect: text(shown(connectView(app, workspace, null, true))),
  }));
}
"""


def rendered(person: Person, *workspaces: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the panel says of workspaces."""
    found: list[dict[str, Any]] = person.open().evaluate(RENDER, list(workspaces))
    return found


def test_what_is_near_is_marked_and_reasons_are_whole_sentences(alice: Person) -> None:
    """Since when and unless what go on with the reason; what is a month ahead is not marked."""
    now = datetime.now(UTC)
    entry = {"kind": "delete", "what": "it is deleted", "why": "nobody has started it"}
    since = (now - timedelta(days=60)).isoformat()
    far = {**entry, "at": (now + timedelta(days=30)).isoformat(), "since": since}
    far["unless"] = "somebody starts it"
    near = {**entry, "at": (now + timedelta(hours=1)).isoformat(), "since": None, "unless": None}
    asleep = {"id": "1", "name": "api", "status": "SUSPENDED"}
    both = ({**asleep, "outlook": [each]} for each in (far, near))
    [first], [other] = (each["next"] for each in rendered(alice, *both))
    assert (first["isMarked"], other["isMarked"]) == (False, True)
    assert re.search(
        r"Nobody has started it since \w+ \d+(, \d+)?, unless somebody starts it\.$", first["text"]
    )
    assert other["text"].endswith(" Nobody has started it.")


def test_a_command_that_has_to_wait_says_for_what(alice: Person) -> None:
    """In a person's words, whatever is under way."""
    busy = {"id": "1", "name": "api", "status": "PROVISIONING", "outlook": []}
    kinds = ("CREATE", "STOP", "START", "ARCHIVE")
    create, stop, start, archive = rendered(
        alice, *({**busy, "operation": {"kind": kind, "phase": "delete_disk"}} for kind in kinds)
    )
    assert "This waits until it is ready." in create["connect"]
    assert "This waits until it is ready." in start["connect"]
    assert "This waits until it is asleep, and starts it then." in stop["connect"]
    assert "This waits until it is archived, and starts it then." in archive["connect"]


def test_the_panel_says_how_to_connect_and_copies_it(alice: Person) -> None:
    """The command, the ssh host, a link for VS Code, and the line to paste; a button copies."""
    ready = alice.has_workspace("api")
    alice.watch.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = alice.open_workspace("api")
    panel = alice.panel("api")
    connect = panel.get_by_role("region", name="Connect")
    expect(connect).to_contain_text("ssh workspace.api")
    link = connect.get_by_role("link", name="VS Code")
    expect(link).to_have_attribute(
        "href", "vscode://vscode-remote/ssh-remote+workspace.api/home/workspace"
    )
    connect.get_by_text("Set up once, other ways").click()
    line = alice.api.status(ready["id"])["connection"]["command"]
    for what, text in (("the command", "workspace ssh api"), ("the whole line", line)):
        alice.button(f"Copy {what}", within=connect).click()
        expect(page.get_by_text("Copied.").first).to_be_visible()
        assert page.evaluate("() => navigator.clipboard.readText()") == text


def test_the_outlook_is_the_api_s_and_keeping_awake_is_taken_back(alice: Person) -> None:
    """What happens next is told; hours more move it; what was asked for can be taken back."""
    ready = alice.has_workspace("api")
    page = alice.open_workspace("api")
    following = alice.panel("api").get_by_role("region", name="What happens next")
    for entry in ready["outlook"]:
        expect(following).to_contain_text(entry["what"])
    before = stops_at(alice)
    alice.button("Keep awake until …", within=following).click()
    alice.button("4 h", within=following).or_(alice.button("4 hours", within=following)).click()
    expect(following).to_contain_text("You keep it awake until")
    assert stops_at(alice) > before
    alice.button("Another time …", within=following).click()
    most = alice.api.request("GET", "/me").json()["limits"]["keep_awake_most_seconds"]
    alice.button(f"{most // 3600} h, the most", within=following).click()
    expect(alice.button("Another time …", within=following)).to_have_attribute(
        "aria-expanded", "false"
    )
    kept = datetime.fromisoformat(alice.api.status(ready["id"])["kept_awake_until"])
    assert timedelta(seconds=most - 300) < kept - datetime.now(UTC) <= timedelta(seconds=most)
    alice.button("Take back", within=following).click()
    expect(following).not_to_contain_text("You keep it awake until")
    assert alice.api.status(ready["id"])["kept_awake_until"] is None

    alice.button("Keep awake until …", within=following).click()
    page.get_by_label("or until").fill("2020-01-01T00:00")
    alice.watch.expect_answer(400)
    alice.button("Keep awake", within=following).click()
    assert alice.api.status(ready["id"])["kept_awake_until"] is None


def stops_at(person: Person) -> datetime:
    """Return when a person's only workspace goes to sleep by itself."""
    [workspace] = person.api.workspaces()
    return datetime.fromisoformat(workspace["stops_at"])


def test_stop_and_start_say_what_happens_and_are_followed(alice: Person) -> None:
    """Each is asked for, shown while it is under way, and told in the history and the timeline."""
    alice.has_workspace("api")
    alice.open_workspace("api")
    panel = alice.panel("api")
    actions = panel.get_by_role("group", name="Actions")
    alice.button("Stop", within=actions).click()
    alice.button("Cancel", within=alice.dialog).click()
    expect(alice.dialog).to_have_count(0)
    expect(alice.button("Stop", within=actions)).to_be_focused()
    alice.button("Stop", within=actions).click()
    expect(alice.dialog).to_contain_text("A start goes on where you left off")
    alice.button("Stop", within=alice.dialog).click()
    expect(panel).to_contain_text("asleep")
    expect(panel.get_by_role("region", name=re.compile("^Last stop, "))).to_be_visible()
    alice.button("Start", within=actions).click()
    alice.button("Start", within=alice.dialog).click()
    expect(panel.get_by_role("region", name=re.compile("^Last start, "))).to_be_visible()
    history = panel.get_by_role("region", name="History")
    for text in ("you asked for it", "you stopped it", "you started it"):
        expect(history).to_contain_text(text)


def test_a_delete_says_what_is_lost_and_wants_the_name(alice: Person) -> None:
    """Memory and home are lost; another text than the name deletes nothing."""
    ready = alice.has_workspace("api")
    alice.watch.expect_answer(404)  # it is gone
    page = alice.open_workspace("api")
    alice.button("Delete …", within=alice.panel("api")).click()
    for lost in ("memory", "home"):
        expect(alice.dialog).to_contain_text(re.compile(lost, re.IGNORECASE))
    typed = alice.dialog.get_by_label("Type its name")
    expect(typed).to_be_focused()
    typed.fill("apj")
    alice.button("Delete", within=alice.dialog).click()
    expect(alice.dialog).to_contain_text("That is something else.")
    assert alice.api.status(ready["id"])["operation"] is None
    typed.fill("api")
    page.keyboard.press("Enter")
    expect(alice.dialog).to_have_count(0)
    alice.api.wait_until_gone(ready["id"])
    expect(page.get_by_text("It has been deleted.")).to_be_visible()
    expect(page.get_by_role("heading", name="No workspace yet")).to_be_visible()


def test_going_back_ends_the_question(alice: Person) -> None:
    """The browser's Back leads to the list, and no question about a workspace stays over it."""
    ready = alice.has_workspace("api")
    page = alice.open()
    alice.row("api").get_by_role("link", name="api").click()
    alice.button("Delete …", within=alice.panel("api")).click()
    expect(alice.dialog).to_be_visible()
    page.go_back()
    expect(alice.dialog).to_have_count(0)
    expect(alice.row("api").get_by_role("link", name="api")).to_be_focused()
    assert alice.api.status(ready["id"])["operation"] is None


def test_a_rebuild_and_another_machine_keep_the_home(alice: Person) -> None:
    """Both make a new machine, and want the name if memory is lost by it."""
    ready = alice.has_workspace("api")
    alice.open_workspace("api")
    panel = alice.panel("api")
    alice.button("Rebuild …", within=panel).click()
    expect(alice.dialog).to_contain_text("same home")
    alice.dialog.get_by_label("Type its name").fill("api")
    alice.button("Rebuild", within=alice.dialog).click()
    alice.settled("api", lambda now: now["generation"] > ready["generation"])
    expect(alice.button("Change machine …", within=panel)).to_be_enabled()
    alice.button("Change machine …", within=panel).click()
    alice.choose_machine(alice.dialog, "e2-standard-8")
    alice.dialog.get_by_label("Type its name").fill("api")
    alice.button("Change and start", within=alice.dialog).click()
    alice.settled("api", lambda now: now["machine_type"] == "e2-standard-8")
    expect(panel.get_by_role("region", name="Details")).to_contain_text("e2-standard-8")


def test_a_failed_operation_shows_its_ways_out(alice: Person, faults: RunningCloud) -> None:
    """The error is told with what to do; the first button is the likeliest way, and works."""
    faults.fault("stock_out")
    alice.api.wait_until_settled(alice.api.create("api")["id"], "ERROR")
    alice.open_workspace("api")
    error = alice.panel("api").get_by_role("region", name="Creating failed: NO_CAPACITY")
    expect(error).to_contain_text("Nothing runs and nothing costs.")
    timeline = alice.panel("api").get_by_role("region", name=re.compile("^Last create, failed"))
    expect(timeline).to_be_visible()
    expect(timeline).not_to_contain_text("disk deleted")  # there was none
    faults.clear_faults()
    alice.button("Try again", within=error).click()
    alice.button("Start", within=alice.dialog).click()
    expect(error).to_have_count(0)
    expect(alice.panel("api")).to_contain_text("ready")


def test_a_workspace_whose_name_is_taken_meanwhile_starts_under_another(
    alice: Person, faults: RunningCloud
) -> None:
    """After a DELETE that failed the name is free; the dialog asks for a new one at the refusal."""
    failed = fail_to_delete(alice, faults)
    alice.has_workspace("api")
    alice.watch.expect_answer(409)
    alice.open(f"#/workspaces/{failed['id']}")
    alice.button("Keep it: start", within=alice.panel("api")).click()
    alice.dialog.get_by_label("New name").fill("api-2")
    alice.button("Start", within=alice.dialog).click()
    expect(alice.panel("api-2")).to_contain_text("ready")


def test_a_timeline_shows_what_is_usual_beside_what_is(alice: Person) -> None:
    """The second stop is compared with the first, phase by phase."""
    first = alice.has_suspended("api")
    alice.api.start(first["id"])
    alice.api.wait_until_settled(first["id"], "READY")
    alice.api.stop(first["id"])
    alice.api.wait_until_settled(first["id"], "SUSPENDED")
    alice.open_workspace("api")
    timeline = alice.panel("api").get_by_role("region", name=re.compile("^Last stop, "))
    expect(timeline.get_by_role("listitem").first).to_contain_text("usually")


def test_an_administrator_acts_on_another_s_workspace_but_does_not_connect(
    alice: Person, admin: Person
) -> None:
    """They see whose it is, stop it, and are not told how to connect; the row has the same."""
    ready = alice.has_workspace("api")
    admin.open()
    admin.sees_everybody()
    row = admin.row("api", of=alice.email)
    admin.button("Stop api", within=row).click()
    admin.button("Cancel", within=admin.dialog).click()
    row.get_by_role("link", name="api").click()
    panel = admin.panel("api")
    expect(panel).to_contain_text("Only its owner can connect to it.")
    expect(panel.get_by_role("region", name="Details")).to_contain_text(alice.email)
    admin.button("Stop", within=panel).click()
    admin.button("Stop", within=admin.dialog).click()
    alice.api.wait_until_settled(ready["id"], "SUSPENDED")
    expect(panel).to_contain_text("asleep")
    panel.get_by_role("link", name="Close").click()
    expect(panel).to_have_count(0)
    admin.button("Details api", within=row).click()
    expect(panel).to_contain_text("asleep")
