"""What an owner may hold, decided on the owner's own record: names, quota, idempotency keys."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from shared.domain.errors import (
    IdempotencyKeyReusedError,
    NameTakenError,
    QuotaExceededError,
    WorkspaceGoneError,
)
from shared.domain.policy import Policy
from shared.domain.workspace import OwnedWorkspace, Owner, UsedKey


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key as it is kept: the SHA-256 of the key, and of the body that it came with."""

    hash: str
    body_hash: str


def workspace_of_key(owner: Owner, key: Key, now: datetime) -> str | None:
    """Return the id of the workspace that this key made, or None when the key is new or older than its lifetime.

    Raises:
        IdempotencyKeyReusedError: the key came with another body.
        WorkspaceGoneError: the workspace that it made has been deleted.
    """
    used = owner.keys.get(key.hash)
    if used is None or used.expires_at <= now:
        return None
    if used.body_hash != key.body_hash:
        raise IdempotencyKeyReusedError(
            "This Idempotency-Key was used for another request within a day. Use a new key for a new request."
        )
    if used.workspace_id not in owner.workspaces:
        raise WorkspaceGoneError(
            "The workspace that this Idempotency-Key made has been deleted. Use a new key to make another."
        )
    return used.workspace_id


def admit(owner: Owner, workspace_id: str, name: str, key: Key | None, now: datetime, policy: Policy) -> Owner:
    """Return the owner holding one workspace more.

    Raises:
        NameTakenError: the owner has a workspace of this name.
        QuotaExceededError: the owner has as many as they may.
    """
    if any(held.name == name for held in owner.workspaces.values()):
        raise NameTakenError(f"You have a workspace called {name!r} already. Choose another name, or use that one.")
    count, limit = len(owner.workspaces), policy.workspaces_per_owner
    if count >= limit:
        raise QuotaExceededError(
            f"You have {count} of at most {limit} workspaces. Delete one, or ask whoever runs this Hub for more."
        )
    keys = {hashed: used for hashed, used in owner.keys.items() if used.expires_at > now}
    if key is not None:
        keys[key.hash] = UsedKey(workspace_id, key.body_hash, now + policy.key_lifetime)
    return replace(
        owner,
        workspaces={**owner.workspaces, workspace_id: OwnedWorkspace(name)},
        keys=_newest(keys, policy.keys_per_owner),
    )


def release(owner: Owner, workspace_id: str) -> Owner:
    """Return the owner without the workspace; a key that made it stays until it expires, so that it answers "gone"."""
    kept = {held_id: held for held_id, held in owner.workspaces.items() if held_id != workspace_id}
    return replace(owner, workspaces=kept)


def _newest(keys: Mapping[str, UsedKey], most: int) -> dict[str, UsedKey]:
    """Return at most ``most`` keys, dropping those that expire first: an owner document must stay small."""
    return dict(sorted(keys.items(), key=lambda item: item[1].expires_at)[-most:])
