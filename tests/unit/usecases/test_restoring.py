"""Homes that are restored: what is in them, what is kept, and what is left if it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from shared.domain.errors import QuotaExceededError
from shared.domain.instance import (
    Command,
    CreateSnapshot,
    DeleteInstance,
    FaultKind,
    InsertInstance,
    InstanceState,
    Place,
    SnapshotStatus,
    StopInstance,
)
from shared.domain.reports import ReportEvent
from shared.domain.snapshots import Consistency, Snapshot, SnapshotState, delete
from shared.domain.workspace import HomeDisk, Phase, Status, Workspace
from shared.usecases.sweeping import SweepReport
from tests.fakes.machines import INSTALLATION, GuestMishap, Mishap
from tests.fakes.world import World, place_of

ZONES = ("us-west1-a", "us-west1-b")
FIRST, SECOND = "what the snapshot has", "what is in the home now"


@dataclass
class Restoring:
    """A Hub with a workspace of alice's, whose home has changed since the snapshot ``source``."""

    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        """Make them."""
        self.world.policy = replace(self.world.policy, zones=ZONES)
        self.before = self.world.ready()
        self.home = Place(self.before.zone, self.before.disk_name)
        self.world.machines.write(self.home, FIRST)
        self.world.snapshot("alice", self.before.id, "first")
        self.world.run()
        [self.source] = self.world.store.snapshots.values()
        self.world.machines.write(self.home, SECOND)

    @property
    def now(self) -> Workspace:
        """The record as it is now."""
        return self.world.workspace(self.before.id)

    @property
    def new_home(self) -> Place:
        """Where the first attempt of the first RESTORE makes the new home."""
        return Place(self.before.zone, f"{self.home.name}-{self.before.generation + 1}")

    @property
    def content(self) -> str | None:
        """What is in the home."""
        return self.world.machines.content_of(Place(self.now.zone, self.now.disk_name))

    @property
    def kept(self) -> list[Snapshot]:
        """The snapshots that the Hub has taken by itself."""
        return [each for each in self.world.store.snapshots.values() if each.automatic]

    def content_of(self, snapshot: Snapshot) -> str | None:
        """Return what is in a snapshot."""
        return self.world.machines.content_of(snapshot.place)

    def ask(self, snapshot: Snapshot | None = None) -> None:
        """Ask for the RESTORE."""
        self.world.restore("alice", self.before.id, (snapshot or self.source).id)

    def restore(self, snapshot: Snapshot | None = None) -> Workspace:
        """Restore the home, and let that end."""
        self.ask(snapshot)
        self.world.run(lambda: self.now.operation is None)
        self.world.run()
        return self.now

    def start(self) -> Workspace:
        """Start it, and let that end."""
        self.world.start("alice", self.before.id)
        self.world.run()
        return self.now

    def until(self, phase: Phase) -> None:
        """Go on until the RESTORE has come to a phase."""
        self.world.run(lambda: self.now.operation is None or self.now.operation.phase is phase)
        assert self.now.operation is not None, self.now.error

    def sweep(self, times: int = 1) -> SweepReport:
        """Run the hourly sweep, and return what the last one has done."""
        report = SweepReport()
        for _ in range(times):
            self.world.pass_time(timedelta(hours=1))
            report = self.world.reconcile_fleet()
            assert report.failed == {}
            self.world.run()
        return report

    def calls(self, kind: type[Command]) -> int:
        """Return how many calls of this kind Compute got."""
        return sum(isinstance(command, kind) for command, _ in self.world.machines.calls)


@pytest.fixture
def restoring() -> Restoring:
    """A Hub with a home that can be restored."""
    return Restoring()


# ---- what it is restored from ----


def ready(_: Restoring) -> None:
    """Leave it READY."""


def suspended(restoring: Restoring) -> None:
    """Suspend it."""
    restoring.world.stop("alice", restoring.before.id)
    restoring.world.run()


def off(restoring: Restoring) -> None:
    """Shut its machine down by hand."""
    restoring.world.machines.stop_by_hand(place_of(restoring.before))
    restoring.world.pass_time(timedelta(minutes=5))
    restoring.world.look(restoring.before)
    restoring.world.run()


def failed(restoring: Restoring) -> None:
    """Have its running machine say that it has failed."""
    machine = restoring.world.machine(restoring.before)
    assert machine is not None
    restoring.world.report(machine.report(ReportEvent.FAILED, "CONTAINER_ENDS", "It ends."))


