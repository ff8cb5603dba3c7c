"""Delete workspaces, with their homes and snapshots."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

import click

from workspace_cli import dry_run, features
from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.commands._verbs import carry_out, find_all
from workspace_cli.errors import CommandError, RefusedError, WorkspaceNotFoundError
from workspace_cli.following import GONE, Goal
from workspace_cli.main import WORKSPACE, Command
from workspace_cli.snapshots import list_of
from workspace_cli.text import day_or_time
from workspace_cli.workspaces import Workspace, workspace_of


@click.command(cls=Command)
@click.argument("names", metavar="NAME...", type=WORKSPACE, nargs=-1, required=True)
@click.option("--purge", is_flag=True, help="For good: it cannot be taken back.")
@_options.no_wait
@_options.timeout
@_options.yes
@_options.dry_run_output
@click.pass_obj
def command(app: App, /, names: tuple[str, ...], **given: Any) -> None:
    """Delete each workspace NAME: its machine, its memory, its home and its snapshots.

    Most Hubs keep a last snapshot for some days. Until then, which this says, `workspace undelete`
    takes it back, without its memory. With --purge nothing is kept, and nothing brings it back.
    Workspaces that were made from its snapshots stay.
    """
    is_dry_run = _options.is_dry_run(given)
    client = app.client()
    found = find_all(app, names, surely=True)
    # A Hub that cannot take back deletes for good in any case, and does not know the word.
    purges = given["purge"] and features.UNDELETE in client.features()
    if is_dry_run:
        ask = partial(client.delete, purge=purges, dry_run=True)
        dry_run.show_each(
            app, [(each.name, partial(ask, each.id)) for each in found], given["output"]
        )
        return
    if not given["yes"]:
        _confirm(app, found, purges=given["purge"])

    def delete(each: Workspace) -> Any:
        try:
            value = client.delete(each.id, purge=purges)
        except WorkspaceNotFoundError:  # it has just gone
            return None
        until = workspace_of(value).undelete_until
        if until is not None:
            app.console.note(
                f"{each.name} can be taken back until {day_or_time(until, client.now())}:\n"
                f"  workspace undelete {each.argument}"
            )
        return value

    carry_out(app, found, delete, Goal(GONE, given["seconds"]), waits=not given["no_wait"])


def _confirm(app: App, found: list[Workspace], *, purges: bool) -> None:
    """Say what is deleted, and have the person type the name, or how many there are.

    Raises:
        RefusedError: they typed something else.
    """
    names = ", ".join(each.name for each in found)
    if len(found) == 1:
        question, wanted = f"Delete {names}? Type its name:", names
    else:
        question, wanted = f"Delete {names}? Type how many these are:", str(len(found))
    if app.console.is_interactive:
        app.console.note(_told(app, found, purges=purges))
    if app.console.ask(question, instead="give --yes, if it is to be deleted") != wanted:
        raise RefusedError("that is something else, so nothing was deleted")


def _told(app: App, found: list[Workspace], *, purges: bool) -> str:
    """Return what is deleted, what can be taken back, and until when."""
    is_one = len(found) == 1
    what = ["the machine", "its memory", "its home"]
    if not is_one:
        what = ["the machines", "their memory", "their homes"]
    untils = [None for _ in found] if purges else _untils(app, found)
    if untils is None:
        *others, last = [*what, *_snapshots(app, found)]
        return (
            f"This deletes {', '.join(others)} and {last}."
            " It is not known whether anything brings them back."
        )
    kept = [each for each, until in zip(found, untils, strict=True) if until is not None]
    lost = [each for each in found if each not in kept]
    *others, last = [*what, *_snapshots(app, lost)]
    said = f"This deletes {', '.join(others)} and {last}."
    earliest = min((until for until in untils if until is not None), default=None)
    if earliest is not None:
        until = day_or_time(earliest, app.client().now())
        which = kept[0].argument if is_one else "NAME"
        back = "it" if is_one else _listed([each.name for each in kept])
        said += (
            f" Until {until}, `workspace undelete {which}` takes {back} back, without what is in"
            " memory."
        )
    if not kept:
        return f"{said} Nothing brings them back."
    return f"{said} Nothing brings back {_listed([each.name for each in lost])}." if lost else said


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _untils(app: App, found: list[Workspace]) -> Sequence[datetime | None] | None:
    """Return until when each can be taken back; None for one that cannot be.

    None for all if the Hub does not tell: the deletion is what was asked for.
    """
    client = app.client()
    try:
        able = client.features()
        if features.UNDELETE not in able:
            return [None for _ in found]
        if dry_run.FEATURE not in able:
            return None
        planned = [dry_run.workspace(client.delete(each.id, dry_run=True)) for each in found]
    except CommandError:
        return None
    return [each.undelete_until for each in planned]


def _snapshots(app: App, found: list[Workspace]) -> list[str]:
    """Return how many snapshots are deleted with the workspaces; nothing if there is none."""
    client = app.client()
    try:
        if not found or features.SNAPSHOTS not in client.features():
            return []
        lists = [list_of(client.snapshots(each.id)) for each in found]
    except CommandError:  # the deletion is what was asked for
        return ["the snapshots, if there are any"]
    many = sum(each.state != "DELETING" for there in lists for each in there.snapshots)
    return [f"{many} {'snapshot' if many == 1 else 'snapshots'}"] if many else []
