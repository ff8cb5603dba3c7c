"""Files that several processes read and write: whole at any moment, and only the person's own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workspace_cli.errors import CommandError

_LOCK_SECONDS = 60.0  # see ``locked``
_POLL_SECONDS = 0.05
_LARGEST = 4 * 1024**2  # bytes


@contextlib.contextmanager
def locked(path: Path, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock that goes with a file, ``NAME.lock`` beside it, which is never removed.

    The kernel releases it when the process ends, however it ends.

    Args:
        path: the file.
        seconds: how long to wait for another process: longer than what is done under this lock may
            take. The default is enough for files, and for one call of another program or server.

    Raises:
        CommandError: another process has held it for too long, or nothing can be written there.
    """
    lock = path.with_name(f"{path.name}.lock")
    try:
        _make_folder(path.parent)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(f"cannot write {lock}: {error.strerror}") from None
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise CommandError(
                        f"another process has held {lock} for {seconds:g} s",
                        hint="end that process, or wait for it",
                    ) from None
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None if there is no such file.

    Raises:
        CommandError: it cannot be read, or is no JSON object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    try:
        value = json.loads(content) if len(content) <= _LARGEST else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CommandError(
            f"{path} is not what this command has written", hint=f"correct it, or remove it: {path}"
        )
    return value


def replace_object(path: Path, value: dict[str, Any]) -> None:
    """Put a JSON object in a file's place, readable by the person only.

    A reader, and whoever comes after a kill, finds the old content or the new one. Call it with the
    file's lock held. A link stays a link: people keep such files elsewhere.

    Raises:
        CommandError: it cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        _make_folder(target.parent)
        for left in target.parent.glob(f".{target.name}.*.draft"):  # by a process that was killed
            left.unlink(missing_ok=True)
        draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=2, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from None


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, for the person only. What there is stays as it is."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
