"""Time-to-live: documents are deleted some time after the time in their TTL field.

As in production, a document whose field is absent, or no timestamp, stays; an expired one is still
read and found until it is deleted. Production deletes it typically within 24 hours (source:
Firestore's documentation, "Manage data retention with TTL policies"); here a sweep comes every few
seconds, so that people see it happen.
"""

from __future__ import annotations

from heapq import heappop, heappush

from localcloud.services.firestore import times
from localcloud.services.firestore.document import StoredDocument
from localcloud.services.firestore.indexes import Indexes
from localcloud.services.firestore.names import FieldPath, read_field_path


class Expiry:
    """Knows which documents expire when.

    Args:
        indexes: says which fields are TTL fields.
    """

    def __init__(self, indexes: Indexes) -> None:
        self._fields: dict[str, FieldPath] = {
            collection_id: read_field_path(path) for collection_id, path in indexes.ttl
        }
        self._due: list[tuple[int, str, str]] = []  # when, the database, the path

    def note(self, database: str, document: StoredDocument) -> None:
        """Take notice of a document's new version."""
        at = self._expires_us(document)
        if at is not None:
            heappush(self._due, (at, database, document.path))

    def clear(self) -> None:
        """Forget everything."""
        self._due.clear()

    def take_due(self, now_us: int) -> list[tuple[str, str]]:
        """Return the databases and paths of which a version has expired, and forget them."""
        due = []
        while self._due and self._due[0][0] <= now_us:
            _, database, path = heappop(self._due)
            due.append((database, path))
        return due

    def has_expired(self, document: StoredDocument, now_us: int) -> bool:
        """Return whether a document is to be deleted."""
        at = self._expires_us(document)
        return at is not None and at <= now_us

    def _expires_us(self, document: StoredDocument) -> int | None:
        path = self._fields.get(document.path.split("/")[-2])
        value = document.value(path) if path else None
        if value is None or value.WhichOneof("value_type") != "timestamp_value":
            return None
        return times.as_us(value.timestamp_value)
