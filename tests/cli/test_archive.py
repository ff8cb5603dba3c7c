"""``archive``, and what other commands say of an archived workspace."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.cli_process import Cli, ended
from tests.cli.scripted_hub import (
    SIGN_IN,
    Reply,
    ScriptedHub,
    Seen,
    operation,
    problem,
    workspace,
)

ARCHIVED: dict[str, Any] = {
    "status": "SUSPENDED",
    "suspended_at": "2025-11-20T12:00:00Z",
    "archived_at": "2025-11-21T12:00:00Z",
    "memory_kept": False,
    "stops_at": None,
}
QUESTION = "Archive api? Type its name: "


class Archive:
    """A Hub that archives the workspace ``api``.

    Attributes:
        after: what the workspace is once the ARCHIVE is over.
        refuses: what the request is answered instead.
    """

    def __init__(self, hub: ScriptedHub) -> None:
        self.hub = hub
        self.after = ARCHIVED
        self.refuses: Reply | None = None
        self.workspace = workspace("api")
        hub.workspaces = [self.workspace]
        hub.sign_in = {**SIGN_IN, "features": ["dry_run", "archive"]}
        hub.answers = self.answer

    def sent(self) -> list[Seen]:
        """Return what was sent to the Hub, besides reads."""
        return [each for each in self.hub.seen if each.method != "GET"]

    def answer(self, seen: Seen) -> Reply | None:
        """Answer as a Hub does; its ARCHIVE is over at the next look."""
        if seen.path.endswith("/archive") and self.refuses:
            return self.refuses
        if seen.path.endswith("/archive") and "dry_run" in seen.query:
            lost = [{"what": "boot_disk", "why": "It is deleted."}]
            return Reply(
                body={"dry_run": True, "decision": "begin", "kind": "ARCHIVE", "loses": lost}
            )
        if seen.path.endswith("/archive") and self.workspace.get("archived_at"):
            return Reply(body=self.workspace)
        if seen.path.endswith("/archive"):
            return Reply(202, {**self.workspace, "operation": operation("ARCHIVE", "await_stored")})
        if seen.path == f"/workspaces/{self.workspace['id']}" and self.sent():
            self.workspace.update(self.after)
        return None


@pytest.fixture
def archive(hub: ScriptedHub) -> Archive:
    """A Hub with the workspace ``api``, which runs."""
    return Archive(hub)


def test_an_archive_is_followed_until_machine_and_disk_are_gone(
    at_hub: Cli, archive: Archive
) -> None:
    """At its end it is said where the home is; the same again has nothing to do."""
    done = at_hub.succeed("archive", "api", "-y")

    assert "api is archived" in done.err
    assert "Its home is kept as a snapshot; a start makes disk and machine again." in done.err
    [sent] = archive.sent()
    assert (sent.path, sent.query, sent.body) == (
        f"/workspaces/{archive.workspace['id']}/archive",
        {},
        {},
    )
    assert "api is archived." in at_hub.succeed("archive", "api").err


def test_an_archive_that_fails_says_that_the_home_is_kept(at_hub: Cli, archive: Archive) -> None:
    """Also where the workspace sleeps then, as it would if it were archived."""
    error = {"code": "SNAPSHOT_FAILED", "message": "No luck.", "operation_kind": "ARCHIVE"}
    archive.after = {"status": "SUSPENDED", "error": error}

    done = at_hub.run("archive", "api", "-y")

    assert done.code == 1
    assert done.err.endswith(
        "workspace: api is asleep, and it is not archived: SNAPSHOT_FAILED: No luck\n"
        "  its home is kept. To go on: workspace start or workspace archive api\n"
    )


@pytest.mark.parametrize(("status", "said"), [("READY", "ready"), ("SUSPENDED", "asleep")])
def test_an_archive_that_a_start_calls_off_is_not_waited_for(
    at_hub: Cli, archive: Archive, status: str, said: str
) -> None:
    """Also if the workspace sleeps again by then."""
    archive.after = {"status": status, "error": None}

    done = at_hub.run("archive", "api", "-y")

    assert done.code == 1
    meanwhile = "and it is not archived: somebody has started it meanwhile"
    assert f"workspace: api is {said}, {meanwhile}\n  workspace show api\n" in done.err


@pytest.mark.parametrize(("answer", "code"), [("api", 0), ("y", 5), ("", 5)])
def test_an_archive_says_what_is_lost_and_asks(
    at_hub: Cli, archive: Archive, answer: str, code: int
) -> None:
    """What is lost is what the Hub says. A yes is typed too easily."""
    terminal = at_hub.terminal("archive", "api", "--no-wait")
    for line in (
        "keeps       what is in the home, as a snapshot",
        "loses       boot disk: It is deleted.",
        QUESTION,
    ):
        terminal.expect_exact(line)
    terminal.sendline(answer)
    assert ended(terminal) == code
    asked = [each for each in archive.sent() if not each.query]
    assert len(asked) == (0 if code else 1)


def test_nothing_is_archived_without_an_answer(at_hub: Cli, archive: Archive) -> None:
    """Nobody is there to be asked; with --dry-run nobody needs to be."""
    done = at_hub.run("archive", "api")
    assert (done.code, archive.sent()) == (2, [])
    assert "give --yes" in done.err

    dry = at_hub.succeed("archive", "api", "--dry-run")
    assert "would be archived" in dry.out
    assert [each.body for each in archive.sent()] == [{"dry_run": True}]


def test_what_a_hub_refuses_is_said_before_anybody_is_asked(at_hub: Cli, archive: Archive) -> None:
    """The hint says what to do."""
    archive.refuses = problem(409, "NO_HOME", "There is none.")
    terminal = at_hub.terminal("archive", "api")
    terminal.expect_exact("workspace: There is none")
    assert ended(terminal) == 5

    done = at_hub.run("archive", "api", "-y")
    assert (done.code, "workspace start api" in done.err) == (5, True)


def test_an_older_hub_is_not_asked(at_hub: Cli, archive: Archive) -> None:
    """It has another meaning for nothing, but says so less clearly."""
    archive.hub.sign_in = {**SIGN_IN, "features": ["dry_run"]}

    done = at_hub.run("archive", "api", "-y")

    assert (done.code, archive.sent()) == (5, [])
    assert "cannot archive workspaces: so it was not asked" in done.err


def test_a_list_and_a_look_say_what_is_archived_and_what_will_be(
    at_hub: Cli, archive: Archive
) -> None:
    """The nearest of what the sweeps will do is shown."""
    archive.hub.workspaces += [
        workspace("old", **ARCHIVED, deletes_at="2099-12-20T12:00:00Z"),
        workspace(
            "soon",
            **{**ARCHIVED, "archived_at": None},
            archives_at="2099-12-04T12:00:00Z",
            deletes_at="2099-12-20T12:00:00Z",
        ),
    ]

    listed = {line.split()[0]: line for line in at_hub.succeed("ls").out.splitlines()[1:]}
    shown = at_hub.succeed("show", "old").out

    assert "archived" in listed["old"]
    assert "deleted on Dec 20, 2099" in listed["old"]
    assert "asleep" in listed["soon"]
    assert "archived on Dec 4, 2099" in listed["soon"]
    assert shown.startswith("old         archived since Nov 21, 2025")
    assert "home        a snapshot; a start makes a disk of it: workspace start old" in shown
