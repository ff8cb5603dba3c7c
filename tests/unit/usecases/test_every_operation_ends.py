"""Whatever Compute answers, an operation ends by its deadline, and START or DELETE works then."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import product

import pytest

from shared.domain.errors import HubError, MachineFaultError, UnavailableError
from shared.domain.instance import (
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    Disk,
    DiskSnapshot,
    FaultKind,
    InsertInstance,
    Instance,
    OperationState,
    Place,
    RefreshMetadata,
    ResumeInstance,
    StartedCall,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from shared.domain.lifecycle import NewMachine
from shared.domain.ownership import labels_of
from shared.domain.policy import Deadlines, Policy
from shared.domain.reports import ReportEvent
from shared.domain.steps import TAKING_HOME
from shared.domain.workspace import MAKING, OperationKind, Status, Workspace
from shared.ports import Machines
from tests.fakes.machines import INSTALLATION, FakeMachines, GuestMishap, Mishap, fault
from tests.fakes.records import a_snapshot
from tests.fakes.world import World, place_of
from tests.faults.ways_out import (
    OWNER,
    check_way_out_by_delete,
    check_way_out_by_start,
    record,
    release_homes,
)

_MOST = timedelta(minutes=6)
POLICY = Policy(
    zones=("us-west1-a", "us-west1-b"),
    deadlines=Deadlines(
        create=_MOST,
        start=_MOST,
        stop=_MOST,
        delete=_MOST,
        snapshot=_MOST,
        restore=2 * _MOST,
        archive=2 * _MOST,
    ),
    rights_patience=_MOST / 2,
    changes_per_minute=10**6,
)
MIXTURES = 200
BOOTS = 10  # more than any operation needs
A_WHILE = _MOST / 3
EVER = timedelta(days=365)
HOLDER = "instances/somebody-elses"
TOO_OFTEN = "Operation rate exceeded"  # what Compute says if it has made too many disks in vain


# ---- faults ----


class Trouble:
    """Decides how each call to Compute fails, for a time after the request."""

    def __init__(self, lasts: timedelta) -> None:
        self.lasts = lasts
        self.struck = 0

    def is_on(self, world: World) -> bool:
        """Return whether the trouble lasts; it concerns the running operation."""
        ws = record(world)
        return bool(ws and ws.operation and world.clock() <= ws.operation.requested_at + self.lasts)

    def at_read(self, _world: World) -> bool:
        """Return whether a read gets no answer."""
        return False

    def at_call(self, world: World, command: Command) -> tuple[Mishap, FaultKind] | None:
        """Return how a call fails, or None if it succeeds."""
        raise NotImplementedError


class OneFault(Trouble):
    """One kind of fault for one kind of call: at once, or at the end of its operation."""

    def __init__(
        self, command: type[object], mishap: Mishap, kind: FaultKind, lasts: timedelta
    ) -> None:
        super().__init__(lasts)
        self._strikes = command
        self._how = mishap, kind

    def at_call(self, world: World, command: Command) -> tuple[Mishap, FaultKind] | None:
        """Fail each call of that kind."""
        if not isinstance(command, self._strikes) or not self.is_on(world):
            return None
        self.struck += 1
        return self._how


class NoAnswer(Trouble):
    """Compute answers nothing."""

    def at_read(self, world: World) -> bool:
        """Answer no read."""
        return self.is_on(world)

    def at_call(self, world: World, _command: Command) -> tuple[Mishap, FaultKind] | None:
        """Answer no call."""
        return (Mishap.UNANSWERED, FaultKind.TRANSIENT) if self.is_on(world) else None


class Mixture(Trouble):
    """Any call and any boot may fail at random, and people change machine and disk in Compute."""

    def __init__(self, chance: random.Random, lasts: timedelta) -> None:
        super().__init__(lasts)
        self._chance = chance
        self._share = chance.choice((0.2, 0.6, 1.0))
        self._kinds = chance.sample(list(FaultKind), chance.randint(1, 4))

    def at_read(self, world: World) -> bool:
        """Answer some reads."""
        return self.is_on(world) and self._chance.random() < self._share / 4

    def at_call(self, world: World, _command: Command) -> tuple[Mishap, FaultKind] | None:
        """Fail some calls in any way, and some boots."""
        if not self.is_on(world):
            return None
        if self._chance.random() < self._share / 3:
            world.machines.script_boot(self._chance.choice(list(GuestMishap)))
        if self._chance.random() < self._share / 4:
            self._change_by_hand(world)
        if self._chance.random() > self._share:
            return None
        return self._chance.choice(list(Mishap)), self._chance.choice(self._kinds)

    def _change_by_hand(self, world: World) -> None:
        ws = record(world)
        assert ws is not None
        machine, home = place_of(ws), Place(ws.zone, ws.disk_name)
        acts: list[Callable[[], object]] = [
            lambda: world.machines.stop_by_hand(machine),
            lambda: world.machines.start_by_hand(machine),
            lambda: world.machines.delete_by_hand(machine),
            lambda: world.machines.delete_by_hand(machine, keep_boot_disk=True),
            lambda: world.machines.detach_disk_by_hand(home),
            lambda: world.machines.hold_disk_by_hand(home),
            lambda: world.machines.set_labels_by_hand(machine, {}),
            lambda: world.machines.set_disk_labels_by_hand(home, {}),
        ]
        self._chance.choice(acts)()


class TroubledMachines(Machines):
    """Compute with trouble in front of it."""

    def __init__(self, world: World, trouble: Trouble) -> None:
        self._world = world
        self._trouble = trouble

    @property
    def _read(self) -> FakeMachines:
        """Compute, for a read that is answered."""
        if self._trouble.at_read(self._world):
            raise UnavailableError("Compute Engine does not answer now.")
        return self._world.machines

    def get(self, place: Place) -> Instance | None:
        """See the port."""
        return self._read.get(place)

    def get_disk(self, place: Place) -> Disk | None:
        """See the port."""
        return self._read.get_disk(place)

    def find_instances(self, workspace_id: str) -> Sequence[Instance]:
        """See the port."""
        return self._read.find_instances(workspace_id)

    def find_disks(self, workspace_id: str) -> Sequence[Disk]:
        """See the port."""
        return self._read.find_disks(workspace_id)

    def operation(self, zone: str, name: str) -> OperationState:
        """See the port."""
        return self._read.operation(zone, name)

    def list_instances(self) -> Iterator[Instance]:
        """See the port."""
        return self._read.list_instances()

    def list_disks(self) -> Iterator[Disk]:
        """See the port."""
        return self._read.list_disks()

    def get_snapshot(self, name: str) -> DiskSnapshot | None:
        """See the port."""
        return self._read.get_snapshot(name)

    def list_snapshots(self) -> Iterator[DiskSnapshot]:
        """See the port."""
        return self._read.list_snapshots()

    def console_tail(self, place: Place, most_bytes: int) -> str:
        """See the port."""
        return self._read.console_tail(place, most_bytes)

    def grant_login(self, place: Place, member: str) -> None:
        """See the port."""
        self._read.grant_login(place, member)

    def revoke_logins(self, place: Place) -> int:
        """See the port."""
        return self._read.revoke_logins(place)

    def perform(self, command: Command, request_id: str) -> StartedCall:
        """See the port."""
        struck = self._trouble.at_call(self._world, command)
        if struck is not None and struck[0] is Mishap.REFUSED:
            held = struck[1] in {FaultKind.IN_USE, FaultKind.ALREADY_EXISTS}
            raise MachineFaultError(fault(struck[1], HOLDER if held else ""))
        if struck is not None:
            self._world.machines.script(type(command), *struck)
        return self._world.machines.perform(command, request_id)


# ---- operations ----


@dataclass(frozen=True)
class Story:
    """How a workspace gets to the state in which something is requested, and the request.

    ``calls`` are those that Compute gets if it refuses none, and ``boots`` is how the machine's
    boots then fail.
    """

    kind: OperationKind
    prepare: Callable[[World], Workspace | None]
    ask: Callable[[World, Workspace | None], object]
    calls: tuple[type[Command], ...]
    boots: GuestMishap | None = None


def _ready(world: World) -> Workspace:
    return world.ready(OWNER)


def _suspended(world: World) -> Workspace:
    ws = _ready(world)
    world.stop(OWNER, ws.id)
    world.run()
    return world.workspace(ws.id)


def _stopped(world: World) -> Workspace:
    ws = _ready(world)
    world.machines.stop_by_hand(place_of(ws))
    world.pass_time(timedelta(minutes=1))
    world.look(ws)
    world.run()
    return world.workspace(ws.id)


def _old(world: World) -> Workspace:
    ws = _stopped(world)
    world.machines.make_old_by_hand(place_of(ws), timedelta(days=31))
    return ws


def _failed(world: World) -> Workspace:
    ws, machine = _ready(world), world.machines.instances
    world.report(
        machine[place_of(ws)].report(ReportEvent.FAILED, "CONTAINER_ENDS", "It keeps ending.")
    )
    return world.workspace(ws.id)


def _detached(world: World) -> Workspace:
    ws = _stopped(world)
    world.machines.detach_disk_by_hand(Place(ws.zone, ws.disk_name))
    return ws


def _gone(world: World) -> Workspace:
    ws = _ready(world)
    world.machines.delete_by_hand(place_of(ws))
    world.look(ws)
    world.run()
    return world.workspace(ws.id)


def _start(world: World, ws: Workspace | None) -> None:
    assert ws is not None
    world.start(OWNER, ws.id)


def _start_with_another_type(world: World, ws: Workspace | None) -> None:
    assert ws is not None
    world.start(OWNER, ws.id, NewMachine(machine_type="e2-standard-8"))


def _rebuild(world: World, ws: Workspace | None) -> None:
    assert ws is not None
    world.start(OWNER, ws.id, NewMachine(rebuild=True))


def _stop(world: World, ws: Workspace | None) -> None:
    assert ws is not None
    world.stop(OWNER, ws.id)


def _delete(world: World, ws: Workspace | None) -> None:
    assert ws is not None
    world.delete(OWNER, ws.id)


def _archive(world: World, ws: Workspace | None) -> None:
    assert ws is not None
    world.archive(OWNER, ws.id)


def _snapshot(world: World, ws: Workspace | None) -> None:
    assert ws is not None
    world.snapshot(OWNER, ws.id)


def _restore(world: World, ws: Workspace | None) -> None:
    assert ws is not None
    snapshot, labels = a_snapshot(ws), {**labels_of(ws.id, OWNER), "hub": INSTALLATION}
    home = Place(ws.zone, ws.disk_name)
    world.machines.make_snapshot_by_hand(snapshot.place.name, home, labels)
    world.store.put_snapshots(snapshot)
    world.restore(OWNER, ws.id, snapshot.id)


def _create(world: World, _: Workspace | None) -> None:
    world.create(OWNER, "one")


CREATE, STOP, START, SNAPSHOT, RESTORE, ARCHIVE, DELETE = OperationKind
NEVER_READY, FAILS = GuestMishap.NEVER_READY, GuestMishap.FAILS_AT_BOOT
STORIES = {
    "create": Story(CREATE, lambda _: None, _create, (InsertInstance,)),
    "create what never reports": Story(
        CREATE, lambda _: None, _create, (DeleteInstance, DeleteDisk), NEVER_READY
    ),
    "create what fails": Story(
        CREATE, lambda _: None, _create, (DeleteInstance, DeleteDisk), FAILS
    ),
    "stop what runs": Story(STOP, _ready, _stop, (SuspendInstance,)),
    "stop what has failed": Story(STOP, _failed, _stop, (StopInstance,)),
    "start what is suspended": Story(START, _suspended, _start, (ResumeInstance,)),
    "start what has failed": Story(
        START, _failed, _start, (StopInstance, RefreshMetadata, StartInstance)
    ),
    "start what is off": Story(START, _stopped, _start, (RefreshMetadata, StartInstance)),
    "start what is too old": Story(START, _old, _start, (DeleteInstance, InsertInstance)),
    "start what never reports": Story(START, _stopped, _start, (StopInstance,), NEVER_READY),
    "start what is gone": Story(START, _gone, _start, (InsertInstance,)),
    "start with another type": Story(
        START, _suspended, _start_with_another_type, (DeleteInstance, InsertInstance)
    ),
    "rebuild what runs": Story(START, _ready, _rebuild, (DeleteInstance, InsertInstance)),
    "start what misses its home": Story(START, _detached, _start, (DeleteInstance, InsertInstance)),
    "delete what runs": Story(
        DELETE, _ready, _delete, (DeleteInstance, CreateSnapshot, DeleteDisk)
    ),
    "delete what is suspended": Story(
        DELETE, _suspended, _delete, (DeleteInstance, CreateSnapshot, DeleteDisk)
    ),
    "snapshot of what runs": Story(SNAPSHOT, _ready, _snapshot, (CreateSnapshot,)),
    "snapshot of what is suspended": Story(SNAPSHOT, _suspended, _snapshot, (CreateSnapshot,)),
    "archive what runs": Story(
        ARCHIVE,
        _ready,
        _archive,
        (StopInstance, DeleteInstance, CreateSnapshot, DeleteDisk),
    ),
    "archive what is suspended": Story(
        ARCHIVE, _suspended, _archive, (DeleteInstance, CreateSnapshot, DeleteDisk)
    ),
    "restore what runs": Story(
        RESTORE, _ready, _restore, (StopInstance, CreateSnapshot, DeleteInstance, InsertInstance)
    ),
    "restore what never reports": Story(
        RESTORE, _stopped, _restore, (DeleteInstance, DeleteDisk), NEVER_READY
    ),
    "delete what is gone": Story(DELETE, _gone, _delete, (CreateSnapshot, DeleteDisk)),
}


def play(story: Story, trouble: Trouble) -> World:
    """Make the story's request in trouble, check that it ends in time, and return the world."""
    world = World(policy=POLICY)
    ws = story.prepare(world)
    world.machines_port = TroubledMachines(world, trouble)
    for _ in range(BOOTS if story.boots else 0):
        world.machines.script_boot(story.boots or NEVER_READY)
    story.ask(world, ws)
    asked_at, deadlines = world.clock(), POLICY.deadlines
    latest = asked_at + deadlines.of(story.kind) + _one_look(world)
    if story.kind in TAKING_HOME:  # it waits for a slow upload, then deletes the disk
        latest += 10 * world.durations.upload + deadlines.delete + 3 * _one_look(world)
    # The clean-up after a failure has a deadline as well.
    if story.kind in MAKING:
        latest += deadlines.delete + _one_look(world)
    if story.kind is RESTORE:  # once the new home is recorded, it may take as long as a CREATE
        latest += deadlines.create + _one_look(world)
    world.run(until=lambda: _is_over(world) or world.clock() > latest)
    ws = record(world)
    assert _is_over(world), ws and ws.operation
    return world


