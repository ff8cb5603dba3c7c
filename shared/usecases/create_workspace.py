"""Make a workspace for a person."""

import uuid
from dataclasses import replace

from shared import logs
from shared.domain import lifecycle
from shared.domain.access import Actor
from shared.domain.changes import Transition, Updated
from shared.domain.dry_run import NO_ID, DryRun, dry_run_of, dry_run_of_nothing
from shared.domain.errors import SnapshotNotFoundError, WorkspaceGoneError
from shared.domain.events import request_event
from shared.domain.forks import forkable, forked
from shared.domain.lifecycle import NewWorkspace
from shared.domain.owner_limits import (
    Key,
    NewHolding,
    add_workspace,
    with_proven_domain,
    workspace_of_key,
)
from shared.domain.policy import Policy
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import Owner, Workspace
from shared.ports import Stored
from shared.usecases.records import Records, log_transition


def create_workspace(
    records: Records, policy: Policy, actor: Actor, new: NewWorkspace, key: Key | None
) -> Workspace:
    """Record the workspace and its owner in one commit, then send its first job.

    One read and one commit; a repeated idempotency key costs two reads and no commit. If the answer
    to the commit was lost, the owner's record has the workspace at the next attempt: that is a
    success, not a conflict. A workspace from a snapshot costs two reads more, and its commit
    writes the snapshot's record too, so it is not deleted at the same moment (``forks``).

    Raises:
        SnapshotNotFoundError, SnapshotNotReadyError: as ``forks.forkable`` raises them.
        NameTakenError, QuotaExceededError, TooManyRequestsError: as
            ``owner_limits.add_workspace`` raises them.
        IdempotencyKeyReusedError, WorkspaceGoneError: as ``owner_limits.workspace_of_key`` raises
            them.
        UnavailableError: the owner's record changed at every attempt; nothing was made.
    """
    workspace_id, operation_id = str(uuid.uuid4()), str(uuid.uuid4())
    requested: Updated | None = None

    def attempt(*, again: bool) -> Updated | Workspace:  # noqa: ARG001 -- ``requested`` says it
        nonlocal requested
        owner = records.store.get_owner(actor.id)
        now = records.clock()
        if requested is not None and workspace_id in owner.record.workspaces:
            return requested
        if key is not None and (known := workspace_of_key(owner.record, key, now)) is not None:
            return _existing(records, known)
        source = _source(records, actor, new)
        operation = lifecycle.NewOperation(operation_id, actor, now)
        new_holding = NewHolding(workspace_id, new.name, key, actor.email)
        holding = _holding(owner.record, new_holding, operation, policy)
        requested = lifecycle.create(
            workspace_id, new, operation, policy, source.record if source else None
        )
        workspace = requested.workspace
        records.create(
            workspace,
            (owner, holding),
            (source, forked(source.record, now)) if source else None,
            replace(
                request_event(actor, workspace, requested.event, now),
                snapshot_id=new.from_snapshot,
            ),
        )
        return requested

    made = records.retry(attempt)
    if isinstance(made, Workspace):
        logs.info("CreateRepeated", workspace_id=made.id)
        return made
    log_transition(Transition(made.workspace, made))
    records.send_later(made.job)
    return made.workspace


def dry_run_create(
    records: Records, policy: Policy, actor: Actor, new: NewWorkspace, key: Key | None
) -> DryRun:
    """Return what ``create_workspace`` would do. One read, and one for a known key or a snapshot.

    Nothing is written: no key is used, and no change is counted. The workspace has no id.

    Raises:
        HubError: as ``create_workspace`` raises it.
    """
    owner, now = records.store.get_owner(actor.id).record, records.clock()
    if key is not None and (known := workspace_of_key(owner, key, now)) is not None:
        return dry_run_of_nothing(_existing(records, known), owner, now, policy)
    source = _source(records, actor, new)
    operation = lifecycle.NewOperation(NO_ID, actor, now)
    holding = _holding(owner, NewHolding(NO_ID, new.name, None, actor.email), operation, policy)
    requested = lifecycle.create(NO_ID, new, operation, policy, source.record if source else None)
    absent = replace(requested.workspace, operation=None)
    return dry_run_of(Transition(absent, requested), holding, now, policy)


def _source(records: Records, actor: Actor, new: NewWorkspace) -> Stored[Snapshot] | None:
    """Return the snapshot that the home is made from; None for an empty home.

    One whose workspace does not exist is about to be gone. That somebody asks for one that is not
    their own is recorded, whether it exists or not.
    """
    if new.from_snapshot is None:
        return None
    stored = records.store.get_snapshot(new.from_snapshot)
    known = stored.record if stored else None
    try:
        snapshot = forkable(new.from_snapshot, known, actor)
    except SnapshotNotFoundError:
        if known is None or known.owner_id != actor.id:
            workspace_id, owner_id = (known.workspace_id, known.owner_id) if known else ("", "")
            records.audit.record_refusal(actor, workspace_id, owner_id, "WorkspaceRequested")
        raise
    if records.find(snapshot.workspace_id) is None:
        raise SnapshotNotFoundError(snapshot.id)
    return stored


def _holding(
    owner: Owner, new: NewHolding, operation: lifecycle.NewOperation, policy: Policy
) -> Owner:
    """Return what the owner holds with the new workspace, if it is allowed."""
    proven = with_proven_domain(owner, operation.actor)
    return add_workspace(proven, new, operation.now, policy)


def _existing(records: Records, workspace_id: str) -> Workspace:
    workspace = records.find(workspace_id)
    if workspace is None:
        raise WorkspaceGoneError(
            "The workspace that this Idempotency-Key made has been deleted. "
            "Use a new key to make another."
        )
    return workspace
