"""What becomes of a disk that was a workspace's home, once another one is.

A RESTORE and a move make a new disk. The one that it replaces stays until the hourly sweep has seen
that a READY snapshot has all that is on it. So does a disk that was made and was not proven: its
snapshot is the one that it was made from. After a move, the former machine goes first. It is not
deleted if somebody has started it since the snapshot was taken, and neither is its disk then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from shared.domain.changes import Updated
from shared.domain.instance import Disk, DiskSnapshot, Instance, InstanceState, SnapshotStatus
from shared.domain.ownership import has_lost_labels
from shared.domain.snapshots import Snapshot, SnapshotState
from shared.domain.workspace import OldHome, Workspace

_DELETION = timedelta(minutes=10)  # in which a machine is gone that the Hub has deleted
_OFF = {InstanceState.SUSPENDED, InstanceState.TERMINATED}


class OldHomeFate(Enum):
    """What is done about an old home.

    It stays for now; it stays until a person does something about it; it stays because somebody has
    used it since its snapshot was taken; its machine is deleted; it is deleted itself; or it need
    not be known any more.
    """

    STAYS = "stays"
    LEFT = "left"
    USED = "used"
    MACHINE_GOES = "machine goes"
    GOES = "goes"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenOldHome:
    """What there is of an old home; None for what does not exist.

    ``machine`` is what has the workspace's machine's name in that zone. ``snapshot`` is the record
    of its snapshot, and ``there`` what Compute has of that.
    """

    disk: Disk | None
    machine: Instance | None = None
    snapshot: Snapshot | None = None
    there: DiskSnapshot | None = None


def fate_of(workspace: Workspace, old: OldHome, seen: SeenOldHome, now: datetime) -> OldHomeFate:
    """Decide about an old home of a workspace without an operation.

    If a person has deleted the snapshot since, its disk goes, too. One that does not exist is
    forgotten once no worker can be about to make it. A disk that is attached to another machine
    than its own, that has lost its labels, or of which there is no snapshot, is left to a person.
    Machine and disk stay if somebody has used them since the snapshot was taken. If a RESTORE or a
    move has failed and left a machine with it in another zone, the machine goes first: nobody has
    used it.
    """
    home = workspace.home_disk
    is_home = home is not None and (home.name, home.zone) == (old.name, old.zone)
    disk, snapshot, there = seen.disk, seen.snapshot, seen.there
    machine = seen.machine if seen.machine and seen.machine.id == old.instance_id else None
    if machine is not None and not old.outlived:
        return OldHomeFate.MACHINE_GOES
    if is_home:
        return OldHomeFate.FORGOTTEN
    if disk is None and machine is not None:  # somebody has deleted the disk, and not the machine
        return OldHomeFate.USED if _has_run(machine, old.copied_at) else OldHomeFate.MACHINE_GOES
    if disk is None:
        awaited = old.kept_until is not None and now < old.kept_until
        return OldHomeFate.STAYS if awaited else OldHomeFate.FORGOTTEN
    if not old.outlived and _is_left_elsewhere(workspace, old, seen.machine):
        return OldHomeFate.MACHINE_GOES
    if has_lost_labels(workspace, disk) or old.snapshot_id is None:
        return OldHomeFate.LEFT
    if {*disk.users} - ({workspace.instance_name} if machine is not None else set()):
        goes_on = disk.zone == workspace.zone and set(disk.users) == {workspace.instance_name}
        return OldHomeFate.STAYS if goes_on else OldHomeFate.LEFT
    let_go_at = old.detached_at or (None if old.outlived else old.copied_at)
    if let_go_at is not None and (disk.detached_at or let_go_at) > let_go_at:
        return OldHomeFate.USED
    copied_at = old.copied_at
    if snapshot is not None and snapshot.state is not SnapshotState.DELETING:
        if snapshot.state is SnapshotState.FAILED:
            return OldHomeFate.LEFT
        stored = there is not None and there.status is SnapshotStatus.READY
        if there is None or not stored or snapshot.state is not SnapshotState.READY:
            return OldHomeFate.STAYS
        copied_at = there.created_at
    if _is_used(old, disk, machine, copied_at):
        return OldHomeFate.USED
    return OldHomeFate.GOES if machine is None else OldHomeFate.MACHINE_GOES


def _is_left_elsewhere(workspace: Workspace, old: OldHome, machine: Instance | None) -> bool:
    """Say whether a machine that was not proven has the disk in another zone."""
    return machine is not None and machine.zone != workspace.zone and old.name in machine.disks


def _is_used(
    old: OldHome, disk: Disk, machine: Instance | None, copied_at: datetime | None
) -> bool:
    """Say whether somebody may have used an old home since its snapshot was taken.

    Its machine was off then, and had the disk: if it was detached since, another machine may have
    had it. Once the machine is gone, the time of its end tells, unless the Hub itself has deleted
    it by then.
    """
    if not old.outlived:
        return False
    if machine is not None and _has_run(machine, copied_at):
        return True
    if disk.detached_at is None:
        return False
    if old.deleting_since is not None:
        return disk.detached_at > old.deleting_since + _DELETION
    return copied_at is None or disk.detached_at > copied_at


def _has_run(machine: Instance, copied_at: datetime | None) -> bool:
    """Say whether a machine may have run since the snapshot of its home was taken."""
    off_since = machine.off_since if machine.state in _OFF else None
    return off_since is None or copied_at is None or off_since > copied_at


def with_deleting(workspace: Workspace, old: OldHome, now: datetime) -> Updated | None:
    """Note that the Hub has the machine of an old home deleted. None if the record has changed."""
    noted = tuple(
        replace(each, deleting_since=now) if each == old else each for each in workspace.old_homes
    )
    if noted == workspace.old_homes:
        return None
    return Updated(replace(workspace, old_homes=noted, updated_at=now), "OldMachineGoes")


def without_old_homes(
    workspace: Workspace, gone: Sequence[OldHome], now: datetime
) -> Updated | None:
    """Forget disks that are gone. None if they are forgotten."""
    left = tuple(each for each in workspace.old_homes if each not in gone)
    if left == workspace.old_homes:
        return None
    return Updated(replace(workspace, old_homes=left, updated_at=now), "OldHomesForgotten")
