"""What is done about machines and disks that no record knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.instance import (
    DeleteDisk,
    DeleteInstance,
    Disk,
    Instance,
    InstanceState,
    LabelDisk,
    LabelInstance,
    Place,
    StopInstance,
)
from shared.domain.orphans import OrphanAction, act_on_disk, act_on_machine, act_on_owned, too_many
from shared.domain.ownership import disks_of, labels_of, named_id, owner_id_of, tied_to
from shared.domain.policy import Policy
from shared.domain.workspace import OperationKind
from tests.fakes.records import a_home, a_workspace, an_instance, an_operation

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
POLICY = Policy()
OLD = NOW - timedelta(days=30)
GONE = "00000000-0000-4000-8000-000000000000"
PLACE = Place("us-west1-a", f"workspace-{GONE}")
GRACE = POLICY.orphan_grace


def a_machine(
    state: InstanceState, *, created_at: datetime | None = OLD, off_since: datetime | None = None
) -> Instance:
    """Return a machine that no record knows."""
    return Instance(
        "1",
        PLACE.name,
        PLACE.zone,
        state,
        "e2",
        {"workspace": GONE},
        created_at=created_at,
        off_since=off_since,
    )


def a_disk(
    *, created_at: datetime = OLD, in_use: bool = False, detached_at: datetime | None = None
) -> Disk:
    """Return a disk that no record knows."""
    return Disk(
        f"home-{GONE}",
        PLACE.zone,
        {"workspace": GONE},
        created_at,
        ("a-machine",) if in_use else (),
        detached_at,
    )


def test_one_that_runs_is_stopped() -> None:
    """It costs most, and nobody can reach it through the Hub; what is in it stays."""
    act = act_on_machine(a_machine(InstanceState.RUNNING), NOW, POLICY)
    assert act is not None
    assert (act.event, act.command) == ("OrphanStopped", StopInstance(PLACE))


@pytest.mark.parametrize("state", [InstanceState.TERMINATED, InstanceState.SUSPENDED])
@pytest.mark.parametrize(
    ("off_for", "event"), [(GRACE, "OrphanDeleted"), (GRACE - timedelta(seconds=1), "OrphanFound")]
)
def test_one_that_is_off_is_deleted_after_the_grace_time(
    state: InstanceState, off_for: timedelta, event: str
) -> None:
    """Until then it is only reported."""
    act = act_on_machine(a_machine(state, off_since=NOW - off_for), NOW, POLICY)
    assert act is not None
    assert act.event == event
    assert act.command == (DeleteInstance(PLACE) if event == "OrphanDeleted" else None)


@pytest.mark.parametrize(
    "state",
    sorted(
        set(InstanceState)
        - {InstanceState.RUNNING, InstanceState.TERMINATED, InstanceState.SUSPENDED}
    ),
)
def test_one_that_is_on_its_way_is_left_alone(state: InstanceState) -> None:
    """It is reported."""
    act = act_on_machine(a_machine(state), NOW, POLICY)
    assert act is not None
    assert act.command is None


@pytest.mark.parametrize("created_at", [NOW - timedelta(minutes=59), NOW, None])
def test_a_young_one_is_not_even_reported(created_at: datetime | None) -> None:
    """An insert may still be about to own it."""
    assert (
        act_on_machine(a_machine(InstanceState.RUNNING, created_at=created_at), NOW, POLICY) is None
    )
    if created_at:
        assert act_on_disk(a_disk(created_at=created_at), NOW, POLICY) is None


def test_a_disk_goes_when_no_machine_had_it_for_the_grace_time() -> None:
    """Since it was detached, or made; one that a machine has goes with the machine."""
    deleted = DeleteDisk(Place(PLACE.zone, f"home-{GONE}"))
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


def test_what_the_hub_did_not_name_is_reported_and_stays() -> None:
    """It carries our label, so somebody has to look; it may be a backup."""
    machine = replace(a_machine(InstanceState.RUNNING), name="somebodys")
    disk = replace(a_disk(), name=f"home-{GONE}-backup")
    acts = [act_on_machine(machine, NOW, POLICY), act_on_disk(disk, NOW, POLICY)]
    assert [act and (act.event, act.command) for act in acts] == [
        ("OrphanFound", None),
        ("OrphanDiskFound", None),
    ]


def test_name_label_user_and_attachment_tie_a_resource_to_a_workspace() -> None:
    """Any of them alone; the name says whose part it is, whatever the label says."""
    workspace, other = a_workspace(), a_workspace()
    named = an_instance(workspace, labels={})
    labelled = an_instance(workspace, name="renamed")
    attached = an_instance(workspace, name="a-copy", labels={}, disks=("boot", workspace.disk_name))
    mislabelled = a_home(workspace, labels={"workspace": other.id})
    used = a_home(workspace, name="a-disk", labels={}, users=(f"{workspace.instance_name}-2",))

    assert [tied_to(each) for each in (named, labelled, attached, used)] == [{workspace.id}] * 4
    assert tied_to(mislabelled) == {workspace.id, other.id}
    assert owner_id_of(mislabelled) == workspace.id
    assert disks_of(other.id, [mislabelled]) == []
    backup = a_home(workspace, name=f"{workspace.disk_name}-backup")
    assert tied_to(backup) == {workspace.id}
    assert disks_of(workspace.id, [mislabelled, backup, used]) == [mislabelled]


@pytest.mark.parametrize(
    "name",
    ["home-{}", "home-{}-3", "workspace-{}", "workspace-{}-17"],
)
def test_names_of_ours_are_known_with_and_without_a_generation(name: str) -> None:
    """And no others: a name that only has an id in it is not ours."""
    workspace_id = a_workspace().id
    assert named_id(name.format(workspace_id)) == workspace_id
    assert named_id("my-" + name.format(workspace_id)) is None
    assert named_id(name.format(workspace_id[:-1])) is None


def test_what_a_live_record_owns_is_relabelled_or_reported_and_never_touched() -> None:
    """Lost labels are put back; what is in another zone is reported, unless an operation is moving the workspace."""
    workspace = a_workspace()
    moving = replace(workspace, operation=an_operation(OperationKind.CREATE))
    lost, there = an_instance(workspace, labels={}), an_instance(workspace, zone="us-west1-b")

    acts = [
        act_on_owned(workspace, resource)
        for resource in (lost, a_home(workspace, labels={}), there, an_instance(workspace))
    ]

    assert [act and (act.event, act.command) for act in acts] == [
        ("LabelsRestored", LabelInstance(Place(lost.zone, lost.name), workspace.id, "alice")),
        ("LabelsRestored", LabelDisk(Place(lost.zone, workspace.disk_name), workspace.id, "alice")),
        ("ResourceElsewhere", None),
        None,
    ]
    assert act_on_owned(moving, there) is None
    assert act_on_owned(workspace, a_home(workspace, zone="us-west1-b")) is not None


@pytest.mark.parametrize("name", ["workspace", "owner", "managed-by"])
def test_each_label_of_ours_is_missed(name: str) -> None:
    """The label `hub` is what a list is asked for. One that says another workspace is lost; another word for the owner is not."""
    workspace = a_workspace()
    labels = labels_of(workspace.id, workspace.owner_id)
    without = {key: value for key, value in labels.items() if key != name}
    act = act_on_owned(workspace, a_home(workspace, labels=without))
    assert act is not None
    assert act.event == "LabelsRestored"
    other = act_on_owned(
        workspace, an_instance(workspace, labels={**labels, name: "another", "theirs": "too"})
    )
    assert (other is None) is (name != "workspace")


@pytest.mark.parametrize(
    ("orphans", "resources", "expected"),
    [(5, 10, False), (6, 10, True), (10, 100, False), (11, 100, True), (0, 0, False)],
)
def test_more_than_five_and_a_tenth_are_too_many_to_be_true(
    orphans: int, resources: int, expected: bool
) -> None:
    """What is only reported does not count."""
    doing = OrphanAction(PLACE, "gone", "OrphanStopped", "", StopInstance(PLACE))
    assert (
        too_many(
            [doing] * orphans + [OrphanAction(PLACE, "gone", "OrphanFound", "")] * 50, resources
        )
        is expected
    )
