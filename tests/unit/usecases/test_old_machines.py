"""What a START makes of a machine that is too old: its system is as old as the machine."""

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
    """A Hub with fakes, which never deletes a suspended workspace."""
    return World()


def start_and_settle(
    world: World, workspace: Workspace, machine: NewMachine | None = None
) -> Workspace:
    """Start a workspace, and return it as it is afterwards."""
    world.machines.calls.clear()
    world.start("alice", workspace.id, machine)
    world.run()
    return world.workspace(workspace.id)


def machine_of(world: World, workspace: Workspace) -> FakeInstance:
    """Return the workspace's machine, which must exist."""
    machine = world.machine(workspace)
    assert machine is not None
    return machine


def commands(world: World) -> list[type[Command]]:
    """Return the commands that Compute got since the last start, in order."""
    return [type(command) for command, _ in world.machines.calls]


def reasons(world: World, what: str) -> list[str]:
    """Return the reasons in the Hub's events of this kind."""
    return [
        event.result for event in world.store.events if (event.who, event.what) == ("hub", what)
    ]


def test_a_machine_that_is_too_old_to_boot_is_replaced_and_its_home_disk_kept(world: World) -> None:
    """This holds for a preempted machine too; the home disk stays, and an event has the age."""
    workspace = shut_down_by_hand(world)
    before = machine_of(world, workspace)
    world.clock.advance(40 * DAY)

    after = start_and_settle(world, workspace)

    assert (after.status, after.error) == (Status.READY, None)
    assert commands(world) == [DeleteInstance, InsertInstance]
    machine = machine_of(world, after)
    assert (machine.id == before.id, machine.command.attach_home) == (False, True)
    assert (after.home_disk, after.machine_made_at) == (workspace.home_disk, machine.created_at)
    [reason] = reasons(world, "MachineRemade")
    assert reason == (
        "The machine was 40 days old, more than 30 days, so a new one was made on the same home, "
        "with today's system."
    )
    assert (
        reasons(world, "MemoryLost")
        == [after.memory_lost_because]
        == ["The machine was shut down outside the Hub."]
    )


def test_a_machine_that_is_not_too_old_is_booted_as_it_is(world: World) -> None:
    """It is not too old until its last day is over."""
    workspace = shut_down_by_hand(world)
    world.machines.make_old_by_hand(place_of(workspace), 29 * DAY)

    assert start_and_settle(world, workspace).status is Status.READY

    assert commands(world) == [RefreshMetadata, StartInstance]


def test_an_old_suspended_machine_is_resumed_and_its_owner_told(
    world: World,
) -> None:
    """Memory is never lost unannounced; a rebuild replaces the machine and says what it costs."""
    workspace = suspended(world)
    world.clock.advance(50 * DAY)
    told = renewal(world.workspace(workspace.id), world.policy)
    assert told is not None
    assert told.at < world.clock()
    assert "as the next start does" in told.unless

    resumed = start_and_settle(world, workspace)
    assert (commands(world), resumed.memory_kept) == ([ResumeInstance], True)
    assert reasons(world, "MachineRemade") == []

    rebuilt = start_and_settle(world, resumed, NewMachine(rebuild=True))
    assert (commands(world), rebuilt.memory_kept) == ([DeleteInstance, InsertInstance], False)
    again = renewal(rebuilt, world.policy)
    assert again is not None
    assert again.at > world.clock() + 29 * DAY
    assert len(reasons(world, "MemoryLost")) == 1


def test_a_machine_that_compute_stopped_after_sixty_days_suspended_is_replaced(
    world: World,
) -> None:
    """Its memory is lost in any case."""
    workspace = suspended(world)
    world.clock.advance(61 * DAY)
    assert machine_of(world, workspace).state is InstanceState.TERMINATED

    after = start_and_settle(world, workspace)

    assert (after.status, commands(world)) == (Status.READY, [DeleteInstance, InsertInstance])
    assert reasons(world, "MemoryLost") == [after.memory_lost_because] == ["The machine was off."]


def test_a_failed_machine_that_is_too_old_is_replaced_instead_of_booted(
    world: World,
) -> None:
    """The START stops it first, and creates one new machine as usual."""
    workspace = world.ready()
    world.report(
        machine_of(world, workspace).report(
            ReportEvent.FAILED, "CONTAINER_ENDS", "It keeps ending."
        )
    )
    world.machines.make_old_by_hand(place_of(workspace), 31 * DAY)

    after = start_and_settle(world, workspace)

    assert (after.status, after.error) == (Status.READY, None)
    assert commands(world)[-2:] == [DeleteInstance, InsertInstance]


def test_a_start_creates_at_most_one_new_machine_for_any_age_limit(world: World) -> None:
    """The new machine is used even if it is already too old at the next look."""
    workspace = shut_down_by_hand(world)
    world.policy = replace(world.policy, max_machine_age=timedelta(microseconds=1))

    assert start_and_settle(world, workspace).status is Status.READY

    assert commands(world) == [DeleteInstance, InsertInstance]


