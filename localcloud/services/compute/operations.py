"""Long-running operations: how they start, where they are kept, and how they end."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from math import prod
from typing import NamedTuple

from localcloud.services.compute import failures
from localcloud.services.compute.active_faults import ActiveFaults
from localcloud.services.compute.clock import Timers
from localcloud.services.compute.failures import Failure
from localcloud.services.compute.inventory import Collection, Inventory
from localcloud.services.compute.resources import (
    Disk,
    Instance,
    Json,
    Operation,
    Snapshot,
    link,
    new_id,
    timestamp,
)
from localcloud.services.project import GLOBAL, Project

SYSTEM_USER = "system"
_KEPT = 10_000


class MethodCall(NamedTuple):
    """The call that starts an operation: its method and, if it has one, its requestId."""

    method: str
    request_id: str | None = None


class Operations:
    """The operations of a project; the last 10,000 are kept.

    Args:
        project: the project.
        inventory: what exists in the project.
        faults: change how an operation proceeds.
        timers: the time, and calls at a later time.
    """

    def __init__(
        self, project: Project, *, inventory: Inventory, faults: ActiveFaults, timers: Timers
    ) -> None:
        self.user = f"localcloud@{project.id}.iam.gserviceaccount.com"
        self._project = project
        self._inventory = inventory
        self._faults = faults
        self._timers = timers
        self._kept: Collection[Operation] = Collection(project, "operations")
        self._by_request_id: dict[str, Operation] = {}

    def get(self, zone: str, name: str) -> Operation:
        """Return an operation.

        Raises:
            ComputeError: 404, also if the fault ``lost_operation`` has struck it.
        """
        return self._kept.get(zone, name)

    def all(self) -> list[Operation]:
        """Return every operation, by zone and name."""
        return self._kept.all()

    def of_request(self, request_id: str) -> Operation | None:
        """Return the operation that a call with this requestId has started."""
        return self._by_request_id.get(request_id)

    def forget_all(self) -> None:
        """Forget every operation; whoever waits for one is woken."""
        for operation in self._kept.all():
            operation.done.set()
        self._kept.clear()
        self._by_request_id.clear()

    def begin(self, call: MethodCall, target: Instance | Disk | Snapshot) -> Operation:
        """Start the operation of a call on a resource."""
        faults = self._faults.operation_faults(call.method, target)
        operation = self._new(call, target, self.user)
        operation.time_factor = prod(fault.time_factor for fault in faults)
        operation.upload_factor = prod(fault.upload_factor for fault in faults)
        if not any(fault.loses_record for fault in faults):
            self._keep(operation, call.request_id)
        return operation

    def begin_system(
        self, method: str, instance: Instance, *, user: str, message: str | None = None
    ) -> Operation:
        """Start an operation that no call to this server has asked for."""
        operation = self._new(MethodCall(method), instance, user)
        if message:
            operation.resource["statusMessage"] = message
        self._keep(operation, None)
        return operation

    def finish(self, operation: Operation, failure: Failure | None = None) -> None:
        """Mark an operation DONE now."""
        operation.finish(self._timers.now(), failure)

    def begin_change(
        self,
        call: MethodCall,
        target: Instance | Disk | Snapshot,
        seconds: float,
        change: Callable[[], Failure | None],
    ) -> Operation:
        """Start an operation that changes a resource when it is done.

        It fails if the resource no longer exists then, or if ``change`` returns a failure.
        """
        operation = self.begin(call, target)

        def apply() -> None:
            if self._inventory.holds(target):
                self.finish(operation, change())
            else:
                self.finish(operation, failures.gone(target.path))

        self._timers.call_later(seconds * operation.time_factor, apply)
        return operation

    def _new(self, call: MethodCall, target: Instance | Disk | Snapshot, user: str) -> Operation:
        now = self._timers.now()
        parts = [
            "operation",
            str(int(now.timestamp() * 1000)),
            *(secrets.token_hex(size) for size in (6, 4, 4)),
        ]
        name = "-".join(parts)
        resource: Json = {
            "kind": "compute#operation",
            "id": new_id(),
            "name": name,
            "operationType": _operation_type(call.method),
            "targetLink": link(target.path),
            "targetId": str(target.resource["id"]),
            "status": "RUNNING",
            "user": user,
            "progress": 0,
            "insertTime": timestamp(now),
            "startTime": timestamp(now),
            "selfLink": link(self._project.path_of(target.zone, "operations", name)),
        }
        if target.zone != GLOBAL:
            resource["zone"] = link(f"{self._project.path}/zones/{target.zone}")
        if call.request_id:
            resource["clientOperationId"] = call.request_id
        return Operation(zone=target.zone, method=call.method, resource=resource)

    def _keep(self, operation: Operation, request_id: str | None) -> None:
        self._kept.add(operation)
        if request_id:
            self._by_request_id[request_id] = operation
        if len(self._kept) > _KEPT:
            oldest = self._kept.remove_oldest()
            self._by_request_id.pop(oldest.resource.get("clientOperationId", ""), None)


def _operation_type(method: str) -> str:
    """Return ``insert`` of ``instances.insert``; what the system does keeps its whole name."""
    kind, _, verb = method.partition(".")
    return verb if kind in {"instances", "disks", "snapshots"} else method
