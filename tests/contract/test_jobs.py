"""The contract of ``Jobs``, on queues with names and without.

They are the fake, the local Cloud Tasks, the local Pub/Sub and Google's Pub/Sub emulator.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import grpc
import pytest
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from localcloud.running_cloud import RunningCloud
from localcloud.services.pubsub.server import PubSubServer
from shared.adapters import grpc_service
from shared.adapters.cloud_tasks_jobs import CloudTasksJobs
from shared.adapters.google_identity import GoogleIdentity
from shared.adapters.pubsub_jobs import PubSubJobs
from shared.config import GOOGLE_ISSUERS, IdentitySource
from shared.config import Identity as IdentitySettings
from shared.domain.errors import NotAuthenticatedError, UnavailableError
from shared.domain.job_messages import read_job, write_job
from shared.domain.jobs import Job
from shared.ports import Jobs
from tests.contract.servers import (
    PATIENCE_SECONDS,
    Answer,
    Responder,
    assert_told_in_time,
    hurry,
    unanswering,
)
from tests.fakes.clock import SettableClock
from tests.fakes.jobs import FakeJobs
from tests.server_thread import ServerThread

LOCATION = "projects/contract/locations/us-west1"
SERVICE_ACCOUNT = "operations-queue@contract.iam.gserviceaccount.com"
A_WHILE = timedelta(seconds=0.8)


class Queue(Protocol):
    """A queue, and the worker that it delivers to."""

    @property
    def jobs(self) -> Jobs:
        """The port under test."""

    def now(self) -> datetime:
        """Return the time."""

    def deliveries(self, least: int) -> list[tuple[datetime, bytes]]:
        """Return all messages with the times of their deliveries, in order.

        Wait until the queue is empty and has delivered this many.
        """


class FakeQueue:
    """The fake, in virtual time."""

    def __init__(self, *, named: bool) -> None:
        self._clock = SettableClock()
        self._fake = FakeJobs(self._clock, named=named)
        self._came: list[tuple[datetime, bytes]] = []
        self.jobs: Jobs = self._fake

    def now(self) -> datetime:
        """Return the virtual time."""
        return self._clock()

    def deliveries(self, least: int) -> list[tuple[datetime, bytes]]:
        """Go from one due job to the next."""
        while moment := self._fake.next_due_at():
            self._clock.advance_to(moment)
            job = self._fake.take_due()
            assert job is not None
            self._came.append((self._clock(), write_job(job)))
        assert len(self._came) >= least
        return self._came


class CloudTasksQueue:
    """The adapter, with a queue of its own in the running cloud."""

    def __init__(self, cloud: RunningCloud, worker: Responder) -> None:
        self.address = str(cloud.state["services"]["tasks"])
        self._worker = worker
        self._channel = grpc.insecure_channel(self.address)
        self._client = tasks_v2.CloudTasksClient(
            transport=CloudTasksGrpcTransport(channel=self._channel)
        )
        self.path = f"{LOCATION}/queues/q-{uuid.uuid4()}"
        retry = tasks_v2.RetryConfig(min_backoff=timedelta(milliseconds=50))
        self._client.create_queue(
            parent=LOCATION, queue=tasks_v2.Queue(name=self.path, retry_config=retry)
        )
        self.url = f"{worker.url}/operations"
        self.jobs: Jobs = CloudTasksJobs(self.path, self.url, SERVICE_ACCOUNT, self.address)

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC)

    def deliveries(self, least: int) -> list[tuple[datetime, bytes]]:
        """Wait until no task is left."""
        until(
            lambda: (
                not list(self._client.list_tasks(parent=self.path))
                and len(self._worker.requests) >= least
            )
        )
        return [(request.at, request.body) for request in self._worker.requests]

    def close(self) -> None:
        """Delete the queue."""
        self._client.delete_queue(name=self.path)
        self._channel.close()


class PubSubQueue:
    """The adapter, with a topic and a subscription of its own."""

    def __init__(self, address: str) -> None:
        project, topic = f"contract-{uuid.uuid4().hex[:12]}", "workspace-provision"
        self.address = address
        self._channel = grpc.insecure_channel(address)
        topic_path = PublisherClient.topic_path(project, topic)
        PublisherClient(transport=PublisherGrpcTransport(channel=self._channel)).create_topic(
            name=topic_path
        )
        self._subscriber = SubscriberClient(
            transport=SubscriberGrpcTransport(channel=self._channel)
        )
        self._subscription = SubscriberClient.subscription_path(project, "worker")
        self._subscriber.create_subscription(name=self._subscription, topic=topic_path)
        self._came: list[tuple[datetime, bytes]] = []
        self.jobs: Jobs = PubSubJobs(project, topic, address)

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC)

    def deliveries(self, least: int) -> list[tuple[datetime, bytes]]:
        """Pull until so many have come."""
        until(lambda: self._pull() >= least)
        return self._came

    def _pull(self) -> int:
        pulled = self._subscriber.pull(
            subscription=self._subscription, max_messages=10, timeout=PATIENCE_SECONDS
        ).received_messages
        self._came += [(self.now(), message.message.data) for message in pulled]
        if pulled:
            ids = [message.ack_id for message in pulled]
            self._subscriber.acknowledge(subscription=self._subscription, ack_ids=ids)
        return len(self._came)

    def close(self) -> None:
        """Talk to it no more."""
        self._channel.close()


def until(condition: Callable[[], bool]) -> None:
    """Check again and again until a condition is true."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture
