"""What the observed machine means for its record, in every state of Compute and if it is gone."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.drift import adopt_observed, has_drifted, observe
from shared.domain.instance import Instance, InstanceState
from shared.domain.workspace import Activity, HomeDisk, OperationKind, Status, Workspace
from tests.fakes.records import A_PROBLEM, NOW, POLICY, a_workspace, an_instance, an_operation

CHANGING = [
    InstanceState.PROVISIONING,
    InstanceState.STAGING,
    InstanceState.REPAIRING,
    InstanceState.SUSPENDING,
    InstanceState.PENDING_STOP,
    InstanceState.STOPPING,
]
SETTLED = [InstanceState.RUNNING, InstanceState.SUSPENDED, InstanceState.TERMINATED, None]
RECORDED = [Status.READY, Status.SUSPENDED, Status.ERROR]


def seen(workspace: Workspace, state: InstanceState | None) -> Instance | None:
    """Return the workspace's machine in this state, or None for no machine."""
    return None if state is None else an_instance(workspace, state)


def test_the_tables_cover_every_state() -> None:
    """The tables below cover every state of Compute."""
    assert {*CHANGING, *SETTLED} == {*InstanceState, None}


@pytest.mark.parametrize("state", CHANGING)
@pytest.mark.parametrize("status", RECORDED)
def test_a_machine_that_is_changing_state_does_not_change_the_record(
    status: Status, state: InstanceState
) -> None:
    """The record keeps its status, and a worker looks again."""
    workspace = a_workspace(status)

    observation = observe(workspace, seen(workspace, state), NOW)

    assert (observation.status, observation.machine_running) == (status, workspace.machine_running)
    assert (observation.settled, observation.problem) == (False, workspace.error)


# status, memory is ready, observed: status, the machine runs, error code
MEANINGS = [
    (Status.READY, True, InstanceState.RUNNING, (Status.READY, True, None)),
    (Status.READY, True, InstanceState.SUSPENDED, (Status.SUSPENDED, False, None)),
    (Status.READY, True, InstanceState.TERMINATED, (Status.SUSPENDED, False, "MACHINE_STOPPED")),
    (Status.READY, True, None, (Status.ERROR, False, "MACHINE_GONE")),
    (Status.SUSPENDED, True, InstanceState.RUNNING, (Status.READY, True, None)),
    (Status.SUSPENDED, True, InstanceState.SUSPENDED, (Status.SUSPENDED, False, None)),
    (Status.SUSPENDED, True, InstanceState.TERMINATED, (Status.SUSPENDED, False, None)),
    (Status.SUSPENDED, True, None, (Status.ERROR, False, "MACHINE_GONE")),
    (Status.SUSPENDED, False, InstanceState.RUNNING, (Status.ERROR, True, "MACHINE_NOT_READY")),
    (Status.SUSPENDED, False, InstanceState.SUSPENDED, (Status.SUSPENDED, False, None)),
    (Status.SUSPENDED, False, InstanceState.TERMINATED, (Status.SUSPENDED, False, None)),
    (Status.SUSPENDED, False, None, (Status.ERROR, False, "MACHINE_GONE")),
    (Status.ERROR, True, InstanceState.RUNNING, (Status.ERROR, True, "SOMETHING")),
    (Status.ERROR, False, InstanceState.RUNNING, (Status.ERROR, True, "SOMETHING")),
    (Status.ERROR, False, InstanceState.SUSPENDED, (Status.ERROR, False, "SOMETHING")),
    (Status.ERROR, False, InstanceState.TERMINATED, (Status.ERROR, False, "SOMETHING")),
    (Status.ERROR, False, None, (Status.ERROR, False, "SOMETHING")),
]


