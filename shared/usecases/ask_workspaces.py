"""What a person asks of workspaces: list, look, stop, start, delete."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shared import logs
from shared.domain import lifecycle
from shared.domain.changes import Change, job_of, look_job
from shared.domain.drift import has_drifted
from shared.domain.errors import ConflictError, HubError, NotAllowedError, UnavailableError
from shared.domain.events import REFUSED, asked, noted
from shared.domain.instance import Instance, Place
from shared.domain.lifecycle import NewMachine
from shared.domain.owners import admit_running, count_change, mark_running, seen
from shared.domain.people import Actor
from shared.domain.policy import Policy
from shared.domain.workspace import Status, Workspace
from shared.ports import Clock, Jobs, Machines, Page, WorkspaceStore
from shared.usecases.change_workspace import ATTEMPTS, log_change, pause, send_job
from shared.usecases.trail import Trail


@dataclass(frozen=True, slots=True)
class ListScope:
    """ListScope workspaces are to be listed: the actor's own, another owner's, or everybody's."""

    owner_id: str | None = None
    everybody: bool = False


def list_workspaces(
    store: WorkspaceStore,
    trail: Trail,
    actor: Actor,
    whose: ListScope,
    status: Status | None,
    limit: int,
    token: str | None,
) -> Page[Workspace]:
    """Return a page of workspaces, newest first. One query; an administrator's look at others' is noted.

    Raises:
        NotAllowedError: somebody who is no administrator asks for others' workspaces.
    """
    owner_id = "" if whose.everybody else whose.owner_id or actor.id
    if owner_id != actor.id and not actor.admin:
        trail.record_refusal(actor, "", owner_id, "ListRequested")
        raise NotAllowedError("Only an administrator may list other people's workspaces.")
    page = (
        store.list_owned(owner_id, status, limit, token)
        if owner_id
        else store.list_all(status, limit, token)
    )
    trail.record_look(actor, "", owner_id, "ListRequested")
    return page


def stop_workspace(
    store: WorkspaceStore,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    trail: Trail,
    actor: Actor,
    workspace_id: str,
) -> tuple[Workspace, bool]:
    """Begin to suspend a workspace. Returns it, and whether it is still to be waited for.

    Raises:
        WorkspaceNotFoundError, OperationUnderWayError, TooManyRequestsError, UnavailableError
    """
    operation_id = str(uuid.uuid4())
    workspace = _ask(
        store,
        jobs,
        clock,
        policy,
        trail,
        actor,
        workspace_id,
        "StopRequested",
        lambda ws: lifecycle.stop(ws, lifecycle.NewOperation(operation_id, actor, clock()), policy),
    )
    return workspace, workspace.operation is not None


def start_workspace(
    store: WorkspaceStore,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    trail: Trail,
    actor: Actor,
    workspace_id: str,
    machine: NewMachine,
) -> tuple[Workspace, bool]:
    """Begin to make a workspace usable. Returns it, and whether it is still to be waited for.

    Raises:
        WorkspaceNotFoundError, OperationUnderWayError, QuotaExceededError, TooManyRequestsError,
        UnavailableError
    """
    operation_id = str(uuid.uuid4())
    workspace = _ask(
        store,
        jobs,
        clock,
        policy,
        trail,
        actor,
        workspace_id,
        "StartRequested",
        lambda ws: lifecycle.start(
            ws, lifecycle.NewOperation(operation_id, actor, clock()), machine, policy
        ),
    )
    return workspace, workspace.operation is not None


def delete_workspace(
    store: WorkspaceStore,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    trail: Trail,
    actor: Actor,
    workspace_id: str,
) -> Workspace:
    """Begin to delete a workspace, whatever else is under way.

    Raises:
        WorkspaceNotFoundError, TooManyRequestsError, UnavailableError
    """
    operation_id = str(uuid.uuid4())
    return _ask(
        store,
        jobs,
        clock,
        policy,
        trail,
        actor,
        workspace_id,
        "DeleteRequested",
        lambda ws: lifecycle.delete(
            ws, lifecycle.NewOperation(operation_id, actor, clock()), policy
        ),
    )


