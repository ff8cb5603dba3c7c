"""What earlier versions stored, sent and made, from ``capture.py``, and what they can read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.upgrade.capture import TIME, USER_DATA

Document = dict[str, Any]

_PLAIN = {"str": str, "int": int, "bool": bool, "datetime": datetime, "null": type(None)}


@dataclass(frozen=True)
class Version:
    """An earlier version, by its folder."""

    folder: Path

    def __str__(self) -> str:
        """Return its name, for the ids of tests."""
        return self.folder.name

    @cached_property
    def situations(self) -> dict[str, Document]:
        """``workspace``, ``owner``, ``instances``, ``disks`` and due ``job``, by situation."""
        return self._read("situations.json")

    @cached_property
    def jobs(self) -> dict[str, Document]:
        """Messages by kind: ``queue``, ``body``, and the ``name`` of a task."""
        return self._read("jobs.json")

    @cached_property
    def events(self) -> dict[str, Document]:
        """Events as stored, one of each kind."""
        return self._read("events.json")

    @cached_property
    def reports(self) -> dict[str, Document]:
        """The reports of a guest, by event."""
        return self._read("reports.json")

    @cached_property
    def schema(self) -> Document:
        """What this version reads: see ``capture.schema``."""
        return self._read("schema.json")

    @cached_property
    def user_data(self) -> str:
        """The boot files of its machines."""
        return (self.folder / USER_DATA).read_text(encoding="utf-8")

    def _read(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            (self.folder / name).read_text(encoding="utf-8"), object_hook=_with_times
        )
        return found

    # ---- what it can read ----

    def complaints(self, document: Mapping[str, Any], record: str) -> list[str]:
        """Return what this version could not read in a document of the class ``record``."""
        return list(self._complaints(document, record, record))

    def as_rewritten(self, document: Mapping[str, Any], record: str) -> Document:
        """Return the document as this version rewrites it, without the fields it does not know."""
        fields = self.schema["records"][record]
        return {
            name: self._value_rewritten(value, fields[name]["types"])
            for name, value in document.items()
            if name in fields
        }

    def _value_rewritten(self, value: Any, types: list[str]) -> Any:
        if not isinstance(value, Mapping):
            return value
        (record,) = (each for each in types if each.strip("{}") in self.schema["records"])
        if record.startswith("{"):
            return {
                name: self.as_rewritten(part, record.strip("{}")) for name, part in value.items()
            }
        return self.as_rewritten(value, record)

    def _complaints(self, document: Mapping[str, Any], record: str, path: str) -> Iterator[str]:
        fields = self.schema["records"][record]
        for name in fields:
            if name not in document:
                if fields[name]["required"]:
                    yield f"{path}.{name} is missing"
                continue
            yield from self._complaints_of_value(
                document[name], fields[name]["types"], f"{path}.{name}"
            )
        if record in self.schema["strict"]:
            yield from (f"{path}.{name} is not known" for name in document if name not in fields)
        if document.get("schema_version", 1) > self.schema["schema_version"]:
            yield f"{path} is of a newer schema"

    def _complaints_of_value(self, value: Any, types: list[str], path: str) -> Iterator[str]:
        records, enums = self.schema["records"], self.schema["enums"]
        found: list[list[str]] = []
        for each in types:
            inner = each.strip("[]{}")
            if type(value) is _PLAIN.get(each) or value in enums.get(each, []):
                return
            parts: dict[Any, Any] | None = None
            if each.startswith("[") and isinstance(value, list):
                parts = dict(enumerate(value))
            elif each.startswith("{") and isinstance(value, Mapping):
                parts = dict(value)
            elif each in records and isinstance(value, Mapping):
                found.append(list(self._complaints(value, each, path)))
            if parts is not None:
                found.append(
                    [
                        said
                        for at, part in parts.items()
                        for said in self._complaints_of_value(part, [inner], f"{path}[{at}]")
                    ]
                )
        if not found:
            yield f"{path} is {value!r}, not one of {', '.join(types)}"
        elif [] not in found:
            yield from found[0]


def _with_times(found: Document) -> Any:
    return datetime.fromisoformat(found[TIME]) if set(found) == {TIME} else found


VERSIONS = [Version(folder) for folder in sorted(Path(__file__).parent.glob("v*_*"))]
SITUATIONS = [(version, name) for version in VERSIONS for name in version.situations]


def named(each: object) -> str:
    """Return a parameter's id in a test's name."""
    return str(each).replace(",", "").replace(" ", "-")
