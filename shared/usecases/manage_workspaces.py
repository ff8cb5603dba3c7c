"""What a person asks of workspaces: list, read, connect, stop, archive, start, delete."""

import contextlib
import uuid
from dataclasses import dataclass, replace
from datetime import datetime

from shared import logs
from shared.domain import lifecycle
from shared.domain.access import Actor, authorize_list
from shared.domain.changes import Updated, look_job
from shared.domain.drift import has_drifted
from shared.domain.dry_run import NO_ID, DryRun, losing_snapshots, making_room_first
from shared.domain.errors import (
    HubError,
    NotAllowedError,
    OperationUnderWayError,
    UnavailableError,
)
from shared.domain.instance import Instance
from shared.domain.last_copies import undelete_until
from shared.domain.lifecycle import NewConnection, NewMachine, NewOperation
from shared.domain.machine_access import is_due
from shared.domain.policy import Policy
from shared.domain.snapshot_room import KnownSnapshots, making_room
from shared.domain.snapshots import Snapshot, SnapshotState
from shared.domain.workspace import OperationKind, Status, Workspace
from shared.ports import EVERY_WORKSPACE, Page, Stored, WorkspaceFilter
from shared.usecases.records import Records, readable
from shared.usecases.requests import (
    DRY_RUN,
    Requested,
    dry_run,
    dry_run_by_snapshots,
    read,
    request_change,
    request_change_by_snapshots,
)
from shared.usecases.seen_machines import SeenMachines


@dataclass(frozen=True, slots=True)
class ListScope:
    """Whose workspaces to list: the actor's own, another owner's, or everybody's."""

    owner_id: str | None = None
    everybody: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """Which workspaces to list: whose, which of them, and which page."""

    scope: ListScope = ListScope()
    wanted: WorkspaceFilter = EVERY_WORKSPACE
    limit: int
    page_token: str | None = None


def list_workspaces(records: Records, actor: Actor, query: ListQuery) -> Page[Workspace]:
    """Return a page of workspaces, newest first.

    One query. When an administrator lists other people's workspaces, that is an audit event.

    Raises:
        NotAllowedError: only administrators may list other people's workspaces.
        InvalidRequestError: the page token is not one of ours.
    """
    scope, what = query.scope, "ListRequested"
    owner_id = "" if scope.everybody else scope.owner_id or actor.id
    try:
        authorize_list(actor, owner_id)
    except NotAllowedError:
        records.audit.record_refusal(actor, "", owner_id, what)
        raise
    if owner_id:
        page = records.store.list_owned(owner_id, query.wanted, query.limit, query.page_token)
    else:
        page = records.store.list_all(query.wanted, query.limit, query.page_token)
    records.audit.record_read(actor, "", owner_id, what)
    return page


def get_workspace(records: Records, actor: Actor, workspace_id: str) -> Workspace:
    """Return a workspace as it is recorded. One read; Compute is not asked.

    An administrator's read of another's workspace is an audit event.

    Raises:
        WorkspaceNotFoundError, UnavailableError
    """
    return read(records, Requested(actor, workspace_id, "RecordRequested")).record


def stop_workspace(
    records: Records, policy: Policy, actor: Actor, workspace_id: str
) -> tuple[Workspace, bool]:
    """Begin to suspend a workspace. Returns it, and whether an operation is under way.

    Raises:
        WorkspaceNotFoundError, OperationUnderWayError, TooManyRequestsError, UnavailableError
    """
    operation_id = str(uuid.uuid4())
    workspace = request_change(
        records,
        policy,
        Requested(actor, workspace_id, "StopRequested"),
        lambda ws: lifecycle.stop(ws, _operation(records, actor, operation_id), policy),
    )
    return workspace, workspace.operation is not None


def dry_run_stop(records: Records, policy: Policy, actor: Actor, workspace_id: str) -> DryRun:
    """Return what ``stop_workspace`` would do (``requests.dry_run``)."""
    return dry_run(
        records,
        policy,
        Requested(actor, workspace_id, DRY_RUN),
        lambda ws: lifecycle.stop(ws, _operation(records, actor, NO_ID), policy),
    )


def archive_workspace(
    records: Records, policy: Policy, actor: Actor, workspace_id: str
) -> tuple[Workspace, bool]:
    """Begin to archive a workspace: its home becomes a snapshot, and its machine and disk go.

    Returns it, and whether an operation is under way: none is if it is archived already.

    Raises:
        WorkspaceNotFoundError, OperationUnderWayError, NoHomeError, TooManyRequestsError,
        UnavailableError
    """
    operation_id = str(uuid.uuid4())
    workspace = request_change(
        records,
        policy,
        Requested(actor, workspace_id, "ArchiveRequested"),
        lambda ws: lifecycle.archive(ws, _operation(records, actor, operation_id), policy),
    )
    return workspace, workspace.operation is not None


