"""Snapshots: the operation that takes one, its upload, its deletion, and all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.errors import (
    NameTakenError,
    OperationUnderWayError,
    QuotaExceededError,
    SnapshotInUseError,
    SnapshotNotFoundError,
    TooManyRequestsError,
    WorkspaceNotFoundError,
)
from shared.domain.instance import (
    CreateSnapshot,
    DeleteSnapshot,
    FaultKind,
    InsertInstance,
    Place,
    SnapshotStatus,
)
from shared.domain.lifecycle import NewConnection
from shared.domain.snapshots import Consistency, Snapshot, SnapshotState
from shared.domain.workspace import OperationKind, Phase, Status, Workspace
from shared.usecases import manage_snapshots
from shared.usecases.manage_workspaces import dry_run_delete
from tests.fakes.machines import Durations, Mishap
from tests.fakes.records import a_snapshot
from tests.fakes.world import World, actor, place_of, shut_down_by_hand, suspended

PAUSE = timedelta(minutes=10)


@pytest.fixture
def world() -> World:
    """Return a Hub with fakes."""
    return World()


def only(world: World) -> Snapshot:
    """Return the only snapshot."""
    [snapshot] = world.store.snapshots.values()
    return snapshot


def ended(world: World, workspace: Workspace) -> Callable[[], bool]:
    """Say when no operation is under way."""
    return lambda: world.workspace(workspace.id).operation is None


def taken(world: World, workspace: Workspace, name: str | None = None) -> Snapshot:
    """Take a snapshot, wait until it is stored, and return it."""
    known = set(world.store.snapshots)
    world.snapshot(workspace.owner_id, workspace.id, name)
    world.run()
    [made] = set(world.store.snapshots) - known
    return world.store.snapshots[made]


def in_error(world: World) -> Workspace:
    """Return a workspace in ERROR whose machine is gone."""
    workspace = world.ready()
    world.machines.delete_by_hand(place_of(workspace))
    world.look(workspace)
    world.run()
    return world.workspace(workspace.id)


# ---- taking one ----


@pytest.mark.parametrize(
    ("before", "consistency"),
    [
        (World.ready, Consistency.CRASH),
        (suspended, Consistency.CRASH),
        (shut_down_by_hand, Consistency.CLEAN),
        (in_error, Consistency.CRASH),
    ],
)
def test_a_snapshot_leaves_the_workspace_as_it_was(
    world: World, before: Callable[[World], Workspace], consistency: Consistency
) -> None:
    """Only times of the record move; the machine stays; it is clean if that was off."""
    workspace = before(world)
    machine = world.machine(workspace)
    state = machine and machine.state

    snapshot = taken(world, workspace, "first")

    after = world.workspace(workspace.id)
    assert after == replace(
        workspace, updated_at=after.updated_at, snapshot_asked_at=snapshot.asked_at
    )
    assert (machine and machine.state) == state
    assert (snapshot.state, snapshot.consistency) == (SnapshotState.READY, consistency)
    assert (snapshot.name, snapshot.automatic, snapshot.disk_gb) == ("first", False, 50)
    assert world.machines.snapshots == {snapshot.place.name: SnapshotStatus.READY}


def test_the_operation_ends_when_the_content_is_captured(world: World) -> None:
    """The workspace can be stopped and started while the snapshot is uploaded."""
    workspace = world.ready()
    world.snapshot("alice", workspace.id)
    world.run(ended(world, workspace))
    assert only(world).state is SnapshotState.UPLOADING

    world.stop("alice", workspace.id)
    world.run(ended(world, workspace))
    assert world.workspace(workspace.id).status is Status.SUSPENDED
    assert only(world).state is SnapshotState.UPLOADING
    world.run()

    assert only(world).state is SnapshotState.READY
    assert only(world).ready_at is not None
    assert only(world).stored_bytes is not None


def test_an_upload_that_lasts_for_hours_becomes_ready() -> None:
    """It has no deadline, and is looked at every few minutes only."""
    world = World(durations=Durations(upload=timedelta(hours=9)))
    workspace = world.ready()

    snapshot = taken(world, workspace)

    assert snapshot.state is SnapshotState.READY
    assert snapshot.ready_at is not None
    assert snapshot.ready_at - snapshot.asked_at < timedelta(hours=9, minutes=6)
    assert snapshot.step < 150


def test_a_snapshot_that_cannot_be_stored_says_so_and_can_be_deleted(world: World) -> None:
    """The workspace knows nothing of it: its operation had ended well."""
    workspace = world.ready()
    world.machines.script(CreateSnapshot, Mishap.UPLOAD_FAILS, FaultKind.TRANSIENT)

    snapshot = taken(world, workspace)

    assert snapshot.state is SnapshotState.FAILED
    assert snapshot.error is not None
    assert snapshot.error.code == "SNAPSHOT_FAILED"
    assert world.workspace(workspace.id).error is None
    world.delete_snapshot("alice", workspace.id, snapshot.id)
    world.run()
    assert (dict(world.store.snapshots), world.machines.snapshots) == ({}, {})


def test_a_snapshot_that_compute_refuses_is_an_error_of_a_workspace_that_stays_ready(
    world: World,
) -> None:
    """Nothing is left of it, and the next one that succeeds takes the error away."""
    workspace = world.ready()
    world.machines.script(CreateSnapshot, Mishap.REFUSED, FaultKind.QUOTA)
    world.snapshot("alice", workspace.id)
    world.run()

    after = world.workspace(workspace.id)
    assert after.error is not None
    assert (after.status, after.error.code) == (Status.READY, "COMPUTE_QUOTA_EXCEEDED")
    assert after.error.operation_kind is OperationKind.SNAPSHOT
    assert (dict(world.store.snapshots), world.machines.snapshots) == ({}, {})
    [end] = [event for event in world.store.events if event.what == "SnapshotFailed"]
    assert (end.result, end.operation_kind) == ("COMPUTE_QUOTA_EXCEEDED", "SNAPSHOT")

    taken(world, workspace)  # at once: Compute has not taken any
    assert world.workspace(workspace.id).error is None


def test_a_refusal_of_a_snapshot_says_nothing_of_a_machine(world: World) -> None:
    """The code is that of any other refusal, and the person is to know what was refused."""
    workspace = world.ready()
    world.machines.script(CreateSnapshot, Mishap.REFUSED, FaultKind.INVALID)
    world.snapshot("alice", workspace.id)
    world.run()

    error = world.workspace(workspace.id).error
    assert error is not None
    assert error.code == "COMPUTE_REFUSED"
    assert error.message.startswith("Compute Engine refused the snapshot. ")
    assert "machine" not in error.message


def test_a_workspace_in_error_keeps_its_own_error(world: World) -> None:
    """Only the trail has why the snapshot failed."""
    workspace = in_error(world)
    world.machines.script(CreateSnapshot, Mishap.REFUSED, FaultKind.QUOTA)
    world.snapshot("alice", workspace.id)
    world.run()

    assert world.workspace(workspace.id).error == workspace.error
    assert world.store.events[-1].result == "COMPUTE_QUOTA_EXCEEDED"


def test_a_snapshot_that_may_have_been_made_for_nothing_is_deleted() -> None:
    """A capture that lasts beyond the deadline ends the operation, and what comes of it goes."""
    world = World(durations=Durations(capture=timedelta(minutes=30)))
    workspace = world.ready()
    world.snapshot("alice", workspace.id)
    world.run(ended(world, workspace))

    error = world.workspace(workspace.id).error
    assert error is not None
    assert error.code == "SNAPSHOT_TIMED_OUT"
    assert only(world).state is SnapshotState.DELETING
    world.run()
    assert (dict(world.store.snapshots), world.machines.snapshots) == ({}, {})


def test_a_home_that_is_gone_fails_the_snapshot(world: World) -> None:
    """The message says how the home may be found again."""
    workspace = in_error(world)
    [home] = world.machines.disks
    world.machines.delete_disk_by_hand(home)
    world.snapshot("alice", workspace.id)
    world.run()

    assert world.store.events[-1].result == "HOME_DISK_GONE"
    assert world.workspace(workspace.id).error == workspace.error


def test_somebody_elses_snapshot_of_the_same_name_stays(world: World) -> None:
    """It is of another disk, so it is neither taken for ours nor deleted."""
    workspace, other = world.ready(), world.ready("bob", "two")
    world.snapshot("alice", workspace.id)
    operation = world.workspace(workspace.id).operation
    assert operation is not None
    name = f"home-snapshot-{workspace.id}-{operation.id[-12:]}"
    home = next(each for each in world.machines.disks if each.name == other.disk_name)
    world.machines.make_snapshot_by_hand(name, home, {})
    world.run()

    error = world.workspace(workspace.id).error
    assert error is not None
    assert error.code == "COMPUTE_NAME_TAKEN"
    assert world.machines.snapshots == {name: SnapshotStatus.READY}


def test_a_machine_that_changed_meanwhile_is_looked_at_afterwards(world: World) -> None:
    """Nobody else may look while an operation is under way."""
    workspace = world.ready()
    world.snapshot("alice", workspace.id)
    world.machines.delete_by_hand(place_of(workspace))
    world.run()

    assert world.workspace(workspace.id).status is Status.ERROR
    assert only(world).state is SnapshotState.READY


# ---- refusals ----


def test_a_second_snapshot_has_to_wait(world: World) -> None:
    """Compute takes one of a disk in ten minutes; the refusal and the list say from when on."""
    workspace = world.ready()
    first = taken(world, workspace)

    with pytest.raises(TooManyRequestsError) as refused:
        world.snapshot("alice", workspace.id)

    next_at = first.asked_at + PAUSE
    assert refused.value.retry_after == next_at - world.clock()
    listed = manage_snapshots.list_snapshots(
        world.records, world.policy, actor("alice"), workspace.id
    )
    assert (listed.next_at, listed.most, list(listed.snapshots)) == (next_at, 5, [first])
    world.clock.advance_to(next_at)
    assert taken(world, workspace).state is SnapshotState.READY


def test_the_same_request_again_is_the_same_operation(world: World) -> None:
    """One of another name is refused meanwhile, and later, if a snapshot has it."""
    workspace = world.ready()
    world.snapshot("alice", workspace.id, "first")
    operation = world.workspace(workspace.id).operation

    assert world.snapshot("alice", workspace.id, "first")[0].operation == operation
    with pytest.raises(OperationUnderWayError, match="null: it lasts some seconds") as refused:
        world.snapshot("alice", workspace.id, "second")
    assert "delete" not in str(refused.value)
    world.run()
    world.pass_time(PAUSE)
    with pytest.raises(NameTakenError):
        world.snapshot("alice", workspace.id, "first")


def test_an_automatic_snapshot_makes_room_when_the_new_one_is_recorded(world: World) -> None:
    """In that commit, with an event. People's own ones never do: then there is no other one."""
    world.policy = replace(world.policy, snapshots_per_workspace=2)
    workspace = world.ready()
    own, automatic = a_snapshot(workspace), a_snapshot(workspace, automatic=True)
    world.store.put_snapshots(own, automatic)

    world.machines.script(CreateSnapshot, Mishap.REFUSED, FaultKind.POLICY)
    world.snapshot("alice", workspace.id)
    world.run()
    assert set(world.store.snapshots) == {own.id, automatic.id}  # nothing goes for nothing

    world.snapshot("alice", workspace.id)
    world.run(ended(world, workspace))
    assert world.store.snapshots[automatic.id].state is SnapshotState.DELETING
    [said] = [each for each in world.store.events if each.what == "SnapshotDeleteRequested"]
    assert (said.snapshot_id, said.who) == (automatic.id, "hub")
    world.run()
    assert {each.id == own.id for each in world.store.snapshots.values()} == {True, False}
    world.pass_time(PAUSE)
    with pytest.raises(QuotaExceededError, match="2 of at most 2"):
        world.snapshot("alice", workspace.id)


