"""No log line and no event has a token; ``conftest.py`` checks that again after all tests."""

from __future__ import annotations

import uuid

from localcloud.api_client import ApiClient
from localcloud.catalogue import read_catalogue
from localcloud.running_cloud import RunningCloud
from tests.processes import eventually
from tests.system.records import Records, call_scheduled
from tests.system.token_leaks import leaks


def test_no_log_line_and_no_event_has_a_token(cloud: RunningCloud) -> None:
    """Accepted, refused and misplaced tokens are sent to every function; each logs the request."""
    token, other_token = (cloud.token(f"{uuid.uuid4()}@example.com") for _ in range(2))
    alice, bob = ApiClient(cloud.address, token), ApiClient(cloud.address, other_token)
    workspace_id = alice.create("api")["id"]
    alice.wait_until_settled(workspace_id, "READY")
    alice.workspaces(status="READY")
    assert bob.request("DELETE", f"/workspaces/{workspace_id}").status_code == 404
    for name in ("cleanup", "reconcile"):
        call_scheduled(cloud, name)
    for function in read_catalogue().functions:
        person = ApiClient(cloud.function_url(function.name), token)
        path = function.routes[0].path.replace("{workspace_id}", token) if function.routes else "/"
        person.request(
            "GET", path, headers={"X-Request-Id": token, "X-Goog-IAP-JWT-Assertion": token}
        )
        ApiClient(cloud.function_url(function.name), token[:-8] + "tampered").request(
            "POST", path, json={"name": token}
        )
    alice.delete(workspace_id)
    alice.wait_until_gone(workspace_id)

    assert Records(cloud).events(workspace_id)
    assert all(
        "RequestAnswered" in cloud.log(name)
        for name in ("list_workspaces", "delete_workspace", "cleanup")
    )
    assert eventually(lambda: f"{workspace_id}" in cloud.log("advance_operation"))
    signatures = [each.rpartition(".")[2] for each in (token, other_token)]
    assert leaks(cloud, [token, other_token, *signatures]) == []
