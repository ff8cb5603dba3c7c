"""The checks of a chaos run find violations: each rule is broken once in a small, correct run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.faults import invariants
from tests.faults.chaos import (
    GRACE_SECONDS,
    MAX_DELETED,
    MAX_RUNNING,
    MAX_SNAPSHOTS,
    MAX_WORKSPACES,
    OPERATION_SECONDS,
    Exchange,
    Outcome,
    Plan,
)
from tests.faults.observer import Histories

FIRST, SECOND = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
FORK = "00000000-0000-4000-8000-000000000003"
KEPT = "00000000-0000-4000-8000-000000000004"  # a snapshot
SECOND_COPY = "00000000-0000-4000-8000-000000000005"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Break = Callable[[Any], object]


def at(seconds: float) -> str:
    """Return the moment this many seconds into the run."""
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
        "disks": [f"workspace-{name}-{number}", f"home-{name}"],
        "status": status,
    }


def request(
    seconds: float, method: str, path: str, status: int, answer: Any = None, **asked: Any
) -> dict[str, Any]:
    """Return a request with its answer."""
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


def call(seconds: float, method: str, name: str, suffix: str = "") -> dict[str, Any]:
    """Return a call of the Hub to Compute."""
    return {
        "time": at(seconds),
        "method": method,
        "zone": "a",
        "instance": f"workspace-{name}",
        "disk": f"home-{name}{suffix}",
        "snapshot": None,
        "status": 200,
        "requestId": "r",
    }


def report(seconds: float, event: str, name: str) -> dict[str, Any]:
    """Return a report that the Hub accepted."""
    return {
        "time": at(seconds),
        "answered": at(seconds),
        "instance": f"workspace-{name}",
        "event": event,
        "status": 204,
    }


def home(seconds: float, name: str, status: str = "READY", **more: Any) -> dict[str, Any]:
    """Return a state of a home disk."""
    disk = {"kind": "disks", "name": f"home-{name}", "id": f"1{name}", "zone": "a", "source": None}
    return {"time": at(seconds), **disk, "status": status, **more}


def snapshot(seconds: float, name: str, status: str, end: str = "0" * 12) -> dict[str, Any]:
    """Return a state of a snapshot of a home."""
    its_name = f"home-snapshot-{name}-{end}"
    made = {"kind": "snapshots", "name": its_name, "id": end, "source": f"home-{name}"}
    return {"time": at(seconds), "zone": "global", **made, "status": status}


def under_way(name: str, kind: str, asked_at: float) -> dict[str, Any]:
    """Return the answer that shows an operation under way."""
    operation = {
        "id": f"{kind} at {asked_at}",
        "kind": kind,
        "phase": "p",
        "requested_at": at(asked_at),
    }
    return {"id": name, "operation": operation, "status": "READY", "error": None}


@pytest.fixture
def histories() -> Histories:
    """One workspace was made, used, and stopped when idle; another one was made and deleted."""
    return Histories(
        requests=[
            request(0, "POST", "/workspaces", 201, {"id": FIRST}, name="one"),
            request(1, "POST", "/workspaces", 201, {"id": SECOND}, name="two"),
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
        contents=[home(2, FIRST), home(3, SECOND), home(33, SECOND, "GONE")],
        reports=[
            report(4, "ready", FIRST),
            report(5, "ready", SECOND),
            report(40, "heartbeat", FIRST),
        ],
        idle_after=timedelta(seconds=30),
        in_flight=timedelta(seconds=5),
        longest_operation=timedelta(seconds=60),
        max_workspaces=2,
        max_running=2,
    )


def stop_in_use_after_a_start(histories: Histories, status: int) -> None:
    """Stop a machine in use after a START that got this answer."""
    histories.reports.append(report(60, "heartbeat", FIRST))
    histories.requests.insert(3, request(70, "POST", f"/workspaces/{FIRST}/start", status))


def move_by_hand(histories: Histories, by: str = "") -> None:
    """Make a machine in another zone while the first one exists; ``by`` is the Hub's request id."""
    histories.calls.append({**call(6, "instances.insert", FIRST), "zone": "b", "requestId": by})
    histories.states[2:2] = [
        machine(FIRST, 7, "RUNNING", zone="b", number="3"),
        machine(FIRST, 8, "GONE"),
    ]
    histories.states[-1].update(zone="b", id="3")


def replace_machine(histories: Histories, **start: Any) -> None:
    """Delete a running machine after a START."""
    histories.requests.insert(
        2,
        request(
            20, "POST", f"/workspaces/{FIRST}/start", 202, under_way(FIRST, "START", 20), **start
        ),
    )
    histories.calls.append(call(25, "instances.delete", FIRST))


def accept_a_stop_that_has_no_effect(histories: Histories) -> None:
    """Accept a STOP, and leave the machine running without an error."""
    histories.requests.insert(3, request(50, "POST", f"/workspaces/{FIRST}/stop", 202))
    histories.requests[4]["answer"].update(status="READY")
    histories.states.pop(3)


def stop_after_the_start_is_over(histories: Histories) -> None:
    """Stop a machine in use after an answer said that its START was over."""
    path = f"/workspaces/{FIRST}/start"
    histories.reports.append(report(60, "heartbeat", FIRST))
    histories.requests[3:3] = [
        request(62, "POST", path, 202, under_way(FIRST, "START", 62)),
        request(65, "GET", f"/workspaces/{FIRST}/status", 200, {"id": FIRST, "operation": None}),
    ]


def show_an_overlong_operation(histories: Histories) -> None:
    """Show a STOP that takes longer than any operation may."""
    histories.requests.insert(
        3, request(89, "GET", f"/workspaces/{FIRST}", 200, under_way(FIRST, "STOP", 10))
    )


def test_a_correct_run_has_no_violations(histories: Histories) -> None:
    """Both the observer and the invariants find nothing."""
    assert histories.violations() == []
    assert invariants.violations(clean_outcome()) == []


