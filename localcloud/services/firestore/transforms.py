"""Changes of a field that depend on its value: server time, increments, arrays as sets.

Source for what each does with which types: the reference of ``DocumentTransform.FieldTransform``.
"""

from __future__ import annotations

import math
from typing import Any

from localcloud.services.call_errors import InvalidArgumentError
from localcloud.services.firestore import order, times
from localcloud.services.firestore.document import find_value, put_value
from localcloud.services.firestore.limits import check_value
from localcloud.services.firestore.messages import Value
from localcloud.services.firestore.names import read_field_path

_LARGEST = (1 << 63) - 1
_SMALLEST = -(1 << 63)
_NUMBERS = {"integer_value", "double_value"}
_REQUEST_TIME = 1


def check_transform(transform: Any) -> None:
    """Check that a transform can be carried out, whatever the document has.

    Raises:
        InvalidArgumentError: it cannot.
    """
    path = read_field_path(transform.field_path)
    kind = transform.WhichOneof("transform_type")
    match kind:
        case "set_to_server_value":
            if transform.set_to_server_value != _REQUEST_TIME:
                raise InvalidArgumentError("The only server value is REQUEST_TIME.")
        case "append_missing_elements" | "remove_all_from_array":
            for element in getattr(transform, kind).values:
                check_value(element, path, in_array=True)
        case "increment" | "maximum" | "minimum":
            if getattr(transform, kind).WhichOneof("value_type") not in _NUMBERS:
                raise InvalidArgumentError("Input must be int64 or double.")
        case _:
            raise InvalidArgumentError(f"The transform of {transform.field_path} is empty.")


def apply_transform(transform: Any, fields: Any, commit_us: int) -> Any:
    """Carry out one transform, which has been checked, on a document's fields.

    Returns:
        Its result, for the answer.
    """
    path = read_field_path(transform.field_path)
    stored = find_value(fields, path)
    kind = transform.WhichOneof("transform_type")
    match kind:
        case "set_to_server_value":
            value = Value(timestamp_value=times.as_timestamp(commit_us - commit_us % 1000))
        case "append_missing_elements":
            value = _appended(stored, transform.append_missing_elements)
        case "remove_all_from_array":
            value = _without(stored, transform.remove_all_from_array)
        case _:
            value = _calculated(kind, stored, getattr(transform, kind))
    put_value(fields, path, value)
    if kind in {"append_missing_elements", "remove_all_from_array"}:
        return Value(null_value=0)
    return value


def _appended(stored: Any | None, elements: Any) -> Any:
    value = _array(stored)
    known = {order.value_key(each) for each in value.array_value.values}
    for element in elements.values:
        key = order.value_key(element)
        if key not in known:
            known.add(key)
            value.array_value.values.add().CopyFrom(element)
    return value


def _without(stored: Any | None, elements: Any) -> Any:
    removed = {order.value_key(each) for each in elements.values}
    value = Value()
    value.array_value.SetInParent()
    value.array_value.values.extend(
        each for each in _array(stored).array_value.values if order.value_key(each) not in removed
    )
    return value


def _array(stored: Any | None) -> Any:
    value = Value()
    if stored is not None and stored.WhichOneof("value_type") == "array_value":
        value.CopyFrom(stored)
    value.array_value.SetInParent()
    return value


def _calculated(kind: str, stored: Any | None, operand: Any) -> Any:
    """Return the value after an increment, a maximum or a minimum.

    What is not a number counts as absent. Integers stay within 64 bits. Of two numbers that are
    equal, the stored one stays.
    """
    if stored is None or stored.WhichOneof("value_type") not in _NUMBERS:
        return operand
    old, given = _number(stored), _number(operand)
    if kind == "increment":
        if isinstance(old, int) and isinstance(given, int):
            return Value(integer_value=max(_SMALLEST, min(_LARGEST, old + given)))
        return Value(double_value=float(old) + float(given))
    if any(isinstance(each, float) and math.isnan(each) for each in (old, given)):
        return Value(double_value=math.nan)
    replaces = given > old if kind == "maximum" else given < old
    return operand if replaces else stored


def _number(value: Any) -> int | float:
    number: int | float = getattr(value, value.WhichOneof("value_type"))
    return number
