"""What sends HTTP requests for a service: Cloud Tasks its tasks, Pub/Sub its pushes."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import aiohttp

from localcloud.services.delivery_faults import DeliveryFaults

_LOG = logging.getLogger(__name__)

Source = TypeVar("Source")
Result = TypeVar("Result")


class HttpSender(ABC, Generic[Source, Result]):
    """Sends what its sources (queues, subscriptions) allow, as soon as they allow it.

    Everything runs on the event loop on which ``start`` ran, except for changes of ``faults``.

    Args:
        sources: by name; whoever changes one calls ``wake`` or ``wake_soon``.
        failure: the result of a request that was cancelled or could not be made.

    Attributes:
        faults: the faults of delivery.
    """

    def __init__(self, sources: Mapping[str, Source], failure: Result) -> None:
        self.faults = DeliveryFaults(self._wake_all_soon)
        self._sources = sources
        self._failure = failure
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timers: dict[Source, asyncio.TimerHandle] = {}
        self._sending: set[asyncio.Task[Result]] = set()

    async def start(self) -> None:
        """Start to send."""
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            # The sources limit what is under way. Connections are not kept: one that the other
            # side is closing would look like a failed request.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._wake_all()

    async def stop(self) -> None:
        """Stop sending, and cancel the requests under way."""
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
        """Cancel the requests under way; their sources see them as failed."""
        for sending in self._sending:
            sending.cancel()

    def wake_soon(self, source: Source) -> None:
        """Call ``wake`` as soon as the caller has returned to the event loop."""
        if self._loop is not None:
            self._loop.call_soon(self.wake, source)

    def wake(self, source: Source) -> None:
        """Send what the source allows, and come back when it may allow more."""
        timer = self._timers.pop(source, None)
        if timer is not None:
            timer.cancel()
        if self._loop is None:
            return
        wait = self._send_due(source, datetime.now(UTC))
        if wait is not None:
            self._timers[source] = self._loop.call_later(wait.total_seconds(), self.wake, source)

    @abstractmethod
    def _send_due(self, source: Source, now: datetime) -> timedelta | None:
        """Send what may be sent, and return how long until more may be; None: nothing by itself."""

    @property
    def _lateness(self) -> timedelta:
        return timedelta(seconds=self.faults.delay_seconds)

    def _begin(self, request: Coroutine[None, None, Result]) -> asyncio.Task[Result]:
        """Begin a request. Its end is for ``_result_of``, in a callback.

        A callback runs even if the coroutine is cancelled before it has started.
        """
        sending = asyncio.create_task(request)
        self._sending.add(sending)
        return sending

    def _result_of(self, sending: asyncio.Task[Result]) -> Result:
        self._sending.discard(sending)
        if sending.cancelled():
            return self._failure
        error = sending.exception()
        if error is not None:
            _LOG.error("a request could not be made", exc_info=error)
            return self._failure
        return sending.result()

    def _wake_all_soon(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        for source in list(self._sources.values()):
            self.wake(source)
