"""Use cases at the same time: the later one reads again, and no effect happens twice or is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared import logs
from shared.domain.access import Actor
from shared.domain.errors import (
    ConflictError,
    NameTakenError,
    OperationUnderWayError,
    QuotaExceededError,
    UnavailableError,
    WorkspaceNotFoundError,
)
from shared.domain.instance import DeleteInstance, FaultKind, InsertInstance, InstanceState
from shared.domain.jobs import Job
from shared.domain.lifecycle import NewConnection, NewMachine
from shared.domain.owner_limits import Key
from shared.domain.policy import Limits, Policy
from shared.domain.reports import ReportEvent
from shared.domain.workspace import NO_NAME, OperationKind, Owner, Phase, Status, Workspace
from shared.ports import Stored
from shared.usecases.manage_workspaces import start_workspace, stop_workspace
from shared.usecases.reconcile_fleet import reconcile_fleet
from shared.usecases.records import ATTEMPTS
from tests.fakes.interruptions import Interruptions, Moment
from tests.fakes.machines import Mishap
from tests.fakes.store import Counts
from tests.fakes.world import World, place_of, suspended


@pytest.fixture
def world() -> World:
    """Return a Hub with fakes."""
    return World()


def next_job(world: World) -> Job:
    """Take the job that is due next, at the time at which it is due."""
    queue = world.provisioning if world.provisioning.waiting else world.operations
    delivery = min(queue.waiting, key=lambda each: each.due_at)
    world.clock.advance_to(delivery.due_at)
    return queue.take(delivery)


def operation_of(world: World, workspace: Workspace) -> Any:
    """Return the running operation."""
    return world.workspace(workspace.id).operation


def act_before_the_next_commit(
    world: World, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
) -> None:
    """Act between the next reads and their commit."""
    commit = world.store.commit

    def interrupted(**documents: Any) -> None:
        monkeypatch.setattr(world.store, "commit", commit)
        act()
        commit(**documents)

    monkeypatch.setattr(world.store, "commit", interrupted)


# ---- sweeps ----


@pytest.mark.parametrize("sweep", ["clean_up", "reconcile", "reconcile_fleet"])
def test_a_workspace_that_is_deleted_after_a_sweeps_query_is_no_failure(
    world: World, errors: list[str], monkeypatch: pytest.MonkeyPatch, sweep: str
) -> None:
    """Nothing is left to do for it, and nobody is called for that."""
    workspace = world.ready()
    if sweep == "reconcile":
        world.start("alice", workspace.id, NewMachine(rebuild=True))
        world.operations.waiting.clear()
    world.machines.stop_by_hand(place_of(workspace))
    world.clock.advance(timedelta(hours=2))
    get = world.store.get

    def deleted(workspace_id: str) -> Stored[Workspace] | None:
        monkeypatch.setattr(world.store, "get", get)
        forget(world, workspace)
        return get(workspace_id)

    monkeypatch.setattr(world.store, "get", deleted)
    if sweep == "reconcile_fleet":
        report = reconcile_fleet(
            world.records, world.machines_port, world.policy, pause=world.pauses.append
        )
    else:
        report = {"clean_up": world.clean_up, "reconcile": world.reconcile}[sweep]()

    assert world.store.workspaces == {}
    assert (report.looked_at, report.failed, errors) == (1, {}, [])


# ---- workers ----


def test_a_machine_inserted_during_a_delete_is_deleted_at_once(
    world: World,
) -> None:
    """The DELETE may have looked before the machine existed, so the insert's worker undoes it."""
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
    """Return the events that are logged as errors."""
    logged: list[str] = []
    monkeypatch.setattr(logs, "error", lambda event, *_, **__: logged.append(event))
    return logged


def forget(world: World, workspace: Workspace) -> None:
    """Delete the record."""
    stored = world.store.get(workspace.id)
    assert stored is not None
    world.store.commit(workspaces=[(stored, None)])


