"""``nox -s demo``, the first command that a new user runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from localcloud.catalogue import ROOT


@pytest.mark.timeout(200)
def test_the_demo_runs_to_its_end() -> None:
    """It exits with 0 only if it has seen every step, and ends all its processes."""
    done = subprocess.run(
        [sys.executable, "-m", "localcloud.command_line.demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as an administrator" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("everything has been ended; all of it was seen")
