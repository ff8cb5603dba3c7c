"""Deleted workspaces that can be taken back: what is kept, who gets it back, and when it goes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.deleted import MOST_PURGED, DeletedWorkspace
from shared.domain.errors import (
    ConflictError,
    DeletedWorkspaceNotFoundError,
    LastCopyGoneError,
    NameTakenError,
    NotAllowedError,
    NotDeletedError,
    OperationUnderWayError,
    QuotaExceededError,
    SnapshotInUseError,
    SnapshotNotFoundError,
    TooManyRequestsError,
    UnavailableError,
    WorkspaceNotFoundError,
)
from shared.domain.instance import Place
from shared.domain.lifecycle import NewMachine
from shared.domain.policy import Limits
from shared.domain.snapshots import Snapshot, SnapshotState
from shared.domain.workspace import OwnedWorkspace, Status, Workspace
from shared.ports import Stored
from shared.usecases.deleted_workspaces import list_deleted, purge_due, undelete
from shared.usecases.manage_snapshots import list_snapshots
from shared.usecases.restore_workspace import restore_workspace
from tests.fakes.interruptions import Interruptions, Moment
from tests.fakes.machines import GuestMishap
from tests.fakes.records import NOW, a_deleted_workspace, a_snapshot
from tests.fakes.world import World, actor, suspended

WORK = "what alice has written"
MORE_WORK = "what alice wrote after that"
ADMIN = replace(actor("grace"), admin=True)
WEEK = timedelta(days=7)


@pytest.fixture
def world() -> World:
    """Return a Hub with fakes."""
    return World()


def home_of(workspace: Workspace) -> Place:
    """Return where a workspace's home disk is."""
    return Place(workspace.zone, workspace.disk_name)


def delete(world: World, workspace: Workspace) -> DeletedWorkspace:
    """Delete a workspace, and return its entry."""
    world.delete(workspace.owner_id, workspace.id)
    world.run()
    return world.store.deleted[workspace.id]


def deleted(world: World, name: str = "one") -> DeletedWorkspace:
    """Return a deleted workspace of alice's, in whose home she has worked."""
    workspace = world.ready("alice", name)
    world.machines.write(home_of(workspace), WORK)
    return delete(world, workspace)


def start(world: World, workspace: Workspace) -> Workspace:
    """Start a workspace, and return it when it is READY."""
    world.start("alice", workspace.id)
    world.run()
    ready = world.workspace(workspace.id)
    assert ready.status is Status.READY
    return ready


def copy_of(world: World, entry: DeletedWorkspace) -> Snapshot:
    """Return the last copy."""
    return world.store.snapshots[entry.snapshot_id]


def put_entry(world: World, **changes: Any) -> DeletedWorkspace:
    """Return a new entry of alice's with a READY snapshot, which nobody has in Compute."""
    entry = a_deleted_workspace(**changes)
    world.store.put_deleted(entry)
    world.store.put_snapshots(a_snapshot(entry.workspace, id=entry.snapshot_id))
    return entry


def act_before_the_commit(
    world: World, monkeypatch: pytest.MonkeyPatch, of: str, act: Callable[[], object]
) -> None:
    """Act between the reads and the commit of the next documents of this kind."""
    commit = world.store.commit

    def interrupted(**documents: Any) -> None:
        if documents.get(of):
            monkeypatch.setattr(world.store, "commit", commit)
            act()
        commit(**documents)

    monkeypatch.setattr(world.store, "commit", interrupted)


def whats(world: World, workspace_id: str) -> list[tuple[str, str]]:
    """Return what the trail says of a workspace, and who did it."""
    events = [each for each in world.store.events if each.workspace_id == workspace_id]
    return [(each.what, each.who) for each in events]


# ---- what is kept ----


