"""Do the steps of an operation that are due: each looks, decides, may call Compute, and commits.

The job that follows the last one is sent.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from shared import logs
from shared.domain import ownership, steps
from shared.domain.changes import Change, Transition, due_look_job, job_of
from shared.domain.drift import ObservedState, adopt_observed, observed_state, seeks_elsewhere
from shared.domain.errors import UnavailableError
from shared.domain.instance import (
    GLOBAL,
    DeleteInstance,
    Disk,
    Fault,
    FaultKind,
    InsertInstance,
    Place,
    SnapshotStatus,
    StartedCall,
)
from shared.domain.jobs import PROMPTLY, Job
from shared.domain.policy import Policy
from shared.domain.snapshots import (
    Snapshot,
    SnapshotState,
    is_of_disk,
    snapshot_place,
    source_of,
)
from shared.domain.steps import CONSOLE_TAIL_BYTES, Call, Step, StepInput
from shared.domain.workspace import Operation, OperationKind, Workspace
from shared.ports import Machines, Stored
from shared.usecases.calls import perform_in_step
from shared.usecases.follow_snapshot import follow_snapshot
from shared.usecases.give_access import give_access
from shared.usecases.records import Records, readable

# How many steps a delivery does, one after the other. No operation needs more of them before it has
# to wait. A chain that does not end goes by the queue, which has a rate.
MOST_STEPS = 5


def advance_operation(records: Records, machines: Machines, policy: Policy, job: Job) -> None:
    """Do the step that the job names, or look at a workspace without an operation.

    A job about a snapshot is ``follow_snapshot``'s.

    The steps that follow at once are done too, ``MOST_STEPS`` in all: each is committed before the
    next one begins. The job of the step after that is sent.

    Safe to run twice, late, or at the same time as itself. A job of another operation or of a later
    step does nothing. A job of an earlier step of the same operation means that a delivery died
    after a commit, or failed at a later step, before it sent a job. So the current job is sent
    again; its name makes it the same job. The call to Compute has a request id made from operation
    and step: the same step is the same call.

    At last the owner is let in to a new machine (``give_access``), when the job that follows is on
    its way. A job that finds its operation over does that too, so it takes no job of its own.

    Raises:
        UnavailableError: Compute, the store or the queue did not answer; the platform delivers the
            job again.
    """
    if job.snapshot_id is not None:
        follow_snapshot(records, machines, policy, job, job.snapshot_id)
        return
    delivery = _Delivery(records, machines, policy, job, records.clock())
    for _ in range(MOST_STEPS):
        done = records.retry(delivery.attempt)
        following = done.job
        if following is None or following.delay > PROMPTLY or delivery.is_held_up:
            break
        delivery = replace(delivery, job=following)
    # If this fails, the job comes again and sends it.
    records.send(following)
    if done.workspace is not None and not delivery.is_held_up:
        give_access(records, machines, policy, done.workspace)


def look(
    records: Records, machines: Machines, policy: Policy, workspace_id: str
) -> tuple[Workspace, bool]:
    """Make a record without an operation adopt what Compute says of its machine.

    Then let its owner in to the machine, if that is due. Returns the record, and whether this call
    changed it.

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
        others = ownership.moved_machines(workspace, elsewhere)
        return adopt_observed(workspace, instance, records.clock(), policy, others)

    workspace, changed = records.change(workspace_id, decide)
    given = give_access(records, machines, policy, workspace)
    return given or workspace, changed or given is not None


@dataclass(frozen=True, slots=True)
class _Done:
    """What a delivery has done of an operation.

    ``job`` follows, and is not sent yet; None if nothing follows. ``workspace`` is the record as it
    is now; None if it does not exist, or if another delivery sees to it.
    """

    job: Job | None = None
    workspace: Workspace | None = None


