"""Forget a Hub, and end what signed you in to it."""

import os
import shutil

import click

from workspace_cli.app import App
from workspace_cli.config import Hub, chosen
from workspace_cli.main import Command
from workspace_cli.sign_in import ENVIRONMENT_TOKEN
from workspace_cli.sign_in.tokens import refresh_token_of


@click.command(cls=Command)
@click.argument("name", required=False)
@click.pass_obj
def command(app: App, name: str | None) -> None:
    """Forget the Hub NAME, or the one in use, with its tokens, its key and what was agreed."""
    hub = chosen(app.store.read(), name or app.hub_name or os.environ.get("WORKSPACE_HUB"))
    forget(app, hub)
    if os.environ.get(ENVIRONMENT_TOKEN):
        app.console.warn(f"{ENVIRONMENT_TOKEN} is still set")


def forget(app: App, hub: Hub, *, revokes: bool = True) -> None:
    """Forget a Hub, with its tokens, its key, its machines' host keys and what was agreed.

    Args:
        app: the run.
        hub: as it is stored.
        revokes: whether to have Google end the sign-in, with all tokens of its OAuth client for
            this person.
    """
    refresh_token = refresh_token_of(app.store.credentials(hub.name))
    app.store.remove(hub.name)
    # The key that its machines let in. OS Login forgets it within a day.
    shutil.rmtree(app.store.folder / "ssh" / hub.name, ignore_errors=True)
    app.console.note(f"{hub.name} ({hub.address}) is forgotten.")
    if refresh_token and revokes:
        from workspace_cli.sign_in.oauth import revoke  # noqa: PLC0415  # it loads requests

        if not revoke(refresh_token):
            app.console.warn(
                "Google could not be told to end the sign-in; do it at"
                " https://myaccount.google.com/connections"
            )
