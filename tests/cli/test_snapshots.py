"""``snapshot``, ``snapshots`` and ``fork``, on the local cloud and at Hubs that do as they like."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.cli_process import Cli, ended
from tests.cli.scripted_home import NEW_ID, Home, ago
from tests.cli.scripted_hub import (
    SIGN_IN,
    Reply,
    Seen,
    operation,
    problem,
    snapshot,
    snapshots,
    workspace,
)
from tests.cli.test_commands import assert_fits
from tests.http_target import eventually

CRASH = (
    "It is crash-consistent, as after a power failure: what programs had not written to the disk"
    " is not in it, and memory never is."
)
CLEAN = "The machine was off: all that was written is in it. Memory is never in a snapshot."


# ---- snapshot ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("consistency", "said"), [("crash", CRASH), ("clean", CLEAN)])
def test_a_snapshot_is_followed_until_it_is_captured(
    at_hub: Cli, home: Home, consistency: str, said: str
) -> None:
    """It says what is in it and what is not, and that its upload goes on."""
    home.will_have(name="before", consistency=consistency)

    done = at_hub.succeed("snapshot", "api", "--name", "before")

    assert done.out == ""
    first, *others = done.err.splitlines()
    assert re.fullmatch(r" ✓ home captured +\d+\.\d s", first)
    assert others == [
        f'The home of api is captured as the snapshot "before". {said}',
        "Its upload goes on by itself. To see when it is ready:",
        "  workspace snapshots api",
    ]
    assert [each.body for each in home.changes()] == [{"name": "before"}]


def test_a_script_gets_the_id_or_the_object(at_hub: Cli, home: Home) -> None:
    """Also of one without a name, and the id before it is captured."""
    taken = home.will_have()

    assert at_hub.succeed("snapshot", "api", "-o", "json").json == taken
    asked = at_hub.succeed("snapshot", "api", "--no-wait", "-o", "id")

    assert asked.out == f"{NEW_ID}\n"
    assert asked.err == "A snapshot of api was asked for. To see it:\n  workspace snapshots api\n"
    assert [each.body for each in home.changes()] == [{}, {}]


def test_a_script_can_wait_until_a_snapshot_is_ready(at_hub: Cli, home: Home) -> None:
    """What was captured is uploaded after that."""
    taken = home.will_have()
    lists = iter(range(100))

    def uploads(seen: Seen) -> Reply | None:
        if seen.method == "GET" and seen.path == home.path and next(lists) == 2:
            taken["state"] = "READY"
        return home.answer(seen)

    home.hub.answers = uploads

    done = at_hub.succeed("snapshot", "api", "--ready", "-o", "json")

    assert done.json["state"] == "READY"
    assert done.err.splitlines()[-2:] == ["Uploading …", "The snapshot 11111111 of api is ready."]


ERROR = {"code": "NO_ROOM", "message": "Full."}


@pytest.mark.parametrize(
    ("later", "code", "said"),
    [
        ({"state": "FAILED", "error": ERROR}, 1, "11111111 of api has failed: NO_ROOM: Full\n"),
        ({"state": "DELETING"}, 1, "the snapshot 11111111 of api was deleted meanwhile"),
        (None, 1, "the snapshot 11111111 of api was deleted meanwhile"),
        ({}, 6, "the snapshot 11111111 of api is still being uploaded"),
    ],
    ids=["failed", "deleting", "gone", "late"],
)
def test_an_upload_that_does_not_end_well_is_told(
    at_hub: Cli, home: Home, later: dict[str, Any] | None, code: int, said: str
) -> None:
    """With its reason, if the Hub has one."""
    taken = home.will_have()
    lists = iter(range(100))

    def fails(seen: Seen) -> Reply | None:
        if seen.method == "GET" and seen.path == home.path and next(lists) == 1:
            if later is None:
                home.listed.clear()
            else:
                taken.update(later)
        return home.answer(seen)

    home.hub.answers = fails
    timeout = "3" if code == 6 else "60"

    done = at_hub.run("snapshot", "api", "--ready", "--timeout", timeout, "-o", "id")

    assert (done.code, done.out) == (code, "")
    assert said in done.err


def being_deleted(home: Home) -> None:
    """Have the workspace be deleted meanwhile."""
    home.workspace["operation"] = operation("DELETE", "delete_instance")


@pytest.mark.parametrize(
    ("then", "said"),
    [
        (
            lambda home: home.will_fail("QUOTA"),
            "workspace: no snapshot of api was taken: QUOTA: No luck\n",
        ),
        (
            lambda home: home.will_have(state="FAILED", error=ERROR),
            "the snapshot 11111111 of api has failed: NO_ROOM: Full\n",
        ),
        (
            lambda home: home.will_have(name="z", state="DELETING", error=ERROR),
            "workspace: no snapshot of api was taken: NO_ROOM: Full\n",
        ),
        (
            lambda home: setattr(home, "at_the_end", lambda: being_deleted(home)),
            "api is being deleted, so its snapshot was given up",
        ),
        (
            lambda home: setattr(home, "at_the_end", home.hub.workspaces.clear),
            "api is gone, and its snapshot with it",
        ),
        (lambda _: None, "no snapshot of api was taken, or it is deleted again"),
    ],
    ids=["fails", "fails later", "is removed", "deleted", "gone", "unknown"],
)
def test_a_snapshot_that_was_not_taken_is_a_failure(
    at_hub: Cli, home: Home, then: Callable[[Home], None], said: str
) -> None:
    """It says why, and writes no id."""
    then(home)

    done = at_hub.run("snapshot", "api", "-o", "id")

    assert (done.code, done.out) == (1, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (
            Reply(
                429,
                {"code": "TOO_MANY_REQUESTS", "detail": "One in ten minutes."},
                {"Retry-After": "480"},
            ),
            5,
            "workspace: One in ten minutes\n  try again in 8 min\n",
        ),
        (
            problem(403, "QUOTA_EXCEEDED", "api has 5 of at most 5 snapshots."),
            5,
            "\n  delete one: workspace snapshots api --delete SNAPSHOT\n",
        ),
        (problem(409, "NAME_TAKEN", "One is called x."), 5, "workspace: One is called x\n"),
        (problem(409, "NO_HOME", "There is none."), 5, "\n  it has a home disk once it has been"),
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
            "has no snapshots: it refused, and did nothing",
        ),
    ],
    ids=["too soon", "too many", "name", "no home", "wrong name", "rolled back"],
)
def test_a_refusal_says_what_to_do(
    at_hub: Cli, home: Home, reply: Reply, code: int, said: str
) -> None:
    """And when, if the Hub says when."""
    home.hub.answers = lambda seen: reply if seen.method == "POST" else None

    done = at_hub.run("snapshot", "api", "--name", "x")

    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert len(home.changes()) == 1


def test_a_lost_answer_is_not_asked_for_again(at_hub: Cli, home: Home) -> None:
    """By then the snapshot may be captured, and another request would be another snapshot."""
    home.hub.answers = lambda seen: Reply(0) if seen.method == "POST" else None

    assert at_hub.run("snapshot", "api").code == 7
    assert len(home.changes()) == 1


def test_ctrl_c_says_that_the_snapshot_goes_on(at_hub: Cli, home: Home) -> None:
    """It ends with 130, and the line that it names lists the snapshot."""
    home.looks = 10**6
    terminal = at_hub.terminal("snapshot", "api")
    terminal.expect("capturing the home")
    terminal.sendintr()
    terminal.expect("The snapshot of api goes on without you. To see it:")
    terminal.expect("  workspace snapshots api")
    assert ended(terminal) == 130
    assert len(home.changes()) == 1


def test_a_snapshot_that_takes_too_long_is_not_in_time(at_hub: Cli, home: Home) -> None:
    """It goes on."""
    home.looks = 10**6
    done = at_hub.run("snapshot", "api", "--timeout", "0")
    assert done.code == 6
    assert "the snapshot of api is not captured after 0 s" in done.err
    assert "  workspace snapshots api\n" in done.err


def test_a_workspace_is_what_it_was_while_its_snapshot_is_taken(at_hub: Cli, home: Home) -> None:
    """It is ready, and nothing that waits for that waits longer."""
    home.workspace["operation"] = home.under_way()
    home.looks = 10**6

    assert re.search(r"^api +ready +capturing the home, ", at_hub.succeed("ls").out, re.MULTILINE)
    assert at_hub.succeed("wait", "api").err.startswith("api is ready.")
    error = {"code": "X", "message": "m", "operation_kind": "SNAPSHOT"}
    home.workspace.update(operation=None, error=error)
    assert at_hub.run("wait", "api", "--for", "suspended", "--timeout", "0").code == 6


# ---- snapshots -----------------------------------------------------------------------------------


def test_snapshots_are_listed_with_what_tells_them_apart(at_hub: Cli, home: Home) -> None:
    """Most have no name, so each has the beginning of its id; a failed one has its reason.

    One that the Hub took by itself says what it is.
    """
    error = {"code": "SNAPSHOT_LOST", "message": "It was deleted in Compute Engine."}
    home.listed = [
        snapshot(state="UPLOADING", captured_at=ago(minutes=3), stored_bytes=None),
        snapshot("before", captured_at=ago(hours=5), automatic=True, consistency="clean"),
        snapshot(captured_at=None, asked_at=ago(days=4), state="FAILED", error=error),
    ]
    first, second, third = (each["id"][:8] for each in home.listed)

    done = at_hub.succeed("snapshots", "api")

    assert [re.split("  +", line) for line in done.out.splitlines()] == [
        ["NAME", "ID", "STATE", "AGE", "SIZE", "CONSISTENCY"],
        ["–", first, "uploading", "3 min", "–", "crash-consistent"],  # noqa: RUF001
        ["before", second, "ready", "5 h", "3.4 GB", "clean"],
        [
            *("–", third),  # noqa: RUF001
            *("failed", "4 days", "3.4 GB", "crash-consistent"),
        ],
    ]
    kept, others = done.err.split("\n", 1)
    assert re.fullmatch(
        r'"before" is the home as of (\w{3} )?\d\d:\d\d, kept by the Hub before a restore or a'
        r" deletion\.",
        kept,
    )
    assert others == (
        f"{third} has failed: SNAPSHOT_LOST: It was deleted in Compute Engine.\n"
        "3 of at most 5 snapshots. To take one:\n  workspace snapshot api\n"
    )
    wide = at_hub.succeed("snapshots", "api", "-o", "wide").out
    assert home.listed[1]["id"] in wide
    assert re.search(
        r"by the Hub +50 GB +e2-standard-8 +latest +https:\S+ +main$", wide, re.MULTILINE
    )


def test_a_script_gets_ids_or_the_apis_own_object(at_hub: Cli, home: Home) -> None:
    """The object has also how many there may be, and from when on."""
    home.listed = [snapshot(), snapshot("x")]
    home.next_at = "2026-11-23T17:57:12Z"

    ids = at_hub.succeed("snapshots", "api", "-o", "id").out.split()

    assert ids == [each["id"] for each in home.listed]
    told = at_hub.succeed("snapshots", "api", "-o", "json").json
    assert told == snapshots(*home.listed, next_at=home.next_at)


def test_a_list_says_when_another_snapshot_may_be_taken(at_hub: Cli, home: Home) -> None:
    """An empty one, too, on stderr: stdout has nothing."""
    home.next_at = ago(minutes=-8)
    done = at_hub.succeed("snapshots", "api")
    said = "0 of at most 5 snapshots. Another may be taken in 8 min.\n"
    assert (done.out, done.err) == ("", said)


def test_the_snapshot_that_is_being_taken_is_listed(at_hub: Cli, home: Home) -> None:
    """By its name; once the Hub lists it, as the Hub does, and in JSON only then."""
    under_way = {**home.under_way(), "snapshot_name": "now", "requested_at": ago(seconds=300)}
    home.workspace["operation"] = under_way
    home.looks = 10**6

    done = at_hub.succeed("snapshots", "api")

    assert [re.split("  +", line) for line in done.out.splitlines()[1:]] == [
        ["now", "11111111", "being taken", "5 min", "–", "–"],  # noqa: RUF001
    ]
    assert done.err == "0 of at most 5 snapshots. Another is being taken now.\n"
    assert at_hub.succeed("snapshots", "api", "-o", "json").json["snapshots"] == []
    home.listed = [snapshot("now", id=NEW_ID, state="UPLOADING")]
    done = at_hub.succeed("snapshots", "api")
    assert [line.split()[2] for line in done.out.splitlines()[1:]] == ["uploading"]
    assert "being taken" not in done.err


ONE = "aaaaaaaa-2222-4333-8444-555555555555"
TWO = "aaaaaaaa-bbbb-4333-8444-555555555555"
OTHER = "cccccccc-2222-4333-8444-555555555555"


@pytest.mark.parametrize(
    ("wanted", "deleted"),
    [
        ("before", TWO),
        (OTHER, OTHER),
        ("cccccccc", OTHER),
        ("aaaaaaaa-2", ONE),
        ("dddddddd", OTHER),  # a name
        (TWO, TWO),
    ],
)
def test_a_snapshot_is_deleted_by_name_id_or_beginning_of_its_id(
    at_hub: Cli, home: Home, wanted: str, deleted: str
) -> None:
    """A name goes before the beginning of an id; of two, the one that is there is meant."""
    home.listed = [
        snapshot("before", state="DELETING"),
        snapshot(id=ONE),
        snapshot("before", id=TWO),
        snapshot("dddddddd", id=OTHER),
        snapshot(id="dddddddd-2222-4333-8444-555555555555"),
        snapshot(ONE),  # a name that looks like another's id
    ]

    done = at_hub.succeed("snapshots", "api", "--delete", wanted, "-y")

    assert done.out == ""
    said = re.fullmatch(r"The snapshot (\S+) of api is being deleted\.\n", done.err)
    assert said
    assert said[1] == {ONE: "aaaaaaaa", TWO: '"before"', OTHER: '"dddddddd"'}[deleted]
    assert [each.path for each in home.changes()] == [f"{home.path}/{deleted}"]


@pytest.mark.parametrize(
    ("wanted", "code", "said"),
    [
        ("ccccccc", 3, 'api has no snapshot "ccccccc"\n  workspace snapshots api\n'),
        ("aaaaaaaa", 2, '"aaaaaaaa" may be several snapshots: '),
        ("twice", 2, '"twice" may be several snapshots: '),
        ("db", 3, 'api has no snapshot "db"'),
        ("a;b", 2, "is neither a snapshot's name nor an id"),
    ],
)
def test_what_is_not_surely_one_snapshot_is_not_deleted(
    at_hub: Cli, home: Home, wanted: str, code: int, said: str
) -> None:
    """As `rm` has it: a short beginning is a name that has gone."""
    home.listed = [snapshot(id=ONE), snapshot("twice", id=TWO), snapshot("twice", id=OTHER)]

    done = at_hub.run("snapshots", "api", "--delete", wanted, "-y")

    assert (done.code, said in done.err) == (code, True), done
    assert home.changes() == []


@pytest.mark.parametrize(
    ("wanted", "answer", "code"),
    [("before", "before", 0), ("before", "y", 5), (ONE, "aaaaaaaa", 0), (ONE, "", 5)],
)
def test_a_deletion_of_a_snapshot_is_confirmed(
    at_hub: Cli, home: Home, wanted: str, answer: str, code: int
) -> None:
    """By its name, or by the beginning of its id if it has none."""
    question = {
        "before": 'Delete "before" of api, 5 h old? Type its name: ',
        ONE: "Type the first 8 characters of its id: ",
    }[wanted]
    home.listed = [snapshot("before", captured_at=ago(hours=5)), snapshot(id=ONE)]
    terminal = at_hub.terminal("snapshots", "api", "--delete", wanted)
    terminal.expect("Nothing brings it back")
    terminal.expect_exact(question)
    terminal.sendline(answer)
    assert ended(terminal) == code
    assert len(home.changes()) == (0 if code else 1)


def test_nothing_is_deleted_without_an_answer(at_hub: Cli, home: Home) -> None:
    """Without a terminal the option has to be there."""
    home.listed = [snapshot("before")]
    done = at_hub.run("snapshots", "api", "--delete", "before", "-o", "json")
    assert (done.code, done.out) == (2, "")
    assert "give --yes" in done.err
    assert home.changes() == []


def test_a_snapshot_in_use_is_not_deleted(at_hub: Cli, home: Home) -> None:
    """It says what to wait for. One that has just gone is told from a workspace."""
    home.listed = [snapshot("before")]
    refused = problem(409, "SNAPSHOT_IN_USE", "new is made from it.")

    def answers(seen: Seen) -> Reply | None:
        return refused if seen.method == "DELETE" else home.answer(seen)

    home.hub.answers = answers
    done = at_hub.run("snapshots", "api", "--delete", "before", "-y")
    assert done.code == 5
    assert (
        "  wait until the workspace whose home is made from it is ready, or start it\n" in done.err
    )
    refused = problem(404, "SNAPSHOT_NOT_FOUND", "There is none.")
    done = at_hub.run("snapshots", "api", "--delete", "before", "-y")
    assert done.code == 3
    assert "  workspace snapshots api\n" in done.err


# ---- fork ----------------------------------------------------------------------------------------


def test_a_fork_begins_as_the_newest_snapshot_that_is_ready(at_hub: Cli, home: Home) -> None:
    """It says which, how old it is, and what; then it is followed as a new workspace is."""
    home.listed = [
        snapshot(state="UPLOADING"),
        snapshot("before", captured_at=ago(hours=5)),
        snapshot("older"),
    ]

    done = at_hub.succeed("fork", "api", "new")

    assert done.out == ""
    assert done.err.splitlines() == [
        'From the snapshot "before" of api: 5 h old, crash-consistent',
        done.err.splitlines()[1],
        "  workspace ssh new",
    ]
    assert done.err.splitlines()[1].startswith("new is ready. ")
    [sent] = home.changes()
    assert (sent.path, sent.body) == (
        "/workspaces",
        {
            "name": "new",
            "metadata": {"device_id": "laptop"},
            "from": {"snapshot_id": home.listed[1]["id"]},
        },
    )
    assert sent.headers["Idempotency-Key"]


def test_a_fork_is_made_as_it_is_asked_for(at_hub: Cli, home: Home) -> None:
    """Of a given snapshot, also of a state that only a newer Hub knows; on this machine."""
    home.listed = [snapshot("before"), snapshot(id=ONE, state="THAWED")]
    machine = ("--machine-type", "m", "--image-tag", "t", "--zone", "z")
    about = ("--repo", "https://example.com/r", "--branch", "b")

    done = at_hub.succeed(
        "fork", "api", "new", "--snapshot", "aaa", *machine, *about, "--no-wait", "-o", "id"
    )

    [sent] = home.changes()
    assert sent.body["from"] == {"snapshot_id": ONE}
    named = {key: sent.body[key] for key in ("machine_type", "image_tag", "zone")}
    assert named == {"machine_type": "m", "image_tag": "t", "zone": "z"}
    assert sent.body["metadata"] == {
        "repo": "https://example.com/r",
        "branch": "b",
        "device_id": "laptop",
    }
    assert done.out == f"{home.hub.workspaces[-1]['id']}\n"
    assert done.err.splitlines()[0].startswith("From the snapshot aaaaaaaa of api: ")
    assert done.err.endswith("new was asked for. To wait for it:\n  workspace wait new\n")


@pytest.mark.parametrize(
    ("states", "code", "said"),
    [
        (
            (),
            3,
            (
                "workspace: api has no snapshot that can be used\n"
                "  take one, and wait until it is ready: workspace snapshot api --ready\n"
            ),
        ),
        (("FAILED", "DELETING"), 3, "workspace snapshot api --ready\n"),
        (
            ("FAILED", "UPLOADING"),
            5,
            "  once `workspace snapshots api` calls it ready: workspace fork api new\n",
        ),
    ],
)
def test_without_a_snapshot_it_says_how_to_take_one(
    at_hub: Cli, home: Home, states: tuple[str, ...], code: int, said: str
) -> None:
    """Nothing is asked for."""
    home.listed = [snapshot(state=state) for state in states]

    done = at_hub.run("fork", "api", "new")

    assert (done.code, said in done.err) == (code, True), done
    assert home.changes() == []


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (problem(409, "SNAPSHOT_NOT_READY", "It has failed."), 5, "workspace: It has failed\n"),
        (
            problem(404, "SNAPSHOT_NOT_FOUND", "There is none."),
            3,
            "workspace: There is none\n  workspace snapshots api\n",
        ),
        (problem(409, "NAME_TAKEN", "One is called new."), 5, "workspace: One is called new\n"),
        (
            problem(
                400,
                "INVALID_REQUEST",
                "w",
                errors=[
                    {"field": "name", "message": "is long"},
                    {"field": "from.snapshot_id", "message": "is no id"},
                    {"field": "from", "message": "is not a field"},
                ],
            ),
            2,
            "workspace: NEW: is long; --snapshot: is no id; --snapshot: is not a field\n",
        ),
    ],
)
def test_a_refused_fork_says_what_was_wrong(
    at_hub: Cli, home: Home, reply: Reply, code: int, said: str
) -> None:
    """In the words of its own options, and nothing of what it would have been made from."""
    home.listed = [snapshot()]
    home.hub.answers = lambda seen: reply if seen.method == "POST" else home.answer(seen)

    done = at_hub.run("fork", "api", "new")

    assert (done.code, said in done.err) == (code, True), done


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        (
            {"state": "FAILED", "error": ERROR},
            5,
            (
                'workspace: the snapshot "up" of api has failed: NO_ROOM: Full\n'
                "  take another one: workspace snapshots api\n"
            ),
        ),
        (
            {"state": "UPLOADING"},
            5,
            (
                'workspace: the snapshot "up" of api is still being uploaded\n'
                "  once `workspace snapshots api` calls it ready: workspace fork api new\n"
            ),
        ),
        (
            {"state": "DELETING"},
            3,
            'workspace: the snapshot "up" of api is being deleted\n  workspace snapshots api\n',
        ),
    ],
    ids=["failed", "uploading", "deleting"],
)
def test_a_snapshot_that_cannot_be_used_is_not_sent(
    at_hub: Cli, home: Home, fields: dict[str, Any], code: int, said: str
) -> None:
    """Nothing is said before the refusal. Nobody is sent to wait for one that has failed."""
    home.listed = [snapshot("up", **fields)]

    for more in ((), ("--dry-run",)):
        done = at_hub.run("fork", "api", "new", "--snapshot", "up", *more)
        assert (done.code, done.err) == (code, said)
    assert home.changes() == []


def test_a_fork_has_dry_runs(at_hub: Cli, home: Home) -> None:
    """It says from which snapshot, and nothing is made."""
    home.listed = [snapshot("before")]
    told = {"dry_run": True, "decision": "begin", "kind": "CREATE"}
    home.hub.answers = lambda seen: Reply(body=told) if seen.method == "POST" else home.answer(seen)

    done = at_hub.succeed("fork", "api", "new", "--dry-run")

    assert done.out.startswith("new         would be made\n")
    assert done.err.startswith('From the snapshot "before" of api: ')
    [sent] = home.changes()
    assert sent.query == {"dry_run": ["true"]}
    assert sent.body["from"] == {"snapshot_id": home.listed[0]["id"]}


def test_ctrl_c_says_that_the_fork_goes_on(at_hub: Cli, home: Home) -> None:
    """And what waits for it."""
    home.listed = [snapshot()]
    made = workspace("new", status="PROVISIONING", operation=operation("CREATE", "inserting"))

    def answers(seen: Seen) -> Reply | None:
        is_new = seen.method == "POST" or seen.path.endswith(made["id"])
        return Reply(body=made) if is_new else home.answer(seen)

    home.hub.answers = answers
    terminal = at_hub.terminal("fork", "api", "new")
    terminal.expect("making the machine")
    terminal.sendintr()
    terminal.expect("goes on without you")
    terminal.expect("  workspace wait new --for READY")
    assert ended(terminal) == 130


# ---- on the local cloud --------------------------------------------------------------------------


def test_what_was_in_a_home_is_in_its_fork(signed_in: Cli) -> None:
    """From the file that is written before the snapshot, to the fork that outlives it."""
    signed_in.succeed("create", "api")
    signed_in.succeed("exec", "api", "--", "sh", "-c", "echo before > file")

    taken = signed_in.succeed("snapshot", "api", "--name", "first", "--ready", "-o", "json")
    signed_in.succeed("exec", "api", "--", "sh", "-c", "echo after > file")
    signed_in.succeed("fork", "api", "copy")

    assert_fits(taken.json, "Snapshot")
    assert (taken.json["state"], taken.json["consistency"]) == ("READY", "crash")
    assert CRASH in taken.err
    assert signed_in.succeed("exec", "copy", "--", "cat", "file").out == "before\n"
    assert signed_in.succeed("exec", "api", "--", "cat", "file").out == "after\n"
    listed = signed_in.succeed("snapshots", "api", "-o", "json").json
    assert_fits(listed, "Snapshots")
    assert listed["snapshots"] == [taken.json]
    lost = signed_in.succeed("rm", "api", "--purge", "--dry-run").out
    assert re.search(r"^ +snapshots: ", lost, re.MULTILINE), lost

    gone = signed_in.succeed("snapshots", "api", "--delete", "first", "-y", "-o", "json").json

    assert_fits(gone, "Snapshot")
    assert gone["state"] == "DELETING"
    eventually(lambda: not signed_in.succeed("snapshots", "api", "-o", "id").out, 60)
    assert signed_in.run("fork", "api", "more").code == 3
    table = signed_in.succeed("events", "api").out
    assert {"snapshot taken", "snapshot delete requested"} <= {
        re.split("  +", line)[2] for line in table.splitlines()
    }
    signed_in.succeed("rm", "-y", "api")
    assert signed_in.succeed("exec", "copy", "--", "cat", "file").out == "before\n"
    signed_in.succeed("rm", "-y", "copy", "--no-wait")


# ---- all of them ---------------------------------------------------------------------------------

COMMANDS = (
    ("snapshot", "api"),
    ("snapshots", "api"),
    ("snapshots", "api", "--delete", "x", "-y"),
    ("fork", "api", "new"),
    ("fork", "api", "new", "--dry-run"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "sign_in",
    [None, {**SIGN_IN, "features": ["dry_run"]}, {**SIGN_IN, "features": None}, []],
    ids=["no sign-in", "older", "no features", "nonsense"],
)
def test_a_hub_without_snapshots_is_sent_nothing(
    at_hub: Cli, home: Home, command: tuple[str, ...], sign_in: Any
) -> None:
    """It would refuse it, or make an empty home."""
    home.hub.sign_in = sign_in

    done = at_hub.run(*command)

    assert (done.code, done.out) == (5, "")
    assert f"{home.hub.address} has no snapshots: so it was not asked" in done.err
    assert home.hub.paths() == ["GET /sign-in"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("snapshot", "api", "--no-wait", "--ready"),
        ("snapshot", "api", "--no-wait", "-o", "json"),
        ("snapshots", "api", "-y"),
        ("snapshots", "api", "--delete", "x", "-o", "id"),
        ("snapshots", "api", "--delete", "x", "-o", "wide"),
        ("fork", "api"),
        ("fork", "api", "new", "--ssh", "--no-wait"),
        ("fork", "api", "new", "--dry-run", "-o", "id"),
        ("fork", "api", "new", "--snapshot", "a b"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_fit_are_refused(
    at_hub: Cli, home: Home, arguments: tuple[str, ...]
) -> None:
    """Nothing is sent."""
    assert at_hub.run(*arguments).code == 2
    assert home.hub.seen == []


@pytest.mark.parametrize("words", ["snapshots api --delete a", "restore api a"])
def test_a_shell_completes_snapshots(at_hub: Cli, home: Home, words: str) -> None:
    """By name, or by id without one, once the workspace is there; a hostile name is left out."""
    home.listed = [snapshot("aname"), snapshot(id=ONE), snapshot("a\x1b[2J", id=TWO)]
    variables = {
        "_WORKSPACE_COMPLETE": "bash_complete",
        "COMP_CWORD": str(len(words.split())),
        "COMP_WORDS": f"workspace {words}",
    }

    def completed() -> bool:
        """Press the key. On a busy machine the Hub may not have answered in time."""
        done = at_hub.run(more=variables)
        assert done.err == ""
        return done.out.split() == ["plain,aname", f"plain,{ONE}", f"plain,{TWO}"]

    eventually(completed, 60)
    before = {**variables, "COMP_WORDS": "workspace snapshots --delete a", "COMP_CWORD": "3"}
    assert at_hub.run(more=before).out.strip() == ""


def test_events_are_named_in_words(at_hub: Cli, home: Home) -> None:
    """As JSON they are the API's own. Without snapshots nothing else is asked for."""
    event = {"at": ago(hours=1), "who": "w", "what": "KeepAwakeRequested", "result": "ACCEPTED"}
    home.hub.answers = lambda seen: Reply(body=[event]) if "events" in seen.path else None

    table = at_hub.succeed("events", "api").out
    assert "  keep awake requested  " in table
    assert "SNAPSHOT" not in table
    assert at_hub.succeed("events", "api", "-o", "json").json == [event]
    assert f"GET {home.path}" not in home.hub.paths()


