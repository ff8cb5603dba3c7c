"""The gRPC side of Firestore, with Google's own messages and no generated stubs.

Only programs can call it: a web page cannot, since a browser speaks HTTP/1.1 to a port without TLS,
which is no gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from localcloud.services.firestore import messages
from localcloud.services.firestore.errors import (
    FirestoreError,
    InvalidArgumentError,
    UnimplementedError,
)
from localcloud.services.firestore.indexes import Indexes
from localcloud.services.firestore.limits import LARGEST_REQUEST_BYTES
from localcloud.services.firestore.service import FirestoreService
from localcloud.services.server import Server

FIRESTORE_SERVICE = "google.firestore.v1.Firestore"
CONTROL_SERVICE = "localcloud.Firestore"

_OPTIONS = (
    # Without it, a second server would share the port and get half of the calls.
    ("grpc.so_reuseport", 0),
    # The server refuses what is too large itself, with production's status.
    ("grpc.max_receive_message_length", 4 * LARGEST_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
)
_NOT_HERE = ("Listen", "Write", "PartitionQuery", "ExecutePipeline")

_Context = Any
_Handler = Any


class FirestoreServer(Server):
    """Serves Firestore over plain gRPC.

    All of it runs on the event loop on which ``start`` ran.

    Args:
        port: 0 picks a free one.
        indexes: the indexes of every database.
        sweep_seconds: how often documents that have expired are deleted.
    """

    def __init__(self, *, port: int = 0, indexes: Indexes, sweep_seconds: float) -> None:
        super().__init__(port)
        self._service = FirestoreService(indexes)
        self._sweep_seconds = sweep_seconds
        self._grpc: grpc.aio.Server | None = None
        self._sweeps: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve.

        Raises:
            RuntimeError: the port is taken.
        """
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(FIRESTORE_SERVICE, _handlers(self._service)),
                grpc.method_handlers_generic_handler(
                    CONTROL_SERVICE, {"Clear": _unary(Empty, self._service.clear)}
                ),
            )
        )
        self.port = server.add_insecure_port(self.address)
        await server.start()
        self._grpc = server
        self._sweeps = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Stop at once: calls under way are cancelled."""
        server, self._grpc = self._grpc, None
        if server is not None and self._sweeps is not None:
            self._sweeps.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeps
            await server.stop(grace=None)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_seconds)
            self._service.expire()


def _handlers(service: FirestoreService) -> dict[str, _Handler]:
    unary: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "GetDocument": (messages.GetDocumentRequest, service.get_document),
        "ListDocuments": (messages.ListDocumentsRequest, service.list_documents),
        "CreateDocument": (messages.CreateDocumentRequest, service.create_document),
        "UpdateDocument": (messages.UpdateDocumentRequest, service.update_document),
        "DeleteDocument": (messages.DeleteDocumentRequest, service.delete_document),
        "BeginTransaction": (messages.BeginTransactionRequest, service.begin_transaction),
        "Commit": (messages.CommitRequest, service.commit),
        "Rollback": (messages.RollbackRequest, service.rollback),
        "BatchWrite": (messages.BatchWriteRequest, service.batch_write),
        "ListCollectionIds": (messages.ListCollectionIdsRequest, service.list_collection_ids),
    }
    streams: dict[str, tuple[Any, Callable[[Any], Iterable[Any]]]] = {
        "BatchGetDocuments": (messages.BatchGetDocumentsRequest, service.batch_get_documents),
        "RunQuery": (messages.RunQueryRequest, service.run_query),
        "RunAggregationQuery": (
            messages.RunAggregationQueryRequest,
            service.run_aggregation_query,
        ),
    }
    return {
        **{name: _unary(*call) for name, call in unary.items()},
        **{name: _stream(*call) for name, call in streams.items()},
        **{name: _missing(name) for name in _NOT_HERE},
    }


def _unary(request_type: Any, call: Callable[[Any], Any]) -> _Handler:
    async def answer(content: bytes, context: _Context) -> Any:
        try:
            return call(_parsed(request_type, content))
        except FirestoreError as error:
            await context.abort(grpc.StatusCode[error.code], str(error))

    return grpc.unary_unary_rpc_method_handler(answer, response_serializer=_serialized)


def _stream(request_type: Any, call: Callable[[Any], Iterable[Any]]) -> _Handler:
    async def answer(content: bytes, context: _Context) -> AsyncIterator[Any]:
        try:
            # All of the result is there before the first answer is sent: writes that come
            # meanwhile do not change it.
            answers = list(call(_parsed(request_type, content)))
        except FirestoreError as error:
            await context.abort(grpc.StatusCode[error.code], str(error))
        for each in answers:
            yield each

    return grpc.unary_stream_rpc_method_handler(answer, response_serializer=_serialized)


def _missing(name: str) -> _Handler:
    async def refuse(_: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
        error = UnimplementedError(
            f"The local cloud's Firestore has no {name}. Google's emulator has it: start the local "
            "cloud with it instead."
        )
        await context.abort(grpc.StatusCode[error.code], str(error))
        yield b""

    return grpc.stream_stream_rpc_method_handler(refuse)


def _parsed(request_type: Any, content: bytes) -> Any:
    """Return a request.

    Raises:
        InvalidArgumentError: it is too large, or no such message.
    """
    if len(content) > LARGEST_REQUEST_BYTES:
        raise InvalidArgumentError(
            f"Request payload size exceeds the limit: {LARGEST_REQUEST_BYTES} bytes."
        )
    try:
        return request_type.FromString(content)
    except DecodeError as error:
        raise InvalidArgumentError("The request cannot be read.") from error


def _serialized(answer: Any) -> bytes:
    serialized: bytes = answer if isinstance(answer, bytes) else answer.SerializeToString()
    return serialized