@dataclass(frozen=True, slots=True)
class _Delivery:
    """One delivery of a job, begun at ``began``, at the step of ``job``."""

    records: Records
    machines: Machines
    policy: Policy
    job: Job
    began: datetime

    @property
    def is_held_up(self) -> bool:
        """Whether it has lasted for too long to begin a step or to call Compute.

        A DELETE waits for as long as a worker can be about to insert, so a worker that was held up
        must not insert any more.
        """
        return self.records.clock() - self.began > self.policy.worker_timeout / 2

    def attempt(self, *, again: bool) -> _Done:  # noqa: ARG002 -- a step is safe to repeat
        """Do the step on the record as it is now.

        Raises:
            ConflictError: the record changed meanwhile; nothing was called in Compute.
        """
        job, records = self.job, self.records
        stored = records.store.get(job.workspace_id)
        operation = stored.record.operation if stored else None
        if stored is not None and job.operation_id is None:
            look(records, self.machines, self.policy, stored.record.id)
            return _Done()
        if stored is None or operation is None or _is_obsolete(operation, job):
            logs.info(
                "JobObsolete",
                workspace_id=job.workspace_id,
                operation_id=job.operation_id,
                step=job.step,
            )
            return _Done(workspace=stored.record if stored else None)
        if operation.step > job.step:
            records.send(job_of(stored.record, operation))
            return _Done(workspace=stored.record)
        return self._do(stored, operation)

    def _do(self, stored: Stored[Workspace], operation: Operation) -> _Done:
        now = self.records.clock()
        step = Step(workspace=stored.record, operation=operation, now=now, policy=self.policy)
        decision: Change | Call
        try:
            step = replace(step, inputs=self._see(step))
            decision = steps.plan(step)
            if isinstance(decision, Call):
                outcome = self._perform_in_time(decision, operation)
        except UnavailableError:  # from Compute: nothing else has been called here
            if now < operation.deadline_at:
                raise
            decision = steps.overdue_unseen(step)
        if isinstance(decision, Call):
            if outcome is None:
                raise UnavailableError("this step took too long to begin")
            return self._record(step.inputs, decision, outcome)
        transition = Transition(stored.record, decision)
        self.records.commit_step(stored, transition, now)
        return _Done(transition.job, transition.after)

    def _see(self, step: Step) -> StepInput:
        """Read what the phase depends on: Compute's operation; once it is done, the machine etc."""
        machines, workspace, operation = self.machines, step.workspace, step.operation
        if operation.phase in steps.SNAPSHOT_PHASES:
            return self._see_snapshot(step)
        fault, goes_on = None, False
        if operation.gce_operation is not None:
            state = machines.operation(workspace.zone, operation.gce_operation)
            if not state.done and step.now < operation.deadline_at:
                return StepInput(pending=True)
            fault, goes_on = state.fault, not state.done
        place = Place(workspace.zone, workspace.instance_name)
        home = Place(workspace.zone, workspace.disk_name)
        instance = machines.get(place)
        disk = machines.get_disk(home) if steps.reads_disk(operation) else None
        seen = StepInput(
            fault=fault,
            goes_on=goes_on,
            instance=instance,
            disk_exists=disk is not None,
            home_is_foreign=disk is not None and ownership.has_lost_labels(workspace, disk),
            home_users=disk.users if disk else (),
            home_detached_at=disk.detached_at if disk else None,
            home_gb=disk.size_gb if disk else None,
            console=machines.console_tail(place, CONSOLE_TAIL_BYTES)
            if steps.reads_console(operation, step.now)
            else "",
        )
        if disk is not None and steps.seeks_copy(replace(step, inputs=seen)):
            seen = self._with_copy(seen, workspace, disk)
        source = steps.source_to_read(replace(step, inputs=seen))
        if source is not None:
            seen = replace(seen, source=machines.get_snapshot(source))
        try:
            return self._see_elsewhere(replace(step, inputs=seen))
        except UnavailableError as error:
            knows_more = bool(workspace.old_homes) and step.now < operation.deadline_at
            if operation.kind is not OperationKind.DELETE or knows_more:
                raise
            # A zone does not answer. What is left there is an orphan, which the hourly sweep finds.
            # A disk that the record names is waited for as long as the DELETE may take.
            logs.warning("NotSearched", workspace_id=workspace.id, reason=str(error))
            return seen

    def _see_snapshot(self, step: Step) -> StepInput:
        """Read what a phase depends on in which a snapshot of the home is taken, or waited for.

        Compute's operation ends only when the snapshot is stored, so it is not waited for.
        """
        machines, workspace, operation = self.machines, step.workspace, step.operation
        there = machines.get_snapshot(snapshot_place(workspace.id, operation.id).name)
        pending, fault = False, None
        if operation.gce_operation is not None:
            state = machines.operation(GLOBAL, operation.gce_operation)
            pending, fault = not state.done, state.fault
        seen = StepInput(
            pending=pending,
            fault=fault,
            instance=machines.get(Place(workspace.zone, workspace.instance_name)),
            snapshot=there,
        )
        home = workspace.home_disk
        if home is None or not steps.reads_users(replace(step, inputs=seen)):
            return seen
        disk = machines.get_disk(Place(home.zone, home.name))
        if disk is None:
            return self._without_home(replace(step, inputs=seen))
        seen = replace(seen, disk_exists=True, home_users=disk.users)
        if not steps.seeks_copy(replace(step, inputs=seen)):
            return seen
        return self._with_copy(seen, workspace, disk)

    def _without_home(self, step: Step) -> StepInput:
        """Look for a home that is not where it was. A DELETE takes what is left of it."""
        seen, workspace = self._see_elsewhere(step), step.workspace
        elsewhere = any(disk.name == workspace.disk_name for disk in seen.disks)
        if elsewhere or step.operation.kind is not OperationKind.DELETE:
            return seen
        known = [each.record for each in readable(self.records.store.list_snapshots(workspace.id))]
        for each in sorted(known, key=lambda each: each.asked_at, reverse=True):
            there = self.machines.get_snapshot(each.place.name) if _may_be_copy(each) else None
            stored = there is not None and there.status is SnapshotStatus.READY
            if there is not None and stored and is_of_disk(there, each.disk_name):
                return replace(seen, has_copy=source_of(replace(each, disk_gb=there.disk_gb)))
        return seen

    def _with_copy(self, seen: StepInput, workspace: Workspace, disk: Disk) -> StepInput:
        """Return what was seen, with a READY snapshot taken since a machine last had the disk.

        Whether one has had it since then, the generation says of the Hub's own machines, and
        Compute's two times of all others. A DELETE and an ARCHIVE take their own only after the
        Hub's machine is gone. So that needs no generation, which it lacks if the worker died that
        asked for it. A disk that was made of the snapshot that is still the home has nothing more:
        if a machine had used it, the disk would be the home.
        """
        if disk.in_use:
            return seen
        free_since = disk.detached_at or disk.created_at
        operation = workspace.operation
        own = operation.id if operation and operation.kind in steps.TAKING_HOME else None
        source = workspace.home_source.snapshot_id if workspace.home_source else None
        for each in readable(self.records.store.list_snapshots(workspace.id)):
            known = each.record
            kept = _may_be_copy(known)
            is_known = known.id in {own, source}
            since_boot = is_known or known.of_generation == workspace.generation
            of_disk = known.disk_name == disk.name and since_boot
            there = self.machines.get_snapshot(known.place.name) if kept and of_disk else None
            stored = there is not None and there.status is SnapshotStatus.READY
            if there is None or not stored or not is_of_disk(there, disk.name):
                continue
            made_of_it = known.id == source and disk.created_at >= there.created_at
            if there.created_at >= free_since or made_of_it:
                copy = source_of(replace(known, disk_gb=there.disk_gb))
                return replace(seen, has_copy=copy, copy_made_at=there.created_at)
        return seen

    def _see_elsewhere(self, step: Step) -> StepInput:
        """Read from all zones what this step needs of them."""
        workspace, seen = step.workspace, step.inputs
        seeks_machines, seeks_disks = steps.seeks_elsewhere(step)
        if seeks_machines:
            found = self.machines.find_instances(workspace.id)
            deletes = step.operation.kind is OperationKind.DELETE
            others = ownership.other_places if deletes else ownership.moved_machines
            seen = replace(seen, elsewhere=tuple(others(workspace, found)))
        if seeks_disks:
            disks = self.machines.find_disks(workspace.id)
            seen = replace(seen, disks=tuple(ownership.disks_of(workspace.id, disks)))
        return seen

    def _perform_in_time(self, call: Call, operation: Operation) -> StartedCall | Fault | None:
        """Make the call; None if this delivery was held up for too long to make it."""
        if self.is_held_up:
            return None
        return perform_in_step(self.machines, call.command, f"{operation.id}/{operation.step}")

    def _record(self, inputs: StepInput, call: Call, outcome: StartedCall | Fault) -> _Done:
        """Record what came of a call, on the record as it is by now.

        A heartbeat in between changes nothing. If another delivery has already recorded this step,
        only its job is sent again. If a DELETE has superseded the operation, what was just inserted
        is deleted at once, since the DELETE may have looked before it existed. So it is if another
        delivery has gone to another zone, since nobody looks at this one any more. If the operation
        has ended meanwhile, a worker looks at what this call does.
        """
        job, records = self.job, self.records

        def attempt(*, again: bool) -> _Done:  # noqa: ARG001 -- a step is safe to repeat
            stored = records.store.get(job.workspace_id)
            operation = stored.record.operation if stored else None
            if stored is None or operation is None or _is_obsolete(operation, job):
                self._superseded(stored.record if stored else None, call, outcome)
                return _Done()
            if operation.step > job.step:
                # Recorded by another delivery, or by us, and the answer was lost.
                if not isinstance(outcome, Fault) and _is_left_behind(stored.record, call):
                    self._undo(call, delete_looks=False)
                records.send(job_of(stored.record, operation))
                return _Done()
            now = records.clock()
            step = Step(
                workspace=stored.record,
                operation=operation,
                inputs=inputs,
                now=now,
                policy=self.policy,
            )
            change = steps.record_outcome(step, call, outcome)
            transition = Transition(stored.record, change)
            records.commit_step(stored, transition, now)
            return _Done(transition.job, transition.after)

        return records.retry(attempt)

    def _superseded(
        self, workspace: Workspace | None, call: Call, outcome: StartedCall | Fault
    ) -> None:
        """See to a call whose operation is not under way any more."""
        if isinstance(outcome, Fault):
            return
        operation = workspace.operation if workspace else None
        deleted = workspace is None or (
            operation is not None and operation.kind is OperationKind.DELETE
        )
        if deleted and isinstance(call.command, InsertInstance):
            self._undo(call, delete_looks=workspace is not None)
            return
        if workspace is not None and _is_left_behind(workspace, call):
            self._undo(call, delete_looks=False)
        if workspace is not None and operation is None:
            self.records.send(due_look_job(workspace, self.records.clock(), self.job.request_id))

    def _undo(self, insert: Call, *, delete_looks: bool) -> None:
        """Delete a machine that nobody wants any more.

        ``delete_looks`` says that a DELETE of its workspace is under way. It finds what is left
        before it deletes the record (``Operation.forget_after``). Otherwise nobody looks any more:
        what is left is an error. A deletion is often refused because another one, the DELETE's own,
        is under way. So what counts is what exists afterwards: a machine that is gone, or stopping,
        as one is that is being deleted, is not left.
        """
        place = insert.command.place
        workspace_id = self.job.workspace_id
        logs.warning("SupersededInsertDeleted", workspace_id=workspace_id)
        step = f"{self.job.operation_id}/{self.job.step}"
        undone = perform_in_step(self.machines, DeleteInstance(place), step)
        if not isinstance(undone, Fault) or undone.kind is FaultKind.NOT_FOUND:
            return
        if delete_looks:
            logs.warning("InstanceLeftToDelete", workspace_id=workspace_id, reason=undone.message)
        elif _may_stay(self.machines, place):
            logs.error("InstanceOrphaned", workspace_id=workspace_id, reason=undone.message)


def _is_obsolete(operation: Operation, job: Job) -> bool:
    """Whether a job is of another operation, or of a step that is not reached yet."""
    return operation.id != job.operation_id or operation.step < job.step


def _is_left_behind(workspace: Workspace, call: Call) -> bool:
    """Whether a call made a machine in a zone that the workspace has left meanwhile."""
    return isinstance(call.command, InsertInstance) and call.command.place.zone != workspace.zone


def _may_stay(machines: Machines, place: Place) -> bool:
    """Whether a machine exists and is not being stopped or deleted; True if it cannot be read."""
    try:
        state = observed_state(machines.get(place))
    except UnavailableError:
        return True
    return state not in {ObservedState.ABSENT, ObservedState.STOPPING}


def _may_be_copy(snapshot: Snapshot) -> bool:
    """Say whether a snapshot may be used by now: its record may not say yet that it is stored."""
    return snapshot.state in {SnapshotState.READY, SnapshotState.UPLOADING}
