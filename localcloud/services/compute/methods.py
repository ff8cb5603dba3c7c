"""The methods of Compute that are served, and the HTTP request of each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class HttpRule(NamedTuple):
    """The HTTP method and the path of a Compute method."""

    verb: str
    path: str


_PROJECT = "/compute/v1/projects/{project}"
_ZONE = _PROJECT + "/zones/{zone}"
_DISK = _ZONE + "/disks/{name}"
_INSTANCE = _ZONE + "/instances/{name}"
_OPERATION = _ZONE + "/operations/{name}"
_GLOBAL_OPERATION = _PROJECT + "/global/operations/{name}"
_SNAPSHOT = _PROJECT + "/global/snapshots/{name}"

METHODS: Mapping[str, HttpRule] = MappingProxyType(
    {
        "disks.aggregatedList": HttpRule("GET", _PROJECT + "/aggregated/disks"),
        "disks.createSnapshot": HttpRule("POST", _DISK + "/createSnapshot"),
        "disks.delete": HttpRule("DELETE", _DISK),
        "disks.get": HttpRule("GET", _DISK),
        "disks.insert": HttpRule("POST", _ZONE + "/disks"),
        "disks.list": HttpRule("GET", _ZONE + "/disks"),
        "disks.resize": HttpRule("POST", _DISK + "/resize"),
        "disks.setLabels": HttpRule("POST", _DISK + "/setLabels"),
        "globalOperations.get": HttpRule("GET", _GLOBAL_OPERATION),
        "globalOperations.list": HttpRule("GET", _PROJECT + "/global/operations"),
        "globalOperations.wait": HttpRule("POST", _GLOBAL_OPERATION + "/wait"),
        "instances.aggregatedList": HttpRule("GET", _PROJECT + "/aggregated/instances"),
        "instances.attachDisk": HttpRule("POST", _INSTANCE + "/attachDisk"),
        "instances.delete": HttpRule("DELETE", _INSTANCE),
        "instances.detachDisk": HttpRule("POST", _INSTANCE + "/detachDisk"),
        "instances.get": HttpRule("GET", _INSTANCE),
        "instances.getIamPolicy": HttpRule("GET", _INSTANCE + "/getIamPolicy"),
        "instances.getSerialPortOutput": HttpRule("GET", _INSTANCE + "/serialPort"),
        "instances.insert": HttpRule("POST", _ZONE + "/instances"),
        "instances.list": HttpRule("GET", _ZONE + "/instances"),
        "instances.resume": HttpRule("POST", _INSTANCE + "/resume"),
        "instances.setDiskAutoDelete": HttpRule("POST", _INSTANCE + "/setDiskAutoDelete"),
        "instances.setIamPolicy": HttpRule("POST", _INSTANCE + "/setIamPolicy"),
        "instances.setLabels": HttpRule("POST", _INSTANCE + "/setLabels"),
        "instances.setMachineType": HttpRule("POST", _INSTANCE + "/setMachineType"),
        "instances.setMetadata": HttpRule("POST", _INSTANCE + "/setMetadata"),
        "instances.start": HttpRule("POST", _INSTANCE + "/start"),
        "instances.stop": HttpRule("POST", _INSTANCE + "/stop"),
        "instances.suspend": HttpRule("POST", _INSTANCE + "/suspend"),
        "machineTypes.get": HttpRule("GET", _ZONE + "/machineTypes/{name}"),
        "snapshots.delete": HttpRule("DELETE", _SNAPSHOT),
        "snapshots.get": HttpRule("GET", _SNAPSHOT),
        "snapshots.insert": HttpRule("POST", _PROJECT + "/global/snapshots"),
        "snapshots.list": HttpRule("GET", _PROJECT + "/global/snapshots"),
        "snapshots.setLabels": HttpRule("POST", _SNAPSHOT + "/setLabels"),
        "zoneOperations.get": HttpRule("GET", _OPERATION),
        "zoneOperations.list": HttpRule("GET", _ZONE + "/operations"),
        "zoneOperations.wait": HttpRule("POST", _OPERATION + "/wait"),
        "zones.get": HttpRule("GET", _PROJECT + "/zones/{name}"),
        "zones.list": HttpRule("GET", _PROJECT + "/zones"),
    }
)

# The methods that change something.
CHANGING_METHODS = frozenset(
    method
    for method, rule in METHODS.items()
    if rule.verb != "GET" and not method.endswith("Operations.wait")
)
# Those of them that start a long-running operation.
LONG_METHODS = CHANGING_METHODS - {"instances.setIamPolicy"}
