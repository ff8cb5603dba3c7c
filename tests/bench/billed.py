"""Counts what Firestore bills, at the methods of Google's client library.

Source: Firestore's pricing. Each document that a query finds or a get asks for is a read, and so is
a query that finds none; each document of a commit is a write.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.types import (
    CommitRequest,
    GetDocumentRequest,
    RunQueryRequest,
    RunQueryResponse,
)

_UNCOUNTED = (
    *(
        "batch_get_documents",
        "list_documents",
        "run_aggregation_query",
        "partition_query",
        "listen",
    ),
    *("batch_write", "write", "create_document", "update_document", "delete_document"),
)


@dataclass
class Bill:
    """The documents that were read, the queries, the commits, and the documents that they wrote."""

    reads: int = 0
    queries: int = 0
    commits: int = 0
    writes: int = 0


@contextlib.contextmanager
def billed() -> Iterator[Bill]:
    """Count the reads and writes of this process.

    Methods that are not counted raise, so that no read or write is missed.
    """
    bill = Bill()
    get_document, run_query, commit = (
        FirestoreClient.get_document,
        FirestoreClient.run_query,
        FirestoreClient.commit,
    )

    def counted_get(api: FirestoreClient, request: GetDocumentRequest, **options: Any) -> Any:
        bill.reads += 1
        return get_document(api, request, **options)

    def counted_query(
        api: FirestoreClient, request: RunQueryRequest, **options: Any
    ) -> Iterator[RunQueryResponse]:
        bill.queries += 1
        return _counted_answers(bill, run_query(api, request, **options))

    def counted_commit(api: FirestoreClient, request: CommitRequest, **options: Any) -> Any:
        bill.commits += 1
        bill.writes += len(CommitRequest.pb(request).writes)
        return commit(api, request, **options)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(FirestoreClient, "get_document", counted_get))
        stack.enter_context(mock.patch.object(FirestoreClient, "run_query", counted_query))
        stack.enter_context(mock.patch.object(FirestoreClient, "commit", counted_commit))
        for name in _UNCOUNTED:
            refusing = mock.Mock(side_effect=NotImplementedError(f"{name} is not counted"))
            stack.enter_context(mock.patch.object(FirestoreClient, name, refusing))
        yield bill


def _counted_answers(bill: Bill, answers: Iterable[RunQueryResponse]) -> Iterator[RunQueryResponse]:
    found = 0
    for answer in answers:
        if RunQueryResponse.pb(answer).HasField("document"):
            found += 1
            bill.reads += 1
        yield answer
    if not found:
        bill.reads += 1
