"""What each function answers if all is well: status, body, headers, and its calls of the ports."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from shared import bootstrap, logs
from shared.domain.errors import UnavailableError
from shared.domain.workspace import Status
from shared.ports import Jobs
from tests.fakes.records import a_workspace
from tests.fakes.store import Counts
from tests.fakes.world import place_of, suspended
from tests.functions.conftest import Functions

WORKSPACE_FIELDS = {
    *(
        "id",
        "name",
        "owner_id",
        "owner_email",
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
        "last_device_id",
        "suspended_at",
    ),
    *("stopped_because", "memory_kept", "memory_lost_because", "stops_at", "deletes_at"),
    *("archived_at", "archives_at", "home_disk_gb"),
    *("undelete_until", "renewal", "outlook", "kept_awake_until", "generation", "metadata"),
}


def counted(hub: Functions) -> Counts:
    """Replace the store's counts by new ones, and return them."""
    hub.world.store.counts = Counts()
    return hub.world.store.counts


def all_answers(hub: Functions) -> dict[str, Any]:
    """Return an answer of every function that people call, about an existing workspace."""
    workspace = hub.world.ready()
    return {
        "create": hub.create({"name": "two"}),
        "list": hub.list_workspaces(),
        "get": hub.get(workspace.id),
        "status": hub.status(workspace.id),
        "connect": hub.connect(workspace.id),
        "stop": hub.stop(workspace.id),
        "start": hub.start(str(uuid.uuid4())),
        "events": hub.events(workspace.id),
        "snapshot": hub.snapshot(workspace.id),
        "snapshots": hub.snapshots(workspace.id),
        "delete snapshot": hub.delete_snapshot(workspace.id, str(uuid.uuid4())),
        "restore": hub.restore(workspace.id, str(uuid.uuid4())),
        "archive": hub.archive(str(uuid.uuid4())),
        "delete": hub.delete(workspace.id),
        "deleted": hub.deleted(),
        "undelete": hub.undelete(str(uuid.uuid4())),
        "me": hub.me(),
        "health": hub.call("describe_api", "/health"),
        "sign-in": hub.call("describe_sign_in", "/sign-in"),
    }


# ---- create ----


def test_a_create_answers_201_with_the_workspace_and_its_location(hub: Functions) -> None:
    """It is PROVISIONING with its CREATE and the defaults; it costs a read, a commit and a job."""
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
        "owner_email": "alice@example.com",
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


def test_a_create_accepts_every_field_that_can_be_chosen(hub: Functions) -> None:
    """Field names may have the contract's spelling or the existing client's."""
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
    """A client may always send all fields."""
    answer = hub.create({"name": "one", "machine_type": None, "zone": None, "metadata": None})

    assert answer.status_code == 201
    assert answer.get_json()["machine_type"] == "e2-standard-4"


def test_a_create_is_accepted_when_its_job_cannot_be_sent(hub: Functions) -> None:
    """The database has the workspace, and the reconciler resends the job."""
    hub.world.provisioning.refusals = 1

    answer = hub.create({"name": "one"})
    hub.world.run()

    assert answer.status_code == 201
    assert hub.world.workspace(answer.get_json()["id"]).status is Status.READY


# ---- idempotency ----

KEYED = {"headers": {"Idempotency-Key": "a-key"}}


def test_the_same_key_and_body_returns_the_same_workspace(hub: Functions) -> None:
    """The answer is 201 again, with the current state, for two reads and no commit."""
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


def test_bodies_are_compared_by_their_meaning(hub: Functions) -> None:
    """The order of the fields and the spaces do not matter."""
    first = hub.create(
        None, data='{"name": "one", "zone": "us-west1-a"}', content_type="application/json", **KEYED
    )
    again = hub.create(
        None, data='{"zone":"us-west1-a","name":"one"}', content_type="application/json", **KEYED
    )

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.get_json()["id"] == again.get_json()["id"]


