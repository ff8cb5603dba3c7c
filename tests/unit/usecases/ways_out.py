"""The two ways out of whatever state a workspace is in: DELETE and START, with nothing going wrong any more."""

from datetime import timedelta
from typing import Final

from shared.domain.errors import OperationUnderWayError
from shared.domain.instance import InstanceState
from shared.domain.observe import differs
from shared.domain.policy import Limits, Policy
from shared.domain.workspace import OperationKind, Status, Workspace
from tests.fakes.world import World, place_of

OWNER: Final = "alice"
POLICY: Final = Policy(
    zones=("us-west1-a", "us-west1-b"), limits=Limits(workspaces=1, running=1), changes_per_minute=10**6
)


def record(world: World) -> Workspace | None:
    """Return the one workspace, None when it is forgotten."""
    return next(iter(world.store.workspaces.values()), None)


def check_way_out_by_delete(world: World) -> None:
    """A DELETE is accepted at once, and leaves nothing of the workspace; one that was under way already may fail before."""
    for _ in range(2):
        ws = record(world)
        assert ws is not None
        under_way = ws.operation is not None and ws.operation.kind is OperationKind.DELETE
        world.delete(OWNER, ws.id)
        world.run()
        if record(world) is None or not under_way:
            break
    assert record(world) is None, "the record stays"
    assert not world.machines.instances, "a machine is left"
    assert not world.machines.disks, "a disk is left"
    assert not world.store.owners[OWNER].workspaces, "the owner's record holds it"


def check_way_out_by_start(world: World) -> None:
    """A START is accepted, at once or when what is under way has ended, and ends READY with the record's machine."""
    for _ in range(3):
        ws = record(world)
        assert ws is not None
        believed_ready = ws.operation is None and ws.status is Status.READY
        try:
            world.start(OWNER, ws.id)
        except OperationUnderWayError:
            assert ws.operation is not None, "it was refused for nothing"
        world.run()
        now = record(world)
        if now is None:
            assert ws.operation is not None
            assert ws.operation.kind is OperationKind.DELETE, "it went, and nobody had asked for that"
            return
        assert now.operation is None, "an operation does not end by itself"
        if _can_be_used(world, now):
            return
        assert ws.operation is not None or believed_ready, "a START that nothing disturbed did not end READY"
        # The machine is not what the record says, and nobody has looked yet: whoever wants to use it does.
        world.clock.advance(timedelta(seconds=10))
        world.look(now)
        world.run()
    raise AssertionError("START does not get out of it")


def _can_be_used(world: World, ws: Workspace) -> bool:
    machine = world.machine(ws)
    return (
        ws.status is Status.READY
        and machine is not None
        and (machine.state, machine.id) == (InstanceState.RUNNING, ws.instance_id)
        and (machine.command.image_tag, machine.command.machine_type) == (ws.image_tag, ws.machine_type)
        and not differs(ws, world.machines.peek(place_of(ws)), world.clock())
    )
