"""The composite indexes in the repository: Firestore needs them, the emulator does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from google.cloud.firestore_v1.types import StructuredQuery

from localcloud.catalogue import ROOT
from shared.adapters.firestore_documents import Documents
from shared.adapters.firestore_store import FirestoreWorkspaceStore
from shared.adapters.grpc_service import GrpcService
from shared.domain.workspace import Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Index = tuple[str, tuple[tuple[str, str], ...]]

QUERIES = {
    "list_owned": ("alice", None, 10, None),
    "list_owned of a status": ("alice", Status.READY, 10, None),
    "list_all": (None, 10, None),
    "list_all of a status": (Status.READY, 10, None),
    "list_events": (None, 10, None),
    "list_events of a workspace": ("a workspace", 10, None),
    "list_idle": (NOW, 10, None),
    "list_suspended": (NOW, 10, None),
    "list_due": (NOW, 10, None),
    "list_workspaces_by_id": (10, "an id"),
    "list_owners_by_id": (10, "an id"),
}


class RecordingApi:
    """Replaces Firestore: keeps each query and returns no documents."""

    def __init__(self) -> None:
        self.asked: list[StructuredQuery] = []

    def pieces(self, _: object, request: Any) -> list[Any]:
        """Keep the query."""
        self.asked.append(StructuredQuery.wrap(request.structured_query))
        return []


def indexes_in_the_repository() -> set[Index]:
    """Return the composite indexes of ``firestore.indexes.json``."""
    indexes = json.loads((ROOT / "firestore.indexes.json").read_text())["indexes"]
    return {
        (
            index["collectionGroup"],
            tuple((field["fieldPath"], field["order"]) for field in index["fields"]),
        )
        for index in indexes
    }


def index_needed_by(query: StructuredQuery) -> Index | None:
    """Return the composite index that a query needs, or None if a field's own index is enough.

    Equalities come first, then the orders; ``__name__`` is part of every index, in the direction of
    the last order. Source: Firestore's documentation of index types.
    """
    given = query.where
    filters = given.composite_filter.filters if "composite_filter" in given else [given]
    equal = StructuredQuery.FieldFilter.Operator.EQUAL
    equals = sorted(
        each.field_filter.field.field_path for each in filters if each.field_filter.op == equal
    )
    ordered = [
        (order.field.field_path, StructuredQuery.Direction(order.direction).name)
        for order in query.order_by
        if order.field.field_path != "__name__"
    ]
    fields = (*((path, "ASCENDING") for path in equals), *ordered)
    return (query.from_[0].collection_id, fields) if len(fields) > 1 else None


@pytest.fixture
def api() -> RecordingApi:
    """Keeps the queries."""
    return RecordingApi()


def query_of(api: RecordingApi, name: str) -> StructuredQuery:
    """Call one of the store's lists, and return the query that it makes."""
    documents = Documents(cast(GrpcService, api), "projects/demo/databases/(default)")
    getattr(FirestoreWorkspaceStore(documents), name.split(maxsplit=1)[0])(*QUERIES[name])
    [asked] = api.asked
    return asked


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_has_its_index(api: RecordingApi, name: str) -> None:
    """Without its index a query fails only in production, which this test prevents."""
    index = index_needed_by(query_of(api, name))
    assert index is None or index in indexes_in_the_repository()


@pytest.mark.parametrize("name", QUERIES)
def test_every_order_ends_with_the_name_in_the_same_direction(api: RecordingApi, name: str) -> None:
    """A page can end between documents of the same time, and no further index is needed."""
    *_, last_but_one, last = query_of(api, name).order_by
    assert last.field.field_path == "__name__"
    assert last.direction == last_but_one.direction


def test_every_list_of_the_store_is_checked() -> None:
    """The queries above include every list of the store, so that a new one is not forgotten."""
    lists = {name for name in vars(FirestoreWorkspaceStore) if name.startswith("list_")}
    assert lists == {name.split()[0] for name in QUERIES}


def test_every_index_is_needed_by_a_query() -> None:
    """Each write pays for every index."""
    assert indexes_in_the_repository() == {
        index for name in QUERIES if (index := index_needed_by(query_of(RecordingApi(), name)))
    }


def test_events_expire() -> None:
    """The index file has the time-to-live policy of the audit trail."""
    overrides = json.loads((ROOT / "firestore.indexes.json").read_text())["fieldOverrides"]
    assert {
        "collectionGroup": "events",
        "fieldPath": "expire_at",
        "ttl": True,
        "indexes": [],
    } in overrides
