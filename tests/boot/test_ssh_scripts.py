"""The boot scripts that put a login into the container, ``ssh.sh`` and ``shell.sh``."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boot.fake_machine import (
    PATIENCE_SECONDS,
    Machine,
)
from tests.boot.test_user_data import BOOT, needed, source

USUAL_SSHD_CONFIG = "PermitRootLogin no\nMatch User x\n  X11Forwarding no\n"


def test_sshd_is_configured_once(machine: Machine) -> None:
    """However often the script runs, the former configuration stays before the block."""
    machine.sshd_config.write_text(USUAL_SSHD_CONFIG)

    assert machine.run("ssh.sh") == 0, machine.said()
    once = machine.sshd_config.read_text()
    assert machine.run("ssh.sh") == 0, machine.said()

    assert machine.sshd_config.read_text() == once
    assert once.startswith(f"{USUAL_SSHD_CONFIG}\n# workspace-hub\nMatch all\n")
    assert once.count("ForceCommand") == 1
    check, reload = (
        ["sshd", "-t", "-f", str(machine.sshd_config)],
        ["systemctl", "reload-or-restart", "sshd.service"],
    )
    assert [call for _, *call in machine.records() if call[0] in {"sshd", "systemctl"}] == [
        check,
        reload,
    ]


def test_sshd_is_not_reloaded_when_it_would_not_start(machine: Machine) -> None:
    """Nobody could connect any more. When the configuration is valid again, sshd is reloaded."""
    machine.sshd_config.write_text(USUAL_SSHD_CONFIG)
    machine.fake("sshd", "exit 255")

    assert machine.run("ssh.sh") != 0
    assert machine.calls("systemctl") == []
    machine.fake("sshd", ":")
    assert machine.run("ssh.sh") == 0, machine.said()
    assert len(machine.calls("systemctl")) == 1
    assert machine.sshd_config.read_text().count("ForceCommand") == 1


def before_the_end(text: str) -> str:
    """Return a text without its last two lines."""
    return "".join(text.splitlines(keepends=True)[:-2])


LOST: dict[str, Callable[[str], str]] = {
    "all of it": lambda text: text.partition("# workspace-hub")[0],
    "but for its first lines": before_the_end,
    "the whole file": lambda text: text[:0],
}


@pytest.mark.parametrize("lost", LOST)
def test_a_lost_block_is_added_again(machine: Machine, lost: str) -> None:
    """The guest agent reads the file, empties it and writes it again."""
    machine.sshd_config.write_text(USUAL_SSHD_CONFIG)
    machine.run("ssh.sh")
    ours = machine.sshd_config.read_text().removeprefix(USUAL_SSHD_CONFIG)
    machine.sshd_config.write_text(LOST[lost](machine.sshd_config.read_text()))

    assert machine.run("ssh.sh") == 0, machine.said()

    assert machine.sshd_config.read_text().endswith(ours)
    assert len(machine.calls("systemctl")) == 2


def test_a_block_that_is_lost_during_the_run_is_added_again(machine: Machine) -> None:
    """The same run adds it: a change during the run does not start another."""
    machine.sshd_config.write_text(USUAL_SSHD_CONFIG)
    lose = (
        f'[ -e "${{FAKES}}/lost" ] || echo "PermitRootLogin no" >{machine.sshd_config}\n'
        'touch "${FAKES}/lost"'
    )
    machine.fake("systemctl", lose)

    assert machine.run("ssh.sh") == 0, machine.said()

    assert machine.sshd_config.read_text().count("ForceCommand") == 1
    assert len(machine.calls("systemctl")) == 2


COMMANDS = {
    "several words": "ls -l '/a b' | wc -l",
    "quotes": "\"; touch x; ' -x",
    "a command": "$(touch x)`touch x`",
    "lines": "one\ntwo",
    "an option": "--privileged",
    "10 KB": "x'\"$(" * 2000,
}

RUNNING = '[ "$1" != inspect ] || echo true'


def asked_of_the_container(machine: Machine) -> tuple[list[str], list[str]]:
    """Return with which options the container was asked for what: a script and its arguments.

    What marks the session, and the language of these tests, are left out.
    """
    [run] = machine.calls("docker", "exec")
    at = run.index("workspace")
    options, (*shell, session, name), asked = run[2:at], run[at + 1 : at + 5], run[at + 5 :]
    assert (shell, name) == (["/bin/sh", "-c"], "sh")
    assert 'sh -c "$@"' in session
    ours = [
        option
        for option in options
        if option.startswith("WORKSPACE_SESSION=") or option == "LC_ALL=C.UTF-8"
    ]
    assert len(ours) == 2
    for each in ours:
        del options[options.index(each) - 1 : options.index(each) + 1]
    return options, asked


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_is_one_argument_to_the_container(machine: Machine, what: str) -> None:
    """Only the shell in the container reads it."""
    machine.fake("docker", RUNNING)

    assert machine.run("shell.sh", COMMANDS[what]) == 0, machine.said()

    assert asked_of_the_container(machine) == (["--interactive"], [COMMANDS[what]])
    assert not list(machine.folder.rglob("x"))


SFTP = (
    "internal-sftp",
    "internal-sftp -l INFO -u 0077",
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/sftp-server -e",
)

# A fake docker. The container has an sftp-server if the file `server` exists: its path is in that
# file. User 1000 has a name if the file `name` exists. A shell on the machine runs the commands,
# without the paths that begin with /usr.
SHELL = """
[ "$1" != inspect ] || echo true
[ "$1" = exec ] || exit 0
id() { [ -e "${FAKES}/name" ]; }
export -f id
while [ "$1" != /bin/sh ]; do shift; done
exec bash "${@:2:1}" "${3//\\/usr\\//\\/nowhere\\/}" "${@:4}"
"""


def sftp_session(machine: Machine, asked: str, requests: bytes) -> tuple[int, bytes]:
    """Run a command with this input; return its status and its answer."""
    machine.fake("docker", SHELL)
    done = subprocess.run(
        ["/bin/bash", str(BOOT / "shell.sh"), asked],
        env=machine.environment,
        cwd=machine.folder,
        input=requests,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("asked", SFTP)
def test_sftp_uses_the_containers_server(machine: Machine, asked: str) -> None:
    """Its options are passed on. sshd's internal server would serve the machine's files."""
    (machine.fakes / "name").touch()
    server = machine.fakes / "bin" / "sftp-server"
    server.write_text('#!/bin/bash\necho "options: $*"\ncat\n')
    server.chmod(0o755)
    options = asked.split()[1:]

    answer = f"options: {' '.join(options)}\npackets\n".encode()
    assert sftp_session(machine, asked, b"packets\n") == (0, answer)


def packet(*parts: bytes) -> bytes:
    """Return a packet of the sftp protocol."""
    content = b"".join(parts)
    return len(content).to_bytes(4, "big") + content


INIT = packet(b"\x01", b"\0\0\0\3")

VERSION = packet(b"\x02", b"\0\0\0\3")


@pytest.mark.parametrize("asked", SFTP)
@pytest.mark.parametrize(("name", "lacks"), [(True, "sftp-server"), (False, "name for user 1000")])
def test_without_an_sftp_server_each_request_is_answered_with_the_reason(
    machine: Machine, asked: str, name: bool, lacks: str
) -> None:
    """People see nothing else that a subsystem prints."""
    if name:
        (machine.fakes / "name").touch()
    requests = [
        packet(b"\x10", b"\0\0\0\1", b"\0\0\0\1."),
        packet(b"\x05", b"\xfe\x0a\x00\xff", os.urandom(3000)),
    ]

    status, answer = sftp_session(machine, asked, INIT + b"".join(requests))

    assert status == 127
    assert answer.startswith(VERSION)
    answer = answer.removeprefix(VERSION)
    for number in (b"\0\0\0\1", b"\xfe\x0a\x00\xff"):
        length, answer = int.from_bytes(answer[:4], "big"), answer[4:]
        told, answer = answer[:length], answer[length:]
        assert told[:9] == b"\x65" + number + b"\0\0\0\x08"
        reason = told[13:-4]
        assert reason.startswith(f"The image of this workspace has no {lacks}".encode())
        assert told[9:13] + told[-4:] == len(reason).to_bytes(4, "big") + bytes(4)
    assert answer == b""


@pytest.mark.parametrize(
    "asked", ["echo internal-sftp", "/x/sftp-server; ls", "internal-sftp $(ls)", "sftp-server.py"]
)
def test_what_only_looks_like_sftp_is_a_command_like_any_other(
    machine: Machine, asked: str
) -> None:
    """The shell in the container reads it."""
    machine.fake("docker", RUNNING)

    assert machine.run("shell.sh", asked) == 0, machine.said()

    assert asked_of_the_container(machine) == (["--interactive"], [asked])


@pytest.mark.parametrize("asked", ["rsync --server -e.iLsfxCIvu . there", "scp -t there"])
def test_an_image_without_a_copy_tool_says_so(machine: Machine, asked: str) -> None:
    """Otherwise people would only see a closed connection."""
    machine.fake("docker", SHELL.replace("exec bash", "PATH=/nowhere exec /bin/bash"))

    assert machine.run("shell.sh", asked) == 127
    assert machine.said().startswith(
        f"The image of this workspace has no {asked.split(maxsplit=1)[0]}. Add it"
    )


@pytest.mark.parametrize("what", [*COMMANDS, "a login"])
def test_a_command_by_ssh_reaches_the_container_unchanged(machine: Machine, what: str) -> None:
    """It passes sshd's line, a person's shell, sudo and the script."""
    command = COMMANDS.get(what, "")
    machine.fake("docker", RUNNING)
    run_it = (
        '[ "$1 $2 $3" = "--non-interactive /bin/bash /etc/workspace-hub/shell.sh" ] &&'
        f' exec bash {BOOT}/shell.sh "${{@:4}}"'
    )
    machine.fake("sudo", run_it)
    forced = source("ssh.sh").partition("ForceCommand ")[2].splitlines()[0]
    environment = {**machine.environment, **({"SSH_ORIGINAL_COMMAND": command} if command else {})}

    subprocess.run(
        ["/bin/bash", "-c", forced],
        env=environment,
        cwd=machine.folder,
        check=True,
        stdin=subprocess.DEVNULL,
    )

    options, [asked_for] = asked_of_the_container(machine)
    assert options == ["--interactive"]
    assert asked_for == command or (not command and "bash --login" in asked_for)
    assert not list(machine.folder.rglob("x"))


@pytest.mark.parametrize("arguments", [[], [""]])
def test_without_a_command_there_is_a_login_shell(machine: Machine, arguments: list[str]) -> None:
    """It has the person's terminal, and is bash if the image has it."""
    machine.fake("docker", RUNNING)
    machine.environment["TERM"] = "xterm-256color"
    ours, theirs = pty.openpty()
    try:
        assert machine.run("shell.sh", *arguments, stdin=theirs) == 0, machine.said()
    finally:
        os.close(ours)
        os.close(theirs)

    options, [asked_for] = asked_of_the_container(machine)
    assert options == ["--interactive", "--tty", "--env", "TERM=xterm-256color"]
    assert "exec bash --login" in asked_for


