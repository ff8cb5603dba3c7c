"""The local Pub/Sub and Google's emulator, through Google's own client library, with real pushes.

What both do as production does is tested on both; ``GOOGLE_DIFFERS`` says where the emulator does
not, and those tests run on the local server alone.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import queue
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1 import SubscriberClient as StreamingSubscriberClient
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import StreamingPullRequest

from localcloud.catalogue import read_catalogue
from localcloud.services.call_errors import NotFoundError
from localcloud.services.delivery_faults import DeliveryOutcomes, Unreliability
from localcloud.services.pubsub.server import PubSubServer
from localcloud.services.pubsub.topology import create_topology, pushed_with_token
from tests.http_target import Received, Target, eventually, running_target
from tests.server_thread import ServerThread

# Pulling without waiting is what tests need; the flag's advice is for production.
pytestmark = pytest.mark.filterwarnings("ignore:The return_immediately flag:DeprecationWarning")

# What Google's emulator does instead, by the test that it would fail.
GOOGLE_DIFFERS = {
    "test_a_subscription_without_an_expiration_policy_expires_after_31_days": "it has none",
    "test_labels_of_a_topic_can_be_updated": "it refuses to",
    "test_the_subscriptions_of_a_topic_that_does_not_exist_are_not_found": "it lists none",
    "test_a_message_over_a_limit_is_refused": "it checks neither sizes nor attributes",
    "test_a_subscription_with_an_odd_setting_is_refused": "it accepts and ignores them",
    "test_what_is_not_here_is_refused_in_words": "it has snapshots and seek, and ignores filters",
    "test_a_stream_has_at_most_so_many_messages_outstanding": "it ignores the limit",
    "test_an_answer_of_202_acknowledges": "it takes 202 for a failure",
    "test_an_answer_that_is_neither_makes_the_message_come_again": "203 acknowledges, 302 leads on",
    "test_a_push_has_the_whole_body": "no orderingKey, no deliveryAttempt",
    "test_a_push_has_a_token_of_its_service_account": "it sends no Authorization header",
    "test_a_token_of_a_subscription_without_an_audience_is_for_its_endpoint": "as above",
    "test_a_push_that_takes_longer_than_the_deadline_is_sent_again": "no deadline under 10 s",
    "test_a_message_that_always_fails_goes_to_the_dead_letters": "slower: each push waits 1 s",
}


PATIENCE_SECONDS = 20.0


class PubSub:
    """A Pub/Sub server, a project of its own there, and stock clients of it."""

    def __init__(self, address: str) -> None:
        self.project = f"projects/p-{uuid.uuid4().hex[:12]}"
        self._channel = grpc.insecure_channel(
            address, options=[(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        )
        # Any: the library's own hints do not allow the dicts that it takes.
        self.publisher: Any = PublisherClient(
            transport=PublisherGrpcTransport(channel=self._channel)
        )
        self.transport: Any = SubscriberGrpcTransport(channel=self._channel)
        self.subscriber: Any = SubscriberClient(transport=self.transport)
        self.address = address

    def close(self) -> None:
        """Talk to the server no more."""
        self._channel.close()

    def topic_name(self) -> str:
        """Return a name for a topic that nobody has."""
        return f"{self.project}/topics/t-{uuid.uuid4()}"

    def subscription_name(self) -> str:
        """Return a name for a subscription that nobody has."""
        return f"{self.project}/subscriptions/s-{uuid.uuid4()}"

    def topic(self) -> str:
        """Make a topic and return its name."""
        name = self.topic_name()
        self.publisher.create_topic(name=name)
        return name

    def subscribe(self, topic: str, **settings: Any) -> str:
        """Make a subscription and return its name."""
        name = self.subscription_name()
        self.subscriber.create_subscription(request={"name": name, "topic": topic, **settings})
        return name

    def push(self, topic: str, url: str, **settings: Any) -> str:
        """Make a subscription that pushes, again at once after a failure, and return its name."""
        at_once = {"minimum_backoff": timedelta(0), "maximum_backoff": timedelta(0)}
        settings = {"retry_policy": at_once, **settings}
        return self.subscribe(topic, push_config={"push_endpoint": url}, **settings)

    def publish(self, topic: str, *texts: str, **fields: Any) -> list[str]:
        """Publish messages with these texts and return their ids."""
        messages = [{"data": text.encode(), **fields} for text in texts]
        return list(self.publisher.publish(topic=topic, messages=messages).message_ids)

    def pull(self, subscription: str, most: int = 100) -> list[Any]:
        """Return the messages that are there; none is waited for."""
        return list(
            self.subscriber.pull(
                request={
                    "subscription": subscription,
                    "max_messages": most,
                    "return_immediately": True,
                }
            ).received_messages
        )

    def pull_until(self, subscription: str, least: int = 1) -> list[Any]:
        """Pull until so many messages have come."""
        pulled: list[Any] = []
        while len(pulled) < least:
            response = self.subscriber.pull(
                subscription=subscription, max_messages=100, timeout=PATIENCE_SECONDS
            )
            pulled += response.received_messages
        return pulled

    def acknowledge(self, subscription: str, received: list[Any]) -> None:
        """Acknowledge messages that were pulled."""
        self.subscriber.acknowledge(
            subscription=subscription, ack_ids=[each.ack_id for each in received]
        )

    def nack(self, subscription: str, received: list[Any]) -> None:
        """Refuse messages that were pulled."""
        self.give(subscription, received, seconds=0)

    def give(self, subscription: str, received: list[Any], *, seconds: int) -> None:
        """Give messages that were pulled so much time from now."""
        self.subscriber.modify_ack_deadline(
            subscription=subscription,
            ack_ids=[each.ack_id for each in received],
            ack_deadline_seconds=seconds,
        )


class LocalPubSub(PubSub):
    """The local server on an event loop in its own thread."""

    def __init__(self, **settings: Any) -> None:
        self.server = PubSubServer(**settings)
        self._thread = ServerThread(self.server)
        super().__init__(self.server.address)

    def close(self) -> None:
        """Stop the server; a second call has no effect."""
        super().close()
        self._thread.close()

    def set_ack_deadline(self, subscription: str, seconds: int) -> None:
        """Set a deadline that is shorter than Pub/Sub's shortest."""

        def change() -> None:
            self.server.subscription(subscription).settings.ack_deadline_seconds = seconds

        self._thread.on_loop(change)

    def waiting(self, subscription: str) -> int:
        """Return how many messages are not acknowledged."""
        return self._thread.on_loop(lambda: len(self.server.subscription(subscription).backlog))

    def on_loop(self, call: Callable[[], None]) -> None:
        """Make a call on the server's own loop."""
        self._thread.on_loop(call)


def texts(received: list[Any]) -> list[str]:
    """Return the texts of messages that were pulled."""
    return [each.message.data.decode() for each in received]


def pushed(request: Received) -> dict[str, Any]:
    """Return the body of a push."""
    content: dict[str, Any] = json.loads(request.body)
    return content