@pytest.mark.parametrize(
    ("breaks", "complaint"),
    [
        (
            lambda histories: histories.states.insert(
                2, machine(FIRST, 6, "RUNNING", zone="b", number="3")
            ),
            "existed 2 times",
        ),
        (lambda histories: histories.requests.pop(0), "has no owner who asked for it"),
        (
            lambda histories: histories.states.insert(2, machine(FIRST[:-1] + "9", 6, "STAGING")),
            "had {'running': 3}",
        ),
        (
            lambda histories: histories.reports.append(report(60, "heartbeat", FIRST)),
            "its last heartbeat",
        ),
        (lambda histories: stop_in_use_after_a_start(histories, 200), "its last heartbeat"),
        (lambda histories: move_by_hand(histories, by="r"), "existed 2 times"),
        (stop_after_the_start_is_over, "its last heartbeat"),
        (lambda histories: histories.requests.pop(2), "'s machine was deleted"),
        (replace_machine, f"{FIRST}'s machine was deleted"),
        (
            lambda histories: histories.calls.append(call(70, "disks.delete", FIRST)),
            f"{FIRST}'s home was deleted",
        ),
        (
            lambda histories: histories.contents.append(home(70, FIRST, "GONE")),
            f"{FIRST}'s home was nowhere at {at(70)}, without home-{FIRST}",
        ),
        (lambda histories: histories.requests.pop(2), f"{SECOND}'s home was nowhere"),
        (show_an_overlong_operation, "was still at STOP p"),
        (lambda histories: histories.requests.pop(2), "'s home was deleted"),
        (
            lambda histories: histories.states.pop(2),
            f"{SECOND} was made, answers 404 None None, and its machine is RUNNING",
        ),
        (
            lambda histories: histories.states.clear(),
            f"{FIRST} was made, answers 200 SUSPENDED None, and its machine is GONE",
        ),
        (
            lambda histories: histories.states.pop(3),
            f"{FIRST} was made, answers 200 SUSPENDED None, and its machine is RUNNING",
        ),
        (
            lambda histories: histories.requests[3]["answer"].update(status="READY"),
            "READY None, and its machine is SUSPENDED",
        ),
        (lambda histories: histories.requests.pop(3), f"{FIRST} was made, answers 0 None"),
        (
            lambda histories: histories.requests[4].update(status=200, answer={"status": "ERROR"}),
            "answers 200 ERROR None",
        ),
        (accept_a_stop_that_has_no_effect, "asked to stop, answers 200 READY None"),
        (
            lambda histories: histories.requests[1]["asked"].update(name="one"),
            f"anna@example.com got one twice: {FIRST} and {SECOND}",
        ),
    ],
)
def test_the_observer_finds_each_violation(
    histories: Histories, breaks: Break, complaint: str
) -> None:
    """Each of its rules is broken in turn."""
    breaks(histories)
    assert any(complaint in each for each in histories.violations()), histories.violations()


@pytest.mark.parametrize(("by", "complaints"), [("", 0), ("r", 1)])
def test_a_machine_that_somebody_moved_by_hand_does_not_count_as_running(
    histories: Histories, by: str, complaints: int
) -> None:
    """It runs in its new zone even if it was off; one that the Hub inserted there does count."""
    move_by_hand(histories, by=by)
    over = replace(histories, max_running=1).over_quota()
    assert len([each for each in over if f"at {at(7)}" in each]) == complaints


@pytest.mark.parametrize(("status", "complaints"), [(202, 0), (503, 0), (409, 1)])
def test_a_name_may_be_given_again_once_its_delete_may_have_been_accepted(
    histories: Histories, status: int, complaints: int
) -> None:
    """Whether the first one is gone by then does not matter."""
    histories.requests[1]["asked"].update(name="one")
    histories.requests.insert(1, request(0.5, "DELETE", f"/workspaces/{FIRST}", status))
    assert len(histories.names_given_twice()) == complaints


def test_a_machine_in_use_may_be_stopped_after_an_accepted_request(histories: Histories) -> None:
    """The observer finds no violation."""
    stop_in_use_after_a_start(histories, 202)
    assert histories.violations() == []


def test_a_machine_that_was_moved_by_hand_may_exist_twice(histories: Histories) -> None:
    """The observer finds no violation, as the call has no request id of the Hub's."""
    move_by_hand(histories)
    assert histories.violations() == []


def test_a_start_may_replace_a_machine_that_cannot_be_used(histories: Histories) -> None:
    """The request asks for another type or a larger home, or the machine is off or has failed."""
    off, failed, larger = (copy.deepcopy(histories) for _ in range(3))
    replace_machine(histories, machine_type="bigger")
    replace_machine(larger, home_disk_gb=100)
    replace_machine(off)
    off.states.insert(4, machine(FIRST, 15, "TERMINATED"))
    replace_machine(failed)
    failed.reports.insert(2, report(15, "failed", FIRST))
    for each in (histories, off, failed, larger):
        assert each.machines_deleted_without_request() == []


@pytest.mark.parametrize(("count", "complaints"), [(1, 1), (2, 0)])
def test_two_snapshots_may_have_replaced_the_reason_why_a_stop_has_no_effect(
    histories: Histories, count: int, complaints: int
) -> None:
    """That of the first one, which failed, came in its place, and went with the second one."""
    accept_a_stop_that_has_no_effect(histories)
    path = f"/workspaces/{FIRST}/snapshots"
    histories.requests.extend(request(60 + n, "POST", path, 202) for n in range(count))
    assert len(histories.untrue_answers()) == complaints


_STORED = ("CREATING", "UPLOADING", "READY")


def keep_in_snapshot(histories: Histories, since: float, lasts: float = 1) -> None:
    """Take a snapshot of the first home, and delete the disk when it is READY."""
    taken = [snapshot(since + n * lasts, FIRST, status) for n, status in enumerate(_STORED)]
    histories.contents.extend([*taken, home(since + 3 * lasts, FIRST, "GONE")])


def test_a_snapshot_of_the_last_state_is_a_copy(histories: Histories) -> None:
    """Its machine was suspended at 81 s. The disk is made from it again before it is deleted."""
    keep_in_snapshot(histories, 82)
    histories.contents.extend(
        [
            home(92, FIRST, id="again"),
            snapshot(94, FIRST, "DELETING"),
            snapshot(95, FIRST, "GONE"),
        ]
    )
    assert histories.homes_without_a_copy() == []


