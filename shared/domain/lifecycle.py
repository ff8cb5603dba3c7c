"""What people, machines and the clock may ask of a workspace, and what comes of it.

Each function takes the record, who asks and the time, and returns a ``Change``, or None when
nothing is to change: the same verb again is the same operation. ``steps`` has the table of what an
operation then does.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shared.domain.boot_codes import DISK_MISSING, believed_code, is_of_a_machine
from shared.domain.changes import Change, Note, due_look_job, finish, job_of, without_memory
from shared.domain.errors import (
    InstanceNotRecordedError,
    NotAllowedError,
    OperationUnderWayError,
    ReportNotTakenError,
    TooManyRequestsError,
)
from shared.domain.idleness import HeartbeatReason, idle_at, take_heartbeat
from shared.domain.jobs import Job
from shared.domain.people import Actor
from shared.domain.plain_text import one_line, quoted
from shared.domain.policy import Policy
from shared.domain.steps import WAY_OUT, Step, fail, may_still_be_saved, remake
from shared.domain.workspace import (
    Activity,
    Metadata,
    Operation,
    OperationKind,
    Phase,
    Problem,
    Status,
    Workspace,
)

CLEANUP = "cleanup"  # who asked, when it was the idle sweep
MOST_DOUBLINGS = 3  # of the time after which the same step is sent again
REPORTED_AGAIN = timedelta(
    minutes=5
)  # so long a machine that has reported a failure is not believed to be ready

# The phases in which the machine of the current generation may be booting: a worker that boots it
# may not yet have recorded so.
_BOOTING = {
    Phase.AWAIT_METADATA, Phase.START, Phase.STARTING, Phase.INSERT, Phase.INSERTING, Phase.AWAIT_READY,
}  # fmt: skip


# The phases in which what a machine has in its memory decides how the operation goes on.
_KEEPING_MEMORY = {
    Phase.SUSPEND, Phase.AWAIT_SUSPENDED, Phase.STOP, Phase.AWAIT_STOPPED, Phase.SURVEY, Phase.RESUME, Phase.AWAIT_RUNNING,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewWorkspace:
    """What a person asks for, complete: defaults are filled in and the values are allowed."""

    name: str
    machine_type: str
    image_tag: str
    zone: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class NewMachine:
    """What a START is to change. None leaves it as it is.

    ``empty_home``: if the recorded home disk is gone, go on with an empty one instead of failing.
    ``rebuild``: make a new machine on the same home, even if nothing else is to change and the one
    that there is could be resumed or is in use.
    """

    image_tag: str | None = None
    machine_type: str | None = None
    empty_home: bool = False
    rebuild: bool = False


class ReportEvent(StrEnum):
    """What a machine may tell the Hub."""

    READY = "ready"
    HEARTBEAT = "heartbeat"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Report:
    """A machine's report, with what its identity token proves about the sender.

    All else is a claim: whoever is root in the machine can send anything at any time, also after it
    was stopped, since a token lasts for an hour. ``code`` and ``message`` say why it failed;
    ``because`` says of a heartbeat why it is sent, None from boot scripts of version 0.1.
    """

    event: ReportEvent
    generation: int
    instance_name: str
    instance_id: str
    zone: str
    project_id: str
    code: str | None = None
    message: str | None = None
    because: HeartbeatReason | None = None


# ---- people ---------------------------------------------------------------------------------------------------------


def create(
    workspace_id: str,
    operation_id: str,
    project_id: str,
    actor: Actor,
    new: NewWorkspace,
    now: datetime,
    policy: Policy,
) -> Change:
    """Begin a workspace. The owner's record decides first whether they may have it (``owners.admit``)."""
    operation = _begin(OperationKind.CREATE, Phase.INSERT, operation_id, actor, now, policy)
    name = f"workspace-{workspace_id}"
    workspace = Workspace(
        id=workspace_id,
        name=new.name,
        owner_id=actor.id,
        owner_email=actor.email,
        project_id=project_id,
        instance_name=name,
        zone=new.zone,
        image_tag=new.image_tag,
        machine_type=new.machine_type,
        status=Status.PROVISIONING,
        created_at=now,
        updated_at=now,
        last_connected_at=now,
        last_activity=Activity.CREATED,
        metadata=new.metadata,
        operation=operation,
        attend_at=now + policy.attend_after,
    )
    return Change(workspace, "WorkspaceRequested", job_of(workspace, operation))


