"""Counts, sums and averages of what a query finds.

Source for what is added up and with which type: the reference of ``StructuredAggregationQuery``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from localcloud.services.call_errors import InvalidArgumentError
from localcloud.services.firestore.document import StoredDocument
from localcloud.services.firestore.messages import Value
from localcloud.services.firestore.names import FieldPath, read_field_path

MOST_AGGREGATIONS = 5
_LARGEST = (1 << 63) - 1
_SMALLEST = -(1 << 63)


def aggregated_paths(aggregations: Sequence[Any]) -> tuple[FieldPath, ...]:
    """Return the fields whose values are added up.

    Raises:
        InvalidArgumentError: these are not one to five aggregations.
    """
    if not aggregations:
        raise InvalidArgumentError("Aggregations can not be empty.")
    if len(aggregations) > MOST_AGGREGATIONS:
        raise InvalidArgumentError(
            f"A query may have at most {MOST_AGGREGATIONS} aggregations, not {len(aggregations)}."
        )
    paths: dict[FieldPath, None] = {}
    for each in aggregations:
        match each.WhichOneof("operator"):
            case "count":
                if each.count.HasField("up_to") and each.count.up_to.value <= 0:
                    raise InvalidArgumentError("up_to must be greater than zero.")
            case "sum":
                paths[read_field_path(each.sum.field.field_path)] = None
            case "avg":
                paths[read_field_path(each.avg.field.field_path)] = None
            case _:
                raise InvalidArgumentError("An aggregation has no operator.")
    return tuple(paths)


def aggregate(aggregations: Sequence[Any], documents: Iterable[StoredDocument]) -> dict[str, Any]:
    """Return the result of each aggregation, as a ``Value`` message, by its alias."""
    paths = aggregated_paths(aggregations)
    found = [
        document
        for document in documents
        if all(document.field_key(path) is not None for path in paths)
    ]
    results: dict[str, Any] = {}
    for number, each in enumerate(aggregations, start=1):
        alias = each.alias or f"field_{number}"
        if alias in results:
            raise InvalidArgumentError(f"Aggregation aliases contain duplicate alias: {alias}.")
        match each.WhichOneof("operator"):
            case "count":
                most = each.count.up_to.value if each.count.HasField("up_to") else len(found)
                results[alias] = Value(integer_value=min(len(found), most))
            case "sum":
                results[alias] = _sum(_numbers(found, each.sum.field.field_path))
            case _:
                results[alias] = _average(_numbers(found, each.avg.field.field_path))
    return results


def _numbers(documents: list[StoredDocument], path: str) -> list[int | float]:
    names = read_field_path(path)
    numbers: list[int | float] = []
    for document in documents:
        value = document.value(names)
        kind = value.WhichOneof("value_type") if value is not None else None
        if kind in {"integer_value", "double_value"}:
            numbers.append(getattr(value, str(kind)))
    return numbers


def _sum(numbers: list[int | float]) -> Any:
    if all(isinstance(number, int) for number in numbers):
        total = sum(numbers)
        if _SMALLEST <= total <= _LARGEST:
            return Value(integer_value=int(total))
    return Value(double_value=_added(numbers))


def _average(numbers: list[int | float]) -> Any:
    if not numbers:
        return Value(null_value=0)
    return Value(double_value=_added(numbers) / len(numbers))


def _added(numbers: list[int | float]) -> float:
    floats = [float(number) for number in numbers]
    try:
        return math.fsum(floats)
    except (OverflowError, ValueError):  # beyond all doubles, or infinities of both signs
        return float(sum(floats))
