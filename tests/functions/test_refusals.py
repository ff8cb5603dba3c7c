"""What each function refuses, and with which 4xx; nothing has changed afterwards."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from shared.domain.errors import UnavailableError
from shared.domain.events import Event
from tests.endpoints import MACHINES, NO_SNAPSHOT, PEOPLE, paths_for
from tests.fakes.records import a_workspace
from tests.functions.conftest import CATALOGUE, Functions, a_machine_named, client_of

SOME_ID = "0d7b1b3e-3c53-4cf9-8b0c-0f4b1c0a9f11"
FOR_PEOPLE = paths_for(PEOPLE, SOME_ID)
FOR_ONE_WORKSPACE = [name for name in FOR_PEOPLE if SOME_ID in FOR_PEOPLE[name]]
# The bodies without which a request is refused for its body.
NEEDED = {
    "keep_workspace_awake": {"until": None},
    "restore_workspace": {"snapshot_id": NO_SNAPSHOT},
}
HTTP = FOR_PEOPLE | paths_for(MACHINES, SOME_ID)
WITH_BODY = [name for name in HTTP if CATALOGUE[name].routes[0].method == "POST"]
PROBLEM_FIELDS = {"type", "title", "status", "detail", "code"}


def check_problem(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem as in RFC 9457, and return it."""
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
    """Return the messages about a body or query, by field."""
    return {
        wrong["field"]: wrong["message"]
        for wrong in check_problem(answer, 400, "INVALID_REQUEST")["errors"]
    }


@pytest.fixture(autouse=True)
def _nothing_changes(hub: Functions) -> Any:
    """Check that a refusal changes and sends nothing; it only adds events to the audit trail."""
    before = dict(hub.world.store.workspaces)
    yield
    assert before.keys() <= hub.world.store.workspaces.keys()
    assert not hub.world.store.owners
    assert {event.result for event in hub.world.store.events} <= {"REFUSED"}
    assert hub.world.store.counts.commits <= len(hub.world.store.events)
    assert not hub.world.provisioning.sent
    assert not hub.world.operations.sent


# ---- who calls ----


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer nobodys-token", "alice"]
)
def test_a_caller_without_a_valid_token_is_401(
    hub: Functions, name: str, authorization: str | None
) -> None:
    """``WWW-Authenticate`` says what is expected, and nothing is read."""
    headers = {} if authorization is None else {"Authorization": authorization}

    answer = hub.call(name, HTTP[name], token=None, headers=headers)

    check_problem(answer, 401, "NOT_AUTHENTICATED")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert hub.world.store.counts.reads == hub.world.store.counts.queries == 0


@pytest.mark.parametrize("name", FOR_PEOPLE)
def test_authentication_comes_before_the_body(hub: Functions, name: str) -> None:
    """A stranger does not learn what a correct body is."""
    check_problem(
        hub.call(name, HTTP[name], {"wrong": 1}, token="stranger"), 401, "NOT_AUTHENTICATED"
    )


@pytest.mark.parametrize("name", FOR_ONE_WORKSPACE)
def test_somebody_elses_workspace_is_404(hub: Functions, name: str) -> None:
    """The answer is byte for byte that for an unknown id, but for the id."""
    theirs = a_workspace(owner_id="bob")
    hub.world.store.put(theirs)
    unknown = str(uuid.uuid4())
    headers = {"X-Request-Id": "the-same"}

    of_theirs, of_unknown = (
        hub.call(name, HTTP[name].replace(SOME_ID, each), NEEDED.get(name), headers=headers)
        for each in (theirs.id, unknown)
    )

    check_problem(of_theirs, 404, "WORKSPACE_NOT_FOUND")
    assert of_theirs.data.replace(theirs.id.encode(), unknown.encode()) == of_unknown.data
    assert of_theirs.headers == of_unknown.headers
    assert hub.world.machines.reads.total() == 0


