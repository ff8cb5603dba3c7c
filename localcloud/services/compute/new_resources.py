"""The resources that Compute creates from requests: instances, disks and snapshots."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from localcloud.services.compute import errors
from localcloud.services.compute.resources import (
    CREATING,
    PROVISIONING,
    Disk,
    Instance,
    Json,
    Snapshot,
    last_part,
    link,
    new_fingerprint,
    new_id,
    timestamp,
)
from localcloud.services.compute.validation import (
    check_labels,
    check_machine_type,
    check_metadata,
    check_name,
    member,
    objects,
)
from localcloud.services.project import GLOBAL, Project

# Source: Compute's page "Hyperdisk", machine type support. The series that accept no persistent
# disk, and those that accept no hyperdisk-balanced.
_ONLY_HYPERDISK = frozenset(
    {"a4", "a4x", "c4", "c4a", "c4d", "h4d", "m4", "n4", "n4a", "n4d", "x4"}
)
_NO_HYPERDISK_BALANCED = frozenset({"c2", "c2d", "e2", "f1", "g1", "n1", "n2", "n2d", "t2a", "t2d"})


def new_instance(
    project: Project, zone: str, body: Mapping[str, Any], *, at: datetime, address: str
) -> Instance:
    """Return the instance that a request describes: PROVISIONING, its disks not planned yet.

    Args:
        project: the instance's project.
        zone: the instance's zone.
        body: the request's JSON.
        at: the time.
        address: the IP address of its first network interface.

    Raises:
        ComputeError: 400 or 413, in Compute's words, for what Compute does not accept.
    """
    name = check_name(body.get("name"), "resource.name")
    interfaces = objects(body, "networkInterfaces")
    if not interfaces:
        why = "At least one network interface is required."
        raise errors.invalid_value("resource.networkInterfaces", "", why)
    machine_type = check_machine_type(body.get("machineType"), zone)
    resource = copy.deepcopy(dict(body)) | {
        "kind": "compute#instance",
        "id": new_id(),
        "creationTimestamp": timestamp(at),
        "status": PROVISIONING,
        "zone": link(f"{project.path}/zones/{zone}"),
        "selfLink": link(project.path_of(zone, "instances", name)),
        "machineType": link(project.path_of(zone, "machineTypes", machine_type)),
        "cpuPlatform": "Intel Broadwell",
        "labels": check_labels(member(body, "labels", dict)),
        "labelFingerprint": new_fingerprint(),
        "fingerprint": new_fingerprint(),
        "metadata": new_metadata(check_metadata(member(body, "metadata", dict))),
        "tags": {**member(body, "tags", dict), "fingerprint": new_fingerprint()},
        "scheduling": {
            "automaticRestart": True,
            "provisioningModel": "STANDARD",
            **member(body, "scheduling", dict),
        },
        "networkInterfaces": [
            {
                "kind": "compute#networkInterface",
                "name": f"nic{index}",
                "networkIP": address,
                **interface,
            }
            for index, interface in enumerate(interfaces)
        ],
    }
    return Instance(project_id=project.id, zone=zone, resource=resource, created_at=at)


def new_disk(
    project: Project,
    zone: str,
    body: Mapping[str, Any],
    *,
    at: datetime,
    what: str = "resource",
) -> Disk:
    """Return the disk that a request describes: READY and not attached.

    Args:
        project: the disk's project.
        zone: the disk's zone.
        body: the request's JSON: ``name``, ``sizeGb``, ``type``, ``labels``, ``sourceImage``, …
        at: the time.
        what: the body's place in the request, for error messages.

    Raises:
        ComputeError: 400, in Compute's words, for what Compute does not accept.
    """
    name = check_name(body.get("name"), f"{what}.name")
    disk_type = last_part(str(body.get("type") or "pd-standard"))
    resource = copy.deepcopy(dict(body)) | {
        "kind": "compute#disk",
        "id": new_id(),
        "name": name,
        "creationTimestamp": timestamp(at),
        "sizeGb": str(body.get("sizeGb") or 10),
        "type": link(project.path_of(zone, "diskTypes", disk_type)),
        "zone": link(f"{project.path}/zones/{zone}"),
        "selfLink": link(project.path_of(zone, "disks", name)),
        "status": "READY",
        "labels": check_labels(member(body, "labels", dict, what), f"{what}.labels"),
        "labelFingerprint": new_fingerprint(),
        "users": [],
    }
    return Disk(project_id=project.id, zone=zone, resource=resource)


def new_snapshot(
    project: Project, disk: Disk, body: Mapping[str, Any], *, at: datetime
) -> Snapshot:
    """Return the snapshot that a request describes: CREATING.

    Raises:
        ComputeError: 400, in Compute's words, for what Compute does not accept.
    """
    name = check_name(body.get("name"), "resource.name")
    resource = {
        **{key: body[key] for key in ("description", "storageLocations") if key in body},
        "kind": "compute#snapshot",
        "id": new_id(),
        "name": name,
        "creationTimestamp": timestamp(at),
        "status": CREATING,
        "snapshotType": "STANDARD",
        "sourceDisk": link(disk.path),
        "sourceDiskId": disk.resource["id"],
        "diskSizeGb": disk.resource["sizeGb"],
        "labels": check_labels(member(body, "labels", dict)),
        "labelFingerprint": new_fingerprint(),
        "selfLink": link(project.path_of(GLOBAL, "snapshots", name)),
    }
    return Snapshot(project_id=project.id, resource=resource, disk=disk)


def check_disk_types(machine_type: str, disks: Iterable[Disk]) -> None:
    """See that a machine type accepts disks of these types.

    Raises:
        ComputeError: 400, in Compute's words, if it does not.
    """
    series = machine_type.partition("-")[0]
    types = dict.fromkeys(last_part(str(disk.resource["type"])) for disk in disks)
    refused = [
        each
        for each in types
        if (each.startswith("pd-") and series in _ONLY_HYPERDISK)
        or (each == "hyperdisk-balanced" and series in _NO_HYPERDISK_BALANCED)
    ]
    if refused:
        raise errors.incompatible([*refused, machine_type])


def new_attached_disk(spec: Json, disk: Disk, index: int) -> Json:
    """Return how an instance shows one of its disks, from the request that attached it."""
    given = {key: value for key, value in spec.items() if key != "initializeParams"}
    return {
        "kind": "compute#attachedDisk",
        "type": "PERSISTENT",
        "mode": "READ_WRITE",
        "autoDelete": False,
        "deviceName": f"persistent-disk-{index}",
        "diskSizeGb": disk.resource["sizeGb"],
        **given,
        "index": index,
        "source": link(disk.path),
    }


def new_metadata(items: Iterable[Json]) -> Json:
    """Return metadata with these items and a new fingerprint."""
    return {"kind": "compute#metadata", "fingerprint": new_fingerprint(), "items": list(items)}
