"""The gRPC side of Firestore, with Google's own messages and no generated stubs.

Only programs can call it: a web page cannot, since a browser speaks HTTP/1.1 to a port without TLS,
which is no gRPC.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from localcloud.services.call_errors import (
    CallError,
    InvalidArgumentError,
    UnimplementedError,
)
from localcloud.services.firestore import messages
from localcloud.services.firestore.indexes import Indexes
from localcloud.services.firestore.limits import LARGEST_REQUEST_BYTES
from localcloud.services.firestore.service import FirestoreService
from localcloud.services.server import LOOPBACK

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
_THREADS = 16  # more clients than that can only wait

_Handler = Any


class FirestoreServer:
    """Serves Firestore over plain gRPC.

    Threads take turns to carry out calls; only sending an answer to a slow client takes a thread of
    its own. Measured: a call costs a fifth less processor time than on an event loop.

    Args:
        port: 0 picks a free one.
        indexes: the indexes of every database.
        sweep_seconds: how often documents that have expired are deleted.
    """

    def __init__(self, *, port: int, indexes: Indexes, sweep_seconds: float) -> None:
        self._port = port
        self._service = FirestoreService(indexes)
        self._sweep_seconds = sweep_seconds
        self._turn = threading.Lock()

    def start(self) -> str:
        """Serve until the process ends, and return ``host:port``.

        Raises:
            RuntimeError: the port is taken.
        """
        server = grpc.server(ThreadPoolExecutor(_THREADS), options=_OPTIONS)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(FIRESTORE_SERVICE, self._handlers()),
                grpc.method_handlers_generic_handler(
                    CONTROL_SERVICE, {"Clear": self._unary(Empty, self._service.clear)}
                ),
            )
        )
        port = server.add_insecure_port(f"{LOOPBACK}:{self._port}")
        server.start()
        self._server = server  # a server that nobody holds ends
        threading.Thread(target=self._sweep, daemon=True).start()
        return f"{LOOPBACK}:{port}"

    def _sweep(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._sweep_seconds):
            with self._turn:
                self._service.expire()

    def _handlers(self) -> dict[str, _Handler]:
        service = self._service
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
            **{name: self._unary(*call) for name, call in unary.items()},
            **{name: self._stream(*call) for name, call in streams.items()},
            **{name: _missing(name) for name in _NOT_HERE},
        }

    def _unary(self, request_type: Any, call: Callable[[Any], Any]) -> _Handler:
        def answer(content: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                request = _parsed(request_type, content)
                with self._turn:
                    return _serialized(call(request))
            except CallError as error:
                _refuse(error, context)

        return grpc.unary_unary_rpc_method_handler(answer)

    def _stream(self, request_type: Any, call: Callable[[Any], Iterable[Any]]) -> _Handler:
        def answer(content: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            try:
                request = _parsed(request_type, content)
                with self._turn:
                    # All of it is serialized before the first is sent: writes that come meanwhile
                    # do not change it.
                    answers = list(map(_serialized, call(request)))
            except CallError as error:
                _refuse(error, context)
            yield from answers

        return grpc.unary_stream_rpc_method_handler(answer)


def _missing(name: str) -> _Handler:
    def refuse(_: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        _refuse(
            UnimplementedError(
                f"The local cloud's Firestore has no {name}. Google's emulator has it: start the "
                "local cloud with it instead."
            ),
            context,
        )

    return grpc.stream_stream_rpc_method_handler(refuse)


def _refuse(error: CallError, context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode[error.code], str(error))


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