def test_events_show_the_snapshot_that_they_are_about(at_hub: Cli, home: Home) -> None:
    """By its name; by the beginning of its id if it has none, or is not in the list."""
    home.listed = [snapshot("before", id=ONE), snapshot(id=OTHER)]
    about = (ONE, OTHER, NEW_ID, None)
    events = [{"at": ago(hours=1), "what": "SnapshotTaken", "snapshot_id": each} for each in about]
    lists = Reply(503, {"code": "UNAVAILABLE"})

    def answers(seen: Seen) -> Reply | None:
        return Reply(body=events) if "events" in seen.path else home.answer(seen)

    def shown() -> list[str]:
        head, *rows = at_hub.succeed("events", "api").out.splitlines()
        assert head.endswith("  SNAPSHOT")
        return [row.split()[-1] for row in rows]

    home.hub.answers = answers
    assert shown() == ["before", "cccccccc", "11111111", "–"]  # noqa: RUF001
    home.hub.answers = lambda seen: lists if seen.path == home.path else answers(seen)
    assert shown() == ["aaaaaaaa", "cccccccc", "11111111", "–"]  # noqa: RUF001


def test_a_snapshot_that_was_not_taken_hides_nothing_of_its_workspace(
    at_hub: Cli, home: Home
) -> None:
    """It works as before: `ls` says what is next, `show` and `snapshots` say what failed."""
    stops_at = ago(minutes=-60)
    failed = "no snapshot was taken: QUOTA: No luck"
    error = {"code": "QUOTA", "message": "No luck.", "operation_kind": "SNAPSHOT"}
    home.workspace.update(error=error, stops_at=stops_at)

    listed = at_hub.succeed("ls").out
    assert re.search(r"^api +ready +sleeps in 60 min  ", listed, re.MULTILINE)
    assert "QUOTA" not in listed
    assert f"sleeps in 60 min; {failed}  " in at_hub.succeed("ls", "-o", "wide").out
    shown = at_hub.succeed("show", "api").out.splitlines()
    assert shown[1:3] == ["next        sleeps in 60 min", f"snapshot    {failed}"]
    said = at_hub.succeed("snapshots", "api").err
    assert said.startswith("The last one was not taken: QUOTA: No luck.\n")

    home.workspace["status"] = "ERROR"
    assert re.search(r"^api +error +QUOTA: No luck ", at_hub.succeed("ls").out, re.MULTILINE)


