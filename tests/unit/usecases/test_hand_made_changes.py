"""What people do to machines and disks behind the Hub's back, each in every verb that meets it, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.instance import (
    Command,
    DeleteDisk,
    DeleteInstance,
    InsertInstance,
    InstanceState,
    Place,
    RefreshMetadata,
)
from shared.domain.lifecycle import NewMachine
from shared.domain.workspace import HomeDisk, Status, Workspace
from shared.usecases.reconcile_fleet import reconcile_fleet
from tests.fakes.machines import INSTALLATION
from tests.fakes.world import World, place_of, shut_down_by_hand, suspended

ELSEWHERE = "us-west1-b"


@pytest.fixture
def world() -> World:
    """A Hub on fakes."""
    return World()


def home_of(workspace: Workspace) -> Place:
    """Return where the workspace's home disk is."""
    return Place(
        workspace.home_disk.zone if workspace.home_disk else workspace.zone, workspace.disk_name
    )


def reconciled(world: World) -> None:
    """Run the hourly sweep, and what it has asked for."""
    reconcile_fleet(
        world.store, world.machines, world.operations, world.clock, world.policy, "run-1"
    )
    world.run()


def commands(world: World) -> list[Command]:
    """Return all that Compute was asked to do."""
    return [command for command, _ in world.machines.calls]


def noted(world: World) -> list[str]:
    """Return what the Hub itself has noted of what was done outside it, or lost."""
    names = ("Followed", "Replaced", "Remade", "Lost", "Restored")
    return [event.what for event in world.store.events if event.what.endswith(names)]


@pytest.mark.parametrize("keep_boot_disk", [True, False])
def test_a_machine_that_was_deleted_by_hand_is_made_anew_on_its_home_and_leaves_no_disk(
    world: World, keep_boot_disk: bool
) -> None:
    """Its boot disk may have been kept: the new one has another name, and a DELETE takes them all."""
    workspace = suspended(world)
    world.machines.delete_by_hand(place_of(workspace), keep_boot_disk=keep_boot_disk)

    world.start("alice", workspace.id)
    world.run()

    assert world.workspace(workspace.id).status is Status.READY
    assert noted(world) == ["MemoryLost"]
    world.delete("alice", workspace.id)
    world.run()
    assert (world.machines.instances, world.machines.disks) == ({}, set())


def test_a_home_that_was_deleted_by_hand_is_missed_and_replaced_only_if_asked(world: World) -> None:
    """The START fails and says so; the machine is not made on an empty disk until the person agrees."""
    workspace = suspended(world)
    world.machines.delete_by_hand(place_of(workspace))
    world.machines.delete_disk_by_hand(home_of(workspace))
    for _ in range(2):
        world.start("alice", workspace.id)
        world.run()
        failed = world.workspace(workspace.id)
        assert (failed.status, failed.error and failed.error.code) == (
            Status.ERROR,
            "HOME_DISK_GONE",
        )
        assert world.machines.disks == set()

    world.start("alice", workspace.id, NewMachine(empty_home=True))
    world.run()

    assert world.workspace(workspace.id).status is Status.READY
    assert "HomeReplaced" in noted(world)
    assert home_of(workspace) in world.machines.disks


@pytest.mark.parametrize(
    "machine", [NewMachine(machine_type="e2-standard-8"), NewMachine(image_tag="next")]
)
def test_a_start_that_makes_a_new_machine_deletes_nothing_when_the_home_is_gone(
    world: World, machine: NewMachine
) -> None:
    """What is in the old machine's memory may be the last of it."""
    workspace = suspended(world)
    world.machines.detach_disk_by_hand(home_of(workspace))
    world.machines.delete_disk_by_hand(home_of(workspace))

    world.start("alice", workspace.id, machine)
    world.run()

    failed = world.workspace(workspace.id)
    assert (failed.status, failed.error and failed.error.code) == (Status.ERROR, "HOME_DISK_GONE")
    assert place_of(workspace) in world.machines.instances