def test_a_machine_that_got_no_capacity_has_written_nothing(histories: Histories) -> None:
    """Its home, made again from the snapshot, may go: the snapshot has all that is on it."""
    keep_in_snapshot(histories, 82)
    histories.contents.extend(
        [home(91, FIRST, id="again"), home(93, FIRST, "GONE", id="again"), home(94, FIRST, id="b")]
    )
    histories.states.extend(
        [machine(FIRST, 91, "PROVISIONING", number="4"), machine(FIRST, 93, "GONE", number="4")]
    )
    assert histories.homes_without_a_copy() == []


def not_stored_yet(histories: Histories) -> None:
    """Delete the disk while its content is being uploaded."""
    keep_in_snapshot(histories, 82)
    histories.contents.pop(-2)


def of_an_earlier_state(histories: Histories) -> None:
    """Delete the disk although a machine has run since the snapshot."""
    keep_in_snapshot(histories, 82)
    histories.states.extend([machine(FIRST, 84.5, "RUNNING"), machine(FIRST, 84.7, "SUSPENDED")])


def of_a_running_machine(histories: Histories) -> None:
    """Delete the disk although its machine ran when the snapshot was taken."""
    keep_in_snapshot(histories, 78, lasts=2)


def failed(histories: Histories) -> None:
    """Delete the disk although the snapshot failed."""
    keep_in_snapshot(histories, 82)
    histories.contents[-2]["status"] = "FAILED"


def of_another(histories: Histories) -> None:
    """Delete the disk although the snapshot is another workspace's."""
    keep_in_snapshot(histories, 82)
    for each in histories.contents[-4:-1]:
        each["source"] = f"home-{SECOND}"


def gone_after_the_disk(histories: Histories) -> None:
    """Delete the snapshot, which is all that there is."""
    keep_in_snapshot(histories, 82)
    histories.contents.append(snapshot(90, FIRST, "DELETING"))


def gone_before_the_disk(histories: Histories) -> None:
    """Delete the snapshot, then the disk."""
    keep_in_snapshot(histories, 82)
    histories.contents.insert(-1, snapshot(84.5, FIRST, "GONE"))


@pytest.mark.parametrize(
    "lose",
    [
        *(not_stored_yet, of_an_earlier_state, of_a_running_machine, failed, of_another),
        *(gone_after_the_disk, gone_before_the_disk),
    ],
)
def test_any_other_snapshot_is_no_copy(histories: Histories, lose: Break) -> None:
    """It is not READY, not of the last state, or not there any more."""
    lose(histories)
    assert len(histories.homes_without_a_copy()) == 1


def restore_first(histories: Histories) -> None:
    """Restore the first home, which is suspended since 81 s, and delete its old disk.

    The snapshot of what was there is READY at 84 s, the new machine at 91 s.
    """
    taken = [snapshot(82 + n, FIRST, status, "1" * 12) for n, status in enumerate(_STORED)]
    asked = request(
        82, "POST", f"/workspaces/{FIRST}/restore", 202, under_way(FIRST, "RESTORE", 82)
    )
    told = {"id": FIRST, "status": "READY", "error": None, "operation": None}
    histories.requests[3:4] = [
        asked, request(93, "GET", f"/workspaces/{FIRST}/status", 200, told)
    ]  # fmt: skip
    histories.contents.extend([*taken, home(87, f"{FIRST}-2", id="new"), home(95, FIRST, "GONE")])
    histories.states.extend(
        [
            machine(FIRST, 86, "GONE"),
            machine(FIRST, 88, "RUNNING", number="3") | {"disks": [f"home-{FIRST}-2"]},
        ]
    )
    histories.reports.append(report(91, "ready", FIRST))
    histories.calls.extend(
        [call(85, "instances.delete", FIRST), call(94, "disks.delete", FIRST)]
    )  # fmt: skip


def test_a_restored_home_is_another_disk(histories: Histories) -> None:
    """The old one goes when the new machine is ready, since a snapshot has all that was on it."""
    restore_first(histories)
    assert histories.violations() == []


def let_the_snapshot_go(histories: Histories, *, by: str) -> None:
    """Delete the snapshot of the old home, then the disk; ``by`` is the Hub's request id."""
    gone = snapshot(92, FIRST, "DELETING", "1" * 12)
    histories.contents.insert(-1, gone)
    about = {"instance": None, "disk": None, "snapshot": gone["name"], "requestId": by}
    histories.calls.append({**call(92, "snapshots.delete", FIRST), **about})


def test_an_old_home_whose_snapshot_the_hub_has_deleted_may_go(histories: Histories) -> None:
    """A person has asked for that, or other snapshots needed the room."""
    restore_first(histories)
    let_the_snapshot_go(histories, by="r")
    assert histories.violations() == []


def back_to_the_old_home(histories: Histories) -> None:
    """Let the machine be ready on the old home before that is deleted."""
    histories.states[-1]["disks"] = [f"home-{FIRST}"]


def started_meanwhile(histories: Histories) -> None:
    """Start the old machine between the snapshot and its deletion."""
    histories.states[-2:-2] = [
        machine(FIRST, 84.2, "RUNNING"),
        machine(FIRST, 84.4, "TERMINATED"),
    ]


def never_stored(histories: Histories) -> None:
    """Let the snapshot of the old home fail."""
    next(each for each in histories.contents if each["time"] == at(84))["status"] = "FAILED"


@pytest.mark.parametrize(
    ("breaks", "complaint"),
    [
        (never_stored, f"{FIRST}'s home was nowhere at {at(95)}, without home-{FIRST}"),
        (started_meanwhile, f"{FIRST}'s home was nowhere at {at(95)}, without home-{FIRST}"),
        (
            lambda histories: let_the_snapshot_go(histories, by=""),
            f"{FIRST}'s home was nowhere at {at(95)}, without home-{FIRST}",
        ),
        (
            lambda histories: histories.contents.append(home(96, f"{FIRST}-2", "GONE", id="new")),
            f"{FIRST}'s home was nowhere at {at(96)}, without home-{FIRST}-2",
        ),
        (
            lambda histories: histories.calls.append(call(96, "disks.delete", FIRST, "-2")),
            f"{FIRST}'s home was deleted at {NOON + timedelta(seconds=96)}",
        ),
        (back_to_the_old_home, f"{FIRST}'s home was deleted at {NOON + timedelta(seconds=94)}"),
        (
            lambda histories: histories.requests.pop(3),
            f"{FIRST}'s home was deleted at {NOON + timedelta(seconds=94)}",
        ),
        (
            lambda histories: histories.requests.pop(3),
            f"{FIRST}'s machine was deleted at {NOON + timedelta(seconds=85)}",
        ),
    ],
)
def test_the_observer_finds_what_goes_wrong_with_a_restored_home(
    histories: Histories, breaks: Break, complaint: str
) -> None:
    """The old home is deleted without its copy, the new one without a request, or for nothing."""
    restore_first(histories)
    breaks(histories)
    assert any(complaint in each for each in histories.violations()), histories.violations()


