"""Workspaces that move to another zone: what is there after it, until then, and if it fails."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any

import pytest

from shared.domain import lifecycle
from shared.domain.course import Lost
from shared.domain.dry_run import Decision, DryRun
from shared.domain.errors import (
    InvalidRequestError,
    NotAllowedError,
    OperationUnderWayError,
    QuotaExceededError,
    ReportNotTakenError,
    TooManyRequestsError,
    WorkspaceNotFoundError,
)
from shared.domain.instance import (
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    FaultKind,
    InsertInstance,
    InstanceState,
    Place,
    ResumeInstance,
    StartInstance,
    StopInstance,
)
from shared.domain.lifecycle import NewMachine, NewOperation
from shared.domain.ownership import labels_of
from shared.domain.policy import Deadlines
from shared.domain.reports import ReportEvent
from shared.domain.snapshots import Consistency, Snapshot
from shared.domain.workspace import HomeDisk, OldHome, Phase, Status, Workspace
from shared.usecases import manage_workspaces
from shared.usecases.requests import Requested, request_change
from shared.usecases.sweeping import SweepReport
from tests.fakes.machines import INSTALLATION, FakeInstance, GuestMishap, Mishap
from tests.fakes.world import World, actor, place_of

ZONES = ("us-west1-a", "us-west1-b", "us-west1-c")
THERE = ZONES[2]
WORK, MORE = "what is in the home", "what was written since"
OFF = {InstanceState.SUSPENDED, InstanceState.TERMINATED}


@dataclass
class Moving:
    """A Hub with a workspace of alice's in the first zone."""

    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        """Make them."""
        self.world.policy = replace(self.world.policy, zones=ZONES, undelete_for=None)
        self.before = self.world.ready()
        self.home = Place(self.before.zone, self.before.disk_name)
        self.world.machines.write(self.home, WORK)

    @property
    def now(self) -> Workspace:
        """The record as it is now."""
        return self.world.workspace(self.before.id)

    @property
    def content(self) -> str | None:
        """What is in the home."""
        return self.world.machines.content_of(Place(self.now.zone, self.now.disk_name))

    @property
    def kept(self) -> list[Snapshot]:
        """The snapshots that the Hub has taken by itself."""
        return [each for each in self.world.store.snapshots.values() if each.automatic]

    @property
    def former(self) -> FakeInstance | None:
        """The machine of before, or what is in its place."""
        return self.world.machines.instances.get(place_of(self.before))

    def notes(self, what: str) -> int:
        """Return how many events of the Hub's own there are of this name."""
        return [event.what for event in self.world.store.events].count(what)

    def suspend(self) -> None:
        """Suspend it."""
        self.world.stop("alice", self.before.id)
        self.world.run()
        assert self.now.has_memory

    def ask(self, machine: NewMachine | None = None) -> None:
        """Ask for the move, once another snapshot can be taken."""
        next_at = lifecycle.next_snapshot_at(self.now, self.world.policy)
        if next_at is not None and self.now.status is Status.READY:
            self.world.pass_time(max(next_at - self.world.clock(), timedelta()))
        self.world.start("alice", self.before.id, machine or NewMachine(zone=THERE))

    def end(self) -> Workspace:
        """Let the operation end, and what follows."""
        self.world.run(lambda: self.now.operation is None)
        self.world.run()
        return self.now

    def move(self, machine: NewMachine | None = None) -> Workspace:
        """Move it, and let that end."""
        self.ask(machine)
        return self.end()

    def start(self, machine: NewMachine | None = None) -> Workspace:
        """Start it, and let that end."""
        self.world.start("alice", self.before.id, machine or NewMachine())
        self.world.run()
        return self.now

    def until(self, phase: Phase) -> None:
        """Go on until the START has come to a phase, and waits in it."""
        holding = {Phase.SNAPSHOT: CreateSnapshot, Phase.INSERT: InsertInstance}.get(phase)
        if holding is not None:
            self.world.machines.script(holding, Mishap.REFUSED, FaultKind.NOT_READY)
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

    def no_capacity(self, *zones: str) -> None:
        """Have no capacity in these zones from now on."""
        for command, zone in product((InsertInstance, StartInstance, ResumeInstance), zones):
            self.world.machines.script(
                command, Mishap.FAILS_LATER, FaultKind.STOCK_OUT, zone=zone, times=100
            )


@pytest.fixture
def moving() -> Moving:
    """A Hub with a workspace that can move."""
    return Moving()


# ---- from where it moves ----


def ready(_: Moving) -> None:
    """Leave it READY."""


def suspended(moving: Moving) -> None:
    """Suspend it."""
    moving.suspend()


def off(moving: Moving) -> None:
    """Shut its machine down by hand."""
    moving.world.machines.stop_by_hand(place_of(moving.before))
    moving.world.pass_time(timedelta(minutes=5))
    moving.world.look(moving.before)
    moving.world.run()


def failed(moving: Moving) -> None:
    """Have its running machine say that it has failed."""
    machine = moving.former
    assert machine is not None
    moving.world.report(machine.report(ReportEvent.FAILED, "CONTAINER_ENDS", "It ends."))


def gone(moving: Moving) -> None:
    """Delete its machine by hand."""
    moving.world.machines.delete_by_hand(place_of(moving.before))
    moving.world.look(moving.before)
    moving.world.run()


def archive(moving: Moving) -> None:
    """Archive it."""
    asked = Requested(actor("alice"), moving.before.id, "x")
    new = NewOperation(str(uuid.uuid4()), actor("alice"), moving.world.clock())
    request_change(
        moving.world.records,
        moving.world.policy,
        asked,
        lambda workspace: lifecycle.archive(workspace, new, moving.world.policy),
    )
    moving.world.run()
    assert moving.now.archived_at is not None


BY_ZONE = NewMachine(zone=THERE)
MAY_MOVE = NewMachine(may_move=True)
REBUILT = NewMachine(may_move=True, rebuild=True)


