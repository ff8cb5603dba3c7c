"""Open a workspace in an editor."""

from __future__ import annotations

import json
import re

import click

from workspace_cli.app import App
from workspace_cli.errors import CommandError
from workspace_cli.main import WORKSPACE, Command

_EDITORS = {"code": "VS Code", "cursor": "Cursor"}


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.argument("path", required=False, type=click.UNPROCESSED)
@click.option(
    "--editor",
    type=click.Choice(list(_EDITORS)),
    default="code",
    help="Which one; code is VS Code.",
)
@click.option("-y", "--yes", is_flag=True, help="Change OpenSSH's configuration without asking.")
@click.pass_obj
def command(app: App, name: str, path: str | None, editor: str, yes: bool) -> None:
    """Open the workspace NAME in an editor, at the folder PATH there.

    If it is asleep, it is started first. The editor gets there by the host workspace.NAME of
    `workspace config-ssh`, which is set up if it is not yet.
    """
    from workspace_cli.ssh import hosts, programs, way  # noqa: PLC0415  # --help needs none

    if path is not None and (not path.startswith("/") or re.search(r"[\x00-\x1f\x7f]", path)):
        raise click.UsageError("PATH must be an absolute path in the workspace")
    program = programs.find_editor(editor, _EDITORS[editor])
    inside = way.get_in(app, name)
    hosts.set_up_if_needed(app, inside, yes=yes)
    arguments = [program, "--remote", f"ssh-remote+{_authority(inside.host)}"]
    if path is not None:
        arguments.append(path)
    code = programs.run(arguments, reads=False)
    if code:
        raise CommandError(f"{editor} has ended with the exit code {code}")


def _authority(host: str) -> str:
    """Return a host as part of a URI, where it would become lower case: such a name is encoded.

    https://github.com/microsoft/vscode-remote-release/issues/9370 shows the form.
    """
    if host == host.lower():
        return host
    return json.dumps({"hostName": host}, separators=(",", ":")).encode().hex()
