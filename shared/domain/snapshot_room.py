"""How many snapshots a workspace may have, and which of them go for another one.

A snapshot counts until its record is gone: one that failed or is being deleted may still be stored,
and is listed. A request is refused unless there will be room. The room is made only when the new
snapshot is recorded, since it may fail before that, and then nothing needs to go. So for a short
time there may be one more than the limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.domain.errors import QuotaExceededError
from shared.domain.policy import Policy
from shared.domain.snapshots import Snapshot, SnapshotState
from shared.domain.workspace import Workspace


@dataclass(frozen=True, slots=True)
class KnownSnapshots:
    """The snapshots of a workspace.

    ``unreadable`` is how many more there are that only a newer version can read. ``of_old_homes``
    are the ids of those whose disk is there still: one that failed is not deleted without a person,
    since its disk would follow, and may be all that there is (``old_homes``).
    """

    snapshots: Sequence[Snapshot] = ()
    unreadable: int = 0
    of_old_homes: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.snapshots) + self.unreadable

    @property
    def being_deleted(self) -> int:
        """How many of them are about to be gone."""
        return sum(each.state is SnapshotState.DELETING for each in self.snapshots)


def known_of(
    workspace: Workspace, snapshots: Sequence[Snapshot], unreadable: int
) -> KnownSnapshots:
    """Return what is known of a workspace's snapshots."""
    old = {each.snapshot_id for each in workspace.old_homes if each.snapshot_id is not None}
    return KnownSnapshots(snapshots, unreadable, frozenset(old))


def check_room(known: KnownSnapshots, policy: Policy, *, kept: str | None = None) -> None:
    """Refuse another snapshot if there will be no room for it.

    If there are more than the limit, and some are being deleted, the request is refused until those
    are gone. Otherwise more would be deleted than necessary.

    Raises:
        QuotaExceededError: people have asked for too many of them, or some are not gone yet.
    """
    most, leaving = policy.snapshots_per_workspace, known.being_deleted
    waits = leaving > 0 and known.count > most
    if not waits and _excess(known, policy) <= len(_expendable(known, kept)):
        return
    said = f"The workspace has {known.count} of at most {most} snapshots."
    if leaving:
        said += f" {leaving} of them {'is' if leaving == 1 else 'are'} being deleted, and"
        said += f" {'counts until it is' if leaving == 1 else 'count until they are'} gone."
    raise QuotaExceededError(f"{said} Delete one, or ask whoever runs this Hub for more.")


def making_room(
    known: KnownSnapshots, policy: Policy, *, kept: str | None = None
) -> Sequence[Snapshot]:
    """Return the snapshots that are deleted because a new one is recorded.

    ``known`` are those that there were before the new one. The oldest that failed goes first, then
    the oldest automatic one. ``kept`` is the id of one that stays: a home is made from it.
    """
    return _expendable(known, kept)[: max(_excess(known, policy), 0)]


def _excess(known: KnownSnapshots, policy: Policy) -> int:
    """Return by how many the limit is exceeded once there is another one."""
    return known.count + 1 - policy.snapshots_per_workspace


def _expendable(known: KnownSnapshots, kept: str | None) -> list[Snapshot]:
    """Return those that the Hub may delete by itself, the first to be deleted first."""
    failed = [
        each
        for each in known.snapshots
        if each.state is SnapshotState.FAILED and each.id not in known.of_old_homes
    ]
    useful = {SnapshotState.UPLOADING, SnapshotState.READY}
    automatic = [each for each in known.snapshots if each.automatic and each.state in useful]
    oldest_first = [*_oldest_first(failed), *_oldest_first(automatic)]
    return [each for each in oldest_first if each.id != kept]


def _oldest_first(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    return sorted(snapshots, key=lambda each: (each.asked_at, each.id))
