"""Instances, disks, snapshots and operations as Compute keeps and shows them.

A resource is kept in the JSON form of the REST API, so what a caller sent comes back as it was
sent.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datetime import datetime

    from localcloud.services.compute.errors import Failure

Json = dict[str, Any]

PROVISIONING: Final = "PROVISIONING"
STAGING: Final = "STAGING"
RUNNING: Final = "RUNNING"
PENDING_STOP: Final = "PENDING_STOP"
STOPPING: Final = "STOPPING"
TERMINATED: Final = "TERMINATED"
SUSPENDING: Final = "SUSPENDING"
SUSPENDED: Final = "SUSPENDED"
REPAIRING: Final = "REPAIRING"

_LINKS = "https://www.googleapis.com/compute/v1/"
_SERIAL_LIMIT = 1024 * 1024


class SerialConsole:
    """What a machine printed on its first serial port since it was switched on; Compute keeps the last MiB."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._dropped = 0

    def write(self, text: str) -> None:
        """Append what the machine prints."""
        self._kept += text.encode()
        excess = max(0, len(self._kept) - _SERIAL_LIMIT)
        del self._kept[:excess]
        self._dropped += excess

    def clear(self) -> None:
        """Begin at byte 0 again, as after a power-on."""
        self._kept.clear()
        self._dropped = 0

    def read(self, start: int) -> tuple[str, int, int]:
        """Return what is kept from byte `start` on (below 0: that many of the last bytes).

        Returns:
            The text, the byte it really begins at, and the byte to go on from next time.
        """
        end = self._dropped + len(self._kept)
        begin = end + start if start < 0 else start
        begin = min(max(begin, self._dropped), end)
        return self._kept[begin - self._dropped :].decode(errors="replace"), begin, end


@dataclass(eq=False, kw_only=True)
class Instance:
    """One instance: its JSON, its serial console, and the operation that is changing its state, if any."""

    project_id: str
    zone: str
    resource: Json
    created_at: datetime
    serial: SerialConsole = field(default_factory=SerialConsole)
    operation: Operation | None = None
    deleting: bool = False

    @property
    def name(self) -> str:
        """The name; unique in its zone."""
        return str(self.resource["name"])

    @property
    def id(self) -> str:
        """The numeric id, in decimal; never used twice."""
        return str(self.resource["id"])

    @property
    def status(self) -> str:
        """One of Compute's states, e.g. `RUNNING`."""
        return str(self.resource["status"])

    @property
    def path(self) -> str:
        """The name in full, as error messages give it: `projects/p/zones/z/instances/i`."""
        return f"projects/{self.project_id}/zones/{self.zone}/instances/{self.name}"

    @property
    def machine_type(self) -> str:
        """The bare name of the machine type."""
        return str(self.resource["machineType"]).rsplit("/", 1)[-1]

    def attributes(self) -> dict[str, str]:
        """Return the custom metadata, as the guest sees it."""
        return {
            item["key"]: item.get("value", "")
            for item in self.resource["metadata"].get("items", [])
        }


@dataclass(eq=False, kw_only=True)
class Disk:
    """One zonal disk: its JSON, and the name of the instance that had it attached last."""

    project_id: str
    zone: str
    resource: Json
    last_user: str | None = None

    @property
    def name(self) -> str:
        """The name; unique in its zone."""
        return str(self.resource["name"])

    @property
    def path(self) -> str:
        """The name in full: `projects/p/zones/z/disks/d`."""
        return f"projects/{self.project_id}/zones/{self.zone}/disks/{self.name}"


@dataclass(eq=False, kw_only=True)
class Snapshot:
    """One snapshot of a disk: its JSON. It belongs to no zone, and outlives its disk."""

    project_id: str
    resource: Json

    @property
    def path(self) -> str:
        """The name in full: `projects/p/global/snapshots/s`."""
        return f"projects/{self.project_id}/global/snapshots/{self.resource['name']}"


@dataclass(eq=False, kw_only=True)
class Operation:
    """One long operation: its JSON, the call that began it, and an event for those who wait."""

    zone: str
    method: str
    resource: Json
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """The name; unique in the project."""
        return str(self.resource["name"])

    def finish(self, at: datetime, failure: Failure | None = None) -> None:
        """Mark the operation DONE, with what went wrong if something did; a second time changes nothing."""
        if self.done.is_set():
            return
        self.resource.update(status="DONE", progress=100, endTime=timestamp(at))
        if failure:
            self.resource.update(failure.as_json())
        self.done.set()


def link(path: str) -> str:
    """Return the URL by which Compute refers to a resource."""
    return _LINKS + path


def path_of(url: str) -> str:
    """Return `projects/…` of a resource's URL."""
    return url.removeprefix(_LINKS)


def timestamp(at: datetime) -> str:
    """Return a time as Compute writes it: RFC 3339 with milliseconds."""
    return at.isoformat(timespec="milliseconds")


def new_id() -> str:
    """Return a numeric id as Compute makes them: 19 digits, as text."""
    return str(10**18 + secrets.randbelow(8 * 10**18))


def new_fingerprint() -> str:
    """Return a fingerprint that no one has seen yet."""
    return base64.b64encode(secrets.token_bytes(8)).decode()


def region_of(zone: str) -> str:
    """Return `us-west1` of `us-west1-a`."""
    return zone.rsplit("-", 1)[0]
