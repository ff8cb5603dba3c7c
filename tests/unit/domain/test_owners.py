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
from shared.domain.owners import Key, admit, release, workspace_of_key
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


def test_an_owner_holds_what_was_admitted() -> None:
    """The first workspace, without a key: its machine is about to run, and the change is counted."""
    held = {"id-one": OwnedWorkspace("one", running=True)}

    assert admit(Owner("alice"), "id-one", "one", None, EMAIL, NOW, POLICY) == Owner(
        "alice", held, recent=(NOW,)
    )


def test_a_name_can_be_taken_once() -> None:
    """The name is unique among the owner's, and the error says it."""
    with pytest.raises(NameTakenError, match="'one'"):
        admit(owning("one"), "id", "one", None, EMAIL, NOW, POLICY)


def test_names_that_differ_in_case_are_different() -> None:
    """Names are compared as they are written."""
    assert "id" in admit(owning("one"), "id", "One", None, EMAIL, NOW, POLICY).workspaces


def test_an_owner_may_have_as_many_as_the_quota_and_no_more() -> None:
    """The error has the count and the limit; a name that is taken is told first, for it can be helped."""
    full = admit(owning("one", "two"), "id-three", "three", None, EMAIL, NOW, POLICY)
    with pytest.raises(QuotaExceededError, match="3 of at most 3"):
        admit(full, "id-four", "four", None, EMAIL, NOW, POLICY)
    with pytest.raises(NameTakenError):
        admit(full, "id-four", "one", None, EMAIL, NOW, POLICY)


def test_a_quota_of_none_admits_nobody() -> None:
    """Zero is a quota too."""
    with pytest.raises(QuotaExceededError, match="0 of at most 0"):
        admit(
            Owner("alice"),
            "id",
            "one",
            None,
            EMAIL,
            NOW,
            replace(POLICY, limits=Limits(workspaces=0)),
        )


def test_a_released_workspace_makes_room_for_its_name() -> None:
    """What is deleted counts no more; releasing it twice is releasing it once."""
    released = release(owning("one", "two"), "id-one")

    assert released == owning("two")
    assert release(released, "id-one") == released
    assert "id" in admit(released, "id", "one", None, EMAIL, NOW, POLICY).workspaces


def test_a_key_is_known_for_a_day() -> None:
    """The same key with the same body is the workspace that it made, up to the last moment of its day."""
    owner = admit(Owner("alice"), "id-one", "one", KEY, EMAIL, NOW, POLICY)

    assert owner.keys == {KEY.hash: UsedKey("id-one", KEY.body_hash, NOW + DAY)}
    assert workspace_of_key(owner, KEY, NOW) == "id-one"
    assert workspace_of_key(owner, KEY, NOW + DAY - timedelta(microseconds=1)) == "id-one"
    assert workspace_of_key(owner, KEY, NOW + DAY) is None


def test_an_unknown_key_is_new() -> None:
    """Nothing was made with it."""
    assert workspace_of_key(owning("one"), KEY, NOW) is None


def test_a_key_with_another_body_is_refused_until_it_expires() -> None:
    """It was used for another request; a day later it is a new key."""
    owner = admit(Owner("alice"), "id-one", "one", KEY, EMAIL, NOW, POLICY)
    another = Key(KEY.hash, "another-body")

    with pytest.raises(IdempotencyKeyReusedError):
        workspace_of_key(owner, another, NOW)
    assert workspace_of_key(owner, another, NOW + DAY) is None


def test_a_key_whose_workspace_is_deleted_says_gone() -> None:
    """The key outlives the workspace; a wrong body is told first."""
    owner = release(admit(Owner("alice"), "id-one", "one", KEY, EMAIL, NOW, POLICY), "id-one")

    with pytest.raises(WorkspaceGoneError):
        workspace_of_key(owner, KEY, NOW)
    with pytest.raises(IdempotencyKeyReusedError):
        workspace_of_key(owner, Key(KEY.hash, "another-body"), NOW)


def test_old_keys_are_dropped_at_the_next_write() -> None:
    """An owner's document holds only keys that still mean something."""
    owner = admit(Owner("alice"), "id-one", "one", KEY, EMAIL, NOW, POLICY)

    assert admit(owner, "id-two", "two", None, EMAIL, NOW + DAY, POLICY).keys == {}


def test_the_oldest_keys_give_way_to_new_ones() -> None:
    """At most so many are kept: an owner's document stays small whatever a client does."""
    owner = Owner("alice")
    for minute in range(10):
        at = NOW + timedelta(minutes=minute)
        owner = release(
            admit(owner, "id", "one", Key(f"key-{minute}", "body"), EMAIL, at, POLICY), "id"
        )

    assert list(owner.keys) == ["key-6", "key-7", "key-8", "key-9"]


def test_decisions_leave_the_record_that_they_were_made_on_alone() -> None:
    """What was read is still what was read, to be compared with."""
    owner = owning("one")
    admit(owner, "id-two", "two", KEY, EMAIL, NOW, POLICY)
    release(owner, "id-one")

    assert owner == owning("one")
