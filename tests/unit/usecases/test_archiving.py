"""Workspaces that are archived: asked for or by the clean-up, called off, failed, started again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from shared.domain import lifecycle
from shared.domain.access import Actor
from shared.domain.errors import NoHomeError, OperationUnderWayError, SnapshotInUseError
from shared.domain.instance import (
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    FaultKind,
    InsertInstance,
    Place,
    SnapshotStatus,
    StopInstance,
)
from shared.domain.lifecycle import ARCHIVED_AGAIN_AFTER, archives_at, deletes_at
from shared.domain.outlook import ExpectedKind, outlook
from shared.domain.reports import ReportEvent
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import (
    HomeDisk,
    OperationKind,
    Phase,
    Status,
    StopReason,
    Workspace,
)
from tests.fakes.machines import Durations, GuestMishap, Mishap
from tests.fakes.world import World, actor, place_of

ZONES = ("us-west1-a", "us-west1-b")
WORK = "what alice has written"
MORE = "what somebody has written since"
DAY = timedelta(days=1)


@dataclass
class Archiving:
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
    def content(self) -> str | None:
        """What is in the home disk."""
        return self.world.machines.content_of(Place(self.now.zone, self.now.disk_name))

    @property
    def copy(self) -> Snapshot:
        """The snapshot that is the home."""
        assert self.now.home_source is not None
        return self.world.store.snapshots[self.now.home_source.snapshot_id]

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way."""
        return self.now.operation is None

    def archive(self) -> Workspace:
        """Archive it, and let that end."""
        self.world.archive("alice", self.before.id)
        self.world.run(lambda: self.is_over)
        self.world.run()
        return self.now

    def until(self, phase: Phase) -> None:
        """Ask for the ARCHIVE, and go on until it has come to a phase."""
        self.world.archive("alice", self.before.id)
        self.world.run(lambda: self.is_over or self.is_in(phase))
        assert not self.is_over

    def is_in(self, phase: Phase) -> bool:
        """Whether it has come to a phase."""
        return self.now.operation is not None and self.now.operation.phase is phase

    def start(self) -> Workspace:
        """Start it, and let that end."""
        self.world.start("alice", self.before.id)
        self.world.run()
        return self.now

    def calls(self, kind: type[Command]) -> int:
        """Return how many calls of this kind Compute got."""
        return sum(isinstance(command, kind) for command, _ in self.world.machines.calls)

    def check_archived(self, content: str = WORK) -> None:
        """Check that the home is a stored snapshot, and that there is nothing else."""
        now, machines = self.now, self.world.machines
        assert (now.status, now.error, now.operation) == (Status.SUSPENDED, None, None)
        assert (now.home_disk, now.instance_id, now.machine_running) == (None, None, False)
        assert now.archived_at is not None
        assert (machines.instances, machines.disks) == ({}, set())
        assert machines.snapshots[self.copy.place.name] is SnapshotStatus.READY
        assert machines.content_of(self.copy.place) == content

    def clean_up_for(self, days: int) -> list[str]:
        """Let days pass, with the clean-up once a day; return what the trail says of them."""
        known = len(self.world.store.events)
        for _ in range(days):
            self.world.pass_time(DAY)
            assert self.world.clean_up().failed == {}
            self.world.run()
        return [event.what for event in self.world.store.events[known:]]


@pytest.fixture
def archiving() -> Archiving:
    """A Hub with a workspace that can be archived."""
    return Archiving()


# ---- from every state ----


def ready(_: Archiving) -> None:
    """Leave it READY."""


def suspended(archiving: Archiving) -> None:
    """Suspend it."""
    archiving.world.stop("alice", archiving.before.id)
    archiving.world.run()


def off(archiving: Archiving) -> None:
    """Shut its machine down by hand."""
    archiving.world.machines.stop_by_hand(place_of(archiving.before))
    archiving.world.pass_time(timedelta(minutes=5))
    archiving.world.look(archiving.before)
    archiving.world.run()


def failed(archiving: Archiving) -> None:
    """Have its running machine say that it has failed."""
    machine = archiving.world.machine(archiving.before)
    assert machine is not None
    archiving.world.report(machine.report(ReportEvent.FAILED, "CONTAINER_ENDS", "It ends."))


def gone(archiving: Archiving) -> None:
    """Delete its machine by hand."""
    archiving.world.machines.delete_by_hand(place_of(archiving.before))
    archiving.world.look(archiving.before)
    archiving.world.run()


@pytest.mark.parametrize("prepare", [ready, suspended, off, failed, gone])
def test_an_archived_home_has_what_was_written_until_the_machine_was_gone(
    archiving: Archiving, prepare: Callable[[Archiving], None]
) -> None:
    """Seen from outside: no snapshot before the machine is gone, the disk until it is stored."""
    prepare(archiving)
    machines, written = archiving.world.machines, WORK
    seen: list[tuple[bool, bool, bool]] = []

    def look() -> bool:
        nonlocal written
        stored = SnapshotStatus.READY in machines.snapshots.values()
        now = (bool(machines.instances), stored, archiving.home in machines.disks)
        if now[0]:
            written = f"what was written at {archiving.world.clock()}"
            machines.write(archiving.home, written)
        if now not in seen[-1:]:
            seen.append(now)
        return archiving.is_over

    archiving.world.archive("alice", archiving.before.id)
    archiving.world.run(look)

    there = [(True, False, True)] if prepare is not gone else []
    assert seen == [*there, (False, False, True), (False, True, True), (False, True, False)]
    archiving.check_archived(written)
    runs = prepare in {ready, failed}
    assert archiving.calls(StopInstance) == (1 if runs else 0), "its machine is shut down first"
    held = archiving.world.store.owners["alice"].workspaces[archiving.before.id]
    assert (held.name, held.running) == ("one", False)