@pytest.mark.parametrize(
    "workspace_id", ["1", "..", "null", "%00", "x" * 3000, "a%20b", "ü", SOME_ID.upper()]
)
@pytest.mark.parametrize("name", FOR_ONE_WORKSPACE)
def test_a_malformed_id_is_404(hub: Functions, name: str, workspace_id: str) -> None:
    """This holds for every text in the path's place of an id."""
    answer = hub.call(name, HTTP[name].replace(SOME_ID, workspace_id), NEEDED.get(name))

    assert answer.status_code == 404
    assert answer.get_json()["code"] in {"WORKSPACE_NOT_FOUND", "NOT_FOUND"}


def test_a_refusal_is_recorded_with_actor_and_action(hub: Functions) -> None:
    """The trail tells another's workspace from an unknown one, the answer does not."""
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


def test_a_refusal_that_cannot_be_recorded_is_still_a_refusal(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is the same if the database does not accept the event."""

    def away(**_: object) -> None:
        raise UnavailableError("The Hub's database does not answer.")

    monkeypatch.setattr(hub.world.store, "commit", away)

    check_problem(hub.stop(SOME_ID), 404, "WORKSPACE_NOT_FOUND")
    check_problem(hub.list_workspaces("?all=true"), 403, "NOT_ALLOWED")
    check_problem(hub.list_workspaces(token="mallory"), 403, "NOT_ALLOWED")


@pytest.mark.parametrize("query", ["?all=true", "?owner_id=bob", "?ownerId=bob"])
def test_somebody_elses_list_is_403_without_an_administrator(hub: Functions, query: str) -> None:
    """The refusal is recorded, and no query is made."""
    check_problem(hub.list_workspaces(query), 403, "NOT_ALLOWED")

    assert hub.world.store.counts.queries == 0
    [event] = hub.world.store.events
    assert (event.what, event.who, event.owner_id) == (
        "ListRequested",
        "alice",
        "bob" if "bob" in query else "",
    )


def test_ones_own_list_can_be_requested_by_owner_id(hub: Functions) -> None:
    """Nobody needs to be an administrator for it."""
    assert hub.list_workspaces("?owner_id=alice").status_code == 200


@pytest.mark.parametrize("name", FOR_PEOPLE)
def test_a_person_who_is_not_served_is_403_before_all_other_checks(
    hub: Functions, name: str
) -> None:
    """The token is valid, but no list has the address or domain; the visit is recorded."""
    check_problem(hub.call(name, HTTP[name], {"wrong": 1}, token="mallory"), 403, "NOT_ALLOWED")

    counts = hub.world.store.counts
    assert (counts.reads, counts.commits, counts.queries) == (0, 1, 0)
    [event] = hub.world.store.events
    assert (event.what, event.who, event.who_email) == (
        "EntryRequested",
        "mallory",
        "mallory@example.net",
    )


def test_personal_mode_has_neither_domains_nor_administrators(hub: Functions) -> None:
    """The configuration alone decides whether the same people are served."""
    hub.configure(HUB_MODE="personal", HUB_ALLOWED_DOMAINS="", HUB_ADMIN_EMAILS="")

    assert hub.list_workspaces(token="alice").status_code == 200
    for token in ("bob", "grace"):
        check_problem(hub.list_workspaces(token=token), 403, "NOT_ALLOWED")


# ---- how often ----


@pytest.mark.parametrize("name", HTTP)
def test_too_many_requests_to_one_instance_are_429_with_the_time_to_wait(
    hub: Functions, name: str
) -> None:
    """Nothing is read before, and other people are served."""
    hub.configure(HUB_REQUESTS_PER_MINUTE="2")
    token = "alice"
    if name == "report_workspace":
        # This makes the token "machine" known.
        hub.report(a_workspace(), {}, machine=_machine_of(hub, "workspace-x"))
        token = "machine"
    while (answer := hub.call(name, HTTP[name], {"wrong": 1}, token=token)).status_code != 429:
        pass
    reads = hub.world.store.counts.reads

    check_problem(answer, 429, "TOO_MANY_REQUESTS")
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    check_problem(hub.call(name, HTTP[name], token=token), 429, "TOO_MANY_REQUESTS")
    assert hub.world.store.counts.reads == reads
    assert hub.list_workspaces(token="bob").status_code == 200


def test_a_caller_who_is_not_served_is_limited_too(hub: Functions) -> None:
    """Otherwise a stranger could fill the audit trail."""
    hub.configure(HUB_REQUESTS_PER_MINUTE="2")

    assert [hub.list_workspaces(token="mallory").status_code for _ in range(4)] == [
        403,
        403,
        429,
        429,
    ]


# ---- size of path and headers ----


@pytest.mark.parametrize("name", HTTP)
def test_a_path_and_query_too_long_are_414(hub: Functions, name: str) -> None:
    """This is checked first, even before the caller."""
    check_problem(hub.call(name, f"{HTTP[name]}?x={'x' * 4096}", token=None), 414, "URI_TOO_LONG")


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize(
    "headers", [{"X-One": "x" * 16 * 1024}, {f"X-{n}": "x" * 1000 for n in range(17)}]
)
def test_headers_too_large_are_431(hub: Functions, name: str, headers: dict[str, str]) -> None:
    """One large header or many are refused, before all other checks."""
    check_problem(hub.call(name, HTTP[name], token=None, headers=headers), 431, "HEADERS_TOO_LARGE")


# ---- path and method ----


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize(
    "path", ["/", "/unknown", "/workspaces/", f"/workspaces/{SOME_ID}/unknown", "/workspaces//stop"]
)
def test_an_unknown_path_is_404(hub: Functions, name: str, path: str) -> None:
    """A function answers on its own paths only."""
    check_problem(hub.call(name, path), 404, "NOT_FOUND")


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize("path", ["/workspaces/%0A/events", "/%0D%0A", "/robots.txt"])
def test_a_refusal_by_the_frameworks_routing_is_a_problem(
    hub: Functions, name: str, path: str
) -> None:
    """Such a path never reaches the function, but the answer has the Hub's form."""
    answer = hub.call(name, path)
    check_problem(answer, 404, "NOT_FOUND")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_wrong_method_is_405_with_the_allowed_ones(
    hub: Functions, name: str, method: str
) -> None:
    """``Allow`` has the allowed methods."""
    allowed = CATALOGUE[name].routes[0].method
    if method == allowed:
        return

    answer = hub.call(name, HTTP[name], method=method)

    check_problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert allowed in answer.headers["Allow"].split(", ")
    assert method not in answer.headers["Allow"].split(", ")


# ---- malformed bodies ----

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
    """The detail says what is wrong, without a stack."""
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
    """The content type must be JSON."""
    answer = hub.call(name, HTTP[name], data=b'{"name": "one"}', content_type=content_type)

    check_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "name", [name for name in FOR_PEOPLE if CATALOGUE[name].routes[0].method != "GET"]
)
@pytest.mark.parametrize("size", [64 * 1024 + 1, 1024 * 1024])
def test_a_body_over_64_kib_is_413(hub: Functions, name: str, size: int) -> None:
    """The body is not even read; functions without a body ignore it."""
    data = json.dumps({"name": "one", "metadata": {"repo": ""}}).encode()
    padded = data + b" " * (size - len(data))

    check_problem(
        hub.call(name, HTTP[name], data=padded, content_type="application/json"),
        413,
        "BODY_TOO_LARGE",
    )


