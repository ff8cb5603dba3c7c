"""What each function refuses, with which 4xx, and that nothing has happened then."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.errors import UnavailableError
from shared.domain.events import Event
from tests.fakes.records import a_workspace
from tests.functions.conftest import CATALOGUE, client_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.test import TestResponse

    from tests.functions.conftest import Functions

SOME_ID = "0d7b1b3e-3c53-4cf9-8b0c-0f4b1c0a9f11"
PEOPLES = {
    "create_workspace": "/workspaces",
    "list_workspaces": "/workspaces",
    "get_workspace_status": f"/workspaces/{SOME_ID}/status",
    "stop_workspace": f"/workspaces/{SOME_ID}/stop",
    "start_workspace": f"/workspaces/{SOME_ID}/start",
    "delete_workspace": f"/workspaces/{SOME_ID}",
    "list_events": f"/workspaces/{SOME_ID}/events",
}
OF_ONE = [name for name in PEOPLES if SOME_ID in PEOPLES[name]]
HTTP = {**PEOPLES, "report_workspace": f"/workspaces/{SOME_ID}/reports"}
WITH_BODY = [name for name in HTTP if CATALOGUE[name].routes[0].method == "POST"]
PROBLEM_FIELDS = {"type", "title", "status", "detail", "code"}


def check_problem(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem as RFC 9457 has it, and return it."""
    assert answer.status_code == status, answer.data
    assert answer.content_type == "application/problem+json"
    body: dict[str, Any] = answer.get_json()
    assert set(body) >= PROBLEM_FIELDS
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"urn:workspace-hub:problem:{code.lower().replace('_', '-')}"
    assert body["detail"]
    assert answer.headers["X-Request-Id"]
    return body


def wrong_fields(answer: TestResponse) -> dict[str, str]:
    """Return what is wrong with a body or query, field by field."""
    return {
        wrong["field"]: wrong["message"]
        for wrong in check_problem(answer, 400, "INVALID_REQUEST")["errors"]
    }


@pytest.fixture(autouse=True)
def _nothing_happens(hub: Functions) -> Any:
    """Check that whatever is refused has changed nothing and sent nothing; a line in the audit trail is all that is written."""
    before = dict(hub.world.store.workspaces)
    yield
    assert before.keys() <= hub.world.store.workspaces.keys()
    assert not hub.world.store.owners
    assert {event.result for event in hub.world.store.events} <= {"REFUSED"}
    assert hub.world.store.counts.commits <= len(hub.world.store.events)
    assert not hub.world.provisioning.sent
    assert not hub.world.operations.sent


# ---- who calls ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer nobodys-token", "alice"]
)
def test_who_does_not_prove_who_they_are_is_401(
    hub: Functions, name: str, authorization: str | None
) -> None:
    """With what is expected in ``WWW-Authenticate``; nothing is read."""
    headers = {} if authorization is None else {"Authorization": authorization}

    answer = hub.call(name, HTTP[name], token=None, headers=headers)

    check_problem(answer, 401, "NOT_AUTHENTICATED")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert hub.world.store.counts.reads == hub.world.store.counts.queries == 0


@pytest.mark.parametrize("name", PEOPLES)
def test_authentication_comes_before_the_body(hub: Functions, name: str) -> None:
    """A stranger learns nothing of what would be right."""
    check_problem(
        hub.call(name, HTTP[name], {"wrong": 1}, token="stranger"), 401, "NOT_AUTHENTICATED"
    )


