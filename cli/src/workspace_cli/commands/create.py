"""Create a workspace."""

import secrets
from functools import partial
from typing import Any

import click

from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.dry_run import show_each
from workspace_cli.following import Goal, follow
from workspace_cli.main import WORKSPACE, Command
from workspace_cli.workspaces import Workspace, workspace_of


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.option("--machine-type", metavar="T", help="Compute Engine's, as e2-standard-8.")
@click.option("--image-tag", metavar="T", help="The image's tag, or its digest: sha256:…")
@click.option("--zone", metavar="Z", help="Where its machine is to be.")
@click.option("--repo", metavar="R", help="The repository that is worked on; no credentials in it.")
@click.option("--branch", metavar="B", help="Its branch.")
@click.option("--ssh", "then_ssh", is_flag=True, help="Open a shell in it when it is ready.")
@_options.no_wait
@_options.timeout
@_options.dry_run
@_options.output("text", "json", "id")
@click.pass_context
def command(context: click.Context, /, name: str, **given: Any) -> None:
    """Create the workspace NAME, and wait until it is ready."""
    if given["then_ssh"] and given["no_wait"]:
        raise click.UsageError("--ssh waits until it is ready, so --no-wait does not go with it.")
    if given["dry_run"] and (given["then_ssh"] or given["output"] == "id"):
        raise click.UsageError("--dry-run makes nothing, so --ssh and -o id do not go with it.")
    app = context.find_object(App)
    assert app is not None  # noqa: S101  # the group has made it
    fields = _fields(name, given)
    if given["dry_run"]:
        key = secrets.token_urlsafe(24)
        run = partial(app.client().create, fields, key, dry_run=True)
        show_each(app, [(name, run)], given["output"])
        return
    with app.on_interrupt(f"It is not known whether {name} was asked for. To see:\n  workspace ls"):
        # The key makes every repetition of this request the same request.
        made = workspace_of(app.client().create(fields, secrets.token_urlsafe(24)))
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


def _fields(name: str, given: dict[str, Any]) -> dict[str, Any]:
    metadata = {"repo": given["repo"], "branch": given["branch"], "device_id": _options.device()}
    named = {key: given[key] for key in ("machine_type", "image_tag", "zone")}
    return {
        "name": name,
        **{key: value for key, value in named.items() if value is not None},
        "metadata": {key: value for key, value in metadata.items() if value is not None},
    }


def _followed(app: App, made: Workspace, given: dict[str, Any]) -> Workspace:
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