# ---- fields ----

# Bodies of POST /workspaces, and their wrong fields.
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
    "a field that the Hub sets": ({"name": "one", "status": "READY"}, {"status"}),
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
def test_all_wrong_fields_of_a_create_are_named_at_once(hub: Functions, what: str) -> None:
    """Each has the name that the client sent, with what it should be."""
    body, fields = WRONG[what]

    messages = wrong_fields(hub.create(body))

    assert set(messages) == fields
    assert all(messages.values())


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
def test_credentials_in_metadata_are_refused_and_not_repeated(
    hub: Functions, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """They are in no answer, log or event: everybody who sees the workspace sees its metadata."""
    metadata, field = WITH_CREDENTIALS[what]

    answer = hub.create({"name": "one", "metadata": metadata})

    messages = wrong_fields(answer)
    assert set(messages) == {f"metadata.{field}"}
    assert "credentials" in messages[f"metadata.{field}"]
    captured = capsys.readouterr()
    logged = captured.out + captured.err
    assert SECRET not in answer.get_data(as_text=True) + logged + repr(hub.world.store.events)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"name": "a name"}, {"name"}),
        ({"empty_home": "true"}, {"empty_home"}),
        ({"emptyHome": 1}, {"emptyHome"}),
        ({"rebuild": "yes"}, {"rebuild"}),
        ({"empty_home": True, "emptyHome": True}, {"emptyHome"}),
        ({"zone": "mars-1a"}, {"zone"}),
        ({"mayMove": "yes"}, {"mayMove"}),
        ({"may_move": True, "mayMove": True}, {"mayMove"}),
        ({"home_disk_gb": "100"}, {"home_disk_gb"}),
        ({"homeDiskGb": 0}, {"homeDiskGb"}),
        ({"image_tag": "a b"}, {"image_tag"}),
        ({"machineType": "huge", "imageTag": 7}, {"machineType", "imageTag"}),
    ],
)
def test_wrong_fields_of_a_start_are_400(
    hub: Functions, body: dict[str, Any], fields: set[str]
) -> None:
    """Each field is named."""
    assert set(wrong_fields(hub.start(SOME_ID, body))) == fields


