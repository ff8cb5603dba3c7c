"""``rm``, ``deleted`` and ``undelete``, on the local cloud and at Hubs that do as they like."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.cli.cli_process import Cli, ended
from tests.cli.scripted_home import ago
from tests.cli.scripted_hub import (
    SIGN_IN,
    Reply,
    ScriptedHub,
    Seen,
    deleted,
    operation,
    problem,
    snapshot,
    snapshots,
    workspace,
)
from tests.cli.test_commands import assert_fits
from tests.http_target import eventually

ONE = "aaaaaaaa-2222-4333-8444-555555555555"
TWO = "aaaaaaaa-bbbb-4333-8444-555555555555"
OTHER = "cccccccc-2222-4333-8444-555555555555"
KEEPS = ["dry_run", "snapshots", "undelete"]
UNTIL = "2099-12-03T12:00:00Z"
DAY = "Dec 3, 2099"


class Bin:
    """A Hub that keeps what is deleted.

    Attributes:
        there: its deleted workspaces.
        until: by workspace id, until when a deletion of it could be taken back.
        back: what an undelete answers.
    """

    def __init__(self, hub: ScriptedHub) -> None:
        self.hub = hub
        self.there: list[Any] = []
        self.until: dict[str, str | None] = {}
        self.back = Reply(body=workspace("api", status="SUSPENDED", memory_kept=False))
        hub.sign_in = {**SIGN_IN, "features": KEEPS}
        hub.workspaces = [workspace("api")]
        hub.answers = self.answer

    def changes(self) -> list[Seen]:
        """Return what was sent to the Hub, besides reads and dry runs."""
        sent = [each for each in self.hub.seen if each.method != "GET"]
        return [each for each in sent if "dry_run" not in each.query]

    def answer(self, seen: Seen) -> Reply | None:
        """Answer as a Hub does."""
        if seen.path == "/deleted-workspaces":
            return Reply(body={"deleted_workspaces": self.there})
        if seen.path.endswith("/undelete"):
            return self.back
        if seen.path.endswith("/snapshots"):
            return Reply(body=snapshots(snapshot(), snapshot()))
        going = [each for each in self.hub.workspaces if seen.path.split("/")[2:3] == [each["id"]]]
        if not going or seen.method == "GET":
            return None
        until = None if "purge" in seen.query else self.until.get(going[0]["id"], UNTIL)
        after = {**going[0], "operation": operation("DELETE"), "undelete_until": until}
        if seen.method == "DELETE":
            self.hub.workspaces.remove(going[0])
            return Reply(202, after)
        return Reply(body={"dry_run": True, "decision": "begin", "kind": "DELETE", **_of(after)})


def _of(planned: dict[str, Any]) -> dict[str, Any]:
    return {"workspace": {**planned, "operation": {**planned["operation"], "id": None}}}


@pytest.fixture
def bin_(hub: ScriptedHub) -> Bin:
    """A Hub with the workspace ``api``, from which nothing was deleted yet."""
    return Bin(hub)


# ---- rm ------------------------------------------------------------------------------------------


def test_a_deletion_says_until_when_it_can_be_taken_back(at_hub: Cli, bin_: Bin) -> None:
    """At once, by the Hub's answer, and by which command."""
    done = at_hub.succeed("rm", "api", "-y")

    first, second, *_, last = done.err.splitlines()
    assert first == f"api can be taken back until {DAY}:"
    assert second == "  workspace undelete api"
    assert last.startswith("api is gone after ")
    assert [(each.method, each.query) for each in bin_.changes()] == [("DELETE", {})]


def test_a_purge_keeps_nothing(at_hub: Cli, bin_: Bin) -> None:
    """Its dry run is one of a purge, too."""
    at_hub.succeed("rm", "api", "--purge", "--dry-run")
    asked = bin_.hub.seen[-1]
    assert (asked.method, asked.query) == ("POST", {"dry_run": ["true"], "purge": ["true"]})
    assert asked.body == {"dry_run": True}

    done = at_hub.succeed("rm", "api", "--purge", "-y")

    assert "can be taken back" not in done.err
    assert [(each.method, each.query) for each in bin_.changes()] == [
        ("DELETE", {"purge": ["true"]})
    ]


def test_a_hub_that_cannot_take_back_is_not_told_to_purge(at_hub: Cli, bin_: Bin) -> None:
    """It would refuse the word, and deletes for good in any case."""
    bin_.hub.sign_in = SIGN_IN
    at_hub.succeed("rm", "api", "--purge", "-y")
    assert [(each.method, each.query) for each in bin_.changes()] == [("DELETE", {})]


