"""The calls of ``google.cloud.tasks.v2.CloudTasks``: each takes a request, returns a response.

They never wait: a call has changed everything when it returns, so on one event loop no two calls
overlap.
"""

import uuid
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud import tasks_v2
from google.protobuf.empty_pb2 import Empty

from localcloud.services.call_errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnimplementedError,
)
from localcloud.services.cloud_tasks import names, queue_messages, task_messages
from localcloud.services.cloud_tasks.dispatch import Dispatcher
from localcloud.services.cloud_tasks.queue import TaskQueue

LARGEST_QUEUE_PAGE = 9800
LARGEST_TASK_PAGE = 1000


class CloudTasksService:
    """All queues and the calls on them.

    Args:
        mint_token: see ``Dispatcher``.
        name_retention: how long the name of a done task or of a deleted queue stays taken.
    """

    def __init__(
        self, *, mint_token: Callable[[str, str], str] | None, name_retention: timedelta
    ) -> None:
        self._name_retention = name_retention
        self._queues: dict[str, TaskQueue] = {}
        self._settings: dict[str, Any] = {}
        self._deleted_queues: dict[str, datetime] = {}  # when each name is free again
        self.dispatcher = Dispatcher(self._queues, mint_token)

    def reset(self) -> None:
        """Forget all tasks, dispatches and used names; the queues stay as they are."""
        for queue in self._queues.values():
            queue.forget()
        self._deleted_queues.clear()
        self.dispatcher.cancel()

    def queue(self, name: str) -> TaskQueue:
        """Return a queue.

        Raises:
            InvalidArgumentError: this is not the name of a queue.
            NotFoundError: it does not exist.
        """
        names.check_queue_name(name)
        queue = self._queues.get(name)
        if queue is None:
            raise NotFoundError(
                "Queue does not exist. If you just created the queue, wait at least a minute for "
                "the queue to initialize."
            )
        return queue

    def create_queue(self, request: Any) -> Any:
        """Create a queue.

        Raises:
            AlreadyExistsError: it exists.
            FailedPreconditionError: a queue of this name was deleted too recently.
            InvalidArgumentError: its name, its location or a setting is wrong.
        """
        names.check_location_name(request.parent)
        names.check_queue_name(request.queue.name)
        if not request.queue.name.startswith(request.parent + "/queues/"):
            raise InvalidArgumentError(
                f"The location from request ('{request.parent}') must be the location of the queue "
                f"('{request.queue.name}')."
            )
        if request.queue.name in self._queues:
            raise AlreadyExistsError("Queue already exists")
        return self._create_queue(request.queue)

    def update_queue(self, request: Any) -> Any:
        """Change a queue's settings, or create it if it does not exist, as documented."""
        name = request.queue.name
        names.check_queue_name(name)
        queue = self._queues.get(name)
        if queue is None:
            return self._create_queue(request.queue)
        merged = queue_messages.merge_queue(
            self._settings[name], request.queue, request.update_mask
        )
        settings, retry, limits = queue_messages.read_queue(merged)
        self._settings[name] = settings
        queue.configure(retry, limits, _now())
        self.dispatcher.wake(queue)
        return queue_messages.write_queue(queue, settings)

    def get_queue(self, request: Any) -> Any:
        """Return a queue."""
        return self._written(self.queue(request.name))

    def list_queues(self, request: Any) -> Any:
        """Return a page of a location's queues; the token is the last name of the previous page."""
        names.check_location_name(request.parent)
        if request.filter:
            raise UnimplementedError("ListQueuesRequest.filter is not supported here.")
        size = names.page_size(request.page_size, LARGEST_QUEUE_PAGE)
        found = sorted(
            name for name in self._queues if name.startswith(request.parent + "/queues/")
        )
        first = bisect_right(found, request.page_token)
        page = found[first : first + size]
        response = tasks_v2.ListQueuesResponse.pb()()
        response.queues.extend(self._written(self._queues[name]) for name in page)
        if first + size < len(found):
            response.next_page_token = page[-1]
        return response

    def delete_queue(self, request: Any) -> Any:
        """Delete a queue and its tasks; its name stays taken for the retention time."""
        names.check_queue_name(request.name)
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
        queue = self.queue(request.name)
        queue.purge(_now())
        return self._woken(queue)

    def pause_queue(self, request: Any) -> Any:
        """Send no more tasks, except for ``run_task``."""
        queue = self.queue(request.name)
        queue.paused = True
        return self._woken(queue)

    def resume_queue(self, request: Any) -> Any:
        """Send tasks again."""
        queue = self.queue(request.name)
        queue.paused = False
        return self._woken(queue)

    def create_task(self, request: Any) -> Any:
        """Add a task; without a name it gets one."""
        queue = self.queue(request.parent)
        name = request.task.name or f"{queue.name}/tasks/{uuid.uuid4().int >> 64}"
        queue_name, task_id = names.split_task_name(name)
        if queue_name != queue.name:
            raise InvalidArgumentError(
                f"The queue name from request ('{queue.name}') must be the same as the queue name "
                f"in the named task ('{queue_name}')."
            )
        now = _now()
        message, due, retry = task_messages.read_task(request.task, name, now)
        task = queue.add(task_id, message, schedule_time=due, retry=retry, now=now)
        response = task_messages.write_task(task, request.response_view)
        self.dispatcher.wake(queue)
        return response

    def get_task(self, request: Any) -> Any:
        """Return a task that is not done."""
        queue, task_id = self._task_place(request.name)
        return task_messages.write_task(queue.get(task_id, _now()), request.response_view)

    def list_tasks(self, request: Any) -> Any:
        """Return a page of a queue's tasks, oldest first.

        The token is the number of the last task of the previous page.
        """
        queue = self.queue(request.parent)
        size = names.page_size(request.page_size, LARGEST_TASK_PAGE)
        try:
            after = int(request.page_token or 0)
        except ValueError as error:
            raise InvalidArgumentError(
                "page_token is not one that ListTasks has returned."
            ) from error
        page = queue.page(after=after, size=size + 1)
        response = tasks_v2.ListTasksResponse.pb()()
        response.tasks.extend(
            task_messages.write_task(task, request.response_view) for task in page[:size]
        )
        if len(page) > size:
            response.next_page_token = str(page[size - 1].number)
        return response

    def delete_task(self, request: Any) -> Any:
        """Delete a task that is not done, even while it is being dispatched."""
        queue, task_id = self._task_place(request.name)
        queue.delete(task_id, _now())
        self.dispatcher.wake(queue)
        return Empty()

    def run_task(self, request: Any) -> Any:
        """Dispatch a task now, regardless of schedule, limits and pause, even while it runs."""
        queue, task_id = self._task_place(request.name)
        task, attempt = queue.start_now(task_id, _now())
        self.dispatcher.send(queue, task, attempt)
        return task_messages.write_task(task, request.response_view)

    def _create_queue(self, sent: Any) -> Any:
        now = _now()
        if self._deleted_queues.get(sent.name, now) > now:
            raise FailedPreconditionError(
                "The queue cannot be created because a queue with this name existed too recently."
            )
        settings, retry, limits = queue_messages.read_queue(sent)
        queue = TaskQueue(
            sent.name, retry=retry, limits=limits, name_retention=self._name_retention, now=now
        )
        self._queues[sent.name] = queue
        self._settings[sent.name] = settings
        return queue_messages.write_queue(queue, settings)

    def _task_place(self, name: str) -> tuple[TaskQueue, str]:
        queue_name, task_id = names.split_task_name(name)
        return self.queue(queue_name), task_id

    def _written(self, queue: TaskQueue) -> Any:
        return queue_messages.write_queue(queue, self._settings[queue.name])

    def _woken(self, queue: TaskQueue) -> Any:
        self.dispatcher.wake(queue)
        return self._written(queue)


def _now() -> datetime:
    return datetime.now(UTC)
