"""The state table: each cell, deadlines, and the meaning of each refusal by Compute."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from shared.domain import steps
from shared.domain.changes import Change, Forgotten, Updated, job_of
from shared.domain.drift import ObservedState
from shared.domain.instance import (
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    FaultKind,
    InsertInstance,
    InstanceState,
    Place,
    RefreshMetadata,
    ResizeDisk,
    ResumeInstance,
    StartedCall,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from shared.domain.policy import Policy, UsualTimes
from shared.domain.snapshots import snapshot_place
from shared.domain.steps import Call, PlainMove, StepInput
from shared.domain.workspace import HomeDisk, OperationKind, Phase, Status, Workspace
from tests.fakes.machines import fault
from tests.fakes.records import (
    A_PROBLEM,
    NOW,
    POLICY,
    a_home,
    a_step,
    a_workspace,
    an_instance,
    an_operation,
)
from tests.unit.domain.state_table import (
    PHASES,
    a_copy,
    move_in_words,
    observations,
    situation,
    table_in_words,
)

SNAPSHOT = Path(__file__).parent / "state_table.txt"
CELLS = [
    (title, phase, memory_is_ready)
    for title, (_, _, phases) in PHASES.items()
    for phase in phases
    for memory_is_ready in (True, False)
]
# The phase that waits for each command, and so must follow it.
AWAITED_IN: dict[type[Command], Phase] = {
    InsertInstance: Phase.INSERTING,
    RefreshMetadata: Phase.AWAIT_METADATA,
    StartInstance: Phase.STARTING,
    ResumeInstance: Phase.AWAIT_RUNNING,
    SuspendInstance: Phase.AWAIT_SUSPENDED,
    StopInstance: Phase.AWAIT_STOPPED,
    DeleteInstance: Phase.AWAIT_ABSENT,
    DeleteDisk: Phase.AWAIT_DISK_ABSENT,
    CreateSnapshot: Phase.AWAIT_SNAPSHOT,
    ResizeDisk: Phase.AWAIT_RESIZED,
}

USUAL: dict[type[Command], timedelta] = {
    InsertInstance: POLICY.usual.insert,
    RefreshMetadata: POLICY.usual.set_metadata,
    StartInstance: POLICY.usual.start,
    ResumeInstance: POLICY.usual.resume,
    SuspendInstance: POLICY.usual.suspend,
    StopInstance: POLICY.usual.stop,
    DeleteInstance: POLICY.usual.delete,
    DeleteDisk: POLICY.usual.delete_disk,
    CreateSnapshot: POLICY.usual.snapshot,
    ResizeDisk: POLICY.usual.resize_disk,
}


def changed(change: Change | Call) -> Workspace:
    """Return the workspace of a change that must be one."""
    assert isinstance(change, Updated)
    assert change.workspace is not None
    return change.workspace


def test_the_table_is_the_approved_one() -> None:
    """``UPDATE_STATE_TABLE=1 pytest …`` writes ``state_table.txt`` again after a wanted change."""
    table = table_in_words()

    if os.environ.get("UPDATE_STATE_TABLE"):
        SNAPSHOT.write_text(table, encoding="utf-8")
    assert table == SNAPSHOT.read_text(encoding="utf-8")


def test_the_table_has_a_move_for_every_phase_and_observed_state() -> None:
    """The table is complete, and the approved copy names every phase."""
    by_machine = set(Phase) - set(steps.DISK_TABLE) - steps.SNAPSHOT_PHASES - steps.GROWING_PHASES
    assert set(steps.TABLE) == {(phase, seen) for phase in by_machine for seen in ObservedState}
    assert set(steps.SNAPSHOT_TABLE) == {
        (phase, seen) for phase in steps.SNAPSHOT_PHASES for seen in steps.ObservedSnapshot
    }
    assert {phase for _, _, phases in PHASES.values() for phase in phases} == set(Phase)


@pytest.mark.parametrize(("title", "phase", "memory_is_ready"), CELLS)
def test_every_cell_is_a_legal_move(title: str, phase: Phase, memory_is_ready: bool) -> None:
    """Each is a call on the workspace's own resources, the operation's next step, or its end."""
    kind, failed, phases = PHASES[title]
    workspace = situation(kind, phase, failed=failed, memory_is_ready=memory_is_ready)
    for name, seen in observations(workspace):
        step = a_step(workspace, seen)
        decision, move = steps.plan(step), steps.move_of(step)
        if isinstance(move, PlainMove):
            assert str(move) == move_in_words(workspace, decision), name
        if isinstance(decision, Call):
            assert decision.leads_to is AWAITED_IN[type(decision.command)], name
            disk = isinstance(decision.command, DeleteDisk | ResizeDisk)
            wanted = workspace.disk_name if disk else workspace.instance_name
            wanted = seen.disks[0].name if disk and seen.disks else wanted
            place = Place(workspace.zone, wanted)
            if isinstance(decision.command, CreateSnapshot):
                assert workspace.operation is not None
                place = snapshot_place(workspace.id, workspace.operation.id)
            assert decision.command.place == place, name
            assert decision.leads_to in phases, name
        else:
            makes = kind in {OperationKind.RESTORE, OperationKind.START}
            further = {Phase.INSERT} if makes else set()
            further |= {Phase.SURVEY} if kind is OperationKind.START else set()
            check_change(
                workspace, decision, {*phases, *further, Phase.STOP, Phase.DELETE_INSTANCE}
            )


def check_change(before: Workspace, change: Change, phases: set[Phase]) -> None:
    """Check what holds for the change of every step."""
    operation = before.operation
    assert operation is not None
    if isinstance(change, Forgotten):
        assert operation.phase is Phase.FORGET
        return
    after = change.workspace
    assert after.updated_at == NOW
    assert after.generation in {before.generation, before.generation + 1}
    if after.operation is None:
        assert after.status is not Status.PROVISIONING
        looks = operation.kind is OperationKind.SNAPSHOT  # at a machine that is not as recorded
        assert change.job is None or (looks and change.job.operation_id is None)
        return
    assert (after.operation.id, after.operation.kind) == (operation.id, operation.kind)
    assert after.operation.step == operation.step + 1
    assert after.operation.phase in phases
    assert change.job is not None
    assert change.job == job_of(after, after.operation, change.job.delay)
    assert timedelta(0) <= change.job.delay <= max(POLICY.look_max, POLICY.usual.boot)
    assert after.attend_at == NOW + change.job.delay + POLICY.attend_after
    if after.generation > before.generation:
        assert (after.status, after.ready_generation) == (Status.PROVISIONING, None)
        assert after.operation.phase in {Phase.INSERT, Phase.SET_METADATA}


# ---- the outcome of a call ----


@pytest.mark.parametrize("command_type", AWAITED_IN)
def test_after_an_accepted_call_the_operation_waits(command_type: type[Command]) -> None:
    """It records Compute's operation, and looks when that has usually ended."""
    workspace = a_workspace(
        Status.READY, an_operation(OperationKind.START, Phase.SURVEY, attempt=2)
    )
    call = Call(command_of(command_type, workspace), AWAITED_IN[command_type])

    change = steps.record_outcome(a_step(workspace), call, StartedCall("gce-1", "77"))

    after = changed(change)
    assert after.operation is not None
    assert (after.operation.phase, after.operation.gce_operation) == (
        AWAITED_IN[command_type],
        "gce-1",
    )
    assert (after.operation.step, after.operation.attempt, after.operation.phase_since) == (
        8,
        2,
        NOW,
    )
    assert change.job is not None
    assert change.job.delay == USUAL[command_type]
    assert after.instance_id == ("77" if command_type is InsertInstance else workspace.instance_id)
    assert after.generation == workspace.generation


