"""A snapshot of a workspace's home as this command sees it, and how the one that is meant is found.

Most snapshots have no name. So each is named by the beginning of its id, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from workspace_cli import UPGRADE
from workspace_cli.errors import NotUnderstoodError, SnapshotNotFoundError, WrongUsageError
from workspace_cli.text import count_of, day_or_time, duration, one_line, parse_time
from workspace_cli.workspaces import (
    BEGINNING,
    ID,
    MOST_NAMED,
    NAME,
    SURE_LENGTH,
    TAKES_SNAPSHOT,
    Failure,
    Workspace,
    failure_of,
    had_at_once,
    object_of,
    text_of,
)

if TYPE_CHECKING:
    import click

    from workspace_cli.app import App

_CONSISTENCY = {"clean": "clean", "crash": "crash-consistent"}
_TAKING = "TAKING"  # only here: the Hub lists it once it is captured
_STATES = {
    _TAKING: "being taken",
    "UPLOADING": "uploading",
    "READY": "ready",
    "FAILED": "failed",
    "DELETING": "being deleted",
}


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A snapshot. Every text is one safe line: a server has sent it.

    Attributes:
        raw: the API's own object, unchanged; for JSON only.
        id: a UUID; it may stand in a path and an argument.
        name: what a person called it; None if they did not.
        state: ``UPLOADING``, ``READY``, ``FAILED``, ``DELETING``, or as ``being_taken`` has it.
        taken_at: when its content was captured, or at least asked for.
    """

    raw: Mapping[str, Any]
    id: str
    name: str | None
    state: str
    consistency: str
    is_automatic: bool
    taken_at: datetime | None
    disk_gb: int | None
    stored_bytes: int | None
    machine_type: str
    image_tag: str
    repo: str | None
    branch: str | None
    error: Failure | None

    @property
    def label(self) -> str:
        """What it is called in a sentence: its name in quotes, or the beginning of its id."""
        return f'"{self.name}"' if self.name else self.beginning

    @property
    def beginning(self) -> str:
        """The beginning of its id, long enough to name it."""
        return self.id[:SURE_LENGTH]

    @property
    def argument(self) -> str:
        """What names it in a command: its name if a Hub allows that, else its id."""
        return self.name if self.name and NAME.fullmatch(self.name) else self.id


@dataclass(frozen=True, kw_only=True)
class SnapshotList:
    """The snapshots of a workspace, the one that was asked for last first.

    Attributes:
        raw: the API's own object, unchanged; for JSON only.
        snapshots: all of them.
        most: how many there may be; None if the Hub does not say it.
        next_at: from when on another may be asked for; None if it may be at any time.
    """

    raw: Mapping[str, Any]
    snapshots: Sequence[Snapshot]
    most: int | None
    next_at: datetime | None


def list_of(value: Any) -> SnapshotList:
    """Return the snapshots of the API's JSON.

    Raises:
        NotUnderstoodError: it is no list of snapshots.
    """
    given = object_of(value)
    listed = given.get("snapshots")
    if not isinstance(listed, list):
        raise _not_understood()
    return SnapshotList(
        raw=given,
        snapshots=[snapshot_of(each) for each in listed],
        most=count_of(given.get("most")),
        next_at=parse_time(given.get("next_at")),
    )


def snapshot_of(value: Any) -> Snapshot:
    """Return a snapshot of the API's JSON. What is missing or of another type counts as absent.

    Raises:
        NotUnderstoodError: it has no id or state as the contract has them.
    """
    given = object_of(value)
    snapshot_id, state = given.get("id"), given.get("state")
    if not isinstance(snapshot_id, str) or not ID.fullmatch(snapshot_id):
        raise _not_understood()
    if not isinstance(state, str):
        raise _not_understood()
    metadata = object_of(given.get("metadata"))
    return Snapshot(
        raw=given,
        id=snapshot_id,
        name=text_of(given, "name", 64),
        state=one_line(state, 32),
        consistency=text_of(given, "consistency", 32) or "",
        is_automatic=given.get("automatic") is True,
        taken_at=parse_time(given.get("captured_at")) or parse_time(given.get("asked_at")),
        disk_gb=count_of(given.get("disk_gb")),
        stored_bytes=count_of(given.get("stored_bytes")),
        machine_type=text_of(given, "machine_type") or "",
        image_tag=text_of(given, "image_tag") or "",
        repo=text_of(metadata, "repo"),
        branch=text_of(metadata, "branch"),
        error=failure_of(given.get("error")),
    )


