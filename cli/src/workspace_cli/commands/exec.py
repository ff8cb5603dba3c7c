"""Run a program in a workspace, with exactly these arguments."""

from __future__ import annotations

import click

from workspace_cli.app import App
from workspace_cli.main import WORKSPACE, Command


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.argument("words", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-t", "--tty", "with_tty", is_flag=True, help="Give COMMAND a terminal.")
@click.pass_obj
def command(app: App, name: str, words: tuple[str, ...], with_tty: bool) -> None:
    """Run COMMAND in the workspace NAME. If it is asleep, it is started first.

    COMMAND gets its arguments as they are given here: no shell changes them. Input, output and
    exit code are its own; 255 is a connection that failed.

    \b
    workspace exec api -- grep -r "two words" src
    """  # noqa: D301  # click's sign for lines that stay
    from workspace_cli.ssh import programs, quoting, way  # noqa: PLC0415  # --help needs none

    inside = way.get_in(app, name)
    options = ["-tt"] if with_tty else ["-T"]
    code = programs.run(inside.ssh(*options, command=quoting.remote_command(words)))
    programs.explain(app, inside, code)
    raise SystemExit(code)