def command_of(command_type: type[Command], workspace: Workspace) -> Command:
    """Return a command of this type for the workspace."""
    place = Place(workspace.zone, workspace.instance_name)
    if command_type is InsertInstance:
        return planned_insert(workspace)
    if command_type is RefreshMetadata:
        return RefreshMetadata(
            place=place,
            workspace_id=workspace.id,
            workspace_name=workspace.name,
            image_tag=workspace.image_tag,
            generation=workspace.generation,
            repo=None,
            branch=None,
        )
    if command_type is CreateSnapshot:
        return CreateSnapshot(
            place=snapshot_place(workspace.id, "a-snapshot"),
            disk=Place(workspace.zone, workspace.disk_name),
            workspace_id=workspace.id,
            owner_id=workspace.owner_id,
        )
    simple: dict[type[Command], Command] = {
        StartInstance: StartInstance(place),
        ResumeInstance: ResumeInstance(place),
        SuspendInstance: SuspendInstance(place),
        StopInstance: StopInstance(place),
        DeleteInstance: DeleteInstance(place),
        DeleteDisk: DeleteDisk(Place(workspace.zone, workspace.disk_name)),
        ResizeDisk: ResizeDisk(Place(workspace.zone, workspace.disk_name), 100),
    }
    return simple[command_type]


def planned_insert(workspace: Workspace, *, disk_exists: bool = False) -> InsertInstance:
    """Return the insert that ``steps.plan`` makes for a workspace."""
    operation = an_operation(OperationKind.CREATE, Phase.INSERT)
    inserting = replace(
        workspace,
        operation=operation,
        home_disk=workspace.home_disk if disk_exists else None,
        home_source=None,
    )
    decision = steps.plan(a_step(inserting, StepInput(disk_exists=disk_exists)))
    assert isinstance(decision, Call)
    assert isinstance(decision.command, InsertInstance)
    return decision.command


def test_an_insert_has_everything_that_the_machine_is_made_from() -> None:
    """All comes from the record; an existing home disk is attached instead of created."""
    workspace = a_workspace(Status.PROVISIONING)

    command = planned_insert(workspace)

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
    assert planned_insert(workspace, disk_exists=True).attach_home is True


# ---- waiting ----


@pytest.mark.parametrize(
    ("lasts", "pause"),
    [
        *((0, 20), (5, 15), (19, 1), (19.9, 1)),  # a job that came early
        *((20, 5), (40, 10), (60, 15), (500, 15)),
        (-30, 20),  # another instance's clock is ahead
    ],
)
def test_a_call_is_looked_at_when_it_has_usually_ended_then_after_a_quarter(
    lasts: float, pause: float
) -> None:
    """A suspend usually takes 20 seconds. Waiting adds at most a quarter to what it takes."""
    since = NOW - timedelta(seconds=lasts)
    workspace = a_workspace(
        Status.READY, an_operation(OperationKind.STOP, Phase.AWAIT_SUSPENDED, phase_since=since)
    )

    change = steps.plan(a_step(workspace, StepInput(pending=True)))

    assert isinstance(change, Updated)
    assert change.job is not None
    assert change.job.delay == timedelta(seconds=pause)
    assert workspace.operation is not None
    assert changed(change).operation == replace(workspace.operation, step=8)


@pytest.mark.parametrize(("lasts", "pause"), [(0, 1), (4, 1), (8, 2), (40, 10), (500, 15)])
@pytest.mark.parametrize("phase", [Phase.SURVEY, Phase.AWAIT_READY])
def test_what_the_hub_did_not_ask_for_is_looked_at_after_a_quarter(
    phase: Phase, lasts: int, pause: int
) -> None:
    """Nothing usual is known of a machine that somebody suspends by hand, while it boots or not."""
    since = NOW - timedelta(seconds=lasts)
    workspace = a_workspace(
        Status.PROVISIONING, an_operation(OperationKind.START, phase, phase_since=since)
    )
    suspending = an_instance(workspace, InstanceState.SUSPENDING)

    change = steps.plan(a_step(workspace, StepInput(instance=suspending)))

    assert isinstance(change, Updated)
    assert change.job is not None
    assert change.job.delay == timedelta(seconds=pause)


