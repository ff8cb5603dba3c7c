"""What an earlier version left, under today's code: operations end well, workspaces are usable.

The tests run in virtual time.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Request
from werkzeug.test import create_environ

from shared.domain.access import MachineIdentity
from shared.domain.instance import (
    InstanceState,
    Place,
    RefreshMetadata,
)
from shared.domain.lifecycle import NewMachine
from shared.domain.reports import Report, ReportEvent
from shared.domain.workspace import Activity, Phase, Status, StopReason
from shared.entry.bodies import read_report
from tests.fakes.machines import PROJECT
from tests.upgrade.old import OldWorld
from tests.upgrade.versions import SITUATIONS, VERSIONS, Document, Version, named

UNDER_WAY = [each for each in SITUATIONS if each[0].situations[each[1]]["workspace"]["operation"]]
AT_REST = [each for each in SITUATIONS if each not in UNDER_WAY]


@pytest.fixture(params=VERSIONS, ids=named)
def version(request: pytest.FixtureRequest) -> Version:
    """Each earlier version."""
    found: Version = request.param
    return found


@pytest.mark.parametrize(("version", "name"), UNDER_WAY, ids=named)
def test_an_operation_that_was_under_way_ends_as_intended(version: Version, name: str) -> None:
    """Its own job ends it, or the reconciler if the job is lost, with the right status."""
    before = version.situations[name]["workspace"]
    still_idle = (
        {"last_connected_at": before["updated_at"] - timedelta(hours=2)}
        if _is_automatic_stop(before)
        else {}
    )
    for lost in (False, True):
        world = OldWorld(version, name, **still_idle)
        if lost:
            world.operations.waiting.clear()
            world.provisioning.waiting.clear()
        world.run()
        _assert_ended(world, before)


def _is_automatic_stop(workspace: Document) -> bool:
    operation = workspace["operation"]
    return bool(operation["automatic"] and operation["kind"] == "STOP")


def _assert_ended(world: OldWorld, before: Document) -> None:
    operation = before["operation"]
    kind, failure = operation["kind"], operation["failure"]
    [*_, end] = [event for event in world.store.events if event.operation_kind]
    assert (end.operation_kind, end.phases[0].phase) == (kind, operation["phase"])
    if kind == "DELETE":
        assert (world.store.workspaces, world.machines.instances, world.old_machines.all_disks) == (
            {},
            {},
            set(),
        )
        assert world.id not in world.store.owners[world.owner].workspaces
        return
    ended, held = world.record, world.store.owners[world.owner].workspaces[world.id]
    wanted = {"CREATE": Status.READY, "START": Status.READY, "STOP": Status.SUSPENDED}[kind]
    assert (ended.operation, ended.status) == (None, Status.ERROR if failure else wanted)
    assert (ended.error.code if ended.error else None) == (failure["code"] if failure else None)
    assert held.running is (ended.status is Status.READY)
    if ended.status is Status.READY:
        assert (world.current_machine.state, world.current_machine.generation) == (
            InstanceState.RUNNING,
            ended.generation,
        )
    elif kind == "CREATE":
        assert (world.machines.instances, world.old_machines.all_disks) == ({}, set())
    else:
        assert world.current_machine.state in {InstanceState.SUSPENDED, InstanceState.TERMINATED}
    assert len(world.machines.instances) <= 1


@pytest.mark.parametrize(
    ("phase", "captured"),
    [(Phase.RESUME, "START await_running"), (Phase.START, "START starting")],
    ids=named,
)
def test_a_call_that_was_due_again_is_repeated(
    version: Version, phase: Phase, captured: str
) -> None:
    """The two phases that only follow a refused call continue as well."""
    operation = {
        **version.situations[captured]["workspace"]["operation"],
        "phase": phase.value,
        "attempt": 1,
    }

    world = OldWorld(version, captured, operation=operation)
    world.run()

    assert (world.record.status, world.record.operation) == (Status.READY, None)


@pytest.mark.parametrize(("version", "name"), AT_REST, ids=named)
def test_a_workspace_at_rest_can_be_started_and_stopped(version: Version, name: str) -> None:
    """The record adopts its machine's state; a START makes it READY, and a STOP suspends it."""
    world = OldWorld(version, name)
    world.look(world.record)
    world.run()
    homes = {disk for disk in world.old_machines.all_disks if disk.startswith("home-")}

    world.start(world.owner, world.id)
    world.run()
    started = world.record
    world.stop(world.owner, world.id)
    world.run()

    assert (started.status, started.error) == (Status.READY, None)
    assert (world.record.status, world.record.stopped_because) == (
        Status.SUSPENDED,
        StopReason.REQUESTED,
    )
    assert (world.current_machine.state, world.record.memory_kept) == (
        InstanceState.SUSPENDED,
        True,
    )
    assert homes <= world.old_machines.all_disks


