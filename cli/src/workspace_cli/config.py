"""The Hubs that a person has signed in to, and what was agreed with each of them.

``config.json`` in the configuration folder holds them; ``credentials/NAME.json`` beside it holds a
Hub's tokens (``sign_in/``). Both are readable by the person only, and replaced whole. The folder is
``$WORKSPACE_CONFIG_DIR``, or the platform's own (Linux: ``~/.config/workspace-hub``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs

from workspace_cli import UPGRADE
from workspace_cli.errors import CommandError, SignInError, WorkspaceNotFoundError, WrongUsageError
from workspace_cli.files import locked, read_object, replace_object
from workspace_cli.text import one_line

_VERSION = 1
_APPLICATION = "workspace-hub"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """How the person proves who they are, fixed at login: a Hub cannot change it afterwards.

    Attributes:
        kind: ``gcloud``, ``oauth``, ``iap``, ``service_account``, ``local`` or ``token``
            (``WORKSPACE_TOKEN``, not stored).
        audience: whom tokens are for; None: gcloud's own.
        client_id: the OAuth client's id, of ``oauth`` and ``iap``.
        client_secret: what Google calls the secret of a desktop client, and does not treat as one.
        account: the service account to impersonate; the person's address of ``local``.
        state_file: the local cloud's state file, absolute.
    """

    kind: str
    audience: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    account: str | None = None
    state_file: str | None = None


@dataclass(frozen=True, kw_only=True)
class Connect:
    """How machines of a Hub are reached, as the person has accepted it.

    Attributes:
        kind: ``iap`` or ``direct``.
        port: of ``direct``.
        jump: ``user@host:port`` of a bastion; None: none.
        user: the user name at the machine; None: that of the OS Login profile.
    """

    kind: str
    port: int = 22
    jump: str | None = None
    user: str | None = None


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A Hub that the person has signed in to.

    Attributes:
        name: what the person calls it, fit for a file name.
        address: ``https://host[:port][/path]``, without a slash at its end. That of a local cloud
            is read from its state file at each use.
        sign_in: how.
        connect: how machines are reached, as accepted; None: not accepted yet.
        email: who signed in, as the token said; for people's eyes.
    """

    name: str
    address: str
    sign_in: SignIn
    connect: Connect | None = None
    email: str | None = None


@dataclass(frozen=True)
class Config:
    """All of ``config.json``: the Hubs by name, and the one that is used by default."""

    hubs: Mapping[str, Hub] = field(default_factory=dict)
    current: str | None = None


class ConfigStore:
    """The configuration folder.

    Args:
        folder: where it is; by default as the module says.
    """

    def __init__(self, folder: Path | None = None) -> None:
        given = os.environ.get("WORKSPACE_CONFIG_DIR")
        self.folder = folder or (
            Path(given) if given else platformdirs.user_config_path(_APPLICATION)
        )
        self.path = self.folder / "config.json"

    def read(self) -> Config:
        """Return what is stored.

        Raises:
            CommandError: the file cannot be read, or a newer version of this command wrote it.
        """
        value = read_object(self.path)
        if value is None:
            return Config()
        if value.get("version") != _VERSION:
            raise CommandError(
                f"{self.path} is of a newer version of this command",
                hint=UPGRADE,
            )
        try:
            hubs = {name: _hub_of(name, entry) for name, entry in value["hubs"].items()}
            current = value["current"]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CommandError(
                f"{self.path} is not what this command has written",
                hint=f"correct it, or remove it and sign in again: {self.path}",
            ) from None
        return Config(hubs, current if current in hubs else None)

    def put(self, hub: Hub, *, use: bool) -> None:
        """Store a Hub in place of one with its name, and with ``use`` make it the current one."""
        with locked(self.path):
            config = self.read()
            current = hub.name if use or config.current is None else config.current
            self._write(Config({**config.hubs, hub.name: hub}, current))

    def use(self, name: str) -> Hub:
        """Make a Hub the current one, and return it.

        Raises:
            WorkspaceNotFoundError: there is none of this name.
        """
        with locked(self.path):
            config = self.read()
            hub = named(config, name)
            self._write(replace(config, current=name))
        return hub

    def remove(self, name: str) -> None:
        """Forget a Hub and its tokens. Another one becomes the current one only if it is alone."""
        with locked(self.path):
            config = self.read()
            left = {key: hub for key, hub in config.hubs.items() if key != name}
            current = config.current if config.current != name else None
            if current is None and len(left) == 1:
                [current] = left
            credentials = self.credentials(name)
            with locked(credentials):
                credentials.unlink(missing_ok=True)
            self._write(Config(left, current))

    def credentials(self, name: str) -> Path:
        """Return the file of a Hub's tokens."""
        return self.folder / "credentials" / f"{name}.json"

    def _write(self, config: Config) -> None:
        hubs = {
            name: {key: value for key, value in asdict(hub).items() if key != "name"}
            for name, hub in config.hubs.items()
        }
        replace_object(self.path, {"version": _VERSION, "current": config.current, "hubs": hubs})


