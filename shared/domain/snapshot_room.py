"""How many snapshots a workspace may have, and which of them go for another one.

A record counts until it is gone: one that failed or is being deleted may still be stored, and its
record is listed. So a request is refused unless there will be room. The room itself is made when
the new one is recorded: until then it may fail, and nothing is deleted for nothing. So for a short
time there may be one more than the limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.domain.errors import QuotaExceededError
from shared.domain.policy import Policy
from shared.domain.snapshots import Snapshot, SnapshotState


@dataclass(frozen=True, slots=True)
class KnownSnapshots:
    """The snapshots of a workspace.

    ``unreadable`` is how many more there are that only a newer version can read.
    """

    snapshots: Sequence[Snapshot] = ()
    unreadable: int = 0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.snapshots) + self.unreadable

    @property
    def being_deleted(self) -> int:
        """How many of them are about to be gone."""
        return sum(each.state is SnapshotState.DELETING for each in self.snapshots)


def check_room(known: KnownSnapshots, policy: Policy) -> None:
    """Refuse another snapshot if there will be no room for it.

    If there are more than may be, and some are being deleted, those are waited for: otherwise more
    would go than need to.

    Raises:
        QuotaExceededError: people have asked for too many of them, or some are not gone yet.
    """
    most, leaving = policy.snapshots_per_workspace, known.being_deleted
    waits = leaving > 0 and known.count > most
    if not waits and _excess(known, policy) <= len(_expendable(known)):
        return
    said = f"The workspace has {known.count} of at most {most} snapshots."
    if leaving:
        said += f" {leaving} of them {'is' if leaving == 1 else 'are'} being deleted, and"
        said += f" {'counts until it is' if leaving == 1 else 'count until they are'} gone."
    raise QuotaExceededError(f"{said} Delete one, or ask whoever runs this Hub for more.")


def making_room(known: KnownSnapshots, policy: Policy) -> Sequence[Snapshot]:
    """Return those that go because there is another one now.

    ``known`` are those before it. The oldest that failed goes first, then the oldest automatic one.
    """
    return _expendable(known)[: max(_excess(known, policy), 0)]


def _excess(known: KnownSnapshots, policy: Policy) -> int:
    """Return how many there are too many with another one."""
    return known.count + 1 - policy.snapshots_per_workspace


def _expendable(known: KnownSnapshots) -> list[Snapshot]:
    """Return those that go without anybody's asking for it, the first to go first."""
    failed = [each for each in known.snapshots if each.state is SnapshotState.FAILED]
    kept = {SnapshotState.UPLOADING, SnapshotState.READY}
    automatic = [each for each in known.snapshots if each.automatic and each.state in kept]
    return [*_oldest_first(failed), *_oldest_first(automatic)]


def _oldest_first(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    return sorted(snapshots, key=lambda each: (each.asked_at, each.id))
