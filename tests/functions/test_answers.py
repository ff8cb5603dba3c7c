"""What each function answers when all is well: status, body, headers, and what it asked of the outside."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from shared.domain.errors import UnavailableError
from shared.domain.workspace import Status
from tests.fakes.records import a_workspace
from tests.fakes.store import Counts

if TYPE_CHECKING:
    from tests.functions.conftest import Functions

WORKSPACE_FIELDS = {
    *(
        "id",
        "name",
        "owner_id",
        "project_id",
        "instance_name",
        "zone",
        "machine_type",
        "image_tag",
        "status",
    ),
    *(
        "operation",
        "error",
        "created_at",
        "updated_at",
        "last_connected_at",
        "last_activity",
        "suspended_at",
    ),
    *("stopped_because", "memory_kept", "memory_lost_because", "stops_at", "deletes_at", "renewal"),
    *("generation", "metadata"),
}


def counted(hub: Functions) -> Counts:
    """Begin to count anew, and return where it is counted."""
    hub.world.store.counts = Counts()
    return hub.world.store.counts


def all_answers(hub: Functions) -> dict[str, Any]:
    """Return an answer of every function that people call, of a workspace that there is."""
    workspace = hub.world.ready()
    return {
        "create": hub.create({"name": "two"}),
        "list": hub.listed(),
        "status": hub.status(workspace.id),
        "stop": hub.stop(workspace.id),
        "start": hub.start(str(uuid.uuid4())),
        "events": hub.events(workspace.id),
        "delete": hub.delete(workspace.id),
        "health": hub.call("describe_api", "/health"),
    }


# ---- create ---------------------------------------------------------------------------------------------------------


def test_a_create_answers_201_with_the_workspace_and_where_it_is(hub: Functions) -> None:
    """PROVISIONING, its CREATE under way, the defaults filled in: one read, one commit, one job."""
    counts = counted(hub)

    answer = hub.create({"name": "my-project"}, headers={"X-Request-Id": "request-7"})

    body = answer.get_json()
    assert (answer.status_code, answer.content_type) == (201, "application/json")
    assert answer.headers["Location"] == f"/workspaces/{body['id']}"
    assert (counts.reads, counts.commits, counts.queries) == (1, 1, 0)
    assert set(body) == WORKSPACE_FIELDS
    assert str(uuid.UUID(body["id"], version=4)) == body["id"]
    assert body == body | {
        "name": "my-project",
        "owner_id": "alice",
        "project_id": "test-project",
        "instance_name": f"workspace-{body['id']}",
        "zone": "us-west1-a",
        "machine_type": "e2-standard-4",
        "image_tag": "latest",
        "status": "PROVISIONING",
        "error": None,
        "created_at": "2026-03-02T09:00:00Z",
        "last_connected_at": "2026-03-02T09:00:00Z",
        "suspended_at": None,
        "stops_at": None,
        "deletes_at": None,
        "renewal": None,
        "metadata": {"repo": None, "branch": None, "device_id": None},
    }
    assert body["operation"] == body["operation"] | {
        "kind": "CREATE",
        "requested_by": "alice",
        "requested_at": "2026-03-02T09:00:00Z",
        "deadline_at": "2026-03-02T09:15:00Z",
        "automatic": False,
    }
    [job] = hub.world.provisioning.sent
    assert (job.workspace_id, job.operation_id, job.step) == (
        body["id"],
        body["operation"]["id"],
        0,
    )
    assert job.request_id == "request-7"
    assert not hub.world.operations.sent


def test_a_create_takes_everything_that_can_be_chosen(hub: Functions) -> None:
    """In the contract's spelling, and in the existing client's."""
    chosen = {"machine_type": "e2-standard-8", "image_tag": "v2", "zone": "us-west1-b"}
    metadata = {"repo": "https://example.com/ö.git", "branch": "main", "device_id": "laptop"}

    snake = hub.create({"name": "one", **chosen, "metadata": metadata}).get_json()
    camel = hub.create(
        {
            "name": "two",
            "machineType": "e2-standard-8",
            "imageTag": "v2",
            "zone": "us-west1-b",
            "metadata": {"repo": metadata["repo"], "branch": "main", "deviceId": "laptop"},
        }
    ).get_json()

    for body in (snake, camel):
        assert {name: body[name] for name in chosen} == chosen
        assert body["metadata"] == metadata


def test_a_field_that_is_null_is_absent(hub: Functions) -> None:
    """A client may send all fields always."""
    answer = hub.create({"name": "one", "machine_type": None, "zone": None, "metadata": None})

    assert answer.status_code == 201
    assert answer.get_json()["machine_type"] == "e2-standard-4"


def test_a_create_is_accepted_when_its_job_cannot_be_sent(hub: Functions) -> None:
    """It is in the database: the sweep of what is overdue sends the job, and the workspace becomes ready."""
    hub.world.provisioning.refusals = 1

    answer = hub.create({"name": "one"})
    hub.world.run()

    assert answer.status_code == 201
    assert hub.world.workspace(answer.get_json()["id"]).status is Status.READY


# ---- idempotency ----------------------------------------------------------------------------------------------------

KEYED = {"headers": {"Idempotency-Key": "a-key"}}


def test_the_same_key_and_body_is_the_same_workspace_as_it_is_now(hub: Functions) -> None:
    """201 again, with what it has become; two reads and no commit."""
    first = hub.create({"name": "one"}, **KEYED)
    hub.world.run()
    counts = counted(hub)

    again = hub.create({"name": "one"}, **KEYED)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.get_json()["id"] == first.get_json()["id"]
    assert again.get_json()["status"] == "READY"
    assert again.headers["Location"] == first.headers["Location"]
    assert (counts.reads, counts.commits) == (2, 0)
    assert len(hub.world.store.workspaces) == 1


def test_a_body_is_the_same_by_its_meaning(hub: Functions) -> None:
    """The order of its fields and its spaces do not make it another one."""
    first = hub.create(
        None, data='{"name": "one", "zone": "us-west1-a"}', content_type="application/json", **KEYED
    )
    again = hub.create(
        None, data='{"zone":"us-west1-a","name":"one"}', content_type="application/json", **KEYED
    )

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.get_json()["id"] == again.get_json()["id"]


def test_a_key_with_another_body_is_422(hub: Functions) -> None:
    """It was used for another request."""
    hub.create({"name": "one"}, **KEYED)

    answer = hub.create({"name": "two"}, **KEYED)

    assert (answer.status_code, answer.get_json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_key_whose_workspace_is_deleted_is_410(hub: Functions) -> None:
    """It does not come back by itself."""
    workspace_id = hub.create({"name": "one"}, **KEYED).get_json()["id"]
    hub.delete(workspace_id)
    hub.world.run()

    answer = hub.create({"name": "one"}, **KEYED)

    assert (answer.status_code, answer.get_json()["code"]) == (410, "WORKSPACE_GONE")


def test_a_key_is_its_owners_and_lasts_a_day(hub: Functions) -> None:
    """Another person's same key is another key, and so is the same one a day later."""
    first = hub.create({"name": "one"}, **KEYED)
    other = hub.create({"name": "one"}, token="bob", **KEYED)
    hub.world.clock.advance(timedelta(days=1))
    later = hub.create({"name": "two"}, **KEYED)

    assert [answer.status_code for answer in (first, other, later)] == [201, 201, 201]
    assert len({answer.get_json()["id"] for answer in (first, other, later)}) == 3


