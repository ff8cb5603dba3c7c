"""Use cases that meet each other: who comes second reads again, and nothing is done twice or for nobody."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared import logs
from shared.domain.errors import (
    ConflictError,
    NameTakenError,
    OperationUnderWayError,
    QuotaExceededError,
    UnavailableError,
)
from shared.domain.instance import DeleteInstance, FaultKind, InsertInstance, InstanceState
from shared.domain.jobs import Job
from shared.domain.owners import Key
from shared.domain.policy import Limits, Policy
from shared.domain.reports import ReportEvent
from shared.domain.workspace import OperationKind, Phase, Status, Workspace
from shared.usecases.change_workspace import ATTEMPTS
from tests.fakes.machines import Mishap
from tests.fakes.store import Counts
from tests.fakes.world import World, place_of


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.usecases.change_workspace.PAUSE_SECONDS", 0)


@pytest.fixture
def world() -> World:
    """Return a Hub on fakes."""
    return World()


def next_job(world: World) -> Job:
    """Take the job that is due next, and let it be due."""
    queue = world.provisioning if world.provisioning.waiting else world.operations
    delivery = min(queue.waiting, key=lambda each: each.due_at)
    world.clock.advance_to(delivery.due_at)
    return queue.take(delivery)


def operation_of(world: World, workspace: Workspace) -> Any:
    """Return the operation that is under way."""
    return world.workspace(workspace.id).operation


def meanwhile(world: World, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have somebody act between the next reads and their commit."""
    commit = world.store.commit

    def interrupted(**documents: Any) -> None:
        monkeypatch.setattr(world.store, "commit", commit)
        act()
        commit(**documents)

    monkeypatch.setattr(world.store, "commit", interrupted)


# ---- workers --------------------------------------------------------------------------------------------------------


def test_what_was_inserted_for_a_workspace_that_is_being_deleted_is_deleted_at_once(
    world: World,
) -> None:
    """The DELETE may have looked before the machine was there: its own worker undoes the insert."""
    workspace = world.create("alice", "one")
    job = next_job(world)
    world.machines.before_call = lambda: world.delete("alice", workspace.id)

    world.do(job)

    assert [type(command) for command, _ in world.machines.calls] == [
        InsertInstance,
        DeleteInstance,
    ]
    assert operation_of(world, workspace).kind is OperationKind.DELETE
    world.run()
    assert (world.machines.instances, world.machines.disks, dict(world.store.workspaces)) == (
        {},
        set(),
        {},
    )


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is logged as an error."""
    logged: list[str] = []
    monkeypatch.setattr(logs, "error", lambda event, *_, **__: logged.append(event))
    return logged


def forget(world: World, workspace: Workspace) -> None:
    """Have the record be gone, however that came."""
    stored = world.store.get(workspace.id)
    assert stored is not None
    world.store.commit(workspaces=[(stored, None)])


def test_an_insert_that_cannot_be_undone_is_left_to_the_delete_that_is_under_way(
    world: World, errors: list[str]
) -> None:
    """Its own worker looks for the machine again before it forgets the record: nothing is orphaned."""
    workspace = world.create("alice", "one")
    job = next_job(world)
    world.machines.before_call = lambda: world.delete("alice", workspace.id)
    world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.NOT_READY)

    world.do(job)
    world.run()

    assert errors == []
    assert (world.machines.instances, world.machines.disks, dict(world.store.workspaces)) == (
        {},
        set(),
        {},
    )


@pytest.mark.parametrize(
    ("meanwhile_it_is", "orphaned"),
    [("gone", False), ("being deleted", False), ("there", True), ("not to be seen", True)],
)
def test_a_machine_is_orphaned_only_if_it_stays(
    world: World, errors: list[str], meanwhile_it_is: str, *, orphaned: bool
) -> None:
    """Without a record nobody looks again: a deletion that is refused is an error, unless something else deletes the machine."""
    workspace = world.create("alice", "one")
    place = place_of(workspace)
    job = next_job(world)

    def before_the_undo() -> None:
        if meanwhile_it_is == "gone":
            world.machines.delete_by_hand(place)
        elif meanwhile_it_is == "not to be seen":
            world.machines.unanswered_reads = 1

    def inserted() -> None:
        forget(world, workspace)
        if meanwhile_it_is == "being deleted":
            world.machines.perform(DeleteInstance(place), "another's")
        else:
            world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.NOT_READY)
        world.machines.before_call = before_the_undo

    world.machines.after_call = inserted
    world.do(job)

    assert errors == ["InstanceOrphaned"] * orphaned


def test_a_record_outlives_every_worker_of_what_a_delete_superseded(world: World) -> None:
    """A worker that dies after its insert leaves a machine that the DELETE still finds."""
    workspace = world.create("alice", "one")
    job = next_job(world)
    world.machines.script(InsertInstance, Mishap.ANSWER_LOST)

    def superseded() -> None:
        world.delete("alice", workspace.id)
        world.pass_time(timedelta(seconds=20))

    world.machines.before_call = superseded
    with pytest.raises(UnavailableError):
        world.do(job)
    assert len(world.machines.instances) == 1
    world.run()

    assert (world.machines.instances, world.machines.disks, dict(world.store.workspaces)) == (
        {},
        set(),
        {},
    )


def test_a_worker_that_was_held_up_for_long_calls_nothing_any_more(world: World) -> None:
    """A DELETE waits for workers only for so long: one that is later than that must not insert."""
    workspace = world.create("alice", "one")
    job = next_job(world)
    get = world.machines.get

    class Slow:
        """Takes most of a worker's time to look."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.machines, name)

        def get(self, place: Any) -> Any:
            world.clock.advance(world.policy.worker_timeout * 0.6)
            return get(place)

    world.machines_port = Slow()

    with pytest.raises(UnavailableError):
        world.do(job)
    assert world.machines.calls == []
    assert operation_of(world, workspace).phase is Phase.INSERT


