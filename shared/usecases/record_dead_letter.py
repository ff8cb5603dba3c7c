"""Record a job that could not be delivered: its operation ends, and the workspace says why."""

from shared import logs
from shared.domain import lifecycle
from shared.domain.errors import WorkspaceNotFoundError
from shared.domain.events import HUB, Event
from shared.domain.jobs import Job
from shared.domain.policy import Policy
from shared.usecases.records import Records


def record_dead_letter(records: Records, policy: Policy, job: Job | None, reason: str) -> None:
    """End the operation of a dead job with a reason, and write an event.

    ``job`` is None if its message could not be read. An operation that has ended or advanced
    meanwhile is left alone.
    """
    workspace_id = job.workspace_id if job else ""
    logs.error("DeadLetter", workspace_id=workspace_id or None, reason=reason)
    owner_id = ""
    result = "ignored"
    if job is not None:
        try:
            workspace, changed = records.change(
                workspace_id,
                lambda ws: lifecycle.give_up(ws, job, reason, records.clock(), policy),
            )
        except WorkspaceNotFoundError:
            logs.info("JobObsolete", workspace_id=workspace_id)
        else:
            owner_id = workspace.owner_id
            result = "failed" if changed else "ignored"
    event = Event(
        at=records.clock(),
        workspace_id=workspace_id,
        owner_id=owner_id,
        who=HUB,
        what="DeadLetterRecorded",
        result=f"{result}: {reason}",
        request_id=logs.request_id.get(),
    )
    records.store.commit(events=[event])
