"""How many workspaces and changes in a minute an owner may have, and overrides by address."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.errors import NameTakenError, QuotaExceededError, TooManyRequestsError
from shared.domain.owner_limits import (
    NewHolding,
    add_workspace,
    admit_running,
    count_change,
    mark_running,
    release,
)
from shared.domain.policy import Limits, Policy
from shared.domain.workspace import OwnedWorkspace, Owner

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
MOMENT = timedelta(microseconds=1)
POLICY = Policy(limits=Limits(workspaces=4, running=2), changes_per_minute=3)
EMAIL = "ada@example.com"


def owning(*running: bool) -> Owner:
    """Return an owner with a workspace for each flag; ids and names are the numbers from 0."""
    return Owner(
        "ada", {str(number): OwnedWorkspace(str(number), one) for number, one in enumerate(running)}
    )


def admit_new(
    owner: Owner, policy: Policy = POLICY, email: str | None = EMAIL, name: str = "new"
) -> Owner:
    """Return the owner with one more workspace."""
    return add_workspace(owner, NewHolding("new", name, None, email), NOW, policy)


def running(owner: Owner) -> list[str]:
    """Return the ids of the workspaces that count as running."""
    return [held_id for held_id, held in owner.workspaces.items() if held.running]


# ---- running machines ----


def test_a_new_workspace_counts_as_running_from_its_request() -> None:
    """Otherwise many requests at once could create more machines than may run."""
    assert running(admit_new(owning(False))) == ["new"]


def test_a_new_workspace_needs_room_for_a_running_machine() -> None:
    """If the limit is reached, the refusal states it and says what to do."""
    with pytest.raises(
        QuotaExceededError,
        match=r"2 of your workspaces are running, of at most 2 at once\. Stop one",
    ):
        admit_new(owning(True, True, False))


def test_the_workspace_limit_is_reported_before_the_running_limit() -> None:
    """At both limits stopping a workspace does not help; deleting one does."""
    with pytest.raises(QuotaExceededError, match=r"4 of at most 4 workspaces\. Delete one"):
        admit_new(owning(True, True, False, False))


def test_suspended_workspaces_do_not_count_as_running() -> None:
    """The two limits are separate."""
    assert running(admit_new(owning(False, False, True))) == ["2", "new"]


def test_a_start_needs_room_for_a_running_machine() -> None:
    """A start is refused at the limit, and admitted after another workspace has stopped."""
    full = owning(True, True, False)
    with pytest.raises(QuotaExceededError, match="at most 2 at once"):
        admit_running(full, "2", EMAIL, POLICY)
    assert running(admit_running(mark_running(full, "0", running=False), "2", EMAIL, POLICY)) == [
        "1",
        "2",
    ]


def test_a_running_workspace_does_not_count_against_itself() -> None:
    """A machine that replaces another needs no additional room."""
    full = owning(True, True)
    assert admit_running(full, "1", EMAIL, POLICY) == full


def test_a_deleted_workspace_makes_room_for_a_running_one() -> None:
    """A workspace that the owner no longer holds does not count as running."""
    assert running(admit_new(release(owning(True, True), "0"))) == ["1", "new"]


def test_recording_that_a_machine_runs_checks_no_quota() -> None:
    """A record that follows its machine is updated even beyond the limit."""
    assert running(mark_running(owning(True, True, False), "2", running=True)) == ["0", "1", "2"]


@pytest.mark.parametrize(("workspace_id", "runs"), [("0", True), ("1", False), ("gone", True)])
def test_recording_the_same_state_again_changes_nothing(workspace_id: str, runs: bool) -> None:
    """The same holds for a workspace that is not the owner's: there is nothing to write."""
    owner = owning(True, False)
    assert mark_running(owner, workspace_id, running=runs) is owner


def test_limits_of_zero_admit_nobody() -> None:
    """Zero is a limit like any other, for both limits."""
    with pytest.raises(QuotaExceededError, match="0 of at most 0 workspaces"):
        admit_new(owning(), replace(POLICY, limits=Limits(workspaces=0, running=2)))
    with pytest.raises(QuotaExceededError, match="0 of your workspaces are running, of at most 0"):
        admit_new(owning(), replace(POLICY, limits=Limits(workspaces=4, running=0)))


# ---- limits by address and by organisation ----

OVERRIDES = replace(
    POLICY,
    limits_of={
        "ada@example.com": Limits(1, 1),
        "example.com": Limits(9, 8),
        "example.org": Limits(7, 6),
    },
)