def pushed_text(request: Received) -> str:
    """Return the text of the message of a push."""
    return base64.b64decode(pushed(request)["message"]["data"]).decode()


def token_for(service_account_email: str, audience: str) -> str:
    """Return a token that names its service account and its audience."""
    return f"{service_account_email} for {audience}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on the local server and, if it does not differ, on Google's."""
    if "pubsub" in metafunc.fixturenames:
        differs = metafunc.function.__name__ in GOOGLE_DIFFERS
        servers = ["local_pubsub"] if differs else ["local_pubsub", "googles_pubsub"]
        metafunc.parametrize("pubsub", servers, indirect=True)


@pytest.fixture(scope="module")
def shared_server() -> Iterator[LocalPubSub]:
    """A local server for all tests."""
    pubsub = LocalPubSub(mint_token=token_for)
    yield pubsub
    pubsub.close()


@pytest.fixture
def local_pubsub(shared_server: LocalPubSub) -> LocalPubSub:
    """The local server, with a project of the test's own."""
    shared_server.project = f"projects/p-{uuid.uuid4().hex[:12]}"
    return shared_server


@pytest.fixture
def googles_pubsub(google_pubsub: str) -> Iterator[PubSub]:
    """Google's emulator, with a project of the test's own."""
    pubsub = PubSub(google_pubsub)
    yield pubsub
    pubsub.close()


@pytest.fixture
def pubsub(request: pytest.FixtureRequest) -> PubSub:
    """Each server."""
    found: PubSub = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def own_pubsub() -> Iterator[LocalPubSub]:
    """A local server for one test, which changes more than its own topics."""
    pubsub = LocalPubSub(mint_token=token_for)
    yield pubsub
    pubsub.close()


def test_each_difference_names_a_test() -> None:
    """Otherwise a test that was renamed would run on Google's emulator, too, or one would not."""
    assert [name for name in GOOGLE_DIFFERS if name not in globals()] == []


# Topics


def test_a_topic_is_there_until_it_is_deleted(pubsub: PubSub) -> None:
    """It can be read, listed and not created twice."""
    topic = pubsub.topic()
    assert pubsub.publisher.get_topic(topic=topic).name == topic
    assert [each.name for each in pubsub.publisher.list_topics(project=pubsub.project)] == [topic]
    with pytest.raises(exceptions.AlreadyExists):
        pubsub.publisher.create_topic(name=topic)
    pubsub.publisher.delete_topic(topic=topic)
    for call in (pubsub.publisher.get_topic, pubsub.publisher.delete_topic):
        with pytest.raises(exceptions.NotFound):
            call(topic=topic)


@pytest.mark.parametrize("topic_id", ["ab", "x" * 256, "1abc", "googabc", "a b c"])
def test_a_topic_with_an_illegal_name_is_refused(pubsub: PubSub, topic_id: str) -> None:
    """The error is ``INVALID_ARGUMENT``, and so it is for a subscription."""
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.publisher.create_topic(name=f"{pubsub.project}/topics/{topic_id}")
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscriber.create_subscription(
            name=f"{pubsub.project}/subscriptions/{topic_id}", topic=pubsub.topic()
        )


def test_a_topics_retention_can_be_updated_within_its_range(pubsub: PubSub) -> None:
    """It is 10 minutes to 31 days."""
    topic = pubsub.topic()

    def update(retention: timedelta) -> Any:
        return pubsub.publisher.update_topic(
            topic={"name": topic, "message_retention_duration": retention},
            update_mask={"paths": ["message_retention_duration"]},
        )

    assert update(timedelta(days=31)).message_retention_duration == timedelta(days=31)
    with pytest.raises(exceptions.InvalidArgument):
        update(timedelta(minutes=9))
    assert pubsub.publisher.get_topic(topic=topic).message_retention_duration == timedelta(days=31)


def test_labels_of_a_topic_can_be_updated(pubsub: PubSub) -> None:
    """They replace the ones before."""
    topic = pubsub.topic()
    for labels in ({"a": "1", "b": "2"}, {"c": "3"}, {}):
        updated = pubsub.publisher.update_topic(
            topic={"name": topic, "labels": labels}, update_mask={"paths": ["labels"]}
        )
        assert updated.labels == labels


def test_lists_have_pages(pubsub: PubSub) -> None:
    """Topics, subscriptions and a topic's subscriptions all come, whatever the page's size."""
    topics = sorted(pubsub.topic() for _ in range(3))
    subscriptions = sorted(pubsub.subscribe(topics[0]) for _ in range(3))
    elsewhere = pubsub.subscribe(topics[1])
    of_project = {"project": pubsub.project, "page_size": 2}
    listed = pubsub.publisher.list_topics(request=of_project)
    assert sorted(each.name for each in listed) == topics
    listed = pubsub.subscriber.list_subscriptions(request=of_project)
    assert sorted(each.name for each in listed) == sorted([*subscriptions, elsewhere])
    listed = pubsub.publisher.list_topic_subscriptions(request={"topic": topics[0], "page_size": 2})
    assert sorted(listed) == subscriptions


# Publishing


@pytest.mark.parametrize(
    "messages", [[], [{}], [{"data": b"x"}, {}], [{"data": b"x"}] * 1001], ids=len
)
def test_a_request_without_messages_or_with_an_empty_one_is_refused(
    pubsub: PubSub, messages: list[dict[str, Any]]
) -> None:
    """Also one with more than a thousand. Nothing of it is published."""
    topic = pubsub.topic()
    subscription = pubsub.subscribe(topic)
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.publisher.publish(topic=topic, messages=messages)
    assert pubsub.pull(subscription) == []


@pytest.mark.parametrize(
    "messages",
    [
        [{"data": b"x" * 10_000_001}],
        [{"data": b"x" * 5_000_000}] * 2,
        [{"attributes": {str(number): "" for number in range(101)}}],
        [{"attributes": {"k" * 257: ""}}],
        [{"attributes": {"é" * 129: ""}}],
        [{"attributes": {"k": "v" * 1025}}],
        [{"attributes": {"": "v"}}],
        [{"attributes": {"googclient_x": "v"}}],
        [{"data": b"1", "ordering_key": "k" * 1025}],
        [{"data": b"1", "ordering_key": "a"}, {"data": b"1", "ordering_key": "b"}],
    ],
    ids=[
        "message",
        "request",
        "attributes",
        "key",
        "key in bytes",
        "value",
        "empty key",
        "goog",
        "ordering key",
        "two ordering keys",
    ],
)
def test_a_message_over_a_limit_is_refused(pubsub: PubSub, messages: list[dict[str, Any]]) -> None:
    """The error is ``INVALID_ARGUMENT``, as that of Pub/Sub."""
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.publisher.publish(topic=pubsub.topic(), messages=messages)


