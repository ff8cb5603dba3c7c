"""Counts what Firestore bills, at the calls of the adapters.

Source: Firestore's pricing. Each document that a query finds or a get asks for is a read, and so is
a query that finds none; each document of a commit is a write.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from shared.adapters.firestore_documents import COMMIT, GET, GET_MANY, RUN_QUERY
from shared.adapters.grpc_service import GrpcService, Method


@dataclass
class Bill:
    """The gets, the queries, the commits, and the documents that they read and wrote."""

    gets: int = 0
    reads: int = 0
    queries: int = 0
    commits: int = 0
    writes: int = 0


@contextlib.contextmanager
def billed() -> Iterator[Bill]:
    """Count the reads and writes of this process.

    Firestore's methods that are not counted raise, so that no read or write is missed.
    """
    bill = Bill()
    call, pieces = GrpcService.call, GrpcService.pieces

    def counted_call(service: GrpcService, method: Method, request: Any) -> Any:
        if method is GET:
            bill.gets += 1
            bill.reads += 1
        elif method is COMMIT:
            bill.commits += 1
            bill.writes += len(request.writes)
        elif _is_firestores(method):
            raise NotImplementedError(f"{method.name} is not counted")
        return call(service, method, request)

    def counted_pieces(service: GrpcService, method: Method, request: Any) -> list[Any]:
        if method is GET_MANY:
            bill.gets += 1
            bill.reads += len(request.documents)
            return pieces(service, method, request)
        if method is not RUN_QUERY:
            raise NotImplementedError(f"{method.name} is not counted")
        answers = pieces(service, method, request)
        bill.queries += 1
        bill.reads += sum(answer.HasField("document") for answer in answers) or 1
        return answers

    with (
        mock.patch.object(GrpcService, "call", counted_call),
        mock.patch.object(GrpcService, "pieces", counted_pieces),
    ):
        yield bill


def _is_firestores(method: Method) -> bool:
    return str(method.request.DESCRIPTOR.full_name).startswith("google.firestore.")
