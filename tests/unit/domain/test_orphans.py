"""What is done about machines and disks that no record knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.instance import DeleteDisk, DeleteInstance, Disk, Instance, InstanceState, Place, StopInstance
from shared.domain.orphans import Act, act_on_disk, act_on_machine, owns_disk, owns_machine, too_many
from shared.domain.policy import Policy
from shared.domain.workspace import HomeDisk, OperationKind
from tests.fakes.records import a_workspace, an_operation

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
POLICY = Policy()
OLD = NOW - timedelta(days=30)
PLACE = Place("us-west1-a", "workspace-1")
GRACE = POLICY.orphan_grace


def a_machine(
    state: InstanceState, *, created_at: datetime | None = OLD, off_since: datetime | None = None
) -> Instance:
    """Return a machine that no record knows."""
    return Instance("1", PLACE.name, PLACE.zone, state, "e2", "gone", created_at=created_at, off_since=off_since)


def a_disk(*, created_at: datetime = OLD, in_use: bool = False, detached_at: datetime | None = None) -> Disk:
    """Return a disk that no record knows."""
    return Disk("home-1", PLACE.zone, "gone", created_at, in_use, detached_at)


def test_one_that_runs_is_stopped() -> None:
    """It costs most, and nobody can reach it through the Hub; what is in it stays."""
    act = act_on_machine(a_machine(InstanceState.RUNNING), NOW, POLICY)
    assert act is not None
    assert (act.event, act.command) == ("OrphanStopped", StopInstance(PLACE))


@pytest.mark.parametrize("state", [InstanceState.TERMINATED, InstanceState.SUSPENDED])
@pytest.mark.parametrize(
    ("off_for", "event"), [(GRACE, "OrphanDeleted"), (GRACE - timedelta(seconds=1), "OrphanFound")]
)
def test_one_that_is_off_is_deleted_after_the_grace_time(state: InstanceState, off_for: timedelta, event: str) -> None:
    """Until then it is only reported."""
    act = act_on_machine(a_machine(state, off_since=NOW - off_for), NOW, POLICY)
    assert act is not None
    assert act.event == event
    assert act.command == (DeleteInstance(PLACE) if event == "OrphanDeleted" else None)


@pytest.mark.parametrize(
    "state", sorted(set(InstanceState) - {InstanceState.RUNNING, InstanceState.TERMINATED, InstanceState.SUSPENDED})
)
def test_one_that_is_on_its_way_is_left_alone(state: InstanceState) -> None:
    """It is reported."""
    act = act_on_machine(a_machine(state), NOW, POLICY)
    assert act is not None
    assert act.command is None


@pytest.mark.parametrize("created_at", [NOW - timedelta(minutes=59), NOW, None])
def test_a_young_one_is_not_even_reported(created_at: datetime | None) -> None:
    """An insert may still be about to own it."""
    assert act_on_machine(a_machine(InstanceState.RUNNING, created_at=created_at), NOW, POLICY) is None
    if created_at:
        assert act_on_disk(a_disk(created_at=created_at), NOW, POLICY) is None


def test_a_disk_goes_when_no_machine_had_it_for_the_grace_time() -> None:
    """Since it was detached, or made; one that a machine has goes with the machine."""
    deleted = DeleteDisk(Place(PLACE.zone, "home-1"))
    cases = {
        "never attached": (a_disk(), deleted),
        "detached long ago": (a_disk(detached_at=NOW - GRACE), deleted),
        "detached lately": (a_disk(detached_at=NOW - GRACE + timedelta(seconds=1)), None),
    }
    for disk, command in cases.values():
        act = act_on_disk(disk, NOW, POLICY)
        assert act is not None
        assert act.command == command
    assert act_on_disk(a_disk(in_use=True), NOW, POLICY) is None


def test_a_record_accounts_for_what_is_where_it_says() -> None:
    """A machine or disk of the same name in another zone is an orphan, unless an operation is moving the workspace."""
    workspace = a_workspace(zone=PLACE.zone, home_disk=HomeDisk("home-1", PLACE.zone))
    moving = a_workspace(zone="us-west1-b", operation=an_operation(OperationKind.CREATE))
    here = Instance("1", workspace.instance_name, PLACE.zone, InstanceState.RUNNING, "e2", workspace.id)
    there = Instance("1", workspace.instance_name, "us-west1-b", InstanceState.RUNNING, "e2", workspace.id)
    assert owns_machine(workspace, here)
    assert not owns_machine(workspace, there)
    assert owns_machine(moving, here)
    assert not owns_machine(None, here)
    assert owns_disk(workspace, a_disk())
    assert not owns_disk(a_workspace(zone="us-west1-b", home_disk=None), a_disk())
    assert owns_disk(moving, a_disk())
    assert not owns_disk(None, a_disk())


@pytest.mark.parametrize(
    ("orphans", "resources", "expected"),
    [(5, 10, False), (6, 10, True), (10, 100, False), (11, 100, True), (0, 0, False)],
)
def test_more_than_five_and_a_tenth_are_too_many_to_be_true(orphans: int, resources: int, expected: bool) -> None:
    """What is only reported does not count."""
    doing = Act(PLACE, "gone", "OrphanStopped", "", StopInstance(PLACE))
    assert too_many([doing] * orphans + [Act(PLACE, "gone", "OrphanFound", "")] * 50, resources) is expected
