"""The guests of a fleet: what runs inside its instances.

A simulated guest does what a workspace's machine does once it is switched on, without a machine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

import aiohttp

from localcloud.machines.homes import NOTHING_TO_COPY, Copy
from localcloud.machines.machines import Machines
from localcloud.services.compute.guest import Boot, Guest, GuestEvents, Report
from localcloud.services.compute.resources import Disk, Instance, Snapshot

_HTTP_TIMEOUT = aiohttp.ClientTimeout(total=10)
_REPORTS_KEPT = 100_000


class DiskContents(Protocol):
    """What is on the disks and in the snapshots. The fleet tells it what happens to them."""

    def captured(self, disk: Disk, snapshot: Snapshot) -> None:
        """Begin to copy what is on the disk now to the snapshot; see ``copy_to``."""

    def restored(self, snapshot: Snapshot, disk: Disk) -> None:
        """Begin to copy what is in the snapshot to a new disk; see ``copy_to``."""

    def copy_to(self, resource: Disk | Snapshot) -> Copy | None:
        """Return what has come of copying to a disk or a snapshot.

        None while it is under way. If nothing was copied, that is whole.
        """

    def disk_deleted(self, disk: Disk) -> None:
        """The disk no longer exists: delete what is on it."""

    def snapshot_deleted(self, snapshot: Snapshot) -> None:
        """The snapshot no longer exists: delete what is in it."""


class Guests(DiskContents, Protocol):
    """What runs inside the instances. The fleet tells it what happens to its machines."""

    def booted(self, instance: Instance, boot: Boot, home: Disk | None) -> None:
        """The machine was switched on: boot, with this home disk if it has one."""

    def frozen(self, instance: Instance) -> None:
        """The memory is being saved: stand still."""

    def thawed(self, instance: Instance) -> None:
        """The memory is back: go on exactly where the machine stood still, without a boot."""

    def ended(self, instance: Instance) -> None:
        """The power is off: end."""

    def is_settled(self, instance: Instance) -> bool:
        """Return whether the machine is as it was last told: frozen, thawed or ended."""


class NoGuests:
    """Machines with nothing inside."""

    def booted(self, instance: Instance, boot: Boot, home: Disk | None) -> None:
        """Do nothing."""

    def frozen(self, instance: Instance) -> None:
        """Do nothing."""

    def thawed(self, instance: Instance) -> None:
        """Do nothing."""

    def ended(self, instance: Instance) -> None:
        """Do nothing."""

    def is_settled(self, instance: Instance) -> bool:
        """Return True."""
        del instance
        return True

    def captured(self, disk: Disk, snapshot: Snapshot) -> None:
        """Do nothing."""

    def restored(self, snapshot: Snapshot, disk: Disk) -> None:
        """Do nothing."""

    def copy_to(self, resource: Disk | Snapshot) -> Copy | None:
        """Return that there was nothing to copy."""
        del resource
        return NOTHING_TO_COPY

    def disk_deleted(self, disk: Disk) -> None:
        """Do nothing."""

    def snapshot_deleted(self, snapshot: Snapshot) -> None:
        """Do nothing."""


class SimulatedGuests:
    """A simulated guest for every machine of one local Compute Engine.

    The fleet says when a machine is switched on, frozen, thawed and switched off. A machine that
    people can enter says whether somebody is logged in. A test can say so, too, and whether it is
    kept awake.

    Args:
        metadata_url: the metadata server, for example ``http://127.0.0.1:8000``. A guest finds
            itself there under ``/machines/{numeric id}/computeMetadata/v1``.
        machines: the machines that people can enter; None if nobody can.

    Attributes:
        reports: the reports of all guests, oldest first: ``time`` when it was sent, ``answered``
            when it was answered or given up, instance, event, generation, status.
    """

    def __init__(self, *, metadata_url: str, machines: Machines | None = None) -> None:
        self.reports: deque[dict[str, Any]] = deque(maxlen=_REPORTS_KEPT)
        self._metadata_url = metadata_url
        self._session: aiohttp.ClientSession | None = None
        self._guests: dict[str, Guest] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._connected: set[str] = set()
        self._kept_awake: set[str] = set()
        self._machines = machines
        if machines:
            machines.used = self._tell_use

    async def start(self) -> None:
        """Prepare for machines."""
        self._session = aiohttp.ClientSession(timeout=_HTTP_TIMEOUT)

    async def stop(self) -> None:
        """End every guest."""
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        self._guests.clear()
        self._connected.clear()
        self._kept_awake.clear()
        if self._machines:
            await self._machines.stop()
        if self._session:
            await self._session.close()

    def booted(self, instance: Instance, boot: Boot, home: Disk | None) -> None:
        """Start a guest: it boots for ``boot.seconds``, then it reports."""
        if not self._session:
            raise RuntimeError("The simulated guests are not started.")
        if self._machines:
            self._machines.boot(instance, home)
        guest = Guest(
            instance,
            boot=boot,
            metadata_url=f"{self._metadata_url}/machines/{instance.id}/computeMetadata/v1",
            session=self._session,
            events=GuestEvents(came_up=self._let_in, reported=self._record),
        )
        self._guests[instance.id] = guest
        self._tell_use(instance)
        self._lives.add(guest.life)
        guest.life.add_done_callback(self._lives.discard)

    def frozen(self, instance: Instance) -> None:
        """Let the guest, its timers and its processes stand still."""
        if guest := self._guests.get(instance.id):
            guest.freeze()
        if self._machines:
            self._machines.freeze(instance)

    def thawed(self, instance: Instance) -> None:
        """Let the guest and its processes go on where they stood still."""
        if guest := self._guests.get(instance.id):
            guest.thaw()
        if self._machines:
            self._machines.thaw(instance)

    def ended(self, instance: Instance) -> None:
        """End the guest and its processes; nobody is connected to the machine any more."""
        self._connected.discard(instance.id)
        if guest := self._guests.pop(instance.id, None):
            guest.life.cancel()
        if self._machines:
            self._machines.end(instance)

    def is_settled(self, instance: Instance) -> bool:
        """Return whether the processes of a machine are as they were last told."""
        return not self._machines or self._machines.is_settled(instance)

    def disk_deleted(self, disk: Disk) -> None:
        """Delete the home that was on a disk."""
        if self._machines:
            self._machines.delete_home(disk)

    def captured(self, disk: Disk, snapshot: Snapshot) -> None:
        """Begin to copy the home that is on a disk."""
        if self._machines:
            self._machines.copy_home(disk, snapshot)

    def restored(self, snapshot: Snapshot, disk: Disk) -> None:
        """Begin to copy the home that is in a snapshot."""
        if self._machines:
            self._machines.copy_home(snapshot, disk)

    def copy_to(self, resource: Disk | Snapshot) -> Copy | None:
        """Return what has come of copying a home."""
        return self._machines.copy_to(resource) if self._machines else NOTHING_TO_COPY

    def snapshot_deleted(self, snapshot: Snapshot) -> None:
        """Delete the home that was in a snapshot."""
        if self._machines:
            self._machines.delete_home(snapshot)

    def set_connected(self, instance: Instance, *, connected: bool) -> None:
        """Set whether somebody is connected to the machine; before a boot, for the next boot."""
        (self._connected.add if connected else self._connected.discard)(instance.id)
        self._tell_use(instance)

    def keep_awake(self, instance: Instance, *, awake: bool) -> None:
        """Set whether somebody keeps touching ``~/.keep-awake`` on the machine.

        The file is on the home disk, so this holds for later boots too. The guest has no limit for
        it.
        """
        (self._kept_awake.add if awake else self._kept_awake.discard)(instance.id)
        self._tell_use(instance)

    def describe(self, instance: Instance) -> dict[str, Any]:
        """Return what the guest is doing.

        Returns:
            ``guest``: ``off``, ``booting``, ``silent`` (its container never comes up),
            ``reporting``, ``up``, ``over`` (the Hub did not accept its ``ready``, so it reports
            nothing more) or ``failed``; ``frozen``, ``connected``, ``keptAwake``; ``reports``: the
            last 50 ``{event, generation, status}``, ``status`` None if nobody answered.
        """
        guest = self._guests.get(instance.id)
        return {
            "guest": guest.phase if guest else "off",
            "frozen": bool(guest and guest.is_frozen),
            "connected": self._is_connected(instance),
            "keptAwake": self._is_kept_awake(instance),
            "reports": [report.summary() for report in guest.reports] if guest else [],
        }

    def _tell_use(self, instance: Instance) -> None:
        if guest := self._guests.get(instance.id):
            if self._is_connected(instance):
                guest.set_use("session")
            else:
                guest.set_use("keep_awake" if self._is_kept_awake(instance) else None)

    def _is_connected(self, instance: Instance) -> bool:
        logged_in = self._machines.logged_in(instance) if self._machines else 0
        return logged_in > 0 or instance.id in self._connected

    def _is_kept_awake(self, instance: Instance) -> bool:
        by_file = self._machines is not None and self._machines.is_kept_awake(instance)
        return by_file or instance.id in self._kept_awake

    def _let_in(self, instance: Instance) -> str | None:
        """Let people in, and return the key by which the machine proves itself."""
        return self._machines.open(instance) if self._machines else None

    def _record(self, instance: Instance, report: Report) -> None:
        self.reports.append(
            {
                "time": report.sent_at,
                "answered": report.answered_at,
                "instance": instance.name,
                **report.summary(),
            }
        )
