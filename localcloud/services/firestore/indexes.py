"""Which indexes there are, and whether a query has the one that it needs.

An index serves a query if its last fields are exactly those that the query sorts by, in the same
directions, ``__name__`` included, and all fields before them are compared for equality. Several
such indexes are merged: together they must have every field that is compared for equality. An index
is never read backwards.

Every field has an ascending and a descending index and one of array elements, in the scope of its
collection, unless ``fieldOverrides`` says otherwise for it or for the map that it is in. Queries of
collection groups have only what is declared for them. ``__name__`` closes every index, in the
direction of the last field before it.

Sources: Firestore's documentation, "Index types" ("index modes", "automatic indexing", "composite
indexes", "index merging"); that ``__name__`` descending needs an index of its own and that another
direction of it needs a composite one: firebase/flutterfire issue 4398,
GoogleCloudPlatform/magic-modules pull request 12121, samuelgozi/firebase-firestore-lite issue 13.
The texts are production's: buildship-ai/rowy issue 794, Appsilon/mediforce issue 575.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from localcloud.services.call_errors import FailedPreconditionError
from localcloud.services.firestore.names import (
    DOCUMENT_NAME,
    FieldPath,
    read_field_path,
    write_field_path,
)

ASCENDING, DESCENDING, CONTAINS = "ASCENDING", "DESCENDING", "CONTAINS"
COLLECTION, COLLECTION_GROUP = "COLLECTION", "COLLECTION_GROUP"

IndexField = tuple[str, str]  # the field's path as text, and its mode
_AUTOMATIC = frozenset({(COLLECTION, ASCENDING), (COLLECTION, DESCENDING), (COLLECTION, CONTAINS)})
_MOST_REMEMBERED = 1000
_ORDERS = {ASCENDING: 1, DESCENDING: 2}
_SCOPES = {COLLECTION: 1, COLLECTION_GROUP: 2}


@dataclass(frozen=True)
class Need:
    """What one part of a query, without OR, asks of an index.

    Attributes:
        collection_id: the collection, or None for all of them.
        scope: ``COLLECTION`` or ``COLLECTION_GROUP``.
        equal: the fields that are compared for equality, in any order.
        contains: the arrays of which an element is compared.
        order: the fields to sort by, with their directions; the last one is ``__name__``.
    """

    collection_id: str | None
    scope: str
    equal: frozenset[str]
    contains: frozenset[str]
    order: tuple[IndexField, ...]


@dataclass(frozen=True)
class CompositeIndex:
    """An index of several fields; ``__name__`` is the last of them."""

    collection_id: str
    scope: str
    fields: tuple[IndexField, ...]

    @classmethod
    def read(cls, given: dict[str, Any]) -> CompositeIndex:
        """Return an index of ``firestore.indexes.json``."""
        fields = tuple(
            (each["fieldPath"], each.get("order") or each["arrayConfig"])
            for each in given["fields"]
        )
        return cls(given["collectionGroup"], given.get("queryScope", COLLECTION), named(fields))


@dataclass(frozen=True)
class Indexes:
    """The indexes of every database.

    Attributes:
        composites: the composite indexes.
        overrides: by collection and field, the scopes and modes of the field's own indexes.
        ttl: the fields that say when a document expires, with their collections.
    """

    composites: frozenset[CompositeIndex] = frozenset()
    overrides: dict[tuple[str, str], frozenset[tuple[str, str]]] = field(default_factory=dict)
    ttl: frozenset[tuple[str, str]] = frozenset()
    _served: set[Need] = field(default_factory=set, init=False, compare=False)

    @classmethod
    def load(cls, path: Path) -> Indexes:
        """Read a file in the form of ``firestore.indexes.json``."""
        content = json.loads(path.read_text(encoding="utf-8"))
        overrides = content.get("fieldOverrides", [])
        return cls(
            frozenset(map(CompositeIndex.read, content.get("indexes", []))),
            {
                (each["collectionGroup"], each["fieldPath"]): frozenset(
                    (index.get("queryScope", COLLECTION), index.get("order") or CONTAINS)
                    for index in each.get("indexes", [])
                )
                for each in overrides
            },
            frozenset(
                (each["collectionGroup"], each["fieldPath"])
                for each in overrides
                if each.get("ttl")
            ),
        )

    def field_modes(self, collection_id: str, path: str) -> frozenset[tuple[str, str]]:
        """Return the scopes and modes of a field's own indexes."""
        if not self.overrides:
            return _AUTOMATIC
        names = read_field_path(path)
        for length in range(len(names), 0, -1):
            found = self.overrides.get((collection_id, ".".join(names[:length])))
            if found is not None:
                return found
        return _AUTOMATIC

    def serve(self, need: Need) -> bool:
        """Return whether there are indexes for a query."""
        if need.order == ((DOCUMENT_NAME, ASCENDING),) and not need.equal and not need.contains:
            return True
        if need.collection_id is None:
            return False
        missing = {(path, CONTAINS) for path in need.contains} | {
            (path, ASCENDING) for path in need.equal
        }
        found = False
        for prefix in self._prefixes(need):
            found = True
            missing -= prefix
        return found and not missing

    def require(self, need: Need, database: str) -> None:
        """Check that there are indexes for a query.

        Raises:
            FailedPreconditionError: there are not; production's text says which one it needs.
        """
        if need in self._served:
            return
        if self.serve(need):
            if len(self._served) < _MOST_REMEMBERED:
                self._served.add(need)
            return
        fields = (
            *((path, ASCENDING) for path in sorted(need.equal)),
            *((path, CONTAINS) for path in sorted(need.contains)),
            *need.order,
        )
        raise FailedPreconditionError(_advice(need, fields, database))

    def count_entries(self, collection_id: str, leaves: Iterable[tuple[FieldPath, Any]]) -> int:
        """Return the number of index entries of a document.

        A value has an entry in each of its field's own indexes, an array one for each different
        element; a composite index has one entry, or one for each element of its array.
        """
        count = 0
        elements: dict[str, int] = {}
        for path, value in leaves:
            text = ".".join(path)
            is_array = value.WhichOneof("value_type") == "array_value"
            if is_array:
                elements[text] = len(
                    {
                        part.SerializeToString(deterministic=True)
                        for part in value.array_value.values
                    }
                )
            else:
                elements[text] = 1
            for _, mode in self.field_modes(collection_id, write_field_path(path)):
                if mode == CONTAINS:
                    count += elements[text] if is_array else 0
                else:
                    count += 1
        for index in self.composites:
            if index.collection_id == collection_id and all(
                path in elements or path == DOCUMENT_NAME for path, _ in index.fields
            ):
                arrays = [elements[path] for path, mode in index.fields if mode == CONTAINS]
                count += max(arrays, default=1)
        return count

    def _prefixes(self, need: Need) -> Iterable[set[IndexField]]:
        """Yield, for each index that ends as the query sorts, the fields before that."""
        for fields in self._candidates(need):
            end = len(fields) - len(need.order)
            if end < 0 or fields[end:] != need.order:
                continue
            prefix = {
                (path, CONTAINS if mode == CONTAINS else ASCENDING) for path, mode in fields[:end]
            }
            if all(
                path in (need.contains if mode == CONTAINS else need.equal) for path, mode in prefix
            ):
                yield prefix

    def _candidates(self, need: Need) -> Iterable[tuple[IndexField, ...]]:
        collection_id = str(need.collection_id)
        paths = {*need.equal, *need.contains, *(path for path, _ in need.order)} - {DOCUMENT_NAME}
        for path in paths:
            for scope, mode in self.field_modes(collection_id, path):
                if scope == need.scope:
                    yield named(((path, mode),))
        if DOCUMENT_NAME in need.equal:
            yield ((DOCUMENT_NAME, ASCENDING), (DOCUMENT_NAME, ASCENDING))
        for index in self.composites:
            if index.collection_id == collection_id and index.scope == need.scope:
                yield index.fields


