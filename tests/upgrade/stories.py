"""Stories of a workspace in virtual time, with faults; each checks how it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

from shared.domain.errors import NameTakenError, UnavailableError
from shared.domain.instance import (
    DeleteInstance,
    FaultKind,
    InsertInstance,
    Place,
    StartInstance,
    SuspendInstance,
)
from shared.domain.lifecycle import NewConnection, NewMachine
from shared.domain.workspace import Status, Workspace
from tests.fakes.machines import GuestMishap, Mishap
from tests.fakes.world import World, place_of

OWNER = "alice"


def tell(world: World, story: str) -> None:
    """Play a story in a world."""
    STORIES[story](world)


def _assert_settled(world: World, workspace: Workspace, status: Status) -> None:
    world.run()
    record = world.workspace(workspace.id)
    assert (record.status, record.operation) == (status, None)


def _all_verbs(world: World) -> None:
    workspace = world.ready(OWNER)
    world.stop(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.SUSPENDED)
    world.start(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.READY)
    world.delete(OWNER, workspace.id)
    world.run()
    assert (world.store.workspaces, world.machines.instances, world.machines.disks) == (
        {},
        {},
        set(),
    )


def _names(world: World) -> None:
    first = world.ready(OWNER, "api")
    world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.PERMISSION, times=1000)
    world.delete(OWNER, first.id)
    second = world.create(OWNER, "api")
    _assert_settled(world, first, Status.ERROR)
    world.machines.calm()
    with contextlib.suppress(NameTakenError):
        world.start(OWNER, first.id)
        raise AssertionError("two workspaces have one name")
    world.start(OWNER, first.id, NewMachine(name="api-2"))
    _assert_settled(world, first, Status.READY)
    assert {each.id: each.name for each in world.store.workspaces.values()} == {
        first.id: "api-2",
        second.id: "api",
    }
    world.delete(OWNER, second.id)
    world.create(OWNER, "api")
    world.run()
    held = world.store.owners[OWNER].workspaces
    assert sorted(each.name for each in held.values()) == ["api", "api-2"]


def _connections(world: World) -> None:
    workspace = world.ready(OWNER)
    world.stop(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.SUSPENDED)
    world.connect(OWNER, workspace.id, NewConnection("phone", start=True))
    _assert_settled(world, workspace, Status.READY)
    assert world.workspace(workspace.id).last_device_id in {"phone", None}
    world.connect(OWNER, workspace.id, NewConnection("desk", start=False))
    _assert_settled(world, workspace, Status.READY)


def _power_off(world: World) -> None:
    workspace = world.ready(OWNER)
    world.machines.script(SuspendInstance, Mishap.REFUSED, FaultKind.UNSUPPORTED)
    world.stop(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.SUSPENDED)
    assert world.workspace(workspace.id).ready_generation is None
    world.start(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.READY)


def _another_zone(world: World) -> None:
    world.machines.script(
        InsertInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT, zone=world.policy.zones[0]
    )
    workspace = world.create(OWNER, "one")
    _assert_settled(world, workspace, Status.READY)
    assert world.workspace(workspace.id).zone == world.policy.zones[1]


def _another_machine(world: World) -> None:
    workspace = world.ready(OWNER)
    world.start(OWNER, workspace.id, NewMachine(image_tag="v2"))
    _assert_settled(world, workspace, Status.READY)


def _failed_boots(world: World) -> None:
    world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
    workspace = world.create(OWNER, "one")
    _assert_settled(world, workspace, Status.ERROR)
    world.machines.script_boot(GuestMishap.NEVER_READY)
    world.start(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.ERROR)
    world.start(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.READY)


def _lost_machine(world: World) -> None:
    workspace = world.ready(OWNER)
    world.machines.delete_by_hand(place_of(workspace), keep_boot_disk=True)
    world.look(workspace)
    _assert_settled(world, workspace, Status.ERROR)
    world.start(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.READY)


def _cannot_start(world: World) -> None:
    workspace = world.ready(OWNER)
    world.machines.stop_by_hand(place_of(workspace))
    world.clock.advance(timedelta(minutes=1))
    world.look(workspace)
    _assert_settled(world, workspace, Status.SUSPENDED)
    world.machines.script(StartInstance, Mishap.FAILS_LATER, FaultKind.UNSUPPORTED)
    world.start(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.READY)


def _idle(world: World) -> None:
    workspace = world.ready(OWNER)
    world.clock.advance(timedelta(hours=2))
    _sweep(world)
    _assert_settled(world, workspace, Status.SUSPENDED)
    world.clock.advance(timedelta(days=31))
    _sweep(world)
    world.run()
    assert world.store.workspaces == {}


def _kept_awake(world: World) -> None:
    """A person's word may be lost to the old version. It never keeps a machine awake for good."""
    workspace = world.ready(OWNER)
    world.keep_awake(OWNER, workspace.id, world.clock() + timedelta(hours=3))
    world.clock.advance(timedelta(hours=2))
    _sweep(world)
    world.run()
    assert world.workspace(workspace.id).operation is None
    world.clock.advance(timedelta(hours=2))
    _sweep(world)
    _assert_settled(world, workspace, Status.SUSPENDED)
    world.start(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.READY)
    assert world.workspace(workspace.id).kept_awake_until is None


