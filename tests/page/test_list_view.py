"""The list: what there is, what it does, what comes next, and the one thing to do about it."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from playwright.sync_api import Locator, expect

from localcloud.running_cloud import RunningCloud
from tests.page.conftest import OpenPage
from tests.page.looks import ZONE
from tests.page.person import Person

# Whether what is written is lighter than what it is written on.
IS_DARK = """
() => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  context.fillStyle = getComputedStyle(document.body).color;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data[0] > 127;
}
"""
# Which workspaces are rendered as a row in the next seconds.
RENDERED = """
async () => {
  const { app } = await import("page/app.js");
  const rendered = new Set();
  for (const each of app.state.everybody) {
    const zone = each.zone;
    Object.defineProperty(each, "zone", { get: () => rendered.add(each.id) && zone });
  }
  await new Promise((done) => setTimeout(done, 2100));
  return rendered.size;
}
"""
IN_MINUTES = re.compile(r"sleeps in (\d+) min")


def test_a_row_says_what_a_workspace_is_and_what_comes_next(alice: Person) -> None:
    """Machine, origin, use and the next thing; times in the reader's zone, in UTC on hover."""
    alice.has_workspace("api", metadata={"repo": "https://github.com/example/api", "branch": "v2"})
    alice.connects("api", "laptop")
    alice.page.clock.install()
    alice.open()
    row = alice.row("api")
    for text in ("ready", "e2-standard-4", "us-west1-a", "github.com/example/api", "v2", "laptop"):
        expect(row).to_contain_text(text)
    minutes_pass(alice, row)
    expect(row).to_contain_text(re.compile(r"used .* ago|used just now"))
    alice.button("Connect api").click()
    expect(alice.page).to_have_url(re.compile(rf"#/workspaces/{alice.id_of('api')}$"))
    [made] = alice.api.workspaces()
    at = datetime.fromisoformat(made["created_at"])
    details = alice.panel("api").get_by_role("region", name="Details")
    created = details.get_by_title(f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", exact=True)
    expect(created.last).to_have_text(re.compile(f"{at.astimezone(ZoneInfo(ZONE)):%H:%M}$"))


def minutes_pass(person: Person, row: Locator) -> None:
    """Have the page's clock go on for a minute: the row counts down, by itself."""
    expect(row).to_contain_text(IN_MINUTES)
    found = IN_MINUTES.search(row.inner_text())
    assert found
    minutes = int(found[1])
    # An answer with a Date would set the page's clock right.
    listed = person.api.workspaces()
    person.page.route("**/workspaces", lambda route: route.fulfill(json=listed))
    person.page.clock.fast_forward(60_000)
    less = "|".join(str(each) for each in range(max(2, minutes - 10), minutes))
    expect(row).to_contain_text(re.compile(rf"sleeps in ({less}) min"))
    person.page.unroute("**/workspaces")


def test_a_suspended_workspace_is_started_from_its_row(alice: Person) -> None:
    """The row says that it sleeps and its memory is kept; after the press, what is under way."""
    alice.has_suspended("api")
    alice.open()
    row = alice.row("api")
    expect(row).to_contain_text("asleep")
    expect(row).to_contain_text("memory kept")
    alice.button("Start api").click()
    expect(row).to_contain_text("starting")
    expect(row).to_contain_text("ready")
    expect(alice.page.get_by_role("status").filter(has_text="api is ready.")).to_be_attached()


def test_a_failed_create_is_tried_again_from_its_row(alice: Person, faults: RunningCloud) -> None:
    """The row has the error in the Hub's words, and one press starts it once there is capacity."""
    faults.fault("stock_out")
    alice.api.wait_until_settled(alice.api.create("api")["id"], "ERROR")
    alice.open()
    row = alice.row("api")
    expect(row).to_contain_text("creating failed")
    expect(row).to_contain_text("No capacity for e2-standard-4 in any configured zone")
    faults.clear_faults()
    alice.button("Try again api").click()
    expect(row).to_contain_text("ready")
    expect(row).not_to_contain_text("No capacity")


def test_search_and_filter_narrow_the_list(alice: Person) -> None:
    """By any word of a row, and by status with how many; nothing found says so, with a way back."""
    alice.has_workspace("api", metadata={"repo": "https://github.com/example/green"})
    alice.has_suspended("docs")
    page = alice.open()
    rows = page.get_by_role("list", name="Your workspaces").get_by_role("listitem")
    expect(rows).to_have_count(2)
    page.get_by_role("button", name=re.compile(r"^Asleep\s*1$")).click()
    expect(rows).to_have_count(1)
    expect(alice.row("docs")).to_be_visible()
    page.get_by_role("button", name=re.compile(r"^All\s*2$")).click()
    page.keyboard.press("/")
    page.keyboard.type("green us-west")
    expect(rows).to_have_count(1)
    expect(alice.row("api")).to_be_visible()
    page.keyboard.type(" nonsense")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    alice.button("Show all").click()
    expect(rows).to_have_count(2)


def test_of_a_thousand_workspaces_a_hundred_are_rendered(admin: Person, alice: Person) -> None:
    """Every second, too; more on demand. The counts and the search are those of all."""
    made = alice.has_workspace("api")
    many = [{**made, "id": str(uuid.uuid4()), "name": f"w{number}"} for number in range(1000)]
    admin.page.route("**/workspaces?all=true", lambda route: route.fulfill(json=many))
    page = admin.open()
    admin.sees_everybody()
    rows = page.get_by_role("list", name="Everybody").get_by_role("listitem")
    own = len(admin.api.workspaces())
    expect(rows).to_have_count(100)
    assert page.evaluate(RENDERED) == 100 - own
    admin.button("Show more").click()
    expect(rows).to_have_count(200)
    expect(page.get_by_role("button", name=re.compile(rf"^All\s*{1000 + own}$"))).to_be_visible()
    page.get_by_label("Search workspaces").fill("w987")
    expect(rows).to_have_count(1)
    expect(admin.button("Show more")).to_have_count(0)


def test_the_keyboard_walks_through_the_list_and_opens_and_closes(alice: Person) -> None:
    """J and K and the arrows move, Enter opens, Esc closes and comes back, N makes a new one."""
    for name in ("one", "two"):  # the newest is first
        alice.has_workspace(name)
    page = alice.open()
    expect(alice.row("two")).to_be_visible()
    link = {name: alice.row(name).get_by_role("link", name=name) for name in ("one", "two")}
    for key, name in (("j", "two"), ("j", "one"), ("k", "two"), ("ArrowDown", "one")):
        page.keyboard.press(key)
        expect(link[name]).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(alice.id_of("one")))
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"#/$"))
    expect(link["one"]).to_be_focused()
    page.keyboard.press("n")
    expect(page).to_have_url(re.compile(r"#/new$"))


