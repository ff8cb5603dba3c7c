"""Checks of requests, with Compute's limits and in its words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from localcloud.services.compute import errors
from localcloud.services.compute.machine_types import MACHINE_TYPES
from localcloud.services.compute.resources import Json

_NAME_RULE = "(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)"
_LABEL_KEY = re.compile(r"[^\W\d_][\w-]{0,62}")
_LABEL_VALUE = re.compile(r"[\w-]{0,63}")
_MAX_LABELS = 64
_LABEL_RULE = (
    "can only contain lowercase letters, numeric characters, underscores and dashes. The {} can be "
    "at most 63 characters long. International characters are allowed."
)
_METADATA_KEY = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_MAX_METADATA_VALUE_BYTES = 256 * 1024
_MAX_METADATA_BYTES = 512 * 1024


def member(body: Mapping[str, Any], name: str, kind: type, path: str = "resource") -> Any:
    """Return a member of a request's JSON, or an empty value of its type if it is missing.

    Raises:
        ComputeError: 400 if it has another type.
    """
    value = body.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise errors.invalid_value(f"{path}.{name}", value, "The value has the wrong type.")
    return value


def objects(body: Mapping[str, Any], name: str, path: str = "resource") -> list[Json]:
    """Return copies of the objects in a list of a request's JSON; none if the list is missing.

    Raises:
        ComputeError: 400 if it is not a list of objects.
    """
    items = member(body, name, list, path)
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise errors.invalid_value(
                f"{path}.{name}[{index}]", item, "The value has the wrong type."
            )
    return [dict(item) for item in items]


def check_name(name: object, what: str) -> str:
    """Return a name if Compute accepts it for an instance or a disk.

    Raises:
        ComputeError: 400 otherwise.
    """
    if not isinstance(name, str) or not re.fullmatch(_NAME_RULE, name):
        raise errors.invalid_value(what, name, f"Must be a match of regex '{_NAME_RULE}'")
    return name


def check_labels(labels: Mapping[str, Any], what: str = "resource.labels") -> dict[str, str]:
    """Return the labels if Compute accepts them: at most 64, in lower case.

    Raises:
        ComputeError: 400 otherwise.
    """
    if len(labels) > _MAX_LABELS:
        raise errors.invalid_value(what, "", "The number of labels must not exceed 64.")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or key != key.lower():
            why = (
                f"Label key '{key}' violates format constraints. The key must start with a "
                f"lowercase character, {_LABEL_RULE.format('key')}"
            )
            raise errors.invalid_value(what, "", why)
        if (
            not isinstance(value, str)
            or not _LABEL_VALUE.fullmatch(value)
            or value != value.lower()
        ):
            why = (
                f"Label value '{value}' violates format constraints. The value "
                f"{_LABEL_RULE.format('value')}"
            )
            raise errors.invalid_value(what, "", why)
    return dict(labels)


def check_metadata(metadata: Mapping[str, Any], what: str = "resource.metadata") -> list[Json]:
    """Return the metadata items if Compute accepts them.

    Each value has at most 256 KiB, all together at most 512 KiB, and no key is there twice.

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
        if len(value.encode()) > _MAX_METADATA_VALUE_BYTES:
            raise errors.too_large(
                f"{what}.items[{index}].value", _MAX_METADATA_VALUE_BYTES, len(value.encode())
            )
        total += len(key) + len(value.encode())
        items.append({"key": key, "value": value})
    if total > _MAX_METADATA_BYTES:
        raise errors.too_large(f"{what}.items", _MAX_METADATA_BYTES, total)
    return items


def check_machine_type(value: object, zone: str, what: str = "resource.machineType") -> str:
    """Return the machine type of ``zones/z/machineTypes/t``, or of a URL that ends with this.

    Raises:
        ComputeError: 400 if it has another form, is of another zone, or does not exist.
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
