"""Records, instances and reports for tests; a test names the fields that matter to it."""

import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from shared.domain.deleted import DeletedWorkspace
from shared.domain.instance import Disk, DiskSnapshot, Instance, InstanceState, SnapshotStatus
from shared.domain.lifecycle import with_sweep
from shared.domain.ownership import labels_of
from shared.domain.policy import Policy
from shared.domain.reports import Report, ReportEvent
from shared.domain.snapshots import (
    Consistency,
    Snapshot,
    SnapshotState,
    snapshot_place,
    source_of,
)
from shared.domain.steps import Step, StepInput
from shared.domain.workspace import (
    Access,
    AccessState,
    Activity,
    HomeDisk,
    Operation,
    OperationKind,
    Phase,
    Problem,
    Status,
    Workspace,
)
from tests.fakes.clock import BEGINNING

NOW = BEGINNING
POLICY = Policy()
NOTHING_SEEN = StepInput()
INSTANCE_ID = "1234567890123456789"
FIRST_PHASES = {
    OperationKind.CREATE: Phase.INSERT,
    OperationKind.START: Phase.SURVEY,
    OperationKind.STOP: Phase.SUSPEND,
    OperationKind.SNAPSHOT: Phase.SNAPSHOT,
    OperationKind.DELETE: Phase.DELETE_INSTANCE,
    OperationKind.RESTORE: Phase.STOP,
    OperationKind.ARCHIVE: Phase.STOP,
}
_STOPPING = {
    *(OperationKind.STOP, OperationKind.DELETE, OperationKind.SNAPSHOT),
    *(OperationKind.RESTORE, OperationKind.ARCHIVE),
}
A_PROBLEM = Problem(
    "SOMETHING", "Something went wrong before.", retryable=False, at=NOW - timedelta(hours=1)
)


def a_workspace(
    status: Status = Status.READY, operation: Operation | None = None, **changes: Any
) -> Workspace:
    """Return a workspace that is typical of a status, with ``changes``.

    A READY one has reported and runs, and all but new ones have a home disk. Its owner may log in
    to its machine. It is swept as ``POLICY`` has it.
    """
    workspace_id = str(uuid.uuid4())
    name = f"workspace-{workspace_id}"
    has_booted = status is not Status.PROVISIONING
    workspace = Workspace(
        id=workspace_id,
        name="one",
        owner_id="alice",
        owner_email="alice@example.com",
        project_id="test-project",
        instance_name=name,
        zone="us-west1-a",
        image_tag="latest",
        machine_type="e2-standard-4",
        status=status,
        created_at=NOW - timedelta(days=1),
        updated_at=NOW - timedelta(minutes=10),
        last_connected_at=NOW - timedelta(minutes=10),
        last_activity=Activity.STARTED,
        home_disk=HomeDisk(f"home-{workspace_id}", "us-west1-a") if has_booted else None,
        generation=3,
        ready_generation=3 if status in {Status.READY, Status.SUSPENDED} else None,
        instance_id=INSTANCE_ID,
        machine_running=status is Status.READY
        and (operation is None or operation.kind in _STOPPING),
        suspended_at=NOW - timedelta(minutes=5) if status is Status.SUSPENDED else None,
        operation=operation,
        attend_at=NOW + timedelta(minutes=2) if operation else None,
        error=A_PROBLEM if status is Status.ERROR else None,
    )
    changed = replace(workspace, **changes)
    if "access" not in changes:
        changed = replace(changed, access=a_grant(changed))
    return changed if "sweep_at" in changes else with_sweep(changed, POLICY)


def a_grant(workspace: Workspace) -> Access | None:
    """Return that the owner may log in to the recorded machine; None if there is none."""
    machine = workspace.instance_id
    granted_at = workspace.created_at
    return (machine and Access(AccessState.GRANTED, None, machine, granted_at, None)) or None


def an_operation(kind: OperationKind, phase: Phase | None = None, **changes: Any) -> Operation:
    """Return an operation that entered ``phase``, by default its first one, eight seconds ago."""
    operation = Operation(
        id=str(uuid.uuid4()),
        kind=kind,
        phase=phase or FIRST_PHASES[kind],
        step=7,
        requested_by="alice",
        requested_at=NOW - timedelta(seconds=20),
        deadline_at=NOW + timedelta(minutes=9),
        phase_since=NOW - timedelta(seconds=8),
        request_id="a-request",
    )
    return replace(operation, **changes)


