"""One write: its precondition, its fields, its transforms.

The texts of refusals are production's: firebase/firebase-js-sdk issue 5871 for an outdated version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localcloud.services.call_errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from localcloud.services.firestore import times
from localcloud.services.firestore.document import (
    StoredDocument,
    find_value,
    put_value,
    remove_value,
)
from localcloud.services.firestore.indexes import Indexes
from localcloud.services.firestore.limits import (
    MOST_TRANSFORMS,
    check_document,
    check_fields,
    check_value,
    leaves,
)
from localcloud.services.firestore.messages import Document, WriteResult
from localcloud.services.firestore.names import (
    read_field_path,
    split_document_name,
    write_field_path,
)
from localcloud.services.firestore.repeats import written_name
from localcloud.services.firestore.transforms import apply_transform, check_transform


def check_write(write: Any, database: str) -> None:
    """Check what does not depend on the stored document.

    Raises:
        InvalidArgumentError: the write cannot be carried out, whatever is stored.
    """
    kind = write.WhichOneof("operation")
    if kind is None:
        raise InvalidArgumentError("empty write operation")
    name = written_name(write)
    named_database, _ = split_document_name(name)
    if named_database != database:
        raise InvalidArgumentError(
            f"The request was for database '{database}' but was attempting to access database "
            f"'{named_database}'"
        )
    if kind == "update":
        _check_fields(write)
        _check_transforms(write.update_transforms)
    elif kind == "transform":
        _check_transforms(write.transform.field_transforms)


class Writer:
    """Carries out the writes of one commit, one after the other, without changing the database.

    Args:
        database: the database's name.
        stored: returns the stored version of a path, or None.
        indexes: the indexes, for the number of a document's entries.
        commit_us: the time of the commit.

    Attributes:
        changes: the new version of each path, or None for one that is deleted.
    """

    def __init__(
        self,
        database: str,
        stored: Callable[[str], StoredDocument | None],
        indexes: Indexes,
        commit_us: int,
    ) -> None:
        self._database = database
        self._stored = stored
        self._indexes = indexes
        self._commit_us = commit_us
        self.changes: dict[str, StoredDocument | None] = {}

    def write(self, write: Any) -> Any:
        """Carry out a ``Write`` message that has been checked, and return its ``WriteResult``.

        Raises:
            CallError: its precondition does not hold, or it cannot be carried out.
        """
        result = WriteResult()
        kind = write.WhichOneof("operation")
        match kind:
            case "update":
                _, path = split_document_name(write.update.name)
                old = self._checked(path, write.update.name, write)
                fields = self._updated(write, old)
                transforms = write.update_transforms
            case "delete":
                _, path = split_document_name(write.delete)
                self._checked(path, write.delete, write)
                self.changes[path] = None
                return result
            case _:
                _, path = split_document_name(write.transform.document)
                old = self._checked(path, write.transform.document, write)
                fields = Document()
                if old is not None:
                    fields.fields.MergeFrom(old.message.fields)
                transforms = write.transform.field_transforms
        result.transform_results.extend(
            apply_transform(each, fields.fields, self._commit_us) for each in transforms
        )
        new = self._new(path, fields, old)
        times.fill(result.update_time, new.update_us)
        return result

    def _checked(self, path: str, name: str, write: Any) -> StoredDocument | None:
        """Return the version before the write.

        Raises:
            CallError: the precondition does not hold.
        """
        if path in self.changes:
            # What may follow a write of the same document was checked before (``repeats.py``).
            return self.changes[path]
        old = self._stored(path)
        if not write.HasField("current_document"):
            return old
        expected = write.current_document
        match expected.WhichOneof("condition_type"):
            case "exists":
                if expected.exists and old is None:
                    raise NotFoundError(f"No document to update: {name}")
                if not expected.exists and old is not None:
                    raise AlreadyExistsError(f"Document already exists: {name}")
            case "update_time":
                if expected.update_time.nanos % 1000:
                    raise InvalidArgumentError(
                        "timestamp cannot have more than microseconds precision"
                    )
                base = times.as_us(expected.update_time)
                # The version of a document that does not exist is the time of the look.
                version = old.update_us if old else self._commit_us
                if old is None or version != base:
                    raise FailedPreconditionError(
                        f"the stored version ({version}) does not match the required base version "
                        f"({base})"
                    )
        return old

    def _updated(self, write: Any, old: StoredDocument | None) -> Any:
        """Return a ``Document`` message with the fields after an update, before transforms."""
        given = write.update.fields
        updated = Document()
        if not write.HasField("update_mask"):
            updated.fields.MergeFrom(given)
            return updated
        paths = [read_field_path(each) for each in write.update_mask.field_paths]
        if old is not None:
            updated.fields.MergeFrom(old.message.fields)
        for path in paths:
            value = find_value(given, path)
            if value is None:
                remove_value(updated.fields, path)
            else:
                put_value(updated.fields, path, value)
        return updated

    def _new(self, path: str, updated: Any, old: StoredDocument | None) -> StoredDocument:
        if old is not None and updated.fields == old.message.fields:
            self.changes[path] = old
            return old
        updated.name = f"{self._database}/documents/{path}"
        collection_id = path.split("/")[-2]
        check_document(
            updated,
            path,
            lambda: self._indexes.count_entries(collection_id, leaves(updated.fields)),
        )
        created = self._commit_us if old is None else old.create_us
        new = self.changes[path] = StoredDocument(path, updated, created, self._commit_us)
        return new


def _check_fields(write: Any) -> None:
    fields = write.update.fields
    if not write.HasField("update_mask"):
        check_fields(fields.items())
        return
    for each in write.update_mask.field_paths:
        path = read_field_path(each)
        value = find_value(fields, path)
        if value is not None:
            check_value(value, path)


def _check_transforms(transforms: Any) -> None:
    if len(transforms) > MOST_TRANSFORMS:
        raise InvalidArgumentError(
            f"A write may have at most {MOST_TRANSFORMS} transforms of a document."
        )
    for each in transforms:
        check_transform(each)
    paths = {read_field_path(each.field_path) for each in transforms}
    for path in paths:
        for length in range(1, len(path)):
            if path[:length] in paths:
                raise InvalidArgumentError(
                    f"Cannot transform property {write_field_path(path[:length])} and its nested "
                    "property at the same time."
                )