@pytest.mark.parametrize(("lasts", "pause"), [(0, 60), (45, 15), (60, 30), (200, 100), (20, 40)])
def test_a_boot_is_looked_at_after_its_usual_time_then_after_half(lasts: int, pause: int) -> None:
    """The machine's report ends it, so a look only finds a machine that was lost."""
    since = NOW - timedelta(seconds=lasts)
    workspace = a_workspace(
        Status.PROVISIONING,
        an_operation(OperationKind.CREATE, Phase.AWAIT_READY, phase_since=since),
    )

    change = steps.plan(a_step(workspace, StepInput(instance=an_instance(workspace))))

    assert isinstance(change, Updated)
    assert change.job is not None
    assert change.job.delay == timedelta(seconds=pause)


@pytest.mark.parametrize(("left", "pause"), [(600, 60), (60, 60), (12, 12), (0.2, 1)])
def test_no_look_is_later_than_the_deadline(left: float, pause: float) -> None:
    """An operation ends at its deadline, however long its phase usually lasts."""
    operation = an_operation(
        OperationKind.CREATE, Phase.INSERTING, deadline_at=NOW + timedelta(seconds=left)
    )
    workspace = a_workspace(Status.PROVISIONING, operation)

    change = steps.plan(a_step(workspace, StepInput(instance=an_instance(workspace))))

    assert isinstance(change, Updated)
    assert change.job is not None
    assert change.job.delay == timedelta(seconds=pause)
    assert changed(change).attend_at == NOW + change.job.delay + POLICY.attend_after


def test_a_usual_time_is_never_shorter_than_the_shortest_pause() -> None:
    """A setting of 0 does not make a worker look again and again."""
    policy = replace(POLICY, usual=UsualTimes(suspend=timedelta(0)))
    workspace = a_workspace(Status.READY, an_operation(OperationKind.STOP))
    step = replace(a_step(workspace), policy=policy)
    call = Call(command_of(SuspendInstance, workspace), Phase.AWAIT_SUSPENDED)

    change = steps.record_outcome(step, call, StartedCall("gce-1", "77"))

    assert change.job is not None
    assert change.job.delay == policy.look_min


@pytest.mark.parametrize(("attempt", "pause"), [(0, 2), (1, 4), (2, 8), (3, 15), (99, 15)])
def test_the_pause_before_an_attempt_doubles(attempt: int, pause: int) -> None:
    """The pause before the next attempt doubles, up to fifteen seconds."""
    operation = an_operation(
        OperationKind.DELETE, Phase.AWAIT_ABSENT, attempt=attempt, gce_operation="gce-1"
    )
    workspace = a_workspace(Status.READY, operation)

    change = steps.plan(a_step(workspace, StepInput(instance=an_instance(workspace))))

    assert isinstance(change, Updated)
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
def test_every_phase_waits_for_a_pending_compute_operation(title: str) -> None:
    """No other decision is made before Compute's own operation is done."""
    kind, failed, phases = PHASES[title]
    for phase in set(phases) - {Phase.SNAPSHOT, Phase.AWAIT_STORED}:  # they wait for no call
        workspace = situation(kind, phase, failed=failed, memory_is_ready=True)
        assert (
            move_in_words(workspace, steps.plan(a_step(workspace, StepInput(pending=True))))
            == "waits"
        )


# ---- conditional moves ----


@pytest.mark.parametrize("phase", [Phase.SUSPEND, Phase.STOP])
def test_a_heartbeat_after_the_decision_cancels_an_automatic_stop(phase: Phase) -> None:
    """A person who connects between the decision and the call can continue to work."""
    operation = an_operation(OperationKind.STOP, phase, automatic=True)
    connected = operation.requested_at + timedelta(microseconds=1)
    workspace = a_workspace(Status.READY, operation, last_connected_at=connected)

    after = changed(steps.plan(a_step(workspace, StepInput(instance=an_instance(workspace)))))

    assert (after.status, after.operation, after.error) == (Status.READY, None, None)
    assert (after.machine_running, after.last_connected_at) == (True, connected)


@pytest.mark.parametrize("automatic", [True, False])
def test_a_stop_continues_if_nobody_connected_or_a_person_asked_for_it(automatic: bool) -> None:
    """Only an automatic stop is undone, and only by a heartbeat that came after its request."""
    operation = an_operation(OperationKind.STOP, automatic=automatic)
    idle_after = POLICY.idle_after or timedelta(0)
    connected = operation.requested_at + (-idle_after if automatic else timedelta(seconds=5))
    workspace = a_workspace(Status.READY, operation, last_connected_at=connected)

    decision = steps.plan(a_step(workspace, StepInput(instance=an_instance(workspace))))

    assert isinstance(decision, Call)
    assert isinstance(decision.command, SuspendInstance)


def test_an_automatic_stop_leaves_a_machine_in_use_alone_in_error_too() -> None:
    """The person may be logged in although the container failed, or the interval may be longer."""
    operation = an_operation(OperationKind.STOP, automatic=True)
    broken = a_workspace(Status.ERROR, operation, ready_generation=None, last_connected_at=NOW)
    rare = replace(broken, last_connected_at=NOW - timedelta(minutes=70))
    rarely = an_instance(rare, heartbeat_interval=timedelta(minutes=30))
    for workspace, instance in ((broken, an_instance(broken)), (rare, rarely)):
        after = changed(steps.plan(a_step(workspace, StepInput(instance=instance))))
        assert (after.status, after.operation, after.error) == (Status.ERROR, None, A_PROBLEM)