@pytest.mark.parametrize(("version", "name"), AT_REST, ids=named)
def test_the_home_of_a_workspace_at_rest_can_be_restored(version: Version, name: str) -> None:
    """It is READY on another disk then, and the hourly sweep deletes the one that it had."""
    world = OldWorld(version, name)
    home = _with_home(world)
    world.machines.write(home, "earlier")
    world.snapshot(world.owner, world.id)
    world.run()
    world.machines.write(home, "later")
    [snapshot] = world.store.snapshots
    world.restore(world.owner, world.id, snapshot)
    world.run()
    _let_old_homes_go(world)

    restored = world.record
    assert (restored.status, restored.error, restored.old_homes) == (Status.READY, None, ())
    assert world.machines.content_of(Place(restored.zone, restored.disk_name)) == "earlier"
    homes = {disk for disk in world.old_machines.all_disks if disk.startswith("home-")}
    assert homes == {restored.disk_name} != {home.name}


@pytest.mark.parametrize(("version", "name"), AT_REST, ids=named)
def test_a_workspace_at_rest_grows_moves_and_is_archived(version: Version, name: str) -> None:
    """Its record does not say how large its home is. What is in it stays through all of that."""
    world = OldWorld(version, name)
    world.machines.write(_with_home(world), "kept")
    there = next(zone for zone in world.policy.zones if zone != world.record.zone)

    for machine in (NewMachine(home_disk_gb=100), NewMachine(zone=there)):
        world.start(world.owner, world.id, machine)
        world.run()
        _let_old_homes_go(world)
        found = world.record
        home = Place(found.zone, found.disk_name)
        assert (found.status, found.error, found.old_homes) == (Status.READY, None, ())
        assert (world.machines.disk_gb(home), world.machines.content_of(home)) == (100, "kept")
        assert world.machines.disks == {home}
    assert home.zone == there
    world.archive(world.owner, world.id)
    world.run()
    assert (world.record.status, world.old_machines.all_disks) == (Status.SUSPENDED, set())
    assert world.record.archived_at is not None
    world.start(world.owner, world.id)
    world.run()

    back = world.record
    assert (back.status, back.archived_at, back.error) == (Status.READY, None, None)
    home = Place(back.zone, back.disk_name)
    assert (world.machines.disk_gb(home), world.machines.content_of(home)) == (100, "kept")


def _with_home(world: OldWorld) -> Place:
    """Return the home of a workspace. If it never was READY, it is started before."""
    if world.record.home_disk is None:
        world.start(world.owner, world.id)
        world.run()
    return Place(world.record.zone, world.record.disk_name)


def _let_old_homes_go(world: OldWorld) -> None:
    """Let the hourly sweep delete what was the home before."""
    for _ in range(4):
        world.reconcile_fleet()
        world.pass_time(timedelta(minutes=1))


@pytest.mark.parametrize(("version", "name"), AT_REST, ids=named)
def test_a_workspace_at_rest_is_deleted_with_all_its_disks(version: Version, name: str) -> None:
    """Machine, home disk, boot disk and record are deleted."""
    world = OldWorld(version, name)

    world.delete(world.owner, world.id)
    world.run()

    assert (world.store.workspaces, world.machines.instances, world.old_machines.all_disks) == (
        {},
        {},
        set(),
    )


