"""Old and new revisions serve together: the old one drops unknown fields from what it writes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from shared.adapters.firestore_records import (
    owner_document,
    owner_record,
    workspace_document,
    workspace_record,
)
from shared.domain.deleted import DeletedWorkspace
from shared.domain.events import Event
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import Owner, Workspace
from shared.ports import Stored
from tests.fakes.store import MemoryWorkspaceStore
from tests.fakes.world import World
from tests.upgrade.stories import STORIES, tell
from tests.upgrade.versions import VERSIONS, Version, named

TURNS = ("always", "every second", "at random 1", "at random 2")


class SharedStore(MemoryWorkspaceStore):
    """A store in which some writes are those of an earlier version; ``is_old`` decides which."""

    def __init__(self, version: Version, is_old: Callable[[], bool]) -> None:
        super().__init__()
        self._version = version
        self._is_old = is_old
        self.old_writes = 0

    def commit(
        self,
        *,
        workspaces: Sequence[tuple[Stored[Workspace] | None, Workspace | None]] = (),
        owners: Sequence[tuple[Stored[Owner], Owner]] = (),
        snapshots: Sequence[tuple[Stored[Snapshot] | None, Snapshot | None]] = (),
        deleted: Sequence[tuple[Stored[DeletedWorkspace] | None, DeletedWorkspace | None]] = (),
        events: Sequence[Event] = (),
    ) -> None:
        """See the port."""
        is_newer = bool(snapshots) or bool(deleted) or self._has_snapshots(workspaces)
        if not is_newer and not self._times_a_sweep(workspaces) and self._is_old():
            self.old_writes += 1
            workspaces = [
                (stored, record and self._workspace_rewritten(record))
                for stored, record in workspaces
            ]
            owners = [(stored, self._owner_rewritten(record)) for stored, record in owners]
        super().commit(
            workspaces=workspaces,
            owners=owners,
            snapshots=snapshots,
            deleted=deleted,
            events=events,
        )

    @staticmethod
    def _has_snapshots(
        workspaces: Sequence[tuple[Stored[Workspace] | None, Workspace | None]],
    ) -> bool:
        """Say whether a write needs or makes a form that an old version refuses or does not make.

        Such a write is never an old version's.
        """
        records = [stored.record for stored, _ in workspaces if stored is not None]
        records += [after for _, after in workspaces if after is not None]
        return any(record.schema_version > 1 for record in records)

    @staticmethod
    def _times_a_sweep(
        workspaces: Sequence[tuple[Stored[Workspace] | None, Workspace | None]],
    ) -> bool:
        """Say whether a write only puts ``sweep_at`` right, which no old version does."""
        return any(
            stored is not None
            and after is not None
            and replace(stored.record, sweep_at=after.sweep_at) == after != stored.record
            for stored, after in workspaces
        )

    def _workspace_rewritten(self, record: Workspace) -> Workspace:
        return workspace_record(self._version.as_rewritten(workspace_document(record), "Workspace"))

    def _owner_rewritten(self, record: Owner) -> Owner:
        return owner_record(self._version.as_rewritten(owner_document(record), "Owner"))


def _pattern_of(how: str) -> Callable[[], bool]:
    if how == "always":
        return lambda: True
    if how == "every second":
        turns = iter(range(1_000_000))
        return lambda: next(turns) % 2 == 1
    chance = random.Random(how)
    return lambda: chance.random() < 0.5


@pytest.mark.parametrize("turns", TURNS, ids=named)
@pytest.mark.parametrize("story", STORIES, ids=named)
@pytest.mark.parametrize("version", VERSIONS, ids=named)
def test_a_story_ends_well_with_writes_of_both_versions(
    version: Version, story: str, turns: str
) -> None:
    """Today's decisions cope with the loss, at any step, of fields that the old version drops."""
    store = SharedStore(version, _pattern_of(turns))

    tell(World(store=store), story)

    assert store.old_writes > 0
    assert_timed([event for event in store.events if event.operation_kind])


def assert_timed(ends: Sequence[Event]) -> None:
    """Check that what is left of the durations is no more than what the operations took."""
    assert ends
    for end in ends:
        assert end.seconds is not None
        assert end.phases
        assert sum(each.seconds for each in end.phases) <= end.seconds + 1, end
