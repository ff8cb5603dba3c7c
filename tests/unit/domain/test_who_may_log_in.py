"""Whether the owner may log in to the machine: what is recorded, when it is due, what is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.instance import Fault, FaultKind
from shared.domain.machine_access import (
    MOST_CHARACTERS,
    attended,
    attends_at,
    is_due,
    member_of,
    recorded,
    state_and_why,
)
from shared.domain.workspace import (
    Access,
    AccessState,
    OperationKind,
    Phase,
    Status,
    Workspace,
)
from tests.fakes.records import A_PROBLEM, INSTANCE_ID, NOW, POLICY, a_workspace, an_operation

PROGRAMS = "gserviceaccount.com"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
G, P, R = AccessState.GRANTED, AccessState.PENDING, AccessState.REFUSED


def after(fault: Fault | None, workspace: Workspace | None = None) -> Workspace:
    """Return a workspace after access to its machine was tried now."""
    tried = workspace or a_workspace(access=None)
    changed = recorded(tried, INSTANCE_ID, fault, NOW, POLICY)
    assert changed is not None
    return changed


def failing(kind: FaultKind, since: timedelta = timedelta(0)) -> Workspace:
    """Return a workspace to which access has been failing for some time."""
    access = Access(P, "Not yet.", INSTANCE_ID, NOW - since, NOW)
    return after(Fault(kind, "code", "No."), a_workspace(access=access))


@pytest.mark.parametrize(
    ("address", "member"),
    [
        ("alice@example.com", "user:alice@example.com"),
        ("a.b+c_d'e@sub.example.co.uk", "user:a.b+c_d'e@sub.example.co.uk"),
        (f"p@a-project.{PROGRAMS}", f"serviceAccount:p@a-project.{PROGRAMS}"),
        (f"1-compute@developer.{PROGRAMS}", f"serviceAccount:1-compute@developer.{PROGRAMS}"),
        (f"Appspot@{PROGRAMS}.example.com", f"user:Appspot@{PROGRAMS}.example.com"),
        ("alice@notgserviceaccount.com", "user:alice@notgserviceaccount.com"),
        (None, None),
        ("", None),
        ("alice", None),
        ("alice@example.com?uid=1", None),
        ("alice@example.com user:bob@example.com", None),
        ("group:all@example.com", None),
        ("älice@example.com", None),
        ("alice@example.com\n", None),
        ("a@b@example.com", None),
    ],
)
def test_an_address_becomes_the_member_that_it_is(address: str | None, member: str | None) -> None:
    """A program's address is known by its domain. Nothing else can be smuggled into a policy."""
    assert member_of(address) == member


def test_what_was_granted_is_not_tried_again() -> None:
    """It counts for the machine that it was granted on."""
    workspace = after(None)
    assert state_and_why(workspace) == (G, None)
    assert not is_due(workspace, NOW + timedelta(days=400))
    assert is_due(replace(workspace, instance_id="another"), NOW)


def test_what_came_of_another_machine_is_not_recorded() -> None:
    """The workspace got a new machine while the call was under way."""
    workspace = a_workspace(instance_id="another", access=None)
    assert recorded(workspace, INSTANCE_ID, None, NOW, POLICY) is None


@pytest.mark.parametrize(
    ("workspace", "due"),
    [
        (a_workspace(access=None), True),
        (a_workspace(Status.SUSPENDED, access=None), True),
        (a_workspace(Status.SUSPENDED, access=None, instance_id=None), False),
        (a_workspace(Status.ERROR, access=None), False),
        (a_workspace(Status.ERROR, access=None, machine_running=True), True),
        *(
            (a_workspace(Status.PROVISIONING, an_operation(kind, phase), access=None), due)
            for kind, phase, due in (
                (OperationKind.CREATE, Phase.INSERTING, False),
                (OperationKind.CREATE, Phase.AWAIT_READY, True),
                (OperationKind.START, Phase.SURVEY, False),
                (OperationKind.START, Phase.AWAIT_READY, True),
                (OperationKind.START, Phase.DELETE_INSTANCE, False),
                (OperationKind.STOP, Phase.AWAIT_SUSPENDED, False),
                (OperationKind.DELETE, Phase.AWAIT_ABSENT, False),
            )
        ),
        (
            a_workspace(
                Status.PROVISIONING,
                an_operation(OperationKind.CREATE, Phase.AWAIT_READY, failure=A_PROBLEM),
                access=None,
            ),
            False,
        ),
    ],
)
def test_access_is_due_once_there_is_a_machine(workspace: Workspace, due: bool) -> None:
    """Not while it is being made, changed or deleted, and not if none is known to exist."""
    assert is_due(workspace, NOW) is due