def a_step(
    workspace: Workspace,
    inputs: StepInput = NOTHING_SEEN,
    *,
    now: datetime = NOW,
    policy: Policy = POLICY,
) -> Step:
    """Return the next step of the workspace's operation."""
    assert workspace.operation is not None
    return Step(
        workspace=workspace, operation=workspace.operation, inputs=inputs, now=now, policy=policy
    )


def an_instance(
    workspace: Workspace, state: InstanceState = InstanceState.RUNNING, **changes: Any
) -> Instance:
    """Return the workspace's machine in this state."""
    instance = Instance(
        id=workspace.instance_id or INSTANCE_ID,
        name=workspace.instance_name,
        zone=workspace.zone,
        state=state,
        machine_type=workspace.machine_type,
        labels=labels_of(workspace.id, workspace.owner_id),
        disks=(f"{workspace.instance_name}-{workspace.generation}", workspace.disk_name),
    )
    return replace(instance, **changes)


def a_home(workspace: Workspace, **changes: Any) -> Disk:
    """Return the workspace's home disk, which is not attached."""
    zone = workspace.home_disk.zone if workspace.home_disk else workspace.zone
    disk = Disk(
        name=workspace.disk_name,
        zone=zone,
        labels=labels_of(workspace.id, workspace.owner_id),
        created_at=workspace.created_at,
        size_gb=50,
    )
    return replace(disk, **changes)


def a_disk_snapshot(
    workspace: Workspace, status: SnapshotStatus = SnapshotStatus.UPLOADING, **changes: Any
) -> DiskSnapshot:
    """Return what Compute says of the snapshot that the workspace's SNAPSHOT takes."""
    snapshot_id = workspace.operation.id if workspace.operation else str(uuid.uuid4())
    there = DiskSnapshot(
        name=snapshot_place(workspace.id, snapshot_id).name,
        status=status,
        labels=labels_of(workspace.id, workspace.owner_id),
        source_disk=workspace.disk_name,
        disk_gb=50,
        created_at=NOW,
    )
    return replace(there, **changes)


def a_report(workspace: Workspace, event: ReportEvent, **changes: Any) -> Report:
    """Return a report by the workspace's machine about its current boot."""
    report = Report(
        event=event,
        generation=workspace.generation,
        instance_name=workspace.instance_name,
        instance_id=workspace.instance_id or INSTANCE_ID,
        zone=workspace.zone,
        project_id=workspace.project_id,
    )
    return replace(report, **changes)


def a_snapshot(workspace: Workspace | None = None, **changes: Any) -> Snapshot:
    """Return a READY snapshot of the workspace's home, with ``changes``."""
    of = workspace or a_workspace()
    snapshot = Snapshot(
        id=str(uuid.uuid4()),
        workspace_id=of.id,
        owner_id=of.owner_id,
        name=None,
        automatic=False,
        state=SnapshotState.READY,
        consistency=Consistency.CRASH,
        requested_by=of.owner_id,
        request_id="a-request",
        asked_at=NOW - timedelta(minutes=20),
        captured_at=NOW - timedelta(minutes=20) + timedelta(seconds=5),
        updated_at=NOW - timedelta(minutes=15),
        disk_name=of.disk_name,
        zone=of.zone,
        machine_type=of.machine_type,
        image_tag=of.image_tag,
        metadata=of.metadata,
        ready_at=NOW - timedelta(minutes=15),
        disk_gb=50,
        stored_bytes=1_000_000_000,
    )
    return replace(snapshot, **changes)


def a_deleted_workspace(workspace: Workspace | None = None, **changes: Any) -> DeletedWorkspace:
    """Return a workspace that its owner has deleted, with ``changes``; its snapshots are no part.

    Its last copy is that of ``a_snapshot``, unless the workspace has a ``home_source``.
    """
    of = workspace or a_workspace()
    source = of.home_source or source_of(a_snapshot(of))
    entry = DeletedWorkspace(
        id=of.id,
        owner_id=of.owner_id,
        workspace=replace(of, operation=None, home_disk=None, home_source=source),
        snapshot_id=source.snapshot_id,
        deleted_at=NOW - timedelta(days=1),
        deleted_by=of.owner_id,
        automatic=False,
        until=NOW + timedelta(days=6),
    )
    return replace(entry, **changes)
