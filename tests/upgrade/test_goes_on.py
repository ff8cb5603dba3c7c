"""What an earlier version left, under today's code and in virtual time: what was under way ends well, and what was at rest can be used."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Request
from werkzeug.test import create_environ

from shared.domain.instance import (
    InstanceState,
    RefreshMetadata,
)
from shared.domain.lifecycle import NewMachine, Report, ReportEvent
from shared.domain.workspace import Activity, Phase, Status, StopReason
from shared.entry.bodies import read_report
from shared.ports import Machine
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
def test_an_operation_that_was_under_way_ends_as_it_was_meant_to(
    version: Version, name: str
) -> None:
    """Its own job, or the sweep if that got lost, brings it to the end: READY, SUSPENDED, gone, or ERROR if it had failed already."""
    before = version.situations[name]["workspace"]
    still_idle = (
        {"last_connected_at": before["updated_at"] - timedelta(hours=2)}
        if _by_the_idle_sweep(before)
        else {}
    )
    for lost in (False, True):
        world = OldWorld(version, name, **still_idle)
        if lost:
            world.operations.waiting.clear()
            world.provisioning.waiting.clear()
        world.run()
        _assert_ended(world, before)


def _by_the_idle_sweep(workspace: Document) -> bool:
    operation = workspace["operation"]
    return bool(operation["automatic"] and operation["kind"] == "STOP")


def _assert_ended(world: OldWorld, before: Document) -> None:
    operation = before["operation"]
    kind, failure = operation["kind"], operation["failure"]
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
        assert (world.there.state, world.there.generation) == (
            InstanceState.RUNNING,
            ended.generation,
        )
    elif kind == "CREATE":
        assert (world.machines.instances, world.old_machines.all_disks) == ({}, set())
    else:
        assert world.there.state in {InstanceState.SUSPENDED, InstanceState.TERMINATED}
    assert len(world.machines.instances) <= 1


@pytest.mark.parametrize(
    ("phase", "captured"),
    [(Phase.RESUME, "START await_running"), (Phase.START, "START starting")],
    ids=named,
)
def test_a_call_that_was_to_be_made_again_is_made_again(
    version: Version, phase: Phase, captured: str
) -> None:
    """The two phases that only a refused call leads to go on as well."""
    operation = {
        **version.situations[captured]["workspace"]["operation"],
        "phase": phase.value,
        "attempt": 1,
    }

    world = OldWorld(version, captured, operation=operation)
    world.run()

    assert (world.record.status, world.record.operation) == (Status.READY, None)


@pytest.mark.parametrize(("version", "name"), AT_REST, ids=named)
def test_whatever_was_at_rest_can_be_started_and_stopped(version: Version, name: str) -> None:
    """Its record first follows its machine; then a START makes it READY on its own home, and a STOP suspends it."""
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
    assert (world.there.state, world.record.memory_kept) == (InstanceState.SUSPENDED, True)
    assert homes <= world.old_machines.all_disks


@pytest.mark.parametrize(("version", "name"), AT_REST, ids=named)
def test_a_delete_leaves_no_disk_of_whatever_was_at_rest(version: Version, name: str) -> None:
    """Machine, home, and the boot disk with the machine's name are gone, and so is the record."""
    world = OldWorld(version, name)

    world.delete(world.owner, world.id)
    world.run()

    assert (world.store.workspaces, world.machines.instances, world.old_machines.all_disks) == (
        {},
        {},
        set(),
    )


def test_a_delete_takes_an_old_boot_disk_whose_machine_is_gone(version: Version) -> None:
    """It has the machine's name, without a generation: that is enough, should its labels be lost."""
    world = OldWorld(version, "SUSPENDED, machine TERMINATED")
    place = world.there.place
    world.machines.delete_by_hand(place, keep_boot_disk=True)
    world.machines.set_disk_labels_by_hand(place, {})
    assert world.record.instance_name in world.old_machines.all_disks

    world.delete(world.owner, world.id)
    world.run()

    assert (world.store.workspaces, world.old_machines.all_disks) == ({}, set())


def test_an_old_boot_disk_is_in_no_new_machines_way(version: Version) -> None:
    """The machine was deleted by hand and its boot disk kept: a START makes a new machine all the same."""
    world = OldWorld(version, "SUSPENDED, machine TERMINATED")
    world.machines.delete_by_hand(world.there.place, keep_boot_disk=True)

    world.start(world.owner, world.id)
    world.run()

    assert (world.record.status, world.there.state) == (Status.READY, InstanceState.RUNNING)


def test_a_suspended_old_machine_is_thawed(version: Version) -> None:
    """Its memory is kept: nothing boots, and its metadata stays as it is until it does."""
    world = OldWorld(version, "SUSPENDED, machine SUSPENDED")
    generation = world.record.generation

    world.start(world.owner, world.id)
    world.run()

    assert (world.record.status, world.record.generation) == (Status.READY, generation)
    assert [call for call, _ in world.machines.calls if isinstance(call, RefreshMetadata)] == []


