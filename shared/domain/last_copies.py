"""Until when a workspace that is being deleted can be taken back."""

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
    source = workspace.home_source
    is_copy = source is not None and source.is_of(workspace.id)
    kept = workspace.home_disk is not None or operation.last_copy is not None or is_copy
    if policy.undelete_for is None or not kept:
        return None
    return operation.requested_at + policy.undelete_for
