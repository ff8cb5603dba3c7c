"""The two who look at a chaos run would notice: each rule of theirs is broken once, in a small run that is otherwise in order."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.faults import invariants
from tests.faults.chaos import (
    OPERATION_SECONDS,
    RUNNING_EACH,
    WORKSPACES_EACH,
    Asked,
    Outcome,
    Plan,
)
from tests.faults.observer import Observed

FIRST, SECOND = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Break = Callable[[Any], object]


def at(seconds: float) -> str:
    """Return a moment of the run."""
    return (NOON + timedelta(seconds=seconds)).isoformat()


def machine(
    name: str, seconds: float, status: str, zone: str = "a", number: str = "1"
) -> dict[str, Any]:
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


def request(
    seconds: float, method: str, path: str, status: int, answer: Any = None, **asked: Any
) -> dict[str, Any]:
    """Return a request and its answer."""
    return {
        "began": at(seconds),
        "ended": at(seconds),
        "who": "anna@example.com",
        "method": method,
        "path": path,
        "key": path + at(seconds),
        "asked": asked,
        "status": status,
        "answer": answer,
    }


def call(seconds: float, method: str, name: str) -> dict[str, Any]:
    """Return a call of the Hub's to Compute."""
    return {
        "time": at(seconds),
        "method": method,
        "zone": "a",
        "instance": f"workspace-{name}",
        "disk": f"home-{name}",
        "status": 200,
        "requestId": "r",
    }


def report(seconds: float, event: str, name: str) -> dict[str, Any]:
    """Return a report that was heard."""
    return {
        "time": at(seconds),
        "answered": at(seconds),
        "instance": f"workspace-{name}",
        "event": event,
        "status": 204,
    }


def under_way(name: str, kind: str, asked_at: float) -> dict[str, Any]:
    """Return the answer of somebody who has asked for something."""
    operation = {
        "id": f"{kind} at {asked_at}",
        "kind": kind,
        "phase": "p",
        "requested_at": at(asked_at),
    }
    return {"id": name, "operation": operation, "status": "READY", "error": None}


@pytest.fixture
def observed() -> Observed:
    """One workspace that was made, used, stopped for being idle; one that was made and deleted."""
    return Observed(
        requests=[
            request(0, "POST", "/workspaces", 201, {"id": FIRST}),
            request(1, "POST", "/workspaces", 201, {"id": SECOND}),
            request(30, "DELETE", f"/workspaces/{SECOND}", 202, {"id": SECOND}),
            request(
                90,
                "GET",
                f"/workspaces/{FIRST}/status",
                200,
                {"id": FIRST, "status": "SUSPENDED", "error": None},
            ),
            request(
                90, "GET", f"/workspaces/{SECOND}/status", 404, {"code": "WORKSPACE_NOT_FOUND"}
            ),
        ],
        calls=[
            *(call(31, "instances.delete", SECOND), call(32, "disks.delete", SECOND)),
            call(80, "instances.suspend", FIRST),
        ],
        states=[
            *(machine(FIRST, 2, "RUNNING"), machine(SECOND, 3, "RUNNING", number="2")),
            *(machine(SECOND, 32, "GONE", number="2"), machine(FIRST, 81, "SUSPENDED")),
        ],
        reports=[
            report(4, "ready", FIRST),
            report(5, "ready", SECOND),
            report(40, "heartbeat", FIRST),
        ],
        idle=timedelta(seconds=30),
        on_its_way=timedelta(seconds=5),
        operation=timedelta(seconds=60),
        workspaces_each=2,
        running_each=2,
    )


def stop_in_use_excused_by(seen: Observed, status: int) -> None:
    """Have somebody connected, and a START before the stop that was answered so."""
    seen.reports.append(report(60, "heartbeat", FIRST))
    seen.requests.insert(3, request(70, "POST", f"/workspaces/{FIRST}/start", status))


def moved_by_hand(seen: Observed, by: str = "") -> None:
    """Have a machine made in another zone while the first one is still there: by hand, or by a call of the Hub's."""
    seen.calls.append({**call(6, "instances.insert", FIRST), "zone": "b", "requestId": by})
    seen.states[2:2] = [
        machine(FIRST, 7, "RUNNING", zone="b", number="3"),
        machine(FIRST, 8, "GONE"),
    ]
    seen.states[-1].update(zone="b", id="3")


def remade(seen: Observed, **start: Any) -> None:
    """Have somebody ask for a START, and the machine deleted that ran."""
    seen.requests.insert(
        2,
        request(
            20, "POST", f"/workspaces/{FIRST}/start", 202, under_way(FIRST, "START", 20), **start
        ),
    )
    seen.calls.append(call(25, "instances.delete", FIRST))


def never_stopped(seen: Observed) -> None:
    """Have a STOP accepted that nothing came of."""
    seen.requests.insert(3, request(50, "POST", f"/workspaces/{FIRST}/stop", 202))
    seen.requests[4]["answer"].update(status="READY")
    seen.states.pop(3)


