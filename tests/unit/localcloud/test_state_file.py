"""The file that says where a running cloud is."""

import os
from pathlib import Path

import pytest

from localcloud.processes.state_file import NoCloudError, read_state, write_state


def test_the_state_file_is_written_atomically_and_can_be_read(tmp_path: Path) -> None:
    """Its folder is created if necessary, and no temporary file remains."""
    path = tmp_path / "new" / "state.json"
    write_state(path, {"pid": os.getpid(), "address": "http://127.0.0.1:1"})
    assert read_state(path)["address"] == "http://127.0.0.1:1"
    assert list(path.parent.iterdir()) == [path]


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
