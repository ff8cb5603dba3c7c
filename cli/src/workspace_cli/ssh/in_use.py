"""Which workspaces this machine is connected to now, so that ``run --then-stop`` stops no other's.

Each connection holds a shared lock on a file of the workspace. The kernel releases it when the
process ends, however it ends. Connections from other machines are not seen.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_STARTED = b"started\n"


class Connected:
    """Holds that this process is connected to a workspace, until it ends or ``leave`` is called.

    Args:
        path: the workspace's file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _lock(self.descriptor, fcntl.LOCK_EX):  # nobody else is: what they left is over
            os.ftruncate(self.descriptor, 0)
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)

    def keep_in_children(self) -> None:
        """Let programs that this process becomes, or starts from now on, hold it too."""
        os.set_inheritable(self.descriptor, True)

    def mark_started(self) -> None:
        """Note that somebody who is connected has started the workspace, and wants it stopped."""
        os.pwrite(self.descriptor, _STARTED, 0)

    def leave(self) -> str:
        """End holding it.

        Returns:
            ``stop`` if nobody else is connected and somebody has started the workspace,
            ``others`` if somebody else is, ``leave`` if nobody has started it.
        """
        try:
            is_started = os.pread(self.descriptor, len(_STARTED), 0) == _STARTED
            if not is_started:
                return "leave"
            # Of two who leave at once, neither may believe that the other one stays.
            if not _lock(self.descriptor, fcntl.LOCK_EX):
                return "others"
            os.ftruncate(self.descriptor, 0)
            return "stop"
        finally:
            self.let_go()

    def let_go(self) -> None:
        """End holding it, without a word about who has started the workspace."""
        os.close(self.descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
