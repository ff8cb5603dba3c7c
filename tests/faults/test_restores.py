"""A RESTORE in virtual time, with every mishap and every change by hand: no content is ever lost.

One workspace has a snapshot, and something else in its home by now. Its home is restored while
things go wrong. At every moment both contents must be somewhere, unless somebody has deleted one by
hand. At the end the home has the one or the other whole, and nothing is left over.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from unittest import mock

import pytest

from shared.domain.errors import HubError, OperationUnderWayError, SnapshotInUseError
from shared.domain.instance import (
    GLOBAL,
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    FaultKind,
    InsertInstance,
    InstanceState,
    Place,
    SnapshotStatus,
    StopInstance,
)
from shared.domain.snapshots import SnapshotState
from shared.domain.workspace import OldHome, OperationKind, Phase, Status, Workspace
from shared.usecases import advance_operation
from tests.fakes.machines import FakeMachines, GuestMishap, Mishap
from tests.fakes.world import World, place_of
from tests.faults.ways_out import OWNER, POLICY

EARLIER, LATER, HERS = "what is in the snapshot", "what was written since", "another person's"
OTHER = "bob"
A_DAY = timedelta(days=1)


@dataclass
class Restoring:
    """A world in which a home is to be restored, and what is known of its contents.

    ``gone_by_hand`` are the contents that somebody has deleted, so that they need not be anywhere.
    ``moved`` are the disks that somebody has moved. ``latest`` is what was written last.
    """

    world: World
    id: str
    source: str
    other: str
    gone_by_hand: set[str] = field(default_factory=set)
    moved: set[Place] = field(default_factory=set)
    latest: str = LATER

    @property
    def needed(self) -> set[str]:
        """The contents that must be somewhere."""
        return {EARLIER, self.latest} - self.gone_by_hand

    @property
    def workspace(self) -> Workspace:
        """The record."""
        return self.world.workspace(self.id)

    @property
    def source_name(self) -> str:
        """The name in Compute of the snapshot that is to be restored."""
        return self.world.store.snapshots[self.source].place.name

    def ask(self) -> Workspace:
        """Ask for the RESTORE."""
        return self.world.restore(OWNER, self.id, self.source)

    def home(self) -> str | None:
        """Return what is in the home, wherever somebody has moved it."""
        ws, machines = self.workspace, self.world.machines
        moved = [place for place in self.moved if place.name == ws.disk_name]
        return machines.content_of([Place(ws.zone, ws.disk_name), *moved][-1])

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Let time pass, and see at each moment that each content is somewhere."""

        def is_over() -> bool:
            self.check_contents()
            return until is not None and until()

        self.world.run(is_over, or_until_at_rest=True)
        self.check_contents()

    def run_until_in(self, phase: Phase) -> bool:
        """Let time pass until the RESTORE is in a phase. Return whether it gets there."""
        self.run(lambda: self.phase in {phase, None})
        return self.phase is phase

    @property
    def phase(self) -> Phase | None:
        """The phase of the operation under way; None if there is none, or no workspace."""
        ws = self.world.store.workspaces.get(self.id)
        return ws.operation.phase if ws and ws.operation else None

    def check_contents(self) -> None:
        """See that each content is on a disk, or in a snapshot of which Compute says READY."""
        store = self.world.store
        if self.id not in store.workspaces and self.id not in store.deleted:
            return
        machines = self.world.machines
        there = {machines.content_of(place) for place in machines.disks}
        there |= {
            machines.content_of(Place(GLOBAL, name))
            for name, status in machines.snapshots.items()
            if status is SnapshotStatus.READY
        }
        assert there >= {*self.needed, HERS}

    def sweep(self) -> None:
        """Run the hourly sweep three times, with what follows of it.

        A machine that was left over goes first, then its disk, then what is recorded of that.
        """
        for _ in range(3):
            self.world.machines.calm()
            self.world.clock.advance(A_DAY)
            self.world.reconcile_fleet()
            self.run()

    def check_end(self) -> str:
        """See that nothing is left over and no content is mixed; return what is in the home."""
        self.sweep()
        ws, machines = self.workspace, self.world.machines
        assert ws.operation is None
        assert ws.home_source is None
        content = self.home()
        assert content in {EARLIER, self.latest}
        failed = ws.error is not None and ws.error.operation_kind is OperationKind.RESTORE
        if failed:
            assert content == self.latest
        ours = {place for place in machines.disks if self.id in place.name}
        machine = self.world.machine(ws)
        boot = {place for place in ours if machine and place.name.startswith(ws.instance_name)}
        old = {Place(each.zone, each.name) for each in ws.old_homes}
        assert not [each for each in ws.old_homes if self._may_go(each)]
        home = Place(ws.zone, ws.disk_name)
        homes = {home} if machines.peek_disk(home) else set()
        assert ours - boot - self.moved == {*homes, *old} - self.moved
        other = self.world.workspace(self.other)
        assert machines.content_of(Place(other.zone, other.disk_name)) == HERS
        kept = {
            machines.content_of(Place(GLOBAL, each.place.name))
            for each in self.world.store.snapshots.values()
            if each.state is SnapshotState.READY and each.workspace_id == self.id
        }
        kept |= {machines.content_of(each) for each in (*old, *self.moved)}
        assert {content, *kept} >= self.needed
        assert HERS not in kept
        return content

    def _may_go(self, old: OldHome) -> bool:
        """Say whether an old home is in a READY snapshot, and attached to no machine."""
        known = self.world.store.snapshots.get(old.snapshot_id or "")
        there = known and self.world.machines.snapshots.get(known.place.name)
        ready = known is not None and known.state is SnapshotState.READY
        disk = self.world.machines.peek_disk(Place(old.zone, old.name))
        free = disk is not None and not disk.in_use
        return ready and there is SnapshotStatus.READY and free

    def check_way_out(self) -> str:
        """See that a START leads to READY on the same content, and return that."""
        content = self.home()
        ws = self.workspace
        self.world.start(OWNER, ws.id)
        self.run()
        started = self.workspace
        machine = self.world.machines.peek(place_of(started))
        assert started.status is Status.READY
        assert machine is not None
        assert started.disk_name in machine.disks
        assert self.home() == content
        return self.check_end()


