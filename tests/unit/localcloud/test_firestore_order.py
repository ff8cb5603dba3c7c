"""How values and names become bytes that sort as Firestore sorts."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.services.firestore.order import AFTER, NAN_KEY, descending, name_key, value_key
from tests.firestore_calls import GeoPoint, Reference, value

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
VALUES: Any = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.just(math.nan) | TEXTS | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(NUMBERS, NUMBERS)
def test_numbers_are_ordered_exactly(one: float, other: float) -> None:
    """Also integers and doubles together, which Python compares without rounding."""
    keys = value_key(value(one)), value_key(value(other))
    assert (keys[0] < keys[1], keys[0] == keys[1]) == (one < other, one == other)
    assert min(keys) > NAN_KEY


@given(TEXTS, TEXTS)
def test_texts_are_ordered_by_their_bytes(one: str, other: str) -> None:
    """In UTF-8, in which zeros are no end."""
    keys = value_key(value(one)), value_key(value(other))
    assert (keys[0] < keys[1]) == (one.encode() < other.encode())


@given(st.lists(NUMBERS, max_size=3), st.lists(NUMBERS, max_size=3))
def test_arrays_are_ordered_by_their_elements(one: list[float], other: list[float]) -> None:
    """One that another continues is before it."""
    assert (value_key(value(one)) < value_key(value(other))) == (one < other)


@given(VALUES, VALUES)
def test_a_key_can_be_joined_to_others(one: Any, other: Any) -> None:
    """None is the beginning of another or ends like ``AFTER``; upside down it sorts backwards."""
    first, second = sorted([value_key(value(one)), value_key(value(other))])
    assert first == second or not second.startswith(first)
    assert not first.endswith(AFTER)
    assert descending(second) <= descending(first)
    assert (first + b"\xfe" < second + b"\x01") == (first < second)


PATHS_IN_ORDER = (
    *("a/__id-3__", "a/__id7__", "a/__id10__", "a/10", "a/9", "a/A", "a/a", "a/a/a/a", "a/a!"),
    *("a/aa", "a/b", "a/ü", "a/\ue000", "a/\U0001f600", "a!/a", "b/a"),
)


def test_names_are_ordered_by_segment() -> None:
    """A document is before those below it, in both directions the other way round."""
    for before, after in pairwise(map(name_key, PATHS_IN_ORDER)):
        assert before < after
        assert descending(before) > descending(after)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Reference("projects/p/databases/d/documents/c/a"), GeoPoint((-90.0, -180.0))),
        ([], {}),
        ({"z": 1}, {"z": 1, "zz": None}),
        ({"a": 2}, {"b": 1}),
        ([9], {"__type__": "__vector__", "value": [0.0]}),
        (
            {"__type__": "__vector__", "value": [9.0]},
            {"__type__": "__vector__", "value": [0.0] * 2},
        ),
        ({"__type__": "__vector__", "value": [9.0]}, {}),
    ],
)
def test_types_are_ordered(one: Any, other: Any) -> None:
    """Vectors are between arrays and maps, and shorter ones first."""
    assert value_key(value(one)) < value_key(value(other))
