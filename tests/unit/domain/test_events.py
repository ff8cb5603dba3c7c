"""What the audit trail says of a request, of a refusal, and of an operation's end."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain import lifecycle
from shared.domain.changes import Change, Note, finish
from shared.domain.events import HUB, Event, asked, ended, noted, refused
from shared.domain.lifecycle import CLEANUP, NewWorkspace, Report, ReportEvent
from shared.domain.people import Actor
from shared.domain.policy import Policy
from shared.domain.workspace import Metadata, OperationKind, Problem, Status, Workspace

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)
POLICY = Policy()
ADA = Actor("108234567890123456789", "laptop-42", "ada@example.com")
GRACE = Actor("115987654321098765432", "phone-7", "grace@example.com", admin=True)
PROBLEM = Problem("NO_CAPACITY", "No capacity.", retryable=True, at=NOW)


def after(change: Change | None) -> Workspace:
    """Return the workspace that a decision leaves."""
    assert change is not None
    assert change.workspace is not None
    return change.workspace


def being_made() -> Workspace:
    """Return Ada's workspace, asked for a moment ago."""
    new = NewWorkspace("api", "e2-standard-4", "latest", "us-west1-a", Metadata())
    made = after(
        lifecycle.create(str(uuid.uuid4()), str(uuid.uuid4()), "example", ADA, new, NOW, POLICY)
    )
    return replace(made, instance_id="4711")


def ready() -> Workspace:
    """Return Ada's workspace, whose machine has reported."""
    return replace(
        after(finish(being_made(), Status.READY, "WorkspaceReady", NOW)),
        ready_generation=1,
        machine_running=True,
    )


