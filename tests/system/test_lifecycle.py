"""The main use over HTTP: a person creates, stops, starts, changes and deletes a workspace."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from localcloud.api_client import ApiClient
from localcloud.processes.process_tree import can_hold_machines
from localcloud.running_cloud import RunningCloud
from tests.system.records import Records, in_compute


def test_a_created_workspace_becomes_ready_and_says_how_to_connect(alice: ApiClient) -> None:
    """POST answers PROVISIONING at once; the machine's report makes the workspace READY."""
    made = alice.create(
        "api", metadata={"repo": "example/api", "branch": "main", "device_id": "laptop"}
    )
    assert made["status"] == "PROVISIONING"
    assert made["operation"]["kind"] == "CREATE"

    ready = alice.wait_until_settled(made["id"], "READY")

    assert ready["instance"]["status"] == "RUNNING"
    assert ready["instance"]["machine_type"] == "e2-standard-4"
    assert ready["error"] is None
    assert ready["stops_at"] > ready["last_connected_at"]
    connection = ready["connection"]
    if can_hold_machines():
        host, port = connection["host"], connection["port"]
        assert host.startswith("127.77.")
        assert connection["command"] == f"ssh -p {port} workspace@{host}"
    else:
        start = f"gcloud compute ssh workspace-{made['id']} "
        assert connection["command"].startswith(start)
    assert ready["metadata"] == {"repo": "example/api", "branch": "main", "device_id": "laptop"}


def test_a_stop_suspends_a_workspace_and_a_start_resumes_it(alice: ApiClient) -> None:
    """STOP keeps the memory; START needs no boot, so there is no report and no new generation."""
    workspace_id = alice.create("api")["id"]
    before = alice.wait_until_settled(workspace_id, "READY")

    assert alice.request("POST", f"/workspaces/{workspace_id}/stop").status_code == 202
    suspended = alice.wait_until_settled(workspace_id, "SUSPENDED")
    assert (suspended["instance"]["status"], suspended["stopped_because"]) == (
        "SUSPENDED",
        "requested",
    )
    assert suspended["stops_at"] is None
    assert alice.request("POST", f"/workspaces/{workspace_id}/stop").status_code == 200

    assert alice.request("POST", f"/workspaces/{workspace_id}/start").status_code == 202
    resumed = alice.wait_until_settled(workspace_id, "READY")
    assert resumed["instance"]["status"] == "RUNNING"
    assert resumed["generation"] == before["generation"]
    assert alice.request("POST", f"/workspaces/{workspace_id}/start").status_code == 200