def test_a_refused_replacement_keeps_the_memory() -> None:
    """Memory is lost when Compute accepts the delete, not when a person asks."""
    workspace = a_workspace(
        Status.SUSPENDED, an_operation(OperationKind.START, Phase.DELETE_INSTANCE, remade=True)
    )
    workspace = replace(workspace, instance_id=None)
    call = Call(DeleteInstance(Place(workspace.zone, workspace.instance_name)), Phase.AWAIT_ABSENT)

    refused = changed(steps.record_outcome(a_step(workspace), call, fault(FaultKind.POLICY)))
    accepted = changed(steps.record_outcome(a_step(workspace), call, StartedCall("gce-1")))

    assert (refused.has_memory, refused.memory_kept) == (True, None)
    assert (accepted.has_memory, accepted.memory_kept) == (False, False)


def test_a_machine_that_refuses_to_suspend_twice_is_stopped() -> None:
    """The guest may have been busy; the second time memory is given up and the reason recorded."""
    workspace = a_workspace(Status.READY, an_operation(OperationKind.STOP, Phase.AWAIT_SUSPENDED))
    running = StepInput(instance=an_instance(workspace))

    once = changed(steps.plan(a_step(workspace, running)))
    assert once.operation is not None
    assert once.operation.phase is Phase.SUSPEND
    again = replace(once, operation=replace(once.operation, phase=Phase.AWAIT_SUSPENDED))
    twice = changed(steps.plan(a_step(again, running)))
    assert twice.operation is not None
    assert twice.operation.phase is Phase.STOP
    off = StepInput(instance=an_instance(twice, InstanceState.TERMINATED))
    ended = steps.plan(a_step(twice, off))

    after = changed(ended)
    assert (after.status, after.memory_kept) == (Status.SUSPENDED, False)
    assert "came back to running 2 times" in (after.memory_lost_because or "")
    assert isinstance(ended, Updated)
    assert [note.what for note in ended.notes] == ["MemoryLost"]


@pytest.mark.parametrize(
    "kind", [FaultKind.NOT_READY, FaultKind.TRANSIENT, FaultKind.IN_USE, FaultKind.STOCK_OUT]
)
def test_a_temporary_refusal_of_a_suspend_is_retried_until_the_deadline(
    kind: FaultKind,
) -> None:
    """At the deadline the STOP ends with Compute's message, and the machine continues to run."""
    workspace = a_workspace(Status.READY, an_operation(OperationKind.STOP, attempt=100))
    call = Call(
        SuspendInstance(Place(workspace.zone, workspace.instance_name)), Phase.AWAIT_SUSPENDED
    )

    waiting = changed(steps.record_outcome(a_step(workspace), call, fault(kind)))
    assert waiting.operation is not None
    assert waiting.operation.phase is Phase.SUSPEND
    over = changed(
        steps.plan(
            a_step(
                waiting, StepInput(instance=an_instance(waiting)), now=waiting.operation.deadline_at
            )
        )
    )

    assert (over.status, over.operation, over.memory_is_ready) == (Status.READY, None, True)
    assert over.error is not None
    assert over.error.code == "STOP_TIMED_OUT"
    assert fault(kind).message in over.error.message


