"""The state table, and the two decisions that go by it.

``TABLE`` reads row by row: in this phase, if the machine is in this state, make this move. A move
waits, goes to another phase, calls Compute, or ends the operation. Everything is pure: ``plan``
decides before a step's one call of Compute, ``record_outcome`` after it.
"""

from dataclasses import replace

from shared.domain.changes import (
    Forgotten,
    Note,
    Updated,
    with_copy,
    with_home,
    without_memory,
)
from shared.domain.drift import ObservedState, observed_state, with_used_home
from shared.domain.instance import (
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    Fault,
    InsertInstance,
    RefreshMetadata,
    StartedCall,
)
from shared.domain.steps.booting import (
    IfRecorded,
    UnlessHomeless,
    UnlessStuck,
    boot_off,
    fail_stopped,
    follow_machine,
    follow_or_fail,
    follow_or_make,
    insert,
    refresh_metadata,
    take_inserted,
    use_or_stop,
)
from shared.domain.steps.deleting import (
    delete_disk,
    delete_machine,
    forget,
    go_on_without_disk,
    go_on_without_machine,
    without_home_here,
)
from shared.domain.steps.failing import overdue
from shared.domain.steps.faults import go_on_refused
from shared.domain.steps.growing import grow
from shared.domain.steps.moves import (
    RESUME,
    START,
    Again,
    AwaitReport,
    Go,
    Wait,
    WaitForReport,
    WaitForUpload,
)
from shared.domain.steps.snapshotting import (
    ObservedSnapshot,
    await_or_take_again,
    end_captured,
    end_failed_snapshot,
    fail_unstored,
    go_on_stored,
    is_at_rest,
    is_detached,
    leave_foreign,
    observed_snapshot,
    take,
)
from shared.domain.steps.step import (
    ARCHIVED,
    DISK_PHASES,
    GROWING_PHASES,
    SNAPSHOT_PHASES,
    TAKING_HOME,
    Call,
    Decision,
    Move,
    Step,
    StepInput,
)
from shared.domain.steps.stopping import (
    end_suspended,
    go_on_off,
    go_on_suspended,
    stop_unless_used,
    suspend,
    suspend_once_more,
)
from shared.domain.workspace import HomeDisk, OperationKind, Phase, Workspace

_WAIT = Wait()
_REPORT = WaitForReport()
_UPLOAD = WaitForUpload()
_SURVEY = Go(Phase.SURVEY)
_BOOTS = AwaitReport()
_BOOTED = Go(Phase.AWAIT_READY)
_DELETE = Go(Phase.DELETE_INSTANCE)
_DELETE_AGAIN = Again(Phase.DELETE_INSTANCE)
_INSERT_AGAIN = Again(Phase.INSERT)
_START_AGAIN = Again(Phase.START)
_RESUME_AGAIN = Again(Phase.RESUME)
_STOP_AGAIN = Again(Phase.STOP)
_use_recorded = IfRecorded(UnlessHomeless(use_or_stop))
_resume_recorded = IfRecorded(UnlessStuck(UnlessHomeless(RESUME)))
_boot_recorded = IfRecorded(UnlessStuck(UnlessHomeless(boot_off)))

_STATES = (
    ObservedState.ABSENT, ObservedState.BOOTING, ObservedState.RUNNING, ObservedState.SUSPENDING, ObservedState.SUSPENDED, ObservedState.STOPPING, ObservedState.TERMINATED,
)  # fmt: skip

