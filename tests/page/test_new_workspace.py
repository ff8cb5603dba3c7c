"""The form of a new workspace: checked as one types, told what it would be, and made once."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from tests.page.person import Person, answer_html


def test_a_workspace_is_made_from_the_form(alice: Person) -> None:
    """What was chosen is what the API has; the page goes on to the new workspace."""
    page = alice.open("#/new")
    form = alice.form
    form.get_by_label("Name").fill("api")
    form.get_by_label("Repository").fill("https://github.com/example/api")
    form.get_by_label("Branch").fill("v2")
    alice.choose_machine(form, "e2-standard-8")
    form.get_by_text("Zone and image").click()
    form.get_by_label("Zone", exact=True).select_option("us-west1-b")
    expect(form).to_contain_text("What you get")
    expect(form).to_contain_text("0.268")  # the price of SETTINGS
    alice.button("Create", within=form).click()
    expect(page).to_have_url(re.compile("#/workspaces/"))
    expect(alice.panel("api")).to_contain_text("ready")
    made = alice.settled("api", lambda now: now["status"] == "READY")
    assert (made["machine_type"], made["zone"]) == ("e2-standard-8", "us-west1-b")
    assert (made["metadata"]["repo"], made["metadata"]["branch"]) == (
        "https://github.com/example/api",
        "v2",
    )


def test_what_is_wrong_is_said_while_one_types_and_nothing_is_sent(alice: Person) -> None:
    """Odd letters in a name and credentials in an address are told at their field."""
    page = alice.open("#/new")
    form = alice.form
    alice.button("Create", within=form).click()
    name = form.get_by_label("Name")
    expect(name).to_be_focused()
    expect(form).to_contain_text("is required")
    for text in ("a b", "<b>", "naïve", "x" * 49):
        name.fill(text)
        expect(name).to_have_attribute("aria-invalid", "true")
        expect(form).to_contain_text("must be 1 to 48 letters")
    name.fill("api")
    expect(name).not_to_have_attribute("aria-invalid", "true")
    repo = form.get_by_label("Repository")
    repo.fill("https://me:secret@github.com/example/api")
    expect(repo).to_have_attribute("aria-invalid", "true")
    expect(form).to_contain_text("must not hold credentials")
    page.keyboard.press("Enter")
    assert alice.api.workspaces() == []
    assert not any("POST /workspaces " in f"{request} " for request in alice.watch.requests)


def test_a_name_that_one_has_already_is_refused_before_the_press(alice: Person) -> None:
    """The dry run says so at the field; a free name makes the workspace."""
    alice.has_workspace("api")
    alice.watch.expect_answer(409)
    page = alice.open("#/new")
    name = alice.form.get_by_label("Name")
    name.fill("api")
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(alice.form).to_contain_text("is that of another workspace of yours")
    name.fill("api-2")
    alice.button("Create", within=alice.form).click()
    expect(page).to_have_url(re.compile("#/workspaces/"))


def test_a_quota_that_is_used_up_is_told_with_what_to_do(alice: Person) -> None:
    """The third of three machines runs; the form says that one has to be stopped first."""
    for name in ("one", "two", "three"):
        alice.has_workspace(name)
    alice.watch.expect_answer(403)
    alice.open("#/new")
    alice.form.get_by_label("Name").fill("four")
    expect(alice.form.get_by_role("alert")).to_contain_text("Stop or delete a workspace")
    assert len(alice.api.workspaces()) == 3


def test_a_draft_survives_a_look_at_something_else_until_it_is_discarded(alice: Person) -> None:
    """Closing the form keeps what was typed; Discard forgets it."""
    page = alice.open("#/new")
    alice.form.get_by_label("Name").fill("half-do")
    page.get_by_role("link", name="Close").click()
    expect(page).to_have_url(re.compile("#/$"))
    page.get_by_role("link", name="New workspace").first.click()
    expect(alice.form.get_by_label("Name")).to_have_value("half-do")
    alice.button("Discard", within=alice.form).click()
    page.get_by_role("link", name="New workspace").first.click()
    expect(alice.form.get_by_label("Name")).to_have_value("")


@pytest.mark.parametrize(
    ("said", "lose"),
    [
        ("The Hub does not answer.", lambda route: route.abort("connectionreset")),
        ("The Hub\N{RIGHT SINGLE QUOTATION MARK}s answer cannot be read.", answer_html),
    ],
    ids=["no-answer", "no-json"],
)
def test_a_press_whose_answer_is_lost_makes_one_workspace(
    alice: Person, said: str, lose: Callable[[Route], None]
) -> None:
    """The Hub has made it, and the list shows it: pressing again finds the same one."""
    page = alice.open("#/new")
    form = alice.form
    lost: list[int] = []

    def answer(route: Route) -> None:
        if route.request.method == "POST" and not lost:
            lost.append(route.fetch().status)
            lose(route)
        else:
            route.continue_()

    page.route("**/workspaces", answer)
    alice.watch.expect_no_network()
    form.get_by_label("Name").fill("api")
    alice.button("Create", within=form).click()
    expect(form.get_by_role("alert")).to_contain_text(said)
    assert lost == [201]
    expect(alice.row("api")).to_be_visible()
    alice.button("Create", within=form).click()
    expect(page).to_have_url(re.compile("#/workspaces/"))
    assert len(alice.api.workspaces()) == 1