def test_two_deliveries_of_a_step_at_once_make_one_machine(world: World) -> None:
    """Both call, with the same request id; one records it, and the next job is one."""
    workspace = world.create("alice", "one")
    job = next_job(world)
    world.machines.before_call = lambda: world.do(job)

    world.do(job)

    assert len({request_id for _, request_id in world.machines.calls}) == 1
    assert len(world.machines.instances) == 1
    assert (operation_of(world, workspace).step, len(world.operations.waiting)) == (1, 1)


def test_each_step_and_each_command_is_a_call_of_its_own(world: World) -> None:
    """The same request id never stands for two different calls."""
    workspace = world.ready()
    world.stop("alice", workspace.id)
    world.run()
    world.start("alice", workspace.id)
    world.run()
    world.delete("alice", workspace.id)
    world.run()

    assert len(world.machines.calls) > 4
    assert len({request_id for _, request_id in world.machines.calls}) == len(world.machines.calls)


def test_a_job_of_an_earlier_step_sends_the_current_one_again(world: World) -> None:
    """A delivery died between its commit and its send: the operation goes on without waiting for the sweep."""
    workspace = world.ready()
    world.stop("alice", workspace.id)
    job = next_job(world)
    world.operations.refusals = 1
    with pytest.raises(UnavailableError):
        world.do(job)
    assert not world.operations.waiting

    world.do(job)

    [waiting] = world.operations.waiting
    assert waiting.job.step == operation_of(world, workspace).step == job.step + 1


