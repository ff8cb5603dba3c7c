"""The messages that describe tasks: checked when they arrive, and filled in when they are sent.

They are protocol buffers, as in ``queue_messages.py``.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from google.cloud import tasks_v2
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from localcloud.services.call_errors import InvalidArgumentError, UnimplementedError
from localcloud.services.cloud_tasks.queue_messages import read_duration, read_retry
from localcloud.services.cloud_tasks.retry_policy import RetryPolicy
from localcloud.services.cloud_tasks.scheduled_task import Answer, Attempt, ScheduledTask

LARGEST_TASK_BYTES = 100 * 1024
LARGEST_URL_CHARACTERS = 2083
LARGEST_HEADERS_BYTES = 80 * 1024
FARTHEST_SCHEDULE = timedelta(days=30)
DEFAULT_DISPATCH_DEADLINE = timedelta(minutes=10)
SHORTEST_DISPATCH_DEADLINE = timedelta(seconds=15)
LONGEST_DISPATCH_DEADLINE = timedelta(minutes=30)
USER_AGENT = "Google-Cloud-Tasks"

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_METHODS = frozenset(tasks_v2.HttpMethod)
_METHODS_WITH_BODY = {tasks_v2.HttpMethod.POST, tasks_v2.HttpMethod.PUT, tasks_v2.HttpMethod.PATCH}

# The status with which an attempt is shown; any other HTTP status is UNKNOWN.
_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ABORTED,
    429: Code.RESOURCE_EXHAUSTED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}

_Task = tasks_v2.Task.pb()


def read_task(sent: Any, name: str, now: datetime) -> tuple[Any, datetime, RetryPolicy | None]:
    """Check a new task, whose name is known, and fill in what Cloud Tasks fills in.

    Returns:
        The message to keep, when the task is due, and its own retry policy or None.

    Raises:
        InvalidArgumentError: something is malformed, missing or over its limit.
        UnimplementedError: it has no HTTP target, or needs an access token.
    """
    if sent.ByteSize() > LARGEST_TASK_BYTES:
        raise InvalidArgumentError(
            f"Task size too large: {sent.ByteSize()} bytes, at most {LARGEST_TASK_BYTES}."
        )
    if sent.HasField("app_engine_http_request"):
        raise UnimplementedError("App Engine tasks are not supported here.")
    if not sent.HasField("http_request"):
        raise InvalidArgumentError("Task.http_request is required.")
    _check_http_request(sent.http_request)
    due = max(_schedule_time(sent, now), now)
    deadline = read_duration(sent, "dispatch_deadline", DEFAULT_DISPATCH_DEADLINE)
    if not SHORTEST_DISPATCH_DEADLINE <= deadline <= LONGEST_DISPATCH_DEADLINE:
        raise InvalidArgumentError("Task.dispatch_deadline must be between 15s and 30m.")
    retry = read_retry(sent.retry_config) if sent.HasField("retry_config") else None

    task = _Task(name=name)
    task.http_request.CopyFrom(sent.http_request)
    task.http_request.http_method = sent.http_request.http_method or tasks_v2.HttpMethod.POST
    headers = list(task.http_request.headers)
    for header in [each for each in headers if each.lower() == "user-agent"]:
        del task.http_request.headers[header]
    task.http_request.headers["User-Agent"] = USER_AGENT
    task.create_time.FromDatetime(now.replace(microsecond=0))
    task.dispatch_deadline.FromTimedelta(deadline)
    if retry is not None:
        task.retry_config.CopyFrom(sent.retry_config)
    return task, due, retry


def _schedule_time(sent: Any, now: datetime) -> datetime:
    if not sent.HasField("schedule_time"):
        return now
    try:
        due: datetime = sent.schedule_time.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidArgumentError(f"Task.schedule_time is not a time: {error}") from error
    if due > now + FARTHEST_SCHEDULE:
        raise InvalidArgumentError("Task.schedule_time must be at most 30 days in the future.")
    return due


def _check_http_request(request: Any) -> None:
    _check_url(request.url)
    method = request.http_method or tasks_v2.HttpMethod.POST
    if method not in _METHODS:
        raise InvalidArgumentError(f"HttpRequest.http_method {method} is not known.")
    if request.body and method not in _METHODS_WITH_BODY:
        raise InvalidArgumentError("HttpRequest.body is only allowed with POST, PUT and PATCH.")
    size = 0
    for name, value in request.headers.items():
        size += len(name) + len(value.encode())
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidArgumentError(f"HttpRequest.headers: {name!r} is not a legal header.")
    if size >= LARGEST_HEADERS_BYTES:
        raise InvalidArgumentError("HttpRequest.headers must be smaller than 80KB.")
    if request.HasField("oauth_token"):
        raise UnimplementedError("HttpRequest.oauth_token is not supported here.")
    if request.HasField("oidc_token") and not request.oidc_token.service_account_email:
        raise InvalidArgumentError("OidcToken.service_account_email is required.")


def _check_url(url: str) -> None:
    if not url:
        raise InvalidArgumentError("HttpRequest.url is required.")
    if not url.lower().startswith(("http://", "https://")):
        raise InvalidArgumentError("HttpTarget.url must start with 'http://' or 'https://'.")
    if len(url) > LARGEST_URL_CHARACTERS:
        raise InvalidArgumentError("HttpRequest.url must be at most 2083 characters long.")
    try:
        parts = urlsplit(url)
        legal = bool(parts.hostname) and parts.port != 0
    except ValueError:
        legal = False
    if not legal:
        raise InvalidArgumentError("HttpRequest.url has no legal host and port.")


def write_task(task: ScheduledTask, view: int) -> Any:
    """Return a task as callers see it now; only the view FULL has the body."""
    message = _Task()
    message.CopyFrom(task.message)
    message.view = tasks_v2.Task.View.FULL
    if view != tasks_v2.Task.View.FULL:
        message.view = tasks_v2.Task.View.BASIC
        message.http_request.ClearField("body")
    message.schedule_time.FromDatetime(task.schedule_time)
    message.dispatch_count = task.dispatch_count
    message.response_count = task.response_count
    if task.first_dispatch_time is not None:
        message.first_attempt.dispatch_time.FromDatetime(task.first_dispatch_time)
    if task.last_attempt is not None:
        _write_attempt(task.last_attempt, message.last_attempt)
    return message


def _write_attempt(attempt: Attempt, message: Any) -> None:
    message.schedule_time.FromDatetime(attempt.schedule_time)
    message.dispatch_time.FromDatetime(attempt.dispatch_time)
    if attempt.response_time is not None:
        message.response_time.FromDatetime(attempt.response_time)
    if attempt.answer is not None:
        message.response_status.CopyFrom(_status(attempt.answer))


def _status(answer: Answer) -> Status:
    if 200 <= answer.status < 300:
        return Status()
    code = _CODES.get(answer.status, Code.UNKNOWN)
    text = f"HTTP status code {answer.status}" if answer.received else "no answer"
    return Status(code=code, message=f"{Code.Name(code)}({code}): {text}")
