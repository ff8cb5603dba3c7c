"""Random queries and commits: the local cloud's Firestore does what Google's emulator does.

``--seed`` makes others. Left out is what the emulator does differently than Firestore
(``test_firestore_server.py``).
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from google.cloud.firestore_admin_v1.types import Index

from localcloud.services.call_errors import CallError, FailedPreconditionError
from localcloud.services.firestore import messages
from localcloud.services.firestore.indexes import Indexes
from localcloud.services.firestore.query import Query
from tests.firestore_calls import Calls, GeoPoint, Reference, value
from tests.firestore_servers import embedded_server

QUERIES = 200
COMMITS = 150
StructuredQuery = messages.StructuredQuery
NOW = datetime(2026, 1, 1, tzinfo=UTC)

COMMON = (None, 0, 1, 2, 3, 1.0, "a", "b", True, [1, 2], [2, 3], [1], math.nan, NOW)
RARE: tuple[Any, ...] = (
    *(None, True, False, math.nan, -math.inf, math.inf, -1, -0.0, 0, 0.0, 1, 1.0, 1.5, 2**53),
    *(2**53 + 1, float(2**53), 2**63 - 1, -(2**63), float(2**63), 5e-324),
    *(NOW, NOW + timedelta(microseconds=1), NOW - timedelta(days=9999)),
    *("", "a", "aa", "b", "ü", "\ue000", "\U0001f600", "a\0", "a\0b", b"", b"a", b"\xff", b"\0"),
    *(GeoPoint((0.0, 0.0)), GeoPoint((0.0, 1.5)), GeoPoint((-90.0, 180.0))),
    *([], [1], [1.0], ["a"], [None], [math.nan], {}, {"x": 1}, {"x": 1, "y": 2}, {"x": 2}),
    *({"y": 1}, {"x": {"z": 1}}, {"__type__": "__vector__", "value": [1.0, 2.0]}),
)
FIELDS = ("a", "b", "c", "m.x", "m.y", "m")
IDS = ("a", "A", "aa", "b", "ü", "\U0001f600", "\ue000", "x-1", "x_1", "10", "9", "__id7__")
PATHS = (
    *(f"c/{name}" for name in (*IDS, "__id10__", *(f"n{number}" for number in range(30)))),
    *("c/a/c/s1", "c/a/c/a"),
)


class RandomQueries:
    """Makes documents and queries of them.

    Args:
        root: the name below which the documents are.
        seed: the same one makes the same.
    """

    def __init__(self, root: str, seed: int) -> None:
        self._random = Random(seed)
        self._root = root

    def documents(self) -> dict[str, dict[str, Any]]:
        """Return documents by path; any field may be missing."""
        return {path: self._fields() for path in PATHS}

    def query(self) -> Any:
        """Return a query."""
        choose = self._random
        query = StructuredQuery()
        query.from_.add(collection_id="c", all_descendants=choose.random() < 0.1)
        if choose.random() < 0.8:
            self._fill_filter(query.where, depth=0)
        paths = dict.fromkeys(self._field() for _ in range(choose.choice([0, 0, 1, 1, 2])))
        if paths and choose.random() < 0.2:
            paths["__name__"] = None  # alone and descending, the emulator refuses it
        for path in paths:
            query.order_by.add(direction=choose.choice([1, 2])).field.field_path = path
        for cursor in (query.start_at, query.end_at):
            if paths and choose.random() < 0.25:
                cursor.before = choose.random() < 0.5
                for path in list(paths)[: choose.randint(1, len(paths))]:
                    given = self._name() if path == "__name__" else self._value()
                    cursor.values.add().CopyFrom(value(given))
        if choose.random() < 0.3:
            query.limit.value = choose.randint(1, 10)
        if choose.random() < 0.15:
            query.offset = choose.randint(1, 5)
        if choose.random() < 0.15:
            query.select.SetInParent()
            for _ in range(choose.randint(0, 2)):
                query.select.fields.add(field_path=choose.choice((*FIELDS, "__name__")))
        return query

    def _fill_filter(self, where: Any, depth: int) -> None:
        choose = self._random
        if depth < 2 and choose.random() < 0.45:
            where.composite_filter.op = choose.choice([1, 1, 2])
            for _ in range(choose.randint(1, 3)):
                self._fill_filter(where.composite_filter.filters.add(), depth + 1)
            return
        if choose.random() < 0.1:
            where.unary_filter.op = choose.choice([2, 3, 4, 5])
            where.unary_filter.field.field_path = self._field()
            return
        operators = ["EQUAL"] * 4 + ["LESS_THAN", "LESS_THAN_OR_EQUAL", "GREATER_THAN"]
        operators += ["GREATER_THAN_OR_EQUAL", "NOT_EQUAL", "ARRAY_CONTAINS", "IN", "NOT_IN"]
        operators += ["ARRAY_CONTAINS_ANY"]
        path, given = self._field(), self._value()
        if choose.random() < 0.05:
            path, given, operators = "__name__", self._name(), operators[:8]
        operator = choose.choice(operators)
        if operator in {"IN", "NOT_IN", "ARRAY_CONTAINS_ANY"}:
            compared = messages.Value()
            for _ in range(choose.randint(1, 4)):
                compared.array_value.values.add().CopyFrom(value(self._value()))
            given = compared
        where.field_filter.op = StructuredQuery.FieldFilter.Operator.Value(operator)
        where.field_filter.field.field_path = path
        where.field_filter.value.CopyFrom(value(given))

    def _fields(self) -> dict[str, Any]:
        choose = self._random
        fields: dict[str, Any] = {
            name: self._value() for name in ("a", "b", "c") if choose.random() < 0.8
        }
        if choose.random() < 0.5:
            fields["m"] = {name: self._value() for name in "xy" if choose.random() < 0.7}
        return fields

    def _value(self) -> Any:
        return self._random.choice(RARE if self._random.random() < 0.5 else COMMON)

    def _name(self) -> Reference:
        return Reference(f"{self._root}/{self._random.choice(PATHS[:20])}")

    def _field(self) -> str:
        return self._random.choice(FIELDS[: self._random.choice([2, 3, 6])])


def indexes_for(queries: list[Any], root: str, path: Path) -> None:
    """Write the index file that the queries need, made of the links in the refusals only.

    So a link is shown to have all that its query needs, in the form of Google's own message.
    """
    links: dict[tuple[str, bytes], Any] = {}
    indexes = Indexes()
    for structured in queries:
        try:
            query = Query.read(root, structured)
        except CallError:
            continue
        while link := link_of(query, indexes):
            assert link not in links, "the index of the link does not serve its query"
            links[link] = Index.pb().FromString(link[1])
            path.write_text(json.dumps(index_file(links)))
            indexes = Indexes.load(path)


def link_of(query: Query, indexes: Indexes) -> tuple[str, bytes] | None:
    """Return the kind and the content of the link in a query's refusal, or None."""
    try:
        query.require_indexes(indexes)
    except FailedPreconditionError as error:
        [(kind, link)] = re.findall(r"create_(composite|exemption)=(\S+)$", str(error))
        return kind, base64.urlsafe_b64decode(link + "=" * (-len(link) % 4))
    return None