def move_first(histories: Histories, **asked: Any) -> None:
    """Move the first workspace, which is suspended since 81 s in zone a, to zone b.

    The snapshot of its home is READY at 84 s, the new machine at 91 s. The former machine and its
    home go at 95 s and 97 s.
    """
    end = "1" * 12
    taken = [snapshot(82 + n, FIRST, status, end) for n, status in enumerate(_STORED)]
    moving = request(82, "POST", f"/workspaces/{FIRST}/start", 202, under_way(FIRST, "START", 82))
    told = {"id": FIRST, "status": "READY", "error": None, "operation": None}
    histories.requests[3:4] = [
        {**moving, "asked": asked},
        request(92, "GET", f"/workspaces/{FIRST}/status", 200, told),
    ]
    made = home(86, f"{FIRST}-2", id="new", zone="b", source=taken[0]["name"])
    histories.contents.extend([*taken, made, home(97, FIRST, "GONE")])
    histories.states.extend(
        [
            machine(FIRST, 88, "RUNNING", "b", "3") | {"disks": [f"home-{FIRST}-2"]},
            machine(FIRST, 95, "GONE"),
        ]
    )
    histories.reports.append(report(91, "ready", FIRST))
    histories.calls.extend(
        [
            {**call(86, "instances.insert", FIRST), "zone": "b"},
            *(call(94, "instances.delete", FIRST), call(96, "disks.delete", FIRST)),
        ]
    )


def fail_to_move_first(histories: Histories) -> None:
    """Let the machine in the other zone never be ready; it is deleted when the START is over."""
    move_first(histories, may_move=True)
    histories.reports.pop()
    histories.requests[4]["answer"]["status"] = "SUSPENDED"
    histories.contents[-1] = home(112, f"{FIRST}-2", "GONE", id="new", zone="b")
    histories.states[-1] = machine(FIRST, 110, "GONE", "b", "3") | {"disks": [f"home-{FIRST}-2"]}
    histories.calls[-2:] = [
        {**call(109, "instances.delete", FIRST), "zone": "b"},
        {**call(111, "disks.delete", FIRST, "-2"), "zone": "b"},
    ]


def stay_as_somebody_used_it(histories: Histories) -> None:
    """Let the former machine and its home stay after a move."""
    move_first(histories, zone="b")
    histories.states.pop()
    histories.contents.pop()
    del histories.calls[-2:]


@pytest.mark.parametrize(
    "moves",
    [
        lambda histories: move_first(histories, zone="b"),
        lambda histories: move_first(histories, may_move=True),
        fail_to_move_first,
        stay_as_somebody_used_it,
    ],
    ids=["moved", "had to move", "failed", "former one stays"],
)
def test_a_move_has_a_machine_and_a_home_in_each_of_two_zones(
    histories: Histories, moves: Break
) -> None:
    """It counts as one. What is not needed goes later, or stays if somebody has used it."""
    moves(histories)
    assert replace(histories, max_running=1, max_workspaces=2).over_quota() == [
        f"anna had {{'running': 2}} at {at(3)}"
    ]
    assert histories.violations() == []


def run_meanwhile(histories: Histories) -> None:
    """Start the former machine between the snapshot and the new one."""
    histories.states[-2:-2] = [machine(FIRST, 84.2, "RUNNING"), machine(FIRST, 84.4, "SUSPENDED")]


def still_running(histories: Histories) -> None:
    """Let the former machine run when the new one is made."""
    histories.states.insert(-2, machine(FIRST, 87, "RUNNING"))


def delete_the_new_home(histories: Histories) -> None:
    """Delete the new home after a snapshot of it while its machine ran; the former one is gone."""
    name = f"{FIRST}-2"
    taken = [
        snapshot(98 + n / 10, FIRST, status, "2" * 12) | {"source": f"home-{name}"}
        for n, status in enumerate(_STORED)
    ]
    histories.contents.extend([*taken, home(99, name, "GONE", id="new", zone="b")])


@pytest.mark.parametrize(
    ("breaks", "complaint"),
    [
        (lambda histories: histories.requests[3]["asked"].clear(), "existed 2 times"),
        (lambda histories: histories.states[-2].update(zone="a"), "existed 2 times"),
        (still_running, "existed 2 times"),
        (
            lambda histories: histories.requests[3]["asked"].clear(),
            f"{FIRST}'s home was deleted at {NOON + timedelta(seconds=96)}",
        ),
        (
            lambda histories: histories.calls.append(
                {**call(96.5, "instances.delete", FIRST), "zone": "b"}
            ),
            f"{FIRST}'s machine was deleted at {NOON + timedelta(seconds=96.5)}",
        ),
        (
            lambda histories: histories.calls.append(
                {**call(99, "disks.delete", FIRST, "-2"), "zone": "b"}
            ),
            f"{FIRST}'s home was deleted at {NOON + timedelta(seconds=99)}",
        ),
        (never_stored, f"{FIRST}'s home was nowhere at {at(97)}, without home-{FIRST}"),
        (run_meanwhile, f"{FIRST}'s home was nowhere at {at(97)}, without home-{FIRST}"),
        (delete_the_new_home, f"{FIRST}'s home was nowhere at {at(99)}, without home-{FIRST}-2"),
        (run_meanwhile, f"which has not all that was on home-{FIRST}"),
        (
            lambda histories: histories.contents[-2].update(source=f"home-snapshot-{SECOND}-1"),
            f"but is made from home-snapshot-{SECOND}-1",
        ),
    ],
)
def test_the_observer_finds_what_goes_wrong_with_a_move(
    histories: Histories, breaks: Break, complaint: str
) -> None:
    """Two run at once, one goes that is needed, or the new home has not what the former one had."""
    move_first(histories, zone="b")
    breaks(histories)
    assert any(complaint in each for each in histories.violations()), histories.violations()