def test_a_message_at_the_limits_arrives_as_it_was_sent(pubsub: PubSub) -> None:
    """Data, attributes and ordering key, together nearly ten million bytes."""
    topic = pubsub.topic()
    subscription = pubsub.subscribe(topic)
    attributes = {f"{number:0256}": "v" * 1024 for number in range(100)}
    data = b"x" * 9_800_000
    [message_id] = pubsub.publisher.publish(
        topic=topic, messages=[{"data": data, "attributes": attributes, "ordering_key": "k" * 1024}]
    ).message_ids
    [received] = pubsub.pull_until(subscription)
    message = received.message
    assert (message.message_id, message.ordering_key) == (message_id, "k" * 1024)
    assert message.data == data
    assert message.attributes == attributes


def test_only_what_is_published_afterwards_comes_to_a_subscription(pubsub: PubSub) -> None:
    """A message to a topic without subscriptions is lost. Each subscription gets its own copy."""
    topic = pubsub.topic()
    pubsub.publish(topic, "before")
    subscriptions = [pubsub.subscribe(topic) for _ in range(2)]
    pubsub.publish(topic, "after")
    for subscription in subscriptions:
        assert texts(pubsub.pull_until(subscription)) == ["after"]


def test_a_topic_or_subscription_that_does_not_exist_is_not_found(pubsub: PubSub) -> None:
    """Whatever the call is."""
    topic, subscription = pubsub.topic_name(), pubsub.subscription_name()
    calls: list[Callable[[], object]] = [
        lambda: pubsub.publish(topic, "x"),
        lambda: pubsub.subscribe(topic),
        lambda: pubsub.pull(subscription),
        lambda: pubsub.subscriber.get_subscription(subscription=subscription),
        lambda: pubsub.subscriber.delete_subscription(subscription=subscription),
        lambda: pubsub.subscriber.modify_push_config(subscription=subscription, push_config={}),
        lambda: pubsub.subscriber.update_subscription(
            subscription={"name": subscription}, update_mask={"paths": ["push_config"]}
        ),
    ]
    for call in calls:
        with pytest.raises(exceptions.NotFound):
            call()


def test_the_subscriptions_of_a_topic_that_does_not_exist_are_not_found(pubsub: PubSub) -> None:
    """An empty list would mean that it has none."""
    with pytest.raises(exceptions.NotFound):
        list(pubsub.publisher.list_topic_subscriptions(topic=pubsub.topic_name()))


# The settings of subscriptions


def test_a_new_subscription_has_the_defaults_of_pubsub(pubsub: PubSub) -> None:
    """A policy that is there but empty has defaults of its own."""
    topic, dead = pubsub.topic(), pubsub.topic()
    plain = pubsub.subscriber.get_subscription(subscription=pubsub.subscribe(topic))
    assert plain.topic == topic
    assert plain.ack_deadline_seconds == 10
    assert plain.message_retention_duration == timedelta(days=7)
    assert not plain.push_config.push_endpoint
    assert not plain.retry_policy
    assert not plain.dead_letter_policy
    policies = {"retry_policy": {}, "dead_letter_policy": {"dead_letter_topic": dead}}
    name = pubsub.subscribe(topic, **policies)
    filled = pubsub.subscriber.get_subscription(subscription=name)
    assert filled.retry_policy.minimum_backoff == timedelta(seconds=10)
    assert filled.retry_policy.maximum_backoff == timedelta(seconds=600)
    assert filled.dead_letter_policy.max_delivery_attempts == 5


def test_a_subscription_without_an_expiration_policy_expires_after_31_days(
    pubsub: PubSub,
) -> None:
    """An empty policy is another thing: never."""
    topic = pubsub.topic()
    plain = pubsub.subscriber.get_subscription(subscription=pubsub.subscribe(topic))
    assert plain.expiration_policy.ttl == timedelta(days=31)
    never = pubsub.subscribe(topic, expiration_policy={})
    policy = pubsub.subscriber.get_subscription(subscription=never).expiration_policy
    assert "ttl" not in policy


@pytest.mark.parametrize(
    "settings",
    [
        {"ack_deadline_seconds": 601},
        {"ack_deadline_seconds": -1},
        {"message_retention_duration": timedelta(minutes=9)},
        {"message_retention_duration": timedelta(days=32)},
        {"retry_policy": {"maximum_backoff": timedelta(seconds=601)}},
        {"retry_policy": {"minimum_backoff": timedelta(seconds=-1)}},
        {
            "retry_policy": {
                "minimum_backoff": timedelta(seconds=20),
                "maximum_backoff": timedelta(seconds=10),
            }
        },
        {"push_config": {"push_endpoint": "nonsense"}},
        {"push_config": {"push_endpoint": "ftp://a.example"}},
        {"topic": ""},
    ],
    ids=str,
)
def test_a_subscription_with_a_wrong_setting_is_refused(
    pubsub: PubSub, settings: dict[str, Any]
) -> None:
    """The error is ``INVALID_ARGUMENT``, as that of Pub/Sub."""
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscribe(**{"topic": pubsub.topic(), **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"ack_deadline_seconds": 9},
        {"expiration_policy": {"ttl": timedelta(hours=23)}},
        {"push_config": {"push_endpoint": "https://a.example", "oidc_token": {"audience": "x"}}},
    ],
    ids=str,
)
def test_a_subscription_with_an_odd_setting_is_refused(
    pubsub: PubSub, settings: dict[str, Any]
) -> None:
    """The error is ``INVALID_ARGUMENT``, too."""
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscribe(pubsub.topic(), **settings)


@pytest.mark.parametrize("attempts", [4, 101, -1])
def test_dead_letters_need_5_to_100_attempts(pubsub: PubSub, attempts: int) -> None:
    """The error is ``OUT_OF_RANGE``."""
    topic = pubsub.topic()
    policy = {"dead_letter_topic": topic, "max_delivery_attempts": attempts}
    with pytest.raises(exceptions.OutOfRange):
        pubsub.subscribe(topic, dead_letter_policy=policy)


def test_dead_letters_need_a_topic_that_exists(pubsub: PubSub) -> None:
    """At the creation and at an update."""
    topic = pubsub.topic()
    policy = {"dead_letter_topic": pubsub.topic_name()}
    with pytest.raises(exceptions.NotFound):
        pubsub.subscribe(topic, dead_letter_policy=policy)
    subscription = {"name": pubsub.subscribe(topic), "dead_letter_policy": policy}
    with pytest.raises(exceptions.NotFound):
        pubsub.subscriber.update_subscription(
            subscription=subscription, update_mask={"paths": ["dead_letter_policy"]}
        )


def test_a_subscription_cannot_be_created_twice(pubsub: PubSub) -> None:
    """Not for another topic either."""
    name = pubsub.subscribe(pubsub.topic())
    with pytest.raises(exceptions.AlreadyExists):
        pubsub.subscriber.create_subscription(name=name, topic=pubsub.topic())


