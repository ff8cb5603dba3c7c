"""Copies of homes, of all that people put into them."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import stat
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from localcloud.machines import home_copies
from localcloud.machines.home_copies import GivenUpError, copy_home
from localcloud.machines.homes import NOTHING_TO_COPY, Copy, Homes
from localcloud.services.compute.resources import Disk, Snapshot

MEBIBYTE = 1024 * 1024


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return an empty home."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home


@pytest.fixture
def copied(tmp_path: Path, home: Path) -> Callable[[], Path]:
    """Copy the home, and return the copy."""

    def copy() -> Path:
        target = tmp_path / "kept" / "copy"
        copy_home(home, target, lambda: False)
        return target

    return copy


def test_a_copy_has_content_modes_times_and_empty_folders(
    home: Path, copied: Callable[[], Path]
) -> None:
    """Also of what is write-protected, such as the module cache of Go."""
    module = home / "go" / "module"
    module.mkdir(parents=True)
    (module / "a.go").write_bytes(b"\0package")
    (module / "a.go").chmod(0o444)
    os.utime(module / "a.go", ns=(1, 1_000_000_001))
    module.chmod(0o555)
    (home / "empty").mkdir(mode=0o750)
    (home / "run").write_text("#!/bin/sh")
    (home / "run").chmod(0o755)
    os.utime(home, ns=(1, 2_000_000_002))

    copy = copied()

    def described(folder: Path) -> dict[str, tuple[str, int, int | None]]:
        found = {}
        for path in [folder, *folder.rglob("*")]:
            status = path.stat()
            size = status.st_size if path.is_file() else None
            mode = stat.filemode(status.st_mode)
            found[str(path.relative_to(folder))] = (mode, status.st_mtime_ns, size)
        return found

    assert described(copy) == described(home)
    assert (copy / "go/module/a.go").read_bytes() == b"\0package"


def test_links_lead_where_they_led_within_the_copy(
    home: Path, copied: Callable[[], Path], tmp_path: Path
) -> None:
    """A link by the home's whole path too, so it does not lead into another home."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("of somebody else")
    (home / "file").write_text("mine")
    (home / "relative").symlink_to("file")
    (home / "absolute").symlink_to(home / "file")
    (home / "away").symlink_to(outside)
    (home / "broken").symlink_to("none")
    os.link(home / "file", home / "hard")

    copy = copied()

    links = {name: str((copy / name).readlink()) for name in ("relative", "away", "broken")}
    assert links == {"relative": "file", "away": str(outside), "broken": "none"}
    assert (copy / "absolute").readlink() == copy / "file"
    assert (copy / "hard").samefile(copy / "file")
    assert not (copy / "hard").samefile(home / "file")
    (home / "file").write_text("changed")
    assert (copy / "absolute").read_text() == "mine"


def test_a_sparse_file_stays_sparse(home: Path, copied: Callable[[], Path]) -> None:
    """Holes are neither read nor written, also at the end."""
    with (home / "disk.img").open("wb") as file:
        file.seek(64 * MEBIBYTE)
        file.write(b"middle")
        file.truncate(1024 * MEBIBYTE)

    copy = copied() / "disk.img"

    assert copy.stat().st_size == 1024 * MEBIBYTE
    assert copy.stat().st_blocks * 512 < MEBIBYTE
    with copy.open("rb") as file:
        file.seek(64 * MEBIBYTE)
        assert file.read(6) == b"middle"


