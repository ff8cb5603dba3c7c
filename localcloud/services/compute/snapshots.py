"""The methods on snapshots, without their HTTP, and what is made from snapshots.

A snapshot is CREATING until its content is captured, then UPLOADING, then READY, when its operation
is done. From UPLOADING on its disk can be deleted.

Sources: Compute's pages "Create disk snapshots", "Snapshot best practices" and "Troubleshooting VM
startup"; gcpdiag's rule for ``v1.compute.snapshots.insert``, which fails as an operation; answers
quoted in public issue reports (google/cloud-forensics-utils#433 of a snapshot that is not ready,
kubernetes-sigs/gcp-compute-persistent-disk-csi-driver#1847 of too many calls). That a snapshot
cannot be deleted before it is READY or FAILED, or while a disk is being made from it, is not
published.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from localcloud.machines.homes import Copy
from localcloud.services.compute import errors, failures
from localcloud.services.compute.active_faults import Place
from localcloud.services.compute.failures import Failure
from localcloud.services.compute.labels import set_labels
from localcloud.services.compute.new_resources import new_snapshot
from localcloud.services.compute.operations import MethodCall
from localcloud.services.compute.parts import SharedParts
from localcloud.services.compute.resources import (
    CREATING,
    DELETING,
    FAILED,
    READY,
    UPLOADING,
    Disk,
    Operation,
    Snapshot,
    last_part,
    link,
)
from localcloud.services.project import GLOBAL

_DISK = re.compile(r"(?:(?:.*/)?projects/([^/]+)/)?zones/([^/]+)/disks/([^/]+)")
_SNAPSHOT = re.compile(r"(?:(?:.*/)?projects/([^/]+)/)?global/snapshots/([^/]+)")
_COPY_LOOK_SECONDS = 0.02  # the pause between two looks whether content has been copied
_FILE_SYSTEM_BYTES = 4 * 1024 * 1024  # that a snapshot of an empty disk takes, about
_SETTLED = frozenset({READY, FAILED})


class Snapshots:
    """The snapshots of a fleet."""

    def __init__(self, parts: SharedParts) -> None:
        self._parts = parts
        self._snapshots = parts.inventory.snapshots

    def get(self, name: str) -> Snapshot:
        """Return a snapshot.

        Raises:
            ComputeError: 404.
        """
        return self._snapshots.get(GLOBAL, name)

    def all(self) -> list[Snapshot]:
        """Return every snapshot, by name."""
        return self._snapshots.all()

    def insert(self, body: Mapping[str, Any], *, request_id: str | None = None) -> Operation:
        """Keep the present content of the ``sourceDisk``; see ``take``."""
        disk = self._disk_of_source(body.get("sourceDisk"))
        return self.take(MethodCall("snapshots.insert", request_id), disk, body)

    def take(self, call: MethodCall, disk: Disk, body: Mapping[str, Any]) -> Operation:
        """Keep the present content of a disk, in any state of its instance.

        The snapshot exists, CREATING, when this returns. If its operation fails, it no longer
        exists, or remains FAILED.
        """
        now = self._parts.timers.now()
        snapshot = new_snapshot(self._parts.project, disk, body, at=now)
        self._snapshots.check_name_is_free(GLOBAL, snapshot.name)
        if disk.resource["status"] != READY:
            raise errors.not_ready(disk.path)
        faults = self._parts.faults
        place = Place(disk.zone, disk.last_user, call.method)
        refused = faults.failure_of_source(place, disk) or self._too_soon(disk)
        fault = faults.failure_of_snapshot(call.method, snapshot)
        self._snapshots.add(snapshot)
        if not refused:
            disk.last_snapshot_at = now
        target = snapshot if call.method == "snapshots.insert" else disk
        operation = self._parts.operations.begin(call, target)

        def fail(failure: Failure, *, remains: bool) -> None:
            if remains:
                snapshot.resource["status"] = FAILED
                self._parts.inventory.record(snapshot)
            elif snapshot in self._snapshots:
                self._snapshots.remove(snapshot)
            self._parts.operations.finish(operation, failure)

        def capture() -> None:
            if refused:
                fail(refused, remains=False)
            elif fault and not fault.after_capture:
                fail(fault.failure, remains=fault.remains)
            elif disk not in self._parts.inventory.disks:
                fail(failures.gone(disk.path), remains=False)
            else:
                self._parts.contents.captured(disk, snapshot)
                self.when_copied(snapshot, captured)

        def captured(copy: Copy) -> None:
            if not copy.is_whole:
                fail(failures.internal_error(), remains=True)
                return
            snapshot.resource["status"] = UPLOADING
            self._parts.inventory.record(snapshot)
            seconds = times.snapshot_upload * operation.time_factor * operation.upload_factor
            self._parts.timers.call_later(seconds, lambda: uploaded(copy.stored_bytes))

        def uploaded(stored_bytes: int) -> None:
            if fault:
                fail(fault.failure, remains=fault.remains)
                return
            size = str(_FILE_SYSTEM_BYTES + stored_bytes)
            snapshot.resource.update(
                status=READY,
                storageBytes=size,
                storageBytesStatus="UP_TO_DATE",
                downloadBytes=size,
            )
            self._parts.inventory.record(snapshot)
            self._parts.operations.finish(operation)

        times = self._parts.times
        self._parts.timers.call_later(times.snapshot_capture * operation.time_factor, capture)
        return operation

    def delete(self, name: str, *, request_id: str | None = None) -> Operation:
        """Delete a snapshot. Disks that have been made from it stay."""
        call = MethodCall("snapshots.delete", request_id)
        snapshot = self.get(name)
        if snapshot.status not in _SETTLED:
            raise errors.not_ready(snapshot.path)
        for disk in self._parts.inventory.disks.all():
            if disk.source is snapshot and self._is_being_made(disk):
                raise errors.in_use(snapshot.path, disk.path)
        snapshot.resource["status"] = DELETING
        self._parts.inventory.record(snapshot)
        operation = self._parts.operations.begin(call, snapshot)

        def deleted() -> None:
            self._snapshots.remove(snapshot)
            self._parts.operations.finish(operation)

        seconds = self._parts.times.snapshot_delete * operation.time_factor
        self._parts.timers.call_later(seconds, deleted)
        return operation

    def set_labels(
        self, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Replace the labels; see ``labels.set_labels``."""
        call = MethodCall("snapshots.setLabels", request_id)
        return set_labels(self._parts, call, self.get(name), body)

    def being_taken_of(self, disk: Disk) -> Snapshot | None:
        """Return a snapshot of a disk of which the content is not captured yet, or None."""
        return next(
            (each for each in self.all() if each.disk is disk and each.status == CREATING), None
        )

    def source_of(self, body: Mapping[str, Any], what: str, size: str) -> Snapshot | None:
        """Return the snapshot that a new disk begins as, or None if it begins empty.

        Args:
            body: what describes the disk.
            what: the body's place in the request, for error messages.
            size: the name of the member that is the disk's size.

        Raises:
            ComputeError: the snapshot does not exist or is not READY, or the disk is too small.
        """
        source = body.get("sourceSnapshot")
        if not source:
            return None
        match = _SNAPSHOT.fullmatch(str(source))
        if not match:
            raise errors.invalid_value(f"{what}.sourceSnapshot", source, "The URL is malformed.")
        if match[1] not in {None, self._parts.project.id}:
            raise errors.not_found(f"projects/{match[1]}/global/snapshots/{match[2]}")
        snapshot = self.get(match[2])
        if snapshot.status != READY:
            raise errors.not_ready(snapshot.path)
        wanted, least = str(body.get(size) or ""), str(snapshot.resource["diskSizeGb"])
        if wanted.isdecimal() and int(wanted) < int(least):
            why = f"Requested disk size cannot be smaller than the snapshot size ({least} GB)"
            raise errors.invalid_value(f"{what}.{size}", wanted, why)
        return snapshot

    def when_copied(self, resource: Disk | Snapshot, then: Callable[[Copy], None]) -> None:
        """Call ``then`` as soon as the content of a disk or snapshot has been copied to it."""
        copy = self._parts.contents.copy_to(resource)
        if copy is not None:
            then(copy)
            return
        look = _COPY_LOOK_SECONDS
        self._parts.timers.call_later(look, lambda: self.when_copied(resource, then))

    def _too_soon(self, disk: Disk) -> Failure | None:
        """Return the failure of a snapshot that comes too soon after the disk's last one."""
        pause = timedelta(seconds=self._parts.times.snapshot_pause)
        last = disk.last_snapshot_at
        if last is None or self._parts.timers.now() - last >= pause:
            return None
        return failures.rate_exceeded(disk.path)

    def _disk_of_source(self, source: object) -> Disk:
        match = _DISK.fullmatch(str(source or ""))
        if not match:
            raise errors.invalid_value("resource.sourceDisk", source, "The URL is malformed.")
        if match[1] not in {None, self._parts.project.id}:
            raise errors.not_found(f"projects/{match[1]}/zones/{match[2]}/disks/{match[3]}")
        return self._parts.inventory.disks.get(match[2], match[3])

    def _is_being_made(self, disk: Disk) -> bool:
        """Whether the operation that makes a disk, alone or with its instance, is under way."""
        if disk.resource["status"] == CREATING:
            return True
        for user in disk.resource["users"]:
            instance = self._parts.inventory.instances.find(disk.zone, last_part(user))
            if instance and instance.operation:
                return instance.operation.method == "instances.insert"
        return False


def with_source(body: Mapping[str, Any], snapshot: Snapshot | None, size: str) -> dict[str, Any]:
    """Return what describes a disk, with all that its snapshot says of it."""
    if snapshot is None:
        return dict(body)
    return {
        **body,
        size: body.get(size) or snapshot.resource["diskSizeGb"],
        "sourceSnapshot": link(snapshot.path),
        "sourceSnapshotId": snapshot.resource["id"],
    }