def named(config: Config, name: str) -> Hub:
    """Return the Hub of a name.

    Raises:
        WorkspaceNotFoundError: there is none; the message has those that there are.
    """
    hub = config.hubs.get(name)
    if hub is None:
        there = ", ".join(sorted(config.hubs)) or "none"
        raise WorkspaceNotFoundError(
            f'there is no Hub "{one_line(name)}"; there are: {there}',
            hint="sign in to one: workspace login ADDRESS",
        )
    return hub


def chosen(config: Config, name: str | None) -> Hub:
    """Return the Hub that a command is for.

    Args:
        config: the Hubs.
        name: what ``--hub`` or ``WORKSPACE_HUB`` says; None: the current one. With
            ``WORKSPACE_TOKEN`` an address will do, of a Hub that nobody has signed in to here.

    Raises:
        WorkspaceNotFoundError: there is none of this name.
        SignInError: there is none at all, or none is the current one.
    """
    if name and "://" in name:
        address = checked_address(name)
        known = [hub for hub in config.hubs.values() if hub.address == address]
        if known:
            return known[0]
        if not os.environ.get("WORKSPACE_TOKEN"):
            raise SignInError(
                f"you have not signed in to {one_line(address)}",
                hint=f"workspace login {one_line(address)}",
            )
        return Hub(name="environment", address=address, sign_in=SignIn(kind="token"))
    if name:
        return named(config, name)
    if config.current is None:
        if config.hubs:
            there = ", ".join(sorted(config.hubs))
            raise SignInError("no Hub is chosen", hint=f"workspace use NAME; there are: {there}")
        raise SignInError("you have not signed in to a Hub", hint="workspace login ADDRESS")
    return config.hubs[config.current]


def checked_address(address: str) -> str:
    """Return a Hub's address in the one form in which addresses are compared.

    Raises:
        WrongUsageError: it is no address that a token may be sent to.
    """
    given = one_line(address)
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise WrongUsageError(f'"{given}" is not an address') from None
    if not re.fullmatch(r"[A-Za-z0-9.-]{1,253}|[0-9A-Fa-f:]{2,39}", host):
        raise WrongUsageError(f'"{given}" is not an address: https://hub.example.com is')
    if parts.username is not None or parts.query or parts.fragment:
        raise WrongUsageError(f'"{given}" has more than scheme, host, port and path')
    if not re.fullmatch(r"[A-Za-z0-9._~/-]*", parts.path):
        raise WrongUsageError(f'"{given}" has a path that no Hub has')
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        raise WrongUsageError(
            f'"{given}" is not https: whoever is on the way could take your token',
            hint="only a Hub on this machine may be http",
        )
    default = 443 if parts.scheme == "https" else 80
    where = f"[{host}]" if ":" in host else host.lower()
    suffix = "" if port in {None, default} else f":{port}"
    return f"{parts.scheme}://{where}{suffix}{parts.path.rstrip('/')}"


def _hub_of(name: str, entry: dict[str, Any]) -> Hub:
    if not NAME.fullmatch(name):
        raise ValueError(name)
    connect = entry.get("connect")
    return Hub(
        name=name,
        address=str(entry["address"]),
        sign_in=SignIn(**entry["sign_in"]),
        connect=Connect(**connect) if connect else None,
        email=entry.get("email"),
    )
