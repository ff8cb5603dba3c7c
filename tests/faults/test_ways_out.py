"""Walks over every state that a workspace can reach, with the ways out by DELETE and START."""

import copy
import itertools
import logging
import re
import threading
import types
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from shared.domain import drift, steps
from shared.domain.deleted import DeletedWorkspace
from shared.domain.drift import MACHINE_NOT_READY, ObservedState, observed_state
from shared.domain.errors import HubError
from shared.domain.events import Event
from shared.domain.instance import (
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    DeleteSnapshot,
    Disk,
    Fault,
    FaultKind,
    InsertInstance,
    InstanceState,
    LabelDisk,
    LabelInstance,
    Place,
    RefreshMetadata,
    ResizeDisk,
    ResumeInstance,
    SnapshotStatus,
    StartedCall,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from shared.domain.jobs import Job
from shared.domain.lifecycle import NewMachine
from shared.domain.policy import Policy
from shared.domain.renewal import why_too_old
from shared.domain.reports import Report, ReportEvent
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import Operation, OperationKind, Owner, Phase, Status, Workspace
from shared.ports import Stored
from shared.usecases import advance_operation
from shared.usecases.record_dead_letter import record_dead_letter
from tests.fakes.clock import SettableClock
from tests.fakes.jobs import Delivery, FakeJobs
from tests.fakes.machines import (
    HOME_GB,
    Durations,
    FakeInstance,
    FakeMachines,
    GuestMishap,
    Mishap,
    fault,
)
from tests.fakes.records import a_snapshot, a_workspace
from tests.fakes.store import MemoryWorkspaceStore
from tests.fakes.world import World, place_of
from tests.faults.ways_out import (
    ADVICE,
    OWNER,
    POLICY,
    check_way_out_by_delete,
    check_way_out_by_start,
    check_way_out_by_undelete,
    largest_home_gb,
    record,
    release_homes,
)
from tests.unit.domain.state_table import PHASES, TOO_OLD

pytestmark = pytest.mark.timeout(1800)  # all tests of a walk share it

FOREVER = 1000
LARGER = NewMachine(home_disk_gb=2 * HOME_GB)
MOST_STATES = 50_000  # never reached: the walk ends by itself

NEED_CAPACITY = {InsertInstance, StartInstance, ResumeInstance}
OF_CAPACITY = {FaultKind.STOCK_OUT, FaultKind.QUOTA}  # only calls that need capacity get these
# Refusals without end: the first is retried until the deadline, the second for less time.
LASTING: dict[type[Command], tuple[FaultKind, ...]] = {
    DeleteDisk: (FaultKind.IN_USE, FaultKind.PERMISSION)
}
ELSEWHERE = ("us-central1-a", "us-central1-b")  # zones to which somebody may move a machine
SHOWS_LATER = {Mishap.OPERATION_LOST, Mishap.SLOW}


class State(NamedTuple):
    """All that distinguishes states: what decisions depend on, and what Compute has."""

    status: str
    error: str
    operation: str
    phase: str
    failed: str
    zones_tried: int
    home_bound: bool
    switched: bool
    moves: bool
    purges: bool
    copied: bool
    source: str
    memory_is_ready: bool
    recorded: bool
    machine: ObservedState
    leaving: bool
    ours: bool
    up: bool
    current: bool
    disk: str
    cleaning: bool
    remade: bool
    renews: bool
    renamed: bool
    undone: bool
    held: bool
    elsewhere: int
    homes_elsewhere: int
    names_taken: bool
    old: bool
    touched: bool

    @property
    def alike(self) -> "State":
        """The state with its error reduced to what decisions depend on."""
        return self._replace(
            error=self.error if self.error in {"", MACHINE_NOT_READY} else "another"
        )


@dataclass(frozen=True, eq=False)
class Node:
    """A world on the walk, its state, and the acts that led there.

    ``touched`` means that somebody has changed machine or home disk as the Hub never does, that a
    RESTORE or an ARCHIVE has ended, or that the home has grown. From then on no further fault is
    tried, because the number of states would not end.
    """

    world: World
    state: State
    path: tuple[str, ...]

    @property
    def touched(self) -> bool:
        """Whether somebody has done so."""
        return self.state.touched


# ---- worlds ----


def state_of(world: World, *, touched: bool = False) -> State:
    """Return the state of a world's workspace, machines and disks."""
    ws = record(world)
    assert ws is not None
    operation, machine = ws.operation, world.machine(ws)
    home = Place(ws.zone, ws.disk_name)
    code = ws.error.code if ws.error else ""
    seen = observed_state(world.machines.peek(place_of(ws)))
    deletes = operation is not None and operation.kind is OperationKind.DELETE
    takes = operation is not None and operation.kind in steps.TAKING_HOME
    return State(
        status=ws.status,
        # During an operation only a STOP uses the earlier error, and only whether there was one.
        error=code
        if operation is None
        else "another"
        if code and operation.kind is OperationKind.STOP
        else "",
        operation=operation.kind if operation else "",
        phase=operation.phase if operation else "",
        failed=_failed(operation),
        zones_tried=len(operation.zones_tried) if operation else 0,
        home_bound=ws.home_disk is not None,
        switched=operation is not None and operation.former_home is not None,
        moves=operation is not None and operation.moves,
        purges=operation is not None and operation.purge,
        copied=takes and operation is not None and operation.last_copy is not None,
        source=_source_of(world, ws),
        memory_is_ready=ws.memory_is_ready,
        recorded=ws.instance_id is not None,
        machine=seen,
        leaving=machine is not None and machine.deleting,
        ours=machine is not None and machine.id == ws.instance_id,
        up=machine is not None
        and machine.reported
        and seen in {ObservedState.RUNNING, ObservedState.SUSPENDED},
        current=machine is not None
        and machine.generation == ws.generation
        and seen is ObservedState.RUNNING,
        disk=_use_of(world.machines.peek_disk(home), ws),
        cleaning=operation is not None and operation.failure is not None and operation.attempt > 0,
        remade=operation is not None and operation.remade,
        renews=operation is not None and operation.renews,
        renamed=operation is not None and operation.renamed,
        undone=operation is not None and operation.suspends_undone > 0,
        held=takes and operation is not None and operation.last_fault_kind == FaultKind.IN_USE,
        elsewhere=sum(
            place.name == ws.instance_name and place.zone != ws.zone
            for place in world.machines.instances
        ),
        homes_elsewhere=sum(
            place.name == ws.disk_name and place.zone != ws.zone for place in world.machines.disks
        ),
        names_taken=_boot_disk(ws, 1) in world.machines.disks,
        old=not deletes and _is_old(world, ws),
        touched=touched,
    )


def _failed(operation: Operation | None) -> str:
    """Return why an operation has failed, as far as its way on depends on that."""
    failure = operation.failure if operation else None
    return "" if failure is None else failure.code if failure.code in ADVICE else "another"


def _stage_of(world: World) -> tuple[str, str, str] | None:
    """Return the operation, its phase and why it has failed; None without an operation."""
    ws = record(world)
    operation = ws.operation if ws else None
    return (operation.kind, operation.phase, _failed(operation)) if operation else None


def _use_of(disk: Disk | None, ws: Workspace) -> str:
    """Return by whom a disk is used."""
    if disk is None:
        return "absent"
    return "free" if not disk.users else "ours" if disk.users == (ws.instance_name,) else "held"


def _source_of(world: World, ws: Workspace) -> str:
    """Return whether the snapshot is there that the home is made from; empty without one."""
    names = {source.resource_name for source in ws.sources}
    if not names:
        return ""
    return "there" if all(map(world.machines.peek_snapshot, names)) else "gone"


def _is_old(world: World, ws: Workspace) -> bool:
    """Return whether the workspace's machine would be replaced rather than booted."""
    machine = world.machines.peek(place_of(ws))
    return (
        machine is not None and why_too_old(machine.created_at, world.clock(), POLICY) is not None
    )


def _boot_disk(ws: Workspace, boots: int) -> Place:
    """Return the place of the boot disk of a later boot."""
    return Place(ws.zone, f"{ws.instance_name}-{ws.generation + boots}")


def _copy_function(function: types.FunctionType, memo: dict[int, Any]) -> types.FunctionType:
    """Copy a function that is due in a fake, with the objects in its closure."""
    if not function.__closure__:
        return function
    cells = tuple(types.CellType() for _ in function.__closure__)
    copied = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, cells
    )
    memo[id(function)] = copied
    for cell, original in zip(cells, function.__closure__, strict=True):
        cell.cell_contents = copy.deepcopy(original.cell_contents, memo)
    return copied


