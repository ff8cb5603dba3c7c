"""The state table: every cell, deadlines, and what each of Compute's refusals means for each kind of operation."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from shared.domain import steps
from shared.domain.changes import Change, job_of
from shared.domain.drift import ObservedState
from shared.domain.instance import (
    Command,
    DeleteDisk,
    DeleteInstance,
    FaultKind,
    InsertInstance,
    InstanceState,
    Place,
    RefreshMetadata,
    ResumeInstance,
    StartedCall,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from shared.domain.policy import Policy
from shared.domain.steps import Call, StepInput
from shared.domain.workspace import HomeDisk, OperationKind, Phase, Status, Workspace
from tests.fakes.machines import fault
from tests.fakes.records import (
    A_PROBLEM,
    NOW,
    POLICY,
    a_home,
    a_workspace,
    an_instance,
    an_operation,
)
from tests.unit.domain.state_table import PHASES, move_in_words, sights, situation, table_in_words

SNAPSHOT = Path(__file__).parent / "state_table.txt"
IN_PLACE = [
    (title, phase, awake)
    for title, (_, _, phases) in PHASES.items()
    for phase in phases
    for awake in (True, False)
]
# The phase that waits for each command, and so must follow it.
AWAITS: dict[type[Command], Phase] = {
    InsertInstance: Phase.INSERTING,
    RefreshMetadata: Phase.AWAIT_METADATA,
    StartInstance: Phase.STARTING,
    ResumeInstance: Phase.AWAIT_RUNNING,
    SuspendInstance: Phase.AWAIT_SUSPENDED,
    StopInstance: Phase.AWAIT_STOPPED,
    DeleteInstance: Phase.AWAIT_ABSENT,
    DeleteDisk: Phase.AWAIT_DISK_ABSENT,
}


def changed(change: Change | Call) -> Workspace:
    """Return the workspace of a change that must be one."""
    assert isinstance(change, Change)
    assert change.workspace is not None
    return change.workspace


def test_the_table_is_what_was_reviewed() -> None:
    """Every cell, in words, is that of ``state_table.txt``; after a change on purpose: ``UPDATE_STATE_TABLE=1 pytest …``."""
    table = table_in_words()

    if os.environ.get("UPDATE_STATE_TABLE"):
        SNAPSHOT.write_text(table, encoding="utf-8")
    assert table == SNAPSHOT.read_text(encoding="utf-8")


def test_the_table_has_a_move_for_every_phase_and_observed_state() -> None:
    """No phase and no observed state is forgotten, and the reviewed table names every phase that there is."""
    by_machine = set(Phase) - set(steps.DISK_TABLE)
    assert set(steps.TABLE) == {(phase, seen) for phase in by_machine for seen in ObservedState}
    assert {phase for _, _, phases in PHASES.values() for phase in phases} == set(Phase)


@pytest.mark.parametrize(("title", "phase", "awake"), IN_PLACE)
def test_every_cell_is_a_legal_move(title: str, phase: Phase, awake: bool) -> None:
    """One call on the workspace's own things, or one step more of the same operation, or its end."""
    kind, failed, phases = PHASES[title]
    workspace = situation(kind, phase, failed=failed, awake=awake)
    for name, seen in sights(workspace):
        decision = steps.plan(workspace, seen, NOW, POLICY)
        if isinstance(decision, Call):
            assert decision.leads_to is AWAITS[type(decision.command)], name
            disk = isinstance(decision.command, DeleteDisk)
            wanted = workspace.disk_name if disk else workspace.instance_name
            wanted = seen.disks[0].name if disk and seen.disks else wanted
            assert decision.command.place == Place(workspace.zone, wanted), name
            assert decision.leads_to in phases, name
        else:
            check_change(workspace, decision, {*phases, Phase.STOP, Phase.DELETE_INSTANCE})


def check_change(before: Workspace, change: Change, phases: set[Phase]) -> None:
    """Check what is true of every step's change."""
    operation = before.operation
    assert operation is not None
    after = change.workspace
    if after is None:
        assert operation.phase is Phase.FORGET
        assert change.job is None
        return
    assert after.updated_at == NOW
    assert after.generation in {before.generation, before.generation + 1}
    if after.operation is None:
        assert after.status is not Status.PROVISIONING
        assert change.job is None
        return
    assert (after.operation.id, after.operation.kind) == (operation.id, operation.kind)
    assert after.operation.step == operation.step + 1
    assert after.operation.phase in phases
    assert change.job is not None
    assert change.job == job_of(after, after.operation, change.job.delay)
    assert timedelta(0) <= change.job.delay <= POLICY.look_max
    assert after.attend_at == NOW + change.job.delay + POLICY.attend_after
    if after.generation > before.generation:
        assert (after.status, after.ready_generation) == (Status.PROVISIONING, None)
        assert after.operation.phase in {Phase.INSERT, Phase.SET_METADATA}


# ---- settling a call ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command_type", AWAITS)
def test_an_accepted_call_is_waited_for(command_type: type[Command]) -> None:
    """Compute's operation is recorded, the phase that waits for it is entered, and the first look comes soon."""
    workspace = a_workspace(
        Status.READY, an_operation(OperationKind.START, Phase.SURVEY, attempt=2)
    )
    call = Call(some(command_type, workspace), AWAITS[command_type])

    change = steps.record_outcome(
        workspace, StepInput(), call, StartedCall("gce-1", "77"), NOW, POLICY
    )

    after = changed(change)
    assert after.operation is not None
    assert (after.operation.phase, after.operation.gce_operation) == (AWAITS[command_type], "gce-1")
    assert (after.operation.step, after.operation.attempt, after.operation.phase_since) == (
        8,
        2,
        NOW,
    )
    assert change.job is not None
    assert change.job.delay == POLICY.look_min
    assert after.instance_id == ("77" if command_type is InsertInstance else workspace.instance_id)
    assert after.generation == workspace.generation


def some(command_type: type[Command], workspace: Workspace) -> Command:
    """Return a command of this type for the workspace."""
    place = Place(workspace.zone, workspace.instance_name)
    if command_type is InsertInstance:
        return insert_of(workspace)
    if command_type is RefreshMetadata:
        return RefreshMetadata(
            place,
            workspace.id,
            workspace.name,
            workspace.image_tag,
            workspace.generation,
            None,
            None,
        )
    simple: dict[type[Command], Command] = {
        StartInstance: StartInstance(place),
        ResumeInstance: ResumeInstance(place),
        SuspendInstance: SuspendInstance(place),
        StopInstance: StopInstance(place),
        DeleteInstance: DeleteInstance(place),
        DeleteDisk: DeleteDisk(Place(workspace.zone, workspace.disk_name)),
    }
    return simple[command_type]