@pytest.mark.parametrize(
    ("prepare", "machine", "kept"),
    [
        (ready, BY_ZONE, Consistency.CLEAN),
        (suspended, BY_ZONE, Consistency.CRASH),
        (off, BY_ZONE, Consistency.CLEAN),
        (failed, BY_ZONE, Consistency.CLEAN),
        (gone, BY_ZONE, Consistency.CRASH),
        (ready, REBUILT, Consistency.CRASH),
        (suspended, MAY_MOVE, Consistency.CRASH),
        (suspended, REBUILT, Consistency.CRASH),
        (off, MAY_MOVE, Consistency.CLEAN),
        (failed, MAY_MOVE, Consistency.CLEAN),
        (gone, MAY_MOVE, Consistency.CRASH),
    ],
)
def test_a_workspace_that_has_moved_has_its_home_there_and_nothing_is_left(
    moving: Moving, prepare: Callable[[Moving], None], machine: NewMachine, kept: Consistency
) -> None:
    """The machine of before stays until the new one is READY; the hourly sweep deletes it."""
    prepare(moving)
    had_memory, noted = moving.now.has_memory, moving.notes("MemoryLost")
    had_machine = moving.former is not None and not machine.rebuild
    moving.no_capacity(ZONES[0])

    moving.ask(machine)
    moving.until(Phase.AWAIT_READY)
    before, off_already = moving.former, moving.world.machines.disks
    after = moving.end()

    assert (before is not None) == had_machine
    assert before is None or before.state in OFF
    assert moving.home in off_already
    zone = machine.zone or ZONES[1]
    assert (after.status, after.error, after.zone) == (Status.READY, None, zone)
    assert (moving.content, after.home_disk) == (WORK, HomeDisk(after.disk_name, zone))
    assert [each.consistency for each in moving.kept] == [kept]
    [copy] = moving.kept
    machine_of = moving.before.instance_id if had_machine else None
    taken = moving.world.machines.peek_snapshot(copy.place.name)
    assert taken is not None
    old = OldHome(
        moving.home.name, ZONES[0], copy.id, machine_of, outlived=True, copied_at=taken.created_at
    )
    assert after.old_homes == (old,)
    assert moving.notes("MemoryLost") == noted + had_memory
    assert not had_memory or (after.memory_kept is False and after.memory_lost_because)

    moving.sweep(times=3)

    assert moving.world.machines.disks == {Place(zone, after.disk_name)}
    assert set(moving.world.machines.instances) == {place_of(after)}
    assert (moving.now.old_homes, moving.now.status, moving.content) == ((), Status.READY, WORK)


def dry_run(moving: Moving, machine: NewMachine) -> DryRun:
    """Return what a START would do."""
    world = moving.world
    return manage_workspaces.dry_run_start(
        world.records, world.policy, actor("alice"), moving.before.id, machine
    )


def test_an_archived_workspace_begins_in_the_zone_that_it_is_to_be_in(moving: Moving) -> None:
    """Nothing has to be moved: its home is made there."""
    archive(moving)
    after = moving.move()
    assert (after.status, after.zone, moving.content) == (Status.READY, THERE, WORK)
    assert (after.archived_at, after.old_homes) == (None, ())
    assert moving.world.machines.disks == {Place(THERE, after.disk_name)}


def test_a_start_that_may_not_move_says_that_it_could(moving: Moving) -> None:
    """It stays where its home and its memory are."""
    moving.suspend()
    moving.no_capacity(ZONES[0])
    after = moving.start()
    assert after.error is not None
    assert (after.status, after.error.code, after.zone) == (
        *(Status.SUSPENDED, "NO_CAPACITY"),
        ZONES[0],
    )
    assert "may_move" in after.error.message
    assert after.has_memory


def test_a_start_that_may_move_stays_if_its_zone_has_capacity(moving: Moving) -> None:
    """Its memory is worth more."""
    moving.suspend()
    after = moving.start(MAY_MOVE)
    assert (after.status, after.zone, after.memory_kept) == (Status.READY, ZONES[0], True)
    assert moving.kept == []


def test_a_move_goes_on_to_the_next_zone_with_capacity(moving: Moving) -> None:
    """What was made in the one before is deleted."""
    moving.suspend()
    moving.no_capacity(*ZONES[:2])
    after = moving.move(MAY_MOVE)
    assert (after.status, after.zone, moving.content) == (Status.READY, THERE, WORK)
    moving.sweep(times=3)
    assert moving.world.machines.disks == {Place(THERE, after.disk_name)}


@pytest.mark.parametrize("prepare", [suspended, off, gone])
def test_a_snapshot_that_its_owner_deletes_at_once_keeps_nothing_of_a_move(
    moving: Moving, prepare: Callable[[Moving], None]
) -> None:
    """When it was made is known all the same, so the machine and the disk of before go."""
    prepare(moving)
    after = moving.move()
    moving.world.delete_snapshot("alice", moving.before.id, moving.kept[0].id)
    moving.world.run()
    assert moving.kept == []
    moving.sweep(times=3)
    assert moving.world.machines.disks == {Place(THERE, after.disk_name)}
    assert set(moving.world.machines.instances) == {place_of(after)}
    assert (moving.now.old_homes, moving.content) == ((), WORK)


# ---- what an archived workspace does ----


def test_an_archived_workspace_takes_the_first_zone_with_capacity(moving: Moving) -> None:
    """Without a zone, all of them are tried."""
    archive(moving)
    moving.no_capacity(*ZONES[:2])
    after = moving.start()
    assert (after.status, after.zone, moving.content) == (Status.READY, THERE, WORK)
    assert moving.world.machines.disks == {Place(THERE, after.disk_name)}


@pytest.mark.parametrize("machine_type", [None, "e2-standard-8"])
@pytest.mark.parametrize("rebuild", [False, True])
def test_an_archived_workspace_stays_in_its_own_zone_if_that_is_named(
    moving: Moving, machine_type: str | None, *, rebuild: bool
) -> None:
    """There is capacity in another, but nobody has agreed to that."""
    archive(moving)
    moving.no_capacity(ZONES[0])
    asked = NewMachine(zone=ZONES[0], machine_type=machine_type, rebuild=rebuild)
    after = moving.start(asked)
    assert after.error is not None
    assert (after.status, after.error.code) == (Status.SUSPENDED, "NO_CAPACITY")
    assert f"in zone {ZONES[0]}" in after.error.message
    after = moving.start(replace(asked, may_move=True))
    assert (after.status, after.zone, moving.content) == (Status.READY, ZONES[1], WORK)


@pytest.mark.parametrize("prepare", [archive, suspended])
@pytest.mark.parametrize(
    ("machine", "full", "said"),
    [
        (BY_ZONE, (THERE,), ("in zone us-west1-c", "without a zone", "another zone")),
        (MAY_MOVE, ZONES, ("any configured zone", "again later", "again later")),
        (NewMachine(zone=THERE, may_move=True), ZONES, ("in any ", "again later", "go on there")),
    ],
    ids=["zone", "any", "zone or any"],
)
def test_a_start_without_capacity_says_where_there_is_none_and_what_to_do(
    moving: Moving,
    prepare: Callable[[Moving], None],
    machine: NewMachine,
    full: tuple[str, ...],
    said: tuple[str, str, str],
) -> None:
    """It is archived, or suspended with its memory, as before, and what is said can be done."""
    prepare(moving)
    was = moving.now
    moving.no_capacity(*full)
    after = moving.move(machine)
    assert after.error is not None
    assert (after.status, after.error.code) == (Status.SUSPENDED, "NO_CAPACITY")
    where, if_archived, if_not = said
    way = if_archived if prepare is archive else if_not
    assert where in after.error.message
    assert way in after.error.message
    assert (after.archived_at, after.home_disk) == (was.archived_at, was.home_disk)
    assert (after.has_memory, after.home_source) == (was.has_memory, was.home_source)
    assert not after.counts_as_running
    homes = {Place(was.zone, was.disk_name)} if prepare is suspended else set()
    assert moving.world.machines.disks == homes

    moving.world.machines.calm()
    after = moving.start()
    assert (after.status, after.error, moving.content) == (Status.READY, None, WORK)