@pytest.mark.parametrize(
    "name", ["stop_workspace", "archive_workspace", "delete_workspace", "delete_snapshot"]
)
def test_a_stop_an_archive_and_a_delete_accept_no_fields(hub: Functions, name: str) -> None:
    """A field that has no effect must not be accepted."""
    assert set(wrong_fields(hub.call(name, HTTP[name], {"force": True}))) == {"force"}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"name": ""}, {"name"}),
        ({"name": "a b"}, {"name"}),
        ({"name": "x" * 49}, {"name"}),
        ({"name": 7}, {"name"}),
        ({"label": "one"}, {"label"}),
        ({"automatic": True, "name": []}, {"automatic", "name"}),
        ({"dry_run": True}, {"dry_run"}),
    ],
)
def test_wrong_fields_of_a_snapshot_are_400(
    hub: Functions, body: dict[str, Any], fields: set[str]
) -> None:
    """A name is as a workspace's. There is no dry run, and none is taken for one."""
    assert set(wrong_fields(hub.snapshot(SOME_ID, body))) == fields


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"snapshot_id"}),
        ({"snapshot_id": None}, {"snapshot_id"}),
        ({"snapshot_id": "before-upgrade"}, {"snapshot_id"}),
        ({"snapshotId": SOME_ID.upper()}, {"snapshotId"}),
        ({"snapshot_id": [SOME_ID]}, {"snapshot_id"}),
        ({"snapshot_id": SOME_ID, "snapshotId": SOME_ID}, {"snapshotId"}),
        ({"snapshot_id": SOME_ID, "rebuild": True}, {"rebuild"}),
        ({"from": SOME_ID, "dry_run": "yes"}, {"from", "dry_run", "snapshot_id"}),
    ],
)
def test_wrong_fields_of_a_restore_are_400(
    hub: Functions, body: dict[str, Any], fields: set[str]
) -> None:
    """It needs the id of a snapshot; a name is the clients' to resolve."""
    answer = hub.call("restore_workspace", HTTP["restore_workspace"], body)
    assert set(wrong_fields(answer)) == fields


