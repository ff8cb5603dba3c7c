"""The audit trail: who did what to which workspace, when, from which request, with what result."""

from dataclasses import dataclass, replace
from datetime import datetime

from shared.domain.changes import Change
from shared.domain.people import Actor
from shared.domain.workspace import Status, Workspace

HUB = "hub"  # who did it, when it was none of the people but the end of what they asked for
STRANGERS = "strangers"  # who it was, when they were several, and nobody whom the Hub serves
SEVERAL = "several"  # who it was, when they were several whom it serves
ACCEPTED = "ACCEPTED"
REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the trail. Never a token, a secret or a body.

    ``workspace_id`` is empty where the event is about no single workspace, ``owner_id`` where it is
    about nobody's. ``who`` is an ``owner_id``, ``cleanup``, ``hub``, ``strangers``, ``several``, or
    a machine's instance name; ``as_admin`` says that it was an administrator on another's
    workspace. ``result`` is ``ACCEPTED``, ``REFUSED`` (for want of permission; an administrator's
    also when it could not be done), ``DELETED``, the status that an operation ended in, or the code
    of its error; of a dead letter, what came of it in words. ``times`` is how many refusals this
    stands for: it tells the last, without what they do not have in common.
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


def asked(
    actor: Actor, workspace: Workspace, what: str, now: datetime, result: str = ACCEPTED
) -> Event:
    """Return the event of a request for a change: of an accepted one, if nothing else is said."""
    as_admin = actor.acts_as_admin(workspace.owner_id)
    return Event(
        now,
        workspace.id,
        workspace.owner_id,
        actor.id,
        what,
        result,
        actor.request_id,
        actor.email,
        as_admin,
    )


def looked(actor: Actor, workspace_id: str, owner_id: str, what: str, now: datetime) -> Event:
    """Return the event of an administrator's look at what is not theirs."""
    return Event(
        now,
        workspace_id,
        owner_id,
        actor.id,
        what,
        ACCEPTED,
        actor.request_id,
        actor.email,
        as_admin=True,
    )


def refused(actor: Actor, workspace_id: str, owner_id: str, what: str, now: datetime) -> Event:
    """Return the event of something that was refused for want of permission."""
    return Event(
        now, workspace_id, owner_id, actor.id, what, REFUSED, actor.request_id, actor.email
    )


def together(one: Event, other: Event, several: str) -> Event:
    """Return the one line for two of refusals of the same kind; ``several`` is who it was, when they were different callers."""
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


def came_to(before: Workspace, change: Change) -> str:
    """Return what an operation came to by the change that ended it, or what a record became that followed its machine.

    That is DELETED, the code of its own failure, SUPERSEDED by a DELETE, or the status that the
    workspace has now. An error that the workspace had before, and keeps, is not what this came to.
    """
    after, operation = change.workspace, before.operation
    saved = after is not None and after.operation is None and after.status is Status.READY
    if operation is not None and operation.failure is not None and not saved:
        return operation.failure.code
    if after is None:
        return "DELETED"
    if after.operation is not None:
        return "SUPERSEDED"
    failed = change.event.endswith(("Failed", "Refused")) or after.error != before.error
    return after.error.code if after.error and failed else after.status.value


def noted(before: Workspace, change: Change, now: datetime) -> list[Event]:
    """Return the events of what a change must leave to be read."""
    request_id = before.operation.request_id if before.operation else ""
    return [
        Event(now, before.id, before.owner_id, HUB, note.what, note.why, request_id)
        for note in change.notes
    ]


def ended(before: Workspace, change: Change, now: datetime) -> Event | None:
    """Return the event of an operation's end, or of a record that followed its machine; None when a change is neither."""
    after = change.workspace
    operation = before.operation
    if after is not None and after.operation is not None:
        return None
    if after is not None and operation is None and after.status is before.status:
        return None
    request_id = operation.request_id if operation else ""
    return Event(
        now, before.id, before.owner_id, HUB, change.event, came_to(before, change), request_id
    )