@pytest.mark.parametrize("name", OF_ONE)
def test_somebody_elses_workspace_is_not_there(hub: Functions, name: str) -> None:
    """Byte for byte what an unknown id gets, but for the id."""
    theirs = a_workspace(owner_id="bob")
    hub.world.store.put(theirs)
    unknown = str(uuid.uuid4())
    headers = {"X-Request-Id": "the-same"}

    of_theirs = hub.call(name, HTTP[name].replace(SOME_ID, theirs.id), headers=headers)
    of_unknown = hub.call(name, HTTP[name].replace(SOME_ID, unknown), headers=headers)

    check_problem(of_theirs, 404, "WORKSPACE_NOT_FOUND")
    assert of_theirs.data.replace(theirs.id.encode(), unknown.encode()) == of_unknown.data
    assert of_theirs.headers == of_unknown.headers
    assert hub.world.machines.reads.total() == 0


@pytest.mark.parametrize(
    "workspace_id", ["1", "..", "null", "%00", "x" * 3000, "a%20b", "ü", SOME_ID.upper()]
)
@pytest.mark.parametrize("name", OF_ONE)
def test_what_is_no_id_is_not_there(hub: Functions, name: str, workspace_id: str) -> None:
    """Whatever stands in the path's place of an id."""
    answer = hub.call(name, HTTP[name].replace(SOME_ID, workspace_id))

    assert answer.status_code == 404
    assert answer.get_json()["code"] in {"WORKSPACE_NOT_FOUND", "NOT_FOUND"}


def test_a_refusal_is_noted_with_who_wanted_what(hub: Functions) -> None:
    """Another's workspace, and one that is not there; the trail tells them apart, the answer does not."""
    theirs = a_workspace(owner_id="bob")
    hub.world.store.put(theirs)

    hub.stop(theirs.id, headers={"X-Request-Id": "request-4"})
    hub.delete("x" * 3000)

    stop, delete = hub.world.store.events
    assert stop == Event(
        hub.world.clock(),
        theirs.id,
        "bob",
        "alice",
        "StopRequested",
        "REFUSED",
        "request-4",
        "alice@example.com",
    )
    assert (delete.workspace_id, delete.owner_id, delete.what) == ("x" * 64, "", "DeleteRequested")