# ---- what an owner may have -----------------------------------------------------------------------------------------


def test_a_name_that_the_owner_has_is_409(hub: Functions) -> None:
    """Another person may have one of the same name."""
    hub.create({"name": "one"})

    taken = hub.create({"name": "one"})
    others = hub.create({"name": "one"}, token="bob")

    assert (taken.status_code, taken.get_json()["code"], others.status_code) == (
        409,
        "NAME_TAKEN",
        201,
    )


def test_a_workspace_too_many_is_403_with_limit_and_count(hub: Functions) -> None:
    """The person learns how many they have and may have."""
    for number in range(5):
        assert hub.create({"name": f"ws-{number}"}).status_code == 201

    answer = hub.create({"name": "one-more"})

    assert (answer.status_code, answer.get_json()["code"]) == (403, "QUOTA_EXCEEDED")
    assert "5 of at most 5" in answer.get_json()["detail"]


def test_a_running_machine_too_many_is_403_until_one_has_stopped(hub: Functions) -> None:
    """For a create and for a start; the limit counts from the request on."""
    hub.configure(HUB_RUNNING_PER_OWNER="1")
    first = hub.world.ready()

    refused = hub.create({"name": "two"})
    hub.stop(first.id)
    still = hub.create({"name": "two"})
    hub.world.run()
    made = hub.create({"name": "two"})
    start = hub.start(first.id)

    assert [answer.status_code for answer in (refused, still, made, start)] == [403, 403, 201, 403]
    for answer in (refused, still, start):
        assert answer.get_json()["code"] == "QUOTA_EXCEEDED"
        assert "1 of your workspaces are running, of at most 1" in answer.get_json()["detail"]