def test_a_home_is_not_archived_because_the_machine_of_before_a_move_is_gone(
    histories: Histories,
) -> None:
    """Its own machine is there, so the Hub has not archived it by itself."""
    move_first(histories, zone="b")
    histories.calls.append({**call(99, "disks.delete", FIRST, "-2"), "zone": "b"})
    [found] = replace(histories, archives=True).homes_deleted_without_request()
    assert found.startswith(f"{FIRST}'s home was deleted")


def test_the_machine_of_before_a_move_is_not_the_one_that_an_answer_is_about(
    histories: Histories,
) -> None:
    """Somebody has started it, and that of the workspace, which says that it is READY, is off."""
    stay_as_somebody_used_it(histories)
    off = {**histories.states[-1], "time": at(92), "status": "SUSPENDED"}
    histories.states.extend([off, machine(FIRST, 93, "RUNNING")])
    [found] = histories.untrue_answers()
    assert "answers 200 READY None, and its machine is SUSPENDED" in found


def keep_second(histories: Histories, *, purge: bool = False, stored: bool = True) -> Histories:
    """Let the second workspace, deleted at 30 s, be one that can be taken back."""
    taken = [snapshot(32.5 + n / 10, SECOND, status) for n, status in enumerate(_STORED)]
    histories.contents[2:2] = taken if stored else []
    if purge:
        histories.requests[2]["path"] += "?purge=true"
    return replace(histories, undelete_for=timedelta(days=7), max_deleted=2)


def test_what_was_deleted_is_kept_until_it_is_purged(histories: Histories) -> None:
    """Its last copy was READY before its disk went. What is purged needs none."""
    purged = keep_second(copy.deepcopy(histories), purge=True, stored=False)
    assert keep_second(histories).violations() == []
    assert purged.violations() == []


@pytest.mark.parametrize("others", [1, 2])
def test_a_last_copy_goes_when_its_owner_has_deleted_too_many_others(
    histories: Histories, others: int
) -> None:
    """Not before."""
    kept = keep_second(histories)
    for number in range(others):
        path = f"/workspaces/{FIRST[:-1]}{number + 5}"
        kept.requests.append(request(40 + number, "DELETE", path, 202))
    kept.contents.append(snapshot(50, SECOND, "DELETING"))
    assert len(kept.homes_without_a_copy()) == (0 if others == 2 else 1)


def take_back_second(histories: Histories) -> None:
    """Take the second workspace back, start it, and then delete its home without a request."""
    told = {"id": SECOND, "status": "SUSPENDED", "error": None, "operation": None}
    histories.requests[4:] = [
        request(60, "POST", f"/workspaces/{SECOND}/undelete", 200, told),
        request(90, "GET", f"/workspaces/{SECOND}/status", 200, told),
    ]


def test_a_workspace_that_was_taken_back_may_have_no_machine(histories: Histories) -> None:
    """Its last answer says so; its home is its last copy."""
    kept = keep_second(histories)
    take_back_second(kept)
    assert kept.violations() == []


@pytest.mark.parametrize(
    ("breaks", "complaint"),
    [
        (lambda kept: kept.contents.remove(kept.contents[4]), f"{SECOND}'s home was nowhere at"),
        (
            lambda kept: kept.contents.append(snapshot(70, SECOND, "GONE")),
            f"{SECOND}'s home was nowhere at {at(70)}",
        ),
        (
            lambda kept: kept.calls.append(call(70, "disks.delete", SECOND)),
            f"{SECOND}'s home was deleted at {NOON + timedelta(seconds=70)}",
        ),
    ],
)
def test_the_observer_finds_what_goes_wrong_with_a_deleted_home(
    histories: Histories, breaks: Break, complaint: str
) -> None:
    """The disk goes before its copy is READY, the copy goes, or the home that was taken back."""
    kept = keep_second(histories)
    take_back_second(kept)
    breaks(kept)
    assert any(complaint in each for each in kept.violations()), kept.violations()


def fork_first(histories: Histories, *, ready: bool) -> None:
    """Make a workspace from a snapshot of the first one, which is stored by then."""
    taken = [snapshot(41 + n, FIRST, status) for n, status in enumerate(_STORED)]
    asked = {"name": "fork", "from": {"snapshot_id": f"00000000-0000-4000-8000-{'0' * 12}"}}
    made = request(50, "POST", "/workspaces", 201, {"id": FORK}, **asked)
    histories.requests.insert(3, made)
    histories.contents.extend([*taken, home(51, FORK, id="fork")])
    if ready:
        histories.reports.append(report(55, "ready", FORK))


def test_a_fork_has_its_content_in_the_snapshot_until_it_is_ready(histories: Histories) -> None:
    """Its disk may be made in vain, as in a zone without capacity. Then the snapshot may go."""
    in_vain = [home(52, FORK, "GONE", id="fork"), home(53, FORK, id="fork again")]
    fork_first(histories, ready=True)
    histories.contents.extend([*in_vain, snapshot(60, FIRST, "GONE")])
    assert histories.homes_without_a_copy() == []


@pytest.mark.parametrize(
    ("ready", "goes"),
    [
        (False, [home(52, FORK, "GONE", id="fork"), snapshot(60, FIRST, "DELETING")]),
        (False, [snapshot(52, FIRST, "GONE"), home(60, FORK, "GONE", id="fork")]),
        (True, [home(60, FORK, "GONE", id="fork")]),
    ],
    ids=["snapshot", "both", "disk"],
)
def test_a_fork_without_its_content_is_found(
    histories: Histories, ready: bool, goes: list[dict[str, Any]]
) -> None:
    """Neither its home nor the snapshot is there; or only the snapshot, and it was used since."""
    fork_first(histories, ready=ready)
    histories.contents.extend(goes)
    [found] = histories.homes_without_a_copy()
    assert found.startswith(f"{FORK}'s home was nowhere at {at(60)}")
    empty = request(45, "POST", f"/workspaces/{FORK}/start", 202, empty_home=True)
    assert replace(histories, requests=[*histories.requests, empty]).homes_without_a_copy() == []


