"""The local cloud's Firestore, and Google's emulator wherever that does as Firestore does.

Each test runs on both, except for those in ``DIFFERENT``.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter, Or

from localcloud.catalogue import ROOT
from localcloud.services.firestore import messages
from localcloud.services.firestore.client import clear
from tests.firestore_calls import Calls, GeoPoint, Reference, value
from tests.firestore_servers import client_of, embedded_server
from tests.processes import eventually

NOW = datetime(2026, 3, 2, 9, 0, 0, 123456, tzinfo=UTC)
DESCENDING = firestore.Query.DESCENDING
StructuredQuery = messages.StructuredQuery

# What runs on the local cloud's server only, with what Google's emulator does instead. The table in
# CONTRIBUTING says the same in short.
DIFFERENT = {
    "test_a_query_without_its_index_fails": "answers it",
    "test_a_query_of_an_exempted_field_fails": "answers it",
    "test_a_query_of_a_collection_group_needs_an_index_of_that_scope": "answers it",
    "test_descending_names_need_an_index": "refuses every such query, with another text",
    "test_two_orders_need_a_composite_index": "answers it",
    "test_limit_to_last_needs_the_index_of_the_other_direction": "answers it",
    "test_more_index_entries_than_allowed_are_refused": "stores it",
    "test_a_request_of_up_to_10_mib_is_served": "refuses more than 4 MiB",
    "test_more_transforms_than_allowed_are_refused": "carries them out",
    "test_a_commit_to_another_database_is_refused": "makes it",
    "test_refusals_have_production_s_words": "words them otherwise",
    "test_a_transaction_that_others_always_overtake_says_that_it_gave_up": "locks, and they wait",
    "test_a_transaction_is_aborted_if_what_it_read_has_changed": "locks it, and others wait",
    "test_a_transaction_is_aborted_if_what_a_query_found_has_changed": "locks it, and others wait",
    "test_a_transaction_sees_the_documents_as_they_were_at_its_first_read": "locks them",
    "test_many_transactions_on_one_document_all_succeed": "fails most of them, after seconds",
    "test_a_text_of_the_longest_indexed_length_can_be_asked_for": "refuses its last byte",
    "test_what_is_missing_says_so": "has them",
    "test_http_is_refused": "also serves HTTP",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with an address on both servers, or on the local cloud's only."""
    if "address" in metafunc.fixturenames:
        servers = ["embedded_firestore", "google_firestore"]
        only = servers[:1] if metafunc.function.__name__ in DIFFERENT else servers
        metafunc.parametrize("address", only, indirect=True)


@pytest.fixture
def address(request: pytest.FixtureRequest) -> str:
    """``host:port`` of a server."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def client(address: str) -> Iterator[firestore.Client]:
    """The client library, in a project that no other test uses."""
    with client_of(address) as client:
        yield client


@pytest.fixture
def calls(address: str) -> Iterator[Calls]:
    """Calls without the client library, in a project that no other test uses."""
    calls = Calls(address)
    yield calls
    calls.close()


def refused(code: str, call: Callable[[], object]) -> str:
    """Make a call that must be refused with this status, and return the text."""
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    error: Any = refusal.value
    assert error.code().name == code, error.details()
    return str(error.details())


def names(documents: list[Any]) -> list[str]:
    """Return the ids of documents."""
    return [document.name.rpartition("/")[2] for document in documents]


def query_of(collection_id: str, *order: str, group: bool = False, limit: int = 0) -> Any:
    """Return a query; an order with ``-`` is descending."""
    query = StructuredQuery(limit={"value": limit} if limit else None)
    query.from_.add(collection_id=collection_id, all_descendants=group)
    for path in order:
        by = query.order_by.add(direction=2 if path.startswith("-") else 1)
        by.field.field_path = path.removeprefix("-")
    return query


def where(query: Any, path: str, operator: str, given: Any) -> Any:
    """Return a query with one more filter, all of which must match."""
    query.where.composite_filter.op = 1
    compared = query.where.composite_filter.filters.add().field_filter
    compared.field.field_path = path
    compared.op = StructuredQuery.FieldFilter.Operator.Value(operator)
    compared.value.CopyFrom(value(given))
    return query


def test_every_difference_is_of_a_test() -> None:
    """A test that is renamed does not leave its reason behind."""
    assert DIFFERENT.keys() <= globals().keys()


# Documents


def test_a_document_comes_back_as_it_was_written(client: firestore.Client) -> None:
    """Every type of value keeps its type, and times are exact to the microsecond."""
    document = client.document("c/d")
    written = {
        "null": None,
        "yes": True,
        "integer": 2**63 - 1,
        "double": -0.5,
        "infinite": math.inf,
        "time": NOW,
        "text": "ünïcode \U0001f600 \0",
        "bytes": b"\x00\xff",
        "reference": client.document("c/e"),
        "place": firestore.GeoPoint(-90, 180),
        "list": [1, "a", {"x": [2]}],
        "map": {"x": {"y": {}}, "odd.name `\\": 1},
    }
    document.set(written)
    assert document.get().to_dict() == written


def test_times_are_cut_to_microseconds(calls: Calls) -> None:
    """As Firestore stores them."""
    at = value(NOW)
    at.timestamp_value.nanos += 999
    calls.set("c/d", {"at": [at]})
    [stored] = calls.get("c/d").fields["at"].array_value.values
    assert stored == value(NOW)


def test_a_document_that_does_not_exist_is_absent(client: firestore.Client) -> None:
    """A read of it is no error, and several reads keep their order."""
    client.document("c/a").set({"x": 1})
    assert not client.document("c/none").get().exists
    found = client.get_all([client.document(f"c/{name}") for name in ("none", "a")])
    assert {snapshot.id: snapshot.exists for snapshot in found} == {"none": False, "a": True}


def test_documents_that_are_asked_for_twice_come_once(calls: Calls) -> None:
    """As in Firestore, the answer has each name once."""
    calls.set("c/a", {})
    asked = [f"{calls.root}/c/{name}" for name in ("a", "none", "a")]
    request = messages.BatchGetDocumentsRequest(database=calls.database, documents=asked)
    answers = calls.call("BatchGetDocuments", request)
    assert sorted(each.found.name or each.missing for each in answers) == sorted(asked[:2])


def test_only_the_fields_of_a_mask_are_read(client: firestore.Client) -> None:
    """Nested and quoted fields too."""
    client.document("c/d").set({"a": 1, "m": {"x": 1, "y": 2}, "q.r": 3})
    snapshot = client.document("c/d").get(field_paths=["m.x", "`q.r`", "none"])
    assert snapshot.to_dict() == {"m": {"x": 1}, "q.r": 3}


def test_an_update_changes_only_its_fields(client: firestore.Client) -> None:
    """A field that is in the mask only is removed."""
    document = client.document("c/d")
    document.set({"a": 1, "m": {"x": 1, "y": 2}})
    document.update({"m.x": 3, "a": firestore.DELETE_FIELD, "b": 4})
    assert document.get().to_dict() == {"m": {"x": 3, "y": 2}, "b": 4}
    document.set({"m": {"z": 5}}, merge=True)
    assert document.get().to_dict() == {"m": {"x": 3, "y": 2, "z": 5}, "b": 4}


def test_transforms_change_what_is_stored(client: firestore.Client) -> None:
    """All but the server's time, which is precise to the millisecond, start with what there is."""
    document = client.document("c/d")
    document.set({"n": 1, "list": [1, 2], "most": 5, "least": 5})
    document.update(
        {
            "n": firestore.Increment(2.5),
            "list": firestore.ArrayUnion([2, 3]),
            "most": firestore.Maximum(7),
            "least": firestore.Minimum(7),
            "new": firestore.Increment(1),
            "at": firestore.SERVER_TIMESTAMP,
        }
    )
    found = document.get()
    fields = found.to_dict() or {}
    at, version = fields.pop("at"), found.update_time
    assert at.microsecond % 1000 == 0
    assert version - timedelta(seconds=1) < at <= version
    assert fields == {"n": 3.5, "list": [1, 2, 3], "most": 7, "least": 5, "new": 1}
    document.update({"list": firestore.ArrayRemove([1, 3])})
    assert document.get().get("list") == [2]