@dataclass(frozen=True, slots=True)
class RealTimeStatus:
    """A workspace as recorded, and its machine as Compute sees it now, or None and why."""

    workspace: Workspace
    instance: Instance | None
    why_no_instance: str | None


def get_workspace_status(
    store: WorkspaceStore,
    machines: Callable[[], Machines],
    jobs: Jobs,
    clock: Clock,
    trail: Trail,
    actor: Actor,
    workspace_id: str,
) -> RealTimeStatus:
    """Return a workspace in real time. Writes nothing to it; when record and machine differ, a worker is asked to look.

    One read, one call to Compute; an administrator's look at another's is noted. A Compute that
    does not answer is told in
    ``why_no_instance``: the record still helps.
    ``machines`` is called only for a workspace that is the actor's to see.

    Raises:
        WorkspaceNotFoundError, UnavailableError
    """
    stored = store.get(workspace_id)
    if stored is None or not actor.may_touch(stored.record):
        raise trail.not_there(actor, workspace_id, stored, "StatusRequested")
    workspace = stored.record
    trail.record_look(actor, workspace.id, workspace.owner_id, "StatusRequested")
    try:
        instance = machines().get(Place(workspace.zone, workspace.instance_name))
    except UnavailableError as error:
        return RealTimeStatus(workspace, None, str(error))
    now = clock()
    if has_drifted(workspace, instance, now):
        logs.info(
            "DriftNoticed", workspace_id=workspace.id, seen=instance.state if instance else "absent"
        )
        try:
            jobs.send(look_job(workspace, now, actor.request_id))
        except UnavailableError as error:
            logs.warning("JobNotSent", workspace_id=workspace.id, reason=str(error))
    return RealTimeStatus(
        workspace, instance, None if instance else "The machine does not exist in Compute Engine."
    )


def _ask(
    store: WorkspaceStore,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    trail: Trail,
    actor: Actor,
    workspace_id: str,
    what: str,
    decide: Callable[[Workspace], Change | None],
) -> Workspace:
    """Change a workspace for a person: theirs to touch, within their rate and quota, and noted, all in one commit.

    A request that changes nothing costs nothing and is not counted. What an administrator asks of
    another's workspace is not counted on its owner, and noted whatever comes of it.
    """
    for attempt in range(ATTEMPTS):
        stored = store.get(workspace_id)
        if stored is None or not actor.may_touch(stored.record):
            raise trail.not_there(actor, workspace_id, stored, what)
        before = stored.record
        with _administrators_failure_noted(store, clock, actor, before, what):
            change = decide(before)
        if change is None or change.workspace is None:
            if actor.acts_as_admin(before.owner_id):
                store.commit(events=[asked(actor, before, what, clock())])
            if attempt > 0 and before.operation is not None:
                send_job(
                    jobs, job_of(before, before.operation)
                )  # the conflict may have been our own commit, its answer lost
            return before
        after, now = change.workspace, clock()
        owner = store.get_owner(before.owner_id)
        holding = seen(owner.record, actor)
        if actor.id == before.owner_id:
            holding = count_change(holding, now, policy)
        if after.counts_as_running and not before.counts_as_running:
            with _administrators_failure_noted(store, clock, actor, before, what):
                holding = admit_running(holding, before.id, before.owner_email, policy)
        else:
            holding = mark_running(holding, before.id, running=after.counts_as_running)
        try:
            store.commit(
                workspaces=[(stored, after)],
                owners=[(owner, holding)] if holding != owner.record else [],
                events=[*noted(before, change, now), asked(actor, before, change.event, now)],
            )
        except ConflictError:
            pause(attempt)
            continue
        log_change(before, change)
        send_job(jobs, change.job)
        return after
    raise UnavailableError(
        "Too many changes of this workspace at once. Nothing was changed; try again."
    )


@contextmanager
def _administrators_failure_noted(
    store: WorkspaceStore, clock: Clock, actor: Actor, workspace: Workspace, what: str
) -> Iterator[None]:
    """Note what an administrator asked of another's workspace in vain."""
    try:
        yield
    except HubError:
        if actor.acts_as_admin(workspace.owner_id):
            store.commit(events=[asked(actor, workspace, what, clock(), REFUSED)])
        raise