def test_pipes_and_sockets_are_copied_without_being_opened(
    home: Path, copied: Callable[[], Path]
) -> None:
    """To open a pipe that nobody writes to would never end."""
    os.mkfifo(home / "pipe", 0o620)
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(home, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{folder}/socket")
        finally:
            os.close(folder)

    copy = copied()

    assert stat.S_ISFIFO((copy / "pipe").lstat().st_mode)
    assert stat.S_ISSOCK((copy / "socket").lstat().st_mode)


@pytest.mark.parametrize("question", range(1, 8))
def test_a_folder_that_becomes_a_link_lets_nothing_in(
    home: Path, tmp_path: Path, question: int
) -> None:
    """Whenever that is: the copy has what was in it, or nothing."""
    outside = tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    for name in ("key", "b/key"):
        (outside / name).write_text("of somebody else")
    (home / "a" / "b").mkdir(parents=True)
    for name in ("key", "b/key", "b/own"):
        (home / "a" / name).write_text("mine")
    asked = 0

    def is_given_up() -> bool:
        nonlocal asked
        asked += 1
        if asked == question:
            (home / "a").rename(home / "c")
            (home / "a").symlink_to(outside)
        return False

    copy_home(home, tmp_path / "copy", is_given_up)

    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert {path.read_text() for path in files} <= {"mine"}


def test_what_is_beside_a_folder_that_is_moved_or_removed_is_copied(
    home: Path, tmp_path: Path
) -> None:
    """The way back from it leads elsewhere, or nowhere."""
    names = [f"{number}" for number in range(6)]
    for name in names:
        (home / "a" / name).mkdir(parents=True)
        (home / "a" / name / "file").write_text("mine")
    (home / "elsewhere").mkdir()
    left: list[str] = []

    def is_given_up() -> bool:
        for name in names:
            if (copy / "a" / name).exists() and name not in left:
                left.append(name)
                if len(left) % 2:
                    (home / "a" / name).rename(home / "elsewhere" / name)
                else:
                    shutil.rmtree(home / "a" / name)
        return False

    copy = tmp_path / "copy"
    copy_home(home, copy, is_given_up)

    assert sorted(path.name for path in (copy / "a").iterdir()) == names


def test_paths_longer_than_the_kernel_takes_are_copied(
    home: Path, copied: Callable[[], Path]
) -> None:
    """With links of both kinds, modes and times, and more folders than a process may have open."""
    with _innermost(home, make=True) as folder:
        _write_file(folder, "file")
        os.link("file", "hard", src_dir_fd=folder, dst_dir_fd=folder)
        os.symlink("file", "link", dir_fd=folder)
        os.utime("link", ns=(1, 2), dir_fd=folder, follow_symlinks=False)
        os.mkfifo("pipe", 0o620, dir_fd=folder)
        os.utime("file", ns=(1, 2), dir_fd=folder)
        os.chmod("file", 0o440, dir_fd=folder)
    before = len(list(Path("/dev/fd").iterdir()))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 30, hard))
    try:
        copy = copied()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(list(Path("/dev/fd").iterdir())) == before
    with _innermost(copy) as folder:
        status = os.stat("file", dir_fd=folder)
        assert (status.st_nlink, status.st_mtime_ns, status.st_size) == (2, 2, 4)
        assert stat.S_IMODE(status.st_mode) == 0o440
        assert os.path.samestat(os.stat("hard", dir_fd=folder), status)
        assert os.readlink("link", dir_fd=folder) == "file"
        assert os.stat("link", dir_fd=folder, follow_symlinks=False).st_mtime_ns == 2
        assert stat.S_ISFIFO(os.stat("pipe", dir_fd=folder).st_mode)


@contextmanager
def _innermost(folder: Path, *, make: bool = False) -> Iterator[int]:
    """Open the innermost of a hundred folders in each other, to which no path leads."""
    inner = os.open(folder, os.O_RDONLY)
    for _ in range(100):
        if make:
            os.mkdir("d" * 200, dir_fd=inner)
        outer, inner = inner, os.open("d" * 200, os.O_RDONLY, dir_fd=inner)
        os.close(outer)
    yield inner
    os.close(inner)


def _write_file(folder: int, name: str) -> None:
    opened = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder)
    os.write(opened, b"mine")
    os.close(opened)