def _is_over(world: World) -> bool:
    ws = record(world)
    return ws is None or ws.operation is None


def _one_look(world: World) -> timedelta:
    """Return the longest time until a look: a job that waits, is not answered, and is repeated."""
    return POLICY.look_max + world.retry_after


def check_way_out(world: World, *, by_start: bool) -> None:
    """Check that without faults a START leads to READY and a DELETE leaves nothing."""
    world.machines.calm()
    world.machines_port = world.machines
    release_homes(world)
    if record(world) is None:
        return
    if by_start:
        check_way_out_by_start(world)
    if record(world) is not None:
        check_way_out_by_delete(world)


# ---- properties ----

PASSING = {FaultKind.NOT_READY, FaultKind.TRANSIENT, FaultKind.IN_USE}
REPORTED = (Mishap.REFUSED, Mishap.FAILS_LATER)  # at once, or at the end of a long operation


def complaints(plays: Iterable[Callable[[], None]]) -> list[str]:
    """Return the failures of the plays, each with its arguments."""
    wrong = []
    for each in plays:
        try:
            each()
        except (AssertionError, HubError) as error:
            wrong.append(f"{getattr(each, 'args', '')}: {error}")
    return wrong


def one_call_for_ever(
    story: Story, command: type[Command], mishap: Mishap, kind: FaultKind
) -> None:
    """Check the end, with the result or Compute's message; then START and DELETE must work."""
    trouble = OneFault(command, mishap, kind, EVER)
    world = play(story, trouble)
    assert trouble.struck, "no call has failed"
    ws = record(world)
    if ws is not None and not story.boots and not _has_its_result(story, ws):
        assert ws.error, ws
        assert fault(kind).code in ws.error.message or TOO_OFTEN in ws.error.message, ws.error
    check_way_out(world, by_start=True)


