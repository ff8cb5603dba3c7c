"""What a machine may report, and what follows.

However often a machine reports, and whatever, it causes few writes:

========================= ==========================================================================
record                    what reports of the workspace's machine can cause
========================= ==========================================================================
READY, or ERROR with a    a write for a heartbeat, once in ``heartbeat_write_interval``
running machine           (``idleness.take_heartbeat``)
READY                     ERROR, by ``failed``; no report leads back, only a person's START does
READY                     a write for another host key, once in ``HOST_KEY_KEPT_FOR``
ERROR with a running      once in ``READY_DISBELIEVED_FOR``: its memory counts as ready (a write and
machine                   a look), and does not (a write and a ``MemoryLost``)
ERROR with                READY, by ``ready``: that error comes from a look, never from a report
``MACHINE_NOT_READY``
not recorded as running   a look, once in ``attend_after``: a write, a job, and what the look finds
a SNAPSHOT under way      the same as without an operation
another one under way     its end in READY, its failure, or a new machine, each once; its memory
                          counts as lost, once; one heartbeat that an automatic STOP waits for
a DELETE under way        nothing
========================= ==========================================================================
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shared.domain.access import MachineIdentity, authorize_report
from shared.domain.boot_codes import DISK_MISSING, believed_code, is_of_a_machine
from shared.domain.changes import Updated, due_look_job, finish, with_home, without_memory
from shared.domain.errors import (
    ReportNotTakenError,
    TooManyRequestsError,
)
from shared.domain.idleness import HeartbeatReason, take_heartbeat
from shared.domain.plain_text import one_line, quoted
from shared.domain.policy import Policy
from shared.domain.steps import Step, fail, may_still_be_saved, recording, remake
from shared.domain.workspace import (
    HostKey,
    Operation,
    OperationKind,
    Phase,
    Problem,
    Status,
    Workspace,
)

# How long after its last ``failed`` a machine is not believed that it is ready.
READY_DISBELIEVED_FOR = timedelta(minutes=5)
# How long a machine in use cannot report another host key.
HOST_KEY_KEPT_FOR = timedelta(minutes=5)

# The phases in which the machine of the current generation may be booting: the worker that boots it
# may not have recorded that yet.
_BOOTING = {
    *(Phase.AWAIT_METADATA, Phase.START, Phase.STARTING),
    *(Phase.INSERT, Phase.INSERTING, Phase.AWAIT_READY),
}

# The phases in which the machine's memory decides how the operation goes on.
_KEEPING_MEMORY = {
    *(Phase.SUSPEND, Phase.AWAIT_SUSPENDED, Phase.STOP, Phase.AWAIT_STOPPED),
    *(Phase.SURVEY, Phase.RESUME, Phase.AWAIT_RUNNING),
}


class ReportEvent(StrEnum):
    """What a machine may tell the Hub."""

    READY = "ready"
    HEARTBEAT = "heartbeat"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A machine's report.

    The machine's identity token proves ``instance_name``, ``instance_id``, ``zone`` and
    ``project_id``. The rest is a claim: whoever is root in the machine can send anything at any
    time, even after the machine was stopped, since a token lasts for an hour. ``code`` and
    ``message`` say why it failed. ``because`` says why a heartbeat is sent; None from boot scripts
    of version 0.1. ``host_key`` is the machine's SSH host key; None from older boot scripts.
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
    host_key: str | None = None

    @property
    def sender(self) -> MachineIdentity:
        """The machine that sent it, as its token proves."""
        return MachineIdentity(self.project_id, self.zone, self.instance_name, self.instance_id)


def receive(workspace: Workspace, report: Report, now: datetime, policy: Policy) -> Updated | None:
    """Handle a machine's report. None if it says nothing new.

    Raises:
        InstanceNotRecordedError: the machine's id is not recorded yet. It reports again in a
            moment.
        NotAllowedError: the token is not that of this workspace's machine.
        ReportNotTakenError: it comes from another boot than the current one, or too late to change
            anything.
        TooManyRequestsError: the machine is ready too soon after it said that it failed, or has
            another host key too soon after the last one. It reports again.
    """
    authorize_report(report.sender, workspace)
    if report.generation != workspace.generation:
        raise ReportNotTakenError(
            "This boot of the machine does not count any more: a later one was asked for."
        )
    match report.event:
        case ReportEvent.READY:
            return _ready(workspace, report, now, policy)
        case ReportEvent.HEARTBEAT:
            return _heartbeat(workspace, report.because, now, policy)
        case ReportEvent.FAILED:
            return _failed(workspace, report, now, policy)


def comes_too_early(workspace: Workspace, report: Report) -> bool:
    """Say whether a ``ready`` that changes nothing is to come again.

    It is if the machine is not recorded as running, since somebody may have booted it by hand. A
    worker looks, and by the next report the record has the state that Compute gives.
    """
    return (
        report.event is ReportEvent.READY
        and workspace.machine_operation is None
        and workspace.status is not Status.READY
        and not workspace.machine_running
        and not workspace.memory_is_ready
    )


# ---- ready ---------------------------------------------------------------------------------------


def _ready(workspace: Workspace, report: Report, now: datetime, policy: Policy) -> Updated | None:
    """Handle a report that a boot is ready.

    An operation that waits for it succeeds, even after its deadline: a slow machine is as good as a
    fast one. Once the clean-up has begun (``steps.may_still_be_saved``), it is too late.
    """
    operation = workspace.machine_operation
    if operation is None:
        return _ready_unasked(workspace, report, now, policy)
    booting = operation.phase in _BOOTING and operation.failure is None
    if not booting and not may_still_be_saved(operation):
        if workspace.memory_is_ready:
            return None  # the same report again
        raise _not_awaited(operation)
    booted = replace(_with_key(workspace, report, now), ready_generation=workspace.generation)
    return finish(booted, Status.READY, "WorkspaceReady", now)


def _ready_unasked(
    workspace: Workspace, report: Report, now: datetime, policy: Policy
) -> Updated | None:
    """Handle a report that a boot is ready for which no operation waits.

    The memory of a machine that runs counts as ready from then on. The status stays until a worker
    has looked: Compute's state decides.
    """
    if workspace.status is Status.READY or workspace.memory_is_ready:
        return _another_key(workspace, report, now) if workspace.machine_running else None
    if not workspace.machine_running:  # it may have been booted by hand: see comes_too_early
        return _look(workspace, "UnexpectedReady", now, policy)
    problem = workspace.error
    if problem is not None and is_of_a_machine(problem.code):
        believed_at = problem.at + READY_DISBELIEVED_FOR
        if now < believed_at:
            raise TooManyRequestsError(
                "The machine has just reported a failure. Report again later.", believed_at - now
            )
    believed = replace(
        _with_key(workspace, report, now),
        ready_generation=workspace.generation,
        updated_at=now,
        attend_at=now + policy.attend_after,
    )
    return Updated(believed, "UnaskedBootReported", due_look_job(workspace, now, ""))


def _with_key(workspace: Workspace, report: Report, now: datetime) -> Workspace:
    """Return the workspace with the host key that a report has; the last one if it has none."""
    if report.host_key is None or report.host_key == workspace.machine_key:
        return workspace
    return replace(workspace, host_key=HostKey(report.instance_id, report.host_key, now))


def _another_key(workspace: Workspace, report: Report, now: datetime) -> Updated | None:
    """Take the host key of a machine that is ready anyway, as after a reboot by itself."""
    known, keyed = workspace.host_key, _with_key(workspace, report, now)
    if keyed == workspace:
        return None
    if known is not None and known.text == workspace.machine_key:
        again_in = known.reported_at + HOST_KEY_KEPT_FOR - now
        if again_in > timedelta():
            raise TooManyRequestsError(
                "The machine has just reported another host key. Report again later.", again_in
            )
    return Updated(replace(keyed, updated_at=now), "HostKeyReported")


def _not_awaited(operation: Operation) -> ReportNotTakenError:
    return ReportNotTakenError(f"The {operation.kind} does not wait for this machine any more.")


# ---- heartbeat -----------------------------------------------------------------------------------


def _heartbeat(
    workspace: Workspace, reason: HeartbeatReason | None, now: datetime, policy: Policy
) -> Updated | None:
    """Handle a heartbeat. If the machine is not recorded as running, a worker looks."""
    operation = workspace.operation
    if operation is not None and operation.kind is OperationKind.DELETE:
        return None
    if workspace.machine_running:
        moved = take_heartbeat(workspace, reason, now, policy)
        return None if moved is None else Updated(moved, "HeartbeatReceived")
    if operation is not None:
        return None
    return _look(workspace, "UnexpectedHeartbeat", now, policy)


def _look(workspace: Workspace, event: str, now: datetime, policy: Policy) -> Updated | None:
    """Have a worker look at a machine that is not recorded as running.

    None if a look is due anyway, or if the record has just changed. The look itself is a write, so
    there are at most two in ``attend_after``, whatever the machine sends.
    """
    awaited = workspace.attend_at is not None and workspace.attend_at > now
    if awaited or now - workspace.updated_at < policy.attend_after:
        return None
    unsure = replace(workspace, attend_at=now + policy.attend_after, updated_at=now)
    return Updated(unsure, event, due_look_job(workspace, now, ""))


# ---- failed --------------------------------------------------------------------------------------


def _failed(workspace: Workspace, report: Report, now: datetime, policy: Policy) -> Updated | None:
    """Handle a report that a machine failed: its boot, or its container later.

    A START whose machine lacks its home disk makes a new machine with it, once. Any other boot
    fails the operation.
    """
    operation = workspace.machine_operation
    problem = _problem_of(report, operation, now)
    if operation is None:
        return _failed_in_use(workspace, problem, now)
    if operation.failure is None and operation.phase in _KEEPING_MEMORY:
        return _failed_meanwhile(workspace, problem, now)
    if operation.failure is not None or operation.phase not in _BOOTING:
        raise _not_awaited(operation)
    starts = operation.kind is OperationKind.START
    step = Step(workspace=workspace, operation=operation, now=now, policy=policy)
    if report.code == DISK_MISSING:
        may_remake = starts and not operation.remade
        return remake(step, problem.message) if may_remake else fail(step, problem)
    if starts and not step.has_switched:  # it has booted on its home
        step = replace(step, workspace=with_home(workspace))
    return fail(step, problem)


def _problem_of(report: Report, operation: Operation | None, now: datetime) -> Problem:
    """Return the problem of a machine that failed. Its message quotes the machine."""
    said = one_line(report.message or "")
    reason = "It gave no reason. Start the workspace to boot it again."
    if said:
        reason = f"It says: {quoted(said)}"
    return Problem(
        believed_code(report.code),
        f"The machine failed. {reason}",
        retryable=False,
        at=now,
        operation_kind=operation.kind if operation else None,
    )


def _failed_meanwhile(workspace: Workspace, problem: Problem, now: datetime) -> Updated | None:
    """Handle a failure of a machine that is being suspended, resumed or stopped.

    Its memory is not worth keeping any more, so it is shut down, or booted again. None if that is
    recorded already.
    """
    if workspace.ready_generation is None:
        return None
    without, notes = without_memory(workspace, problem.message)
    unready = replace(without, ready_generation=None, updated_at=now)
    if workspace.status is Status.READY:  # nobody can use it while it is being stopped
        unready = replace(unready, status=Status.ERROR, error=problem)
    return Updated(unready, "MachineFailedMeanwhile", notes=notes)


def _failed_in_use(workspace: Workspace, problem: Problem, now: datetime) -> Updated | None:
    """Handle a failure without an operation. As far as is known, the machine still runs.

    If the workspace is in ERROR for another reason, its memory counts as lost: a START must not
    find it READY.
    """
    without, notes = without_memory(workspace, problem.message)
    if workspace.status is Status.READY:
        unready = replace(without, ready_generation=None)
        if workspace.operation is not None:  # a SNAPSHOT, which goes on
            goes_on = replace(unready, status=Status.ERROR, error=problem, updated_at=now)
            return Updated(goes_on, "MachineFailedMeanwhile", notes=notes)
        broken = finish(unready, Status.ERROR, "MachineFailed", now, problem)
        running = recording(broken, machine_running=True, attend_at=workspace.attend_at)
        return replace(running, notes=notes)
    if workspace.status is Status.ERROR and workspace.machine_running and workspace.has_memory:
        failed = replace(without, error=problem, updated_at=now)
        return Updated(failed, "MachineFailedAgain", notes=notes)
    return None