def gone(restoring: Restoring) -> None:
    """Delete its machine by hand."""
    restoring.world.machines.delete_by_hand(place_of(restoring.before))
    restoring.world.look(restoring.before)
    restoring.world.run()


def home_gone(restoring: Restoring) -> None:
    """Delete its machine and its home by hand."""
    gone(restoring)
    restoring.world.machines.delete_disk_by_hand(restoring.home)


@pytest.mark.parametrize(
    ("prepare", "kept"),
    [
        (ready, Consistency.CLEAN),
        (suspended, Consistency.CRASH),
        (off, Consistency.CLEAN),
        (failed, Consistency.CLEAN),
        (gone, Consistency.CRASH),
        (home_gone, None),
    ],
)
def test_a_restored_home_has_the_snapshots_content_and_what_was_there_is_kept(
    restoring: Restoring, prepare: Callable[[Restoring], None], kept: Consistency | None
) -> None:
    """From every state the end is READY on a new disk; the hourly sweep deletes the old one."""
    prepare(restoring)

    after = restoring.restore()

    assert (after.status, after.error, after.machine_running) == (Status.READY, None, True)
    assert restoring.content == FIRST
    assert after.home_disk == HomeDisk(restoring.new_home.name, restoring.home.zone)
    assert [each.consistency for each in restoring.kept] == ([kept] if kept else [])
    assert [restoring.content_of(each) for each in restoring.kept] == ([SECOND] if kept else [])
    copy = restoring.kept[0].id if kept else None
    [old] = after.old_homes
    assert (old.name, old.zone, old.snapshot_id) == (restoring.home.name, restoring.home.zone, copy)
    notes = [event.what for event in restoring.world.store.events]
    assert ("HomeNotKept" in notes) == (kept is None)

    restoring.sweep(times=2)

    assert restoring.world.machines.disks == {restoring.new_home}
    assert (restoring.now.old_homes, restoring.now.status) == ((), Status.READY)
    machine = restoring.world.machine(restoring.now)
    assert machine is not None
    assert (machine.state, machine.id) == (InstanceState.RUNNING, restoring.now.instance_id)


def unused(_: Restoring) -> None:
    """Let nobody use the home."""


def used_elsewhere(restoring: Restoring) -> None:
    """Let another machine use the home for a while."""
    restoring.world.machines.hold_disk_by_hand(restoring.home)
    restoring.world.machines.write(restoring.home, "what another machine has written")
    restoring.world.machines.release_disk_by_hand(restoring.home)


def held(restoring: Restoring) -> None:
    """Let another machine have the home."""
    restoring.world.machines.hold_disk_by_hand(restoring.home)


def lost(restoring: Restoring) -> None:
    """Lose the snapshot that has what is in the home."""
    [copy] = [each for each in restoring.world.store.snapshots.values() if each.name == "last"]
    restoring.world.machines.delete_snapshot_by_hand(copy.place.name)


def attached_when_taken(restoring: Restoring) -> None:
    """Let a machine have had the home when the snapshot was asked for."""
    [copy] = [each for each in restoring.world.store.snapshots.values() if each.name == "last"]
    restoring.world.store.put_snapshots(replace(copy, of_generation=None))


def started_since(restoring: Restoring) -> None:
    """Let a machine of the Hub use the home, and be deleted."""
    restoring.start()
    restoring.world.machines.write(restoring.home, "what was written since")
    gone(restoring)


@pytest.mark.parametrize(
    ("meanwhile", "taken"),
    [
        *((unused, 0), (attached_when_taken, 1), (started_since, 1)),
        *((used_elsewhere, 1), (lost, 1)),
    ],
)
def test_a_snapshot_that_has_all_that_is_in_the_home_is_not_taken_again(
    restoring: Restoring, meanwhile: Callable[[Restoring], None], taken: int
) -> None:
    """It was taken since a machine last had the disk. If one may have had it since, it is not."""
    gone(restoring)
    restoring.world.pass_time(restoring.world.policy.snapshot_pause)
    restoring.world.snapshot("alice", restoring.before.id, "last")
    restoring.world.run()
    [copy] = [each for each in restoring.world.store.snapshots.values() if each.name == "last"]
    meanwhile(restoring)
    present = restoring.content

    after = restoring.restore()

    assert (after.status, restoring.content) == (Status.READY, FIRST)
    assert [restoring.content_of(each) for each in restoring.kept] == [present] * taken
    [old] = after.old_homes
    assert old.snapshot_id == (restoring.kept[0].id if taken else copy.id)


