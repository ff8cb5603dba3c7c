"""The composite indexes in the repository: each list of the store has its own.

There are no more, besides those of the previous version, which may be rolled back to.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from localcloud.catalogue import ROOT
from localcloud.services.call_errors import FailedPreconditionError
from localcloud.services.firestore.indexes import CompositeIndex, Indexes
from localcloud.services.firestore.query import Query
from shared.adapters.firestore_documents import Documents
from shared.adapters.firestore_store import FirestoreWorkspaceStore
from shared.adapters.grpc_service import GrpcService
from shared.domain.workspace import Status
from shared.ports import EVERY_WORKSPACE, WorkspaceFilter

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INDEXES = Indexes.load(ROOT / "firestore.indexes.json")
READY, CALLED_API = WorkspaceFilter(Status.READY), WorkspaceFilter(name="api")
READY_API = WorkspaceFilter(Status.READY, "api")

QUERIES = {
    "list_owned": ("alice", EVERY_WORKSPACE, 10, None),
    "list_owned of a status": ("alice", READY, 10, None),
    "list_owned of a name": ("alice", CALLED_API, 10, None),
    "list_owned of both": ("alice", READY_API, 10, None),
    "list_all": (EVERY_WORKSPACE, 10, None),
    "list_all of a status": (READY, 10, None),
    "list_all of a name": (CALLED_API, 10, None),
    "list_all of both": (READY_API, 10, None),
    "list_events": (None, 10, None),
    "list_events of a workspace": ("a workspace", 10, None),
    "list_to_sweep": (NOW, 10, None),
    "list_due": (NOW, 10, None),
    "list_workspaces_by_id": (10, "an id"),
    "list_owners_by_id": (10, "an id"),
    "list_snapshots": ("3b1f8f1e-7d52-4f0c-9d6a-0c1b2a3d4e5f",),
    "list_due_snapshots": (NOW, 10, None),
    "list_snapshots_by_id": (10, "an id"),
    "list_deleted": ("alice",),
    "list_deleted_until": (NOW, 10, None),
}


class RecordingApi:
    """Replaces Firestore: keeps each query and returns no documents."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def pieces(self, _: object, request: Any) -> list[Any]:
        """Keep the query."""
        self.asked.append(request)
        return []


def query_of(name: str) -> Query:
    """Call one of the store's lists, and return the query that it makes."""
    api = RecordingApi()
    documents = Documents(cast(GrpcService, api), "projects/demo/databases/(default)")
    getattr(FirestoreWorkspaceStore(documents), name.split(maxsplit=1)[0])(*QUERIES[name])
    [request] = api.asked
    return Query.read(request.parent, request.structured_query)


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_has_its_index(name: str) -> None:
    """Without its index it would fail, also in the local cloud."""
    query_of(name).require_indexes(INDEXES)


def test_every_list_of_the_store_is_checked() -> None:
    """The queries above include every list of the store, so that a new one is not forgotten."""
    lists = {name for name in vars(FirestoreWorkspaceStore) if name.startswith("list_")}
    assert lists == {name.split()[0] for name in QUERIES}


def served(composites: frozenset[CompositeIndex]) -> set[str]:
    """Return the queries that have an index if these are all composite indexes."""
    indexes = replace(INDEXES, composites=composites)
    found = set()
    for name in QUERIES:
        with contextlib.suppress(FailedPreconditionError):
            query_of(name).require_indexes(indexes)
            found.add(name)
    return found


# Those of the clean-up of version 0.1: equal to a value, and up to a time.
OF_VERSION_0_1 = {("machine_running", "last_connected_at"), ("status", "suspended_at")}


def is_of_version_0_1(index: CompositeIndex) -> bool:
    """Say whether only the previous version's queries need an index."""
    return tuple(name for name, _ in index.fields)[:2] in OF_VERSION_0_1


OWN = sorted((each for each in INDEXES.composites if not is_of_version_0_1(each)), key=str)


def test_the_previous_version_finds_its_indexes() -> None:
    """After a rollback its clean-up goes on at once: a new index takes long to build."""
    kept = [each for each in INDEXES.composites if is_of_version_0_1(each)]
    assert {(each.collection_id, *(mode for _, mode in each.fields)) for each in kept} == {
        ("workspaces", *["ASCENDING"] * 3)
    }
    assert len(kept) == len(OF_VERSION_0_1)


@pytest.mark.parametrize("index", OWN, ids=lambda i: str(i.fields))
def test_every_index_is_that_of_a_query(index: CompositeIndex) -> None:
    """Alone it serves one that has no index otherwise. Each write pays for every index."""
    assert served(frozenset({index})) > served(frozenset())


def test_events_expire() -> None:
    """The index file has the time-to-live policy of the audit trail, and the field no index."""
    assert INDEXES.ttl == {("events", "expire_at")}
    assert not INDEXES.field_modes("events", "expire_at")
