"""A queue: which task may go out when, and what becomes of it after the answer.

Pure: nothing here looks at a clock, sends or waits. Every `now` is an aware UTC time.
"""

import heapq
import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count, islice
from typing import Any

from localcloud.services.cloud_tasks.errors import AlreadyExistsError, NotFoundError

_NO_TIME = timedelta(0)
_LONGEST_WAIT_SECONDS = 3600.0
_ROUNDING = 1e-6
_ENOUGH_DOUBLINGS = 64


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed task is sent again; the defaults are those of Cloud Tasks.

    Attributes:
        max_attempts: attempts in all, the first one included; -1 is no limit.
        max_retry_duration: how long after its first attempt a task may still be retried; zero is no
            limit.
        min_backoff: before the first retry.
        max_backoff: the longest between two attempts.
        max_doublings: how often the backoff doubles before it grows linearly.
    """

    max_attempts: int = 100
    max_retry_duration: timedelta = _NO_TIME
    min_backoff: timedelta = timedelta(seconds=0.1)
    max_backoff: timedelta = timedelta(hours=1)
    max_doublings: int = 16

    def backoff(self, attempts: int) -> timedelta:
        """Return how long to wait after the failure of attempt number `attempts` (1, 2, …).

        It doubles `max_doublings` times, then grows by the last step each time, up to
        `max_backoff`: with 10 s, 300 s and 3 doublings 10, 20, 40, 80, 160, 240, 300, 300, … (the
        example in the reference of `RetryConfig`).
        """
        doublings = min(attempts - 1, self.max_doublings)
        steps = attempts - doublings
        # Beyond 2^64 any backoff is over any limit, and a float would overflow.
        seconds = (
            self.min_backoff.total_seconds() * 2.0 ** min(doublings, _ENOUGH_DOUBLINGS) * steps
        )
        return timedelta(seconds=min(seconds, self.max_backoff.total_seconds()))

    def gives_up(self, *, attempts: int, first_dispatch_time: datetime, now: datetime) -> bool:
        """Tell whether a task that has failed `attempts` times is not sent again.

        Where both limits are set both must be reached (reference of `RetryConfig.max_attempts`).
        """
        reached = []
        if self.max_attempts > 0:
            reached.append(attempts >= self.max_attempts)
        if self.max_retry_duration > _NO_TIME:
            reached.append(now - first_dispatch_time >= self.max_retry_duration)
        return bool(reached) and all(reached)


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How fast a queue sends; the defaults are those of Cloud Tasks."""

    max_dispatches_per_second: float = 500.0
    max_concurrent_dispatches: int = 1000

    @property
    def max_burst_size(self) -> int:
        """The size of the token bucket, which Cloud Tasks derives: 100 at 500/s and 10 at 1/s and 0.25/s were seen."""
        return max(10, math.ceil(self.max_dispatches_per_second / 5))


class TokenBucket:
    """Tokens that come at a steady rate and of which only so many are kept; it is full at first."""

    def __init__(self, limits: RateLimits, now: datetime) -> None:
        self._limits = limits
        self._tokens = float(limits.max_burst_size)
        self._filled_at = now

    def resize(self, limits: RateLimits, now: datetime) -> None:
        """Go on at another rate and size, with the tokens that are there and fit."""
        self._fill(now)
        self._limits = limits
        self._tokens = min(self._tokens, float(limits.max_burst_size))

    def take(self, now: datetime) -> bool:
        """Take one token if there is one; tell whether there was."""
        if self.wait(now) > _NO_TIME:
            return False
        self._tokens -= 1
        return True

    def wait(self, now: datetime) -> timedelta:
        """Return how long until a token is there: zero if one is, at most an hour (ask again then)."""
        self._fill(now)
        missing = 1 - self._tokens
        if missing <= _ROUNDING:
            return _NO_TIME
        seconds = min(missing / self._limits.max_dispatches_per_second, _LONGEST_WAIT_SECONDS)
        return timedelta(microseconds=math.ceil(seconds * 1e6))

    def _fill(self, now: datetime) -> None:
        came = (
            max(0.0, (now - self._filled_at).total_seconds())
            * self._limits.max_dispatches_per_second
        )
        self._tokens = min(self._tokens + came, float(self._limits.max_burst_size))
        self._filled_at = now