def named(fields: tuple[IndexField, ...]) -> tuple[IndexField, ...]:
    """Return an index's fields with ``__name__``, in the direction of the last sorted field."""
    if fields and fields[-1][0] == DOCUMENT_NAME:
        return fields
    directions = [mode for _, mode in fields if mode != CONTAINS]
    return (*fields, (DOCUMENT_NAME, directions[-1] if directions else ASCENDING))


def _advice(need: Need, fields: tuple[IndexField, ...], database: str) -> str:
    """Return production's text for a missing index, with its link."""
    _, project, _, database_id = database.split("/")
    place = "" if database_id == "(default)" else f"/databases/{quote(database_id)}"
    link = f"https://console.firebase.google.com/v1/r/project/{project}/firestore{place}/indexes"
    own = [each for each in fields if each[0] != DOCUMENT_NAME]
    if len(own) == 1 and named(tuple(own)) == fields:
        [(path, mode)] = own
        kind = {ASCENDING: "ASC", DESCENDING: "DESC", CONTAINS: "CONTAINS"}[mode]
        exempted = f"{database}/collectionGroups/{need.collection_id}/fields/{path}"
        encoded = _encoded(
            _text(1, exempted) + _number(2, _SCOPES[need.scope]) + _field(path, mode)
        )
        return (
            f"The query requires a {need.scope}_{kind} index for collection {need.collection_id} "
            f"and field {path}. You can create it here: {link}?create_exemption={encoded}"
        )
    name = f"{database}/collectionGroups/{need.collection_id or '*'}/indexes/_"
    index = _text(1, name) + _number(2, _SCOPES[need.scope])
    index += b"".join(_field(path, mode) for path, mode in fields)
    return (
        "The query requires an index. You can create it here: "
        f"{link}?create_composite={_encoded(index)}"
    )


def _encoded(message: bytes) -> str:
    return base64.urlsafe_b64encode(message).decode().rstrip("=")


def _field(path: str, mode: str) -> bytes:
    """Return field 3 of the message ``Index``: a field with its mode."""
    content = _text(1, path) + (_number(3, 1) if mode == CONTAINS else _number(2, _ORDERS[mode]))
    return _block(3, content)


def _text(number: int, content: str) -> bytes:
    return _block(number, content.encode())


def _block(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return bytes([number << 3]) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