def test_an_integer_that_would_overflow_stays_at_the_largest(client: firestore.Client) -> None:
    """Source: the reference of the transform."""
    document = client.document("c/d")
    document.set({"n": 2**63 - 2})
    document.update({"n": firestore.Increment(5)})
    assert document.get().get("n") == 2**63 - 1


def test_documents_and_collections_are_listed(client: firestore.Client) -> None:
    """Also documents that do not exist but have documents below them."""
    client.document("c/a").set({})
    client.document("c/b/sub/x/deep/y").set({})
    assert [each.id for each in client.collections()] == ["c"]
    assert [each.id for each in client.collection("c").list_documents(page_size=1)] == ["a", "b"]
    assert [each.id for each in client.document("c/b").collections()] == ["sub"]
    assert [snapshot.id for snapshot in client.collection("c").stream()] == ["a"]


def test_a_deleted_collection_is_no_longer_listed(client: firestore.Client) -> None:
    """A collection exists only by its documents."""
    client.document("c/a").set({})
    client.document("c/a").delete()
    assert list(client.collections()) == []
    client.document("c/a").set({"again": True})
    assert [each.id for each in client.collection("c").stream()] == ["a"]


def test_a_collection_is_deleted_with_all_below(client: firestore.Client) -> None:
    """``recursive_delete`` of the library asks for all documents below, of any collection."""
    for path in ("c/a", "c/b/sub/x", "c/b/sub/x/deep/y", "d/a"):
        client.document(path).set({})
    assert client.recursive_delete(client.collection("c")) == 3
    assert [each.id for each in client.collections()] == ["d"]


def test_each_database_has_its_own_documents(address: str) -> None:
    """Projects and databases exist when they are first named."""
    found = []
    for database in ("(default)", "other"):
        with client_of(address, database) as client:
            client.document("c/d").set({"database": database})
            found.append(len(list(client.collection("c").stream())))
            found.append(client.document("c/d").get().get("database"))
    assert found == [1, "(default)", 1, "other"]


# Writes with a condition


def test_a_document_is_created_once(client: firestore.Client) -> None:
    """A second creation is refused; after a deletion it is possible again."""
    document = client.document("c/d")
    document.create({"n": 1})
    with pytest.raises(exceptions.AlreadyExists):
        document.create({"n": 2})
    assert document.get().get("n") == 1
    document.delete()
    document.create({"n": 3})
    assert document.get().get("n") == 3


def test_an_update_of_a_missing_document_is_refused(client: firestore.Client) -> None:
    """And nothing is created; a deletion without a condition is no error."""
    document = client.document("c/d")
    with pytest.raises(exceptions.NotFound):
        document.update({"n": 1})
    assert not document.get().exists
    document.delete()


def test_a_write_with_an_outdated_version_is_refused(client: firestore.Client) -> None:
    """Updates and deletions, and also of a document that is deleted."""
    document = client.document("c/d")
    old = document.set({"n": 1}).update_time
    new = document.set({"n": 2}).update_time
    for write in (lambda o: document.update({"n": 3}, o), document.delete):
        with pytest.raises(exceptions.FailedPrecondition, match="does not match the required base"):
            write(client.write_option(last_update_time=old))
    document.delete(client.write_option(last_update_time=new))
    with pytest.raises(exceptions.FailedPrecondition):
        document.update({"n": 4}, client.write_option(last_update_time=new))


def test_a_commit_is_made_as_a_whole_or_not_at_all(client: firestore.Client) -> None:
    """One refused write refuses the others, before and after it."""
    batch = client.batch()
    batch.set(client.document("c/a"), {})
    batch.create(client.document("c/b"), {})
    batch.update(client.document("c/none"), {"n": 1})
    batch.set(client.document("c/c"), {})
    with pytest.raises(exceptions.NotFound):
        batch.commit()
    assert list(client.collection("c").stream()) == []


def test_all_writes_of_a_commit_have_its_time(calls: Calls) -> None:
    """And the documents are read with it."""
    answer = calls.commit(calls.put("c/a", {}), calls.put("c/b", {"n": 1}))
    assert {str(each.update_time) for each in answer.write_results} == {str(answer.commit_time)}
    assert calls.get("c/a").update_time == answer.commit_time
    assert calls.get("c/b").create_time == answer.commit_time


