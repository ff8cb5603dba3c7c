"""The ``where`` of a query as parts without OR: a document is found if one part matches it.

Sources for what an operator matches and for the limits: Firestore's documentation, "Perform simple
and compound queries" and "Query limitations", and the reference of ``StructuredQuery``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

from localcloud.services.firestore import order
from localcloud.services.firestore.document import StoredDocument
from localcloud.services.firestore.errors import InvalidArgumentError
from localcloud.services.firestore.messages import StructuredQuery
from localcloud.services.firestore.names import (
    DOCUMENT_NAME,
    FieldPath,
    read_field_path,
    split_document_name,
)

MOST_PARTS = 30
MOST_FILTERS = 100
MOST_INEQUALITY_FIELDS = 10
MOST_NOT_IN = 10

NAME_PATH: FieldPath = (DOCUMENT_NAME,)

_FieldOperator = StructuredQuery.FieldFilter.Operator
_UnaryOperator = StructuredQuery.UnaryFilter.Operator
_CompositeOperator = StructuredQuery.CompositeFilter.Operator


@dataclass(frozen=True)
class Condition:
    """What a field's value has to be, besides equal to something: then the field is sorted by.

    Attributes:
        path: the field.
        lower: what the value's key is at least; None if there is no such bound.
        upper: what it is below; None if there is no such bound.
        not_in: what it may not be.
    """

    path: FieldPath
    lower: bytes | None = None
    upper: bytes | None = None
    not_in: frozenset[bytes] = frozenset()

    def holds(self, document: StoredDocument) -> bool:
        """Return whether a document meets it; the field must exist."""
        key = document.field_key(self.path)
        return (
            key is not None
            and (self.lower is None or self.lower <= key)
            and (self.upper is None or key < self.upper)
            and key not in self.not_in
        )


@dataclass(frozen=True)
class Part:
    """Filters that must all match.

    Attributes:
        equal: the keys of the fields that are compared for equality.
        contains: a field and the key of the element that its array must contain, or None.
        conditions: what else must hold.
        is_impossible: no document matches.
    """

    equal: dict[FieldPath, bytes]
    contains: tuple[FieldPath, bytes] | None = None
    conditions: tuple[Condition, ...] = ()
    is_impossible: bool = False


@dataclass(frozen=True)
class _Equal:
    path: FieldPath
    key: bytes
    matches: bool = True


@dataclass(frozen=True)
class _Contains:
    path: FieldPath
    key: bytes


_Leaf = _Equal | _Contains | Condition
_Alternatives = list[list[_Leaf]]


class FilterReader:
    """Reads the ``where`` of one query.

    Args:
        database: the database's name, to which names that are compared must belong.

    Attributes:
        parts: the parts; one that matches everything if there is no ``where``.
        inequality_paths: the fields that are compared other than for equality, in order of their
            paths. The query sorts by them.
    """

    def __init__(self, where: Any, database: str) -> None:
        self._database = database
        self._count = 0
        self._inequalities: set[FieldPath] = set()
        self._seen: list[str] = []
        kind = where.WhichOneof("filter_type")
        alternatives = self._read(where) if kind is not None else [[]]
        self._check_combinations()
        if len(alternatives) > MOST_PARTS:
            raise InvalidArgumentError(
                f"The query has {len(alternatives)} disjunctions; a query may have at most "
                f"{MOST_PARTS}, counted in disjunctive normal form."
            )
        self.parts = [_part(alternative) for alternative in alternatives]
        self.inequality_paths = sorted(self._inequalities)

    def _read(self, given: Any) -> _Alternatives:
        kind = given.WhichOneof("filter_type")
        if kind == "composite_filter":
            return self._read_composite(given.composite_filter)
        self._count += 1
        if self._count > MOST_FILTERS:
            raise InvalidArgumentError(f"A query may have at most {MOST_FILTERS} filters.")
        if kind == "field_filter":
            return self._read_field(given.field_filter)
        if kind == "unary_filter":
            return self._read_unary(given.unary_filter)
        raise InvalidArgumentError("The query has an empty filter.")

    def _read_composite(self, given: Any) -> _Alternatives:
        if not given.filters:
            raise InvalidArgumentError("A composite filter must have at least one filter.")
        if given.op == _CompositeOperator.AND:
            alternatives: _Alternatives = [[]]
            for each in given.filters:
                more = self._read(each)
                if len(alternatives) * len(more) > MOST_PARTS * MOST_PARTS:
                    raise InvalidArgumentError(
                        f"A query may have at most {MOST_PARTS} disjunctions."
                    )
                alternatives = [left + right for left, right in product(alternatives, more)]
            return alternatives
        if given.op == _CompositeOperator.OR:
            if len(given.filters) > 1:
                self._seen.append("OR")
            return [alternative for each in given.filters for alternative in self._read(each)]
        raise InvalidArgumentError("A composite filter's op must be AND or OR.")

    def _read_field(self, given: Any) -> _Alternatives:
        path = read_field_path(given.field.field_path)
        try:
            operator = _FieldOperator.Name(given.op)
        except ValueError:
            operator = "OPERATOR_UNSPECIFIED"
        self._seen.append(operator)
        match operator:
            case "EQUAL":
                return [[_Equal(path, self._key(path, given.value))]]
            case "IN":
                # Null is equal to nothing in a list.
                keys = self._keys(path, given.value, operator, MOST_PARTS)
                return [[_Equal(path, key, matches=key != order.NULL_KEY)] for key in keys]
            case "ARRAY_CONTAINS":
                return [[_Contains(path, self._key(path, given.value))]]
            case "ARRAY_CONTAINS_ANY":
                keys = self._keys(path, given.value, operator, MOST_PARTS)
                return [[_Contains(path, key)] for key in keys]
            case "NOT_EQUAL":
                excluded = frozenset({self._key(path, given.value), order.NULL_KEY})
                return self._inequality(Condition(path, not_in=excluded))
            case "NOT_IN":
                excluded = frozenset(self._keys(path, given.value, operator, MOST_NOT_IN))
                if order.NULL_KEY in excluded:
                    return self._inequality(Condition(path, upper=b""))
                return self._inequality(Condition(path, not_in=excluded | {order.NULL_KEY}))
            case "OPERATOR_UNSPECIFIED":
                raise InvalidArgumentError("A filter has no operator.")
            case _:
                return self._inequality(self._range(path, operator, given.value))

    def _read_unary(self, given: Any) -> _Alternatives:
        path = read_field_path(given.field.field_path)
        match given.op:
            case _UnaryOperator.IS_NULL:
                return [[_Equal(path, order.NULL_KEY)]]
            case _UnaryOperator.IS_NAN:
                return [[_Equal(path, order.NAN_KEY)]]
            case _UnaryOperator.IS_NOT_NULL:
                return self._inequality(Condition(path, not_in=frozenset({order.NULL_KEY})))
            case _UnaryOperator.IS_NOT_NAN:
                excluded = frozenset({order.NAN_KEY, order.NULL_KEY})
                return self._inequality(Condition(path, not_in=excluded))
        raise InvalidArgumentError("A unary filter has no operator.")

    def _range(self, path: FieldPath, operator: str, value: Any) -> Condition:
        key = self._key(path, value)
        lowest, highest = (None, None) if path == NAME_PATH else order.type_range(key)
        bounds: dict[str, Callable[[], Condition]] = {
            "LESS_THAN": lambda: Condition(path, lowest, key),
            "LESS_THAN_OR_EQUAL": lambda: Condition(path, lowest, key + order.AFTER),
            "GREATER_THAN": lambda: Condition(path, key + order.AFTER, highest),
            "GREATER_THAN_OR_EQUAL": lambda: Condition(path, key, highest),
        }
        return bounds[operator]()

    def _inequality(self, condition: Condition) -> _Alternatives:
        self._inequalities.add(condition.path)
        if len(self._inequalities) > MOST_INEQUALITY_FIELDS:
            raise InvalidArgumentError(
                f"A query may have inequality filters on at most {MOST_INEQUALITY_FIELDS} fields."
            )
        return [[condition]]

    def _keys(self, path: FieldPath, value: Any, operator: str, most: int) -> list[bytes]:
        if value.WhichOneof("value_type") != "array_value" or not value.array_value.values:
            raise InvalidArgumentError(f"'{operator}' requires an non-empty ArrayValue.")
        values = value.array_value.values
        if len(values) > most:
            raise InvalidArgumentError(f"'{operator}' supports up to {most} comparison values.")
        return list(dict.fromkeys(self._key(path, each) for each in values))

    def _key(self, path: FieldPath, value: Any) -> bytes:
        kind = value.WhichOneof("value_type")
        if path == NAME_PATH:
            return name_value_key(value, self._database)
        if kind is None:
            raise InvalidArgumentError("A filter has no value.")
        text = value.string_value.encode() if kind == "string_value" else value.bytes_value
        if len(text) > order.INDEXED_BYTES:
            raise InvalidArgumentError(
                f'The value of property "{".".join(path)}" is longer than '
                f"{order.INDEXED_BYTES} bytes."
            )
        return order.value_key(value)

    def _check_combinations(self) -> None:
        seen = self._seen
        negative = [name for name in seen if name in {"NOT_IN", "NOT_EQUAL"}]
        if seen.count("NOT_IN") > 1 or ("NOT_IN" in seen and len(negative) > 1):
            raise InvalidArgumentError(
                "A query cannot have more than one 'NOT_IN' filter, or one beside 'NOT_EQUAL'."
            )
        if "NOT_IN" in seen and {"IN", "ARRAY_CONTAINS_ANY", "OR"} & set(seen):
            raise InvalidArgumentError(
                "'NOT_IN' cannot be used in the same query with 'IN', 'ARRAY_CONTAINS_ANY' or 'OR'."
            )


def name_value_key(value: Any, database: str) -> bytes:
    """Return what a document's name in a query is sorted by.

    Raises:
        InvalidArgumentError: it is not the name of a document of the database.
    """
    if value.WhichOneof("value_type") != "reference_value":
        raise InvalidArgumentError("__key__ filter value must be a Key")
    named_database, path = split_document_name(value.reference_value)
    if named_database != database:
        raise InvalidArgumentError(
            f"The name {value.reference_value} is not of the database of the query."
        )
    return order.name_key(path)


def _part(leaves: list[_Leaf]) -> Part:
    equal: dict[FieldPath, bytes] = {}
    contained: dict[tuple[FieldPath, bytes], None] = {}
    conditions: list[Condition] = []
    is_impossible = False
    for leaf in leaves:
        match leaf:
            case _Equal():
                if not leaf.matches or equal.setdefault(leaf.path, leaf.key) != leaf.key:
                    is_impossible = True
            case _Contains():
                contained[leaf.path, leaf.key] = None
            case Condition():
                conditions.append(leaf)
    if len(contained) > 1:
        raise InvalidArgumentError(
            "A maximum of 1 'ARRAY_CONTAINS' filter is allowed per disjunction."
        )
    return Part(equal, next(iter(contained), None), tuple(conditions), is_impossible)
