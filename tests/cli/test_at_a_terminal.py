"""The command in a terminal: what moves, what is asked, and what Ctrl-C says."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pexpect
import pytest

from tests.cli.cli_process import Cli, ended
from tests.cli.scripted_hub import SIGN_IN, Reply, ScriptedHub, Seen, operation, workspace
from tests.http_target import eventually

DIRECT = {"kind": "direct", "port": 2222, "jump": "bob@bastion.example.com:22", "user": "dev"}
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def starting(hub: ScriptedHub) -> None:
    """Have a workspace that boots for as long as the test wants."""
    hub.workspaces = [workspace("api", status="PROVISIONING", operation=operation())]


def test_the_present_phase_moves_and_ends_as_a_line(at_hub: Cli, hub: ScriptedHub) -> None:
    """A line that moves says what is done now; each phase that has ended has its time."""
    starting(hub)
    terminal = at_hub.terminal("wait", "api")
    terminal.expect("booting")
    terminal.expect(r"\x1b\[")  # it moves
    hub.workspaces[0] |= {"status": "READY", "operation": None}
    terminal.expect(r"✓ booted +\d+\.\d s")
    terminal.expect(r"api is ready after \d+ s")
    assert ended(terminal) == 0


def test_what_is_usual_is_told_from_the_second_time_on(at_hub: Cli, hub: ScriptedHub) -> None:
    """The command remembers what things took that it has seen from their beginning."""
    long_ago = "2026-01-01T00:00:00Z"

    def begin(requested_at: str | None) -> pexpect.spawn[str]:
        starting(hub)

        def answer(_: Seen) -> None:
            """Have the operation be asked for now, whenever that is on a busy machine."""
            under_way = hub.workspaces[0]["operation"]
            if under_way is not None:
                under_way["requested_at"] = requested_at or datetime.now(UTC).isoformat()

        hub.answers = answer
        terminal = at_hub.terminal("wait", "api")
        terminal.expect("booting")
        return terminal

    def end(terminal: pexpect.spawn[str]) -> None:
        hub.workspaces[0] |= {"status": "READY", "operation": None}
        assert ended(terminal) == 0

    end(begin(long_ago))  # somebody else's, of which only the end was seen
    terminal = begin(None)
    terminal.expect(r"booting +\d+\.\d s +\x1b|booting +\d+\.\d s *\r")
    end(terminal)
    terminal = begin(long_ago)
    terminal.expect(r"booting +\d+\.\d s +\(usually \d+ s\)")
    assert re.search(r"booting, \d+ days \(usually \d+ s\)", at_hub.succeed("ls").out)
    end(terminal)


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (("--plain", "wait", "api"), {}),
        (("wait", "api", "--plain"), {}),
        (("wait", "api"), {"NO_COLOR": "1"}),
        (("wait", "api"), {"TERM": "dumb"}),
    ],
    ids=["before", "after", "NO_COLOR", "dumb"],
)
def test_nothing_moves_if_it_is_not_wanted(
    at_hub: Cli, hub: ScriptedHub, arguments: tuple[str, ...], more: dict[str, str]
) -> None:
    """With --plain, NO_COLOR or a dumb terminal each phase is one plain line, when it ends."""
    starting(hub)
    reads = iter(range(1000))

    def answer(seen: Seen) -> Reply | None:
        if seen.path.count("/") == 2 and next(reads) == 1:
            hub.workspaces[0] |= {"status": "READY", "operation": None}
        return None

    hub.answers = answer
    terminal = at_hub.terminal(*arguments, more=more)
    terminal.expect(pexpect.EOF)
    assert not re.search(r"\x1b|\r(?!\n)", terminal.before or "")
    assert re.match(r" ✓ booted +\d+\.\d s\r\napi is ready after", terminal.before or "")
    assert ended(terminal) == 0


def test_ctrl_c_says_what_goes_on_and_how_to_come_back(at_hub: Cli, hub: ScriptedHub) -> None:
    """It ends with 130; nothing is undone, and the line that comes back to it works."""
    hub.answers = lambda seen: (
        Reply(201, workspace(seen.body["name"], status="PROVISIONING", operation=operation()))
        if seen.method == "POST"
        else Reply(body=workspace("api", status="PROVISIONING", operation=operation()))
    )
    terminal = at_hub.terminal("create", "api")
    terminal.expect("booting")
    terminal.sendintr()
    terminal.expect("goes on without you")
    terminal.expect("  workspace wait api --for READY")
    assert ended(terminal) == 130
    assert [path for path in hub.paths() if not path.startswith("GET")] == ["POST /workspaces"]


def test_ctrl_c_names_what_is_being_deleted_by_its_id(at_hub: Cli, hub: ScriptedHub) -> None:
    """Its name is free, so by then it may be another workspace's; one may be gone by then."""
    hub.workspaces = [
        workspace(name, operation=operation("DELETE", "delete_disk")) for name in ("api", "other")
    ]
    one, two = (each["id"] for each in hub.workspaces)
    terminal = at_hub.terminal("rm", "-y", "api", "other")
    eventually(lambda: f"GET /workspaces/{two}" in hub.paths(), 60)  # both are followed by then
    terminal.sendintr()
    terminal.expect(f"  workspace wait {one} {two} --for gone")
    assert ended(terminal) == 130
    del hub.workspaces[0]
    late = at_hub.run("wait", one, two, "--for", "gone", "--timeout", "0")
    assert (late.code, f"{one} is gone." in late.err) == (6, True)
    assert f"workspace wait {two} --for gone" in late.err