def test_a_missing_permission_is_retried_and_then_reported() -> None:
    """It may have been granted just now; a suspend that is forbidden never becomes a stop."""
    workspace = a_workspace(Status.READY, an_operation(OperationKind.STOP))
    call = Call(
        SuspendInstance(Place(workspace.zone, workspace.instance_name)), Phase.AWAIT_SUSPENDED
    )
    patience_over = NOW + POLICY.rights_patience

    soon = steps.record_outcome(a_step(workspace), call, fault(FaultKind.PERMISSION))
    waiting = changed(soon)
    assert waiting.operation is not None
    # Only the time since the right has been missing counts, not the phase.
    waiting = replace(waiting, operation=replace(waiting.operation, phase_since=patience_over))
    late = steps.record_outcome(
        a_step(waiting, StepInput(instance=an_instance(workspace)), now=patience_over),
        call,
        fault(FaultKind.PERMISSION),
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
def test_a_start_creates_at_most_one_new_machine(
    phase: Phase, command: type[Command], state: InstanceState
) -> None:
    """A machine that cannot resume or boot is replaced once, and its home disk is kept.

    Its memory is lost only when its delete is accepted.
    """
    workspace = a_workspace(Status.SUSPENDED, an_operation(OperationKind.START, phase))
    refusal = fault(FaultKind.UNSUPPORTED)
    call = Call(command_of(command, workspace), AWAITED_IN[command])

    stuck = changed(steps.record_outcome(a_step(workspace), call, refusal))
    assert stuck.operation is not None
    assert (stuck.operation.phase, stuck.memory_is_ready) == (Phase.SURVEY, True)
    down = steps.plan(a_step(stuck, StepInput(instance=an_instance(stuck, state))))
    after = changed(down)
    assert after.operation is not None
    assert isinstance(down, Updated)
    assert ([note.what for note in down.notes], after.memory_is_ready) == (["MachineRemade"], True)
    delete = steps.plan(
        a_step(after, StepInput(instance=an_instance(after, state), disk_exists=True))
    )
    assert isinstance(delete, Call)
    deleting = steps.record_outcome(a_step(after), delete, StartedCall("gce-1"))
    gone = changed(deleting)
    assert (gone.memory_kept, gone.home_disk) == (False, workspace.home_disk)
    assert [note.what for note in deleting.notes] == ["MemoryLost"]
    again = replace(after, operation=replace(after.operation, phase=phase))
    refused = steps.record_outcome(a_step(again), call, refusal)
    assert move_in_words(again, refused) == "fails COMPUTE_REFUSED: to stop"


@pytest.mark.parametrize("remade", [True, False])
def test_a_machine_that_somebody_resumed_in_the_meantime_is_used(remade: bool) -> None:
    """A START neither replaces nor, after a failure, stops a machine that can be used."""
    phase = Phase.DELETE_INSTANCE if remade else Phase.STOP
    operation = an_operation(
        OperationKind.START, phase, remade=remade, failure=None if remade else A_PROBLEM
    )
    workspace = a_workspace(Status.SUSPENDED, operation)
    running = StepInput(instance=an_instance(workspace), disk_exists=True)
    unwanted = replace(workspace, instance_id=None)

    assert move_in_words(workspace, steps.plan(a_step(workspace, running))) == "ends READY"
    decision = steps.plan(a_step(unwanted, running))
    assert isinstance(decision, Call) or changed(decision).operation is not None


@pytest.mark.parametrize(
    ("phase", "command"), [(Phase.SUSPEND, SuspendInstance), (Phase.RESUME, ResumeInstance)]
)
def test_an_unknown_error_of_compute_keeps_the_memory(phase: Phase, command: type[Command]) -> None:
    """Unknown errors count as ``INVALID``; the call is repeated until the deadline."""
    kind = OperationKind.STOP if phase is Phase.SUSPEND else OperationKind.START
    workspace = a_workspace(Status.READY, an_operation(kind, phase))
    call = Call(command_of(command, workspace), AWAITED_IN[command])

    refused = steps.record_outcome(a_step(workspace), call, fault(FaultKind.INVALID))

    assert move_in_words(workspace, refused) == f"again {phase}"


def test_retention_does_not_delete_a_workspace_that_somebody_started() -> None:
    """An automatic DELETE deletes only what is off; a person's DELETE deletes everything."""
    operation = an_operation(OperationKind.DELETE, automatic=True)
    workspace = a_workspace(Status.SUSPENDED, operation)
    asked = replace(workspace, operation=replace(operation, automatic=False))
    for state in (InstanceState.RUNNING, InstanceState.STAGING, InstanceState.STOPPING):
        seen = StepInput(instance=an_instance(workspace, state))
        kept = changed(steps.plan(a_step(workspace, seen)))
        assert (kept.status, kept.operation, kept.attend_at) == (Status.SUSPENDED, None, NOW)
        assert isinstance(steps.plan(a_step(asked, seen)), Call)
    off = StepInput(instance=an_instance(workspace, InstanceState.SUSPENDED))
    begun = changed(steps.plan(a_step(workspace, off)))
    assert isinstance(steps.plan(a_step(begun, off)), Call)


def test_a_machine_that_retention_has_deleted_is_not_taken_for_a_started_one() -> None:
    """The worker may have died after its call: the machine is STOPPING then, or not yet."""
    begun = an_operation(OperationKind.DELETE, automatic=True, attempt=1)
    workspace = a_workspace(Status.SUSPENDED, begun)
    for state in (InstanceState.STOPPING, InstanceState.SUSPENDED):
        going = StepInput(instance=an_instance(workspace, state))
        assert isinstance(steps.plan(a_step(workspace, going)), Call)
    started = StepInput(instance=an_instance(workspace, InstanceState.RUNNING))
    assert changed(steps.plan(a_step(workspace, started))).operation is None


def test_a_home_disk_that_a_start_attaches_stays_in_its_zone() -> None:
    """It may hold a person's work, so a stock-out does not lead to another zone."""
    workspace = a_workspace(
        Status.ERROR, an_operation(OperationKind.START, Phase.INSERT), home_disk=None
    )
    home = HomeDisk(workspace.disk_name, workspace.zone)
    call = Call(
        planned_insert(replace(workspace, home_disk=home), disk_exists=True), Phase.INSERTING
    )

    accepted = changed(steps.record_outcome(a_step(workspace), call, StartedCall("gce-1", "7")))
    refused = steps.record_outcome(a_step(workspace), call, fault(FaultKind.STOCK_OUT))

    assert accepted.home_disk == home
    assert move_in_words(workspace, refused) == "ends SUSPENDED NO_CAPACITY"


def test_a_left_over_boot_disk_is_avoided_once_by_another_name() -> None:
    """The insert gets a new generation's name once; then the error names the disk.

    If the name of the home disk or of the machine is taken, the next look adopts it.
    """
    workspace = a_workspace(Status.SUSPENDED, an_operation(OperationKind.START, Phase.INSERT))
    call = Call(planned_insert(workspace), Phase.INSERTING)

    def refused(resource: str, before: Workspace = workspace) -> Workspace:
        taken = replace(fault(FaultKind.ALREADY_EXISTS), resource=resource)
        return changed(steps.record_outcome(a_step(before), call, taken))

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


def test_a_lost_home_disk_is_replaced_only_on_request() -> None:
    """Without ``empty_home`` the START fails; with it, an event records that the disk was lost."""
    workspace = a_workspace(Status.SUSPENDED, an_operation(OperationKind.START, Phase.INSERT))
    assert workspace.operation is not None
    agreed = replace(workspace, operation=replace(workspace.operation, empty_home=True))

    refused = changed(steps.plan(a_step(workspace)))
    call = steps.plan(a_step(agreed))

    assert refused.operation is not None
    assert refused.operation.failure is not None
    assert refused.operation.failure.code == steps.HOME_DISK_GONE
    assert "empty_home" in refused.operation.failure.message
    assert isinstance(call, Call)
    settled = steps.record_outcome(a_step(agreed), call, StartedCall("gce-1", "7"))
    assert [note.what for note in settled.notes] == ["HomeReplaced"]


def test_a_ready_report_can_save_a_failed_boot_until_its_clean_up_starts() -> None:
    """The clean-up starts with a commit of its own, so no machine that became ready is deleted."""
    failed = situation(
        OperationKind.CREATE, Phase.DELETE_INSTANCE, failed=True, memory_is_ready=False
    )
    assert failed.operation is not None
    assert steps.may_still_be_saved(failed.operation)

    begun = changed(steps.plan(a_step(failed, StepInput(instance=an_instance(failed)))))

    assert begun.operation is not None
    assert begun.operation.phase is Phase.DELETE_INSTANCE
    assert not steps.may_still_be_saved(begun.operation)
    assert isinstance(steps.plan(a_step(begun, StepInput(instance=an_instance(begun)))), Call)


def test_a_delete_deletes_every_disk_and_names_what_uses_one() -> None:
    """Home disk first, then boot disks; a home disk that stays in use ends the DELETE in time."""
    workspace = situation(
        OperationKind.DELETE, Phase.DELETE_DISK, failed=False, memory_is_ready=False
    )
    assert workspace.operation is not None
    home = StepInput(disk_exists=True, has_copy=a_copy(workspace))
    boot = a_home(workspace, name=f"{workspace.instance_name}-2")
    for seen, name in (
        (home, workspace.disk_name),
        (StepInput(disks=(boot,)), boot.name),
    ):
        call = steps.plan(a_step(workspace, seen))
        assert isinstance(call, Call)
        assert call.command == DeleteDisk(Place(workspace.zone, name))

    call = steps.plan(a_step(workspace, home))
    assert isinstance(call, Call)
    in_use = replace(fault(FaultKind.IN_USE), resource="instances/holder")
    waiting = changed(steps.record_outcome(a_step(workspace, home), call, in_use))
    over = changed(steps.plan(a_step(waiting, home, now=workspace.operation.deadline_at)))
    accepted = steps.record_outcome(a_step(waiting, home), call, StartedCall("gce-1"))
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
        steps.plan(a_step(freed, StepInput(disk_exists=True), now=freed.operation.deadline_at))
    )
    assert (freed.home_disk, late.error and late.error.code) == (None, "DELETE_TIMED_OUT")
    assert [note.what for note in accepted.notes] == ["HomeDeleted"]


