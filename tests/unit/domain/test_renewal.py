"""When a machine becomes too old, and what its owner is told about it."""

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


def test_a_machine_is_too_old_at_the_announced_time() -> None:
    """The representation and a START use the same decision."""
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
    ids=["switched off", "unknown age", "no machine"],
)
def test_no_renewal_is_announced_if_none_is_expected(workspace: Workspace, policy: Policy) -> None:
    """This holds if the age is unknown, or if the next start creates a new machine anyway."""
    assert renewal(workspace, policy) is None


def test_the_owner_of_a_suspended_machine_is_told_to_rebuild() -> None:
    """A resumed machine keeps its old system until a rebuild; a boot renews it by itself."""
    asleep, lost = old(Status.SUSPENDED), old(Status.SUSPENDED, ready_generation=None)
    told = {
        name: renewal(each, POLICY)
        for name, each in (("asleep", asleep), ("lost", lost), ("awake", old()))
    }

    assert all(each and '"rebuild": true' in each.unless for each in told.values())
    assert {
        name for name, each in told.items() if each and "as the next start does" in each.unless
    } == {"asleep"}


def test_the_announced_day_is_in_utc() -> None:
    """Compute's times have another time zone."""
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
def test_the_age_of_a_machine_is_given_in_words(age: timedelta, most: timedelta, said: str) -> None:
    """The event in the trail has the age and the limit."""
    why = why_too_old(NOW - age, NOW, replace(POLICY, max_machine_age=most))
    assert why is not None

    assert said in why


def test_a_machine_of_unknown_age_is_not_too_old() -> None:
    """It is booted as it is, and so is every machine if the limit is switched off."""
    assert why_too_old(None, NOW, POLICY) is None
    assert why_too_old(NOW - 400 * DAY, NOW, OFF) is None
