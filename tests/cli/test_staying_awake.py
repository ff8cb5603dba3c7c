"""``keep-awake``, and what ``show`` says of what happens next, at Hubs of any age."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.cli_process import Cli
from tests.cli.scripted_hub import Reply, ScriptedHub, Seen, operation, problem, workspace

NOW = datetime.now(UTC)
AHEAD = (NOW + timedelta(hours=5)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_workspace_is_kept_awake_and_no_longer(signed_in: Cli) -> None:
    """It says until when, and when it goes to sleep then; `show` has both, with the reasons."""
    signed_in.succeed("create", "api")

    kept = signed_in.succeed("keep-awake", "api", "--for", "3h30m")
    shown = signed_in.succeed("show", "api").out
    off = signed_in.succeed("keep-awake", "api", "--off")

    assert re.match(
        r"api is kept awake until .*\d\d:\d\d\. It goes to sleep in (3|4) h if nobody connects\.",
        kept.err,
    )
    assert re.search(
        r"^next +in (3|4) h: it is suspended, and its memory is kept\. Why: it is kept awake until"
        r" then, and nobody has been connected since .*; unless somebody connects, or you keep"
        r" it awake longer$",
        shown,
        re.MULTILINE,
    )
    assert re.search(r"^kept awake +until .*\d\d:\d\d$", shown, re.MULTILINE)
    assert re.match(r"api is not kept awake\. It goes to sleep in \d+ min", off.err)
    late = signed_in.run("keep-awake", "api", "--for", "9d")
    assert (late.code, late.err.partition(";")[0]) == (
        2,
        "workspace: --for, --until: is too far ahead",
    )
    signed_in.succeed("stop", "api")
    asleep = signed_in.run("keep-awake", "api", "--for", "1h")
    assert asleep.code == 5
    assert "  workspace start api\n" in asleep.err
    signed_in.succeed("rm", "-y", "api", "--no-wait")


@pytest.mark.parametrize(
    ("option", "sent"),
    [
        (("--until", "2026-11-26T18:00:00+01:00"), "2026-11-26T17:00:00Z"),
        (("--off",), None),
    ],
)
def test_a_time_is_sent_in_utc(
    at_hub: Cli, hub: ScriptedHub, option: tuple[str, ...], sent: str | None
) -> None:
    """Null takes it back."""
    hub.workspaces = [workspace("api")]
    hub.answers = lambda seen: Reply(body=workspace("api")) if seen.method == "POST" else None

    at_hub.succeed("keep-awake", "api", *option)

    assert [each.body for each in hub.seen if each.method == "POST"] == [{"until": sent}]


def test_a_time_of_the_day_is_the_next_one(at_hub: Cli, hub: ScriptedHub) -> None:
    """It is this machine's clock that counts, and the time is within a day."""
    hub.workspaces = [workspace("api")]
    hub.answers = lambda seen: Reply(body=workspace("api")) if seen.method == "POST" else None

    at_hub.succeed("keep-awake", "api", "--until", "6:30")

    [body] = [each.body for each in hub.seen if each.method == "POST"]
    until = datetime.fromisoformat(body["until"])
    assert timedelta(0) < until - datetime.now(UTC) <= timedelta(days=1)
    assert f"{until.astimezone():%H:%M}" == "06:30"


def test_a_time_of_the_day_is_right_also_beyond_a_change_of_clocks(
    at_hub: Cli, hub: ScriptedHub
) -> None:
    """Tomorrow's offset is tomorrow's: the clocks of this place change an hour from now."""
    hub.workspaces = [workspace("api")]
    hub.answers = lambda seen: Reply(body=workspace("api")) if seen.method == "POST" else None
    now = datetime.now(UTC)
    change, asked = now + timedelta(hours=1), now - timedelta(hours=1)
    # In UTC until the change, and an hour ahead from then on (source: POSIX, "TZ"): J is the day.
    day, back = change.timetuple().tm_yday, (change + timedelta(days=180)).timetuple().tm_yday
    at_hub.environment["TZ"] = f"AAA0BBB-1,{day - 1}/{change:%H:%M:%S},{back - 1}"

    at_hub.succeed("keep-awake", "api", "--until", f"{asked:%H:%M}")

    [body] = [each.body for each in hub.seen if each.method == "POST"]
    until = asked.replace(second=0, microsecond=0) + timedelta(days=1) - timedelta(hours=1)
    assert body["until"] == f"{until:%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--off", "--for", "3h"),
        ("--for", "3"),
        ("--for", "h"),
        ("--until", "25:00"),
        ("--until", "2026-11-26T18:00:00"),
    ],
)
def test_what_is_no_time_is_a_wrong_usage(
    at_hub: Cli, hub: ScriptedHub, options: tuple[str, ...]
) -> None:
    """Nothing is sent."""
    assert at_hub.run("keep-awake", "api", *options).code == 2
    assert [each for each in hub.seen if each.method == "POST"] == []


def test_an_older_hub_is_told_from_a_workspace_that_is_not_there(
    at_hub: Cli, hub: ScriptedHub
) -> None:
    """What the person can do instead is said."""
    hub.workspaces = [workspace("api")]

    def older(seen: Seen) -> Reply | None:
        if seen.method == "POST":
            return problem(404, "NOT_FOUND", "There is no such path.")
        return None

    hub.answers = older
    done = at_hub.run("keep-awake", "api", "--for", "3h")

    assert done.code == 5
    assert "touch ~/.keep-awake" in done.err


def test_show_says_each_thing_that_happens_next_on_a_line(at_hub: Cli, hub: ScriptedHub) -> None:
    """What may happen at any time, and what is harmful or damaged, is shown as text."""
    hub.workspaces = [
        workspace(
            "api",
            outlook=[
                {
                    "kind": "suspend",
                    "at": AHEAD,
                    "since": None,
                    "what": "it is \x1b[31msuspended",
                    "why": "idle",
                    "unless": "somebody connects",
                },
                {"kind": "spot", "at": None, "since": None, "what": "it ends", "why": "spot"},
                "nothing",
                {"kind": 5, "at": 7},
            ],
        )
    ]

    lines = at_hub.succeed("show", "api").out.splitlines()

    assert lines[3].startswith("connect")
    assert lines[1:3] == [
        "next        in 5 h: it is \\x1b[31msuspended. Why: idle; unless somebody connects",
        "            at any time: it ends. Why: spot",
    ]


def test_show_has_the_deadline_below_what_is_under_way(at_hub: Cli, hub: ScriptedHub) -> None:
    """And a Hub that says no outlook is shown as ever."""
    deadline = {
        "kind": "deadline",
        "at": AHEAD,
        "since": None,
        "what": "the START is given up",
        "why": "it may take so long",
        "unless": None,
    }
    hub.workspaces = [
        workspace("api", operation=operation(), outlook=[deadline]),
        workspace("old", stops_at=AHEAD),
    ]

    under_way = at_hub.succeed("show", "api").out.splitlines()
    old = at_hub.succeed("show", "old").out.splitlines()

    assert under_way[1].startswith("next        booting")
    assert under_way[2] == "            in 5 h: the START is given up. Why: it may take so long"
    assert old[1] == "next        sleeps in 5 h"