def test_an_update_changes_what_its_mask_names(pubsub: PubSub) -> None:
    """And nothing else."""
    name = pubsub.subscribe(pubsub.topic(), ack_deadline_seconds=60)
    updated = pubsub.subscriber.update_subscription(
        subscription={
            "name": name,
            "ack_deadline_seconds": 30,
            "message_retention_duration": timedelta(hours=1),
        },
        update_mask={"paths": ["message_retention_duration"]},
    )
    found = pubsub.subscriber.get_subscription(subscription=name)
    assert updated == found
    assert found.ack_deadline_seconds == 60
    assert found.message_retention_duration == timedelta(hours=1)


@pytest.mark.parametrize("paths", [[], ["nonsense"], ["topic"], ["enable_message_ordering"]])
def test_an_update_of_what_cannot_change_is_refused(pubsub: PubSub, paths: list[str]) -> None:
    """Also without a mask."""
    name = pubsub.subscribe(pubsub.topic())
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscriber.update_subscription(
            subscription={"name": name, "enable_message_ordering": True},
            update_mask={"paths": paths},
        )


def test_what_is_not_here_is_refused_in_words(pubsub: PubSub) -> None:
    """It would otherwise be ignored, and the difference show in production only."""
    topic = pubsub.topic()
    subscription = pubsub.subscribe(topic)
    pushes = {"push_endpoint": "https://a.example", "no_wrapper": {"write_metadata": True}}
    calls: list[tuple[str, Callable[[], object]]] = [
        ("filter", lambda: pubsub.subscribe(topic, filter="attributes:x")),
        ("exactly_once", lambda: pubsub.subscribe(topic, enable_exactly_once_delivery=True)),
        ("no_wrapper", lambda: pubsub.subscribe(topic, push_config=pushes)),
        ("bigquery", lambda: pubsub.subscribe(topic, bigquery_config={"table": "p.d.t"})),
        (
            "kms_key_name",
            lambda: pubsub.publisher.create_topic(
                request={"name": pubsub.topic_name(), "kms_key_name": "k"}
            ),
        ),
        ("Seek", lambda: pubsub.subscriber.seek(request={"subscription": subscription})),
        (
            "Snapshots",
            lambda: pubsub.subscriber.create_snapshot(
                name=f"{pubsub.project}/snapshots/s-1", subscription=subscription
            ),
        ),
        (
            "DetachSubscription",
            lambda: pubsub.publisher.detach_subscription(request={"subscription": subscription}),
        ),
    ]
    for named, call in calls:
        with pytest.raises(exceptions.MethodNotImplemented, match=named):
            call()


# Pulling


def test_an_acknowledged_message_does_not_come_again(pubsub: PubSub) -> None:
    """Acknowledging it twice is no error."""
    topic = pubsub.topic()
    subscription = pubsub.subscribe(topic)
    pubsub.publish(topic, "a", "b")
    received = pubsub.pull_until(subscription, 2)
    assert sorted(texts(received)) == ["a", "b"]
    pubsub.give(subscription, received, seconds=1)
    pubsub.acknowledge(subscription, received[:1])
    pubsub.acknowledge(subscription, received[:1])
    assert texts(pubsub.pull_until(subscription)) == texts(received[1:])


def test_a_message_comes_again_when_its_deadline_has_passed(pubsub: PubSub) -> None:
    """With the same id, and not before."""
    topic = pubsub.topic()
    subscription = pubsub.subscribe(topic)
    [message_id] = pubsub.publish(topic, "a")
    received = pubsub.pull_until(subscription)
    assert pubsub.pull(subscription) == []
    pubsub.give(subscription, received, seconds=1)
    [again] = pubsub.pull_until(subscription)
    assert again.message.message_id == message_id


def test_a_nacked_message_comes_again_at_once(pubsub: PubSub) -> None:
    """A deadline of 0 seconds is a nack."""
    topic = pubsub.topic()
    subscription = pubsub.subscribe(topic, ack_deadline_seconds=600)
    pubsub.publish(topic, "a")
    for _ in range(3):
        received = pubsub.pull_until(subscription)
        assert texts(received) == ["a"]
        pubsub.nack(subscription, received)


def test_a_pull_waits_for_a_message(pubsub: PubSub) -> None:
    """It answers when the first one comes."""
    topic = pubsub.topic()
    subscription = pubsub.subscribe(topic)
    with ThreadPoolExecutor() as pool:
        pulling = pool.submit(
            pubsub.subscriber.pull, subscription=subscription, max_messages=5, timeout=20
        )
        pubsub.publish(topic, "a")
        assert texts(pulling.result().received_messages) == ["a"]


def test_a_pull_returns_at_most_so_many_messages(pubsub: PubSub) -> None:
    """The others come with the next one."""
    topic = pubsub.topic()
    subscription = pubsub.subscribe(topic)
    pubsub.publish(topic, *"abcde")
    pulled: list[Any] = []
    while len(pulled) < 5:
        page = pubsub.pull(subscription, most=2)
        assert len(page) <= 2
        pulled += page
    assert sorted(texts(pulled)) == list("abcde")


def test_a_pull_of_no_messages_is_refused(pubsub: PubSub) -> None:
    """``max_messages`` must be positive."""
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.pull(pubsub.subscribe(pubsub.topic()), most=0)


def test_malformed_acknowledgements_are_refused(pubsub: PubSub) -> None:
    """There are none, they are nonsense, or the time is negative."""
    subscription = pubsub.subscribe(pubsub.topic())
    for ack_ids in ([], ["nonsense"]):
        with pytest.raises(exceptions.InvalidArgument):
            pubsub.subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids)
        with pytest.raises(exceptions.InvalidArgument):
            pubsub.subscriber.modify_ack_deadline(
                subscription=subscription, ack_ids=ack_ids, ack_deadline_seconds=10
            )
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscriber.modify_ack_deadline(
            subscription=subscription, ack_ids=["x"], ack_deadline_seconds=-1
        )


def test_the_delivery_attempt_is_told_if_there_are_dead_letters(pubsub: PubSub) -> None:
    """Without them it is 0."""
    topic, dead = pubsub.topic(), pubsub.topic()
    counting = pubsub.subscribe(topic, dead_letter_policy={"dead_letter_topic": dead})
    plain = pubsub.subscribe(topic)
    pubsub.publish(topic, "a")
    for subscription, expected in ((counting, [1, 2, 3]), (plain, [0, 0, 0])):
        told = []
        for _ in expected:
            received = pubsub.pull_until(subscription)
            told.append(received[0].delivery_attempt)
            pubsub.nack(subscription, received)
        assert told == expected


def test_the_streaming_subscriber_of_the_library_gets_every_message(pubsub: PubSub) -> None:
    """It keeps a stream open, on which it acknowledges too; one that fails comes again."""
    topic = pubsub.topic()
    subscription = pubsub.subscribe(topic)
    came: list[str] = []

    def callback(message: Any) -> None:
        text = message.data.decode()
        first = text not in came
        came.append(text)
        message.nack() if first and text == "again" else message.ack()

    client = StreamingSubscriberClient(transport=pubsub.transport)
    streaming = client.subscribe(subscription, callback=callback)
    try:
        sent = ["again", *(str(number) for number in range(20))]
        for text in sent:
            pubsub.publish(topic, text)
        eventually(lambda: set(came) == set(sent) and came.count("again") == 2)
    finally:
        streaming.cancel()
        streaming.result()
    assert len(came) == len(sent) + 1


