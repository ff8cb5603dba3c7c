"""Machines of Google's, through the tunnel that gcloud carries, and machines behind a bastion."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import pexpect
import pytest

from tests.cli.ssh.conftest import Machine, Machines
from tests.cli.ssh.hub import TOKEN, FakeHub
from tests.cli.ssh.person import SECONDS, Person, wait_until
from tests.cli.ssh.test_entering import sleeping, the_id
from workspace_cli.config import Connect, Hub, SignIn

GCLOUD = """#!{python}
import json, os, pathlib, socket, sys, threading
words = sys.argv[1:]
with pathlib.Path({log!r}).open("a") as file:
    file.write(json.dumps(words) + "\\n")
if words[:2] == ["auth", "print-identity-token"]:
    print({token!r})
elif "ssh-keys" in words:
    [key] = [word.partition("=")[2] for word in words if word.startswith("--key-file=")]
    with pathlib.Path({keys!r}).open("a") as file:
        file.write(pathlib.Path(key).read_text())
elif "describe-profile" in words:
    print(json.dumps({{"posixAccounts": [{{"primary": True, "username": "ann_example_com"}}]}}))
elif "start-iap-tunnel" in words:
    machine = socket.create_connection(("127.0.0.1", {port}))
    def up():
        while chunk := os.read(0, 65536):
            machine.sendall(chunk)
        machine.shutdown(socket.SHUT_WR)
    threading.Thread(target=up, daemon=True).start()
    while chunk := machine.recv(65536):
        os.write(1, chunk)
"""
TUNNEL = ["compute", "start-iap-tunnel", "workspace-1", "22", "--listen-on-stdin",
          "--project=a-project", "--zone=us-west1-a", "--verbosity=warning"]  # fmt: skip


@pytest.fixture
def api(hub: FakeHub, machines: Machines, person: Person) -> Machine:
    """The machine of ``api``, behind Google's tunnel; the person has signed in with gcloud."""
    machine = machines.start()
    hub.add("api", machine.connection(kind="iap", host=None, port=22, user=None))
    person.program(
        "gcloud",
        GCLOUD.format(
            python=sys.executable, log=str(person.home / "gcloud.log"), token=TOKEN,
            keys=str(machine.folder / "keys"), port=machine.port,
        ),
    )  # fmt: skip
    sign_in = SignIn(kind="gcloud")
    there = Hub(name="team", address=hub.address, sign_in=sign_in, connect=Connect(kind="iap"))
    person.store.put(there, use=True)
    return machine


def gcloud_calls(person: Person, verb: str) -> list[list[str]]:
    """Return the arguments of gcloud's calls that have this word."""
    lines = (person.home / "gcloud.log").read_text().splitlines()
    return [words for words in map(json.loads, lines) if verb in words]