def insert_of(workspace: Workspace, *, disk_exists: bool = False) -> InsertInstance:
    """Return the insert that is planned for a workspace."""
    operation = an_operation(OperationKind.CREATE, Phase.INSERT)
    inserting = replace(
        workspace, operation=operation, home_disk=workspace.home_disk if disk_exists else None
    )
    decision = steps.plan(inserting, StepInput(disk_exists=disk_exists), NOW, POLICY)
    assert isinstance(decision, Call)
    assert isinstance(decision.command, InsertInstance)
    return decision.command


def test_an_insert_says_all_that_the_machine_is_made_of() -> None:
    """Its names, type, image and generation are the record's; a home disk that exists is attached, not made."""
    workspace = a_workspace(Status.PROVISIONING)

    command = insert_of(workspace)

    assert (command.place.name, command.place.zone) == (workspace.instance_name, workspace.zone)
    assert (command.workspace_id, command.workspace_name, command.owner_id) == (
        workspace.id,
        "one",
        "alice",
    )
    assert (command.machine_type, command.image_tag) == (
        workspace.machine_type,
        workspace.image_tag,
    )
    assert (command.generation, command.home_disk, command.attach_home) == (
        3,
        f"home-{workspace.id}",
        False,
    )
    assert insert_of(workspace, disk_exists=True).attach_home is True


# ---- waiting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lasts", "pause"), [(0, 1.0), (4, 1.0), (8, 2.0), (40, 10.0), (60, 15.0), (500, 15.0)]
)
def test_looks_come_after_a_quarter_of_the_time_that_has_passed(lasts: int, pause: float) -> None:
    """At least a second, at most fifteen: waiting adds at most a quarter."""
    since = NOW - timedelta(seconds=lasts)
    workspace = a_workspace(
        Status.READY, an_operation(OperationKind.STOP, Phase.AWAIT_SUSPENDED, phase_since=since)
    )

    change = steps.plan(workspace, StepInput(pending=True), NOW, POLICY)

    assert isinstance(change, Change)
    assert change.job is not None
    assert change.job.delay == timedelta(seconds=pause)
    assert changed(change).operation == replace(workspace.operation, step=8)  # type: ignore[type-var]


@pytest.mark.parametrize(("attempt", "pause"), [(0, 2), (1, 4), (2, 8), (3, 15), (99, 15)])
def test_attempts_come_after_a_pause_that_doubles(attempt: int, pause: int) -> None:
    """What is begun again is begun again ever later, up to fifteen seconds."""
    operation = an_operation(
        OperationKind.DELETE, Phase.AWAIT_ABSENT, attempt=attempt, gce_operation="gce-1"
    )
    workspace = a_workspace(Status.READY, operation)

    change = steps.plan(workspace, StepInput(instance=an_instance(workspace)), NOW, POLICY)

    assert isinstance(change, Change)
    assert change.job is not None
    assert change.job.delay == timedelta(seconds=pause)
    after = changed(change).operation
    assert after is not None
    assert (after.phase, after.attempt, after.gce_operation) == (
        Phase.DELETE_INSTANCE,
        attempt + 1,
        None,
    )


@pytest.mark.parametrize("title", PHASES)
def test_a_pending_compute_operation_is_waited_for_in_every_phase(title: str) -> None:
    """Nothing else is decided before Compute's own operation is done."""
    kind, failed, phases = PHASES[title]
    for phase in phases:
        workspace = situation(kind, phase, failed=failed, awake=True)
        assert (
            move_in_words(workspace, steps.plan(workspace, StepInput(pending=True), NOW, POLICY))
            == "waits"
        )


# ---- special moves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.SUSPEND, Phase.STOP])
def test_a_heartbeat_since_the_sweep_decided_abandons_an_automatic_stop(phase: Phase) -> None:
    """Who connected between the decision and the call goes on working."""
    operation = an_operation(OperationKind.STOP, phase, automatic=True)
    connected = operation.requested_at + timedelta(microseconds=1)
    workspace = a_workspace(Status.READY, operation, last_connected_at=connected)

    after = changed(steps.plan(workspace, StepInput(instance=an_instance(workspace)), NOW, POLICY))

    assert (after.status, after.operation, after.error) == (Status.READY, None, None)
    assert (after.machine_running, after.last_connected_at) == (True, connected)


@pytest.mark.parametrize("automatic", [True, False])
def test_a_stop_goes_on_when_nobody_connected_or_a_person_asked_for_it(automatic: bool) -> None:
    """A heartbeat undoes only what the idle sweep began, and only a later one."""
    operation = an_operation(OperationKind.STOP, automatic=automatic)
    idle_after = POLICY.idle_after or timedelta(0)
    connected = operation.requested_at + (-idle_after if automatic else timedelta(seconds=5))
    workspace = a_workspace(Status.READY, operation, last_connected_at=connected)

    decision = steps.plan(workspace, StepInput(instance=an_instance(workspace)), NOW, POLICY)

    assert isinstance(decision, Call)
    assert isinstance(decision.command, SuspendInstance)


def test_an_idle_stop_leaves_a_machine_in_use_alone_whatever_its_workspace_is() -> None:
    """Its container may have failed, but somebody is logged in, or it reports more rarely than the record knows."""
    operation = an_operation(OperationKind.STOP, automatic=True)
    broken = a_workspace(Status.ERROR, operation, ready_generation=None, last_connected_at=NOW)
    rare = replace(broken, last_connected_at=NOW - timedelta(minutes=70))
    rarely = an_instance(rare, heartbeat_interval=timedelta(minutes=30))
    for workspace, instance in ((broken, an_instance(broken)), (rare, rarely)):
        after = changed(steps.plan(workspace, StepInput(instance=instance), NOW, POLICY))
        assert (after.status, after.operation, after.error) == (Status.ERROR, None, A_PROBLEM)


