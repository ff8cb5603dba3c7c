"""A deleted workspace that can be taken back, as this command sees it, and how one is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from workspace_cli import UPGRADE
from workspace_cli.errors import NotUnderstoodError, WorkspaceNotFoundError, WrongUsageError
from workspace_cli.text import count_of, one_line, parse_time
from workspace_cli.workspaces import (
    BEGINNING,
    ID,
    MOST_NAMED,
    NAME,
    had_at_once,
    object_of,
    text_of,
)

if TYPE_CHECKING:
    import click

    from workspace_cli.app import App


@dataclass(frozen=True, kw_only=True)
class Deleted:
    """A deleted workspace. Every text is one safe line: a server has sent it.

    Attributes:
        raw: the API's own object, unchanged; for JSON only.
        id: a UUID; it may stand in a path and an argument.
        name: what it was called.
        until: until when it can be taken back.
        deleted_by: whose request it was, in words; empty if the Hub does not say it.
        snapshots: how many it has.
    """

    raw: Mapping[str, Any]
    id: str
    name: str
    owner_id: str
    deleted_at: datetime | None
    deleted_by: str
    until: datetime | None
    machine_type: str
    image_tag: str
    repo: str | None
    branch: str | None
    snapshots: int | None
    disk_gb: int | None

    @property
    def argument(self) -> str:
        """What names it in a command: its name if a Hub allows that, else its id."""
        return self.name if NAME.fullmatch(self.name) else self.id


def list_of(value: Any) -> Sequence[Deleted]:
    """Return the deleted workspaces of the API's JSON, the one that was deleted last first.

    Raises:
        NotUnderstoodError: it is no list of them.
    """
    listed = object_of(value).get("deleted_workspaces")
    if not isinstance(listed, list):
        raise _not_understood()
    return [_deleted_of(each) for each in listed]


def find_deleted(there: Sequence[Deleted], wanted: str) -> Deleted:
    """Return the deleted workspace of a name, an id, or the unique beginning of an id.

    A name goes before the beginning of an id. Several may have had one name: none of them is
    guessed.

    Raises:
        WorkspaceNotFoundError: there is none.
        WrongUsageError: several are meant.
    """
    found = (
        [each for each in there if each.id == wanted]
        or [each for each in there if each.raw.get("name") == wanted]
        or [each for each in there if BEGINNING.fullmatch(wanted) and each.id.startswith(wanted)]
    )
    if not found:
        raise WorkspaceNotFoundError(
            f'there is no deleted workspace "{one_line(wanted)}"', hint="workspace deleted"
        )
    if len(found) > 1:
        which = ", ".join(f"{each.id} ({each.name})" for each in found[:MOST_NAMED])
        raise WrongUsageError(f'"{one_line(wanted)}" may be several deleted workspaces: {which}')
    return found[0]


def names_for_completion(context: click.Context, incomplete: str) -> list[str]:
    """Return what names deleted workspaces in a shell, if it begins so."""

    def ask(app: App) -> Sequence[Deleted]:
        return list_of(app.client().deleted())

    names = dict.fromkeys(each.argument for each in had_at_once(context, ask))
    return [each for each in names if each.startswith(incomplete)]


def _deleted_of(value: Any) -> Deleted:
    """Return a deleted workspace. What is missing or of another type counts as absent."""
    given = object_of(value)
    workspace_id, name = given.get("id"), given.get("name")
    if not isinstance(workspace_id, str) or not ID.fullmatch(workspace_id):
        raise _not_understood()
    if not isinstance(name, str):
        raise _not_understood()
    metadata = object_of(given.get("metadata"))
    return Deleted(
        raw=given,
        id=workspace_id,
        name=one_line(name, 64) or "(no name)",
        owner_id=text_of(given, "owner_id") or "",
        deleted_at=parse_time(given.get("deleted_at")),
        deleted_by=_deleted_by(given),
        until=parse_time(given.get("until")),
        machine_type=text_of(given, "machine_type") or "",
        image_tag=text_of(given, "image_tag") or "",
        repo=text_of(metadata, "repo"),
        branch=text_of(metadata, "branch"),
        snapshots=count_of(given.get("snapshots")),
        disk_gb=count_of(given.get("disk_gb")),
    )


def _deleted_by(given: Mapping[str, Any]) -> str:
    if given.get("automatic") is True:
        return "the Hub"
    by, owner = text_of(given, "deleted_by"), text_of(given, "owner_id")
    if by is None:
        return ""
    return "its owner" if by == owner else "an administrator"


def _not_understood() -> NotUnderstoodError:
    return NotUnderstoodError(
        "the Hub does not answer deleted workspaces as this command knows them",
        hint=f"is the Hub newer? Then {UPGRADE}",
    )
