"""The methods on instances, without their HTTP.

Each method checks everything before it changes anything, and returns the operation that it has
started: RUNNING, or DONE if there was nothing to do. It raises ``ComputeError`` as Compute refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from localcloud.services.compute import errors, failures
from localcloud.services.compute.active_faults import Place
from localcloud.services.compute.attached_disks import AttachedDisks
from localcloud.services.compute.failures import Failure
from localcloud.services.compute.labels import set_labels
from localcloud.services.compute.lifecycle import BringUp, Lifecycle
from localcloud.services.compute.new_resources import (
    check_disk_types,
    new_instance,
    new_metadata,
)
from localcloud.services.compute.operations import MethodCall
from localcloud.services.compute.parts import SharedParts
from localcloud.services.compute.resources import (
    REPAIRING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    Disk,
    Instance,
    Operation,
    last_part,
    link,
    timestamp,
)
from localcloud.services.compute.validation import check_machine_type, check_metadata, objects

# The state that a method needs, and the state in which it has nothing to do, so that its operation
# is DONE at once. In any other state the instance is not ready. A method that is in neither table
# works in every state, unless the instance is being deleted.
_NEEDED_STATE: Mapping[str, str] = MappingProxyType(
    {
        "start": TERMINATED,
        "stop": RUNNING,
        "suspend": RUNNING,
        "resume": SUSPENDED,
        "setMachineType": TERMINATED,
    }
)
_FINAL_STATE: Mapping[str, str] = MappingProxyType({"start": RUNNING, "stop": TERMINATED})

# Compute's words, from its page on suspend problems.
_CANNOT_SUSPEND = {
    TERMINATED: "You cannot suspend an instance that is stopped or terminated.",
    REPAIRING: "You cannot suspend an instance that is being repaired.",
    SUSPENDED: "You cannot suspend an already suspended instance.",
}


class Instances:
    """The instances of a fleet."""

    def __init__(
        self, parts: SharedParts, lifecycle: Lifecycle, attached_disks: AttachedDisks
    ) -> None:
        self._parts = parts
        self._instances = parts.inventory.instances
        self._lifecycle = lifecycle
        self._attached_disks = attached_disks
        self._addresses = 1

    def get(self, zone: str, name: str) -> Instance:
        """Return an instance.

        Raises:
            ComputeError: 404.
        """
        return self._instances.get(zone, name)

    def all(self) -> list[Instance]:
        """Return every instance, by zone and name."""
        return self._instances.all()

    def by_id(self, instance_id: str) -> Instance | None:
        """Return the instance with this numeric id, or None if it does not exist."""
        return next((each for each in self._instances.all() if each.id == instance_id), None)

    def insert(
        self, zone: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Create an instance, and the disks that its ``initializeParams`` describe.

        The instance exists, PROVISIONING, when this returns, and the operation's ``targetId`` is
        its numeric id. If the operation fails, the instance and its new disks no longer exist.
        """
        instance = new_instance(
            self._parts.project,
            zone,
            body,
            at=self._parts.timers.now(),
            address=self._next_address(),
        )
        self._instances.check_name_is_free(zone, instance.name)
        new, existing = self._attached_disks.plan(instance, objects(body, "disks"))
        check_disk_types(instance.machine_type, [*new, *existing])
        failure = self._parts.faults.failure_of("instances.insert", instance)
        failure = failure or self._failure_of_sources(instance, new)
        conflict = self._attached_disks.conflict_of(instance)

        def withdraw() -> None:
            for disk in new:
                self._parts.inventory.disks.remove(disk)
            self._lifecycle.forget(instance)

        self._instances.add(instance)
        for disk in new:
            self._parts.inventory.disks.add(disk)
            if disk.source and not failure and not conflict:
                self._parts.contents.restored(disk.source, disk)
        if not conflict:
            self._attached_disks.mark_attached(instance, [*new, *existing])
        operation = self._lifecycle.begin(MethodCall("instances.insert", request_id), instance)
        how = BringUp(
            seconds=self._parts.times.insert,
            boots=True,
            failure=failure or conflict,
            undo=withdraw,
        )
        self._lifecycle.bring_up(instance, operation, how)
        return operation

    def start(self, zone: str, name: str, *, request_id: str | None = None) -> Operation:
        """Boot a TERMINATED instance; one that is RUNNING stays so."""
        call = MethodCall("instances.start", request_id)
        instance = self._ready_for("start", zone, name)
        if instance.status == _FINAL_STATE["start"]:
            return self._nothing_to_do(call, instance)
        if not any(each.get("boot") for each in instance.disks):
            raise errors.boot_disk_missing()
        how = BringUp(
            seconds=self._parts.times.start,
            boots=True,
            failure=self._parts.faults.failure_of(call.method, instance),
            undo=lambda: self._lifecycle.remain_terminated(instance),
        )
        operation = self._lifecycle.begin(call, instance)
        self._lifecycle.bring_up(instance, operation, how)
        return operation

    def resume(self, zone: str, name: str, *, request_id: str | None = None) -> Operation:
        """Thaw a SUSPENDED instance: its guest goes on, and does not boot."""
        call = MethodCall("instances.resume", request_id)
        instance = self._ready_for("resume", zone, name)
        how = BringUp(
            seconds=self._parts.times.resume,
            boots=False,
            failure=self._parts.faults.failure_of(call.method, instance),
            undo=lambda: self._lifecycle.remain_suspended(instance),
        )
        operation = self._lifecycle.begin(call, instance)
        self._lifecycle.bring_up(instance, operation, how)
        return operation

    def suspend(
        self,
        zone: str,
        name: str,
        *,
        discard_local_ssd: bool | None = None,
        request_id: str | None = None,
    ) -> Operation:
        """Freeze a RUNNING instance and keep its memory; see ``stop`` for a local SSD."""
        call = MethodCall("instances.suspend", request_id)
        instance = self._ready_for("suspend", zone, name)
        _check_local_ssd(instance, discard_local_ssd)
        failure = self._parts.faults.failure_of(call.method, instance)
        operation = self._lifecycle.begin(call, instance)
        self._lifecycle.suspend(instance, operation, failure)
        return operation

    def stop(
        self,
        zone: str,
        name: str,
        *,
        discard_local_ssd: bool | None = None,
        request_id: str | None = None,
    ) -> Operation:
        """Switch a RUNNING instance off; one that is TERMINATED stays so.

        An instance with a local SSD needs ``discard_local_ssd``.
        """
        call = MethodCall("instances.stop", request_id)
        instance = self._ready_for("stop", zone, name)
        if instance.status == _FINAL_STATE["stop"]:
            return self._nothing_to_do(call, instance)
        _check_local_ssd(instance, discard_local_ssd)
        operation = self._lifecycle.begin(call, instance)
        self._lifecycle.stop(instance, operation)
        return operation

    def delete(self, zone: str, name: str, *, request_id: str | None = None) -> Operation:
        """Delete an instance and its autoDelete disks; this overtakes any other operation."""
        call = MethodCall("instances.delete", request_id)
        instance = self._not_deleting(zone, name)
        self._parts.faults.refuse_instance_call(call.method, instance)
        overtaken = instance.operation
        operation = self._lifecycle.begin(call, instance)
        if overtaken:
            operations = self._parts.operations
            operations.finish(overtaken, failures.overtaken(operations.user))
        self._lifecycle.delete(instance, operation)
        return operation

    def set_metadata(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Replace the metadata.

        ``fingerprint`` has to be that of the present metadata, now and when the operation is done.
        """
        instance = self._not_deleting(zone, name)
        items = check_metadata(body, "metadata")
        fingerprint = body.get("fingerprint")
        if fingerprint != instance.resource["metadata"]["fingerprint"]:
            raise errors.stale_metadata()

        def change() -> Failure | None:
            if fingerprint != instance.resource["metadata"]["fingerprint"]:
                return failures.changed_meanwhile(errors.stale_metadata())
            instance.resource["metadata"] = new_metadata(items)
            return None

        call = MethodCall("instances.setMetadata", request_id)
        seconds = self._parts.times.set_metadata
        return self._parts.operations.begin_change(call, instance, seconds, change)

    def set_labels(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Replace the labels; see ``labels.set_labels``."""
        call = MethodCall("instances.setLabels", request_id)
        return set_labels(self._parts, call, self._not_deleting(zone, name), body)

    def set_machine_type(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Give a TERMINATED instance another machine type."""
        instance = self._ready_for("setMachineType", zone, name)
        machine_type = check_machine_type(body.get("machineType"), zone, "machineType")
        path = self._parts.project.path_of(zone, "machineTypes", machine_type)

        def change() -> None:
            instance.resource["machineType"] = link(path)

        call = MethodCall("instances.setMachineType", request_id)
        seconds = self._parts.times.set_machine_type
        return self._parts.operations.begin_change(call, instance, seconds, change)

    def make_old(self, zone: str, name: str, age: timedelta) -> None:
        """Make it look as if an instance and its boot disk were created this long ago, for tests.

        Raises:
            ComputeError: 404.
        """
        instance = self.get(zone, name)
        instance.created_at = self._parts.timers.now() - age
        created_at = timestamp(instance.created_at)
        instance.resource["creationTimestamp"] = created_at
        for attached in instance.disks:
            if attached.get("boot"):
                disk = self._parts.inventory.disks.get(zone, last_part(attached["source"]))
                disk.resource["creationTimestamp"] = created_at

    def _not_deleting(self, zone: str, name: str) -> Instance:
        instance = self.get(zone, name)
        if instance.deleting:
            raise errors.not_ready(instance.path)
        return instance

    def _ready_for(self, verb: str, zone: str, name: str) -> Instance:
        instance = self._not_deleting(zone, name)
        self._parts.faults.refuse_instance_call(f"instances.{verb}", instance)
        if instance.status in {_NEEDED_STATE[verb], _FINAL_STATE.get(verb)}:
            return instance
        if verb == "setMachineType":
            raise errors.must_be_stopped()
        raise errors.not_ready(
            instance.path, _CANNOT_SUSPEND.get(instance.status) if verb == "suspend" else None
        )

    def _nothing_to_do(self, call: MethodCall, instance: Instance) -> Operation:
        operation = self._parts.operations.begin(call, instance)
        self._parts.operations.finish(operation)
        return operation

    def _failure_of_sources(self, instance: Instance, disks: list[Disk]) -> Failure | None:
        """Return why a disk of an instance cannot be made from its snapshot, if a fault says so."""
        place = Place(instance.zone, instance.name, "instances.insert")
        sources = [disk.source for disk in disks if disk.source]
        return self._parts.faults.failure_of_source(place, sources[0]) if sources else None

    def _next_address(self) -> str:
        self._addresses += 1
        network = self._parts.project.network
        return f"{network}.{self._addresses // 250 % 250}.{self._addresses % 250 + 2}"


def _check_local_ssd(instance: Instance, discard: bool | None) -> None:
    """See that the caller says whether to discard the local SSD, if the machine type has one."""
    if instance.machine_type.endswith("-lssd") and discard is None:
        raise errors.local_ssd_undecided()
