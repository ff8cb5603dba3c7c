"""Sends tasks to their targets: one HTTP request per attempt, as soon as the queue allows it."""

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import aiohttp
from google.cloud import tasks_v2
from multidict import CIMultiDict

from localcloud.services.cloud_tasks.queue import TaskQueue
from localcloud.services.cloud_tasks.scheduled_task import Answer, Attempt, ScheduledTask
from localcloud.services.cloud_tasks.task_messages import USER_AGENT
from localcloud.services.delivery_faults import DeliveryOutcome
from localcloud.services.http_sender import HttpSender

_LOG = logging.getLogger(__name__)

_DEADLINE_EXCEEDED = Answer(504, received=False)  # as recorded of the real service
_NO_CONNECTION = Answer(503, received=False)
_LOST = Answer(200, received=True)

# Cloud Tasks sets or reserves some of these; the others belong to one connection.
_REPLACED_HEADERS = frozenset(
    {"host", "content-length", "user-agent", "connection", "transfer-encoding"}
)
_RESERVED_PREFIXES = ("x-google-", "x-appengine-", "x-cloudtasks-")


class Dispatcher(HttpSender[TaskQueue, Answer]):
    """Carries out what the queues decide. ``RunTask`` is not delayed by faults.

    Args:
        queues: the queues by name; whoever changes a queue calls ``wake``.
        mint_token: returns the OIDC token for (e-mail address of the service account, audience). If
            it is None, tasks with an ``oidc_token`` are sent without one. If it raises, the attempt
            fails.
    """

    def __init__(
        self, queues: Mapping[str, TaskQueue], mint_token: Callable[[str, str], str] | None
    ) -> None:
        super().__init__(queues, failure=_NO_CONNECTION)
        self._mint_token = mint_token

    def _send_due(self, queue: TaskQueue, now: datetime) -> timedelta | None:
        while (started := queue.start_due(now, self._lateness)) is not None:
            self.send(queue, *started)
        return queue.wait(now, self._lateness)

    def send(self, queue: TaskQueue, task: ScheduledTask, attempt: Attempt) -> None:
        """Carry out an attempt that the queue has started, and tell the queue the result."""
        outcome = self.faults.outcomes.draw()
        sending = self._begin(self._deliver(queue, task, attempt, outcome))
        sending.add_done_callback(functools.partial(self._ended, queue, task, attempt))
        if self.faults.duplicate or outcome.twice:
            second = self._begin(self._deliver(queue, task, attempt, outcome))
            second.add_done_callback(self._result_of)

    def _ended(
        self, queue: TaskQueue, task: ScheduledTask, attempt: Attempt, sending: asyncio.Task[Answer]
    ) -> None:
        answer = self._result_of(sending)
        if not 200 <= answer.status < 300:
            _LOG.info(
                "%s/tasks/%s: attempt %d failed, %s %d",
                queue.name,
                task.task_id,
                attempt.retry_count + 1,
                "status" if answer.received else "no answer, counted as",
                answer.status,
            )
        queue.finish(task, attempt, answer, datetime.now(UTC))
        self.wake(queue)

    async def _deliver(
        self, queue: TaskQueue, task: ScheduledTask, attempt: Attempt, outcome: DeliveryOutcome
    ) -> Answer:
        await asyncio.sleep(outcome.late_seconds)
        return _LOST if outcome.lost else await self._request(queue, task, attempt)

    async def _request(self, queue: TaskQueue, task: ScheduledTask, attempt: Attempt) -> Answer:
        if self._session is None:
            return _NO_CONNECTION
        request = task.message.http_request
        deadline: timedelta = task.message.dispatch_deadline.ToTimedelta()
        headers = self._headers(queue, task, attempt)
        try:
            async with self._session.request(
                tasks_v2.HttpMethod(request.http_method).name,
                request.url,
                headers=headers,
                data=request.body or None,
                skip_auto_headers=("Content-Type",),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=deadline.total_seconds()),
            ) as response:
                async for _ in response.content.iter_any():
                    pass  # a target is done when it has answered in full
                return Answer(response.status, received=True)
        except TimeoutError:
            return _DEADLINE_EXCEEDED
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: the URL is not one of a request.
            _LOG.info("%s: %s", request.url, error)
            return _NO_CONNECTION

    def _headers(self, queue: TaskQueue, task: ScheduledTask, attempt: Attempt) -> CIMultiDict[str]:
        request = task.message.http_request
        headers = CIMultiDict(
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in _REPLACED_HEADERS
            and not name.lower().startswith(_RESERVED_PREFIXES)
        )
        headers["User-Agent"] = USER_AGENT
        headers["X-CloudTasks-QueueName"] = queue.name.rpartition("/")[2]
        headers["X-CloudTasks-TaskName"] = task.task_id
        headers["X-CloudTasks-TaskRetryCount"] = str(attempt.retry_count)
        headers["X-CloudTasks-TaskExecutionCount"] = str(attempt.execution_count)
        headers["X-CloudTasks-TaskETA"] = f"{attempt.schedule_time.timestamp():.6f}"
        if attempt.previous_response is not None:
            headers["X-CloudTasks-TaskPreviousResponse"] = str(attempt.previous_response)
            headers["X-CloudTasks-TaskRetryReason"] = ""  # recorded empty for every status
        if request.HasField("oidc_token") and self._mint_token is not None:
            token = self._mint_token(
                request.oidc_token.service_account_email, request.oidc_token.audience or request.url
            )
            headers["Authorization"] = f"Bearer {token}"
        return headers
