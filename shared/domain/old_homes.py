"""What becomes of a disk that was a workspace's home, once another one is.

A RESTORE makes a new disk. The one that it replaces stays until the hourly sweep has seen that a
READY snapshot has all that is on it. So does a disk that a RESTORE has made and that was not
proven: its snapshot is the one that was to be restored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from shared.domain.changes import Updated
from shared.domain.instance import Disk, DiskSnapshot, Instance, SnapshotStatus
from shared.domain.ownership import has_lost_labels
from shared.domain.snapshots import Snapshot, SnapshotState
from shared.domain.workspace import OldHome, Workspace


class OldHomeFate(Enum):
    """What is done about an old home.

    It stays, its machine is deleted, it is deleted itself, or it need not be known any more.
    """

    STAYS = "stays"
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


def fate_of(workspace: Workspace, old: OldHome, seen: SeenOldHome) -> OldHomeFate:
    """Decide about an old home of a workspace without an operation.

    If a person has deleted the snapshot since, its disk goes, too. A disk that is attached, that
    somebody has used since, or that the Hub has not made, stays. If a RESTORE has made a machine
    with it in another zone, and could not delete that because Compute did not answer, the machine
    goes first: nobody has used it.
    """
    home = workspace.home_disk
    is_home = home is not None and (home.name, home.zone) == (old.name, old.zone)
    disk, machine, snapshot, there = seen.disk, seen.machine, seen.snapshot, seen.there
    if disk is None or is_home:
        return OldHomeFate.FORGOTTEN
    if machine is not None and machine.zone != workspace.zone and old.name in machine.disks:
        return OldHomeFate.MACHINE_GOES
    if disk.in_use or old.snapshot_id is None or has_lost_labels(workspace, disk):
        return OldHomeFate.STAYS
    if old.detached_at is not None and (disk.detached_at or old.detached_at) > old.detached_at:
        return OldHomeFate.STAYS
    if snapshot is None or snapshot.state is SnapshotState.DELETING:
        return OldHomeFate.GOES
    stored = there is not None and there.status is SnapshotStatus.READY
    ready = stored and snapshot.state is SnapshotState.READY
    return OldHomeFate.GOES if ready else OldHomeFate.STAYS


def without_old_homes(
    workspace: Workspace, gone: Sequence[OldHome], now: datetime
) -> Updated | None:
    """Forget disks that are gone. None if they are forgotten."""
    left = tuple(each for each in workspace.old_homes if each not in gone)
    if left == workspace.old_homes:
        return None
    return Updated(replace(workspace, old_homes=left, updated_at=now), "OldHomesForgotten")
