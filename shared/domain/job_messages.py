"""The JSON of a job in a message, the same for Pub/Sub and Cloud Tasks."""

import json
from typing import Any

from shared.domain.jobs import Job


class MalformedJobError(Exception):
    """A message is not a job of the Hub, and never will be. It ends in the dead letters."""


def write_job(job: Job) -> bytes:
    """Return the message of a job. It does not have what only the sender and its queue need."""
    message = {
        "workspace_id": job.workspace_id,
        "operation_id": job.operation_id,
        "step": job.step,
        "resend": job.resend,
        "request_id": job.request_id,
    }
    if job.snapshot_id is not None:
        message["snapshot_id"] = job.snapshot_id
    return json.dumps(message).encode()


def read_job(message: bytes) -> Job:
    """Return the job of a message.

    Raises:
        MalformedJobError: it is not one; the message says why.
    """
    try:
        fields: Any = json.loads(message)
        job = Job(
            workspace_id=fields["workspace_id"],
            operation_id=fields["operation_id"],
            step=fields["step"],
            resend=fields.get("resend", 0),
            request_id=fields.get("request_id", ""),
            snapshot_id=fields.get("snapshot_id"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedJobError(f"not a job: {error!r}") from error
    if not (isinstance(job.workspace_id, str) and job.workspace_id and isinstance(job.step, int)):
        raise MalformedJobError("not a job: workspace_id or step is not what it should be")
    if not (job.operation_id is None or isinstance(job.operation_id, str)):
        raise MalformedJobError("not a job: operation_id is not a string")
    if job.snapshot_id is not None:
        if not (isinstance(job.snapshot_id, str) and job.snapshot_id):
            raise MalformedJobError("not a job: snapshot_id is not what it should be")
        if job.operation_id is not None:
            raise MalformedJobError("not a job: it is about an operation and a snapshot")
    return job
