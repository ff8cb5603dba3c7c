"""Machines and disks of this installation that no record knows: what is done about them, decided without doing it.

An orphan is first stopped and reported; it is deleted when it has been off, or detached, for the grace time: somebody may
still want what is on it. Compute itself says since when, so nothing has to be remembered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.instance import (
    Command,
    DeleteDisk,
    DeleteInstance,
    Disk,
    Instance,
    InstanceState,
    Place,
    StopInstance,
)
from shared.domain.policy import Policy
from shared.domain.workspace import Workspace

YOUNG = timedelta(hours=1)  # an insert that is still on its way may own what is younger
LEAST_LIMIT = 5
_OFF = {InstanceState.TERMINATED, InstanceState.SUSPENDED}


@dataclass(frozen=True, slots=True)
class Act:
    """What is done about one orphan: ``command``, or None where it is only reported; ``event`` names it, ``reason`` says why."""

    place: Place
    workspace_id: str
    event: str
    reason: str
    command: Command | None = None


def owns_machine(workspace: Workspace | None, instance: Instance) -> bool:
    """Say whether a record accounts for a machine: it is where the record says, or its operation may still be moving it."""
    if workspace is None:
        return False
    here = (workspace.instance_name, workspace.zone) == (instance.name, instance.zone)
    return here or workspace.operation is not None


def owns_disk(workspace: Workspace | None, disk: Disk) -> bool:
    """Say whether a record accounts for a disk."""
    if workspace is None:
        return False
    zone = workspace.home_disk.zone if workspace.home_disk else workspace.zone
    return disk.zone == zone or workspace.operation is not None


def act_on_machine(instance: Instance, now: datetime, policy: Policy) -> Act | None:
    """Decide about a machine that no record accounts for. None: it is too young to be sure."""
    place = Place(instance.zone, instance.name)
    workspace_id = instance.workspace_id or ""
    if _young(instance.created_at, now, policy):
        return None
    if instance.state is InstanceState.RUNNING:
        reason = "no workspace has this machine, and it runs"
        return Act(place, workspace_id, "OrphanStopped", reason, StopInstance(place))
    off_since = instance.off_since or instance.created_at or now
    if instance.state in _OFF and now - off_since >= policy.orphan_grace:
        reason = f"no workspace has this machine, and it has been off since {off_since:%Y-%m-%d %H:%M} UTC"
        return Act(place, workspace_id, "OrphanDeleted", reason, DeleteInstance(place))
    return Act(place, workspace_id, "OrphanFound", f"no workspace has this machine; it is {instance.state}")


def act_on_disk(disk: Disk, now: datetime, policy: Policy) -> Act | None:
    """Decide about a disk that no record accounts for. None: too young, or a machine has it and it goes with that."""
    if disk.in_use or _young(disk.created_at, now, policy):
        return None
    place = Place(disk.zone, disk.name)
    detached_at = disk.detached_at or disk.created_at
    if now - detached_at >= policy.orphan_grace:
        reason = f"no workspace has this disk, and no machine since {detached_at:%Y-%m-%d %H:%M} UTC"
        return Act(place, disk.workspace_id or "", "OrphanDiskDeleted", reason, DeleteDisk(place))
    return Act(place, disk.workspace_id or "", "OrphanDiskFound", "no workspace and no machine has this disk")


def too_many(acts: Sequence[Act], resources: int) -> bool:
    """Say whether so many orphans are more likely our mistake than theirs: a lost database makes orphans of everything."""
    return sum(act.command is not None for act in acts) > max(LEAST_LIMIT, resources // 10)


def _young(created_at: datetime | None, now: datetime, policy: Policy) -> bool:
    return created_at is None or now - created_at < min(YOUNG, policy.orphan_grace)
