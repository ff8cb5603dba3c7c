"""The methods on disks, without their HTTP. They check and answer as those on instances do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localcloud.machines.homes import Copy
from localcloud.services.compute import errors, failures
from localcloud.services.compute.active_faults import Place
from localcloud.services.compute.attached_disks import AttachedDisks
from localcloud.services.compute.labels import set_labels
from localcloud.services.compute.new_resources import new_disk
from localcloud.services.compute.operations import MethodCall
from localcloud.services.compute.parts import SharedParts
from localcloud.services.compute.resources import (
    CREATING,
    DELETING,
    READY,
    Disk,
    Operation,
    last_part,
    path_of_link,
)
from localcloud.services.compute.snapshots import Snapshots, with_source


class Disks:
    """The disks of a fleet."""

    def __init__(
        self, parts: SharedParts, attached_disks: AttachedDisks, snapshots: Snapshots
    ) -> None:
        self._parts = parts
        self._snapshots = snapshots
        self._disks = parts.inventory.disks
        self._attached_disks = attached_disks

    def get(self, zone: str, name: str) -> Disk:
        """Return a disk.

        Raises:
            ComputeError: 404.
        """
        return self._disks.get(zone, name)

    def all(self) -> list[Disk]:
        """Return every disk, by zone and name."""
        return self._disks.all()

    def insert(
        self, zone: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Create a disk, empty or with the content of a ``sourceSnapshot``.

        It is CREATING when this returns, and READY when the operation is done.
        """
        call = MethodCall("disks.insert", request_id)
        name = str(body.get("name", ""))
        self._disks.check_name_is_free(zone, name)
        source = self._snapshots.source_of(body, "resource", "sizeGb")
        body = {**with_source(body, source, "sizeGb"), "name": name}
        disk = new_disk(self._parts.project, zone, body, at=self._parts.timers.now())
        disk.source = source
        place = Place(zone, None, call.method)
        failure = self._parts.faults.failure_of_source(place, source) if source else None
        disk.resource["status"] = CREATING
        self._disks.add(disk)
        operation = self._parts.operations.begin(call, disk)
        if source and not failure:
            self._parts.contents.restored(source, disk)

        def made() -> None:
            self._snapshots.when_copied(disk, created)

        def created(copy: Copy) -> None:
            ended = failure or (None if copy.is_whole else failures.internal_error())
            disk.resource["status"] = READY
            if ended:
                self._disks.remove(disk)
            else:
                self._parts.inventory.record(disk)
            self._parts.operations.finish(operation, ended)

        seconds = self._parts.times.disk_insert * operation.time_factor
        self._parts.timers.call_later(seconds, made)
        return operation

    def delete(self, zone: str, name: str, *, request_id: str | None = None) -> Operation:
        """Delete a disk that is attached to no instance."""
        call = MethodCall("disks.delete", request_id)
        disk = self.get(zone, name)
        if disk.resource["users"]:
            raise errors.in_use(disk.path, path_of_link(disk.resource["users"][0]))
        if snapshot := self._snapshots.being_taken_of(disk):
            raise errors.in_use(disk.path, snapshot.path)
        self._parts.faults.refuse_disk_call(call.method, disk)
        if disk.resource["status"] != READY:
            raise errors.not_ready(disk.path)
        disk.resource["status"] = DELETING
        self._parts.inventory.record(disk)
        operation = self._parts.operations.begin(call, disk)

        def deleted() -> None:
            self._disks.remove(disk)
            self._parts.operations.finish(operation)

        seconds = self._parts.times.disk_delete * operation.time_factor
        self._parts.timers.call_later(seconds, deleted)
        return operation

    def set_labels(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Replace the labels; see ``labels.set_labels``."""
        call = MethodCall("disks.setLabels", request_id)
        return set_labels(self._parts, call, self.get(zone, name), body)

    def resize(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Make a disk larger: its instances see the new size, its file system does not grow."""
        call = MethodCall("disks.resize", request_id)
        disk = self.get(zone, name)
        self._parts.faults.refuse_disk_call(call.method, disk)
        if disk.resource["status"] != READY:
            raise errors.not_ready(disk.path)
        size, present = str(body.get("sizeGb", "")), disk.resource["sizeGb"]
        if not size.isdecimal() or int(size) <= int(present):
            why = f"New disk size '{size}' GiB must be larger than existing size '{present}' GiB."
            raise errors.invalid_value("sizeGb", size, why)

        def change() -> None:
            disk.resource["sizeGb"] = size
            for instance in self._attached_disks.users_of(disk):
                for attached in instance.disks:
                    if last_part(attached["source"]) == name:
                        attached["diskSizeGb"] = size

        seconds = self._parts.times.disk_insert
        return self._parts.operations.begin_change(call, disk, seconds, change)

    def create_snapshot(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Keep the present content of a disk; see ``Snapshots.take``."""
        call = MethodCall("disks.createSnapshot", request_id)
        return self._snapshots.take(call, self.get(zone, name), body)
