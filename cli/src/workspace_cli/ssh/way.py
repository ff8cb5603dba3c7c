"""The way into one workspace: started, allowed, with key and host key, as OpenSSH's arguments."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workspace_cli.commands._options import device
from workspace_cli.connection import agreed, connect_of
from workspace_cli.errors import (
    CommandError,
    NotInTimeError,
    NotUnderstoodError,
    PathUnknownError,
    RefusedError,
    WorkspaceNotFoundError,
)
from workspace_cli.ssh import known_hosts
from workspace_cli.ssh.connection import Connection, check_project, read_connection
from workspace_cli.ssh.first_entry import wait_until_let_in
from workspace_cli.ssh.in_use import Connected
from workspace_cli.ssh.keys import ensure_key, find_program
from workspace_cli.ssh.os_login import account_flags, ensure_registered, gcloud_program
from workspace_cli.ssh.quoting import config_path, proxy_command
from workspace_cli.workspaces import NAME, Workspace, workspace_of

if TYPE_CHECKING:
    from workspace_cli.app import App
    from workspace_cli.config import Hub

HOST_PREFIX = "workspace."
_GRANT_SECONDS = 120.0  # IAM: "typically two minutes" until a change holds everywhere
_GRANT_PAUSE_SECONDS = 2.0
_SLEEPS = {"SUSPENDED", "ERROR"}


class AsleepError(CommandError):
    """The workspace is not running, and what asked was no person: ``workspace start`` it first."""


@dataclass(frozen=True)
class Files:
    """What the command keeps for the machines of one Hub, in a folder of its own.

    Args:
        folder: ``ssh/HUB`` below the configuration folder.
    """

    folder: Path

    @property
    def key(self) -> Path:
        """The private key."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The machines' host keys."""
        return self.folder / "known_hosts"

    @property
    def entered(self) -> Path:
        """Which machines have let the person in, see ``first_entry``."""
        return self.folder / "entered.json"

    def in_use(self, workspace_id: str) -> Path:
        """Return the file of ``in_use`` for a workspace."""
        return self.folder / "in-use" / workspace_id


@dataclass(frozen=True, kw_only=True)
class Way:
    """A workspace that is ready to be entered.

    Attributes:
        hub: whose it is.
        workspace: the workspace, READY.
        connection: its machine.
        user: the user name there.
        files: key and host keys.
        connected: holds that this process uses it.
    """

    hub: Hub
    workspace: Workspace
    connection: Connection
    user: str
    files: Files
    connected: Connected

    @property
    def host(self) -> str:
        """The name by which OpenSSH's messages call it; it begins with ``workspace.``."""
        return host_of(self.workspace)

    def options(self) -> list[str]:
        """Return what OpenSSH's programs need to get there, and nothing of other configuration.

        The person's own configuration is left out: what it says of all hosts (multiplexing, remote
        commands, other keys) must not change what a script gets.
        """
        connection = self.connection
        values = {
            "HostName": connection.host or connection.instance_name,
            "Port": str(connection.port),
            "User": self.user,
            "HostKeyAlias": connection.alias,
            **common_settings(self.files),
            "StrictHostKeyChecking": "yes" if connection.host_key else "accept-new",
            "ControlMaster": "no",
            "ControlPath": "none",
            "PreferredAuthentications": "publickey",
            "SendEnv": "LANG LC_* COLORTERM",
            "LogLevel": "ERROR",
        }
        program = carrier(self.hub, connection)
        if program is not None:
            values["ProxyCommand"] = proxy_command(program)
        pairs = (("-o", f"{name}={value}") for name, value in values.items())
        return ["-F", "none", *(word for pair in pairs for word in pair)]

    def ssh(self, *options: str, command: str | None = None) -> list[str]:
        """Return the arguments of ``ssh``.

        Args:
            options: further options, of ours or checked.
            command: the remote shell's command line; None: a shell.
        """
        rest = [] if command is None else [command]
        return [find_program("ssh"), *self.options(), *options, "--", self.host, *rest]


def common_settings(files: Files) -> dict[str, str]:
    """Return the settings of ``ssh_config`` that all connections have, also ``config-ssh``'s."""
    return {
        "IdentityFile": config_path(str(files.key)),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": config_path(str(files.known_hosts)),
        "GlobalKnownHostsFile": "/dev/null",
        # A name for which no key is known learns the first one; any other one is refused.
        "StrictHostKeyChecking": "accept-new",
        # A record of the domain name system is no proof, and Debian has OpenSSH hash the names of
        # hosts: ``known_hosts`` could not tell whose such a line is.
        "VerifyHostKeyDNS": "no",
        "HashKnownHosts": "no",
        "UpdateHostKeys": "no",
        "CheckHostIP": "no",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
    }


