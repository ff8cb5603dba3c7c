"""The documents of one database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from localcloud.services.firestore.document import StoredDocument
from localcloud.services.firestore.entries import Collection
from localcloud.services.firestore.order import name_key

_NOTHING = Collection()


class Database:
    """All documents of a database, and the collections that they are in.

    Not for several threads.
    """

    def __init__(self, documents: Iterable[StoredDocument] = ()) -> None:
        self.documents: dict[str, StoredDocument] = {}
        self._collections: dict[str, Collection] = {}
        self._groups: dict[str | None, Collection] = {}  # None: all documents
        self.apply({document.path: document for document in documents})

    def apply(self, changes: Mapping[str, StoredDocument | None]) -> None:
        """Make changes: the new version of each path, or None for one that is deleted."""
        for path, new in changes.items():
            old = self.documents.get(path)
            if old is None and new is None:
                continue
            if new is None:
                del self.documents[path]
            else:
                self.documents[path] = new
            collection_path = path.rpartition("/")[0]
            collection = self._collections.get(collection_path)
            if collection is None:
                collection = self._collections[collection_path] = Collection()
            collection.replace(old, new)
            if not collection.documents:
                del self._collections[collection_path]
            for group_id in (collection_path.rpartition("/")[2], None):
                if group_id in self._groups:
                    self._groups[group_id].replace(old, new)

    def collection(self, parent: str, collection_id: str) -> Collection:
        """Return a collection; an empty one if it has no documents.

        Args:
            parent: the path of the document that it belongs to; empty for the root.
            collection_id: its id.
        """
        path = f"{parent}/{collection_id}" if parent else collection_id
        return self._collections.get(path, _NOTHING)

    def group(self, collection_id: str | None) -> Collection:
        """Return all collections with an id as one, or all documents."""
        group = self._groups.get(collection_id)
        if group is None:
            group = self._groups[collection_id] = Collection()
            for document in self.documents.values():
                if collection_id in {None, document.path.split("/")[-2]}:
                    group.replace(None, document)
        return group

    def collection_ids(self, parent: str) -> list[str]:
        """Return the ids of the collections below a document or the root, in order.

        A collection counts if a document is in it or further below.
        """
        beginning = f"{parent}/" if parent else ""
        found = {
            path[len(beginning) :].partition("/")[0]
            for path in self._collections
            if path.startswith(beginning)
        }
        return sorted(found, key=str.encode)

    def document_ids(self, parent: str, collection_id: str) -> list[str]:
        """Return the ids in a collection, in order, with those that only have documents below."""
        path = f"{parent}/{collection_id}" if parent else collection_id
        beginning = f"{path}/"
        found = {
            below[len(beginning) :].partition("/")[0]
            for below in self._collections
            if below.startswith(beginning)
        }
        documents = self._collections.get(path, _NOTHING).documents
        found.update(document.rpartition("/")[2] for document in documents)
        return sorted(found, key=name_key)
