"""Copies a home, with everything in it that a disk would keep, while people may be changing it.

What is created, changed or removed meanwhile is in the copy as it was at some moment of copying, or
is not in it. Programs are not stopped for it.

Every name is looked up in an open folder, and every folder is opened in the one that it is in. So a
folder that becomes a symbolic link meanwhile leads nowhere, and a path may be longer than the
kernel takes at once. Only the current folder is open: folders may be as deep as they like.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_LOG = logging.getLogger(__name__)

_CHUNK_BYTES = 1024 * 1024
_SPECIAL = frozenset({stat.S_IFIFO, stat.S_IFSOCK})
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})  # or something else by now
# The file system has no such attribute, or not for this user.
_NO_ATTRIBUTE = frozenset({errno.ENOTSUP, errno.ENODATA, errno.EINVAL, errno.EPERM, errno.EACCES})


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


class _Attributes(NamedTuple):
    """What is kept of an entry besides its content: mode, times, extended attributes."""

    status: os.stat_result
    extended: dict[str, bytes]


@dataclass(frozen=True, eq=False)
class _Folder:
    """A folder that is being copied. The home has no parent, and no name."""

    name: str
    parent: _Folder | None
    attributes: _Attributes
    waiting: list[str]  # the folders in it that are still to be copied

    @property
    def names(self) -> list[str]:
        """The names that lead from the home to it."""
        names: list[str] = []
        folder = self
        while folder.parent is not None:
            names.append(folder.name)
            folder = folder.parent
        return names[::-1]


class _Copying:
    """One copy under way."""

    def __init__(self, source: Path, target: Path, is_given_up: Callable[[], bool]) -> None:
        self._source = source
        self._target = target
        self._is_given_up = is_given_up
        # Where in the copy the first link to a file is.
        self._hard_links: dict[tuple[int, int], tuple[_Folder, str]] = {}
        self._bytes = 0
        # The current folder, open: -1 if it is not, as when somebody has moved the source away.
        self._reading = self._writing = -1

    def copy(self) -> int:
        self._target.mkdir(mode=0o700, parents=True)
        with _opened(self._source) as self._home, _opened(self._target) as self._copy:
            try:
                self._go_to(_walk(self._home, ()), _walk(self._copy, ()))
                folder: _Folder | None = self._copy_entries("", None)
                while folder is not None:
                    if folder.waiting:
                        folder = self._enter(folder, folder.waiting.pop())
                    else:
                        folder = self._leave(folder)
            finally:
                self._go_to(-1, -1)
        return self._bytes

    def _go_to(self, reading: int, writing: int) -> None:
        """Close the current folder, and make another one the current one."""
        for opened in (self._reading, self._writing):
            if opened >= 0:
                os.close(opened)
        self._reading, self._writing = reading, writing

    def _enter(self, parent: _Folder, name: str) -> _Folder:
        """Begin to copy a folder in the current one, and return which one is current then."""
        try:
            status = os.stat(name, dir_fd=self._reading, follow_symlinks=False)
            reading = os.open(name, _FOLDER, dir_fd=self._reading)
        except OSError as error:
            self._left_out(parent, name, error)
            if error.errno not in _GONE:  # it may not be read, so what is in it is left out
                os.mkdir(name, 0o700, dir_fd=self._writing)
                self._give_unopened(parent, name, status)
            return parent
        try:
            os.mkdir(name, 0o700, dir_fd=self._writing)
            writing = os.open(name, _FOLDER, dir_fd=self._writing)
        except OSError:
            os.close(reading)
            raise
        self._go_to(reading, writing)
        return self._copy_entries(name, parent)

    def _leave(self, folder: _Folder) -> _Folder | None:
        """End with the current folder, and return the one that it is in."""
        parent = folder.parent
        # Before its mode may forbid that.
        writing = -1 if parent is None else os.open("..", _FOLDER, dir_fd=self._writing)
        # Last: a folder may be write-protected, and each entry that is made in it changes its time.
        self._give(folder, "", self._writing, folder.attributes)
        self._go_to(-1 if parent is None else self._found_again(parent), writing)
        if parent is not None and self._reading < 0:
            parent.waiting.clear()
        return parent

    def _found_again(self, folder: _Folder) -> int:
        """Open a folder that was left for one in it; return -1 if it is not there any more."""
        ways: list[tuple[int, Sequence[str]]] = [(self._home, folder.names)]
        if self._reading >= 0:  # mostly it is where it was
            ways.insert(0, (self._reading, ("..",)))
        for start, names in ways:
            try:
                opened = _walk(start, names)
            except OSError:
                continue
            if os.path.samestat(os.fstat(opened), folder.attributes.status):
                return opened
            os.close(opened)
        return -1

    def _copy_entries(self, name: str, parent: _Folder | None) -> _Folder:
        """Copy what is in the current folder, except for the folders in it."""
        folder = _Folder(name, parent, _attributes_of(self._reading), [])
        try:
            with os.scandir(self._reading) as entries:
                names = [entry.name for entry in entries]
        except OSError as error:
            self._left_out(folder, "", error)
            return folder
        for each in names:
            if self._is_given_up():
                raise GivenUpError
            if self._copy_entry(folder, each):
                folder.waiting.append(each)
        return folder

    def _copy_entry(self, folder: _Folder, name: str) -> bool:
        """Copy one entry, except for a folder, and return whether it is one."""
        try:
            status = os.stat(name, dir_fd=self._reading, follow_symlinks=False)
        except OSError as error:
            self._left_out(folder, name, error)
            return False
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            return True
        known = (status.st_dev, status.st_ino)
        if earlier := self._hard_links.get(known):
            self._link(*earlier, name)
            return False
        if kind == stat.S_IFREG:
            made = self._copy_file(folder, name)
        elif kind == stat.S_IFLNK:
            made = self._copy_link(folder, name)
        else:
            made = kind in _SPECIAL and self._copy_special(folder, name, kind)
        if made and kind != stat.S_IFREG:
            self._give_unopened(folder, name, status)
        if made and status.st_nlink > 1:
            self._hard_links[known] = (folder, name)
        return False

    def _link(self, folder: _Folder, name: str, new: str) -> None:
        """Make a hard link in the current folder of the copy to what is in another one of it."""
        there = _walk(self._copy, folder.names)
        try:
            os.link(name, new, src_dir_fd=there, dst_dir_fd=self._writing, follow_symlinks=False)
        finally:
            os.close(there)

    def _copy_link(self, folder: _Folder, name: str) -> bool:
        try:
            to = os.readlink(name, dir_fd=self._reading)
            path = Path(to)
            if path.is_absolute() and path.is_relative_to(self._source):
                to = str(self._target / path.relative_to(self._source))
            os.symlink(to, name, dir_fd=self._writing)
        except OSError as error:
            # The path within the copy may be too long for a link.
            if error.errno not in _GONE | {errno.EINVAL, errno.ENAMETOOLONG, errno.EACCES}:
                raise
            self._left_out(folder, name, error)
            return False
        return True

    def _copy_special(self, folder: _Folder, name: str, kind: int) -> bool:
        """Make a pipe or socket. macOS may not let everybody do that."""
        try:
            os.mknod(name, kind | 0o600, dir_fd=self._writing)
        except (NotImplementedError, PermissionError) as error:
            self._left_out(folder, name, error)
            return False
        return True

    def _copy_file(self, folder: _Folder, name: str) -> bool:
        """Copy the content of a file, up to the size that it has now. Holes stay holes."""
        try:
            reading = os.open(name, _FILE, dir_fd=self._reading)
        except OSError as error:
            self._left_out(folder, name, error)
            return False
        try:
            status = os.fstat(reading)
            if not stat.S_ISREG(status.st_mode):  # it was replaced
                return False
            writing = os.open(name, _NEW_FILE, 0o600, dir_fd=self._writing)
            try:
                os.ftruncate(writing, status.st_size)
                self._copy_content(reading, writing, status.st_size)
                self._give(folder, name, writing, _attributes_of(reading))
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

    def _give(self, folder: _Folder, name: str, opened: int, attributes: _Attributes) -> None:
        """Give attributes to what is open in the copy."""
        status = attributes.status
        try:
            os.utime(opened, ns=(status.st_atime_ns, status.st_mtime_ns))
            _extend(opened, attributes.extended)
            os.chmod(opened, stat.S_IMODE(status.st_mode))
        except OSError as error:
            self._left_out(folder, name, error)

    def _give_unopened(self, folder: _Folder, name: str, status: os.stat_result) -> None:
        """Give its attributes to an entry in the current folder that cannot be opened."""
        times = (status.st_atime_ns, status.st_mtime_ns)
        try:
            os.utime(name, ns=times, dir_fd=self._writing, follow_symlinks=False)
            extended = _extended_of(f"/proc/self/fd/{self._reading}/{name}")
            _extend(f"/proc/self/fd/{self._writing}/{name}", extended)
            if not stat.S_ISLNK(status.st_mode):
                os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=self._writing)
        except OSError as error:
            self._left_out(folder, name, error)

    def _left_out(self, folder: _Folder, name: str, error: Exception) -> None:
        """Say what is not in the copy, unless it is gone."""
        if not isinstance(error, OSError) or error.errno not in _GONE:
            path = "/".join([str(self._source), *folder.names, *([name] if name else [])])
            _LOG.warning("not copied: %s: %s", path, getattr(error, "strerror", None) or error)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    opened = os.open(folder, _FOLDER)
    try:
        yield opened
    finally:
        os.close(opened)


def _walk(start: int, names: Sequence[str]) -> int:
    """Open a folder, from an open one by one name after the other."""
    opened = os.dup(start)
    for name in names:
        outer = opened
        try:
            opened = os.open(name, _FOLDER, dir_fd=outer)
        finally:
            os.close(outer)
    return opened


def _attributes_of(opened: int) -> _Attributes:
    return _Attributes(os.fstat(opened), _extended_of(opened))


def _extended_of(entry: int | str) -> dict[str, bytes]:
    """Return the extended attributes of an open entry, or of the one at a path. Linux only."""
    found: dict[str, bytes] = {}
    if sys.platform == "linux":
        follows = isinstance(entry, int)
        with _if_there_are_any():
            for name in os.listxattr(entry, follow_symlinks=follows):
                with _if_there_are_any():
                    found[name] = os.getxattr(entry, name, follow_symlinks=follows)
    return found


def _extend(entry: int | str, extended: dict[str, bytes]) -> None:
    if sys.platform == "linux":
        for name, value in extended.items():
            with _if_there_are_any():
                os.setxattr(entry, name, value, follow_symlinks=isinstance(entry, int))


@contextmanager
def _if_there_are_any() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTE:
            raise


def _write(writing: int, data: bytes, at: int) -> int:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(writing, rest, at)
        rest, at = rest[written:], at + written
    return len(data)
