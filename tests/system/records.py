"""Firestore and Compute of a local cloud, as a test looks at them or moves them in time."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import grpc
import requests
from google.api_core.exceptions import FailedPrecondition
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.types import PubsubMessage

from localcloud.client import RunningCloud


class Records:
    """The documents of a running cloud."""

    def __init__(self, cloud: RunningCloud) -> None:
        with mock.patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": cloud.state["services"]["firestore"]}):
            self._client = firestore.Client(project=cloud.state["project_id"], credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]

    def workspace(self, workspace_id: str) -> dict[str, Any]:
        """Return a workspace's document; empty when there is none."""
        return self._client.collection("workspaces").document(workspace_id).get().to_dict() or {}

    def events(self, workspace_id: str) -> list[dict[str, Any]]:
        """Return the events of a workspace."""
        mine = FieldFilter("workspace_id", "==", workspace_id)
        return [event.to_dict() or {} for event in self._client.collection("events").where(filter=mine).stream()]

    def every_event(self) -> list[dict[str, Any]]:
        """Return the events of everything."""
        return [event.to_dict() or {} for event in self._client.collection("events").stream()]

    def write(self, workspace_id: str, **fields: Any) -> None:
        """Write fields of a workspace's document, as something that bypasses the Hub would."""
        self._client.collection("workspaces").document(workspace_id).update(fields)

    def delete(self, workspace_id: str) -> None:
        """Delete a workspace's document, as above."""
        self._client.collection("workspaces").document(workspace_id).delete()

    def pass_deadline(self, workspace_id: str, of: Callable[[dict[str, Any]], bool]) -> None:
        """Have the deadline of the operation that is under way pass now, at which `reconcile` looks: the test's way to wait for minutes.

        Nothing is written if none is under way, if it is not one that the test waits for, or if the Hub writes at the same moment.
        """
        document = self._client.collection("workspaces").document(workspace_id)
        found = document.get()
        operation = (found.to_dict() or {}).get("operation")
        now = datetime.now(UTC)
        if operation and operation["deadline_at"] > now and of(operation):
            unchanged = self._client.write_option(last_update_time=found.update_time)
            with contextlib.suppress(FailedPrecondition):
                document.update({"operation.deadline_at": now, "attend_at": now}, option=unchanged)

    def owners(self) -> dict[str, dict[str, Any]]:
        """Return what each owner's document holds: by the owner, a map from a workspace's id."""
        documents = self._client.collection("owners").stream()
        return {document.id: (document.to_dict() or {}).get("workspaces", {}) for document in documents}

    def write_owner(self, owner_id: str, **fields: Any) -> None:
        """Write fields of an owner's document, as above."""
        self._client.collection("owners").document(f"o-{owner_id}").update(fields)

    def age(self, workspace_id: str, field: str, by: timedelta) -> None:
        """Have something happened earlier than it did: the test's way to wait for days."""
        self.write(workspace_id, **{field: datetime.now(UTC) - by})


def publish(cloud: RunningCloud, topic: str, data: bytes) -> None:
    """Publish a message as anybody with the right to could."""
    with grpc.insecure_channel(cloud.state["services"]["pubsub"]) as channel:
        client = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        path = PublisherClient.topic_path(cloud.state["project_id"], topic)
        client.publish(topic=path, messages=[PubsubMessage(data=data)], timeout=10)


def in_compute(cloud: RunningCloud, kind: str, workspace_id: str) -> list[dict[str, Any]]:
    """Return the `instances` or `disks` of a workspace that Compute has; of all workspaces, where its id is empty."""
    url = f"{cloud.state['services']['compute']}/compute/v1/projects/{cloud.state['project_id']}/aggregated/{kind}"
    found: list[dict[str, Any]] = []
    token: str | None = ""
    while token is not None:
        answer = requests.get(url, params={"pageToken": token} if token else {}, timeout=10)
        answer.raise_for_status()
        page = answer.json()
        found += [
            item for scope in page["items"].values() for item in scope.get(kind, []) if workspace_id in item["name"]
        ]
        token = page.get("nextPageToken")
    return found


def by_workspace(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return instances or disks by the id of the workspace that they are labelled with; of any other workspace none."""
    sorted_out: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in found:
        sorted_out[each["labels"]["workspace"]].append(each)
    return sorted_out


def stop_by_hand(cloud: RunningCloud, workspace: dict[str, Any]) -> None:
    """Stop a workspace's machine in Compute, as somebody with the right to could."""
    requests.post(f"{_instance_url(cloud, workspace)}/stop", timeout=10).raise_for_status()


def delete_by_hand(cloud: RunningCloud, workspace: dict[str, Any]) -> None:
    """Delete a workspace's machine in Compute, as above."""
    requests.delete(_instance_url(cloud, workspace), timeout=10).raise_for_status()


def _instance_url(cloud: RunningCloud, workspace: dict[str, Any]) -> str:
    project, zone, name = (workspace[field] for field in ("project_id", "zone", "instance_name"))
    return f"{cloud.state['services']['compute']}/compute/v1/projects/{project}/zones/{zone}/instances/{name}"


def call_scheduled(cloud: RunningCloud, name: str) -> dict[str, Any]:
    """Call a scheduled function as the scheduler does, and return its report."""
    url = cloud.function_url(name)
    account = f"scheduler@{cloud.state['project_id']}.iam.gserviceaccount.com"
    token = cloud.token(account, audience=url)
    answer = requests.post(f"{url}/{name.replace('_', '-')}", headers={"Authorization": f"Bearer {token}"}, timeout=60)
    answer.raise_for_status()
    report: dict[str, Any] = answer.json()
    return report
