"""Values and names as bytes that sort as Firestore sorts them.

A key is the whole truth about a value's place: two values are equal for a query if their keys are
equal, and one is before another if its key is. No key is the beginning of another, so keys can be
joined to the key of an index entry, and a descending field's key is the complement of its bytes. No
key ends with the byte of ``AFTER``, so a key and the place after it are told apart.

Source for the order of types and within types: Firestore's documentation, "Supported data types".
"""

import re
import struct
from typing import Any

_NULL = b"\x05"
_BOOLEAN = b"\x0a"
_NUMBER = b"\x10"
_TIMESTAMP = b"\x18"
_STRING = b"\x20"
_BYTES = b"\x28"
_REFERENCE = b"\x30"
_GEO_POINT = b"\x38"
_ARRAY = b"\x40"
_VECTOR = b"\x48"
_MAP = b"\x50"

NULL_KEY = _NULL
NAN_KEY = _NUMBER + bytes(11)
# Higher than whatever follows a key in an index entry.
AFTER = b"\xff"
# Only this much of a text or of bytes is indexed (source: Firestore's quotas and limits).
INDEXED_BYTES = 1500

_COMPLEMENT = bytes(255 - byte for byte in range(256))
_SIGN = 1 << 63
_ALL = (1 << 64) - 1
_SECONDS_OFFSET = 1 << 40
_NUMERIC_ID = re.compile(r"__id(-?[0-9]+)__")
_END = b"\x00\x01"
_CUT = b"\x00\x02"
_PACK_DOUBLE = struct.Struct(">d").pack


def descending(key: bytes) -> bytes:
    """Return the key that sorts the other way."""
    return key.translate(_COMPLEMENT)


def value_key(value: Any) -> bytes:
    """Return the key of a ``Value`` message."""
    kind = value.WhichOneof("value_type")
    match kind:
        case "string_value":
            return _STRING + _text(value.string_value.encode())
        case "integer_value":
            return _integer(value.integer_value)
        case "timestamp_value":
            return _timestamp(value.timestamp_value.seconds, value.timestamp_value.nanos)
        case "boolean_value":
            return _BOOLEAN + (b"\x01" if value.boolean_value else b"\x00")
        case "double_value":
            return _double(value.double_value)
        case "map_value":
            return _map(value.map_value.fields)
        case "array_value":
            return _ARRAY + b"".join(map(value_key, value.array_value.values)) + b"\x00"
        case "bytes_value":
            return _BYTES + _text(value.bytes_value)
        case "reference_value":
            return _REFERENCE + name_key(value.reference_value)
        case "geo_point_value":
            point = value.geo_point_value
            return _GEO_POINT + _double(point.latitude) + _double(point.longitude)
        case _:
            return NULL_KEY


def name_key(path: str) -> bytes:
    """Return the key of a document's path, whole or below the database: by segment, then by length.

    Numeric ids, which come from Datastore, are before the others.
    """
    return b"".join(map(_segment, path.split("/"))) + b"\x00"


def type_range(key: bytes) -> tuple[bytes, bytes]:
    """Return the bounds of all values that are compared with this one: of its type, and not NaN."""
    tag = key[:1]
    lowest = NAN_KEY + AFTER if tag == _NUMBER else tag
    return lowest, bytes([tag[0] + 1])


def _segment(segment: str) -> bytes:
    if numeric := _NUMERIC_ID.fullmatch(segment):
        return b"\x01" + (int(numeric[1]) + _SIGN).to_bytes(9, "big") + b"\x00"
    return b"\x02" + segment.encode().replace(b"\x00", b"\x00\xff") + _END


def _text(content: bytes) -> bytes:
    if len(content) > INDEXED_BYTES:
        return content[:INDEXED_BYTES].replace(b"\x00", b"\x00\xff") + _CUT
    return content.replace(b"\x00", b"\x00\xff") + _END


def _timestamp(seconds: int, nanos: int) -> bytes:
    micros = (nanos // 1000).to_bytes(3, "big")
    return _TIMESTAMP + (seconds + _SECONDS_OFFSET).to_bytes(6, "big") + micros + b"\x00"


def _integer(number: int) -> bytes:
    """Return an integer's key: that of the nearest double, and how far it is from it."""
    nearest = float(number)
    return _number(nearest, number - int(nearest))


def _double(number: float) -> bytes:
    if number != number:  # noqa: PLR0124 -- NaN is the one number that is not itself
        return NAN_KEY
    return _number(number + 0.0, 0)  # -0.0 is 0.0


def _number(nearest: float, distance: int) -> bytes:
    bits = int.from_bytes(_PACK_DOUBLE(nearest), "big")
    bits ^= _ALL if bits & _SIGN else _SIGN
    return _NUMBER + bits.to_bytes(8, "big") + (distance + 0x8000).to_bytes(2, "big") + b"\x00"


def _map(fields: Any) -> bytes:
    if "__type__" in fields and fields["__type__"].string_value == "__vector__":
        parts = fields["value"].array_value.values
        return _VECTOR + len(parts).to_bytes(4, "big") + b"".join(map(value_key, parts))
    entries = sorted((name.encode(), name) for name in fields)
    return (
        _MAP
        + b"".join(b"\x01" + _text(encoded) + value_key(fields[name]) for encoded, name in entries)
        + b"\x00"
    )
