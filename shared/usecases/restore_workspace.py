"""Put the home of a workspace back to what one of its snapshots holds."""

import uuid

from shared.domain import lifecycle
from shared.domain.access import Actor
from shared.domain.changes import Updated
from shared.domain.dry_run import NO_ID, DryRun, making_room_first
from shared.domain.errors import UnavailableError
from shared.domain.forks import restorable
from shared.domain.lifecycle import NewOperation
from shared.domain.policy import Policy
from shared.domain.snapshot_room import KnownSnapshots, making_room
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import Workspace
from shared.usecases.records import Records
from shared.usecases.requests import (
    DRY_RUN,
    Requested,
    dry_run_by_snapshots,
    request_change_by_snapshots,
)


def restore_workspace(
    records: Records, policy: Policy, actor: Actor, workspace_id: str, snapshot_id: str
) -> Workspace:
    """Begin to restore a home. If a RESTORE of this snapshot is under way, return the workspace.

    Two reads, a query of the workspace's snapshots, and one commit, which writes the snapshot's
    record too: so a request that deletes it at the same moment is decided again, or this one is
    (``forks``). Administrators are answered like anybody else who does not own the workspace: what
    is in a home is its owner's.

    Raises:
        WorkspaceNotFoundError: they are not its owner.
        SnapshotNotFoundError, SnapshotNotReadyError: as ``forks.restorable`` raises them.
        OperationUnderWayError, NoHomeError, QuotaExceededError: as ``lifecycle.restore`` raises
            them.
        NameTakenError, QuotaExceededError, TooManyRequestsError: as
            ``owner_limits.charge_request`` raises them.
        UnavailableError: also if the snapshot may be one that only a newer version can read.
    """
    operation_id = str(uuid.uuid4())

    def decide(workspace: Workspace, known: KnownSnapshots) -> Updated | None:
        new = NewOperation(operation_id, actor, records.clock())
        return _restore(workspace, new, snapshot_id, known, policy)

    requested = Requested(actor, workspace_id, "RestoreRequested", owner_only=True)
    return request_change_by_snapshots(records, policy, requested, decide)


def dry_run_restore(
    records: Records, policy: Policy, actor: Actor, workspace_id: str, snapshot_id: str
) -> DryRun:
    """Return what ``restore_workspace`` would do (``requests.dry_run_by_snapshots``).

    It says which snapshot is deleted to make room for the one of what is in the home now.
    """
    going: list[Snapshot] = []

    def decide(workspace: Workspace, known: KnownSnapshots) -> Updated | None:
        new = NewOperation(NO_ID, actor, records.clock())
        going[:] = making_room(known, policy, kept=snapshot_id)
        return _restore(workspace, new, snapshot_id, known, policy)

    requested = Requested(actor, workspace_id, DRY_RUN, owner_only=True)
    planned = dry_run_by_snapshots(records, policy, requested, decide)
    return making_room_first(planned, going)


def _restore(
    workspace: Workspace,
    new: NewOperation,
    snapshot_id: str,
    known: KnownSnapshots,
    policy: Policy,
) -> Updated | None:
    """Decide on a RESTORE of the snapshot of this id, which has to be among the known ones."""
    found = next((each for each in known.snapshots if each.id == snapshot_id), None)
    if found is None and known.unreadable > 0:
        raise UnavailableError(
            "A newer version of the Hub has written some of the workspace's snapshots. "
            "Try again when its rollout is over."
        )
    source = restorable(snapshot_id, found, workspace.id, new.actor)
    return lifecycle.restore(workspace, new, source, known, policy)