def test_a_refusal_stands_when_it_cannot_be_noted(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the database takes the line or not."""

    def away(**_: object) -> None:
        raise UnavailableError("The Hub's database does not answer.")

    monkeypatch.setattr(hub.world.store, "commit", away)

    check_problem(hub.stop(SOME_ID), 404, "WORKSPACE_NOT_FOUND")
    check_problem(hub.listed("?all=true"), 403, "NOT_ALLOWED")
    check_problem(hub.listed(token="mallory"), 403, "NOT_ALLOWED")


@pytest.mark.parametrize("query", ["?all=true", "?owner_id=bob", "?ownerId=bob"])
def test_somebody_elses_list_is_403_for_everybody_but_an_administrator(
    hub: Functions, query: str
) -> None:
    """It is noted; no query is made."""
    check_problem(hub.listed(query), 403, "NOT_ALLOWED")

    assert hub.world.store.counts.queries == 0
    [event] = hub.world.store.events
    assert (event.what, event.who, event.owner_id) == (
        "ListRequested",
        "alice",
        "bob" if "bob" in query else "",
    )


def test_ones_own_list_can_be_asked_for_by_name(hub: Functions) -> None:
    """Nobody needs to be an administrator for it."""
    assert hub.listed("?owner_id=alice").status_code == 200


@pytest.mark.parametrize("name", PEOPLES)
def test_who_is_not_served_is_403_before_anything_is_looked_at(hub: Functions, name: str) -> None:
    """A proven person of no allowed address or domain; that they came is noted."""
    check_problem(hub.call(name, HTTP[name], {"wrong": 1}, token="mallory"), 403, "NOT_ALLOWED")

    counts = hub.world.store.counts
    assert (counts.reads, counts.commits, counts.queries) == (0, 1, 0)
    [event] = hub.world.store.events
    assert (event.what, event.who, event.who_email) == (
        "EntryRequested",
        "mallory",
        "mallory@example.net",
    )


def test_in_personal_mode_there_are_neither_domains_nor_administrators(hub: Functions) -> None:
    """The same people, let in or not by configuration alone."""
    hub.configure(HUB_MODE="personal", HUB_ALLOWED_DOMAINS="", HUB_ADMIN_EMAILS="")

    assert hub.listed(token="alice").status_code == 200
    for token in ("bob", "grace"):
        check_problem(hub.listed(token=token), 403, "NOT_ALLOWED")


# ---- how often ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HTTP)
def test_who_asks_one_instance_too_often_is_429_with_when_to_come_again(
    hub: Functions, name: str
) -> None:
    """Before anything is read; somebody else is let in."""
    hub.configure(HUB_REQUESTS_PER_MINUTE="2")
    token = "alice"
    if name == "report_workspace":
        hub.report(
            a_workspace(), {}, machine=_machine_of(hub, "workspace-x")
        )  # makes the token "machine" known
        token = "machine"
    while (answer := hub.call(name, HTTP[name], {"wrong": 1}, token=token)).status_code != 429:
        pass
    reads = hub.world.store.counts.reads

    check_problem(answer, 429, "TOO_MANY_REQUESTS")
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    check_problem(hub.call(name, HTTP[name], token=token), 429, "TOO_MANY_REQUESTS")
    assert hub.world.store.counts.reads == reads
    assert hub.listed(token="bob").status_code == 200


def test_a_caller_who_is_not_served_is_limited_too(hub: Functions) -> None:
    """Nobody can have the Hub write its trail as often as they like."""
    hub.configure(HUB_REQUESTS_PER_MINUTE="2")

    assert [hub.listed(token="mallory").status_code for _ in range(4)] == [403, 403, 429, 429]


# ---- size of what is sent beside the body ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", HTTP)
def test_a_path_and_query_too_long_are_414(hub: Functions, name: str) -> None:
    """Before anything else is looked at, who calls too."""
    check_problem(hub.call(name, f"{HTTP[name]}?x={'x' * 4096}", token=None), 414, "URI_TOO_LONG")


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize(
    "headers", [{"X-One": "x" * 16 * 1024}, {f"X-{n}": "x" * 1000 for n in range(17)}]
)
def test_headers_too_large_are_431(hub: Functions, name: str, headers: dict[str, str]) -> None:
    """One or many; before anything else is looked at."""
    check_problem(hub.call(name, HTTP[name], token=None, headers=headers), 431, "HEADERS_TOO_LARGE")


# ---- path and method ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize(
    "path", ["/", "/unknown", "/workspaces/", f"/workspaces/{SOME_ID}/unknown", "/workspaces//stop"]
)
def test_an_unknown_path_is_404(hub: Functions, name: str, path: str) -> None:
    """A function answers on its own paths only."""
    check_problem(hub.call(name, path), 404, "NOT_FOUND")


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize("path", ["/workspaces/%0A/events", "/%0D%0A", "/robots.txt"])
def test_what_the_frameworks_own_routing_refuses_is_a_problem_too(
    hub: Functions, name: str, path: str
) -> None:
    """It never reaches the function, and is answered in its form all the same."""
    answer = hub.call(name, path)
    check_problem(answer, 404, "NOT_FOUND")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_wrong_method_is_405_with_those_that_are_right(
    hub: Functions, name: str, method: str
) -> None:
    """``Allow`` has them."""
    allowed = CATALOGUE[name].routes[0].method
    if method == allowed:
        return

    answer = hub.call(name, HTTP[name], method=method)

    check_problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert allowed in answer.headers["Allow"].split(", ")
    assert method not in answer.headers["Allow"].split(", ")


# ---- bodies that are none -------------------------------------------------------------------------------------------

NOT_JSON = {
    "nothing but a brace": b"{",
    "a trailing comma": b'{"name": "one",}',
    "single quotes": b"{'name': 'one'}",
    "NaN": b'{"name": "one", "metadata": NaN}',
    "Infinity": b'{"name": "one", "metadata": -Infinity}',
    "the same field twice": b'{"name": "one", "name": "two"}',
    "the same field twice within": b'{"name": "one", "metadata": {"repo": "a", "repo": "b"}}',
    "deep nesting": b'{"name": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "a number too long": b'{"name": ' + b"9" * 5_000 + b"}",
    "not UTF-8": b'{"name": "\xff"}',
    "two objects": b"{}{}",
    "text": b"hello",
    "an array": b"[]",
    "a string": b'"one"',
    "a number": b"7",
    "null": b"null",
    "true": b"true",
}


@pytest.mark.parametrize("name", [each for each in WITH_BODY if each != "report_workspace"])
@pytest.mark.parametrize("what", NOT_JSON)
def test_a_body_that_is_not_one_json_object_is_400(hub: Functions, name: str, what: str) -> None:
    """In words, never a stack."""
    answer = hub.call(name, HTTP[name], data=NOT_JSON[what], content_type="application/json")

    body = check_problem(answer, 400, "BAD_REQUEST")
    assert "JSON" in body["detail"]


@pytest.mark.parametrize("name", [each for each in WITH_BODY if each != "report_workspace"])
@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        None,
    ],
)
def test_a_body_of_another_type_is_415(hub: Functions, name: str, content_type: str | None) -> None:
    """The body has to be declared as JSON."""
    answer = hub.call(name, HTTP[name], data=b'{"name": "one"}', content_type=content_type)

    check_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize("size", [64 * 1024 + 1, 1024 * 1024])
def test_a_body_over_64_kib_is_413(hub: Functions, name: str, size: int) -> None:
    """It is not even read; a list has no use for a body, and does not look at one."""
    if name in {"list_workspaces", "get_workspace_status", "list_events", "report_workspace"}:
        return
    data = json.dumps({"name": "one", "metadata": {"repo": ""}}).encode()
    padded = data + b" " * (size - len(data))

    check_problem(
        hub.call(name, HTTP[name], data=padded, content_type="application/json"),
        413,
        "BODY_TOO_LARGE",
    )


# ---- fields ---------------------------------------------------------------------------------------------------------

# What POST /workspaces is sent: the fields that are wrong.
WRONG: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, {"name"}),
    "null": ({"name": None}, {"name"}),
    "an empty name": ({"name": ""}, {"name"}),
    "a name of 49": ({"name": "x" * 49}, {"name"}),
    "a name with a space": ({"name": "a b"}, {"name"}),
    "a name with a line": ({"name": "one\n"}, {"name"}),
    "a name beyond ASCII": ({"name": "größe"}, {"name"}),
    "a name of digits beyond ASCII": ({"name": "٣"}, {"name"}),
    "a name that is a number": ({"name": 7}, {"name"}),
    "a name that is a list": ({"name": ["one"]}, {"name"}),
    "a name that is an object": ({"name": {"a": 1}}, {"name"}),
    "a name that is true": ({"name": True}, {"name"}),
    "a lone surrogate in a name": ({"name": "\ud800"}, {"name"}),
    "an unknown field": ({"name": "one", "colour": "red"}, {"colour"}),
    "an unknown surrogate": ({"name": "one", "\ud800": 1}, {"\ud800"}),
    "a field that is ours": ({"name": "one", "status": "READY"}, {"status"}),
    "an owner": ({"name": "one", "owner_id": "bob"}, {"owner_id"}),
    "both spellings": (
        {"name": "one", "machine_type": "e2-standard-2", "machineType": "e2-standard-2"},
        {"machineType"},
    ),
    "both spellings, one null": (
        {"name": "one", "image_tag": None, "imageTag": "v1"},
        {"imageTag"},
    ),
    "a machine type that is not allowed": (
        {"name": "one", "machine_type": "m1-megamem-96"},
        {"machine_type"},
    ),
    "a camel machine type that is not allowed": (
        {"name": "one", "machineType": "big"},
        {"machineType"},
    ),
    "a machine type that is a number": ({"name": "one", "machine_type": 4}, {"machine_type"}),
    "a zone that is not allowed": ({"name": "one", "zone": "mars-north1-a"}, {"zone"}),
    "an empty tag": ({"name": "one", "image_tag": ""}, {"image_tag"}),
    "a tag with a slash": ({"name": "one", "image_tag": "../other"}, {"image_tag"}),
    "a tag that begins with a dot": ({"name": "one", "image_tag": ".x"}, {"image_tag"}),
    "a tag of 129": ({"name": "one", "image_tag": "x" * 129}, {"image_tag"}),
    "a tag with a command": ({"name": "one", "image_tag": "a;reboot"}, {"image_tag"}),
    "metadata that is a string": ({"name": "one", "metadata": "x"}, {"metadata"}),
    "metadata that is a list": ({"name": "one", "metadata": []}, {"metadata"}),
    "unknown metadata": ({"name": "one", "metadata": {"color": "red"}}, {"metadata.color"}),
    "a repo that is a number": ({"name": "one", "metadata": {"repo": 1}}, {"metadata.repo"}),
    "a repo with a surrogate": (
        {"name": "one", "metadata": {"repo": "a\ud800b"}},
        {"metadata.repo"},
    ),
    "a repo with a null": ({"name": "one", "metadata": {"repo": "a\x00b"}}, {"metadata.repo"}),
    "a repo with an escape": ({"name": "one", "metadata": {"repo": "\x1b[2J"}}, {"metadata.repo"}),
    "a repo of two lines": ({"name": "one", "metadata": {"repo": "a\nb"}}, {"metadata.repo"}),
    "a repo too long": ({"name": "one", "metadata": {"repo": "x" * 1025}}, {"metadata.repo"}),
    "a device in both spellings": (
        {"name": "one", "metadata": {"device_id": "a", "deviceId": "b"}},
        {"metadata.deviceId"},
    ),
    "everything wrong": (
        {"zone": 1, "machineType": 2, "image_tag": 3, "metadata": {"repo": 4, "x": 5}, "y": 6},
        {"name", "zone", "machineType", "image_tag", "metadata.repo", "metadata.x", "y"},
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_fields_of_a_create_are_400_and_named_all_at_once(hub: Functions, what: str) -> None:
    """Each under the name that the client sent, with what it should be."""
    body, fields = WRONG[what]

    told = wrong_fields(hub.create(body))

    assert set(told) == fields
    assert all(told.values())


SECRET = "s3cr3t-w0rd"
WITH_CREDENTIALS = {
    "a password": ({"repo": f"https://user:{SECRET}@host/r.git"}, "repo"),
    "a token as the user": ({"repo": f"https://{SECRET}@host/r.git"}, "repo"),
    "a token as the password": ({"repo": f"HTTPS://:{SECRET}@host/r.git"}, "repo"),
    "an encoded password": ({"repo": f"https://user%3A{SECRET}@host/r.git"}, "repo"),
    "a password over SSH": ({"repo": f"ssh://git:{SECRET}@host/r.git"}, "repo"),
    "a password without a scheme": ({"repo": f"user:{SECRET}@host/r.git"}, "repo"),
    "a token in the query": ({"repo": f"https://host/r.git?private_token={SECRET}"}, "repo"),
    "a URL as the branch": ({"branch": f"https://user:{SECRET}@host/r.git"}, "branch"),
    "a URL as the device": ({"device_id": f"https://user:{SECRET}@host/"}, "device_id"),
    "a URL as the device, in camelCase": ({"deviceId": f"https://user:{SECRET}@host/"}, "deviceId"),
}


@pytest.mark.parametrize("what", WITH_CREDENTIALS)
def test_credentials_in_metadata_are_refused_and_repeated_nowhere(
    hub: Functions, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """Neither in the answer nor in the log nor in the trail: metadata is shown to everybody who sees the workspace."""
    metadata, field = WITH_CREDENTIALS[what]

    answer = hub.create({"name": "one", "metadata": metadata})

    told = wrong_fields(answer)
    assert set(told) == {f"metadata.{field}"}
    assert "credentials" in told[f"metadata.{field}"]
    captured = capsys.readouterr()
    logged = captured.out + captured.err
    assert SECRET not in answer.get_data(as_text=True) + logged + repr(hub.world.store.events)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"name": "one"}, {"name"}),
        ({"empty_home": "true"}, {"empty_home"}),
        ({"emptyHome": 1}, {"emptyHome"}),
        ({"rebuild": "yes"}, {"rebuild"}),
        ({"empty_home": True, "emptyHome": True}, {"emptyHome"}),
        ({"zone": "us-west1-b"}, {"zone"}),
        ({"image_tag": "a b"}, {"image_tag"}),
        ({"machineType": "huge", "imageTag": 7}, {"machineType", "imageTag"}),
    ],
)
def test_wrong_fields_of_a_start_are_400(
    hub: Functions, body: dict[str, Any], fields: set[str]
) -> None:
    """Only image and machine type can be changed: a zonal disk binds its machine."""
    assert set(wrong_fields(hub.start(SOME_ID, body))) == fields


@pytest.mark.parametrize("name", ["stop_workspace", "delete_workspace"])
def test_a_stop_and_a_delete_take_no_fields(hub: Functions, name: str) -> None:
    """What they would not do must not look as if they did it."""
    assert set(wrong_fields(hub.call(name, HTTP[name], {"force": True}))) == {"force"}


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ä"])
def test_a_malformed_idempotency_key_is_400(hub: Functions, key: str) -> None:
    """1 to 255 printable ASCII characters."""
    assert set(wrong_fields(hub.create({"name": "one"}, headers={"Idempotency-Key": key}))) == {
        "Idempotency-Key"
    }


QUERIES = {
    "status=ready": {"status"},
    "status=DELETED": {"status"},
    "status=": {"status"},
    "limit=0": {"limit"},
    "limit=101": {"limit"},
    "limit=-1": {"limit"},
    "limit=1.5": {"limit"},
    "limit=": {"limit"},
    "limit=%D9%A3": {"limit"},
    "limit=1e1": {"limit"},
    "page_token=": {"page_token"},
    "page_token=nonsense": {"page_token"},
    "page_token=bm9uc2Vuc2U": {"page_token"},
    "page_token=" + "x" * 1025: {"page_token"},
    "colour=red": {"colour"},
    "limit=1&limit=2": {"limit"},
    "page=2&size=3": {"page", "size"},
    "all=yes": {"all"},
    "all=": {"all"},
    "all=true&owner_id=bob": {"owner_id"},
    "owner_id=": {"owner_id"},
    "owner_id=a%20b": {"owner_id"},
    "owner_id=" + "x" * 256: {"owner_id"},
    "owner_id=bob&ownerId=bob": {"ownerId"},
}


@pytest.mark.parametrize("query", QUERIES)
def test_wrong_queries_are_400(hub: Functions, query: str) -> None:
    """Wrong values, unknown names, and what is given twice."""
    assert set(wrong_fields(hub.listed(f"?{query}"))) == QUERIES[query]


# ---- a machine's reports --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"event", "generation"}),
        ({"event": "ready"}, {"generation"}),
        ({"event": "READY", "generation": 3}, {"event"}),
        ({"event": "ready", "generation": "3"}, {"generation"}),
        ({"event": "ready", "generation": True}, {"generation"}),
        ({"event": "ready", "generation": 0}, {"generation"}),
        ({"event": "ready", "generation": 2**31}, {"generation"}),
        ({"event": "ready", "generation": 1.5}, {"generation"}),
        ({"event": "ready", "generation": 3, "instance_id": "7"}, {"instance_id"}),
        ({"event": "heartbeat", "generation": 3, "because": "boredom"}, {"because"}),
        ({"event": "failed", "generation": 3, "code": "lower"}, {"code"}),
        ({"event": "failed", "generation": 3, "message": "x" * 1025}, {"message"}),
        ({"event": "failed", "generation": 3, "message": "two\nlines"}, {"message"}),
    ],
)
def test_wrong_fields_of_a_report_are_400(
    hub: Functions, body: dict[str, Any], fields: set[str]
) -> None:
    """What the token proves cannot be said in the body."""
    workspace = a_workspace()
    machine = _machine_of(hub, workspace.instance_name)

    assert set(wrong_fields(hub.report(workspace, body, machine=machine))) == fields


def _machine_of(hub: Functions, name: str) -> Any:
    """Return a machine of this name, which nobody made."""
    from shared.domain.instance import InsertInstance, Place
    from tests.fakes.machines import FakeInstance
    from tests.fakes.records import INSTANCE_ID

    place = Place("us-west1-a", name)
    command = InsertInstance(place, "", "", "", "", "", 3, "", False, None, None)
    assert hub.world.machines.instances.get(place) is None
    return FakeInstance(INSTANCE_ID, place, command, 3, labels={}, heartbeat_interval=None)


REPORT = {"event": "ready", "generation": 3}


def test_a_report_of_another_machine_is_403(hub: Functions) -> None:
    """Its token proves that it is not this workspace's machine."""
    workspace = a_workspace()
    hub.world.store.put(workspace)

    answer = hub.report(workspace, REPORT, machine=_machine_of(hub, "workspace-of-another"))

    check_problem(answer, 403, "NOT_ALLOWED")


def test_a_report_of_a_workspace_that_is_gone_is_403_as_one_of_anothers(hub: Functions) -> None:
    """The machine is being deleted, or should be; to any other one it tells nothing."""
    workspace = a_workspace()

    answer = hub.report(workspace, REPORT, machine=_machine_of(hub, workspace.instance_name))

    check_problem(answer, 403, "NOT_ALLOWED")


def test_a_report_before_the_instance_is_recorded_is_503_and_comes_again(hub: Functions) -> None:
    """The worker that made the machine has not committed its id yet."""
    workspace = replace(a_workspace(), instance_id=None)
    hub.world.store.put(workspace)

    answer = hub.report(workspace, REPORT, machine=_machine_of(hub, workspace.instance_name))

    check_problem(answer, 503, "INSTANCE_NOT_RECORDED")
    assert answer.headers["Retry-After"] == "1"


def test_a_person_is_no_machine_and_a_machine_no_person(hub: Functions) -> None:
    """Each kind of token is for its own functions."""
    hub.report(
        a_workspace(), REPORT, machine=_machine_of(hub, "workspace-x")
    )  # makes the token "machine" known

    check_problem(
        hub.call("report_workspace", HTTP["report_workspace"], REPORT), 401, "NOT_AUTHENTICATED"
    )
    for name in PEOPLES:
        check_problem(hub.call(name, HTTP[name], token="machine"), 401, "NOT_AUTHENTICATED")


# ---- the open ones --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [lambda: client_of("describe_api").get("/workspaces"), lambda: client_of("cleanup").get("/")],
)
def test_the_open_functions_answer_on_their_own_paths_only(
    hub: Functions, call: Callable[[], TestResponse]
) -> None:
    """404, as everywhere."""
    check_problem(call(), 404, "NOT_FOUND")
    assert hub.world.store.counts.queries == 0


@pytest.mark.parametrize("name", ["cleanup", "reconcile", "reconcile_fleet"])
def test_the_sweeps_are_posted_to(hub: Functions, name: str) -> None:
    """A GET that somebody follows must not sweep."""
    check_problem(client_of(name).get(f"/{name.replace('_', '-')}"), 405, "METHOD_NOT_ALLOWED")
    assert hub.world.store.counts.queries == 0
