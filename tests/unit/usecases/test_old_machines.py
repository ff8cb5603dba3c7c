"""A machine's system is as old as the machine: what a START makes of one that is too old, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.instance import (
    Command,
    DeleteInstance,
    FaultKind,
    InsertInstance,
    InstanceState,
    Place,
    RefreshMetadata,
    ResumeInstance,
    StartInstance,
)
from shared.domain.lifecycle import NewMachine
from shared.domain.renewal import renewal
from shared.domain.reports import ReportEvent
from shared.domain.workspace import Status, Workspace
from tests.fakes.machines import FakeInstance, Mishap
from tests.fakes.world import World, place_of, shut_down_by_hand, suspended

DAY = timedelta(days=1)


@pytest.fixture
def world() -> World:
    """A Hub on fakes, that keeps what is suspended for as long as it takes."""
    return World()


def started(world: World, workspace: Workspace, machine: NewMachine | None = None) -> Workspace:
    """Start a workspace, and return what came of it."""
    world.machines.calls.clear()
    world.start("alice", workspace.id, machine)
    world.run()
    return world.workspace(workspace.id)


def machine_of(world: World, workspace: Workspace) -> FakeInstance:
    """Return the workspace's machine, which must be there."""
    machine = world.machine(workspace)
    assert machine is not None
    return machine


def commands(world: World) -> list[type[Command]]:
    """Return what Compute was asked to do since the last start, in order."""
    return [type(command) for command, _ in world.machines.calls]


def noted(world: World, what: str) -> list[str]:
    """Return why the Hub has noted this, each time."""
    return [
        event.result for event in world.store.events if (event.who, event.what) == ("hub", what)
    ]


def test_a_machine_that_is_too_old_to_be_booted_is_made_anew_on_its_home(world: World) -> None:
    """Whoever shut it down: a preempted one too. The home stays the same disk, and the trail says how old it was."""
    workspace = shut_down_by_hand(world)
    before = machine_of(world, workspace)
    world.clock.advance(40 * DAY)

    after = started(world, workspace)

    assert (after.status, after.error) == (Status.READY, None)
    assert commands(world) == [DeleteInstance, InsertInstance]
    machine = machine_of(world, after)
    assert (machine.id == before.id, machine.command.attach_home) == (False, True)
    assert (after.home_disk, after.machine_made_at) == (workspace.home_disk, machine.created_at)
    assert noted(world, "MachineRemade") == [
        "The machine was 40 days old, more than 30 days, so a new one was made on the same home, with today's system."
    ]
    assert (
        noted(world, "MemoryLost")
        == [after.memory_lost_because]
        == ["The machine was shut down outside the Hub."]
    )


def test_a_machine_that_is_not_too_old_is_booted_as_it_is(world: World) -> None:
    """Up to its last day."""
    workspace = shut_down_by_hand(world)
    world.machines.make_old_by_hand(place_of(workspace), 29 * DAY)

    assert started(world, workspace).status is Status.READY

    assert commands(world) == [RefreshMetadata, StartInstance]


def test_an_old_machine_that_is_suspended_is_resumed_with_its_memory_and_its_owner_is_told(
    world: World,
) -> None:
    """However old: memory is not lost quietly. A request makes it anew, and says what that has cost."""
    workspace = suspended(world)
    world.clock.advance(50 * DAY)
    told = renewal(world.workspace(workspace.id), world.policy)
    assert told is not None
    assert told.at < world.clock()
    assert "as the next start does" in told.unless

    resumed = started(world, workspace)
    assert (commands(world), resumed.memory_kept) == ([ResumeInstance], True)
    assert noted(world, "MachineRemade") == []

    rebuilt = started(world, resumed, NewMachine(rebuild=True))
    assert (commands(world), rebuilt.memory_kept) == ([DeleteInstance, InsertInstance], False)
    again = renewal(rebuilt, world.policy)
    assert again is not None
    assert again.at > world.clock() + 29 * DAY
    assert len(noted(world, "MemoryLost")) == 1


def test_a_machine_that_compute_has_ended_after_sixty_days_of_suspension_is_made_anew(
    world: World,
) -> None:
    """Its memory is lost then anyway."""
    workspace = suspended(world)
    world.clock.advance(61 * DAY)
    assert machine_of(world, workspace).state is InstanceState.TERMINATED

    after = started(world, workspace)

    assert (after.status, commands(world)) == (Status.READY, [DeleteInstance, InsertInstance])
    assert noted(world, "MemoryLost") == [after.memory_lost_because] == ["The machine was off."]


def test_a_machine_that_is_booted_again_since_it_failed_is_made_anew_if_it_is_too_old(
    world: World,
) -> None:
    """A START has to stop it first; that it makes one new machine is the same."""
    workspace = world.ready()
    world.report(
        machine_of(world, workspace).report(
            ReportEvent.FAILED, "CONTAINER_ENDS", "It keeps ending."
        )
    )
    world.machines.make_old_by_hand(place_of(workspace), 31 * DAY)

    after = started(world, workspace)

    assert (after.status, after.error) == (Status.READY, None)
    assert commands(world)[-2:] == [DeleteInstance, InsertInstance]


def test_a_start_makes_one_new_machine_at_most_however_short_the_age(world: World) -> None:
    """What it has made is used, though it is too old when it is looked at next."""
    workspace = shut_down_by_hand(world)
    world.policy = replace(world.policy, max_machine_age=timedelta(microseconds=1))

    assert started(world, workspace).status is Status.READY

    assert commands(world) == [DeleteInstance, InsertInstance]


