"""A folder with the deployed files only."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcloud.catalogue import read_catalogue, ship


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exactly the files that are deployed."""
    folder = tmp_path_factory.mktemp("deployment") / "workspace"
    ship(read_catalogue(), folder)
    return folder