def test_versions_rise_strictly_and_are_whole_microseconds(calls: Calls) -> None:
    """Also of commits within the same microsecond, from many connections at once."""

    def write(number: int) -> list[tuple[int, int]]:
        stamps = []
        for turn in range(20):
            at = calls.set(f"c/{number}", {"turn": turn}).update_time
            stamps.append((at.seconds, at.nanos))
        return stamps

    with ThreadPoolExecutor(5) as pool:
        stamps = list(pool.map(write, range(5)))
    assert all(each == sorted(set(each)) for each in stamps)
    assert all(nanos % 1000 == 0 for each in stamps for _, nanos in each)


def test_a_write_that_changes_nothing_keeps_the_version(calls: Calls) -> None:
    """Source: the reference of ``WriteResult``."""
    first = calls.set("c/d", {"a": 1, "z": 0.0}).update_time
    assert calls.set("c/d", {"a": 1, "z": 0.0}).update_time == first
    assert calls.set("c/d", {"a": 1, "z": -0.0}).update_time != first
    assert calls.set("c/d", {"a": 1.0, "z": -0.0}).update_time != first
    nan = calls.set("c/d", {"a": math.nan}).update_time
    assert calls.set("c/d", {"a": math.nan}).update_time == nan


def test_one_of_many_writes_with_the_same_version_wins(calls: Calls) -> None:
    """A compare-and-set is never lost, and never made twice."""
    version = calls.set("c/d", {"n": 0}).update_time

    def outcome(number: int) -> str:
        try:
            calls.commit(calls.put("c/d", {"n": number}, update_time=version))
        except grpc.RpcError as refusal:
            error: Any = refusal
            return str(error.code().name)
        return "OK"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(outcome, range(1, 9)))
    assert outcomes.count("OK") == 1
    assert set(outcomes) <= {"OK", "FAILED_PRECONDITION", "ABORTED"}


def test_increments_at_the_same_time_are_all_counted(client: firestore.Client) -> None:
    """Nobody needs to read first."""
    document = client.document("c/d")
    document.set({"n": 0})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: document.update({"n": firestore.Increment(1)}), range(24)))
    assert document.get().get("n") == 24


def test_each_write_of_a_bulk_is_made_by_itself(calls: Calls) -> None:
    """One that is refused refuses no other, and each has a status."""
    request = messages.BatchWriteRequest(database=calls.database)
    request.writes.extend(
        [calls.put("c/a", {}), calls.put("c/b", {}, exists=True), calls.put("c/c", {})]
    )
    answer = calls.call("BatchWrite", request)
    assert [status.code for status in answer.status] == [0, 5, 0]
    assert names(calls.query(query_of("c"))) == ["a", "c"]
    request.writes.add().CopyFrom(calls.put("c/a", {}))
    assert "more than once" in refused(
        "INVALID_ARGUMENT", lambda: calls.call("BatchWrite", request)
    )


def test_a_bulk_writer_writes_everything(client: firestore.Client) -> None:
    """The library's writer, which groups what it is given."""
    writer = client.bulk_writer()
    for number in range(30):
        writer.create(client.document(f"c/{number:02}"), {"n": number})
    writer.close()  # type: ignore[no-untyped-call]
    assert [each.get("n") for each in client.collection("c").order_by("n").stream()] == list(
        range(30)
    )


def test_more_than_500_writes_are_one_commit(calls: Calls) -> None:
    """The old limit of a commit no longer exists."""
    calls.commit(*(calls.put(f"c/{number}", {}) for number in range(501)))
    assert len(calls.query(query_of("c"))) == 501


# Transactions


def test_a_transaction_reads_and_writes(client: firestore.Client) -> None:
    """By the library's decorator, documents and queries."""
    client.document("c/a").set({"n": 1})

    @firestore.transactional
    def add(transaction: firestore.Transaction) -> int:
        n = sum(each.get("n") for each in client.collection("c").stream(transaction=transaction))
        assert client.document("c/a").get(transaction=transaction).get("n") == 1
        transaction.set(client.document("c/b"), {"n": n + 1})
        transaction.update(client.document("c/a"), {"n": firestore.Increment(10)})
        return int(n)

    assert add(client.transaction()) == 1
    assert [each.get("n") for each in client.collection("c").stream()] == [11, 2]


def test_a_transaction_that_fails_changes_nothing(client: firestore.Client) -> None:
    """The library rolls it back."""

    @firestore.transactional
    def fail(transaction: firestore.Transaction) -> None:
        client.document("c/a").get(transaction=transaction)
        transaction.set(client.document("c/a"), {})
        raise KeyError

    with pytest.raises(KeyError):
        fail(client.transaction())
    assert not client.document("c/a").get().exists


@pytest.mark.parametrize(
    ("write", "error"),
    [
        ("create", exceptions.AlreadyExists),
        ("update", exceptions.NotFound),
    ],
)
def test_why_a_transaction_is_refused_is_told(
    client: firestore.Client, write: str, error: type[Exception]
) -> None:
    """The library rolls it back, and this succeeds; so nothing else is told instead."""
    client.document("c/there").set({"n": 1})
    path = "c/there" if write == "create" else "c/absent"

    @firestore.transactional
    def refused_write(transaction: firestore.Transaction) -> None:
        transaction.set(client.document("c/other"), {"n": 2})
        getattr(transaction, write)(client.document(path), {"n": 3})

    with pytest.raises(error):
        refused_write(client.transaction())
    assert not client.document("c/other").get().exists


def test_a_transaction_that_others_always_overtake_says_that_it_gave_up(
    client: firestore.Client,
) -> None:
    """The library says so after its attempts, and after it has rolled back the last."""
    document = client.document("c/a")
    document.set({"n": 0})

    @firestore.transactional
    def overtaken(transaction: firestore.Transaction) -> None:
        document.get(transaction=transaction)
        document.update({"n": firestore.Increment(1)})
        transaction.update(document, {"done": True})

    with pytest.raises(ValueError, match="Failed to commit transaction in 2 attempts"):
        overtaken(client.transaction(max_attempts=2))
    assert document.get().to_dict() == {"n": 2}


def begin(calls: Calls, **options: Any) -> bytes:
    """Begin a transaction."""
    request = messages.BeginTransactionRequest(database=calls.database, options=options or None)
    transaction: bytes = calls.call("BeginTransaction", request).transaction
    return transaction


