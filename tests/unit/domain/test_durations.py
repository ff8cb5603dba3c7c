"""How long phases and operations lasted, as timelines show it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.durations import MOST_IN_ORDER, phases_until, seconds_of
from shared.domain.workspace import Operation, OperationKind, Phase, PhaseDuration
from tests.fakes.records import NOW, a_step, a_workspace, an_operation

STAYS = st.lists(
    st.tuples(st.sampled_from(Phase), st.integers(min_value=0, max_value=90_000)), max_size=80
)


def an_operation_that_went_through(stays: list[tuple[Phase, int]]) -> Operation:
    """Return an operation that was in these phases, for so many tenths of a second each."""
    operation = an_operation(OperationKind.START, Phase.SURVEY, phase_since=NOW, requested_at=NOW)
    now = NOW
    for phase, tenths in stays:
        now += timedelta(seconds=tenths / 10)
        step = a_step(a_workspace(operation=operation), now=now)
        after = step.enter(phase, "PhaseEntered").workspace.operation
        assert after is not None
        operation = after
    return operation


@given(STAYS)
def test_the_phases_add_up_to_the_operation_and_are_bounded(stays: list[tuple[Phase, int]]) -> None:
    """Whatever way an operation takes, and however often it goes round."""
    operation = an_operation_that_went_through(stays)
    total = sum(tenths for _, tenths in stays) / 10
    now = NOW + timedelta(seconds=total + 5)

    phases = phases_until(operation, now)

    assert sum(each.seconds for each in phases) == pytest.approx(total + 5, abs=0.05)
    assert seconds_of(operation, now) == round(total + 5)
    assert len(phases) < MOST_IN_ORDER + len(Phase)
    assert {each.phase for each in phases} <= {Phase.SURVEY.value, *(p.value for p, _ in stays)}


def test_phases_are_in_the_order_in_which_they_ended() -> None:
    """One that is entered again is there again; a new attempt in the same phase is not."""
    operation = an_operation_that_went_through(
        [
            (Phase.INSERT, 4),
            (Phase.INSERTING, 11),
            (Phase.INSERTING, 20),
            (Phase.INSERT, 30),
            (Phase.INSERTING, 2),
        ]
    )
    assert operation.phases == (
        PhaseDuration("survey", 0.4),
        PhaseDuration("insert", 1.1),
        PhaseDuration("inserting", 5.0),
        PhaseDuration("insert", 0.2),
    )
    assert phases_until(operation, operation.phase_since)[-1] == PhaseDuration("inserting", 0.0)


def test_a_clock_that_is_behind_makes_no_negative_duration() -> None:
    """Another instance, whose clock is ahead, may have written when the phase began."""
    operation = an_operation(OperationKind.STOP, phase_since=NOW, requested_at=NOW)
    earlier = NOW - timedelta(seconds=3)
    assert phases_until(operation, earlier) == (PhaseDuration("suspend", 0.0),)
    assert seconds_of(operation, earlier) == 0


def test_a_duration_of_a_phase_that_this_version_does_not_know_stays() -> None:
    """A newer revision may have done a step before a rollback."""
    operation = replace(an_operation(OperationKind.STOP), phases=(PhaseDuration("hibernate", 3.0),))
    assert phases_until(operation, NOW)[0] == PhaseDuration("hibernate", 3.0)
