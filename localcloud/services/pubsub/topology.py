"""Creates the topics and push subscriptions that the deployment creates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import grpc.aio
from google import pubsub_v1
from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

from localcloud.catalogue import Function
from localcloud.services.server import WITHOUT_PROXY

# As in terraform/workspace-hub/queues.tf.
_TOPIC_RETENTION = timedelta(days=1)
_SUBSCRIPTION_RETENTION = timedelta(days=7)


async def create_topology(
    server: str,
    project: str,
    functions: tuple[Function, ...],
    push_config: Callable[[Function], pubsub_v1.PushConfig],
) -> None:
    """Create the topics and push subscriptions of the functions that Pub/Sub triggers.

    Args:
        server: ``host:port`` of Pub/Sub.
        project: ``projects/…``.
        functions: the catalogue's entries.
        push_config: returns where and how a function's messages are pushed.
    """
    triggered = [function for function in functions if function.topic]
    topics = {function.topic for function in triggered}
    topics |= {function.dead_letter["topic"] for function in triggered if function.dead_letter}
    async with grpc.aio.insecure_channel(server, options=WITHOUT_PROXY) as channel:
        publisher = pubsub_v1.PublisherAsyncClient(
            transport=PublisherGrpcAsyncIOTransport(channel=channel)
        )
        subscriber = pubsub_v1.SubscriberAsyncClient(
            transport=SubscriberGrpcAsyncIOTransport(channel=channel)
        )
        for topic in sorted(filter(None, topics)):
            await publisher.create_topic(topic_of(project, topic))
        for function in triggered:
            await subscriber.create_subscription(
                subscription_of(function, project, push_config(function))
            )


def pushed_with_token(url: str, service_account: str) -> pubsub_v1.PushConfig:
    """Return how the deployment pushes a function's messages: to its URL, with a token for it.

    Args:
        url: the function's URL.
        service_account: the e-mail address of the account that may call the function.
    """
    return pubsub_v1.PushConfig(
        push_endpoint=url,
        oidc_token=pubsub_v1.PushConfig.OidcToken(
            audience=url, service_account_email=service_account
        ),
    )


def topic_of(project: str, topic: str | None) -> pubsub_v1.Topic:
    """Return a topic of the catalogue as the deployment creates it."""
    return pubsub_v1.Topic(
        name=f"{project}/topics/{topic}", message_retention_duration=_duration(_TOPIC_RETENTION)
    )


def subscription_of(
    function: Function, project: str, push_config: pubsub_v1.PushConfig
) -> pubsub_v1.Subscription:
    """Return a function's subscription as the deployment creates it."""
    subscription = pubsub_v1.Subscription(
        name=f"{project}/subscriptions/{function.service}",
        topic=f"{project}/topics/{function.topic}",
        ack_deadline_seconds=function.ack_deadline_seconds or 0,
        message_retention_duration=_duration(_SUBSCRIPTION_RETENTION),
        expiration_policy=pubsub_v1.ExpirationPolicy(),  # never
        push_config=push_config,
    )
    if function.retry:
        subscription.retry_policy = pubsub_v1.RetryPolicy(
            minimum_backoff=Duration(seconds=function.retry["min_backoff_seconds"]),
            maximum_backoff=Duration(seconds=function.retry["max_backoff_seconds"]),
        )
    if function.dead_letter:
        subscription.dead_letter_policy = pubsub_v1.DeadLetterPolicy(
            dead_letter_topic=f"{project}/topics/{function.dead_letter['topic']}",
            max_delivery_attempts=function.dead_letter["max_attempts"],
        )
    return subscription


def _duration(duration: timedelta) -> Duration:
    return Duration(seconds=int(duration.total_seconds()))
