"""Records as Firestore documents: the same field names, enums as strings, tuples as arrays.

Older documents can be read: a field that the document does not have gets the record's default. A
document of a newer schema is refused, because this version would lose the fields that it does not
know.
"""

from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from shared.domain.deleted import DELETED_SCHEMA_VERSION, DeletedWorkspace
from shared.domain.errors import UnavailableError
from shared.domain.events import Event
from shared.domain.snapshots import (
    SNAPSHOT_SCHEMA_VERSION,
    Consistency,
    Snapshot,
    SnapshotState,
)
from shared.domain.workspace import (
    SCHEMA_VERSION,
    Access,
    AccessState,
    Activity,
    FormerMachine,
    HomeDisk,
    HomeSource,
    HostKey,
    Metadata,
    OldHome,
    Operation,
    OperationKind,
    OwnedWorkspace,
    Owner,
    Phase,
    PhaseDuration,
    Problem,
    Status,
    StopReason,
    UsedKey,
    Workspace,
)

Document = Mapping[str, Any]


class NewerSchemaError(UnavailableError):
    """A newer version of the Hub wrote the document. Nothing is changed.

    This happens while a deployment is rolled out or back.
    """


def workspace_document(workspace: Workspace) -> dict[str, Any]:
    """Return the document of a workspace."""
    return {**_fields(workspace), "schema_version": workspace.schema_version}


def workspace_record(document: Document) -> Workspace:
    """Return the workspace of a document.

    Raises:
        NewerSchemaError: a newer version of the Hub wrote it.
    """
    if document.get("schema_version", 1) > SCHEMA_VERSION:
        raise NewerSchemaError(
            "A newer version of the Hub wrote this workspace."
            " Try again when its deployment is done."
        )
    fields = _known(document, Workspace)
    fields["status"] = Status(document["status"])
    fields["last_activity"] = Activity(document.get("last_activity", Activity.CREATED))
    fields["metadata"] = Metadata(**document.get("metadata", {}))
    if reason := document.get("stopped_because"):
        fields["stopped_because"] = StopReason(reason)
    if disk := document.get("home_disk"):
        fields["home_disk"] = HomeDisk(**disk)
    if key := document.get("host_key"):
        fields["host_key"] = HostKey(**_known(key, HostKey))
    if source := document.get("home_source"):
        fields["home_source"] = HomeSource(**_known(source, HomeSource))
    fields["old_homes"] = tuple(
        OldHome(**_known(each, OldHome)) for each in document.get("old_homes", ())
    )
    fields["error"] = _problem(document.get("error"))
    fields["operation"] = _operation(document.get("operation"))
    fields["access"] = _access(document.get("access"))
    return Workspace(**fields)


def owner_document(owner: Owner) -> dict[str, Any]:
    """Return the document of an owner."""
    return _fields(owner)


def owner_record(document: Document) -> Owner:
    """Return the owner of a document."""
    return Owner(
        id=document["id"],
        workspaces={
            held_id: OwnedWorkspace(**held)
            for held_id, held in document.get("workspaces", {}).items()
        },
        keys={hashed: UsedKey(**used) for hashed, used in document.get("keys", {}).items()},
        recent=tuple(document.get("recent", ())),
        domain=document.get("domain"),
    )


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """Return the document of a snapshot."""
    return _fields(snapshot)


def snapshot_record(document: Document) -> Snapshot:
    """Return the snapshot of a document.

    Raises:
        NewerSchemaError: a newer version of the Hub wrote it.
    """
    if document.get("schema_version", 1) > SNAPSHOT_SCHEMA_VERSION:
        raise NewerSchemaError(
            "A newer version of the Hub wrote this snapshot. Try again when its deployment is done."
        )
    fields = _known(document, Snapshot)
    fields["state"] = SnapshotState(document["state"])
    fields["consistency"] = Consistency(document["consistency"])
    fields["metadata"] = Metadata(**_known(document["metadata"], Metadata))
    fields["error"] = _problem(document.get("error"))
    return Snapshot(**fields)


def deleted_document(entry: DeletedWorkspace) -> dict[str, Any]:
    """Return the document of a deleted workspace. The record in it has its own form."""
    return {**_fields(entry), "workspace": workspace_document(entry.workspace)}


def deleted_record(document: Document) -> DeletedWorkspace:
    """Return the deleted workspace of a document.

    Raises:
        NewerSchemaError: a newer version of the Hub wrote it, or the record in it.
    """
    if document.get("schema_version", 1) > DELETED_SCHEMA_VERSION:
        raise NewerSchemaError(
            "A newer version of the Hub deleted this workspace."
            " Try again when its deployment is done."
        )
    fields = _known(document, DeletedWorkspace)
    fields["workspace"] = workspace_record(document["workspace"])
    return DeletedWorkspace(**fields)


def event_document(event: Event) -> dict[str, Any]:
    """Return the document of an event."""
    return _fields(event)


def event_record(document: Document) -> Event:
    """Return the event of a document."""
    fields = _known(document, Event)
    return Event(**{**fields, "phases": _phases(document)})


def _known(document: Document, record: type[Any]) -> dict[str, Any]:
    """Return those fields of a document that the record has."""
    return {name: document[name] for name in record.__dataclass_fields__ if name in document}


def _operation(document: Document | None) -> Operation | None:
    if document is None:
        return None
    fields = _known(document, Operation)
    fields["kind"] = OperationKind(document["kind"])
    fields["phase"] = Phase(document["phase"])
    fields["zones_tried"] = tuple(document.get("zones_tried", ()))
    fields["failure"] = _problem(document.get("failure"))
    fields["phases"] = _phases(document)
    for name in ("restores", "last_copy"):
        if source := document.get(name):
            fields[name] = HomeSource(**_known(source, HomeSource))
    if machine := document.get("former_machine"):
        fields["former_machine"] = FormerMachine(**_known(machine, FormerMachine))
    if former := document.get("former_home"):
        fields["former_home"] = HomeDisk(**_known(former, HomeDisk))
    return Operation(**fields)


def _phases(document: Document) -> tuple[PhaseDuration, ...]:
    return tuple(
        PhaseDuration(each["phase"], float(each["seconds"])) for each in document.get("phases", ())
    )


def _access(document: Document | None) -> Access | None:
    """Return what is recorded of access.

    None for a state that this version does not know: then it is given again, which does no harm.
    """
    if document is None or document.get("state") not in set(AccessState):
        return None
    fields = _known(document, Access)
    return Access(**{**fields, "state": AccessState(document["state"])})


def _problem(document: Document | None) -> Problem | None:
    if document is None:
        return None
    kind = document.get("operation_kind")
    return Problem(**{**document, "operation_kind": OperationKind(kind) if kind else None})


def _fields(record: Any) -> dict[str, Any]:
    """Return a record's fields.

    This does not use ``dataclasses.asdict``, which copies every value deeply and takes four times
    as long.
    """
    return {name: _plain(getattr(record, name)) for name in record.__dataclass_fields__}


def _plain(value: Any) -> Any:
    """Return a value as Firestore stores it: without records, enums and tuples."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime | str | int | float | bool | None):
        return value
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if is_dataclass(value):
        return _fields(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored")
