"""What a connect does and answers: who may, what it starts, what it moves, and where it leads."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.errors import ConflictError
from shared.domain.instance import SuspendInstance
from shared.domain.workspace import OperationKind, Status
from tests.fakes.interruptions import Interruptions, Moment
from tests.fakes.records import a_workspace, an_operation
from tests.fakes.store import Counts
from tests.fakes.world import place_of, suspended
from tests.functions.conftest import Functions
from tests.functions.test_answers import WORKSPACE_FIELDS, counted

MINUTES = timedelta(minutes=1)
WANTS_IN = {"device_id": "laptop", "start": True}
BY_ITSELF = {"start": False}


def costs(counts: Counts) -> tuple[int, int, int]:
    """Return how many reads, commits and queries there were."""
    return counts.reads, counts.commits, counts.queries


# ---- the answer ----


def test_the_owner_gets_the_workspace_and_the_connection(hub: Functions) -> None:
    """Through IAP it costs no call to Compute."""
    workspace, reads = hub.world.ready(), hub.world.machines.reads.total()

    answer = hub.connect(workspace.id)

    body = answer.get_json()
    assert answer.status_code == 200
    assert set(body) == WORKSPACE_FIELDS | {"connection"}
    assert body["connection"] == hub.status(workspace.id).get_json()["connection"]
    assert body["connection"]["kind"] == "iap"
    assert hub.world.machines.reads.total() == reads + 1, "the status alone asks Compute"


def test_a_direct_connection_leads_to_the_machines_address(hub: Functions) -> None:
    """Bastion, port and user are the Hub's; the line to paste has all of them."""
    hub.configure(
        HUB_CONNECT="direct",
        HUB_CONNECT_PORT="2222",
        HUB_CONNECT_JUMP="ops@bastion.example.com:22",
        HUB_CONNECT_USER="workspace",
    )
    workspace = hub.world.ready()

    connections = [ask(workspace.id).get_json()["connection"] for ask in (hub.connect, hub.status)]

    for connection in connections:
        assert connection == {
            "kind": "direct",
            "project_id": "test-project",
            "zone": "us-west1-a",
            "instance_name": workspace.instance_name,
            "instance_id": workspace.instance_id,
            "host": "10.128.0.2",
            "port": 2222,
            "jump": "ops@bastion.example.com:22",
            "user": "workspace",
            "host_key": f"ssh-ed25519 {workspace.instance_id}",
            "access": {"state": "granted", "why": None},
            "command": "ssh -p 2222 -J ops@bastion.example.com:22 workspace@10.128.0.2",
        }


@pytest.mark.parametrize("ask", ["connect", "status"])
def test_an_owner_who_is_not_let_in_yet_is_told_and_seen_to(hub: Functions, ask: str) -> None:
    """A worker looks, and gives the access that was not given yet."""
    workspace = hub.world.ready()
    hub.world.store.put(replace(hub.world.workspace(workspace.id), access=None))

    before = getattr(hub, ask)(workspace.id).get_json()["connection"]["access"]
    hub.world.run()
    after = getattr(hub, ask)(workspace.id).get_json()["connection"]["access"]

    assert (before["state"], bool(before["why"])) == ("pending", True)
    assert after == {"state": "granted", "why": None}


@pytest.mark.parametrize("status", ["SUSPENDED", "UNANSWERED"])
def test_an_address_that_is_not_known_is_null(hub: Functions, status: str) -> None:
    """A machine that is off, or that Compute says nothing of, is no reason to refuse."""
    hub.configure(HUB_CONNECT="direct")
    workspace = suspended(hub.world) if status == "SUSPENDED" else hub.world.ready()
    hub.world.machines.unanswered_reads = int(status == "UNANSWERED")
    reads = hub.world.machines.reads.total()

    answer = hub.connect(workspace.id)

    connection = answer.get_json()["connection"]
    assert (answer.status_code, connection["host"], connection["command"]) == (200, None, None)
    assert hub.world.machines.reads.total() == reads + int(status == "UNANSWERED")


# ---- what it starts ----


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.ERROR])
def test_who_wants_in_starts_what_is_not_ready(hub: Functions, status: Status) -> None:
    """It is the START that the verb begins, with its event, and another wish joins it."""
    workspace = a_workspace(status)
    hub.world.store.put(workspace)

    first, again = (hub.connect(workspace.id, WANTS_IN) for _ in range(2))

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.get_json()["operation"]["kind"] == "START"
    assert first.get_json() == again.get_json()
    assert first.get_json()["last_connected_at"] == "2026-03-02T09:00:00Z"
    assert len(hub.world.operations.sent) == 1
    assert [event["what"] for event in hub.events(workspace.id).get_json()] == ["StartRequested"]


def test_who_wants_into_a_suspended_workspace_gets_in(hub: Functions) -> None:
    """Once the machine runs, the same request is answered 200."""
    workspace = suspended(hub.world)

    first = hub.connect(workspace.id, WANTS_IN)
    hub.world.run()
    then = hub.connect(workspace.id, WANTS_IN)

    assert (first.status_code, then.status_code) == (202, 200)
    assert (then.get_json()["status"], then.get_json()["memory_kept"]) == ("READY", True)