def test_a_new_machine_that_was_refused_has_cost_no_memory() -> None:
    """Memory is lost when Compute accepts the delete, not when a person asks."""
    workspace = a_workspace(
        Status.SUSPENDED, an_operation(OperationKind.START, Phase.DELETE_INSTANCE, remade=True)
    )
    workspace = replace(workspace, instance_id=None)
    call = Call(DeleteInstance(Place(workspace.zone, workspace.instance_name)), Phase.AWAIT_ABSENT)

    refused = changed(
        steps.record_outcome(workspace, StepInput(), call, fault(FaultKind.POLICY), NOW, POLICY)
    )
    accepted = changed(
        steps.record_outcome(workspace, StepInput(), call, StartedCall("gce-1"), NOW, POLICY)
    )

    assert (refused.has_memory, refused.memory_kept) == (True, None)
    assert (accepted.has_memory, accepted.memory_kept) == (False, False)


def test_a_machine_that_comes_back_to_running_is_asked_once_more_and_then_stopped() -> None:
    """Its guest may have been busy; the second time its memory is given up, and the record says why."""
    workspace = a_workspace(Status.READY, an_operation(OperationKind.STOP, Phase.AWAIT_SUSPENDED))
    running = StepInput(instance=an_instance(workspace))

    once = changed(steps.plan(workspace, running, NOW, POLICY))
    assert once.operation is not None
    assert once.operation.phase is Phase.SUSPEND
    again = replace(once, operation=replace(once.operation, phase=Phase.AWAIT_SUSPENDED))
    twice = changed(steps.plan(again, running, NOW, POLICY))
    assert twice.operation is not None
    assert twice.operation.phase is Phase.STOP
    off = StepInput(instance=an_instance(twice, InstanceState.TERMINATED))
    ended = steps.plan(twice, off, NOW, POLICY)

    after = changed(ended)
    assert (after.status, after.memory_kept) == (Status.SUSPENDED, False)
    assert "came back to running 2 times" in (after.memory_lost_because or "")
    assert isinstance(ended, Change)
    assert [note.what for note in ended.notes] == ["MemoryLost"]


@pytest.mark.parametrize(
    "kind", [FaultKind.NOT_READY, FaultKind.TRANSIENT, FaultKind.IN_USE, FaultKind.STOCK_OUT]
)
def test_a_passing_refusal_of_a_suspend_is_waited_for_until_the_deadline_and_costs_no_memory(
    kind: FaultKind,
) -> None:
    """However often it comes; then the STOP ends, the machine runs on, and Compute's words say why."""
    workspace = a_workspace(Status.READY, an_operation(OperationKind.STOP, attempt=100))
    call = Call(
        SuspendInstance(Place(workspace.zone, workspace.instance_name)), Phase.AWAIT_SUSPENDED
    )

    waiting = changed(steps.record_outcome(workspace, StepInput(), call, fault(kind), NOW, POLICY))
    assert waiting.operation is not None
    assert waiting.operation.phase is Phase.SUSPEND
    over = changed(
        steps.plan(
            waiting, StepInput(instance=an_instance(waiting)), waiting.operation.deadline_at, POLICY
        )
    )

    assert (over.status, over.operation, over.memory_is_ready) == (Status.READY, None, True)
    assert over.error is not None
    assert over.error.code == "STOP_TIMED_OUT"
    assert fault(kind).message in over.error.message


def test_a_missing_right_is_waited_for_and_then_told() -> None:
    """It may just have been given; a suspend that is forbidden powers nothing off."""
    workspace = a_workspace(Status.READY, an_operation(OperationKind.STOP))
    call = Call(
        SuspendInstance(Place(workspace.zone, workspace.instance_name)), Phase.AWAIT_SUSPENDED
    )
    patience_over = NOW + POLICY.rights_patience

    soon = steps.record_outcome(
        workspace, StepInput(), call, fault(FaultKind.PERMISSION), NOW, POLICY
    )
    waiting = changed(soon)
    assert waiting.operation is not None
    # Wherever the operation goes meanwhile: what counts is since when the right is missing.
    waiting = replace(waiting, operation=replace(waiting.operation, phase_since=patience_over))
    late = steps.record_outcome(
        waiting,
        StepInput(instance=an_instance(workspace)),
        call,
        fault(FaultKind.PERMISSION),
        patience_over,
        POLICY,
    )

    assert move_in_words(workspace, soon) == "again suspend"
    assert move_in_words(workspace, late) == "ends READY COMPUTE_PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("phase", "command", "state"),
    [
        (Phase.SURVEY, ResumeInstance, InstanceState.SUSPENDED),
        (Phase.RESUME, ResumeInstance, InstanceState.SUSPENDED),
        (Phase.SET_METADATA, RefreshMetadata, InstanceState.TERMINATED),
        (Phase.START, StartInstance, InstanceState.TERMINATED),
    ],
)
def test_a_start_makes_one_new_machine_at_most(
    phase: Phase, command: type[Command], state: InstanceState
) -> None:
    """What cannot be thawed or booted is looked at again, then made anew on the same home; memory is lost when the machine is."""
    workspace = a_workspace(Status.SUSPENDED, an_operation(OperationKind.START, phase))
    refusal = fault(FaultKind.UNSUPPORTED)
    call = Call(some(command, workspace), AWAITS[command])

    stuck = changed(steps.record_outcome(workspace, StepInput(), call, refusal, NOW, POLICY))
    assert stuck.operation is not None
    assert (stuck.operation.phase, stuck.memory_is_ready) == (Phase.SURVEY, True)
    down = steps.plan(stuck, StepInput(instance=an_instance(stuck, state)), NOW, POLICY)
    after = changed(down)
    assert after.operation is not None
    assert isinstance(down, Change)
    assert ([note.what for note in down.notes], after.memory_is_ready) == (["MachineRemade"], True)
    delete = steps.plan(
        after, StepInput(instance=an_instance(after, state), disk_exists=True), NOW, POLICY
    )
    assert isinstance(delete, Call)
    deleting = steps.record_outcome(after, StepInput(), delete, StartedCall("gce-1"), NOW, POLICY)
    gone = changed(deleting)
    assert (gone.memory_kept, gone.home_disk) == (False, workspace.home_disk)
    assert [note.what for note in deleting.notes] == ["MemoryLost"]
    again = replace(after, operation=replace(after.operation, phase=phase))
    refused = steps.record_outcome(again, StepInput(), call, refusal, NOW, POLICY)
    assert move_in_words(again, refused) == "fails COMPUTE_REFUSED: to stop"


