"""The last copy of a home that a DELETE takes away: what is in it, and what is left without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.deleted import DeletedWorkspace
from shared.domain.instance import (
    Command,
    CreateSnapshot,
    DeleteDisk,
    Disk,
    FaultKind,
    InsertInstance,
    Place,
    SnapshotStatus,
)
from shared.domain.lifecycle import NewMachine
from shared.domain.reports import ReportEvent
from shared.domain.snapshots import Consistency, SnapshotState
from shared.domain.steps.failing import LAST_COPY_NOT_MADE
from shared.domain.workspace import HomeDisk, OperationKind, Phase, Status, Workspace
from tests.fakes.machines import Durations, Mishap
from tests.fakes.world import World, place_of

ZONES = ("us-west1-a", "us-west1-b", "us-west1-c")
WORK = "what alice has written"


@dataclass
class Deleting:
    """A Hub with a workspace of alice's, in whose home she has worked."""

    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        """Make it."""
        self.world.policy = replace(self.world.policy, zones=ZONES)
        self.before = self.world.ready()
        self.home = Place(self.before.zone, self.before.disk_name)
        self.world.machines.write(self.home, WORK)

    @property
    def now(self) -> Workspace:
        """The record as it is now."""
        return self.world.workspace(self.before.id)

    @property
    def entry(self) -> DeletedWorkspace | None:
        """What is kept of it."""
        return self.world.store.deleted.get(self.before.id)

    @property
    def content(self) -> str | None:
        """What is in the home."""
        return self.world.machines.content_of(Place(self.now.zone, self.now.disk_name))

    @property
    def kept(self) -> str | None:
        """What is in the last copy; None if nothing of it is kept."""
        if self.entry is None:
            return None
        copy = self.world.store.snapshots[self.entry.snapshot_id]
        there = self.world.machines.peek_snapshot(copy.place.name)
        assert there is not None
        assert there.status is SnapshotStatus.READY
        return self.world.machines.content_of(copy.place)

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way."""
        record = self.world.store.workspaces.get(self.before.id)
        return record is None or record.operation is None

    def delete(self, *, purge: bool = False) -> None:
        """Delete it, and let that end."""
        self.world.delete("alice", self.before.id, purge=purge)
        self.world.run(lambda: self.is_over)
        self.world.run()

    def until(self, phase: Phase) -> None:
        """Ask for the DELETE, and go on until it has come to a phase."""
        self.world.delete("alice", self.before.id)
        self.world.run(lambda: self.is_over or self._phase is phase)
        assert not self.is_over

    @property
    def _phase(self) -> Phase | None:
        operation = self.now.operation
        return operation.phase if operation else None

    def start(self) -> Workspace:
        """Start it, and let that end."""
        self.world.start("alice", self.before.id)
        self.world.run()
        return self.now

    def undelete(self) -> Workspace:
        """Take it back, and start it."""
        self.world.undelete("alice", self.before.id)
        return self.start()

    def calls(self, kind: type[Command]) -> int:
        """Return how many calls of this kind Compute got."""
        return sum(isinstance(command, kind) for command, _ in self.world.machines.calls)

    def check_nothing_left(self) -> None:
        """Check that neither the Hub nor Compute has anything of it."""
        store, machines = self.world.store, self.world.machines
        assert (machines.instances, machines.disks, machines.snapshots) == ({}, set(), {})
        assert (dict(store.workspaces), dict(store.snapshots), dict(store.deleted)) == ({}, {}, {})


@pytest.fixture
def deleting() -> Deleting:
    """A Hub with a home that can be deleted."""
    return Deleting()


# ---- what is in it ----


def ready(_: Deleting) -> None:
    """Leave it READY."""


def suspended(deleting: Deleting) -> None:
    """Suspend it."""
    deleting.world.stop("alice", deleting.before.id)
    deleting.world.run()


def off(deleting: Deleting) -> None:
    """Shut its machine down by hand."""
    deleting.world.machines.stop_by_hand(place_of(deleting.before))
    deleting.world.pass_time(timedelta(minutes=5))
    deleting.world.look(deleting.before)
    deleting.world.run()


def failed(deleting: Deleting) -> None:
    """Have its running machine say that it has failed."""
    machine = deleting.world.machine(deleting.before)
    assert machine is not None
    deleting.world.report(machine.report(ReportEvent.FAILED, "CONTAINER_ENDS", "It ends."))


def gone(deleting: Deleting) -> None:
    """Delete its machine by hand."""
    deleting.world.machines.delete_by_hand(place_of(deleting.before))
    deleting.world.look(deleting.before)
    deleting.world.run()


@pytest.mark.parametrize("prepare", [ready, suspended, off, failed, gone])
def test_a_last_copy_has_what_was_written_until_the_machine_was_gone(
    deleting: Deleting, prepare: Callable[[Deleting], None]
) -> None:
    """Seen from outside: no snapshot before the machine is gone, the disk until it is stored."""
    prepare(deleting)
    machines, written = deleting.world.machines, WORK
    seen: list[tuple[bool, bool, bool]] = []

    def look() -> bool:
        nonlocal written
        stored = SnapshotStatus.READY in machines.snapshots.values()
        now = (bool(machines.instances), stored, deleting.home in machines.disks)
        if now[0]:
            written = f"what was written at {deleting.world.clock()}"
            machines.write(deleting.home, written)
            assert machines.snapshots == {}
        if now not in seen[-1:]:
            seen.append(now)
        return deleting.is_over

    deleting.world.delete("alice", deleting.before.id)
    deleting.world.run(look)

    there = [(True, False, True)] if prepare is not gone else []
    assert seen == [*there, (False, False, True), (False, True, True), (False, True, False)]
    assert deleting.kept == written
    assert (deleting.calls(CreateSnapshot), deleting.calls(DeleteDisk)) == (1, 1)
    [copy] = deleting.world.store.snapshots.values()
    assert (copy.automatic, copy.consistency) == (True, Consistency.CRASH)
    deleting.undelete()
    assert (deleting.now.status, deleting.content) == (Status.READY, written)


def unused(_: Deleting) -> None:
    """Let nobody use the home."""


def used_elsewhere(deleting: Deleting) -> None:
    """Let another machine use the home for a while."""
    deleting.world.machines.hold_disk_by_hand(deleting.home)
    deleting.world.machines.write(deleting.home, "what another machine has written")
    deleting.world.machines.release_disk_by_hand(deleting.home)


def lost(deleting: Deleting) -> None:
    """Lose the snapshot that has what is in the home."""
    [copy] = deleting.world.store.snapshots.values()
    deleting.world.machines.delete_snapshot_by_hand(copy.place.name)


def started_since(deleting: Deleting) -> None:
    """Let a machine of the Hub use the home, and be deleted."""
    deleting.start()
    deleting.world.machines.write(deleting.home, "what was written since")
    gone(deleting)


@pytest.mark.parametrize(
    ("meanwhile", "taken"), [(unused, 0), (used_elsewhere, 1), (lost, 1), (started_since, 1)]
)
def test_a_snapshot_that_has_all_that_is_in_the_home_is_the_last_copy(
    deleting: Deleting, meanwhile: Callable[[Deleting], None], taken: int
) -> None:
    """It was taken since a machine last had the disk. If one may have had it since, it is not."""
    gone(deleting)
    deleting.world.snapshot("alice", deleting.before.id, "last")
    deleting.world.run()
    meanwhile(deleting)
    present = deleting.content

    deleting.delete()

    assert deleting.kept == present
    assert deleting.calls(CreateSnapshot) == 1 + taken


def test_a_snapshot_of_an_earlier_generation_is_not_the_last_copy(
    deleting: Deleting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub knows that it has booted a machine since, whatever Compute says of the disk."""
    gone(deleting)
    deleting.world.snapshot("alice", deleting.before.id, "last")
    deleting.world.run()
    started_since(deleting)
    get_disk = deleting.world.machines.get_disk

    def without_time(place: Place) -> Disk | None:
        disk = get_disk(place)
        return replace(disk, detached_at=None) if disk else None

    monkeypatch.setattr(deleting.world.machines, "get_disk", without_time)

    deleting.delete()

    assert deleting.kept == "what was written since"


