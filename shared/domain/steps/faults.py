"""What a refusal of Compute means for the operation, and what people are told about it."""

from dataclasses import dataclass, replace

from shared.domain.changes import Note, Updated
from shared.domain.instance import (
    Command,
    Fault,
    FaultKind,
    RefreshMetadata,
    ResumeInstance,
    StartInstance,
)
from shared.domain.steps.booting import boot_although_old
from shared.domain.steps.failing import (
    NO_CAPACITY,
    WAY_OUT,
    end_without_snapshot,
    fail,
    problem_of,
    way_out,
)
from shared.domain.steps.moves import Again, TakeAgain
from shared.domain.steps.step import CALLING_PHASE, Step
from shared.domain.steps.stopping import give_memory_up
from shared.domain.workspace import Operation, OperationKind, Phase, Problem, Status

# The faults that may be over by the next look.
_PASSING = {
    *(FaultKind.NOT_READY, FaultKind.TRANSIENT, FaultKind.IN_USE),
    *(FaultKind.STOCK_OUT, FaultKind.ALREADY_EXISTS),
}

# The code of a refusal, what people are told, and whether the same request may succeed later.
# ``{what}`` is the machine, or what ``_WHAT`` says.
_REFUSALS = {
    FaultKind.QUOTA: (
        "COMPUTE_QUOTA_EXCEEDED",
        "The project's Compute Engine quota is used up.",
        True,
    ),
    FaultKind.PERMISSION: (
        "COMPUTE_PERMISSION_DENIED",
        "The Hub may not do this in Compute Engine.",
        False,
    ),
    FaultKind.POLICY: (
        "COMPUTE_POLICY_FORBIDS",
        "A policy of the organisation forbids this.",
        False,
    ),
    FaultKind.ALREADY_EXISTS: (
        "COMPUTE_NAME_TAKEN",
        "Something else has the name that {what} needs.",
        False,
    ),
}
_WHAT = {
    Phase.SNAPSHOT: "the snapshot",
    Phase.RESIZE_DISK: "the larger disk",
    Phase.DELETE_DISK: "the deletion of the disk",
}
_ANY_OTHER = ("COMPUTE_REFUSED", "Compute Engine refused {what}.", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """A refusal of Compute.

    ``calling`` is the phase that made the call. ``command`` is the call if it was refused at once;
    None if its long operation ended in the fault. ``said`` is what Compute said, as a sentence.
    """

    fault: Fault
    calling: Phase
    command: Command | None
    said: str

    @property
    def of_resume(self) -> bool:
        """Whether Compute refused to resume a machine."""
        if self.command is None:
            return self.calling is Phase.RESUME
        return isinstance(self.command, ResumeInstance)

    @property
    def of_boot(self) -> bool:
        """Whether Compute refused to boot a machine that exists."""
        if self.command is None:
            return self.calling in {Phase.SET_METADATA, Phase.START}
        return isinstance(self.command, StartInstance | RefreshMetadata)

    @property
    def is_definite(self) -> bool:
        """Whether the machine can never be resumed or booted."""
        cannot_resume = self.of_resume and self.fault.kind is FaultKind.UNSUPPORTED
        cannot_boot = self.fault.kind in {FaultKind.UNSUPPORTED, FaultKind.INVALID}
        return cannot_resume or (self.of_boot and cannot_boot)


def go_on_refused(step: Step, fault: Fault, command: Command | None = None) -> Updated:
    """Decide what a refusal means. ``command`` is None if a long operation ended in the fault.

    A fault that passes by itself is waited for until the deadline. After a definite one, and after
    another look, the operation falls back: from suspending to shutting down, from resuming or
    booting to a new machine on the same home. If memory is at stake, an unknown answer is not
    definite. Without capacity, whatever has yet to make its home tries the next zone; any other
    START moves the workspace if it may, and ends if not. Any other fault fails the operation. A
    machine that is only too old, and may not be deleted, is booted.
    """
    calling = CALLING_PHASE.get(step.operation.phase, step.operation.phase)
    inserting = calling is Phase.INSERT
    if fault.kind is FaultKind.STOCK_OUT and inserting and step.workspace.home_disk is None:
        return _go_to_next_zone(step, fault)
    boots = step.operation.kind is OperationKind.START and calling is not Phase.RESIZE_DISK
    if fault.kind is FaultKind.STOCK_OUT and boots:
        if step.workspace.home_disk is not None and _can_move(step):
            return _move(step, fault)
        return _end_without_capacity(step, fault, inserting=inserting)
    refusal = _Refusal(fault=fault, calling=calling, command=command, said=_sentence_of(fault))
    step = replace(step, operation=_remembering(step, refusal))
    if fault.kind is FaultKind.ALREADY_EXISTS and inserting:
        return _make_way(step, refusal)
    if _may_pass(step, refusal):
        accepted = calling is Phase.SNAPSHOT and command is None
        return TakeAgain()(step) if accepted else Again(calling)(step)
    return _step_down(step, refusal)


def _step_down(step: Step, refusal: _Refusal) -> Updated:
    """Go on after a fault that does not pass: in a lesser way if there is one, or fail."""
    said, calling = refusal.said, refusal.calling
    if refusal.fault.kind is FaultKind.UNSUPPORTED and calling is Phase.SUSPEND:
        why = (
            "Compute Engine cannot suspend this machine, so it was shut down. "
            f"Compute Engine said: {said}"
        )
        return give_memory_up(step, why)
    if refusal.is_definite and not step.operation.remade:
        cannot = "resumed" if refusal.of_resume else "started"
        why = (
            f"The machine could not be {cannot}, so a new one was made. Compute Engine said: {said}"
        )
        stuck = replace(step.operation, cannot_go_on=why)
        return replace(step, operation=stuck).enter(Phase.SURVEY, "MachineStuck")
    if step.operation.renews and calling is Phase.DELETE_INSTANCE:
        return boot_although_old(step, said)
    problem = _problem_of_refusal(step, refusal)
    if step.operation.kind is OperationKind.SNAPSHOT:
        at_once = refusal.command is not None and step.operation.attempt == 0
        return end_without_snapshot(step, problem, may_exist=not at_once)
    return fail(step, problem)


def _sentence_of(fault: Fault) -> str:
    """Return what Compute said as a sentence that names the resource in the way."""
    said = fault.message
    if fault.resource and fault.resource not in said:
        said = f"{said.rstrip('.')} ({fault.resource})"
    return said if said.endswith((".", "!", "?")) else f"{said}."


def _remembering(step: Step, refusal: _Refusal) -> Operation:
    """Return the operation with the refusal noted in it."""
    kind = refusal.fault.kind
    noted = replace(step.operation, last_fault=refusal.said, last_fault_kind=kind.value)
    if kind is FaultKind.PERMISSION and noted.right_missing_since is None:
        return replace(noted, right_missing_since=step.now)
    return noted


def _may_pass(step: Step, refusal: _Refusal) -> bool:
    """Say whether a refusal may be over by the next look.

    A missing right may just have been given (``Policy.rights_patience``). An invalid suspend or
    resume may be a shape of error that no row of the error table knows, which is no reason to lose
    memory.
    """
    kind, calling = refusal.fault.kind, refusal.calling
    if kind is FaultKind.PERMISSION:
        since = step.operation.right_missing_since or step.now
        return step.now - since < step.policy.rights_patience
    keeps_memory = calling in {Phase.SUSPEND, Phase.RESUME}
    if kind is FaultKind.INVALID and (keeps_memory or isinstance(refusal.command, ResumeInstance)):
        return True
    if kind is FaultKind.NOT_FOUND and calling is Phase.INSERT:
        return _is_about_source(step, refusal.fault)
    return kind in _PASSING or kind is FaultKind.NOT_FOUND


def _is_about_source(step: Step, fault: Fault) -> bool:
    """Say whether Compute names the snapshot that the home is made from: the next look sees it."""
    source = step.workspace.home_source
    return source is not None and source.resource_name in f"{fault.resource} {fault.message}"


def _make_way(step: Step, refusal: _Refusal) -> Updated:
    """Get on although something has a name that the insert needs.

    A machine or the home disk is taken at the next look. A boot disk that outlived its machine is
    not waited for: a new generation gives the new boot disk another name, once.
    """
    kind, _, name = refusal.fault.resource.rpartition("/")
    if not kind.endswith("disks") or name == step.workspace.disk_name:
        return Again(Phase.INSERT)(step)
    if step.operation.renamed:
        without_command = replace(refusal, command=None)
        return fail(step, _problem_of_refusal(step, without_command))
    return replace(step, operation=replace(step.operation, renamed=True)).boot(Phase.INSERT)


def _problem_of_refusal(step: Step, refusal: _Refusal) -> Problem:
    """Return what a person is told about a refusal that fails the operation."""
    kind = refusal.fault.kind
    code, text, retryable = _REFUSALS.get(kind, _ANY_OTHER)
    told = text.format(what=_WHAT.get(refusal.calling, "the machine"))
    doing = f" ({type(refusal.command).__name__})" if refusal.command is not None else ""
    way = way_out(step.operation)
    if kind in {FaultKind.PERMISSION, FaultKind.POLICY}:
        way = f"Whoever runs this Hub must change that. {way}"
    message = f"{told} Compute Engine said{doing}: {refusal.said} {way}"
    return problem_of(step, code, message, retryable=retryable)


# ---- zones without capacity ----------------------------------------------------------------------


_LATER_OR_OTHER = "Try again later, or with another machine type."
_LATER = {OperationKind.RESTORE: f"Try again later. {WAY_OUT[OperationKind.RESTORE]}"}


def _go_to_next_zone(step: Step, fault: Fault) -> Updated:
    """Leave a zone without capacity, and first delete what the attempt may have left there."""
    tried = (*step.operation.zones_tried, step.workspace.zone)
    leaving = replace(step, operation=replace(step.operation, zones_tried=tried))
    if leaving.free_zones:
        return leaving.enter(Phase.DELETE_DISK, "ZoneExhausted")
    message = f"{_without_capacity(leaving)} Compute said: {fault.message}"
    problem = problem_of(step, NO_CAPACITY, message, retryable=True)
    if step.operation.kind is not OperationKind.START or step.has_switched:
        return fail(leaving, problem)
    deadline_at = step.now + step.policy.deadlines.delete
    failed = replace(leaving.operation, failure=problem, deadline_at=deadline_at)
    return replace(leaving, operation=failed).enter(Phase.DELETE_DISK, "StartFailed")


def _without_capacity(step: Step) -> str:
    """Say where there is no capacity, where the workspace is then, and what a person can do."""
    operation, workspace = step.operation, step.workspace
    tried, former = operation.zones_tried, operation.former_home
    where = f"in any configured zone ({', '.join(tried)})"
    if operation.to_zone is not None and not operation.may_move:
        where = f"in zone {workspace.zone}"
    elif operation.to_zone is not None and former is not None:  # its own zone was not tried
        where = f"in any other zone ({', '.join(tried)})"
    said = f"No capacity for {workspace.machine_type} {where}."
    if operation.moves and former is not None:
        machine = operation.former_machine
        memory = machine is not None and machine.ready_generation == machine.generation
        kept = "home and memory are" if memory else "home is"
        said += f" The workspace's {kept} in zone {former.zone}, as before."
        if operation.to_zone is None:
            return f"{said} Start it again later."
        if operation.may_move:
            return f"{said} Start it to go on there, or move it again later."
        return f"{said} Start it to go on there, or move it to another zone."
    if workspace.archived_at is not None:
        said += " The workspace is archived, as before."
        if where.startswith("in any"):
            return f"{said} Start it again later, or with another machine type."
        return f"{said} Start it without a zone: that takes the first one with capacity."
    return f"{said} {_LATER.get(operation.kind, _LATER_OR_OTHER)}"


def _can_move(step: Step) -> bool:
    """Say whether a START may move the workspace, and to some zone."""
    own = {step.workspace.zone}
    return step.operation.may_move and bool(set(step.free_zones) - own)


def _move(step: Step, fault: Fault) -> Updated:
    """Move a workspace whose zone has no capacity, as its owner has agreed to.

    From now on it may take as long as a RESTORE: the home has to be stored.
    """
    workspace = step.workspace
    moving = replace(
        step.operation,
        moves=True,
        last_fault=_sentence_of(fault),
        deadline_at=step.now + step.policy.deadlines.restore,
    )
    change = replace(step, operation=moving).enter(Phase.SNAPSHOT, "MoveBegun")
    why = f"Zone {workspace.zone} has no capacity for {workspace.machine_type}."
    return replace(change, notes=(Note("MoveBegun", why),))


def _end_without_capacity(step: Step, fault: Fault, *, inserting: bool) -> Updated:
    """End a START whose zone has no capacity: the workspace is SUSPENDED.

    Its owner wants it, so the time until it is deleted as forgotten begins anew.
    """
    workspace = replace(step.workspace, suspended_at=None)
    if inserting:
        workspace = replace(workspace, instance_id=None)
    kept = "disk and memory are" if step.workspace.memory_is_ready else "disk is"
    way = "or start it with may_move: then it moves to another zone, and loses its memory"
    allowing = replace(step, operation=replace(step.operation, may_move=True))
    if not _can_move(allowing):
        way = "since there is no other zone that it could move to"
    message = (
        f"Zone {workspace.zone} has no capacity for {workspace.machine_type} now. The workspace's "
        f"{kept} in that zone. Start it again later, {way}. Compute said: {fault.message}"
    )
    problem = problem_of(step, NO_CAPACITY, message, retryable=True)
    return replace(step, workspace=workspace).finish(Status.SUSPENDED, "StartRefused", problem)