def read(calls: Calls, path: str, transaction: bytes) -> Any:
    """Read a document in a transaction."""
    request = messages.GetDocumentRequest(name=f"{calls.root}/{path}", transaction=transaction)
    return calls.call("GetDocument", request)


@pytest.mark.parametrize("change", ["update", "delete", "create"])
def test_a_transaction_is_aborted_if_what_it_read_has_changed(calls: Calls, change: str) -> None:
    """Also if there was nothing to read; its writes are not made."""
    if change != "create":
        calls.set("c/a", {"n": 1})
    transaction = begin(calls)
    if change == "create":
        refused("NOT_FOUND", lambda: read(calls, "c/a", transaction))
    else:
        read(calls, "c/a", transaction)
    calls.commit(calls.delete("c/a") if change == "delete" else calls.put("c/a", {"n": 2}))
    text = refused("ABORTED", lambda: calls.commit(calls.put("c/b", {}), transaction=transaction))
    assert text.startswith("Aborted due to cross-transaction contention.")
    refused("NOT_FOUND", lambda: calls.get("c/b"))
    again = lambda: calls.commit(calls.put("c/b", {}), transaction=transaction)  # noqa: E731
    assert "no longer valid" in refused("INVALID_ARGUMENT", again)


@pytest.mark.parametrize("change", ["appears", "changes", "disappears", "elsewhere"])
def test_a_transaction_is_aborted_if_what_a_query_found_has_changed(
    calls: Calls, change: str
) -> None:
    """A document that the query would find now counts; one that it does not find does not."""
    calls.set("c/a", {"n": 1})
    transaction = begin(calls)
    query = where(query_of("c"), "n", "EQUAL", 1)
    request = messages.RunQueryRequest(parent=calls.root, structured_query=query)
    request.transaction = transaction
    assert len(calls.call("RunQuery", request)) == 1
    calls.commit(
        {
            "appears": calls.put("c/b", {"n": 1}),
            "changes": calls.put("c/a", {"n": 1, "more": 1}),
            "disappears": calls.delete("c/a"),
            "elsewhere": calls.put("c/b", {"n": 2}),
        }[change]
    )
    commit = lambda: calls.commit(calls.put("c/z", {}), transaction=transaction)  # noqa: E731
    if change == "elsewhere":
        commit()  # type: ignore[no-untyped-call]
    else:
        refused("ABORTED", commit)


@pytest.mark.parametrize("mode", ["read_only", "read_write"])
def test_a_transaction_sees_the_documents_as_they_were_at_its_first_read(
    calls: Calls, mode: str
) -> None:
    """So what it reads fits together. Only one that may write is aborted."""
    calls.commit(*(calls.put(f"c/{name}", {"n": 1}) for name in "ab"))
    transaction = begin(calls, **{mode: {}})
    read(calls, "c/a", transaction)
    for number in (2, 3):
        calls.commit(*(calls.put(f"c/{name}", {"n": number}) for name in "abc"))
    assert read(calls, "c/b", transaction).fields["n"].integer_value == 1
    refused("NOT_FOUND", lambda: read(calls, "c/c", transaction))
    request = messages.RunQueryRequest(parent=calls.root, structured_query=query_of("c", "n"))
    request.transaction = transaction
    found = [answer.document for answer in calls.call("RunQuery", request)]
    assert [(each.name[-1], each.fields["n"].integer_value) for each in found] == [
        ("a", 1),
        ("b", 1),
    ]
    if mode == "read_only":
        calls.commit(transaction=transaction)
    else:
        refused("ABORTED", lambda: calls.commit(transaction=transaction))


def test_a_read_only_transaction_cannot_write(calls: Calls) -> None:
    """Its commit with writes is refused."""
    transaction = begin(calls, read_only={})
    refused("INVALID_ARGUMENT", lambda: calls.commit(calls.put("c/a", {}), transaction=transaction))


def test_many_transactions_on_one_document_all_succeed(client: firestore.Client) -> None:
    """The library repeats those that are aborted, and none is lost."""
    document = client.document("c/d")
    document.set({"n": 0})

    @firestore.transactional
    def add(transaction: firestore.Transaction) -> None:
        n = document.get(transaction=transaction).get("n")
        transaction.update(document, {"n": n + 1})

    def run(_: int) -> None:
        add(client.transaction(max_attempts=100))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(12)))
    assert document.get().get("n") == 12


def test_a_transaction_that_has_ended_cannot_be_used(calls: Calls) -> None:
    """By a commit, a roll back, or because there was none."""
    transaction = begin(calls)
    request = messages.RollbackRequest(database=calls.database, transaction=transaction)
    calls.call("Rollback", request)
    for used in (transaction, b"nonsense"):
        refused("INVALID_ARGUMENT", lambda: calls.commit(transaction=used))  # noqa: B023


# Queries

VALUES_IN_ORDER: tuple[Any, ...] = (
    *(None, False, True, math.nan, -math.inf, -(2**63), -1.5, -1, 0, 5e-324, 1, 1.5, 2**53),
    *(2**53 + 1, 2**63 - 1, float(2**63), math.inf, NOW - timedelta(1), NOW),
    *("", "\0", "a", "a\0", "aa", "b", "ü", "\ue000", "\U0001f600", b"", b"\0", b"a", b"\xff"),
    *(GeoPoint((-90.0, 0.0)), GeoPoint((0.0, -1.0)), GeoPoint((0.0, 1.0))),
    *([], [1], [1, 2], [2], ["a"], {}, {"a": 1}, {"a": 1, "b": 0}, {"a": 2}, {"b": 0}),
)


def test_values_of_all_types_are_ordered(calls: Calls) -> None:
    """Types one after the other, and within a type as Firestore's documentation says."""
    count = len(VALUES_IN_ORDER)
    # The ids are in another order, so that they do not give the order by chance.
    ids = [f"{(number * 17) % count:03}" for number in range(count)]
    calls.commit(
        *(
            calls.put(f"c/{name}", {"v": given})
            for name, given in zip(ids, VALUES_IN_ORDER, strict=True)
        )
    )
    assert names(calls.query(query_of("c", "v"))) == ids
    assert names(calls.query(query_of("c", "-v"))) == ids[::-1]