def test_limits_can_be_a_persons_or_a_domains_own(hub: Functions) -> None:
    """By configuration; everybody else has the usual ones."""
    hub.configure(
        HUB_WORKSPACES_PER_OWNER="0", HUB_LIMITS_OF="alice@example.com=1:1,example.org=2:2"
    )

    made = {token: [hub.create({"name": name}, token=token).status_code for name in "abc"] for token in
            ("alice", "bob", "grace")}  # fmt: skip

    assert made == {"alice": [201, 403, 403], "bob": [201, 201, 403], "grace": [403, 403, 403]}


def test_too_many_changes_in_a_minute_are_429_with_when_to_come_again(hub: Functions) -> None:
    """Creates and verbs together; reading goes on, and so does whoever else there is."""
    hub.configure(HUB_CHANGES_PER_MINUTE="2")
    workspace_id = hub.create({"name": "one"}).get_json()["id"]
    hub.world.clock.advance(timedelta(seconds=10))
    hub.create({"name": "two"})
    hub.world.clock.advance(timedelta(seconds=5))

    for answer in (hub.create({"name": "three"}), hub.delete(workspace_id)):
        assert (answer.status_code, answer.get_json()["code"]) == (429, "TOO_MANY_REQUESTS")
        assert answer.headers["Retry-After"] == "45"
    assert hub.listed().status_code == 200
    assert hub.create({"name": "one"}, token="bob").status_code == 201
    hub.world.clock.advance(timedelta(seconds=45))
    assert hub.delete(workspace_id).status_code == 202


# ---- list -----------------------------------------------------------------------------------------------------------


def test_a_list_is_a_bare_array_of_ones_own_newest_first(hub: Functions) -> None:
    """One query, nothing else."""
    for name in ("old", "middle", "new"):
        hub.create({"name": name})
        hub.world.clock.advance(timedelta(seconds=1))
    hub.create({"name": "bobs"}, token="bob")
    counts = counted(hub)

    answer = hub.listed()

    assert answer.status_code == 200
    assert [workspace["name"] for workspace in answer.get_json()] == ["new", "middle", "old"]
    assert all(set(workspace) == WORKSPACE_FIELDS for workspace in answer.get_json())
    assert "Link" not in answer.headers
    assert (counts.reads, counts.commits, counts.queries) == (0, 0, 1)


def test_an_empty_list_is_an_empty_array(hub: Functions) -> None:
    """Not null, not 404."""
    assert hub.listed().get_json() == []


def test_further_pages_are_announced_and_followed(hub: Functions) -> None:
    """Following ``Link`` sees each workspace once, whatever was asked for stays asked for."""
    for name in ("a", "b", "c", "d", "e"):
        hub.create({"name": name})
    seen: list[str] = []
    query = "?limit=2&status=PROVISIONING"
    pages = 0
    while query:
        answer = hub.listed(query)
        seen += [workspace["name"] for workspace in answer.get_json()]
        pages += 1
        link = re.fullmatch(r'<(/workspaces\?[^>]+)>; rel="next"', answer.headers.get("Link", ""))
        query = f"?{urlsplit(link[1]).query}" if link else ""
        if link:
            asked = parse_qs(urlsplit(link[1]).query)
            assert (asked["limit"], asked["status"]) == (["2"], ["PROVISIONING"])

    assert (sorted(seen), pages) == (["a", "b", "c", "d", "e"], 3)


def test_a_list_can_be_of_one_status(hub: Functions) -> None:
    """Only those that have it now."""
    hub.world.ready(name="ready")
    hub.create({"name": "new"})

    assert [workspace["name"] for workspace in hub.listed("?status=READY").get_json()] == ["ready"]
    assert hub.listed("?status=SUSPENDED").get_json() == []


# ---- stop, start, delete --------------------------------------------------------------------------------------------


def test_stop_start_and_delete_answer_202_while_there_is_something_to_do_and_200_when_done(
    hub: Functions,
) -> None:
    """Each is two reads, of workspace and owner, one commit and one job; the same verb again is the same operation."""
    workspace = hub.world.ready()
    said = []
    for verb, kind in ((hub.stop, "STOP"), (hub.start, "START"), (hub.delete, "DELETE")):
        counts = counted(hub)
        sent = len(hub.world.operations.sent)
        first = verb(workspace.id)
        assert (counts.reads, counts.commits, counts.queries) == (2, 1, 0)
        assert len(hub.world.operations.sent) == sent + 1
        again = verb(workspace.id)
        assert (counts.reads, counts.commits) == (3, 1)
        assert first.get_json()["operation"]["kind"] == kind
        assert again.get_json() == first.get_json()
        assert set(first.get_json()) == WORKSPACE_FIELDS
        hub.world.run()
        done = verb(workspace.id)
        said.append((first.status_code, again.status_code, done.status_code))

    assert said == [(202, 202, 200), (202, 202, 200), (202, 202, 404)]


