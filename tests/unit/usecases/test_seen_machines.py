"""Compute is asked rarely for machines that are off, and each time for all others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.errors import UnavailableError
from shared.domain.instance import Instance, Place
from shared.domain.jobs import Job
from shared.domain.workspace import Status, Workspace
from shared.ports import Stored
from shared.usecases import seen_machines
from shared.usecases.manage_workspaces import RealTimeStatus, get_workspace_status
from shared.usecases.seen_machines import SEEN_FOR, SeenMachines
from tests.fakes.machines import GuestMishap
from tests.fakes.world import World, actor, place_of, shut_down_by_hand, suspended


@pytest.fixture
def world() -> World:
    """Return a Hub with fakes."""
    return World()


class OneInstance:
    """A function instance that answers status requests."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen = SeenMachines(lambda: world.machines_port, world.clock)

    def status(self, workspace: Workspace) -> RealTimeStatus:
        """Ask for the status of a workspace, as its owner."""
        person = actor(workspace.owner_id)
        return get_workspace_status(self._world.records, self._seen, person, workspace.id)

    def asks(self, workspace: Workspace, times: int = 3) -> int:
        """Return how often Compute is asked for so many status requests at the same time."""
        before = self._world.machines.reads["get"]
        for _ in range(times):
            self.status(workspace)
        return self._world.machines.reads["get"] - before


def _creating(world: World) -> Workspace:
    return world.create("alice", "one")


def _failed(world: World) -> Workspace:
    for _ in range(5):
        world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
    return world.ready()


def _stopping(world: World) -> Workspace:
    workspace = world.ready()
    world.stop("alice", workspace.id)
    return workspace


def _resuming(world: World) -> Workspace:
    workspace = suspended(world)
    world.start("alice", workspace.id)
    return workspace


def _deleting(world: World) -> Workspace:
    workspace = suspended(world)
    world.delete("alice", workspace.id)
    return workspace


@pytest.mark.parametrize("prepare", [suspended, shut_down_by_hand])
def test_a_machine_that_is_off_is_asked_for_once_in_some_seconds(
    world: World, prepare: Callable[[World], Workspace]
) -> None:
    """Whether its memory is kept or not: nothing happens to it unless somebody does something."""
    workspace, instance = prepare(world), OneInstance(world)

    assert instance.asks(workspace) == 1
    world.clock.advance(SEEN_FOR - timedelta(milliseconds=1))
    assert instance.asks(workspace) == 0
    world.clock.advance(timedelta(milliseconds=1))
    assert instance.asks(workspace) == 1


@pytest.mark.parametrize(
    "prepare", [World.ready, _creating, _failed, _stopping, _resuming, _deleting]
)
def test_every_other_workspace_is_asked_for_each_time(
    world: World, prepare: Callable[[World], Workspace]
) -> None:
    """One that is in use, has failed, or has an operation under way, suspended or not."""
    workspace, instance = prepare(world), OneInstance(world)

    assert instance.asks(workspace, times=3) == 3


def test_the_kept_answer_is_the_one_that_compute_gave(world: World) -> None:
    """A person cannot tell whether Compute was asked."""
    workspace, instance = suspended(world), OneInstance(world)

    assert instance.status(workspace) == instance.status(workspace) == world.look(workspace)


def test_what_is_done_by_hand_is_noticed_within_some_seconds(world: World) -> None:
    """A machine that somebody resumes in Compute is adopted as before, only a little later."""
    workspace, instance = suspended(world), OneInstance(world)
    instance.status(workspace)
    world.machines.start_by_hand(place_of(workspace))
    world.clock.advance(SEEN_FOR)

    seen = instance.status(workspace).instance
    assert seen is not None
    assert seen.state != "SUSPENDED"
    world.pass_time(timedelta(minutes=1))
    instance.status(workspace)
    world.run()

    assert world.workspace(workspace.id).status is Status.READY


def test_an_answer_that_differs_from_the_record_is_not_kept(world: World) -> None:
    """Until a worker has adopted it, each request asks, and has a worker look."""
    workspace, instance = suspended(world), OneInstance(world)
    world.machines.delete_by_hand(place_of(workspace))

    assert instance.asks(workspace, times=3) == 3
    assert {(job.workspace_id, job.operation_id) for job in looks(world)} == {(workspace.id, None)}


