"""What a request may say of a new instance or disk, and the resource that Compute makes of it."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

from localcloud.services.compute import errors
from localcloud.services.compute.machine_types import MACHINE_TYPES
from localcloud.services.compute.resources import (
    PROVISIONING,
    Disk,
    Instance,
    Json,
    Snapshot,
    link,
    new_fingerprint,
    new_id,
    timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

_NAME_RULE = "(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)"
_LABEL_KEY = re.compile(r"[^\W\d_][\w-]{0,62}")
_LABEL_VALUE = re.compile(r"[\w-]{0,63}")
_METADATA_KEY = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_METADATA_VALUE_LIMIT = 256 * 1024
_METADATA_LIMIT = 512 * 1024
# Source: Compute's page "Hyperdisk", machine type support. Series that take no persistent disk, and
# that take no hyperdisk-balanced.
_ONLY_HYPERDISK = frozenset(
    {"a4", "a4x", "c4", "c4a", "c4d", "h4d", "m4", "n4", "n4a", "n4d", "x4"}
)
_NO_HYPERDISK_BALANCED = frozenset({"c2", "c2d", "e2", "f1", "g1", "n1", "n2", "n2d", "t2a", "t2d"})


def new_instance(
    project_id: str, zone: str, body: Mapping[str, Any], *, at: datetime, address: str
) -> Instance:
    """Return the instance that a request describes, PROVISIONING, its disks still to be settled.

    Args:
        project_id: of the instance.
        zone: of the instance.
        body: the request's JSON.
        at: the time.
        address: for its first network interface.

    Raises:
        ComputeError: 400 or 413, in Compute's words, for what it would not accept.
    """
    name = check_name(body.get("name"), "resource.name")
    project = f"projects/{project_id}"
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
        "zone": link(f"{project}/zones/{zone}"),
        "selfLink": link(f"{project}/zones/{zone}/instances/{name}"),
        "machineType": link(f"{project}/zones/{zone}/machineTypes/{machine_type}"),
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
    return Instance(project_id=project_id, zone=zone, resource=resource, created_at=at)


def new_disk(
    project_id: str,
    zone: str,
    name: str,
    body: Mapping[str, Any],
    *,
    at: datetime,
    what: str = "resource",
) -> Disk:
    """Return the disk that a request describes, READY and attached to nothing.

    Args:
        project_id: of the disk.
        zone: of the disk.
        name: of the disk.
        body: the request's JSON: `sizeGb`, `type`, `labels`, `sourceImage`, …
        at: the time.
        what: where in the request the body stands, for error messages.

    Raises:
        ComputeError: 400, in Compute's words, for what it would not accept.
    """
    home = f"projects/{project_id}/zones/{zone}"
    disk_type = str(body.get("type") or "pd-standard").rsplit("/", 1)[-1]
    resource = copy.deepcopy(dict(body)) | {
        "kind": "compute#disk",
        "id": new_id(),
        "name": check_name(name, f"{what}.name"),
        "creationTimestamp": timestamp(at),
        "sizeGb": str(body.get("sizeGb") or 10),
        "type": link(f"{home}/diskTypes/{disk_type}"),
        "zone": link(home),
        "selfLink": link(f"{home}/disks/{name}"),
        "status": "READY",
        "labels": check_labels(member(body, "labels", dict, what), f"{what}.labels"),
        "labelFingerprint": new_fingerprint(),
        "users": [],
    }
    return Disk(project_id=project_id, zone=zone, resource=resource)


def new_snapshot(project_id: str, disk: Disk, body: Mapping[str, Any], *, at: datetime) -> Snapshot:
    """Return the snapshot that a request describes, CREATING.

    Raises:
        ComputeError: 400, in Compute's words, for what it would not accept.
    """
    name = check_name(body.get("name"), "resource.name")
    resource = {
        "kind": "compute#snapshot",
        "id": new_id(),
        "name": name,
        "creationTimestamp": timestamp(at),
        "status": "CREATING",
        "sourceDisk": link(disk.path),
        "sourceDiskId": disk.resource["id"],
        "diskSizeGb": disk.resource["sizeGb"],
        "labels": check_labels(member(body, "labels", dict)),
        "labelFingerprint": new_fingerprint(),
        "selfLink": link(f"projects/{project_id}/global/snapshots/{name}"),
    }
    return Snapshot(project_id=project_id, resource=resource)


def check_disk_types(machine_type: str, disks: Iterable[Disk]) -> None:
    """See that a machine type takes disks of these types.

    Raises:
        ComputeError: 400, in Compute's words, when it does not.
    """
    series = machine_type.partition("-")[0]
    types = dict.fromkeys(str(disk.resource["type"]).rsplit("/", 1)[-1] for disk in disks)
    refused = [
        each
        for each in types
        if (each.startswith("pd-") and series in _ONLY_HYPERDISK)
        or (each == "hyperdisk-balanced" and series in _NO_HYPERDISK_BALANCED)
    ]
    if refused:
        raise errors.incompatible([*refused, machine_type])


def attached_disk(spec: Json, disk: Disk, index: int) -> Json:
    """Return how an instance shows one of its disks, from what the request said of it."""
    said = {key: value for key, value in spec.items() if key != "initializeParams"}
    return {
        "kind": "compute#attachedDisk",
        "type": "PERSISTENT",
        "mode": "READ_WRITE",
        "autoDelete": False,
        "deviceName": f"persistent-disk-{index}",
        "diskSizeGb": disk.resource["sizeGb"],
        **said,
        "index": index,
        "source": link(disk.path),
    }


def new_metadata(items: Iterable[Json]) -> Json:
    """Return metadata of these items, under a fingerprint of its own."""
    return {"kind": "compute#metadata", "fingerprint": new_fingerprint(), "items": list(items)}


def member(body: Mapping[str, Any], name: str, kind: type, path: str = "resource") -> Any:
    """Return a member of a request's JSON, or an empty one of its kind when it is missing.

    Raises:
        ComputeError: 400 when it is there and of another kind.
    """
    value = body.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise errors.invalid_value(f"{path}.{name}", value, "The value has the wrong type.")
    return value


def objects(body: Mapping[str, Any], name: str, path: str = "resource") -> list[Json]:
    """Return a member of a request's JSON that is a list of objects, each a copy; empty when it is missing.

    Raises:
        ComputeError: 400 when it is something else.
    """
    items = member(body, name, list, path)
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise errors.invalid_value(
                f"{path}.{name}[{index}]", item, "The value has the wrong type."
            )
    return [dict(item) for item in items]


def check_name(name: object, what: str) -> str:
    """Return the name when Compute accepts it for an instance or a disk.

    Raises:
        ComputeError: 400 otherwise.
    """
    if not isinstance(name, str) or not re.fullmatch(_NAME_RULE, name):
        raise errors.invalid_value(what, name, f"Must be a match of regex '{_NAME_RULE}'")
    return name


def check_labels(labels: Mapping[str, Any], what: str = "resource.labels") -> dict[str, str]:
    """Return the labels when Compute accepts them: at most 64, lower case.

    Raises:
        ComputeError: 400 otherwise.
    """
    allowed = "can only contain lowercase letters, numeric characters, underscores and dashes. The {} can be at most 63"
    allowed += " characters long. International characters are allowed."
    if len(labels) > 64:
        raise errors.invalid_value(what, "", "The number of labels must not exceed 64.")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or key != key.lower():
            why = f"Label key '{key}' violates format constraints. The key must start with a lowercase character, "
            raise errors.invalid_value(what, "", why + allowed.format("key"))
        if (
            not isinstance(value, str)
            or not _LABEL_VALUE.fullmatch(value)
            or value != value.lower()
        ):
            why = f"Label value '{value}' violates format constraints. The value "
            raise errors.invalid_value(what, "", why + allowed.format("value"))
    return dict(labels)


def check_metadata(metadata: Mapping[str, Any], what: str = "resource.metadata") -> list[Json]:
    """Return the metadata items when Compute accepts them: 256 KiB a value, 512 KiB in all, no key twice.

    Raises:
        ComputeError: 400 for a bad key, 413 for too much.
    """
    items: list[Json] = []
    total = 0
    for index, item in enumerate(objects(metadata, "items", what)):
        key, value = str(item.get("key", "")), str(item.get("value", ""))
        if not _METADATA_KEY.fullmatch(key):
            rule = f"Must be a match of regex '{_METADATA_KEY.pattern}'"
            raise errors.invalid_value(f"{what}.items[{index}].key", key, rule)
        if any(other["key"] == key for other in items):
            raise errors.invalid_value(what, "", f"Metadata has duplicate keys: {key}")
        if len(value.encode()) > _METADATA_VALUE_LIMIT:
            raise errors.too_large(
                f"{what}.items[{index}].value", _METADATA_VALUE_LIMIT, len(value.encode())
            )
        total += len(key) + len(value.encode())
        items.append({"key": key, "value": value})
    if total > _METADATA_LIMIT:
        raise errors.too_large(f"{what}.items", _METADATA_LIMIT, total)
    return items


def check_machine_type(value: object, zone: str, what: str = "resource.machineType") -> str:
    """Return the bare machine type of `zones/z/machineTypes/t` or of a URL that ends so.

    Raises:
        ComputeError: 400 when it is not of this form, is of another zone, or names no type.
    """
    match = re.fullmatch(r"(?:.*/)?zones/([^/]+)/machineTypes/([^/]+)", str(value or ""))
    if not match or match[1] != zone:
        raise errors.invalid_value(
            what, value, f"The URL must name a machine type of zone '{zone}'."
        )
    if match[2] not in MACHINE_TYPES:
        why = f"Machine type with name '{match[2]}' does not exist in zone '{zone}'."
        raise errors.invalid_value(what, value, why)
    return match[2]
