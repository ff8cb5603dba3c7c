"""The instances, disks and snapshots that exist, and what was kept on disks and snapshots when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

from localcloud.services.compute import errors
from localcloud.services.compute.resources import (
    Disk,
    Instance,
    Json,
    Operation,
    Snapshot,
    timestamp,
)
from localcloud.services.project import Project

Resource = TypeVar("Resource", Instance, Disk, Snapshot, Operation)

GONE = "GONE"  # in the history only: the disk or snapshot no longer exists
_HISTORY_KEPT = 100_000


class Collection(Generic[Resource]):
    """The resources of one kind, by zone and name.

    Args:
        project: the project of the resources.
        kind: the collection's name in Compute's paths, for example ``instances``.
        added: is called with each resource that exists from now on.
        removed: is called with each resource that no longer exists.
    """

    def __init__(
        self,
        project: Project,
        kind: str,
        added: Callable[[Resource], None] | None = None,
        removed: Callable[[Resource], None] | None = None,
    ) -> None:
        self._project = project
        self._kind = kind
        self._added: Callable[[Resource], None] | None = added
        self._removed: Callable[[Resource], None] | None = removed
        self._resources: dict[tuple[str, str], Resource] = {}

    def __len__(self) -> int:
        return len(self._resources)

    def __contains__(self, resource: Resource) -> bool:
        return self._resources.get((resource.zone, resource.name)) is resource

    def find(self, zone: str, name: str) -> Resource | None:
        """Return a resource, or None if it does not exist."""
        return self._resources.get((zone, name))

    def get(self, zone: str, name: str) -> Resource:
        """Return a resource.

        Raises:
            ComputeError: 404.
        """
        if resource := self.find(zone, name):
            return resource
        raise errors.not_found(self._project.path_of(zone, self._kind, name))

    def all(self) -> list[Resource]:
        """Return every resource, by zone and name."""
        return [self._resources[key] for key in sorted(self._resources)]

    def check_name_is_free(self, zone: str, name: str) -> None:
        """Refuse a name that a resource of the zone has.

        Raises:
            ComputeError: 409.
        """
        if self.find(zone, name):
            raise errors.already_exists(self._project.path_of(zone, self._kind, name))

    def add(self, resource: Resource) -> None:
        """Add a resource."""
        self._resources[resource.zone, resource.name] = resource
        if self._added:
            self._added(resource)

    def remove(self, resource: Resource) -> None:
        """Remove a resource if it exists."""
        if gone := self._resources.pop((resource.zone, resource.name), None):
            self._tell(gone)

    def remove_oldest(self) -> Resource:
        """Remove the resource that was added first, and return it."""
        resource = self._resources.pop(next(iter(self._resources)))
        self._tell(resource)
        return resource

    def clear(self) -> None:
        """Remove every resource."""
        while self._resources:
            self.remove_oldest()

    def _tell(self, resource: Resource) -> None:
        if self._removed:
            self._removed(resource)


class Inventory:
    """Everything that exists in a project.

    Args:
        project: the project.
        now: returns the time.
        disk_deleted: is called with each disk that no longer exists.
        snapshot_deleted: is called with each snapshot that no longer exists.

    Attributes:
        history: the states that disks and snapshots have entered, oldest first: time, kind, name,
            id, zone, source (the snapshot of a disk, the disk of a snapshot), and status, which is
            ``GONE`` at the end.
    """

    def __init__(
        self,
        project: Project,
        *,
        now: Callable[[], datetime],
        disk_deleted: Callable[[Disk], None],
        snapshot_deleted: Callable[[Snapshot], None],
    ) -> None:
        self.instances: Collection[Instance] = Collection(project, "instances")
        self.history: deque[Json] = deque(maxlen=_HISTORY_KEPT)
        self._now = now

        def disk_gone(disk: Disk) -> None:
            self._record(disk, GONE)
            disk_deleted(disk)

        def snapshot_gone(snapshot: Snapshot) -> None:
            self._record(snapshot, GONE)
            snapshot_deleted(snapshot)

        self.disks: Collection[Disk] = Collection(project, "disks", self.record, disk_gone)
        self.snapshots: Collection[Snapshot] = Collection(
            project, "snapshots", self.record, snapshot_gone
        )

    def holds(self, resource: Instance | Disk | Snapshot) -> bool:
        """Return whether a resource still exists."""
        if isinstance(resource, Instance):
            return resource in self.instances
        if isinstance(resource, Disk):
            return resource in self.disks
        return resource in self.snapshots

    def clear(self) -> None:
        """Remove everything, and forget the history."""
        self.instances.clear()
        self.disks.clear()
        self.snapshots.clear()
        self.history.clear()

    def record(self, resource: Disk | Snapshot) -> None:
        """Add the state of a disk or snapshot to the history."""
        self._record(resource, str(resource.resource["status"]))

    def _record(self, resource: Disk | Snapshot, status: str) -> None:
        disk = isinstance(resource, Disk)
        source = resource.source if isinstance(resource, Disk) else resource.disk
        self.history.append(
            {
                "time": timestamp(self._now()),
                "kind": "disks" if disk else "snapshots",
                "name": resource.name,
                "id": str(resource.resource["id"]),
                "zone": resource.zone,
                "source": source.name if source else None,
                "status": status,
            }
        )