# ---- start, stop and rm --------------------------------------------------------------------------


def busy(home: Home) -> Callable[[Seen], Reply | None]:
    """Return what refuses each change while the SNAPSHOT is under way, and does it then."""
    home.workspace["operation"] = home.under_way()

    def answers(seen: Seen) -> Reply | None:
        if seen.method == "POST" and home.workspace["operation"]:
            return problem(409, "OPERATION_UNDER_WAY", "A SNAPSHOT is under way.")
        if seen.method == "POST":
            is_start = seen.path.endswith("/start")
            home.workspace["status"] = "READY" if is_start else "SUSPENDED"
        return home.answer(seen)

    return answers


@pytest.mark.parametrize(("verb", "end"), [("start", "is ready"), ("stop", "is asleep")])
@pytest.mark.parametrize("more", [(), ("--no-wait",)], ids=["waits", "no wait"])
def test_a_start_or_stop_waits_for_a_snapshot(
    at_hub: Cli, home: Home, verb: str, end: str, more: tuple[str, ...]
) -> None:
    """It lasts some seconds, so nobody has to come back for it; a line says so."""
    home.hub.answers = busy(home)

    done = at_hub.succeed(verb, "api", *more)

    first, second, third, *_ = done.err.splitlines()
    assert first == "A snapshot of api is being taken. Waiting until it is captured …"
    assert second.startswith(" ✓ home captured ")
    assert third.startswith("api: asked for." if more else f"api {end}")
    assert [each.path.rpartition("/")[2] for each in home.changes()] == [verb, verb]


