"""The file that says where a running cloud is."""

import os
import stat
from pathlib import Path

import pytest

from localcloud.processes.state_file import NoCloudError, StateLock, read_state, write_state


def test_the_state_file_is_written_atomically_and_can_be_read(tmp_path: Path) -> None:
    """Its folder is created if necessary, and no temporary file remains."""
    path = tmp_path / "new" / "state.json"
    lock = StateLock(path)
    write_state(path, {"pid": os.getpid(), "address": "http://127.0.0.1:1"})
    assert read_state(path)["address"] == "http://127.0.0.1:1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # it has a secret
    lock.release()
    assert list(path.parent.iterdir()) == [path]


def test_a_state_whose_lock_nobody_holds_is_not_that_of_a_running_cloud(tmp_path: Path) -> None:
    """The machine has crashed, and another program has the process's id now."""
    path = tmp_path / "state.json"
    write_state(path, {"pid": os.getpid(), "address": "http://127.0.0.1:1"})
    for _ in range(2):  # without a file of the lock, and with one that was left
        with pytest.raises(NoCloudError):
            read_state(path)
        path.with_name("state.json.lock").touch()


def test_a_lock_is_held_by_one_until_it_is_released(tmp_path: Path) -> None:
    """Whoever has a lock does not remove the file of the next one."""
    path = tmp_path / "state.json"
    first = StateLock(path)
    with pytest.raises(BlockingIOError):
        StateLock(path)
    first.path.unlink()  # as the reaper does
    second = StateLock(path)
    first.release()
    with pytest.raises(BlockingIOError):
        StateLock(path)
    second.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, "", "{", "{}", '{"pid": 2147483646}'])
def test_a_missing_broken_or_stale_state_file_means_that_no_cloud_runs(
    tmp_path: Path, content: str | None
) -> None:
    """The error is one line with the file and the command that starts a cloud."""
    path = tmp_path / "state.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(
        NoCloudError,
        match=r"^No local cloud is running \(.*state\.json\)\. Start one with: nox -s local$",
    ):
        read_state(path)
