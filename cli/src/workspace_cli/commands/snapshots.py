"""List the snapshots of a workspace, or delete one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from workspace_cli import features, snapshots, words
from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.errors import RefusedError
from workspace_cli.main import SNAPSHOT, WORKSPACE, Command
from workspace_cli.snapshots import Snapshot, SnapshotList, find_snapshot, list_of, snapshot_of
from workspace_cli.text import day_or_time, size
from workspace_cli.workspaces import SURE_LENGTH, Workspace


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.option(
    "--delete",
    "unwanted",
    metavar="SNAPSHOT",
    type=SNAPSHOT,
    help="Delete this one, by name, id, or 8 or more characters of its id.",
)
@click.option("--yes", "-y", is_flag=True, help="With --delete: do not ask.")
@_options.output("table", "wide", "json", "id")
@click.pass_obj
def command(app: App, /, name: str, **given: Any) -> None:
    """List the snapshots of the workspace NAME, the newest first.

    Those without a name may be the Hub's own: it keeps what is in a home before a restore or a
    deletion. SIZE is what a snapshot takes besides those before it. With --delete, delete one:
    nothing brings it back, and workspaces that were made from it stay.
    """
    if given["unwanted"] is None and given["yes"]:
        raise click.UsageError("--yes goes with --delete only.")
    if given["unwanted"] is not None and given["output"] in {"wide", "id"}:
        raise click.UsageError("--delete lists nothing, so -o wide and -o id do not go with it.")
    with features.needed(app, features.SNAPSHOTS):
        workspace = app.find(name, surely=given["unwanted"] is not None)
        there = list_of(app.client().snapshots(workspace.id))
        if given["unwanted"] is None:
            _show(app, workspace, there, given["output"])
        else:
            unwanted = find_snapshot(there.snapshots, given["unwanted"], workspace, surely=True)
            _delete(app, workspace, unwanted, given)


def _show(app: App, workspace: Workspace, there: SnapshotList, output: str) -> None:
    if output == "json":
        app.console.json(there.raw)
        return
    if output == "id":
        for each in there.snapshots:
            app.console.out(each.id)
        return
    now = app.client().now()
    taken = snapshots.being_taken(workspace)
    if taken is not None and any(each.id == taken.id for each in there.snapshots):
        taken = None  # it has been captured meanwhile
    shown = [*([taken] if taken else []), *there.snapshots]
    if shown:
        head, row = (_WIDE, _wide) if output == "wide" else (_TABLE, _table)
        app.console.table(head, [row(each, now) for each in shown])
    for each in there.snapshots:
        if each.state == "FAILED":
            app.console.note(f"{each.label} {snapshots.how_it_is(each)}.")
        elif each.is_automatic and each.state != "DELETING":
            app.console.note(snapshots.why_kept(each, now))
    if workspace.snapshot_failure is not None:
        app.console.note(f"The last one was not taken: {workspace.snapshot_failure.reason}.")
    app.console.note(_more(workspace, there, now, is_taken=taken is not None))


_TABLE: tuple[str, ...] = ("NAME", "ID", "STATE", "AGE", "SIZE", "CONSISTENCY")
_WIDE: tuple[str, ...] = (*_TABLE, "TAKEN", "DISK", "MACHINE", "IMAGE", "REPO", "BRANCH")


def _table(each: Snapshot, now: datetime) -> tuple[str, ...]:
    return (
        each.name or "",
        each.beginning,
        snapshots.state(each),
        snapshots.age(each, now),
        "" if each.stored_bytes is None else size(each.stored_bytes),
        snapshots.consistency(each),
    )


def _wide(each: Snapshot, now: datetime) -> tuple[str, ...]:
    name, _, *others = _table(each, now)
    taken = "" if each.taken_at is None else day_or_time(each.taken_at, now)
    return (
        name,
        each.id,
        *others,
        f"{taken} by the Hub".strip() if each.is_automatic else taken,
        "" if each.disk_gb is None else f"{each.disk_gb} GB",
        each.machine_type,
        each.image_tag,
        each.repo or "",
        each.branch or "",
    )


def _more(workspace: Workspace, there: SnapshotList, now: datetime, *, is_taken: bool) -> str:
    """Return how many there are, how many there may be, and when another can be taken."""
    many = len(there.snapshots)
    most = "" if there.most is None else f" of at most {there.most}"
    said = f"{many}{most} {'snapshot' if many == 1 and not most else 'snapshots'}."
    if is_taken:
        return f"{said} Another is being taken now."
    if there.next_at is not None and there.next_at > now:
        return f"{said} Another may be taken {words.ahead(there.next_at, now)}."
    return f"{said} To take one:\n  workspace snapshot {workspace.argument}"


def _delete(app: App, workspace: Workspace, unwanted: Snapshot, given: dict[str, Any]) -> None:
    if not given["yes"]:
        _confirm(app, workspace, unwanted)
    see = f"workspace snapshots {workspace.argument}"
    unknown = f"It is not known whether the Hub heard of {unwanted.label}. To see:\n  {see}"
    with app.on_interrupt(unknown):
        gone = snapshot_of(app.client().delete_snapshot(workspace.id, unwanted.id))
    app.console.note(
        f"The snapshot {unwanted.label} of {workspace.name} {snapshots.how_it_is(gone)}."
    )
    if given["output"] == "json":
        app.console.json(gone.raw)


def _confirm(app: App, workspace: Workspace, unwanted: Snapshot) -> None:
    """Have the person type the snapshot's name, or the beginning of its id if it has none.

    Raises:
        RefusedError: they typed something else.
    """
    old = snapshots.age(unwanted, app.client().now())
    about = f"{unwanted.label} of {workspace.name}" + (f", {old} old" if old else "")
    what = "its name" if unwanted.name else f"the first {SURE_LENGTH} characters of its id"
    app.console.note("This deletes the snapshot. Nothing brings it back.")
    question, wanted = f"Delete {about}? Type {what}:", unwanted.name or unwanted.beginning
    if app.console.ask(question, instead="give --yes, if it is to be deleted") != wanted:
        raise RefusedError("that is something else, so nothing was deleted")
