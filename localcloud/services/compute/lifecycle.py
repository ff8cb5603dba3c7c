"""The states of an instance: how it gets from one to the next, by a call or without one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from localcloud.machines.homes import Copy
from localcloud.services.compute import errors, failures
from localcloud.services.compute.attached_disks import AttachedDisks
from localcloud.services.compute.clock import Timer
from localcloud.services.compute.failures import Failure
from localcloud.services.compute.guest import Boot
from localcloud.services.compute.guests import Guests
from localcloud.services.compute.operations import SYSTEM_USER, MethodCall
from localcloud.services.compute.parts import SharedParts
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
    Instance,
    Json,
    Operation,
    last_part,
    timestamp,
)

GONE = "GONE"  # in the history only: the instance no longer exists
_HISTORY_KEPT = 100_000
_SOMEBODY = "somebody@example.com"
_SETTLE_SECONDS = 0.02  # the pause between two looks at what is waited for


@dataclass(frozen=True, kw_only=True)
class BringUp:
    """How an instance is brought to RUNNING.

    Attributes:
        seconds: how long it takes.
        boots: whether its guest boots; otherwise the guest goes on where it was frozen.
        failure: why it will fail, if it will.
        undo: what happens to the instance then.
    """

    seconds: float
    boots: bool
    failure: Failure | None
    undo: Callable[[], None]


class Lifecycle:
    """Moves the instances of a fleet from state to state.

    Attributes:
        history: the states that instances have entered, oldest first: time, instance, id, zone,
            labels, and status, which is ``GONE`` at the end.
    """

    def __init__(self, parts: SharedParts, attached_disks: AttachedDisks, guests: Guests) -> None:
        self.history: deque[Json] = deque(maxlen=_HISTORY_KEPT)
        self._parts = parts
        self._attached_disks = attached_disks
        self._guests = guests
        self._next_steps: dict[Instance, Timer] = {}

    def forget_all(self) -> None:
        """End every guest, and forget the history."""
        for instance in self._parts.inventory.instances.all():
            self._guests.ended(instance)
        self._next_steps.clear()
        self.history.clear()

    def begin(self, call: MethodCall, instance: Instance) -> Operation:
        """Start an operation that changes the instance's state; a delete can overtake it."""
        operation = self._parts.operations.begin(call, instance)
        instance.operation = operation
        return operation

    def bring_up(self, instance: Instance, operation: Operation, how: BringUp) -> None:
        """Bring an instance to RUNNING, through PROVISIONING and STAGING."""
        self._enter(instance, PROVISIONING)
        half = how.seconds * operation.time_factor / 2

        def allocated() -> None:
            if how.failure:
                how.undo()
                self._finish(instance, operation, how.failure)
                return
            self._enter(instance, STAGING)
            self._next_when(lambda: self._disks_are_copied(instance), instance, half, prepared)

        def prepared() -> None:
            if not all(copy.is_whole for copy in self._copies(instance) if copy):
                how.undo()
                self._finish(instance, operation, failures.internal_error())
                return
            self._finish(instance, operation)
            self._stamp(instance, "lastStartTimestamp")
            self._run(instance, boots=how.boots)

        self._next(instance, half, allocated)

    def suspend(self, instance: Instance, operation: Operation, failure: Failure | None) -> None:
        """Freeze an instance; with a failure it is RUNNING again afterwards."""
        self._enter(instance, SUSPENDING)
        self._guests.frozen(instance)

        def saved() -> None:
            if failure:
                self._finish(instance, operation, failure)
                self._run(instance, boots=False)
                return
            self._stamp(instance, "lastSuspendedTimestamp")
            self.remain_suspended(instance)
            self._finish(instance, operation)

        seconds = self._parts.times.suspend * operation.time_factor
        self._next_settled(instance, seconds, saved)

    def stop(self, instance: Instance, operation: Operation) -> None:
        """Shut an instance down."""
        seconds = self._parts.times.stop * operation.time_factor
        self._shut_down(instance, seconds, lambda: self._terminate(instance, operation))

    def delete(self, instance: Instance, operation: Operation) -> None:
        """Shut an instance down, then remove it with its autoDelete disks."""
        instance.deleting = True

        def shut_down() -> None:
            self._remove(instance)
            self._finish(instance, operation)

        seconds = self._parts.times.delete * operation.time_factor
        self._shut_down(instance, seconds, shut_down)

    def remain_terminated(self, instance: Instance) -> None:
        """Let an instance be TERMINATED, as it was before."""
        self._enter(instance, TERMINATED)

    def remain_suspended(self, instance: Instance) -> None:
        """Let an instance be SUSPENDED until Compute shuts it down."""
        self._enter(instance, SUSPENDED)

        def expired() -> None:
            self._guests.ended(instance)
            message = "Instance was suspended for too long."
            self._terminate(instance, self._begin_system("stop", instance, message))

        self._next(instance, self._parts.times.suspended_limit, expired)

    def forget(self, instance: Instance) -> None:
        """Take an instance off its disks and out of the fleet."""
        if timer := self._next_steps.pop(instance, None):
            self._parts.timers.cancel(timer)
        self._parts.inventory.instances.remove(instance)
        self._record(instance, GONE)
        self._attached_disks.release(instance)

    # Without a call to Compute

    def strike_running(self) -> None:
        """Let the faults of machines that are on affect the machines that are RUNNING now."""
        for instance in self._parts.inventory.instances.all():
            if instance.status == RUNNING:
                self._parts.faults.strike_machine(self, instance)

    def host_error(self, zone: str, name: str) -> None:
        """Let the host of a RUNNING instance fail: it is REPAIRING.

        Then it boots again, or is TERMINATED without ``automaticRestart``.

        Raises:
            ComputeError: 404, or 400 if the instance is not RUNNING.
        """
        instance = self._parts.inventory.instances.get(zone, name)
        if instance.status != RUNNING:
            raise errors.not_ready(instance.path)
        restarts = instance.resource["scheduling"].get("automaticRestart", True)
        operation = self._begin_system(
            "compute.instances.hostError", instance, "Instance was terminated by a host error."
        )
        self._enter(instance, REPAIRING)
        self._guests.ended(instance)
        restart = BringUp(
            seconds=self._parts.times.start, boots=True, failure=None, undo=lambda: None
        )

        def repaired() -> None:
            if restarts:
                self.bring_up(instance, operation, restart)
            else:
                self._terminate(instance, operation)

        self._next(instance, self._parts.times.repair, repaired)

    def delete_by_hand(self, instance: Instance) -> None:
        """Delete an instance at once, as somebody outside the Hub would."""
        operations = self._parts.operations
        operation = operations.begin_system("instances.delete", instance, user=_SOMEBODY)
        operations.finish(operation)
        self._remove(instance)

    def preempt(self, instance: Instance) -> None:
        """Reclaim an instance: STOPPING, then TERMINATED."""
        operation = self._begin_system(
            "compute.instances.preempted", instance, "Instance was preempted."
        )
        self._switch_off(
            instance, self._parts.times.stop, lambda: self._terminate(instance, operation)
        )

    # The steps

    def _run(self, instance: Instance, *, boots: bool) -> None:
        self._enter(instance, RUNNING)
        if boots:
            fault = self._parts.faults.guest_fault(instance)
            boot = Boot(seconds=self._parts.times.boot, fault=fault)
            self._guests.booted(instance, boot, self._attached_disks.disk_called(instance, "home"))
        else:
            self._guests.thawed(instance)
        self._parts.faults.strike_machine(self, instance)

    def _shut_down(self, instance: Instance, seconds: float, then: Callable[[], None]) -> None:
        graceful = instance.resource["scheduling"].get("gracefulShutdown") or {}
        if instance.status == RUNNING and graceful.get("enabled"):
            self._enter(instance, PENDING_STOP)
            self._next(
                instance,
                self._parts.times.pending_stop,
                lambda: self._switch_off(instance, seconds, then),
            )
        else:
            self._switch_off(instance, seconds, then)

    def _switch_off(self, instance: Instance, seconds: float, then: Callable[[], None]) -> None:
        self._enter(instance, STOPPING)
        self._guests.ended(instance)
        self._next_settled(instance, seconds, then)

    def _terminate(self, instance: Instance, operation: Operation) -> None:
        self._enter(instance, TERMINATED)
        self._stamp(instance, "lastStopTimestamp")
        self._finish(instance, operation)

    def _remove(self, instance: Instance) -> None:
        self._guests.ended(instance)
        self.forget(instance)
        self._attached_disks.delete_automatically(instance)

    def _begin_system(self, method: str, instance: Instance, message: str) -> Operation:
        operation = self._parts.operations.begin_system(
            method, instance, user=SYSTEM_USER, message=message
        )
        instance.operation = operation
        return operation

    def _finish(
        self, instance: Instance, operation: Operation, failure: Failure | None = None
    ) -> None:
        self._parts.operations.finish(operation, failure)
        if instance.operation is operation:
            instance.operation = None

    def _next(self, instance: Instance, seconds: float, step: Callable[[], None]) -> None:
        """Plan the instance's next step; it replaces the one that was planned before."""
        if timer := self._next_steps.pop(instance, None):
            self._parts.timers.cancel(timer)
        self._next_steps[instance] = self._parts.timers.call_later(seconds, step)

    def _next_settled(self, instance: Instance, seconds: float, step: Callable[[], None]) -> None:
        """Plan the next step for when the guest is as it was told, but not before this time."""
        self._next_when(lambda: self._guests.is_settled(instance), instance, seconds, step)

    def _next_when(
        self,
        condition: Callable[[], bool],
        instance: Instance,
        seconds: float,
        step: Callable[[], None],
    ) -> None:
        """Plan the next step for when a condition holds, but not before this time."""

        def look() -> None:
            if condition():
                step()
            else:
                self._next(instance, _SETTLE_SECONDS, look)

        self._next(instance, seconds, look)

    def _disks_are_copied(self, instance: Instance) -> bool:
        """Whether all that the disks of an instance are made from is on them."""
        return None not in self._copies(instance)

    def _copies(self, instance: Instance) -> list[Copy | None]:
        disks = self._attached_disks.disks_of(instance)
        return [self._guests.copy_to(disk) for disk in disks]

    def _enter(self, instance: Instance, status: str) -> None:
        instance.resource["status"] = status
        self._record(instance, status)

    def _record(self, instance: Instance, status: str) -> None:
        self.history.append(
            {
                "time": timestamp(self._parts.timers.now()),
                "instance": instance.name,
                "id": instance.id,
                "zone": instance.zone,
                "labels": dict(instance.resource.get("labels", {})),
                "disks": [last_part(attached["source"]) for attached in instance.disks],
                "status": status,
            }
        )

    def _stamp(self, instance: Instance, name: str) -> None:
        instance.resource[name] = timestamp(self._parts.timers.now())
