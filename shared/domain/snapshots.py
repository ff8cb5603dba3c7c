"""Snapshots of homes: what is recorded of each.

A snapshot has a record of its own from the moment in which its content is captured. Until then it
is the SNAPSHOT operation of its workspace.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from shared.domain.instance import GLOBAL, Place
from shared.domain.workspace import Metadata, Problem

SNAPSHOT_SCHEMA_VERSION = 1


class SnapshotState(StrEnum):
    """What a snapshot is, as people see it.

    ``UPLOADING``: its content is captured, and it cannot be used yet. ``FAILED``: it can never be
    used. ``DELETING``: it is about to be gone, with its record.
    """

    UPLOADING = "UPLOADING"
    READY = "READY"
    FAILED = "FAILED"
    DELETING = "DELETING"


class Consistency(StrEnum):
    """What a snapshot's file system is like.

    ``CLEAN``: no machine ran, so everything was written. ``CRASH``: as after a power failure at
    that moment, since a machine ran, or was suspended with its memory. The file system's journal
    makes it whole; what programs had not written to the disk is not in it.
    """

    CLEAN = "clean"
    CRASH = "crash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One snapshot of a workspace's home.

    ``id`` is that of the operation that took it. ``name`` is what a person called it; None if they
    did not. ``automatic``: the Hub took it by itself, and may delete it by itself. ``asked_at`` is
    when it was asked for, ``captured_at`` when its content was captured, at the latest, and
    ``ready_at`` when it could first be used. ``disk_gb`` is the size of the disk, and
    ``stored_bytes`` what Compute stores; None until it has said so. ``machine_type``, ``image_tag``
    and ``metadata`` are the workspace's at that time, for a fork. ``error`` says why it failed.

    ``step`` goes up in every write that is followed by a job, and travels in the job.
    ``attend_at`` is when ``reconcile`` must see to it if nothing happens before; None if nothing is
    due. ``resends`` counts how often it has done so since the last step. ``gce_operation`` is the
    call of Compute that is under way. ``kept_until`` is until when a DELETING snapshot that does
    not exist is waited for, since a worker may be about to make it; None if none can be.
    """

    id: str
    workspace_id: str
    owner_id: str
    name: str | None
    automatic: bool
    state: SnapshotState
    consistency: Consistency
    requested_by: str
    request_id: str
    asked_at: datetime
    captured_at: datetime | None
    updated_at: datetime
    disk_name: str
    zone: str
    machine_type: str
    image_tag: str
    metadata: Metadata
    ready_at: datetime | None = None
    disk_gb: int | None = None
    stored_bytes: int | None = None
    error: Problem | None = None
    step: int = 0
    attend_at: datetime | None = None
    resends: int = 0
    gce_operation: str | None = None
    kept_until: datetime | None = None
    schema_version: int = SNAPSHOT_SCHEMA_VERSION

    @property
    def place(self) -> Place:
        """Where it is in Compute."""
        return snapshot_place(self.workspace_id, self.id)


def snapshot_place(workspace_id: str, snapshot_id: str) -> Place:
    """Return where a snapshot is in Compute.

    Its name has the workspace's id and the end of its own: 63 characters, as many as Compute allows
    (source: its naming rules, RFC 1035). Other snapshots of the home disk, such as those of a
    schedule, are named after the disk, ``home-<id>-…``, so their names begin in another way.
    """
    return Place(GLOBAL, f"home-snapshot-{workspace_id}-{snapshot_id[-12:]}")


def lost(snapshot: Snapshot, now: datetime) -> Snapshot:
    """Return a READY snapshot that is gone in Compute Engine."""
    problem = Problem(
        "SNAPSHOT_GONE",
        "The snapshot was deleted outside the Hub. Delete it here, too.",
        retryable=False,
        at=now,
    )
    return replace(
        snapshot, state=SnapshotState.FAILED, error=problem, attend_at=None, updated_at=now
    )
