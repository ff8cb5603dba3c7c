"""What ``workspace run`` does: start, run, and suspend again what it has started."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from workspace_cli.errors import FAILED, CommandError
from workspace_cli.following import after_snapshot
from workspace_cli.ssh import programs, remote_run
from workspace_cli.ssh.way import Way, get_in

if TYPE_CHECKING:
    from workspace_cli.app import App

_SNAPSHOT_SECONDS = 60.0  # that the end of one is waited for: nobody can interrupt that


def run_to_the_end(app: App, name: str, words: Sequence[str], *, stops: bool) -> int:
    """Run a program in a workspace, and return the exit code for it.

    Args:
        app: the run.
        name: the workspace.
        words: the program and its arguments.
        stops: whether to suspend the workspace afterwards if this run has started it.

    Raises:
        CommandError: the workspace cannot be entered.
    """
    inside = get_in(app, name, stops_again=stops)
    try:
        code, interrupted_by = remote_run.run(
            inside.ssh("-T", command=remote_run.remote_line(words))
        )
        programs.explain(app, inside, code)
        if interrupted_by:
            app.console.note(f"Interrupted; the command in {inside.workspace.name} has been ended.")
            code = 128 + interrupted_by
    finally:
        stopped = not stops or _stop(app, inside)
    # A machine that was to be stopped, and runs on, is no success.
    return code if stopped or code else FAILED


def _stop(app: App, inside: Way) -> bool:
    """Suspend the workspace if it is nobody's any more, and return whether all is as it should."""
    name = inside.workspace.name
    what = inside.connected.leave()
    if what == "others":
        app.console.note(f"{name} runs on: something else on this machine is connected to it.")
    if what != "stop":
        return True
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it takes not much longer
    try:
        stop = partial(app.client().stop, inside.workspace.id)
        after_snapshot(app, inside.workspace, stop, _SNAPSHOT_SECONDS)
    except CommandError as error:
        app.console.warn(f"{name} runs on: {error.message}")
        app.console.note(f"  workspace stop {name}")
        return False
    finally:
        signal.signal(signal.SIGINT, before)
    app.console.note(f"{name} is going to sleep again.")
    return True
