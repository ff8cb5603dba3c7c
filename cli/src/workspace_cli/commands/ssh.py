"""Open a shell in a workspace, or run a command line there."""

from __future__ import annotations

import re

import click

from workspace_cli.app import App
from workspace_cli.main import WORKSPACE, Command

_PORT = r"[0-9]{1,5}"
_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
_FORWARD = re.compile(rf"(?:(?:{_HOST}|\*)?:)?{_PORT}:{_HOST}:{_PORT}")


def _forwards(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    for value in values:
        if not _FORWARD.fullmatch(value) or value.startswith("-"):
            raise click.BadParameter(
                f"{value!r} is not [ADDRESS:]PORT:HOST:PORT", context, parameter
            )
    return values


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.argument("command_line", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option("-A", "forwards_agent", is_flag=True, help="Forward your SSH agent.")
@click.option(
    "-L",
    "forwards",
    metavar="[ADDRESS:]PORT:HOST:PORT",
    multiple=True,
    callback=_forwards,
    help="Forward a port of this machine to one of the workspace; several times.",
)
@click.option("-t", "--tty", "with_tty", is_flag=True, help="Give COMMAND a terminal.")
@click.pass_obj
def command(  # noqa: PLR0913, PLR0917  # one parameter for each option
    app: App,
    name: str,
    command_line: tuple[str, ...],
    forwards_agent: bool,
    forwards: tuple[str, ...],
    with_tty: bool,
) -> None:
    """Open a shell in the workspace NAME. If it is asleep, it is started first.

    With COMMAND, run it instead. The workspace's shell reads it, as with ssh: quote what that shell
    must not see, or use `workspace exec`. The exit code is that of the shell or the command, and
    255 if the connection failed.
    """
    from workspace_cli.ssh import programs, quoting, way  # noqa: PLC0415  # --help needs none

    options = ["-A"] if forwards_agent else []
    for each in forwards:
        options += ["-L", each]
    if forwards:
        options += ["-o", "ExitOnForwardFailure=yes"]
    if with_tty:
        options.append("-tt")
    inside = way.get_in(app, name)
    line = quoting.not_an_option(" ".join(command_line)) if command_line else None
    code = programs.run(inside.ssh(*options, command=line))
    programs.explain(app, inside, code)
    raise SystemExit(code)
