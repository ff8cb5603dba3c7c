"""The file that describes a running local cloud, by default ``.localcloud/state.json``.

It is written when the cloud is ready and whenever a process id changes, and removed when the cloud
ends. Beside it is a lock, which the cloud holds from its first moment until all that it leaves
behind is removed: two clouds never use the same files, and a state that was left by a crash of the
whole machine is not taken for that of a running cloud. The file's members:

    address        the public address, a URL without a slash at its end
    project_id, project_number, region, zones
    pid, reaper_pid
    secret         what calls to the identity server and the control APIs have in ``Authorization``,
                   after ``Bearer``. Only the file's owner can read it
    folder         the temporary folder
    emulators      what stands in for Firestore and Pub/Sub: ``embedded`` or ``google``
    started_at     RFC 3339
    ready_seconds  how long it took to start
    services       the addresses of firestore, pubsub, tasks (host:port), compute, identity and
                   control (URLs)
    functions      for each: url (its front), direct_url (its own process), log, and pid: null if
                   it does not run, because nothing has called it or because it has ended
    processes      for each other process: pid, log. They are firestore, with Google's emulators
                   pubsub, and each machine that somebody has entered, by its instance's name
    log            the log of the cloud itself
    requests       the file of ``services/requests_file.py``; null if it is not written
    environment    the settings of the Hub that every function has. An administrator who was added
                   later is only in the settings of the functions for people
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any

DEFAULT_STATE_FILE = Path(".localcloud") / "state.json"


class NoCloudError(Exception):
    """No local cloud is running; the message names the state file."""


def read_state(path: Path) -> dict[str, Any]:
    """Return the state of the running cloud.

    Raises:
        NoCloudError: none is running.
    """
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        os.kill(state["pid"], 0)
        is_running = _is_held(_lock_file(path))
    except (OSError, ValueError, KeyError):
        is_running = False
    if not is_running:
        raise NoCloudError(
            f"No local cloud is running ({path}). Start one with: nox -s local"
        ) from None
    return state


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Replace the file at once: a reader gets either the old or the new state.

    Nobody but its owner can read it, from its first moment on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(state, indent=2) + "\n")
    draft.replace(path)


class StateLock:
    """The lock of a state file, held by this process and by those that inherit ``descriptor``.

    Raises:
        BlockingIOError: somebody else holds it, or looks whether it is held.
    """

    def __init__(self, state_file: Path) -> None:
        self.path = _lock_file(state_file)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self.descriptor)
            raise
        if not self._is_the_file():
            os.close(self.descriptor)
            raise BlockingIOError(f"Who held {self.path} has just removed it.")

    def release(self) -> None:
        """Remove the file, unless that has been done, and release the lock."""
        if self._is_the_file():
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)

    def _is_the_file(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self.descriptor), self.path.stat())
        return False


def _lock_file(state_file: Path) -> Path:
    return state_file.with_name(f"{state_file.name}.lock")


def _is_held(path: Path) -> bool:
    """Return whether a process holds a lock.

    Raises:
        OSError: there is no such file.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def log_files(state: dict[str, Any]) -> dict[str, Path]:
    """Return every log file, by the name of the process that writes it."""
    named = {**state["functions"], **state["processes"], "cloud": state}
    return {name: Path(entry["log"]) for name, entry in named.items()}
