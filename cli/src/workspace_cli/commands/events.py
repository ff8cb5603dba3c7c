"""Show who did what to a workspace."""

from typing import Any

import click

from workspace_cli import words
from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.errors import CommandError
from workspace_cli.main import WORKSPACE, Command
from workspace_cli.snapshots import list_of
from workspace_cli.text import one_line, parse_time
from workspace_cli.workspaces import SURE_LENGTH, Workspace, text_of


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.option(
    "-n",
    "--limit",
    metavar="N",
    type=_options.Number(int, 1, 10000),
    default=50,
    show_default=True,
    help="How many at most.",
)
@_options.output("table", "json")
@click.pass_obj
def command(app: App, name: str, limit: int, output: str) -> None:
    """Show who did what to the workspace NAME, the latest first."""
    workspace = app.find(name)
    values = app.client().events(workspace.id, limit)
    if output == "json":
        app.console.json(values)
        return
    events = [each for each in values if isinstance(each, dict)]
    head, rows = _HEAD, [_row(each) for each in events]
    about = [text_of(each, "snapshot_id") for each in events]
    if any(about):
        names = _names(app, workspace)
        called = [names.get(each or "", (each or "")[:SURE_LENGTH]) for each in about]
        head = (*head, "SNAPSHOT")
        rows = [(*row, each) for row, each in zip(rows, called, strict=True)]
    app.console.table(head, rows)


_HEAD: tuple[str, ...] = ("AT", "WHO", "WHAT", "RESULT")


def _names(app: App, workspace: Workspace) -> dict[str, str]:
    """Return the names of the snapshots that are there and have one, by id."""
    try:
        there = list_of(app.client().snapshots(workspace.id)).snapshots
    except CommandError:  # the events are what was asked for
        there = ()
    return {each.id: each.name for each in there if each.name}


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    at = parse_time(event.get("at"))
    try:
        when = f"{at.astimezone():%Y-%m-%d %H:%M:%S %z}" if at else ""
    except (OverflowError, OSError, ValueError):
        when = ""
    who = one_line(event.get("who_email") or event.get("who") or "", 80)
    times = event.get("times")
    repeated = f" ({times} times)" if isinstance(times, int) and 1 < times < 10**9 else ""
    as_admin = " as administrator" if event.get("as_admin") is True else ""
    return (
        when,
        who + as_admin,
        words.event(one_line(event.get("what") or "", 80)) + repeated,
        one_line(event.get("result") or "", 80),
    )