def worker() -> Iterator[Responder]:
    """The server that tasks are sent to."""
    worker = Responder()
    yield worker
    worker.close()


@pytest.fixture
def tasks(cloud: RunningCloud, worker: Responder) -> Iterator[CloudTasksQueue]:
    """A queue of Cloud Tasks."""
    queue = CloudTasksQueue(cloud, worker)
    yield queue
    queue.close()


@pytest.fixture(scope="module")
def local_pubsub() -> Iterator[str]:
    """``host:port`` of a local Pub/Sub."""
    server = PubSubServer()
    thread = ServerThread(server)
    yield server.address
    thread.close()


@pytest.fixture
def topic(local_pubsub: str) -> Iterator[PubSubQueue]:
    """A topic of the local Pub/Sub."""
    queue = PubSubQueue(local_pubsub)
    yield queue
    queue.close()


@pytest.fixture
def googles_topic(google_pubsub: str) -> Iterator[PubSubQueue]:
    """A topic of Google's emulator."""
    queue = PubSubQueue(google_pubsub)
    yield queue
    queue.close()


def queue_called(request: pytest.FixtureRequest) -> Queue:
    """Return the queue that a test runs on."""
    if request.param in {"fake", "fake without names"}:
        return FakeQueue(named=request.param == "fake")
    queue: Queue = request.getfixturevalue(request.param)
    return queue


@pytest.fixture(params=["fake", "fake without names", "tasks", "topic", "googles_topic"])
def queue(request: pytest.FixtureRequest) -> Queue:
    """Each queue."""
    return queue_called(request)


@pytest.fixture(params=["fake", "tasks"])
def named(request: pytest.FixtureRequest) -> Queue:
    """A queue with job names."""
    return queue_called(request)


@pytest.fixture(params=["fake without names", "topic", "googles_topic"])
def unnamed(request: pytest.FixtureRequest) -> Queue:
    """A queue without names and delays."""
    return queue_called(request)


def a_job(**changes: object) -> Job:
    """Return a job that was never sent."""
    job = Job(str(uuid.uuid4()), str(uuid.uuid4()), step=3, resend=1, request_id="a-request")
    return replace(job, **changes)  # type: ignore[arg-type]


def jobs_of(deliveries: list[tuple[datetime, bytes]]) -> list[Job]:
    """Return the delivered jobs, as workers read them."""
    return [read_job(message) for _, message in deliveries]


# Any queue


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"operation_id": None, "step": 177244200},
        {"resend": 0, "request_id": ""},
        {"request_id": 'ü "quoted"\n'},
    ],
    ids=["a step", "a look", "the least", "an odd request"],
)
def test_a_job_arrives_as_it_was_sent(queue: Queue, changes: dict[str, object]) -> None:
    """Every field arrives except the delay, which is for the queue."""
    job = a_job(**changes)
    queue.jobs.send(job)
    assert jobs_of(queue.deliveries(1)) == [job]


def test_every_job_arrives(queue: Queue) -> None:
    """Jobs are different if their step, resend count, operation or workspace differs."""
    job = a_job()
    sent = [
        job,
        replace(job, step=4),
        replace(job, resend=2),
        replace(job, operation_id=str(uuid.uuid4())),
        replace(job, operation_id=None),
        replace(job, workspace_id=str(uuid.uuid4())),
    ]
    for each in sent:
        queue.jobs.send(each)
    arrived = jobs_of(queue.deliveries(len(sent)))
    assert sorted(arrived, key=repr) == sorted(sent, key=repr)


# Queues with names


def test_a_job_that_is_sent_twice_is_delivered_once(named: Queue) -> None:
    """The second send succeeds and has no effect, whichever request sends it."""
    job = a_job()
    named.jobs.send(job)
    named.jobs.send(replace(job, request_id="another-request"))
    assert jobs_of(named.deliveries(1)) == [job]


def test_a_job_that_is_done_is_not_delivered_again(named: Queue) -> None:
    """Its name stays taken, so a late second send has no effect."""
    job = a_job()
    named.jobs.send(job)
    named.deliveries(1)
    named.jobs.send(job)
    after = a_job()
    named.jobs.send(after)
    assert jobs_of(named.deliveries(2)) == [job, after]