def test_a_start_can_change_image_and_machine_type(hub: Functions) -> None:
    """Of a ready workspace too: it is a new machine on the same home disk."""
    workspace = hub.world.ready()

    answer = hub.start(workspace.id, {"imageTag": "v2", "machine_type": "e2-standard-2"})
    hub.world.run()

    assert (answer.status_code, answer.get_json()["image_tag"]) == (202, "v2")
    assert answer.get_json()["machine_type"] == "e2-standard-2"
    machine = hub.world.machine(workspace)
    assert machine is not None
    assert (machine.command.image_tag, machine.command.machine_type) == ("v2", "e2-standard-2")
    assert machine.command.attach_home is True


@pytest.mark.parametrize("asleep", [False, True])
def test_a_start_can_ask_for_a_new_machine_with_nothing_else_changed(
    hub: Functions, asleep: bool
) -> None:
    """Of a ready workspace, and of one that would be resumed: on the same home, and its memory is said to be lost."""
    workspace = hub.world.ready()
    before = hub.world.machine(workspace)
    if asleep:
        hub.stop(workspace.id)
        hub.world.run()

    first, again = (hub.start(workspace.id, {"rebuild": True}) for _ in range(2))
    hub.world.run()

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.get_json() == first.get_json()
    machine, ended = hub.world.machine(workspace), hub.status(workspace.id).get_json()
    assert machine is not None
    assert machine is not before
    assert machine.command.attach_home is True
    assert (ended["status"], ended["memory_kept"]) == ("READY", False)
    assert ended["memory_lost_because"] == "A new machine was asked for."
    assert {"MachineRemade", "MemoryLost"} <= {
        event["what"] for event in hub.events(workspace.id).get_json()
    }


def test_a_new_machine_is_not_made_of_one_that_is_being_resumed(hub: Functions) -> None:
    """409: it would lose the memory that the START under way brings back."""
    workspace = hub.world.ready()
    hub.stop(workspace.id)
    hub.world.run()
    hub.start(workspace.id)

    answer = hub.start(workspace.id, {"rebuild": True})

    assert (answer.status_code, answer.get_json()["code"]) == (409, "OPERATION_UNDER_WAY")


def test_another_operation_under_way_is_409_with_the_operation(hub: Functions) -> None:
    """The person sees what they have to wait for."""
    workspace = hub.world.ready()
    hub.stop(workspace.id)

    answer = hub.start(workspace.id)

    assert (answer.status_code, answer.get_json()["code"]) == (409, "OPERATION_UNDER_WAY")
    assert answer.get_json()["operation"]["kind"] == "STOP"


def test_a_delete_supersedes_whatever_is_under_way(hub: Functions) -> None:
    """A workspace that is just being made can be deleted; nothing of it is left."""
    workspace_id = hub.create({"name": "one"}).get_json()["id"]
    hub.world.pass_time(timedelta(seconds=2))

    answer = hub.delete(workspace_id)
    hub.world.run()

    assert (answer.status_code, answer.get_json()["operation"]["kind"]) == (202, "DELETE")
    assert hub.status(workspace_id).status_code == 404
    assert hub.listed().get_json() == []
    assert (hub.world.machines.instances, hub.world.machines.disks) == ({}, set())
    assert (
        hub.create({"name": "one"}).status_code == 201
    )  # its name and its place in the quota are free again


# ---- status ---------------------------------------------------------------------------------------------------------


def test_a_status_is_the_record_the_machine_and_how_to_connect(hub: Functions) -> None:
    """One read of the record, one of the machine; nothing written, nothing sent."""
    workspace = hub.world.ready()
    counts = counted(hub)
    sent, reads = len(hub.world.operations.sent), hub.world.machines.reads.total()

    answer = hub.status(workspace.id)

    body = answer.get_json()
    assert answer.status_code == 200
    assert (counts.reads, counts.commits, counts.queries) == (1, 0, 0)
    assert hub.world.machines.reads.total() == reads + 1
    assert len(hub.world.operations.sent) == sent
    assert set(body) == WORKSPACE_FIELDS | {"instance", "why_no_instance", "connection"}
    assert body["instance"] == {
        "status": "RUNNING",
        "machine_type": "e2-standard-4",
        "zone": "us-west1-a",
        "internal_address": "10.128.0.2",
        "last_started_at": "2026-03-02T09:00:20Z",
    }
    assert body["why_no_instance"] is None
    assert body["stops_at"] == "2026-03-02T10:00:45Z"
    assert body["renewal"] == {
        "at": "2026-04-01T09:00:00Z",
        "what": "made anew on its home by a start that boots it",
        "why": "its machine was made on 2026-03-02, and a machine's system is not updated",
        "unless": "it is suspended, and then resumed; "
        'with "rebuild": true a start makes it anew then, too, and its memory is lost',
    }
    assert body["connection"] == {
        "project_id": "test-project",
        "zone": "us-west1-a",
        "instance_name": workspace.instance_name,
        "command": f"gcloud compute ssh {workspace.instance_name} --project=test-project --zone=us-west1-a "
        "--tunnel-through-iap",
    }