def _sweep(world: World) -> None:
    """Clean up, once the hourly sweep has seen what the old version has written."""
    world.reconcile_fleet()
    world.clean_up()


def _superseded(world: World) -> None:
    workspace = world.create(OWNER, "one")
    world.run(until=lambda: world.machine(workspace) is not None)
    world.delete(OWNER, workspace.id)
    world.run()
    assert (world.store.workspaces, world.machines.instances, world.machines.disks) == (
        {},
        {},
        set(),
    )


def _never_suspends(world: World) -> None:
    """A machine runs again after each suspend until the deadline; the operation must end."""
    workspace = world.ready(OWNER)
    world.machines.script(SuspendInstance, Mishap.FAILS_LATER, FaultKind.NOT_READY, times=100)
    world.stop(OWNER, workspace.id)
    world.run()
    assert world.workspace(workspace.id).operation is None


def _left_over_boot_disk(world: World) -> None:
    """The next boot's disk exists already, from a machine that was deleted outside the Hub."""
    workspace = world.ready(OWNER)
    place = place_of(workspace)
    world.machines.make_disk_by_hand(
        Place(place.zone, f"{place.name}-{workspace.generation + 1}"), {}
    )
    world.machines.delete_by_hand(place, keep_boot_disk=True)
    world.look(workspace)
    _assert_settled(world, workspace, Status.ERROR)
    world.start(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.READY)


def _home_detached(world: World) -> None:
    """A machine boots without its home disk, and is replaced by one that has it."""
    workspace = world.ready(OWNER)
    world.machines.stop_by_hand(place_of(workspace))
    world.clock.advance(timedelta(minutes=1))
    world.look(workspace)
    _assert_settled(world, workspace, Status.SUSPENDED)
    world.machines.detach_disk_by_hand(Place(workspace.zone, workspace.disk_name))
    world.start(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.READY)


def _old_machine(world: World) -> None:
    """A machine is off and too old to boot: it is replaced."""
    workspace = world.ready(OWNER)
    world.machines.stop_by_hand(place_of(workspace))
    world.clock.advance(timedelta(minutes=1))
    world.look(workspace)
    _assert_settled(world, workspace, Status.SUSPENDED)
    world.machines.make_old_by_hand(place_of(workspace), timedelta(days=40))
    world.start(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.READY)


def _rebuilt(world: World) -> None:
    workspace = world.ready(OWNER)
    world.stop(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.SUSPENDED)
    world.start(OWNER, workspace.id, NewMachine(rebuild=True))
    _assert_settled(world, workspace, Status.READY)


def _let_in_late(world: World) -> None:
    """The owner cannot be let in at first, and then to each machine of theirs."""
    world.machines.login_errors += [UnavailableError("Compute Engine does not answer now.")] * 2
    workspace = world.create(OWNER, "one")
    _assert_settled(world, workspace, Status.READY)
    _assert_let_in(world, workspace)
    world.start(OWNER, workspace.id, NewMachine(rebuild=True))
    _assert_settled(world, workspace, Status.READY)
    _assert_let_in(world, workspace)


def _assert_let_in(world: World, workspace: Workspace) -> None:
    """The old version drops what was recorded; then the next look finds that they may log in."""
    world.look(workspace)
    world.run()
    machine = world.machine(world.workspace(workspace.id))
    assert machine is not None
    assert machine.logins == [f"user:{OWNER}@example.com"]


