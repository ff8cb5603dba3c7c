"""The instances, disks and operations of one project, and how they change: Compute Engine without its HTTP.

Everything lives on one event loop, so nothing here is locked. What takes time is a timer of a clock
that is handed in.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from localcloud.services.compute import errors
from localcloud.services.compute.blueprints import (
    attached_disk,
    check_disk_types,
    check_labels,
    check_machine_type,
    check_metadata,
    member,
    new_disk,
    new_instance,
    new_metadata,
    new_snapshot,
    objects,
)
from localcloud.services.compute.faults import GUEST_FAULTS
from localcloud.services.compute.resources import (
    PENDING_STOP,
    PROVISIONING,
    REPAIRING,
    RUNNING,
    STAGING,
    STOPPING,
    SUSPENDED,
    SUSPENDING,
    TERMINATED,
    Disk,
    Instance,
    Json,
    Operation,
    Snapshot,
    link,
    new_fingerprint,
    new_id,
    path_of,
    region_of,
    timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from localcloud.services.compute.errors import Failure
    from localcloud.services.compute.faults import Faults


@dataclass(frozen=True, kw_only=True)
class Times:
    """How long Compute's work takes, in seconds; the defaults suit a person who watches.

    A start or a resume spends the first half of its time PROVISIONING, the second STAGING, and so
    does an insert. `boot` is the guest's own time from RUNNING to its ready report. `attach_disk`
    is what any change of which disks an instance has takes, and of how. `pending_stop` is the
    graceful shutdown of an instance that has it enabled, `repair` what a host failure takes,
    `suspended_limit` how long Compute keeps a suspended instance's memory before it shuts it down
    (60 days).
    """

    insert: float = 3.0
    start: float = 2.0
    stop: float = 2.0
    suspend: float = 2.0
    resume: float = 1.5
    delete: float = 2.0
    disk_insert: float = 1.0
    disk_delete: float = 1.0
    set_metadata: float = 0.5
    set_labels: float = 0.5
    set_machine_type: float = 0.5
    attach_disk: float = 0.5
    boot: float = 3.0
    pending_stop: float = 1.0
    repair: float = 2.0
    suspended_limit: float = 60 * 24 * 3600.0


class Timer(Protocol):
    """A call that has not been made yet."""

    def cancel(self) -> object:
        """Never make it."""


class Clock(Protocol):
    """What time it is, and calls at a later time."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` after so many seconds, on the same event loop."""


class LoopClock:
    """The real time, and the timers of the event loop that runs."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` after so many seconds."""
        return asyncio.get_running_loop().call_later(seconds, callback)


class Guests(Protocol):
    """What runs inside the instances: told by the fleet what happens to the machine underneath it."""

    def booted(self, instance: Instance, *, boot_seconds: float, fault: str | None) -> None:
        """Begin: the machine was switched on. `fault` is None or one of `GUEST_FAULTS`."""

    def frozen(self, instance: Instance) -> None:
        """Stand still: the memory is being saved."""

    def thawed(self, instance: Instance) -> None:
        """Go on exactly where the machine stood still; nothing runs again."""

    def ended(self, instance: Instance) -> None:
        """Be gone: the power is off."""


class NoGuests:
    """Machines with nothing in them."""

    def booted(self, instance: Instance, *, boot_seconds: float, fault: str | None) -> None:
        """Do nothing."""

    def frozen(self, instance: Instance) -> None:
        """Do nothing."""

    def thawed(self, instance: Instance) -> None:
        """Do nothing."""

    def ended(self, instance: Instance) -> None:
        """Do nothing."""


_SLOW_FACTOR: Final = 20

# Which state a call needs, and in which it has nothing to do and is DONE at once. Anything else is
# not ready. What is in neither table can be done to an instance whatever it is doing, but for being
# deleted.
_NEEDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "start": TERMINATED,
        "stop": RUNNING,
        "suspend": RUNNING,
        "resume": SUSPENDED,
        "setMachineType": TERMINATED,
    }
)
_HAS_ALREADY: Final[Mapping[str, str]] = MappingProxyType({"start": RUNNING, "stop": TERMINATED})
# In which its disks can be changed. Whether Compute takes such a change while an instance is
# suspended is not published.
_SETTLED: Final = frozenset({RUNNING, SUSPENDED, TERMINATED})

# Compute's words, from its page on suspend problems.
_CANNOT_SUSPEND = {
    TERMINATED: "You cannot suspend an instance that is stopped or terminated.",
    REPAIRING: "You cannot suspend an instance that is being repaired.",
    SUSPENDED: "You cannot suspend an already suspended instance.",
}

GONE: Final = "GONE"  # in the history only: there is no such instance any more
_OPERATIONS_KEPT = 10_000
_STATES_KEPT = 100_000
_SYSTEM = "system"
_HOLDER = "holder"  # who has the disk, where the fault `in_use` says so


