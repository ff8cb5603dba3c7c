"""Homes that grow: how large they are after it, and what is left if it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import product

import pytest

from shared.domain.course import Lost
from shared.domain.errors import InvalidRequestError, OperationUnderWayError
from shared.domain.instance import (
    DeleteInstance,
    FaultKind,
    InsertInstance,
    InstanceState,
    Place,
    ResizeDisk,
)
from shared.domain.lifecycle import NewMachine
from shared.domain.workspace import Phase, Status
from shared.usecases import manage_workspaces
from tests.fakes.machines import HOME_GB, GuestMishap, Mishap
from tests.fakes.world import actor, place_of
from tests.unit.usecases.test_moving import (
    MORE,
    THERE,
    WORK,
    ZONES,
    Moving,
    archive,
    failed,
    gone,
    off,
    ready,
    suspended,
)

LARGER = 100


@pytest.fixture
def growing() -> Moving:
    """A Hub with a workspace of which the home can grow."""
    return Moving()


def home_gb(growing: Moving) -> int:
    """Return how large the home is in Compute."""
    return growing.world.machines.disk_gb(Place(growing.now.zone, growing.now.disk_name))


def unknown(growing: Moving) -> None:
    """Have a record that does not say how large the home is, as one of version 0.1."""
    growing.suspend()
    growing.world.store.put(replace(growing.now, home_gb=None))


@pytest.mark.parametrize("prepare", [ready, suspended, off, failed, gone, unknown, archive])
def test_a_home_grows_from_every_state_and_keeps_what_is_in_it(
    growing: Moving, prepare: Callable[[Moving], None]
) -> None:
    """A new machine boots on it, so that its file system follows."""
    prepare(growing)

    after = growing.move(NewMachine(home_disk_gb=LARGER))

    assert (after.status, after.error, after.zone) == (Status.READY, None, ZONES[0])
    assert (home_gb(growing), after.home_gb, growing.content) == (LARGER, LARGER, WORK)
    assert after.instance_id != growing.before.instance_id
    assert len(growing.world.machines.instances) == 1
    resizes = [each for each, _ in growing.world.machines.calls if isinstance(each, ResizeDisk)]
    assert len(resizes) == growing.notes("HomeGrown") == (prepare is not archive)
    assert growing.world.machines.disks == {growing.home}


@pytest.mark.parametrize(
    "machine",
    [
        NewMachine(home_disk_gb=LARGER, machine_type="e2-standard-8", image_tag="v7"),
        NewMachine(home_disk_gb=LARGER, zone=THERE, machine_type="e2-standard-8", image_tag="v7"),
        NewMachine(home_disk_gb=LARGER, zone=THERE),
    ],
    ids=["machine", "machine and zone", "zone"],
)
def test_a_home_grows_with_all_else_that_a_start_changes(
    growing: Moving, machine: NewMachine
) -> None:
    """All of it is so afterwards, by one new machine."""
    after = growing.move(machine)
    assert (after.status, after.error, after.zone) == (
        *(Status.READY, None),
        machine.zone or ZONES[0],
    )
    assert (home_gb(growing), after.home_gb, growing.content) == (LARGER, LARGER, WORK)
    made = growing.world.machine(after)
    assert made is not None
    assert (made.command.machine_type, made.command.image_tag) == (
        machine.machine_type or growing.before.machine_type,
        machine.image_tag or growing.before.image_tag,
    )
    assert (after.machine_type, after.image_tag) == (
        made.command.machine_type,
        made.command.image_tag,
    )


def test_the_size_of_a_home_is_known_though_the_answer_to_its_making_was_lost(
    growing: Moving,
) -> None:
    """As it is if a worker dies after that call."""
    growing.world.machines.script(InsertInstance, Mishap.ANSWER_LOST)
    after = growing.move(NewMachine(home_disk_gb=LARGER, zone=THERE))
    assert (after.status, home_gb(growing), after.home_gb) == (Status.READY, LARGER, LARGER)


@pytest.mark.parametrize(
    ("size_gb", "said"),
    [
        (HOME_GB - 1, "is too small; the home has 50 GB, and can only grow"),
        (501, "is too large; a home may have 500 GB at most"),
    ],
)
@pytest.mark.parametrize("prepare", [ready, archive])
def test_a_home_neither_shrinks_nor_grows_beyond_the_limit(
    growing: Moving, prepare: Callable[[Moving], None], size_gb: int, said: str
) -> None:
    """The request is refused, with the reason on the field."""
    prepare(growing)
    before = growing.now
    with pytest.raises(InvalidRequestError) as refused:
        growing.ask(NewMachine(home_disk_gb=size_gb))
    assert [(each.field, each.message) for each in refused.value.problems] == [
        ("home_disk_gb", said)
    ]
    assert growing.now == before


def test_a_home_that_is_as_large_is_left_alone(growing: Moving) -> None:
    """The START is one that changes nothing."""
    growing.suspend()
    after = growing.move(NewMachine(home_disk_gb=HOME_GB))
    assert (after.status, after.memory_kept) == (Status.READY, True)
    assert after.instance_id == growing.before.instance_id


@pytest.mark.parametrize("by_hand", [LARGER, LARGER + 50])
def test_a_disk_that_was_made_larger_by_hand_is_taken_as_it_is(
    growing: Moving, by_hand: int
) -> None:
    """The new machine lets the file system follow; if the disk is even larger, a note says so."""
    growing.world.machines.perform(ResizeDisk(growing.home, by_hand), "by hand")
    growing.world.pass_time(timedelta(minutes=1))
    after = growing.move(NewMachine(home_disk_gb=LARGER))
    assert (after.status, after.home_gb, home_gb(growing)) == (Status.READY, by_hand, by_hand)
    assert after.instance_id != growing.before.instance_id
    assert growing.notes("HomeNotGrown") == (by_hand > LARGER)
    assert growing.notes("HomeGrown") == (by_hand == LARGER)


def test_a_home_that_is_gone_is_made_as_large_as_is_asked_for(growing: Moving) -> None:
    """A START with ``empty_home`` and a size does both."""
    gone(growing)
    growing.world.machines.delete_disk_by_hand(growing.home)
    after = growing.move(NewMachine(home_disk_gb=LARGER, empty_home=True))
    assert (after.status, after.error) == (Status.READY, None)
    assert (home_gb(growing), after.home_gb) == (LARGER, LARGER)


def test_a_home_that_was_made_larger_by_hand_is_known_at_the_next_new_machine(
    growing: Moving,
) -> None:
    """Its file system follows at that boot; what it grows to later is compared with that."""
    growing.world.machines.perform(ResizeDisk(growing.home, LARGER), "by hand")
    after = growing.move(NewMachine(rebuild=True))
    assert (after.status, after.home_gb, home_gb(growing)) == (Status.READY, LARGER, LARGER)
    with pytest.raises(InvalidRequestError, match="the home has 100 GB, and can only grow"):
        growing.ask(NewMachine(home_disk_gb=LARGER - 1))


def test_a_home_that_was_moved_by_hand_grows_where_it_is(growing: Moving) -> None:
    """It is followed first."""
    growing.suspend()
    growing.world.machines.move_by_hand(place_of(growing.before), THERE)
    after = growing.move(NewMachine(home_disk_gb=LARGER))
    assert (after.status, after.zone, growing.content) == (Status.READY, THERE, WORK)
    assert (home_gb(growing), after.home_gb) == (LARGER, LARGER)


@pytest.mark.parametrize(
    ("size_gb", "has_gb"), [(HOME_GB - 1, None), (HOME_GB, HOME_GB), (LARGER, LARGER)]
)
def test_a_home_that_is_not_made_yet_is_made_as_large_as_is_asked_for(
    growing: Moving, size_gb: int, has_gb: int | None
) -> None:
    """It is never smaller than ``HUB_HOME_DISK_GB``."""
    growing.world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.QUOTA)
    made = growing.world.create("alice", "second")
    growing.world.run()
    start = partial(growing.world.start, "alice", made.id, NewMachine(home_disk_gb=size_gb))
    if has_gb is None:
        with pytest.raises(InvalidRequestError, match="the home has 50 GB, and can only grow"):
            start()
        return
    start()
    growing.world.run()
    made = growing.world.workspace(made.id)
    assert (made.status, made.home_gb) == (Status.READY, has_gb)
    assert growing.world.machines.disk_gb(Place(made.zone, made.disk_name)) == has_gb


# ---- disks that are made after it ----


def snapshot(growing: Moving) -> str:
    """Take a snapshot, let it be stored, and return its id."""
    before = set(growing.world.store.snapshots)
    growing.world.snapshot("alice", growing.before.id)
    growing.world.run()
    [taken] = set(growing.world.store.snapshots) - before
    return taken


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_home_that_is_restored_from_before_it_grew_stays_as_large(
    growing: Moving, *, by_hand: bool
) -> None:
    """What is in it is from before."""
    taken = snapshot(growing)
    growing.world.machines.write(growing.home, MORE)
    if by_hand:
        growing.world.machines.perform(ResizeDisk(growing.home, LARGER), "by hand")
    else:
        growing.move(NewMachine(home_disk_gb=LARGER))
    growing.world.restore("alice", growing.before.id, taken)
    after = growing.end()
    assert (after.status, after.error, growing.content) == (Status.READY, None, WORK)
    assert (home_gb(growing), after.home_gb) == (LARGER, LARGER)
    assert after.disk_name != growing.before.disk_name


def test_a_restore_that_fails_leaves_the_size_that_the_home_has(growing: Moving) -> None:
    """It grew after the snapshot was taken."""
    taken = snapshot(growing)
    growing.move(NewMachine(home_disk_gb=LARGER))
    growing.world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.QUOTA)
    growing.world.restore("alice", growing.before.id, taken)
    after = growing.end()
    assert after.error is not None
    assert (home_gb(growing), after.home_gb, growing.content) == (LARGER, LARGER, WORK)


def test_a_fork_of_a_home_that_has_grown_is_as_large(growing: Moving) -> None:
    """So is the home of one that is taken back after its deletion."""
    growing.world.policy = replace(growing.world.policy, undelete_for=timedelta(days=7))
    growing.move(NewMachine(home_disk_gb=LARGER))
    fork = growing.world.create("alice", "fork", from_snapshot=snapshot(growing))
    growing.world.run()
    fork = growing.world.workspace(fork.id)
    assert (fork.status, fork.home_gb) == (Status.READY, LARGER)
    assert growing.world.machines.disk_gb(Place(fork.zone, fork.disk_name)) == LARGER

    growing.world.delete("alice", growing.before.id)
    growing.world.run()
    growing.world.undelete("alice", growing.before.id)
    assert growing.now.home_gb == LARGER
    after = growing.start()
    assert (after.status, home_gb(growing), after.home_gb) == (Status.READY, LARGER, LARGER)
    assert growing.content == WORK


def test_an_archived_home_that_was_to_grow_does_so_after_it_was_taken_back(
    growing: Moving,
) -> None:
    """The START that asked for it had no capacity; the last copy is still of the smaller disk."""
    growing.world.policy = replace(growing.world.policy, undelete_for=timedelta(days=7))
    archive(growing)
    growing.no_capacity(*ZONES)
    growing.move(NewMachine(home_disk_gb=LARGER))
    growing.world.machines.calm()
    growing.world.delete("alice", growing.before.id)
    growing.world.run()
    growing.world.undelete("alice", growing.before.id)
    after = growing.start()
    assert (after.status, after.error, growing.content) == (Status.READY, None, WORK)
    assert (home_gb(growing), after.home_gb) == (LARGER, LARGER)


def test_an_archived_home_that_could_not_be_made_so_large_may_be_smaller(growing: Moving) -> None:
    """The quota may not allow what an earlier START wanted; but it has to hold what is in it."""
    archive(growing)
    growing.world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.QUOTA)
    after = growing.start(NewMachine(home_disk_gb=LARGER))
    assert after.error is not None
    assert after.error.code == "COMPUTE_QUOTA_EXCEEDED"
    with pytest.raises(InvalidRequestError, match=f"the home has {HOME_GB} GB"):
        growing.start(NewMachine(home_disk_gb=HOME_GB - 1))
    after = growing.start(NewMachine(home_disk_gb=HOME_GB))
    assert (after.status, after.error, growing.content) == (Status.READY, None, WORK)
    assert (home_gb(growing), after.home_gb) == (HOME_GB, HOME_GB)


# ---- what goes wrong ----


@pytest.mark.parametrize("prepare", [ready, suspended])
def test_a_growth_that_compute_refuses_leaves_machine_memory_and_size(
    prepare: Callable[[Moving], None],
) -> None:
    """Whatever the refusal, the workspace is as it was, and the same START works then."""
    wanted = NewMachine(home_disk_gb=LARGER, machine_type="e2-standard-8", image_tag="v7")
    for how, kind in product((Mishap.REFUSED, Mishap.FAILS_LATER), FaultKind):
        growing = Moving()
        prepare(growing)
        before = growing.now
        growing.world.machines.script(ResizeDisk, how, kind, times=1000)
        after = growing.move(wanted)
        case = (how, kind, after.status, after.error)
        assert after.error is not None, case
        assert "the machine" not in after.error.message, case
        assert after.status is before.status, case
        assert after.has_memory, case
        assert after.instance_id == before.instance_id, case
        assert (after.machine_type, after.image_tag) == (before.machine_type, before.image_tag)
        assert (home_gb(growing), after.home_gb) == (HOME_GB, HOME_GB), case

        growing.world.machines.calm()
        after = growing.move(wanted)
        case = (how, kind, after.status, after.error)
        assert (after.status, after.error, growing.content) == (Status.READY, None, WORK), case
        assert (home_gb(growing), after.home_gb) == (LARGER, LARGER), case
        assert (after.machine_type, after.image_tag) == ("e2-standard-8", "v7"), case


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (FaultKind.QUOTA, "The project's Compute Engine quota is used up. Compute Engine said"),
        (FaultKind.PERMISSION, "The Hub may not do this in Compute Engine. Compute Engine said"),
        (FaultKind.INVALID, "Compute Engine refused the larger disk. Compute Engine said"),
        (FaultKind.NOT_READY, "The START did not end within 10 minutes."),
    ],
)
def test_a_growth_that_compute_refuses_says_why_and_what_to_do(
    growing: Moving, kind: FaultKind, said: str
) -> None:
    """Machine and home are as they were."""
    growing.world.machines.script(ResizeDisk, Mishap.REFUSED, kind, times=1000)
    error = growing.move(NewMachine(home_disk_gb=LARGER)).error
    assert error is not None
    assert error.message.startswith(said)
    assert "Start the workspace as it is, or ask for a larger home again" in error.message


@pytest.mark.parametrize("wrong", ["no capacity", "never ready", "not deleted"])
def test_a_home_that_has_grown_stays_so_though_no_machine_boots_on_it(
    growing: Moving, wrong: str
) -> None:
    """The next START boots one, and knows the size."""
    if wrong == "no capacity":
        growing.no_capacity(ZONES[0])
    if wrong == "never ready":
        growing.world.machines.script_boot(GuestMishap.NEVER_READY)
    if wrong == "not deleted":
        growing.world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.POLICY)
    after = growing.move(NewMachine(home_disk_gb=LARGER))
    assert after.error is not None
    assert (home_gb(growing), after.home_gb, growing.content) == (LARGER, LARGER, WORK)

    growing.world.machines.calm()
    after = growing.start(NewMachine(home_disk_gb=LARGER))
    assert (after.status, after.error, growing.content) == (Status.READY, None, WORK)
    made = growing.world.machine(after)
    assert made is not None
    assert made.id != growing.before.instance_id


def test_a_growth_in_a_move_that_fails_has_not_happened(growing: Moving) -> None:
    """Size, image and type are those of the machine that is there again; the same START works."""
    wanted = NewMachine(home_disk_gb=LARGER, zone=THERE, machine_type="e2-standard-8")
    growing.suspend()
    growing.world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.QUOTA)
    after = growing.move(wanted)
    assert (after.status, after.zone, after.has_memory) == (Status.SUSPENDED, ZONES[0], True)
    assert (after.home_gb, after.machine_type) == (HOME_GB, growing.before.machine_type)

    after = growing.move(wanted)
    assert (after.status, after.zone, after.home_gb) == (Status.READY, THERE, LARGER)
    assert (home_gb(growing), growing.content) == (LARGER, WORK)


def test_a_home_that_is_gone_does_not_grow(growing: Moving) -> None:
    """The START says that it is gone, as any other."""
    gone(growing)
    growing.world.machines.delete_disk_by_hand(growing.home)
    after = growing.move(NewMachine(home_disk_gb=LARGER))
    assert after.error is not None
    assert (after.status, after.error.code) == (Status.ERROR, "HOME_DISK_GONE")


# ---- what somebody asks for meanwhile ----


@pytest.mark.parametrize("phase", [Phase.RESIZE_DISK, Phase.AWAIT_RESIZED, Phase.INSERTING])
def test_nothing_else_is_done_while_a_home_grows(growing: Moving, phase: Phase) -> None:
    """The same START again is the same; a DELETE leaves nothing."""
    if phase is Phase.RESIZE_DISK:
        growing.world.machines.script(ResizeDisk, Mishap.REFUSED, FaultKind.NOT_READY)
    growing.ask(NewMachine(home_disk_gb=LARGER))
    growing.until(phase)
    before = growing.now
    for refused in (
        lambda: growing.world.stop("alice", growing.before.id),
        lambda: growing.world.snapshot("alice", growing.before.id),
        lambda: growing.ask(NewMachine(home_disk_gb=LARGER + 1)),
        lambda: growing.ask(NewMachine(zone=THERE)),
    ):
        with pytest.raises(OperationUnderWayError):
            refused()
    growing.ask(NewMachine(home_disk_gb=LARGER))
    growing.ask(NewMachine())
    assert growing.now == before
    growing.world.delete("alice", growing.before.id)
    growing.world.run()
    assert (growing.world.store.workspaces, growing.world.machines.disks) == ({}, set())
    assert growing.world.machines.instances == {}


def test_a_machine_that_is_used_meanwhile_is_not_touched_before_the_disk_has_grown(
    growing: Moving,
) -> None:
    """It runs until then."""
    growing.ask(NewMachine(home_disk_gb=LARGER))
    growing.until(Phase.AWAIT_RESIZED)
    assert growing.former is not None
    assert growing.former.state is InstanceState.RUNNING
    assert growing.now.machine_running


@pytest.mark.parametrize(
    ("prepare", "lost"),
    [
        (ready, [Lost.MEMORY, Lost.BOOT_DISK]),
        (suspended, [Lost.MEMORY, Lost.BOOT_DISK]),
        (gone, []),
        (archive, []),
    ],
)
def test_a_dry_run_says_what_a_larger_home_costs(
    growing: Moving, prepare: Callable[[Moving], None], lost: list[Lost]
) -> None:
    """Memory and boot disk, since a new machine is made."""
    prepare(growing)
    said = manage_workspaces.dry_run_start(
        growing.world.records,
        growing.world.policy,
        actor("alice"),
        growing.before.id,
        NewMachine(home_disk_gb=LARGER),
    )
    assert [loss.what for loss in said.losses] == lost
