"""What the audit trail records of a request, of a refusal, and of an operation's end."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain import lifecycle, reports
from shared.domain.access import Actor
from shared.domain.changes import Change, Forgotten, Note, Transition, Updated, finish
from shared.domain.events import HUB, Event, hub_events, refusal_event, request_event
from shared.domain.lifecycle import CLEANUP, NewWorkspace
from shared.domain.policy import Policy
from shared.domain.reports import Report, ReportEvent
from shared.domain.workspace import (
    Metadata,
    OperationKind,
    PhaseDuration,
    Problem,
    Status,
    Workspace,
)

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)
POLICY = Policy(project_id="example")
ADA = Actor("108234567890123456789", "laptop-42", "ada@example.com")
GRACE = Actor("115987654321098765432", "phone-7", "grace@example.com", admin=True)
PROBLEM = Problem("NO_CAPACITY", "No capacity.", retryable=True, at=NOW)


def after(change: Updated | None) -> Workspace:
    """Return the workspace after a decision."""
    assert change is not None
    return change.workspace


def ended(before: Workspace, change: Change, now: datetime) -> Event | None:
    """Return the event of the end that a change is, or None."""
    events = hub_events(Transition(before, change), now)
    return next((event for event in events if event.what == change.event), None)


def being_made() -> Workspace:
    """Return Ada's workspace, just created."""
    new = NewWorkspace(
        name="api",
        machine_type="e2-standard-4",
        image_tag="latest",
        zone="us-west1-a",
        metadata=Metadata(),
    )
    made = after(
        lifecycle.create(
            str(uuid.uuid4()),
            new,
            lifecycle.NewOperation(str(uuid.uuid4()), ADA, NOW),
            Policy(project_id="example"),
        )
    )
    return replace(made, instance_id="4711")


def ready() -> Workspace:
    """Return Ada's workspace after its machine has reported."""
    return replace(
        after(finish(being_made(), Status.READY, "WorkspaceReady", NOW)),
        ready_generation=1,
        machine_running=True,
    )


def test_an_accepted_change_records_actor_action_and_request() -> None:
    """One event has all that a person may want to know later."""
    workspace = ready()
    assert request_event(ADA, workspace, "StopRequested", NOW) == Event(
        at=NOW,
        workspace_id=workspace.id,
        owner_id=ADA.id,
        who=ADA.id,
        who_email="ada@example.com",
        as_admin=False,
        what="StopRequested",
        result="ACCEPTED",
        request_id="laptop-42",
    )


def test_an_administrator_on_anothers_workspace_is_recorded_as_one() -> None:
    """The event names the owner and the person who acted."""
    event = request_event(GRACE, ready(), "StopRequested", NOW)
    assert (event.owner_id, event.who, event.who_email, event.as_admin) == (
        ADA.id,
        GRACE.id,
        GRACE.email,
        True,
    )


def test_an_administrator_on_their_own_workspace_is_recorded_as_owner() -> None:
    """They need no administrator's permission for it."""
    assert not request_event(
        GRACE, replace(ready(), owner_id=GRACE.id), "StopRequested", NOW
    ).as_admin


def test_the_clean_up_is_recorded_as_the_actor() -> None:
    """An automatic stop has no person and no address."""
    event = request_event(Actor(CLEANUP, "run-1"), ready(), "StopRequested", NOW)
    assert (event.who, event.who_email, event.as_admin, event.result) == (
        "cleanup",
        None,
        False,
        "ACCEPTED",
    )


@pytest.mark.parametrize("owner_id", [ADA.id, ""])
def test_a_refusal_records_actor_action_and_owner(owner_id: str) -> None:
    """The event is the same for another's workspace and for an unknown one, but for the owner."""
    event = refusal_event(GRACE, "some-id", owner_id, "StatusRequested", NOW)
    assert event == Event(
        NOW,
        "some-id",
        owner_id,
        GRACE.id,
        "StatusRequested",
        "REFUSED",
        GRACE.request_id,
        GRACE.email,
        as_admin=False,
    )


def test_a_successful_operation_is_recorded_with_its_status() -> None:
    """The end is recorded as the Hub's, with the id of the request that started the operation."""
    before = being_made()
    event = ended(before, finish(before, Status.READY, "WorkspaceReady", LATER), LATER)
    assert event == Event(
        LATER,
        before.id,
        ADA.id,
        HUB,
        "WorkspaceReady",
        "READY",
        "laptop-42",
        operation_kind="CREATE",
        seconds=600,
        phases=(PhaseDuration("insert", 600.0),),
    )


