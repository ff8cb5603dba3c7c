"""``start`` in another zone and with a larger home, and what is said if there is no capacity."""

from __future__ import annotations

import re
from typing import Any

import pytest

from localcloud.running_cloud import RunningCloud
from tests.cli.cli_process import Cli
from tests.cli.scripted_hub import Reply, ScriptedHub, Seen, operation, problem, workspace
from tests.cli.test_commands import assert_fits

FULL = {"code": "NO_CAPACITY", "message": "It is full.", "operation_kind": "START"}


def asleep(hub: ScriptedHub, *phases: str, **after: Any) -> dict[str, Any]:
    """Have a workspace ``api`` whose START goes through these phases, and then is so."""
    sleeping = workspace("api", status="SUSPENDED")
    hub.workspaces = [sleeping]
    left = iter(phases)

    def answer(seen: Seen) -> Reply | None:
        if seen.method == "POST":
            sleeping["operation"] = operation("START", "survey")
            return Reply(202, sleeping)
        if sleeping["operation"] and seen.path == f"/workspaces/{sleeping['id']}":
            phase = next(left, None)
            sleeping["operation"] = phase and operation("START", phase)
            sleeping.update({} if phase else after)
        return None

    hub.answers = answer
    return sleeping


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (("--may-move",), {"may_move": True}),
        (("--zone", "us-west1-b"), {"zone": "us-west1-b"}),
        (("--home-disk-gb", "100"), {"home_disk_gb": 100}),
        (("--may-move", "--home-disk-gb", "7"), {"may_move": True, "home_disk_gb": 7}),
    ],
    ids=["may move", "zone", "home", "both"],
)
def test_a_start_sends_what_it_was_told_and_nothing_else(
    at_hub: Cli, hub: ScriptedHub, options: tuple[str, ...], body: dict[str, Any]
) -> None:
    """A Hub refuses a field that it does not know, so one that nobody has given is not there."""
    asleep(hub, status="READY")
    at_hub.succeed("start", "api", *options)
    [sent] = [each for each in hub.seen if each.method == "POST"]
    assert (sent.query, sent.body) == ({}, body)


def test_each_part_of_a_move_is_told(at_hub: Cli, hub: ScriptedHub) -> None:
    """To a person it is one thing if Compute is asked again, and if it is waited for."""
    snapshot = ("snapshot", "await_snapshot", "await_stored")
    asleep(hub, "stop", "await_stopped", *snapshot, "insert", "await_ready", status="READY")
    done = at_hub.succeed("start", "api", "--zone", "us-west1-b")
    assert re.findall(r"^ ✓ ([a-z ]*[a-z]) +\d+\.\d s$", done.err, re.MULTILINE) == [
        *("machine checked", "shut down", "home captured", "snapshot stored"),
        *("machine made", "booted"),
    ]


def test_each_part_of_a_growth_is_told(at_hub: Cli, hub: ScriptedHub) -> None:
    """Asking for it is no part of its own."""
    asleep(hub, "resize_disk", "await_resized", "resize_disk", "insert", status="READY")
    done = at_hub.succeed("start", "api", "--home-disk-gb", "100")
    assert re.findall(r"^ ✓ ([a-z ]*[a-z]) +\d+\.\d s$", done.err, re.MULTILINE) == [
        *("machine checked", "disk enlarged", "machine made"),
    ]


@pytest.mark.parametrize(
    ("options", "after", "hint"),
    [
        ((), {}, "try again later, or let it move without its memory, by --may-move: "),
        (("--zone", "us-west1-b"), {}, "try again later, or without --zone: "),
        (("--may-move",), {}, "try again later: "),
        (("--zone", "us-west1-b", "--may-move"), {}, "try again later: "),
        ((), {"archived_at": "2026-11-23T17:47:12Z"}, "try again later: "),
    ],
    ids=["with a home", "to a zone", "to any zone", "to a zone or any", "archived"],
)
def test_a_start_that_finds_no_capacity_says_what_else_can_be_done(
    at_hub: Cli, hub: ScriptedHub, options: tuple[str, ...], after: dict[str, Any], hint: str
) -> None:
    """An archived workspace has no zone, so it was tried in all of them."""
    asleep(hub, error=FULL, **after)
    done = at_hub.run("start", "api", *options)
    assert done.code == 1
    assert done.err.endswith(f"NO_CAPACITY: It is full\n  {hint}workspace start api\n")


def test_a_start_that_leaves_what_runs_as_it_was_has_failed(at_hub: Cli, hub: ScriptedHub) -> None:
    """It is ready, as it was before, and not as it was to be. Nothing else needs to be started."""
    full = {**FULL, "code": "COMPUTE_QUOTA_EXCEEDED", "message": "No luck."}
    running = asleep(hub, "resize_disk", error=full)
    running["status"] = "READY"
    done = at_hub.run("start", "api", "--home-disk-gb", "100")
    assert done.code == 1
    assert done.err.endswith(
        "api is ready, and nothing of it was changed: COMPUTE_QUOTA_EXCEEDED: No luck\n"
        "  workspace show api\n"
    )
    hub.answers = lambda seen: Reply(body=running) if seen.method == "POST" else None
    assert at_hub.succeed("start", "api").err.startswith("api is ready. It goes to sleep")


