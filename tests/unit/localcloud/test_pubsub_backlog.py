"""The backlog of a subscription of the local Pub/Sub, and its backoffs, on fixed times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google import pubsub_v1

from localcloud.services.pubsub.backlog import Backlog, Delivery, DeliveryRules
from localcloud.services.pubsub.retries import AT_ONCE, PushPace, RetryPolicy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEASE = timedelta(seconds=10)


def seconds(number: float) -> timedelta:
    """Return that many seconds as a duration."""
    return timedelta(seconds=number)


class Subscriber:
    """A backlog, the subscriber that takes from it, and a place for its dead letters."""

    def __init__(
        self,
        *,
        retry: RetryPolicy = AT_ONCE,
        max_attempts: int | None = None,
        retention: timedelta = timedelta(days=7),
        ordered: bool = False,
    ) -> None:
        self.dead: list[str] = []
        self.takes_dead_letters = True
        rules = DeliveryRules(
            retry=retry, max_attempts=max_attempts, retention=retention, ordered=ordered
        )
        self.backlog = Backlog(rules, self._bury)

    def _bury(self, delivery: Delivery) -> bool:
        if self.takes_dead_letters:
            self.dead.append(f"{delivery.message.data.decode()} after {delivery.attempt}")
        return self.takes_dead_letters

    def publish(self, *texts: str, key: str = "", now: datetime = NOW) -> None:
        """Publish messages with these texts, and this ordering key."""
        for text in texts:
            message = pubsub_v1.PubsubMessage.pb()(data=text.encode(), ordering_key=key)
            self.backlog.add(message, now)

    def take(self, now: datetime = NOW, lease: timedelta | None = LEASE) -> Delivery:
        """Take the next message, which must be due."""
        taken = self.backlog.take(now, lease)
        assert taken is not None
        return taken

    def take_all(self, now: datetime = NOW) -> list[str]:
        """Take all messages that are due and return their texts."""
        texts = []
        while (taken := self.backlog.take(now, LEASE)) is not None:
            texts.append(taken.message.data.decode())
        return texts

    def nack(self, delivery: Delivery, now: datetime = NOW) -> None:
        """Let a delivery fail."""
        assert delivery.ticket is not None
        self.backlog.nack(delivery.ticket, now)

    def acknowledge(self, delivery: Delivery, now: datetime = NOW) -> None:
        """Acknowledge a delivery."""
        assert delivery.ticket is not None
        self.backlog.acknowledge(delivery.ticket, now)

    def waits(self, failures: int) -> list[float]:
        """Nack a message that often, each time when it is due; return the waits in seconds."""
        self.publish("unwanted")
        now, waits = NOW, []
        for _ in range(failures):
            self.nack(self.take(now), now)
            due = self.backlog.next_due(now)
            assert due is not None
            waits.append((due - now).total_seconds())
            now = due
        return waits


# When a message comes


def test_messages_come_in_the_order_of_publication_and_only_once() -> None:
    """What is delivered does not come again while its deadline has not passed."""
    subscriber = Subscriber()
    subscriber.publish("a", "b", "c")
    assert subscriber.take_all() == ["a", "b", "c"]
    assert subscriber.take_all(NOW + seconds(9.9)) == []


def test_an_acknowledged_message_never_comes_again() -> None:
    """It is gone, and nothing is planned for it."""
    subscriber = Subscriber()
    subscriber.publish("a")
    subscriber.acknowledge(subscriber.take())
    subscriber.backlog.expire(NOW + timedelta(days=1))
    assert len(subscriber.backlog) == 0
    assert (subscriber.backlog.next_due(NOW), subscriber.backlog.next_end()) == (None, None)


def test_a_message_comes_again_when_its_deadline_has_passed() -> None:
    """Not before it, and with the next number of delivery."""
    subscriber = Subscriber()
    subscriber.publish("a")
    first = subscriber.take()
    assert (first.attempt, subscriber.backlog.next_end()) == (1, NOW + LEASE)
    subscriber.backlog.expire(NOW + LEASE - seconds(0.001))
    assert subscriber.backlog.take(NOW + LEASE, LEASE) is None
    subscriber.backlog.expire(NOW + LEASE)
    assert subscriber.take(NOW + LEASE).attempt == 2


def test_a_push_has_no_deadline_of_its_own() -> None:
    """Its HTTP request has one. Nothing else may push the message meanwhile."""
    subscriber = Subscriber()
    subscriber.publish("a")
    subscriber.take(lease=None)
    subscriber.backlog.expire(NOW + timedelta(days=1))
    assert subscriber.take_all(NOW + timedelta(days=1)) == []


def test_an_extended_deadline_replaces_the_first_one() -> None:
    """It may be longer or shorter, and counts from the call."""
    subscriber = Subscriber()
    subscriber.publish("longer", "shorter")
    longer, shorter = subscriber.take(), subscriber.take()
    assert longer.ticket
    assert shorter.ticket
    subscriber.backlog.extend(longer.ticket, seconds(60), NOW + seconds(5))
    subscriber.backlog.extend(shorter.ticket, seconds(1), NOW + seconds(5))
    subscriber.backlog.expire(NOW + seconds(64.9))
    assert subscriber.take_all(NOW + seconds(64.9)) == ["shorter"]
    subscriber.backlog.expire(NOW + seconds(65))
    assert subscriber.take_all(NOW + seconds(65)) == ["longer"]


def test_a_late_acknowledgement_counts_until_the_message_comes_again() -> None:
    """Afterwards the new delivery decides: the reference says that a late one "may succeed"."""
    subscriber = Subscriber()
    subscriber.publish("in time", "too late")
    in_time, too_late = subscriber.take(), subscriber.take()
    first_ticket = too_late.ticket
    assert first_ticket
    subscriber.backlog.expire(NOW + LEASE)
    subscriber.acknowledge(in_time, NOW + LEASE)
    assert subscriber.take_all(NOW + LEASE) == ["too late"]
    subscriber.backlog.acknowledge(first_ticket, NOW + LEASE)
    subscriber.backlog.nack(first_ticket, NOW + LEASE)
    assert (len(subscriber.backlog), subscriber.take_all(NOW + LEASE)) == (1, [])


def test_a_nack_after_the_deadline_is_not_a_second_failure() -> None:
    """Otherwise a slow subscriber would use up two delivery attempts at a time."""
    subscriber = Subscriber()
    subscriber.publish("a")
    first = subscriber.take()
    subscriber.backlog.expire(NOW + LEASE)
    subscriber.nack(first, NOW + LEASE)
    assert subscriber.take(NOW + LEASE).attempt == 2


def test_lateness_delays_what_waits_already() -> None:
    """The fault of late delivery applies to every due time."""
    subscriber = Subscriber()
    subscriber.publish("a")
    assert subscriber.backlog.take(NOW + seconds(1), None, seconds(2)) is None
    assert subscriber.backlog.take(NOW + seconds(2), None, seconds(2)) is not None


def test_a_message_is_dropped_at_the_end_of_its_retention() -> None:
    """Whether or not it was delivered; a message that is younger is kept."""
    subscriber = Subscriber(retention=timedelta(minutes=10))
    subscriber.publish("old")
    subscriber.nack(subscriber.take())
    subscriber.publish("young", now=NOW + timedelta(minutes=1))
    assert subscriber.take_all(NOW + timedelta(minutes=10)) == ["young"]
    assert len(subscriber.backlog) == 1


def test_clear_forgets_everything_and_ignores_what_was_under_way() -> None:
    """The end of a push of before counts for nothing, and new messages come as ever."""
    subscriber = Subscriber(ordered=True)
    subscriber.publish("a", "b", key="k")
    before = subscriber.take()
    subscriber.backlog.clear()
    subscriber.nack(before)
    subscriber.acknowledge(before)
    subscriber.publish("c", key="k")
    assert subscriber.take_all() == ["c"]


# How long it waits after a failure


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (RetryPolicy(), [10, 20, 40, 80, 160, 320, 600, 600]),
        (RetryPolicy(seconds(2), seconds(120)), [2, 4, 8, 16, 32, 64, 120, 120]),
        (RetryPolicy(seconds(0), seconds(600)), [0, 0, 0]),
        (AT_ONCE, [0, 0, 0]),
    ],
    ids=["the defaults", "the catalogue's", "no minimum", "no policy"],
)
def test_the_wait_doubles_up_to_the_maximum(policy: RetryPolicy, expected: list[float]) -> None:
    """It grows for each failure of the same message."""
    assert Subscriber(retry=policy).waits(len(expected)) == expected


def test_a_passed_deadline_waits_as_a_nack_does() -> None:
    """The reference of RetryPolicy names both."""
    subscriber = Subscriber(retry=RetryPolicy(seconds(2), seconds(120)))
    subscriber.publish("a")
    subscriber.take()
    subscriber.backlog.expire(NOW + LEASE)
    assert subscriber.backlog.next_due(NOW + LEASE) == NOW + LEASE + seconds(2)


def test_one_failing_message_does_not_hold_up_the_others() -> None:
    """The wait is the message's own."""
    subscriber = Subscriber(retry=RetryPolicy())
    subscriber.publish("failing", "fine")
    subscriber.nack(subscriber.take())
    assert subscriber.take_all() == ["fine"]


