"""A report that does not come from the workspace's machine is refused, and that is recorded."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from shared import logs
from shared.domain import lifecycle
from shared.domain.access import Actor
from shared.domain.errors import NotAllowedError, UnavailableError
from shared.domain.events import Event
from shared.domain.lifecycle import NewWorkspace
from shared.domain.policy import Policy
from shared.domain.reports import Report, ReportEvent
from shared.domain.workspace import Metadata, Workspace
from shared.ports import Stored, WorkspaceStore
from shared.usecases.audit import AuditTrail
from shared.usecases.receive_report import receive_report
from shared.usecases.records import Records

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


class OneWorkspace:
    """The part of a store that a refusal needs: one workspace, and the events written."""

    def __init__(self, workspace: Workspace, *, writable: bool = True) -> None:
        self.events: list[Event] = []
        self._workspace = workspace
        self._writable = writable

    def get(self, workspace_id: str) -> Stored[Workspace] | None:
        """See the port."""
        return Stored(self._workspace, 1) if workspace_id == self._workspace.id else None

    def commit(self, *, events: Sequence[Event]) -> None:
        """See the port; only events may be written."""
        if not self._writable:
            raise UnavailableError("The database does not answer.")
        self.events += events


def made() -> Workspace:
    """Return a workspace whose machine boots."""
    new = NewWorkspace(
        name="api",
        machine_type="e2-standard-4",
        image_tag="latest",
        zone="us-west1-a",
        metadata=Metadata(),
    )
    actor = Actor("ada", "laptop-42", "ada@example.com")
    change = lifecycle.create(
        str(uuid.uuid4()),
        new,
        lifecycle.NewOperation(str(uuid.uuid4()), actor, NOW),
        Policy(project_id="example"),
    )
    return replace(change.workspace, instance_id="4711")


def report_as(
    store: OneWorkspace, workspace: Workspace, workspace_id: str | None = None, **proven: Any
) -> None:
    """Report READY to a workspace, from a machine that differs from its own in ``proven``."""
    own = Report(
        event=ReportEvent.READY,
        generation=1,
        instance_name=workspace.instance_name,
        instance_id="4711",
        zone=workspace.zone,
        project_id=workspace.project_id,
    )
    port = cast("WorkspaceStore", store)
    audit = AuditTrail(port, lambda: NOW)
    records = Records(
        port, lambda: pytest.fail("a refused report sends no job"), lambda: NOW, audit, Policy()
    )
    receive_report(records, Policy(), workspace_id or workspace.id, replace(own, **proven))


@pytest.mark.parametrize(
    "proven",
    [
        {"instance_id": "4712"},
        {"instance_name": "workspace-of-another"},
        {"zone": "us-west1-b"},
        {"project_id": "another"},
    ],
)
def test_another_machine_is_refused_and_recorded(proven: dict[str, str]) -> None:
    """An event has the machine and the request id, and nothing else is written."""
    workspace = made()
    store = OneWorkspace(workspace)
    token = logs.request_id.set("boot-1")
    try:
        with pytest.raises(NotAllowedError):
            report_as(store, workspace, **proven)
    finally:
        logs.request_id.reset(token)
    project = proven.get("project_id", workspace.project_id)
    who = f"machine/{project}/{proven.get('instance_name', workspace.instance_name)}"
    assert store.events == [Event(NOW, workspace.id, "ada", who, "ReportSent", "REFUSED", "boot-1")]


def test_a_report_to_an_unknown_id_is_refused_and_recorded_alike() -> None:
    """The machine's own workspace may be deleted; other machines learn nothing about ids."""
    workspace = made()
    store = OneWorkspace(workspace)
    unknown = str(uuid.uuid4())

    with pytest.raises(NotAllowedError) as of_unknown:
        report_as(store, workspace, unknown)
    with pytest.raises(NotAllowedError) as of_foreign:
        report_as(OneWorkspace(workspace), workspace, instance_name="workspace-of-another")

    assert str(of_unknown.value) == str(of_foreign.value)
    who = f"machine/{workspace.project_id}/{workspace.instance_name}"
    assert store.events == [Event(NOW, unknown, "", who, "ReportSent", "REFUSED", "")]


def test_a_refusal_that_cannot_be_recorded_is_still_a_refusal() -> None:
    """A database that does not answer must not turn the refusal into a request to retry."""
    workspace = made()
    with pytest.raises(NotAllowedError):
        report_as(OneWorkspace(workspace, writable=False), workspace, instance_id="4712")
