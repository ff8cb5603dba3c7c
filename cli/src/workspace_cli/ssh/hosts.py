"""Puts the hosts of ``config_file`` into place, after the person has seen the change."""

from __future__ import annotations

import difflib
import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workspace_cli.config import Connect
from workspace_cli.errors import CommandError
from workspace_cli.ssh import config_file
from workspace_cli.ssh.config_file import Change
from workspace_cli.ssh.keys import ensure_key
from workspace_cli.ssh.way import Files, Way, user_at
from workspace_cli.ssh.writing import replace_file
from workspace_cli.workspaces import workspace_of

if TYPE_CHECKING:
    from workspace_cli.app import App

_NAMES_LISTED = 200


def installation(app: App, file: Path | None) -> list[Change]:
    """Return what has to change so that OpenSSH knows the workspaces of the Hub.

    Args:
        app: the run.
        file: OpenSSH's configuration; None: ``~/.ssh/config``.

    Raises:
        CommandError: a file cannot be read, or the person's user name cannot be had.
    """
    files = Files(app.store.folder / "ssh" / app.hub().name)
    ensure_key(files.key)
    workspaces = [workspace_of(each) for each in app.client().workspaces()]
    owned = [each.name for each in workspaces if not each.is_being_deleted][:_NAMES_LISTED]
    connect = app.hub().connect or Connect(kind="iap")
    user = connect.user or user_at(app, files, workspaces)
    block = config_file.block(files, _program(app), user, owned)
    main, included = _paths(file)
    before, main_before = _read(included), _read(main)
    return [
        Change(included, before, config_file.with_block(before or b"", block)),
        Change(main, main_before, config_file.with_include(main_before or b"", included)),
    ]


def removal(file: Path | None) -> list[Change]:
    """Return what has to change so that OpenSSH's configuration is as it was before.

    Args:
        file: OpenSSH's configuration; None: ``~/.ssh/config``.

    Raises:
        CommandError: a file cannot be read.
    """
    main, included = _paths(file)
    before, main_before = _read(included), _read(main)
    rest = None if before is None else config_file.without_block(before) or None
    changes = [Change(included, before, rest)]
    if rest is None and main_before is not None:
        without = config_file.without_include(main_before, included)
        changes.insert(0, Change(main, main_before, without))
    return changes


def apply(app: App, changes: Sequence[Change], *, dry_run: bool, yes: bool) -> None:
    """Show changes, ask, and make them.

    Args:
        app: the run.
        changes: in the order in which they are made: at any moment, what is included is there.
        dry_run: whether to show them on stdout, and no more.
        yes: whether to make them without asking.

    Raises:
        NeedsTerminalError: nobody is there to ask.
        CommandError: the person says no, or a file has changed meanwhile or cannot be written.
    """
    made = [change for change in changes if change.is_one]
    if not made:
        app.console.note("Nothing has to change.")
        return
    show = app.console.out if dry_run else app.console.note
    for change in made:
        show(_shown(change))
    if dry_run:
        return
    if not yes and not app.console.confirm("Change it like this?", instead="--yes"):
        raise CommandError("nothing has been changed")
    for change in made:
        if _read(change.path) != change.before:
            raise CommandError(f"{change.path} has been changed meanwhile", hint="run this again")
        if change.after is None:
            change.path.unlink()
        else:
            replace_file(change.path, change.after)
    _warn_of_other_home(app, made)


def set_up_if_needed(app: App, way: Way, *, yes: bool) -> None:
    """Have OpenSSH know the hosts of this Hub, if it does not yet.

    Raises:
        CommandError: see ``apply``.
    """
    main, included = _paths(None)
    block = config_file.block(way.files, _program(app), way.user, []).splitlines()
    there = (_read(included) or b"").splitlines()
    # All but the names that it lists: new ones are no reason to ask.
    is_there = all(line in there for line in block if not line.startswith(b"Host "))
    config = _read(main) or b""
    if is_there and config_file.with_include(config, included) == config:
        return
    app.console.note("The editor finds the workspace by OpenSSH's configuration:")
    apply(app, installation(app, None), dry_run=False, yes=yes)


def _program(app: App) -> list[str]:
    """Return what OpenSSH runs: this very command, wherever it is started from.

    An editor has another environment: so folder and Hub are named.
    """
    own = Path(sys.argv[0])
    is_installed = own.name == "workspace" and os.access(own, os.X_OK)
    start = [str(own.absolute())] if is_installed else [sys.executable, "-m", "workspace_cli"]
    folder = f"WORKSPACE_CONFIG_DIR={app.store.folder.absolute()}"
    return ["env", folder, *start, "connect", "--hub", app.hub().name, "--"]


def _paths(file: Path | None) -> tuple[Path, Path]:
    """Return OpenSSH's configuration, and the file that it includes."""
    main = file.absolute() if file else Path.home() / ".ssh" / "config"
    return main, main.with_name(config_file.FILE_NAME)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None


def _shown(change: Change) -> str:
    before, after = (
        (content or b"").decode(errors="backslashreplace").splitlines()
        for content in (change.before, change.after)
    )
    names = (
        "/dev/null" if change.before is None else str(change.path),
        "/dev/null" if change.after is None else str(change.path),
    )
    return "\n".join(difflib.unified_diff(before, after, *names, lineterm=""))


def _warn_of_other_home(app: App, changes: Sequence[Change]) -> None:
    """OpenSSH takes the home from the user database, whatever HOME says."""
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    main = changes[-1].path.with_name("config")
    if main == Path.home() / ".ssh" / "config" and home != Path.home():
        app.console.warn(f"OpenSSH reads {home}/.ssh/config, not {main}: give it ssh -F {main}")