def test_a_home_that_another_machine_has_is_kept_when_it_lets_go(deleting: Deleting) -> None:
    """No snapshot is taken before: what is written after it would be lost."""
    held(deleting)
    deleting.world.delete("alice", deleting.before.id)
    deleting.world.pass_time(timedelta(minutes=5))
    assert deleting.calls(CreateSnapshot) == 0
    deleting.world.machines.write(deleting.home, "what the other machine has written")
    deleting.world.machines.release_disk_by_hand(deleting.home)

    deleting.world.run()

    assert deleting.kept == "what the other machine has written"
    assert deleting.calls(CreateSnapshot) == 1


def test_a_snapshot_of_a_machine_that_ran_is_not_the_last_copy(deleting: Deleting) -> None:
    """What was written after it is in no snapshot, though the same machine has had the disk."""
    deleting.world.snapshot("alice", deleting.before.id, "while-it-ran")
    deleting.world.run()
    deleting.world.machines.write(deleting.home, "what was written since")

    deleting.delete()

    assert deleting.kept == "what was written since"


# ---- without one ----


def capture_fails(deleting: Deleting) -> None:
    """Have Compute take no snapshot."""
    deleting.world.machines.script(CreateSnapshot, Mishap.CAPTURE_FAILS)


def upload_fails(deleting: Deleting) -> None:
    """Have Compute not store the snapshot."""
    deleting.world.machines.script(CreateSnapshot, Mishap.UPLOAD_FAILS)


