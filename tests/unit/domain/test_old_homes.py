"""What becomes of disks that were a workspace's home."""

from dataclasses import replace
from typing import Any

import pytest

from shared.domain.changes import Updated
from shared.domain.instance import SnapshotStatus
from shared.domain.old_homes import OldHomeFate, SeenOldHome, fate_of, without_old_homes
from shared.domain.snapshots import SnapshotState
from shared.domain.workspace import HomeDisk, OldHome, Workspace
from tests.fakes.records import NOW, a_disk_snapshot, a_home, a_snapshot, a_workspace, an_instance

STAYS, MACHINE_GOES, GOES, FORGOTTEN = OldHomeFate

# What differs from an old home that goes: of the disk, of its snapshot's record, of what there is
# of that in Compute. None: there is none.
FATES: list[tuple[OldHomeFate, Any, Any, Any]] = [
    (GOES, {}, {}, {}),
    (FORGOTTEN, None, {}, {}),
    (STAYS, {"users": ("a-machine",)}, {}, {}),
    (STAYS, {"labels": {}}, {}, {}),
    (STAYS, {}, {"state": SnapshotState.UPLOADING}, {}),
    (STAYS, {}, {"state": SnapshotState.FAILED}, {}),
    (STAYS, {}, {}, None),
    (STAYS, {}, {}, {"status": SnapshotStatus.FAILED}),
    (STAYS, {}, {}, {"status": SnapshotStatus.DELETING}),
    # a person has deleted the snapshot since
    (GOES, {}, {"state": SnapshotState.DELETING}, {}),
    (GOES, {}, None, None),
]


@pytest.mark.parametrize(("fate", "disk", "record", "there"), FATES)
def test_an_old_home_goes_only_if_all_that_is_on_it_is_stored(
    fate: OldHomeFate, disk: Any, record: Any, there: Any
) -> None:
    """One that is attached, or that the Hub has not made, stays as well."""
    workspace, old = _restored()
    on_disk = a_home(workspace, name=old.name)
    snapshot = a_snapshot(workspace, disk_name=old.name)
    stored = a_disk_snapshot(workspace, SnapshotStatus.READY, source_disk=old.name)

    assert fate is fate_of(
        workspace,
        old,
        SeenOldHome(
            disk=None if disk is None else replace(on_disk, **disk),
            snapshot=None if record is None else replace(snapshot, **record),
            there=None if there is None else replace(stored, **there),
        ),
    )


def test_an_old_home_without_a_snapshot_stays_and_a_present_home_is_no_old_one() -> None:
    """Whatever is recorded of it."""
    workspace, old = _restored()
    disk = a_home(workspace, name=old.name)

    unkept = fate_of(workspace, replace(old, snapshot_id=None), SeenOldHome(disk=disk))
    again = replace(workspace, home_disk=HomeDisk(old.name, old.zone))

    assert unkept is STAYS
    assert fate_of(again, old, SeenOldHome(disk=disk)) is FORGOTTEN


@pytest.mark.parametrize(
    ("machine", "fate"),
    [
        ({}, STAYS),
        ({"zone": "us-west1-b"}, MACHINE_GOES),
        ({"zone": "us-west1-b", "disks": ("another",)}, STAYS),
    ],
    ids=["the workspace's own", "one in another zone", "one without the disk"],
)
def test_a_machine_that_a_restore_has_left_in_another_zone_goes_before_its_disk(
    machine: dict[str, Any], fate: OldHomeFate
) -> None:
    """Nobody has used it. If somebody has attached the old disk elsewhere, it stays."""
    workspace, old = _restored()
    old = replace(old, zone=machine.get("zone", old.zone))
    disk = a_home(workspace, name=old.name, zone=old.zone, users=(workspace.instance_name,))
    instance = an_instance(workspace, **{"disks": ("boot", old.name), **machine})
    assert fate_of(workspace, old, SeenOldHome(disk=disk, machine=instance)) is fate


def test_only_disks_that_are_gone_are_forgotten() -> None:
    """The others stay; if none is gone, nothing is written."""
    workspace, old = _restored()
    other = replace(old, zone="us-west1-b")
    both = replace(workspace, old_homes=(old, other))

    change = without_old_homes(both, [old], NOW)

    assert change == Updated(
        replace(workspace, old_homes=(other,), updated_at=NOW), "OldHomesForgotten"
    )
    assert without_old_homes(workspace, [other], NOW) is None


def _restored() -> tuple[Workspace, OldHome]:
    """Return a workspace on a restored home, and its old home."""
    workspace = a_workspace()
    assert workspace.home_disk is not None
    old = OldHome(workspace.home_disk.name, workspace.home_disk.zone, "a-snapshot")
    home = HomeDisk(f"{old.name}-4", old.zone)
    return replace(workspace, home_disk=home, old_homes=(old,)), old
