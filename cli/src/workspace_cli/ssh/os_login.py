"""OS Login: the person's key is put into their profile for a day; the profile has their user name.

For Google's it is gcloud that speaks to the API, as gcloud's account. The local cloud has the same
calls on its identity server. What was registered is in ``registered.json`` beside the key, so that
a connection asks nobody as long as the key is valid for some hours.

Sources: ``gcloud compute os-login ssh-keys add --help`` and ``describe-profile --help``;
https://cloud.google.com/compute/docs/oslogin/rest/v1/users.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workspace_cli.config import Hub, SignIn
from workspace_cli.errors import CommandError, NotUnderstoodError, RefusedError, SignInError
from workspace_cli.files import locked, read_object, replace_object
from workspace_cli.ssh.connection import check_user
from workspace_cli.text import one_line

LIFETIME_SECONDS = 24 * 3600
_RENEW_SECONDS = 12 * 3600  # a key that is valid for less than this is registered again
GCLOUD_SECONDS = 90.0  # its first start on a machine compiles itself
_LOCK_SECONDS = 2 * GCLOUD_SECONDS + 20.0  # the key is added, then the profile is read
_EMAIL = re.compile(r"[A-Za-z0-9_.+'][A-Za-z0-9_.+'-]{0,63}@[A-Za-z0-9.-]{1,253}")


def ensure_registered(
    hub: Hub, folder: Path, public_key: str, project_id: str | None, tell: Callable[[str], None]
) -> str:
    """Have the person's profile hold a key for some hours at least, and return their user name.

    Args:
        hub: the Hub; its way to sign in says whose profile it is.
        folder: where the key is.
        public_key: ``ssh-ed25519 AAAA…``.
        project_id: a project whose OS Login they use, checked; None: gcloud's own.
        tell: is called with a line if it takes a moment.

    Raises:
        CommandError: another process has been registering for longer than both calls may take.
        SignInError: gcloud is not there, has no account, or does not answer in time.
        RefusedError: OS Login refuses.
        NotUnderstoodError: the profile has no user name.
    """
    path = folder / "registered.json"
    whose = {"key": public_key, **_whose(hub)}
    user = _known(path, whose)
    if user is not None:
        return user
    with locked(path, _LOCK_SECONDS):
        user = _known(path, whose)  # of several processes, the first one registers
        if user is not None:
            return user
        tell("Registering this computer's SSH key with OS Login, for a day")
        profile = (
            _register_locally(hub.sign_in, public_key)
            if hub.sign_in.kind == "local"
            else _register_by_gcloud(hub, folder, public_key, project_id)
        )
        user = _user_of(profile)
        expires_at = time.time() + LIFETIME_SECONDS
        replace_object(path, {"of": whose, "user": user, "expires_at": expires_at})
        return user


def forget_registration(folder: Path) -> None:
    """Have the next connection register the key again: somebody may have removed it."""
    (folder / "registered.json").unlink(missing_ok=True)


def _known(path: Path, whose: Mapping[str, str]) -> str | None:
    stored = read_object(path) or {}
    expires_at, user = stored.get("expires_at"), stored.get("user")
    if stored.get("of") != whose or not isinstance(expires_at, (int, float)):
        return None
    # A clock that was set back must not make a key last for ever.
    left = expires_at - time.time()
    return check_user(user) if _RENEW_SECONDS < left <= LIFETIME_SECONDS else None


def _whose(hub: Hub) -> dict[str, str]:
    """Return what tells one profile from another."""
    if hub.sign_in.kind == "local":
        # Another local cloud in the same folder does not know the keys of the one before.
        from workspace_cli.sign_in.local import read_cloud  # noqa: PLC0415  # only for this kind

        cloud = read_cloud(hub.sign_in)
        return {"person": hub.sign_in.account or "", "issuer": f"{cloud.identity} {cloud.secret}"}
    return {"person": " ".join(account_flags(hub))}


def account_flags(hub: Hub) -> list[str]:
    """Return the options with which gcloud is the person who has signed in to the Hub.

    The Hub gives rights to whom its token names. With a token of gcloud's that is gcloud's own
    account. Otherwise it may be another one, for which gcloud must have credentials too.
    """
    email = hub.email or ""
    if hub.sign_in.kind == "service_account" and hub.sign_in.account:
        email = hub.sign_in.account
    if not _EMAIL.fullmatch(email):
        return []
    if hub.sign_in.kind == "service_account" and hub.sign_in.account:
        return [f"--impersonate-service-account={email}"]
    return [f"--account={email}"] if hub.sign_in.kind in {"oauth", "iap"} else []


def gcloud_program() -> str:
    """Return the path of gcloud.

    Raises:
        SignInError: it is not installed.
    """
    found = shutil.which("gcloud")
    if found is None:
        raise SignInError(
            "gcloud is not on this machine; it carries the connection",
            hint="install the Google Cloud SDK, and sign in with it: gcloud auth login",
        )
    return os.path.abspath(found)  # noqa: PTH100  # a link to it stays one


def _register_by_gcloud(
    hub: Hub, folder: Path, public_key: str, project_id: str | None
) -> Mapping[str, Any]:
    project = [f"--project={project_id}"] if project_id else []
    flags = [*project, "--quiet", *account_flags(hub)]
    with tempfile.NamedTemporaryFile("w", prefix="public-key-", dir=folder) as file:
        file.write(public_key + "\n")
        file.flush()
        key = [f"--key-file={file.name}", f"--ttl={LIFETIME_SECONDS}s"]
        _gcloud(["compute", "os-login", "ssh-keys", "add", *key, *flags, "--format=none"])
    told = _gcloud(["compute", "os-login", "describe-profile", *flags, "--format=json"])
    try:
        profile = json.loads(told)
    except (ValueError, RecursionError):
        profile = None
    if not isinstance(profile, Mapping):
        raise NotUnderstoodError("gcloud's OS Login profile is not what it should be")
    return profile


def _gcloud(arguments: Sequence[str]) -> str:
    environment = {**os.environ, "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    try:
        done = subprocess.run(  # noqa: S603  # arguments of ours, or checked
            [gcloud_program(), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=GCLOUD_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SignInError(f"gcloud has not answered within {GCLOUD_SECONDS:g} s") from None
    except OSError as error:
        raise SignInError(f"gcloud cannot be run: {error.strerror}") from None
    if done.returncode:
        raise _refusal(done.stderr)
    return done.stdout


def _refusal(said: str) -> CommandError:
    lines = [line for line in said.splitlines() if line.strip()]
    first = next((line for line in lines if line.startswith("ERROR")), lines[0] if lines else "")
    text = f"OS Login does not take the key: {one_line(first or 'no reason')}"
    if "32 KiB" in said or "profile size" in said.lower():
        return RefusedError(
            text, hint="remove keys that nobody needs: gcloud compute os-login ssh-keys list"
        )
    if re.search(r"PERMISSION_DENIED|\b403\b", said):
        return RefusedError(
            text, hint="ask whoever runs this Hub whether your organisation allows OS Login"
        )
    return SignInError(text, hint="sign in with gcloud: gcloud auth login")


def _register_locally(sign_in: SignIn, public_key: str) -> Mapping[str, Any]:
    from workspace_cli.sign_in import local  # noqa: PLC0415  # only for this kind

    cloud = local.read_cloud(sign_in)
    user = f"/v1/users/{quote(sign_in.account or '', safe='@')}"
    until = round((time.time() + LIFETIME_SECONDS) * 1_000_000)
    body = {"key": public_key, "expirationTimeUsec": str(until)}
    local.call(cloud, "POST", f"{user}:importSshPublicKey", body)
    return local.call(cloud, "GET", f"{user}/loginProfile")


def _user_of(profile: Mapping[str, Any]) -> str:
    """Return the user name of the primary POSIX account, or else of the first one."""
    given = profile.get("posixAccounts")
    accounts = [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
    if not accounts:
        raise NotUnderstoodError(
            "your OS Login profile has no user name",
            hint="see what it has: gcloud compute os-login describe-profile",
        )
    primary = next((one for one in accounts if one.get("primary") is True), accounts[0])
    return check_user(primary.get("username"))