def refused(deleting: Deleting) -> None:
    """Have Compute refuse every snapshot."""
    deleting.world.machines.script(CreateSnapshot, Mishap.REFUSED, FaultKind.POLICY, times=99)


def never_done(deleting: Deleting) -> None:
    """Have Compute not carry out any snapshot that it accepts."""
    deleting.world.machines.script(
        CreateSnapshot, Mishap.FAILS_LATER, FaultKind.TRANSIENT, times=99
    )


def held(deleting: Deleting) -> None:
    """Let another machine have the home."""
    deleting.world.machines.delete_by_hand(place_of(deleting.before))
    deleting.world.machines.hold_disk_by_hand(deleting.home, "holder")


def copy_deleted(deleting: Deleting) -> None:
    """Delete the snapshot by hand while it is stored."""
    deleting.until(Phase.AWAIT_STORED)
    [copy] = deleting.world.store.snapshots.values()
    deleting.world.machines.delete_snapshot_by_hand(copy.place.name)


def used_since(deleting: Deleting) -> None:
    """Let another machine use the home while its snapshot is stored."""
    deleting.until(Phase.AWAIT_STORED)
    used_elsewhere(deleting)


def held_since(deleting: Deleting) -> None:
    """Let another machine have the home while its snapshot is stored."""
    deleting.until(Phase.AWAIT_STORED)
    deleting.world.machines.hold_disk_by_hand(deleting.home, "holder")


def another_disks_snapshot(deleting: Deleting) -> None:
    """Have a snapshot of another disk under the name of the one to be taken."""
    deleting.world.delete("alice", deleting.before.id)
    operation = deleting.now.operation
    assert operation is not None
    other = Place(ZONES[0], "anothers")
    name = f"home-snapshot-{deleting.before.id}-{operation.id[-12:]}"
    deleting.world.machines.make_disk_by_hand(other, {})
    deleting.world.machines.make_snapshot_by_hand(name, other, {})
    deleting.world.machines.delete_disk_by_hand(other)


WITHOUT: dict[Callable[[Deleting], None], str] = {
    capture_fails: "could not take the snapshot",
    upload_fails: "could not store the snapshot",
    refused: "POLICY",
    never_done: "INTERNAL_ERROR",
    held: "instances/holder",
    copy_deleted: "could not store the snapshot",
    used_since: "has used the home disk since",
    held_since: "instances/holder",
    another_disks_snapshot: "another disk",
}


