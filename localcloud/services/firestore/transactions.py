"""Transactions: what each sees and has read, and whether that still holds when it commits.

They are optimistic: nobody waits for anybody. A transaction sees the documents as they were at its
first read. If anything that it has read has changed by its commit, the commit is refused with
ABORTED, and the client library runs the transaction again: it repeats commits, but no reads. A
read-only transaction is never refused.

Production's transactions of server libraries lock what they read instead, and a write of others
waits for them; the outcome of a conflict is ABORTED as well. The text is production's:
flutter/flutter issue 189161. Source for the limits of time: "Transactions and batched writes".
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localcloud.services.call_errors import (
    AbortedError,
    InvalidArgumentError,
    UnimplementedError,
)
from localcloud.services.firestore.database import Database
from localcloud.services.firestore.document import StoredDocument
from localcloud.services.firestore.query import Query

LONGEST_US = 270_000_000
LONGEST_IDLE_US = 60_000_000
_ID_BYTES = 16

_CONTENTION = (
    "Aborted due to cross-transaction contention. This occurs when multiple transactions attempt "
    "to access the same data, requiring Firestore to abort at least one in order to enforce "
    "serializability."
)

_INVALID = "The referenced transaction has expired or is no longer valid."

Versions = Mapping[str, StoredDocument | None]


@dataclass
class Transaction:
    """A transaction that has neither ended nor expired.

    Attributes:
        database: the database's name.
        is_read_only: whether it may not write.
        began_us: when it began.
        used_us: when it was last used.
        is_over: whether its commit was refused: it can only be rolled back.
    """

    database: str
    is_read_only: bool
    began_us: int
    used_us: int
    is_over: bool = False
    _has_read: bool = False
    _replaced: dict[str, StoredDocument | None] = field(default_factory=dict)
    _paths: set[str] = field(default_factory=set)
    _queries: list[tuple[Query, list[StoredDocument]]] = field(default_factory=list)

    def read(self, path: str, documents: Database) -> StoredDocument | None:
        """Return a document as the transaction sees it."""
        self._has_read = True
        self._paths.add(path)
        if path in self._replaced:
            return self._replaced[path]
        return documents.documents.get(path)

    def view(self, documents: Database) -> Database:
        """Return the documents as the transaction sees them."""
        self._has_read = True
        if not self._replaced:
            return documents
        seen = {**documents.documents, **self._replaced}
        return Database(document for document in seen.values() if document is not None)

    def run(self, query: Query, documents: Database) -> list[StoredDocument]:
        """Return what a query finds as the transaction sees the documents."""
        found = list(query.run(self.view(documents)))
        self._queries.append((query, found))
        return found

    def note(self, replaced: Versions) -> None:
        """Take notice of a commit of others: the versions that it has replaced, by path."""
        if self._has_read:
            self._replaced = {**replaced, **self._replaced}

    def check(self, documents: Database) -> None:
        """Check that what it has read has not changed.

        Raises:
            AbortedError: it has.
        """
        if not self._replaced or self.is_read_only:
            return
        if self._paths & self._replaced.keys():
            raise AbortedError(_CONTENTION)
        for query, found in self._queries:
            if list(query.run(documents)) != found:
                raise AbortedError(_CONTENTION)


class Transactions:
    """The transactions of all databases.

    Args:
        now_us: returns the time.
    """

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._open: dict[bytes, Transaction] = {}

    def begin(self, database: str, options: Any) -> bytes:
        """Begin a transaction, and return its id.

        Args:
            database: the database's name.
            options: a ``TransactionOptions`` message; by default the transaction may write.
        """
        is_read_only = options.WhichOneof("mode") == "read_only"
        if is_read_only and options.read_only.HasField("read_time"):
            raise UnimplementedError("Reads at an earlier time are not supported here.")
        self.forget_expired()
        transaction_id = secrets.token_bytes(_ID_BYTES)
        now = self._now_us()
        self._open[transaction_id] = Transaction(database, is_read_only, now, now)
        return transaction_id

    def get(self, transaction_id: bytes, database: str) -> Transaction:
        """Return a transaction of a database.

        Raises:
            InvalidArgumentError: there is no such transaction, or it is over.
        """
        transaction = self._find(transaction_id, database)
        if transaction.is_over:
            raise InvalidArgumentError(_INVALID)
        transaction.used_us = self._now_us()
        return transaction

    def end(self, transaction_id: bytes, database: str) -> None:
        """Forget a transaction, whether it is over or not.

        Raises:
            InvalidArgumentError: there is no such transaction, or no longer.
        """
        self._find(transaction_id, database)
        del self._open[transaction_id]

    def _find(self, transaction_id: bytes, database: str) -> Transaction:
        self.forget_expired()
        if len(transaction_id) != _ID_BYTES:
            raise InvalidArgumentError("Invalid transaction.")
        transaction = self._open.get(transaction_id)
        if transaction is None or transaction.database != database:
            raise InvalidArgumentError(_INVALID)
        return transaction

    def note(self, database: str, replaced: Versions) -> None:
        """Tell the transactions of a database which versions a commit has replaced."""
        for transaction in self._open.values():
            if transaction.database == database:
                transaction.note(replaced)

    def clear(self) -> None:
        """Forget all transactions."""
        self._open.clear()

    def forget_expired(self) -> None:
        """Forget the transactions that are too old, or that nobody has used for too long."""
        now = self._now_us()
        expired = [
            transaction_id
            for transaction_id, transaction in self._open.items()
            if now > min(transaction.began_us + LONGEST_US, transaction.used_us + LONGEST_IDLE_US)
        ]
        for transaction_id in expired:
            del self._open[transaction_id]
