"""Copies a home, with everything in it that a disk would keep, while people may be changing it.

What is created, changed or removed meanwhile is in the copy as it was at some moment of copying, or
is not in it. Programs are not stopped for it.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

_LOG = logging.getLogger(__name__)

_CHUNK_BYTES = 1024 * 1024
_SPECIAL = frozenset({stat.S_IFIFO, stat.S_IFSOCK})


class GivenUpError(Exception):
    """Raised when nobody needs the copy any more."""


def copy_home(source: Path, target: Path, is_given_up: Callable[[], bool]) -> int:
    """Copy a folder with modes, times, links, holes, empty folders, pipes and sockets.

    Hard links within the folder remain such. A symbolic link that leads into the folder by its
    whole path leads into the copy, as on a real machine, where every home has the same path. What
    the owner may not read is left out. No symbolic link is followed.

    Args:
        source: the folder; if it does not exist, the copy does not either.
        target: the copy; it must not exist.
        is_given_up: is asked again and again.

    Returns:
        How many bytes of content were copied.

    Raises:
        GivenUpError: ``is_given_up`` says so. A part of the copy exists.
        OSError: the copy cannot be written. A part of it exists.
    """
    if not source.is_dir():
        return 0
    return _Copying(source, target, is_given_up).copy()


class _Copying:
    """One copy under way."""

    def __init__(self, source: Path, target: Path, is_given_up: Callable[[], bool]) -> None:
        self._source = source
        self._target = target
        self._is_given_up = is_given_up
        self._hard_links: dict[tuple[int, int], Path] = {}
        self._bytes = 0

    def copy(self) -> int:
        self._target.mkdir(mode=0o700, parents=True)
        folders = [(self._source, self._target)]
        for source, target in folders:  # it grows
            folders.extend(self._copy_entries(source, target))
        # Last, and the deepest first: a folder may be write-protected, and every entry that is made
        # in it changes its time.
        for source, target in reversed(folders):
            _copy_attributes(source, target)
        return self._bytes

    def _copy_entries(self, source: Path, target: Path) -> list[tuple[Path, Path]]:
        """Copy what is in a folder, and return the folders in it, which are empty yet."""
        try:
            names = _names_in(source)
        except OSError as error:
            _left_out(source, error)
            return []
        folders = []
        for name in names:
            if self._is_given_up():
                raise GivenUpError
            if self._copy_entry(source / name, target / name):
                folders.append((source / name, target / name))
        return folders

    def _copy_entry(self, source: Path, target: Path) -> bool:
        """Copy one entry, and return whether it is a folder."""
        try:
            status = source.lstat()
        except OSError as error:
            _left_out(source, error)
            return False
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            target.mkdir(mode=0o700)
            return True
        known = (status.st_dev, status.st_ino)
        if earlier := self._hard_links.get(known):
            os.link(earlier, target, follow_symlinks=False)
            return False
        if kind == stat.S_IFREG:
            made = self._copy_file(source, target)
        elif kind == stat.S_IFLNK:
            made = self._copy_link(source, target)
        else:
            made = kind in _SPECIAL
            if made:
                os.mknod(target, kind | 0o600)
        if made:
            _copy_attributes(source, target)
            if status.st_nlink > 1:
                self._hard_links[known] = target
        return False

    def _copy_link(self, source: Path, target: Path) -> bool:
        try:
            to = source.readlink()
        except OSError as error:
            _left_out(source, error)
            return False
        if to.is_absolute() and to.is_relative_to(self._source):
            to = self._target / to.relative_to(self._source)
        target.symlink_to(to)
        return True

    def _copy_file(self, source: Path, target: Path) -> bool:
        """Copy the content of a file, up to the size that it has now. Holes stay holes."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            reading = os.open(source, flags)
        except OSError as error:
            _left_out(source, error)
            return False
        try:
            status = os.fstat(reading)
            if not stat.S_ISREG(status.st_mode):  # it was replaced
                return False
            writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(writing, status.st_size)
                self._copy_content(reading, writing, status.st_size)
            finally:
                os.close(writing)
        finally:
            os.close(reading)
        return True

    def _copy_content(self, reading: int, writing: int, size: int) -> None:
        at = 0
        while at < size:
            try:
                at = os.lseek(reading, at, os.SEEK_DATA)
                end = min(os.lseek(reading, at, os.SEEK_HOLE), size)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return  # only a hole is left
            while at < end:
                if self._is_given_up():
                    raise GivenUpError
                data = os.pread(reading, min(_CHUNK_BYTES, end - at), at)
                if not data:  # it has become shorter
                    return
                at += _write(writing, data, at)
                self._bytes += len(data)


def _names_in(folder: Path) -> list[str]:
    """Return the names in a folder, which is not a symbolic link."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with os.scandir(opened) as entries:
            return [entry.name for entry in entries]
    finally:
        os.close(opened)


def _write(writing: int, data: bytes, at: int) -> int:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(writing, rest, at)
        rest, at = rest[written:], at + written
    return len(data)


def _copy_attributes(source: Path, target: Path) -> None:
    """Copy mode, times and extended attributes, as far as the source still exists."""
    try:
        shutil.copystat(source, target, follow_symlinks=False)
    except OSError as error:
        _left_out(source, error)


def _left_out(path: Path, error: OSError) -> None:
    """Say what is not in a copy, unless it is gone."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        _LOG.warning("not copied: %s: %s", path, error.strerror)
