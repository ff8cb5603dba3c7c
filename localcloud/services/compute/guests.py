"""The guests of a fleet: what runs inside its instances.

A simulated guest does what a workspace's machine does once it is switched on, without a machine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

import aiohttp

from localcloud.services.compute.fault_kinds import GuestFault
from localcloud.services.compute.guest import Boot, Guest, Report
from localcloud.services.compute.resources import Instance

_HTTP_TIMEOUT = aiohttp.ClientTimeout(total=10)
_REPORTS_KEPT = 100_000


class Guests(Protocol):
    """What runs inside the instances. The fleet tells it what happens to its machines."""

    def booted(self, instance: Instance, *, boot_seconds: float, fault: GuestFault | None) -> None:
        """The machine was switched on: boot, with this fault if there is one."""

    def frozen(self, instance: Instance) -> None:
        """The memory is being saved: stand still."""

    def thawed(self, instance: Instance) -> None:
        """The memory is back: go on exactly where the machine stood still, without a boot."""

    def ended(self, instance: Instance) -> None:
        """The power is off: end."""


class NoGuests:
    """Machines with nothing inside."""

    def booted(self, instance: Instance, *, boot_seconds: float, fault: GuestFault | None) -> None:
        """Do nothing."""

    def frozen(self, instance: Instance) -> None:
        """Do nothing."""

    def thawed(self, instance: Instance) -> None:
        """Do nothing."""

    def ended(self, instance: Instance) -> None:
        """Do nothing."""


class SimulatedGuests:
    """A simulated guest for every machine of one local Compute Engine.

    The fleet says when a machine is switched on, frozen, thawed and switched off. A person or a
    test says whether somebody is connected to a machine, and whether it is kept awake.

    Args:
        metadata_url: the metadata server, for example ``http://127.0.0.1:8000``. A guest finds
            itself there under ``/machines/{numeric id}/computeMetadata/v1``.

    Attributes:
        reports: the reports of all guests, oldest first: ``time`` when it was sent, ``answered``
            when it was answered or given up, instance, event, generation, status.
    """

    def __init__(self, *, metadata_url: str) -> None:
        self.reports: deque[dict[str, Any]] = deque(maxlen=_REPORTS_KEPT)
        self._metadata_url = metadata_url
        self._session: aiohttp.ClientSession | None = None
        self._guests: dict[str, Guest] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._connected: set[str] = set()
        self._kept_awake: set[str] = set()

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
        if self._session:
            await self._session.close()

    def booted(self, instance: Instance, *, boot_seconds: float, fault: GuestFault | None) -> None:
        """Start a guest: it boots for ``boot_seconds``, then it reports."""
        if not self._session:
            raise RuntimeError("The simulated guests are not started.")
        guest = Guest(
            instance,
            boot=Boot(seconds=boot_seconds, fault=fault),
            metadata_url=f"{self._metadata_url}/machines/{instance.id}/computeMetadata/v1",
            session=self._session,
            reported=self._record,
        )
        self._tell_use(instance, guest)
        self._guests[instance.id] = guest
        self._lives.add(guest.life)
        guest.life.add_done_callback(self._lives.discard)

    def frozen(self, instance: Instance) -> None:
        """Let the guest and its timers stand still."""
        if guest := self._guests.get(instance.id):
            guest.freeze()

    def thawed(self, instance: Instance) -> None:
        """Let the guest go on where it stood still."""
        if guest := self._guests.get(instance.id):
            guest.thaw()

    def ended(self, instance: Instance) -> None:
        """End the guest; nobody is connected to the machine any more."""
        self._connected.discard(instance.id)
        if guest := self._guests.pop(instance.id, None):
            guest.life.cancel()

    def set_connected(self, instance: Instance, *, connected: bool) -> None:
        """Set whether somebody is connected to the machine; before a boot, for the next boot."""
        (self._connected.add if connected else self._connected.discard)(instance.id)
        if guest := self._guests.get(instance.id):
            self._tell_use(instance, guest)

    def keep_awake(self, instance: Instance, *, awake: bool) -> None:
        """Set whether somebody keeps touching ``~/.keep-awake`` on the machine.

        The file is on the home disk, so this holds for later boots too. The guest has no limit for
        it.
        """
        (self._kept_awake.add if awake else self._kept_awake.discard)(instance.id)
        if guest := self._guests.get(instance.id):
            self._tell_use(instance, guest)

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
            "connected": instance.id in self._connected,
            "keptAwake": instance.id in self._kept_awake,
            "reports": [report.summary() for report in guest.reports] if guest else [],
        }

    def _tell_use(self, instance: Instance, guest: Guest) -> None:
        connected, awake = instance.id in self._connected, instance.id in self._kept_awake
        guest.set_use("session" if connected else "keep_awake" if awake else None)

    def _record(self, instance: Instance, report: Report) -> None:
        self.reports.append(
            {
                "time": report.sent_at,
                "answered": report.answered_at,
                "instance": instance.name,
                **report.summary(),
            }
        )
