"""What a machine's report does, by the operation and by the boot that it is about."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.domain import reports
from shared.domain.boot_codes import BOOT_CODES, BOOT_FAILED
from shared.domain.changes import Updated
from shared.domain.drift import MACHINE_NOT_READY
from shared.domain.errors import (
    InstanceNotRecordedError,
    NotAllowedError,
    ReportNotTakenError,
    TooManyRequestsError,
)
from shared.domain.idleness import HeartbeatReason
from shared.domain.reports import HOST_KEY_KEPT_FOR, READY_DISBELIEVED_FOR, ReportEvent
from shared.domain.workspace import (
    Activity,
    HomeDisk,
    HostKey,
    OperationKind,
    Phase,
    Problem,
    Status,
    Workspace,
)
from tests.fakes.records import A_PROBLEM, NOW, POLICY, a_report, a_workspace, an_operation

PHASES_OF_A_BOOT = {
    Phase.AWAIT_METADATA,
    Phase.START,
    Phase.STARTING,
    Phase.INSERT,
    Phase.INSERTING,
    Phase.AWAIT_READY,
}
BOOT_PHASES = [(OperationKind.CREATE, phase) for phase in (Phase.INSERTING, Phase.AWAIT_READY)] + [
    (OperationKind.START, phase) for phase in sorted(PHASES_OF_A_BOOT)
]
KEEPING_MEMORY = {
    *(Phase.SUSPEND, Phase.AWAIT_SUSPENDED, Phase.STOP, Phase.AWAIT_STOPPED),
    *(Phase.SURVEY, Phase.RESUME, Phase.AWAIT_RUNNING),
}
OTHER_PHASES = [
    (kind, phase)
    for kind, phases in {
        OperationKind.START: sorted(set(Phase) - PHASES_OF_A_BOOT),
        OperationKind.STOP: [Phase.SUSPEND, Phase.AWAIT_SUSPENDED, Phase.STOP, Phase.AWAIT_STOPPED],
        OperationKind.DELETE: [Phase.DELETE_INSTANCE, Phase.AWAIT_ABSENT, Phase.FORGET],
    }.items()
    for phase in phases
]


def booting(kind: OperationKind, phase: Phase) -> Workspace:
    """Return a workspace whose machine boots for the first time."""
    return a_workspace(Status.PROVISIONING, an_operation(kind, phase))


def receive(workspace: Workspace, event: ReportEvent, **changes: object) -> Updated | None:
    """Handle a report of the workspace's machine."""
    return reports.receive(workspace, a_report(workspace, event, **changes), NOW, POLICY)


def changed(change: Updated | None) -> Workspace:
    """Return the workspace of a change that must be one."""
    assert change is not None
    assert change.workspace is not None
    return change.workspace


@pytest.mark.parametrize(("kind", "phase"), BOOT_PHASES)
def test_a_ready_report_of_the_current_boot_makes_the_workspace_ready(
    kind: OperationKind, phase: Phase
) -> None:
    """The operation ends, the home disk is recorded, and the workspace counts as connected now."""
    workspace = booting(kind, phase)

    after = changed(receive(workspace, ReportEvent.READY))

    assert (after.status, after.operation, after.attend_at, after.error) == (
        Status.READY,
        None,
        None,
        None,
    )
    assert (after.ready_generation, after.machine_running) == (workspace.generation, True)
    assert after.home_disk == HomeDisk(workspace.disk_name, workspace.zone)
    assert (after.last_connected_at, after.last_activity) == (NOW, Activity.STARTED)


@pytest.mark.parametrize(
    ("event", "kind", "phase"),
    [(ReportEvent.READY, kind, phase) for kind, phase in OTHER_PHASES]
    + [
        (ReportEvent.FAILED, kind, phase)
        for kind, phase in OTHER_PHASES
        if phase not in KEEPING_MEMORY
    ],
)
def test_a_report_is_refused_if_no_operation_waits_for_a_boot(
    event: ReportEvent, kind: OperationKind, phase: Phase
) -> None:
    """A report that no operation waits for is refused, and the machine is told so."""
    workspace = a_workspace(Status.READY, an_operation(kind, phase), ready_generation=None)

    with pytest.raises(ReportNotTakenError):
        receive(workspace, event)


