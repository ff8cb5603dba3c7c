"""Who has a name, by the owner's record, and how the record is made again from the workspaces."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.errors import NameTakenError
from shared.domain.owner_limits import holdings, take_name
from shared.domain.workspace import (
    NO_NAME,
    OperationKind,
    OwnedWorkspace,
    Owner,
    Problem,
    Status,
    Workspace,
)
from tests.fakes.records import NOW, a_workspace, an_operation

DELETE_FAILED = Problem("DELETE_TIMED_OUT", "It took too long.", retryable=True, at=NOW)
DELETE_FAILED = replace(DELETE_FAILED, operation_kind=OperationKind.DELETE)


def workspace(name: str = "api", status: Status = Status.READY, **changes: Any) -> Workspace:
    """Return a workspace of this name."""
    return a_workspace(status, name=name, **changes)


def undeleted(name: str = "api") -> Workspace:
    """Return a workspace whose DELETE has failed."""
    return workspace(name, Status.ERROR, error=DELETE_FAILED)


def owner(**names: str) -> Owner:
    """Return an owner whose record has these names by the workspaces' ids."""
    return Owner("alice", {each: OwnedWorkspace(name) for each, name in names.items()})


def named(held: dict[str, OwnedWorkspace], *workspaces: Workspace) -> list[str]:
    """Return the names that these workspaces have."""
    assert set(held) == {each.id for each in workspaces}
    return [held[each.id].name for each in workspaces]


# ---- a start takes a name ----


def test_whoever_has_their_name_keeps_it() -> None:
    """Nothing changes, so nothing more is written."""
    one = workspace()
    there = owner(**{one.id: "api", "other": "web"})

    assert take_name(there, one.id, "api") is there


def test_a_name_that_was_given_up_is_taken_again() -> None:
    """It may be another one; the rest of what is held stays."""
    one = undeleted()
    there = owner(**{one.id: NO_NAME, "other": "web"})

    assert take_name(there, one.id, "api") == owner(**{one.id: "api", "other": "web"})
    assert take_name(there, one.id, "api-2") == owner(**{one.id: "api-2", "other": "web"})


@pytest.mark.parametrize("mine", ["api", NO_NAME, "web"])
def test_a_name_that_another_has_is_refused(mine: str) -> None:
    """Even if the record gives it to both, as version 0.1 can leave it."""
    one = undeleted()

    with pytest.raises(NameTakenError, match="'api'"):
        take_name(owner(**{one.id: mine, "other": "api"}), one.id, "api")


def test_a_name_that_two_have_can_be_changed() -> None:
    """It is the way out for the one that is started."""
    one = undeleted()
    there = owner(**{one.id: "api", "other": "api"})

    assert take_name(there, one.id, "api-2") == owner(**{one.id: "api-2", "other": "api"})


def test_a_name_can_be_changed() -> None:
    """The old one is free then."""
    one = workspace()

    assert take_name(owner(**{one.id: "api"}), one.id, "api-2") == owner(**{one.id: "api-2"})


# ---- the record is made again ----


def test_a_workspace_has_its_name_unless_it_is_being_deleted() -> None:
    """That holds for one that the record lacks, and for a DELETE that version 0.1 has begun."""
    there = workspace()
    leaving = workspace("web", operation=an_operation(OperationKind.DELETE))

    for record in (Owner("alice"), owner(**{there.id: "api", leaving.id: "web"})):
        assert named(holdings(record, [there, leaving]), there, leaving) == ["api", NO_NAME]


@pytest.mark.parametrize("status", [Status.ERROR, Status.SUSPENDED])
def test_a_name_that_was_given_up_stays_so_until_a_start(status: Status) -> None:
    """A stop, by a person or the idle sweep, does not take it."""
    one = replace(undeleted(), status=status)

    assert named(holdings(owner(**{one.id: NO_NAME}), [one]), one) == [NO_NAME]


def test_a_failed_delete_that_the_record_lacks_has_no_name() -> None:
    """Its error says so."""
    one = undeleted()

    assert named(holdings(Owner("alice"), [one]), one) == [NO_NAME]


@pytest.mark.parametrize("status", [Status.READY, Status.PROVISIONING])
def test_what_version_0_1_has_started_has_its_name_if_nobody_else_has(status: Status) -> None:
    """That version does not take names again."""
    started, other = workspace(status=status), workspace()
    there = owner(**{started.id: NO_NAME})

    assert named(holdings(there, [started]), started) == ["api"]
    both = owner(**{started.id: NO_NAME, other.id: "api"})
    assert named(holdings(both, [started, other]), started, other) == [NO_NAME, "api"]


def test_of_two_that_nobody_recorded_the_oldest_has_the_name() -> None:
    """Each run decides the same, in whichever order they are read."""
    old, new = workspace(created_at=NOW - timedelta(days=9)), workspace()

    for read in ([old, new], [new, old]):
        assert named(holdings(Owner("alice"), read), old, new) == ["api", NO_NAME]


def test_the_record_made_again_is_the_same_the_next_time() -> None:
    """Otherwise each run would write it."""
    workspaces = [
        workspace(created_at=NOW - timedelta(days=9)),
        workspace(),
        undeleted(),
        workspace("web", operation=an_operation(OperationKind.DELETE)),
        workspace("web", Status.SUSPENDED),
    ]
    made = Owner("alice", holdings(Owner("alice"), workspaces))

    assert holdings(made, workspaces) == made.workspaces
