"""The local Cloud Tasks, through Google's own client library, with a real HTTP target."""

import asyncio
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from google.protobuf.field_mask_pb2 import FieldMask

from localcloud.services.cloud_tasks.dispatch import Dispatcher
from localcloud.services.cloud_tasks.queue import TaskQueue
from localcloud.services.cloud_tasks.rate_limits import RateLimits
from localcloud.services.cloud_tasks.retry_policy import RetryPolicy
from localcloud.services.cloud_tasks.scheduled_task import Answer
from localcloud.services.cloud_tasks.server import CloudTasksServer
from localcloud.services.delivery_faults import DeliveryOutcomes, Unreliability
from tests.http_target import Received, Target, eventually
from tests.server_thread import ServerThread

T = TypeVar("T")

LOCATION = "projects/demo/locations/us-west1"
SERVICE_ACCOUNT = "operations-queue@demo.iam.gserviceaccount.com"
AT_ONCE = {"min_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=5)}


class Cloud:
    """A Cloud Tasks server on an event loop in its own thread, and a stock client of it."""

    def __init__(self, **settings: Any) -> None:
        self.server = CloudTasksServer(**settings)
        self._thread = ServerThread(self.server)
        self.run, self.on_loop = self._thread.run, self._thread.on_loop
        self._channel = grpc.insecure_channel(self.server.address)
        # Any: the library's own hints allow neither the dicts nor the datetimes that it takes and
        # returns.
        self.client: Any = tasks_v2.CloudTasksClient(
            transport=CloudTasksGrpcTransport(channel=self._channel)
        )

    def close(self) -> None:
        """Stop the server; a second call has no effect."""
        self._thread.close()
        self._channel.close()

    def make_queue(self, **settings: Any) -> str:
        """Make a queue with a new name and return its full name."""
        name = f"{LOCATION}/queues/q-{uuid.uuid4()}"
        self.client.create_queue(parent=LOCATION, queue={"name": name, **settings})
        return name

    def queue(self, name: str) -> TaskQueue:
        """Return the queue with this full name."""
        return self.on_loop(lambda: self.server.queue(name))


def token_for(service_account_email: str, audience: str) -> str:
    """Return a token that names its service account and its audience."""
    return f"{service_account_email} for {audience}"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A server that the tests share; each has queues of its own."""
    cloud = Cloud(mint_token=token_for)
    yield cloud
    cloud.close()


@contextmanager
def own_cloud(**settings: Any) -> Iterator[Cloud]:
    """Run a server for one test, which changes more than its own queues."""
    cloud = Cloud(**settings)
    try:
        yield cloud
    finally:
        cloud.close()


def task_for(url: str, **http_request: Any) -> dict[str, Any]:
    """Return a task for a URL."""
    return {"http_request": {"url": url, **http_request}}


def eta_of(request: Received) -> datetime:
    """Return when the task was due, from the headers of its request."""
    return datetime.fromtimestamp(float(request.headers["X-CloudTasks-TaskETA"]), UTC)


def let_other_tasks_pass(cloud: Cloud, target: Target) -> None:
    """Wait for tasks of another queue, so that earlier tasks would have arrived by then."""
    queue = cloud.make_queue()
    for _ in range(3):
        path = f"/{uuid.uuid4()}"
        cloud.client.create_task(parent=queue, task=task_for(target.url(path)))
        target.wait_for(path)


def test_a_new_queue_has_the_defaults_of_cloud_tasks(cloud: Cloud) -> None:
    """Each setting that its creation leaves out has Cloud Tasks' own value, and the queue runs."""
    queue = cloud.client.get_queue(name=cloud.make_queue())

    assert queue.state == tasks_v2.Queue.State.RUNNING
    assert queue.rate_limits == tasks_v2.RateLimits(
        max_dispatches_per_second=500, max_burst_size=100, max_concurrent_dispatches=1000
    )
    assert queue.retry_config.max_attempts == 100
    assert queue.retry_config.min_backoff == timedelta(seconds=0.1)
    assert queue.retry_config.max_backoff == timedelta(hours=1)
    assert queue.retry_config.max_doublings == 16


def test_output_only_fields_of_a_queue_are_ignored(cloud: Cloud) -> None:
    """These are the state, the purge time and the burst size."""
    name = cloud.make_queue(
        rate_limits={"max_dispatches_per_second": 15, "max_burst_size": 400},
        state=tasks_v2.Queue.State.PAUSED,
        purge_time=datetime.now(UTC),
    )

    queue = cloud.client.get_queue(name=name)

    assert queue.rate_limits.max_burst_size == 10
    assert queue.state == tasks_v2.Queue.State.RUNNING
    assert not queue.purge_time


def test_a_queue_cannot_be_created_twice(cloud: Cloud) -> None:
    """A queue's name is taken as long as the queue exists."""
    name = cloud.make_queue()

    with pytest.raises(exceptions.AlreadyExists):
        cloud.client.create_queue(parent=LOCATION, queue={"name": name})


@pytest.mark.parametrize(
    "queue",
    [
        {"name": ""},
        {"name": "q"},
        {"name": f"{LOCATION}/queues/not legal"},
        {"name": f"{LOCATION}/queues/{'x' * 101}"},
        {"name": "projects/demo/locations/elsewhere/queues/q"},
        {"name": f"{LOCATION}/queues/q", "rate_limits": {"max_dispatches_per_second": 501}},
        {"name": f"{LOCATION}/queues/q", "rate_limits": {"max_dispatches_per_second": -1}},
        {"name": f"{LOCATION}/queues/q", "rate_limits": {"max_concurrent_dispatches": 5001}},
        {"name": f"{LOCATION}/queues/q", "retry_config": {"max_attempts": -2}},
        {"name": f"{LOCATION}/queues/q", "retry_config": {"max_doublings": -1}},
        {"name": f"{LOCATION}/queues/q", "retry_config": {"min_backoff": timedelta(seconds=-1)}},
        {
            "name": f"{LOCATION}/queues/q",
            "retry_config": {
                "min_backoff": timedelta(seconds=9),
                "max_backoff": timedelta(seconds=8),
            },
        },
    ],
)
def test_a_queue_with_an_invalid_name_or_setting_is_refused(
    cloud: Cloud, queue: dict[str, Any]
) -> None:
    """The error is ``INVALID_ARGUMENT``, as that of Cloud Tasks."""
    with pytest.raises(exceptions.InvalidArgument):
        cloud.client.create_queue(parent=LOCATION, queue=queue)


def test_unsupported_features_are_refused_as_unimplemented(cloud: Cloud) -> None:
    """The server ignores no setting silently."""
    name = cloud.make_queue()
    access_token = {"service_account_email": SERVICE_ACCOUNT}
    override = {
        "name": f"{LOCATION}/queues/q",
        "http_target": {"http_method": tasks_v2.HttpMethod.GET},
    }

    with pytest.raises(exceptions.MethodNotImplemented):
        cloud.client.create_queue(parent=LOCATION, queue=override)
    with pytest.raises(exceptions.MethodNotImplemented):
        cloud.client.create_task(
            parent=name, task={"app_engine_http_request": {"relative_uri": "/"}}
        )
    with pytest.raises(exceptions.MethodNotImplemented):
        cloud.client.create_task(
            parent=name, task=task_for("https://example.com/", oauth_token=access_token)
        )
    with pytest.raises(exceptions.MethodNotImplemented):
        list(cloud.client.list_queues(request={"parent": LOCATION, "filter": "state: PAUSED"}))


def test_an_update_changes_only_the_fields_in_its_mask(cloud: Cloud) -> None:
    """It does not change output-only fields, and refuses an unknown field."""
    name = cloud.make_queue(retry_config={"max_attempts": 7, "max_doublings": 3})
    cloud.client.pause_queue(name=name)

    updated = cloud.client.update_queue(
        queue={
            "name": name,
            "state": tasks_v2.Queue.State.RUNNING,
            "retry_config": {"max_attempts": 9, "max_doublings": 5},
            "rate_limits": {"max_dispatches_per_second": 2},
        },
        update_mask=FieldMask(paths=["retry_config.max_attempts", "rate_limits", "state"]),
    )

    assert (updated.retry_config.max_attempts, updated.retry_config.max_doublings) == (9, 3)
    assert (updated.rate_limits.max_dispatches_per_second, updated.rate_limits.max_burst_size) == (
        2,
        10,
    )
    assert updated.state == tasks_v2.Queue.State.PAUSED
    assert cloud.client.get_queue(name=name) == updated
    with pytest.raises(exceptions.InvalidArgument):
        cloud.client.update_queue(
            queue={"name": name}, update_mask=FieldMask(paths=["no_such_field"])
        )


def test_an_update_without_a_mask_sets_every_field_or_creates_the_queue(cloud: Cloud) -> None:
    """Fields that the update leaves out get their defaults again."""
    name = f"{LOCATION}/queues/q-{uuid.uuid4()}"

    made = cloud.client.update_queue(queue={"name": name, "retry_config": {"max_attempts": 7}})
    updated = cloud.client.update_queue(queue={"name": name, "retry_config": {"max_doublings": 2}})

    assert made.retry_config.max_attempts == 7
    assert (updated.retry_config.max_attempts, updated.retry_config.max_doublings) == (100, 2)


def test_an_update_applies_to_waiting_tasks(cloud: Cloud, target: Target, path: str) -> None:
    """With a higher rate, the queue sends its backlog at once."""
    queue = cloud.make_queue(rate_limits={"max_dispatches_per_second": 0.01})
    for _ in range(12):
        cloud.client.create_task(parent=queue, task=task_for(target.url(path)))
    eventually(lambda: len(target.received(path)) == 10)

    cloud.client.update_queue(
        queue={"name": queue, "rate_limits": {"max_dispatches_per_second": 500}}
    )

    eventually(lambda: len(target.received(path)) == 12)


def test_queues_are_listed_by_name_in_pages() -> None:
    """The list has exactly the queues of the location, with any page size."""
    with own_cloud() as cloud:
        names = [f"{LOCATION}/queues/{letter}" for letter in "cabed"]
        for name in names:
            cloud.client.create_queue(parent=LOCATION, queue={"name": name})
        elsewhere = "projects/demo/locations/us-west10"
        cloud.client.create_queue(parent=elsewhere, queue={"name": f"{elsewhere}/queues/x"})

        pager = cloud.client.list_queues(request={"parent": LOCATION, "page_size": 2})

        assert [[queue.name for queue in page.queues] for page in pager.pages] == [
            sorted(names)[:2],
            sorted(names)[2:4],
            sorted(names)[4:],
        ]


def test_a_deleted_queue_loses_its_tasks_but_its_name_stays_taken(
    cloud: Cloud, target: Target, path: str
) -> None:
    """No task is sent, and no queue with that name can be created at once."""
    queue = cloud.make_queue()
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    cloud.client.create_task(
        parent=queue, task={"schedule_time": soon, **task_for(target.url(path))}
    )

    cloud.client.delete_queue(name=queue)

    with pytest.raises(exceptions.NotFound):
        cloud.client.get_queue(name=queue)
    with pytest.raises(exceptions.FailedPrecondition):
        cloud.client.create_queue(parent=LOCATION, queue={"name": queue})
    later = {
        "schedule_time": soon + timedelta(seconds=0.1),
        **task_for(target.url(path + "/later")),
    }
    cloud.client.create_task(parent=cloud.make_queue(), task=later)
    target.wait_for(path + "/later")
    assert target.received(path) == []


def test_every_call_on_a_missing_queue_is_answered_with_not_found(cloud: Cloud) -> None:
    """This includes the calls on a task of that queue."""
    queue = f"{LOCATION}/queues/missing"
    task = f"{queue}/tasks/t"
    client = cloud.client
    calls: list[Callable[[], Any]] = [
        lambda: client.get_queue(name=queue),
        lambda: client.delete_queue(name=queue),
        lambda: client.purge_queue(name=queue),
        lambda: client.pause_queue(name=queue),
        lambda: client.resume_queue(name=queue),
        lambda: client.list_tasks(parent=queue),
        lambda: client.create_task(parent=queue, task=task_for("http://127.0.0.1/")),
        lambda: client.get_task(name=task),
        lambda: client.delete_task(name=task),
        lambda: client.run_task(name=task),
    ]
    for call in calls:
        with pytest.raises(exceptions.NotFound):
            call()


def test_a_task_arrives_with_its_own_method_query_headers_and_body(
    cloud: Cloud, target: Target, path: str
) -> None:
    """Cloud Tasks drops or replaces only the headers that it reserves for itself."""
    queue = cloud.make_queue()
    task = task_for(
        target.url(path + "?a=1"),
        http_method=tasks_v2.HttpMethod.PUT,
        body=b'{"a": 1}',
        headers={
            "content-type": "application/json",
            "X-Request-Id": "r-1",
            "user-agent": "mine",
            "Host": "elsewhere",
            "Content-Length": "1",
            "X-CloudTasks-TaskRetryCount": "9",
            "X-Google-Something": "x",
        },
    )

    cloud.client.create_task(parent=queue, task=task)

    request = target.wait_for(path + "?a=1")
    assert (request.method, request.body) == ("PUT", b'{"a": 1}')
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Request-Id"] == "r-1"
    assert request.headers.get_all("User-Agent") == ["Google-Cloud-Tasks"]
    assert request.headers["Host"] == f"127.0.0.1:{target.server_port}"
    assert request.headers.get_all("X-CloudTasks-TaskRetryCount") == ["0"]
    assert request.headers["X-Google-Something"] is None
    assert request.headers["Authorization"] is None
    assert request.headers["Connection"] == "close"  # no connection is used twice


def test_a_cookie_is_not_carried_from_one_task_to_the_next(
    cloud: Cloud, target: Target, path: str
) -> None:
    """The server drops the cookies that a target sets."""
    queue = cloud.make_queue()
    for number in (1, 2):
        url = target.url(f"{path}/{number}").replace(
            "127.0.0.1", "localhost"
        )  # a client keeps no cookies for an IP address
        cloud.client.create_task(parent=queue, task=task_for(url))
        assert target.wait_for(f"{path}/{number}").headers["Cookie"] is None
        eventually(lambda: len(cloud.queue(queue)) == 0)


def test_a_task_without_a_method_is_sent_as_a_post(cloud: Cloud, target: Target, path: str) -> None:
    """The request has no content type unless the task has one."""
    cloud.client.create_task(parent=cloud.make_queue(), task=task_for(target.url(path), body=b"x"))

    request = target.wait_for(path)
    assert request.method == "POST"
    assert request.headers["Content-Type"] is None


def test_the_headers_of_each_attempt_describe_the_attempts_before_it(
    cloud: Cloud, target: Target, path: str
) -> None:
    """After 503, 404, 302 and 200, they equal those recorded from the real service."""
    queue = cloud.make_queue(retry_config=AT_ONCE)
    target.answer(path, 503, 404, 302, 200)

    task = cloud.client.create_task(parent=queue, task=task_for(target.url(path)))

    eventually(lambda: cloud.queue(queue).succeeded)
    requests = target.received(path)
    told = [
        tuple(
            request.headers[f"X-CloudTasks-{name}"]
            for name in ("TaskRetryCount", "TaskExecutionCount")
        )
        for request in requests
    ]
    assert told == [("0", "0"), ("1", "0"), ("2", "1"), ("3", "2")]
    assert [request.headers["X-CloudTasks-TaskPreviousResponse"] for request in requests] == [
        None,
        "503",
        "404",
        "302",
    ]
    assert [request.headers["X-CloudTasks-TaskRetryReason"] for request in requests] == [
        None,
        "",
        "",
        "",
    ]
    for request in requests:
        assert request.headers["X-CloudTasks-QueueName"] == queue.rpartition("/")[2]
        assert request.headers["X-CloudTasks-TaskName"] == task.name.rpartition("/")[2]
        assert timedelta(0) <= request.at - eta_of(request) < timedelta(seconds=2)


def test_a_redirect_is_a_failure_and_is_not_followed(
    cloud: Cloud, target: Target, path: str
) -> None:
    """A target that redirects has not done the work."""
    queue = cloud.make_queue(retry_config={"max_attempts": 1})
    target.answer(path, 307)

    cloud.client.create_task(parent=queue, task=task_for(target.url(path)))

    eventually(lambda: cloud.queue(queue).given_up)
    assert target.received("/elsewhere") == []


@pytest.mark.parametrize("audience", ["https://operations.example.com", ""])
def test_a_task_with_an_oidc_token_is_sent_with_that_token(
    cloud: Cloud, target: Target, path: str, audience: str
) -> None:
    """It is for the task's service account and audience; the default audience is the URL."""
    token = {"service_account_email": SERVICE_ACCOUNT, "audience": audience}
    task = task_for(target.url(path), oidc_token=token, headers={"authorization": "Bearer mine"})

    cloud.client.create_task(parent=cloud.make_queue(), task=task)

    request = target.wait_for(path)
    expected = token_for(SERVICE_ACCOUNT, audience or target.url(path))
    assert request.headers.get_all("Authorization") == [f"Bearer {expected}"]


def test_an_attempt_fails_if_its_token_cannot_be_minted(target: Target, path: str) -> None:
    """No request is sent without the token, and the task is tried again."""
    failures = [RuntimeError("no key"), RuntimeError("no key")]

    def mint(_service_account_email: str, _audience: str) -> str:
        if failures:
            raise failures.pop()
        return "token"

    with own_cloud(mint_token=mint) as cloud:
        queue = cloud.make_queue(retry_config=AT_ONCE)
        token = {"service_account_email": SERVICE_ACCOUNT}
        cloud.client.create_task(parent=queue, task=task_for(target.url(path), oidc_token=token))
        eventually(lambda: cloud.queue(queue).succeeded)

    (request,) = target.received(path)
    assert request.headers["Authorization"] == "Bearer token"
    assert request.headers["X-CloudTasks-TaskRetryCount"] == "2"


def test_the_name_of_a_task_stays_taken(cloud: Cloud, target: Target, path: str) -> None:
    """It cannot be used again while the task waits, or after it was done, deleted or purged."""
    queue = cloud.make_queue()
    later = datetime.now(UTC) + timedelta(hours=1)
    waiting, done, deleted, purged = (
        f"{queue}/tasks/{what}" for what in ("waiting", "done", "deleted", "purged")
    )
    cloud.client.create_task(parent=queue, task={"name": done, **task_for(target.url(path))})
    eventually(lambda: cloud.queue(queue).succeeded)
    for name in (deleted, purged):
        cloud.client.create_task(
            parent=queue, task={"name": name, "schedule_time": later, **task_for(target.url(path))}
        )
    cloud.client.delete_task(name=deleted)
    cloud.client.purge_queue(name=queue)
    cloud.client.create_task(
        parent=queue, task={"name": waiting, "schedule_time": later, **task_for(target.url(path))}
    )

    for name in (waiting, done, deleted, purged):
        with pytest.raises(exceptions.AlreadyExists):
            cloud.client.create_task(
                parent=queue, task={"name": name, **task_for(target.url(path))}
            )
    with pytest.raises(exceptions.NotFound, match="existed recently"):
        cloud.client.get_task(name=done)
    assert len(target.received(path)) == 1


def test_a_task_name_is_free_again_after_the_retention_time(target: Target, path: str) -> None:
    """The server is given that time."""
    with own_cloud(name_retention=timedelta(milliseconds=300)) as cloud:
        queue = cloud.make_queue()
        task = {"name": f"{queue}/tasks/again", **task_for(target.url(path))}
        cloud.client.create_task(parent=queue, task=task)
        eventually(lambda: cloud.queue(queue).succeeded)
        with pytest.raises(exceptions.AlreadyExists):
            cloud.client.create_task(parent=queue, task=task)

        def is_made() -> bool:
            try:
                cloud.client.create_task(parent=queue, task=task)
            except exceptions.AlreadyExists:
                return False
            return True

        eventually(is_made)
        eventually(lambda: len(target.received(path)) == 2)


def test_concurrent_creations_with_one_name_make_one_task(
    cloud: Cloud, target: Target, path: str
) -> None:
    """Exactly one of them succeeds, and the task is sent once."""
    queue = cloud.make_queue()
    task = {"name": f"{queue}/tasks/only", **task_for(target.url(path))}

    def is_made(_: int) -> bool:
        try:
            cloud.client.create_task(parent=queue, task=task)
        except exceptions.AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(is_made, range(40))) == 1
    eventually(lambda: cloud.queue(queue).succeeded)
    let_other_tasks_pass(cloud, target)
    assert len(target.received(path)) == 1