@pytest.mark.parametrize(
    ("kind", "phase"),
    [(OperationKind.STOP, Phase.SUSPEND), (OperationKind.START, Phase.AWAIT_RUNNING)],
)
def test_a_machine_that_fails_during_stop_or_resume_loses_its_memory(
    kind: OperationKind, phase: Phase
) -> None:
    """The operation continues, and the machine must boot before it counts as READY again."""
    workspace = a_workspace(Status.READY, an_operation(kind, phase))
    after = changed(receive(workspace, ReportEvent.FAILED, message="It ends."))

    assert after.operation is not None
    assert (after.operation.phase, after.memory_is_ready, after.memory_kept) == (
        phase,
        False,
        False,
    )
    assert "It ends." in (after.memory_lost_because or "")
    assert receive(after, ReportEvent.FAILED, message="It ends.") is None


@pytest.mark.parametrize("kind", [OperationKind.STOP, OperationKind.DELETE])
def test_a_ready_report_may_come_twice(kind: OperationKind) -> None:
    """A repeated report changes nothing, also if an operation has started since."""
    assert receive(a_workspace(Status.READY, an_operation(kind)), ReportEvent.READY) is None


@pytest.mark.parametrize(
    ("kind", "phase"),
    [(OperationKind.CREATE, Phase.DELETE_INSTANCE), (OperationKind.START, Phase.STOP)],
)
def test_a_late_ready_report_saves_the_operation_until_its_clean_up_starts(
    kind: OperationKind, phase: Phase
) -> None:
    """After the clean-up's first step the report is refused: the machine may be gone."""
    failed = an_operation(kind, phase, failure=A_PROBLEM)
    workspace = a_workspace(Status.PROVISIONING, failed)

    after = changed(receive(workspace, ReportEvent.READY))

    assert (after.status, after.operation, after.error) == (Status.READY, None, None)
    with pytest.raises(ReportNotTakenError):
        receive(replace(workspace, operation=replace(failed, attempt=1)), ReportEvent.READY)


@pytest.mark.parametrize("kind", [OperationKind.CREATE, OperationKind.START])
def test_a_ready_report_after_the_deadline_is_accepted(kind: OperationKind) -> None:
    """Until a worker ends the operation, its deadline does not matter to the machine."""
    overdue = an_operation(kind, Phase.AWAIT_READY, deadline_at=NOW - timedelta(minutes=5))

    assert (
        changed(receive(a_workspace(Status.PROVISIONING, overdue), ReportEvent.READY)).status
        is Status.READY
    )


@pytest.mark.parametrize("event", [ReportEvent.READY, ReportEvent.FAILED])
def test_a_report_to_an_operation_that_cleans_up_is_refused(event: ReportEvent) -> None:
    """A machine that is being cleaned up can no longer change the operation."""
    operation = an_operation(OperationKind.START, Phase.AWAIT_READY, failure=A_PROBLEM)

    with pytest.raises(ReportNotTakenError):
        receive(a_workspace(Status.PROVISIONING, operation), event)


@pytest.mark.parametrize("event", ReportEvent)
@pytest.mark.parametrize("behind", [-1, 1, 2])
def test_a_report_of_another_generation_is_refused(event: ReportEvent, behind: int) -> None:
    """A report of an earlier or unknown boot does not count, and the machine is told so."""
    workspace = booting(OperationKind.START, Phase.AWAIT_READY)

    with pytest.raises(ReportNotTakenError):
        receive(workspace, event, generation=workspace.generation - behind)


@pytest.mark.parametrize("event", ReportEvent)
def test_a_report_before_the_instance_is_recorded_must_be_repeated(event: ReportEvent) -> None:
    """Without a recorded instance id the report cannot be matched to a machine."""
    workspace = replace(booting(OperationKind.CREATE, Phase.INSERT), instance_id=None)

    with pytest.raises(InstanceNotRecordedError):
        receive(workspace, event)