def stop(
    workspace: Workspace, operation_id: str, actor: Actor, now: datetime, policy: Policy
) -> Change | None:
    """Ask that a workspace be suspended. None when it is already, or is being.

    Raises:
        OperationUnderWayError: something else is being done to it.
    """
    under_way = workspace.operation
    if under_way is not None:
        if under_way.kind is not OperationKind.STOP:
            raise OperationUnderWayError(under_way)
        if not under_way.automatic:
            return None
        # A person wants what the idle sweep has begun: a heartbeat must not undo it any more.
        own = replace(under_way, automatic=False, requested_by=actor.id)
        return Change(replace(workspace, operation=own, updated_at=now), "StopConfirmed")
    if workspace.status is Status.SUSPENDED:
        return None
    return _ask(
        workspace,
        _begin(OperationKind.STOP, Phase.SUSPEND, operation_id, actor, now, policy),
        now,
        policy,
    )


def start(
    workspace: Workspace,
    operation_id: str,
    actor: Actor,
    machine: NewMachine,
    now: datetime,
    policy: Policy,
) -> Change | None:
    """Ask that a workspace be usable, with a new machine on the same home disk when its image or type is to change, or it is to be rebuilt.

    None when it is ready and nothing is to change, or when the same START is under way: to one that
    makes a new machine anyway, asking for a rebuild is the same. Asking once that is over is asking
    for another one.

    Raises:
        OperationUnderWayError: something else is being done to it, or a START that makes another
            machine, or none.
    """
    image_tag = machine.image_tag or workspace.image_tag
    machine_type = machine.machine_type or workspace.machine_type
    changed = (image_tag, machine_type) != (workspace.image_tag, workspace.machine_type)
    under_way = workspace.operation
    if under_way is not None:
        as_wanted = not changed and (under_way.remade or not machine.rebuild)
        if under_way.kind is OperationKind.START and under_way.failure is None and as_wanted:
            return None
        raise OperationUnderWayError(under_way)
    if not changed and not machine.rebuild:
        if workspace.status is Status.READY:
            return None
        survey = _begin(OperationKind.START, Phase.SURVEY, operation_id, actor, now, policy)
        return _ask(workspace, replace(survey, empty_home=machine.empty_home), now, policy)
    remake = _begin(OperationKind.START, Phase.DELETE_INSTANCE, operation_id, actor, now, policy)
    wanted = replace(
        workspace,
        image_tag=image_tag,
        machine_type=machine_type,
        status=Status.PROVISIONING,
        instance_id=None,  # the machine that there is will not do, even if this START fails before it is deleted
        machine_made_at=None,
        suspended_at=None,
        machine_running=False,
    )
    asked = _ask(wanted, replace(remake, empty_home=machine.empty_home, remade=True), now, policy)
    return (
        replace(asked, notes=(Note("MachineRemade", "A new machine was asked for."),))
        if machine.rebuild
        else asked
    )


def delete(
    workspace: Workspace, operation_id: str, actor: Actor, now: datetime, policy: Policy
) -> Change | None:
    """Ask that a workspace and all that it has be deleted, whatever else is under way. None when it is being deleted.

    When this supersedes an operation that makes machines, one of its workers may be about to
    insert: the record is kept until no such worker can be running.
    """
    under_way = workspace.operation
    if under_way is not None and under_way.kind is OperationKind.DELETE:
        return None
    operation = _begin(
        OperationKind.DELETE, Phase.DELETE_INSTANCE, operation_id, actor, now, policy
    )
    if under_way is not None and under_way.kind in {OperationKind.CREATE, OperationKind.START}:
        operation = replace(operation, forget_after=now + policy.worker_timeout)
    return _ask(workspace, operation, now, policy)


# ---- machines -------------------------------------------------------------------------------------------------------


