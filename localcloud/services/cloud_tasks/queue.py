"""A queue: which task may be sent when, and what happens to it after the answer.

Everything here is pure: nothing reads a clock, sends or waits. Every ``now`` is an aware UTC time.
"""

import heapq
from collections import OrderedDict
from datetime import datetime, timedelta
from itertools import count, islice
from typing import Any

from localcloud.services.call_errors import AlreadyExistsError, NotFoundError
from localcloud.services.cloud_tasks.rate_limits import RateLimits, TokenBucket
from localcloud.services.cloud_tasks.retry_policy import RetryPolicy
from localcloud.services.cloud_tasks.scheduled_task import Answer, Attempt, ScheduledTask

_NO_TIME = timedelta(0)


class TaskQueue:
    """The tasks of one queue, in the order in which they are due; equal ones in order of creation.

    The sender calls ``start_due`` until it returns None, and ``finish`` after each answer. It calls
    ``start_due`` again after the time that ``wait`` returns, and after every other call that
    changes something. Each call costs O(log n).

    Attributes:
        name: the full resource name.
        retry, limits: see ``configure``.
        paused: whether nothing becomes due.
        purged_at: the last purge, or None.
        running: dispatches under way, including forced ones and those of deleted tasks.
        succeeded: how many tasks have succeeded.
        given_up: how many tasks have failed for good.
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
        # (due, ticket, task id): an entry with an old ticket is dropped when it reaches the top.
        self._schedule: list[tuple[datetime, int, str]] = []
        # When each name is free again, the soonest first.
        self._used_names: OrderedDict[str, datetime] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tasks)

    def configure(self, retry: RetryPolicy, limits: RateLimits, now: datetime) -> None:
        """Replace the settings; tasks that are scheduled keep their time."""
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
        """Add a task that is due at ``schedule_time``.

        Raises:
            AlreadyExistsError: a task of this id exists, or existed within ``name_retention``.
        """
        if task_id in self._tasks:
            raise AlreadyExistsError("Requested entity already exists")
        if self._is_used(task_id, now):
            raise AlreadyExistsError(
                "The task cannot be created because a task with this name existed too recently. "
                "For more information about task de-duplication see "
                "https://cloud.google.com/tasks/docs/reference/rest/v2/"
                "projects.locations.queues.tasks/create#body.request_body.FIELDS.task."
            )
        task = ScheduledTask(next(self._numbers), task_id, message, retry, schedule_time)
        self._tasks[task_id] = task
        self._plan(task, schedule_time)
        return task

    def get(self, task_id: str, now: datetime) -> ScheduledTask:
        """Return a task that is not done.

        Raises:
            NotFoundError: it does not exist; the message says whether it did recently.
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
        """Return up to ``size`` tasks whose numbers are above ``after``, oldest first."""
        return list(islice((task for task in self._tasks.values() if task.number > after), size))

    def delete(self, task_id: str, now: datetime) -> None:
        """Delete a task. A dispatch under way is not cancelled, but its answer counts for nothing.

        Raises:
            NotFoundError: as ``get``.
        """
        self._end(self.get(task_id, now), now)

    def purge(self, now: datetime) -> None:
        """Delete all tasks; their names stay taken, as after every deletion."""
        for task in list(self._tasks.values()):
            self._end(task, now)
        self._schedule.clear()
        self.purged_at = now

    def forget(self) -> None:
        """Forget all tasks and all used names."""
        self._tasks.clear()
        self._schedule.clear()
        self._used_names.clear()

    def start_due(
        self, now: datetime, lateness: timedelta = _NO_TIME
    ) -> tuple[ScheduledTask, Attempt] | None:
        """Start the next dispatch that pause, due time, concurrency and rate allow.

        Args:
            now: the time.
            lateness: is added to every due time.

        Returns:
            The task and its attempt, or None if nothing may be sent now.
        """
        due = self._next_due()
        if due is None or due + lateness > now or not self._bucket.take(now):
            return None
        _, _, task_id = heapq.heappop(self._schedule)
        task = self._tasks[task_id]
        return task, self._start(task, now, forced=False)

    def start_now(self, task_id: str, now: datetime) -> tuple[ScheduledTask, Attempt]:
        """Start a dispatch regardless of schedule, limits and pause, as ``RunTask`` does.

        Raises:
            NotFoundError: as ``get``.
        """
        task = self.get(task_id, now)
        return task, self._start(task, now, forced=True)

    def finish(self, task: ScheduledTask, attempt: Attempt, answer: Answer, now: datetime) -> None:
        """End a dispatch: its task is done, given up, or due again after its backoff."""
        self.running -= 1
        attempt.answer = answer
        if answer.received:
            attempt.response_time = now
            task.response_count += 1
        if answer.status < 500:
            task.execution_count += 1
        if self._tasks.get(task.task_id) is not task:
            return  # meanwhile deleted, purged, or done by another dispatch
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
            # As the reference of RunTask says.
            failed_at = attempt.dispatch_time if attempt.forced else now
            task.schedule_time = failed_at + policy.backoff(task.dispatch_count)
            self._plan(task, task.schedule_time)

    def wait(self, now: datetime, lateness: timedelta = _NO_TIME) -> timedelta | None:
        """Return how long until ``start_due`` may return something.

        Returns:
            None if only another call can change that.
        """
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