def stopped_after_its_start_was_over(seen: Observed) -> None:
    """Have a machine in use, whose START somebody has seen to be over, stopped."""
    path = f"/workspaces/{FIRST}/start"
    seen.reports.append(report(60, "heartbeat", FIRST))
    seen.requests[3:3] = [
        request(62, "POST", path, 202, under_way(FIRST, "START", 62)),
        request(65, "GET", f"/workspaces/{FIRST}/status", 200, {"id": FIRST, "operation": None}),
    ]


def still_at_it(seen: Observed) -> None:
    """Have a STOP told of for longer than any may take."""
    seen.requests.insert(
        3, request(89, "GET", f"/workspaces/{FIRST}", 200, under_way(FIRST, "STOP", 10))
    )


def test_a_run_in_order_is_not_complained_about(observed: Observed) -> None:
    """Neither of the two finds anything."""
    assert observed.violations() == []
    assert invariants.violations(in_order()) == []


@pytest.mark.parametrize(
    ("breaks", "complaint"),
    [
        (
            lambda seen: seen.states.insert(2, machine(FIRST, 6, "RUNNING", zone="b", number="3")),
            "was there 2 times",
        ),
        (lambda seen: seen.requests.pop(0), "is nobody's"),
        (
            lambda seen: seen.states.insert(2, machine(FIRST[:-1] + "9", 6, "STAGING")),
            "had {'running': 3}",
        ),
        (lambda seen: seen.reports.append(report(60, "heartbeat", FIRST)), "its last heartbeat"),
        (lambda seen: stop_in_use_excused_by(seen, 200), "its last heartbeat"),
        (lambda seen: moved_by_hand(seen, by="r"), "was there 2 times"),
        (stopped_after_its_start_was_over, "its last heartbeat"),
        (lambda seen: seen.requests.pop(2), "'s machine was deleted"),
        (remade, f"{FIRST}'s machine was deleted"),
        (
            lambda seen: seen.calls.append(call(70, "disks.delete", FIRST)),
            f"{FIRST}'s home was deleted",
        ),
        (still_at_it, "was still at STOP p"),
        (lambda seen: seen.requests.pop(2), "'s home was deleted"),
        (
            lambda seen: seen.states.pop(2),
            f"{SECOND} was made, answers 404 None None, and its machine is RUNNING",
        ),
        (
            lambda seen: seen.states.clear(),
            f"{FIRST} was made, answers 200 SUSPENDED None, and its machine is GONE",
        ),
        (
            lambda seen: seen.states.pop(3),
            f"{FIRST} was made, answers 200 SUSPENDED None, and its machine is RUNNING",
        ),
        (
            lambda seen: seen.requests[3]["answer"].update(status="READY"),
            "READY None, and its machine is SUSPENDED",
        ),
        (lambda seen: seen.requests.pop(3), f"{FIRST} was made, answers 0 None"),
        (
            lambda seen: seen.requests[4].update(status=200, answer={"status": "ERROR"}),
            "answers 200 ERROR None",
        ),
        (never_stopped, "asked to stop, answers 200 READY None"),
    ],
)
def test_the_observer_notices(observed: Observed, breaks: Break, complaint: str) -> None:
    """Each rule, broken."""
    breaks(observed)
    assert any(complaint in each for each in observed.violations()), observed.violations()


def test_what_was_asked_for_may_be_stopped_in_use(observed: Observed) -> None:
    """An accepted request excuses it."""
    stop_in_use_excused_by(observed, 202)
    assert observed.violations() == []


def test_what_people_do_by_hand_is_not_the_hubs_doing(observed: Observed) -> None:
    """A machine that somebody has moved was there twice for a moment."""
    moved_by_hand(observed)
    assert observed.violations() == []


def test_a_start_may_replace_a_machine_that_will_not_do(observed: Observed) -> None:
    """It is to be another one, it is off, or it has said that it failed."""
    off, failed = copy.deepcopy(observed), copy.deepcopy(observed)
    remade(observed, machine_type="bigger")
    remade(off)
    off.states.insert(4, machine(FIRST, 15, "TERMINATED"))
    remade(failed)
    failed.reports.insert(2, report(15, "failed", FIRST))
    assert [each.deleted_unasked() for each in (observed, off, failed)] == [[], [], []]


def disk(name: str, workspace: str, zone: str = "a") -> dict[str, Any]:
    """Return a disk."""
    labels = {"workspace": workspace, "hub": "ours", "owner": "anna", "managed-by": "workspace-hub"}
    return {"name": name, "zone": zone, "selfLink": f"{zone}/{name}", "labels": labels}


def ready(number: int) -> dict[str, Any]:
    """Return one of Bob's workspaces."""
    named = {"id": f"{number}", "instance_name": f"workspace-{number}", "owner_id": "bob"}
    return {**named, "status": "READY", "error": None, "operation": None}