@pytest.mark.parametrize("zones", [ZONES, ZONES[:1]], ids=["three zones", "one zone"])
def test_a_move_is_advised_only_if_there_is_another_zone(
    moving: Moving, zones: tuple[str, ...]
) -> None:
    """What the message says can be done."""
    moving.world.policy = replace(moving.world.policy, zones=zones)
    moving.suspend()
    moving.no_capacity(ZONES[0])
    after = moving.start()
    assert after.error is not None
    assert (after.status, after.error.code) == (Status.SUSPENDED, "NO_CAPACITY")
    assert ("start it with may_move" in after.error.message) is (zones == ZONES)
    assert ("there is no other zone" in after.error.message) is (zones != ZONES)


def test_a_start_without_capacity_leaves_no_disk_of_an_archived_home(moving: Moving) -> None:
    """Compute may have made it before it found none."""
    archive(moving)
    machines, home = moving.world.machines, Place(THERE, moving.now.disk_name)
    labels = {**labels_of(moving.before.id, "alice"), "hub": INSTALLATION}
    machines.script(InsertInstance, Mishap.REFUSED, FaultKind.STOCK_OUT, zone=THERE)
    machines.before_call = lambda: machines.make_disk_by_hand(home, labels)
    after = moving.move()
    assert (after.status, moving.world.machines.disks) == (Status.SUSPENDED, set())
    assert (moving.start().status, moving.content) == (Status.READY, WORK)


@pytest.mark.parametrize("prepare", [archive, suspended])
def test_a_start_may_name_a_zone_and_take_any_other_if_that_has_no_capacity(
    moving: Moving, prepare: Callable[[Moving], None]
) -> None:
    """The zone is tried first."""
    machine = NewMachine(zone=THERE, may_move=True)
    prepare(moving)
    moving.no_capacity(THERE)
    if prepare is archive:
        moving.no_capacity(ZONES[0])
    after = moving.move(machine)
    assert (after.status, after.zone, moving.content) == (Status.READY, ZONES[1], WORK)
    moving.sweep(times=3)
    assert moving.world.machines.disks == {Place(ZONES[1], after.disk_name)}

    moving.world.machines.calm()
    after = moving.move(machine)
    assert (after.status, after.zone, moving.content) == (Status.READY, THERE, WORK)


# ---- what is refused, and what is noted ----


@pytest.mark.parametrize("dry", [False, True])
def test_a_move_needs_room_for_a_snapshot(moving: Moving, dry: bool) -> None:
    """It is refused before the machine is shut down; one that only may move is not."""
    moving.world.policy = replace(moving.world.policy, snapshots_per_workspace=1)
    moving.world.snapshot("alice", moving.before.id, "mine")
    moving.world.run()
    moving.world.pass_time(moving.world.policy.snapshot_pause)
    before = moving.now
    with pytest.raises(QuotaExceededError, match="1 of at most 1"):
        dry_run(moving, BY_ZONE) if dry else moving.ask()
    assert moving.now == before
    assert dry_run(moving, NewMachine(may_move=True, rebuild=True)).decision is Decision.BEGIN


@pytest.mark.parametrize("dry", [False, True])
def test_a_move_waits_for_the_pause_between_two_snapshots(moving: Moving, dry: bool) -> None:
    """Compute takes one of a disk in ten minutes. Until then, one that runs goes on running."""
    world = moving.world
    world.snapshot("alice", moving.before.id, "mine")
    world.run()
    before = moving.now
    with pytest.raises(TooManyRequestsError, match="The workspace can move from") as refused:
        dry_run(moving, BY_ZONE) if dry else world.start("alice", before.id, BY_ZONE)
    assert moving.now == before
    moving.suspend()
    assert dry_run(moving, BY_ZONE).decision is Decision.BEGIN
    moving.start()
    world.pass_time(refused.value.retry_after)
    assert moving.move().zone == THERE


def test_a_dry_run_of_an_archive_says_which_snapshot_goes_for_its_own(moving: Moving) -> None:
    """The ARCHIVE then deletes it. A snapshot with a name stays: the limit is exceeded."""
    world = moving.world
    world.policy = replace(world.policy, snapshots_per_workspace=1)
    moving.move()
    [first] = moving.kept
    planned = partial(
        manage_workspaces.dry_run_archive,
        *(world.records, world.policy, actor("alice"), moving.before.id),
    )
    [loss] = [each for each in planned().losses if each.what is Lost.SNAPSHOTS]
    assert "There must be room" in loss.why
    world.store.put_snapshots(replace(first, automatic=False, name="dear"))
    assert [each for each in planned().losses if each.what is Lost.SNAPSHOTS] == []


def test_a_dry_run_says_which_snapshot_goes_for_that_of_a_move(moving: Moving) -> None:
    """The move then deletes it."""
    moving.world.policy = replace(moving.world.policy, snapshots_per_workspace=1)
    moving.move()
    [first] = moving.kept
    moving.sweep(times=3)
    [loss] = [
        each
        for each in dry_run(moving, NewMachine(zone=ZONES[0])).losses
        if each.what is Lost.SNAPSHOTS
    ]
    assert "There must be room" in loss.why
    moving.move(NewMachine(zone=ZONES[0]))
    assert first.id not in {each.id for each in moving.kept}
    assert len(moving.kept) == 1


@pytest.mark.parametrize("machine", [BY_ZONE, MAY_MOVE, NewMachine(zone=THERE, may_move=True)])
def test_only_zones_that_were_tried_count_as_without_capacity(
    moving: Moving, machine: NewMachine
) -> None:
    """The zone that a move leaves was not, if another one was named."""
    moving.suspend()
    moving.no_capacity(ZONES[0])
    moving.ask(machine)
    moving.until(Phase.AWAIT_READY)
    assert moving.now.operation is not None
    assert moving.now.operation.zones_tried == (ZONES[:1] if machine is MAY_MOVE else ())


@pytest.mark.parametrize("phase", [Phase.SURVEY, Phase.AWAIT_RUNNING])
def test_a_start_under_way_hears_that_it_may_move(moving: Moving, phase: Phase) -> None:
    """Once or twice, it is the same START; it then moves."""
    moving.suspend()
    moving.no_capacity(ZONES[0])
    moving.world.start("alice", moving.before.id)
    moving.until(phase)
    begun = moving.now.operation
    for _ in range(2):
        moving.world.start("alice", moving.before.id, MAY_MOVE)
    assert begun is not None
    assert moving.now.operation == replace(begun, may_move=True)
    noted = moving.now
    moving.world.start("alice", moving.before.id, MAY_MOVE)
    assert moving.now == noted
    after = moving.end()
    assert (after.status, after.zone, moving.content) == (Status.READY, ZONES[1], WORK)


