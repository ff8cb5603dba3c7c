"""Google's protobuf messages for Firestore, without the client library around them.

Importing ``google.cloud.firestore_v1`` runs the whole client library, which takes three times the
processor time and 25 MiB more than its message classes alone. So while the message modules are
imported, empty packages stand in for the library's two packages, and afterwards they are taken away
again: whoever imports the library later gets all of it, with the same message classes. If the
library is loaded already, nothing is done.

The classes are the protobuf classes behind the library's wrappers, which cost several times as much
for each field that is read or written.
"""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

_LIBRARY = "google.cloud.firestore_v1"
_TYPES = f"{_LIBRARY}.types"


def _load() -> dict[str, ModuleType]:
    """Return the message modules by name."""
    names = ("document", "common", "query", "write", "aggregation_result", "firestore")
    stand_ins = [name for name in (_LIBRARY, _TYPES) if name not in sys.modules]
    for name in stand_ins:
        module = ModuleType(name)
        folders = import_module("google.cloud").__path__
        below = name.split(".")[2:]
        module.__path__ = [str(Path(folder, *below)) for folder in folders]
        sys.modules[name] = module
    try:
        return {name: import_module(f"{_TYPES}.{name}") for name in names}
    finally:
        for name in stand_ins:
            del sys.modules[name]


_MODULES = _load()


def _pb(module: str, name: str) -> Any:
    found: Any = _MODULES[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found.pb()


Document = _pb("document", "Document")
Value = _pb("document", "Value")
DocumentMask = _pb("common", "DocumentMask")
StructuredQuery = _pb("query", "StructuredQuery")
Write = _pb("write", "Write")
WriteResult = _pb("write", "WriteResult")

GetDocumentRequest = _pb("firestore", "GetDocumentRequest")
ListDocumentsRequest = _pb("firestore", "ListDocumentsRequest")
ListDocumentsResponse = _pb("firestore", "ListDocumentsResponse")
CreateDocumentRequest = _pb("firestore", "CreateDocumentRequest")
UpdateDocumentRequest = _pb("firestore", "UpdateDocumentRequest")
DeleteDocumentRequest = _pb("firestore", "DeleteDocumentRequest")
BatchGetDocumentsRequest = _pb("firestore", "BatchGetDocumentsRequest")
BatchGetDocumentsResponse = _pb("firestore", "BatchGetDocumentsResponse")
BeginTransactionRequest = _pb("firestore", "BeginTransactionRequest")
BeginTransactionResponse = _pb("firestore", "BeginTransactionResponse")
CommitRequest = _pb("firestore", "CommitRequest")
CommitResponse = _pb("firestore", "CommitResponse")
RollbackRequest = _pb("firestore", "RollbackRequest")
RunQueryRequest = _pb("firestore", "RunQueryRequest")
RunQueryResponse = _pb("firestore", "RunQueryResponse")
RunAggregationQueryRequest = _pb("firestore", "RunAggregationQueryRequest")
RunAggregationQueryResponse = _pb("firestore", "RunAggregationQueryResponse")
ListCollectionIdsRequest = _pb("firestore", "ListCollectionIdsRequest")
ListCollectionIdsResponse = _pb("firestore", "ListCollectionIdsResponse")
BatchWriteRequest = _pb("firestore", "BatchWriteRequest")
BatchWriteResponse = _pb("firestore", "BatchWriteResponse")
