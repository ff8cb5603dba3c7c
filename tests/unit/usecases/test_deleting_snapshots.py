"""What is deleted of snapshots, by whom, and what never is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.access import Actor
from shared.domain.errors import SnapshotInUseError
from shared.domain.instance import (
    CreateSnapshot,
    DeleteInstance,
    DeleteSnapshot,
    FaultKind,
    Place,
    SnapshotStatus,
)
from shared.domain.snapshots import Snapshot, SnapshotState, resend, source_of
from shared.domain.workspace import Status, Workspace
from shared.usecases.manage_snapshots import delete_snapshot
from tests.fakes.machines import Mishap
from tests.fakes.records import NOW, POLICY, a_snapshot, a_workspace
from tests.fakes.world import World, actor


@pytest.fixture
def world() -> World:
    """Return a Hub with fakes."""
    return World()


@pytest.fixture
def workspace(world: World) -> Workspace:
    """Return alice's workspace, which is READY."""
    return world.ready()


@pytest.fixture
def admin() -> Actor:
    """Return an administrator who is not alice."""
    return replace(actor("grace"), admin=True)


def only(world: World) -> Snapshot:
    """Return the only snapshot."""
    [snapshot] = world.store.snapshots.values()
    return snapshot


def taken(world: World, workspace: Workspace) -> Snapshot:
    """Return a new snapshot of a workspace, which is READY."""
    world.snapshot(workspace.owner_id, workspace.id)
    world.run()
    return only(world)


def replace_by_another_disks(world: World, snapshot: Snapshot, other: Workspace) -> None:
    """Have somebody delete a snapshot, and give its name to one of another's home."""
    world.machines.delete_snapshot_by_hand(snapshot.place.name)
    world.machines.make_snapshot_by_hand(
        snapshot.place.name, Place(other.zone, other.disk_name), {}
    )


# ---- in Compute ----


def test_a_snapshot_that_a_slow_worker_makes_after_its_deletion_looked_is_deleted(
    world: World, workspace: Workspace
) -> None:
    """The deletion has found nothing, and waits for as long as a worker may be about to call."""
    world.machines.script(DeleteInstance, Mishap.SLOW)  # so the disk is there for a while

    def delete_and_look() -> None:
        world.delete("alice", workspace.id, purge=True)
        world.pass_time(timedelta(seconds=20))
        assert only(world).state is SnapshotState.DELETING
        assert world.machines.snapshots == {}

    world.snapshot("alice", workspace.id)
    world.machines.before_call = delete_and_look
    world.run()

    assert any(isinstance(command, CreateSnapshot) for command, _ in world.machines.calls)
    assert any(isinstance(command, DeleteSnapshot) for command, _ in world.machines.calls)
    assert (world.machines.snapshots, dict(world.store.snapshots)) == ({}, {})


def test_another_disks_snapshot_of_the_same_name_is_never_deleted(
    world: World, workspace: Workspace
) -> None:
    """The record goes, since its own snapshot is gone."""
    snapshot = taken(world, workspace)
    replace_by_another_disks(world, snapshot, world.ready("bob", "two"))

    world.delete_snapshot("alice", workspace.id, snapshot.id)
    world.run()

    assert dict(world.store.snapshots) == {}
    assert world.machines.snapshots == {snapshot.place.name: SnapshotStatus.READY}


def test_another_disks_snapshot_of_the_same_name_is_not_taken_as_uploaded(
    world: World, workspace: Workspace
) -> None:
    """A fork would have somebody else's files."""
    other = world.ready("bob", "two")
    world.snapshot("alice", workspace.id)
    world.run(lambda: bool(world.store.snapshots))
    uploading = only(world)
    assert uploading.state is SnapshotState.UPLOADING
    replace_by_another_disks(world, uploading, other)
    world.run()

    assert only(world).state is SnapshotState.FAILED


def test_a_step_asks_compute_with_the_same_request_id_each_time(
    world: World, workspace: Workspace
) -> None:
    """If the answer is lost, Compute must not take the call for another one. The next step's is."""
    snapshot = taken(world, workspace)
    world.machines.script(DeleteSnapshot, Mishap.UNANSWERED, times=2)
    world.machines.script(DeleteSnapshot, Mishap.REFUSED, FaultKind.NOT_READY)
    world.delete_snapshot("alice", workspace.id, snapshot.id)
    world.run()

    ids = [each for command, each in world.machines.calls if isinstance(command, DeleteSnapshot)]
    assert len(ids) == 4
    assert len(set(ids[:3])) == 1
    assert ids[3] != ids[2]


def test_the_job_of_a_step_is_resent_ever_more_seldom() -> None:
    """Twice as long each time, up to eight times: a step that cannot be done costs little."""
    snapshot = a_snapshot(state=SnapshotState.DELETING, attend_at=NOW)
    pauses = []
    for _ in range(6):
        assert snapshot.attend_at is not None
        now = snapshot.attend_at
        change = resend(snapshot, now, POLICY)
        assert change is not None
        assert change.job is not None
        snapshot = change.snapshot
        assert snapshot.attend_at is not None
        pauses.append((snapshot.attend_at - now) / POLICY.attend_after)
    assert pauses == [1, 2, 4, 8, 8, 8]


# ---- the trail ----


def test_an_administrators_repeated_deletion_is_in_the_trail_each_time(
    world: World, workspace: Workspace, admin: Actor
) -> None:
    """Though the second one changes nothing. The owner's own repetition is not noted."""
    snapshot = taken(world, workspace)
    for who in (admin, admin, actor("alice")):
        delete_snapshot(world.records, world.policy, who, workspace.id, snapshot.id)

    noted = [each for each in world.store.events if each.what == "SnapshotDeleteRequested"]
    assert [(each.who, each.as_admin, each.snapshot_id) for each in noted] == [
        ("grace", True, snapshot.id)
    ] * 2


def test_an_administrators_refused_deletion_is_in_the_trail(
    world: World, workspace: Workspace, admin: Actor
) -> None:
    """A workspace waits for its home from the snapshot."""
    snapshot = taken(world, workspace)
    fork = a_workspace(Status.ERROR, name="fork", home_disk=None, home_source=source_of(snapshot))
    world.store.put(replace(fork, owner_id="alice"))
    with pytest.raises(SnapshotInUseError):
        delete_snapshot(world.records, world.policy, admin, workspace.id, snapshot.id)

    last = world.store.events[-1]
    assert (last.who, last.what, last.result, last.workspace_id) == (
        "grace",
        "SnapshotDeleteRequested",
        "REFUSED",
        workspace.id,
    )
    assert only(world).state is SnapshotState.READY
