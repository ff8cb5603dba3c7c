"""Processes that are killed before and after every call to another service: the end is the same."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from localcloud.catalogue import read_catalogue
from localcloud.running_cloud import start_cloud
from localcloud.settings import LocalSettings
from tests.faults.crash_injection import (
    MOMENTS,
    CrashOnceAtEachCall,
    CrashPoint,
    crash_injector,
)
from tests.faults.crashes import SCENARIOS, SETTINGS, CrashHarness, ScenarioRun, every_point
from tests.kept_logs import keep_if_failed
from tests.system.records import delete_by_hand

pytestmark = [pytest.mark.xdist_group("crashes"), pytest.mark.timeout(2400)]

# Four of these have tests of their own, and the others change nothing or make no calls.
NOT_IN_SCENARIOS = {
    *("cleanup", "reconcile", "reconcile_fleet", "record_dead_letter"),
    *("list_workspaces", "get_workspace", "list_events", "list_snapshots"),
    "list_deleted_workspaces",
    "delete_snapshot",  # tests/unit/usecases/test_crash_points.py has it
    *("describe_api", "describe_me", "describe_sign_in", "show_page"),
}
# A killed process also ends the requests of other runs, which then miss their point and run again.
_REPETITIONS = 3
# Of the points: which calls a request makes depends on what else happens at that moment, too.
_MAX_SHARE_NOT_REACHED = 0.1
_CALLS_OF_A_SWEEP = {
    "Firestore/RunQuery",
    "Firestore/GetDocument",
    "Firestore/Commit",
    "CloudTasks/CreateTask",
}


@pytest.fixture(scope="module")
def harness(request: pytest.FixtureRequest) -> Iterator[CrashHarness]:
    """A cloud whose processes can be killed at their calls, and whose scheduler does not run."""
    with crash_injector() as injector:
        settings = LocalSettings(
            times="fast", schedule_seconds=0, python_path=injector.python_path, overrides=SETTINGS
        )
        with start_cloud(settings) as cloud:
            yield CrashHarness(cloud, injector)
            keep_if_failed(cloud, "crashes", failed=request.session.testsfailed)


def test_a_cleanup_killed_at_any_call_is_finished_by_the_next(harness: CrashHarness) -> None:
    """Idle workspaces are suspended; one in use stays READY."""
    idle, used = harness.make_ready(8), harness.make_ready(1)
    for run in idle:
        harness.records.age(run.workspace["id"], "last_connected_at", timedelta(hours=2))

    assert statuses_after(harness, "cleanup", idle, "SUSPENDED") == ["SUSPENDED"] * 8
    assert statuses(used) == ["READY"]


def test_a_reconcile_killed_at_any_call_is_finished_by_the_next(harness: CrashHarness) -> None:
    """Workspaces whose STOP has lost its job are suspended."""
    stuck = harness.make_ready(6)
    for run in stuck:
        harness.lose_job_of_stop(run)

    assert statuses_after(harness, "reconcile", stuck, "SUSPENDED") == ["SUSPENDED"] * 6


def statuses_after(
    harness: CrashHarness, sweep: str, runs: list[ScenarioRun], wanted: str
) -> list[str]:
    """Return the statuses after a sweep that was killed at each of its calls.

    They are those that are wanted, or the last ones before the timeout.
    """
    plan = CrashOnceAtEachCall()
    harness.call_with_crashes(sweep, plan)
    assert calls_at(plan.done) == _CALLS_OF_A_SWEEP
    harness.reconcile_until(lambda: set(statuses(runs)) == {wanted})
    return statuses(runs)


def test_a_fleet_sweep_killed_at_any_call_is_finished_by_the_next(harness: CrashHarness) -> None:
    """Records follow their machines; what has no record is stopped, deleted, and no longer held.

    That takes several sweeps, as many as there are things to do one after the other.
    """
    vanished, lost = harness.make_ready(4), harness.make_ready(3)
    for run in vanished:
        delete_by_hand(harness.cloud, run.workspace)
    for run in lost:
        harness.records.delete(run.workspace["id"])
    plan = CrashOnceAtEachCall()
    nothing = {
        "workspaces": [],
        "machines": [],
        "machines unknown to the record": 0,
        "disks": [],
        "held": [],
        "snapshots": [],
        "snapshots unknown to the record": 0,
    }

    deadline = time.monotonic() + 240
    while (left := harness.outcomes(lost)) != [nothing] * 3:
        assert time.monotonic() < deadline, left
        harness.call_with_crashes("reconcile_fleet", plan)
        time.sleep(1)

    assert calls_at(plan.done) >= {
        "POST instances/…/stop",
        "DELETE instances/…",
        "DELETE disks/…",
        "Firestore/Commit",
    }
    harness.reconcile_until(lambda: statuses(vanished) == ["ERROR"] * 4)
    assert statuses(vanished) == ["ERROR"] * 4


def test_dead_letters_are_recorded_though_the_recorder_is_killed_at_any_call(
    harness: CrashHarness,
) -> None:
    """CREATEs of machines that never report end in ERROR with the reason; no machine is left."""
    silent = harness.make_never_ready(3)
    plan = CrashOnceAtEachCall()
    harness.injector.apply_to_function("record_dead_letter", plan)
    with harness.paused_worker():  # so that the dead letter stays the operation's current job
        for run in silent:
            harness.dead_letter(run, plan)

    assert calls_at(plan.done) >= {
        "Firestore/GetDocument",
        "Firestore/Commit",
        "CloudTasks/CreateTask",
    }
    harness.reconcile_until(lambda: statuses(silent) == ["ERROR"] * 3)
    for end in harness.outcomes(silent):
        assert [(ws["status"], ws["error"]) for ws in end["workspaces"]] == [
            ("ERROR", "NOT_CARRIED_OUT")
        ]
        assert (end["machines"], end["disks"], end["held"]) == ([], [], [False])


def calls_at(points: set[CrashPoint]) -> set[str]:
    """Return the calls of the points, each of which must be there with both moments."""
    before, after = (
        {point.call.what for point in points if point.moment == moment} for moment in MOMENTS
    )
    assert before == after
    return before


def statuses(runs: list[ScenarioRun]) -> list[str]:
    """Return the status of each run's workspace, with the operation that is under way."""
    listed = [ws for run in runs for ws in run.person.workspaces()]
    return [
        f"{ws['status']} {ws['operation']['kind']}" if ws["operation"] else ws["status"]
        for ws in listed
    ]