def host_of(workspace: Workspace) -> str:
    """Return the host of ``config-ssh`` that a workspace is."""
    name = str(workspace.raw["name"])
    return HOST_PREFIX + (name if NAME.fullmatch(name) else workspace.id)


def carrier(hub: Hub, connection: Connection) -> list[str] | None:
    """Return the program whose input and output are the connection; None: TCP to host and port.

    Raises:
        SignInError: gcloud is not there.
    """
    if connection.kind == "iap":
        return [
            gcloud_program(), "compute", "start-iap-tunnel", connection.instance_name, "22",
            "--listen-on-stdin", f"--project={connection.project_id}", f"--zone={connection.zone}",
            "--verbosity=warning", *account_flags(hub),
        ]  # fmt: skip
    if connection.jump is None:
        return None
    jump = connection.jump
    # The person's own configuration: it says how they get to their bastion.
    options = ["-p", str(jump.port)] if jump.port else []
    options += ["-l", jump.user] if jump.user else []
    host = connection.host or ""
    target = f"[{host}]:{connection.port}" if ":" in host else f"{host}:{connection.port}"
    return [find_program("ssh"), *options, "-W", target, "--", jump.host]


def get_in(app: App, name: str, *, stops_again: bool = False) -> Way:
    """Return the way into a workspace for a person: what sleeps is started, and waited for.

    Args:
        app: the run.
        name: the workspace.
        stops_again: whether what this starts is to be stopped again: it is marked so for
            ``Connected.leave``, and stopped here if it cannot be entered.

    Raises:
        CommandError: it cannot be entered; the message says why.
    """
    return _enter(app, app.find(name), stops_again=stops_again)


def get_through(app: App, workspace: Workspace, *, is_person: bool) -> Way:
    """Return the way into a workspace for OpenSSH, which connects by itself.

    Args:
        app: the run.
        workspace: the workspace.
        is_person: whether a person waits for it. If not, nothing is started.

    Raises:
        AsleepError: it is not running, and nothing may start it.
        CommandError: it cannot be entered.
    """
    if is_person:
        return _enter(app, workspace)
    value = _peek(app, workspace)
    workspace = workspace_of(value)
    kind = workspace.operation.kind if workspace.operation else None
    is_ready = workspace.status == "READY" and workspace.is_settled
    if kind not in {"CREATE", "START"} and not is_ready:
        from workspace_cli import words  # noqa: PLC0415  # only here

        other = "" if _is_current(app) else f" --hub {app.hub().name}"
        raise AsleepError(
            f"{workspace.name} is {words.status(workspace)}; nobody at a terminal asks for it, so "
            f"it is not started. To start it: workspace start {workspace.name}{other}"
        )
    return _complete(app, value)


def find_host(app: App, host: str) -> Workspace:
    """Return the workspace of a host ``workspace.NAME``, or of a name or id.

    Editors make hosts lower case. So a name counts that differs only in this, if it is the only
    one.

    Raises:
        CommandError: see ``App.find``.
    """
    name = host.removeprefix(HOST_PREFIX)
    try:
        return app.find(name)
    except WorkspaceNotFoundError:
        everything = [workspace_of(each) for each in app.client().workspaces()]
        alike = [each for each in everything if each.name.lower() == name.lower()]
        if len(alike) != 1:
            raise
        return alike[0]


def user_at(app: App, files: Files, workspaces: Sequence[Workspace]) -> str:
    """Return the person's user name at a Hub's machines, which OS Login knows.

    Raises:
        CommandError: it cannot be had.
    """
    given = next((one.raw.get("project_id") for one in workspaces), None)
    project = None if given is None else check_project(given)
    return ensure_registered(
        app.hub(), files.folder, ensure_key(files.key), project, app.console.note
    )


def _is_current(app: App) -> bool:
    return app.store.read().current == app.hub().name


def _enter(app: App, workspace: Workspace, *, stops_again: bool = False) -> Way:
    if workspace.is_being_deleted:
        raise RefusedError(f"{workspace.name} is being deleted")
    slept = workspace.is_settled and workspace.status in _SLEEPS
    value = _ask(app, workspace)
    operation = workspace_of(value).operation
    is_started = slept and operation is not None and operation.kind == "START"
    to_be_stopped = is_started and stops_again
    try:
        way = _complete(app, value, to_be_stopped=to_be_stopped)
        if way.connection.kind == "iap":
            trial = way.ssh("-T", "-o", "BatchMode=yes", command="exit 0")
            wait_until_let_in(way.files.entered, way.connection.alias, trial, app.console.note)
    except BaseException:
        if to_be_stopped:
            _stop_again(app, workspace)
        raise
    return way


