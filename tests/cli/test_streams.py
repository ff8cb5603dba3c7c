"""Where the output goes: pipes that close, full disks, odd terminals, other zones and languages."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.cli_process import Cli
from tests.cli.scripted_hub import Reply, ScriptedHub, workspace


def shell(cli: Cli, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `W` is the command; a pipe fails if any part does."""
    program = " ".join(cli.program)
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; W() {{ {program} "$@"; }}; {line}'],
        env=cli.environment,
        cwd=cli.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_reader_that_has_enough_is_no_error(at_hub: Cli, hub: ScriptedHub) -> None:
    """`workspace ls | head -1` ends well and says nothing, with little and with much output."""
    for many in (3, 3000):
        listed = [workspace(f"w{number}") for number in range(many)]
        hub.always(Reply(body=listed))
        for form in ("table", "json", "id"):
            done = shell(at_hub, f"W ls -o {form} | head -n 1")
            assert (done.returncode, done.stderr) == (0, ""), done
    done = shell(at_hub, "W --help | true")
    assert (done.returncode, done.stderr) == (0, "")
    # Nor does a reader of the messages change what came of it.
    assert shell(at_hub, "W stop nothing 2>&1 | true").returncode == 3


def test_output_that_cannot_be_written_is_an_error(at_hub: Cli, hub: ScriptedHub) -> None:
    """A full disk, as nothing else, would leave a script with half a list."""
    hub.workspaces = [workspace()]
    done = shell(at_hub, "W ls > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "workspace: cannot write the output: No space left on device\n"
    assert shell(at_hub, "W ls >&-").returncode == 0
    assert shell(at_hub, "W ls 2>&-").returncode == 0
    assert shell(at_hub, "W stop nothing 2>&- <&-").returncode == 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_a_sign_gets_another(
    at_hub: Cli, hub: ScriptedHub, encoding: str
) -> None:
    """What the character set lacks is written in another way, never a traceback."""
    at_hub.environment["PYTHONIOENCODING"] = encoding
    hub.workspaces = [
        workspace("api", stops_at=None, metadata={"repo": "日本 Grüße …", "branch": None})
    ]
    for arguments in (("ls", "-o", "wide"), ("show", "api"), ("--help",), ("stop", "ä")):
        done = subprocess.run(
            [*at_hub.program, *arguments],
            env=at_hub.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        (done.stdout + done.stderr).decode(encoding)
        assert b"Traceback" not in done.stderr
        assert done.returncode in {0, 2}


def test_errors_and_progress_are_never_data(at_hub: Cli, hub: ScriptedHub) -> None:
    """All that is not what was asked for goes to stderr; an empty list is empty."""
    assert at_hub.succeed("ls").out == ""
    assert at_hub.succeed("ls", "-o", "json").out == "[]\n"
    assert at_hub.succeed("create", "api").out == ""
    made = hub.workspaces[0]["id"]
    assert at_hub.succeed("create", "two", "-o", "id").out != f"{made}\n"


def test_lines_are_plain_without_a_terminal(at_hub: Cli, hub: ScriptedHub) -> None:
    """Neither colours nor moving lines, whatever variables a CI sets."""
    hub.workspaces = [workspace("api")]
    more = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-256color"}
    for arguments in (("ls",), ("wait", "api"), ("stop", "nothing"), ("--help",)):
        done = at_hub.run(*arguments, more=more)
        assert "\x1b" not in done.out + done.err
        assert "\r" not in done.out + done.err


def test_times_of_events_say_their_zone(at_hub: Cli, hub: ScriptedHub) -> None:
    """A time without its zone is read wrongly by somebody."""
    hub.workspaces = [workspace("api")]
    hub.answers = lambda seen: (
        Reply(body=[{"at": "2026-07-01T22:30:00Z", "who": "hub", "what": "WorkspaceReady"}])
        if seen.path.endswith("/events")
        else None
    )
    at_hub.environment["TZ"] = "Asia/Kolkata"
    assert "2026-07-02 04:00:00 +0530" in at_hub.succeed("events", "api").out


def test_a_home_that_cannot_be_written_is_told(cli: Cli, hub: ScriptedHub) -> None:
    """A read-only home, or a file in the folder's place, is one line."""
    cli.put("gcloud", "#!/bin/sh\necho a.b.c\n")
    Path(cli.environment["XDG_CONFIG_HOME"]).write_text("a file")
    done = cli.run("login", hub.address)
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert "cannot write" in done.err
    cli.environment["XDG_CONFIG_HOME"] = os.devnull
    assert cli.run("use", "x").code == 1


def test_a_configuration_that_is_broken_is_told(cli: Cli) -> None:
    """By hand or by another program: the message names the file, and it stays as it is."""
    cli.config.mkdir(parents=True)
    file = cli.config / "config.json"
    for content in ("{", "[]", '{"version": 2}', '{"version": 1, "hubs": {"../x": {}}}', "\x00"):
        file.write_text(content)
        done = cli.run("hubs")
        assert (done.code, "Traceback" in done.err) == (1, False)
        assert str(file) in done.err
        assert file.read_text() == content