# The last test, since it leaves hundreds of workspaces, which a sweep that is killed again and
# again would have to read.
def test_a_process_killed_at_any_call_to_another_service_changes_nothing_in_the_end(
    harness: CrashHarness,
) -> None:
    """Every call of every scenario is found by a run without crashes; then it gets two crashes.

    Each run with a crash ends as the one without.
    """
    undisturbed = harness.run((scenario, None) for scenario in SCENARIOS)
    expected = {
        run.scenario: end
        for run, end in zip(undisturbed, harness.outcomes(undisturbed), strict=True)
    }
    points = every_point(undisturbed)
    runs = harness.run(points)
    for _ in range(_REPETITIONS):
        runs += harness.run(not_reached(runs))
    left = not_reached(runs)
    rounds = harness.reconcile_until(lambda: not differing(harness, runs, expected))
    wrong = differing(harness, runs, expected)

    missed = "".join(f"\n  not reached: {scenario}, {point}" for scenario, point in left)
    print(f"{len(points)} points, {len(runs)} runs, {rounds} rounds of reconcile{missed}")  # noqa: T201
    assert not wrong, "\n".join(
        f"{run.scenario}, {run.point}: {end}\nnot {expected[run.scenario]}" for run, end in wrong
    )
    assert len(left) < _MAX_SHARE_NOT_REACHED * len(points)
    assert places(run.plan.crashed_at for run in runs) == places(point for _, point in points)
    assert {function for function, *_ in places(point for _, point in points)} == {
        function.name
        for function in read_catalogue().functions
        if function.name not in NOT_IN_SCENARIOS
    }


def not_reached(runs: list[ScenarioRun]) -> list[tuple[str, CrashPoint | None]]:
    """Return the points at which no process was killed in any of the runs, with their scenarios."""
    reached = {run.point for run in runs if run.plan.crashed_at}
    scenarios = {run.point: run.scenario for run in runs}
    return [(scenario, point) for point, scenario in scenarios.items() if point not in reached]


def places(points: Iterable[CrashPoint | None]) -> set[tuple[str, str, str]]:
    """Return function, call and moment of each point, without the calls before it."""
    return {(point.call.function, point.call.what, point.moment) for point in points if point}


def differing(
    harness: CrashHarness, runs: list[ScenarioRun], expected: dict[str, dict[str, Any]]
) -> list[tuple[ScenarioRun, dict[str, Any]]]:
    """Return the runs that ended otherwise than those without crashes, and how they ended."""
    ends = zip(runs, harness.outcomes(runs), strict=True)
    return [(run, end) for run, end in ends if end != expected[run.scenario]]
