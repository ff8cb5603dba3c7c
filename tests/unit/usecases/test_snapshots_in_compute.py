"""The hourly comparison of recorded snapshots with those that there are in Compute Engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.errors import ConflictError, UnavailableError
from shared.domain.instance import DeleteSnapshot, FaultKind, LabelSnapshot, Place
from shared.domain.ownership import labels_of
from shared.domain.snapshots import Snapshot, SnapshotState, snapshot_place, source_of
from shared.domain.workspace import OperationKind, Status, Workspace
from shared.usecases import reconcile_fleet as usecase
from shared.usecases.reconcile_fleet import reconcile_fleet
from shared.usecases.snapshots_in_compute import SNAPSHOTS
from shared.usecases.sweeping import SweepReport
from tests.fakes.machines import INSTALLATION, Mishap
from tests.fakes.records import a_snapshot, a_workspace, an_operation
from tests.fakes.world import World, requested_as


@pytest.fixture(params=[usecase.BATCH, 1])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    """A Hub with one workspace of alice's. Records are read in batches."""
    monkeypatch.setattr(usecase, "BATCH", request.param)
    world = World()
    world.ready("alice", "one")
    return world


def reconcile(world: World, budget: timedelta = usecase.TIME_BUDGET) -> SweepReport:
    """Run the reconciler once."""
    with requested_as("run-1"):
        return reconcile_fleet(
            world.records, world.machines_port, world.policy, budget, world.pauses.append
        )


def workspace_of(world: World) -> Workspace:
    """Return alice's workspace."""
    return next(iter(world.store.workspaces.values()))


def put_in_compute(world: World, name: str, workspace: Workspace | None = None) -> None:
    """Have a READY snapshot of alice's home in Compute, with the Hub's labels."""
    of = workspace or workspace_of(world)
    labels = {**labels_of(of.id, of.owner_id), "hub": INSTALLATION}
    home = Place(of.zone, of.disk_name)
    world.machines.make_snapshot_by_hand(name, home, labels)


def a_kept_snapshot(world: World, state: SnapshotState = SnapshotState.READY) -> Snapshot:
    """Return a snapshot that is recorded and in Compute."""
    snapshot = a_snapshot(workspace_of(world), state=state)
    world.store.put_snapshots(snapshot)
    put_in_compute(world, snapshot.place.name)
    return snapshot


def an_orphan(world: World) -> str:
    """Return the name of a snapshot that the Hub has made and no record has."""
    name = a_snapshot(workspace_of(world)).place.name
    put_in_compute(world, name)
    return name


def grow_old(world: World) -> None:
    """Let the grace time pass."""
    world.clock.advance(world.policy.orphan_grace + timedelta(minutes=1))


def deleted(world: World) -> list[str]:
    """Return the names of the snapshots whose deletion was asked of Compute."""
    calls = [command for command, _ in world.machines.calls]
    return [each.place.name for each in calls if isinstance(each, DeleteSnapshot)]


def test_snapshots_that_agree_are_left_alone(world: World) -> None:
    """In any state. They cost no call, and no commit but the ones of every run."""
    for state in SnapshotState:
        a_kept_snapshot(world, state)
    world.clock.advance(timedelta(hours=2))
    reconcile(world)
    before, commits = world.store.snapshots, world.store.counts.commits
    world.machines.reads.clear()
    calls = len(world.machines.calls)
    report = reconcile(world)
    assert (report.done, report.failed, report.unfinished) == ({}, {}, False)
    assert world.store.snapshots == before
    assert world.store.counts.commits == commits + 2
    assert (world.machines.reads["get_snapshot"], len(world.machines.calls)) == (0, calls)


def test_a_ready_snapshot_that_is_gone_fails_with_the_reason(world: World) -> None:
    """Once: it is in the trail, and the next run has nothing to say."""
    snapshot = a_kept_snapshot(world)
    world.machines.delete_snapshot_by_hand(snapshot.place.name)
    first, second = reconcile(world), reconcile(world)
    now = world.store.snapshots[snapshot.id]
    assert (first.done, second.done) == ({"SnapshotLost": [snapshot.id]}, {})
    assert now.state is SnapshotState.FAILED
    assert now.error is not None
    assert now.error.code == "SNAPSHOT_GONE"
    event = world.store.events[-1]
    assert (event.what, event.who, event.result) == ("SnapshotLost", "hub", "SNAPSHOT_GONE")
    assert (event.snapshot_id, event.owner_id) == (snapshot.id, "alice")


