"""The instances, disks, snapshots and operations of one project: Compute Engine without its HTTP.

Everything runs on one event loop, so there are no locks. Work that takes time is a timer of a clock
that is passed in.
"""

from __future__ import annotations

from localcloud.services.compute.active_faults import ActiveFaults
from localcloud.services.compute.attached_disks import AttachedDisks
from localcloud.services.compute.clock import Clock, LoopClock, Timers
from localcloud.services.compute.disks import Disks
from localcloud.services.compute.guests import Guests, NoGuests
from localcloud.services.compute.instances import Instances
from localcloud.services.compute.inventory import Inventory
from localcloud.services.compute.lifecycle import Lifecycle
from localcloud.services.compute.operations import Operations
from localcloud.services.compute.parts import SharedParts
from localcloud.services.compute.policies import Policies
from localcloud.services.compute.snapshots import Snapshots
from localcloud.services.compute.times import Times
from localcloud.services.project import Project


class Fleet:
    """All resources of one project, and the methods on them.

    Args:
        project: the project.
        times: how long work takes.
        faults: the faults that are switched on.
        guests: what runs inside the instances; by default nothing does.
        clock: by default the real time.

    Attributes:
        contents_history: see ``Inventory.history``.
    """

    def __init__(
        self,
        project: Project,
        *,
        times: Times,
        faults: ActiveFaults,
        guests: Guests | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._timers = Timers(clock or LoopClock())
        guests = guests or NoGuests()
        self._inventory = Inventory(
            project,
            now=self._timers.now,
            disk_deleted=guests.disk_deleted,
            snapshot_deleted=guests.snapshot_deleted,
        )
        self.operations = Operations(
            project, inventory=self._inventory, faults=faults, timers=self._timers
        )
        parts = SharedParts(
            project=project,
            times=times,
            faults=faults,
            timers=self._timers,
            inventory=self._inventory,
            operations=self.operations,
            contents=guests,
        )
        self.snapshots = Snapshots(parts)
        self.contents_history = self._inventory.history
        self.attached_disks = AttachedDisks(parts, self.snapshots)
        self.lifecycle = Lifecycle(parts, self.attached_disks, guests)
        self.instances = Instances(parts, self.lifecycle, self.attached_disks)
        self.disks = Disks(parts, self.attached_disks, self.snapshots)
        self.policies = Policies(parts)

    def reset(self) -> None:
        """Forget all resources and operations; whoever waits for an operation is woken."""
        self._timers.cancel_all()
        self.lifecycle.forget_all()
        self.operations.forget_all()
        self._inventory.clear()
