"""What the adapters send over gRPC, and how often; contract tests check what they make of answers.

The server is one of the test's own, on which each call can fail in its own way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.api_core import exceptions, gapic_v1
from google.protobuf.any_pb2 import Any as Message

from shared.adapters import firestore_documents
from shared.adapters.firestore_documents import COMMIT, GET, GET_MANY, RUN_QUERY, Documents
from shared.adapters.grpc_service import GrpcService, Method

ONE = Method("One", Message, Message, "type_url")
MANY = Method("Many", Message, Message, "type_url", in_pieces=True)
ROUTING_FIELDS = {GET: "name", GET_MANY: "database", RUN_QUERY: "parent", COMMIT: "database"}


class Server(grpc.GenericRpcHandler):
    """Answers a text with itself, in pieces with its letters; ``failures`` come first, in turn."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, Any]] = []
        self.failures: list[grpc.StatusCode] = []

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a call."""
        self.metadata.append(dict(details.invocation_metadata))
        codecs = Message.FromString, Message.SerializeToString
        if details.method.endswith("Many"):
            return grpc.unary_stream_rpc_method_handler(self._many, *codecs)
        return grpc.unary_unary_rpc_method_handler(self._one, *codecs)

    def _one(self, request: Message, context: grpc.ServicerContext) -> Message:
        if self.failures:
            context.abort(self.failures.pop(0), "not now")
        return request

    def _many(self, request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        for number, letter in enumerate(request.type_url):
            if number == 1 and self.failures:
                context.abort(self.failures.pop(0), "not now")
            yield Message(type_url=letter)


@pytest.fixture
def server() -> Server:
    """The server's behaviour."""
    return Server()


@pytest.fixture
def service(server: Server) -> Iterator[GrpcService]:
    """A service that is connected to the server."""
    running = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    running.add_generic_rpc_handlers((server,))
    address = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    running.start()
    yield GrpcService("a.Service", "localhost", address, (ONE, MANY), (("a-header", "of ours"),))
    running.stop(None)


Call = Callable[[GrpcService, str], str]
CALLS: dict[str, Call] = {
    "call": lambda service, text: service.call(ONE, Message(type_url=text)).type_url,
    "pieces": lambda service, text: "".join(
        piece.type_url for piece in service.pieces(MANY, Message(type_url=text))
    ),
}


@pytest.fixture(params=CALLS)
def call(request: pytest.FixtureRequest) -> Call:
    """A call of either kind that returns the text that it sends."""
    return CALLS[request.param]


def test_a_call_sends_its_headers_and_what_google_routes_by(
    call: Call, service: GrpcService, server: Server
) -> None:
    """The routing header is the one that the generated clients send."""
    text = "projects/a b/databases/(default)"
    assert call(service, text) == text
    [sent] = server.metadata
    name, value = gapic_v1.routing_header.to_grpc_metadata((("type_url", text),))  # type: ignore[no-untyped-call]
    assert (sent[name], sent["a-header"]) == (value, "of ours")


def test_every_method_of_firestore_is_routed_as_the_generated_client_routes_it() -> None:
    """Without the right field, Google could send a call to another region's servers."""
    methods = {each for each in vars(firestore_documents).values() if isinstance(each, Method)}
    assert {each: each.routed_by for each in methods} == ROUTING_FIELDS


def test_what_is_unavailable_is_asked_again(
    call: Call, service: GrpcService, server: Server
) -> None:
    """Of an answer that broke in the middle, no piece comes twice."""
    server.failures = [grpc.StatusCode.UNAVAILABLE] * 2
    assert call(service, "abc") == "abc"
    assert len(server.metadata) == 3


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.NOT_FOUND, exceptions.NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, exceptions.AlreadyExists),
        (grpc.StatusCode.ABORTED, exceptions.Aborted),
        (grpc.StatusCode.FAILED_PRECONDITION, exceptions.FailedPrecondition),
        (grpc.StatusCode.PERMISSION_DENIED, exceptions.PermissionDenied),
        (grpc.StatusCode.DEADLINE_EXCEEDED, exceptions.DeadlineExceeded),
    ],
)
def test_another_error_is_the_librarys_and_final(
    call: Call,
    service: GrpcService,
    server: Server,
    code: grpc.StatusCode,
    error: type[Exception],
) -> None:
    """It is raised at once: the caller knows what it means."""
    server.failures = [code]
    with pytest.raises(error):
        call(service, "abc")
    assert len(server.metadata) == 1


def test_messages_may_have_any_length(service: GrpcService) -> None:
    """GRPC itself refuses what has more than 4 MiB, and a commit may have 10."""
    long = Message(type_url="long", value=bytes(9 << 20))
    assert service.call(ONE, long) == long


def test_an_answer_in_pieces_starts_no_thread(
    service: GrpcService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread for each query would cost more than the query."""
    CALLS["pieces"](service, "abc")  # connects
    started: list[str] = []
    start = threading.Thread.start

    def note_start(thread: threading.Thread) -> None:
        if threading.current_thread() is threading.main_thread():
            started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", note_start)
    CALLS["pieces"](service, "abc")
    assert started == []


def test_documents_send_which_database_they_are_of() -> None:
    """Firestore finds a named database by a header of its own."""
    seen: list[tuple[tuple[str, str], ...]] = []

    def recorded(*given: Any) -> None:
        seen.append(given[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(firestore_documents, "GrpcService", recorded)
        Documents.of("a-project", "hub", "127.0.0.1:1")
    assert ("google-cloud-resource-prefix", "projects/a-project/databases/hub") in seen[0]