def dry_run_archive(records: Records, policy: Policy, actor: Actor, workspace_id: str) -> DryRun:
    """Return what ``archive_workspace`` would do (``requests.dry_run_by_snapshots``).

    It says which snapshot is deleted to make room for the one of its home.
    """
    going: list[Snapshot] = []

    def decide(workspace: Workspace, known: KnownSnapshots) -> Updated | None:
        going[:] = making_room(known, policy)
        return lifecycle.archive(workspace, _operation(records, actor, NO_ID), policy)

    requested = Requested(actor, workspace_id, DRY_RUN)
    return making_room_first(dry_run_by_snapshots(records, policy, requested, decide), going)


def start_workspace(
    records: Records, policy: Policy, actor: Actor, workspace_id: str, machine: NewMachine
) -> tuple[Workspace, bool]:
    """Begin to make a workspace usable. Returns it, and whether an operation is under way.

    One that names a zone costs a query of the workspace's snapshots, too.

    Raises:
        WorkspaceNotFoundError, InvalidRequestError, OperationUnderWayError, QuotaExceededError,
        TooManyRequestsError, UnavailableError
    """
    operation_id = str(uuid.uuid4())
    requested = Requested(actor, workspace_id, "StartRequested")

    def decide(workspace: Workspace, known: KnownSnapshots) -> Updated | None:
        new = _operation(records, actor, operation_id)
        return lifecycle.start(workspace, new, machine, policy, known)

    if machine.zone is not None:
        workspace = request_change_by_snapshots(records, policy, requested, decide)
    else:
        workspace = request_change(
            records, policy, requested, lambda ws: decide(ws, KnownSnapshots())
        )
    return workspace, workspace.operation is not None


def dry_run_start(
    records: Records, policy: Policy, actor: Actor, workspace_id: str, machine: NewMachine
) -> DryRun:
    """Return what ``start_workspace`` would do (``requests.dry_run``).

    If it is to move, that says which snapshot is deleted to make room for the one of its home.
    """
    requested = Requested(actor, workspace_id, DRY_RUN)
    going: list[Snapshot] = []

    def decide(workspace: Workspace, known: KnownSnapshots) -> Updated | None:
        new = _operation(records, actor, NO_ID)
        change = lifecycle.start(workspace, new, machine, policy, known)
        operation = change.workspace.operation if change else None
        going[:] = making_room(known, policy) if operation and operation.moves else ()
        return change

    if machine.zone is None:
        return dry_run(records, policy, requested, lambda ws: decide(ws, KnownSnapshots()))
    return making_room_first(dry_run_by_snapshots(records, policy, requested, decide), going)


def keep_workspace_awake(records: Records, policy: Policy, asked: "KeepAwake") -> Workspace:
    """Note until when a person wants a workspace's machine left alone, or that they do not.

    One read of the workspace and one of its owner, and one commit; no job is sent. If an automatic
    STOP is under way, its next step calls it off unless it has reached the machine by then.

    Raises:
        WorkspaceNotFoundError, InvalidRequestError, OperationUnderWayError, NotAwakeError,
        TooManyRequestsError, UnavailableError
    """
    what = "KeepAwakeEnded" if asked.until is None else "KeepAwakeRequested"
    return request_change(
        records,
        policy,
        Requested(asked.actor, asked.workspace_id, what),
        lambda ws: lifecycle.keep_awake(ws, asked.until, records.clock(), policy),
    )


def delete_workspace(
    records: Records, policy: Policy, actor: Actor, workspace_id: str, *, purge: bool = False
) -> Workspace:
    """Begin to delete a workspace, whatever else is under way. With ``purge``, for good.

    Raises:
        WorkspaceNotFoundError, TooManyRequestsError, UnavailableError
    """
    operation_id = str(uuid.uuid4())
    return request_change(
        records,
        policy,
        Requested(actor, workspace_id, "DeleteRequested"),
        lambda ws: lifecycle.delete(
            ws, _operation(records, actor, operation_id), policy, purge=purge
        ),
    )


def dry_run_delete(
    records: Records, policy: Policy, actor: Actor, workspace_id: str, *, purge: bool = False
) -> DryRun:
    """Return what ``delete_workspace`` would do (``requests.dry_run``). It costs a query, too."""
    planned = dry_run(
        records,
        policy,
        Requested(actor, workspace_id, DRY_RUN),
        lambda ws: lifecycle.delete(ws, _operation(records, actor, NO_ID), policy, purge=purge),
    )
    if undelete_until(planned.workspace, policy) is not None:
        return planned  # its snapshots stay
    found = records.store.list_snapshots(workspace_id)
    leaving = sum(each.record.state is SnapshotState.DELETING for each in readable(found))
    return losing_snapshots(planned, len(found) - leaving)


