"""A person's own word holds a machine beyond the idle time, and ends with a stop."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.workspace import Operation, OperationKind, Phase, Problem, Status
from tests.fakes.records import a_workspace, an_operation
from tests.fakes.world import suspended
from tests.functions.conftest import Functions

HOUR = timedelta(hours=1)
FAILURE = Problem("NOT_READY", "It is not.", retryable=True, at=datetime(2026, 1, 1, tzinfo=UTC))


def at(hub: Functions, ahead: timedelta) -> str:
    """Return a time ahead, as a request has it."""
    return (hub.world.clock() + ahead).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_workspace_is_kept_awake_until_the_time_and_not_longer(hub: Functions) -> None:
    """The sweep stops it at the time, and nothing of the wish is left then."""
    workspace = hub.world.ready()
    counts = hub.world.store.counts
    before = (counts.reads, counts.commits)
    until = at(hub, 8 * HOUR)

    answer = hub.keep_awake(workspace.id, until)

    body = answer.get_json()
    assert (answer.status_code, body["kept_awake_until"], body["stops_at"]) == (200, until, until)
    assert [each["at"] for each in body["outlook"] if each["kind"] == "suspend"] == [until]
    assert (counts.reads, counts.commits) == (before[0] + 2, before[1] + 1)
    hub.world.clock.advance_to(datetime.fromisoformat(until) - timedelta(seconds=1))
    assert hub.world.clean_up().done == {}
    hub.world.clock.advance(timedelta(seconds=1))
    assert hub.world.clean_up().done == {"stop": [workspace.id]}
    hub.world.run()
    ended = hub.get(workspace.id).get_json()
    assert (ended["status"], ended["kept_awake_until"]) == ("SUSPENDED", None)


def test_it_is_taken_back_and_both_are_in_the_trail(hub: Functions) -> None:
    """Then the idle time counts again. The same again changes nothing, and is no event."""
    workspace = hub.world.ready()
    until = at(hub, 8 * HOUR)
    for _ in range(2):
        hub.keep_awake(workspace.id, until)
    taken_back = [hub.keep_awake(workspace.id, None) for _ in range(2)][-1]

    assert (taken_back.status_code, taken_back.get_json()["kept_awake_until"]) == (200, None)
    hub.world.clock.advance(HOUR)
    assert hub.world.clean_up().done == {"stop": [workspace.id]}
    said = [each["what"] for each in hub.events(workspace.id).get_json()]
    assert [each for each in said if each.startswith("KeepAwake")] == [
        "KeepAwakeEnded",
        "KeepAwakeRequested",
    ]


def test_a_short_time_does_not_shorten_the_idle_time(hub: Functions) -> None:
    """The later of the two counts."""
    workspace = hub.world.ready()
    before = hub.get(workspace.id).get_json()["stops_at"]

    body = hub.keep_awake(workspace.id, at(hub, timedelta(minutes=1))).get_json()

    assert body["stops_at"] == before


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (timedelta(0), "is over; it must be ahead, "),
        (-HOUR, "is over; it must be ahead, "),
        (12 * HOUR + timedelta(seconds=1), "is too far ahead; now it may be "),
    ],
)
def test_a_time_that_cannot_be_is_refused_with_the_latest(
    hub: Functions, ahead: timedelta, said: str
) -> None:
    """``HUB_KEEP_AWAKE_SECONDS`` says how far ahead it may be."""
    workspace = hub.world.ready()

    answer = hub.keep_awake(workspace.id, at(hub, ahead))

    [wrong] = answer.get_json()["errors"]
    assert (answer.status_code, wrong["field"]) == (400, "until")
    assert wrong["message"] == f"{said}{at(hub, 12 * HOUR)} at the latest"
    assert hub.keep_awake(workspace.id, at(hub, 12 * HOUR)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"until": "18:00"},
        {"until": 5},
        {"until": "2026-03-02T18:00:00"},
        {"until": "9999-12-31T23:59:59-01:00"},
    ],
)
def test_a_body_without_a_time_is_refused(hub: Functions, body: object) -> None:
    """A body that lacks ``until`` by mistake must not take the wish back."""
    workspace = hub.world.ready()
    path = f"/workspaces/{workspace.id}/keep-awake"

    answer = hub.call("keep_workspace_awake", path, body)

    assert (answer.status_code, answer.get_json()["errors"][0]["field"]) == (400, "until")


def test_an_idle_stop_that_has_not_reached_the_machine_is_called_off(hub: Functions) -> None:
    """The sweep has decided, and its job has not run yet: the machine stays up."""
    workspace = hub.world.ready()
    hub.world.clock.advance(2 * HOUR)
    hub.world.clean_up()
    assert hub.get(workspace.id).get_json()["operation"]["automatic"] is True

    answer = hub.keep_awake(workspace.id, at(hub, HOUR))
    hub.world.run()

    assert answer.status_code == 200
    now = hub.get(workspace.id).get_json()
    assert (now["status"], now["operation"]) == ("READY", None)
    assert now["kept_awake_until"] == answer.get_json()["kept_awake_until"]


@pytest.mark.parametrize(
    "operation",
    [
        an_operation(OperationKind.STOP),
        an_operation(OperationKind.STOP, Phase.AWAIT_SUSPENDED, automatic=True),
        an_operation(OperationKind.DELETE),
        replace(an_operation(OperationKind.START), failure=FAILURE),
    ],
    ids=[
        "a person's STOP",
        "an idle STOP that has reached the machine",
        "a DELETE",
        "a failed START",
    ],
)
def test_what_ends_the_machine_is_not_called_off(hub: Functions, operation: Operation) -> None:
    """The answer has the operation. To take it back is not refused."""
    workspace = a_workspace(Status.READY, operation)
    hub.world.store.put(workspace)

    answer = hub.keep_awake(workspace.id, at(hub, HOUR))

    assert (answer.status_code, answer.get_json()["code"]) == (409, "OPERATION_UNDER_WAY")
    assert answer.get_json()["operation"]["id"] == operation.id
    assert hub.keep_awake(workspace.id, None).status_code == 200


def test_a_workspace_that_starts_is_kept_awake_from_its_start_on(hub: Functions) -> None:
    """One that is asleep has nothing to keep awake, and an error with a machine has."""
    workspace = suspended(hub.world)
    asleep = hub.keep_awake(workspace.id, at(hub, 3 * HOUR))
    hub.start(workspace.id)
    until = at(hub, 3 * HOUR)
    starting = hub.keep_awake(workspace.id, until)
    hub.world.run()
    broken = a_workspace(Status.ERROR, machine_running=True)
    lost = replace(a_workspace(Status.ERROR), owner_id="alice")
    hub.world.store.put(broken, lost)

    assert (asleep.status_code, asleep.get_json()["code"]) == (409, "NOT_AWAKE")
    assert starting.status_code == 200
    assert hub.get(workspace.id).get_json()["stops_at"] == until
    assert hub.keep_awake(broken.id, until).status_code == 200
    assert hub.keep_awake(lost.id, until).status_code == 409


def test_administrators_keep_others_workspaces_awake(hub: Functions) -> None:
    """The event says who, and that they acted as one."""
    workspace = hub.world.ready()

    answer = hub.keep_awake(workspace.id, at(hub, HOUR), token="grace")

    assert answer.status_code == 200
    last = hub.events(workspace.id).get_json()[0]
    assert (last["what"], last["who"], last["as_admin"]) == ("KeepAwakeRequested", "grace", True)
