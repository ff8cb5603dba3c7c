"""Queries: what is asked, whether there is an index for it, and what is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any

from localcloud.services.call_errors import InvalidArgumentError, UnimplementedError
from localcloud.services.firestore import order
from localcloud.services.firestore.database import Database
from localcloud.services.firestore.document import StoredDocument
from localcloud.services.firestore.entries import Collection, OrderBy, Shape
from localcloud.services.firestore.filters import (
    MOST_FILTERS,
    NAME_PATH,
    Condition,
    FilterReader,
    Part,
    name_value_key,
)
from localcloud.services.firestore.indexes import (
    ASCENDING,
    COLLECTION,
    COLLECTION_GROUP,
    DESCENDING,
    Indexes,
    Need,
)
from localcloud.services.firestore.messages import StructuredQuery
from localcloud.services.firestore.names import (
    FieldPath,
    check_collection_id,
    read_field_path,
    split_parent_name,
    write_field_path,
)

_DESCENDING = StructuredQuery.Direction.DESCENDING


@dataclass(frozen=True)
class Query:
    """A query as it is carried out.

    Attributes:
        database: the database's name.
        parent: the path of the document whose collections are asked; empty for the root.
        collection_id: which of them; None for all of them.
        has_descendants: whether collections at any depth below the parent are asked.
        parts: what documents must match: one of these.
        order: what they are sorted by; the last one is their name.
        start: where the result begins in that order, by keys of as many fields as it has.
        end: where it ends, likewise, exclusive; None if there is no end.
        offset: how many documents are left out at the beginning.
        limit: how many there are at most; None if there is no limit.
        fields: the fields that are returned; None for all.
    """

    database: str
    parent: str
    collection_id: str | None
    has_descendants: bool
    parts: tuple[Part, ...]
    order: tuple[OrderBy, ...]
    start: bytes
    end: bytes | None
    offset: int
    limit: int | None
    fields: list[FieldPath] | None

    @classmethod
    def read(cls, parent: str, given: Any) -> Query:
        """Return the query of a ``StructuredQuery`` message.

        Raises:
            InvalidArgumentError: it is no query.
            UnimplementedError: it is a search for vectors.
        """
        database, path = split_parent_name(parent)
        if given.HasField("find_nearest"):
            raise UnimplementedError("Vector searches are not supported here.")
        if len(given.from_) > 1:
            raise InvalidArgumentError(
                "StructuredQuery.from cannot have more than one collection selector."
            )
        selector = given.from_[0] if given.from_ else StructuredQuery.CollectionSelector()
        if selector.collection_id:
            check_collection_id(selector.collection_id)
        limit = given.limit.value if given.HasField("limit") else None
        if limit is not None and limit < 0:
            raise InvalidArgumentError("limit is negative")
        if given.offset < 0:
            raise InvalidArgumentError("offset is negative")
        filters = FilterReader(given.where, database)
        if filters.count + len(given.order_by) > MOST_FILTERS:
            raise InvalidArgumentError(
                f"The query may not have more than {MOST_FILTERS} filters + sort orders + ancestor "
                f"total. Currently there are {filters.count} filters, {len(given.order_by)} sort "
                "orders, and no ancestor filter."
            )
        sorted_by = _order(given.order_by, filters.inequality_paths)
        start, end = b"", None
        if given.HasField("start_at"):
            start = _bound(given.start_at, sorted_by, database, is_after=not given.start_at.before)
        if given.HasField("end_at"):
            end = _bound(given.end_at, sorted_by, database, is_after=not given.end_at.before)
        return cls(
            database=database,
            parent=path,
            collection_id=selector.collection_id or None,
            has_descendants=selector.all_descendants,
            parts=tuple(filters.parts),
            order=sorted_by,
            start=start,
            end=end,
            offset=given.offset,
            limit=limit,
            fields=_projection(given),
        )

    def require_indexes(self, indexes: Indexes, aggregated: tuple[FieldPath, ...] = ()) -> None:
        """Check that there are indexes for it.

        Args:
            indexes: those that there are.
            aggregated: the fields whose values are added up. An index must have them, too.

        Raises:
            FailedPreconditionError: there are not.
        """
        for part in self.parts:
            indexes.require(self._need(part, aggregated), self.database)

    def run(self, documents: Database) -> Iterator[StoredDocument]:
        """Yield what it finds, without the offset and up to the limit."""
        found = self._merged(documents)
        stop = None if self.limit is None else self.offset + self.limit
        return islice(found, self.offset, stop)

    def count_skipped(self, documents: Database) -> int:
        """Return how many documents the offset leaves out."""
        if not self.offset:
            return 0
        return sum(1 for _ in islice(self._merged(documents), self.offset))

    def _merged(self, documents: Database) -> Iterator[StoredDocument]:
        collection = self._collection(documents)
        scans = [self._scan(part, collection) for part in self.parts if not part.is_impossible]
        previous: bytes | None = None
        for key, document in scans[0] if len(scans) == 1 else merge(*scans, key=itemgetter(0)):
            if key != previous and self._is_below(document):
                yield document
            previous = key

    def _scan(self, part: Part, collection: Collection) -> Iterator[tuple[bytes, StoredDocument]]:
        """Yield what a part finds in order, each with the key that it is sorted by."""
        paths = tuple(sorted(part.equal))
        contains = part.contains[0] if part.contains else None
        entries = collection.entries(Shape(paths, contains, self.order))
        prefix = b"".join(part.equal[path] for path in paths)
        if part.contains:
            prefix += part.contains[1]
        start, end = prefix + self.start, prefix + (order.AFTER if self.end is None else self.end)
        remaining = []
        for condition in part.conditions:
            if condition.path == self.order[0].path and not condition.not_in:
                lower, upper = _bounds(condition, self.order[0])
                start = max(start, prefix + lower)
                end = min(end, prefix + upper)
            else:
                remaining.append(condition)
        length = len(prefix)
        for key, document in entries.scan(start, end):
            if all(condition.holds(document) for condition in remaining):
                yield key[length:], document

    def _collection(self, documents: Database) -> Collection:
        if self.has_descendants or self.collection_id is None:
            return documents.group(self.collection_id)
        return documents.collection(self.parent, self.collection_id)

    def _is_below(self, document: StoredDocument) -> bool:
        """Return whether a document of all with the collection's id is below the parent."""
        if self.has_descendants or self.collection_id is None:
            beginning = f"{self.parent}/" if self.parent else ""
            depth = document.path.count("/") - beginning.count("/")
            return document.path.startswith(beginning) and (self.has_descendants or depth == 1)
        return True

    def _need(self, part: Part, aggregated: tuple[FieldPath, ...]) -> Need:
        *sorted_by, last = self.order
        direction = DESCENDING if last.is_descending else ASCENDING
        fields = [
            (write_field_path(by.path), DESCENDING if by.is_descending else ASCENDING)
            for by in sorted_by
            if by.path not in part.equal
        ]
        known = {path for path, _ in fields}
        fields += [
            (text, direction)
            for path in aggregated
            if path not in part.equal and (text := write_field_path(path)) not in known
        ]
        return Need(
            collection_id=self.collection_id,
            scope=COLLECTION_GROUP if self.has_descendants else COLLECTION,
            equal=frozenset(map(write_field_path, part.equal)),
            contains=frozenset({write_field_path(part.contains[0])} if part.contains else ()),
            order=(*fields, (write_field_path(last.path), direction)),
        )


