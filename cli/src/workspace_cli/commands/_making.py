"""What ``create`` and ``fork`` have in common: they make a workspace, and follow it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.dry_run import show_each
from workspace_cli.following import Goal, follow
from workspace_cli.workspaces import Workspace, workspace_of

_F = TypeVar("_F", bound=Callable[..., Any])
_MACHINE = ("machine_type", "image_tag", "zone")
_WORK = ("repo", "branch")


def machine(command: _F) -> _F:
    """Add the options that say what machine a new workspace has."""
    for option in (
        click.option("--zone", metavar="Z", help="Where its machine is to be."),
        click.option("--image-tag", metavar="T", help="The image's tag, or its digest: sha256:…"),
        click.option("--machine-type", metavar="T", help="Compute Engine's, as e2-standard-8."),
    ):
        command = option(command)
    return command


def work(command: _F) -> _F:
    """Add the options that say what a new workspace is for."""
    for option in (
        click.option("--branch", metavar="B", help="Its branch."),
        click.option(
            "--repo", metavar="R", help="The repository that is worked on; no credentials in it."
        ),
    ):
        command = option(command)
    return command


def way(command: _F) -> _F:
    """Add the options that say how a new workspace is followed, and what is written."""
    for option in (
        _options.output("text", "json", "id"),
        _options.dry_run,
        _options.timeout,
        _options.no_wait,
        click.option(
            "--ssh", "then_ssh", is_flag=True, help="Open a shell in it when it is ready."
        ),
    ):
        command = option(command)
    return command


def check(given: Mapping[str, Any]) -> None:
    """Refuse options that do not go together.

    Raises:
        click.UsageError: they do not.
    """
    if given["then_ssh"] and given["no_wait"]:
        raise click.UsageError("--ssh waits until it is ready, so --no-wait does not go with it.")
    if given["dry_run"] and (given["then_ssh"] or given["output"] == "id"):
        raise click.UsageError("--dry-run makes nothing, so --ssh and -o id do not go with it.")


def fields_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request for a workspace with the options of ``machine`` and ``work``.

    Args:
        name: of the workspace.
        given: the options; those that are not given are left out.
    """
    told = {**{key: given[key] for key in _WORK}, "device_id": _options.device()}
    return {
        "name": name,
        **{key: given[key] for key in _MACHINE if given[key] is not None},
        "metadata": {key: value for key, value in told.items() if value is not None},
    }


def make(
    context: click.Context, fields: Mapping[str, Any], given: Mapping[str, Any], *, told: str = ""
) -> None:
    """Ask for a workspace, or only for a dry run, and do what the options of ``way`` say.

    Args:
        context: the command's.
        fields: the request.
        given: the options.
        told: is said once the Hub has accepted it; nothing if empty.

    Raises:
        CommandError: it was refused, or has not become ready.
    """
    app, name = context.find_object(App), fields["name"]
    assert app is not None  # noqa: S101  # the group has made it
    # The key makes every repetition of this request the same request.
    key = secrets.token_urlsafe(24)
    if given["dry_run"]:

        def run() -> Any:
            planned = app.client().create(fields, key, dry_run=True)
            if told:
                app.console.note(told)
            return planned

        show_each(app, [(name, run)], given["output"])
        return
    with app.on_interrupt(f"It is not known whether {name} was asked for. To see:\n  workspace ls"):
        made = workspace_of(app.client().create(fields, key))
    if told:
        app.console.note(told)
    if given["no_wait"]:
        app.console.note(f"{name} was asked for. To wait for it:\n  workspace wait {name}")
    else:
        made = _followed(app, made, given)
    if given["output"] == "json":
        app.console.json(made.raw)
    elif given["output"] == "id":
        app.console.out(made.id)
    if given["then_ssh"]:
        app.console.flush()
        _open_shell(context, made)
    elif not given["no_wait"]:
        app.console.note(f"  workspace ssh {name}")


def _followed(app: App, made: Workspace, given: Mapping[str, Any]) -> Workspace:
    [outcome] = follow(app, [made], Goal("READY", given["seconds"]))
    if outcome.error is not None:
        raise outcome.error
    return outcome.workspace or made


def _open_shell(context: click.Context, made: Workspace) -> None:
    """Go on as ``workspace ssh`` does, with all that it does."""
    group = context.parent
    assert group is not None  # noqa: S101  # a command of the group has it
    assert isinstance(group.command, click.Group)  # noqa: S101  # that is the group
    ssh = group.command.get_command(group, "ssh")
    if ssh is None:
        raise click.ClickException("this installation has no command ssh")
    with ssh.make_context("ssh", [made.id], parent=group) as inner:
        ssh.invoke(inner)
