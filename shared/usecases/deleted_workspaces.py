"""Deleted workspaces that can be taken back: list them, take one back, purge it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared import logs
from shared.domain.access import Actor, authorize_list, authorize_undelete
from shared.domain.deleted import DeletedWorkspace, is_due, undeleted, usable_copy
from shared.domain.errors import NotAllowedError, NotDeletedError, OperationUnderWayError
from shared.domain.events import request_event
from shared.domain.forks import forked
from shared.domain.lifecycle import CLEANUP
from shared.domain.owner_limits import count_change, take_back, with_proven_domain
from shared.domain.policy import Policy
from shared.domain.snapshots import SnapshotState
from shared.domain.workspace import Workspace
from shared.ports import Stored, WorkspaceStore
from shared.usecases.forgetting import Purge, purged
from shared.usecases.records import Records, readable
from shared.usecases.requests import Requested, failure_audited

TIME_IS_OVER = "The time in which it could be taken back is over."


@dataclass(frozen=True, slots=True)
class ListedDeleted:
    """A deleted workspace, how many snapshots of it there are, and the size of its home's disk.

    ``disk_gb`` is what a home that is made again has at least, in GB.
    """

    entry: DeletedWorkspace
    snapshots: int
    disk_gb: int


def list_deleted(
    records: Records, actor: Actor, owner_id: str | None = None
) -> Sequence[ListedDeleted]:
    """Return an owner's deleted workspaces that can be taken back, the last deleted first.

    ``owner_id`` None: the actor's own. A query, and one for each of them. Those that only a newer
    version can read are missing. When an administrator lists other people's, that is an audit
    event.

    Raises:
        NotAllowedError: only administrators may list other people's.
        UnavailableError
    """
    whose, what = owner_id or actor.id, "DeletedListRequested"
    try:
        authorize_list(actor, whose)
    except NotAllowedError:
        records.audit.record_refusal(actor, "", whose, what)
        raise
    found = records.store.list_deleted(whose)
    listed = [_listed(records.store, each.record) for each in found if isinstance(each, Stored)]
    records.audit.record_read(actor, "", whose, what)
    return listed


def _listed(store: WorkspaceStore, entry: DeletedWorkspace) -> ListedDeleted:
    found = store.list_snapshots(entry.id)
    leaving = sum(each.record.state is SnapshotState.DELETING for each in readable(found))
    source = entry.workspace.home_source
    return ListedDeleted(entry, len(found) - leaving, source.disk_gb if source else 0)


def undelete(
    records: Records, policy: Policy, actor: Actor, workspace_id: str, name: str | None = None
) -> Workspace:
    """Take a deleted workspace back, suspended; within its owner's rate and quota of workspaces.

    ``name`` is its name from now on; None for the one that it had. Two reads, and for an entry two
    more and one commit. The commit writes the last copy's record, too, so whatever begins to delete
    that at the same moment is refused, or this is (``forks``). So is a purge, or another undelete.
    If the workspace exists and is not being deleted, it is returned as it is: this was asked for
    before. If its DELETE ends just between the two reads, it is not found, and can be asked for
    again.

    Raises:
        DeletedWorkspaceNotFoundError: there is none to take back, or it is somebody else's.
        OperationUnderWayError: it is still being deleted.
        NotDeletedError: it exists under another name than ``name``.
        LastCopyGoneError: the snapshot that its home would be made from is gone.
        NameTakenError, QuotaExceededError: as ``owner_limits.take_back`` raises them.
        TooManyRequestsError, UnavailableError
    """
    requested = Requested(actor, workspace_id, "UndeleteRequested")

    def attempt(*, again: bool) -> Workspace:  # noqa: ARG001 -- what was taken back is found so
        stored = records.store.get_deleted(workspace_id)
        there = records.find(workspace_id)
        known = stored.record.workspace if stored else there
        with records.audit.refusals(actor, workspace_id, known, requested.what):
            workspace = authorize_undelete(actor, workspace_id, known)
        if stored is None:
            return _not_deleted(records, requested, workspace, name)
        with failure_audited(records, requested, workspace):
            return _take_back(records, policy, requested, stored, name)

    return records.retry(attempt)


def _not_deleted(
    records: Records, requested: Requested, workspace: Workspace, name: str | None
) -> Workspace:
    """Return a workspace that need not be taken back, unless it was to get another name by that."""
    actor, operation = requested.actor, workspace.operation
    with failure_audited(records, requested, workspace):
        if operation is not None and workspace.is_being_deleted:
            raise OperationUnderWayError(operation)
        if name is not None and name != workspace.name:
            raise NotDeletedError(workspace.name)
    if actor.acts_as_admin(workspace.owner_id):
        event = request_event(actor, workspace, requested.what, records.clock())
        records.store.commit(events=[event])
    return workspace


def _take_back(
    records: Records,
    policy: Policy,
    requested: Requested,
    stored: Stored[DeletedWorkspace],
    name: str | None,
) -> Workspace:
    """Take a workspace back in one commit.

    Raises:
        ConflictError: its entry, its owner or its last copy changed in between; nothing was
            written.
        HubError: as ``undelete`` raises it.
    """
    actor, entry, now = requested.actor, stored.record, records.clock()
    found = records.store.get_snapshot(entry.snapshot_id)
    copy = usable_copy(entry, found.record if found else None)
    workspace = undeleted(entry, copy, name, now)
    owner = records.store.get_owner(entry.owner_id)
    holding = owner.record
    if actor.id == entry.owner_id:
        holding = count_change(with_proven_domain(holding, actor), now, policy)
    holding = take_back(holding, workspace, policy)
    event = request_event(actor, workspace, "WorkspaceUndeleted", now)
    written = records.create(
        workspace,
        (owner, holding),
        (found, forked(copy, now)) if found else None,
        replace(event, snapshot_id=copy.id),
        stored,
    )
    logs.info(event.what, workspace_id=workspace.id, snapshot_id=copy.id)
    return written


def purge_due(records: Records, policy: Policy, workspace_id: str) -> bool:
    """Purge a deleted workspace if the time in which it could be taken back is over.

    Its entry goes, and its snapshots begin to be deleted, in one commit. Returns whether this call
    did it: if the workspace is taken back at that moment, one of the two happens.

    Raises:
        UnavailableError: only a newer version can read the entry, every attempt met a conflict, or
            the store does not answer.
    """

    def attempt(*, again: bool) -> bool:  # noqa: ARG001 -- what is purged is not there any more
        stored, now = records.store.get_deleted(workspace_id), records.clock()
        if stored is None or not is_due(stored.record, now):
            return False
        purge = Purge(TIME_IS_OVER, CLEANUP, logs.request_id.get())
        records.commit_left(purged(records.store, policy, stored, purge, now))
        return True

    return records.retry(attempt)
