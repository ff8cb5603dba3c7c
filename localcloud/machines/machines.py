"""The machines of one local cloud that people can enter."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from localcloud.machines.homes import Copy, Homes
from localcloud.machines.machine import Machine, MachinePlan, MachineSurroundings
from localcloud.processes.children import Child
from localcloud.processes.process_tree import MARK
from localcloud.processes.reaper import remove
from localcloud.services.compute.resources import Disk, Instance, Snapshot

# What a shell gets from the metadata, as a container does (``shared/boot/container.sh``).
_FROM_METADATA = {
    "WORKSPACE_ID": "hub-workspace-id",
    "WORKSPACE_NAME": "hub-workspace-name",
    "WORKSPACE_REPO": "hub-repo",
    "WORKSPACE_BRANCH": "hub-branch",
}
_MOST_LOOK = 10.0  # seconds between two looks at ~/.keep-awake
_NO_SECONDS = 3600.0  # without the Hub's metadata nothing is reported, so this decides nothing
_INHERITED = ("PATH", "LANG", "TZ")
_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of the cloud's own is made in it


@dataclass(frozen=True, kw_only=True)
class MachinesOptions:
    """What machines need of the local cloud.

    Attributes:
        folder: a folder of the cloud's own for homes and temporary files; it need not exist yet.
        name: a name for the cloud that no other one has.
        port: the port on which every machine listens, each on its own address.
        start: starts the first process of a machine, with this socket.
        keys: returns the public keys that may log in to an instance now.
        changed: is called when the first process of a machine has changed.
    """

    folder: Path
    name: str
    port: int
    start: Callable[[MachinePlan, socket.socket], Awaitable[Child]]
    keys: Callable[[Instance], list[str]]
    changed: Callable[[], None]

    @property
    def secrets(self) -> Path:
        """The folder in memory for what people keep secret."""
        return (_MEMORY if _MEMORY.is_dir() else self.folder) / self.name

    @property
    def mark(self) -> str:
        """With what the marks of all processes of all its machines begin."""
        return f"{self.name}/"


class Machines:
    """All machines of a local cloud that people can enter.

    Args:
        options: what they need.

    Attributes:
        options: the same.
        used: is called with an instance when somebody has logged in to it or out of it, or keeps it
            awake or no longer does.
    """

    def __init__(self, options: MachinesOptions) -> None:
        self.used: Callable[[Instance], None] = lambda _: None
        self.options = options
        self._machines: dict[str, Machine] = {}
        self._ending: set[Machine] = set()
        # As a real machine, which has it on its boot disk: it goes with the instance.
        self._host_keys: WeakKeyDictionary[Instance, ed25519.Ed25519PrivateKey] = (
            WeakKeyDictionary()
        )
        self._boots = 0
        self._homes = Homes(options.folder)
        self._waits: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """End all machines, and wait for it."""
        for machine in self._machines.values():
            self._end(machine)
        self._machines.clear()
        await self._settle(self._ending)
        await asyncio.gather(*self._waits)
        await self._homes.stop()

    def boot(self, instance: Instance, home: Disk | None) -> None:
        """Switch a machine on. Without a home disk nobody can enter it."""
        if home is None:
            return
        self._boots += 1
        number = str(self._boots)
        host = str(instance.resource["networkInterfaces"][0]["networkIP"])
        # Short: a socket's path has at most 107 characters, and tmux makes one in it.
        temporary = self.options.folder / "t" / number
        secrets = self.options.secrets / number
        folder = self._homes.of(home)
        attributes = instance.attributes()
        if workspace_id := attributes.get("hub-workspace-id"):
            self._homes.claim(home, workspace_id)
        mark = f"{self.options.mark}{number}"
        plan = MachinePlan(
            name=instance.name,
            mark=mark,
            host=host,
            port=self.options.port,
            host_key=_private_text(self._host_key(instance)),
            home=folder,
            temporary=(temporary, secrets),
            environment={
                **_common_environment(),
                **_workspace_environment(attributes),
                MARK: mark,
                "HOME": str(folder),
                "TMPDIR": str(temporary),
                "TMUX_TMPDIR": str(temporary),
                "XDG_RUNTIME_DIR": str(temporary),
                "WORKSPACE_SECRETS": str(secrets),
            },
            keep_awake_seconds=_seconds(attributes, "hub-keep-awake-seconds"),
            look_seconds=min(_seconds(attributes, "hub-heartbeat-seconds") / 2, _MOST_LOOK),
        )
        surroundings = MachineSurroundings(
            start=self.options.start,
            keys=partial(self.options.keys, instance),
            before=partial(self._settle, self._ending),
            changed=partial(self._changed, instance),
            make_folders=partial(_make_folders, [folder, *plan.temporary]),
            remove=remove,
        )
        self._machines[instance.id] = Machine(plan, surroundings)

    def open(self, instance: Instance) -> str | None:
        """Let people in: the machine has booted.

        Returns:
            The public key by which it proves itself, ``ssh-ed25519 AAAA…``; None if nobody can
            enter it.
        """
        machine = self._machines.get(instance.id)
        if machine is None:
            return None
        machine.open()
        public = self._host_key(instance).public_key()
        return public.public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        ).decode()

    def freeze(self, instance: Instance) -> None:
        """Let all processes of a machine stand still; see ``is_settled``."""
        if machine := self._machines.get(instance.id):
            machine.freeze()

    def thaw(self, instance: Instance) -> None:
        """Let all processes of a machine go on."""
        if machine := self._machines.get(instance.id):
            machine.thaw()

    def end(self, instance: Instance) -> None:
        """Switch a machine off: its processes end, its home stays; see ``is_settled``."""
        if machine := self._machines.pop(instance.id, None):
            self._end(machine)

    def is_settled(self, instance: Instance) -> bool:
        """Whether a machine is as it was last told: frozen, or gone."""
        machine = self._machines.get(instance.id)
        return (machine is None or machine.is_settled) and all(
            each.is_settled for each in self._ending if each.plan.name == instance.name
        )

    def logged_in(self, instance: Instance) -> int:
        """Return by how many connections somebody is logged in to a machine."""
        machine = self._machines.get(instance.id)
        return machine.logged_in if machine else 0

    def is_kept_awake(self, instance: Instance) -> bool:
        """Return whether somebody has touched ``~/.keep-awake`` on a machine lately."""
        machine = self._machines.get(instance.id)
        return machine is not None and machine.is_kept_awake

    def children(self) -> dict[str, Child]:
        """Return the first processes that there are, by the names of their instances."""
        return {
            machine.plan.name: machine.child for machine in self._machines.values() if machine.child
        }

    def copy_home(self, source: Disk | Snapshot, target: Disk | Snapshot) -> None:
        """Begin to copy the home on a disk to a new snapshot, or the one in it to a new disk."""
        self._homes.copy(source, target)

    def copy_to(self, resource: Disk | Snapshot) -> Copy | None:
        """Return what has come of copying to a disk or snapshot; None while it is under way."""
        return self._homes.copy_to(resource)

    def delete_home(self, resource: Disk | Snapshot) -> None:
        """Delete the home of a disk or snapshot that is gone, when no process uses it any more."""
        self._homes.delete(resource, partial(self._settle, self._ending))

    def _host_key(self, instance: Instance) -> ed25519.Ed25519PrivateKey:
        if instance not in self._host_keys:
            self._host_keys[instance] = ed25519.Ed25519PrivateKey.generate()
        return self._host_keys[instance]

    def _changed(self, instance: Instance) -> None:
        self.used(instance)
        self.options.changed()

    def _end(self, machine: Machine) -> None:
        machine.end()
        self._ending.add(machine)
        wait = asyncio.create_task(machine.settle())
        self._waits.add(wait)

        def forget(task: asyncio.Task[None]) -> None:
            self._waits.discard(task)
            self._ending.discard(machine)

        wait.add_done_callback(forget)

    async def _settle(self, machines: Iterable[Machine]) -> None:
        for machine in list(machines):
            await machine.settle()


def _common_environment() -> dict[str, str]:
    user = pwd.getpwuid(os.getuid()).pw_name
    return {
        **{name: os.environ[name] for name in _INHERITED if name in os.environ},
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh",
    }


def _workspace_environment(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: attributes.get(key, "") for name, key in _FROM_METADATA.items()}


def _seconds(attributes: Mapping[str, str], name: str) -> float:
    """Return a duration of the metadata; an hour without one, or with one that is no number."""
    value = attributes.get(name, "")
    return float(value) if value.isdecimal() and int(value) > 0 else _NO_SECONDS


def _make_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _private_text(key: ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    ).decode()