@pytest.mark.parametrize(
    "name",
    [
        "t",
        "{queue}/tasks/",
        "{queue}/tasks/not legal",
        "{queue}/tasks/a.b",
        "{queue}/tasks/a/b",
        "{queue}/tasks/" + "x" * 501,
        "{queue}-other/tasks/t",
        LOCATION + "/queues/q/t",
    ],
)
def test_an_invalid_task_name_or_one_of_another_queue_is_refused(cloud: Cloud, name: str) -> None:
    """The rules are those of Cloud Tasks."""
    queue = cloud.make_queue()

    with pytest.raises(exceptions.InvalidArgument):
        cloud.client.create_task(
            parent=queue, task={"name": name.format(queue=queue), **task_for("http://127.0.0.1/")}
        )


@pytest.mark.parametrize(
    "task",
    [
        pytest.param({}, id="no target"),
        pytest.param(task_for(""), id="no URL"),
        pytest.param(task_for("example.com/path"), id="no scheme"),
        pytest.param(task_for("ftp://example.com/"), id="another scheme"),
        pytest.param(task_for("http://"), id="no host"),
        pytest.param(task_for("http://example.com:99999/"), id="invalid port"),
        pytest.param(task_for("http://[::1/"), id="incomplete IPv6 address"),
        pytest.param(task_for("http://example.com/" + "x" * 2083), id="URL too long"),
        pytest.param(task_for("http://example.com/", http_method=99), id="unknown method"),
        pytest.param(
            task_for("http://example.com/", http_method=tasks_v2.HttpMethod.GET, body=b"x"),
            id="GET with a body",
        ),
        pytest.param(
            task_for("http://example.com/", headers={"not legal": "x"}), id="illegal header name"
        ),
        pytest.param(
            task_for("http://example.com/", headers={"X-A": "a\r\nX-B: b"}),
            id="illegal header value",
        ),
        pytest.param(
            task_for("http://example.com/", headers={"X-A": "a" * 80 * 1024}), id="headers too long"
        ),
        pytest.param(
            task_for("http://example.com/", oidc_token={"audience": "x"}),
            id="a token without an account",
        ),
        pytest.param(task_for("http://example.com/", body=b"x" * 100 * 1024), id="too large"),
        pytest.param(
            {**task_for("http://example.com/"), "dispatch_deadline": timedelta(seconds=14)},
            id="deadline too short",
        ),
        pytest.param(
            {**task_for("http://example.com/"), "dispatch_deadline": timedelta(minutes=31)},
            id="deadline too long",
        ),
        pytest.param(
            {**task_for("http://example.com/"), "retry_config": {"max_attempts": -2}},
            id="illegal retries",
        ),
    ],
)
def test_a_malformed_task_is_refused(cloud: Cloud, task: dict[str, Any]) -> None:
    """The error is ``INVALID_ARGUMENT``, and the queue stays empty."""
    queue = cloud.make_queue()

    with pytest.raises(exceptions.InvalidArgument):
        cloud.client.create_task(parent=queue, task=task)

    assert len(cloud.queue(queue)) == 0