def test_a_home_that_was_restored_under_its_name_is_used_again(world: World) -> None:
    """With no labels at all: the name is enough."""
    workspace = suspended(world)
    world.machines.delete_by_hand(place_of(workspace))
    world.machines.delete_disk_by_hand(home_of(workspace))
    world.machines.make_disk_by_hand(home_of(workspace), {})

    world.start("alice", workspace.id)
    world.run()

    assert world.workspace(workspace.id).status is Status.READY
    [insert] = [command for command in commands(world) if isinstance(command, InsertInstance)][1:]
    assert insert.attach_home


def test_a_restored_home_that_has_lost_labels_is_never_deleted_by_a_sweep(world: World) -> None:
    """Row 3 of the cases: it was deleted after the grace time."""
    workspace = suspended(world)
    world.machines.delete_by_hand(place_of(workspace))
    world.machines.delete_disk_by_hand(home_of(workspace))
    world.machines.make_disk_by_hand(home_of(workspace), {"hub": INSTALLATION})

    for _ in range(3):
        world.clock.advance(world.policy.orphan_grace + timedelta(hours=2))
        reconciled(world)

    assert home_of(workspace) in world.machines.disks
    assert not [command for command in commands(world) if isinstance(command, DeleteDisk)]


@pytest.mark.parametrize("asleep", [suspended, shut_down_by_hand])
def test_a_detached_home_is_attached_by_a_new_machine(
    world: World, asleep: Callable[[World], Workspace]
) -> None:
    """Also where the machine is suspended, and would be thawed without it: it is made anew once, and the trail says why."""
    workspace = asleep(world)
    world.machines.detach_disk_by_hand(home_of(workspace))

    world.start("alice", workspace.id)
    world.run()

    after = world.workspace(workspace.id)
    assert (after.status, after.error) == (Status.READY, None)
    inserts = [command for command in commands(world) if isinstance(command, InsertInstance)]
    assert [insert.attach_home for insert in inserts] == [False, True]
    assert "MachineRemade" in noted(world)
    assert noted(world).count("MemoryLost") == 1


@pytest.mark.parametrize("verb", ["sweep", "start", "stop", "look"])
def test_a_machine_that_was_moved_to_another_zone_is_followed_with_its_home(
    world: World, verb: str
) -> None:
    """By whoever meets it first; nothing of it is stopped as an orphan, and nothing is deleted."""
    workspace = shut_down_by_hand(world)
    world.machines.move_by_hand(place_of(workspace), ELSEWHERE)
    if verb == "sweep":
        world.clock.advance(timedelta(hours=2))
        reconciled(world)
    elif verb == "look":
        world.pass_time(timedelta(minutes=1))
        world.look(world.workspace(workspace.id))
    elif verb == "stop":
        world.store.put(replace(world.workspace(workspace.id), status=Status.READY))
        world.stop("alice", workspace.id)
    world.run()
    if verb != "start":
        assert world.workspace(workspace.id).zone == ELSEWHERE

    world.start("alice", workspace.id)
    world.run()

    after = world.workspace(workspace.id)
    assert (after.status, after.zone, after.home_disk) == (
        Status.READY,
        ELSEWHERE,
        HomeDisk(workspace.disk_name, ELSEWHERE),
    )
    deleted = [
        command for command in commands(world) if isinstance(command, DeleteInstance | DeleteDisk)
    ]
    assert deleted == []
    assert "MachineFollowed" in noted(world)
    world.delete("alice", workspace.id)
    world.run()
    assert (world.machines.instances, world.machines.disks) == ({}, set())


@pytest.mark.parametrize("copied", [True, False])
def test_a_delete_takes_what_was_moved_or_copied_to_another_zone(
    world: World, copied: bool
) -> None:
    """Machines and disks of that name, wherever they are."""
    workspace = world.ready()
    hand = world.machines.copy_by_hand if copied else world.machines.move_by_hand
    hand(place_of(workspace), ELSEWHERE)

    world.delete("alice", workspace.id)
    world.run()

    assert workspace.id not in world.store.workspaces
    assert (world.machines.instances, world.machines.disks) == ({}, set())


