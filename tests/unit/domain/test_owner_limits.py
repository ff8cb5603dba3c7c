"""How many of an owner's machines may run, whose limits are others, and how much an owner may change in a minute."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.errors import NameTakenError, QuotaExceededError, TooManyRequestsError
from shared.domain.owners import admit, admit_running, count_change, mark_running, release
from shared.domain.policy import Limits, Policy
from shared.domain.workspace import OwnedWorkspace, Owner

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
MOMENT = timedelta(microseconds=1)
POLICY = Policy(limits=Limits(workspaces=4, running=2), changes_per_minute=3)
EMAIL = "ada@example.com"


def owning(*running: bool) -> Owner:
    """Return an owner of workspaces whose machines run or do not; their ids and names are their numbers."""
    return Owner(
        "ada", {str(number): OwnedWorkspace(str(number), one) for number, one in enumerate(running)}
    )


def admit_new(
    owner: Owner, policy: Policy = POLICY, email: str | None = EMAIL, name: str = "new"
) -> Owner:
    """Return the owner with one workspace more."""
    return admit(owner, "new", name, None, email, NOW, policy)


def running(owner: Owner) -> list[str]:
    """Return the ids of those that count as running."""
    return [held_id for held_id, held in owner.workspaces.items() if held.running]


# ---- running machines ------------------------------------------------------------------------------------------------


def test_a_new_workspace_counts_as_running_from_its_request_on() -> None:
    """Its machine is about to be made: many requests at once cannot make more than may run."""
    assert running(admit_new(owning(False))) == ["new"]


def test_a_new_workspace_needs_room_for_a_running_machine() -> None:
    """As many as may run are running: the refusal says how many that is, and what to do."""
    with pytest.raises(
        QuotaExceededError,
        match=r"2 of your workspaces are running, of at most 2 at once\. Stop one",
    ):
        admit_new(owning(True, True, False))


def test_who_has_as_many_as_they_may_is_told_that_first() -> None:
    """Stopping one would not help; deleting one does."""
    with pytest.raises(QuotaExceededError, match=r"4 of at most 4 workspaces\. Delete one"):
        admit_new(owning(True, True, False, False))


def test_what_sleeps_does_not_count_as_running() -> None:
    """The two limits are separate."""
    assert running(admit_new(owning(False, False, True))) == ["2", "new"]


def test_a_start_needs_room_for_a_running_machine() -> None:
    """It is refused while as many run as may, and taken when one has stopped."""
    full = owning(True, True, False)
    with pytest.raises(QuotaExceededError, match="at most 2 at once"):
        admit_running(full, "2", EMAIL, POLICY)
    assert running(admit_running(mark_running(full, "0", running=False), "2", EMAIL, POLICY)) == [
        "1",
        "2",
    ]


def test_what_runs_already_does_not_count_against_itself() -> None:
    """A machine that is replaced by another needs no more room than it has."""
    full = owning(True, True)
    assert admit_running(full, "1", EMAIL, POLICY) == full


def test_a_deleted_workspace_makes_room_for_a_running_one() -> None:
    """What the owner no longer holds does not run."""
    assert running(admit_new(release(owning(True, True), "0"))) == ["1", "new"]


def test_noting_that_a_machine_runs_asks_no_quota() -> None:
    """A record that follows what is says what is, even beyond the limit."""
    assert running(mark_running(owning(True, True, False), "2", running=True)) == ["0", "1", "2"]


@pytest.mark.parametrize(("workspace_id", "runs"), [("0", True), ("1", False), ("gone", True)])
def test_noting_what_is_noted_changes_nothing(workspace_id: str, runs: bool) -> None:
    """Nor does noting something of a workspace that is not the owner's: there is nothing to be written."""
    owner = owning(True, False)
    assert mark_running(owner, workspace_id, running=runs) is owner


def test_limits_of_none_admit_nobody() -> None:
    """Zero is a limit too, of either kind."""
    with pytest.raises(QuotaExceededError, match="0 of at most 0 workspaces"):
        admit_new(owning(), replace(POLICY, limits=Limits(workspaces=0, running=2)))
    with pytest.raises(QuotaExceededError, match="0 of your workspaces are running, of at most 0"):
        admit_new(owning(), replace(POLICY, limits=Limits(workspaces=4, running=0)))


