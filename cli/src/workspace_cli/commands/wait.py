"""Wait until workspaces are ready, asleep or gone."""

from typing import Any

import click

from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.commands._verbs import find_all
from workspace_cli.following import GONE, Goal, follow
from workspace_cli.main import WORKSPACE, Command


@click.command(cls=Command)
@click.argument("names", metavar="NAME...", type=WORKSPACE, nargs=-1, required=True)
@click.option(
    "--for",
    "goal",
    type=click.Choice(["READY", "SUSPENDED", GONE], case_sensitive=False),
    default="ready",
    show_default=True,
    help="What to wait for.",
)
@_options.timeout
@click.pass_obj
def command(app: App, /, names: tuple[str, ...], **given: Any) -> None:
    """Wait until each workspace NAME is what --for says. One that is not there is gone.

    It ends with 6 when the time is over, and with 1 at once if nothing leads there any more, as
    when a workspace that is asleep is to be READY and nobody has started it.
    """
    goal = Goal(given["goal"], given["seconds"])
    found = find_all(app, names, may_be_gone=goal.status == GONE)
    errors = [each.error for each in follow(app, found, goal) if each.error]
    for error in errors[1:]:
        app.console.note(f"workspace: {error.message}", style="bold red")
    if errors:
        raise errors[0]
