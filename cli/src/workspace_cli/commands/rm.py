"""Delete workspaces, with their homes and snapshots."""

from functools import partial
from typing import Any

import click

from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.commands._verbs import carry_out, find_all
from workspace_cli.dry_run import show_each
from workspace_cli.errors import RefusedError, WorkspaceNotFoundError
from workspace_cli.following import GONE, Goal
from workspace_cli.main import WORKSPACE, Command
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
        what = "the machine, its memory, its home and its snapshots"
    else:
        question, wanted = f"Delete {names}? Type how many these are:", str(len(found))
        what = "the machines, their memory, their homes and their snapshots"
    app.console.note(f"This deletes {what}. Nothing brings them back.")
    if app.console.ask(question, instead="give --yes, if it is to be deleted") != wanted:
        raise RefusedError("that is something else, so nothing was deleted")
