"""The queue of the local Cloud Tasks, its rate limits and its retry policy, on fixed times."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from localcloud.services.call_errors import AlreadyExistsError, NotFoundError
from localcloud.services.cloud_tasks.queue import TaskQueue
from localcloud.services.cloud_tasks.rate_limits import RateLimits, TokenBucket
from localcloud.services.cloud_tasks.retry_policy import RetryPolicy
from localcloud.services.cloud_tasks.scheduled_task import Answer, Attempt, ScheduledTask

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DONE = Answer(200, received=True)
FAILED = Answer(500, received=True)
NO_TIME = timedelta(0)


def seconds(number: float) -> timedelta:
    """Return that many seconds as a duration."""
    return timedelta(seconds=number)


def make_queue(
    *,
    retry: RetryPolicy | None = None,
    limits: RateLimits | None = None,
    name_retention: timedelta = timedelta(hours=1),
) -> TaskQueue:
    """Return an empty queue with the defaults for all settings that are not given."""
    return TaskQueue(
        "projects/p/locations/l/queues/q",
        retry=retry or RetryPolicy(),
        limits=limits or RateLimits(),
        name_retention=name_retention,
        now=NOW,
    )


def add_task(
    queue: TaskQueue, *, due: datetime = NOW, now: datetime = NOW, retry: RetryPolicy | None = None
) -> str:
    """Add a task with a new name and return its id."""
    task_id = str(uuid.uuid4())
    queue.add(task_id, None, schedule_time=due, retry=retry, now=now)
    return task_id


def start_dispatch(queue: TaskQueue, now: datetime = NOW) -> tuple[ScheduledTask, Attempt]:
    """Start the next dispatch, which must be due."""
    started = queue.start_due(now)
    assert started is not None
    return started


def start_all_due(queue: TaskQueue, now: datetime = NOW) -> list[str]:
    """Start all tasks that are due and return their ids in the order of their dispatches."""
    started = []
    while (next_one := queue.start_due(now)) is not None:
        started.append(next_one[0].task_id)
    return started


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        pytest.param(
            RetryPolicy(min_backoff=seconds(10), max_backoff=seconds(300), max_doublings=3),
            [10, 20, 40, 80, 160, 240, 300, 300, 300],
            id="the example in the reference of RetryConfig",
        ),
        pytest.param(
            RetryPolicy(min_backoff=seconds(1), max_backoff=seconds(60), max_doublings=6),
            [1, 2, 4, 8, 16, 32, 60, 60],
            id="the limit comes before the last doubling",
        ),
        pytest.param(
            RetryPolicy(min_backoff=seconds(2), max_backoff=seconds(100), max_doublings=0),
            [2, 4, 6, 8, 10],
            id="linear where nothing doubles",
        ),
        pytest.param(
            RetryPolicy(min_backoff=seconds(5), max_backoff=seconds(5), max_doublings=16),
            [5, 5, 5],
            id="constant where both limits are the same",
        ),
        pytest.param(RetryPolicy(), [0.1, 0.2, 0.4, 0.8, 1.6, 3.2], id="the defaults"),
    ],
)
def test_the_backoff_doubles_then_grows_linearly_up_to_its_limit(
    policy: RetryPolicy, expected: list[float]
) -> None:
    """The waits follow the curve in Cloud Tasks' documentation."""
    assert [
        policy.backoff(attempt).total_seconds() for attempt in range(1, len(expected) + 1)
    ] == pytest.approx(expected)


def test_a_backoff_stays_at_its_limit_after_a_million_attempts() -> None:
    """Neither the attempts nor the doublings overflow."""
    policy = RetryPolicy(max_attempts=-1, max_doublings=2_000_000)

    assert policy.backoff(1_000_000) == policy.max_backoff