def test_a_task_just_below_the_size_limit_is_accepted(
    cloud: Cloud, target: Target, path: str
) -> None:
    """A body of nearly 100 KiB arrives complete."""
    body = b"x" * (99 * 1024)

    cloud.client.create_task(parent=cloud.make_queue(), task=task_for(target.url(path), body=body))

    target.wait_for(path)
    assert target.received(path)[0].body == body


def test_a_scheduled_task_is_sent_at_its_time(cloud: Cloud, target: Target, path: str) -> None:
    """It is sent at most a second late, and does not wait for tasks with a later time."""
    queue = cloud.make_queue()
    now = datetime.now(UTC)
    times = {delay: now + timedelta(seconds=delay) for delay in (0.9, 0.3, 0.6)}

    for delay, schedule_time in times.items():
        task = {"schedule_time": schedule_time, **task_for(target.url(f"{path}/{delay}"))}
        assert cloud.client.create_task(parent=queue, task=task).schedule_time == schedule_time

    eventually(lambda: cloud.queue(queue).succeeded == 3)
    for delay, schedule_time in times.items():
        (request,) = target.received(f"{path}/{delay}")
        assert timedelta(0) <= request.at - schedule_time < timedelta(seconds=1)
        assert abs(eta_of(request) - schedule_time) < timedelta(milliseconds=1)


