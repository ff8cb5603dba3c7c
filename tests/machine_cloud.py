"""A process with machines that one can enter, and nothing else of a local cloud.

``python -m tests.machine_cloud FOLDER`` reads a JSON list from each line of its standard input, a
call, and prints a line with a JSON value, its result. ``machine_cloud`` runs it, and is its client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from localcloud.catalogue import ROOT
from localcloud.machines.machine import MachinePlan
from localcloud.machines.machines import Machines, MachinesOptions
from localcloud.processes.children import Child, Program, free_ports
from localcloud.processes.reaper import Reaper
from localcloud.services.compute.resources import Disk, Instance, Snapshot, new_id


class Served:
    """The calls."""

    def __init__(self, folder: Path) -> None:
        self.reaper = Reaper()
        self.port = free_ports(1)[0]
        self.log = folder / "log"
        options = MachinesOptions(
            folder=folder / "cloud",
            name=folder.name,
            port=self.port,
            start=self._start,
            keys=lambda instance: self.keys.get(instance.name, []),
            changed=lambda: None,
        )
        self.machines = Machines(options)
        self.reaper.remove(options.folder)
        self.reaper.remove(options.secrets)
        self.reaper.end_machines(options.mark)
        self.instances: dict[str, Instance] = {}
        self.disks: dict[str, Disk] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.keys: dict[str, list[str]] = {}
        self.addresses = 0

    async def _start(self, plan: MachinePlan, cloud: socket.socket) -> Child:
        descriptor = cloud.fileno()
        command = [sys.executable, "-m", "localcloud.machines.ssh_server", str(descriptor)]
        program = Program(
            name=plan.name,
            command=command,
            environment={**plan.environment, "PYTHONPATH": str(ROOT)},
            folder=plan.home,
            log=self.log,
            descriptors=[descriptor],
        )
        return await Child.start(program, self.reaper)

    async def ready(self) -> dict[str, Any]:
        """Return the port of the machines, and the reaper's process id."""
        return {"port": self.port, "reaper": self.reaper.pid}

    async def boot(self, name: str, disk: str, keys: list[str]) -> dict[str, Any]:
        """Boot a machine with a home disk of this name, which lets in these keys."""
        if name not in self.instances:
            self.addresses += 1
            attributes = {
                "hub-workspace-id": name,
                "hub-workspace-name": name,
                "hub-heartbeat-seconds": "1",
                "hub-keep-awake-seconds": "3600",
            }
            metadata = [{"key": key, "value": value} for key, value in attributes.items()]
            resource = {
                "name": name,
                "id": new_id(),
                "networkInterfaces": [{"networkIP": f"127.78.0.{self.addresses}"}],
                "metadata": {"items": metadata},
            }
            self.instances[name] = Instance(
                project_id="p", zone="z", resource=resource, created_at=datetime.now(UTC)
            )
        self.disks.setdefault(
            disk, Disk(project_id="p", zone="z", resource={"name": disk, "id": new_id()})
        )
        instance = self.instances[name]
        self.keys[name] = keys
        self.machines.boot(instance, self.disks[disk])
        return {
            "host": instance.resource["networkInterfaces"][0]["networkIP"],
            "host_key": self.machines.open(instance),
        }

    async def allow(self, name: str, keys: list[str]) -> None:
        """Let in these keys from now on."""
        self.keys[name] = keys

    async def act(self, verb: str, name: str) -> None:
        """Freeze, thaw or end a machine, and wait until that has happened."""
        instance = self.instances[name]
        getattr(self.machines, verb)(instance)
        while not self.machines.is_settled(instance):  # noqa: ASYNC110  # as Compute's server does
            await asyncio.sleep(0.01)

    async def forget(self, name: str) -> None:
        """Forget an instance: the next one of this name is another."""
        del self.instances[name]

    async def capture(self, disk: str, name: str) -> None:
        """Take a snapshot of a home disk."""
        resource = {"name": name, "id": new_id()}
        snapshot = Snapshot(project_id="p", resource=resource, disk=self.disks[disk])
        self.snapshots[name] = snapshot
        await self._copy(self.disks[disk], snapshot)

    async def restore(self, name: str, disk: str) -> None:
        """Make a home disk from a snapshot."""
        self.disks[disk] = Disk(project_id="p", zone="z", resource={"name": disk, "id": new_id()})
        await self._copy(self.snapshots[name], self.disks[disk])

    async def _copy(self, source: Disk | Snapshot, target: Disk | Snapshot) -> None:
        self.machines.copy_home(source, target)
        while self.machines.copy_to(target) is None:  # noqa: ASYNC110  # as Compute's server does
            await asyncio.sleep(0.01)

    async def delete_snapshot(self, name: str) -> None:
        """Delete a snapshot."""
        self.machines.delete_home(self.snapshots.pop(name))

    async def delete_disk(self, disk: str) -> None:
        """Delete a home disk."""
        self.machines.delete_home(self.disks.pop(disk))

    async def logged_in(self, name: str) -> int:
        """Return by how many connections somebody is logged in."""
        return self.machines.logged_in(self.instances[name])

    async def is_kept_awake(self, name: str) -> bool:
        """Return whether somebody keeps a machine awake."""
        return self.machines.is_kept_awake(self.instances[name])

    async def pid(self, name: str) -> int | None:
        """Return the process id of a machine's first process."""
        child = self.machines.children().get(name)
        return child.pid if child else None

    async def stop(self) -> None:
        """End all machines."""
        await self.machines.stop()
        await asyncio.to_thread(self.reaper.close)


