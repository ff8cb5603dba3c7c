"""Which queries have an index: the rules, each by an example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localcloud.services.firestore.indexes import (
    COLLECTION,
    COLLECTION_GROUP,
    Indexes,
    Need,
)

ASC, DESC = "ASCENDING", "DESCENDING"
NAME = "__name__"


def indexes(tmp_path: Path, *composites: str, **overrides: Any) -> Indexes:
    """Return indexes of the collection ``c``.

    Args:
        tmp_path: for the file.
        composites: each is fields with ``-`` for descending, ``@`` for an array.
        overrides: fields with their own indexes.
    """

    def read(field: str) -> dict[str, str]:
        if field.startswith("@"):
            return {"fieldPath": field[1:], "arrayConfig": "CONTAINS"}
        return {"fieldPath": field.removeprefix("-"), "order": DESC if field[0] == "-" else ASC}

    file = tmp_path / "indexes.json"
    content = {
        "indexes": [
            {"collectionGroup": "c", "fields": [read(field) for field in composite.split()]}
            for composite in composites
        ],
        "fieldOverrides": [
            {"collectionGroup": "c", "fieldPath": path, "indexes": own}
            for path, own in overrides.items()
        ],
    }
    file.write_text(json.dumps(content))
    return Indexes.load(file)


def need(equal: str, order: str, contains: str = "", scope: str = COLLECTION) -> Need:
    """Return what a query needs: fields of its equalities, and its order with ``-``."""
    return Need(
        "c",
        scope,
        frozenset(equal.split()),
        frozenset(contains.split()),
        tuple(
            (field.removeprefix("-"), DESC if field.startswith("-") else ASC)
            for field in order.split()
        ),
    )


@pytest.mark.parametrize(
    ("query", "composites"),
    [
        (need("", NAME), []),
        (need("a", NAME), []),
        (need("a b d.e", NAME), []),
        (need("a", NAME, contains="b"), []),
        (need("", f"a {NAME}"), []),
        (need("", f"-a -{NAME}"), []),
        (need("a", f"-{NAME}"), []),
        (need("a", f"b {NAME}"), ["a b"]),
        (need("a", f"b {NAME}"), ["-a b"]),
        (need("a", f"-b -{NAME}"), ["a -b"]),
        (need("a", f"-b {NAME}"), ["a -b __name__"]),
        (need("a b", f"d {NAME}"), ["b a d"]),
        (need("a b", f"d {NAME}"), ["a d", "b d"]),
        (need("a b e", f"d {NAME}"), ["a b d", "b e d"]),
        (need("", f"a -b -{NAME}"), ["a -b"]),
        (need("", f"b {NAME}", contains="a"), ["@a b"]),
        (need("a", f"b {NAME}"), ["a b", "a b d"]),
        (need("", f"-{NAME}"), ["-__name__"]),
        (need(NAME, NAME), []),
    ],
)
def test_a_query_has_its_index(tmp_path: Path, query: Need, composites: list[str]) -> None:
    """A field's own, a composite one, or several that end as the query sorts, together."""
    assert indexes(tmp_path, *composites).serve(query)


@pytest.mark.parametrize(
    ("query", "composites"),
    [
        (need("", f"-{NAME}"), []),
        (need("", f"a -{NAME}"), []),
        (need("", f"-a {NAME}"), []),
        (need("a", f"b {NAME}"), []),
        (need("a", f"b {NAME}"), ["b a"]),
        (need("a", f"b {NAME}"), ["a -b"]),
        (need("a", f"-b -{NAME}"), ["a b"]),
        (need("a", f"b {NAME}"), ["a d b"]),
        (need("a", f"b {NAME}"), ["a b d"]),
        (need("a b", f"d {NAME}"), ["a d"]),
        (need("a b", f"d {NAME}"), ["a d", "b -d"]),
        (need("", f"a b {NAME}"), ["b a"]),
        (need("", f"a b {NAME}"), ["-a -b"]),
        (need("", f"b {NAME}", contains="a"), ["a b"]),
        (need("a", f"b {NAME}"), ["@a b"]),
        (need("", f"-{NAME}", contains="a"), []),
        (need("a", NAME, scope=COLLECTION_GROUP), []),
        (need("a", f"b {NAME}", scope=COLLECTION_GROUP), ["a b"]),
    ],
)
def test_a_query_has_no_index(tmp_path: Path, query: Need, composites: list[str]) -> None:
    """Fields, directions, kinds, the order and the scope all have to fit."""
    assert not indexes(tmp_path, *composites).serve(query)


def test_an_exempted_field_has_no_index_of_its_own(tmp_path: Path) -> None:
    """Neither has a field of an exempted map, unless it is named itself."""
    own = indexes(tmp_path, a=[], **{"a.b": [{"order": ASC, "queryScope": COLLECTION}]})
    assert not own.serve(need("a", NAME))
    assert not own.serve(need("", f"a.d {NAME}"))
    assert own.serve(need("", f"a.b {NAME}"))
    assert not own.serve(need("", f"-a.b -{NAME}"))
    assert not own.serve(need("", NAME, contains="a.b"))
    assert own.serve(need("aa", NAME))


def test_an_exempted_field_can_be_in_a_composite_index(tmp_path: Path) -> None:
    """Only its own indexes are left out."""
    assert indexes(tmp_path, "a b", a=[]).serve(need("a", f"b {NAME}"))
    assert not indexes(tmp_path, "a b", a=[]).serve(need("a", NAME))


def test_an_index_of_a_collection_group_is_declared(tmp_path: Path) -> None:
    """Then it serves the group, and the collection needs its own."""
    group = indexes(tmp_path, a=[{"order": ASC, "queryScope": COLLECTION_GROUP}])
    assert group.serve(need("a", NAME, scope=COLLECTION_GROUP))
    assert not group.serve(need("a", NAME))


def test_the_entries_of_a_document_are_counted(tmp_path: Path) -> None:
    """Two of each field, one more of each different element, one of each composite index."""
    from localcloud.services.firestore.limits import leaves
    from tests.firestore_calls import value

    fields = value({"a": 1, "m": {"x": 1}, "list": [1, 2, 2]}).map_value.fields
    plain = indexes(tmp_path)
    assert plain.count_entries("c", leaves(fields)) == 2 + 2 + (2 + 2)
    more = indexes(tmp_path, "a m.x", "a @list", "a none", list=[])
    assert more.count_entries("c", leaves(fields)) == 2 + 2 + 0 + 1 + 2
    assert more.count_entries("other", leaves(fields)) == 8
