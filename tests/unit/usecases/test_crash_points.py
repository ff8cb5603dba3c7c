"""Each operation is interrupted once at every call of every port, and ends the same way.

The calls are not listed here: a first, uninterrupted run finds them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.errors import UnavailableError
from shared.domain.instance import (
    CreateSnapshot,
    FaultKind,
    InsertInstance,
    Place,
    ResizeDisk,
    ResumeInstance,
    SuspendInstance,
)
from shared.domain.lifecycle import NewMachine
from shared.domain.owner_limits import Key
from shared.domain.ownership import labels_of
from shared.domain.policy import Policy
from shared.domain.workspace import Phase, Status
from tests.fakes.interruptions import Interruptions, Moment, ProcessDiedError
from tests.fakes.machines import INSTALLATION, Durations, Mishap
from tests.fakes.records import a_snapshot
from tests.fakes.world import World, place_of

KEY = Key("a-key", "a-body")
LARGER = NewMachine(home_disk_gb=100)
# The phases in which an ARCHIVE waits for what it has called.
ARCHIVING = (
    *(Phase.AWAIT_STOPPED, Phase.AWAIT_ABSENT, Phase.AWAIT_SNAPSHOT, Phase.AWAIT_STORED),
    Phase.AWAIT_DISK_ABSENT,
)

# The phases in which a move waits.
MOVING = (
    *(Phase.AWAIT_STOPPED, Phase.AWAIT_SNAPSHOT, Phase.AWAIT_STORED),
    *(Phase.INSERTING, Phase.AWAIT_READY),
)
ELSEWHERE = NewMachine(zone=Policy().zones[1])


@dataclass(frozen=True)
class Story:
    """The initial state and the request; after an interruption the same request is repeated."""

    ask: Callable[[World], object]
    before: Callable[[World], object] = lambda _world: None


def _only(world: World) -> Any:
    (workspace,) = world.store.workspaces.values()
    return workspace


def _of_alice(request: Callable[..., object], *arguments: object) -> Callable[[World], object]:
    """Return a request for the only workspace; it does nothing if the workspace is gone."""
    return lambda world: [
        request(world, "alice", ws.id, *arguments) for ws in world.store.workspaces.values()
    ]


def _ready(world: World) -> None:
    world.ready()


def _suspended(world: World) -> None:
    world.stop("alice", world.ready().id)
    world.run()


def _stopped(world: World) -> None:
    world.machines.script(SuspendInstance, Mishap.FAILS_LATER, FaultKind.UNSUPPORTED)
    _suspended(world)


def _stopped_long_ago(world: World) -> None:
    _stopped(world)
    world.clock.advance(timedelta(days=31))


def _gone(world: World) -> None:
    world.ready()
    world.machines.delete_by_hand(place_of(_only(world)))
    world.look(_only(world))
    world.run()


def _no_capacity_in_first_zone(world: World) -> None:
    world.machines.script(
        InsertInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT, zone=world.policy.zones[0], times=9
    )


def _never_allowed(world: World) -> None:
    world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.QUOTA, times=9)


def _cannot_suspend(world: World) -> None:
    world.ready()
    world.machines.script(SuspendInstance, Mishap.FAILS_LATER, FaultKind.UNSUPPORTED, times=9)


def _idle(world: World) -> None:
    world.ready()
    world.clock.advance(timedelta(hours=2))


def _being_created(world: World) -> None:
    world.create("alice", "one", key=KEY)
    world.pass_time(timedelta(seconds=5))


def _snapshot(world: World) -> None:
    world.ready()
    world.snapshot("alice", _only(world).id)
    world.run()
    world.pass_time(world.policy.snapshot_pause)


def _taking_snapshot(world: World) -> None:
    world.ready()
    world.snapshot("alice", _only(world).id)
    world.pass_time(timedelta(seconds=2))


def _asking_for_snapshot(world: World) -> None:
    """Have a SNAPSHOT that was asked for, and of which no step is done."""
    world.snapshot("alice", world.ready().id)


def _snapshot_without_capacity(world: World) -> None:
    _snapshot(world)
    _no_capacity_in_first_zone(world)


def _restorable(world: World) -> None:
    """Have a READY workspace whose home can be restored, without the time that a SNAPSHOT takes."""
    workspace = world.ready()
    snapshot, home = a_snapshot(workspace), Place(workspace.zone, workspace.disk_name)
    labels = {**labels_of(workspace.id, "alice"), "hub": INSTALLATION}
    world.machines.make_snapshot_by_hand(snapshot.place.name, home, labels)
    world.store.put_snapshots(snapshot)


def _never_restored(world: World) -> None:
    _restorable(world)
    _never_allowed(world)


def _restoring(world: World) -> None:
    """Have a RESTORE that makes its new home."""
    _restorable(world)
    _restore(world)
    world.run(lambda: _only(world).operation.phase is Phase.INSERTING)


def _archived(world: World) -> None:
    world.archive("alice", world.ready().id)
    world.run()


def _never_larger(world: World) -> None:
    _suspended(world)
    world.machines.script(ResizeDisk, Mishap.REFUSED, FaultKind.QUOTA, times=9)


def _archiving(phase: Phase) -> Callable[[World], None]:
    """Return what makes a READY workspace one whose ARCHIVE has come to a phase."""

    def before(world: World) -> None:
        world.archive("alice", world.ready().id)
        world.run(lambda: _only(world).operation.phase is phase)

    return before


def _forgotten_for_good(world: World) -> None:
    """Have a workspace that has been suspended for longer than any is kept."""
    _suspended(world)
    world.clock.advance(timedelta(days=31))


def _forgotten(world: World) -> None:
    """Have a workspace that is suspended for so long that the clean-up announces its ARCHIVE."""
    world.policy = replace(world.policy, archive_after=timedelta(days=14))
    _suspended(world)
    world.clock.advance(timedelta(days=12))


def _announce_and_archive(world: World) -> None:
    """Run the clean-up as long as it takes to announce an ARCHIVE, and then to begin it."""
    _sweep_twice(world)
    if _only(world).operation is None:
        world.clock.advance(timedelta(days=4))
        _sweep_twice(world)


def _moving(phase: Phase) -> Callable[[World], None]:
    """Return what makes a READY workspace one whose move has come to a phase."""

    def before(world: World) -> None:
        world.start("alice", world.ready().id, ELSEWHERE)
        world.run(lambda: _only(world).operation.phase is phase)

    return before


def _no_capacity_here(world: World) -> None:
    _suspended(world)
    world.machines.script(
        ResumeInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT, zone=world.policy.zones[0], times=9
    )


def _no_capacity_there(world: World) -> None:
    _suspended(world)
    world.machines.script(
        InsertInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT, zone=ELSEWHERE.zone, times=9
    )


def _moved(world: World) -> None:
    _suspended(world)
    world.start("alice", _only(world).id, ELSEWHERE)
    world.run()


def _restored_and_used(world: World) -> None:
    """Have a restored home, whose disk of before has what nothing else has."""
    _restorable(world)
    before = Place(_only(world).zone, _only(world).disk_name)
    _restore(world)
    world.run()
    world.pass_time(timedelta(minutes=10))
    world.machines.hold_disk_by_hand(before)
    world.machines.write(before, "what somebody wrote since")
    world.machines.release_disk_by_hand(before)


def _moved_and_used(world: World) -> None:
    """Have a moved workspace, whose machine of before somebody has started."""
    _suspended(world)
    before = place_of(_only(world))
    world.start("alice", _only(world).id, ELSEWHERE)
    world.run()
    world.machines.start_by_hand(before)
    world.pass_time(timedelta(minutes=10))


def _sweep_the_fleet_often(world: World) -> None:
    """Run the hourly sweep until nothing is left for it: the first may report failures."""
    for _ in range(4):
        world.reconcile_fleet()
        world.pass_time(timedelta(hours=1))


def _deleted(world: World) -> None:
    world.delete("alice", world.ready().id)
    world.run()


def _deleted_long_ago(world: World) -> None:
    _deleted(world)
    world.clock.advance(timedelta(days=8))


def _undelete(world: World) -> object:
    """Take the only workspace back; the request may come again."""
    return [
        world.undelete("alice", each) for each in (*world.store.deleted, *world.store.workspaces)
    ]


def _purge(world: World) -> object:
    """Delete the only workspace so that it cannot be taken back."""
    return [world.delete("alice", each, purge=True) for each in world.store.workspaces]


def _no_snapshots_allowed(world: World) -> None:
    world.ready()
    world.machines.script(CreateSnapshot, Mishap.REFUSED, FaultKind.QUOTA, times=9)


def _delete_snapshot(world: World) -> object:
    return [
        world.delete_snapshot("alice", snapshot.workspace_id, snapshot.id)
        for snapshot in world.store.snapshots.values()
    ]


def _restore(world: World) -> object:
    [snapshot] = [each.id for each in world.store.snapshots.values() if not each.automatic]
    return world.restore("alice", _only(world).id, snapshot)


def _fork(world: World) -> object:
    [snapshot] = world.store.snapshots
    return world.create("alice", "two", from_snapshot=snapshot, key=KEY)


def _sweep_twice(world: World) -> None:
    """Run the clean-up twice: the first reports failures, the second does the rest."""
    world.clean_up()
    world.clean_up()


def _create(world: World) -> object:
    return world.create("alice", "one", key=KEY)


STORIES = {
    "create": Story(_create),
    "create in another zone": Story(_create, _no_capacity_in_first_zone),
    "create that is refused": Story(_create, _never_allowed),
    "stop": Story(_of_alice(World.stop), _ready),
    "stop without suspend": Story(_of_alice(World.stop), _cannot_suspend),
    "automatic stop": Story(_sweep_twice, _idle),
    "start that resumes": Story(_of_alice(World.start), _suspended),
    "start that boots": Story(_of_alice(World.start), _stopped),
    "start of a machine that is too old": Story(_of_alice(World.start), _stopped_long_ago),
    "start of a machine that is gone": Story(_of_alice(World.start), _gone),
    "start with another image": Story(_of_alice(World.start, NewMachine(image_tag="v2")), _ready),
    "start with a new machine": Story(_of_alice(World.start, NewMachine(rebuild=True)), _suspended),
    "delete": Story(_of_alice(World.delete), _ready),
    "delete of a suspended one": Story(_of_alice(World.delete), _suspended),
    "delete during a create": Story(_of_alice(World.delete), _being_created),
    "snapshot": Story(_of_alice(World.snapshot, "first"), _ready),
    "snapshot of a suspended one": Story(_of_alice(World.snapshot), _suspended),
    "snapshot of one whose machine is gone": Story(_of_alice(World.snapshot), _gone),
    "snapshot that is refused": Story(_of_alice(World.snapshot), _no_snapshots_allowed),
    "delete of a snapshot": Story(_delete_snapshot, _snapshot),
    "delete before a snapshot": Story(_of_alice(World.delete), _asking_for_snapshot),
    # Without its answer, the DELETE may come when the snapshot is taken, and would keep it.
    "delete during a snapshot": Story(_purge, _taking_snapshot),
    "delete with snapshots": Story(_of_alice(World.delete), _snapshot),
    "delete without a trace": Story(_purge, _snapshot),
    "undelete": Story(_undelete, _deleted),
    "purge by the clean-up": Story(_sweep_twice, _deleted_long_ago),
    "archive": Story(_of_alice(World.archive), _ready),
    "archive of a suspended one": Story(_of_alice(World.archive), _suspended),
    "archive of a restored one": Story(_of_alice(World.archive), _restored_and_used),
    "archive of a moved one": Story(_of_alice(World.archive), _moved_and_used),
    "delete by the clean-up": Story(_sweep_twice, _forgotten_for_good),
    "archive by the clean-up": Story(_announce_and_archive, _forgotten),
    "start of an archived one": Story(_of_alice(World.start), _archived),
    "start that grows": Story(_of_alice(World.start, LARGER), _ready),
    "start that grows a suspended one": Story(_of_alice(World.start, LARGER), _suspended),
    "start that grows an archived one": Story(_of_alice(World.start, LARGER), _archived),
    "start that grows in vain": Story(_of_alice(World.start, LARGER), _never_larger),
    "delete of an archived one": Story(_of_alice(World.delete), _archived),
    # Without its answer, the DELETE may come when the ARCHIVE's snapshot is stored, and keep that.
    **{
        f"delete during an archive in {phase}": Story(
            _purge if phase is Phase.AWAIT_STORED else _of_alice(World.delete), _archiving(phase)
        )
        for phase in ARCHIVING
    },
    **{
        f"start during an archive in {phase}": Story(_of_alice(World.start), _archiving(phase))
        for phase in (Phase.AWAIT_ABSENT, Phase.AWAIT_STORED)
    },
    "move": Story(_of_alice(World.start, ELSEWHERE), _ready),
    "move of a suspended one": Story(_of_alice(World.start, ELSEWHERE), _suspended),
    "move that finds no capacity": Story(_of_alice(World.start, ELSEWHERE), _no_capacity_there),
    "start that has to move": Story(
        _of_alice(World.start, NewMachine(may_move=True)), _no_capacity_here
    ),
    **{
        f"delete during a move in {phase}": Story(_of_alice(World.delete), _moving(phase))
        for phase in MOVING
    },
    "delete of a moved one": Story(_of_alice(World.delete), _moved),
    "sweep after a move": Story(_sweep_the_fleet_often, _moved),
    "restore": Story(_restore, _restorable),
    "restore that is refused": Story(_restore, _never_restored),
    "delete during a restore": Story(_of_alice(World.delete), _restoring),
    "fork": Story(_fork, _snapshot),
    "fork in another zone": Story(_fork, _snapshot_without_capacity),
}


def play(
    story: Story, nth: int | None, moment: Moment, error: type[BaseException]
) -> tuple[list[str], World]:
    """Play a story, interrupted at its ``nth`` call; return the calls made, and the final world.

    A person without an answer repeats the request. The platform delivers jobs again, and those of a
    process that died only after a machine has had time to boot. Machines repeat their reports, and
    the reconciler runs.
    """
    world = World(
        policy=Policy(),
        retry_after=timedelta(seconds=90 if error is ProcessDiedError else 10),
        durations=Durations(upload=timedelta(seconds=20)),  # the fewer looks, the shorter the test
    )
    story.before(world)
    interruptions = Interruptions()
    world.store_port = interruptions.around("store", world.store)
    world.machines_port = interruptions.around("machines", world.machines)
    world.provisioning_port = interruptions.around("provisioning", world.provisioning)
    world.operations_port = interruptions.around("operations", world.operations)
    if nth is not None:
        interruptions.interrupt(nth, moment, lambda: error("interrupted"))
    try:
        story.ask(world)
    except (UnavailableError, ProcessDiedError):
        world.pass_time(timedelta(seconds=3))
        story.ask(world)
    world.run()
    return interruptions.calls, world


def outcome(world: World) -> list[dict[str, Any]]:
    """Return what people see in the end, and what costs money."""
    seen: list[dict[str, Any]] = [
        {
            "name": workspace.name,
            "status": workspace.status,
            "operation": workspace.operation,
            "error": workspace.error and (workspace.error.code, workspace.error.operation_kind),
            "memory_is_ready": workspace.memory_is_ready,
            "generation": workspace.generation,
            "zone": workspace.zone,
            "image": workspace.image_tag,
            "machine_running": workspace.machine_running,
            "archived": workspace.archived_at is not None,
            "made of": workspace.home_source is not None,
            "home_disk": workspace.home_disk is not None,
            "machine": (machine := world.machine(workspace))
            and (machine.state, machine.command.image_tag),
            "is the recorded machine": machine is not None and machine.id == workspace.instance_id,
            "old_homes": len(workspace.old_homes),
            "disks": [
                (disk.zone, world.machines.disk_gb(disk))
                for disk in world.machines.disks
                if disk.name == workspace.disk_name
            ],
            "home_gb": workspace.home_gb,
        }
        for workspace in world.store.workspaces.values()
    ]
    holdings = {
        (held.name, held.running)
        for owner in world.store.owners.values()
        for held in owner.workspaces.values()
    }
    snapshots = [
        {
            "name": snapshot.name,
            "state": snapshot.state,
            "due": snapshot.attend_at,
            "error": snapshot.error and snapshot.error.code,
            "there": world.machines.snapshots.get(snapshot.place.name),
        }
        for snapshot in world.store.snapshots.values()
    ]
    entries = [
        {"name": entry.workspace.name, "has its copy": entry.snapshot_id in world.store.snapshots}
        for entry in world.store.deleted.values()
    ]
    return [
        *seen,
        *snapshots,
        *entries,
        {
            "held": holdings,
            "machines": len(world.machines.instances),
            "disks": len(world.machines.disks),
            "snapshots": len(world.machines.snapshots),
        },
    ]


@pytest.mark.parametrize("error", [ProcessDiedError, UnavailableError])
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("story", STORIES)
def test_an_operation_interrupted_at_any_call_has_the_same_outcome(
    story: str, moment: Moment, error: type[BaseException]
) -> None:
    """Before or after any call a process dies or an answer is lost; the outcome is the same."""
    calls, undisturbed = play(STORIES[story], None, moment, error)
    expected = outcome(undisturbed)

    wrong = []
    for nth, call in enumerate(calls):
        _, world = play(STORIES[story], nth, moment, error)
        if outcome(world) != expected:
            wrong.append((nth, call, outcome(world)))

    assert calls
    assert not wrong, f"{len(wrong)} of {len(calls)} calls, instead of {expected}"


def test_the_uninterrupted_stories_have_the_intended_outcomes() -> None:
    """The other tests compare with these outcomes, so they must be the intended ones."""
    ends = {}
    for name, story in STORIES.items():
        _, world = play(story, None, Moment.BEFORE, ProcessDiedError)
        ends[name] = next((ws.status for ws in world.store.workspaces.values()), None)

    assert ends == {
        "create": Status.READY,
        "create in another zone": Status.READY,
        "create that is refused": Status.ERROR,
        "stop": Status.SUSPENDED,
        "stop without suspend": Status.SUSPENDED,
        "automatic stop": Status.SUSPENDED,
        "start that resumes": Status.READY,
        "start that boots": Status.READY,
        "start of a machine that is too old": Status.READY,
        "start of a machine that is gone": Status.READY,
        "start with another image": Status.READY,
        "start with a new machine": Status.READY,
        "delete": None,
        "delete of a suspended one": None,
        "delete during a create": None,
        "snapshot": Status.READY,
        "snapshot of a suspended one": Status.SUSPENDED,
        "snapshot of one whose machine is gone": Status.ERROR,
        "snapshot that is refused": Status.READY,
        "delete of a snapshot": Status.READY,
        "delete before a snapshot": None,
        "delete during a snapshot": None,
        "delete with snapshots": None,
        "delete without a trace": None,
        "undelete": Status.SUSPENDED,
        "purge by the clean-up": None,
        "archive": Status.SUSPENDED,
        "archive of a suspended one": Status.SUSPENDED,
        "archive of a restored one": Status.SUSPENDED,
        "archive of a moved one": Status.SUSPENDED,
        "delete by the clean-up": None,
        "archive by the clean-up": Status.SUSPENDED,
        "start of an archived one": Status.READY,
        "start that grows": Status.READY,
        "start that grows a suspended one": Status.READY,
        "start that grows an archived one": Status.READY,
        "start that grows in vain": Status.SUSPENDED,
        "delete of an archived one": None,
        **dict.fromkeys(f"delete during an archive in {phase}" for phase in ARCHIVING),
        "start during an archive in await_absent": Status.READY,
        "start during an archive in await_stored": Status.READY,
        "move": Status.READY,
        "move of a suspended one": Status.READY,
        "move that finds no capacity": Status.SUSPENDED,
        "start that has to move": Status.READY,
        **dict.fromkeys(f"delete during a move in {phase}" for phase in MOVING),
        "delete of a moved one": None,
        "sweep after a move": Status.READY,
        "restore": Status.READY,
        "restore that is refused": Status.SUSPENDED,
        "delete during a restore": None,
        "fork": Status.READY,
        "fork in another zone": Status.READY,
    }