def test_a_status_of_a_workspace_without_a_machine_says_so(hub: Functions) -> None:
    """Before the insert there is none."""
    workspace_id = hub.create({"name": "one"}).get_json()["id"]

    body = hub.status(workspace_id).get_json()

    assert body["instance"] is None
    assert "does not exist" in body["why_no_instance"]


def test_a_status_while_compute_is_away_is_the_record(hub: Functions) -> None:
    """200: what is recorded still helps, and it says why there is no more."""
    workspace = hub.world.ready()
    hub.world.machines.unanswered_reads = 1

    answer = hub.status(workspace.id)

    assert (answer.status_code, answer.get_json()["status"], answer.get_json()["instance"]) == (
        200,
        "READY",
        None,
    )
    assert "does not answer" in answer.get_json()["why_no_instance"]


@pytest.mark.parametrize("queue_away", [False, True])
def test_a_status_that_sees_a_difference_has_a_worker_look(
    hub: Functions, queue_away: bool
) -> None:
    """It writes nothing itself; when the queue is away, the answer is the same."""
    workspace = hub.world.ready()
    hub.world.machines.stop_by_hand(hub.world.machines.find(workspace.instance_name).place)  # type: ignore[union-attr]
    hub.world.run()
    counts = counted(hub)
    hub.world.operations.refusals = int(queue_away)

    answer = hub.status(workspace.id, headers={"X-Request-Id": "request-8"})
    hub.world.run()

    assert (answer.status_code, answer.get_json()["status"]) == (200, "READY")
    assert answer.get_json()["instance"]["status"] == "TERMINATED"
    if queue_away:
        assert counts.commits == 0
    else:
        assert hub.world.operations.sent[-1].operation_id is None
        assert hub.world.operations.sent[-1].request_id == "request-8"
        assert hub.world.workspace(workspace.id).status is Status.SUSPENDED


# ---- the audit trail ------------------------------------------------------------------------------------------------

EVENT_FIELDS = {
    *(
        "at",
        "workspace_id",
        "owner_id",
        "who",
        "who_email",
        "as_admin",
        "what",
        "result",
        "request_id",
        "times",
    ),
}


def test_a_trail_tells_who_did_what_the_latest_first(hub: Functions) -> None:
    """Each accepted request and each end of an operation, once; one read and one query."""
    workspace_id = hub.create({"name": "one"}, headers={"X-Request-Id": "request-1"}).get_json()[
        "id"
    ]
    hub.world.run()
    hub.stop(workspace_id, headers={"X-Request-Id": "request-2"})
    hub.world.run()
    counts = counted(hub)

    answer = hub.events(workspace_id)

    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert (counts.reads, counts.commits, counts.queries) == (1, 0, 1)
    events = answer.get_json()
    assert all(set(event) == EVENT_FIELDS for event in events)
    assert [
        (event["what"], event["who"], event["result"], event["request_id"]) for event in events
    ] == [
        ("WorkspaceSuspended", "hub", "SUSPENDED", "request-2"),
        ("StopRequested", "alice", "ACCEPTED", "request-2"),
        ("WorkspaceReady", "hub", "READY", "request-1"),
        ("WorkspaceRequested", "alice", "ACCEPTED", "request-1"),
    ]
    assert events[-1] == {
        "at": "2026-03-02T09:00:00Z",
        "workspace_id": workspace_id,
        "owner_id": "alice",
        "who": "alice",
        "who_email": "alice@example.com",
        "as_admin": False,
        "what": "WorkspaceRequested",
        "result": "ACCEPTED",
        "request_id": "request-1",
        "times": 1,
    }


def test_pages_of_a_trail_are_announced_and_followed(hub: Functions) -> None:
    """Following ``Link`` sees each event once."""
    workspace = hub.world.ready()
    hub.stop(workspace.id)
    hub.world.run()
    whole = hub.events(workspace.id).get_json()
    seen: list[Any] = []
    query = "?limit=3"
    while query:
        answer = hub.events(workspace.id, query)
        seen += answer.get_json()
        link = re.fullmatch(
            rf'<(/workspaces/{workspace.id}/events\?[^>]+)>; rel="next"',
            answer.headers.get("Link", ""),
        )
        query = f"?{urlsplit(link[1]).query}" if link else ""

    assert len(whole) == 4
    assert seen == whole