def test_a_failed_operation_is_recorded_with_its_error_code() -> None:
    """The message of the error is in the workspace; the trail keeps only the code."""
    before = being_made()
    event = ended(before, finish(before, Status.ERROR, "CreateFailed", LATER, PROBLEM), LATER)
    assert event is not None
    assert (event.what, event.result) == ("CreateFailed", "NO_CAPACITY")


def test_an_operation_saved_by_a_late_ready_report_is_recorded_as_ready() -> None:
    """The failure that was recorded before no longer counts."""
    failing = being_made()
    assert failing.operation is not None
    failing = replace(failing, operation=replace(failing.operation, failure=PROBLEM))
    event = ended(failing, finish(failing, Status.READY, "WorkspaceReady", LATER), LATER)
    assert event is not None
    assert (event.what, event.result) == ("WorkspaceReady", "READY")


def test_a_note_of_a_change_is_an_event_of_the_hub() -> None:
    """It has the id of the request that led to it."""
    before = being_made()
    change = replace(
        finish(before, Status.READY, "WorkspaceReady", LATER), notes=(Note("MemoryLost", "Why."),)
    )
    [event] = hub_events(Transition(before, change), LATER)[:1]
    assert (event.who, event.what, event.result, event.request_id) == (
        "hub",
        "MemoryLost",
        "Why.",
        "laptop-42",
    )


def test_a_start_that_leaves_a_workspace_suspended_is_recorded_with_the_reason() -> None:
    """The error's code is the result, rather than the status."""
    start = after(
        lifecycle.start(
            suspended(),
            lifecycle.NewOperation(str(uuid.uuid4()), ADA, NOW),
            lifecycle.NewMachine(),
            POLICY,
        )
    )
    event = ended(start, finish(start, Status.SUSPENDED, "StartRefused", LATER, PROBLEM), LATER)
    assert event is not None
    assert (event.what, event.result, event.request_id) == (
        "StartRefused",
        "NO_CAPACITY",
        "laptop-42",
    )


def suspended() -> Workspace:
    """Return Ada's workspace, suspended."""
    return after(finish(ready(), Status.SUSPENDED, "WorkspaceSuspended", NOW))


def test_the_end_of_a_deletion_is_recorded() -> None:
    """The event is written although the record is gone."""
    gone = after(
        lifecycle.delete(ready(), lifecycle.NewOperation(str(uuid.uuid4()), GRACE, NOW), POLICY)
    )
    event = ended(gone, Forgotten("WorkspaceDeleted"), LATER)
    assert event == Event(
        LATER,
        gone.id,
        ADA.id,
        HUB,
        "WorkspaceDeleted",
        "DELETED",
        "phone-7",
        operation_kind="DELETE",
        seconds=600,
        phases=(PhaseDuration("delete_instance", 600.0),),
    )


def test_a_change_outside_the_hub_is_recorded() -> None:
    """A change that came from outside the Hub has no request id."""
    before = ready()
    event = ended(before, finish(before, Status.ERROR, "MachineGone", LATER, PROBLEM), LATER)
    assert event is not None
    assert (event.who, event.result, event.request_id) == (HUB, "NO_CAPACITY", "")
    assert (event.operation_kind, event.seconds, event.phases) == (None, None, ())


def test_a_step_of_an_operation_is_not_an_event() -> None:
    """The trail has the start and the end of an operation; the log has the steps."""
    before = being_made()
    under_way = replace(before, instance_id="4711", updated_at=LATER)
    assert ended(before, Updated(under_way, "InstanceInserted"), LATER) is None


@pytest.mark.parametrize("kind", [OperationKind.STOP, OperationKind.DELETE])
def test_the_start_of_an_operation_is_not_its_end(kind: OperationKind) -> None:
    """The request itself is recorded by ``asked``."""
    begin = {OperationKind.STOP: lifecycle.stop, OperationKind.DELETE: lifecycle.delete}[kind]
    change = begin(ready(), lifecycle.NewOperation(str(uuid.uuid4()), ADA, NOW), POLICY)
    assert change is not None
    assert ended(ready(), change, NOW) is None


def test_a_delete_that_supersedes_a_create_is_not_an_end() -> None:
    """The end of the DELETE also stands for the CREATE."""
    before = being_made()
    change = lifecycle.delete(before, lifecycle.NewOperation(str(uuid.uuid4()), ADA, LATER), POLICY)
    assert change is not None
    assert ended(before, change, LATER) is None


def test_a_heartbeat_is_not_an_event() -> None:
    """Events for heartbeats, one a minute, would hide everything else."""
    before = ready()
    report = Report(
        event=ReportEvent.HEARTBEAT,
        generation=before.generation,
        instance_name=before.instance_name,
        instance_id="4711",
        zone=before.zone,
        project_id=before.project_id,
    )
    change = reports.receive(before, report, LATER, POLICY)
    assert change is not None
    assert ended(before, change, LATER) is None
