"""Do what is due for a snapshot: see whether it is stored by now, or delete it."""

from shared import logs
from shared.domain.events import Event, snapshot_event
from shared.domain.forks import waiting_for
from shared.domain.instance import GLOBAL, DeleteSnapshot, SnapshotStatus
from shared.domain.jobs import Job
from shared.domain.policy import Policy
from shared.domain.snapshots import (
    SNAPSHOT_NOT_DELETED,
    SeenSnapshot,
    Snapshot,
    SnapshotChange,
    SnapshotForgotten,
    SnapshotState,
    SnapshotUpdated,
    current_job,
    deletion_asked,
    follow,
    postpone,
)
from shared.ports import Machines, Stored
from shared.usecases.calls import perform_in_step
from shared.usecases.owned import owned_by
from shared.usecases.records import Records, log_snapshot


def follow_snapshot(
    records: Records, machines: Machines, policy: Policy, job: Job, snapshot_id: str
) -> None:
    """Look at a snapshot, decide, perhaps delete it in Compute, and commit.

    Safe to run twice, late, or at the same time as itself: a job of a later step does nothing, one
    of an earlier step has the current job sent again, and the call to Compute has a request id made
    from snapshot and step. A snapshot is not deleted while a workspace waits for a home from it
    (``forks``).

    Raises:
        UnavailableError: Compute, the store or the queue did not answer; the platform delivers the
            job again.
    """

    def attempt(*, again: bool) -> Job | None:  # noqa: ARG001 -- a step is safe to repeat
        stored = records.store.get_snapshot(snapshot_id)
        snapshot = stored.record if stored else None
        if stored is None or snapshot is None or _is_obsolete(snapshot, job):
            logs.info(
                "JobObsolete",
                workspace_id=job.workspace_id,
                snapshot_id=snapshot_id,
                step=job.step,
            )
            return None
        if snapshot.step > job.step:
            return current_job(snapshot)
        change = follow(snapshot, _see(machines, snapshot), records.clock(), policy)
        if isinstance(change, DeleteSnapshot):
            change = _delete(records, machines, policy, snapshot, change)
        return _commit(records, stored, change)

    # If this fails, the job comes again and sends it.
    records.send(records.retry(attempt))


def _is_obsolete(snapshot: Snapshot, job: Job) -> bool:
    """Say whether nothing is due, or a job is of a step that is not reached yet."""
    return snapshot.attend_at is None or snapshot.step < job.step


def _see(machines: Machines, snapshot: Snapshot) -> SeenSnapshot:
    """Read the snapshot, and the call of Compute that is under way.

    What becomes of an upload is the snapshot's own state; the call only says why it failed.
    """
    there = machines.get_snapshot(snapshot.place.name)
    uploads = snapshot.state is SnapshotState.UPLOADING
    fine = there is not None and there.status is not SnapshotStatus.FAILED
    if snapshot.gce_operation is None or (uploads and fine):
        return SeenSnapshot(there=there)
    state = machines.operation(GLOBAL, snapshot.gce_operation)
    return SeenSnapshot(there=there, pending=not state.done, fault=state.fault)


def _delete(
    records: Records,
    machines: Machines,
    policy: Policy,
    snapshot: Snapshot,
    command: DeleteSnapshot,
) -> SnapshotUpdated:
    """Delete the snapshot in Compute, unless a workspace waits for it."""
    if waiting_for(snapshot.id, owned_by(records.store, snapshot.owner_id)):
        return postpone(snapshot, records.clock(), policy)
    outcome = perform_in_step(machines, command, f"{snapshot.id}/{snapshot.step}")
    return deletion_asked(snapshot, outcome, records.clock(), policy)


def _commit(records: Records, stored: Stored[Snapshot], change: SnapshotChange) -> Job | None:
    """Commit a change, with an event if the snapshot is another thing than before.

    Returns the job that follows.

    Raises:
        ConflictError: the snapshot has changed since it was read; nothing was written.
    """
    before, now = stored.record, records.clock()
    if isinstance(change, SnapshotForgotten):
        event = snapshot_event(before, change.event, "DELETED", now)
        records.store.commit(snapshots=[(stored, None)], events=[event])
        log_snapshot(before, change.event)
        return None
    after = change.snapshot
    events: list[Event] = []
    if after.state is not before.state:
        result = after.error.code if after.error else after.state.value
        events.append(snapshot_event(before, change.event, result, now))
    records.store.commit(snapshots=[(stored, after)], events=events)
    log_snapshot(after, change.event)
    _log_refused_deletion(before, after)
    return change.job


def _log_refused_deletion(before: Snapshot, after: Snapshot) -> None:
    """Log an error, once, if Compute refuses a deletion for a reason that does not pass."""
    known, problem = before.error, after.error
    if problem is None or problem.code != SNAPSHOT_NOT_DELETED:
        return
    if known is None or known.code != SNAPSHOT_NOT_DELETED:
        logs.error(
            "SnapshotNotDeleted",
            workspace_id=after.workspace_id,
            snapshot_id=after.id,
            name=after.place.name,
            reason=problem.message,
        )