@pytest.mark.parametrize("failed", [False, True])
def test_a_start_that_cannot_hear_it_is_a_conflict(moving: Moving, failed: bool) -> None:
    """It is on its way to another zone, or has failed and only cleans up."""
    moving.suspend()
    if failed:
        moving.world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
        moving.world.start("alice", moving.before.id, NewMachine(rebuild=True))
        moving.until(Phase.STOP)
    else:
        moving.world.start("alice", moving.before.id)
    for asked in (BY_ZONE, NewMachine(zone=THERE, may_move=True), *([MAY_MOVE] if failed else [])):
        with pytest.raises(OperationUnderWayError):
            moving.world.start("alice", moving.before.id, asked)


# ---- what goes wrong ----


def capture_fails(moving: Moving) -> None:
    """Have Compute take no snapshot."""
    moving.world.machines.script(CreateSnapshot, Mishap.CAPTURE_FAILS)
    moving.ask()


def upload_fails(moving: Moving) -> None:
    """Have Compute not store the snapshot."""
    moving.world.machines.script(CreateSnapshot, Mishap.UPLOAD_FAILS)
    moving.ask()


def copy_deleted(moving: Moving) -> None:
    """Delete the snapshot by hand while it is stored."""
    moving.ask()
    moving.until(Phase.AWAIT_STORED)
    moving.world.machines.delete_snapshot_by_hand(moving.kept[0].place.name)


def copy_deleted_late(moving: Moving) -> None:
    """Delete the snapshot by hand before the new disk is made of it."""
    moving.ask()
    moving.until(Phase.INSERT)
    moving.world.machines.delete_snapshot_by_hand(moving.kept[0].place.name)


def never_stored(moving: Moving) -> None:
    """Have the upload last for longer than a move may wait for it."""
    brief = Deadlines(restore=timedelta(minutes=1))
    moving.world.policy = replace(moving.world.policy, deadlines=brief)
    moving.world.machines.script(CreateSnapshot, Mishap.SLOW)
    moving.ask()


def no_zone(moving: Moving) -> None:
    """Have no capacity anywhere."""
    moving.no_capacity(*ZONES)
    moving.ask(MAY_MOVE)


def zone_full(moving: Moving) -> None:
    """Have no capacity in the zone that is asked for."""
    moving.no_capacity(THERE)
    moving.ask()


def only_zone(moving: Moving) -> None:
    """Have no other zone."""
    moving.world.policy = replace(moving.world.policy, zones=ZONES[:1])
    moving.no_capacity(ZONES[0])
    moving.ask(MAY_MOVE)


def never_ready(moving: Moving) -> None:
    """Have the new machine never report."""
    moving.world.machines.script_boot(GuestMishap.NEVER_READY)
    moving.ask()


def fails_at_boot(moving: Moving) -> None:
    """Have the new machine report that it has failed."""
    moving.world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
    moving.ask()


def disk_missing(moving: Moving) -> None:
    """Have the new machine boot without the new home."""
    moving.ask()
    moving.until(Phase.AWAIT_READY)
    moving.world.machines.detach_disk_by_hand(Place(THERE, moving.now.disk_name))


def stopped_at_boot(moving: Moving) -> None:
    """Stop the new machine by hand while it boots."""
    moving.ask()
    moving.until(Phase.AWAIT_READY)
    moving.world.machines.stop_by_hand(place_of(moving.now))


def deleted_at_boot(moving: Moving) -> None:
    """Delete the new machine by hand while it boots, and leave its disk."""
    moving.ask()
    moving.until(Phase.AWAIT_READY)
    moving.world.machines.delete_by_hand(place_of(moving.now))


def foreign_disk(moving: Moving) -> None:
    """Have somebody else's disk under the name of the new home."""
    place = Place(THERE, f"{moving.home.name}-{moving.before.generation + 1}")
    moving.world.machines.make_disk_by_hand(place, {})
    moving.ask()


def nothing_cleaned_up(moving: Moving) -> None:
    """Have the new machine never report, and Compute not delete it, nor its disk, for long."""
    moving.world.machines.script_boot(GuestMishap.NEVER_READY)
    for command in (DeleteInstance, DeleteDisk):
        moving.world.machines.script(command, Mishap.REFUSED, FaultKind.POLICY)
    moving.ask()


WENT_WRONG: dict[Callable[[Moving], None], str] = {
    capture_fails: "SNAPSHOT_FAILED",
    upload_fails: "SNAPSHOT_FAILED",
    copy_deleted: "SNAPSHOT_FAILED",
    copy_deleted_late: "SNAPSHOT_GONE",
    never_stored: "START_TIMED_OUT",
    no_zone: "NO_CAPACITY",
    zone_full: "NO_CAPACITY",
    only_zone: "NO_CAPACITY",
    never_ready: "NOT_READY_IN_TIME",
    fails_at_boot: "IMAGE_PULL_FAILED",
    disk_missing: "DISK_MISSING",
    stopped_at_boot: "MACHINE_STOPPED",
    deleted_at_boot: "MACHINE_GONE",
    foreign_disk: "COMPUTE_NAME_TAKEN",
    nothing_cleaned_up: "NOT_READY_IN_TIME",
}


@pytest.mark.parametrize("go_wrong", WENT_WRONG)
def test_a_move_that_fails_leaves_machine_memory_and_home_as_they_were(
    moving: Moving, go_wrong: Callable[[Moving], None]
) -> None:
    """A START resumes the machine at once, and another move works at once, too."""
    moving.suspend()
    go_wrong(moving)
    moving.world.run()

    after = moving.now
    assert after.error is not None
    assert (after.status, after.error.code) == (Status.SUSPENDED, WENT_WRONG[go_wrong])
    one_was_tried = f"No capacity for {after.machine_type} in zone {THERE}." in after.error.message
    assert one_was_tried is (go_wrong is zone_full)
    assert (after.zone, after.home_disk) == (ZONES[0], HomeDisk(moving.home.name, ZONES[0]))
    assert (after.home_source, after.has_memory, moving.content) == (None, True, WORK)
    assert after.instance_id == moving.before.instance_id
    assert moving.former is not None
    assert moving.former.state is InstanceState.SUSPENDED
    assert not after.counts_as_running
    moving.world.machines.calm()
    after = moving.start()
    assert (after.status, after.error, after.zone) == (Status.READY, None, ZONES[0])
    assert (after.memory_kept, after.generation) == (True, moving.before.generation)
    moving.world.machines.write(moving.home, MORE)

    moving.world.policy = replace(moving.world.policy, zones=ZONES, deadlines=Deadlines())
    moving.sweep(times=3)
    if go_wrong is foreign_disk:
        moving.world.machines.delete_disk_by_hand(Place(THERE, f"{moving.home.name}-2"))
    after = moving.move()
    assert (after.status, after.error, after.zone) == (Status.READY, None, THERE)
    assert moving.content == MORE
    moving.sweep(times=3)
    assert moving.world.machines.disks == {Place(THERE, after.disk_name)}
    assert set(moving.world.machines.instances) == {place_of(after)}
    assert moving.now.old_homes == ()


