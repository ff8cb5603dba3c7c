"""The gRPC edge: `CloudTasksServer` on a port, with the client library's own messages and no generated stubs."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
from google.cloud import tasks_v2

from localcloud.services.cloud_tasks.dispatch import DeliveryFaults
from localcloud.services.cloud_tasks.errors import CloudTasksError
from localcloud.services.cloud_tasks.service import CloudTasksService, QueueStatus, TaskStatus

_SERVICE = "google.cloud.tasks.v2.CloudTasks"


class CloudTasksServer:
    """Serves Cloud Tasks over plain gRPC, and sends the tasks.

    All of it lives on the event loop on which `start` ran; only `delivery` may be touched from
    other threads.

    Args:
        host: the address to bind.
        port: the port to bind, 0 for a free one.
        mint_token: returns the OIDC token for (service account's email, audience), which goes out
            as `Authorization: Bearer …` with tasks that have an `oidc_token`; without it they go
            out without one.
        name_retention: how long a used name stays taken.

    Attributes:
        host, port: where it listens; the port is the real one once `start` has returned.
        delivery: the faults of delivery that are switched on.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        mint_token: Callable[[str, str], str] | None = None,
        name_retention: timedelta = timedelta(hours=1),
    ) -> None:
        self.host = host
        self.port = port
        self._service = CloudTasksService(mint_token=mint_token, name_retention=name_retention)
        self._grpc: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        """Where clients connect: `host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def delivery(self) -> DeliveryFaults:
        """What the platform does to messages, to be set by tests."""
        return self._service.dispatcher.delivery

    async def start(self) -> None:
        """Listen and begin to send.

        Raises:
            RuntimeError: the port cannot be bound.
        """
        # Without the option a second server would share the port and take half of the calls.
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, _handlers(self._service)),)
        )
        self.port = server.add_insecure_port(self.address)
        await self._service.dispatcher.start()
        await server.start()
        self._grpc = server

    async def stop(self) -> None:
        """Stop at once: calls and dispatches under way are cancelled. Without effect unless it runs."""
        server, self._grpc = self._grpc, None
        if server is not None:
            await server.stop(grace=None)
            await self._service.dispatcher.stop()

    def reset(self) -> None:
        """Forget all tasks and all used names, and cancel the dispatches under way; queues and faults stay."""
        self._service.reset()

    def queues(self) -> list[QueueStatus]:
        """Return all queues by name, for a status page."""
        return self._service.queue_statuses()

    def tasks(self, queue_name: str) -> list[TaskStatus]:
        """Return the tasks of a queue (full name) that are not done, oldest first; none for one that is not there."""
        return self._service.task_statuses(queue_name)


def _handlers(service: CloudTasksService) -> dict[str, "grpc.RpcMethodHandler[Any, Any]"]:
    calls: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "CreateQueue": (tasks_v2.CreateQueueRequest, service.create_queue),
        "UpdateQueue": (tasks_v2.UpdateQueueRequest, service.update_queue),
        "GetQueue": (tasks_v2.GetQueueRequest, service.get_queue),
        "ListQueues": (tasks_v2.ListQueuesRequest, service.list_queues),
        "DeleteQueue": (tasks_v2.DeleteQueueRequest, service.delete_queue),
        "PurgeQueue": (tasks_v2.PurgeQueueRequest, service.purge_queue),
        "PauseQueue": (tasks_v2.PauseQueueRequest, service.pause_queue),
        "ResumeQueue": (tasks_v2.ResumeQueueRequest, service.resume_queue),
        "CreateTask": (tasks_v2.CreateTaskRequest, service.create_task),
        "GetTask": (tasks_v2.GetTaskRequest, service.get_task),
        "ListTasks": (tasks_v2.ListTasksRequest, service.list_tasks),
        "DeleteTask": (tasks_v2.DeleteTaskRequest, service.delete_task),
        "RunTask": (tasks_v2.RunTaskRequest, service.run_task),
    }
    return {
        name: grpc.unary_unary_rpc_method_handler(
            _answering(call),
            request_deserializer=request_type.pb().FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )
        for name, (request_type, call) in calls.items()
    }


def _answering(
    call: Callable[[Any], Any],
) -> Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Any]]:
    async def answer(request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
        try:
            return call(request)
        except CloudTasksError as error:
            await context.abort(grpc.StatusCode[error.code], str(error))

    return answer