def test_a_task_can_be_scheduled_at_most_thirty_days_ahead(cloud: Cloud) -> None:
    """A later time is refused, and a time in the past means now."""
    queue = cloud.make_queue()
    cloud.client.pause_queue(name=queue)
    now = datetime.now(UTC)

    def create(schedule_time: datetime) -> Any:
        return cloud.client.create_task(
            parent=queue, task={"schedule_time": schedule_time, **task_for("http://127.0.0.1:9/")}
        )

    with pytest.raises(exceptions.InvalidArgument):
        create(now + timedelta(days=30, minutes=1))
    assert create(now + timedelta(days=29, hours=23)).schedule_time > now
    assert (
        timedelta(0) <= create(now - timedelta(days=1)).schedule_time - now < timedelta(seconds=5)
    )


def test_a_failing_task_is_retried_with_backoff_until_its_attempts_are_used_up(
    cloud: Cloud, target: Target, path: str
) -> None:
    """Four attempts, 0.1, 0.2 and (the maximum) 0.25 s apart; after that the task is deleted."""
    queue = cloud.make_queue(
        retry_config={
            "max_attempts": 4,
            "min_backoff": timedelta(seconds=0.1),
            "max_backoff": timedelta(seconds=0.25),
        }
    )
    target.answer(path, 500)

    task = cloud.client.create_task(parent=queue, task=task_for(target.url(path)))

    eventually(lambda: cloud.queue(queue).given_up)
    requests = target.received(path)
    waits = [eta_of(later) - earlier.at for earlier, later in pairwise(requests)]
    assert [wait.total_seconds() for wait in waits] == pytest.approx([0.1, 0.2, 0.25], abs=0.1)
    assert all(request.at >= eta_of(request) for request in requests)
    with pytest.raises(exceptions.NotFound):
        cloud.client.get_task(name=task.name)


