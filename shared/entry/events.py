"""The event edge: Pub/Sub messages, which functions-framework hands on as CloudEvents."""

import base64
from collections.abc import Callable
from functools import wraps
from typing import Any

import flask
import functions_framework
from cloudevents.http.event import CloudEvent
from flask import Response
from werkzeug.exceptions import BadRequest, HTTPException

from shared import logs
from shared.domain.errors import UnavailableError
from shared.domain.job_messages import MalformedJobError, read_job
from shared.domain.jobs import Job
from shared.entry.http import refused_by_the_framework
from shared.entry.problems import problem_of_hub_error
from shared.entry.wsgi import guard


def job_event(handler: Callable[[Job], None]) -> Callable[[CloudEvent], None]:
    """Make a CloudEvent function of a handler that does a job.

    Returning acknowledges the message; raising has it delivered again. An error that passes by
    itself is logged as a warning, since the next delivery does the job. A message that is not a job
    raises too, so that it goes to the dead letters like every message that cannot be handled.
    """

    @wraps(handler)
    def function(event: CloudEvent) -> None:
        job = read_job(message_data(event))
        token = logs.request_id.set(job.request_id)
        try:
            handler(job)
        except UnavailableError as error:
            logs.warning(
                "JobNotDone", workspace_id=job.workspace_id, step=job.step, reason=str(error)
            )
            raise
        except Exception as error:
            logs.error("JobFailed", error, workspace_id=job.workspace_id, step=job.step)
            raise
        finally:
            logs.request_id.reset(token)

    return _registered(function)


def dead_letter_event(handler: Callable[[Job | None, str], None]) -> Callable[[CloudEvent], None]:
    """Make a CloudEvent function of a handler that records a dead letter.

    The handler gets its job, or None if it is not one, and the reason in words.
    """

    @wraps(handler)
    def function(event: CloudEvent) -> None:
        attributes = _message(event).get("attributes") or {}
        count = attributes.get("CloudPubSubDeadLetterSourceDeliveryCount", "many")
        reason = f"its message was refused {count} times."
        job: Job | None = None
        try:
            job = read_job(message_data(event))
        except MalformedJobError as error:
            reason = f"{error}; {reason}"
        token = logs.request_id.set(job.request_id if job else "")
        try:
            handler(job, reason)
        except UnavailableError as error:
            logs.warning(
                "DeadLetterNotRecorded",
                workspace_id=job.workspace_id if job else None,
                reason=str(error),
            )
            raise
        finally:
            logs.request_id.reset(token)

    return _registered(function)


def _registered(function: Callable[[CloudEvent], None]) -> Callable[[CloudEvent], None]:
    guard(flask.current_app)
    functions_framework.cloud_event(function)
    functions_framework.errorhandler(HTTPException)(_refused)
    # Flask logs an exception without a handler as an error.
    functions_framework.errorhandler(UnavailableError)(problem_of_hub_error)
    return function


def _refused(error: HTTPException) -> Response:
    """Answer in our form: the framework's own answer to a bad event repeats all that was sent."""
    if isinstance(error, BadRequest):
        error = BadRequest("This is not a Pub/Sub message in a form that is known here.")
    return refused_by_the_framework(error)


def message_data(event: CloudEvent) -> bytes:
    """Return a Pub/Sub message's bytes."""
    data = _message(event).get("data") or ""
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise MalformedJobError("the message's data is not base64") from error


def _message(event: CloudEvent) -> dict[str, Any]:
    message: dict[str, Any] = (event.data or {}).get("message") or {}
    return message
