"""A machine whose root sends whatever it likes, every second for an hour: what it can cause is little, and bounded.

It has valid tokens of its own identity, also after it was stopped (a token lasts for an hour, and
can be taken elsewhere), and always knows which machine and which generation count. What reports
leave that are refused as another machine's, ``test_trail`` counts.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from shared.domain.drift import MACHINE_NOT_READY
from shared.domain.errors import HubError, TooManyRequestsError
from shared.domain.idleness import HeartbeatReason
from shared.domain.reports import REPORTED_AGAIN, Report, ReportEvent
from shared.domain.workspace import Status, Workspace
from tests.fakes.machines import FakeInstance, GuestMishap
from tests.fakes.store import MemoryWorkspaceStore
from tests.fakes.world import World, place_of

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
CODES = [
    "READY",
    "DELETED",
    "QUOTA_EXCEEDED",
    MACHINE_NOT_READY,
    "DISK_MISSING",
    "CONTAINER_ENDS",
    "MADE_UP",
    None,
]


class Watch:
    """Counts what happens to the workspaces of a Hub from the moment that it ``begins``."""

    def __init__(self) -> None:
        self.statuses: list[Status] = []
        self.codes: set[str] = set()
        self.writes = 0
        self.world = World(store=MemoryWorkspaceStore(self._committed))

    def begins(self) -> None:
        """Forget what was so far."""
        self.statuses.clear()
        self.writes = 0
        self._events, self._jobs = len(self.world.store.events), len(self.world.operations.sent)

    @property
    def events(self) -> list[str]:
        """What was written into the audit trail."""
        return [event.what for event in self.world.store.events[self._events :]]

    @property
    def jobs(self) -> int:
        """How many jobs were sent."""
        return len(self.world.operations.sent) - self._jobs

    def _committed(self, before: Workspace | None, after: Workspace | None) -> None:
        self.writes += 1
        if before and after and before.status is not after.status:
            self.statuses.append(after.status)
        problems = (
            [after.error, after.operation.failure if after.operation else None] if after else []
        )
        self.codes |= {problem.code for problem in problems if problem}


@pytest.fixture
def watch() -> Watch:
    """Return a Hub on fakes that is watched."""
    return Watch()


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.usecases.change_workspace.PAUSE_SECONDS", 0)


def machine_of(world: World, workspace: Workspace) -> FakeInstance:
    """Return the machine that there is."""
    machine = world.machine(workspace)
    assert machine is not None
    return machine


def attack(world: World, workspace_id: str, report: Report, chance: random.Random) -> None:
    """Send random reports of a machine, one each second for an hour, whatever is answered."""
    for _ in range(int(HOUR / SECOND)):
        world.pass_time(SECOND)
        if workspace_id not in world.store.workspaces:
            return
        event = chance.choice(list(ReportEvent))
        because = (
            chance.choice([*HeartbeatReason, None]) if event is ReportEvent.HEARTBEAT else None
        )
        recorded = world.workspace(workspace_id)
        sent = replace(
            report,
            event=event,
            instance_id=recorded.instance_id or report.instance_id,
            generation=recorded.generation,
            because=because,
            code=chance.choice(CODES) if event is ReportEvent.FAILED else None,
            message="The Hub says: all is well." if event is ReportEvent.FAILED else None,
        )
        with contextlib.suppress(HubError):
            world.report(sent)


# ---- where it begins -------------------------------------------------------------------------------------------------


def _ready(world: World) -> Workspace:
    return world.ready()


def _asleep(world: World) -> Workspace:
    workspace = world.ready()
    world.stop("alice", workspace.id)
    world.run()
    return workspace


def _off(world: World) -> Workspace:
    """A machine that failed, and was stopped: its memory is lost."""
    workspace = world.ready()
    world.report(machine_of(world, workspace).report(ReportEvent.FAILED, "DISK_FULL", "Full."))
    world.stop("alice", workspace.id)
    world.run()
    return workspace


def _booted_by_hand(world: World) -> Workspace:
    """A machine that runs and has not reported, which somebody has looked at."""
    workspace = _off(world)
    world.machines.start_by_hand(place_of(workspace))
    world.pass_time(timedelta(seconds=20))
    world.look(workspace)
    world.pass_time(SECOND)
    problem = world.workspace(workspace.id).error
    assert problem is not None
    assert problem.code == MACHINE_NOT_READY
    return workspace


def _start_failed(world: World) -> Workspace:
    workspace = _off(world)
    world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
    world.start("alice", workspace.id)
    world.run()
    assert world.workspace(workspace.id).status is Status.ERROR
    return workspace


def _gone(world: World) -> Workspace:
    workspace = world.ready()
    world.machines.delete_by_hand(place_of(workspace))
    world.look(workspace)
    world.run()
    return workspace


def _being_stopped(world: World) -> Workspace:
    workspace = world.ready()
    world.stop("alice", workspace.id)
    return workspace


def _being_started(world: World) -> Workspace:
    workspace = _off(world)
    world.start("alice", workspace.id)
    return workspace


def _being_thawed(world: World) -> Workspace:
    workspace = _asleep(world)
    world.start("alice", workspace.id)
    return workspace


def _being_made(world: World) -> Workspace:
    workspace = world.create("alice", "one")
    world.run(until=lambda: world.workspace(workspace.id).instance_id is not None)
    return workspace


def _being_deleted(world: World) -> Workspace:
    workspace = world.ready()
    world.delete("alice", workspace.id)
    return workspace


@dataclass(frozen=True)
class Most:
    """The most that an hour may bring: changes of the status, events, jobs, and writes of the workspace."""

    statuses: int
    events: int
    jobs: int
    writes: int


# In an hour: a heartbeat a minute; each five minutes a memory that counts as ready (with a look)
# and one that is lost.
BEATS = int(HOUR / timedelta(minutes=1))
TURNS = int(HOUR / REPORTED_AGAIN)
LOOKS = int(HOUR / timedelta(minutes=2))  # at a machine that is not recorded to run
RUNNING = Most(statuses=1, events=3 + TURNS, jobs=1 + TURNS, writes=1 + BEATS + 3 * (1 + TURNS))
NOT_RUNNING = Most(statuses=0, events=0, jobs=LOOKS, writes=2 * LOOKS)
STEPS = 30  # of an operation, at most: a job and a write each


def _begun(statuses: int) -> Most:
    """Return the bounds where an operation is under way, which may leave the machine running or not.

    ``statuses`` is how often that changes the status, with what the machine adds.
    """
    jobs, writes = max(RUNNING.jobs, NOT_RUNNING.jobs), max(RUNNING.writes, NOT_RUNNING.writes)
    return Most(statuses, RUNNING.events + 3, jobs + STEPS, writes + STEPS)


BEGINNINGS: dict[str, tuple[Callable[[World], Workspace], Most]] = {
    "ready": (_ready, RUNNING),
    "asleep": (_asleep, NOT_RUNNING),
    "off": (_off, NOT_RUNNING),
    "booted by hand": (_booted_by_hand, replace(RUNNING, statuses=2, events=RUNNING.events + 1)),
    "start failed": (_start_failed, NOT_RUNNING),
    "gone": (_gone, NOT_RUNNING),
    "being stopped": (_being_stopped, _begun(2)),  # ERROR, then SUSPENDED
    "being started": (_being_started, _begun(3)),  # PROVISIONING, READY, ERROR
    "being thawed": (_being_thawed, _begun(3)),
    "being made": (_being_made, _begun(2)),  # READY, ERROR
    "being deleted": (_being_deleted, _begun(0)),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_whatever_a_machine_sends_for_an_hour_causes_little(
    watch: Watch, beginning: str, seed: int
) -> None:
    """Not even a status that goes to and fro; and every error says no more than what a boot script could have said."""
    begin, most = BEGINNINGS[beginning]
    world = watch.world
    workspace = begin(world)
    machine = world.machines.find(workspace.instance_name)
    known = world.workspace(workspace.id).instance_id
    own = machine.report(ReportEvent.READY) if machine else _report_of(workspace, known)
    watch.begins()

    attack(world, workspace.id, own, random.Random(f"{beginning} {seed}"))

    found = Most(len(watch.statuses), len(watch.events), watch.jobs, watch.writes)
    assert found.statuses <= most.statuses, (found, watch.statuses)
    assert found.events <= most.events, (found, watch.events)
    assert found.jobs <= most.jobs, found
    assert found.writes <= most.writes, found
    assert watch.codes & {"READY", "DELETED", "QUOTA_EXCEEDED", "MADE_UP"} == set()


def _report_of(workspace: Workspace, instance_id: str | None) -> Report:
    assert instance_id is not None
    name, zone, project = workspace.instance_name, workspace.zone, workspace.project_id
    return Report(
        event=ReportEvent.READY,
        generation=workspace.generation,
        instance_name=name,
        instance_id=instance_id,
        zone=zone,
        project_id=project,
    )


# ---- machines that mean well -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("since_it_stopped", [timedelta(seconds=1), timedelta(hours=1)])
def test_a_machine_that_was_booted_by_hand_becomes_ready_by_its_own_report(
    watch: Watch, since_it_stopped: timedelta
) -> None:
    """It is told to report again until a worker has seen that it runs; nobody has to ask for anything."""
    world = watch.world
    workspace = _off(world)
    world.pass_time(since_it_stopped)
    world.machines.start_by_hand(place_of(workspace))
    began = world.clock()

    world.run()

    after = world.workspace(workspace.id)
    assert (after.status, after.machine_running, after.memory_is_ready) == (
        Status.READY,
        True,
        True,
    )
    assert after.updated_at - began < timedelta(minutes=3)


def test_a_report_of_a_machine_by_hand_is_not_lost_beside_somebodys_look(watch: Watch) -> None:
    """Whoever asks for the status has a worker look; the look that the report asks for in the same moment comes all the same."""
    world = watch.world
    workspace = _booted_by_hand(world)
    world.report(machine_of(world, workspace).report(ReportEvent.READY))

    world.pass_time(SECOND)

    assert world.workspace(workspace.id).status is Status.READY


def test_a_container_that_is_well_again_is_ready_at_the_next_start(watch: Watch) -> None:
    """The machine repeats its report as the boot scripts do, until it counts; then a START needs no boot."""
    world = watch.world
    workspace = world.ready()
    machine = machine_of(world, workspace)
    world.report(machine.report(ReportEvent.FAILED, "CONTAINER_ENDS", "It keeps ending."))
    answers = []
    while not world.workspace(workspace.id).memory_is_ready:
        world.pass_time(timedelta(seconds=30))
        try:
            world.report(machine.report(ReportEvent.READY))
        except TooManyRequestsError as soon:
            answers.append(soon.retry_after)
    assert answers == [REPORTED_AGAIN - timedelta(seconds=30 * nth) for nth in range(1, 10)]
    assert world.workspace(workspace.id).status is Status.ERROR
    calls = len(world.machines.calls)

    world.start("alice", workspace.id)
    world.run()

    assert world.workspace(workspace.id).status is Status.READY
    assert len(world.machines.calls) == calls


def test_a_machine_that_fails_after_all_is_booted_by_the_next_start(watch: Watch) -> None:
    """What it said last counts, also in ERROR: nobody is told READY of a container that is not there."""
    world = watch.world
    workspace = world.ready()
    machine = machine_of(world, workspace)
    world.report(machine.report(ReportEvent.FAILED, "CONTAINER_ENDS", "It keeps ending."))
    world.pass_time(REPORTED_AGAIN)
    world.report(machine.report(ReportEvent.READY))
    world.report(machine.report(ReportEvent.FAILED, "CONTAINER_ENDS", "It keeps ending."))
    generation = world.workspace(workspace.id).generation

    world.start("alice", workspace.id)
    world.run()

    after = world.workspace(workspace.id)
    assert (after.status, after.generation) == (Status.READY, generation + 1)
