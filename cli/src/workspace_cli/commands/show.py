"""Show a workspace, once or as it changes."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from workspace_cli import words
from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.errors import WorkspaceNotFoundError
from workspace_cli.main import WORKSPACE, Command
from workspace_cli.text import day_or_time, one_line, parse_time
from workspace_cli.workspaces import SURE_LENGTH, Workspace, workspace_of

_PAUSE_SECONDS = 2.0
_COLUMN = 12


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.option("--watch", "watches", is_flag=True, help="Go on: one line for each change.")
@_options.output("text", "json")
@click.pass_obj
def command(app: App, name: str, watches: bool, output: str) -> None:
    """Show the workspace NAME: what it is, what happens next, and why.

    With --watch it goes on until you press Ctrl-C, or the workspace is gone. As JSON, each change
    is then one line.
    """
    client = app.client()
    found = app.find(name)
    value = client.status(found.id)
    workspace = workspace_of(value)
    if output == "json":
        app.console.json(workspace.raw, indent=None if watches else 2)
    else:
        for label, text in _lines(workspace, client.now()):
            app.console.out(f"{label:{_COLUMN}}{text}".rstrip())
    if watches:
        app.console.note("To end this, press Ctrl-C: nothing else ends with it.")
        with app.on_interrupt(f"{workspace.name} goes on as it is."):
            _watch(app, workspace, output)


def _lines(workspace: Workspace, now: datetime) -> Iterator[tuple[str, str]]:
    since = words.since(workspace, now)
    yield workspace.name, f"{words.status(workspace)} {since}".rstrip()
    yield from _next(workspace, now)
    if workspace.failure is not None:
        yield "error", workspace.failure.reason
    if told := words.not_taken(workspace):
        yield "snapshot", told
    if workspace.operation is not None and workspace.operation.snapshot_id is not None:
        yield "restores", f"the snapshot {workspace.operation.snapshot_id[:SURE_LENGTH]}"
    if workspace.operation is not None and workspace.operation.zones_tried:
        yield "no capacity", ", ".join(workspace.operation.zones_tried)
    if workspace.is_archived:
        yield (
            "home",
            f"a snapshot; a start makes a disk of it: workspace start {workspace.argument}",
        )
    elif workspace.home_gb is not None:
        yield "home", f"{workspace.home_gb} GB"
    yield "connect", f"workspace ssh {workspace.name}"
    access = _member(_member(workspace.raw, "connection"), "access")
    if access.get("state") in ("pending", "refused"):
        yield "access", one_line(f"{access['state']}: {access.get('why') or 'no reason'}")
    machine = _member(workspace.raw, "instance").get("status") or "no machine"
    yield "machine", f"{workspace.machine_type}, {workspace.zone}, {one_line(machine, 40)}"
    yield "image", workspace.image_tag
    if workspace.repo:
        branch = f", {workspace.branch}" if workspace.branch else ""
        yield "repo", f"{workspace.repo}{branch}"
    yield "last used", words.last_connected(workspace, now)
    if workspace.created_at is not None:
        yield "created", day_or_time(workspace.created_at, now)
    if workspace.memory_kept is not None:
        lost = f"lost: {workspace.memory_lost_because or 'no reason is known'}"
        yield "memory", "kept" if workspace.memory_kept else lost
    renewal = _member(workspace.raw, "renewal")
    if (at := parse_time(renewal.get("at"))) and not words.outlook(workspace, now):
        yield "renewal", f"{day_or_time(at, now)}: {one_line(renewal.get('what'))}"
    yield "id", workspace.id


def _next(workspace: Workspace, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield what is under way, and what happens next, with its reasons if the Hub says them."""
    expected = words.outlook(workspace, now)
    if workspace.operation is not None or not expected:
        failed = workspace.operation is None and workspace.failure is not None
        dash = "–"  # noqa: RUF001
        expected.insert(0, dash if failed else words.upcoming(workspace, now))
    for number, line in enumerate(expected):
        yield "" if number else "next", line
    until = workspace.kept_awake_until
    if until is not None and until > now:
        yield "kept awake", f"until {day_or_time(until, now)}"
    if workspace.undelete_until is not None:
        yield "undelete", f"until {day_or_time(workspace.undelete_until, now)}"


def _watch(app: App, workspace: Workspace, output: str) -> None:
    client = app.client()
    before = _seen(workspace)
    while True:
        app.console.flush()
        time.sleep(_PAUSE_SECONDS)
        try:
            workspace = workspace_of(client.workspace(workspace.id))
        except WorkspaceNotFoundError:
            app.console.note(f"{workspace.name} is gone.")
            return
        if (now := _seen(workspace)) != before:
            before = now
            if output == "json":
                app.console.json(workspace.raw, indent=None)
            else:
                what = (words.upcoming(workspace, client.now()), words.not_taken(workspace))
                told = ": ".join(
                    filter(None, (words.status(workspace), "; ".join(filter(None, what))))
                )
                app.console.out(f"{datetime.now().astimezone():%H:%M:%S}  {told}")


def _seen(workspace: Workspace) -> tuple[object, ...]:
    """Return what makes a change: not the times, which every heartbeat moves."""
    operation = workspace.operation
    what = (operation.id, operation.phase) if operation else None
    made_of = workspace.machine_type, workspace.image_tag
    return workspace.status, what, workspace.error, made_of, workspace.kept_awake_until


def _member(value: Any, key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}