def test_an_accepted_change_says_who_asked_for_what_and_from_which_request() -> None:
    """Everything that a person wants to know later is in its one line."""
    workspace = ready()
    assert asked(ADA, workspace, "StopRequested", NOW) == Event(
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


def test_an_administrator_on_anothers_workspace_is_marked() -> None:
    """ListScope it is and who did it are told apart."""
    event = asked(GRACE, ready(), "StopRequested", NOW)
    assert (event.owner_id, event.who, event.who_email, event.as_admin) == (
        ADA.id,
        GRACE.id,
        GRACE.email,
        True,
    )


def test_an_administrator_on_their_own_workspace_is_an_owner() -> None:
    """They would have been let in without being one."""
    assert not asked(GRACE, replace(ready(), owner_id=GRACE.id), "StopRequested", NOW).as_admin


def test_the_sweep_is_named_as_who_asked() -> None:
    """An automatic stop has no person and no address."""
    event = asked(Actor(CLEANUP, "run-1"), ready(), "StopRequested", NOW)
    assert (event.who, event.who_email, event.as_admin, event.result) == (
        "cleanup",
        None,
        False,
        "ACCEPTED",
    )


@pytest.mark.parametrize("owner_id", [ADA.id, ""])
def test_a_refusal_says_who_wanted_what_and_whose_it_is(owner_id: str) -> None:
    """It is the same line for another's workspace and for none, but for the owner."""
    event = refused(GRACE, "some-id", owner_id, "StatusRequested", NOW)
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


def test_an_operation_that_succeeds_ends_in_its_status() -> None:
    """The end is the Hub's, under the request that asked for it, and belongs to the owner's workspace."""
    before = being_made()
    event = ended(before, finish(before, Status.READY, "WorkspaceReady", LATER), LATER)
    assert event == Event(LATER, before.id, ADA.id, HUB, "WorkspaceReady", "READY", "laptop-42")


def test_an_operation_that_fails_ends_in_the_code_of_its_error() -> None:
    """The words of the error are in the workspace; the trail keeps what programs go by."""
    before = being_made()
    event = ended(before, finish(before, Status.ERROR, "CreateFailed", LATER, PROBLEM), LATER)
    assert event is not None
    assert (event.what, event.result) == ("CreateFailed", "NO_CAPACITY")


def test_an_operation_that_a_late_ready_has_saved_came_to_ready() -> None:
    """What it had failed with is over."""
    failing = being_made()
    assert failing.operation is not None
    failing = replace(failing, operation=replace(failing.operation, failure=PROBLEM))
    event = ended(failing, finish(failing, Status.READY, "WorkspaceReady", LATER), LATER)
    assert event is not None
    assert (event.what, event.result) == ("WorkspaceReady", "READY")


def test_what_a_change_must_leave_to_be_read_is_the_hubs_own_event() -> None:
    """With the request that it came from."""
    before = being_made()
    change = replace(
        finish(before, Status.READY, "WorkspaceReady", LATER), notes=(Note("MemoryLost", "Why."),)
    )
    [event] = noted(before, change, LATER)
    assert (event.who, event.what, event.result, event.request_id) == (
        "hub",
        "MemoryLost",
        "Why.",
        "laptop-42",
    )


def test_a_start_that_leaves_a_workspace_asleep_says_why() -> None:
    """An error counts for more than the status that it comes with."""
    start = after(
        lifecycle.start(asleep(), str(uuid.uuid4()), ADA, lifecycle.NewMachine(), NOW, POLICY)
    )
    event = ended(start, finish(start, Status.SUSPENDED, "StartRefused", LATER, PROBLEM), LATER)
    assert event is not None
    assert (event.what, event.result, event.request_id) == (
        "StartRefused",
        "NO_CAPACITY",
        "laptop-42",
    )


def asleep() -> Workspace:
    """Return Ada's workspace, suspended."""
    return after(finish(ready(), Status.SUSPENDED, "WorkspaceSuspended", NOW))


def test_a_deletion_ends_with_the_record() -> None:
    """The trail outlives what it is about."""
    gone = after(lifecycle.delete(ready(), str(uuid.uuid4()), GRACE, NOW, POLICY))
    event = ended(gone, Change(None, "WorkspaceDeleted"), LATER)
    assert event == Event(LATER, gone.id, ADA.id, HUB, "WorkspaceDeleted", "DELETED", "phone-7")


def test_a_record_that_follows_its_machine_is_told() -> None:
    """What happened outside the Hub came from no request."""
    before = ready()
    event = ended(before, finish(before, Status.ERROR, "MachineGone", LATER, PROBLEM), LATER)
    assert event is not None
    assert (event.who, event.result, event.request_id) == (HUB, "NO_CAPACITY", "")


def test_a_step_on_the_way_is_no_event() -> None:
    """The trail has the beginning and the end; the log has the rest."""
    before = being_made()
    under_way = replace(before, instance_id="4711", updated_at=LATER)
    assert ended(before, Change(under_way, "InstanceInserted"), LATER) is None


@pytest.mark.parametrize("kind", [OperationKind.STOP, OperationKind.DELETE])
def test_a_beginning_is_no_end(kind: OperationKind) -> None:
    """Who asked for it is noted as having asked."""
    begin = {OperationKind.STOP: lifecycle.stop, OperationKind.DELETE: lifecycle.delete}[kind]
    change = begin(ready(), str(uuid.uuid4()), ADA, NOW, POLICY)
    assert change is not None
    assert ended(ready(), change, NOW) is None


def test_an_operation_that_supersedes_another_ends_nothing_yet() -> None:
    """The DELETE that was asked for tells what became of the CREATE."""
    before = being_made()
    change = lifecycle.delete(before, str(uuid.uuid4()), ADA, LATER, POLICY)
    assert change is not None
    assert ended(before, change, LATER) is None


def test_a_heartbeat_is_no_event() -> None:
    """A trail of one line a minute would hide everything else."""
    before = ready()
    report = Report(
        ReportEvent.HEARTBEAT,
        before.generation,
        before.instance_name,
        "4711",
        before.zone,
        before.project_id,
    )
    change = lifecycle.receive(before, report, LATER, POLICY)
    assert change is not None
    assert ended(before, change, LATER) is None
