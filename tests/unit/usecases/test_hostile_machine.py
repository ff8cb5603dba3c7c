"""A machine whose root sends any reports, every second for an hour, causes little and bounded work.

It has valid tokens of its own identity, even after it was stopped (a token is valid for an hour,
and can be copied), and always knows the current machine id and generation. ``test_trail`` counts
the events of reports that are refused as another machine's.
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
from shared.domain.reports import (
    HOST_KEY_KEPT_FOR,
    READY_DISBELIEVED_FOR,
    Report,
    ReportEvent,
)
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
        """Reset the counts."""
        self.statuses.clear()
        self.writes = 0
        self._events, self._jobs = len(self.world.store.events), len(self.world.operations.sent)

    @property
    def events(self) -> list[str]:
        """The events written since."""
        return [event.what for event in self.world.store.events[self._events :]]

    @property
    def jobs(self) -> int:
        """The number of jobs sent since."""
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
    """Return a watched Hub with fakes."""
    return Watch()


def machine_of(world: World, workspace: Workspace) -> FakeInstance:
    """Return the workspace's machine, which must exist."""
    machine = world.machine(workspace)
    assert machine is not None
    return machine


def attack(world: World, workspace_id: str, report: Report, chance: random.Random) -> None:
    """Send random reports of a machine, one each second for an hour, whatever the answers are."""
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
            host_key=f"ssh-ed25519 {chance.randrange(1000)}",
        )
        with contextlib.suppress(HubError):
            world.report(sent)


# ---- initial states ----


def _ready(world: World) -> Workspace:
    return world.ready()


def _suspended(world: World) -> Workspace:
    workspace = world.ready()
    world.stop("alice", workspace.id)
    world.run()
    return workspace


def _stopped(world: World) -> Workspace:
    """A machine failed and was stopped, so its memory is lost."""
    workspace = world.ready()
    world.report(machine_of(world, workspace).report(ReportEvent.FAILED, "DISK_FULL", "Full."))
    world.stop("alice", workspace.id)
    world.run()
    return workspace


def _booted_by_hand(world: World) -> Workspace:
    """A machine was started by hand and has not reported, and a worker has looked at it."""
    workspace = _stopped(world)
    world.machines.start_by_hand(place_of(workspace))
    world.pass_time(timedelta(seconds=20))
    world.look(workspace)
    world.pass_time(SECOND)
    problem = world.workspace(workspace.id).error
    assert problem is not None
    assert problem.code == MACHINE_NOT_READY
    return workspace


def _start_failed(world: World) -> Workspace:
    workspace = _stopped(world)
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
    workspace = _stopped(world)
    world.start("alice", workspace.id)
    return workspace


def _being_resumed(world: World) -> Workspace:
    workspace = _suspended(world)
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
    """The most that an hour may bring: status changes, events, jobs, and workspace writes."""

    statuses: int
    events: int
    jobs: int
    writes: int


# In an hour: a heartbeat each minute, and every five minutes another host key, and memory that
# becomes ready, with a look, and is lost again.
BEATS = int(HOUR / timedelta(minutes=1))
TURNS = int(HOUR / READY_DISBELIEVED_FOR)
LOOKS = int(HOUR / timedelta(minutes=2))  # at a machine that is recorded as not running
KEYS = 1 + int(HOUR / HOST_KEY_KEPT_FOR)
RUNNING = Most(
    statuses=1, events=3 + TURNS, jobs=1 + TURNS, writes=1 + BEATS + KEYS + 3 * (1 + TURNS)
)
NOT_RUNNING = Most(statuses=0, events=0, jobs=LOOKS, writes=2 * LOOKS)
STEPS = 30  # at most, in an operation: a job and a write each


def _with_operation(statuses: int) -> Most:
    """Return the bounds for a running operation, after which the machine may run or not.

    ``statuses`` is the number of status changes by the operation and by the machine together.
    """
    jobs, writes = max(RUNNING.jobs, NOT_RUNNING.jobs), max(RUNNING.writes, NOT_RUNNING.writes)
    return Most(statuses, RUNNING.events + 3, jobs + STEPS, writes + STEPS)


INITIAL_STATES: dict[str, tuple[Callable[[World], Workspace], Most]] = {
    "ready": (_ready, RUNNING),
    "suspended": (_suspended, NOT_RUNNING),
    "stopped": (_stopped, NOT_RUNNING),
    "booted by hand": (_booted_by_hand, replace(RUNNING, statuses=2, events=RUNNING.events + 1)),
    "start failed": (_start_failed, NOT_RUNNING),
    "gone": (_gone, NOT_RUNNING),
    "being stopped": (_being_stopped, _with_operation(2)),  # ERROR, then SUSPENDED
    "being started": (_being_started, _with_operation(3)),  # PROVISIONING, READY, ERROR
    "being resumed": (_being_resumed, _with_operation(3)),
    "being made": (_being_made, _with_operation(2)),  # READY, ERROR
    "being deleted": (_being_deleted, _with_operation(0)),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("beginning", INITIAL_STATES)
def test_an_hour_of_reports_has_bounded_effects(watch: Watch, beginning: str, seed: int) -> None:
    """The status does not alternate, and errors have only the codes of the boot scripts."""
    begin, most = INITIAL_STATES[beginning]
    world = watch.world
    workspace = begin(world)
    machine = world.machine(workspace)
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


# ---- honest machines ----


@pytest.mark.parametrize("since_it_stopped", [timedelta(seconds=1), timedelta(hours=1)])
def test_a_machine_that_was_booted_by_hand_becomes_ready_by_its_own_report(
    watch: Watch, since_it_stopped: timedelta
) -> None:
    """It is told to repeat the report until a worker has seen that it runs; no person is needed."""
    world = watch.world
    workspace = _stopped(world)
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


def test_a_report_is_not_lost_if_a_person_asks_for_a_look_as_well(watch: Watch) -> None:
    """The report's look comes although a status request asks for one at the same moment."""
    world = watch.world
    workspace = _booted_by_hand(world)
    world.report(machine_of(world, workspace).report(ReportEvent.READY))

    world.pass_time(SECOND)

    assert world.workspace(workspace.id).status is Status.READY


def test_a_container_that_has_recovered_is_ready_at_the_next_start(watch: Watch) -> None:
    """The machine repeats its report until it counts; then a START needs no boot."""
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
    assert answers == [READY_DISBELIEVED_FOR - timedelta(seconds=30 * nth) for nth in range(1, 10)]
    assert world.workspace(workspace.id).status is Status.ERROR
    calls = len(world.machines.calls)

    world.start("alice", workspace.id)
    world.run()

    assert world.workspace(workspace.id).status is Status.READY
    assert len(world.machines.calls) == calls


def test_a_machine_that_fails_again_is_booted_by_the_next_start(watch: Watch) -> None:
    """The last report counts, even in ERROR: a failed container never counts as READY."""
    world = watch.world
    workspace = world.ready()
    machine = machine_of(world, workspace)
    world.report(machine.report(ReportEvent.FAILED, "CONTAINER_ENDS", "It keeps ending."))
    world.pass_time(READY_DISBELIEVED_FOR)
    world.report(machine.report(ReportEvent.READY))
    world.report(machine.report(ReportEvent.FAILED, "CONTAINER_ENDS", "It keeps ending."))
    generation = world.workspace(workspace.id).generation

    world.start("alice", workspace.id)
    world.run()

    after = world.workspace(workspace.id)
    assert (after.status, after.generation) == (Status.READY, generation + 1)
