"""Names of databases, documents, collections and fields: how they are read, and which are legal.

Source for the limits: Firestore's documentation, "Quotas and limits"; for field paths: the API's
reference of ``Document`` and ``StructuredQuery.FieldReference``.
"""

import re
import secrets
import string
from functools import lru_cache

from localcloud.services.call_errors import InvalidArgumentError

DOCUMENT_NAME = "__name__"
LONGEST_ID_BYTES = 1500
LONGEST_NAME_BYTES = 6 * 1024
LONGEST_FIELD_BYTES = 1500
DEEPEST_COLLECTION = 100

FieldPath = tuple[str, ...]

_RESOURCE = re.compile(r"(projects/[^/]+/databases/[^/]+)(?:/documents(?:/(.*))?)?", re.DOTALL)
_RESERVED = re.compile(r"__.*__", re.DOTALL)
_NUMERIC_ID = re.compile(r"__id-?[0-9]+__")
_SIMPLE_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED_FIELD = re.compile(r"`((?:[^`\\]|\\.)+)`", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_INVALID_PATH = (
    'Invalid property path "{}". Unquoted property paths must match regex ([a-zA-Z_][a-zA-Z_0-9]*),'
    r" and quoted property paths must match regex (`(?:[^`\\]|(?:\\.))+`)"
)
_ID_CHARACTERS = string.ascii_letters + string.digits


def split_name(name: str) -> tuple[str, str]:
    """Return the database of a resource's name, and its path there; the root's is empty.

    Raises:
        InvalidArgumentError: it is not a name in a database.
    """
    match = _RESOURCE.fullmatch(name)
    if match is None:
        raise InvalidArgumentError(
            f'Resource name "{name}" is not of the form '
            "projects/{project_id}/databases/{database_id}/documents/{document_path}."
        )
    return match[1], match[2] or ""


def split_parent_name(name: str) -> tuple[str, str]:
    """Return the database of the name of a document or the root, and its path there.

    Raises:
        InvalidArgumentError: it is not the name of a document or of the root.
    """
    database, path = split_name(name)
    if path:
        check_document_path(path, name)
    elif not name.endswith("/documents"):
        raise InvalidArgumentError(f'Document parent name "{name}" lacks "/documents".')
    return database, path


def split_document_name(name: str) -> tuple[str, str]:
    """Return the database of a document's name, and its path there.

    Raises:
        InvalidArgumentError: it is not a legal name of a document.
    """
    database, path = split_name(name)
    check_document_path(path, name)
    return database, path


@lru_cache(maxsize=4096)
def check_document_path(path: str, name: str) -> None:
    """Check that a path below a database can be a document's.

    Raises:
        InvalidArgumentError: it cannot.
    """
    segments = path.split("/")
    if not path or path.endswith("/"):
        raise InvalidArgumentError(f'Document name "{name}" is invalid: Omit trailing "/".')
    if "" in segments:
        raise InvalidArgumentError(f'Document name "{name}" lacks a resource id.')
    if len(segments) % 2:
        raise InvalidArgumentError(f'Document name "{name}" lacks "/" at index {len(name)}.')
    if len(name.encode()) > LONGEST_NAME_BYTES:
        raise InvalidArgumentError(
            f"Document name is longer than {LONGEST_NAME_BYTES} bytes: {name[:100]}…"
        )
    if len(segments) // 2 > DEEPEST_COLLECTION:
        raise InvalidArgumentError(f"Document name has more than {DEEPEST_COLLECTION} collections.")
    for collection_id in segments[::2]:
        check_collection_id(collection_id)
    for document_id in segments[1::2]:
        if not _NUMERIC_ID.fullmatch(document_id):
            _check_id("Resource", document_id)


@lru_cache(maxsize=1024)
def check_collection_id(collection_id: str) -> None:
    """Check that a text can be a collection's id.

    Raises:
        InvalidArgumentError: it cannot.
    """
    if not collection_id:
        raise InvalidArgumentError("collectionId is the empty string.")
    _check_id("Collection", collection_id)


def check_document_id(document_id: str) -> None:
    """Check that a text can be a document's id.

    Raises:
        InvalidArgumentError: it cannot.
    """
    _check_id("Resource", document_id)


def new_document_id() -> str:
    """Return an id as Firestore makes them up."""
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(20))


def _check_id(what: str, given: str) -> None:
    if "/" in given:
        raise InvalidArgumentError(f'{what} id "{given}" is invalid because it contains "/".')
    if given in {".", ".."}:
        raise InvalidArgumentError(f'{what} id "{given}" is invalid because it is reserved.')
    if _RESERVED.fullmatch(given):
        raise InvalidArgumentError(f'{what} id "{given}" is invalid because it is reserved.')
    if len(given.encode()) > LONGEST_ID_BYTES:
        raise InvalidArgumentError(
            f"The key path element name is longer than {LONGEST_ID_BYTES} bytes."
        )


@lru_cache(maxsize=4096)
def read_field_path(given: str) -> FieldPath:
    """Return the names in a field path: simple ones, or any text in backticks, with dots between.

    Raises:
        InvalidArgumentError: it is not a field path.
    """
    if len(given.encode()) > LONGEST_FIELD_BYTES:
        raise InvalidArgumentError(
            f"The property path is longer than {LONGEST_FIELD_BYTES} bytes: {given[:100]}…"
        )
    if not given:
        raise InvalidArgumentError("Invalid empty property path string.")
    names: list[str] = []
    position = 0
    while True:
        if match := _QUOTED_FIELD.match(given, position):
            names.append(_ESCAPED.sub(r"\1", match[1]))
        elif match := _SIMPLE_FIELD.match(given, position):
            names.append(match[0])
        else:
            raise InvalidArgumentError(_INVALID_PATH.format(given))
        position = match.end()
        if position == len(given):
            break
        if given[position] != ".":
            raise InvalidArgumentError(_INVALID_PATH.format(given))
        position += 1
    path = tuple(names)
    if path != (DOCUMENT_NAME,):
        for name in path:
            check_field_name(name)
    return path


def write_field_path(path: FieldPath) -> str:
    """Return the text of a field path."""
    return ".".join(
        name
        if _SIMPLE_FIELD.fullmatch(name)
        else "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
        for name in path
    )


@lru_cache(maxsize=4096)
def check_field_name(name: str) -> None:
    """Check that a text can be a field's name.

    Raises:
        InvalidArgumentError: it cannot.
    """
    if not name:
        raise InvalidArgumentError("The property.name is the empty string.")
    if _RESERVED.fullmatch(name):
        raise InvalidArgumentError(f"field name {name} is reserved")
    if len(name) > LONGEST_FIELD_BYTES // 4 and len(name.encode()) > LONGEST_FIELD_BYTES:
        raise InvalidArgumentError(f"The property.name is longer than {LONGEST_FIELD_BYTES} bytes.")