def test_a_task_with_unlimited_attempts_is_retried_beyond_the_default_limit(
    cloud: Cloud, target: Target, path: str
) -> None:
    """With ``max_attempts`` of -1, a task that has failed 120 times is sent again."""
    queue = cloud.make_queue(retry_config={"max_attempts": -1, **AT_ONCE})
    target.answer(path, *[500] * 120, 200)

    cloud.client.create_task(parent=queue, task=task_for(target.url(path)))

    eventually(lambda: cloud.queue(queue).succeeded)
    assert len(target.received(path)) == 121


def test_retries_end_only_when_attempts_and_duration_are_both_used_up(
    cloud: Cloud, target: Target, path: str
) -> None:
    """Until the duration has passed, more attempts are made than ``max_attempts`` says."""
    queue = cloud.make_queue(
        retry_config={
            "max_attempts": 2,
            "max_retry_duration": timedelta(seconds=1),
            "min_backoff": timedelta(seconds=0.1),
            "max_backoff": timedelta(seconds=0.1),
        }
    )
    target.answer(path, 500)

    cloud.client.create_task(parent=queue, task=task_for(target.url(path)))

    eventually(lambda: cloud.queue(queue).given_up)
    requests = target.received(path)
    assert len(requests) > 2
    assert timedelta(seconds=0.9) < requests[-1].at - requests[0].at < timedelta(seconds=2.5)