@pytest.mark.parametrize("command", [StopInstance, CreateSnapshot, InsertInstance])
def test_a_move_that_compute_refuses_loses_nothing_and_can_be_asked_for_again(
    command: type[Command],
) -> None:
    """Whatever the refusal, it is where it was, and a move works then."""
    for how, kind in product((Mishap.REFUSED, Mishap.FAILS_LATER), FaultKind):
        if command is StopInstance and kind is FaultKind.STOCK_OUT:
            continue  # a machine that stops needs no capacity
        moving = Moving()
        moving.world.machines.script(command, how, kind, times=1000)
        after = moving.move()
        case = (how, kind, after.status, after.error)
        assert after.operation is None, case
        assert after.error is not None, case
        assert (moving.content, after.zone) == (WORK, ZONES[0]), case
        assert after.instance_id == moving.before.instance_id, case
        off = {Status.READY, Status.ERROR} if command is StopInstance else {Status.SUSPENDED}
        assert after.status in off, case
        assert after.counts_as_running == (command is StopInstance), case

        moving.world.machines.calm()
        moving.world.pass_time(timedelta(hours=2))  # Compute takes six snapshots an hour
        after = moving.move()
        case = (how, kind, after.status, after.error)
        assert (after.status, after.zone, moving.content) == (Status.READY, THERE, WORK), case
        moving.sweep(times=3)
        assert moving.world.machines.disks == {Place(THERE, after.disk_name)}, case
        assert set(moving.world.machines.instances) == {place_of(after)}, case


def test_what_a_move_has_left_while_compute_did_not_answer_is_deleted(moving: Moving) -> None:
    """Machine and disk are nobody's: no later move takes them for its own."""
    moving.suspend()
    moving.world.machines.script_boot(GuestMishap.NEVER_READY)
    moving.ask()
    moving.until(Phase.AWAIT_READY)
    there = place_of(moving.now)
    moving.world.machines.unanswered_reads = 10**6
    moving.world.run(lambda: moving.now.operation is None)
    after = moving.now
    assert after.error is not None
    assert (after.error.code, after.zone) == ("COMPUTE_UNAVAILABLE", ZONES[0])
    assert there in moving.world.machines.instances

    moving.world.machines.calm()
    moving.world.run()
    assert (moving.now.status, moving.now.has_memory) == (Status.SUSPENDED, True)
    moving.start()
    moving.world.machines.write(moving.home, MORE)
    moving.suspend()
    with pytest.raises(InvalidRequestError):
        moving.ask()
    moving.no_capacity(ZONES[0])
    after = moving.move(MAY_MOVE)
    assert (after.status, after.zone, moving.content) == (Status.READY, ZONES[1], MORE)
    moving.sweep(times=4)
    assert moving.world.machines.disks == {Place(ZONES[1], after.disk_name)}
    assert set(moving.world.machines.instances) == {place_of(after)}


def answer_lost(moving: Moving) -> None:
    """Have Compute make the machine, and not answer again before the deadline."""
    moving.world.machines.script(InsertInstance, Mishap.ANSWER_LOST)
    moving.ask()
    moving.until(Phase.INSERT)
    moving.world.run(lambda: place_of(moving.now) in moving.world.machines.instances)
    moving.world.machines.unanswered_reads = 10**6
    moving.world.run(lambda: moving.now.operation is None)
    moving.world.machines.calm()


def made_late(moving: Moving) -> None:
    """Have a worker that was held up make the machine after the move has ended."""
    moving.world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.QUOTA)
    moving.move()
    [refused] = [
        each for each, _ in moving.world.machines.calls if getattr(each, "home_snapshot", None)
    ]
    moving.world.machines.perform(refused, "late")
    moving.world.pass_time(timedelta(minutes=5))


@pytest.mark.parametrize("leave", [answer_lost, made_late])
@pytest.mark.parametrize("then", ["nothing", "another move", "a move elsewhere", "a restore"])
def test_a_machine_of_a_move_that_nobody_knows_of_is_deleted_and_never_used(
    moving: Moving, leave: Callable[[Moving], None], then: str
) -> None:
    """Whatever is asked for before the hourly sweep sees to it, the home is the right one."""
    world = moving.world
    moving.suspend()
    leave(moving)
    world.run()
    left = Place(THERE, moving.before.instance_name)
    assert (moving.now.zone, moving.now.error is not None) == (ZONES[0], True)
    assert left in world.machines.instances
    unknown = world.machines.instances[left].id

    assert (moving.start().memory_kept, moving.content) == (True, WORK)
    world.machines.write(moving.home, MORE)
    if then != "nothing":
        moving.suspend()
    if then == "another move":
        assert moving.move().zone == THERE
    if then == "a move elsewhere":
        assert moving.move(NewMachine(zone=ZONES[1])).zone == ZONES[1]
    if then == "a restore":
        world.restore("alice", moving.before.id, moving.kept[0].id)
        moving.end()
        world.machines.delete_by_hand(place_of(moving.now))
        world.look(moving.now)
        world.run()
        moving.start()
    wanted = WORK if then == "a restore" else MORE
    assert (moving.now.status, moving.content) == (Status.READY, wanted)
    assert moving.now.instance_id != unknown

    moving.sweep(times=4)
    after = moving.now
    assert (after.status, after.old_homes, moving.content) == (Status.READY, (), wanted)
    assert set(world.machines.instances) == {place_of(after)}
    assert world.machines.disks == {Place(after.zone, after.disk_name)}


@pytest.mark.parametrize("machine", [BY_ZONE, MAY_MOVE])
@pytest.mark.parametrize("later", [False, True])
def test_a_move_gives_no_empty_home_to_a_workspace_that_has_one(
    moving: Moving, machine: NewMachine, *, later: bool
) -> None:
    """It goes back, although its owner agrees to an empty home: what is gone is the snapshot."""
    moving.suspend()
    moving.no_capacity(ZONES[0])
    empty = replace(machine, empty_home=True)
    moving.ask(machine if later else empty)
    there = machine.zone or ZONES[1]
    moving.world.machines.script(
        InsertInstance, Mishap.REFUSED, FaultKind.NOT_READY, zone=there, times=3
    )
    moving.world.run(lambda: moving.now.zone == there)
    if later:
        moving.ask(empty)
    moving.world.machines.delete_snapshot_by_hand(moving.kept[0].place.name)
    after = moving.end()
    assert after.error is not None
    assert (after.status, after.error.code) == (Status.SUSPENDED, "SNAPSHOT_GONE")
    assert (after.zone, moving.content, after.has_memory) == (ZONES[0], WORK, True)
    moving.sweep(times=3)
    assert moving.world.machines.disks == {moving.home}


