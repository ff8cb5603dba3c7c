"""The ``where`` of a query as parts without OR: a document is found if one part matches it.

Sources for what an operator matches and for the limits: Firestore's documentation, "Perform simple
and compound queries" and "Query limitations", and the reference of ``StructuredQuery``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

from localcloud.services.call_errors import InvalidArgumentError
from localcloud.services.firestore import order
from localcloud.services.firestore.document import StoredDocument
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
_NEGATIVE = {"NOT_EQUAL", "NOT_IN", "IS_NOT_NAN", "IS_NOT_NULL"}
_ALTERNATIVES = {"IN", "ARRAY_CONTAINS_ANY", "OR"}
# As in SQL, a comparison with null or NaN is never true, except that all else is unequal to NaN.
# The client library asks for them by IS_NULL and IS_NAN.
_COMPARED_WITH_NOTHING = {order.NULL_KEY, order.NAN_KEY}

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
    matches: bool = True


_Leaf = _Equal | _Contains | Condition
_Alternatives = list[list[_Leaf]]


class FilterReader:
    """Reads the ``where`` of one query.

    Args:
        database: the database's name, to which names that are compared must belong.

    Attributes:
        count: the number of filters.
        parts: the parts; one that matches everything if there is no ``where``.
        inequality_paths: the fields that are compared other than for equality, in order of their
            paths and without the document's name. The query sorts by them.
    """

    def __init__(self, where: Any, database: str) -> None:
        self._database = database
        self.count = 0
        self._inequalities: set[FieldPath] = set()
        self._seen: set[str] = set()
        kind = where.WhichOneof("filter_type")
        alternatives = self._read(where) if kind is not None else [[]]
        _check_alternatives(len(alternatives), MOST_PARTS)
        if len(self._inequalities) > MOST_INEQUALITY_FIELDS:
            names = ", ".join(sorted(".".join(path) for path in self._inequalities))
            raise InvalidArgumentError(
                f"The query contains {len(self._inequalities)} distinct inequality fields: "
                f"[{names}]. A query may not have more than {MOST_INEQUALITY_FIELDS} distinct "
                "inequality fields."
            )
        self.parts = [_part(alternative) for alternative in alternatives]
        if (
            self._inequalities
            and NAME_PATH not in self._inequalities
            and any(NAME_PATH in part.equal for part in self.parts)
        ):
            raise InvalidArgumentError(
                "Equality on key is not allowed if there are other inequality fields and key does "
                "not appear in inequalities."
            )
        self.inequality_paths = sorted(self._inequalities - {NAME_PATH})

    def _read(self, given: Any) -> _Alternatives:
        kind = given.WhichOneof("filter_type")
        if kind == "composite_filter":
            return self._read_composite(given.composite_filter)
        self.count += 1
        if kind == "field_filter":
            return self._read_field(given.field_filter)
        if kind == "unary_filter":
            return self._read_unary(given.unary_filter)
        raise InvalidArgumentError("The query has an empty filter.")

    def _read_composite(self, given: Any) -> _Alternatives:
        if given.op == _CompositeOperator.AND:
            alternatives: _Alternatives = [[]]
            for each in given.filters:
                more = self._read(each)
                _check_alternatives(len(alternatives) * len(more), MOST_PARTS**2)
                alternatives = [left + right for left, right in product(alternatives, more)]
            return alternatives
        if given.op == _CompositeOperator.OR:
            self._note("OR")
            return [alternative for each in given.filters for alternative in self._read(each)]
        raise InvalidArgumentError("A composite filter's op must be AND or OR.")

    def _read_field(self, given: Any) -> _Alternatives:
        path = read_field_path(given.field.field_path)
        try:
            operator = _FieldOperator.Name(given.op)
        except ValueError:
            operator = "OPERATOR_UNSPECIFIED"
        self._note(operator)
        match operator:
            case "EQUAL":
                return [[self._equal(path, self._key(path, given.value))]]
            case "IN":
                keys = self._keys(path, given.value, operator, MOST_PARTS)
                return [[self._equal(path, key)] for key in keys]
            case "ARRAY_CONTAINS":
                return [[self._contains(path, self._key(path, given.value))]]
            case "ARRAY_CONTAINS_ANY":
                keys = self._keys(path, given.value, operator, MOST_PARTS)
                return [[self._contains(path, key)] for key in keys]
            case "NOT_EQUAL":
                key = self._key(path, given.value)
                if key == order.NULL_KEY:
                    return [[_Equal(path, key, matches=False)]]
                return self._unequal(path, [key])
            case "NOT_IN":
                return self._unequal(path, self._keys(path, given.value, operator, MOST_NOT_IN))
            case "OPERATOR_UNSPECIFIED":
                raise InvalidArgumentError("A filter has no operator.")
            case _:
                return self._range(path, operator, given.value)

    def _read_unary(self, given: Any) -> _Alternatives:
        path = read_field_path(given.field.field_path)
        if given.op in _UnaryOperator.values():
            self._note(_UnaryOperator.Name(given.op))
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

    def _equal(self, path: FieldPath, key: bytes) -> _Leaf:
        return _Equal(path, key, matches=key not in _COMPARED_WITH_NOTHING)

    def _contains(self, path: FieldPath, key: bytes) -> _Leaf:
        return _Contains(path, key, matches=key not in _COMPARED_WITH_NOTHING)

    def _unequal(self, path: FieldPath, keys: list[bytes]) -> _Alternatives:
        if order.NULL_KEY in keys:
            return self._inequality(Condition(path, upper=b""))
        excluded = {order.NULL_KEY, *keys} - {order.NAN_KEY}
        return self._inequality(Condition(path, not_in=frozenset(excluded)))

    def _range(self, path: FieldPath, operator: str, value: Any) -> _Alternatives:
        key = self._key(path, value)
        if key in _COMPARED_WITH_NOTHING:
            return [[_Equal(path, key, matches=False)]]
        lowest, highest = (None, None) if path == NAME_PATH else order.type_range(key)
        bounds: dict[str, Callable[[], Condition]] = {
            "LESS_THAN": lambda: Condition(path, lowest, key),
            "LESS_THAN_OR_EQUAL": lambda: Condition(path, lowest, key + order.AFTER),
            "GREATER_THAN": lambda: Condition(path, key + order.AFTER, highest),
            "GREATER_THAN_OR_EQUAL": lambda: Condition(path, key, highest),
        }
        return self._inequality(bounds[operator]())

    def _inequality(self, condition: Condition) -> _Alternatives:
        self._inequalities.add(condition.path)
        return [[condition]]

    def _keys(self, path: FieldPath, value: Any, operator: str, most: int) -> list[bytes]:
        if value.WhichOneof("value_type") != "array_value":
            raise InvalidArgumentError(f"'{operator}' requires an ArrayValue.")
        if not value.array_value.values:
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
                f"value for {'.'.join(path)} is too large to be used in a query"
            )
        return order.value_key(value)

    def _note(self, operator: str) -> None:
        """Take notice of an operator, and check that it may stand beside the others."""
        if operator in _NEGATIVE and _NEGATIVE & self._seen:
            raise InvalidArgumentError(
                "Only a single 'NOT_EQUAL', 'NOT_IN', 'IS_NOT_NAN', or 'IS_NOT_NULL' filter "
                "allowed per query."
            )
        self._seen.add(operator)
        if "NOT_IN" in self._seen and _ALTERNATIVES & self._seen:
            raise InvalidArgumentError(
                "'NOT_IN' cannot be used in the same query with 'IN', 'ARRAY_CONTAINS_ANY' or 'OR'."
            )


def _check_alternatives(count: int, most: int) -> None:
    if count > most:
        raise InvalidArgumentError(
            f"Too many disjunctions after normalization. Result had {count} disjunctions which is "
            f"more than the maximum of {MOST_PARTS}"
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
            f"The request was for database '{database}' but was attempting to access database "
            f"'{named_database}'"
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
                is_impossible = is_impossible or not leaf.matches
            case Condition():
                conditions.append(leaf)
    if len(contained) > 1:
        raise InvalidArgumentError(
            "A maximum of 1 'ARRAY_CONTAINS' filter is allowed per disjunction."
        )
    return Part(equal, next(iter(contained), None), tuple(conditions), is_impossible)
