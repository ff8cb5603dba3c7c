"""The two ways out of any state of a workspace, DELETE and START, without further faults."""

from datetime import timedelta

from shared.domain.drift import has_drifted
from shared.domain.errors import OperationUnderWayError
from shared.domain.instance import GLOBAL, InstanceState, Place, SnapshotStatus
from shared.domain.lifecycle import NewMachine
from shared.domain.policy import Limits, Policy
from shared.domain.snapshots import SNAPSHOT_GONE
from shared.domain.steps import HOME_DISK_GONE
from shared.domain.steps.failing import LAST_COPY_NOT_MADE
from shared.domain.workspace import HomeDisk, OperationKind, Status, Workspace
from tests.fakes.world import World, place_of

OWNER = "alice"
POLICY = Policy(
    zones=("us-west1-a", "us-west1-b"),
    limits=Limits(workspaces=1, running=1),
    changes_per_minute=10**6,
    snapshot_pause=timedelta(0),
)
# The errors of a START that asks for a person's decision, or that found a problem too late.
ADVICE = {HOME_DISK_GONE, SNAPSHOT_GONE, "MACHINE_AMBIGUOUS", "COMPUTE_NAME_TAKEN", "DISK_MISSING"}


def record(world: World) -> Workspace | None:
    """Return the one workspace, or None if it is forgotten."""
    return next(iter(world.store.workspaces.values()), None)


def largest_home_gb(world: World) -> int:
    """Return how large the largest disk is that the workspace has as its home; 0 if it has none."""
    ws = record(world)
    former = ws.operation.former_home if ws and ws.operation else None
    names = {ws.disk_name} if ws else set()
    names |= {former.name} if former else set()
    sizes = [world.machines.disk_gb(each) for each in world.machines.disks if each.name in names]
    return max(sizes, default=0)


def check_way_out_by_delete(world: World) -> None:
    """A DELETE is accepted at once and leaves nothing; a running DELETE may fail once before."""
    its_id = _delete(world, purge=True)
    _check_nothing_runs(world)
    assert its_id not in world.store.deleted, "it can be taken back"
    snapshots = [each for each in world.store.snapshots.values() if each.workspace_id == its_id]
    assert not snapshots, "the record of a snapshot stays"
    assert not [each for each in world.machines.snapshots if its_id in each], "a snapshot is left"


def check_way_out_by_undelete(world: World) -> None:
    """A DELETE that keeps a last copy leaves that and no disk. It can be taken back, and started.

    What was in the home is in it then. What has no home is forgotten. A DELETE that purges goes on.
    A copy that somebody has deleted does not come back.
    """
    possible, ws = _possible_contents(world), record(world)
    assert ws is not None
    size_gb = largest_home_gb(world) if ws.home_disk is not None else 0
    home = ws.home_disk or (ws.operation and ws.operation.former_home)
    had_home = isinstance(home, HomeDisk) and any(
        place.name == home.name for place in world.machines.disks
    )
    had_home |= _is_stored_copy(world, ws)
    purges = ws.operation is not None and ws.operation.purge
    its_id = _delete(world, purge=False)
    _check_nothing_runs(world)
    if its_id not in world.store.deleted:
        assert purges or not had_home or not possible, "it cannot be taken back"
        return
    copy = world.store.snapshots[world.store.deleted[its_id].snapshot_id]
    world.undelete(OWNER, its_id)
    there = world.machines.peek_snapshot(copy.place.name)
    if there is None:
        return
    assert there.status is SnapshotStatus.READY, "the last copy is not stored"
    world.start(OWNER, its_id)
    world.run()
    now = record(world)
    assert now is not None
    assert _can_be_used(world, now), "it cannot be used when it is taken back"
    content = world.machines.content_of(Place(now.zone, now.disk_name))
    kept = world.machines.content_of(Place(GLOBAL, copy.place.name))
    expected = possible if had_home else {*possible, kept}
    assert not possible or content in expected, "the home is another one"
    assert not had_home or largest_home_gb(world) >= size_gb, "the home is smaller"


def _is_stored_copy(world: World, ws: Workspace) -> bool:
    """Say whether the home is a snapshot of the workspace's own, as of an archived one."""
    source = ws.home_source
    switched = ws.operation is not None and ws.operation.former_home is not None
    if source is None or not source.is_of(ws.id) or switched:
        return False
    there = world.machines.peek_snapshot(source.resource_name)
    return there is not None and there.status is SnapshotStatus.READY


