"""The gRPC side of Pub/Sub, with the client library's own messages and no generated stubs."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
from google import pubsub_v1

from localcloud.services.call_errors import CallError, UnimplementedError
from localcloud.services.grpc_server import Context, GrpcServer, Handler, serialized
from localcloud.services.pubsub.service import PubSubService
from localcloud.services.pubsub.subscription import Subscription

_PUBLISHER = "google.pubsub.v1.Publisher"
_SUBSCRIBER = "google.pubsub.v1.Subscriber"

# Above the limit for requests, so that a request above it is refused in words.
_LARGEST_RECEIVED_BYTES = 32 * 1024 * 1024


class PubSubServer(GrpcServer):
    """Serves Pub/Sub over plain gRPC, and pushes messages.

    Args:
        port: 0 picks a free one.
        mint_token: returns the OIDC token for (e-mail address of the service account, audience). A
            subscription with an ``oidc_token`` pushes with it as ``Authorization: Bearer …``. If it
            is None, such subscriptions push without a token.
    """

    def __init__(
        self, *, port: int = 0, mint_token: Callable[[str, str], str] | None = None
    ) -> None:
        self._service = PubSubService(mint_token=mint_token)
        received = ("grpc.max_receive_message_length", _LARGEST_RECEIVED_BYTES)
        super().__init__(port, self._service.deliverer, (received,))

    def reset(self) -> None:
        """Forget all messages and pushes; topics, subscriptions and faults stay."""
        self._service.reset()

    def pause(self) -> None:
        """Be like a stopped process: accept connections, answer nothing and push nothing.

        Calls wait, and go on after ``resume`` unless their callers have given up by then.
        """
        self._service.deliverer.pause()

    def resume(self) -> None:
        """Go on where ``pause`` stopped; acknowledgement deadlines have passed meanwhile."""
        self._service.deliverer.resume()

    def subscription(self, name: str) -> Subscription:
        """Return a subscription by its full name.

        Raises:
            NotFoundError: it does not exist.
        """
        return self._service.subscription(name)

    def _services(self) -> Mapping[str, Mapping[str, Handler]]:
        return {_PUBLISHER: self._publisher_handlers(), _SUBSCRIBER: self._subscriber_handlers()}

    async def _until_answering(self) -> None:
        await self._service.deliverer.until_resumed()

    def _publisher_handlers(self) -> dict[str, Handler]:
        service = self._service
        return self._handlers(
            {
                "CreateTopic": (pubsub_v1.Topic, service.create_topic),
                "UpdateTopic": (pubsub_v1.UpdateTopicRequest, service.update_topic),
                "Publish": (pubsub_v1.PublishRequest, service.publish),
                "GetTopic": (pubsub_v1.GetTopicRequest, service.get_topic),
                "ListTopics": (pubsub_v1.ListTopicsRequest, service.list_topics),
                "ListTopicSubscriptions": (
                    pubsub_v1.ListTopicSubscriptionsRequest,
                    service.list_topic_subscriptions,
                ),
                "DeleteTopic": (pubsub_v1.DeleteTopicRequest, service.delete_topic),
                "ListTopicSnapshots": (pubsub_v1.ListTopicSnapshotsRequest, _no_snapshots),
                "DetachSubscription": (pubsub_v1.DetachSubscriptionRequest, _no_detaching),
            }
        )

    def _subscriber_handlers(self) -> dict[str, Handler]:
        service = self._service
        handlers = self._handlers(
            {
                "CreateSubscription": (pubsub_v1.Subscription, service.create_subscription),
                "GetSubscription": (pubsub_v1.GetSubscriptionRequest, service.get_subscription),
                "UpdateSubscription": (
                    pubsub_v1.UpdateSubscriptionRequest,
                    service.update_subscription,
                ),
                "ListSubscriptions": (
                    pubsub_v1.ListSubscriptionsRequest,
                    service.list_subscriptions,
                ),
                "DeleteSubscription": (
                    pubsub_v1.DeleteSubscriptionRequest,
                    service.delete_subscription,
                ),
                "ModifyAckDeadline": (
                    pubsub_v1.ModifyAckDeadlineRequest,
                    service.modify_ack_deadline,
                ),
                "Acknowledge": (pubsub_v1.AcknowledgeRequest, service.acknowledge),
                "Pull": (pubsub_v1.PullRequest, service.puller.pull),
                "ModifyPushConfig": (
                    pubsub_v1.ModifyPushConfigRequest,
                    service.modify_push_config,
                ),
                "GetSnapshot": (pubsub_v1.GetSnapshotRequest, _no_snapshots),
                "ListSnapshots": (pubsub_v1.ListSnapshotsRequest, _no_snapshots),
                "CreateSnapshot": (pubsub_v1.CreateSnapshotRequest, _no_snapshots),
                "UpdateSnapshot": (pubsub_v1.UpdateSnapshotRequest, _no_snapshots),
                "DeleteSnapshot": (pubsub_v1.DeleteSnapshotRequest, _no_snapshots),
                "Seek": (pubsub_v1.SeekRequest, _no_seeking),
            }
        )
        handlers["StreamingPull"] = grpc.stream_stream_rpc_method_handler(
            self._streaming,
            request_deserializer=pubsub_v1.StreamingPullRequest.pb().FromString,
            response_serializer=serialized,
        )
        return handlers

    async def _streaming(
        self, requests: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        try:
            async for response in self._service.puller.streaming_pull(requests):
                await self._service.deliverer.until_resumed()
                yield response
        except CallError as error:
            await context.abort(grpc.StatusCode[error.code], str(error))


def _no_snapshots(_: Any) -> Any:
    raise UnimplementedError("Snapshots are not supported here.")


def _no_seeking(_: Any) -> Any:
    raise UnimplementedError("Seek is not supported here.")


def _no_detaching(_: Any) -> Any:
    raise UnimplementedError("DetachSubscription is not supported here: delete the subscription.")