@pytest.mark.parametrize("lets_go", [True, False])
def test_a_restore_waits_until_no_other_machine_has_the_home(
    restoring: Restoring, lets_go: bool
) -> None:
    """What that writes would be in no snapshot. If it does not let go, nothing is restored."""
    world = restoring.world
    held(restoring)
    restoring.ask()
    world.run(
        lambda: restoring.now.operation is not None and bool(restoring.now.operation.last_fault)
    )
    world.machines.write(restoring.home, "what another machine has written")
    if lets_go:
        world.machines.release_disk_by_hand(restoring.home)
    world.run()

    after = restoring.now

    if lets_go:
        assert (after.status, restoring.content) == (Status.READY, FIRST)
        kept = [restoring.content_of(each) for each in restoring.kept]
        assert kept == ["what another machine has written"]
    else:
        assert after.home_disk == restoring.before.home_disk
        assert after.error is not None
        assert after.error.code == "DISK_IN_USE"


@pytest.mark.parametrize("used", [False, True])
def test_an_old_home_that_somebody_has_used_since_the_restore_stays(
    restoring: Restoring, used: bool
) -> None:
    """Nothing else has what they have written to it."""
    old = restoring.home
    restoring.restore()
    if used:
        machines = restoring.world.machines
        restoring.world.pass_time(timedelta(minutes=1))
        machines.hold_disk_by_hand(old)
        machines.write(old, "rescued work")
        machines.release_disk_by_hand(old)

    for _ in range(2):
        restoring.world.pass_time(timedelta(days=1))
        report = restoring.world.reconcile_fleet()
        restoring.world.run()

    assert (old in restoring.world.machines.disks) is used
    assert ("OldHomeUsed" in report.done) is used


@pytest.mark.parametrize("used", [False, True])
def test_an_old_home_that_was_in_another_zone_than_the_machine_goes_unless_it_is_used(
    restoring: Restoring, *, used: bool
) -> None:
    """Nobody has looked when it was let go of; but it is known when it was copied."""
    machines = restoring.world.machines
    machines.stop_by_hand(place_of(restoring.before))
    restoring.world.pass_time(timedelta(minutes=5))
    machines.detach_disk_by_hand(restoring.home)
    machines.move_by_hand(place_of(restoring.before), ZONES[1])
    after = restoring.restore()
    assert (after.status, after.zone, restoring.content) == (Status.READY, ZONES[1], FIRST)
    if used:
        restoring.world.pass_time(timedelta(minutes=1))
        machines.hold_disk_by_hand(restoring.home)
        machines.write(restoring.home, "rescued work")
        machines.release_disk_by_hand(restoring.home)

    assert ("OldHomeUsed" in restoring.sweep(times=2).done) == used
    assert (restoring.home in machines.disks) == used


@pytest.mark.parametrize("holds", [False, True])
@pytest.mark.parametrize("later", [False, True])
def test_what_is_written_to_a_home_that_was_detached_meanwhile_is_not_deleted(
    restoring: Restoring, *, later: bool, holds: bool
) -> None:
    """The machine is off all the time, so it does not tell."""
    machines = restoring.world.machines
    restoring.ask()
    restoring.until(Phase.AWAIT_STOPPED)
    if later:
        machines.detach_disk_by_hand(restoring.home)
    restoring.until(Phase.AWAIT_ABSENT if later else Phase.AWAIT_STORED)
    machines.hold_disk_by_hand(restoring.home)
    machines.write(restoring.home, "rescued work")
    restoring.world.pass_time(timedelta(seconds=5))
    if not holds:
        machines.release_disk_by_hand(restoring.home)
    restoring.world.run(lambda: restoring.now.operation is None)
    machines.release_disk_by_hand(restoring.home)
    restoring.sweep(times=3)

    assert machines.content_of(restoring.home) == "rescued work"
    if not later:
        assert restoring.now.error is not None
        assert restoring.now.error.code == "MACHINE_STARTED"
        assert "The home was detached from its machine" in restoring.now.error.message
        assert restoring.now.home_disk == restoring.before.home_disk


