"""The file by which a running cloud is found."""

import os
from pathlib import Path

import pytest

from localcloud.processes.state_file import NoCloudError, read_state, write_state


def test_what_is_written_is_read_and_nothing_else_is_left(tmp_path: Path) -> None:
    """The file appears in one piece, in a folder that is made for it."""
    path = tmp_path / "new" / "state.json"
    write_state(path, {"pid": os.getpid(), "address": "http://127.0.0.1:1"})
    assert read_state(path)["address"] == "http://127.0.0.1:1"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, "", "{", "{}", '{"pid": 2147483646}'])
def test_a_file_that_is_missing_broken_or_left_over_means_that_none_runs(
    tmp_path: Path, content: str | None
) -> None:
    """The error is one line that names the file and the command."""
    path = tmp_path / "state.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(
        NoCloudError,
        match=r"^No local cloud is running \(.*state\.json\)\. Start one with: nox -s local$",
    ):
        read_state(path)