def test_a_snapshot_of_another_workspace_is_not_found(world: World) -> None:
    """Neither for its owner under the wrong workspace, nor for anybody else."""
    one, two = world.ready("alice", "one"), world.ready("alice", "two")
    snapshot = taken(world, one)

    with pytest.raises(SnapshotNotFoundError):
        world.delete_snapshot("alice", two.id, snapshot.id)
    with pytest.raises(WorkspaceNotFoundError):
        world.delete_snapshot("bob", one.id, snapshot.id)
    assert only(world) == snapshot


# ---- while one is taken ----


@pytest.fixture
def taking(world: World) -> Workspace:
    """Return a READY workspace of which a snapshot is being taken."""
    workspace = world.ready()
    world.snapshot("alice", workspace.id)
    return world.workspace(workspace.id)


def test_its_owner_can_connect_meanwhile(world: World, taking: Workspace) -> None:
    """A READY workspace is ready all the same."""
    world.clock.advance(timedelta(minutes=2))

    reached = world.connect("alice", taking.id, NewConnection(start=True))

    assert not reached.is_starting
    assert reached.workspace.status is Status.READY
    assert reached.workspace.last_connected_at == world.clock()
    world.run()
    assert only(world).state is SnapshotState.READY


def test_an_idle_machine_is_stopped_after_the_snapshot(world: World, taking: Workspace) -> None:
    """The clean-up leaves it alone meanwhile, and does not forget it."""
    world.clock.advance(timedelta(hours=2))
    world.clean_up()
    operation = world.workspace(taking.id).operation
    assert operation is not None
    assert operation.kind is OperationKind.SNAPSHOT
    world.run(ended(world, taking))

    world.clean_up()

    operation = world.workspace(taking.id).operation
    assert operation is not None
    assert operation.kind is OperationKind.STOP


