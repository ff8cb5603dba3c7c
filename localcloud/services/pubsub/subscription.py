"""A subscription: its settings, its messages, and who waits for them."""

import asyncio
import re
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from google import pubsub_v1

from localcloud.services.call_errors import InvalidArgumentError
from localcloud.services.pubsub.backlog import Backlog, Delivery, DeliveryRules
from localcloud.services.pubsub.retries import AT_ONCE, PushPace

MOST_PUSHES_AT_ONCE = 100

_ACK_ID = re.compile(r"([0-9a-f]{32})-([0-9]+)")

_ReceivedMessage = pubsub_v1.ReceivedMessage.pb()


class Subscription:
    """One subscription. It belongs to one event loop.

    Args:
        settings: the message with its settings, with all defaults.
        rules: what they say about delivery.
        bury: see ``Backlog``.

    Attributes:
        settings: see above; replaced by ``configure``.
        backlog: its messages.
        pace: when it may push.
    """

    def __init__(
        self, settings: Any, rules: DeliveryRules, bury: Callable[[Delivery], bool]
    ) -> None:
        self.settings = settings
        self.backlog = Backlog(rules, bury)
        self.pace = PushPace(MOST_PUSHES_AT_ONCE)
        self._key = uuid.uuid4().hex
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        """The full name."""
        return str(self.settings.name)

    @property
    def pushes(self) -> bool:
        """Whether its messages are pushed, not pulled."""
        return bool(self.settings.push_config.push_endpoint)

    @property
    def ack_deadline(self) -> timedelta:
        """How long a delivery may take."""
        return timedelta(seconds=self.settings.ack_deadline_seconds)

    @property
    def paces(self) -> bool:
        """Whether a failed push makes all wait; with a retry policy only its message does."""
        return self.backlog.rules.retry is AT_ONCE

    def configure(self, settings: Any, rules: DeliveryRules) -> None:
        """Replace the settings; messages that wait keep their time."""
        self.settings = settings
        self.backlog.rules = rules

    def forget(self) -> None:
        """Forget all messages, and the pause after failed pushes."""
        self.backlog.clear()
        self.pace.succeeded()

    def notify(self) -> None:
        """Have everybody look again who waits."""
        self._changed.set()
        self._changed = asyncio.Event()

    def changed(self) -> asyncio.Event:
        """Return what is set at the next ``notify``."""
        return self._changed

    def attempt(self, delivery: Delivery) -> int | None:
        """Return the number of a delivery; None without dead letters, where nobody is told it."""
        return None if self.backlog.rules.max_attempts is None else delivery.attempt

    def received(self, delivery: Delivery) -> Any:
        """Return a delivery as somebody who pulls gets it."""
        return _ReceivedMessage(
            ack_id=f"{self._key}-{delivery.ticket}",
            message=delivery.message,
            delivery_attempt=self.attempt(delivery) or 0,
        )

    def acknowledge(self, ack_ids: Iterable[str], now: datetime) -> None:
        """Remove the messages of deliveries; a delivery that is over is no error.

        Raises:
            InvalidArgumentError: an id is malformed. Nothing has changed then.
        """
        for ticket in self._tickets(ack_ids):
            self.backlog.acknowledge(ticket, now)

    def modify_deadline(self, ack_ids: Iterable[str], seconds: int, now: datetime) -> None:
        """Give deliveries this long from now, or let them fail with 0.

        Raises:
            InvalidArgumentError: an id is malformed. Nothing has changed then.
        """
        for ticket in self._tickets(ack_ids):
            if seconds:
                self.backlog.extend(ticket, timedelta(seconds=seconds), now)
            else:
                self.backlog.nack(ticket, now)

    def is_outstanding(self, ack_id: str) -> bool:
        """Return whether a delivery is neither acknowledged nor failed."""
        return any(self.backlog.is_outstanding(ticket) for ticket in self._tickets([ack_id]))

    def _tickets(self, ack_ids: Iterable[str]) -> list[int]:
        """Return the tickets of ids, without those of other subscriptions."""
        tickets = []
        for ack_id in ack_ids:
            match = _ACK_ID.fullmatch(ack_id)
            if match is None:
                raise InvalidArgumentError(
                    f"You have passed an invalid ack ID to the service (ack_id={ack_id})."
                )
            if match[1] == self._key:
                tickets.append(int(match[2]))
        return tickets
