"""A foreign and an unknown workspace get the same answers at the same cost.

So neither answers nor work reveal which ids exist.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from werkzeug.test import TestResponse

from shared.domain.snapshots import Snapshot, SnapshotState
from shared.domain.workspace import OperationKind, Status, Workspace
from shared.usecases.audit import AuditTrail
from tests.fakes.interruptions import Interruptions
from tests.fakes.records import a_snapshot, a_workspace, an_operation
from tests.functions.conftest import Functions, a_machine_named

HEADERS = {"X-Request-Id": "the-same"}


def _reports(event: str) -> Callable[[Functions, str], TestResponse]:
    """Return a function by which a machine of another workspace reports an event."""

    def report(hub: Functions, workspace_id: str) -> TestResponse:
        sender = a_machine_named("workspace-of-mallory")
        target = replace(a_workspace(), id=workspace_id)
        return hub.report(target, {"event": event, "generation": 3}, machine=sender)

    return report


FOREIGN: dict[str, Workspace] = {
    "READY": a_workspace(owner_id="bob"),
    "SUSPENDED": a_workspace(Status.SUSPENDED, owner_id="bob"),
    "ERROR": a_workspace(Status.ERROR, owner_id="bob"),
    "being made": a_workspace(
        Status.PROVISIONING, an_operation(OperationKind.CREATE), owner_id="bob", instance_id=None
    ),
    "being deleted": a_workspace(Status.READY, an_operation(OperationKind.DELETE), owner_id="bob"),
}
UNKNOWN = str(uuid.uuid4())
BOBS_SNAPSHOT = a_snapshot(FOREIGN["READY"])
# Snapshots that Alice, and Grace, the administrator, may not make a workspace from.
NOT_THEIRS: dict[str, Snapshot] = {
    "READY": BOBS_SNAPSHOT,
    **{
        state.value: a_snapshot(FOREIGN["READY"], state=state)
        for state in SnapshotState
        if state is not SnapshotState.READY
    },
    "of a workspace that is gone": a_snapshot(owner_id="bob"),
}
REQUESTS: dict[str, Callable[[Functions, str], TestResponse]] = {
    "get": lambda hub, workspace_id: hub.get(workspace_id, headers=HEADERS),
    "connect": lambda hub, workspace_id: hub.connect(workspace_id, headers=HEADERS),
    "connect and start": lambda hub, workspace_id: hub.connect(
        workspace_id, {"device_id": "laptop", "start": True}, headers=HEADERS
    ),
    "connect as administrator": lambda hub, workspace_id: hub.connect(
        workspace_id, {"start": True}, headers=HEADERS, token="grace"
    ),
    "status": lambda hub, workspace_id: hub.status(workspace_id, headers=HEADERS),
    "events": lambda hub, workspace_id: hub.events(workspace_id, headers=HEADERS),
    "events, a page": lambda hub, workspace_id: hub.events(
        workspace_id, "?limit=1", headers=HEADERS
    ),
    "stop": lambda hub, workspace_id: hub.stop(workspace_id, headers=HEADERS),
    "archive": lambda hub, workspace_id: hub.archive(workspace_id, headers=HEADERS),
    "start": lambda hub, workspace_id: hub.start(workspace_id, headers=HEADERS),
    "start with another machine": lambda hub, workspace_id: hub.start(
        workspace_id, {"machine_type": "e2-standard-8"}, headers=HEADERS
    ),
    "start that may move": lambda hub, workspace_id: hub.start(
        workspace_id, {"may_move": True}, headers=HEADERS
    ),
    "start in another zone": lambda hub, workspace_id: hub.start(
        workspace_id, {"zone": "us-west1-b"}, headers=HEADERS
    ),
    "start with a larger home": lambda hub, workspace_id: hub.start(
        workspace_id, {"home_disk_gb": 100}, headers=HEADERS
    ),
    "dry run of an archive": lambda hub, workspace_id: hub.archive(
        workspace_id, headers=HEADERS, query_string="dry_run=true"
    ),
    "dry run of a stop": lambda hub, workspace_id: hub.stop(
        workspace_id, headers=HEADERS, query_string="dry_run=true"
    ),
    "dry run of a start": lambda hub, workspace_id: hub.start(
        workspace_id, headers=HEADERS, query_string="dry_run=true"
    ),
    "dry run of a delete": lambda hub, workspace_id: hub.delete(
        workspace_id, headers=HEADERS, query_string="dry_run=true"
    ),
    "keep awake": lambda hub, workspace_id: hub.keep_awake(
        workspace_id, "2026-03-02T12:00:00Z", headers=HEADERS
    ),
    "delete": lambda hub, workspace_id: hub.delete(workspace_id, headers=HEADERS),
    "snapshots": lambda hub, workspace_id: hub.snapshots(workspace_id, headers=HEADERS),
    "snapshot": lambda hub, workspace_id: hub.snapshot(workspace_id, headers=HEADERS),
    "snapshot with a name": lambda hub, workspace_id: hub.snapshot(
        workspace_id, {"name": "one"}, headers=HEADERS
    ),
    "delete its snapshot": lambda hub, workspace_id: hub.delete_snapshot(
        workspace_id, BOBS_SNAPSHOT.id, headers=HEADERS
    ),
    "delete an unknown snapshot": lambda hub, workspace_id: hub.delete_snapshot(
        workspace_id, UNKNOWN, headers=HEADERS
    ),
    "restore": lambda hub, workspace_id: hub.restore(
        workspace_id, BOBS_SNAPSHOT.id, headers=HEADERS
    ),
    "restore as administrator": lambda hub, workspace_id: hub.restore(
        workspace_id, BOBS_SNAPSHOT.id, headers=HEADERS, token="grace"
    ),
    "dry run of a restore": lambda hub, workspace_id: hub.restore(
        workspace_id, BOBS_SNAPSHOT.id, headers=HEADERS, query_string="dry_run=true"
    ),
    "undelete": lambda hub, workspace_id: hub.undelete(workspace_id, headers=HEADERS),
    "ready": _reports("ready"),
    "heartbeat": _reports("heartbeat"),
    "failed": _reports("failed"),
}


@dataclass(frozen=True)
class Outcome:
    """The answers to some requests, without their ids, and the calls of each port, in order."""

    answers: list[tuple[int, bytes, list[tuple[str, str]]]]
    calls: list[str]
    events: list[tuple[str, int]]


def outcome_of(
    hub: Functions, request: Callable[[Functions, str], TestResponse], workspace_ids: list[str]
) -> Outcome:
    """Send a request for each of these workspaces to an instance that has just started."""
    ports = Interruptions()
    world = hub.world
    store = ports.around("store", world.store)
    hub.replace_part("store", store)
    hub.replace_part("audit", ports.around("audit", AuditTrail(store, world.clock)))
    hub.replace_part("machines", ports.around("machines", world.machines))
    hub.replace_part("operation_jobs", ports.around("jobs", world.operations))
    hub.replace_part("provision_jobs", ports.around("jobs", world.provisioning))
    world.store.events.clear()
    answers = []
    for workspace_id in workspace_ids:
        answer = request(hub, workspace_id)
        headers = [
            (name, value) for name, value in answer.headers.items() if name != "X-Request-Id"
        ]
        answers.append(
            (answer.status_code, answer.data.replace(workspace_id.encode(), b"the id"), headers)
        )
    return Outcome(
        answers, ports.calls, [(event.what, event.times) for event in world.store.events]
    )


@pytest.mark.parametrize("state", FOREIGN)
@pytest.mark.parametrize("name", REQUESTS)
def test_a_foreign_and_an_unknown_id_get_the_same_at_the_same_cost(
    hub: Functions, name: str, state: str
) -> None:
    """Each call, answer and event is the same for first, repeated and mixed requests."""
    request, theirs = REQUESTS[name], FOREIGN[state]
    hub.world.store.put(theirs)
    hub.world.store.put_snapshots(BOBS_SNAPSHOT)

    foreign = outcome_of(hub, request, [theirs.id] * 3)

    assert {status for status, _, _ in foreign.answers} == {
        403 if name in {"ready", "heartbeat", "failed"} else 404
    }
    assert foreign == outcome_of(hub, request, [UNKNOWN] * 3)
    assert foreign == outcome_of(hub, request, [theirs.id, UNKNOWN, theirs.id])
    assert foreign == outcome_of(hub, request, [UNKNOWN, theirs.id, UNKNOWN])
    assert foreign.calls.count("store.get") == 3
    assert foreign.calls.count("store.commit") == 1
    assert not [call for call in foreign.calls if call.startswith(("machines.", "jobs."))]


@pytest.mark.parametrize("name", REQUESTS)
def test_refusals_of_both_are_counted_alike(hub: Functions, name: str) -> None:
    """The events written at the end count the same number."""
    theirs = FOREIGN["READY"]
    hub.world.store.put(theirs)
    written = []
    for workspace_id in (theirs.id, UNKNOWN):
        store = hub.world.store
        trail = AuditTrail(store, hub.world.clock)
        hub.replace_part("audit", trail)
        store.events.clear()
        for _ in range(3):
            REQUESTS[name](hub, workspace_id)
        trail.write_counted()
        written.append(
            [
                (event.what, event.times, event.workspace_id == workspace_id)
                for event in store.events
            ]
        )
    assert written[0] == written[1]
    assert [times for _, times, _ in written[0]] == [1, 2]


SOURCES: dict[str, Callable[[Functions, str], TestResponse]] = {
    "fork": lambda hub, snapshot_id: hub.fork(snapshot_id, headers=HEADERS),
    "fork as administrator": lambda hub, snapshot_id: hub.fork(
        snapshot_id, headers=HEADERS, token="grace"
    ),
    "dry run of a fork": lambda hub, snapshot_id: hub.fork(
        snapshot_id, headers=HEADERS, query_string="dry_run=true"
    ),
}


@pytest.mark.parametrize("state", NOT_THEIRS)
@pytest.mark.parametrize("name", SOURCES)
def test_a_foreign_and_an_unknown_snapshot_get_the_same_at_the_same_cost(
    hub: Functions, name: str, state: str
) -> None:
    """Nobody makes a workspace from another's snapshot, or learns that it exists or its state."""
    request, theirs = SOURCES[name], NOT_THEIRS[state]
    hub.world.store.put(FOREIGN["READY"])
    hub.world.store.put_snapshots(theirs)

    foreign = outcome_of(hub, request, [theirs.id] * 3)

    assert {status for status, _, _ in foreign.answers} == {404}
    assert foreign == outcome_of(hub, request, [UNKNOWN] * 3)
    assert foreign == outcome_of(hub, request, [theirs.id, UNKNOWN, theirs.id])
    assert foreign == outcome_of(hub, request, [UNKNOWN, theirs.id, UNKNOWN])
    assert foreign.calls.count("store.get_snapshot") == 3
    assert not [call for call in foreign.calls if call.startswith(("machines.", "jobs."))]
    assert not [each for each in hub.world.store.workspaces.values() if each.owner_id != "bob"]


@pytest.mark.parametrize(
    ("verb", "token"),
    [
        (Functions.delete_snapshot, "alice"),
        (Functions.delete_snapshot, "grace"),
        (Functions.restore, "alice"),
    ],
)
def test_another_workspaces_snapshot_is_as_an_unknown_one(
    hub: Functions, verb: Callable[..., TestResponse], token: str
) -> None:
    """A snapshot of one's own other workspace is not found there either."""
    mine, other = a_workspace(), a_workspace(name="two")
    of_other = a_snapshot(other)
    hub.world.store.put(mine, other, FOREIGN["READY"])
    hub.world.store.put_snapshots(of_other, BOBS_SNAPSHOT)

    def ask(hub: Functions, snapshot_id: str) -> TestResponse:
        return verb(hub, mine.id, snapshot_id, headers=HEADERS, token=token)

    unknown = outcome_of(hub, ask, [UNKNOWN] * 2)

    assert {status for status, _, _ in unknown.answers} == {404}
    for snapshot in (of_other, BOBS_SNAPSHOT):
        assert outcome_of(hub, ask, [snapshot.id] * 2) == unknown
    assert set(hub.world.store.snapshots.values()) == {of_other, BOBS_SNAPSHOT}
