"""The folders in which the homes of a local cloud are: one for each home disk and each snapshot.

All work on one folder is done one after the other, in the order in which it was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from threading import Event
from typing import NamedTuple

from localcloud.machines.home_copies import GivenUpError, copy_home
from localcloud.processes.reaper import remove
from localcloud.services.compute.resources import Disk, Snapshot

_LOG = logging.getLogger(__name__)


class Copy(NamedTuple):
    """What has come of copying content: whether all of it was, and how many bytes that took."""

    is_whole: bool
    stored_bytes: int


NOTHING_TO_COPY = Copy(is_whole=True, stored_bytes=0)
_FAILED = Copy(is_whole=False, stored_bytes=0)


class Homes:
    """The homes on the disks and in the snapshots of a local cloud.

    Args:
        folder: the folder of all homes; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: dict[Path, asyncio.Task[None]] = {}  # the last work on each folder
        self._copies: dict[Path, Copy | None] = {}
        self._given_up: dict[Path, Event] = {}
        self._notes: dict[Path, str] = {}  # of which workspace a home is, as noted beside it

    def of(self, resource: Disk | Snapshot) -> Path:
        """Return the folder of a disk or a snapshot. It need not exist: then it is empty."""
        kind = "homes" if isinstance(resource, Disk) else "snapshots"
        return self._folder / kind / str(resource.resource["id"])

    def copy(self, source: Disk | Snapshot, target: Disk | Snapshot) -> None:
        """Begin to copy a home to a disk or snapshot that has none; see ``copy_to``."""
        source_folder, folder = self.of(source), self.of(target)
        given_up = self._given_up[folder] = Event()
        self._copies[folder] = None
        if source_folder in self._notes:
            self._notes[folder] = self._notes[source_folder]

        async def work() -> None:
            copy = _FAILED
            try:
                stored = await asyncio.to_thread(copy_home, source_folder, folder, given_up.is_set)
                copy = Copy(is_whole=True, stored_bytes=stored)
            except GivenUpError:
                pass  # its end is the deletion of the folder
            except OSError:
                _LOG.exception("the home in %s cannot be copied", source_folder)
            if folder in self._copies:
                self._copies[folder] = copy

        self._then([source_folder, folder], work)

    def copy_to(self, resource: Disk | Snapshot) -> Copy | None:
        """Return what has come of copying to a disk or snapshot; None while it is under way."""
        return self._copies.get(self.of(resource), NOTHING_TO_COPY)

    def claim(self, disk: Disk, workspace_id: str) -> None:
        """Note on a disk of which workspace its home is, as a machine does when it boots.

        What would keep another workspace's machine awake goes: see ``claim_home`` in
        ``shared/boot/disk.sh``. A home that was restored is of the same workspace as before.
        """
        folder = self.of(disk)
        if self._notes.get(folder, workspace_id) != workspace_id:
            with contextlib.suppress(OSError):
                (folder / ".keep-awake").unlink()
        self._notes[folder] = workspace_id

    def delete(self, resource: Disk | Snapshot, before: Callable[[], Awaitable[None]]) -> None:
        """Delete the home of a disk or snapshot that no longer exists, when nobody uses it.

        Args:
            resource: the disk or snapshot.
            before: is awaited before.
        """
        folder = self.of(resource)
        self._copies.pop(folder, None)
        self._notes.pop(folder, None)
        if given_up := self._given_up.pop(folder, None):
            given_up.set()

        async def work() -> None:
            await before()
            await asyncio.to_thread(remove, folder)

        if folder in self._last or folder.exists():
            self._then([folder], work)

    async def stop(self) -> None:
        """Give up all copies, and wait until nothing is done any more."""
        for given_up in self._given_up.values():
            given_up.set()
        while self._last:
            await asyncio.wait(set(self._last.values()))
            await asyncio.sleep(0)  # until their callbacks were called

    def _then(self, folders: Sequence[Path], work: Callable[[], Awaitable[None]]) -> None:
        """Do work on folders when all earlier work on them is done."""
        earlier = {self._last[folder] for folder in folders if folder in self._last}

        async def do() -> None:
            if earlier:
                await asyncio.wait(earlier)
            try:
                await work()
            except Exception:  # noqa: BLE001  # what was asked for next is done all the same
                _LOG.exception("the homes %s", folders)

        task = asyncio.create_task(do())
        self._last.update(dict.fromkeys(folders, task))

        def forget(_: asyncio.Task[None]) -> None:
            for folder in folders:
                if self._last.get(folder) is task:
                    del self._last[folder]

        task.add_done_callback(forget)
