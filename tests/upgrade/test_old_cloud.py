"""What an earlier version left in Firestore and Compute, used over HTTP in today's local cloud."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud
from shared.boot.user_data import user_data
from tests.system.records import in_compute
from tests.upgrade.capture import USER_DATA
from tests.upgrade.versions import VERSIONS, Document, Version, named

PATIENCE_SECONDS = 20.0


@pytest.fixture(params=VERSIONS, ids=named)
def version(request: pytest.FixtureRequest) -> Version:
    """Each earlier version."""
    found: Version = request.param
    return found


def test_a_suspended_old_machine_is_resumed_stopped_and_deleted(
    cloud: RunningCloud, version: Version
) -> None:
    """It reports as before, and its deletion leaves neither machine nor disk."""
    old = OldHub(cloud, version)
    workspace = old.leave("SUSPENDED, machine SUSPENDED", "suspend")
    person = old.owner_of(workspace)

    person.start(workspace["id"])
    resumed = person.wait_until_settled(workspace["id"], "READY")
    person.stop(workspace["id"])
    person.wait_until_settled(workspace["id"], "SUSPENDED")
    person.delete(workspace["id"])
    person.wait_until_gone(workspace["id"])

    assert resumed["generation"] == workspace["generation"]
    assert [
        *in_compute(cloud, "instances", workspace["id"]),
        *in_compute(cloud, "disks", workspace["id"]),
    ] == []


def test_an_old_machine_that_is_off_boots_with_todays_boot_files(
    cloud: RunningCloud, version: Version
) -> None:
    """It gets all the metadata that a new machine would get, and becomes READY."""
    old = OldHub(cloud, version)
    workspace = old.leave("SUSPENDED, machine TERMINATED", "stop")
    person = old.owner_of(workspace)
    (machine,) = in_compute(cloud, "instances", workspace["id"])
    assert _metadata(machine)["user-data"] == version.user_data

    person.start(workspace["id"])
    booted = person.wait_until_settled(workspace["id"], "READY")

    (machine,) = in_compute(cloud, "instances", workspace["id"])
    assert _metadata(machine)["user-data"] == user_data()
    assert _metadata(machine)["hub-generation"] == str(booted["generation"])
    assert machine["id"] == workspace["instance_id"]
    person.delete(workspace["id"])
    person.wait_until_gone(workspace["id"])
    assert in_compute(cloud, "disks", workspace["id"]) == []


class OldHub:
    """Puts what a version left into a running cloud."""

    def __init__(self, cloud: RunningCloud, version: Version) -> None:
        self._cloud = cloud
        self._version = version
        with mock.patch.dict(
            os.environ, {"FIRESTORE_EMULATOR_HOST": cloud.state["services"]["firestore"]}
        ):
            self._documents = firestore.Client(
                project=cloud.state["project_id"],
                credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            )
        compute, project = cloud.state["services"]["compute"], cloud.state["project_id"]
        self._zones = f"{compute}/compute/v1/projects/{project}/zones"

    def leave(self, name: str, then: str) -> Document:
        """Create a situation, turn its machine off by ``then``, and return the workspace."""
        situation = self._version.situations[name]
        (resource,) = situation["instances"]
        machine = self._insert(resource, situation["disks"])
        self._await(machine, lambda seen: seen["status"] == "RUNNING")
        self._post(f"{self._url(machine)}/{then}", {})
        machine = self._await(machine, lambda seen: seen["status"] == resource["status"])
        later = datetime.now(UTC) - situation["workspace"]["updated_at"]
        workspace: Document = _later(
            {**situation["workspace"], "instance_id": machine["id"]}, later
        )
        owner: Document = _later(situation["owner"], later)
        self._documents.document(f"owners/o-{owner['id']}").set(owner)
        self._documents.document(f"workspaces/{workspace['id']}").set(workspace)
        return workspace

    def owner_of(self, workspace: Document) -> ApiClient:
        """Return the client of the workspace's owner."""
        token = self._cloud.token(workspace["owner_email"], sub=workspace["owner_id"])
        return ApiClient(self._cloud.address, token)

    def _insert(self, resource: Document, disks: list[Document]) -> Document:
        """Create the machine as the version did, with its boot files, labels and disk names."""
        hub = self._cloud.state["environment"]["HUB_REPORT_WORKSPACE_URL"]
        metadata = _metadata(resource)
        metadata |= {
            "user-data": self._version.user_data,
            "hub-audience": hub,
            "hub-reports-url": f"{hub}/workspaces/{metadata['hub-workspace-id']}/reports",
        }
        assert _metadata(resource)["user-data"] == USER_DATA
        sizes = {disk["name"]: disk for disk in disks}
        kept = ("name", "labels", "networkInterfaces", "serviceAccounts", "scheduling", "tags")
        body: Document = {name: resource[name] for name in kept if name in resource}
        body |= {
            "machineType": resource["machineType"].partition("/projects/")[2].partition("/")[2],
            "metadata": {
                "items": [{"key": key, "value": value} for key, value in metadata.items()]
            },
            "disks": [
                _new_disk(attached, sizes[_last(attached["source"])])
                for attached in resource["disks"]
            ],
        }
        zone = _last(resource["zone"])
        self._post(f"{self._zones}/{zone}/instances", body)
        return {"name": resource["name"], "zone": zone}

    def _await(self, machine: Document, until: Callable[[Document], bool]) -> Document:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not until(seen := requests.get(self._url(machine), timeout=10).json()):
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)
        return {**machine, "id": seen["id"]}

    def _url(self, machine: Document) -> str:
        return f"{self._zones}/{machine['zone']}/instances/{machine['name']}"

    @staticmethod
    def _post(url: str, body: Document) -> None:
        answer = requests.post(url, json=body, timeout=10)
        assert answer.ok, answer.text


def _new_disk(attached: Document, disk: Document) -> Document:
    made = {"diskName": disk["name"], "diskSizeGb": disk["sizeGb"], "labels": disk["labels"]}
    if "sourceImage" in disk:
        made["sourceImage"] = disk["sourceImage"]
    kept: Document = {
        name: attached[name] for name in ("boot", "autoDelete", "deviceName") if name in attached
    }
    return {**kept, "initializeParams": made}


def _last(url: str) -> str:
    return url.rpartition("/")[2]


def _metadata(resource: Document) -> dict[str, str]:
    return {item["key"]: item["value"] for item in resource["metadata"]["items"]}


def _later(value: Any, by: timedelta) -> Any:
    """Return a value with all its moments moved by a time."""
    if isinstance(value, datetime):
        return value + by
    if isinstance(value, dict):
        return {name: _later(part, by) for name, part in value.items()}
    return [_later(part, by) for part in value] if isinstance(value, list) else value