def _restored(world: World) -> None:
    """A home is restored by today's version. Once the old one is gone, both versions go on."""
    workspace = world.ready(OWNER)
    home = _home(world, workspace)
    world.machines.write(home, "earlier")
    world.snapshot(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.READY)
    world.machines.write(home, "later")
    [snapshot] = world.store.snapshots
    world.restore(OWNER, workspace.id, snapshot)
    _assert_settled(world, workspace, Status.READY)
    _let_old_homes_go(world, workspace)
    for ask in (World.stop, World.start):
        ask(world, OWNER, workspace.id)
        world.run()
    world.start(OWNER, workspace.id, NewMachine(rebuild=True))
    _assert_settled(world, workspace, Status.READY)
    assert world.machines.content_of(_home(world, workspace)) == "earlier"
    world.delete(OWNER, workspace.id)
    world.run()
    assert (world.machines.instances, world.machines.disks) == ({}, set())


def _taken_back(world: World) -> None:
    """What was deleted comes back with its home, and both versions go on with it."""
    workspace = world.ready(OWNER)
    world.machines.write(_home(world, workspace), "kept")
    world.stop(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.SUSPENDED)
    world.delete(OWNER, workspace.id)
    world.run()
    world.undelete(OWNER, workspace.id)
    world.start(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.READY)
    world.start(OWNER, workspace.id, NewMachine(rebuild=True))
    _assert_settled(world, workspace, Status.READY)
    assert world.machines.content_of(_home(world, workspace)) == "kept"


def _grown(world: World) -> None:
    """A home grows, and both versions go on with it as large as it is."""
    workspace = world.ready(OWNER)
    home = _home(world, workspace)
    world.machines.write(home, "kept")
    world.stop(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.SUSPENDED)
    world.start(OWNER, workspace.id, NewMachine(home_disk_gb=100, image_tag="v2"))
    _assert_settled(world, workspace, Status.READY)
    assert world.workspace(workspace.id).image_tag == "v2"
    world.start(OWNER, workspace.id, NewMachine(rebuild=True))
    _assert_settled(world, workspace, Status.READY)
    assert _home(world, workspace) == home
    assert (world.machines.disk_gb(home), world.machines.content_of(home)) == (100, "kept")


def _moved(world: World) -> None:
    """A workspace moves. Once its machine of before is gone, both versions go on there."""
    workspace = world.ready(OWNER)
    world.machines.write(_home(world, workspace), "kept")
    world.start(OWNER, workspace.id, NewMachine(zone=world.policy.zones[1]))
    _assert_settled(world, workspace, Status.READY)
    _let_old_homes_go(world, workspace)
    world.start(OWNER, workspace.id, NewMachine(rebuild=True))
    _assert_settled(world, workspace, Status.READY)
    home = _home(world, workspace)
    assert (home.zone, world.machines.content_of(home)) == (world.policy.zones[1], "kept")
    assert {place.zone for place in (*world.machines.instances, *world.machines.disks)} == {
        home.zone
    }


def _archived(world: World) -> None:
    """What was archived is started, and both versions go on with it."""
    workspace = world.ready(OWNER)
    world.machines.write(_home(world, workspace), "kept")
    world.archive(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.SUSPENDED)
    assert (world.machines.instances, world.machines.disks) == ({}, set())
    world.start(OWNER, workspace.id)
    _assert_settled(world, workspace, Status.READY)
    for ask in (World.stop, World.start):
        ask(world, OWNER, workspace.id)
        world.run()
    world.start(OWNER, workspace.id, NewMachine(rebuild=True))
    _assert_settled(world, workspace, Status.READY)
    assert world.machines.content_of(_home(world, workspace)) == "kept"
    assert world.workspace(workspace.id).archived_at is None


def _home(world: World, workspace: Workspace) -> Place:
    """Return the disk that is the home of a workspace by its record."""
    record = world.workspace(workspace.id)
    return Place(record.zone, record.disk_name)


def _let_old_homes_go(world: World, workspace: Workspace) -> None:
    """Let the hourly sweep delete what was the home before."""
    for _ in range(4):
        world.reconcile_fleet()
        world.pass_time(timedelta(minutes=1))
    assert world.workspace(workspace.id).old_homes == ()


STORIES: dict[str, Callable[[World], None]] = {
    "all verbs": _all_verbs,
    "another machine": _another_machine,
    "another zone": _another_zone,
    "archived": _archived,
    "cannot start": _cannot_start,
    "comes back": _never_suspends,
    "connections": _connections,
    "failed boots": _failed_boots,
    "grown": _grown,
    "home detached": _home_detached,
    "idle": _idle,
    "in the way": _left_over_boot_disk,
    "kept awake": _kept_awake,
    "let in late": _let_in_late,
    "lost machine": _lost_machine,
    "moved": _moved,
    "names": _names,
    "old machine": _old_machine,
    "power off": _power_off,
    "rebuilt": _rebuilt,
    "restored": _restored,
    "superseded": _superseded,
    "taken back": _taken_back,
}