def test_a_request_that_changes_nothing_is_no_event(hub: Functions) -> None:
    """The same verb again is neither noted nor counted."""
    workspace = hub.world.ready()
    before = hub.events(workspace.id).get_json()

    assert hub.start(workspace.id).status_code == 200
    assert hub.events(workspace.id).get_json() == before


def test_an_automatic_stop_is_in_the_trail(hub: Functions) -> None:
    """Its owner sees that it was the sweep."""
    workspace = hub.world.ready()
    hub.world.clock.advance(timedelta(hours=2))
    hub.call("cleanup", "/cleanup", token=None, headers={"X-Request-Id": "run-1"})

    event = hub.events(workspace.id).get_json()[0]

    assert (event["what"], event["who"], event["request_id"]) == (
        "StopRequested",
        "cleanup",
        "run-1",
    )


# ---- an administrator -----------------------------------------------------------------------------------------------


def test_an_administrator_lists_anybodys_workspaces(hub: Functions) -> None:
    """Their own, another's, or everybody's, newest first; each is one query, and the first look at others' is noted."""
    for token in ("alice", "bob", "grace"):
        hub.create({"name": f"{token}s"}, token=token)
        hub.world.clock.advance(timedelta(seconds=1))
    counts = counted(hub)

    listed = {
        query: [workspace["name"] for workspace in hub.listed(query, token="grace").get_json()]
        for query in (
            "",
            "?owner_id=bob",
            "?all=true",
            "?all=true&limit=2",
            "?all=false",
            "?all=true&status=READY",
        )
    }

    assert listed == {
        "": ["graces"],
        "?owner_id=bob": ["bobs"],
        "?all=true": ["graces", "bobs", "alices"],
        "?all=true&limit=2": ["graces", "bobs"],
        "?all=false": ["graces"],
        "?all=true&status=READY": [],
    }
    assert (counts.reads, counts.commits, counts.queries) == (0, 2, 6)
    noted = [
        (event.who, event.owner_id, event.as_admin)
        for event in hub.world.store.events
        if event.what == "ListRequested"
    ]
    assert noted == [("grace", "bob", True), ("grace", "", True)]


def test_further_pages_of_everybodys_are_everybodys_too(hub: Functions) -> None:
    """What was asked for stays asked for."""
    for token in ("alice", "bob"):
        hub.create({"name": "one"}, token=token)
    first = hub.listed("?all=true&limit=1", token="grace")
    link = re.fullmatch(r'</workspaces(\?[^>]+)>; rel="next"', first.headers["Link"])
    assert link

    second = hub.listed(link[1], token="grace")

    owners = [
        workspace["owner_id"] for answer in (first, second) for workspace in answer.get_json()
    ]
    assert sorted(owners) == ["alice", "bob"]


def test_an_administrator_looks_at_stops_starts_and_deletes_anybodys_workspace(
    hub: Functions,
) -> None:
    """Each is noted as an administrator's, and counted on nobody's rate; the workspace stays its owner's."""
    workspace = hub.world.ready()
    recent = hub.world.store.owners["alice"].recent
    status = hub.status(workspace.id, token="grace")
    answers = []
    for verb in (hub.stop, hub.start, hub.delete):
        answers.append(verb(workspace.id, token="grace"))
        hub.world.run()

    assert status.status_code == 200
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert {answer.get_json()["owner_id"] for answer in answers} == {"alice"}
    assert workspace.id not in hub.world.store.workspaces
    assert hub.world.store.owners["alice"].recent == recent
    assert "grace" not in hub.world.store.owners
    done = [
        event
        for event in hub.events(workspace.id, token="grace").get_json()
        if event["who"] == "grace"
    ]
    assert [
        (event["what"], event["who_email"], event["as_admin"], event["owner_id"]) for event in done
    ] == [
        (what, "grace@example.com", True, "alice")
        for what in ("DeleteRequested", "StartRequested", "StopRequested", "StatusRequested")
    ]


def test_what_an_administrator_asks_of_anothers_is_noted_whatever_comes_of_it(
    hub: Functions,
) -> None:
    """A request that changes nothing, one that is refused, and a look at the trail: all are in it."""
    workspace = hub.world.ready()
    answers = [hub.start(workspace.id, token="grace")]
    hub.stop(workspace.id)
    answers.append(hub.start(workspace.id, token="grace"))
    answers.append(hub.events(workspace.id, token="grace"))

    assert [answer.status_code for answer in answers] == [200, 409, 200]
    done = [event for event in hub.events(workspace.id).get_json() if event["who"] == "grace"]
    assert [(event["what"], event["result"], event["as_admin"]) for event in done] == [
        ("EventsRequested", "ACCEPTED", True),
        ("StartRequested", "REFUSED", True),
        ("StartRequested", "ACCEPTED", True),
    ]


