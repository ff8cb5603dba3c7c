"""Signing in, connecting and names, at a running Hub's public address."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from typing import Any

import pytest
import requests

from localcloud.api_client import ApiClient
from localcloud.processes import process_tree
from localcloud.running_cloud import RunningCloud


@pytest.fixture
def alice(cloud: RunningCloud) -> ApiClient:
    """A person of the test's own."""
    return ApiClient(cloud.address, cloud.token(f"{uuid.uuid4().hex}@example.com"))


def connect(person: ApiClient, workspace_id: str, body: object = None) -> requests.Response:
    """Say that a person connects."""
    path = f"/workspaces/{workspace_id}/connect"
    return person.request("POST", path, **({} if body is None else {"json": body}))


def test_anybody_can_ask_how_to_sign_in(cloud: RunningCloud) -> None:
    """It is the one answer of the Hub that people's programs get before they have a token."""
    answer = ApiClient(cloud.address, None).request("GET", "/sign-in")

    assert answer.status_code == 200
    told = answer.json()
    assert (told["address"], told["methods"]) == (cloud.address, [{"kind": "local"}])
    assert told["connect"]["kind"] == "direct"


def test_who_wants_in_gets_into_a_suspended_workspace(alice: ApiClient) -> None:
    """A program that reconnects does not wake it; a person does, and it is known from where."""
    workspace_id = alice.create("api")["id"]
    alice.wait_until_settled(workspace_id, "READY")
    alice.stop(workspace_id)
    alice.wait_until_settled(workspace_id, "SUSPENDED")

    reconnects = connect(alice, workspace_id, {"device_id": "laptop", "start": False})
    wants_in = connect(alice, workspace_id, {"device_id": "phone", "start": True})
    alice.wait_until_settled(workspace_id, "READY")
    asks = connect(alice, workspace_id)

    assert [answer.status_code for answer in (reconnects, wants_in, asks)] == [200, 202, 200]
    assert reconnects.json()["status"] == "SUSPENDED"
    assert [each.json()["last_device_id"] for each in (reconnects, asks)] == ["laptop", "phone"]
    assert alice.request("GET", f"/workspaces/{workspace_id}").json()["status"] == "READY"


def test_a_name_can_be_used_again_at_once(alice: ApiClient) -> None:
    """The first workspace is still there when the second one is made."""
    first = alice.create("api")
    alice.delete(first["id"])
    second = alice.create("api")

    assert second["id"] != first["id"]
    alice.wait_until_gone(first["id"])
    alice.wait_until_settled(second["id"], "READY")
    assert [each["id"] for each in alice.workspaces(name="api")] == [second["id"]]


def shown_key(connection: dict[str, Any]) -> str:
    """Return the key that the SSH server proves to whoever connects."""
    command = ["ssh-keyscan", "-t", "ed25519", "-p", str(connection["port"]), connection["host"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return " ".join(done.stdout.split()[-2:])


@pytest.mark.skipif(
    not (process_tree.can_hold_machines() and shutil.which("ssh-keyscan")),
    reason="needs Linux and OpenSSH",
)
def test_the_hub_tells_the_host_key_of_the_present_machine(alice: ApiClient) -> None:
    """It stays with the machine, and another machine on the same home has another one."""
    workspace_id = alice.create("api")["id"]
    alice.wait_until_settled(workspace_id, "READY")

    first = connect(alice, workspace_id).json()["connection"]
    alice.stop(workspace_id)
    alice.wait_until_settled(workspace_id, "SUSPENDED")
    alice.start(workspace_id)
    resumed = alice.wait_until_settled(workspace_id, "READY")["connection"]
    alice.start(workspace_id, rebuild=True)
    remade = alice.wait_until_settled(workspace_id, "READY")["connection"]

    assert first["host_key"] == resumed["host_key"] != remade["host_key"]
    assert first["instance_id"] == resumed["instance_id"] != remade["instance_id"]
    assert shown_key(remade) == remade["host_key"]
    assert remade["command"] == f"ssh -p {remade['port']} workspace@{remade['host']}"
