"""Reports of a machine that is ready before a worker has looked, or even recorded it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.errors import InstanceNotRecordedError, NotAllowedError, UnavailableError
from shared.domain.instance import InsertInstance, Instance, Place
from shared.domain.jobs import Job
from shared.domain.reports import Report, ReportEvent
from shared.domain.workspace import Phase, Status, Workspace
from tests.fakes.interruptions import Interruptions, Moment, ProcessDiedError
from tests.fakes.machines import Durations, Mishap
from tests.fakes.world import World, place_of

QUICK = Durations(insert=timedelta(seconds=2), boot=timedelta(seconds=3))


@pytest.fixture
def world() -> World:
    """Return a Hub whose machines are ready long before a worker usually looks."""
    return World(durations=QUICK)


def take_job(world: World) -> Job:
    """Take the job that is due now."""
    job = world.provisioning.take_due() or world.operations.take_due()
    assert job is not None
    return job


def ready(world: World, workspace: Workspace) -> Report:
    """Return what the workspace's machine reports when it is ready."""
    machine = world.machine(workspace)
    assert machine is not None
    return machine.report(ReportEvent.READY)


def test_a_report_before_the_first_look_is_taken(world: World) -> None:
    """The insert's answer names the machine, so READY does not wait for a look."""
    workspace = world.create("alice", "one")
    asked_at = world.clock()

    world.run(until=lambda: world.workspace(workspace.id).status is Status.READY)

    assert world.clock() - asked_at == QUICK.insert + QUICK.boot
    assert world.clock() - asked_at < world.policy.usual.insert
    world.machines.reads.clear()
    [look] = world.operations.waiting
    world.run()
    assert world.operations.delivered == [look.job]
    assert dict(world.machines.reads) == {"grant_login": 1}, "a look that came too late looks"


@pytest.mark.parametrize("claim", ["instance_name", "instance_id", "zone", "project_id"])
def test_only_the_inserted_machine_is_believed_before_the_first_look(
    world: World, claim: str
) -> None:
    """Each claim of the token must match what the insert has made."""
    workspace = world.create("alice", "one")
    world.do(take_job(world))

    changes: dict[str, Any] = {claim: "another"}
    with pytest.raises(NotAllowedError):
        world.report(replace(ready(world, workspace), **changes))

    assert world.workspace(workspace.id).status is Status.PROVISIONING


def test_a_report_before_the_insert_is_recorded_is_to_come_again(world: World) -> None:
    """Until then nothing says which machine is the workspace's. Afterwards it counts at once."""
    workspace = world.create("alice", "one")
    refused: list[type[Exception]] = []

    def report() -> None:
        with pytest.raises(InstanceNotRecordedError) as error:
            world.report(ready(world, workspace))
        refused.append(error.type)

    world.machines.after_call = report
    world.do(take_job(world))
    assert refused == [InstanceNotRecordedError]

    world.report(ready(world, workspace))

    assert world.workspace(workspace.id).status is Status.READY


def _seen_again(_world: World, _patch: pytest.MonkeyPatch) -> None:
    """Let the repeated step see the machine."""


def _inserted_again(world: World, patch: pytest.MonkeyPatch) -> None:
    """Let the repeated step not see it: its insert has the same request id, so the same answer."""
    get = world.machines.get

    def once_nothing(_place: Place) -> Instance | None:
        patch.setattr(world.machines, "get", get)
        return None

    patch.setattr(world.machines, "get", once_nothing)


def _refused_again(world: World, patch: pytest.MonkeyPatch) -> None:
    """Let the repeated step not see it, and let Compute have forgotten the request id: 409."""
    _inserted_again(world, patch)
    patch.setattr(world.machines, "_requests", {})


@pytest.mark.parametrize("again", [_seen_again, _inserted_again, _refused_again])
@pytest.mark.parametrize("lost", ["the answer", "the commit", "the answer of the commit"])
def test_a_report_after_a_crash_counts_as_soon_as_the_step_is_repeated(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
    again: Callable[[World, pytest.MonkeyPatch], None],
) -> None:
    """The machine was inserted; the repeated step learns its id from Compute, whatever was lost."""
    workspace = world.create("alice", "one")
    job = take_job(world)
    interruptions = Interruptions()
    if lost == "the answer":
        world.machines.script(InsertInstance, Mishap.ANSWER_LOST)
    else:
        moment = Moment.BEFORE if lost == "the commit" else Moment.AFTER
        interruptions.interrupt(2, moment, lambda: ProcessDiedError("interrupted"))
        world.store_port = interruptions.around("store", world.store)
    with pytest.raises((UnavailableError, ProcessDiedError)):
        world.do(job)
    assert lost == "the answer" or interruptions.calls[2:] == ["store.commit"]
    world.store_port = world.store
    report = ready(world, workspace)
    if lost != "the answer of the commit":
        with pytest.raises(InstanceNotRecordedError):
            world.report(report)

    again(world, monkeypatch)
    world.provisioning.bring_again(job, timedelta(0))
    world.run(until=lambda: world.workspace(workspace.id).instance_id is not None)

    machine = world.machine(workspace)
    assert machine is not None
    assert world.workspace(workspace.id).instance_id == machine.id == report.instance_id
    world.report(report)
    world.run()
    assert world.workspace(workspace.id).status is Status.READY
    assert len(world.machines.instances) == 1


def test_a_report_of_a_machine_that_was_replaced_is_refused(world: World) -> None:
    """A START with a new machine believes the new one, from its insert on, and never the old."""
    workspace = world.ready()
    old = ready(world, workspace)
    world.machines.delete_by_hand(place_of(workspace))
    world.look(workspace)
    world.run()
    world.start("alice", workspace.id)
    world.do(take_job(world))
    operation = world.workspace(workspace.id).operation
    assert operation is not None
    assert operation.phase is Phase.INSERTING
    generation = world.workspace(workspace.id).generation

    with pytest.raises(NotAllowedError):
        world.report(replace(old, generation=generation))
    world.report(ready(world, workspace))

    assert world.workspace(workspace.id).status is Status.READY
