"""The commands that enter a workspace, by their process, against a Hub that does as it is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.cli.ssh.conftest import Machine, Machines
from tests.cli.ssh.hub import FakeHub
from tests.cli.ssh.person import SECONDS, Person, wait_until


def the_id(hub: FakeHub) -> str:
    """Return the id of the only workspace."""
    [workspace_id] = hub.workspaces
    return workspace_id


def sleeping(hub: FakeHub) -> dict[str, Any]:
    """Put the only workspace to sleep, and return it."""
    workspace = hub.workspaces[the_id(hub)]
    workspace["status"] = "SUSPENDED"
    return workspace


# ---- exec ----------------------------------------------------------------------------------------


def test_exec_gives_a_program_its_words_and_returns_its_code(api: Machine, person: Person) -> None:
    """Arguments, input, output, errors and exit code are the program's own."""
    script = 'cat; printf "%s|" "$@"; echo oops >&2; exit 7'
    odd = ["two words", "$HOME", "it's", "a\nb", "", "-n"]
    done = person.workspace("exec", "api", "--", "sh", "-c", script, "sh", *odd, given="in\n")
    assert done.stdout == "in\n" + "".join(f"{word}|" for word in odd)
    assert done.stderr.endswith("oops\n")
    assert done.returncode == 7
    assert api.logins() == ["workspace"]