@pytest.mark.parametrize("length", range(4088, 4096))
def test_a_path_as_long_as_the_kernel_takes_does_not_stop_a_copy(
    home: Path, copied: Callable[[], Path], length: int
) -> None:
    """The copy's own folder may have a longer path, and then so has every file in it."""
    path = str(home)
    while length - len(path) > 300:
        path += "/" + "d" * 200
    Path(path).mkdir(parents=True)
    path += "/" + "e" * ((length - len(path)) // 2 - 1)
    Path(path).mkdir()
    path += "/" + "f" * (length - len(path) - 1)
    Path(path).write_text("mine")
    (home / "link").symlink_to(path)

    copy = copied()

    assert sum(len(files) for _, _, files, _ in os.fwalk(copy)) in (1, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="Python knows extended attributes of Linux")
def test_extended_attributes_are_copied(home: Path, copied: Callable[[], Path]) -> None:
    """Of files and folders, also of what is write-protected."""
    (home / "folder").mkdir()
    (home / "file").write_text("mine")
    for name in ("folder", "file"):
        os.setxattr(home / name, "user.said", name.encode())
        (home / name).chmod(0o500)

    copy = copied()

    for name in ("folder", "file"):
        assert os.getxattr(copy / name, "user.said") == name.encode()


def test_a_home_that_does_not_exist_has_no_copy(tmp_path: Path) -> None:
    """Nobody has entered a machine on it yet."""
    assert copy_home(tmp_path / "none", tmp_path / "copy", lambda: False) == 0
    assert not (tmp_path / "copy").exists()


def test_a_home_that_keeps_changing_can_be_copied(home: Path, tmp_path: Path) -> None:
    """Files and folders come, go, grow, and become something else."""
    (home / "kept").write_text("kept")
    ended = threading.Event()

    def change() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            path = home / f"changing-{number % 7}"
            path.mkdir()
            (path / "file").write_text("x" * number)
            with (home / "log").open("a") as log:
                log.write("line\n" * 100)
            (path / "file").rename(home / f"file-{number % 5}")
            path.rmdir()
            path.symlink_to("kept")
            path.unlink()

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for number in range(50):
            copy_home(home, tmp_path / str(number), lambda: False)
            assert (tmp_path / str(number) / "kept").read_text() == "kept"
    finally:
        ended.set()
        changing.join()


def test_a_copy_can_be_given_up(home: Path, tmp_path: Path) -> None:
    """The cloud ends, or the snapshot is deleted: a large home is not copied to its end."""
    (home / "file").write_text("x")
    with pytest.raises(GivenUpError):
        copy_home(home, tmp_path / "copy", lambda: True)


# The folders of a cloud's homes


class Bench:
    """The homes of a cloud, with a disk and a snapshot."""

    def __init__(self, folder: Path) -> None:
        self.homes = Homes(folder)
        self.disk = Disk(project_id="p", zone="z", resource={"name": "home", "id": "1"})
        self.snapshot = Snapshot(project_id="p", resource={"name": "s", "id": "2"}, disk=self.disk)

    async def copied(self, resource: Disk | Snapshot) -> Copy:
        """Wait until content has been copied."""
        while (copy := self.homes.copy_to(resource)) is None:  # noqa: ASYNC110  # as the fleet does
            await asyncio.sleep(0.001)
        return copy


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Make one."""
    return Bench(tmp_path)


async def _nothing() -> None:
    """Wait for nothing."""


def test_a_new_disk_has_what_was_on_the_old_one(bench: Bench) -> None:
    """The copy says how large it is; a snapshot or disk without one has nothing to wait for."""

    async def story() -> None:
        homes, new = bench.homes, Disk(project_id="p", zone="z", resource={"name": "n", "id": "3"})
        assert homes.copy_to(bench.disk) == NOTHING_TO_COPY
        homes.of(bench.disk).mkdir(parents=True)
        (homes.of(bench.disk) / "file").write_text("old")
        homes.copy(bench.disk, bench.snapshot)
        assert homes.copy_to(bench.snapshot) is None
        assert await bench.copied(bench.snapshot) == Copy(is_whole=True, stored_bytes=3)
        (homes.of(bench.disk) / "file").write_text("changed")
        homes.copy(bench.snapshot, new)
        homes.delete(bench.snapshot, _nothing)
        homes.delete(bench.disk, _nothing)
        await bench.copied(new)
        await homes.stop()
        assert (homes.of(new) / "file").read_text() == "old"
        assert not homes.of(bench.snapshot).exists()
        assert not homes.of(bench.disk).exists()

    asyncio.run(story())


def test_a_copy_that_cannot_be_written_is_not_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when the disk is full; and the next one works."""

    async def story() -> None:

        def full(*_: Any) -> int:
            raise OSError(28, "No space left on device")

        homes = bench.homes
        homes.of(bench.disk).mkdir(parents=True)
        (homes.of(bench.disk) / "file").write_text("old")
        with monkeypatch.context() as patch:
            patch.setattr(home_copies, "_write", full)
            homes.copy(bench.disk, bench.snapshot)
            assert not (await bench.copied(bench.snapshot)).is_whole
        assert "No space left on device" in caplog.text
        homes.delete(bench.snapshot, _nothing)
        homes.copy(bench.disk, bench.snapshot)
        assert (await bench.copied(bench.snapshot)).is_whole

    asyncio.run(story())


@pytest.mark.parametrize("end", ["delete", "stop"])
def test_a_copy_ends_with_its_snapshot_and_with_the_cloud(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Nobody waits for the rest of it."""

    async def story() -> None:

        def endless(source: Path, target: Path, is_given_up: Callable[[], bool]) -> int:
            del source
            target.mkdir(parents=True)
            while not is_given_up():
                pass
            raise GivenUpError

        monkeypatch.setattr("localcloud.machines.homes.copy_home", endless)
        homes = bench.homes
        homes.copy(bench.disk, bench.snapshot)
        done: dict[str, Callable[[], Awaitable[None]]] = {"stop": homes.stop, "delete": _nothing}
        if end == "delete":
            homes.delete(bench.snapshot, _nothing)
        await done[end]()
        await homes.stop()
        assert homes.of(bench.snapshot).exists() == (end == "stop")

    asyncio.run(story())
