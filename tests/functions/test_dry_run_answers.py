"""Dry runs by HTTP: exactly the answer that the request itself would get, and nothing done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from werkzeug.test import TestResponse

from shared.domain.workspace import Workspace
from shared.entry.description import description
from tests.fakes.records import a_snapshot
from tests.functions.conftest import Functions

IDLE = timedelta(minutes=61)


# ---- the states ----


def being_made(hub: Functions) -> Workspace:
    """Return a workspace that is being made, and let its owner have another, with a known key."""
    hub.create({"name": "two"}, headers={"Idempotency-Key": "known"})
    hub.world.run()
    return hub.world.create("alice", "one")


def ready(hub: Functions) -> Workspace:
    """Return a workspace that is READY."""
    return hub.world.ready()


def stopping(hub: Functions) -> Workspace:
    """Return a workspace that its owner stops."""
    workspace = ready(hub)
    hub.world.stop("alice", workspace.id)
    return workspace


def going_to_sleep(hub: Functions) -> Workspace:
    """Return a workspace that goes to sleep because nobody is connected."""
    workspace = ready(hub)
    hub.world.clock.advance(IDLE)
    hub.world.clean_up()
    return workspace


def asleep(hub: Functions) -> Workspace:
    """Return a workspace that is suspended."""
    workspace = stopping(hub)
    hub.world.run()
    return workspace


def asleep_at_the_limit(hub: Functions) -> Workspace:
    """Return a workspace whose owner may have no other, and none that runs."""
    workspace = asleep(hub)
    hub.configure(HUB_WORKSPACES_PER_OWNER="1", HUB_RUNNING_PER_OWNER="0")
    return workspace


def asleep_in_a_hurry(hub: Functions) -> Workspace:
    """Return a workspace whose owner has asked for too much in this minute."""
    workspace = asleep(hub)
    hub.configure(HUB_CHANGES_PER_MINUTE="2")
    for name in ("two", "three"):
        hub.create({"name": name})
    return workspace


def being_deleted(hub: Functions) -> Workspace:
    """Return a workspace that its owner deletes."""
    workspace = ready(hub)
    hub.world.delete("alice", workspace.id)
    return workspace


def unreachable(hub: Functions) -> Workspace:
    """Return a workspace that nobody can read."""
    workspace = ready(hub)
    hub.world.store.unreadable.add(workspace.id)
    return workspace


STATES = (
    *(being_made, ready, stopping, going_to_sleep, asleep, asleep_at_the_limit),
    *(asleep_in_a_hurry, being_deleted, unreachable),
)

# ---- the requests ----

NOTHING = "8f0a4a51-9f6e-4f43-a0b7-54b1d1a7f3c2"  # the id of no snapshot


def snapshot_of(hub: Functions, workspace_id: str) -> str:
    """Return the id of a READY snapshot of the workspace, which is made if there is none."""
    store = hub.world.store
    if not store.snapshots:
        store.put_snapshots(a_snapshot(store.workspaces[workspace_id]))
    [snapshot_id] = store.snapshots
    return snapshot_id


Ask = Callable[..., TestResponse]
KNOWN = {"Idempotency-Key": "known"}
REQUESTS: dict[str, Callable[[Functions, str], Ask]] = {
    "create": lambda hub, _: lambda **more: hub.create({"name": "new"}, **more),
    "create, taken": lambda hub, _: lambda **more: hub.create({"name": "one"}, **more),
    "create, known key": lambda hub, _: (
        lambda **more: hub.create({"name": "two"}, **more | {"headers": KNOWN})
    ),
    "create, key of another": lambda hub, _: (
        lambda **more: hub.create({"name": "three"}, **more | {"headers": KNOWN})
    ),
    "create, wrong": lambda hub, _: lambda **more: hub.create({"name": "?", "x": 1}, **more),
    "start": lambda hub, its_id: lambda **more: hub.start(its_id, **more),
    "start, renamed": lambda hub, its_id: lambda **more: hub.start(its_id, {"name": "2"}, **more),
    "start, larger": lambda hub, its_id: (
        lambda **more: hub.start(its_id, {"machine_type": "e2-standard-8"}, **more)
    ),
    "start, wrong": lambda hub, its_id: lambda **more: hub.start(its_id, {"rebuild": 1}, **more),
    "stop": lambda hub, its_id: lambda **more: hub.stop(its_id, **more),
    "stop, wrong": lambda hub, its_id: (
        lambda **more: hub.call("stop_workspace", f"/workspaces/{its_id}/stop", {"x": 1}, **more)
    ),
    "restore": lambda hub, its_id: (
        lambda **more: hub.restore(its_id, snapshot_of(hub, its_id), **more)
    ),
    "restore, unknown": lambda hub, its_id: lambda **more: hub.restore(its_id, NOTHING, **more),
    "delete": lambda hub, its_id: lambda **more: hub.delete(its_id, **more),
    "delete, unknown": lambda hub, _: lambda **more: hub.delete("nothing", **more),
}
DRY = "dry_run=true"
HEADERS_OF_REFUSALS = ("Content-Type", "Retry-After", "WWW-Authenticate")


def everything(hub: Functions) -> dict[str, Any]:
    """Return all that is stored, sent and called, but the audit trail."""
    world = hub.world
    return {
        "workspaces": dict(world.store.workspaces),
        "owners": dict(world.store.owners),  # with the counts of changes, and the keys
        "jobs": (list(world.provisioning.sent), list(world.operations.sent)),
        "calls": list(world.machines.calls),
        "reads": world.machines.reads.copy(),
    }


def answer_of(response: TestResponse) -> tuple[object, ...]:
    """Return what a refusal consists of."""
    headers = [response.headers.get(name) for name in HEADERS_OF_REFUSALS]
    return (response.status_code, response.get_json(), headers)


def assert_is_dry_run_of(dry: dict[str, Any], real: dict[str, Any]) -> None:
    """Check that a dry run has the workspace as the request then answers it."""
    assert_fits_the_contract(dry)
    before = dict(dry["workspace"])
    if before["id"] is None:
        assert before["instance_name"] is None
        before |= {"id": real["id"], "instance_name": real["instance_name"]}
    if dry["decision"] == "begin":
        assert before["operation"]["id"] is None
        before["operation"] = {**before["operation"], "id": real["operation"]["id"]}
    assert before == real
    assert (dry["kind"] is None) == (dry["steps"] == []) == (dry["decision"] in NO_STEPS)


NO_STEPS = {"nothing", "rename"}


def assert_fits_the_contract(dry: object) -> None:
    """Check a dry run against the OpenAPI document."""
    schema = {"$ref": "#/components/schemas/DryRun", "components": description()["components"]}
    OAS31Validator(schema, format_checker=OAS31Validator.FORMAT_CHECKER).validate(dry)


@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_dry_run_answers_as_the_request_would_and_does_nothing(
    hub: Functions, state: Callable[[Functions], Workspace], what: str
) -> None:
    """A refusal is the same in status, code, body and headers, for each caller."""
    ask = REQUESTS[what](hub, state(hub).id)
    hub.world.store.events.clear()
    for token in (None, "mallory", "bob", "grace", "alice"):
        before, events = everything(hub), list(hub.world.store.events)
        dry = ask(token=token, query_string=DRY)

        assert everything(hub) == before, token
        if token == "alice" and what != "delete, unknown":
            assert hub.world.store.events == events
        if token in {"bob", "grace"} and dry.status_code < 300:
            continue  # the request itself would do it, and it is Alice's turn
        if dry.status_code == 200:
            real = ask(token=token)
            assert real.status_code in {200, 201, 202}
            assert "Location" not in dry.headers
            assert_is_dry_run_of(dry.get_json(), real.get_json())
        else:
            assert answer_of(dry) == answer_of(ask(token=token)), token


def test_an_administrators_dry_run_and_a_refused_one_are_noted(hub: Functions) -> None:
    """Each as a look, not as the change that was not asked for."""
    workspace = ready(hub)
    hub.world.store.events.clear()

    for token in ("grace", "bob"):
        hub.stop(workspace.id, token=token, query_string=DRY)
    hub.delete(workspace.id, token="mallory", query_string=DRY)

    noted = [(event.who, event.what, event.result) for event in hub.world.store.events]
    assert noted == [
        ("grace", "DryRunRequested", "ACCEPTED"),
        ("bob", "DryRunRequested", "REFUSED"),
        ("mallory", "EntryRequested", "REFUSED"),
    ]
    assert [event.as_admin for event in hub.world.store.events] == [True, False, False]


def test_a_dry_run_uses_no_key(hub: Functions) -> None:
    """The key is as good as new, for another body too."""
    key = {"Idempotency-Key": "a-key"}

    dry = hub.create({"name": "one"}, headers=key, query_string=DRY)
    made = hub.create({"name": "other"}, headers=key)

    assert (dry.status_code, made.status_code) == (200, 201)
    assert made.get_json()["name"] == "other"


IN_THE_BODY: dict[str, Callable[..., TestResponse]] = {
    "create": lambda hub, _, body, **more: hub.create({"name": "new", **body}, **more),
    "start": lambda hub, its_id, body, **more: hub.start(its_id, body, **more),
    "stop": lambda hub, its_id, body, **more: hub.call(
        "stop_workspace", f"/workspaces/{its_id}/stop", body, **more
    ),
    "archive": lambda hub, its_id, body, **more: hub.archive(its_id, body, **more),
    "restore": lambda hub, its_id, body, **more: hub.call(
        "restore_workspace",
        f"/workspaces/{its_id}/restore",
        {"snapshot_id": snapshot_of(hub, its_id), **body},
        **more,
    ),
    "delete": lambda hub, its_id, body, **more: hub.call(
        "delete_workspace", f"/workspaces/{its_id}/delete", body, method="POST", **more
    ),
}


@pytest.mark.parametrize("what", IN_THE_BODY)
@pytest.mark.parametrize("spelling", ["dry_run", "dryRun"])
def test_a_body_asks_for_a_dry_run_as_the_query_does(
    hub: Functions, what: str, spelling: str
) -> None:
    """Each alone and both are the same; an older Hub refuses the field, and ignores the query."""
    its_id = ready(hub).id
    ask = partial(IN_THE_BODY[what], hub, its_id)
    key = {"Idempotency-Key": "a-key"}
    before = everything(hub)

    told = [
        ask({}, query_string=DRY, headers=key),
        ask({spelling: True}, headers=key),
        ask({spelling: True}, query_string=DRY, headers=key),
    ]

    assert [answer.status_code for answer in told] == [200] * 3
    assert len({answer.get_json()["decision"] for answer in told}) == 1
    assert everything(hub) == before


@pytest.mark.parametrize("what", IN_THE_BODY)
@pytest.mark.parametrize(
    ("body", "query"),
    [
        ({"dry_run": False}, DRY),
        ({"dry_run": True}, "dry_run=false"),
        ({"dry_run": "true"}, DRY),
        ({"dry_run": 1}, ""),
    ],
)
def test_a_body_that_says_otherwise_than_the_query_does_nothing(
    hub: Functions, what: str, body: dict[str, Any], query: str
) -> None:
    """It is not known which was meant."""
    its_id = ready(hub).id
    before = everything(hub)

    answer = IN_THE_BODY[what](hub, its_id, body, query_string=query)

    assert answer.status_code == 400
    assert [each["field"] for each in answer.get_json()["errors"]] == ["dry_run"]
    assert everything(hub) == before


@pytest.mark.parametrize("body", [None, {}, {"dry_run": False}, {"dry_run": None}, {"x": 1}])
def test_the_path_of_a_deletions_dry_run_never_deletes(hub: Functions, body: Any) -> None:
    """What is no dry run is refused; a DELETE itself takes no field."""
    its_id = ready(hub).id
    before = everything(hub)

    refused = [
        IN_THE_BODY["delete"](hub, its_id, body),
        hub.call("delete_workspace", f"/workspaces/{its_id}", {"dry_run": True}),
    ]

    assert [answer.status_code for answer in refused] == [400, 400]
    assert everything(hub) == before


def test_a_key_is_of_the_request_whatever_its_dry_run_had_in_its_body(hub: Functions) -> None:
    """A dry run after the request with the same key says that it is done already."""
    key = {"Idempotency-Key": "a-key"}
    hub.create({"name": "one"}, headers=key)

    dry = hub.create({"name": "one", "dry_run": True}, headers=key)

    assert (dry.status_code, dry.get_json()["decision"]) == (200, "nothing")


@pytest.mark.parametrize("query", ["dry_run=false", "", "dryRun=false"])
def test_without_a_dry_run_it_is_done(hub: Functions, query: str) -> None:
    """``false`` is what no parameter is."""
    assert hub.create({"name": "one"}, query_string=query).status_code == 201
    assert len(hub.world.store.workspaces) == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("dry_run=", "dry_run"),
        ("dry_run=1", "dry_run"),
        ("dry_run=TRUE", "dry_run"),
        ("dry_run", "query"),
        ("dry_run=true&dry_run=false", "dry_run"),
        ("dry_run=true&dryRun=false", "dryRun"),
        ("dry-run=true", "dry-run"),
        ("limit=1", "limit"),
        ("dry_run=true&x=1", "x"),
    ],
)
@pytest.mark.parametrize("what", ["create", "start", "stop", "delete"])
def test_a_slip_in_the_query_does_nothing(
    hub: Functions, what: str, query: str, field: str
) -> None:
    """The refusal names the parameter, and there is one for all four requests."""
    ask = REQUESTS[what](hub, ready(hub).id)
    before = everything(hub)

    answer = ask(query_string=query)

    assert (answer.status_code, answer.get_json()["code"]) == (400, "INVALID_REQUEST")
    assert [each["field"] for each in answer.get_json()["errors"]] == [field]
    assert everything(hub) == before


# ---- what it costs, and who one is ----


def test_a_dry_run_has_quota_and_cost_after_it(hub: Functions) -> None:
    """A stop frees a place among those that run, a delete among all; the price is configured."""
    hub.configure(HUB_MACHINE_PRICES="e2-standard-4=0.134", HUB_PRICE_CURRENCY="EUR")
    workspace = ready(hub)
    asked = {
        "create": hub.create({"name": "new"}, query_string=DRY),
        "stop": hub.stop(workspace.id, query_string=DRY),
        "delete": hub.delete(workspace.id, query_string=DRY),
        "larger": hub.start(workspace.id, {"machine_type": "e2-standard-8"}, query_string=DRY),
    }
    told = {name: answer.get_json() for name, answer in asked.items()}
    used = {
        name: (each["quota"]["workspaces"]["used"], each["quota"]["running"]["used"])
        for name, each in told.items()
    }

    assert used == {"create": (2, 2), "stop": (1, 0), "delete": (0, 0), "larger": (1, 1)}
    assert {name: each["cost"]["runs"] for name, each in told.items()} == {
        "create": True,
        "stop": False,
        "delete": False,
        "larger": True,
    }
    price = {"amount": "0.134", "currency": "EUR"}
    assert told["stop"]["cost"] == {
        "machine_type": "e2-standard-4",
        "cpus": 4,
        "memory_gb": 16,
        "price_per_hour": price,
        "runs": False,
    }
    assert (told["larger"]["cost"]["cpus"], told["larger"]["cost"]["price_per_hour"]) == (8, None)


def test_a_person_learns_who_they_are_and_what_they_may_choose(hub: Functions) -> None:
    """Quota and limits are their own, by the organisation that their token proves."""
    hub.configure(
        HUB_LIMITS_OF="example.org=7:3",
        HUB_MACHINE_TYPES="e2-standard-4,n2-custom-6-20480",
        HUB_MACHINE_PRICES="e2-standard-4=0.134",
        HUB_IDLE_SECONDS="0",
    )
    hub.create({"name": "one"}, token="bob")

    alice, bob, grace = (hub.me(token=token).get_json() for token in ("alice", "bob", "grace"))

    assert (alice["owner_id"], alice["email"]) == ("alice", "alice@example.com")
    assert [each["is_admin"] for each in (alice, bob, grace)] == [False, False, True]
    assert bob["quota"] == {
        "workspaces": {"used": 1, "most": 7},
        "running": {"used": 1, "most": 3},
    }
    assert alice["quota"]["workspaces"] == {"used": 0, "most": 5}
    assert alice["choices"]["machine_types"] == [
        {
            "name": "e2-standard-4",
            "cpus": 4,
            "memory_gb": 16,
            "price_per_hour": {"amount": "0.134", "currency": "USD"},
            "suspendable": True,
        },
        {
            "name": "n2-custom-6-20480",
            "cpus": 6,
            "memory_gb": 20,
            "price_per_hour": None,
            "suspendable": True,
        },
    ]
    assert alice["limits"]["idle_seconds"] is None
    assert hub.me(token="mallory").status_code == 403
    schema = {"$ref": "#/components/schemas/Me", "components": description()["components"]}
    OAS31Validator(schema).validate(alice)
