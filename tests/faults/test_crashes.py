"""Processes that are killed at every call to the outside, before it and after it: in the end it is as if nothing had happened."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from localcloud.catalogue import read_catalogue
from localcloud.running_cloud import start_cloud
from localcloud.settings import LocalSettings
from tests.faults.crashes import SETTINGS, STORIES, Play, Theatre, every_point
from tests.faults.killer import MOMENTS, OnceAtEachCall, Point, listening
from tests.kept_logs import keep_if_failed
from tests.system.records import delete_by_hand

pytestmark = [pytest.mark.xdist_group("crashes"), pytest.mark.timeout(1200)]

# Those that are in no story: four have tests of their own, two change nothing, one talks to nobody.
NOT_IN_STORIES = {
    *("cleanup", "reconcile", "reconcile_fleet", "record_dead_letter"),
    *("list_workspaces", "list_events", "describe_api"),
}
_ENCORES = (
    3  # a process that dies takes along what it does for others, whose turn then has to come again
)
# Of the points: which calls a request makes depends on what else happens at that moment, too.
_LEFT_AT_MOST = 0.1
_OF_A_SWEEP = {
    "Firestore/RunQuery",
    "Firestore/GetDocument",
    "Firestore/Commit",
    "CloudTasks/CreateTask",
}


@pytest.fixture(scope="module")
def theatre(request: pytest.FixtureRequest) -> Iterator[Theatre]:
    """A cloud whose processes can be killed at their calls. Nothing in it comes by itself but what the platform brings again."""
    with listening() as killer:
        settings = LocalSettings(
            times="fast", schedule_seconds=0, python_path=killer.python_path, overrides=SETTINGS
        )
        with start_cloud(settings) as cloud:
            yield Theatre(cloud, killer)
            keep_if_failed(cloud, "crashes", failed=request.session.testsfailed)


def test_a_cleanup_killed_at_any_call_is_finished_by_the_next(theatre: Theatre) -> None:
    """Idle workspaces are suspended; one in use is left alone."""
    idle, used = theatre.ready(8), theatre.ready(1)
    for play in idle:
        theatre.records.age(play.workspace["id"], "last_connected_at", timedelta(hours=2))

    assert statuses_after(theatre, "cleanup", idle, "SUSPENDED") == ["SUSPENDED"] * 8
    assert statuses(used) == ["READY"]


def test_a_reconcile_killed_at_any_call_is_finished_by_the_next(theatre: Theatre) -> None:
    """Workspaces whose STOP has lost its job are suspended."""
    stuck = theatre.ready(6)
    for play in stuck:
        theatre.lose_a_stop(play)

    assert statuses_after(theatre, "reconcile", stuck, "SUSPENDED") == ["SUSPENDED"] * 6


def statuses_after(theatre: Theatre, sweep: str, plays: list[Play], wanted: str) -> list[str]:
    """Return the statuses after a sweep that was killed at each of its calls, once all are as wanted or nothing more comes."""
    watched = OnceAtEachCall()
    theatre.interrupt(sweep, watched)
    assert named(watched.done) == _OF_A_SWEEP
    theatre.reconcile_until(lambda: set(statuses(plays)) == {wanted})
    return statuses(plays)


def test_a_fleet_sweep_killed_at_any_call_is_finished_by_the_next(theatre: Theatre) -> None:
    """Records follow their machines, and what has no record is stopped, then deleted, and taken from what its owner holds.

    That takes several sweeps, as many as there are things to do one after the other.
    """
    vanished, lost = theatre.ready(4), theatre.ready(3)
    for play in vanished:
        delete_by_hand(theatre.cloud, play.workspace)
    for play in lost:
        theatre.records.delete(play.workspace["id"])
    watched = OnceAtEachCall()
    nothing = {
        "workspaces": [],
        "machines": [],
        "machines unknown to the record": 0,
        "disks": [],
        "held": [],
    }

    deadline = time.monotonic() + 240
    while (left := theatre.outcomes(lost)) != [nothing] * 3:
        assert time.monotonic() < deadline, left
        theatre.interrupt("reconcile_fleet", watched)
        time.sleep(1)

    assert named(watched.done) >= {
        "POST instances/…/stop",
        "DELETE instances/…",
        "DELETE disks/…",
        "Firestore/Commit",
    }
    theatre.reconcile_until(lambda: statuses(vanished) == ["ERROR"] * 4)
    assert statuses(vanished) == ["ERROR"] * 4


def test_dead_letters_whose_recording_is_killed_at_any_call_are_recorded(theatre: Theatre) -> None:
    """The CREATEs of machines that never report end in ERROR with the reason, and nothing is left of the machines."""
    silent = theatre.never_ready(3)
    watched = OnceAtEachCall()
    theatre.killer.watch_function("record_dead_letter", watched)
    with theatre.without_workers():  # the job stays the one that is given up
        for play in silent:
            theatre.give_up(play, watched)

    assert named(watched.done) >= {
        "Firestore/GetDocument",
        "Firestore/Commit",
        "CloudTasks/CreateTask",
    }
    theatre.reconcile_until(lambda: statuses(silent) == ["ERROR"] * 3)
    for end in theatre.outcomes(silent):
        assert [(ws["status"], ws["error"]) for ws in end["workspaces"]] == [
            ("ERROR", "NOT_CARRIED_OUT")
        ]
        assert (end["machines"], end["disks"], end["held"]) == ([], [], [False])


def named(points: set[Point]) -> set[str]:
    """Return the calls at which a process was killed, each before it and after it."""
    before, after = (
        {point.call.what for point in points if point.moment == moment} for moment in MOMENTS
    )
    assert before == after
    return before


def statuses(plays: list[Play]) -> list[str]:
    """Return the status of each play's workspace, with what is under way."""
    listed = [ws for play in plays for ws in play.person.workspaces()]
    return [
        f"{ws['status']} {ws['operation']['kind']}" if ws["operation"] else ws["status"]
        for ws in listed
    ]


