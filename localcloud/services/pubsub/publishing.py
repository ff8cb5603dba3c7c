"""The messages that are published: their limits, what the server adds, and the dead letters.

Sources: the reference of ``PubsubMessage``, and "Resource limits" in Pub/Sub's quotas and limits.
"""

from datetime import datetime
from typing import Any

from google import pubsub_v1

from localcloud.services.call_errors import InvalidArgumentError
from localcloud.services.pubsub import names

LARGEST_REQUEST_BYTES = 10_000_000
MOST_MESSAGES = 1000
MOST_ATTRIBUTES = 100
LONGEST_KEY_BYTES = 256
LONGEST_VALUE_BYTES = 1024
LONGEST_ORDERING_KEY_BYTES = 1024

_DEAD_LETTER_PREFIX = "CloudPubSubDeadLetterSource"

_Message = pubsub_v1.PubsubMessage.pb()


def check_publish(request: Any) -> None:
    """Refuse a request to publish that exceeds a limit, before anything is published.

    Raises:
        InvalidArgumentError: it does.
    """
    check_range("message_count", len(request.messages), least=1, most=MOST_MESSAGES)
    check_range("size", request.ByteSize(), least=0, most=LARGEST_REQUEST_BYTES)
    if len({message.ordering_key for message in request.messages}) > 1:
        raise InvalidArgumentError(
            "In a single publish request, all messages must have no ordering key or they must all "
            "have the same ordering key."
        )
    for message in request.messages:
        _check_message(message)


def _check_message(message: Any) -> None:
    if not message.data and not message.attributes:
        raise InvalidArgumentError(
            "One or more messages in the publish request is empty. Each message must contain "
            "either non-empty data, or at least one attribute."
        )
    check_range("attributes", len(message.attributes), least=0, most=MOST_ATTRIBUTES)
    for key, value in message.attributes.items():
        check_range("attribute_key_size", len(key.encode()), least=1, most=LONGEST_KEY_BYTES)
        check_range("attribute_value_size", len(value.encode()), least=0, most=LONGEST_VALUE_BYTES)
        if key.startswith("goog"):
            raise InvalidArgumentError(f"An attribute's key must not start with goog: {key}")
    check_range(
        "ordering_key_size",
        len(message.ordering_key.encode()),
        least=0,
        most=LONGEST_ORDERING_KEY_BYTES,
    )


def check_range(name: str, value: int, *, least: int, most: int) -> None:
    """Refuse a number that is out of its range, in the service's words.

    Raises:
        InvalidArgumentError: it is.
    """
    if value > most:
        raise InvalidArgumentError(
            f"The value for {name} is too large. You passed {value} in the request, but the "
            f"maximum value is {most}."
        )
    if value < least:
        raise InvalidArgumentError(
            f"The value for {name} is too small. You passed {value} in the request, but the "
            f"minimum value is {least}."
        )


def published(sent: Any, message_id: str, now: datetime) -> Any:
    """Return a message as its subscribers get it, whatever the publisher put into these fields.

    The time is in milliseconds, as production's.
    """
    message = _Message()
    message.CopyFrom(sent)
    message.message_id = message_id
    message.publish_time.FromDatetime(now.replace(microsecond=now.microsecond // 1000 * 1000))
    return message


def dead_letter(message: Any, subscription: str, attempts: int) -> Any:
    """Return what is published to the dead-letter topic for a message.

    Data, attributes and ordering key stay; the attributes of "Forwarded messages" in Pub/Sub's
    page on dead-letter topics are added.

    Args:
        message: as its subscriber got it.
        subscription: the full name of the subscription in which it failed.
        attempts: how often it was delivered.
    """
    dead = _Message(data=message.data, ordering_key=message.ordering_key)
    dead.attributes.update(message.attributes)
    dead.attributes.update(
        {
            f"{_DEAD_LETTER_PREFIX}DeliveryCount": str(attempts),
            f"{_DEAD_LETTER_PREFIX}Subscription": names.id_of(subscription),
            f"{_DEAD_LETTER_PREFIX}SubscriptionProject": names.project_of(subscription),
            f"{_DEAD_LETTER_PREFIX}TopicPublishTime": message.publish_time.ToJsonString(),
        }
    )
    return dead