def _copy_object(each: Any, memo: dict[int, Any]) -> Any:
    """Copy an object with its attributes."""
    copied = memo[id(each)] = object.__new__(type(each))
    for name in getattr(each, "__slots__", None) or each.__dict__:
        value = getattr(each, name)
        setattr(copied, name, value if type(value) in _NEVER_CHANGE else copy.deepcopy(value, memo))
    return copied


def _copy_dict(each: dict[Any, Any], memo: dict[int, Any]) -> dict[Any, Any]:
    return {
        key: value if type(value) in _NEVER_CHANGE else copy.deepcopy(value, memo)
        for key, value in each.items()
    }


def _same(each: Any, _memo: dict[int, Any]) -> Any:
    return each


# Copies of a world share what never changes, and continue the same numbers.
_NEVER_CHANGE: frozenset[type] = frozenset(
    [
        *(str, int, float, bool, bytes, type(None), datetime, timedelta, InstanceState),
        *(itertools.count, type(threading.RLock())),
        *(Workspace, Owner, Stored, Event, Job, Delivery, Policy, Report, StartedCall, Fault),
        *(Place, Durations, InsertInstance, RefreshMetadata, LabelInstance, LabelDisk, Snapshot),
        *(StartInstance, ResumeInstance, SuspendInstance, StopInstance, DeleteInstance, DeleteDisk),
        *(CreateSnapshot, DeleteSnapshot, SnapshotStatus, DeletedWorkspace, ResizeDisk),
    ]
)
_COPIERS: dict[type, Callable[[Any, dict[int, Any]], Any]] = {
    types.FunctionType: _copy_function,
    dict: _copy_dict,
    set: lambda each, _memo: set(each),
    **dict.fromkeys((World, FakeMachines, FakeInstance, FakeJobs), _copy_object),
    **dict.fromkeys((MemoryWorkspaceStore, SettableClock), _copy_object),
    **dict.fromkeys(_NEVER_CHANGE, _same),
}


