"""How many tasks an operation takes, and what holds when a task does several of its steps."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.errors import UnavailableError
from shared.domain.instance import DeleteInstance, Instance, Place, ResumeInstance
from shared.domain.jobs import Job
from shared.domain.lifecycle import NewMachine
from shared.domain.policy import Policy
from shared.domain.workspace import OperationKind, Phase, Status, Workspace
from shared.usecases import advance_operation
from tests.bench.tasks import KEEPS, OPERATIONS, QUICK, SLOW, cost_of
from tests.fakes.interruptions import Interruptions
from tests.fakes.machines import Durations
from tests.fakes.world import World, shut_down_by_hand

MOST_TASKS = 6


@pytest.mark.parametrize("durations", [QUICK, Durations(), SLOW], ids=["quick", "usual", "slow"])
@pytest.mark.parametrize("name", [each for each in OPERATIONS if each != KEEPS])
def test_an_operation_takes_few_tasks_if_nothing_goes_wrong(
    name: str, durations: Durations
) -> None:
    """At most six, Pub/Sub's message included, whether Compute is quick or slow."""
    assert 1 <= cost_of(name, durations).tasks <= MOST_TASKS


@pytest.mark.parametrize(("hours", "most"), [(0.05, 30), (6, 220)])
def test_an_upload_is_looked_at_ever_less_often(hours: float, most: int) -> None:
    """By the DELETE that waits for it, and by the snapshot's own jobs."""
    assert cost_of(KEEPS, Durations(upload=timedelta(hours=hours))).tasks <= most


def test_a_slow_image_takes_few_tasks() -> None:
    """A boot of six minutes, for example because of a large image, is looked at rarely."""
    durations = replace(SLOW, boot=timedelta(minutes=6))

    assert cost_of("CREATE", durations).tasks <= 1 + 1 + 6


@pytest.mark.parametrize("durations", [QUICK, Durations(), SLOW], ids=["quick", "usual", "slow"])
@pytest.mark.parametrize("name", ["STOP", "START, suspended", "DELETE, running"])
def test_what_has_ended_is_noticed_soon(name: str, durations: Durations) -> None:
    """No first look is so late, and no later one, that a person waits much longer than Compute."""
    world = World(durations=durations)
    prepare, ask = OPERATIONS[name]
    workspace = prepare(world)
    world.run()
    assert workspace is not None
    asked_at = world.clock()
    ask(world, workspace)
    compute = {
        "STOP": durations.suspend,
        "START, suspended": durations.resume,
        "DELETE, running": durations.delete + durations.delete_disk,
    }[name]

    world.run(until=lambda: _is_over(world, workspace))

    usual = world.policy.usual
    first_looks = {
        "STOP": usual.suspend,
        "START, suspended": usual.resume,
        "DELETE, running": usual.delete + usual.delete_disk,
    }[name]
    assert world.clock() - asked_at <= max(compute * 1.25, first_looks) + world.policy.look_min


def _is_over(world: World, workspace: Workspace) -> bool:
    now = world.store.workspaces.get(workspace.id)
    return now is None or now.operation is None


# ---- several steps in one task ----


def next_job(world: World) -> Job:
    """Take the job that is due next, at the time at which it is due."""
    queue = world.provisioning if world.provisioning.waiting else world.operations
    delivery = min(queue.waiting, key=lambda each: each.due_at)
    world.clock.advance_to(delivery.due_at)
    return queue.take(delivery)


def phase_of(world: World, workspace: Workspace) -> Phase | None:
    """Return the phase of the operation that is under way."""
    operation = world.workspace(workspace.id).operation
    return operation.phase if operation else None


