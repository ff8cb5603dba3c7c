"""Record a job that could not be delivered: the workspace says so, and nobody waits for it any more."""

from shared import logs
from shared.domain import lifecycle
from shared.domain.errors import WorkspaceNotFoundError
from shared.domain.events import HUB, Event
from shared.domain.jobs import Job
from shared.domain.policy import Policy
from shared.ports import Clock, Jobs, WorkspaceStore
from shared.usecases.change_workspace import change_workspace


def record_dead_letter(
    store: WorkspaceStore, jobs: Jobs, clock: Clock, policy: Policy, job: Job | None, reason: str
) -> None:
    """End the operation of a dead job with a reason, and write an event. ``job`` is None when it could not be read.

    An operation that has ended or gone on meanwhile is left alone.
    """
    logs.error("DeadLetter", workspace_id=job.workspace_id if job else None, reason=reason)
    owner_id = ""
    result = "ignored"
    if job is not None:
        try:
            workspace, changed = change_workspace(
                store,
                jobs,
                clock,
                job.workspace_id,
                lambda ws: lifecycle.give_up(ws, job, reason, clock(), policy),
            )
        except WorkspaceNotFoundError:
            logs.info("JobObsolete", workspace_id=job.workspace_id)
        else:
            owner_id = workspace.owner_id
            result = "failed" if changed else "ignored"
    store.commit(
        events=[
            Event(
                at=clock(),
                workspace_id=job.workspace_id if job else "",
                owner_id=owner_id,
                who=HUB,
                what="DeadLetterRecorded",
                result=f"{result}: {reason}",
                request_id=job.request_id if job else logs.request_id.get(),
            )
        ]
    )
