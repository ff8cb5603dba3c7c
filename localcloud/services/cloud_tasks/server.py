"""The gRPC side of Cloud Tasks, with the client library's own messages and no generated stubs."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
from google.cloud import tasks_v2

from localcloud.services.cloud_tasks.errors import CloudTasksError
from localcloud.services.cloud_tasks.queue import TaskQueue
from localcloud.services.cloud_tasks.service import CloudTasksService
from localcloud.services.delivery_faults import DeliveryFaults
from localcloud.services.server import Server

_SERVICE = "google.cloud.tasks.v2.CloudTasks"


class CloudTasksServer(Server):
    """Serves Cloud Tasks over plain gRPC, and sends the tasks.

    All of it runs on the event loop on which ``start`` ran; only ``faults`` may be used from other
    threads.

    Args:
        port: 0 picks a free one.
        mint_token: returns the OIDC token for (e-mail address of the service account, audience). A
            task with an ``oidc_token`` is sent with it as ``Authorization: Bearer …``. If it is
            None, such tasks are sent without a token.
        name_retention: how long a used name stays taken.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        mint_token: Callable[[str, str], str] | None = None,
        name_retention: timedelta = timedelta(hours=1),
    ) -> None:
        super().__init__(port)
        self._service = CloudTasksService(mint_token=mint_token, name_retention=name_retention)
        self._grpc: grpc.aio.Server | None = None

    @property
    def faults(self) -> DeliveryFaults:
        """The faults of delivery."""
        return self._service.dispatcher.faults

    async def start(self) -> None:
        """Serve, and start to send.

        Raises:
            RuntimeError: the port is taken.
        """
        # Without the option, a second server would share the port and get half of the calls.
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, _handlers(self._service)),)
        )
        self.port = server.add_insecure_port(self.address)
        await self._service.dispatcher.start()
        await server.start()
        self._grpc = server

    async def stop(self) -> None:
        """Stop at once: calls and dispatches under way are cancelled."""
        server, self._grpc = self._grpc, None
        if server is not None:
            await server.stop(grace=None)
            await self._service.dispatcher.stop()

    def reset(self) -> None:
        """Forget all tasks, dispatches and used names; queues and faults stay."""
        self._service.reset()

    def queue(self, name: str) -> TaskQueue:
        """Return a queue by its full name.

        Raises:
            NotFoundError: it does not exist.
        """
        return self._service.queue(name)


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
