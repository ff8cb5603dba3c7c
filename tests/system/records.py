"""Reads and changes the Firestore documents and the Compute resources of a local cloud."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import grpc
import requests
from google.api_core.exceptions import FailedPrecondition, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.types import PubsubMessage

from localcloud.running_cloud import RunningCloud
from shared.domain.machine_access import LOGIN_ROLE


class Records:
    """The Firestore documents of a running cloud."""

    def __init__(self, cloud: RunningCloud) -> None:
        with mock.patch.dict(
            os.environ, {"FIRESTORE_EMULATOR_HOST": cloud.state["services"]["firestore"]}
        ):
            self._client = firestore.Client(
                project=cloud.state["project_id"],
                credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            )

    def workspace(self, workspace_id: str) -> dict[str, Any]:
        """Return a workspace's document; empty if there is none."""
        return self._client.collection("workspaces").document(workspace_id).get().to_dict() or {}

    def events(self, workspace_id: str) -> list[dict[str, Any]]:
        """Return the events of a workspace."""
        mine = FieldFilter("workspace_id", "==", workspace_id)
        return [
            event.to_dict() or {}
            for event in self._client.collection("events").where(filter=mine).stream()
        ]

    def every_event(self) -> list[dict[str, Any]]:
        """Return the events of all workspaces."""
        return [event.to_dict() or {} for event in self._client.collection("events").stream()]

    def write(self, workspace_id: str, **fields: Any) -> None:
        """Write fields of a workspace's document without the Hub."""
        self._client.collection("workspaces").document(workspace_id).update(fields)

    def delete(self, workspace_id: str) -> None:
        """Delete a workspace's document without the Hub."""
        self._client.collection("workspaces").document(workspace_id).delete()

    def write_deleted(self, workspace_id: str, **fields: Any) -> None:
        """Write fields of a deleted workspace's entry without the Hub."""
        self._client.collection("deleted_workspaces").document(workspace_id).update(fields)

    def expire_deadline(self, workspace_id: str, of: Callable[[dict[str, Any]], bool]) -> None:
        """Move the deadline of a workspace's operation to now, and make it due for ``reconcile``.

        So a test need not wait for minutes. Nothing is written if no operation is under way, if
        ``of`` returns False for it, or if the Hub writes at the same moment.
        """
        document = self._client.collection("workspaces").document(workspace_id)
        found = document.get()
        operation = (found.to_dict() or {}).get("operation")
        now = datetime.now(UTC)
        if operation and operation["deadline_at"] > now and of(operation):
            unchanged = self._client.write_option(last_update_time=found.update_time)
            with contextlib.suppress(FailedPrecondition):
                document.update({"operation.deadline_at": now, "attend_at": now}, option=unchanged)

    def forget(self, workspace_id: str) -> bool:
        """Make a suspended workspace one that nobody has started for weeks, as was announced.

        The clean-up archives it then, if that is configured. Returns False, and writes nothing, if
        it is not suspended or archived already, if an operation is under way, or if the Hub writes
        at the same moment.
        """
        document = self._client.collection("workspaces").document(workspace_id)
        found = document.get()
        record = found.to_dict() or {}
        is_asleep = record.get("status") == "SUSPENDED" and not record.get("archived_at")
        if not is_asleep or record.get("operation"):
            return False
        now = datetime.now(UTC)
        unchanged = self._client.write_option(last_update_time=found.update_time)
        times = {
            "suspended_at": now - timedelta(days=20),
            "archive_announced_at": now - timedelta(days=4),
            "sweep_at": now - timedelta(days=1),  # before what is idle
        }
        try:
            document.update(times, option=unchanged)
        except (FailedPrecondition, NotFound):
            return False
        return True

    def snapshots(self, workspace_id: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the documents of a workspace's snapshots by id; None: of all workspaces."""
        found = self._client.collection("snapshots")
        mine = FieldFilter("workspace_id", "==", workspace_id)
        documents = found.stream() if workspace_id is None else found.where(filter=mine).stream()
        return {document.id: document.to_dict() or {} for document in documents}

    def hasten_snapshot(self, snapshot_id: str, *, if_later_than: timedelta) -> None:
        """Make a snapshot due for ``reconcile`` now, if it would be only after this time.

        Nothing is written if nothing is due for it, or if the Hub writes at the same moment.
        """
        document = self._client.collection("snapshots").document(snapshot_id)
        found = document.get()
        attend_at = (found.to_dict() or {}).get("attend_at")
        now = datetime.now(UTC)
        if attend_at and attend_at > now + if_later_than:
            unchanged = self._client.write_option(last_update_time=found.update_time)
            with contextlib.suppress(FailedPrecondition):
                document.update({"attend_at": now}, option=unchanged)

    def home_sources(self) -> dict[str, str]:
        """Return by workspace the id of the snapshot that its home is yet to be made from."""
        found = [each.to_dict() or {} for each in self._client.collection("workspaces").stream()]
        return {
            each["id"]: each["home_source"]["snapshot_id"]
            for each in found
            if each.get("home_source")
        }

    def deleted(self) -> dict[str, dict[str, Any]]:
        """Return the entries of the deleted workspaces that can be taken back, by id."""
        documents = self._client.collection("deleted_workspaces").stream()
        return {document.id: document.to_dict() or {} for document in documents}

    def homes(self) -> dict[str, tuple[str, dict[str, bool]]]:
        """Return by workspace the name of its home disk, and whether each old home is to go.

        An old one goes when a snapshot has all that was on it, or when that was deleted. The home
        need not exist yet.
        """
        states = {snapshot_id: each["state"] for snapshot_id, each in self.snapshots().items()}
        found = {}
        for document in self._client.collection("workspaces").stream():
            each = document.to_dict() or {}
            made = (each.get("home_disk") or {}).get("name")
            made = made or (each.get("home_source") or {}).get("new_disk")
            old = {
                old["name"]: old["snapshot_id"] is not None
                and states.get(old["snapshot_id"]) != "FAILED"
                for old in each.get("old_homes") or ()
            }
            found[document.id] = (made or f"home-{document.id}", old)
        return found

    def old_homes(self) -> dict[str, list[dict[str, Any]]]:
        """Return by workspace the disks that were its home, or were to be, as they are recorded."""
        documents = self._client.collection("workspaces").stream()
        return {
            document.id: (document.to_dict() or {}).get("old_homes") or [] for document in documents
        }

    def owners(self) -> dict[str, dict[str, Any]]:
        """Return the workspaces that each owner holds: by document id, a map from workspace id."""
        documents = self._client.collection("owners").stream()
        return {
            document.id: (document.to_dict() or {}).get("workspaces", {}) for document in documents
        }

    def write_owner(self, owner_id: str, **fields: Any) -> None:
        """Write fields of an owner's document without the Hub."""
        self._client.collection("owners").document(f"o-{owner_id}").update(fields)

    def age(self, workspace_id: str, field: str, by: timedelta) -> None:
        """Set a time of a workspace to this long ago, so that a test need not wait for days.

        The clean-up reads it at once, and decides by this time.
        """
        now = datetime.now(UTC)
        self.write(workspace_id, **{field: now - by, "sweep_at": now})


def publish(cloud: RunningCloud, topic: str, data: bytes) -> None:
    """Publish a message, as anybody with the permission can."""
    with grpc.insecure_channel(cloud.state["services"]["pubsub"]) as channel:
        client = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        path = PublisherClient.topic_path(cloud.state["project_id"], topic)
        client.publish(topic=path, messages=[PubsubMessage(data=data)], timeout=10)


def in_compute(cloud: RunningCloud, kind: str, workspace_id: str) -> list[dict[str, Any]]:
    """Return a workspace's ``instances`` or ``disks`` in Compute; all if its id is empty."""
    return [
        item
        for page in _pages(cloud, f"aggregated/{kind}")
        for scope in page["items"].values()
        for item in scope.get(kind, [])
        if workspace_id in item["name"]
    ]


def snapshots_in_compute(cloud: RunningCloud) -> list[dict[str, Any]]:
    """Return all snapshots in Compute."""
    return [item for page in _pages(cloud, "global/snapshots") for item in page.get("items", [])]


def _pages(cloud: RunningCloud, listed: str) -> Iterator[dict[str, Any]]:
    """Yield all pages of a list in Compute."""
    url = f"{_compute(cloud)}/projects/{cloud.state['project_id']}/{listed}"
    token: str | None = ""
    while token is not None:
        answer = requests.get(url, params={"pageToken": token} if token else {}, timeout=10)
        answer.raise_for_status()
        page: dict[str, Any] = answer.json()
        yield page
        token = page.get("nextPageToken")


def logins(cloud: RunningCloud, workspace: dict[str, Any], role: str = LOGIN_ROLE) -> list[str]:
    """Return who has a role in the policy of a workspace's machine."""
    policy = _show(
        cloud, f"{_instance_path(workspace)}/getIamPolicy?optionsRequestedPolicyVersion=3"
    )
    return [
        member
        for binding in policy["bindings"]
        if binding["role"] == role
        for member in binding["members"]
    ]


def by_workspace(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return instances or disks by their workspace label; an unknown workspace has none."""
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in found:
        grouped[each["labels"]["workspace"]].append(each)
    return grouped


def stop_by_hand(cloud: RunningCloud, workspace: dict[str, Any]) -> None:
    """Stop a workspace's machine in Compute, as anybody with the permission can."""
    requests.post(f"{_instance_url(cloud, workspace)}/stop", timeout=10).raise_for_status()


def delete_by_hand(cloud: RunningCloud, workspace: dict[str, Any]) -> None:
    """Delete a workspace's machine in Compute, as anybody with the permission can."""
    requests.delete(_instance_url(cloud, workspace), timeout=10).raise_for_status()


def unlabel_by_hand(
    cloud: RunningCloud,
    workspace: dict[str, Any],
    kind: str = "instances",
    labels: Collection[str] = ("workspace",),
) -> None:
    """Remove labels from a workspace's ``instances`` or ``disks``, and wait for the operations.

    The boot disk is among the disks.

    Raises:
        requests.HTTPError: Compute refuses the call, or its operation fails. The functions below
            raise it, too.
    """
    for each in in_compute(cloud, kind, workspace["id"]):
        kept = {key: value for key, value in each["labels"].items() if key not in labels}
        body = {"labels": kept, "labelFingerprint": each["labelFingerprint"]}
        _carry_out(cloud, "POST", f"{_path(each)}/setLabels", body)


def detach_by_hand(cloud: RunningCloud, workspace: dict[str, Any]) -> None:
    """Detach the home disk from a workspace's machine, running or not, and wait for it."""
    _carry_out(cloud, "POST", f"{_instance_path(workspace)}/detachDisk", deviceName="home")


def hold_disk_by_hand(cloud: RunningCloud, workspace: dict[str, Any]) -> str:
    """Attach a workspace's home disk to another machine; return its name once it runs.

    If the workspace's own machine has the disk, it is detached there first.
    """
    home = _home(cloud, workspace)
    if home["users"]:
        detach_by_hand(cloud, workspace)
    holder = _holder(workspace)
    disks = [
        {"boot": True, "autoDelete": True, "initializeParams": {}},
        {"source": home["selfLink"], "mode": "READ_WRITE"},
    ]
    zone = workspace["zone"]
    body = {
        "name": holder,
        "machineType": f"zones/{zone}/machineTypes/e2-small",
        "networkInterfaces": [{"network": "global/networks/default"}],
        "disks": disks,
    }
    _carry_out(cloud, "POST", f"{_zone_path(workspace, zone)}/instances", body)
    return holder


def release_disk_by_hand(cloud: RunningCloud, workspace: dict[str, Any]) -> None:
    """Delete the machine that ``hold_disk_by_hand`` made, and wait; the home disk stays, unused."""
    _carry_out(cloud, "DELETE", f"{_zone_path(workspace)}/instances/{_holder(workspace)}")


def move_by_hand(cloud: RunningCloud, workspace: dict[str, Any], zone: str) -> None:
    """Move a workspace's machine to another zone, and wait until it runs there.

    As Compute's documentation describes it, by a snapshot of the home disk: the machine is deleted,
    disk and machine are made again with the same names, labels and metadata, and the old disk is
    deleted.
    """
    machine, home = _show(cloud, _instance_path(workspace)), _home(cloud, workspace)
    boot = next(disk for disk in machine["disks"] if disk.get("boot"))
    labels = _show(cloud, _path({"selfLink": boot["source"]}))["labels"]
    snapshot = _snapshot(cloud, home)
    _carry_out(cloud, "DELETE", _instance_path(workspace))
    again = {key: home[key] for key in ("name", "labels", "sizeGb")} | {"sourceSnapshot": snapshot}
    disk_type = f"zones/{zone}/diskTypes/{_last(home['type'])}"
    _carry_out(cloud, "POST", f"{_zone_path(workspace, zone)}/disks", again | {"type": disk_type})
    same = (
        "name",
        "labels",
        "metadata",
        "scheduling",
        "serviceAccounts",
        "shieldedInstanceConfig",
        "tags",
    )
    body = {key: machine[key] for key in same if key in machine} | {
        "machineType": f"zones/{zone}/machineTypes/{_last(machine['machineType'])}",
        "networkInterfaces": [
            {"network": each.get("network", "")} for each in machine["networkInterfaces"]
        ],
        "disks": [
            {
                "boot": True,
                "autoDelete": boot["autoDelete"],
                "initializeParams": {
                    "diskName": _last(boot["source"]),
                    "diskType": disk_type,
                    "labels": labels,
                },
            },
            {
                "source": f"zones/{zone}/disks/{home['name']}",
                "deviceName": "home",
                "autoDelete": False,
            },
        ],
    }
    _carry_out(cloud, "POST", f"{_zone_path(workspace, zone)}/instances", body)
    _carry_out(cloud, "DELETE", _path(home))


def restore_home_by_hand(
    cloud: RunningCloud, workspace: dict[str, Any], labels: Collection[str] = ("hub",)
) -> None:
    """Make a workspace's home disk again from a snapshot, and wait for it.

    It keeps only these of its labels, and is attached to no machine.
    """
    home = _home(cloud, workspace)
    snapshot = _snapshot(cloud, home)
    delete_home_by_hand(cloud, workspace)
    kept = {key: value for key, value in home["labels"].items() if key in labels}
    body = {"name": home["name"], "type": home["type"], "sourceSnapshot": snapshot, "labels": kept}
    _carry_out(cloud, "POST", f"{_zone_path(workspace)}/disks", body)


def set_machine_type_by_hand(
    cloud: RunningCloud, workspace: dict[str, Any], machine_type: str
) -> None:
    """Give a workspace's machine another type, and wait until it has it.

    The machine is stopped for that and stays so. A suspended one is resumed first.
    """
    path = _instance_path(workspace)
    if _show(cloud, path)["status"] == "SUSPENDED":
        _carry_out(cloud, "POST", f"{path}/resume")
    _carry_out(cloud, "POST", f"{path}/stop")  # changes nothing if it is stopped
    body = {"machineType": f"zones/{workspace['zone']}/machineTypes/{machine_type}"}
    _carry_out(cloud, "POST", f"{path}/setMachineType", body)


def delete_home_by_hand(cloud: RunningCloud, workspace: dict[str, Any]) -> None:
    """Delete a workspace's home disk, and wait; if it is attached, it is detached first."""
    home = _home(cloud, workspace)
    if home["users"]:
        detach_by_hand(cloud, workspace)
    _carry_out(cloud, "DELETE", _path(home))


def delete_keeping_boot_disk_by_hand(cloud: RunningCloud, workspace: dict[str, Any]) -> None:
    """Delete a workspace's machine without its boot disk, and wait until it is gone."""
    path = _instance_path(workspace)
    boot = next(disk for disk in _show(cloud, path)["disks"] if disk.get("boot"))
    _carry_out(
        cloud,
        "POST",
        f"{path}/setDiskAutoDelete",
        autoDelete="false",
        deviceName=boot["deviceName"],
    )
    _carry_out(cloud, "DELETE", path)


def _home(cloud: RunningCloud, workspace: dict[str, Any]) -> dict[str, Any]:
    """Return the home disk in the workspace's zone: the machine's, or else the one in use last."""
    disks = [
        disk
        for disk in in_compute(cloud, "disks", f"home-{workspace['id']}")
        if f"/zones/{workspace['zone']}/" in disk["selfLink"]
    ]
    mine = f"/instances/{workspace['instance_name']}"
    attached = [disk for disk in disks if any(user.endswith(mine) for user in disk["users"])]
    if not disks:
        raise requests.HTTPError(f"{workspace['id']} has no home in {workspace['zone']}")
    return max(attached or disks, key=lambda disk: str(disk.get("lastAttachTimestamp")))


def _holder(workspace: dict[str, Any]) -> str:
    # Not the whole id, so that it does not look like a machine of the workspace.
    return f"holder-{workspace['id'][:8]}"


def _snapshot(cloud: RunningCloud, disk: dict[str, Any]) -> str:
    """Make a snapshot of a disk and return the snapshot's path."""
    name = f"kept-{uuid.uuid4()}"
    _carry_out(cloud, "POST", f"{_path(disk)}/createSnapshot", {"name": name})
    return f"global/snapshots/{name}"


def _show(cloud: RunningCloud, path: str) -> dict[str, Any]:
    answer = requests.get(f"{_compute(cloud)}/{path}", timeout=10)
    answer.raise_for_status()
    resource: dict[str, Any] = answer.json()
    return resource


def _carry_out(
    cloud: RunningCloud, method: str, path: str, body: dict[str, Any] | None = None, **query: str
) -> None:
    """Call Compute and wait for the operation to end."""
    began = requests.request(
        method, f"{_compute(cloud)}/{path}", json=body, params=query, timeout=10
    )
    began.raise_for_status()
    ended = requests.post(f"{_compute(cloud)}/{_path(began.json())}/wait", timeout=150)
    ended.raise_for_status()
    if error := ended.json().get("error"):
        raise requests.HTTPError(f"{method} {path}: {error}")


def _compute(cloud: RunningCloud) -> str:
    return f"{cloud.state['services']['compute']}/compute/v1"


def _path(resource: dict[str, Any]) -> str:
    """Return a resource's path from ``projects/`` on."""
    return str(resource["selfLink"]).partition("/compute/v1/")[2]


def _last(url: str) -> str:
    return url.rsplit("/", 1)[-1]


def _zone_path(workspace: dict[str, Any], zone: str | None = None) -> str:
    return f"projects/{workspace['project_id']}/zones/{zone or workspace['zone']}"


def _instance_path(workspace: dict[str, Any]) -> str:
    return f"{_zone_path(workspace)}/instances/{workspace['instance_name']}"


def _instance_url(cloud: RunningCloud, workspace: dict[str, Any]) -> str:
    return f"{_compute(cloud)}/{_instance_path(workspace)}"


def call_scheduled(cloud: RunningCloud, name: str) -> dict[str, Any]:
    """Call a scheduled function as the scheduler does, and return its report."""
    url = cloud.function_url(name)
    account = f"scheduler@{cloud.state['project_id']}.iam.gserviceaccount.com"
    token = cloud.token(account, audience=url)
    answer = requests.post(
        f"{url}/{name.replace('_', '-')}", headers={"Authorization": f"Bearer {token}"}, timeout=60
    )
    answer.raise_for_status()
    report: dict[str, Any] = answer.json()
    return report
