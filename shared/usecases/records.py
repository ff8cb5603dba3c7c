"""The unit of work: reads a workspace, decides, commits, and sends the job that follows."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from shared import logs
from shared.domain.access import Actor
from shared.domain.changes import Change, Transition, job_of
from shared.domain.commits import Commit, commit_of
from shared.domain.deleted import DeletedWorkspace
from shared.domain.errors import ConflictError, UnavailableError, WorkspaceNotFoundError
from shared.domain.events import Event, result_of, snapshot_event
from shared.domain.jobs import Job
from shared.domain.lifecycle import with_sweep
from shared.domain.policy import Policy
from shared.domain.snapshot_room import known_of, making_room
from shared.domain.snapshots import (
    Snapshot,
    SnapshotUpdated,
    delete_all,
    hastened,
    next_job,
)
from shared.domain.workspace import Operation, Owner, Workspace
from shared.ports import Clock, Jobs, Stored, Unreadable, WorkspaceStore
from shared.usecases.audit import AuditTrail
from shared.usecases.forgetting import DeletedWrites, Left, SnapshotWrites, left_of

ATTEMPTS = 12
PAUSE_SECONDS = 0.02
MADE_ROOM = "It makes room for a newer snapshot."

T = TypeVar("T")


class Records:
    """The records of all workspaces, bound to where they are stored and where their jobs go.

    Each change is a compare-and-set: it is decided on the record that was read, and committed only
    if that record is still the same, together with the owner's record and the audit events. The
    job leaves after the commit. Safe to use from many threads.

    Attributes:
        store: where the records are.
        clock: the time.
        audit: what is noted beside the changes.
    """

    def __init__(
        self,
        store: WorkspaceStore,
        jobs: Callable[[], Jobs],
        clock: Clock,
        audit: AuditTrail,
        policy: Policy,
    ) -> None:
        """Bind the ports. ``jobs`` is called when a job is sent, and builds the client then."""
        self.store = store
        self.clock = clock
        self.audit = audit
        self._jobs = jobs
        self._policy = policy

    def find(self, workspace_id: str) -> Workspace | None:
        """Return the workspace, or None if it does not exist. One read."""
        stored = self.store.get(workspace_id)
        return stored.record if stored else None

    def change(
        self,
        workspace_id: str,
        decide: Callable[[Workspace], Change | None],
        actor: Actor | None = None,
    ) -> tuple[Workspace, bool]:
        """Change a workspace as ``decide`` says; on a conflict, read and decide again.

        Returns the workspace as it is now (as it was, if it is deleted), and whether this call
        changed it. If the job cannot be sent, the change stands and ``resend_lost_jobs`` sends it.
        ``actor`` is who asked for the change, for the audit trail.

        Raises:
            WorkspaceNotFoundError: there is none, or it has just been deleted.
            UnavailableError: every attempt met a conflict, or the store does not answer.
            HubError: whatever ``decide`` raises.
        """

        def attempt(*, again: bool) -> tuple[Workspace, bool]:
            stored = self.store.get(workspace_id)
            if stored is None:
                raise WorkspaceNotFoundError(workspace_id)
            before = stored.record
            change = decide(before)
            if change is None:
                if again:
                    self.send_current_job(before)
                return before, False
            transition = Transition(before, change)
            self.commit_step(stored, transition, self.clock(), actor)
            self.send_later(transition.job)
            return transition.after or before, True

        return self.retry(attempt)

    def retry(self, attempt: Callable[..., T]) -> T:
        """Call ``attempt``, again with ``again=True`` while it raises ConflictError.

        Every attempt reads and decides anew. The conflict may be the attempt's own earlier commit,
        whose answer was lost.

        Raises:
            UnavailableError: all attempts met a conflict.
        """
        for number in range(ATTEMPTS):
            try:
                return attempt(again=number > 0)
            except ConflictError:
                # The random pause doubles, up to a second, so that colliding requests spread out.
                most = min(PAUSE_SECONDS * 2**number, 1)
                time.sleep(random.uniform(0, most))  # noqa: S311 -- jitter, not a secret
        raise UnavailableError("Too many requests change the same records. Try again.")

    def commit_step(
        self,
        stored: Stored[Workspace],
        transition: Transition,
        now: datetime,
        actor: Actor | None = None,
    ) -> None:
        """Commit a transition to which no quota applies, and log it.

        The owner's record is read and written only if the transition counts for it. A workspace
        that is forgotten becomes one that can be taken back, or all its snapshots begin to be
        deleted (``forgetting``). With a new snapshot, those begin to be deleted that make room for
        it. A snapshot whose deletion has waited for a workspace's home is attended to again.

        Raises:
            ConflictError: the workspace, its owner, a snapshot or a deleted workspace changed in
                between; nothing was written.
        """
        owner = (
            self.store.get_owner(stored.record.owner_id) if transition.counts_for_owner else None
        )
        commit = commit_of(transition, owner.record if owner else None, now, actor)
        left = self._left(transition, now)
        commit = replace(commit, events=(*commit.events, *left.events))
        written = {new.id for _, new in left.snapshots}
        freed = [each for each in self._freed(transition, now) if each[1].id not in written]
        self.commit(stored, owner, commit, [*left.snapshots, *freed], left.deleted)

    def _left(self, transition: Transition, now: datetime) -> Left:
        """Return what a transition writes beside the workspace and its owner."""
        if transition.after is None:
            return left_of(self.store, self._policy, transition, now)
        taken = [each for each in transition.snapshots if each.captured_at is not None]
        if not taken:
            return Left(paired(transition.snapshots, ()))
        found = self.store.list_snapshots(transition.before.id)
        known = readable(found)
        kept = [each.record for each in known]
        operation = transition.before.operation
        request_id = operation.request_id if operation else ""
        restores = operation.restores if operation else None
        source = restores.snapshot_id if restores else None
        going = making_room(
            known_of(transition.before, kept, len(found) - len(known)), self._policy, kept=source
        )
        written = delete_all(going, request_id, now, self._policy)
        events = [
            snapshot_event(each, "SnapshotDeleteRequested", MADE_ROOM, now) for each in written
        ]
        return Left(paired([*transition.snapshots, *written], known), events=tuple(events))

    def _freed(self, transition: Transition, now: datetime) -> SnapshotWrites:
        """Return the snapshots that are to be deleted and have waited for this workspace's home."""
        before, after = _source_ids(transition.before), _source_ids(transition.after)
        freed: list[tuple[Stored[Snapshot] | None, Snapshot]] = []
        for snapshot_id in sorted(before - after):
            try:
                stored = self.store.get_snapshot(snapshot_id)
            except UnavailableError as error:
                # Its own job comes again within the hour.
                logs.warning("SnapshotNotRead", snapshot_id=snapshot_id, reason=str(error))
                continue
            again = hastened(stored.record, now, self._policy) if stored else None
            if again is not None:
                freed.append((stored, again))
        return freed

    def commit(
        self,
        stored: Stored[Workspace],
        owner: Stored[Owner] | None,
        commit: Commit,
        snapshots: SnapshotWrites = (),
        deleted: DeletedWrites = (),
    ) -> None:
        """Write a commit, on the condition that all of it is as it was read; log it.

        The workspace is written with its ``sweep_at``. The jobs of the snapshots are sent. If one
        cannot be sent, ``resend_lost_jobs`` does it.

        Raises:
            ConflictError: one of the records changed in between; nothing was written.
        """
        self.store.commit(
            workspaces=[(stored, self._timed(commit.transition.after))],
            owners=[(owner, commit.owner)] if owner and commit.owner else [],
            snapshots=snapshots,
            deleted=deleted,
            events=commit.events,
        )
        log_transition(commit.transition)
        self._follow(snapshots, deleted)

    def commit_left(self, left: Left) -> None:
        """Write what is left of deleted workspaces, with its events; log it.

        Raises:
            ConflictError: one of the records changed in between; nothing was written.
        """
        self.store.commit(snapshots=left.snapshots, deleted=left.deleted, events=left.events)
        self._follow(left.snapshots, left.deleted)

    def _follow(self, snapshots: SnapshotWrites, deleted: DeletedWrites) -> None:
        """Log which deleted workspaces are purged, and send the jobs of snapshots."""
        for stored, entry in deleted:
            if stored is not None and entry is None:
                logs.info("WorkspacePurged", workspace_id=stored.record.id)
        for _, snapshot in snapshots:
            self.send_later(next_job(snapshot, self._policy))

    def change_snapshot(
        self, snapshot_id: str, decide: Callable[[Snapshot], SnapshotUpdated | None]
    ) -> Snapshot | None:
        """Change a snapshot as ``decide`` says; on a conflict, read and decide again.

        Returns the snapshot if this call changed it. If the job cannot be sent, the change stands
        and ``resend_lost_jobs`` sends it.

        Raises:
            UnavailableError: every attempt met a conflict, or the store does not answer.
        """

        def attempt(*, again: bool) -> Snapshot | None:  # noqa: ARG001 -- a sweep comes again
            stored = self.store.get_snapshot(snapshot_id)
            change = decide(stored.record) if stored else None
            if change is None:
                return None
            self.store.commit(snapshots=[(stored, change.snapshot)])
            log_snapshot(change.snapshot, change.event)
            self.send_later(change.job)
            return change.snapshot

        return self.retry(attempt)

    def create(
        self,
        workspace: Workspace,
        owner: tuple[Stored[Owner], Owner],
        source: tuple[Stored[Snapshot], Snapshot] | None,
        event: Event,
        entry: Stored[DeletedWorkspace] | None = None,
    ) -> Workspace:
        """Write a new workspace with its owner's record, as it was read and as it is to be.

        So is the record of the snapshot that its home is made from, if it is. ``entry`` is the
        deleted workspace that it is made of again; None if it is new. Returns the workspace as it
        was written.

        Raises:
            ConflictError: the workspace exists, or one of the others changed in between; nothing
                was written.
        """
        timed = with_sweep(workspace, self._policy)
        self.store.commit(
            workspaces=[(None, timed)],
            owners=[owner],
            snapshots=[source] if source else [],
            deleted=[(entry, None)] if entry else [],
            events=[event],
        )
        return timed

    def _timed(self, workspace: Workspace | None) -> Workspace | None:
        return with_sweep(workspace, self._policy) if workspace else None

    def send(self, job: Job | None) -> None:
        """Send a job.

        Raises:
            UnavailableError: the queue does not answer.
        """
        if job is not None:
            self._jobs().send(job)

    def send_later(self, job: Job | None) -> None:
        """Send a job. If that fails, ``resend_lost_jobs`` sends it when ``attend_at`` is due."""
        if job is None:
            return
        try:
            self._jobs().send(job)
        except UnavailableError as error:
            logs.warning(
                "JobNotSent", workspace_id=job.workspace_id, step=job.step, reason=str(error)
            )

    def send_current_job(self, workspace: Workspace) -> None:
        """Send the job of the operation that is under way, if one is.

        For a change that met a conflict: its own commit may have gone through, its answer lost, and
        then nobody has sent its job.
        """
        if workspace.operation is not None:
            self.send_later(job_of(workspace, workspace.operation))