def test_a_start_with_another_image_or_type_makes_a_new_machine_on_the_same_home_disk(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """The instance has another id, the home disk the same one; image and type are new."""
    workspace_id = alice.create("api")["id"]
    alice.wait_until_settled(workspace_id, "READY")
    [machine], disks = in_compute(cloud, "instances", workspace_id), _home(cloud, workspace_id)

    alice.start(workspace_id, image_tag="v2", machine_type="e2-standard-8")
    rebuilt = alice.wait_until_settled(workspace_id, "READY")

    [new_machine] = in_compute(cloud, "instances", workspace_id)
    assert new_machine["id"] != machine["id"]
    assert new_machine["machineType"].endswith("/e2-standard-8")
    assert _home(cloud, workspace_id) == disks
    assert (rebuilt["image_tag"], rebuilt["machine_type"], rebuilt["generation"]) == (
        "v2",
        "e2-standard-8",
        2,
    )


def test_a_deleted_workspace_leaves_nothing_behind(cloud: RunningCloud, alice: ApiClient) -> None:
    """Machine, disks, record and the owner's entry are gone; the id is 404 and the name is free."""
    workspace_id = alice.create("api")["id"]
    alice.wait_until_settled(workspace_id, "READY")

    deleting = alice.delete(workspace_id)
    assert deleting["operation"]["kind"] == "DELETE"
    alice.wait_until_gone(workspace_id)

    assert in_compute(cloud, "instances", workspace_id) == []
    assert in_compute(cloud, "disks", workspace_id) == []
    assert Records(cloud).workspace(workspace_id) == {}
    assert alice.workspaces() == []
    assert alice.request("DELETE", f"/workspaces/{workspace_id}").status_code == 404
    assert alice.create("api")["id"] != workspace_id


def test_a_workspace_that_is_deleted_during_its_create_leaves_nothing_behind(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """DELETE supersedes CREATE; the record stays until no worker can make a machine any more."""
    workspace_id = alice.create("api")["id"]
    assert alice.delete(workspace_id)["operation"]["kind"] == "DELETE"
    alice.wait_until_gone(workspace_id)

    assert in_compute(cloud, "instances", workspace_id) == []
    assert in_compute(cloud, "disks", workspace_id) == []


def test_another_verb_during_an_operation_is_refused_with_that_operation(
    alice: ApiClient,
) -> None:
    """409 names the operation; the same verb again returns the same operation."""
    workspace_id = alice.create("api")["id"]
    refused = alice.request("POST", f"/workspaces/{workspace_id}/stop")
    assert refused.status_code == 409
    assert refused.json()["code"] == "OPERATION_UNDER_WAY"
    assert refused.json()["operation"]["kind"] == "CREATE"

    alice.wait_until_settled(workspace_id, "READY")
    first = alice.stop(workspace_id)
    again = alice.stop(workspace_id)
    if again["operation"] is not None:  # else it was suspended already
        assert again["operation"]["id"] == first["operation"]["id"]


def test_a_repeated_idempotency_key_returns_the_same_workspace(alice: ApiClient) -> None:
    """With another body it is refused with 422, and after the workspace's deletion with 410."""
    key = str(uuid.uuid4())
    first = alice.create("api", key=key)
    assert alice.create("api", key=key)["id"] == first["id"]
    assert len(alice.workspaces()) == 1
    other = alice.request(
        "POST", "/workspaces", json={"name": "web"}, headers={"Idempotency-Key": key}
    )
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")

    alice.delete(first["id"])
    alice.wait_until_gone(first["id"])
    gone = alice.request(
        "POST", "/workspaces", json={"name": "api"}, headers={"Idempotency-Key": key}
    )
    assert (gone.status_code, gone.json()["code"]) == (410, "WORKSPACE_GONE")


def test_a_workspace_over_the_quota_or_with_a_taken_name_is_refused(alice: ApiClient) -> None:
    """The sixth workspace is refused with 403, a second one of the same name with 409."""
    alice.create("one")
    taken = alice.request("POST", "/workspaces", json={"name": "one"})
    assert (taken.status_code, taken.json()["code"]) == (409, "NAME_TAKEN")
    for name in ("two", "three", "four", "five"):
        alice.create(name)
    over = alice.request("POST", "/workspaces", json={"name": "six"})
    assert (over.status_code, over.json()["code"]) == (403, "QUOTA_EXCEEDED")
    assert "5" in over.json()["detail"]
    assert len(alice.workspaces()) == 5


def test_a_list_is_paged_newest_first_and_can_be_filtered(alice: ApiClient) -> None:
    """Each page has a Link to the next one, except the last."""
    for name in ("one", "two", "three"):
        alice.create(name)
    assert [ws["name"] for ws in alice.workspaces(limit=1)] == ["three", "two", "one"]
    assert [ws["name"] for ws in alice.workspaces(limit=2)] == ["three", "two", "one"]
    assert alice.workspaces(status="SUSPENDED") == []


def test_another_persons_workspace_is_answered_like_an_unknown_id(
    alice: ApiClient, new_person: Callable[[], ApiClient]
) -> None:
    """Every verb answers the same 404, and lists do not show it."""
    workspace_id = alice.create("api")["id"]
    stranger = new_person()
    unknown = str(uuid.uuid4())
    for method, path in (("GET", "/status"), ("POST", "/stop"), ("POST", "/start"), ("DELETE", "")):
        answers = [
            stranger.request(method, f"/workspaces/{each}{path}")
            for each in (workspace_id, unknown)
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].text.replace(workspace_id, unknown) == answers[1].text
    assert stranger.workspaces() == []
    assert [ws["id"] for ws in alice.workspaces()] == [workspace_id]


def test_a_request_without_a_valid_token_is_refused_with_a_reason(cloud: RunningCloud) -> None:
    """No header at the function's own URL, and a forged token, are answered with 401."""
    nobody = ApiClient(cloud.function_url("list_workspaces"), None)
    refused = nobody.request("GET", "/workspaces")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert "Authorization" in refused.json()["detail"]
    forged = ApiClient(cloud.address, cloud.token("alice@example.com")[:-4] + "AAAA")
    assert forged.request("GET", "/workspaces").status_code == 401


def _home(cloud: RunningCloud, workspace_id: str) -> list[tuple[str, str]]:
    return [
        (disk["name"], disk["id"])
        for disk in in_compute(cloud, "disks", workspace_id)
        if "home" in disk["name"]
    ]
