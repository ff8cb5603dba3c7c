"""Sorted index entries: what a query reads instead of all documents of a collection.

A ``Shape`` says what is in an entry: the fields that a query compares for equality, then those that
it sorts by, then the document's name. The entries of a shape are made by the first query that needs
them, and kept up to date by each write after that. Whether a query may be answered at all is not
decided here but in ``indexes.py``.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from localcloud.services.firestore.document import StoredDocument
from localcloud.services.firestore.names import FieldPath
from localcloud.services.firestore.order import descending


class OrderBy(NamedTuple):
    """A field to sort by."""

    path: FieldPath
    is_descending: bool

    def key(self, field_key: bytes) -> bytes:
        """Return what a value of the field is sorted by in this direction."""
        return descending(field_key) if self.is_descending else field_key


class Shape(NamedTuple):
    """What an entry consists of.

    Attributes:
        equal: the fields that are compared for equality.
        contains: the field of which an element is compared, or None.
        order: the fields to sort by; the last one is the document's name.
    """

    equal: tuple[FieldPath, ...]
    contains: FieldPath | None
    order: tuple[OrderBy, ...]

    def keys(self, document: StoredDocument) -> list[bytes]:
        """Return a document's entries: none if it lacks a field, several for an array."""
        parts = []
        for path in self.equal:
            key = document.field_key(path)
            if key is None:
                return []
            parts.append(key)
        ordered = []
        for by in self.order:
            key = document.field_key(by.path)
            if key is None:
                return []
            ordered.append(by.key(key))
        beginning, end = b"".join(parts), b"".join(ordered)
        if self.contains is None:
            return [beginning + end]
        return [beginning + element + end for element in document.element_keys(self.contains)]


class Entries:
    """The sorted entries of one shape."""

    def __init__(self, shape: Shape, documents: Iterable[StoredDocument]) -> None:
        self.shape = shape
        self._documents = {key: document for document in documents for key in shape.keys(document)}
        self._keys = sorted(self._documents)

    def replace(self, old: StoredDocument | None, new: StoredDocument | None) -> None:
        """Take out a document's old version, and put in its new one."""
        before = self.shape.keys(old) if old else []
        after = self.shape.keys(new) if new else []
        if before != after:
            for key in before:
                del self._documents[key]
                del self._keys[bisect_left(self._keys, key)]
            for key in after:
                insort(self._keys, key)
        if new is not None:
            for key in after:
                self._documents[key] = new

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, StoredDocument]]:
        """Yield the entries from ``start`` on and before ``end``, in their order."""
        keys = self._keys
        for position in range(bisect_left(keys, start), bisect_left(keys, end)):
            key = keys[position]
            yield key, self._documents[key]


class Collection:
    """Documents that queries ask for together: a collection, a collection group, or a database."""

    def __init__(self) -> None:
        self.documents: dict[str, StoredDocument] = {}
        self._entries: dict[Shape, Entries] = {}

    def replace(self, old: StoredDocument | None, new: StoredDocument | None) -> None:
        """Take out a document's old version, and put in its new one."""
        if new is not None:
            self.documents[new.path] = new
        elif old is not None:
            del self.documents[old.path]
        for entries in self._entries.values():
            entries.replace(old, new)

    def entries(self, shape: Shape) -> Entries:
        """Return the entries of a shape."""
        found = self._entries.get(shape)
        if found is None:
            found = self._entries[shape] = Entries(shape, self.documents.values())
        return found