LOST = "This deletes the machine, its memory, its home and 2 snapshots. Nothing brings them back."
KEPT = (
    f"This deletes the machine, its memory and its home. Until {DAY}, `workspace undelete api`"
    " takes it back, without what is in memory.\r\n"
)


@pytest.mark.parametrize(
    ("more", "features", "said"),
    [
        ((), KEEPS, KEPT),
        (("--purge",), KEEPS, LOST),
        ((), ["dry_run", "snapshots"], LOST),
        ((), ["undelete"], "its home. It is not known whether anything brings them back."),
    ],
    ids=["kept", "purge", "older", "unknown"],
)
def test_a_deletion_says_before_what_can_be_taken_back(
    at_hub: Cli, bin_: Bin, more: tuple[str, ...], features: list[str], said: str
) -> None:
    """As the Hub's dry run has it. Snapshots are lost with what is lost, and kept with the rest."""
    bin_.hub.sign_in = {**SIGN_IN, "features": features}
    terminal = at_hub.terminal("rm", "api", "--no-wait", *more)
    terminal.expect_exact(said)
    terminal.expect_exact("Delete api? Type its name: ")
    assert bin_.changes() == []
    terminal.sendline("api")
    assert ended(terminal) == 0
    assert len(bin_.changes()) == 1


def test_a_deletion_of_several_says_which_can_be_taken_back(at_hub: Cli, bin_: Bin) -> None:
    """Until the earliest time of them all; the others are named."""
    bin_.hub.workspaces += [workspace("web"), workspace("new"), workspace("db")]
    _, web, new, db = (each["id"] for each in bin_.hub.workspaces)
    bin_.until = {web: "2099-12-04T12:00:00Z", new: None, db: None}
    terminal = at_hub.terminal("rm", "api", "web", "new", "db")
    terminal.expect_exact(
        "This deletes the machines, their memory, their homes and 4 snapshots."
        f" Until {DAY}, `workspace undelete NAME` takes api and web back, without what is in"
    )
    terminal.expect_exact("memory. Nothing brings back new and db.")
    terminal.sendline("")
    assert ended(terminal) == 5
    assert bin_.changes() == []


def test_a_home_that_could_not_be_kept_is_told_with_both_ways_out(at_hub: Cli, bin_: Bin) -> None:
    """The DELETE failed, and the home is there: delete it again, or for good."""
    [api] = bin_.hub.workspaces
    error = {"code": "LAST_COPY_NOT_MADE", "message": "Full.", "operation_kind": "DELETE"}
    kept = {**api, "status": "ERROR", "error": error}
    bin_.hub.answers = lambda seen: Reply(202, kept) if seen.method == "DELETE" else None

    done = at_hub.run("rm", "api", "-y")

    assert done.code == 1
    assert done.err.splitlines() == [
        "workspace: api is error: LAST_COPY_NOT_MADE: Full",
        f"  delete it again, or for good: workspace rm --purge {api['id']}",
    ]


def test_a_workspace_that_is_being_deleted_says_until_when(at_hub: Cli, bin_: Bin) -> None:
    """`show` has it beside what is done now."""
    going = {"operation": operation("DELETE", "await_stored"), "undelete_until": UNTIL}
    bin_.hub.workspaces[0].update(going)
    shown = at_hub.succeed("show", "api").out
    assert re.search(r"^next +storing the snapshot, ", shown, re.MULTILINE)
    assert f"\nundelete    until {DAY}\n" in shown


# ---- deleted -------------------------------------------------------------------------------------


def test_deleted_workspaces_are_listed_with_what_tells_them_apart(at_hub: Cli, bin_: Bin) -> None:
    """Two may have had one name, so each has its id; and until when it can be taken back."""
    bin_.there = [
        deleted(id=ONE, deleted_at=ago(minutes=5), until=ago(hours=-20)),
        deleted(id=TWO, deleted_at=ago(days=3), until=UNTIL, automatic=True, snapshots=1),
        deleted("web", id=OTHER, deleted_at=ago(days=4), until=UNTIL, deleted_by="12"),
    ]

    done = at_hub.succeed("deleted")

    assert [re.split("  +", line) for line in done.out.splitlines()] == [
        ["NAME", "ID", "DELETED", "BY", "GONE FOR GOOD", "SNAPSHOTS"],
        ["api", ONE, "5 min ago", "its owner", "in 20 h", "3"],
        ["api", TWO, "3 days ago", "the Hub", f"on {DAY}", "1"],
        ["web", OTHER, "4 days ago", "an administrator", f"on {DAY}", "3"],
    ]
    assert done.err == "To take one back:\n  workspace undelete NAME\n"
    wide = at_hub.succeed("deleted", "-o", "wide").out
    assert re.search(r"  50 GB +e2-standard-8 +latest +https:\S+ +main$", wide, re.MULTILINE)
    assert at_hub.succeed("deleted", "-o", "id").out == f"{ONE}\n{TWO}\n{OTHER}\n"
    json = at_hub.succeed("deleted", "--owner", "47", "-o", "json").json
    assert json == {"deleted_workspaces": bin_.there}
    assert bin_.hub.seen[-1].query == {"owner_id": ["47"]}