@pytest.mark.parametrize(
    ("kind", "since", "state"),
    [
        (FaultKind.TRANSIENT, timedelta(days=3), P),
        (FaultKind.NOT_READY, timedelta(0), P),
        (FaultKind.NOT_READY, 2 * HOUR, R),
        (FaultKind.NOT_FOUND, timedelta(0), P),
        (FaultKind.NOT_FOUND, 2 * HOUR, R),
        (FaultKind.PERMISSION, timedelta(0), P),
        (FaultKind.PERMISSION, POLICY.rights_patience - MINUTE, P),
        (FaultKind.PERMISSION, POLICY.rights_patience, R),
        (FaultKind.POLICY, timedelta(0), R),
        (FaultKind.INVALID, timedelta(0), R),
        (FaultKind.QUOTA, timedelta(0), R),
    ],
)
def test_what_passes_by_itself_is_pending(
    kind: FaultKind, since: timedelta, state: AccessState
) -> None:
    """Rights take some minutes to arrive. Nothing but an outage is pending for ever."""
    assert state_and_why(failing(kind, since))[0] is state


@pytest.mark.parametrize(
    ("since", "pause"),
    [
        (timedelta(0), MINUTE / 6),
        (5 * MINUTE, 5 * MINUTE),
        (timedelta(days=2), 15 * MINUTE),
    ],
)
def test_pending_access_is_seen_to_by_reconcile_ever_more_rarely(
    since: timedelta, pause: timedelta
) -> None:
    """The pause is as long as it has been failing, and a quarter of an hour at most."""
    workspace = failing(FaultKind.TRANSIENT, since)
    assert workspace.attend_at == attends_at(workspace) == NOW + pause
    assert not is_due(workspace, NOW + pause - MINUTE / 60)
    assert is_due(workspace, NOW + pause)


@pytest.mark.parametrize(
    ("since", "pause"),
    [(timedelta(0), 30 * MINUTE), (5 * HOUR, 5 * HOUR), (timedelta(days=9), 23 * HOUR)],
)
def test_refused_access_is_left_to_the_hourly_sweep_once_a_day_at_last(
    since: timedelta, pause: timedelta
) -> None:
    """Thousands of refused workspaces do not fill each sweep."""
    workspace = failing(FaultKind.POLICY, since)
    assert (workspace.attend_at, attends_at(workspace)) == (None, None)
    assert not is_due(workspace, NOW + pause - MINUTE)
    assert is_due(workspace, NOW + pause)


def test_a_look_for_another_reason_is_not_put_off() -> None:
    """A worker looks anyway, and sees to the access then."""
    soon = NOW + MINUTE / 6
    assert after(None, a_workspace(access=None, attend_at=soon)).attend_at == soon
    pending = after(Fault(FaultKind.TRANSIENT, "", "No."), a_workspace(access=None, attend_at=soon))
    assert pending.attend_at == soon


def test_an_operations_own_time_is_not_changed() -> None:
    """Its job is what ``reconcile`` sees to."""
    operation = an_operation(OperationKind.CREATE, Phase.AWAIT_READY)
    before = a_workspace(Status.PROVISIONING, operation, access=None)
    changed = after(Fault(FaultKind.TRANSIENT, "", "No."), before)
    assert (changed.attend_at, changed.operation) == (before.attend_at, operation)


def test_the_end_of_an_operation_sees_to_access_that_is_not_settled() -> None:
    """At once if nothing was tried, and when it is time if it is pending."""
    untried = attended(a_workspace(access=None), NOW)
    assert (untried.attend_at, is_due(untried, NOW)) == (NOW, True)
    pending = replace(failing(FaultKind.TRANSIENT), attend_at=None)
    assert attended(pending, NOW).attend_at == NOW + MINUTE / 6
    for settled in (after(None), failing(FaultKind.POLICY)):
        assert attended(settled, NOW) == settled


@pytest.mark.parametrize("address", [None, "älice@example.com"])
def test_an_owner_without_an_address_is_refused(address: str | None) -> None:
    """The reason says who can help."""
    state, why = state_and_why(after(None, a_workspace(access=None, owner_email=address)))
    assert state is R
    assert why is not None
    assert "roles/compute.osLogin" in why


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (FaultKind.TRANSIENT, "It is tried again."),
        (FaultKind.POLICY, "A policy of the organisation forbids"),
        (FaultKind.INVALID, "Compute Engine refused"),
    ],
)
def test_why_is_one_plain_line_of_bounded_length(kind: FaultKind, says: str) -> None:
    """It quotes Compute after the Hub's own words."""
    fault = Fault(kind, "code", "Said\x1b[2J\n" + "so " * 400)
    _, why = state_and_why(after(fault))
    assert why is not None
    assert says in why
    assert "Compute Engine said: Said so" in why
    assert len(why) <= MOST_CHARACTERS
    assert why.isprintable()


def test_a_missing_right_names_who_can_give_it() -> None:
    """Only whoever runs the Hub can."""
    _, why = state_and_why(failing(FaultKind.PERMISSION, HOUR))
    assert why is not None
    assert "Whoever runs this Hub must change that" in why


def test_a_workspace_without_a_machine_has_none_to_log_in_to() -> None:
    """That passes with a START."""
    state, why = state_and_why(a_workspace(instance_id=None))
    assert (state, why is not None and "Start it" in why) == (P, True)


def test_a_machine_that_nobody_has_tried_yet_is_pending() -> None:
    """For example after an earlier version has dropped what was recorded."""
    state, why = state_and_why(a_workspace(access=None))
    assert (state, bool(why)) == (P, True)