def receive(workspace: Workspace, report: Report, now: datetime, policy: Policy) -> Change | None:
    """Take a machine's report. None when it says nothing new.

    However often a machine reports, and whatever, it causes few writes:

    ==================================== =================================================================================
    the record                           what its machine's reports can cause
    ==================================== =================================================================================
    READY, or ERROR with a running       a write for a heartbeat, once in ``heartbeat_write_interval``
    machine
    READY                                ERROR, by ``failed``; no report leads back from there: only a person's START does
    ERROR with a running machine         once in ``REPORTED_AGAIN`` that its memory counts as ready (a write and a look),
                                         and that it does not (a write and a ``MemoryLost``)
    ERROR, ``MACHINE_NOT_READY``         READY, by ``ready``: that error comes of a look, never of a report
    any that is not recorded to run      a look, once in ``attend_after``: a write, a job, and what the look finds
    an operation under way               its end in READY, its failure or a machine made anew, each once; that memory is lost, once;
                                         one heartbeat that an automatic STOP waits for
    a DELETE                             nothing
    ==================================== =================================================================================

    Raises:
        InstanceNotRecordedError: the machine's id is not known yet: it reports again in a moment.
        NotAllowedError: the token is not that of this workspace's machine.
        ReportNotTakenError: it comes from a boot that is not the current one, or too late to change
            anything.
        TooManyRequestsError: it is ready, too soon after it said that it has failed: it reports
            again.
    """
    proven = (report.instance_name, report.zone, report.project_id)
    if proven != (workspace.instance_name, workspace.zone, workspace.project_id):
        raise NotAllowedError("This token is not that of the workspace's machine.")
    if workspace.instance_id is None:
        raise InstanceNotRecordedError("The machine is not recorded yet. Report again in a moment.")
    if report.instance_id != workspace.instance_id:
        raise NotAllowedError("This token is that of an earlier machine of the workspace.")
    if report.generation != workspace.generation:
        raise ReportNotTakenError(
            "This boot of the machine does not count any more: a later one was asked for."
        )
    match report.event:
        case ReportEvent.READY:
            return _ready(workspace, now, policy)
        case ReportEvent.HEARTBEAT:
            return _heartbeat(workspace, report.because, now, policy)
        case ReportEvent.FAILED:
            return _failed(workspace, report, now, policy)


def _ready(workspace: Workspace, now: datetime, policy: Policy) -> Change | None:
    """Take that a boot is ready, also after the operation's deadline and as long as nothing has been cleaned up.

    A machine that was slow is as good as a fast one. Once the clean-up has begun
    (``steps.may_still_be_saved``), it is too late. Without an operation the report moves nothing:
    it makes a running machine believable, and what Compute says decides.
    """
    operation = workspace.operation
    if operation is not None:
        booting = operation.phase in _BOOTING and operation.failure is None
        if not booting and not may_still_be_saved(operation):
            if workspace.memory_is_ready:
                return None  # the same report again
            raise ReportNotTakenError(
                f"The {operation.kind} does not wait for this machine any more."
            )
        booted = replace(workspace, ready_generation=workspace.generation)
        return finish(booted, Status.READY, "WorkspaceReady", now)
    if workspace.status is Status.READY or workspace.memory_is_ready:
        return None
    if not workspace.machine_running:  # somebody may have booted it by hand: see comes_too_early
        return _look(workspace, "UnexpectedReady", now, policy)
    problem = workspace.error
    if (
        problem is not None
        and is_of_a_machine(problem.code)
        and now < (believed_at := problem.at + REPORTED_AGAIN)
    ):
        raise TooManyRequestsError(
            "The machine has just reported a failure. Report again later.", believed_at - now
        )
    believed = replace(
        workspace,
        ready_generation=workspace.generation,
        updated_at=now,
        attend_at=now + policy.attend_after,
    )
    return Change(believed, "UnaskedBootReported", due_look_job(workspace, now, ""))


def _heartbeat(
    workspace: Workspace, reason: HeartbeatReason | None, now: datetime, policy: Policy
) -> Change | None:
    """Take a heartbeat. One of a machine that is not recorded to run moves nothing: a worker looks whether it does."""
    operation = workspace.operation
    if operation is not None and operation.kind is OperationKind.DELETE:
        return None
    if not workspace.machine_running:
        return (
            None if operation is not None else _look(workspace, "UnexpectedHeartbeat", now, policy)
        )
    moved = take_heartbeat(workspace, reason, now, policy)
    return None if moved is None else Change(moved, "HeartbeatReceived")


