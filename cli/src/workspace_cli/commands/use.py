"""Choose the Hub that commands are for."""

import click

from workspace_cli.app import App
from workspace_cli.main import Command


@click.command(cls=Command)
@click.argument("name")
@click.pass_obj
def command(app: App, name: str) -> None:
    """Choose the Hub NAME for all commands without --hub."""
    hub = app.store.use(name)
    app.console.note(f"{hub.name} ({hub.address}) is used from now on.")
