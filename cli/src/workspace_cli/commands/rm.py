"""Delete workspaces, with their homes and snapshots."""

from functools import partial
from typing import Any

import click

from workspace_cli import features
from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.commands._verbs import carry_out, find_all
from workspace_cli.dry_run import show_each
from workspace_cli.errors import CommandError, RefusedError, WorkspaceNotFoundError
from workspace_cli.following import GONE, Goal
from workspace_cli.main import WORKSPACE, Command
from workspace_cli.snapshots import list_of
from workspace_cli.workspaces import Workspace


@click.command(cls=Command)
@click.argument("names", metavar="NAME...", type=WORKSPACE, nargs=-1, required=True)
@_options.no_wait
@_options.timeout
@_options.yes
@_options.dry_run_output
@click.pass_obj
def command(app: App, /, names: tuple[str, ...], **given: Any) -> None:
    """Delete each workspace NAME: its machine, its memory, its home and its snapshots.

    Nothing brings them back. Workspaces that were made from its snapshots stay.
    """
    is_dry_run = _options.is_dry_run(given)
    client = app.client()
    found = find_all(app, names, surely=True)
    if is_dry_run:
        runs = [(each.name, partial(client.delete, each.id, dry_run=True)) for each in found]
        show_each(app, runs, given["output"])
        return
    if not given["yes"]:
        _confirm(app, found)

    def delete(each: Workspace) -> Any:
        try:
            return client.delete(each.id)
        except WorkspaceNotFoundError:  # it has just gone
            return None

    carry_out(app, found, delete, Goal(GONE, given["seconds"]), waits=not given["no_wait"])


def _confirm(app: App, found: list[Workspace]) -> None:
    """Have the person type the name, or how many there are.

    Raises:
        RefusedError: they typed something else.
    """
    names = ", ".join(each.name for each in found)
    if len(found) == 1:
        question, wanted = f"Delete {names}? Type its name:", names
        what = ["the machine", "its memory", "its home"]
    else:
        question, wanted = f"Delete {names}? Type how many these are:", str(len(found))
        what = ["the machines", "their memory", "their homes"]
    *others, last = [*what, *_snapshots(app, found)]
    app.console.note(f"This deletes {', '.join(others)} and {last}. Nothing brings them back.")
    if app.console.ask(question, instead="give --yes, if it is to be deleted") != wanted:
        raise RefusedError("that is something else, so nothing was deleted")


def _snapshots(app: App, found: list[Workspace]) -> list[str]:
    """Return how many snapshots are deleted with the workspaces; nothing if there is none."""
    unknown = ["the snapshots, if there are any"]
    if not app.console.is_interactive:  # nobody is asked
        return unknown
    client = app.client()
    try:
        if features.SNAPSHOTS not in client.features():
            return []
        lists = [list_of(client.snapshots(each.id)) for each in found]
    except CommandError:  # the deletion is what was asked for
        return unknown
    many = sum(each.state != "DELETING" for there in lists for each in there.snapshots)
    return [f"{many} {'snapshot' if many == 1 else 'snapshots'}"] if many else []