def copy_of(world: World) -> World:
    """Return a copy of a world without planned faults; both worlds lose their history."""
    world.machines.calm()
    for history in (
        world.store.events,
        world.machines.calls,
        world.provisioning.sent,
        world.operations.sent,
    ):
        history.clear()
    world.provisioning.delivered.clear()
    world.operations.delivered.clear()
    return copy.deepcopy(world)


@contextmanager
def copyable_worlds() -> Iterator[None]:
    """Make worlds copyable, give their records the same ids in each run, and log nothing."""
    numbers = itertools.count(1)

    def next_id() -> uuid.UUID:
        number = next(numbers)
        return uuid.UUID(int=number << 64 | number, version=4)  # a snapshot's name has the end

    ids = mock.patch.object(uuid, "uuid4", next_id)
    logging.disable()
    try:
        with mock.patch.dict("copy._deepcopy_dispatch", _COPIERS), ids:
            yield
    finally:
        logging.disable(logging.NOTSET)


# ---- acts ----


class Walk(Enum):
    """Two walks, since one of all would last for too long.

    The usual one has no archives, moves and growths. The other one has all faults while one of
    these is under way, and otherwise only what leads to them, or on from them.
    """

    USUAL = "usual"
    OF_HOMES_THAT_GO = "of homes that go"


