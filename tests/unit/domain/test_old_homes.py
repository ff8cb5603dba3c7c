"""What becomes of disks that were a workspace's home."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.changes import Updated
from shared.domain.instance import InstanceState, SnapshotStatus
from shared.domain.old_homes import OldHomeFate, SeenOldHome, fate_of, without_old_homes
from shared.domain.snapshots import SnapshotState
from shared.domain.workspace import HomeDisk, OldHome, Workspace
from tests.fakes.records import NOW, a_disk_snapshot, a_home, a_snapshot, a_workspace, an_instance

STAYS, LEFT, USED, MACHINE_GOES, GOES, FORGOTTEN = OldHomeFate
LATER = NOW + timedelta(minutes=1)

# What differs from an old home that goes: of the disk, of its snapshot's record, of what there is
# of that in Compute. None: there is none.
FATES: list[tuple[OldHomeFate, Any, Any, Any]] = [
    (GOES, {}, {}, {}),
    (FORGOTTEN, None, {}, {}),
    (LEFT, {"users": ("a-machine",)}, {}, {}),
    (LEFT, {"labels": {}}, {}, {}),
    (STAYS, {}, {"state": SnapshotState.UPLOADING}, {}),
    (LEFT, {}, {"state": SnapshotState.FAILED}, None),
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
    """One that is attached, or has lost its labels, is left to a person."""
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
        NOW,
    )


# What differs from the old home of a move whose machine was off before the snapshot was taken, and
# is there: of the old home, of the machine, of the disk.
MACHINES: list[tuple[OldHomeFate, Any, Any, Any]] = [
    (MACHINE_GOES, {}, {}, {}),
    (MACHINE_GOES, {}, {"state": InstanceState.SUSPENDED}, {}),
    (USED, {}, {"off_since": LATER}, {}),
    (USED, {}, {"state": InstanceState.RUNNING}, {}),
    (USED, {}, {"state": InstanceState.SUSPENDING}, {}),
    (USED, {}, {"off_since": None}, {}),
    (LEFT, {}, {"id": "made anew by hand"}, {}),
    # somebody has attached the disk to another machine
    (LEFT, {}, {}, {"users": ("another",)}),
    (USED, {}, {}, {"users": (), "detached_at": LATER}),
    (MACHINE_GOES, {}, {}, {"users": (), "detached_at": NOW}),
    # the machine is gone
    (GOES, {"deleting_since": LATER}, None, {"detached_at": LATER + timedelta(minutes=5)}),
    (USED, {"deleting_since": NOW}, None, {"detached_at": NOW + timedelta(minutes=11)}),
    (GOES, {}, None, {"detached_at": NOW}),
    (USED, {}, None, {"detached_at": LATER}),
    (USED, {"instance_id": None}, None, {"detached_at": LATER}),
    # a move that failed has made it, and nobody was let in
    (MACHINE_GOES, {"outlived": False}, {"state": InstanceState.RUNNING}, {}),
    (GOES, {"outlived": False}, None, {"detached_at": LATER}),
]


@pytest.mark.parametrize(("fate", "old_home", "machine", "disk"), MACHINES)
def test_the_machine_of_a_move_goes_first_unless_somebody_has_used_it_since(
    fate: OldHomeFate, old_home: Any, machine: Any, disk: Any
) -> None:
    """Then it stays, and so does what was written."""
    workspace, old = _restored()
    moved = replace(workspace, zone="us-west1-b")
    old = replace(old, instance_id="77", outlived=True)
    there = an_instance(moved, InstanceState.TERMINATED, id="77", zone=old.zone, off_since=NOW)
    seen = SeenOldHome(
        disk=replace(
            a_home(moved, name=old.name, zone=old.zone),
            **{"users": () if machine is None else (there.name,), **disk},
        ),
        machine=None if machine is None else replace(there, **machine),
        snapshot=a_snapshot(moved, disk_name=old.name),
        there=a_disk_snapshot(moved, SnapshotStatus.READY, source_disk=old.name, created_at=NOW),
    )
    assert fate_of(moved, replace(old, **old_home), seen, NOW) is fate


def test_an_old_home_without_a_snapshot_is_left_and_a_present_home_is_no_old_one() -> None:
    """Whatever is recorded of it."""
    workspace, old = _restored()
    disk = a_home(workspace, name=old.name)

    unkept = fate_of(workspace, replace(old, snapshot_id=None), SeenOldHome(disk=disk), NOW)
    again = replace(workspace, home_disk=HomeDisk(old.name, old.zone))

    assert unkept is LEFT
    assert fate_of(again, old, SeenOldHome(disk=disk), NOW) is FORGOTTEN


@pytest.mark.parametrize(
    ("machine", "fate"),
    [
        ({}, STAYS),
        ({"zone": "us-west1-b"}, MACHINE_GOES),
        ({"zone": "us-west1-b", "disks": ("another",)}, LEFT),
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
    assert fate_of(workspace, old, SeenOldHome(disk=disk, machine=instance), NOW) is fate


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


def test_a_disk_that_a_worker_may_be_about_to_make_is_known_until_none_can_be() -> None:
    """Then it is forgotten, if it is not there."""
    workspace, old = _restored()
    awaited, nothing = replace(old, kept_until=LATER), SeenOldHome(disk=None)
    assert fate_of(workspace, awaited, nothing, NOW) is STAYS
    assert fate_of(workspace, awaited, nothing, LATER) is FORGOTTEN
