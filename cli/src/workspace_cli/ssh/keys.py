"""The person's key for a Hub's machines: a pair of the command's own for each Hub.

The private key is only in ``ssh/HUB/id_ed25519`` below the configuration folder, for the person
only, without a passphrase: OS Login takes it for a day at a time. It is no key that is used for
anything else, and another Hub never sees it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from workspace_cli.errors import CommandError
from workspace_cli.files import locked

_SECONDS = 30.0
_LOCK_SECONDS = 2 * _SECONDS + 20.0  # it is made, then its public key is printed


def ensure_key(path: Path) -> str:
    """Return the public key of the pair at ``path``, which is made if it is not there.

    A private key that somebody else can read is closed again: OpenSSH would refuse it.

    Returns:
        ``ssh-ed25519 AAAA…``, without a comment.

    Raises:
        CommandError: OpenSSH is not installed, or the key cannot be made or read.
    """
    with locked(path, _LOCK_SECONDS):
        if not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        printed = _ssh_keygen("-y", "-P", "", "-f", str(path))
    return " ".join(printed.split()[:2])


def _make(path: Path) -> None:
    draft = path.with_name(f".{path.name}.draft")
    for left in (draft, draft.with_name(f"{draft.name}.pub")):
        left.unlink(missing_ok=True)  # by a process that was killed
    _ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", "workspace-hub", "-f", str(draft))
    draft.with_name(f"{draft.name}.pub").unlink(missing_ok=True)
    draft.replace(path)


def _ssh_keygen(*arguments: str) -> str:
    program = find_program("ssh-keygen")
    try:
        done = subprocess.run(  # noqa: S603  # every argument is ours
            [program, *arguments],
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
        )
    except (subprocess.SubprocessError, OSError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        raise CommandError(
            f"ssh-keygen failed: {said}",
            hint=f"if a key is damaged, remove it, and a new one is made: {arguments[-1]}",
        ) from None
    return done.stdout


def find_program(name: str) -> str:
    """Return the path of a program of OpenSSH.

    Raises:
        CommandError: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise CommandError(
            f"{name} is not installed",
            hint="install OpenSSH's client (Debian: apt-get install openssh-client)",
        )
    return os.path.abspath(found)  # noqa: PTH100  # a link to it stays one