@pytest.mark.parametrize("remade", [True, False])
def test_a_machine_that_somebody_resumed_meanwhile_is_used(remade: bool) -> None:
    """Neither the step down nor the clean-up of a START that failed takes a machine that can be used."""
    phase = Phase.DELETE_INSTANCE if remade else Phase.STOP
    operation = an_operation(
        OperationKind.START, phase, remade=remade, failure=None if remade else A_PROBLEM
    )
    workspace = a_workspace(Status.SUSPENDED, operation)
    running = StepInput(instance=an_instance(workspace), disk_exists=True)
    unwanted = replace(workspace, instance_id=None)

    assert move_in_words(workspace, steps.plan(workspace, running, NOW, POLICY)) == "ends READY"
    decision = steps.plan(unwanted, running, NOW, POLICY)
    assert isinstance(decision, Call) or changed(decision).operation is not None


@pytest.mark.parametrize(
    ("phase", "command"), [(Phase.SUSPEND, SuspendInstance), (Phase.RESUME, ResumeInstance)]
)
def test_an_answer_that_nobody_understands_costs_no_memory(
    phase: Phase, command: type[Command]
) -> None:
    """A shape that no row of the error table knows is invalid: it is tried again until the deadline."""
    kind = OperationKind.STOP if phase is Phase.SUSPEND else OperationKind.START
    workspace = a_workspace(Status.READY, an_operation(kind, phase))
    call = Call(some(command, workspace), AWAITS[command])

    refused = steps.record_outcome(
        workspace, StepInput(), call, fault(FaultKind.INVALID), NOW, POLICY
    )

    assert move_in_words(workspace, refused) == f"again {phase}"


def test_the_retention_sweep_does_not_delete_what_somebody_has_started() -> None:
    """It deletes only what is off; a person's own DELETE takes everything."""
    operation = an_operation(OperationKind.DELETE, automatic=True)
    workspace = a_workspace(Status.SUSPENDED, operation)
    asked = replace(workspace, operation=replace(operation, automatic=False))
    for state in (InstanceState.RUNNING, InstanceState.STAGING, InstanceState.STOPPING):
        seen = StepInput(instance=an_instance(workspace, state))
        kept = changed(steps.plan(workspace, seen, NOW, POLICY))
        assert (kept.status, kept.operation, kept.attend_at) == (Status.SUSPENDED, None, NOW)
        assert isinstance(steps.plan(asked, seen, NOW, POLICY), Call)
    off = StepInput(instance=an_instance(workspace, InstanceState.SUSPENDED))
    assert isinstance(steps.plan(workspace, off, NOW, POLICY), Call)


def test_a_home_that_a_start_attaches_is_recorded_whatever_comes_of_the_insert() -> None:
    """It may hold somebody's work: no stock-out leads to another zone, where it would be deleted here."""
    workspace = a_workspace(
        Status.ERROR, an_operation(OperationKind.START, Phase.INSERT), home_disk=None
    )
    home = HomeDisk(workspace.disk_name, workspace.zone)
    call = Call(insert_of(replace(workspace, home_disk=home), disk_exists=True), Phase.INSERTING)

    accepted = changed(
        steps.record_outcome(workspace, StepInput(), call, StartedCall("gce-1", "7"), NOW, POLICY)
    )
    refused = steps.record_outcome(
        workspace, StepInput(), call, fault(FaultKind.STOCK_OUT), NOW, POLICY
    )

    assert accepted.home_disk == home
    assert move_in_words(workspace, refused) == "ends SUSPENDED NO_CAPACITY"


def test_a_boot_disk_in_the_way_gets_out_of_it_by_another_name_once() -> None:
    """The home disk and the machine are taken at the next look; anything else with our name ends the operation and is named."""
    workspace = a_workspace(Status.SUSPENDED, an_operation(OperationKind.START, Phase.INSERT))
    call = Call(insert_of(workspace), Phase.INSERTING)

    def refused(resource: str, before: Workspace = workspace) -> Workspace:
        taken = replace(fault(FaultKind.ALREADY_EXISTS), resource=resource)
        return changed(steps.record_outcome(before, StepInput(), call, taken, NOW, POLICY))

    for resource in ("", f"instances/{workspace.instance_name}", f"disks/{workspace.disk_name}"):
        assert refused(resource).generation == workspace.generation
    renamed = refused(f"disks/{workspace.instance_name}")
    assert renamed.generation == workspace.generation + 1
    assert renamed.operation is not None
    assert renamed.operation.phase is Phase.INSERT
    ended = refused(f"disks/{workspace.instance_name}", renamed)
    assert ended.operation is not None
    assert ended.operation.failure is not None
    assert ended.operation.failure.code == "COMPUTE_NAME_TAKEN"
    assert f"disks/{workspace.instance_name}" in ended.operation.failure.message


def test_a_home_that_is_gone_is_replaced_only_if_the_request_says_so() -> None:
    """Otherwise the START fails with words of its own; either way an event or the error says that the home is gone."""
    workspace = a_workspace(Status.SUSPENDED, an_operation(OperationKind.START, Phase.INSERT))
    assert workspace.operation is not None
    agreed = replace(workspace, operation=replace(workspace.operation, empty_home=True))

    refused = changed(steps.plan(workspace, StepInput(), NOW, POLICY))
    call = steps.plan(agreed, StepInput(), NOW, POLICY)

    assert refused.operation is not None
    assert refused.operation.failure is not None
    assert refused.operation.failure.code == steps.HOME_DISK_GONE
    assert "empty_home" in refused.operation.failure.message
    assert isinstance(call, Call)
    settled = steps.record_outcome(
        agreed, StepInput(), call, StartedCall("gce-1", "7"), NOW, POLICY
    )
    assert [note.what for note in settled.notes] == ["HomeReplaced"]


def test_a_failed_boot_is_saved_by_a_ready_until_the_clean_up_begins() -> None:
    """The clean-up's first step is a commit of its own: no machine is deleted that was believed to be ready."""
    failed = situation(OperationKind.CREATE, Phase.DELETE_INSTANCE, failed=True, awake=False)
    assert failed.operation is not None
    assert steps.may_still_be_saved(failed.operation)

    begun = changed(steps.plan(failed, StepInput(instance=an_instance(failed)), NOW, POLICY))

    assert begun.operation is not None
    assert begun.operation.phase is Phase.DELETE_INSTANCE
    assert not steps.may_still_be_saved(begun.operation)
    assert isinstance(steps.plan(begun, StepInput(instance=an_instance(begun)), NOW, POLICY), Call)


