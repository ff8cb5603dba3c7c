"""`workspace config-ssh`, and OpenSSH's own programs through what it writes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

import pexpect
import pytest

from tests.cli.ssh.conftest import Machine, Machines
from tests.cli.ssh.hub import FakeHub
from tests.cli.ssh.person import EDITOR, SECONDS, Person, wait_until
from tests.cli.ssh.test_entering import free_port, sleeping, the_id

MINE = b"Host elsewhere\r\n  User \xff\n"


@pytest.fixture
def configured(api: Machine, person: Person) -> Machine:
    """The machine of ``api``, after `workspace config-ssh`."""
    done = person.workspace("config-ssh", "--yes")
    assert done.returncode == 0, done.stderr
    return api


@pytest.mark.usefixtures("api")
def test_the_change_is_shown_and_not_made_without_a_yes(person: Person) -> None:
    """Without a terminal nobody can say yes, which is wrong usage; --dry-run needs none."""
    person.ssh_config.write_bytes(MINE)
    done = person.workspace("config-ssh")
    assert done.returncode == 2
    assert "+Host workspace.api workspace.*" in done.stderr
    assert "--yes" in done.stderr
    shown = person.workspace("config-ssh", "--dry-run")
    assert shown.returncode == 0
    assert "+Host workspace.api workspace.*" in shown.stdout
    assert person.ssh_config.read_bytes() == MINE
    assert [path.name for path in (person.home / ".ssh").iterdir()] == ["config"]


@pytest.mark.parametrize(("answer", "is_made"), [("y", True), ("n", False), ("", False)])
@pytest.mark.usefixtures("api")
def test_at_a_terminal_it_asks(person: Person, answer: str, is_made: bool) -> None:
    """Only a yes is one."""
    asking = pexpect.spawn(
        str(person.command), ["config-ssh"], env=person.environment, cwd=person.home,
        timeout=SECONDS, encoding="utf-8",
    )  # fmt: skip
    asking.expect(r"Change it like this\? \[y/N\]")
    asking.sendline(answer)
    asking.expect(pexpect.EOF)
    asking.close()
    assert (asking.exitstatus == 0) is is_made
    assert person.ssh_config.exists() is is_made


@pytest.mark.usefixtures("api")
def test_a_second_time_changes_nothing_and_remove_takes_all_out(person: Person) -> None:
    """The person's own files are then what they were; a link and permissions stay."""
    dotfiles = person.home / "dotfiles"
    dotfiles.mkdir()
    (dotfiles / "ssh config").write_bytes(MINE)
    (dotfiles / "ssh config").chmod(0o640)
    person.ssh_config.symlink_to(dotfiles / "ssh config")
    assert person.workspace("config-ssh", "--yes").returncode == 0
    once = person.ssh_config.read_bytes()
    assert once.endswith(MINE)
    assert once != MINE
    again = person.workspace("config-ssh")
    assert (again.returncode, again.stderr) == (0, "Nothing has to change.\n")
    assert person.workspace("config-ssh", "--remove", "--yes").returncode == 0
    assert person.ssh_config.is_symlink()
    assert person.ssh_config.read_bytes() == MINE
    assert (dotfiles / "ssh config").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (person.home / ".ssh").iterdir()] == ["config"]
    assert [path.name for path in dotfiles.iterdir()] == ["ssh config"]


@pytest.mark.usefixtures("api")
def test_what_a_person_has_put_beside_the_block_stays(person: Person) -> None:
    """Their lines in the file of its own are theirs."""
    own = person.home / ".ssh" / "workspace-hub.config"
    own.write_text("# mine\n")
    assert person.workspace("config-ssh", "--yes").returncode == 0
    assert person.workspace("config-ssh", "--remove", "--yes").returncode == 0
    assert own.read_text() == "# mine\n"


def test_openssh_gets_there_by_the_workspaces_name(configured: Machine, person: Person) -> None:
    """With a home and a command that have spaces, quotes and percent signs in their paths."""
    done = person.ssh("ssh", "workspace.api", "echo $((6 * 7)); exit 3")
    assert (done.returncode, done.stdout) == (3, "42\n"), done.stderr
    assert configured.logins() == ["workspace"]