@pytest.mark.usefixtures("api")
def test_exec_starts_what_is_asleep(person: Person, hub: FakeHub) -> None:
    """The Hub is asked to start it by a person, and how it goes is told on stderr only."""
    sleeping(hub)
    done = person.workspace("exec", "api", "--", "echo", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert hub.asked("connect")[0] == {"device_id": "laptop", "start": True}
    assert all(body["start"] is False for body in hub.asked("connect")[1:])


@pytest.mark.parametrize("kind", ["STOP", "ARCHIVE"])
def test_exec_waits_for_what_is_going_to_sleep(
    api: Machine, person: Person, hub: FakeHub, kind: str
) -> None:
    """A STOP or an ARCHIVE under way is waited for, then the workspace is started."""
    hub.begin(the_id(hub), kind)
    done = person.workspace("exec", "api", "--", "true")
    assert done.returncode == 0, done.stderr
    assert api.logins()


def test_exec_waits_for_a_snapshot_of_what_is_asleep(
    api: Machine, person: Person, hub: FakeHub
) -> None:
    """It is said; then the workspace is started."""
    sleeping(hub)
    hub.begin(the_id(hub), "SNAPSHOT")
    hub.looks = 4
    done = person.workspace("exec", "api", "--", "true")
    assert done.returncode == 0, done.stderr
    assert "api is ready after" in done.stderr
    assert api.logins()


def test_exec_does_not_wait_for_a_snapshot_of_what_is_ready(
    api: Machine, person: Person, hub: FakeHub
) -> None:
    """Its machine can be used meanwhile."""
    hub.looks = 10**6
    hub.begin(the_id(hub), "SNAPSHOT")
    done = person.workspace("exec", "api", "--", "true")
    assert done.returncode == 0, done.stderr
    assert hub.workspaces[the_id(hub)]["operation"]["kind"] == "SNAPSHOT"
    assert api.logins()


@pytest.mark.usefixtures("api")
def test_exec_enters_what_an_older_hub_has(person: Person, hub: FakeHub) -> None:
    """A Hub without `connect` is asked for a start and for the status."""
    hub.older = True
    sleeping(hub)
    done = person.workspace("exec", "api", "--", "echo", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


@pytest.mark.usefixtures("api")
def test_a_pending_right_is_waited_for(person: Person, hub: FakeHub) -> None:
    """It is said; when the Hub has given it, the connection goes on."""
    connection = hub.connections[the_id(hub)]
    connection["access"] = {"state": "pending", "why": "IAM is busy"}
    process = person.start(
        [str(person.command), "exec", "api", "--", "echo", "hello"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: len(hub.asked("connect")) >= 2, "it asks again")
    connection["access"] = {"state": "granted", "why": None}
    out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (0, b"hello\n"), err
    assert b"IAM is busy" in err


def test_a_refused_right_is_told_with_why(api: Machine, person: Person, hub: FakeHub) -> None:
    """It is the exit code of a refusal, and nothing was connected."""
    refused = {"state": "refused", "why": "a policy of \x1b[31myour organisation"}
    hub.connections[the_id(hub)]["access"] = refused
    done = person.workspace("exec", "api", "--", "true")
    assert done.returncode == 5
    assert "a policy of \\x1b[31myour organisation" in done.stderr
    assert not api.logins()


def test_a_machine_with_another_host_key_is_not_entered(
    api: Machine, person: Person, hub: FakeHub, machines: Machines
) -> None:
    """What the machine has reported to the Hub is the only key that is believed."""
    hub.connections[the_id(hub)]["host_key"] = machines.start().host_key
    done = person.workspace("exec", "api", "--", "true")
    assert done.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert not api.logins()


def test_a_new_machine_is_no_alarm_and_the_old_ones_key_is(
    api: Machine, person: Person, hub: FakeHub, machines: Machines
) -> None:
    """Where the Hub knows no key, the first one is kept for this machine, and for no other."""
    connection = hub.connections[the_id(hub)]
    connection["host_key"] = None
    assert person.workspace("exec", "api", "--", "true").returncode == 0
    other = machines.start()
    (other.folder / "keys").write_text((api.folder / "keys").read_text())
    person.sign_in_again(port=other.port)
    connection["port"] = other.port
    assert person.workspace("exec", "api", "--", "true").returncode == 255
    connection["instance_id"] = "2"
    assert person.workspace("exec", "api", "--", "true").returncode == 0


@pytest.mark.usefixtures("api")
def test_a_name_that_no_hub_allows_is_no_argument(person: Person, hub: FakeHub) -> None:
    """A workspace with such a name is entered by its id, and is called so."""
    workspace = hub.workspaces[the_id(hub)]
    workspace["name"] = "-oProxyCommand=touch owned\n\x1b[2J"
    done = person.workspace("exec", workspace["id"], "--", "echo", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    shown = person.workspace("config-ssh", "--dry-run").stdout
    assert "Host workspace.* " in shown
    assert not (person.home / "owned").exists()


def test_leaving_a_hub_takes_its_key_along(api: Machine, person: Person) -> None:
    """What its machines let in is of no use any more."""
    assert person.workspace("exec", "api", "--", "true").returncode == 0
    assert (person.config / "ssh" / "local" / "id_ed25519").exists()
    assert person.workspace("logout").returncode == 0
    assert not (person.config / "ssh" / "local").exists()
    assert api.logins()


@pytest.mark.usefixtures("api")
def test_what_the_hub_would_have_a_shell_do_is_not_done(person: Person, hub: FakeHub) -> None:
    """`command` is for people's eyes only."""
    hub.connections[the_id(hub)]["command"] = f"touch {person.home}/owned"
    assert person.workspace("exec", "api", "--", "true").returncode == 0
    assert not (person.home / "owned").exists()


@pytest.mark.usefixtures("api")
def test_a_connection_that_failed_says_what_became_of_the_workspace(
    person: Person, hub: FakeHub
) -> None:
    """Beside OpenSSH's own code and message."""
    hub.connections[the_id(hub)]["host"] = "127.9.9.9"
    process = person.start(
        [str(person.command), "exec", "api", "--", "true"], stderr=subprocess.PIPE
    )
    wait_until(lambda: hub.asked("connect"), "it has connected")
    workspace = sleeping(hub)
    workspace["stopped_because"] = "idle"
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 255
    assert b"api is now asleep, because of idle" in err


# ---- ssh -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("api")
def test_ssh_runs_a_command_line_as_ssh_does(person: Person) -> None:
    """The workspace's shell reads it."""
    done = person.workspace("ssh", "api", "--", "echo $((6 * 7));", "exit 3")
    assert (done.returncode, done.stdout) == (3, "42\n"), done.stderr


@pytest.mark.usefixtures("api")
def test_ssh_opens_a_shell_at_a_terminal(person: Person) -> None:
    """Keys are the shell's, Ctrl-C too; its exit code is the command's."""
    shell = pexpect.spawn(
        str(person.command), ["ssh", "api"], env=person.environment, cwd=person.home,
        timeout=SECONDS, encoding="utf-8", echo=False,
    )  # fmt: skip
    shell.sendline("tty && echo rea'dy'")
    shell.expect("/dev/pts/[0-9]+.*ready")
    shell.sendline("sh -c 'echo go; exec sleep 1000'")
    shell.expect("go\r?\n")
    shell.sendintr()
    shell.sendline("echo still; exit 5")
    shell.expect("still")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 5


@pytest.mark.usefixtures("api")
def test_ssh_forwards_the_agent_only_when_asked(person: Person, tmp_path: Path) -> None:
    """A hostile machine gets no agent by default."""
    agent = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.DEVNULL) as process:
        wait_until(agent.exists, "the agent runs")
        environment = {"SSH_AUTH_SOCK": str(agent)}
        script = ["--", 'test -n "$SSH_AUTH_SOCK"']
        without = person.workspace("ssh", "api", *script, environment=environment)
        forwarded = person.workspace("ssh", "-A", "api", *script, environment=environment)
        process.terminate()
    assert (without.returncode, forwarded.returncode) == (1, 0)


@pytest.mark.parametrize(
    "value", ["8080", "a:b:c", "8080:host", "-oX:h:1", "1:h h:2", "1:$(x):2", "/a:/b", "1:-o:2:3"]
)
def test_ssh_takes_only_forwards_for_minus_l(person: Person, value: str) -> None:
    """A wrong one is wrong usage, before anything is asked of a Hub."""
    done = person.workspace("ssh", "api", "-L", value)
    assert done.returncode == 2
    assert "PORT:HOST:PORT" in done.stderr


# ---- cp ------------------------------------------------------------------------------------------


def test_cp_copies_both_ways(api: Machine, person: Person) -> None:
    """Files and folders, with names that mean something to shells and to scp."""
    odd = "-a 'b' $(c): d"
    (person.home / odd).write_text("content")
    assert person.workspace("cp", f"./{odd}", f"api:{odd}").returncode == 0
    assert (api.folder / odd).read_text() == "content"
    folder = person.home / "-folder"
    folder.mkdir()
    (folder / "x").write_text("x")
    done = person.workspace("cp", "-r", "--", "-folder", "api:copy")
    assert done.returncode == 0, done.stderr
    assert (api.folder / "copy" / "x").read_text() == "x"
    assert person.workspace("cp", "-r", "api:copy", ".").returncode == 0
    assert (person.home / "copy" / "x").read_text() == "x"


@pytest.mark.parametrize(
    "operands", [("a", "b"), ("api:a", "api:b"), ("a b:c", "d"), ("$(x):c", "d"), (":c", "d")]
)
def test_cp_needs_one_place_in_a_workspace(person: Person, operands: tuple[str, str]) -> None:
    """Anything else is wrong usage."""
    assert person.workspace("cp", *operands).returncode == 2


@pytest.mark.usefixtures("api")
def test_cp_says_what_scp_says(person: Person) -> None:
    """A file that is not there ends with scp's code and message."""
    done = person.workspace("cp", "api:nothing", ".")
    assert done.returncode == 1
    assert "nothing" in done.stderr


# ---- forward -------------------------------------------------------------------------------------


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.usefixtures("api")
def test_forward_makes_a_port_reachable_until_ctrl_c(person: Person) -> None:
    """What listens on the workspace's loopback answers here."""
    local = free_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = person.start(
            [str(person.command), "forward", "api", f"{local}:{listener.getsockname()[1]}"],
            stderr=subprocess.PIPE,
        )

        def connected() -> socket.socket | None:
            try:
                return socket.create_connection(("127.0.0.1", local))
            except OSError:
                return None

        with wait_until(connected, "the port is forwarded") as client:
            client.sendall(b"hello")
            server, _ = listener.accept()
            with server:
                assert server.recv(10) == b"hello"
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert f"localhost:{local} is port".encode() in err


@pytest.mark.parametrize("ports", [["0"], ["65536"], ["1:2:3"], ["x"], ["-1"], ["80:"], ["9", "9"]])
def test_forward_takes_only_ports(person: Person, ports: list[str]) -> None:
    """Wrong ones are wrong usage, before anything is asked of a Hub."""
    assert person.workspace("forward", "api", "--", *ports).returncode == 2


def test_forward_starts_nothing_for_a_port_that_is_taken(
    api: Machine, person: Person, hub: FakeHub
) -> None:
    """It says so, and the Hub is not asked."""
    done = person.workspace("forward", "api", str(api.port))
    assert done.returncode == 1
    assert f"port {api.port}" in done.stderr
    assert not hub.asked("connect")


# ---- run -----------------------------------------------------------------------------------------


def ends(pid: int) -> None:
    """Wait until a process has ended."""

    def has_ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_until(has_ended, f"process {pid} of the workspace ends")


def started(person: Person, *words: str, options: tuple[str, ...] = ()) -> Any:
    """Start `workspace run api`, and return it and what its command prints first."""
    process = person.start(
        [str(person.command), "run", "api", *options, "--", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().decode().strip()


@pytest.mark.usefixtures("api")
def test_run_streams_and_returns_the_code(person: Person) -> None:
    """Large input, output, errors, exit code and odd arguments are the command's own."""
    given = "".join(f"line {number}\n" for number in range(20000))
    script = 'cat; printf "%s|" "$@"; echo oops >&2; exit 9'
    done = person.workspace(
        "run", "api", "--", "sh", "-c", script, "sh", "it's", "a\\b", "\n", given=given
    )
    assert done.stdout == given + "it's|a\\b|\n|"
    assert "oops\n" in done.stderr
    assert done.returncode == 9


@pytest.mark.usefixtures("api")
def test_ctrl_c_ends_the_remote_command_as_a_terminal_would(person: Person) -> None:
    """It gets SIGINT, and what it still prints is shown; the code is that of an interruption."""
    script = 'trap "echo bye; exit 0" INT; echo $$; while :; do sleep 0.05; done'
    process, pid = started(person, "sh", "-c", script)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert out == b"bye\n"
    assert b"Interrupted" in err
    ends(int(pid))


@pytest.mark.usefixtures("api")
def test_what_ignores_ctrl_c_is_ended_all_the_same(person: Person) -> None:
    """The second Ctrl-C closes the line, which ends the command and its children."""
    script = 'trap "" INT; sleep 1000 & echo $$ $!; wait'
    process, pids = started(person, "sh", "-c", script)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    for pid in pids.split():
        ends(int(pid))


@pytest.mark.usefixtures("api")
def test_what_an_interrupted_command_leaves_behind_is_ended(person: Person) -> None:
    """A shell's background jobs ignore Ctrl-C, and must not outlive it all the same."""
    process, pids = started(person, "sh", "-c", "sleep 1000 & echo $$ $!; wait")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    for pid in pids.split():
        ends(int(pid))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.usefixtures("api")
def test_a_run_that_is_ended_ends_its_command(person: Person, number: signal.Signals) -> None:
    """As when a build server cancels a job; also if nobody is left to say so."""
    process, pid = started(person, "sh", "-c", "echo $$; exec sleep 1000")
    process.send_signal(number)
    process.communicate(timeout=SECONDS)
    assert process.returncode in {-signal.SIGKILL, 128 + signal.SIGTERM}
    ends(int(pid))


def test_a_lost_connection_ends_the_command(api: Machine, person: Person) -> None:
    """Even if what serves SSH there does nothing about it."""
    process, pid = started(person, "sh", "-c", "echo $$; exec sleep 1000")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + signal.SIGKILL
    ends(int(pid))
    wait_until(lambda: not list(api.folder.glob("workspace-run.*")), "its folder is removed")


def test_run_leaves_nothing_behind(api: Machine, person: Person) -> None:
    """Its temporary folder is gone, whether the command succeeds or is ended."""
    folders = 'ls -d "$TMPDIR"/workspace-run.*'
    during = person.workspace("run", "api", "--", "sh", "-c", folders)
    assert len(during.stdout.splitlines()) == 1
    process, _ = started(person, "sh", "-c", "echo; exec sleep 1000")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert list(api.folder.glob("workspace-run.*")) == []


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.usefixtures("api")
def test_then_stop_suspends_what_it_has_started(person: Person, hub: FakeHub, code: int) -> None:
    """Whether the command succeeds or fails; the code stays its own."""
    workspace = sleeping(hub)
    done = person.workspace("run", "api", "--then-stop", "--", "sh", "-c", f"exit {code}")
    assert done.returncode == code
    assert workspace["operation"]["kind"] == "STOP"


@pytest.mark.usefixtures("api")
def test_then_stop_leaves_what_was_running(person: Person, hub: FakeHub) -> None:
    """Somebody else may be at work there."""
    assert person.workspace("run", "api", "--then-stop", "--", "true").returncode == 0
    assert not hub.asked("stop")


@pytest.mark.usefixtures("api")
def test_without_then_stop_nothing_is_stopped(person: Person, hub: FakeHub) -> None:
    """Even what was started for it."""
    sleeping(hub)
    assert person.workspace("run", "api", "--", "true").returncode == 0
    assert not hub.asked("stop")


@pytest.mark.usefixtures("api")
def test_then_stop_leaves_what_another_command_has_started(person: Person, hub: FakeHub) -> None:
    """Whoever has started it for `run` alone, `exec` or `ssh` has asked for no suspend."""
    sleeping(hub)
    first, _ = started(person, "sh", "-c", "echo; cat")
    second, _ = started(person, "sh", "-c", "echo; cat", options=("--then-stop",))
    for each in (first, second):
        each.communicate(timeout=SECONDS)
        assert each.returncode == 0
    assert not hub.asked("stop")


@pytest.mark.usefixtures("api")
def test_then_stop_suspends_after_ctrl_c(person: Person, hub: FakeHub) -> None:
    """An interruption does not leave a machine running."""
    workspace = sleeping(hub)
    process, pid = started(person, "sh", "-c", "echo $$; exec sleep 1000", options=("--then-stop",))
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert workspace["operation"]["kind"] == "STOP"
    ends(int(pid))


@pytest.mark.usefixtures("api")
def test_the_last_of_several_runs_stops_it(person: Person, hub: FakeHub) -> None:
    """One that ends first does not freeze the others' commands."""
    workspace = sleeping(hub)
    first, _ = started(person, "sh", "-c", "echo; cat", options=("--then-stop",))
    second, _ = started(person, "sh", "-c", "echo; cat", options=("--then-stop",))
    _, err = first.communicate(timeout=SECONDS)
    assert first.returncode == 0
    assert b"runs on" in err
    assert not hub.asked("stop")
    second.communicate(timeout=SECONDS)
    assert second.returncode == 0
    assert workspace["operation"]["kind"] == "STOP"
