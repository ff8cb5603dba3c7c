"""The requests of the existing TypeScript client, unchanged, and what it reads in the answers.

It sends no Authorization header; the local gateway adds the developer's token.
"""

from __future__ import annotations

import requests

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud

FIELDS = {
    "id",
    "name",
    "instance_name",
    "status",
    "machine_type",
    "zone",
    "project_id",
    "created_at",
    "owner_id",
}


def test_the_existing_client_works_unchanged(cloud: RunningCloud) -> None:
    """It reads a list as a bare array, creates with and without machineType, connects, deletes."""
    developer = ApiClient(cloud.address, None)
    for left in developer.workspaces():
        developer.delete(left["id"])
        developer.wait_until_gone(left["id"])

    plain = requests.post(f"{cloud.address}/workspaces", json={"name": "plain"}, timeout=10)
    typed = requests.post(
        f"{cloud.address}/workspaces",
        json={"name": "typed", "machineType": "e2-standard-8"},
        timeout=10,
    )
    assert plain.ok
    assert typed.ok
    assert plain.json().keys() >= FIELDS
    assert plain.json()["owner_id"] == "dev-user-id"
    assert plain.json()["machine_type"] == "e2-standard-4"
    assert typed.json()["machine_type"] == "e2-standard-8"

    listed = requests.get(f"{cloud.address}/workspaces", timeout=10).json()
    assert isinstance(listed, list)
    assert {workspace["name"] for workspace in listed} == {"plain", "typed"}
    assert all(isinstance(workspace[field], str) for workspace in listed for field in FIELDS)

    for workspace in listed:  # a newer version also connects, with neither a body nor its type
        told = requests.post(f"{cloud.address}/workspaces/{workspace['id']}/connect", timeout=10)
        assert told.status_code == 200
        assert told.json().keys() >= {*FIELDS, "connection"}

    for workspace in listed:
        assert requests.delete(f"{cloud.address}/workspaces/{workspace['id']}", timeout=10).ok
        developer.wait_until_gone(workspace["id"])


def test_the_existing_client_can_show_why_a_request_was_refused(
    cloud: RunningCloud,
) -> None:
    """The text of the answer names the field and the characters that are allowed."""
    refused = requests.post(
        f"{cloud.address}/workspaces", json={"name": "no spaces allowed"}, timeout=10
    )
    assert refused.status_code == 400
    assert "name" in refused.text
    assert "letters" in refused.text