@dataclass(frozen=True, slots=True)
class Answer:
    """How an attempt ended.

    Attributes:
        status: the HTTP status, or the one that stands for no answer (504 past the deadline, 503 no
            connection).
        received: whether the target answered at all.
    """

    status: int
    received: bool


@dataclass(slots=True)
class Attempt:
    """One dispatch of a task. The counts are those before it: they travel in its headers.

    Attributes:
        retry_count: dispatches before this one.
        execution_count: answers other than 5xx before this one.
        previous_response: the status of the attempt before, None for the first.
        schedule_time: when it was due.
        dispatch_time: when it went out.
        forced: somebody asked for it to run now.
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
        message: what the edge keeps with it; the queue does not look inside.
        retry: its own policy, None for the queue's.
        schedule_time: when it is, or was last, due.
        dispatch_count, response_count: attempts so far, and how many of them were answered.
        execution_count: how many were answered with anything but 5xx.
        first_dispatch_time, last_attempt: None before the first attempt.
        ticket: of its valid entry in the schedule, None while no dispatch is planned.
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


class TaskQueue:
    """The tasks of one queue, in the order in which they are due (first come, first served among equals).

    Whoever sends calls `start_due` until it returns None, `finish` after each answer, and both
    again after `wait` and after every other call that changes something. Each costs O(log n).

    Attributes:
        name: the full resource name.
        retry, limits: see `configure`.
        paused: nothing becomes due while it is True.
        purged_at: the last purge, or None.
        running: dispatches under way, forced ones and those of deleted tasks included.
        succeeded, given_up: how many tasks ended in which way.
    """

    def __init__(
        self,
        name: str,
        *,
        retry: RetryPolicy,
        limits: RateLimits,
        name_retention: timedelta,
        now: datetime,
    ) -> None:
        self.name = name
        self.retry = retry
        self.limits = limits
        self.paused = False
        self.purged_at: datetime | None = None
        self.running = 0
        self.succeeded = 0
        self.given_up = 0
        self._name_retention = name_retention
        self._bucket = TokenBucket(limits, now)
        self._numbers = count(1)
        self._tickets = count(1)
        self._tasks: dict[str, ScheduledTask] = {}
        # (due, ticket, task id): an entry whose ticket is no longer the task's is dropped when it
        # comes to the top.
        self._schedule: list[tuple[datetime, int, str]] = []
        self._used_names: OrderedDict[str, datetime] = (
            OrderedDict()
        )  # to when each is free again, soonest first

    def __len__(self) -> int:
        return len(self._tasks)

    def configure(self, retry: RetryPolicy, limits: RateLimits, now: datetime) -> None:
        """Replace the settings; tasks that have been scheduled already keep their time."""
        self.retry = retry
        self.limits = limits
        self._bucket.resize(limits, now)

    def add(
        self,
        task_id: str,
        message: Any,
        *,
        schedule_time: datetime,
        retry: RetryPolicy | None,
        now: datetime,
    ) -> ScheduledTask:
        """Add a task that is due at `schedule_time`.

        Raises:
            AlreadyExistsError: a task of this id is there, or was there less than `name_retention`
                ago.
        """
        if task_id in self._tasks:
            raise AlreadyExistsError("Requested entity already exists")
        if self._is_used(task_id, now):
            raise AlreadyExistsError(
                "The task cannot be created because a task with this name existed too recently. For more information "
                "about task de-duplication see "
                "https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks/create"
                "#body.request_body.FIELDS.task."
            )
        task = ScheduledTask(next(self._numbers), task_id, message, retry, schedule_time)
        self._tasks[task_id] = task
        self._plan(task, schedule_time)
        return task

    def get(self, task_id: str, now: datetime) -> ScheduledTask:
        """Return a task that is not done.

        Raises:
            NotFoundError: there is none of this id; the message tells whether there was one
                recently.
        """
        task = self._tasks.get(task_id)
        if task is not None:
            return task
        if self._is_used(task_id, now):
            raise NotFoundError(
                "The task no longer exists, though a task with this name existed recently. "
                "The task either successfully completed or was deleted."
            )
        raise NotFoundError("Requested entity was not found.")

    def page(self, *, after: int, size: int) -> list[ScheduledTask]:
        """Return up to `size` tasks whose numbers are above `after`, oldest first."""
        return list(islice((task for task in self._tasks.values() if task.number > after), size))

    def delete(self, task_id: str, now: datetime) -> None:
        """Delete a task; a dispatch that is under way is not called back, but its answer counts for nothing.

        Raises:
            NotFoundError: as `get`.
        """
        self._end(self.get(task_id, now), now)

    def purge(self, now: datetime) -> None:
        """Delete all tasks; their names stay taken like those of any deleted task."""
        for task in list(self._tasks.values()):
            self._end(task, now)
        self._schedule.clear()
        self.purged_at = now

    def forget(self) -> None:
        """Drop all tasks and all used names, as if there had never been any."""
        self._tasks.clear()
        self._schedule.clear()
        self._used_names.clear()

    def start_due(
        self, now: datetime, lateness: timedelta = _NO_TIME
    ) -> tuple[ScheduledTask, Attempt] | None:
        """Start the next dispatch that pause, due time (plus `lateness`), concurrency and rate allow, or None."""
        due = self._next_due()
        if due is None or due + lateness > now or not self._bucket.take(now):
            return None
        _, _, task_id = heapq.heappop(self._schedule)
        task = self._tasks[task_id]
        return task, self._start(task, now, forced=False)

    def start_now(self, task_id: str, now: datetime) -> tuple[ScheduledTask, Attempt]:
        """Start a dispatch whatever the schedule, the limits and the state of the queue say (`RunTask`).

        Raises:
            NotFoundError: as `get`.
        """
        task = self.get(task_id, now)
        return task, self._start(task, now, forced=True)

    def finish(self, task: ScheduledTask, attempt: Attempt, answer: Answer, now: datetime) -> None:
        """Take in how a dispatch ended: the task is done, given up, or due again after its backoff."""
        self.running -= 1
        attempt.answer = answer
        if answer.received:
            attempt.response_time = now
            task.response_count += 1
        if answer.status < 500:
            task.execution_count += 1
        if self._tasks.get(task.task_id) is not task:
            return  # deleted, purged or done by another dispatch meanwhile
        policy = task.retry or self.retry
        if 200 <= answer.status < 300:
            self.succeeded += 1
            self._end(task, now)
        elif policy.gives_up(
            attempts=task.dispatch_count,
            first_dispatch_time=task.first_dispatch_time or attempt.dispatch_time,
            now=now,
        ):
            self.given_up += 1
            self._end(task, now)
        else:
            failed_at = (
                attempt.dispatch_time if attempt.forced else now
            )  # as the reference of RunTask has it
            task.schedule_time = failed_at + policy.backoff(task.dispatch_count)
            self._plan(task, task.schedule_time)

    def wait(self, now: datetime, lateness: timedelta = _NO_TIME) -> timedelta | None:
        """Return how long until `start_due` may have something; None while only another call can change that."""
        due = self._next_due()
        if due is None:
            return None
        return max(due + lateness - now, self._bucket.wait(now), _NO_TIME)

    def _next_due(self) -> datetime | None:
        if self.paused or self.running >= self.limits.max_concurrent_dispatches:
            return None
        while self._schedule:
            due, ticket, task_id = self._schedule[0]
            task = self._tasks.get(task_id)
            if task is not None and task.ticket == ticket:
                return due
            heapq.heappop(self._schedule)
        return None

    def _plan(self, task: ScheduledTask, due: datetime) -> None:
        task.ticket = next(self._tickets)
        heapq.heappush(self._schedule, (due, task.ticket, task.task_id))

    def _start(self, task: ScheduledTask, now: datetime, *, forced: bool) -> Attempt:
        previous = task.last_attempt.answer if task.last_attempt else None
        attempt = Attempt(
            retry_count=task.dispatch_count,
            execution_count=task.execution_count,
            previous_response=previous.status if previous else None,
            schedule_time=task.schedule_time,
            dispatch_time=now,
            forced=forced,
        )
        task.dispatch_count += 1
        task.first_dispatch_time = task.first_dispatch_time or now
        task.last_attempt = attempt
        task.ticket = None
        self.running += 1
        return attempt

    def _end(self, task: ScheduledTask, now: datetime) -> None:
        del self._tasks[task.task_id]
        self._used_names[task.task_id] = now + self._name_retention

    def _is_used(self, task_id: str, now: datetime) -> bool:
        while self._used_names:
            oldest, free_at = next(iter(self._used_names.items()))
            if free_at > now:
                break
            del self._used_names[oldest]
        return task_id in self._used_names
