"""Make a workspace for a person."""

import uuid
from dataclasses import replace

from shared import logs
from shared.domain import lifecycle
from shared.domain.access import Actor
from shared.domain.changes import Transition, Updated
from shared.domain.dry_run import NO_ID, DryRun, dry_run_of, dry_run_of_nothing
from shared.domain.errors import WorkspaceGoneError
from shared.domain.events import request_event
from shared.domain.lifecycle import NewWorkspace
from shared.domain.owner_limits import (
    Key,
    NewHolding,
    add_workspace,
    with_proven_domain,
    workspace_of_key,
)
from shared.domain.policy import Policy
from shared.domain.workspace import Owner, Workspace
from shared.usecases.records import Records, log_transition


def create_workspace(
    records: Records, policy: Policy, actor: Actor, new: NewWorkspace, key: Key | None
) -> Workspace:
    """Record the workspace and its owner in one commit, then send its first job.

    One read and one commit; a repeated idempotency key costs two reads and no commit. If the answer
    to the commit was lost, the owner's record has the workspace at the next attempt: that is a
    success, not a conflict.

    Raises:
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
        operation = lifecycle.NewOperation(operation_id, actor, now)
        new_holding = NewHolding(workspace_id, new.name, key, actor.email)
        holding = _holding(owner.record, new_holding, operation, policy)
        requested = lifecycle.create(workspace_id, new, operation, policy)
        workspace = requested.workspace
        event = request_event(actor, workspace, requested.event, now)
        records.create(workspace, (owner, holding), event)
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
    """Return what ``create_workspace`` would do. One read, and another one for a known key.

    Nothing is written: no key is used, and no change is counted. The workspace has no id.

    Raises:
        HubError: as ``create_workspace`` raises it.
    """
    owner, now = records.store.get_owner(actor.id).record, records.clock()
    if key is not None and (known := workspace_of_key(owner, key, now)) is not None:
        return dry_run_of_nothing(_existing(records, known), owner, now, policy)
    operation = lifecycle.NewOperation(NO_ID, actor, now)
    holding = _holding(owner, NewHolding(NO_ID, new.name, None, actor.email), operation, policy)
    requested = lifecycle.create(NO_ID, new, operation, policy)
    absent = replace(requested.workspace, operation=None)
    return dry_run_of(Transition(absent, requested), holding, now, policy)


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
