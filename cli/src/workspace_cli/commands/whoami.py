"""Show who you are signed in as."""

import click

from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.main import Command
from workspace_cli.sign_in import describe, token_source
from workspace_cli.sign_in.tokens import email_of


@click.command(cls=Command)
@_options.output("text", "json", json="the same, for a program")
@click.pass_obj
def command(app: App, output: str) -> None:
    """Show who you are signed in as, once the Hub has confirmed it."""
    hub = app.hub()
    app.client().check()
    email = email_of(token_source(app.store, hub).token())
    if output == "json":
        app.console.json(
            {
                "email": email,
                "hub": hub.name,
                "address": hub.address,
                "sign_in": hub.sign_in.kind,
            }
        )
        return
    app.console.out(email or "somebody, whose token names no address")
    app.console.note(f"  at {hub.name} ({hub.address}), through {describe(hub)}")