def test_a_suspended_machine_keeps_its_memory_and_a_stopped_one_does_not() -> None:
    """Only a suspended machine can be resumed with its memory."""
    operation = an_operation(OperationKind.STOP, Phase.AWAIT_SUSPENDED)
    workspace = a_workspace(Status.READY, operation)

    suspended = steps.plan(
        a_step(workspace, StepInput(instance=an_instance(workspace, InstanceState.SUSPENDED)))
    )
    stopped = steps.plan(
        a_step(workspace, StepInput(instance=an_instance(workspace, InstanceState.TERMINATED)))
    )

    assert (changed(suspended).memory_is_ready, changed(stopped).memory_is_ready) == (True, False)
    assert changed(suspended).suspended_at == changed(stopped).suspended_at == NOW


def test_an_earlier_insert_is_adopted_with_its_id() -> None:
    """A worker died after its insert: the existing machine is the requested one."""
    workspace = a_workspace(
        Status.PROVISIONING, an_operation(OperationKind.CREATE), instance_id=None
    )

    after = changed(
        steps.plan(a_step(workspace, StepInput(instance=an_instance(workspace, id="42"))))
    )

    assert after.instance_id == "42"


def test_the_id_of_the_old_machine_is_cleared_before_an_insert() -> None:
    """Until the insert is recorded, the id of the new machine is unknown."""
    workspace = a_workspace(Status.ERROR, an_operation(OperationKind.START))

    assert changed(steps.plan(a_step(workspace))).instance_id is None


@pytest.mark.parametrize("left", [40, 7])
def test_a_record_is_kept_while_a_superseded_worker_may_run(left: int) -> None:
    """A DELETE that superseded a boot waits as long as that worker may run, then forgets."""
    after = NOW + timedelta(seconds=left)
    operation = an_operation(OperationKind.DELETE, Phase.FORGET, forget_after=after)
    workspace = a_workspace(Status.READY, operation)

    waiting = steps.plan(a_step(workspace))
    forgotten = steps.plan(a_step(workspace, now=after))

    assert isinstance(waiting, Updated)
    assert waiting.job is not None
    assert (waiting.job.delay, changed(waiting).operation is not None) == (
        timedelta(seconds=left),
        True,
    )
    assert forgotten == Forgotten("WorkspaceDeleted")


# ---- refusals ----

# The meaning of a refusal, at once or in Compute's operation, in the words of the state table.
REFUSALS = {
    **{
        (title, Phase.INSERT): {
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
        }
        for title in ("CREATE", "RESTORE, switched")
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
        for title, phase, end in (
            ("DELETE", Phase.DELETE_INSTANCE, "ends ERROR {}"),
            ("DELETE", Phase.DELETE_DISK, "ends ERROR {}"),
            ("CREATE, failed", Phase.DELETE_INSTANCE, "ends ERROR SOMETHING"),
            ("CREATE, failed", Phase.DELETE_DISK, "ends ERROR SOMETHING"),
            ("RESTORE", Phase.STOP, "ends READY {}"),
            ("RESTORE", Phase.SNAPSHOT, "ends READY {}, snapshot DELETING"),
            ("RESTORE", Phase.DELETE_INSTANCE, "ends READY {}"),
            ("RESTORE, failed", Phase.DELETE_INSTANCE, "ends ERROR SOMETHING"),
            ("RESTORE, failed", Phase.DELETE_DISK, "ends ERROR SOMETHING"),
        )
    },
}
CASES = [(title, phase, kind) for (title, phase), meanings in REFUSALS.items() for kind in meanings]


def test_the_tests_cover_every_kind_of_fault() -> None:
    """The table has every ``FaultKind``."""
    assert all(set(meanings) == set(FaultKind) for meanings in REFUSALS.values())