def test_a_start_does_not_wait_longer_than_it_is_told_to(at_hub: Cli, home: Home) -> None:
    """The snapshot goes on; nothing else was asked for."""
    home.hub.answers = busy(home)
    home.looks = 10**6

    done = at_hub.run("start", "api", "--timeout", "0")

    assert done.code == 6
    assert "the snapshot of api is not captured after 0 s\n" in done.err
    assert "  The snapshot of api goes on without you. Nothing else was asked for.\n" in done.err
    assert len(home.changes()) == 1


def test_another_operation_is_not_waited_for(at_hub: Cli, home: Home) -> None:
    """The refusal says how to wait for it."""
    refused = problem(409, "OPERATION_UNDER_WAY", "A START is under way.")
    home.hub.answers = lambda seen: refused if seen.method == "POST" else None
    home.workspace["operation"] = operation("START")

    done = at_hub.run("stop", "api")

    assert (done.code, len(home.changes())) == (5, 1)
    assert done.err.startswith(
        "workspace: A START is under way\n  wait until it has ended: workspace show api --watch\n"
    )


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ((), "This deletes the machine, its memory and its home. Nothing"),
        (("DELETING",), "This deletes the machine, its memory and its home. Nothing"),
        (("READY",), "the machine, its memory, its home and 1 snapshot. Nothing"),
        (("READY", "FAILED", "DELETING"), "its memory, its home and 2 snapshots. Nothing"),
        (None, "its memory, its home and the snapshots, if there are any. Nothing"),
    ],
    ids=["none", "leaving", "one", "two", "unknown"],
)
def test_a_deletion_says_how_many_snapshots_go(
    at_hub: Cli, home: Home, states: tuple[str, ...] | None, said: str
) -> None:
    """Before it asks. A list that cannot be had hinders no deletion."""
    home.listed = [snapshot(state=state) for state in states or ()]
    if states is None:
        home.hub.answers = lambda seen: problem(500, "X", "x") if seen.path == home.path else None
    terminal = at_hub.terminal("rm", "--no-wait", "api")
    terminal.expect_exact(said)
    terminal.expect("Type its name: ")
    terminal.sendline("api")
    assert ended(terminal) == 0


