"""What people do to machines and disks outside the Hub, and how each verb handles it."""

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
    """A Hub with fakes."""
    return World()


def home_of(workspace: Workspace) -> Place:
    """Return the place of the workspace's home disk."""
    return Place(
        workspace.home_disk.zone if workspace.home_disk else workspace.zone, workspace.disk_name
    )


def reconcile_all(world: World) -> None:
    """Run the hourly reconciler, and the jobs that it sends."""
    reconcile_fleet(world.records, world.machines, world.policy, pause=world.pauses.append)
    world.run()


def commands(world: World) -> list[Command]:
    """Return all commands that Compute got."""
    return [command for command, _ in world.machines.calls]


def recorded(world: World) -> list[str]:
    """Return the events in which the Hub recorded changes outside it, and losses."""
    names = ("Followed", "Replaced", "Remade", "Lost", "Restored")
    return [event.what for event in world.store.events if event.what.endswith(names)]


@pytest.mark.parametrize("keep_boot_disk", [True, False])
def test_a_machine_that_was_deleted_by_hand_is_replaced_and_its_home_disk_kept(
    world: World, keep_boot_disk: bool
) -> None:
    """A kept boot disk does not block the new one's name, and a DELETE deletes every disk."""
    workspace = suspended(world)
    world.machines.delete_by_hand(place_of(workspace), keep_boot_disk=keep_boot_disk)

    world.start("alice", workspace.id)
    world.run()

    assert world.workspace(workspace.id).status is Status.READY
    assert recorded(world) == ["MemoryLost"]
    world.delete("alice", workspace.id)
    world.run()
    assert (world.machines.instances, world.machines.disks) == ({}, set())


def test_a_home_disk_that_was_deleted_by_hand_is_replaced_only_on_request(world: World) -> None:
    """The START fails and says so; no machine gets an empty disk until the person agrees."""
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
    assert "HomeReplaced" in recorded(world)
    assert home_of(workspace) in world.machines.disks


def test_a_start_under_way_hears_that_its_home_may_be_an_empty_one(world: World) -> None:
    """It is the same START, and it forgets nothing that was agreed to."""
    workspace = suspended(world)
    world.machines.delete_by_hand(place_of(workspace))
    world.machines.delete_disk_by_hand(home_of(workspace))
    world.start("alice", workspace.id)
    begun = world.workspace(workspace.id).operation
    assert begun is not None

    for agreed in (NewMachine(empty_home=True), NewMachine(may_move=True), NewMachine()):
        world.start("alice", workspace.id, agreed)
    heard = world.workspace(workspace.id).operation
    world.run()

    assert heard == replace(begun, empty_home=True, may_move=True)
    assert world.workspace(workspace.id).status is Status.READY


@pytest.mark.parametrize(
    "machine", [NewMachine(machine_type="e2-standard-8"), NewMachine(image_tag="next")]
)
def test_a_start_without_the_home_disk_keeps_the_old_machine(
    world: World, machine: NewMachine
) -> None:
    """The old machine's memory may have the last copy of the data."""
    workspace = suspended(world)
    world.machines.detach_disk_by_hand(home_of(workspace))
    world.machines.delete_disk_by_hand(home_of(workspace))

    world.start("alice", workspace.id, machine)
    world.run()

    failed = world.workspace(workspace.id)
    assert (failed.status, failed.error and failed.error.code) == (Status.ERROR, "HOME_DISK_GONE")
    assert place_of(workspace) in world.machines.instances


def test_a_home_disk_that_was_restored_with_its_name_is_used_again(world: World) -> None:
    """Its name is enough, without any labels."""
    workspace = suspended(world)
    world.machines.delete_by_hand(place_of(workspace))
    world.machines.delete_disk_by_hand(home_of(workspace))
    world.machines.make_disk_by_hand(home_of(workspace), {})

    world.start("alice", workspace.id)
    world.run()

    assert world.workspace(workspace.id).status is Status.READY
    [insert] = [command for command in commands(world) if isinstance(command, InsertInstance)][1:]
    assert insert.attach_home


def test_a_restored_home_disk_without_labels_is_never_deleted_by_a_sweep(world: World) -> None:
    """It belongs to its workspace by its name, so it is no orphan, however old it is."""
    workspace = suspended(world)
    world.machines.delete_by_hand(place_of(workspace))
    world.machines.delete_disk_by_hand(home_of(workspace))
    world.machines.make_disk_by_hand(home_of(workspace), {"hub": INSTALLATION})

    for _ in range(3):
        world.clock.advance(world.policy.orphan_grace + timedelta(hours=2))
        reconcile_all(world)

    assert home_of(workspace) in world.machines.disks
    assert not [command for command in commands(world) if isinstance(command, DeleteDisk)]


