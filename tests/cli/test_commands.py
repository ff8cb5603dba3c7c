"""Each command against a running local cloud, by its own process, without a terminal."""

from __future__ import annotations

import os
import re
import stat
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from shared.entry.description import description
from tests.cli.cli_process import Cli, Done
from tests.http_target import eventually


def assert_fits(value: Any, schema: str) -> None:
    """Check that a value is what the OpenAPI document calls so."""
    whole = {"$ref": f"#/components/schemas/{schema}", "components": description()["components"]}
    OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER).validate(value)


def test_a_workspace_lives_by_commands_alone(signed_in: Cli) -> None:
    """Create, stop, start and delete do what they say, and wait for it."""
    made = signed_in.succeed("create", "api", "--machine-type", "e2-standard-8")
    assert made.out == ""
    assert re.search(r"^ ✓ booted|^ ✓ machine made", made.err, re.MULTILINE)
    assert re.search(r"^api is ready after \d+ s\. It goes to sleep", made.err, re.MULTILINE)
    head, row = signed_in.succeed("ls").out.splitlines()
    assert head.split("  ")[0] == "NAME"
    assert re.match(r"api +ready +sleeps in \d+ min +e2-standard-8 +\d+ s ago, laptop", row)
    assert "api is asleep after" in signed_in.succeed("stop", "api").err
    assert re.search(
        r"^api +asleep since \d\d:\d\d: somebody", signed_in.succeed("show", "api").out
    )
    assert "api is ready after" in signed_in.succeed("start", "api").err
    assert "api is gone after" in signed_in.succeed("rm", "api", "--yes").err
    assert signed_in.run("show", "api").code == 3


def test_what_is_shown_as_json_is_the_apis_own(signed_in: Cli, email: str) -> None:
    """Lists, workspaces and events are as the OpenAPI document has them."""
    signed_in.succeed("create", "api", "--branch", "main")
    [listed] = signed_in.succeed("ls", "-o", "json").json
    assert_fits(listed, "Workspace")
    assert signed_in.succeed("ls", "-o", "id").out == f"{listed['id']}\n"
    assert listed["id"] in signed_in.succeed("ls", "-o", "wide", "--status", "ready").out
    assert signed_in.succeed("ls", "--status", "ERROR").out == ""
    assert_fits(signed_in.succeed("show", "api", "-o", "json").json, "WorkspaceInRealTime")
    events = signed_in.succeed("events", "api", "-o", "json").json
    for event in events:
        assert_fits(event, "Event")
    assert {"WorkspaceRequested", "WorkspaceReady"} <= {event["what"] for event in events}
    table = signed_in.succeed("events", listed["id"][:9], "-n", "2").out.splitlines()
    assert table[0].split()[0] == "AT"
    assert len(table) == 3
    assert signed_in.succeed("whoami").out == f"{email}\n"
    signed_in.succeed("rm", "api", "--yes", "--no-wait")


def test_several_workspaces_are_changed_at_once(signed_in: Cli) -> None:
    """Each is asked for before any is waited for, and each line says which one it is."""
    created = signed_in.succeed("create", "one", "--no-wait", "-o", "json")
    assert_fits(created.json, "Workspace")
    assert created.json["operation"]["kind"] == "CREATE"
    identifier = signed_in.succeed("create", "two", "--no-wait", "-o", "id").out.strip()
    both = signed_in.succeed("wait", "one", identifier)
    assert "one is ready" in both.err
    assert "two: asked for" in both.err or "two is ready" in both.err
    assert_leads_to(signed_in, signed_in.succeed("stop", "one", "two", "--no-wait"), "SUSPENDED")
    assert_leads_to(signed_in, signed_in.succeed("start", "one", "--no-wait"), "READY")
    gone = signed_in.succeed("rm", "-y", "one", "--no-wait")
    assert "workspace wait one" not in gone.err  # the name may be another's by then
    assert_leads_to(signed_in, gone, "gone")
    gone = signed_in.succeed("rm", "-y", "two", identifier, "two")
    assert gone.err.count("two is gone") == 1


def assert_leads_to(cli: Cli, done: Done, goal: str) -> None:
    """Check that the command that is named last waits for this, and comes to it."""
    words = done.err.splitlines()[-1].split()
    assert (words[:2], words[-2:]) == (["workspace", "wait"], ["--for", goal])
    cli.succeed(*words[1:])


