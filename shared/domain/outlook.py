"""What happens next to a workspace if nobody does anything: when, what, why, and unless what.

It follows from the same functions that the sweeps and steps decide by (``stops_at``,
``deletes_at``, ``renewal``, an operation's deadline), and depends on the record and the policy
only, never on the time at which it is asked for. What it says of Compute Engine's own acts follows
from the configuration.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from shared.domain.idleness import idle_at
from shared.domain.last_copies import until_if_deleted
from shared.domain.lifecycle import archives_at, deletes_at, stops_at
from shared.domain.policy import Policy
from shared.domain.renewal import renewal
from shared.domain.workspace import Operation, OperationKind, Status, Workspace

# Compute ends what has been suspended for this long (source: its documentation, "Suspend, stop, or
# reset Compute Engine instances").
LONGEST_SUSPENSION = timedelta(days=60)


class ExpectedKind(StrEnum):
    """What kind of thing happens. The last three are Compute Engine's own acts."""

    SUSPEND = "suspend"
    ARCHIVE = "archive"
    DELETE = "delete"
    DEADLINE = "deadline"
    RENEWAL = "renewal"
    COMPUTE_LIMIT = "compute_limit"
    MAX_RUN = "max_run"
    SPOT = "spot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One thing that happens, in clauses for people.

    From ``at`` on it is the case that ``what``, because ``why``, unless ``unless``. ``at`` is None
    if it may happen at any time. ``since`` is what ``why`` goes on with ("nobody has been connected
    since …"); None if it does not. ``unless`` is None if nobody can prevent it.
    """

    kind: ExpectedKind
    at: datetime | None
    since: datetime | None = None
    what: str
    why: str
    unless: str | None = None


def outlook(workspace: Workspace, policy: Policy) -> tuple[Expected, ...]:
    """Return what happens next, the earliest first, and what may happen at any time last.

    While an operation is under way, only its deadline is known: what follows depends on how it
    ends.
    """
    if workspace.operation is not None:
        return (_deadline(workspace.operation),)
    found = [
        *_suspension(workspace, policy),
        *_archive(workspace, policy),
        *_deletion(workspace, policy),
        *_renewal(workspace, policy),
        *_longest_suspension(workspace, policy),
        *_longest_run(workspace, policy),
        *_preemption(workspace, policy),
    ]
    # What may happen at any time is last, whatever stands in for its time.
    return tuple(sorted(found, key=lambda each: (each.at is None, each.at or workspace.created_at)))


# What an operation is called, and what is the case when it is given up.
_GIVEN_UP = {
    OperationKind.CREATE: ("a new workspace", "it is given up, and what has been made is deleted"),
    OperationKind.START: ("a start", "the start is given up, and the home is kept"),
    OperationKind.STOP: ("a stop", "the stop is given up"),
    OperationKind.SNAPSHOT: ("a snapshot", "the snapshot is given up, and nothing else changes"),
    OperationKind.RESTORE: ("a restore", "the restore is given up, and the home is what it was"),
    OperationKind.ARCHIVE: ("an archive", "the archive is given up, and the home is kept"),
    OperationKind.DELETE: ("a deletion", "the deletion is given up, and you can ask for it again"),
}


def _deadline(operation: Operation) -> Expected:
    called, what = _GIVEN_UP[operation.kind]
    why = f"{called} may take this long at most"
    if operation.failure is not None:
        what = "the clean-up is given up"
        why = f"what is left of {called} that failed may be cleaned up for this long at most"
    return Expected(
        kind=ExpectedKind.DEADLINE,
        at=operation.deadline_at,
        what=what,
        why=why,
        unless="it has ended before",
    )


def _suspension(workspace: Workspace, policy: Policy) -> Iterator[Expected]:
    at = stops_at(workspace, policy)
    if at is None:
        return
    kept = at != idle_at(workspace, policy)
    yield Expected(
        kind=ExpectedKind.SUSPEND,
        at=at,
        since=workspace.last_connected_at,
        what="it is suspended, and its memory is kept"
        if workspace.memory_is_ready
        else "its machine is shut down, and its home is kept",
        why="it is kept awake until then, and nobody has been connected"
        if kept
        else "nobody has been connected",
        unless="somebody connects, or you keep it awake longer"
        if kept
        else "somebody connects, or you keep it awake",
    )


def _deletion(workspace: Workspace, policy: Policy) -> Iterator[Expected]:
    at = deletes_at(workspace, policy)
    if at is not None:
        until = until_if_deleted(workspace, at, policy)
        yield Expected(
            kind=ExpectedKind.DELETE,
            at=at,
            since=workspace.suspended_at,
            what="it is deleted, with its home, its snapshots and everything in them"
            if until is None
            else f"it is deleted, and can be taken back until {until:%Y-%m-%d %H:%M} UTC",
            why="it has been suspended, and nobody has started it",
            unless="somebody starts it",
        )


def _archive(workspace: Workspace, policy: Policy) -> Iterator[Expected]:
    at = archives_at(workspace, policy)
    if at is not None:
        yield Expected(
            kind=ExpectedKind.ARCHIVE,
            at=at,
            since=workspace.suspended_at,
            what="it is archived: its home is kept as a snapshot, its memory is lost",
            why="it has been suspended, and nobody has started it",
            unless="somebody starts it",
        )


def _renewal(workspace: Workspace, policy: Policy) -> Iterator[Expected]:
    expected = renewal(workspace, policy)
    if expected is not None:
        yield Expected(
            kind=ExpectedKind.RENEWAL,
            at=expected.at,
            what="a start that boots it makes a new machine on its home",
            why="its machine is too old then, and a machine's system is not updated",
            unless="it is resumed with its memory instead",
        )


def _longest_suspension(workspace: Workspace, policy: Policy) -> Iterator[Expected]:
    since = workspace.suspended_at
    if workspace.status is not Status.SUSPENDED or since is None or not workspace.memory_is_ready:
        return
    at = since + LONGEST_SUSPENSION
    sooner = (archives_at(workspace, policy), deletes_at(workspace, policy))
    if all(each is None or at < each for each in sooner):
        yield Expected(
            kind=ExpectedKind.COMPUTE_LIMIT,
            at=at,
            what="Compute Engine shuts its machine down: its memory is lost, its home is kept",
            why="Compute Engine keeps a machine suspended for at most 60 days",
            unless="somebody starts it",
        )


def _longest_run(workspace: Workspace, policy: Policy) -> Iterator[Expected]:
    if policy.most_run is None or not workspace.machine_running:
        return
    since = workspace.running_since
    yield Expected(
        kind=ExpectedKind.MAX_RUN,
        at=since + policy.most_run if since else None,
        what="Compute Engine shuts its machine down: its memory is lost, its home is kept",
        why="machines of this Hub may run for a limited time at a stretch",
        unless="it is suspended before",
    )


def _preemption(workspace: Workspace, policy: Policy) -> Iterator[Expected]:
    if policy.spot and workspace.machine_running:
        yield Expected(
            kind=ExpectedKind.SPOT,
            at=None,
            what="Compute Engine may shut its machine down: its memory is lost, its home is kept",
            why="its machine is a Spot VM, which ends when Compute Engine needs the capacity",
        )
