"""Transactions: what each has read, and whether that still holds when it commits.

They are optimistic: nobody waits for anybody. A transaction that has read what has changed since
then is refused with ABORTED, by its commit or already by its next read, and the client library runs
it again. So all that a transaction reads is from one moment. A read-only transaction reads the
documents as they were when it began.

Production's transactions of server libraries lock what they read instead, and a write of others
waits for them; the outcome of a conflict is ABORTED as well. Its text is production's:
flutter/flutter issue 189161. Source for the limits of time: "Transactions and batched writes".
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from localcloud.services.firestore.database import Database
from localcloud.services.firestore.errors import AbortedError, InvalidArgumentError
from localcloud.services.firestore.query import Query

LONGEST_US = 270_000_000
LONGEST_IDLE_US = 60_000_000

_CONTENTION = (
    "Aborted due to cross-transaction contention. This occurs when multiple transactions attempt "
    "to access the same data, requiring Firestore to abort at least one in order to enforce "
    "serializability."
)

Version = tuple[str, int]


@dataclass
class Transaction:
    """A transaction that has neither ended nor expired.

    Attributes:
        database: the database's name.
        snapshot: what a read-only transaction reads; None for one that may write.
        began_us: when it began.
        used_us: when it was last used.
        reads: the version of each path that it has read; None if there was no document.
        queries: each query that it has made, with the versions that it found.
    """

    database: str
    snapshot: Database | None
    began_us: int
    used_us: int
    reads: dict[str, int | None] = field(default_factory=dict)
    queries: list[tuple[Query, list[Version]]] = field(default_factory=list)

    def check(self, documents: Database) -> None:
        """Check that what it has read has not changed.

        Raises:
            AbortedError: it has.
        """
        if self.snapshot is not None:
            return
        for path, version in self.reads.items():
            stored = documents.documents.get(path)
            if (stored.update_us if stored else None) != version:
                raise AbortedError(_CONTENTION)
        for query, versions in self.queries:
            if versions_found(query, documents) != versions:
                raise AbortedError(_CONTENTION)


class Transactions:
    """The transactions of all databases.

    Args:
        now_us: returns the time.
    """

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._open: dict[bytes, Transaction] = {}

    def begin(self, database: str, options: Any, documents: Database) -> bytes:
        """Begin a transaction, and return its id.

        Args:
            database: the database's name.
            options: a ``TransactionOptions`` message; by default the transaction may write.
            documents: the database.
        """
        now = self._now_us()
        self._forget_expired(now)
        is_read_only = options.WhichOneof("mode") == "read_only"
        if is_read_only and options.read_only.HasField("read_time"):
            raise InvalidArgumentError("Reads at an earlier time are not supported here.")
        transaction_id = secrets.token_bytes(16)
        snapshot = documents.snapshot() if is_read_only else None
        self._open[transaction_id] = Transaction(database, snapshot, now, now)
        return transaction_id

    def get(self, transaction_id: bytes, database: str) -> Transaction:
        """Return a transaction of a database.

        Raises:
            InvalidArgumentError: there is no such transaction, or no longer.
        """
        now = self._now_us()
        self._forget_expired(now)
        transaction = self._open.get(transaction_id)
        if transaction is None or transaction.database != database:
            raise InvalidArgumentError(
                "The referenced transaction has expired or is no longer valid."
            )
        transaction.used_us = now
        return transaction

    def end(self, transaction_id: bytes) -> None:
        """Forget a transaction."""
        self._open.pop(transaction_id, None)

    def clear(self) -> None:
        """Forget all transactions."""
        self._open.clear()

    def _forget_expired(self, now: int) -> None:
        expired = [
            transaction_id
            for transaction_id, transaction in self._open.items()
            if now - transaction.began_us > LONGEST_US
            or now - transaction.used_us > LONGEST_IDLE_US
        ]
        for transaction_id in expired:
            del self._open[transaction_id]


def versions_found(query: Query, documents: Database) -> list[Version]:
    """Return the versions of the documents that a query finds, in its order."""
    return [(document.path, document.update_us) for document in query.run(documents)]
