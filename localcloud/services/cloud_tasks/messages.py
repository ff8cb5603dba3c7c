"""What goes over the wire: the client library's messages, checked on the way in and filled on the way out.

Messages are the protocol buffers under the library's types (`tasks_v2.Task.pb()`): unlike those
they tell an unset field from a zero, and they are cheap.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from google.cloud import tasks_v2
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from localcloud.services.cloud_tasks.errors import InvalidArgumentError, UnimplementedError
from localcloud.services.cloud_tasks.queue import (
    Answer,
    Attempt,
    RateLimits,
    RetryPolicy,
    ScheduledTask,
    TaskQueue,
)

LARGEST_TASK_BYTES = 100 * 1024
LARGEST_URL_CHARACTERS = 2083
LARGEST_HEADERS_BYTES = 80 * 1024
FARTHEST_SCHEDULE = timedelta(days=30)
DEFAULT_DISPATCH_DEADLINE = timedelta(minutes=10)
SHORTEST_DISPATCH_DEADLINE = timedelta(seconds=15)
LONGEST_DISPATCH_DEADLINE = timedelta(minutes=30)
FASTEST_DISPATCHES_PER_SECOND = 500
MOST_CONCURRENT_DISPATCHES = 5000
USER_AGENT = "Google-Cloud-Tasks"

_LOCATION = re.compile(r"projects/[A-Za-z0-9:.-]+/locations/[A-Za-z0-9-]+")
_QUEUE = re.compile(_LOCATION.pattern + r"/queues/[A-Za-z0-9-]{1,100}")
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_METHODS = frozenset(tasks_v2.HttpMethod)
_METHODS_WITH_BODY = {tasks_v2.HttpMethod.POST, tasks_v2.HttpMethod.PUT, tasks_v2.HttpMethod.PATCH}

# The status under which an attempt is shown; any other HTTP status is UNKNOWN.
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

_Queue = tasks_v2.Queue.pb()
_Task = tasks_v2.Task.pb()


def check_location_name(name: str) -> None:
    """Refuse what is not `projects/…/locations/…`.

    Raises:
        InvalidArgumentError: it is not.
    """
    if not _LOCATION.fullmatch(name):
        raise InvalidArgumentError(
            'Location name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>".'
        )


def check_queue_name(name: str) -> None:
    """Refuse what is not a legal full queue name.

    Raises:
        InvalidArgumentError: it is not.
    """
    if not _QUEUE.fullmatch(name):
        raise InvalidArgumentError(
            'Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".'
        )


def split_task_name(name: str) -> tuple[str, str]:
    """Return the queue's name and the task's id.

    Raises:
        InvalidArgumentError: it is not a legal full task name.
    """
    queue_name, separator, task_id = name.partition("/tasks/")
    if not separator or not _QUEUE.fullmatch(queue_name):
        raise InvalidArgumentError(
            'Task name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>'
            '/tasks/<TASK_ID>".'
        )
    if not _TASK_ID.fullmatch(task_id):
        raise InvalidArgumentError(
            f'Task ID "{task_id}" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or underscores '
            "(_). Task ID must between 1 and 500 characters."
        )
    return queue_name, task_id


def read_queue(message: Any) -> tuple[Any, RetryPolicy, RateLimits]:
    """Check a queue's settings and fill in the defaults.

    Returns:
        The message with the settings, and what they mean.

    Raises:
        InvalidArgumentError: a setting is out of its range.
        UnimplementedError: it has a queue-level `http_target`.
    """
    if message.HasField("http_target"):
        raise UnimplementedError("Queue.http_target is not supported here.")
    settings = _Queue()
    settings.CopyFrom(message)
    settings.ClearField("purge_time")
    limits = _read_limits(settings.rate_limits)
    retry = read_retry(settings.retry_config)
    settings.rate_limits.max_dispatches_per_second = limits.max_dispatches_per_second
    settings.rate_limits.max_burst_size = limits.max_burst_size
    settings.rate_limits.max_concurrent_dispatches = limits.max_concurrent_dispatches
    settings.retry_config.max_attempts = retry.max_attempts
    settings.retry_config.min_backoff.FromTimedelta(retry.min_backoff)
    settings.retry_config.max_backoff.FromTimedelta(retry.max_backoff)
    settings.retry_config.max_doublings = retry.max_doublings
    return settings, retry, limits


def read_retry(message: Any) -> RetryPolicy:
    """Check a retry configuration; what is unset has its default.

    Raises:
        InvalidArgumentError: a value is out of its range.
    """
    default = RetryPolicy()
    policy = RetryPolicy(
        max_attempts=message.max_attempts or default.max_attempts,
        max_retry_duration=_duration(message, "max_retry_duration", default.max_retry_duration),
        min_backoff=_duration(message, "min_backoff", default.min_backoff),
        max_backoff=_duration(message, "max_backoff", default.max_backoff),
        max_doublings=message.max_doublings or default.max_doublings,
    )
    if policy.max_attempts < -1:
        raise InvalidArgumentError("RetryConfig.max_attempts must be greater than or equal to -1.")
    if policy.max_doublings < 0:
        raise InvalidArgumentError("RetryConfig.max_doublings must not be negative.")
    if policy.min_backoff > policy.max_backoff:
        raise InvalidArgumentError(
            "RetryConfig.min_backoff must not be longer than RetryConfig.max_backoff."
        )
    return policy


def _read_limits(message: Any) -> RateLimits:
    default = RateLimits()
    limits = RateLimits(
        max_dispatches_per_second=message.max_dispatches_per_second
        or default.max_dispatches_per_second,
        max_concurrent_dispatches=message.max_concurrent_dispatches
        or default.max_concurrent_dispatches,
    )
    if not 0 < limits.max_dispatches_per_second <= FASTEST_DISPATCHES_PER_SECOND:
        raise InvalidArgumentError(
            "RateLimits.max_dispatches_per_second must be positive and at most 500."
        )
    if not 0 < limits.max_concurrent_dispatches <= MOST_CONCURRENT_DISPATCHES:
        raise InvalidArgumentError(
            "RateLimits.max_concurrent_dispatches must be positive and at most 5000."
        )
    return limits


def write_queue(queue: TaskQueue, settings: Any) -> Any:
    """Return the queue as callers see it: its settings and its state."""
    message = _Queue()
    message.CopyFrom(settings)
    message.state = tasks_v2.Queue.State.PAUSED if queue.paused else tasks_v2.Queue.State.RUNNING
    if queue.purged_at is not None:
        message.purge_time.FromDatetime(queue.purged_at)
    return message


def read_task(sent: Any, name: str, now: datetime) -> tuple[Any, datetime, RetryPolicy | None]:
    """Check a new task, whose name has been settled already, and fill in what Cloud Tasks fills in.

    Returns:
        The message to keep, when the task is due, and its own retry policy or None.

    Raises:
        InvalidArgumentError: something is malformed, missing or over its limit.
        UnimplementedError: it is not a task for an HTTP target, or wants an access token.
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
    deadline = _duration(sent, "dispatch_deadline", DEFAULT_DISPATCH_DEADLINE)
    if not SHORTEST_DISPATCH_DEADLINE <= deadline <= LONGEST_DISPATCH_DEADLINE:
        raise InvalidArgumentError("Task.dispatch_deadline must be between 15s and 30m.")
    retry = read_retry(sent.retry_config) if sent.HasField("retry_config") else None

    task = _Task(name=name)
    task.http_request.CopyFrom(sent.http_request)
    task.http_request.http_method = sent.http_request.http_method or tasks_v2.HttpMethod.POST
    for header in [
        header for header in task.http_request.headers if header.lower() == "user-agent"
    ]:
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
    """Return the task as callers see it now; the body is shown in the view FULL only."""
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