@pytest.mark.parametrize("is_archived", [False, True])
def test_a_start_that_names_a_zone_may_go_on_with_an_empty_home(
    moving: Moving, *, is_archived: bool
) -> None:
    """As any other, once the home is gone."""
    if is_archived:
        archive(moving)
        moving.world.machines.delete_snapshot_by_hand(moving.kept[0].place.name)
    else:
        gone(moving)
        moving.world.machines.delete_disk_by_hand(moving.home)
    after = moving.start(NewMachine(zone=THERE, empty_home=True))
    assert (after.status, after.error) == (Status.READY, None)
    assert moving.content not in {None, WORK}


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_machine_that_was_not_recorded_goes_after_a_move_like_any_other(
    moving: Moving, *, by_hand: bool
) -> None:
    """A START was to make a new one, and could not delete it; or somebody has made it anew."""
    if by_hand:
        moving.world.machines.copy_by_hand(place_of(moving.before), ZONES[1])
        moving.world.machines.move_by_hand(Place(ZONES[1], place_of(moving.before).name), ZONES[0])
        moving.world.pass_time(timedelta(minutes=5))
    else:
        moving.world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.POLICY)
        moving.start(NewMachine(rebuild=True))
        assert (moving.now.status, moving.now.instance_id) == (Status.ERROR, None)
    assert moving.former is not None
    after = moving.move()
    assert (after.status, after.zone, moving.content) == (Status.READY, THERE, WORK)
    moving.sweep(times=3)
    assert moving.world.machines.disks == {Place(THERE, after.disk_name)}
    assert set(moving.world.machines.instances) == {place_of(after)}
    assert (moving.now.old_homes, moving.content) == ((), WORK)


# ---- what somebody does meanwhile ----

PHASES = (
    *(Phase.SNAPSHOT, Phase.AWAIT_SNAPSHOT, Phase.AWAIT_STORED),
    *(Phase.INSERT, Phase.INSERTING, Phase.AWAIT_READY),
)


@pytest.mark.parametrize("then", ["runs", "is suspended again", "is shut down", "is deleted"])
@pytest.mark.parametrize("phase", PHASES)
def test_what_is_written_on_the_old_side_meanwhile_is_never_deleted(
    moving: Moving, phase: Phase, then: str
) -> None:
    """Its disk stays, unless the home or a snapshot has it."""
    moving.suspend()
    moving.ask()
    moving.until(phase)
    at = place_of(moving.before)
    moving.world.machines.start_by_hand(at)
    moving.world.pass_time(timedelta(seconds=12))
    moving.world.machines.write(moving.home, MORE)
    if then == "is suspended again":
        moving.world.machines.suspend_by_hand(at)
    if then == "is shut down":
        moving.world.machines.stop_by_hand(at)
    if then == "is deleted":
        moving.world.machines.delete_by_hand(at)
    moving.end()
    assert moving.now.status in {Status.READY, Status.SUSPENDED, Status.ERROR}

    moving.sweep(times=4)

    places = [*moving.world.machines.disks, *(each.place for each in moving.kept)]
    assert MORE in {moving.world.machines.content_of(place) for place in places}
    after = moving.start()
    assert after.status is Status.READY
    assert moving.content in {WORK, MORE}


@pytest.mark.parametrize("copy", ["is kept", "is deleted"])
@pytest.mark.parametrize("then", ["runs", "is suspended again", "is deleted"])
def test_what_is_written_on_the_old_side_after_a_move_is_not_deleted(
    moving: Moving, then: str, copy: str
) -> None:
    """The sweep says so each time."""
    moving.suspend()
    moving.move()
    if copy == "is deleted":
        moving.world.delete_snapshot("alice", moving.before.id, moving.kept[0].id)
        moving.world.run()
    at = place_of(moving.before)
    moving.world.machines.start_by_hand(at)
    moving.world.pass_time(timedelta(minutes=1))
    moving.world.machines.write(moving.home, MORE)
    if then == "is suspended again":
        moving.world.machines.suspend_by_hand(at)
    if then == "is deleted":
        moving.world.machines.delete_by_hand(at)
    assert moving.sweep(times=4).done == {"OldHomeUsed": [moving.before.id]}
    assert moving.home in moving.world.machines.disks
    assert moving.world.machines.content_of(moving.home) == MORE
    assert (moving.now.status, moving.now.zone) == (Status.READY, THERE)
    assert [old.name for old in moving.now.old_homes] == [moving.home.name]


@pytest.mark.parametrize("used", [False, True])
def test_the_machine_of_before_goes_although_somebody_has_deleted_its_disk(
    moving: Moving, *, used: bool
) -> None:
    """It costs, and no record would name it. If it has run, it stays until a person deletes it."""
    after = moving.move()
    place, machines = place_of(moving.before), moving.world.machines
    machines.detach_disk_by_hand(moving.home)
    machines.delete_disk_by_hand(moving.home)
    if used:
        machines.start_by_hand(place)
        moving.world.pass_time(timedelta(minutes=5))
    assert ("OldHomeUsed" in moving.sweep(times=3).done) == used
    assert (place in machines.instances, bool(moving.now.old_homes)) == (used, used)
    machines.delete_by_hand(place)
    moving.sweep()
    assert moving.now.old_homes == ()
    assert set(machines.instances) == {place_of(after)}


def test_no_retention_deletes_what_is_written_on_the_old_side(moving: Moving) -> None:
    """It counts again once a person has seen to that."""
    world = moving.world
    moving.suspend()
    moving.move()
    world.machines.start_by_hand(place_of(moving.before))
    world.machines.write(moving.home, MORE)
    world.stop("alice", moving.before.id)
    world.run()
    for _ in range(2):
        world.pass_time(timedelta(days=40))
        world.clean_up()
        world.run()
    assert moving.now.status is Status.SUSPENDED
    assert world.machines.content_of(moving.home) == MORE

    world.machines.delete_by_hand(place_of(moving.before))
    world.machines.delete_disk_by_hand(moving.home)
    moving.sweep()
    world.clean_up()
    world.run()
    assert world.store.workspaces == {}


@pytest.mark.parametrize("phase", [Phase.INSERT, Phase.INSERTING, Phase.AWAIT_READY])
def test_nothing_else_is_done_while_it_moves(moving: Moving, phase: Phase) -> None:
    """The same START again is the same."""
    world = moving.world
    moving.ask()
    moving.until(phase)
    before = moving.now
    for refused in (
        lambda: world.stop("alice", moving.before.id),
        lambda: world.snapshot("alice", moving.before.id),
        lambda: moving.ask(NewMachine(zone=ZONES[1])),
        lambda: moving.ask(NewMachine(home_disk_gb=100)),
        lambda: moving.ask(NewMachine(machine_type="e2-standard-8")),
        lambda: world.restore("alice", moving.before.id, moving.kept[0].id),
    ):
        with pytest.raises(OperationUnderWayError):
            refused()
    moving.ask()
    assert moving.now == before
    after = moving.end()
    assert (after.status, after.zone) == (Status.READY, THERE)
    assert len(moving.kept) == 1


