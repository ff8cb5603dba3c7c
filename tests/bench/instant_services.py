"""Answers Google's services at once, from memory: what is measured is the function's own process.

``python -m tests.bench.instant_services`` reads the issuer's key set from its standard input,
writes its addresses as one line of JSON, and serves until it is ended. It knows the workspaces of
one person, with which all is well. It keeps nothing: other reads find nothing, and writes succeed.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.cloud.firestore_v1.types import (
    BatchGetDocumentsRequest,
    BatchGetDocumentsResponse,
    CommitRequest,
    CommitResponse,
    GetDocumentRequest,
    RunQueryRequest,
    RunQueryResponse,
)
from google.cloud.tasks_v2.types import Task
from google.protobuf.timestamp_pb2 import Timestamp
from google.pubsub_v1.types import PublishRequest, PublishResponse

from localcloud.catalogue import ROOT
from localcloud.services.identity.tokens import subject_of
from shared.adapters.firestore_documents import Documents
from shared.adapters.firestore_records import event_document, owner_document, workspace_document
from shared.domain.access import Actor
from shared.domain.events import request_event
from shared.domain.workspace import OwnedWorkspace, Owner
from tests.fakes.records import INSTANCE_ID, NOW, a_workspace

PERSON = "bench@example.com"
WORKSPACES = 5
_DOCUMENTS = "projects/workspace-hub-local/databases/(default)/documents"
_THREADS = 16
_AT = Timestamp(seconds=1)


@contextlib.contextmanager
def instant_services(key_set: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Run them, and yield ``grpc`` and ``http`` (``host:port``) and ``workspaces`` (their ids)."""
    with subprocess.Popen(
        [sys.executable, "-m", __spec__.name],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(key_set) + "\n")
            process.stdin.flush()
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


class _Services(grpc.GenericRpcHandler):
    """The methods of Firestore, Pub/Sub and Cloud Tasks that the Hub and the floors call."""

    def __init__(self) -> None:
        owner = Actor(subject_of(PERSON), "a-request", PERSON)
        workspaces = [a_workspace(owner_id=owner.id, owner_email=PERSON) for _ in range(WORKSPACES)]
        held = Owner(owner.id, {each.id: OwnedWorkspace(each.name) for each in workspaces})
        event = request_event(owner, workspaces[0], "WorkspaceRequested", NOW)
        encoder = Documents.of("workspace-hub-local", "(default)", "127.0.0.1:1")  # for its writes
        written = [
            *(
                encoder.put(f"workspaces/{each.id}", workspace_document(each))
                for each in workspaces
            ),
            encoder.put(f"owners/o-{owner.id}", owner_document(held)),
            encoder.put("events/an-event", event_document(event)),
        ]
        self.workspace_ids = [each.id for each in workspaces]
        self._documents = {write.update.name: write.update for write in written}
        for document in self._documents.values():
            document.update_time.CopyFrom(_AT)
        self._lists = {
            collection: [
                RunQueryResponse(document=document, read_time=_AT)
                for name, document in self._documents.items()
                if name.startswith(f"{_DOCUMENTS}/{collection}/")
            ]
            for collection in ("workspaces", "events")
        }

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a method; None if it is not one of those."""
        method = details.method.rpartition("/")[2]
        one = {
            "GetDocument": (GetDocumentRequest, self._get),
            "Commit": (CommitRequest, self._commit),
            "Publish": (PublishRequest, _publish),
            "CreateTask": (None, lambda *_: Task(name="a-task")),
        }
        many = {
            "RunQuery": (RunQueryRequest, self._query),
            "BatchGetDocuments": (BatchGetDocumentsRequest, self._get_many),
        }
        if method in one:
            return grpc.unary_unary_rpc_method_handler(one[method][1], *_codecs(one[method][0]))
        if method in many:
            return grpc.unary_stream_rpc_method_handler(many[method][1], *_codecs(many[method][0]))
        return None

    def _get(self, request: Any, context: grpc.ServicerContext) -> Any:
        document = self._documents.get(request.name)
        if document is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such document")
        return document

    def _get_many(self, request: Any, _context: object) -> Iterator[Any]:
        for name in request.documents:
            document = self._documents.get(name)
            known = {"missing": name} if document is None else {"found": document}
            yield BatchGetDocumentsResponse(**known, read_time=_AT)

    def _query(self, request: Any, _context: object) -> Iterator[Any]:
        """Answer what a person may list. Sweeps have other filters or none, and find nothing."""
        query = request.structured_query
        field = query.where.field_filter.field.field_path
        [source] = query.from_
        if field in {"owner_id", "workspace_id"}:
            yield from self._lists[source.collection_id]
        else:
            yield RunQueryResponse(read_time=_AT)

    def _commit(self, request: Any, _context: object) -> Any:
        answer = CommitResponse.pb()(commit_time=_AT)
        for _ in request.writes:
            answer.write_results.add().update_time.CopyFrom(_AT)
        return answer


def _publish(request: Any, _context: object) -> Any:
    return PublishResponse(message_ids=["an-id" for _ in request.messages])


def _codecs(request: Any) -> tuple[Callable[[bytes], Any], Callable[[Any], bytes]]:
    """Return how a method's plain requests are read, and its answers of either kind written."""
    read = request.pb().FromString if request else bytes
    return (
        read,
        lambda answer: (
            answer.SerializeToString()
            if hasattr(answer, "SerializeToString")
            else type(answer).serialize(answer)
        ),
    )


def _http_handler(key_set: dict[str, Any]) -> type[BaseHTTPRequestHandler]:
    """Return what serves the issuer's keys, and Compute Engine, where every instance runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            last = self.path.partition("?")[0].rpartition("/")[2]
            answers: dict[str, dict[str, Any]] = {"keys": key_set, "instances": {}, "disks": {}}
            instance = {"id": INSTANCE_ID, "name": last, "status": "RUNNING", "zone": "us-west1-a"}
            content = json.dumps(answers.get(last, instance)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    return Handler


def main() -> None:
    """Serve until this process is ended."""
    services, key_set = _Services(), json.loads(sys.stdin.readline())
    server = grpc.server(ThreadPoolExecutor(_THREADS))
    server.add_generic_rpc_handlers((services,))
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    web = ThreadingHTTPServer(("127.0.0.1", 0), _http_handler(key_set))
    addresses = {"grpc": f"127.0.0.1:{grpc_port}", "http": f"127.0.0.1:{web.server_port}"}
    print(json.dumps({**addresses, "workspaces": services.workspace_ids}), flush=True)  # noqa: T201
    web.serve_forever()


if __name__ == "__main__":
    main()
