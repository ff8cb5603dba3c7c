"""Jobs sent through Pub/Sub: the first step of each new workspace."""

from google.api_core import exceptions
from google.pubsub_v1.types.pubsub import PublishRequest, PublishResponse

from shared.adapters.grpc_service import GrpcService, Method
from shared.domain.errors import UnavailableError
from shared.domain.job_messages import write_job
from shared.domain.jobs import Job
from shared.ports import Jobs

_PUBLISH = Method("Publish", PublishRequest.pb(), PublishResponse.pb(), "topic")


class PubSubJobs(Jobs):
    """``Jobs`` as messages on a topic.

    Pub/Sub has no delays and no message names: a job is delivered at once, and may be delivered
    twice. The library's publisher with batches and threads takes longer to import and to answer.
    """

    def __init__(self, project_id: str, topic: str, emulator: str | None) -> None:
        self._topic = f"projects/{project_id}/topics/{topic}"
        self._service = GrpcService(
            "google.pubsub.v1.Publisher",
            "pubsub.googleapis.com",
            emulator,
            (_PUBLISH,),
        )

    def send(self, job: Job) -> None:
        """See the port."""
        message = {"data": write_job(job)}
        try:
            self._service.call(_PUBLISH, _PUBLISH.request(topic=self._topic, messages=[message]))
        except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
            raise UnavailableError("Pub/Sub does not answer. Try again in a moment.") from error