@pytest.mark.parametrize("prepare", [ready, suspended])
def test_what_is_lost_by_an_archive_is_said_before_and_after(
    archiving: Archiving, prepare: Callable[[Archiving], None]
) -> None:
    """The memory and the boot disk. A START makes both anew, and says that memory was lost."""
    prepare(archiving)
    archiving.archive()

    archived = archiving.now
    assert (archived.memory_kept, archived.memory_lost_because) == (
        False,
        "The workspace is archived.",
    )
    assert archived.stopped_because is StopReason.REQUESTED
    assert [each.what for each in archiving.world.store.events].count("MemoryLost") == 1
    started = archiving.start()
    assert (started.status, started.archived_at, archiving.content) == (Status.READY, None, WORK)
    assert (started.home_source, started.memory_kept) == (None, False)
    assert started.memory_lost_because == "The workspace is archived."


def test_the_same_archive_again_changes_nothing(archiving: Archiving) -> None:
    """Neither while it is under way nor when it is over."""
    archiving.until(Phase.AWAIT_STORED)
    during = archiving.now
    assert archiving.world.archive("alice", archiving.before.id) == (during, True)
    archiving.world.run()
    archived = archiving.now
    assert archiving.world.archive("alice", archiving.before.id) == (archived, False)
    assert archiving.now == archived
    assert archiving.calls(CreateSnapshot) == 1


def test_it_counts_as_running_only_until_its_machine_is_off(archiving: Archiving) -> None:
    """Its owner can start another one while the home is stored."""
    archiving.until(Phase.AWAIT_STORED)

    assert (archiving.now.status, archiving.now.machine_running) == (Status.SUSPENDED, False)
    assert not archiving.world.store.owners["alice"].workspaces[archiving.before.id].running


def test_a_snapshot_that_has_all_that_is_in_the_home_is_the_archive(archiving: Archiving) -> None:
    """It was taken since a machine last had the disk, and keeps its name."""
    gone(archiving)
    archiving.world.snapshot("alice", archiving.before.id, "last")
    archiving.world.run()

    archiving.archive()

    archiving.check_archived()
    assert (archiving.copy.name, archiving.calls(CreateSnapshot)) == ("last", 1)


def test_a_start_makes_the_home_in_another_zone_if_the_first_has_no_capacity(
    archiving: Archiving,
) -> None:
    """A snapshot is in no zone."""
    archiving.archive()
    archiving.world.machines.script(
        InsertInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT, zone=ZONES[0]
    )

    started = archiving.start()

    assert (started.status, started.zone, archiving.content) == (Status.READY, ZONES[1], WORK)
    assert started.home_disk == HomeDisk(archiving.home.name, ZONES[1])
    assert {place.zone for place in archiving.world.machines.disks} == {ZONES[1]}


def test_a_start_without_capacity_leaves_it_archived(archiving: Archiving) -> None:
    """It is SUSPENDED, as before; the next START brings the home back."""
    archiving.archive()
    archiving.world.machines.script(
        InsertInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT, times=len(ZONES)
    )
    failed_to_start = archiving.start()
    assert failed_to_start.error is not None
    assert (failed_to_start.status, failed_to_start.error.code) == (
        Status.SUSPENDED,
        "NO_CAPACITY",
    )
    assert (failed_to_start.archived_at is not None, archiving.world.machines.disks) == (
        True,
        set(),
    )
    assert (archiving.start().status, archiving.content) == (Status.READY, WORK)


# ---- what else can be asked of it ----


def test_an_archived_workspace_answers_what_can_be_asked_of_it(archiving: Archiving) -> None:
    """Its home is a snapshot: there is nothing to take one of, to replace, or to keep awake."""
    archiving.archive()
    world, its_id = archiving.world, archiving.before.id
    copy = archiving.copy.id

    assert world.stop("alice", its_id) == (archiving.now, False)
    with pytest.raises(NoHomeError, match=r"is a snapshot already\. Start it"):
        world.snapshot("alice", its_id)
    with pytest.raises(NoHomeError, match=r"Start it, then restore"):
        world.restore("alice", its_id, copy)
    with pytest.raises(SnapshotInUseError, match="Start it"):
        world.delete_snapshot("alice", its_id, copy)
    archiving.check_archived()