def test_a_delete_takes_every_disk_of_the_workspace_and_names_what_holds_one() -> None:
    """The home first, then boot disks that outlived their machines; a home that is held ends the DELETE at its deadline."""
    workspace = situation(OperationKind.DELETE, Phase.DELETE_DISK, failed=False, awake=False)
    assert workspace.operation is not None
    boot = a_home(workspace, name=f"{workspace.instance_name}-2")
    for seen, name in (
        (StepInput(disk_exists=True), workspace.disk_name),
        (StepInput(disks=(boot,)), boot.name),
    ):
        call = steps.plan(workspace, seen, NOW, POLICY)
        assert isinstance(call, Call)
        assert call.command == DeleteDisk(Place(workspace.zone, name))

    call = steps.plan(workspace, StepInput(disk_exists=True), NOW, POLICY)
    assert isinstance(call, Call)
    in_use = replace(fault(FaultKind.IN_USE), resource="instances/holder")
    waiting = changed(steps.record_outcome(workspace, StepInput(), call, in_use, NOW, POLICY))
    over = changed(
        steps.plan(waiting, StepInput(disk_exists=True), workspace.operation.deadline_at, POLICY)
    )
    accepted = steps.record_outcome(waiting, StepInput(), call, StartedCall("gce-1"), NOW, POLICY)
    freed = changed(accepted)

    assert (over.status, over.operation, over.home_disk) == (
        Status.ERROR,
        None,
        workspace.home_disk,
    )
    assert over.error is not None
    assert over.error.code == "DISK_IN_USE"
    assert "instances/holder" in over.error.message
    assert freed.operation is not None
    late = changed(
        steps.plan(freed, StepInput(disk_exists=True), freed.operation.deadline_at, POLICY)
    )
    assert (freed.home_disk, late.error and late.error.code) == (None, "DELETE_TIMED_OUT")
    assert [note.what for note in accepted.notes] == ["HomeDeleted"]


def test_a_stopped_workspace_has_lost_its_memory_and_a_suspended_one_has_not() -> None:
    """Only what was suspended may be thawed."""
    operation = an_operation(OperationKind.STOP, Phase.AWAIT_SUSPENDED)
    workspace = a_workspace(Status.READY, operation)

    suspended = steps.plan(
        workspace, StepInput(instance=an_instance(workspace, InstanceState.SUSPENDED)), NOW, POLICY
    )
    stopped = steps.plan(
        workspace, StepInput(instance=an_instance(workspace, InstanceState.TERMINATED)), NOW, POLICY
    )

    assert (changed(suspended).memory_is_ready, changed(stopped).memory_is_ready) == (True, False)
    assert changed(suspended).suspended_at == changed(stopped).suspended_at == NOW


def test_an_insert_that_was_made_before_is_adopted_with_its_id() -> None:
    """A worker died after its insert: the machine that is there is the one that was asked for."""
    workspace = a_workspace(
        Status.PROVISIONING, an_operation(OperationKind.CREATE), instance_id=None
    )

    after = changed(
        steps.plan(workspace, StepInput(instance=an_instance(workspace, id="42")), NOW, POLICY)
    )

    assert after.instance_id == "42"


def test_a_new_machine_forgets_the_old_ones_id() -> None:
    """Until the insert is recorded nobody knows whose reports are the new machine's."""
    workspace = a_workspace(Status.ERROR, an_operation(OperationKind.START))

    assert changed(steps.plan(workspace, StepInput(), NOW, POLICY)).instance_id is None


@pytest.mark.parametrize(("left", "pause"), [(40, 15), (7, 7)])
def test_a_record_is_kept_until_no_superseded_worker_can_be_running(left: int, pause: int) -> None:
    """A DELETE that superseded a boot waits for the longest time that its worker may take, then forgets."""
    after = NOW + timedelta(seconds=left)
    operation = an_operation(OperationKind.DELETE, Phase.FORGET, forget_after=after)
    workspace = a_workspace(Status.READY, operation)

    waiting = steps.plan(workspace, StepInput(), NOW, POLICY)
    forgotten = steps.plan(workspace, StepInput(), after, POLICY)

    assert isinstance(waiting, Change)
    assert waiting.job is not None
    assert (waiting.job.delay, changed(waiting).operation is not None) == (
        timedelta(seconds=pause),
        True,
    )
    assert forgotten == Change(None, "WorkspaceDeleted")


# ---- faults ---------------------------------------------------------------------------------------------------------