def being_taken(workspace: Workspace) -> Snapshot | None:
    """Return the snapshot that is being taken of a workspace; None if none is."""
    operation = workspace.operation
    if operation is None or operation.kind != TAKES_SNAPSHOT or not ID.fullmatch(operation.id):
        return None
    since = object_of(workspace.raw.get("operation")).get("requested_at")
    return snapshot_of(
        {
            "id": operation.id,
            "name": operation.snapshot_name,
            "state": _TAKING,
            "asked_at": since,
        }
    )


def find_snapshot(
    there: Sequence[Snapshot], wanted: str, workspace: Workspace, *, surely: bool = False
) -> Snapshot:
    """Return the snapshot of an id, a name, or the unique beginning of an id, as ``find`` does.

    A name goes before the beginning of an id. Of two with one name, the one that is being deleted
    is not meant.

    Args:
        there: the workspace's snapshots.
        wanted: what the person wrote.
        workspace: whose they are.
        surely: what follows cannot be undone. Then the beginning of an id has at least eight
            characters.

    Raises:
        SnapshotNotFoundError: there is none.
        WrongUsageError: several are meant.
    """
    named = [each for each in there if each.raw.get("name") == wanted]
    found = (
        [each for each in there if each.id == wanted]
        or [each for each in named if each.state != "DELETING"]
        or named[:1]
    )
    if not found and BEGINNING.fullmatch(wanted) and (len(wanted) >= SURE_LENGTH or not surely):
        found = [each for each in there if each.id.startswith(wanted)]
    if not found:
        raise SnapshotNotFoundError(
            f'{workspace.name} has no snapshot "{one_line(wanted)}"',
            hint=f"workspace snapshots {workspace.argument}",
        )
    if len(found) > 1:
        which = ", ".join(f"{each.id} ({each.name or 'no name'})" for each in found[:MOST_NAMED])
        raise WrongUsageError(f'"{one_line(wanted)}" may be several snapshots: {which}')
    return found[0]


def arguments_for_completion(context: click.Context, incomplete: str) -> list[str]:
    """Return what names the snapshots of the command's workspace in a shell, if it begins so."""
    # An option without its value yet leaves the arguments that stand before it unread.
    before = [context.params.get("name"), *context.args]
    name = next((each for each in before if each), None)
    if name is None:
        return []

    def ask(app: App) -> Sequence[Snapshot]:
        return list_of(app.client().snapshots(app.find(name).id)).snapshots

    names = [each.argument for each in had_at_once(context, ask)]
    return [each for each in names if each.startswith(incomplete)]


# ---- in words ------------------------------------------------------------------------------------


def state(snapshot: Snapshot) -> str:
    """Return the state in a word or two."""
    return _STATES.get(snapshot.state, snapshot.state)


def how_it_is(snapshot: Snapshot) -> str:
    """Return what it is, to stand behind its name in a sentence; with the reason if it failed."""
    if snapshot.state != "FAILED":
        return f"is {state(snapshot)}"
    return "has failed" if snapshot.error is None else f"has failed: {snapshot.error.reason}"


def consistency(snapshot: Snapshot) -> str:
    """Return what its file system is like, in a word."""
    return _CONSISTENCY.get(snapshot.consistency, snapshot.consistency)


def age(snapshot: Snapshot, now: datetime) -> str:
    """Return how long ago it was taken; empty if that is not known."""
    return "" if snapshot.taken_at is None else duration((now - snapshot.taken_at).total_seconds())


def why_kept(snapshot: Snapshot, now: datetime) -> str:
    """Return what a snapshot is that the Hub took by itself, in a sentence."""
    at = "" if snapshot.taken_at is None else f" as of {day_or_time(snapshot.taken_at, now)}"
    return f"{snapshot.label} is the home{at}, kept by the Hub before a restore or a deletion."


def what_it_holds(snapshot: Snapshot) -> str:
    """Return what is in it and what is not, in sentences."""
    if snapshot.consistency == "clean":
        return "The machine was off: all that was written is in it. Memory is never in a snapshot."
    if snapshot.consistency == "crash":
        return (
            "It is crash-consistent, as after a power failure: what programs had not written to"
            " the disk is not in it, and memory never is."
        )
    return "Memory is never in a snapshot."


def _not_understood() -> NotUnderstoodError:
    return NotUnderstoodError(
        "the Hub does not answer snapshots as this command knows them",
        hint=f"is the Hub newer? Then {UPGRADE}",
    )
