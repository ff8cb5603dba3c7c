"""Each operation's whole way, cut off once at every call of every port: it ends as if nothing had happened.

The calls are not listed here: a first, uninterrupted run finds them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.errors import UnavailableError
from shared.domain.instance import FaultKind, InsertInstance, SuspendInstance
from shared.domain.lifecycle import NewMachine
from shared.domain.owners import Key
from shared.domain.policy import Policy
from shared.domain.workspace import Status
from tests.fakes.interruptions import Interruptions, Moment, ProcessDiedError
from tests.fakes.machines import Mishap
from tests.fakes.world import World, place_of

KEY = Key("a-key", "a-body")


@dataclass(frozen=True)
class Story:
    """What is there before, and what is asked for; asking again is the same request again."""

    ask: Callable[[World], object]
    before: Callable[[World], object] = lambda _world: None


def _only(world: World) -> Any:
    (workspace,) = world.store.workspaces.values()
    return workspace


def _of_alice(request: Callable[..., object], *arguments: object) -> Callable[[World], object]:
    """Ask for something of the only workspace; one that is gone by now is what was asked for."""
    return lambda world: [
        request(world, "alice", ws.id, *arguments) for ws in world.store.workspaces.values()
    ]


def _ready(world: World) -> None:
    world.ready()


def _suspended(world: World) -> None:
    world.stop("alice", world.ready().id)
    world.run()


def _off(world: World) -> None:
    world.machines.script(SuspendInstance, Mishap.FAILS_LATER, FaultKind.UNSUPPORTED)
    _suspended(world)


def _off_for_long(world: World) -> None:
    _off(world)
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


def _sweep_twice(world: World) -> None:
    """A sweep reports what fails and goes on; the next one does the rest."""
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
    "start that thaws": Story(_of_alice(World.start), _suspended),
    "start that boots": Story(_of_alice(World.start), _off),
    "start of a machine that is too old": Story(_of_alice(World.start), _off_for_long),
    "start of a machine that is gone": Story(_of_alice(World.start), _gone),
    "start with another image": Story(_of_alice(World.start, NewMachine(image_tag="v2")), _ready),
    "start with a new machine": Story(_of_alice(World.start, NewMachine(rebuild=True)), _suspended),
    "delete": Story(_of_alice(World.delete), _ready),
    "delete of a suspended one": Story(_of_alice(World.delete), _suspended),
    "delete during a create": Story(_of_alice(World.delete), _being_created),
}


def play(
    story: Story, nth: int | None, moment: Moment, error: type[BaseException]
) -> tuple[list[str], World]:
    """Play a story, cut off at its ``nth`` call; return the calls that were made, and the world at the end.

    Who asked and got no answer asks again; the platform brings jobs again, those of a process that
    died only when a machine has had the time to boot; machines report again; the sweep runs.
    """
    world = World(
        policy=Policy(), retry_after=timedelta(seconds=90 if error is ProcessDiedError else 10)
    )
    story.before(world)
    interruptions = Interruptions()
    world.store_port = interruptions.around("store", world.store)
    world.machines_port = interruptions.around("machines", world.machines)
    world.provisioning_port = interruptions.around("provisioning", world.provisioning)
    world.operations_port = interruptions.around("operations", world.operations)
    if nth is not None:
        interruptions.interrupt(nth, moment, lambda: error("cut off"))
    try:
        story.ask(world)
    except (UnavailableError, ProcessDiedError):
        world.pass_time(timedelta(seconds=3))
        story.ask(world)
    world.run()
    return interruptions.calls, world


def outcome(world: World) -> list[dict[str, Any]]:
    """Return what people and the bill see at the end."""
    seen: list[dict[str, Any]] = [
        {
            "name": workspace.name,
            "status": workspace.status,
            "operation": workspace.operation,
            "error": workspace.error and (workspace.error.code, workspace.error.operation_kind),
            "awake": workspace.memory_is_ready,
            "generation": workspace.generation,
            "zone": workspace.zone,
            "image": workspace.image_tag,
            "machine_running": workspace.machine_running,
            "home_disk": workspace.home_disk is not None,
            "machine": (machine := world.machine(workspace))
            and (machine.state, machine.command.image_tag),
            "is the recorded machine": machine is not None and machine.id == workspace.instance_id,
            "disk": any(disk.name == workspace.disk_name for disk in world.machines.disks),
        }
        for workspace in world.store.workspaces.values()
    ]
    holdings = {
        (held.name, held.running)
        for owner in world.store.owners.values()
        for held in owner.workspaces.values()
    }
    return [
        *seen,
        {
            "held": holdings,
            "machines": len(world.machines.instances),
            "disks": len(world.machines.disks),
        },
    ]


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.usecases.change_workspace.PAUSE_SECONDS", 0)


@pytest.mark.parametrize("error", [ProcessDiedError, UnavailableError])
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("story", STORIES)
def test_an_operation_cut_off_at_any_call_ends_as_if_nothing_had_happened(
    story: str, moment: Moment, error: type[BaseException]
) -> None:
    """Before or after any call of any port, a process dies or an answer is lost: people and machines end up the same."""
    calls, undisturbed = play(STORIES[story], None, moment, error)
    expected = outcome(undisturbed)

    wrong = []
    for nth, call in enumerate(calls):
        _, world = play(STORIES[story], nth, moment, error)
        if outcome(world) != expected:
            wrong.append((nth, call, outcome(world)))

    assert calls
    assert not wrong, f"{len(wrong)} of {len(calls)} calls, instead of {expected}"


def test_the_undisturbed_stories_end_where_they_should() -> None:
    """What the cut-off runs are compared with is what each story is about."""
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
        "start that thaws": Status.READY,
        "start that boots": Status.READY,
        "start of a machine that is too old": Status.READY,
        "start of a machine that is gone": Status.READY,
        "start with another image": Status.READY,
        "start with a new machine": Status.READY,
        "delete": None,
        "delete of a suspended one": None,
        "delete during a create": None,
    }