def disk(name: str, workspace: str, zone: str = "a") -> dict[str, Any]:
    """Return a disk."""
    labels = {"workspace": workspace, "hub": "ours", "owner": "anna", "managed-by": "workspace-hub"}
    named = {"id": f"{zone}/{name}", "name": name, "zone": zone, "selfLink": f"{zone}/{name}"}
    return {**named, "labels": labels, "sizeGb": "50"}


def ready(number: int) -> dict[str, Any]:
    """Return one of Bob's READY workspaces."""
    named = {"id": f"{number}", "instance_name": f"workspace-{number}", "owner_id": "bob"}
    return {**named, "status": "READY", "error": None, "operation": None}


def recorded(snapshot_id: str, state: str = "READY", error: Any = None) -> dict[str, Any]:
    """Return the record of a snapshot of the first workspace."""
    of = {"workspace_id": FIRST, "owner_id": "anna"}
    return {"id": snapshot_id, **of, "state": state, "error": error}


def stored(snapshot_id: str, seconds: float = 0) -> dict[str, Any]:
    """Return a snapshot of the first workspace in Compute."""
    return {
        "name": f"home-snapshot-{FIRST}-{snapshot_id[-12:]}",
        "status": "READY",
        "sourceDisk": f"zones/a/disks/home-{FIRST}",
        "labels": {"workspace": FIRST},
        "creationTimestamp": at(seconds),
    }


def clean_outcome() -> Outcome:
    """Return the outcome of a run with one suspended workspace and one deleted workspace.

    The first one has a snapshot.
    """
    workspace_of_request = {1: FIRST, 2: SECOND, 3: SECOND, 4: FIRST, 5: FIRST}

    def event(seconds: float, who: str, what: str, result: str, number: int) -> dict[str, Any]:
        return {
            "at": at(seconds),
            "who": who,
            "what": what,
            "result": result,
            "workspace_id": workspace_of_request[number],
            "request_id": f"r{number}",
        }

    def exchange(number: int, verb: str, status: int) -> Exchange:
        name, began_at = workspace_of_request[number], {1: 0, 2: 2, 3: 3, 4: 5, 5: 8}[number]
        operation = {"kind": verb.upper(), "requested_at": at(began_at)}
        answer = {"id": name, "name": f"w{number}", "operation": operation}
        return Exchange(f"r{number}", 0, verb, name, NOON, NOON, status, answer)

    workspace = {
        "id": FIRST,
        "owner_id": "anna",
        "status": "SUSPENDED",
        "error": None,
        "operation": None,
        "instance_name": f"workspace-{FIRST}",
    }
    events = [
        event(0, "anna", "WorkspaceRequested", "ACCEPTED", 1),
        event(1, "hub", "WorkspaceReady", "READY", 1),
        event(2, "anna", "WorkspaceRequested", "ACCEPTED", 2),
        event(3, "anna", "DeleteRequested", "ACCEPTED", 3),
        event(4, "hub", "WorkspaceDeleted", "DELETED", 3),
        event(5, "anna", "StopRequested", "ACCEPTED", 4),
        event(6, "hub", "WorkspaceSuspended", "SUSPENDED", 4),
        event(7, "hub", "MemoryLost", "The machine was shut down outside the Hub.", 4),
        event(8, "anna", "SnapshotRequested", "ACCEPTED", 5),
        {**event(9, "hub", "SnapshotTaken", "UPLOADING", 5), "snapshot_id": KEPT},
        {**event(9, "hub", "SnapshotReady", "READY", 5), "snapshot_id": KEPT},
    ]
    return Outcome(
        plan=Plan(seed=1, seconds=1),
        exchanges=[
            *(exchange(1, "create", 201), exchange(2, "create", 201)),
            *(exchange(3, "delete", 202), exchange(4, "stop", 202)),
            exchange(5, "snapshot", 202),
        ],
        injected=[],
        deliveries={},
        listings=[[workspace]],
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
        snapshots={KEPT: recorded(KEPT)},
        stored=[stored(KEPT)],
        waiting={},
        deleted={},
        home_of={FIRST: (f"home-{FIRST}", {})},
        former={},
        ended=NOON + timedelta(minutes=1),
        seconds_to_quiet=1,
    )


def orphan_stopped(seconds: float, name: str) -> dict[str, Any]:
    """Return the event of a sweep that stops a machine as an orphan."""
    reason = "no workspace has this machine, and it runs"
    about = {"workspace_id": name, "request_id": "sweep"}
    return {
        "at": at(seconds),
        "who": "reconcile",
        "what": "OrphanStopped",
        "result": reason,
        **about,
    }


def test_an_orphan_after_a_delete_and_a_second_home_after_a_move_are_no_violations() -> None:
    """What was to be deleted may be stopped as an orphan, and moving a home makes another disk."""
    run = clean_outcome()
    run.events.insert(0, orphan_stopped(7, SECOND))
    run.homes[FIRST].add("2")
    run.moved.add(FIRST)
    assert invariants.violations(run) == []


@pytest.mark.parametrize("connected", [True, False])
def test_after_a_delete_that_failed_a_machine_may_run_while_somebody_is_connected(
    connected: bool,
) -> None:
    """Without a connection it is a violation."""
    run = clean_outcome()
    failed = {"who": "hub", "what": "DeleteFailed", "result": "DELETE_TIMED_OUT"}
    run.events.insert(0, {**run.events[3], "at": at(9), "request_id": "r5", **failed})
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


def delete_first_before_second_is_made(run: Outcome) -> None:
    """Give both workspaces one name, and ask for the first one's DELETE before the second."""
    run.exchanges[1].answer.update(name="w1")
    run.events.insert(-2, {**run.events[7], "at": at(1.5), "workspace_id": FIRST})


def take_a_name_again(run: Outcome) -> None:
    """Start the first workspace, whose DELETE has failed, while the second one has its name."""
    delete_first_before_second_is_made(run)
    start = {**run.events[8], "what": "StartRequested", "at": at(2.5), "workspace_id": FIRST}
    run.events.insert(-4, start)


def test_a_name_that_a_delete_has_freed_may_be_had_by_another() -> None:
    """Also while the first workspace is still there."""
    run = clean_outcome()
    delete_first_before_second_is_made(run)
    assert not [each for each in invariants.violations(run) if "twice" in each]