def test_a_delete_before_any_commit_of_a_move_leaves_nothing() -> None:
    """In neither of the zones, and none of the snapshots."""
    seen: set[Phase] = set()
    for nth in range(1, 100):
        moving = Moving()
        moving.suspend()
        moving.ask()
        deletes = _Deletes(moving, nth)
        moving.world.run()
        if deletes.phase is None:
            break
        seen.add(deletes.phase)
        left = (dict(moving.world.store.workspaces), dict(moving.world.store.snapshots))
        assert left == ({}, {}), (nth, deletes.phase)
        machines = moving.world.machines
        assert (machines.instances, machines.disks, machines.snapshots) == ({}, set(), {}), (
            nth,
            deletes.phase,
        )
    assert moving.now.status is Status.READY
    assert seen >= {*PHASES, Phase.STOP}


def test_a_delete_before_any_commit_of_a_move_keeps_the_home_and_nothing_else() -> None:
    """Whatever the move has done, the workspace can be taken back with its home."""
    for nth in range(1, 100):
        moving = Moving()
        moving.world.policy = replace(moving.world.policy, undelete_for=timedelta(days=7))
        moving.suspend()
        moving.ask()
        deletes = _Deletes(moving, nth)
        moving.world.run()
        if deletes.phase is None:
            break
        case, world = (nth, deletes.phase), moving.world
        assert (world.store.workspaces, world.machines.instances) == ({}, {}), case
        assert world.machines.disks == set(), case
        [entry] = world.store.deleted.values()
        copy = world.store.snapshots[entry.snapshot_id]
        assert world.machines.content_of(copy.place) == WORK, case
        assert len(world.machines.snapshots) == len(world.store.snapshots), case
        world.undelete("alice", moving.before.id)
        assert (moving.start().status, moving.content) == (Status.READY, WORK), case
    assert moving.now.status is Status.READY


class _Deletes:
    """Asks for a DELETE right before the ``nth`` commit; ``phase`` is where the START was."""

    def __init__(self, moving: Moving, nth: int) -> None:
        self._moving, self._left = moving, nth
        self._commit = moving.world.store.commit
        self.phase: Phase | None = None
        moving.world.store.commit = self.commit  # type: ignore[method-assign]

    def commit(self, **documents: Any) -> None:
        """Commit, after the DELETE was accepted if it is due."""
        self._left -= 1
        operation = self._moving.now.operation if self._left == 0 else None
        if operation is not None:
            self.phase = operation.phase
            self._moving.world.delete("alice", self._moving.before.id)
        self._commit(**documents)


@pytest.mark.parametrize("sweeps", [0, 1])
def test_a_workspace_that_has_just_moved_can_be_deleted(moving: Moving, sweeps: int) -> None:
    """The machine and the disk of before go, too."""
    moving.suspend()
    moving.move()
    moving.sweep(times=sweeps)
    moving.world.delete("alice", moving.before.id)
    moving.world.run()
    assert (moving.world.store.workspaces, moving.world.machines.instances) == ({}, {})
    assert (moving.world.machines.disks, moving.world.machines.snapshots) == (set(), {})


@pytest.mark.parametrize("ask", [None, BY_ZONE])
def test_a_start_after_a_move_never_goes_back_to_what_was_before(
    moving: Moving, ask: NewMachine | None
) -> None:
    """Though the new machine was deleted by hand and the old one is still there."""
    moving.suspend()
    after = moving.move()
    moving.world.machines.write(Place(THERE, after.disk_name), MORE)
    moving.world.machines.delete_by_hand(place_of(after))
    moving.world.look(moving.now)
    moving.world.run()
    assert (moving.now.status, moving.now.zone) == (Status.ERROR, THERE)
    after = moving.start(ask)
    assert (after.status, after.zone, moving.content) == (Status.READY, THERE, MORE)
    moving.sweep(times=3)
    assert set(moving.world.machines.instances) == {place_of(after)}
    assert moving.content == MORE


@pytest.mark.parametrize("phase", [Phase.INSERTING, Phase.AWAIT_READY, None])
def test_the_machine_of_before_is_not_heard_any_more(moving: Moving, phase: Phase | None) -> None:
    """Neither that it is ready, nor that it is in use, nor that it has failed."""
    moving.suspend()
    moving.ask()
    if phase is None:
        moving.end()
    else:
        moving.until(phase)
    machine, before = moving.former, moving.now
    assert machine is not None
    for event, generation in product(ReportEvent, (1, 2)):
        said = replace(machine.report(event, "CONTAINER_ENDS"), generation=generation)
        with pytest.raises((NotAllowedError, ReportNotTakenError)):
            moving.world.report(said)
    assert moving.now == before


@pytest.mark.parametrize("what", ["archive", "snapshot", "restore", "stop", "rebuild", "grow"])
@pytest.mark.parametrize("sweeps", [0, 1])
def test_anything_can_be_done_while_the_home_of_before_is_still_there(
    moving: Moving, what: str, sweeps: int
) -> None:
    """It is done to the home, and the machine and the disk of before go all the same."""
    world, its_id = moving.world, moving.before.id
    moving.suspend()
    home = Place(THERE, moving.move().disk_name)
    [copy] = moving.kept
    world.machines.write(home, MORE)
    world.pass_time(world.policy.snapshot_pause)
    moving.sweep(times=sweeps)
    assert moving.now.old_homes
    if what == "archive":
        world.archive("alice", its_id)
    if what == "snapshot":
        world.snapshot("alice", its_id, "mine")
    if what == "restore":
        world.restore("alice", its_id, copy.id)
    if what == "stop":
        world.stop("alice", its_id)
    if what == "rebuild":
        moving.ask(NewMachine(rebuild=True))
    if what == "grow":
        moving.ask(NewMachine(home_disk_gb=100))
    moving.end()
    assert (moving.now.error, moving.now.zone) == (None, THERE)
    taken = [each for each in world.store.snapshots.values() if each.id != copy.id]
    assert {world.machines.content_of(each.place) for each in taken} <= {MORE}

    moving.sweep(times=3)

    now = moving.now
    assert now.old_homes == ()
    homes = set() if what == "archive" else {Place(THERE, now.disk_name)}
    assert world.machines.disks == homes
    assert set(world.machines.instances) == (set() if what == "archive" else {place_of(now)})
    assert moving.start().status is Status.READY
    assert moving.content == (WORK if what == "restore" else MORE)