@pytest.mark.parametrize(
    ("option", "field", "message"),
    [
        ("--zone=us-west1-b", "zone", "still has the machine of before"),
        ("--home-disk-gb=10", "home_disk_gb", "is too small; the home has 50 GB"),
        ("--may-move", "may_move", "is not a field"),
    ],
)
def test_what_the_hub_refuses_is_said_of_the_option(
    at_hub: Cli, hub: ScriptedHub, option: str, field: str, message: str
) -> None:
    """An older Hub refuses the field, and does nothing."""
    asleep(hub)
    errors = [{"field": field, "message": message}]
    refused = problem(400, "INVALID_REQUEST", "Some fields are wrong.", errors=errors)
    hub.answers = lambda seen: refused if seen.method == "POST" else None
    done = at_hub.run("start", "api", option)
    assert (done.code, done.out) == (2, "")
    assert f"workspace: {option.partition('=')[0]}: {message}\n" in done.err


@pytest.mark.parametrize("size", ["0", "-1", "x", "1.5"])
def test_what_is_no_size_is_not_sent(at_hub: Cli, hub: ScriptedHub, size: str) -> None:
    """It is whole, and at least one."""
    asleep(hub)
    assert at_hub.run("start", "api", "--home-disk-gb", size).code == 2
    assert hub.seen == []


def test_a_look_says_how_large_the_home_is(at_hub: Cli, hub: ScriptedHub) -> None:
    """If it is known."""
    hub.workspaces = [workspace("api", home_disk_gb=120), workspace("old", home_disk_gb=None)]
    assert "\nhome        120 GB\n" in at_hub.succeed("show", "api").out
    assert "\nhome " not in at_hub.succeed("show", "old").out


def test_a_start_of_what_is_archived_says_that_its_memory_is_gone(
    at_hub: Cli, hub: ScriptedHub
) -> None:
    """Nobody waits for what they had open."""
    archived = asleep(hub, status="READY", archived_at=None)
    archived |= {"archived_at": "2026-11-23T17:47:12Z", "memory_kept": False}
    said = "api is archived: its disk and machine are made again. What was in its memory is gone.\n"
    assert said in at_hub.succeed("start", "api").err
    assert said not in at_hub.succeed("start", "api").err


# ---- on the local cloud --------------------------------------------------------------------------


def with_file(signed_in: Cli) -> None:
    """Make the workspace ``api`` with a file in its home."""
    signed_in.succeed("create", "api")
    signed_in.succeed("exec", "api", "--", "sh", "-c", "echo mine > file")


def assert_kept(signed_in: Cli) -> None:
    """Check that the file is still there, and delete the workspace."""
    assert signed_in.succeed("exec", "api", "--", "cat", "file").out == "mine\n"
    signed_in.succeed("rm", "api", "-y", "--no-wait")


def test_an_archived_home_comes_back_by_a_start(signed_in: Cli) -> None:
    """With what was in it. Until then it is said where it is."""
    with_file(signed_in)
    archived = signed_in.succeed("archive", "api", "-y").err
    assert re.search(r"^api is archived.*Its home is kept as a snapshot", archived, re.MULTILINE)
    assert "\nhome        a snapshot; a start makes a disk" in signed_in.succeed("show", "api").out
    assert "What was in its memory is gone" in signed_in.succeed("start", "api").err
    assert_kept(signed_in)


def test_a_home_moves_if_its_zone_has_no_capacity(signed_in: Cli, cloud: RunningCloud) -> None:
    """If its person says so. Until then, the workspace is as it was."""
    with_file(signed_in)
    signed_in.succeed("stop", "api")
    before = signed_in.succeed("show", "api", "-o", "json").json
    cloud.fault("stock_out", instance=before["instance_name"], zone=before["zone"])
    stays = signed_in.run("start", "api")
    assert (stays.code, "by --may-move: workspace start api\n" in stays.err) == (1, True)
    planned = signed_in.succeed("start", "api", "--may-move", "--dry-run", "-o", "json").json
    assert_fits(planned, "DryRun")
    found = signed_in.succeed("show", "api", "-o", "json").json
    assert (found["zone"], found["memory_kept"]) == (before["zone"], True)
    signed_in.succeed("start", "api", "--may-move")
    assert signed_in.succeed("show", "api", "-o", "json").json["zone"] != before["zone"]
    cloud.fault("stock_out", off=True)
    assert_kept(signed_in)


def test_a_home_grows_up_to_the_limit(signed_in: Cli) -> None:
    """With what was in it. It is said how large it is."""
    with_file(signed_in)
    assert signed_in.run("start", "api", "--home-disk-gb", "100000").code == 2
    signed_in.succeed("start", "api", "--home-disk-gb", "100")
    assert "\nhome        100 GB\n" in signed_in.succeed("show", "api").out
    assert_kept(signed_in)