@pytest.mark.parametrize("way_out", ["delete", "purge", "start"])
@pytest.mark.parametrize("go_wrong", WITHOUT)
def test_a_home_of_which_no_last_copy_can_be_made_stays(
    deleting: Deleting, go_wrong: Callable[[Deleting], None], way_out: str
) -> None:
    """The error says why, and what to do. DELETE again, purge and START all work then."""
    go_wrong(deleting)

    deleting.delete()

    over = deleting.now
    assert over.error is not None
    assert (over.status, over.error.code) == (Status.ERROR, LAST_COPY_NOT_MADE)
    assert WITHOUT[go_wrong].casefold() in over.error.message.casefold()
    assert "Delete the workspace again, delete it with purge" in over.error.message
    assert over.home_disk == HomeDisk(deleting.home.name, deleting.home.zone)
    machines = deleting.world.machines
    assert (machines.instances, deleting.home in machines.disks) == ({}, True)
    present = deleting.content
    machines.calm()
    machines.release_disk_by_hand(deleting.home)
    deleting.world.pass_time(timedelta(hours=1))  # Compute takes six snapshots of a disk in an hour
    if way_out == "start":
        deleting.start()
        assert (deleting.now.status, deleting.content) == (Status.READY, present)
        return
    deleting.delete(purge=way_out == "purge")
    assert deleting.kept == (present if way_out == "delete" else None)
    if way_out == "purge":
        foreign = 1 if go_wrong is another_disks_snapshot else 0
        assert (machines.disks, len(machines.snapshots)) == (set(), foreign)
        assert dict(deleting.world.store.snapshots) == {}


def test_a_last_copy_is_waited_for_a_day_and_is_the_next_ones_if_it_is_stored_late() -> None:
    """A large home's first upload takes hours. The second DELETE takes no other snapshot."""
    deleting = Deleting(World(durations=Durations(upload=timedelta(days=2))))

    asked_at = deleting.world.clock()
    deleting.world.delete("alice", deleting.before.id)
    deleting.world.run(lambda: deleting.is_over)

    error = deleting.now.error
    assert error is not None
    assert (error.code, "within a day" in error.message) == (LAST_COPY_NOT_MADE, True)
    lasted = deleting.world.clock() - asked_at
    assert timedelta(days=1) <= lasted <= timedelta(days=1, minutes=30)
    deleting.world.run()
    deleting.delete()
    assert (deleting.kept, deleting.calls(CreateSnapshot)) == (WORK, 1)


# ---- what is changed by hand ----


def test_a_home_that_was_moved_to_another_zone_is_kept_and_deleted_there(
    deleting: Deleting,
) -> None:
    """The DELETE follows it."""
    machines, there = deleting.world.machines, Place(ZONES[1], deleting.home.name)
    machines.copy_by_hand(place_of(deleting.before), ZONES[1])
    machines.delete_by_hand(Place(ZONES[1], deleting.before.instance_name))
    machines.write(there, "what was written there")
    gone(deleting)
    machines.delete_disk_by_hand(deleting.home)

    deleting.delete()

    assert deleting.kept == "what was written there"
    assert machines.disks == set()


def test_of_two_homes_in_other_zones_a_person_chooses_one(deleting: Deleting) -> None:
    """None of them is deleted, and the error names the zones."""
    machines = deleting.world.machines
    for zone in ZONES[1:]:
        machines.copy_by_hand(place_of(deleting.before), zone)
        machines.delete_by_hand(Place(zone, deleting.before.instance_name))
        machines.write(Place(zone, deleting.home.name), zone)
    gone(deleting)
    machines.delete_disk_by_hand(deleting.home)

    deleting.delete()

    error = deleting.now.error
    assert error is not None
    assert error.code == LAST_COPY_NOT_MADE
    assert all(zone in error.message for zone in ZONES[1:])
    assert {place.zone for place in machines.disks} == set(ZONES[1:])
    machines.delete_disk_by_hand(Place(ZONES[1], deleting.home.name))
    deleting.delete()
    assert (deleting.kept, machines.disks) == (ZONES[2], set())


def test_of_a_home_that_was_deleted_by_hand_nothing_is_kept(deleting: Deleting) -> None:
    """The trail says so."""
    gone(deleting)
    deleting.world.machines.delete_disk_by_hand(deleting.home)

    deleting.delete()

    deleting.check_nothing_left()
    assert "HomeNotKept" in [event.what for event in deleting.world.store.events]


def test_of_a_home_that_was_deleted_by_hand_the_newest_snapshot_is_kept(deleting: Deleting) -> None:
    """It is all that is left of it; the workspace can be taken back with that."""
    world = deleting.world
    world.snapshot("alice", deleting.before.id, "before the mishap")
    world.run()
    gone(deleting)
    world.machines.delete_disk_by_hand(deleting.home)

    deleting.delete()

    [entry] = world.store.deleted.values()
    [snapshot] = world.store.snapshots.values()
    assert (snapshot.name, snapshot.state) == ("before the mishap", SnapshotState.READY)
    assert entry.snapshot_id == snapshot.id