def one_call_for_a_while(
    story: Story, command: type[Command], mishap: Mishap, kind: FaultKind
) -> None:
    """Check the end, successful if the fault passes by itself; then DELETE must work."""
    world = play(story, OneFault(command, mishap, kind, A_WHILE))
    ws = record(world)
    if kind in PASSING and ws is not None and not story.boots:
        assert _has_its_result(story, ws), ws
    check_way_out(world, by_start=False)


def every_call(story: Story, mishap: Mishap, kind: FaultKind, *, by_start: bool) -> None:
    """Check that it ends, as does its clean-up, which cannot succeed either."""
    check_way_out(play(story, OneFault(object, mishap, kind, EVER)), by_start=by_start)


def no_answer(story: Story, lasts: timedelta, *, by_start: bool) -> None:
    """Check that it ends while Compute answers nothing."""
    check_way_out(play(story, NoAnswer(lasts)), by_start=by_start)


def mixture(seed: int) -> None:
    """Check that it ends with the faults that the seed decides."""
    chance = random.Random(seed)
    story = chance.choice(list(STORIES.values()))
    world = play(story, Mixture(chance, chance.choice((A_WHILE, EVER))))
    check_way_out(world, by_start=seed % 2 == 0)


def _has_its_result(story: Story, ws: Workspace) -> bool:
    if story.kind is STOP:
        return ws.status is Status.SUSPENDED
    if story.kind is SNAPSHOT:
        return ws.error is None
    if story.kind is ARCHIVE:
        return ws.archived_at is not None
    return story.kind is not DELETE and ws.status is Status.READY and ws.error is None


