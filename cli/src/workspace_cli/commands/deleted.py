"""List deleted workspaces that can be taken back."""

from __future__ import annotations

from datetime import datetime

import click

from workspace_cli import features, words
from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.deleted import Deleted, list_of
from workspace_cli.main import Command
from workspace_cli.text import duration


@click.command(cls=Command)
@click.option("--owner", metavar="ID", help="Another person's, by owner id; for administrators.")
@_options.output("table", "wide", "json", "id")
@click.pass_obj
def command(app: App, owner: str | None, output: str) -> None:
    """List your deleted workspaces that can be taken back, the one that was deleted last first."""
    with features.needed(app, features.UNDELETE):
        value = app.client().deleted(owner)
    there = list_of(value)
    if output == "json":
        app.console.json(value)
        return
    if output == "id":
        for each in there:
            app.console.out(each.id)
        return
    if not there:
        app.console.note("There is no deleted workspace that can be taken back.")
        return
    now = app.client().now()
    head, row = (_WIDE, _wide) if output == "wide" else (_TABLE, _table)
    app.console.table(head, [row(each, now) for each in there])
    app.console.note("To take one back:\n  workspace undelete NAME")


_TABLE: tuple[str, ...] = ("NAME", "ID", "DELETED", "BY", "GONE FOR GOOD", "SNAPSHOTS")
_WIDE: tuple[str, ...] = (*_TABLE, "DISK", "MACHINE", "IMAGE", "REPO", "BRANCH")


def _table(each: Deleted, now: datetime) -> tuple[str, ...]:
    at, until = each.deleted_at, each.until
    return (
        each.name,
        each.id,
        "" if at is None else f"{duration((now - at).total_seconds())} ago",
        each.deleted_by,
        "" if until is None else words.ahead(until, now),
        "" if each.snapshots is None else str(each.snapshots),
    )


def _wide(each: Deleted, now: datetime) -> tuple[str, ...]:
    return (
        *_table(each, now),
        "" if each.disk_gb is None else f"{each.disk_gb} GB",
        each.machine_type,
        each.image_tag,
        each.repo or "",
        each.branch or "",
    )
