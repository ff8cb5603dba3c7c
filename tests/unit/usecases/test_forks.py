"""Workspaces whose home is made from a snapshot: what is in it, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.changes import Updated
from shared.domain.errors import (
    HubError,
    IdempotencyKeyReusedError,
    SnapshotNotFoundError,
    SnapshotNotReadyError,
)
from shared.domain.instance import DeleteInstance, FaultKind, InsertInstance, Place
from shared.domain.lifecycle import NewMachine, NewWorkspace
from shared.domain.owner_limits import Key
from shared.domain.ownership import labels_of
from shared.domain.snapshots import Snapshot, SnapshotState
from shared.domain.steps import Step, StepInput, plan
from shared.domain.workspace import Metadata, OperationKind, Phase, Status, Workspace
from shared.usecases.create_workspace import create_workspace, dry_run_create
from tests.fakes.machines import INSTALLATION, GuestMishap, Mishap, fault
from tests.fakes.records import A_PROBLEM, a_snapshot, an_instance, an_operation
from tests.fakes.world import World, actor, place_of, requested_as

ZONES = ("us-west1-a", "us-west1-b")
WORK = "what alice has written"


@dataclass
class Forks:
    """A Hub with a workspace of alice's, and a READY snapshot of its home."""

    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        """Make them."""
        self.world.policy = replace(self.world.policy, zones=ZONES)
        self.source = self.world.ready("alice", "source")
        home = Place(self.source.zone, self.source.disk_name)
        self.world.machines.write(home, WORK)
        self.snapshot = a_snapshot(self.source)
        labels = {**labels_of(self.source.id, "alice"), "hub": INSTALLATION}
        self.world.machines.make_snapshot_by_hand(self.snapshot.place.name, home, labels)
        self.world.store.put_snapshots(self.snapshot)

    def fork(self, owner: str = "alice", **options: Any) -> Workspace:
        """Ask for a workspace from the snapshot."""
        return self.world.create(owner, "fork", from_snapshot=self.snapshot.id, **options)

    def recorded(self, workspace: Workspace) -> Workspace:
        """Return the record as it is now."""
        return self.world.workspace(workspace.id)

    def content(self, workspace: Workspace) -> str | None:
        """Return what is in a workspace's home."""
        now = self.recorded(workspace)
        return self.world.machines.content_of(Place(now.zone, now.disk_name))

    def start(self, workspace: Workspace, machine: NewMachine | None = None) -> Workspace:
        """Start it, and let that end."""
        self.world.start("alice", workspace.id, machine)
        self.world.run()
        return self.recorded(workspace)

    def lose_snapshot(self) -> None:
        """Delete it outside the Hub."""
        self.world.machines.delete_snapshot_by_hand(self.snapshot.place.name)

    def failed(self) -> Workspace:
        """Return a fork whose CREATE has failed."""
        self.world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
        made = self.fork()
        self.world.run()
        return self.recorded(made)


@pytest.fixture
def forks() -> Forks:
    """A Hub with a snapshot."""
    return Forks()


def test_a_fork_has_the_content_of_the_snapshot_and_goes_its_own_way(forks: Forks) -> None:
    """What is written in one of them is not in the other."""
    made = forks.fork()
    assert made.home_source is not None
    forks.world.run()
    fork = forks.recorded(made)
    assert (fork.status, fork.home_source) == (Status.READY, None)
    assert fork.home_disk is not None
    assert forks.content(fork) == WORK
    forks.world.machines.write(Place(fork.zone, fork.disk_name), "something else")
    assert forks.content(forks.source) == WORK


@pytest.mark.parametrize(("of_gb", "home_gb"), [(200, 200), (10, 50)])
def test_a_forks_home_is_as_large_as_configured_and_as_the_snapshots_disk(
    forks: Forks, of_gb: int, home_gb: int
) -> None:
    """Whichever is larger: somebody may have made the disk larger, or the Hub's homes."""
    forks.world.store.put_snapshots(replace(forks.snapshot, disk_gb=of_gb))
    made = forks.fork()
    forks.world.run()
    fork = forks.recorded(made)
    assert fork.status is Status.READY
    assert forks.world.machines.disk_gb(Place(fork.zone, fork.disk_name)) == home_gb