@pytest.mark.parametrize("meanwhile", ["the operation goes on", "the operation ends"])
def test_a_machine_inserted_in_a_zone_that_was_left_meanwhile_is_deleted(
    world: World, meanwhile: str
) -> None:
    """Of two deliveries of a step, one found no capacity and went to the next zone.

    If the other one finds capacity after all, nobody else would stop its machine.
    """
    workspace = world.create("alice", "one")
    job = next_job(world)

    def go_to_the_next_zone() -> None:
        world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.STOCK_OUT)
        world.do(job)
        if meanwhile == "the operation ends":
            world.run(until=lambda: operation_of(world, workspace) is None)

    world.machines.before_call = go_to_the_next_zone
    world.do(job)
    world.run()

    ready = world.workspace(workspace.id)
    assert (ready.status, ready.zone) == (Status.READY, world.policy.zones[1])
    assert set(world.machines.instances) == {place_of(ready)}


def test_an_insert_that_cannot_be_undone_is_left_to_the_running_delete(
    world: World, errors: list[str]
) -> None:
    """Its worker looks for the machine again before it forgets the record."""
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
    ("state", "orphaned"),
    [("gone", False), ("being deleted", False), ("there", True), ("unreadable", True)],
)
def test_a_machine_is_reported_as_orphaned_only_if_it_stays(
    world: World, errors: list[str], state: str, *, orphaned: bool
) -> None:
    """A refused deletion without a record is an error, unless the machine is deleted otherwise."""
    workspace = world.create("alice", "one")
    place = place_of(workspace)
    job = next_job(world)

    def before_the_undo() -> None:
        if state == "gone":
            world.machines.delete_by_hand(place)
        elif state == "not to be seen":
            world.machines.unanswered_reads = 1

    def inserted() -> None:
        forget(world, workspace)
        if state == "being deleted":
            world.machines.perform(DeleteInstance(place), "another's")
        else:
            world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.NOT_READY)
        world.machines.before_call = before_the_undo

    world.machines.after_call = inserted
    world.do(job)

    assert errors == ["InstanceOrphaned"] * orphaned


def test_a_record_outlives_the_workers_of_a_superseded_operation(world: World) -> None:
    """A worker that dies after its insert leaves a machine, which the DELETE then finds."""
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


def test_a_worker_that_was_delayed_for_long_makes_no_call(world: World) -> None:
    """A DELETE waits for workers only for a limited time, so a later worker must not insert."""
    workspace = world.create("alice", "one")
    job = next_job(world)
    get = world.machines.get

    class Slow:
        """Takes most of a worker's time for a read."""

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


def test_two_deliveries_of_a_step_at_once_create_one_machine(world: World) -> None:
    """Both call with the same request id, one records the outcome, and one next job is sent."""
    workspace = world.create("alice", "one")
    job = next_job(world)
    world.machines.before_call = lambda: world.do(job)

    world.do(job)

    assert len({request_id for _, request_id in world.machines.calls}) == 1
    assert len(world.machines.instances) == 1
    assert (operation_of(world, workspace).step, len(world.operations.waiting)) == (1, 1)


def test_each_call_has_a_request_id_of_its_own(world: World) -> None:
    """No request id stands for two different calls."""
    workspace = world.ready()
    world.stop("alice", workspace.id)
    world.run()
    world.start("alice", workspace.id)
    world.run()
    world.delete("alice", workspace.id)
    world.run()

    assert len(world.machines.calls) > 4
    assert len({request_id for _, request_id in world.machines.calls}) == len(world.machines.calls)


def test_a_job_of_an_earlier_step_resends_the_current_one(world: World) -> None:
    """A delivery died between commit and send; the operation need not wait for the reconciler."""
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
def test_a_change_outside_the_operation_does_not_disturb_a_step(world: World, verb: str) -> None:
    """The step is decided again on the current record, and no call is repeated."""
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


def test_a_machine_that_was_suspended_after_a_cancelled_stop_is_adopted(
    world: World,
) -> None:
    """One delivery saw a heartbeat and cancelled the stop, another suspended the machine."""
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


def test_a_worker_with_constant_conflicts_is_repeated_by_the_queue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a limited number of attempts it raises, and the queue delivers the job again."""
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


def test_a_create_during_the_end_of_a_delete_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last commit of a DELETE and a create by the same person both take effect."""
    workspace = world.ready()
    world.delete("alice", workspace.id)
    get_owner = world.store.get_owner
    created: list[Workspace] = []

    def interrupted(owner_id: str) -> Stored[Owner]:
        owner = get_owner(owner_id)
        if operation_of(world, workspace).phase is Phase.FORGET and not created:
            monkeypatch.setattr(world.store, "get_owner", get_owner)
            created.append(world.create("alice", "two"))
        return owner

    monkeypatch.setattr(world.store, "get_owner", interrupted)

    world.run(until=lambda: workspace.id not in world.store.workspaces)

    assert [ws.id for ws in created] == list(world.store.workspaces)
    assert [held.name for held in world.store.owners["alice"].workspaces.values()] == ["two"]