def test_a_persons_language_is_passed_on(machine: Machine) -> None:
    """The variables pass sshd and sudo, each as one argument."""
    machine.fake("docker", RUNNING)
    machine.environment |= {
        "LANG": "de_DE.UTF-8",
        "LC_TIME": "$(touch x) --privileged",
        "COLORTERM": "truecolor",
        "EDITOR": "vi",
    }

    assert machine.run("shell.sh", "ls") == 0, machine.said()

    options, _ = asked_of_the_container(machine)
    given = {"LANG=de_DE.UTF-8", "LC_TIME=$(touch x) --privileged", "COLORTERM=truecolor"}
    assert options[1::2] == ["--env"] * 3
    assert set(options[2::2]) == given
    assert not list(machine.folder.rglob("x"))


@contextlib.contextmanager
def agent(machine: Machine, owner: str) -> Iterator[str]:
    """Make an agent's socket with an owner, as sshd does; yield its path."""
    path = f"/tmp/agent-{os.urandom(6).hex()}"
    machine.fake("docker", RUNNING)
    machine.fake(
        "stat",
        f'[ "${{@: -1}}" != {path} ] || {{ echo "socket of {owner}"; exit; }}\n'
        'exec /usr/bin/stat "$@"',
    )
    machine.environment |= {"SSH_AUTH_SOCK": path, "SUDO_UID": "4711"}
    (machine.folder / "run" / "agents").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        try:
            yield path
        finally:
            Path(path).unlink()


