"""Files of the person's own, changed so that they are whole at any moment."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from workspace_cli.errors import CommandError


def replace_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put a content in a file's place. After a kill it is the old content or the new one.

    A symbolic link stays one: people keep such files in a repository. What it points to is
    replaced. Permissions and, where it is allowed, the owner of a file that is there stay.

    Args:
        path: the file. Its folder is made, for the person only, if it is not there.
        content: all of it.
        mode: the permissions of a file that was not there.

    Raises:
        CommandError: it cannot be written.
    """
    target = Path(os.path.realpath(path))
    draft = None
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            _make_alike(file.fileno(), target, mode)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(target)
    except OSError as error:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
        raise CommandError(f"cannot write {path}: {error.strerror}") from None


def _make_alike(descriptor: int, target: Path, mode: int) -> None:
    try:
        before = target.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, mode)
        return
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
