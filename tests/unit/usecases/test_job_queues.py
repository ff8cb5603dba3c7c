"""Which queue each job goes to: the people's, or the sweeps'."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.domain.changes import job_of, look_job
from shared.domain.jobs import Job
from shared.domain.workspace import OperationKind, Status
from shared.usecases.job_queues import JobQueues
from tests.fakes.clock import SettableClock
from tests.fakes.jobs import FakeJobs
from tests.fakes.records import NOW, a_workspace, an_operation
from tests.fakes.world import World

A_WORKSPACE = a_workspace()


@pytest.fixture
def world() -> World:
    """A Hub with both queues."""
    return World()


def sweeps_of(world: World) -> FakeJobs:
    """Give a Hub a queue for its sweeps, and return it."""
    sweeps = FakeJobs(world.clock)
    world.operations_port = JobQueues(lambda: world.operations, lambda: sweeps)
    return sweeps


def do_all(world: World, queue: FakeJobs) -> int:
    """Let time pass, and do the jobs of one queue only, until it has none. Return how many."""
    done = 0
    while moment := queue.next_due_at():
        world.clock.advance_to(moment)
        job = queue.take_due()
        assert job is not None
        world.do(job)
        done += 1
    return done


@pytest.mark.parametrize(
    ("job", "can_wait"),
    [
        (job_of(A_WORKSPACE, an_operation(OperationKind.STOP)), False),
        (job_of(A_WORKSPACE, an_operation(OperationKind.STOP, automatic=True)), True),
        (job_of(A_WORKSPACE, an_operation(OperationKind.START, resends=1)), True),
        (look_job(A_WORKSPACE, NOW, "a-request"), True),
    ],
    ids=["a person's", "a sweep's", "resent", "a look"],
)
def test_a_job_that_can_wait_goes_to_the_sweeps_queue(job: Job, can_wait: bool) -> None:
    """It depends on the job alone, so the same job never is in both."""
    people, sweeps = FakeJobs(SettableClock()), FakeJobs(SettableClock())
    queues = JobQueues(lambda: people, lambda: sweeps)
    for _ in range(2):
        queues.send(job)
    assert job.can_wait is can_wait
    assert [len(queue.waiting) for queue in (people, sweeps)] == ([0, 1] if can_wait else [1, 0])


def test_all_steps_of_an_idle_stop_go_through_the_sweeps_queue(world: World) -> None:
    """A wave of them puts nothing into the queue for people."""
    made = [world.ready(f"owner-{number}") for number in range(5)]
    sweeps = sweeps_of(world)
    people_before = len(world.operations.sent)
    world.clock.advance(timedelta(hours=2))

    world.clean_up()
    assert do_all(world, sweeps) >= 2 * len(made)

    assert {world.workspace(each.id).status for each in made} == {Status.SUSPENDED}
    assert len(world.operations.sent) == people_before


def test_all_steps_of_what_a_person_asks_go_through_the_queue_for_people(world: World) -> None:
    """A wave of idle stops waits in the other queue meanwhile."""
    asked, *idle = (world.ready(f"owner-{number}") for number in range(5))
    sweeps = sweeps_of(world)
    world.clock.advance(timedelta(hours=2))
    world.stop("owner-0", asked.id)
    world.clean_up()
    waiting = len(sweeps.waiting)
    assert waiting == len(idle)

    do_all(world, world.operations)

    assert world.workspace(asked.id).status is Status.SUSPENDED
    assert len(sweeps.waiting) == waiting


def test_an_operation_goes_on_among_people_after_one_job_was_resent(world: World) -> None:
    """The copy goes to the sweeps' queue, and the steps after it go where people's are.

    If the first one comes after all, it does nothing: the operation has gone on.
    """
    workspace = world.ready()
    sweeps = sweeps_of(world)
    world.stop("alice", workspace.id)
    [late] = world.operations.waiting
    world.clock.advance(world.policy.attend_after + timedelta(seconds=1))
    world.reconcile()
    [copy] = sweeps.waiting
    world.do(sweeps.take(copy))
    assert len(sweeps.waiting) == 0
    calls = len(world.machines.calls)

    world.do(world.operations.take(late))
    do_all(world, world.operations)

    assert len(world.machines.calls) == calls
    assert world.workspace(workspace.id).status is Status.SUSPENDED
    assert len(sweeps.waiting) == 0


def test_a_person_who_asks_for_a_waiting_idle_stop_does_not_wait_for_the_sweeps(
    world: World,
) -> None:
    """The job is in both queues then, and the one that comes second does nothing."""
    workspace = world.ready()
    sweeps = sweeps_of(world)
    world.clock.advance(timedelta(hours=2))
    world.clean_up()
    world.stop("alice", workspace.id)
    calls = len(world.machines.calls)

    do_all(world, world.operations)
    assert world.workspace(workspace.id).status is Status.SUSPENDED
    assert len(world.machines.calls) == calls + 1

    do_all(world, sweeps)
    assert len(world.machines.calls) == calls + 1
