"""What a document may be: its size, its depth, its values and its index entries.

Sources: Firestore's documentation, "Quotas and limits", "Storage size calculations" and "Index
entry limits"; for nested arrays the text that production answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from localcloud.services.call_errors import InvalidArgumentError
from localcloud.services.firestore.names import (
    LONGEST_FIELD_BYTES,
    FieldPath,
    check_field_name,
    split_document_name,
)

LARGEST_REQUEST_BYTES = 10 * 1024 * 1024
LARGEST_DOCUMENT_BYTES = 1_048_576
LARGEST_VALUE_BYTES = LARGEST_DOCUMENT_BYTES - 89
MOST_INDEX_ENTRIES = 40_000
MOST_TRANSFORMS = 500
DEEPEST_VALUE = 20

_SMALL_DOCUMENT = 32_000  # bytes on the wire; such a document is below every limit of size
_FIXED = {
    "null_value": 1,
    "boolean_value": 1,
    "integer_value": 8,
    "double_value": 8,
    "timestamp_value": 8,
    "geo_point_value": 16,
}
_LAST_SECOND = 253_402_300_799  # of the year 9999
_FIRST_SECOND = -62_135_596_800  # of the year 1


def check_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Check that fields of a document can be stored, and cut their times to microseconds.

    Raises:
        InvalidArgumentError: they cannot.
    """
    for name, value in fields:
        check_field_name(name)
        check_value(value, (name,))


def check_value(value: Any, path: FieldPath, *, in_array: bool = False) -> None:
    """Check that a ``Value`` message can be stored, and cut its times to microseconds.

    Args:
        value: the value.
        path: the field that it is, or is in.
        in_array: whether it is an element of an array.

    Raises:
        InvalidArgumentError: it cannot.
    """
    length = sum(len(name.encode()) + 1 for name in path) - 1
    _check(value, path[0], _Place(len(path), length, in_array))


class _Place(NamedTuple):
    """Where a value is: how deep, how long the path to it is in bytes, and whether in an array."""

    depth: int
    path_bytes: int
    in_array: bool


def _check(value: Any, field: str, place: _Place) -> None:
    kind = value.WhichOneof("value_type")
    match kind:
        case "string_value":
            text = value.string_value
            if len(text) > LARGEST_VALUE_BYTES // 4:
                _check_length(text.encode(), field)
        case "timestamp_value":
            _cut_timestamp(value.timestamp_value)
        case "map_value":
            _check_depth(field, place)
            for name, part in value.map_value.fields.items():
                _check(part, field, _below(name, part, field, place))
        case "array_value":
            if place.in_array:
                raise InvalidArgumentError(f"Property {field} contains an invalid nested entity.")
            _check_depth(field, place)
            inner = _Place(place.depth + 1, place.path_bytes, in_array=True)
            for part in value.array_value.values:
                _check(part, field, inner)
        case "bytes_value":
            _check_length(value.bytes_value, field)
        case "geo_point_value":
            _check_geo_point(value.geo_point_value)
        case "reference_value":
            split_document_name(value.reference_value)
        case _ if kind not in _FIXED:
            raise InvalidArgumentError(
                f"Cannot convert firestore.v1.Value with type {kind or 'unset'}."
            )


def _below(name: str, part: Any, field: str, place: _Place) -> _Place:
    """Return the place of a map's field, and check its name."""
    if not name:
        raise InvalidArgumentError(f"Property {field} contains an invalid nested entity.")
    if not (name == "__type__" and part.string_value == "__vector__"):
        check_field_name(name)
    path_bytes = place.path_bytes + len(name.encode()) + 1
    if path_bytes > LONGEST_FIELD_BYTES:
        raise InvalidArgumentError(
            f"Property path in {field[:100]} is longer than {LONGEST_FIELD_BYTES} bytes."
        )
    return _Place(place.depth + 1, path_bytes, in_array=False)


def _cut_timestamp(at: Any) -> None:
    if not _FIRST_SECOND <= at.seconds <= _LAST_SECOND:
        raise InvalidArgumentError("Timestamp seconds exceeds limit for field.")
    nanos = at.nanos
    if not 0 <= nanos < 1_000_000_000:
        raise InvalidArgumentError("Timestamp nanos exceeds limit for field.")
    if nanos % 1000:
        at.nanos = nanos - nanos % 1000


def check_document(message: Any, path: str, entry_count: Any) -> None:
    """Check that a ``Document`` message is not too large.

    Args:
        message: the document.
        path: its path below the database.
        entry_count: returns the number of its index entries.

    Raises:
        InvalidArgumentError: it is, or it has too many index entries.
    """
    if message.ByteSize() < _SMALL_DOCUMENT:
        return
    size = 32 + _name_size(path) + _fields_size(message.fields)
    if size > LARGEST_DOCUMENT_BYTES:
        raise InvalidArgumentError(
            f"Document '{message.name}' cannot be written because its size ({size:,} bytes) "
            f"exceeds the maximum allowed size of {LARGEST_DOCUMENT_BYTES:,} bytes."
        )
    if entry_count() > MOST_INDEX_ENTRIES:
        raise InvalidArgumentError(f"too many index entries for entity {message.name}")


def value_size(value: Any) -> int:
    """Return the size of a ``Value`` message as Firestore counts it, in bytes."""
    kind = value.WhichOneof("value_type")
    match kind:
        case "string_value":
            return len(value.string_value.encode()) + 1
        case "bytes_value":
            return len(value.bytes_value)
        case "map_value":
            return 32 + _fields_size(value.map_value.fields)
        case "array_value":
            return sum(map(value_size, value.array_value.values))
        case "reference_value":
            return _name_size(value.reference_value.partition("/documents/")[2])
        case _:
            return _FIXED.get(kind, 0)


def leaves(fields: Any, above: FieldPath = ()) -> list[tuple[FieldPath, Any]]:
    """Return all fields of a document that are no maps, with their paths."""
    found: list[tuple[FieldPath, Any]] = []
    for name, value in fields.items():
        path = (*above, name)
        if value.WhichOneof("value_type") == "map_value":
            found += leaves(value.map_value.fields, path)
        else:
            found.append((path, value))
    return found


def _check_depth(field: str, place: _Place) -> None:
    if place.depth > DEEPEST_VALUE:
        raise InvalidArgumentError(f"Property {field} contains an invalid nested entity.")


def _check_length(content: bytes, field: str) -> None:
    if len(content) > LARGEST_VALUE_BYTES:
        raise InvalidArgumentError(
            f'The value of property "{field}" is longer than {LARGEST_VALUE_BYTES} bytes.'
        )


def _check_geo_point(point: Any) -> None:
    for name, number, most in (
        ("latitude", point.latitude, 90.0),
        ("longitude", point.longitude, 180.0),
    ):
        if not -most <= number <= most:
            raise InvalidArgumentError(
                f"Geo point {name} '{number}' outside permitted range -{most} to {most}."
            )


def _fields_size(fields: Any) -> int:
    return sum(len(name.encode()) + 1 + value_size(value) for name, value in fields.items())


def _name_size(path: str) -> int:
    return 16 + sum(len(segment.encode()) + 1 for segment in path.split("/"))
