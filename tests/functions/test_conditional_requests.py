"""Conditional requests: what is unchanged is answered 304, and everything else in full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from werkzeug.test import TestResponse

from shared.domain.workspace import (
    Access,
    AccessState,
    OperationKind,
    PhaseDuration,
    Problem,
    Status,
    StopReason,
    Workspace,
)
from tests.fakes.records import NOW, a_workspace, an_operation
from tests.functions.conftest import Functions

Ask = Callable[..., TestResponse]
ORIGIN = "https://console.example.com"


def asks(hub: Functions, workspace_id: str) -> dict[str, Ask]:
    """Return every request that is answered with a tag, about a workspace of Alice's."""
    return {
        "list": hub.list_workspaces,
        "get": lambda **options: hub.get(workspace_id, **options),
        "status": lambda **options: hub.status(workspace_id, **options),
        "me": hub.me,
        "deleted": hub.deleted,
        "snapshots": lambda **options: hub.snapshots(workspace_id, **options),
        "events": lambda **options: hub.events(workspace_id, **options),
        "all events": lambda **options: hub.all_events(**({"token": "grace"} | options)),
    }


ASKED = ("list", "get", "status", "me", "deleted", "snapshots", "events", "all events")


def again(ask: Ask, tag: str, **headers: str) -> TestResponse:
    """Ask again, with the tag of an earlier answer."""
    return ask(headers={"If-None-Match": tag, **headers})


@pytest.mark.parametrize("what", ASKED)
def test_what_is_unchanged_is_answered_304_without_a_body(hub: Functions, what: str) -> None:
    """Tag, caching and request id are as in the whole answer; nothing of a body is left."""
    ask = asks(hub, hub.world.ready().id)[what]
    ask()  # an administrator's first look is an event, which the second finds

    whole = ask()
    short = again(ask, whole.headers["ETag"])

    assert (whole.status_code, short.status_code) == (200, 304)
    assert short.data == b""
    assert "Content-Type" not in short.headers
    for name in ("ETag", "Cache-Control", "Vary", "Content-Security-Policy"):
        assert short.headers[name] == whole.headers[name], name
    assert whole.headers["Cache-Control"] == "private, no-cache"
    assert whole.headers["Vary"] == "Authorization"
    assert short.headers["X-Request-Id"] != whole.headers["X-Request-Id"]


@pytest.mark.parametrize("what", ["list", "get", "status", "events"])
def test_what_has_changed_is_answered_in_full(hub: Functions, what: str) -> None:
    """A tag from before a change, even an old one, is another one after it."""
    workspace = hub.world.ready()
    ask = asks(hub, workspace.id)[what]
    before = ask()

    hub.stop(workspace.id)
    after = again(ask, before.headers["ETag"])

    assert after.status_code == 200
    assert after.data != before.data
    assert after.headers["ETag"] != before.headers["ETag"]


def test_the_tag_changes_when_the_next_page_does(hub: Functions) -> None:
    """A page without a further one is another answer than the same with one; a 304 has its link."""
    first = hub.world.ready(name="first")
    hub.world.clock.advance(timedelta(seconds=1))
    hub.world.ready(name="second")
    query = "?limit=1&status=READY"
    whole = hub.list_workspaces(query)

    unchanged = hub.list_workspaces(query, headers={"If-None-Match": whole.headers["ETag"]})
    hub.world.store.put(replace(first, status=Status.SUSPENDED))
    changed = hub.list_workspaces(query, headers={"If-None-Match": whole.headers["ETag"]})

    assert (unchanged.status_code, unchanged.headers["Link"]) == (304, whole.headers["Link"])
    assert (changed.status_code, changed.data) == (200, whole.data)
    assert "Link" not in changed.headers


def test_a_304_is_given_only_to_who_may_have_the_whole_answer(hub: Functions) -> None:
    """A tag proves nothing: strangers, others and people without a token are refused as ever."""
    workspace = hub.world.ready()
    for name, ask in asks(hub, workspace.id).items():
        for token in (None, "mallory", "bob"):
            if token == "bob" and name in {"list", "deleted", "me"}:  # of his own
                continue
            refused = ask(token=token, headers={"If-None-Match": "*"})
            assert refused.status_code in {401, 403, 404}, (name, token)
            assert refused.headers["Cache-Control"] == "no-store"
            assert "ETag" not in refused.headers


def test_an_administrators_look_is_noted_when_it_is_answered_304(hub: Functions) -> None:
    """An instance that answers 304 notes the look as one that answers in full."""
    workspace = hub.world.ready()
    tag = hub.get(workspace.id).headers["ETag"]

    look = hub.get(workspace.id, token="grace", headers={"If-None-Match": tag})

    assert look.status_code == 304
    newest = hub.events(workspace.id).get_json()[0]
    assert (newest["who"], newest["what"], newest["as_admin"]) == ("grace", "RecordRequested", True)


