"""How long the phases of an operation have lasted: what a timeline shows."""

from dataclasses import replace
from datetime import datetime

from shared.domain.workspace import Operation, PhaseDuration

MOST_IN_ORDER = 20  # phases that are listed in their order; later ones are added to equal ones


def phases_until(operation: Operation, now: datetime) -> tuple[PhaseDuration, ...]:
    """Return the durations of the operation's phases, as if the present one ended now.

    They are in order, and a phase that was left and entered again is there again. An operation that
    goes round and round has no more than 20 of them, and one for each phase that is not among
    these; what comes later is added to the last one of the same phase. So the sum stays right.
    """
    # Never negative: another instance's clock, which may be ahead, wrote when the phase began.
    seconds = max((now - operation.phase_since).total_seconds(), 0.0)
    ended = PhaseDuration(operation.phase.value, round(seconds, 1))
    listed = operation.phases
    same = [at for at, each in enumerate(listed) if each.phase == ended.phase]
    if not same or (len(listed) < MOST_IN_ORDER and same[-1] != len(listed) - 1):
        return (*listed, ended)
    last = same[-1]
    added = replace(listed[last], seconds=round(listed[last].seconds + ended.seconds, 1))
    return (*listed[:last], added, *listed[last + 1 :])


def seconds_of(operation: Operation, now: datetime) -> int:
    """Return how long an operation that ends now has taken, in whole seconds."""
    return max(round((now - operation.requested_at).total_seconds()), 0)