def test_a_lost_job_is_sent_again(world: World, taking: Workspace) -> None:
    """That of the operation, and that of the upload."""
    world.operations.waiting.clear()
    world.run(ended(world, taking))
    assert only(world).state is SnapshotState.UPLOADING
    world.operations.waiting.clear()
    world.run()

    assert only(world).state is SnapshotState.READY


# ---- at the same time ----


def act_before_the_next_commit(
    world: World, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
) -> None:
    """Act between the next reads and their commit."""
    commit = world.store.commit

    def interrupted(**documents: Any) -> None:
        monkeypatch.setattr(world.store, "commit", commit)
        act()
        commit(**documents)

    monkeypatch.setattr(world.store, "commit", interrupted)


def test_two_requests_at_the_same_time_take_one_snapshot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later one finds the operation of the earlier one."""
    workspace = world.ready()
    act_before_the_next_commit(
        world, monkeypatch, lambda: world.snapshot("alice", workspace.id, "one")
    )

    later, _ = world.snapshot("alice", workspace.id, "one")

    assert later.operation == world.workspace(workspace.id).operation
    world.run()
    assert only(world).name == "one"
    assert len(world.machines.snapshots) == 1


def test_a_deletion_at_the_same_time_wins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a snapshot of a workspace that is being deleted is refused."""
    workspace = world.ready()
    act_before_the_next_commit(
        world, monkeypatch, lambda: world.delete("alice", workspace.id, purge=True)
    )

    with pytest.raises(OperationUnderWayError):
        world.snapshot("alice", workspace.id)
    world.run()
    assert (dict(world.store.workspaces), dict(world.store.snapshots)) == ({}, {})


