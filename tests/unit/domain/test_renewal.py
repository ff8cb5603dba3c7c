"""From when on a machine is too old, and what its owner is told about it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from shared.domain.policy import Policy
from shared.domain.renewal import renewal, why_too_old
from shared.domain.workspace import Status, Workspace
from tests.fakes.records import NOW, POLICY, a_workspace

DAY = timedelta(days=1)
OFF = replace(POLICY, max_machine_age=None)


def old(status: Status = Status.READY, **changes: Any) -> Workspace:
    """Return a workspace whose machine was made 40 days ago."""
    return a_workspace(status, **{"machine_made_at": NOW - 40 * DAY, **changes})


def test_a_machine_is_too_old_from_the_moment_that_its_owner_was_told() -> None:
    """What the representation says and what a START does are one decision."""
    workspace = a_workspace(machine_made_at=NOW)
    expected = renewal(workspace, POLICY)
    assert expected is not None

    assert expected.at == NOW + timedelta(days=30)
    assert why_too_old(NOW, expected.at, POLICY) is None
    assert why_too_old(NOW, expected.at + timedelta(microseconds=1), POLICY) is not None


@pytest.mark.parametrize(
    ("workspace", "policy"),
    [
        (old(), OFF),
        (old(machine_made_at=None), POLICY),
        (old(instance_id=None), POLICY),
    ],
    ids=["switched off", "nobody knows its age", "no machine"],
)
def test_nothing_is_told_where_nothing_is_to_come(workspace: Workspace, policy: Policy) -> None:
    """Neither of an age that is unknown nor of a machine that is made anew anyway."""
    assert renewal(workspace, policy) is None


def test_who_would_be_resumed_is_told_that_the_next_start_does_not_help() -> None:
    """Their machine keeps its memory, and its old system, until they ask for a new one; whoever boots gets it by itself."""
    asleep, lost = old(Status.SUSPENDED), old(Status.SUSPENDED, ready_generation=None)
    told = {
        name: renewal(each, POLICY)
        for name, each in (("asleep", asleep), ("lost", lost), ("awake", old()))
    }

    assert all(each and '"rebuild": true' in each.unless for each in told.values())
    assert {
        name for name, each in told.items() if each and "as the next start does" in each.unless
    } == {"asleep"}


def test_its_owner_is_told_the_day_in_utc() -> None:
    """Compute says times in a zone of its own."""
    made_at = datetime(2026, 2, 28, 22, 30, tzinfo=timezone(-timedelta(hours=8)))
    expected = renewal(a_workspace(machine_made_at=made_at), POLICY)
    assert expected is not None

    assert "2026-03-01" in expected.why
    assert expected.at == datetime(2026, 3, 31, 6, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age", "most", "said"),
    [
        (40 * DAY, 30 * DAY, "40 days old, more than 30 days"),
        (timedelta(hours=5), timedelta(seconds=90), "5 hours old, more than 90 seconds"),
    ],
)
def test_how_old_a_machine_was_is_said_in_words(age: timedelta, most: timedelta, said: str) -> None:
    """Whoever reads the trail sees what has been decided, and by which number."""
    why = why_too_old(NOW - age, NOW, replace(POLICY, max_machine_age=most))
    assert why is not None

    assert said in why


def test_a_machine_of_which_nobody_knows_the_age_is_not_too_old() -> None:
    """It is booted as it is; and none is where the age is switched off."""
    assert why_too_old(None, NOW, POLICY) is None
    assert why_too_old(NOW - 400 * DAY, NOW, OFF) is None
