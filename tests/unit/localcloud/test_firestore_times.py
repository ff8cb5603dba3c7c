"""What the local Firestore does by the clock: versions, expiry, and the end of transactions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from localcloud.services.call_errors import InvalidArgumentError, NotFoundError
from localcloud.services.firestore import messages, times
from localcloud.services.firestore.indexes import Indexes
from localcloud.services.firestore.service import FirestoreService
from tests.firestore_calls import value

DATABASE = "projects/p/databases/(default)"
NAME = f"{DATABASE}/documents/c/d"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Subject:
    """A Firestore whose time the test sets."""

    def __init__(self) -> None:
        self.now = NOW
        self.service = FirestoreService(
            Indexes(ttl=frozenset({("c", "at")})),
            now_us=lambda: round(self.now.timestamp() * 1_000_000),
        )

    def set(self, at: Any) -> Any:
        """Write a document with a TTL field, and return its version."""
        request = messages.CommitRequest(database=DATABASE)
        write = request.writes.add()
        write.update.name = NAME
        write.update.fields["at"].CopyFrom(value(at))
        return self.service.commit(request).commit_time

    def exists(self) -> bool:
        """Return whether the document exists."""
        try:
            self.service.get_document(messages.GetDocumentRequest(name=NAME))
        except NotFoundError:
            return False
        return True

    def begin(self) -> bytes:
        """Begin a transaction."""
        request = messages.BeginTransactionRequest(database=DATABASE)
        transaction: bytes = self.service.begin_transaction(request).transaction
        return transaction

    def read(self, transaction: bytes) -> None:
        """Use a transaction."""
        request = messages.BatchGetDocumentsRequest(database=DATABASE, documents=[NAME])
        request.transaction = transaction
        list(self.service.batch_get_documents(request))


@pytest.fixture
def subject() -> Subject:
    """An empty Firestore."""
    return Subject()


def test_versions_rise_while_the_clock_stands_still_or_goes_back(subject: Subject) -> None:
    """Each by at least a microsecond; a clear does not start again."""
    versions = [times.as_us(subject.set(number)) for number in range(3)]
    subject.now -= SECOND
    versions.append(times.as_us(subject.set(4)))
    subject.service.clear()
    versions.append(times.as_us(subject.set(5)))
    first = round(NOW.timestamp() * 1_000_000)
    assert versions == [first, first + 1, first + 2, first + 3, first + 4]


def test_a_document_is_deleted_when_it_has_expired(subject: Subject) -> None:
    """Not before, and not before a sweep."""
    subject.set(NOW + SECOND)
    subject.service.expire()
    assert subject.exists()
    subject.now += SECOND
    assert subject.exists()
    subject.service.expire()
    assert not subject.exists()


@pytest.mark.parametrize("changed", [NOW + 3 * SECOND, "a text", None])
def test_the_last_time_of_a_document_counts(subject: Subject, changed: Any) -> None:
    """One that was put off or taken away deletes nothing."""
    subject.set(NOW + SECOND)
    subject.set(changed)
    subject.now += 2 * SECOND
    subject.service.expire()
    assert subject.exists()
    subject.now += 2 * SECOND
    subject.service.expire()
    assert subject.exists() == (changed != NOW + 3 * SECOND)


def test_a_transaction_ends_when_it_is_not_used_for_a_minute(subject: Subject) -> None:
    """Its use makes the minute begin again."""
    used, unused = subject.begin(), subject.begin()
    subject.now += 50 * SECOND
    subject.read(used)
    subject.now += 50 * SECOND
    subject.read(used)
    with pytest.raises(InvalidArgumentError, match="expired or is no longer valid"):
        subject.read(unused)


def test_a_transaction_ends_after_270_seconds(subject: Subject) -> None:
    """However often it is used."""
    transaction = subject.begin()
    for _ in range(6):
        subject.now += 45 * SECOND
        subject.read(transaction)
    subject.now += SECOND
    with pytest.raises(InvalidArgumentError, match="expired or is no longer valid"):
        subject.read(transaction)