class Fleet:
    """Every instance, disk and operation of one project.

    The verbs check everything before they change anything, and return the operation that they
    began: RUNNING, or DONE where there was nothing to do. They raise `ComputeError` as Compute
    refuses.

    Attributes:
        states: what instances have become, oldest first: time, instance, id, zone, labels, and
            status, `GONE` at its end.
    """

    def __init__(
        self,
        *,
        project_id: str,
        zones: Sequence[str],
        times: Times,
        faults: Faults,
        project_number: str = "123456789012",
        guests: Guests | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.project_id = project_id
        self._project_number = project_number
        self.zones = tuple(zones)
        self._times = times
        self._faults = faults
        self._guests = guests or NoGuests()
        self._clock = clock or LoopClock()
        self._user = f"localcloud@{project_id}.iam.gserviceaccount.com"
        self._instances: dict[tuple[str, str], Instance] = {}
        self._disks: dict[tuple[str, str], Disk] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._operations: dict[tuple[str, str], Operation] = {}
        self._requests: dict[str, Operation] = {}
        self._timers: set[Timer] = set()
        self._next_timer: dict[Instance, Timer] = {}
        self._addresses = 1
        self.states: deque[Json] = deque(maxlen=_STATES_KEPT)

    def reset(self) -> None:
        """Forget every instance, disk, snapshot and operation; who waits for an operation is woken."""
        for timer in self._timers:
            timer.cancel()
        for instance in self._instances.values():
            self._guests.ended(instance)
        for operation in self._operations.values():
            operation.done.set()
        self._timers.clear()
        self._next_timer.clear()
        self._instances.clear()
        self._disks.clear()
        self._snapshots.clear()
        self._operations.clear()
        self._requests.clear()
        self.states.clear()

    # What there is

    def instance(self, zone: str, name: str) -> Instance:
        """Return an instance.

        Raises:
            ComputeError: 404.
        """
        if instance := self._instances.get((zone, name)):
            return instance
        raise errors.not_found(self._path(zone, "instances", name))

    def instances(self) -> list[Instance]:
        """Return every instance, by zone and name."""
        return [self._instances[key] for key in sorted(self._instances)]

    def instance_by_id(self, instance_id: str) -> Instance | None:
        """Return the instance with this numeric id, if it is still there."""
        return next(
            (instance for instance in self._instances.values() if instance.id == instance_id), None
        )

    def disk(self, zone: str, name: str) -> Disk:
        """Return a disk.

        Raises:
            ComputeError: 404.
        """
        if disk := self._disks.get((zone, name)):
            return disk
        raise errors.not_found(self._path(zone, "disks", name))

    def disks(self) -> list[Disk]:
        """Return every disk, by zone and name."""
        return [self._disks[key] for key in sorted(self._disks)]

    def snapshot(self, name: str) -> Snapshot:
        """Return a snapshot.

        Raises:
            ComputeError: 404.
        """
        if snapshot := self._snapshots.get(name):
            return snapshot
        raise errors.not_found(f"projects/{self.project_id}/global/snapshots/{name}")

    def operation(self, zone: str, name: str) -> Operation:
        """Return an operation; the last 10,000 are kept.

        Raises:
            ComputeError: 404, also for one that the fault `lost_operation` has struck.
        """
        if operation := self._operations.get((zone, name)):
            return operation
        raise errors.not_found(self._path(zone, "operations", name))

    def operations(self) -> list[Operation]:
        """Return every operation, by zone and name."""
        return [self._operations[key] for key in sorted(self._operations)]

    def operation_of_request(self, request_id: str) -> Operation | None:
        """Return the operation that a call with this requestId began."""
        return self._requests.get(request_id)

    # Verbs on instances

    def insert_instance(
        self, zone: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Make an instance, and the disks that its `initializeParams` describe.

        The instance is there, PROVISIONING, when this returns, and the operation's `targetId` is
        its numeric id. When the operation fails, the instance and the disks it made are gone again.
        """
        instance = new_instance(
            self.project_id, zone, body, at=self._clock.now(), address=self._next_address()
        )
        name = instance.name
        if (zone, name) in self._instances:
            raise errors.already_exists(instance.path)
        made, attached = self._plan_disks(instance, objects(body, "disks"))
        check_disk_types(instance.machine_type, [*made, *attached])
        failure = self._insert_failure(instance) or self._bring_up_failure(
            "instances.insert", instance
        )
        taken = self._taken(instance)
        failure = failure or taken

        def withdraw() -> None:
            for disk in made:
                self._disks.pop((zone, disk.name), None)
            self._forget(instance)

        self._instances[zone, name] = instance
        for disk in made:
            self._disks[zone, disk.name] = disk
        if not taken:
            self._attach(instance, [*made, *attached])
        operation, factor = self._begin_transition("instances.insert", instance, request_id)
        self._bring_up(
            instance,
            operation,
            self._times.insert * factor,
            failure=failure,
            undo=withdraw,
            boots=True,
        )
        return operation

    def start(self, zone: str, name: str, *, request_id: str | None = None) -> Operation:
        """Boot a TERMINATED instance; one that is RUNNING stays so."""
        instance = self._ready_for("start", zone, name)
        if instance.status == _HAS_ALREADY["start"]:
            return self._nothing_to_do("instances.start", instance, request_id)
        if not any(each.get("boot") for each in instance.resource["disks"]):
            raise errors.boot_disk_missing()
        failure = self._bring_up_failure("instances.start", instance)
        operation, factor = self._begin_transition("instances.start", instance, request_id)
        self._bring_up(
            instance,
            operation,
            self._times.start * factor,
            failure=failure,
            undo=lambda: self._set_status(instance, TERMINATED),
            boots=True,
        )
        return operation

    def resume(self, zone: str, name: str, *, request_id: str | None = None) -> Operation:
        """Thaw a SUSPENDED instance: its guest goes on, nothing boots."""
        instance = self._ready_for("resume", zone, name)
        failure = self._bring_up_failure("instances.resume", instance)
        operation, factor = self._begin_transition("instances.resume", instance, request_id)
        self._bring_up(
            instance,
            operation,
            self._times.resume * factor,
            failure=failure,
            undo=lambda: self._suspended(instance),
            boots=False,
        )
        return operation

    def suspend(
        self,
        zone: str,
        name: str,
        *,
        discard_local_ssd: bool | None = None,
        request_id: str | None = None,
    ) -> Operation:
        """Freeze a RUNNING instance and keep its memory; see `stop` for a local SSD."""
        instance = self._ready_for("suspend", zone, name)
        _check_local_ssd(instance, discard_local_ssd)
        unsupported = self._faults.strike(
            "suspend_unsupported", zone=zone, instance=name, method="instances.suspend"
        )
        operation, factor = self._begin_transition("instances.suspend", instance, request_id)
        self._set_status(instance, SUSPENDING)
        self._guests.frozen(instance)

        def saved() -> None:
            if unsupported:
                self._finish(instance, operation, errors.suspend_unsupported(name))
                self._running(instance, boots=False)
                return
            self._stamp(instance, "lastSuspendedTimestamp")
            self._suspended(instance)
            self._finish(instance, operation)

        self._next(instance, self._times.suspend * factor, saved)
        return operation

    def stop(
        self,
        zone: str,
        name: str,
        *,
        discard_local_ssd: bool | None = None,
        request_id: str | None = None,
    ) -> Operation:
        """Switch a RUNNING instance off; one that is TERMINATED stays so. One with a local SSD needs `discard_local_ssd`."""
        instance = self._ready_for("stop", zone, name)
        if instance.status == _HAS_ALREADY["stop"]:
            return self._nothing_to_do("instances.stop", instance, request_id)
        _check_local_ssd(instance, discard_local_ssd)
        operation, factor = self._begin_transition("instances.stop", instance, request_id)
        self._shut_down(
            instance, self._times.stop * factor, lambda: self._terminated(instance, operation)
        )
        return operation

    def delete_instance(self, zone: str, name: str, *, request_id: str | None = None) -> Operation:
        """Remove an instance and its autoDelete disks, whatever it is doing; only a delete cannot be overtaken."""
        instance = self._not_deleting(zone, name)
        self._refuse_if_not_ready("instances.delete", instance)
        overtaken = instance.operation
        operation, factor = self._begin_transition("instances.delete", instance, request_id)
        if overtaken:
            overtaken.finish(self._clock.now(), errors.overtaken(self._user))
        instance.deleting = True

        def gone() -> None:
            self._remove(instance)
            self._finish(instance, operation)

        self._shut_down(instance, self._times.delete * factor, gone)
        return operation

    def set_metadata(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Replace the metadata, if `fingerprint` is that of the present one: now, and still when the operation is done."""
        instance = self._not_deleting(zone, name)
        items = check_metadata(body, "metadata")
        fingerprint = body.get("fingerprint")
        if fingerprint != instance.resource["metadata"]["fingerprint"]:
            raise errors.stale_metadata()

        def change() -> Failure | None:
            if fingerprint != instance.resource["metadata"]["fingerprint"]:
                return errors.changed_meanwhile(errors.stale_metadata())
            instance.resource["metadata"] = new_metadata(items)
            return None

        return self._change(
            "instances.setMetadata", instance, self._times.set_metadata, change, request_id
        )

    def set_labels(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Replace the labels, if `labelFingerprint` is that of the present ones: now, and still when it is done."""
        return self._set_labels(
            "instances.setLabels", self._not_deleting(zone, name), body, request_id
        )

    def set_machine_type(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Give a TERMINATED instance another machine type."""
        instance = self._ready_for("setMachineType", zone, name)
        machine_type = check_machine_type(body.get("machineType"), zone, "machineType")

        def change() -> None:
            instance.resource["machineType"] = link(self._path(zone, "machineTypes", machine_type))

        return self._change(
            "instances.setMachineType", instance, self._times.set_machine_type, change, request_id
        )

    def attach_disk(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Give an instance one more disk.

        The operation ends with RESOURCE_IN_USE_BY_ANOTHER_RESOURCE when an instance has the disk,
        unless both only read it.
        """
        instance = self._settled(zone, name)
        disk = self._disk_of_source(zone, body.get("source"), "source")
        check_disk_types(instance.machine_type, [disk])
        free = next(
            n
            for n in range(len(_disks_of(instance)) + 1)
            if all(n != d["index"] for d in _disks_of(instance))
        )
        attached = attached_disk(dict(body), disk, free)
        if _attached_as(instance, attached["deviceName"]):
            why = f"The device name '{attached['deviceName']}' is already in use."  # how Compute words it is not published
            raise errors.invalid_value("deviceName", attached["deviceName"], why)

        def change() -> Failure | None:
            if self._disks.get((zone, disk.name)) is not disk or disk.resource["status"] != "READY":
                return errors.gone(disk.path)
            if failure := self._held(disk, str(attached["mode"])):
                return failure
            _disks_of(instance).append(attached)
            self._attach(instance, [disk])
            return None

        return self._change(
            "instances.attachDisk", instance, self._times.attach_disk, change, request_id
        )

    def detach_disk(
        self, zone: str, name: str, device_name: str, *, request_id: str | None = None
    ) -> Operation:
        """Take a disk from an instance; the boot disk only from one that is TERMINATED."""
        instance = self._settled(zone, name)
        attached = self._attached(instance, device_name)
        if attached.get("boot") and instance.status != TERMINATED:
            raise errors.must_be_stopped()

        def change() -> None:
            if attached in _disks_of(instance):
                _disks_of(instance).remove(attached)
                self._detach(instance, self._disks[zone, _last(attached["source"])])

        return self._change(
            "instances.detachDisk", instance, self._times.attach_disk, change, request_id
        )

    def set_disk_auto_delete(
        self,
        zone: str,
        name: str,
        device_name: str,
        auto_delete: bool,
        *,
        request_id: str | None = None,
    ) -> Operation:
        """Say whether a disk of an instance is deleted with it."""
        instance = self._not_deleting(zone, name)
        attached = self._attached(instance, device_name)

        def change() -> None:
            attached["autoDelete"] = auto_delete

        return self._change(
            "instances.setDiskAutoDelete", instance, self._times.attach_disk, change, request_id
        )

    # Verbs on disks

    def insert_disk(
        self, zone: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Make a disk, empty or with what is in a `sourceSnapshot`: CREATING when this returns, READY when it is done."""
        if source := body.get("sourceSnapshot"):
            snapshot = self.snapshot(_last(str(source)))
            if snapshot.resource["status"] != "READY":
                raise errors.not_ready(snapshot.path)
            body = {
                "sizeGb": snapshot.resource["diskSizeGb"],
                **body,
                "sourceSnapshot": link(snapshot.path),
            }
        disk = self._new_disk(zone, str(body.get("name", "")), body, "resource")
        disk.resource["status"] = "CREATING"
        self._disks[zone, disk.name] = disk
        operation, factor = self._begin("disks.insert", disk, request_id)

        def ready() -> None:
            disk.resource["status"] = "READY"
            operation.finish(self._clock.now())

        self._later(self._times.disk_insert * factor, ready)
        return operation

    def delete_disk(self, zone: str, name: str, *, request_id: str | None = None) -> Operation:
        """Remove a disk that no instance holds."""
        disk = self.disk(zone, name)
        if disk.resource["users"]:
            raise errors.in_use(disk.path, path_of(disk.resource["users"][0]))
        if self._faults.strike("in_use", zone=zone, instance=disk.last_user, method="disks.delete"):
            raise errors.in_use(disk.path, self._path(zone, "instances", _HOLDER))
        if disk.resource["status"] != "READY":
            raise errors.not_ready(disk.path)
        disk.resource["status"] = "DELETING"
        operation, factor = self._begin("disks.delete", disk, request_id)

        def gone() -> None:
            self._disks.pop((zone, name), None)
            operation.finish(self._clock.now())

        self._later(self._times.disk_delete * factor, gone)
        return operation

    def set_disk_labels(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Replace a disk's labels, if `labelFingerprint` is that of the present ones, as `set_labels` does."""
        return self._set_labels("disks.setLabels", self.disk(zone, name), body, request_id)

    def resize_disk(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Make a disk larger. The instances that have it see that; what is on it stays as large as it was."""
        disk = self.disk(zone, name)
        size, present = str(body.get("sizeGb", "")), disk.resource["sizeGb"]
        if not size.isdecimal() or int(size) <= int(present):
            why = f"New disk size '{size}' GiB must be larger than existing size '{present}' GiB."
            raise errors.invalid_value("sizeGb", size, why)

        def change() -> None:
            disk.resource["sizeGb"] = size
            for instance in self._users(disk):
                for attached in _disks_of(instance):
                    if _last(attached["source"]) == name:
                        attached["diskSizeGb"] = size

        return self._change("disks.resize", disk, self._times.disk_insert, change, request_id)

    def create_snapshot(
        self, zone: str, name: str, body: Mapping[str, Any], *, request_id: str | None = None
    ) -> Operation:
        """Keep what is on a disk now, whatever its instance is doing: CREATING when this returns, READY when it is done."""
        disk = self.disk(zone, name)
        snapshot = new_snapshot(self.project_id, disk, body, at=self._clock.now())
        if snapshot.resource["name"] in self._snapshots:
            raise errors.already_exists(snapshot.path)
        self._snapshots[snapshot.resource["name"]] = snapshot

        def change() -> None:
            snapshot.resource["status"] = "READY"

        return self._change(
            "disks.createSnapshot", disk, self._times.disk_insert, change, request_id
        )

    # What happens to machines without anybody's call

    def strike_running(self) -> None:
        """Let `vanished` and `preempted`, where they are on, strike the machines that are running now."""
        for instance in self.instances():
            if instance.status == RUNNING:
                self._strike(instance)

    def host_error(self, zone: str, name: str) -> None:
        """Let the host under a RUNNING instance fail: REPAIRING, then it boots again, or is TERMINATED without automaticRestart.

        Raises:
            ComputeError: 404, or 400 when it is not RUNNING.
        """
        instance = self.instance(zone, name)
        if instance.status != RUNNING:
            raise errors.not_ready(instance.path)
        restarts = instance.resource["scheduling"].get("automaticRestart", True)
        operation = self._system_operation(
            "compute.instances.hostError", instance, "Instance was terminated by a host error."
        )
        self._set_status(instance, REPAIRING)
        self._guests.ended(instance)

        def repaired() -> None:
            if restarts:
                self._bring_up(
                    instance,
                    operation,
                    self._times.start,
                    failure=None,
                    undo=lambda: None,
                    boots=True,
                )
            else:
                self._terminated(instance, operation)

        self._next(instance, self._times.repair, repaired)

    def make_old(self, zone: str, name: str, age: timedelta) -> None:
        """Let an instance and its boot disk have been made so long ago: what tests cannot wait for.

        Raises:
            ComputeError: 404.
        """
        instance = self.instance(zone, name)
        instance.created_at = self._clock.now() - age
        made_at = timestamp(instance.created_at)
        instance.resource["creationTimestamp"] = made_at
        for attached in instance.resource["disks"]:
            if attached.get("boot"):
                self.disk(zone, _last(attached["source"])).resource["creationTimestamp"] = made_at

    # Transitions

    def _insert_failure(self, instance: Instance) -> Failure | None:
        """Return why an insert will come to nothing, as the faults have it.

        Raises:
            ComputeError: it is refused at once.
        """
        where = {"zone": instance.zone, "instance": instance.name, "method": "instances.insert"}
        if nth := self._faults.strike("policy_forbids", **where):
            if nth % 2:
                raise errors.policy_forbids(self._project_number, instance.path)
            return errors.policy_forbade(self._project_number, instance.path)
        if nth := self._faults.strike("account_unknown", **where):
            accounts = instance.resource.get("serviceAccounts") or [{}]
            email = str(accounts[0].get("email", "default"))
            if nth % 2:
                raise errors.account_unknown(email)
            return errors.account_was_unknown(email)
        if self._faults.strike("ip_space_exhausted", **where):
            return errors.ip_space_exhausted(self.project_id, region_of(instance.zone))
        return None

    def _bring_up_failure(self, method: str, instance: Instance) -> Failure | None:
        where = {"zone": instance.zone, "instance": instance.name, "method": method}
        if self._faults.strike("quota_exceeded", **where):
            return errors.quota_exceeded(region_of(instance.zone))
        if nth := self._faults.strike("stock_out", **where):
            return self._stock_out(instance, nth)
        if nth := self._faults.strike("second_error", **where):
            return errors.second_error(self._stock_out(instance, nth))
        return None

    def _stock_out(self, instance: Instance, nth: int) -> Failure:
        zone_path = f"projects/{self.project_id}/zones/{instance.zone}"
        others = [zone for zone in self.zones if zone != instance.zone]
        return errors.stock_out(zone_path, instance.machine_type, other_zones=others, nth=nth)

    def _bring_up(
        self,
        instance: Instance,
        operation: Operation,
        seconds: float,
        *,
        failure: Failure | None,
        undo: Callable[[], None],
        boots: bool,
    ) -> None:
        self._set_status(instance, PROVISIONING)

        def allocated() -> None:
            if failure:
                undo()
                self._finish(instance, operation, failure)
                return
            self._set_status(instance, STAGING)
            self._next(instance, seconds / 2, prepared)

        def prepared() -> None:
            self._finish(instance, operation)
            self._stamp(instance, "lastStartTimestamp")
            self._running(instance, boots=boots)

        self._next(instance, seconds / 2, allocated)

    def _running(self, instance: Instance, *, boots: bool) -> None:
        self._set_status(instance, RUNNING)
        if boots:
            where = {"zone": instance.zone, "instance": instance.name}
            fault = next(
                (name for name in GUEST_FAULTS if self._faults.strike(name, **where)), None
            )
            self._guests.booted(instance, boot_seconds=self._times.boot, fault=fault)
        else:
            self._guests.thawed(instance)
        self._strike(instance)

    def _strike(self, instance: Instance) -> None:
        where = {"zone": instance.zone, "instance": instance.name}
        if self._faults.strike("vanished", **where):
            now = self._clock.now()
            self._operation("instances.delete", instance, user="somebody@example.com").finish(now)
            self._remove(instance)
        elif self._faults.strike("preempted", **where):
            operation = self._system_operation(
                "compute.instances.preempted", instance, "Instance was preempted."
            )
            self._switch_off(
                instance, self._times.stop, lambda: self._terminated(instance, operation)
            )

    def _shut_down(self, instance: Instance, seconds: float, then: Callable[[], None]) -> None:
        graceful = instance.resource["scheduling"].get("gracefulShutdown") or {}
        if instance.status == RUNNING and graceful.get("enabled"):
            self._set_status(instance, PENDING_STOP)
            self._next(
                instance,
                self._times.pending_stop,
                lambda: self._switch_off(instance, seconds, then),
            )
        else:
            self._switch_off(instance, seconds, then)

    def _switch_off(self, instance: Instance, seconds: float, then: Callable[[], None]) -> None:
        self._set_status(instance, STOPPING)
        self._guests.ended(instance)
        self._next(instance, seconds, then)

    def _terminated(self, instance: Instance, operation: Operation) -> None:
        self._set_status(instance, TERMINATED)
        self._stamp(instance, "lastStopTimestamp")
        self._finish(instance, operation)

    def _suspended(self, instance: Instance) -> None:
        self._set_status(instance, SUSPENDED)

        def expired() -> None:
            self._guests.ended(instance)
            operation = self._system_operation(
                "stop", instance, "Instance was suspended for too long."
            )
            self._terminated(instance, operation)

        self._next(instance, self._times.suspended_limit, expired)

    def _set_labels(
        self, method: str, target: Instance | Disk, body: Mapping[str, Any], request_id: str | None
    ) -> Operation:
        labels = check_labels(member(body, "labels", dict, "labels"), "labels")
        fingerprint = body.get("labelFingerprint")
        if fingerprint != target.resource["labelFingerprint"]:
            raise errors.stale_labels()

        def change() -> Failure | None:
            if fingerprint != target.resource["labelFingerprint"]:
                return errors.changed_meanwhile(errors.stale_labels())
            target.resource.update(labels=labels, labelFingerprint=new_fingerprint())
            return None

        return self._change(method, target, self._times.set_labels, change, request_id)

    def _change(
        self,
        method: str,
        target: Instance | Disk,
        seconds: float,
        change: Callable[[], Failure | None],
        request_id: str | None,
    ) -> Operation:
        """Begin an operation that changes a resource when it is done, if the resource is still there then."""
        operation, factor = self._begin(method, target, request_id)

        def apply() -> None:
            there: Mapping[tuple[str, str], Instance | Disk]
            there = self._instances if isinstance(target, Instance) else self._disks
            if there.get((target.zone, target.name)) is target:
                operation.finish(self._clock.now(), change())
            else:
                operation.finish(self._clock.now(), errors.gone(target.path))

        self._later(seconds * factor, apply)
        return operation

    def _set_status(self, instance: Instance, status: str) -> None:
        instance.resource["status"] = status
        self._note(instance, status)

    def _note(self, instance: Instance, status: str) -> None:
        self.states.append(
            {
                "time": timestamp(self._clock.now()),
                "instance": instance.name,
                "id": instance.id,
                "zone": instance.zone,
                "labels": dict(instance.resource.get("labels", {})),
                "status": status,
            }
        )

    def _stamp(self, instance: Instance, name: str) -> None:
        instance.resource[name] = timestamp(self._clock.now())

    def _remove(self, instance: Instance) -> None:
        self._guests.ended(instance)
        self._forget(instance)
        for attached in instance.resource["disks"]:
            key = (instance.zone, _last(attached["source"]))
            if (
                attached.get("autoDelete")
                and key in self._disks
                and not self._disks[key].resource["users"]
            ):
                del self._disks[key]

    def _forget(self, instance: Instance) -> None:
        """Take the instance away from its disks and out of the fleet."""
        if timer := self._next_timer.pop(instance, None):
            self._cancel(timer)
        self._instances.pop((instance.zone, instance.name), None)
        self._note(instance, GONE)
        for disk in self._disks.values():
            if disk.zone == instance.zone and link(instance.path) in disk.resource["users"]:
                self._detach(instance, disk)

    # Who may do what when

    def _not_deleting(self, zone: str, name: str) -> Instance:
        instance = self.instance(zone, name)
        if instance.deleting:
            raise errors.not_ready(instance.path)
        return instance

    def _settled(self, zone: str, name: str) -> Instance:
        instance = self._not_deleting(zone, name)
        if instance.status not in _SETTLED:
            raise errors.not_ready(instance.path)
        return instance

    def _refuse_if_not_ready(self, method: str, instance: Instance) -> None:
        if self._faults.strike(
            "not_ready", zone=instance.zone, instance=instance.name, method=method
        ):
            raise errors.not_ready(instance.path)

    def _ready_for(self, verb: str, zone: str, name: str) -> Instance:
        instance = self._not_deleting(zone, name)
        if verb != "setMachineType":
            self._refuse_if_not_ready(f"instances.{verb}", instance)
        if instance.status in {_NEEDS[verb], _HAS_ALREADY.get(verb)}:
            return instance
        if verb == "setMachineType":
            raise errors.must_be_stopped()
        raise errors.not_ready(
            instance.path, _CANNOT_SUSPEND.get(instance.status) if verb == "suspend" else None
        )

    # Operations and timers

    def _begin(
        self, method: str, target: Instance | Disk, request_id: str | None
    ) -> tuple[Operation, float]:
        """Begin an operation on a resource; return it and how many times as long as usual it takes."""
        name = target.name if isinstance(target, Instance) else None
        slow = self._faults.strike("slow_operation", zone=target.zone, instance=name, method=method)
        lost = self._faults.strike("lost_operation", zone=target.zone, instance=name, method=method)
        operation = self._operation(
            method, target, user=self._user, request_id=request_id, lost=bool(lost)
        )
        return operation, _SLOW_FACTOR if slow else 1

    def _begin_transition(
        self, method: str, instance: Instance, request_id: str | None
    ) -> tuple[Operation, float]:
        """Begin an operation that changes the instance's state, and that a delete overtakes."""
        operation, factor = self._begin(method, instance, request_id)
        instance.operation = operation
        return operation, factor

    def _nothing_to_do(self, method: str, instance: Instance, request_id: str | None) -> Operation:
        operation, _ = self._begin(method, instance, request_id)
        operation.finish(self._clock.now())
        return operation

    def _system_operation(self, operation_type: str, instance: Instance, message: str) -> Operation:
        operation = self._operation(operation_type, instance, user=_SYSTEM)
        operation.resource["statusMessage"] = message
        instance.operation = operation
        return operation

    def _operation(
        self,
        method: str,
        target: Instance | Disk,
        *,
        user: str,
        request_id: str | None = None,
        lost: bool = False,
    ) -> Operation:
        now = self._clock.now()
        milliseconds = int(now.timestamp() * 1000)
        name = f"operation-{milliseconds}-{secrets.token_hex(6)}-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
        resource: Json = {
            "kind": "compute#operation",
            "id": new_id(),
            "name": name,
            "zone": link(f"projects/{self.project_id}/zones/{target.zone}"),
            "operationType": method.removeprefix("instances.").removeprefix("disks."),
            "targetLink": link(target.path),
            "targetId": str(target.resource["id"]),
            "status": "RUNNING",
            "user": user,
            "progress": 0,
            "insertTime": timestamp(now),
            "startTime": timestamp(now),
            "selfLink": link(self._path(target.zone, "operations", name)),
        }
        if request_id:
            resource["clientOperationId"] = request_id
        operation = Operation(zone=target.zone, method=method, resource=resource)
        if not lost:
            self._keep(operation, request_id)
        return operation

    def _keep(self, operation: Operation, request_id: str | None) -> None:
        self._operations[operation.zone, operation.name] = operation
        if request_id:
            self._requests[request_id] = operation
        if len(self._operations) > _OPERATIONS_KEPT:
            oldest = self._operations.pop(next(iter(self._operations)))
            self._requests.pop(oldest.resource.get("clientOperationId", ""), None)

    def _finish(
        self, instance: Instance, operation: Operation, failure: Failure | None = None
    ) -> None:
        operation.finish(self._clock.now(), failure)
        if instance.operation is operation:
            instance.operation = None

    def _next(self, instance: Instance, seconds: float, callback: Callable[[], None]) -> None:
        """Call back for the instance's next state; what was to come next before is not coming any more."""
        if timer := self._next_timer.pop(instance, None):
            self._cancel(timer)
        self._next_timer[instance] = self._later(seconds, callback)

    def _later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        def fire() -> None:
            self._timers.discard(timer)
            callback()

        timer = self._clock.call_later(seconds, fire)
        self._timers.add(timer)
        return timer

    def _cancel(self, timer: Timer) -> None:
        timer.cancel()
        self._timers.discard(timer)

    # Resources as they begin

    def _plan_disks(
        self, instance: Instance, specs: Iterable[Json]
    ) -> tuple[list[Disk], list[Disk]]:
        """Settle the instance's `disks`; return those to be made and those that exist, neither attached yet."""
        made: list[Disk] = []
        attached: list[Disk] = []
        settled: list[Json] = []
        for index, spec in enumerate(specs):
            what = f"resource.disks[{index}]"
            parameters = spec.get("initializeParams")
            if "source" in spec:
                disk = self._disk_of_source(instance.zone, spec["source"], f"{what}.source")
                attached.append(disk)
            elif isinstance(parameters, dict):
                disk = self._disk_of_parameters(instance, index, parameters)
                if any(disk.name == other.name for other in made):
                    raise errors.already_exists(disk.path)
                made.append(disk)
            else:
                raise errors.invalid_value(
                    what, "", "Either a source or initializeParams must be given."
                )
            if bool(spec.get("boot")) != (index == 0):
                why = "Boot disk must be the first disk attached to the instance."
                raise errors.invalid_value(what, "", why)
            settled.append(attached_disk(spec, disk, index))
        if not settled:
            raise errors.invalid_value("resource.disks", "", "No disks are specified.")
        instance.resource["disks"] = settled
        return made, attached

    def _disk_of_source(self, zone: str, source: object, what: str) -> Disk:
        *_, zones, disk_zone, disks, name = ["", "", "", "", *str(source).split("/")]
        if (zones, disk_zone, disks) != ("zones", zone, "disks"):
            raise errors.invalid_value(what, source, f"The URL must name a disk of zone '{zone}'.")
        disk = self.disk(zone, name)
        if disk.resource["status"] != "READY":
            raise errors.not_ready(disk.path)
        return disk

    def _disk_of_parameters(
        self, instance: Instance, index: int, parameters: Mapping[str, Any]
    ) -> Disk:
        default = instance.name if index == 0 else f"{instance.name}-{index}"
        what = f"resource.disks[{index}].initializeParams"
        body = {
            "sizeGb": parameters.get("diskSizeGb"),
            "type": parameters.get("diskType"),
            **parameters,
        }
        return self._new_disk(instance.zone, str(parameters.get("diskName") or default), body, what)

    def _new_disk(self, zone: str, name: str, body: Mapping[str, Any], what: str) -> Disk:
        if (zone, name) in self._disks:
            raise errors.already_exists(self._path(zone, "disks", name))
        return new_disk(self.project_id, zone, name, body, at=self._clock.now(), what=what)

    def _attach(self, instance: Instance, disks: Iterable[Disk]) -> None:
        for disk in disks:
            disk.resource["users"].append(link(instance.path))
            disk.resource["lastAttachTimestamp"] = timestamp(self._clock.now())
            disk.last_user = instance.name

    def _detach(self, instance: Instance, disk: Disk) -> None:
        disk.resource["users"].remove(link(instance.path))
        disk.resource["lastDetachTimestamp"] = timestamp(self._clock.now())

    def _users(self, disk: Disk) -> list[Instance]:
        """Return the instances that have the disk."""
        return [self._instances[disk.zone, _last(user)] for user in disk.resource["users"]]

    def _taken(self, instance: Instance) -> Failure | None:
        """Return why an instance that is being made cannot have a disk that is there already, if there is one such."""
        there = [
            (self._disks.get((instance.zone, _last(each["source"]))), each["mode"])
            for each in _disks_of(instance)
        ]
        return next(
            (held for disk, mode in there if disk and (held := self._held(disk, str(mode)))), None
        )

    def _held(self, disk: Disk, mode: str) -> Failure | None:
        """Return why nobody else can have the disk in this mode: only reading can be shared."""
        modes = {
            each["mode"]
            for user in self._users(disk)
            for each in _disks_of(user)
            if each["source"] == link(disk.path)
        }
        if not modes or modes | {mode} == {"READ_ONLY"}:
            return None
        return errors.disk_in_use(disk.path, path_of(disk.resource["users"][0]))

    def _attached(self, instance: Instance, device_name: str) -> Json:
        if attached := _attached_as(instance, device_name):
            return attached
        why = f"No attached disk found with device name '{device_name}'"
        raise errors.invalid_value("deviceName", device_name, why)

    def _next_address(self) -> str:
        self._addresses += 1
        return f"10.128.{self._addresses // 250 % 250}.{self._addresses % 250 + 2}"

    def _path(self, zone: str, kind: str, name: str) -> str:
        return f"projects/{self.project_id}/zones/{zone}/{kind}/{name}"


def _check_local_ssd(instance: Instance, discard: bool | None) -> None:
    """See that the caller has said what is to become of a local SSD, if the machine type comes with one."""
    if instance.machine_type.endswith("-lssd") and discard is None:
        raise errors.local_ssd_undecided()


def _disks_of(instance: Instance) -> list[Json]:
    disks: list[Json] = instance.resource["disks"]
    return disks


def _attached_as(instance: Instance, device_name: str) -> Json | None:
    return next((each for each in _disks_of(instance) if each["deviceName"] == device_name), None)


def _last(url: str) -> str:
    return url.rsplit("/", 1)[-1]