@pytest.mark.parametrize(
    ("email", "domain", "limits"),
    [
        ("ada@example.com", "example.com", Limits(1, 1)),
        ("Ada@Example.Com", None, Limits(1, 1)),
        ("bob@example.com", "example.com", Limits(9, 8)),
        ("bob@EXAMPLE.ORG", "example.org", Limits(7, 6)),
        ("bob@example.com", None, POLICY.limits),
        ("example.com", None, POLICY.limits),
        ("bob@example.com", "elsewhere.net", POLICY.limits),
        ("bob@mail.example.org", "mail.example.org", POLICY.limits),
        ("ad\N{CYRILLIC SMALL LETTER A}@example.com", None, POLICY.limits),
        ("", None, POLICY.limits),
        (None, None, POLICY.limits),
    ],
)
def test_limits_of_an_address_come_before_its_organisations_and_the_default(
    email: str | None, domain: str | None, limits: Limits
) -> None:
    """An address is compared without case; the organisation is the one that the token proves."""
    assert OVERRIDES.limits_for(email, domain) == limits


def test_an_override_sets_both_limits() -> None:
    """A domain may have more than the default, an address less."""
    bob = replace(owning(True, True, True, False, False), domain="example.com")
    assert "new" in admit_new(bob, OVERRIDES, "bob@example.com").workspaces
    with pytest.raises(QuotaExceededError, match="5 of at most 4"):
        admit_new(replace(bob, domain=None), OVERRIDES, "bob@example.com")
    with pytest.raises(QuotaExceededError, match="1 of at most 1"):
        admit_new(owning(False), OVERRIDES)
    with pytest.raises(QuotaExceededError, match="of at most 1 at once"):
        admit_running(owning(True, False), "1", EMAIL, OVERRIDES)


# ---- changes in a minute ----


def changing(*seconds: float) -> Owner:
    """Return an owner who made changes at these seconds after ``NOW``, in this order."""
    return Owner("ada", recent=tuple(NOW + SECOND * at for at in seconds))


def test_a_change_is_counted_with_its_time() -> None:
    """The latest change comes last."""
    assert count_change(changing(1, 2), NOW + 3 * SECOND, POLICY) == changing(1, 2, 3)


def test_a_change_over_the_limit_is_told_when_to_try_again() -> None:
    """The next change may come when the first one is a minute old."""
    with pytest.raises(
        TooManyRequestsError, match="3 changes in the last minute, of at most 3"
    ) as refused:
        count_change(changing(0, 10, 20), NOW + 25 * SECOND, POLICY)
    assert refused.value.retry_after == 35 * SECOND


def test_a_change_is_admitted_after_the_stated_wait() -> None:
    """A moment earlier is too early; changes older than a minute are dropped."""
    owner = changing(0, 10, 20)
    with pytest.raises(TooManyRequestsError):
        count_change(owner, NOW + MINUTE - MOMENT, POLICY)
    assert count_change(owner, NOW + MINUTE, POLICY) == changing(10, 20, 60)


def test_a_lowered_limit_applies_to_earlier_changes() -> None:
    """After five changes and a limit of three, three must be a minute old before the next."""
    owner = changing(0, 1, 2, 3, 4)
    with pytest.raises(TooManyRequestsError) as refused:
        count_change(owner, NOW + 5 * SECOND, POLICY)
    assert refused.value.retry_after == 57 * SECOND
    assert len(count_change(owner, NOW + 62 * SECOND, POLICY).recent) == 3


def test_only_a_minutes_changes_are_kept() -> None:
    """So an owner's document stays small."""
    owner = Owner("ada")
    for number in range(100):
        owner = count_change(owner, NOW + 21 * SECOND * number, POLICY)
    assert len(owner.recent) == 3


def test_a_create_is_a_change() -> None:
    """A create is counted, and the limit of changes is checked before name and quota."""
    assert admit_new(owning()).recent == (NOW,)
    busy = replace(owning(True, True), recent=(NOW, NOW, NOW))
    with pytest.raises(TooManyRequestsError):
        admit_new(busy, name="0")


def test_a_refused_create_is_not_counted() -> None:
    """Neither a taken name nor a used-up quota leaves anything to write."""
    owner = owning(True, True)
    with pytest.raises(NameTakenError):
        admit_new(owner, name="0")
    with pytest.raises(QuotaExceededError):
        admit_new(owner)
    assert owner == owning(True, True)
