"""The named faults: what can be made to go wrong in the local Compute Engine while it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

FAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "stock_out": "insert, start and resume: the operation ends with ZONE_RESOURCE_POOL_EXHAUSTED, every second one "
        "with ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS; the instance is what it was before",
        "quota_exceeded": "insert, start and resume: the operation ends with QUOTA_EXCEEDED; the instance is what it was",
        "rate_limited": "any call is refused with rateLimitExceeded, as 403 and 429 in turn; nothing has changed",
        "unavailable": "any call is refused with 503; nothing has changed",
        "html_502": "any call is answered 502 with a page of HTML, as by a Google front end; nothing has changed",
        "not_ready": "start, stop, suspend, resume and delete of an instance are refused with resourceNotReady; nothing has changed",
        "in_use": "disks.delete is refused with resourceInUseByAnotherResource: an instance called `holder` has the disk",
        "policy_forbids": "instances.insert: an organisation policy forbids it, by 412 conditionNotMet and, every second time, by an "
        "operation that ends with CONDITION_NOT_MET",
        "account_unknown": "instances.insert: the service account is not known yet, by 404 and, every second time, by an operation "
        "that ends with EXTERNAL_RESOURCE_NOT_FOUND",
        "ip_space_exhausted": "instances.insert: the operation ends with IP_SPACE_EXHAUSTED_WITH_DETAILS",
        "second_error": "insert, start and resume: the operation ends with two errors, a stock-out after one that says less; the "
        "instance is what it was before",
        "console_away": "getSerialPortOutput is refused, as 503, 400 and 403 in turn",
        "slow_operation": "the operation, and the states it leads through, take 20 times as long",
        "lost_operation": "the operation happens, but its record is gone: 404, and its requestId is unknown",
        "never_ready": "the machine boots, but its container never comes up: it reports nothing",
        "fails_at_boot": "the machine boots and reports that it failed (IMAGE_PULL_FAILED)",
        "fails_later": "the machine boots and reports ready, and after as long as a boot takes that it failed (CONTAINER_ENDS)",
        "suspend_unsupported": "the instance is SUSPENDING, then RUNNING again; the operation ends with an error",
        "preempted": "a running machine is reclaimed: TERMINATED by a compute.instances.preempted system operation",
        "vanished": "a running machine is deleted by hand, with its autoDelete disks",
    }
)

_METHODS_OF = {
    "disks": (
        "aggregatedList",
        "createSnapshot",
        "delete",
        "get",
        "insert",
        "list",
        "resize",
        "setLabels",
    ),
    "instances": (
        *(
            "aggregatedList",
            "attachDisk",
            "delete",
            "detachDisk",
            "get",
            "getSerialPortOutput",
            "insert",
            "list",
        ),
        *(
            "resume",
            "setDiskAutoDelete",
            "setLabels",
            "setMachineType",
            "setMetadata",
            "start",
            "stop",
            "suspend",
        ),
    ),
    "machineTypes": ("get",),
    "snapshots": ("get",),
    "zoneOperations": ("get", "list", "wait"),
    "zones": ("get", "list"),
}
METHODS: Final = tuple(
    f"{collection}.{method}" for collection, methods in _METHODS_OF.items() for method in methods
)

# These befall a guest at its boot.
GUEST_FAULTS: Final = ("never_ready", "fails_at_boot", "fails_later")
# These befall a machine, not a call.
MACHINE_FAULTS: Final = frozenset({*GUEST_FAULTS, "preempted", "vanished"})


@dataclass(kw_only=True)
class Fault:
    """One switched-on fault.

    `count` is how often it will still strike (None: for ever); the others narrow it down to a zone,
    an instance, or a method, written `instances.insert` or just `insert`. `in_use` belongs to the
    instance that had the disk last.
    """

    name: str
    count: int | None = None
    zone: str | None = None
    method: str | None = None
    instance: str | None = None

    def strikes(self, *, zone: str | None, method: str | None, instance: str | None) -> bool:
        """Return whether this fault is meant for what is going on."""
        return (
            self.count != 0
            and self.zone in {None, zone}
            and self.instance in {None, instance}
            and (
                self.method is None
                or (method is not None and self.method in {method, method.split(".")[-1]})
            )
        )


class Faults:
    """The faults that are switched on. State of one event loop: no locks."""

    def __init__(self) -> None:
        self._on: list[Fault] = []
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
        """Switch a fault on; the same one (name, zone, method, instance) once more replaces its count.

        Raises:
            ValueError: there is no fault or no method of that name, `count` is below 1, or a fault
                of machines is given a method.
        """
        if name not in FAULTS:
            raise ValueError(f"There is no fault '{name}'. There are: {', '.join(FAULTS)}.")
        if count is not None and count < 1:
            raise ValueError("count must be at least 1, or null for ever.")
        if method is not None and name in MACHINE_FAULTS:
            raise ValueError(f"'{name}' befalls machines, not calls: it takes no method.")
        if method is not None and not any(
            method in {known, known.split(".")[1]} for known in METHODS
        ):
            raise ValueError(f"There is no method '{method}'. There are: {', '.join(METHODS)}.")
        fault = Fault(name=name, count=count, zone=zone, method=method, instance=instance)
        self._on = [other for other in self._on if not _same_target(other, fault)]
        self._on.append(fault)

    def switch_off(self, name: str, *, zone: str | None = None) -> None:
        """Switch off every fault of this name, or those of one zone; none is on is not an error.

        Raises:
            ValueError: there is no fault of that name.
        """
        if name not in FAULTS:
            raise ValueError(f"There is no fault '{name}'. There are: {', '.join(FAULTS)}.")
        self._on = [
            fault for fault in self._on if fault.name != name or zone not in {None, fault.zone}
        ]

    def clear(self) -> None:
        """Switch everything off and forget what struck before."""
        self._on.clear()
        self._strikes.clear()

    def strike(
        self, name: str, *, zone: str | None, instance: str | None, method: str | None = None
    ) -> int:
        """Use up one strike of the fault if it is on for this zone, instance and method.

        Returns:
            0 when nothing happens; otherwise the how manieth strike of this name it is since the
            faults were cleared.
        """
        for fault in self._on:
            if fault.name == name and fault.strikes(zone=zone, method=method, instance=instance):
                if fault.count is not None:
                    fault.count -= 1
                self._strikes[name] = self._strikes.get(name, 0) + 1
                self._on = [other for other in self._on if other.count != 0]
                return self._strikes[name]
        return 0

    def describe(self) -> list[dict[str, Any]]:
        """Return what is on: name, count left, zone, method, instance, and what it does."""
        return [asdict(fault) | {"does": FAULTS[fault.name]} for fault in self._on]


def _same_target(one: Fault, other: Fault) -> bool:
    return (one.name, one.zone, one.method, one.instance) == (
        other.name,
        other.zone,
        other.method,
        other.instance,
    )
