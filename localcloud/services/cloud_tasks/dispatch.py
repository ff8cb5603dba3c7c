"""Sends tasks to their targets: one HTTP request for each attempt, as soon as the task's queue lets it go."""

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import aiohttp
from google.cloud import tasks_v2
from multidict import CIMultiDict

from localcloud.services.cloud_tasks.messages import USER_AGENT
from localcloud.services.cloud_tasks.queue import Answer, Attempt, ScheduledTask, TaskQueue
from localcloud.services.delivery_faults import Fate, Fates

logger = logging.getLogger(__name__)

_DEADLINE_EXCEEDED = Answer(504, received=False)  # as recorded of the real service
_NO_CONNECTION = Answer(503, received=False)
_LOST = Answer(200, received=True)

# Cloud Tasks computes or reserves these; the rest belongs to one connection, not to the message.
_REPLACED_HEADERS = frozenset(
    {"host", "content-length", "user-agent", "connection", "transfer-encoding"}
)
_RESERVED_PREFIXES = ("x-google-", "x-appengine-", "x-cloudtasks-")


class DeliveryFaults:
    """What the platform may do to messages, for tests. May be set while tasks are on their way, from any thread.

    Attributes:
        duplicate: each attempt is sent twice at the same moment, with the same headers; the answer
            to the second counts for nothing.
        fates: what becomes of each attempt beside that; one that is lost counts as answered, and
            nobody gets it.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.duplicate = False
        self.fates = Fates()
        self._delay_seconds = 0.0
        self._changed = changed

    @property
    def delay_seconds(self) -> float:
        """How much later than due every delivery is, but one that `RunTask` asked for. Applies to waiting tasks too."""
        return self._delay_seconds

    @delay_seconds.setter
    def delay_seconds(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"a delivery cannot be {-seconds} s early")
        self._delay_seconds = seconds
        self._changed()


class Dispatcher:
    """Carries out what the queues decide.

    Everything but setting `delivery` happens on the event loop on which `start` ran.

    Args:
        queues: the queues by name; whoever changes one calls `wake`.
        mint_token: returns the OIDC token for (service account's email, audience); where it is
            None, tasks with an `oidc_token` go out without one. When it raises, the attempt has
            failed.
    """

    def __init__(
        self, queues: Mapping[str, TaskQueue], mint_token: Callable[[str, str], str] | None
    ) -> None:
        self.delivery = DeliveryFaults(self._wake_all_soon)
        self._queues = queues
        self._mint_token = mint_token
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timers: dict[TaskQueue, asyncio.TimerHandle] = {}
        self._sending: set[asyncio.Task[Answer]] = set()

    async def start(self) -> None:
        """Begin to send."""
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            # The queues say how many may be under way. Connections are not kept: one that the
            # target is just closing would look like a failed attempt.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._wake_all()

    async def stop(self) -> None:
        """Send nothing more and cancel what is under way."""
        session, self._session, self._loop = self._session, None, None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        sending = list(self._sending)
        self.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        if session is not None:
            await session.close()

    def cancel(self) -> None:
        """Cancel the dispatches under way; for their queues they have failed."""
        for sending in self._sending:
            sending.cancel()

    def wake(self, queue: TaskQueue) -> None:
        """Send what the queue lets go, and come back when it may let the next one go."""
        timer = self._timers.pop(queue, None)
        if timer is not None:
            timer.cancel()
        if self._loop is None:
            return
        now = datetime.now(UTC)
        lateness = timedelta(seconds=self.delivery.delay_seconds)
        while (started := queue.start_due(now, lateness)) is not None:
            self.send(queue, *started)
        wait = queue.wait(now, lateness)
        if wait is not None:
            self._timers[queue] = self._loop.call_later(wait.total_seconds(), self.wake, queue)

    def send(self, queue: TaskQueue, task: ScheduledTask, attempt: Attempt) -> None:
        """Carry out an attempt that the queue has started, and tell the queue how it ended."""
        fate = self.delivery.fates.draw()
        sending = self._begin(queue, task, attempt, fate)
        # A callback, not the end of the coroutine: it comes even if that is cancelled before it has
        # begun.
        sending.add_done_callback(functools.partial(self._ended, queue, task, attempt))
        if self.delivery.duplicate or fate.twice:
            self._begin(queue, task, attempt, fate).add_done_callback(self._outcome)

    def _begin(
        self, queue: TaskQueue, task: ScheduledTask, attempt: Attempt, fate: Fate
    ) -> asyncio.Task[Answer]:
        sending = asyncio.create_task(self._deliver(queue, task, attempt, fate))
        self._sending.add(sending)
        return sending

    def _ended(
        self, queue: TaskQueue, task: ScheduledTask, attempt: Attempt, sending: asyncio.Task[Answer]
    ) -> None:
        answer = self._outcome(sending)
        if not 200 <= answer.status < 300:
            logger.info(
                "%s/tasks/%s: attempt %d failed, %s %d",
                queue.name,
                task.task_id,
                attempt.retry_count + 1,
                "status" if answer.received else "no answer, counted as",
                answer.status,
            )
        queue.finish(task, attempt, answer, datetime.now(UTC))
        self.wake(queue)

    def _outcome(self, sending: asyncio.Task[Answer]) -> Answer:
        self._sending.discard(sending)
        if sending.cancelled():
            return _NO_CONNECTION
        error = sending.exception()
        if error is not None:
            logger.error("a dispatch could not be made", exc_info=error)
            return _NO_CONNECTION
        return sending.result()

    async def _deliver(
        self, queue: TaskQueue, task: ScheduledTask, attempt: Attempt, fate: Fate
    ) -> Answer:
        await asyncio.sleep(fate.late_seconds)
        return _LOST if fate.lost else await self._request(queue, task, attempt)

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
        except (
            aiohttp.ClientError,
            OSError,
            ValueError,
        ) as error:  # ValueError: a URL that no request can be made of
            logger.info("%s: %s", request.url, error)
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

    def _wake_all_soon(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        for queue in list(self._queues.values()):
            self.wake(queue)