@pytest.mark.parametrize("event", ReportEvent)
@pytest.mark.parametrize("claim", ["instance_name", "instance_id", "zone", "project_id"])
def test_a_report_of_another_machine_is_refused(event: ReportEvent, claim: str) -> None:
    """Each of the four claims that the token proves must match the record."""
    with pytest.raises(NotAllowedError):
        receive(a_workspace(), event, **{claim: "another"})


def test_another_machines_report_is_refused_before_the_instance_is_recorded() -> None:
    """Another workspace's machine is refused, not told to report again."""
    workspace = replace(booting(OperationKind.CREATE, Phase.INSERT), instance_id=None)

    with pytest.raises(NotAllowedError):
        receive(workspace, ReportEvent.READY, instance_name="workspace-of-another")


def test_a_ready_report_of_a_ready_workspace_changes_nothing() -> None:
    """A machine may report twice, or again after its host booted it; nothing changes."""
    assert receive(a_workspace(Status.READY), ReportEvent.READY) is None


@pytest.mark.parametrize("event", ReportEvent)
@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.ERROR])
def test_a_report_of_a_machine_recorded_as_off_only_asks_for_a_look(
    status: Status, event: ReportEvent
) -> None:
    """The machine may run by hand, so a worker looks once, until the record has settled."""
    workspace = a_workspace(status, ready_generation=None)

    change = receive(workspace, event)

    if event is ReportEvent.FAILED:
        assert change is None
        return
    after = changed(change)
    assert after == replace(workspace, attend_at=NOW + POLICY.attend_after, updated_at=NOW)
    assert change is not None
    assert change.job is not None
    assert change.job.operation_id is None
    assert receive(after, event) is None
    assert receive(replace(after, attend_at=None), event) is None
    assert reports.comes_too_early(after, a_report(workspace, event)) is (
        event is ReportEvent.READY
    )


@pytest.mark.parametrize("code", [MACHINE_NOT_READY, "START_TIMED_OUT"])
def test_a_ready_report_in_error_only_records_that_the_memory_is_ready(
    code: str,
) -> None:
    """A worker looks at Compute's state, and a START finds the machine ready."""
    workspace = a_workspace(
        Status.ERROR,
        machine_running=True,
        error=Problem(code, "It is so.", retryable=False, at=NOW),
    )

    change = receive(workspace, ReportEvent.READY)

    after = changed(change)
    assert (after.status, after.error, after.ready_generation) == (
        Status.ERROR,
        workspace.error,
        workspace.generation,
    )
    assert change is not None
    assert change.job is not None
    assert receive(after, ReportEvent.READY) is None


@pytest.mark.parametrize("code", [BOOT_FAILED, *sorted(BOOT_CODES)])
def test_a_ready_report_soon_after_a_failure_must_be_repeated_later(code: str) -> None:
    """Until then the machine is told how long to wait, so that it cannot alternate quickly."""
    failed = changed(receive(a_workspace(Status.READY), ReportEvent.FAILED, code=code))
    report = a_report(failed, ReportEvent.READY)

    with pytest.raises(TooManyRequestsError) as soon:
        reports.receive(failed, report, NOW + timedelta(minutes=1), POLICY)
    after = changed(reports.receive(failed, report, NOW + READY_DISBELIEVED_FOR, POLICY))

    assert soon.value.retry_after == READY_DISBELIEVED_FOR - timedelta(minutes=1)
    assert (after.status, after.memory_is_ready) == (Status.ERROR, True)


def test_the_last_failure_of_a_machine_in_error_is_recorded() -> None:
    """Its memory is lost, so a START boots it; the same report again changes nothing."""
    workspace = a_workspace(Status.ERROR, machine_running=True, ready_generation=3)

    change = receive(workspace, ReportEvent.FAILED, code="DISK_FULL", message="Full.")

    after = changed(change)
    assert (after.status, after.machine_running, after.ready_generation) == (
        Status.ERROR,
        True,
        None,
    )
    assert after.error is not None
    assert (after.error.code, after.error.at) == ("DISK_FULL", NOW)
    assert change is not None
    assert [note.what for note in change.notes] == ["MemoryLost"]
    assert receive(after, ReportEvent.FAILED, code="DISK_FULL") is None