def test_a_stream_has_at_most_so_many_messages_outstanding(pubsub: PubSub) -> None:
    """An acknowledgement on the stream makes room for the next one."""
    topic = pubsub.topic()
    subscription = pubsub.subscribe(topic)
    pubsub.publish(topic, *"abcde")
    requests: queue.SimpleQueue[StreamingPullRequest | None] = queue.SimpleQueue()
    first = {"stream_ack_deadline_seconds": 60, "max_outstanding_messages": 1}
    requests.put(StreamingPullRequest(subscription=subscription, **first))
    stream = pubsub.transport.streaming_pull(iter(requests.get, None))
    came: list[str] = []
    for response in stream:
        [received] = response.received_messages
        came.append(received.message.data.decode())
        requests.put(StreamingPullRequest(ack_ids=[received.ack_id]))
        if len(came) == 5:
            break
    requests.put(None)
    stream.cancel()
    assert sorted(came) == list("abcde")


@pytest.mark.parametrize(
    "request_fields",
    [
        {"stream_ack_deadline_seconds": 9},
        {"stream_ack_deadline_seconds": 10, "ack_ids": ["nonsense"]},
        {"stream_ack_deadline_seconds": 10, "modify_deadline_seconds": [10]},
    ],
    ids=str,
)
def test_a_stream_with_a_malformed_request_is_ended(
    local_pubsub: LocalPubSub, request_fields: dict[str, Any]
) -> None:
    """The error is ``INVALID_ARGUMENT``."""
    subscription = local_pubsub.subscribe(local_pubsub.topic())
    request = StreamingPullRequest(subscription=subscription, **request_fields)
    with pytest.raises(grpc.RpcError) as refused:
        list(local_pubsub.transport.streaming_pull(iter([request])))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_stream_ends_when_its_subscription_is_deleted(local_pubsub: LocalPubSub) -> None:
    """It is not found then."""
    subscription = local_pubsub.subscribe(local_pubsub.topic())
    requests: queue.SimpleQueue[StreamingPullRequest | None] = queue.SimpleQueue()
    requests.put(StreamingPullRequest(subscription=subscription, stream_ack_deadline_seconds=10))
    stream = local_pubsub.transport.streaming_pull(iter(requests.get, None))
    local_pubsub.subscriber.delete_subscription(subscription=subscription)
    with pytest.raises(grpc.RpcError) as ended:
        list(stream)
    requests.put(None)
    assert ended.value.code() == grpc.StatusCode.NOT_FOUND


def test_the_acknowledgement_of_another_subscription_changes_nothing(pubsub: PubSub) -> None:
    """Each subscription has its own copy of a message."""
    topic = pubsub.topic()
    one, other = pubsub.subscribe(topic), pubsub.subscribe(topic)
    pubsub.publish(topic, "a")
    received = pubsub.pull_until(one)
    pubsub.give(other, pubsub.pull_until(other), seconds=1)
    with contextlib.suppress(exceptions.InvalidArgument):  # Google's emulator refuses it
        pubsub.acknowledge(other, received)
    assert texts(pubsub.pull_until(other)) == ["a"]


# Deleting


def test_a_subscription_outlives_its_topic(pubsub: PubSub) -> None:
    """It keeps its messages, and gets nothing of a new topic with the same name."""
    topic = pubsub.topic()
    subscription = pubsub.subscribe(topic)
    pubsub.publish(topic, "before")
    pubsub.publisher.delete_topic(topic=topic)
    found = pubsub.subscriber.get_subscription(subscription=subscription)
    assert found.topic == "_deleted-topic_"
    pubsub.publisher.create_topic(name=topic)
    pubsub.publish(topic, "after")
    received = pubsub.pull_until(subscription)
    pubsub.acknowledge(subscription, received)
    assert texts(received) == ["before"]
    assert pubsub.pull(subscription) == []


def test_a_deleted_subscription_pushes_no_more(pubsub: PubSub, target: Target, path: str) -> None:
    """What fails after its deletion does not come again."""
    topic, later = pubsub.topic(), f"{path}/later"
    subscription = pubsub.push(topic, target.url(path))
    target.answer(path, 500)
    release = target.hold(path)
    pubsub.publish(topic, "a")
    target.wait_for(path)
    pubsub.subscriber.delete_subscription(subscription=subscription)
    release.set()
    pubsub.push(topic, target.url(later))
    target.answer(later, 500, 200)
    pubsub.publish(topic, "b")
    eventually(lambda: len(target.received(later)) == 2)
    assert len(target.received(path)) == 1


# Pushing


def test_a_push_has_the_message_in_json(pubsub: PubSub, target: Target, path: str) -> None:
    """The data is in base64, and id and time are there in both spellings."""
    topic = pubsub.topic()
    subscription = pubsub.push(topic, target.url(path))
    [message_id] = pubsub.publish(topic, "Hello", attributes={"key": "value"})
    request = target.wait_for(path)
    assert (request.method, request.headers["Content-Type"]) == ("POST", "application/json")
    message = pushed(request)["message"]
    assert pushed(request)["subscription"] == subscription
    assert (message["data"], message["attributes"]) == ("SGVsbG8=", {"key": "value"})
    assert message["messageId"] == message["message_id"] == message_id
    assert message["publishTime"] == message["publish_time"]


def test_a_push_has_the_whole_body(pubsub: PubSub, target: Target, path: str) -> None:
    """The ordering key and, with dead letters, the number of the attempt."""
    topic = pubsub.topic()
    policy = {"dead_letter_topic": pubsub.topic()}
    pubsub.push(topic, target.url(path), dead_letter_policy=policy)
    target.answer(path, 500, 500, 200)
    pubsub.publish(topic, "a", ordering_key="k")
    eventually(lambda: len(target.received(path)) == 3)
    bodies = [pushed(request) for request in target.received(path)]
    assert [body["deliveryAttempt"] for body in bodies] == [1, 2, 3]
    assert {body["message"]["orderingKey"] for body in bodies} == {"k"}
    assert {body["message"]["messageId"] for body in bodies} == {bodies[0]["message"]["messageId"]}
    assert target.received(path)[0].headers["User-Agent"] == "CloudPubSub-Google"


def test_an_answer_of_success_acknowledges(pubsub: PubSub, target: Target, path: str) -> None:
    """The message does not come again, while one that failed does."""
    check_pushes(pubsub, target, path, {200: 1, 201: 1, 204: 1, 500: 2})


def test_an_answer_of_202_acknowledges(pubsub: PubSub, target: Target, path: str) -> None:
    """It is the fourth code of success."""
    check_pushes(pubsub, target, path, {202: 1, 500: 2})


