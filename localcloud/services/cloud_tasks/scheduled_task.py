"""A task that is not done, and its attempts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from localcloud.services.cloud_tasks.retry_policy import RetryPolicy


@dataclass(frozen=True, slots=True)
class Answer:
    """How an attempt ended.

    Attributes:
        status: the HTTP status; without an answer, 504 after the deadline and 503 without a
            connection.
        received: whether the target answered at all.
    """

    status: int
    received: bool


@dataclass(slots=True)
class Attempt:
    """One dispatch of a task. Its counts are those before it, which its headers contain.

    Attributes:
        retry_count: dispatches before this one.
        execution_count: answers other than 5xx before this one.
        previous_response: the status of the previous attempt, None for the first.
        schedule_time: when it was due.
        dispatch_time: when it was sent.
        forced: whether ``RunTask`` started it.
        answer, response_time: how and when it ended, None while it is under way.
    """

    retry_count: int
    execution_count: int
    previous_response: int | None
    schedule_time: datetime
    dispatch_time: datetime
    forced: bool
    answer: Answer | None = None
    response_time: datetime | None = None


@dataclass(slots=True, eq=False)
class ScheduledTask:
    """A task that is not done.

    Attributes:
        number: grows with each task of the queue.
        task_id: the last part of its name.
        message: the message that belongs to it; the queue does not read it.
        retry: its own policy, None for that of the queue.
        schedule_time: when it is due, or was due last.
        dispatch_count, response_count: attempts so far, and how many of them were answered.
        execution_count: how many were not answered with 5xx.
        first_dispatch_time, last_attempt: None before the first attempt.
        ticket: the number of its valid entry in the schedule, None if no dispatch is planned.
    """

    number: int
    task_id: str
    message: Any
    retry: RetryPolicy | None
    schedule_time: datetime
    dispatch_count: int = 0
    response_count: int = 0
    execution_count: int = 0
    first_dispatch_time: datetime | None = None
    last_attempt: Attempt | None = None
    ticket: int | None = None
