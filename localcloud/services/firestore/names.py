"""Names of databases, documents, collections and fields: how they are read, and which are legal.

Source for the limits: Firestore's documentation, "Quotas and limits"; for field paths: the API's
reference of ``Document`` and ``StructuredQuery.FieldReference``.
"""

import re
import secrets
import string
from functools import lru_cache

from localcloud.services.firestore.errors import InvalidArgumentError

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
    if not path or len(segments) % 2:
        raise InvalidArgumentError(
            f'Document name "{name}" has invalid segments: it must have an even number of them.'
        )
    if len(name.encode()) > LONGEST_NAME_BYTES:
        raise InvalidArgumentError(
            f"Document name is longer than {LONGEST_NAME_BYTES:,} bytes: {name[:100]}…"
        )
    if len(segments) // 2 > DEEPEST_COLLECTION:
        raise InvalidArgumentError(f"Document name has more than {DEEPEST_COLLECTION} collections.")
    for collection_id in segments[::2]:
        check_collection_id(collection_id)
    for document_id in segments[1::2]:
        if not _NUMERIC_ID.fullmatch(document_id):
            _check_id("Document", document_id)


@lru_cache(maxsize=1024)
def check_collection_id(collection_id: str) -> None:
    """Check that a text can be a collection's id.

    Raises:
        InvalidArgumentError: it cannot.
    """
    _check_id("Collection", collection_id)


def new_document_id() -> str:
    """Return an id as Firestore makes them up."""
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(20))


def _check_id(what: str, given: str) -> None:
    if not given:
        raise InvalidArgumentError(f"{what} id is empty.")
    if "/" in given:
        raise InvalidArgumentError(f'{what} id "{given}" contains a "/".')
    if given in {".", ".."}:
        raise InvalidArgumentError(f'{what} id "{given}" is invalid: it is reserved.')
    if _RESERVED.fullmatch(given):
        raise InvalidArgumentError(f'Resource id "{given}" is invalid because it is reserved.')
    if len(given.encode()) > LONGEST_ID_BYTES:
        raise InvalidArgumentError(
            f"{what} id is longer than {LONGEST_ID_BYTES:,} bytes: {given[:100]}…"
        )


@lru_cache(maxsize=4096)
def read_field_path(given: str) -> FieldPath:
    """Return the names in a field path: simple ones, or any text in backticks, with dots between.

    Raises:
        InvalidArgumentError: it is not a field path.
    """
    if len(given.encode()) > LONGEST_FIELD_BYTES:
        raise InvalidArgumentError(
            f'Property path is longer than {LONGEST_FIELD_BYTES:,} bytes: "{given[:100]}…"'
        )
    names: list[str] = []
    position = 0
    while True:
        if match := _QUOTED_FIELD.match(given, position):
            names.append(_ESCAPED.sub(r"\1", match[1]))
        elif match := _SIMPLE_FIELD.match(given, position):
            names.append(match[0])
        else:
            raise InvalidArgumentError(f'Invalid property path "{given}".')
        position = match.end()
        if position == len(given):
            break
        if given[position] != ".":
            raise InvalidArgumentError(f'Invalid property path "{given}".')
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


def check_field_name(name: str) -> None:
    """Check that a text can be a field's name.

    Raises:
        InvalidArgumentError: it cannot.
    """
    if not name:
        raise InvalidArgumentError("The property has an empty name.")
    if _RESERVED.fullmatch(name):
        raise InvalidArgumentError(f'Property name "{name}" is invalid because it is reserved.')
    if len(name) > LONGEST_FIELD_BYTES // 4 and len(name.encode()) > LONGEST_FIELD_BYTES:
        raise InvalidArgumentError(
            f'Property name is longer than {LONGEST_FIELD_BYTES:,} bytes: "{name[:100]}…"'
        )
