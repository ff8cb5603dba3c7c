"""Calls of any Firestore server with Google's messages, without the client library's checks.

The library refuses some requests itself and repeats others, so it hides what a server does.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import grpc

from localcloud.services.firestore import messages

_SECONDS = 30.0
_STREAMS = {"BatchGetDocuments", "RunQuery", "RunAggregationQuery"}


class Reference(str):
    """The name of a document, as a value."""

    __slots__ = ()


class GeoPoint(tuple[float, float]):
    """Latitude and longitude."""

    __slots__ = ()


class Calls:
    """Calls of a server, in a database that no other test uses.

    Args:
        address: ``host:port``.
        database: the database's id.

    Attributes:
        database: the database's name.
        root: the name below which its documents are.
    """

    def __init__(self, address: str, database: str = "(default)", project: str = "") -> None:
        self._channel = grpc.insecure_channel(address)
        project = project or f"test-{uuid.uuid4().hex[:16]}"
        self.database = f"projects/{project}/databases/{database}"
        self.root = f"{self.database}/documents"

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def call(self, method: str, request: Any) -> Any:
        """Make a call: return its answer, or the list of its answers.

        Raises:
            grpc.RpcError: the server refuses it.
        """
        name = f"/google.firestore.v1.Firestore/{method}"
        answer = getattr(messages, f"{method}Response", None) or messages.Document
        metadata = (
            ("authorization", "Bearer owner"),
            ("google-cloud-resource-prefix", self.database),
        )
        codec = {
            "request_serializer": type(request).SerializeToString,
            "response_deserializer": answer.FromString,
        }
        if method in _STREAMS:
            stream = self._channel.unary_stream(name, **codec)
            return list(stream(request, timeout=_SECONDS, metadata=metadata))
        return self._channel.unary_unary(name, **codec)(
            request, timeout=_SECONDS, metadata=metadata
        )

    def commit(self, *writes: Any, transaction: bytes = b"") -> Any:
        """Commit writes."""
        request = messages.CommitRequest(database=self.database, transaction=transaction)
        request.writes.extend(writes)
        return self.call("Commit", request)

    def put(self, path: str, fields: Mapping[str, Any], **condition: Any) -> Any:
        """Return the write of a whole document.

        Args:
            path: the document's path.
            fields: its fields.
            condition: ``exists`` or ``update_time``.
        """
        write = messages.Write()
        write.update.name = f"{self.root}/{path}"
        for name, given in fields.items():
            write.update.fields[name].CopyFrom(value(given))
        _set_condition(write, condition)
        return write

    def delete(self, path: str, **condition: Any) -> Any:
        """Return the write that deletes a document."""
        write = messages.Write(delete=f"{self.root}/{path}")
        _set_condition(write, condition)
        return write

    def set(self, path: str, fields: Mapping[str, Any]) -> Any:
        """Write a document, and return the result."""
        [result] = self.commit(self.put(path, fields)).write_results
        return result

    def get(self, path: str) -> Any:
        """Return a document."""
        request = messages.GetDocumentRequest(name=f"{self.root}/{path}")
        return self.call("GetDocument", request)

    def query(self, structured: Any, parent: str = "") -> list[Any]:
        """Return the documents that a query finds."""
        name = f"{self.root}/{parent}" if parent else self.root
        request = messages.RunQueryRequest(parent=name, structured_query=structured)
        answers = self.call("RunQuery", request)
        return [answer.document for answer in answers if answer.HasField("document")]


def value(given: Any) -> Any:
    """Return the ``Value`` message of a Python value."""
    match given:
        case messages.Value():
            return given
        case None:
            return messages.Value(null_value=0)
        case bool():
            return messages.Value(boolean_value=given)
        case int():
            return messages.Value(integer_value=given)
        case float():
            return messages.Value(double_value=given)
        case Reference():
            return messages.Value(reference_value=str(given))
        case str():
            return messages.Value(string_value=given)
        case bytes():
            return messages.Value(bytes_value=given)
        case datetime():
            stored = messages.Value()
            stored.timestamp_value.FromDatetime(given)
            return stored
        case GeoPoint():
            latitude, longitude = given
            stored = messages.Value()
            stored.geo_point_value.latitude = latitude
            stored.geo_point_value.longitude = longitude
            return stored
        case list():
            stored = messages.Value()
            stored.array_value.SetInParent()
            stored.array_value.values.extend(map(value, given))
            return stored
        case dict():
            stored = messages.Value()
            stored.map_value.SetInParent()
            for name, part in given.items():
                stored.map_value.fields[name].CopyFrom(value(part))
            return stored
    raise TypeError(f"{given!r} is no value of a document")


def _set_condition(write: Any, condition: Mapping[str, Any]) -> None:
    if "exists" in condition:
        write.current_document.exists = condition["exists"]
    if "update_time" in condition:
        write.current_document.update_time.CopyFrom(condition["update_time"])
