"""What one commit writes beside a workspace's record: the owner's record, and the audit events."""

from dataclasses import dataclass, replace
from datetime import datetime

from shared.domain.access import Actor
from shared.domain.changes import Transition
from shared.domain.events import Event, hub_events, request_event, snapshot_of
from shared.domain.owner_limits import after_change, charge_request
from shared.domain.policy import Policy
from shared.domain.workspace import Owner


@dataclass(frozen=True, slots=True)
class Commit:
    """A transition, and what is written with it or not at all.

    ``owner`` is the owner's record as it is to be, or None to leave it as it is. The transition's
    job is sent after the commit.
    """

    transition: Transition
    owner: Owner | None
    events: tuple[Event, ...]


def commit_of(
    transition: Transition, owner: Owner | None, now: datetime, actor: Actor | None = None
) -> Commit:
    """Return the commit of a step, a sweep or a report. No quota applies to these.

    ``owner`` is the owner's record if the transition counts for it (``counts_for_owner``).
    ``actor`` is who asks for what begins, if it is somebody whom the trail names.
    """
    events = hub_events(transition, now)
    if actor is not None and transition.begins is not None:
        events += (request_event(actor, transition.before, transition.change.event, now),)
    return Commit(transition, after_change(owner, transition) if owner else None, events)


def commit_of_request(
    transition: Transition, owner: Owner, actor: Actor, now: datetime, policy: Policy
) -> Commit:
    """Return the commit of a person's request, within the owner's rate and quotas.

    Raises:
        TooManyRequestsError, QuotaExceededError: as ``owner_limits.charge_request`` raises them.
    """
    charged = charge_request(owner, transition, actor, now, policy)
    requested = request_event(actor, transition.before, transition.change.event, now)
    begun = transition.after.operation if transition.after else None
    if begun is not None and transition.begins is not None:
        requested = replace(requested, snapshot_id=snapshot_of(begun))
    return Commit(
        transition,
        charged if charged != owner else None,
        (*hub_events(transition, now), requested),
    )
