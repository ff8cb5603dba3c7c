"""One write: its precondition, its fields, its transforms.

The texts of refusals are production's: firebase/firebase-js-sdk issue 5871 for an outdated version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from localcloud.services.firestore import times
from localcloud.services.firestore.document import (
    StoredDocument,
    find_value,
    put_value,
    remove_value,
)
from localcloud.services.firestore.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from localcloud.services.firestore.indexes import Indexes
from localcloud.services.firestore.limits import (
    MOST_TRANSFORMS,
    check_document,
    check_value,
    leaves,
)
from localcloud.services.firestore.messages import Document, WriteResult
from localcloud.services.firestore.names import (
    FieldPath,
    check_field_name,
    read_field_path,
    split_document_name,
)
from localcloud.services.firestore.transforms import apply_transform


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
        """Carry out a ``Write`` message, and return its ``WriteResult`` message.

        Raises:
            FirestoreError: its precondition does not hold, or it cannot be carried out.
        """
        result = WriteResult()
        kind = write.WhichOneof("operation")
        match kind:
            case "update":
                path = self._path(write.update.name)
                old = self._checked(path, write.update.name, write)
                fields = self._updated(write, old)
                transforms = write.update_transforms
            case "delete":
                path = self._path(write.delete)
                self._checked(path, write.delete, write)
                self.changes[path] = None
                return result
            case "transform":
                path = self._path(write.transform.document)
                old = self._checked(path, write.transform.document, write)
                fields = Document()
                if old is not None:
                    fields.fields.MergeFrom(old.message.fields)
                transforms = write.transform.field_transforms
            case _:
                raise InvalidArgumentError("A write has no operation.")
        if len(transforms) > MOST_TRANSFORMS:
            raise InvalidArgumentError(
                f"A write may have at most {MOST_TRANSFORMS} transforms of a document."
            )
        result.transform_results.extend(
            apply_transform(each, fields.fields, self._commit_us) for each in transforms
        )
        new = self._new(path, fields, old)
        times.fill(result.update_time, new.update_us)
        return result

    def _path(self, name: str) -> str:
        database, path = split_document_name(name)
        if database != self._database:
            raise InvalidArgumentError(
                f'Document "{name}" is not of the database "{self._database}" of the request.'
            )
        return path

    def _checked(self, path: str, name: str, write: Any) -> StoredDocument | None:
        """Return the version before the write.

        Raises:
            FirestoreError: the precondition does not hold.
        """
        old = self.changes[path] if path in self.changes else self._stored(path)
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
                        "The update_time of a precondition must be precise to the microsecond."
                    )
                base = times.as_us(expected.update_time)
                if old is None:
                    raise NotFoundError(f"No document to update: {name}")
                if old.update_us != base:
                    raise FailedPreconditionError(
                        f"the stored version ({old.update_us}) does not match the required base "
                        f"version ({base})"
                    )
        return old

    def _updated(self, write: Any, old: StoredDocument | None) -> Any:
        """Return a ``Document`` message with the fields after an update, before transforms."""
        given = write.update.fields
        updated = Document()
        if not write.HasField("update_mask"):
            _check_fields(given.items())
            updated.fields.MergeFrom(given)
            return updated
        paths = [read_field_path(each) for each in write.update_mask.field_paths]
        _check_no_overlap(paths)
        if old is not None:
            updated.fields.MergeFrom(old.message.fields)
        for path in paths:
            value = find_value(given, path)
            if value is None:
                remove_value(updated.fields, path)
            else:
                check_value(value, path[-1], len(path))
                put_value(updated.fields, path, value)
        return updated

    def _new(self, path: str, updated: Any, old: StoredDocument | None) -> StoredDocument:
        if old is not None and updated.fields == old.message.fields and _is_same(updated, old):
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


def _is_same(updated: Any, old: StoredDocument) -> bool:
    """Return whether fields that compare as equal are written the same: 0.0 is not -0.0."""
    mine = Document()
    mine.fields.MergeFrom(old.message.fields)
    same: bool = updated.SerializeToString(deterministic=True) == mine.SerializeToString(
        deterministic=True
    )
    return same


def _check_fields(fields: Iterable[tuple[str, Any]]) -> None:
    for name, value in fields:
        check_field_name(name)
        check_value(value, name)


def _check_no_overlap(paths: list[FieldPath]) -> None:
    known = set(paths)
    for path in paths:
        for length in range(1, len(path)):
            if path[:length] in known:
                raise InvalidArgumentError(
                    f"The update mask has both {'.'.join(path[:length])} and {'.'.join(path)}."
                )
