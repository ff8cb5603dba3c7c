"""A DELETE that keeps a last copy, in virtual time, with every mishap and every change by hand.

At every moment what was in the home must be somewhere, unless somebody has deleted it by hand. At
the end the workspace can be taken back with it, or is still there and says why.
"""

from collections.abc import Callable

import pytest

from shared.domain.errors import HubError
from shared.domain.instance import (
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    Place,
)
from shared.domain.workspace import OperationKind, Phase, Status, Workspace
from tests.fakes.machines import FakeMachines
from tests.faults.test_restores import (
    BEFORE,
    LATER,
    Restoring,
    mishaps,
    on_machine,
    one_step_at_a_time,
    restoring,
    use,
)
from tests.faults.ways_out import OWNER

__all__ = ["one_step_at_a_time"]

PHASES = (
    *(Phase.DELETE_INSTANCE, Phase.AWAIT_ABSENT, Phase.SNAPSHOT, Phase.AWAIT_SNAPSHOT),
    *(Phase.AWAIT_STORED, Phase.DELETE_DISK, Phase.AWAIT_DISK_ABSENT, Phase.FORGET),
)
COMMANDS: tuple[type[Command], ...] = (DeleteInstance, CreateSnapshot, DeleteDisk)
NOT_MADE = "LAST_COPY_NOT_MADE"


def deleting(before: str = "ready") -> Restoring:
    """Return a world in which a DELETE was asked for."""
    there = restoring(before)
    there.world.delete(OWNER, there.id)
    return there


def check_end(there: Restoring) -> None:
    """See that all is there: in a workspace that can be taken back, or in one that says why not.

    Then it is deleted at last and taken back, and its home has what it had. Deleted for good,
    nothing of it is left.
    """
    there.sweep()
    world = there.world
    kept = world.store.workspaces.get(there.id)
    if kept is not None:
        assert kept.operation is None
        assert kept.error is not None
        assert kept.error.operation_kind is OperationKind.DELETE
        world.delete(OWNER, there.id)
        there.run()
        there.sweep()
    assert world.store.deleted[there.id].snapshot_id in world.store.snapshots
    assert not [place for place in world.machines.disks if there.id in place.name]
    assert not [place for place in world.machines.instances if there.id in place.name]
    ws = world.undelete(OWNER, there.id)
    assert (ws.status, world.machine(ws)) == (Status.SUSPENDED, None)
    world.start(OWNER, there.id)
    there.run()
    assert there.workspace.status is Status.READY
    assert there.home() == there.latest
    there.sweep()
    assert there.workspace.old_homes == ()
    world.delete(OWNER, there.id, purge=True)
    world.run()
    assert (there.id in world.store.workspaces, there.id in world.store.deleted) == (False, False)
    assert not [name for name in world.machines.snapshots if there.id in name]
    assert not [place for place in world.machines.disks if there.id in place.name]


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_refusal_of_any_call_of_a_delete_loses_the_content(
    before: str, command: type[Command]
) -> None:
    """Once or for ever, at once or later: it can be taken back, now or after another DELETE."""
    wrong = []
    for mishap, kind, times in mishaps(command):
        there = deleting(before)
        there.world.machines.script(command, mishap, kind, times=times)
        try:
            there.run()
            check_end(there)
        except (AssertionError, HubError, KeyError) as error:
            wrong.append(f"{mishap.name} {kind.name} {times}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


def _delete_copy(there: Restoring, _: Workspace) -> None:
    """Delete the last copy, as far as it is there; if it is all that stays, that is a loss."""
    machines = there.world.machines
    staying = machines.disks if there.phase is not Phase.AWAIT_DISK_ABSENT else set()
    disks = {machines.content_of(place) for place in staying}
    for name in [each for each in machines.snapshots if each != there.source_name]:
        if machines.content_of(Place("global", name)) == LATER and LATER not in disks:
            there.gone_by_hand.add(LATER)
        machines.delete_snapshot_by_hand(name)


def _use_elsewhere(there: Restoring, ws: Workspace) -> None:
    """Have another machine use the home disk, if it is free, and let go of it."""
    home = Place(ws.zone, ws.disk_name)
    disk = there.world.machines.peek_disk(home)
    if disk is None or disk.in_use or there.phase is Phase.AWAIT_DISK_ABSENT:
        return
    there.world.machines.hold_disk_by_hand(home)
    there.latest = "what another machine has written"
    there.world.machines.write(home, there.latest)
    there.world.machines.release_disk_by_hand(home)


BY_HAND: dict[str, Callable[[Restoring, Workspace], None]] = {
    "machine stopped": on_machine(FakeMachines.stop_by_hand),
    "machine started, used and stopped": use,
    "machine deleted": on_machine(FakeMachines.delete_by_hand),
    "home used by another machine": _use_elsewhere,
    "copy deleted": _delete_copy,
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("act", BY_HAND)
def test_no_change_by_hand_during_a_delete_loses_what_it_does_not_delete(
    before: str, act: str
) -> None:
    """In every phase: it can be taken back with what was written last."""
    wrong = []
    for phase in PHASES:
        there = deleting(before)
        if not there.run_until_in(phase):
            continue
        try:
            BY_HAND[act](there, there.workspace)
            there.run()
            if LATER not in there.gone_by_hand:
                check_end(there)
        except (AssertionError, HubError, KeyError) as error:
            wrong.append(f"{phase}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)