def test_a_deletion_counts_the_snapshots_of_all_workspaces(at_hub: Cli, home: Home) -> None:
    """Without the feature there are none, and none are asked for."""
    home.hub.workspaces.append(workspace("other"))
    listed = Reply(body=snapshots(snapshot(), snapshot()))
    home.hub.answers = lambda seen: listed if seen.path.endswith("/snapshots") else None
    said = {("snapshots",): ", their homes and 4 snapshots", (): " and their homes"}
    for features, what in said.items():
        home.hub.sign_in = {**SIGN_IN, "features": features}
        home.hub.seen.clear()
        terminal = at_hub.terminal("rm", "api", "other")
        terminal.expect_exact(f"This deletes the machines, their memory{what}. Nothing")
        terminal.sendline("")
        assert ended(terminal) == 5
        assert sum("snapshots" in path for path in home.hub.paths()) == 2 * len(features)


def test_a_dry_run_of_a_deletion_shows_the_snapshots(at_hub: Cli, home: Home) -> None:
    """They are lost with the workspace."""
    loses = [
        {"what": "home", "why": "It is deleted."},
        {"what": "snapshots", "why": "Its 3 snapshots are deleted."},
    ]
    told = {"dry_run": True, "decision": "begin", "kind": "DELETE", "loses": loses}
    home.hub.answers = lambda seen: Reply(body=told) if seen.method == "POST" else None

    lines = at_hub.succeed("rm", "api", "--dry-run").out.splitlines()

    assert lines[1:3] == [
        "loses       home: It is deleted.",
        "            snapshots: Its 3 snapshots are deleted.",
    ]