@pytest.mark.parametrize(("title", "phase", "kind"), CASES)
def test_each_refusal_has_its_meaning(title: str, phase: Phase, kind: FaultKind) -> None:
    """It is the same at once and in Compute's operation; the message has Compute's words."""
    operation_kind, failed, _ = PHASES[title]
    calling = situation(operation_kind, phase, failed=failed, memory_is_ready=True)
    command = next(
        command for command, awaits in AWAITED_IN.items() if steps.CALLING_PHASE[awaits] is phase
    )
    waiting = situation(operation_kind, AWAITED_IN[command], failed=failed, memory_is_ready=True)
    seen = StepInput(instance=None if phase is Phase.INSERT else an_instance(calling))

    at_once = steps.record_outcome(
        a_step(calling, seen), Call(command_of(command, calling), AWAITED_IN[command]), fault(kind)
    )
    later = steps.plan(a_step(waiting, replace(seen, fault=fault(kind), instance=seen.instance)))

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
def test_a_workspace_without_data_tries_each_zone(kind: OperationKind) -> None:
    """What may be left in a full zone is deleted; the next zone gets a new generation."""
    operation = an_operation(kind, Phase.INSERTING)
    workspace = a_workspace(Status.PROVISIONING, operation, zone="us-west1-b")

    leaving = changed(steps.plan(a_step(workspace, StepInput(fault=fault(FaultKind.STOCK_OUT)))))
    moved = changed(steps.plan(a_step(leaving)))

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


def test_a_create_without_capacity_in_any_zone_names_the_zones() -> None:
    """The last zone's stock-out fails the CREATE; the error lists the zones that were tried."""
    operation = an_operation(
        OperationKind.CREATE, Phase.INSERTING, zones_tried=("us-west1-a", "us-west1-b")
    )
    workspace = a_workspace(Status.PROVISIONING, operation, zone="us-west1-c")

    after = changed(steps.plan(a_step(workspace, StepInput(fault=fault(FaultKind.STOCK_OUT)))))

    assert after.operation is not None
    problem = after.operation.failure
    assert problem is not None
    assert (problem.code, problem.retryable) == ("NO_CAPACITY", True)
    assert "us-west1-a, us-west1-b, us-west1-c" in problem.message


@pytest.mark.parametrize("phase", [Phase.AWAIT_RUNNING, Phase.STARTING, Phase.INSERTING])
def test_a_start_without_capacity_leaves_the_workspace_suspended(phase: Phase) -> None:
    """The home disk is in that zone: the error says to try later, and retention starts again."""
    workspace = a_workspace(Status.SUSPENDED, an_operation(OperationKind.START, phase))

    after = changed(steps.plan(a_step(workspace, StepInput(fault=fault(FaultKind.STOCK_OUT)))))

    assert (after.status, after.operation, after.suspended_at) == (Status.SUSPENDED, None, NOW)
    assert after.error is not None
    assert (after.error.code, after.error.retryable) == ("NO_CAPACITY", True)
    assert workspace.zone in after.error.message
    assert after.instance_id == (None if phase is Phase.INSERTING else workspace.instance_id)


# ---- deadlines ----

# How an operation ends after its deadline, by what is observed then.
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
    ("RESTORE", Phase.AWAIT_STOPPED, InstanceState.RUNNING): "ends READY RESTORE_TIMED_OUT",
    (
        "RESTORE",
        Phase.AWAIT_SNAPSHOT,
        InstanceState.TERMINATED,
    ): "ends SUSPENDED RESTORE_TIMED_OUT, snapshot DELETING",
    ("RESTORE", Phase.AWAIT_ABSENT, InstanceState.STOPPING): "ends ERROR RESTORE_TIMED_OUT",
    (
        "RESTORE, switched",
        Phase.INSERTING,
        InstanceState.STAGING,
    ): "fails RESTORE_TIMED_OUT: to delete_instance",
    (
        "RESTORE, switched",
        Phase.AWAIT_READY,
        InstanceState.RUNNING,
    ): "fails NOT_READY_IN_TIME: to delete_instance",
    ("RESTORE, failed", Phase.AWAIT_ABSENT, InstanceState.RUNNING): "ends ERROR SOMETHING",
}


@pytest.mark.parametrize(("title", "phase", "state"), OVERDUE)
def test_an_operation_ends_at_its_deadline(
    title: str, phase: Phase, state: InstanceState | None
) -> None:
    """It ends exactly at its deadline; a machine that is still changing gets another look."""
    kind, failed, _ = PHASES[title]
    workspace = situation(kind, phase, failed=failed, memory_is_ready=True)
    assert workspace.operation is not None
    deadline = workspace.operation.deadline_at
    seen = StepInput(instance=an_instance(workspace, state) if state else None)

    before = steps.plan(
        a_step(workspace, replace(seen, pending=True), now=deadline - timedelta(seconds=1))
    )
    over = steps.plan(a_step(workspace, seen, now=deadline))

    assert move_in_words(workspace, before) == "waits"
    assert move_in_words(workspace, over) == OVERDUE[title, phase, state]
    after = changed(over)
    if after.operation is None:
        assert after.attend_at == deadline + POLICY.attend_after
        assert after.machine_running is (state is InstanceState.RUNNING)
    else:
        assert after.operation.deadline_at == deadline + POLICY.deadlines.delete


def test_an_overdue_delete_continues_if_only_looks_are_left() -> None:
    """It continues if its disks are deleted already; otherwise it times out."""
    for phase, goes_on in (
        (Phase.AWAIT_DISK_ABSENT, "to delete_disk"),
        (Phase.DELETE_DISK, "to forget"),
    ):
        workspace = situation(OperationKind.DELETE, phase, failed=False, memory_is_ready=True)
        assert workspace.operation is not None
        late = workspace.operation.deadline_at
        assert move_in_words(workspace, steps.plan(a_step(workspace, now=late))) == goes_on
        for seen in (
            StepInput(disk_exists=True, has_copy=a_copy(workspace)),
            StepInput(disks=(a_home(workspace),)),
            StepInput(pending=True),
        ):
            assert (
                move_in_words(workspace, steps.plan(a_step(workspace, seen, now=late)))
                == "ends ERROR DELETE_TIMED_OUT"
            )


# Operations that succeeded before a worker looked, because the queue was away until the deadline.
LATE = {
    ("START", Phase.AWAIT_RUNNING, InstanceState.RUNNING): "ends READY",
    ("STOP", Phase.AWAIT_SUSPENDED, InstanceState.SUSPENDED): "ends SUSPENDED",
    ("STOP", Phase.AWAIT_STOPPED, InstanceState.TERMINATED): "ends SUSPENDED",
    ("DELETE", Phase.FORGET, None): "forgotten",
}