def test_the_menu_has_the_colours_and_the_first_link_skips_to_the_list(alice: Person) -> None:
    """Dark is dark, Light and System are light here; Tab and Enter lead past the header."""
    page = alice.open()
    expect(page.get_by_role("heading", name="No workspace yet")).to_be_visible()
    page.keyboard.press("?")
    colours = page.get_by_role("group", name="Colours")
    for name, dark in (("Dark", True), ("System", False), ("Dark", True), ("Light", False)):
        alice.button(name, within=colours).click()
        expect(alice.button(name, within=colours)).to_have_attribute("aria-pressed", "true")
        assert page.evaluate(IS_DARK) is dark
    page.keyboard.press("?")
    expect(colours).to_be_hidden()
    skip = page.get_by_role("link", name="Skip to the workspaces")
    skip.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#list-title")).to_be_focused()


def test_single_keys_can_be_switched_off_for_this_browser(alice: Person) -> None:
    """Then letters and signs do nothing, after a reload neither; Esc still closes."""
    page = alice.open()
    page.get_by_role("button", name="You: ").click()
    alice.button("Off", within=page.get_by_role("group", name="Keys")).click()
    page.keyboard.press("Escape")
    page.reload()
    expect(page.get_by_role("heading", name="No workspace yet")).to_be_visible()
    page.keyboard.press("n")
    page.keyboard.press("?")
    expect(page.get_by_role("group", name="Keys")).to_be_hidden()
    expect(page).not_to_have_url(re.compile("#/new$"))
    page.goto("/#/new")
    expect(alice.form).to_be_visible()
    page.keyboard.press("Escape")
    expect(alice.form).to_have_count(0)


def test_somebody_without_workspaces_is_told_what_one_is(alice: Person) -> None:
    """The empty list leads to the form for a new one."""
    page = alice.open()
    expect(page.get_by_role("heading", name="No workspace yet")).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="New workspace").last.click()
    expect(page).to_have_url(re.compile(r"#/new$"))