def test_thousands_of_failures_give_no_number_that_is_too_large() -> None:
    """A message may fail for 31 days."""
    assert RetryPolicy().backoff(100_000) == seconds(600)


def test_the_pause_after_failed_pushes_grows_to_a_minute_and_ends_with_a_success() -> None:
    """So an endpoint that always fails gets a push a minute, not a storm of them."""
    pace, now, pauses = PushPace(limit=100), NOW, []
    for _ in range(12):
        pace.failed(now)
        wait = pace.wait(now)
        assert wait is not None
        pauses.append(wait.total_seconds())
        now += wait
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60]
    pace.succeeded()
    assert pace.wait(now) == seconds(0)


def test_pushes_that_fail_together_make_one_pause() -> None:
    """A hundred failures of one moment say no more than one of them."""
    pace = PushPace(limit=100)
    for _ in range(100):
        pace.failed(NOW)
    assert pace.wait(NOW) == seconds(0.1)


def test_no_more_pushes_than_the_limit_are_under_way() -> None:
    """The next one waits for an end, not for a time."""
    pace = PushPace(limit=2)
    pace.running = 2
    assert pace.wait(NOW) is None
    pace.running = 1
    assert pace.wait(NOW) == seconds(0)


# Dead letters


def test_a_message_is_a_dead_letter_after_its_last_attempt() -> None:
    """It is delivered as often as the policy says, counting nacks and deadlines, and no more."""
    subscriber, now = Subscriber(max_attempts=5), NOW
    subscriber.publish("a")
    for attempt in range(1, 6):
        assert subscriber.dead == []
        delivery = subscriber.take(now)
        assert delivery.attempt == attempt
        if attempt % 2:
            subscriber.nack(delivery, now)
        else:
            now += LEASE
            subscriber.backlog.expire(now)
    assert (subscriber.dead, len(subscriber.backlog)) == (["a after 5"], 0)
    assert subscriber.take_all(now + timedelta(hours=1)) == []


