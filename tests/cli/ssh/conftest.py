"""A person, a Hub that does as a test says, and an SSH server that is a machine of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.cli.ssh import hub as hubs
from tests.cli.ssh.person import Person
from workspace_cli.config import Connect


@dataclass(frozen=True)
class Machine:
    """An SSH server.

    Attributes:
        folder: as ``sshd.py`` has it; commands run in it.
        port: on loopback.
        host_key: as the Hub would tell it.
        hub: the Hub of it.
    """

    folder: Path
    port: int
    host_key: str
    hub: hubs.FakeHub

    def connection(self, **changes: Any) -> dict[str, Any]:
        """Return what the Hub says of it."""
        return {
            "kind": "direct", "project_id": "a-project", "zone": "us-west1-a",
            "instance_name": "workspace-1", "instance_id": "1", "host": "127.0.0.1",
            "port": self.port, "jump": None, "user": "workspace", "host_key": self.host_key,
            "access": {"state": "granted", "why": None}, "command": "ssh … # ; rm -rf /",
            **changes,
        }  # fmt: skip

    def let_in(self, *keys: str) -> None:
        """Let these keys in, and no other."""
        (self.folder / "keys").write_text("".join(f"{key}\n" for key in keys))

    def logins(self) -> list[str]:
        """Return the user names of those who have logged in."""
        path = self.folder / "logins"
        return path.read_text().splitlines() if path.exists() else []


class Machines:
    """Starts SSH servers, and ends them with the test."""

    def __init__(self, folder: Path, hub: hubs.FakeHub) -> None:
        self._folder = folder
        self._hub = hub
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, kind: str = "ssh-ed25519") -> Machine:
        """Start one, with a host key of its own, of this kind, that lets nobody in."""
        folder = self._folder / f"machine-{len(self._processes)}"
        folder.mkdir()
        key = asyncssh.generate_private_key(kind)
        key.write_private_key(folder / "host_key")
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("sshd.py"), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._processes.append(process)
        if process.stdout is None:
            raise AssertionError
        port = int(process.stdout.readline())
        public = " ".join(key.export_public_key().decode().split()[:2])
        machine = Machine(folder, port, public, self._hub)
        machine.let_in()
        return machine

    def end(self) -> None:
        """End all of them."""
        for process in self._processes:
            process.kill()
            process.communicate()


@pytest.fixture
def machines(tmp_path: Path, hub: hubs.FakeHub) -> Iterator[Machines]:
    """SSH servers that are machines of a Hub."""
    started = Machines(tmp_path, hub)
    yield started
    started.end()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[hubs.FakeHub]:
    """A Hub that does as the test says."""
    with hubs.running(tmp_path / "cloud" / "state.json") as running:
        yield running


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """A person who has not signed in."""
    return Person(tmp_path)


@pytest.fixture
def api(hub: hubs.FakeHub, machines: Machines, person: Person, tmp_path: Path) -> Machine:
    """The machine of Alice's workspace ``api``, which is READY; she is the person, signed in."""
    machine = machines.start()
    hub.add("api", machine.connection())
    connect = Connect(kind="direct", port=machine.port, user="workspace")
    person.sign_in_locally(tmp_path / "cloud" / "state.json", "alice@example.com", connect)
    (machine.folder / "keys").unlink()
    # Whoever is in Alice's profile is let in, as OS Login does it.
    (machine.folder / "keys").symlink_to(hub_keys(hub, machine.folder))
    return machine


def hub_keys(hub: hubs.FakeHub, folder: Path) -> Path:
    """Return a file with the keys that Alice has registered, which is kept up to date."""
    path = folder.parent / f"keys-of-{folder.name}"
    path.touch()
    hub.on_key = lambda: path.write_text(
        "".join(f"{key}\n" for key in hub.keys.get("alice@example.com", []))
    )
    return path