def test_a_task_may_have_its_own_retry_config(cloud: Cloud, target: Target, path: str) -> None:
    """It takes precedence over the queue's."""
    queue = cloud.make_queue(retry_config={"max_attempts": 50, **AT_ONCE})
    target.answer(path, 500)

    cloud.client.create_task(
        parent=queue,
        task={"retry_config": {"max_attempts": 2, **AT_ONCE}, **task_for(target.url(path))},
    )

    eventually(lambda: cloud.queue(queue).given_up)
    assert len(target.received(path)) == 2


def test_an_unreachable_target_is_tried_again(cloud: Cloud) -> None:
    """A refused connection counts as an attempt without a response."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        queue = cloud.make_queue(retry_config={"max_attempts": -1, **AT_ONCE})
        name = cloud.client.create_task(parent=queue, task=task_for(url)).name

        eventually(lambda: cloud.client.get_task(name=name).dispatch_count > 3)

        task = cloud.client.get_task(name=name)
        assert task.response_count == 0
        cloud.client.delete_task(name=name)


def test_a_dispatch_fails_at_its_deadline(cloud: Cloud, target: Target, path: str) -> None:
    """It counts as an attempt without a response, and is recorded as 504."""
    target.hold(path)
    now = datetime.now(UTC)
    queue = TaskQueue(
        f"{LOCATION}/queues/q",
        retry=RetryPolicy(),
        limits=RateLimits(),
        name_retention=timedelta(hours=1),
        now=now,
    )
    message = tasks_v2.Task.pb(
        tasks_v2.Task(
            http_request={"url": target.url(path), "http_method": tasks_v2.HttpMethod.POST},
            dispatch_deadline=timedelta(seconds=0.1),  # shorter than a call may ask for
        )
    )
    task = queue.add(
        "t", message, schedule_time=now, retry=RetryPolicy(min_backoff=timedelta(hours=1)), now=now
    )
    dispatcher = Dispatcher({queue.name: queue}, None)

    cloud.run(dispatcher.start())
    target.wait_for(path)
    eventually(lambda: queue.running == 0)
    cloud.run(dispatcher.stop())

    assert (task.dispatch_count, task.response_count) == (1, 0)
    assert task.last_attempt is not None
    assert task.last_attempt.answer == Answer(504, received=False)
    assert task.schedule_time > now + timedelta(hours=1)


def test_the_default_dispatch_deadline_is_ten_minutes(cloud: Cloud) -> None:
    """The task shows the default or its own valid deadline."""
    queue = cloud.make_queue()
    cloud.client.pause_queue(name=queue)
    task = task_for("http://127.0.0.1:9/")

    assert cloud.client.create_task(parent=queue, task=task).dispatch_deadline == timedelta(
        minutes=10
    )
    for deadline in (timedelta(seconds=15), timedelta(minutes=30)):
        created = cloud.client.create_task(
            parent=queue, task={**task, "dispatch_deadline": deadline}
        )
        assert created.dispatch_deadline == deadline


def test_a_queue_sends_a_burst_and_then_keeps_its_rate(
    cloud: Cloud, target: Target, path: str
) -> None:
    """It sends ten tasks at once and the other ten at 20 a second."""
    queue = cloud.make_queue(rate_limits={"max_dispatches_per_second": 20})
    cloud.client.pause_queue(name=queue)
    for _ in range(20):
        cloud.client.create_task(parent=queue, task=task_for(target.url(path)))
    resumed_at = datetime.now(UTC)
    cloud.client.resume_queue(name=queue)

    eventually(lambda: len(target.received(path)) == 20)
    after = sorted((request.at - resumed_at).total_seconds() for request in target.received(path))
    assert after[9] < 0.45  # otherwise they came one by one
    assert all(at >= 0.05 * number - 0.01 for number, at in enumerate(after[10:], start=1))
    assert after[19] < 3


def test_a_queue_limits_its_concurrent_dispatches(cloud: Cloud, target: Target, path: str) -> None:
    """Two dispatches run at a time, and in the end all tasks are done."""
    queue = cloud.make_queue(rate_limits={"max_concurrent_dispatches": 2})
    gate = target.hold(path)
    for _ in range(6):
        cloud.client.create_task(parent=queue, task=task_for(target.url(path)))
    eventually(lambda: len(target.received(path)) == 2)
    let_other_tasks_pass(cloud, target)
    assert len(target.received(path)) == 2

    gate.set()

    eventually(lambda: cloud.queue(queue).succeeded == 6)
    assert target.most_open[path] == 2


def test_a_stuck_queue_does_not_delay_other_queues(cloud: Cloud, target: Target, path: str) -> None:
    """Each queue has its own limits; the queues share only the event loop."""
    stuck = cloud.make_queue(rate_limits={"max_concurrent_dispatches": 150})
    target.hold(path)
    for _ in range(160):
        cloud.client.create_task(parent=stuck, task=task_for(target.url(path)))
    eventually(lambda: len(target.received(path)) == 150)

    let_other_tasks_pass(cloud, target)

    assert cloud.queue(stuck).running == 150
    cloud.client.purge_queue(name=stuck)


def test_a_paused_queue_accepts_tasks_and_sends_them_once_resumed(
    cloud: Cloud, target: Target, path: str
) -> None:
    """It shows its state, and sends nothing while it is paused."""
    queue = cloud.make_queue()
    assert cloud.client.pause_queue(name=queue).state == tasks_v2.Queue.State.PAUSED
    for _ in range(3):
        cloud.client.create_task(parent=queue, task=task_for(target.url(path)))
    let_other_tasks_pass(cloud, target)
    assert target.received(path) == []

    assert cloud.client.resume_queue(name=queue).state == tasks_v2.Queue.State.RUNNING

    eventually(lambda: len(target.received(path)) == 3)


def test_run_task_sends_a_task_of_a_paused_queue_before_its_time(
    cloud: Cloud, target: Target, path: str
) -> None:
    """The task is sent at once, and is deleted when it succeeds."""
    queue = cloud.make_queue()
    cloud.client.pause_queue(name=queue)
    later = datetime.now(UTC) + timedelta(hours=1)
    name = cloud.client.create_task(
        parent=queue, task={"schedule_time": later, **task_for(target.url(path))}
    ).name

    ran = cloud.client.run_task(name=name)

    assert ran.dispatch_count == 1
    eventually(lambda: cloud.queue(queue).succeeded)
    with pytest.raises(exceptions.NotFound):
        cloud.client.run_task(name=name)
    assert len(target.received(path)) == 1


def test_run_task_sends_a_task_again_while_it_runs(cloud: Cloud, target: Target, path: str) -> None:
    """Two dispatches run at the same time, and the task counts as done once."""
    queue = cloud.make_queue()
    gate = target.hold(path)
    name = cloud.client.create_task(parent=queue, task=task_for(target.url(path))).name
    eventually(lambda: len(target.received(path)) == 1)

    cloud.client.run_task(name=name)

    eventually(lambda: len(target.received(path)) == 2)
    gate.set()
    eventually(lambda: cloud.queue(queue).running == 0)
    assert (len(cloud.queue(queue)), cloud.queue(queue).succeeded) == (0, 1)


def test_a_purge_deletes_the_waiting_tasks(cloud: Cloud, target: Target, path: str) -> None:
    """None of them is sent, the queue shows the purge time, and it sends new tasks."""
    queue = cloud.make_queue()
    cloud.client.pause_queue(name=queue)
    for _ in range(5):
        cloud.client.create_task(parent=queue, task=task_for(target.url(path)))

    purged = cloud.client.purge_queue(name=queue)

    assert abs(purged.purge_time - datetime.now(UTC)) < timedelta(seconds=5)
    assert list(cloud.client.list_tasks(parent=queue)) == []
    cloud.client.resume_queue(name=queue)
    cloud.client.create_task(parent=queue, task=task_for(target.url(path + "/new")))
    target.wait_for(path + "/new")
    assert target.received(path) == []


def test_a_task_that_was_deleted_while_it_runs_is_not_retried(
    cloud: Cloud, target: Target, path: str
) -> None:
    """Its failure has no effect, and the task cannot be deleted twice."""
    queue = cloud.make_queue(retry_config=AT_ONCE)
    gate = target.hold(path)
    target.answer(path, 500)
    name = cloud.client.create_task(parent=queue, task=task_for(target.url(path))).name
    target.wait_for(path)

    cloud.client.delete_task(name=name)

    with pytest.raises(exceptions.NotFound):
        cloud.client.delete_task(name=name)
    gate.set()
    eventually(lambda: cloud.queue(queue).running == 0)
    let_other_tasks_pass(cloud, target)
    assert len(target.received(path)) == 1


def test_a_task_shows_its_attempts(cloud: Cloud, target: Target, path: str) -> None:
    """It has the counts, the times and status of the last attempt, and the time of the next."""
    queue = cloud.make_queue(retry_config={"min_backoff": timedelta(minutes=1)})
    target.answer(path, 429)
    name = cloud.client.create_task(parent=queue, task=task_for(target.url(path))).name
    eventually(lambda: cloud.client.get_task(name=name).response_count)

    task = cloud.client.get_task(name=name)

    assert (task.dispatch_count, task.response_count) == (1, 1)
    assert task.first_attempt.dispatch_time == task.last_attempt.dispatch_time
    assert (
        task.last_attempt.schedule_time
        <= task.last_attempt.dispatch_time
        <= task.last_attempt.response_time
    )
    assert (
        task.last_attempt.response_status.message == "RESOURCE_EXHAUSTED(8): HTTP status code 429"
    )
    assert task.schedule_time - task.last_attempt.response_time == timedelta(minutes=1)
    assert task.create_time.microsecond == 0


def test_a_task_shows_its_body_only_in_the_full_view(cloud: Cloud) -> None:
    """Create, get and list leave it out unless the caller asks for that view."""
    queue = cloud.make_queue()
    cloud.client.pause_queue(name=queue)
    created = cloud.client.create_task(
        parent=queue, task=task_for("http://127.0.0.1:9/", body=b"secret")
    )
    full = tasks_v2.Task.View.FULL

    assert created.http_request.body == b""
    assert created.view == tasks_v2.Task.View.BASIC
    assert cloud.client.get_task(name=created.name).http_request.body == b""
    shown = cloud.client.get_task(request={"name": created.name, "response_view": full})
    assert (shown.http_request.body, shown.view) == (b"secret", full)
    assert shown.http_request.headers == {"User-Agent": "Google-Cloud-Tasks"}
    (listed,) = cloud.client.list_tasks(request={"parent": queue, "response_view": full})
    assert listed == shown


def test_tasks_are_listed_in_pages(cloud: Cloud) -> None:
    """The pages have every task once; an invalid page token or size is refused."""
    queue = cloud.make_queue()
    cloud.client.pause_queue(name=queue)
    names = [
        cloud.client.create_task(parent=queue, task=task_for("http://127.0.0.1:9/")).name
        for _ in range(7)
    ]

    pages = list(cloud.client.list_tasks(request={"parent": queue, "page_size": 3}).pages)

    assert [len(page.tasks) for page in pages] == [3, 3, 1]
    assert [task.name for page in pages for task in page.tasks] == names
    for request in ({"page_token": "made up"}, {"page_size": -1}):
        with pytest.raises(exceptions.InvalidArgument):
            cloud.client.list_tasks(request={"parent": queue, **request})


def test_the_duplicate_fault_delivers_every_task_twice(target: Target, path: str) -> None:
    """Both requests are the same, and the task counts as done once; the fault can be ended."""
    with own_cloud() as cloud:
        queue = cloud.make_queue()
        cloud.server.faults.duplicate = True
        cloud.client.create_task(parent=queue, task=task_for(target.url(path), body=b"x"))
        eventually(lambda: len(target.received(path)) == 2)
        eventually(lambda: cloud.queue(queue).running == 0)

        first, second = target.received(path)
        assert (first.body, first.headers.items()) == (second.body, second.headers.items())
        assert cloud.queue(queue).succeeded == 1

        cloud.server.faults.duplicate = False
        cloud.client.create_task(parent=queue, task=task_for(target.url(path + "/after")))
        target.wait_for(path + "/after")
        let_other_tasks_pass(cloud, target)
        assert len(target.received(path + "/after")) == 1


def test_the_delay_fault_delivers_every_task_late(target: Target, path: str) -> None:
    """The delay is added to the task's time; without the fault, waiting tasks are sent at once."""
    with own_cloud() as cloud:
        queue = cloud.make_queue()
        cloud.server.faults.delay_seconds = 0.4
        due = cloud.client.create_task(parent=queue, task=task_for(target.url(path))).schedule_time
        target.wait_for(path)
        late = target.received(path)[0].at - due
        assert timedelta(seconds=0.4) <= late < timedelta(seconds=2)

        cloud.server.faults.delay_seconds = 3600
        cloud.client.create_task(parent=queue, task=task_for(target.url(path + "/waiting")))
        cloud.server.faults.delay_seconds = 0
        target.wait_for(path + "/waiting")
        with pytest.raises(ValueError, match="early"):
            cloud.server.faults.delay_seconds = -1


