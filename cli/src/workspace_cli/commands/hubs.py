"""List the Hubs that you have signed in to."""

import click

from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.main import Command
from workspace_cli.sign_in import describe

_HEAD = ("NAME", "ADDRESS", "SIGN-IN", "WHO", "IN USE")


@click.command(cls=Command)
@_options.output("table", "json", json="the same, for a program")
@click.pass_obj
def command(app: App, output: str) -> None:
    """List the Hubs that you have signed in to."""
    config = app.store.read()
    hubs = sorted(config.hubs.values(), key=lambda hub: hub.name)
    if output == "json":
        app.console.json(
            [
                {
                    "name": hub.name,
                    "address": hub.address,
                    "sign_in": hub.sign_in.kind,
                    "email": hub.email,
                    "current": hub.name == config.current,
                }
                for hub in hubs
            ]
        )
    elif hubs:
        rows = [
            (
                hub.name,
                hub.address,
                describe(hub),
                hub.email or "",
                "yes" if hub.name == config.current else "",
            )
            for hub in hubs
        ]
        app.console.table(_HEAD, rows)
    else:
        app.console.note("You have not signed in to a Hub: workspace login ADDRESS")