def test_the_trail_says_what_a_home_was_made_from(forks: Forks) -> None:
    """The event of the request has the snapshot's id."""
    made = forks.fork()
    [said] = [each for each in forks.world.store.events if each.workspace_id == made.id]
    assert (said.who, said.what, said.snapshot_id) == (
        "alice",
        "WorkspaceRequested",
        forks.snapshot.id,
    )


@pytest.mark.parametrize("who", ["bob", "an administrator", "nobody has it", "it is deleted"])
def test_a_snapshot_that_one_may_not_have_does_not_exist(forks: Forks, who: str) -> None:
    """Administrators get the same answer, dry or not. The trail says who asks for others' ones."""
    owner = "alice" if who == "it is deleted" else "bob"
    asks = replace(actor(owner), admin=who == "an administrator")
    wanted = "00000000" + forks.snapshot.id[8:] if who == "nobody has it" else forks.snapshot.id
    if who == "it is deleted":
        forks.world.store.put_snapshots(replace(forks.snapshot, state=SnapshotState.DELETING))
    new = NewWorkspace(name="fork", from_snapshot=wanted)
    records, policy = forks.world.records, forks.world.policy
    for request in (create_workspace, dry_run_create):
        with pytest.raises(SnapshotNotFoundError, match=wanted):
            request(records, policy, asks, new, None)
    assert list(forks.world.store.workspaces) == [forks.source.id]
    refused = [each for each in forks.world.store.events if each.result == "REFUSED"]
    if owner == "alice":
        assert refused == []  # what is one's own is no secret
    else:
        assert {(each.who, each.what) for each in refused} == {("bob", "WorkspaceRequested")}


@pytest.mark.parametrize(
    ("state", "said"),
    [(SnapshotState.UPLOADING, "Try again"), (SnapshotState.FAILED, A_PROBLEM.message)],
)
def test_a_snapshot_that_is_not_ready_is_refused_with_what_to_do(
    forks: Forks, state: SnapshotState, said: str
) -> None:
    """It will be, or it never will."""
    forks.world.store.put_snapshots(replace(forks.snapshot, state=state, error=A_PROBLEM))
    with pytest.raises(SnapshotNotReadyError, match=said):
        forks.fork()


def new_fork(forks: Forks, snapshot: Snapshot, **said: Any) -> Workspace:
    """Return the record of a fork for which only these fields are said."""
    forks.world.store.put_snapshots(snapshot)
    new = NewWorkspace(name="fork", from_snapshot=snapshot.id, **said)
    world = forks.world
    return create_workspace(world.records, world.policy, actor("alice"), new, None)


def test_what_is_not_said_is_as_it_was_in_the_snapshot(forks: Forks) -> None:
    """But the device is that of the person who asks."""
    world = forks.world
    world.policy = replace(
        world.policy, machine_types=("e2-standard-4", "e2-standard-8"), image_tags=("latest", "v*")
    )
    then = replace(
        forks.snapshot,
        machine_type="e2-standard-8",
        image_tag="v7",
        metadata=Metadata("https://example.com/a.git", "main", "an old laptop"),
    )
    made = new_fork(forks, then, metadata=Metadata(branch="other", device_id="a new laptop"))
    assert (made.machine_type, made.image_tag) == ("e2-standard-8", "v7")
    assert made.metadata == Metadata("https://example.com/a.git", "other", "a new laptop")


def test_what_is_not_allowed_any_more_is_as_the_hub_has_it_by_default(forks: Forks) -> None:
    """The configuration may have changed since the snapshot."""
    policy = forks.world.policy = replace(forks.world.policy, image_tags=("latest",))
    then = replace(forks.snapshot, machine_type="m9-huge-1", image_tag="older")
    made = new_fork(forks, then)
    assert (made.machine_type, made.image_tag) == (
        policy.default_machine_type,
        policy.default_image_tag,
    )