def test_what_an_administrator_does_with_their_own_is_nothing_special(hub: Functions) -> None:
    """Looks and requests that change nothing leave no event, as anybody's."""
    workspace_id = hub.create({"name": "own"}, token="grace").get_json()["id"]
    hub.world.run()
    before = list(hub.world.store.events)

    answers = [
        hub.listed(token="grace"),
        hub.listed("?owner_id=grace", token="grace"),
        hub.status(workspace_id, token="grace"),
        hub.start(workspace_id, token="grace"),
        hub.events(workspace_id, token="grace"),
    ]

    assert [answer.status_code for answer in answers] == [200] * 5
    assert hub.world.store.events == before


def test_an_administrators_look_that_cannot_be_noted_is_not_answered(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise others' workspaces could be read without a trace."""
    workspace = hub.world.ready()

    def away(**_: object) -> Any:
        raise UnavailableError("The Hub's database does not answer.")

    monkeypatch.setattr(hub.world.store, "commit", away)

    answers = [
        hub.listed("?all=true", token="grace"),
        hub.status(workspace.id, token="grace"),
        hub.start(workspace.id, token="grace"),
        hub.events(workspace.id, token="grace"),
        hub.all_events(token="grace"),
    ]

    assert [answer.status_code for answer in answers] == [503] * 5
    assert [hub.status(workspace.id).status_code, hub.start(workspace.id).status_code] == [200, 200]


def test_everybodys_events_are_the_administrators_to_read(hub: Functions) -> None:
    """Also those that concern no workspace: who was turned away, and who read everybody's."""
    hub.listed(token="mallory")
    workspace = hub.world.ready()
    hub.all_events(token="grace")
    hub.world.clock.advance(timedelta(seconds=1))

    refused, answer = hub.all_events(), hub.all_events("?limit=2", token="grace")

    assert (refused.status_code, answer.status_code) == (403, 200)
    assert [(event["what"], event["who"], event["result"]) for event in answer.get_json()] == [
        ("EventsRequested", "alice", "REFUSED"),
        ("EventsRequested", "grace", "ACCEPTED"),
    ]
    pages = [answer.get_json()]
    while link := re.fullmatch(r'</events(\?[^>]+)>; rel="next"', answer.headers.get("Link", "")):
        answer = hub.all_events(link[1], token="grace")
        pages.append(answer.get_json())
    whole = [
        (event["what"], event["who"], event["workspace_id"]) for page in pages for event in page
    ]
    assert whole[-1] == ("EntryRequested", "mallory", "")
    assert ("EventsRequested", "grace", "") in whole
    assert ("WorkspaceReady", "hub", workspace.id) in whole


def test_an_administrators_start_goes_by_its_owners_quota(hub: Functions) -> None:
    """The machine runs on the owner's account, whoever starts it."""
    hub.configure(HUB_RUNNING_PER_OWNER="1")
    workspace = hub.world.ready()
    hub.stop(workspace.id)
    hub.world.run()
    hub.create({"name": "two"})

    answer = hub.start(workspace.id, token="grace")

    assert (answer.status_code, answer.get_json()["code"]) == (403, "QUOTA_EXCEEDED")


def test_the_trail_of_a_workspace_that_is_gone_is_an_administrators_only(hub: Functions) -> None:
    """For its owner it is not there any more; what never was is not there for anybody."""
    workspace = hub.world.ready()
    hub.delete(workspace.id)
    hub.world.run()

    answer = hub.events(workspace.id, token="grace")

    assert answer.status_code == 200
    assert answer.get_json()[0]["what"] == "WorkspaceDeleted"
    assert hub.events(workspace.id).status_code == 404
    assert hub.events(str(uuid.uuid4()), token="grace").status_code == 404


# ---- web pages of other origins -------------------------------------------------------------------------------------

ORIGIN = "https://console.example.com"
ASKING = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}


def test_no_web_page_may_call_by_default(hub: Functions) -> None:
    """No answer has a CORS header, and a preflight is a wrong method."""
    answer = hub.listed(headers={"Origin": ORIGIN})
    preflight = hub.call(
        "create_workspace", "/workspaces", token=None, method="OPTIONS", headers=ASKING
    )

    assert preflight.status_code == 405
    assert not [
        name
        for each in (answer, preflight)
        for name, _ in each.headers
        if name.startswith("Access-Control")
    ]