HOMES_GO = {"archive", "move", "start, a larger home"}
LEADS = HOMES_GO | {"start", "stop", "delete", "stop_by_hand", "delete_by_hand", "deadline passes"}


def _takes_or_grows(ws: Workspace) -> bool:
    """Say whether an ARCHIVE, a move or a growth is under way."""
    operation = ws.operation
    if operation is None:
        return False
    grows = operation.home_gb is not None
    return operation.kind is OperationKind.ARCHIVE or operation.moves or grows


def go_on(world: World, past: Callable[[State], bool]) -> None:
    """Let time pass until the state satisfies ``past``, or nothing more is to come."""
    world.run(until=lambda: record(world) is None or past(state_of(world)), or_until_at_rest=True)


def successors(node: Node, walk: "Walk") -> Iterator[tuple[str, World]]:
    """Yield what can happen next on a walk: its name, and the world after it."""
    ws, was = record(node.world), node.state._replace(touched=False)
    assert ws is not None
    only_leads = walk is Walk.OF_HOMES_THAT_GO and not _takes_or_grows(ws)
    world = copy_of(node.world)
    for name, act in _acts(node.world, ws, touched=node.touched):
        if name in HOMES_GO if walk is Walk.USUAL else only_leads and name not in LEADS:
            continue
        try:
            act(world)
        except HubError:  # a refusal changes nothing
            continue
        yield name, world
        world = copy_of(node.world)
    if node.world.at_rest:
        return
    world = copy_of(node.world)
    go_on(world, lambda now: now != was)
    calls = [type(command) for command, _ in world.machines.calls]
    yield "time passes", world
    if node.touched or only_leads:
        return
    for command in calls[:1]:
        yield from _calls_that_go_wrong(node, command)
    if _boots(world) and not _boots(node.world):
        for guest in GuestMishap:
            world = copy_of(node.world)
            world.machines.script_boot(guest)
            go_on(world, lambda now: now.machine is ObservedState.RUNNING and now.up)
            yield f"a boot that is {guest.name}", world


def _calls_that_go_wrong(node: Node, command: type[Command]) -> Iterator[tuple[str, World]]:
    """Yield the effect of each mishap, and of a refusal that lasts until the deadline."""
    kinds = [kind for kind in FaultKind if command in NEED_CAPACITY or kind not in OF_CAPACITY]
    mishaps = [(Mishap.REFUSED, kind) for kind in kinds]
    mishaps += [
        (mishap, FaultKind.INVALID)
        for mishap in Mishap
        if mishap not in {Mishap.REFUSED, Mishap.FAILS_LATER}
        and (mishap is not Mishap.UPLOAD_FAILS or command is CreateSnapshot)
    ]
    for mishap, kind in mishaps:
        world = copy_of(node.world)
        world.machines.script(command, mishap, kind)
        _go_on_to_a_call(world)
        if mishap in SHOWS_LATER and record(world) is not None:
            _go_on_from_phase(world)
        yield f"{command.__name__} {mishap.name} {kind.name}", world
    yield from _calls_that_fail_later(node, command, kinds)
    for kind in LASTING.get(command, (FaultKind.PERMISSION,)):
        world = copy_of(node.world)
        world.machines.script(command, Mishap.REFUSED, kind, times=FOREVER)
        _go_on_from_phase(world)
        yield f"{command.__name__} REFUSED {kind.name} for ever", world