def test_an_answer_of_failure_makes_the_message_come_again(
    pubsub: PubSub, target: Target, path: str
) -> None:
    """It has the same id."""
    check_pushes(pubsub, target, path, dict.fromkeys((400, 404, 429, 500, 503), 2))


def test_an_answer_that_is_neither_makes_the_message_come_again(
    pubsub: PubSub, target: Target, path: str
) -> None:
    """A redirection, which is not followed, and the other codes of HTTP's success."""
    check_pushes(pubsub, target, path, dict.fromkeys((203, 206, 302), 2))
    assert target.received("/elsewhere") == []


def check_pushes(pubsub: PubSub, target: Target, path: str, expected: Mapping[int, int]) -> None:
    """Push a message to an endpoint for each status, which answers with it, and then with 200.

    Check how often each gets it.
    """
    topic, paths = pubsub.topic(), {status: f"{path}/{status}" for status in expected}
    subscriptions = [pubsub.push(topic, target.url(each)) for each in paths.values()]
    for status, each in paths.items():
        target.answer(each, status, 200)
    [message_id] = pubsub.publish(topic, "a")
    eventually(
        lambda: all(len(target.received(paths[each])) >= count for each, count in expected.items())
    )
    if isinstance(pubsub, LocalPubSub):
        eventually(lambda: not any(pubsub.waiting(each) for each in subscriptions))
    requests = {status: target.received(each) for status, each in paths.items()}
    assert {status: len(each) for status, each in requests.items()} == expected
    ids = {
        pushed(request)["message"]["messageId"] for each in requests.values() for request in each
    }
    assert ids == {message_id}


def test_a_message_waits_for_an_endpoint_that_is_down(pubsub: PubSub) -> None:
    """Nothing is lost while nobody listens there."""
    with running_target() as down:
        url, port = down.url("/jobs"), down.server_port
    topic = pubsub.topic()
    pubsub.push(topic, url)
    pubsub.publish(topic, "a", "b")
    with running_target(port) as up:
        eventually(
            lambda: sorted({pushed_text(each) for each in up.received("/jobs")}) == ["a", "b"]
        )


def test_a_slow_endpoint_gets_a_message_once(pubsub: PubSub, target: Target, path: str) -> None:
    """Before its deadline nothing sends the message a second time, and the others do not wait."""
    topic = pubsub.topic()
    pubsub.push(topic, target.url(path), ack_deadline_seconds=600)
    release = target.hold(path)
    pubsub.publish(topic, "a")
    target.wait_for(path)
    pubsub.publish(topic, "b")
    eventually(lambda: len(target.received(path)) == 2)
    release.set()
    eventually(lambda: target.open(path) == 0)
    assert sorted(pushed_text(each) for each in target.received(path)) == ["a", "b"]


