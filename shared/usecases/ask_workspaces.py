"""What an owner asks of their workspaces: list, look, stop, start, delete."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from shared import logs
from shared.domain import lifecycle
from shared.domain.changes import Change, look_job
from shared.domain.errors import UnavailableError, WorkspaceNotFoundError
from shared.domain.instance import Instance, Place
from shared.domain.lifecycle import Asker, NewMachine
from shared.domain.observe import differs
from shared.domain.policy import Policy
from shared.domain.workspace import Status, Workspace
from shared.ports import Clock, Jobs, Machines, Page, WorkspaceStore
from shared.usecases.change_workspace import change_workspace


def list_workspaces(
    store: WorkspaceStore, asker: Asker, status: Status | None, limit: int, token: str | None
) -> Page[Workspace]:
    """Return a page of the asker's workspaces, newest first. One query."""
    return store.list_owned(asker.id, status, limit, token)


def stop_workspace(
    store: WorkspaceStore, jobs: Jobs, clock: Clock, policy: Policy, asker: Asker, workspace_id: str
) -> tuple[Workspace, bool]:
    """Begin to suspend a workspace. Returns it, and whether it is still to be waited for.

    Raises:
        WorkspaceNotFoundError, OperationUnderWayError, UnavailableError
    """
    operation_id = str(uuid.uuid4())
    workspace, _ = change_workspace(
        store, jobs, workspace_id, _owned(asker, lambda ws: lifecycle.stop(ws, operation_id, asker, clock(), policy))
    )
    return workspace, workspace.operation is not None


def start_workspace(
    store: WorkspaceStore,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    asker: Asker,
    workspace_id: str,
    machine: NewMachine,
) -> tuple[Workspace, bool]:
    """Begin to make a workspace usable. Returns it, and whether it is still to be waited for.

    Raises:
        WorkspaceNotFoundError, OperationUnderWayError, UnavailableError
    """
    operation_id = str(uuid.uuid4())
    workspace, _ = change_workspace(
        store,
        jobs,
        workspace_id,
        _owned(asker, lambda ws: lifecycle.start(ws, operation_id, asker, machine, clock(), policy)),
    )
    return workspace, workspace.operation is not None


def delete_workspace(
    store: WorkspaceStore, jobs: Jobs, clock: Clock, policy: Policy, asker: Asker, workspace_id: str
) -> Workspace:
    """Begin to delete a workspace, whatever else is under way.

    Raises:
        WorkspaceNotFoundError, UnavailableError
    """
    operation_id = str(uuid.uuid4())
    workspace, _ = change_workspace(
        store, jobs, workspace_id, _owned(asker, lambda ws: lifecycle.delete(ws, operation_id, asker, clock(), policy))
    )
    return workspace


@dataclass(frozen=True, slots=True)
class RealTimeStatus:
    """A workspace as recorded, and its machine as Compute sees it now, or None and why."""

    workspace: Workspace
    instance: Instance | None
    why_no_instance: str | None


def get_workspace_status(
    store: WorkspaceStore, machines: Machines, jobs: Jobs, clock: Clock, asker: Asker, workspace_id: str
) -> RealTimeStatus:
    """Return a workspace in real time. Writes nothing; when record and machine differ, a worker is asked to look.

    One read, one call to Compute. A Compute that does not answer is told in ``why_no_instance``: the record still helps.

    Raises:
        WorkspaceNotFoundError, UnavailableError
    """
    stored = store.get(workspace_id)
    if stored is None or stored.record.owner_id != asker.id:
        raise WorkspaceNotFoundError(workspace_id)
    workspace = stored.record
    try:
        instance = machines.get(Place(workspace.zone, workspace.instance_name))
    except UnavailableError as error:
        return RealTimeStatus(workspace, None, str(error))
    now = clock()
    if differs(workspace, instance, now):
        logs.info("DriftNoticed", workspace_id=workspace.id, seen=instance.state if instance else "absent")
        try:
            jobs.send(look_job(workspace, now, asker.request_id))
        except UnavailableError as error:
            logs.warning("JobNotSent", workspace_id=workspace.id, reason=str(error))
    return RealTimeStatus(workspace, instance, None if instance else "The machine does not exist in Compute Engine.")


def _owned(asker: Asker, decide: Callable[[Workspace], Change | None]) -> Callable[[Workspace], Change | None]:
    """Decide only on the asker's own workspace; another's is not there."""

    def decision(workspace: Workspace) -> Change | None:
        if workspace.owner_id != asker.id:
            raise WorkspaceNotFoundError(workspace.id)
        return decide(workspace)

    return decision