def test_a_fork_can_be_made_of_an_archived_workspace(archiving: Archiving) -> None:
    """Of its own copy, too. It stays archived."""
    archiving.archive()

    fork = archiving.world.create("alice", "two", from_snapshot=archiving.copy.id)
    archiving.world.run()

    made = archiving.world.workspace(fork.id)
    content = archiving.world.machines.content_of(Place(made.zone, made.disk_name))
    assert (made.status, made.archived_at, content) == (Status.READY, None, WORK)
    assert archiving.now.archived_at is not None


@pytest.mark.parametrize("purge", [True, False])
def test_an_archived_workspace_is_deleted_and_taken_back_as_it_was(
    archiving: Archiving, purge: bool
) -> None:
    """Its copy is the last copy. Taken back, its home is that snapshot: it is archived still."""
    archiving.archive()
    copy = archiving.copy.id
    archiving.world.machines.calls.clear()

    archiving.world.delete("alice", archiving.before.id, purge=purge)
    archiving.world.run()

    assert archiving.calls(CreateSnapshot) == 0
    if purge:
        store = archiving.world.store
        assert (dict(store.deleted), dict(store.snapshots)) == ({}, {})
        assert archiving.world.machines.snapshots == {}
        return
    assert archiving.world.store.deleted[archiving.before.id].snapshot_id == copy
    taken_back = archiving.world.undelete("alice", archiving.before.id)
    assert taken_back.archived_at == archiving.world.clock()
    assert archiving.world.archive("alice", archiving.before.id) == (taken_back, False)
    assert (archiving.start().status, archiving.content) == (Status.READY, WORK)


def test_a_workspace_without_a_home_cannot_be_archived(archiving: Archiving) -> None:
    """Its CREATE has failed, or its first machine is yet to be made."""
    archiving.world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
    other = archiving.world.create("alice", "two")
    with pytest.raises(OperationUnderWayError):
        archiving.world.archive("alice", other.id)
    archiving.world.run()
    with pytest.raises(NoHomeError):
        archiving.world.archive("alice", other.id)


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        (Phase.AWAIT_STOPPED, "this part of it lasts some minutes"),
        (Phase.AWAIT_STORED, "Start the workspace, which calls it off"),
        (Phase.AWAIT_DISK_ABSENT, "this part of it lasts some minutes"),
    ],
)
def test_while_it_is_archived_what_is_refused_says_the_way_out(
    archiving: Archiving, phase: Phase, said: str
) -> None:
    """That is a START, as long as the disk is there and the machine is not being shut down."""
    archiving.until(phase)
    world, its_id = archiving.world, archiving.before.id
    asks: list[Callable[[], object]] = [
        lambda: world.stop("alice", its_id),
        lambda: world.snapshot("alice", its_id),
        lambda: world.keep_awake("alice", its_id, world.clock() + timedelta(hours=1)),
    ]
    if phase is not Phase.AWAIT_STORED:
        asks.append(lambda: world.start("alice", its_id))
    for ask in asks:
        with pytest.raises(OperationUnderWayError, match=f"An ARCHIVE is .*{said}"):
            ask()


# ---- what goes wrong ----


def capture_fails(archiving: Archiving) -> None:
    """Have Compute take no snapshot."""
    archiving.world.machines.script(CreateSnapshot, Mishap.CAPTURE_FAILS)


def upload_fails(archiving: Archiving) -> None:
    """Have Compute not store the snapshot."""
    archiving.world.machines.script(CreateSnapshot, Mishap.UPLOAD_FAILS)


def refused(archiving: Archiving) -> None:
    """Have Compute refuse every snapshot."""
    archiving.world.machines.script(CreateSnapshot, Mishap.REFUSED, FaultKind.QUOTA, times=99)


def not_stopped(archiving: Archiving) -> None:
    """Have Compute refuse to stop the machine."""
    archiving.world.machines.script(StopInstance, Mishap.REFUSED, FaultKind.POLICY, times=99)


def machine_stays(archiving: Archiving) -> None:
    """Have Compute refuse to delete the machine."""
    archiving.world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.POLICY, times=99)


def used_since(archiving: Archiving) -> None:
    """Let another machine use the home while its snapshot is stored."""
    archiving.until(Phase.AWAIT_STORED)
    archiving.world.machines.hold_disk_by_hand(archiving.home)
    archiving.world.machines.release_disk_by_hand(archiving.home)


def held(archiving: Archiving) -> None:
    """Let another machine have the home."""
    gone(archiving)
    archiving.world.machines.hold_disk_by_hand(archiving.home, "holder")


def disk_refused(archiving: Archiving) -> None:
    """Have Compute refuse to delete the disk."""
    archiving.world.machines.script(DeleteDisk, Mishap.REFUSED, FaultKind.POLICY, times=99)


def disk_stays(archiving: Archiving) -> None:
    """Have Compute accept the deletion of the disk, and not carry it out."""
    archiving.world.machines.script(DeleteDisk, Mishap.FAILS_LATER, FaultKind.POLICY)


