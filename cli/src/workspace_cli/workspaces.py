"""A workspace as this command sees it, and how the one that a person means is found."""

from __future__ import annotations

import contextlib
import difflib
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from workspace_cli import UPGRADE
from workspace_cli.errors import (
    CommandError,
    NotUnderstoodError,
    QueryUnknownError,
    WorkspaceNotFoundError,
    WrongUsageError,
)
from workspace_cli.text import one_line, parse_time

if TYPE_CHECKING:
    import click

    from workspace_cli.app import App
    from workspace_cli.client import HubClient

_T = TypeVar("_T")
NAME = re.compile(r"[A-Za-z0-9._-]{1,48}")
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
BEGINNING = re.compile(r"[0-9a-f][0-9a-f-]{0,35}")
SURE_LENGTH = 8  # of the beginning of an id that nobody means as a name, such as "db"
_MOST_GB = 2**31  # a number that is larger is none of a disk
_COMPLETION_SECONDS = 3.0  # a person waits for it, and gcloud may have to start
MOST_NAMED = 5  # in a message
TAKES_SNAPSHOT = "SNAPSHOT"  # a kind of operation
RESTORES = "RESTORE"  # another one
ARCHIVES = "ARCHIVE"  # another one
STARTS = "START"  # another one


@dataclass(frozen=True, kw_only=True)
class Operation:
    """The change that is under way.

    ``zones_tried`` are those without capacity. A SNAPSHOT may have a ``snapshot_name``, and a
    RESTORE has the ``snapshot_id`` of what it makes the home from.
    """

    id: str
    kind: str
    phase: str
    requested_at: datetime | None
    zones_tried: tuple[str, ...]
    snapshot_name: str | None
    snapshot_id: str | None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What went wrong last with a workspace, in the Hub's words."""

    code: str
    message: str
    operation_kind: str | None

    @property
    def reason(self) -> str:
        """The code, and what it means here."""
        return f"{self.code}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A workspace. Every text is one safe line: a server has sent it.

    Attributes:
        raw: the API's own object, unchanged; for JSON only.
        id: a UUID; it may stand in a path, a file name and an argument.
        name: the owner's name for it. ``NAME`` says whether it is one that a Hub allows.
        archived_at: since when its home is only a snapshot; None if it is not.
        undelete_until: until when it can be taken back, while a DELETE is under way that keeps its
            home; else None.
        home_gb: how large its home is; None if it is not known.
        last_device: which device somebody connected from last, or made it from.
    """

    raw: Mapping[str, Any]
    id: str
    name: str
    owner_id: str
    status: str
    operation: Operation | None
    error: Failure | None
    machine_type: str
    zone: str
    home_gb: int | None
    image_tag: str
    created_at: datetime | None
    last_connected_at: datetime | None
    stops_at: datetime | None
    archived_at: datetime | None
    archives_at: datetime | None
    deletes_at: datetime | None
    kept_awake_until: datetime | None
    undelete_until: datetime | None
    suspended_at: datetime | None
    stopped_because: str | None
    memory_kept: bool | None
    memory_lost_because: str | None
    last_device: str | None
    repo: str | None
    branch: str | None

    @property
    def argument(self) -> str:
        """What names it in a command: its name if a Hub allows that, else its id."""
        return self.name if NAME.fullmatch(self.name) else self.id

    @property
    def failure(self) -> Failure | None:
        """What went wrong with it; None if it is nothing, or only a snapshot was not taken."""
        return None if self.snapshot_failure else self.error

    @property
    def snapshot_failure(self) -> Failure | None:
        """Why its last snapshot was not taken: it goes on as it was. None if nothing failed."""
        is_of_snapshot = self.error is not None and self.error.operation_kind == TAKES_SNAPSHOT
        return self.error if is_of_snapshot and self.status != "ERROR" else None

    @property
    def is_not_restored(self) -> bool:
        """Whether its last operation is a RESTORE that failed: its home is what it was."""
        return self.error is not None and self.error.operation_kind == RESTORES

    @property
    def is_archived(self) -> bool:
        """Whether it sleeps without a machine and a disk: its home is a snapshot."""
        return self.status == "SUSPENDED" and self.archived_at is not None

    @property
    def is_not_archived(self) -> bool:
        """Whether its last operation is an ARCHIVE that failed: its home is kept."""
        return self.error is not None and self.error.operation_kind == ARCHIVES

    @property
    def is_not_changed(self) -> bool:
        """Whether its last operation is a START that failed and left it ready, as it was."""
        failed = self.error is not None and self.error.operation_kind == STARTS
        return failed and self.status == "READY"

    @property
    def is_settled(self) -> bool:
        """Whether no change of it is under way. A snapshot of its home changes nothing."""
        return self.operation is None or self.operation.kind == TAKES_SNAPSHOT

    @property
    def is_being_deleted(self) -> bool:
        """Whether a DELETE is under way."""
        return self.operation is not None and self.operation.kind == "DELETE"

    @property
    def is_kept(self) -> bool:
        """Whether its DELETE failed: it is still there, and its name may be another's now."""
        return self.error is not None and self.error.operation_kind == "DELETE"