# What a refusal of the calling phase means, told at once or by Compute's operation, in the words of
# the state table.
REFUSALS = {
    ("CREATE", Phase.INSERT): {
        FaultKind.STOCK_OUT: "to delete_disk",
        FaultKind.QUOTA: "fails COMPUTE_QUOTA_EXCEEDED: to delete_instance",
        FaultKind.PERMISSION: "again insert",
        FaultKind.POLICY: "fails COMPUTE_POLICY_FORBIDS: to delete_instance",
        FaultKind.IN_USE: "again insert",
        FaultKind.INVALID: "fails COMPUTE_REFUSED: to delete_instance",
        FaultKind.UNSUPPORTED: "fails COMPUTE_REFUSED: to delete_instance",
        FaultKind.NOT_FOUND: "fails COMPUTE_REFUSED: to delete_instance",
        FaultKind.NOT_READY: "again insert",
        FaultKind.ALREADY_EXISTS: "again insert",
        FaultKind.TRANSIENT: "again insert",
    },
    ("START", Phase.INSERT): {
        FaultKind.STOCK_OUT: "ends SUSPENDED NO_CAPACITY",
        FaultKind.QUOTA: "fails COMPUTE_QUOTA_EXCEEDED: to stop",
        FaultKind.PERMISSION: "again insert",
        FaultKind.POLICY: "fails COMPUTE_POLICY_FORBIDS: to stop",
        FaultKind.IN_USE: "again insert",
        FaultKind.INVALID: "fails COMPUTE_REFUSED: to stop",
        FaultKind.UNSUPPORTED: "fails COMPUTE_REFUSED: to stop",
        FaultKind.NOT_FOUND: "fails COMPUTE_REFUSED: to stop",
        FaultKind.NOT_READY: "again insert",
        FaultKind.ALREADY_EXISTS: "again insert",
        FaultKind.TRANSIENT: "again insert",
    },
    **{
        ("START", phase): {
            FaultKind.STOCK_OUT: "ends SUSPENDED NO_CAPACITY",
            FaultKind.QUOTA: "fails COMPUTE_QUOTA_EXCEEDED: to stop",
            FaultKind.PERMISSION: f"again {phase}",
            FaultKind.POLICY: "fails COMPUTE_POLICY_FORBIDS: to stop",
            FaultKind.IN_USE: f"again {phase}",
            FaultKind.INVALID: "to survey" if phase is not Phase.RESUME else "again resume",
            FaultKind.UNSUPPORTED: "to survey",
            FaultKind.NOT_FOUND: f"again {phase}",
            FaultKind.NOT_READY: f"again {phase}",
            FaultKind.ALREADY_EXISTS: f"again {phase}",
            FaultKind.TRANSIENT: f"again {phase}",
        }
        for phase in (Phase.RESUME, Phase.SET_METADATA, Phase.START)
    },
    ("STOP", Phase.SUSPEND): {
        FaultKind.STOCK_OUT: "again suspend",
        FaultKind.QUOTA: "ends READY COMPUTE_QUOTA_EXCEEDED",
        FaultKind.PERMISSION: "again suspend",
        FaultKind.POLICY: "ends READY COMPUTE_POLICY_FORBIDS",
        FaultKind.IN_USE: "again suspend",
        FaultKind.INVALID: "again suspend",
        FaultKind.UNSUPPORTED: "to stop",
        FaultKind.NOT_FOUND: "again suspend",
        FaultKind.NOT_READY: "again suspend",
        FaultKind.ALREADY_EXISTS: "again suspend",
        FaultKind.TRANSIENT: "again suspend",
    },
    ("STOP", Phase.STOP): {
        FaultKind.QUOTA: "ends READY COMPUTE_QUOTA_EXCEEDED",
        FaultKind.PERMISSION: "again stop",
        FaultKind.POLICY: "ends READY COMPUTE_POLICY_FORBIDS",
        FaultKind.IN_USE: "again stop",
        FaultKind.INVALID: "ends READY COMPUTE_REFUSED",
        FaultKind.UNSUPPORTED: "ends READY COMPUTE_REFUSED",
        FaultKind.STOCK_OUT: "again stop",
        FaultKind.NOT_FOUND: "again stop",
        FaultKind.NOT_READY: "again stop",
        FaultKind.ALREADY_EXISTS: "again stop",
        FaultKind.TRANSIENT: "again stop",
    },
    **{
        (title, phase): {
            FaultKind.QUOTA: end.format("COMPUTE_QUOTA_EXCEEDED"),
            FaultKind.PERMISSION: f"again {phase}",
            FaultKind.POLICY: end.format("COMPUTE_POLICY_FORBIDS"),
            FaultKind.IN_USE: f"again {phase}",
            FaultKind.INVALID: end.format("COMPUTE_REFUSED"),
            FaultKind.UNSUPPORTED: end.format("COMPUTE_REFUSED"),
            FaultKind.STOCK_OUT: f"again {phase}",
            FaultKind.NOT_FOUND: f"again {phase}",
            FaultKind.NOT_READY: f"again {phase}",
            FaultKind.ALREADY_EXISTS: f"again {phase}",
            FaultKind.TRANSIENT: f"again {phase}",
        }
        for title, end in (("DELETE", "ends ERROR {}"), ("CREATE, failed", "ends ERROR SOMETHING"))
        for phase in (Phase.DELETE_INSTANCE, Phase.DELETE_DISK)
    },
}
CASES = [(title, phase, kind) for (title, phase), meanings in REFUSALS.items() for kind in meanings]


def test_every_kind_of_fault_has_its_meaning_here() -> None:
    """Nothing that Compute may say is left out of the table."""
    assert all(set(meanings) == set(FaultKind) for meanings in REFUSALS.values())


@pytest.mark.parametrize(("title", "phase", "kind"), CASES)
def test_what_a_refusal_means(title: str, phase: Phase, kind: FaultKind) -> None:
    """The same whether Compute refuses the call at once or its operation ends so; the reason is Compute's, in words."""
    operation_kind, failed, _ = PHASES[title]
    calling = situation(operation_kind, phase, failed=failed, awake=True)
    command = next(command for command, awaits in AWAITS.items() if steps._CALLING[awaits] is phase)  # noqa: SLF001 -- the inverse is checked
    waiting = situation(operation_kind, AWAITS[command], failed=failed, awake=True)
    seen = StepInput(instance=None if phase is Phase.INSERT else an_instance(calling))

    at_once = steps.record_outcome(
        calling, seen, Call(some(command, calling), AWAITS[command]), fault(kind), NOW, POLICY
    )
    later = steps.plan(
        waiting, replace(seen, fault=fault(kind), instance=seen.instance), NOW, POLICY
    )

    expected = REFUSALS[title, phase][kind]
    assert move_in_words(calling, at_once) == expected
    said = move_in_words(waiting, later)
    assert said == expected
    after = changed(at_once)
    problem = after.error if after.operation is None else after.operation.failure
    if problem and problem.code.startswith("COMPUTE"):
        assert fault(kind).message in problem.message
        assert command.__name__ in problem.message
        assert problem.operation_kind is operation_kind


@pytest.mark.parametrize("kind", [OperationKind.CREATE, OperationKind.START])
def test_a_workspace_without_data_goes_through_the_zones(kind: OperationKind) -> None:
    """Each zone that is out of capacity is left with what may be there; the next one gets a new generation."""
    operation = an_operation(kind, Phase.INSERTING)
    workspace = a_workspace(Status.PROVISIONING, operation, zone="us-west1-b")

    leaving = changed(
        steps.plan(workspace, StepInput(fault=fault(FaultKind.STOCK_OUT)), NOW, POLICY)
    )
    moved = changed(steps.plan(leaving, StepInput(), NOW, POLICY))

    assert leaving.operation is not None
    assert (leaving.operation.phase, leaving.operation.zones_tried) == (
        Phase.DELETE_DISK,
        ("us-west1-b",),
    )
    assert (moved.zone, moved.generation, moved.instance_id) == (
        "us-west1-a",
        workspace.generation + 1,
        None,
    )
    assert moved.operation is not None
    assert moved.operation.phase is Phase.INSERT


