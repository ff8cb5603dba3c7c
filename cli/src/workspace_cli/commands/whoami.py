"""Say as whom you are signed in, and where."""

import click

from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.main import Command
from workspace_cli.sign_in import describe, token_source
from workspace_cli.sign_in.tokens import email_of


@click.command(cls=Command)
@_options.output("text", "json")
@click.pass_obj
def command(app: App, output: str) -> None:
    """Say as whom you are signed in, after the Hub has taken the proof of it."""
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
    app.console.note(f"  at {hub.name} ({hub.address}), by {describe(hub)}")