@pytest.mark.parametrize("seconds", [0, 2, 60])
def test_a_deletion_of_the_workspace_takes_the_snapshot_with_it(
    world: World, taking: Workspace, seconds: int
) -> None:
    """Before Compute was called, while it captures, and while it uploads."""
    world.pass_time(timedelta(seconds=seconds))

    world.delete("alice", taking.id, purge=True)
    world.run()

    assert (dict(world.store.workspaces), dict(world.store.snapshots)) == ({}, {})
    assert (world.machines.snapshots, world.machines.disks) == ({}, set())


def test_a_deletion_between_a_workers_call_and_its_commit_leaves_no_snapshot(
    world: World, taking: Workspace
) -> None:
    """The DELETE makes the record by which it is deleted, since the worker may be about to call."""
    world.machines.before_call = lambda: world.delete("alice", taking.id, purge=True)
    world.run()

    calls = [command for command, _ in world.machines.calls]
    assert any(isinstance(command, CreateSnapshot) for command in calls)
    assert any(isinstance(command, DeleteSnapshot) for command in calls)
    assert (dict(world.store.workspaces), dict(world.store.snapshots)) == ({}, {})
    assert world.machines.snapshots == {}


def test_a_snapshot_that_is_deleted_while_a_worker_sees_to_it_stays_deleted(
    world: World, taking: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's commit is refused, and it finds that it has nothing to say any more."""
    world.run(ended(world, taking))
    uploading = only(world)
    act_before_the_next_commit(
        world, monkeypatch, lambda: world.delete_snapshot("alice", taking.id, uploading.id)
    )
    world.run()

    assert (dict(world.store.snapshots), world.machines.snapshots) == ({}, {})


def test_every_message_may_come_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that comes again changes nothing that the first did."""
    do = world.do
    monkeypatch.setattr(world, "do", lambda job: (do(job), do(job)))
    workspace = world.ready()

    snapshot = taken(world, workspace)

    assert snapshot.state is SnapshotState.READY
    calls = [command for command, _ in world.machines.calls]
    assert sum(isinstance(command, CreateSnapshot) for command in calls) == 1
    world.delete_snapshot("alice", workspace.id, snapshot.id)
    world.run()
    assert (dict(world.store.snapshots), world.machines.snapshots) == ({}, {})


# ---- deleting one ----


def test_a_deletion_that_compute_refuses_is_repeated_until_it_is_done(world: World) -> None:
    """Meanwhile the snapshot says why it is still there."""
    workspace = world.ready()
    snapshot = taken(world, workspace)
    world.machines.script(DeleteSnapshot, Mishap.REFUSED, FaultKind.PERMISSION, times=4)
    world.delete_snapshot("alice", workspace.id, snapshot.id)
    world.pass_time(timedelta(seconds=20))

    waiting = only(world)
    assert waiting.error is not None
    assert (waiting.state, waiting.error.code) == (SnapshotState.DELETING, "SNAPSHOT_NOT_DELETED")
    world.run()
    assert (dict(world.store.snapshots), world.machines.snapshots) == ({}, {})


@pytest.mark.parametrize(("kind", "errors"), [(FaultKind.PERMISSION, 1), (FaultKind.NOT_READY, 0)])
def test_a_refused_deletion_is_logged_as_an_error_once_unless_it_passes(
    world: World, caplog: pytest.LogCaptureFixture, kind: FaultKind, errors: int
) -> None:
    """An alert counts these lines; the tries that follow have nothing new to say."""
    workspace = world.ready()
    snapshot = taken(world, workspace)
    world.machines.script(DeleteSnapshot, Mishap.REFUSED, kind, times=4)
    world.delete_snapshot("alice", workspace.id, snapshot.id)
    world.run()

    logged = [each for each in caplog.records if each.levelname == "ERROR"]
    assert [each.getMessage() for each in logged] == ["SnapshotNotDeleted"] * errors
    assert dict(world.store.snapshots) == {}


@pytest.mark.parametrize("mishap", [Mishap.FAILS_LATER, Mishap.OPERATION_LOST, Mishap.ANSWER_LOST])
def test_a_deletion_that_goes_wrong_is_repeated(world: World, mishap: Mishap) -> None:
    """Whatever is there counts, not what a call said."""
    workspace = world.ready()
    snapshot = taken(world, workspace)
    world.machines.script(DeleteSnapshot, mishap, FaultKind.TRANSIENT)

    world.delete_snapshot("alice", workspace.id, snapshot.id)
    world.run()

    assert (dict(world.store.snapshots), world.machines.snapshots) == ({}, {})


def test_a_deletion_is_counted_in_the_owners_rate(world: World) -> None:
    """The same request again changes nothing, and is not counted."""
    workspace = world.ready()
    snapshot = taken(world, workspace)
    world.pass_time(timedelta(minutes=1))

    world.delete_snapshot("alice", workspace.id, snapshot.id)
    world.delete_snapshot("alice", workspace.id, snapshot.id)

    assert list(world.store.owners["alice"].recent) == [world.clock()]


def test_the_dry_run_of_a_deletion_says_how_many_snapshots_go(world: World) -> None:
    """What is lost comes in the order of how bad that is."""
    workspace = world.ready()
    taken(world, workspace)

    planned = dry_run_delete(world.records, world.policy, actor("alice"), workspace.id, purge=True)

    assert [loss.what for loss in planned.losses][:3] == ["home", "snapshots", "memory"]
    assert "its snapshot is deleted" in planned.losses[1].why


def test_the_phase_of_the_operation_is_in_its_record(world: World, taking: Workspace) -> None:
    """People see that the content is being captured."""
    world.pass_time(timedelta(seconds=1))

    operation = world.workspace(taking.id).operation
    assert operation is not None
    assert operation.phase is Phase.AWAIT_SNAPSHOT
    assert world.workspace(taking.id).schema_version == 2


@pytest.mark.parametrize("at_rest", [True, False])
def test_a_machine_that_ran_at_one_end_makes_no_clean_snapshot(world: World, at_rest: bool) -> None:
    """It has to be off when Compute is asked, and still when the content is captured."""
    workspace = shut_down_by_hand(world) if at_rest else world.ready()
    world.snapshot("alice", workspace.id)
    world.pass_time(timedelta(seconds=1))
    change = world.machines.start_by_hand if at_rest else world.machines.delete_by_hand
    change(place_of(workspace))
    world.run()

    assert only(world).consistency is Consistency.CRASH


def test_the_jobs_of_snapshots_leave_with_the_commit(world: World, taking: Workspace) -> None:
    """Nobody waits for the sweep, and people's jobs do not wait behind its own."""
    world.run(ended(world, taking))

    [job] = [each.job for each in world.operations.waiting if each.job.snapshot_id]
    assert job.snapshot_id == only(world).id
    assert not job.can_wait


def test_a_snapshot_stays_while_a_workspace_waits_for_it(world: World) -> None:
    """It is refused to delete it; if its own workspace goes, its deletion waits."""
    workspace = world.ready()
    snapshot = taken(world, workspace)
    world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.QUOTA, times=9)
    fork = world.create("alice", "two", from_snapshot=snapshot.id)
    world.run()
    with pytest.raises(SnapshotInUseError):
        world.delete_snapshot("alice", workspace.id, snapshot.id)

    world.delete("alice", workspace.id, purge=True)
    world.pass_time(timedelta(minutes=20))
    assert only(world).state is SnapshotState.DELETING
    assert world.machines.snapshots == {snapshot.place.name: SnapshotStatus.READY}
    world.delete("alice", fork.id)
    world.run()
    assert (dict(world.store.snapshots), world.machines.snapshots) == ({}, {})