# ---- people ----


def test_a_request_that_conflicts_with_another_decides_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop during a delete that was faster is refused."""
    workspace = world.ready()
    act_before_the_next_commit(world, monkeypatch, lambda: world.delete("alice", workspace.id))

    with pytest.raises(OperationUnderWayError):
        world.stop("alice", workspace.id)

    assert operation_of(world, workspace).kind is OperationKind.DELETE


def test_a_request_whose_commit_got_no_answer_starts_one_operation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client library repeats a commit without an answer, which then conflicts with itself."""
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


def test_a_create_whose_commit_got_no_answer_creates_one_workspace(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person is not told that their own name is taken."""
    commit = world.store.commit

    def lost(**documents: Any) -> None:
        commit(**documents)
        monkeypatch.setattr(world.store, "commit", commit)
        raise ConflictError("it is there already")

    monkeypatch.setattr(world.store, "commit", lost)

    made = world.create("alice", "one", key=Key("key", "body"))

    assert list(world.store.workspaces) == [made.id]
    assert [delivery.job.workspace_id for delivery in world.provisioning.waiting] == [made.id]


def test_many_creates_at_once_respect_names_and_quota(world: World) -> None:
    """Of sixteen requests for eight names, as many succeed as the quota allows, each name once."""

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


def undeleted(world: World) -> Workspace:
    """Return a workspace of alice's called ``one`` whose DELETE has failed."""
    workspace = world.ready()
    world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.PERMISSION, times=1000)
    world.delete("alice", workspace.id)
    world.run()
    world.machines.calm()
    return world.workspace(workspace.id)


def names_of(world: World, owner: str = "alice") -> list[str]:
    """Return the names that the owner's record has, without those that were given up."""
    held = world.store.owners[owner].workspaces.values()
    return sorted(each.name for each in held if each.name != NO_NAME)


def start_as(world: World, who: Actor, workspace_id: str) -> None:
    """Start a workspace with its own name."""
    start_workspace(world.records, world.policy, who, workspace_id, NewMachine())


TAKERS: dict[str, Callable[[World, str], object]] = {
    "a create": lambda world, _: world.create("alice", "one"),
    "a start": lambda world, its_id: world.start("alice", its_id),
    "a connect": lambda world, its_id: world.connect("alice", its_id, NewConnection(start=True)),
    "an administrator's start": lambda world, its_id: start_as(
        world, Actor("grace", "a-request", admin=True), its_id
    ),
}