@pytest.fixture(autouse=True)
def one_step_at_a_time() -> Iterator[None]:
    """Have each delivery do one step, so that tests can stop in each phase."""
    with mock.patch.object(advance_operation, "MOST_STEPS", 1):
        yield


# ---- before ----


def _ready(_world: World, _ws: Workspace) -> None:
    """Leave it READY."""


def _suspended(world: World, ws: Workspace) -> None:
    world.stop(OWNER, ws.id)
    world.run()


BEFORE: dict[str, Callable[[World, Workspace], None]] = {"ready": _ready, "suspended": _suspended}


def restoring(before: str = "ready") -> Restoring:
    """Return a world in which a home may be restored from an earlier snapshot."""
    world = World(policy=replace(POLICY, limits=replace(POLICY.limits, workspaces=2, running=2)))
    other = world.ready(OTHER)
    world.machines.write(Place(other.zone, other.disk_name), HERS)
    ws = world.ready(OWNER)
    home = Place(ws.zone, ws.disk_name)
    world.machines.write(home, EARLIER)
    world.snapshot(OWNER, ws.id, "earlier")
    world.run()
    [source] = world.store.snapshots
    world.machines.write(home, LATER)
    BEFORE[before](world, ws)
    return Restoring(world, ws.id, source, other.id)


PHASES = (
    *(Phase.STOP, Phase.AWAIT_STOPPED, Phase.SNAPSHOT, Phase.AWAIT_SNAPSHOT, Phase.AWAIT_STORED),
    *(Phase.DELETE_INSTANCE, Phase.AWAIT_ABSENT, Phase.INSERT, Phase.INSERTING, Phase.AWAIT_READY),
)


# ---- Compute's faults ----

COMMANDS: tuple[type[Command], ...] = (StopInstance, CreateSnapshot, DeleteInstance, InsertInstance)
_OF_SNAPSHOTS = {Mishap.CAPTURE_FAILS, Mishap.UPLOAD_FAILS}