@pytest.mark.parametrize("owner", ["4711", "1000"], ids=["first", "second session of a connection"])
def test_an_agent_is_shared_while_the_session_lasts(machine: Machine, owner: str) -> None:
    """The socket belongs to user 1000: with sshd's owner nobody in the container could use it."""
    with agent(machine, owner) as path:
        assert machine.run("shell.sh", "ls") == 0, machine.said()

    (_, flag, given), _ = asked_of_the_container(machine)
    assert flag == "--env"
    shared = f"{machine.folder}/run/agents/{given.removeprefix('SSH_AUTH_SOCK=/run/ssh-agents/')}"
    assert machine.calls("mount") == [["mount", "--bind", path, shared]]
    assert machine.calls("chown") == [["chown", "1000:1000", shared]]
    assert machine.calls("umount")[0] == ["umount", "--lazy", shared]
    assert not Path(shared).exists()


def test_a_socket_that_is_not_the_persons_agent_is_not_shared(machine: Machine) -> None:
    """A socket of the machine, such as Docker's, would give root access."""
    with agent(machine, "0"):
        assert machine.run("shell.sh", "ls") == 0, machine.said()

    assert asked_of_the_container(machine) == (["--interactive"], ["ls"])
    assert machine.calls("mount") == machine.calls("chown") == []