def test_a_delete_deletes_an_old_boot_disk_without_its_machine(version: Version) -> None:
    """The disk has the machine's name, which is enough if its labels are lost."""
    world = OldWorld(version, "SUSPENDED, machine TERMINATED")
    place = world.current_machine.place
    world.machines.delete_by_hand(place, keep_boot_disk=True)
    world.machines.set_disk_labels_by_hand(place, {})
    assert world.record.instance_name in world.old_machines.all_disks

    world.delete(world.owner, world.id)
    world.run()

    assert (world.store.workspaces, world.old_machines.all_disks) == ({}, set())


def test_an_old_boot_disk_does_not_block_a_new_machine(version: Version) -> None:
    """The machine was deleted outside the Hub and its boot disk kept; a START creates a new one."""
    world = OldWorld(version, "SUSPENDED, machine TERMINATED")
    world.machines.delete_by_hand(world.current_machine.place, keep_boot_disk=True)

    world.start(world.owner, world.id)
    world.run()

    assert (world.record.status, world.current_machine.state) == (
        Status.READY,
        InstanceState.RUNNING,
    )


def test_a_suspended_old_machine_is_resumed(version: Version) -> None:
    """Its memory is kept; nothing boots, so its metadata stays as it is."""
    world = OldWorld(version, "SUSPENDED, machine SUSPENDED")
    generation = world.record.generation

    world.start(world.owner, world.id)
    world.run()

    assert (world.record.status, world.record.generation) == (Status.READY, generation)
    assert [call for call, _ in world.machines.calls if isinstance(call, RefreshMetadata)] == []


def test_a_boot_of_an_old_machine_refreshes_all_its_metadata(version: Version) -> None:
    """It boots with a new machine's metadata and files, and its record gets the interval."""
    world = OldWorld(version, "SUSPENDED, machine TERMINATED")

    world.start(world.owner, world.id)
    world.run()

    ended = world.record
    refreshes = [call for call, _ in world.machines.calls if isinstance(call, RefreshMetadata)]
    assert [(call.generation, call.workspace_id) for call in refreshes] == [
        (ended.generation, ended.id)
    ]
    assert (ended.status, ended.heartbeat_seconds) == (Status.READY, 120)


def test_an_old_machine_is_replaced_and_its_home_disk_kept(version: Version) -> None:
    """A START with another image creates a new machine, and deletes the old with its boot disk."""
    world = OldWorld(version, "READY, machine RUNNING")
    before = world.record

    world.start(world.owner, world.id, NewMachine(image_tag="v2"))
    world.run()

    assert (world.record.status, world.record.image_tag) == (Status.READY, "v2")
    assert world.current_machine.id != before.instance_id
    assert before.disk_name in world.old_machines.all_disks
    assert before.instance_name not in world.old_machines.all_disks


def test_an_old_machine_that_is_too_old_is_replaced_at_its_boot(version: Version) -> None:
    """Its record does not have the machine's creation time, but Compute does."""
    world = OldWorld(version, "SUSPENDED, machine TERMINATED")
    before = world.record
    world.clock.advance(timedelta(days=31))

    world.start(world.owner, world.id)
    world.run()

    assert (world.record.status, world.record.machine_made_at) == (
        Status.READY,
        world.current_machine.created_at,
    )
    assert world.current_machine.id != before.instance_id
    assert before.disk_name in world.old_machines.all_disks
    assert before.instance_name not in world.old_machines.all_disks