def gone(world: World, workspace: Workspace) -> None:
    """Delete the machine outside the Hub while it runs."""
    world.machines.delete_by_hand(place_of(workspace))


def held(world: World, workspace: Workspace) -> None:
    """Shut the machine down, and attach its home to another one, which runs."""
    world.stop("alice", workspace.id)
    world.run()
    world.machines.hold_disk_by_hand(Place(workspace.zone, workspace.disk_name))


@pytest.mark.parametrize("happens", [gone, held])
def test_a_home_that_may_have_been_in_use_makes_no_clean_snapshot(
    world: World, happens: Callable[[World, Workspace], None]
) -> None:
    """Only the workspace's own machine, shut down, shows that everything was written."""
    workspace = world.ready()
    happens(world, workspace)
    world.pass_time(timedelta(minutes=1))
    world.snapshot("alice", workspace.id)
    world.run(lambda: bool(world.store.snapshots))
    [taken] = world.store.snapshots.values()
    assert taken.consistency is Consistency.CRASH


def test_a_home_that_is_attached_elsewhere_meanwhile_makes_no_clean_snapshot(world: World) -> None:
    """Somebody may have written to it before its content was captured."""
    workspace = world.ready()
    world.stop("alice", workspace.id)
    world.run()
    world.snapshot("alice", workspace.id)
    world.run(lambda: bool(world.machines.snapshots))
    world.machines.hold_disk_by_hand(Place(workspace.zone, workspace.disk_name))
    world.run(lambda: bool(world.store.snapshots))
    [taken] = world.store.snapshots.values()
    assert taken.consistency is Consistency.CRASH