def test_a_home_that_somebody_else_uses_ends_a_delete_in_time_and_lets_it_go_on_later(
    world: World,
) -> None:
    """Row 1 of the cases: the operation went on for ever. Who holds the disk is named, and everything stays counted."""
    workspace = suspended(world)
    world.machines.hold_disk_by_hand(home_of(workspace), "holder")

    world.delete("alice", workspace.id)
    asked_at = world.clock()
    world.run(until=lambda: world.workspace(workspace.id).operation is None)

    over = world.workspace(workspace.id)
    assert world.clock() - asked_at <= world.policy.deadlines.delete + world.policy.look_max
    assert (over.status, over.error and over.error.code) == (Status.ERROR, "DISK_IN_USE")
    assert over.error is not None
    assert "instances/holder" in over.error.message
    assert workspace.id in world.store.owners["alice"].workspaces
    world.machines.release_disk_by_hand(home_of(workspace))
    world.delete("alice", workspace.id)
    world.run()
    assert workspace.id not in world.store.workspaces
    assert world.machines.disks == set()


def test_a_machine_type_that_was_changed_by_hand_is_recorded_and_can_be_changed_back(
    world: World,
) -> None:
    """Row 13 of the cases: the record was wrong for ever, and the START that should restore it did nothing."""
    workspace = shut_down_by_hand(world)
    world.machines.set_machine_type_by_hand(place_of(workspace), "e2-standard-16")
    reconciled(world)
    assert world.workspace(workspace.id).machine_type == "e2-standard-16"
    assert "MachineTypeFollowed" in noted(world)

    world.start("alice", workspace.id, NewMachine(machine_type=workspace.machine_type))
    world.run()

    after = world.workspace(workspace.id)
    machine = world.machine(after)
    assert machine is not None
    assert (after.status, after.machine_type) == (Status.READY, workspace.machine_type)
    assert machine.command.machine_type == workspace.machine_type


def test_every_boot_refreshes_all_metadata_and_what_the_hub_knows_of_it(world: World) -> None:
    """Row 12 of the cases: a machine kept its old heartbeat interval, and was stopped as idle while it was in use."""
    world.policy = replace(world.policy, machine_heartbeat_interval=timedelta(seconds=1000))
    world.machines.heartbeat_interval = timedelta(seconds=1000)
    workspace = world.ready()
    world.policy = replace(
        world.policy,
        idle_after=timedelta(minutes=10),
        machine_heartbeat_interval=timedelta(seconds=200),
    )
    world.machines.heartbeat_interval = timedelta(seconds=200)
    assert workspace.heartbeat_seconds == 1000

    world.clock.advance(timedelta(minutes=16))  # it last reported within its own interval
    world.clean_up()
    assert world.workspace(workspace.id).operation is None
    world.clock.advance(timedelta(minutes=40))
    world.clean_up()
    world.run()
    assert world.workspace(workspace.id).status is Status.SUSPENDED

    world.machines.start_by_hand(place_of(workspace))
    world.pass_time(timedelta(minutes=5))
    world.machines.stop_by_hand(place_of(workspace))
    world.pass_time(timedelta(minutes=5))
    world.start("alice", workspace.id)
    world.run()
    assert [type(each) for each in commands(world)].count(RefreshMetadata) == 1
    assert world.workspace(workspace.id).heartbeat_seconds == 200


def test_an_interval_that_only_the_machine_knows_keeps_it_from_being_stopped(world: World) -> None:
    """A record of version 0.1 does not have it: the worker looks at the machine before it suspends, and the record learns it."""
    workspace = world.ready()
    machine = world.machine(workspace)
    assert machine is not None
    machine.heartbeat_interval = timedelta(seconds=1000)
    world.store.put(replace(workspace, heartbeat_seconds=None))
    world.policy = replace(world.policy, idle_after=timedelta(minutes=10))
    world.clock.advance(timedelta(minutes=16))

    world.clean_up()
    world.run()

    after = world.workspace(workspace.id)
    assert (after.status, after.heartbeat_seconds) == (Status.READY, 1000)
    assert machine.state is InstanceState.RUNNING
    world.clean_up()
    assert world.workspace(workspace.id).operation is None