def test_a_failure_report_keeps_a_planned_look() -> None:
    """After a STOP that failed the record may be wrong, so the planned look stays planned."""
    due = NOW + timedelta(minutes=1)
    workspace = a_workspace(Status.READY, machine_running=False, attend_at=due)

    assert changed(receive(workspace, ReportEvent.FAILED)).attend_at == due


def test_a_ready_report_of_a_suspended_workspace_changes_nothing() -> None:
    """Its boot has reported before."""
    assert receive(a_workspace(Status.SUSPENDED), ReportEvent.READY) is None


# time since the last connection, an operation runs: the heartbeat is written
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
def test_a_heartbeat_seldom_writes_and_never_moves_the_connection_back(
    since: timedelta, under_way: bool, written: bool
) -> None:
    """A heartbeat is written at most once a minute, or always if an automatic stop waits for it."""
    operation = (
        an_operation(OperationKind.STOP, automatic=True, requested_at=NOW) if under_way else None
    )
    workspace = a_workspace(Status.READY, operation, last_connected_at=NOW - since)

    change = receive(workspace, ReportEvent.HEARTBEAT)

    if not written:
        assert change is None
        return
    after = changed(change)
    assert (after.last_connected_at, after.last_activity) == (NOW, Activity.HEARTBEAT)
    assert after == replace(
        workspace, last_connected_at=NOW, last_activity=Activity.HEARTBEAT, updated_at=NOW
    )
    assert change is not None
    assert change.job is None


def test_heartbeats_with_alternating_reasons_are_not_written_more_often() -> None:
    """Alternating reasons do not make heartbeats more expensive."""
    workspace = a_workspace(Status.READY)
    written = 0

    for second in range(600):
        reason = (HeartbeatReason.SESSION, HeartbeatReason.KEEP_AWAKE)[second % 2]
        beat = a_report(workspace, ReportEvent.HEARTBEAT, because=reason)
        change = reports.receive(workspace, beat, NOW + timedelta(seconds=second), POLICY)
        if change is not None:
            workspace, written = changed(change), written + 1

    assert written == 10


@pytest.mark.parametrize("phase", [Phase.DELETE_INSTANCE, Phase.AWAIT_ABSENT, Phase.FORGET])
def test_a_workspace_that_is_being_deleted_ignores_heartbeats(phase: Phase) -> None:
    """Its machine may still run for a while; its heartbeats do not disturb the DELETE's commits."""
    assert (
        receive(
            a_workspace(Status.READY, an_operation(OperationKind.DELETE, phase)),
            ReportEvent.HEARTBEAT,
        )
        is None
    )


def test_keep_awake_holds_a_machine_for_a_limited_time() -> None:
    """The time counts from the first such heartbeat; a session or no reason resets it."""
    kept = changed(
        receive(
            a_workspace(Status.READY), ReportEvent.HEARTBEAT, because=HeartbeatReason.KEEP_AWAKE
        )
    )
    assert kept.kept_awake_since == NOW
    since = NOW - POLICY.keep_awake_most
    last = replace(kept, kept_awake_since=since, last_connected_at=NOW - timedelta(minutes=2))
    over = replace(last, kept_awake_since=since - timedelta(seconds=1))

    assert (
        changed(
            receive(last, ReportEvent.HEARTBEAT, because=HeartbeatReason.KEEP_AWAKE)
        ).last_connected_at
        == NOW
    )
    assert receive(over, ReportEvent.HEARTBEAT, because=HeartbeatReason.KEEP_AWAKE) is None
    for because in (HeartbeatReason.SESSION, None):
        after = changed(receive(over, ReportEvent.HEARTBEAT, because=because))
        assert (after.last_connected_at, after.kept_awake_since) == (NOW, None)


def test_a_start_replaces_a_machine_without_its_home_disk_once() -> None:
    """The new machine attaches the home disk; a second failure or another code fails the START."""
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


