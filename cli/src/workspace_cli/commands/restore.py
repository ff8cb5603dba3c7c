"""Put the home of a workspace back to a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import click

from workspace_cli import dry_run, features
from workspace_cli.app import App
from workspace_cli.commands import _options, _source
from workspace_cli.errors import CommandError, RefusedError, SnapshotNotFoundError
from workspace_cli.following import Goal, after_snapshot, come_back, follow
from workspace_cli.main import SNAPSHOT, WORKSPACE, Command
from workspace_cli.snapshots import Snapshot, find_snapshot, list_of
from workspace_cli.workspaces import Workspace, workspace_of

# What is lost, of a Hub that has no dry runs and so does not say it itself.
_LOSES = (
    ("memory", "The machine is shut down, and another one is made."),
    ("boot disk", "What is outside of the home comes from the image again."),
)
_COLUMN = 12  # as a dry run has it


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.argument("wanted", metavar="SNAPSHOT", type=SNAPSHOT)
@_options.no_wait
@_options.timeout
@_options.yes
@_options.dry_run
@_options.output("text", "json")
@click.pass_obj
def command(app: App, /, name: str, wanted: str, **given: Any) -> None:
    """Put the home of the workspace NAME back to what SNAPSHOT holds, and wait until it is ready.

    SNAPSHOT is one of its own: its name, its id, or 8 or more characters of its id. What is in the
    home now is kept as another snapshot. The machine is made anew, so what is in its memory is
    lost. If it fails, the home is what it was.
    """
    with features.needed(app, features.RESTORE):
        workspace = app.find(name, surely=True)
        there = list_of(app.client().snapshots(workspace.id))
        source = find_snapshot(there.snapshots, wanted, workspace, surely=True)
        again = f"workspace restore {workspace.argument} {source.argument}"
        _source.check(source, workspace, again)
        try:
            _restore(app, workspace, source, given)
        except SnapshotNotFoundError as error:  # it has just gone
            error.hint = _source.listing(workspace)
            raise


def _restore(app: App, workspace: Workspace, source: Snapshot, given: dict[str, Any]) -> None:
    ask = partial(app.client().restore, workspace.id, source.id)
    if given["dry_run"]:

        def run() -> Any:
            planned = ask(dry_run=True)
            _tell(app, _about(app, workspace, source))
            return planned

        dry_run.show_each(app, [(workspace.name, run)], given["output"])
        return
    if not given["yes"]:
        _confirm(app, workspace, source, given["seconds"])
    unknown = (
        f"It is not known whether the Hub heard of {workspace.name}. To see:\n"
        f"  workspace show {workspace.argument}"
    )
    with app.on_interrupt(unknown):
        asked = workspace_of(after_snapshot(app, workspace, ask, given["seconds"]))
    goal = Goal("READY", given["seconds"])
    if given["no_wait"]:
        app.console.note(
            f"{workspace.name}: asked for. To wait for it:\n  {come_back([workspace], goal)}"
        )
    else:
        asked = _followed(app, asked, source, goal)
    if given["output"] == "json":
        app.console.json(asked.raw)


def _followed(app: App, asked: Workspace, source: Snapshot, goal: Goal) -> Workspace:
    """Return the workspace once its home is restored.

    Raises:
        CommandError: it has not come to that.
    """
    [outcome] = follow(app, [asked], goal)
    if outcome.error is not None:
        raise outcome.error
    after = outcome.workspace or asked
    app.console.note(f"Its home is what the snapshot {source.label} holds. {_kept(app, asked)}")
    return after


def _kept(app: App, asked: Workspace) -> str:
    """Return where what was in the home before is now, and what gets it back.

    The snapshot that a RESTORE takes has the operation's own id. There is none if an earlier one
    had all of the home already, or if there was no home.
    """
    with suppress(CommandError):  # it is restored all the same
        there = list_of(app.client().snapshots(asked.id)).snapshots
        made_by = asked.operation.id if asked.operation else None
        for each in there:
            if each.id == made_by and each.state == "READY":
                return (
                    f"What was in it before is the snapshot {each.label}. To go back to that:\n"
                    f"  workspace restore {asked.argument} {each.argument}"
                )
    return f"To see which snapshot has what was in it before:\n  {_source.listing(asked)}"


def _confirm(app: App, workspace: Workspace, source: Snapshot, seconds: float) -> None:
    """Say what is lost and what is kept, and have the person type the workspace's name.

    The Hub says what is lost, by a dry run. If it refuses that, it refuses the request, too: then
    nobody is asked.

    Raises:
        RefusedError: they typed something else.
        CommandError: nobody is there to be asked; or of the dry run.
    """
    if app.console.is_interactive:
        lost = _losses(app, workspace, source, seconds)
        told = [f"{what}: {why}" for what, why in lost] or ["nothing"]
        _tell(app, [*_about(app, workspace, source), *_labelled("loses", told)])
    question = f"Restore the home of {workspace.name}? Type its name:"
    if app.console.ask(question, instead="give --yes, if it is to be restored") != workspace.name:
        raise RefusedError("that is something else, so nothing was restored")


def _losses(
    app: App, workspace: Workspace, source: Snapshot, seconds: float
) -> list[tuple[str, str]]:
    client = app.client()
    if dry_run.FEATURE not in client.features():
        return list(_LOSES)
    ask = partial(client.restore, workspace.id, source.id, dry_run=True)
    return dry_run.losses(after_snapshot(app, workspace, ask, seconds))


def _about(app: App, workspace: Workspace, source: Snapshot) -> Iterator[tuple[str, str]]:
    """Yield what is taken, what is kept, and what can be done to keep more."""
    about = _source.about(app, source)
    yield "from", f"the snapshot {source.label}" + (f": {about}" if about else "")
    kept = ["what is in the home now, as another snapshot"]
    if workspace.status == "SUSPENDED" and workspace.memory_kept:
        kept += [
            "It sleeps: what programs have not written to the disk is lost with its memory.",
            f"To keep that, too, start it first: workspace start {workspace.argument}",
        ]
    yield from _labelled("keeps", kept)


def _labelled(label: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    for nth, line in enumerate(lines):
        yield "" if nth else label, line


def _tell(app: App, lines: Iterable[tuple[str, str]]) -> None:
    for label, text in lines:
        app.console.note(f"{label:{_COLUMN}}{text}")
