"""Start workspaces."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import click

from workspace_cli.app import App
from workspace_cli.commands import _options
from workspace_cli.commands._verbs import carry_out, find_all
from workspace_cli.dry_run import show_each
from workspace_cli.following import Goal
from workspace_cli.main import WORKSPACE, Command

_MADE_AGAIN = "its disk and machine are made again. What was in its memory is gone."


@click.command(cls=Command)
@click.argument("names", metavar="NAME...", type=WORKSPACE, nargs=-1, required=True)
@click.option("--machine-type", metavar="T", help="On another machine: what is in memory is lost.")
@click.option("--image-tag", metavar="T", help="With another image: what is in memory is lost.")
@click.option("--rebuild", is_flag=True, help="On a new machine: what is in memory is lost.")
@click.option(
    "--may-move", is_flag=True, help="In another zone if its own is full: memory is lost."
)
@click.option("--zone", metavar="Z", help="In this zone: what is in memory is lost.")
@click.option(
    "--home-disk-gb",
    metavar="N",
    type=click.IntRange(min=1),
    help="With a home of this size: what is in memory is lost.",
)
@click.option("--empty-home", is_flag=True, help="Go on without a home that is gone.")
@click.option("--name", "new_name", metavar="N", help="Give it another name, if its own is taken.")
@_options.no_wait
@_options.timeout
@_options.yes
@_options.dry_run_output
@click.pass_obj
def command(app: App, /, names: tuple[str, ...], **given: Any) -> None:
    """Start each workspace NAME, and wait until it is ready; what it had in memory goes on."""
    if given["new_name"] and len(names) > 1:
        raise click.UsageError("--name is for one workspace.")
    is_dry_run = _options.is_dry_run(given)
    client = app.client()
    fields = _fields(given)
    goal = Goal("READY", given["seconds"])
    if given["may_move"] or given["zone"]:
        goal = replace(goal, full="" if given["may_move"] else "or without --zone")
    found = find_all(app, names)
    if is_dry_run:
        runs = [(each.name, partial(client.start, each.id, fields, dry_run=True)) for each in found]
        show_each(app, runs, given["output"])
        return
    for each in found:
        if each.is_archived and each.operation is None:
            app.console.note(f"{each.name} is archived: {_MADE_AGAIN}")
    carry_out(
        app, found, lambda each: client.start(each.id, fields), goal, waits=not given["no_wait"]
    )


def _fields(given: Mapping[str, Any]) -> dict[str, Any]:
    named = {
        "machine_type": given["machine_type"],
        "image_tag": given["image_tag"],
        "rebuild": given["rebuild"] or None,
        "may_move": given["may_move"] or None,
        "zone": given["zone"],
        "home_disk_gb": given["home_disk_gb"],
        "empty_home": given["empty_home"] or None,
        "name": given["new_name"],
    }
    return {key: value for key, value in named.items() if value is not None}