def mishaps(command: type[Command]) -> Iterator[tuple[Mishap, FaultKind, int]]:
    """Yield how calls of a command go wrong, with which fault, and how many of them."""
    for times in (1, 1000):
        for kind in FaultKind:
            yield Mishap.REFUSED, kind, times
            yield Mishap.FAILS_LATER, kind, times
        for mishap in set(Mishap) - {Mishap.REFUSED, Mishap.FAILS_LATER}:
            if mishap not in _OF_SNAPSHOTS or command is CreateSnapshot:
                yield mishap, FaultKind.INVALID, times


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_refusal_of_any_call_loses_a_content(before: str, command: type[Command]) -> None:
    """Once or for ever, at once or later: it ends, restored or as it was, and START goes on."""
    check_every_mishap(command, lambda: asked(before))


@pytest.mark.parametrize("command", [DeleteInstance, DeleteDisk])
def test_no_refusal_of_the_clean_up_loses_a_content(command: type[Command]) -> None:
    """The new machine never reports, and Compute does not delete it, or not its disk."""
    check_every_mishap(command, about_to_fail)


def check_every_mishap(command: type[Command], begin: Callable[[], Restoring]) -> None:
    """See that a RESTORE ends well whatever happens to its next calls of this command."""
    wrong = []
    for mishap, kind, times in mishaps(command):
        there = begin()
        there.world.machines.script(command, mishap, kind, times=times)
        try:
            there.run()
            there.check_end()
            there.check_way_out()
        except (AssertionError, HubError) as error:
            wrong.append(f"{mishap.name} {kind.name} {times}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


def asked(before: str) -> Restoring:
    """Return a world in which a RESTORE was asked for."""
    there = restoring(before)
    there.ask()
    return there


def about_to_fail() -> Restoring:
    """Return a world in which the machine of a RESTORE boots, and will never report."""
    there = asked("suspended")
    there.world.machines.script_boot(GuestMishap.NEVER_READY)
    assert there.run_until_in(Phase.AWAIT_READY)
    return there


# ---- what people do meanwhile ----


@pytest.mark.parametrize("phase", PHASES)
def test_other_requests_wait_for_a_restore(phase: Phase) -> None:
    """The same RESTORE again is the one under way, its source stays, and all else is refused."""
    there = restoring()
    there.ask()
    assert there.run_until_in(phase)
    operation = there.workspace.operation
    assert operation is not None
    again = there.ask().operation
    assert again is not None
    assert again.id == operation.id
    for refused in (World.start, World.stop, World.snapshot):
        with pytest.raises(OperationUnderWayError):
            refused(there.world, OWNER, there.id)
    with pytest.raises(SnapshotInUseError):
        there.world.delete_snapshot(OWNER, there.id, there.source)
    there.run()
    assert there.check_end() == EARLIER


def _delete_source(there: Restoring, _: Workspace) -> None:
    there.world.machines.delete_snapshot_by_hand(there.source_name)
    there.gone_by_hand.add(EARLIER)


def _fail_source(there: Restoring, _: Workspace) -> None:
    there.world.machines.fail_snapshot(there.source_name)
    there.gone_by_hand.add(EARLIER)


def _delete_copy(there: Restoring, _: Workspace) -> None:
    """Delete the snapshot of what is there now, in whatever state it is."""
    for name in [each for each in there.world.machines.snapshots if each != there.source_name]:
        there.world.machines.delete_snapshot_by_hand(name)


def _move_home(there: Restoring, ws: Workspace) -> None:
    machines = there.world.machines
    machines.delete_by_hand(place_of(ws))
    home = Place(ws.zone, ws.disk_name)
    content = machines.content_of(home)
    if content is None:  # it is yet to be made
        return
    labels = machines.disk_labels(home)
    machines.delete_disk_by_hand(home)
    moved = Place("us-central1-a", ws.disk_name)
    machines.make_disk_by_hand(moved, labels)
    machines.write(moved, content)
    there.moved.add(moved)


def _delete_home(there: Restoring, ws: Workspace) -> None:
    """Delete the machine and the recorded home disk, which only before the switch has a content."""
    home = Place(ws.zone, ws.disk_name)
    there.world.machines.delete_by_hand(place_of(ws))
    there.world.machines.delete_disk_by_hand(home)
    if ws.home_disk is not None:
        there.gone_by_hand.add(LATER)


def on_machine(
    act: Callable[[FakeMachines, Place], None],
) -> Callable[[Restoring, Workspace], None]:
    """Return an act on the workspace's machine."""
    return lambda there, ws: act(there.world.machines, place_of(ws))


def _on_home(act: Callable[[FakeMachines, Place], None]) -> Callable[[Restoring, Workspace], None]:
    return lambda there, ws: act(there.world.machines, Place(ws.zone, ws.disk_name))


def _start(there: Restoring, ws: Workspace) -> None:
    """Start the machine, if it is off."""
    machine = there.world.machine(ws)
    if machine and machine.state in {InstanceState.TERMINATED, InstanceState.SUSPENDED}:
        there.world.machines.start_by_hand(place_of(ws))


def use(there: Restoring, ws: Workspace) -> None:
    """Start the machine, write something in the old home, and shut it down again."""
    machines, place = there.world.machines, place_of(ws)
    _start(there, ws)
    machine = there.world.machine(ws)
    if machine is None or machine.deleting or ws.home_disk is None:
        return
    there.world.clock.advance(timedelta(seconds=20))
    machines.next_event_at()  # what is due by now has happened
    if machine.state is not InstanceState.RUNNING:
        return
    there.latest = "what was written meanwhile"
    machines.write(Place(ws.zone, ws.disk_name), there.latest)
    machines.stop_by_hand(place)


# The look that precedes the deletion of the machine is over by then.
_NOT_SEEN = {("machine started, used and stopped", Phase.DELETE_INSTANCE)}
BY_HAND: dict[str, Callable[[Restoring, Workspace], None]] = {
    "machine stopped": on_machine(FakeMachines.stop_by_hand),
    "machine started": _start,
    "machine started, used and stopped": use,
    "machine deleted": on_machine(FakeMachines.delete_by_hand),
    "home detached": _on_home(FakeMachines.detach_disk_by_hand),
    "home deleted": _delete_home,
    "home moved": _move_home,
    "source deleted": _delete_source,
    "source failed": _fail_source,
    "copy deleted": _delete_copy,
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("act", BY_HAND)
def test_no_change_by_hand_loses_what_it_does_not_delete(before: str, act: str) -> None:
    """In every phase: it ends, restored or as it was, and a START goes on with the same home."""
    wrong = []
    for phase in PHASES:
        if (act, phase) in _NOT_SEEN:
            continue
        there = restoring(before)
        there.ask()
        if not there.run_until_in(phase):
            continue
        try:
            BY_HAND[act](there, there.workspace)
            there.run()
            there.check_end()
            there.check_way_out()
        except (AssertionError, HubError) as error:
            wrong.append(f"{phase}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("zones", [0, 1])
@pytest.mark.parametrize("found", ["by the sweep", "by a START", "by a RESTORE"])
def test_a_machine_that_an_outage_has_left_is_not_used(zones: int, found: str) -> None:
    """Compute does not answer until the deadline, and the new machine runs on its disk.

    It is no machine of the workspace: it goes with that disk, and is never followed.
    """
    there = restoring()
    for zone in POLICY.zones[:zones]:
        there.world.machines.script(
            InsertInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT, zone=zone, times=9
        )
    there.world.machines.script_boot(GuestMishap.NEVER_READY)
    there.ask()
    assert there.run_until_in(Phase.AWAIT_READY)
    operation = there.workspace.operation
    assert operation is not None
    there.world.machines.unanswered_reads = 1000
    there.world.clock.advance_to(operation.deadline_at)
    there.run(lambda: there.phase is None)
    there.world.machines.calm()
    assert there.workspace.error is not None
    if found == "by a START":
        assert there.check_way_out() == LATER
    elif found == "by a RESTORE":
        there.ask()
        there.run()
        assert there.check_end() == EARLIER
    assert there.check_end() in {EARLIER, LATER}
    machines = there.world.machines
    assert len([place for place in machines.instances if there.id in place.name]) <= 1
    machine = machines.peek(place_of(there.workspace))
    if machine is not None and machine.state is InstanceState.RUNNING:
        assert (there.workspace.disk_name in machine.disks) is (found != "by the sweep")