@pytest.mark.parametrize(("title", "phase", "state"), LATE)
def test_a_late_look_does_not_undo_a_success(
    title: str, phase: Phase, state: InstanceState | None
) -> None:
    """A deadline ends an operation that is stuck, not one that is done."""
    kind, failed, _ = PHASES[title]
    workspace = situation(kind, phase, failed=failed, memory_is_ready=True)
    assert workspace.operation is not None
    late = workspace.operation.deadline_at + timedelta(hours=1)
    seen = StepInput(instance=an_instance(workspace, state) if state else None)

    assert (
        move_in_words(workspace, steps.plan(a_step(workspace, seen, now=late)))
        == LATE[title, phase, state]
    )


def test_a_stop_that_timed_out_leaves_a_machine_that_was_never_ready_in_error() -> None:
    """In whatever state the machine is, only a boot that reported makes a workspace READY."""
    workspace = situation(
        OperationKind.STOP, Phase.AWAIT_STOPPED, failed=False, memory_is_ready=False
    )
    assert workspace.operation is not None
    seen = StepInput(instance=an_instance(workspace, InstanceState.STOPPING))

    after = changed(steps.plan(a_step(workspace, seen, now=workspace.operation.deadline_at)))

    assert after.status is Status.ERROR


def test_a_machine_that_was_inserted_late_is_deleted_before_the_disk() -> None:
    """A worker that a DELETE overtook may insert late; then the machine is deleted first."""
    workspace = situation(
        OperationKind.DELETE, Phase.DELETE_DISK, failed=False, memory_is_ready=True
    )
    seen = StepInput(instance=an_instance(workspace, InstanceState.RUNNING), disk_exists=True)

    assert move_in_words(workspace, steps.plan(a_step(workspace, seen))) == "to delete_instance"


@pytest.mark.parametrize("kind", [OperationKind.CREATE, OperationKind.START])
def test_the_error_of_a_boot_without_report_has_the_console_output(kind: OperationKind) -> None:
    """The error has the deadline and the end of the serial console's output."""
    operation = an_operation(kind, Phase.AWAIT_READY, deadline_at=NOW)
    workspace = a_workspace(Status.PROVISIONING, operation)
    console = "x" * 5000 + "kernel panic"
    policy = Policy()

    assert steps.reads_console(operation, NOW)
    after = changed(
        steps.plan(
            a_step(
                workspace,
                StepInput(instance=an_instance(workspace), console=console),
                policy=policy,
            )
        )
    )

    assert after.operation is not None
    problem = after.operation.failure
    assert problem is not None
    assert problem.message.endswith("kernel panic")
    assert f"within {policy.deadlines.of(kind).total_seconds() / 60:g} minutes" in problem.message
    assert len(problem.message) < steps.CONSOLE_TAIL_BYTES + 300


def test_console_output_cannot_be_mistaken_for_the_hubs_words() -> None:
    """Each line is quoted, and control characters and invisible characters are removed."""
    workspace = a_workspace(
        Status.PROVISIONING, an_operation(OperationKind.START, Phase.AWAIT_READY, deadline_at=NOW)
    )
    console = (
        "\x1b[2J[  OK  ] Started ssh.\r\n\r\nYour workspace is safe.\u202e Log in\u200b again.\r\n"
    )

    after = changed(
        steps.plan(a_step(workspace, StepInput(instance=an_instance(workspace), console=console)))
    )

    assert after.operation is not None
    assert after.operation.failure is not None
    printed = after.operation.failure.message.partition(" The machine printed last:\n")[2]
    assert printed == "> [ OK ] Started ssh.\n> Your workspace is safe. Log in again."


def test_the_console_is_read_only_when_a_boot_is_overdue() -> None:
    """Other steps save that call."""
    booting = an_operation(OperationKind.CREATE, Phase.AWAIT_READY)
    stopping = an_operation(OperationKind.STOP, deadline_at=NOW)

    assert not steps.reads_console(booting, NOW)
    assert not steps.reads_console(stopping, NOW)


def test_the_home_disk_is_read_only_where_a_step_needs_it() -> None:
    """Every other step saves one read of Compute."""
    looks = {
        (kind, phase)
        for kind in OperationKind
        for phase in Phase
        if steps.reads_disk(an_operation(kind, phase))
    }
    everywhere = {Phase.INSERT, Phase.DELETE_DISK, Phase.AWAIT_DISK_ABSENT, Phase.FORGET}
    everywhere |= {Phase.SNAPSHOT, Phase.RESIZE_DISK, Phase.AWAIT_RESIZED}
    assert looks == {(kind, phase) for kind in OperationKind for phase in everywhere} | {
        (OperationKind.START, Phase.DELETE_INSTANCE),
        (OperationKind.RESTORE, Phase.DELETE_INSTANCE),
        (OperationKind.RESTORE, Phase.AWAIT_ABSENT),
    }


def test_other_zones_are_searched_only_for_missing_resources_and_deletes() -> None:
    """A usual create, start or stop does not list other zones, which is slow."""
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
        assert steps.seeks_elsewhere(a_step(workspace, seen)) == (False, False)
    missing = a_workspace(Status.SUSPENDED, an_operation(OperationKind.START))
    assert steps.seeks_elsewhere(a_step(missing)) == (True, False)
    homeless = a_workspace(Status.ERROR, an_operation(OperationKind.START, Phase.INSERT))
    assert steps.seeks_elsewhere(a_step(homeless)) == (False, True)
    deleting = a_workspace(Status.READY, an_operation(OperationKind.DELETE, Phase.DELETE_DISK))
    assert steps.seeks_elsewhere(a_step(deleting, StepInput(disk_exists=True))) == (False, False)
    assert steps.seeks_elsewhere(a_step(deleting)) == (True, True)