@pytest.mark.parametrize("left", ["attached", "without labels", "without its snapshot"])
def test_an_old_home_that_only_a_person_can_see_to_is_told_of_every_hour(
    restoring: Restoring, left: str
) -> None:
    """Nobody would know of it otherwise, and it costs. Once they have, it goes."""
    old, machines = restoring.home, restoring.world.machines
    restoring.restore()
    [copy] = restoring.kept
    labels = machines.disk_labels(old)
    if left == "attached":
        machines.hold_disk_by_hand(old)
    if left == "without labels":
        machines.set_disk_labels_by_hand(old, {})
    if left == "without its snapshot":
        machines.delete_snapshot_by_hand(copy.place.name)
    restoring.sweep(times=24)
    assert restoring.sweep().done["OldHomeLeft"] == [restoring.before.id]
    assert old in machines.disks

    if left == "attached":
        machines.release_disk_by_hand(old)
        machines.delete_disk_by_hand(old)
    if left == "without labels":
        machines.set_disk_labels_by_hand(old, labels)
    if left == "without its snapshot":
        restoring.world.delete_snapshot("alice", restoring.before.id, copy.id)
        restoring.world.run()
    assert "OldHomeLeft" not in restoring.sweep(times=2).done
    assert old not in machines.disks


@pytest.mark.parametrize("by_the_hub", [False, True])
def test_a_lost_snapshot_of_an_old_home_makes_no_room(
    restoring: Restoring, *, by_the_hub: bool
) -> None:
    """What was in the home before is only on that disk by then, and would go with the record."""
    world = restoring.world
    world.policy = replace(world.policy, snapshots_per_workspace=2)
    restoring.restore()
    [copy] = restoring.kept
    world.machines.delete_snapshot_by_hand(copy.place.name)
    restoring.sweep()
    assert world.store.snapshots[copy.id].state is SnapshotState.FAILED
    if by_the_hub:
        world.archive("alice", restoring.before.id)
        world.run()
        assert restoring.now.archived_at is not None
    else:
        with pytest.raises(QuotaExceededError):
            world.snapshot("alice", restoring.before.id)
    assert "OldHomeLeft" in restoring.sweep(times=3).done
    assert world.machines.content_of(restoring.home) == SECOND


# ---- what goes wrong ----


def capture_fails(restoring: Restoring) -> None:
    """Have Compute take no snapshot."""
    restoring.world.machines.script(CreateSnapshot, Mishap.CAPTURE_FAILS)
    restoring.ask()


def upload_fails(restoring: Restoring) -> None:
    """Have Compute not store the snapshot."""
    restoring.world.machines.script(CreateSnapshot, Mishap.UPLOAD_FAILS)
    restoring.ask()


def copy_deleted(restoring: Restoring) -> None:
    """Delete the snapshot of what is there by hand while it is stored."""
    restoring.ask()
    restoring.until(Phase.AWAIT_STORED)
    restoring.world.machines.delete_snapshot_by_hand(restoring.kept[0].place.name)


def never_stored(restoring: Restoring) -> None:
    """Have the upload last for longer than a RESTORE may."""
    restoring.world.machines.script(CreateSnapshot, Mishap.SLOW)
    deadlines = replace(restoring.world.policy.deadlines, restore=timedelta(minutes=10))
    restoring.world.policy = replace(restoring.world.policy, deadlines=deadlines)
    restoring.ask()


def another_disks_snapshot(restoring: Restoring) -> None:
    """Have a snapshot of another disk under the name of the one to be taken."""
    restoring.ask()
    operation = restoring.now.operation
    assert operation is not None
    name = f"home-snapshot-{restoring.before.id}-{operation.id[-12:]}"
    other = Place(ZONES[0], "anothers")
    restoring.world.machines.make_disk_by_hand(other, {})
    restoring.world.machines.make_snapshot_by_hand(name, other, {})
    restoring.world.machines.delete_disk_by_hand(other)


def started_by_hand(restoring: Restoring) -> None:
    """Start the machine by hand after the snapshot was taken."""
    restoring.ask()
    restoring.until(Phase.AWAIT_STORED)
    restoring.world.machines.start_by_hand(place_of(restoring.before))