def test_a_push_that_takes_longer_than_the_deadline_is_sent_again(
    local_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """The deadline is the timeout of the request, whose late answer counts for nothing."""
    topic = local_pubsub.topic()
    subscription = local_pubsub.push(topic, target.url(path))
    local_pubsub.set_ack_deadline(subscription, 1)
    release = target.hold(path)
    local_pubsub.publish(topic, "a")
    eventually(lambda: len(target.received(path)) == 2)
    release.set()
    eventually(lambda: local_pubsub.waiting(subscription) == 0)


def test_messages_that_wait_are_pushed_when_an_endpoint_is_set(
    pubsub: PubSub, target: Target, path: str
) -> None:
    """And without an endpoint they can be pulled again."""
    topic = pubsub.topic()
    subscription = pubsub.subscribe(topic)
    pubsub.publish(topic, "pushed")
    endpoint = {"push_endpoint": target.url(path)}
    pubsub.subscriber.modify_push_config(subscription=subscription, push_config=endpoint)
    assert pushed_text(target.wait_for(path)) == "pushed"
    pubsub.subscriber.modify_push_config(subscription=subscription, push_config={})
    pubsub.publish(topic, "pulled")
    assert texts(pubsub.pull_until(subscription)) == ["pulled"]
    assert len(target.received(path)) == 1


def test_every_message_is_pushed(pubsub: PubSub, target: Target, path: str) -> None:
    """None is lost among many."""
    topic = pubsub.topic()
    pubsub.push(topic, target.url(path))
    sent = {str(number) for number in range(200)}
    pubsub.publish(topic, *sent)
    eventually(lambda: {pushed_text(each) for each in target.received(path)} == sent, 20)


def test_messages_of_an_ordering_key_are_pushed_in_order(
    pubsub: PubSub, target: Target, path: str
) -> None:
    """The next one is pushed when the one before is acknowledged."""
    topic = pubsub.topic()
    pubsub.push(topic, target.url(path), enable_message_ordering=True)
    target.answer(path, 500, 500, 200)
    sent = [str(number) for number in range(5)]
    pubsub.publish(topic, *sent, ordering_key="k")
    eventually(lambda: len(target.received(path)) == 7)
    assert [pushed_text(each) for each in target.received(path)] == ["0", "0", *sent]


def test_a_push_has_a_token_of_its_service_account(
    local_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """It is for the audience of the subscription."""
    topic = local_pubsub.topic()
    token = {"service_account_email": "push@p.iam.gserviceaccount.com", "audience": "the-worker"}
    config = {"push_endpoint": target.url(path), "oidc_token": token}
    local_pubsub.subscribe(topic, push_config=config)
    local_pubsub.publish(topic, "a")
    authorization = target.wait_for(path).headers["Authorization"]
    assert authorization == "Bearer push@p.iam.gserviceaccount.com for the-worker"


def test_a_token_of_a_subscription_without_an_audience_is_for_its_endpoint(
    local_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """As the reference of ``OidcToken`` says. Without an ``oidc_token`` there is no token."""
    topic, bare = local_pubsub.topic(), f"{path}-bare"
    token = {"service_account_email": "push@p.iam.gserviceaccount.com"}
    config = {"push_endpoint": target.url(path), "oidc_token": token}
    local_pubsub.subscribe(topic, push_config=config)
    local_pubsub.push(topic, target.url(bare))
    local_pubsub.publish(topic, "a")
    authorization = target.wait_for(path).headers["Authorization"]
    assert authorization == f"Bearer push@p.iam.gserviceaccount.com for {target.url(path)}"
    assert "Authorization" not in target.wait_for(bare).headers


def test_a_token_that_cannot_be_made_fails_the_push() -> None:
    """The message comes again: its endpoint never sees a push without a token."""
    tries: list[str] = []

    def mint(service_account_email: str, _: str) -> str:
        tries.append(service_account_email)
        if len(tries) < 3:
            raise OSError("no keys")
        return "token"

    pubsub = LocalPubSub(mint_token=mint)
    try:
        with running_target() as target:
            topic = pubsub.topic()
            config = {"push_endpoint": target.url("/x")}
            config["oidc_token"] = {"service_account_email": "a@b"}  # type: ignore[assignment]
            pubsub.subscribe(topic, push_config=config)
            pubsub.publish(topic, "a")
            assert target.wait_for("/x").headers["Authorization"] == "Bearer token"
            assert (len(tries), len(target.received("/x"))) == (3, 1)
    finally:
        pubsub.close()


# Dead letters


def test_a_message_that_always_fails_goes_to_the_dead_letters(
    pubsub: PubSub, target: Target, path: str
) -> None:
    """It is pushed so many times, and no more."""
    topic, dead = pubsub.topic(), pubsub.topic()
    policy = {"dead_letter_topic": dead, "max_delivery_attempts": 5}
    pubsub.push(topic, target.url(path), dead_letter_policy=policy)
    letters = pubsub.subscribe(dead)
    target.answer(path, 500)
    pubsub.publish(topic, "a")
    assert texts(pubsub.pull_until(letters)) == ["a"]
    assert len(target.received(path)) == 5


def test_a_message_that_is_nacked_too_often_goes_to_the_dead_letters(pubsub: PubSub) -> None:
    """Those who pull use up attempts, too. A dead letter carries where it comes from."""
    topic, dead = pubsub.topic(), pubsub.topic()
    subscription = pubsub.subscribe(topic, dead_letter_policy={"dead_letter_topic": dead})
    letters = pubsub.subscribe(dead)
    [message_id] = pubsub.publish(topic, "a", attributes={"mine": "1"})
    for _ in range(5):
        received = pubsub.pull_until(subscription)
        pubsub.nack(subscription, received)
    assert pubsub.pull(subscription) == []
    [letter] = pubsub.pull_until(letters)
    assert letter.message.data == b"a"
    assert letter.message.message_id != message_id
    [published] = received
    attributes = dict(letter.message.attributes)
    time = attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime")
    assert datetime.fromisoformat(time) == published.message.publish_time
    assert attributes == {
        "mine": "1",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": subscription.rpartition("/")[2],
        "CloudPubSubDeadLetterSourceSubscriptionProject": pubsub.project.rpartition("/")[2],
    }


def test_dead_letters_can_fail_into_dead_letters(
    local_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """Even into their own topic, as a new message each time."""
    topic = local_pubsub.topic()
    policy = {"dead_letter_topic": topic, "max_delivery_attempts": 5}
    subscription = local_pubsub.push(topic, target.url(path), dead_letter_policy=policy)
    target.answer(path, *[500] * 10, 200)
    local_pubsub.publish(topic, "a")
    eventually(lambda: local_pubsub.waiting(subscription) == 0)
    ids = [pushed(each)["message"]["messageId"] for each in target.received(path)]
    assert [ids.count(each) for each in dict.fromkeys(ids)] == [5, 5, 1]


def test_a_message_without_a_dead_letter_topic_is_kept(pubsub: PubSub) -> None:
    """The topic was deleted: the message comes until it is acknowledged."""
    topic, dead = pubsub.topic(), pubsub.topic()
    subscription = pubsub.subscribe(topic, dead_letter_policy={"dead_letter_topic": dead})
    pubsub.publisher.delete_topic(topic=dead)
    pubsub.publish(topic, "a")
    for _ in range(7):
        received = pubsub.pull(subscription)
        assert texts(received) == ["a"]
        pubsub.nack(subscription, received)
    pubsub.acknowledge(subscription, pubsub.pull(subscription))
    assert pubsub.pull(subscription) == []


# Push backoff: the local server only


def has_failed_for_hours(pubsub: LocalPubSub, subscription: str) -> None:
    """Make the next pause after a failed push as long as it can be, a minute."""

    def fail() -> None:
        for hours in range(12, 0, -1):
            pace = pubsub.server.subscription(subscription).pace
            pace.failed(datetime.now(UTC) - timedelta(hours=hours))

    pubsub.on_loop(fail)


def test_without_a_retry_policy_a_failing_endpoint_gets_no_storm_of_pushes(
    local_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """After a failure nothing of the subscription is pushed for some time."""
    topic, other = local_pubsub.topic(), f"{path}/other"
    failing = local_pubsub.subscribe(topic, push_config={"push_endpoint": target.url(path)})
    local_pubsub.push(topic, target.url(other))
    has_failed_for_hours(local_pubsub, failing)
    target.answer(path, 500)
    target.answer(other, 500, 500, 500, 200)
    local_pubsub.publish(topic, "a")
    target.wait_for(path)
    eventually(lambda: local_pubsub.server.subscription(failing).pace.running == 0)
    local_pubsub.publish(topic, "b")
    eventually(lambda: len(target.received(other)) == 5)
    assert [pushed_text(each) for each in target.received(path)] == ["a"]


def test_a_success_ends_the_slowness_of_a_subscription_that_has_failed(
    local_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """The next failure is the first one again, with the shortest pause."""
    topic = local_pubsub.topic()
    subscription = local_pubsub.subscribe(topic, push_config={"push_endpoint": target.url(path)})
    has_failed_for_hours(local_pubsub, subscription)
    target.answer(path, 200, 500, 200)
    local_pubsub.publish(topic, "a")
    eventually(lambda: local_pubsub.waiting(subscription) == 0)
    local_pubsub.publish(topic, "b")
    eventually(lambda: local_pubsub.waiting(subscription) == 0)
    assert [pushed_text(each) for each in target.received(path)] == ["a", "b", "b"]


# Faults, reset and pause: the local server only


def test_the_duplicate_fault_pushes_everything_twice(
    own_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """Both pushes are the same; the second answer counts for nothing."""
    own_pubsub.server.faults.duplicate = True
    topic = own_pubsub.topic()
    subscription = own_pubsub.push(topic, target.url(path))
    own_pubsub.publish(topic, "a")
    eventually(lambda: len(target.received(path)) == 2)
    eventually(lambda: own_pubsub.waiting(subscription) == 0)
    first, second = target.received(path)
    assert first.body == second.body


def test_a_push_with_the_outcome_twice_is_sent_twice(
    own_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """On purpose, as Pub/Sub may do at any time."""
    own_pubsub.server.faults.outcomes = DeliveryOutcomes(Unreliability(twice=1))
    topic = own_pubsub.topic()
    own_pubsub.push(topic, target.url(path))
    own_pubsub.publish(topic, "a")
    eventually(lambda: len(target.received(path)) == 2)


def test_a_lost_message_is_acknowledged_but_not_pushed(
    own_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """The publisher cannot see the loss."""
    own_pubsub.server.faults.outcomes = DeliveryOutcomes(Unreliability(lost=1))
    topic = own_pubsub.topic()
    subscription = own_pubsub.push(topic, target.url(path))
    own_pubsub.publish(topic, "a")
    eventually(lambda: own_pubsub.waiting(subscription) == 0)
    assert target.received(path) == []


def test_the_delay_fault_holds_messages_back_until_it_is_over(
    own_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """It applies to what waits already, and ends for it, too."""
    topic, other = own_pubsub.topic(), f"{path}-other"
    own_pubsub.server.faults.delay_seconds = 3600
    subscription = own_pubsub.push(topic, target.url(path))
    own_pubsub.publish(topic, "a")
    eventually(lambda: own_pubsub.waiting(subscription) == 1)
    assert target.received(path) == []
    own_pubsub.server.faults.delay_seconds = 0
    assert pushed_text(target.wait_for(path)) == "a"
    assert target.received(other) == []


def test_a_reset_forgets_messages_and_keeps_topics_and_subscriptions(
    own_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """Also a push under way, whose answer counts for nothing; what comes later is pushed."""
    topic = own_pubsub.topic()
    subscription = own_pubsub.push(topic, target.url(path))
    pulled = own_pubsub.subscribe(topic)
    release = target.hold(path)
    own_pubsub.publish(topic, "before")
    target.wait_for(path)
    own_pubsub.on_loop(own_pubsub.server.reset)
    eventually(lambda: own_pubsub.server.subscription(subscription).pace.running == 0)
    release.set()
    assert own_pubsub.waiting(subscription) == own_pubsub.waiting(pulled) == 0
    own_pubsub.publish(topic, "after")
    eventually(lambda: own_pubsub.waiting(subscription) == 0)
    assert [pushed_text(each) for each in target.received(path)] == ["before", "after"]
    assert texts(own_pubsub.pull_until(pulled)) == ["after"]


def test_a_paused_server_answers_nothing_and_goes_on_afterwards(
    own_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """Calls that wait are carried out then; a call whose caller has given up is not."""
    topic = own_pubsub.topic()
    own_pubsub.push(topic, target.url(path))
    own_pubsub.on_loop(own_pubsub.server.pause)
    with pytest.raises(exceptions.DeadlineExceeded):
        own_pubsub.publisher.publish(
            topic=topic, messages=[{"data": b"given up"}], timeout=0.3, retry=None
        )
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(own_pubsub.publish, topic, "waiting")
        assert not waiting.done()
        own_pubsub.on_loop(own_pubsub.server.resume)
        waiting.result(10)
    assert pushed_text(target.wait_for(path)) == "waiting"
    assert len(target.received(path)) == 1


def test_a_paused_server_pushes_nothing_and_takes_no_answer(
    own_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """A push whose answer came during the pause is acknowledged after it."""
    topic = own_pubsub.topic()
    subscription = own_pubsub.push(topic, target.url(path))
    release = target.hold(path)
    own_pubsub.publish(topic, "a")
    target.wait_for(path)
    own_pubsub.on_loop(own_pubsub.server.pause)
    release.set()
    eventually(lambda: target.open(path) == 0)
    assert own_pubsub.waiting(subscription) == 1
    own_pubsub.on_loop(own_pubsub.server.resume)
    eventually(lambda: own_pubsub.waiting(subscription) == 0)
    assert len(target.received(path)) == 1


def test_a_server_can_be_stopped_while_calls_pushes_and_streams_are_under_way(
    own_pubsub: LocalPubSub, target: Target, path: str
) -> None:
    """It does not wait for any of them."""
    topic = own_pubsub.topic()
    own_pubsub.push(topic, target.url(path))
    pulled = own_pubsub.subscribe(topic)
    target.hold(path)
    own_pubsub.publish(topic, "a")
    own_pubsub.acknowledge(pulled, own_pubsub.pull_until(pulled))
    target.wait_for(path)
    ends: list[object] = []

    def pull() -> None:
        try:
            own_pubsub.subscriber.pull(subscription=pulled, max_messages=1, retry=None)
        except exceptions.GoogleAPICallError as error:
            ends.append(error)

    pulling = threading.Thread(target=pull)
    pulling.start()
    own_pubsub.close()
    pulling.join(10)
    assert len(ends) == 1


def test_two_servers_do_not_share_a_port(own_pubsub: LocalPubSub) -> None:
    """The second one would get half of the calls."""

    async def start() -> None:
        await PubSubServer(port=own_pubsub.server.port).start()

    with pytest.raises(RuntimeError):
        asyncio.run(start())


def test_a_subscription_that_is_gone_is_not_found(local_pubsub: LocalPubSub) -> None:
    """As the server's own queues are, for tests."""
    with pytest.raises(NotFoundError):
        local_pubsub.waiting(local_pubsub.subscription_name())


@pytest.mark.parametrize("call", ["google.pubsub.v1.Publisher/ListTopics", "v1/projects/p/topics"])
def test_the_local_server_does_not_answer_a_browsers_request(
    local_pubsub: LocalPubSub, call: str
) -> None:
    """A page cannot send the preface of HTTP/2 without TLS. Google's has an API in JSON, too."""
    topic = local_pubsub.topic()
    host, _, port = local_pubsub.address.rpartition(":")
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(
                f"{method} /{call} HTTP/1.1\r\nHost: {local_pubsub.address}\r\n"
                "Content-Type: application/grpc\r\nContent-Length: 0\r\n\r\n".encode()
            )
            received = b""
            while piece := connection.recv(4096):
                received += piece
        assert b"HTTP/1" not in received
        assert topic.encode() not in received


# What the local cloud creates


def test_the_topology_is_the_deployments(pubsub: PubSub) -> None:
    """Topics, retries and dead letters are the catalogue's, and pushes have a token."""
    functions = read_catalogue().functions
    account = "provisioning-push@p.iam.gserviceaccount.com"
    asyncio.run(
        create_topology(
            pubsub.address,
            pubsub.project,
            functions,
            lambda function: pushed_with_token(f"http://127.0.0.1:1/{function.name}", account),
        )
    )
    triggered = {function.service: function for function in functions if function.topic}
    subscriptions = {
        each.name.rpartition("/")[2]: each
        for each in pubsub.subscriber.list_subscriptions(project=pubsub.project)
    }
    assert set(subscriptions) == set(triggered)
    for name, function in triggered.items():
        found, retry, dead = subscriptions[name], function.retry or {}, function.dead_letter
        url = f"http://127.0.0.1:1/{function.name}"
        assert found.topic == f"{pubsub.project}/topics/{function.topic}"
        assert found.ack_deadline_seconds == function.ack_deadline_seconds
        assert found.message_retention_duration == timedelta(days=7)
        assert "ttl" not in found.expiration_policy
        assert found.push_config.push_endpoint == found.push_config.oidc_token.audience == url
        assert found.push_config.oidc_token.service_account_email == account
        assert found.retry_policy.minimum_backoff.total_seconds() == retry["min_backoff_seconds"]
        assert found.retry_policy.maximum_backoff.total_seconds() == retry["max_backoff_seconds"]
        if dead:
            topic = f"{pubsub.project}/topics/{dead['topic']}"
            assert found.dead_letter_policy.dead_letter_topic == topic
            assert found.dead_letter_policy.max_delivery_attempts == dead["max_attempts"]
        else:
            assert not found.dead_letter_policy