def _delete(world: World, *, purge: bool) -> str:
    """Delete the one workspace, again if the DELETE that was under way fails; return its id.

    If its home is in several zones, a person must keep one of them for a last copy.
    """
    its_id = ""
    for _ in range(3):
        ws = record(world)
        assert ws is not None
        its_id = ws.id
        under_way = ws.operation is not None and ws.operation.kind is OperationKind.DELETE
        world.delete(OWNER, ws.id, purge=purge)
        world.run()
        now = record(world)
        if now is None:
            break
        homes = [place for place in world.machines.disks if place.name == now.disk_name]
        if now.error and now.error.code == LAST_COPY_NOT_MADE and len(homes) > 1:
            for place in homes[1:]:
                world.machines.delete_by_hand(Place(place.zone, now.instance_name))
                world.machines.delete_disk_by_hand(place)
        elif not under_way:
            break
    assert record(world) is None, "the record stays"
    return its_id


def _check_nothing_runs(world: World) -> None:
    """See that no machine and no disk is left, and that the owner's record does not hold any."""
    assert not world.machines.instances, "a machine is left"
    assert not world.machines.disks, "a disk is left"
    assert not world.store.owners[OWNER].workspaces, "the owner's record holds it"


def check_way_out_by_start(world: World) -> None:
    """A START leads to READY with the record's machine, perhaps after the running operation.

    If it ends with advice, the check does what a person would do, and starts again: it requests
    an empty home disk, or keeps one of several machines. A resource with a name that is needed
    stays. A machine whose host failed while its home disk was detached reports that only after a
    resume, so it is started again.
    """
    advised: set[str] = set()
    possible = _possible_contents(world)
    size_gb = largest_home_gb(world)
    for _ in range(4):
        ws = record(world)
        assert ws is not None
        believed_ready = ws.operation is None and ws.status is Status.READY
        try:
            empty_home = not advised.isdisjoint({HOME_DISK_GONE, SNAPSHOT_GONE})
            world.start(OWNER, ws.id, NewMachine(empty_home=empty_home))
        except OperationUnderWayError:
            assert ws.operation is not None, "a START was refused without an operation"
        world.run()
        now = record(world)
        if now is None:
            assert ws.operation is not None
            assert ws.operation.kind is OperationKind.DELETE, (
                "the workspace was deleted without a DELETE"
            )
            return
        assert now.operation is None, "an operation does not end by itself"
        if _can_be_used(world, now):
            content = world.machines.content_of(Place(now.zone, now.disk_name))
            given_up = not advised.isdisjoint({HOME_DISK_GONE, SNAPSHOT_GONE})
            assert not possible or given_up or content in possible, "the home is another one"
            assert largest_home_gb(world) >= size_gb, "the home is smaller"
            return
        if now.error and now.error.code in ADVICE - advised:
            advised.add(now.error.code)
            if now.error.code == "MACHINE_AMBIGUOUS":
                _keep_one(world, now)
            continue
        assert ws.operation is not None or believed_ready, (
            "a START that nothing disturbed did not end READY"
        )
        # The record does not agree with the machine yet; a person who wants to use it looks.
        world.clock.advance(timedelta(seconds=10))
        world.look(now)
        world.run()
    raise AssertionError("START does not lead out of the state")


def _possible_contents(world: World) -> set[str | None]:
    """Return what the home may have once a START has led to READY; empty if that may be anything.

    It is what it has now, if it is a disk that was used, or what it is yet to be made from. A
    RESTORE that is under way ends with the one or the other.
    """
    ws = record(world)
    assert ws is not None
    contents = {
        world.machines.content_of(Place(GLOBAL, source.resource_name)) for source in ws.sources
    }
    former = ws.operation.former_home if ws.operation else None
    names = {ws.disk_name} if ws.home_disk is not None or ws.sources else set()
    names |= {former.name} if former else set()
    contents |= {
        world.machines.content_of(place) for place in world.machines.disks if place.name in names
    }
    return contents - {None}


def _keep_one(world: World, ws: Workspace) -> None:
    """Delete all machines of a workspace but one, with their disks, outside the Hub."""
    copies = [place for place in world.machines.instances if place.name == ws.instance_name]
    for place in copies[1:]:
        world.machines.delete_by_hand(place)
        world.machines.delete_disk_by_hand(Place(place.zone, ws.disk_name))


def release_homes(world: World) -> None:
    """Detach each home disk from other machines."""
    for place in world.machines.disks:
        disk = world.machines.peek_disk(place)
        if disk and any(not user.startswith("workspace-") for user in disk.users):
            world.machines.release_disk_by_hand(place)


def _can_be_used(world: World, ws: Workspace) -> bool:
    machine = world.machine(ws)
    return (
        ws.status is Status.READY
        and machine is not None
        and (machine.state, machine.id) == (InstanceState.RUNNING, ws.instance_id)
        and (machine.command.image_tag, machine.command.machine_type)
        == (ws.image_tag, ws.machine_type)
        and not has_drifted(ws, world.machines.peek(place_of(ws)), world.clock())
    )
