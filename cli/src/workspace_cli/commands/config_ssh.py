"""Set up ssh, scp, rsync and editors for workspaces."""

from __future__ import annotations

from pathlib import Path

import click

from workspace_cli.app import App
from workspace_cli.main import Command


@click.command(cls=Command)
@click.option("--dry-run", is_flag=True, help="Show the change on stdout, and make none.")
@click.option("--remove", is_flag=True, help="Take out what this command has put in.")
@click.option("-y", "--yes", is_flag=True, help="Make the change without asking.")
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="OpenSSH's configuration.  [default: ~/.ssh/config]",
)
@click.pass_obj
def command(app: App, dry_run: bool, remove: bool, yes: bool, file: Path | None) -> None:
    """Have OpenSSH know every workspace of the Hub as the host workspace.NAME.

    Then `ssh workspace.api`, scp, sftp, rsync, VS Code and what else uses OpenSSH's configuration
    work. A new workspace needs nothing further; run this again only to have an editor list it. The
    change is shown, and made when you agree.
    """
    from workspace_cli.ssh import hosts  # noqa: PLC0415  # --help needs none

    changes = hosts.removal(file) if remove else hosts.installation(app, file)
    hosts.apply(app, changes, dry_run=dry_run, yes=yes)