def test_a_lost_task_counts_as_done(target: Target, path: str) -> None:
    """The target gets no request, and the queue no longer has the task."""
    with own_cloud() as cloud:
        queue = cloud.make_queue()
        cloud.server.faults.outcomes = DeliveryOutcomes(Unreliability(lost=1))
        cloud.client.create_task(parent=queue, task=task_for(target.url(path)))
        eventually(lambda: cloud.queue(queue).succeeded == 1)
        assert list(cloud.client.list_tasks(parent=queue)) == []
        assert target.received(path) == []


def test_an_unreliable_platform_delivers_tasks_out_of_order(target: Target, path: str) -> None:
    """It delivers each task as many times as its outcome says."""
    with own_cloud() as cloud:
        queue = cloud.make_queue()
        cloud.server.faults.outcomes = DeliveryOutcomes(Unreliability(twice=1, seconds=0.5, seed=3))
        for number in range(10):
            cloud.client.create_task(
                parent=queue, task=task_for(target.url(path), body=f"{number}".encode())
            )
        eventually(lambda: len(target.received(path)) == 20)
        bodies = [received.body for received in target.received(path)]
        assert bodies != sorted(bodies)
        assert {bodies.count(body) for body in bodies} == {2}


def test_a_burst_of_a_thousand_tasks_is_delivered_once_each(
    cloud: Cloud, target: Target, path: str
) -> None:
    """No task is lost or sent twice, at the default rate of 500 a second."""
    queue = cloud.make_queue()
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(
            lambda number: cloud.client.create_task(
                parent=queue, task=task_for(target.url(path), body=str(number).encode())
            ),
            range(1000),
        ):
            pass

    eventually(lambda: cloud.queue(queue).succeeded == 1000)
    assert sorted(int(request.body) for request in target.received(path)) == list(range(1000))