def test_a_ready_snapshot_that_has_failed_in_compute_was_not_deleted_by_anybody(
    world: World,
) -> None:
    """Compute has lost it: the record says so."""
    snapshot = a_kept_snapshot(world)
    world.machines.fail_snapshot(snapshot.place.name)
    assert reconcile(world).done == {"SnapshotFailed": [snapshot.id]}
    error = world.store.snapshots[snapshot.id].error
    assert error is not None
    assert (error.code, "outside the Hub" in error.message) == ("SNAPSHOT_FAILED", False)
    event = world.store.events[-1]
    assert (event.what, event.result) == ("SnapshotFailed", "SNAPSHOT_FAILED")


def test_a_snapshot_of_another_disk_with_the_name_of_a_ready_one_is_not_taken_for_it(
    world: World,
) -> None:
    """The record's own is gone. The other keeps its labels, and is not deleted."""
    snapshot = a_kept_snapshot(world)
    name = snapshot.place.name
    world.machines.delete_snapshot_by_hand(name)
    other = world.ready("bob", "two")
    world.machines.make_snapshot_by_hand(name, Place(other.zone, other.disk_name), {"hub": "other"})
    assert reconcile(world).done == {"SnapshotLost": [snapshot.id]}
    grow_old(world)
    assert reconcile(world).done == {}
    found = world.machines.peek_snapshot(name)
    assert found is not None
    assert (found.labels, deleted(world)) == ({"hub": "other"}, [])


@pytest.mark.parametrize("state", [SnapshotState.UPLOADING, SnapshotState.DELETING])
def test_what_becomes_of_other_snapshots_is_left_to_their_jobs(
    world: World, state: SnapshotState
) -> None:
    """They look themselves."""
    snapshot = a_kept_snapshot(world, state)
    world.machines.delete_snapshot_by_hand(snapshot.place.name)
    assert reconcile(world).done == {}
    assert world.store.snapshots[snapshot.id] == snapshot


@pytest.mark.parametrize("label", ["hub", "workspace", "owner", "managed-by"])
def test_lost_labels_are_restored(world: World, label: str) -> None:
    """Without the installation's label it is not even in the list. Others' labels stay."""
    snapshot = a_kept_snapshot(world)
    name = snapshot.place.name
    all_of_them = {**labels_of(snapshot.workspace_id, "alice"), "hub": INSTALLATION, "team": "x"}
    world.clock.advance(timedelta(hours=2))
    world.machines.set_snapshot_labels_by_hand(
        name, {each: value for each, value in all_of_them.items() if each != label}
    )
    assert reconcile(world).done == {"LabelsRestored": [name]}
    world.clock.advance(timedelta(minutes=1))
    found = world.machines.peek_snapshot(name)
    assert found is not None
    assert found.labels == all_of_them
    assert reconcile(world).done == {}


def test_a_snapshot_without_a_record_is_deleted_after_the_grace_time(world: World) -> None:
    """Before that it is reported, once it is older than the step can take that makes it."""
    name = an_orphan(world)
    assert reconcile(world).done == {}
    world.clock.advance(timedelta(hours=2))
    assert reconcile(world).done == {"OrphanSnapshotFound": [name]}
    grow_old(world)
    assert reconcile(world).done == {"OrphanSnapshotDeleted": [name]}
    world.clock.advance(timedelta(minutes=5))
    assert reconcile(world).done == {}
    assert world.machines.snapshots == {}
    event = world.store.events[-1]
    assert (event.what, event.who, event.workspace_id) == (
        "OrphanSnapshotDeleted",
        "reconcile",
        workspace_of(world).id,
    )


def test_a_snapshot_that_the_hub_did_not_make_is_only_reported(world: World) -> None:
    """Its labels do not count: a schedule of the company's may copy them."""
    name = f"home-{workspace_of(world).id}-us-west1-a-20260101"
    put_in_compute(world, name)
    grow_old(world)
    for _ in range(2):
        assert reconcile(world).done == {"OrphanSnapshotFound": [name]}
    assert deleted(world) == []


