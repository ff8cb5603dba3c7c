"""What a person asks of the snapshots of a workspace: take, list, delete."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shared.domain import lifecycle
from shared.domain.access import Actor
from shared.domain.errors import SnapshotNotFoundError
from shared.domain.events import request_event
from shared.domain.forks import check_unused
from shared.domain.lifecycle import NewOperation
from shared.domain.owner_limits import count_change, with_proven_domain
from shared.domain.policy import Policy
from shared.domain.snapshots import Snapshot, delete
from shared.domain.workspace import Workspace
from shared.usecases.owned import owned_by
from shared.usecases.records import Records, log_snapshot, readable
from shared.usecases.requests import (
    Requested,
    authorized,
    failure_audited,
    read,
    request_change_by_snapshots,
)


@dataclass(frozen=True, slots=True)
class SnapshotList:
    """A workspace's snapshots, the one that was asked for last first.

    ``most`` is how many it may have. ``next_at`` is from when on another one may be asked for; None
    if none ever was.
    """

    snapshots: Sequence[Snapshot]
    most: int
    next_at: datetime | None


def take_snapshot(
    records: Records, policy: Policy, actor: Actor, workspace_id: str, name: str | None
) -> tuple[Workspace, bool]:
    """Begin to take a snapshot. Returns the workspace, and whether an operation is under way.

    The operation's id is the snapshot's. ``name`` is what a person calls it; None if they do not.

    Raises:
        WorkspaceNotFoundError, OperationUnderWayError, NoHomeError, NameTakenError,
        QuotaExceededError, TooManyRequestsError, UnavailableError
    """
    operation_id = str(uuid.uuid4())
    workspace = request_change_by_snapshots(
        records,
        policy,
        Requested(actor, workspace_id, "SnapshotRequested"),
        lambda ws, known: lifecycle.snapshot(
            ws, NewOperation(operation_id, actor, records.clock()), name, known, policy
        ),
    )
    return workspace, workspace.operation is not None


def list_snapshots(
    records: Records, policy: Policy, actor: Actor, workspace_id: str
) -> SnapshotList:
    """Return a workspace's snapshots. One read and one query.

    Those that only a newer version can read are missing. An administrator's read of another's is an
    audit event.

    Raises:
        WorkspaceNotFoundError, UnavailableError
    """
    workspace = read(records, Requested(actor, workspace_id, "SnapshotsRequested")).record
    found = readable(records.store.list_snapshots(workspace_id))
    return SnapshotList(
        [each.record for each in found],
        policy.snapshots_per_workspace,
        lifecycle.next_snapshot_at(workspace, policy),
    )


def delete_snapshot(
    records: Records, policy: Policy, actor: Actor, workspace_id: str, snapshot_id: str
) -> Snapshot:
    """Begin to delete a snapshot, within the owner's rate. If it is being deleted, return it.

    Two reads, the owner's record, a query of the owner's workspaces, and one commit. A workspace
    that is made from the snapshot at the same moment writes the snapshot's record, too (``forks``):
    so one of the two is decided again.

    Raises:
        WorkspaceNotFoundError, SnapshotNotFoundError, SnapshotInUseError, TooManyRequestsError,
        UnavailableError
    """
    requested = Requested(actor, workspace_id, "SnapshotDeleteRequested")

    def attempt(*, again: bool) -> Snapshot:  # noqa: ARG001 -- what is deleted is found so
        workspace = authorized(records, requested, records.find(workspace_id))
        stored = records.store.get_snapshot(snapshot_id)
        with failure_audited(records, requested, workspace):
            if stored is None or stored.record.workspace_id != workspace_id:
                raise SnapshotNotFoundError(snapshot_id)
        now = records.clock()
        event = replace(
            request_event(actor, workspace, requested.what, now), snapshot_id=snapshot_id
        )
        change = delete(stored.record, actor.request_id, now, policy)
        if change is None:
            if actor.acts_as_admin(workspace.owner_id):
                records.store.commit(events=[event])
            return stored.record
        with failure_audited(records, requested, workspace):
            check_unused(snapshot_id, owned_by(records.store, workspace.owner_id))
            owner = records.store.get_owner(workspace.owner_id)
            counted = owner.record
            if actor.id == workspace.owner_id:
                counted = count_change(with_proven_domain(counted, actor), now, policy)
        records.store.commit(
            snapshots=[(stored, change.snapshot)],
            owners=[(owner, counted)] if counted != owner.record else [],
            events=[event],
        )
        log_snapshot(change.snapshot, change.event)
        records.send_later(change.job)
        return change.snapshot

    return records.retry(attempt)
