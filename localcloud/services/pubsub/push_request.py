"""The HTTP request that brings a message to a push endpoint, and which answers accept it.

Source: https://cloud.google.com/pubsub/docs/push, "How push endpoints receive messages".
"""

import base64
import json
from typing import Any

# docs/push: the codes that acknowledge. 102 is there too, but it is never the last answer of HTTP,
# so a client that waits for the last one never sees it.
ACKNOWLEDGING = frozenset({102, 200, 201, 202, 204})

HEADERS = {
    "Content-Type": "application/json",
    "From": "noreply@google.com",
    "User-Agent": "CloudPubSub-Google",
}


def body(message: Any, subscription: str, attempt: int | None) -> bytes:
    """Return the body: JSON, the message wrapped as production wraps it.

    Args:
        message: as the subscriber gets it.
        subscription: the full name of the subscription.
        attempt: the number of the delivery; None if the subscription has no dead letters, for then
            production leaves ``deliveryAttempt`` out.
    """
    wrapped: dict[str, Any] = {}
    if message.attributes:
        wrapped["attributes"] = dict(message.attributes)
    if message.data:
        wrapped["data"] = base64.b64encode(message.data).decode()
    wrapped["messageId"] = wrapped["message_id"] = message.message_id
    if message.ordering_key:
        wrapped["orderingKey"] = message.ordering_key
    wrapped["publishTime"] = wrapped["publish_time"] = message.publish_time.ToJsonString()
    content: dict[str, Any] = {"message": wrapped, "subscription": subscription}
    if attempt is not None:
        content["deliveryAttempt"] = attempt
    return json.dumps(content).encode()
