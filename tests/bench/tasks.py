"""Counts what an operation of each kind costs the queue and Compute, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from localcloud.catalogue import read_catalogue
from shared.domain.lifecycle import NewMachine
from shared.domain.workspace import Workspace
from tests.fakes.machines import Durations
from tests.fakes.world import World, place_of, shut_down_by_hand, suspended

OWNER = "alice"
KEEPS = "DELETE that keeps a copy"  # which waits for an upload
# Compute's default quota of calls of one kind (source: its documentation, "API rate limits").
CALLS_OF_A_KIND_PER_MINUTE = 1500


# The least and the most that Compute usually takes: see ``UsualTimes``.
QUICK = Durations(
    insert=timedelta(seconds=10),
    start=timedelta(seconds=10),
    resume=timedelta(seconds=8),
    suspend=timedelta(seconds=20),
    stop=timedelta(seconds=15),
    delete=timedelta(seconds=30),
    set_metadata=timedelta(seconds=2),
    delete_disk=timedelta(seconds=2),
    boot=timedelta(seconds=40),
)
SLOW = Durations(
    insert=timedelta(seconds=15),
    start=timedelta(seconds=15),
    resume=timedelta(seconds=10),
    suspend=timedelta(seconds=25),
    stop=timedelta(seconds=30),
    delete=timedelta(seconds=60),
    set_metadata=timedelta(seconds=4),
    delete_disk=timedelta(seconds=4),
    boot=timedelta(seconds=60),
)


@dataclass(frozen=True)
class Cost:
    """What one operation costs.

    Attributes:
        tasks: deliveries to a worker, of Pub/Sub and Cloud Tasks, including those of jobs that have
            become obsolete.
        reads: the reads of instances and disks in Compute.
        calls: the calls that change something there.
    """

    tasks: int
    reads: int
    calls: int


def _none(_world: World) -> None:
    return None


def _gone(world: World) -> Workspace:
    workspace = world.ready(OWNER)
    world.machines.delete_by_hand(place_of(workspace))
    world.look(workspace)
    world.run()
    return workspace


def _start(world: World, workspace: Workspace | None) -> None:
    assert workspace is not None
    world.start(OWNER, workspace.id)


def _rebuild(world: World, workspace: Workspace | None) -> None:
    assert workspace is not None
    world.start(OWNER, workspace.id, NewMachine(rebuild=True))


def _stop(world: World, workspace: Workspace | None) -> None:
    assert workspace is not None
    world.stop(OWNER, workspace.id)


def _delete(world: World, workspace: Workspace | None) -> None:
    assert workspace is not None
    world.delete(OWNER, workspace.id)


def _purge(world: World, workspace: Workspace | None) -> None:
    assert workspace is not None
    world.delete(OWNER, workspace.id, purge=True)


def _create(world: World, _: Workspace | None) -> None:
    world.create(OWNER, "one")


_Prepare = Callable[[World], Workspace | None]
_Ask = Callable[[World, Workspace | None], None]
OPERATIONS: Mapping[str, tuple[_Prepare, _Ask]] = MappingProxyType(
    {
        "CREATE": (_none, _create),
        "STOP": (World.ready, _stop),
        "START, suspended": (suspended, _start),
        "START, off": (shut_down_by_hand, _start),
        "START, gone": (_gone, _start),
        "START, rebuild": (World.ready, _rebuild),
        "DELETE, running": (World.ready, _purge),
        "DELETE, suspended": (suspended, _purge),
        KEEPS: (World.ready, _delete),
    }
)


def cost_of(name: str, durations: Durations) -> Cost:
    """Return what the operation costs if nothing goes wrong."""
    world = World(durations=durations)
    prepare, ask = OPERATIONS[name]
    workspace = prepare(world)
    queues = (world.provisioning, world.operations)
    world.run()
    for queue in queues:
        queue.delivered.clear()
    world.machines.reads.clear()
    world.machines.calls.clear()
    ask(world, workspace)
    world.run()
    reads = world.machines.reads
    return Cost(
        tasks=sum(len(queue.delivered) for queue in queues),
        reads=reads["get"] + reads["get_disk"],
        calls=len(world.machines.calls),
    )


def measure() -> dict[str, dict[str, float]]:
    """Return, for each operation, its tasks and reads, and how many a minute both allow."""
    dispatch = read_catalogue()["advance_operation"].dispatch
    assert dispatch is not None
    tasks_per_minute = dispatch["max_per_second"] * 60
    rows = {}
    for name in OPERATIONS:
        quick, slow = cost_of(name, QUICK), cost_of(name, SLOW)
        rows[name] = {
            "tasks_if_quick": quick.tasks,
            "tasks_if_slow": slow.tasks,
            "reads_if_slow": slow.reads,
            "calls": slow.calls,
            "per_minute_by_queue": round(tasks_per_minute / slow.tasks),
            "per_minute_by_reads": round(CALLS_OF_A_KIND_PER_MINUTE / slow.reads),
        }
    return rows
