"""Another's workspace and one that is not there are answered alike, and cost the same: neither answers nor work tell which ids exist."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from shared.domain.instance import InsertInstance, Place
from shared.domain.workspace import OperationKind, Status
from shared.usecases.trail import Trail
from tests.fakes.interruptions import Interruptions
from tests.fakes.machines import FakeInstance
from tests.fakes.records import INSTANCE_ID, a_workspace, an_operation

if TYPE_CHECKING:
    from werkzeug.test import TestResponse

    from shared.domain.workspace import Workspace
    from tests.functions.conftest import Functions


HEADERS = {"X-Request-Id": "the-same"}


def _reports(event: str) -> Callable[[Functions, str], TestResponse]:
    """Return how a machine of another workspace reports that."""

    def report(hub: Functions, workspace_id: str) -> TestResponse:
        place = Place("us-west1-a", "workspace-of-mallory")
        made = InsertInstance(place, "", "", "", "", "", 3, "", False, None, None)
        sender = FakeInstance(INSTANCE_ID, place, made, 3, labels={}, heartbeat_interval=None)
        target = replace(a_workspace(), id=workspace_id)
        return hub.report(target, {"event": event, "generation": 3}, machine=sender)

    return report


REQUESTS: dict[str, Callable[[Functions, str], TestResponse]] = {
    "status": lambda hub, workspace_id: hub.status(workspace_id, headers=HEADERS),
    "events": lambda hub, workspace_id: hub.events(workspace_id, headers=HEADERS),
    "events, a page": lambda hub, workspace_id: hub.events(
        workspace_id, "?limit=1", headers=HEADERS
    ),
    "stop": lambda hub, workspace_id: hub.stop(workspace_id, headers=HEADERS),
    "start": lambda hub, workspace_id: hub.start(workspace_id, headers=HEADERS),
    "start with another machine": lambda hub, workspace_id: hub.start(
        workspace_id, {"machine_type": "e2-standard-8"}, headers=HEADERS
    ),
    "delete": lambda hub, workspace_id: hub.delete(workspace_id, headers=HEADERS),
    "ready": _reports("ready"),
    "heartbeat": _reports("heartbeat"),
    "failed": _reports("failed"),
}
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


@dataclass(frozen=True)
class StepInput:
    """What came of some requests: answers without the ids that were asked for, and the calls of each port, in order."""

    answers: list[tuple[int, bytes, list[tuple[str, str]]]]
    calls: list[str]
    events: list[tuple[str, int]]


def asked(
    hub: Functions, request: Callable[[Functions, str], TestResponse], workspace_ids: list[str]
) -> StepInput:
    """Ask an instance that has just begun for these workspaces, one after the other."""
    ports = Interruptions()
    world = hub.world
    store = ports.around("store", world.store)
    hub.have("store", store)
    hub.have("trail", ports.around("trail", Trail(store, world.clock)))
    hub.have("machines", ports.around("machines", world.machines))
    hub.have("operation_jobs", ports.around("jobs", world.operations))
    hub.have("provision_jobs", ports.around("jobs", world.provisioning))
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
    return StepInput(
        answers, ports.calls, [(event.what, event.times) for event in world.store.events]
    )


@pytest.mark.parametrize("state", FOREIGN)
@pytest.mark.parametrize("name", REQUESTS)
def test_a_foreign_id_and_an_unknown_one_cost_and_get_the_same(
    hub: Functions, name: str, state: str
) -> None:
    """The first request and repeated ones, one after the other and mixed: each call, each answer and each event."""
    request, theirs = REQUESTS[name], FOREIGN[state]
    hub.world.store.put(theirs)

    foreign = asked(hub, request, [theirs.id] * 3)

    assert {status for status, _, _ in foreign.answers} == {
        403 if name in {"ready", "heartbeat", "failed"} else 404
    }
    assert foreign == asked(hub, request, [UNKNOWN] * 3)
    assert foreign == asked(hub, request, [theirs.id, UNKNOWN, theirs.id])
    assert foreign == asked(hub, request, [UNKNOWN, theirs.id, UNKNOWN])
    assert foreign.calls.count("store.get") == 3
    assert foreign.calls.count("store.commit") == 1
    assert not [call for call in foreign.calls if call.startswith(("machines.", "jobs."))]


@pytest.mark.parametrize("name", REQUESTS)
def test_the_rest_is_counted_alike_too(hub: Functions, name: str) -> None:
    """What is written at the end stands for as many."""
    theirs = FOREIGN["READY"]
    hub.world.store.put(theirs)
    written = []
    for workspace_id in (theirs.id, UNKNOWN):
        store = hub.world.store
        trail = Trail(store, hub.world.clock)
        hub.have("trail", trail)
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
