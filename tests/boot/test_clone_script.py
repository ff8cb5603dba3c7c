"""The script of the image that clones a workspace's repository into its home, by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.guests.workspace_image import IMAGE

CLONE = IMAGE / "root/usr/local/lib/workspace/clone"

pytestmark = pytest.mark.skipif(
    not (shutil.which("git") and shutil.which("flock")), reason="git or flock is not installed"
)


class Home:
    """A home, as the workspaces that were made with it see it one after the other."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "home"
        self.path.mkdir()

    @property
    def mark(self) -> Path:
        """What says that the repository was cloned."""
        return self.path / ".local/state/workspace/cloned"

    def log_in(self, repo: Path) -> str:
        """Do what the first login to a workspace with this repository does; return what is said."""
        return self._run(repo).stderr

    def lose_power(self, tools: Path, repo: Path) -> None:
        """Log in, with tools before all others that end this at some point."""
        self._run(repo, tools=tools)

    def is_due(self, repo: Path) -> bool:
        """Say whether a login would clone."""
        return self._run(repo, "due").returncode == 0

    def _run(
        self, repo: Path, *words: str, tools: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        path = os.environ["PATH"]
        environment = {
            "PATH": f"{tools}:{path}" if tools else path,
            "HOME": str(self.path),
            "WORKSPACE_REPO": f"file://{repo}",
        }
        return subprocess.run(
            ["bash", CLONE, *words], env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return an empty home."""
    return Home(tmp_path)


def a_repository(path: Path) -> Path:
    """Make an empty repository and return its folder."""
    subprocess.run(["git", "init", "--quiet", "--bare", path], check=True)
    return path


def test_a_fork_for_another_repository_clones_it_beside_the_first(
    home: Home, tmp_path: Path
) -> None:
    """The mark in the home, which the fork has too, is of the first repository only."""
    first, other = a_repository(tmp_path / "first"), a_repository(tmp_path / "other")
    home.log_in(first)
    assert (home.path / "first/.git").is_dir()
    assert home.is_due(other)
    home.log_in(other)
    assert (home.path / "other/.git").is_dir()
    assert not home.is_due(other)


def test_a_repository_that_was_removed_stays_away(home: Home, tmp_path: Path) -> None:
    """The mark stays, in a fork for the same repository too."""
    repo = a_repository(tmp_path / "repo")
    home.log_in(repo)
    shutil.rmtree(home.path / "repo")
    assert not home.is_due(repo)


def test_a_mark_of_an_earlier_image_counts_for_every_repository(home: Home, tmp_path: Path) -> None:
    """It does not say of which it is, and nothing that was removed must come back."""
    repo = a_repository(tmp_path / "repo")
    home.mark.parent.mkdir(parents=True)
    home.mark.touch()
    assert not home.is_due(repo)


def test_a_repository_that_is_not_cloned_because_of_another_of_its_name_is_told(
    home: Home, tmp_path: Path
) -> None:
    """As in a fork for somebody's fork of the same repository. What is there stays."""
    first, other = tmp_path / "google/app", tmp_path / "alice/app"
    for each in (first, other):
        a_repository(each)
    home.log_in(first)
    note = home.path / "app/note"
    note.write_text("mine")
    said = home.log_in(other)
    assert f"Your home has app already, so file://{other} is not cloned" in said
    assert note.read_text() == "mine"
    assert not home.is_due(other)


def test_a_clone_that_a_snapshot_has_caught_half_done_is_done_again(
    home: Home, tmp_path: Path
) -> None:
    """As after a power failure: git had no chance to remove what it had begun."""
    repo = a_repository(tmp_path / "repo")
    kill = tmp_path / "bin/git"
    kill.parent.mkdir()
    real = shutil.which("git")
    kill.write_text(
        f'#!/bin/bash\nfor target; do :; done\n[[ " $* " != *" clone "* ]] ||'
        f' {{ mkdir -p "$target/.git"; kill -9 "$PPID" "$$"; }}\nexec {real} "$@"\n'
    )
    kill.chmod(0o755)
    home.lose_power(kill.parent, repo)
    assert home.is_due(repo)
    assert f"The repository is in ~/{repo.name}" in home.log_in(repo)
    command = ["git", "-C", str(home.path / repo.name), "remote", "get-url", "origin"]
    origin = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert origin == f"file://{repo}\n"