def test_a_deleted_workspace_leaves_its_entry_and_its_last_copy_and_nothing_else(
    world: World,
) -> None:
    """Record, machine and disks are gone. It counts for no quota, and its name is free."""
    workspace = world.ready()
    world.clock.advance(timedelta(hours=1))
    requested_at = world.clock()
    entry = delete(world, workspace)
    assert (world.machines.instances, world.machines.disks) == ({}, set())
    assert dict(world.store.workspaces) == {}
    assert world.store.owners["alice"].workspaces == {}
    assert (entry.id, entry.owner_id, entry.deleted_by) == (workspace.id, "alice", "alice")
    assert (entry.automatic, entry.until) == (False, requested_at + WEEK)
    assert requested_at < entry.deleted_at <= world.clock()
    assert (entry.workspace.name, entry.workspace.operation) == ("one", None)
    copy = copy_of(world, entry)
    assert (copy.workspace_id, copy.state, copy.automatic) == (entry.id, SnapshotState.READY, True)
    [listed] = list_deleted(world.records, actor("alice"))
    assert (listed.entry, listed.snapshots, listed.disk_gb) == (entry, 1, 50)


def test_all_snapshots_of_a_deleted_workspace_stay_with_it(world: World) -> None:
    """They are its owner's, and are there again when it is taken back."""
    workspace = world.ready()
    world.snapshot("alice", workspace.id, "before-lunch")
    world.run()
    entry = delete(world, workspace)
    [listed] = list_deleted(world.records, actor("alice"))
    assert listed.snapshots == 2
    world.undelete("alice", entry.id)
    found = list_snapshots(world.records, world.policy, actor("alice"), entry.id)
    assert [each.name for each in found.snapshots] == [None, "before-lunch"]


def test_what_the_retention_deletes_can_be_taken_back(world: World) -> None:
    """The entry says that nobody asked for it."""
    workspace = suspended(world)
    world.clock.advance(timedelta(days=31))
    world.clean_up()
    world.run()
    entry = world.store.deleted[workspace.id]
    assert (entry.automatic, entry.deleted_by) == (True, "cleanup")
    assert world.undelete("alice", entry.id).status is Status.SUSPENDED


@pytest.mark.parametrize("why", ["purge", "the configuration", "no home"])
def test_what_cannot_be_taken_back_leaves_nothing(world: World, why: str) -> None:
    """Its snapshots go with it."""
    if why == "the configuration":
        world.policy = replace(world.policy, undelete_for=None)
    if why == "no home":
        world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
        workspace = world.create("alice", "one")
        world.run()
    else:
        workspace = world.ready()
        world.snapshot("alice", workspace.id)
        world.run()
    world.delete("alice", workspace.id, purge=why == "purge")
    world.run()
    store = world.store
    assert (dict(store.workspaces), dict(store.deleted), dict(store.snapshots)) == ({}, {}, {})
    assert world.machines.snapshots == {}


# ---- taking it back ----


def test_a_workspace_that_is_taken_back_has_its_id_its_name_and_its_home(world: World) -> None:
    """It is suspended and has no machine. A START makes one, with all that was in the home."""
    entry = deleted(world)
    world.clock.advance(timedelta(days=3))
    workspace = world.undelete("alice", entry.id)
    assert world.store.deleted == {}
    assert world.workspace(entry.id) == workspace
    assert (workspace.id, workspace.name, workspace.status) == (entry.id, "one", Status.SUSPENDED)
    assert (workspace.suspended_at, workspace.updated_at) == (world.clock(), world.clock())
    assert (workspace.operation, workspace.error, workspace.attend_at) == (None, None, None)
    assert (workspace.home_disk, workspace.instance_id, workspace.machine_running) == (
        None,
        None,
        False,
    )
    assert (workspace.ready_generation, workspace.memory_kept) == (None, False)
    assert workspace.memory_lost_because
    assert workspace.created_at == entry.workspace.created_at
    source = workspace.home_source
    assert source is not None
    assert source.snapshot_id == entry.snapshot_id
    assert source.new_disk == f"home-{entry.id}-{entry.workspace.generation + 1}"
    assert world.store.owners["alice"].workspaces == {entry.id: OwnedWorkspace("one")}
    assert whats(world, entry.id)[-1] == ("WorkspaceUndeleted", "alice")
    world.run()
    assert world.machines.instances == {}  # nothing begins by itself

    ready = start(world, workspace)
    assert ready.disk_name == source.new_disk
    assert world.machines.content_of(home_of(ready)) == WORK


