"""The audit trail: who did what to which workspace, when, from which request, with what result."""

from dataclasses import dataclass, replace
from datetime import datetime

from shared.domain.access import Actor
from shared.domain.changes import Transition, Updated
from shared.domain.deleted import DeletedWorkspace
from shared.domain.durations import phases_until, seconds_of
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import (
    Operation,
    OperationKind,
    PhaseDuration,
    Status,
    Workspace,
)

HUB = "hub"  # the actor if the Hub itself did it, such as the end of an operation
STRANGERS = "strangers"  # the actor of several callers whom the Hub does not serve
SEVERAL = "several"  # the actor of several callers whom the Hub serves
ACCEPTED = "ACCEPTED"
REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the audit trail. It never contains a token, a secret or a body.

    ``workspace_id`` and ``owner_id`` are empty if the event is not about a single workspace or
    owner. ``who`` is an ``owner_id``, ``cleanup``, ``hub``, ``strangers``, ``several``, or a
    machine; ``as_admin`` says that an administrator acted on another's workspace. ``result`` is
    ``ACCEPTED``, ``REFUSED`` (no permission; for an administrator also that it failed),
    ``DELETED``, the status or the error's code in which an operation ended, or for a dead letter
    the result in words. ``times`` is how many refusals, or looks of an administrator, the event
    counts: its fields are those of the last one, and ids that differ are empty.

    The end of an operation has ``operation_kind``, an ``OperationKind`` of the version that wrote
    it, the whole ``seconds`` that it took, and how long its phases lasted. If an earlier version
    did some of its steps, some phases are missing. ``snapshot_id`` is the snapshot that the event
    is about; None if it is about none.
    """

    at: datetime
    workspace_id: str
    owner_id: str
    who: str
    what: str
    result: str
    request_id: str
    who_email: str | None = None
    as_admin: bool = False
    times: int = 1
    operation_kind: str | None = None
    seconds: int | None = None
    phases: tuple[PhaseDuration, ...] = ()
    snapshot_id: str | None = None


def request_event(
    actor: Actor, workspace: Workspace, what: str, now: datetime, result: str = ACCEPTED
) -> Event:
    """Return the event of a request for a change, by default of an accepted one."""
    return Event(
        at=now,
        workspace_id=workspace.id,
        owner_id=workspace.owner_id,
        who=actor.id,
        what=what,
        result=result,
        request_id=actor.request_id,
        who_email=actor.email,
        as_admin=actor.acts_as_admin(workspace.owner_id),
    )


def snapshot_event(snapshot: Snapshot, what: str, result: str, now: datetime) -> Event:
    """Return the Hub's own event of what became of a snapshot."""
    return Event(
        at=now,
        workspace_id=snapshot.workspace_id,
        owner_id=snapshot.owner_id,
        who=HUB,
        what=what,
        result=result,
        request_id=snapshot.request_id,
        snapshot_id=snapshot.id,
    )


def purge_event(
    entry: DeletedWorkspace, who: str, why: str, request_id: str, now: datetime
) -> Event:
    """Return the event of a deleted workspace that cannot be taken back any more."""
    return Event(
        at=now,
        workspace_id=entry.id,
        owner_id=entry.owner_id,
        who=who,
        what="WorkspacePurged",
        result=why,
        request_id=request_id,
        snapshot_id=entry.snapshot_id,
    )


def read_event(actor: Actor, workspace_id: str, owner_id: str, what: str, now: datetime) -> Event:
    """Return the event of an administrator who reads what belongs to somebody else."""
    refusal = refusal_event(actor, workspace_id, owner_id, what, now)
    return replace(refusal, result=ACCEPTED, as_admin=True)


def refusal_event(
    actor: Actor, workspace_id: str, owner_id: str, what: str, now: datetime
) -> Event:
    """Return the event of a request that was refused because the actor may not make it."""
    return Event(
        at=now,
        workspace_id=workspace_id,
        owner_id=owner_id,
        who=actor.id,
        what=what,
        result=REFUSED,
        request_id=actor.request_id,
        who_email=actor.email,
    )


def merged(one: Event, other: Event, several: str) -> Event:
    """Return one event for two of the same kind: the later one, with what they share.

    ``several`` is the ``who`` of the result if the two have different callers.
    """
    last = max(one, other, key=lambda event: event.at)
    same_caller = one.who == other.who
    return replace(
        last,
        workspace_id=last.workspace_id if one.workspace_id == other.workspace_id else "",
        owner_id=last.owner_id if one.owner_id == other.owner_id else "",
        who=last.who if same_caller else several,
        who_email=last.who_email if same_caller else None,
        times=one.times + other.times,
    )


def result_of(transition: Transition) -> str:
    """Return the result of the operation that a transition ends, or of the adoption of a state.

    The result is what the change itself says, DELETED, the code of the operation's own failure,
    SUPERSEDED by a DELETE or a START, or the status that the workspace has now. An error that the
    workspace had before and keeps is not a result of this transition.
    """
    before, after = transition.before, transition.after
    operation, change = before.operation, transition.change
    if isinstance(change, Updated) and change.result is not None:
        return change.result
    saved = after is not None and after.operation is None and after.status is Status.READY
    if operation is not None and operation.failure is not None and not saved:
        return operation.failure.code
    if after is None:
        return "DELETED"
    if after.operation is not None:
        return "SUPERSEDED"
    failed = transition.change.event.endswith(("Failed", "Refused")) or after.error != before.error
    return after.error.code if after.error and failed else after.status.value


def hub_events(transition: Transition, now: datetime) -> tuple[Event, ...]:
    """Return the Hub's own events of a transition: its notes, then its end if it is one.

    A transition is an end if it ends an operation, or changes the status of a workspace without
    one.
    """
    before = transition.before
    request_id = before.operation.request_id if before.operation else ""
    said = [(note.what, note.why) for note in transition.notes]
    if _is_end(transition):
        said.append((transition.change.event, result_of(transition)))
    events = tuple(
        Event(now, before.id, before.owner_id, HUB, what, result, request_id)
        for what, result in said
    )
    operation = before.operation
    if operation is None or not _is_end(transition):
        return events
    end = replace(
        events[-1],
        snapshot_id=snapshot_of(operation),
        operation_kind=operation.kind.value,
        seconds=seconds_of(operation, now),
        phases=phases_until(operation, now),
    )
    return (*events[:-1], end)


def snapshot_of(operation: Operation) -> str | None:
    """Return the snapshot that an operation is about: the one to be taken, or to be restored."""
    if operation.kind is OperationKind.SNAPSHOT:
        return operation.id
    return operation.restores.snapshot_id if operation.restores else None


def _is_end(transition: Transition) -> bool:
    before, after = transition.before, transition.after
    if after is None:
        return True
    if after.operation is not None:
        return False
    return before.operation is not None or after.status is not before.status
