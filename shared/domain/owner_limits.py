"""What an owner may hold and how often they may change it, decided on the owner's own record.

That is: names, quotas, the rate of changes, idempotency keys.

A workspace has its name from its CREATE to the commit of its DELETE, which frees the name; its
place in the quota is free once it is gone. If the DELETE fails, a START or a RESTORE takes the name
again. A START may give another name, so that there is a way if the own one is taken. Two workspaces
of an owner never have the same name: whoever takes one writes the owner's record, on the condition
that nobody else has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum

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
from shared.domain.workspace import (
    NO_NAME,
    OperationKind,
    OwnedWorkspace,
    Owner,
    Status,
    UsedKey,
    Workspace,
)

MINUTE = timedelta(minutes=1)
# The operations by which a workspace whose DELETE has failed has its name again.
_TAKES_NAME = frozenset({OperationKind.START, OperationKind.RESTORE})


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
    if _has_other(owner, new.workspace_id, new.name):
        raise NameTakenError(
            f"You have a workspace called {new.name!r} already. "
            "Choose another name, or use that one."
        )
    _check_count(owner, new.email, policy)
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


def take_back(owner: Owner, workspace: Workspace, policy: Policy) -> Owner:
    """Return the owner with a deleted workspace that is taken back. No machine of it runs.

    Raises:
        NameTakenError: the owner has another workspace of this name by now.
        QuotaExceededError: the owner has reached their limit of workspaces.
    """
    name = workspace.name
    if _has_other(owner, workspace.id, name):
        raise NameTakenError(
            f"Another workspace is called {name!r} by now. "
            'Take this one back with another name, like {"name": "' + name[:40] + '-2"}.'
        )
    _check_count(owner, workspace.owner_email, policy)
    held = OwnedWorkspace(name, running=workspace.counts_as_running)
    return replace(owner, workspaces={**owner.workspaces, workspace.id: held})


def _check_count(owner: Owner, email: str | None, policy: Policy) -> None:
    """Refuse one workspace more if the owner has reached their limit."""
    count, limit = len(owner.workspaces), policy.limits_for(email, owner.domain).workspaces
    if count >= limit:
        leaving = sum(held.name == NO_NAME for held in owner.workspaces.values())
        still = f"; {leaving} of them not deleted yet" if leaving else ""
        raise QuotaExceededError(
            f"You have {count} of at most {limit} workspaces{still}. "
            "Delete one, or ask whoever runs this Hub for more."
        )


def after_change(owner: Owner, transition: Transition) -> Owner:
    """Return the owner after a change of a workspace to which no quota applies."""
    before, after = transition.before, transition.after
    if after is None:
        return release(owner, before.id)
    if transition.begins is OperationKind.DELETE:
        owner = _named(owner, before.id, NO_NAME)
    return mark_running(owner, before.id, running=after.counts_as_running)


def charge_request(
    owner: Owner, transition: Transition, actor: Actor, now: datetime, policy: Policy
) -> Owner:
    """Return the owner after a change that a person asks for, within the owner's rate and quota.

    What an administrator does to another's workspace is not counted in its owner's rate.

    Raises:
        TooManyRequestsError, QuotaExceededError: as ``add_workspace`` raises them.
        NameTakenError: as ``take_name`` raises it.
    """
    before, after = transition.before, transition.after
    if actor.id == before.owner_id:
        owner = count_change(with_proven_domain(owner, actor), now, policy)
    if after and (transition.begins in _TAKES_NAME or after.name != before.name):
        owner = take_name(owner, before.id, after.name)
    begins = after is not None and after.counts_as_running and not before.counts_as_running
    if begins:
        return admit_running(owner, before.id, before.owner_email, policy)
    return after_change(owner, transition)


def take_name(owner: Owner, workspace_id: str, name: str) -> Owner:
    """Return the owner with a workspace that has this name: still, again, or from now on.

    Two workspaces can have one name in the record if version 0.1 has started one whose DELETE had
    failed. Then each is refused, and can get another name.

    Raises:
        NameTakenError: another workspace of the owner has the name.
    """
    if _has_other(owner, workspace_id, name):
        raise NameTakenError(
            f"Another workspace is called {name!r} by now. "
            'Start this one with another name, like {"name": "' + name[:40] + '-2"}.'
        )
    return _named(owner, workspace_id, name)


def holdings(owner: Owner, workspaces: Sequence[Workspace]) -> dict[str, OwnedWorkspace]:
    """Return what an owner's record must hold if these are all of their workspaces.

    Of several with the same name, the one has it that has it in the record, or else the oldest.
    """
    claims = sorted(
        (claim, each.created_at, each.id, each.name)
        for each in workspaces
        if (claim := _claim(each, owner.workspaces.get(each.id))) is not _Claim.NONE
    )
    named: dict[str, str] = {}  # the ids of those that have a name, by name
    for _, _, workspace_id, name in claims:
        named.setdefault(name, workspace_id)
    return {
        each.id: OwnedWorkspace(
            each.name if named.get(each.name) == each.id else NO_NAME, each.counts_as_running
        )
        for each in workspaces
    }


class _Claim(IntEnum):
    """Whether a workspace has its name: as the record says, for want of another, or not."""

    RECORDED = 0
    POSSIBLE = 1
    NONE = 2


def _claim(workspace: Workspace, held: OwnedWorkspace | None) -> _Claim:
    """Return whether a workspace has its name.

    One that a DELETE has left without its name stays without, unless version 0.1 has started it
    since: that version does not take names again. If the record does not have the workspace at all,
    its error says whether a DELETE failed.
    """
    if workspace.is_being_deleted:
        return _Claim.NONE
    if held is None:
        failed = workspace.error is not None and workspace.error.operation_kind
        return _Claim.NONE if failed is OperationKind.DELETE else _Claim.POSSIBLE
    if held.name == NO_NAME:
        in_use = workspace.status in {Status.READY, Status.PROVISIONING}
        return _Claim.POSSIBLE if in_use else _Claim.NONE
    return _Claim.RECORDED if held.name == workspace.name else _Claim.POSSIBLE


def _has_other(owner: Owner, workspace_id: str, name: str) -> bool:
    return any(
        held.name == name for held_id, held in owner.workspaces.items() if held_id != workspace_id
    )


def _named(owner: Owner, workspace_id: str, name: str) -> Owner:
    held = owner.workspaces.get(workspace_id)
    if held is None or held.name == name:
        return owner
    return replace(owner, workspaces={**owner.workspaces, workspace_id: replace(held, name=name)})


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
