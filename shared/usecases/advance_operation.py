"""Do one step of an operation: look, decide, call Compute at most once, commit, send the next job."""

import uuid
from dataclasses import replace

from shared import logs
from shared.domain import ownership, steps
from shared.domain.changes import Change, due_look_job, job_of
from shared.domain.drift import ObservedState, adopt_observed, observed_state, seeks_elsewhere
from shared.domain.errors import ConflictError, MachineFaultError, UnavailableError
from shared.domain.instance import (
    DeleteInstance,
    Fault,
    FaultKind,
    InsertInstance,
    Place,
    StartedCall,
)
from shared.domain.jobs import Job
from shared.domain.policy import Policy
from shared.domain.steps import CONSOLE_TAIL_BYTES, Call, Step, StepInput
from shared.domain.workspace import OperationKind, Workspace
from shared.ports import Clock, Jobs, Machines, WorkspaceStore
from shared.usecases.change_workspace import (
    ATTEMPTS,
    change_workspace,
    commit_change,
    log_change,
    pause,
)


def advance_operation(
    store: WorkspaceStore, machines: Machines, jobs: Jobs, clock: Clock, policy: Policy, job: Job
) -> None:
    """Do the step that the job names, or look at a workspace without an operation.

    Safe to run twice, late or at the same time as itself: a job of another operation or a later
    step does nothing; one of an earlier step of the same operation means that a delivery died
    between its commit and its send, so the current job is sent again (its name makes it the same
    one). The call to Compute has a request id made from operation and step: the same step is the
    same call.

    Raises:
        UnavailableError: Compute, the store or the queue did not answer; the platform delivers the
            job again.
    """
    began = clock()
    for attempt in range(ATTEMPTS):
        stored = store.get(job.workspace_id)
        operation = stored.record.operation if stored else None
        if stored is not None and job.operation_id is None:
            look(store, machines, jobs, clock, policy, stored.record.id)
            return
        if (
            stored is None
            or operation is None
            or operation.id != job.operation_id
            or operation.step < job.step
        ):
            logs.info(
                "JobObsolete",
                workspace_id=job.workspace_id,
                operation_id=job.operation_id,
                step=job.step,
            )
            return
        if operation.step > job.step:
            jobs.send(job_of(stored.record, operation))
            return
        now = clock()
        step = Step(workspace=stored.record, operation=operation, now=now, policy=policy)
        decision: Change | Call
        try:
            step = replace(step, inputs=_see(machines, step))
            decision = steps.plan(step)
            # A DELETE waits for as long as a worker can be about to insert: one that was held up
            # must not call any more.
            in_time = clock() - began <= policy.worker_timeout / 2
            step_id = f"{operation.id}/{operation.step}"
            outcome = (
                _perform(machines, decision, step_id)
                if isinstance(decision, Call) and in_time
                else None
            )
        except UnavailableError:  # Compute's: nothing else has been asked here
            if now < operation.deadline_at:
                raise
            decision = steps.overdue_unseen(step)
        if isinstance(decision, Call):
            if outcome is None:
                raise UnavailableError("this step took too long to begin")
            _commit_settled(
                store, machines, jobs, clock, policy, job, step.inputs, decision, outcome
            )
            return
        try:
            commit_change(store, stored, decision, now)
        except ConflictError:
            pause(attempt)
            continue
        _committed(jobs, stored.record, decision)
        return
    raise UnavailableError("too many changes of this workspace at once")


def _see(machines: Machines, step: Step) -> StepInput:
    """Look at what the operation's phase goes by: its Compute operation; once that is done, the machine, and what else it needs."""
    workspace, operation = step.workspace, step.operation
    fault = None
    if operation.gce_operation is not None:
        state = machines.operation(workspace.zone, operation.gce_operation)
        if not state.done and step.now < operation.deadline_at:
            return StepInput(pending=True)
        fault = state.fault
    place = Place(workspace.zone, workspace.instance_name)
    home = Place(workspace.zone, workspace.disk_name)
    seen = StepInput(
        fault=fault,
        instance=machines.get(place),
        disk_exists=steps.reads_disk(operation) and machines.get_disk(home) is not None,
        console=machines.console_tail(place, CONSOLE_TAIL_BYTES)
        if steps.reads_console(operation, step.now)
        else "",
    )
    try:
        return _see_elsewhere(machines, replace(step, inputs=seen))
    except UnavailableError as error:
        if operation.kind is not OperationKind.DELETE:
            raise
        # A zone somewhere does not answer. What may be left there is an orphan, which the hourly
        # sweep sees to.
        logs.warning("NotSearched", workspace_id=workspace.id, reason=str(error))
        return seen


def _see_elsewhere(machines: Machines, step: Step) -> StepInput:
    """Look in all zones for what this step needs of them."""
    workspace, seen = step.workspace, step.inputs
    seeks_machines, seeks_disks = steps.seeks_elsewhere(step)
    if seeks_machines:
        seen = replace(
            seen,
            elsewhere=tuple(
                ownership.other_places(workspace, machines.find_instances(workspace.id))
            ),
        )
    if seeks_disks:
        seen = replace(
            seen, disks=tuple(ownership.disks_of(workspace.id, machines.find_disks(workspace.id)))
        )
    return seen


