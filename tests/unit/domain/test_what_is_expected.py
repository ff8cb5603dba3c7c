"""What the outlook of a record says; ``usecases/test_outlook.py`` holds it to what happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from shared.domain.outlook import ExpectedKind, outlook
from shared.domain.workspace import OperationKind, Status, Workspace
from tests.fakes.records import A_PROBLEM, NOW, POLICY, a_workspace, an_operation

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def kinds(workspace: Workspace, **policy: object) -> list[ExpectedKind]:
    """Return the kinds of what is expected, in order."""
    return [each.kind for each in outlook(workspace, replace(POLICY, **policy))]  # type: ignore[arg-type]


def test_a_person_reads_why_an_idle_machine_is_suspended_and_what_prevents_it() -> None:
    """``since`` is the last connection. Without memory worth keeping it is shut down."""
    workspace = a_workspace()
    [expected] = outlook(workspace, POLICY)
    [broken] = outlook(replace(workspace, ready_generation=None), POLICY)

    assert (expected.kind, expected.at, expected.since) == (
        ExpectedKind.SUSPEND,
        workspace.last_connected_at + HOUR,
        workspace.last_connected_at,
    )
    assert (expected.what, expected.why, expected.unless) == (
        "it is suspended, and its memory is kept",
        "nobody has been connected",
        "somebody connects, or you keep it awake",
    )
    assert broken.what == "its machine is shut down, and its home is kept"


def test_a_word_to_keep_it_awake_is_the_reason_only_if_it_holds_longer() -> None:
    """Otherwise the idle time is."""
    workspace = a_workspace(kept_awake_until=NOW + 5 * HOUR)
    [kept] = outlook(workspace, POLICY)
    [idle] = outlook(replace(workspace, kept_awake_until=NOW), POLICY)

    assert (kept.at, kept.why) == (
        NOW + 5 * HOUR,
        "it is kept awake until then, and nobody has been connected",
    )
    assert (idle.at, idle.why) == (
        workspace.last_connected_at + HOUR,
        "nobody has been connected",
    )


def test_only_the_deadline_of_an_operation_is_known_while_it_is_under_way() -> None:
    """What follows depends on how it ends. A clean-up has a deadline of its own."""
    operation = an_operation(OperationKind.STOP)
    [expected] = outlook(a_workspace(Status.READY, operation), POLICY)
    failed = replace(operation, kind=OperationKind.START, failure=A_PROBLEM)
    [cleaning] = outlook(a_workspace(Status.READY, failed), POLICY)

    assert (expected.kind, expected.at, expected.since) == (
        ExpectedKind.DEADLINE,
        operation.deadline_at,
        None,
    )
    assert expected.what == "the stop is given up"
    assert cleaning.what == "the clean-up is given up"


def test_compute_engines_sixty_days_are_told_if_the_workspace_is_kept_so_long() -> None:
    """It is deleted before by default, and memory that is lost cannot be lost again."""
    asleep = a_workspace(Status.SUSPENDED)
    kept = outlook(asleep, replace(POLICY, retention=None))

    assert kinds(asleep) == [ExpectedKind.DELETE]
    assert [(each.kind, each.at) for each in kept] == [
        (ExpectedKind.COMPUTE_LIMIT, NOW - timedelta(minutes=5) + 60 * DAY)
    ]
    assert kinds(asleep, retention=90 * DAY) == [ExpectedKind.COMPUTE_LIMIT, ExpectedKind.DELETE]
    assert kinds(replace(asleep, ready_generation=None), retention=None) == []


def test_a_deletion_says_until_when_it_can_be_taken_back() -> None:
    """From its own time on, if its home is kept then; otherwise it says that all is lost."""
    asleep = a_workspace(Status.SUSPENDED)
    [kept] = outlook(asleep, replace(POLICY, undelete_for=DAY))
    [purged] = outlook(asleep, replace(POLICY, undelete_for=None))
    [homeless] = outlook(replace(asleep, home_disk=None), POLICY)

    assert kept.at is not None
    assert kept.what.endswith(f"can be taken back until {kept.at + DAY:%Y-%m-%d %H:%M} UTC")
    assert purged.what == homeless.what
    assert purged.what.endswith("its snapshots and everything in them")


def test_what_compute_engine_does_by_configuration_is_told_of_running_machines() -> None:
    """The time of a limit counts from the start at the earliest; a Spot VM may end at any time."""
    since = NOW - 2 * HOUR
    workspace = a_workspace(running_since=since, machine_made_at=NOW - DAY)
    configured = replace(POLICY, most_run=3 * HOUR, spot=True)
    found = outlook(workspace, configured)

    assert [(each.kind, each.at) for each in found] == [
        (ExpectedKind.SUSPEND, workspace.last_connected_at + HOUR),
        (ExpectedKind.MAX_RUN, since + 3 * HOUR),
        (ExpectedKind.RENEWAL, NOW + 29 * DAY),
        (ExpectedKind.SPOT, None),
    ]
    unknown = outlook(replace(workspace, running_since=None), configured)
    assert [each.kind for each in unknown if each.at is None] == [
        ExpectedKind.MAX_RUN,
        ExpectedKind.SPOT,
    ]
    asleep = replace(workspace, status=Status.SUSPENDED, machine_running=False)
    assert kinds(asleep, most_run=HOUR, spot=True) == [ExpectedKind.RENEWAL]
