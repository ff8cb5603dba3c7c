"""The reason that a suspended workspace gives for its stop."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.domain.instance import FaultKind, ResumeInstance
from shared.domain.workspace import Status, StopReason, Workspace
from tests.fakes.machines import Mishap
from tests.fakes.world import World, place_of


@pytest.fixture
def world() -> World:
    """A Hub without workspaces."""
    return World()


def idle_workspace(world: World) -> Workspace:
    """Return a workspace that the clean-up has suspended."""
    workspace = world.ready()
    world.clock.advance(timedelta(hours=2))
    world.clean_up()
    world.run()
    return world.workspace(workspace.id)


def test_the_reason_is_idle_after_an_automatic_stop(world: World) -> None:
    """The clean-up has suspended the workspace."""
    workspace = idle_workspace(world)
    assert (workspace.status, workspace.stopped_because) == (Status.SUSPENDED, StopReason.IDLE)


def test_the_reason_is_requested_if_a_person_takes_over_an_automatic_stop(world: World) -> None:
    """A person's STOP takes over the automatic one."""
    workspace = world.ready()
    world.clock.advance(timedelta(hours=2))
    world.clean_up()
    world.stop("alice", workspace.id)
    world.run()
    assert world.workspace(workspace.id).stopped_because is StopReason.REQUESTED


def test_the_reason_is_outside_after_a_stop_by_hand(world: World) -> None:
    """The machine was stopped by hand, and a look has found it."""
    workspace = world.ready()
    world.machines.stop_by_hand(place_of(workspace))
    world.look(workspace)
    world.run()
    followed = world.workspace(workspace.id)
    assert (followed.status, followed.stopped_because) == (Status.SUSPENDED, StopReason.OUTSIDE)


def test_a_start_without_capacity_keeps_the_reason(world: World) -> None:
    """The reason says why it was suspended, the error why it still is."""
    workspace = idle_workspace(world)
    world.machines.script(ResumeInstance, Mishap.REFUSED, FaultKind.STOCK_OUT)
    world.start("alice", workspace.id)
    world.run()
    refused = world.workspace(workspace.id)
    assert refused.error is not None
    assert (refused.status, refused.stopped_because, refused.error.code) == (
        *(Status.SUSPENDED, StopReason.IDLE),
        "NO_CAPACITY",
    )


def test_a_started_workspace_has_no_reason(world: World) -> None:
    """The next stop has its own reason."""
    workspace = idle_workspace(world)
    world.start("alice", workspace.id)
    world.run()
    assert world.workspace(workspace.id).stopped_because is None