def workspace_of(value: Any) -> Workspace:
    """Return a workspace of the API's JSON. What is missing or of another type counts as absent.

    Raises:
        NotUnderstoodError: it has no id, name or status as the contract has them.
    """
    given = object_of(value)
    workspace_id = given.get("id")
    if (
        not isinstance(workspace_id, str)
        or not ID.fullmatch(workspace_id)
        or not isinstance(given.get("name"), str)
        or not isinstance(given.get("status"), str)
    ):
        raise NotUnderstoodError(
            "the Hub does not answer a workspace as this command knows it",
            hint=f"is the Hub newer? Then {UPGRADE}",
        )
    metadata = object_of(given.get("metadata"))
    kept, size = given.get("memory_kept"), given.get("home_disk_gb")
    return Workspace(
        raw=given,
        id=workspace_id,
        name=one_line(given["name"], 64) or "(no name)",
        owner_id=text_of(given, "owner_id") or "",
        status=one_line(given["status"], 32),
        operation=_operation_of(given.get("operation")),
        error=failure_of(given.get("error")),
        machine_type=text_of(given, "machine_type") or "",
        zone=text_of(given, "zone") or "",
        home_gb=size if type(size) is int and 0 < size < _MOST_GB else None,
        image_tag=text_of(given, "image_tag") or "",
        created_at=parse_time(given.get("created_at")),
        last_connected_at=parse_time(given.get("last_connected_at")),
        stops_at=parse_time(given.get("stops_at")),
        archived_at=parse_time(given.get("archived_at")),
        archives_at=parse_time(given.get("archives_at")),
        deletes_at=parse_time(given.get("deletes_at")),
        kept_awake_until=parse_time(given.get("kept_awake_until")),
        undelete_until=parse_time(given.get("undelete_until")),
        suspended_at=parse_time(given.get("suspended_at")),
        stopped_because=text_of(given, "stopped_because"),
        memory_kept=kept if isinstance(kept, bool) else None,
        memory_lost_because=text_of(given, "memory_lost_because"),
        last_device=text_of(given, "last_device_id") or text_of(metadata, "device_id"),
        repo=text_of(metadata, "repo"),
        branch=text_of(metadata, "branch"),
    )


def find(client: HubClient, name: str, *, surely: bool = False) -> Workspace:
    """Return the person's workspace of a name, an id, or the unique beginning of an id.

    A name goes before the beginning of an id. Of two with one name, the one that a DELETE has given
    up is not meant. A whole id may also be somebody else's, for administrators.

    Args:
        client: asks the Hub.
        name: what the person wrote.
        surely: what follows cannot be undone. Then two with one name are ambiguous, unless one is
            being deleted, and the beginning of an id has at least eight characters: "db" is a name
            that has gone, not the beginning of the id of something else.

    Raises:
        WorkspaceNotFoundError: there is none.
        WrongUsageError: several are meant.
    """
    found = _find(client, name, surely=surely)
    client.names[found.id] = found.argument
    return found