def comes_too_early(workspace: Workspace, report: Report) -> bool:
    """Say whether a ``ready`` that moves nothing is to come again: of a machine of which the record does not know that it runs.

    Somebody may have booted it by hand. A worker looks, and by the next report the record says what
    Compute does.
    """
    return (
        report.event is ReportEvent.READY
        and workspace.operation is None
        and workspace.status is not Status.READY
        and not workspace.machine_running
        and not workspace.memory_is_ready
    )


def _look(workspace: Workspace, event: str, now: datetime, policy: Policy) -> Change | None:
    """Have a worker look at a machine that is not recorded to run. None if one is to look anyway, or the record is fresh.

    The look itself is a write: so there are never more than two in ``attend_after``, whatever the
    machine sends.
    """
    awaited = workspace.attend_at is not None and workspace.attend_at > now
    if awaited or now - workspace.updated_at < policy.attend_after:
        return None
    unsure = replace(workspace, attend_at=now + policy.attend_after, updated_at=now)
    return Change(unsure, event, due_look_job(workspace, now, ""))


def _failed(workspace: Workspace, report: Report, now: datetime, policy: Policy) -> Change | None:
    """Take that a machine cannot be a workspace. One that misses its home disk is made anew with it, once.

    While it is being suspended or resumed, its memory is not worth keeping any more: it is shut
    down, or booted again. The same holds for a running machine whose workspace is in ERROR for
    another reason: a START must not find it READY. The message quotes the machine.
    """
    operation = workspace.operation
    said = one_line(report.message or "")
    reason = (
        f"It says: {quoted(said)}"
        if said
        else "It gave no reason. Start the workspace to boot it again."
    )
    problem = Problem(
        believed_code(report.code),
        f"The machine failed. {reason}",
        retryable=False,
        at=now,
        operation_kind=operation.kind if operation else None,
    )
    if operation is None:
        return _failed_in_use(workspace, problem, now)
    if operation.failure is None and operation.phase in _KEEPING_MEMORY:
        if workspace.ready_generation is None:
            return None  # that is known
        forgetful, notes = without_memory(workspace, problem.message)
        unready = replace(forgetful, ready_generation=None, updated_at=now)
        if workspace.status is Status.READY:  # nobody can use it while it is being stopped
            unready = replace(unready, status=Status.ERROR, error=problem)
        return Change(unready, "MachineFailedMeanwhile", notes=notes)
    if operation.failure is not None or operation.phase not in _BOOTING:
        raise ReportNotTakenError(f"The {operation.kind} does not wait for this machine any more.")
    step = Step(workspace=workspace, operation=operation, now=now, policy=policy)
    may_remake = operation.kind is OperationKind.START and not operation.remade
    if report.code == DISK_MISSING and may_remake:
        return remake(step, problem.message)
    return fail(step, problem)


def _failed_in_use(workspace: Workspace, problem: Problem, now: datetime) -> Change | None:
    """Take that a machine failed on which no operation is under way; it goes on running, as far as is known."""
    forgetful, notes = without_memory(workspace, problem.message)
    if workspace.status is Status.READY:
        broken = finish(
            replace(forgetful, ready_generation=None), Status.ERROR, "MachineFailed", now, problem
        )
        assert broken.workspace is not None  # noqa: S101 -- finish never forgets
        running = replace(broken.workspace, machine_running=True, attend_at=workspace.attend_at)
        return replace(broken, workspace=running, notes=notes)
    if workspace.status is Status.ERROR and workspace.machine_running and workspace.has_memory:
        return Change(
            replace(forgetful, error=problem, updated_at=now), "MachineFailedAgain", notes=notes
        )
    return None


# ---- the clock ------------------------------------------------------------------------------------------------------


def stops_at(workspace: Workspace, policy: Policy) -> datetime | None:
    """Return when the idle sweep would stop the workspace's machine if nobody connects; None when it would not."""
    return idle_at(workspace, policy) if workspace.machine_running else None


