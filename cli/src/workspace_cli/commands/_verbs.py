"""What ``start``, ``stop`` and ``rm`` have in common: several workspaces, each by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from workspace_cli.app import App
from workspace_cli.errors import CommandError, WorkspaceNotFoundError
from workspace_cli.following import Goal, after_snapshot, come_back, follow
from workspace_cli.workspaces import Workspace, workspace_of


def find_all(
    app: App, names: Sequence[str], *, surely: bool = False, may_be_gone: bool = False
) -> list[Workspace]:
    """Return the workspaces of all names, each once. If one is not there, nothing is done at all.

    With ``may_be_gone`` it is said instead, and the others are returned.

    Raises:
        WorkspaceNotFoundError, WrongUsageError: see ``App.find``.
    """
    app.client()  # no Hub of this name is no workspace that is gone
    found = []
    for name in dict.fromkeys(names):
        try:
            found.append(app.find(name, surely=surely))
        except WorkspaceNotFoundError:
            if not may_be_gone:
                raise
            app.console.note(f"{name} is gone.")
    return list({each.id: each for each in found}.values())


def carry_out(
    app: App,
    found: Sequence[Workspace],
    ask: Callable[[Workspace], Any],
    goal: Goal,
    *,
    waits: bool,
) -> None:
    """Ask for a change of each workspace, and wait for all; one that fails stops no other.

    If one's snapshot is being taken, its end is waited for before, whatever ``waits`` says: it
    lasts some seconds.

    Args:
        app: the run.
        found: the workspaces.
        ask: sends the request, and returns the API's workspace; None if it is gone.
        goal: what the change leads to.
        waits: whether to wait for that; if not, the command that does is said.

    Raises:
        CommandError: what went wrong with one of them, when all are done; others were told.
    """
    asked: list[Workspace] = []
    errors: list[CommandError] = []
    for each in found:
        text = f"It is not known whether the Hub heard of {each.name}. To see:\n  workspace ls"
        with app.on_interrupt(text):
            try:
                value = after_snapshot(app, each, partial(ask, each), goal.seconds)
            except CommandError as error:
                error.message = f"{each.name}: {error.message}" if len(found) > 1 else error.message
                errors.append(error)
                continue
        if value is not None:
            asked.append(workspace_of(value))
    if waits and asked:
        errors += [each.error for each in follow(app, asked, goal) if each.error]
    elif asked:
        names = " ".join(each.name for each in asked)
        app.console.note(f"{names}: asked for. To wait for it:\n  {come_back(asked, goal)}")
    if errors:
        _raise(app, errors)


def _raise(app: App, errors: list[CommandError]) -> NoReturn:
    for error in errors[1:]:
        app.console.note(f"workspace: {error.message}", style="bold red")
    raise errors[0]