_ROWS: dict[Phase, tuple[Move, ...]] = {
    #                       absent                 booting         running            suspending      suspended         stopping        terminated
    # a START begins: the machine's state decides how it gets to READY
    Phase.SURVEY:          (follow_or_make,        _WAIT,          _use_recorded,     _WAIT,          _resume_recorded, _WAIT,          _boot_recorded),
    Phase.RESUME:          (_SURVEY,               _WAIT,          use_or_stop,       _WAIT,          RESUME,           _WAIT,          _SURVEY),
    Phase.AWAIT_RUNNING:   (_SURVEY,               _WAIT,          use_or_stop,       _WAIT,          _RESUME_AGAIN,    _WAIT,          _SURVEY),
    # a boot of a machine that exists
    Phase.SET_METADATA:    (_SURVEY,               _SURVEY,        _SURVEY,           _WAIT,          _SURVEY,          _WAIT,          refresh_metadata),
    Phase.AWAIT_METADATA:  (_SURVEY,               _BOOTS,         _BOOTS,            _WAIT,          _SURVEY,          _WAIT,          START),
    Phase.START:           (_SURVEY,               _BOOTS,         _BOOTS,            _WAIT,          _SURVEY,          _WAIT,          START),
    Phase.STARTING:        (_SURVEY,               _BOOTS,         _BOOTS,            _WAIT,          _SURVEY,          _WAIT,          _START_AGAIN),
    # a boot of a new machine
    Phase.INSERT:          (insert,                take_inserted,  take_inserted,     take_inserted,  take_inserted,    take_inserted,  take_inserted),
    Phase.INSERTING:       (_INSERT_AGAIN,         _WAIT,          _BOOTS,            _BOOTED,        _BOOTED,          _BOOTED,        _BOOTED),
    # any boot ends with the machine's own report, which does not come through here
    Phase.AWAIT_READY:     (follow_or_fail,        _REPORT,        _REPORT,           _WAIT,          fail_stopped,     _WAIT,          fail_stopped),
    # a STOP, and the clean-up after a START that failed
    Phase.SUSPEND:         (follow_or_fail,        _WAIT,          suspend,           _WAIT,          end_suspended,    _WAIT,          go_on_off),
    Phase.AWAIT_SUSPENDED: (follow_or_fail,        _WAIT,          suspend_once_more, _WAIT,          end_suspended,    _WAIT,          go_on_off),
    Phase.STOP:            (follow_or_fail,        _WAIT,          stop_unless_used,  _WAIT,          go_on_suspended,  _WAIT,          go_on_off),
    Phase.AWAIT_STOPPED:   (follow_or_fail,        _WAIT,          _STOP_AGAIN,       _WAIT,          go_on_suspended,  _WAIT,          go_on_off),
    # a DELETE, the clean-up after a CREATE that failed, the first half of a START with a new machine
    Phase.DELETE_INSTANCE: (go_on_without_machine, delete_machine, delete_machine,    delete_machine, delete_machine,   delete_machine, delete_machine),
    Phase.AWAIT_ABSENT:    (go_on_without_machine, _DELETE_AGAIN,  _DELETE_AGAIN,     _DELETE_AGAIN,  _DELETE_AGAIN,    _WAIT,          _DELETE_AGAIN),
    Phase.FORGET:          (forget,                _DELETE,        _DELETE,           _DELETE,        _DELETE,          _DELETE,        _DELETE),
}  # fmt: skip

TABLE: dict[tuple[Phase, ObservedState], Move] = {
    (phase, state): move
    for phase, row in _ROWS.items()
    for state, move in zip(_STATES, row, strict=True)
}

# The phases that depend on the workspace's disks: (the move if there is one, the move if not).
DISK_TABLE: dict[Phase, tuple[Move, Move]] = {
    Phase.DELETE_DISK: (delete_disk, go_on_without_disk),
    Phase.AWAIT_DISK_ABSENT: (Again(Phase.DELETE_DISK), Go(Phase.DELETE_DISK)),
}

_SNAPSHOT_STATES = (
    ObservedSnapshot.ABSENT, ObservedSnapshot.CREATING, ObservedSnapshot.CAPTURED, ObservedSnapshot.STORED, ObservedSnapshot.FAILED, ObservedSnapshot.DELETING, ObservedSnapshot.FOREIGN,
)  # fmt: skip

# The phases that depend on what is seen of the operation's snapshot. Whatever is captured is taken,
# even if Compute says that its own operation is not done, which ends with the upload.
_SNAPSHOT_ROWS: dict[Phase, tuple[Move, ...]] = {
    #                       absent               creating                  captured      stored        failed               deleting       foreign
    Phase.SNAPSHOT:        (take,                Go(Phase.AWAIT_SNAPSHOT), end_captured, end_captured, end_failed_snapshot, _WAIT,         leave_foreign),
    Phase.AWAIT_SNAPSHOT:  (await_or_take_again, _WAIT,                    end_captured, end_captured, end_failed_snapshot, _WAIT,         leave_foreign),
    Phase.AWAIT_STORED:    (fail_unstored,       _UPLOAD,                  _UPLOAD,      go_on_stored, fail_unstored,       fail_unstored, fail_unstored),
}  # fmt: skip

