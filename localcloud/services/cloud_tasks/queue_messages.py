"""The messages that describe queues: checked when they arrive, and filled in when they are sent.

Messages are the protocol buffers under the library's types (``tasks_v2.Queue.pb()``). Unlike these
types, they tell an unset field from a zero, and they are cheap.
"""

from datetime import timedelta
from typing import Any

from google.cloud import tasks_v2

from localcloud.services.call_errors import InvalidArgumentError, UnimplementedError
from localcloud.services.cloud_tasks.queue import TaskQueue
from localcloud.services.cloud_tasks.rate_limits import RateLimits
from localcloud.services.cloud_tasks.retry_policy import RetryPolicy

FASTEST_DISPATCHES_PER_SECOND = 500
MOST_CONCURRENT_DISPATCHES = 5000

_Queue = tasks_v2.Queue.pb()


def read_queue(message: Any) -> tuple[Any, RetryPolicy, RateLimits]:
    """Check a queue's settings and fill in the defaults.

    Returns:
        The message with the settings, and the policies that they describe.

    Raises:
        InvalidArgumentError: a setting is out of its range.
        UnimplementedError: it has an ``http_target``.
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
    """Check a retry configuration; unset fields have their defaults.

    Raises:
        InvalidArgumentError: a value is out of its range.
    """
    default = RetryPolicy()
    policy = RetryPolicy(
        max_attempts=message.max_attempts or default.max_attempts,
        max_retry_duration=read_duration(message, "max_retry_duration", default.max_retry_duration),
        min_backoff=read_duration(message, "min_backoff", default.min_backoff),
        max_backoff=read_duration(message, "max_backoff", default.max_backoff),
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


def merge_queue(settings: Any, sent: Any, mask: Any) -> Any:
    """Return settings after an update of the fields in its mask, or of all if the mask is empty.

    Raises:
        InvalidArgumentError: the mask names a field that does not exist.
    """
    if not mask.IsValidForDescriptor(_Queue.DESCRIPTOR):
        raise InvalidArgumentError(f"update_mask: unknown field in {', '.join(mask.paths)}.")
    merged = _Queue()
    merged.CopyFrom(settings if mask.paths else sent)
    mask.MergeMessage(sent, merged, replace_message_field=True, replace_repeated_field=True)
    return merged


def read_duration(message: Any, field: str, default: timedelta) -> timedelta:
    """Return a field that is a duration, or the default if it is unset.

    Raises:
        InvalidArgumentError: it is out of range or negative.
    """
    if not message.HasField(field):
        return default
    try:
        duration: timedelta = getattr(message, field).ToTimedelta()
    except (ValueError, OverflowError) as error:
        raise InvalidArgumentError(f"{field} is not a duration: {error}") from error
    if duration < timedelta(0):
        raise InvalidArgumentError(f"{field} must not be negative.")
    return duration
