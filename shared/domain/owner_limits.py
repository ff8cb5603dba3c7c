"""What an owner may hold and how often they may change it, decided on the owner's own record.

That is: names, quotas, the rate of changes, idempotency keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.domain.access import Actor
from shared.domain.changes import Transition
from shared.domain.errors import (
    IdempotencyKeyReusedError,
    NameTakenError,
    QuotaExceededError,
    TooManyRequestsError,
    WorkspaceGoneError,
)
from shared.domain.policy import Policy
from shared.domain.workspace import OwnedWorkspace, Owner, UsedKey

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key as it is stored: the SHA-256 of the key, and of its request's body."""

    hash: str
    body_hash: str


def workspace_of_key(owner: Owner, key: Key, now: datetime) -> str | None:
    """Return the id of the workspace that this key made; None if the key is new or has expired.

    Raises:
        IdempotencyKeyReusedError: the key came with another body.
        WorkspaceGoneError: the workspace that it made has been deleted.
    """
    used = owner.keys.get(key.hash)
    if used is None or used.expires_at <= now:
        return None
    if used.body_hash != key.body_hash:
        raise IdempotencyKeyReusedError(
            "This Idempotency-Key was used for another request within a day. "
            "Use a new key for a new request."
        )
    if used.workspace_id not in owner.workspaces:
        raise WorkspaceGoneError(
            "The workspace that this Idempotency-Key made has been deleted. "
            "Use a new key to make another."
        )
    return used.workspace_id


def with_proven_domain(owner: Owner, actor: Actor) -> Owner:
    """Return the owner with the organisation that they prove to belong to in this request.

    Only the owner's own requests change it.
    """
    return replace(owner, domain=actor.domain) if actor.id == owner.id else owner


@dataclass(frozen=True, slots=True)
class NewHolding:
    """What an owner asks to hold: a new workspace.

    ``email`` is the owner's, if it is known: limits may be set for it, or for the owner's
    ``domain``.
    """

    workspace_id: str
    name: str
    key: Key | None
    email: str | None


def add_workspace(owner: Owner, new: NewHolding, now: datetime, policy: Policy) -> Owner:
    """Return the owner with one workspace more, whose machine counts as running from now on.

    Raises:
        TooManyRequestsError: the owner has made too many changes in the last minute.
        NameTakenError: the owner has a workspace of this name.
        QuotaExceededError: the owner has reached their limit of workspaces, or of running ones.
    """
    counted = count_change(owner, now, policy)
    if any(held.name == new.name for held in owner.workspaces.values()):
        raise NameTakenError(
            f"You have a workspace called {new.name!r} already. "
            "Choose another name, or use that one."
        )
    count, limit = len(owner.workspaces), policy.limits_for(new.email, owner.domain).workspaces
    if count >= limit:
        raise QuotaExceededError(
            f"You have {count} of at most {limit} workspaces. "
            "Delete one, or ask whoever runs this Hub for more."
        )
    keys = {hashed: used for hashed, used in owner.keys.items() if used.expires_at > now}
    if new.key is not None:
        keys[new.key.hash] = UsedKey(
            workspace_id=new.workspace_id,
            body_hash=new.key.body_hash,
            expires_at=now + policy.key_lifetime,
        )
    holding = replace(
        counted,
        workspaces={**owner.workspaces, new.workspace_id: OwnedWorkspace(new.name)},
        keys=_newest(keys, policy.keys_per_owner),
    )
    return admit_running(holding, new.workspace_id, new.email, policy)


def after_change(owner: Owner, transition: Transition) -> Owner:
    """Return the owner after a change of a workspace to which no quota applies."""
    before, after = transition.before, transition.after
    if after is None:
        return release(owner, before.id)
    return mark_running(owner, before.id, running=after.counts_as_running)


def charge_request(
    owner: Owner, transition: Transition, actor: Actor, now: datetime, policy: Policy
) -> Owner:
    """Return the owner after a change that a person asks for, within the owner's rate and quota.

    What an administrator does to another's workspace is not counted in its owner's rate.

    Raises:
        TooManyRequestsError, QuotaExceededError: as ``add_workspace`` raises them.
    """
    before, after = transition.before, transition.after
    if actor.id == before.owner_id:
        owner = count_change(with_proven_domain(owner, actor), now, policy)
    begins = after is not None and after.counts_as_running and not before.counts_as_running
    if begins:
        return admit_running(owner, before.id, before.owner_email, policy)
    return after_change(owner, transition)


def admit_running(owner: Owner, workspace_id: str, email: str | None, policy: Policy) -> Owner:
    """Return the owner with the workspace counted as running.

    Raises:
        QuotaExceededError: as many of the owner's are running as may.
    """
    running = sum(
        held.running for held_id, held in owner.workspaces.items() if held_id != workspace_id
    )
    limit = policy.limits_for(email, owner.domain).running
    if running >= limit:
        raise QuotaExceededError(
            f"{running} of your workspaces are running, of at most {limit} at once. "
            "Stop one, or ask whoever runs this Hub for more."
        )
    return mark_running(owner, workspace_id, running=True)


def mark_running(owner: Owner, workspace_id: str, *, running: bool) -> Owner:
    """Return the owner with the workspace counted as running or not; no quota applies."""
    held = owner.workspaces.get(workspace_id)
    if held is None or held.running == running:
        return owner
    return replace(
        owner, workspaces={**owner.workspaces, workspace_id: replace(held, running=running)}
    )


def count_change(owner: Owner, now: datetime, policy: Policy) -> Owner:
    """Return the owner with one more change in this minute.

    Raises:
        TooManyRequestsError: the owner has reached the limit; the error says when to try again.
    """
    recent = tuple(at for at in owner.recent if now - at < MINUTE)
    if len(recent) >= policy.changes_per_minute:
        wait = recent[-policy.changes_per_minute] + MINUTE - now
        raise TooManyRequestsError(
            f"You have asked for {len(recent)} changes in the last minute, "
            f"of at most {policy.changes_per_minute}. "
            "Wait a moment and try again.",
            wait,
        )
    return replace(owner, recent=(*recent, now))


def release(owner: Owner, workspace_id: str) -> Owner:
    """Return the owner without the workspace.

    The idempotency key that made it stays until it expires, so that it is answered with "gone".
    """
    kept = {held_id: held for held_id, held in owner.workspaces.items() if held_id != workspace_id}
    return replace(owner, workspaces=kept)


def _newest(keys: Mapping[str, UsedKey], most: int) -> dict[str, UsedKey]:
    """Return at most ``most`` keys, the last to expire, so that the document stays small."""
    return dict(sorted(keys.items(), key=lambda item: item[1].expires_at)[-most:])