@pytest.mark.parametrize("name", STORIES)
def test_an_operation_ends_in_time_if_one_call_always_fails(name: str) -> None:
    """It ends with its result or with Compute's message; afterwards START and DELETE work."""
    story = STORIES[name]
    all_there_is = product(story.calls, REPORTED, FaultKind)
    assert complaints(partial(one_call_for_ever, story, *each) for each in all_there_is) == []


@pytest.mark.parametrize("name", STORIES)
def test_an_operation_ends_in_time_if_one_call_fails_for_a_while(name: str) -> None:
    """A fault that passes by itself is overcome, others end the operation; then DELETE works."""
    story = STORIES[name]
    all_there_is = product(story.calls, REPORTED, FaultKind)
    assert complaints(partial(one_call_for_a_while, story, *each) for each in all_there_is) == []


@pytest.mark.parametrize("name", STORIES)
def test_an_operation_ends_in_time_if_every_call_fails(name: str) -> None:
    """Its clean-up ends in time as well, though it cannot succeed; then START or DELETE works."""
    every = partial(every_call, STORIES[name])
    plays = [
        partial(every, how, kind, by_start=how is Mishap.REFUSED)
        for how, kind in product(REPORTED, FaultKind)
    ]
    assert complaints(plays) == []


@pytest.mark.parametrize("name", STORIES)
def test_an_operation_ends_in_time_if_compute_answers_nothing(name: str) -> None:
    """From whatever state is left, START or DELETE works."""
    ways = product((A_WHILE, EVER), (True, False))
    assert (
        complaints(
            partial(no_answer, STORIES[name], lasts, by_start=start) for lasts, start in ways
        )
        == []
    )


@pytest.mark.parametrize("tens", range(MIXTURES // 10))
def test_an_operation_ends_in_time_if_everything_fails_at_random(tens: int) -> None:
    """Faults, failing boots and people with permissions in Compute come together."""
    assert complaints(partial(mixture, 10 * tens + ones) for ones in range(10)) == []
