"""Jobs sent through Pub/Sub: the first step of each new workspace."""

import grpc
from google.api_core import exceptions, retry
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.types import PubsubMessage

from shared.domain.errors import UnavailableError
from shared.domain.job_messages import write_job
from shared.domain.jobs import Job
from shared.ports import Jobs

TIMEOUT_SECONDS = 5.0
_RETRY = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable),
    initial=0.1,
    maximum=1.0,
    timeout=TIMEOUT_SECONDS,
)


class PubSubJobs(Jobs):
    """``Jobs`` as messages on a topic.

    Pub/Sub has no delays and no message names: a job is delivered at once, and may be delivered
    twice. This uses the plain API client. The publisher with batches and threads takes longer to
    import and to answer.
    """

    def __init__(self, project_id: str, topic: str, emulator: str | None) -> None:
        transport = (
            PublisherGrpcTransport(channel=grpc.insecure_channel(emulator)) if emulator else None
        )
        self._client = PublisherClient(transport=transport)
        self._topic = PublisherClient.topic_path(project_id, topic)

    def send(self, job: Job) -> None:
        """See the port."""
        try:
            self._client.publish(
                topic=self._topic,
                messages=[PubsubMessage(data=write_job(job))],
                retry=_RETRY,
                timeout=TIMEOUT_SECONDS,
            )
        except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
            raise UnavailableError("Pub/Sub does not answer. Try again in a moment.") from error
