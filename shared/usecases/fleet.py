"""The machines and disks of this installation as Compute listed them, by workspace."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from shared.domain.errors import UnavailableError
from shared.domain.instance import Disk, Instance, Place
from shared.domain.ownership import moved_machines, tied_to, workspace_id_of
from shared.domain.workspace import Workspace
from shared.ports import Clock, Machines

Resource = Instance | Disk
R = TypeVar("R", Instance, Disk)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What Compute's two lists had: everything that carries this installation's label.

    Attributes:
        listed_at: when the lists began. What is younger may be missing in them.
        resources: machines and disks by the id that sorts them (``_key``).
    """

    listed_at: datetime
    resources: Mapping[str, Sequence[Resource]]
    _keys: Sequence[str]
    _machines: Mapping[str, Sequence[Instance]]  # by name: in one zone, or in several
    _disk_names: frozenset[str]

    @classmethod
    def listed_by(cls, machines: Machines, clock: Clock, until: datetime) -> "Fleet":
        """Return what there is now.

        Raises:
            UnavailableError: Compute does not list everything, or not by ``until``. A list cannot
                be continued by another run: it would be of another time.
        """
        listed_at = clock()
        resources: dict[str, list[Resource]] = {}
        named: dict[str, list[Instance]] = {}
        for instance in _in_time(machines.list_instances(), clock, until):
            named.setdefault(instance.name, []).append(instance)
            resources.setdefault(_key(instance), []).append(instance)
        disk_names = set()
        for disk in _in_time(machines.list_disks(), clock, until):
            disk_names.add(disk.name)
            resources.setdefault(_key(disk), []).append(disk)
        return cls(listed_at, resources, sorted(resources), named, frozenset(disk_names))

    @property
    def size(self) -> int:
        """How many machines and disks there are."""
        return sum(len(each) for each in self.resources.values())

    def keys_in(self, after: str | None, upto: str | None) -> Sequence[str]:
        """Return the keys above ``after`` and at most ``upto``, in order; None is no end."""
        first = 0 if after is None else bisect_right(self._keys, after)
        end = len(self._keys) if upto is None else bisect_right(self._keys, upto)
        return self._keys[first:end]

    def machine_at(self, place: Place) -> Instance | None:
        """Return the machine at a place."""
        found = (each for each in self._machines.get(place.name, ()) if each.zone == place.zone)
        return next(found, None)

    def has_moved(self, workspace: Workspace) -> bool:
        """Say whether a workspace's machine is in other zones, and not in the recorded one."""
        named = self._machines.get(workspace.instance_name, ())
        here = any(each.zone == workspace.zone for each in named)
        moved = moved_machines(workspace, named)
        return bool(moved) and not here and workspace.operation is None

    def has_disk(self, name: str) -> bool:
        """Say whether a disk of this name is in any zone."""
        return name in self._disk_names

    def is_younger(self, resource: Resource) -> bool:
        """Say whether a machine or disk was made so late that the lists may not have it."""
        return resource.created_at is not None and resource.created_at >= self.listed_at


def _key(resource: Resource) -> str:
    """Return the id of the workspace with which a machine or disk is looked at."""
    return workspace_id_of(resource) or min(tied_to(resource), default="")


def _in_time(listed: Iterable[R], clock: Clock, until: datetime) -> Iterator[R]:
    for each in listed:
        if clock() > until:
            raise UnavailableError("Compute Engine's lists took longer than a run may take.")
        yield each