@pytest.mark.parametrize(
    ("max_attempts", "max_retry_duration", "attempts", "age", "expected"),
    [
        (3, 0, 2, 1000, False),
        (3, 0, 3, 0, True),
        (-1, 0, 100_000, 1_000_000, False),
        (-1, 60, 1, 59, False),
        (-1, 60, 1, 60, True),
        (3, 60, 3, 59, False),
        (3, 60, 2, 61, False),
        (3, 60, 3, 60, True),
    ],
)
def test_a_task_is_given_up_when_all_its_limits_are_reached(
    max_attempts: int, max_retry_duration: int, attempts: int, age: int, expected: bool
) -> None:
    """If attempts and age are limited, both must be used up; -1 and zero mean no limit."""
    policy = RetryPolicy(max_attempts=max_attempts, max_retry_duration=seconds(max_retry_duration))

    assert (
        policy.gives_up(attempts=attempts, first_dispatch_time=NOW, now=NOW + seconds(age))
        is expected
    )


@pytest.mark.parametrize(("rate", "burst"), [(0.25, 10), (1, 10), (15, 10), (51, 11), (500, 100)])
def test_the_burst_size_is_derived_from_the_rate(rate: float, burst: int) -> None:
    """It is never below ten."""
    assert RateLimits(max_dispatches_per_second=rate).max_burst_size == burst


def test_a_full_bucket_allows_a_burst_and_then_keeps_the_rate() -> None:
    """It has ten tokens at first, and gets four more a second."""
    bucket = TokenBucket(RateLimits(max_dispatches_per_second=4), NOW)

    assert [bucket.take(NOW) for _ in range(11)] == [True] * 10 + [False]
    assert bucket.wait(NOW) == seconds(0.25)
    assert not bucket.take(NOW + seconds(0.2))
    assert bucket.take(NOW + seconds(0.25))
    assert not bucket.take(NOW + seconds(0.25))


def test_a_token_is_available_when_the_wait_is_over_at_any_rate() -> None:
    """Rounding never makes a caller wait twice."""
    for rate in (0.3, 3, 7, 33.3, 333, 499.9):
        bucket = TokenBucket(RateLimits(max_dispatches_per_second=rate), NOW)
        now = NOW
        for _ in range(500):
            now += bucket.wait(now)
            assert bucket.take(now)


def test_a_bucket_holds_no_more_than_one_burst() -> None:
    """It has no more after an hour without dispatches."""
    bucket = TokenBucket(RateLimits(max_dispatches_per_second=2), NOW)

    assert sum(bucket.take(NOW + timedelta(hours=1)) for _ in range(50)) == 10


def test_a_bucket_that_gets_smaller_loses_the_tokens_above_its_new_size() -> None:
    """The new rate applies at once."""
    bucket = TokenBucket(RateLimits(max_dispatches_per_second=500), NOW)

    bucket.resize(RateLimits(max_dispatches_per_second=1), NOW)

    assert sum(bucket.take(NOW) for _ in range(50)) == 10
    assert bucket.wait(NOW) == seconds(1)


def test_tasks_are_sent_in_the_order_of_their_due_times() -> None:
    """Tasks with the same time are sent in the order of their creation."""
    queue = make_queue()
    late = add_task(queue, due=NOW + seconds(2))
    first, second = add_task(queue), add_task(queue)
    early = add_task(queue, due=NOW - seconds(1))

    assert start_all_due(queue) == [early, first, second]
    assert queue.wait(NOW) == seconds(2)
    assert start_all_due(queue, NOW + seconds(2)) == [late]
    assert queue.wait(NOW) is None


def test_lateness_delays_every_task() -> None:
    """The wait until the next dispatch includes the delay."""
    queue = make_queue()
    add_task(queue)

    assert queue.start_due(NOW + seconds(4), lateness=seconds(5)) is None
    assert queue.wait(NOW + seconds(4), lateness=seconds(5)) == seconds(1)
    assert queue.start_due(NOW + seconds(5), lateness=seconds(5)) is not None