def _source_ids(workspace: Workspace | None) -> set[str]:
    """Return the ids of the snapshots that a workspace's home is yet to be made from."""
    return {each.snapshot_id for each in workspace.sources} if workspace else set()


def readable(
    found: Sequence[Stored[Snapshot] | Unreadable],
) -> list[Stored[Snapshot]]:
    """Return the snapshots of a list that can be read."""
    return [each for each in found if not isinstance(each, Unreadable)]


def paired(written: Sequence[Snapshot], known: Sequence[Stored[Snapshot]]) -> SnapshotWrites:
    """Return each snapshot to write with its record as it was read; None if it is new."""
    by_id = {each.record.id: each for each in known}
    return [(by_id.get(snapshot.id), snapshot) for snapshot in written]


def log_snapshot(snapshot: Snapshot, event: str) -> None:
    """Log one line of a snapshot's story."""
    logs.info(
        event,
        workspace_id=snapshot.workspace_id,
        snapshot_id=snapshot.id,
        state=snapshot.state,
        step=snapshot.step,
        error=snapshot.error.code if snapshot.error else None,
    )


def log_transition(transition: Transition) -> None:
    """Log one line of an operation's story, its notes, and its end."""
    before = transition.before
    after = transition.after or replace(before, operation=None)
    operation = after.operation or before.operation
    logs.info(
        transition.change.event,
        workspace_id=before.id,
        status=after.status,
        operation_id=operation.id if operation else None,
        operation_kind=operation.kind if operation else None,
        phase=operation.phase if operation else None,
        step=operation.step if operation else None,
        generation=after.generation,
        error=after.error.code if after.error else None,
        since_request_ms=_since_request_ms(after.updated_at, operation) if operation else None,
    )
    for note in transition.notes:
        logs.warning(note.what, workspace_id=before.id, reason=note.why)
    ended = before.operation
    if ended is not None and (after.operation is None or after.operation.id != ended.id):
        _log_end(ended, result_of(transition), after)


def _log_end(operation: Operation, result: str, after: Workspace) -> None:
    """Log the operation in one line, from which Cloud Monitoring takes counts and latencies."""
    logs.info(
        "OperationEnded",
        workspace_id=after.id,
        operation_id=operation.id,
        operation_kind=operation.kind,
        result=result,
        seconds=_since_request_ms(after.updated_at, operation) / 1000,
        steps=operation.step,
        last_phase=operation.phase,
        zones_tried=list(operation.zones_tried),
        requested_by=operation.requested_by,
        automatic=operation.automatic,
        last_fault=operation.last_fault,
    )


def _since_request_ms(now: datetime, operation: Operation) -> int:
    return round((now - operation.requested_at).total_seconds() * 1000)
