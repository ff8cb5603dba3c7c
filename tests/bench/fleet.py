"""Writes many workspaces, made by the domain's functions, directly into the store."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from shared.domain import lifecycle, machine_access, owner_limits, reports
from shared.domain.access import Actor
from shared.domain.changes import Updated, finish
from shared.domain.lifecycle import NewWorkspace
from shared.domain.policy import Policy
from shared.domain.reports import Report, ReportEvent
from shared.domain.workspace import Metadata, Owner, Status, Workspace
from shared.ports import Stored, WorkspaceStore

POLICY = Policy()
_BATCH = 400  # documents in a commit
_PER_OWNER = 4

R = TypeVar("R")
Make = Callable[[Actor, str, datetime], Workspace]


def seed(store: WorkspaceStore, project_id: str, size: int, due: int, now: datetime) -> None:
    """Write ``size`` workspaces and their owners.

    ``due`` of them are due for ``clean_up`` under the default policy: half are idle, half have been
    suspended for long. As many others are due for ``reconcile``: their STOP has lost its job. Of
    the rest half are in use and half are suspended; none of them is due.
    """
    rest = size - 2 * due
    kinds: list[tuple[int, Make, datetime]] = [
        (due - due // 2, _ready, now - timedelta(hours=2)),
        (due // 2, _suspended, now - timedelta(days=31)),
        (due, _stopping, now - POLICY.attend_after - timedelta(minutes=1)),
        (rest - rest // 2, _ready, now),
        (rest // 2, _suspended, now - timedelta(days=2)),
    ]
    held = [Owner(str(uuid.uuid4())) for _ in range(-(-size // _PER_OWNER))]
    made: list[Workspace] = []
    for many, make, at in kinds:
        for nth in range(many):
            number = len(made) % len(held)  # so that those due belong to different owners
            actor = Actor(held[number].id, "seeded", f"{held[number].id}@example.com")
            workspace = make(actor, project_id, at - timedelta(milliseconds=nth))
            held[number] = _holding(held[number], workspace)
            made.append(workspace)
    for batch in _batches(made):
        store.commit(
            workspaces=[(None, lifecycle.with_sweep(workspace, POLICY)) for workspace in batch]
        )
    for holders in _batches(held):
        store.commit(owners=[(Stored(Owner(owner.id), None), owner) for owner in holders])


def _ready(actor: Actor, project_id: str, at: datetime) -> Workspace:
    """Return a READY workspace with its last connection at ``at``."""
    workspace_id = str(uuid.uuid4())
    new = NewWorkspace(
        name=f"w-{workspace_id}",
        machine_type=POLICY.default_machine_type,
        image_tag=POLICY.default_image_tag,
        zone=POLICY.zones[0],
        metadata=Metadata("example/api"),
    )
    asked = _changed(
        lifecycle.create(
            workspace_id,
            new,
            lifecycle.NewOperation(str(uuid.uuid4()), actor, at),
            replace(POLICY, project_id=project_id),
        )
    )
    instance_id = str(uuid.uuid4().int)[:19]
    report = Report(
        event=ReportEvent.READY,
        generation=asked.generation,
        instance_name=asked.instance_name,
        instance_id=instance_id,
        zone=asked.zone,
        project_id=asked.project_id,
    )
    ready = _changed(reports.receive(replace(asked, instance_id=instance_id), report, at, POLICY))
    entered = machine_access.recorded(ready, instance_id, None, at, POLICY)
    if entered is None:
        raise ValueError("the domain does not know the machine that it has just made")
    return entered


def _stopping(actor: Actor, project_id: str, at: datetime) -> Workspace:
    """Return a workspace whose STOP was accepted at ``at`` and has not advanced since."""
    return _changed(
        lifecycle.stop(
            _ready(actor, project_id, at),
            lifecycle.NewOperation(str(uuid.uuid4()), actor, at),
            POLICY,
        )
    )


def _suspended(actor: Actor, project_id: str, at: datetime) -> Workspace:
    """Return a workspace that has been suspended since ``at``."""
    return _changed(
        finish(_stopping(actor, project_id, at), Status.SUSPENDED, "WorkspaceSuspended", at)
    )


def _holding(owner: Owner, workspace: Workspace) -> Owner:
    new = owner_limits.NewHolding(workspace.id, workspace.name, None, workspace.owner_email)
    admitted = owner_limits.add_workspace(owner, new, workspace.created_at, POLICY)
    return owner_limits.mark_running(admitted, workspace.id, running=workspace.counts_as_running)


def _changed(change: Updated | None) -> Workspace:
    if change is None or change.workspace is None:
        raise ValueError("the domain refuses a change that makes the fleet")
    return change.workspace


def _batches(records: list[R]) -> Iterator[list[R]]:
    return (records[first : first + _BATCH] for first in range(0, len(records), _BATCH))