def test_a_repeated_key_answers_the_same_fork_though_its_snapshot_is_gone(forks: Forks) -> None:
    """The snapshot may be deleted as soon as the home is made. Another body is refused."""
    key = Key("a" * 64, "b" * 64)
    made = forks.fork(key=key)
    forks.world.run()
    forks.world.store.put_snapshots(replace(forks.snapshot, state=SnapshotState.DELETING))
    assert forks.fork(key=key).id == made.id
    with pytest.raises(IdempotencyKeyReusedError):
        forks.fork(key=replace(key, body_hash="c" * 64))


def test_a_dry_run_says_what_a_fork_takes_and_changes_nothing(forks: Forks) -> None:
    """Its phases are those of any other create."""
    world = forks.world
    before = (world.store.workspaces, world.store.snapshots, len(world.store.events))
    new = NewWorkspace(name="fork", from_snapshot=forks.snapshot.id)
    run = dry_run_create(world.records, world.policy, actor("alice"), new, None)
    empty = dry_run_create(
        world.records, world.policy, actor("alice"), replace(new, from_snapshot=None), None
    )
    assert (run.phases, run.losses, run.runs) == (empty.phases, (), True)
    assert run.workspace.home_source is not None
    assert (world.store.workspaces, world.store.snapshots, len(world.store.events)) == before


def test_a_fork_takes_the_next_zone_if_the_first_has_no_capacity(forks: Forks) -> None:
    """A snapshot is in no zone. The same content is in the home."""
    forks.world.machines.script(
        InsertInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT, zone=ZONES[0]
    )
    made = forks.fork()
    forks.world.run()
    fork = forks.recorded(made)
    assert (fork.status, fork.zone) == (Status.READY, ZONES[1])
    assert forks.content(fork) == WORK


def test_a_fork_that_failed_keeps_its_source_and_a_start_makes_its_home_again(
    forks: Forks,
) -> None:
    """The clean-up deletes the disk that was made, and nothing else."""
    fork = forks.failed()
    assert fork.status is Status.ERROR
    assert fork.home_source is not None
    assert forks.content(fork) is None
    reconciled = forks.world.reconcile_fleet()
    assert "HomeDiskGone" not in reconciled.done
    assert forks.recorded(fork).error == fork.error

    fork = forks.start(fork)
    assert (fork.status, fork.home_source) == (Status.READY, None)
    assert forks.content(fork) == WORK


@pytest.mark.parametrize(
    "machine", [NewMachine(rebuild=True), NewMachine(machine_type="e2-standard-8")]
)
def test_a_start_with_another_machine_keeps_the_source(forks: Forks, machine: NewMachine) -> None:
    """Also if this START fails before there is a home."""
    fork = forks.failed()
    forks.world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.QUOTA)
    fork = forks.start(fork, machine)
    assert (fork.status, fork.home_source is None) == (Status.ERROR, False)
    fork = forks.start(fork, machine)
    assert (fork.status, forks.content(fork)) == (Status.READY, WORK)


def test_a_home_that_a_failed_create_could_not_delete_is_used_by_a_start(forks: Forks) -> None:
    """Somebody may have worked in it, so nothing is made in its place any more."""
    forks.world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.PERMISSION, times=1000)
    fork = forks.failed()
    forks.world.machines.calm()
    assert forks.content(fork) == WORK
    forks.world.start("alice", fork.id, NewMachine(rebuild=True))
    forks.world.run(lambda: place_of(fork) not in forks.world.machines.instances)
    forks.world.run(lambda: place_of(fork) in forks.world.machines.instances)
    assert forks.recorded(fork).home_source is None
    assert forks.recorded(fork).home_disk is not None
    calls = [command for command, _ in forks.world.machines.calls]
    insert = [each for each in calls if isinstance(each, InsertInstance)][-1]
    assert (insert.attach_home, insert.home_snapshot) == (True, None)
    forks.world.run()
    fork = forks.recorded(fork)
    assert (fork.status, fork.home_source) == (Status.READY, None)
    assert forks.content(fork) == WORK


DAYS_OF_WORK = "three days of work"


def never_ready(forks: Forks) -> Workspace:
    """Return a fork whose CREATE has failed, and then a START, whose machine has booted."""
    failed = forks.failed()
    forks.world.machines.script_boot(GuestMishap.NEVER_READY)
    return forks.start(failed)


