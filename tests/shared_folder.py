"""The lock by which the workers of pytest-xdist share what one of them starts."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file that is made for this."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
