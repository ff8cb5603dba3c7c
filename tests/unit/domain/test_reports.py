"""What a machine's report does, by what is under way and by which boot it is from."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain import lifecycle
from shared.domain.changes import Change
from shared.domain.errors import InstanceNotRecordedError, NotAllowedError, ReportNotTakenError
from shared.domain.idleness import HeartbeatReason
from shared.domain.lifecycle import ReportEvent
from shared.domain.workspace import Activity, HomeDisk, OperationKind, Phase, Status, Workspace
from tests.fakes.records import A_PROBLEM, NOW, POLICY, a_report, a_workspace, an_operation

BOOTING = {Phase.AWAIT_METADATA, Phase.START, Phase.STARTING, Phase.INSERT, Phase.INSERTING, Phase.AWAIT_READY}
BOOTS = [(OperationKind.CREATE, phase) for phase in (Phase.INSERTING, Phase.AWAIT_READY)] + [
    (OperationKind.START, phase) for phase in sorted(BOOTING)
]
KEEPING_MEMORY = {
    *(Phase.SUSPEND, Phase.AWAIT_SUSPENDED, Phase.STOP, Phase.AWAIT_STOPPED),
    *(Phase.SURVEY, Phase.RESUME, Phase.AWAIT_RUNNING),
}
NOT_BOOTS = [
    (kind, phase)
    for kind, phases in {
        OperationKind.START: sorted(set(Phase) - BOOTING),
        OperationKind.STOP: [Phase.SUSPEND, Phase.AWAIT_SUSPENDED, Phase.STOP, Phase.AWAIT_STOPPED],
        OperationKind.DELETE: [Phase.DELETE_INSTANCE, Phase.AWAIT_ABSENT, Phase.FORGET],
    }.items()
    for phase in phases
]


def booting(kind: OperationKind, phase: Phase) -> Workspace:
    """Return a workspace whose machine boots for the first time."""
    return a_workspace(Status.PROVISIONING, an_operation(kind, phase))


def receive(workspace: Workspace, event: ReportEvent, **changes: object) -> Change | None:
    """Take a report of the workspace's machine."""
    return lifecycle.receive(workspace, a_report(workspace, event, **changes), NOW, POLICY)


def changed(change: Change | None) -> Workspace:
    """Return the workspace of a change that must be one."""
    assert change is not None
    assert change.workspace is not None
    return change.workspace


@pytest.mark.parametrize(("kind", "phase"), BOOTS)
def test_a_ready_report_of_the_current_boot_makes_the_workspace_ready(kind: OperationKind, phase: Phase) -> None:
    """READY, the operation is over, the home disk is known, and it counts as connected to now."""
    workspace = booting(kind, phase)

    after = changed(receive(workspace, ReportEvent.READY))

    assert (after.status, after.operation, after.attend_at, after.error) == (Status.READY, None, None, None)
    assert (after.ready_generation, after.machine_running) == (workspace.generation, True)
    assert after.home_disk == HomeDisk(workspace.disk_name, workspace.zone)
    assert (after.last_connected_at, after.last_activity) == (NOW, Activity.STARTED)


@pytest.mark.parametrize(
    ("event", "kind", "phase"),
    [(ReportEvent.READY, kind, phase) for kind, phase in NOT_BOOTS]
    + [(ReportEvent.FAILED, kind, phase) for kind, phase in NOT_BOOTS if phase not in KEEPING_MEMORY],
)
def test_a_report_of_a_boot_that_nobody_waits_for_is_refused(
    event: ReportEvent, kind: OperationKind, phase: Phase
) -> None:
    """Neither ready nor failed means anything to an operation that does not wait for a boot, and the machine is told so."""
    workspace = a_workspace(Status.READY, an_operation(kind, phase), ready_generation=None)

    with pytest.raises(ReportNotTakenError):
        receive(workspace, event)


