"""Make a workspace from a snapshot of another one."""

from typing import Any

import click

from workspace_cli import features
from workspace_cli.app import App
from workspace_cli.commands import _making, _source
from workspace_cli.errors import SnapshotNotFoundError
from workspace_cli.main import SNAPSHOT, WORKSPACE, Command
from workspace_cli.snapshots import Snapshot, SnapshotList, find_snapshot, list_of
from workspace_cli.workspaces import Workspace


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.argument("new", type=WORKSPACE)
@click.option(
    "--snapshot",
    "wanted",
    metavar="SNAPSHOT",
    type=SNAPSHOT,
    help="By name or id, instead of the newest that is ready.",
)
@_making.machine
@_making.work
@_making.way
@click.pass_context
def command(context: click.Context, /, name: str, new: str, **given: Any) -> None:
    """Make the workspace NEW, whose home begins as a snapshot of the workspace NAME.

    It takes the newest snapshot that is ready, and says which one. NEW has a machine of its own,
    and repository and branch, as NAME had them when the snapshot was taken, unless an option says
    otherwise. Nothing changes for NAME.
    """
    _making.check(given)
    app = context.find_object(App)
    assert app is not None  # noqa: S101  # the group has made it
    with features.needed(app, features.SNAPSHOTS):
        workspace = app.find(name)
        there = list_of(app.client().snapshots(workspace.id))
    if given["wanted"] is None:
        source = _newest(workspace, there, new)
    else:
        source = find_snapshot(there.snapshots, given["wanted"], workspace)
        _source.check(source, workspace, _again(workspace, new))
    fields = {**_making.fields_of(new, given), "from": {"snapshot_id": source.id}}
    try:
        _making.make(context, fields, given, told=_said(app, source, workspace))
    except SnapshotNotFoundError as error:  # it has just gone
        error.hint = _source.listing(workspace)
        raise


def _newest(workspace: Workspace, there: SnapshotList, new: str) -> Snapshot:
    """Return the newest snapshot that can be used.

    Raises:
        RefusedError: one is being uploaded, and there is no other.
        SnapshotNotFoundError: there is none.
    """
    for each in there.snapshots:
        if each.state == "READY":
            return each
    for each in there.snapshots:
        if each.state == "UPLOADING":
            _source.check(each, workspace, _again(workspace, new))
    raise SnapshotNotFoundError(
        f"{workspace.name} has no snapshot that can be used",
        hint="take one, and wait until it is ready:"
        f" workspace snapshot {workspace.argument} --ready",
    )


def _again(workspace: Workspace, new: str) -> str:
    return f"workspace fork {workspace.argument} {new}"


def _said(app: App, source: Snapshot, workspace: Workspace) -> str:
    """Return which snapshot is taken, how old it is, and what it is."""
    return f"From the snapshot {source.label} of {workspace.name}: {_source.about(app, source)}"