WENT_WRONG: dict[Callable[[Archiving], None], tuple[Status, str, str]] = {
    capture_fails: (Status.SUSPENDED, "SNAPSHOT_FAILED", "archive it again"),
    upload_fails: (Status.SUSPENDED, "SNAPSHOT_FAILED", "archive it again"),
    refused: (Status.SUSPENDED, "COMPUTE_QUOTA_EXCEEDED", "quota"),
    not_stopped: (Status.READY, "COMPUTE_POLICY_FORBIDS", "archive it again"),
    machine_stays: (Status.SUSPENDED, "COMPUTE_POLICY_FORBIDS", "archive it again"),
    used_since: (Status.SUSPENDED, "LAST_COPY_NOT_MADE", "used the home disk since"),
    held: (Status.SUSPENDED, "DISK_IN_USE", "instances/holder"),
    disk_refused: (Status.SUSPENDED, "COMPUTE_POLICY_FORBIDS", "archive it again"),
    disk_stays: (Status.SUSPENDED, "COMPUTE_POLICY_FORBIDS", "archive it again"),
}


@pytest.mark.parametrize("way_out", ["archive", "start", "delete"])
@pytest.mark.parametrize("go_wrong", WENT_WRONG)
def test_an_archive_that_fails_loses_nothing_of_the_home(
    archiving: Archiving, go_wrong: Callable[[Archiving], None], way_out: str
) -> None:
    """The status is what its machine means. ARCHIVE again, START and DELETE all work then."""
    status, code, said = WENT_WRONG[go_wrong]
    go_wrong(archiving)

    over = archiving.archive()

    assert over.error is not None
    assert (over.status, over.error.code, over.archived_at) == (status, code, None)
    assert said in over.error.message
    assert over.error.operation_kind is OperationKind.ARCHIVE
    machines = archiving.world.machines
    assert archiving.home in machines.disks
    machines.calm()
    machines.release_disk_by_hand(archiving.home)
    archiving.world.pass_time(timedelta(hours=1))
    if way_out == "archive":
        archiving.archive()
        archiving.check_archived()
    if way_out == "start":
        archiving.world.stop("alice", archiving.before.id)
        archiving.world.run()
        assert (archiving.start().status, archiving.content) == (Status.READY, WORK)
        return
    if way_out == "delete":
        archiving.world.delete("alice", archiving.before.id)
        archiving.world.run()
        assert (machines.instances, machines.disks) == ({}, set())
        archiving.world.undelete("alice", archiving.before.id)
    assert (archiving.start().status, archiving.content) == (Status.READY, WORK)


def test_a_home_without_labels_is_archived_like_any_other(archiving: Archiving) -> None:
    """It is recorded, and its content is kept; nothing is left of it in Compute."""
    archiving.world.machines.set_disk_labels_by_hand(archiving.home, {})

    archiving.archive()

    archiving.check_archived()


def test_a_home_that_is_gone_cannot_be_archived(archiving: Archiving) -> None:
    """A START finds out what a person wants then."""
    gone(archiving)
    archiving.world.machines.delete_disk_by_hand(archiving.home)

    over = archiving.archive()

    assert over.error is not None
    assert (over.status, over.error.code) == (Status.SUSPENDED, "HOME_DISK_GONE")
    assert (over.archived_at, archiving.calls(CreateSnapshot)) == (None, 0)


def test_a_home_that_was_moved_to_another_zone_is_archived_from_there(
    archiving: Archiving,
) -> None:
    """The ARCHIVE follows it."""
    machines, there = archiving.world.machines, Place(ZONES[1], archiving.home.name)
    machines.copy_by_hand(place_of(archiving.before), ZONES[1])
    machines.delete_by_hand(Place(ZONES[1], archiving.before.instance_name))
    machines.write(there, "what was written there")
    gone(archiving)
    machines.delete_disk_by_hand(archiving.home)

    archiving.archive()

    archiving.check_archived("what was written there")


# ---- what there was before stays ----


def restored(archiving: Archiving) -> Place:
    """Restore it; return the old home, in the same zone."""
    world, its_id = archiving.world, archiving.before.id
    world.snapshot("alice", its_id)
    world.run()
    [snapshot] = world.store.snapshots
    world.restore("alice", its_id, snapshot)
    world.run()
    return archiving.home


def moved(archiving: Archiving) -> Place:
    """Move it to the other zone; return the old home, with its machine."""
    archiving.world.start("alice", archiving.before.id, lifecycle.NewMachine(zone=ZONES[1]))
    archiving.world.run()
    archiving.world.machines.start_by_hand(place_of(archiving.before))
    return archiving.home


@pytest.mark.parametrize("mishap", [None, Mishap.ANSWER_LOST, Mishap.FAILS_LATER])
@pytest.mark.parametrize("before", [restored, moved])
def test_an_archive_deletes_no_earlier_home_and_no_earlier_machine(
    archiving: Archiving, before: Callable[[Archiving], Place], mishap: Mishap | None
) -> None:
    """Also if its worker dies after it has deleted the disk. Somebody has used the earlier one."""
    old, machines = before(archiving), archiving.world.machines
    at = archiving.now
    machines.write(old, "what was written there since")
    was = {place: each.id for place, each in machines.instances.items() if place.zone == old.zone}
    if mishap is not None:
        machines.script(DeleteDisk, mishap, FaultKind.INVALID)

    archiving.archive()
    archiving.archive()

    now = archiving.now
    assert (now.status, now.error, now.zone) == (Status.SUSPENDED, None, at.zone)
    assert now.archived_at is not None
    assert machines.content_of(old) == "what was written there since"
    assert machines.disks == {old}
    if before is moved:
        assert {place: each.id for place, each in machines.instances.items()} == was
    assert [each.name for each in now.old_homes] == [old.name]