def used_by_hand(restoring: Restoring) -> None:
    """Start the machine by hand after the snapshot was taken, and shut it down again."""
    started_by_hand(restoring)
    restoring.world.pass_time(timedelta(minutes=1))
    restoring.world.machines.write(restoring.home, SECOND)
    restoring.world.machines.stop_by_hand(place_of(restoring.before))


def suspended_by_hand(restoring: Restoring) -> None:
    """Start the machine by hand after the snapshot was taken, and suspend it."""
    started_by_hand(restoring)
    restoring.world.pass_time(timedelta(minutes=1))
    restoring.world.machines.suspend_by_hand(place_of(restoring.before))


def used_while_not_deleted(restoring: Restoring) -> None:
    """Start the machine by hand while Compute does not delete it, and shut it down again."""
    restoring.world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.NOT_READY, times=10)
    restoring.ask()
    restoring.until(Phase.DELETE_INSTANCE)
    restoring.world.machines.start_by_hand(place_of(restoring.before))
    restoring.world.clock.advance(timedelta(minutes=1))
    restoring.world.machines.write(restoring.home, SECOND)
    restoring.world.machines.stop_by_hand(place_of(restoring.before))
    restoring.world.clock.advance(timedelta(minutes=1))


def not_deleted(restoring: Restoring) -> None:
    """Let the Hub not delete the machine."""
    restoring.world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.POLICY)
    restoring.ask()


def source_gone_before(restoring: Restoring) -> None:
    """Delete the source by hand before the switch."""
    restoring.ask()
    restoring.until(Phase.AWAIT_STORED)
    restoring.world.machines.delete_snapshot_by_hand(restoring.source.place.name)


def source_gone_after(restoring: Restoring) -> None:
    """Delete the source by hand after the switch, before the new disk is made."""
    restoring.ask()
    restoring.until(Phase.AWAIT_ABSENT)
    name = restoring.source.place.name
    restoring.world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.NOT_READY)
    restoring.until(Phase.INSERT)
    restoring.world.machines.delete_snapshot_by_hand(name)


def foreign_disk(restoring: Restoring) -> None:
    """Have somebody else's disk under the name of the new home."""
    restoring.world.machines.make_disk_by_hand(restoring.new_home, {"hub": INSTALLATION})
    restoring.ask()


def no_capacity(restoring: Restoring) -> None:
    """Have no capacity in any zone."""
    restoring.world.machines.script(
        InsertInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT, times=len(ZONES)
    )
    restoring.ask()


def never_ready(restoring: Restoring) -> None:
    """Have the new machine never report."""
    restoring.world.machines.script_boot(GuestMishap.NEVER_READY)
    restoring.ask()


def fails_at_boot(restoring: Restoring) -> None:
    """Have the new machine report that it has failed."""
    restoring.world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
    restoring.ask()


def disk_missing(restoring: Restoring) -> None:
    """Have the new machine boot without the new home."""
    restoring.ask()
    restoring.until(Phase.AWAIT_READY)
    restoring.world.machines.detach_disk_by_hand(restoring.new_home)


def stopped_at_boot(restoring: Restoring) -> None:
    """Stop the new machine by hand while it boots."""
    restoring.ask()
    restoring.until(Phase.AWAIT_READY)
    restoring.world.machines.stop_by_hand(place_of(restoring.before))


def deleted_at_boot(restoring: Restoring) -> None:
    """Delete the new machine by hand while it boots, and leave its disk."""
    restoring.ask()
    restoring.until(Phase.AWAIT_READY)
    restoring.world.machines.delete_by_hand(place_of(restoring.before))