def test_an_agent_that_cannot_be_shared_does_not_prevent_the_session(machine: Machine) -> None:
    """The person is told."""
    machine.fake("mount", "exit 32")
    with agent(machine, "4711"):
        assert machine.run("shell.sh", "ls") == 0

    assert asked_of_the_container(machine) == (["--interactive"], ["ls"])
    assert "Your agent is not forwarded" in machine.said()


HANGS = """
[ "$1" != inspect ] || echo true
[ "$1" = exec ] || exit 0
session=NONE=
while [ "$1" != workspace ]; do
  [[ $1 != WORKSPACE_SESSION=* ]] || session=$1
  shift
done
shift
setsid env "${session}" "$@" &
touch "${FAKES}/asked"
[ -e "${FAKES}/restarts" ] || { wait; exit; }
until [ -e "$(cat "${FAKES}/restarts")" ]; do sleep 1; done
"""


@pytest.mark.parametrize("what", ["the connection", "Docker"])
def test_a_command_ends_with_its_connection(machine: Machine, what: str) -> None:
    """The SSH connection may be lost, or Docker's own when Docker restarts.

    Docker would leave the command running.
    """
    machine.fake("pgrep", f'exec {needed("pgrep", "procps")} "$@"')
    machine.fake("docker", HANGS)
    machine.fake("sleep", "/bin/sleep 0.5")
    begun, ended = machine.folder / "begun", machine.folder / "ended"
    if what == "Docker":
        (machine.fakes / "restarts").write_text(str(begun))

    shell = machine.start(
        "shell.sh",
        f"trap 'touch {ended}; exit' HUP; touch {begun};"
        " for _ in $(seq 300); do /bin/sleep 0.1; done",
    )
    machine.until(begun.exists)
    if what == "the connection":
        shell.send_signal(signal.SIGHUP)
    machine.until(ended.exists)
    machine.until(lambda: shell.poll() is not None)


@pytest.mark.parametrize(
    "answer", ['[ "$1" != inspect ] || echo false', "exit 1"], ids=["stopped", "not there"]
)
def test_a_person_who_connects_too_early_is_told_what_to_do(machine: Machine, answer: str) -> None:
    """The message is the script's, and not Docker's."""
    machine.fake("docker", answer)

    assert machine.run("shell.sh", "ls") == 1

    assert "not running. Wait a moment" in machine.said()
    assert machine.calls("docker", "exec") == []