@pytest.mark.parametrize(
    ("kind", "phase"), [(OperationKind.STOP, Phase.SUSPEND), (OperationKind.START, Phase.AWAIT_RUNNING)]
)
def test_a_machine_that_fails_while_it_is_stopped_or_thawed_loses_its_memory(kind: OperationKind, phase: Phase) -> None:
    """The report must not be lost: the operation goes on, and the machine is booted before it counts as READY again."""
    workspace = a_workspace(Status.READY, an_operation(kind, phase))
    after = changed(receive(workspace, ReportEvent.FAILED, message="It ends."))

    assert after.operation is not None
    assert (after.operation.phase, after.memory_is_ready, after.memory_kept) == (phase, False, False)
    assert "It ends." in (after.memory_lost_because or "")
    assert receive(after, ReportEvent.FAILED, message="It ends.") is None


@pytest.mark.parametrize("kind", [OperationKind.STOP, OperationKind.DELETE])
def test_a_ready_that_was_taken_before_may_come_twice(kind: OperationKind) -> None:
    """It says nothing new, whatever has been asked for meanwhile."""
    assert receive(a_workspace(Status.READY, an_operation(kind)), ReportEvent.READY) is None


@pytest.mark.parametrize(
    ("kind", "phase"), [(OperationKind.CREATE, Phase.DELETE_INSTANCE), (OperationKind.START, Phase.STOP)]
)
def test_a_ready_that_comes_late_saves_the_operation_until_its_clean_up_has_begun(
    kind: OperationKind, phase: Phase
) -> None:
    """A slow machine is as good as a fast one; once something may have been deleted or stopped, the machine is told no."""
    failed = an_operation(kind, phase, failure=A_PROBLEM)
    workspace = a_workspace(Status.PROVISIONING, failed)

    after = changed(receive(workspace, ReportEvent.READY))

    assert (after.status, after.operation, after.error) == (Status.READY, None, None)
    with pytest.raises(ReportNotTakenError):
        receive(replace(workspace, operation=replace(failed, attempt=1)), ReportEvent.READY)


@pytest.mark.parametrize("kind", [OperationKind.CREATE, OperationKind.START])
def test_a_ready_after_the_deadline_is_taken(kind: OperationKind) -> None:
    """Until somebody has ended the operation, its deadline is nothing to the machine."""
    overdue = an_operation(kind, Phase.AWAIT_READY, deadline_at=NOW - timedelta(minutes=5))

    assert changed(receive(a_workspace(Status.PROVISIONING, overdue), ReportEvent.READY)).status is Status.READY


@pytest.mark.parametrize("event", [ReportEvent.READY, ReportEvent.FAILED])
def test_a_report_to_an_operation_that_cleans_up_is_refused(event: ReportEvent) -> None:
    """Once an operation only cleans up, the machine that it cleans up has no say."""
    operation = an_operation(OperationKind.START, Phase.AWAIT_READY, failure=A_PROBLEM)

    with pytest.raises(ReportNotTakenError):
        receive(a_workspace(Status.PROVISIONING, operation), event)


@pytest.mark.parametrize("event", ReportEvent)
@pytest.mark.parametrize("behind", [-1, 1, 2])
def test_a_report_of_another_generation_is_refused(event: ReportEvent, behind: int) -> None:
    """An earlier boot's report, or one of a boot that the Hub does not know, does not count, and the machine is told so."""
    workspace = booting(OperationKind.START, Phase.AWAIT_READY)

    with pytest.raises(ReportNotTakenError):
        receive(workspace, event, generation=workspace.generation - behind)


@pytest.mark.parametrize("event", ReportEvent)
def test_a_report_before_the_instance_is_recorded_is_to_come_again(event: ReportEvent) -> None:
    """Without a recorded instance id nobody can say whose report it is."""
    workspace = replace(booting(OperationKind.CREATE, Phase.INSERT), instance_id=None)

    with pytest.raises(InstanceNotRecordedError):
        receive(workspace, event)


