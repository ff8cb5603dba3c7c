"""The clean-up reads only what is due, by a time that every write of a record has in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import NoReturn

import pytest

from shared.domain.errors import UnavailableError
from shared.domain.lifecycle import sweeps_at
from shared.domain.workspace import Workspace
from tests.fakes.store import MemoryWorkspaceStore
from tests.fakes.world import World
from tests.upgrade.stories import STORIES, tell

HOUR = timedelta(hours=1)


@pytest.fixture
def world() -> Iterator[World]:
    """A Hub; what is written in it has the right time."""
    written: list[Workspace] = []
    made = World(
        store=MemoryWorkspaceStore(lambda _, after: written.append(after) if after else None)
    )
    policy = made.policy
    yield made
    assert [each for each in written if each.sweep_at != sweeps_at(each, policy)] == []


@pytest.mark.parametrize("story", STORIES)
def test_every_write_has_the_time(world: World, story: str) -> None:
    """The fixture looks at each write of stories with faults, sweeps and changes by hand."""
    tell(world, story)


def test_a_workspace_that_is_kept_awake_is_not_read_before_its_time(world: World) -> None:
    """Its idle time is long over."""
    workspace = world.ready()
    world.keep_awake("alice", workspace.id, world.clock() + 8 * HOUR)
    world.clock.advance(7 * HOUR)
    before = world.store.counts.reads

    report = world.clean_up()

    assert (report.looked_at, world.store.counts.reads) == (0, before)


def test_a_longer_idle_time_puts_the_time_right_at_the_next_clean_up() -> None:
    """It reads what is due by the old one once. That is no event, and no change that people see."""
    world = World()
    workspace = world.ready()
    world.policy = replace(world.policy, idle_after=3 * HOUR)
    world.clock.advance(2 * HOUR)
    events = len(world.store.events)

    first, second = world.clean_up(), world.clean_up()

    assert (first.looked_at, first.done, second.looked_at) == (1, {}, 0)
    now = world.workspace(workspace.id)
    assert now.sweep_at == workspace.last_connected_at + 3 * HOUR
    assert (replace(now, sweep_at=workspace.sweep_at), len(world.store.events)) == (
        workspace,
        events,
    )


def test_a_shorter_idle_time_counts_from_the_next_hourly_sweep_on() -> None:
    """It reads every record anyhow, and writes only those that are wrong."""
    world = World()
    workspace = world.ready()
    world.policy = replace(world.policy, idle_after=timedelta(minutes=10))
    world.clock.advance(timedelta(minutes=11))

    assert world.clean_up().looked_at == 0
    assert world.reconcile_fleet().done == {"sweep_timed": [workspace.id]}
    assert world.reconcile_fleet().done == {}
    assert world.clean_up().done == {"stop": [workspace.id]}


def test_one_record_whose_time_cannot_be_put_right_does_not_stop_the_others() -> None:
    """The report names it, and the next run tries again."""
    world = World()
    bad, good = world.ready("alice"), world.ready("bob")
    world.policy = replace(world.policy, idle_after=None)
    world.clock.advance(2 * HOUR)
    world.store.unreadable = {bad.id}

    report = world.clean_up()

    assert list(report.failed) == [bad.id]
    assert world.workspace(good.id).sweep_at is None


@pytest.mark.parametrize("away", ["one machine", "all lists"])
def test_the_time_is_put_right_though_compute_does_not_answer(
    away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a record that an older version has written would run for ever."""
    world = World()
    workspace = world.ready()
    world.store.put(replace(workspace, sweep_at=None, instance_id=None))

    def refuse(*_: object) -> NoReturn:
        raise UnavailableError("Compute Engine does not answer now.")

    refused = ("list_instances", "list_disks") if away == "all lists" else ("get", "get_disk")
    for method in refused:
        monkeypatch.setattr(world.machines, method, refuse)
    world.machines.instances.clear()  # so that the one of the record has to be looked for
    with suppress(UnavailableError):
        world.reconcile_fleet()

    assert world.workspace(workspace.id).sweep_at == workspace.sweep_at
