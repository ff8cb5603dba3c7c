"""Names, quota and idempotency keys, decided on the owner's record."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.errors import (
    IdempotencyKeyReusedError,
    NameTakenError,
    QuotaExceededError,
    WorkspaceGoneError,
)
from shared.domain.owner_limits import Key, NewHolding, add_workspace, release, workspace_of_key
from shared.domain.policy import Limits, Policy
from shared.domain.workspace import OwnedWorkspace, Owner, UsedKey
from tests.fakes.records import NOW

POLICY = Policy(limits=Limits(workspaces=3, running=3), keys_per_owner=4)
KEY = Key("key-hash", "body-hash")
EMAIL = "alice@example.com"
DAY = timedelta(days=1)


def owning(*names: str) -> Owner:
    """Return an owner of workspaces with these names; their ids are ``id-<name>``."""
    return Owner("alice", {f"id-{name}": OwnedWorkspace(name) for name in names})


def test_an_admitted_workspace_belongs_to_the_owner() -> None:
    """Its machine is about to run, so it counts as running; the change is counted too."""
    held = {"id-one": OwnedWorkspace("one", running=True)}

    assert add_workspace(
        Owner("alice"), NewHolding("id-one", "one", None, EMAIL), NOW, POLICY
    ) == Owner("alice", held, recent=(NOW,))


def test_a_name_can_be_taken_once() -> None:
    """A name is unique among an owner's workspaces, and the error states it."""
    with pytest.raises(NameTakenError, match="'one'"):
        add_workspace(owning("one"), NewHolding("id", "one", None, EMAIL), NOW, POLICY)


def test_names_that_differ_in_case_are_different() -> None:
    """The comparison of names is case-sensitive."""
    assert (
        "id"
        in add_workspace(
            owning("one"), NewHolding("id", "One", None, EMAIL), NOW, POLICY
        ).workspaces
    )


def test_an_owner_may_have_as_many_workspaces_as_the_quota() -> None:
    """The error has count and limit; a taken name is reported first, since it can be changed."""
    full = add_workspace(
        owning("one", "two"), NewHolding("id-three", "three", None, EMAIL), NOW, POLICY
    )
    with pytest.raises(QuotaExceededError, match="3 of at most 3"):
        add_workspace(full, NewHolding("id-four", "four", None, EMAIL), NOW, POLICY)
    with pytest.raises(NameTakenError):
        add_workspace(full, NewHolding("id-four", "one", None, EMAIL), NOW, POLICY)


def test_a_quota_of_zero_admits_nobody() -> None:
    """Zero is a limit like any other."""
    with pytest.raises(QuotaExceededError, match="0 of at most 0"):
        add_workspace(
            Owner("alice"),
            NewHolding("id", "one", None, EMAIL),
            NOW,
            replace(POLICY, limits=Limits(workspaces=0)),
        )


def test_a_released_workspace_makes_room_for_its_name() -> None:
    """A deleted workspace no longer counts; releasing it twice has no further effect."""
    released = release(owning("one", "two"), "id-one")

    assert released == owning("two")
    assert release(released, "id-one") == released
    assert (
        "id"
        in add_workspace(released, NewHolding("id", "one", None, EMAIL), NOW, POLICY).workspaces
    )


def test_a_key_is_valid_for_a_day() -> None:
    """The key with the same body finds the workspace until exactly a day later."""
    owner = add_workspace(Owner("alice"), NewHolding("id-one", "one", KEY, EMAIL), NOW, POLICY)

    assert owner.keys == {
        KEY.hash: UsedKey(workspace_id="id-one", body_hash=KEY.body_hash, expires_at=NOW + DAY)
    }
    assert workspace_of_key(owner, KEY, NOW) == "id-one"
    assert workspace_of_key(owner, KEY, NOW + DAY - timedelta(microseconds=1)) == "id-one"
    assert workspace_of_key(owner, KEY, NOW + DAY) is None


def test_an_unknown_key_is_new() -> None:
    """No workspace was created with it."""
    assert workspace_of_key(owning("one"), KEY, NOW) is None


def test_a_key_with_another_body_is_refused_until_it_expires() -> None:
    """After a day the key is new again."""
    owner = add_workspace(Owner("alice"), NewHolding("id-one", "one", KEY, EMAIL), NOW, POLICY)
    another = Key(KEY.hash, "another-body")

    with pytest.raises(IdempotencyKeyReusedError):
        workspace_of_key(owner, another, NOW)
    assert workspace_of_key(owner, another, NOW + DAY) is None


def test_a_key_whose_workspace_is_deleted_says_gone() -> None:
    """The key outlives the workspace; a different body is reported first."""
    owner = release(
        add_workspace(Owner("alice"), NewHolding("id-one", "one", KEY, EMAIL), NOW, POLICY),
        "id-one",
    )

    with pytest.raises(WorkspaceGoneError):
        workspace_of_key(owner, KEY, NOW)
    with pytest.raises(IdempotencyKeyReusedError):
        workspace_of_key(owner, Key(KEY.hash, "another-body"), NOW)


def test_old_keys_are_dropped_at_the_next_write() -> None:
    """An owner's document holds no expired keys."""
    owner = add_workspace(Owner("alice"), NewHolding("id-one", "one", KEY, EMAIL), NOW, POLICY)

    assert (
        add_workspace(owner, NewHolding("id-two", "two", None, EMAIL), NOW + DAY, POLICY).keys == {}
    )


def test_new_keys_replace_the_oldest() -> None:
    """The number of keys is limited, so that an owner's document stays small."""
    owner = Owner("alice")
    for minute in range(10):
        at = NOW + timedelta(minutes=minute)
        owner = release(
            add_workspace(
                owner, NewHolding("id", "one", Key(f"key-{minute}", "body"), EMAIL), at, POLICY
            ),
            "id",
        )

    assert list(owner.keys) == ["key-6", "key-7", "key-8", "key-9"]


def test_decisions_do_not_change_the_record_that_was_read() -> None:
    """Decisions return new records, so that the one that was read can be compared with."""
    owner = owning("one")
    add_workspace(owner, NewHolding("id-two", "two", KEY, EMAIL), NOW, POLICY)
    release(owner, "id-one")

    assert owner == owning("one")
