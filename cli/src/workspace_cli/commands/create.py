"""Create a workspace."""

from typing import Any

import click

from workspace_cli.commands import _making
from workspace_cli.main import WORKSPACE, Command


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@_making.machine
@_making.work
@_making.way
@click.pass_context
def command(context: click.Context, /, name: str, **given: Any) -> None:
    """Create the workspace NAME, and wait until it is ready."""
    _making.check(given)
    _making.make(context, _making.fields_of(name, given), given)