def _stop_again(app: App, workspace: Workspace) -> None:
    try:
        app.client().stop(workspace.id)
        app.console.note(f"{workspace.name} is going to sleep again.")
    except CommandError as error:
        app.console.warn(f"{workspace.name} runs on: {error.message}")
        app.console.note(f"  workspace stop {workspace.name}")


def _complete(app: App, value: Any, *, to_be_stopped: bool = False) -> Way:
    """Return the way into a workspace that is ready, or about to be.

    Args:
        app: the run.
        value: the workspace with ``connection``, as the Hub has just answered it.
        to_be_stopped: whether this run has started it, and wants it stopped by whoever leaves last.
    """
    hub = app.hub()
    workspace = workspace_of(value)
    files = Files(app.store.folder / "ssh" / hub.name)
    connected = Connected(files.in_use(workspace.id))
    if to_be_stopped:
        connected.mark_started()
    if workspace.status != "READY" or not workspace.is_settled:
        _follow(app, workspace, "READY")
        value = _peek(app, workspace)
        workspace = workspace_of(value)
    connection = _read(app, value)
    if connection.access == "pending":
        connection = _wait_for_grant(app, workspace, connection)
    if connection.access == "refused":
        raise RefusedError(
            f"you may not enter {workspace.name}: {connection.why or 'the Hub says no reason'}",
            hint="ask whoever runs this Hub",
        )
    if connection.kind == "direct" and connection.host is None:
        raise NotUnderstoodError(
            f"the Hub does not know the address of {workspace.name}'s machine",
            hint=f"workspace show {workspace.name}",
        )
    key = ensure_key(files.key)
    user = ensure_registered(hub, files.folder, key, connection.project_id, app.console.note)
    known_hosts.remember(
        files.known_hosts, connection.alias, connection.host_key, host=host_of(workspace)
    )
    return Way(
        hub=hub,
        workspace=workspace,
        connection=connection,
        user=connection.user or user,
        files=files,
        connected=connected,
    )


def _ask(app: App, workspace: Workspace) -> Any:
    """Have the Hub start a workspace if it sleeps; return it with ``connection``.

    What is under way is waited for: a STOP until it sleeps, a CREATE until it is ready, and a
    SNAPSHOT until it has ended.
    """
    client = app.client()
    tries = 0
    while True:
        tries += 1
        try:
            return client.connect(workspace.id, device(), start=True)
        except PathUnknownError:  # a Hub before 0.2
            if workspace.is_settled and workspace.status in _SLEEPS:
                client.start(workspace.id)
            return client.status(workspace.id)
        except RefusedError as error:
            if error.code != "OPERATION_UNDER_WAY" or tries > 5:
                raise
        workspace = workspace_of(client.workspace(workspace.id))
        if workspace.is_being_deleted:
            raise RefusedError(f"{workspace.name} is being deleted")
        if workspace.operation is not None and workspace.is_settled:
            from workspace_cli.following import await_snapshot  # noqa: PLC0415  # as in _follow

            await_snapshot(app, workspace)
        elif workspace.operation is not None:
            ends_off = workspace.operation.kind in {"STOP", "ARCHIVE"}
            _follow(app, workspace, "SUSPENDED" if ends_off else "READY")


def _peek(app: App, workspace: Workspace) -> Any:
    """Return the workspace with ``connection``, and change nothing."""
    try:
        return app.client().connect(workspace.id, device(), start=False)
    except PathUnknownError:
        return app.client().status(workspace.id)


def _follow(app: App, workspace: Workspace, status: str) -> None:
    from workspace_cli.following import Goal, follow  # noqa: PLC0415  # only if there is a wait

    [outcome] = follow(app, [workspace], Goal(status))
    if outcome.error is not None:
        raise outcome.error


def _read(app: App, value: Any) -> Connection:
    """Return the machine of a Hub's answer, after the person has agreed to the way there."""
    given = value.get("connection") if isinstance(value, dict) else None
    wanted = agreed(app, connect_of(given))
    return read_connection(given, wanted, local=app.hub().sign_in.kind == "local")


def _wait_for_grant(app: App, workspace: Workspace, connection: Connection) -> Connection:
    app.console.note(
        f"The Hub is giving you the right to enter {workspace.name}"
        + (f" ({connection.why})" if connection.why else "")
        + f". Waiting up to {_GRANT_SECONDS:g} s …"
    )
    deadline = time.monotonic() + _GRANT_SECONDS
    while connection.access == "pending":
        if time.monotonic() > deadline:
            raise NotInTimeError(
                f"the right to enter {workspace.name} has not come within {_GRANT_SECONDS:g} s"
                + (f": {connection.why}" if connection.why else ""),
                hint="the Hub tries again by itself: try later",
            )
        time.sleep(_GRANT_PAUSE_SECONDS)
        connection = _read(app, _peek(app, workspace))
    return connection