def test_a_snapshot_whose_operation_is_under_way_is_no_orphan(world: World) -> None:
    """Its record is made when its content is captured."""
    workspace = workspace_of(world)
    operation = an_operation(OperationKind.SNAPSHOT)
    put_in_compute(world, snapshot_place(workspace.id, operation.id).name)
    world.store.put(replace(workspace, operation=operation))
    grow_old(world)
    reconcile(world)
    assert deleted(world) == []


def test_a_record_that_was_made_after_it_was_looked_for_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for again before anything is deleted."""
    snapshot = a_snapshot(workspace_of(world))
    put_in_compute(world, snapshot.place.name)
    grow_old(world)
    listed = world.store.list_snapshots_by_id

    def list_and_be_overtaken(limit: int, token: str | None) -> object:
        page = listed(limit, token)
        world.store.put_snapshots(snapshot)
        return page

    monkeypatch.setattr(world.store, "list_snapshots_by_id", list_and_be_overtaken)
    reconcile(world)
    assert deleted(world) == []


def test_a_record_of_a_newer_version_keeps_its_snapshot(world: World) -> None:
    """It is reported, and the others are compared."""
    unreadable, gone = a_kept_snapshot(world), a_kept_snapshot(world)
    world.store.unreadable.add(unreadable.id)
    world.machines.delete_snapshot_by_hand(gone.place.name)
    grow_old(world)
    report = reconcile(world)
    assert set(report.failed) == {unreadable.id}
    assert report.done == {"SnapshotLost": [gone.id]}
    assert deleted(world) == []


def test_so_many_orphans_that_the_records_must_be_lost_are_left_alone(world: World) -> None:
    """The same as for machines and disks."""
    names = [an_orphan(world) for _ in range(6)]
    grow_old(world)
    report = reconcile(world)
    assert "too many" in report.failed["snapshots"]
    assert (sorted(world.machines.snapshots), deleted(world)) == (sorted(names), [])


def test_snapshots_that_were_deleted_since_the_list_are_not_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workspace that is deleted takes all of its own with it."""
    names = [an_orphan(world) for _ in range(12)]
    grow_old(world)
    listed = world.machines.list_snapshots

    def list_and_be_overtaken() -> object:
        found = list(listed())
        for name in names[2:]:
            world.machines.delete_snapshot_by_hand(name)
        return iter(found)

    monkeypatch.setattr(world.machines, "list_snapshots", list_and_be_overtaken)
    report = reconcile(world)
    assert report.failed == {}
    assert sorted(deleted(world)) == sorted(names[:2])