def test_a_reset_deletes_tasks_and_names_but_keeps_queues(target: Target, path: str) -> None:
    """Waiting and running tasks are gone, every name is free, and the settings stay."""
    with own_cloud() as cloud:
        queue = cloud.make_queue(retry_config={"max_attempts": 3, **AT_ONCE})
        deleted = cloud.make_queue()
        cloud.client.delete_queue(name=deleted)
        gate = target.hold(path)
        target.answer(path, 500)
        running = {"name": f"{queue}/tasks/running", **task_for(target.url(path))}
        waiting = {
            **running,
            "name": f"{queue}/tasks/waiting",
            "schedule_time": datetime.now(UTC) + timedelta(hours=1),
        }
        cloud.client.create_task(parent=queue, task=running)
        cloud.client.create_task(parent=queue, task=waiting)
        target.wait_for(path)

        cloud.on_loop(cloud.server.reset)

        eventually(lambda: cloud.queue(queue).running == 0)
        gate.set()
        assert list(cloud.client.list_tasks(parent=queue)) == []
        assert cloud.client.get_queue(name=queue).retry_config.max_attempts == 3
        let_other_tasks_pass(cloud, target)
        assert len(target.received(path)) == 1
        cloud.client.create_queue(parent=LOCATION, queue={"name": deleted})
        target.answer(path, 200)
        cloud.client.create_task(parent=queue, task=running)
        eventually(lambda: len(target.received(path)) == 2)


def test_the_server_stops_at_once_while_dispatches_hang(target: Target, path: str) -> None:
    """It cancels them and releases its port."""
    with own_cloud() as cloud:
        queue = cloud.make_queue()
        target.hold(path)
        for _ in range(20):
            cloud.client.create_task(parent=queue, task=task_for(target.url(path)))
        eventually(lambda: len(target.received(path)) == 20)
        began = time.monotonic()
        cloud.close()
        assert time.monotonic() - began < 10  # the dispatches would hang for ten minutes

    with own_cloud(port=cloud.server.port) as again:
        assert again.server.address == cloud.server.address


def test_two_servers_cannot_share_a_port(cloud: Cloud) -> None:
    """The second one is refused; otherwise it would receive half of the calls."""
    with pytest.raises(RuntimeError):
        asyncio.run(CloudTasksServer(port=cloud.server.port).start())