def test_a_queue_limits_its_concurrent_dispatches() -> None:
    """At the limit there is no wait, since only the end of a dispatch allows the next."""
    queue = make_queue(limits=RateLimits(max_concurrent_dispatches=2))
    for _ in range(3):
        add_task(queue)
    task, attempt = start_dispatch(queue)
    start_dispatch(queue)

    assert queue.start_due(NOW) is None
    assert queue.wait(NOW) is None

    queue.finish(task, attempt, DONE, NOW)
    assert queue.wait(NOW) == NO_TIME
    assert queue.start_due(NOW) is not None


def test_a_paused_queue_sends_only_forced_runs() -> None:
    """A forced run is one that a caller asks for by the task's name."""
    queue = make_queue()
    task_id = add_task(queue)
    queue.paused = True

    assert queue.start_due(NOW) is None
    assert queue.wait(NOW) is None
    assert queue.start_now(task_id, NOW)[0].task_id == task_id


def test_a_failed_task_is_due_again_after_its_backoff() -> None:
    """The wait begins at the failure and doubles; an attempt has the counts of those before it."""
    queue = make_queue(retry=RetryPolicy(min_backoff=seconds(1)))
    add_task(queue)
    task, attempt = start_dispatch(queue)
    assert (attempt.retry_count, attempt.execution_count, attempt.previous_response) == (0, 0, None)

    queue.finish(task, attempt, Answer(503, received=True), NOW + seconds(3))
    assert queue.start_due(NOW + seconds(3.9)) is None
    task, attempt = start_dispatch(queue, NOW + seconds(4))
    assert (attempt.retry_count, attempt.execution_count, attempt.previous_response) == (1, 0, 503)

    queue.finish(task, attempt, Answer(404, received=True), NOW + seconds(4))
    assert queue.wait(NOW + seconds(4)) == seconds(2)
    task, attempt = start_dispatch(queue, NOW + seconds(6))
    assert (attempt.retry_count, attempt.execution_count, attempt.previous_response) == (2, 1, 404)
    assert (task.dispatch_count, task.response_count) == (3, 2)


def test_an_attempt_without_an_answer_does_not_count_as_a_response() -> None:
    """It may have met its deadline or a refused connection."""
    queue = make_queue()
    add_task(queue)
    task, attempt = start_dispatch(queue)

    queue.finish(task, attempt, Answer(504, received=False), NOW)

    assert (task.dispatch_count, task.response_count, task.execution_count) == (1, 0, 0)
    assert attempt.response_time is None


def test_a_task_that_succeeds_is_deleted_but_its_name_stays_taken() -> None:
    """Until the name is free, the task can be neither read nor created again."""
    queue = make_queue(name_retention=seconds(60))
    task_id = add_task(queue)
    queue.finish(*start_dispatch(queue), DONE, NOW)

    assert (len(queue), queue.succeeded) == (0, 1)
    with pytest.raises(NotFoundError, match="existed recently"):
        queue.get(task_id, NOW + seconds(59))
    with pytest.raises(AlreadyExistsError, match="too recently"):
        queue.add(task_id, None, schedule_time=NOW, retry=None, now=NOW + seconds(59))
    with pytest.raises(NotFoundError, match="Requested entity was not found"):
        queue.get(task_id, NOW + seconds(60))
    assert (
        queue.add(task_id, None, schedule_time=NOW, retry=None, now=NOW + seconds(60)).task_id
        == task_id
    )


def test_a_waiting_task_cannot_be_created_again() -> None:
    """Its name is taken."""
    queue = make_queue()
    task_id = add_task(queue)

    with pytest.raises(AlreadyExistsError, match="already exists"):
        queue.add(task_id, None, schedule_time=NOW, retry=None, now=NOW)