@pytest.mark.parametrize("verb", ["heartbeat", "stop that is confirmed"])
def test_a_change_that_is_not_the_operations_own_does_not_disturb_a_step(
    world: World, verb: str
) -> None:
    """The step is decided again on the record as it is, and nothing is called twice."""
    workspace = world.ready()
    world.clock.advance(timedelta(hours=2))
    world.clean_up()
    job = next_job(world)
    world.clock.advance(timedelta(seconds=1))
    machine = world.machine(workspace)
    assert machine is not None
    beat = machine.report(ReportEvent.HEARTBEAT)
    calls = len(world.machines.calls)

    def act() -> None:
        if verb == "heartbeat":
            world.report(beat)
        else:
            world.stop("alice", workspace.id)

    world.machines.after_call = act
    world.do(job)

    assert len(world.machines.calls) == calls + 1
    operation = operation_of(world, workspace)
    assert (operation.phase, operation.step) == (Phase.AWAIT_SUSPENDED, job.step + 1)
    assert operation.automatic is (verb == "heartbeat")


def test_a_machine_that_is_suspended_although_its_stop_was_abandoned_is_followed(
    world: World,
) -> None:
    """A heartbeat came between two deliveries of one step: one abandoned the stop, the call of the other one landed."""
    workspace = world.ready()
    world.clock.advance(timedelta(hours=2))
    world.clean_up()
    job = next_job(world)
    world.clock.advance(timedelta(seconds=1))
    machine = world.machine(workspace)
    assert machine is not None
    beat = machine.report(ReportEvent.HEARTBEAT)

    def abandoned() -> None:
        world.report(beat)
        world.do(job)
        assert (world.workspace(workspace.id).status, operation_of(world, workspace)) == (
            Status.READY,
            None,
        )

    world.machines.before_call = abandoned
    world.do(job)
    world.run()

    after = world.workspace(workspace.id)
    assert (after.status, after.machine_running, machine.state) == (
        Status.SUSPENDED,
        False,
        InstanceState.SUSPENDED,
    )


def test_a_worker_that_has_no_chance_gives_way_and_comes_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a bounded number of attempts it raises, and the queue brings the job again."""
    world.create("alice", "one")
    job = next_job(world)
    world.do(job)
    look = next_job(world)

    def refuse(**_: object) -> None:
        world.store.counts.commits += 1
        raise ConflictError("somebody else was faster")

    world.store.counts = counts = Counts()
    monkeypatch.setattr(world.store, "commit", refuse)

    with pytest.raises(UnavailableError):
        world.do(look)
    assert counts.commits == ATTEMPTS


def test_an_owner_who_changes_while_a_workspace_is_forgotten_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last commit of a DELETE and a create of the same person: both are there."""
    workspace = world.ready()
    world.delete("alice", workspace.id)
    world.run(until=lambda: operation_of(world, workspace).phase is Phase.FORGET)
    job = next_job(world)
    meanwhile(world, monkeypatch, lambda: world.create("alice", "two"))

    world.do(job)

    assert [ws.name for ws in world.store.workspaces.values()] == ["two"]
    assert [held.name for held in world.store.owners["alice"].workspaces.values()] == ["two"]


# ---- people ---------------------------------------------------------------------------------------------------------


def test_a_request_that_meets_another_decides_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop and a delete at once: the delete was first, so the stop is refused."""
    workspace = world.ready()
    meanwhile(world, monkeypatch, lambda: world.delete("alice", workspace.id))

    with pytest.raises(OperationUnderWayError):
        world.stop("alice", workspace.id)

    assert operation_of(world, workspace).kind is OperationKind.DELETE


def test_a_request_whose_own_answer_was_lost_is_one_operation_with_its_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client library repeats a commit whose answer was lost, and is told that it conflicts: with itself."""
    workspace = world.ready()
    commit = world.store.commit

    def lost(**documents: Any) -> None:
        commit(**documents)
        monkeypatch.setattr(world.store, "commit", commit)
        raise ConflictError("it is there already")

    monkeypatch.setattr(world.store, "commit", lost)

    after, under_way = world.stop("alice", workspace.id)

    assert (under_way, after.operation) == (True, operation_of(world, workspace))
    assert [delivery.job.operation_id for delivery in world.operations.waiting] == [
        after.operation.id  # type: ignore[union-attr]
    ]