@pytest.mark.parametrize("first", TAKERS)
@pytest.mark.parametrize("second", TAKERS)
def test_of_two_who_take_a_free_name_at_once_one_gets_it(
    world: World, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    """The second one commits while the first one decides, and the first decides again."""
    left = undeleted(world)
    commit = world.store.commit

    def overtaken(**documents: Any) -> None:
        monkeypatch.setattr(world.store, "commit", commit)
        TAKERS[second](world, left.id)
        commit(**documents)

    monkeypatch.setattr(world.store, "commit", overtaken)

    with contextlib.suppress(NameTakenError):
        TAKERS[first](world, left.id)

    assert names_of(world) == ["one"]
    world.run()
    outside = [each for each in world.store.workspaces.values() if each.status is not Status.ERROR]
    assert [each.name for each in outside] == ["one"]


def test_a_start_that_is_overtaken_by_a_delete_leaves_the_name_free(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The DELETE comes second, so the workspace goes, and so does its name."""
    left = undeleted(world)
    commit = world.store.commit

    def overtaken(**documents: Any) -> None:
        monkeypatch.setattr(world.store, "commit", commit)
        world.delete("alice", left.id)
        commit(**documents)

    monkeypatch.setattr(world.store, "commit", overtaken)

    with pytest.raises(OperationUnderWayError):
        world.start("alice", left.id)

    assert names_of(world) == []
    world.create("alice", "one")
    world.run()
    assert names_of(world) == ["one"]


def test_a_sweeps_delete_and_a_start_at_once_agree_on_the_name(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention comes due while the owner starts it: one of the two happens, with its name."""
    workspace = suspended(world)
    world.clock.advance(timedelta(days=31))
    commit = world.store.commit

    def overtaken(**documents: Any) -> None:
        monkeypatch.setattr(world.store, "commit", commit)
        world.start("alice", workspace.id)
        commit(**documents)

    monkeypatch.setattr(world.store, "commit", overtaken)
    world.clean_up()

    assert names_of(world) == ["one"]
    with pytest.raises(NameTakenError):
        world.create("alice", "one")
    world.run()
    assert world.workspace(workspace.id).status is Status.READY


def test_many_who_delete_and_create_the_same_name_at_once(world: World) -> None:
    """However they meet, at most one workspace outside a DELETE has the name."""
    world.policy = replace(world.policy, limits=Limits(100, 100), changes_per_minute=1000)

    def replace_it(_: int) -> None:
        for workspace in list(world.store.workspaces.values()):
            with contextlib.suppress(WorkspaceNotFoundError, UnavailableError):
                world.delete("alice", workspace.id)
        with contextlib.suppress(NameTakenError, UnavailableError):
            world.create("alice", "one")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(replace_it, range(24)))

    staying = [each for each in world.store.workspaces.values() if not each.is_being_deleted]
    assert names_of(world) == [each.name for each in staying]
    assert len(staying) <= 1
    world.run()
    assert [each.id for each in world.store.workspaces.values()] == [each.id for each in staying]


def test_many_starts_at_once_respect_the_running_limit() -> None:
    """Of four starts at once, two succeed as the limit allows, and the owner's record agrees."""
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


def test_the_same_create_many_times_at_once_creates_one_workspace(world: World) -> None:
    """All have one idempotency key, and every answer is the same workspace."""

    def create(_: int) -> str | None:
        try:
            return world.create("alice", "one", key=Key("key", "body")).id
        except UnavailableError:
            return None

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(create, range(16))) - {None}

    assert ids == set(world.store.workspaces)
    assert len(ids) == 1


# ---- machines ----


def test_a_machine_that_is_faster_than_its_worker_is_ready(world: World) -> None:
    """It boots and reports before the worker that started it has recorded the start."""
    workspace = world.ready()
    world.machines.stop_by_hand(place_of(workspace))
    world.run()
    world.look(workspace)
    world.run()
    assert world.workspace(workspace.id).status is Status.SUSPENDED
    world.start("alice", workspace.id)
    world.run(until=lambda: operation_of(world, workspace).phase is Phase.AWAIT_METADATA)
    # Time passes after the call, before its commit.
    world.machines.after_call = lambda: world.pass_time(timedelta(seconds=60))

    world.run()

    after = world.workspace(workspace.id)
    assert (after.status, after.operation, after.memory_is_ready, after.machine_running) == (
        Status.READY,
        None,
        True,
        True,
    )
    assert after.last_connected_at - workspace.last_connected_at < timedelta(minutes=3)


def test_a_create_whose_commit_lost_its_answer_is_a_success(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The retried commit meets its own write: no further read, one log line, one job."""
    world, interruptions = World(), Interruptions()
    world.store_port = interruptions.around("store", world.store)
    interruptions.interrupt(1, Moment.AFTER, ConflictError)
    with caplog.at_level("INFO"):
        made = world.create("alice", "one")
    assert interruptions.calls == ["store.get_owner", "store.commit", "store.get_owner"]
    assert [record.message for record in caplog.records].count("WorkspaceRequested") == 1
    assert [job.workspace_id for job in world.provisioning.sent] == [made.id]
    assert world.workspace(made.id) == made


def test_an_administrators_request_whose_event_lost_its_answer_is_answered() -> None:
    """It changes nothing, so only its event is written, and a conflict of that is not an error."""
    world, interruptions = World(), Interruptions()
    workspace = suspended(world)
    world.store_port = interruptions.around("store", world.store)
    interruptions.interrupt(1, Moment.AFTER, ConflictError)
    admin = Actor("grace", "a-request", "grace@example.com", admin=True)
    answered, under_way = stop_workspace(world.records, world.policy, admin, workspace.id)
    assert (answered, under_way) == (workspace, False)
    assert {"StopRequested"} == {event.what for event in world.store.events if event.who == "grace"}
