"""All databases, and the one way to change them: a commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from localcloud.services.firestore.database import Database
from localcloud.services.firestore.document import StoredDocument
from localcloud.services.firestore.expiry import Expiry
from localcloud.services.firestore.indexes import Indexes
from localcloud.services.firestore.transactions import Transactions
from localcloud.services.firestore.writes import Writer, check_write


class Store:
    """All databases; each is made when it is first named.

    Args:
        indexes: the indexes of every database.
        now_us: returns the time.

    Attributes:
        indexes: the indexes.
        transactions: the transactions that are open.
    """

    def __init__(self, indexes: Indexes, now_us: Callable[[], int]) -> None:
        self.indexes = indexes
        self.transactions = Transactions(now_us)
        self._now_us = now_us
        self._databases: dict[str, Database] = {}
        self._expiry = Expiry(indexes)
        self._last_us = 0

    def database(self, name: str) -> Database:
        """Return a database."""
        found = self._databases.get(name)
        if found is None:
            found = self._databases[name] = Database()
        return found

    def read_us(self) -> int:
        """Return the time of a read: not before that of the last commit."""
        return max(self._now_us(), self._last_us)

    def commit(self, database: str, writes: Sequence[Any]) -> tuple[int, list[Any]]:
        """Make all ``Write`` messages or none; return the time and the ``WriteResult`` messages.

        Times of commits rise strictly, also within a microsecond.

        Raises:
            CallError: a write is refused. Nothing is changed.
        """
        for write in writes:
            check_write(write, database)
        documents = self.database(database)
        commit_us = max(self._now_us(), self._last_us + 1)
        writer = Writer(database, documents.documents.get, self.indexes, commit_us)
        results = [writer.write(write) for write in writes]
        self._apply(database, documents, writer.changes)
        self._last_us = commit_us
        return commit_us, results

    def expire(self) -> None:
        """Delete the documents that have expired, and forget the transactions that have."""
        self.transactions.forget_expired()
        now = self._now_us()
        for name, path in self._expiry.take_due(now):
            documents = self.database(name)
            document = documents.documents.get(path)
            if document is not None and self._expiry.has_expired(document, now):
                self._apply(name, documents, {path: None})

    def clear(self) -> None:
        """Forget all documents and transactions of all databases."""
        self._databases.clear()
        self.transactions.clear()
        self._expiry.clear()

    def _apply(
        self, name: str, documents: Database, changes: Mapping[str, StoredDocument | None]
    ) -> None:
        replaced = {path: documents.documents.get(path) for path in changes}
        self.transactions.note(name, replaced)
        documents.apply(changes)
        for document in changes.values():
            if document is not None:
                self._expiry.note(name, document)