def test_nothing_is_decided_on_a_partial_list(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise all that it lacks would be gone. Owners are repaired all the same."""
    snapshot, orphan = a_kept_snapshot(world), an_orphan(world)
    grow_old(world)
    listed = world.machines.list_snapshots

    def stop_after_one() -> object:
        yield from list(listed())[:1]
        raise UnavailableError("The rest does not come.")

    monkeypatch.setattr(world.machines, "list_snapshots", stop_after_one)
    world.store.put_owner(replace(world.store.owners["alice"], workspaces={}))
    with pytest.raises(UnavailableError, match="The rest"):
        reconcile(world)
    assert world.store.snapshots == {snapshot.id: snapshot}
    assert orphan in world.machines.snapshots
    assert world.store.owners["alice"].workspaces != {}


def test_a_list_that_takes_too_long_is_a_partial_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends in time."""
    snapshot = a_kept_snapshot(world)
    a_kept_snapshot(world)
    listed = world.machines.list_snapshots

    def list_slowly() -> object:
        for each in list(listed())[1:]:
            world.clock.advance(timedelta(hours=1))
            yield each

    monkeypatch.setattr(world.machines, "list_snapshots", list_slowly)
    with pytest.raises(UnavailableError, match="took longer"):
        reconcile(world)
    assert world.store.snapshots[snapshot.id].state is SnapshotState.READY


def test_what_fails_does_not_stop_the_rest(world: World) -> None:
    """It is reported, and the next run does it."""
    first, second = sorted([an_orphan(world), an_orphan(world)])
    snapshot = a_kept_snapshot(world)
    grow_old(world)
    world.machines.set_snapshot_labels_by_hand(snapshot.place.name, {"hub": INSTALLATION})
    world.machines.script(LabelSnapshot, Mishap.REFUSED, FaultKind.PERMISSION)
    world.machines.script(DeleteSnapshot, Mishap.UNANSWERED)
    report = reconcile(world)
    assert set(report.failed) == {first, snapshot.place.name}
    assert report.done == {"OrphanSnapshotDeleted": [second]}
    world.clock.advance(timedelta(minutes=1))
    assert set(reconcile(world).done) == {"LabelsRestored", "OrphanSnapshotDeleted"}


def test_a_record_that_changes_at_that_moment_is_left_to_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody deletes it, perhaps."""
    snapshot = a_kept_snapshot(world)
    world.machines.delete_snapshot_by_hand(snapshot.place.name)
    commit = world.store.commit

    def refuse(**written: object) -> None:
        if "snapshots" in written:
            raise ConflictError("faster")
        commit(**written)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "commit", refuse)
    report = reconcile(world)
    assert (report.done, report.failed) == ({}, {})


def test_a_run_goes_on_where_the_last_one_stopped(world: World) -> None:
    """Each sees to one at least, so all are seen to; only a whole round finds orphans."""
    kept = sorted(a_kept_snapshot(world).id for _ in range(4))
    for each in kept:
        world.machines.delete_snapshot_by_hand(world.store.snapshots[each].place.name)
    orphan = an_orphan(world)
    grow_old(world)
    slow = world.machines.get_snapshot

    def read_slowly(name: str) -> object:
        world.clock.advance(timedelta(minutes=1))
        return slow(name)

    world.machines.get_snapshot = read_slowly  # type: ignore[method-assign,assignment]
    lost: list[str] = []
    for number in range(1, 5):
        report = reconcile(world, timedelta(seconds=30))
        lost += report.done["SnapshotLost"]
        assert report.unfinished
        assert lost == kept[:number]
        assert world.store.get_checkpoint(SNAPSHOTS) == kept[number - 1]
    assert deleted(world) == []
    reconcile(world)
    assert world.store.get_checkpoint(SNAPSHOTS) is None
    assert deleted(world) == [orphan]


@pytest.mark.parametrize("state", SnapshotState)
def test_a_snapshot_whose_workspace_does_not_exist_is_deleted(
    world: World, state: SnapshotState
) -> None:
    """Version 0.1 deletes workspaces and does not know their snapshots."""
    snapshot = a_kept_snapshot(world, state)
    world.store.commit(workspaces=[(world.store.get(snapshot.workspace_id), None)])
    done = reconcile(world).done.get("SnapshotAbandoned", [])
    assert done == ([] if state is SnapshotState.DELETING else [snapshot.id])
    if done:
        event = world.store.events[-1]
        assert (event.what, event.who) == ("SnapshotDeleteRequested", "hub")
        world.run()
        assert dict(world.store.snapshots) == {}
        assert snapshot.place.name not in world.machines.snapshots


def test_a_snapshot_whose_workspace_does_not_exist_stays_while_a_fork_waits_for_it(
    world: World,
) -> None:
    """It has no other home. When the fork is gone, the next run deletes it."""
    snapshot = a_kept_snapshot(world)
    fork = a_workspace(Status.ERROR, home_disk=None, home_source=source_of(snapshot))
    fork = replace(fork, owner_id=snapshot.owner_id)
    world.store.put(fork)
    world.store.commit(workspaces=[(world.store.get(snapshot.workspace_id), None)])
    assert "SnapshotAbandoned" not in reconcile(world).done
    world.store.commit(workspaces=[(world.store.get(fork.id), None)])
    assert reconcile(world).done["SnapshotAbandoned"] == [snapshot.id]


def test_a_snapshot_of_a_workspace_that_only_a_newer_version_can_read_stays(world: World) -> None:
    """It exists."""
    snapshot = a_kept_snapshot(world)
    world.store.unreadable.add(snapshot.workspace_id)
    assert "SnapshotAbandoned" not in reconcile(world).done
    assert world.store.snapshots[snapshot.id] == snapshot