def test_a_snapshot_that_is_being_deleted_counts_until_it_is_gone() -> None:
    """An upload of days cannot be deleted before its end, and costs. It is seldom tried."""
    world = World(durations=Durations(upload=timedelta(days=2)))
    world.policy = replace(world.policy, snapshots_per_workspace=1)
    workspace = world.ready()
    world.snapshot("alice", workspace.id)
    world.run(ended(world, workspace))
    world.delete_snapshot("alice", workspace.id, only(world).id)
    step = only(world).step

    world.pass_time(timedelta(hours=6))

    assert only(world).state is SnapshotState.DELETING
    assert only(world).step - step < 150
    with pytest.raises(QuotaExceededError, match="1 of them is being deleted"):
        world.snapshot("alice", workspace.id)


def test_the_list_does_not_grow_by_snapshots_that_fail(world: World) -> None:
    """The oldest one that failed makes room."""
    world.policy = replace(world.policy, snapshots_per_workspace=2)
    workspace = world.ready()
    world.machines.script(CreateSnapshot, Mishap.UPLOAD_FAILS, FaultKind.QUOTA, times=9)
    ids = []
    for _ in range(4):
        ids.append(taken(world, workspace).id)
        world.pass_time(PAUSE)

    assert set(world.store.snapshots) == set(ids[-2:])
    assert len(world.machines.snapshots) <= 2


def test_a_snapshot_that_was_refused_at_once_leaves_the_pause_as_it_was(world: World) -> None:
    """The list says the same as before."""
    workspace = world.ready()
    first = taken(world, workspace)
    world.pass_time(PAUSE)
    world.machines.script(CreateSnapshot, Mishap.REFUSED, FaultKind.QUOTA)
    world.snapshot("alice", workspace.id)
    world.run()

    assert world.workspace(workspace.id).snapshot_asked_at == first.asked_at


def test_a_snapshot_that_cannot_be_read_does_not_keep_its_workspace(world: World) -> None:
    """Its record stays, and the hourly sweep deletes it once it can be read."""
    workspace = world.ready()
    other, snapshot = taken(world, workspace), a_snapshot(workspace)
    world.store.put_snapshots(snapshot)
    world.store.unreadable.add(snapshot.id)
    world.delete("alice", workspace.id, purge=True)
    world.run()

    assert dict(world.store.workspaces) == {}
    assert set(world.store.snapshots) == {snapshot.id} != {other.id}
    world.store.unreadable.clear()
    world.reconcile_fleet()
    world.run()
    assert dict(world.store.snapshots) == {}
