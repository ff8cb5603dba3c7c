"""Show who you are signed in as."""

from collections.abc import Iterator
from typing import Any

import click

from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.main import Command
from workspace_cli.sign_in import describe, token_source
from workspace_cli.sign_in.tokens import email_of
from workspace_cli.text import one_line


@click.command(cls=Command)
@_options.output("text", "json", json="the same, for a program")
@click.pass_obj
def command(app: App, output: str) -> None:
    """Show who you are signed in as, once the Hub has confirmed it."""
    hub = app.hub()
    me = _object(app.client().me())
    email = me.get("email") or email_of(token_source(app.store, hub).token())
    email = one_line(email, 320) if email else None
    if output == "json":
        app.console.json(
            {
                "email": email,
                "hub": hub.name,
                "address": hub.address,
                "sign_in": hub.sign_in.kind,
                **{each: me[each] for each in ("owner_id", "is_admin", "quota") if each in me},
            }
        )
        return
    app.console.out(email or "somebody, whose token names no address")
    app.console.note(f"  at {hub.name} ({hub.address}), through {describe(hub)}")
    if me.get("is_admin") is True:
        app.console.note("  an administrator: workspace ls --all shows everybody's")
    if used := ", ".join(_in_use(_object(me.get("quota")))):
        app.console.note(f"  in use: {used}")


def _in_use(quota: dict[str, Any]) -> Iterator[str]:
    for member, unit in (("workspaces", "workspaces"), ("running", "running")):
        used, most = (_object(quota.get(member)).get(each) for each in ("used", "most"))
        if type(used) is int and type(most) is int:
            yield f"{used} of {most} {unit}"


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
