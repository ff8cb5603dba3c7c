"""Records as JSON, as ``openapi.json`` describes them."""

from datetime import UTC, datetime
from typing import Any

from shared.config import Connect
from shared.domain.events import Event
from shared.domain.instance import Instance
from shared.domain.last_copies import undelete_until
from shared.domain.lifecycle import archives_at, deletes_at, stops_at
from shared.domain.outlook import Expected, outlook
from shared.domain.policy import Policy
from shared.domain.renewal import Renewal, renewal
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import Operation, PhaseDuration, Problem, Status, Workspace
from shared.entry.connection import connection_json
from shared.usecases.deleted_workspaces import ListedDeleted
from shared.usecases.manage_snapshots import SnapshotList
from shared.usecases.manage_workspaces import Reached, RealTimeStatus


def workspace_json(workspace: Workspace, policy: Policy) -> dict[str, Any]:
    """Return a workspace in the form that every endpoint answers."""
    return {
        "id": workspace.id,
        "name": workspace.name,
        "owner_id": workspace.owner_id,
        "owner_email": workspace.owner_email,
        "project_id": workspace.project_id,
        "instance_name": workspace.instance_name,
        "zone": workspace.zone,
        "machine_type": workspace.machine_type,
        "image_tag": workspace.image_tag,
        "status": workspace.status.value,
        "operation": operation_json(workspace.operation),
        "error": _problem_json(workspace.error),
        "created_at": _time(workspace.created_at),
        "updated_at": _time(workspace.updated_at),
        "last_connected_at": _time(workspace.last_connected_at),
        "last_activity": workspace.last_activity.value,
        "last_device_id": workspace.last_device_id,
        "suspended_at": _time(workspace.suspended_at),
        "stopped_because": workspace.stopped_because
        if workspace.status is Status.SUSPENDED
        else None,
        "memory_kept": workspace.memory_kept,
        "memory_lost_because": workspace.memory_lost_because,
        "stops_at": _time(stops_at(workspace, policy)),
        "archived_at": _time(workspace.archived_at),
        "archives_at": _time(archives_at(workspace, policy)),
        "deletes_at": _time(deletes_at(workspace, policy)),
        "undelete_until": _time(undelete_until(workspace, policy)),
        "renewal": _renewal_json(renewal(workspace, policy)),
        "outlook": [_expected_json(each) for each in outlook(workspace, policy)],
        "kept_awake_until": _time(workspace.kept_awake_until),
        "generation": workspace.generation,
        "home_disk_gb": workspace.home_gb,
        "metadata": {
            "repo": workspace.metadata.repo,
            "branch": workspace.metadata.branch,
            "device_id": workspace.metadata.device_id,
        },
    }


def operation_json(operation: Operation | None) -> dict[str, Any] | None:
    """Return the operation under way, without the fields that only workers need."""
    if operation is None:
        return None
    return {
        "id": operation.id,
        "kind": operation.kind.value,
        "phase": operation.phase.value,
        "phase_since": _time(operation.phase_since),
        "phases": _phases_json(operation.phases),
        "requested_by": operation.requested_by,
        "requested_at": _time(operation.requested_at),
        "deadline_at": _time(operation.deadline_at),
        "automatic": operation.automatic,
        "zones_tried": list(operation.zones_tried),
        "snapshot_name": operation.snapshot_name,
        "snapshot_id": operation.restores.snapshot_id if operation.restores else None,
    }