SNAPSHOT_TABLE: dict[tuple[Phase, ObservedSnapshot], Move] = {
    (phase, state): move
    for phase, row in _SNAPSHOT_ROWS.items()
    for state, move in zip(_SNAPSHOT_STATES, row, strict=True)
}


def plan(step: Step) -> Decision:
    """Decide the step: a change of the record, or one call of Compute for ``record_outcome``.

    A job may come after the deadline. What has succeeded by then is taken; any other operation
    ends.
    """
    step = _with_deleted_home(_with_home_again(_with_used_home(step)))
    decision = _decide(step)
    in_time = step.now < step.operation.deadline_at
    if in_time or _ends(decision) or _nears_the_end(step, decision):
        return decision
    return overdue(step)


def _with_home_again(step: Step) -> Step:
    """Return the step with the home recorded whose deletion Compute has begun, and has given up.

    Somebody may use it by then, so whether the last copy has all that is on it is looked at again.
    """
    workspace, copy, source = step.workspace, step.operation.last_copy, step.workspace.home_source
    is_there = step.inputs.disk_exists and not step.inputs.goes_on
    awaits = step.operation.phase is Phase.AWAIT_DISK_ABSENT and is_there
    is_copy = copy is not None and source is not None and source.snapshot_id == copy.snapshot_id
    keeps_nothing = step.operation.kind is OperationKind.DELETE and not step.keeps_copy
    bare = keeps_nothing and workspace.home_disk is None and source is None
    if not awaits or not (is_copy or bare):
        return step
    home = HomeDisk(workspace.disk_name, workspace.zone)
    return replace(step, workspace=replace(workspace, home_disk=home, home_source=None))


def _with_used_home(step: Step) -> Step:
    """Return the step with the home recorded, if the machine of a START has booted on it.

    From then on it may hold somebody's work, however the START ends. What a CREATE has made is
    nobody's before it is READY: if it fails, it deletes all of it.
    """
    if step.operation.kind is not OperationKind.START or step.has_switched:
        return step
    return replace(step, workspace=with_used_home(step.workspace, step.inputs.instance))


def _with_deleted_home(step: Step) -> Step:
    """Return the step with the last copy as the home, if the disk of which it is one is gone.

    The worker that deleted the disk may have died before it said so.
    """
    inputs, operation = step.inputs, step.operation
    looked = operation.phase is Phase.DELETE_DISK and not inputs.pending and inputs.fault is None
    copied = operation.kind in TAKING_HOME and operation.last_copy is not None
    if not looked or not copied or not step.lacks_home:
        return step
    return replace(step, workspace=with_copy(step.workspace, operation))


def move_of(step: Step) -> Move:
    """Return the move of the tables for a step. Its Compute operation has ended without a fault."""
    inputs, phase = step.inputs, step.operation.phase
    if phase in GROWING_PHASES:
        return grow
    if phase in SNAPSHOT_PHASES:
        return SNAPSHOT_TABLE[phase, observed_snapshot(step)]
    if phase not in DISK_PHASES:
        return TABLE[phase, observed_state(inputs.instance)]
    if step.operation.kind is OperationKind.START and step.workspace.home_disk is not None:
        return _SURVEY  # somebody has booted a machine on what was to be deleted
    if step.operation.kind is OperationKind.RESTORE and step.workspace.home_disk is not None:
        return go_on_without_disk  # what is recorded is not what was to be deleted
    if inputs.instance is not None:  # made by a worker of a superseded operation, after the look
        return _DELETE
    if inputs.elsewhere:
        return lambda step: follow_machine(without_home_here(step), Phase.DELETE_INSTANCE)
    there, gone = DISK_TABLE[phase]
    if inputs.home_is_foreign and step.operation.kind not in TAKING_HOME:
        return gone  # somebody else has made it, so a clean-up leaves it alone
    takes_all = step.operation.kind is OperationKind.DELETE  # an earlier home is not an ARCHIVE's
    return there if inputs.disk_exists or (takes_all and inputs.disks) else gone