def _calls_that_fail_later(
    node: Node, command: type[Command], kinds: list[FaultKind]
) -> Iterator[tuple[str, World]]:
    """Yield what happens after an accepted call whose operation ends in each kind of fault.

    Until the fault shows, all kinds are the same world: it is played once.
    """
    world = copy_of(node.world)
    world.machines.script(command, Mishap.FAILS_LATER, kinds[0])
    _go_on_to_a_call(world)
    was = _stage_of(world)
    if record(world) is not None:
        world.run(
            until=lambda: (
                world.machines.last_operation.fault is not None or _stage_of(world) != was
            ),
            or_until_at_rest=True,
        )
    if world.machines.last_operation.fault is None:  # the Hub went on before the fault showed
        yield f"{command.__name__} FAILS_LATER", world
        return
    for kind in kinds:
        after = copy_of(world)
        after.machines.last_operation.fault = fault(kind)
        if _stage_of(after) == was:
            _go_on_from_phase(after)
        yield f"{command.__name__} FAILS_LATER {kind.name}", after


def _go_on_to_a_call(world: World) -> None:
    world.run(until=lambda: bool(world.machines.calls))


def _go_on_from_phase(world: World) -> None:
    was = _stage_of(world)
    world.run(until=lambda: _stage_of(world) != was, or_until_at_rest=True)


def _boots(world: World) -> bool:
    ws = record(world)
    machine = world.machine(ws) if ws else None
    return machine is not None and machine.state is InstanceState.RUNNING and not machine.reported


def _acts(
    world: World, ws: Workspace, *, touched: bool
) -> Iterator[tuple[str, Callable[[World], object]]]:
    """Yield what people, the machine and the platform can do."""
    another_type = POLICY.machine_types[ws.machine_type == POLICY.machine_types[0]]
    yield "start", lambda w: w.start(OWNER, ws.id)
    if ws.operation is None and _is_old(world, ws):  # only a START depends on the age
        return
    if not touched:
        yield "start, a new machine", lambda w: w.start(OWNER, ws.id, NewMachine(rebuild=True))
        yield (
            "start, another image",
            lambda w: w.start(OWNER, ws.id, NewMachine(image_tag=f"v{ws.generation}")),
        )
        yield (
            "start, another machine type",
            lambda w: w.start(OWNER, ws.id, NewMachine(machine_type=another_type)),
        )
    if not touched:
        yield "stop", lambda w: w.stop(OWNER, ws.id)
        yield "snapshot", lambda w: w.snapshot(OWNER, ws.id)
        if world.machines.peek_disk(_home(ws)) is not None:
            yield "restore", lambda w: _restore(w, ws)
    if not touched and ws.operation is None and ws.error is None:
        yield "archive", lambda w: w.archive(OWNER, ws.id)
        yield "move", lambda w: w.start(OWNER, ws.id, NewMachine(zone=_other_zone(ws)))
        if world.machines.peek_disk(_home(ws)) is not None:
            yield "start, a larger home", lambda w: w.start(OWNER, ws.id, LARGER)
    yield "delete", lambda w: w.delete(OWNER, ws.id)
    if not touched:
        yield "purge", lambda w: w.delete(OWNER, ws.id, purge=True)
    if ws.operation is None:
        yield "look", _look
    else:
        deadline = ws.operation.deadline_at
        yield "deadline passes", lambda w: _go_on_late(w, deadline)
        if not touched:
            yield "no answer until the deadline", lambda w: _no_answers(w, deadline)
    if touched:
        return
    if world.provisioning.waiting or world.operations.waiting:
        yield "dead letter", _dead_letter
    begins = ws.operation is None or (
        ws.operation.phase in FIRST_PHASES and ws.operation.failure is None
    )
    if ws.sources and _may_read_source(world, ws):
        name = ws.sources[0].resource_name
        yield f"{TOUCHED}source deleted", lambda w: w.machines.delete_snapshot_by_hand(name)
    if begins and ws.home_disk is not None and ws.error is None:
        for name, touch in TOUCHES.items():
            yield f"{TOUCHED}{name}", _touch_all(touch, ws)
    machine, place = world.machine(ws), place_of(ws)
    if machine is None:
        return
    off = ws.operation is None and (ws.status, machine.state) == (
        Status.SUSPENDED,
        InstanceState.TERMINATED,
    )
    if off and ws.error is None:
        yield "grows old", lambda w: w.machines.make_old_by_hand(place, TOO_OLD)
    by_hand: dict[InstanceState, list[Callable[[FakeMachines, Place], None]]] = {
        InstanceState.RUNNING: [
            FakeMachines.stop_by_hand,
            FakeMachines.suspend_by_hand,
            FakeMachines.fail_host,
        ],
        InstanceState.SUSPENDED: [FakeMachines.start_by_hand],
        InstanceState.TERMINATED: [FakeMachines.start_by_hand],
    }
    for done in (FakeMachines.delete_by_hand, *by_hand.get(machine.state, [])):
        yield done.__name__, _touching(done, place)
    if machine.reported and machine.state is InstanceState.RUNNING:
        for event in ReportEvent:
            yield f"reports {event}", _reporting(machine.report(event))
        yield (
            "reports that its home is missing",
            _reporting(machine.report(ReportEvent.FAILED, "DISK_MISSING", "None.")),
        )