def test_references_are_ordered_by_their_segments(calls: Calls) -> None:
    """A shorter path is before what is below it, whatever bytes follow."""
    paths = ("c/a", "c/a/d/x", "c/a!", "c/b")
    for path in paths:
        calls.set(f"r/{path.replace('/', '-')}", {"v": Reference(f"{calls.root}/{path}")})
    found = calls.query(query_of("r", "v"))
    assert names(found) == [path.replace("/", "-") for path in paths]


def test_equal_numbers_are_equal_whatever_their_type(client: firestore.Client) -> None:
    """1 and 1.0 are, and so are 0.0 and -0.0."""
    for name, number in (("a", 1), ("b", 1.0), ("c", 0.0), ("d", -0.0)):
        client.document(f"c/{name}").set({"v": number})
    for number, expected in ((1, ["a", "b"]), (1.0, ["a", "b"]), (0, ["c", "d"])):
        found = client.collection("c").where(filter=FieldFilter("v", "==", number)).stream()
        assert [each.id for each in found] == expected


def test_names_are_ordered_by_their_bytes(client: firestore.Client) -> None:
    """Not as people sort, and not by UTF-16: an astral character is last."""
    ids = ["10", "9", "A", "Z", "a", "aa", "b", "ü", "\ue000", "\U0001f600"]
    for name in reversed(ids):
        client.document(f"c/{name}").set({})
    assert [each.id for each in client.collection("c").stream()] == ids


@pytest.mark.parametrize(
    ("operator", "given", "expected"),
    [
        ("==", 2, "2"),
        ("!=", 2, "134"),
        ("<", 2, "1"),
        ("<=", 2, "12"),
        (">", 2, "3"),
        (">=", 2, "23"),
        ("in", [1, 3, "x"], "13"),
        ("not-in", [1, 3], "24"),
        (">", "", "4"),
        ("==", None, "0"),
        ("!=", None, "1234"),
    ],
)
def test_a_filter_finds_what_it_says(
    client: firestore.Client, operator: str, given: Any, expected: str
) -> None:
    """Comparisons stay within a type; null is only found by name; absent fields never are."""
    stored = {"0": None, "1": 1, "2": 2, "3": 3, "4": "text"}
    for name, number in stored.items():
        client.document(f"c/{name}").set({"v": number})
    client.document("c/absent").set({"w": 1})
    found = client.collection("c").where(filter=FieldFilter("v", operator, given)).stream()
    assert sorted(each.id for each in found) == list(expected)


def test_arrays_are_searched_by_element(client: firestore.Client) -> None:
    """One element, or one of several; a document is found once."""
    for name, elements in (("a", [1, 2]), ("b", [2, 3]), ("c", 2), ("d", [[], "x"][1:])):
        client.document(f"c/{name}").set({"v": elements})
    collection = client.collection("c")
    one = collection.where(filter=FieldFilter("v", "array_contains", 2)).stream()
    several = collection.where(filter=FieldFilter("v", "array_contains_any", [1, 2, "x"])).stream()
    assert [each.id for each in one] == ["a", "b"]
    assert [each.id for each in several] == ["a", "b", "d"]


def test_filters_are_joined_by_or(client: firestore.Client) -> None:
    """A document that matches twice is found once, and the order is that of the whole."""
    for number in range(6):
        client.document(f"c/{number}").set({"a": number, "b": number % 2})
    either = Or([FieldFilter("a", "==", 3), FieldFilter("b", "==", 1), FieldFilter("a", "==", 0)])
    found = client.collection("c").where(filter=either).limit(3).stream()
    assert [each.id for each in found] == ["0", "1", "3"]