@pytest.mark.parametrize("event", ReportEvent)
@pytest.mark.parametrize("claim", ["instance_name", "instance_id", "zone", "project_id"])
def test_a_report_of_another_machine_is_refused(event: ReportEvent, claim: str) -> None:
    """Each of the four things that the token proves has to be the record's."""
    with pytest.raises(NotAllowedError):
        receive(a_workspace(), event, **{claim: "another"})


def test_another_machines_report_is_refused_even_while_the_instance_is_unknown() -> None:
    """A machine of somebody else's is not told to come again."""
    workspace = replace(booting(OperationKind.CREATE, Phase.INSERT), instance_id=None)

    with pytest.raises(NotAllowedError):
        receive(workspace, ReportEvent.READY, instance_name="workspace-of-another")


def test_a_ready_report_of_a_workspace_that_is_ready_says_nothing_new() -> None:
    """A machine that reports twice, or that its host has booted again, changes nothing."""
    assert receive(a_workspace(Status.READY), ReportEvent.READY) is None


def test_a_ready_report_of_a_machine_that_is_off_in_the_record_asks_for_a_look() -> None:
    """Somebody booted it by hand: the report is believed, and a worker looks at what Compute says."""
    workspace = a_workspace(Status.SUSPENDED, ready_generation=None)

    change = receive(workspace, ReportEvent.READY)

    after = changed(change)
    assert (after.status, after.ready_generation) == (Status.SUSPENDED, workspace.generation)
    assert change is not None
    assert change.job is not None
    assert change.job.operation_id is None


def test_a_late_ready_report_of_a_thawed_machine_says_nothing_new() -> None:
    """A suspended workspace whose boot has reported before learns nothing."""
    assert receive(a_workspace(Status.SUSPENDED), ReportEvent.READY) is None


# since the last connection, an operation under way: whether the heartbeat is written
HEARTBEATS = [
    (timedelta(seconds=-5), False, False),
    (timedelta(0), False, False),
    (timedelta(seconds=59), False, False),
    (timedelta(seconds=60), False, False),
    (timedelta(seconds=61), False, True),
    (timedelta(hours=5), False, True),
    (timedelta(seconds=-5), True, False),
    (timedelta(0), True, False),
    (timedelta(seconds=1), True, True),
    (timedelta(hours=5), True, True),
]


@pytest.mark.parametrize(("since", "under_way", "written"), HEARTBEATS)
def test_a_heartbeat_moves_the_last_connection_forwards_and_seldom(
    since: timedelta, under_way: bool, written: bool
) -> None:
    """Never backwards; at most once a minute, unless an automatic stop waits to hear whether somebody is there."""
    operation = an_operation(OperationKind.STOP, automatic=True, requested_at=NOW) if under_way else None
    workspace = a_workspace(Status.READY, operation, last_connected_at=NOW - since)

    change = receive(workspace, ReportEvent.HEARTBEAT)

    if not written:
        assert change is None
        return
    after = changed(change)
    assert (after.last_connected_at, after.last_activity) == (NOW, Activity.HEARTBEAT)
    assert after == replace(workspace, last_connected_at=NOW, last_activity=Activity.HEARTBEAT, updated_at=NOW)
    assert change is not None
    assert change.job is None


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.ERROR])
def test_a_heartbeat_moves_only_a_workspace_that_runs(status: Status) -> None:
    """One of a machine that should be off asks for a look, once until that look is due."""
    workspace = a_workspace(status)

    change = receive(workspace, ReportEvent.HEARTBEAT)

    after = changed(change)
    assert after.last_connected_at == workspace.last_connected_at
    assert change is not None
    assert change.job is not None
    assert change.job.operation_id is None
    assert receive(after, ReportEvent.HEARTBEAT) is None


