"""Which workspaces still need a snapshot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.domain.errors import SnapshotInUseError
from shared.domain.forks import check_unused, forked, waiting_for
from shared.domain.instance import SnapshotStatus
from shared.domain.snapshots import source_of
from shared.domain.steps import StepInput
from shared.domain.workspace import OperationKind, Status
from tests.fakes.records import (
    NOW,
    a_disk_snapshot,
    a_snapshot,
    a_step,
    a_workspace,
    an_operation,
)


def test_only_workspaces_whose_home_is_not_made_yet_wait_for_a_snapshot() -> None:
    """Those of another snapshot do not wait for this one, nor does the one that it is of."""
    of = a_workspace()
    snapshot, other = a_snapshot(of), a_snapshot(of)
    failed = a_workspace(Status.ERROR, name="api", home_disk=None, home_source=source_of(snapshot))
    elsewhere = replace(failed, home_source=source_of(other))
    everything = [of, a_workspace(), failed, elsewhere]
    assert waiting_for(snapshot.id, everything) == [failed]
    with pytest.raises(SnapshotInUseError, match="'api'"):
        check_unused(snapshot.id, everything)
    check_unused(snapshot.id, [of, elsewhere])


def test_a_workspace_that_is_being_deleted_keeps_its_own_last_copy_and_says_so() -> None:
    """A fork that is being deleted only waits, and a DELETE that purges keeps nothing."""
    of = a_workspace()
    copy = a_snapshot(of)
    deleting = an_operation(OperationKind.DELETE, last_copy=source_of(copy))
    with pytest.raises(SnapshotInUseError, match="taken back"):
        check_unused(copy.id, [replace(of, operation=deleting)])
    fork = a_workspace(home_disk=None, home_source=source_of(copy), operation=deleting)
    with pytest.raises(SnapshotInUseError, match="yet to be made"):
        check_unused(copy.id, [replace(fork, operation=replace(deleting, last_copy=None))])
    purging = replace(deleting, purge=True, last_copy=None)
    check_unused(copy.id, [replace(of, operation=purging)])


def test_a_fork_changes_the_record_of_its_snapshot() -> None:
    """Firestore takes a write that changes nothing for none, and would let a deletion pass."""
    snapshot = a_snapshot()
    assert forked(snapshot, NOW) != snapshot
    assert replace(forked(snapshot, NOW), updated_at=snapshot.updated_at) == snapshot


def test_a_record_that_names_a_source_is_of_a_form_that_older_versions_refuse() -> None:
    """They would make an empty home."""
    fork = a_workspace(home_disk=None, home_source=source_of(a_snapshot()))
    assert (fork.schema_version, replace(fork, home_source=None).schema_version) == (2, 1)


@pytest.mark.parametrize(
    ("status", "lacks"),
    [
        (None, True),
        (SnapshotStatus.FAILED, True),
        (SnapshotStatus.DELETING, True),
        (SnapshotStatus.READY, False),
        (SnapshotStatus.UPLOADING, False),
    ],
)
def test_a_source_that_can_never_be_used_is_none(
    status: SnapshotStatus | None, lacks: bool
) -> None:
    """Compute would refuse the home each time. If the home's disk exists, it needs no source."""
    of = a_workspace()
    source = a_disk_snapshot(of, status) if status else None
    fork = a_workspace(
        operation=an_operation(OperationKind.CREATE),
        home_disk=None,
        home_source=source_of(a_snapshot(of)),
    )
    assert a_step(fork, StepInput(source=source)).lacks_source is lacks
    assert a_step(fork, StepInput(source=source, disk_exists=True)).lacks_source is False


@pytest.mark.parametrize(("disk_gb", "needed"), [(200, 200), (None, 0)])
def test_a_source_says_how_large_a_home_must_be(disk_gb: int | None, needed: int) -> None:
    """Compute makes no disk that is smaller than the one that the snapshot is of."""
    assert source_of(a_snapshot(disk_gb=disk_gb)).disk_gb == needed
