"""Carry a connection to a workspace, for OpenSSH's ProxyCommand."""

from __future__ import annotations

import os

import click

from workspace_cli.app import App
from workspace_cli.main import WORKSPACE, Command


@click.command(cls=Command)
@click.argument("name", metavar="NAME", type=WORKSPACE)
@click.pass_obj
def command(app: App, name: str) -> None:
    """Carry standard input and output to the SSH server of the workspace NAME.

    `workspace config-ssh` has OpenSSH run this for the hosts workspace.NAME. A workspace that is
    asleep is started only for a person: if there is a terminal, or with WORKSPACE_START=1. An
    editor that reconnects by itself gets an error, so that it wakes nothing that was put to sleep.
    WORKSPACE_START=0 never starts one.
    """
    from workspace_cli.ssh import person, relay, way  # noqa: PLC0415  # --help needs none

    found = way.find_host(app, name)
    inside = way.get_through(app, found, is_person=person.is_behind())
    program = way.carrier(inside.hub, inside.connection)
    app.console.flush()
    if program is not None:
        inside.connected.keep_in_children()
        os.execv(program[0], program)  # noqa: S606  # no shell; built by us
    relay.relay(relay.connect(inside.connection.host or "", inside.connection.port))