def test_a_workspace_that_has_moved_is_taken_back_where_its_home_was(world: World) -> None:
    """Its DELETE ends in the zone of before, where it finds the disk that was its home."""
    workspace = world.ready()
    world.machines.write(home_of(workspace), WORK)
    there = world.policy.zones[1]
    world.start("alice", workspace.id, NewMachine(zone=there))
    world.run()
    delete(world, workspace)
    assert world.machines.disks == set()

    world.undelete("alice", workspace.id)
    assert world.workspace(workspace.id).zone == there
    after = start(world, workspace)
    assert (after.zone, world.machines.content_of(home_of(after))) == (there, WORK)


def test_a_workspace_can_be_deleted_and_taken_back_again_and_again(world: World) -> None:
    """With a START in between or without, nothing that was written is lost."""
    entry = deleted(world)
    for name in ("one", "two"):
        again = delete(world, world.undelete("alice", entry.id, name))
        assert again.snapshot_id == entry.snapshot_id  # nothing has changed since
    ready = start(world, world.undelete("alice", entry.id))
    assert world.machines.content_of(home_of(ready)) == WORK
    world.machines.write(home_of(ready), MORE_WORK)
    third = delete(world, ready)
    assert third.snapshot_id != entry.snapshot_id
    assert (third.workspace.name, world.machines.disks) == ("two", set())
    ready = start(world, world.undelete("alice", entry.id))
    assert world.machines.content_of(home_of(ready)) == MORE_WORK


def test_the_same_undelete_again_changes_nothing(world: World) -> None:
    """Whatever has become of the workspace by then. Another name comes too late, and is refused."""
    entry = deleted(world)
    world.undelete("alice", entry.id)
    ready = start(world, world.workspace(entry.id))
    commits = world.store.counts.commits
    assert world.undelete("alice", entry.id) == ready
    assert world.undelete("alice", entry.id, ready.name) == ready
    with pytest.raises(NotDeletedError, match=f"is called '{ready.name}'"):
        world.undelete("alice", entry.id, "other")
    assert world.store.counts.commits == commits


def test_an_undelete_whose_commit_lost_its_answer_is_a_success(world: World) -> None:
    """The next attempt finds the workspace."""
    entry = deleted(world)
    interruptions = Interruptions()
    world.store_port = interruptions.around("store", world.store)
    interruptions.interrupt(4, Moment.AFTER, ConflictError)
    workspace = world.undelete("alice", entry.id)
    assert interruptions.calls[4] == "store.commit"
    assert (world.workspace(entry.id), world.store.deleted) == (workspace, {})