def in_order() -> Outcome:
    """Return the end of a run with one workspace that is suspended, and one that was deleted."""

    def event(
        seconds: float, who: str, what: str, result: str, name: str = FIRST, number: int = 1
    ) -> dict[str, Any]:
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
        event(7, "hub", "MemoryLost", "The machine was shut down outside the Hub.", FIRST, 4),
    ]
    return Outcome(
        plan=Plan(seed=1, seconds=1),
        asked=[
            *(asked(1, "create", FIRST, 201), asked(2, "create", SECOND, 201)),
            *(asked(3, "delete", SECOND, 202), asked(4, "stop", FIRST, 202)),
        ],
        broken=[],
        deliveries={},
        looks=[[workspace]],
        homes={FIRST: {"1"}},
        moved=set(),
        workspaces=[workspace],
        events=events[::-1],
        machines=[
            {
                **disk(f"workspace-{FIRST}", FIRST),
                "status": "SUSPENDED",
                "disks": [{"source": f"a/workspace-{FIRST}-1"}, {"source": f"a/home-{FIRST}"}],
            }
        ],
        disks=[disk(f"home-{FIRST}", FIRST), disk(f"workspace-{FIRST}-1", FIRST)],
        connected=set(),
        seconds_to_quiet=1,
    )


def orphan(seconds: float, name: str) -> dict[str, Any]:
    """Return the event of a sweep that takes a machine for nobody's."""
    reason = "no workspace has this machine, and it runs"
    about = {"workspace_id": name, "request_id": "sweep"}
    return {
        "at": at(seconds),
        "who": "reconcile",
        "what": "OrphanStopped",
        "result": reason,
        **about,
    }


def test_what_was_to_be_deleted_may_be_taken_for_nobodys_and_what_was_moved_has_another_number() -> (
    None
):
    """Neither is complained about."""
    run = in_order()
    run.events.insert(0, orphan(7, SECOND))
    run.homes[FIRST].add("2")
    run.moved.add(FIRST)
    assert invariants.violations(run) == []


@pytest.mark.parametrize("connected", [True, False])
def test_after_a_delete_that_failed_a_machine_may_run_while_somebody_is_connected(
    connected: bool,
) -> None:
    """And not any longer."""
    run = in_order()
    failed = {"who": "hub", "what": "DeleteFailed", "result": "DELETE_TIMED_OUT"}
    run.events.insert(0, {**run.events[0], "at": at(9), "request_id": "r5", **failed})
    run.workspaces[0].update(
        status="ERROR",
        error={"code": "DELETE_TIMED_OUT", "message": "The DELETE did not end in time."},
    )
    run.machines[0].update(status="RUNNING")
    run.connected.update({run.machines[0]["name"]} if connected else ())
    assert (
        any("with machines ['RUNNING']" in each for each in invariants.violations(run))
        is not connected
    )


@pytest.mark.parametrize(
    ("breaks", "complaint"),
    [
        (lambda run: run.events.pop(2), "was accepted, and"),
        (lambda run: run.events.pop(1), "has neither ended nor failed"),
        (lambda run: run.workspaces[0].update(status="READY"), "ended with SUSPENDED, and is"),
        (lambda run: run.workspaces.clear(), "ended with SUSPENDED, and is None"),
        (
            lambda run: run.workspaces[0].update(status="ERROR", error=None),
            "in ERROR without a reason",
        ),
        (lambda run: run.machines.clear(), "with machines []"),
        (lambda run: run.machines[0].update(status="RUNNING"), "with machines ['RUNNING']"),
        (lambda run: run.disks.clear(), "and homes []"),
        (lambda run: run.disks.append(disk("home-other", SECOND)), "home-other is left over"),
        (
            lambda run: run.disks.append(disk(f"workspace-{FIRST}-1", FIRST, zone="b")),
            f"{FIRST}-1 is left over",
        ),
        (
            lambda run: run.disks.append(disk(f"home-{FIRST}", FIRST, zone="b")),
            f"and homes ['home-{FIRST}', 'home-{FIRST}']",
        ),
        (
            lambda run: run.events[1].update(at=at(5 + OPERATION_SECONDS + 1)),
            "SUSPENDED came after",
        ),
        (lambda run: run.events.insert(0, orphan(7, FIRST)), f"{FIRST}: OrphanStopped at"),
        (lambda run: run.machines[0]["labels"].pop("workspace"), f"labels of workspace-{FIRST}"),
        (lambda run: run.disks[0]["labels"].pop("hub"), f"labels of home-{FIRST}"),
        (lambda run: run.disks[0]["labels"].pop("owner"), f"labels of home-{FIRST}"),
        (
            lambda run: run.events[0].update(what="HomeReplaced", result="It is gone."),
            f"{FIRST}: It is gone.",
        ),
        (lambda run: run.homes[FIRST].add("2"), f"{FIRST} was READY on 2 homes"),
        (lambda run: run.workspaces.extend(run.workspaces * WORKSPACES_EACH), "has 12 workspaces"),
        (
            lambda run: run.workspaces.extend([ready(n) for n in range(RUNNING_EACH + 1)]),
            "has 11 running",
        ),
    ],
)
def test_the_invariants_notice(breaks: Break, complaint: str) -> None:
    """Each rule, broken."""
    run = copy.deepcopy(in_order())
    breaks(run)
    assert any(complaint in each for each in invariants.violations(run)), invariants.violations(run)