def _order(given: Any, inequality_paths: list[FieldPath]) -> tuple[OrderBy, ...]:
    """Return what a query sorts by.

    After what it says come the fields of its inequalities, by name, and then the document's name,
    all in the last direction that it says.
    """
    found: dict[FieldPath, OrderBy] = {}
    is_descending = False
    for each in given:
        is_descending = each.direction == _DESCENDING
        path = read_field_path(each.field.field_path)
        if path in found:
            raise InvalidArgumentError(
                f"order by clause cannot contain duplicate fields {each.field.field_path}"
            )
        found[path] = OrderBy(path, is_descending)
    for path in (*inequality_paths, NAME_PATH):
        found.setdefault(path, OrderBy(path, is_descending))
    if list(found)[-1] != NAME_PATH:
        raise InvalidArgumentError("order by clause cannot contain more fields after the key")
    return tuple(found.values())


def _bound(cursor: Any, sorted_by: tuple[OrderBy, ...], database: str, *, is_after: bool) -> bytes:
    """Return the key of a cursor's place, before or after all that have its values."""
    if len(cursor.values) > len(sorted_by):
        raise InvalidArgumentError("Cursor has too many values.")
    parts = []
    for value, by in zip(cursor.values, sorted_by, strict=False):
        if by.path != NAME_PATH:
            key = order.value_key(value)
        elif value.WhichOneof("value_type") == "reference_value":
            key = name_value_key(value, database)
        else:
            raise InvalidArgumentError("Cursor __key__ value is not a document reference.")
        parts.append(by.key(key))
    return b"".join(parts) + (order.AFTER if is_after else b"")


def _bounds(condition: Condition, by: OrderBy) -> tuple[bytes, bytes]:
    """Return where in the order the values are that meet a condition."""
    lower = condition.lower or b""
    upper = order.AFTER if condition.upper is None else condition.upper
    if not by.is_descending:
        return lower, upper
    # A bound is a key, or the place after a key, or where a type begins. Upside down, the place
    # after a key is before it, and the other way round.
    return _upside_down(upper), _upside_down(lower)


def _upside_down(bound: bytes) -> bytes:
    if not bound:
        return order.AFTER
    if bound.endswith(order.AFTER):
        return order.descending(bound[: -len(order.AFTER)])
    if len(bound) == 1:  # where a type begins
        return bytes([256 - bound[0]])
    return order.descending(bound) + order.AFTER


def _projection(given: Any) -> list[FieldPath] | None:
    if not given.HasField("select"):
        return None
    paths = [read_field_path(each.field_path) for each in given.select.fields]
    return [path for path in paths if path != NAME_PATH]