def _may_read_source(world: World, ws: Workspace) -> bool:
    """Say whether the home may yet be made from its snapshot: it is not there, or may be deleted.

    Otherwise it does not matter whether the snapshot is there.
    """
    makes_it = {OperationKind.CREATE, OperationKind.RESTORE}
    creates = ws.operation is not None and ws.operation.kind in makes_it
    return creates or world.machines.peek_disk(_home(ws)) is None


def _other_zone(ws: Workspace) -> str:
    return next(zone for zone in POLICY.zones if zone != ws.zone)


def _restore(world: World, ws: Workspace) -> None:
    """Ask for a RESTORE of a snapshot that has something else than the home by now."""
    source, home = a_snapshot(ws), _home(ws)
    world.machines.make_snapshot_by_hand(source.place.name, home, {})
    world.store.put_snapshots(source)
    world.restore(OWNER, ws.id, source.id)
    world.machines.write(home, f"what was written since {source.id}")


def _touch_all(
    touch: Callable[[FakeMachines, Workspace], None], ws: Workspace
) -> Callable[[World], None]:
    return lambda world: touch(world.machines, ws)


def _delete_home(machines: FakeMachines, ws: Workspace) -> None:
    machines.delete_by_hand(place_of(ws))
    machines.delete_disk_by_hand(_home(ws))


def _move_once(machines: FakeMachines, ws: Workspace) -> None:
    machines.move_by_hand(place_of(ws), ELSEWHERE[0])


def _move_to_two(machines: FakeMachines, ws: Workspace) -> None:
    machines.copy_by_hand(place_of(ws), ELSEWHERE[0])
    _move_once_more(machines, ws)


def _move_once_more(machines: FakeMachines, ws: Workspace) -> None:
    machines.move_by_hand(place_of(ws), ELSEWHERE[1])


def _take_names(machines: FakeMachines, ws: Workspace) -> None:
    for boots in (1, 2):
        if machines.peek_disk(_boot_disk(ws, boots)) is None:
            machines.make_disk_by_hand(_boot_disk(ws, boots), {})


def _home(ws: Workspace) -> Place:
    return Place(ws.zone, ws.disk_name)


TOUCHED = "by hand: "
FIRST_PHASES = {Phase.DELETE_INSTANCE}
# What people do in Compute that the Hub never does.
TOUCHES: dict[str, Callable[[FakeMachines, Workspace], None]] = {
    "home detached": lambda machines, ws: machines.detach_disk_by_hand(_home(ws)),
    "home held": lambda machines, ws: machines.hold_disk_by_hand(_home(ws)),
    "machine and home deleted": _delete_home,
    "machine deleted but for its boot disk": lambda machines, ws: machines.delete_by_hand(
        place_of(ws), keep_boot_disk=True
    ),
    "moved": _move_once,
    "moved to two zones": _move_to_two,
    "copied": lambda machines, ws: machines.copy_by_hand(place_of(ws), ELSEWHERE[0]),
    "names taken": _take_names,
}


