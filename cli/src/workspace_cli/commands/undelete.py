"""Take back a deleted workspace."""

from __future__ import annotations

import contextlib

import click

from workspace_cli import features, words
from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.deleted import find_deleted, list_of
from workspace_cli.errors import RefusedError, WorkspaceNotFoundError
from workspace_cli.main import DELETED, WORKSPACE, Command
from workspace_cli.workspaces import ID, Workspace, workspace_of


@click.command(cls=Command)
@click.argument("name", type=DELETED)
@click.option(
    "--name",
    "new_name",
    metavar="N",
    type=WORKSPACE,
    help="Give it another name, if its own is taken.",
)
@_options.output("text", "json", "id")
@click.pass_obj
def command(app: App, name: str, new_name: str | None, output: str) -> None:
    """Take back the deleted workspace NAME, with its home, its id and its snapshots.

    NAME is its name, its id, or the beginning of its id; `workspace deleted` lists what there is.
    It is asleep then, and has no machine: the next start makes one. What was in its memory is lost.
    """
    with features.needed(app, features.UNDELETE):
        client = app.client()
        # An administrator names another person's by its id, which is not in their own list.
        wanted = name if ID.fullmatch(name) else _find(app, name)
        client.names[wanted] = name
        unknown = f"It is not known whether the Hub heard of {name}. To see:\n  workspace ls"
        with app.on_interrupt(unknown):
            back = workspace_of(client.undelete(wanted, new_name))
    _say(app, back)
    if output == "json":
        app.console.json(back.raw)
    elif output == "id":
        app.console.out(back.id)


def _find(app: App, name: str) -> str:
    """Return the id of the deleted workspace that is meant.

    Raises:
        RefusedError: it is still being deleted.
        WorkspaceNotFoundError, WrongUsageError: as ``find_deleted`` raises them.
    """
    try:
        return find_deleted(list_of(app.client().deleted()), name).id
    except WorkspaceNotFoundError:
        with contextlib.suppress(WorkspaceNotFoundError):
            there = app.find(name)
            if there.is_being_deleted:
                raise RefusedError(
                    f"{there.name} is still being deleted",
                    hint=f"once it is gone, take it back: workspace wait {there.id} --for gone",
                ) from None
        raise


def _say(app: App, back: Workspace) -> None:
    if back.status != "SUSPENDED" or not back.is_settled:
        app.console.note(f"{back.name} was taken back before: it is {words.status(back)}.")
        return
    app.console.note(
        f"{back.name} is back, asleep, with its home. What was in its memory is lost."
        f" To start it:\n  workspace start {back.argument}"
    )
