"""When a machine is too old.

A machine keeps the system that it was made with, since Container-Optimized OS does not update
itself here (``compute_instance.metadata_items``). Only a new machine on the same home has a newer
system. So a START that boots replaces a machine that is older than ``Policy.max_machine_age``. A
START that resumes keeps the memory, and with it the system. The age is the one that Compute gives:
a machine that is restored or copied by hand is as old as the copy, whatever is on its boot disk.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.domain.policy import Policy
from shared.domain.workspace import Status, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What happens to a machine because of its age, in words for people.

    From ``at`` on it is ``what``, because of ``why``, ``unless``.
    """

    at: datetime
    what: str
    why: str
    unless: str


def renewal(workspace: Workspace, policy: Policy) -> Renewal | None:
    """Return when and how the recorded machine is renewed. The answer does not depend on the time.

    None if machines are not renewed, if no machine is recorded, or if its age is unknown.
    """
    made_at = workspace.machine_made_at
    if policy.max_machine_age is None or made_at is None or workspace.instance_id is None:
        return None
    asleep = workspace.status is Status.SUSPENDED and workspace.memory_is_ready
    resumed = (
        "it is resumed with its memory, as the next start does"
        if asleep
        else "it is suspended, and then resumed"
    )
    return Renewal(
        at=made_at + policy.max_machine_age,
        what="made anew on its home by a start that boots it",
        why=(
            f"its machine was made on {made_at.astimezone(UTC):%Y-%m-%d}, "
            "and a machine's system is not updated"
        ),
        unless=(
            f'{resumed}; with "rebuild": true a start makes it anew then, too, '
            "and its memory is lost"
        ),
    )


def why_too_old(made_at: datetime | None, now: datetime, policy: Policy) -> str | None:
    """Say why a machine that was made then is too old to be booted. None if it is not."""
    if made_at is None or policy.max_machine_age is None or now - made_at <= policy.max_machine_age:
        return None
    age, most = _in_words(now - made_at), _in_words(policy.max_machine_age)
    return (
        f"The machine was {age} old, more than {most}, "
        "so a new one was made on the same home, with today's system."
    )


def _in_words(time: timedelta) -> str:
    if time >= timedelta(days=2):
        return f"{time.days} days"
    if time < timedelta(hours=2):
        return f"{time.total_seconds():.0f} seconds"
    return f"{time.total_seconds() / 3600:.0f} hours"