@pytest.mark.parametrize("prepare", [suspended, shut_down_by_hand])
def test_a_detached_home_disk_is_attached_to_a_new_machine(
    world: World, prepare: Callable[[World], Workspace]
) -> None:
    """A suspended machine, which would resume without it, is replaced too; an event says why."""
    workspace = prepare(world)
    world.machines.detach_disk_by_hand(home_of(workspace))

    world.start("alice", workspace.id)
    world.run()

    after = world.workspace(workspace.id)
    assert (after.status, after.error) == (Status.READY, None)
    inserts = [command for command in commands(world) if isinstance(command, InsertInstance)]
    assert [insert.attach_home for insert in inserts] == [False, True]
    assert "MachineRemade" in recorded(world)
    assert recorded(world).count("MemoryLost") == 1


@pytest.mark.parametrize("verb", ["sweep", "start", "stop", "look"])
def test_a_machine_that_was_moved_to_another_zone_is_adopted_with_its_home_disk(
    world: World, verb: str
) -> None:
    """The first verb or sweep adopts the move; nothing is stopped as an orphan or deleted."""
    workspace = shut_down_by_hand(world)
    world.machines.move_by_hand(place_of(workspace), ELSEWHERE)
    if verb == "sweep":
        world.clock.advance(timedelta(hours=2))
        reconcile_all(world)
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
    assert "MachineFollowed" in recorded(world)
    world.delete("alice", workspace.id)
    world.run()
    assert (world.machines.instances, world.machines.disks) == ({}, set())


@pytest.mark.parametrize("copied", [True, False])
def test_a_delete_deletes_what_was_moved_or_copied_to_another_zone(
    world: World, copied: bool
) -> None:
    """It deletes machines and disks of these names in every zone."""
    workspace = world.ready()
    hand = world.machines.copy_by_hand if copied else world.machines.move_by_hand
    hand(place_of(workspace), ELSEWHERE)

    world.delete("alice", workspace.id)
    world.run()

    assert workspace.id not in world.store.workspaces
    assert (world.machines.instances, world.machines.disks) == ({}, set())


def test_a_delete_ends_in_time_if_another_machine_uses_the_home_disk(
    world: World,
) -> None:
    """The error names the machine with the disk; the workspace can be deleted later."""
    workspace = suspended(world)
    world.machines.hold_disk_by_hand(home_of(workspace), "holder")

    world.delete("alice", workspace.id)
    asked_at = world.clock()
    world.run(until=lambda: world.workspace(workspace.id).operation is None)

    over = world.workspace(workspace.id)
    assert world.clock() - asked_at <= world.policy.deadlines.delete + world.policy.look_max
    assert (over.status, over.error and over.error.code) == (Status.ERROR, "LAST_COPY_NOT_MADE")
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
    """A START with the recorded type would do nothing if the record were wrong."""
    workspace = shut_down_by_hand(world)
    world.machines.set_machine_type_by_hand(place_of(workspace), "e2-standard-16")
    reconcile_all(world)
    assert world.workspace(workspace.id).machine_type == "e2-standard-16"
    assert "MachineTypeFollowed" in recorded(world)

    world.start("alice", workspace.id, NewMachine(machine_type=workspace.machine_type))
    world.run()

    after = world.workspace(workspace.id)
    machine = world.machine(after)
    assert machine is not None
    assert (after.status, after.machine_type) == (Status.READY, workspace.machine_type)
    assert machine.command.machine_type == workspace.machine_type


def test_every_boot_refreshes_the_metadata_and_the_recorded_interval(world: World) -> None:
    """An old interval would let a machine be stopped as idle while it is in use."""
    world.policy = replace(world.policy, machine_heartbeat_interval=timedelta(seconds=1000))
    world.machines.heartbeat_interval = timedelta(seconds=1000)
    workspace = world.ready()
    world.policy = replace(
        world.policy,
        idle_after=timedelta(minutes=10),
        machine_heartbeat_interval=timedelta(seconds=200),
    )
    world.machines.heartbeat_interval = timedelta(seconds=200)
    world.reconcile_fleet()  # another idle time is heeded from here on
    assert workspace.heartbeat_seconds == 1000

    world.clock.advance(timedelta(minutes=16))  # less than three of its own intervals
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


def test_an_unrecorded_heartbeat_interval_keeps_a_machine_from_being_stopped(world: World) -> None:
    """A record of version 0.1 lacks it: before a suspend the worker reads it from the machine."""
    workspace = world.ready()
    machine = world.machine(workspace)
    assert machine is not None
    machine.heartbeat_interval = timedelta(seconds=1000)
    world.store.put(replace(workspace, heartbeat_seconds=None))
    world.policy = replace(world.policy, idle_after=timedelta(minutes=10))
    world.reconcile_fleet()  # another idle time is heeded from here on
    world.clock.advance(timedelta(minutes=16))

    world.clean_up()
    world.run()

    after = world.workspace(workspace.id)
    assert (after.status, after.heartbeat_seconds) == (Status.READY, 1000)
    assert machine.state is InstanceState.RUNNING
    world.clean_up()
    assert world.workspace(workspace.id).operation is None