@pytest.mark.usefixtures("configured")
def test_a_new_workspace_needs_no_new_configuration(
    configured: Machine, person: Person, hub: FakeHub
) -> None:
    """Also one with capitals, which editors make small."""
    hub.add("NEW_one", configured.connection(instance_id="7"))
    for host in ("workspace.NEW_one", "workspace.new_one"):
        done = person.ssh("ssh", host, "echo hello")
        assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_scp_and_sftp_copy(configured: Machine, person: Person) -> None:
    """They read the same configuration."""
    (person.home / "a b").write_text("content")
    assert person.ssh("scp", "a b", "workspace.api:a b").returncode == 0
    assert (configured.folder / "a b").read_text() == "content"
    done = person.ssh("sftp", "-b", "-", "workspace.api", given='get "a b" back\n')
    assert done.returncode == 0, done.stderr
    assert (person.home / "back").read_text() == "content"


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_copies(configured: Machine, person: Person) -> None:
    """It runs ssh by itself."""
    (person.home / "tree").mkdir()
    (person.home / "tree" / "x").write_text("x")
    shell = f"ssh -F '{person.ssh_config}'".replace("Ann's", "Ann'\"'\"'s")
    done = person.run(["rsync", "-a", "-e", shell, "tree", "workspace.api:"])
    assert done.returncode == 0, done.stderr
    assert (configured.folder / "tree" / "x").read_text() == "x"


