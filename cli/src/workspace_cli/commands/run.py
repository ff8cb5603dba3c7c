"""Run a program in a workspace, and end it with the connection."""

from __future__ import annotations

import click

from workspace_cli.app import App
from workspace_cli.main import WORKSPACE, Command


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.argument("words", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--then-stop",
    "stops",
    is_flag=True,
    help="Suspend the workspace afterwards if this has started it, even if COMMAND fails.",
)
@click.pass_obj
def command(app: App, name: str, words: tuple[str, ...], stops: bool) -> None:
    """Run COMMAND in the workspace NAME, with exactly these arguments. What is asleep is started.

    It is as `workspace exec`, but COMMAND does not outlive this: if you press Ctrl-C, if this is
    ended, or if the connection is lost, COMMAND is ended, and all that it has started. The exit
    code is COMMAND's own; 130 after Ctrl-C; 255 if the connection failed.

    --then-stop leaves a workspace alone that was running already, and one that somebody else is
    connected to from this machine: the last of them stops it.
    """
    from workspace_cli.ssh import running  # noqa: PLC0415  # --help needs none

    raise SystemExit(running.run_to_the_end(app, name, words, stops=stops))
