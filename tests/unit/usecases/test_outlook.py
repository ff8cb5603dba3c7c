"""The outlook is kept: nothing happens before its time, and what is due happens by the next sweep.

Weeks of workspaces pass in virtual time, with the real sweeps and workers, people who come at
random, and machines that report.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from shared.domain.errors import HubError
from shared.domain.idleness import HeartbeatReason
from shared.domain.instance import (
    FaultKind,
    InsertInstance,
    InstanceState,
    Place,
    ResumeInstance,
    SuspendInstance,
)
from shared.domain.lifecycle import NewConnection
from shared.domain.outlook import ExpectedKind, outlook
from shared.domain.policy import Policy
from shared.domain.reports import Report, ReportEvent
from shared.domain.workspace import OperationKind, Workspace
from tests.fakes.machines import GuestMishap, Mishap
from tests.fakes.records import a_snapshot
from tests.fakes.store import MemoryWorkspaceStore
from tests.fakes.world import World, place_of

OWNERS = ("alice", "bob", "carol")
CLEAN_UP_EVERY = timedelta(minutes=5)
LOOKS = timedelta(minutes=3)  # of a worker at an operation: the longest pause, and a lost job
POLICIES = (
    Policy(archive_after=timedelta(hours=9), archive_notice=timedelta(hours=2)),
    Policy(idle_after=timedelta(minutes=20), retention=timedelta(hours=30)),
    Policy(idle_after=None, retention=timedelta(hours=5), max_machine_age=timedelta(days=1)),
    Policy(idle_after=timedelta(hours=3), retention=None, max_machine_age=timedelta(hours=5)),
)


SWEPT = {ExpectedKind.SUSPEND, ExpectedKind.DELETE, ExpectedKind.ARCHIVE}


class Witness:
    """Compares each change with what the outlook said right before."""

    def __init__(self, world_of: Sequence[World]) -> None:
        self._world_of = world_of  # filled in once there is a world
        self.kept = dict.fromkeys(ExpectedKind, 0)

    def see(self, before: Workspace | None, after: Workspace | None) -> None:
        """Check one write of a workspace."""
        if before is None:
            return
        [world] = self._world_of
        now = world.clock()
        expected = {each.kind: each.at for each in outlook(before, world.policy)}
        operation = after.operation if after else None
        if operation and operation.automatic and before.operation is None:
            kind = {
                OperationKind.STOP: ExpectedKind.SUSPEND,
                OperationKind.DELETE: ExpectedKind.DELETE,
                OperationKind.ARCHIVE: ExpectedKind.ARCHIVE,
            }[operation.kind]
            self._keep(kind, expected.get(kind), now)
        if operation and operation.renews and not (before.operation and before.operation.renews):
            at_rest = outlook(replace(before, operation=None), world.policy)
            [at] = [each.at for each in at_rest if each.kind is ExpectedKind.RENEWAL]
            self._keep(ExpectedKind.RENEWAL, at, now)
        if self._is_given_up(before, after, now):
            self._keep(ExpectedKind.DEADLINE, expected.get(ExpectedKind.DEADLINE), now)

    def check_nothing_is_overdue(self, world: World, ago: timedelta) -> None:
        """Check, after a sweep, that nothing was due longer ago than that."""
        for workspace in world.store.workspaces.values():
            for each in outlook(workspace, world.policy):
                timed = each.kind in SWEPT
                if timed and workspace.attend_at is None and each.at is not None:
                    assert each.at > world.clock() - ago, (each, workspace)
                if each.kind is ExpectedKind.DEADLINE and each.at is not None:
                    assert each.at > world.clock() - LOOKS, (each, workspace)

    def _keep(self, kind: ExpectedKind, at: datetime | None, now: datetime) -> None:
        assert at is not None, f"{kind} was not in the outlook"
        assert at <= now, f"{kind} came {at - now} before its time"
        self.kept[kind] += 1

    @staticmethod
    def _is_given_up(before: Workspace, after: Workspace | None, now: datetime) -> bool:
        """Say whether this write ends an operation, or begins its clean-up, for want of time."""
        operation = before.operation
        if operation is None or after is None or now < operation.deadline_at:
            return False
        return after.operation is None or (
            operation.failure is None and after.operation.failure is not None
        )


def _people(world: World, chance: random.Random) -> None:
    """Let somebody do something, or nothing."""
    owner = chance.choice(OWNERS)
    mine = [each for each in world.store.workspaces.values() if each.owner_id == owner]
    if not mine:
        world.create(owner, "one")
        return
    workspace = chance.choice(mine)
    ahead = timedelta(minutes=chance.randint(1, 700))
    acts: list[Callable[[], object]] = [
        lambda: world.start(owner, workspace.id),
        lambda: world.start(owner, workspace.id),
        lambda: world.stop(owner, workspace.id),
        lambda: world.connect(owner, workspace.id, NewConnection("desk", start=True)),
        lambda: world.connect(owner, workspace.id, NewConnection("desk")),
        lambda: world.keep_awake(owner, workspace.id, world.clock() + ahead),
        lambda: world.keep_awake(owner, workspace.id, None),
        lambda: _heartbeat(world, workspace, chance),
        lambda: _by_hand(world, workspace),
        lambda: _restore(world, workspace),
        lambda: world.create(owner, f"w-{chance.randint(0, 99)}"),
    ]
    if world.policy.archive_after is not None:
        acts.append(lambda: world.archive(owner, workspace.id))
    with contextlib.suppress(HubError):  # refused: nothing has happened
        chance.choice(acts)()


def _restore(world: World, workspace: Workspace) -> None:
    disk = workspace.home_disk
    home = Place(disk.zone, disk.name) if disk else None
    if home is None or world.machines.peek_disk(home) is None:
        return
    snapshot = a_snapshot(workspace, automatic=True)
    world.machines.make_snapshot_by_hand(snapshot.place.name, home, {})
    world.store.put_snapshots(snapshot)
    world.restore(workspace.owner_id, workspace.id, snapshot.id)


def _by_hand(world: World, workspace: Workspace) -> None:
    machine = world.machine(workspace)
    if machine is not None and machine.state is InstanceState.RUNNING:
        world.machines.stop_by_hand(place_of(workspace))
        world.pass_time(CLEAN_UP_EVERY)
        world.look(workspace)


def _heartbeat(world: World, workspace: Workspace, chance: random.Random) -> None:
    machine = world.machine(workspace)
    if machine is None:
        return
    world.report(
        Report(
            event=ReportEvent.HEARTBEAT,
            generation=machine.generation,
            instance_name=workspace.instance_name,
            instance_id=machine.id,
            zone=workspace.zone,
            project_id=workspace.project_id,
            because=chance.choice([None, *HeartbeatReason]),
        )
    )


def _trouble(world: World, chance: random.Random) -> None:
    """Have some calls and boots fail, so that deadlines pass, and others not."""
    if chance.random() < 0.2:
        world.machines.script_boot(GuestMishap.NEVER_READY)
    if chance.random() < 0.2:
        command = chance.choice([SuspendInstance, ResumeInstance, InsertInstance])
        world.machines.script(command, Mishap.REFUSED, FaultKind.TRANSIENT, times=200)
    if chance.random() < 0.3:
        world.machines.calm()


@pytest.mark.parametrize("seed", range(12))
def test_nothing_happens_before_its_time_and_what_is_due_within_one_sweep(seed: int) -> None:
    """Days pass at random speed; every write is held to the outlook of the record before it."""
    chance = random.Random(seed)
    worlds: list[World] = []
    witness = Witness(worlds)
    policy = replace(POLICIES[seed % len(POLICIES)], changes_per_minute=10**6)
    world = World(policy=policy, store=MemoryWorkspaceStore(witness.see))
    worlds.append(world)
    for owner in OWNERS:
        world.create(owner, "one")
    for _ in range(60):
        for _ in range(chance.randint(0, 3)):
            _people(world, chance)
        _trouble(world, chance)
        for _ in range(chance.choice([1, 3, 12, 60])):
            world.pass_time(CLEAN_UP_EVERY)
            world.clean_up()
            witness.check_nothing_is_overdue(world, timedelta(0))
        if chance.random() < 0.2:
            world.reconcile_fleet()
    assert witness.kept[ExpectedKind.DEADLINE], "no deadline passed, so nothing is shown of them"
    if policy.idle_after is not None:
        assert witness.kept[ExpectedKind.SUSPEND]
    if policy.retention is not None and policy.retention < timedelta(days=2):
        assert witness.kept[ExpectedKind.DELETE]
    if policy.archive_after is not None:
        assert witness.kept[ExpectedKind.ARCHIVE]
    if policy.max_machine_age is not None and policy.max_machine_age < timedelta(days=1):
        assert witness.kept[ExpectedKind.RENEWAL]
