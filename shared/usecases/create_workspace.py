"""Make a workspace for a person."""

import uuid

from shared import logs
from shared.domain import lifecycle
from shared.domain.changes import Change
from shared.domain.errors import ConflictError, UnavailableError, WorkspaceGoneError
from shared.domain.events import asked
from shared.domain.lifecycle import NewWorkspace
from shared.domain.owners import Key, admit, seen, workspace_of_key
from shared.domain.people import Actor
from shared.domain.policy import Policy
from shared.domain.workspace import Workspace
from shared.ports import Clock, Jobs, WorkspaceStore
from shared.usecases.change_workspace import ATTEMPTS, log_change, pause, send_job


def create_workspace(
    store: WorkspaceStore,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    project_id: str,
    actor: Actor,
    new: NewWorkspace,
    key: Key | None,
) -> Workspace:
    """Record the workspace and its owner in one commit, then send its provisioning.

    One read and one commit; a repeated idempotency key costs two reads and no commit. When the
    commit's answer was lost and it is made again, the owner's record already holds this workspace:
    that is success, not a conflict.

    Raises:
        NameTakenError, QuotaExceededError, TooManyRequestsError, IdempotencyKeyReusedError,
            WorkspaceGoneError: as ``owners`` says.
        UnavailableError: the owner's record changed too often meanwhile; nothing was made.
    """
    workspace_id, operation_id = str(uuid.uuid4()), str(uuid.uuid4())
    change: Change | None = None
    for attempt in range(ATTEMPTS):
        owner = store.get_owner(actor.id)
        now = clock()
        if change is not None and workspace_id in owner.record.workspaces:
            break
        if key is not None and (made := workspace_of_key(owner.record, key, now)) is not None:
            return _as_it_is_now(store, made)
        holding = admit(
            seen(owner.record, actor), workspace_id, new.name, key, actor.email, now, policy
        )
        change = lifecycle.create(
            new,
            lifecycle.NewOperation(operation_id, actor, now),
            policy,
            workspace_id=workspace_id,
            project_id=project_id,
        )
        try:
            store.commit(
                workspaces=[(None, change.workspace)],
                owners=[(owner, holding)],
                events=[asked(actor, change.workspace, change.event, now)]
                if change.workspace
                else [],
            )
            break
        except ConflictError:
            pause(attempt)
    else:
        raise UnavailableError("Too many of your requests at once. Nothing was made; try again.")
    if change is None or change.workspace is None:
        raise AssertionError("unreachable: a break follows a decision")
    log_change(change.workspace, change)
    send_job(jobs, change.job)
    return change.workspace


def _as_it_is_now(store: WorkspaceStore, workspace_id: str) -> Workspace:
    stored = store.get(workspace_id)
    if stored is None:
        raise WorkspaceGoneError(
            "The workspace that this Idempotency-Key made has been deleted. Use a new key to make another."
        )
    logs.info("CreateRepeated", workspace_id=workspace_id)
    return stored.record