# The last, since it leaves hundreds of workspaces, and a sweep that is killed again and again would
# read them all.
def test_a_process_killed_at_any_call_to_the_outside_changes_nothing_in_the_end(
    theatre: Theatre,
) -> None:
    """Each call that any story makes is found by playing it; then it is played with a kill at each: all end as undisturbed."""
    undisturbed = theatre.play((story, None) for story in STORIES)
    expected = {
        play.story: end
        for play, end in zip(undisturbed, theatre.outcomes(undisturbed), strict=True)
    }
    points = every_point(undisturbed)
    plays = theatre.play(points)
    for _ in range(_ENCORES):
        plays += theatre.play(not_reached(plays))
    left = not_reached(plays)
    rounds = theatre.reconcile_until(lambda: not differing(theatre, plays, expected))
    wrong = differing(theatre, plays, expected)

    missed = "".join(f"\n  not reached: {story}, {point}" for story, point in left)
    print(f"{len(points)} points, {len(plays)} plays, {rounds} rounds of reconcile{missed}")  # noqa: T201
    assert not wrong, "\n".join(
        f"{play.story}, {play.point}: {end}\nnot {expected[play.story]}" for play, end in wrong
    )
    assert len(left) < _LEFT_AT_MOST * len(points)
    assert places(play.watched.killed for play in plays) == places(point for _, point in points)
    assert {function for function, *_ in places(point for _, point in points)} == {
        function.name
        for function in read_catalogue().functions
        if function.name not in NOT_IN_STORIES
    }


def not_reached(plays: list[Play]) -> list[tuple[str, Point | None]]:
    """Return the points at which no process was killed in any of the plays, with their stories."""
    reached = {play.point for play in plays if play.watched.killed}
    stories = {play.point: play.story for play in plays}
    return [(story, point) for point, story in stories.items() if point not in reached]


def places(points: Iterable[Point | None]) -> set[tuple[str, str, str]]:
    """Return the functions, calls and moments of points, whatever came before in the request."""
    return {(point.call.function, point.call.what, point.moment) for point in points if point}


def differing(
    theatre: Theatre, plays: list[Play], expected: dict[str, dict[str, Any]]
) -> list[tuple[Play, dict[str, Any]]]:
    """Return the plays that have not ended as undisturbed ones do, and how they have."""
    ends = zip(plays, theatre.outcomes(plays), strict=True)
    return [(play, end) for play, end in ends if end != expected[play.story]]
