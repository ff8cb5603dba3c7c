"""Jobs sent through Cloud Tasks: starts, stops, deletes, looks, and each step after the first."""

from datetime import UTC, datetime
from urllib.parse import urlsplit

import grpc
from google.api_core import exceptions, retry
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from google.protobuf import timestamp_pb2

from shared.domain.errors import UnavailableError
from shared.domain.job_messages import write_job
from shared.domain.jobs import PROMPTLY, Job
from shared.ports import Jobs

TIMEOUT_SECONDS = 5.0
_RETRY = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable),
    initial=0.1,
    maximum=1.0,
    timeout=TIMEOUT_SECONDS,
)


class CloudTasksJobs(Jobs):
    """``Jobs`` as named tasks that call ``url``.

    Cloud Tasks keeps a name taken after its task is done. So in normal operation a job runs once.
    """

    def __init__(
        self, queue_path: str, url: str, service_account: str, emulator: str | None
    ) -> None:
        transport = (
            CloudTasksGrpcTransport(channel=grpc.insecure_channel(emulator)) if emulator else None
        )
        self._client = tasks_v2.CloudTasksClient(transport=transport)
        self._queue = queue_path
        self._url = url
        # The audience of a Cloud Run service is its URL without a path.
        self._audience = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        self._service_account = service_account

    def send(self, job: Job) -> None:
        """See the port."""
        task = tasks_v2.Task(
            name=f"{self._queue}/tasks/{job.name}",
            http_request=tasks_v2.HttpRequest(
                url=self._url,
                http_method=tasks_v2.HttpMethod.POST,
                headers={"Content-Type": "application/json"},
                body=write_job(job),
                oidc_token=tasks_v2.OidcToken(
                    service_account_email=self._service_account, audience=self._audience
                ),
            ),
        )
        if job.delay > PROMPTLY:
            due = timestamp_pb2.Timestamp()
            due.FromDatetime(datetime.now(UTC) + job.delay)
            task.schedule_time = due
        try:
            self._client.create_task(
                parent=self._queue, task=task, retry=_RETRY, timeout=TIMEOUT_SECONDS
            )
        except exceptions.AlreadyExists:
            return
        except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
            raise UnavailableError("Cloud Tasks does not answer. Try again in a moment.") from error
