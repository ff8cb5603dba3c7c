"""Firestore's documents: reads by name, pages of a query, and conditional writes in one commit.

This module fills the API's own messages. The library's hand-written client creates an object for
each value of a document, and reads a single document through a stream with its own thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from google.api_core import exceptions
from google.cloud.firestore_v1.types.document import Document
from google.cloud.firestore_v1.types.firestore import (
    BatchGetDocumentsRequest,
    BatchGetDocumentsResponse,
    CommitRequest,
    CommitResponse,
    GetDocumentRequest,
    RunQueryRequest,
    RunQueryResponse,
)
from google.cloud.firestore_v1.types.write import Write

from shared.adapters.grpc_service import GrpcService, Method

GET = Method("GetDocument", GetDocumentRequest.pb(), Document.pb(), "name")
GET_MANY = Method(
    "BatchGetDocuments",
    BatchGetDocumentsRequest.pb(),
    BatchGetDocumentsResponse.pb(),
    "database",
    in_pieces=True,
)
RUN_QUERY = Method(
    "RunQuery", RunQueryRequest.pb(), RunQueryResponse.pb(), "parent", in_pieces=True
)
COMMIT = Method("Commit", CommitRequest.pb(), CommitResponse.pb(), "database")
_Write = Write.pb()
_NAME = "__name__"  # the document's name, as a field of a query

Fields = Mapping[str, Any]


class Direction(StrEnum):
    """The order of a query; the values are Firestore's."""

    ASCENDING = "ASCENDING"
    DESCENDING = "DESCENDING"


class Operator(StrEnum):
    """How a filter compares; the values are Firestore's."""

    EQUAL = "EQUAL"
    AT_MOST = "LESS_THAN_OR_EQUAL"
    ABOVE = "GREATER_THAN"


