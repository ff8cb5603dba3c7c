"""``restore``, on the local cloud and at Hubs that do as they like."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.cli.cli_process import Cli, ended
from tests.cli.scripted_home import NEW_ID, Home, ago
from tests.cli.scripted_hub import SIGN_IN, Reply, Seen, operation, problem, snapshot, workspace
from tests.cli.test_commands import assert_fits
from workspace_cli import words

ONE = "aaaaaaaa-2222-4333-8444-555555555555"
QUESTION = "Restore the home of api? Type its name: "


def asked(home: Home) -> list[Seen]:
    """Return the changes that were asked for, besides dry runs."""
    return [each for each in home.changes() if not each.query]


def test_a_restore_is_followed_until_the_workspace_is_ready(at_hub: Cli, home: Home) -> None:
    """Each phase is told in words, and at the end where what was there before is now.

    What Compute refuses for a while, the Hub asks for again: that is one thing, done once.
    """
    home.listed = [snapshot("before", id=ONE)]
    home.will_have(state="READY", automatic=True)
    captures = ("await_snapshot", "snapshot", "await_stored")
    phases = iter(("stop", *captures, "delete_instance", "insert"))
    home.looks = 7

    def answers(seen: Seen) -> Reply | None:
        under_way = home.workspace["operation"]
        if seen.method == "GET" and seen.path.count("/") == 2 and under_way:
            under_way["phase"] = next(phases, "await_ready")
        return home.answer(seen)

    home.hub.answers = answers

    done = at_hub.succeed("restore", "api", "before", "-y", "-o", "json")

    assert re.findall(r"^ ✓ ([a-z ]*[a-z]) +\d+\.\d s$", done.err, re.MULTILINE) == [
        *("snapshot stored", "shut down", "home captured", "snapshot stored"),
        *("machine deleted", "machine made"),
    ]
    assert re.search(r"^api is ready after \d+ s\. It goes to sleep", done.err, re.MULTILINE)
    assert done.err.endswith(
        'Its home is what the snapshot "before" holds.'
        " What was in it before is the snapshot 11111111. To go back to that:\n"
        f"  workspace restore api {NEW_ID}\n"
    )
    assert done.json == home.workspace
    [sent] = home.changes()
    assert sent.path == f"/workspaces/{home.workspace['id']}/restore"
    assert (sent.query, sent.body) == ({}, {"snapshot_id": ONE})


@pytest.mark.parametrize(
    "kept",
    [None, snapshot(id=NEW_ID, state="FAILED"), problem(403, "FORBIDDEN", "No.")],
    ids=["an earlier one", "failed since", "not told"],
)
def test_a_restore_that_cannot_tell_what_was_kept_says_where_to_look(
    at_hub: Cli, home: Home, kept: Any
) -> None:
    """None is taken of what an earlier one has. The home is restored, whatever is told of that."""
    home.listed = [snapshot("before")]

    def answers(seen: Seen) -> Reply | None:
        is_over = seen.path == home.path and home.changes()
        return kept if is_over and isinstance(kept, Reply) else home.answer(seen)

    home.hub.answers = answers
    if isinstance(kept, dict):
        home.at_the_end = lambda: home.listed.insert(0, kept)

    done = at_hub.succeed("restore", "api", "before", "-y")

    assert done.err.endswith(
        'Its home is what the snapshot "before" holds.'
        " To see which snapshot has what was in it before:\n  workspace snapshots api\n"
    )


def test_a_script_need_not_wait_for_a_restore(at_hub: Cli, home: Home) -> None:
    """It gets the workspace as it is restored, and the line that waits for it works."""
    home.listed = [snapshot(id=ONE)]

    done = at_hub.succeed("restore", "api", "aaaaaaaa", "-y", "--no-wait", "-o", "json")

    assert done.json["operation"]["snapshot_id"] == ONE
    assert done.err == "api: asked for. To wait for it:\n  workspace wait api --for READY\n"
    assert at_hub.succeed("wait", "api", "--for", "READY").err.startswith(" ✓ snapshot stored")


@pytest.mark.parametrize(
    ("status", "said", "hint"),
    [
        ("SUSPENDED", "api is asleep", "its home is what it was. To go on: workspace start api"),
        ("READY", "api is ready", "its home is what it was, and it goes on"),
    ],
)
def test_a_restore_that_fails_says_that_the_home_is_what_it_was(
    at_hub: Cli, home: Home, status: str, said: str, hint: str
) -> None:
    """Also where the machine runs on, and for whoever waits by another command."""
    home.listed = [snapshot("before")]
    home.will_fail("NO_ROOM", "RESTORE", status=status)

    done = at_hub.run("restore", "api", "before", "-y", "-o", "json")

    assert (done.code, done.out) == (1, "")
    assert done.err.endswith(
        f"workspace: {said}, and its home is not restored: NO_ROOM: No luck\n  {hint}\n"
    )
    home.workspace.update(operation=home.restoring(ONE), error=None)
    home.looks = 2
    assert at_hub.run("wait", "api").code == 1


def test_a_restore_that_is_superseded_is_a_failure(at_hub: Cli, home: Home) -> None:
    """Somebody deletes the workspace meanwhile: its end is told, not the end of its home."""
    home.listed = [snapshot("before")]
    home.at_the_end = home.hub.workspaces.clear

    done = at_hub.run("restore", "api", "before", "-y")

    assert (done.code, done.err.splitlines()[-1]) == (1, "workspace: api is gone")


@pytest.mark.parametrize(("answer", "code"), [("api", 0), ("y", 5), ("", 5)])
def test_a_restore_says_what_is_lost_and_kept_and_asks(
    at_hub: Cli, home: Home, answer: str, code: int
) -> None:
    """A yes is typed too easily. What is lost is what the Hub says."""
    home.listed = [snapshot("before", id=ONE, captured_at=ago(hours=5))]
    home.loses.insert(0, {"what": "memory", "why": "It is shut down."})
    terminal = at_hub.terminal("restore", "api", "before", "--no-wait")
    for line in (
        'from        the snapshot "before": 5 h old, crash-consistent',
        "keeps       what is in the home now, as another snapshot",
        "loses       memory: It is shut down.",
        "            boot disk: It is made anew.",
        QUESTION,
    ):
        terminal.expect_exact(line)
    assert [each.body for each in home.changes()] == [{"snapshot_id": ONE, "dry_run": True}]
    terminal.sendline(answer)
    assert ended(terminal) == code
    assert len(asked(home)) == (0 if code else 1)


def test_a_restore_of_a_sleeping_workspace_says_what_is_only_in_memory(
    at_hub: Cli, home: Home
) -> None:
    """What no program has written to the disk is in no snapshot; a start before saves it."""
    home.listed = [snapshot("before")]
    home.workspace.update(status="SUSPENDED", memory_kept=True)
    home.hub.sign_in = {**SIGN_IN, "features": ["restore"]}  # without dry runs
    terminal = at_hub.terminal("restore", "api", "before")
    terminal.expect_exact("It sleeps: what programs have not written to the disk is lost with")
    terminal.expect_exact("To keep that, too, start it first: workspace start api")
    terminal.expect_exact("loses       memory: The machine is shut down")
    terminal.expect_exact(QUESTION)
    terminal.sendintr()
    assert ended(terminal) == 130
    assert home.changes() == []


def test_nothing_is_restored_without_an_answer(at_hub: Cli, home: Home) -> None:
    """Without a terminal the option has to be there, and nothing is sent."""
    home.listed = [snapshot("before")]
    done = at_hub.run("restore", "api", "before")
    assert (done.code, done.out) == (2, "")
    assert "  give --yes, if it is to be restored\n" in done.err
    assert home.changes() == []


def test_a_restore_has_dry_runs(at_hub: Cli, home: Home) -> None:
    """They say what is kept, too, and ask nothing."""
    home.listed = [snapshot("before")]

    done = at_hub.succeed("restore", "api", "before", "--dry-run")

    assert done.out.splitlines()[:2] == [
        "api         would have its home restored",
        "loses       boot disk: It is made anew.",
    ]
    kept = "keeps       what is in the home now, as another snapshot\n"
    assert f"{kept}This was a dry run: nothing was done.\n" in done.err
    assert asked(home) == []


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (
            problem(403, "QUOTA_EXCEEDED", "api has 5 of 5."),
            5,
            "  delete a snapshot, or stop another workspace: workspace snapshots api --delete",
        ),
        (problem(409, "NO_HOME", "There is none."), 5, "\n  it has a home disk once it has been"),
        (
            problem(409, "SNAPSHOT_NOT_READY", "It has failed."),
            5,
            "workspace: It has failed\n  to see when it is: workspace snapshots api\n",
        ),
        (
            problem(404, "SNAPSHOT_NOT_FOUND", "There is none."),
            3,
            "workspace: There is none\n  workspace snapshots api\n",
        ),
        (problem(409, "NAME_TAKEN", "One is called api."), 5, "workspace start ID --name OTHER\n"),
        (
            problem(409, "OPERATION_UNDER_WAY", "A START is under way."),
            5,
            "  wait until it has ended: workspace show api --watch\n",
        ),
        (
            problem(
                400,
                "INVALID_REQUEST",
                "w",
                errors=[{"field": "snapshot_id", "message": "is no id"}],
            ),
            2,
            "workspace: SNAPSHOT: is no id\n",
        ),
        (
            problem(404, "NOT_FOUND", "No such path."),
            5,
            "cannot restore a home: it refused, and did nothing",
        ),
    ],
    ids=lambda value: value.body["code"] if isinstance(value, Reply) else None,
)
def test_a_refused_restore_says_what_to_do(
    at_hub: Cli, home: Home, reply: Reply, code: int, said: str
) -> None:
    """And it is asked for once."""
    home.listed = [snapshot("before")]
    home.workspace["operation"] = operation("START") if "UNDER" in reply.body["code"] else None
    home.looks = 10**6
    home.hub.answers = lambda seen: reply if seen.method == "POST" else home.answer(seen)

    done = at_hub.run("restore", "api", "before", "-y")

    assert (done.code, said in done.err) == (code, True), done
    assert len(home.changes()) == 1


def test_a_restore_that_the_hub_would_refuse_is_not_asked_about(at_hub: Cli, home: Home) -> None:
    """Nobody types a name for nothing."""
    home.listed = [snapshot("before")]
    refused = problem(403, "QUOTA_EXCEEDED", "api has 5 of 5.")
    home.hub.answers = lambda seen: refused if seen.method == "POST" else home.answer(seen)
    terminal = at_hub.terminal("restore", "api", "before")
    terminal.expect_exact("api has 5 of 5")
    assert ended(terminal) == 5
    assert "Type its name" not in (terminal.before or "")


def test_a_lost_answer_to_a_restore_is_not_asked_for_again(at_hub: Cli, home: Home) -> None:
    """By then it may be over, and another would end what runs since; what tells is named."""
    home.listed = [snapshot("before")]
    home.hub.answers = lambda seen: Reply(0) if seen.method == "POST" else home.answer(seen)
    assert at_hub.run("restore", "api", "before", "-y").code == 7
    assert len(home.changes()) == 1


def test_ctrl_c_says_that_the_restore_goes_on(at_hub: Cli, home: Home) -> None:
    """And what waits for it."""
    home.listed = [snapshot("before")]
    home.looks = 10**6
    terminal = at_hub.terminal("restore", "api", "before", "-y")
    terminal.expect("storing the snapshot")
    terminal.sendintr()
    terminal.expect("goes on without you")
    terminal.expect("  workspace wait api --for READY")
    assert ended(terminal) == 130


def test_a_restore_waits_for_a_snapshot_that_is_being_taken(at_hub: Cli, home: Home) -> None:
    """It lasts some seconds, so nobody has to come back for it."""
    home.listed = [snapshot("before")]
    home.workspace["operation"] = home.under_way()

    def answers(seen: Seen) -> Reply | None:
        if seen.method == "POST" and (home.workspace["operation"] or {}).get("id") == taking:
            return problem(409, "OPERATION_UNDER_WAY", "A SNAPSHOT is under way.")
        return home.answer(seen)

    taking = home.workspace["operation"]["id"]
    home.hub.answers = answers

    done = at_hub.succeed("restore", "api", "before", "-y", "--no-wait")

    assert done.err.startswith("A snapshot of api is being taken. Waiting until it is captured …\n")
    assert len(home.changes()) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("api", "up"), 5, "once `workspace snapshots api` calls it ready: workspace restore api"),
        (("api", "gone"), 3, 'the snapshot "gone" of api is being deleted\n'),
        (("api", "bad"), 5, 'the snapshot "bad" of api has failed\n  take another one: '),
        (("api", "aaaaaaa"), 3, 'api has no snapshot "aaaaaaa"'),
        (("api", "twice"), 2, '"twice" may be several snapshots: '),
        (("other", "up"), 2, 'several workspaces are called "other": '),
        (("api",), 2, "Missing argument 'SNAPSHOT'"),
        (("api", "a b"), 2, "is neither a snapshot's name nor an id"),
    ],
)
def test_what_is_not_surely_a_snapshot_that_can_be_used_is_not_sent(
    at_hub: Cli, home: Home, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """A short beginning of an id is a name that has gone."""
    home.hub.workspaces += [workspace("other"), workspace("other")]
    home.listed = [
        snapshot("up", state="UPLOADING"),
        snapshot("gone", state="DELETING"),
        snapshot("bad", state="FAILED"),
        snapshot(id=ONE),
        snapshot("twice"),
        snapshot("twice"),
    ]

    done = at_hub.run("restore", *arguments, "-y")

    assert (done.code, said in done.err) == (code, True), done
    assert home.changes() == []


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["restore", "dry run"])
@pytest.mark.parametrize("features", [["dry_run", "snapshots"], None], ids=["older", "nonsense"])
def test_a_hub_that_cannot_restore_is_sent_nothing(
    at_hub: Cli, home: Home, more: tuple[str, ...], features: Any
) -> None:
    """It says so, and what to do."""
    home.hub.sign_in = {**SIGN_IN, "features": features}

    done = at_hub.run("restore", "api", "before", *more)

    assert (done.code, done.out) == (5, "")
    assert done.err == (
        f"workspace: {home.hub.address} cannot restore a home: so it was not asked\n"
        "  ask whoever runs this Hub to upgrade it\n"
    )
    assert home.hub.paths() == ["GET /sign-in"]


def test_a_workspace_that_is_restored_says_from_what(at_hub: Cli, home: Home) -> None:
    """`show` and `ls` say that it is restoring, and what is done now."""
    home.workspace["operation"] = {**home.restoring(ONE, "insert"), "requested_at": ago(minutes=3)}
    home.looks = 10**6

    shown = at_hub.succeed("show", "api").out.splitlines()

    assert shown[:3] == [
        "api         restoring",
        "next        making the machine, 3 min",
        "restores    the snapshot aaaaaaaa",
    ]
    assert re.search(
        r"^api +restoring +making the machine, 3 min ", at_hub.succeed("ls").out, re.MULTILINE
    )


# ---- on the local cloud --------------------------------------------------------------------------


def test_a_home_is_again_what_a_snapshot_holds(signed_in: Cli) -> None:
    """What was written since is gone from it, and is in another snapshot, which can be restored."""

    def files() -> list[str]:
        return signed_in.succeed("exec", "api", "--", "sh", "-c", "cat file; ls").out.split()

    signed_in.succeed("create", "api")
    signed_in.succeed("exec", "api", "--", "sh", "-c", "echo before > file")
    first = signed_in.succeed("snapshot", "api", "--name", "first", "--ready", "-o", "json").json
    signed_in.succeed("exec", "api", "--", "sh", "-c", "echo after > file; touch more")
    planned = signed_in.succeed("restore", "api", "first", "--dry-run", "-o", "json").json
    assert_fits(planned, "DryRun")
    assert [each["what"] for each in planned["loses"]] == ["memory", "boot_disk"]
    steps = words.steps(planned["steps"])
    assert steps[:3] == ["shutting down", "capturing the home", "storing the snapshot"]
    assert steps[3:] == ["deleting the machine", "making the machine", "booting"]
    assert files() == ["after", "file", "more"]

    done = signed_in.succeed("restore", "api", "first", "-y", "-o", "json")

    assert_fits(done.json, "Workspace")
    assert 'Its home is what the snapshot "first" holds.' in done.err
    assert files() == ["before", "file"]
    kept, taken = signed_in.succeed("snapshots", "api", "-o", "json").json["snapshots"]
    assert taken == first
    assert (kept["automatic"], kept["name"], kept["state"]) == (True, None, "READY")
    assert kept["consistency"] == "clean"  # the machine was shut down
    assert done.err.endswith(f"To go back to that:\n  workspace restore api {kept['id']}\n")
    listed = signed_in.succeed("snapshots", "api").err
    assert re.match(rf"{kept['id'][:8]} is the home as of \S+, kept by the Hub before a ", listed)
    assert re.search(
        r"  restore requested +ACCEPTED +first$",
        signed_in.succeed("events", "api").out,
        re.MULTILINE,
    )

    signed_in.succeed("stop", "api")
    signed_in.succeed("restore", "api", kept["id"], "-y")

    assert files() == ["after", "file", "more"]
    signed_in.succeed("rm", "-y", "api", "--no-wait")