def test_a_message_that_cannot_become_a_dead_letter_is_kept() -> None:
    """Its topic is gone: it comes again until it is acknowledged, or the topic is back."""
    subscriber, now = Subscriber(max_attempts=5, retry=RetryPolicy(seconds(1), seconds(8))), NOW
    subscriber.takes_dead_letters = False
    subscriber.publish("a")
    for attempt in range(1, 8):
        delivery = subscriber.take(now)
        assert delivery.attempt == attempt
        subscriber.nack(delivery, now)
        now = subscriber.backlog.next_due(now) or now
    subscriber.takes_dead_letters = True
    subscriber.nack(subscriber.take(now), now)
    assert (subscriber.dead, len(subscriber.backlog)) == (["a after 8"], 0)


def test_an_acknowledgement_of_the_last_attempt_leaves_no_dead_letter() -> None:
    """Only a failure of it does."""
    subscriber = Subscriber(max_attempts=5)
    subscriber.publish("a")
    for _ in range(4):
        subscriber.nack(subscriber.take())
    subscriber.acknowledge(subscriber.take())
    assert (subscriber.dead, len(subscriber.backlog)) == ([], 0)


def test_a_lower_limit_counts_for_messages_that_have_failed_before() -> None:
    """Their next failure is the last one."""
    subscriber = Subscriber(max_attempts=100)
    subscriber.publish("a")
    for _ in range(7):
        subscriber.nack(subscriber.take())
    subscriber.backlog.rules = DeliveryRules(
        retry=AT_ONCE, max_attempts=5, retention=timedelta(days=7), ordered=False
    )
    subscriber.nack(subscriber.take())
    assert subscriber.dead == ["a after 8"]


# Ordering keys


def test_messages_of_a_key_come_one_after_the_other() -> None:
    """The next one comes when the one before is acknowledged; other keys do not wait."""
    subscriber = Subscriber(ordered=True)
    subscriber.publish("a1", "a2", key="a")
    subscriber.publish("b1", key="b")
    subscriber.publish("free")
    first = subscriber.take()
    assert first.message.data == b"a1"
    assert subscriber.take_all() == ["b1", "free"]
    subscriber.acknowledge(first)
    assert subscriber.take_all() == ["a2"]


def test_a_failing_message_holds_up_its_key() -> None:
    """Order comes before speed, also while it waits for its retry."""
    subscriber = Subscriber(ordered=True, retry=RetryPolicy(seconds(10), seconds(10)))
    subscriber.publish("a1", "a2", key="a")
    subscriber.nack(subscriber.take())
    assert subscriber.take_all(NOW + seconds(9)) == []
    assert subscriber.take_all(NOW + seconds(10)) == ["a1"]


@pytest.mark.parametrize("end", ["dead letter", "retention"])
def test_a_key_goes_on_after_a_message_that_is_gone(end: str) -> None:
    """A dead letter or the end of its retention lets the next one through."""
    subscriber = Subscriber(ordered=True, max_attempts=5, retention=timedelta(minutes=10))
    subscriber.publish("a1", key="a")
    subscriber.publish("a2", key="a", now=NOW + timedelta(minutes=5))
    now = NOW + timedelta(minutes=5)
    if end == "dead letter":
        for _ in range(5):
            subscriber.nack(subscriber.take(now), now)
    else:
        now = NOW + timedelta(minutes=10)
    assert subscriber.take_all(now) == ["a2"]


def test_without_ordering_keys_mean_nothing() -> None:
    """All messages come at once."""
    subscriber = Subscriber()
    subscriber.publish("a1", "a2", key="a")
    assert subscriber.take_all() == ["a1", "a2"]