def _perform(machines: Machines, call: Call, step: str) -> StartedCall | Fault:
    """Make the call. The same command in the same step has the same request id, so making it again is making it once."""
    identity = f"workspace-hub/{step}/{type(call.command).__name__}"
    try:
        return machines.perform(call.command, str(uuid.uuid5(uuid.NAMESPACE_URL, identity)))
    except MachineFaultError as error:
        return error.fault


def _commit_settled(
    store: WorkspaceStore,
    machines: Machines,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    job: Job,
    seen: StepInput,
    call: Call,
    outcome: StartedCall | Fault,
) -> None:
    """Record what came of a call, on the record as it is by now.

    A heartbeat in between changes nothing. Another delivery that has already recorded this step
    makes this one obsolete. A DELETE that superseded the operation wins: what was just inserted for
    nobody is deleted at once, since the DELETE may have looked before it was there. Where the
    operation has ended meanwhile, a worker looks at what this call does.
    """
    for attempt in range(ATTEMPTS):
        stored = store.get(job.workspace_id)
        operation = stored.record.operation if stored else None
        if (
            stored is not None
            and operation is not None
            and operation.id == job.operation_id
            and operation.step > job.step
        ):
            jobs.send(
                job_of(stored.record, operation)
            )  # recorded already: by another delivery, or by us, the answer lost
            return
        if (
            stored is None
            or operation is None
            or (operation.id, operation.step) != (job.operation_id, job.step)
        ):
            deleted = stored is None or (
                operation is not None and operation.kind is OperationKind.DELETE
            )
            if (
                deleted
                and isinstance(call.command, InsertInstance)
                and isinstance(outcome, StartedCall)
            ):
                _undo(machines, job, call, recorded=stored is not None)
            elif stored is not None and operation is None and isinstance(outcome, StartedCall):
                # Another delivery has ended the operation: what was called all the same moves the
                # machine behind the record.
                jobs.send(due_look_job(stored.record, clock(), job.request_id))
            return
        now = clock()
        step = Step(
            workspace=stored.record, operation=operation, inputs=seen, now=now, policy=policy
        )
        change = steps.record_outcome(step, call, outcome)
        try:
            commit_change(store, stored, change, now)
        except ConflictError:
            pause(attempt)
            continue
        _committed(jobs, stored.record, change)
        return
    raise UnavailableError("too many changes of this workspace at once")


def _undo(machines: Machines, job: Job, insert: Call, *, recorded: bool) -> None:
    """Delete what was inserted for nobody. ``recorded``: the DELETE that superseded the insert is still under way.

    A deletion that is refused often meets another one, the DELETE's own, so what counts is what is
    there afterwards. A DELETE that is under way finds whatever is left before it forgets the record
    (``Operation.forget_after``). Without a record nobody looks any more: that is an error, unless
    the machine is gone, or stopping, as one that is being deleted is.
    """
    place = insert.command.place
    logs.warning("SupersededInsertDeleted", workspace_id=job.workspace_id)
    undone = _perform(
        machines, Call(DeleteInstance(place), insert.leads_to), f"{job.operation_id}/{job.step}"
    )
    if not isinstance(undone, Fault) or undone.kind is FaultKind.NOT_FOUND:
        return
    if recorded:
        logs.warning("InstanceLeftToDelete", workspace_id=job.workspace_id, reason=undone.message)
    elif _may_stay(machines, place):
        logs.error("InstanceOrphaned", workspace_id=job.workspace_id, reason=undone.message)


def _may_stay(machines: Machines, place: Place) -> bool:
    """Say whether a machine is there and is not on its way out; of one that cannot be seen the worst is taken."""
    try:
        return observed_state(machines.get(place)) not in {
            ObservedState.ABSENT,
            ObservedState.STOPPING,
        }
    except UnavailableError:
        return True


def _committed(jobs: Jobs, before: Workspace, change: Change) -> None:
    """Log the step and send the next job. When that fails, this job comes again and sends it: see ``advance_operation``."""
    log_change(before, change)
    if change.job is not None:
        jobs.send(change.job)


def look(
    store: WorkspaceStore,
    machines: Machines,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    workspace_id: str,
) -> tuple[Workspace, bool]:
    """Make the record follow what Compute says, where nothing is under way. Returns it, and whether this changed it.

    Raises:
        WorkspaceNotFoundError: there is none, or it has just been deleted.
        UnavailableError: Compute or the store does not answer.
    """

    def decide(workspace: Workspace) -> Change | None:
        if workspace.operation is not None:
            return None
        instance = machines.get(Place(workspace.zone, workspace.instance_name))
        elsewhere = (
            machines.find_instances(workspace.id) if seeks_elsewhere(workspace, instance) else []
        )
        return adopt_observed(
            workspace, instance, clock(), policy, ownership.other_places(workspace, elsewhere)
        )

    return change_workspace(store, jobs, clock, workspace_id, decide)