def index_file(links: dict[tuple[str, bytes], Any]) -> dict[str, Any]:
    """Return the content of an index file with the indexes of links."""
    composites: list[dict[str, Any]] = []
    own: dict[tuple[str, str], list[dict[str, str]]] = {}
    for (kind, _), index in links.items():
        collection_id = index.name.split("/")[5]
        scope = Index.QueryScope(index.query_scope).name
        fields = [
            {"fieldPath": each.field_path}
            | ({"arrayConfig": "CONTAINS"} if each.array_config else {})
            | ({"order": Index.IndexField.Order(each.order).name} if each.order else {})
            for each in index.fields
        ]
        if kind == "composite":
            composites.append(
                {"collectionGroup": collection_id, "queryScope": scope, "fields": fields}
            )
            continue
        [only] = fields
        modes = own.setdefault((collection_id, only.pop("fieldPath")), [])
        modes += [{"queryScope": scope, **only}]
    automatic = [{"order": "ASCENDING"}, {"order": "DESCENDING"}, {"arrayConfig": "CONTAINS"}]
    return {
        "indexes": composites,
        "fieldOverrides": [
            {"collectionGroup": collection_id, "fieldPath": path, "indexes": automatic + modes}
            for (collection_id, path), modes in own.items()
        ],
    }


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the name of its refusal."""
    try:
        return call()
    except grpc.RpcError as refusal:
        error: Any = refusal
        return error.code().name


def shown(documents: list[Any], root: str) -> list[tuple[str, list[tuple[str, bytes]]]]:
    """Return documents without their times, in a form that can be compared."""
    return [
        (
            document.name.removeprefix(root),
            sorted(
                (name, each.SerializeToString(deterministic=True))
                for name, each in document.fields.items()
            ),
        )
        for document in documents
    ]


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run."""
    return int(request.config.getoption("--seed"))