Filter = tuple[str, Operator, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A document as it was read. ``version`` is its update time, precise to the nanosecond."""

    id: str
    fields: dict[str, Any]
    version: Any


@dataclass(frozen=True, slots=True)
class Query:
    """A query of one collection, ordered by one field and then by document name.

    Attributes:
        filters: each is a field, an operator and a value.
        limit: how many documents are found at most; None for all.
        after: the time and the id of the previous page's last document, if ``order_by`` is a time.
        only: the fields that are read; all of them if empty.
    """

    collection: str
    filters: Sequence[Filter]
    order_by: str
    direction: Direction
    limit: int | None = None
    after: tuple[datetime, str] | None = None
    only: tuple[str, ...] = ()


class Documents:
    """The documents of one database. The methods raise the errors of ``GrpcService``."""

    @classmethod
    def of(cls, project_id: str, database: str, emulator: str | None) -> "Documents":
        """Return a database's documents, from Google or from the emulator at ``host:port``."""
        path = f"projects/{project_id}/databases/{database}"
        service = GrpcService(
            "google.firestore.v1.Firestore",
            "firestore.googleapis.com",
            emulator,
            (GET, GET_MANY, RUN_QUERY, COMMIT),
            # The hand-written client sends this too. Firestore needs it to route to a database that
            # is not the default one.
            (
                ("google-cloud-resource-prefix", path),
                *((("authorization", "Bearer owner"),) if emulator else ()),
            ),
        )
        return cls(service, path)

    def __init__(self, service: GrpcService, database: str) -> None:
        self._service = service
        self._database = database
        self._root = f"{database}/documents"

    def get(self, path: str) -> Found | None:
        """Return the document at ``collection/id``, or None."""
        try:
            return _found(self._service.call(GET, GET.request(name=f"{self._root}/{path}")))
        except exceptions.NotFound:
            return None

    def get_many(self, paths: Sequence[str]) -> list[Found]:
        """Return those of the documents at these paths that exist, in any order."""
        if not paths:
            return []
        names = [f"{self._root}/{path}" for path in paths]
        request = GET_MANY.request(database=self._database, documents=names)
        answers = self._service.pieces(GET_MANY, request)
        return [_found(answer.found) for answer in answers if answer.HasField("found")]

    def query(self, query: Query) -> list[Found]:
        """Return the documents that a query finds."""
        answers = self._service.pieces(RUN_QUERY, self._request(query))
        return [_found(answer.document) for answer in answers if answer.HasField("document")]

    def commit(self, writes: Sequence[Any]) -> None:
        """Make all writes, or none."""
        self._service.call(COMMIT, COMMIT.request(database=self._database, writes=writes))

    def created(self, path: str, fields: Fields) -> Any:
        """Return the write of a new document; its commit fails if the document exists."""
        write = self._with_fields(path, fields)
        write.current_document.exists = False
        return write

    def updated(self, path: str, fields: Fields, version: Any) -> Any:
        """Return the write of a document's fields; its commit fails if ``version`` is outdated."""
        write = self._with_fields(path, fields)
        write.update_mask.field_paths.extend(fields)
        write.current_document.update_time.CopyFrom(version)
        return write

    def put(self, path: str, fields: Fields) -> Any:
        """Return the write of a document without a condition."""
        return self._with_fields(path, fields)

    def deleted(self, path: str, version: Any) -> Any:
        """Return the write that deletes a document; its commit fails if ``version`` is outdated."""
        write = _Write(delete=f"{self._root}/{path}")
        write.current_document.update_time.CopyFrom(version)
        return write

    def _with_fields(self, path: str, fields: Fields) -> Any:
        write = _Write()
        write.update.name = f"{self._root}/{path}"
        _fill_all(write.update.fields, fields)
        return write

    def _request(self, query: Query) -> Any:
        request = RUN_QUERY.request(parent=self._root)
        structured = request.structured_query
        structured.from_.add(collection_id=query.collection)
        if query.limit is not None:
            structured.limit.value = query.limit
        for field in (query.order_by, _NAME):
            structured.order_by.add(field={"field_path": field}, direction=query.direction.value)
        if len(query.filters) == 1:
            _fill_filter(structured.where, query.filters[0])
        elif query.filters:
            structured.where.composite_filter.op = "AND"
            for each in query.filters:
                _fill_filter(structured.where.composite_filter.filters.add(), each)
        for field in query.only:
            structured.select.fields.add(field_path=field)
        if query.after is not None:
            at, last_id = query.after
            _fill(structured.start_at.values.add(), at)
            last = f"{self._root}/{query.collection}/{last_id}"
            structured.start_at.values.add(reference_value=last)
        return request


def _fill_filter(message: Any, given: Filter) -> None:
    field, operator, value = given
    message.field_filter.field.field_path = field
    message.field_filter.op = operator.value
    _fill(message.field_filter.value, value)


def _found(document: Any) -> Found:
    fields = {name: _plain(value) for name, value in document.fields.items()}
    return Found(document.name.rpartition("/")[2], fields, document.update_time)


def _fill_all(fields: Any, given: Fields) -> None:
    for name, part in given.items():
        _fill(fields[name], part)


def _fill(value: Any, given: Any) -> None:
    match given:
        case None:
            value.null_value = 0
        case str():
            value.string_value = given
        case bool():
            value.boolean_value = given
        case int():
            value.integer_value = given
        case float():
            value.double_value = given
        case datetime():
            value.timestamp_value.FromDatetime(given)
        case list():
            value.array_value.SetInParent()
            for part in given:
                _fill(value.array_value.values.add(), part)
        case dict():
            value.map_value.SetInParent()
            _fill_all(value.map_value.fields, given)
        case _:
            raise TypeError(f"a value of type {type(given).__name__} cannot be stored")


def _plain(value: Any) -> Any:
    match value.WhichOneof("value_type"):
        case "null_value":
            return None
        case "timestamp_value":
            return value.timestamp_value.ToDatetime(UTC)
        case "map_value":
            return {name: _plain(part) for name, part in value.map_value.fields.items()}
        case "array_value":
            return [_plain(part) for part in value.array_value.values]
        case kind:
            return getattr(value, kind)
