"""Carries out what the backlogs decide: pushes messages, and wakes who waits to pull them."""

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import aiohttp

from localcloud.services.delivery_faults import DeliveryFaults, DeliveryOutcome
from localcloud.services.pubsub import push_request
from localcloud.services.pubsub.backlog import Delivery
from localcloud.services.pubsub.subscription import Subscription

_LOG = logging.getLogger(__name__)


class Deliverer:
    """Pushes messages as soon as their subscriptions allow it.

    Everything runs on the event loop on which ``start`` ran, except for changes of ``faults``.

    Args:
        subscriptions: by name; whoever changes one calls ``wake`` or ``wake_soon``.
        mint_token: returns the OIDC token for (e-mail address of the service account, audience). If
            it is None, subscriptions with an ``oidc_token`` push without one. If it raises, the
            push fails.

    Attributes:
        faults: the faults of delivery, which pushes have.
    """

    def __init__(
        self,
        subscriptions: Mapping[str, Subscription],
        mint_token: Callable[[str, str], str] | None,
    ) -> None:
        self.faults = DeliveryFaults(self._wake_all_soon)
        self._subscriptions = subscriptions
        self._mint_token = mint_token
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timers: dict[Subscription, asyncio.TimerHandle] = {}
        self._pushing: set[asyncio.Task[bool]] = set()
        self._unpaused = asyncio.Event()
        self._unpaused.set()

    async def start(self) -> None:
        """Start to deliver."""
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            # The subscriptions limit what is under way. Connections are not kept: one that the
            # endpoint is closing would look like a failed push.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._wake_all()

    async def stop(self) -> None:
        """Stop delivering, and cancel the pushes under way."""
        session, self._session, self._loop = self._session, None, None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        pushing = list(self._pushing)
        self.cancel()
        await asyncio.gather(*pushing, return_exceptions=True)
        if session is not None:
            await session.close()

    def cancel(self) -> None:
        """Cancel the pushes under way, which fail."""
        for pushing in self._pushing:
            pushing.cancel()

    def pause(self) -> None:
        """Send no push and take no answer of one, until ``resume``."""
        self._unpaused.clear()

    def resume(self) -> None:
        """Go on where ``pause`` stopped; deadlines have passed meanwhile."""
        self._unpaused.set()

    async def until_resumed(self) -> None:
        """Return at once, or after ``resume`` if it is paused."""
        await self._unpaused.wait()

    def wake_soon(self, subscription: Subscription) -> None:
        """Call ``wake`` as soon as the caller has returned to the event loop."""
        if self._loop is not None:
            self._loop.call_soon(self.wake, subscription)

    def wake(self, subscription: Subscription) -> None:
        """Deliver what may be delivered, and come back when that changes."""
        timer = self._timers.pop(subscription, None)
        if timer is not None:
            timer.cancel()
        if self._loop is None:
            return
        now = datetime.now(UTC)
        subscription.backlog.expire(now)
        if subscription.pushes:
            self._push_due(subscription, now)
        subscription.notify()
        wait = self._wait(subscription, now)
        if wait is not None:
            self._timers[subscription] = self._loop.call_later(
                wait.total_seconds(), self.wake, subscription
            )

    def _wait(self, subscription: Subscription, now: datetime) -> timedelta | None:
        """Return how long until something happens by itself, or None if nothing does."""
        moments = []
        due = subscription.backlog.next_due(now)
        if due is not None and subscription.pushes:
            pause = subscription.pace.wait(now)
            if pause is not None:
                moments.append(max(due + self._lateness, now + pause))
        elif due is not None and due > now:  # otherwise it waits for somebody who pulls it
            moments.append(due)
        end = subscription.backlog.next_end()
        if end is not None:
            moments.append(end)
        return max(min(moments) - now, timedelta(0)) if moments else None

    @property
    def _lateness(self) -> timedelta:
        return timedelta(seconds=self.faults.delay_seconds)

    def _push_due(self, subscription: Subscription, now: datetime) -> None:
        while subscription.pace.wait(now) == timedelta(0):
            delivery = subscription.backlog.take(now, None, self._lateness)
            if delivery is None:
                return
            self._push(subscription, delivery)

    def _push(self, subscription: Subscription, delivery: Delivery) -> None:
        outcome = self.faults.outcomes.draw()
        subscription.pace.running += 1
        pushing = self._begin(subscription, delivery, outcome)
        # A callback runs even if the coroutine is cancelled before it has started.
        pushing.add_done_callback(
            functools.partial(self._ended, subscription, delivery.ticket or 0)
        )
        if self.faults.duplicate or outcome.twice:
            self._begin(subscription, delivery, outcome).add_done_callback(self._result_of)

    def _begin(
        self, subscription: Subscription, delivery: Delivery, outcome: DeliveryOutcome
    ) -> asyncio.Task[bool]:
        pushing = asyncio.create_task(self._deliver(subscription, delivery, outcome))
        self._pushing.add(pushing)
        return pushing

    def _ended(self, subscription: Subscription, ticket: int, pushing: asyncio.Task[bool]) -> None:
        now = datetime.now(UTC)
        subscription.pace.running -= 1
        if self._result_of(pushing):
            subscription.pace.succeeded()
            subscription.backlog.acknowledge(ticket, now)
        else:
            if subscription.paces and not pushing.cancelled():
                subscription.pace.failed(now)
            subscription.backlog.nack(ticket, now)
        self.wake(subscription)

    def _result_of(self, pushing: asyncio.Task[bool]) -> bool:
        self._pushing.discard(pushing)
        if pushing.cancelled():
            return False
        error = pushing.exception()
        if error is not None:
            _LOG.error("a push could not be made", exc_info=error)
            return False
        return pushing.result()

    async def _deliver(
        self, subscription: Subscription, delivery: Delivery, outcome: DeliveryOutcome
    ) -> bool:
        """Return whether the message is acknowledged."""
        await asyncio.sleep(outcome.late_seconds)
        await self.until_resumed()
        acknowledged = outcome.lost or await self._request(subscription, delivery)
        await self.until_resumed()
        return acknowledged

    async def _request(self, subscription: Subscription, delivery: Delivery) -> bool:
        if self._session is None:
            return False
        url = subscription.settings.push_config.push_endpoint
        body = push_request.body(
            delivery.message, subscription.name, subscription.attempt(delivery)
        )
        try:
            async with self._session.post(
                url,
                data=body,
                headers=self._headers(subscription),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=subscription.ack_deadline.total_seconds()),
            ) as response:
                async for _ in response.content.iter_any():
                    pass  # an endpoint is done when it has answered in full
                status = response.status
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # TimeoutError is an OSError; ValueError: the URL is not one of a request.
            _LOG.info("%s: a push to %s broke off: %r", subscription.name, url, error)
            return False
        if status not in push_request.ACKNOWLEDGING:
            _LOG.info(
                "%s: %s answered delivery %d of message %s with %d",
                subscription.name,
                url,
                delivery.attempt,
                delivery.message.message_id,
                status,
            )
        return status in push_request.ACKNOWLEDGING

    def _headers(self, subscription: Subscription) -> dict[str, str]:
        config = subscription.settings.push_config
        if not config.HasField("oidc_token") or self._mint_token is None:
            return push_request.HEADERS
        token = self._mint_token(
            config.oidc_token.service_account_email,
            config.oidc_token.audience or config.push_endpoint,
        )
        return {**push_request.HEADERS, "Authorization": f"Bearer {token}"}

    def _wake_all_soon(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        for subscription in list(self._subscriptions.values()):
            self.wake(subscription)
