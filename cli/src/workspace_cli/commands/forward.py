"""Forward ports of a workspace to this machine."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import click

from workspace_cli.app import App
from workspace_cli.errors import CommandError
from workspace_cli.main import WORKSPACE, Command

if TYPE_CHECKING:
    _PortsType = click.ParamType[tuple[int, int]]
else:
    _PortsType = click.ParamType  # it has no parameters before click 8.5


class _Ports(_PortsType):
    """``PORT``, or ``LOCAL:REMOTE``."""

    name = "ports"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return the local and the remote port."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([0-9]{1,5})(?::([0-9]{1,5}))?", str(value))
        ports = [int(each) for each in found.groups(found[1])] if found else []
        if not ports or not all(1 <= port <= 65535 for port in ports):
            self.fail(f"{value!r} is not PORT or PORT:PORT, from 1 to 65535.", param, ctx)
        return ports[0], ports[1]


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.argument("ports", metavar="PORT[:PORT]...", nargs=-1, required=True, type=_Ports())
@click.pass_obj
def command(app: App, name: str, ports: tuple[tuple[int, int], ...]) -> None:
    """Forward each PORT of the workspace NAME to this machine, until Ctrl-C.

    PORT:PORT is the port of this machine, and then that of the workspace. Only this machine can
    reach it, at localhost. If the workspace is asleep, it is started first.

    \b
    workspace forward api 8080 5433:5432
    """  # noqa: D301  # click's sign for lines that stay
    from workspace_cli.ssh import programs, way  # noqa: PLC0415  # --help needs none

    local = [here for here, _ in ports]
    if len(set(local)) < len(local):
        raise click.UsageError("a port of this machine is given twice")
    for here in local:
        _check_free(here)
    inside = way.get_in(app, name)
    options = ["-N", "-o", "ExitOnForwardFailure=yes"]
    for here, there in ports:
        options += ["-L", f"127.0.0.1:{here}:localhost:{there}"]
        app.console.note(f"localhost:{here} is port {there} of {inside.workspace.name}")
    app.console.note("Ctrl-C ends it.")
    code = programs.run(inside.ssh(*options), reads=False)
    programs.explain(app, inside, code)
    raise SystemExit(code)


def _check_free(port: int) -> None:
    """Find out that a port is taken before a machine is started for it."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(
                f"port {port} of this machine cannot be used: {error.strerror}",
                hint=f"take another one: {port + 1 if port < 65535 else 8080}:{port}",
            ) from None