WENT_WRONG: dict[Callable[[Restoring], None], tuple[Status, str]] = {
    capture_fails: (Status.SUSPENDED, "SNAPSHOT_FAILED"),
    upload_fails: (Status.SUSPENDED, "SNAPSHOT_FAILED"),
    copy_deleted: (Status.SUSPENDED, "SNAPSHOT_FAILED"),
    never_stored: (Status.SUSPENDED, "RESTORE_TIMED_OUT"),
    another_disks_snapshot: (Status.SUSPENDED, "COMPUTE_NAME_TAKEN"),
    started_by_hand: (Status.ERROR, "MACHINE_STARTED"),
    used_by_hand: (Status.SUSPENDED, "MACHINE_STARTED"),
    suspended_by_hand: (Status.SUSPENDED, "MACHINE_STARTED"),
    used_while_not_deleted: (Status.SUSPENDED, "MACHINE_STARTED"),
    not_deleted: (Status.SUSPENDED, "COMPUTE_POLICY_FORBIDS"),
    source_gone_before: (Status.SUSPENDED, "SNAPSHOT_GONE"),
    source_gone_after: (Status.SUSPENDED, "SNAPSHOT_GONE"),
    foreign_disk: (Status.SUSPENDED, "COMPUTE_NAME_TAKEN"),
    no_capacity: (Status.SUSPENDED, "NO_CAPACITY"),
    never_ready: (Status.SUSPENDED, "NOT_READY_IN_TIME"),
    fails_at_boot: (Status.SUSPENDED, "IMAGE_PULL_FAILED"),
    disk_missing: (Status.SUSPENDED, "DISK_MISSING"),
    stopped_at_boot: (Status.SUSPENDED, "MACHINE_STOPPED"),
    deleted_at_boot: (Status.SUSPENDED, "MACHINE_GONE"),
}


@pytest.mark.parametrize("go_wrong", WENT_WRONG)
def test_a_restore_that_fails_leaves_the_home_as_it_was(
    restoring: Restoring, go_wrong: Callable[[Restoring], None]
) -> None:
    """The record says why, and points to the old home; a START makes a machine on that."""
    go_wrong(restoring)
    restoring.world.run()

    after = restoring.now
    assert after.error is not None
    assert (after.status, after.error.code) == WENT_WRONG[go_wrong]
    assert after.home_disk == HomeDisk(restoring.home.name, restoring.home.zone)
    assert (after.zone, after.home_source, restoring.content) == (ZONES[0], None, SECOND)
    machine = restoring.world.machine(after)
    runs = machine is not None and machine.state is InstanceState.RUNNING
    assert after.machine_running == runs

    restoring.sweep(times=2)
    theirs = {restoring.new_home} if go_wrong is foreign_disk else set()
    assert restoring.world.machines.disks == {restoring.home} | theirs
    assert restoring.now.old_homes == ()

    after = restoring.start()
    assert (after.status, after.error, restoring.content) == (Status.READY, None, SECOND)


@pytest.mark.parametrize("command", [StopInstance, CreateSnapshot, DeleteInstance, InsertInstance])
def test_a_restore_that_compute_refuses_loses_nothing_and_can_be_asked_for_again(
    command: type[Command],
) -> None:
    """Whatever the refusal, the home has one content or the other, and a RESTORE works then."""
    for how, kind in product((Mishap.REFUSED, Mishap.FAILS_LATER), FaultKind):
        restoring = Restoring()
        restoring.world.machines.script(command, how, kind, times=1000)
        after = restoring.restore()
        case = (how, kind, after.status, after.error)
        assert after.operation is None, case
        assert after.error is not None, case
        assert restoring.content == SECOND, case
        assert after.home_disk == HomeDisk(restoring.home.name, restoring.home.zone), case

        restoring.world.machines.calm()
        restoring.world.pass_time(timedelta(hours=2))  # Compute takes six snapshots an hour
        after = restoring.restore()
        case = (how, kind, after.status, after.error)
        assert (after.status, after.error, restoring.content) == (Status.READY, None, FIRST), case
        contents = {restoring.content_of(each) for each in restoring.kept}
        assert contents == {SECOND}, case
        restoring.sweep(times=2)
        assert restoring.world.machines.disks == {Place(restoring.now.zone, after.disk_name)}, case


def test_a_home_can_be_restored_in_another_zone(restoring: Restoring) -> None:
    """It follows the capacity. The old disk, in its own zone, is deleted there."""
    restoring.world.machines.script(
        InsertInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT, zone=ZONES[0]
    )

    after = restoring.restore()

    assert (after.status, after.zone, restoring.content) == (Status.READY, ZONES[1], FIRST)
    restoring.sweep(times=2)
    assert restoring.world.machines.disks == {Place(ZONES[1], after.disk_name)}


def test_a_home_that_was_moved_by_hand_is_not_replaced(restoring: Restoring) -> None:
    """A START finds it in its zone; then it can be restored."""
    off(restoring)
    restoring.world.machines.move_by_hand(place_of(restoring.before), ZONES[1])
    restoring.world.machines.delete_by_hand(Place(ZONES[1], restoring.before.instance_name))

    after = restoring.restore()

    assert (after.error and after.error.code, restoring.kept) == ("HOME_DISK_GONE", [])
    assert (restoring.start().zone, restoring.content) == (ZONES[1], SECOND)
    assert (restoring.restore().error, restoring.content) == (None, FIRST)
    assert [restoring.content_of(each) for each in restoring.kept] == [SECOND]