def test_a_disk_whose_deletion_fails_is_not_deleted_with_what_is_written_then(
    deleting: Deleting,
) -> None:
    """Another machine has it for a while, so the copy has not all that is on it any more."""
    machines = deleting.world.machines
    machines.script(DeleteDisk, Mishap.FAILS_LATER, FaultKind.IN_USE)
    deleting.until(Phase.AWAIT_DISK_ABSENT)
    machines.hold_disk_by_hand(deleting.home)
    machines.write(deleting.home, "rescued work")
    machines.release_disk_by_hand(deleting.home)

    deleting.world.run(lambda: deleting.is_over)

    assert deleting.now.error is not None
    assert deleting.now.error.code == LAST_COPY_NOT_MADE
    assert machines.content_of(deleting.home) == "rescued work"


# ---- after the disk is gone ----


def disk_stays(deleting: Deleting) -> None:
    """Have Compute accept the deletion of the home, and not carry it out."""
    deleting.world.machines.script(DeleteDisk, Mishap.FAILS_LATER, FaultKind.POLICY)
    deleting.delete()


def other_disk_stays(deleting: Deleting) -> None:
    """Have Compute refuse to delete a boot disk that has outlived its machine."""
    machines = deleting.world.machines
    machines.delete_by_hand(place_of(deleting.before), keep_boot_disk=True)
    deleting.until(Phase.AWAIT_DISK_ABSENT)
    machines.script(DeleteDisk, Mishap.REFUSED, FaultKind.POLICY, times=99)
    deleting.world.run(lambda: deleting.is_over)
    assert deleting.home not in machines.disks


def deleted_by_another(deleting: Deleting) -> None:
    """Have somebody else delete the home once it is copied, and Compute refuse to delete another.

    That is what a worker sees if the one before it has died after its call.
    """
    machines = deleting.world.machines
    machines.delete_by_hand(place_of(deleting.before), keep_boot_disk=True)
    deleting.until(Phase.AWAIT_STORED)
    machines.delete_disk_by_hand(deleting.home)
    machines.script(DeleteDisk, Mishap.REFUSED, FaultKind.POLICY, times=99)
    deleting.world.run(lambda: deleting.is_over)


@pytest.mark.parametrize("way_out", ["delete", "start", "purge"])
@pytest.mark.parametrize("go_wrong", [disk_stays, other_disk_stays, deleted_by_another])
def test_a_delete_that_fails_after_its_copy_leaves_the_disk_or_the_copy_as_the_home(
    deleting: Deleting, go_wrong: Callable[[Deleting], None], way_out: str
) -> None:
    """A START makes a disk with the same content, and another DELETE keeps the same copy."""
    go_wrong(deleting)
    over = deleting.now
    stays = go_wrong is disk_stays
    assert over.status is Status.ERROR
    assert (over.home_disk is not None, over.home_source is not None) == (stays, not stays)
    deleting.world.machines.calm()

    if way_out == "start":
        assert (deleting.start().status, deleting.content) == (Status.READY, WORK)
        return
    deleting.delete(purge=way_out == "purge")
    if way_out == "purge":
        deleting.check_nothing_left()
        return
    assert (deleting.kept, deleting.calls(CreateSnapshot)) == (WORK, 1)
    assert deleting.world.machines.disks == set()


def test_a_workspace_whose_home_is_still_a_snapshot_keeps_that(deleting: Deleting) -> None:
    """It was taken back, and deleted again before anybody started it. No call is made."""
    deleting.delete()
    deleting.world.undelete("alice", deleting.before.id)
    deleting.world.machines.calls.clear()

    deleting.delete()

    assert deleting.world.machines.calls == []
    assert deleting.kept == WORK
    assert deleting.undelete().status is Status.READY
    assert deleting.content == WORK


def test_a_fork_that_was_never_started_keeps_nothing(deleting: Deleting) -> None:
    """What is in its home is in the snapshot that it was to be made from, which stays."""
    deleting.world.snapshot("alice", deleting.before.id, "first")
    deleting.world.run()
    [source] = deleting.world.store.snapshots
    deleting.world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.QUOTA)
    fork = deleting.world.create("alice", "two", from_snapshot=source)
    deleting.world.run()
    assert deleting.world.workspace(fork.id).status is Status.ERROR

    deleting.world.delete("alice", fork.id)
    deleting.world.run()

    assert (dict(deleting.world.store.deleted), set(deleting.world.store.snapshots)) == (
        {},
        {source},
    )