def test_a_web_page_of_a_configured_origin_may_call(hub: Functions) -> None:
    """Its preflight is answered without a token and without asking anything, and its answers can be read, also refusals."""
    hub.configure(HUB_CORS_ORIGINS=f"https://other.example.com,{ORIGIN}")
    counts = counted(hub)

    preflight = hub.call(
        "create_workspace", "/workspaces", token=None, method="OPTIONS", headers=ASKING
    )

    assert (preflight.status_code, preflight.data) == (204, b"")
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert preflight.headers["Access-Control-Allow-Methods"] == "POST"
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"authorization", "content-type", "idempotency-key", "x-request-id"} <= set(allowed)
    assert (counts.reads, counts.commits, counts.queries) == (0, 0, 0)
    created = hub.create({"name": "one"}, headers={"Origin": ORIGIN})
    refused = hub.create({"name": "two"}, token=None, headers={"Origin": ORIGIN})
    assert (created.status_code, refused.status_code) == (201, 401)
    for answer in (created, refused):
        assert (answer.headers["Access-Control-Allow-Origin"], answer.headers["Vary"]) == (
            ORIGIN,
            "Origin",
        )
        assert "Location" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", f"{ORIGIN}.evil.com", ORIGIN.upper(), "null", None]
)
def test_a_web_page_of_another_origin_may_not(hub: Functions, origin: str | None) -> None:
    """The browser keeps the answer from it; caches keep the answers apart."""
    hub.configure(HUB_CORS_ORIGINS=ORIGIN)
    headers = {"Origin": origin} if origin else {}

    answer = hub.listed(headers=headers)
    preflight = hub.call(
        "list_workspaces",
        "/workspaces",
        token=None,
        method="OPTIONS",
        headers={**headers, "Access-Control-Request-Method": "GET"},
    )

    for each in (answer, preflight):
        assert "Access-Control-Allow-Origin" not in each.headers
        assert each.headers["Vary"] == "Origin"


# ---- the contract, and headers --------------------------------------------------------------------------------------


def test_the_contract_and_the_health_need_no_token(hub: Functions) -> None:
    """Anybody may read them."""
    health = hub.call("describe_api", "/health", token=None)
    contract = hub.call("describe_api", "/openapi.json", token=None)

    assert (health.status_code, health.get_json()) == (200, {"status": "ok"})
    assert contract.status_code == 200
    assert contract.get_json()["openapi"].startswith("3.")


def test_every_answer_carries_a_request_id_of_its_own(hub: Functions) -> None:
    """Made where the caller gave none, and never the same twice."""
    answers = all_answers(hub)
    ids = [answer.headers["X-Request-Id"] for answer in answers.values()]

    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)
    assert len(set(ids)) == len(ids)
    for answer in answers.values():
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("given", ["a", "Request:7_a.b-C", "x" * 128])
def test_a_well_formed_request_id_comes_back(hub: Functions, given: str) -> None:
    """The caller finds its own id in the answer, also in one that refuses."""
    headers = {"X-Request-Id": given}

    assert hub.listed(headers=headers).headers["X-Request-Id"] == given
    assert hub.create({"nme": 1}, headers=headers).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "ä", 'a"b', "{}"])
def test_a_malformed_request_id_is_replaced(hub: Functions, given: str) -> None:
    """Nobody writes into our logs through it."""
    answer = hub.listed(headers={"X-Request-Id": given})

    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-Id"])


def test_the_database_away_is_503_with_retry_after_and_nothing_done(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every function that needs it says so, whatever it was asked."""

    def away(*_: object, **__: object) -> None:
        raise UnavailableError("The Hub's database does not answer.", timedelta(seconds=2.5))

    workspace = a_workspace()
    hub.world.store.put(workspace)
    for method in ("get", "get_owner", "commit", "list_owned", "list_all", "list_events"):
        monkeypatch.setattr(hub.world.store, method, away)

    asked = (lambda: hub.create({"name": "one"}), hub.listed)
    verbs = [
        lambda verb=verb: verb(workspace.id)
        for verb in (hub.status, hub.stop, hub.start, hub.delete, hub.events)
    ]
    for ask in (*asked, *verbs):
        answer = ask()  # type: ignore[no-untyped-call]
        assert (answer.status_code, answer.get_json()["code"]) == (503, "UNAVAILABLE")
        assert answer.headers["Retry-After"] == "3"
        assert answer.content_type == "application/problem+json"
    assert not hub.world.provisioning.sent
    assert not hub.world.operations.sent


def test_a_fault_of_ours_is_500_without_its_inside(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person gets the request id to give on; the stack is in the log only."""

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(hub.world.store, "list_owned", breaks)

    answer = hub.listed()

    assert (answer.status_code, answer.get_json()["code"]) == (500, "INTERNAL")
    assert answer.headers["X-Request-Id"]
    assert b"secret" not in answer.data
    assert b"Traceback" not in answer.data