@pytest.mark.parametrize("body", [None, {}, {"device_id": "laptop"}, BY_ITSELF, {"start": None}])
def test_nobody_else_starts_a_suspended_workspace(hub: Functions, body: object) -> None:
    """An editor that reconnects, or a question, does not wake what was just put to sleep."""
    workspace = suspended(hub.world)
    sent = len(hub.world.operations.sent)

    answer = hub.connect(workspace.id, body)

    assert (answer.status_code, answer.get_json()["status"]) == (200, "SUSPENDED")
    assert answer.get_json()["operation"] is None
    assert len(hub.world.operations.sent) == sent


@pytest.mark.parametrize("kind", [OperationKind.CREATE, OperationKind.STOP, OperationKind.DELETE])
def test_who_wants_in_during_another_operation_is_refused(
    hub: Functions, kind: OperationKind
) -> None:
    """The answer says which operation to wait for; who only asks is answered all the same."""
    workspace = a_workspace(Status.READY, an_operation(kind))
    hub.world.store.put(workspace)

    wants_in, asks = hub.connect(workspace.id, WANTS_IN), hub.connect(workspace.id)

    assert (wants_in.status_code, wants_in.get_json()["code"]) == (409, "OPERATION_UNDER_WAY")
    assert wants_in.get_json()["operation"]["kind"] == kind
    assert (asks.status_code, asks.get_json()["operation"]["kind"]) == (200, kind)


def test_a_start_that_is_under_way_is_answered_202_to_everybody_who_asks(hub: Functions) -> None:
    """Who asks or reconnects learns that it is worth waiting."""
    workspace = suspended(hub.world)
    hub.start(workspace.id)

    answers = [hub.connect(workspace.id, body) for body in (None, BY_ITSELF, WANTS_IN)]

    assert [answer.status_code for answer in answers] == [202, 202, 202]


def test_a_start_by_connecting_keeps_to_quota_and_rate(hub: Functions) -> None:
    """It is refused as a start is."""
    hub.configure(HUB_RUNNING_PER_OWNER="1")
    first = suspended(hub.world)
    hub.create({"name": "two"})
    over_quota = hub.connect(first.id, WANTS_IN)
    hub.configure(HUB_CHANGES_PER_MINUTE="1")
    over_rate = hub.connect(first.id, WANTS_IN)

    assert (over_quota.status_code, over_quota.get_json()["code"]) == (403, "QUOTA_EXCEEDED")
    assert (over_rate.status_code, over_rate.get_json()["code"]) == (429, "TOO_MANY_REQUESTS")
    assert hub.world.workspace(first.id).last_device_id is None, "nothing is half done"


def test_who_wants_in_calls_off_an_idle_stop_that_has_not_begun(hub: Functions) -> None:
    """The sweep has decided, and its job has not run yet: the machine stays up."""
    workspace = hub.world.ready()
    hub.world.clock.advance(timedelta(hours=2))
    hub.world.clean_up()
    assert hub.get(workspace.id).get_json()["operation"]["automatic"] is True

    refused = hub.connect(workspace.id, WANTS_IN)
    hub.world.run()
    then = hub.connect(workspace.id, WANTS_IN)

    assert (refused.status_code, refused.get_json()["code"]) == (409, "OPERATION_UNDER_WAY")
    assert (then.status_code, then.get_json()["status"]) == (200, "READY")
    suspends = [call for call, _ in hub.world.machines.calls if isinstance(call, SuspendInstance)]
    assert suspends == []


def test_who_wants_in_during_an_idle_stop_is_told_to_wait_whatever_else(hub: Functions) -> None:
    """That their wish could not be noted, as their rate is used up, is not the answer."""
    workspace = hub.world.ready()
    hub.world.clock.advance(timedelta(hours=2))
    hub.world.clean_up()
    hub.configure(HUB_CHANGES_PER_MINUTE="1")
    hub.create({"name": "two"})

    refused = hub.connect(workspace.id, WANTS_IN)

    assert (refused.status_code, refused.get_json()["code"]) == (409, "OPERATION_UNDER_WAY")


# ---- what it moves ----


@pytest.mark.parametrize("body", [None, {"device_id": "laptop"}, {"start": True}])
def test_a_person_moves_the_last_connection_at_most_once_a_minute(
    hub: Functions, body: object
) -> None:
    """So the idle sweep leaves them time to connect, and asking again costs one read."""
    workspace = hub.world.ready()
    hub.world.clock.advance_to(workspace.last_connected_at + 30 * MINUTES)

    first = hub.connect(workspace.id, body).get_json()
    hub.world.clock.advance(MINUTES)
    counts = counted(hub)
    soon = hub.connect(workspace.id, body).get_json()
    assert costs(counts) == (1, 0, 0)
    hub.world.clock.advance(MINUTES)
    later = hub.connect(workspace.id, body).get_json()

    assert first["last_connected_at"] == first["updated_at"] == "2026-03-02T09:30:45Z"
    assert first["stops_at"] == "2026-03-02T10:30:45Z"
    assert soon == first
    assert later["last_connected_at"] == "2026-03-02T09:32:45Z"