def test_a_key_with_another_body_is_422(hub: Functions) -> None:
    """The key was used for another request."""
    hub.create({"name": "one"}, **KEYED)

    answer = hub.create({"name": "two"}, **KEYED)

    assert (answer.status_code, answer.get_json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_key_whose_workspace_is_deleted_is_410(hub: Functions) -> None:
    """A deleted workspace is not created again."""
    workspace_id = hub.create({"name": "one"}, **KEYED).get_json()["id"]
    hub.delete(workspace_id)
    hub.world.run()

    answer = hub.create({"name": "one"}, **KEYED)

    assert (answer.status_code, answer.get_json()["code"]) == (410, "WORKSPACE_GONE")


def test_a_key_belongs_to_its_owner_and_lasts_a_day(hub: Functions) -> None:
    """Another person's key is another key, and after a day a key is new again."""
    first = hub.create({"name": "one"}, **KEYED)
    other = hub.create({"name": "one"}, token="bob", **KEYED)
    hub.world.clock.advance(timedelta(days=1))
    later = hub.create({"name": "two"}, **KEYED)

    assert [answer.status_code for answer in (first, other, later)] == [201, 201, 201]
    assert len({answer.get_json()["id"] for answer in (first, other, later)}) == 3


# ---- what an owner may have ----


def test_a_name_that_the_owner_has_is_409(hub: Functions) -> None:
    """Another person may have a workspace of the same name."""
    hub.create({"name": "one"})

    taken = hub.create({"name": "one"})
    others = hub.create({"name": "one"}, token="bob")

    assert (taken.status_code, taken.get_json()["code"], others.status_code) == (
        409,
        "NAME_TAKEN",
        201,
    )


def test_a_workspace_over_the_quota_is_403_with_limit_and_count(hub: Functions) -> None:
    """The detail has the number of workspaces and the limit."""
    for number in range(5):
        assert hub.create({"name": f"ws-{number}"}).status_code == 201

    answer = hub.create({"name": "one-more"})

    assert (answer.status_code, answer.get_json()["code"]) == (403, "QUOTA_EXCEEDED")
    assert "5 of at most 5" in answer.get_json()["detail"]


def test_a_running_machine_over_the_limit_is_403_until_another_has_stopped(hub: Functions) -> None:
    """This holds for a create and a start; a workspace counts from its request on."""
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


def test_a_person_or_a_domain_can_have_limits_of_their_own(hub: Functions) -> None:
    """The configuration sets them; everybody else has the defaults."""
    hub.configure(
        HUB_WORKSPACES_PER_OWNER="0", HUB_LIMITS_OF="alice@example.com=1:1,example.org=2:2"
    )

    made = {
        token: [hub.create({"name": name}, token=token).status_code for name in "abc"]
        for token in ("alice", "bob", "grace")
    }

    assert made == {"alice": [201, 403, 403], "bob": [201, 201, 403], "grace": [403, 403, 403]}


def test_too_many_changes_in_a_minute_are_429_with_the_time_to_wait(hub: Functions) -> None:
    """Creates and verbs count together; reads continue to work, and so do other people."""
    hub.configure(HUB_CHANGES_PER_MINUTE="2")
    workspace_id = hub.create({"name": "one"}).get_json()["id"]
    hub.world.clock.advance(timedelta(seconds=10))
    hub.create({"name": "two"})
    hub.world.clock.advance(timedelta(seconds=5))

    for answer in (hub.create({"name": "three"}), hub.delete(workspace_id)):
        assert (answer.status_code, answer.get_json()["code"]) == (429, "TOO_MANY_REQUESTS")
        assert answer.headers["Retry-After"] == "45"
    assert hub.list_workspaces().status_code == 200
    assert hub.create({"name": "one"}, token="bob").status_code == 201
    hub.world.clock.advance(timedelta(seconds=45))
    assert hub.delete(workspace_id).status_code == 202


# ---- list ----


def test_a_list_is_an_array_of_ones_own_workspaces_newest_first(hub: Functions) -> None:
    """It costs one query and nothing else."""
    for name in ("old", "middle", "new"):
        hub.create({"name": name})
        hub.world.clock.advance(timedelta(seconds=1))
    hub.create({"name": "bobs"}, token="bob")
    counts = counted(hub)

    answer = hub.list_workspaces()

    assert answer.status_code == 200
    assert [workspace["name"] for workspace in answer.get_json()] == ["new", "middle", "old"]
    assert all(set(workspace) == WORKSPACE_FIELDS for workspace in answer.get_json())
    assert "Link" not in answer.headers
    assert (counts.reads, counts.commits, counts.queries) == (0, 0, 1)


def test_an_empty_list_is_an_empty_array(hub: Functions) -> None:
    """It is neither null nor 404."""
    assert hub.list_workspaces().get_json() == []


def test_a_list_links_to_its_next_page(hub: Functions) -> None:
    """The links lead to each workspace once, and keep the query's parameters."""
    for name in ("a", "b", "c", "d", "e"):
        hub.create({"name": name})
    seen: list[str] = []
    query = "?limit=2&status=PROVISIONING"
    pages = 0
    while query:
        answer = hub.list_workspaces(query)
        seen += [workspace["name"] for workspace in answer.get_json()]
        pages += 1
        link = re.fullmatch(r'<(/workspaces\?[^>]+)>; rel="next"', answer.headers.get("Link", ""))
        query = f"?{urlsplit(link[1]).query}" if link else ""
        if link:
            asked = parse_qs(urlsplit(link[1]).query)
            assert (asked["limit"], asked["status"]) == (["2"], ["PROVISIONING"])

    assert (sorted(seen), pages) == (["a", "b", "c", "d", "e"], 3)


def test_a_list_can_be_limited_to_a_status(hub: Functions) -> None:
    """Only workspaces that have the status now are listed."""
    hub.world.ready(name="ready")
    hub.create({"name": "new"})

    assert [workspace["name"] for workspace in hub.list_workspaces("?status=READY").get_json()] == [
        "ready"
    ]
    assert hub.list_workspaces("?status=SUSPENDED").get_json() == []


def test_a_list_can_be_limited_to_a_name(hub: Functions) -> None:
    """The name is exact, and goes with status, scope and pages; it costs one query."""
    hub.world.ready(name="api")
    hub.create({"name": "api-2"})
    hub.create({"name": "api"}, token="bob")
    counts = counted(hub)

    def owners(query: str, token: str = "alice") -> list[str]:
        listed = hub.list_workspaces(query, token=token).get_json()
        assert {workspace["name"] for workspace in listed} <= {"api"}
        return sorted(workspace["owner_id"] for workspace in listed)

    assert owners("?name=api") == ["alice"]
    assert (counts.reads, counts.commits, counts.queries) == (0, 0, 1)
    assert owners("?name=api&status=READY") == ["alice"]
    assert owners("?name=api&status=SUSPENDED") == owners("?name=Api") == owners("?name=ap") == []
    assert owners("?name=api&all=true", "grace") == ["alice", "bob"]
    assert owners("?name=api&all=true&status=PROVISIONING", "grace") == ["bob"]
    assert owners("?name=api&owner_id=bob", "grace") == ["bob"]
    first = hub.list_workspaces("?name=api&all=true&limit=1", token="grace")
    assert "name=api" in first.headers["Link"]


# ---- stop, start, delete ----


def test_verbs_answer_202_during_their_operation_and_200_after_it(
    hub: Functions,
) -> None:
    """Each costs two reads, a commit and a job; a repeated verb joins the same operation."""
    workspace = hub.world.ready()
    statuses = []
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
        statuses.append((first.status_code, again.status_code, done.status_code))

    assert statuses == [(202, 202, 200), (202, 202, 200), (202, 202, 404)]


def test_a_start_can_change_image_and_machine_type(hub: Functions) -> None:
    """For a ready workspace too this is a new machine with the same home disk."""
    workspace = hub.world.ready()

    answer = hub.start(workspace.id, {"imageTag": "v2", "machine_type": "e2-standard-2"})
    hub.world.run()

    assert (answer.status_code, answer.get_json()["image_tag"]) == (202, "v2")
    assert answer.get_json()["machine_type"] == "e2-standard-2"
    machine = hub.world.machine(workspace)
    assert machine is not None
    assert (machine.command.image_tag, machine.command.machine_type) == ("v2", "e2-standard-2")
    assert machine.command.attach_home is True


@pytest.mark.parametrize("suspended", [False, True])
def test_a_start_can_rebuild_the_machine(hub: Functions, suspended: bool) -> None:
    """Ready or suspended, the workspace keeps its home disk, and its memory is recorded as lost."""
    workspace = hub.world.ready()
    before = hub.world.machine(workspace)
    if suspended:
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


def test_a_machine_that_is_being_resumed_is_not_rebuilt(hub: Functions) -> None:
    """It is 409, since a rebuild would lose the memory that the running START restores."""
    workspace = hub.world.ready()
    hub.stop(workspace.id)
    hub.world.run()
    hub.start(workspace.id)

    answer = hub.start(workspace.id, {"rebuild": True})

    assert (answer.status_code, answer.get_json()["code"]) == (409, "OPERATION_UNDER_WAY")


def test_a_verb_during_another_operation_is_409_with_the_operation(hub: Functions) -> None:
    """The person sees which operation they have to wait for."""
    workspace = hub.world.ready()
    hub.stop(workspace.id)

    answer = hub.start(workspace.id)

    assert (answer.status_code, answer.get_json()["code"]) == (409, "OPERATION_UNDER_WAY")
    assert answer.get_json()["operation"]["kind"] == "STOP"


def test_a_delete_supersedes_any_operation(hub: Functions) -> None:
    """A workspace can be deleted during its CREATE, and nothing of it is left."""
    workspace_id = hub.create({"name": "one"}).get_json()["id"]
    hub.world.pass_time(timedelta(seconds=2))

    answer = hub.delete(workspace_id)
    hub.world.run()

    assert (answer.status_code, answer.get_json()["operation"]["kind"]) == (202, "DELETE")
    assert hub.status(workspace_id).status_code == 404
    assert hub.list_workspaces().get_json() == []
    assert (hub.world.machines.instances, hub.world.machines.disks) == ({}, set())
    # Its name and its place in the quota are free again.
    assert hub.create({"name": "one"}).status_code == 201


# ---- one workspace ----


def test_a_workspace_is_answered_as_in_lists(hub: Functions) -> None:
    """It costs one read, and Compute is not asked, even if the machine has just gone."""
    workspace = hub.world.ready()
    hub.world.machines.stop_by_hand(place_of(workspace))
    counts, reads = counted(hub), hub.world.machines.reads.total()

    answer = hub.get(workspace.id)

    assert answer.status_code == 200
    assert (counts.reads, counts.commits, counts.queries) == (1, 0, 0)
    assert hub.world.machines.reads.total() == reads
    assert [answer.get_json()] == hub.list_workspaces().get_json()


def test_an_administrators_look_at_a_record_is_an_event(hub: Functions) -> None:
    """It is noted before the answer, once in ten minutes, and the owner sees it."""
    workspace = hub.world.ready()

    answers = [hub.get(workspace.id, token="grace") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    noted = [event for event in hub.events(workspace.id).get_json() if event["as_admin"]]
    assert [(event["what"], event["who"]) for event in noted] == [("RecordRequested", "grace")]


# ---- status ----


def test_a_status_has_the_record_the_machine_and_the_connection(hub: Functions) -> None:
    """It costs a read of the record and one of the machine; nothing is written or sent."""
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
        "kind": "iap",
        "project_id": "test-project",
        "zone": "us-west1-a",
        "instance_name": workspace.instance_name,
        "instance_id": workspace.instance_id,
        "host": None,
        "port": 22,
        "jump": None,
        "user": None,
        "host_key": f"ssh-ed25519 {workspace.instance_id}",
        "access": {"state": "granted", "why": None},
        "command": f"gcloud compute ssh {workspace.instance_name} --project=test-project "
        "--zone=us-west1-a --tunnel-through-iap",
    }


def test_a_status_of_a_workspace_without_a_machine_says_so(hub: Functions) -> None:
    """Before the insert there is no machine."""
    workspace_id = hub.create({"name": "one"}).get_json()["id"]

    body = hub.status(workspace_id).get_json()

    assert body["instance"] is None
    assert "does not exist" in body["why_no_instance"]


def test_a_status_without_an_answer_of_compute_has_the_record(hub: Functions) -> None:
    """The answer is 200 with the record, and says why it has no more."""
    workspace = hub.world.ready()
    hub.world.machines.unanswered_reads = 1

    answer = hub.status(workspace.id)

    assert (answer.status_code, answer.get_json()["status"], answer.get_json()["instance"]) == (
        200,
        "READY",
        None,
    )
    assert "does not answer" in answer.get_json()["why_no_instance"]


def test_the_status_of_a_suspended_workspace_asks_compute_rarely(hub: Functions) -> None:
    """Pages that are left open cost Compute one call in ten seconds; each gets the same answer."""
    workspace = suspended(hub.world)
    reads = hub.world.machines.reads
    reads.clear()

    answers = []
    for _ in range(20):
        answers += [hub.status(workspace.id), hub.status(workspace.id, token="grace")]
        hub.world.clock.advance(timedelta(seconds=1))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.get_data() for answer in answers}) == 1
    assert answers[0].get_json()["instance"]["status"] == "SUSPENDED"
    assert reads == {"get": 2}


