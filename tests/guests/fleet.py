"""Real guests for a local cloud's machines: they are booted and switched off with the machines."""

from __future__ import annotations

import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from tests.guests import nspawn
from tests.guests.image import programs, root_file_system
from tests.guests.nspawn import GuestSettings
from tests.guests.registry import REPOSITORY, BuiltImage, Images
from tests.system.records import in_compute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.running_cloud import RunningCloud

REGISTRY_PORT = 5000
IMAGE_REPOSITORY = f"127.0.0.1:{REGISTRY_PORT}/{REPOSITORY}"
_HOME_BYTES = 64 * 1024 * 1024  # of a home of _HOME_GB in Compute; of a larger one in proportion
_HOME_GB = 50
_POLL_SECONDS = 0.1
_ON = frozenset({"RUNNING"})
_OFF = frozenset({"STOPPING", "TERMINATED", "ABSENT"})


class Guest(Protocol):
    """One machine from power-on to power-off, of whatever kind."""

    def run(self, *command: str, user_input: str | None = None, check: bool = True) -> str:
        """Run a command in the guest as root and return what it printed."""

    def power_off(self) -> None:
        """Press the power button, wait for the guest to shut down, and clean up."""


@dataclass(frozen=True)
class Kind:
    """A kind of guest.

    Attributes:
        boot: boots a guest with these settings.
        busybox: a static busybox, for the container's image.
        programs: the other programs of the image, by their paths in it.
        images: further images of the registry, by their tags.
    """

    boot: Callable[[GuestSettings], Guest]
    busybox: Path
    programs: Mapping[str, Path] = field(default_factory=dict)
    images: Mapping[str, BuiltImage] = field(default_factory=dict)


def in_nspawn(images: Mapping[str, BuiltImage] | None = None, storage_driver: str = "vfs") -> Kind:
    """Return the kind that ``tests.guests.nspawn`` boots, within seconds, on the host's kernel.

    Args:
        images: further images of the registry, by their tags.
        storage_driver: Docker's.
    """
    root = root_file_system()
    copied = programs(
        root, "/usr/lib/openssh/sftp-server", "/usr/bin/rsync", "/usr/bin/scp", "/usr/bin/ssh-add"
    )
    boot = partial(nspawn.Guest, root=root, storage_driver=storage_driver)
    return Kind(boot, root / "bin/busybox", copied, images or {})


class Fleet:
    """The guests of a local cloud.

    The cloud's own simulated guests must be silent (fault ``never_ready``).

    Args:
        cloud: the local cloud.
        folder: for disks, consoles and the guests' Docker data.
        kind: the kind of the guests; nspawn by default.

    Attributes:
        prepare_disk: called with each new home disk.
        boot_disk_bytes: for machines that are booted later; None: as much as the host has.
    """

    def __init__(self, cloud: RunningCloud, folder: Path, kind: Kind | None = None) -> None:
        self._cloud = cloud
        self._folder = folder
        self._kind = kind or in_nspawn()
        self._images = Images(self._kind.busybox, self._kind.programs)
        for tag, image in self._kind.images.items():
            self._images.add(tag, image)
        self._guests: dict[str, Guest] = {}
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self.prepare_disk: Callable[[Path], None] = lambda _: None
        self.boot_disk_bytes: int | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Switch everything off.

        Raises:
            BaseException: the first error while a guest was booted or switched off.
        """
        self._ended.set()
        self._thread.join()
        if self._failure:
            raise self._failure

    def guest(self, instance_name: str) -> Guest:
        """Return the guest of a machine; wait until it is switched on."""
        deadline = time.monotonic() + 30
        while instance_name not in self._guests:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{instance_name} is not switched on")
            time.sleep(_POLL_SECONDS)
        return self._guests[instance_name]

    def off(self, instance_name: str) -> None:
        """Wait until a machine's guest is off."""
        deadline = time.monotonic() + 60
        while instance_name in self._guests:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{instance_name} is not switched off")
            time.sleep(_POLL_SECONDS)

    def home(self, workspace_id: str) -> Path:
        """Return the path of a workspace's home disk."""
        return self._folder / f"home-{workspace_id}"

    def digest_of(self, tag: str) -> str:
        """Return the digest of an image in the registry."""
        return self._images.digest(tag)

    def console(self, instance_name: str) -> str:
        """Return the text of a machine's console."""
        return (self._folder / instance_name / "console").read_text(errors="replace")

    def _follow(self) -> None:
        try:
            while not self._ended.wait(_POLL_SECONDS):
                machines = {machine["name"]: machine for machine in self._cloud.machines()}
                for name in machines.keys() | self._guests.keys():
                    machine = machines.get(name, {"status": "ABSENT"})
                    if machine["status"] in _ON and name not in self._guests:
                        self._guests[name] = self._boot(machine)
                    elif machine["status"] in _OFF and name in self._guests:
                        self._guests[name].power_off()
                        del self._guests[name]
        except BaseException as error:  # noqa: BLE001 -- raised again when the fleet is closed
            self._failure = error
        finally:  # in this thread: a guest ends with the thread that booted it
            for guest in self._guests.values():
                guest.power_off()

    def _home_of(self, workspace_id: str) -> Path:
        """Return the path of a workspace's home disk, which is as large as the one in Compute."""
        home = self.home(workspace_id)
        is_new = not home.exists()
        disks = in_compute(self._cloud, "disks", workspace_id)
        [size_gb] = [int(disk["sizeGb"]) for disk in disks if disk["name"].startswith("home-")]
        with home.open("ab") as disk:
            disk.truncate(max(disk.tell(), _HOME_BYTES * size_gb // _HOME_GB))
        if is_new:
            self.prepare_disk(home)
        return home

    def _boot(self, machine: dict[str, Any]) -> Guest:
        metadata_url = f"{self._cloud.state['services']['identity']}/machines/{machine['id']}"
        home = self._home_of(_attribute(metadata_url, "hub-workspace-id"))
        return self._kind.boot(
            GuestSettings(
                name=machine["name"],
                folder=self._folder / machine["name"],
                home=home,
                metadata_url=metadata_url,
                reached=(urlsplit(_attribute(metadata_url, "hub-reports-url")).netloc,),
                served={REGISTRY_PORT: self._images.handler()},
                boot_disk_bytes=self.boot_disk_bytes,
            )
        )


def digest(disk: Path) -> str:
    """Return a digest of a disk's content."""
    return subprocess.run(
        ["sha256sum", disk], check=True, capture_output=True, text=True
    ).stdout.split()[0]


def _attribute(metadata_url: str, name: str) -> str:
    request = urllib.request.Request(
        f"{metadata_url}/computeMetadata/v1/instance/attributes/{name}",
        headers={"Metadata-Flavor": "Google"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())
