"""What to do about machines, disks and snapshots that belong to no record: orphans.

An orphan is first stopped and reported. It is deleted when it has been off, or detached, for the
grace time: somebody may still want what is on it. Compute says since when, so the Hub does not have
to remember it. A snapshot is deleted when it is older than the grace time: since when it has no
record is not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.instance import (
    GLOBAL,
    Command,
    DeleteDisk,
    DeleteInstance,
    DeleteSnapshot,
    Disk,
    DiskSnapshot,
    Instance,
    InstanceState,
    LabelDisk,
    LabelInstance,
    LabelSnapshot,
    Place,
    StopInstance,
)
from shared.domain.ownership import (
    has_lost_labels,
    is_home_of,
    may_be_deleted,
    other_places,
    workspace_id_of,
    workspace_of_snapshot,
)
from shared.domain.policy import Policy
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import OldHome, Workspace

YOUNG = timedelta(hours=1)  # an insert that is still under way may have made what is younger
LEAST_LIMIT = 5  # so many orphans are never too many
_OFF = {InstanceState.TERMINATED, InstanceState.SUSPENDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanAction:
    """What is done about one orphan.

    ``command`` is None if it is only reported. ``event`` names the action, ``reason`` says why.
    ``ends_access``: nobody may log in to it any more.
    """

    place: Place
    workspace_id: str
    event: str
    reason: str
    command: Command | None = None
    ends_access: bool = False


def act_on_owned(workspace: Workspace, resource: Instance | Disk) -> OrphanAction | None:
    """Decide about a machine or disk of a live record. None if it is as it should be.

    Lost labels are put back, and a place other than the recorded one is reported. It is never
    stopped and never deleted. While an operation is under way, the place may be changing.
    """
    if has_lost_labels(workspace, resource):
        return label_again(workspace, resource)
    if workspace.operation is not None or not _is_elsewhere(workspace, resource):
        return None
    reason = (
        f"it is in zone {resource.zone}, "
        f"and workspace {workspace.id} is recorded in zone {workspace.zone}"
    )
    return OrphanAction(
        place=Place(resource.zone, resource.name),
        workspace_id=workspace.id,
        event="ResourceElsewhere",
        reason=reason,
    )


def report_tied(workspace: Workspace, resource: Instance | Disk) -> OrphanAction:
    """Return the report on a resource of no workspace that uses, or is used by, a workspace's."""
    reason = (
        f"no workspace has it, but it and a resource of workspace {workspace.id} use each other"
    )
    return OrphanAction(
        place=Place(resource.zone, resource.name),
        workspace_id=workspace.id,
        event="ResourceTied",
        reason=reason,
    )


def label_again(workspace: Workspace, resource: Instance | Disk) -> OrphanAction:
    """Return the action that puts the Hub's labels back on a machine or disk of a workspace."""
    place = Place(resource.zone, resource.name)
    label = LabelInstance if isinstance(resource, Instance) else LabelDisk
    command = label(place=place, workspace_id=workspace.id, owner_id=workspace.owner_id)
    return OrphanAction(
        place=place,
        workspace_id=workspace.id,
        event="LabelsRestored",
        reason=f"{resource.name} had lost labels of the Hub's",
        command=command,
    )


def _is_elsewhere(workspace: Workspace, resource: Instance | Disk) -> bool:
    if isinstance(resource, Instance):
        return bool(other_places(workspace, [resource]))
    zone = workspace.home_disk.zone if workspace.home_disk else workspace.zone
    return resource.name == workspace.disk_name and resource.zone != zone


def act_on_machine(instance: Instance, now: datetime, policy: Policy) -> OrphanAction | None:
    """Decide about a machine that belongs to no record. None if it is too young to be sure.

    Who could log in as its owner must not any more, even if somebody starts it again. That goes by
    the machine's name, as its deletion does: a machine that the Hub did not make is left alone.
    """
    if _young(instance.created_at, now, policy):
        return None
    place = Place(instance.zone, instance.name)
    off_since = instance.off_since or instance.created_at or now
    event = "OrphanFound"
    command: Command | None = None
    reason = f"no workspace has this machine; it is {instance.state}"
    if not may_be_deleted(instance.name):
        reason = "no workspace has this machine, and its name is not one of the Hub's"
    elif instance.state is InstanceState.RUNNING:
        event, command = "OrphanStopped", StopInstance(place)
        reason = "no workspace has this machine, and it runs"
    elif instance.state in _OFF and now - off_since >= policy.orphan_grace:
        event, command = "OrphanDeleted", DeleteInstance(place)
        since = f"{off_since:%Y-%m-%d %H:%M} UTC"
        reason = f"no workspace has this machine, and it has been off since {since}"
    return OrphanAction(
        place=place,
        workspace_id=workspace_id_of(instance) or "",
        event=event,
        reason=reason,
        command=command,
        ends_access=may_be_deleted(instance.name) and not isinstance(command, DeleteInstance),
    )


