"""A Hub that attacks whoever uses it: in every field, in headers, in what it says of itself."""

from __future__ import annotations

import copy
import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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
from workspace_cli import UPGRADE, main

ID = "0b0e6c3c-6f0e-4c37-9d2b-1f7f8c3c9b52"
# Sets the title, clears the screen, starts a hidden link, turns text around, ends the line and
# writes one as if the command had, with rich's markup and an emoji code, C1, and what is invisible.
ATTACK = (
    "\x1b]0;owned\x07\x1b[2J\x1b]8;;https://evil\x1b\\x\u202e$(touch owned)`id`;\r\n"
    "workspace: all is well[bold red]x[/] :smile: \x9b31m\u2066\u200b\ufeff\ud800\x00\x7f"
)
OTHERS: tuple[Any, ...] = (None, -1, 1e308, True, [], {}, [[]], {"a": ATTACK}, "", "x" * 100_000)
PRINTED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: there are hundreds of runs. It waits for nothing."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda _: None)

    def once(*arguments: str) -> tuple[int, str, str]:
        code = main.run(list(arguments))
        out, err = capsys.readouterr()
        assert (tmp_path / "owned").exists() is False
        return code, out, err

    return once


@pytest.fixture
def as_program(hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a token for the scripted Hub."""
    monkeypatch.setenv("WORKSPACE_HUB", hub.address)
    monkeypatch.setenv("WORKSPACE_TOKEN", "a.token.of-a-program")


def assert_harmless(code: int, out: str, err: str) -> None:
    """Check that nothing acts on a terminal, and that no line is the Hub's own."""
    shown = out + err
    assert not [one for one in shown if unicodedata.category(one) in PRINTED and one != "\n"]
    assert code in range(8), shown
    assert "Traceback" not in shown
    assert not [line for line in shown.splitlines() if line.startswith("workspace: all is well")]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each member of a JSON value, at any depth."""
    members: Any = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    for key, below in members:
        yield (*path, key)
        yield from leaves(below, (*path, key))


def with_value(value: Any, path: tuple[Any, ...], put: Any) -> Any:
    """Return a copy of a JSON value with something else at a path."""
    changed = copy.deepcopy(value)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = put
    return changed


def whole() -> dict[str, Any]:
    """Return a workspace in which every field has a value."""
    return workspace(
        id=ID,
        status="ERROR",
        operation=operation(),
        error={"code": "X", "message": "m", "retryable": True, "at": "", "operation_kind": "START"},
        suspended_at="2026-11-23T18:47:12Z",
        stopped_because="idle",
        memory_kept=False,
        memory_lost_because="reason",
        archived_at="2026-12-10T18:47:12Z",
        archives_at="2026-12-09T18:47:12Z",
        home_disk_gb=50,
        deletes_at="2026-12-23T18:47:12Z",
        renewal={"at": "2026-12-23T18:47:12Z", "what": "w", "why": "y", "unless": "u"},
        instance={"status": "RUNNING"},
        why_no_instance="none",
        connection={"kind": "iap", "access": {"state": "refused", "why": "w"}, "command": "c"},
    )


def replies_by_path(replies: dict[str, Reply]) -> Callable[[Seen], Reply | None]:
    """Return what answers these paths so, and others by default."""
    return lambda seen: replies.get(seen.path)


COMMANDS = (
    ("ls", "-o", "wide", "--all"),
    ("show", ID),
    ("wait", ID, "--timeout", "0"),
    ("start", "api", "--timeout", "0"),
    ("rm", "api"),
)


@pytest.mark.usefixtures("as_program")
@pytest.mark.parametrize("path", list(leaves(whole())), ids=str)
def test_a_field_of_a_workspace_cannot_act(
    hub: ScriptedHub, run: Run, path: tuple[Any, ...]
) -> None:
    """Whatever stands in a field, commands show it harmlessly, or refuse it in a sentence."""
    for put in (ATTACK, *OTHERS):
        value = with_value(whole(), path, put)
        at_rest = {**value, "operation": None, "error": None} if path == ("id",) else value

        def answer(seen: Seen, one: Any = at_rest) -> Reply:
            is_list = seen.path == "/workspaces"
            return Reply(body=[one] if is_list else one)

        hub.answers = answer
        for command in COMMANDS if put is ATTACK else COMMANDS[:2]:
            assert_harmless(*run(*command))
        if put is not ATTACK:
            continue
        code, out, _ = run("ls", "-o", "json")
        assert (code, json.loads(out)) == (0, [at_rest])
        assert out.isascii()


@pytest.mark.usefixtures("as_program")
@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_a_time_beyond_all_clocks_is_shown(hub: ScriptedHub, run: Run, at: str) -> None:
    """In every field that holds a time, and in an event; it has no form in another zone."""
    value = whole()
    for path in leaves(whole()):
        if str(path[-1]).endswith("at"):
            value = with_value(value, path, at)
    event = {"at": at, "who": "w", "who_email": None, "what": "W", "times": 2}
    found = Reply(body=[value])
    events = {
        "/workspaces": found,
        f"/workspaces/{ID}": Reply(body=value),
        f"/workspaces/{ID}/events": Reply(body=[event]),
    }
    for operation_now in (None, {**operation(), "requested_at": at}):
        one = {**value, "operation": operation_now}

        def answer(seen: Seen, one: Any = one) -> Reply:
            return Reply(body=[one] if seen.path == "/workspaces" else one)

        hub.answers = answer
        for command in COMMANDS:
            assert_harmless(*run(*command))
    hub.answers = replies_by_path(events)
    code, out, err = run("events", ID)
    assert_harmless(code, out, err)
    assert (code, "W" in out) == (0, True)


@pytest.mark.usefixtures("as_program")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 429, 500, 503, 599])
@pytest.mark.parametrize("member", ["code", "detail", "title", "errors", "field", "message"])
def test_a_refusal_cannot_act(hub: ScriptedHub, run: Run, status: int, member: str) -> None:
    """Whatever stands in a problem, its message is one harmless line."""
    for put in (ATTACK, *OTHERS):
        errors: Any = [{"field": "name", "message": "wrong"}]
        told: dict[str, Any] = {"code": "INVALID_REQUEST", "detail": "d", "errors": errors}
        if member in {"field", "message"}:
            errors[0][member] = put
        else:
            told[member] = put
        hub.always(Reply(status, told))
        code, out, err = run("stop", ID)
        assert_harmless(code, out, err)
        assert code not in {0, 6}


@pytest.mark.usefixtures("as_program")
@pytest.mark.parametrize("name", ["X-Request-Id", "Location", "Link", "Retry-After", "Date"])
def test_a_header_cannot_act(hub: ScriptedHub, run: Run, name: str) -> None:
    """Headers are shown and believed as little as bodies."""
    for value in (
        "\x1b[2J\x07",
        "\x9b31m",
        "9" * 400,
        "-5",
        "nan",
        "http://[",
        '<http://[>; rel="next"',
        '<\x1b>; rel="next"',
        "",
    ):
        for status in (200, 302, 429, 500):
            hub.always(Reply(status, [] if status == 200 else {}, {name: value}))
            assert_harmless(*run("ls"))


@pytest.mark.usefixtures("as_program")
def test_an_event_cannot_act(hub: ScriptedHub, run: Run) -> None:
    """Neither its fields nor something that is no event."""
    hub.workspaces = [workspace(id=ID)]
    event = {"at": "2026-11-23T18:47:12Z", "who": "w", "who_email": None, "what": "W", "times": 2}
    event["snapshot_id"] = SNAPSHOT_ID
    for key in event:
        for put in (ATTACK, *OTHERS):
            events = [{**event, key: put}, put]
            found = Reply(body=[workspace(id=ID)])
            replies = {"/workspaces": found, f"/workspaces/{ID}/events": Reply(body=events)}
            hub.answers = replies_by_path(replies)
            assert_harmless(*run("events", ID))


@pytest.mark.usefixtures("as_program")
def test_a_dry_run_cannot_act(hub: ScriptedHub, run: Run) -> None:
    """None of its members, nor an answer that is none."""
    hub.workspaces = [workspace(id=ID)]
    hub.sign_in = {**SIGN_IN, "features": ["dry_run"]}
    told = {
        "dry_run": True,
        "decision": "begin",
        "kind": "DELETE",
        "steps": ["delete_instance"],
        "workspace": workspace(),
        "quota": {"workspaces": {"used": 1, "most": 5}, "running": {"used": 1, "most": 5}},
        "cost": {
            "machine_type": "e2-standard-8",
            "cpus": 8,
            "memory_gb": 32,
            "price_per_hour": {"amount": "0.1", "currency": "USD"},
            "runs": True,
        },
        "loses": [{"what": "home", "why": "It is deleted."}],
    }
    for path in (path for path in leaves(told) if path[0] != "workspace"):
        for put in (ATTACK, *OTHERS):
            hub.answers = replies_by_path(
                {f"/workspaces/{ID}": Reply(body=with_value(told, path, put))}
            )
            assert_harmless(*run("rm", ID, "--dry-run"))


SNAPSHOT_ID = "5d8ba1f6-20a3-4d31-8b5b-0c5c9d2f3c11"
LISTED = snapshots(
    snapshot(
        "before",
        id=SNAPSHOT_ID,
        automatic=True,
        error={"code": "X", "message": "m", "retryable": True, "at": "", "operation_kind": None},
    ),
    next_at="2999-11-23T18:47:12Z",
)
OF_SNAPSHOTS = (
    ("snapshots", ID, "-o", "wide"),
    ("fork", ID, "new", "--timeout", "0"),
    ("fork", ID, "new", "--snapshot", SNAPSHOT_ID[:8], "--timeout", "0"),
    ("snapshots", ID, "--delete", SNAPSHOT_ID, "-y"),
    ("snapshot", ID, "--timeout", "60"),
    ("snapshot", ID, "--ready", "--timeout", "0"),
)


def with_snapshots(hub: ScriptedHub, listed: Any, taken: Any, deleted: Any) -> None:
    """Have a Hub answer these to a list of snapshots, a request for one, and a deletion."""
    hub.sign_in = {**SIGN_IN, "features": ["snapshots"]}
    hub.workspaces = [workspace(id=ID)]

    def answer(seen: Seen) -> Reply | None:
        if "/snapshots" not in seen.path:
            return None
        return Reply(body={"GET": listed, "POST": taken, "DELETE": deleted}[seen.method])

    hub.answers = answer


def taking() -> dict[str, Any]:
    """Return a workspace whose snapshot is taken."""
    under_way = {**operation("SNAPSHOT", "await_snapshot"), "id": SNAPSHOT_ID}
    return workspace(id=ID, operation={**under_way, "snapshot_name": "before"})


@pytest.mark.usefixtures("as_program")
@pytest.mark.parametrize("path", [(), *leaves(LISTED)], ids=str)
def test_a_snapshot_cannot_act(hub: ScriptedHub, run: Run, path: tuple[Any, ...]) -> None:
    """Whatever stands in a list of snapshots, commands show it harmlessly, or refuse it."""
    for put in (ATTACK, "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", *OTHERS):
        listed = with_value(LISTED, path, put) if path else put
        [one] = LISTED["snapshots"]
        deleted = with_value(one, path[2:], put) if len(path) > 2 else put
        with_snapshots(hub, listed, taking(), deleted)
        for command in OF_SNAPSHOTS if put is ATTACK else OF_SNAPSHOTS[:1]:
            assert_harmless(*run(*command))
        if put is ATTACK and len(path) > 2 and path[2:] not in {("id",), ("state",)}:
            code, out, _ = run("snapshots", ID, "-o", "json")
            assert (code, json.loads(out), out.isascii()) == (0, listed, True)
    assert not [each.path for each in hub.seen if "owned" in each.path]


@pytest.mark.usefixtures("as_program")
@pytest.mark.parametrize("path", list(leaves(taking())), ids=str)
def test_a_workspace_whose_snapshot_is_taken_cannot_act(
    hub: ScriptedHub, run: Run, path: tuple[Any, ...]
) -> None:
    """Neither the answer to the request nor what is read then."""
    for put in (ATTACK, *OTHERS):
        with_snapshots(hub, LISTED, with_value(taking(), path, put), None)
        if put is ATTACK:
            assert_harmless(*run("snapshot", ID, "--timeout", "0"))
        code, out, err = run("snapshot", ID, "--no-wait", "-o", "id")
        assert_harmless(code, out, err)
        assert out in {"", f"{SNAPSHOT_ID}\n"}
        with_snapshots(hub, snapshots(), None, None)
        hub.workspaces = [with_value(taking(), path, put)]
        assert_harmless(*run("snapshots", ID, "-o", "wide"))


def restoring() -> dict[str, Any]:
    """Return a workspace whose home is restored."""
    under_way = {**operation("RESTORE", "await_stored"), "snapshot_id": SNAPSHOT_ID}
    return workspace(id=ID, operation=under_way)


@pytest.mark.usefixtures("as_program")
@pytest.mark.parametrize(
    "path", [(), *(path for path in leaves(restoring()) if path[0] == "operation")], ids=str
)
def test_a_workspace_that_is_restored_cannot_act(
    hub: ScriptedHub, run: Run, path: tuple[Any, ...]
) -> None:
    """Neither the answer to the request, nor what is read then, nor how it has ended."""
    restore = ("restore", ID, SNAPSHOT_ID, "-y")
    for put in (ATTACK, *OTHERS):
        with_snapshots(hub, LISTED, None, None)
        hub.sign_in = {**SIGN_IN, "features": ["restore"]}
        told = with_value(restoring(), path, put) if path else put
        listed = hub.answers

        def answer(seen: Seen, told: Any = told, listed: Any = listed) -> Reply | None:
            is_about_it = seen.path in {f"/workspaces/{ID}/restore", f"/workspaces/{ID}/status"}
            return Reply(body=told) if is_about_it else listed(seen)

        hub.answers = answer
        code, out, err = run(*restore, "--no-wait", "-o", "json")
        assert_harmless(code, out, err)
        assert (out.isascii(), json.loads(out or "null")) == (True, None if code else told)
        error = {"code": put, "message": put, "operation_kind": "RESTORE"}
        hub.workspaces = [workspace(id=ID, status="SUSPENDED", error=error)]
        if put is ATTACK:
            assert_harmless(*run("show", ID))
            assert_harmless(*run(*restore))


ASLEEP = ("name", "archived_at", "archives_at", "deletes_at", "home_disk_gb", "error")


@pytest.mark.usefixtures("as_program")
@pytest.mark.parametrize("field", [None, *ASLEEP])
def test_a_workspace_that_is_archived_cannot_act(
    hub: ScriptedHub, run: Run, field: str | None
) -> None:
    """Neither as it is shown, nor in the answer to what is asked, nor how that has ended."""
    hub.sign_in = {**SIGN_IN, "features": ["archive"]}
    asked = ("archive", ID, "-y", "--no-wait"), ("start", ID, "--may-move", "--timeout", "0")
    for put in (ATTACK, "9999-12-31T23:59:59-23:59", 10**4000, *OTHERS):
        sleeping = {**whole(), "status": "SUSPENDED", "operation": None, "error": None}
        if field == "error":
            put = {"code": "NO_CAPACITY", "message": put, "operation_kind": "START"}  # noqa: PLW2901
        hub.workspaces = [{**sleeping, field: put} if field else sleeping]
        told = hub.workspaces[0] if field else put

        def answer(seen: Seen, told: Any = told) -> Reply | None:
            return Reply(202, told) if seen.method == "POST" else None

        hub.answers = answer
        for command in (("show", ID), ("ls",), *asked):
            assert_harmless(*run(*command))


DELETED = {"deleted_workspaces": [deleted(id=ID)]}


@pytest.mark.usefixtures("as_program")
@pytest.mark.parametrize("path", [(), *leaves(DELETED)], ids=str)
def test_a_deleted_workspace_cannot_act(hub: ScriptedHub, run: Run, path: tuple[Any, ...]) -> None:
    """Neither in the list, nor once it is taken back."""
    hub.sign_in = {**SIGN_IN, "features": ["undelete"]}
    for put in (ATTACK, "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", *OTHERS):
        listed = with_value(DELETED, path, put) if path else put
        hub.answers = replies_by_path({"/deleted-workspaces": Reply(body=listed)})
        assert_harmless(*run("deleted", "-o", "wide"))
        if put is ATTACK:
            assert_harmless(*run("undelete", "api"))
            assert_harmless(*run("undelete", ID[:8]))
    for put in (ATTACK, *OTHERS) if not path else ():
        back = {**workspace(id=ID, status="SUSPENDED"), "name": put}
        hub.answers = replies_by_path({f"/workspaces/{ID}/undelete": Reply(body=back)})
        assert_harmless(*run("undelete", ID))
    assert not [each.path for each in hub.seen if "owned" in each.path]


@pytest.mark.usefixtures("as_program")
def test_a_time_until_which_a_deletion_can_be_taken_back_cannot_act(
    hub: ScriptedHub, run: Run
) -> None:
    """Nor does it hinder the deletion, whatever it is."""
    for put in (ATTACK, "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", *OTHERS):
        one = workspace(id=ID, operation=operation("DELETE"), undelete_until=put)
        hub.workspaces = [one]
        assert_harmless(*run("show", ID))
        code, out, err = run("rm", ID, "-y", "--no-wait")
        assert_harmless(code, out, err)
        assert code == 0


@pytest.mark.parametrize("path", list(leaves({**SIGN_IN, "more": 1})), ids=str)
def test_what_a_hub_says_of_itself_cannot_act(
    hub: ScriptedHub, run: Run, path: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Login understands it, or refuses it; what it stores is of the right form."""
    monkeypatch.setenv("PATH", "/nonexistent")
    for put in (ATTACK, *OTHERS):
        hub.sign_in = with_value({**SIGN_IN, "more": 1}, path, put)
        code, out, err = run("login", hub.address, "--name", "h")
        assert_harmless(code, out, err)
        assert code in {1, 4}  # gcloud is not there, at the latest
        assert "Authorization" not in hub.seen[-1].headers


HOSTILE_WAYS = [
    {"kind": "direct", "port": 22, "jump": "-oProxyCommand=touch${IFS}owned", "user": None},
    {"kind": "direct", "port": 22, "jump": "a@b\x1b[2J", "user": None},
    {"kind": "direct", "port": 22, "jump": "a b", "user": None},
    {"kind": "direct", "port": 22, "jump": "host:99999", "user": None},
    {"kind": "direct", "port": 0, "jump": None, "user": None},
    {"kind": "direct", "port": "22", "jump": None, "user": None},
    {"kind": "direct", "port": 22, "jump": None, "user": "-oProxyCommand=x"},
    {"kind": "iap", "user": "root;id"},
    {"kind": "tailnet"},
]


@pytest.mark.parametrize("way", HOSTILE_WAYS, ids=str)
def test_a_way_to_connect_that_is_none_is_refused(
    hub: ScriptedHub, run: Run, way: dict[str, Any]
) -> None:
    """What could become an option of ssh, or is no host, port or name, is not stored."""
    hub.sign_in = {**SIGN_IN, "connect": way}
    code, out, err = run("login", hub.address, "--yes", "--method", "gcloud")
    assert_harmless(code, out, err)
    assert code == 1
    if way["kind"] == "tailnet":
        assert UPGRADE in err


def test_a_hub_that_is_none_is_named_so(hub: ScriptedHub, run: Run) -> None:
    """Another server at the address, or a typing error, is told before any token is made."""
    hub.answers = lambda _: Reply(body={"hello": "world"})
    code, _, err = run("login", hub.address)
    assert (code, "is no Workspace Hub" in err) == (1, True)
    hub.answers = lambda _: problem(404, "NOT_FOUND", "Nothing here.")
    assert run("login", hub.address)[0] == 1
