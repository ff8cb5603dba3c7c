"""A stored version of a document. It is never changed: each write makes a new one."""

from __future__ import annotations

from typing import Any

from localcloud.services.firestore import order, times
from localcloud.services.firestore.messages import Document
from localcloud.services.firestore.names import DOCUMENT_NAME, FieldPath

_NAME_PATH = (DOCUMENT_NAME,)


class StoredDocument:
    """A document, with what queries need of it.

    Attributes:
        path: its path below the database.
        message: the ``Document`` message, with name and times. Nobody changes it.
        create_us: when it was created.
        update_us: when it was last changed.
        key: what its name is sorted by.
    """

    __slots__ = ("_keys", "_serialized", "create_us", "key", "message", "path", "update_us")

    def __init__(self, path: str, message: Any, create_us: int, update_us: int) -> None:
        times.fill(message.create_time, create_us)
        times.fill(message.update_time, update_us)
        self.path = path
        self.message = message
        self.create_us = create_us
        self.update_us = update_us
        self.key = order.name_key(path)
        self._keys: dict[FieldPath, bytes | None] = {_NAME_PATH: self.key}
        self._serialized: bytes | None = None

    @property
    def name(self) -> str:
        """The whole name, with project and database."""
        return str(self.message.name)

    @property
    def serialized(self) -> bytes:
        """The message as bytes."""
        if self._serialized is None:
            self._serialized = self.message.SerializeToString()
        return self._serialized

    def value(self, path: FieldPath) -> Any | None:
        """Return the ``Value`` message of a field, or None if the document has no such field."""
        return find_value(self.message.fields, path)

    def field_key(self, path: FieldPath) -> bytes | None:
        """Return what a field is sorted by, or None if the document has no such field."""
        try:
            return self._keys[path]
        except KeyError:
            value = self.value(path)
            key = self._keys[path] = None if value is None else order.value_key(value)
            return key

    def element_keys(self, path: FieldPath) -> set[bytes]:
        """Return what the elements of an array are sorted by; nothing if the field is no array."""
        value = self.value(path)
        if value is None or value.WhichOneof("value_type") != "array_value":
            return set()
        return {order.value_key(element) for element in value.array_value.values}

    def masked(self, paths: list[FieldPath]) -> Any:
        """Return a ``Document`` message with only these fields."""
        message = Document(name=self.message.name)
        message.create_time.CopyFrom(self.message.create_time)
        message.update_time.CopyFrom(self.message.update_time)
        for path in paths:
            value = self.value(path)
            if value is not None:
                put_value(message.fields, path, value)
        return message


def find_value(fields: Any, path: FieldPath) -> Any | None:
    """Return the ``Value`` message at a path below a map of fields, or None."""
    *above, last = path
    for name in above:
        if name not in fields or fields[name].WhichOneof("value_type") != "map_value":
            return None
        fields = fields[name].map_value.fields
    return fields.get(last)


def put_value(fields: Any, path: FieldPath, value: Any) -> None:
    """Put a copy of a ``Value`` message at a path; what is no map on the way becomes one."""
    *above, last = path
    for name in above:
        on_the_way = fields[name]
        if on_the_way.WhichOneof("value_type") != "map_value":
            on_the_way.map_value.SetInParent()
        fields = on_the_way.map_value.fields
    fields[last].CopyFrom(value)


def remove_value(fields: Any, path: FieldPath) -> None:
    """Remove what is at a path, if there is something."""
    *above, last = path
    for name in above:
        if name not in fields or fields[name].WhichOneof("value_type") != "map_value":
            return
        fields = fields[name].map_value.fields
    if last in fields:
        del fields[last]
