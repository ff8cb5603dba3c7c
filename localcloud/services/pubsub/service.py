"""The calls on topics and subscriptions: each takes a request and returns a response.

They never wait: a call has changed everything when it returns, so on one event loop no two calls
overlap. The calls that wait for messages are in ``pulling``.
"""

import functools
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from google import pubsub_v1
from google.protobuf.empty_pb2 import Empty

from localcloud.services.call_errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
)
from localcloud.services.pubsub import names, publishing, subscription_messages, topic_messages
from localcloud.services.pubsub.backlog import Delivery
from localcloud.services.pubsub.delivery import Deliverer
from localcloud.services.pubsub.pulling import Puller
from localcloud.services.pubsub.subscription import Subscription

# "Acknowledge and ModifyAckDeadline requests" in Pub/Sub's quotas and limits.
LARGEST_ACKNOWLEDGEMENT_BYTES = 524_288


class PubSubService:
    """All topics and subscriptions, and the calls on them.

    Args:
        mint_token: see ``Deliverer``.
    """

    def __init__(self, *, mint_token: Callable[[str, str], str] | None) -> None:
        self._topics: dict[str, Any] = {}  # the settings
        self._subscriptions: dict[str, Subscription] = {}
        self.deliverer = Deliverer(self._subscriptions, mint_token)
        self.puller = Puller(self.subscription, self.deliverer)

    def reset(self) -> None:
        """Forget all messages and pushes; topics and subscriptions stay as they are."""
        for subscription in self._subscriptions.values():
            subscription.forget()
        self.deliverer.cancel()

    def subscription(self, name: str) -> Subscription:
        """Return a subscription.

        Raises:
            InvalidArgumentError: this is not the name of a subscription.
            NotFoundError: it does not exist.
        """
        names.check_subscription_name(name)
        found = self._subscriptions.get(name)
        if found is None:
            raise NotFoundError(f"Resource not found (resource={names.id_of(name)}).")
        return found

    def create_topic(self, request: Any) -> Any:
        """Create a topic.

        Raises:
            AlreadyExistsError: it exists.
            InvalidArgumentError: its name or a setting is wrong.
            UnimplementedError: a setting would be ignored here.
        """
        names.check_topic_name(request.name)
        if request.name in self._topics:
            raise AlreadyExistsError(_taken(request.name))
        self._topics[request.name] = topic_messages.read_topic(request)
        return self._topics[request.name]

    def update_topic(self, request: Any) -> Any:
        """Change a topic's settings."""
        settings = self._topic(request.topic.name)
        merged = topic_messages.merge_topic(settings, request.topic, request.update_mask)
        self._topics[merged.name] = merged
        return merged

    def get_topic(self, request: Any) -> Any:
        """Return a topic."""
        return self._topic(request.topic)

    def list_topics(self, request: Any) -> Any:
        """Return a page of a project's topics."""
        names.check_project_name(request.project)
        found = [name for name in self._topics if name.startswith(f"{request.project}/topics/")]
        page, token = names.page(found, request.page_size, request.page_token)
        response = pubsub_v1.ListTopicsResponse.pb()(next_page_token=token)
        response.topics.extend(self._topics[name] for name in page)
        return response

    def list_topic_subscriptions(self, request: Any) -> Any:
        """Return a page of the names of a topic's subscriptions."""
        self._topic(request.topic)
        found = [each.name for each in self._subscriptions_of(request.topic)]
        page, token = names.page(found, request.page_size, request.page_token)
        return pubsub_v1.ListTopicSubscriptionsResponse.pb()(
            subscriptions=page, next_page_token=token
        )

    def delete_topic(self, request: Any) -> Any:
        """Delete a topic. Its subscriptions keep their messages, and have no topic any more."""
        self._topic(request.topic)
        for subscription in self._subscriptions_of(request.topic):
            subscription.settings.topic = names.DELETED_TOPIC
        del self._topics[request.topic]
        return Empty()

    def publish(self, request: Any) -> Any:
        """Add messages to each subscription of a topic: all of them, or none if one is refused.

        Raises:
            InvalidArgumentError: a message exceeds a limit or is empty.
            NotFoundError: there is no such topic.
        """
        self._topic(request.topic)
        publishing.check_publish(request)
        ids = [self._publish(request.topic, message) for message in request.messages]
        return pubsub_v1.PublishResponse.pb()(message_ids=ids)

    def create_subscription(self, request: Any) -> Any:
        """Create a subscription, which gets what is published from now on.

        Raises:
            AlreadyExistsError: it exists.
            InvalidArgumentError: its name or a setting is wrong.
            NotFoundError: its topic or its dead-letter topic does not exist.
            UnimplementedError: a setting would be ignored here.
        """
        names.check_subscription_name(request.name)
        self._topic(request.topic)
        if request.name in self._subscriptions:
            raise AlreadyExistsError(_taken(request.name))
        settings, rules = subscription_messages.read_subscription(request)
        self._check_dead_letters(settings)
        bury = functools.partial(self._bury, request.name)
        self._subscriptions[request.name] = Subscription(settings, rules, bury)
        return settings

    def get_subscription(self, request: Any) -> Any:
        """Return a subscription."""
        return self.subscription(request.subscription).settings

    def update_subscription(self, request: Any) -> Any:
        """Change a subscription's settings; messages that wait keep their time."""
        subscription = self.subscription(request.subscription.name)
        settings, rules = subscription_messages.merge_subscription(
            subscription.settings, request.subscription, request.update_mask
        )
        if settings.dead_letter_policy != subscription.settings.dead_letter_policy:
            self._check_dead_letters(settings)
        subscription.configure(settings, rules)
        self.deliverer.wake(subscription)
        return settings

    def modify_push_config(self, request: Any) -> Any:
        """Have messages pushed somewhere else, or pulled if there is no endpoint."""
        subscription = self.subscription(request.subscription)
        subscription_messages.check_push_config(request.push_config)
        subscription.settings.push_config.CopyFrom(request.push_config)
        self.deliverer.wake(subscription)
        return Empty()

    def list_subscriptions(self, request: Any) -> Any:
        """Return a page of a project's subscriptions."""
        names.check_project_name(request.project)
        found = [
            name
            for name in self._subscriptions
            if name.startswith(f"{request.project}/subscriptions/")
        ]
        page, token = names.page(found, request.page_size, request.page_token)
        response = pubsub_v1.ListSubscriptionsResponse.pb()(next_page_token=token)
        response.subscriptions.extend(self._subscriptions[name].settings for name in page)
        return response

    def delete_subscription(self, request: Any) -> Any:
        """Delete a subscription and its messages; a push under way counts for nothing."""
        subscription = self.subscription(request.subscription)
        del self._subscriptions[request.subscription]
        subscription.forget()
        self.deliverer.wake(subscription)
        return Empty()

    def acknowledge(self, request: Any) -> Any:
        """Remove messages that were pulled; more than once is no error.

        Raises:
            InvalidArgumentError: there are no ids, or one is malformed.
            NotFoundError: there is no such subscription.
        """
        subscription = self.subscription(request.subscription)
        _check_acknowledgement(request)
        subscription.acknowledge(request.ack_ids, _now())
        self.deliverer.wake(subscription)
        return Empty()

    def modify_ack_deadline(self, request: Any) -> Any:
        """Give pulled messages more or less time; 0 seconds is a nack.

        Raises:
            InvalidArgumentError: there are no ids, one is malformed, or the time is out of its
                range.
            NotFoundError: there is no such subscription.
        """
        subscription = self.subscription(request.subscription)
        _check_acknowledgement(request)
        seconds = request.ack_deadline_seconds
        subscription_messages.check_ack_deadline(seconds, least=0)
        subscription.modify_deadline(request.ack_ids, seconds, _now())
        self.deliverer.wake(subscription)
        return Empty()

    def _topic(self, name: str) -> Any:
        names.check_topic_name(name)
        settings = self._topics.get(name)
        if settings is None:
            raise NotFoundError(f"Resource not found (resource={names.id_of(name)}).")
        return settings

    def _subscriptions_of(self, topic: str) -> list[Subscription]:
        return [each for each in self._subscriptions.values() if each.settings.topic == topic]

    def _check_dead_letters(self, settings: Any) -> None:
        if settings.HasField("dead_letter_policy"):
            self._topic(settings.dead_letter_policy.dead_letter_topic)

    def _publish(self, topic: str, sent: Any) -> str:
        now = _now()
        message = publishing.published(sent, str(uuid.uuid4().int >> 64), now)
        for subscription in self._subscriptions_of(topic):
            subscription.backlog.add(message, now)
            self.deliverer.wake_soon(subscription)
        return str(message.message_id)

    def _bury(self, name: str, delivery: Delivery) -> bool:
        """Publish a message to the dead letters; return False if their topic is gone."""
        policy = self._subscriptions[name].settings.dead_letter_policy
        if policy.dead_letter_topic not in self._topics:
            return False
        dead = publishing.dead_letter(delivery.message, name, delivery.attempt)
        self._publish(policy.dead_letter_topic, dead)
        return True


def _check_acknowledgement(request: Any) -> None:
    if not request.ack_ids:
        raise InvalidArgumentError("No ack ids specified.")
    if request.ByteSize() > LARGEST_ACKNOWLEDGEMENT_BYTES:
        raise InvalidArgumentError(
            f"Request payload size exceeds the limit: {LARGEST_ACKNOWLEDGEMENT_BYTES} bytes."
        )


def _taken(name: str) -> str:
    return f"Resource already exists in the project (resource={names.id_of(name)})."


def _now() -> datetime:
    return datetime.now(UTC)