def test_the_age_of_a_suspended_old_machine_is_recorded_and_it_is_resumed(
    version: Version,
) -> None:
    """The first look after the upgrade records it, so that its owner is told."""
    world = OldWorld(version, "SUSPENDED, machine SUSPENDED")
    before = world.record
    world.clock.advance(timedelta(days=31))

    world.look(before)
    world.run()
    learnt = world.record
    world.start(world.owner, world.id)
    world.run()

    assert (before.machine_made_at, learnt.machine_made_at) == (
        None,
        world.current_machine.created_at,
    )
    assert (world.record.status, world.current_machine.id) == (Status.READY, before.instance_id)


def test_heartbeats_of_a_resumed_old_guest_count_as_use(version: Version) -> None:
    """Its heartbeats have no reason, and count as a person's session."""
    world = OldWorld(version, "SUSPENDED, machine SUSPENDED")
    world.start(world.owner, world.id)
    world.run()
    world.clock.advance(timedelta(minutes=30))

    world.report(_report(version, world, ReportEvent.HEARTBEAT))

    assert (world.record.last_connected_at, world.record.last_activity) == (
        world.clock(),
        Activity.HEARTBEAT,
    )


def test_an_old_guest_that_continues_to_report_is_never_idle(version: Version) -> None:
    """A heartbeat without a reason has no limit, unlike one for ``keep_awake``."""
    world = OldWorld(version, "READY, machine RUNNING")

    for _ in range(48):
        world.clock.advance(timedelta(minutes=30))
        world.report(_report(version, world, ReportEvent.HEARTBEAT))
        world.clean_up()

    assert (world.record.status, world.record.operation) == (Status.READY, None)


def test_an_old_machine_that_reports_rarely_is_not_stopped_as_idle(version: Version) -> None:
    """The first sweeps after the upgrade learn the interval before they stop the machine."""
    world = OldWorld(version, "READY, machine RUNNING")
    world.current_machine.heartbeat_interval = timedelta(minutes=30)
    world.clock.advance(timedelta(minutes=70))

    world.reconcile_fleet()
    world.run()
    world.clean_up()
    world.run()
    after_first = world.record
    world.clock.advance(timedelta(minutes=30))
    world.clean_up()
    world.run()

    assert (after_first.status, after_first.heartbeat_seconds, after_first.operation) == (
        Status.READY,
        1800,
        None,
    )
    assert world.record.status is Status.SUSPENDED


def test_an_idle_machine_is_stopped_and_a_forgotten_workspace_deleted_as_ever(
    version: Version,
) -> None:
    """Its records lack ``sweep_at``: the first hourly sweep after the upgrade sets it."""
    for name, after, done in (
        ("READY, machine RUNNING", timedelta(hours=2), "stop"),
        ("SUSPENDED, machine SUSPENDED", timedelta(days=31), "delete"),
    ):
        world = OldWorld(version, name)
        world.clock.advance(after)
        assert world.clean_up().done == {}, "no query finds it yet"

        world.reconcile_fleet()
        world.run()

        assert world.clean_up().done == {done: [world.id]}


@pytest.mark.parametrize(
    ("event", "status"), [(ReportEvent.READY, "READY"), (ReportEvent.FAILED, "ERROR")]
)
def test_an_old_guest_that_boots_reports_as_before(
    version: Version, event: ReportEvent, status: str
) -> None:
    """Its ``ready`` makes the workspace READY, and its ``failed`` an ERROR with its code."""
    world = OldWorld(version, "START await_ready")

    world.report(_report(version, world, event))
    world.take_reports()
    world.run(until=lambda: world.record.operation is None)

    failed = version.reports["failed"]["code"] if event is ReportEvent.FAILED else None
    assert (world.record.status, world.record.error.code if world.record.error else None) == (
        status,
        failed,
    )


def _report(version: Version, world: OldWorld, event: ReportEvent) -> Report:
    """Return the old guest's report about its current boot, as the callback reads it."""
    body = {**version.reports[event.value], "generation": world.record.generation}
    sender = MachineIdentity(
        PROJECT,
        world.current_machine.place.zone,
        world.current_machine.place.name,
        world.current_machine.id,
    )
    return read_report(Request(create_environ(method="POST", json=body)), sender)