def test_gcloud_carries_the_connection(api: Machine, person: Person) -> None:
    """It gets the machine's names as arguments; the user is that of the OS Login profile."""
    done = person.workspace("exec", "api", "--", "echo", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert set(api.logins()) == {"ann_example_com"}
    assert gcloud_calls(person, "start-iap-tunnel")[-1] == TUNNEL
    assert len(gcloud_calls(person, "ssh-keys")) == 1


def test_a_machine_that_was_entered_is_not_tried_again(api: Machine, person: Person) -> None:
    """Only the first entry into a machine has a trial before it."""
    for _ in range(2):
        assert person.workspace("exec", "api", "--", "true").returncode == 0
    assert len(api.logins()) == 3
    assert len(gcloud_calls(person, "start-iap-tunnel")) == 3


def test_a_right_that_does_not_hold_yet_is_waited_for(api: Machine, person: Person) -> None:
    """IAM says yes some time after the Hub has given the right."""
    (api.folder / "denials").write_text("2")
    done = person.workspace("run", "api", "--", "echo", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert "does not let you in yet" in done.stderr


def test_openssh_gets_through_the_tunnel(api: Machine, person: Person) -> None:
    """By the host of config-ssh, whose user is that of the OS Login profile."""
    assert person.workspace("config-ssh", "--yes").returncode == 0
    done = person.ssh("ssh", "workspace.api", "echo hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert api.logins() == ["ann_example_com"]
    assert gcloud_calls(person, "start-iap-tunnel") == [TUNNEL]


@pytest.mark.usefixtures("api")
def test_without_gcloud_it_is_said_what_to_do(person: Person) -> None:
    """The exit code is that of a missing sign-in, and OpenSSH is not started."""
    programs = person.home / "programs"
    programs.mkdir()
    for name in ("ssh", "ssh-keygen"):
        (programs / name).symlink_to(shutil.which(name) or "")
    environment = {"PATH": str(programs), "WORKSPACE_TOKEN": TOKEN}
    done = person.workspace("exec", "api", "--", "true", environment=environment)
    assert done.returncode == 4
    assert "gcloud is not on this machine" in done.stderr


# ---- a bastion -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "direct", "host": "10.0.0.7"},
        {"kind": "direct", "host": "10.0.0.7", "port": 1},
        {"kind": "direct", "host": "10.0.0.7", "jump": "mallory@evil.example.com"},
        {"user": "root"},
    ],
    ids=str,
)
def test_a_way_that_nobody_has_agreed_to_is_not_taken(
    api: Machine, person: Person, hub: FakeHub, change: dict[str, Any]
) -> None:
    """Without a terminal nobody can agree, so nothing is connected."""
    hub.connections[the_id(hub)].update(change)
    done = person.workspace("exec", "api", "--", "true")
    assert done.returncode == 2
    assert "changed how its machines are reached" in done.stderr
    assert not api.logins()


@pytest.mark.usefixtures("api")
def test_a_bastion_is_shown_agreed_to_once_and_then_used(person: Person, hub: FakeHub) -> None:
    """Without a terminal it is refused; the person's own OpenSSH gets to it."""
    connection = hub.connections[the_id(hub)]
    jump = {"kind": "direct", "host": "10.0.0.7", "port": 22, "jump": "ann@bastion.example.com:77"}
    connection.update(jump)
    person.program("ssh", '#!/bin/sh\nprintf "%s\\n" "$@" >>"$HOME/ssh.words"\nexit 42\n')
    refused = person.workspace("ssh", "api")
    assert refused.returncode == 2
    assert "bastion ann@bastion.example.com:77" in refused.stderr
    assert not (person.home / "ssh.words").exists()
    asking = pexpect.spawn(
        str(person.command), ["ssh", "api"], env=person.environment, cwd=person.home,
        timeout=SECONDS, encoding="utf-8",
    )  # fmt: skip
    asking.expect(r"\[y/N\]")
    asking.sendline("y")
    asking.expect(pexpect.EOF)
    asking.close()
    assert asking.exitstatus == 42
    assert person.workspace("ssh", "api").returncode == 42
    words = (person.home / "ssh.words").read_text().splitlines()
    [proxy] = {word for word in words if word.startswith("ProxyCommand=")}
    path = str(person.bin / "ssh")
    assert proxy == (f'ProxyCommand="{path}" -p 77 -l ann -W 10.0.0.7:22 -- bastion.example.com')


@pytest.mark.usefixtures("api")
def test_who_has_agreed_is_not_asked_again_while_a_right_is_on_its_way(
    person: Person, hub: FakeHub
) -> None:
    """The Hub is asked again and again; the person is not."""
    connection = hub.connections[the_id(hub)]
    connection.update(kind="direct", host="10.0.0.7", jump="bastion.example.com")
    connection["access"] = {"state": "pending", "why": None}
    person.program("ssh", "#!/bin/sh\nexit 42\n")
    asking = pexpect.spawn(
        str(person.command), ["ssh", "api"], env=person.environment, cwd=person.home,
        timeout=SECONDS, encoding="utf-8",
    )  # fmt: skip
    asking.expect(r"\[y/N\]")
    before = len(hub.asked("connect"))
    asking.sendline("y")
    wait_until(lambda: len(hub.asked("connect")) > before, "it looks again")
    connection["access"] = {"state": "granted", "why": None}
    assert asking.expect([pexpect.EOF, r"\[y/N\]"]) == 0
    asking.close()
    assert asking.exitstatus == 42


@pytest.mark.usefixtures("api")
def test_connect_becomes_the_connection_to_the_bastion(person: Person, hub: FakeHub) -> None:
    """OpenSSH's arguments are the parts of what was agreed to."""
    jump = "bastion.example.com"
    hub.connections[the_id(hub)].update(kind="direct", host="2001:db8::7", port=2222, jump=jump)
    connect = Connect(kind="direct", port=2222, jump=jump)
    there = person.store.read().hubs["team"]
    person.store.put(
        Hub(name="team", address=there.address, sign_in=there.sign_in, connect=connect), use=True
    )
    person.program("ssh", '#!/bin/sh\nprintf "%s\\n" "$@"\n')
    done = person.workspace("connect", "workspace.api")
    assert done.stdout.splitlines() == ["-W", "[2001:db8::7]:2222", "--", jump]


@pytest.mark.usefixtures("api")
def test_connect_starts_nothing_by_itself(person: Person, hub: FakeHub) -> None:
    """Without a terminal behind it, it ends with one line and no gcloud is started."""
    sleeping(hub)
    done = person.workspace("connect", "api")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith("workspace start api")
    assert not gcloud_calls(person, "start-iap-tunnel")
