"""What the scheduled sweeps share: paging, time budgets, and a report of what was done."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar

from shared import logs
from shared.domain.access import Actor
from shared.domain.changes import Change
from shared.domain.deleted import DeletedWorkspace
from shared.domain.errors import UnavailableError, WorkspaceNotFoundError
from shared.domain.snapshots import Snapshot, SnapshotUpdated
from shared.domain.workspace import Owner, Workspace
from shared.ports import Page, Stored, Unreadable
from shared.usecases.records import Records

PAGE = 100
TIME_BUDGET = timedelta(seconds=120)  # of a sweep: a function has 300 s for all of its sweeps
# After each change. So a run of the clean-up begins at most 480 operations, of some three tasks
# each. Their queue hands out five a second, so it is empty again when the next run begins.
PAUSE_SECONDS = 0.25

Pause = Callable[[float], None]
R = TypeVar("R", Workspace, Owner, Snapshot)


@dataclass(slots=True)
class SweepReport:
    """What one run did. If it is ``unfinished``, time ran out, and the next run does the rest."""

    looked_at: int = 0
    done: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unfinished: bool = False

    def counts(self) -> dict[str, Any]:
        """Return how much was done, for the log. The ids are in the answer and in other lines."""
        done = {what: len(ids) for what, ids in self.done.items()}
        return {
            "looked_at": self.looked_at,
            "done": done,
            "failed": len(self.failed),
            "unfinished": self.unfinished,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        return asdict(self)


def log_failure(event: str, error: Exception, **fields: object) -> None:
    """Log what a sweep could not do for one of many.

    An error that passes by itself is a warning, since the next run tries again.
    """
    if isinstance(error, UnavailableError):
        logs.warning(event, reason=str(error), **fields)
    else:
        logs.error(event, error, **fields)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Changes all workspaces or snapshots that a query finds, one after the other.

    One that fails does not stop the rest. After each change there is a ``pause``.
    ``actor`` is who asks for the changes, for the audit trail; None if nobody does. ``budget`` is
    the time that it may take.
    """

    records: Records
    report: SweepReport
    pause: Pause = time.sleep
    actor: Actor | None = None
    budget: timedelta = TIME_BUDGET

    def run(
        self,
        query: Callable[[str | None], Page[str]],
        decide: Callable[[Workspace], Change | None],
    ) -> None:
        """Decide on each workspace of the query, on the record as it is by then.

        ``query`` takes a page token and returns ids. A token stays valid while the workspaces
        before it are changed.
        """

        def change(workspace_id: str) -> str | None:
            try:
                now, changed = self.records.change(workspace_id, decide, self.actor)
            except WorkspaceNotFoundError:
                return None  # deleted since the query
            return _what(now) if changed else None

        self._run(query, change, "workspace_id")

    def run_snapshots(
        self,
        query: Callable[[str | None], Page[str]],
        decide: Callable[[Snapshot], SnapshotUpdated | None],
    ) -> None:
        """Decide on each snapshot of the query, as ``run`` does on each workspace."""

        def change(snapshot_id: str) -> str | None:
            changed = self.records.change_snapshot(snapshot_id, decide)
            return f"snapshot_{changed.state.lower()}" if changed else None

        self._run(query, change, "snapshot_id")

    def run_deleted(
        self, query: Callable[[str | None], Page[str]], purge: Callable[[str], bool]
    ) -> None:
        """Purge each deleted workspace of the query; ``purge`` says whether it did."""
        self._run(query, lambda each: "purge" if purge(each) else None, "workspace_id")

    def _run(
        self,
        query: Callable[[str | None], Page[str]],
        change: Callable[[str], str | None],
        id_field: str,
    ) -> None:
        """Change each; ``change`` returns what was done, None if nothing was."""
        began = self.records.clock()
        report = self.report
        for each in _pages(query):
            if self.records.clock() - began > self.budget:
                report.unfinished = True
                return
            report.looked_at += 1
            try:
                done = change(each)
            except Exception as error:  # noqa: BLE001 -- one of them must not stop the rest
                log_failure("SweepFailed", error, **{id_field: each})
                report.failed[each] = str(error)
                continue
            if done is not None:
                report.done.setdefault(done, []).append(each)
                self.pause(PAUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class Stretch(Generic[R]):
    """All records whose id is above ``after`` and at most ``upto``. None stands for no end."""

    after: str | None
    upto: str | None
    records: Sequence[Stored[R] | Unreadable]


def ring(
    query: Callable[[int, str | None], Page[Stored[R] | Unreadable]], start: str | None, batch: int
) -> Iterator[Stretch[R]]:
    """Yield the records from a place to the end, and then those from the beginning to the place.

    ``batch`` of them are read at once.
    """
    whole: list[tuple[str | None, str | None]] = [(None, None)]
    for first, end in whole if start is None else [(start, None), (None, start)]:
        after = first
        while True:
            page = query(batch, after)
            upto = page.next_token
            if end is not None and (upto is None or upto > end):
                upto = end
            found = [each for each in page.records if upto is None or id_of(each) <= upto]
            yield Stretch(after, upto, found)
            if upto == end:
                break
            after = upto


def id_of(
    entry: Stored[Workspace]
    | Stored[Owner]
    | Stored[Snapshot]
    | Stored[DeletedWorkspace]
    | Unreadable,
) -> str:
    """Return the id of a record, which may not have been read."""
    return entry.id if isinstance(entry, Unreadable) else entry.record.id


def _what(workspace: Workspace) -> str:
    """Return the kind of operation that is under way now, or that a worker looks.

    If neither is so, its owner was told what will happen.
    """
    if workspace.operation is not None:
        return workspace.operation.kind.lower()
    return "look" if workspace.attend_at is not None else "announced"


def _pages(query: Callable[[str | None], Page[str]]) -> Iterator[str]:
    token: str | None = None
    while True:
        page = query(token)
        yield from page.records
        token = page.next_token
        if token is None:
            return