def fails_late(forks: Forks) -> Workspace:
    """Return a fork whose CREATE has failed, and then a START, since its machine said so."""
    failed = forks.failed()
    forks.world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
    return forks.start(failed)


def left_behind(forks: Forks) -> Workspace:
    """Return a fork whose CREATE has failed and could not delete its machine; a look sees that."""
    forks.world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.PERMISSION, times=1000)
    failed = forks.failed()
    forks.world.machines.calm()
    forks.world.pass_time(timedelta(minutes=5))
    forks.world.look(failed)
    return forks.recorded(failed)


_USED = pytest.mark.parametrize("used", [never_ready, fails_late, left_behind])


@_USED
@pytest.mark.parametrize(
    "machine", [NewMachine(rebuild=True), NewMachine(machine_type="e2-standard-8")]
)
def test_what_was_written_to_a_home_on_which_a_machine_has_booted_is_never_replaced(
    forks: Forks, used: Callable[[Forks], Workspace], machine: NewMachine
) -> None:
    """A START that finds no capacity for the new machine leaves the disk where it is."""
    fork = used(forks)
    assert (fork.status, fork.home_source) == (Status.ERROR, None)
    forks.world.machines.write(Place(fork.zone, fork.disk_name), DAYS_OF_WORK)
    forks.world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.STOCK_OUT, zone=fork.zone)
    fork = forks.start(fork, machine)
    assert (fork.status, forks.content(fork)) == (Status.SUSPENDED, DAYS_OF_WORK)
    assert forks.start(fork).status is Status.READY
    assert forks.content(fork) == DAYS_OF_WORK


def test_a_start_that_finds_its_machine_booted_after_all_keeps_the_zone(forks: Forks) -> None:
    """Compute's operation has failed for want of capacity, but somebody has booted the machine."""
    fork = forks.failed()
    at = forks.world.clock()
    operation = replace(
        an_operation(OperationKind.START, Phase.INSERTING),
        deadline_at=at + timedelta(minutes=9),
        phase_since=at,
    )
    step = Step(
        workspace=fork,
        operation=operation,
        inputs=StepInput(fault=fault(FaultKind.STOCK_OUT), instance=an_instance(fork)),
        now=at,
        policy=forks.world.policy,
    )
    decided = plan(step)
    assert isinstance(decided, Updated)
    assert (decided.workspace.zone, decided.workspace.home_source) == (fork.zone, None)
    deleting = replace(operation, phase=Phase.DELETE_DISK, zones_tried=(fork.zone,))
    found = replace(step, operation=deleting, inputs=replace(step.inputs, fault=None))
    decided = plan(replace(found, inputs=replace(found.inputs, disk_exists=True)))
    assert isinstance(decided, Updated)
    assert decided.workspace.operation is not None
    assert decided.workspace.operation.phase is Phase.SURVEY


@_USED
def test_a_used_home_that_is_deleted_by_hand_is_not_replaced_without_a_word(
    forks: Forks, used: Callable[[Forks], Workspace]
) -> None:
    """The sweep says that it is gone, and so does a START."""
    fork = used(forks)
    forks.world.machines.delete_by_hand(place_of(fork))
    forks.world.machines.delete_disk_by_hand(Place(fork.zone, fork.disk_name))
    assert "HomeDiskGone" in forks.world.reconcile_fleet().done
    fork = forks.start(fork)
    assert fork.error is not None
    assert fork.error.code == "HOME_DISK_GONE"
    assert forks.content(fork) is None


@_USED
def test_a_used_home_that_is_moved_by_hand_is_followed(
    forks: Forks, used: Callable[[Forks], Workspace]
) -> None:
    """The machine is made in the zone where the home is now."""
    fork = used(forks)
    forks.world.machines.write(Place(fork.zone, fork.disk_name), DAYS_OF_WORK)
    [elsewhere] = {*ZONES} - {fork.zone}
    forks.world.machines.move_by_hand(place_of(fork), elsewhere)
    forks.world.machines.delete_by_hand(Place(elsewhere, fork.instance_name))
    fork = forks.start(fork)
    assert (fork.status, fork.zone) == (Status.READY, elsewhere)
    assert forks.content(fork) == DAYS_OF_WORK