def test_random_queries_find_the_same(google_firestore: str, seed: int, tmp_path: Path) -> None:
    """The same documents, fields and order, or the same refusal."""
    google = Calls(google_firestore)
    made = RandomQueries(google.root, seed)
    documents = made.documents()
    queries = [made.query() for _ in range(QUERIES)]
    file = tmp_path / "indexes.json"
    indexes_for(queries, google.root, file)
    with embedded_server("--indexes", str(file)) as (address, _):
        own = Calls(address, project=google.database.split("/")[1])
        for calls in (google, own):
            calls.commit(*(calls.put(path, fields) for path, fields in documents.items()))
        counts = {"found": 0, "refused": 0}
        for query in queries:
            expected, found = (
                outcome(lambda: shown(calls.query(query), calls.root))  # noqa: B023
                for calls in (google, own)
            )
            assert found == expected, query
            counts["refused" if isinstance(found, str) else "found"] += bool(found)
        assert min(counts.values()) > 0, counts
        google.close()
        own.close()


@dataclass
class Subject:
    """A server, and the versions that it has given to each path."""

    calls: Calls
    versions: dict[str, Any] = field(default_factory=dict)

    def documents(self) -> list[Any]:
        """Return all documents in order, and remember their versions."""
        found = self.calls.query(StructuredQuery(from_=[{"all_descendants": True}]))
        self.versions |= {each.name.split("/", 5)[5]: each.update_time for each in found}
        return found


@dataclass(frozen=True)
class RandomWrite:
    """A write in words that mean the same for both servers."""

    kind: str
    path: str
    fields: dict[str, Any]
    mask: list[str] | None
    transforms: list[tuple[str, str, Any]]
    condition: str | None

    def message(self, subject: Subject) -> Any:
        """Return the ``Write`` message for a server."""
        calls = subject.calls
        write = messages.Write()
        transforms = write.update_transforms
        match self.kind:
            case "delete":
                write.delete = f"{calls.root}/{self.path}"
            case "transform":
                write.transform.document = f"{calls.root}/{self.path}"
                transforms = write.transform.field_transforms
            case _:
                write = calls.put(self.path, self.fields)
                transforms = write.update_transforms
                if self.mask is not None:
                    write.update_mask.SetInParent()
                    write.update_mask.field_paths.extend(self.mask)
        for path, kind, operand in self.transforms:
            transform = transforms.add(field_path=path)
            if isinstance(operand, list):
                getattr(transform, kind).SetInParent()
                getattr(transform, kind).values.extend(map(value, operand))
            else:
                getattr(transform, kind).CopyFrom(value(operand))
        self._set_condition(write, subject.versions.get(self.path))
        return write

    def _set_condition(self, write: Any, version: Any | None) -> None:
        if self.condition in {"exists", "is missing"}:
            write.current_document.exists = self.condition == "exists"
        elif self.condition is not None and version is not None:
            write.current_document.update_time.CopyFrom(version)
            if self.condition == "is outdated":
                write.current_document.update_time.seconds -= 1