@pytest.mark.parametrize(("recorded", "memory_is_ready", "state", "expected"), MEANINGS)
def test_a_settled_machine_decides_the_record(
    recorded: Status,
    memory_is_ready: bool,
    state: InstanceState | None,
    expected: tuple[Status, bool, str | None],
) -> None:
    """The table of ``observe``, row by row; an error says what to do."""
    status, running, code = expected
    workspace = a_workspace(recorded)
    workspace = replace(
        workspace, ready_generation=workspace.generation if memory_is_ready else None
    )

    observation = observe(workspace, seen(workspace, state), NOW)

    assert (observation.status, observation.machine_running, observation.settled) == (
        status,
        running,
        True,
    )
    assert (observation.problem.code if observation.problem else None) == code
    if observation.problem and code != "SOMETHING":
        assert "Start the workspace" in observation.problem.message


def test_a_workspace_that_waits_for_capacity_has_not_drifted() -> None:
    """A START without capacity leaves a home disk and no machine; nobody deleted anything."""
    workspace = a_workspace(
        Status.SUSPENDED, instance_id=None, ready_generation=None, error=A_PROBLEM
    )

    observation = observe(workspace, None, NOW)

    assert (observation.status, observation.settled, observation.problem) == (
        Status.SUSPENDED,
        True,
        A_PROBLEM,
    )
    assert not has_drifted(workspace, None, NOW)


@pytest.mark.parametrize("state", [*InstanceState, None])
@pytest.mark.parametrize("status", RECORDED)
def test_adopting_a_settled_machine_ends_the_drift(
    status: Status, state: InstanceState | None
) -> None:
    """After ``adopt_observed`` the record agrees with a settled machine; no change if it did."""
    workspace = a_workspace(status)
    instance = seen(workspace, state)

    change = adopt_observed(workspace, instance, NOW, POLICY)

    if change is None:
        assert not has_drifted(workspace, instance, NOW)
        return
    after = change.workspace
    assert after is not None
    assert change.job is None
    assert after.operation is None
    if state in CHANGING:
        assert (after.status, after.attend_at) == (status, NOW + POLICY.attend_after)
        assert adopt_observed(after, instance, NOW, POLICY) is None
    else:
        assert not has_drifted(after, instance, NOW)
        assert after.attend_at is None
        assert (after.suspended_at is not None) is (after.status is Status.SUSPENDED)


@pytest.mark.parametrize("kind", OperationKind)
@pytest.mark.parametrize("state", [*InstanceState, None])
def test_drift_is_not_checked_during_an_operation(
    kind: OperationKind, state: InstanceState | None
) -> None:
    """During an operation nothing counts as drift, and nothing is adopted."""
    workspace = a_workspace(Status.READY, an_operation(kind))

    assert not has_drifted(workspace, seen(workspace, state), NOW)
    assert adopt_observed(workspace, seen(workspace, state), NOW, POLICY) is None


def test_a_machine_that_somebody_resumed_counts_as_connected_now() -> None:
    """The clean-up gives it the whole idle time."""
    workspace = a_workspace(Status.SUSPENDED, last_connected_at=NOW - timedelta(days=9))

    change = adopt_observed(workspace, an_instance(workspace), NOW, POLICY)

    assert change is not None
    assert change.workspace is not None
    assert (change.workspace.last_connected_at, change.workspace.last_activity) == (
        NOW,
        Activity.STARTED,
    )


def test_a_machine_that_was_shut_down_must_boot_at_its_next_start() -> None:
    """Its memory is lost, so the report of its earlier boot no longer counts."""
    workspace = a_workspace(Status.READY)

    change = adopt_observed(
        workspace, an_instance(workspace, InstanceState.TERMINATED), NOW, POLICY
    )

    assert change is not None
    assert change.workspace is not None
    assert change.workspace.ready_generation is None
    assert change.workspace.suspended_at == NOW