def test_pages_are_cut_by_cursors(client: firestore.Client) -> None:
    """At or after, before or at a value or a document; with an offset, and from the end."""
    for number in range(6):
        client.document(f"c/{number}").set({"n": number // 2})
    ordered = client.collection("c").order_by("n")
    snapshot = client.document("c/3").get()

    def ids(query: Any) -> str:
        return "".join(each.id for each in query.stream())

    assert ids(ordered.start_at({"n": 1})) == "2345"
    assert ids(ordered.start_after({"n": 1})) == "45"
    assert ids(ordered.end_at({"n": 1})) == "0123"
    assert ids(ordered.end_before({"n": 1})) == "01"
    assert ids(ordered.start_after(snapshot)) == "45"
    assert ids(ordered.start_at(snapshot).limit(2)) == "34"
    assert ids(ordered.end_before(snapshot)) == "012"
    assert ids(ordered.offset(4)) == "45"
    assert ids(ordered.offset(1).limit(2)) == "12"
    assert "".join(each.id for each in ordered.limit_to_last(2).get()) == "45"


def test_a_projection_has_only_its_fields(client: firestore.Client) -> None:
    """Only names if it has none."""
    client.document("c/d").set({"a": 1, "m": {"x": 1, "y": 2}})
    collection = client.collection("c")
    assert [each.to_dict() for each in collection.select(["m.x", "none"]).stream()] == [
        {"m": {"x": 1}}
    ]
    assert [(each.id, each.to_dict()) for each in collection.select([]).stream()] == [("d", {})]


def test_a_query_of_a_collection_finds_nothing_below(client: firestore.Client) -> None:
    """Only a query of the collection group does."""
    for path in ("c/a", "c/a/c/b", "d/x/c/e", "cc/f"):
        client.document(path).set({})
    assert [each.id for each in client.collection("c").stream()] == ["a"]
    assert [each.id for each in client.collection_group("c").stream()] == ["a", "b", "e"]
    assert [each.id for each in client.collection("c/a/c").stream()] == ["b"]


def test_counts_sums_and_averages(client: firestore.Client) -> None:
    """What is no number counts, but adds nothing; the type of a sum is that of its numbers."""
    for name, given in (("a", 1), ("b", 2.5), ("c", "text"), ("d", None)):
        client.document(f"c/{name}").set({"v": given})
    client.document("c/absent").set({})
    collection = client.collection("c")

    def result(query: Any) -> Any:
        [[found]] = query.get()
        return found.value

    positive = collection.where(filter=FieldFilter("v", ">", 0))
    assert result(collection.count()) == 5  # type: ignore[no-untyped-call]
    assert result(collection.limit(2).count()) == 2
    assert result(collection.sum("v")) == 3.5
    assert result(collection.avg("v")) == 1.75
    assert result(positive.count()) == 2
    assert result(collection.sum("none")) == 0


def test_a_field_of_a_map_can_be_asked_for(client: firestore.Client) -> None:
    """Also with a name that needs quotes."""
    client.document("c/a").set({"m": {"x y": 1}})
    client.document("c/b").set({"m": {"x y": 2}, "m.x y": 1})
    found = client.collection("c").where(filter=FieldFilter("m.`x y`", "==", 1)).stream()
    assert [each.id for each in found] == ["a"]


def test_a_query_sees_every_commit_before_it(client: firestore.Client) -> None:
    """Also once its entries are made: creations, changes, deletions."""
    ordered = client.collection("c").order_by("n")

    def numbers() -> list[int]:
        return [each.get("n") for each in ordered.stream()]

    client.document("c/a").set({"n": 2})
    assert numbers() == [2]
    client.document("c/b").set({"n": 1})
    assert numbers() == [1, 2]
    client.document("c/b").set({"n": 3})
    assert numbers() == [2, 3]
    client.document("c/a").set({"m": 2})
    assert numbers() == [3]
    client.document("c/b").delete()
    assert numbers() == []
    client.document("c/a").set({"n": 4})
    assert numbers() == [4]


# Indexes: the repository's


def test_a_query_without_its_index_fails(client: firestore.Client) -> None:
    """The text has a link that makes the index, as production's."""
    query = client.collection("workspaces").where(filter=FieldFilter("zone", "==", "z"))
    with pytest.raises(
        exceptions.FailedPrecondition,
        match=r"The query requires an index\. You can create it here: "
        rf"https://console\.firebase\.google\.com/v1/r/project/{client.project}/firestore/indexes"
        r"\?create_composite=[\w-]+$",
    ):
        list(query.order_by("created_at").stream())
    assert list(query.stream()) == []


def test_a_query_with_its_index_is_answered(client: firestore.Client) -> None:
    """The direction counts for the order, and not for what is compared for equality."""
    client.document("workspaces/a").set({"status": "READY", "created_at": NOW})
    ready = client.collection("workspaces").where(filter=FieldFilter("status", "==", "READY"))
    found = ready.order_by("created_at", direction=DESCENDING)
    assert [each.id for each in found.stream()] == ["a"]


def test_a_query_of_an_exempted_field_fails(client: firestore.Client) -> None:
    """The TTL field of events has no index, so that writes do not pay for it."""
    events = client.collection("events")
    with pytest.raises(
        exceptions.FailedPrecondition,
        match="requires a COLLECTION_ASC index for collection events and field expire_at",
    ):
        list(events.where(filter=FieldFilter("expire_at", "<", NOW)).stream())
    with pytest.raises(exceptions.FailedPrecondition, match="COLLECTION_DESC index"):
        list(events.order_by("expire_at", direction=DESCENDING).stream())
    assert list(client.collection("others").order_by("expire_at").stream()) == []


def test_a_query_of_a_collection_group_needs_an_index_of_that_scope(
    client: firestore.Client,
) -> None:
    """A field's own indexes are those of its collection."""
    group = client.collection_group("c").where(filter=FieldFilter("a", "==", 1))
    with pytest.raises(
        exceptions.FailedPrecondition,
        match="requires a COLLECTION_GROUP_ASC index for collection c and field a",
    ):
        list(group.stream())


def test_descending_names_need_an_index(client: firestore.Client) -> None:
    """Alone or at the end of another order: entries are never read backwards."""
    for order in ([("__name__", DESCENDING)], [("a", "ASCENDING"), ("__name__", DESCENDING)]):
        query: Any = client.collection("c")
        for path, direction in order:
            query = query.order_by(path, direction=direction)
        with pytest.raises(exceptions.FailedPrecondition, match="The query requires an index"):
            list(query.stream())


def test_two_orders_need_a_composite_index(client: firestore.Client) -> None:
    """Without any filter too."""
    with pytest.raises(exceptions.FailedPrecondition, match="The query requires an index"):
        list(client.collection("c").order_by("a").order_by("b").stream())


def test_limit_to_last_needs_the_index_of_the_other_direction(client: firestore.Client) -> None:
    """The library sends the order backwards."""
    ready = client.collection("workspaces").where(filter=FieldFilter("status", "==", "READY"))
    newest = ready.order_by("created_at", direction=DESCENDING)
    with pytest.raises(exceptions.FailedPrecondition, match="The query requires an index"):
        newest.limit_to_last(1).get()


# Time to live


def test_a_document_expires_some_time_after_its_ttl_field() -> None:
    """Only in the collections of the policy, and only with a time."""
    past, future = datetime.now(UTC) - timedelta(1), datetime.now(UTC) + timedelta(1)
    with embedded_server("--sweep-seconds", "0.05") as (address, _), client_of(address) as own:
        events = own.collection("events")
        events.document("later").set({"expire_at": future})
        events.document("text").set({"expire_at": "2020"})
        events.document("without").set({})
        own.document("others/past").set({"expire_at": past})
        events.document("nested/events/past").set({"expire_at": past})
        events.document("past").set({"expire_at": past})
        assert eventually(lambda: not events.document("past").get().exists)
        assert eventually(lambda: not events.document("nested/events/past").get().exists)
        assert [each.id for each in events.stream()] == ["later", "text", "without"]
        assert own.document("others/past").get().exists


# Limits


def shortened(text: str) -> str:
    """Return the id of a parameter."""
    return text[:10]


def nested(levels: int, inner: Any = 1) -> Any:
    """Return a map in a map in a map."""
    for _ in range(levels):
        inner = {"x": inner}
    return inner


@pytest.mark.parametrize(
    "fields",
    [
        {"x" * 1500: 1},
        {"a": nested(20)},
        {"a": nested(19, [1])},
        {"a": [{"b": [1]}]},
        {"a": "x" * 1_048_400},
        {"a": Reference("projects/p/databases/(default)/documents/c/d")},
        {"__a": 1, "_": 1, "a__": 1},
    ],
    ids=["name", "depth", "depth of array", "array in map", "size", "reference", "underscores"],
)
def test_what_is_within_the_limits_is_stored(calls: Calls, fields: dict[str, Any]) -> None:
    """Source: Firestore's quotas and limits."""
    calls.set("c/d", fields)
    assert calls.get("c/d").fields.keys() == fields.keys()


@pytest.mark.parametrize(
    "fields",
    [
        {"": 1},
        {"m": {"": 1}},
        {"x" * 1501: 1},
        {"x" * 1000: {"y" * 1000: 1}},
        {"__a__": 1},
        {"m": {"__a__": 1}},
        {"a": nested(21)},
        {"a": nested(20, [1])},
        {"a": [[1]]},
        {"a": "x" * 1_048_576},
        {"a": "x" * 600_000, "b": b"x" * 600_000},
        {"a": Reference("nonsense")},
        {"a": GeoPoint((91.0, 0.0))},
        {"a": messages.Value()},
        {"a": messages.Value(timestamp_value={"seconds": 253_402_300_800})},
    ],
    ids=[
        *("no name", "no nested name", "long name", "long path", "reserved", "nested reserved"),
        *("depth", "depth of array", "array in array", "size of value", "size", "reference"),
        *("place", "no value", "year 10000"),
    ],
)
def test_what_exceeds_the_limits_is_refused(calls: Calls, fields: dict[str, Any]) -> None:
    """And nothing is stored."""
    refused("INVALID_ARGUMENT", lambda: calls.set("c/d", fields))
    refused("NOT_FOUND", lambda: calls.get("c/d"))


@pytest.mark.parametrize(
    "path", ["c/" + "x" * 1500, "c/__a", "c/a:b", "c/ ", "c/...", "c/ü\n"], ids=shortened
)
def test_a_legal_name_can_be_used(calls: Calls, path: str) -> None:
    """Almost any text is an id."""
    calls.set(path, {})
    assert calls.get(path).name == f"{calls.root}/{path}"
    assert len(calls.query(query_of("c"))) == 1


@pytest.mark.parametrize(
    "path",
    [
        *("", "c", "c/", "/d", "c//d", "c/d/", "c/d/e", "c/.", "c/..", "c/__a__", "__a__/d"),
        *("./d", "c/" + "x" * 1501, "c/" + "ü" * 751, "x" * 1501 + "/d"),
    ],
    ids=shortened,
)
def test_an_illegal_name_is_refused(calls: Calls, path: str) -> None:
    """Nothing is stored under it."""
    refused("INVALID_ARGUMENT", lambda: calls.set(path, {}))


def test_more_index_entries_than_allowed_are_refused(calls: Calls) -> None:
    """40,000: each element of an array is one, and a field has two."""
    calls.set("c/most", {"a": list(range(39_998))})
    assert "too many index entries" in refused(
        "INVALID_ARGUMENT", lambda: calls.set("c/d", {"a": list(range(39_999))})
    )
    calls.set("c/fields", {f"f{number}": 1 for number in range(20_000)})
    refused(
        "INVALID_ARGUMENT",
        lambda: calls.set("c/d", {f"f{number}": 1 for number in range(20_001)}),
    )


def test_a_request_of_up_to_10_mib_is_served(calls: Calls) -> None:
    """A larger one is refused as a whole."""
    writes = [calls.put(f"c/{number}", {"a": "x" * 1_000_000}) for number in range(10)]
    calls.commit(*writes)
    calls.commit(*(calls.delete(f"c/{number}") for number in range(10)))
    large = [*writes, calls.put("c/more", {"a": "x" * 500_000})]
    assert "Request payload size exceeds the limit" in refused(
        "INVALID_ARGUMENT", lambda: calls.commit(*large)
    )
    assert calls.query(query_of("c")) == []


def test_more_transforms_than_allowed_are_refused(calls: Calls) -> None:
    """500 of a document."""
    write = calls.put("c/d", {})
    for number in range(501):
        write.update_transforms.add(field_path=f"f{number}").increment.integer_value = 1
    refused("INVALID_ARGUMENT", lambda: calls.commit(write))
    del write.update_transforms[-1]
    calls.commit(write)


def test_a_commit_to_another_database_is_refused(calls: Calls) -> None:
    """A document's name says its database, and so does the request."""
    write = messages.Write(delete="projects/another/databases/(default)/documents/c/d")
    assert "attempting to access database" in refused(
        "INVALID_ARGUMENT", lambda: calls.commit(write)
    )


QUERIES_WITHIN_LIMITS = {
    "in of 30": lambda: where(query_of("c"), "a", "IN", list(range(30))),
    "any of 30": lambda: where(query_of("c"), "a", "ARRAY_CONTAINS_ANY", list(range(30))),
    "not-in of 10": lambda: where(query_of("c"), "a", "NOT_IN", list(range(10))),
    "a long text": lambda: where(query_of("c"), "a", "EQUAL", "x" * 1499),
    "100 filters": lambda: _repeated(100, "EQUAL"),
    "5 times 6": lambda: where(
        where(query_of("c"), "a", "IN", list(range(5))), "b", "IN", list(range(6))
    ),
    "no limit": lambda: query_of("c", limit=1),
}
QUERIES_BEYOND_LIMITS = {
    "in of none": lambda: where(query_of("c"), "a", "IN", []),
    "in of 31": lambda: where(query_of("c"), "a", "IN", list(range(31))),
    "in of no list": lambda: where(query_of("c"), "a", "IN", 1),
    "any of 31": lambda: where(query_of("c"), "a", "ARRAY_CONTAINS_ANY", list(range(31))),
    "not-in of 11": lambda: where(query_of("c"), "a", "NOT_IN", list(range(11))),
    "a longer text": lambda: where(query_of("c"), "a", "EQUAL", "x" * 1501),
    "longer bytes": lambda: where(query_of("c"), "a", "GREATER_THAN", b"x" * 1501),
    "101 filters": lambda: _repeated(101, "EQUAL"),
    "11 inequalities": lambda: _repeated(11, "LESS_THAN"),
    "6 times 6": lambda: where(
        where(query_of("c"), "a", "IN", list(range(6))), "b", "IN", list(range(6))
    ),
    "two arrays": lambda: where(
        where(query_of("c"), "a", "ARRAY_CONTAINS", 1), "b", "ARRAY_CONTAINS", 1
    ),
    "two unequal": lambda: where(where(query_of("c"), "a", "NOT_EQUAL", 1), "a", "NOT_EQUAL", 2),
    "in and not-in": lambda: where(where(query_of("c"), "a", "NOT_IN", [1]), "b", "IN", [2]),
    "an order twice": lambda: query_of("c", "a", "a"),
    "an order after the name": lambda: query_of("c", "__name__", "a"),
    "a negative limit": lambda: query_of("c", limit=-1),
    "a broken path": lambda: where(query_of("c"), "a..b", "EQUAL", 1),
    "a path that needs quotes": lambda: where(query_of("c"), "1a", "EQUAL", 1),
    "a name that is a text": lambda: where(query_of("c"), "__name__", "EQUAL", "d"),
    "an illegal collection": lambda: query_of("a/b"),
}


def _repeated(count: int, operator: str) -> Any:
    query = query_of("c")
    for number in range(count):
        where(query, f"f{number}", operator, 1)
    return query


@pytest.mark.parametrize("name", QUERIES_WITHIN_LIMITS)
def test_a_query_within_the_limits_is_answered(calls: Calls, name: str) -> None:
    """Source: Firestore's documentation, "Query limitations"."""
    assert calls.query(QUERIES_WITHIN_LIMITS[name]()) == []


@pytest.mark.parametrize("name", QUERIES_BEYOND_LIMITS)
def test_a_query_beyond_the_limits_is_refused(calls: Calls, name: str) -> None:
    """Also if no document could match."""
    refused("INVALID_ARGUMENT", lambda: calls.query(QUERIES_BEYOND_LIMITS[name]()))


def test_a_text_of_the_longest_indexed_length_can_be_asked_for(calls: Calls) -> None:
    """1,500 bytes; of a longer one only these are indexed."""
    calls.set("c/exact", {"a": "x" * 1500})
    calls.set("c/longer", {"a": "x" * 1501})
    found = calls.query(where(query_of("c"), "a", "EQUAL", "x" * 1500))
    assert names(found) == ["exact"]
    assert names(calls.query(query_of("c", "a"))) == ["exact", "longer"]


def test_texts_that_differ_beyond_what_is_indexed_are_ordered_by_name(calls: Calls) -> None:
    """Only the first 1,500 bytes count."""
    calls.set("c/1", {"a": "x" * 1500 + "b"})
    calls.set("c/2", {"a": "x" * 1500 + "a"})
    assert names(calls.query(query_of("c", "a"))) == ["1", "2"]


def test_refusals_have_production_s_words(calls: Calls) -> None:
    """People search for them."""
    name = f"{calls.root}/c/d"
    assert refused("NOT_FOUND", lambda: calls.get("c/d")) == f'Document "{name}" not found.'
    missing = lambda: calls.commit(calls.put("c/d", {}, exists=True))  # noqa: E731
    assert refused("NOT_FOUND", missing) == f"No document to update: {name}"
    calls.set("c/d", {})
    existing = lambda: calls.commit(calls.put("c/d", {}, exists=False))  # noqa: E731
    assert refused("ALREADY_EXISTS", existing) == f"Document already exists: {name}"
    assert refused("INVALID_ARGUMENT", lambda: calls.set("c/d", {"a": [[1]]})) == (
        "Property a contains an invalid nested entity."
    )


def test_what_is_missing_says_so(client: firestore.Client) -> None:
    """Listeners, streams of writes and partitions are refused, with what to use instead."""
    with pytest.raises(exceptions.MethodNotImplemented, match="Google's emulator has it"):
        list(client.collection_group("c").get_partitions(2))


# The process


def test_all_documents_are_deleted_by_one_call() -> None:
    """Of every project and database; and versions still rise."""
    with embedded_server() as (address, _):
        first, second = Calls(address), Calls(address, "other")
        before = first.set("c/d", {}).update_time
        second.set("c/d", {})
        asyncio.run(clear(address))
        assert first.query(query_of("c")) == second.query(query_of("c")) == []
        after = first.set("c/d", {}).update_time
        assert (after.seconds, after.nanos) > (before.seconds, before.nanos)
        first.close()
        second.close()


def test_http_is_refused(address: str) -> None:
    """A web page can send HTTP/1.1 only: nothing of it is carried out, and no answer tells it more.

    A body that looks like HTTP/2 is still the body of a request.
    """
    calls = Calls(address)
    calls.set("c/d", {"secret": "s3cret"})
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    host, port = address.split(":")
    for request in (
        b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % address.encode(),
        b"POST /localcloud.Firestore/Clear HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"POST /google.firestore.v1.Firestore/Commit HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: application/grpc\r\nContent-Length: %d\r\n\r\n%s" % (len(preface), preface),
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + preface,
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(request)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        assert b"200" not in answer
        assert b"s3cret" not in answer
        assert b"Access-Control" not in answer
    assert calls.get("c/d").fields["secret"].string_value == "s3cret"
    calls.close()


def test_the_server_goes_on_where_it_was_stopped() -> None:
    """A stopped process answers nobody, and answers everybody when it continues."""
    with embedded_server() as (address, pid):
        calls = Calls(address)
        calls.set("c/d", {"n": 1})
        os.kill(pid, signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])  # by now: kill does not wait for it
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(calls.set, "c/d", {"n": 2})
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
            os.kill(pid, signal.SIGCONT)
            waiting.result(20)
        assert calls.get("c/d").fields["n"].integer_value == 2
        calls.close()


def test_the_server_ends_at_once_when_it_is_told_to() -> None:
    """With 0, though clients are connected."""
    with embedded_server() as (address, pid):
        calls = Calls(address)
        calls.set("c/d", {})
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        calls.close()


def test_the_port_is_never_shared() -> None:
    """A second server would get half of the calls, so it does not start."""
    with embedded_server() as (address, _):
        port = address.split(":")[1]
        command = [sys.executable, "-m", "localcloud.services.firestore", "--port", port]
        second = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert second.returncode == 1
        assert "Firestore cannot be served" in second.stderr


def test_the_client_library_is_not_imported() -> None:
    """Its messages are enough: three times the start and 25 MiB less. It still works afterwards."""
    script = """
import sys
import localcloud.services.firestore.server
assert not [name for name in sys.modules if name.startswith("google.cloud.firestore_v1.client")]
assert "google.cloud.firestore_v1" not in sys.modules
assert "google.api_core" not in sys.modules
from google.cloud import firestore
from google.cloud.firestore_v1 import types
from localcloud.services.firestore import messages
assert types.Document.pb() is messages.Document
firestore.Client
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