@pytest.mark.usefixtures("configured")
def test_openssh_forwards_ports(person: Person) -> None:
    """As anywhere."""
    local = free_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        forward = f"127.0.0.1:{local}:localhost:{listener.getsockname()[1]}"
        process = person.start(
            ["ssh", "-F", str(person.ssh_config), "-N", "-L", forward, "workspace.api"]
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
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(SECONDS)


@pytest.mark.parametrize(
    ("key_of_the_hub", "kind"),
    [(True, "ssh-ed25519"), (False, "ssh-ed25519"), (False, "ecdsa-sha2-nistp256")],
)
def test_a_new_machine_is_no_alarm_for_openssh(
    configured: Machine, person: Person, machines: Machines, key_of_the_hub: bool, kind: str
) -> None:
    """Whether the Hub knows host keys or not; another key of the same machine is one."""
    hub = configured.hub
    connection = hub.connections[the_id(hub)]
    if not key_of_the_hub:
        connection["host_key"] = None
    assert person.ssh("ssh", "workspace.api", "true").returncode == 0
    other = machines.start(kind)
    (other.folder / "keys").write_text((configured.folder / "keys").read_text())
    connection["port"] = other.port
    person.sign_in_again(port=other.port)
    refused = person.ssh("ssh", "workspace.api", "true")
    assert refused.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in refused.stderr
    connection["instance_id"] = "2"
    connection["host_key"] = other.host_key if key_of_the_hub else None
    done = person.ssh("ssh", "workspace.api", "true")
    assert (done.returncode, "IDENTIFICATION" in done.stderr) == (0, False), done.stderr


ALL_OTHER = (
    "UserKnownHostsFile ~/other\n  StrictHostKeyChecking no\n  ProxyJump bastion\n"
    "  ProxyUseFdpass yes\n  CanonicalizeHostname always\n  VerifyHostKeyDNS yes"
)


@pytest.mark.parametrize("settings", ["Port 2222", "HostName 127.0.0.9", ALL_OTHER])
def test_what_a_person_says_of_all_hosts_lets_no_other_machine_in(
    configured: Machine, person: Person, machines: Machines, settings: str
) -> None:
    """OpenSSH looks for the key under the host's name, where `workspace connect` has put it."""
    with person.ssh_config.open("a") as file:
        file.write(f"\nHost *\n  {settings}\n")
    impostor = machines.start()
    (impostor.folder / "keys").unlink()
    (impostor.folder / "keys").symlink_to(configured.folder / "keys")  # it lets in all the same
    connection = configured.hub.connections[the_id(configured.hub)]
    connection["port"] = impostor.port
    person.sign_in_again(port=impostor.port)
    refused = person.ssh("ssh", "workspace.api", "true")
    assert refused.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in refused.stderr
    assert not impostor.logins()
    connection["port"] = configured.port
    person.sign_in_again(port=configured.port)
    done = person.ssh("ssh", "workspace.api", "echo hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_hash_of_a_hosts_name_does_not_shut_out_its_next_machine(
    configured: Machine, person: Person, machines: Machines
) -> None:
    """Debian has OpenSSH hash names; the command could not tell whose such a line is."""
    connection = configured.hub.connections[the_id(configured.hub)]
    connection["host_key"] = None
    with person.ssh_config.open("a") as file:
        file.write("\nHost *\n  HashKnownHosts yes\n")
    assert person.ssh("ssh", "workspace.api", "true").returncode == 0
    known = person.config / "ssh" / "local" / "known_hosts"
    assert known.read_text().startswith("workspace.api ")
    other = machines.start()
    (other.folder / "keys").write_text((configured.folder / "keys").read_text())
    connection.update(port=other.port, instance_id="2")
    person.sign_in_again(port=other.port)
    # An older configuration has left a line with a hash.
    hashed = person.run(["ssh-keygen", "-H", "-f", str(known)])
    assert hashed.returncode == 0, hashed.stderr
    assert known.read_text().startswith("|1|")
    done = person.ssh("ssh", "workspace.api", "true")
    assert (done.returncode, "IDENTIFICATION" in done.stderr) == (0, False), done.stderr


# ---- who starts what is asleep -------------------------------------------------------------------


@pytest.mark.usefixtures("configured")
def test_an_editors_reconnect_starts_nothing(person: Person, hub: FakeHub) -> None:
    """One line says what is the matter, and names the command that starts it."""
    sleeping(hub)
    for _ in range(3):
        done = person.ssh("ssh", "-T", "workspace.api", "true")
        assert done.returncode == 255
        [line] = [each for each in done.stderr.splitlines() if each.startswith("workspace:")]
        assert "api is asleep" in line
        assert line.endswith("workspace start api")
    assert [body["start"] for body in hub.asked("connect")] == [False, False, False]
    assert hub.workspaces[the_id(hub)]["status"] == "SUSPENDED"


@pytest.mark.usefixtures("configured")
def test_an_editor_waits_for_what_is_starting(person: Person, hub: FakeHub) -> None:
    """Somebody else has asked for it: `workspace open`, for one."""
    hub.begin(the_id(hub), "START")
    assert person.ssh("ssh", "-T", "workspace.api", "true").returncode == 0


@pytest.mark.usefixtures("configured")
def test_an_editor_reconnects_while_a_snapshot_is_taken(person: Person, hub: FakeHub) -> None:
    """What is ready stays so."""
    hub.looks = 10**6
    hub.begin(the_id(hub), "SNAPSHOT")
    assert person.ssh("ssh", "-T", "workspace.api", "true").returncode == 0


@pytest.mark.parametrize(("said", "is_started"), [("1", True), ("0", False)])
@pytest.mark.usefixtures("configured")
def test_a_variable_says_whether_it_is_started(
    person: Person, hub: FakeHub, said: str, is_started: bool
) -> None:
    """WORKSPACE_START is for what has no terminal, and for who wants nothing started at one."""
    sleeping(hub)
    variables = {"WORKSPACE_START": said}
    done = person.ssh("ssh", "workspace.api", "true", environment=variables)
    assert (done.returncode == 0) is is_started


@pytest.mark.parametrize(
    ("options", "is_started"),
    [
        ([], True),
        (["-v"], True),
        (["-T", "-D", "127.0.0.1:54321"], False),  # an editor, in a terminal of its own
        (["-o", "LogLevel=ERROR", "-vT"], False),
    ],
    ids=str,
)
@pytest.mark.usefixtures("configured")
def test_a_person_at_a_terminal_starts_it(
    person: Person, hub: FakeHub, options: list[str], is_started: bool
) -> None:
    """OpenSSH that does without a terminal has no person behind it, even if there is one."""
    sleeping(hub)
    arguments = ["-F", str(person.ssh_config), *options, "workspace.api", "echo in$((6 * 7))side"]
    terminal = pexpect.spawn(
        "ssh", arguments, env=person.environment, cwd=person.home, timeout=SECONDS,
        encoding="utf-8",
    )  # fmt: skip
    terminal.expect("in42side" if is_started else "workspace start api")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert hub.asked("connect")[0]["start"] is is_started


@pytest.mark.usefixtures("configured")
def test_a_job_in_the_background_of_a_terminal_starts_nothing(person: Person, hub: FakeHub) -> None:
    """A loop that somebody has left in a shell is no person."""
    sleeping(hub)
    shell = pexpect.spawn(
        "bash", ["--norc"], env=person.environment, cwd=person.home, timeout=SECONDS,
        encoding="utf-8", echo=False,
    )  # fmt: skip
    config = str(person.ssh_config).replace("Ann's", "Ann\\'s").replace(" ", "\\ ")
    shell.sendline(f"set -m; ssh -F {config} workspace.api true </dev/null & wait; echo d''one")
    shell.expect("workspace start api")
    shell.expect("done")
    shell.close()
    assert hub.workspaces[the_id(hub)]["status"] == "SUSPENDED"


@pytest.mark.usefixtures("configured")
def test_the_line_names_a_hub_that_is_not_the_one_in_use(person: Person, hub: FakeHub) -> None:
    """The hosts stay those of the Hub that they were written for."""
    sleeping(hub)
    person.use_another_hub()
    done = person.ssh("ssh", "workspace.api", "true")
    assert "workspace start api --hub local" in done.stderr


@pytest.mark.usefixtures("configured")
def test_a_workspace_that_is_not_there_is_told(person: Person) -> None:
    """In a line, and OpenSSH ends."""
    done = person.ssh("ssh", "workspace.other", "true")
    assert done.returncode == 255
    assert 'there is no workspace "other"' in done.stderr


# ---- open ----------------------------------------------------------------------------------------


@pytest.fixture
def editor(person: Person) -> Path:
    """Editors that write down their arguments."""
    person.program("code", EDITOR)
    person.program("cursor", EDITOR)
    return person.bin


@pytest.mark.usefixtures("configured")
def test_open_starts_the_workspace_and_then_the_editor(
    person: Person, hub: FakeHub, editor: Path
) -> None:
    """The editor finds it READY, by the host of config-ssh."""
    sleeping(hub)
    done = person.workspace("open", "api", "/home/workspace/my project")
    assert done.returncode == 0, done.stderr
    assert hub.workspaces[the_id(hub)]["status"] == "READY"
    assert (editor / "code.words").read_text().splitlines() == [
        "--remote", "ssh-remote+workspace.api", "/home/workspace/my project",
    ]  # fmt: skip


@pytest.mark.usefixtures("configured")
def test_open_takes_another_editor_and_odd_names(
    configured: Machine, person: Person, hub: FakeHub, editor: Path
) -> None:
    """A name with capitals is encoded, as editors do it themselves."""
    hub.add("API", configured.connection())
    done = person.workspace("open", "API", "--editor", "cursor")
    assert done.returncode == 0, done.stderr
    [option, authority] = (editor / "cursor.words").read_text().splitlines()
    assert option == "--remote"
    encoded = authority.removeprefix("ssh-remote+")
    assert bytes.fromhex(encoded) == b'{"hostName":"workspace.API"}'


@pytest.mark.usefixtures("api", "editor")
def test_open_sets_up_openssh_only_with_a_yes(person: Person) -> None:
    """Without a terminal nobody can agree to the change."""
    assert person.workspace("open", "api").returncode == 2
    assert not person.ssh_config.exists()
    assert person.workspace("open", "api", "--yes").returncode == 0
    assert person.ssh("ssh", "workspace.api", "true").returncode == 0


@pytest.mark.parametrize("path", ["relative", "--folder-uri=x", "/a\nb"])
def test_open_takes_only_absolute_paths(person: Person, path: str) -> None:
    """Nothing that is an option of the editor."""
    assert person.workspace("open", "api", "--", path).returncode == 2


@pytest.mark.usefixtures("api")
def test_open_says_that_an_editor_is_missing_before_it_starts_anything(
    person: Person, hub: FakeHub
) -> None:
    """And how to get its program."""
    done = person.workspace(
        "open", "api", "--editor", "cursor", environment={"PATH": "/usr/bin:/bin"}
    )
    assert done.returncode == 1
    assert "Install 'cursor' command" in done.stderr
    assert not hub.asked("connect")