def _touching(
    touch: Callable[[FakeMachines, Place], None], place: Place
) -> Callable[[World], None]:
    return lambda world: touch(world.machines, place)


def _reporting(report: Report) -> Callable[[World], None]:
    return lambda world: world.report(report)


def _look(world: World) -> None:
    ws = record(world)
    assert ws is not None
    world.clock.advance(timedelta(seconds=10))  # looks within this time have one job's name
    world.look(ws)
    was = state_of(world)
    go_on(world, lambda now: now != was)


def _go_on_late(world: World, deadline: datetime) -> None:
    """Do the next job after the deadline."""
    world.clock.advance_to(deadline)
    _go_on_from_phase(world)


def _no_answers(world: World, deadline: datetime) -> None:
    """Let Compute answer nothing until the operation is over."""
    world.machines.unanswered_reads = FOREVER
    _go_on_late(world, deadline)


def _dead_letter(world: World) -> None:
    queue = world.provisioning if world.provisioning.waiting else world.operations
    job = queue.take(queue.waiting[0])
    record_dead_letter(world.records, world.policy, job, "it was refused too often.")


# ---- the walk ----


def new_world(*, fork: bool = False) -> World:
    """Return a world in which a workspace was asked for, with an empty home or as a fork.

    As soon as the fork is asked for, the home of which the snapshot was taken is gone, with its
    workspace.
    """
    world = World(policy=POLICY)
    if not fork:
        world.create(OWNER, "one")
        return world
    forked = a_workspace(name="forked", owner_id=OWNER)
    source = a_snapshot(forked)
    home = Place(source.zone, source.disk_name)
    world.machines.make_disk_by_hand(home, {})
    world.machines.make_snapshot_by_hand(source.place.name, home, {})
    world.machines.delete_disk_by_hand(home)
    world.store.put(forked)
    world.store.put_snapshots(source)
    world.create(OWNER, "one", from_snapshot=source.id)
    world.store.commit(workspaces=[(world.store.get(forked.id), None)])
    return world


def states_on(walk: Walk) -> Iterator[Node]:
    """Yield each state that can be reached on a walk, with a shortest path to it."""
    waiting = deque(
        Node(world, state_of(world), (name,))
        for name, world in (("create", new_world()), ("fork", new_world(fork=True)))
    )
    found, gone_on_from = {node.state for node in waiting}, set[State]()
    while waiting:
        node = waiting.popleft()
        yield node
        if node.state.alike in gone_on_from:
            continue
        gone_on_from.add(node.state.alike)
        for name, after in successors(node, walk):
            if record(after) is None:
                continue
            touched = node.touched or _is_touched(after, name) or _takes_over(node.world, after)
            state = state_of(after, touched=touched)
            if state not in found:
                found.add(state)
                waiting.append(Node(after, state, (*node.path, name)))
                assert len(found) < MOST_STATES, "the walk does not end"


def _is_touched(after: World, name: str) -> bool:
    """Say whether no further fault is tried after an act.

    Nor is one after the end of a RESTORE or an ARCHIVE, which leave what no other operation does,
    or once the home has grown, which only decides on whether it grows again.
    """
    ws = record(after)
    if ws is None or name.startswith(TOUCHED):
        return name.startswith(TOUCHED)
    is_copy = ws.home_source is not None and ws.home_source.is_of(ws.id)
    grown = largest_home_gb(after) > HOME_GB
    return bool(ws.old_homes) or (ws.operation is None and is_copy) or grown


def _takes_over(before: World, after: World) -> bool:
    """Say whether an act has replaced an ARCHIVE, a move or a growth by another operation.

    What that does from then on depends on nothing that another way there does not show, too.
    """
    was, now = record(before), record(after)
    if was is None or was.operation is None or now is None or now.operation is None:
        return False
    return was.operation.id != now.operation.id and _takes_or_grows(was)


