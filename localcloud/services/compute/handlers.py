"""What answers each method of Compute."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from localcloud.services.compute import errors
from localcloud.services.compute.active_faults import ActiveFaults
from localcloud.services.compute.calls import Call
from localcloud.services.compute.filters import compile_filter
from localcloud.services.compute.fleet import Fleet
from localcloud.services.compute.lists import list_all_zones, list_zone
from localcloud.services.compute.machine_types import MACHINE_TYPES
from localcloud.services.compute.resources import Json, Operation, link, region_of
from localcloud.services.project import Project

Answer: TypeAlias = Json | Operation | Awaitable[Json]
Handler: TypeAlias = Callable[[Call], Answer]

_LONGEST_WAIT_SECONDS = 120.0  # as the reference of zoneOperations.wait says


class Handlers:
    """The answers of a local Compute Engine.

    Args:
        project: the only project.
        fleet: its resources.
        faults: the faults that are switched on.

    Attributes:
        by_method: what answers each method of ``METHODS``.
    """

    def __init__(self, project: Project, fleet: Fleet, faults: ActiveFaults) -> None:
        self._project = project
        self._fleet = fleet
        self._faults = faults
        self.by_method: Mapping[str, Handler] = {
            **self._instance_handlers(),
            **self._disk_handlers(),
            "machineTypes.get": self._get_machine_type,
            **self._snapshot_handlers(),
            **self._operation_handlers("zoneOperations"),
            **self._operation_handlers("globalOperations"),
            "zones.get": self._get_zone,
            "zones.list": self._list_zones,
        }

    def _instance_handlers(self) -> dict[str, Handler]:
        instances, attached_disks = self._fleet.instances, self._fleet.attached_disks
        return {
            "instances.aggregatedList": self._list_instances_of_all_zones,
            "instances.attachDisk": _on_name_with_body(attached_disks.attach),
            "instances.delete": _on_name(instances.delete),
            "instances.detachDisk": self._detach_disk,
            "instances.get": lambda call: instances.get(call.zone, call.name).resource,
            "instances.getIamPolicy": self._read_policy,
            "instances.getSerialPortOutput": self._read_serial_port,
            "instances.insert": _on_zone(instances.insert),
            "instances.list": self._list_instances,
            "instances.resume": _on_name(instances.resume),
            "instances.setDiskAutoDelete": self._set_disk_auto_delete,
            "instances.setIamPolicy": lambda call: self._fleet.policies.set(
                call.zone, call.name, call.body
            ),
            "instances.setLabels": _on_name_with_body(instances.set_labels),
            "instances.setMachineType": _on_name_with_body(instances.set_machine_type),
            "instances.setMetadata": _on_name_with_body(instances.set_metadata),
            "instances.start": _on_name(instances.start),
            "instances.stop": _on_name_with_local_ssd(instances.stop),
            "instances.suspend": _on_name_with_local_ssd(instances.suspend),
        }

    def _disk_handlers(self) -> dict[str, Handler]:
        disks = self._fleet.disks
        return {
            "disks.aggregatedList": self._list_disks_of_all_zones,
            "disks.createSnapshot": _on_name_with_body(disks.create_snapshot),
            "disks.delete": _on_name(disks.delete),
            "disks.get": lambda call: disks.get(call.zone, call.name).resource,
            "disks.insert": _on_zone(disks.insert),
            "disks.list": self._list_disks,
            "disks.resize": _on_name_with_body(disks.resize),
            "disks.setLabels": _on_name_with_body(disks.set_labels),
        }

    def _snapshot_handlers(self) -> dict[str, Handler]:
        snapshots = self._fleet.snapshots
        return {
            "snapshots.delete": lambda call: snapshots.delete(
                call.name, request_id=call.request_id
            ),
            "snapshots.get": lambda call: snapshots.get(call.name).resource,
            "snapshots.insert": lambda call: snapshots.insert(
                call.body, request_id=call.request_id
            ),
            "snapshots.list": self._list_snapshots,
            "snapshots.setLabels": lambda call: snapshots.set_labels(
                call.name, call.body, request_id=call.request_id
            ),
        }

    def _operation_handlers(self, kind: str) -> dict[str, Handler]:
        operations = self._fleet.operations
        return {
            f"{kind}.get": lambda call: operations.get(call.zone, call.name).resource,
            f"{kind}.list": self._list_operations,
            f"{kind}.wait": self._wait,
        }

    def _list_snapshots(self, call: Call) -> Json:
        snapshots = self._fleet.snapshots.all()
        return list_zone(self._project, call, "compute#snapshotList", snapshots)

    def _list_instances(self, call: Call) -> Json:
        instances = self._fleet.instances.all()
        return list_zone(self._project, call, "compute#instanceList", instances)

    def _list_disks(self, call: Call) -> Json:
        return list_zone(self._project, call, "compute#diskList", self._fleet.disks.all())

    def _list_operations(self, call: Call) -> Json:
        operations = self._fleet.operations.all()
        return list_zone(self._project, call, "compute#operationList", operations)

    def _list_instances_of_all_zones(self, call: Call) -> Json:
        instances = self._fleet.instances.all()
        return list_all_zones(self._project, call, "compute#instanceAggregatedList", instances)

    def _list_disks_of_all_zones(self, call: Call) -> Json:
        disks = self._fleet.disks.all()
        return list_all_zones(self._project, call, "compute#diskAggregatedList", disks)

    def _detach_disk(self, call: Call) -> Operation:
        device = call.query.get("deviceName", "")
        return self._fleet.attached_disks.detach(
            call.zone, call.name, device, request_id=call.request_id
        )

    def _set_disk_auto_delete(self, call: Call) -> Operation:
        device, auto_delete = call.query.get("deviceName", ""), call.flag("autoDelete")
        if auto_delete is None:
            raise errors.invalid_value("autoDelete", "", "It must be given.")
        return self._fleet.attached_disks.set_auto_delete(
            call.zone, call.name, device, auto_delete, request_id=call.request_id
        )

    def _read_policy(self, call: Call) -> Json:
        version = call.number("optionsRequestedPolicyVersion", default=1, low=-(2**31), high=2**31)
        return self._fleet.policies.get(call.zone, call.name, version=version)

    def _read_serial_port(self, call: Call) -> Json:
        instance = self._fleet.instances.get(call.zone, call.name)
        self._faults.refuse_instance_call(call.method, instance)
        start = call.number("start", default=0, low=-(2**63), high=2**63)
        contents, begin, end = instance.serial.read(start)
        return {
            "kind": "compute#serialPortOutput",
            "selfLink": link(f"{instance.path}/serialPort"),
            "contents": contents,
            "start": str(begin),
            "next": str(end),
        }

    async def _wait(self, call: Call) -> Json:
        operation = self._fleet.operations.get(call.zone, call.name)
        try:
            async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
                await operation.done.wait()
        except TimeoutError:
            pass  # the caller gets the operation as it is, and may wait again
        return self._fleet.operations.get(call.zone, call.name).resource

    def _list_zones(self, call: Call) -> Json:
        path = f"{self._project.path}/zones"
        matches = compile_filter(call.query.get("filter", ""))
        zones = [zone for zone in map(self._zone, self._project.zones) if matches(zone)]
        return {"kind": "compute#zoneList", "id": path, "items": zones, "selfLink": link(path)}

    def _get_zone(self, call: Call) -> Json:
        if call.name not in self._project.zones:
            raise errors.not_found(f"{self._project.path}/zones/{call.name}")
        return self._zone(call.name)

    def _zone(self, name: str) -> Json:
        project = self._project.path
        return {
            "kind": "compute#zone",
            "id": str(2000 + self._project.zones.index(name)),
            "name": name,
            "description": name,
            "status": "UP",
            "region": link(f"{project}/regions/{region_of(name)}"),
            "selfLink": link(f"{project}/zones/{name}"),
        }

    def _get_machine_type(self, call: Call) -> Json:
        path = self._project.path_of(call.zone, "machineTypes", call.name)
        shape = MACHINE_TYPES.get(call.name)
        if not shape:
            raise errors.not_found(path)
        return {
            "kind": "compute#machineType",
            "id": str(3000 + list(MACHINE_TYPES).index(call.name)),
            "name": call.name,
            "description": f"{shape.cpus} vCPUs, {shape.memory_mib / 1024:g} GB RAM",
            "guestCpus": shape.cpus,
            "memoryMb": shape.memory_mib,
            "zone": call.zone,
            "selfLink": link(path),
        }


def _on_zone(method: Callable[..., Operation]) -> Handler:
    return lambda call: method(call.zone, call.body, request_id=call.request_id)


def _on_name(method: Callable[..., Operation]) -> Handler:
    return lambda call: method(call.zone, call.name, request_id=call.request_id)


def _on_name_with_body(method: Callable[..., Operation]) -> Handler:
    return lambda call: method(call.zone, call.name, call.body, request_id=call.request_id)


def _on_name_with_local_ssd(method: Callable[..., Operation]) -> Handler:
    return lambda call: method(
        call.zone,
        call.name,
        discard_local_ssd=call.flag("discardLocalSsd"),
        request_id=call.request_id,
    )