def test_without_a_deleted_workspace_it_says_so(at_hub: Cli, bin_: Bin) -> None:
    """On stderr: stdout has nothing."""
    done = at_hub.succeed("deleted")
    said = "There is no deleted workspace that can be taken back.\n"
    assert (bin_.there, done.out, done.err) == ([], "", said)


# ---- undelete ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "id_"),
    [("api", ONE), (TWO, TWO), ("aaaaaaaa-b", TWO), ("dddddddd", OTHER), (OTHER[:-1] + "0", None)],
)
def test_a_workspace_is_taken_back_by_name_id_or_beginning_of_its_id(
    at_hub: Cli, bin_: Bin, wanted: str, id_: str | None
) -> None:
    """A name goes before the beginning of an id. A whole id may be another person's."""
    bin_.there = [
        deleted(id=ONE),
        deleted("web", id=TWO),
        deleted("dddddddd", id=OTHER),
        deleted("x", id="dddddddd-2222-4333-8444-555555555555"),
    ]

    done = at_hub.succeed("undelete", wanted)

    assert done.out == ""
    assert done.err.splitlines() == [
        "api is back, asleep, with its home. What was in its memory is lost. To start it:",
        "  workspace start api",
    ]
    [sent] = bin_.changes()
    assert (sent.path, sent.body) == (f"/workspaces/{id_ or wanted}/undelete", {})


def test_a_workspace_is_taken_back_under_another_name(at_hub: Cli, bin_: Bin) -> None:
    """A script gets its id, or the object."""
    bin_.there = [deleted()]

    assert at_hub.succeed("undelete", "api", "--name", "b", "-o", "json").json == bin_.back.body
    assert at_hub.succeed("undelete", "api", "-o", "id").out == f"{bin_.back.body['id']}\n"

    assert [each.body for each in bin_.changes()] == [{"name": "b"}, {}]


def test_what_was_taken_back_before_is_told_from_what_is_now(at_hub: Cli, bin_: Bin) -> None:
    """The Hub answers the workspace; it may run by now."""
    bin_.back = Reply(body=workspace("api"))
    assert at_hub.succeed("undelete", ONE).err == "api was taken back before: it is ready.\n"


@pytest.mark.parametrize(
    ("wanted", "code", "said"),
    [
        ("twice", 2, f'"twice" may be several deleted workspaces: {ONE} (twice), {TWO} (twice)'),
        ("aaaaaaaa", 2, '"aaaaaaaa" may be several deleted workspaces: '),
        ("api", 3, 'there is no deleted workspace "api"\n  workspace deleted\n'),
        ("db", 3, 'there is no deleted workspace "db"\n  workspace deleted\n'),
        (
            "going",
            5,
            (
                "workspace: going is still being deleted\n"
                f"  once it is gone, take it back: workspace wait {OTHER} --for gone\n"
            ),
        ),
        ("a;b", 2, "is neither a workspace's name nor an id"),
    ],
)
def test_what_is_not_surely_one_deleted_workspace_is_not_sent(
    at_hub: Cli, bin_: Bin, wanted: str, code: int, said: str
) -> None:
    """Which one of two is meant is not guessed."""
    bin_.there = [deleted("twice", id=ONE), deleted("twice", id=TWO)]
    bin_.hub.workspaces.append(workspace("going", id=OTHER, operation=operation("DELETE")))

    done = at_hub.run("undelete", wanted)

    assert (done.code, said in done.err) == (code, True), done
    assert bin_.changes() == []


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (
            problem(409, "NAME_TAKEN", "One is called api."),
            5,
            "  give it another name: workspace undelete api --name OTHER\n",
        ),
        (
            problem(403, "QUOTA_EXCEEDED", "5 of 5."),
            5,
            "  delete another workspace, or ask whoever runs the Hub for more\n",
        ),
        (problem(409, "LAST_COPY_GONE", "Lost."), 5, "workspace: Lost\n"),
        (problem(404, "WORKSPACE_NOT_FOUND", "None."), 3, "None\n  workspace deleted\n"),
        (
            problem(
                400, "INVALID_REQUEST", "w", errors=[{"field": "name", "message": "is too long"}]
            ),
            2,
            "workspace: --name: is too long\n",
        ),
        (
            problem(404, "NOT_FOUND", "No such path."),
            5,
            "cannot take back what was deleted: it refused, and did nothing",
        ),
    ],
    ids=lambda value: value.body["code"] if isinstance(value, Reply) else None,
)
def test_a_refused_undelete_says_what_to_do(
    at_hub: Cli, bin_: Bin, reply: Reply, code: int, said: str
) -> None:
    """In the words of its own options."""
    bin_.there = [deleted(id=ONE)]
    bin_.back = reply

    done = at_hub.run("undelete", "api", "-o", "json")

    assert (done.code, done.out, said in done.err) == (code, "", True), done