def snapshots_json(listed: SnapshotList) -> dict[str, Any]:
    """Return a workspace's snapshots, how many it may have, and when it may have another."""
    return {
        "snapshots": [snapshot_json(snapshot) for snapshot in listed.snapshots],
        "most": listed.most,
        "next_at": _time(listed.next_at),
    }


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot, without the fields that only workers need."""
    return {
        "id": snapshot.id,
        "workspace_id": snapshot.workspace_id,
        "name": snapshot.name,
        "state": snapshot.state.value,
        "automatic": snapshot.automatic,
        "consistency": snapshot.consistency.value,
        "asked_at": _time(snapshot.asked_at),
        "captured_at": _time(snapshot.captured_at),
        "ready_at": _time(snapshot.ready_at),
        "disk_gb": snapshot.disk_gb,
        "stored_bytes": snapshot.stored_bytes,
        "zone": snapshot.zone,
        "machine_type": snapshot.machine_type,
        "image_tag": snapshot.image_tag,
        "metadata": {"repo": snapshot.metadata.repo, "branch": snapshot.metadata.branch},
        "error": _problem_json(snapshot.error),
    }


def deleted_json(listed: ListedDeleted) -> dict[str, Any]:
    """Return a deleted workspace that can be taken back, and what comes back with it."""
    entry, workspace = listed.entry, listed.entry.workspace
    return {
        "id": entry.id,
        "name": workspace.name,
        "owner_id": entry.owner_id,
        "owner_email": workspace.owner_email,
        "deleted_at": _time(entry.deleted_at),
        "deleted_by": entry.deleted_by,
        "automatic": entry.automatic,
        "until": _time(entry.until),
        "machine_type": workspace.machine_type,
        "image_tag": workspace.image_tag,
        "metadata": {"repo": workspace.metadata.repo, "branch": workspace.metadata.branch},
        "snapshots": listed.snapshots,
        "disk_gb": listed.disk_gb or None,
    }


def status_json(status: RealTimeStatus, policy: Policy, connect: Connect) -> dict[str, Any]:
    """Return a workspace with its machine, as Compute sees it now, and how to connect."""
    workspace, instance = status.workspace, status.instance
    host = instance.internal_address if instance else None
    return {
        **workspace_json(workspace, policy),
        "instance": _instance_json(status.instance),
        "why_no_instance": status.why_no_instance,
        "connection": connection_json(workspace, host, connect),
    }


def reached_json(reached: Reached, policy: Policy, connect: Connect) -> dict[str, Any]:
    """Return a workspace and how to connect to it."""
    return {
        **workspace_json(reached.workspace, policy),
        "connection": connection_json(reached.workspace, reached.host, connect),
    }


def event_json(event: Event) -> dict[str, Any]:
    """Return an event of the audit trail."""
    return {
        "at": _time(event.at),
        "workspace_id": event.workspace_id,
        "owner_id": event.owner_id,
        "who": event.who,
        "who_email": event.who_email,
        "as_admin": event.as_admin,
        "what": event.what,
        "result": event.result,
        "request_id": event.request_id,
        "times": event.times,
        "operation_kind": event.operation_kind,
        "seconds": event.seconds,
        "phases": _phases_json(event.phases),
        "snapshot_id": event.snapshot_id,
    }


def _phases_json(phases: tuple[PhaseDuration, ...]) -> list[dict[str, Any]]:
    return [{"phase": each.phase, "seconds": each.seconds} for each in phases]


def _renewal_json(expected: Renewal | None) -> dict[str, Any] | None:
    if expected is None:
        return None
    return {
        "at": _time(expected.at),
        "what": expected.what,
        "why": expected.why,
        "unless": expected.unless,
    }


def _expected_json(expected: Expected) -> dict[str, Any]:
    return {
        "kind": expected.kind.value,
        "at": _time(expected.at),
        "since": _time(expected.since),
        "what": expected.what,
        "why": expected.why,
        "unless": expected.unless,
    }


def _instance_json(instance: Instance | None) -> dict[str, Any] | None:
    if instance is None:
        return None
    return {
        "status": instance.state.value,
        "machine_type": instance.machine_type,
        "zone": instance.zone,
        "internal_address": instance.internal_address,
        "last_started_at": _time(instance.last_started_at),
    }


def _problem_json(problem: Problem | None) -> dict[str, Any] | None:
    if problem is None:
        return None
    return {
        "code": problem.code,
        "message": problem.message,
        "retryable": problem.retryable,
        "at": _time(problem.at),
        "operation_kind": problem.operation_kind.value if problem.operation_kind else None,
    }


def _time(moment: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC, with ``Z``."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
