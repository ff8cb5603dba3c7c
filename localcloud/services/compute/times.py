"""How long the work of the local Compute Engine takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Times:
    """How long each kind of work takes, in seconds.

    A start or a resume spends the first half of its time PROVISIONING and the second half STAGING,
    and so does an insert.

    Attributes:
        attach_disk: to attach or detach a disk, or to change how it is attached.
        boot: from RUNNING until the guest reports that it is ready.
        pending_stop: the graceful shutdown of an instance for which it is enabled.
        snapshot_capture: from the call until the content of a disk is captured.
        snapshot_upload: from then until the snapshot can be used.
        snapshot_pause: between two snapshots of one disk, at least; in Google's Compute Engine,
            ten minutes.
        repair: from a host error until the instance starts again.
        suspended_limit: how long Compute keeps the memory of a suspended instance before it shuts
            the instance down (60 days).
    """

    insert: float = 3.0
    start: float = 2.0
    stop: float = 2.0
    suspend: float = 2.0
    resume: float = 1.5
    delete: float = 2.0
    disk_insert: float = 1.0
    disk_delete: float = 1.0
    snapshot_capture: float = 1.0
    snapshot_upload: float = 3.0
    snapshot_delete: float = 1.0
    snapshot_pause: float = 10.0
    set_metadata: float = 0.5
    set_labels: float = 0.5
    set_machine_type: float = 0.5
    attach_disk: float = 0.5
    boot: float = 3.0
    pending_stop: float = 1.0
    repair: float = 2.0
    suspended_limit: float = 60 * 24 * 3600.0


# What ``python -m localcloud run --times`` offers: for a person who watches, for tests, and about
# what Google's Compute Engine takes.
TIMES: Mapping[str, Times] = MappingProxyType(
    {
        "shown": Times(),
        "fast": Times(
            insert=0.3,
            start=0.3,
            stop=0.3,
            suspend=0.3,
            resume=0.2,
            delete=0.3,
            disk_insert=0.1,
            disk_delete=0.1,
            snapshot_capture=0.1,
            snapshot_upload=0.3,
            snapshot_delete=0.1,
            snapshot_pause=0.0,
            set_metadata=0.1,
            set_labels=0.1,
            set_machine_type=0.1,
            attach_disk=0.1,
            boot=0.3,
            pending_stop=0.1,
            repair=0.3,
        ),
        "real": Times(
            insert=10.0,
            start=10.0,
            stop=30.0,
            suspend=40.0,
            resume=15.0,
            delete=40.0,
            disk_insert=3.0,
            disk_delete=3.0,
            snapshot_capture=15.0,
            snapshot_upload=120.0,
            snapshot_delete=5.0,
            snapshot_pause=600.0,
            set_metadata=3.0,
            set_labels=3.0,
            set_machine_type=3.0,
            attach_disk=3.0,
            boot=45.0,
            pending_stop=30.0,
            repair=60.0,
        ),
    }
)
