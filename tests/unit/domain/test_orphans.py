"""What the reconciler does about machines and disks that no record knows."""

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
from shared.domain.ownership import disks_of, labels_of, named_id, tied_to, workspace_id_of
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
        id="1",
        name=PLACE.name,
        zone=PLACE.zone,
        state=state,
        machine_type="e2",
        labels={"workspace": GONE},
        created_at=created_at,
        off_since=off_since,
    )


def a_disk(
    *, created_at: datetime = OLD, in_use: bool = False, detached_at: datetime | None = None
) -> Disk:
    """Return a disk that no record knows."""
    return Disk(
        name=f"home-{GONE}",
        zone=PLACE.zone,
        labels={"workspace": GONE},
        created_at=created_at,
        size_gb=50,
        users=("a-machine",) if in_use else (),
        detached_at=detached_at,
    )


def test_a_running_orphan_is_stopped() -> None:
    """It costs most, and nobody can reach it through the Hub; its disks stay."""
    act = act_on_machine(a_machine(InstanceState.RUNNING), NOW, POLICY)
    assert act is not None
    assert (act.event, act.command, act.ends_access) == ("OrphanStopped", StopInstance(PLACE), True)


@pytest.mark.parametrize("state", [InstanceState.TERMINATED, InstanceState.SUSPENDED])
@pytest.mark.parametrize(
    ("off_for", "event"), [(GRACE, "OrphanDeleted"), (GRACE - timedelta(seconds=1), "OrphanFound")]
)
def test_an_orphan_that_is_off_is_deleted_after_the_grace_time(
    state: InstanceState, off_for: timedelta, event: str
) -> None:
    """Until then it is only reported."""
    act = act_on_machine(a_machine(state, off_since=NOW - off_for), NOW, POLICY)
    assert act is not None
    assert act.event == event
    assert act.command == (DeleteInstance(PLACE) if event == "OrphanDeleted" else None)
    assert act.ends_access is (event == "OrphanFound")


@pytest.mark.parametrize(
    "state",
    sorted(
        set(InstanceState)
        - {InstanceState.RUNNING, InstanceState.TERMINATED, InstanceState.SUSPENDED}
    ),
)
def test_an_orphan_that_is_changing_state_is_left_alone(state: InstanceState) -> None:
    """It is only reported."""
    act = act_on_machine(a_machine(state), NOW, POLICY)
    assert act is not None
    assert act.command is None


@pytest.mark.parametrize("created_at", [NOW - timedelta(minutes=59), NOW, None])
def test_a_new_orphan_is_not_reported(created_at: datetime | None) -> None:
    """An insert may be about to record it."""
    assert (
        act_on_machine(a_machine(InstanceState.RUNNING, created_at=created_at), NOW, POLICY) is None
    )
    if created_at:
        assert act_on_disk(a_disk(created_at=created_at), NOW, POLICY) is None


def test_a_disk_without_a_machine_for_the_grace_time_is_deleted() -> None:
    """The time counts from detaching or creation; an attached disk goes with its machine."""
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


def test_a_resource_that_the_hub_did_not_name_is_only_reported() -> None:
    """It has the Hub's label but may be a backup, so somebody has to decide."""
    machine = replace(a_machine(InstanceState.RUNNING), name="somebodys")
    disk = replace(a_disk(), name=f"home-{GONE}-backup")
    acts = [act_on_machine(machine, NOW, POLICY), act_on_disk(disk, NOW, POLICY)]
    assert [act and (act.event, act.command) for act in acts] == [
        ("OrphanFound", None),
        ("OrphanDiskFound", None),
    ]


def test_name_label_user_and_attachment_tie_a_resource_to_a_workspace() -> None:
    """Each of them is enough; if name and label disagree, the name decides."""
    workspace, other = a_workspace(), a_workspace()
    named = an_instance(workspace, labels={})
    labelled = an_instance(workspace, name="renamed")
    attached = an_instance(workspace, name="a-copy", labels={}, disks=("boot", workspace.disk_name))
    mislabelled = a_home(workspace, labels={"workspace": other.id})
    used = a_home(workspace, name="a-disk", labels={}, users=(f"{workspace.instance_name}-2",))

    assert [tied_to(each) for each in (named, labelled, attached, used)] == [{workspace.id}] * 4
    assert tied_to(mislabelled) == {workspace.id, other.id}
    assert workspace_id_of(mislabelled) == workspace.id
    assert disks_of(other.id, [mislabelled]) == []
    backup = a_home(workspace, name=f"{workspace.disk_name}-backup")
    assert tied_to(backup) == {workspace.id}
    assert disks_of(workspace.id, [mislabelled, backup, used]) == [mislabelled]


@pytest.mark.parametrize(
    "name",
    ["home-{}", "home-{}-3", "workspace-{}", "workspace-{}-17"],
)
def test_the_hubs_names_are_recognised_with_and_without_a_generation(name: str) -> None:
    """A name that only contains an id is not the Hub's."""
    workspace_id = a_workspace().id
    assert named_id(name.format(workspace_id)) == workspace_id
    assert named_id("my-" + name.format(workspace_id)) is None
    assert named_id(name.format(workspace_id[:-1])) is None


def test_a_workspaces_resources_are_at_most_relabelled_or_reported() -> None:
    """Lost labels are restored; one in another zone is reported unless an operation runs."""
    workspace = a_workspace()
    moving = replace(workspace, operation=an_operation(OperationKind.CREATE))
    lost, there = an_instance(workspace, labels={}), an_instance(workspace, zone="us-west1-b")

    acts = [
        act_on_owned(workspace, resource)
        for resource in (lost, a_home(workspace, labels={}), there, an_instance(workspace))
    ]

    assert [act and (act.event, act.command) for act in acts] == [
        (
            "LabelsRestored",
            LabelInstance(
                place=Place(lost.zone, lost.name), workspace_id=workspace.id, owner_id="alice"
            ),
        ),
        (
            "LabelsRestored",
            LabelDisk(
                place=Place(lost.zone, workspace.disk_name),
                workspace_id=workspace.id,
                owner_id="alice",
            ),
        ),
        ("ResourceElsewhere", None),
        None,
    ]
    assert act_on_owned(moving, there) is None
    assert act_on_owned(workspace, a_home(workspace, zone="us-west1-b")) is not None


@pytest.mark.parametrize("name", ["workspace", "owner", "managed-by"])
def test_each_missing_label_is_restored(name: str) -> None:
    """Another workspace's label counts as lost, another owner's does not; ``hub`` is the filter."""
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
def test_more_orphans_than_five_and_a_tenth_are_too_many(
    orphans: int, resources: int, expected: bool
) -> None:
    """Resources that are only reported do not count."""
    doing = OrphanAction(
        place=PLACE,
        workspace_id="gone",
        event="OrphanStopped",
        reason="",
        command=StopInstance(PLACE),
    )
    assert (
        too_many(
            [doing] * orphans
            + [OrphanAction(place=PLACE, workspace_id="gone", event="OrphanFound", reason="")] * 50,
            resources,
        )
        is expected
    )
