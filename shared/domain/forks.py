"""Forks: workspaces whose home is made from a snapshot.

The snapshot must stay until the home is a disk. Two rules see to that, whatever happens at the same
moment. A fork's commit also writes the snapshot's record (``forked``), so it is refused if that has
changed since it was read, and refuses every change that was decided before it. A snapshot that is
DELETING gets no more forks. And whoever deletes it in Compute first looks at all workspaces of its
owner (``waiting_for``), since only they can be its forks, and waits for those without a home.

A person's request to delete it looks for such workspaces, too, and is refused if there are any
(``check_unused``). If it becomes DELETING without a person, because its workspace is forgotten or
because it makes room, nothing looks then: its deletion in Compute waits.

The same holds for the last copy of a workspace that is being deleted (``Workspace.sources``). Once
the workspace is gone, nobody can ask for a deletion of its snapshots (``deleted``).
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from shared.domain.access import Actor
from shared.domain.errors import (
    SnapshotInUseError,
    SnapshotNotFoundError,
    SnapshotNotReadyError,
)
from shared.domain.snapshots import Snapshot, SnapshotState
from shared.domain.workspace import OperationKind, Workspace


def forkable(snapshot_id: str, snapshot: Snapshot | None, actor: Actor) -> Snapshot:
    """Return the snapshot if the actor may make a workspace from it.

    Only its owner may: what is in a home is never an administrator's.

    Raises:
        SnapshotNotFoundError: there is none, it is somebody else's, or it is about to be gone.
        SnapshotNotReadyError: it cannot be used yet, or never.
    """
    if (
        snapshot is None
        or snapshot.owner_id != actor.id
        or snapshot.state is SnapshotState.DELETING
    ):
        raise SnapshotNotFoundError(snapshot_id)
    if snapshot.state is SnapshotState.UPLOADING:
        raise SnapshotNotReadyError(
            "The snapshot is still being stored. Try again when its state is READY."
        )
    if snapshot.state is SnapshotState.FAILED:
        why = f" {snapshot.error.message}" if snapshot.error else ""
        raise SnapshotNotReadyError(f"The snapshot has failed and can never be used.{why}")
    return snapshot


def restorable(
    snapshot_id: str, snapshot: Snapshot | None, workspace_id: str, actor: Actor
) -> Snapshot:
    """Return the snapshot if the home of this workspace can be restored from it.

    Only one of the same workspace can: to use another's, its owner makes a workspace from it.

    Raises:
        SnapshotNotFoundError, SnapshotNotReadyError: as ``forkable`` raises them.
    """
    if snapshot is not None and snapshot.workspace_id != workspace_id:
        raise SnapshotNotFoundError(snapshot_id)
    return forkable(snapshot_id, snapshot, actor)


def forked(snapshot: Snapshot, now: datetime) -> Snapshot:
    """Return the snapshot's record as a fork's commit writes it.

    It changes only so that whoever has read it before must read it again.
    """
    return replace(snapshot, updated_at=now)


def waiting_for(snapshot_id: str, workspaces: Iterable[Workspace]) -> list[Workspace]:
    """Return those of the workspaces whose home is yet to be made from a snapshot."""
    return [
        each
        for each in workspaces
        if any(source.snapshot_id == snapshot_id for source in each.sources)
    ]


def check_unused(snapshot_id: str, workspaces: Iterable[Workspace]) -> None:
    """Refuse to delete a snapshot that a home is yet to be made from.

    Raises:
        SnapshotInUseError: some workspaces have no other home.
    """
    waiting = waiting_for(snapshot_id, workspaces)
    if any(_keeps_copy(each, snapshot_id) for each in waiting):
        raise SnapshotInUseError(
            "The workspace is being deleted, and this snapshot is kept so that it can be taken "
            "back. To delete both, delete the workspace with purge."
        )
    archived = [each for each in waiting if _has_archived(each)]
    if archived:
        names = ", ".join(sorted(repr(each.name) for each in archived))
        raise SnapshotInUseError(
            f"Workspace {names} is archived, or about to be, and its home is then only in this "
            "snapshot. Start it when no operation is under way, and wait until it is READY; or "
            "delete it."
        )
    if waiting:
        names = ", ".join(sorted(repr(each.name) for each in waiting))
        raise SnapshotInUseError(
            f"The home of workspace {names} is yet to be made from this snapshot. "
            "Wait until it is READY, start it if it has failed, or delete it."
        )


def _has_archived(workspace: Workspace) -> bool:
    """Say whether a workspace is archived, or an ARCHIVE is under way."""
    operation = workspace.operation
    archives = operation is not None and operation.kind is OperationKind.ARCHIVE
    return archives or workspace.archived_at is not None


def _keeps_copy(workspace: Workspace, snapshot_id: str) -> bool:
    """Say whether a workspace is being deleted and can be taken back by this snapshot of its own.

    A fork that is being deleted only waits for its home from another's.
    """
    operation = workspace.operation
    if operation is None or not workspace.is_being_deleted or operation.purge:
        return False
    own = [each for each in workspace.sources if each.is_of(workspace.id)]
    return any(each.snapshot_id == snapshot_id for each in own)