def test_an_old_machine_stays_if_its_home_is_gone(world: World) -> None:
    """Never without the home: its boot disk may have the last copy of something. Then the person decides."""
    workspace = shut_down_by_hand(world)
    home = Place(workspace.zone, workspace.disk_name)
    world.machines.detach_disk_by_hand(home)
    world.machines.delete_disk_by_hand(home)
    world.clock.advance(40 * DAY)

    failed = started(world, workspace)

    assert (failed.status, failed.error and failed.error.code) == (Status.ERROR, "HOME_DISK_GONE")
    assert place_of(workspace) in world.machines.instances
    assert started(world, failed, NewMachine(empty_home=True)).status is Status.READY


@pytest.mark.parametrize("mishap", [Mishap.REFUSED, Mishap.FAILS_LATER])
@pytest.mark.parametrize(
    "kind", [FaultKind.POLICY, FaultKind.INVALID, FaultKind.UNSUPPORTED, FaultKind.PERMISSION]
)
def test_an_old_machine_that_may_not_be_deleted_is_booted_all_the_same(
    world: World, kind: FaultKind, mishap: Mishap
) -> None:
    """It may be protected from deletion: its age keeps nobody from their work, and the trail has Compute's words."""
    workspace = shut_down_by_hand(world)
    world.clock.advance(40 * DAY)
    world.machines.script(DeleteInstance, mishap, kind, times=1000)

    after = started(world, workspace)

    assert (after.status, after.error, after.instance_id) == (
        Status.READY,
        None,
        workspace.instance_id,
    )
    assert commands(world)[-2:] == [RefreshMetadata, StartInstance]
    [why] = noted(world, "MachineNotRemade")
    assert "Compute Engine said" in why


def test_no_capacity_for_the_new_machine_costs_nothing_but_time(world: World) -> None:
    """The workspace waits with its home, and the next START makes the machine."""
    workspace = shut_down_by_hand(world)
    world.clock.advance(40 * DAY)
    world.machines.script(InsertInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT)

    waiting = started(world, workspace)
    assert (waiting.status, waiting.home_disk) == (Status.SUSPENDED, workspace.home_disk)
    assert renewal(waiting, world.policy) is None

    after = started(world, waiting)
    assert (after.status, commands(world)) == (Status.READY, [InsertInstance])


def test_a_type_that_somebody_gave_an_old_machine_while_it_was_off_is_kept(world: World) -> None:
    """The START meets it before anybody has looked."""
    workspace = shut_down_by_hand(world)
    world.clock.advance(40 * DAY)
    world.machines.set_machine_type_by_hand(place_of(workspace), "e2-standard-16")

    after = started(world, workspace)

    assert (after.machine_type, machine_of(world, after).command.machine_type) == (
        "e2-standard-16",
        "e2-standard-16",
    )
    assert len(noted(world, "MachineTypeFollowed")) == 1


def test_an_age_that_is_switched_off_makes_nothing_anew(world: World) -> None:
    """And is told to nobody."""
    workspace = shut_down_by_hand(world)
    world.policy = replace(world.policy, max_machine_age=None)
    world.clock.advance(400 * DAY)

    after = started(world, workspace)

    assert (commands(world), renewal(after, world.policy)) == (
        [RefreshMetadata, StartInstance],
        None,
    )


def test_an_age_that_nobody_knows_makes_nothing_anew(world: World) -> None:
    """Compute always says it; should it not, a machine is booted as it is."""
    workspace = shut_down_by_hand(world)
    machine_of(world, workspace).created_at = None
    world.store.put(replace(workspace, machine_made_at=None))

    started(world, workspace)

    assert commands(world) == [RefreshMetadata, StartInstance]


def test_a_look_finds_out_when_a_machine_was_made_once(world: World) -> None:
    """A record of version 0.1 does not have it. What is known differs no more, and a machine that is gone has no age."""
    workspace = suspended(world)
    made_at = machine_of(world, workspace).created_at
    world.store.put(replace(workspace, machine_made_at=None))

    for _ in range(2):
        world.clock.advance(timedelta(seconds=10))
        world.look(workspace)
        world.run()
    assert world.workspace(workspace.id).machine_made_at == made_at
    assert (
        len(world.operations.sent) - len([job for job in world.operations.sent if job.operation_id])
        == 1
    )

    world.machines.delete_by_hand(place_of(workspace))
    world.clock.advance(timedelta(seconds=10))
    world.look(workspace)
    world.run()
    assert world.workspace(workspace.id).machine_made_at is None


@pytest.mark.parametrize("hand", ["moved", "made anew"])
def test_a_machine_that_was_made_anew_by_hand_is_as_old_as_it_is(world: World, hand: str) -> None:
    """It has another creation time, and a machine that was just made is not made again."""
    workspace = shut_down_by_hand(world)
    world.clock.advance(40 * DAY)
    if hand == "moved":
        world.machines.move_by_hand(place_of(workspace), "us-west1-b")
    else:
        machine = machine_of(world, workspace)
        machine.id, machine.created_at = "5", world.clock()

    after = started(world, workspace)

    assert (after.status, after.machine_made_at) == (
        Status.READY,
        machine_of(world, after).created_at,
    )
    assert commands(world) == [RefreshMetadata, StartInstance]
