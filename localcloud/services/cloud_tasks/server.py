"""The gRPC side of Cloud Tasks, with the client library's own messages and no generated stubs."""

from collections.abc import Callable, Mapping
from datetime import timedelta

from google.cloud import tasks_v2

from localcloud.services.cloud_tasks.queue import TaskQueue
from localcloud.services.cloud_tasks.service import CloudTasksService
from localcloud.services.grpc_server import Calls, GrpcServer, Handler

_SERVICE = "google.cloud.tasks.v2.CloudTasks"


class CloudTasksServer(GrpcServer):
    """Serves Cloud Tasks over plain gRPC, and sends the tasks.

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
        self._service = CloudTasksService(mint_token=mint_token, name_retention=name_retention)
        super().__init__(port, self._service.dispatcher)

    def reset(self) -> None:
        """Forget all tasks, dispatches and used names; queues and faults stay."""
        self._service.reset()

    def queue(self, name: str) -> TaskQueue:
        """Return a queue by its full name.

        Raises:
            NotFoundError: it does not exist.
        """
        return self._service.queue(name)

    def _services(self) -> Mapping[str, Mapping[str, Handler]]:
        service = self._service
        calls: Calls = {
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
        return {_SERVICE: self._handlers(calls)}