def test_a_create_whose_boot_fails_deletes_its_machine() -> None:
    """The error has the machine's message, and the operation continues only to clean up."""
    workspace = booting(OperationKind.CREATE, Phase.AWAIT_READY)

    after = changed(
        receive(workspace, ReportEvent.FAILED, code="IMAGE_PULL_FAILED", message="No such image.")
    )

    assert after.operation is not None
    assert after.operation.phase is Phase.DELETE_INSTANCE
    assert after.operation.failure is not None
    assert after.operation.failure.code == "IMAGE_PULL_FAILED"
    assert "No such image." in after.operation.failure.message
    assert after.operation.failure.operation_kind is OperationKind.CREATE


@pytest.mark.parametrize("phase", sorted(PHASES_OF_A_BOOT))
def test_a_start_whose_boot_fails_stops_its_machine(phase: Phase) -> None:
    """In every phase, a START that failed leaves the machine in existence."""
    after = changed(receive(booting(OperationKind.START, phase), ReportEvent.FAILED))

    assert after.operation is not None
    assert after.operation.phase is Phase.STOP
    assert after.operation.failure is not None
    assert after.operation.failure.code == "BOOT_FAILED"


def test_a_ready_machine_that_fails_is_in_error_and_still_running() -> None:
    """The machine is unusable and costs money, so the clean-up must know that it runs."""
    after = changed(
        receive(a_workspace(Status.READY), ReportEvent.FAILED, code="DISK_FULL", message="Full.")
    )

    assert (after.status, after.machine_running, after.ready_generation) == (
        Status.ERROR,
        True,
        None,
    )
    assert after.error is not None
    assert (after.error.code, after.error.operation_kind) == ("DISK_FULL", None)


# Codes that a machine must not set: the Hub's own results and codes, and invented ones.
CLAIMED = [
    *(
        "READY",
        "DELETED",
        "SUSPENDED",
        "SUPERSEDED",
        "ACCEPTED",
        "QUOTA_EXCEEDED",
        MACHINE_NOT_READY,
        "MACHINE_GONE",
    ),
    *(
        "NO_CAPACITY",
        "COMPUTE_PERMISSION_DENIED",
        "START_TIMED_OUT",
        "HOME_DISK_GONE",
        "A",
        "disk_full",
        "DISK_FULL ",
    ),
    None,
]
FAILING = [
    a_workspace(Status.READY),
    a_workspace(Status.READY, an_operation(OperationKind.STOP, Phase.SUSPEND)),
    a_workspace(Status.ERROR, machine_running=True, ready_generation=3),
    booting(OperationKind.CREATE, Phase.AWAIT_READY),
    a_workspace(
        Status.PROVISIONING, an_operation(OperationKind.START, Phase.AWAIT_READY, remade=True)
    ),
]


def problem_of(change: Updated | None) -> Problem:
    """Return the problem that a failure report leaves in the workspace."""
    after = changed(change)
    problem = (
        after.operation.failure if after.operation and after.operation.failure else after.error
    )
    assert problem is not None
    return problem


@pytest.mark.parametrize("workspace", FAILING)
def test_only_the_codes_of_the_boot_scripts_become_error_codes(workspace: Workspace) -> None:
    """Results and metric labels are the Hub's own words; other claims appear nowhere."""
    told = {
        code: problem_of(receive(workspace, ReportEvent.FAILED, code=code)).code
        for code in BOOT_CODES
    }
    claims = [
        problem_of(receive(workspace, ReportEvent.FAILED, code=code, message="So."))
        for code in CLAIMED
    ]

    assert told == {code: code for code in BOOT_CODES}
    assert [problem.code for problem in claims] == [BOOT_FAILED] * len(CLAIMED)
    assert {problem.message for problem in claims} == {'The machine failed. It says: "So."'}


@pytest.mark.parametrize("workspace", FAILING)
def test_a_machines_message_is_bounded_and_quoted(workspace: Workspace) -> None:
    """Lines, quotation marks and invisible characters cannot leave the quotation."""
    said = 'Full."\nThe Hub: \u202eyou must\u2028 log\u200b in again.\x1b[2J \ud800' + "x" * 5000

    message = problem_of(
        receive(workspace, ReportEvent.FAILED, code="DISK_FULL", message=said)
    ).message

    assert message.startswith(
        "The machine failed. It says: \"Full.' The Hub: you must log in again. xxx"
    )
    assert message.endswith('…"')
    assert (message.count('"'), message.isprintable()) == (2, True)
    assert len(message) < 340