@_USED
def test_a_used_home_needs_its_source_no_more_and_can_have_snapshots_of_its_own(
    forks: Forks, used: Callable[[Forks], Workspace]
) -> None:
    """Though the workspace was never READY."""
    fork = used(forks)
    forks.world.delete_snapshot("alice", forks.source.id, forks.snapshot.id)
    forks.world.run()
    assert not forks.world.machines.snapshots
    forks.world.snapshot("alice", fork.id)
    forks.world.run(lambda: bool(forks.world.store.snapshots))
    [taken] = forks.world.store.snapshots.values()
    assert (taken.workspace_id, taken.disk_name) == (fork.id, fork.disk_name)


def test_a_workspace_can_be_made_from_a_snapshot_of_a_fork(forks: Forks) -> None:
    """Though neither the first workspace nor its snapshot exists any more."""
    made = forks.fork()
    forks.world.run()
    fork = forks.recorded(made)
    forks.world.machines.write(Place(fork.zone, fork.disk_name), DAYS_OF_WORK)
    forks.world.delete("alice", forks.source.id, purge=True)
    forks.world.run()
    assert not forks.world.store.snapshots
    forks.world.snapshot("alice", fork.id)
    forks.world.run()
    [taken] = forks.world.store.snapshots.values()
    second = forks.world.create("alice", "second", from_snapshot=taken.id)
    forks.world.run()
    assert forks.recorded(second).status is Status.READY
    assert forks.content(second) == DAYS_OF_WORK


def lose(forks: Forks) -> None:
    """Delete the snapshot outside the Hub."""
    forks.lose_snapshot()


def lose_late(forks: Forks) -> None:
    """Delete it outside the Hub just before it is used."""
    forks.world.machines.before_call = forks.lose_snapshot


@pytest.mark.parametrize("lost", [lose, lose_late])
def test_a_fork_of_a_snapshot_that_is_gone_fails_and_says_what_can_be_done(
    forks: Forks, lost: Callable[[Forks], None]
) -> None:
    """A START fails in the same way, until it says that an empty home will do."""
    made = forks.fork()
    lost(forks)
    forks.world.run()
    for fork in (forks.recorded(made), forks.start(made)):
        assert fork.status is Status.ERROR
        assert fork.error is not None
        assert fork.error.code == "SNAPSHOT_GONE"
        assert "Delete the workspace, or start it with empty_home" in fork.error.message
        assert not [each for each in forks.world.machines.disks if made.id in each.name]

    fork = forks.start(made, NewMachine(empty_home=True))
    assert (fork.status, fork.home_source) == (Status.READY, None)
    assert forks.content(fork) not in {None, WORK}
    [noted] = [each for each in forks.world.store.events if each.what == "HomeReplaced"]
    assert forks.snapshot.place.name in noted.result


def test_another_disks_snapshot_of_that_name_is_nobodys_home(forks: Forks) -> None:
    """It has what somebody else has written."""
    bob = forks.world.ready("bob", "secret")
    forks.lose_snapshot()
    home = Place(bob.zone, bob.disk_name)
    forks.world.machines.make_snapshot_by_hand(forks.snapshot.place.name, home, {})
    made = forks.fork()
    forks.world.run()
    fork = forks.recorded(made)
    assert fork.error is not None
    assert fork.error.code == "SNAPSHOT_GONE"
    assert forks.content(fork) is None


def test_a_disk_that_somebody_has_made_under_the_homes_name_is_no_home_and_stays(
    forks: Forks,
) -> None:
    """A fork takes only the snapshot, and its clean-up deletes only what it has made."""
    made = forks.fork()
    home = Place(made.zone, made.disk_name)
    forks.world.machines.make_disk_by_hand(home, {})
    forks.world.machines.write(home, "somebody else's")
    forks.world.run()
    fork = forks.recorded(made)
    assert fork.error is not None
    assert (fork.status, fork.error.code) == (Status.ERROR, "COMPUTE_NAME_TAKEN")
    assert forks.content(fork) == "somebody else's"
    forks.world.machines.delete_disk_by_hand(home)
    assert forks.start(fork).status is Status.READY
    assert forks.content(fork) == WORK