def test_a_create_that_finds_no_capacity_anywhere_names_the_zones() -> None:
    """The last zone's stock-out fails the CREATE, saying where it was tried."""
    operation = an_operation(
        OperationKind.CREATE, Phase.INSERTING, zones_tried=("us-west1-a", "us-west1-b")
    )
    workspace = a_workspace(Status.PROVISIONING, operation, zone="us-west1-c")

    after = changed(steps.plan(workspace, StepInput(fault=fault(FaultKind.STOCK_OUT)), NOW, POLICY))

    assert after.operation is not None
    problem = after.operation.failure
    assert problem is not None
    assert (problem.code, problem.retryable) == ("NO_CAPACITY", True)
    assert "us-west1-a, us-west1-b, us-west1-c" in problem.message


@pytest.mark.parametrize("phase", [Phase.AWAIT_RUNNING, Phase.STARTING, Phase.INSERTING])
def test_a_start_that_finds_no_capacity_is_suspended_again(phase: Phase) -> None:
    """The disk is in that zone: SUSPENDED, with an error that says to try later; no other machine is to be expected.

    Its owner has asked for it: the time after which a suspended workspace is forgotten begins anew.
    """
    workspace = a_workspace(Status.SUSPENDED, an_operation(OperationKind.START, phase))

    after = changed(steps.plan(workspace, StepInput(fault=fault(FaultKind.STOCK_OUT)), NOW, POLICY))

    assert (after.status, after.operation, after.suspended_at) == (Status.SUSPENDED, None, NOW)
    assert after.error is not None
    assert (after.error.code, after.error.retryable) == ("NO_CAPACITY", True)
    assert workspace.zone in after.error.message
    assert after.instance_id == (None if phase is Phase.INSERTING else workspace.instance_id)


# ---- deadlines ------------------------------------------------------------------------------------------------------

# What comes of an operation whose time is over, by what is seen then.
OVERDUE = {
    (
        "CREATE",
        Phase.INSERTING,
        InstanceState.STAGING,
    ): "fails CREATE_TIMED_OUT: to delete_instance",
    (
        "CREATE",
        Phase.AWAIT_READY,
        InstanceState.RUNNING,
    ): "fails NOT_READY_IN_TIME: to delete_instance",
    ("CREATE, failed", Phase.AWAIT_ABSENT, InstanceState.RUNNING): "ends ERROR SOMETHING",
    ("START", Phase.SURVEY, InstanceState.STAGING): "fails START_TIMED_OUT: to stop",
    ("START", Phase.AWAIT_RUNNING, InstanceState.STAGING): "fails START_TIMED_OUT: to stop",
    ("START", Phase.INSERTING, InstanceState.STAGING): "fails START_TIMED_OUT: to stop",
    ("START", Phase.AWAIT_READY, InstanceState.RUNNING): "fails NOT_READY_IN_TIME: to stop",
    ("START, failed", Phase.AWAIT_STOPPED, InstanceState.RUNNING): "ends ERROR SOMETHING",
    ("STOP", Phase.AWAIT_SUSPENDED, InstanceState.RUNNING): "ends READY STOP_TIMED_OUT",
    ("STOP", Phase.AWAIT_SUSPENDED, InstanceState.SUSPENDING): "ends READY STOP_TIMED_OUT",
    ("STOP", Phase.AWAIT_STOPPED, None): "ends ERROR MACHINE_GONE",
    ("DELETE", Phase.AWAIT_ABSENT, InstanceState.STOPPING): "ends ERROR DELETE_TIMED_OUT",
    ("DELETE", Phase.AWAIT_ABSENT, None): "ends ERROR DELETE_TIMED_OUT",
}


@pytest.mark.parametrize(("title", "phase", "state"), OVERDUE)
def test_an_operation_whose_time_is_over_ends(
    title: str, phase: Phase, state: InstanceState | None
) -> None:
    """To the second; somebody looks again at what may still be on its way."""
    kind, failed, _ = PHASES[title]
    workspace = situation(kind, phase, failed=failed, awake=True)
    assert workspace.operation is not None
    deadline = workspace.operation.deadline_at
    seen = StepInput(instance=an_instance(workspace, state) if state else None)

    before = steps.plan(
        workspace, replace(seen, pending=True), deadline - timedelta(seconds=1), POLICY
    )
    over = steps.plan(workspace, seen, deadline, POLICY)

    assert move_in_words(workspace, before) == "waits"
    assert move_in_words(workspace, over) == OVERDUE[title, phase, state]
    after = changed(over)
    if after.operation is None:
        assert after.attend_at == deadline + POLICY.attend_after
        assert after.machine_running is (state is InstanceState.RUNNING)
    else:
        assert after.operation.deadline_at == deadline + POLICY.deadlines.delete


def test_a_delete_whose_time_is_over_goes_on_where_only_looks_are_left() -> None:
    """Its disks were deleted in time, and nobody had looked yet: nothing of it would be left to delete again."""
    for phase, goes_on in (
        (Phase.AWAIT_DISK_ABSENT, "to delete_disk"),
        (Phase.DELETE_DISK, "to forget"),
    ):
        workspace = situation(OperationKind.DELETE, phase, failed=False, awake=True)
        assert workspace.operation is not None
        late = workspace.operation.deadline_at
        assert move_in_words(workspace, steps.plan(workspace, StepInput(), late, POLICY)) == goes_on
        for seen in (
            StepInput(disk_exists=True),
            StepInput(disks=(a_home(workspace),)),
            StepInput(pending=True),
        ):
            assert (
                move_in_words(workspace, steps.plan(workspace, seen, late, POLICY))
                == "ends ERROR DELETE_TIMED_OUT"
            )


# What had succeeded before anybody looked, when the queue was away until the time was over.
LATE = {
    ("START", Phase.AWAIT_RUNNING, InstanceState.RUNNING): "ends READY",
    ("STOP", Phase.AWAIT_SUSPENDED, InstanceState.SUSPENDED): "ends SUSPENDED",
    ("STOP", Phase.AWAIT_STOPPED, InstanceState.TERMINATED): "ends SUSPENDED",
    ("DELETE", Phase.FORGET, None): "forgotten",
}


@pytest.mark.parametrize(("title", "phase", "state"), LATE)
def test_what_has_succeeded_is_not_undone_by_a_late_look(
    title: str, phase: Phase, state: InstanceState | None
) -> None:
    """A deadline ends what is stuck, not what is done."""
    kind, failed, _ = PHASES[title]
    workspace = situation(kind, phase, failed=failed, awake=True)
    assert workspace.operation is not None
    late = workspace.operation.deadline_at + timedelta(hours=1)
    seen = StepInput(instance=an_instance(workspace, state) if state else None)

    assert (
        move_in_words(workspace, steps.plan(workspace, seen, late, POLICY))
        == LATE[title, phase, state]
    )


