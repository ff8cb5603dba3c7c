"""Which disk is attached to which instance, and the methods that change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from localcloud.services.compute import errors, failures
from localcloud.services.compute.failures import Failure
from localcloud.services.compute.new_resources import check_disk_types, new_attached_disk, new_disk
from localcloud.services.compute.operations import MethodCall
from localcloud.services.compute.parts import SharedParts
from localcloud.services.compute.resources import (
    RUNNING,
    SUSPENDED,
    TERMINATED,
    Disk,
    Instance,
    Json,
    Operation,
    last_part,
    link,
    path_of_link,
    timestamp,
)
from localcloud.services.compute.snapshots import Snapshots, with_source

# The states in which the disks of an instance can be changed. Whether Compute accepts such a change
# while an instance is suspended is not published.
_CHANGEABLE = frozenset({RUNNING, SUSPENDED, TERMINATED})


class AttachedDisks:
    """The disks of the instances of a fleet."""

    def __init__(self, parts: SharedParts, snapshots: Snapshots) -> None:
        self._parts = parts
        self._snapshots = snapshots
        self._inventory = parts.inventory

    def attach(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Attach one more disk to an instance.

        The operation ends with RESOURCE_IN_USE_BY_ANOTHER_RESOURCE if an instance has the disk,
        unless both only read it.
        """
        instance = self._changeable(zone, name)
        disk = self._disk_of_source(zone, body.get("source"), "source")
        check_disk_types(instance.machine_type, [disk])
        taken = {each["index"] for each in instance.disks}
        index = next(each for each in count() if each not in taken)
        attached = new_attached_disk(dict(body), disk, index)
        device_name = attached["deviceName"]
        if instance.disk_called(device_name):
            # How Compute words this is not published.
            why = f"The device name '{device_name}' is already in use."
            raise errors.invalid_value("deviceName", device_name, why)

        def change() -> Failure | None:
            if disk not in self._inventory.disks or disk.resource["status"] != "READY":
                return failures.gone(disk.path)
            if failure := self._conflict(disk, str(attached["mode"])):
                return failure
            instance.disks.append(attached)
            self.mark_attached(instance, [disk])
            return None

        call = MethodCall("instances.attachDisk", request_id)
        seconds = self._parts.times.attach_disk
        return self._parts.operations.begin_change(call, instance, seconds, change)

    def detach(
        self, zone: str, name: str, device_name: str, *, request_id: str | None = None
    ) -> Operation:
        """Detach a disk from an instance; the boot disk only from one that is TERMINATED."""
        instance = self._changeable(zone, name)
        attached = _disk_called(instance, device_name)
        if attached.get("boot") and instance.status != TERMINATED:
            raise errors.must_be_stopped()

        def change() -> None:
            if attached in instance.disks:
                instance.disks.remove(attached)
                self._mark_detached(
                    instance, self._inventory.disks.get(zone, last_part(attached["source"]))
                )

        call = MethodCall("instances.detachDisk", request_id)
        seconds = self._parts.times.attach_disk
        return self._parts.operations.begin_change(call, instance, seconds, change)

    def set_auto_delete(
        self,
        zone: str,
        name: str,
        device_name: str,
        auto_delete: bool,
        *,
        request_id: str | None = None,
    ) -> Operation:
        """Set whether a disk of an instance is deleted with it."""
        instance = self._inventory.instances.get(zone, name)
        _check_not_deleting(instance)
        attached = _disk_called(instance, device_name)

        def change() -> None:
            attached["autoDelete"] = auto_delete

        call = MethodCall("instances.setDiskAutoDelete", request_id)
        seconds = self._parts.times.attach_disk
        return self._parts.operations.begin_change(call, instance, seconds, change)

    def users_of(self, disk: Disk) -> list[Instance]:
        """Return the instances to which a disk is attached."""
        return [
            self._inventory.instances.get(disk.zone, last_part(user))
            for user in disk.resource["users"]
        ]

    def disk_called(self, instance: Instance, device_name: str) -> Disk | None:
        """Return the disk that an instance has under this device name, or None."""
        attached = instance.disk_called(device_name)
        source = last_part(attached["source"]) if attached else ""
        return self._inventory.disks.find(instance.zone, source)

    def disks_of(self, instance: Instance) -> list[Disk]:
        """Return the disks that an instance has."""
        names = [last_part(attached["source"]) for attached in instance.disks]
        found = [self._inventory.disks.find(instance.zone, name) for name in names]
        return [disk for disk in found if disk]

    def plan(self, instance: Instance, specs: Iterable[Json]) -> tuple[list[Disk], list[Disk]]:
        """Set the ``disks`` of a new instance, without creating or attaching anything.

        Returns:
            The disks that have to be created, and those that exist.
        """
        new: list[Disk] = []
        existing: list[Disk] = []
        planned: list[Json] = []
        for index, spec in enumerate(specs):
            what = f"resource.disks[{index}]"
            parameters = spec.get("initializeParams")
            if "source" in spec:
                disk = self._disk_of_source(instance.zone, spec["source"], f"{what}.source")
                existing.append(disk)
            elif isinstance(parameters, dict):
                disk = self._disk_of_parameters(instance, index, parameters)
                if any(disk.name == other.name for other in new):
                    raise errors.already_exists(disk.path)
                new.append(disk)
            else:
                raise errors.invalid_value(
                    what, "", "Either a source or initializeParams must be given."
                )
            if bool(spec.get("boot")) != (index == 0):
                why = "Boot disk must be the first disk attached to the instance."
                raise errors.invalid_value(what, "", why)
            planned.append(new_attached_disk(spec, disk, index))
        if not planned:
            raise errors.invalid_value("resource.disks", "", "No disks are specified.")
        instance.resource["disks"] = planned
        return new, existing

    def conflict_of(self, instance: Instance) -> Failure | None:
        """Return why a new instance cannot have one of its existing disks, or None if it can."""
        for attached in instance.disks:
            disk = self._inventory.disks.find(instance.zone, last_part(attached["source"]))
            if disk and (failure := self._conflict(disk, str(attached["mode"]))):
                return failure
        return None

    def mark_attached(self, instance: Instance, disks: Iterable[Disk]) -> None:
        """Write into disks that they are attached to an instance."""
        for disk in disks:
            disk.resource["users"].append(link(instance.path))
            disk.resource["lastAttachTimestamp"] = timestamp(self._parts.timers.now())
            disk.last_user = instance.name

    def release(self, instance: Instance) -> None:
        """Detach every disk from an instance that no longer exists."""
        for disk in self._inventory.disks.all():
            if disk.zone == instance.zone and link(instance.path) in disk.resource["users"]:
                self._mark_detached(instance, disk)

    def delete_automatically(self, instance: Instance) -> None:
        """Delete the autoDelete disks of an instance that no longer exists, if they are free."""
        for attached in instance.disks:
            disk = self._inventory.disks.find(instance.zone, last_part(attached["source"]))
            if attached.get("autoDelete") and disk and not disk.resource["users"]:
                self._inventory.disks.remove(disk)

    def _changeable(self, zone: str, name: str) -> Instance:
        instance = self._inventory.instances.get(zone, name)
        _check_not_deleting(instance)
        if instance.status not in _CHANGEABLE:
            raise errors.not_ready(instance.path)
        return instance

    def _disk_of_source(self, zone: str, source: object, what: str) -> Disk:
        *_, zones, disk_zone, disks, name = ["", "", "", "", *str(source).split("/")]
        if (zones, disk_zone, disks) != ("zones", zone, "disks"):
            raise errors.invalid_value(what, source, f"The URL must name a disk of zone '{zone}'.")
        disk = self._inventory.disks.get(zone, name)
        if disk.resource["status"] != "READY":
            raise errors.not_ready(disk.path)
        return disk

    def _disk_of_parameters(
        self, instance: Instance, index: int, parameters: Mapping[str, Any]
    ) -> Disk:
        default = instance.name if index == 0 else f"{instance.name}-{index}"
        name = str(parameters.get("diskName") or default)
        self._inventory.disks.check_name_is_free(instance.zone, name)
        what = f"resource.disks[{index}].initializeParams"
        source = self._snapshots.source_of(parameters, what, "diskSizeGb")
        parameters = with_source(parameters, source, "diskSizeGb")
        body = {
            "sizeGb": parameters.get("diskSizeGb"),
            "type": parameters.get("diskType"),
            **parameters,
            "name": name,
        }
        disk = new_disk(
            self._parts.project, instance.zone, body, at=self._parts.timers.now(), what=what
        )
        disk.source = source
        return disk

    def _mark_detached(self, instance: Instance, disk: Disk) -> None:
        disk.resource["users"].remove(link(instance.path))
        disk.resource["lastDetachTimestamp"] = timestamp(self._parts.timers.now())

    def _conflict(self, disk: Disk, mode: str) -> Failure | None:
        """Return why a disk cannot be attached in this mode too: only reading can be shared."""
        modes = {
            attached["mode"]
            for user in self.users_of(disk)
            for attached in user.disks
            if attached["source"] == link(disk.path)
        }
        if not modes or modes | {mode} == {"READ_ONLY"}:
            return None
        return failures.disk_in_use(disk.path, path_of_link(disk.resource["users"][0]))


def _check_not_deleting(instance: Instance) -> None:
    if instance.deleting:
        raise errors.not_ready(instance.path)


def _disk_called(instance: Instance, device_name: str) -> Json:
    if attached := instance.disk_called(device_name):
        return attached
    why = f"No attached disk found with device name '{device_name}'"
    raise errors.invalid_value("deviceName", device_name, why)