def test_memory_that_was_lost_outside_the_hub_is_reported_once() -> None:
    """The record and the trail say once what was done, and only if there was memory to lose."""
    workspace = a_workspace(Status.SUSPENDED, memory_kept=True)
    for state, done in ((InstanceState.TERMINATED, "shut down"), (None, "deleted")):
        change = adopt_observed(workspace, seen(workspace, state), NOW, POLICY)
        assert change is not None
        assert change.workspace is not None
        assert (change.workspace.memory_kept, change.workspace.memory_is_ready) == (False, False)
        assert done in (change.workspace.memory_lost_because or "")
        assert [note.what for note in change.notes] == ["MemoryLost"]
        again = adopt_observed(change.workspace, seen(workspace, state), NOW, POLICY)
        assert again is None or again.notes == ()


def test_changes_of_the_machine_are_recorded() -> None:
    """Type, interval and id are adopted; a record that wants a new machine adopts nothing."""
    workspace = a_workspace(Status.READY)
    changed = an_instance(
        workspace, machine_type="n2-standard-8", heartbeat_interval=timedelta(seconds=1000)
    )
    replaced = an_instance(workspace, id="another")
    unwanted = replace(workspace, status=Status.ERROR, error=A_PROBLEM, instance_id=None)

    as_is = adopt_observed(workspace, changed, NOW, POLICY)
    remade = adopt_observed(workspace, replaced, NOW, POLICY)

    assert as_is is not None
    assert as_is.workspace is not None
    assert (as_is.workspace.machine_type, as_is.workspace.heartbeat_seconds) == (
        "n2-standard-8",
        1000,
    )
    assert [note.what for note in as_is.notes] == ["MachineTypeFollowed"]
    assert remade is not None
    assert remade.workspace is not None
    assert (remade.workspace.instance_id, remade.workspace.status) == ("another", Status.ERROR)
    assert not has_drifted(unwanted, changed, NOW)


def test_a_machine_in_another_zone_is_adopted_if_it_is_the_only_one() -> None:
    """An attached home disk moves with it; with several machines the record says it is gone."""
    workspace = a_workspace(Status.READY)
    there = an_instance(
        workspace, id="there", zone="us-west1-b", disks=("boot", workspace.disk_name)
    )
    further = replace(there, zone="us-west1-c")

    moved = adopt_observed(workspace, None, NOW, POLICY, [there])
    several = adopt_observed(workspace, None, NOW, POLICY, [there, further])

    assert moved is not None
    assert moved.workspace is not None
    assert moved.workspace.home_disk is not None
    assert (moved.workspace.zone, moved.workspace.home_disk.zone) == ("us-west1-b", "us-west1-b")
    assert (moved.workspace.instance_id, moved.workspace.machine_running) == ("there", True)
    assert several is not None
    assert several.workspace is not None
    assert (several.workspace.zone, several.workspace.error and several.workspace.error.code) == (
        workspace.zone,
        "MACHINE_GONE",
    )


def test_the_home_disk_of_a_workspace_found_ready_is_recorded() -> None:
    """The home disk is protected as after any boot, since somebody may work from now on."""
    workspace = a_workspace(Status.SUSPENDED, home_disk=None)

    change = adopt_observed(workspace, seen(workspace, InstanceState.RUNNING), NOW, POLICY)

    assert change is not None
    assert change.workspace is not None
    assert (change.workspace.status, change.workspace.home_disk) == (
        Status.READY,
        HomeDisk(workspace.disk_name, workspace.zone),
    )


def test_the_lost_memory_of_a_moved_or_replaced_machine_is_reported() -> None:
    """Such a machine has booted without the Hub, in its zone or in another."""
    workspace = a_workspace(Status.SUSPENDED)
    moved = adopt_observed(
        workspace, None, NOW, POLICY, [an_instance(workspace, id="there", zone="us-west1-b")]
    )
    replaced = adopt_observed(workspace, an_instance(workspace, id="another"), NOW, POLICY)
    for change in (moved, replaced):
        assert change is not None
        assert change.workspace is not None
        assert (change.workspace.memory_kept, change.workspace.memory_is_ready) == (False, False)
        assert [note.what for note in change.notes] == ["MachineFollowed", "MemoryLost"]
