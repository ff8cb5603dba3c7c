"""What the local Pub/Sub reads and writes: names, pages, push bodies, dead letters and updates."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from google import pubsub_v1
from google.protobuf.field_mask_pb2 import FieldMask

from localcloud.services.call_errors import InvalidArgumentError
from localcloud.services.pubsub import names, push_request
from localcloud.services.pubsub.publishing import dead_letter, published
from localcloud.services.pubsub.subscription_messages import (
    merge_subscription,
    read_subscription,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)
TOPIC = "projects/p/topics/jobs"
SUBSCRIPTION = "projects/p/subscriptions/worker"


def a_message(**fields: Any) -> Any:
    """Return a message as its subscribers get it."""
    return published(pubsub_v1.PubsubMessage.pb()(**fields), "17", NOW)


def a_subscription(**settings: Any) -> Any:
    """Return the message that describes a subscription."""
    return pubsub_v1.Subscription.pb()(name=SUBSCRIPTION, topic=TOPIC, **settings)


@pytest.mark.parametrize(
    "topic_id", ["abc", "A-_.~+%9", "a" * 255, "goo", "Goog", "workspace-provision-dead"]
)
def test_a_legal_name_is_accepted(topic_id: str) -> None:
    """It has 3 to 255 of the characters of the reference and starts with a letter."""
    names.check_topic_name(f"projects/p/topics/{topic_id}")
    names.check_subscription_name(f"projects/p/subscriptions/{topic_id}")


@pytest.mark.parametrize(
    "topic_id", ["", "ab", "a" * 256, "1abc", "-abc", "goog", "google", "a b c", "a/b/c", "äbc"]
)
def test_an_illegal_name_is_refused(topic_id: str) -> None:
    """Also one that starts with goog."""
    with pytest.raises(InvalidArgumentError):
        names.check_topic_name(f"projects/p/topics/{topic_id}")
    with pytest.raises(InvalidArgumentError):
        names.check_subscription_name(f"projects/p/subscriptions/{topic_id}")


def test_pages_have_every_name_once() -> None:
    """Each token leads to the next page, and the last page has none."""
    everything = [f"n{number:02}" for number in range(25)]
    seen, token, pages = [], "", 0
    while pages == 0 or token:
        page, token = names.page(reversed(everything), 10, token)
        seen += page
        pages += 1
    assert (seen, pages) == (everything, 3)


def test_a_page_without_a_size_has_up_to_the_largest_size() -> None:
    """A larger size means no more."""
    everything = [f"n{number:04}" for number in range(1100)]
    for size in (0, 5000):
        page, token = names.page(everything, size, "")
        assert (len(page), token) == (1000, "n0999")


def test_the_server_sets_id_and_time_itself() -> None:
    """Whatever the publisher put there; the time is in milliseconds."""
    sent = pubsub_v1.PubsubMessage.pb()(data=b"x", message_id="forged")
    sent.publish_time.FromDatetime(datetime(2000, 1, 1, tzinfo=UTC))
    message = published(sent, "17", NOW)
    assert (message.message_id, message.publish_time.ToJsonString()) == (
        "17",
        "2026-03-01T12:00:00.123Z",
    )


def test_a_push_body_has_productions_form() -> None:
    """As the example with all values in Pub/Sub's page on push subscriptions."""
    message = a_message(data=b"Hello there", attributes={"key1": "value1"}, ordering_key="the-key")
    assert json.loads(push_request.body(message, SUBSCRIPTION, 5)) == {
        "deliveryAttempt": 5,
        "message": {
            "attributes": {"key1": "value1"},
            "data": "SGVsbG8gdGhlcmU=",
            "messageId": "17",
            "message_id": "17",
            "orderingKey": "the-key",
            "publishTime": "2026-03-01T12:00:00.123Z",
            "publish_time": "2026-03-01T12:00:00.123Z",
        },
        "subscription": SUBSCRIPTION,
    }


def test_a_push_body_leaves_out_what_there_is_not() -> None:
    """As the example with the least values there."""
    body = json.loads(push_request.body(a_message(data=b"x"), SUBSCRIPTION, None))
    assert set(body) == {"message", "subscription"}
    assert set(body["message"]) == {
        "data",
        "messageId",
        "message_id",
        "publishTime",
        "publish_time",
    }


def test_a_dead_letter_has_the_message_and_where_it_comes_from() -> None:
    """The attributes are those of Pub/Sub's page on dead-letter topics, over the message's own."""
    message = a_message(
        data=b"x",
        attributes={"mine": "1", "CloudPubSubDeadLetterSourceDeliveryCount": "99"},
        ordering_key="k",
    )
    dead = dead_letter(message, "projects/far/subscriptions/worker", 5)
    assert (dead.data, dead.ordering_key, dead.message_id) == (b"x", "k", "")
    assert dict(dead.attributes) == {
        "mine": "1",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "worker",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "far",
        "CloudPubSubDeadLetterSourceTopicPublishTime": "2026-03-01T12:00:00.123Z",
    }


def test_an_update_changes_the_fields_of_its_mask_only() -> None:
    """A field that the mask names and the request leaves out gets its default."""
    before, _ = read_subscription(
        a_subscription(ack_deadline_seconds=90, labels={"a": "b"}, retry_policy={})
    )
    sent = a_subscription(ack_deadline_seconds=30, labels={"ignored": "yes"})
    after, _ = merge_subscription(
        before, sent, FieldMask(paths=["ack_deadline_seconds", "retry_policy"])
    )
    assert (after.ack_deadline_seconds, after.labels) == (30, {"a": "b"})
    assert not after.HasField("retry_policy")
    cleared, rules = merge_subscription(
        after, a_subscription(), FieldMask(paths=["ack_deadline_seconds", "labels"])
    )
    assert (cleared.ack_deadline_seconds, cleared.labels, rules.max_attempts) == (10, {}, None)


def test_an_update_of_a_part_of_a_field_leaves_the_rest() -> None:
    """A mask may name a field of a field."""
    version = {"x-goog-version": "v1"}
    before, _ = read_subscription(
        a_subscription(push_config={"push_endpoint": "https://a.example", "attributes": version})
    )
    sent = a_subscription(push_config={"push_endpoint": "https://b.example"})
    after, _ = merge_subscription(before, sent, FieldMask(paths=["push_config.push_endpoint"]))
    assert after.push_config.push_endpoint == "https://b.example"
    assert after.push_config.attributes == version