# ---- what follows ----


def test_a_home_can_be_restored_to_what_a_restore_replaced(restoring: Restoring) -> None:
    """At once, too: the record has both old homes until the sweep deletes them."""
    first = restoring.restore()
    [second] = restoring.kept

    after = restoring.restore(second)

    assert (after.status, restoring.content) == (Status.READY, SECOND)
    names = [old.name for old in after.old_homes]
    assert names == [restoring.home.name, first.disk_name]
    assert {restoring.content_of(each) for each in restoring.kept} == {FIRST, SECOND}
    restoring.sweep(times=2)
    assert restoring.world.machines.disks == {Place(after.zone, after.disk_name)}
    assert restoring.now.old_homes == ()
    assert restoring.content == SECOND


@pytest.mark.parametrize("purge", [True, False])
def test_a_delete_before_any_commit_of_a_restore_leaves_nothing(purge: bool) -> None:
    """Neither of the two homes, none of the machines, and none of the snapshots.

    Unless it purges, its last copy has what was in the home before the RESTORE.
    """
    seen: set[Phase] = set()
    for nth in range(1, 100):
        restoring = Restoring()
        restoring.ask()
        deletes = _Deletes(restoring, nth, purge=purge)
        restoring.world.run()
        if deletes.phase is None:
            break
        seen.add(deletes.phase)
        store, machines = restoring.world.store, restoring.world.machines
        left = (dict(store.workspaces), machines.instances, machines.disks)
        assert left == ({}, {}, set()), (nth, deletes.phase)
        if purge:
            kept = [*store.snapshots, *machines.snapshots, *store.deleted]
            assert kept == [], (nth, deletes.phase)
            continue
        restoring.world.undelete("alice", restoring.before.id)
        restoring.world.start("alice", restoring.before.id)
        restoring.world.run()
        assert restoring.content == SECOND, (nth, deletes.phase)
    assert restoring.now.status is Status.READY
    assert seen >= {
        *(Phase.STOP, Phase.AWAIT_STOPPED, Phase.SNAPSHOT, Phase.AWAIT_SNAPSHOT),
        *(Phase.AWAIT_STORED, Phase.DELETE_INSTANCE, Phase.AWAIT_ABSENT),
        *(Phase.INSERT, Phase.INSERTING, Phase.AWAIT_READY),
    }


class _Deletes:
    """Asks for a DELETE right before the ``nth`` commit; ``phase`` is where the RESTORE was."""

    def __init__(self, restoring: Restoring, nth: int, *, purge: bool) -> None:
        self._restoring, self._left, self._purge = restoring, nth, purge
        self._commit = restoring.world.store.commit
        self.phase: Phase | None = None
        restoring.world.store.commit = self.commit  # type: ignore[method-assign]

    def commit(self, **documents: Any) -> None:
        """Commit, after the DELETE was accepted if it is due."""
        self._left -= 1
        operation = self._restoring.now.operation if self._left == 0 else None
        if operation is not None:
            self.phase = operation.phase
            before = self._restoring.before
            self._restoring.world.delete("alice", before.id, purge=self._purge)
        self._commit(**documents)


def test_a_source_that_is_to_be_deleted_stays_until_the_home_is_made(
    restoring: Restoring,
) -> None:
    """Its deletion waits; it goes on as soon as the RESTORE has ended."""
    restoring.ask()
    restoring.until(Phase.AWAIT_STORED)
    now = restoring.world.clock()
    deleting = delete(restoring.source, "a-request", now, restoring.world.policy)
    assert deleting is not None
    restoring.world.store.put_snapshots(deleting.snapshot)
    restoring.world.records.send_later(deleting.job)

    restoring.until(Phase.INSERTING)
    there = restoring.world.machines.snapshots[restoring.source.place.name]
    restoring.world.run()

    assert there is SnapshotStatus.READY
    assert (restoring.now.status, restoring.content) == (Status.READY, FIRST)
    assert restoring.source.place.name not in restoring.world.machines.snapshots