def test_the_hub_caps_how_long_keep_awake_can_hold_a_machine() -> None:
    """From the first heartbeat that nothing else is behind; a session, also one of scripts that give no reason, begins anew."""
    kept = changed(receive(a_workspace(Status.READY), ReportEvent.HEARTBEAT, because=HeartbeatReason.KEEP_AWAKE))
    assert kept.kept_awake_since == NOW
    since = NOW - POLICY.keep_awake_most
    last = replace(kept, kept_awake_since=since, last_connected_at=NOW - timedelta(minutes=2))
    over = replace(last, kept_awake_since=since - timedelta(seconds=1))

    assert changed(receive(last, ReportEvent.HEARTBEAT, because=HeartbeatReason.KEEP_AWAKE)).last_connected_at == NOW
    assert receive(over, ReportEvent.HEARTBEAT, because=HeartbeatReason.KEEP_AWAKE) is None
    for because in (HeartbeatReason.SESSION, None):
        after = changed(receive(over, ReportEvent.HEARTBEAT, because=because))
        assert (after.last_connected_at, after.kept_awake_since) == (NOW, None)


def test_a_start_whose_machine_misses_its_home_makes_a_new_one_on_it_once() -> None:
    """The insert attaches what was detached; a second machine that misses it, or any other reason, fails the START."""
    workspace = booting(OperationKind.START, Phase.AWAIT_READY)
    assert workspace.operation is not None
    again = replace(workspace, operation=replace(workspace.operation, remade=True))

    remade = changed(receive(workspace, ReportEvent.FAILED, code="DISK_MISSING")).operation
    failed = [
        changed(receive(again, ReportEvent.FAILED, code="DISK_MISSING")).operation,
        changed(receive(workspace, ReportEvent.FAILED, code="IMAGE_MISSING")).operation,
        changed(receive(workspace, ReportEvent.FAILED, code="CONTAINER_ENDS")).operation,
    ]

    assert remade is not None
    assert (remade.phase, remade.failure, remade.remade) == (Phase.DELETE_INSTANCE, None, True)
    assert [operation.phase if operation else None for operation in failed] == [Phase.STOP] * 3


def test_a_boot_that_fails_ends_a_create_by_deleting_its_machine() -> None:
    """The machine's own words are in the error; the operation goes on only to clean up."""
    workspace = booting(OperationKind.CREATE, Phase.AWAIT_READY)

    after = changed(receive(workspace, ReportEvent.FAILED, code="IMAGE_PULL_FAILED", message="No such image."))

    assert after.operation is not None
    assert after.operation.phase is Phase.DELETE_INSTANCE
    assert after.operation.failure is not None
    assert after.operation.failure.code == "IMAGE_PULL_FAILED"
    assert "No such image." in after.operation.failure.message
    assert after.operation.failure.operation_kind is OperationKind.CREATE


@pytest.mark.parametrize("phase", sorted(BOOTING))
def test_a_boot_that_fails_ends_a_start_by_stopping_its_machine(phase: Phase) -> None:
    """A failed START never deletes the machine, in whatever phase it hears of it."""
    after = changed(receive(booting(OperationKind.START, phase), ReportEvent.FAILED))

    assert after.operation is not None
    assert after.operation.phase is Phase.STOP
    assert after.operation.failure is not None
    assert after.operation.failure.code == "BOOT_FAILED"


def test_a_ready_machine_that_fails_leaves_the_workspace_in_error_with_its_machine_running() -> None:
    """It is not usable, it costs money, and the idle sweep has to know."""
    after = changed(receive(a_workspace(Status.READY), ReportEvent.FAILED, code="DISK_FULL", message="Full."))

    assert (after.status, after.machine_running, after.ready_generation) == (Status.ERROR, True, None)
    assert after.error is not None
    assert (after.error.code, after.error.operation_kind) == ("DISK_FULL", None)


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.ERROR])
def test_a_failure_report_of_a_workspace_that_is_not_in_use_changes_nothing(status: Status) -> None:
    """It is not usable as it is; there is nothing to tell."""
    assert receive(a_workspace(status), ReportEvent.FAILED) is None