def test_only_what_can_be_asked_again_has_a_tag(hub: Functions) -> None:
    """Changes, refusals and what says nothing of workspaces are not stored by anybody."""
    workspace = hub.world.ready()
    others = [
        hub.create({"name": "two"}, headers={"If-None-Match": "*"}),
        hub.connect(workspace.id, headers={"If-None-Match": "*"}),
        hub.stop(workspace.id, headers={"If-None-Match": "*"}),
        hub.delete(workspace.id, headers={"If-None-Match": "*"}),
        hub.call("describe_api", "/health", headers={"If-None-Match": "*"}),
        hub.call("describe_sign_in", "/sign-in", headers={"If-None-Match": "*"}),
        hub.list_workspaces("?limit=0", headers={"If-None-Match": "*"}),
    ]
    assert [each.status_code for each in others] == [201, 200, 202, 202, 200, 200, 400]
    for each in others:
        assert "ETag" not in each.headers
        assert each.headers["Cache-Control"] == "no-store"


def test_head_has_the_headers_of_get(hub: Functions) -> None:
    """So a client can ask for a tag alone, and is answered 304 as well."""
    whole = hub.list_workspaces()
    head = hub.list_workspaces(method="HEAD")
    short = hub.list_workspaces(method="HEAD", headers={"If-None-Match": whole.headers["ETag"]})

    assert (head.status_code, head.data, short.status_code) == (200, b"", 304)
    assert head.headers["ETag"] == short.headers["ETag"] == whole.headers["ETag"]


def test_a_page_of_a_configured_origin_can_ask_again(hub: Functions) -> None:
    """It may send ``If-None-Match`` and read ``ETag``; caches keep answers apart by both."""
    hub.configure(HUB_CORS_ORIGINS=ORIGIN)
    preflight = hub.list_workspaces(
        token=None,
        method="OPTIONS",
        headers={"Origin": ORIGIN, "Access-Control-Request-Method": "GET"},
    )
    whole = hub.list_workspaces(headers={"Origin": ORIGIN})
    short = again(hub.list_workspaces, whole.headers["ETag"], Origin=ORIGIN)

    assert "If-None-Match" in preflight.headers["Access-Control-Allow-Headers"]
    assert short.status_code == 304
    for each in (whole, short):
        assert each.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "ETag" in each.headers["Access-Control-Expose-Headers"]
        assert each.headers["Vary"] == "Authorization, Origin"


def test_behind_the_proxy_its_header_tells_people_apart(hub: Functions) -> None:
    """There the identity is in Identity-Aware Proxy's header."""
    hub.configure(
        HUB_IDENTITY_SOURCE="iap", HUB_USER_AUDIENCES="/projects/1/global/backendServices/2"
    )
    assert "x-goog-iap-jwt-assertion" in hub.list_workspaces().vary


# ---- nothing depends on the time of the answer ----

FAILED = Problem("MACHINE_GONE", "It is gone.", retryable=True, at=NOW)
REFUSED = Access(AccessState.REFUSED, "A policy forbids it.", "4711", NOW, NOW)


def every_kind(hub: Functions) -> list[Workspace]:
    """Store a workspace of each status, with each operation and without, and with all extras."""
    plain = [
        a_workspace(status, an_operation(kind) if kind else None)
        for status in Status
        for kind in (None, *OperationKind)
    ]
    timed = (PhaseDuration("survey", 1.5),)
    rich = [
        replace(
            each,
            suspended_at=NOW if each.status is Status.SUSPENDED else None,
            stopped_because=StopReason.IDLE,
            error=FAILED if each.status is Status.ERROR else None,
            memory_kept=False,
            heartbeat_seconds=60,
            kept_awake_since=NOW,
            kept_awake_until=NOW + timedelta(hours=3),
            machine_made_at=NOW - timedelta(days=29),
            access=REFUSED,
            operation=each.operation and replace(each.operation, phases=timed),
        )
        for each in (replace(each, id=a_workspace().id) for each in plain)
    ]
    for each in (everything := [*plain, *rich]):
        hub.world.store.put(replace(each, owner_id="alice"))
    return everything


def test_nothing_depends_on_the_time_of_the_answer(hub: Functions) -> None:
    """Every representation has the same bytes a second, an hour, 25 hours and 90 days later."""
    hub.configure(
        HUB_RETENTION_SECONDS="2592000",
        HUB_IDLE_SECONDS="3600",
        HUB_MAX_RUN_SECONDS="86400",
        HUB_REQUESTS_PER_MINUTE="100000",
    )
    workspaces = [hub.world.ready(), *every_kind(hub)]
    requests: dict[str, Ask] = {"list": lambda: hub.list_workspaces("?limit=100"), "me": hub.me}
    for each in workspaces:
        requests |= {
            f"{name} {each.id}": ask
            for name, ask in asks(hub, each.id).items()
            if name in {"get", "status", "events"}
        }
    before = {name: ask().data for name, ask in requests.items()}
    assert len(hub.list_workspaces("?limit=100").get_json()) == len(workspaces)
    assert len(hub.events(workspaces[0].id).get_json()) > 1

    for passed in (timedelta(seconds=1), timedelta(hours=1), timedelta(days=1), timedelta(days=90)):
        hub.world.clock.advance(passed)
        for name, ask in requests.items():
            assert ask().data == before[name], (name, passed)
