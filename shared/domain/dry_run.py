"""What a request would do, without doing it: the answer to ``?dry_run=true``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from shared.domain.changes import Transition
from shared.domain.course import Course, Loss, Lost, course_of
from shared.domain.owner_limits import mark_running, release
from shared.domain.policy import Limits, Policy
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import OperationKind, Owner, Phase, Workspace

NO_ID = ""  # the id of a workspace or an operation that is not made


class Decision(StrEnum):
    """What a request comes to.

    ``BEGIN``: an operation begins. ``CONFIRM``: one that the Hub began by itself becomes the
    person's own. ``RENAME``: only the name changes. ``NOTHING``: it is so already, or the same
    operation is under way.
    """

    BEGIN = "begin"
    CONFIRM = "confirm"
    RENAME = "rename"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of each limit an owner uses: how many workspaces, and how many that run."""

    workspaces: int
    running: int
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a request would do.

    ``workspace`` is the record after the commit of the request. What comes after that is as it
    goes if all goes well (``course_of``): ``phases``; ``losses``; ``quota``, the owner's after the
    end; ``runs``, whether the machine runs then.
    """

    decision: Decision
    kind: OperationKind | None
    phases: tuple[Phase, ...]
    workspace: Workspace
    quota: Quota
    runs: bool
    losses: tuple[Loss, ...]


def quota_of(owner: Owner, email: str | None, policy: Policy) -> Quota:
    """Return what an owner uses of their limits, which may be set for their address."""
    running = sum(held.running for held in owner.workspaces.values())
    return Quota(len(owner.workspaces), running, policy.limits_for(email, owner.domain))


def dry_run_of(transition: Transition, owner: Owner, now: datetime, policy: Policy) -> DryRun:
    """Return what a request would do that makes this transition. ``owner`` is as after it.

    ``Transition.change`` is an ``Updated``: no request forgets a record by itself.
    """
    before, after = transition.before, transition.after
    assert after is not None  # noqa: S101 -- only a worker forgets a record
    course = course_of(before, after, now, policy)
    begins = transition.begins
    if begins is not None:
        decision = Decision.BEGIN
    elif after.operation is not None:
        decision = Decision.CONFIRM
    else:
        decision = Decision.RENAME
    return DryRun(
        decision=decision,
        kind=after.operation.kind if after.operation else None,
        phases=course.phases,
        workspace=after,
        quota=_quota_at_the_end(course, after, owner, policy),
        runs=_runs(course),
        losses=(*course.losses, *_lost_name(before, after)),
    )


def making_room_first(run: DryRun, going: Sequence[Snapshot]) -> DryRun:
    """Return the dry run of an operation for whose own snapshot these are deleted."""
    if run.decision is not Decision.BEGIN or not going:
        return run
    names = ", ".join(
        each.name or f"the Hub's own of {each.asked_at:%Y-%m-%d %H:%M} UTC" for each in going
    )
    why = f"There must be room for the snapshot of what is in the home now: {names} is deleted."
    return _with_loss(run, Loss(Lost.SNAPSHOTS, why))


def _with_loss(run: DryRun, loss: Loss) -> DryRun:
    worst_first = list(Lost)
    losses = sorted((*run.losses, loss), key=lambda each: worst_first.index(each.what))
    return replace(run, losses=tuple(losses))


def losing_snapshots(deletion: DryRun, number: int) -> DryRun:
    """Return the dry run of a deletion of a workspace that has this many snapshots."""
    if deletion.decision is Decision.NOTHING or number == 0:
        return deletion
    many = "its snapshot is" if number == 1 else f"its {number} snapshots are"
    loss = Loss(Lost.SNAPSHOTS, f"The workspace is deleted: {many} deleted, too.")
    return _with_loss(deletion, loss)


def dry_run_of_nothing(workspace: Workspace, owner: Owner, now: datetime, policy: Policy) -> DryRun:
    """Return the answer for a request that changes nothing.

    If an operation is under way, quota and ``runs`` are as after that.
    """
    course = course_of(workspace, workspace, now, policy)
    return DryRun(
        decision=Decision.NOTHING,
        kind=None,
        phases=(),
        workspace=workspace,
        quota=_quota_at_the_end(course, workspace, owner, policy),
        runs=_runs(course),
        losses=(),
    )


def _quota_at_the_end(course: Course, after: Workspace, owner: Owner, policy: Policy) -> Quota:
    if course.end is None:
        ended = release(owner, after.id)
    else:
        ended = mark_running(owner, after.id, running=course.end.counts_as_running)
    return quota_of(ended, after.owner_email, policy)


def _runs(course: Course) -> bool:
    return course.end is not None and course.end.machine_running


def _lost_name(before: Workspace, after: Workspace) -> tuple[Loss, ...]:
    if not after.is_being_deleted and after.name == before.name:
        return ()
    if after.is_being_deleted and before.is_being_deleted:
        return ()
    why = f"The name {before.name!r} is free at once, for another workspace of the same owner."
    return (Loss(Lost.NAME, why),)