def random_commits(seed: int) -> Iterator[list[RandomWrite]]:
    """Yield commits of one to three writes, without an end."""
    choose = Random(seed)
    paths = ("a", "b", "m", "m.x", "m.x.y", "`q.r`", "m.`x y`")
    values: tuple[Any, ...] = (
        *RARE[:20],
        *RARE[27:31],
        [1, 2],
        ["a", 1, 1.0],
        [],
        {},
        {"x": {"y": 2}, "z": [1]},
    )
    numbers = (0, -0.0, 0.0, 1, -1, 1.0, 2.5, 2**63 - 1, -(2**63), math.nan, math.inf, "no number")

    def fields() -> dict[str, Any]:
        found = {name: choose.choice(values) for name in ("a", "b", "q.r") if choose.random() < 0.6}
        if choose.random() < 0.6:
            found["m"] = {
                name: choose.choice(values) for name in ("x", "x y") if choose.random() < 0.7
            }
        return found

    def transform() -> tuple[str, str, Any]:
        kinds = ("increment", "maximum", "minimum")
        if choose.random() < 0.6:
            return choose.choice(paths), choose.choice(kinds), choose.choice(numbers)
        elements = [choose.choice([1, 1.0, "a", None, math.nan, {"x": 1}]) for _ in range(3)]
        kind = choose.choice(["append_missing_elements", "remove_all_from_array"])
        return choose.choice(paths), kind, elements[: choose.randint(0, 3)]

    def write() -> RandomWrite:
        kind = choose.choice(["update"] * 5 + ["delete", "transform"])
        transforms = choose.random() < 0.4 if kind == "update" else kind == "transform"
        return RandomWrite(
            kind,
            choose.choice(["c/1", "c/2", "c/3", "c/1/d/1"]),
            fields(),
            [path for path in paths if choose.random() < 0.25] if choose.random() < 0.5 else None,
            [transform() for _ in range(choose.randint(1, 2))] if transforms else [],
            choose.choice([None] * 4 + ["exists", "is missing", "is current", "is outdated"]),
        )

    while True:
        yield [write() for _ in range(choose.choice([1, 1, 1, 2, 3]))]


def test_random_commits_have_the_same_outcome(
    google_firestore: str, embedded_firestore: str, seed: int
) -> None:
    """The same documents and results, or the same refusal, of which nothing remains."""
    google, own = Subject(Calls(google_firestore)), Subject(Calls(embedded_firestore))
    outcomes: dict[str, int] = {}
    for _, writes in zip(range(COMMITS), random_commits(seed), strict=False):
        paths = [write.path for write in writes]
        expected, found = (
            outcome(lambda: commit(subject, writes))  # noqa: B023
            for subject in (google, own)
        )
        if len(set(paths)) < len(paths) and not isinstance(found, str):
            # The emulator says of which write of a document a result is; nobody can rely on that.
            expected, found = len(expected), len(found)
        assert found == expected, writes
        for name in [found] if isinstance(found, str) else ["OK"]:
            outcomes[name] = outcomes.get(name, 0) + 1
        assert shown(own.documents(), own.calls.root) == shown(
            google.documents(), google.calls.root
        ), writes
    assert outcomes.keys() == {
        "OK",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
    }
    google.calls.close()
    own.calls.close()


def commit(subject: Subject, writes: list[RandomWrite]) -> list[Any]:
    """Commit writes: return the results of their transforms, and whether they changed anything."""
    answer = subject.calls.commit(*(write.message(subject) for write in writes))
    return [
        (
            [each.SerializeToString(deterministic=True) for each in result.transform_results],
            write.kind != "delete" and result.update_time == answer.commit_time,
        )
        for write, result in zip(writes, answer.write_results, strict=True)
    ]