# ---- by the clean-up ----


@pytest.fixture
def forgotten(archiving: Archiving) -> Archiving:
    """A Hub that archives after two weeks, with a workspace that is suspended."""
    archiving.world.policy = replace(archiving.world.policy, archive_after=14 * DAY)
    suspended(archiving)
    return archiving


def test_what_is_suspended_for_long_is_archived_after_it_was_announced(
    forgotten: Archiving,
) -> None:
    """Three days before, once. It is not archived earlier than the outlook says."""
    assert forgotten.clean_up_for(10) == []
    assert forgotten.clean_up_for(1) == ["ArchiveAnnounced"]
    announced = forgotten.now
    at = archives_at(announced, forgotten.world.policy)
    assert announced.archive_announced_at is not None
    assert at == announced.archive_announced_at + 3 * DAY
    [expected] = [
        each
        for each in outlook(announced, forgotten.world.policy)
        if each.kind is ExpectedKind.ARCHIVE
    ]
    assert (expected.at, expected.since) == (at, announced.suspended_at)
    assert forgotten.clean_up_for(2) == []
    assert "WorkspaceArchived" in forgotten.clean_up_for(1)

    forgotten.check_archived()
    assert forgotten.world.clock() >= at
    assert forgotten.now.suspended_at == announced.suspended_at, "the retention counts on"
    assert forgotten.clean_up_for(5) == []


def test_nothing_is_archived_by_itself_if_nobody_has_configured_that(
    archiving: Archiving,
) -> None:
    """By default the retention alone ends a suspension."""
    suspended(archiving)
    assert archiving.clean_up_for(29) == []


def test_what_was_announced_of_an_earlier_suspension_does_not_count(forgotten: Archiving) -> None:
    """Somebody has started it since: it is announced again."""
    assert forgotten.clean_up_for(11) == ["ArchiveAnnounced"]
    forgotten.start()
    suspended(forgotten)

    assert forgotten.clean_up_for(10) == []
    assert forgotten.clean_up_for(1) == ["ArchiveAnnounced"]


def switch_archiving_on(archiving: Archiving, *, after: int) -> None:
    """Suspend the workspace, and switch archiving on after so many days."""
    suspended(archiving)
    archiving.clean_up_for(after)
    archiving.world.policy = replace(archiving.world.policy, archive_after=14 * DAY)
    archiving.world.reconcile_fleet()  # which puts the times right


def test_what_is_due_when_archiving_is_switched_on_is_announced_first(
    archiving: Archiving,
) -> None:
    """Its owner has three days, however long it has been suspended."""
    switch_archiving_on(archiving, after=20)

    assert archiving.clean_up_for(1) == ["ArchiveAnnounced"]
    assert archiving.clean_up_for(2) == []
    assert "WorkspaceArchived" in archiving.clean_up_for(1)


def test_what_is_deleted_before_its_notice_would_be_over_is_not_announced(
    archiving: Archiving,
) -> None:
    """Archiving is switched on two days before its deletion, and a notice is three days."""
    switch_archiving_on(archiving, after=28)

    assert archiving.clean_up_for(1) == []
    assert archiving.now.archive_announced_at is None
    archiving.clean_up_for(2)
    assert archiving.before.id in archiving.world.store.deleted


def test_what_is_deleted_before_is_neither_announced_nor_archived(forgotten: Archiving) -> None:
    """Nor is it in the outlook. What is deleted after it was archived keeps the same copy."""
    forgotten.world.policy = replace(forgotten.world.policy, retention=14 * DAY)
    kinds = [each.kind for each in outlook(forgotten.now, forgotten.world.policy)]
    assert (ExpectedKind.ARCHIVE in kinds, ExpectedKind.DELETE in kinds) == (False, True)
    forgotten.clean_up_for(16)
    whats = [event.what for event in forgotten.world.store.events]
    assert "ArchiveAnnounced" not in whats
    assert forgotten.before.id in forgotten.world.store.deleted


def test_an_archived_workspace_is_deleted_by_the_retention_in_its_time(
    forgotten: Archiving,
) -> None:
    """The same copy is its last one. Archiving it makes that neither sooner nor later."""
    at = deletes_at(forgotten.now, forgotten.world.policy)
    forgotten.clean_up_for(16)
    copy = forgotten.copy.id
    assert deletes_at(forgotten.now, forgotten.world.policy) == at
    forgotten.clean_up_for(16)
    entry = forgotten.world.store.deleted[forgotten.before.id]
    assert (entry.snapshot_id, entry.automatic) == (copy, True)


