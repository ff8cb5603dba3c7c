"""What becomes of a disk that was a workspace's home, once another one is.

A RESTORE makes a new disk. The one that it replaces stays until the hourly sweep has seen that a
READY snapshot has all that is on it. So does a disk that a RESTORE has made and that was not
proven: its snapshot is the one that was to be restored.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum

from shared.domain.changes import Updated
from shared.domain.instance import Disk, DiskSnapshot, SnapshotStatus
from shared.domain.ownership import has_lost_labels
from shared.domain.snapshots import Snapshot, SnapshotState
from shared.domain.workspace import OldHome, Workspace


class OldHomeFate(Enum):
    """What is done about an old home: it stays, it is deleted, or it need not be known any more."""

    STAYS = "stays"
    GOES = "goes"
    FORGOTTEN = "forgotten"


def fate_of(
    workspace: Workspace,
    old: OldHome,
    disk: Disk | None,
    snapshot: Snapshot | None,
    there: DiskSnapshot | None,
) -> OldHomeFate:
    """Decide about an old home of a workspace without an operation.

    ``disk`` is what is at its place. ``snapshot`` is the record of its snapshot, and ``there`` what
    Compute has of that; None if there is none. If a person has deleted the snapshot since, its disk
    goes, too. A disk that is attached, or that the Hub has not made, stays.
    """
    home = workspace.home_disk
    is_home = home is not None and (home.name, home.zone) == (old.name, old.zone)
    if disk is None or is_home:
        return OldHomeFate.FORGOTTEN
    if disk.in_use or old.snapshot_id is None or has_lost_labels(workspace, disk):
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