def test_a_create_whose_own_answer_was_lost_is_one_workspace_with_its_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not told that its own name is taken."""
    commit = world.store.commit

    def lost(**documents: Any) -> None:
        commit(**documents)
        monkeypatch.setattr(world.store, "commit", commit)
        raise ConflictError("it is there already")

    monkeypatch.setattr(world.store, "commit", lost)

    made = world.create("alice", "one", key=Key("key", "body"))

    assert list(world.store.workspaces) == [made.id]
    assert [delivery.job.workspace_id for delivery in world.provisioning.waiting] == [made.id]


def test_many_creates_of_one_person_at_once_keep_to_names_and_quota(world: World) -> None:
    """Sixteen requests on eight threads for two names each twice over: as many as the quota allows, no name twice."""

    def create(number: int) -> str:
        try:
            return world.create("alice", f"ws-{number % 8}").name
        except NameTakenError:
            return "taken"
        except QuotaExceededError:
            return "too many"
        except UnavailableError:
            return "later"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(create, range(16)))

    made = sorted(workspace.name for workspace in world.store.workspaces.values())
    assert len(made) == len(set(made)) <= world.policy.limits.workspaces
    assert sorted(name for name in outcomes if name.startswith("ws-")) == made
    assert sorted(held.name for held in world.store.owners["alice"].workspaces.values()) == made
    assert len(world.provisioning.sent) == len(made)


def test_many_starts_of_one_person_at_once_keep_to_the_running_quota() -> None:
    """Four suspended workspaces, two may run: two of four starts at once are accepted, and the owner's record says so."""
    world = World(policy=replace(Policy(), limits=Limits(workspaces=4, running=2)))
    made = []
    for name in ("one", "two", "three", "four"):
        workspace = world.ready(name=name)
        world.stop("alice", workspace.id)
        world.run()
        made.append(workspace.id)

    def start(workspace_id: str) -> str:
        try:
            world.start("alice", workspace_id)
        except QuotaExceededError:
            return "too many"
        return "started"

    with ThreadPoolExecutor(4) as pool:
        outcomes = sorted(pool.map(start, made))

    assert outcomes == ["started", "started", "too many", "too many"]
    assert sum(held.running for held in world.store.owners["alice"].workspaces.values()) == 2
    world.run()
    assert sorted(world.workspace(each).status for each in made) == [
        "READY",
        "READY",
        "SUSPENDED",
        "SUSPENDED",
    ]


def test_the_same_create_many_times_at_once_is_one_workspace(world: World) -> None:
    """With one idempotency key: whoever gets an answer gets the same workspace."""

    def create(_: int) -> str | None:
        try:
            return world.create("alice", "one", key=Key("key", "body")).id
        except UnavailableError:
            return None

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(create, range(16))) - {None}

    assert ids == set(world.store.workspaces)
    assert len(ids) == 1


# ---- machines -------------------------------------------------------------------------------------------------------


def test_a_machine_that_is_faster_than_its_worker_is_ready(world: World) -> None:
    """It boots and reports while the worker that started it has not recorded so."""
    workspace = world.ready()
    world.machines.stop_by_hand(place_of(workspace))
    world.run()
    world.look(workspace)
    world.run()
    assert world.workspace(workspace.id).status is Status.SUSPENDED
    world.start("alice", workspace.id)
    world.run(until=lambda: operation_of(world, workspace).phase is Phase.AWAIT_METADATA)
    world.machines.after_call = lambda: world.pass_time(
        timedelta(seconds=60)
    )  # after the start, before its commit

    world.run()

    after = world.workspace(workspace.id)
    assert (after.status, after.operation, after.memory_is_ready, after.machine_running) == (
        Status.READY,
        None,
        True,
        True,
    )
    assert after.last_connected_at - workspace.last_connected_at < timedelta(minutes=3)