def test_at_most_so_many_are_archived_in_a_run_and_the_next_run_goes_on(
    archiving: Archiving,
) -> None:
    """When that is new, all that are due come at once."""
    world = archiving.world
    world.policy = replace(world.policy, archive_after=14 * DAY, archives_per_run=2)
    for owner in ("bob", "carol", "dora", "erin"):
        world.ready(owner)
    for workspace in list(world.store.workspaces.values()):
        world.stop(workspace.owner_id, workspace.id)
    world.run()
    world.pass_time(12 * DAY)
    world.clean_up()
    world.pass_time(4 * DAY)

    begun = [len(world.clean_up().done.get("archive", ())) for _ in range(4)]

    assert begun == [2, 2, 1, 0]
    world.run()
    assert all(each.archived_at for each in world.store.workspaces.values())


def test_an_automatic_archive_that_failed_is_tried_again_a_day_later(
    forgotten: Archiving,
) -> None:
    """Not with each run of the clean-up, and without another announcement."""
    forgotten.world.machines.script(CreateSnapshot, Mishap.REFUSED, FaultKind.QUOTA)
    forgotten.clean_up_for(14)
    error = forgotten.now.error
    assert error is not None
    assert error.code == "COMPUTE_QUOTA_EXCEEDED"
    assert archives_at(forgotten.now, forgotten.world.policy) == error.at + ARCHIVED_AGAIN_AFTER
    forgotten.world.clean_up()
    assert forgotten.is_over

    assert "ArchiveAnnounced" not in forgotten.clean_up_for(2)
    forgotten.check_archived()


def started_by_hand(forgotten: Archiving) -> None:
    """Start its machine by hand."""
    forgotten.world.machines.start_by_hand(place_of(forgotten.before))


def test_an_automatic_archive_is_called_off_if_somebody_has_started_the_machine(
    forgotten: Archiving,
) -> None:
    """At its first step, or before the machine is deleted. The trail says so."""
    forgotten.clean_up_for(13)
    forgotten.world.pass_time(DAY)
    forgotten.world.clean_up()
    assert not forgotten.is_over
    started_by_hand(forgotten)
    forgotten.world.machines.write(forgotten.home, "what was written since")

    forgotten.world.run()

    assert (forgotten.now.operation, forgotten.content) == (None, "what was written since")
    assert forgotten.calls(DeleteInstance) == forgotten.calls(CreateSnapshot) == 0
    assert forgotten.now.status is Status.READY


@pytest.mark.parametrize("phase", [Phase.STOP, Phase.DELETE_INSTANCE])
def test_the_archive_and_not_the_delete_is_said_to_be_called_off(
    forgotten: Archiving, phase: Phase
) -> None:
    """In whichever step the running machine is seen."""
    new = lifecycle.NewOperation("an-operation", _sweeper(), forgotten.world.clock())
    begun = lifecycle.archive(forgotten.now, new, forgotten.world.policy)
    assert begun is not None
    operation = begun.workspace.operation
    assert operation is not None
    automatic = replace(operation, automatic=True, phase=phase)
    forgotten.world.store.put(replace(begun.workspace, operation=automatic))
    started_by_hand(forgotten)
    forgotten.world.pass_time(timedelta(minutes=1))
    assert begun.job is not None
    forgotten.world.do(begun.job)

    assert forgotten.is_over
    ended = [each for each in forgotten.world.store.events if each.operation_kind == "ARCHIVE"]
    assert [each.what for each in ended] == ["AutomaticArchiveAbandoned"]


# ---- called off by a START ----


def by_the_clean_up(archiving: Archiving) -> None:
    """Suspend it, and let the clean-up begin an ARCHIVE of it."""
    world = archiving.world
    world.policy = replace(world.policy, archive_after=14 * DAY)
    suspended(archiving)
    archiving.clean_up_for(13)
    world.pass_time(DAY)
    world.clean_up()


def of_a_ready_one(archiving: Archiving) -> None:
    """Ask for an ARCHIVE of it."""
    archiving.world.archive("alice", archiving.before.id)


def of_a_suspended_one(archiving: Archiving) -> None:
    """Suspend it, and ask for an ARCHIVE of it."""
    suspended(archiving)
    of_a_ready_one(archiving)


SHUTS_DOWN = {Phase.STOP, Phase.AWAIT_STOPPED}
DELETES_DISK = {Phase.DELETE_DISK, Phase.AWAIT_DISK_ABSENT}


@pytest.mark.parametrize("begin", [by_the_clean_up, of_a_ready_one, of_a_suspended_one])
def test_a_start_before_any_commit_of_an_archive_calls_it_off_until_the_disk_goes(
    begin: Callable[[Archiving], None],
) -> None:
    """Whatever its worker has called by then. The home is the same, and nothing is left over."""
    seen: set[Phase] = set()
    for nth in range(1, 100):
        archiving = Archiving()
        begin(archiving)
        phase, refused = _before_commit(archiving, nth, archiving.world.start)
        if phase is None:
            break
        seen.add(phase)
        may_refuse = DELETES_DISK if begin is by_the_clean_up else DELETES_DISK | SHUTS_DOWN
        assert refused == (phase in may_refuse), phase
        if refused:
            archiving.check_archived()
            continue
        now, machines = archiving.now, archiving.world.machines
        assert (now.status, now.error, now.archived_at) == (Status.READY, None, None), phase
        assert (archiving.content, machines.disks) == (WORK, {archiving.home}), phase
        assert [each.id for each in machines.instances.values()] == [now.instance_id], phase
        assert calls_off(archiving) == [
            ("ArchiveCalledOff", "The workspace was started, so it was not archived.")
        ]
        stored = {each.place.name for each in archiving.world.store.snapshots.values()}
        assert set(machines.snapshots) == stored, phase
        assert now.sources == (), "its snapshot is one like any other"
    assert seen >= {
        *(Phase.STOP, Phase.DELETE_INSTANCE, Phase.AWAIT_ABSENT, Phase.SNAPSHOT),
        *(Phase.AWAIT_SNAPSHOT, Phase.AWAIT_STORED, *DELETES_DISK),
    }


