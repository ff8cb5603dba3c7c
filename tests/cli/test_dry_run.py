"""``--dry-run``: it shows what would be done, and does nothing, whatever the Hub's age."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.cli.cli_process import Cli
from tests.cli.scripted_hub import SIGN_IN, Reply, ScriptedHub, Seen, problem, workspace
from tests.cli.test_commands import assert_fits

COMMANDS = (
    ("create", "new"),
    ("start", "api", "--rebuild"),
    ("start", "api", "--may-move", "--home-disk-gb", "100"),
    ("start", "api", "--zone", "us-west1-b"),
    ("stop", "api"),
    ("rm", "api"),
)
READS = re.compile("GET ")


def changes(hub: ScriptedHub) -> list[str]:
    """Return what was sent to the Hub, besides reads."""
    return [path for path in hub.paths() if not READS.match(path)]


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(signed_in: Cli) -> None:
    """Decision, steps, losses, quota and machine are there; a delete is not asked about."""
    would = signed_in.succeed("create", "api", "--machine-type", "e2-standard-8", "--dry-run")
    assert would.out.splitlines() == [
        "api         would be made",
        "steps       making the machine, booting",
        "loses       nothing",
        "then        1 of 5 workspaces, 1 of 5 running",
        "machine     e2-standard-8 (8 CPUs, 32 GB), runs then",
    ]
    assert would.err == "This was a dry run: nothing was done.\n"
    assert signed_in.succeed("ls", "-o", "id").out == ""
    signed_in.succeed("create", "api")
    before = signed_in.succeed("ls", "-o", "json").json

    would = signed_in.succeed("rm", "api", "--dry-run")
    assert would.out.startswith("api         would be deleted\n")
    assert re.findall(r"^(?:loses)? +([a-z ]+): The ", would.out, re.MULTILINE) == [
        *("home", "memory", "boot disk", "name"),
    ]
    for command in ("stop", "rm", "start"):
        assert_fits(signed_in.succeed(command, "api", "--dry-run", "-o", "json").json, "DryRun")

    assert signed_in.succeed("ls", "-o", "json").json == before
    signed_in.succeed("rm", "api", "--yes", "--no-wait")


def test_a_refusal_of_a_dry_run_is_that_of_the_command(signed_in: Cli) -> None:
    """It has the same words and the same exit code."""
    signed_in.succeed("create", "api", "--no-wait")

    dry, real = (signed_in.run("create", "api", *more) for more in (("--dry-run",), ()))

    assert (dry.code, dry.out) == (real.code, real.out) == (5, "")
    without_id = [re.sub(r"workspace-[0-9a-f]{16}", "", done.err) for done in (dry, real)]
    assert without_id[0] == without_id[1]
    signed_in.succeed("rm", "api", "--yes", "--no-wait")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
    "sign_in",
    [None, {**SIGN_IN, "features": ["connect"]}, {**SIGN_IN, "features": None}, []],
    ids=["no sign-in", "older", "no features", "nonsense"],
)
def test_a_hub_without_dry_runs_is_sent_nothing(
    at_hub: Cli, hub: ScriptedHub, command: tuple[str, ...], sign_in: Any
) -> None:
    """It would refuse it."""
    hub.workspaces = [workspace("api")]
    hub.sign_in = sign_in

    done = at_hub.run(*command, "--dry-run")

    assert (done.code, done.out) == (5, "")
    assert f"{hub.address} has no dry runs, and would do it: so it was not asked" in done.err
    assert changes(hub) == []


def test_a_hub_that_answers_something_else_is_found_out(at_hub: Cli, hub: ScriptedHub) -> None:
    """A Hub that says that it has dry runs, and did it all the same, is an error."""
    hub.workspaces = [workspace("api")]
    hub.sign_in = {**SIGN_IN, "features": ["dry_run"]}

    done = at_hub.run("stop", "api", "--dry-run")

    assert (done.code, done.out) == (1, "")
    assert "did not answer one: it may have done it" in done.err
    [sent] = [each for each in hub.seen if each.method == "POST"]
    assert (sent.query, sent.body) == ({"dry_run": ["true"]}, {"dry_run": True})


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_hub_that_was_rolled_back_meanwhile_does_nothing(
    at_hub: Cli, hub: ScriptedHub, command: tuple[str, ...]
) -> None:
    """Version 0.1 ignores a query, refuses unknown fields and paths, and does what it knows."""
    hub.workspaces = [workspace("api")]
    hub.sign_in = {**SIGN_IN, "features": ["dry_run"]}
    done: list[str] = []

    def older(seen: Seen) -> Reply | None:
        if seen.method == "GET":
            return None
        verb = seen.path.removeprefix(f"/workspaces/{hub.workspaces[0]['id']}")
        if verb not in {"", "/workspaces", "/start", "/stop"}:
            return problem(404, "NOT_FOUND", "The Hub has no such path.")
        if unknown := sorted(set(seen.body or ()) - {"name", "machine_type", "image_tag"}):
            message = "is not a field; there are: name"
            errors = [{"field": each, "message": message} for each in unknown]
            return problem(400, "INVALID_REQUEST", "Some fields are wrong.", errors=errors)
        done.append(f"{seen.method} {seen.path}")
        return Reply(202, workspace("api"))

    hub.answers = older

    told = at_hub.run(*command, "--dry-run")

    assert (told.code, told.out, done) == (5, "", [])
    assert f"{hub.address} has no dry runs: it refused, and did nothing" in told.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("stop", "api", "-o", "json"),
        ("create", "api", "--dry-run", "--ssh"),
        ("create", "api", "--dry-run", "-o", "id"),
    ],
)
def test_options_that_do_not_fit_a_dry_run_are_refused(
    at_hub: Cli, hub: ScriptedHub, arguments: tuple[str, ...]
) -> None:
    """Nothing is sent."""
    assert at_hub.run(*arguments).code == 2
    assert hub.seen == []


def test_one_refused_dry_run_stops_no_other(at_hub: Cli, hub: ScriptedHub) -> None:
    """What a Hub sends is shown as far as it is understood, in safe lines."""
    hub.workspaces = [workspace("api"), workspace("web")]
    hub.sign_in = {**SIGN_IN, "features": ["dry_run"]}
    told = {"dry_run": True, "decision": "begin\x1b[2J", "kind": 7, "steps": ["x", None, "x"]}

    def answers(seen: Seen) -> Reply | None:
        if seen.method != "POST":
            return None
        mine = hub.workspaces[0]["id"] in seen.path
        return Reply(409, {"code": "NAME_TAKEN", "detail": "No."}) if mine else Reply(200, told)

    hub.answers = answers

    done = at_hub.run("stop", "api", "web", "--dry-run")

    assert done.code == 5
    assert "api: No" in done.err
    assert "web         begin" in done.out
    assert "\x1b" not in done.out
    assert "then        ? of ? workspaces, ? of ? running" in done.out