def _operation(records: Records, actor: Actor, operation_id: str) -> NewOperation:
    """Return the operation that a request begins now. All attempts of the request share its id."""
    return NewOperation(operation_id, actor, records.clock())


@dataclass(frozen=True, slots=True)
class KeepAwake:
    """A person's request that a workspace be kept awake until a time; None takes it back."""

    actor: Actor
    workspace_id: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class RealTimeStatus:
    """A workspace as recorded, and its machine as Compute sees it now, or None and why."""

    workspace: Workspace
    instance: Instance | None
    why_no_instance: str | None


def get_workspace_status(
    records: Records, machines: SeenMachines, actor: Actor, workspace_id: str
) -> RealTimeStatus:
    """Return a workspace and its machine in real time. Writes nothing to the record.

    One read, and one call to Compute; none for a suspended workspace that was asked for some
    seconds ago (``SeenMachines``). If record and machine differ, a job asks a worker to look. If
    Compute does not answer, ``why_no_instance`` says so, and the record is answered all the same.
    Compute is asked only after the actor is authorized. An administrator's read of another's
    workspace is an audit event.

    Raises:
        WorkspaceNotFoundError, UnavailableError
    """
    stored = read(records, Requested(actor, workspace_id, "StatusRequested"))
    workspace = stored.record
    try:
        instance = machines.get(stored)
    except UnavailableError as error:
        return RealTimeStatus(workspace, None, str(error))
    now = records.clock()
    if has_drifted(workspace, instance, now):
        state = instance.state if instance else "absent"
        logs.info("DriftNoticed", workspace_id=workspace.id, seen=state)
        records.send_later(look_job(workspace, now, actor.request_id))
    else:
        _see_to_access(records, workspace, actor)
    why = None if instance else "The machine does not exist in Compute Engine."
    return RealTimeStatus(workspace, instance, why)


@dataclass(frozen=True, slots=True)
class Connecting:
    """A person's request to connect to a workspace, and what they say with it."""

    actor: Actor
    workspace_id: str
    connection: NewConnection


@dataclass(frozen=True, slots=True)
class Reached:
    """A workspace that its owner connects to.

    ``host`` is its machine's address, if people connect to addresses, and Compute has told it.
    """

    workspace: Workspace
    host: str | None

    @property
    def is_starting(self) -> bool:
        """Whether a START is under way."""
        operation = self.workspace.operation
        return operation is not None and operation.kind is OperationKind.START


def connect_workspace(
    records: Records,
    policy: Policy,
    machines: SeenMachines | None,
    connecting: Connecting,
) -> Reached:
    """Note that the owner connects, begin a START if they want in, and return how to connect.

    ``machines`` is None if nobody connects to machines' addresses; otherwise Compute is asked for
    that of a READY workspace. If an automatic STOP is under way, their wish to get in is noted all
    the same: it calls the STOP off unless that has reached the machine. If they were not let in to
    the machine yet, a job asks a worker to see to it.

    Raises:
        WorkspaceNotFoundError: they are not its owner; administrators get this answer too.
        OperationUnderWayError, QuotaExceededError, TooManyRequestsError, UnavailableError: as
            ``start_workspace`` raises them.
    """
    actor, operation_id = connecting.actor, str(uuid.uuid4())
    requested = Requested(actor, connecting.workspace_id, "ConnectRequested", owner_only=True)

    def ask(asked: NewConnection) -> Workspace:
        return request_change(
            records,
            policy,
            requested,
            lambda ws: lifecycle.connect(
                ws, _operation(records, actor, operation_id), asked, policy
            ),
        )

    try:
        workspace = ask(connecting.connection)
    except OperationUnderWayError as error:
        if error.operation.automatic and error.operation.kind is OperationKind.STOP:
            with contextlib.suppress(HubError):  # the answer is that they have to wait
                ask(replace(connecting.connection, start=None))
        raise
    _see_to_access(records, workspace, actor)
    return Reached(workspace, _address(machines, workspace) if machines else None)


def _see_to_access(records: Records, workspace: Workspace, actor: Actor) -> None:
    """Have a worker let the owner in to the machine if that is due. An operation does it itself."""
    now = records.clock()
    if workspace.operation is None and is_due(workspace, now):
        records.send_later(look_job(workspace, now, actor.request_id))


def _address(machines: SeenMachines, workspace: Workspace) -> str | None:
    if workspace.status is not Status.READY:
        return None
    try:
        instance = machines.get(Stored(workspace, None))
    except UnavailableError:
        return None
    return instance.internal_address if instance else None
