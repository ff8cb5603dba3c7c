"""The faults that are switched on, and whether one of them affects what is happening."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeVar

from localcloud.services.compute.errors import ComputeError
from localcloud.services.compute.failures import Failure
from localcloud.services.compute.fault_kinds import (
    CallFault,
    DiskCallFault,
    Fault,
    GuestFault,
    InstanceCallFault,
    InstanceOperationFault,
    MachineEvents,
    MachineFault,
    OperationFault,
    PolicyRace,
    SnapshotFault,
    Source,
    SourceFault,
    Strike,
)
from localcloud.services.compute.faults import FAULTS
from localcloud.services.compute.methods import METHODS
from localcloud.services.compute.resources import Disk, Instance, Snapshot
from localcloud.services.project import Project

_Kind = TypeVar("_Kind", bound=Fault)


class Place(NamedTuple):
    """Where a fault may strike: the zone, the instance's name, and the method of the call.

    ``instance`` is None if the call is about no instance, ``method`` if there is no call.
    """

    zone: str | None
    instance: str | None
    method: str | None = None


class SnapshotFailure(NamedTuple):
    """How a snapshot will fail; see ``SnapshotFault``."""

    failure: Failure
    after_capture: bool
    remains: bool


@dataclass(kw_only=True)
class _ActiveFault:
    """One fault that is on.

    ``count`` is how often it will still strike, None for always. The others narrow it down to a
    zone, to an instance, or to a method, which is given as ``instances.insert`` or ``insert``.
    """

    name: str
    count: int | None = None
    zone: str | None = None
    method: str | None = None
    instance: str | None = None

    @property
    def scope(self) -> tuple[str, str | None, str | None, str | None]:
        return self.name, self.zone, self.method, self.instance

    def covers(self, place: Place) -> bool:
        return (
            self.count != 0
            and self.zone in {None, place.zone}
            and self.instance in {None, place.instance}
            and (self.method is None or _is_called(place.method, self.method))
        )


class ActiveFaults:
    """The faults that are switched on. It belongs to one event loop and has no locks."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._on: list[_ActiveFault] = []
        self._strikes: dict[str, int] = {}

    def switch_on(
        self,
        name: str,
        *,
        count: int | None = None,
        zone: str | None = None,
        method: str | None = None,
        instance: str | None = None,
    ) -> None:
        """Switch a fault on. For the same name, zone, method and instance this replaces its count.

        Raises:
            ValueError: there is no fault or no method of that name, ``count`` is below 1, or a
                fault of machines is given a method.
        """
        fault = _known_fault(name)
        if count is not None and count < 1:
            raise ValueError("count must be at least 1, or null for always.")
        if method is not None and fault.affects_machines:
            raise ValueError(f"'{name}' affects machines, not calls: it takes no method.")
        if method is not None and not any(_is_called(known, method) for known in METHODS):
            raise ValueError(f"There is no method '{method}'. There are: {', '.join(METHODS)}.")
        new = _ActiveFault(name=name, count=count, zone=zone, method=method, instance=instance)
        self._on = [other for other in self._on if other.scope != new.scope]
        self._on.append(new)

    def switch_off(self, name: str, *, zone: str | None = None) -> None:
        """Switch off every fault of this name, or those of one zone. None may be on.

        Raises:
            ValueError: there is no fault of that name.
        """
        _known_fault(name)
        self._on = [
            fault for fault in self._on if fault.name != name or zone not in {None, fault.zone}
        ]

    def clear(self) -> None:
        """Switch every fault off, and count strikes from 1 again."""
        self._on.clear()
        self._strikes.clear()

    def describe(self) -> list[dict[str, Any]]:
        """Return each fault that is on: name, count left, zone, method, instance, what it does."""
        return [asdict(fault) | {"does": FAULTS[fault.name].does} for fault in self._on]

    def strike(self, name: str, place: Place) -> int:
        """Use up one strike of a fault if it is on for this place.

        Returns:
            0 if it does not strike; otherwise how often this fault has struck since the faults
            were cleared.
        """
        for fault in self._on:
            if fault.name == name and fault.covers(place):
                if fault.count is not None:
                    fault.count -= 1
                self._strikes[name] = self._strikes.get(name, 0) + 1
                self._on = [other for other in self._on if other.count != 0]
                return self._strikes[name]
        return 0

    def refuse_call(self, place: Place) -> None:
        """Refuse a call before it is read, if a fault says so.

        Raises:
            ComputeError: a fault strikes.
        """
        for fault, number in self._striking(CallFault, place):
            raise fault.refusal(Strike(project=self._project, target=None, number=number))

    def refuse_instance_call(self, method: str, instance: Instance) -> None:
        """Refuse a call on an instance, if a fault says so.

        Raises:
            ComputeError: a fault strikes.
        """
        place = Place(instance.zone, instance.name, method)
        for fault, number in self._striking(InstanceCallFault, place):
            raise fault.refusal(Strike(project=self._project, target=instance, number=number))

    def policy_race(self, instance: Instance) -> int:
        """Return the number of the strike if somebody changes the policy that was just read.

        0 if nobody does.
        """
        place = Place(instance.zone, instance.name, "instances.getIamPolicy")
        return next((number for _, number in self._striking(PolicyRace, place)), 0)

    def refuse_disk_call(self, method: str, disk: Disk) -> None:
        """Refuse a call on a disk, if a fault says so.

        Raises:
            ComputeError: a fault strikes.
        """
        place = Place(disk.zone, disk.last_user, method)
        for fault, number in self._striking(DiskCallFault, place):
            raise fault.refusal(Strike(project=self._project, target=disk, number=number))

    def failure_of(self, method: str, instance: Instance) -> Failure | None:
        """Return why an operation on an instance will fail, if a fault says so.

        Raises:
            ComputeError: the fault refuses the call instead.
        """
        place = Place(instance.zone, instance.name, method)
        for fault, number in self._striking(InstanceOperationFault, place):
            strike = Strike(project=self._project, target=instance, number=number)
            return _failure(fault.outcome(strike))
        return None

    def failure_of_source(self, place: Place, source: Source) -> Failure | None:
        """Return why nothing can be made from a disk or a snapshot, if a fault says so.

        Raises:
            ComputeError: the fault refuses the call instead.
        """
        for fault, number in self._striking(SourceFault, place):
            strike: Strike[Source] = Strike(project=self._project, target=source, number=number)
            return _failure(fault.outcome(strike))
        return None

    def failure_of_snapshot(self, method: str, snapshot: Snapshot) -> SnapshotFailure | None:
        """Return how the operation that takes a snapshot will fail, if a fault says so.

        Raises:
            ComputeError: the fault refuses the call instead.
        """
        place = Place(snapshot.disk.zone, snapshot.disk.last_user, method)
        for fault, number in self._striking(SnapshotFault, place):
            strike = Strike(project=self._project, target=snapshot, number=number)
            failure = _failure(fault.outcome(strike))
            return SnapshotFailure(failure, fault.after_capture, fault.remains)
        return None

    def operation_faults(
        self, method: str, target: Instance | Disk | Snapshot
    ) -> list[OperationFault]:
        """Return the faults that change how an operation proceeds; one per name at most.

        For a snapshot, they are those of the zone and the instance of its disk.
        """
        zone, name = target.zone, None
        if isinstance(target, Snapshot):
            zone, name = target.disk.zone, target.disk.last_user
        elif isinstance(target, Instance):
            name = target.name
        return [fault for fault, _ in self._striking(OperationFault, Place(zone, name, method))]

    def guest_fault(self, instance: Instance) -> GuestFault | None:
        """Return the fault that affects a guest that boots now, or None."""
        place = Place(instance.zone, instance.name)
        return next((fault for fault, _ in self._striking(GuestFault, place)), None)

    def strike_machine(self, machines: MachineEvents, instance: Instance) -> None:
        """Let the first fault that affects this running machine happen."""
        place = Place(instance.zone, instance.name)
        for fault, _ in self._striking(MachineFault, place):
            fault.event(machines, instance)
            return

    def _striking(self, kind: type[_Kind], place: Place) -> Iterator[tuple[_Kind, int]]:
        """Yield the faults of a kind that strike here, each with the number of its strike.

        A fault that is not asked for is not used up.
        """
        for fault in FAULTS.values():
            applies = fault.affects_machines or place.method in fault.methods
            if isinstance(fault, kind) and applies and (number := self.strike(fault.name, place)):
                yield fault, number


def _failure(outcome: ComputeError | Failure) -> Failure:
    """Return how an operation fails.

    Raises:
        ComputeError: it is the call that is refused.
    """
    if isinstance(outcome, ComputeError):
        raise outcome
    return outcome


def _known_fault(name: str) -> Fault:
    if name not in FAULTS:
        raise ValueError(f"There is no fault '{name}'. There are: {', '.join(FAULTS)}.")
    return FAULTS[name]


def _is_called(method: str | None, name: str) -> bool:
    """Return whether ``name`` is a method's full name, or its last part."""
    return method is not None and name in {method, method.rpartition(".")[2]}
