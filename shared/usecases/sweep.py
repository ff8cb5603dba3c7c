"""The scheduled sweeps: ``clean_up`` idle and forgotten workspaces, ``reconcile`` overdue ones."""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from shared import logs
from shared.domain import lifecycle
from shared.domain.changes import Change
from shared.domain.errors import UnavailableError
from shared.domain.people import Actor
from shared.domain.policy import Policy
from shared.domain.workspace import OperationKind, Workspace
from shared.ports import Clock, Jobs, Page, WorkspaceStore
from shared.usecases.change_workspace import change_workspace

PAGE = 100
TIME_BUDGET = timedelta(
    seconds=120
)  # for each of a function's two sweeps, of the 300 that the catalogue gives it
PAUSE_SECONDS = 0.1  # after each change: ten a second are half of what the queue hands out, the rest is for people

Pause = Callable[[float], None]


@dataclass(slots=True)
class SweepReport:
    """What one run did. ``unfinished`` says that it ran out of time: the next run goes on with the rest."""

    looked_at: int = 0
    done: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unfinished: bool = False

    def counts(self) -> dict[str, Any]:
        """Return how much was done, for the log: the ids are in the answer and in each workspace's own lines."""
        done = {what: len(ids) for what, ids in self.done.items()}
        return {
            "looked_at": self.looked_at,
            "done": done,
            "failed": len(self.failed),
            "unfinished": self.unfinished,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        return asdict(self)


def log_failure(event: str, error: Exception, **fields: object) -> None:
    """Log what a sweep could not do for one of many: as a warning if it passes by itself, since the next run does it."""
    if isinstance(error, UnavailableError):
        logs.warning(event, reason=str(error), **fields)
    else:
        logs.error(event, error, **fields)


def clean_up(
    store: WorkspaceStore,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    request_id: str,
    pause: Pause = time.sleep,
) -> SweepReport:
    """Stop machines that nobody has connected to for the idle time, delete workspaces suspended for the retention time.

    Reads only what is due. What is due is decided again on the record as it is at the commit: a
    heartbeat that comes in between wins. One workspace that fails does not stop the rest. After
    each change there is a ``pause``, so that many at once are in nobody's way.
    """
    started = clock()
    report = SweepReport()
    sweeper = Actor(lifecycle.CLEANUP, request_id)

    def expire(workspace: Workspace) -> Change | None:
        return lifecycle.expire(
            workspace, lifecycle.NewOperation(str(uuid.uuid4()), sweeper, clock()), policy
        )

    if policy.idle_after is not None:
        idle_since = started - policy.idle_after
        due = _pages(lambda token: store.list_idle(idle_since, PAGE, token))
        _sweep(due, store, jobs, clock, report, expire, pause, sweeper)
    if policy.retention is not None:
        suspended_since = started - policy.retention
        due = _pages(lambda token: store.list_suspended(suspended_since, PAGE, token))
        _sweep(due, store, jobs, clock, report, expire, pause, sweeper)
    logs.info("CleanupDone", **report.counts())
    return report


def reconcile(
    store: WorkspaceStore,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    request_id: str,
    pause: Pause = time.sleep,
) -> SweepReport:
    """Send the jobs again that nothing has come of in time. The worker decides what is wrong, and ends what is overdue.

    After each there is a ``pause``, as above.
    """
    started = clock()
    report = SweepReport()
    due = _pages(lambda token: store.list_due(started, PAGE, token))
    _sweep(
        due,
        store,
        jobs,
        clock,
        report,
        lambda ws: lifecycle.attend(ws, request_id, clock(), policy),
        pause,
    )
    logs.info("ReconcileDone", **report.counts())
    return report


def _sweep(
    due: Iterator[str],
    store: WorkspaceStore,
    jobs: Jobs,
    clock: Clock,
    report: SweepReport,
    decide: Callable[[Workspace], Change | None],
    pause: Pause,
    actor: Actor | None = None,
) -> None:
    began = clock()
    for workspace_id in due:
        if clock() - began > TIME_BUDGET:
            report.unfinished = True
            return
        report.looked_at += 1
        try:
            now, changed = change_workspace(store, jobs, clock, workspace_id, decide, actor)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with one workspace, the rest must not wait for it
            log_failure("SweepFailed", error, workspace_id=workspace_id)
            report.failed[workspace_id] = str(error)
            continue
        if changed:
            report.done.setdefault(_what(now), []).append(workspace_id)
            pause(PAUSE_SECONDS)


def _what(workspace: Workspace) -> str:
    """Name what was done: the kind of operation that is now under way, or a look."""
    kind: OperationKind | str = workspace.operation.kind if workspace.operation else "LOOK"
    return kind.lower()


def _pages(query: Callable[[str | None], Page[str]]) -> Iterator[str]:
    """Yield the ids that a query finds, page by page. A cursor stays valid while the workspaces before it are changed."""
    token: str | None = None
    while True:
        page = query(token)
        yield from page.records
        token = page.next_token
        if token is None:
            return
