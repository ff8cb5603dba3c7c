"""Instances, disks, snapshots and operations as Compute keeps and shows them.

A resource is kept in the JSON form of the REST API, so a caller gets back exactly what it sent.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from localcloud.services.compute.failures import Failure
from localcloud.services.compute.serial_console import SerialConsole
from localcloud.services.project import GLOBAL

Json = dict[str, Any]

PROVISIONING = "PROVISIONING"
STAGING = "STAGING"
RUNNING = "RUNNING"
PENDING_STOP = "PENDING_STOP"
STOPPING = "STOPPING"
TERMINATED = "TERMINATED"
SUSPENDING = "SUSPENDING"
SUSPENDED = "SUSPENDED"
REPAIRING = "REPAIRING"

CREATING = "CREATING"
UPLOADING = "UPLOADING"
READY = "READY"
FAILED = "FAILED"
DELETING = "DELETING"

_LINKS = "https://www.googleapis.com/compute/v1/"


@dataclass(eq=False, kw_only=True)
class Instance:
    """One instance.

    Attributes:
        resource: its JSON.
        serial: its serial console.
        policy: its IAM policy, with the conditions of all bindings.
        operation: the operation that is changing its state, if any.
        deleting: whether it is being deleted.
    """

    project_id: str
    zone: str
    resource: Json
    created_at: datetime
    serial: SerialConsole = field(default_factory=SerialConsole)
    policy: Json = field(default_factory=lambda: {"bindings": [], "etag": new_fingerprint()})
    operation: Operation | None = None
    deleting: bool = False

    @property
    def name(self) -> str:
        """The name; unique in its zone."""
        return str(self.resource["name"])

    @property
    def id(self) -> str:
        """The numeric id, in decimal; it is never used again."""
        return str(self.resource["id"])

    @property
    def status(self) -> str:
        """One of Compute's states, e.g. ``RUNNING``."""
        return str(self.resource["status"])

    @property
    def path(self) -> str:
        """The name in full, as in error messages: ``projects/p/zones/z/instances/i``."""
        return f"projects/{self.project_id}/zones/{self.zone}/instances/{self.name}"

    @property
    def machine_type(self) -> str:
        """The bare name of the machine type."""
        return last_part(str(self.resource["machineType"]))

    @property
    def disks(self) -> list[Json]:
        """Its disks, as its JSON shows them."""
        disks: list[Json] = self.resource["disks"]
        return disks

    def disk_called(self, device_name: str) -> Json | None:
        """Return the disk with this device name, or None if there is none."""
        return next((each for each in self.disks if each["deviceName"] == device_name), None)

    def attributes(self) -> dict[str, str]:
        """Return the custom metadata, as the guest sees it."""
        return {
            item["key"]: item.get("value", "")
            for item in self.resource["metadata"].get("items", [])
        }


@dataclass(eq=False, kw_only=True)
class Disk:
    """One zonal disk.

    Attributes:
        resource: its JSON.
        last_user: the name of the instance that it was last attached to.
        last_snapshot_at: when the last snapshot of it was asked for.
        source: the snapshot that it was made from, which need not exist any more.
    """

    project_id: str
    zone: str
    resource: Json
    last_user: str | None = None
    last_snapshot_at: datetime | None = None
    source: Snapshot | None = None

    @property
    def name(self) -> str:
        """The name; unique in its zone."""
        return str(self.resource["name"])

    @property
    def path(self) -> str:
        """The name in full: ``projects/p/zones/z/disks/d``."""
        return f"projects/{self.project_id}/zones/{self.zone}/disks/{self.name}"


@dataclass(eq=False, kw_only=True)
class Snapshot:
    """One snapshot of a disk. It belongs to no zone, and outlives its disk.

    Attributes:
        resource: its JSON.
        disk: its disk, which need not exist any more.
    """

    project_id: str
    resource: Json
    disk: Disk
    zone: ClassVar[str] = GLOBAL

    @property
    def name(self) -> str:
        """The name; unique in the project."""
        return str(self.resource["name"])

    @property
    def status(self) -> str:
        """One of Compute's states, e.g. ``READY``."""
        return str(self.resource["status"])

    @property
    def path(self) -> str:
        """The name in full: ``projects/p/global/snapshots/s``."""
        return f"projects/{self.project_id}/global/snapshots/{self.name}"


@dataclass(eq=False, kw_only=True)
class Operation:
    """One long-running operation.

    Attributes:
        method: the method that started it, for example ``instances.insert``.
        resource: its JSON.
        time_factor: how many times longer than usual its work takes.
        upload_factor: how many times longer than that the upload of a snapshot takes.
        done: set when it is DONE.
    """

    zone: str
    method: str
    resource: Json
    time_factor: float = 1.0
    upload_factor: float = 1.0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """The name; unique in the project."""
        return str(self.resource["name"])

    def finish(self, at: datetime, failure: Failure | None = None) -> None:
        """Mark the operation DONE, with its failure if it failed; a second call changes nothing."""
        if self.done.is_set():
            return
        self.resource.update(status="DONE", progress=100, endTime=timestamp(at))
        if failure:
            self.resource.update(failure.as_json())
        self.done.set()


def link(path: str) -> str:
    """Return the URL by which Compute refers to a resource, from its full name."""
    return _LINKS + path


def path_of_link(url: str) -> str:
    """Return the full name, ``projects/…``, from a resource's URL."""
    return url.removeprefix(_LINKS)


def last_part(url: str) -> str:
    """Return the name at the end of a URL or a full name."""
    return url.rsplit("/", 1)[-1]


def timestamp(at: datetime) -> str:
    """Return a time as Compute writes it: RFC 3339 with milliseconds."""
    return at.isoformat(timespec="milliseconds")


def new_id() -> str:
    """Return a numeric id as Compute makes them: 19 digits, as text."""
    return str(10**18 + secrets.randbelow(8 * 10**18))


def new_fingerprint() -> str:
    """Return a fingerprint that has not been used before."""
    return base64.b64encode(secrets.token_bytes(8)).decode()


def region_of(zone: str) -> str:
    """Return ``us-west1`` of ``us-west1-a``."""
    return zone.rsplit("-", 1)[0]