def calls_off(archiving: Archiving) -> list[tuple[str, str]]:
    """Return what the trail says of an ARCHIVE that a START has called off."""
    events = archiving.world.store.events
    return [(each.what, each.result) for each in events if each.what == "ArchiveCalledOff"]


def test_a_start_keeps_the_memory_as_long_as_nothing_has_been_deleted(
    forgotten: Archiving,
) -> None:
    """The jobs of the clean-up are late, and somebody comes back: the machine is resumed."""
    forgotten.clean_up_for(13)
    forgotten.world.pass_time(DAY)
    forgotten.world.clean_up()
    late = forgotten.world.operations.waiting.copy()

    started = forgotten.start()
    for delivery in late:
        forgotten.world.do(delivery.job)

    assert (started.status, started.memory_kept) == (Status.READY, True)
    assert forgotten.calls(DeleteInstance) == forgotten.calls(CreateSnapshot) == 0


def test_a_start_waits_for_the_deletion_of_the_machine_that_an_archive_has_asked_for(
    archiving: Archiving,
) -> None:
    """Compute may show the machine as suspended for a while. Nothing resumes it."""
    suspended(archiving)
    archiving.until(Phase.AWAIT_ABSENT)
    deletion = archiving.now.operation
    archiving.world.start("alice", archiving.before.id)

    start = archiving.now.operation
    assert (start and start.kind, deletion and deletion.kind) == ("START", "ARCHIVE")
    assert start is not None
    assert deletion is not None
    assert (start.phase, start.gce_operation) == (deletion.phase, deletion.gce_operation)


def test_a_start_that_calls_an_archive_off_says_why_memory_is_lost(archiving: Archiving) -> None:
    """Its machine was deleted already. The same START again is the same one."""
    archiving.until(Phase.AWAIT_STORED)
    archiving.world.start("alice", archiving.before.id)
    operation = archiving.now.operation
    assert (archiving.start().operation, operation and operation.kind) == (None, "START")

    why = "It was to be archived, so its machine was deleted or shut down."
    assert (archiving.now.memory_kept, archiving.now.memory_lost_because) == (False, why)
    archiving.archive()
    archiving.check_archived()


def test_a_snapshot_that_a_called_off_archive_has_taken_can_be_deleted(
    archiving: Archiving,
) -> None:
    """It is an automatic one like any other: the home is the disk."""
    archiving.until(Phase.AWAIT_STORED)
    archiving.start()
    [snapshot] = archiving.world.store.snapshots.values()
    assert snapshot.automatic

    archiving.world.delete_snapshot("alice", archiving.before.id, snapshot.id)
    archiving.world.run()

    assert archiving.world.machines.snapshots == {}
    assert archiving.content == WORK


def test_a_start_that_is_to_move_waits_until_the_machine_is_gone(archiving: Archiving) -> None:
    """Then it moves the home by another snapshot."""
    archiving.until(Phase.AWAIT_ABSENT)
    elsewhere = lifecycle.NewMachine(zone=ZONES[1])
    with pytest.raises(OperationUnderWayError):
        archiving.world.start("alice", archiving.before.id, elsewhere)
    archiving.world.run(lambda: archiving.is_over or archiving.is_in(Phase.AWAIT_STORED))

    archiving.world.start("alice", archiving.before.id, elsewhere)
    archiving.world.run()

    assert (archiving.now.status, archiving.now.zone) == (Status.READY, ZONES[1])
    assert archiving.content == WORK


def _sweeper() -> Actor:
    return replace(actor("alice"), id=lifecycle.CLEANUP)


def test_a_person_can_make_an_automatic_archive_their_own(forgotten: Archiving) -> None:
    """Then nothing calls it off."""
    forgotten.clean_up_for(13)
    forgotten.world.pass_time(DAY)
    forgotten.world.clean_up()
    forgotten.world.archive("alice", forgotten.before.id)
    started_by_hand(forgotten)

    forgotten.world.run()

    operation_events = [each.what for each in forgotten.world.store.events]
    assert "ArchiveConfirmed" in operation_events
    forgotten.check_archived()


# ---- at every commit ----