async def serve(folder: Path) -> None:
    """Answer one call after the other."""
    served = Served(folder)
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, *arguments = json.loads(line)
        result = json.dumps(await getattr(served, name)(*arguments))
        print(result, flush=True)  # noqa: T201  # the answer


class MachineCloud:
    """The client of such a process.

    Attributes:
        folder: its folder; homes and temporary files are in ``cloud`` there.
        process: the process.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder = folder
        self.process = process

    def call(self, *call: Any) -> Any:
        """Make a call, and return its result."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, (self.folder / "log").read_text()
        return json.loads(answer)


@contextlib.contextmanager
def machine_cloud() -> Iterator[MachineCloud]:
    """Run a process with machines."""
    folder = Path(tempfile.mkdtemp(prefix="workspace-hub-"))
    (folder / "log").touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.machine_cloud", str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    cloud = MachineCloud(folder, process)
    try:
        with process:
            yield cloud
            if process.poll() is None:
                cloud.call("stop")
    finally:
        process.kill()
        shutil.rmtree(folder, ignore_errors=True)


class Person:
    """Somebody with an SSH key of their own.

    Args:
        folder: an empty folder for the key.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")]
        subprocess.run(command, check=True)
        self.key = (folder / "key.pub").read_text().strip()

    def options(self, machine: EnteredMachine) -> list[str]:
        """Return the options of ssh, scp and sftp that choose this key, and check the host's."""
        known_hosts = self.folder / f"known_hosts-{machine.name}"
        known_hosts.write_text(f"[{machine.host}]:{machine.port} {machine.host_key}\n")
        return [
            *("-F", "none", "-i", str(self.folder / "key"), "-o", "IdentitiesOnly=yes"),
            *("-o", f"UserKnownHostsFile={known_hosts}", "-o", "StrictHostKeyChecking=yes"),
            *("-o", "BatchMode=yes", "-o", f"Port={machine.port}", "-o", "LogLevel=ERROR"),
        ]

    def ssh(self, machine: EnteredMachine, *command: str, **more: Any) -> Any:
        """Run ssh to a machine, and return how it ended: code, output, errors."""
        return subprocess.run(
            ["ssh", *self.options(machine), f"workspace@{machine.host}", *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **{"stdin": subprocess.DEVNULL, **more},
        )

    def start(self, machine: EnteredMachine, *command: str) -> subprocess.Popen[str]:
        """Start ssh to a machine, with pipes."""
        return subprocess.Popen(
            ["ssh", *self.options(machine), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


class EnteredMachine:
    """One machine of a cloud.

    Args:
        cloud: the cloud.
        keys: who may log in.
        disk: its home disk; by default a new one.
    """

    def __init__(self, cloud: MachineCloud, keys: list[str], disk: str | None = None) -> None:
        self.cloud = cloud
        self.name = f"workspace-{uuid.uuid4()}"
        self.disk = disk or f"home-{uuid.uuid4()}"
        self.port = int(cloud.call("ready")["port"])
        self.boot(keys)

    def boot(self, keys: list[str]) -> None:
        """Switch it on."""
        booted = self.cloud.call("boot", self.name, self.disk, keys)
        self.host, self.host_key = booted["host"], booted["host_key"]

    def act(self, verb: str) -> None:
        """Freeze, thaw or end it, and wait until that has happened."""
        self.cloud.call("act", verb, self.name)

    def pid(self) -> int | None:
        """Return the process id of its first process."""
        found: int | None = self.cloud.call("pid", self.name)
        return found

    def logged_in(self) -> int:
        """Return by how many connections somebody is logged in."""
        return int(self.cloud.call("logged_in", self.name))


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