def test_ctrl_c_before_the_answer_says_that_it_is_not_known(at_hub: Cli, hub: ScriptedHub) -> None:
    """The request may have arrived; the line that is named tells."""
    hub.answers = lambda _: Reply(429, {"code": "TOO_MANY_REQUESTS"}, {"Retry-After": "60"})
    terminal = at_hub.terminal("create", "api")
    terminal.expect("The Hub asks to wait 60 s")
    terminal.sendintr()
    terminal.expect("It is not known whether api was asked for")
    assert ended(terminal) == 130


def test_ctrl_c_at_a_question_does_nothing(at_hub: Cli, hub: ScriptedHub) -> None:
    """Nothing has been sent yet."""
    hub.workspaces = [workspace("api")]
    terminal = at_hub.terminal("rm", "api")
    terminal.expect("Type its name: ")
    terminal.sendintr()
    assert ended(terminal) == 130
    assert not [path for path in hub.paths() if path.startswith("DELETE")]


@pytest.mark.parametrize(
    ("names", "answer", "code"),
    [
        (("api",), "api", 0),
        (("api",), "y", 5),
        (("api",), "", 5),
        (("api", "other"), "2", 0),
        (("api", "other"), "api", 5),
    ],
)
def test_a_deletion_is_confirmed_by_name_or_number(
    at_hub: Cli, hub: ScriptedHub, names: tuple[str, ...], answer: str, code: int
) -> None:
    """A yes is typed too easily for what cannot be undone."""
    hub.workspaces = [workspace("api"), workspace("other")]
    terminal = at_hub.terminal("rm", "--no-wait", *names)
    terminal.expect("Nothing brings")
    terminal.expect(r"Type (its name|how many these are): ")
    terminal.sendline(answer)
    assert ended(terminal) == code
    deleted = [path for path in hub.paths() if path.startswith("DELETE")]
    assert len(deleted) == (0 if code else len(names))


def test_the_end_of_the_input_at_a_question_is_no_answer(at_hub: Cli, hub: ScriptedHub) -> None:
    """Ctrl-D does nothing, and does not ask for ever."""
    hub.workspaces = [workspace("api")]
    terminal = at_hub.terminal("rm", "api")
    terminal.expect("Type its name: ")
    terminal.sendeof()
    assert ended(terminal) == 2


def test_a_terminal_is_asked_nothing_that_it_may_not_answer(at_hub: Cli, hub: ScriptedHub) -> None:
    """No command asks a terminal for its size or its cursor: a recorder never answers."""
    starting(hub)
    terminal = at_hub.terminal("wait", "api", "--timeout", "1")
    terminal.expect(pexpect.EOF)
    assert not re.search(r"\x1b\[[0-9;?]*[nc]", terminal.before or "")
    assert ended(terminal) == 6


def test_create_goes_on_with_a_shell(signed_in: Cli) -> None:
    """`create --ssh` goes on as `workspace ssh` does, and ends with the shell's own code."""
    terminal = signed_in.terminal("create", "api", "--ssh")
    terminal.expect("api is ready after")
    terminal.sendline('echo "$((40 + 2)) in $(basename "$PWD")"; exit 7')
    terminal.expect("42 in ")
    assert ended(terminal) == 7
    signed_in.succeed("rm", "api", "--yes", "--no-wait")


# ---- what is agreed at login ---------------------------------------------------------------------


@pytest.fixture
def with_gcloud(cli: Cli) -> Cli:
    """The command beside a gcloud that gives a token."""
    cli.put("gcloud", "#!/bin/sh\necho a.token.of-gcloud\n")
    return cli


def stored(cli: Cli) -> str:
    """Return all that is stored of Hubs."""
    file = cli.config / "config.json"
    return file.read_text() if file.exists() else ""


def test_a_bastion_is_shown_whole_and_accepted_once(with_gcloud: Cli, hub: ScriptedHub) -> None:
    """No is no; yes is kept, and asked again only when it changes."""
    hub.sign_in = {**SIGN_IN, "connect": DIRECT}
    for answer, code in (("n", 5), ("", 5), ("yes", 0)):
        terminal = with_gcloud.terminal("login", hub.address)
        terminal.expect("directly, on port 2222, through the bastion bob@bastion.example.com:22")
        terminal.expect(r"Connect in this way\? \[y/N\] ")
        assert "bastion" not in stored(with_gcloud)
        terminal.sendline(answer)
        assert ended(terminal) == code
    assert "bob@bastion.example.com:22" in stored(with_gcloud)
    assert with_gcloud.run("login").code == 0  # the same: nothing is asked
    hub.sign_in = {**SIGN_IN, "connect": {**DIRECT, "jump": "eve@evil.example.com"}}
    terminal = with_gcloud.terminal("login")
    terminal.expect("has changed how its machines are reached")
    terminal.expect("before: .*bob@bastion.example.com")
    terminal.expect("now: .*eve@evil.example.com")
    terminal.sendline("n")
    assert ended(terminal) == 5
    assert "eve@" not in stored(with_gcloud)
    without = with_gcloud.run("login")
    assert without.code == 2
    assert "eve@evil.example.com" in without.err


def test_an_option_accepts_what_is_shown(with_gcloud: Cli, hub: ScriptedHub) -> None:
    """A script can agree beforehand, and its log has what it agreed to."""
    hub.sign_in = {**SIGN_IN, "connect": DIRECT}
    assert with_gcloud.run("login", hub.address).code == 2
    done = with_gcloud.run("login", hub.address, "--yes")
    assert done.code == 0
    assert "bob@bastion.example.com:22" in done.err
