"""Change a workspace by compare-and-set: read, decide, commit with what was read as the condition, then send the job."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from shared import logs
from shared.domain.changes import Change, job_of
from shared.domain.errors import ConflictError, UnavailableError, WorkspaceNotFoundError
from shared.domain.events import asked, came_to, ended, noted
from shared.domain.jobs import Job
from shared.domain.owners import mark_running, release
from shared.domain.people import Actor
from shared.domain.workspace import Operation, Owner, Workspace
from shared.ports import Clock, Jobs, Stored, WorkspaceStore

ATTEMPTS = 12
PAUSE_SECONDS = 0.02


def change_workspace(
    store: WorkspaceStore,
    jobs: Jobs,
    clock: Clock,
    workspace_id: str,
    decide: Callable[[Workspace], Change | None],
    actor: Actor | None = None,
) -> tuple[Workspace, bool]:
    """Change a workspace as ``decide`` says, deciding again on what is there when somebody else was faster.

    Returns the workspace as it is now, and whether this changed it. The job leaves after the
    commit; when it cannot be sent the change stands all the same and ``reconcile`` sends it, so
    that an accepted request is never lost. ``actor`` is who asks for the change, for the audit
    trail.

    Raises:
        WorkspaceNotFoundError: there is none, or it has just been deleted.
        UnavailableError: others changed it so often that this had no chance.
        HubError: whatever ``decide`` raises.
    """
    for attempt in range(ATTEMPTS):
        stored = store.get(workspace_id)
        if stored is None:
            raise WorkspaceNotFoundError(workspace_id)
        change = decide(stored.record)
        if change is None:
            if attempt > 0 and stored.record.operation is not None:
                # What was refused as a conflict may have been this very change, its answer lost:
                # its job is sent all the same.
                send_job(jobs, job_of(stored.record, stored.record.operation))
            return stored.record, False
        try:
            commit_change(store, stored, change, clock(), actor)
        except ConflictError:
            pause(attempt)
            continue
        log_change(stored.record, change)
        send_job(jobs, change.job)
        return change.workspace or stored.record, True
    raise UnavailableError(
        "Too many changes of this workspace at once. Nothing was changed; try again."
    )


def commit_change(
    store: WorkspaceStore,
    stored: Stored[Workspace],
    change: Change,
    now: datetime,
    actor: Actor | None = None,
) -> None:
    """Commit a change of what was read, with what follows from it for the owner's record and the audit trail.

    The owner's record is read and written only when the workspace goes, or begins or ceases to
    count as running.

    Raises:
        ConflictError: the workspace or its owner changed in between; nothing was written.
    """
    before, after = stored.record, change.workspace
    owners: list[tuple[Stored[Owner], Owner]] = []
    if after is None or after.counts_as_running != before.counts_as_running:
        owner = store.get_owner(before.owner_id)
        if after is None:
            owners = [(owner, release(owner.record, before.id))]
        else:
            owners = [
                (owner, mark_running(owner.record, before.id, running=after.counts_as_running))
            ]
    events = [event for event in (*noted(before, change, now), ended(before, change, now)) if event]
    if actor is not None:
        events.append(asked(actor, before, change.event, now))
    store.commit(workspaces=[(stored, after)], owners=owners, events=events)


def send_job(jobs: Jobs, job: Job | None) -> None:
    """Send a committed change's job. One that cannot be sent now is sent by ``reconcile`` when ``attend_at`` has come."""
    if job is None:
        return
    try:
        jobs.send(job)
    except UnavailableError as error:
        logs.warning("JobNotSent", workspace_id=job.workspace_id, step=job.step, reason=str(error))


def log_change(before: Workspace, change: Change) -> None:
    """Log one line of an operation's story."""
    after = change.workspace or replace(before, operation=None)
    operation = after.operation or before.operation
    logs.info(
        change.event,
        workspace_id=before.id,
        status=after.status,
        operation_id=operation.id if operation else None,
        operation_kind=operation.kind if operation else None,
        phase=operation.phase if operation else None,
        step=operation.step if operation else None,
        generation=after.generation,
        error=after.error.code if after.error else None,
        since_request_ms=_since_request_ms(after.updated_at, operation.requested_at)
        if operation
        else None,
    )
    for note in change.notes:
        logs.warning(note.what, workspace_id=before.id, reason=note.why)
    was = before.operation
    if was is not None and (after.operation is None or after.operation.id != was.id):
        _log_end(was, came_to(before, change), after)


def _log_end(operation: Operation, result: str, after: Workspace) -> None:
    """Log the whole story of an operation in one line: what Cloud Monitoring takes counts and latencies from."""
    logs.info(
        "OperationEnded",
        workspace_id=after.id,
        operation_id=operation.id,
        operation_kind=operation.kind,
        result=result,
        seconds=_since_request_ms(after.updated_at, operation.requested_at) / 1000,
        steps=operation.step,
        last_phase=operation.phase,
        zones_tried=list(operation.zones_tried),
        requested_by=operation.requested_by,
        automatic=operation.automatic,
        last_fault=operation.last_fault,
    )


def pause(attempt: int) -> None:
    """Wait a random while that grows with each attempt, at most a second: those who collided spread out."""
    time.sleep(random.uniform(0, min(PAUSE_SECONDS * 2**attempt, 1)))  # noqa: S311 -- jitter, not a secret


def _since_request_ms(now: datetime, requested_at: datetime) -> int:
    return round((now - requested_at).total_seconds() * 1000)