def act_on_disk(disk: Disk, now: datetime, policy: Policy) -> OrphanAction | None:
    """Decide about a disk that belongs to no record.

    None if it is too young to be sure, or if a machine uses it: then it goes with the machine.
    """
    if disk.in_use or _young(disk.created_at, now, policy):
        return None
    place = Place(disk.zone, disk.name)
    detached_at = disk.detached_at or disk.created_at
    event = "OrphanDiskFound"
    command: Command | None = None
    reason = "no workspace and no machine has this disk"
    if not may_be_deleted(disk.name):
        reason = "no workspace has this disk, and its name is not one of the Hub's"
    elif now - detached_at >= policy.orphan_grace:
        event, command = "OrphanDiskDeleted", DeleteDisk(place)
        since = f"{detached_at:%Y-%m-%d %H:%M} UTC"
        reason = f"no workspace has this disk, and no machine since {since}"
    return OrphanAction(
        place=place,
        workspace_id=workspace_id_of(disk) or "",
        event=event,
        reason=reason,
        command=command,
    )


def act_on_snapshot(snapshot: DiskSnapshot, now: datetime, policy: Policy) -> OrphanAction | None:
    """Decide about a snapshot that has no record. None if it is too young to be sure."""
    if _young(snapshot.created_at, now, policy):
        return None
    workspace_id = workspace_of_snapshot(snapshot.name)
    ours = workspace_id is not None and is_home_of(workspace_id, snapshot.source_disk)
    place = Place(GLOBAL, snapshot.name)
    event = "OrphanSnapshotFound"
    command: Command | None = None
    reason = "no record has this snapshot"
    if not ours:
        reason = "no record has this snapshot, and its name or its disk is not one of the Hub's"
    elif now - snapshot.created_at >= policy.orphan_grace:
        event, command = "OrphanSnapshotDeleted", DeleteSnapshot(place)
        reason = f"no record has this snapshot of {snapshot.created_at:%Y-%m-%d %H:%M} UTC"
    return OrphanAction(
        place=place,
        workspace_id=workspace_id or "",
        event=event,
        reason=reason,
        command=command,
    )


def delete_old_home(workspace: Workspace, old: OldHome) -> OrphanAction:
    """Return the action that deletes a disk that is a workspace's home no more (``old_homes``)."""
    place = Place(old.zone, old.name)
    return OrphanAction(
        place=place,
        workspace_id=workspace.id,
        event="OldHomeDeleted",
        reason="another disk is the home by now, and a snapshot has all that was on this one",
        command=DeleteDisk(place),
    )


def delete_old_machine(workspace: Workspace, old: OldHome) -> OrphanAction:
    """Return the action that deletes the machine of an old home in another zone."""
    place = Place(old.zone, workspace.instance_name)
    return OrphanAction(
        place=place,
        workspace_id=workspace.id,
        event="OldMachineDeleted",
        reason="the workspace has another home by now, and this machine is not needed any more",
        command=DeleteInstance(place),
    )


def label_snapshot_again(snapshot: Snapshot) -> OrphanAction:
    """Return the action that puts the Hub's labels back on a recorded snapshot."""
    place = snapshot.place
    return OrphanAction(
        place=place,
        workspace_id=snapshot.workspace_id,
        event="LabelsRestored",
        reason=f"{place.name} had lost labels of the Hub's",
        command=LabelSnapshot(
            place=place, workspace_id=snapshot.workspace_id, owner_id=snapshot.owner_id
        ),
    )


def too_many(actions: Sequence[OrphanAction], resources: int) -> bool:
    """Say whether there are more orphans to stop or delete than can be right.

    If the database is lost, every resource looks like an orphan.
    """
    destructive = (StopInstance, DeleteInstance, DeleteDisk, DeleteSnapshot)
    count = sum(isinstance(action.command, destructive) for action in actions)
    return count > max(LEAST_LIMIT, resources // 10)


def _young(created_at: datetime | None, now: datetime, policy: Policy) -> bool:
    return created_at is None or now - created_at < min(YOUNG, policy.orphan_grace)