@pytest.mark.parametrize("name", ["create_snapshot", "list_snapshots", "delete_snapshot"])
@pytest.mark.parametrize("query", ["dry_run=true", "limit=1", "x"])
def test_snapshots_take_no_query(hub: Functions, name: str, query: str) -> None:
    """Who asks for a dry run expects that nothing is done."""
    assert set(wrong_fields(hub.call(name, HTTP[name], query_string=query))) == {"query"}


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ä"])
def test_a_malformed_idempotency_key_is_400(hub: Functions, key: str) -> None:
    """A key has 1 to 255 printable ASCII characters."""
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
    """Wrong values, unknown names and repeated parameters are refused."""
    assert set(wrong_fields(hub.list_workspaces(f"?{query}"))) == QUERIES[query]


# ---- a machine's reports ----


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
    """The body cannot have what the token proves."""
    workspace = a_workspace()
    machine = _machine_of(hub, workspace.instance_name)

    assert set(wrong_fields(hub.report(workspace, body, machine=machine))) == fields


def _machine_of(hub: Functions, name: str) -> Any:
    """Return a machine of this name that nobody has created."""
    machine = a_machine_named(name)
    assert machine.place not in hub.world.machines.instances
    return machine


REPORT = {"event": "ready", "generation": 3}


def test_a_report_of_another_machine_is_403(hub: Functions) -> None:
    """Its token proves that it is not this workspace's machine."""
    workspace = a_workspace()
    hub.world.store.put(workspace)

    answer = hub.report(workspace, REPORT, machine=_machine_of(hub, "workspace-of-another"))

    check_problem(answer, 403, "NOT_ALLOWED")


def test_a_report_of_a_deleted_workspace_is_403(hub: Functions) -> None:
    """The machine is being deleted, or should be; other machines learn nothing from it."""
    workspace = a_workspace()

    answer = hub.report(workspace, REPORT, machine=_machine_of(hub, workspace.instance_name))

    check_problem(answer, 403, "NOT_ALLOWED")


def test_a_report_before_the_instance_is_recorded_is_503(hub: Functions) -> None:
    """The worker that created the machine has not committed its id yet."""
    workspace = replace(a_workspace(), instance_id=None)
    hub.world.store.put(workspace)

    answer = hub.report(workspace, REPORT, machine=_machine_of(hub, workspace.instance_name))

    check_problem(answer, 503, "INSTANCE_NOT_RECORDED")
    assert answer.headers["Retry-After"] == "1"


def test_tokens_of_people_and_machines_are_not_interchangeable(hub: Functions) -> None:
    """Each kind of token works only for its own functions."""
    # This makes the token "machine" known.
    hub.report(a_workspace(), REPORT, machine=_machine_of(hub, "workspace-x"))

    check_problem(
        hub.call("report_workspace", HTTP["report_workspace"], REPORT), 401, "NOT_AUTHENTICATED"
    )
    for name in FOR_PEOPLE:
        check_problem(hub.call(name, HTTP[name], token="machine"), 401, "NOT_AUTHENTICATED")


# ---- functions without a token ----


@pytest.mark.parametrize(
    "call",
    [lambda: client_of("describe_api").get("/workspaces"), lambda: client_of("cleanup").get("/")],
)
def test_functions_without_a_token_answer_on_their_own_paths_only(
    hub: Functions, call: Callable[[], TestResponse]
) -> None:
    """Other paths are 404, as everywhere."""
    check_problem(call(), 404, "NOT_FOUND")
    assert hub.world.store.counts.queries == 0


@pytest.mark.parametrize("name", ["cleanup", "reconcile", "reconcile_fleet"])
def test_the_sweeps_accept_only_post(hub: Functions, name: str) -> None:
    """A link that somebody follows must not start a sweep."""
    check_problem(client_of(name).get(f"/{name.replace('_', '-')}"), 405, "METHOD_NOT_ALLOWED")
    assert hub.world.store.counts.queries == 0