def test_nobody_sees_the_workspaces_of_another_but_an_administrator(
    alice: Person, bob: Person, admin: Person
) -> None:
    """Bob never sees Alice's, not even by its address; an administrator sees whose it is."""
    alice.has_workspace("secret-plan")
    bob.has_workspace("ours")
    page = bob.open()
    expect(bob.row("ours")).to_be_visible()
    expect(page.get_by_role("group", name="Whose workspaces")).to_have_count(0)
    bob.watch.expect_answer(404)
    bob.open(f"#/workspaces/{alice.id_of('secret-plan')}")
    expect(page.get_by_role("heading", name="No such workspace")).to_be_visible()
    expect(page.get_by_text("secret-plan")).to_have_count(0)
    assert not any("all=" in request for request in bob.watch.requests)

    admin.open()
    admin.sees_everybody()
    for person, name in ((alice, "secret-plan"), (bob, "ours")):
        row = admin.row(name, of=person.email)
        expect(row).to_contain_text("ready")
    admin.button(alice.email, within=admin.row("secret-plan", of=alice.email)).click()
    expect(admin.row("ours", of=bob.email)).to_have_count(0)
    expect(admin.row("secret-plan", of=alice.email)).to_have_count(1)
    expect(admin.page.get_by_label("Search workspaces")).to_have_value(alice.email)
    admin.button("Yours").click()
    expect(admin.page.get_by_role("heading", name="Your workspaces")).to_be_visible()
    expect(admin.row("secret-plan")).to_have_count(0)


def test_what_the_list_is_narrowed_to_is_in_the_address(admin: Person, alice: Person) -> None:
    """A bookmark has it, what is opened beside it keeps it, and the way back leads through it."""
    alice.has_suspended("docs")
    page = admin.open()
    search = page.get_by_label("Search workspaces")
    admin.sees_everybody()
    expect(page).to_have_url(re.compile(r"#/\?everybody$"))
    admin.button(alice.email, within=admin.row("docs", of=alice.email)).click()
    asleep = page.get_by_role("button", name=re.compile("^Asleep"))
    asleep.click()
    search.fill(f"{alice.email} do")
    admin.row("docs").get_by_role("link").click()
    expect(admin.panel("docs")).to_be_visible()
    address = page.url
    assert re.search(rf"#/workspaces/.*\?everybody&q={alice.email[:12]}%40.*%20do&status=", address)
    admin.button("Yours").click()
    expect(admin.row("docs")).to_have_count(0)
    for _ in range(2):
        page.go_back()
    expect(admin.panel("docs")).to_have_count(0)
    expect(search).to_have_value(f"{alice.email} do")
    page.go_back()
    expect(search).to_have_value(alice.email)
    expect(asleep).to_have_attribute("aria-pressed", "false")
    expect(admin.row("docs", of=alice.email)).to_be_visible()

    page.goto("about:blank")
    admin.open(address[address.index("#") :])
    expect(page.get_by_role("heading", name="Everybody")).to_be_visible()
    page.get_by_role("link", name="Close").click()
    expect(search).to_have_value(f"{alice.email} do")
    expect(admin.row("docs", of=alice.email)).to_be_visible()


def test_an_address_for_everybody_s_workspaces_shows_others_their_own(alice: Person) -> None:
    """Nothing is asked for that would be refused."""
    alice.has_suspended("api")
    page = alice.open("#/?everybody&q=nonsense")
    expect(page.get_by_role("heading", name="Your workspaces")).to_be_visible()
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    alice.button("Show all").click()
    expect(alice.row("api")).to_be_visible()
    assert not any("all=" in request for request in alice.watch.requests)


def test_the_quota_in_use_is_shown_and_follows(alice: Person) -> None:
    """How many workspaces a person has, of how many, and how many run."""
    alice.has_suspended("one")
    page = alice.open()
    quota = page.get_by_role("list", name="Quota in use")
    expect(quota).to_contain_text(re.compile(r"1\s*of\s*5\s*workspaces"))
    expect(quota).to_contain_text(re.compile(r"0\s*of\s*3\s*running"))
    alice.button("Start one").click()
    expect(quota).to_contain_text(re.compile(r"1\s*of\s*3\s*running"))


def test_what_people_typed_is_text_wherever_it_is_shown(open_page: OpenPage) -> None:
    """Markup in a repository, a branch and a device is shown as it is, and never becomes HTML."""
    alice = open_page()
    odd = "<img src=x onerror=alert(1)>"
    right_to_left = "\N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET} ${1+1} {{7*7}}"
    alice.has_workspace("-._x", metadata={"repo": odd, "branch": right_to_left})
    alice.connects("-._x", "<b>'\"&amp;")
    page = alice.open()
    for text in (odd, right_to_left, "<b>'\"&amp;"):
        expect(alice.row("-._x")).to_contain_text(text)
    page.goto(f"/#/workspaces/{alice.id_of('-._x')}")
    expect(alice.panel("-._x")).to_contain_text(odd)
    for name in ("img", "bdi > *"):
        expect(page.locator(name)).to_have_count(0)