def test_a_name_goes_before_the_beginning_of_an_id(signed_in: Cli) -> None:
    """Names, ids and beginnings of ids are understood everywhere; what is ambiguous is refused."""
    first = signed_in.succeed("create", "first", "--no-wait", "-o", "id").out.strip()
    signed_in.succeed("create", first[:4], "--no-wait")
    by_name = signed_in.succeed("show", first[:4], "-o", "json").json
    assert by_name["name"] == first[:4]
    assert signed_in.succeed("show", first[:5], "-o", "json").json["id"] == first
    near = signed_in.run("stop", "frist")
    assert near.code == 3
    assert near.err.startswith('workspace: there is no workspace "frist". Do you mean first?\n')
    signed_in.succeed("rm", "-y", "first", first[:4], "--no-wait")


def test_several_hubs_stand_side_by_side(signed_in: Cli, email: str) -> None:
    """Each has its name; one is in use; a command may name another; logout forgets one."""
    signed_in.succeed("login", "--local", "--email", "other-" + email, "--name", "second")
    assert signed_in.succeed("whoami").out == f"other-{email}\n"
    assert signed_in.succeed("whoami", "--hub", "local").out == f"{email}\n"
    assert signed_in.succeed("--hub", "local", "whoami").out == f"{email}\n"
    signed_in.succeed("use", "local")
    assert signed_in.succeed("whoami", "-o", "json").json["email"] == email
    hubs = {each["name"]: each for each in signed_in.succeed("hubs", "-o", "json").json}
    assert {name: each["current"] for name, each in hubs.items()} == {
        "local": True,
        "second": False,
    }
    assert signed_in.succeed("logout").err.startswith("local (")
    assert signed_in.succeed("whoami").out == f"other-{email}\n"  # the only one that is left
    signed_in.succeed("logout", "second")
    assert signed_in.run("whoami").code == 4
    assert list((signed_in.config / "credentials").glob("*.json")) == []


def test_what_is_stored_is_the_persons_alone(signed_in: Cli) -> None:
    """Files are 0600 and folders 0700, whatever the umask is."""
    before = os.umask(0)
    try:
        signed_in.succeed("login", "--local", "--name", "open")
    finally:
        os.umask(before)
    there = [signed_in.config, *signed_in.config.rglob("*")]
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in there}
    assert modes
    assert set(modes.values()) <= {"0o600", "0o700"}, modes


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_what_completes_commands(cli: Cli, shell: str) -> None:
    """The lines are for the shell that is named."""
    lines = cli.succeed("completion", shell).out
    assert f"_WORKSPACE_COMPLETE={shell}_complete" in lines


def test_a_shell_completes_commands_and_workspaces(signed_in: Cli) -> None:
    """Completion asks the Hub for names, and says nothing else, even if the Hub is away."""
    signed_in.succeed("create", "train", "--no-wait")
    variables = {"_WORKSPACE_COMPLETE": "bash_complete", "COMP_CWORD": "2"}

    def completed() -> bool:
        """Press the key. On a busy machine the Hub may not have answered in time."""
        done = signed_in.run(more={**variables, "COMP_WORDS": "workspace stop tr"})
        assert (done.out.strip() in {"", "plain,train"}, done.err) == (True, "")
        return bool(done.out.strip())

    eventually(completed, 60)
    done = signed_in.run(more={**variables, "COMP_WORDS": "workspace st", "COMP_CWORD": "1"})
    assert done.out.split() == ["plain,start", "plain,stop"]
    signed_in.environment["LOCALCLOUD_STATE"] = "/nowhere"
    signed_in.succeed("rm", "train", "-y", "--no-wait")
    signed_in.environment |= {"WORKSPACE_HUB": "http://127.0.0.1:1", "WORKSPACE_TOKEN": "t"}
    done = signed_in.run(more={**variables, "COMP_WORDS": "workspace stop tr"})
    assert (done.out.strip(), done.err) == ("", "")


def test_what_is_watched_is_told_as_it_changes(signed_in: Cli) -> None:
    """`show --watch` writes a line for each change, and ends when the workspace is gone."""
    signed_in.succeed("create", "api")
    watching = signed_in.start("show", "api", "--watch", "-o", "json")
    assert watching.stdout is not None
    assert b'"name": "api"' in watching.stdout.readline()  # it watches before there is a change
    signed_in.succeed("rm", "api", "-y")
    out, err = watching.communicate(timeout=60)
    assert watching.returncode == 0, err
    for line in out.decode().splitlines():
        assert '"name": "api"' in line
    assert "api is gone." in err.decode()
