"""Take a snapshot of a workspace's home."""

from __future__ import annotations

from typing import Any

import click

from workspace_cli import features, snapshots
from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.errors import CommandError, NotInTimeError, NotUnderstoodError
from workspace_cli.following import Looks, OperationGoal, follow_operation
from workspace_cli.main import WORKSPACE, Command
from workspace_cli.snapshots import Snapshot, list_of
from workspace_cli.workspaces import ID, TAKES_SNAPSHOT, Workspace, workspace_of


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.option("--name", "called", metavar="S", help="What to call it; it needs no name.")
@click.option("--ready", "until_ready", is_flag=True, help="Wait until it can be used, too.")
@_options.no_wait
@_options.timeout
@_options.output("text", "json", "id")
@click.pass_obj
def command(app: App, /, name: str, **given: Any) -> None:
    """Take a snapshot of the home of the workspace NAME, and wait until its content is captured.

    The workspace may run. What programs have not written to the disk is not in it, and memory never
    is. Its upload then goes on by itself. Once it is ready, `workspace fork` makes a workspace of
    it, and `workspace restore` puts the home back to it.
    """
    if given["no_wait"] and (given["until_ready"] or given["output"] == "json"):
        raise click.UsageError(
            "--no-wait ends before there is a snapshot: --ready and -o json do not go with it."
        )
    with features.needed(app, features.SNAPSHOTS):
        _take(app, app.find(name), given)


def _take(app: App, found: Workspace, given: dict[str, Any]) -> None:
    see = f"workspace snapshots {found.argument}"
    unknown = (
        f"It is not known whether the Hub heard of a snapshot of {found.name}. To see:\n  {see}"
    )
    with app.on_interrupt(unknown):
        workspace = workspace_of(app.client().take_snapshot(found.id, given["called"]))
    operation = workspace.operation
    if operation is None or not ID.fullmatch(operation.id):
        raise NotUnderstoodError("the Hub does not say which snapshot it takes", hint=see)
    goes_on = f"The snapshot of {found.name} goes on without you. To see it:\n  {see}"
    if given["no_wait"]:
        app.console.note(f"A snapshot of {found.name} was asked for. To see it:\n  {see}")
    else:
        late = f"the snapshot of {found.name} is not captured"
        goal = OperationGoal(goes_on, late, given["seconds"])
        after = follow_operation(app, workspace, goal)
        taken = _captured(app, found, operation.id, after)
        _say(app, found, taken)
        if given["until_ready"]:
            with app.on_interrupt(goes_on):
                taken = _ready(app, found, taken, given["seconds"])
        elif taken.state != "READY":
            app.console.note(f"Its upload goes on by itself. To see when it is ready:\n  {see}")
        if given["output"] == "json":
            app.console.json(taken.raw)
    if given["output"] == "id":
        app.console.out(operation.id)


def _captured(app: App, found: Workspace, snapshot_id: str, after: Workspace | None) -> Snapshot:
    """Return the snapshot that an operation has taken.

    Args:
        app: the run.
        found: the workspace as it was before.
        snapshot_id: also the operation's id.
        after: the workspace as it is now; None if it is gone.

    Raises:
        CommandError: it has taken none.
    """
    if after is None:
        raise CommandError(f"{found.name} is gone, and its snapshot with it")
    taken = _one(app, found, snapshot_id)
    if taken is not None and taken.state in {"UPLOADING", "READY"}:
        return taken
    show = f"workspace show {found.argument}"
    if after.is_being_deleted:
        raise CommandError(f"{found.name} is being deleted, so its snapshot was given up")
    if taken is not None and taken.state == "FAILED":
        raise CommandError(_failed(found, taken), hint=show)
    failure = taken.error if taken is not None else None
    if failure is None and after.error is not None and after.error.operation_kind == TAKES_SNAPSHOT:
        failure = after.error
    if failure is not None:
        raise CommandError(f"no snapshot of {found.name} was taken: {failure.reason}", hint=show)
    raise CommandError(f"no snapshot of {found.name} was taken, or it is deleted again", hint=show)


def _say(app: App, found: Workspace, taken: Snapshot) -> None:
    app.console.note(
        f"The home of {found.name} is captured as the snapshot {taken.label}."
        f" {snapshots.what_it_holds(taken)}"
    )


def _ready(app: App, found: Workspace, taken: Snapshot, seconds: float) -> Snapshot:
    """Return the snapshot once it is ready.

    Raises:
        NotInTimeError: it is still being uploaded.
        CommandError: it has failed, or is deleted.
    """
    looks = Looks(seconds)
    now: Snapshot | None = taken
    if taken.state == "UPLOADING":
        app.console.note("Uploading …")
    while now is not None and now.state == "UPLOADING":
        if not looks.again():
            raise NotInTimeError(
                f"the snapshot {taken.label} of {found.name} is still being uploaded",
                hint=f"it goes on: workspace snapshots {found.argument}",
            )
        now = _one(app, found, taken.id)
    if now is None or now.state == "DELETING":
        raise CommandError(f"the snapshot {taken.label} of {found.name} was deleted meanwhile")
    if now.state != "READY":
        raise CommandError(_failed(found, now))
    app.console.note(f"The snapshot {now.label} of {found.name} is ready.")
    return now


def _one(app: App, found: Workspace, snapshot_id: str) -> Snapshot | None:
    there = list_of(app.client().snapshots(found.id)).snapshots
    return next((each for each in there if each.id == snapshot_id), None)


def _failed(found: Workspace, taken: Snapshot) -> str:
    return f"the snapshot {taken.label} of {found.name} {snapshots.how_it_is(taken)}"