@pytest.mark.parametrize("queue_away", [False, True])
def test_a_status_that_finds_drift_asks_a_worker_to_look(hub: Functions, queue_away: bool) -> None:
    """The function itself writes nothing; if the queue is away, the answer is the same."""
    workspace = hub.world.ready()
    hub.world.machines.stop_by_hand(place_of(workspace))
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


# ---- the audit trail ----

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
        "operation_kind",
        "seconds",
        "phases",
        "snapshot_id",
    ),
}


def _build_client(built: list[str], name: str, jobs: Jobs, _hub: object) -> Jobs:
    built.append(name)
    return jobs


def test_a_client_of_a_queue_is_built_when_the_first_job_is_sent(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A status without drift, a list, and a stop of a suspended workspace send no job."""
    built: list[str] = []
    for name in ("operation_jobs", "provision_jobs"):
        client = partial(_build_client, built, name, bootstrap.hub().__dict__[name])
        monkeypatch.setattr(bootstrap.Hub, name, property(client))
    ready, suspended = hub.world.ready(), hub.world.ready(name="two")
    hub.world.stop("alice", suspended.id)
    hub.world.run()

    for answer in (hub.status(ready.id), hub.list_workspaces(), hub.stop(suspended.id)):
        assert answer.status_code == 200
    assert built == []
    assert hub.stop(ready.id).status_code == 202
    assert built == ["operation_jobs"]


def test_a_trail_has_who_did_what_latest_first(hub: Functions) -> None:
    """Each accepted request and each end of an operation is listed, for a read and a query."""
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
        "operation_kind": None,
        "seconds": None,
        "phases": [],
        "snapshot_id": None,
    }


def test_a_timeline_can_be_drawn_of_an_operation(hub: Functions) -> None:
    """While it is under way it has its ended phases; its end has all of them, and the total."""
    workspace = hub.world.ready()
    stopping = hub.stop(workspace.id).get_json()["operation"]
    hub.world.pass_time(timedelta(seconds=2))
    waiting = hub.get(workspace.id).get_json()["operation"]
    hub.world.run()
    [end, asked, *_] = hub.events(workspace.id).get_json()

    assert (stopping["phase"], stopping["phases"]) == ("suspend", [])
    assert stopping["phase_since"] == stopping["requested_at"]
    assert (waiting["phase"], [each["phase"] for each in waiting["phases"]]) == (
        "await_suspended",
        ["suspend"],
    )
    assert (end["operation_kind"], [each["phase"] for each in end["phases"]]) == (
        "STOP",
        ["suspend", "await_suspended"],
    )
    assert end["seconds"] == round(sum(each["seconds"] for each in end["phases"])) > 0
    assert (asked["what"], asked["operation_kind"], asked["phases"]) == ("StopRequested", None, [])


def test_a_trail_links_to_its_next_page(hub: Functions) -> None:
    """The links lead to each event once."""
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


def test_a_request_that_changes_nothing_is_not_an_event(hub: Functions) -> None:
    """A repeated verb is neither recorded nor counted."""
    workspace = hub.world.ready()
    before = hub.events(workspace.id).get_json()

    assert hub.start(workspace.id).status_code == 200
    assert hub.events(workspace.id).get_json() == before


def test_an_automatic_stop_is_in_the_trail(hub: Functions) -> None:
    """Its owner sees that the clean-up stopped the workspace."""
    workspace = hub.world.ready()
    hub.world.clock.advance(timedelta(hours=2))
    hub.call("cleanup", "/cleanup", token=None, headers={"X-Request-Id": "run-1"})

    event = hub.events(workspace.id).get_json()[0]

    assert (event["what"], event["who"], event["request_id"]) == (
        "StopRequested",
        "cleanup",
        "run-1",
    )


# ---- administrators ----


def test_an_administrator_lists_anybodys_workspaces(hub: Functions) -> None:
    """Each list costs one query, and the first of other people's lists is recorded."""
    for token in ("alice", "bob", "grace"):
        hub.create({"name": f"{token}s"}, token=token)
        hub.world.clock.advance(timedelta(seconds=1))
    counts = counted(hub)

    listed = {
        query: [
            workspace["name"] for workspace in hub.list_workspaces(query, token="grace").get_json()
        ]
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
    recorded = [
        (event.who, event.owner_id, event.as_admin)
        for event in hub.world.store.events
        if event.what == "ListRequested"
    ]
    assert recorded == [("grace", "bob", True), ("grace", "", True)]


def test_the_next_page_of_all_workspaces_has_all_workspaces(hub: Functions) -> None:
    """The links keep the query's parameters."""
    for token in ("alice", "bob"):
        hub.create({"name": "one"}, token=token)
    first = hub.list_workspaces("?all=true&limit=1", token="grace")
    link = re.fullmatch(r'</workspaces(\?[^>]+)>; rel="next"', first.headers["Link"])
    assert link

    second = hub.list_workspaces(link[1], token="grace")

    owners = [
        workspace["owner_id"] for answer in (first, second) for workspace in answer.get_json()
    ]
    assert sorted(owners) == ["alice", "bob"]


def test_an_administrator_can_use_every_verb_on_anybodys_workspace(
    hub: Functions,
) -> None:
    """Each is recorded as an administrator's; the workspace and the rate stay the owner's."""
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


def test_every_request_of_an_administrator_for_anothers_workspace_is_recorded(
    hub: Functions,
) -> None:
    """A request without effect, a refused one, and a read of the trail are all recorded."""
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


def test_an_administrators_own_workspaces_are_recorded_as_anybodys(hub: Functions) -> None:
    """Their reads, and requests without effect, leave no event."""
    workspace_id = hub.create({"name": "own"}, token="grace").get_json()["id"]
    hub.world.run()
    before = list(hub.world.store.events)

    answers = [
        hub.list_workspaces(token="grace"),
        hub.list_workspaces("?owner_id=grace", token="grace"),
        hub.status(workspace_id, token="grace"),
        hub.start(workspace_id, token="grace"),
        hub.events(workspace_id, token="grace"),
    ]

    assert [answer.status_code for answer in answers] == [200] * 5
    assert hub.world.store.events == before


def test_an_administrators_read_that_cannot_be_recorded_is_refused(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise other people's workspaces could be read without a trace."""
    workspace = hub.world.ready()

    def away(**_: object) -> Any:
        raise UnavailableError("The Hub's database does not answer.")

    monkeypatch.setattr(hub.world.store, "commit", away)

    answers = [
        hub.list_workspaces("?all=true", token="grace"),
        hub.status(workspace.id, token="grace"),
        hub.start(workspace.id, token="grace"),
        hub.events(workspace.id, token="grace"),
        hub.all_events(token="grace"),
    ]

    assert [answer.status_code for answer in answers] == [503] * 5
    assert [hub.status(workspace.id).status_code, hub.start(workspace.id).status_code] == [200, 200]


def test_only_administrators_read_everybodys_events(hub: Functions) -> None:
    """The list includes events about no workspace: refused people, and reads of all events."""
    hub.list_workspaces(token="mallory")
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


def test_an_administrators_start_counts_for_the_owners_quota(hub: Functions) -> None:
    """The machine runs for its owner, whoever starts it."""
    hub.configure(HUB_RUNNING_PER_OWNER="1")
    workspace = hub.world.ready()
    hub.stop(workspace.id)
    hub.world.run()
    hub.create({"name": "two"})

    answer = hub.start(workspace.id, token="grace")

    assert (answer.status_code, answer.get_json()["code"]) == (403, "QUOTA_EXCEEDED")


def test_only_administrators_read_the_trail_of_a_deleted_workspace(hub: Functions) -> None:
    """Its owner gets 404, and for an unknown id everybody does."""
    workspace = hub.world.ready()
    hub.delete(workspace.id)
    hub.world.run()

    answer = hub.events(workspace.id, token="grace")

    assert answer.status_code == 200
    assert answer.get_json()[0]["what"] == "WorkspaceDeleted"
    assert hub.events(workspace.id).status_code == 404
    assert hub.events(str(uuid.uuid4()), token="grace").status_code == 404


# ---- web pages of other origins ----

ORIGIN = "https://console.example.com"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}


def test_no_web_page_may_call_by_default(hub: Functions) -> None:
    """No answer has a CORS header, and a preflight is 405."""
    answer = hub.list_workspaces(headers={"Origin": ORIGIN})
    preflight = hub.call(
        "create_workspace", "/workspaces", token=None, method="OPTIONS", headers=PREFLIGHT
    )

    assert preflight.status_code == 405
    assert not [
        name
        for each in (answer, preflight)
        for name, _ in each.headers
        if name.startswith("Access-Control")
    ]


def test_a_web_page_of_a_configured_origin_may_call(hub: Functions) -> None:
    """Its preflight needs no token and costs nothing; the page can read answers and refusals."""
    hub.configure(HUB_CORS_ORIGINS=f"https://other.example.com,{ORIGIN}")
    counts = counted(hub)

    preflight = hub.call(
        "create_workspace", "/workspaces", token=None, method="OPTIONS", headers=PREFLIGHT
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
def test_a_web_page_of_another_origin_may_not_call(hub: Functions, origin: str | None) -> None:
    """The browser withholds the answer from it, and caches keep answers apart by origin."""
    hub.configure(HUB_CORS_ORIGINS=ORIGIN)
    headers = {"Origin": origin} if origin else {}

    answer = hub.list_workspaces(headers=headers)
    preflight = hub.call(
        "list_workspaces",
        "/workspaces",
        token=None,
        method="OPTIONS",
        headers={**headers, "Access-Control-Request-Method": "GET"},
    )

    for each in (answer, preflight):
        assert "Access-Control-Allow-Origin" not in each.headers
        assert "Origin" in each.vary


# ---- the contract, and headers ----


def test_the_contract_and_the_health_check_need_no_token(hub: Functions) -> None:
    """Everybody may read them."""
    health = hub.call("describe_api", "/health", token=None)
    contract = hub.call("describe_api", "/openapi.json", token=None)

    assert (health.status_code, health.get_json()) == (200, {"status": "ok"})
    assert contract.status_code == 200
    assert contract.get_json()["openapi"].startswith("3.")


def test_every_answer_has_a_request_id_of_its_own(hub: Functions) -> None:
    """Without one from the caller, the Hub creates it, always a different one."""
    answers = all_answers(hub)
    ids = [answer.headers["X-Request-Id"] for answer in answers.values()]

    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)
    assert len(set(ids)) == len(ids)
    for answer in answers.values():
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("given", ["a", "Request:7_a.b-C", "x" * 128])
def test_a_well_formed_request_id_is_returned(hub: Functions, given: str) -> None:
    """The caller finds the id in the answer, also in a refusal."""
    headers = {"X-Request-Id": given}

    assert hub.list_workspaces(headers=headers).headers["X-Request-Id"] == given
    assert hub.create({"nme": 1}, headers=headers).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "ä", 'a"b', "{}"])
