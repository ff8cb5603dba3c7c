"""Jobs sent through Cloud Tasks: starts, stops, deletes, looks, and each step after the first."""

from datetime import UTC, datetime
from urllib.parse import urlsplit

from google.api_core import exceptions
from google.cloud.tasks_v2.types.cloudtasks import CreateTaskRequest
from google.cloud.tasks_v2.types.task import Task

from shared.adapters.grpc_service import GrpcService, Method
from shared.domain.errors import UnavailableError
from shared.domain.job_messages import write_job
from shared.domain.jobs import PROMPTLY, Job
from shared.ports import Jobs

_CREATE_TASK = Method("CreateTask", CreateTaskRequest.pb(), Task.pb(), "parent")


class CloudTasksJobs(Jobs):
    """``Jobs`` as named tasks that call ``url``.

    Cloud Tasks keeps a name taken after its task is done. So in normal operation a job runs once.
    """

    def __init__(
        self, queue_path: str, url: str, service_account: str, emulator: str | None
    ) -> None:
        self._queue = queue_path
        self._service = GrpcService(
            "google.cloud.tasks.v2.CloudTasks",
            "cloudtasks.googleapis.com",
            emulator,
            (_CREATE_TASK,),
        )
        self._url = url
        # The audience of a Cloud Run service is its URL without a path.
        self._audience = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        self._service_account = service_account

    def send(self, job: Job) -> None:
        """See the port."""
        request = _CREATE_TASK.request(parent=self._queue)
        request.task.name = f"{self._queue}/tasks/{job.name}"
        call = request.task.http_request
        call.url, call.http_method, call.body = self._url, "POST", write_job(job)
        call.headers["Content-Type"] = "application/json"
        call.oidc_token.service_account_email = self._service_account
        call.oidc_token.audience = self._audience
        if job.delay > PROMPTLY:
            request.task.schedule_time.FromDatetime(datetime.now(UTC) + job.delay)
        try:
            self._service.call(_CREATE_TASK, request)
        except exceptions.AlreadyExists:
            return
        except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
            raise UnavailableError("Cloud Tasks does not answer. Try again in a moment.") from error
