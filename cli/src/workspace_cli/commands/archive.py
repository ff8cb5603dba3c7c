"""Keep workspaces as snapshots, without a machine and a disk."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from workspace_cli import dry_run, features
from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.commands._verbs import carry_out
from workspace_cli.errors import RefusedError
from workspace_cli.following import Goal, after_snapshot
from workspace_cli.main import WORKSPACE, Command
from workspace_cli.workspaces import Workspace

# What is lost, of a Hub that has no dry runs and so does not say it itself.
_LOSES = (
    ("memory", "The machine is deleted."),
    ("boot disk", "What is outside of the home comes from the image again."),
)
_COLUMN = 12  # as a dry run has it


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@_options.no_wait
@_options.timeout
@_options.yes
@_options.dry_run_output
@click.pass_obj
def command(app: App, /, name: str, **given: Any) -> None:
    """Keep the home of the workspace NAME as a snapshot, and wait until its machine and disk go.

    It then costs much less. What is in its memory is lost. A start makes disk and machine again.
    """
    is_dry_run = _options.is_dry_run(given)
    with features.needed(app, features.ARCHIVE):
        workspace = app.find(name, surely=True)
        client = app.client()
        if is_dry_run:
            run = partial(client.archive, workspace.id, dry_run=True)
            dry_run.show_each(app, [(workspace.name, run)], given["output"])
            return
        if not given["yes"] and not workspace.is_archived:
            _confirm(app, workspace, given["seconds"])
        goal = Goal("SUSPENDED", given["seconds"])
        waits = not given["no_wait"]
        carry_out(app, [workspace], lambda each: client.archive(each.id), goal, waits=waits)


def _confirm(app: App, workspace: Workspace, seconds: float) -> None:
    """Say what is lost and what is kept, and have the person type the workspace's name.

    If the Hub refuses the dry run that says so, it refuses the request, too: then nobody is asked.

    Raises:
        RefusedError: they typed something else.
        CommandError: nobody is there to be asked; or of the dry run.
    """
    if app.console.is_interactive:
        told = [("keeps", "what is in the home, as a snapshot")]
        lost = [f"{what}: {why}" for what, why in _losses(app, workspace, seconds)] or ["nothing"]
        told += [("" if nth else "loses", line) for nth, line in enumerate(lost)]
        for label, text in told:
            app.console.note(f"{label:{_COLUMN}}{text}")
    question = f"Archive {workspace.name}? Type its name:"
    if app.console.ask(question, instead="give --yes, if it is to be archived") != workspace.name:
        raise RefusedError("that is something else, so nothing was archived")


def _losses(app: App, workspace: Workspace, seconds: float) -> list[tuple[str, str]]:
    client = app.client()
    if dry_run.FEATURE not in client.features():
        return list(_LOSES)
    ask = partial(client.archive, workspace.id, dry_run=True)
    return dry_run.losses(after_snapshot(app, workspace, ask, seconds))