def deletes_at(workspace: Workspace, policy: Policy) -> datetime | None:
    """Return when a suspended workspace would be deleted if nobody starts it; None when it would not."""
    if (
        policy.retention is None
        or workspace.status is not Status.SUSPENDED
        or workspace.suspended_at is None
    ):
        return None
    return workspace.suspended_at + policy.retention


def expire(
    workspace: Workspace, operation_id: str, sweeper: Actor, now: datetime, policy: Policy
) -> Change | None:
    """Stop a machine that is idle, delete a workspace that is forgotten. None when it is neither, or something is under way.

    The sweep's query may be older than the record: this decides again on the record as it is. What
    somebody is to look at is not deleted before they have: its machine may have been started by
    hand.
    """
    if workspace.operation is not None:
        return None
    idle_at = stops_at(workspace, policy)
    if idle_at is not None and idle_at <= now:
        operation = _begin(OperationKind.STOP, Phase.SUSPEND, operation_id, sweeper, now, policy)
        return _ask(workspace, replace(operation, automatic=True), now, policy)
    forgotten_at = deletes_at(workspace, policy)
    if workspace.attend_at is None and forgotten_at is not None and forgotten_at <= now:
        operation = _begin(
            OperationKind.DELETE, Phase.DELETE_INSTANCE, operation_id, sweeper, now, policy
        )
        return _ask(workspace, replace(operation, automatic=True), now, policy)
    return None


def attend(workspace: Workspace, request_id: str, now: datetime, policy: Policy) -> Change | None:
    """Send the due job again: nothing has touched the workspace for as long as it may take. None when it is not due.

    The same step waits twice as long each time, up to eight times, but not beyond the operation's
    deadline: many jobs that seem lost are only late because a queue is full, and each one more
    makes it fuller.
    """
    if workspace.attend_at is None or workspace.attend_at > now:
        return None
    soonest = now + policy.attend_after
    attended = replace(workspace, attend_at=soonest, updated_at=now)
    if workspace.operation is None:
        return Change(attended, "LookRequested", due_look_job(workspace, now, request_id))
    resent = replace(workspace.operation, resends=workspace.operation.resends + 1)
    patient = now + policy.attend_after * 2 ** min(resent.resends - 1, MOST_DOUBLINGS)
    if now < resent.deadline_at:
        patient = min(patient, max(soonest, resent.deadline_at))
    attended = replace(attended, operation=resent, attend_at=patient)
    return Change(attended, "JobResent", job_of(attended, resent))


def give_up(
    workspace: Workspace, job: Job, reason: str, now: datetime, policy: Policy
) -> Change | None:
    """End an operation whose job could not be delivered. None when it has ended or gone on without that job."""
    operation = workspace.operation
    if (
        operation is None
        or (operation.id, operation.step) != (job.operation_id, job.step)
        or operation.failure
    ):
        return None
    message = f"The Hub could not carry out the {operation.kind}: {reason.rstrip('.')}. {WAY_OUT[operation.kind]}"
    problem = Problem(
        "NOT_CARRIED_OUT", message, retryable=True, at=now, operation_kind=operation.kind
    )
    return fail(Step(workspace=workspace, operation=operation, now=now, policy=policy), problem)


# ---- beginning ------------------------------------------------------------------------------------------------------


def _begin(
    kind: OperationKind,
    phase: Phase,
    operation_id: str,
    actor: Actor,
    now: datetime,
    policy: Policy,
) -> Operation:
    return Operation(
        id=operation_id,
        kind=kind,
        phase=phase,
        step=0,
        requested_by=actor.id,
        requested_at=now,
        deadline_at=now + policy.deadlines.of(kind),
        phase_since=now,
        request_id=actor.request_id,
    )


def _ask(workspace: Workspace, operation: Operation, now: datetime, policy: Policy) -> Change:
    asked = replace(
        workspace, operation=operation, updated_at=now, attend_at=now + policy.attend_after
    )
    return Change(asked, f"{operation.kind.capitalize()}Requested", job_of(asked, operation))