@pytest.mark.parametrize("command", [("deleted",), ("undelete", "api")], ids=" ".join)
@pytest.mark.parametrize("features", [KEEPS[:-1], None], ids=["older", "nonsense"])
def test_a_hub_that_cannot_take_back_is_sent_nothing(
    at_hub: Cli, bin_: Bin, command: tuple[str, ...], features: Any
) -> None:
    """It says so, and what to do."""
    bin_.hub.sign_in = {**SIGN_IN, "features": features}

    done = at_hub.run(*command)

    assert (done.code, done.out) == (5, "")
    assert "cannot take back what was deleted: so it was not asked\n  ask whoever" in done.err
    assert bin_.hub.paths() == ["GET /sign-in"]


def test_a_shell_completes_deleted_workspaces(at_hub: Cli, bin_: Bin) -> None:
    """By name, each once, or by id if the name is hostile."""
    bin_.there = [deleted("aname"), deleted("aname"), deleted("a\x1b[2J", id=ONE), deleted("b")]
    variables = {
        "_WORKSPACE_COMPLETE": "bash_complete",
        "COMP_CWORD": "2",
        "COMP_WORDS": "workspace undelete a",
    }

    def completed() -> bool:
        """Press the key. On a busy machine the Hub may not have answered in time."""
        done = at_hub.run(more=variables)
        assert done.err == ""
        return done.out.split() == ["plain,aname", f"plain,{ONE}"]

    eventually(completed, 60)


# ---- on the local cloud --------------------------------------------------------------------------


def test_a_deleted_workspace_comes_back_with_its_home(signed_in: Cli) -> None:
    """With its id, its name or another, and its snapshots. What is purged does not come back."""
    made = signed_in.succeed("create", "api", "-o", "id").out.strip()
    signed_in.succeed("exec", "api", "--", "sh", "-c", "echo before > file")
    signed_in.succeed("snapshot", "api", "--name", "first", "--ready")
    signed_in.succeed("exec", "api", "--", "sh", "-c", "echo after > file")
    planned = signed_in.succeed("rm", "api", "--dry-run").out
    assert re.search(r"can be taken back", planned), planned

    gone = signed_in.succeed("rm", "api", "-y")

    assert re.match(r"api can be taken back until \S.*:\n  workspace undelete api\n", gone.err)
    assert signed_in.run("show", made).code == 3
    listed = signed_in.succeed("deleted", "-o", "json").json
    assert_fits(listed, "DeletedWorkspaces")
    [entry] = listed["deleted_workspaces"]
    assert (entry["id"], entry["name"], entry["snapshots"]) == (made, "api", 2)
    signed_in.succeed("create", "api", "--no-wait")
    assert signed_in.run("undelete", "api").code == 5  # its name is another's

    back = signed_in.succeed("undelete", "api", "--name", "again", "-o", "json").json

    assert_fits(back, "Workspace")
    assert (back["id"], back["name"], back["status"]) == (made, "again", "SUSPENDED")
    assert signed_in.succeed("deleted", "-o", "id").out == ""
    signed_in.succeed("start", "again")
    assert signed_in.succeed("exec", "again", "--", "cat", "file").out == "after\n"
    assert "first" in signed_in.succeed("snapshots", "again").out

    signed_in.succeed("rm", "--purge", "-y", "again", "api")

    assert signed_in.succeed("deleted", "-o", "id").out == ""
    assert signed_in.run("undelete", made).code == 3
