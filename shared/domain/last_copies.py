"""Until when a workspace that is being deleted, or will be, can be taken back."""

from datetime import datetime

from shared.domain.policy import Policy
from shared.domain.workspace import OperationKind, Workspace


def undelete_until(workspace: Workspace, policy: Policy) -> datetime | None:
    """Return until when a workspace can be taken back once its DELETE has ended.

    It counts from the request. None if no DELETE is under way, or one that keeps nothing: it
    purges, the configuration says so, or there is no home to keep.
    """
    operation = workspace.operation
    if operation is None or operation.kind is not OperationKind.DELETE or operation.purge:
        return None
    return until_if_deleted(workspace, operation.requested_at, policy)


def until_if_deleted(workspace: Workspace, at: datetime, policy: Policy) -> datetime | None:
    """Return until when a workspace can be taken back if its deletion is asked for at a time.

    None if the configuration says that it cannot, or if there is no home to keep.
    """
    operation = workspace.operation
    is_copied = operation is not None and operation.last_copy is not None
    kept = workspace.has_archivable_home or is_copied
    if policy.undelete_for is None or not kept:
        return None
    return at + policy.undelete_for
