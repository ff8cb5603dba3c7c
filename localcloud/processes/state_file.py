"""The file by which a running local cloud is found, `.localcloud/state.json` unless another is named.

It is written when the cloud is ready, again whenever a process id changes, and is gone when the
cloud is. Its members:

    address        the public address, a URL without a slash at its end
    project_id, project_number, region, zones
    pid, reaper_pid
    folder         the temporary folder
    started_at     RFC 3339
    ready_seconds  how long it took to start
    services       the addresses of firestore, pubsub, tasks (host:port), compute, identity, control (URLs)
    functions      for each: url (its front), direct_url (its own process), pid, log
    processes      for each other process, firestore and pubsub: pid, log
    log            the log of the cloud itself
    requests       the file of `localcloud.services.requests_file`; null where none is written
    environment    the settings of the Hub that every function has; of an administrator made later the functions for people only know
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

DEFAULT_STATE_FILE: Final = Path(".localcloud") / "state.json"


class NoCloudError(Exception):
    """No local cloud runs here; the message says where it was looked for."""


def read_state(path: Path) -> dict[str, Any]:
    """Return the state of the cloud that runs.

    Raises:
        NoCloudError: none does.
    """
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        os.kill(state["pid"], 0)
    except (OSError, ValueError, KeyError):
        raise NoCloudError(
            f"No local cloud is running ({path}). Start one with: nox -s local"
        ) from None
    return state


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write the file in one piece: whoever reads it finds the whole old or the whole new state."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def log_files(state: dict[str, Any]) -> dict[str, Path]:
    """Return every log file by the name of what writes it."""
    named = {**state["functions"], **state["processes"], "cloud": state}
    return {name: Path(entry["log"]) for name, entry in named.items()}
