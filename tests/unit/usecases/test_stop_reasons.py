"""Why a suspended workspace says that it was stopped."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.domain.instance import FaultKind, ResumeInstance
from shared.domain.workspace import Status, StopReason, Workspace
from tests.fakes.machines import Mishap
from tests.fakes.world import World, place_of


@pytest.fixture
def world() -> World:
    """A Hub with nothing in it."""
    return World()


def idle(world: World) -> Workspace:
    """Return a workspace that the cleanup has suspended."""
    workspace = world.ready()
    world.clock.advance(timedelta(hours=2))
    world.clean_up()
    world.run()
    return world.workspace(workspace.id)


def test_it_says_that_nobody_was_connected(world: World) -> None:
    """The cleanup has suspended it."""
    workspace = idle(world)
    assert (workspace.status, workspace.stopped_because) == (Status.SUSPENDED, StopReason.IDLE)


def test_it_says_that_somebody_asked_for_it_even_after_the_cleanup_has_begun(world: World) -> None:
    """A STOP of a person's makes the automatic one their own."""
    workspace = world.ready()
    world.clock.advance(timedelta(hours=2))
    world.clean_up()
    world.stop("alice", workspace.id)
    world.run()
    assert world.workspace(workspace.id).stopped_because is StopReason.REQUESTED


def test_it_says_that_it_was_done_outside(world: World) -> None:
    """The machine was switched off by hand, and a look has noticed."""
    workspace = world.ready()
    world.machines.stop_by_hand(place_of(workspace))
    world.look(workspace)
    world.run()
    followed = world.workspace(workspace.id)
    assert (followed.status, followed.stopped_because) == (Status.SUSPENDED, StopReason.OUTSIDE)


def test_a_start_that_gets_no_capacity_leaves_the_reason(world: World) -> None:
    """It is suspended for why it was; the error says why it still is."""
    workspace = idle(world)
    world.machines.script(ResumeInstance, Mishap.REFUSED, FaultKind.STOCK_OUT)
    world.start("alice", workspace.id)
    world.run()
    refused = world.workspace(workspace.id)
    assert refused.error is not None
    assert (refused.status, refused.stopped_because, refused.error.code) == (
        *(Status.SUSPENDED, StopReason.IDLE),
        "NO_CAPACITY",
    )


def test_one_that_runs_again_says_nothing_about_it(world: World) -> None:
    """The next stop has its own reason."""
    workspace = idle(world)
    world.start("alice", workspace.id)
    world.run()
    assert world.workspace(workspace.id).stopped_because is None