@pytest.mark.parametrize("purge", [True, False])
@pytest.mark.parametrize("prepare", [ready, suspended])
def test_a_delete_before_any_commit_of_an_archive_keeps_what_is_in_the_home(
    prepare: Callable[[Archiving], None], purge: bool
) -> None:
    """It leaves nothing else, and with purge nothing at all, wherever the ARCHIVE is."""
    seen: set[Phase] = set()
    for nth in range(1, 100):
        archiving = Archiving()
        prepare(archiving)
        archiving.world.archive("alice", archiving.before.id)
        phase, _ = _before_commit(archiving, nth, partial(archiving.world.delete, purge=purge))
        if phase is None:
            break
        seen.add(phase)
        store, machines = archiving.world.store, archiving.world.machines
        assert (dict(store.workspaces), machines.instances, machines.disks) == ({}, {}, set()), (
            phase
        )
        if purge:
            assert (dict(store.snapshots), machines.snapshots) == ({}, {}), phase
            continue
        archiving.world.undelete("alice", archiving.before.id)
        assert archiving.start().status is Status.READY, phase
        assert archiving.content == WORK, phase
    assert seen >= {
        *(Phase.STOP, Phase.DELETE_INSTANCE, Phase.AWAIT_ABSENT, Phase.SNAPSHOT),
        *(Phase.AWAIT_SNAPSHOT, Phase.AWAIT_STORED, Phase.DELETE_DISK, Phase.AWAIT_DISK_ABSENT),
    }


def _before_commit(
    archiving: Archiving, nth: int, ask: Callable[[str, str], object]
) -> tuple[Phase | None, bool]:
    """Run to the end with a request before the ``nth`` commit.

    Return where the ARCHIVE was then, and whether the request was refused for it.
    """
    store, left, phases = archiving.world.store, [nth], []
    commit, refused = store.commit, False

    def interrupted(**documents: Any) -> None:
        nonlocal refused
        left[0] -= 1
        operation = archiving.now.operation if left[0] == 0 else None
        if operation is not None:
            phases.append(operation.phase)
            try:
                ask("alice", archiving.before.id)
            except OperationUnderWayError:
                refused = True
        commit(**documents)

    store.commit = interrupted  # type: ignore[method-assign]
    archiving.world.run()
    store.commit = commit  # type: ignore[method-assign]
    return (phases[0] if phases else None), refused


# ---- whose disk may still be there ----


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("verb", ["archive", "delete"])
def test_what_an_archive_that_failed_has_left_is_not_deleted_without_a_copy(
    archiving: Archiving, verb: str, *, used: bool
) -> None:
    """Compute did not answer, and did not delete the disk: somebody may have used it since."""
    world, machines, its_id = archiving.world, archiving.world.machines, archiving.before.id
    machines.script(DeleteDisk, Mishap.FAILS_LATER, FaultKind.INVALID)
    archiving.until(Phase.AWAIT_DISK_ABSENT)
    machines.unanswered_reads = 1_000_000
    world.run(lambda: archiving.is_over)
    machines.unanswered_reads = 0
    world.run()
    assert (archiving.now.home_disk, archiving.copy.automatic) == (None, True)
    assert machines.disks == {archiving.home}
    if used:
        machines.hold_disk_by_hand(archiving.home)
        machines.write(archiving.home, MORE)
        world.pass_time(timedelta(minutes=5))
        machines.release_disk_by_hand(archiving.home)

    if verb == "archive":
        archiving.archive()
        archiving.check_archived(MORE if used else WORK)
    else:
        world.delete("alice", its_id)
        world.run()
        assert its_id not in world.store.workspaces
        world.undelete("alice", its_id)
    assert len(machines.snapshots) == 1 + used
    assert (archiving.start().status, archiving.content) == (Status.READY, MORE if used else WORK)


@pytest.mark.parametrize("used", [False, True])
def test_a_home_from_which_somebody_has_moved_the_machine_away_is_archived_where_it_is(
    archiving: Archiving, *, used: bool
) -> None:
    """The machine is followed to its zone, and the disk is deleted in its own, if it is copied."""
    world, machines = archiving.world, archiving.world.machines
    machines.detach_disk_by_hand(archiving.home)
    machines.move_by_hand(place_of(archiving.before), ZONES[1])
    archiving.until(Phase.AWAIT_STORED)
    if used:
        machines.hold_disk_by_hand(archiving.home)
        machines.write(archiving.home, MORE)
        machines.release_disk_by_hand(archiving.home)
    world.run()
    if used:
        assert archiving.now.error is not None
        assert archiving.now.error.code == "LAST_COPY_NOT_MADE"
        assert archiving.content == MORE
    else:
        archiving.check_archived()
    assert archiving.now.zone == ZONES[0]


def test_an_archive_whose_deletion_takes_too_long_loses_nothing() -> None:
    """The home is the snapshot: Compute may delete the disk whenever it likes."""
    archiving = Archiving(World(durations=Durations(delete_disk=timedelta(hours=2))))
    archiving.archive()
    error = archiving.now.error
    assert error is not None
    assert (archiving.now.status, error.code) == (Status.SUSPENDED, "ARCHIVE_TIMED_OUT")
    assert archiving.world.machines.disks == {archiving.home}
    archiving.world.pass_time(timedelta(hours=2))
    assert archiving.world.machines.disks == set()

    archiving.archive()
    archiving.check_archived()
    assert (archiving.start().status, archiving.content) == (Status.READY, WORK)
