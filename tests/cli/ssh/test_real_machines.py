"""Into the machines of a running local cloud, by the command and by OpenSSH."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pexpect
import pytest

from localcloud.running_cloud import RunningCloud, start_cloud
from tests.cli.ssh.person import EDITOR, SECONDS, Person, wait_until
from tests.cli.ssh.test_entering import ends, free_port
from tests.conftest import SETTINGS

pytestmark = pytest.mark.xdist_group("command-in-machines")


class Owner(Person):
    """A person who has signed in to a local cloud by the command."""

    def __init__(self, folder: Path, cloud: RunningCloud) -> None:
        super().__init__(folder)
        self.environment["LOCALCLOUD_STATE"] = str(cloud.state_file)
        self.email = f"{uuid.uuid4()}@example.com"
        done = self.workspace("login", "--local", "--email", self.email)
        assert done.returncode == 0, done.stderr

    def create(self, name: str) -> None:
        """Create a workspace, and wait until it is READY."""
        done = self.workspace("create", name)
        assert done.returncode == 0, done.stderr

    def show(self, name: str) -> Any:
        """Return a workspace, as the API has it."""
        return json.loads(self.workspace("show", name, "-o", "json").stdout)

    def is_asleep(self, name: str) -> bool:
        """Return whether a workspace is SUSPENDED, and nothing is under way."""
        workspace = self.show(name)
        return workspace["status"] == "SUSPENDED" and workspace["operation"] is None


@pytest.fixture(scope="module")
def alice(cloud: RunningCloud, tmp_path_factory: pytest.TempPathFactory) -> Owner:
    """Somebody with a workspace ``api`` that is READY, whose OpenSSH knows it."""
    owner = Owner(tmp_path_factory.mktemp("alice"), cloud)
    owner.create("api")
    done = owner.workspace("config-ssh", "--yes")
    assert done.returncode == 0, done.stderr
    return owner


@pytest.fixture
def sleepy_cloud() -> Iterator[RunningCloud]:
    """A local cloud in which workspaces go to sleep when nobody has been there for some seconds."""
    settings = replace(SETTINGS, overrides={"HUB_IDLE_SECONDS": "4"})
    with start_cloud(settings) as running:
        yield running


def test_a_shell_is_two_commands_away(cloud: RunningCloud, tmp_path: Path) -> None:
    """Sign in, and create with --ssh: then the shell of the machine answers."""
    owner = Owner(tmp_path, cloud)
    terminal = pexpect.spawn(
        str(owner.command), ["create", "mine", "--ssh"], env=owner.environment, cwd=owner.home,
        timeout=SECONDS, encoding="utf-8",
    )  # fmt: skip
    terminal.expect(r"\$ |# ")
    terminal.sendline("echo in$((6 * 7))side $WORKSPACE_NAME; exit 4")
    terminal.expect("in42side mine")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 4


@pytest.mark.parametrize("verb", ["exec", "run"])
def test_a_program_has_its_words_input_and_exit_code(alice: Owner, verb: str) -> None:
    """What it says of itself is what it gets."""
    words = ["sh", "-c", 'cat; printf "%s|" "$@"; exit 7', "sh", "it's", "a  b", "$HOME"]
    done = alice.workspace(verb, "api", "--", *words, given="in\n")
    assert (done.returncode, done.stdout) == (7, "in\nit's|a  b|$HOME|"), done.stderr


def test_ctrl_c_ends_what_run_has_started(alice: Owner) -> None:
    """With all that it has started itself."""
    words = ["sh", "-c", "sleep 1000 & echo $$ $!; wait"]
    process = alice.start(
        [str(alice.command), "run", "api", "--", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    pids = process.stdout.readline().split()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    for pid in pids:
        ends(int(pid))


def test_openssh_copies_by_every_program(alice: Owner) -> None:
    """scp, sftp and the command's own copy, both ways."""
    odd = "a 'b' $(c)"
    (alice.home / odd).write_text("content")
    assert alice.ssh("scp", odd, f"workspace.api:{odd}").returncode == 0
    done = alice.ssh("sftp", "-b", "-", "workspace.api", given=f'get "{odd}" "by sftp"\n')
    assert done.returncode == 0, done.stderr
    assert alice.workspace("cp", f"api:{odd}", "by cp").returncode == 0
    assert (alice.home / "by sftp").read_text() == "content"
    assert (alice.home / "by cp").read_text() == "content"


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_copies_a_tree(alice: Owner) -> None:
    """It runs OpenSSH by itself, with the block."""
    tree = alice.home / "tree"
    tree.mkdir()
    (tree / "x").write_text("x")
    shell = f"ssh -F '{alice.ssh_config}'".replace("Ann's", "Ann'\"'\"'s")
    assert alice.run(["rsync", "-a", "-e", shell, "tree", "workspace.api:"]).returncode == 0
    assert alice.run(["rsync", "-a", "-e", shell, "workspace.api:tree/x", "back"]).returncode == 0
    assert (alice.home / "back").read_text() == "x"


@pytest.mark.parametrize("by", ["openssh", "command"])
def test_a_port_of_the_machine_is_reachable(alice: Owner, by: str) -> None:
    """By `ssh -L` through the block, and by `workspace forward`."""
    local = free_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = listener.getsockname()[1]
        arguments = {
            "openssh": ["ssh", "-F", str(alice.ssh_config), "-N", "-L",
                        f"127.0.0.1:{local}:localhost:{there}", "workspace.api"],
            "command": [str(alice.command), "forward", "api", f"{local}:{there}"],
        }[by]  # fmt: skip
        process = alice.start(arguments, stderr=subprocess.DEVNULL)
        with wait_until(_opener(local), "the port is forwarded") as client:
            client.sendall(b"hello")
            server, _ = listener.accept()
            with server:
                assert server.recv(10) == b"hello"
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(SECONDS)