def test_an_empty_home_is_not_taken_while_the_snapshot_is_there(forks: Forks) -> None:
    """The person agrees to one only if there is no other."""
    fork = forks.start(forks.failed(), NewMachine(empty_home=True))
    assert forks.content(fork) == WORK


def test_a_snapshot_that_compute_does_not_answer_about_is_not_taken_for_gone(forks: Forks) -> None:
    """The job comes again."""
    made = forks.fork()
    for command in (InsertInstance,):
        forks.world.machines.script(command, Mishap.UNANSWERED, times=3)
    forks.world.machines.unanswered_reads = 3
    forks.world.run()
    assert forks.content(made) == WORK


def test_another_missing_resource_fails_a_fork_as_any_other_workspace(forks: Forks) -> None:
    """Such as a network that does not exist."""
    forks.world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.NOT_FOUND)
    made = forks.fork()
    forks.world.run()
    error = forks.recorded(made).error
    assert error is not None
    assert error.code == "COMPUTE_REFUSED"
    assert fault(FaultKind.NOT_FOUND).message in error.message


def test_a_fork_that_was_never_ready_is_deleted_and_its_source_stays(forks: Forks) -> None:
    """Whether its CREATE is under way or has failed."""
    under_way = forks.fork()
    forks.world.delete("alice", under_way.id)
    forks.world.run()
    failed = forks.failed()
    forks.world.delete("alice", failed.id)
    forks.world.run()
    assert list(forks.world.store.workspaces) == [forks.source.id]
    assert list(forks.world.machines.snapshots) == [forks.snapshot.place.name]
    assert {each.name for each in forks.world.machines.disks} == {forks.source.disk_name}


def test_a_fork_and_whoever_changes_its_snapshot_do_not_pass_each_other(forks: Forks) -> None:
    """A deletion that was decided before the fork is refused, and so is the other way round."""
    world, store = forks.world, forks.world.store
    before = store.get_snapshot(forks.snapshot.id)
    assert before is not None
    world.clock.advance(timedelta(seconds=1))
    forks.fork()
    deleting = replace(before.record, state=SnapshotState.DELETING)
    with pytest.raises(HubError):
        store.commit(snapshots=[(before, deleting)])

    read = store.get_snapshot

    def overtake(snapshot_id: str) -> object:
        found = read(snapshot_id)
        store.put_snapshots(replace(forks.snapshot, state=SnapshotState.DELETING))
        return found

    world.store.get_snapshot = overtake  # type: ignore[method-assign,assignment]
    with pytest.raises(SnapshotNotFoundError), requested_as("overtaken"):
        world.create("alice", "another", from_snapshot=forks.snapshot.id)


def test_a_snapshot_of_a_workspace_that_does_not_exist_is_not_found(forks: Forks) -> None:
    """It is about to be gone: a version that knows no snapshots has forgotten the workspace."""
    stored = forks.world.store.get(forks.source.id)
    forks.world.store.commit(workspaces=[(stored, None)])
    with pytest.raises(SnapshotNotFoundError):
        forks.fork()


@pytest.mark.parametrize("ends", ["it is deleted", "it is READY"])
def test_a_deletion_that_waits_for_a_fork_is_seldom_tried_and_ends_with_the_fork(
    forks: Forks, ends: str
) -> None:
    """Each try costs a query. The fork's last commit has the snapshot attended to."""
    world = forks.world
    fork = forks.failed()
    world.delete("alice", forks.source.id, purge=True)
    world.run(lambda: forks.source.id not in world.store.workspaces)
    world.pass_time(timedelta(hours=6))
    step = world.store.snapshots[forks.snapshot.id].step
    world.pass_time(timedelta(hours=6))
    assert 5 <= world.store.snapshots[forks.snapshot.id].step - step <= 7
    if ends == "it is READY":
        world.start("alice", fork.id)
    else:
        world.delete("alice", fork.id, purge=True)
    world.pass_time(timedelta(minutes=10))
    assert (dict(world.store.snapshots), world.machines.snapshots) == ({}, {})