def test_a_boot_of_an_old_machine_refreshes_all_its_metadata(version: Version) -> None:
    """The machine boots with what a new one would get, boot files too, and the record knows from then on how often it reports."""
    world = OldWorld(version, "SUSPENDED, machine TERMINATED")

    world.start(world.owner, world.id)
    world.run()

    ended = world.record
    refreshes = [call for call, _ in world.machines.calls if isinstance(call, RefreshMetadata)]
    assert [(call.generation, call.workspace_id) for call in refreshes] == [
        (ended.generation, ended.id)
    ]
    assert (ended.status, ended.heartbeat_seconds) == (Status.READY, 120)


def test_an_old_machine_is_replaced_on_its_home(version: Version) -> None:
    """A START with another image makes a new machine, and deletes the old one with its boot disk."""
    world = OldWorld(version, "READY, machine RUNNING")
    before = world.record

    world.start(world.owner, world.id, NewMachine(image_tag="v2"))
    world.run()

    assert (world.record.status, world.record.image_tag) == (Status.READY, "v2")
    assert world.there.id != before.instance_id
    assert before.disk_name in world.old_machines.all_disks
    assert before.instance_name not in world.old_machines.all_disks


def test_an_old_machine_that_is_off_for_too_long_is_made_anew_on_its_home(version: Version) -> None:
    """Its record does not say when it was made, but Compute does."""
    world = OldWorld(version, "SUSPENDED, machine TERMINATED")
    before = world.record
    world.clock.advance(timedelta(days=31))

    world.start(world.owner, world.id)
    world.run()

    assert (world.record.status, world.record.machine_made_at) == (
        Status.READY,
        world.there.created_at,
    )
    assert world.there.id != before.instance_id
    assert before.disk_name in world.old_machines.all_disks
    assert before.instance_name not in world.old_machines.all_disks


def test_the_age_of_a_suspended_old_machine_is_learnt_and_it_is_thawed_all_the_same(
    version: Version,
) -> None:
    """The first look after the upgrade writes it down, so that its owner is told."""
    world = OldWorld(version, "SUSPENDED, machine SUSPENDED")
    before = world.record
    world.clock.advance(timedelta(days=31))

    world.look(before)
    world.run()
    learnt = world.record
    world.start(world.owner, world.id)
    world.run()

    assert (before.machine_made_at, learnt.machine_made_at) == (None, world.there.created_at)
    assert (world.record.status, world.there.id) == (Status.READY, before.instance_id)


def test_a_thawed_old_guest_is_believed_to_be_in_use(version: Version) -> None:
    """Its heartbeats say no reason, and are taken as somebody's session."""
    world = OldWorld(version, "SUSPENDED, machine SUSPENDED")
    world.start(world.owner, world.id)
    world.run()
    world.clock.advance(timedelta(minutes=30))

    world.report(_report(version, world, ReportEvent.HEARTBEAT))

    assert (world.record.last_connected_at, world.record.last_activity) == (
        world.clock(),
        Activity.HEARTBEAT,
    )


def test_an_old_guest_that_keeps_reporting_is_never_idle(version: Version) -> None:
    """For a day, through sweep after sweep: a heartbeat without a reason is not capped as ``keep_awake`` is."""
    world = OldWorld(version, "READY, machine RUNNING")

    for _ in range(48):
        world.clock.advance(timedelta(minutes=30))
        world.report(_report(version, world, ReportEvent.HEARTBEAT))
        world.clean_up()

    assert (world.record.status, world.record.operation) == (Status.READY, None)


def test_an_old_machine_that_reports_rarely_is_not_stopped_as_idle(version: Version) -> None:
    """Its record does not say how often it reports: the first sweep after the upgrade finds out before it stops it."""
    world = OldWorld(version, "READY, machine RUNNING")
    world.there.heartbeat_interval = timedelta(minutes=30)
    world.clock.advance(timedelta(minutes=70))

    world.clean_up()
    world.run()
    by_then = world.record
    world.clock.advance(timedelta(minutes=30))
    world.clean_up()
    world.run()

    assert (by_then.status, by_then.heartbeat_seconds, by_then.operation) == (
        Status.READY,
        1800,
        None,
    )
    assert world.record.status is Status.SUSPENDED


@pytest.mark.parametrize(
    ("event", "status"), [(ReportEvent.READY, "READY"), (ReportEvent.FAILED, "ERROR")]
)
def test_an_old_guest_that_boots_reports_as_before(
    version: Version, event: ReportEvent, status: str
) -> None:
    """Its `ready` makes the workspace READY, its `failed` an ERROR with its reason."""
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
    """Return what the callback makes of the old guest's report about its present boot."""
    body = {**version.reports[event.value], "generation": world.record.generation}
    sender = Machine(PROJECT, world.there.place.zone, world.there.place.name, world.there.id)
    return read_report(Request(create_environ(method="POST", json=body)), sender)