def _decide(step: Step) -> Decision:
    """Make the step's move, whatever the deadline is."""
    if step.operation.phase in SNAPSHOT_PHASES:  # what is captured counts, whatever the call says
        return move_of(step)(step)
    if step.inputs.pending:
        return _WAIT(step)
    if step.inputs.fault is not None:
        return go_on_refused(step, step.inputs.fault)
    return move_of(step)(step)


def _ends(decision: Decision) -> bool:
    """Say whether a decision ends the operation, or begins the clean-up after it."""
    if not isinstance(decision, Updated):
        return isinstance(decision, Forgotten)
    operation = decision.workspace.operation
    if operation is None:
        return True
    return operation.failure is not None and decision.event.endswith("Failed")


def _nears_the_end(step: Step, decision: Decision) -> bool:
    """Say whether a DELETE has found gone what it deleted, and only has to check for more.

    Such a step neither calls nor waits.
    """
    deletes = step.operation.kind is OperationKind.DELETE
    sees_nothing = replace(step.inputs, fault=None, goes_on=False) == StepInput()
    if not isinstance(decision, Updated) or not deletes or not sees_nothing:
        return False
    operation = decision.workspace.operation
    phase = step.operation.phase
    return phase in DISK_PHASES and operation is not None and operation.phase is not phase


def record_outcome(step: Step, call: Call, outcome: StartedCall | Fault) -> Updated:
    """Record what became of a planned call: the operation that Compute started, or a refusal."""
    step = _keeping_home(_with_deleted_home(_with_used_home(step)), call.command)
    if isinstance(outcome, Fault):
        return go_on_refused(step, outcome, call.command)
    if isinstance(call.command, CreateSnapshot):
        at_rest, detached = is_at_rest(step), is_detached(step)
        noted = replace(step.operation, home_at_rest=at_rest, home_detached=detached)
        step = replace(step, operation=noted)
    known, notes = _after_call(step, call.command, outcome)
    moved = replace(step, workspace=known).await_call(
        call.leads_to, type(call.command).__name__, outcome.gce_operation
    )
    return replace(moved, notes=(*call.notes, *notes))


def _keeping_home(step: Step, command: Command) -> Step:
    """Return the step with the home recorded, if a START attaches one.

    Somebody may have used it, so it binds the workspace to its zone.
    """
    attaches = isinstance(command, InsertInstance) and command.attach_home
    if not attaches or step.operation.kind is not OperationKind.START or step.has_switched:
        return step
    return replace(step, workspace=with_home(step.workspace))


_WHY_DELETED = {
    OperationKind.DELETE: "The workspace is being deleted.",
    OperationKind.ARCHIVE: ARCHIVED,
    OperationKind.RESTORE: "The home is restored, so a new machine was made.",
}


def _after_call(
    step: Step, command: Command, started: StartedCall
) -> tuple[Workspace, tuple[Note, ...]]:
    """Return the record after Compute has accepted a call, and notes of what is lost by it."""
    known, operation = step.workspace, step.operation
    interval = round(step.policy.machine_heartbeat_interval.total_seconds())
    match command:
        case InsertInstance():
            inserted = replace(known, instance_id=started.target_id, machine_made_at=step.now)
            made_gb = max(step.policy.home_disk_gb, command.home_gb or 0)
            has_gb = step.inputs.home_gb or known.home_gb
            inserted = replace(inserted, home_gb=has_gb if command.attach_home else made_gb)
            return replace(inserted, heartbeat_seconds=interval), ()
        case RefreshMetadata():
            return replace(known, heartbeat_seconds=interval), ()
        case DeleteInstance():
            asked = _WHY_DELETED.get(operation.kind, "A new machine was asked for.")
            return without_memory(known, operation.cannot_go_on or asked)
        case DeleteDisk(place) if known.home_disk is not None and place.name == known.disk_name:
            why = "The home disk was deleted with its workspace."
            if operation.kind is OperationKind.ARCHIVE:
                why = "Its home is a snapshot now, so the disk was deleted."
            return with_copy(known, operation), (Note("HomeDeleted", why),)
        case _:
            return known, ()
