"""What the requests about one workspace share: who may ask, what is counted, what is noted."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from shared.domain.access import Actor, authorize, authorize_owner
from shared.domain.changes import Transition, Updated
from shared.domain.commits import commit_of_request
from shared.domain.dry_run import DryRun, dry_run_of, dry_run_of_nothing
from shared.domain.errors import HubError
from shared.domain.events import REFUSED, request_event
from shared.domain.policy import Policy
from shared.domain.snapshot_room import KnownSnapshots, known_of
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import Workspace
from shared.ports import Stored
from shared.usecases.records import Records, paired, readable

# What a dry run is called in the audit trail, whatever it asks about.
DRY_RUN = "DryRunRequested"


@dataclass(frozen=True, slots=True)
class Requested:
    """A person's request about one workspace; ``what`` is its name in the audit trail.

    ``owner_only``: administrators are answered like anybody else who does not own it.
    """

    actor: Actor
    workspace_id: str
    what: str
    owner_only: bool = False


def read(records: Records, requested: Requested) -> Stored[Workspace]:
    """Return a workspace that the actor may see; what an administrator reads is recorded.

    Raises:
        WorkspaceNotFoundError, UnavailableError
    """
    stored = records.store.get(requested.workspace_id)
    workspace = authorized(records, requested, stored.record if stored else None)
    assert stored is not None  # noqa: S101 -- authorized: it exists
    records.audit.record_read(requested.actor, workspace.id, workspace.owner_id, requested.what)
    return stored


def authorized(records: Records, requested: Requested, workspace: Workspace | None) -> Workspace:
    """Return the workspace if the actor may see and change it; record a refusal otherwise.

    Raises:
        WorkspaceNotFoundError, UnavailableError
    """
    actor, workspace_id = requested.actor, requested.workspace_id
    with records.audit.refusals(actor, workspace_id, workspace, requested.what):
        if requested.owner_only:
            return authorize_owner(actor, workspace_id, workspace)
        return authorize(actor, workspace_id, workspace)


def request_change(
    records: Records,
    policy: Policy,
    requested: Requested,
    decide: Callable[[Workspace], Updated | None],
) -> Workspace:
    """Change a workspace for a person: authorized, within rate and quota, audited, in one commit.

    A request that changes nothing is not counted in the rate. An administrator's request about
    another's workspace is an audit event even if it changes nothing or fails.

    Raises:
        HubError: whatever ``decide`` raises, and what the owner's rate and quotas refuse.
    """
    return _request(records, policy, requested, lambda workspace: (decide(workspace), ()))


def request_change_by_snapshots(
    records: Records,
    policy: Policy,
    requested: Requested,
    decide: Callable[[Workspace, KnownSnapshots], Updated | None],
) -> Workspace:
    """Change a workspace for a person, as ``request_change`` does, by what snapshots it has.

    They are read after the workspace, by a query. A snapshot is made only in a commit of its
    workspace, so the commit is refused if there is one more by then.
    """

    def attempt(workspace: Workspace) -> tuple[Updated | None, Sequence[Stored[Snapshot]]]:
        known, snapshots = _known_snapshots(records, workspace)
        return decide(workspace, snapshots), known

    return _request(records, policy, requested, attempt)


def dry_run(
    records: Records,
    policy: Policy,
    requested: Requested,
    decide: Callable[[Workspace], Updated | None],
) -> DryRun:
    """Return what a request would do, by the same decisions. Two reads.

    Nothing is changed, sent or counted. A refusal is recorded, and what an administrator sees of
    another's workspace, as for a read.

    Raises:
        HubError: as the request itself would raise it.
    """
    before, actor = read(records, requested).record, requested.actor
    change = decide(before)
    owner, now = records.store.get_owner(before.owner_id).record, records.clock()
    if change is None:
        return dry_run_of_nothing(before, owner, now, policy)
    transition = Transition(before, change)
    commit = commit_of_request(transition, owner, actor, now, policy)
    return dry_run_of(transition, commit.owner or owner, now, policy)


def dry_run_by_snapshots(
    records: Records,
    policy: Policy,
    requested: Requested,
    decide: Callable[[Workspace, KnownSnapshots], Updated | None],
) -> DryRun:
    """Return what a request would do that is decided by the snapshots. It costs a query, too."""
    return dry_run(
        records,
        policy,
        requested,
        lambda workspace: decide(workspace, _known_snapshots(records, workspace)[1]),
    )


def _known_snapshots(
    records: Records, workspace: Workspace
) -> tuple[Sequence[Stored[Snapshot]], KnownSnapshots]:
    """Return the snapshots of a workspace, as they were read and as they are decided on."""
    found = records.store.list_snapshots(workspace.id)
    known = readable(found)
    return known, known_of(workspace, [each.record for each in known], len(found) - len(known))


def _request(
    records: Records,
    policy: Policy,
    requested: Requested,
    decide: Callable[[Workspace], tuple[Updated | None, Sequence[Stored[Snapshot]]]],
) -> Workspace:
    """Change a workspace as ``decide`` says; it also returns the snapshots that it has read."""
    actor, what = requested.actor, requested.what

    def attempt(*, again: bool) -> Workspace:
        stored = records.store.get(requested.workspace_id)
        before = authorized(records, requested, stored.record if stored else None)
        assert stored is not None  # noqa: S101 -- authorized: it exists
        with failure_audited(records, requested, before):
            change, known = decide(before)
        if change is None:
            if actor.acts_as_admin(before.owner_id):
                event = request_event(actor, before, what, records.clock())
                records.store.commit(events=[event])
            if again:
                records.send_current_job(before)
            return before
        transition, now = Transition(before, change), records.clock()
        owner = records.store.get_owner(before.owner_id)
        with failure_audited(records, requested, before):
            commit = commit_of_request(transition, owner.record, actor, now, policy)
        records.commit(stored, owner, commit, paired(transition.snapshots, known))
        records.send_later(transition.job)
        return change.workspace

    return records.retry(attempt)


@contextlib.contextmanager
def failure_audited(records: Records, requested: Requested, workspace: Workspace) -> Iterator[None]:
    """Record what an administrator asked of another's workspace if it fails."""
    actor = requested.actor
    try:
        yield
    except HubError:
        if actor.acts_as_admin(workspace.owner_id):
            event = request_event(actor, workspace, requested.what, records.clock(), REFUSED)
            records.store.commit(events=[event])
        raise