def test_a_delay_is_kept(named: Queue) -> None:
    """The job comes after its delay and not earlier. A job without a delay does not wait for it."""
    late, prompt = a_job(delay=A_WHILE), a_job()
    sent_at = named.now()
    named.jobs.send(late)
    named.jobs.send(prompt)
    deliveries = named.deliveries(2)
    assert jobs_of(deliveries) == [prompt, replace(late, delay=timedelta(0))]
    assert deliveries[1][0] - sent_at >= A_WHILE
    assert deliveries[1][0] - sent_at < A_WHILE + timedelta(seconds=PATIENCE_SECONDS)


# Queues without names


def test_without_delays_every_job_comes_at_once(unnamed: Queue) -> None:
    """An hour's delay is not kept. A job that must wait needs a queue with delays."""
    job = a_job(delay=timedelta(hours=1))
    sent_at = unnamed.now()
    unnamed.jobs.send(job)
    [(came_at, _)] = unnamed.deliveries(1)
    assert came_at - sent_at < timedelta(seconds=PATIENCE_SECONDS)


def test_without_names_a_job_may_come_twice(unnamed: Queue) -> None:
    """So its worker must be safe to run twice."""
    job = a_job()
    unnamed.jobs.send(job)
    unnamed.jobs.send(job)
    assert jobs_of(unnamed.deliveries(2)) == [job, job]


# Cloud Tasks only


def test_a_task_is_a_post_of_json_to_the_worker(tasks: CloudTasksQueue, worker: Responder) -> None:
    """It has the job's own name."""
    job = a_job()
    tasks.jobs.send(job)
    tasks.deliveries(1)
    [request] = worker.requests
    assert (request.method, request.path) == ("POST", "/operations")
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-CloudTasks-TaskName"] == job.name
    assert tasks.path.endswith(f"/{request.headers['X-CloudTasks-QueueName']}")


def test_a_task_has_a_token_for_the_worker_only(
    cloud: RunningCloud, tasks: CloudTasksQueue, worker: Responder
) -> None:
    """It is an OIDC token of the queue's service account.

    Its audience is the worker's URL without the path.
    """
    tasks.jobs.send(a_job())
    tasks.deliveries(1)
    headers = worker.requests[0].headers

    def verifier(audience: str) -> GoogleIdentity:
        keys_url = f"{cloud.state['services']['identity']}/keys"
        return GoogleIdentity(
            IdentitySettings(
                IdentitySource.ID_TOKEN, keys_url, GOOGLE_ISSUERS, "", (audience,), audience
            )
        )

    assert verifier(worker.url).person(headers).email == SERVICE_ACCOUNT
    for another in (tasks.url, "https://example.com"):
        with pytest.raises(NotAuthenticatedError):
            verifier(another).person(headers)


def test_a_task_comes_again_until_its_worker_succeeds(
    tasks: CloudTasksQueue, worker: Responder
) -> None:
    """It has the same body and the same name."""
    worker.answer = Answer(503)
    job = a_job()
    tasks.jobs.send(job)
    until(lambda: len(worker.requests) >= 2)
    worker.answer = Answer(200)
    deliveries = tasks.deliveries(3)
    assert set(jobs_of(deliveries)) == {job}
    assert {request.headers["X-CloudTasks-TaskName"] for request in worker.requests} == {job.name}


# Queues that fail


ADAPTERS: dict[str, Callable[[str], Jobs]] = {
    "tasks": lambda address: CloudTasksJobs(
        f"{LOCATION}/queues/q", "http://127.0.0.1:1/", SERVICE_ACCOUNT, address
    ),
    "topic": lambda address: PubSubJobs("nobody", "nothing", address),
}


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("how", ["closed", "silent"])
def test_a_queue_that_does_not_answer_is_an_error_in_time(
    name: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes after the adapter's own timeout, not after the library's."""
    hurry(monkeypatch, grpc_service)
    with unanswering(how) as address:
        jobs = ADAPTERS[name](address)
        assert_told_in_time({name: lambda: jobs.send(a_job())})


@pytest.mark.parametrize("name", ["tasks", "topic", "googles_topic"])
def test_a_queue_that_does_not_exist_is_an_error(request: pytest.FixtureRequest, name: str) -> None:
    """It may be created soon, as after a deployment. The sender knows that the job was not sent."""
    address = request.getfixturevalue(name).address
    with pytest.raises(UnavailableError):
        ADAPTERS[name.removeprefix("googles_")](address).send(a_job())


def test_a_fake_queue_that_refuses_accepts_the_job_the_next_time() -> None:
    """A sender that tries again relies on this."""
    fake = FakeJobs(SettableClock())
    fake.refusals = 1
    job = a_job()
    with pytest.raises(UnavailableError):
        fake.send(job)
    fake.send(job)
    assert [delivery.job for delivery in fake.waiting] == [job]