def _find(client: HubClient, name: str, *, surely: bool) -> Workspace:
    if ID.fullmatch(name):
        return workspace_of(client.workspace(name))
    by_name = sorted(_named(client, name), key=lambda each: (each.is_being_deleted, each.is_kept))
    if by_name:
        there = [each for each in by_name if not each.is_being_deleted]
        if surely and len(there) > 1:
            raise _ambiguous(f'several workspaces are called "{name}"', there)
        return by_name[0]
    everything = [workspace_of(each) for each in client.workspaces()]
    begun = [each for each in everything if each.id.startswith(name)]
    if not BEGINNING.fullmatch(name) or not begun or (surely and len(name) < SURE_LENGTH):
        raise _not_found(name, everything)
    if len(begun) > 1:
        raise _ambiguous(f'"{name}" is the beginning of several ids', begun)
    return begun[0]


def names_for_completion(context: click.Context, incomplete: str) -> Iterable[str]:
    """Return names that begin so; none if the Hub does not answer at once, or anything is wrong.

    Only names that a Hub allows: a shell takes them as they are.
    """
    found = had_at_once(
        context, lambda app: [workspace_of(each) for each in app.client().workspaces()]
    )
    names = [each.name for each in found]
    return [name for name in names if NAME.fullmatch(name) and name.startswith(incomplete)]


def had_at_once(context: click.Context, ask: Callable[[App], Iterable[_T]]) -> list[_T]:
    """Return what is asked of the Hub for a completion; nothing if it takes long, or fails."""
    from workspace_cli.app import App  # noqa: PLC0415  # only completion needs it here

    app = context.find_object(App) or App()
    found: list[_T] = []

    def work() -> None:
        with contextlib.suppress(CommandError):
            found.extend(ask(app))

    asking = threading.Thread(target=work, daemon=True)
    asking.start()
    asking.join(_COMPLETION_SECONDS)
    return list(found)


def _named(client: HubClient, name: str) -> list[Workspace]:
    found: list[Any] = []
    if NAME.fullmatch(name):
        try:
            found = client.workspaces(name=name)
        except QueryUnknownError:  # an older Hub
            found = client.workspaces()
    return [each for each in map(workspace_of, found) if each.raw["name"] == name]


def _ambiguous(what: str, found: list[Workspace]) -> WrongUsageError:
    which = ", ".join(f"{each.id} ({each.name})" for each in found[:MOST_NAMED])
    return WrongUsageError(f"{what}: {which}")


def _not_found(name: str, there: list[Workspace]) -> WorkspaceNotFoundError:
    names = [each.name for each in there]
    near = difflib.get_close_matches(name, names, n=1)
    meant = f" Do you mean {near[0]}?" if near else ""
    return WorkspaceNotFoundError(
        f'there is no workspace "{one_line(name)}".{meant}', hint=None if near else "workspace ls"
    )


def _operation_of(value: Any) -> Operation | None:
    if not isinstance(value, dict):
        return None
    tried, source = value.get("zones_tried"), value.get("snapshot_id")
    return Operation(
        id=text_of(value, "id") or "",
        kind=text_of(value, "kind") or "",
        phase=text_of(value, "phase") or "",
        requested_at=parse_time(value.get("requested_at")),
        zones_tried=tuple(one_line(each, 64) for each in tried[:20])
        if isinstance(tried, list)
        else (),
        snapshot_name=text_of(value, "snapshot_name", 64),
        snapshot_id=source if isinstance(source, str) and ID.fullmatch(source) else None,
    )


def failure_of(value: Any) -> Failure | None:
    """Return what went wrong, of the API's JSON; None if it is nothing."""
    if not isinstance(value, dict):
        return None
    return Failure(
        code=text_of(value, "code") or "",
        message=(text_of(value, "message", 600) or "").rstrip("."),
        operation_kind=text_of(value, "operation_kind"),
    )


def object_of(value: Any) -> dict[str, Any]:
    """Return an object of the API's JSON; an empty one if it is something else."""
    return value if isinstance(value, dict) else {}


def text_of(given: Mapping[str, Any], key: str, longest: int = 200) -> str | None:
    """Return a member of an object as one safe line; None if it is no text, or empty."""
    value = given.get(key)
    return one_line(value, longest) if isinstance(value, str) and value else None