def ask_for_another_s(run: Outcome, verb: str, status: int) -> None:
    """Ask for a workspace from a snapshot of somebody else's."""
    answer = {"name": "x"}
    run.exchanges.append(Exchange("r6", 1, verb, "", NOON, NOON, status, answer))


def list_snapshots(run: Outcome, count: int, workspace_id: str = FIRST) -> None:
    """List this many snapshots of a workspace as the first one's."""
    listed = [{**recorded(f"{n}"), "workspace_id": workspace_id} for n in range(count)]
    answer = {"snapshots": listed}
    run.exchanges.append(Exchange("r7", 0, "snapshots", FIRST, NOON, NOON, 200, answer))


def fork_from(run: Outcome, workspace_id: str) -> None:
    """Make the first home from a snapshot of a workspace."""
    run.disks[0]["sourceSnapshot"] = f"global/snapshots/home-snapshot-{workspace_id}-{'0' * 12}"


def keep_for_a_fork(run: Outcome) -> None:
    """Delete a snapshot that a home is yet to be made from."""
    run.snapshots[KEPT].update(state="DELETING")
    run.waiting[FORK] = KEPT


def entry(snapshot_id: str) -> dict[str, Any]:
    """Return the entry of a deleted workspace of Anna's."""
    return {"owner_id": "anna", "snapshot_id": snapshot_id}


def delete_second(run: Outcome) -> dict[str, dict[str, Any]]:
    """Let the second workspace be among the deleted; return the recorded snapshots."""
    run.deleted[SECOND] = entry(SECOND_COPY)
    run.snapshots[SECOND_COPY] = {**recorded(SECOND_COPY), "workspace_id": SECOND}
    there = stored(SECOND_COPY)
    run.stored.append(
        {
            **there,
            "name": f"home-snapshot-{SECOND}-{SECOND_COPY[-12:]}",
            "sourceDisk": f"zones/a/disks/home-{SECOND}-2",
            "labels": {"workspace": SECOND},
        }
    )
    return run.snapshots


def keep_old_home(run: Outcome, *, goes: bool) -> None:
    """Have a disk that was the first home before, recorded, and say whether it is to go."""
    run.disks.append(disk(f"home-{FIRST}-1", FIRST))
    run.home_of[FIRST][1][f"home-{FIRST}-1"] = goes


def keep_former(run: Outcome, *, off_at: float = -1, **more: Any) -> dict[str, Any]:
    """Have the machine and the home of before a move, off since then; return the machine.

    The snapshot is of 0 s. ``more`` is recorded of the old home.
    """
    name, zone = f"home-{FIRST}-1", "b"
    former = {
        **disk(f"workspace-{FIRST}", FIRST, zone=zone),
        "machineType": "e2-standard-2",
        "status": "TERMINATED",
        "lastStopTimestamp": at(off_at),
        "disks": [{"source": f"{zone}/{name}"}],
    }
    old = {"name": name, "zone": zone, "snapshot_id": KEPT, "instance_id": former["id"]}
    run.former[FIRST] = [{**old, "outlived": True, "copied_at": NOON, **more}]
    run.home_of[FIRST][1][name] = True
    run.machines.append(former)
    run.disks.append({**disk(name, FIRST, zone=zone), "users": [former["selfLink"]]})
    return former


def delete_former_by_hand(run: Outcome, *, detached_at: float = 5, **more: Any) -> None:
    """Have only the home of before a move, as somebody has deleted the machine."""
    run.machines.remove(keep_former(run, **more))
    run.disks[-1].update(users=[], lastDetachTimestamp=at(detached_at))


def move_home(run: Outcome) -> None:
    """Have been READY on another home after a move, which was accepted."""
    restore_home(run)
    run.exchanges[-1] = replace(run.exchanges[-1], verb="start elsewhere")


def restore_home(run: Outcome) -> None:
    """Have been READY on another home after a RESTORE, which was accepted."""
    answer = {"id": FIRST, "name": "w1"}
    run.exchanges.append(Exchange("r8", 0, "restore", FIRST, NOON, NOON, 202, answer))
    run.homes[FIRST].add("2")


def fail_restore(run: Outcome) -> None:
    """Have no machine after a RESTORE that failed."""
    stop = next(each for each in run.events if each["what"] == "WorkspaceSuspended")
    stop.update(what="RestoreFailed", result="NOT_READY_IN_TIME")
    why = {"code": "NOT_READY_IN_TIME", "message": "The machine did not report ready."}
    run.workspaces[0].update(error=why)
    run.machines.clear()
    run.disks.pop()


def replace_error(run: Outcome) -> None:
    """Let a START fail, and then a SNAPSHOT, whose error comes in the place of the other one."""
    stop = next(each for each in run.events if each["what"] == "WorkspaceSuspended")
    stop.update(what="StartRefused", result="NO_CAPACITY")
    taken = next(each for each in run.events if each["what"] == "SnapshotTaken")
    taken.update(what="SnapshotFailed", result="SNAPSHOT_FAILED")


@pytest.mark.parametrize(
    "happens",
    [
        keep_for_a_fork,
        replace_error,
        restore_home,
        fail_restore,
        move_home,
        lambda run: keep_former(run, off_at=5),
        lambda run: keep_former(run)["labels"].clear(),
        lambda run: keep_former(run) and run.disks[-1]["labels"].clear(),
        lambda run: keep_former(run, snapshot_id=None),
        delete_former_by_hand,
        lambda run: delete_former_by_hand(run, detached_at=700, deleting_since=NOON),
        delete_second,
        lambda run: keep_old_home(run, goes=False),
        lambda run: run.snapshots[KEPT].update(
            state="FAILED", error={"code": "SNAPSHOT_FAILED", "message": "It could not be stored."}
        ),
        lambda run: run.stored.append(stored(FORK, 61 - GRACE_SECONDS)),
        lambda run: list_snapshots(run, MAX_SNAPSHOTS),
        lambda run: ask_for_another_s(run, "fork another's", 404),
        lambda run: fork_from(run, SECOND),
    ],
)
def test_what_may_become_of_snapshots_is_no_violation(happens: Break) -> None:
    """It fails with a reason, stays for a fork, or has no record yet; a fork is the maker's own.

    A RESTORE and a move make another home. If a RESTORE fails there is no machine, and an old home
    may have to stay, as may a machine of before a move.
    """
    run = clean_outcome()
    happens(run)
    assert invariants.violations(run) == []


