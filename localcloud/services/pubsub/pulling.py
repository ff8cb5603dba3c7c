"""The calls that wait for messages: ``Pull`` and ``StreamingPull``."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from google import pubsub_v1

from localcloud.services.call_errors import InvalidArgumentError
from localcloud.services.pubsub.delivery import Deliverer
from localcloud.services.pubsub.publishing import check_range
from localcloud.services.pubsub.subscription import Subscription
from localcloud.services.pubsub.subscription_messages import (
    LEAST_ACK_DEADLINE_SECONDS,
    check_ack_deadline,
)

MOST_PULLED = 1000

# "The system may wait (for a bounded amount of time)": production does not say how long.
_PULL_SECONDS = 20.0

# A response has at most one message that goes beyond this.
_RESPONSE_BYTES = 1_000_000

_PullResponse = pubsub_v1.PullResponse.pb()
_StreamingPullResponse = pubsub_v1.StreamingPullResponse.pb()


class Puller:
    """Gives messages to those who pull.

    Args:
        subscription: returns a subscription by its name, or raises ``NotFoundError``.
        deliverer: is told when a subscription has changed.
    """

    def __init__(self, subscription: Callable[[str], Subscription], deliverer: Deliverer) -> None:
        self._subscription = subscription
        self._deliverer = deliverer

    async def pull(self, request: Any) -> Any:
        """Return the messages that are due, or wait for the first; none comes: an empty response.

        Raises:
            InvalidArgumentError: ``max_messages`` is out of its range.
            NotFoundError: there is no such subscription, or no longer.
        """
        check_range("max_messages", request.max_messages, least=1, most=2**31)
        most = min(request.max_messages, MOST_PULLED)
        response = _PullResponse()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if request.return_immediately else _PULL_SECONDS):
                while True:
                    subscription = self._subscription(request.subscription)
                    changed = subscription.changed()
                    received = self._take(subscription, most, subscription.ack_deadline)
                    if received:
                        response.received_messages.extend(received)
                        break
                    await changed.wait()
        return response

    async def streaming_pull(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Send messages as they become due, and take acknowledgements, until the caller ends it.

        Raises:
            InvalidArgumentError: a request is malformed.
            NotFoundError: there is no such subscription, or no longer.
        """
        first = await anext(requests)
        stream = _Stream(self._subscription(first.subscription), first)
        self._deliverer.wake(stream.subscription)
        reading = asyncio.create_task(self._read(stream, requests))
        try:
            while not reading.done():
                # It is looked up each time: it may have been deleted, and even made again.
                if self._subscription(first.subscription) is not stream.subscription:
                    return
                changed = stream.subscription.changed()
                received = self._take(stream.subscription, stream.room(), stream.deadline)
                if received:
                    stream.sent(received)
                    yield stream.response(received)
                    continue
                waiting = asyncio.create_task(changed.wait())
                await asyncio.wait((waiting, reading), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
            reading.result()
        finally:
            reading.cancel()

    async def _read(self, stream: "_Stream", requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            stream.read(request)
            self._deliverer.wake(stream.subscription)

    def _take(self, subscription: Subscription, most: int, deadline: timedelta) -> list[Any]:
        """Start deliveries: at most so many, and not more than a response may have."""
        now = datetime.now(UTC)
        subscription.backlog.expire(now)
        received: list[Any] = []
        size = 0
        while len(received) < most and size < _RESPONSE_BYTES:
            delivery = subscription.backlog.take(now, deadline)
            if delivery is None:
                break
            received.append(subscription.received(delivery))
            size += received[-1].ByteSize()
        if received:
            self._deliverer.wake_soon(subscription)  # it plans their deadlines
        return received


class _Stream:
    """One ``StreamingPull``: what its first request settled, and what it has sent.

    Raises:
        InvalidArgumentError: the first request is malformed.
    """

    def __init__(self, subscription: Subscription, first: Any) -> None:
        self.subscription = subscription
        self.deadline = timedelta(0)
        self._most = int(first.max_outstanding_messages)
        self._sent: set[str] = set()
        self._read_deadline(first.stream_ack_deadline_seconds)
        self.read(first)

    def read(self, request: Any) -> None:
        """Carry out what a request asks for.

        Raises:
            InvalidArgumentError: it is malformed.
        """
        if request.stream_ack_deadline_seconds:
            self._read_deadline(request.stream_ack_deadline_seconds)
        if len(request.modify_deadline_seconds) != len(request.modify_deadline_ack_ids):
            raise InvalidArgumentError(
                "modify_deadline_seconds and modify_deadline_ack_ids must have the same length."
            )
        now = datetime.now(UTC)
        self.subscription.acknowledge(request.ack_ids, now)
        changes = zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True)
        for ack_id, seconds in changes:
            check_ack_deadline(seconds, least=0)
            self.subscription.modify_deadline([ack_id], seconds, now)

    def _read_deadline(self, seconds: int) -> None:
        check_ack_deadline(seconds, least=LEAST_ACK_DEADLINE_SECONDS)
        self.deadline = timedelta(seconds=seconds)

    def room(self) -> int:
        """Return how many messages may be sent now."""
        if self._most <= 0:
            return MOST_PULLED
        self._sent = {each for each in self._sent if self.subscription.is_outstanding(each)}
        return min(MOST_PULLED, self._most - len(self._sent))

    def sent(self, received: list[Any]) -> None:
        """Remember what was sent, if the stream has a limit."""
        if self._most > 0:
            self._sent.update(each.ack_id for each in received)

    def response(self, received: list[Any]) -> Any:
        """Return the response with these messages."""
        response = _StreamingPullResponse(received_messages=received)
        response.subscription_properties.message_ordering_enabled = (
            self.subscription.settings.enable_message_ordering
        )
        return response
