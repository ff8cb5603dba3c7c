"""How labels of an instance, a disk or a snapshot are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localcloud.services.compute import errors, failures
from localcloud.services.compute.failures import Failure
from localcloud.services.compute.operations import MethodCall
from localcloud.services.compute.parts import SharedParts
from localcloud.services.compute.resources import (
    Disk,
    Instance,
    Operation,
    Snapshot,
    new_fingerprint,
)
from localcloud.services.compute.validation import check_labels, member


def set_labels(
    parts: SharedParts,
    call: MethodCall,
    target: Instance | Disk | Snapshot,
    body: Mapping[str, Any],
) -> Operation:
    """Replace the labels of a resource.

    ``labelFingerprint`` has to be that of the present labels, now and when the operation is done.
    """
    labels = check_labels(member(body, "labels", dict, "labels"), "labels")
    fingerprint = body.get("labelFingerprint")
    if fingerprint != target.resource["labelFingerprint"]:
        raise errors.stale_labels()

    def change() -> Failure | None:
        if fingerprint != target.resource["labelFingerprint"]:
            return failures.changed_meanwhile(errors.stale_labels())
        target.resource.update(labels=labels, labelFingerprint=new_fingerprint())
        return None

    return parts.operations.begin_change(call, target, parts.times.set_labels, change)
