"""The two who look at a chaos run would notice: each rule of theirs is broken once, in a small run that is otherwise in order."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.faults import invariants
from tests.faults.chaos import RUNNING_EACH, WORKSPACES_EACH, Asked, Outcome, Plan
from tests.faults.observer import Observed

FIRST, SECOND = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Break = Callable[[Any], object]


def at(seconds: float) -> str:
    """Return a moment of the run."""
    return (NOON + timedelta(seconds=seconds)).isoformat()


def machine(name: str, seconds: float, status: str, zone: str = "a", number: str = "1") -> dict[str, Any]:
    """Return a state of a machine."""
    labels = {"owner": "anna", "workspace": name}
    return {
        "time": at(seconds),
        "instance": f"workspace-{name}",
        "id": number,
        "zone": zone,
        "labels": labels,
        "status": status,
    }


def request(seconds: float, method: str, path: str, status: int, answer: Any = None) -> dict[str, Any]:
    """Return a request and its answer."""
    return {"began": at(seconds), "method": method, "path": path, "status": status, "answer": answer}


def call(seconds: float, method: str, name: str) -> dict[str, Any]:
    """Return a call of the Hub's to Compute."""
    return {
        "time": at(seconds),
        "method": f"instances.{method}",
        "instance": f"workspace-{name}",
        "status": 200,
        "requestId": "r",
    }


def report(seconds: float, event: str, name: str) -> dict[str, Any]:
    """Return a report that was heard."""
    return {"time": at(seconds), "instance": f"workspace-{name}", "event": event, "status": 204}


@pytest.fixture
def observed() -> Observed:
    """One workspace that was made, used, stopped for being idle; one that was made and deleted."""
    return Observed(
        requests=[
            request(0, "POST", "/workspaces", 201, {"id": FIRST}),
            request(1, "POST", "/workspaces", 201, {"id": SECOND}),
            request(30, "DELETE", f"/workspaces/{SECOND}", 202, {"id": SECOND}),
            request(90, "GET", f"/workspaces/{SECOND}/status", 404, {"code": "WORKSPACE_NOT_FOUND"}),
        ],
        calls=[call(31, "delete", SECOND), call(80, "suspend", FIRST)],
        states=[
            *(machine(FIRST, 2, "RUNNING"), machine(SECOND, 3, "RUNNING", number="2")),
            *(machine(SECOND, 32, "GONE", number="2"), machine(FIRST, 81, "SUSPENDED")),
        ],
        reports=[report(4, "ready", FIRST), report(5, "ready", SECOND), report(40, "heartbeat", FIRST)],
        idle=timedelta(seconds=30),
        workspaces_each=2,
        running_each=2,
    )


def test_a_run_in_order_is_not_complained_about(observed: Observed) -> None:
    """Neither of the two finds anything."""
    assert observed.violations() == []
    assert invariants.violations(in_order()) == []


@pytest.mark.parametrize(
    ("breaks", "complaint"),
    [
        (lambda seen: seen.states.insert(2, machine(FIRST, 6, "RUNNING", zone="b", number="3")), "was there 2 times"),
        (lambda seen: seen.requests.pop(0), "are nobody's"),
        (lambda seen: seen.states.insert(2, machine(FIRST[:-1] + "9", 6, "STAGING")), "had {'running': 3}"),
        (lambda seen: seen.reports.append(report(60, "heartbeat", FIRST)), "its last heartbeat"),
        (lambda seen: seen.requests.pop(2), "nobody had asked for it"),
        (lambda seen: seen.states.pop(2), "answers 404"),
    ],
)
def test_the_observer_notices(observed: Observed, breaks: Break, complaint: str) -> None:
    """Each rule, broken."""
    breaks(observed)
    assert any(complaint in each for each in observed.violations()), observed.violations()


def in_order() -> Outcome:
    """Return the end of a run with one workspace that is suspended, and one that was deleted."""

    def event(seconds: float, who: str, what: str, result: str, name: str = FIRST, number: int = 1) -> dict[str, Any]:
        return {
            "at": at(seconds),
            "who": who,
            "what": what,
            "result": result,
            "workspace_id": name,
            "request_id": f"r{number}",
        }

    def asked(number: int, verb: str, name: str, status: int) -> Asked:
        asked_at = {1: 0, 2: 2, 3: 3, 4: 5}[number]
        answer = {"id": name, "operation": {"kind": verb.upper(), "requested_at": at(asked_at)}}
        return Asked(f"r{number}", 0, verb, name, NOON, NOON, status, answer)

    workspace = {
        "id": FIRST,
        "owner_id": "anna",
        "status": "SUSPENDED",
        "error": None,
        "operation": None,
        "instance_name": f"workspace-{FIRST}",
    }
    events = [
        event(0, "anna", "WorkspaceRequested", "ACCEPTED"),
        event(1, "hub", "WorkspaceReady", "READY"),
        event(2, "anna", "WorkspaceRequested", "ACCEPTED", SECOND, 2),
        event(3, "anna", "DeleteRequested", "ACCEPTED", SECOND, 3),
        event(4, "hub", "WorkspaceDeleted", "DELETED", SECOND, 3),
        event(5, "anna", "StopRequested", "ACCEPTED", FIRST, 4),
        event(6, "hub", "WorkspaceSuspended", "SUSPENDED", FIRST, 4),
    ]
    return Outcome(
        plan=Plan(seed=1, seconds=1),
        asked=[
            *(asked(1, "create", FIRST, 201), asked(2, "create", SECOND, 201)),
            *(asked(3, "delete", SECOND, 202), asked(4, "stop", FIRST, 202)),
        ],
        broken=[],
        looks=[[workspace]],
        workspaces=[workspace],
        events=events[::-1],
        machines=[{"name": f"workspace-{FIRST}", "status": "SUSPENDED", "labels": {"workspace": FIRST}}],
        disks=[{"name": f"home-{FIRST}", "labels": {"workspace": FIRST}}],
        connected=set(),
        seconds_to_quiet=1,
    )


@pytest.mark.parametrize(
    ("breaks", "complaint"),
    [
        (lambda run: run.events.pop(1), "was accepted, and"),
        (lambda run: run.events.pop(0), "has neither ended nor failed"),
        (lambda run: run.workspaces[0].update(status="READY"), "ended with SUSPENDED, and is"),
        (lambda run: run.workspaces.clear(), "ended with SUSPENDED, and is None"),
        (lambda run: run.workspaces[0].update(status="ERROR", error=None), "in ERROR without a reason"),
        (lambda run: run.machines.clear(), "with machines []"),
        (lambda run: run.machines[0].update(status="RUNNING"), "with machines ['RUNNING']"),
        (lambda run: run.disks.append({"name": "home", "labels": {"workspace": SECOND}}), "has no workspace"),
        (lambda run: run.looks.append(run.workspaces * (WORKSPACES_EACH + 1)), "had 12 workspaces"),
        (lambda run: run.looks.append([{"owner_id": "a", "status": "READY"}] * (RUNNING_EACH + 1)), "had 11 running"),
    ],
)
def test_the_invariants_notice(breaks: Break, complaint: str) -> None:
    """Each rule, broken."""
    run = copy.deepcopy(in_order())
    breaks(run)
    assert any(complaint in each for each in invariants.violations(run)), invariants.violations(run)
