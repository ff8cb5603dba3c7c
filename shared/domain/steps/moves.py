"""Moves that do the same in every phase. They are values: they print and compare."""

from dataclasses import dataclass
from datetime import timedelta

from shared.domain.changes import Updated
from shared.domain.instance import DeleteInstance, ResumeInstance, StartInstance, StopInstance
from shared.domain.snapshots import bounded
from shared.domain.steps.step import Call, Step
from shared.domain.workspace import Phase


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again when the phase has usually ended, then after a quarter of the time it has lasted.

    Within bounds: see ``Policy``.
    """

    def __call__(self, step: Step) -> Updated:
        """Make the move."""
        policy = step.policy
        usually_left = step.left_of(policy.usual.of(step.operation.phase))
        later = min(max(step.lasted / 4, policy.look_min), policy.look_max)
        return step.wait(usually_left or later)

    def __str__(self) -> str:
        return "waits"


@dataclass(frozen=True, slots=True)
class WaitForUpload:
    """Look whether a snapshot is stored, ever less often: it may take hours.

    The pauses are those of the snapshot's own jobs (``snapshots.follow``).
    """

    def __call__(self, step: Step) -> Updated:
        """Make the move."""
        return step.wait(bounded(step.lasted / 4, step.policy))

    def __str__(self) -> str:
        return "waits"


@dataclass(frozen=True, slots=True)
class WaitForReport:
    """Wait for the machine's report, which ends the phase. A look only finds a lost machine.

    So the first look comes when nearly every boot has ended, and later ones after half of the time
    that the boot has lasted, at least ``look_max``.
    """

    def __call__(self, step: Step) -> Updated:
        """Make the move."""
        usually_left = step.left_of(step.policy.usual.boot)
        return step.wait(usually_left or max(step.lasted / 2, step.policy.look_max))

    def __str__(self) -> str:
        return "waits"


@dataclass(frozen=True, slots=True)
class Go:
    """Go to another phase at once."""

    phase: Phase

    def __call__(self, step: Step) -> Updated:
        """Make the move."""
        return step.enter(self.phase, "PhaseEntered")

    def __str__(self) -> str:
        return f"to {self.phase}"


@dataclass(frozen=True, slots=True)
class AwaitReport:
    """Wait for the report of a machine that boots, which needs no look at once."""

    def __call__(self, step: Step) -> Updated:
        """Make the move."""
        return step.await_report("PhaseEntered")

    def __str__(self) -> str:
        return f"to {Phase.AWAIT_READY}"


@dataclass(frozen=True, slots=True)
class Again:
    """Go back to the phase that calls Compute, as a new attempt, after a pause that doubles."""

    phase: Phase

    def __call__(self, step: Step) -> Updated:
        """Make the move."""
        attempt = step.operation.attempt + 1
        doubled: timedelta = step.policy.look_min * 2 ** min(attempt, 10)
        pause = min(doubled, step.policy.look_max)
        return step.enter(self.phase, "StepRepeated", attempt=attempt, delay=pause)

    def __str__(self) -> str:
        return f"again {self.phase}"


@dataclass(frozen=True, slots=True)
class TakeAgain:
    """Take the snapshot again, as a new attempt, after half a minute, which doubles.

    For calls that Compute has accepted: it accepts six an hour for a disk (source: "Best practices
    for disk snapshots"), however they end.
    """

    def __call__(self, step: Step) -> Updated:
        """Make the move."""
        attempt = step.operation.attempt
        pause = 2 * step.policy.look_max * 2 ** min(attempt, 10)
        return step.enter(Phase.SNAPSHOT, "StepRepeated", attempt=attempt + 1, delay=pause)

    def __str__(self) -> str:
        return f"again {Phase.SNAPSHOT}"


@dataclass(frozen=True, slots=True)
class Make:
    """Make a call that needs nothing but the machine's place. ``leads_to`` waits for its end."""

    command: type[ResumeInstance | StartInstance | StopInstance | DeleteInstance]
    leads_to: Phase

    def __call__(self, step: Step) -> Call:
        """Make the move."""
        return Call(self.command(step.place), self.leads_to)

    def __str__(self) -> str:
        return f"{self.command.__name__}, then {self.leads_to}"


PlainMove = Wait | WaitForReport | Go | AwaitReport | Again | TakeAgain | Make

RESUME = Make(ResumeInstance, Phase.AWAIT_RUNNING)
START = Make(StartInstance, Phase.STARTING)
STOP = Make(StopInstance, Phase.AWAIT_STOPPED)
DELETE = Make(DeleteInstance, Phase.AWAIT_ABSENT)