def test_a_task_does_the_steps_that_need_no_waiting() -> None:
    """Each step is committed before the next one begins, and only the last one's job is sent."""
    world = World()
    workspace = shut_down_by_hand(world)
    world.start("alice", workspace.id)
    job = next_job(world)
    seen = Interruptions()
    world.store_port = seen.around("store", world.store)
    world.machines_port = seen.around("machines", world.machines)
    world.operations_port = seen.around("operations", world.operations)

    world.do(job)

    done = [call for call in seen.calls if call.split(".")[-1] in {"commit", "perform", "send"}]
    assert done == ["store.commit", "machines.perform", "store.commit", "operations.send"]
    assert phase_of(world, workspace) is Phase.AWAIT_METADATA


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_step_a_task_leads_to_the_same_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of steps that is as long as allowed goes on by the queue."""
    usual = cost_of(name, SLOW)
    monkeypatch.setattr(advance_operation, "MOST_STEPS", 1)

    stepwise = cost_of(name, SLOW)

    assert stepwise.calls == usual.calls
    assert stepwise.tasks >= usual.tasks


def test_the_steps_of_a_task_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery that was held up begins no other step: its job goes by the queue, as before."""
    world = World()
    workspace = shut_down_by_hand(world)
    world.start("alice", workspace.id)
    job = next_job(world)
    get = world.machines.get

    def slowly(place: Place) -> Instance | None:
        world.clock.advance(world.policy.worker_timeout * 0.6)
        return get(place)

    monkeypatch.setattr(world.machines, "get", slowly)
    world.do(job)

    assert phase_of(world, workspace) is Phase.SET_METADATA
    assert [each.job.delay for each in world.operations.waiting] == [timedelta(0)]
    monkeypatch.setattr(world.machines, "get", get)
    world.run()
    assert world.workspace(workspace.id).status is Status.READY


def test_a_delete_is_heeded_between_two_steps_of_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it supersedes an operation after a step's commit, the next step makes no call."""
    world = World()
    workspace = shut_down_by_hand(world)
    world.start("alice", workspace.id)
    job = next_job(world)
    commit = world.store.commit

    def superseded(**documents: Any) -> None:
        commit(**documents)
        monkeypatch.setattr(world.store, "commit", commit)
        world.delete("alice", workspace.id)

    monkeypatch.setattr(world.store, "commit", superseded)
    world.machines.calls.clear()
    world.do(job)

    operation = world.workspace(workspace.id).operation
    assert operation is not None
    assert operation.kind is OperationKind.DELETE
    assert world.machines.calls == []
    [delivery] = world.operations.waiting
    assert delivery.due_at == world.clock(), "the DELETE waits for what it supersedes"
    world.run()
    assert world.store.workspaces == {}


@pytest.mark.parametrize("ask", ["delete", "stop, start"])
def test_what_supersedes_a_wait_acts_at_once(ask: str) -> None:
    """However late the first look of the phase before would come, the next request has its own."""
    world = World()
    workspace = world.create("alice", "one")
    world.do(next_job(world))
    assert phase_of(world, workspace) is Phase.INSERTING
    if ask == "delete":
        world.delete("alice", workspace.id)
        expected: type[object] = DeleteInstance
    else:
        world.run()
        world.stop("alice", workspace.id)
        world.run()
        world.start("alice", workspace.id)
        expected = ResumeInstance
    asked_at = world.clock()

    world.run(until=lambda: isinstance(world.machines.calls[-1][0], expected))

    assert world.clock() == asked_at


def test_a_later_step_that_fails_comes_again_by_its_own_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message of a task whose first step is done is not refused for what comes after it."""
    world = World()
    workspace = world.ready()
    world.start("alice", workspace.id, NewMachine(rebuild=True))
    world.do(next_job(world))
    job = next_job(world)
    perform, unanswered = world.machines.perform, []

    def no_answer(command: object, _: str) -> None:
        unanswered.append(command)
        raise UnavailableError("Compute Engine does not answer now.")

    monkeypatch.setattr(world.machines, "perform", no_answer)
    with pytest.raises(UnavailableError):
        world.do(job)
    assert phase_of(world, workspace) is Phase.INSERT
    world.do(job)

    assert len(unanswered) == 1, "the old job made the call of a later step"
    [delivery] = world.operations.waiting
    assert delivery.job.step == job.step + 1
    monkeypatch.setattr(world.machines, "perform", perform)
    world.run()
    assert world.workspace(workspace.id).status is Status.READY


def test_a_phase_begins_its_own_wait() -> None:
    """A long wait in one phase does not make the pauses of the next one long."""
    world = World(policy=Policy(), durations=Durations(delete=timedelta(minutes=4)))
    workspace = world.ready()
    world.delete("alice", workspace.id)
    world.run(until=lambda: phase_of(world, workspace) is Phase.AWAIT_DISK_ABSENT)

    [delivery] = world.operations.waiting

    assert delivery.job.delay == world.policy.usual.delete_disk