def test_a_task_is_given_up_after_its_last_attempt() -> None:
    """The task is deleted, but its name stays taken."""
    queue = make_queue(retry=RetryPolicy(max_attempts=2, min_backoff=NO_TIME))
    task_id = add_task(queue)
    queue.finish(*start_dispatch(queue), FAILED, NOW)
    queue.finish(*start_dispatch(queue), FAILED, NOW)

    assert (len(queue), queue.given_up) == (0, 1)
    with pytest.raises(AlreadyExistsError):
        queue.add(task_id, None, schedule_time=NOW, retry=None, now=NOW)


def test_the_retry_policy_of_a_task_takes_precedence_over_its_queues() -> None:
    """The task is given up at its own limit, although the queue has none."""
    queue = make_queue(retry=RetryPolicy(max_attempts=-1))
    add_task(queue, retry=RetryPolicy(max_attempts=1))

    queue.finish(*start_dispatch(queue), FAILED, NOW)

    assert queue.given_up == 1


def test_a_task_that_was_deleted_or_purged_during_its_dispatch_is_not_retried() -> None:
    """Its answer changes only the number of running dispatches."""
    queue = make_queue()
    deleted = add_task(queue)
    add_task(queue)
    under_way = [start_dispatch(queue), start_dispatch(queue)]
    queue.delete(deleted, NOW)
    queue.purge(NOW)

    for task, attempt in under_way:
        queue.finish(task, attempt, FAILED, NOW)

    assert (len(queue), queue.running, queue.wait(NOW)) == (0, 0, None)
    assert queue.purged_at == NOW


def test_a_forced_run_replaces_the_scheduled_one() -> None:
    """The task is not sent at its due time, and its backoff counts from the forced run."""
    queue = make_queue(retry=RetryPolicy(min_backoff=seconds(5)))
    task_id = add_task(queue, due=NOW + seconds(60))

    task, attempt = queue.start_now(task_id, NOW)
    assert queue.wait(NOW) is None

    queue.finish(task, attempt, FAILED, NOW + seconds(2))
    assert task.schedule_time == NOW + seconds(5)


def test_forget_frees_every_task_name() -> None:
    """Waiting and finished tasks can be created again."""
    queue = make_queue()
    done, pending = add_task(queue), add_task(queue)
    queue.finish(*start_dispatch(queue), DONE, NOW)

    queue.forget()

    for task_id in (done, pending):
        queue.add(task_id, None, schedule_time=NOW, retry=None, now=NOW)
    assert start_all_due(queue) == [done, pending]


def test_pages_list_the_tasks_in_the_order_of_their_creation() -> None:
    """Each page begins after the last number of the page before."""
    queue = make_queue()
    task_ids = [add_task(queue) for _ in range(5)]

    first = queue.page(after=0, size=3)
    second = queue.page(after=first[-1].number, size=3)

    assert [task.task_id for task in first + second] == task_ids


class CountedTime(datetime):
    """A time that counts how often times are compared."""

    comparisons = 0

    def __lt__(self, other: object) -> Any:
        CountedTime.comparisons += 1
        return super().__lt__(other)  # type: ignore[operator]

    def __eq__(self, other: object) -> bool:
        CountedTime.comparisons += 1
        return super().__eq__(other)

    __hash__ = datetime.__hash__


def test_the_work_for_a_backlog_is_nearly_linear_in_its_length() -> None:
    """Ten times as many tasks need less than 20 times as many comparisons of their times."""

    def work_off(tasks: int) -> int:
        queue = make_queue(
            limits=RateLimits(max_dispatches_per_second=500, max_concurrent_dispatches=5000)
        )
        now: datetime = CountedTime(2026, 3, 1, 12, tzinfo=UTC)
        CountedTime.comparisons = 0
        for number in range(tasks):
            add_task(queue, due=now - timedelta(microseconds=number * 7919 % tasks), now=now)
        while len(queue):
            now += queue.wait(now) or NO_TIME
            queue.finish(*start_dispatch(queue, now), DONE, now)
        return CountedTime.comparisons

    few, many = work_off(1_000), work_off(10_000)
    assert few > 1_000
    assert many < 20 * few