def test_a_machine_that_never_was_ready_is_not_called_ready_by_a_stop_that_timed_out() -> None:
    """Whatever it is doing when the time is over, only a boot that reported makes READY."""
    workspace = situation(OperationKind.STOP, Phase.AWAIT_STOPPED, failed=False, awake=False)
    assert workspace.operation is not None
    seen = StepInput(instance=an_instance(workspace, InstanceState.STOPPING))

    after = changed(steps.plan(workspace, seen, workspace.operation.deadline_at, POLICY))

    assert after.status is Status.ERROR


def test_a_disk_is_not_deleted_before_a_machine_that_came_late() -> None:
    """A worker that was overtaken by a DELETE may insert after it has looked: the machine goes first."""
    workspace = situation(OperationKind.DELETE, Phase.DELETE_DISK, failed=False, awake=True)
    seen = StepInput(instance=an_instance(workspace, InstanceState.RUNNING), disk_exists=True)

    assert (
        move_in_words(workspace, steps.plan(workspace, seen, NOW, POLICY)) == "to delete_instance"
    )


@pytest.mark.parametrize("kind", [OperationKind.CREATE, OperationKind.START])
def test_a_boot_that_never_reported_says_what_the_machine_printed(kind: OperationKind) -> None:
    """The error has the deadline and the tail of the serial console."""
    operation = an_operation(kind, Phase.AWAIT_READY, deadline_at=NOW)
    workspace = a_workspace(Status.PROVISIONING, operation)
    console = "x" * 5000 + "kernel panic"
    policy = Policy()

    assert steps.reads_console(workspace, NOW)
    after = changed(
        steps.plan(
            workspace, StepInput(instance=an_instance(workspace), console=console), NOW, policy
        )
    )

    assert after.operation is not None
    problem = after.operation.failure
    assert problem is not None
    assert problem.message.endswith("kernel panic")
    assert f"within {policy.deadlines.of(kind).total_seconds() / 60:g} minutes" in problem.message
    assert len(problem.message) < steps.CONSOLE_TAIL_BYTES + 300


def test_what_a_machine_prints_cannot_be_taken_for_what_the_hub_says() -> None:
    """Each line is quoted, and nothing in it controls a terminal or hides."""
    workspace = a_workspace(
        Status.PROVISIONING, an_operation(OperationKind.START, Phase.AWAIT_READY, deadline_at=NOW)
    )
    console = (
        "\x1b[2J[  OK  ] Started ssh.\r\n\r\nYour workspace is safe.\u202e Log in\u200b again.\r\n"
    )

    after = changed(
        steps.plan(
            workspace, StepInput(instance=an_instance(workspace), console=console), NOW, POLICY
        )
    )

    assert after.operation is not None
    assert after.operation.failure is not None
    printed = after.operation.failure.message.partition(" The machine printed last:\n")[2]
    assert printed == "> [ OK ] Started ssh.\n> Your workspace is safe. Log in again."


def test_the_console_is_read_only_when_a_boot_is_overdue() -> None:
    """No other step pays for it."""
    booting = a_workspace(
        Status.PROVISIONING, an_operation(OperationKind.CREATE, Phase.AWAIT_READY)
    )
    stopping = a_workspace(Status.READY, an_operation(OperationKind.STOP, deadline_at=NOW))

    assert not steps.reads_console(booting, NOW)
    assert not steps.reads_console(stopping, NOW)
    assert not steps.reads_console(a_workspace(Status.READY), NOW)


def test_the_home_is_looked_at_only_where_a_step_goes_by_it() -> None:
    """Every other step is one read of Compute less."""
    looks = {
        (kind, phase)
        for kind in OperationKind
        for phase in Phase
        if steps.reads_disk(an_operation(kind, phase))
    }
    everywhere = {Phase.INSERT, Phase.DELETE_DISK, Phase.AWAIT_DISK_ABSENT, Phase.FORGET}
    assert looks == {(kind, phase) for kind in OperationKind for phase in everywhere} | {
        (OperationKind.START, Phase.DELETE_INSTANCE)
    }


def test_other_zones_are_searched_only_for_what_is_missing_or_to_be_deleted() -> None:
    """The usual create, start and stop make none of the costly lists."""
    usual = [
        (OperationKind.CREATE, Status.PROVISIONING, Phase.INSERT, None),
        (OperationKind.START, Status.SUSPENDED, Phase.SURVEY, InstanceState.SUSPENDED),
        (OperationKind.START, Status.ERROR, Phase.INSERT, None),
        (OperationKind.STOP, Status.READY, Phase.SUSPEND, InstanceState.RUNNING),
    ]
    for kind, status, phase, state in usual:
        workspace = a_workspace(status, an_operation(kind, phase))
        seen = StepInput(
            instance=an_instance(workspace, state) if state else None, disk_exists=True
        )
        assert steps.seeks_elsewhere(workspace, seen) == (False, False)
    missing = a_workspace(Status.SUSPENDED, an_operation(OperationKind.START))
    assert steps.seeks_elsewhere(missing, StepInput()) == (True, False)
    homeless = a_workspace(Status.ERROR, an_operation(OperationKind.START, Phase.INSERT))
    assert steps.seeks_elsewhere(homeless, StepInput()) == (False, True)
    deleting = a_workspace(Status.READY, an_operation(OperationKind.DELETE, Phase.DELETE_DISK))
    assert steps.seeks_elsewhere(deleting, StepInput(disk_exists=True)) == (False, False)
    assert steps.seeks_elsewhere(deleting, StepInput()) == (True, True)


def test_there_is_no_step_without_an_operation() -> None:
    """Planning, settling and failing an operation that there is not is a mistake of the caller."""
    idle = a_workspace(Status.READY)
    call = Call(StopInstance(Place("z", "n")), Phase.AWAIT_STOPPED)

    with pytest.raises(ValueError, match="no operation"):
        steps.plan(idle, StepInput(), NOW, POLICY)
    with pytest.raises(ValueError, match="no operation"):
        steps.record_outcome(idle, StepInput(), call, StartedCall("gce-1"), NOW, POLICY)
    with pytest.raises(ValueError, match="no operation"):
        steps.fail_from_outside(idle, A_PROBLEM, NOW, POLICY)