def merge_queue(settings: Any, sent: Any, mask: Any) -> Any:
    """Return `settings` with what an update changes: the fields of its mask, or all where that is empty.

    Raises:
        InvalidArgumentError: the mask names a field that does not exist.
    """
    if not mask.IsValidForDescriptor(_Queue.DESCRIPTOR):
        raise InvalidArgumentError(f"update_mask: unknown field in {', '.join(mask.paths)}.")
    merged = _Queue()
    merged.CopyFrom(settings if mask.paths else sent)
    mask.MergeMessage(sent, merged, replace_message_field=True, replace_repeated_field=True)
    return merged


def page_size(requested: int, largest: int) -> int:
    """Return how many entries a page has: what was asked for, at most `largest`.

    Raises:
        InvalidArgumentError: it is negative.
    """
    if requested < 0:
        raise InvalidArgumentError("page_size must not be negative.")
    return min(requested or largest, largest)


def _duration(message: Any, field: str, default: timedelta) -> timedelta:
    if not message.HasField(field):
        return default
    try:
        duration: timedelta = getattr(message, field).ToTimedelta()
    except (ValueError, OverflowError) as error:
        raise InvalidArgumentError(f"{field} is not a duration: {error}") from error
    if duration < timedelta(0):
        raise InvalidArgumentError(f"{field} must not be negative.")
    return duration