def looks(world: World) -> list[Job]:
    """Return the looks that wait in the queue."""
    return [delivery.job for delivery in world.operations.waiting if not delivery.job.operation_id]


def test_a_record_that_changes_is_asked_for_at_once(world: World) -> None:
    """Whatever has changed in it, no answer that was given before counts."""
    workspace, instance = suspended(world), OneInstance(world)
    instance.status(workspace)
    stored = world.store.get(workspace.id)
    assert stored is not None
    changed = replace(stored.record, memory_kept=False)
    world.store.commit(workspaces=[(stored, changed)])

    assert instance.asks(workspace) == 1


def test_another_machine_is_asked_for_at_once(world: World) -> None:
    """An answer about one machine says nothing of another, whatever the store calls a version."""
    workspace = suspended(world)
    seen = SeenMachines(lambda: world.machines, world.clock)
    seen.get(Stored(workspace, version="the same"))
    reads = world.machines.reads["get"]

    seen.get(Stored(replace(workspace, instance_id="another"), version="the same"))

    assert world.machines.reads["get"] == reads + 1


def test_each_function_instance_asks_for_itself(world: World) -> None:
    """What one has seen, another has not."""
    workspace = suspended(world)
    first, second = OneInstance(world), OneInstance(world)

    assert (first.asks(workspace), second.asks(workspace)) == (1, 1)


def test_a_clock_that_goes_back_keeps_nothing_for_longer(world: World) -> None:
    """An answer from the future does not count."""
    workspace = suspended(world)
    now = world.clock()
    seen = SeenMachines(lambda: world.machines, lambda: now)
    stored = world.store.get(workspace.id)
    assert stored is not None
    seen.get(stored)
    reads = world.machines.reads["get"]
    now -= timedelta(hours=1)

    seen.get(stored)

    assert world.machines.reads["get"] == reads + 1


def test_no_answer_is_not_kept(world: World) -> None:
    """The next request asks again."""
    workspace, instance = suspended(world), OneInstance(world)
    world.machines.unanswered_reads = 1

    assert "does not answer" in str(instance.status(workspace).why_no_instance)
    assert instance.status(workspace).instance is not None


def test_only_so_many_answers_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was asked for first is dropped, and asked for again."""
    monkeypatch.setattr(seen_machines, "MOST_SEEN", 2)
    instance = OneInstance(world)
    workspaces = []
    for name in ("one", "two", "three"):
        workspace = world.create("alice", name)
        world.run()
        world.stop("alice", workspace.id)
        world.run()
        workspaces.append(workspace)

    for workspace in workspaces:
        assert instance.asks(workspace) == 1

    assert [instance.asks(workspace) for workspace in reversed(workspaces)] == [0, 0, 1]


class HeldCompute:
    """A read of a machine that is answered when it is told to, with what it is told."""

    def __init__(self, answer: Callable[[Place], Instance | None]) -> None:
        self.asked = threading.Semaphore(0)
        self.may_answer = threading.Event()
        self.times = 0
        self._answer = answer

    def get(self, place: Place) -> Instance | None:
        """See the port."""
        self.times += 1
        self.asked.release()
        assert self.may_answer.wait(60)
        return self._answer(place)


@pytest.mark.parametrize("answers", [True, False])
def test_those_who_ask_at_the_same_time_share_one_question(
    world: World, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """All get its answer, or learn that there is none; nobody waits for ever."""
    stored = world.store.get(suspended(world).id)
    assert stored is not None

    def unanswered(_: Place) -> None:
        raise UnavailableError("Compute Engine does not answer now.")

    compute = HeldCompute(world.machines.peek if answers else unanswered)
    monkeypatch.setattr(world.machines, "get", compute.get)
    seen = SeenMachines(lambda: world.machines, world.clock)
    waiting = threading.Semaphore(0)

    def ask() -> str:
        waiting.release()
        try:
            instance = seen.get(stored)
        except UnavailableError as error:
            return str(error)
        return instance.state if instance else "absent"

    with ThreadPoolExecutor(10) as pool:
        asking = [pool.submit(ask) for _ in range(10)]
        assert compute.asked.acquire(timeout=60)
        for _ in range(10):
            assert waiting.acquire(timeout=60)
        compute.may_answer.set()
        results = {each.result(60) for each in asking}

    expected = "SUSPENDED" if answers else "Compute Engine does not answer now."
    assert results == {expected}
    if answers:  # if not, a thread that comes after the failure asks again
        assert compute.times == 1