def test_nobody_gets_into_somebody_elses_machine(
    alice: Owner, cloud: RunningCloud, tmp_path: Path
) -> None:
    """The Hub does not know the workspace for others, and the machine does not take their key."""
    bob = Owner(tmp_path, cloud)
    bob.create("own")
    assert bob.workspace("exec", "own", "--", "true").returncode == 0  # his key is registered
    workspace_id = alice.show("api")["id"]
    for name in ("api", workspace_id):
        refused = bob.workspace("exec", name, "--", "true")
        assert refused.returncode == 3, refused.stderr
    connection = _connection(alice, "api")
    key = tmp_path / "key"  # OpenSSH would expand a percent sign
    shutil.copy(bob.config / "ssh" / "local" / "id_ed25519", key)
    arguments = [
        "ssh", "-F", "none", "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-p", str(connection["port"]), f"workspace@{connection['host']}", "true",
    ]  # fmt: skip
    done = bob.run(arguments)
    assert done.returncode == 255
    assert "Permission denied" in done.stderr


def test_a_new_machine_is_no_host_key_alarm(alice: Owner) -> None:
    """After a rebuild the host is another machine, with another key, and OpenSSH takes it."""
    assert alice.ssh("ssh", "workspace.api", "true").returncode == 0
    before = _connection(alice, "api")
    done = alice.workspace("start", "api", "--rebuild")
    assert done.returncode == 0, done.stderr
    after = _connection(alice, "api")
    assert after["instance_id"] != before["instance_id"]
    done = alice.ssh("ssh", "workspace.api", "echo hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    assert alice.workspace("exec", "api", "--", "true").returncode == 0


def test_run_puts_to_sleep_what_it_has_woken(alice: Owner) -> None:
    """Even if its command fails; what was running keeps running."""
    assert alice.workspace("start", "api").returncode == 0
    assert alice.workspace("run", "api", "--then-stop", "--", "true").returncode == 0
    assert alice.show("api")["status"] == "READY"
    assert alice.workspace("stop", "api").returncode == 0
    done = alice.workspace("run", "api", "--then-stop", "--", "sh", "-c", "exit 3")
    assert done.returncode == 3, done.stderr
    wait_until(lambda: alice.is_asleep("api"), "it sleeps again")


def test_a_person_wakes_it_and_an_editor_does_not(alice: Owner) -> None:
    """The same OpenSSH, with and without a terminal behind it."""
    assert alice.workspace("stop", "api").returncode == 0
    done = alice.ssh("ssh", "-T", "workspace.api", "true")
    assert done.returncode == 255
    assert "workspace start api" in done.stderr
    assert alice.is_asleep("api")
    terminal = pexpect.spawn(
        "ssh", ["-F", str(alice.ssh_config), "workspace.api", "echo in$((6 * 7))side"],
        env=alice.environment, cwd=alice.home, timeout=SECONDS, encoding="utf-8",
    )  # fmt: skip
    terminal.expect("in42side")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert alice.show("api")["status"] == "READY"


def test_an_editor_that_is_opened_finds_the_machine_awake(alice: Owner) -> None:
    """It connects by the host that it was given."""
    alice.program("code", EDITOR)
    assert alice.workspace("stop", "api").returncode == 0
    done = alice.workspace("open", "api")
    assert done.returncode == 0, done.stderr
    authority = (alice.bin / "code.words").read_text().splitlines()[1]
    host = authority.removeprefix("ssh-remote+")
    assert alice.ssh("ssh", host, "echo $WORKSPACE_NAME").stdout == "api\n"


def test_a_reconnect_loop_leaves_an_idle_workspace_asleep(
    sleepy_cloud: RunningCloud, tmp_path: Path
) -> None:
    """It goes to sleep when nobody is there, and an editor that tries again does not wake it."""
    owner = Owner(tmp_path, sleepy_cloud)
    owner.create("api")
    assert owner.workspace("config-ssh", "--yes").returncode == 0
    woken = owner.ssh("ssh", "workspace.api", "true", environment={"WORKSPACE_START": "1"})
    assert woken.returncode == 0, woken.stderr
    wait_until(lambda: owner.is_asleep("api"), "it goes to sleep")
    loop = owner.start(
        ["sh", "-c", 'while :; do ssh -T -F "$1" workspace.api exit || echo failed; done', "sh",
         str(owner.ssh_config)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert loop.stdout is not None
        for _ in range(4):
            assert loop.stdout.readline() == b"failed\n"
        assert owner.is_asleep("api")
    finally:
        os.killpg(loop.pid, signal.SIGKILL)
        loop.communicate()


def _connection(owner: Owner, name: str) -> Any:
    """Return what the Hub says of a workspace's machine, as the command asks for it."""
    from workspace_cli.client import HubClient
    from workspace_cli.sign_in import present, token_source

    hub = present(owner.store.read().hubs["local"])
    client = HubClient(hub, token_source(owner.store, hub))
    return client.connect(owner.show(name)["id"], "laptop", start=False)["connection"]


def _opener(port: int) -> Callable[[], socket.socket | None]:
    def connected() -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            return None

    return connected