# ---- whose limits are others -----------------------------------------------------------------------------------------

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
def test_an_address_has_its_own_limits_else_its_organisations_else_everybodys(
    email: str | None, domain: str | None, limits: Limits
) -> None:
    """The nearest wins, in any case. The organisation is the one that is proven, whatever the address says."""
    assert OVERRIDES.limits_for(email, domain) == limits


def test_an_override_holds_for_both_kinds_of_limit() -> None:
    """More for one domain, less for one address."""
    bob = replace(owning(True, True, True, False, False), domain="example.com")
    assert "new" in admit_new(bob, OVERRIDES, "bob@example.com").workspaces
    with pytest.raises(QuotaExceededError, match="5 of at most 4"):
        admit_new(replace(bob, domain=None), OVERRIDES, "bob@example.com")
    with pytest.raises(QuotaExceededError, match="1 of at most 1"):
        admit_new(owning(False), OVERRIDES)
    with pytest.raises(QuotaExceededError, match="of at most 1 at once"):
        admit_running(owning(True, False), "1", EMAIL, OVERRIDES)


# ---- changes in a minute ---------------------------------------------------------------------------------------------


def changing(*seconds: float) -> Owner:
    """Return an owner who made changes so many seconds after ``NOW``, the first one first."""
    return Owner("ada", recent=tuple(NOW + SECOND * at for at in seconds))


def test_a_change_is_counted_with_its_time() -> None:
    """The latest comes last."""
    assert count_change(changing(1, 2), NOW + 3 * SECOND, POLICY) == changing(1, 2, 3)


def test_a_change_too_many_is_told_when_the_next_may_come() -> None:
    """That is when the first of the minute's changes is a minute old."""
    with pytest.raises(
        TooManyRequestsError, match="3 changes in the last minute, of at most 3"
    ) as refused:
        count_change(changing(0, 10, 20), NOW + 25 * SECOND, POLICY)
    assert refused.value.retry_after == 35 * SECOND


def test_who_waits_as_long_as_told_may_change_again() -> None:
    """Not a moment earlier, and what is older than a minute is forgotten."""
    owner = changing(0, 10, 20)
    with pytest.raises(TooManyRequestsError):
        count_change(owner, NOW + MINUTE - MOMENT, POLICY)
    assert count_change(owner, NOW + MINUTE, POLICY) == changing(10, 20, 60)


def test_a_limit_that_was_lowered_makes_wait_for_as_many_as_are_too_many() -> None:
    """Of five changes under an older limit three have to be a minute old before a third may follow."""
    owner = changing(0, 1, 2, 3, 4)
    with pytest.raises(TooManyRequestsError) as refused:
        count_change(owner, NOW + 5 * SECOND, POLICY)
    assert refused.value.retry_after == 57 * SECOND
    assert len(count_change(owner, NOW + 62 * SECOND, POLICY).recent) == 3


def test_only_a_minutes_changes_are_kept() -> None:
    """An owner's document stays small however long they go on."""
    owner = Owner("ada")
    for number in range(100):
        owner = count_change(owner, NOW + 21 * SECOND * number, POLICY)
    assert len(owner.recent) == 3


def test_a_create_is_a_change() -> None:
    """It is counted with the workspace, and refused when it is one too many, before anything else is looked at."""
    assert admit_new(owning()).recent == (NOW,)
    busy = replace(owning(True, True), recent=(NOW, NOW, NOW))
    with pytest.raises(TooManyRequestsError):
        admit_new(busy, name="0")


def test_a_refused_create_is_not_counted() -> None:
    """Neither a name that is taken nor a quota that is used up leaves anything to be written."""
    owner = owning(True, True)
    with pytest.raises(NameTakenError):
        admit_new(owner, name="0")
    with pytest.raises(QuotaExceededError):
        admit_new(owner)
    assert owner == owning(True, True)