def test_the_retention_keeps_no_copy_of_what_somebody_has_started(deleting: Deleting) -> None:
    """The deletion is called off before anything is deleted."""
    suspended(deleting)
    deleting.world.pass_time(timedelta(days=31))
    deleting.world.clean_up()
    assert deleting.now.is_being_deleted
    deleting.world.machines.start_by_hand(place_of(deleting.before))
    deleting.world.machines.write(deleting.home, "what was written since")

    deleting.world.run()

    assert (deleting.now.operation, deleting.content) == (None, "what was written since")
    assert (deleting.calls(CreateSnapshot), deleting.calls(DeleteDisk)) == (0, 0)


def test_without_a_time_to_take_it_back_no_copy_is_made(deleting: Deleting) -> None:
    """As a purge does, it deletes the disk at once, and all snapshots with it."""
    deleting.world.policy = replace(deleting.world.policy, undelete_for=None)
    deleting.world.snapshot("alice", deleting.before.id)
    deleting.world.run()

    deleting.delete()

    assert deleting.calls(CreateSnapshot) == 1
    deleting.check_nothing_left()


# ---- at every commit ----


class Asked:
    """Asks for a DELETE right before the ``nth`` commit; ``phase`` is where the operation was."""

    def __init__(self, deleting: Deleting, nth: int, *, purge: bool) -> None:
        self._deleting, self._left, self._purge = deleting, nth, purge
        self._commit = deleting.world.store.commit
        self.phase: tuple[OperationKind, Phase] | None = None
        deleting.world.store.commit = self.commit  # type: ignore[method-assign]

    def commit(self, **documents: Any) -> None:
        """Commit, after the DELETE was accepted if it is due."""
        self._left -= 1
        record = self._deleting.world.store.workspaces.get(self._deleting.before.id)
        operation = record.operation if record and self._left == 0 else None
        if operation is not None:
            self.phase = (operation.kind, operation.phase)
            self._deleting.world.delete("alice", self._deleting.before.id, purge=self._purge)
        self._commit(**documents)


def takes_snapshot(deleting: Deleting) -> None:
    """Take a snapshot."""
    deleting.world.snapshot("alice", deleting.before.id)


def resumes(deleting: Deleting) -> None:
    """Resume its machine."""
    suspended(deleting)
    deleting.world.start("alice", deleting.before.id)


def makes_machine(deleting: Deleting) -> None:
    """Make a new machine on its home."""
    deleting.world.start("alice", deleting.before.id, NewMachine(rebuild=True))


def makes_home(deleting: Deleting) -> None:
    """Make its home again from the last copy of a DELETE."""
    deleting.delete()
    deleting.world.undelete("alice", deleting.before.id)
    deleting.world.start("alice", deleting.before.id)


def deletes(deleting: Deleting) -> None:
    """Delete it, and keep a copy."""
    deleting.world.delete("alice", deleting.before.id)


@pytest.mark.parametrize("purge", [True, False])
@pytest.mark.parametrize("under_way", [takes_snapshot, resumes, makes_machine, makes_home, deletes])
def test_a_delete_before_any_commit_of_an_operation_keeps_what_is_in_the_home(
    under_way: Callable[[Deleting], None], purge: bool
) -> None:
    """It leaves nothing else, and with purge nothing at all, wherever the operation is."""
    seen: set[tuple[OperationKind, Phase]] = set()
    for nth in range(1, 100):
        deleting = Deleting()
        under_way(deleting)
        asked = Asked(deleting, nth, purge=purge)
        deleting.world.run()
        if asked.phase is None:
            break
        seen.add(asked.phase)
        assert deleting.before.id not in deleting.world.store.workspaces, asked.phase
        assert deleting.world.machines.instances == {}, asked.phase
        assert deleting.world.machines.disks == set(), asked.phase
        if purge:
            deleting.check_nothing_left()
            continue
        assert deleting.kept == WORK, asked.phase
        of = {each.workspace_id for each in deleting.world.store.snapshots.values()}
        assert of == {deleting.before.id}, asked.phase
    assert len(seen) > 1