@pytest.mark.parametrize("message", [None, "", " ", "\u200b\n\u202e", "\x1b[31m"])
def test_a_machine_that_gives_no_message_is_not_quoted(message: str | None) -> None:
    """The message says what to do next."""
    problem = problem_of(receive(a_workspace(Status.READY), ReportEvent.FAILED, message=message))

    assert (
        problem.message
        == "The machine failed. It gave no reason. Start the workspace to boot it again."
    )


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.ERROR])
def test_a_failure_report_of_a_workspace_that_is_not_in_use_changes_nothing(status: Status) -> None:
    """The workspace is not in use, so there is nothing to record."""
    assert receive(a_workspace(status), ReportEvent.FAILED) is None


# ---- host keys ----

KEY, ANOTHER_KEY = "ssh-ed25519 AAAA", "ssh-ed25519 BBBB"


def keyed(workspace: Workspace, text: str = KEY, **changes: Any) -> Workspace:
    """Return a workspace whose machine has reported this host key an hour ago."""
    key = HostKey(workspace.instance_id or "", text, NOW - timedelta(hours=1))
    return replace(workspace, host_key=replace(key, **changes))


@pytest.mark.parametrize(("kind", "phase"), BOOT_PHASES)
def test_a_boot_that_is_ready_brings_its_host_key(kind: OperationKind, phase: Phase) -> None:
    """It replaces the one of an earlier boot at once; without one, that one still counts."""
    workspace = keyed(booting(kind, phase), reported_at=NOW)

    after = changed(receive(workspace, ReportEvent.READY, host_key=ANOTHER_KEY))
    without = changed(receive(workspace, ReportEvent.READY))

    assert (after.machine_key, without.machine_key) == (ANOTHER_KEY, KEY)
    assert after.host_key == HostKey(workspace.instance_id or "", ANOTHER_KEY, NOW)


def test_a_host_key_counts_for_its_own_machine_only() -> None:
    """A new machine has none until it has reported, and one without a machine has none."""
    workspace = keyed(a_workspace())

    assert workspace.machine_key == KEY
    assert replace(workspace, instance_id="another").machine_key is None
    assert replace(workspace, instance_id=None).machine_key is None


def test_a_machine_in_use_may_report_another_host_key_every_five_minutes() -> None:
    """It may have rebooted by itself; more often, it is told to report again later."""
    workspace = keyed(a_workspace(), reported_at=NOW - HOST_KEY_KEPT_FOR)

    after = changed(receive(workspace, ReportEvent.READY, host_key=ANOTHER_KEY))

    assert replace(after, host_key=None, updated_at=NOW) == replace(
        workspace, host_key=None, updated_at=NOW
    )
    assert after.machine_key == ANOTHER_KEY
    assert receive(after, ReportEvent.READY, host_key=ANOTHER_KEY) is None
    with pytest.raises(TooManyRequestsError) as refused:
        receive(after, ReportEvent.READY, host_key=KEY)
    assert refused.value.retry_after == HOST_KEY_KEPT_FOR


def test_a_machine_in_use_may_report_its_first_host_key_at_any_time() -> None:
    """An earlier machine's key does not count."""
    for workspace in (a_workspace(), keyed(a_workspace(), instance_id="earlier", reported_at=NOW)):
        after = changed(receive(workspace, ReportEvent.READY, host_key=KEY))
        assert after.machine_key == KEY


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.ERROR])
def test_a_machine_that_does_not_run_reports_no_host_key(status: Status) -> None:
    """Whoever has copied its token cannot change the record of a machine that is off."""
    workspace = keyed(a_workspace(status, ready_generation=3))

    assert receive(workspace, ReportEvent.READY, host_key=ANOTHER_KEY) is None


@pytest.mark.parametrize("event", [ReportEvent.HEARTBEAT, ReportEvent.FAILED])
def test_only_ready_brings_a_host_key(event: ReportEvent) -> None:
    """Another event's is ignored."""
    workspace = keyed(a_workspace())

    after = changed(receive(workspace, event, host_key=ANOTHER_KEY))

    assert after.machine_key == KEY