@dataclass(frozen=True)
class Walked:
    """A state, a shortest path to it, and what fails on its ways out."""

    state: State
    path: tuple[str, ...]
    delete: str | None
    undelete: str | None
    start: str | None


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(each, id=each.value, marks=pytest.mark.xdist_group(each.value))
        for each in Walk
    ],
)
def walk(request: pytest.FixtureRequest) -> Walk:
    """Each walk, on a worker of its own."""
    walk: Walk = request.param
    return walk


@pytest.fixture(scope="module")
def walked(walk: Walk) -> list[Walked]:
    """Walk all states, and try the ways out of each without faults.

    Each delivery does one step, as one that dies after its commit, so that the walk stays at the
    states between the steps of a task too.
    """
    with copyable_worlds(), mock.patch.object(advance_operation, "MOST_STEPS", 1):
        return [
            Walked(
                node.state,
                node.path,
                failure_of(check_way_out_by_delete, node.world),
                failure_of(check_way_out_by_undelete, node.world),
                failure_of(check_way_out_by_start, node.world),
            )
            for node in states_on(walk)
        ]


def failure_of(check: Callable[[World], None], world: World) -> str | None:
    """Return the failure of a check, or None."""
    try:
        ended = copy_of(world)
        release_homes(ended)
        check(ended)
    except (AssertionError, HubError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def test_delete_is_a_way_out_of_every_state(walked: list[Walked]) -> None:
    """It is accepted at once, and leaves no record, machine or disk, and nothing at the owner."""
    assert [each for each in walked if each.delete] == []


def test_what_was_deleted_in_any_state_can_be_taken_back(walked: list[Walked]) -> None:
    """It leaves no machine or disk, and is there again with what was in its home, if it had one."""
    assert [each for each in walked if each.undelete] == []


def test_start_is_a_way_out_of_every_state(walked: list[Walked]) -> None:
    """It leads to READY with the record's machine, perhaps after the running operation."""
    assert [each for each in walked if each.start] == []


def test_the_walks_visit_every_status_phase_and_error(walk: Walk, walked: list[Walked]) -> None:
    """Each status, each phase of each operation, and each error of the domain, on its walk."""
    assert {each.state.status for each in walked} == set(Status)
    known = {
        *(phase for phase, _ in steps.TABLE),
        *steps.DISK_TABLE,
        *(phase for phase, _ in steps.SNAPSHOT_TABLE),
        *steps.GROWING_PHASES,
    }
    assert known == set(Phase)
    under_way = {
        (each.state.operation, bool(each.state.failed), each.state.phase)
        for each in walked
        if each.state.operation
    }
    legal = {
        (kind, failed, phase)
        for kind, failed, phases in PHASES.values()
        for phase in phases
        if walk is _walk_of(kind, phase)
    }
    # A START leaves a zone only before it has made a disk there, so it finds none to delete.
    assert under_way >= legal - {(OperationKind.START, False, Phase.AWAIT_DISK_ABSENT)}
    timed_out = {f"{OperationKind.ARCHIVE}_TIMED_OUT"}
    codes = known_codes() - timed_out if walk is Walk.USUAL else timed_out
    assert {each.state.error for each in walked} >= codes


def _walk_of(kind: OperationKind, phase: Phase) -> Walk:
    """Return the walk on which a phase of an operation is visited."""
    moves = kind is OperationKind.START and phase in steps.SNAPSHOT_PHASES
    if kind is OperationKind.ARCHIVE or moves or phase in steps.GROWING_PHASES:
        return Walk.OF_HOMES_THAT_GO
    return Walk.USUAL


def known_codes() -> set[str]:
    """Return the codes in the modules that end operations and observe machines."""
    domain = Path(str(drift.__file__)).parent
    modules = [domain / "lifecycle.py", domain / "drift.py", *domain.glob("steps/[!_]*.py")]
    code = "\n".join(module.read_text(encoding="utf-8") for module in modules)
    literal = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', code))
    timed_out = re.findall(r'f"\{kind\}(_[A-Z_]+)"', code)
    assert timed_out
    return literal | {f"{kind}{end}" for kind in OperationKind for end in timed_out}
