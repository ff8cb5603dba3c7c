"""The local cloud, which signs for whoever can read its state file."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from workspace_cli.config import LOOPBACK, SignIn, checked_address
from workspace_cli.errors import CommandError, NoAnswerError, SignInError, WrongUsageError
from workspace_cli.files import read_object
from workspace_cli.sign_in.tokens import Minted, checked

STATE_FILE = Path(".localcloud") / "state.json"
_SECONDS = 30.0


@dataclass(frozen=True)
class LocalCloud:
    """A running local cloud: addresses of the Hub and of its identity server, and its secret."""

    address: str
    identity: str
    secret: str | None


def find_state_file() -> Path:
    """Return the state file: ``LOCALCLOUD_STATE``, or that of this folder or one above it.

    Raises:
        NoAnswerError: there is none.
    """
    named = os.environ.get("LOCALCLOUD_STATE")
    if named:
        return Path(named).absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / STATE_FILE).is_file():
            return folder / STATE_FILE
    raise NoAnswerError(
        "no local cloud is running in this folder or above it", hint="start one: nox -s local"
    )


def read_cloud(sign_in: SignIn) -> LocalCloud:
    """Return the local cloud of a state file.

    A folder from elsewhere may bring such a file. So it must be the person's own, and name nothing
    but this machine.

    Raises:
        NoAnswerError: it is not running.
        CommandError: the file is not what a local cloud of the person's own has written.
    """
    path = Path(sign_in.state_file or STATE_FILE)
    state = read_object(path)
    if state is None or not _is_running(state):
        raise NoAnswerError(
            f"no local cloud is running ({path})", hint="start it in its folder: nox -s local"
        )
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CommandError(f"{path} can be written by others, so it is not believed")
    try:
        address, identity = state["address"], state["services"]["identity"]
        secret = state.get("secret")
        address, identity = checked_address(address), checked_address(identity)
    except (KeyError, TypeError, AttributeError, WrongUsageError):
        raise CommandError(f"{path} is not what a local cloud writes") from None
    if {urlsplit(address).hostname, urlsplit(identity).hostname} - LOOPBACK:
        raise CommandError(f"{path} names another machine than this one, so it is not believed")
    return LocalCloud(address, identity, secret if isinstance(secret, str) else None)


def mint(sign_in: SignIn) -> Minted:
    """Return a token of the local issuer for the person of ``sign_in.account``."""
    cloud = read_cloud(sign_in)
    body = {"email": sign_in.account, "audience": cloud.address}
    answer = call(cloud, "POST", "/tokens", body)
    return Minted(checked(str(answer.get("token", "")), "the local cloud"))


def call(cloud: LocalCloud, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Return what the local cloud's identity server answers to a call with the secret.

    Raises:
        NoAnswerError: it does not answer.
        SignInError: it refuses.
    """
    import requests  # noqa: PLC0415  # 0.1 s

    headers = {"Authorization": f"Bearer {cloud.secret}"} if cloud.secret else {}
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.request(
                method,
                f"{cloud.identity}{path}",
                json=body,
                headers=headers,
                timeout=_SECONDS,
                allow_redirects=False,
            )
            value = json.loads(answer.content)
        except (requests.RequestException, ValueError):
            raise NoAnswerError(
                f"the local cloud's issuer at {cloud.identity} does not answer as one"
            ) from None
    if not answer.ok or not isinstance(value, dict):
        raise SignInError(f"the local cloud's issuer refuses this ({answer.status_code})")
    return value


def _is_running(state: dict[str, Any]) -> bool:
    try:
        os.kill(int(state["pid"]), 0)
    except (KeyError, TypeError, ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
