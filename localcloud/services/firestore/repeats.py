"""What a commit may do to one document more than once.

The writes of a document become one, on the condition of the first. So what comes later may have
only a condition that the first writes already settle. Source: what Google's emulator refuses, tried
with each pair of writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from localcloud.services.call_errors import InvalidArgumentError
from localcloud.services.firestore import times


def check_repeats(writes: Iterable[Any]) -> None:
    """Check the writes of each document that is written more than once.

    Raises:
        InvalidArgumentError: they contradict each other.
    """
    first: dict[str, tuple[str, int | None]] = {}
    for write in writes:
        name = written_name(write)
        kind, version = _kind(write), _version(write)
        if name in first:
            before, version_before = first[name]
            _check_pair(before, kind, write)
            if version is not None and version != version_before:
                raise InvalidArgumentError(
                    "Cannot collapse mutations with different version preconditions "
                    f"({version_before} and {version})"
                )
            if kind == "delete" or before == "delete":
                first[name] = ("delete" if kind == "delete" else "upsert", version_before)
        else:
            first[name] = (kind, version)


def written_name(write: Any) -> str:
    """Return the name of the document that a ``Write`` message is about."""
    match write.WhichOneof("operation"):
        case "update":
            return str(write.update.name)
        case "delete":
            return str(write.delete)
        case _:
            return str(write.transform.document)


def _check_pair(before: str, kind: str, write: Any) -> None:
    must_be_absent = (
        write.current_document.WhichOneof("condition_type") == "exists"
        and not write.current_document.exists
    )
    if before == "delete":
        is_contradiction = kind == "update" or (kind == "delete" and write.current_document.exists)
    else:
        is_contradiction = must_be_absent
    if is_contradiction:
        raise InvalidArgumentError(f"Cannot {before} then {kind} an entity in the same request.")


def _kind(write: Any) -> str:
    if write.WhichOneof("operation") == "delete":
        return "delete"
    condition = write.current_document
    match condition.WhichOneof("condition_type"):
        case "exists":
            return "update" if condition.exists else "insert"
        case "update_time":
            return "update"
        case _:
            return "upsert"


def _version(write: Any) -> int | None:
    if write.current_document.HasField("update_time"):
        return times.as_us(write.current_document.update_time)
    return None