@pytest.mark.parametrize("name", [None, "other"])
def test_of_two_undeletes_at_once_the_first_one_makes_the_workspace(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    """The second one gets it too, unless it asks for another name."""
    entry = deleted(world)
    act_before_the_commit(world, monkeypatch, "deleted", lambda: world.undelete("alice", entry.id))
    if name is None:
        assert world.undelete("alice", entry.id) == world.workspace(entry.id)
    else:
        with pytest.raises(NotDeletedError):
            world.undelete("alice", entry.id, name)
    assert world.workspace(entry.id).name == "one"
    assert [what for what, _ in whats(world, entry.id)].count("WorkspaceUndeleted") == 1


def test_a_workspace_that_is_still_being_deleted_is_taken_back_later(world: World) -> None:
    """The answer says so, and where to look."""
    workspace = world.ready()
    world.delete("alice", workspace.id)
    with pytest.raises(OperationUnderWayError, match="GET /deleted-workspaces"):
        world.undelete("alice", workspace.id)
    world.run()
    assert world.undelete("alice", workspace.id).status is Status.SUSPENDED


def test_a_name_that_is_taken_meanwhile_is_refused_with_another_as_the_way_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is taken at that very moment. The entry stays."""
    entry = deleted(world)
    act_before_the_commit(world, monkeypatch, "deleted", lambda: world.create("alice", "one"))
    with pytest.raises(NameTakenError, match=r'\{"name": "one-2"\}'):
        world.undelete("alice", entry.id)
    assert world.store.deleted == {entry.id: entry}
    assert world.undelete("alice", entry.id, "one-2").name == "one-2"
    names = [held.name for held in world.store.owners["alice"].workspaces.values()]
    assert sorted(names) == ["one", "one-2"]


def test_a_workspace_is_taken_back_within_the_quota_of_workspaces_only(world: World) -> None:
    """No machine of it runs, so as many others may run as may."""
    world.policy = replace(world.policy, limits=Limits(workspaces=2, running=2))
    entry = deleted(world)
    world.ready("alice", "two")
    third = world.ready("alice", "three")
    with pytest.raises(QuotaExceededError, match="2 of at most 2 workspaces"):
        world.undelete("alice", entry.id)
    assert world.store.deleted == {entry.id: entry}
    world.delete("alice", third.id, purge=True)
    world.run()
    world.policy = replace(world.policy, limits=Limits(workspaces=2, running=1))
    world.undelete("alice", entry.id)
    with pytest.raises(QuotaExceededError, match="running"):
        world.start("alice", entry.id)


def test_only_the_owners_own_undeletes_count_in_their_rate(world: World) -> None:
    """As with all that an administrator does for somebody."""
    first, second = deleted(world), deleted(world, "two")
    world.clock.advance(timedelta(minutes=2))
    world.policy = replace(world.policy, changes_per_minute=1)
    world.undelete("alice", first.id)
    with pytest.raises(TooManyRequestsError):
        world.undelete("alice", second.id)
    undelete(world.records, world.policy, ADMIN, second.id)


def test_an_administrator_takes_it_back_for_its_owner(world: World) -> None:
    """It is the owner's. Each request is in the trail: what it did, and that it failed."""
    entry = deleted(world)
    world.create("alice", "one")
    with pytest.raises(NameTakenError):
        undelete(world.records, world.policy, ADMIN, entry.id)
    for _ in range(2):
        workspace = undelete(world.records, world.policy, ADMIN, entry.id, "two")
    assert (workspace.owner_id, workspace.owner_email) == ("alice", "alice@example.com")
    assert entry.id in world.store.owners["alice"].workspaces
    theirs = [each for each in world.store.events if each.who == "grace"]
    assert all(each.as_admin and each.owner_id == "alice" for each in theirs)
    assert [(each.what, each.result) for each in theirs] == [
        ("UndeleteRequested", "REFUSED"),
        ("WorkspaceUndeleted", "ACCEPTED"),
        ("UndeleteRequested", "ACCEPTED"),
    ]


@pytest.mark.parametrize("whose", ["an entry", "a workspace", "nobody's"])
def test_what_is_not_ones_own_cannot_be_found(world: World, whose: str) -> None:
    """Whether it exists or not: the same answer for the same work, and one event."""
    entry = deleted(world)
    workspace = world.ready("alice", "two")
    asked = {"an entry": entry.id, "a workspace": workspace.id, "nobody's": a_snapshot().id}[whose]
    before, events = replace(world.store.counts), len(world.store.events)
    with pytest.raises(DeletedWorkspaceNotFoundError, match=asked):
        world.undelete("bob", asked)
    assert (world.store.counts.reads, world.store.counts.queries) == (
        before.reads + 2,
        before.queries,
    )
    [event] = world.store.events[events:]
    assert (event.who, event.what, event.result) == ("bob", "UndeleteRequested", "REFUSED")
    assert world.store.deleted == {entry.id: entry}


@pytest.mark.parametrize("lost", ["failed", "failed just now", "no record", "being deleted"])
def test_without_its_last_copy_a_workspace_cannot_be_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The answer says what is left to do. The entry stays, and goes in its time."""
    entry = put_entry(world, until=world.clock() + WEEK)
    copy = copy_of(world, entry)
    failed = replace(copy, state=SnapshotState.FAILED)
    if lost == "no record":
        world.store.commit(snapshots=[(world.store.get_snapshot(copy.id), None)])
    elif lost == "failed just now":
        act_before_the_commit(
            world, monkeypatch, "deleted", lambda: world.store.put_snapshots(failed)
        )
    else:
        going = replace(copy, state=SnapshotState.DELETING)
        world.store.put_snapshots(failed if lost == "failed" else going)
    with pytest.raises(LastCopyGoneError, match="Make a new workspace"):
        world.undelete("alice", entry.id)
    assert world.store.deleted == {entry.id: entry}
    world.clock.advance(WEEK)
    assert world.clean_up().done == {"purge": [entry.id]}


def test_a_last_copy_that_compute_has_stored_is_used_before_its_record_says_so(
    world: World,
) -> None:
    """The record follows by its own job. Compute had stored it before the disk was deleted."""
    entry = put_entry(world)
    world.store.put_snapshots(replace(copy_of(world, entry), state=SnapshotState.UPLOADING))
    assert world.undelete("alice", entry.id).home_source is not None


# ---- the snapshots of a deleted workspace ----


def fork(world: World, entry: DeletedWorkspace) -> object:
    """Make a workspace from the last copy."""
    return world.create("alice", "fork", from_snapshot=entry.snapshot_id)


def restore(world: World, entry: DeletedWorkspace) -> object:
    """Restore the workspace from the last copy."""
    return restore_workspace(
        world.records, world.policy, actor("alice"), entry.id, entry.snapshot_id
    )


def delete_copy(world: World, entry: DeletedWorkspace) -> object:
    """Delete the last copy."""
    return world.delete_snapshot("alice", entry.id, entry.snapshot_id)


@pytest.mark.parametrize("use", [fork, restore, delete_copy])
def test_the_snapshots_of_a_deleted_workspace_cannot_be_used_before_it_is_taken_back(
    world: World, use: Callable[[World, DeletedWorkspace], object]
) -> None:
    """They are not found."""
    entry = deleted(world)
    with pytest.raises((SnapshotNotFoundError, WorkspaceNotFoundError)):
        use(world, entry)
    assert copy_of(world, entry).state is SnapshotState.READY
    assert set(world.store.workspaces) == set()


def test_the_last_copy_cannot_be_deleted_while_the_workspace_is(world: World) -> None:
    """The answer says how both go."""
    workspace = world.ready()
    world.delete("alice", workspace.id)
    world.run(lambda: bool(world.store.snapshots))
    [copy] = world.store.snapshots.values()
    with pytest.raises(SnapshotInUseError, match="with purge"):
        world.delete_snapshot("alice", workspace.id, copy.id)
    world.run()
    assert world.undelete("alice", workspace.id).status is Status.SUSPENDED


def test_a_deletion_of_the_last_copy_at_the_last_moment_is_called_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was decided before the DELETE had a last copy. The disk is gone, so the copy stays."""
    workspace = world.ready()
    world.machines.write(home_of(workspace), WORK)
    monkeypatch.setattr("shared.usecases.manage_snapshots.check_unused", lambda *_: None)
    world.delete("alice", workspace.id)
    world.run(lambda: world.machines.disks == set())
    [copy] = world.store.snapshots.values()
    world.delete_snapshot("alice", workspace.id, copy.id)
    world.run()
    entry = world.store.deleted[workspace.id]
    assert (copy_of(world, entry).state, entry.snapshot_id) == (SnapshotState.READY, copy.id)
    assert ("SnapshotKept", "hub") in whats(world, workspace.id)
    ready = start(world, world.undelete("alice", entry.id))
    assert world.machines.content_of(home_of(ready)) == WORK


def test_a_deletion_of_the_last_copy_and_the_end_of_the_delete_meet(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever deletes the snapshot reads again, and the workspace is not there any more."""
    workspace = world.ready()
    monkeypatch.setattr("shared.usecases.manage_snapshots.check_unused", lambda *_: None)
    world.delete("alice", workspace.id)
    world.run(lambda: world.machines.disks == set())
    [copy] = world.store.snapshots.values()
    act_before_the_commit(world, monkeypatch, "snapshots", world.run)
    with pytest.raises(WorkspaceNotFoundError):
        world.delete_snapshot("alice", workspace.id, copy.id)
    assert copy_of(world, world.store.deleted[workspace.id]).state is SnapshotState.READY


# ---- purging ----


def test_what_can_be_taken_back_no_more_is_purged_by_the_clean_up(world: World) -> None:
    """Not a moment too early. Then its entry and all its snapshots go, and the trail says so."""
    workspace = world.ready()
    world.snapshot("alice", workspace.id, "before-lunch")
    world.run()
    entry = delete(world, workspace)
    other = put_entry(world, until=entry.until + timedelta(days=1))
    world.clock.advance_to(entry.until - timedelta(seconds=1))
    assert world.clean_up().done == {}
    assert set(world.store.deleted) == {entry.id, other.id}
    world.clock.advance_to(entry.until)
    report = world.clean_up()
    assert (report.done, report.failed) == ({"purge": [entry.id]}, {})
    assert set(world.store.deleted) == {other.id}
    assert whats(world, entry.id)[-1] == ("WorkspacePurged", "cleanup")
    world.run()
    assert world.machines.snapshots == {}
    assert set(world.store.snapshots) == {other.snapshot_id}
    assert world.clean_up().looked_at == 0
    with pytest.raises(DeletedWorkspaceNotFoundError):
        world.undelete("alice", entry.id)


def test_one_that_was_deleted_anew_since_the_sweeps_query_is_not_purged(world: World) -> None:
    """Its time has begun anew."""
    entry = put_entry(world, until=NOW + timedelta(seconds=1))
    assert not purge_due(world.records, world.policy, entry.id)
    assert world.store.deleted == {entry.id: entry}


def test_what_cannot_be_purged_stops_no_other(world: World) -> None:
    """An entry or a snapshot that only a newer version can read stays."""
    unreadable, partly, last = (
        put_entry(world, until=NOW - timedelta(minutes=age)) for age in (3, 2, 1)
    )
    newer = a_snapshot(partly.workspace)
    world.store.put_snapshots(newer)
    world.store.unreadable |= {unreadable.id, newer.id}
    report = world.clean_up()
    assert set(report.failed) == {unreadable.id}
    assert report.done == {"purge": [partly.id, last.id]}
    assert set(world.store.deleted) == {unreadable.id}
    states = {each.id: each.state for each in world.store.snapshots.values()}
    assert states[unreadable.snapshot_id] is states[newer.id] is SnapshotState.READY
    assert states[partly.snapshot_id] is states[last.snapshot_id] is SnapshotState.DELETING
    world.store.unreadable.clear()
    world.reconcile_fleet()  # once it can be read
    assert world.store.snapshots[newer.id].state is SnapshotState.DELETING


def test_an_undelete_just_before_its_purge_wins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is purged, though its time is over."""
    entry = deleted(world)
    world.clock.advance_to(entry.until)
    act_before_the_commit(world, monkeypatch, "deleted", lambda: world.undelete("alice", entry.id))
    report = world.clean_up()
    assert (report.done, report.failed) == ({}, {})
    assert copy_of(world, entry).state is SnapshotState.READY
    ready = start(world, world.workspace(entry.id))
    assert world.machines.content_of(home_of(ready)) == WORK


def test_a_purge_just_before_an_undelete_wins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no workspace whose home could not be made."""
    entry = deleted(world)
    world.clock.advance_to(entry.until)
    act_before_the_commit(world, monkeypatch, "deleted", world.clean_up)
    with pytest.raises(DeletedWorkspaceNotFoundError):
        world.undelete("alice", entry.id)
    world.run()
    store = world.store
    assert (dict(store.workspaces), dict(store.deleted), dict(store.snapshots)) == ({}, {}, {})
    assert store.owners["alice"].workspaces == {}


def test_many_who_take_back_and_purge_at_once_agree(world: World) -> None:
    """Each workspace is there with its copy, or gone with all its snapshots."""
    world.policy = replace(world.policy, limits=Limits(100, 100), changes_per_minute=1000)
    entries = [put_entry(world, until=NOW) for _ in range(6)]

    def take_back_or_purge(number: int) -> None:
        entry = entries[number // 4]
        try:
            if (number + number // 4) % 2:
                world.undelete("alice", entry.id, f"name-{number // 4}")
            else:
                purge_due(world.records, world.policy, entry.id)
        except (DeletedWorkspaceNotFoundError, LastCopyGoneError, UnavailableError):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take_back_or_purge, range(24)))

    assert world.store.deleted == {}
    assert set(world.store.workspaces) == set(world.store.get_owner("alice").record.workspaces)
    for entry in entries:
        state = copy_of(world, entry).state
        kept = entry.id in world.store.workspaces
        assert state is (SnapshotState.READY if kept else SnapshotState.DELETING)


# ---- how many are kept ----


def test_the_oldest_goes_when_its_owner_has_too_many(world: World) -> None:
    """In the commit of the new one, with an event. Others' do not count."""
    world.policy = replace(world.policy, deleted_per_owner=2)
    of_bob = put_entry(world, owner_id="bob", deleted_at=NOW - timedelta(days=9))
    first, second, third = (deleted(world, name) for name in ("one", "two", "three"))
    assert set(world.store.deleted) == {of_bob.id, second.id, third.id}
    assert ("WorkspacePurged", "hub") in whats(world, first.id)
    assert copy_of(world, of_bob).state is SnapshotState.READY
    world.run()
    assert set(world.store.snapshots) == {
        of_bob.snapshot_id,
        second.snapshot_id,
        third.snapshot_id,
    }
    listed = list_deleted(world.records, actor("alice"))
    assert [each.entry.id for each in listed] == [third.id, second.id]


def test_one_that_cannot_be_read_counts_and_stays(world: World) -> None:
    """Only a newer version can purge it."""
    world.policy = replace(world.policy, deleted_per_owner=2)
    ages = [timedelta(days=2), timedelta(days=1)]
    unreadable, oldest = (put_entry(world, deleted_at=NOW - age) for age in ages)
    world.store.unreadable.add(unreadable.id)
    newest = deleted(world)
    assert set(world.store.deleted) == {unreadable.id, newest.id}
    assert oldest.snapshot_id not in world.store.snapshots
    assert [each.entry.id for each in list_deleted(world.records, actor("alice"))] == [newest.id]


def test_after_the_limit_has_become_lower_one_commit_purges_only_some(world: World) -> None:
    """It must stay small. The others follow with the next ones, or when their time is over."""
    world.policy = replace(world.policy, deleted_per_owner=1)
    entries = [put_entry(world, deleted_at=NOW - timedelta(days=age)) for age in range(9, 1, -1)]
    newest = deleted(world)
    left = {each.id for each in entries[MOST_PURGED:]}
    assert set(world.store.deleted) == {*left, newest.id}


@pytest.mark.parametrize("meanwhile", ["taken back", "purged", "another is deleted"])
def test_what_happens_to_an_owners_entries_meanwhile_counts(
    world: World, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """The end of a DELETE is decided on what there is, so never are more kept, or fewer."""
    world.policy = replace(world.policy, deleted_per_owner=2)
    first = put_entry(world, until=NOW, deleted_at=NOW - timedelta(days=2))
    second = put_entry(world)

    def another_ends() -> None:
        owner = world.store.get_owner("alice")
        world.store.commit(
            owners=[(owner, replace(owner.record, domain="example.com"))],
            deleted=[(world.store.get_deleted(first.id), None), (None, another)],
        )

    another = a_deleted_workspace(deleted_at=NOW)
    act: dict[str, Callable[[], object]] = {
        "taken back": lambda: world.undelete("alice", first.id, "two"),
        "purged": lambda: purge_due(world.records, world.policy, first.id),
        "another is deleted": another_ends,
    }
    act_before_the_commit(world, monkeypatch, "deleted", act[meanwhile])
    newest = deleted(world)
    kept = another if meanwhile == "another is deleted" else second
    assert set(world.store.deleted) == {kept.id, newest.id}
    if meanwhile == "taken back":
        assert copy_of(world, first).state is SnapshotState.READY


# ---- lists ----


def test_one_sees_ones_own_and_administrators_see_an_owners(world: World) -> None:
    """An administrator's look at somebody else's is in the trail. Anybody else is refused."""
    entry = deleted(world)
    events = len(world.store.events)
    assert [each.entry for each in list_deleted(world.records, actor("alice"), "alice")] == [entry]
    assert list_deleted(world.records, actor("bob")) == []
    assert list_deleted(world.records, ADMIN) == []
    assert len(world.store.events) == events
    assert [each.entry for each in list_deleted(world.records, ADMIN, "alice")] == [entry]
    with pytest.raises(NotAllowedError):
        list_deleted(world.records, actor("bob"), "alice")
    noted = [(each.who, each.what, each.result) for each in world.store.events[events:]]
    assert noted == [
        ("grace", "DeletedListRequested", "ACCEPTED"),
        ("bob", "DeletedListRequested", "REFUSED"),
    ]


# ---- the hourly sweep ----


def test_the_hourly_sweep_leaves_the_snapshots_of_a_deleted_workspace_alone(world: World) -> None:
    """However often it comes, and though one of them only a newer version can read.

    None of them costs a read of its own.
    """
    world.reconcile_fleet()
    reads = world.store.counts.reads
    world.reconcile_fleet()
    reads = world.store.counts.reads - reads
    entry = deleted(world)
    unreadable = deleted(world, "two")
    world.store.unreadable.add(unreadable.id)
    before = world.store.snapshots
    for _ in range(2):
        world.clock.advance(timedelta(days=2))
        counted = world.store.counts.reads
        assert world.reconcile_fleet().done == {}
        assert world.store.counts.reads - counted == reads
    assert world.store.snapshots == before
    world.clock.advance(WEEK)
    world.clean_up()
    world.run()
    assert set(world.store.snapshots) == {unreadable.snapshot_id} != {entry.snapshot_id}


@pytest.mark.parametrize("meanwhile", ["nothing", "it is taken back", "it is deleted"])
def test_the_hourly_sweep_abandons_nothing_of_a_workspace_that_changes_while_it_looks(
    world: World, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Between its look for the workspace and its look for the entry, neither may be there."""
    workspace = world.ready()
    world.snapshot("alice", workspace.id)
    world.run()
    [older] = world.store.snapshots
    entry = delete(world, workspace)
    if meanwhile == "it is deleted":
        world.undelete("alice", entry.id)
    # They were neither recorded nor deleted when their snapshots were read.
    monkeypatch.setattr(world.store, "get_many", lambda _: [])
    monkeypatch.setattr(world.store, "get_many_deleted", lambda _: [])
    looks_for = {"it is taken back": "get", "it is deleted": "get_deleted"}.get(meanwhile)

    def overtaken_after(method: str, act: Callable[[], object]) -> None:
        read = getattr(world.store, method)

        def read_and_be_overtaken(workspace_id: str) -> object:
            found = read(workspace_id)
            monkeypatch.setattr(world.store, method, read)
            act()
            return found

        monkeypatch.setattr(world.store, method, read_and_be_overtaken)

    def change() -> None:
        if meanwhile == "it is taken back":
            world.undelete("alice", entry.id)
        else:
            delete(world, world.workspace(entry.id))

    get_snapshot = world.store.get_snapshot

    def look_at(snapshot_id: str) -> Stored[Snapshot] | None:
        found = get_snapshot(snapshot_id)
        if snapshot_id == older and looks_for:
            monkeypatch.setattr(world.store, "get_snapshot", get_snapshot)
            overtaken_after(looks_for, change)
        return found

    monkeypatch.setattr(world.store, "get_snapshot", look_at)
    assert "SnapshotAbandoned" not in world.reconcile_fleet().done
    assert (entry.id in world.store.workspaces) == (meanwhile != "nothing")
    assert world.store.snapshots[older].state is SnapshotState.READY
