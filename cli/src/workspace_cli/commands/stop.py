"""Put workspaces to sleep; their memory is kept."""

from functools import partial
from typing import Any

import click

from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.commands._verbs import carry_out, find_all
from workspace_cli.dry_run import show_each
from workspace_cli.following import Goal
from workspace_cli.main import WORKSPACE, Command


@click.command(cls=Command)
@click.argument("names", metavar="NAME...", type=WORKSPACE, nargs=-1, required=True)
@_options.no_wait
@_options.timeout
@_options.yes
@_options.dry_run_output
@click.pass_obj
def command(app: App, /, names: tuple[str, ...], **given: Any) -> None:
    """Put each workspace NAME to sleep, and wait until it is. A start lets it go on."""
    is_dry_run = _options.is_dry_run(given)
    client = app.client()
    goal = Goal("SUSPENDED", given["seconds"])
    found = find_all(app, names)
    if is_dry_run:
        runs = [(each.name, partial(client.stop, each.id, dry_run=True)) for each in found]
        show_each(app, runs, given["output"])
        return
    carry_out(app, found, lambda each: client.stop(each.id), goal, waits=not given["no_wait"])