def test_what_reconnects_by_itself_moves_nothing(hub: Functions) -> None:
    """A reconnect loop over night does not keep a machine running, and costs one read a time."""
    workspace = hub.world.ready()
    before = hub.connect(workspace.id, BY_ITSELF).get_json()
    hub.world.clock.advance(30 * MINUTES)
    counts = counted(hub)

    assert hub.connect(workspace.id, BY_ITSELF).get_json() == before
    assert costs(counts) == (1, 0, 0)


@pytest.mark.parametrize("start", [True, False, None])
def test_the_device_is_remembered(hub: Functions, start: bool | None) -> None:
    """The device that created the workspace stays in its metadata."""
    made = hub.create({"name": "one", "metadata": {"device_id": "desk"}}).get_json()
    hub.world.run()

    hub.connect(made["id"], {"deviceId": "phone", "start": start})
    without = hub.connect(made["id"], {"start": start})

    answer = hub.get(made["id"]).get_json()
    assert (made["last_device_id"], without.get_json()["last_device_id"]) == (None, "phone")
    assert (answer["last_device_id"], answer["metadata"]["device_id"]) == ("phone", "desk")


def test_devices_that_take_turns_are_counted_in_the_rate(hub: Functions) -> None:
    """Each change of device is a write, so a loop of two cannot cause any number of them."""
    hub.configure(HUB_CHANGES_PER_MINUTE="5")
    workspace = hub.world.ready()
    hub.world.clock.advance(MINUTES)

    answers = [
        hub.connect(workspace.id, {"device_id": f"device-{number}", "start": False})
        for number in range(8)
    ]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3


def test_nothing_is_noted_of_a_workspace_that_is_being_deleted(hub: Functions) -> None:
    """Its DELETE goes on undisturbed."""
    workspace = a_workspace(Status.READY, an_operation(OperationKind.DELETE))
    hub.world.store.put(workspace)

    answer = hub.connect(workspace.id, {"device_id": "phone"})

    assert answer.status_code == 200
    assert hub.world.workspace(workspace.id) == workspace


def test_a_connect_whose_commit_was_lost_begins_one_start(hub: Functions) -> None:
    """The request is repeated, finds its own START, and sends its job."""
    workspace = suspended(hub.world)
    sent = len(hub.world.operations.sent)
    ports = Interruptions()
    hub.replace_part("store", ports.around("store", hub.world.store))
    ports.interrupt(2, Moment.AFTER, lambda: ConflictError("the answer to the commit was lost"))

    answer = hub.connect(workspace.id, WANTS_IN)

    assert (answer.status_code, answer.get_json()["last_device_id"]) == (202, "laptop")
    assert ports.calls == ["store.get", "store.get_owner", "store.commit", "store.get"]
    assert len(hub.world.operations.sent) == sent + 1


# ---- who may ----


def test_an_administrator_cannot_connect_to_anothers_workspace(hub: Functions) -> None:
    """Content is the owner's: the answer is 404, and the attempt is in the audit trail."""
    workspace = suspended(hub.world)

    answer = hub.connect(workspace.id, WANTS_IN, token="grace")

    assert (answer.status_code, answer.get_json()["code"]) == (404, "WORKSPACE_NOT_FOUND")
    assert hub.world.workspace(workspace.id) == workspace
    [tried] = [event for event in hub.events(workspace.id).get_json() if event["who"] == "grace"]
    assert (tried["what"], tried["result"]) == ("ConnectRequested", "REFUSED")


def test_an_administrator_connects_to_their_own_workspace(hub: Functions) -> None:
    """There they are its owner."""
    workspace = hub.world.ready(owner="grace")

    assert hub.connect(workspace.id, WANTS_IN, token="grace").status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"start": "yes"}, "start"),
        ({"device_id": 7}, "device_id"),
        ({"device_id": "a\nb"}, "device_id"),
        ({"device_id": "https://ghp_0123456789abcdefghij@github.com"}, "device_id"),
        ({"device_id": "x" * 1025}, "device_id"),
        ({"device": "laptop"}, "device"),
    ],
)
def test_a_wrong_field_is_400_and_changes_nothing(hub: Functions, body: object, field: str) -> None:
    """The error names the field."""
    workspace = suspended(hub.world)

    answer = hub.connect(workspace.id, body)

    assert answer.status_code == 400
    assert [problem["field"] for problem in answer.get_json()["errors"]] == [field]
    assert hub.world.workspace(workspace.id) == workspace


def test_a_machine_that_was_stopped_by_hand_is_started_by_who_wants_in(hub: Functions) -> None:
    """The record says READY until somebody looks, so the owner gets an answer and no START yet."""
    workspace = hub.world.ready()
    hub.world.machines.stop_by_hand(place_of(workspace))
    hub.world.run()

    assert hub.connect(workspace.id, WANTS_IN).status_code == 200
    hub.status(workspace.id)
    hub.world.run()
    assert hub.connect(workspace.id, WANTS_IN).status_code == 202
