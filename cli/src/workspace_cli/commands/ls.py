"""List workspaces, with what happens next to each."""

from datetime import datetime

import click

from workspace_cli import words
from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.main import Command
from workspace_cli.text import one_line
from workspace_cli.usual import WHOLE, Usual
from workspace_cli.workspaces import Workspace, workspace_of

_STATUSES = ("PROVISIONING", "READY", "SUSPENDED", "ERROR")
_LONGEST_NEXT = 60


@click.command(cls=Command)
@click.option("--all", "everybody", is_flag=True, help="Everybody's; for administrators.")
@click.option(
    "--status",
    type=click.Choice(_STATUSES, case_sensitive=False),
    help="Only those of this status.",
)
@_options.output("table", "wide", "json", "id")
@click.pass_obj
def command(app: App, everybody: bool, status: str | None, output: str) -> None:
    """List your workspaces, the newest first."""
    query = {"status": status} if status else {}
    if everybody:
        query["all"] = "true"
    client = app.client()
    values = client.workspaces(**query)
    if output == "json":
        app.console.json(values)
        return
    found = [workspace_of(each) for each in values]
    if output == "id":
        for each in found:
            app.console.out(each.id)
        return
    if not found:
        none = "There is no workspace. To make one:\n  workspace create NAME"
        app.console.note("No workspace has this status." if status else none)
        return
    now, hub = client.now(), app.hub().name
    head, row = (_WIDE, _wide) if output == "wide" else (_TABLE, _table)
    rows = [row(each, now, hub) for each in found]
    if everybody:
        head = (*head, "OWNER")
        rows = [(*cells, each.owner_id) for cells, each in zip(rows, found, strict=True)]
    app.console.table(head, rows)


_TABLE: tuple[str, ...] = ("NAME", "STATUS", "NEXT", "MACHINE", "LAST CONNECTED")
_WIDE: tuple[str, ...] = (*_TABLE, "ZONE", "IMAGE", "REPO", "BRANCH", "ID")


def _table(each: Workspace, now: datetime, hub: str) -> tuple[str, ...]:
    usual = None
    if each.operation is not None:
        usual = Usual(hub, each.operation.kind, each.machine_type).seconds(WHOLE)
    return (
        each.name,
        words.status(each),
        one_line(words.upcoming(each, now, usual), _LONGEST_NEXT),
        each.machine_type,
        words.last_connected(each, now),
    )


def _wide(each: Workspace, now: datetime, hub: str) -> tuple[str, ...]:
    name, status, following, *others = _table(each, now, hub)
    following = "; ".join(filter(None, (following, words.not_taken(each))))
    more = (each.zone, each.image_tag, each.repo or "", each.branch or "", each.id)
    return (name, status, following, *others, *more)
