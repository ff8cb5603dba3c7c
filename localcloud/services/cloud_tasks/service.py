"""The calls of `google.cloud.tasks.v2.CloudTasks`: each takes its request message and returns its response message.

They never wait: what a call changes is in place when it returns, so on one event loop no two of
them overlap.
"""

import uuid
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud import tasks_v2
from google.protobuf.empty_pb2 import Empty

from localcloud.services.cloud_tasks import messages
from localcloud.services.cloud_tasks.dispatch import Dispatcher
from localcloud.services.cloud_tasks.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnimplementedError,
)
from localcloud.services.cloud_tasks.queue import TaskQueue

LARGEST_QUEUE_PAGE = 9800
LARGEST_TASK_PAGE = 1000


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """One queue for a person to see.

    Attributes:
        name: the full resource name.
        state: `RUNNING` or `PAUSED`.
        tasks: how many are not done, those being dispatched included.
        running: dispatches under way.
        succeeded, given_up: how many tasks ended in which way since the queue was made.
    """

    name: str
    state: str
    tasks: int
    running: int
    succeeded: int
    given_up: int


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task that is not done, for a person to see.

    Attributes:
        name: the full resource name.
        url: its target.
        schedule_time: when it is due, or was when it is being dispatched.
        dispatch_count: attempts so far.
        last_status: how the last attempt ended (an HTTP status), None before and during the first
            and while another one is under way.
    """

    name: str
    url: str
    schedule_time: datetime
    dispatch_count: int
    last_status: int | None


class CloudTasksService:
    """All queues and the calls on them.

    Args:
        mint_token: see `Dispatcher`.
        name_retention: how long the name of a task that is done, or of a deleted queue, stays
            taken.
    """

    def __init__(
        self, *, mint_token: Callable[[str, str], str] | None, name_retention: timedelta
    ) -> None:
        self._name_retention = name_retention
        self._queues: dict[str, TaskQueue] = {}
        self._settings: dict[str, Any] = {}
        self._deleted_queues: dict[str, datetime] = {}  # to when each name is free again
        self.dispatcher = Dispatcher(self._queues, mint_token)

    def reset(self) -> None:
        """Forget all tasks, what is under way and all used names; the queues stay as they are."""
        for queue in self._queues.values():
            queue.forget()
        self._deleted_queues.clear()
        self.dispatcher.cancel()

    def queue_statuses(self) -> list[QueueStatus]:
        """Return all queues by name."""
        return [
            QueueStatus(
                name=queue.name,
                state="PAUSED" if queue.paused else "RUNNING",
                tasks=len(queue),
                running=queue.running,
                succeeded=queue.succeeded,
                given_up=queue.given_up,
            )
            for _, queue in sorted(self._queues.items())
        ]

    def task_statuses(self, queue_name: str) -> list[TaskStatus]:
        """Return a queue's tasks, oldest first; none for a queue that is not there."""
        queue = self._queues.get(queue_name)
        if queue is None:
            return []
        return [
            TaskStatus(
                name=task.message.name,
                url=task.message.http_request.url,
                schedule_time=task.schedule_time,
                dispatch_count=task.dispatch_count,
                last_status=task.last_attempt.answer.status
                if task.last_attempt and task.last_attempt.answer
                else None,
            )
            for task in queue.page(after=0, size=len(queue))
        ]

    def create_queue(self, request: Any) -> Any:
        """Make a queue; raises AlreadyExistsError, FailedPreconditionError or InvalidArgumentError."""
        messages.check_location_name(request.parent)
        messages.check_queue_name(request.queue.name)
        if not request.queue.name.startswith(request.parent + "/queues/"):
            raise InvalidArgumentError(
                f"The location from request ('{request.parent}') must be the location of the queue "
                f"('{request.queue.name}')."
            )
        if request.queue.name in self._queues:
            raise AlreadyExistsError("Queue already exists")
        return self._make_queue(request.queue)

    def update_queue(self, request: Any) -> Any:
        """Change a queue's settings, or make it where there is none (as documented)."""
        name = request.queue.name
        messages.check_queue_name(name)
        queue = self._queues.get(name)
        if queue is None:
            return self._make_queue(request.queue)
        merged = messages.merge_queue(self._settings[name], request.queue, request.update_mask)
        settings, retry, limits = messages.read_queue(merged)
        self._settings[name] = settings
        queue.configure(retry, limits, _now())
        self.dispatcher.wake(queue)
        return messages.write_queue(queue, settings)

    def get_queue(self, request: Any) -> Any:
        """Return a queue."""
        return self._written(self._queue(request.name))

    def list_queues(self, request: Any) -> Any:
        """Return a page of a location's queues by name; the token is the last name of the page before."""
        messages.check_location_name(request.parent)
        if request.filter:
            raise UnimplementedError("ListQueuesRequest.filter is not supported here.")
        size = messages.page_size(request.page_size, LARGEST_QUEUE_PAGE)
        names = sorted(
            name for name in self._queues if name.startswith(request.parent + "/queues/")
        )
        first = bisect_right(names, request.page_token)
        page = names[first : first + size]
        response = tasks_v2.ListQueuesResponse.pb()()
        response.queues.extend(self._written(self._queues[name]) for name in page)
        if first + size < len(names):
            response.next_page_token = page[-1]
        return response

    def delete_queue(self, request: Any) -> Any:
        """Delete a queue and its tasks; its name stays taken for the retention time."""
        messages.check_queue_name(request.name)
        queue = self._queues.pop(request.name, None)
        if queue is None:
            raise NotFoundError("Requested entity was not found.")
        del self._settings[request.name]
        now = _now()
        self._deleted_queues[request.name] = now + self._name_retention
        queue.purge(now)
        self.dispatcher.wake(queue)
        return Empty()

    def purge_queue(self, request: Any) -> Any:
        """Delete a queue's tasks."""
        queue = self._queue(request.name)
        queue.purge(_now())
        return self._woken(queue)

    def pause_queue(self, request: Any) -> Any:
        """Let no more tasks go, but for `run_task`; a paused queue stays as it is."""
        queue = self._queue(request.name)
        queue.paused = True
        return self._woken(queue)

    def resume_queue(self, request: Any) -> Any:
        """Let tasks go again."""
        queue = self._queue(request.name)
        queue.paused = False
        return self._woken(queue)

    def create_task(self, request: Any) -> Any:
        """Add a task; where it has no name it gets one."""
        queue = self._queue(request.parent)
        name = request.task.name or f"{queue.name}/tasks/{uuid.uuid4().int >> 64}"
        queue_name, task_id = messages.split_task_name(name)
        if queue_name != queue.name:
            raise InvalidArgumentError(
                f"The queue name from request ('{queue.name}') must be the same as the queue name in the named task "
                f"('{queue_name}')."
            )
        now = _now()
        message, due, retry = messages.read_task(request.task, name, now)
        task = queue.add(task_id, message, schedule_time=due, retry=retry, now=now)
        response = messages.write_task(task, request.response_view)
        self.dispatcher.wake(queue)
        return response

    def get_task(self, request: Any) -> Any:
        """Return a task that is not done."""
        queue, task_id = self._task_place(request.name)
        return messages.write_task(queue.get(task_id, _now()), request.response_view)

    def list_tasks(self, request: Any) -> Any:
        """Return a page of a queue's tasks, oldest first; the token is the last number of the page before."""
        queue = self._queue(request.parent)
        size = messages.page_size(request.page_size, LARGEST_TASK_PAGE)
        try:
            after = int(request.page_token or 0)
        except ValueError as error:
            raise InvalidArgumentError(
                "page_token is not one that ListTasks has returned."
            ) from error
        page = queue.page(after=after, size=size + 1)
        response = tasks_v2.ListTasksResponse.pb()()
        response.tasks.extend(
            messages.write_task(task, request.response_view) for task in page[:size]
        )
        if len(page) > size:
            response.next_page_token = str(page[size - 1].number)
        return response

    def delete_task(self, request: Any) -> Any:
        """Delete a task that is not done, also while it is being dispatched."""
        queue, task_id = self._task_place(request.name)
        queue.delete(task_id, _now())
        self.dispatcher.wake(queue)
        return Empty()

    def run_task(self, request: Any) -> Any:
        """Dispatch a task now, whatever its schedule, the limits and the state of its queue, even while it runs."""
        queue, task_id = self._task_place(request.name)
        task, attempt = queue.start_now(task_id, _now())
        self.dispatcher.send(queue, task, attempt)
        return messages.write_task(task, request.response_view)

    def _make_queue(self, sent: Any) -> Any:
        now = _now()
        if self._deleted_queues.get(sent.name, now) > now:
            raise FailedPreconditionError(
                "The queue cannot be created because a queue with this name existed too recently."
            )
        settings, retry, limits = messages.read_queue(sent)
        queue = TaskQueue(
            sent.name, retry=retry, limits=limits, name_retention=self._name_retention, now=now
        )
        self._queues[sent.name] = queue
        self._settings[sent.name] = settings
        return messages.write_queue(queue, settings)

    def _queue(self, name: str) -> TaskQueue:
        messages.check_queue_name(name)
        queue = self._queues.get(name)
        if queue is None:
            raise NotFoundError(
                "Queue does not exist. If you just created the queue, wait at least a minute for the queue to "
                "initialize."
            )
        return queue

    def _task_place(self, name: str) -> tuple[TaskQueue, str]:
        queue_name, task_id = messages.split_task_name(name)
        return self._queue(queue_name), task_id

    def _written(self, queue: TaskQueue) -> Any:
        return messages.write_queue(queue, self._settings[queue.name])

    def _woken(self, queue: TaskQueue) -> Any:
        self.dispatcher.wake(queue)
        return self._written(queue)


def _now() -> datetime:
    return datetime.now(UTC)
