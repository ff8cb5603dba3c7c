"""What a document may be: its size, its depth, its values and its index entries.

Sources: Firestore's documentation, "Quotas and limits", "Storage size calculations" and "Index
entry limits"; for nested arrays the text that production answers.
"""

from __future__ import annotations

from typing import Any

from localcloud.services.firestore.errors import InvalidArgumentError
from localcloud.services.firestore.names import FieldPath, check_field_name, split_document_name

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
_LONGEST_YEAR = 253_402_300_799  # the last second of the year 9999
_FIRST_YEAR = -62_135_596_800  # the first second of the year 1


def check_value(value: Any, name: str, depth: int = 1, *, in_array: bool = False) -> None:
    """Check that a ``Value`` message can be stored, and cut its times to microseconds.

    Raises:
        InvalidArgumentError: it cannot.
    """
    kind = value.WhichOneof("value_type")
    if kind == "map_value":
        _check_depth(name, depth)
        for inner, part in value.map_value.fields.items():
            if not (inner == "__type__" and part.string_value == "__vector__"):
                check_field_name(inner)
            check_value(part, name, depth + 1)
    elif kind == "array_value":
        if in_array:
            raise InvalidArgumentError(f"Property {name} contains an invalid nested entity.")
        _check_depth(name, depth)
        for part in value.array_value.values:
            check_value(part, name, depth + 1, in_array=True)
    elif kind == "timestamp_value":
        at = value.timestamp_value
        if not (_FIRST_YEAR <= at.seconds <= _LONGEST_YEAR and 0 <= at.nanos < 1_000_000_000):
            raise InvalidArgumentError(f"Property {name} contains an invalid timestamp.")
        at.nanos -= at.nanos % 1000
    elif kind == "geo_point_value":
        point = value.geo_point_value
        if not (-90 <= point.latitude <= 90 and -180 <= point.longitude <= 180):
            raise InvalidArgumentError(
                f"Property {name} contains an invalid geo point: latitudes are from -90 to 90, "
                "longitudes from -180 to 180."
            )
    elif kind == "reference_value":
        split_document_name(value.reference_value)
    elif kind is None or (kind not in _FIXED and kind not in {"string_value", "bytes_value"}):
        raise InvalidArgumentError(f"Property {name} has no value that can be stored.")


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
    for name, value in message.fields.items():
        if value_size(value) > LARGEST_VALUE_BYTES:
            raise InvalidArgumentError(
                f'The value of property "{name}" is longer than {LARGEST_VALUE_BYTES} bytes.'
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


def _check_depth(name: str, depth: int) -> None:
    if depth > DEEPEST_VALUE:
        raise InvalidArgumentError(
            f"Property {name} is nested more than {DEEPEST_VALUE} levels deep."
        )


def _fields_size(fields: Any) -> int:
    return sum(len(name.encode()) + 1 + value_size(value) for name, value in fields.items())


def _name_size(path: str) -> int:
    return 16 + sum(len(segment.encode()) + 1 for segment in path.split("/"))