def test_an_old_machine_without_its_home_disk_is_kept(world: World) -> None:
    """Its boot disk may have the last copy of data, so a person must decide."""
    workspace = shut_down_by_hand(world)
    home = Place(workspace.zone, workspace.disk_name)
    world.machines.detach_disk_by_hand(home)
    world.machines.delete_disk_by_hand(home)
    world.clock.advance(40 * DAY)

    failed = start_and_settle(world, workspace)

    assert (failed.status, failed.error and failed.error.code) == (Status.ERROR, "HOME_DISK_GONE")
    assert place_of(workspace) in world.machines.instances
    assert start_and_settle(world, failed, NewMachine(empty_home=True)).status is Status.READY


@pytest.mark.parametrize("mishap", [Mishap.REFUSED, Mishap.FAILS_LATER])
@pytest.mark.parametrize(
    "kind", [FaultKind.POLICY, FaultKind.INVALID, FaultKind.UNSUPPORTED, FaultKind.PERMISSION]
)
def test_an_old_machine_that_cannot_be_deleted_is_booted(
    world: World, kind: FaultKind, mishap: Mishap
) -> None:
    """It may be protected; its age does not block its owner, and an event has Compute's message."""
    workspace = shut_down_by_hand(world)
    world.clock.advance(40 * DAY)
    world.machines.script(DeleteInstance, mishap, kind, times=1000)

    after = start_and_settle(world, workspace)

    assert (after.status, after.error, after.instance_id) == (
        Status.READY,
        None,
        workspace.instance_id,
    )
    assert commands(world)[-2:] == [RefreshMetadata, StartInstance]
    [why] = reasons(world, "MachineNotRemade")
    assert "Compute Engine said" in why


def test_a_start_without_capacity_for_the_new_machine_keeps_the_home_disk(world: World) -> None:
    """The workspace waits with its home disk, and the next START creates the machine."""
    workspace = shut_down_by_hand(world)
    world.clock.advance(40 * DAY)
    world.machines.script(InsertInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT)

    waiting = start_and_settle(world, workspace)
    assert (waiting.status, waiting.home_disk) == (Status.SUSPENDED, workspace.home_disk)
    assert renewal(waiting, world.policy) is None

    after = start_and_settle(world, waiting)
    assert (after.status, commands(world)) == (Status.READY, [InsertInstance])


def test_a_machine_type_changed_by_hand_is_kept_by_the_replacement(world: World) -> None:
    """The START finds the new type before any look has recorded it."""
    workspace = shut_down_by_hand(world)
    world.clock.advance(40 * DAY)
    world.machines.set_machine_type_by_hand(place_of(workspace), "e2-standard-16")

    after = start_and_settle(world, workspace)

    assert (after.machine_type, machine_of(world, after).command.machine_type) == (
        "e2-standard-16",
        "e2-standard-16",
    )
    assert len(reasons(world, "MachineTypeFollowed")) == 1


def test_without_an_age_limit_no_machine_is_replaced(world: World) -> None:
    """Nobody is told of a renewal either."""
    workspace = shut_down_by_hand(world)
    world.policy = replace(world.policy, max_machine_age=None)
    world.clock.advance(400 * DAY)

    after = start_and_settle(world, workspace)

    assert (commands(world), renewal(after, world.policy)) == (
        [RefreshMetadata, StartInstance],
        None,
    )


def test_a_machine_of_unknown_age_is_not_replaced(world: World) -> None:
    """Compute always states the creation time; without it a machine is booted as it is."""
    workspace = shut_down_by_hand(world)
    machine_of(world, workspace).created_at = None
    world.store.put(replace(workspace, machine_made_at=None))

    start_and_settle(world, workspace)

    assert commands(world) == [RefreshMetadata, StartInstance]


def test_a_look_records_the_creation_time_of_a_machine_once(world: World) -> None:
    """A record of version 0.1 lacks it; one look adds it, and it is dropped with the machine."""
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


@pytest.mark.parametrize("hand", ["moved", "replaced"])
def test_a_machine_that_was_replaced_by_hand_has_its_own_age(world: World, hand: str) -> None:
    """Its creation time is new, and a new machine is not replaced."""
    workspace = shut_down_by_hand(world)
    world.clock.advance(40 * DAY)
    if hand == "moved":
        world.machines.move_by_hand(place_of(workspace), "us-west1-b")
    else:
        machine = machine_of(world, workspace)
        machine.id, machine.created_at = "5", world.clock()

    after = start_and_settle(world, workspace)

    assert (after.status, after.machine_made_at) == (
        Status.READY,
        machine_of(world, after).created_at,
    )
    assert commands(world) == [RefreshMetadata, StartInstance]