@pytest.mark.parametrize(
    ("breaks", "complaint"),
    [
        (lambda run: run.events.pop(5), "(stop) was accepted, but"),
        (lambda run: run.events.pop(4), "has no result"),
        (lambda run: run.workspaces[0].update(status="READY"), "ended with SUSPENDED, and is"),
        (lambda run: run.workspaces.clear(), "ended with SUSPENDED, and is None"),
        (
            lambda run: run.workspaces[0].update(status="ERROR", error=None),
            "in ERROR without a reason",
        ),
        (lambda run: run.machines.clear(), "with machines []"),
        (lambda run: run.machines[0].update(status="RUNNING"), "with machines ['RUNNING']"),
        (lambda run: run.disks.clear(), "and homes []"),
        (
            lambda run: run.listings[0].append({**run.workspaces[0], "home_disk_gb": 60}),
            f"home-{FIRST} has 50 GB, of 60 GB",
        ),
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
            lambda run: run.events[4].update(at=at(5 + OPERATION_SECONDS + 1)),
            "SUSPENDED came after",
        ),
        (lambda run: run.events.insert(0, orphan_stopped(7, FIRST)), f"{FIRST}: OrphanStopped at"),
        (lambda run: run.machines[0]["labels"].pop("workspace"), f"labels of workspace-{FIRST}"),
        (lambda run: run.disks[0]["labels"].pop("hub"), f"labels of home-{FIRST}"),
        (lambda run: run.disks[0]["labels"].pop("owner"), f"labels of home-{FIRST}"),
        (
            lambda run: run.events[0].update(what="HomeReplaced", result="It is gone."),
            f"{FIRST}: It is gone.",
        ),
        (lambda run: run.homes[FIRST].add("2"), f"{FIRST} was READY on 2 homes"),
        (lambda run: run.workspaces.extend(run.workspaces * MAX_WORKSPACES), "has 12 workspaces"),
        (
            lambda run: run.workspaces.extend([ready(n) for n in range(MAX_RUNNING + 1)]),
            "has 11 running",
        ),
        (lambda run: run.exchanges[1].answer.update(name="w1"), "user 0 had w1 twice"),
        (take_a_name_again, "user 0 had w1 twice"),
        (lambda run: run.events.pop(2), "(snapshot) was accepted, but"),
        (lambda run: run.stored.clear(), f"snapshot {KEPT} of {FIRST} is READY"),
        (lambda run: run.stored[0].update(status="UPLOADING"), "in Compute UPLOADING"),
        (lambda run: run.stored[0].update(sourceDisk="disks/home-1"), "in Compute READY"),
        (lambda run: run.stored[0]["labels"].clear(), "in Compute READY"),
        (lambda run: run.snapshots[KEPT].update(owner_id="bob"), f"snapshot {KEPT} of {FIRST}"),
        (lambda run: run.snapshots[KEPT].update(state="FAILED"), "is FAILED ({})"),
        (lambda run: run.snapshots[KEPT].update(state="UPLOADING"), "is UPLOADING"),
        (lambda run: run.snapshots[KEPT].update(state="DELETING"), "is DELETING"),
        (lambda run: run.snapshots[KEPT].update(workspace_id=SECOND), f"of {SECOND} is READY"),
        (
            lambda run: run.stored.append(stored(FORK, 60 - GRACE_SECONDS)),
            f"home-snapshot-{FIRST}-{FORK[-12:]} has no record",
        ),
        (
            lambda run: run.snapshots.update(
                {f"{n}": recorded(f"{n}") for n in range(MAX_SNAPSHOTS)}
            ),
            f"{FIRST} has {MAX_SNAPSHOTS + 1} snapshots",
        ),
        (lambda run: list_snapshots(run, MAX_SNAPSHOTS + 1), f"has {MAX_SNAPSHOTS + 1} snapshots"),
        (lambda run: list_snapshots(run, 1, SECOND), f"r7 has a snapshot of {SECOND}"),
        (lambda run: ask_for_another_s(run, "fork another's", 201), "(fork another's)"),
        (lambda run: ask_for_another_s(run, "fork as administrator", 409), "was answered 409"),
        (lambda run: ask_for_another_s(run, "restore as administrator", 202), "was answered 202"),
        (lambda run: run.disks.append(disk(f"home-{FIRST}-2", FIRST)), "-2 is left over"),
        (lambda run: keep_old_home(run, goes=True), f"home-{FIRST}-1 is left over"),
        (keep_former, f"workspace-{FIRST} in b is left over"),
        (
            lambda run: keep_former(run, off_at=5, outlived=False),
            f"workspace-{FIRST} in b is left over",
        ),
        (
            lambda run: keep_former(run, off_at=5) and run.former.clear(),
            "with machines ['SUSPENDED', 'TERMINATED']",
        ),
        (
            lambda run: delete_former_by_hand(run, detached_at=-1),
            f"home-{FIRST}-1 is left over",
        ),
        (
            lambda run: delete_former_by_hand(run, deleting_since=NOON),
            f"home-{FIRST}-1 is left over",
        ),
        (lambda run: delete_second(run).pop(SECOND_COPY), f"{SECOND} was deleted, and its last"),
        (
            lambda run: delete_second(run)[SECOND_COPY].update(state="FAILED"),
            f"snapshot {SECOND_COPY}",
        ),
        (lambda run: run.deleted.update({FIRST: entry(KEPT)}), f"{FIRST} is among the deleted"),
        (
            lambda run: run.deleted.update({f"{n}": entry(KEPT) for n in range(MAX_DELETED + 1)}),
            f"anna has {MAX_DELETED + 1} deleted",
        ),
        (lambda run: fork_from(run, FORK), f"home-{FIRST} is made from another's home"),
    ],
)
def test_the_invariants_find_each_violation(breaks: Break, complaint: str) -> None:
    """Each of their rules is broken in turn."""
    run = copy.deepcopy(clean_outcome())
    breaks(run)
    assert any(complaint in each for each in invariants.violations(run)), invariants.violations(run)