def test_a_malformed_request_id_is_replaced(hub: Functions, given: str) -> None:
    """A caller cannot write into the logs through it."""
    answer = hub.list_workspaces(headers={"X-Request-Id": given})

    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-Id"])


def test_an_unavailable_database_is_503_with_retry_after(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every function that needs the database answers so."""

    def away(*_: object, **__: object) -> None:
        raise UnavailableError("The Hub's database does not answer.", timedelta(seconds=2.5))

    workspace = a_workspace()
    hub.world.store.put(workspace)
    for method in (
        *("get", "get_owner", "get_snapshot", "commit"),
        *("list_owned", "list_all", "list_events", "list_snapshots"),
    ):
        monkeypatch.setattr(hub.world.store, method, away)

    asked = (
        lambda: hub.create({"name": "one"}),
        hub.list_workspaces,
        lambda: hub.delete_snapshot(workspace.id, str(uuid.uuid4())),
        lambda: hub.restore(workspace.id, str(uuid.uuid4())),
        lambda: hub.fork(str(uuid.uuid4())),
    )
    verbs = [
        lambda verb=verb: verb(workspace.id)
        for verb in (
            *(hub.get, hub.status, hub.connect, hub.stop, hub.start, hub.delete),
            *(hub.events, hub.snapshot, hub.snapshots),
        )
    ]
    for ask in (*asked, *verbs):
        answer = ask()  # type: ignore[no-untyped-call]
        assert (answer.status_code, answer.get_json()["code"]) == (503, "UNAVAILABLE")
        assert answer.headers["Retry-After"] == "3"
        assert answer.content_type == "application/problem+json"
    assert not hub.world.provisioning.sent
    assert not hub.world.operations.sent


def test_an_internal_error_is_500_without_details(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person gets the request id to pass on; the stack is only in the log."""

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(hub.world.store, "list_owned", breaks)

    answer = hub.list_workspaces()

    assert (answer.status_code, answer.get_json()["code"]) == (500, "INTERNAL")
    assert answer.headers["X-Request-Id"]
    assert b"secret" not in answer.data
    assert b"Traceback" not in answer.data


def test_each_answer_is_one_complete_line_of_the_log(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line says which function answered what, and how long it took."""
    lines: list[dict[str, object]] = []

    def noted(event: str, **fields: object) -> None:
        if event == "RequestAnswered":
            lines.append({"request_id": logs.request_id.get(), **fields})

    monkeypatch.setattr(logs, "info", noted)
    answers = all_answers(hub)
    assert [(line["request_id"], line["status"]) for line in lines] == [
        (answer.headers["X-Request-Id"], answer.status_code) for answer in answers.values()
    ]
    for line in lines:
        assert line.keys() == {"request_id", "function", "method", "status", "latency_ms"}
        assert all(value not in {None, ""} for value in line.values())
