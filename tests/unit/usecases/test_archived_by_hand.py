"""What somebody does by hand in Compute to what is left of an archived workspace."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.domain.errors import LastCopyGoneError
from shared.domain.instance import FaultKind, InsertInstance, Place
from shared.domain.lifecycle import NewMachine
from shared.domain.outlook import ExpectedKind, outlook
from shared.domain.snapshots import SnapshotState
from shared.domain.workspace import OperationKind, Status
from tests.fakes.machines import Mishap
from tests.fakes.world import place_of
from tests.unit.usecases.test_archiving import WORK, ZONES, Archiving

MORE = "what alice has written since"


@pytest.fixture
def archived() -> Archiving:
    """A Hub with an archived workspace that has an earlier snapshot, too."""
    archiving = Archiving()
    archiving.world.snapshot("alice", archiving.before.id, "earlier")
    archiving.world.run()
    archiving.world.stop("alice", archiving.before.id)
    archiving.world.run()
    archiving.start()
    archiving.archive()
    archiving.check_archived()
    return archiving


def sweep(archived: Archiving) -> list[str]:
    """Let some hours pass, with the sweep of the fleet; return what the trail says of them."""
    known = len(archived.world.store.events)
    for _ in range(3):
        assert archived.world.reconcile_fleet().failed == {}
        archived.world.pass_time(timedelta(hours=1))
    archived.world.run()
    return [event.what for event in archived.world.store.events[known:]]


def test_nobody_changes_what_is_archived_if_nothing_has_changed(archived: Archiving) -> None:
    """Neither the sweeps nor a look. All that is to come is the end of the retention."""
    before = archived.now
    archived.world.look(before)
    archived.world.run()

    assert sweep(archived) == []
    assert archived.now == before
    kinds = [each.kind for each in outlook(archived.now, archived.world.policy)]
    assert kinds == [ExpectedKind.DELETE]


def lose_copy(archived: Archiving) -> None:
    """Delete its home by hand."""
    archived.world.machines.delete_snapshot_by_hand(archived.copy.place.name)


def test_a_start_without_its_snapshot_says_what_can_be_done(archived: Archiving) -> None:
    """The record and the earlier snapshot stay. Nothing is made empty without being asked."""
    lose_copy(archived)
    assert sweep(archived) == ["SnapshotLost"]
    assert archived.copy.state is SnapshotState.FAILED
    assert (archived.now.status, archived.now.error) == (Status.SUSPENDED, None)

    error = archived.start().error

    assert error is not None
    assert (error.code, archived.now.status) == ("SNAPSHOT_GONE", Status.ERROR)
    assert "start it with empty_home" in error.message
    assert "make another workspace from one of them" in error.message
    assert archived.now.archived_at is not None
    assert archived.world.machines.disks == set()


def test_the_ways_out_of_an_archive_without_its_snapshot(archived: Archiving) -> None:
    """Another workspace from an earlier snapshot; or an empty home, and that snapshot restored."""
    lose_copy(archived)
    archived.start()
    world, its_id = archived.world, archived.before.id
    [earlier] = [each.id for each in world.store.snapshots.values() if each.name == "earlier"]

    fork = world.create("alice", "two", from_snapshot=earlier)
    world.run()
    made = world.workspace(fork.id)
    assert world.machines.content_of(Place(made.zone, made.disk_name)) == WORK
    world.delete("alice", fork.id, purge=True)
    world.start("alice", its_id, NewMachine(empty_home=True))
    world.run()
    assert (archived.now.status, archived.now.archived_at) == (Status.READY, None)
    assert archived.content != WORK
    world.restore("alice", its_id, earlier)
    world.run()

    assert (archived.now.status, archived.content) == (Status.READY, WORK)


def test_what_is_archived_without_its_snapshot_can_be_deleted(archived: Archiving) -> None:
    """It cannot be taken back then, and the answer says so."""
    lose_copy(archived)
    sweep(archived)
    archived.world.delete("alice", archived.before.id)
    archived.world.run()

    with pytest.raises(LastCopyGoneError):
        archived.world.undelete("alice", archived.before.id)


def test_a_disk_that_somebody_makes_under_the_homes_name_is_told_as_another_home(
    archived: Archiving,
) -> None:
    """As for any START without its disk: somebody may have restored it. The snapshot stays."""
    copy = archived.copy
    archived.world.machines.make_disk_by_hand(archived.home, {})
    assert sweep(archived) == []
    assert archived.world.machines.disks == {archived.home}

    archived.start()

    [told] = [each for each in archived.world.store.events if each.what == "HomeReplaced"]
    assert told.result.endswith("which the Hub has not made, is the home now.")
    assert archived.world.store.snapshots[copy.id].state is SnapshotState.READY
    assert archived.world.machines.content_of(copy.place) == WORK


def copied() -> Archiving:
    """Return a Hub with an archived workspace of whose machine somebody had made a copy."""
    archiving = Archiving()
    archiving.world.machines.copy_by_hand(place_of(archiving.before), ZONES[1])
    archiving.world.machines.write(archiving.home, MORE)
    archiving.archive()
    assert archiving.now.archived_at is not None
    return archiving


def test_a_copy_of_the_machine_in_another_zone_is_not_the_home() -> None:
    """It has an earlier state. It is only told that it is there, as before the ARCHIVE."""
    archiving = copied()
    archived = archiving.now
    archiving.world.look(archived)
    archiving.world.run()
    assert sweep(archiving) == []
    assert archiving.now == archived
    assert (archiving.start().status, archiving.content) == (Status.READY, MORE)


def test_a_copy_of_the_machine_in_another_zone_is_not_the_last_copy() -> None:
    """A DELETE deletes it, too, and the workspace is taken back with what it had."""
    archiving = copied()
    world, its_id = archiving.world, archiving.before.id
    world.delete("alice", its_id)
    world.run()
    assert (world.machines.instances, world.machines.disks) == ({}, set())
    assert len(world.store.snapshots) == 1
    world.undelete("alice", its_id)
    assert (archiving.start().status, archiving.content) == (Status.READY, MORE)


def test_a_machine_that_somebody_makes_of_what_was_there_is_followed() -> None:
    """With its disk, which is the home then. The snapshot stays as an automatic one."""
    archiving = Archiving()
    machines = archiving.world.machines
    machines.copy_by_hand(place_of(archiving.before), ZONES[1])
    archiving.archive()
    copy = archiving.copy
    machines.move_by_hand(Place(ZONES[1], archiving.before.instance_name), ZONES[0])

    assert "DriftFollowed" in sweep(archiving)

    assert (archiving.now.zone, archiving.now.archived_at) == (ZONES[0], None)
    assert archiving.now.home_disk is not None
    assert (archiving.start().status, archiving.content) == (Status.READY, WORK)
    assert archiving.world.store.snapshots[copy.id].state is SnapshotState.READY


def test_a_start_of_what_is_archived_that_fails_can_be_repeated_or_archived_again(
    archived: Archiving,
) -> None:
    """Its home is the snapshot still, so there is nothing to do for an ARCHIVE."""
    machines = archived.world.machines
    machines.script(InsertInstance, Mishap.REFUSED, FaultKind.POLICY)
    assert archived.start().status is Status.ERROR
    failed = archived.now

    assert archived.world.archive("alice", archived.before.id) == (failed, False)
    assert failed.error is not None
    assert failed.error.operation_kind is OperationKind.START
    assert (archived.start().status, archived.content) == (Status.READY, WORK)
