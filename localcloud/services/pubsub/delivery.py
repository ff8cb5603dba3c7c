"""Carries out what the backlogs decide: pushes messages, and wakes who waits to pull them."""

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import aiohttp

from localcloud.services.delivery_faults import DeliveryOutcome
from localcloud.services.http_sender import HttpSender
from localcloud.services.pubsub import push_request
from localcloud.services.pubsub.backlog import Delivery
from localcloud.services.pubsub.subscription import Subscription

_LOG = logging.getLogger(__name__)


class Deliverer(HttpSender[Subscription, bool]):
    """Pushes messages as soon as their subscriptions allow it.

    Args:
        subscriptions: by name; whoever changes one calls ``wake`` or ``wake_soon``.
        mint_token: returns the OIDC token for (e-mail address of the service account, audience). If
            it is None, subscriptions with an ``oidc_token`` push without one. If it raises, the
            push fails.
    """

    def __init__(
        self,
        subscriptions: Mapping[str, Subscription],
        mint_token: Callable[[str, str], str] | None,
    ) -> None:
        super().__init__(subscriptions, failure=False)
        self._mint_token = mint_token
        self._unpaused = asyncio.Event()
        self._unpaused.set()

    def pause(self) -> None:
        """Send no push and take no answer of one, until ``resume``."""
        self._unpaused.clear()

    def resume(self) -> None:
        """Go on where ``pause`` stopped; deadlines have passed meanwhile."""
        self._unpaused.set()

    async def until_resumed(self) -> None:
        """Return at once, or after ``resume`` if it is paused."""
        await self._unpaused.wait()

    def _send_due(self, subscription: Subscription, now: datetime) -> timedelta | None:
        subscription.backlog.expire(now)
        if subscription.pushes:
            self._push_due(subscription, now)
        subscription.notify()
        return self._wait(subscription, now)

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

    def _push_due(self, subscription: Subscription, now: datetime) -> None:
        while subscription.pace.wait(now) == timedelta(0):
            delivery = subscription.backlog.take(now, None, self._lateness)
            if delivery is None:
                return
            self._push(subscription, delivery)

    def _push(self, subscription: Subscription, delivery: Delivery) -> None:
        outcome = self.faults.outcomes.draw()
        subscription.pace.running += 1
        pushing = self._begin(self._deliver(subscription, delivery, outcome))
        pushing.add_done_callback(
            functools.partial(self._ended, subscription, delivery.ticket or 0)
        )
        if self.faults.duplicate or outcome.twice:
            second = self._begin(self._deliver(subscription, delivery, outcome))
            second.add_done_callback(self._result_of)

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
