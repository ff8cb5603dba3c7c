"""The first entry into a new machine of Google's, which may take a while after the right is given.

IAM says that a change "typically takes two minutes" to hold everywhere
(https://cloud.google.com/iam/docs/access-change-propagation), and a machine's SSH server may start
after the workspace is READY. So the first time OpenSSH is tried until it is let in, without the
person's command. Which machines have let this person in is in ``entered.json``.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from workspace_cli.files import locked, read_object, replace_object

_SECONDS = 240.0
_TRY_SECONDS = 60.0
_PAUSE_SECONDS = 3.0
_MOST_KEPT = 200
_FAILED = 255
# OpenSSH: the key is not accepted. The tunnel (googlecloudsdk's iap_tunnel_websocket): not allowed,
# and nobody listens at the machine.
_PASSING = re.compile(r"Permission denied|\[?4033\b|not authorized|\[?4003\b|failed to connect")


def wait_until_let_in(
    path: Path, alias: str, arguments: Sequence[str], tell: Callable[[str], None]
) -> None:
    """Try OpenSSH until it is let in, unless this machine has let the person in before.

    It returns, too, if it never is, or fails for another reason: the person's own command then
    fails in the same way, and shows why.

    Args:
        path: the file of machines that have been entered.
        alias: the machine.
        arguments: OpenSSH's, with a command that does nothing.
        tell: is called with a line if it takes more than one try.
    """
    if alias in (read_object(path) or {}):
        return
    deadline = time.monotonic() + _SECONDS
    tries = 0
    while True:
        tries += 1
        said = _failure(arguments)
        if said is None:
            with locked(path):
                known = {**(read_object(path) or {}), alias: round(time.time())}
                latest = sorted(known, key=lambda each: float(known[each]))[-_MOST_KEPT:]
                replace_object(path, {each: known[each] for each in latest})
            return
        if not _PASSING.search(said) or time.monotonic() > deadline:
            return
        if tries == 1:
            tell(f"The machine does not let you in yet. Trying for up to {_SECONDS / 60:g} min …")
        time.sleep(_PAUSE_SECONDS)


def _failure(arguments: Sequence[str]) -> str | None:
    """Return what OpenSSH says of why it was not let in; None if it was."""
    try:
        done = subprocess.run(  # noqa: S603  # no shell; built by us
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TRY_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "failed to connect in time"
    return done.stderr if done.returncode == _FAILED else None
