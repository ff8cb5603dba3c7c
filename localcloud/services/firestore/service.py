"""The calls of ``google.firestore.v1.Firestore``: each takes a request and returns its answer.

They never wait: a call has changed everything when it returns. No two may overlap. A call that
answers with a stream returns an iterable of answers; each is a message, or a message that is
already serialized.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from localcloud.services.call_errors import (
    CallError,
    InvalidArgumentError,
    NotFoundError,
    UnimplementedError,
)
from localcloud.services.firestore import messages, times
from localcloud.services.firestore.aggregation import aggregate, aggregated_paths
from localcloud.services.firestore.database import Database
from localcloud.services.firestore.document import StoredDocument
from localcloud.services.firestore.indexes import Indexes
from localcloud.services.firestore.names import (
    FieldPath,
    check_collection_id,
    check_document_id,
    new_document_id,
    read_field_path,
    split_document_name,
    split_name,
    split_parent_name,
)
from localcloud.services.firestore.order import name_key
from localcloud.services.firestore.query import Query
from localcloud.services.firestore.repeats import check_repeats, written_name
from localcloud.services.firestore.store import Store
from localcloud.services.firestore.transactions import Transaction
from localcloud.services.firestore.writes import check_write

DEFAULT_PAGE = 300
LARGEST_PAGE = 1000
MOST_BATCH_WRITES = 500

Answers = Iterable[Any]


class FirestoreService:
    """The calls.

    Args:
        indexes: the indexes of every database.
        now_us: returns the time, in microseconds since 1970.
    """

    def __init__(self, indexes: Indexes, now_us: Callable[[], int] = times.now_us) -> None:
        self._store = Store(indexes, now_us)

    def clear(self, _: Any = None) -> Any:
        """Forget all documents and transactions of all databases."""
        self._store.clear()
        return Empty()

    def expire(self) -> None:
        """Delete the documents that have expired."""
        self._store.expire()

    # Documents

    def get_document(self, request: Any) -> Any:
        """Return a document."""
        database, path = split_document_name(request.name)
        _refuse_read_time(request)
        document = self._read(database, path, self._transaction(request, database))
        if document is None:
            raise NotFoundError(f'Document "{request.name}" not found.')
        return _shown(document, request)

    def batch_get_documents(self, request: Any) -> Answers:
        """Return documents by name, in their order, each once; and which do not exist."""
        _refuse_read_time(request)
        self._check_database(request.database)
        paths: dict[str, str] = {}
        for name in request.documents:
            database, path = split_document_name(name)
            if database != request.database:
                raise InvalidArgumentError(
                    f"The request was for database '{request.database}' but was attempting to "
                    f"access database '{database}'"
                )
            paths[path] = name
        answers = []
        transaction, transaction_id = self._transaction_of(request, request.database)
        if transaction_id:
            answers.append(messages.BatchGetDocumentsResponse(transaction=transaction_id))
        mask = _mask(request)
        read_time = times.as_timestamp(self._store.read_us())
        for path, name in paths.items():
            answer = messages.BatchGetDocumentsResponse(read_time=read_time)
            document = self._read(request.database, path, transaction)
            if document is None:
                answer.missing = name
            elif mask is None:
                answer.found.CopyFrom(document.message)
            else:
                answer.found.CopyFrom(document.masked(mask))
            answers.append(answer)
        return answers

    def list_documents(self, request: Any) -> Any:
        """Return a page of a collection's documents.

        With ``show_missing``, ids that only have documents below them are included.
        """
        database, parent = split_parent_name(request.parent)
        _refuse_read_time(request)
        if request.order_by and request.order_by.strip() != "__name__":
            raise UnimplementedError("ListDocuments has no order here: run a query.")
        if request.collection_id:
            check_collection_id(request.collection_id)
        transaction = self._transaction(request, database)
        documents = self._view(database, transaction)
        size = _page_size(request.page_size)
        names = self._listed(documents, parent, request)
        keys = [name_key(name) for name in names]
        first = bisect_right(keys, name_key(request.page_token)) if request.page_token else 0
        mask = _mask(request)
        response = messages.ListDocumentsResponse()
        for path in names[first : first + size]:
            document = self._read(database, path, transaction)
            if document is None:
                response.documents.add().name = f"{database}/documents/{path}"
            else:
                shown = document.message if mask is None else document.masked(mask)
                response.documents.add().CopyFrom(shown)
        if first + size < len(names):
            response.next_page_token = names[first + size - 1]
        return response

    def list_collection_ids(self, request: Any) -> Any:
        """Return a page of the ids of the collections below a document or the root."""
        database, parent = split_parent_name(request.parent)
        _refuse_read_time(request)
        ids = self._store.database(database).collection_ids(parent)
        size = _page_size(request.page_size)
        first = bisect_right([each.encode() for each in ids], request.page_token.encode())
        response = messages.ListCollectionIdsResponse(collection_ids=ids[first : first + size])
        if first + size < len(ids):
            response.next_page_token = ids[first + size - 1]
        return response

    def create_document(self, request: Any) -> Any:
        """Create a document; without an id it gets one."""
        database, parent = split_parent_name(request.parent)
        check_collection_id(request.collection_id)
        document_id = request.document_id or new_document_id()
        check_document_id(document_id)
        path = f"{parent}/" if parent else ""
        path += f"{request.collection_id}/{document_id}"
        write = messages.Write()
        write.update.fields.MergeFrom(request.document.fields)
        write.update.name = f"{database}/documents/{path}"
        write.current_document.exists = False
        self._store.commit(database, [write])
        return _shown(self._stored(database, path), request)

    def update_document(self, request: Any) -> Any:
        """Change a document, or create it."""
        database, path = split_document_name(request.document.name)
        write = messages.Write()
        write.update.CopyFrom(request.document)
        if request.HasField("update_mask"):
            write.update_mask.CopyFrom(request.update_mask)
        if request.HasField("current_document"):
            write.current_document.CopyFrom(request.current_document)
        self._store.commit(database, [write])
        return _shown(self._stored(database, path), request)

    def delete_document(self, request: Any) -> Any:
        """Delete a document."""
        database, _ = split_document_name(request.name)
        write = messages.Write()
        write.delete = request.name
        if request.HasField("current_document"):
            write.current_document.CopyFrom(request.current_document)
        self._store.commit(database, [write])
        return Empty()

    # Commits

    def commit(self, request: Any) -> Any:
        """Make all writes, or none."""
        self._check_database(request.database)
        check_repeats(request.writes)
        if request.transaction:
            transaction = self._store.transactions.get(request.transaction, request.database)
            if transaction.is_read_only and request.writes:
                raise InvalidArgumentError("Cannot modify entities in a read-only transaction.")
            transaction.is_over = True  # also if it is refused; the library then rolls it back
            transaction.check(self._store.database(request.database))
            commit_us, results = self._store.commit(request.database, request.writes)
            self._store.transactions.end(request.transaction, request.database)
        else:
            commit_us, results = self._store.commit(request.database, request.writes)
        response = messages.CommitResponse(write_results=results)
        times.fill(response.commit_time, commit_us)
        return response

    def batch_write(self, request: Any) -> Any:
        """Make each write that can be made, and say which could not."""
        self._check_database(request.database)
        if len(request.writes) > MOST_BATCH_WRITES:
            raise InvalidArgumentError(f"maximum {MOST_BATCH_WRITES} writes allowed per request")
        names = [written_name(write) for write in request.writes]
        if len(set(names)) < len(names):
            raise InvalidArgumentError(
                "the same document cannot be written more than once in a single request"
            )
        for write in request.writes:
            check_write(write, request.database)
        response = messages.BatchWriteResponse()
        for write in request.writes:
            try:
                _, [result] = self._store.commit(request.database, [write])
            except CallError as error:
                response.write_results.add()
                response.status.add(code=grpc.StatusCode[error.code].value[0], message=str(error))
            else:
                response.write_results.append(result)
                response.status.add()
        return response

    def begin_transaction(self, request: Any) -> Any:
        """Begin a transaction."""
        self._check_database(request.database)
        transaction_id = self._store.transactions.begin(request.database, request.options)
        return messages.BeginTransactionResponse(transaction=transaction_id)

    def rollback(self, request: Any) -> Any:
        """End a transaction without changes."""
        self._store.transactions.end(request.transaction, request.database)
        return Empty()

    # Queries

    def run_query(self, request: Any) -> Answers:
        """Return what a query finds, a document an answer."""
        query = self._query(request.parent, request.structured_query, request)
        query.require_indexes(self._store.indexes)
        transaction, transaction_id = self._transaction_of(request, query.database)
        found = self._found(query, transaction)
        skipped = query.count_skipped(self._view(query.database, transaction))
        return self._answers(query, found, skipped, transaction_id)

    def run_aggregation_query(self, request: Any) -> Answers:
        """Return counts, sums and averages of what a query finds."""
        asked = request.structured_aggregation_query
        query = self._query(request.parent, asked.structured_query, request)
        query.require_indexes(self._store.indexes, aggregated_paths(asked.aggregations))
        transaction, transaction_id = self._transaction_of(request, query.database)
        results = aggregate(asked.aggregations, self._found(query, transaction))
        answer = messages.RunAggregationQueryResponse(transaction=transaction_id)
        times.fill(answer.read_time, self._store.read_us())
        for alias, value in results.items():
            answer.result.aggregate_fields[alias].CopyFrom(value)
        return [answer]

    # What they share

    def _query(self, parent: str, structured_query: Any, request: Any) -> Query:
        _refuse_read_time(request)
        if request.HasField("explain_options"):
            raise UnimplementedError("Explanations of queries are not supported here.")
        return Query.read(parent, structured_query)

    def _answers(
        self, query: Query, found: list[StoredDocument], skipped: int, transaction_id: bytes
    ) -> Iterator[Any]:
        read_time = times.as_timestamp(self._store.read_us())
        # Field 3 of RunQueryResponse: the time, the same in every answer.
        read = _block(3, read_time.SerializeToString())
        if transaction_id or skipped or not found:
            yield messages.RunQueryResponse(
                transaction=transaction_id, skipped_results=skipped, read_time=read_time
            )
        for document in found:
            shown = (
                document.serialized
                if query.fields is None
                else document.masked(query.fields).SerializeToString()
            )
            yield _block(1, shown) + read

    def _listed(self, documents: Database, parent: str, request: Any) -> list[str]:
        collection_ids = (
            [request.collection_id] if request.collection_id else documents.collection_ids(parent)
        )
        beginning = f"{parent}/" if parent else ""
        paths = []
        for collection_id in collection_ids:
            if request.show_missing:
                ids = documents.document_ids(parent, collection_id)
                paths += [f"{beginning}{collection_id}/{each}" for each in ids]
            else:
                paths += documents.collection(parent, collection_id).documents
        return sorted(paths, key=name_key)

    def _read(
        self, database: str, path: str, transaction: Transaction | None
    ) -> StoredDocument | None:
        documents = self._store.database(database)
        if transaction is None:
            return documents.documents.get(path)
        return transaction.read(path, documents)

    def _found(self, query: Query, transaction: Transaction | None) -> list[StoredDocument]:
        documents = self._store.database(query.database)
        if transaction is None:
            return list(query.run(documents))
        return transaction.run(query, documents)

    def _view(self, database: str, transaction: Transaction | None) -> Database:
        documents = self._store.database(database)
        return documents if transaction is None else transaction.view(documents)

    def _stored(self, database: str, path: str) -> StoredDocument:
        return self._store.database(database).documents[path]

    def _transaction(self, request: Any, database: str) -> Transaction | None:
        """Return the transaction in which a request reads, if it does."""
        if not request.transaction:
            return None
        return self._store.transactions.get(request.transaction, database)

    def _transaction_of(self, request: Any, database: str) -> tuple[Transaction | None, bytes]:
        """Return the transaction in which a request reads, and its id if the request began it."""
        if not request.HasField("new_transaction"):
            return self._transaction(request, database), b""
        transaction_id = self._store.transactions.begin(database, request.new_transaction)
        return self._store.transactions.get(transaction_id, database), transaction_id

    def _check_database(self, name: str) -> None:
        database, path = split_name(name)
        if path or database != name:
            raise InvalidArgumentError(f'"{name}" is not the name of a database.')


def _shown(document: StoredDocument, request: Any) -> Any:
    mask = _mask(request)
    return document.message if mask is None else document.masked(mask)


def _mask(request: Any) -> list[FieldPath] | None:
    if not request.HasField("mask"):
        return None
    return [read_field_path(path) for path in request.mask.field_paths]


def _page_size(asked: int) -> int:
    if asked < 0:
        raise InvalidArgumentError("Page size must be nonnegative.")
    return min(asked or DEFAULT_PAGE, LARGEST_PAGE)


def _refuse_read_time(request: Any) -> None:
    if request.HasField("read_time"):
        raise UnimplementedError("Reads at an earlier time are not supported here.")


def _block(number: int, content: bytes) -> bytes:
    """Return a field of a message that consists of bytes."""
    length = len(content)
    encoded = bytearray([number << 3 | 2])
    while length > 127:
        encoded.append(length & 127 | 128)
        length >>= 7
    encoded.append(length)
    return bytes(encoded) + content
