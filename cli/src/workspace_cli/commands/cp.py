"""Copy files to or from a workspace."""

from __future__ import annotations

import re

import click

from workspace_cli.app import App
from workspace_cli.main import WORKSPACE, Command
from workspace_cli.workspaces import NAME

_REMOTE = re.compile(r"([^/:]*):(.*)", re.DOTALL)


@click.command(cls=Command)
@click.argument("source", type=click.UNPROCESSED)
@click.argument("target", type=click.UNPROCESSED)
@click.option("-r", "--recursive", is_flag=True, help="Copy folders with all that is in them.")
@click.option("-p", "--preserve", is_flag=True, help="Keep times and permissions.")
@click.pass_obj
def command(app: App, source: str, target: str, recursive: bool, preserve: bool) -> None:
    """Copy SOURCE to TARGET. One of them is NAME:PATH, a path in the workspace NAME.

    A path in a workspace is relative to your home there; NAME: is the home itself. A path of this
    machine that has a colon is written with its folder: ./a:b.

    \b
    workspace cp notes.txt api:
    workspace cp -r api:project/dist .
    """  # noqa: D301  # click's sign for lines that stay
    from workspace_cli.ssh import programs, way  # noqa: PLC0415  # --help needs none

    places = [_split(source), _split(target)]
    names = [name for name, _ in places if name is not None]
    if len(names) != 1:
        raise click.UsageError("exactly one of SOURCE and TARGET must be NAME:PATH")
    inside = way.get_in(app, names[0])
    operands = [path if name is None else f"{inside.host}:{path}" for name, path in places]
    options = ["-r"] if recursive else []
    if preserve:
        options.append("-p")
    # Without -s an OpenSSH before 9.0 lets a remote shell read the path.
    scp = [programs.find_program("scp"), "-s", *options, *inside.options(), "--", *operands]
    code = programs.run(scp, reads=False)
    programs.explain(app, inside, code)
    raise SystemExit(code)


def _split(place: str) -> tuple[str | None, str]:
    """Return a workspace and a path there, or None and a path of this machine.

    A local path becomes one that scp cannot take for an option or for another machine's.
    """
    found = _REMOTE.fullmatch(place)
    if found is None:
        return None, place if place.startswith("/") else f"./{place}"
    name, path = found.groups()
    if not NAME.fullmatch(name):
        raise click.UsageError(
            f"{name!r} is no workspace's name; a path of this machine with a colon is ./{place}"
        )
    return str(WORKSPACE.convert(name, None, None)), path