def test_two_people_who_move_at_once_never_get_each_others_homes() -> None:
    """Each has their own machine, home and snapshots, in any order of steps."""
    for nth in range(0, 12, 3):
        moving = Moving()
        world = moving.world
        bob = world.ready("bob", "two")
        world.machines.write(Place(bob.zone, bob.disk_name), MORE)
        moving.ask()
        for _ in range(nth):
            world.pass_time(timedelta(seconds=5))
        world.start("bob", bob.id, BY_ZONE)
        with pytest.raises(WorkspaceNotFoundError):
            world.start("bob", moving.before.id, BY_ZONE)
        world.run()
        moving.sweep(times=3)
        of_bob = world.workspace(bob.id)
        theirs = Place(of_bob.zone, of_bob.disk_name)
        assert (moving.content, world.machines.content_of(theirs)) == (WORK, MORE)
        assert (moving.now.zone, of_bob.zone) == (THERE, THERE)
        assert world.machines.disks == {theirs, Place(THERE, moving.now.disk_name)}
        for each in world.store.snapshots.values():
            content = WORK if each.owner_id == "alice" else MORE
            assert world.machines.content_of(each.place) == content


# ---- again ----


def test_it_moves_once_more_but_not_to_where_its_last_machine_still_is(moving: Moving) -> None:
    """The machine there has its name. Once that is gone, it may move back."""
    moving.suspend()
    moving.move()
    after = moving.move(NewMachine(zone=ZONES[1]))
    assert (after.status, after.zone, moving.content) == (Status.READY, ZONES[1], WORK)
    assert {(old.zone, old.instance_id is None) for old in after.old_homes} == {
        *((ZONES[0], False), (THERE, False)),
    }
    with pytest.raises(InvalidRequestError) as refused:
        moving.ask(NewMachine(zone=ZONES[0]))
    assert "Choose another zone, or try again later" in str(refused.value)
    moving.world.machines.write(Place(ZONES[1], after.disk_name), MORE)
    moving.sweep(times=3)
    assert moving.world.machines.disks == {Place(ZONES[1], after.disk_name)}

    after = moving.move(NewMachine(zone=ZONES[0]))
    assert (after.status, after.zone, moving.content) == (Status.READY, ZONES[0], MORE)
    moving.sweep(times=3)
    assert moving.world.machines.disks == {Place(ZONES[0], after.disk_name)}
    assert set(moving.world.machines.instances) == {place_of(after)}


def test_a_move_without_capacity_leaves_the_zones_out_where_old_machines_are(
    moving: Moving,
) -> None:
    """With no other zone left it says so, and stays where it is."""
    moving.suspend()
    moving.move(NewMachine(zone=ZONES[1]))
    moving.suspend()
    moving.no_capacity(*ZONES[1:])
    after = moving.move(MAY_MOVE)
    assert after.error is not None
    assert (after.status, after.error.code, after.zone) == (
        *(Status.SUSPENDED, "NO_CAPACITY"),
        ZONES[1],
    )
    assert (after.has_memory, moving.content) == (True, WORK)


def test_a_restored_home_moves_and_a_moved_one_is_restored(moving: Moving) -> None:
    """Each is another disk; at last only the home is left."""
    world = moving.world
    world.snapshot("alice", moving.before.id, "first")
    world.run()
    [first] = world.store.snapshots.values()
    world.machines.write(moving.home, MORE)
    world.restore("alice", moving.before.id, first.id)
    assert (moving.end().status, moving.content) == (Status.READY, WORK)

    after = moving.move()
    assert (after.status, after.zone, moving.content) == (Status.READY, THERE, WORK)
    assert len(after.old_homes) == 2
    [kept] = [each for each in moving.kept if world.machines.content_of(each.place) == MORE]
    world.restore("alice", moving.before.id, kept.id)
    after = moving.end()
    assert (after.status, after.zone, moving.content) == (Status.READY, THERE, MORE)
    moving.sweep(times=4)
    assert world.machines.disks == {Place(THERE, after.disk_name)}
    assert set(world.machines.instances) == {place_of(after)}


# ---- what is said of it ----


@pytest.mark.parametrize(
    ("prepare", "machine", "lost"),
    [
        (ready, BY_ZONE, [Lost.MEMORY, Lost.BOOT_DISK]),
        (suspended, BY_ZONE, [Lost.MEMORY, Lost.BOOT_DISK]),
        (off, BY_ZONE, [Lost.BOOT_DISK]),
        (gone, BY_ZONE, []),
        (suspended, MAY_MOVE, []),
    ],
)
def test_a_dry_run_says_what_a_move_costs(
    moving: Moving, prepare: Callable[[Moving], None], machine: NewMachine, lost: list[Lost]
) -> None:
    """Memory and boot disk, and nothing of the home; a START that only may move says nothing."""
    prepare(moving)
    said = dry_run(moving, machine)
    assert said.decision is Decision.BEGIN
    assert [loss.what for loss in said.losses] == lost
    assert (Phase.AWAIT_STORED in said.phases) == (machine is BY_ZONE)
    assert (Phase.DELETE_DISK in said.phases) is False


@pytest.mark.parametrize("kind", ["move", "restore"])
def test_a_dry_run_after_a_failure_knows_the_machine_that_there_is(
    moving: Moving, kind: str
) -> None:
    """The new one was deleted by hand. After a move the one of before is there, and is resumed."""
    world = moving.world
    if kind == "move":
        moving.suspend()
        deleted_at_boot(moving)
    else:
        world.snapshot("alice", moving.before.id)
        world.run()
        world.restore("alice", moving.before.id, next(iter(world.store.snapshots)))
        moving.until(Phase.AWAIT_READY)
        world.machines.delete_by_hand(place_of(moving.now))
    world.run()
    assert moving.now.error is not None
    assert (moving.now.status, moving.now.error.code) == (Status.SUSPENDED, "MACHINE_GONE")

    said = dry_run(moving, NewMachine())

    assert said.losses == ()
    assert said.runs
    assert (Phase.AWAIT_RUNNING in said.phases, Phase.INSERTING in said.phases) == (
        kind == "move",
        kind == "restore",
    )
    assert (moving.start().status, moving.content) == (Status.READY, WORK)


def test_a_home_that_a_purge_could_not_delete_moves_like_any_other(moving: Moving) -> None:
    """Compute had accepted its deletion. It is recorded again, so nothing is made in its place."""
    world, its_id = moving.world, moving.before.id
    world.machines.script(DeleteDisk, Mishap.FAILS_LATER, FaultKind.INVALID)
    world.delete("alice", its_id, purge=True)
    world.run()
    assert (moving.now.status, moving.now.home_disk) == (Status.ERROR, moving.before.home_disk)

    world.start("alice", its_id, NewMachine(zone=THERE))
    world.run()

    assert (moving.now.status, moving.now.zone, moving.content) == (Status.READY, THERE, WORK)
